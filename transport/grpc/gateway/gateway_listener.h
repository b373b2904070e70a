// A gateway that listens: serves GatewayListenerService.Serve to engines that
// dial.
#ifndef TRANSPORT_GRPC_GATEWAY_GATEWAY_LISTENER_H_
#define TRANSPORT_GRPC_GATEWAY_GATEWAY_LISTENER_H_

#include <memory>

#include "absl/status/statusor.h"
#include "transport/grpc/gateway/gateway.h"
#include "transport/grpc/gateway/gateway_side.h"

namespace grpc {
class Server;
class Service;
}  // namespace grpc

namespace muster {

class GatewayListener {
 public:
  // See Gateway::Listen().
  static absl::StatusOr<std::unique_ptr<GatewayListener>> Start(
      const GatewayListenOptions& options, Clock* clock,
      std::shared_ptr<GatewaySide> side);
  ~GatewayListener();  // Stop().

  int port() const { return port_; }

  // After GatewaySide::Stop(): nobody is let in any more.  Idempotent.
  void Stop();

 private:
  GatewayListener(std::unique_ptr<grpc::Service> service,
                  std::unique_ptr<grpc::Server> server, int port);

  const std::unique_ptr<grpc::Service> service_;
  const std::unique_ptr<grpc::Server> server_;
  const int port_;
};

}  // namespace muster

#endif  // TRANSPORT_GRPC_GATEWAY_GATEWAY_LISTENER_H_
