// OutboundGateways: dials gateways that listen.
//
//   auto outbound = OutboundGateways::Start(
//       {.gateways = {{.connect = {.address = "hall-3:7501"}}}, ...},
//       transport.get());
//
// A stream that ends, or does not come up, is tried again: after retry_min at
// first, then after twice as long each time, up to retry_max; of that between
// half and all, at random.  One that has been up for kOutboundSettled begins
// anew.  Each try has a channel of its own: gateway_dialer.h says why.
#ifndef TRANSPORT_GRPC_GATEWAY_OUTBOUND_H_
#define TRANSPORT_GRPC_GATEWAY_OUTBOUND_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "transport/auth/caller.h"
#include "transport/grpc/channel.h"

namespace muster {

class GatewayTransport;
class OutboundGateway;

// From its first frame on.  A gateway that takes streams and drops them is not
// dialled as if all were well.
inline constexpr absl::Duration kOutboundSettled = absl::Seconds(30);
// Of a frame from a gateway, in bytes: as of those that dial.
inline constexpr int kOutboundFrameMax = 4 << 20;

struct OutboundOptions {
  struct Gateway {
    // Where it listens, and what the engine shows it.  Frames have at most
    // kOutboundFrameMax, whatever message_size_max allows.
    ConnectOptions connect;
    // The devices that it may attach.
    DeviceScope devices = DeviceScope::All();
  };
  std::vector<Gateway> gateways;
  // At least a millisecond; retry_max at least retry_min.
  absl::Duration retry_min = absl::Milliseconds(100);
  absl::Duration retry_max = absl::Seconds(30);
  // Both outlive it; not null.
  Clock* clock = nullptr;
  Executor* executor = nullptr;
};

// Thread-safe.
class OutboundGateways {
 public:
  // Begins to dial, and returns.  `*transport` outlives it.  INVALID_ARGUMENT
  // for options out of their ranges, and what MakeChannel() says.
  static absl::StatusOr<std::unique_ptr<OutboundGateways>> Start(
      const OutboundOptions& options, GatewayTransport* transport);

  // Stop().
  ~OutboundGateways();

  // Ends the streams, all at once, dials no more, and returns once gRPC has let
  // go of them: within kFinishMax (session.h) of a connection on which nothing
  // moves.  Must not be called from a TransportSink, nor on the executor.
  // Idempotent.
  void Stop();

 private:
  explicit OutboundGateways(
      std::vector<std::shared_ptr<OutboundGateway>> gateways);

  const std::vector<std::shared_ptr<OutboundGateway>> gateways_;
};

}  // namespace muster

#endif  // TRANSPORT_GRPC_GATEWAY_OUTBOUND_H_
