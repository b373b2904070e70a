// GatewayHarness: GatewayTransport as tests/transport_conformance.h wants it,
// but for the gateway; SimpleGatewayHarness: with one, but for the way in which
// the two meet.
#ifndef TESTS_GATEWAY_GATEWAY_HARNESS_H_
#define TESTS_GATEWAY_GATEWAY_HARNESS_H_

#include <memory>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "engine/model/check.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "tests/gateway/simple_gateway.h"
#include "tests/transport_conformance.h"
#include "transport/grpc/gateway/gateway_transport.h"

namespace muster {

class GatewayHarness : public TransportHarness {
 public:
  static constexpr int kSendWindow = 48;

  GatewayHarness() : executor_(MakeThreadExecutor(2)) {
    auto transport = GatewayTransport::Create({.clock = &Clock::Real(),
                                               .executor = executor_.get(),
                                               .in_flight_max = kSendWindow});
    MUSTER_CHECK(transport.ok());
    transport_ = *std::move(transport);
  }

  Transport& transport() override { return *transport_; }
  size_t send_window() const override { return kSendWindow; }

  bool RunUntil(absl::FunctionRef<bool()> done) override {
    const absl::Duration end = Clock::Real().Monotonic() + absl::Seconds(60);
    while (!done()) {
      if (Clock::Real().Monotonic() > end) return false;
      Turn(absl::Milliseconds(1));
    }
    return true;
  }
  // Many times what a frame takes there and back.
  void Settle() override { Turn(absl::Milliseconds(30)); }

 protected:
  void Turn(absl::Duration duration) {
    absl::Notification later;
    executor_->RunAt(Clock::Real().Monotonic() + duration,
                     [&later] { later.Notify(); });
    later.WaitForNotification();
  }

  std::unique_ptr<Executor> executor_;
  std::unique_ptr<GatewayTransport> transport_;
};

class SimpleGatewayHarness : public GatewayHarness {
 public:
  void AddDevice(absl::string_view id, bool connected) override {
    gateway_.SetConnected(id, connected);
  }
  void SetConnected(absl::string_view id, bool connected) override {
    gateway_.SetConnected(id, connected);
  }
  std::vector<DeviceCall> calls() override { return gateway_.calls(); }
  std::vector<DeviceNotification> notifications() override {
    return gateway_.notifications();
  }

 protected:
  SimpleGateway gateway_{"harness"};
};

}  // namespace muster

#endif  // TESTS_GATEWAY_GATEWAY_HARNESS_H_
