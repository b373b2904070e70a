#include "transport/grpc/gateway/gateway.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "transport/grpc/gateway/gateway_dialer.h"
#include "transport/grpc/gateway/gateway_listener.h"
#include "transport/grpc/gateway/gateway_side.h"

namespace muster {

Gateway::Gateway(const GatewayOptions& options)
    : own_executor_(options.executor == nullptr ? MakeThreadExecutor(1)
                                                : nullptr),
      executor_(options.executor == nullptr ? own_executor_.get()
                                            : options.executor) {}

Gateway::~Gateway() { Stop(); }

absl::StatusOr<std::unique_ptr<Gateway>> Gateway::Connect(
    const ConnectOptions& connect, const GatewayOptions& options,
    GatewayHandler* handler) {
  absl::Status status = GatewaySide::Check(options);
  if (!status.ok()) return status;
  auto dialer = GatewayDialer::Create(connect, options.clock);
  if (!dialer.ok()) return dialer.status();
  auto gateway = absl::WrapUnique(new Gateway(options));
  gateway->dialer_ = *std::move(dialer);
  gateway->side_ = std::make_shared<GatewaySide>(
      options, gateway->executor_, handler,
      [dialer = gateway->dialer_.get()](std::shared_ptr<GatewaySide> side) {
        return dialer->Dial(std::move(side));
      });
  gateway->side_->Start();
  return gateway;
}

absl::StatusOr<std::unique_ptr<Gateway>> Gateway::Listen(
    const GatewayListenOptions& listen, const GatewayOptions& options,
    GatewayHandler* handler) {
  absl::Status status = GatewaySide::Check(options);
  if (!status.ok()) return status;
  auto gateway = absl::WrapUnique(new Gateway(options));
  gateway->side_ = std::make_shared<GatewaySide>(options, gateway->executor_,
                                                 handler, nullptr);
  absl::StatusOr<std::unique_ptr<GatewayListener>> listener =
      GatewayListener::Start(listen, options.clock, gateway->side_);
  if (!listener.ok()) return listener.status();
  gateway->listener_ = *std::move(listener);
  return gateway;
}

int Gateway::port() const {
  return listener_ == nullptr ? 0 : listener_->port();
}

absl::Status Gateway::AddDevices(absl::Span<const GatewayDevice> devices) {
  return side_->AddDevices(devices);
}

void Gateway::RemoveDevices(absl::Span<const uint32_t> tokens) {
  side_->RemoveDevices(tokens);
}

absl::Status Gateway::Answer(GatewayRange range,
                             absl::Span<const uint32_t> positions,
                             absl::Span<const GatewayAnswer> answers) {
  return side_->Answer(range, positions, answers);
}

absl::Status Gateway::AnswerAll(GatewayRange range,
                                const GatewayAnswer& answer) {
  return side_->AnswerAll(range, answer);
}

GatewayStats Gateway::Stats() const { return side_->Stats(); }

void Gateway::Stop() {
  side_->Stop();
  if (listener_ != nullptr) listener_->Stop();
}

}  // namespace muster
