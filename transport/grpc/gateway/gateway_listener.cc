#include "transport/grpc/gateway/gateway_listener.h"

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "muster/v1/gateway_service.grpc.pb.h"
#include "transport/grpc/call_guard.h"
#include "transport/grpc/credentials.h"
#include "transport/grpc/status.h"

namespace muster {
namespace {

// The work of a stream's credit in frames, and more:
// GatewayAnswers::kFrameBytes is of the other direction.
constexpr int kMessageSizeMax = 64 << 20;
constexpr int kKeepaliveTimeMs = 20'000;
constexpr int kKeepaliveTimeoutMs = 10'000;

class AcceptedStream final
    : public grpc::ServerBidiReactor<v1::AttachResponse, v1::AttachRequest>,
      public EngineStream {
 public:
  // Deletes itself when the stream is done.
  AcceptedStream(CallGuard& guard, grpc::CallbackServerContext* context,
                 std::shared_ptr<GatewaySide> side)
      : context_(context), side_(std::move(side)) {
    auto call =
        guard.Begin(context, Role::kGateway, CallKind::kGateway, "Serve");
    if (!call.ok()) {
      begun_ = false;
      Finish(ToGrpcStatus(call.status()));
      return;
    }
    call_.emplace(*std::move(call));
    if (side_->Begin(this)) return;
    begun_ = false;
    Finish(ToGrpcStatus(absl::UnavailableError("the gateway is stopping")));
  }

  void Read(v1::AttachResponse* frame) override { StartRead(frame); }
  void Write(const v1::AttachRequest* frame) override { StartWrite(frame); }
  void Close() override { Finish(grpc::Status::OK); }
  void Cancel() override { context_->TryCancel(); }
  void Release(const absl::Status& why) override { Finish(ToGrpcStatus(why)); }

  void OnReadDone(bool ok) override { side_->OnRead(ok); }
  void OnWriteDone(bool ok) override { side_->OnWritten(ok); }
  void OnDone() override {
    if (begun_) side_->OnDone(absl::OkStatus());
    delete this;
  }

 private:
  grpc::CallbackServerContext* const context_;
  const std::shared_ptr<GatewaySide> side_;
  std::optional<CallGuard::Call> call_;
  bool begun_ = true;
};

class Service final : public v1::GatewayListenerService::CallbackService {
 public:
  Service(const CallGuard::Options& guard, std::shared_ptr<GatewaySide> side)
      : guard_(guard), side_(std::move(side)) {}

  grpc::ServerBidiReactor<v1::AttachResponse, v1::AttachRequest>* Serve(
      grpc::CallbackServerContext* context) override {
    return new AcceptedStream(guard_, context, side_);
  }

 private:
  CallGuard guard_;
  const std::shared_ptr<GatewaySide> side_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<GatewayListener>> GatewayListener::Start(
    const GatewayListenOptions& options, Clock* clock,
    std::shared_ptr<GatewaySide> side) {
  auto credentials =
      MakeServerCredentials({.certificate_path = options.certificate_path,
                             .key_path = options.key_path,
                             .client_ca_path = options.client_ca_path},
                            "GatewayListenOptions::");
  if (!credentials.ok()) return credentials.status();
  auto service = std::make_unique<Service>(
      CallGuard::Options{.access = options.access, .clock = clock},
      std::move(side));
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(options.address, *credentials, &port);
  builder.RegisterService(service.get());
  builder.SetMaxReceiveMessageSize(kMessageSizeMax);
  // Two gateways must not listen at the same port unawares.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                             kKeepaliveTimeoutMs);
  // The engine asks for signs of life as often.
  builder.AddChannelArgument(
      GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
      kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || port == 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen at \"", options.address,
                     "\": no such address, or it is in use"));
  }
  return std::unique_ptr<GatewayListener>(
      new GatewayListener(std::move(service), std::move(server), port));
}

GatewayListener::GatewayListener(std::unique_ptr<grpc::Service> service,
                                 std::unique_ptr<grpc::Server> server, int port)
    : service_(std::move(service)), server_(std::move(server)), port_(port) {}

GatewayListener::~GatewayListener() { Stop(); }

void GatewayListener::Stop() {
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
}

}  // namespace muster
