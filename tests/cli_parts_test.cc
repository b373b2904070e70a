// The parts of the command line that have no state: carets, files, reports,
// tables, addresses.
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/model/error.h"
#include "engine/model/json.h"
#include "engine/query/parse_error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/caret.h"
#include "server/files.h"
#include "server/gateway_figures.h"
#include "server/job_file.h"
#include "server/table.h"
#include "server/tally.h"
#include "server/text.h"
#include "transport/grpc/address.h"

namespace muster {
namespace {

using ::testing::HasSubstr;

std::string Carets(int line, int column, absl::string_view text) {
  return CaretLines(MakeParseError({line, column}, "wrong"), text);
}

TEST(CaretTest, StandsBelowTheColumn) {
  EXPECT_EQ(Carets(1, 1, "abc"), "  abc\n  ^\n");
  EXPECT_EQ(Carets(1, 3, "abc"), "  abc\n    ^\n");
  EXPECT_EQ(Carets(1, 4, "abc"), "  abc\n     ^\n");   // Its end.
  EXPECT_EQ(Carets(1, 99, "abc"), "  abc\n     ^\n");  // Cannot be.
  EXPECT_EQ(Carets(1, 1, ""), "  \n  ^\n");
}

TEST(CaretTest, CountsCodePointsAndLines) {
  EXPECT_EQ(Carets(1, 3, "\u00e4\u4e16c"), "  \u00e4\u4e16c\n    ^\n");
  EXPECT_EQ(Carets(2, 2, "one\ntwo\nthree"), "  two\n   ^\n");
  EXPECT_EQ(Carets(1, 3, "\t\tx"), "    x\n    ^\n");
  EXPECT_EQ(Carets(4, 1, "one\ntwo\nthree"), "");
}

TEST(CaretTest, ShowsWhatIsAroundTheColumnOfALongLine) {
  std::string text(200, '.');
  for (int column : {1, 50, 100, 151, 200}) {
    std::string marked = text;
    marked[static_cast<size_t>(column - 1)] = 'X';
    const std::string lines = Carets(1, column, marked);
    const size_t end = lines.find('\n');
    EXPECT_LE(end, 90u);
    EXPECT_EQ(lines.find('X'), lines.find('^') - end - 1) << lines;
  }
}

TEST(CaretTest, OtherErrorsHaveNone) {
  EXPECT_EQ(CaretLines(absl::InvalidArgumentError("1:1: x"), "abc"), "");
  EXPECT_EQ(CaretLines(absl::OkStatus(), "abc"), "");
}

TEST(CaretTest, DescribesErrorsByTheHubsNumbers) {
  EXPECT_EQ(DescribeError(MakeError(ErrorCode::kArgumentInvalid, "bad")),
            "ArgumentInvalid (400004): bad");
}

class FilesTest : public ::testing::Test {
 protected:
  std::string Path(absl::string_view name) {
    return absl::StrCat(::testing::TempDir(), "/", name);
  }
  std::string Write(absl::string_view name, absl::string_view text) {
    const std::string path = Path(name);
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }
};

TEST_F(FilesTest, ErrorsNameTheFile) {
  EXPECT_EQ(ReadFile("/no/such/file", 10).status().message(),
            "/no/such/file: No such file or directory");
  EXPECT_EQ(CheckReadable("/").message(), "/: Is a directory");
  const std::string path = Write("ten", "0123456789");
  EXPECT_THAT(std::string(ReadFile(path, 9).status().message()),
              HasSubstr("longer than 9 bytes"));
  EXPECT_EQ(*ReadFile(path, 10), "0123456789");
  EXPECT_EQ(FileSize(path), 10);
  EXPECT_EQ(FileSize("/dev/null"), -1);
}

TEST_F(FilesTest, BaseNames) {
  EXPECT_EQ(BaseName("a/b/reboot.json"), "reboot");
  EXPECT_EQ(BaseName("reboot"), "reboot");
  EXPECT_EQ(BaseName("a.b/reboot.v2.json"), "reboot.v2");
  EXPECT_EQ(BaseName("a/.json"), ".json");
}

TEST_F(FilesTest, AWholeFileTakesItsNameWhenItIsWhole) {
  const std::string path = Write("whole", "old");
  {
    auto file = WholeFile::Create(path);
    ASSERT_TRUE(file.ok());
    (*file)->Append("new");
    EXPECT_EQ(access((*file)->partial_path().c_str(), F_OK), 0);
    EXPECT_EQ(*ReadFile(path, 10), "old");
    ASSERT_TRUE((*file)->Commit().ok());
    EXPECT_NE(access((*file)->partial_path().c_str(), F_OK), 0);
  }
  EXPECT_EQ(*ReadFile(path, 10), "new");
}

TEST_F(FilesTest, AFileThatIsNotCommittedLeavesNothing) {
  const std::string path = Write("kept", "old");
  std::string partial;
  {
    auto file = WholeFile::Create(path);
    ASSERT_TRUE(file.ok());
    partial = (*file)->partial_path();
    (*file)->Append("new");
  }
  EXPECT_EQ(*ReadFile(path, 10), "old");
  EXPECT_NE(access(partial.c_str(), F_OK), 0);
}

TEST_F(FilesTest, WhatIsBehindALinkIsReplaced) {
  const std::string path = Write("behind", "old");
  const std::string link = Path("link");
  unlink(link.c_str());
  ASSERT_EQ(symlink(path.c_str(), link.c_str()), 0);
  auto file = WholeFile::Create(link);
  ASSERT_TRUE(file.ok());
  (*file)->Append("new");
  ASSERT_TRUE((*file)->Commit().ok());
  EXPECT_EQ(*ReadFile(path, 10), "new");
  struct stat info;
  ASSERT_EQ(lstat(link.c_str(), &info), 0);
  EXPECT_TRUE(S_ISLNK(info.st_mode));
}

TEST_F(FilesTest, DevicesAreWrittenAndNotReplaced) {
  auto file = WholeFile::Create("/dev/null");
  ASSERT_TRUE(file.ok());
  (*file)->Append("gone");
  ASSERT_TRUE((*file)->Commit().ok());
  struct stat info;
  ASSERT_EQ(stat("/dev/null", &info), 0);
  EXPECT_TRUE(S_ISCHR(info.st_mode));
}

TEST_F(FilesTest, ALostWriteIsTold) {
  auto file = WholeFile::Create("/dev/full");
  ASSERT_TRUE(file.ok());
  (*file)->Append("too much");
  EXPECT_EQ((*file)->Commit().message(), "/dev/full: No space left on device");
}

TEST_F(FilesTest, WhatCannotBeWrittenIsTold) {
  EXPECT_THAT(std::string(WholeFile::Create("/").status().message()),
              HasSubstr("Is a directory"));
  EXPECT_THAT(
      std::string(WholeFile::Create("/no/such/folder/x").status().message()),
      HasSubstr("No such file or directory"));
}

TEST_F(FilesTest, AJobIsNamedByItsBodyOrItsFile) {
  EXPECT_EQ(ReadJobFile(Write("a-b.json", "{}"))->job_id, "a-b");
  EXPECT_EQ(ReadJobFile(Write("a.json", R"({"jobId": "x"})"))->job_id, "");
  EXPECT_EQ(ReadJobFile(Write("c.json", "no JSON"))->job_id, "c");
  EXPECT_EQ(
      ReadJobFile(Write("d.json", R"({"queryCondition": "a = 1"})"))->condition,
      "a = 1");
}

ExecutionRecord Execution(ExecutionStatus status) {
  ExecutionRecord record;
  record.status = status;
  return record;
}

JobReport SmallReport() {
  JobReport report;
  report.info.job_id = "reboot";
  report.info.action = MethodAction{.method_name = "reboot"};
  report.info.status = JobStatus::kCompleted;
  report.info.query_condition = "*";
  report.info.created_time = absl::FromUnixSeconds(100);
  report.info.start_time = absl::FromUnixSeconds(110);
  report.info.end_time = absl::FromUnixSeconds(112);
  report.info.max_execution_time_seconds = 60;
  report.info.statistics =
      JobStatistics{.device_count = 5, .failed_count = 3, .succeeded_count = 2};
  for (int status : {200, 500}) {
    ExecutionRecord record = Execution(ExecutionStatus::kCompleted);
    record.response = ExecutionRecord::MethodResponse{.status = status};
    report.tally.Add(record);
  }
  for (int i = 0; i < 2; ++i) {
    ExecutionRecord record = Execution(ExecutionStatus::kFailed);
    record.error_code = ErrorCode::kGatewayTimeout;
    record.error_description = "late";
    report.tally.Add(record);
  }
  report.tally.Add(Execution(ExecutionStatus::kCanceled));
  return report;
}

TEST(TallyTest, TextSaysWhatCameOfAllDevices) {
  EXPECT_EQ(ReportText(SmallReport()),
            "reboot completed in 2.00 s, 2.50/s\n"
            "  devices               5\n"
            "  succeeded             2\n"
            "                      1  answered 200\n"
            "                      1  answered 500\n"
            "  failed                3\n"
            "                      2  GatewayTimeout: late\n"
            "                      1  canceled before they were sent\n");
}

TEST(TallyTest, JsonSaysTheSame) {
  const auto json = ParseJson(ReportJson(SmallReport()));
  ASSERT_TRUE(json.ok());
  const JsonView view = json->view();
  EXPECT_EQ(view.Find("event").string_value(), "summary");
  EXPECT_EQ(view.Find("job").Find("jobId").string_value(), "reboot");
  EXPECT_EQ(view.Find("succeeded").int_value(), 2);
  EXPECT_EQ(view.Find("failed").int_value(), 2);
  EXPECT_EQ(view.Find("canceled").int_value(), 1);
  EXPECT_EQ(view.Find("errors").At(0).Find("count").int_value(), 2);
  EXPECT_EQ(view.Find("answers").At(1).Find("status").int_value(), 500);
  EXPECT_TRUE(view.Find("balanced").bool_value());
  EXPECT_EQ(view.Find("elapsedSeconds").number_value(), 2);
  EXPECT_EQ(view.Find("devicesPerSecond").number_value(), 2.5);
}

TEST(TallyTest, CountsThatDoNotAddUpAreNoSuccess) {
  EXPECT_TRUE(SmallReport().Balanced());
  EXPECT_FALSE(SmallReport().Succeeded());  // Some failed.
  JobReport report = SmallReport();
  report.tally.Add(Execution(ExecutionStatus::kPending));
  EXPECT_FALSE(report.Balanced());
  report = SmallReport();
  report.info.statistics =
      JobStatistics{.device_count = 6, .failed_count = 3, .succeeded_count = 2};
  EXPECT_FALSE(report.Balanced());
  EXPECT_THAT(ReportText(report), HasSubstr("do not add up"));
}

TEST(TallyTest, ManyKindsOfErrorsAreCutShort) {
  JobReport report = SmallReport();
  for (int i = 0; i < 5000; ++i) {
    ExecutionRecord record = Execution(ExecutionStatus::kFailed);
    record.error_code = ErrorCode::kArgumentInvalid;
    record.error_description = absl::StrCat("member ", i);
    report.tally.Add(record);
  }
  EXPECT_LE(report.tally.Kinds().size(), 1001u);
  int64_t sum = 0;
  for (const Tally::Kind& kind : report.tally.Kinds()) sum += kind.count;
  EXPECT_EQ(sum, 5002);
  EXPECT_THAT(ReportText(report), HasSubstr("  others\n"));
}

TEST(TableTest, ColumnsAreAsWideAsWhatIsInThem) {
  Table table({"JOB", ">DEVICES", "WHY"});
  EXPECT_EQ(table.Text(), "JOB  DEVICES  WHY\n");
  table.AddRow({"a-long-name", "1", "\u00e4\u4e16"});
  table.AddRow({"b", "12,345,678", "two\nlines"});
  table.AddRow({"", "", ""});
  EXPECT_EQ(table.Text(),
            "JOB             DEVICES  WHY\n"
            "a-long-name           1  \u00e4\u4e16\n"
            "b            12,345,678  two lines\n"
            "\n");
  EXPECT_EQ(table.Text(/*names=*/false).find("JOB"), std::string::npos);
}

TEST(TableTest, NothingInItMovesTheCursor) {
  Table table({"X"});
  table.AddRow({"a\x1b[2J\x7f\u009b1m\u00a0\u00e9\u0080"});
  EXPECT_EQ(table.Text(false), "a [2J   1m\u00a0\u00e9\n");
}

TEST(TextTest, IsCutBetweenCodePoints) {
  EXPECT_EQ(CutToColumns("\u00e4\u00e4\u00e4\u00e4", 4),
            "\u00e4\u00e4\u00e4\u00e4");
  EXPECT_EQ(CutToColumns("\u00e4\u00e4\u00e4\u00e4\u00e4", 4), "\u00e4...");
  EXPECT_EQ(CutToColumns("abcdefg", 5), "ab...");
  EXPECT_EQ(CutToColumns("abcdefg", 3), "...");
}

TEST(AddressTest, LoopbackIsWhatOthersCannotReach) {
  for (const char* address :
       {"127.0.0.1:7040", "127.8.9.10:0", "localhost:7040", "[::1]:7040",
        "unix:/run/muster"}) {
    EXPECT_TRUE(IsLoopback(address)) << address;
  }
  for (const char* address :
       {"0.0.0.0:7040", "[::]:7040", "10.0.0.1:7040", "128.0.0.1:7040", ":7040",
        "example.net:7040", "127.example.net:7040", ""}) {
    EXPECT_FALSE(IsLoopback(address)) << address;
  }
  for (const char* address : {"localhost:0", "[::1]:65535", "unix:/x"}) {
    EXPECT_TRUE(HasPort(address)) << address;
  }
  for (const char* address :
       {"", "localhost", ":7040", "h:", "h:65536", "h:x"}) {
    EXPECT_FALSE(HasPort(address)) << address;
  }
  EXPECT_EQ(WithPort("127.0.0.1:0", 7040), "127.0.0.1:7040");
  EXPECT_EQ(WithPort("[::1]:0", 7040), "[::1]:7040");
  EXPECT_EQ(WithPort("unix:/run/muster", 1), "unix:/run/muster");
}

TEST(GatewayFiguresTest, AreReadAsTheyWereWritten) {
  const GatewayFigures figures = {.streams_up = 1,
                                  .devices = 2,
                                  .attached = 3,
                                  .refused = 4,
                                  .in_flight = 5,
                                  .calls = 6,
                                  .answers = 7,
                                  .timeouts = 8,
                                  .streams = 9,
                                  .error = "\"no\""};
  const std::string json = GatewayFiguresJson("g", figures);
  const absl::StatusOr<GatewayFigures> read = ParseGatewayFigures(json);
  ASSERT_TRUE(read.ok()) << json;
  EXPECT_EQ(GatewayFiguresJson("g", *read), json);
  for (const char* text :
       {"", "1", "{}", R"({"attached": 1, "devices": "x"})"}) {
    EXPECT_FALSE(ParseGatewayFigures(text).ok()) << text;
  }
}

}  // namespace
}  // namespace muster
