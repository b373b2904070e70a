// CheckData: what is whole is said to be, what is not is named.
#include <stdlib.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "engine/journal/chunk.h"
#include "engine/journal/rocksdb/check_data.h"
#include "engine/journal/rocksdb/rocksdb_journal.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/sealed_journal.h"

namespace muster {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;

std::string NewFolder() {
  std::string path = absl::StrCat(::testing::TempDir(), "/check.XXXXXX");
  EXPECT_NE(mkdtemp(path.data()), nullptr);
  return fs::canonical(path).string() + "/data";
}

std::unique_ptr<RocksDbJournal> OpenJournal(const std::string& folder) {
  auto journal =
      RocksDbJournal::Open({.directory = folder, .partition_count = 4});
  EXPECT_TRUE(journal.ok()) << journal.status();
  return *std::move(journal);
}

absl::StatusOr<DataReport> Check(const std::string& folder) {
  return CheckData(folder, [](int64_t, int64_t) {});
}

std::vector<std::string> Messages(const DataReport& report) {
  std::vector<std::string> messages;
  for (const DataProblem& p : report.problems) messages.push_back(p.message);
  return messages;
}

// Snapshots, chunks before and after them, in tables and in the log.
std::string Populated() {
  const std::string folder = NewFolder();
  for (int round = 0; round < 2; ++round) {
    auto journal = OpenJournal(folder);
    const int partition = 2 * round;
    SealedPartition p(journal.get(), partition);
    const uint64_t job = 10 * static_cast<uint64_t>(round);
    p.Append(SealedPartition::JobRecords(job + 1, JobStatus::kCompleted));
    p.Append(SealedPartition::JobRecords(job + 2, JobStatus::kRunning));
    p.WriteSnapshot(
        {SealedPartition::JobRecords(job + 1, JobStatus::kCompleted),
         SealedPartition::JobRecords(job + 2, JobStatus::kRunning)},
        /*trim=*/round == 0);
    p.Append(SealedPartition::JobRecords(job + 3, JobStatus::kScheduled));
    p.Append("");
  }
  return folder;
}

TEST(CheckDataTest, WhatIsWholeIsCounted) {
  const auto report = Check(Populated());
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(Messages(*report), SizeIs(0));
  EXPECT_EQ(report->problem_count, 0);
  EXPECT_GT(report->disk_bytes, 0);
  ASSERT_THAT(report->partitions, SizeIs(4));
  const DataPartition& p = report->partitions[0];
  EXPECT_EQ(p.epoch, 1);
  EXPECT_EQ(p.first_sequence, 3);
  EXPECT_EQ(p.last_sequence, 4);
  EXPECT_EQ(p.chunks, 2);
  EXPECT_EQ(p.snapshot_sequence, 3);
  EXPECT_EQ(p.snapshot_parts, 2);
  EXPECT_GT(p.snapshot_bytes, 2 * 64);
  EXPECT_EQ(p.records, 6);
  // Chunks that a snapshot stands for are checked and not counted twice.
  EXPECT_EQ(report->partitions[2].chunks, 4);
  EXPECT_EQ(report->partitions[2].records, 6);
  EXPECT_EQ(report->partitions[1].chunks, 0);
  using Counts = std::vector<std::pair<std::string, int64_t>>;
  EXPECT_EQ(report->records,
            (Counts{{"JobCreated", 6}, {"JobStarted", 4}, {"JobEnded", 2}}));
  EXPECT_EQ(report->jobs,
            (Counts{{"scheduled", 2}, {"running", 2}, {"completed", 2}}));
}

// All files and their bytes.
std::vector<std::pair<std::string, std::string>> Picture(
    const std::string& folder) {
  std::vector<std::pair<std::string, std::string>> picture;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream file(entry.path(), std::ios::binary);
    picture.emplace_back(entry.path(),
                         std::string(std::istreambuf_iterator<char>(file), {}));
  }
  std::sort(picture.begin(), picture.end());
  return picture;
}

TEST(CheckDataTest, ChangesNothing) {
  const std::string folder = Populated();
  const auto before = Picture(folder);
  EXPECT_TRUE(Check(folder).ok());
  EXPECT_TRUE(Picture(folder) == before);
  EXPECT_EQ(Check(folder)->problem_count, 0);
}

TEST(CheckDataTest, AFolderThatIsNoneOrInUseIsRefused) {
  EXPECT_EQ(Check(NewFolder()).status().code(), absl::StatusCode::kNotFound);
  const std::string empty = NewFolder();
  fs::create_directory(empty);
  EXPECT_EQ(Check(empty).status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(fs::is_empty(empty));
  const std::string folder = NewFolder();
  auto journal = OpenJournal(folder);
  const absl::Status s = Check(folder).status();
  EXPECT_EQ(s.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(s.message()), HasSubstr("in use"));
}

// Every problem is named with its place, and what is behind it is read on.
TEST(CheckDataTest, EveryProblemIsNamed) {
  const std::string folder = NewFolder();
  {
    auto journal = OpenJournal(folder);
    SealedPartition p(journal.get(), 1);
    p.Append("");  // 1
    std::string garbled(ChunkHeader::kSize, '\0');
    const uint64_t checksum = SealChunk(p.NextHeader(), &garbled);
    garbled[offsetof(ChunkHeader, time_us)] ^= 1;
    p.AppendBytes(garbled, checksum);  // 2
    p.Append("");                      // 3
    ChunkHeader header = p.NextHeader();
    header.previous ^= 1;
    p.Append(header, "");                                           // 4
    p.Append("\x7f no records");                                    // 5
    p.AppendBytes("too short", 0);                                  // 6
    p.Append(SealedPartition::JobRecords(1, JobStatus::kRunning));  // 7

    SealedPartition trimmed(journal.get(), 3);
    for (int i = 0; i < 5; ++i) trimmed.Append("");
    EXPECT_TRUE(journal->Trim(3, 4).ok());

    SealedPartition snapshot(journal.get(), 0);
    EXPECT_TRUE(journal->WriteSnapshot(0, 1, 1, {"a", "b"}).ok());
  }
  const auto report = Check(folder);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(Messages(*report),
              testing::ElementsAre(
                  HasSubstr("partition 0, snapshot part 0, byte 1"),
                  HasSubstr("partition 0, snapshot part 1, byte 1"),
                  AllOf(HasSubstr("partition 1, chunk 2, byte "),
                        HasSubstr("checksum")),
                  AllOf(HasSubstr("partition 1, chunk 4, byte "),
                        HasSubstr("does not follow")),
                  AllOf(HasSubstr("partition 1, chunk 5"), HasSubstr("byte ")),
                  HasSubstr("partition 1, chunk 6, byte 9"),
                  HasSubstr("partition 3: chunks 1 to 3 are trimmed")));
  EXPECT_EQ(report->problem_count, 7);
  EXPECT_EQ(report->problems[2].partition, 1);
  EXPECT_EQ(report->problems[2].sequence, 2);
  EXPECT_EQ(report->partitions[1].chunks, 7);
  EXPECT_EQ(report->partitions[1].records, 2);
}

// One bit anywhere: a problem, or nothing is missing.
TEST(CheckDataTest, AFlippedBitIsAProblemOrHarmless) {
  const std::string folder = Populated();
  const auto whole = Check(folder);
  ASSERT_TRUE(whole.ok());
  const auto picture = Picture(folder);
  // The same places in every run: damage at a few of them, one in thousands,
  // trips an assertion of the packaged RocksDB, which ends the process.
  std::mt19937 random(20261122);
  int found = 0;
  for (int i = 0; i < 100; ++i) {
    const auto& [path, bytes] = picture[random() % picture.size()];
    if (bytes.empty()) continue;
    std::string damaged = bytes;
    const size_t at = random() % bytes.size();
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << random() % 8));
    SCOPED_TRACE(absl::StrCat(path, " byte ", at));
    std::ofstream(path, std::ios::binary) << damaged;
    const auto report = Check(folder);
    if (report.ok() && report->problem_count == 0) {
      EXPECT_EQ(report->records, whole->records);
      EXPECT_EQ(report->jobs, whole->jobs);
    } else {
      ++found;
    }
    std::ofstream(path, std::ios::binary) << bytes;
  }
  EXPECT_GT(found, 10);
  EXPECT_EQ(Check(folder)->problem_count, 0);
}

}  // namespace
}  // namespace muster
