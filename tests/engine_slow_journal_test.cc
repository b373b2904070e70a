// What happens while a record is on its way to the journal: starts, cancels,
// sends, ends and stops that race it.
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/dispatch/attempt_key.h"
#include "engine/journal/group_commit.h"
#include "gtest/gtest.h"
#include "tests/hub_fixture.h"
#include "tests/manual_journal.h"

namespace muster {
namespace {

JobRequest Method(absl::string_view id, absl::string_view condition = "*") {
  JobRequest job;
  job.job_id = std::string(id);
  job.query_condition = std::string(condition);
  job.action =
      MethodAction{.method_name = "reboot", .response_timeout_seconds = 5};
  return job;
}

std::string Device(int i) { return absl::StrCat("d", 1000 + i); }

// A transport that a lambda is.
class ScriptedTransport : public Transport {
 public:
  void Start(TransportSink* s) override { sink = s; }
  size_t Send(const MethodBatch& batch) override {
    ++sends;
    return send ? send(batch) : batch.attempts.size();
  }
  void NotifyDesired(absl::Span<const DesiredNotification>) override {}
  void Shutdown() override {}
  void Connect(absl::string_view device, bool connected = true) {
    const ConnectionChange change{device, connected};
    sink->OnConnections({&change, 1}, {});
  }

  TransportSink* sink = nullptr;
  std::function<size_t(const MethodBatch&)> send;
  int sends = 0;
};

class SlowJournal : public testing::Test {
 protected:
  SlowJournal() {
    engine_ = *Engine::Create({.transport = &transport_,
                               .clock = &time_,
                               .executor = &time_,
                               .journal = &journal_});
  }
  ~SlowJournal() override {
    journal_.ReleaseAll();
    time_.RunReady();
    engine_->Stop();
  }

  void AddDevice(absl::string_view id) {
    ASSERT_TRUE(
        engine_->UpsertTwin(absl::StrCat(R"({"deviceId":")", id, "\"}")).ok());
    transport_.Connect(id);
  }
  // Creates the job and lets it come to where its JobStarted is on its way.
  void CreateUpToStart(const JobRequest& job) {
    ASSERT_TRUE(engine_->CreateJob(job).ok());
    journal_.Hold();
    time_.RunReady();
    journal_.ReleaseRound();  // The target sets.
    ASSERT_EQ(journal_.held(), 1);
  }
  JobInfo Get(absl::string_view id) { return *engine_->GetJob(id); }

  ManualJournal journal_;
  SimulatedExecutor time_;
  ScriptedTransport transport_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(SlowJournal, NobodyIsCalledAndNothingShownBeforeItIsDurable) {
  AddDevice("d");
  AttemptKey key;
  transport_.send = [&](const MethodBatch& batch) {
    key = batch.attempts[0];
    return batch.attempts.size();
  };
  CreateUpToStart(Method("j"));
  EXPECT_EQ(Get("j").status, JobStatus::kQueued);
  journal_.ReleaseRound();
  EXPECT_EQ(Counts(Get("j")), "1 / f0 s0 r0 p1");
  time_.RunReady();
  EXPECT_EQ(transport_.sends, 0);  // Dispatched is on its way.
  EXPECT_EQ(Counts(Get("j")), "1 / f0 s0 r0 p1");
  journal_.ReleaseRound();
  time_.RunReady();
  EXPECT_EQ(transport_.sends, 1);
  EXPECT_EQ(Counts(Get("j")), "1 / f0 s0 r1 p0");
  const Outcome outcome{key, OutcomeCode::kAnswered, 200, "1"};
  transport_.sink->OnOutcomes({&outcome, 1});
  time_.RunReady();
  EXPECT_EQ(Counts(Get("j")), "1 / f0 s0 r1 p0");
  journal_.ReleaseRound();
  EXPECT_EQ(Counts(Get("j")), "1 / f0 s1 r0 p0");
  EXPECT_EQ(Get("j").status, JobStatus::kRunning);
  // Too late for any cancel.
  EXPECT_EQ(
      ErrorCodeOf(engine_->CancelJob("j", {.cancel_running = true}).status()),
      ErrorCode::kOperationNotAllowedInCurrentState);
  journal_.ReleaseRound();
  EXPECT_EQ(Get("j").status, JobStatus::kCompleted);
}

TEST_F(SlowJournal, CancelWhileTheStartIsOnItsWay) {
  for (int i = 0; i < 50; ++i) AddDevice(Device(i));
  CreateUpToStart(Method("j"));
  EXPECT_EQ(ErrorCodeOf(engine_->CancelJob("j").status()),
            ErrorCode::kOperationNotAllowedInCurrentState);
  // It waits for the journal, which waits for us.
  std::thread cancel([&] {
    EXPECT_TRUE(engine_->CancelJob("j", {.cancel_running = true}).ok());
  });
  absl::SleepFor(absl::Milliseconds(50));
  journal_.ReleaseAll();
  cancel.join();
  time_.RunReady();
  EXPECT_EQ(Get("j").status, JobStatus::kCancelled);
  EXPECT_EQ(Counts(Get("j")), "50 / f50 s0 r0 p0");
  EXPECT_EQ(transport_.sends, 0);
}

// The slices of a job that ended before its start was followed up must not stay
// among the shard's.
TEST_F(SlowJournal, AJobThatEndsAtOnceLeavesNothingBehind) {
  AddDevice("x");
  AddDevice("y");
  bool once = true;
  CreateUpToStart(Method("early", "deviceId = 'y'"));
  transport_.send = [&](const MethodBatch& batch) {
    if (std::exchange(once, false)) {
      EXPECT_TRUE(engine_->CancelJob("early", {.cancel_running = true}).ok());
    }
    return batch.attempts.size();
  };
  journal_.ReleaseAll();
  ASSERT_TRUE(engine_->CreateJob(Method("other", "deviceId = 'x'")).ok());
  time_.Advance(absl::Hours(24 * 31));
  EXPECT_FALSE(engine_->GetJob("early").ok());
  transport_.Connect("y", false);
  transport_.Connect("y");
  time_.RunReady();
}

TEST_F(SlowJournal, AnUnknownKeyStartsNothing) {
  AddDevice("d");
  CreateUpToStart(Method("j"));
  for (uint32_t slice = 0; slice < 16; ++slice) {
    const Outcome outcome{MakeAttemptKey({1, slice, 0, 0})};
    transport_.sink->OnOutcomes({&outcome, 1});
  }
  time_.RunReady();
  EXPECT_EQ(transport_.sends, 0);
  EXPECT_EQ(engine_->Stats().outcomes_dropped, 16);
  journal_.ReleaseAll();
  time_.RunReady();
  EXPECT_EQ(Counts(Get("j")), "1 / f0 s0 r1 p0");
}

// The device's time begins when it is called, however long the journal took.
TEST_F(SlowJournal, LongerThanTheResponseTimeout) {
  AddDevice("d");
  CreateUpToStart(Method("j"));
  journal_.ReleaseRound();
  time_.RunReady();
  time_.Advance(absl::Seconds(60));
  EXPECT_EQ(transport_.sends, 0);
  // The first time the transport has no room.
  transport_.send = [&](const MethodBatch& batch) {
    return transport_.sends == 1 ? 0 : batch.attempts.size();
  };
  journal_.ReleaseAll();
  time_.RunReady();
  EXPECT_EQ(Counts(Get("j")), "1 / f0 s0 r0 p1");
  transport_.sink->OnReady();
  time_.RunReady();
  EXPECT_EQ(transport_.sends, 2);
  EXPECT_EQ(Counts(Get("j")), "1 / f0 s0 r1 p0");
  time_.Advance(absl::Milliseconds(4'999));
  EXPECT_EQ(Counts(Get("j")), "1 / f0 s0 r1 p0");
  time_.Advance(absl::Milliseconds(1));
  EXPECT_EQ(Counts(Get("j")), "1 / f1 s0 r0 p0");
}

TEST_F(SlowJournal, TheLimitPassesBeforeTheSend) {
  AddDevice("d");
  JobRequest job = Method("j");
  job.max_execution_time_seconds = 10;
  CreateUpToStart(job);
  journal_.ReleaseRound();
  time_.RunReady();
  time_.Advance(absl::Seconds(11));
  journal_.ReleaseAll();
  time_.RunReady();
  EXPECT_EQ(transport_.sends, 0);
  EXPECT_EQ(Get("j").status, JobStatus::kCompleted);
  engine_
      ->ForEachExecution("j",
                         [](const ExecutionRecord& record) {
                           EXPECT_EQ(record.error_code,
                                     ErrorCode::kRequestTimedOut);
                         })
      .IgnoreError();
}

// A cancel that the journal refuses has not happened.
TEST_F(SlowJournal, ARefusedCancelIsNone) {
  AddDevice("d");
  JobRequest job = Method("j");
  job.start_time = time_.Now() + absl::Seconds(10);
  ASSERT_TRUE(engine_->CreateJob(job).ok());
  time_.Advance(absl::Seconds(9));
  journal_.before_append = [&] { time_.Advance(absl::Seconds(2)); };
  journal_.Refuse(absl::FailedPreconditionError("fenced"));
  EXPECT_EQ(ErrorCodeOf(engine_->CancelJob("j").status()),
            ErrorCode::kServiceUnavailable);
  journal_.Refuse(absl::OkStatus());
  time_.Advance(absl::Seconds(1));
  // Its partition is another's now: here the job goes no further.
  EXPECT_EQ(Get("j").status, JobStatus::kScheduled);
  EXPECT_EQ(engine_->WaitJob("j").status().code(),
            absl::StatusCode::kCancelled);
  EXPECT_EQ(transport_.sends, 0);
}

TEST_F(SlowJournal, WhatItRefusedIsNotAcknowledgedLater) {
  ManualJournal journal(1);
  auto commit = *GroupCommit::Create(&journal, &time_, &time_);
  commit->Add(0, [](std::string* out) { out->append("a record"); });
  journal.Refuse(absl::FailedPreconditionError("fenced"));
  commit->Flush(0);
  journal.Refuse(absl::OkStatus());
  EXPECT_FALSE(commit->Sync(0).ok());
  EXPECT_FALSE(
      commit->AddAndWait(0, [](std::string* out) { out->append("b"); }).ok());
}

TEST_F(SlowJournal, OutcomesThatItRefusesAreNotShown) {
  AddDevice("d");
  AttemptKey key;
  transport_.send = [&](const MethodBatch& batch) {
    key = batch.attempts[0];
    return batch.attempts.size();
  };
  ASSERT_TRUE(engine_->CreateJob(Method("j")).ok());
  time_.RunReady();
  journal_.Refuse(absl::FailedPreconditionError("fenced"));
  const Outcome outcome{key, OutcomeCode::kAnswered, 200, "1"};
  transport_.sink->OnOutcomes({&outcome, 1});
  time_.RunReady();
  EXPECT_EQ(Get("j").status, JobStatus::kRunning);
  EXPECT_EQ(Counts(Get("j")), "1 / f0 s0 r1 p0");
}

// -------------------------------------- found together with these, any journal

TEST(Odds, ATransportThatContradictsItselfIsNotAskedInALoop) {
  SimulatedExecutor time;
  ScriptedTransport transport;
  auto engine = *Engine::Create(
      {.transport = &transport, .clock = &time, .executor = &time});
  ASSERT_TRUE(engine->UpsertTwin(R"({"deviceId":"d"})").ok());
  transport.Connect("d");
  transport.send = [&](const MethodBatch& batch) {
    const Outcome outcome{batch.attempts[0], transport.sends < 4
                                                 ? OutcomeCode::kNotConnected
                                                 : OutcomeCode::kAnswered};
    transport.sink->OnOutcomes({&outcome, 1});
    return batch.attempts.size();
  };
  ASSERT_TRUE(engine->CreateJob(Method("j")).ok());
  time.RunReady();
  EXPECT_EQ(transport.sends, 1);
  time.Advance(absl::Seconds(2));
  EXPECT_EQ(transport.sends, 3);
  time.Advance(absl::Seconds(1));
  EXPECT_EQ(Counts(*engine->GetJob("j")), "1 / f0 s1 r0 p0");
}

TEST(Odds, AJobThatWaitedGetsNoCreditForIt) {
  Hub hub({.profile = *FindProfile("s2")});
  for (int i = 0; i < 300; ++i) {
    hub.AddDevice(Device(i), false, R"("tags":{"g":1})");
  }
  for (int i = 300; i < 1200; ++i) {
    hub.AddDevice(Device(i), true, R"("tags":{"g":2})");
  }
  ASSERT_TRUE(hub.engine().CreateJob(Method("idle", "tags.g = 1")).ok());
  hub.time.Advance(absl::Seconds(1));
  ASSERT_TRUE(hub.engine().CreateJob(Method("busy", "tags.g = 2")).ok());
  hub.time.Advance(absl::Seconds(40));
  for (int i = 0; i < 300; ++i) hub.devices().SetConnected(Device(i), true);
  const int64_t before = hub.Get("busy").statistics->succeeded_count;
  hub.time.Advance(absl::Seconds(20));
  const int64_t busy = hub.Get("busy").statistics->succeeded_count - before;
  const int64_t idle = hub.Get("idle").statistics->succeeded_count;
  EXPECT_NEAR(busy, idle, 20) << busy << " and " << idle;
}

TEST(Odds, AWallClockSetForwardBringsTheStart) {
  Hub hub;
  hub.AddDevice("d");
  JobRequest job = Method("j");
  job.start_time = hub.time.Now() + absl::Hours(24);
  ASSERT_TRUE(hub.engine().CreateJob(job).ok());
  hub.time.Advance(absl::Minutes(1));
  hub.time.StepWallClock(absl::Hours(24));
  hub.time.Advance(absl::Minutes(1));
  EXPECT_EQ(hub.Status("j"), JobStatus::kCompleted);
}

TEST(Odds, HistoryThatEndsWhileItIsRead) {
  Hub hub;
  for (int i = 0; i < 6000; ++i) hub.AddTwin(Device(i));
  JobRequest job = Method("t");
  job.action = TwinUpdateAction{};
  ASSERT_TRUE(hub.engine().CreateJob(job).ok());
  hub.Finish("t");
  for (int i = 0; i < 6000; ++i) {
    ASSERT_TRUE(hub.engine().EraseTwin(Device(i)).ok());
  }
  int read = 0;
  EXPECT_TRUE(hub.engine()
                  .ForEachExecution("t",
                                    [&](const ExecutionRecord&) {
                                      if (++read == 1) {
                                        hub.time.Advance(absl::Hours(24 * 31));
                                      }
                                    })
                  .ok());
  EXPECT_GT(read, 0);
}

TEST(Odds, AfterStopNothingIsAccepted) {
  Hub hub;
  hub.AddDevice("d", false);
  ASSERT_TRUE(hub.engine().CreateJob(Method("j")).ok());
  hub.time.RunReady();
  hub.engine().Stop();
  EXPECT_EQ(ErrorCodeOf(hub.engine().CreateJob(Method("k")).status()),
            ErrorCode::kServiceUnavailable);
  EXPECT_EQ(ErrorCodeOf(hub.engine().PatchTwin("d", "{}").status()),
            ErrorCode::kServiceUnavailable);
  EXPECT_TRUE(hub.engine().GetJob("j").ok());
  EXPECT_EQ(hub.engine().WaitJob("j").status().code(),
            absl::StatusCode::kCancelled);
}

// Cancels that race the evaluation and the start, on real threads.
TEST(Odds, CancelAtAnyMomentEndsTheJob) {
  auto executor = MakeThreadExecutor(3);
  ScriptedTransport transport;  // Takes everything, answers nothing.
  auto engine =
      *Engine::Create({.transport = &transport, .executor = executor.get()});
  for (int i = 0; i < 3'000; ++i) {
    ASSERT_TRUE(engine
                    ->UpsertTwin(absl::StrCat(R"({"deviceId":")", Device(i),
                                              R"(","tags":{"a":1}})"))
                    .ok());
  }
  for (int round = 0; round < 100; ++round) {
    const JobRequest job = Method(absl::StrCat("j", round), "tags.a = 1");
    ASSERT_TRUE(engine->CreateJob(job).ok());
    absl::SleepFor(absl::Microseconds(round * 20));
    EXPECT_TRUE(engine->CancelJob(job.job_id, {.cancel_running = true}).ok());
    const auto ended = engine->WaitJob(job.job_id, absl::Seconds(60));
    ASSERT_TRUE(ended.ok()) << round << ": " << ended.status();
    EXPECT_EQ(ended->status, JobStatus::kCancelled);
  }
  engine->Stop();
}

}  // namespace
}  // namespace muster
