// The memory journal, the records' codec, and group commit.
#include "engine/journal/journal.h"

#include <atomic>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/journal/chunk.h"
#include "engine/journal/group_commit.h"
#include "engine/journal/record.h"
#include "engine/schedule/clock.h"
#include "gtest/gtest.h"
#include "tests/forwarding_journal.h"
#include "tests/journal_conformance.h"
#include "tests/simulated/simulated_executor.h"

namespace muster {
namespace {

INSTANTIATE_TEST_SUITE_P(Memory, JournalConformance,
                         testing::Values(JournalFactory([] {
                           return *MakeMemoryJournal(
                               {.partition_count = 4,
                                .retained_bytes_max =
                                    MemoryJournalOptions::kRetainAll});
                         })));

TEST(MemoryJournalTest, RefusesBadOptions) {
  for (int partitions : {0, -1, 257}) {
    const auto journal = MakeMemoryJournal({.partition_count = partitions});
    EXPECT_EQ(journal.status().code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_FALSE(MakeMemoryJournal({.retained_bytes_max = -1}).ok());
}

TEST(MemoryJournalTest, ForgetsTheOldestBeyondItsLimit) {
  auto journal =
      *MakeMemoryJournal({.partition_count = 1, .retained_bytes_max = 100});
  EXPECT_TRUE(journal->forgets());
  const uint64_t epoch = journal->Acquire(0)->epoch;
  for (uint64_t i = 1; i <= 50; ++i) {
    journal->Append(0, epoch, i, std::string(30, 'x'),
                    [](absl::Status s) { EXPECT_TRUE(s.ok()) << s; });
  }
  int kept = 0;
  EXPECT_TRUE(journal
                  ->Read(0, 48,
                         [&](uint64_t, absl::string_view) {
                           ++kept;
                           return absl::OkStatus();
                         })
                  .ok());
  EXPECT_EQ(kept, 3);
  EXPECT_EQ(
      journal
          ->Read(0, 47,
                 [](uint64_t, absl::string_view) { return absl::OkStatus(); })
          .code(),
      absl::StatusCode::kOutOfRange);
}

// ----------------------------------------------------------------- records

std::vector<Record> SomeOfEach() {
  const absl::Time t = absl::FromUnixNanos(1'930'000'000'123'456'789);
  return {
      JobCreatedRecord{7, "job-1", t, R"({"type":"x"})", 2, 100},
      TargetsRecord{
          7, 3, 12, 100, 5, 99, "{}", R"({"a":1})", {0, 1, 5, 16'383}},
      JobStartedRecord{7, 5, t, 4, 1'000'000},
      DispatchedRecord{7, 3, 101, t, {2, 3, 4, 400}},
      ReturnedRecord{7, 3, 102, {{4, 1}, {5, 1}, {6, 0}}},
      ResultRecord{7, 3, 103, 0, 2, 0, true, -5, "{\"a\":1}", ""},
      ResultRecord{7, 3, 103, 1, 3, 504101, false, 0, "", "Timed out"},
      FinishedRecord{
          7, 3, 103, t, {{0, 300}, {2, 1}, {3, 1}, {4, 0}, {16'383, 0}}},
      JobCancelRequestedRecord{7},
      JobEndedRecord{7, 3, absl::UnixEpoch() - absl::Seconds(1), ""},
      JobExpiredRecord{7},
      TwinWrittenRecord{12, 9, 104, R"({"deviceId":"d"})", t},
      TwinPatchedRecord{12, 9, 105, TwinPatchedRecord::kReported, "", "", "{}",
                        t},
      TwinErasedRecord{12, 9, 106},
      ShardWrittenRecord{12, 107, "bytes"},
      SnapshotBeginRecord{8},
      SnapshotEndRecord{3},
      IdentityWrittenRecord{12, 9, 108, R"({"deviceId":"d"})", t},
  };
}

// Without what it returns.
absl::Status ReadAll(absl::string_view chunk) {
  return ReadRecords(chunk, [](const Record&) { return absl::OkStatus(); });
}

TEST(RecordTest, EveryKindReadsBackAsItWas) {
  const std::vector<Record> records = SomeOfEach();
  std::string chunk;
  for (const Record& record : records) AppendRecord(record, &chunk);
  std::vector<Record> read;
  ASSERT_TRUE(ReadRecords(chunk, [&](const Record& r) {
                read.push_back(r);
                return absl::OkStatus();
              }).ok());
  EXPECT_EQ(read, records);
  EXPECT_EQ(records.size(), std::variant_size_v<Record> + 1);  // Two results.
  EXPECT_EQ(RecordName(records[0]), "JobCreated");
  EXPECT_EQ(RecordName(records.back()), "IdentityWritten");
}

TEST(RecordTest, ReadingStopsWithTheVisitorsError) {
  std::string chunk;
  for (const Record& record : SomeOfEach()) AppendRecord(record, &chunk);
  int visited = 0;
  const absl::Status status = ReadRecords(chunk, [&](const Record&) {
    return ++visited == 3 ? absl::AbortedError("enough") : absl::OkStatus();
  });
  EXPECT_EQ(status, absl::AbortedError("enough"));
  EXPECT_EQ(visited, 3);
}

TEST(RecordTest, TheShortWaysWriteTheSame) {
  const absl::Time t = absl::FromUnixSeconds(1);
  const DispatchedRecord dispatched{7, 3, 9, t, {2, 3, 400}};
  const ReturnedRecord returned{7, 3, 9, {{4, 1}, {5, 2}}};
  const FinishedRecord finished{7, 3, 9, t, {{2, 1}, {9, 0}}};
  const ShardWrittenRecord shard{4, 9, "bytes"};
  std::string longhand, shorthand;
  AppendRecord(dispatched, &longhand);
  AppendRecord(returned, &longhand);
  AppendRecord(finished, &longhand);
  AppendRecord(shard, &longhand);
  AppendDispatched(7, 3, 9, t, dispatched.ranks, &shorthand);
  AppendReturned(7, 3, 9, returned.entries, &shorthand);
  AppendFinished(7, 3, 9, t, finished.entries, &shorthand);
  AppendShardWritten(
      4, 9, [](std::string* out) { out->append("bytes"); }, &shorthand);
  EXPECT_EQ(shorthand, longhand);
}

TEST(RecordTest, WhatOutcomesCost) {
  const absl::Time t = absl::FromUnixSeconds(1'930'000'000);
  // A range that ends alike.
  std::vector<FinishedRecord::Entry> alike, scattered, mixed;
  for (uint16_t i = 0; i < 256; ++i) {
    alike.push_back({i, 0});
    scattered.push_back({static_cast<uint16_t>(3 * i), 0});
    mixed.push_back({i, static_cast<uint16_t>(i % 2)});
  }
  std::string chunk;
  AppendFinished(1, 1, 1'000'000, t, alike, &chunk);
  EXPECT_LE(chunk.size(), 32);
  chunk.clear();
  AppendFinished(1, 1, 1'000'000, t, scattered, &chunk);
  EXPECT_LE(chunk.size(), 256 + 32);
  chunk.clear();
  AppendFinished(1, 1, 1'000'000, t, mixed, &chunk);
  EXPECT_LE(chunk.size(), 2 * 256 + 32);
}

// Cut off or changed anywhere, a chunk is an error or other records, never a
// crash.
TEST(RecordTest, DamagedBytesAreRefused) {
  std::string chunk;
  for (const Record& record : SomeOfEach()) AppendRecord(record, &chunk);
  int refused = 0;
  for (size_t size = 0; size < chunk.size(); ++size) {
    const absl::Status s = ReadAll(absl::string_view(chunk).substr(0, size));
    if (!s.ok()) {
      ++refused;
      EXPECT_EQ(s.code(), absl::StatusCode::kDataLoss);
    }
  }
  // All but the cuts between two records.
  EXPECT_EQ(refused, static_cast<int>(chunk.size() - SomeOfEach().size()));
  std::mt19937 random(20261121);
  for (int i = 0; i < 20'000; ++i) {
    std::string damaged = chunk;
    damaged[random() % damaged.size()] ^= static_cast<char>(1 + random() % 255);
    ReadAll(damaged).IgnoreError();
  }
}

// ------------------------------------------------------------ group commit

// Answers when it is told to.
class SlowJournal : public ForwardingJournal {
 public:
  struct Pending {
    uint64_t sequence;
    std::string chunk;
    Done done;
  };
  int partition_count() const override { return 2; }
  absl::StatusOr<Ownership> Acquire(int) override { return Ownership{1, 1}; }
  void Append(int partition, uint64_t epoch, uint64_t sequence,
              std::string chunk, Done done) override {
    EXPECT_EQ(epoch, 1);
    pending[partition].push_back({sequence, std::move(chunk), std::move(done)});
  }

  void Answer(int partition, absl::Status status = absl::OkStatus()) {
    ASSERT_EQ(pending[partition].size(), 1);  // One at a time.
    Pending p = std::move(pending[partition].front());
    pending[partition].clear();
    std::move(p.done)(std::move(status));
  }

  std::vector<Pending> pending[2];
};

std::string Payload(const SlowJournal::Pending& pending) {
  return pending.chunk.substr(ChunkHeader::kSize);
}

TEST(GroupCommitTest, GathersWhileAnAppendIsUnderWay) {
  SlowJournal journal;
  SimulatedExecutor executor;
  auto commit = *GroupCommit::Create(&journal, &executor, &executor);
  std::vector<int> durable;
  auto add = [&](int n) {
    commit->Add(
        0, [&](std::string* out) { absl::StrAppend(out, n, ";"); },
        [&durable, n](const absl::Status& s) {
          EXPECT_TRUE(s.ok());
          durable.push_back(n);
        });
  };
  add(1);
  EXPECT_TRUE(journal.pending[0].empty());  // Not before a flush.
  commit->Flush(0);
  add(2);
  add(3);
  commit->Flush(0);
  commit->Flush(0);
  ASSERT_EQ(journal.pending[0].size(), 1);
  EXPECT_EQ(Payload(journal.pending[0][0]), "1;");
  EXPECT_TRUE(durable.empty());
  journal.Answer(0);
  EXPECT_EQ(durable, std::vector<int>{1});
  ASSERT_EQ(journal.pending[0].size(), 1);  // The next left by itself.
  EXPECT_EQ(Payload(journal.pending[0][0]), "2;3;");
  EXPECT_EQ(journal.pending[0][0].sequence, 2);
  journal.Answer(0);
  EXPECT_EQ(durable, (std::vector<int>{1, 2, 3}));
  EXPECT_TRUE(journal.pending[0].empty());
  EXPECT_TRUE(journal.pending[1].empty());
}

TEST(GroupCommitTest, ARefusalIsToldAndIsForEver) {
  SlowJournal journal;
  SimulatedExecutor executor;
  auto commit = *GroupCommit::Create(&journal, &executor, &executor);
  std::vector<absl::Status> told;
  auto add = [&](int partition) {
    commit->Add(
        partition, [](std::string* out) { out->append("x"); },
        [&](const absl::Status& s) { told.push_back(s); });
    commit->Flush(partition);
  };
  add(0);
  journal.Answer(0, absl::FailedPreconditionError("fenced"));
  add(0);
  ASSERT_EQ(told.size(), 2);
  for (const absl::Status& s : told) {
    EXPECT_EQ(s.code(), absl::StatusCode::kFailedPrecondition);
  }
  EXPECT_EQ(commit->CheckWritable(0), told[0]);
  EXPECT_EQ(commit->Sync(0), told[0]);
  EXPECT_EQ(commit->AddAndWait(0, [](std::string*) { FAIL(); }), told[0]);
  executor.Advance(absl::Hours(1));
  EXPECT_TRUE(journal.pending[0].empty());  // It was not even asked.
  EXPECT_TRUE(commit->CheckWritable(1).ok());
  add(1);  // Another partition goes on.
  journal.Answer(1);
  EXPECT_TRUE(told.back().ok());
}

TEST(GroupCommitTest, AFullBufferFlushesItself) {
  SlowJournal journal;
  SimulatedExecutor executor;
  auto commit = *GroupCommit::Create(&journal, &executor, &executor);
  const std::string record(GroupCommit::kFlushBytes / 4, 'x');
  for (int i = 0; i < 3; ++i) {
    commit->Add(1, [&](std::string* out) { out->append(record); });
  }
  executor.RunReady();
  EXPECT_TRUE(journal.pending[1].empty());
  commit->Add(1, [&](std::string* out) { out->append(record); });
  executor.RunReady();
  ASSERT_EQ(journal.pending[1].size(), 1);
  EXPECT_EQ(Payload(journal.pending[1][0]).size(), 4 * record.size());
  journal.Answer(1);
}

// A journal that answers at once is driven by a loop: callbacks that add more
// do not nest.
TEST(GroupCommitTest, AnsweringAtOnceDoesNotRecur) {
  auto journal = *MakeMemoryJournal({.partition_count = 1});
  SimulatedExecutor executor;
  auto commit = *GroupCommit::Create(journal.get(), &executor, &executor);
  int depth = 0, rounds = 0;
  std::function<void()> again = [&] {
    commit->Add(
        0, [](std::string* out) { out->append("x"); },
        [&](const absl::Status&) {
          EXPECT_EQ(++depth, 1);
          if (++rounds < 100'000) again();
          --depth;
        });
    commit->Flush(0);
  };
  again();
  EXPECT_EQ(rounds, 100'000);
  EXPECT_EQ(commit->bytes(),
            100'000 * static_cast<int64_t>(ChunkHeader::kSize + 1));
}

// Each thread's records are durable in its order, and a wait ends after them.
TEST(GroupCommitTest, ManyThreadsWaitForTheirRecords) {
  auto journal = *MakeMemoryJournal(
      {.partition_count = 2,
       .retained_bytes_max = MemoryJournalOptions::kRetainAll});
  auto executor = MakeThreadExecutor(2);
  auto commit =
      *GroupCommit::Create(journal.get(), executor.get(), &Clock::Real());
  constexpr int kThreads = 4, kPerThread = 500;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kPerThread; ++i) {
        const absl::Status s = commit->AddAndWait(i % 2, [&](std::string* out) {
          AppendRecord(TwinErasedRecord{static_cast<uint32_t>(t), 0,
                                        static_cast<uint64_t>(i)},
                       out);
        });
        ASSERT_TRUE(s.ok()) << s;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  commit->Drain();
  for (int partition : {0, 1}) {
    std::vector<int64_t> last(kThreads, -1);
    int records = 0;
    const auto end =
        ReadChunks(*journal, partition, [&](absl::string_view payload) {
          return ReadRecords(payload, [&](const Record& r) {
            const auto& e = std::get<TwinErasedRecord>(r);
            const int64_t i = static_cast<int64_t>(e.sequence);
            EXPECT_GT(i, last[e.shard]);
            last[e.shard] = i;
            ++records;
            return absl::OkStatus();
          });
        });
    ASSERT_TRUE(end.ok()) << end.status();
    EXPECT_EQ(*end, commit->Position(partition));
    EXPECT_EQ(records, kThreads * kPerThread / 2);
  }
}

// --------------------------------------------------- a journal that may fail

// Keeps everything, and answers as it is told to.
class FailingJournal : public ForwardingJournal {
 public:
  FailingJournal()
      : ForwardingJournal(
            {.partition_count = 2,
             .retained_bytes_max = MemoryJournalOptions::kRetainAll}) {}

  void Append(int partition, uint64_t epoch, uint64_t sequence,
              std::string chunk, Done done) override {
    asked.push_back({partition, sequence, chunk});
    if (answer.ok()) {
      ForwardingJournal::Append(partition, epoch, sequence, std::move(chunk),
                                std::move(done));
      return;
    }
    if (stores_all_the_same) {
      ForwardingJournal::Append(
          partition, epoch, sequence, std::move(chunk),
          [](const absl::Status& s) { EXPECT_TRUE(s.ok()) << s; });
    }
    std::move(done)(answer);
  }

  struct Asked {
    int partition;
    uint64_t sequence;
    std::string chunk;
    friend bool operator==(const Asked&, const Asked&) = default;
  };
  absl::Status answer;  // To every append from now on.
  bool stores_all_the_same = false;
  std::vector<Asked> asked;
};

class StalledCommit : public testing::Test {
 protected:
  StalledCommit() : commit_(Open()) {}
  ~StalledCommit() override { commit_->Drain(); }

  std::shared_ptr<GroupCommit> Open() {
    auto commit = *GroupCommit::Create(&journal_, &time_, &time_);
    commit->SetResumed(
        [this](int partition) { resumed_.push_back(partition); });
    return commit;
  }
  // Adds "n;" and flushes; the answer goes to told_.
  void Add(int n, int partition = 0) {
    commit_->Add(
        partition, [&](std::string* out) { absl::StrAppend(out, n, ";"); },
        [this, n](const absl::Status& s) { told_.emplace_back(n, s.code()); });
    commit_->Flush(partition);
  }
  // What a restart would find.
  std::string Stored(int partition = 0) {
    std::string all;
    const auto end =
        ReadChunks(journal_, partition, [&](absl::string_view payload) {
          absl::StrAppend(&all, payload, "|");
          return absl::OkStatus();
        });
    EXPECT_TRUE(end.ok()) << end.status();
    return all;
  }
  void StallWith(absl::Status answer) {
    journal_.answer = std::move(answer);
    Add(1);
    EXPECT_EQ(commit_->CheckWritable(0), journal_.answer);
  }

  const absl::Status full_ = absl::ResourceExhaustedError("the disk is full");
  const absl::Status gone_ = absl::UnavailableError("the disk is gone");
  FailingJournal journal_;
  SimulatedExecutor time_;
  std::vector<int> resumed_;
  std::vector<std::pair<int, absl::StatusCode>> told_;
  std::shared_ptr<GroupCommit> commit_;
};

constexpr absl::StatusCode kOk = absl::StatusCode::kOk;

TEST_F(StalledCommit, GoesOnByItselfInOrder) {
  StallWith(full_);
  Add(2);
  Add(3);
  EXPECT_TRUE(told_.empty());
  EXPECT_TRUE(resumed_.empty());
  Add(4, 1);  // Its own trouble.
  EXPECT_EQ(commit_->CheckWritable(1), full_);
  journal_.answer = absl::OkStatus();
  time_.Advance(absl::Milliseconds(99));
  EXPECT_TRUE(told_.empty());
  time_.Advance(absl::Milliseconds(1));
  EXPECT_EQ(told_, (std::vector<std::pair<int, absl::StatusCode>>{
                       {1, kOk}, {2, kOk}, {3, kOk}, {4, kOk}}));
  EXPECT_EQ(resumed_, (std::vector<int>{0, 1}));
  EXPECT_TRUE(commit_->CheckWritable(0).ok());
  EXPECT_EQ(Stored(), "1;|2;3;|");
  EXPECT_EQ(Stored(1), "4;|");
  EXPECT_TRUE(commit_->Sync(0).ok());
}

TEST_F(StalledCommit, TriesTheSameChunkAgainLessAndLessOften) {
  StallWith(gone_);
  std::vector<int64_t> tries;
  for (int ms = 1; ms <= 10'000; ++ms) {
    const size_t before = journal_.asked.size();
    time_.Advance(absl::Milliseconds(1));
    Add(2);
    if (journal_.asked.size() > before) tries.push_back(ms);
  }
  EXPECT_EQ(tries, (std::vector<int64_t>{100, 300, 700, 1500, 3100, 5100, 7100,
                                         9100}));
  for (const auto& asked : journal_.asked) {
    EXPECT_EQ(asked, journal_.asked[0]);  // The time in it, too.
  }
  // After a success from the beginning.
  journal_.answer = absl::OkStatus();
  time_.Advance(absl::Seconds(2));
  ASSERT_EQ(told_.size(), 10'001);
  journal_.answer = gone_;
  Add(3);
  journal_.answer = absl::OkStatus();
  time_.Advance(absl::Milliseconds(100));
  EXPECT_EQ(told_.back(), std::make_pair(3, kOk));
}

TEST_F(StalledCommit, WhatWasStoredAllTheSameIsStoredOnce) {
  journal_.stores_all_the_same = true;
  StallWith(gone_);
  Add(2);
  time_.Advance(absl::Milliseconds(100));
  journal_.answer = absl::OkStatus();
  time_.Advance(absl::Milliseconds(200));
  EXPECT_EQ(told_, (std::vector<std::pair<int, absl::StatusCode>>{{1, kOk},
                                                                  {2, kOk}}));
  EXPECT_EQ(Stored(), "1;|2;|");
  EXPECT_EQ(commit_->bytes(),
            static_cast<int64_t>(2 * (ChunkHeader::kSize + 2)));
}

TEST_F(StalledCommit, WhoBlocksIsToldAtOnce) {
  journal_.answer = full_;
  // Stalls on the way: may still take effect.
  EXPECT_EQ(commit_->AddAndWait(0, [](std::string* out) { *out += "a;"; }),
            full_);
  // Stalled before: nothing is added.
  EXPECT_EQ(commit_->AddAndWait(0, [](std::string*) { FAIL(); }), full_);
  EXPECT_EQ(commit_->Sync(0), full_);
  journal_.answer = absl::OkStatus();
  time_.Advance(absl::Seconds(1));
  EXPECT_TRUE(
      commit_->AddAndWait(0, [](std::string* out) { *out += "b;"; }).ok());
  EXPECT_EQ(Stored(), "a;|b;|");
}

// Also who blocks on records behind the append that fails.
TEST(GroupCommitTest, WhoBlocksBehindAStallIsTold) {
  SlowJournal journal;
  SimulatedExecutor time;
  auto commit = *GroupCommit::Create(&journal, &time, &time);
  commit->Add(0, [](std::string* out) { out->append("a"); });
  commit->Flush(0);
  std::atomic<bool> added{false};
  std::thread blocked([&] {
    const absl::Status s = commit->AddAndWait(0, [&](std::string* out) {
      out->append("b");
      added = true;
    });
    EXPECT_TRUE(absl::IsUnavailable(s)) << s;
  });
  while (!added) std::this_thread::yield();
  commit->Position(0);  // Waits for the mutex: the thread has lined up.
  journal.Answer(0, absl::UnavailableError("gone"));
  blocked.join();
  time.Advance(absl::Seconds(1));
  journal.Answer(0);
  EXPECT_EQ(Payload(journal.pending[0][0]), "b");
  journal.Answer(0);
}

TEST_F(StalledCommit, FencedMeanwhileIsForEver) {
  StallWith(full_);
  Add(2);
  ASSERT_TRUE(journal_.Acquire(0).ok());
  journal_.answer = absl::OkStatus();
  time_.Advance(absl::Seconds(1));
  Add(3);
  constexpr absl::StatusCode kFenced = absl::StatusCode::kFailedPrecondition;
  EXPECT_EQ(told_, (std::vector<std::pair<int, absl::StatusCode>>{
                       {1, kFenced}, {2, kFenced}, {3, kFenced}}));
  EXPECT_EQ(commit_->CheckWritable(0).code(), kFenced);
  EXPECT_TRUE(resumed_.empty());
  EXPECT_EQ(Stored(), "");
}

TEST_F(StalledCommit, DrainGivesItUp) {
  StallWith(full_);
  Add(2);
  commit_->Add(1, [](std::string* out) { out->append("5;"); });
  journal_.answer = absl::OkStatus();
  commit_->Drain();
  Add(3);
  constexpr absl::StatusCode kCancelled = absl::StatusCode::kCancelled;
  EXPECT_EQ(told_, (std::vector<std::pair<int, absl::StatusCode>>{
                       {1, kCancelled}, {2, kCancelled}, {3, kCancelled}}));
  EXPECT_TRUE(absl::StrContains(commit_->CheckWritable(0).message(),
                                "the disk is full"));
  const size_t asked = journal_.asked.size();
  time_.Advance(absl::Hours(1));  // The retry that was due does nothing.
  EXPECT_EQ(journal_.asked.size(), asked);
  EXPECT_EQ(Stored(), "");
  EXPECT_EQ(Stored(1), "5;|");  // The other was not stalled.
}

TEST_F(StalledCommit, DrainOfOneThatStallsOnlyThen) {
  journal_.answer = gone_;
  commit_->Add(
      0, [](std::string* out) { out->append("1;"); },
      [this](const absl::Status& s) {
        told_.emplace_back(1, s.code());
        Add(2, 1);  // To one that has nothing to do so far.
      });
  commit_->Drain();
  EXPECT_EQ(told_, (std::vector<std::pair<int, absl::StatusCode>>{
                       {1, absl::StatusCode::kCancelled},
                       {2, absl::StatusCode::kCancelled}}));
}

TEST_F(StalledCommit, AFullBufferIsNotWritable) {
  StallWith(gone_);
  const std::string record(GroupCommit::kBufferBytesMax / 4, 'x');
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(commit_->CheckWritable(0), gone_);
    commit_->Add(0, [&](std::string* out) { out->append(record); });
  }
  const absl::Status full = commit_->CheckWritable(0);
  EXPECT_TRUE(absl::IsResourceExhausted(full));
  EXPECT_TRUE(absl::StrContains(full.message(), "wait for the journal: the"))
      << full;
  Add(2);  // Is taken all the same.
  journal_.answer = absl::OkStatus();
  time_.Advance(absl::Seconds(1));
  EXPECT_TRUE(commit_->CheckWritable(0).ok());
  EXPECT_EQ(resumed_, std::vector<int>{0});
  EXPECT_EQ(told_.size(), 2);
  EXPECT_EQ(Stored().size(), std::string("1;|2;|").size() + 4 * record.size());
}

// A journal that is only slow fills the buffer, too.
TEST(GroupCommitTest, AFullBufferIsNotWritableBehindASlowJournal) {
  SlowJournal journal;
  SimulatedExecutor time;
  auto commit = *GroupCommit::Create(&journal, &time, &time);
  int resumed = 0;
  commit->SetResumed([&](int) { ++resumed; });
  commit->Add(0, [](std::string* out) { out->append("a"); });
  commit->Flush(0);
  commit->Add(0, [](std::string* out) {
    out->append(GroupCommit::kBufferBytesMax, 'x');
  });
  EXPECT_TRUE(absl::IsResourceExhausted(commit->CheckWritable(0)));
  EXPECT_TRUE(absl::IsResourceExhausted(
      commit->AddAndWait(0, [](std::string*) { FAIL(); })));
  journal.Answer(0);
  EXPECT_TRUE(commit->CheckWritable(0).ok());
  EXPECT_EQ(resumed, 1);
  journal.Answer(0);
}

// Failures at random, on real threads: every record is there once, in its
// thread's order, and so are the callbacks.
TEST(GroupCommitTest, ManyThreadsOverAJournalThatFails) {
  // Answers one append in two with an error, stored or not.
  class Flaky : public ForwardingJournal {
   public:
    Flaky()
        : ForwardingJournal(
              {.partition_count = 2,
               .retained_bytes_max = MemoryJournalOptions::kRetainAll}) {}
    void Append(int partition, uint64_t epoch, uint64_t sequence,
                std::string chunk, Done done) override {
      const uint32_t n = count_.fetch_add(1) * 2654435761u >> 16;
      if (n % 4 == 0) {
        std::move(done)(absl::ResourceExhaustedError("full"));
      } else if (n % 4 == 1) {
        ForwardingJournal::Append(partition, epoch, sequence, std::move(chunk),
                                  [](const absl::Status&) {});
        std::move(done)(absl::UnavailableError("the answer was lost"));
      } else {
        ForwardingJournal::Append(partition, epoch, sequence, std::move(chunk),
                                  std::move(done));
      }
    }

   private:
    std::atomic<uint32_t> count_{0};
  };
  // For which every retry is due at once.
  class Late : public Clock {
   public:
    absl::Time Now() override { return Clock::Real().Now(); }
    absl::Duration Monotonic() override {
      return Clock::Real().Monotonic() - 2 * GroupCommit::kRetryDelayMax;
    }
  };
  Flaky journal;
  Late clock;
  auto executor = MakeThreadExecutor(2);
  auto commit = *GroupCommit::Create(&journal, executor.get(), &clock);
  std::atomic<int> resumed{0};
  commit->SetResumed([&](int) { ++resumed; });
  constexpr int kThreads = 3, kPerThread = 400;
  // By partition, whose callbacks run one at a time.
  std::vector<std::vector<int>> durable(2, std::vector<int>(kThreads, 0));
  std::atomic<int> left{kThreads * kPerThread};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kPerThread; ++i) {
        const int partition = i % 2;
        commit->Add(
            partition,
            [&](std::string* out) {
              AppendRecord(TwinErasedRecord{static_cast<uint32_t>(t), 0,
                                            static_cast<uint64_t>(i)},
                           out);
            },
            [&, t, i, partition](const absl::Status& s) {
              EXPECT_TRUE(s.ok()) << s;
              EXPECT_EQ(durable[partition][t]++, i / 2);
              --left;
            });
        commit->Flush(partition);
        commit->Sync(partition).IgnoreError();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  while (left > 0) std::this_thread::yield();
  EXPECT_GT(resumed, 0);
  commit->Drain();
  for (int partition : {0, 1}) {
    std::vector<int64_t> next(kThreads, partition);
    const auto end =
        ReadChunks(journal, partition, [&](absl::string_view payload) {
          return ReadRecords(payload, [&](const Record& r) {
            const auto& e = std::get<TwinErasedRecord>(r);
            int64_t& expected = next[e.shard];
            EXPECT_EQ(static_cast<int64_t>(e.sequence), expected);
            expected += 2;
            return absl::OkStatus();
          });
        });
    ASSERT_TRUE(end.ok()) << end.status();
    EXPECT_EQ(next, std::vector<int64_t>(kThreads, kPerThread + partition));
  }
}

TEST(GroupCommitTest, WhatComesAfterReleaseIsNotAcknowledged) {
  auto journal = *MakeMemoryJournal(
      {.partition_count = 1,
       .retained_bytes_max = MemoryJournalOptions::kRetainAll});
  SimulatedExecutor executor;
  auto commit = *GroupCommit::Create(journal.get(), &executor, &executor);
  ASSERT_TRUE(
      commit->AddAndWait(0, [](std::string* out) { out->append("a"); }).ok());
  commit->Drain();
  ASSERT_TRUE(commit->Release().ok());
  EXPECT_TRUE(commit->Sync(0).ok());  // What was durable still is.
  commit->Add(0, [](std::string* out) { out->append("b"); });
  commit->Flush(0);
  EXPECT_TRUE(absl::IsFailedPrecondition(commit->Sync(0)));
}

// ------------------------------------------------------------------ recovery

class Recovery : public StalledCommit {
 protected:
  // As after a restart.
  void Reopen() {
    commit_->Drain();
    commit_ = Open();
  }
  absl::Status Recover(std::string* all, int partition = 0) {
    all->clear();
    return commit_->Recover(partition, [&](absl::string_view records) {
      absl::StrAppend(all, records, "|");
      return absl::OkStatus();
    });
  }
};

TEST_F(Recovery, GoesOnWhereItEnded) {
  std::string all;
  EXPECT_TRUE(Recover(&all).ok());
  EXPECT_EQ(all, "");
  EXPECT_EQ(commit_->Position(0), GroupCommit::Mark());
  Add(1);
  Add(2);
  const GroupCommit::Mark end = commit_->Position(0);
  EXPECT_EQ(end.sequence, 3);
  Reopen();
  for (int pass : {1, 2}) {
    EXPECT_TRUE(Recover(&all).ok());
    EXPECT_EQ(all, "1;|2;|") << pass;
    EXPECT_EQ(commit_->Position(0), end);
  }
  Add(3);
  EXPECT_EQ(Stored(), "1;|2;|3;|");  // The chain holds.
}

TEST_F(Recovery, ASnapshotStandsForWhatWasBeforeIt) {
  Add(1);
  Add(2);
  const GroupCommit::Mark mark = commit_->Position(0);
  Add(3);
  ASSERT_TRUE(commit_->WriteSnapshot(0, mark, {"1;", "", "2;"}).ok());
  EXPECT_EQ(
      journal_
          .Read(0, 2,
                [](uint64_t, absl::string_view) { return absl::OkStatus(); })
          .code(),
      absl::StatusCode::kOutOfRange);  // Let go.
  std::string all;
  Reopen();
  ASSERT_TRUE(Recover(&all).ok());
  EXPECT_EQ(all, "1;||2;|3;|");
  Add(4);
  ASSERT_TRUE(commit_->WriteSnapshot(0, commit_->Position(0), {"1-4;"}).ok());
  Reopen();
  ASSERT_TRUE(Recover(&all).ok());
  EXPECT_EQ(all, "1-4;|");
  Add(5);
  Reopen();
  ASSERT_TRUE(Recover(&all).ok());
  EXPECT_EQ(all, "1-4;|5;|");
}

// The owner after one that stalled decides what became of its last chunk.
TEST_F(Recovery, AfterAnAnswerThatNeverCame) {
  Add(1);
  journal_.stores_all_the_same = true;
  journal_.answer = gone_;
  Add(2);
  Add(3);
  commit_->Drain();
  EXPECT_EQ(told_.back(), std::make_pair(3, absl::StatusCode::kCancelled));
  journal_.answer = absl::OkStatus();
  Reopen();
  std::string all;
  ASSERT_TRUE(Recover(&all).ok());
  EXPECT_EQ(all, "1;|2;|");
}

TEST_F(Recovery, ChunksThatAreGoneAreMissed) {
  // Forgets its last chunk, but not that it had one.
  class Torn : public ForwardingJournal {
   public:
    using ForwardingJournal::ForwardingJournal;
    absl::StatusOr<Ownership> Acquire(int) override { return Ownership{9, 3}; }
  };
  Torn torn({.retained_bytes_max = MemoryJournalOptions::kRetainAll});
  const uint64_t epoch = torn.ForwardingJournal::Acquire(0)->epoch;
  std::string chunk(ChunkHeader::kSize, ' ');
  ChunkHeader header;
  header.sequence = 1;
  SealChunk(header, &chunk);
  torn.Append(0, epoch, 1, chunk, [](const absl::Status&) {});
  auto commit = *GroupCommit::Create(&torn, &time_, &time_);
  const absl::Status status =
      commit->Recover(0, [](absl::string_view) { return absl::OkStatus(); });
  EXPECT_TRUE(absl::IsDataLoss(status));
  EXPECT_EQ(status.message(),
            "partition 0, chunk 2, byte 0: it is missing; the next to write "
            "is 3");
}

TEST_F(Recovery, FromAJournalThatAnotherWritesNow) {
  Add(1);
  Reopen();
  auto other = Open();
  std::string all;
  ASSERT_TRUE(
      other->Recover(0, [](absl::string_view) { return absl::OkStatus(); })
          .ok());
  EXPECT_TRUE(
      other->AddAndWait(0, [](std::string* out) { *out += "2;"; }).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(Recover(&all)));
}

TEST_F(Recovery, NothingOfAJournalThatForgets) {
  auto journal = *MakeMemoryJournal({.retained_bytes_max = 1 << 20});
  for (int life : {1, 2}) {
    auto commit = *GroupCommit::Create(journal.get(), &time_, &time_);
    EXPECT_TRUE(commit
                    ->Recover(0,
                              [](absl::string_view) {
                                ADD_FAILURE();
                                return absl::OkStatus();
                              })
                    .ok());
    EXPECT_TRUE(
        commit->AddAndWait(0, [](std::string* out) { *out += "x"; }).ok())
        << life;
  }
}

TEST_F(Recovery, WhatIsReleasedTakesNothing) {
  Add(1);
  auto other = Open();  // Fences: nothing of ours to release.
  commit_->Drain();
  EXPECT_TRUE(commit_->Release().ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(commit_->CheckWritable(0)));
  std::string all;
  ASSERT_TRUE(
      other->Recover(0, [](absl::string_view) { return absl::OkStatus(); })
          .ok());
  EXPECT_TRUE(
      other->AddAndWait(0, [](std::string* out) { *out += "2;"; }).ok());
  other->Drain();
  EXPECT_TRUE(other->Release().ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(
      other->AddAndWait(0, [](std::string*) { FAIL(); })));
  EXPECT_EQ(Stored(), "1;|2;|");
}

}  // namespace
}  // namespace muster
