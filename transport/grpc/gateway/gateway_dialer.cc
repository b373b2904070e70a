#include "transport/grpc/gateway/gateway_dialer.h"

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/support/client_callback.h"
#include "muster/v1/gateway_service.grpc.pb.h"
#include "transport/grpc/channel.h"
#include "transport/grpc/status.h"

namespace muster {

class GatewayDialer::Stream final
    : public grpc::ClientBidiReactor<v1::AttachRequest, v1::AttachResponse>,
      public EngineStream {
 public:
  Stream(const std::shared_ptr<grpc::Channel>& channel,
         std::shared_ptr<GatewaySide> side)
      : stub_(v1::GatewayService::NewStub(channel)), side_(std::move(side)) {}

  ~Stream() override { done_.WaitForNotification(); }

  // Once.
  void Start(Authorization& authorization) {
    authorization.AddTo(&context_);
    stub_->async()->Attach(&context_, this);
    AddHold();
    StartCall();
    // Held as long as it is not released: it is there.
    if (side_->Begin(this)) return;
    begun_ = false;
    Release(absl::CancelledError());
  }

  void Read(v1::AttachResponse* frame) override { StartRead(frame); }
  void Write(const v1::AttachRequest* frame) override { StartWrite(frame); }
  void Close() override { StartWritesDone(); }
  void Cancel() override { context_.TryCancel(); }
  void Release(const absl::Status& why) override {
    if (!why.ok()) context_.TryCancel();
    RemoveHold();
  }

  void OnReadDone(bool ok) override { side_->OnRead(ok); }
  void OnWriteDone(bool ok) override { side_->OnWritten(ok); }
  void OnWritesDoneDone(bool ok) override { side_->OnWritten(ok); }
  void OnDone(const grpc::Status& status) override {
    if (begun_) side_->OnDone(FromGrpcStatus(status));
    done_.Notify();
  }

 private:
  const std::unique_ptr<v1::GatewayService::Stub> stub_;
  const std::shared_ptr<GatewaySide> side_;
  grpc::ClientContext context_;
  bool begun_ = true;
  absl::Notification done_;
};

struct GatewayDialer::Parts {
  Parts(const ConnectOptions& c, Clock* clock)
      : connect(c), authorization(c, clock) {}

  const ConnectOptions connect;
  Authorization authorization;
  std::unique_ptr<Stream> stream;
};

absl::StatusOr<std::unique_ptr<GatewayDialer>> GatewayDialer::Create(
    const ConnectOptions& connect, Clock* clock) {
  const auto channel = MakeChannel(connect);
  if (!channel.ok()) return channel.status();
  return std::unique_ptr<GatewayDialer>(
      new GatewayDialer(std::make_unique<Parts>(connect, clock)));
}

GatewayDialer::GatewayDialer(std::unique_ptr<Parts> parts)
    : parts_(std::move(parts)) {}

GatewayDialer::~GatewayDialer() = default;

absl::Status GatewayDialer::Dial(std::shared_ptr<GatewaySide> side) {
  parts_->stream = nullptr;
  const auto channel = MakeChannel(parts_->connect);
  if (!channel.ok()) return channel.status();
  parts_->stream = std::make_unique<Stream>(*channel, std::move(side));
  parts_->stream->Start(parts_->authorization);
  return absl::OkStatus();
}

}  // namespace muster
