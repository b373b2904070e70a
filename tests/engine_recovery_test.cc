// What an engine finds again (contract 2.12): twins, jobs and history after a
// stop and after a crash, by chunks alone and by snapshots.
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/model/error.h"
#include "engine/query/statement.h"
#include "gtest/gtest.h"
#include "tests/crashing_journal.h"
#include "tests/hub_fixture.h"
#include "tests/simulated/simulated_executor.h"
#include "transport/loopback/loopback.h"

namespace muster {
namespace {

class Recovery : public testing::TestWithParam<bool> {
 protected:
  Recovery() { Start(); }
  ~Recovery() override {
    if (engine != nullptr) engine->Stop();
  }

  void Start() {
    journal.crashed = false;
    LoopbackOptions loopback;
    loopback.record_calls = true;
    loopback.answer_unknown = false;
    devices = *LoopbackTransport::Create(loopback, &time, &time);
    if (handlers) SetHandlers();
    options.transport = devices.get();
    options.clock = &time;
    options.executor = &time;
    options.journal = &journal;
    absl::StatusOr<std::unique_ptr<Engine>> created = Engine::Create(options);
    ASSERT_TRUE(created.ok()) << created.status();
    engine = *std::move(created);
  }
  // "reboot": d3, d4 and d5 never answer, if they are called before a crash.
  void SetHandlers() {
    devices->SetHandler("reboot", [this](const LoopbackCall& call) {
      const bool silent =
          !handlers_are_new && call.device_id >= "d3" && call.device_id <= "d5";
      return silent ? LoopbackReply::Never() : LoopbackReply{.payload = "1"};
    });
    handlers_are_new = std::exchange(handlers, true);
  }
  // The process is gone from one moment to the next, and comes back; with
  // snapshots taken before, if the test's parameter says so.
  void Crash() {
    if (GetParam()) {
      ASSERT_TRUE(engine->WriteSnapshots().ok());
    }
    journal.crashed = true;
    engine.reset();
    devices.reset();
    Start();
  }
  void AddDevice(const std::string& id, bool connected = true) {
    ASSERT_TRUE(
        engine->UpsertTwin(absl::StrCat(R"({"deviceId":")", id, "\"}")).ok());
    Connect(id, connected);
  }
  void Connect(const std::string& id, bool connected = true) {
    devices->AddDevices({id}, connected);
    devices->SetConnected(id, connected);
    time.RunReady();
  }
  absl::Status Create(const std::string& id, Action action,
                      absl::Duration start_in = absl::ZeroDuration(),
                      int limit = 300, const std::string& condition = "*") {
    JobRequest job;
    job.job_id = id;
    job.query_condition = condition;
    job.action = std::move(action);
    job.start_time = time.Now() + start_in;
    job.max_execution_time_seconds = limit;
    return engine->CreateJob(job).status();
  }
  static Action Reboot() {
    return MethodAction{.method_name = "reboot",
                        .response_timeout_seconds = 30};
  }
  static Action Update(const std::string& desired) {
    TwinUpdateAction update;
    update.patch.desired = *ParseJson(desired);
    return update;
  }
  JobInfo Get(const std::string& id) {
    absl::StatusOr<JobInfo> job = engine->GetJob(id);
    MUSTER_CHECK(job.ok());
    Hub::CheckBooks(*job);
    return *std::move(job);
  }
  std::string Twin(const std::string& id) {
    absl::StatusOr<TwinSnapshot> twin = engine->GetTwin(id);
    return twin.ok() ? JsonText(twin->document.view())
                     : std::string(twin.status().message());
  }
  std::string Executions(const std::string& id) {
    std::string text;
    const absl::Status status =
        engine->ForEachExecution(id, [&](const ExecutionRecord& record) {
          AppendExecutionJson(record, &text);
          text += "\n";
        });
    EXPECT_TRUE(status.ok()) << status;
    return text;
  }

  EngineOptions options;
  bool handlers = false;
  bool handlers_are_new = false;
  SimulatedExecutor time;
  CrashingJournal journal;
  std::unique_ptr<LoopbackTransport> devices;
  std::unique_ptr<Engine> engine;
};

INSTANTIATE_TEST_SUITE_P(ChunksAndSnapshots, Recovery, testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "Snapshots" : "Chunks";
                         });

TEST_P(Recovery, RevisionsGrowOverARestart) {
  AddDevice("d1");
  AddDevice("d2", false);
  ASSERT_TRUE(
      Create("ended", Reboot(), absl::ZeroDuration(), 300, "deviceId = 'd1'")
          .ok());
  ASSERT_TRUE(Create("running", Reboot()).ok());
  ASSERT_TRUE(Create("scheduled", Reboot(), absl::Hours(1)).ok());
  time.RunReady();
  const std::string jobs[] = {"ended", "running", "scheduled"};
  std::map<std::string, int64_t> last;
  for (int restart = 0; restart < 3; ++restart) {
    for (const std::string& id : jobs) {
      const int64_t revision = Get(id).revision;
      EXPECT_GT(revision, last[id]) << id;
      last[id] = revision;
    }
    Crash();
    Connect("d1");
  }
  EXPECT_EQ(Get("ended").status, JobStatus::kCompleted);
  // And with what happens then.
  last["running"] = Get("running").revision;
  Connect("d2");
  EXPECT_EQ(Get("running").status, JobStatus::kCompleted);
  EXPECT_GT(Get("running").revision, last["running"]);
}

TEST_P(Recovery, EachChangeThatIsShownHasARevisionOfItsOwn) {
  AddDevice("d1");
  AddDevice("d2", false);
  ASSERT_TRUE(Create("j", Reboot(), absl::Minutes(1)).ok());
  std::vector<JobInfo> told;
  auto watch =
      *engine->WatchJob("j", [&](const JobInfo& job) { told.push_back(job); });
  const auto see = [&] {
    JobInfo job = Get("j");
    if (told.empty() || told.back().revision != job.revision) {
      told.push_back(std::move(job));
    }
  };
  // Every step of it, and twice between two of them.
  while (!IsTerminal(Get("j").status)) {
    see();
    if (!time.RunOne()) {
      time.FireDue(absl::Seconds(1));
      if (told.back().status == JobStatus::kRunning) {
        devices->SetConnected("d2", true);
      }
    }
  }
  see();
  EXPECT_EQ(told.front().status, JobStatus::kQueued);
  EXPECT_EQ(told.back().status, JobStatus::kCompleted);
  EXPECT_GE(told.size(), 6);
  const auto shown = [](const JobInfo& job) {
    return absl::StrCat(JobStatusName(job.status), " ", Counts(job));
  };
  for (size_t i = 1; i < told.size(); ++i) {
    EXPECT_GE(told[i].revision, told[i - 1].revision);
    EXPECT_EQ(told[i].revision == told[i - 1].revision,
              shown(told[i]) == shown(told[i - 1]))
        << shown(told[i]);
  }
}

TEST_P(Recovery, ABatchOfTwinsThatWasAcknowledgedIsThere) {
  std::vector<std::string> documents;
  for (int i = 0; i < 50; ++i) {
    documents.push_back(absl::StrCat(R"({"deviceId":"d)", i, "\"}"));
  }
  const absl::StatusOr<std::vector<absl::Status>> answers = engine->UpsertTwins(
      std::vector<absl::string_view>(documents.begin(), documents.end()));
  ASSERT_TRUE(answers.ok());
  Crash();
  for (int i = 0; i < 50; ++i) {
    EXPECT_TRUE((*answers)[static_cast<size_t>(i)].ok());
    EXPECT_TRUE(engine->GetTwin(absl::StrCat("d", i)).ok());
  }
}

TEST_P(Recovery, TwinsAreAsTheyWere) {
  for (int i = 0; i < 40; ++i) AddDevice(absl::StrCat("d", i), false);
  ASSERT_TRUE(engine
                  ->PatchTwin("d1", R"({"tags":{"floor":3},"properties":)"
                                    R"({"desired":{"a":{"b":1},"c":2}}})")
                  .ok());
  time.Advance(absl::Seconds(5));
  ASSERT_TRUE(
      engine->PatchTwin("d1", R"({"properties":{"desired":{"c":null}}})").ok());
  ASSERT_TRUE(engine->PatchReported("d1", R"({"fw":"1.2"})").ok());
  ASSERT_TRUE(engine->ReplaceTwin("d2", R"({"tags":{"x":[1,2]}})").ok());
  ASSERT_TRUE(engine->SetTwinEnabled("d3", false).ok());
  ASSERT_TRUE(engine->EraseTwin("d4").ok());
  ASSERT_TRUE(engine->EraseTwin("d5").ok());
  AddDevice("d5", false);
  AddDevice("new", false);
  std::vector<std::string> before;
  for (int i = 0; i < 40; ++i) before.push_back(Twin(absl::StrCat("d", i)));
  before.push_back(Twin("new"));
  for (int round = 0; round < 3; ++round) {
    Crash();
    for (int i = 0; i < 40; ++i) {
      EXPECT_EQ(Twin(absl::StrCat("d", i)), before[static_cast<size_t>(i)]);
    }
    EXPECT_EQ(Twin("new"), before.back());
    EXPECT_EQ(engine->Stats().twins, 40);
  }
  // And go on from there.
  ASSERT_TRUE(engine->PatchTwin("d1", R"({"tags":{"floor":4}})").ok());
  const std::string after = Twin("d1");
  Crash();
  EXPECT_EQ(Twin("d1"), after);
}

// V22.
TEST_P(Recovery, AMethodJobGoesOnAndCallsNobodyTwice) {
  // The first three answer, the next three never do, the others are not there.
  SetHandlers();
  for (int i = 0; i < 10; ++i) AddDevice(absl::StrCat("d", i), i < 6);
  ASSERT_TRUE(Create("j", Reboot()).ok());
  time.Advance(absl::Seconds(1));
  EXPECT_EQ(Counts(Get("j")), "10 / f0 s3 r3 p4");
  const std::string before = Executions("j");
  Crash();
  // What was under way has failed, the others wait.
  time.RunReady();
  EXPECT_EQ(Counts(Get("j")), "10 / f3 s3 r0 p4");
  EXPECT_NE(Executions("j"), before);
  for (int i = 0; i < 10; ++i) Connect(absl::StrCat("d", i));
  time.Advance(absl::Seconds(1));
  EXPECT_EQ(Counts(Get("j")), "10 / f3 s7 r0 p0");
  EXPECT_EQ(Get("j").status, JobStatus::kCompleted);
  EXPECT_EQ(devices->calls().size(), 4u);
  const std::string after = Executions("j");
  int timeouts = 0;
  EXPECT_TRUE(engine
                  ->ForEachExecution("j",
                                     [&](const ExecutionRecord& record) {
                                       timeouts += record.error_code ==
                                                   ErrorCode::kGatewayTimeout;
                                     })
                  .ok());
  EXPECT_EQ(timeouts, 3);
  Crash();
  EXPECT_EQ(Executions("j"), after);
  EXPECT_EQ(Get("j").status, JobStatus::kCompleted);
}

// The history of answered, failed and canceled executions is what it was; so is
// what the next attempt is called.
TEST_P(Recovery, HistoryIsReadAsBefore) {
  SetHandlers();
  for (int i = 0; i < 300; ++i) AddDevice(absl::StrCat("d", i));
  ASSERT_TRUE(Create("m", Reboot(), {}, 60).ok());
  ASSERT_TRUE(Create("t", Update(R"({"a":1})")).ok());
  time.Advance(absl::Seconds(20));
  devices->RemoveDevice("d7");
  ASSERT_TRUE(engine->EraseTwin("d8").ok());
  ASSERT_TRUE(engine->EraseTwin("d1").ok());
  time.Advance(absl::Seconds(50));
  EXPECT_EQ(Get("m").status, JobStatus::kCompleted);
  const std::string m = Executions("m");
  const std::string t = Executions("t");
  EXPECT_NE(m.find("\"deviceId\":\"d8\""), std::string::npos);
  const JobInfo info = Get("m");
  for (int round = 0; round < 2; ++round) {
    Crash();
    // The device's row may belong to another one by now.
    AddDevice(absl::StrCat("new", round), false);
    EXPECT_EQ(Executions("m"), m);
    EXPECT_EQ(Executions("t"), t);
    EXPECT_EQ(Get("m").end_time, info.end_time);
    EXPECT_EQ(Get("m").statistics, info.statistics);
    absl::StatusOr<TwinPage> page = engine->Query(
        "SELECT * FROM devices.jobs WHERE devices.jobs.deviceId = 'd1'");
    ASSERT_TRUE(page.ok());
    EXPECT_EQ(page->rows.size(), 2u);
  }
}

// What was reported before a clean stop counts, whether taken in or not.
TEST_P(Recovery, AStopLosesNoOutcome) {
  devices->SetHandler("reboot", [](const LoopbackCall& call) {
    LoopbackReply reply{.payload = "1"};
    if (call.device_id != "d0") reply.delay = absl::Seconds(2);
    return reply;
  });
  for (int i = 0; i < 3; ++i) AddDevice(absl::StrCat("d", i));
  ASSERT_TRUE(Create("j", Reboot()).ok());
  time.Advance(absl::Seconds(1));
  EXPECT_EQ(Counts(Get("j")), "3 / f0 s1 r2 p0");
  // The outcomes are there, and nobody has run since.
  time.FireDue(absl::Seconds(1));
  engine->Stop();
  engine.reset();
  devices.reset();
  Start();
  EXPECT_EQ(Counts(Get("j")), "3 / f0 s3 r0 p0");
  time.RunReady();
  EXPECT_EQ(Get("j").status, JobStatus::kCompleted);
}

// A request in C++ may be longer than a body of the hub, and its record is.
TEST_P(Recovery, TheLongestRequestComesBack) {
  options.validate_condition_on_create = false;
  Crash();
  const std::string condition(300'000, 'x');
  ASSERT_TRUE(
      Create("j", Update(R"({"a":1})"), absl::Hours(1), 300, condition).ok());
  Crash();
  EXPECT_EQ(Get("j").query_condition, condition);
}

// What could not be read back is not accepted.
TEST_P(Recovery, WhatIsNoTextIsRefused) {
  options.validate_condition_on_create = false;
  Crash();
  EXPECT_FALSE(
      Create("j", Update(R"({"a":1})"), absl::Hours(1), 300, "\xff").ok());
  Crash();
  EXPECT_FALSE(engine->GetJob("j").ok());
}

// Snapshots come in their time also if no run of the engine writes much.
TEST_P(Recovery, ManyShortRunsAreSnapshotToo) {
  options.snapshot_after_bytes = 20'000;
  Crash();
  int64_t snapshots = 0;
  for (int run = 0; run < 20; ++run) {
    for (int i = 0; i < 20; ++i) {
      AddDevice(absl::StrCat("d", i), false);
    }
    time.RunReady();
    snapshots += engine->Stats().snapshots;
    engine->Stop();
    engine.reset();
    devices.reset();
    Start();
  }
  EXPECT_GT(snapshots, 0);
  EXPECT_EQ(engine->Stats().twins, 20);
}

TEST_P(Recovery, WhatWasThereIsTakenBeyondTodaysLimits) {
  for (int i = 0; i < 5; ++i) AddDevice(absl::StrCat("d", i));
  ASSERT_TRUE(Create("a", Update(R"({"a":1})")).ok());
  ASSERT_TRUE(Create("b", Update(R"({"a":1})")).ok());
  time.Advance(absl::Seconds(1));
  options.twin_count_max = 2;
  options.jobs_retained_max = 1;
  options.slices_retained_max = 1;
  Crash();
  EXPECT_EQ(engine->Stats().twins, 5);
  EXPECT_EQ(Get("a").status, JobStatus::kCompleted);
  EXPECT_EQ(Get("b").status, JobStatus::kCompleted);
  EXPECT_EQ(ErrorCodeOf(Create("c", Reboot())),
            ErrorCode::kThrottlingException);
}

// A job whose last executions were under way ends while it is recovered; its
// history ends once.
TEST_P(Recovery, AJobThatEndsAsItIsRecoveredIsForgottenOnce) {
  SetHandlers();
  for (int i = 0; i < 6; ++i) AddDevice(absl::StrCat("d", i));
  ASSERT_TRUE(Create("j", Reboot()).ok());
  time.Advance(absl::Seconds(1));
  EXPECT_EQ(Counts(Get("j")), "6 / f0 s3 r3 p0");
  Crash();
  EXPECT_EQ(Counts(Get("j")), "6 / f3 s3 r0 p0");
  time.Advance(absl::Hours(24 * 31));
  EXPECT_FALSE(engine->GetJob("j").ok());
  AddDevice("e");
  Crash();
  EXPECT_FALSE(engine->GetJob("j").ok());
}

TEST_P(Recovery, HistoryCanBeReadAfterAStop) {
  AddDevice("d");
  ASSERT_TRUE(Create("t", Update(R"({"a":1})")).ok());
  time.Advance(absl::Seconds(1));
  const std::string before = Executions("t");
  engine->Stop();
  EXPECT_EQ(Executions("t"), before);
  EXPECT_EQ(Get("t").status, JobStatus::kCompleted);
  EXPECT_EQ(ErrorCodeOf(Create("u", Reboot())), ErrorCode::kServiceUnavailable);
}

TEST_P(Recovery, ATwinJobGoesOnWhereItWas) {
  options.profile = *FindProfile("s1");  // 10 devices a second.
  Crash();
  for (int i = 0; i < 100; ++i) AddDevice(absl::StrCat("d", i), false);
  ASSERT_TRUE(Create("t", Update(R"({"a":1})")).ok());
  time.Advance(absl::Seconds(4));
  const int64_t done = Get("t").statistics->succeeded_count;
  EXPECT_GT(done, 10);
  EXPECT_LT(done, 90);
  Crash();
  EXPECT_EQ(Get("t").statistics->succeeded_count, done);
  time.Advance(absl::Seconds(20));
  EXPECT_EQ(Counts(Get("t")), "100 / f0 s100 r0 p0");
  for (int i = 0; i < 100; ++i) {
    const Json twin = *ParseJson(Twin(absl::StrCat("d", i)));
    const JsonView desired = twin.view().Find("properties").Find("desired");
    EXPECT_EQ(desired.Find("a").int_value(), 1);
    EXPECT_EQ(desired.Find("$version").int_value(), 2) << "patched once";
  }
}

TEST_P(Recovery, TheLimitPassesWhileItIsDown) {
  SetHandlers();
  for (int i = 0; i < 4; ++i) AddDevice(absl::StrCat("d", i), i == 0);
  ASSERT_TRUE(Create("j", Reboot(), {}, 60).ok());
  time.Advance(absl::Seconds(10));
  EXPECT_EQ(Counts(Get("j")), "4 / f0 s1 r0 p3");
  journal.crashed = true;
  engine.reset();
  devices.reset();
  time.Advance(absl::Seconds(51));
  Start();
  time.Advance(absl::Milliseconds(1));
  EXPECT_EQ(Counts(Get("j")), "4 / f3 s1 r0 p0");
  EXPECT_EQ(Get("j").status, JobStatus::kCompleted);
}

TEST_P(Recovery, WhatIsLeftOfTheLimitHolds) {
  AddDevice("d", false);
  ASSERT_TRUE(Create("j", Reboot(), {}, 60).ok());
  time.Advance(absl::Seconds(20));
  Crash();
  time.Advance(absl::Seconds(39));
  EXPECT_EQ(Get("j").status, JobStatus::kRunning);
  time.Advance(absl::Seconds(2));
  EXPECT_EQ(Get("j").status, JobStatus::kCompleted);
}

TEST_P(Recovery, ACancelOfARunningJobHolds) {
  SetHandlers();
  for (int i = 0; i < 6; ++i) AddDevice(absl::StrCat("d", i));
  ASSERT_TRUE(Create("j", Reboot()).ok());
  time.Advance(absl::Seconds(1));
  EXPECT_EQ(Counts(Get("j")), "6 / f0 s3 r3 p0");
  ASSERT_TRUE(engine->CancelJob("j", {.cancel_running = true}).ok());
  Crash();
  time.Advance(absl::Seconds(1));
  EXPECT_EQ(Get("j").status, JobStatus::kCancelled);
  EXPECT_EQ(Counts(Get("j")), "6 / f3 s3 r0 p0");
}

// V19.
TEST_P(Recovery, HistoryEndsAlsoWhileItIsDown) {
  AddDevice("d");
  ASSERT_TRUE(Create("a", Update(R"({"a":1})")).ok());
  ASSERT_TRUE(Create("b", Update(R"({"a":2})")).ok());
  time.Advance(absl::Seconds(1));
  Crash();
  EXPECT_EQ(Get("a").status, JobStatus::kCompleted);
  journal.crashed = true;
  engine.reset();
  devices.reset();
  time.Advance(absl::Hours(24 * 30));
  Start();
  EXPECT_EQ(ErrorCodeOf(engine->GetJob("a").status()), ErrorCode::kJobNotFound);
  EXPECT_TRUE(engine->ListJobs()->jobs.empty());
  ASSERT_TRUE(Create("a", Update(R"({"a":3})")).ok());  // The id is free.
  time.Advance(absl::Seconds(10));
  Crash();
  EXPECT_EQ(Get("a").status, JobStatus::kCompleted);
  EXPECT_EQ(engine->ListJobs()->jobs.size(), 1u);
  // A wall clock that is set back brings nothing back that was forgotten.
  time.StepWallClock(absl::Hours(-24 * 20));
  Crash();
  EXPECT_EQ(ErrorCodeOf(engine->GetJob("b").status()), ErrorCode::kJobNotFound);
}

TEST_P(Recovery, AnotherEngineTakesOver) {
  SetHandlers();
  for (int i = 0; i < 4; ++i) AddDevice(absl::StrCat("d", i), false);
  ASSERT_TRUE(Create("j", Reboot()).ok());
  time.Advance(absl::Seconds(1));
  std::unique_ptr<Engine> old = std::move(engine);
  std::unique_ptr<LoopbackTransport> old_devices = std::move(devices);
  Start();
  EXPECT_EQ(Counts(Get("j")), "4 / f0 s0 r0 p4");
  // The old one hears of the devices, too, but may call none.
  for (int i = 0; i < 4; ++i) {
    old_devices->AddDevices({absl::StrCat("d", i)}, true);
  }
  time.Advance(absl::Seconds(5));
  EXPECT_TRUE(old_devices->calls().empty());
  EXPECT_EQ(ErrorCodeOf(old->PatchTwin("d0", R"({"tags":{"a":1}})").status()),
            ErrorCode::kServiceUnavailable);
  EXPECT_TRUE(absl::IsFailedPrecondition(old->Health()));
  old.reset();
  for (int i = 0; i < 4; ++i) Connect(absl::StrCat("d", i));
  time.Advance(absl::Seconds(1));
  EXPECT_EQ(devices->calls().size(), 4u);
}

// The disk is full for a while.
TEST_P(Recovery, AStalledJournalIsRetriedAndGoesOn) {
  SetHandlers();
  for (int i = 0; i < 6; ++i) AddDevice(absl::StrCat("d", i), i < 3);
  ASSERT_TRUE(Create("j", Reboot()).ok());
  time.Advance(absl::Seconds(1));
  journal.full = true;
  Connect("d3");
  Connect("d4");
  time.Advance(absl::Seconds(1));
  EXPECT_TRUE(absl::IsResourceExhausted(engine->Health()));
  EXPECT_EQ(devices->calls().size(), 3u);
  const absl::Status refused =
      Create("k", Reboot(), {}, 300, "deviceId = 'nobody'");
  EXPECT_EQ(ErrorCodeOf(refused), ErrorCode::kServiceUnavailable);
  EXPECT_EQ(Counts(Get("j")), "6 / f0 s3 r0 p3");  // Reading goes on.
  EXPECT_TRUE(engine->GetTwin("d0").ok());
  time.Advance(absl::Minutes(1));
  journal.full = false;
  time.Advance(absl::Seconds(4));
  EXPECT_TRUE(engine->Health().ok());
  // What was refused before anything happened has not happened; what was on its
  // way has.
  EXPECT_EQ(engine->GetJob("k").ok(),
            absl::StrContains(refused.message(), "may still take effect"));
  EXPECT_EQ(devices->calls().size(), 5u);
  time.Advance(absl::Seconds(31));
  EXPECT_EQ(Counts(Get("j")), "6 / f2 s3 r0 p1");
  Crash();
  EXPECT_EQ(Counts(Get("j")), "6 / f2 s3 r0 p1");
}

TEST_P(Recovery, JobsThatWaitStartInTheirTime) {
  AddDevice("d");
  ASSERT_TRUE(Create("soon", Update(R"({"a":1})"), absl::Seconds(60)).ok());
  ASSERT_TRUE(Create("later", Update(R"({"b":1})"), absl::Hours(5)).ok());
  ASSERT_TRUE(Create("never", Update(R"({"c":1})"), absl::Hours(5)).ok());
  time.Advance(absl::Seconds(1));
  EXPECT_EQ(Get("later").status, JobStatus::kScheduled);
  ASSERT_TRUE(engine->CancelJob("never").ok());
  journal.crashed = true;
  engine.reset();
  devices.reset();
  time.Advance(absl::Hours(1));  // The first is overdue.
  Start();
  time.Advance(absl::Seconds(1));
  EXPECT_EQ(Get("soon").status, JobStatus::kCompleted);
  EXPECT_EQ(Get("later").status, JobStatus::kScheduled);
  EXPECT_EQ(Get("never").status, JobStatus::kCancelled);
  Crash();
  time.Advance(absl::Hours(4));
  EXPECT_EQ(Get("later").status, JobStatus::kCompleted);
  EXPECT_EQ(Counts(Get("later")), "1 / f0 s1 r0 p0");
}

}  // namespace
}  // namespace muster
