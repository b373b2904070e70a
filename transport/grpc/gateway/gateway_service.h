// GatewayService for a gRPC server: gateways that dial the engine.
#ifndef TRANSPORT_GRPC_GATEWAY_GATEWAY_SERVICE_H_
#define TRANSPORT_GRPC_GATEWAY_GATEWAY_SERVICE_H_

#include <memory>

namespace grpc {
class Service;
}

namespace muster {

class CallGuard;
class GatewayTransport;

// The service, for grpc::ServerBuilder::RegisterService().  Each stream goes
// through `*guard` (role gateway), and may attach the devices only that its
// caller's scope covers.  Both outlive the server; the service does too.
std::unique_ptr<grpc::Service> MakeGatewayService(GatewayTransport* gateways,
                                                  CallGuard* guard);

}  // namespace muster

#endif  // TRANSPORT_GRPC_GATEWAY_GATEWAY_SERVICE_H_
