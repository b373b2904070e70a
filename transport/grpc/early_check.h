// EarlyCheck: who may not call is told so before the call's message has come.
//
// gRPC hands a unary call over once its message is whole, and only then looks
// at its size: until then the message takes memory.  When all of them together
// reach the server's limit (GrpcServerOptions::buffers_max) gRPC breaks off
// streams, and not only those that are to blame: gateways lose their devices.
// So credentials are looked at when the call's metadata has come; CallGuard
// looks at them again, at roles too, and counts.
//
// Works with TLS only: gRPC asks nobody about plaintext.
#ifndef TRANSPORT_GRPC_EARLY_CHECK_H_
#define TRANSPORT_GRPC_EARLY_CHECK_H_

#include <memory>

namespace grpc {
class AuthMetadataProcessor;
}  // namespace grpc

namespace muster {

class CallGuard;

// For grpc::ServerCredentials::SetAuthMetadataProcessor().  `*guard` must
// outlive the server.  Calls of health and reflection are let through.  A
// refusal has code and message of CallGuard's, but no details: gRPC has no room
// for them here.  (FromGrpcStatus() gives the same ErrorCode nevertheless.)
std::shared_ptr<grpc::AuthMetadataProcessor> MakeEarlyCheck(
    const CallGuard* guard);

}  // namespace muster

#endif  // TRANSPORT_GRPC_EARLY_CHECK_H_
