// What the engine does with a transport that repeats itself, or that stops in
// the middle of what it has to say.
#include <malloc.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/dispatch/outcome_list.h"
#include "engine/engine.h"
#include "engine/model/error.h"
#include "gtest/gtest.h"
#include "tests/simulated/simulated_executor.h"

namespace muster {
namespace {

// Takes everything and says nothing until it is told to.
class SilentTransport : public Transport {
 public:
  void Start(TransportSink* sink) override { sink_ = sink; }
  size_t Send(const MethodBatch& batch) override {
    absl::MutexLock lock(&mutex_);
    batches_.emplace_back(batch.attempts.begin(), batch.attempts.end());
    for (size_t i = 0; i < batch.attempts.size(); ++i) {
      attempts_[std::string(batch.device_ids[i])] = batch.attempts[i];
    }
    sent_ += static_cast<int>(batch.attempts.size());
    return batch.attempts.size();
  }
  void NotifyDesired(absl::Span<const DesiredNotification>) override {}
  void Shutdown() override {}

  void Connect(const std::string& device) {
    const ConnectionChange change{device, true};
    sink_->OnConnections({&change, 1}, {});
  }

  TransportSink& sink() { return *sink_; }
  AttemptKey AttemptOf(const std::string& device) {
    absl::MutexLock lock(&mutex_);
    return attempts_[device];
  }

  // Waits for so many executions; returns them as they came.
  std::vector<std::vector<AttemptKey>> Await(int count) {
    absl::MutexLock lock(&mutex_);
    const auto sent = [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      return sent_ >= count;
    };
    mutex_.Await(absl::Condition(&sent));
    return batches_;
  }

  void Answer(absl::Span<const AttemptKey> attempts) {
    std::vector<Outcome> outcomes;
    for (AttemptKey attempt : attempts) {
      outcomes.push_back({.attempt = attempt, .status = 200});
    }
    sink_->OnOutcomes(outcomes);
  }

 private:
  TransportSink* sink_ = nullptr;
  absl::Mutex mutex_;
  std::vector<std::vector<AttemptKey>> batches_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, AttemptKey> attempts_ ABSL_GUARDED_BY(mutex_);
  int sent_ ABSL_GUARDED_BY(mutex_) = 0;
};

std::string Device(int i) { return absl::StrCat("d", i); }

void AddDevices(Engine& engine, SilentTransport& transport, int count) {
  for (int i = 0; i < count; ++i) {
    ASSERT_TRUE(
        engine.UpsertTwin(absl::StrCat("{\"deviceId\":\"", Device(i), "\"}"))
            .ok());
    transport.Connect(Device(i));
  }
}

JobRequest Reboot() {
  JobRequest job;
  job.job_id = "j";
  job.query_condition = "*";
  job.action = MethodAction{.method_name = "reboot"};
  return job;
}

class FloodTest : public testing::Test {
 protected:
  void Begin(int devices) {
    engine_ = *Engine::Create(
        {.transport = &transport_, .clock = &time_, .executor = &time_});
    AddDevices(*engine_, transport_, devices);
    ASSERT_TRUE(engine_->CreateJob(Reboot()).ok());
    time_.RunReady();
    batches_ = transport_.Await(devices);
  }

  int64_t dropped() const { return engine_->Stats().outcomes_dropped; }
  JobStatistics statistics() const {
    return engine_->GetJob("j")->statistics.value_or(JobStatistics{});
  }

  SimulatedExecutor time_;
  SilentTransport transport_;
  std::unique_ptr<Engine> engine_;
  std::vector<std::vector<AttemptKey>> batches_;
};

TEST_F(FloodTest, RepeatsBeyondTheLimitAreDroppedAndCounted) {
  constexpr int kDevices = 100;
  constexpr int64_t kMore = 300'000;
  Begin(kDevices);
  for (const auto& batch : batches_) transport_.Answer(batch);
  EXPECT_EQ(dropped(), 0);

  // No worker gets to run.  One outcome at a time, which is the most expensive
  // way, of one slice.
  const std::vector<AttemptKey>& batch = batches_[0];
  const struct mallinfo2 before = mallinfo2();
  for (int64_t i = 0; i < kMore; ++i) {
    transport_.Answer({&batch[i % batch.size()], 1});
  }
  const struct mallinfo2 after = mallinfo2();
  const int64_t waiting = kOutcomesQueuedMax;
  EXPECT_EQ(dropped(), kMore + static_cast<int64_t>(batch.size()) - waiting);
  EXPECT_LT(after.uordblks - before.uordblks, 256u * waiting);

  time_.RunReady();
  EXPECT_EQ(statistics(), (JobStatistics{kDevices, 0, kDevices, 0, 0}));
  EXPECT_EQ(dropped(), kMore);
  EXPECT_EQ(engine_->GetJob("j")->status, JobStatus::kCompleted);

  // Nor does it know them later.
  transport_.Answer(batch);
  time_.RunReady();
  EXPECT_EQ(dropped(), kMore + static_cast<int64_t>(batch.size()));
  EXPECT_EQ(statistics(), (JobStatistics{kDevices, 0, kDevices, 0, 0}));
}

TEST_F(FloodTest, AnOutcomeThatFindsNoRoomIsOneThatNeverCame) {
  Begin(1);
  const AttemptKey real = batches_[0][0];
  // Of the slice, but of no execution: the last rank.
  const AttemptKey other{real.value | uint64_t{0x3fff} << 6};
  const std::vector<AttemptKey> flood(kOutcomesQueuedMax, other);
  transport_.Answer(flood);
  EXPECT_EQ(dropped(), 0);
  transport_.Answer({&real, 1});
  EXPECT_EQ(dropped(), 1);
  time_.RunReady();
  EXPECT_EQ(dropped(), kOutcomesQueuedMax + 1);
  EXPECT_EQ(statistics(), (JobStatistics{1, 0, 0, 1, 0}));

  time_.Advance(absl::Seconds(31));
  EXPECT_EQ(statistics(), (JobStatistics{1, 1, 0, 0, 0}));
  std::vector<ErrorCode> errors;
  ASSERT_TRUE(engine_
                  ->ForEachExecution("j",
                                     [&](const ExecutionRecord& record) {
                                       errors.push_back(record.error_code);
                                     })
                  .ok());
  EXPECT_EQ(errors, std::vector<ErrorCode>{ErrorCode::kGatewayTimeout});
}

// Payloads that several outcomes share, next to others that look alike.
TEST_F(FloodTest, WhatOutcomesShareIsEachOnesOwn) {
  constexpr int kDevices = 9;
  Begin(kDevices);
  const std::string a(kMethodPayloadSizeMax, '7');
  const std::string b(kMethodPayloadSizeMax, '8');
  std::vector<AttemptKey> attempts;
  for (const auto& batch : batches_) {
    attempts.insert(attempts.end(), batch.begin(), batch.end());
  }
  ASSERT_EQ(attempts.size(), kDevices);
  const std::vector<Outcome> outcomes = {
      {.attempt = attempts[0], .status = 200, .payload = a},
      {.attempt = attempts[1], .status = 200, .payload = a},
      {.attempt = attempts[2], .status = 201, .payload = a},
      {.attempt = attempts[3], .status = 201, .payload = b},
      {.attempt = attempts[4], .code = OutcomeCode::kLinkLost},
      {.attempt = attempts[5], .status = 201, .payload = b},
      {.attempt = attempts[6], .status = 0},
      {.attempt = attempts[7], .status = 0},
      {.attempt = attempts[8], .status = 0, .payload = b}};
  transport_.sink().OnOutcomes(outcomes);
  time_.RunReady();
  EXPECT_EQ(statistics(), (JobStatistics{kDevices, 1, kDevices - 1, 0, 0}));
  for (const int i : {0, 1, 2, 3, 4, 5, 6, 7, 8}) {
    const auto record = engine_->GetExecution("j", Device(i));
    ASSERT_TRUE(record.ok()) << record.status();
    const auto outcome =
        std::find_if(outcomes.begin(), outcomes.end(), [&](const Outcome& o) {
          return o.attempt == transport_.AttemptOf(Device(i));
        });
    ASSERT_NE(outcome, outcomes.end());
    ASSERT_EQ(record->response.has_value(),
              outcome->code == OutcomeCode::kAnswered);
    if (!record->response.has_value()) continue;
    EXPECT_EQ(record->response->status, outcome->status);
    EXPECT_TRUE(record->response->payload ==
                (outcome->payload.empty() ? "null" : outcome->payload));
  }
}

// On real threads: a transport's thread that hangs between two reports of one
// slice's range is waited for by that slice's executions only.
TEST(StoppedCallbackTest, StopsNobodyElse) {
  constexpr int kDevices = 200;
  SilentTransport transport;
  auto engine = *Engine::Create({.transport = &transport});
  AddDevices(*engine, transport, kDevices);
  ASSERT_TRUE(engine->CreateJob(Reboot()).ok());
  const auto batches = transport.Await(kDevices);
  ASSERT_GT(batches.size(), 1u);

  const size_t half = (batches[0].size() + 1) / 2;
  const absl::Span<const AttemptKey> range(batches[0]);
  absl::Notification first_half, go_on;
  std::thread stopped([&] {
    transport.Answer(range.subspan(0, half));
    first_half.Notify();
    go_on.WaitForNotification();
    transport.Answer(range.subspan(half));
  });
  first_half.WaitForNotification();
  std::vector<std::thread> others;
  for (size_t i = 1; i < batches.size(); ++i) {
    others.emplace_back([&, i] { transport.Answer(batches[i]); });
  }
  for (std::thread& other : others) other.join();
  const int64_t open = static_cast<int64_t>(range.size() - half);
  const JobStatistics expected{kDevices, 0, kDevices - open, open, 0};
  const absl::Time limit = absl::Now() + absl::Seconds(20);
  while (engine->GetJob("j")->statistics != expected && absl::Now() < limit) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_EQ(engine->GetJob("j")->statistics, expected);
  go_on.Notify();
  stopped.join();
  const JobInfo job = *engine->WaitJob("j");
  EXPECT_EQ(job.statistics, (JobStatistics{kDevices, 0, kDevices, 0, 0}));
  EXPECT_EQ(engine->Stats().outcomes_dropped, 0);
}

}  // namespace
}  // namespace muster
