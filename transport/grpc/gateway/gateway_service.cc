#include "transport/grpc/gateway/gateway_service.h"

#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "muster/v1/gateway_service.grpc.pb.h"
#include "transport/auth/caller.h"
#include "transport/grpc/call_guard.h"
#include "transport/grpc/gateway/gateway_transport.h"
#include "transport/grpc/gateway/session.h"
#include "transport/grpc/status.h"

namespace muster {
namespace {

using v1::AttachRequest;
using v1::AttachResponse;

// A gateway's call.  Deletes itself once gRPC has let go of it.
class AttachReactor
    : public grpc::ServerBidiReactor<AttachRequest, AttachResponse>,
      private GatewayStream {
 public:
  AttachReactor(GatewayTransport* gateways, CallGuard* guard,
                grpc::CallbackServerContext* context)
      : context_(context) {
    absl::StatusOr<CallGuard::Call> call =
        guard->Begin(context, Role::kGateway, CallKind::kGateway, "Attach");
    if (!call.ok()) {
      End(call.status());
      return;
    }
    call_.emplace(*std::move(call));
    const Caller& caller = call_->caller();
    GatewayAdmission admission;
    admission.peer = context->peer();
    admission.expires = caller.expires;
    if (!caller.devices.CoversAll()) {
      admission.covers = [scope = caller.devices](absl::string_view id) {
        return scope.Covers(id);
      };
    }
    absl::StatusOr<std::shared_ptr<GatewaySession>> session =
        gateways->Open(this, std::move(admission));
    if (!session.ok()) {
      End(session.status());
      return;
    }
    session_ = *std::move(session);
    session_->Begin();
  }

  // grpc::ServerBidiReactor.  A call that is cancelled fails to read:
  // OnCancel() has nothing to add.
  void OnReadDone(bool ok) override { session_->OnRead(ok); }
  void OnWriteDone(bool ok) override { session_->OnWritten(ok); }
  void OnDone() override {
    if (session_ != nullptr) session_->OnEnd();
    delete this;
  }

 private:
  // GatewayStream.
  void StartRead(AttachRequest* frame) override {
    grpc::ServerBidiReactor<AttachRequest, AttachResponse>::StartRead(frame);
  }
  void StartWrite(const AttachResponse* frame) override {
    grpc::ServerBidiReactor<AttachRequest, AttachResponse>::StartWrite(frame);
  }
  void Finish(const absl::Status& status) override { End(status); }
  void Cancel() override { context_->TryCancel(); }

  void End(const absl::Status& status) {
    if (call_) call_->set_code(status.code());
    grpc::ServerBidiReactor<AttachRequest, AttachResponse>::Finish(
        ToGrpcStatus(status));
  }

  grpc::CallbackServerContext* const context_;
  std::optional<CallGuard::Call> call_;
  std::shared_ptr<GatewaySession> session_;  // Null: the call was refused.
};

class AttachService : public v1::GatewayService::CallbackService {
 public:
  AttachService(GatewayTransport* gateways, CallGuard* guard)
      : gateways_(gateways), guard_(guard) {}

  grpc::ServerBidiReactor<AttachRequest, AttachResponse>* Attach(
      grpc::CallbackServerContext* context) override {
    return new AttachReactor(gateways_, guard_, context);
  }

 private:
  GatewayTransport* const gateways_;
  CallGuard* const guard_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeGatewayService(GatewayTransport* gateways,
                                                  CallGuard* guard) {
  return std::make_unique<AttachService>(gateways, guard);
}

}  // namespace muster
