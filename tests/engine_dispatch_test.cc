// What a running job does beyond the scenario: waiting devices, limits, rates,
// full transports, late answers, erased devices, clocks, the journal.
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/journal/chunk.h"
#include "engine/journal/record.h"
#include "gtest/gtest.h"
#include "tests/forwarding_journal.h"
#include "tests/hub_fixture.h"

namespace muster {
namespace {

JobRequest Method(absl::string_view id, absl::string_view condition = "*") {
  JobRequest job;
  job.job_id = std::string(id);
  job.query_condition = std::string(condition);
  job.action = MethodAction{.method_name = "reboot"};
  return job;
}

JobRequest TwinUpdate(absl::string_view id, absl::string_view tags,
                      absl::string_view condition = "*") {
  JobRequest job;
  job.job_id = std::string(id);
  job.query_condition = std::string(condition);
  TwinUpdateAction action;
  action.patch.tags = *ParseJson(tags);
  job.action = action;
  return job;
}

LoopbackReply After(absl::Duration delay) {
  LoopbackReply reply;
  reply.delay = delay;
  return reply;
}

std::string Device(int i) { return absl::StrCat("d", 1000 + i); }

// ------------------------------------------------------------ offline devices

TEST(Waiting, ConnectTimeoutEndsItBeforeTheJob) {
  Hub hub;
  hub.AddDevice("on");
  hub.AddDevice("off", false);
  hub.AddDevice("back", false);
  JobRequest job = Method("j");
  std::get<MethodAction>(job.action).connect_timeout_seconds = 20;
  const absl::Time start = hub.time.Now();
  ASSERT_TRUE(hub.engine().CreateJob(job).ok());
  hub.time.Advance(absl::Seconds(19));
  EXPECT_EQ(Counts(hub.Get("j")), "3 / f0 s1 r0 p2");
  hub.devices().SetConnected("back", true);
  hub.time.RunReady();
  EXPECT_EQ(Counts(hub.Get("j")), "3 / f0 s2 r0 p1");
  const JobInfo done = hub.Finish("j");
  EXPECT_EQ(Counts(done), "3 / f1 s2 r0 p0");
  EXPECT_EQ(*done.end_time - start, absl::Seconds(20));
  EXPECT_EQ(hub.Record("j", "off").error_code, ErrorCode::kDeviceNotOnline);
}

TEST(Waiting, ADeviceThatDropsBeforeTheCallIsWaitedFor) {
  Hub hub;
  hub.AddDevice("d");
  int calls = 0;
  hub.devices().SetHandler("reboot", [&](const LoopbackCall& call) {
    LoopbackReply reply;
    if (++calls == 1) {
      // The transport finds out only now.
      hub.devices().SetConnected("d", false);
      reply.code = OutcomeCode::kNotConnected;
    }
    return reply;
  });
  ASSERT_TRUE(hub.engine().CreateJob(Method("j")).ok());
  hub.time.Advance(absl::Seconds(1));
  EXPECT_EQ(Counts(hub.Get("j")), "1 / f0 s0 r0 p1");
  EXPECT_EQ(calls, 1);
  hub.devices().SetConnected("d", true);
  EXPECT_EQ(Counts(hub.Finish("j")), "1 / f0 s1 r0 p0");
  EXPECT_EQ(calls, 2);
}

TEST(Waiting, AnErasedDeviceIsNotWaitedFor) {
  Hub hub;
  hub.AddDevice("gone", false);
  hub.AddDevice("stays", false);
  ASSERT_TRUE(hub.engine().CreateJob(Method("j")).ok());
  hub.time.Advance(absl::Seconds(1));
  ASSERT_TRUE(hub.engine().EraseTwin("gone").ok());
  hub.time.RunReady();
  EXPECT_EQ(Counts(hub.Get("j")), "2 / f1 s0 r0 p1");
  EXPECT_EQ(hub.Record("j", "gone").error_code, ErrorCode::kDeviceNotFound);
  // Another device in the same row, or the same one again, is another target.
  hub.AddDevice("new");
  hub.AddDevice("gone");
  hub.devices().SetConnected("stays", true);
  EXPECT_EQ(Counts(hub.Finish("j")), "2 / f1 s1 r0 p0");
  EXPECT_EQ(hub.Record("j", "gone").status, ExecutionStatus::kFailed);
  EXPECT_EQ(hub.devices().calls().size(), 1);
}

TEST(Waiting, DisabledMeanwhile) {
  Hub hub;
  hub.AddDevice("d", false);
  ASSERT_TRUE(hub.engine().CreateJob(Method("j")).ok());
  hub.time.Advance(absl::Seconds(1));
  ASSERT_TRUE(hub.engine().SetTwinEnabled("d", false).ok());
  EXPECT_EQ(Counts(hub.Finish("j")), "1 / f1 s0 r0 p0");
  EXPECT_EQ(hub.Record("j", "d").error_code, ErrorCode::kDeviceNotFound);
}

TEST(Waiting, WithoutATransportEveryoneIsOffline) {
  SimulatedExecutor time;
  auto engine = *Engine::Create({.clock = &time, .executor = &time});
  ASSERT_TRUE(engine->UpsertTwin(R"({"deviceId":"d"})").ok());
  ASSERT_TRUE(engine->CreateJob(Method("m")).ok());
  ASSERT_TRUE(engine->CreateJob(TwinUpdate("t", R"({"a":1})")).ok());
  time.Advance(absl::Seconds(1));
  EXPECT_EQ(engine->GetJob("t")->status, JobStatus::kCompleted);
  EXPECT_EQ(Counts(*engine->GetJob("m")), "1 / f0 s0 r0 p1");
}

// ------------------------------------------------------------------ outcomes

TEST(Outcomes, EachCodeAndWhatItMeans) {
  struct Case {
    OutcomeCode code;
    ErrorCode error;
  };
  const Case cases[] = {
      {OutcomeCode::kNoHandler, ErrorCode::kDeviceNotOnline},
      {OutcomeCode::kNoSuchDevice, ErrorCode::kDeviceNotFound},
      {OutcomeCode::kBusy, ErrorCode::kDeviceMaximumInflightMethodExceeded},
      {OutcomeCode::kBadResponse, ErrorCode::kInvalidResponseWhileProxying},
      {OutcomeCode::kResponseTooLarge, ErrorCode::kMessageTooLarge},
      {OutcomeCode::kLinkLost, ErrorCode::kGatewayTimeout},
      {OutcomeCode::kTimeout, ErrorCode::kGatewayTimeout},
      {OutcomeCode::kError, ErrorCode::kServerError},
  };
  for (const Case& c : cases) {
    Hub hub;
    hub.AddDevice("d");
    hub.devices().SetHandler("reboot", [&](const LoopbackCall&) {
      LoopbackReply reply;
      reply.code = c.code;
      return reply;
    });
    ASSERT_TRUE(hub.engine().CreateJob(Method("j")).ok());
    EXPECT_EQ(Counts(hub.Finish("j")), "1 / f1 s0 r0 p0");
    const ExecutionRecord record = hub.Record("j", "d");
    EXPECT_EQ(record.error_code, c.error) << static_cast<int>(c.code);
    EXPECT_FALSE(record.error_description.empty());
    EXPECT_FALSE(record.response.has_value());
  }
}

TEST(Outcomes, ALateAnswerIsDroppedAndCounted) {
  Hub hub;
  hub.AddDevice("d");
  hub.devices().SetHandler(
      "reboot", [](const LoopbackCall&) { return After(absl::Seconds(40)); });
  ASSERT_TRUE(hub.engine().CreateJob(Method("j")).ok());
  EXPECT_EQ(Counts(hub.Finish("j")), "1 / f1 s0 r0 p0");
  EXPECT_EQ(hub.engine().Stats().outcomes_dropped, 0);
  hub.time.Advance(absl::Seconds(60));
  EXPECT_EQ(Counts(hub.Get("j")), "1 / f1 s0 r0 p0");
  EXPECT_EQ(hub.Record("j", "d").error_code, ErrorCode::kGatewayTimeout);
  EXPECT_EQ(hub.engine().Stats().outcomes_dropped, 1);
}

TEST(Outcomes, RecordsTellWhenAndHow) {
  Hub hub;
  hub.AddDevice("d");
  hub.devices().SetHandler("reboot", [](const LoopbackCall&) {
    LoopbackReply reply = After(absl::Milliseconds(1200));
    reply.payload = R"({"locked":true})";
    return reply;
  });
  const absl::Time t = hub.time.Now();
  ASSERT_TRUE(hub.engine().CreateJob(Method("j")).ok());
  hub.time.Advance(absl::Milliseconds(500));
  const ExecutionRecord running = hub.Record("j", "d");
  EXPECT_EQ(running.status, ExecutionStatus::kRunning);
  EXPECT_EQ(running.start_time, t);
  EXPECT_FALSE(running.end_time.has_value());
  hub.Finish("j");
  const ExecutionRecord done = hub.Record("j", "d");
  EXPECT_EQ(done.created_time, t);
  EXPECT_EQ(done.start_time, t);
  EXPECT_EQ(done.end_time, t + absl::Milliseconds(1200));
  EXPECT_EQ(done.last_updated_time, t + absl::Milliseconds(1200));
  EXPECT_EQ(done.response->payload, R"({"locked":true})");
}

// ------------------------------------------------------------ limits and rates

TEST(Limits, TenMethodsInFlightPerDevice) {
  Hub hub;
  hub.AddDevice("d");
  hub.devices().SetHandler(
      "reboot", [](const LoopbackCall&) { return After(absl::Seconds(5)); });
  for (int i = 0; i < 12; ++i) {
    ASSERT_TRUE(hub.engine().CreateJob(Method(absl::StrCat("j", i))).ok());
  }
  hub.time.Advance(absl::Seconds(1));
  int refused = 0;
  for (int i = 0; i < 12; ++i) {
    refused += hub.Record(absl::StrCat("j", i), "d").error_code ==
               ErrorCode::kDeviceMaximumInflightMethodExceeded;
  }
  EXPECT_EQ(refused, 2);
  hub.time.Advance(absl::Seconds(10));
  ASSERT_TRUE(hub.engine().CreateJob(Method("after")).ok());
  EXPECT_EQ(Counts(hub.Finish("after")), "1 / f0 s1 r0 p0");
}

TEST(Limits, AFullTransportIsOfferedTheRestLater) {
  LoopbackOptions devices;
  devices.send_window = 7;
  devices.latency.value = absl::Milliseconds(10);
  Hub hub({.range_rows_max = 32}, devices);
  for (int i = 0; i < 300; ++i) hub.AddDevice(Device(i));
  ASSERT_TRUE(hub.engine().CreateJob(Method("j")).ok());
  hub.time.Advance(absl::Milliseconds(25));
  EXPECT_LE(hub.Get("j").statistics->running_count, 7);
  EXPECT_EQ(Counts(hub.Finish("j")), "300 / f0 s300 r0 p0");
  std::set<std::string> called;
  for (const LoopbackCallRecord& call : hub.devices().calls()) {
    EXPECT_TRUE(called.insert(call.device_id).second) << call.device_id;
  }
  EXPECT_EQ(called.size(), 300);
  EXPECT_EQ(hub.engine().Stats().executions_dispatched, 300);
  EXPECT_EQ(hub.engine().Stats().outcomes_dropped, 0);
}

// Contract 9.3: the example of the consequence.
TEST(Pacing, ATwinJobOnS1TakesItsTime) {
  Hub hub({.profile = *FindProfile("s1")});
  for (int i = 0; i < 1000; ++i) hub.AddTwin(Device(i));
  JobRequest job = TwinUpdate("j", R"({"a":1})");
  job.max_execution_time_seconds = 60;
  ASSERT_TRUE(hub.engine().CreateJob(job).ok());
  const JobInfo done = hub.Finish("j");
  EXPECT_EQ(done.status, JobStatus::kCompleted);
  // A second's worth at once, and 10/s for a minute.
  EXPECT_GE(done.statistics->succeeded_count, 600);
  EXPECT_LE(done.statistics->succeeded_count, 610);
  int timed_out = 0;
  for (const ExecutionRecord& record : hub.Records("j")) {
    if (record.error_code == ErrorCode::kRequestTimedOut) ++timed_out;
  }
  EXPECT_EQ(timed_out, done.statistics->failed_count);
}

TEST(Pacing, TwoJobsShareTheRate) {
  Profile profile = *FindProfile("s2");
  Hub hub({.profile = profile});
  for (int i = 0; i < 500; ++i) hub.AddDevice(Device(i));
  ASSERT_TRUE(hub.engine().CreateJob(Method("a")).ok());
  ASSERT_TRUE(hub.engine().CreateJob(Method("b")).ok());
  hub.time.Advance(absl::Seconds(30));
  const int64_t a = hub.Get("a").statistics->succeeded_count;
  const int64_t b = hub.Get("b").statistics->succeeded_count;
  EXPECT_GE(a + b, 305);
  EXPECT_LE(a + b, 310);
  EXPECT_LE(std::abs(a - b), 12) << a << " and " << b;
}

TEST(Pacing, JobsShareTheRateByWeight) {
  Hub hub({.profile = *FindProfile("s2")});
  for (int i = 0; i < 1000; ++i) hub.AddDevice(Device(i));
  JobRequest light = Method("light"), heavy = Method("heavy");
  heavy.weight = 300;
  ASSERT_TRUE(hub.engine().CreateJob(light).ok());
  ASSERT_TRUE(hub.engine().CreateJob(heavy).ok());
  hub.time.Advance(absl::Seconds(60));
  const double ratio =
      static_cast<double>(hub.Get("heavy").statistics->succeeded_count) /
      static_cast<double>(hub.Get("light").statistics->succeeded_count);
  EXPECT_GE(ratio, 2.6);
  EXPECT_LE(ratio, 3.4);
  EXPECT_EQ(hub.Get("heavy").weight, 300);
}

TEST(Pacing, AnEmergencyGoesFirst) {
  Hub hub({.profile = *FindProfile("s2")});
  for (int i = 0; i < 1000; ++i) hub.AddDevice(Device(i));
  ASSERT_TRUE(hub.engine().CreateJob(Method("normal")).ok());
  JobRequest low = Method("low"), emergency = Method("emergency");
  low.priority = JobPriority::kLow;
  emergency.priority = JobPriority::kEmergency;
  ASSERT_TRUE(hub.engine().CreateJob(low).ok());
  hub.time.Advance(absl::Seconds(10));
  const int64_t before = hub.Get("normal").statistics->succeeded_count;
  EXPECT_GT(before, 90);
  // Somebody's turn at the tokens may be under way.
  EXPECT_LE(hub.Get("low").statistics->succeeded_count, 2);
  ASSERT_TRUE(hub.engine().CreateJob(emergency).ok());
  hub.time.Advance(absl::Seconds(20));
  EXPECT_LE(hub.Get("normal").statistics->succeeded_count, before + 2);
  EXPECT_GE(hub.Get("emergency").statistics->succeeded_count, 195);
  EXPECT_EQ(hub.Get("emergency").priority, JobPriority::kEmergency);
}

// Slices whose turn gives nothing to do must not keep the others from theirs.
TEST(Pacing, NobodyIsForgottenWhoWaitsForTokens) {
  Hub hub({.profile = *FindProfile("s1")});
  for (int i = 0; i < 400; ++i) hub.AddDevice(Device(i), i % 4 == 0);
  ASSERT_TRUE(hub.engine().CreateJob(Method("j")).ok());
  hub.time.Advance(absl::Milliseconds(9'100));
  EXPECT_EQ(Counts(hub.Get("j")), "400 / f0 s100 r0 p300");
}

TEST(Pacing, OnlyWhatRunsTakesTokens) {
  Hub hub({.profile = *FindProfile("s1")});
  for (int i = 0; i < 200; ++i) hub.AddDevice(Device(i), false);
  for (int i = 200; i < 210; ++i) hub.AddDevice(Device(i));
  ASSERT_TRUE(hub.engine().CreateJob(Method("j")).ok());
  hub.time.Advance(absl::Seconds(2));
  EXPECT_EQ(Counts(hub.Get("j")), "210 / f0 s10 r0 p200");
}

TEST(Deadline, EachStateHasItsOwnEnd) {
  Hub hub({.profile = *FindProfile("s1")});
  hub.devices().SetHandler(
      "reboot", [](const LoopbackCall&) { return LoopbackReply::Never(); });
  for (int i = 0; i < 100; ++i) hub.AddDevice(Device(i), i % 2 == 0);
  JobRequest job = Method("j");
  job.max_execution_time_seconds = 3;
  ASSERT_TRUE(hub.engine().CreateJob(job).ok());
  const JobInfo done = hub.Finish("j");
  EXPECT_EQ(Counts(done), "100 / f100 s0 r0 p0");
  std::map<ErrorCode, int> codes;
  for (const ExecutionRecord& record : hub.Records("j")) {
    ++codes[record.error_code];
    EXPECT_EQ(*record.end_time, *done.end_time);
  }
  EXPECT_EQ(codes[ErrorCode::kDeviceNotOnline], 50);
  const int sent = static_cast<int>(hub.devices().calls().size());
  EXPECT_GT(sent, 20);
  EXPECT_EQ(codes[ErrorCode::kGatewayTimeout], sent);
  EXPECT_EQ(codes[ErrorCode::kRequestTimedOut], 50 - sent);
}

// -------------------------------------------------------------------- cancel

TEST(CancelRunning, PendingOnesAreCanceledAndSentOnesFinish) {
  Hub hub;
  hub.AddDevice("on");
  hub.AddDevice("off", false);
  hub.devices().SetHandler(
      "reboot", [](const LoopbackCall&) { return After(absl::Seconds(5)); });
  ASSERT_TRUE(hub.engine().CreateJob(Method("j")).ok());
  hub.time.Advance(absl::Seconds(1));
  auto cancelled = hub.engine().CancelJob("j", {.cancel_running = true});
  ASSERT_TRUE(cancelled.ok()) << cancelled.status();
  EXPECT_EQ(cancelled->status, JobStatus::kRunning);
  hub.time.RunReady();
  EXPECT_EQ(Counts(hub.Get("j")), "2 / f1 s0 r1 p0");
  // Once more changes nothing.
  EXPECT_TRUE(hub.engine().CancelJob("j", {.cancel_running = true}).ok());
  const JobInfo done = hub.Finish("j");
  EXPECT_EQ(done.status, JobStatus::kCancelled);
  EXPECT_EQ(Counts(done), "2 / f1 s1 r0 p0");
  EXPECT_EQ(hub.Record("j", "off").status, ExecutionStatus::kCanceled);
  EXPECT_EQ(hub.Record("j", "on").status, ExecutionStatus::kCompleted);
}

TEST(CancelRunning, TheLimitStillHolds) {
  Hub hub;
  hub.AddDevice("on");
  hub.devices().SetHandler(
      "reboot", [](const LoopbackCall&) { return LoopbackReply::Never(); });
  JobRequest job = Method("j");
  job.max_execution_time_seconds = 10;
  ASSERT_TRUE(hub.engine().CreateJob(job).ok());
  hub.time.Advance(absl::Seconds(1));
  ASSERT_TRUE(hub.engine().CancelJob("j", {.cancel_running = true}).ok());
  const JobInfo done = hub.Finish("j");
  EXPECT_EQ(done.status, JobStatus::kCancelled);
  EXPECT_EQ(*done.end_time - done.created_time, absl::Seconds(10));
}

TEST(CancelRunning, UnknownAndEndedJobs) {
  Hub hub;
  EXPECT_EQ(
      ErrorCodeOf(
          hub.engine().CancelJob("no", {.cancel_running = true}).status()),
      ErrorCode::kJobNotFound);
  ASSERT_TRUE(hub.engine().CreateJob(Method("j")).ok());
  hub.Finish("j");
  EXPECT_EQ(ErrorCodeOf(
                hub.engine().CancelJob("j", {.cancel_running = true}).status()),
            ErrorCode::kOperationNotAllowedInCurrentState);
}

// ------------------------------------------------------------ slots and clocks

TEST(Admission, ACancelledDueJobGivesItsPlaceBack) {
  Hub hub({.profile = *FindProfile("s1"),
           .on_active_limit = ActiveLimitPolicy::kQueue});
  hub.AddDevice("d", false);
  ASSERT_TRUE(hub.engine().CreateJob(Method("one")).ok());
  hub.time.Advance(absl::Seconds(1));
  ASSERT_TRUE(hub.engine().CreateJob(Method("two")).ok());
  hub.time.Advance(absl::Seconds(1));
  ASSERT_TRUE(hub.engine().CreateJob(Method("three")).ok());
  hub.time.Advance(absl::Seconds(1));
  EXPECT_EQ(hub.engine().CancelJob("two")->status, JobStatus::kCancelled);
  hub.devices().SetConnected("d", true);
  hub.time.RunReady();
  EXPECT_EQ(hub.Status("one"), JobStatus::kCompleted);
  EXPECT_EQ(hub.Status("three"), JobStatus::kCompleted);
  EXPECT_EQ(hub.Status("two"), JobStatus::kCancelled);
}

TEST(Clocks, AStartInTheYear2050) {
  Hub hub;
  for (int i = 0; i < 10; ++i) hub.AddDevice(Device(i));
  JobRequest job = Method("j");
  job.start_time = absl::FromCivil(absl::CivilSecond(2050, 3, 1, 12, 0, 0),
                                   absl::UTCTimeZone());
  ASSERT_TRUE(hub.engine().CreateJob(job).ok());
  hub.time.Advance(*job.start_time - hub.time.Now() - absl::Milliseconds(1));
  EXPECT_EQ(hub.Get("j").status, JobStatus::kScheduled);
  hub.time.Advance(absl::Milliseconds(1));
  EXPECT_EQ(Counts(hub.Get("j")), "10 / f0 s10 r0 p0");
}

TEST(Clocks, AStepOfTheWallClockMovesStartsButNoLimits) {
  Hub hub;
  hub.AddDevice("d", false);
  JobRequest job = Method("j");
  job.start_time = hub.time.Now() + absl::Hours(1);
  job.max_execution_time_seconds = 60;
  ASSERT_TRUE(hub.engine().CreateJob(job).ok());
  hub.time.Advance(absl::Minutes(1));
  EXPECT_EQ(hub.Status("j"), JobStatus::kScheduled);
  // Back: the start is as far away as the wall clock says, not before.
  hub.time.StepWallClock(-absl::Minutes(30));
  hub.time.Advance(absl::Minutes(60));
  EXPECT_EQ(hub.Status("j"), JobStatus::kScheduled);
  hub.time.Advance(absl::Minutes(29));
  EXPECT_EQ(hub.Status("j"), JobStatus::kRunning);
  // A day ahead while it runs: the limit is 60 seconds of running.
  hub.time.StepWallClock(absl::Hours(24));
  hub.time.Advance(absl::Seconds(55));
  EXPECT_EQ(hub.Status("j"), JobStatus::kRunning);
  hub.time.Advance(absl::Seconds(5));
  EXPECT_EQ(hub.Status("j"), JobStatus::kCompleted);
}

// ------------------------------------------------------------- reading,
// watching

TEST(Records, ByPagesInOrderAndByDevice) {
  Hub hub;
  for (int i = 0; i < 50; ++i) hub.AddDevice(Device(i));
  for (absl::string_view id : {"b", "a"}) {
    ASSERT_TRUE(hub.engine().CreateJob(Method(id)).ok());
    hub.Finish(id);
  }
  const auto rows = hub.Query("SELECT * FROM devices.jobs", 7);
  ASSERT_EQ(rows.size(), 100);
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(absl::StartsWith(
        rows[i], absl::StrCat("{\"deviceId\":\"", Device(i / 2),
                              "\",\"jobId\":\"", i % 2 == 0 ? "a" : "b")))
        << rows[i];
  }
  EXPECT_EQ(hub.Query("SELECT TOP 5 * FROM devices.jobs", 2).size(), 5);
  EXPECT_EQ(hub.Query(absl::StrCat("SELECT * FROM devices.jobs WHERE "
                                   "deviceId IN ['",
                                   Device(3), "','x']"))
                .size(),
            2);
  // Records outlive their device.
  ASSERT_TRUE(hub.engine().EraseTwin(Device(3)).ok());
  EXPECT_EQ(hub.Query(absl::StrCat("SELECT * FROM devices.jobs WHERE "
                                   "deviceId = '",
                                   Device(3), "' AND jobId = 'a'"))
                .size(),
            1);
  EXPECT_TRUE(
      hub.Query("SELECT * FROM devices.jobs WHERE status = 'failed'").empty());
}

TEST(Watch, TellsTheLatestAndTheEnd) {
  Hub hub;
  for (int i = 0; i < 5; ++i) hub.AddDevice(Device(i), i < 3);
  std::vector<std::string> seen;
  ASSERT_TRUE(hub.engine().CreateJob(Method("j")).ok());
  auto watch = hub.engine().WatchJob("j", [&](const JobInfo& job) {
    seen.push_back(absl::StrCat(JobStatusName(job.status), " ", Counts(job)));
  });
  ASSERT_TRUE(watch.ok());
  hub.time.Advance(absl::Seconds(1));
  ASSERT_FALSE(seen.empty());
  EXPECT_EQ(seen.back(), "running 5 / f0 s3 r0 p2");
  for (int i = 3; i < 5; ++i) hub.devices().SetConnected(Device(i), true);
  hub.time.Advance(absl::Seconds(1));
  EXPECT_EQ(seen.back(), "completed 5 / f0 s5 r0 p0");
  const size_t told = seen.size();
  hub.time.Advance(absl::Hours(1));
  EXPECT_EQ(seen.size(), told);
  EXPECT_EQ(std::count(seen.begin(), seen.end(), seen.back()), 1);
}

TEST(Watch, EndsWithItsHandle) {
  Hub hub;
  hub.AddDevice("d", false);
  ASSERT_TRUE(hub.engine().CreateJob(Method("j")).ok());
  int told = 0;
  {
    auto watch = hub.engine().WatchJob("j", [&](const JobInfo&) { ++told; });
    hub.time.Advance(absl::Seconds(1));
  }
  const int before = told;
  EXPECT_GT(before, 0);
  hub.devices().SetConnected("d", true);
  hub.Finish("j");
  EXPECT_EQ(told, before);
  EXPECT_EQ(
      ErrorCodeOf(hub.engine().WatchJob("x", [](const JobInfo&) {}).status()),
      ErrorCode::kJobNotFound);
}

// ------------------------------------------------------------------- journal

// What the journal says is what the engine says: the statistics of a job are
// the last states of its ranks (I8), each ends once (I9), and nobody is called
// before that is on record (I11).
TEST(JournalTruth, StatisticsFollowFromTheRecords) {
  auto journal =
      *MakeMemoryJournal({.partition_count = 4, .retained_bytes_max = 1 << 30});
  LoopbackOptions devices;
  devices.send_window = 50;
  devices.latency.value = absl::Milliseconds(3);
  devices.no_answer_share = 0.1;
  devices.busy_share = 0.1;
  devices.offline_share = 0.2;
  devices.reconnect_min = absl::Seconds(1);
  devices.reconnect_max = absl::Seconds(90);
  Hub hub({.journal = journal.get(), .range_rows_max = 16}, devices);
  std::vector<std::string> ids;
  for (int i = 0; i < 2000; ++i) {
    ids.push_back(Device(i));
    hub.AddTwin(ids.back());
  }
  hub.devices().AddDevices(
      std::vector<absl::string_view>(ids.begin(), ids.end()));
  hub.time.RunReady();
  JobRequest method = Method("method");
  method.max_execution_time_seconds = 60;
  ASSERT_TRUE(hub.engine().CreateJob(method).ok());
  ASSERT_TRUE(hub.engine().CreateJob(TwinUpdate("twin", R"({"a":1})")).ok());
  hub.Finish("method");
  hub.Finish("twin");

  struct Book {
    std::string id;
    int64_t targets = 0;
    bool started = false;
    bool ended = false;
    // By slice and rank: times dispatched less times returned, and the end.
    std::map<std::pair<int, int>, int> dispatched;
    std::map<std::pair<int, int>, ExecutionStatus> finished;
    std::map<std::pair<int, int>, ExecutionStatus> results;
  };
  std::map<uint64_t, Book> books;
  for (int partition = 0; partition < 4; ++partition) {
    const auto status =
        ReadChunks(*journal, partition, [&](absl::string_view records) {
          return ReadRecords(records, [&](const Record& record) {
            if (auto* r = std::get_if<JobCreatedRecord>(&record)) {
              books[r->job].id = r->job_id;
            } else if (auto* r = std::get_if<TargetsRecord>(&record)) {
              books[r->job].targets += r->rows.size();
            } else if (auto* r = std::get_if<JobStartedRecord>(&record)) {
              books[r->job].started = true;
            } else if (auto* r = std::get_if<DispatchedRecord>(&record)) {
              for (int rank : r->ranks) {
                EXPECT_EQ((++books[r->job].dispatched[{r->slice, rank}]), 1);
              }
            } else if (auto* r = std::get_if<ReturnedRecord>(&record)) {
              for (const auto& [rank, attempt] : r->entries) {
                EXPECT_EQ((--books[r->job].dispatched[{r->slice, rank}]), 0);
              }
            } else if (auto* r = std::get_if<ResultRecord>(&record)) {
              books[r->job].results[{r->slice, r->number}] =
                  static_cast<ExecutionStatus>(r->status);
            } else if (auto* r = std::get_if<FinishedRecord>(&record)) {
              Book& book = books[r->job];
              for (const auto& entry : r->entries) {
                EXPECT_TRUE(book.results.contains({r->slice, entry.result}));
                EXPECT_TRUE(book.finished
                                .emplace(std::make_pair(r->slice, entry.rank),
                                         book.results[{r->slice, entry.result}])
                                .second);
              }
            } else if (auto* r = std::get_if<JobEndedRecord>(&record)) {
              books[r->job].ended = true;
            }
            return absl::OkStatus();
          });
        });
    ASSERT_TRUE(status.ok()) << status.status();
  }
  ASSERT_EQ(books.size(), 2);
  for (const auto& [serial, book] : books) {
    const JobInfo job = hub.Get(book.id);
    int64_t succeeded = 0;
    for (const auto& [rank, status] : book.finished) {
      succeeded += status == ExecutionStatus::kCompleted;
    }
    EXPECT_TRUE(book.started);
    EXPECT_TRUE(book.ended);
    EXPECT_EQ(book.targets, 2000);
    EXPECT_EQ(static_cast<int64_t>(book.finished.size()), book.targets);
    EXPECT_EQ(job.statistics->succeeded_count, succeeded) << book.id;
    EXPECT_EQ(job.statistics->failed_count, book.targets - succeeded);
    if (job.type() == JobType::kDeviceMethod) {
      int64_t sent = 0;
      for (const auto& [rank, times] : book.dispatched) sent += times;
      EXPECT_EQ(sent, hub.engine().Stats().executions_dispatched - 2000);
      EXPECT_GT(job.statistics->failed_count, 100);
    }
  }
}

// Refuses everything after so many appends, as a journal does whose partitions
// somebody else has acquired.
class FailingJournal : public ForwardingJournal {
 public:
  explicit FailingJournal(int appends) : left_(appends) {}
  void Append(int partition, uint64_t epoch, uint64_t sequence,
              std::string chunk, Done done) override {
    if (left_ == 0) {
      std::move(done)(absl::FailedPreconditionError("fenced"));
      return;
    }
    --left_;
    ForwardingJournal::Append(partition, epoch, sequence, std::move(chunk),
                              std::move(done));
  }
  void set_left(int left) { left_ = left; }

 private:
  int left_;
};

TEST(JournalFailure, WhatItRefusesIsNotAcknowledged) {
  FailingJournal journal(1'000);
  Hub hub({.journal = &journal});
  hub.AddDevice("d");
  journal.set_left(0);
  auto created = hub.engine().CreateJob(Method("j"));
  EXPECT_EQ(ErrorCodeOf(created.status()), ErrorCode::kServiceUnavailable);
  EXPECT_TRUE(absl::StrContains(created.status().message(), "fenced"));
  EXPECT_EQ(ErrorCodeOf(hub.engine().GetJob("j").status()),
            ErrorCode::kJobNotFound);
  EXPECT_EQ(
      ErrorCodeOf(hub.engine().PatchTwin("d", R"({"tags":{"a":1}})").status()),
      ErrorCode::kServiceUnavailable);
  hub.time.Advance(absl::Seconds(1));
  EXPECT_TRUE(hub.devices().calls().empty());
  // It stays so when the journal would take it: records are missing.
  journal.set_left(1'000);
  EXPECT_EQ(ErrorCodeOf(hub.engine().CreateJob(Method("j")).status()),
            ErrorCode::kServiceUnavailable);
  EXPECT_TRUE(hub.engine().GetTwin("d").ok());
}

TEST(JournalFailure, NobodyIsCalledWithoutARecordOfIt) {
  FailingJournal journal(1'000);
  Hub hub({.journal = &journal});
  hub.AddDevice("d", false);
  ASSERT_TRUE(hub.engine().CreateJob(Method("j")).ok());
  hub.time.Advance(absl::Seconds(1));
  journal.set_left(0);
  hub.devices().SetConnected("d", true);
  hub.time.Advance(absl::Hours(2));
  EXPECT_TRUE(hub.devices().calls().empty());
  // It is another's now: here it stays as it was last shown.
  const JobInfo job = hub.Get("j");
  EXPECT_EQ(job.status, JobStatus::kRunning);
  EXPECT_EQ(Counts(job), "1 / f0 s0 r0 p1");
  EXPECT_EQ(hub.engine().WaitJob("j").status().code(),
            absl::StatusCode::kCancelled);
  EXPECT_TRUE(absl::IsFailedPrecondition(hub.engine().Health()));
}

// -------------------------------------------------------------------- engine

TEST(EngineOptionsTest, BadOnesAreNamed) {
  struct Case {
    EngineOptions options;
    std::string message;
  };
  const Case cases[] = {
      {{.threads = 0}, "threads must be in [1, 256]; got 0"},
      {{.range_rows_max = 1025},
       "range_rows_max must be in [1, 1024]; got 1025"},
      {{.jobs_retained_max = 0}, "jobs_retained_max must be in"},
      {{.slices_retained_max = 0}, "slices_retained_max must be in"},
      {{.twin_count_max = -1}, "twin_count_max must be in"},
      {{.profile = {.active_jobs_max = 0}}, "profile.active_jobs_max must be"},
  };
  for (const Case& c : cases) {
    const auto engine = Engine::Create(c.options);
    EXPECT_EQ(engine.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_TRUE(absl::StrContains(engine.status().message(), c.message))
        << engine.status();
  }
}

TEST(EngineLimits, Weights) {
  Hub hub;
  for (int weight : {-1, 0, 1001}) {
    JobRequest job = Method("j");
    job.weight = weight;
    const absl::Status status = hub.engine().CreateJob(job).status();
    EXPECT_EQ(ErrorCodeOf(status), ErrorCode::kArgumentInvalid) << weight;
    EXPECT_EQ(status.message(),
              absl::StrCat("weight must be in [1, 1000]; got ", weight));
  }
}

TEST(EngineLimits, JobsRetained) {
  Hub hub({.jobs_retained_max = 2});
  ASSERT_TRUE(hub.engine().CreateJob(Method("a")).ok());
  ASSERT_TRUE(hub.engine().CreateJob(Method("b")).ok());
  hub.Finish("a");
  EXPECT_EQ(ErrorCodeOf(hub.engine().CreateJob(Method("c")).status()),
            ErrorCode::kThrottlingException);
  hub.time.Advance(absl::Hours(24 * 31));
  EXPECT_TRUE(hub.engine().CreateJob(Method("c")).ok());
}

TEST(EngineLimits, SlicesRetained) {
  Hub hub({.slices_retained_max = 20});
  for (int i = 0; i < 200; ++i) hub.AddDevice(Device(i));
  // A slice in each of 16 partitions, and one.
  ASSERT_TRUE(hub.engine().CreateJob(Method("a")).ok());
  EXPECT_EQ(hub.Finish("a").status, JobStatus::kCompleted);
  ASSERT_TRUE(hub.engine().CreateJob(Method("b")).ok());
  const JobInfo refused = hub.Finish("b");
  EXPECT_EQ(refused.status, JobStatus::kFailed);
  EXPECT_NE(refused.failure_reason.find("at most 20 slices"), std::string::npos)
      << refused.failure_reason;
  JobRequest one = Method("c");
  one.query_condition = absl::StrCat("deviceId = '", Device(7), "'");
  ASSERT_TRUE(hub.engine().CreateJob(one).ok());
  EXPECT_EQ(hub.Finish("c").status, JobStatus::kCompleted);
  hub.time.Advance(absl::Hours(24 * 31));
  ASSERT_TRUE(hub.engine().CreateJob(Method("d")).ok());
  EXPECT_EQ(Counts(hub.Finish("d")), "200 / f0 s200 r0 p0");
}

TEST(EngineTest, TwoEnginesShareNothing) {
  Hub one, two;
  one.AddDevice("d");
  two.AddDevice("d");
  two.AddDevice("e");
  ASSERT_TRUE(one.engine().CreateJob(Method("j")).ok());
  ASSERT_TRUE(two.engine().CreateJob(Method("j")).ok());
  EXPECT_EQ(Counts(one.Finish("j")), "1 / f0 s1 r0 p0");
  EXPECT_EQ(Counts(two.Finish("j")), "2 / f0 s2 r0 p0");
}

TEST(EngineTest, StopsInTheMiddleOfAJob) {
  Hub hub;
  for (int i = 0; i < 100; ++i) hub.AddDevice(Device(i));
  hub.devices().SetHandler(
      "reboot", [](const LoopbackCall&) { return After(absl::Seconds(5)); });
  ASSERT_TRUE(hub.engine().CreateJob(Method("j")).ok());
  hub.time.Advance(absl::Seconds(1));
  hub.engine().Stop();
  hub.engine().Stop();
  const JobInfo before = hub.Get("j");
  hub.time.Advance(absl::Hours(2));
  EXPECT_EQ(hub.Get("j").statistics, before.statistics);
}

TEST(EngineTest, ManyShardsAndPartitions) {
  Hub hub;
  for (int i = 0; i < 3'000; ++i) {
    hub.AddTwin(Device(i), absl::StrCat(R"("tags":{"n":)", i, "}"));
  }
  ASSERT_TRUE(hub.engine()
                  .CreateJob(TwinUpdate("t", R"({"x":1})", "tags.n < 1000"))
                  .ok());
  EXPECT_EQ(Counts(hub.Finish("t")), "1000 / f0 s1000 r0 p0");
  EXPECT_EQ(hub.Query("SELECT COUNT() AS n FROM devices WHERE tags.x = 1"),
            std::vector<std::string>{R"({"n":1000})"});
}

}  // namespace
}  // namespace muster
