#include "transport/grpc/gateway/outbound.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/random/random.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/support/client_callback.h"
#include "muster/v1/gateway_service.grpc.pb.h"
#include "transport/grpc/gateway/gateway_transport.h"
#include "transport/grpc/gateway/session.h"

namespace muster {
namespace {

using v1::AttachRequest;
using v1::AttachResponse;

ConnectOptions Limited(ConnectOptions connect) {
  connect.message_size_max =
      std::min(connect.message_size_max, kOutboundFrameMax);
  return connect;
}

}  // namespace

// One gateway: at most one stream at a time, or a timer for the next.
class OutboundGateway : public std::enable_shared_from_this<OutboundGateway> {
 public:
  OutboundGateway(const OutboundOptions& options,
                  const OutboundOptions::Gateway& gateway,
                  GatewayTransport* transport)
      : clock_(*options.clock),
        executor_(*options.executor),
        retry_min_(options.retry_min),
        retry_max_(options.retry_max),
        connect_(Limited(gateway.connect)),
        devices_(gateway.devices),
        transport_(*transport),
        authorization_(connect_, options.clock),
        retry_(options.retry_min) {}

  void Dial() ABSL_LOCKS_EXCLUDED(mutex_);
  // Dials no more, and ends the stream, which then goes in its own time.
  void Close() ABSL_LOCKS_EXCLUDED(mutex_);
  // REQUIRES: Close() has been called.
  void AwaitClosed() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  class Reactor;

  void OnStreamDone(bool settled) ABSL_LOCKS_EXCLUDED(mutex_);
  void DialLater() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Clock& clock_;
  Executor& executor_;
  const absl::Duration retry_min_, retry_max_;
  const ConnectOptions connect_;
  const DeviceScope devices_;
  GatewayTransport& transport_;
  Authorization authorization_;

  absl::Mutex mutex_;
  std::shared_ptr<GatewaySession> session_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Duration retry_ ABSL_GUARDED_BY(mutex_);
  absl::BitGen random_ ABSL_GUARDED_BY(mutex_);
};

// A call, over a channel of its own.  Deletes itself, on the executor, once
// gRPC has let go of it.
class OutboundGateway::Reactor
    : public grpc::ClientBidiReactor<AttachResponse, AttachRequest>,
      private GatewayStream {
 public:
  Reactor(std::shared_ptr<OutboundGateway> gateway,
          const std::shared_ptr<grpc::Channel>& channel)
      : gateway_(std::move(gateway)),
        stub_(v1::GatewayListenerService::NewStub(channel)) {}

  absl::StatusOr<std::shared_ptr<GatewaySession>> Open() {
    GatewayAdmission admission;
    admission.peer = gateway_->connect_.address;
    if (!gateway_->devices_.CoversAll()) {
      admission.covers = [scope = gateway_->devices_](absl::string_view id) {
        return scope.Covers(id);
      };
    }
    absl::StatusOr<std::shared_ptr<GatewaySession>> session =
        gateway_->transport_.Open(this, std::move(admission));
    if (session.ok()) session_ = *session;
    return session;
  }

  void Begin() {
    gateway_->authorization_.AddTo(&context_);
    stub_->async()->Serve(&context_, this);
    // The session writes when it likes, until it has finished.
    AddHold();
    StartCall();
    // Which may be the end of this call.
    const std::shared_ptr<GatewaySession> session = session_;
    session->Begin();
  }

  void OnReadDone(bool ok) override {
    if (ok && !up_since_) up_since_ = gateway_->clock_.Monotonic();
    session_->OnRead(ok);
  }
  void OnWriteDone(bool ok) override { session_->OnWritten(ok); }
  void OnDone(const grpc::Status& status) override {
    session_->OnEnd();
    // The last channel of a program waits at its end for the threads that run
    // all callbacks: what holds one ends elsewhere.
    Executor& executor = gateway_->executor_;
    executor.Run([this, gateway = std::move(gateway_)] {
      const bool settled =
          up_since_ &&
          gateway->clock_.Monotonic() - *up_since_ >= kOutboundSettled;
      delete this;
      gateway->OnStreamDone(settled);
    });
  }

 private:
  using Base = grpc::ClientBidiReactor<AttachResponse, AttachRequest>;

  // GatewayStream.
  void StartRead(AttachRequest* frame) override { Base::StartRead(frame); }
  void StartWrite(const AttachResponse* frame) override {
    Base::StartWrite(frame);
  }
  // Who dials cannot say why it ends.
  void Finish(const absl::Status& status) override {
    context_.TryCancel();
    RemoveHold();
  }
  void Cancel() override { context_.TryCancel(); }

  std::shared_ptr<OutboundGateway> gateway_;  // Until OnDone().
  const std::unique_ptr<v1::GatewayListenerService::Stub> stub_;
  grpc::ClientContext context_;
  std::shared_ptr<GatewaySession> session_;
  // When the first frame came.  Of the reading side, then of OnDone().
  std::optional<absl::Duration> up_since_;
};

void OutboundGateway::Dial() {
  std::unique_ptr<Reactor> reactor;
  const absl::StatusOr<std::shared_ptr<grpc::Channel>> channel =
      MakeChannel(connect_);
  if (channel.ok()) {
    reactor = std::make_unique<Reactor>(shared_from_this(), *channel);
  }
  {
    absl::MutexLock lock(&mutex_);
    if (stopped_) return;
    if (reactor == nullptr) {  // A file is not there at the moment.
      DialLater();
      return;
    }
    absl::StatusOr<std::shared_ptr<GatewaySession>> session = reactor->Open();
    if (!session.ok()) {  // Too many, or about to end: perhaps later.
      DialLater();
      return;
    }
    session_ = *std::move(session);
  }
  reactor.release()->Begin();
}

void OutboundGateway::OnStreamDone(bool settled) {
  absl::MutexLock lock(&mutex_);
  session_ = nullptr;
  if (settled) retry_ = retry_min_;
  if (!stopped_) DialLater();
}

void OutboundGateway::DialLater() {
  const absl::Duration after = retry_ * absl::Uniform(random_, 0.5, 1.0);
  retry_ = std::min(2 * retry_, retry_max_);
  executor_.RunAt(clock_.Monotonic() + after, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->Dial();
  });
}

void OutboundGateway::Close() {
  std::shared_ptr<GatewaySession> session;
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
    session = session_;
  }
  if (session == nullptr) return;
  session->Close(
      MakeError(ErrorCode::kServiceUnavailable, "the engine has ended"));
}

void OutboundGateway::AwaitClosed() {
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(
      +[](std::shared_ptr<GatewaySession>* current) {
        return *current == nullptr;
      },
      &session_));
}

absl::StatusOr<std::unique_ptr<OutboundGateways>> OutboundGateways::Start(
    const OutboundOptions& options, GatewayTransport* transport) {
  MUSTER_CHECK(options.clock != nullptr && options.executor != nullptr);
  if (options.retry_min < absl::Milliseconds(1) ||
      options.retry_max < options.retry_min) {
    return MakeError(
        ErrorCode::kArgumentInvalid,
        absl::StrCat("retry_min must be at least 1ms, and retry_max at least "
                     "retry_min; got ",
                     absl::FormatDuration(options.retry_min), " and ",
                     absl::FormatDuration(options.retry_max)));
  }
  std::vector<std::shared_ptr<OutboundGateway>> gateways;
  for (const OutboundOptions::Gateway& gateway : options.gateways) {
    const ConnectOptions& connect = gateway.connect;
    if (absl::Status s = MakeChannel(connect).status(); !s.ok()) {
      return PrefixError(absl::StrCat("gateway \"", connect.address, "\": "),
                         s);
    }
    gateways.push_back(
        std::make_shared<OutboundGateway>(options, gateway, transport));
  }
  for (const auto& gateway : gateways) gateway->Dial();
  return std::unique_ptr<OutboundGateways>(
      new OutboundGateways(std::move(gateways)));
}

OutboundGateways::OutboundGateways(
    std::vector<std::shared_ptr<OutboundGateway>> gateways)
    : gateways_(std::move(gateways)) {}

OutboundGateways::~OutboundGateways() { Stop(); }

void OutboundGateways::Stop() {
  for (const auto& gateway : gateways_) gateway->Close();
  for (const auto& gateway : gateways_) gateway->AwaitClosed();
}

}  // namespace muster
