// SimulatedGateway: a gateway to whose devices the loopback transport lends
// what they do: latencies, failures, drops and reconnects.
#ifndef SERVER_SIMULATED_GATEWAY_H_
#define SERVER_SIMULATED_GATEWAY_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/schedule/executor.h"
#include "transport/grpc/channel.h"
#include "transport/grpc/gateway/gateway.h"
#include "transport/loopback/loopback_options.h"

namespace muster {

struct SimulatedGatewayOptions {
  ConnectOptions connect;
  // "host:port": listens there for a server that dials, in plaintext, instead
  // of dialling one.
  std::string listen;
  std::string name;
  LoopbackOptions devices;
  // Rows of the synthetic fleet: the devices are "dev-<row>", as
  // FleetGenerator names them.
  uint32_t first_row = 0;
  uint32_t device_count = 0;
  uint32_t work_credit = 65'536;
  Executor* executor = nullptr;  // Not owned; outlives the gateway.
};

// Thread-safe.
class SimulatedGateway {
 public:
  // Returns at once; the devices attach as soon as there is a stream.
  // INVALID_ARGUMENT for options out of their ranges, and what
  // Gateway::Connect() or Gateway::Listen() answers.
  static absl::StatusOr<std::unique_ptr<SimulatedGateway>> Start(
      const SimulatedGatewayOptions& options);

  ~SimulatedGateway();  // Stop().

  // Where it listens; 0 if it dials.
  int port() const;

  GatewayStats Stats() const;
  // Why there is no stream; OK if there is one, or none has failed yet.
  absl::Status StreamError() const;
  // Why devices were refused the last time; OK if none was.
  absl::Status RefusalError() const;

  // The devices disconnect, and the stream ends.  Idempotent.
  void Stop();

 private:
  class Bridge;
  explicit SimulatedGateway(std::unique_ptr<Bridge> bridge);

  const std::unique_ptr<Bridge> bridge_;
};

}  // namespace muster

#endif  // SERVER_SIMULATED_GATEWAY_H_
