// LoopbackTransport keeps the promises of the Transport port: on simulated
// time, and on threads.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "engine/model/check.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "tests/simulated/simulated_executor.h"
#include "tests/transport_conformance.h"
#include "transport/loopback/loopback.h"

namespace muster {
namespace {

class LoopbackHarness : public TransportHarness {
 public:
  LoopbackHarness(Clock* clock, Executor* executor) {
    LoopbackOptions options;
    options.latency.value = absl::Milliseconds(2);
    options.response_payload =
        R"({"device":"${device_id}","echo":"${payload}"})";
    options.send_window = 48;
    options.answer_unknown = false;
    options.record_calls = true;
    auto loopback = LoopbackTransport::Create(options, clock, executor);
    MUSTER_CHECK(loopback.ok());
    loopback_ = *std::move(loopback);
    loopback_->SetHandler(
        "never", [](const LoopbackCall&) { return LoopbackReply::Never(); });
  }

  Transport& transport() override { return *loopback_; }
  void AddDevice(absl::string_view id, bool connected) override {
    loopback_->AddDevices({id}, connected);
  }
  void SetConnected(absl::string_view id, bool connected) override {
    loopback_->SetConnected(id, connected);
  }
  size_t send_window() const override { return 48; }

  std::vector<DeviceCall> calls() override {
    std::vector<DeviceCall> calls;
    for (LoopbackCallRecord& record : loopback_->calls()) {
      calls.push_back({.device_id = std::move(record.device_id),
                       .method = std::move(record.method),
                       .payload = std::move(record.payload)});
    }
    return calls;
  }
  std::vector<DeviceNotification> notifications() override {
    std::vector<DeviceNotification> notifications;
    for (LoopbackNotificationRecord& record : loopback_->notifications()) {
      notifications.push_back({.device_id = std::move(record.device_id),
                               .patch = std::move(record.patch),
                               .version = record.version});
    }
    return notifications;
  }

 private:
  std::unique_ptr<LoopbackTransport> loopback_;
};

// Owns its executor; the base class's transport goes first.
struct SimulatedTime {
  SimulatedExecutor executor;
};

class SimulatedHarness : private SimulatedTime, public LoopbackHarness {
 public:
  SimulatedHarness() : LoopbackHarness(&executor, &executor) {}

  bool RunUntil(absl::FunctionRef<bool()> done) override {
    return executor.RunUntil(done, absl::Hours(1));
  }
  void Settle() override { executor.Advance(absl::Hours(1)); }
};

struct Threads {
  std::unique_ptr<Executor> executor = MakeThreadExecutor(2);
};

class ThreadHarness : private Threads, public LoopbackHarness {
 public:
  ThreadHarness() : LoopbackHarness(&Clock::Real(), executor.get()) {}

  bool RunUntil(absl::FunctionRef<bool()> done) override {
    const absl::Duration end = Clock::Real().Monotonic() + absl::Seconds(60);
    while (!done()) {
      if (Clock::Real().Monotonic() > end) return false;
      Turn(absl::Milliseconds(1));
    }
    return true;
  }
  // Ten times the latency of the devices.
  void Settle() override { Turn(absl::Milliseconds(20)); }

 private:
  // Lets the executor work until it is `duration` later.
  void Turn(absl::Duration duration) {
    absl::Notification later;
    executor->RunAt(Clock::Real().Monotonic() + duration,
                    [&later] { later.Notify(); });
    later.WaitForNotification();
  }
};

const TransportHarnessParam kSimulated = {
    "Simulated", []() -> std::unique_ptr<TransportHarness> {
      return std::make_unique<SimulatedHarness>();
    }};
const TransportHarnessParam kThreads = {
    "Threads", []() -> std::unique_ptr<TransportHarness> {
      return std::make_unique<ThreadHarness>();
    }};

INSTANTIATE_TEST_SUITE_P(Loopback, TransportConformanceTest,
                         testing::Values(kSimulated, kThreads),
                         TransportHarnessName);
INSTANTIATE_TEST_SUITE_P(Loopback, TransportThreadsTest,
                         testing::Values(kThreads), TransportHarnessName);

}  // namespace
}  // namespace muster
