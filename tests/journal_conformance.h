// What every Journal adapter promises (engine/journal/journal.h), sentence by
// sentence.  An adapter's test instantiates it with a way to make an empty one:
//
//   INSTANTIATE_TEST_SUITE_P(Memory, JournalConformance,
//                            testing::Values(JournalFactory{...}));
#ifndef TESTS_JOURNAL_CONFORMANCE_H_
#define TESTS_JOURNAL_CONFORMANCE_H_

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "engine/journal/journal.h"
#include "gtest/gtest.h"

namespace muster {

// Makes an empty journal with 4 partitions that keeps what it is given.
using JournalFactory = std::function<std::unique_ptr<Journal>()>;

class JournalConformance : public testing::TestWithParam<JournalFactory> {
 protected:
  JournalConformance() : journal_(GetParam()()) {}

  absl::Status Append(int partition, uint64_t epoch, uint64_t sequence,
                      const std::string& chunk) {
    absl::Notification answered;
    absl::Status result;
    journal_->Append(partition, epoch, sequence, chunk,
                     [&](absl::Status status) {
                       result = std::move(status);
                       answered.Notify();  // A second call would crash.
                     });
    answered.WaitForNotification();
    return result;
  }

  std::vector<std::string> Read(int partition, uint64_t from) {
    std::vector<std::string> chunks;
    const absl::Status status = journal_->Read(
        partition, from, [&](uint64_t sequence, absl::string_view chunk) {
          EXPECT_EQ(sequence, from + chunks.size());  // Gap-free, in order.
          chunks.emplace_back(chunk);
          return absl::OkStatus();
        });
    EXPECT_TRUE(status.ok()) << status;
    return chunks;
  }

  using Snapshot = std::pair<uint64_t, std::vector<std::string>>;

  Snapshot ReadSnapshot(int partition) {
    Snapshot snapshot;
    const absl::StatusOr<uint64_t> sequence =
        journal_->ReadSnapshot(partition, [&](absl::string_view part) {
          snapshot.second.emplace_back(part);
          return absl::OkStatus();
        });
    EXPECT_TRUE(sequence.ok()) << sequence.status();
    snapshot.first = sequence.value_or(0);
    return snapshot;
  }

  std::unique_ptr<Journal> journal_;
};

TEST_P(JournalConformance, StartsEmpty) {
  EXPECT_EQ(journal_->partition_count(), 4);
  auto owned = journal_->Acquire(2);
  ASSERT_TRUE(owned.ok()) << owned.status();
  EXPECT_EQ(owned->next_sequence, 1);
  EXPECT_TRUE(Read(2, 1).empty());
}

TEST_P(JournalConformance, ThereIsNoOtherPartition) {
  for (int partition : {-1, 4}) {
    EXPECT_EQ(journal_->Acquire(partition).status().code(),
              absl::StatusCode::kOutOfRange);
    EXPECT_EQ(Append(partition, 1, 1, "x").code(),
              absl::StatusCode::kOutOfRange);
  }
}

TEST_P(JournalConformance, KeepsChunksInOrderPerPartition) {
  for (int partition : {0, 3}) {
    const uint64_t epoch = journal_->Acquire(partition)->epoch;
    for (uint64_t i = 1; i <= 20; ++i) {
      const absl::Status s =
          Append(partition, epoch, i, absl::StrCat(partition, "/", i));
      ASSERT_TRUE(s.ok()) << s;
    }
  }
  for (int partition : {0, 3}) {
    const auto chunks = Read(partition, 5);
    ASSERT_EQ(chunks.size(), 16);
    for (int i = 0; i < 16; ++i) {
      EXPECT_EQ(chunks[i], absl::StrCat(partition, "/", i + 5));
    }
  }
  EXPECT_TRUE(Read(1, 1).empty());
}

TEST_P(JournalConformance, AnotherSlotThanTheNextIsRefused) {
  const uint64_t epoch = journal_->Acquire(0)->epoch;
  EXPECT_EQ(Append(0, epoch, 2, "b").code(), absl::StatusCode::kOutOfRange);
  ASSERT_TRUE(Append(0, epoch, 1, "a").ok());
  EXPECT_EQ(Append(0, epoch, 1, "another").code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(Append(0, epoch, 3, "c").code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(Read(0, 1), std::vector<std::string>{"a"});
}

TEST_P(JournalConformance, ARepeatedAppendIsStoredOnce) {
  const uint64_t epoch = journal_->Acquire(0)->epoch;
  ASSERT_TRUE(Append(0, epoch, 1, "a").ok());
  EXPECT_TRUE(Append(0, epoch, 1, "a").ok());
  EXPECT_EQ(Read(0, 1).size(), 1);
}

TEST_P(JournalConformance, ANewOwnerFencesTheOld) {
  const uint64_t old_epoch = journal_->Acquire(0)->epoch;
  ASSERT_TRUE(Append(0, old_epoch, 1, "a").ok());
  auto owned = journal_->Acquire(0);
  ASSERT_TRUE(owned.ok());
  EXPECT_GT(owned->epoch, old_epoch);
  EXPECT_EQ(owned->next_sequence, 2);
  EXPECT_EQ(Append(0, old_epoch, 2, "b").code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Append(0, old_epoch, 1, "a").code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(Append(0, owned->epoch, 2, "c").ok());
  EXPECT_EQ(Read(0, 1), (std::vector<std::string>{"a", "c"}));
}

TEST_P(JournalConformance, AVisitorMayStop) {
  const uint64_t epoch = journal_->Acquire(0)->epoch;
  for (int i = 1; i <= 3; ++i) ASSERT_TRUE(Append(0, epoch, i, "x").ok());
  int seen = 0;
  const absl::Status status =
      journal_->Read(0, 1, [&](uint64_t, absl::string_view) {
        return ++seen == 2 ? absl::CancelledError("enough") : absl::OkStatus();
      });
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(seen, 2);
}

TEST_P(JournalConformance, TrimmedChunksAreGoneAndSaidToBe) {
  const uint64_t epoch = journal_->Acquire(0)->epoch;
  for (int i = 1; i <= 5; ++i) {
    ASSERT_TRUE(Append(0, epoch, i, absl::StrCat(i)).ok());
  }
  ASSERT_TRUE(journal_->Trim(0, 4).ok());
  EXPECT_EQ(Read(0, 4), (std::vector<std::string>{"4", "5"}));
  EXPECT_EQ(
      journal_
          ->Read(0, 3,
                 [](uint64_t, absl::string_view) { return absl::OkStatus(); })
          .code(),
      absl::StatusCode::kOutOfRange);
  EXPECT_TRUE(Append(0, epoch, 6, "6").ok());
  EXPECT_EQ(journal_->Acquire(0)->next_sequence, 7);
}

TEST_P(JournalConformance, TrimmingWhatIsTrimmedOrNotThereYetIsNoHarm) {
  const uint64_t epoch = journal_->Acquire(0)->epoch;
  EXPECT_TRUE(journal_->Trim(0, 9).ok());
  for (int i = 1; i <= 3; ++i) {
    ASSERT_TRUE(Append(0, epoch, i, absl::StrCat(i)).ok());
  }
  EXPECT_TRUE(journal_->Trim(0, 3).ok());
  EXPECT_TRUE(journal_->Trim(0, 2).ok());
  EXPECT_EQ(Read(0, 3), std::vector<std::string>{"3"});
  EXPECT_TRUE(journal_->Trim(0, 100).ok());
  EXPECT_TRUE(Read(0, 4).empty());
  EXPECT_EQ(journal_->Acquire(0)->next_sequence, 4);
  // A slot that was trimmed holds nothing that could be the same.
  EXPECT_EQ(Append(0, journal_->Acquire(0)->epoch, 2, "2").code(),
            absl::StatusCode::kOutOfRange);
}

TEST_P(JournalConformance, WhoReleasesIsFenced) {
  const uint64_t epoch = journal_->Acquire(1)->epoch;
  ASSERT_TRUE(Append(1, epoch, 1, "a").ok());
  EXPECT_TRUE(journal_->Release(1, epoch).ok());
  EXPECT_EQ(Append(1, epoch, 2, "b").code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(journal_->Release(1, epoch).code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(journal_->WriteSnapshot(1, epoch, 2, {"s"}).code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(journal_->Release(4, 1).code(), absl::StatusCode::kOutOfRange);
  auto owned = journal_->Acquire(1);
  ASSERT_TRUE(owned.ok());
  EXPECT_GT(owned->epoch, epoch);
  EXPECT_EQ(owned->next_sequence, 2);
  EXPECT_TRUE(Append(1, owned->epoch, 2, "c").ok());
  EXPECT_EQ(Read(1, 1), (std::vector<std::string>{"a", "c"}));
}

TEST_P(JournalConformance, WithoutASnapshotReadingStartsAtOne) {
  EXPECT_EQ(ReadSnapshot(2), Snapshot(1, {}));
}

TEST_P(JournalConformance, ASnapshotTakesThePlaceOfTheOneBefore) {
  const uint64_t epoch = journal_->Acquire(0)->epoch;
  for (int i = 1; i <= 6; ++i) {
    ASSERT_TRUE(Append(0, epoch, i, absl::StrCat(i)).ok());
  }
  ASSERT_TRUE(journal_->WriteSnapshot(0, epoch, 3, {"a", "", "c"}).ok());
  EXPECT_EQ(ReadSnapshot(0), Snapshot(3, {"a", "", "c"}));
  // It trims nothing by itself.
  EXPECT_EQ(Read(0, 1).size(), 6);
  ASSERT_TRUE(journal_->Trim(0, 3).ok());
  EXPECT_EQ(ReadSnapshot(0), Snapshot(3, {"a", "", "c"}));
  EXPECT_EQ(Read(0, 3).size(), 4);
  ASSERT_TRUE(journal_->WriteSnapshot(0, epoch, 7, {"d"}).ok());
  ASSERT_TRUE(journal_->Trim(0, 7).ok());
  EXPECT_EQ(ReadSnapshot(0), Snapshot(7, {"d"}));
  EXPECT_TRUE(Read(0, 7).empty());
  EXPECT_EQ(ReadSnapshot(1), Snapshot(1, {}));
  EXPECT_TRUE(Append(0, epoch, 7, "7").ok());
  EXPECT_EQ(Read(0, 7), std::vector<std::string>{"7"});
}

TEST_P(JournalConformance, AFencedOwnerWritesNoSnapshot) {
  const uint64_t old_epoch = journal_->Acquire(0)->epoch;
  ASSERT_TRUE(journal_->WriteSnapshot(0, old_epoch, 1, {"old"}).ok());
  const uint64_t epoch = journal_->Acquire(0)->epoch;
  EXPECT_EQ(journal_->WriteSnapshot(0, old_epoch, 1, {"zombie"}).code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReadSnapshot(0), Snapshot(1, {"old"}));
  EXPECT_TRUE(journal_->WriteSnapshot(0, epoch, 1, {"new"}).ok());
  EXPECT_EQ(ReadSnapshot(0), Snapshot(1, {"new"}));
}

TEST_P(JournalConformance, SnapshotsOfAPartitionThatIsNot) {
  for (int partition : {-1, 4}) {
    EXPECT_EQ(journal_->WriteSnapshot(partition, 1, 1, {"x"}).code(),
              absl::StatusCode::kOutOfRange);
    EXPECT_EQ(
        journal_
            ->ReadSnapshot(partition,
                           [](absl::string_view) { return absl::OkStatus(); })
            .status()
            .code(),
        absl::StatusCode::kOutOfRange);
    EXPECT_EQ(journal_->Trim(partition, 1).code(),
              absl::StatusCode::kOutOfRange);
  }
}

TEST_P(JournalConformance, AVisitorMayStopInASnapshot) {
  const uint64_t epoch = journal_->Acquire(0)->epoch;
  ASSERT_TRUE(journal_->WriteSnapshot(0, epoch, 1, {"a", "b", "c"}).ok());
  int seen = 0;
  EXPECT_EQ(journal_
                ->ReadSnapshot(0,
                               [&](absl::string_view) {
                                 return ++seen == 2
                                            ? absl::CancelledError("enough")
                                            : absl::OkStatus();
                               })
                .status()
                .code(),
            absl::StatusCode::kCancelled);
  EXPECT_EQ(seen, 2);
}

// What is read is one instant, whatever is appended, trimmed or replaced
// meanwhile, and visitors may call the journal.
TEST_P(JournalConformance, ReadersSeeOneInstant) {
  const uint64_t epoch = journal_->Acquire(0)->epoch;
  for (int i = 1; i <= 3; ++i) {
    ASSERT_TRUE(Append(0, epoch, i, absl::StrCat(i)).ok());
  }
  ASSERT_TRUE(journal_->WriteSnapshot(0, epoch, 1, {"a", "b"}).ok());
  std::vector<std::string> chunks, parts;
  EXPECT_TRUE(journal_
                  ->Read(0, 1,
                         [&](uint64_t sequence, absl::string_view chunk) {
                           if (sequence == 1) {
                             EXPECT_TRUE(Append(0, epoch, 4, "4").ok());
                             EXPECT_TRUE(journal_->Trim(0, 4).ok());
                           }
                           chunks.emplace_back(chunk);
                           return absl::OkStatus();
                         })
                  .ok());
  EXPECT_EQ(chunks, (std::vector<std::string>{"1", "2", "3"}));
  auto sequence = journal_->ReadSnapshot(0, [&](absl::string_view part) {
    if (parts.empty()) {
      EXPECT_TRUE(journal_->WriteSnapshot(0, epoch, 4, {"c"}).ok());
    }
    parts.emplace_back(part);
    return absl::OkStatus();
  });
  EXPECT_EQ(parts, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(*sequence, 1);
  EXPECT_EQ(ReadSnapshot(0), Snapshot(4, {"c"}));
}

TEST_P(JournalConformance, ForgetsNothing) {
  EXPECT_FALSE(journal_->forgets());
  const uint64_t epoch = journal_->Acquire(0)->epoch;
  const std::string chunk(100'000, 'x');
  for (int i = 1; i <= 40; ++i) ASSERT_TRUE(Append(0, epoch, i, chunk).ok());
  EXPECT_EQ(Read(0, 1).size(), 40);
}

TEST_P(JournalConformance, PartitionsAreWrittenByManyThreads) {
  std::vector<std::thread> threads;
  for (int partition = 0; partition < 4; ++partition) {
    threads.emplace_back([&, partition] {
      const uint64_t epoch = journal_->Acquire(partition)->epoch;
      for (uint64_t i = 1; i <= 200; ++i) {
        ASSERT_TRUE(
            Append(partition, epoch, i, absl::StrCat(partition, ":", i)).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int partition = 0; partition < 4; ++partition) {
    const auto chunks = Read(partition, 1);
    ASSERT_EQ(chunks.size(), 200);
    EXPECT_EQ(chunks[199], absl::StrCat(partition, ":200"));
  }
}

}  // namespace muster

#endif  // TESTS_JOURNAL_CONFORMANCE_H_
