// The journal in a folder: what it keeps over closing, killing, damage, a full
// disk and one that fails.
#include "engine/journal/rocksdb/rocksdb_journal.h"

#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/disk_faults.h"
#include "tests/journal_conformance.h"

namespace muster {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// A folder of the test's own, not there yet.
std::string NewFolder() {
  std::string path = absl::StrCat(::testing::TempDir(), "/journal.XXXXXX");
  EXPECT_NE(mkdtemp(path.data()), nullptr);
  return fs::canonical(path).string() + "/data";
}

std::unique_ptr<RocksDbJournal> OpenJournal(
    const std::string& folder, JournalSync sync = JournalSync::kGroup) {
  auto journal = RocksDbJournal::Open(
      {.directory = folder, .partition_count = 4, .sync = sync});
  EXPECT_TRUE(journal.ok()) << journal.status();
  return journal.ok() ? *std::move(journal) : nullptr;
}

template <JournalSync sync>
std::unique_ptr<Journal> MakeJournal() {
  return OpenJournal(NewFolder(), sync);
}

INSTANTIATE_TEST_SUITE_P(RocksDbGroup, JournalConformance,
                         testing::Values(MakeJournal<JournalSync::kGroup>));
INSTANTIATE_TEST_SUITE_P(RocksDbEach, JournalConformance,
                         testing::Values(MakeJournal<JournalSync::kEach>));
INSTANTIATE_TEST_SUITE_P(RocksDbNone, JournalConformance,
                         testing::Values(MakeJournal<JournalSync::kNone>));

absl::Status Append(Journal& journal, int partition, uint64_t epoch,
                    uint64_t sequence, const std::string& chunk) {
  absl::Notification answered;
  absl::Status result;
  journal.Append(partition, epoch, sequence, chunk, [&](absl::Status status) {
    result = std::move(status);
    answered.Notify();
  });
  answered.WaitForNotification();
  return result;
}

// The chunk that a test puts in a slot: of any size, and unlike all others.
std::string Chunk(int partition, uint64_t sequence) {
  std::string chunk = absl::StrCat(partition, "/", sequence, ":");
  std::mt19937 random(static_cast<uint32_t>(sequence * 31 + partition));
  const size_t size = random() % 3 == 0 ? random() % 9'000 : random() % 200;
  while (chunk.size() < size) chunk.push_back(static_cast<char>(random()));
  return chunk;
}

// All that can be read of a partition.
struct Contents {
  uint64_t snapshot_sequence = 0;
  std::vector<std::string> parts;
  std::vector<std::string> chunks;  // From snapshot_sequence on.

  friend bool operator==(const Contents&, const Contents&) = default;
};

absl::StatusOr<std::vector<Contents>> ReadAll(const Journal& journal) {
  std::vector<Contents> all;
  for (int i = 0; i < journal.partition_count(); ++i) {
    Contents& contents = all.emplace_back();
    auto sequence = journal.ReadSnapshot(i, [&](absl::string_view part) {
      contents.parts.emplace_back(part);
      return absl::OkStatus();
    });
    if (!sequence.ok()) return sequence.status();
    contents.snapshot_sequence = *sequence;
    absl::Status s =
        journal.Read(i, *sequence, [&](uint64_t, absl::string_view chunk) {
          contents.chunks.emplace_back(chunk);
          return absl::OkStatus();
        });
    if (!s.ok()) return s;
  }
  return all;
}

std::vector<fs::path> FilesIn(const std::string& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

// A copy of a folder as it is, for instance while a journal is open in it and
// nothing is written: what kill -9 would leave.
std::string CopyOf(const std::string& folder) {
  for (;;) {
    const std::string copy = NewFolder();
    // Files that are not needed any more go in the background.
    std::error_code error;
    const std::vector<fs::path> before = FilesIn(folder);
    fs::copy(folder, copy, fs::copy_options::recursive, error);
    if (!error && FilesIn(folder) == before) return copy;
  }
}

// A folder with chunks in tables and in the log, snapshots and trimmed chunks.
// Returns the journal, open.
std::unique_ptr<RocksDbJournal> Populate(const std::string& folder) {
  std::unique_ptr<RocksDbJournal> journal;
  uint64_t next = 1;
  for (int round = 0; round < 3; ++round) {
    journal = nullptr;
    journal = OpenJournal(folder);  // Writes what is in the log into a table.
    for (int partition : {0, 1, 3}) {
      const uint64_t epoch = journal->Acquire(partition)->epoch;
      for (uint64_t i = next; i < next + 10; ++i) {
        EXPECT_TRUE(
            Append(*journal, partition, epoch, i, Chunk(partition, i)).ok());
      }
      if (partition != 1) {
        EXPECT_TRUE(journal
                        ->WriteSnapshot(partition, epoch, next + 2,
                                        {Chunk(9, next), Chunk(9, next + 1)})
                        .ok());
        EXPECT_TRUE(journal->Trim(partition, next + 2).ok());
        EXPECT_TRUE(Append(*journal, partition, epoch, next + 10,
                           Chunk(partition, next + 10))
                        .ok());
      } else {
        EXPECT_TRUE(
            Append(*journal, 1, epoch, next + 10, Chunk(1, next + 10)).ok());
      }
    }
    next += 11;
  }
  return journal;
}

std::string ReadFile(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void WriteFile(const fs::path& path, absl::string_view bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

// The log that is being written: the newest.
fs::path NewestLog(const std::string& folder) {
  fs::path newest;
  for (const fs::path& path : FilesIn(folder)) {
    if (path.extension() == ".log") newest = path;
  }
  return newest;
}

absl::Status OpenStatus(const std::string& folder) {
  return RocksDbJournal::Open({.directory = folder}).status();
}

// ------------------------------------------------------------ the folder

TEST(RocksDbJournalTest, RefusesBadOptions) {
  EXPECT_EQ(OpenStatus("").code(), absl::StatusCode::kInvalidArgument);
  for (int partitions : {0, -1, 257}) {
    EXPECT_EQ(RocksDbJournal::Open(
                  {.directory = NewFolder(), .partition_count = partitions})
                  .status()
                  .code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST(RocksDbJournalTest, TheParentMustBeThere) {
  const std::string folder = NewFolder() + "/a/b";
  const absl::Status s = OpenStatus(folder);
  EXPECT_EQ(s.code(), absl::StatusCode::kNotFound) << s;
  EXPECT_THAT(std::string(s.message()), HasSubstr(folder));
}

TEST(RocksDbJournalTest, AFolderOfOtherThingsIsLeftAlone) {
  const std::string folder = NewFolder();
  fs::create_directory(folder);
  WriteFile(folder + "/letters.txt", "dear");
  const absl::Status s = OpenStatus(folder);
  EXPECT_EQ(s.code(), absl::StatusCode::kFailedPrecondition) << s;
  EXPECT_THAT(std::string(s.message()), HasSubstr("letters.txt"));
  EXPECT_EQ(FilesIn(folder).size(), 1);
}

// Keys of devices are in it.
TEST(RocksDbJournalTest, WhatIsKeptIsForItsOwnerAlone) {
  const auto others = fs::perms::group_all | fs::perms::others_all;
  const std::string made_by_us = NewFolder();
  OpenJournal(made_by_us);
  EXPECT_EQ(fs::status(made_by_us).permissions() & others, fs::perms::none);
  const std::string was_there = NewFolder();
  fs::create_directory(was_there);
  fs::permissions(was_there, fs::perms::all);
  OpenJournal(was_there);
  for (const std::string& folder : {made_by_us, was_there}) {
    EXPECT_EQ(fs::status(folder + "/db").permissions() & others,
              fs::perms::none)
        << folder;
  }
  // As an earlier version made it.
  fs::permissions(made_by_us + "/db", fs::perms::all);
  OpenJournal(made_by_us);
  EXPECT_EQ(fs::status(made_by_us + "/db").permissions() & others,
            fs::perms::none);
}

TEST(RocksDbJournalTest, ASecondEngineIsKeptOut) {
  const std::string folder = NewFolder();
  auto first = OpenJournal(folder);
  const absl::Status s = OpenStatus(folder);
  EXPECT_EQ(s.code(), absl::StatusCode::kFailedPrecondition) << s;
  EXPECT_THAT(std::string(s.message()),
              HasSubstr(absl::StrCat("process ", getpid())));
  first = nullptr;
  EXPECT_TRUE(OpenStatus(folder).ok());
}

TEST(RocksDbJournalTest, ANewerFormatIsRefusedByNameAndLeftAlone) {
  const std::string folder = NewFolder();
  Populate(folder);
  WriteFile(folder + "/format", "muster journal 2\n");
  const auto files = FilesIn(folder);
  const absl::Status s = OpenStatus(folder);
  EXPECT_EQ(s.code(), absl::StatusCode::kFailedPrecondition) << s;
  EXPECT_THAT(std::string(s.message()), HasSubstr("\"muster journal 2\""));
  EXPECT_THAT(std::string(s.message()), HasSubstr("newer"));
  EXPECT_EQ(FilesIn(folder), files);
  WriteFile(folder + "/format", "muster journal 1\n");
  EXPECT_TRUE(OpenStatus(folder).ok());
}

TEST(RocksDbJournalTest, AFolderKeepsItsNumberOfPartitions) {
  const std::string folder = NewFolder();
  OpenJournal(folder);
  auto again =
      RocksDbJournal::Open({.directory = folder, .partition_count = 7});
  ASSERT_TRUE(again.ok());
  EXPECT_EQ((*again)->partition_count(), 4);
}

// Cut short anywhere, making a folder can be made good by doing it again.
TEST(RocksDbJournalTest, AFolderHalfMadeIsMadeAnew) {
  int opened = 0;
  for (int64_t call = 1; opened == 0; ++call) {
    ASSERT_LT(call, 200);
    const std::string folder = NewFolder();
    DiskFaults::Arm(folder, EIO, call, INT64_MAX);
    opened += OpenStatus(folder).ok() ? 1 : 0;
    DiskFaults::Disarm();
    auto journal = OpenJournal(folder);
    ASSERT_NE(journal, nullptr) << "after " << call - 1 << " calls";
    EXPECT_EQ(journal->Acquire(3)->next_sequence, 1);
  }
}

// --------------------------------------------------------------- keeping

class RocksDbJournalSyncTest : public testing::TestWithParam<JournalSync> {};

INSTANTIATE_TEST_SUITE_P(All, RocksDbJournalSyncTest,
                         testing::Values(JournalSync::kNone,
                                         JournalSync::kGroup,
                                         JournalSync::kEach));

TEST_P(RocksDbJournalSyncTest, ClosedOrKilledItKeepsAll) {
  const std::string folder = NewFolder();
  auto journal = OpenJournal(folder, GetParam());
  std::vector<uint64_t> epochs;
  for (int partition = 0; partition < 4; ++partition) {
    epochs.push_back(journal->Acquire(partition)->epoch);
    for (uint64_t i = 1; i <= 30; ++i) {
      ASSERT_TRUE(
          Append(*journal, partition, epochs[partition], i, Chunk(partition, i))
              .ok());
    }
  }
  ASSERT_TRUE(journal->WriteSnapshot(2, epochs[2], 21, {"p", "q"}).ok());
  ASSERT_TRUE(journal->Trim(2, 21).ok());
  const auto contents = ReadAll(*journal);
  ASSERT_TRUE(contents.ok()) << contents.status();
  EXPECT_EQ((*contents)[2].chunks.size(), 10);
  const std::string killed = CopyOf(folder);
  journal = nullptr;
  for (const std::string& path : {folder, killed}) {
    for (int round = 0; round < 2; ++round) {
      auto again = OpenJournal(path, GetParam());
      ASSERT_NE(again, nullptr);
      const auto read = ReadAll(*again);
      ASSERT_TRUE(read.ok()) << read.status();
      EXPECT_TRUE(*read == *contents);
      // Trimmed stays trimmed, and owners of before are fenced.
      EXPECT_EQ(again
                    ->Read(2, 20,
                           [](uint64_t, absl::string_view) {
                             return absl::OkStatus();
                           })
                    .code(),
                absl::StatusCode::kOutOfRange);
      const auto owned = again->Acquire(2);
      EXPECT_EQ(owned->next_sequence, 31);
      EXPECT_GT(owned->epoch, epochs[2]);
      epochs[2] = owned->epoch;
    }
    epochs[2] = 1;
  }
}

// What each mode promises, in calls to the disk.
TEST_P(RocksDbJournalSyncTest, SyncsAsOftenAsItPromises) {
  const std::string folder = NewFolder();
  auto journal = OpenJournal(folder, GetParam());
  const uint64_t epoch = journal->Acquire(0)->epoch;
  constexpr uint64_t kAppends = 100;
  DiskFaults::Arm(folder, 0, INT64_MAX, INT64_MAX);  // Only counts.
  for (uint64_t i = 1; i <= kAppends; ++i) {
    const int64_t before = DiskFaults::Syncs();
    ASSERT_TRUE(Append(*journal, 0, epoch, i, "x").ok());
    if (GetParam() != JournalSync::kNone) {
      EXPECT_GT(DiskFaults::Syncs(), before);
    }
  }
  if (GetParam() == JournalSync::kNone) {
    EXPECT_LT(DiskFaults::Syncs(), kAppends / 2);
  }
  DiskFaults::Arm(folder, 0, INT64_MAX, INT64_MAX);
  absl::Notification last;
  for (uint64_t i = 1; i <= kAppends; ++i) {
    journal->Append(0, epoch, kAppends + i, "x", [&, i](absl::Status s) {
      EXPECT_TRUE(s.ok()) << s;
      if (i == kAppends) last.Notify();
    });
  }
  last.WaitForNotification();
  if (GetParam() == JournalSync::kEach) {
    EXPECT_GE(DiskFaults::Syncs(), kAppends);
  } else {
    EXPECT_LT(DiskFaults::Syncs(), kAppends);
  }
  DiskFaults::Disarm();
}

TEST(RocksDbJournalTest, CountsWhatItDoes) {
  auto journal = OpenJournal(NewFolder());
  EXPECT_EQ(journal->Stats().commits, 0);
  EXPECT_EQ(journal->Stats().commit_p50, absl::ZeroDuration());
  const uint64_t epoch = journal->Acquire(0)->epoch;
  for (uint64_t i = 1; i <= 5; ++i) {
    ASSERT_TRUE(Append(*journal, 0, epoch, i, "12345").ok());
  }
  EXPECT_FALSE(Append(*journal, 0, epoch, 9, "12345").ok());
  const RocksDbJournalStats stats = journal->Stats();
  EXPECT_EQ(stats.appends, 5);
  EXPECT_EQ(stats.append_bytes, 25);
  EXPECT_EQ(stats.commits, 6);  // And the acquisition.
  EXPECT_EQ(stats.reopened, 0);
  EXPECT_GT(stats.commit_p50, absl::ZeroDuration());
  EXPECT_GE(stats.commit_p99, stats.commit_p50);
  EXPECT_GT(stats.disk_bytes, 0);
  EXPECT_EQ(stats.disk_bytes, journal->DiskUsage());
}

// Appends that come while a sync is under way share the next.
TEST(RocksDbJournalTest, AppendsShareASync) {
  auto journal = OpenJournal(NewFolder());
  const uint64_t epoch = journal->Acquire(1)->epoch;
  constexpr int kAppends = 2'000;
  absl::Mutex mutex;
  int answered = 0;
  for (uint64_t i = 1; i <= kAppends; ++i) {
    journal->Append(1, epoch, i, Chunk(1, i), [&](absl::Status s) {
      EXPECT_TRUE(s.ok()) << s;
      absl::MutexLock lock(&mutex);
      ++answered;
    });
  }
  absl::MutexLock lock(&mutex);
  const auto all_answered = [&] { return answered == kAppends; };
  mutex.Await(absl::Condition(&all_answered));
  EXPECT_LT(journal->Stats().commits, kAppends / 2);
}

// The same slot twice in one group: the second is read back, not refused.
TEST(RocksDbJournalTest, AnAppendRepeatedAtOnceIsStoredOnce) {
  auto journal = OpenJournal(NewFolder());
  const uint64_t epoch = journal->Acquire(0)->epoch;
  std::vector<absl::Status> answers(6);
  absl::Notification all;
  const std::vector<std::string> chunks = {"a", "a", "b", "a", "z", "b"};
  const std::vector<uint64_t> sequences = {1, 1, 2, 1, 2, 2};
  for (size_t i = 0; i < chunks.size(); ++i) {
    journal->Append(0, epoch, sequences[i], chunks[i], [&, i](absl::Status s) {
      answers[i] = std::move(s);
      if (i + 1 == chunks.size()) all.Notify();
    });
  }
  all.WaitForNotification();
  for (size_t i = 0; i < chunks.size(); ++i) {
    EXPECT_EQ(answers[i].code(),
              i == 4 ? absl::StatusCode::kOutOfRange : absl::StatusCode::kOk);
  }
  EXPECT_EQ((*ReadAll(*journal))[0].chunks,
            (std::vector<std::string>{"a", "b"}));
}

// Also when nothing is written any more.
TEST(RocksDbJournalTest, TrimmedSpaceComesBack) {
  auto journal = OpenJournal(NewFolder(), JournalSync::kNone);
  const uint64_t epoch = journal->Acquire(0)->epoch;
  std::string chunk(1 << 20, '\0');
  std::mt19937 random(1);
  for (char& c : chunk) c = static_cast<char>(random());
  for (uint64_t i = 1; i <= 300; ++i) {
    ASSERT_TRUE(Append(*journal, 0, epoch, i, chunk).ok());
  }
  EXPECT_GT(journal->DiskUsage(), int64_t{250} << 20);
  ASSERT_TRUE(journal->WriteSnapshot(0, epoch, 301, {chunk}).ok());
  ASSERT_TRUE(journal->Trim(0, 301).ok());
  // What is left: the log, up to its limit.
  constexpr int64_t kLeft = int64_t{130} << 20;
  for (int i = 0; i < 400 && journal->DiskUsage() > kLeft; ++i) {
    absl::SleepFor(absl::Milliseconds(50));
  }
  EXPECT_LT(journal->DiskUsage(), kLeft);
  EXPECT_EQ((*ReadAll(*journal))[0].parts, std::vector<std::string>{chunk});
}

// And stays bounded while much is written.
TEST(RocksDbJournalTest, TrimmedSpaceIsBounded) {
  auto journal = OpenJournal(NewFolder(), JournalSync::kNone);
  const uint64_t epoch = journal->Acquire(0)->epoch;
  const std::string chunk(1 << 20, 'x');
  int64_t most = 0;
  for (uint64_t i = 1; i <= 600; ++i) {
    ASSERT_TRUE(Append(*journal, 0, epoch, i, chunk).ok());
    if (i % 50 == 0) {
      ASSERT_TRUE(journal->Trim(0, i).ok());
      most = std::max(most, journal->DiskUsage());
    }
  }
  EXPECT_LT(most, int64_t{450} << 20);
}

// ---------------------------------------------------------------- damage

// One bit anywhere: the journal refuses, or all is as it was; never less.
TEST(RocksDbJournalTest, AFlippedBitIsNeverSilent) {
  const std::string folder = NewFolder();
  auto journal = Populate(folder);
  const auto contents = ReadAll(*journal);
  ASSERT_TRUE(contents.ok()) << contents.status();
  const std::string killed = CopyOf(folder);
  const std::vector<fs::path> files = FilesIn(killed);
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  int refused = 0;
  constexpr int kFlips = 200;
  for (int i = 0; i < kFlips; ++i) {
    const fs::path& file = files[random() % files.size()];
    const std::string whole = ReadFile(file);
    if (whole.empty()) continue;
    const std::string damaged_folder = CopyOf(killed);
    const fs::path damaged = damaged_folder / fs::relative(file, killed);
    std::string bytes = whole;
    const size_t at = random() % bytes.size();
    const int bit = static_cast<int>(random() % 8);
    bytes[at] = static_cast<char>(bytes[at] ^ (1 << bit));
    WriteFile(damaged, bytes);
    SCOPED_TRACE(absl::StrCat(fs::relative(file, killed).string(), " byte ", at,
                              " bit ", bit));
    auto opened = RocksDbJournal::Open({.directory = damaged_folder});
    if (!opened.ok()) {
      ++refused;
      EXPECT_NE(opened.status().code(), absl::StatusCode::kUnavailable)
          << opened.status();
    } else if (auto read = ReadAll(**opened); !read.ok()) {
      ++refused;
      EXPECT_EQ(read.status().code(), absl::StatusCode::kDataLoss)
          << read.status();
    } else {
      EXPECT_TRUE(*read == *contents);
      for (int partition = 0; partition < 4; ++partition) {
        const auto owned = (*opened)->Acquire(partition);
        EXPECT_EQ(owned->epoch, partition == 2 ? 1 : 4);
        EXPECT_EQ(owned->next_sequence, partition == 2 ? 1 : 34);
      }
    }
    opened = absl::CancelledError("closed");
    fs::remove_all(fs::path(damaged_folder).parent_path());
  }
  EXPECT_GT(refused, kFlips / 10);
}

// A log that a crash has cut off or garbled behind what was answered opens, and
// holds at least that; one that ends before is refused, and says what is lost.
TEST(RocksDbJournalTest, TheStampTellsATornTailFromLostChunks) {
  const std::string folder = NewFolder();
  auto journal = OpenJournal(folder);
  const uint64_t epoch = journal->Acquire(1)->epoch;
  for (uint64_t i = 1; i <= 9; ++i) {
    ASSERT_TRUE(Append(*journal, 1, epoch, i, Chunk(1, i)).ok());
  }
  const std::string stamp = ReadFile(folder + "/stamp");
  const size_t durable = fs::file_size(NewestLog(folder));
  for (uint64_t i = 10; i <= 14; ++i) {
    ASSERT_TRUE(Append(*journal, 1, epoch, i, Chunk(1, i)).ok());
  }
  // As if the process had been killed before it stamped, and answered, 10.
  const std::string killed = CopyOf(folder);
  WriteFile(killed + "/stamp", stamp);
  const std::string log = ReadFile(NewestLog(killed));
  ASSERT_GT(log.size(), durable + 100);

  const auto open_with = [&](const std::string& bytes) {
    const std::string copy = CopyOf(killed);
    WriteFile(NewestLog(copy), bytes);
    return RocksDbJournal::Open({.directory = copy});
  };
  std::mt19937 random(7);
  std::vector<std::string> tails;
  for (size_t size = durable; size < log.size(); size += 1 + random() % 700) {
    tails.push_back(log.substr(0, size));  // Torn.
    std::string holes = log;               // A later page came first.
    for (size_t i = size; i < std::min(size + 50, log.size()); ++i) {
      holes[i] = '\0';
    }
    tails.push_back(holes);
  }
  for (const std::string& tail : tails) {
    auto opened = open_with(tail);
    ASSERT_TRUE(opened.ok()) << opened.status();
    auto read = ReadAll(**opened);
    ASSERT_TRUE(read.ok()) << read.status();
    const std::vector<std::string>& chunks = (*read)[1].chunks;
    EXPECT_GE(chunks.size(), 9);
    EXPECT_LT(chunks.size(), 14);
    for (size_t i = 0; i < chunks.size(); ++i) {
      EXPECT_EQ(chunks[i], Chunk(1, i + 1));
    }
    // And it goes on.
    const auto owned = (*opened)->Acquire(1);
    ASSERT_EQ(owned->next_sequence, chunks.size() + 1);
    EXPECT_TRUE(
        Append(**opened, 1, owned->epoch, owned->next_sequence, "on").ok());
  }
  for (size_t cut : {1, 10, 100}) {
    const auto opened = open_with(log.substr(0, durable - cut));
    EXPECT_EQ(opened.status().code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(opened.status().message()),
                HasSubstr("partition 1 ends at sequence 8 and was durable up "
                          "to 9"));
  }
}

TEST(RocksDbJournalTest, AMissingFileIsNoticed) {
  const std::string folder = NewFolder();
  auto journal = Populate(folder);
  const auto contents = ReadAll(*journal);
  const std::string killed = CopyOf(folder);
  for (const fs::path& file : FilesIn(killed)) {
    const std::string copy = CopyOf(killed);
    const std::string name = fs::relative(file, killed);
    fs::remove(copy + "/" + name);
    auto opened = RocksDbJournal::Open({.directory = copy});
    if (opened.ok()) {
      const auto read = ReadAll(**opened);
      EXPECT_TRUE(read.ok() && *read == *contents) << name;
    } else {
      EXPECT_EQ(opened.status().code(), absl::StatusCode::kDataLoss)
          << opened.status();
    }
  }
}

// ------------------------------------------------------------ a bad disk

struct Fault {
  int error_number;
  bool for_good;  // Until it is mended; else one call.
  absl::StatusCode code;
};

class RocksDbJournalFaultTest : public testing::TestWithParam<Fault> {};

INSTANTIATE_TEST_SUITE_P(
    All, RocksDbJournalFaultTest,
    testing::Values(Fault{ENOSPC, true, absl::StatusCode::kResourceExhausted},
                    Fault{ENOSPC, false, absl::StatusCode::kResourceExhausted},
                    Fault{EIO, true, absl::StatusCode::kUnavailable},
                    Fault{EIO, false, absl::StatusCode::kUnavailable}));

// A scenario of appends, snapshots and trims fails at its first call to the
// disk, then at its second, and so on until nothing fails.  Every time the
// caller hears of it, tries the same again, and all is there in the end.
TEST_P(RocksDbJournalFaultTest, WhateverCallFailsItGoesOn) {
  const Fault fault = GetParam();
  bool failed = true;
  int64_t first = 1;
  for (; failed; ++first) {
    ASSERT_LT(first, 500);
    SCOPED_TRACE(absl::StrCat("call ", first));
    failed = false;
    const std::string folder = NewFolder();
    auto journal = OpenJournal(folder);
    ASSERT_NE(journal, nullptr);
    const uint64_t epoch = journal->Acquire(2)->epoch;
    DiskFaults::Arm(folder, fault.error_number, first,
                    fault.for_good ? INT64_MAX : first);
    // Tries until it works: the disk is mended after the first answer.
    const auto insist = [&](auto call) {
      for (int tries = 0;; ++tries) {
        const absl::Status s = call();
        if (s.ok()) return;
        failed = true;
        EXPECT_TRUE(s.code() == fault.code) << s;
        ASSERT_LT(tries, 50);
        DiskFaults::Disarm();
        absl::SleepFor(absl::Milliseconds(20));
      }
    };
    for (uint64_t i = 1; i <= 6; ++i) {
      insist([&] { return Append(*journal, 2, epoch, i, Chunk(2, i)); });
      if (i == 3) {
        insist([&] { return journal->WriteSnapshot(2, epoch, 3, {"a", "b"}); });
        insist([&] { return journal->Trim(2, 3); });
      }
    }
    DiskFaults::Disarm();
    EXPECT_EQ(journal->Stats().reopened > 0, failed);
    for (int round = 0; round < 2; ++round) {
      const auto read = ReadAll(*journal);
      ASSERT_TRUE(read.ok()) << read.status();
      EXPECT_EQ((*read)[2].snapshot_sequence, 3);
      EXPECT_EQ((*read)[2].parts, (std::vector<std::string>{"a", "b"}));
      EXPECT_EQ((*read)[2].chunks,
                (std::vector<std::string>{Chunk(2, 3), Chunk(2, 4), Chunk(2, 5),
                                          Chunk(2, 6)}));
      journal = nullptr;
      journal = OpenJournal(folder);
      ASSERT_NE(journal, nullptr);
    }
  }
  EXPECT_GT(first, 10);
}

// Full in the middle of much writing, with tables being written in the
// background: an error and no abort, and the owner goes on when there is room.
TEST(RocksDbJournalTest, AFullDiskUnderLoadEndsNothing) {
  const std::string folder = NewFolder();
  auto journal = OpenJournal(folder);
  std::vector<std::thread> threads;
  std::atomic<int> refused{0};
  std::atomic<bool> mended{false};
  const std::string chunk(256 << 10, 'x');
  DiskFaults::Arm(folder, ENOSPC, 700, INT64_MAX);
  for (int partition = 0; partition < 4; ++partition) {
    threads.emplace_back([&, partition] {
      const uint64_t epoch = journal->Acquire(partition)->epoch;
      for (uint64_t i = 1; i <= 300; ++i) {
        for (;;) {
          const absl::Status s =
              Append(*journal, partition, epoch, i, absl::StrCat(i, chunk));
          if (s.ok()) break;
          ASSERT_EQ(s.code(), absl::StatusCode::kResourceExhausted) << s;
          if (refused.fetch_add(1) > 40 && !mended.exchange(true)) {
            DiskFaults::Disarm();
          }
          absl::SleepFor(absl::Milliseconds(20));
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  DiskFaults::Disarm();
  EXPECT_GT(refused.load(), 40);
  EXPECT_GT(journal->Stats().reopened, 0);
  for (int partition = 0; partition < 4; ++partition) {
    uint64_t read = 0;
    const absl::Status s = journal->Read(
        partition, 1, [&](uint64_t sequence, absl::string_view bytes) {
          EXPECT_EQ(sequence, ++read);
          EXPECT_TRUE(bytes == absl::StrCat(sequence, chunk));
          return absl::OkStatus();
        });
    EXPECT_TRUE(s.ok()) << s;
    EXPECT_EQ(read, 300);
  }
}

// Who reads while the journal fails holds nobody up, and is told to end.
TEST(RocksDbJournalTest, AReaderDoesNotHoldUpAnError) {
  const std::string folder = NewFolder();
  auto journal = OpenJournal(folder);
  const uint64_t epoch = journal->Acquire(0)->epoch;
  for (uint64_t i = 1; i <= 3; ++i) {
    ASSERT_TRUE(Append(*journal, 0, epoch, i, Chunk(0, i)).ok());
  }
  int visited = 0;
  const absl::Status s = journal->Read(0, 1, [&](uint64_t, absl::string_view) {
    ++visited;
    DiskFaults::Arm(folder, EIO, 1, INT64_MAX);
    EXPECT_EQ(Append(*journal, 0, epoch, 4, "x").code(),
              absl::StatusCode::kUnavailable);
    DiskFaults::Disarm();
    EXPECT_EQ(Append(*journal, 0, epoch, 4, "x").code(),
              absl::StatusCode::kUnavailable);  // The reader is not done.
    return absl::OkStatus();
  });
  EXPECT_EQ(s.code(), absl::StatusCode::kUnavailable) << s;
  EXPECT_EQ(visited, 1);
  EXPECT_TRUE(Append(*journal, 0, epoch, 4, "x").ok());
  EXPECT_EQ((*ReadAll(*journal))[0].chunks.size(), 4);
}

// What was answered is remembered over an error: a disk that comes back with
// less is not believed.
TEST(RocksDbJournalTest, ADiskThatComesBackWithLessIsNoticed) {
  const std::string folder = NewFolder();
  auto journal = OpenJournal(folder, JournalSync::kNone);
  const uint64_t epoch = journal->Acquire(0)->epoch;
  for (uint64_t i = 1; i <= 3; ++i) {
    ASSERT_TRUE(Append(*journal, 0, epoch, i, Chunk(0, i)).ok());
  }
  const fs::path log = NewestLog(folder);
  const size_t size = fs::file_size(log);
  DiskFaults::Arm(folder, EIO, 1, INT64_MAX);
  EXPECT_EQ(Append(*journal, 0, epoch, 4, "x").code(),
            absl::StatusCode::kUnavailable);
  DiskFaults::Disarm();
  fs::resize_file(log, size - 5);
  for (int i = 0; i < 2; ++i) {
    const absl::Status s = Append(*journal, 0, epoch, 4, "x");
    EXPECT_EQ(s.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(s.message()),
                HasSubstr("partition 0 ends at sequence 2 and was durable up "
                          "to 3"));
  }
}

TEST(RocksDbJournalTest, OwnersKeepTheirEpochsOverAnError) {
  const std::string folder = NewFolder();
  auto journal = OpenJournal(folder);
  const uint64_t old_epoch = journal->Acquire(0)->epoch;
  const uint64_t epoch = journal->Acquire(0)->epoch;
  DiskFaults::Arm(folder, EIO, 1, INT64_MAX);
  EXPECT_EQ(Append(*journal, 0, epoch, 1, "a").code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(journal->Acquire(0).status().code(),
            absl::StatusCode::kUnavailable);
  DiskFaults::Disarm();
  absl::SleepFor(absl::Milliseconds(250));
  EXPECT_EQ(Append(*journal, 0, old_epoch, 1, "a").code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(Append(*journal, 0, epoch, 1, "a").ok());
  EXPECT_TRUE(journal->Release(0, epoch).ok());
}

}  // namespace
}  // namespace muster
