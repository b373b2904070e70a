// `muster data` as its users meet it.
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/journal/rocksdb/rocksdb_journal.h"
#include "engine/model/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cli_process.h"
#include "tests/sealed_journal.h"

namespace muster {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

std::string NewFolder() {
  std::string path = absl::StrCat(::testing::TempDir(), "/cli_data.XXXXXX");
  EXPECT_NE(mkdtemp(path.data()), nullptr);
  return std::filesystem::canonical(path).string() + "/data";
}

// A folder with two jobs; the third chunk is no chunk if `damaged`.
std::string Folder(bool damaged) {
  const std::string folder = NewFolder();
  auto journal =
      RocksDbJournal::Open({.directory = folder, .partition_count = 2});
  EXPECT_TRUE(journal.ok()) << journal.status();
  SealedPartition p(journal->get(), 1);
  p.Append(SealedPartition::JobRecords(1, JobStatus::kRunning));
  p.Append(SealedPartition::JobRecords(2, JobStatus::kCompleted));
  if (damaged) p.AppendBytes(std::string(100, 'x'), 0);
  return folder;
}

TEST(CliDataTest, WrongArgumentsAreUsageErrors) {
  const struct {
    std::vector<std::string> arguments;
    const char* message;
  } kCases[] = {
      {{"data"}, "what to do is one of check, stats"},
      {{"data", "mend", "x"},
       "no command \"data mend\"; there are check, stats"},
      {{"data", "check"}, "the folder is missing"},
      {{"data", "stats", "a", "b"}, "unexpected argument: b"},
      {{"data", "check", "x", "--jsno"}, "did you mean --json?"},
      {{"data", "check", "/nowhere/data"}, "there is no such folder"},
      {{"data", "stats", "/usr"}, "/usr is not the folder of a journal"},
  };
  for (const auto& c : kCases) {
    const Result result = Muster(c.arguments);
    EXPECT_EQ(result.exit_code, 2) << c.message;
    EXPECT_THAT(result.err, HasSubstr(c.message));
    EXPECT_THAT(result.out, IsEmpty());
  }
}

TEST(CliDataTest, AFolderInUseIsLeftToItsEngine) {
  const std::string folder = NewFolder();
  auto journal = RocksDbJournal::Open({.directory = folder});
  const Result result = Muster({"data", "check", folder});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr(absl::StrCat("process ", getpid())));
}

TEST(CliDataTest, WhatIsWholeIsSaidToBe) {
  const std::string folder = Folder(/*damaged=*/false);
  const Result check = Muster({"data", "check", folder});
  EXPECT_EQ(check.exit_code, 0) << check.err;
  EXPECT_THAT(
      check.out,
      AllOf(StartsWith(absl::StrCat(folder, ": 2 partitions, ")),
            HasSubstr("2 chunks"), HasSubstr("5 records: no problems")));
  const Result json = Muster({"data", "check", folder, "--json"});
  EXPECT_EQ(json.exit_code, 0);
  const std::vector<Json> lines = JsonLines(json.out);
  ASSERT_THAT(lines, SizeIs(1));
  EXPECT_EQ(lines[0].view().Find("chunks").int_value(), 2);
  EXPECT_EQ(lines[0].view().Find("problemCount").int_value(), 0);
}

TEST(CliDataTest, EveryProblemIsALine) {
  const std::string folder = Folder(/*damaged=*/true);
  const Result check = Muster({"data", "check", folder});
  EXPECT_EQ(check.exit_code, 1);
  const std::vector<std::string> lines = Lines(check.out);
  ASSERT_THAT(lines, SizeIs(2));
  EXPECT_THAT(lines[0], HasSubstr("partition 1, chunk 3, byte "));
  EXPECT_THAT(lines[1], HasSubstr("1 problem"));
  const Result json = Muster({"data", "check", folder, "--json"});
  EXPECT_EQ(json.exit_code, 1);
  const std::vector<Json> objects = JsonLines(json.out);
  ASSERT_THAT(objects, SizeIs(1));
  EXPECT_EQ(objects[0].view().Find("problemCount").int_value(), 1);
  EXPECT_THAT(json.out, HasSubstr("\"partition\":1,\"sequence\":3,"));
  const Result stats = Muster({"data", "stats", folder});
  EXPECT_EQ(stats.exit_code, 1);
  EXPECT_THAT(stats.err, HasSubstr("muster data check"));
}

TEST(CliDataTest, StatsSayWhatThereIs) {
  const std::string folder = Folder(/*damaged=*/false);
  const Result stats = Muster({"data", "stats", folder});
  EXPECT_EQ(stats.exit_code, 0) << stats.err;
  for (const char* line :
       {"on disk  ", "chunks  ", "records  ", "  JobCreated ", "jobs  ",
        "  running ", "  completed ", "partition  "}) {
    EXPECT_THAT(stats.out, HasSubstr(line));
  }
  const Result json = Muster({"data", "stats", folder, "--json"});
  const std::vector<Json> objects = JsonLines(json.out);
  ASSERT_THAT(objects, SizeIs(1));
  const JsonView o = objects[0].view();
  EXPECT_GT(o.Find("diskBytes").int_value(), 0);
  EXPECT_EQ(o.Find("recordsByKind").Find("JobCreated").int_value(), 2);
  EXPECT_EQ(o.Find("jobsByStatus").Find("running").int_value(), 1);
  EXPECT_EQ(o.Find("jobsByStatus").Find("completed").int_value(), 1);
  EXPECT_THAT(json.out, HasSubstr("\"partitions\":[{\"epoch\":0,"));
}

}  // namespace
}  // namespace muster
