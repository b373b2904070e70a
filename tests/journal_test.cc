// The memory journal, the records' codec, and group commit.
#include "engine/journal/journal.h"

#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/journal/group_commit.h"
#include "engine/journal/record.h"
#include "gtest/gtest.h"
#include "tests/journal_conformance.h"
#include "tests/simulated/simulated_executor.h"

namespace muster {
namespace {

INSTANTIATE_TEST_SUITE_P(Memory, JournalConformance,
                         testing::Values(JournalFactory([] {
                           return *MakeMemoryJournal({.partition_count = 4});
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
      TargetsRecord{7, 3, 12, 99, {0, 1, 5, 16'383}},
      JobStartedRecord{7, t, 4, 1'000'000},
      DispatchedRecord{7, 3, t, {2, 3, 4, 400}},
      ReturnedRecord{7, 3, {4}},
      ResultRecord{7, 3, 0, 2, 0, true, -5, "{\"a\":1}", ""},
      ResultRecord{7, 3, 1, 3, 504101, false, 0, "", "Timed out"},
      FinishedRecord{7, 3, t, {{9, 0}, {2, 1}, {16'383, 0}, {0, 300}}},
      JobEndedRecord{7, 3, absl::UnixEpoch() - absl::Seconds(1), ""},
      TwinWrittenRecord{R"({"deviceId":"d"})", t},
      TwinPatchedRecord{"d", TwinPatchedRecord::kReported, "", "", "{}", t},
      TwinErasedRecord{"d", t},
  };
}

TEST(RecordTest, EveryKindReadsBackAsItWas) {
  const std::vector<Record> records = SomeOfEach();
  std::string chunk;
  for (const Record& record : records) AppendRecord(record, &chunk);
  std::vector<Record> read;
  ASSERT_TRUE(
      ReadRecords(chunk, [&](Record r) { read.push_back(std::move(r)); }).ok());
  EXPECT_EQ(read, records);
}

TEST(RecordTest, TheShortWaysWriteTheSame) {
  const absl::Time t = absl::FromUnixSeconds(1);
  const DispatchedRecord dispatched{7, 3, t, {2, 3, 400}};
  const ReturnedRecord returned{7, 3, {4, 5}};
  const FinishedRecord finished{7, 3, t, {{9, 0}, {2, 1}}};
  std::string longhand, shorthand;
  AppendRecord(dispatched, &longhand);
  AppendRecord(returned, &longhand);
  AppendRecord(finished, &longhand);
  AppendDispatched(7, 3, t, dispatched.ranks, &shorthand);
  AppendReturned(7, 3, returned.ranks, &shorthand);
  AppendFinished(7, 3, t, finished.entries, &shorthand);
  EXPECT_EQ(shorthand, longhand);
}

TEST(RecordTest, AnOutcomeCostsTwoBytes) {
  std::vector<FinishedRecord::Entry> entries;
  for (uint16_t i = 0; i < 256; ++i) entries.push_back({i, 0});
  std::string chunk;
  AppendFinished(1, 1, absl::FromUnixSeconds(1'930'000'000), entries, &chunk);
  EXPECT_LE(chunk.size(), 2 * 256 + 32);
}

// Cut off or changed anywhere, a chunk is an error or other records, never a
// crash.
TEST(RecordTest, DamagedBytesAreRefused) {
  std::string chunk;
  for (const Record& record : SomeOfEach()) AppendRecord(record, &chunk);
  int refused = 0;
  for (size_t size = 0; size < chunk.size(); ++size) {
    const absl::Status s =
        ReadRecords(absl::string_view(chunk).substr(0, size), [](Record) {});
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
    ReadRecords(damaged, [](Record) {}).IgnoreError();
  }
}

// ------------------------------------------------------------ group commit

// Answers when it is told to.
class SlowJournal : public Journal {
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
  absl::Status Read(
      int, uint64_t,
      absl::FunctionRef<absl::Status(uint64_t, absl::string_view)>)
      const override {
    return absl::OkStatus();
  }
  absl::Status Trim(int, uint64_t) override { return absl::OkStatus(); }

  void Answer(int partition, absl::Status status = absl::OkStatus()) {
    ASSERT_EQ(pending[partition].size(), 1);  // One at a time.
    Pending p = std::move(pending[partition].front());
    pending[partition].clear();
    std::move(p.done)(std::move(status));
  }

  std::vector<Pending> pending[2];
};

TEST(GroupCommitTest, GathersWhileAnAppendIsUnderWay) {
  SlowJournal journal;
  SimulatedExecutor executor;
  auto commit = *GroupCommit::Create(&journal, &executor);
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
  EXPECT_EQ(journal.pending[0][0].chunk, "1;");
  EXPECT_TRUE(durable.empty());
  journal.Answer(0);
  EXPECT_EQ(durable, std::vector<int>{1});
  ASSERT_EQ(journal.pending[0].size(), 1);  // The next left by itself.
  EXPECT_EQ(journal.pending[0][0].chunk, "2;3;");
  EXPECT_EQ(journal.pending[0][0].sequence, 2);
  journal.Answer(0);
  EXPECT_EQ(durable, (std::vector<int>{1, 2, 3}));
  EXPECT_TRUE(journal.pending[0].empty());
  EXPECT_TRUE(journal.pending[1].empty());
}

TEST(GroupCommitTest, ARefusalIsToldAndIsForEver) {
  SlowJournal journal;
  SimulatedExecutor executor;
  auto commit = *GroupCommit::Create(&journal, &executor);
  std::vector<absl::Status> told;
  auto add = [&](int partition) {
    commit->Add(
        partition, [](std::string* out) { out->append("x"); },
        [&](const absl::Status& s) { told.push_back(s); });
    commit->Flush(partition);
  };
  add(0);
  journal.Answer(0, absl::ResourceExhaustedError("the disk is full"));
  add(0);
  ASSERT_EQ(told.size(), 2);
  for (const absl::Status& s : told) {
    EXPECT_EQ(s.code(), absl::StatusCode::kResourceExhausted);
  }
  EXPECT_TRUE(journal.pending[0].empty());  // It was not even asked.
  add(1);                                   // Another partition goes on.
  journal.Answer(1);
  EXPECT_TRUE(told.back().ok());
}

TEST(GroupCommitTest, AFullBufferFlushesItself) {
  SlowJournal journal;
  SimulatedExecutor executor;
  auto commit = *GroupCommit::Create(&journal, &executor);
  const std::string record(GroupCommit::kFlushBytes / 4, 'x');
  for (int i = 0; i < 3; ++i) {
    commit->Add(1, [&](std::string* out) { out->append(record); });
  }
  executor.RunReady();
  EXPECT_TRUE(journal.pending[1].empty());
  commit->Add(1, [&](std::string* out) { out->append(record); });
  executor.RunReady();
  ASSERT_EQ(journal.pending[1].size(), 1);
  EXPECT_EQ(journal.pending[1][0].chunk.size(), 4 * record.size());
  journal.Answer(1);
}

// A journal that answers at once is driven by a loop: callbacks that add more
// do not nest.
TEST(GroupCommitTest, AnsweringAtOnceDoesNotRecur) {
  auto journal = *MakeMemoryJournal({.partition_count = 1});
  SimulatedExecutor executor;
  auto commit = *GroupCommit::Create(journal.get(), &executor);
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
  EXPECT_EQ(commit->bytes(), 100'000);
}

// Each thread's records are durable in its order, and a wait ends after them.
TEST(GroupCommitTest, ManyThreadsWaitForTheirRecords) {
  auto journal = *MakeMemoryJournal({.partition_count = 2});
  auto executor = MakeThreadExecutor(2);
  auto commit = *GroupCommit::Create(journal.get(), executor.get());
  constexpr int kThreads = 4, kPerThread = 500;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kPerThread; ++i) {
        const absl::Status s = commit->AddAndWait(i % 2, [&](std::string* out) {
          AppendRecord(
              TwinErasedRecord{absl::StrCat(t), absl::FromUnixSeconds(i)}, out);
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
    ASSERT_TRUE(journal
                    ->Read(partition, 1,
                           [&](uint64_t, absl::string_view chunk) {
                             return ReadRecords(chunk, [&](Record r) {
                               const auto& e = std::get<TwinErasedRecord>(r);
                               const int t = std::stoi(e.device_id);
                               const int64_t i = absl::ToUnixSeconds(e.time);
                               EXPECT_GT(i, last[t]);
                               last[t] = i;
                               ++records;
                             });
                           })
                    .ok());
    EXPECT_EQ(records, kThreads * kPerThread / 2);
  }
}

}  // namespace
}  // namespace muster
