// Records into state: slices come back as they were, and records that cannot
// have been written are refused, whatever they say.
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/dispatch/replay.h"
#include "engine/dispatch/slice.h"
#include "engine/dispatch/slice_records.h"
#include "engine/engine.h"
#include "engine/journal/chunk.h"
#include "engine/journal/group_commit.h"
#include "engine/journal/journal.h"
#include "engine/journal/record.h"
#include "engine/model/check.h"
#include "gtest/gtest.h"
#include "tests/hub_fixture.h"

namespace muster {
namespace {

RowSet EveryThird(int count) {
  RowBitmap rows;
  for (int i = 0; i < count; ++i) rows.Set(3 * i);
  return RowSet(rows);
}

absl::Status ApplyAll(absl::string_view records, Slice* slice) {
  return ReadRecords(records, [&](const Record& record) {
    if (auto* r = std::get_if<DispatchedRecord>(&record)) {
      return SliceRecords::Apply(*r, slice);
    }
    if (auto* r = std::get_if<ReturnedRecord>(&record)) {
      return SliceRecords::Apply(*r, slice);
    }
    if (auto* r = std::get_if<ResultRecord>(&record)) {
      return SliceRecords::Apply(*r, slice);
    }
    return SliceRecords::Apply(std::get<FinishedRecord>(record), slice);
  });
}

void ExpectSame(const Slice& a, const Slice& b) {
  ASSERT_EQ(a.size(), b.size());
  EXPECT_EQ(a.ready_count() + a.waiting_count(),
            b.ready_count() + b.waiting_count());
  EXPECT_EQ(a.running_count(), b.running_count());
  EXPECT_EQ(a.succeeded_count(), b.succeeded_count());
  for (int i = 0; i < a.size(); ++i) {
    const Slice::Rank rank = static_cast<Slice::Rank>(i);
    const Slice::View x = a.Get(rank), y = b.Get(rank);
    ASSERT_EQ(x.status, y.status) << i;
    ASSERT_EQ(x.start != nullptr, y.start != nullptr) << i;
    if (x.start != nullptr) {
      EXPECT_EQ(x.start->wall, y.start->wall) << i;
    }
    ASSERT_EQ(x.end != nullptr, y.end != nullptr) << i;
    if (x.end != nullptr) {
      EXPECT_EQ(x.end->wall, y.end->wall) << i;
    }
    ASSERT_EQ(x.result != nullptr, y.result != nullptr) << i;
    if (x.result != nullptr) {
      EXPECT_EQ(*x.result, *y.result) << i;
    }
    if (!IsTerminal(x.status)) {
      EXPECT_EQ(a.attempt(rank), b.attempt(rank)) << i;
    }
  }
}

TEST(SliceRecordsTest, ASliceComesBackAsItWas) {
  const uint64_t first_seed = std::random_device()();
  for (uint64_t seed = first_seed; seed < first_seed + 200; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    std::mt19937_64 random(seed);
    const int size = 1 + static_cast<int>(random() % 300);
    Slice slice(EveryThird(size));
    StatisticsDelta delta;
    const int steps = static_cast<int>(random() % 1000);
    for (int i = 0; i < steps; ++i) {
      const Slice::Rank rank = static_cast<Slice::Rank>(random() % size);
      const absl::Time now = absl::FromUnixSeconds(i / 7);
      const uint16_t stamp = slice.AddStamp({now, absl::Seconds(i / 7)});
      if (slice.IsWaiting(rank)) {
        slice.Wake(rank);
      } else if (slice.IsReady(rank)) {
        random() % 4 == 0 ? slice.Wait(rank)
                          : slice.MarkRunning(rank, stamp, &delta);
      } else if (slice.IsRunning(rank)) {
        if (random() % 3 == 0) {
          slice.Return(rank, /*sent=*/random() % 2 == 0, &delta);
          continue;
        }
        ExecutionResult result;
        if (random() % 2 == 0) {
          result.status = ExecutionStatus::kFailed;
          result.error = ErrorCode::kGatewayTimeout;
        }
        result.payload = absl::StrCat(random() % 20);
        bool is_new;
        slice.Finish(rank, stamp, slice.AddResult(result, &is_new), &delta);
      }
    }
    std::string records;
    SliceRecords::Append(7, 3, 9, slice, &records);
    Slice copy(EveryThird(size));
    const absl::Status status = ApplyAll(records, &copy);
    ASSERT_TRUE(status.ok()) << status;
    ExpectSame(slice, copy);
    // What it is made into is what it was made from.
    std::string again;
    SliceRecords::Append(7, 3, 9, copy, &again);
    EXPECT_EQ(again.size(), records.size());
  }
}

TEST(SliceRecordsTest, WhatCannotBeIsRefused) {
  const absl::Time t = absl::UnixEpoch();
  Slice slice(EveryThird(4));
  const ResultRecord result{1, 0, 5, 0, 2, 0, false, 0, "", ""};
  ASSERT_TRUE(SliceRecords::Apply(result, &slice).ok());
  ASSERT_TRUE(
      SliceRecords::Apply(DispatchedRecord{1, 0, 5, t, {0, 1}}, &slice).ok());
  const auto refused = [](const absl::Status& s, absl::string_view part) {
    return absl::IsDataLoss(s) && absl::StrContains(s.message(), part);
  };
  // Twice, out of range, before it began, a result that is not the next.
  EXPECT_TRUE(
      refused(SliceRecords::Apply(DispatchedRecord{1, 0, 6, t, {1}}, &slice),
              "job 1, slice 0, sequence 6: rank 1 was not pending"));
  EXPECT_TRUE(
      refused(SliceRecords::Apply(DispatchedRecord{1, 0, 6, t, {4}}, &slice),
              "rank 4"));
  EXPECT_TRUE(
      refused(SliceRecords::Apply(ReturnedRecord{1, 0, 6, {{2, 0}}}, &slice),
              "rank 2 did not run"));
  EXPECT_TRUE(
      refused(SliceRecords::Apply(ReturnedRecord{1, 0, 6, {{1, 64}}}, &slice),
              "rank 1"));
  EXPECT_TRUE(
      refused(SliceRecords::Apply(FinishedRecord{1, 0, 6, t, {{1, 1}}}, &slice),
              "result 1 is unknown"));
  EXPECT_TRUE(refused(SliceRecords::Apply(result, &slice), "not the next"));
  ASSERT_TRUE(
      SliceRecords::Apply(FinishedRecord{1, 0, 6, t, {{1, 0}}}, &slice).ok());
  EXPECT_TRUE(
      refused(SliceRecords::Apply(FinishedRecord{1, 0, 7, t, {{1, 0}}}, &slice),
              "rank 1 had ended"));
}

// All records of a hub that has seen a little of everything, part by part.
std::vector<std::string> SomeHistory(bool with_snapshot) {
  auto journal = *MakeMemoryJournal(
      {.partition_count = 1,
       .retained_bytes_max = MemoryJournalOptions::kRetainAll});
  Hub hub({.journal = journal.get()});
  hub.devices().SetHandler("", [](const LoopbackCall& call) {
    return call.device_id == "d1" ? LoopbackReply::Never()
                                  : LoopbackReply{.payload = "[1]"};
  });
  for (int i = 0; i < 12; ++i) {
    hub.AddDevice(absl::StrCat("d", i), i % 4 != 3, R"("tags":{"a":1})");
  }
  MUSTER_CHECK(hub.engine().EraseTwin("d5").ok());
  hub.AddTwin("e", R"("properties":{"desired":{"x":{"y":[1,null]}}})");
  MUSTER_CHECK(hub.engine().PatchReported("e", R"({"r":1})").ok());
  MUSTER_CHECK(hub.engine().SetTwinEnabled("d6", false).ok());
  const char* const jobs[] = {
      R"({"jobId":"m","type":"scheduleDeviceMethod","queryCondition":"*",)"
      R"("cloudToDeviceMethod":{"methodName":"f","payload":null,)"
      R"("responseTimeoutInSeconds":5},"maxExecutionTimeInSeconds":60})",
      R"({"jobId":"t","type":"scheduleUpdateTwin","queryCondition":"tags.a=1",)"
      R"("updateTwin":{"etag":"*","tags":{"b":2}}})"};
  for (const char* job : jobs) MUSTER_CHECK(hub.Create(job).ok());
  hub.time.Advance(absl::Seconds(10));
  if (with_snapshot) MUSTER_CHECK(hub.engine().WriteSnapshots().ok());
  MUSTER_CHECK(hub.engine().PatchTwin("d2", R"({"tags":{"c":3}})").ok());
  hub.time.Advance(absl::Seconds(60));
  std::vector<std::string> history;
  MUSTER_CHECK(ReadChunks(*journal, 0, [&](absl::string_view records) {
                 history.emplace_back(records);
                 return absl::OkStatus();
               }).ok());
  return history;
}

absl::Status Replay(const std::vector<std::string>& history) {
  PartitionReplay replay;
  for (const std::string& records : history) {
    if (absl::Status s = replay.Visit(records); !s.ok()) return s;
  }
  return replay.Finish();
}

TEST(PartitionReplayTest, ReadsWhatWasWritten) {
  for (const bool with_snapshot : {false, true}) {
    const std::vector<std::string> history = SomeHistory(with_snapshot);
    PartitionReplay replay;
    for (const std::string& records : history) {
      const absl::Status status = replay.Visit(records);
      ASSERT_TRUE(status.ok()) << status;
    }
    ASSERT_TRUE(replay.Finish().ok());
    EXPECT_EQ(replay.jobs.size(), 2u);
    EXPECT_EQ(replay.slices.size(), 2u);
    EXPECT_EQ(replay.next_job, 3u);
    EXPECT_EQ(replay.shards.Take().size(), 1u);
  }
}

// A chunk that is missing, comes twice or is not the next leads nowhere that
// looks right, or nowhere else than where it was.
TEST(PartitionReplayTest, DamagedHistoriesAreRefusedOrHarmless) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  for (const bool with_snapshot : {false, true}) {
    const std::vector<std::string> history = SomeHistory(with_snapshot);
    ASSERT_TRUE(Replay(history).ok());
    int refused = 0;
    for (int i = 0; i < 3'000; ++i) {
      std::vector<std::string> damaged = history;
      std::string& records = damaged[random() % damaged.size()];
      for (uint32_t n = random() % 3; n < 3 && !records.empty(); ++n) {
        records[random() % records.size()] ^=
            static_cast<char>(1 + random() % 255);
      }
      const absl::Status status = Replay(damaged);
      if (!status.ok()) ++refused;
      EXPECT_TRUE(status.ok() || absl::IsDataLoss(status) ||
                  absl::IsFailedPrecondition(status))
          << status;
    }
    EXPECT_GT(refused, 1'000);
    for (size_t i = 0; i < history.size(); ++i) {
      std::vector<std::string> cut = history;
      cut.erase(cut.begin() + static_cast<std::ptrdiff_t>(i));
      Replay(cut).IgnoreError();
      cut = history;
      std::swap(cut[i], cut[(i + 1) % cut.size()]);
      Replay(cut).IgnoreError();
    }
  }
}

// Records that read well but cannot have been written end Engine::Create(), not
// the process.
TEST(PartitionReplayTest, ImpossibleJobsAreRefused) {
  const absl::Time t = absl::FromUnixSeconds(1'900'000'000);
  const std::string body =
      R"({"type":"scheduleUpdateTwin","queryCondition":"*",)"
      R"("updateTwin":{"etag":"*","tags":{"b":2}}})";
  const auto create = [&](std::vector<Record> records) {
    SimulatedExecutor time;
    auto journal = *MakeMemoryJournal(
        {.partition_count = 1,
         .retained_bytes_max = MemoryJournalOptions::kRetainAll});
    {
      auto commit = *GroupCommit::Create(journal.get(), &time, &time);
      MUSTER_CHECK(commit
                       ->AddAndWait(0,
                                    [&](std::string* out) {
                                      for (const Record& record : records) {
                                        AppendRecord(record, out);
                                      }
                                    })
                       .ok());
    }
    return Engine::Create(
               {.clock = &time, .executor = &time, .journal = journal.get()})
        .status();
  };
  const JobCreatedRecord good{1, "j", t, body, 2, 100};
  EXPECT_TRUE(create({good}).ok());
  JobCreatedRecord bad = good;
  bad.weight = 0;
  EXPECT_TRUE(absl::IsDataLoss(create({bad})));
  bad = good;
  bad.priority = 200;
  EXPECT_TRUE(absl::IsDataLoss(create({bad})));
  bad = good;
  bad.job = uint64_t{1} << 40;
  EXPECT_TRUE(absl::IsDataLoss(create({bad})));
  bad = good;
  bad.body = "{";
  EXPECT_TRUE(absl::IsDataLoss(create({bad})));
  EXPECT_TRUE(absl::IsDataLoss(create({good, JobEndedRecord{1, 200, t, ""}})));
  EXPECT_TRUE(absl::IsDataLoss(create({good, JobEndedRecord{1, 2, t, ""}})));
  // Targets that no device ever was; a slice that is not there.
  const TwinWrittenRecord twin{0, 0, 1, R"({"deviceId":"d"})", t};
  const JobStartedRecord started{1, 7, t, 1, 1};
  const TargetsRecord targets{1, 0, 0, 2, 7, 1, "", "", {0}};
  EXPECT_TRUE(create({twin, good, targets, started}).ok());
  TargetsRecord wrong = targets;
  wrong.rows = {5};
  EXPECT_TRUE(absl::IsDataLoss(create({twin, good, wrong, started})));
  wrong = targets;
  wrong.cut = 0;
  EXPECT_TRUE(absl::IsDataLoss(create({twin, good, wrong, started})));
  wrong = targets;
  wrong.cut = 99;
  EXPECT_TRUE(absl::IsDataLoss(create({twin, good, wrong, started})));
  EXPECT_TRUE(absl::IsDataLoss(create({twin, good, started})));
  // A result that says nothing that is known.
  const ResultRecord result{1, 0, 3, 0, 3, 12345, false, 0, "", ""};
  EXPECT_TRUE(absl::IsDataLoss(create({twin, good, targets, started, result})));
}

TEST(PartitionReplayTest, ASnapshotHasABeginningAndAnEnd) {
  std::vector<std::string> history = SomeHistory(/*with_snapshot=*/true);
  std::string begin, end;
  AppendRecord(SnapshotBeginRecord{1}, &begin);
  AppendRecord(SnapshotEndRecord{0}, &end);
  std::string of_one;
  AppendRecord(SnapshotEndRecord{1}, &of_one);
  EXPECT_TRUE(absl::IsDataLoss(Replay({begin, of_one})));
  EXPECT_TRUE(absl::IsDataLoss(Replay({begin})));
  EXPECT_TRUE(absl::IsDataLoss(Replay({end})));
  EXPECT_TRUE(Replay({begin, end}).ok());
  EXPECT_TRUE(absl::IsDataLoss(Replay({begin, end, begin})));
}

}  // namespace
}  // namespace muster
