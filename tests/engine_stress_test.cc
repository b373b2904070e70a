// The engine on real threads, with everything at once, against books that are
// kept outside of it.  The fleet counts what reaches it; readers check I8 at
// every read and that nothing ever goes back; at the end every execution is
// accounted for.
#include <atomic>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/model/error.h"
#include "gtest/gtest.h"
#include "transport/loopback/loopback.h"

namespace muster {
namespace {

constexpr int kDevices = 2'000;

std::string Device(int i) { return absl::StrCat("device-", i); }

// One reader's memory of a job.
struct Seen {
  int64_t device_count = -1;
  int64_t succeeded = 0;
  int64_t failed = 0;
  bool ended = false;
  // Of two readings with one revision nothing differs.
  int64_t revision = 0;
  JobStatus status = JobStatus::kQueued;
  std::optional<JobStatistics> statistics;
};

void CheckRead(const JobInfo& job, Seen& seen) {
  ASSERT_GT(job.revision, 0);
  ASSERT_GE(job.revision, seen.revision);
  if (job.revision == seen.revision) {
    ASSERT_EQ(job.status, seen.status);
    ASSERT_EQ(job.statistics, seen.statistics);
  }
  seen.revision = job.revision;
  seen.status = job.status;
  seen.statistics = job.statistics;
  if (!job.statistics.has_value()) {
    ASSERT_EQ(seen.device_count, -1) << "statistics went away";
    return;
  }
  const JobStatistics& s = *job.statistics;
  ASSERT_EQ(s.device_count, s.failed_count + s.succeeded_count +
                                s.running_count + s.pending_count);
  ASSERT_GE(s.pending_count, 0);
  ASSERT_GE(s.running_count, 0);
  if (seen.device_count >= 0) {
    ASSERT_EQ(s.device_count, seen.device_count);
  }
  ASSERT_GE(s.succeeded_count, seen.succeeded);
  ASSERT_GE(s.failed_count, seen.failed);
  ASSERT_FALSE(seen.ended && !IsTerminal(job.status));
  if (IsTerminal(job.status)) {
    ASSERT_EQ(s.running_count + s.pending_count, 0);
  }
  seen.device_count = s.device_count;
  seen.succeeded = s.succeeded_count;
  seen.failed = s.failed_count;
  seen.ended = IsTerminal(job.status);
}

TEST(EngineStress, EverythingAtOnceAndTheBooksBalance) {
  const uint32_t seed = 20261121;
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  LoopbackOptions fleet;
  fleet.seed = seed;
  fleet.latency.distribution = LoopbackLatency::Distribution::kUniform;
  fleet.latency.min = absl::ZeroDuration();
  fleet.latency.max = absl::Milliseconds(20);
  fleet.error_status_share = 0.1;
  fleet.busy_share = 0.05;
  fleet.link_lost_share = 0.05;
  fleet.no_handler_share = 0.02;
  fleet.offline_share = 0.2;
  fleet.reconnect_min = absl::Milliseconds(1);
  fleet.reconnect_max = absl::Milliseconds(200);
  fleet.drop_mean = absl::Milliseconds(500);
  fleet.send_window = 300;
  fleet.record_calls = true;

  auto executor = MakeThreadExecutor(4);
  auto transport =
      *LoopbackTransport::Create(fleet, &Clock::Real(), executor.get());
  auto engine = *Engine::Create(
      {.transport = transport.get(), .executor = executor.get()});
  std::vector<std::string> ids;
  for (int i = 0; i < kDevices; ++i) {
    ids.push_back(Device(i));
    ASSERT_TRUE(engine
                    ->UpsertTwin(absl::StrCat(R"({"deviceId":")", ids.back(),
                                              R"(","tags":{"n":)", i, "}}"))
                    .ok());
  }
  transport->AddDevices(std::vector<absl::string_view>(ids.begin(), ids.end()));

  constexpr int kCreators = 2, kJobsEach = 12;
  std::atomic<int> creating{kCreators};
  absl::Mutex mutex;
  std::vector<std::string> jobs;
  std::vector<std::thread> threads;
  for (int c = 0; c < kCreators; ++c) {
    threads.emplace_back([&, c] {
      std::mt19937 random(seed + c);
      for (int j = 0; j < kJobsEach; ++j) {
        JobRequest job;
        job.job_id = absl::StrCat("job-", c, "-", j);
        job.query_condition =
            j % 3 == 0 ? "*" : absl::StrCat("tags.n % 7 = ", random() % 7);
        job.max_execution_time_seconds = 20;
        if (j % 4 == 3) {
          TwinUpdateAction action;
          action.patch.tags = *ParseJson(absl::StrCat("{\"j\":", j, "}"));
          action.patch.desired = *ParseJson(absl::StrCat("{\"j\":", j, "}"));
          job.action = action;
        } else {
          MethodAction action{.method_name = absl::StrCat("m", c, "-", j)};
          action.response_timeout_seconds = 5;
          job.action = action;
        }
        const auto created = engine->CreateJob(job);
        ASSERT_TRUE(created.ok()) << created.status();
        {
          absl::MutexLock lock(&mutex);
          jobs.push_back(job.job_id);
        }
        if (j % 5 == 4) {
          absl::SleepFor(absl::Milliseconds(random() % 30));
          // Whoever wins, the books must balance.
          engine->CancelJob(job.job_id, {.cancel_running = j % 2 == 0})
              .status()
              .IgnoreError();
        }
      }
      creating.fetch_sub(1);
    });
  }
  auto all_ended = [&] {
    if (creating.load() > 0) return false;
    absl::MutexLock lock(&mutex);
    for (const std::string& id : jobs) {
      if (!IsTerminal(engine->GetJob(id)->status)) return false;
    }
    return true;
  };
  std::atomic<bool> done{false};
  for (int r = 0; r < 2; ++r) {
    threads.emplace_back([&] {
      std::map<std::string, Seen> seen;
      while (!done.load()) {
        std::vector<std::string> now;
        {
          absl::MutexLock lock(&mutex);
          now = jobs;
        }
        for (const std::string& id : now) {
          CheckRead(*engine->GetJob(id), seen[id]);
        }
      }
    });
  }
  // Twins come, change and go meanwhile.
  threads.emplace_back([&] {
    std::mt19937 random(seed + 100);
    while (!done.load()) {
      const std::string id = Device(static_cast<int>(random() % kDevices));
      switch (random() % 8) {
        case 0:
          engine->EraseTwin(id).IgnoreError();
          break;
        case 1:
          engine
              ->UpsertTwin(absl::StrCat(R"({"deviceId":")", id,
                                        R"(","tags":{"n":)", random() % 100,
                                        "}}"))
              .IgnoreError();
          break;
        case 2:
          engine->SetTwinEnabled(id, random() % 4 != 0).IgnoreError();
          break;
        default:
          engine
              ->PatchTwin(
                  id, absl::StrCat(R"({"tags":{"n":)", random() % 100, "}}"))
              .status()
              .IgnoreError();
      }
    }
  });
  // Somebody watches, and reads records of jobs that run.
  std::vector<std::unique_ptr<Engine::Watch>> watches;
  std::atomic<int64_t> told{0};
  threads.emplace_back([&] {
    std::set<std::string> watched;
    while (!done.load()) {
      std::vector<std::string> now;
      {
        absl::MutexLock lock(&mutex);
        now = jobs;
      }
      for (const std::string& id : now) {
        if (watched.insert(id).second) {
          auto watch = engine->WatchJob(
              id, [&, seen = std::make_shared<Seen>()](const JobInfo& job) {
                CheckRead(job, *seen);
                told.fetch_add(1);
              });
          ASSERT_TRUE(watch.ok());
          watches.push_back(*std::move(watch));
        }
        int64_t records = 0;
        ASSERT_TRUE(engine
                        ->ForEachExecution(
                            id, [&](const ExecutionRecord&) { ++records; })
                        .ok());
        const auto statistics = engine->GetJob(id)->statistics;
        if (records > 0) {
          ASSERT_EQ(records, statistics->device_count);
        }
        // Page by page: each device once, although all of them change.
        const ExecutionFilter filter{.job_id = id};
        std::set<std::string> devices;
        std::string continuation;
        do {
          const absl::StatusOr<ExecutionPage> page =
              engine->ListExecutions(filter, 100, continuation);
          ASSERT_TRUE(page.ok()) << page.status();
          for (const ExecutionRecord& record : page->executions) {
            ASSERT_TRUE(devices.insert(record.device_id).second);
          }
          continuation = page->continuation;
        } while (!continuation.empty());
        if (records > 0) {
          ASSERT_EQ(static_cast<int64_t>(devices.size()), records);
        }
      }
      absl::SleepFor(absl::Milliseconds(5));
    }
  });

  const absl::Time patience = absl::Now() + absl::Seconds(200);
  while (!all_ended() && absl::Now() < patience) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  done.store(true);
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(all_ended());
  EXPECT_GT(told.load(), 0);

  // Nobody was called twice for one job: methods are named after their jobs.
  std::map<std::string, std::set<std::string>> called;
  for (const LoopbackCallRecord& call : transport->calls()) {
    EXPECT_TRUE(called[call.method].insert(call.device_id).second)
        << call.device_id << " was called twice by " << call.method;
  }
  for (const std::string& id : jobs) {
    const JobInfo job = *engine->GetJob(id);
    if (!job.statistics.has_value()) continue;  // Cancelled before it ran.
    std::map<ExecutionStatus, int64_t> statuses;
    std::set<std::string> devices;
    int64_t answered = 0;
    ASSERT_TRUE(engine
                    ->ForEachExecution(id,
                                       [&](const ExecutionRecord& record) {
                                         ++statuses[record.status];
                                         devices.insert(record.device_id);
                                         answered +=
                                             record.response.has_value();
                                       })
                    .ok());
    EXPECT_EQ(static_cast<int64_t>(devices.size()),
              job.statistics->device_count);
    EXPECT_EQ(statuses[ExecutionStatus::kCompleted],
              job.statistics->succeeded_count);
    EXPECT_EQ(statuses[ExecutionStatus::kFailed] +
                  statuses[ExecutionStatus::kCanceled],
              job.statistics->failed_count);
    if (const auto* method = std::get_if<MethodAction>(&job.action)) {
      EXPECT_EQ(answered, job.statistics->succeeded_count);
      EXPECT_LE(answered,
                static_cast<int64_t>(called[method->method_name].size()));
    }
  }
  watches.clear();
  engine->Stop();
}

// Engines that are stopped at any moment stop, and leave nothing behind that
// runs.
TEST(EngineStress, StopAtAnyMoment) {
  for (int round = 0; round < 30; ++round) {
    LoopbackOptions fleet;
    fleet.latency.value = absl::Microseconds(300);
    fleet.record_calls = false;
    auto executor = MakeThreadExecutor(3);
    auto transport =
        *LoopbackTransport::Create(fleet, &Clock::Real(), executor.get());
    auto engine = *Engine::Create({.transport = transport.get(),
                                   .executor = executor.get(),
                                   .range_rows_max = 8});
    std::vector<std::string> ids;
    for (int i = 0; i < 200; ++i) {
      ids.push_back(Device(i));
      ASSERT_TRUE(
          engine
              ->UpsertTwin(absl::StrCat(R"({"deviceId":")", ids.back(), "\"}"))
              .ok());
    }
    transport->AddDevices(
        std::vector<absl::string_view>(ids.begin(), ids.end()));
    JobRequest job;
    job.job_id = "j";
    job.query_condition = "*";
    job.action = MethodAction{.method_name = "m"};
    ASSERT_TRUE(engine->CreateJob(job).ok());
    auto watch = engine->WatchJob("j", [](const JobInfo&) {});
    absl::SleepFor(absl::Microseconds(round * 150));
    engine->Stop();
    const auto after = engine->GetJob("j")->statistics;
    watch->reset();
    EXPECT_EQ(engine->GetJob("j")->statistics, after);
  }
}

}  // namespace
}  // namespace muster
