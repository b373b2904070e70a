// Direct methods on real threads, with everything at once: every call is
// answered once, no device is called twice for one, and nothing is left.
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/model/error.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "gtest/gtest.h"
#include "transport/loopback/loopback.h"

namespace muster {
namespace {

constexpr int kDevices = 50;

std::string Device(uint32_t i) { return absl::StrCat("device-", i % kDevices); }

absl::Status AddTwin(Engine& engine, absl::string_view id) {
  return engine.UpsertTwin(absl::StrCat(R"({"deviceId":")", id, "\"}"));
}

// What has become of the calls.
class Books {
 public:
  explicit Books(size_t calls) : answers_(calls) {}

  MethodCallback Callback(size_t call) {
    return [this, call](absl::StatusOr<MethodResult> result) {
      EXPECT_EQ(answers_[call].fetch_add(1), 0) << "answered twice";
      if (result.ok()) {
        succeeded_.fetch_add(1);
      } else {
        absl::MutexLock lock(&mutex_);
        ++errors_[ErrorCodeOf(result.status())];
      }
      // Last: who sees it may free us.
      answered_.fetch_add(1);
    };
  }

  int64_t answered() const { return answered_.load(); }
  int64_t succeeded() const { return succeeded_.load(); }
  std::map<ErrorCode, int64_t> errors() const {
    absl::MutexLock lock(&mutex_);
    return errors_;
  }

 private:
  std::vector<std::atomic<int>> answers_;
  std::atomic<int64_t> answered_{0};
  std::atomic<int64_t> succeeded_{0};
  mutable absl::Mutex mutex_;
  std::map<ErrorCode, int64_t> errors_ ABSL_GUARDED_BY(mutex_);
};

TEST(EngineMethodsStress, EverythingAtOnceAndTheBooksBalance) {
  const uint32_t seed = 20261122;
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  LoopbackOptions fleet;
  fleet.seed = seed;
  fleet.latency.distribution = LoopbackLatency::Distribution::kUniform;
  fleet.latency.max = absl::Milliseconds(5);
  fleet.link_lost_share = 0.05;
  fleet.busy_share = 0.05;
  fleet.offline_share = 0.2;
  fleet.reconnect_min = absl::Milliseconds(1);
  fleet.reconnect_max = absl::Milliseconds(50);
  fleet.drop_mean = absl::Milliseconds(100);
  fleet.send_window = 40;
  fleet.record_calls = true;

  auto executor = MakeThreadExecutor(4);
  auto transport =
      *LoopbackTransport::Create(fleet, &Clock::Real(), executor.get());
  auto engine = *Engine::Create(
      {.transport = transport.get(), .executor = executor.get()});
  for (uint32_t i = 0; i < kDevices; ++i) {
    ASSERT_TRUE(AddTwin(*engine, Device(i)).ok());
    transport->AddDevices({Device(i)});
  }

  constexpr size_t kCallers = 3, kCallsEach = 3000, kCalls = 3 * kCallsEach;
  Books books(kCalls);
  std::vector<std::thread> callers;
  for (size_t c = 0; c < kCallers; ++c) {
    callers.emplace_back([&, c] {
      std::mt19937 random(seed + static_cast<uint32_t>(c));
      for (size_t i = 0; i < kCallsEach; ++i) {
        const size_t call = c * kCallsEach + i;
        // The payload is the call's name.
        engine->InvokeMethod(
            Device(random()),
            {.method_name = absl::StrCat("m", random() % 4),
             .payload = absl::StrCat(call),
             .connect_timeout_seconds = static_cast<int>(random() % 2)},
            books.Callback(call));
        if (i % 16 == 0) absl::SleepFor(absl::Microseconds(random() % 500));
      }
    });
  }
  std::atomic<bool> done{false};
  std::vector<std::thread> others;
  // Twins come, change and go meanwhile, and devices.
  others.emplace_back([&] {
    std::mt19937 random(seed + 100);
    while (!done.load()) {
      const std::string id = Device(random());
      switch (random() % 6) {
        case 0:
          engine->EraseTwin(id).IgnoreError();
          break;
        case 1:
        case 2:
          AddTwin(*engine, id).IgnoreError();
          break;
        case 3:
          engine->SetTwinEnabled(id, random() % 4 != 0).IgnoreError();
          break;
        default:
          transport->SetConnected(id, random() % 2 != 0);
      }
      absl::SleepFor(absl::Microseconds(random() % 200));
    }
  });
  // Jobs share devices and transport.
  others.emplace_back([&] {
    for (int j = 0; !done.load(); ++j) {
      JobRequest job;
      job.job_id = absl::StrCat("job-", j);
      job.query_condition = "*";
      job.max_execution_time_seconds = 1;
      job.action = MethodAction{.method_name = absl::StrCat("job-", j)};
      ASSERT_TRUE(engine->CreateJob(job).ok());
      engine->WaitJob(job.job_id).IgnoreError();
    }
  });
  others.emplace_back([&] {
    while (!done.load()) {
      const DirectMethodStats stats = engine->Stats().direct_methods;
      EXPECT_GE(stats.under_way, 0);
      EXPECT_LE(stats.under_way, static_cast<int64_t>(kCalls));
      absl::SleepFor(absl::Milliseconds(1));
    }
  });

  for (std::thread& caller : callers) caller.join();
  const absl::Time patience = absl::Now() + absl::Seconds(100);
  while (books.answered() < static_cast<int64_t>(kCalls) &&
         absl::Now() < patience) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  done.store(true);
  for (std::thread& other : others) other.join();
  ASSERT_EQ(books.answered(), static_cast<int64_t>(kCalls));

  const DirectMethodStats stats = engine->Stats().direct_methods;
  EXPECT_EQ(stats.under_way, 0);
  EXPECT_EQ(stats.succeeded, books.succeeded());
  EXPECT_EQ(stats.failed, books.errors());
  EXPECT_GT(stats.succeeded, 0);
  EXPECT_GT(stats.failed.count(ErrorCode::kDeviceNotOnline), 0u);
  EXPECT_GT(stats.failed.count(ErrorCode::kDeviceNotFound), 0u);
  std::set<std::string> called;
  for (const LoopbackCallRecord& call : transport->calls()) {
    if (call.method[0] != 'm') continue;
    EXPECT_TRUE(called.insert(call.payload).second)
        << call.device_id << " was called twice for " << call.payload;
  }
  EXPECT_GE(static_cast<int64_t>(called.size()), stats.succeeded);
  engine->Stop();
}

// Whoever calls while the engine stops is answered, before or in Stop() or by
// InvokeMethod() itself.
TEST(EngineMethodsStress, StopAtAnyMoment) {
  for (int round = 0; round < 30; ++round) {
    LoopbackOptions fleet;
    fleet.latency.value = absl::Microseconds(300);
    fleet.offline_share = 0.3;
    fleet.send_window = 8;
    auto executor = MakeThreadExecutor(3);
    auto transport =
        *LoopbackTransport::Create(fleet, &Clock::Real(), executor.get());
    auto engine = *Engine::Create(
        {.transport = transport.get(), .executor = executor.get()});
    for (uint32_t i = 0; i < kDevices; ++i) {
      ASSERT_TRUE(AddTwin(*engine, Device(i)).ok());
      transport->AddDevices({Device(i)});
    }
    constexpr size_t kCallers = 2, kCallsEach = 300;
    Books books(kCallers * kCallsEach);
    std::vector<std::thread> callers;
    for (size_t c = 0; c < kCallers; ++c) {
      callers.emplace_back([&, c] {
        for (size_t i = 0; i < kCallsEach; ++i) {
          engine->InvokeMethod(
              Device(static_cast<uint32_t>(7 * i + c)),
              {.method_name = "m", .connect_timeout_seconds = 60},
              books.Callback(c * kCallsEach + i));
        }
      });
    }
    absl::SleepFor(absl::Microseconds(round * 50));
    engine->Stop();
    for (std::thread& caller : callers) caller.join();
    EXPECT_EQ(books.answered(), static_cast<int64_t>(kCallers * kCallsEach));
    EXPECT_EQ(engine->Stats().direct_methods.under_way, 0);
  }
}

}  // namespace
}  // namespace muster
