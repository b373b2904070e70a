// What the engine tells of itself: every number against what jobs, executions
// and the transport's calls say, and every latency on simulated time, where it
// is known.
#include <array>
#include <cstdint>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <variant>

#include "absl/random/random.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/journal/journal.h"
#include "engine/model/error.h"
#include "engine/model/json.h"
#include "engine/model/limits.h"
#include "engine/schedule/latency_histogram.h"
#include "gtest/gtest.h"
#include "tests/forwarding_journal.h"
#include "tests/hub_fixture.h"
#include "tests/manual_journal.h"
#include "tests/simulated/simulated_executor.h"
#include "transport/loopback/loopback.h"

namespace muster {
namespace {

TEST(LatencyHistogram, CountsEachValueInItsBucket) {
  LatencyHistogram histogram;
  histogram.Add(absl::ZeroDuration());
  histogram.Add(-absl::Seconds(1));
  for (size_t i = 0; i < kLatencyBoundsUs.size(); ++i) {
    // A bound belongs to its bucket, what is beyond it to the next.
    histogram.Add(absl::Microseconds(kLatencyBoundsUs[i]), 10);
    histogram.Add(absl::Microseconds(kLatencyBoundsUs[i]) +
                  absl::Nanoseconds(1));
  }
  const LatencyCounts counts = histogram.Read();
  EXPECT_EQ(counts.buckets.front(), 12);
  EXPECT_EQ(counts.buckets.back(), 1);
  for (size_t i = 1; i + 1 < counts.buckets.size(); ++i) {
    EXPECT_EQ(counts.buckets[i], 11) << i;
  }
  EXPECT_EQ(counts.count(), 2 + 11 * static_cast<int>(kLatencyBoundsUs.size()));
}

TEST(LatencyHistogram, SumsValuesTimesTheirCounts) {
  LatencyHistogram histogram;
  histogram.Add(absl::Milliseconds(250), 4);
  histogram.Add(-absl::Hours(1), 1000);
  // A day of timeouts of large jobs: no integer of nanoseconds holds it.
  histogram.Add(absl::Seconds(300), int64_t{1} << 40);
  EXPECT_EQ(histogram.Read().sum_seconds,
            1 + 300.0 * static_cast<double>(int64_t{1} << 40));
}

// Which bucket of a histogram a latency is in.
LatencyCounts Only(absl::Duration latency, int64_t count) {
  LatencyHistogram histogram;
  if (count > 0) histogram.Add(latency, count);
  return histogram.Read();
}
void ExpectEqual(const LatencyCounts& a, const LatencyCounts& b) {
  EXPECT_EQ(a.buckets, b.buckets);
  EXPECT_NEAR(a.sum_seconds, b.sum_seconds, 1e-6);
}

JobRequest Method(absl::string_view id) {
  JobRequest request;
  request.job_id = std::string(id);
  request.query_condition = "*";
  request.action = MethodAction{.method_name = "reboot"};
  return request;
}

using Jobs = std::array<int64_t, kJobStatusCount>;
// In the order of JobStatus.
Jobs JobsOf(Hub& hub) { return hub.engine().Stats().jobs; }

TEST(EngineStats, JobsByStatusFollowTheirLives) {
  Hub hub({.profile = {.active_jobs_max = 1},
           .on_active_limit = ActiveLimitPolicy::kQueue});
  hub.AddDevice("d");
  hub.devices().SetHandler("reboot", [](const LoopbackCall&) {
    LoopbackReply reply;
    reply.delay = absl::Seconds(10);
    return reply;
  });
  EXPECT_EQ(JobsOf(hub), Jobs({0, 0, 0, 0, 0, 0}));
  JobRequest later = Method("later");
  later.start_time = hub.time.Now() + absl::Hours(1);
  ASSERT_TRUE(hub.engine().CreateJob(later).ok());
  hub.time.RunReady();
  EXPECT_EQ(JobsOf(hub), Jobs({0, 1, 0, 0, 0, 0}));
  ASSERT_TRUE(hub.engine().CreateJob(Method("first")).ok());
  ASSERT_TRUE(hub.engine().CreateJob(Method("second")).ok());
  ASSERT_TRUE(hub.engine().CreateJob(Method("third")).ok());
  EXPECT_EQ(JobsOf(hub), Jobs({3, 1, 0, 0, 0, 0}));
  hub.time.RunReady();
  EXPECT_EQ(JobsOf(hub), Jobs({2, 1, 1, 0, 0, 0}));
  // One that is refused is none.
  EXPECT_FALSE(hub.engine().CreateJob(Method("first")).ok());
  ASSERT_TRUE(hub.engine().CancelJob("third").ok());
  EXPECT_EQ(JobsOf(hub), Jobs({1, 1, 1, 0, 0, 1}));
  hub.time.Advance(absl::Seconds(10));
  EXPECT_EQ(JobsOf(hub), Jobs({0, 1, 1, 1, 0, 1}));
  hub.time.Advance(absl::Seconds(10));
  EXPECT_EQ(JobsOf(hub), Jobs({0, 1, 0, 2, 0, 1}));
  hub.time.Advance(absl::Hours(2));
  EXPECT_EQ(JobsOf(hub), Jobs({0, 0, 0, 3, 0, 1}));
  // They are counted as long as they are kept.
  hub.time.Advance(absl::Hours(24) * kJobHistoryDays);
  EXPECT_EQ(JobsOf(hub), Jobs({0, 0, 0, 0, 0, 0}));
}

TEST(EngineStats, AJobThatFailsAtItsStartIsCountedAsFailed) {
  Hub hub({.validate_condition_on_create = false});
  JobRequest broken = Method("broken");
  broken.query_condition = "tags.=";
  ASSERT_TRUE(hub.engine().CreateJob(broken).ok());
  EXPECT_EQ(hub.Finish("broken").status, JobStatus::kFailed);
  EXPECT_EQ(JobsOf(hub), Jobs({0, 0, 0, 0, 1, 0}));
}

TEST(EngineStats, TheSuccessorOfAnExpiredJobIsCountedOnce) {
  Hub hub;
  hub.AddDevice("d");
  ASSERT_TRUE(hub.engine().CreateJob(Method("j")).ok());
  hub.Finish("j");
  // The id is free as soon as the history has ended, whether or not the timer
  // has fired.
  hub.time.FireDue(absl::Hours(24) * kJobHistoryDays);
  ASSERT_TRUE(hub.engine().CreateJob(Method("j")).ok());
  hub.Finish("j");
  hub.time.Advance(absl::Hours(1));
  EXPECT_EQ(JobsOf(hub), Jobs({0, 0, 0, 1, 0, 0}));
}

TEST(EngineStats, ExecutionsFollowTheStatisticsOfTheirJobs) {
  Hub hub;
  for (int i = 0; i < 3; ++i) hub.AddDevice(absl::StrCat("on", i));
  for (int i = 0; i < 2; ++i) hub.AddDevice(absl::StrCat("off", i), false);
  hub.devices().SetHandler("reboot", [](const LoopbackCall& call) {
    LoopbackReply reply;
    reply.delay = absl::Seconds(call.device_id == "on0" ? 1 : 5);
    return reply;
  });
  JobRequest job = Method("j");
  std::get<MethodAction>(job.action).connect_timeout_seconds = 60;
  ASSERT_TRUE(hub.engine().CreateJob(job).ok());
  hub.time.RunReady();
  EngineStats stats = hub.engine().Stats();
  EXPECT_EQ(stats.executions_pending, 2);
  EXPECT_EQ(stats.executions_in_flight, 3);
  EXPECT_EQ(stats.executions_dispatched, 3);
  EXPECT_EQ(stats.executions_ended.succeeded, 0);
  hub.time.Advance(absl::Seconds(1));
  stats = hub.engine().Stats();
  EXPECT_EQ(stats.executions_in_flight, 2);
  EXPECT_EQ(stats.executions_ended.succeeded, 1);
  EXPECT_EQ(Counts(hub.Finish("j")), "5 / f2 s3 r0 p0");
  stats = hub.engine().Stats();
  EXPECT_EQ(stats.executions_pending, 0);
  EXPECT_EQ(stats.executions_in_flight, 0);
  EXPECT_EQ(stats.executions_ended.succeeded, 3);
  EXPECT_EQ(stats.executions_ended.failed,
            (std::map<ErrorCode, int64_t>{{ErrorCode::kDeviceNotOnline, 2}}));
  EXPECT_EQ(stats.executions_ended.canceled, 0);
  EXPECT_EQ(stats.ready_queue_depth, 0);
}

TEST(EngineStats, LatenciesAreThoseOfTheClock) {
  Hub hub;
  for (int i = 0; i < 600; ++i) hub.AddDevice(absl::StrCat("d", i));
  hub.AddDevice("late", false);
  hub.devices().SetHandler("reboot", [](const LoopbackCall& call) {
    LoopbackReply reply;
    reply.delay = absl::Milliseconds(call.device_id == "late" ? 40 : 3);
    return reply;
  });
  hub.devices().SetHandler("never", [](const LoopbackCall&) {
    LoopbackReply reply;
    reply.delay = absl::Hours(1);
    return reply;
  });
  ASSERT_TRUE(hub.engine().CreateJob(Method("j")).ok());
  hub.time.Advance(absl::Seconds(2));
  EngineStats stats = hub.engine().Stats();
  // Simulated time stands still while anything runs.
  ExpectEqual(stats.first_dispatch, Only(absl::ZeroDuration(), 1));
  ExpectEqual(stats.execution_time, Only(absl::Milliseconds(3), 600));
  hub.devices().SetConnected("late", true);
  EXPECT_EQ(hub.Finish("j").statistics->succeeded_count, 601);
  stats = hub.engine().Stats();
  LatencyCounts expected = Only(absl::Milliseconds(3), 600);
  const LatencyCounts late = Only(absl::Milliseconds(40), 1);
  for (size_t i = 0; i < late.buckets.size(); ++i) {
    expected.buckets[i] += late.buckets[i];
  }
  expected.sum_seconds += late.sum_seconds;
  ExpectEqual(stats.execution_time, expected);

  // A timeout took as long as the timeout, to the tick of a timer.
  JobRequest timeout = Method("t");
  timeout.query_condition = "deviceId = 'late'";
  std::get<MethodAction>(timeout.action).method_name = "never";
  std::get<MethodAction>(timeout.action).response_timeout_seconds = 30;
  ASSERT_TRUE(hub.engine().CreateJob(timeout).ok());
  hub.Finish("t");
  stats = hub.engine().Stats();
  EXPECT_EQ(stats.execution_time.count(), 602);
  EXPECT_NEAR(stats.execution_time.sum_seconds - expected.sum_seconds, 30, 0.1);
}

TEST(EngineStats, AScheduledJobCountsFromItsStart) {
  Hub hub;
  hub.AddDevice("d", /*connected=*/false);
  JobRequest job = Method("j");
  job.start_time = hub.time.Now() + absl::Hours(1);
  ASSERT_TRUE(hub.engine().CreateJob(job).ok());
  hub.time.Advance(absl::Hours(1) + absl::Seconds(7));
  EXPECT_EQ(hub.engine().Stats().first_dispatch.count(), 0);
  hub.devices().SetConnected("d", true);
  hub.Finish("j");
  const LatencyCounts first = hub.engine().Stats().first_dispatch;
  EXPECT_EQ(first.count(), 1);
  EXPECT_NEAR(first.sum_seconds, 7, 0.1);
}

TEST(EngineStats, TwinJobsAreCountedTheSame) {
  Hub hub;
  for (int i = 0; i < 300; ++i) hub.AddTwin(absl::StrCat("d", i));
  ASSERT_TRUE(hub.Create(R"({"jobId":"j","type":"scheduleUpdateTwin",)"
                         R"("queryCondition":"*","updateTwin":{"etag":"*",)"
                         R"("tags":{"a":1}}})")
                  .ok());
  hub.Finish("j");
  const EngineStats stats = hub.engine().Stats();
  EXPECT_EQ(stats.twins, 300);
  EXPECT_EQ(stats.executions_ended.succeeded, 300);
  EXPECT_EQ(stats.executions_dispatched, 300);
  ExpectEqual(stats.execution_time, Only(absl::ZeroDuration(), 300));
  EXPECT_EQ(stats.first_dispatch.count(), 1);
}

// Jobs of every kind of end, at random: what has been counted is the sum of
// what the jobs show.
TEST(EngineStats, CountersAreTheSumsOfTheJobs) {
  for (int seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    std::seed_seq seeds{seed};
    absl::BitGen random(seeds);
    Hub hub;
    const auto chance = [&](double p) { return absl::Bernoulli(random, p); };
    for (int i = 0; i < 100; ++i) {
      hub.AddDevice(absl::StrCat("d", i), chance(0.8));
    }
    hub.devices().SetHandler("reboot", [&](const LoopbackCall&) {
      constexpr OutcomeCode kCodes[] = {
          OutcomeCode::kAnswered,  OutcomeCode::kAnswered,
          OutcomeCode::kAnswered,  OutcomeCode::kBusy,
          OutcomeCode::kNoHandler, OutcomeCode::kLinkLost,
          OutcomeCode::kError,     OutcomeCode::kBadResponse};
      LoopbackReply reply;
      reply.code = kCodes[absl::Uniform<size_t>(random, 0, std::size(kCodes))];
      reply.delay = absl::Milliseconds(absl::Uniform(random, 0, 60'000));
      return reply;
    });
    constexpr int kJobs = 10;
    for (int i = 0; i < kJobs; ++i) {
      JobRequest job = Method(absl::StrCat("j", i));
      auto& method = std::get<MethodAction>(job.action);
      if (chance(0.5)) method.connect_timeout_seconds = 20;
      method.response_timeout_seconds = 30;
      job.max_execution_time_seconds = chance(0.5) ? 45 : 3600;
      if (chance(0.3)) {
        TwinUpdateAction update;
        update.patch.tags = *ParseJson(absl::StrCat("{\"n\":", i, "}"));
        job.action = std::move(update);
      }
      ASSERT_TRUE(hub.engine().CreateJob(job).ok());
      hub.time.Advance(absl::Milliseconds(absl::Uniform(random, 0, 15'000)));
      if (chance(0.3)) {
        hub.engine()
            .CancelJob(job.job_id, {.cancel_running = true})
            .IgnoreError();
      }
      if (chance(0.3)) {
        hub.devices().SetConnected(absl::StrCat("d", i), chance(0.5));
      }
    }
    int64_t succeeded = 0, failed = 0, canceled = 0, begun = 0;
    std::map<ErrorCode, int64_t> by_code;
    Jobs jobs{};
    for (int i = 0; i < kJobs; ++i) {
      const JobInfo job = hub.Finish(absl::StrCat("j", i));
      ++jobs[static_cast<size_t>(job.status)];
      succeeded += job.statistics->succeeded_count;
      failed += job.statistics->failed_count;
      for (const ExecutionRecord& record : hub.Records(job.job_id)) {
        if (record.start_time.has_value()) ++begun;
        if (record.status == ExecutionStatus::kCanceled) ++canceled;
        if (record.status == ExecutionStatus::kFailed) {
          ++by_code[record.error_code];
        }
      }
    }
    const EngineStats stats = hub.engine().Stats();
    EXPECT_EQ(stats.jobs, jobs);
    EXPECT_EQ(stats.executions_ended.succeeded, succeeded);
    EXPECT_EQ(stats.executions_ended.failed, by_code);
    EXPECT_EQ(stats.executions_ended.canceled, canceled);
    int64_t sum = canceled;
    for (const auto& [code, count] : stats.executions_ended.failed) {
      sum += count;
    }
    EXPECT_EQ(sum, failed);
    EXPECT_EQ(stats.executions_pending, 0);
    EXPECT_EQ(stats.executions_in_flight, 0);
    EXPECT_EQ(stats.ready_queue_depth, 0);
    EXPECT_EQ(stats.execution_time.count(), begun);
  }
}

TEST(EngineStats, ACommitTakesUntilTheJournalHasAnswered) {
  ManualJournal journal;
  Hub hub({.journal = &journal});
  hub.AddDevice("d");
  const LatencyCounts before = hub.engine().Stats().journal_commit;
  EXPECT_GT(before.count(), 0);
  EXPECT_EQ(before.sum_seconds, 0);
  ASSERT_TRUE(hub.engine().CreateJob(Method("j")).ok());
  journal.Hold();
  hub.time.RunReady();
  ASSERT_EQ(journal.held(), 1);  // The target set.
  const int64_t commits = hub.engine().Stats().journal_commit.count();
  // What is under way is not there yet; a try that fails is none.
  hub.time.Advance(absl::Milliseconds(70));
  EXPECT_EQ(hub.engine().Stats().journal_commit.count(), commits);
  journal.ReleaseRound();
  const LatencyCounts after = hub.engine().Stats().journal_commit;
  EXPECT_EQ(after.count(), commits + 1);
  EXPECT_NEAR(after.sum_seconds, 0.070, 1e-9);
  journal.ReleaseAll();
  hub.Finish("j");
}

// What the journal never took is not counted, as it is not shown.
TEST(EngineStats, WhatIsNotDurableIsNotCounted) {
  ManualJournal journal;
  Hub hub({.journal = &journal});
  hub.AddDevice("d");
  hub.devices().SetHandler("reboot", [](const LoopbackCall&) {
    return LoopbackReply{.delay = absl::Seconds(1)};
  });
  ASSERT_TRUE(hub.engine().CreateJob(Method("j")).ok());
  hub.time.RunReady();
  EXPECT_EQ(hub.engine().Stats().executions_in_flight, 1);
  journal.Hold();
  hub.time.Advance(absl::Seconds(2));
  ASSERT_EQ(journal.held(), 1);  // The outcome.
  EngineStats stats = hub.engine().Stats();
  EXPECT_EQ(stats.executions_in_flight, 1);
  EXPECT_EQ(stats.executions_ended.succeeded, 0);
  EXPECT_EQ(stats.execution_time.count(), 0);
  journal.ReleaseRound();
  stats = hub.engine().Stats();
  EXPECT_EQ(stats.executions_in_flight, 0);
  EXPECT_EQ(stats.executions_ended.succeeded, 1);
  EXPECT_EQ(stats.execution_time.count(), 1);
  journal.ReleaseAll();
  hub.Finish("j");
}

TEST(EngineStats, ARestartCountsWhatItDoesItself) {
  ForwardingJournal journal(
      {.retained_bytes_max = MemoryJournalOptions::kRetainAll});
  const EngineOptions options{.journal = &journal};
  {
    Hub hub(options);
    for (int i = 0; i < 5; ++i) hub.AddDevice(absl::StrCat("d", i), i < 3);
    hub.devices().SetHandler("reboot", [](const LoopbackCall& call) {
      LoopbackReply reply;
      reply.delay = call.device_id == "d0" ? absl::Seconds(1) : absl::Hours(1);
      return reply;
    });
    ASSERT_TRUE(hub.engine().CreateJob(Method("j")).ok());
    hub.time.Advance(absl::Seconds(2));
    EXPECT_EQ(Counts(hub.Get("j")), "5 / f0 s1 r2 p2");
  }
  Hub hub(options);
  hub.time.RunReady();
  // Two were under way: contract 2.12.
  EXPECT_EQ(Counts(hub.Get("j")), "5 / f2 s1 r0 p2");
  EngineStats stats = hub.engine().Stats();
  EXPECT_EQ(stats.jobs, Jobs({0, 0, 1, 0, 0, 0}));
  EXPECT_EQ(stats.executions_pending, 2);
  EXPECT_EQ(stats.executions_in_flight, 0);
  EXPECT_EQ(stats.executions_ended.succeeded, 0);
  EXPECT_EQ(stats.executions_ended.failed,
            (std::map<ErrorCode, int64_t>{{ErrorCode::kGatewayTimeout, 2}}));
  // How long they took nobody knows.
  EXPECT_EQ(stats.execution_time.count(), 0);
  hub.devices().SetHandler("reboot",
                           [](const LoopbackCall&) { return LoopbackReply(); });
  hub.devices().AddDevices({"d3", "d4"}, true);
  EXPECT_EQ(Counts(hub.Finish("j")), "5 / f2 s3 r0 p0");
  stats = hub.engine().Stats();
  EXPECT_EQ(stats.jobs, Jobs({0, 0, 0, 1, 0, 0}));
  EXPECT_EQ(stats.executions_ended.succeeded, 2);
  EXPECT_EQ(stats.execution_time.count(), 2);
  EXPECT_EQ(stats.first_dispatch.count(), 0);
  EXPECT_EQ(stats.executions_pending, 0);
}

}  // namespace
}  // namespace muster
