// The commands that speak to a server, each against a real `muster serve`.
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "engine/model/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cli_process.h"
#include "tests/service_process.h"
#include "tests/test_certificates.h"

namespace muster {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;

std::string Path(absl::string_view name) {
  return absl::StrCat(::testing::TempDir(), "/", name);
}

std::string Write(absl::string_view name, absl::string_view text) {
  const std::string path = Path(name);
  std::ofstream(path, std::ios::binary) << std::string(text);
  return path;
}

// Twins dev-00000000 and so on, on floors 0 to 4.
std::string Twins(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    absl::StrAppend(&text, R"({"deviceId": "dev-)",
                    absl::Dec(i, absl::kZeroPad8), R"(", "tags": {"floor": )",
                    i % 5, "}}\n");
  }
  return text;
}

// What an HTTP GET of `path` answers, headers and all.
std::string HttpGet(absl::string_view address, absl::string_view path) {
  const size_t colon = address.rfind(':');
  int port = 0;
  EXPECT_TRUE(absl::SimpleAtoi(address.substr(colon + 1), &port));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(port));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof(to)), 0);
  const std::string request = absl::StrCat(
      "GET ", path, " HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(send(fd, request.data(), request.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(request.size()));
  std::string answer;
  char buffer[16 * 1024];
  ssize_t size;
  while ((size = read(fd, buffer, sizeof(buffer))) > 0) {
    answer.append(buffer, static_cast<size_t>(size));
  }
  close(fd);
  return answer;
}

// One server for all tests, in memory, with 50 twins at the start of each.
class CliServiceTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = new ServerProcess({"--quiet"}); }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }

  void SetUp() override {
    const Result result =
        Call({"twin", "import", Write("twins.jsonl", Twins(50)), "--quiet"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    ASSERT_THAT(result.out, StartsWith("imported 50 twins in "));
  }

  static Result Call(const std::vector<std::string>& words) {
    return server_->Call(words);
  }
  static std::vector<Json> CallJson(const std::vector<std::string>& words) {
    return server_->CallJson(words);
  }

  static ServerProcess* server_;
};

ServerProcess* CliServiceTest::server_ = nullptr;

// ------------------------------------------------------------------------
// twins

TEST_F(CliServiceTest, TwinsAreReadAndWritten) {
  const Result shown = Call({"twin", "get", "dev-00000007"});
  EXPECT_EQ(shown.exit_code, 0);
  EXPECT_THAT(shown.out, AllOf(HasSubstr("\n  \"deviceId\": \"dev-00000007\""),
                               HasSubstr("\"floor\": 2")));
  std::vector<Json> twin = CallJson({"twin", "get", "dev-00000007"});
  ASSERT_THAT(twin, SizeIs(1));
  const std::string etag(twin[0].view().Find("etag").string_value());

  const Result updated = Call({"twin", "update", "dev-00000007",
                               R"({"tags": {"floor": 9}})", "--etag", etag});
  EXPECT_EQ(updated.exit_code, 0) << updated.err;
  EXPECT_THAT(updated.out, StartsWith("dev-00000007: version "));
  twin = CallJson({"twin", "get", "dev-00000007"});
  EXPECT_EQ(twin[0].view().Find("tags").Find("floor").int_value(), 9);

  const Result stale = Call({"twin", "update", "dev-00000007",
                             R"({"tags": {"floor": 8}})", "--etag", etag});
  EXPECT_EQ(stale.exit_code, 1);
  EXPECT_THAT(stale.err, HasSubstr("PreconditionFailed (412001)"));

  EXPECT_EQ(Call({"twin", "delete", "dev-00000007"}).out,
            "dev-00000007: deleted\n");
  const Result gone = Call({"twin", "get", "dev-00000007"});
  EXPECT_EQ(gone.exit_code, 1);
  EXPECT_THAT(gone.err, HasSubstr("DeviceNotFound (404001)"));
}

TEST_F(CliServiceTest, TwinsAreAskedFor) {
  constexpr char kStatement[] =
      "SELECT deviceId, tags.floor AS floor FROM devices WHERE tags.floor = 3";
  const Result table = Call({"twin", "query", kStatement});
  EXPECT_EQ(table.exit_code, 0) << table.err;
  const std::vector<std::string> lines = Lines(table.out);
  ASSERT_THAT(lines, SizeIs(11));
  EXPECT_EQ(lines[0], "deviceId      floor");
  EXPECT_EQ(lines[1], "dev-00000003  3");
  EXPECT_THAT(CallJson({"twin", "query", kStatement}), SizeIs(10));
  EXPECT_THAT(CallJson({"twin", "query", kStatement, "--rows", "4"}),
              SizeIs(4));
  const Result wrong =
      Call({"twin", "query", "SELECT * FROM devices WHERE tags.floor == 3"});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_THAT(wrong.err,
              AllOf(HasSubstr("found '=='"), HasSubstr("\n  SELECT * FROM"),
                    HasSubstr(" ^\n")));
}

TEST_F(CliServiceTest, AnImportNamesTheLinesThatAreWrong) {
  const std::string file = Write(
      "mixed.jsonl",
      "{\"deviceId\": \"a\"}\n\n{\"deviceId\": \n{\"deviceId\": \"b\"}\n{}\n");
  const Result result = Call({"twin", "import", file, "--quiet"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.out,
              AllOf(StartsWith("imported 2 twins in "),
                    HasSubstr("\n2 not taken:\n  line 3: "),
                    HasSubstr("\n  line 5: "), Not(HasSubstr("line 4"))));
  const std::vector<Json> json = CallJson({"twin", "import", file, "--quiet"});
  ASSERT_THAT(json, SizeIs(1));
  EXPECT_EQ(json[0].view().Find("imported").int_value(), 2);
  EXPECT_EQ(json[0].view().Find("failed").int_value(), 2);
  EXPECT_EQ(Call({"twin", "get", "b"}).exit_code, 0);
  EXPECT_EQ(Call({"twin", "import", "no.jsonl"}).exit_code, 2);
}

// A pipe that says nothing does not hold it up.
TEST_F(CliServiceTest, CtrlCEndsAnImportFromAPipe) {
  int fds[2];
  ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
  const std::string one = "{\"deviceId\": \"piped\"}\n{\"deviceId\": \"ha";
  ASSERT_EQ(write(fds[1], one.data(), one.size()),
            static_cast<ssize_t>(one.size()));
  Process import({"twin", "import", "-", "--server", server_->address()},
                 fds[0]);
  close(fds[0]);
  // It has read what there is.
  pollfd empty = {.fd = fds[1], .events = 0, .revents = 0};
  int left = 1;
  while (left != 0) {
    ASSERT_EQ(ioctl(fds[1], FIONREAD, &left), 0);
    poll(&empty, 0, 1);
  }
  import.Signal(SIGINT);
  const Result result = import.Wait();
  close(fds[1]);
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.out, StartsWith("imported 1 twin in "));
  EXPECT_THAT(result.err,
              HasSubstr("interrupted; the same import may be repeated"));
}

TEST_F(CliServiceTest, ATableSaysWhichMembersItHasNoColumnFor) {
  std::string twins;
  for (int i = 0; i < 1001; ++i) {
    absl::StrAppend(&twins, R"({"deviceId": "wide-)", i,
                    R"(", "tags": {"wide": 1}})", "\n");
  }
  ASSERT_EQ(Call({"twin", "import", Write("wide.jsonl", twins)}).exit_code, 0);
  const std::string statement =
      "SELECT deviceId, tags.late FROM devices WHERE tags.wide = 1";
  const std::vector<Json> rows = CallJson({"twin", "query", statement});
  ASSERT_THAT(rows, SizeIs(1001));
  EXPECT_EQ(Call({"twin", "query", statement}).err, "");
  const std::string last(rows.back().view().Find("deviceId").string_value());
  ASSERT_EQ(
      Call({"twin", "update", last, R"({"tags": {"late": 2}})"}).exit_code, 0);
  const Result result = Call({"twin", "query", statement});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(Lines(result.out), SizeIs(1002));
  EXPECT_THAT(result.err, HasSubstr("\"late\" for one"));
}

// -------------------------------------------------------------------------
// jobs

TEST_F(CliServiceTest, AJobFromFlagsIsCreatedAndFollowed) {
  const Result created = Call({"job", "create", "--id", "flags", "--patch",
                               R"({"tags": {"seen": 1}})", "--condition",
                               "tags.floor = 3", "--watch", "--quiet"});
  EXPECT_EQ(created.exit_code, 0) << created.err;
  EXPECT_THAT(created.out, AllOf(StartsWith("flags completed in "),
                                 HasSubstr("  succeeded            10\n")));
  EXPECT_THAT(
      CallJson({"twin", "query", "SELECT * FROM devices WHERE tags.seen = 1"}),
      SizeIs(10));

  const std::vector<Json> job = CallJson({"job", "get", "flags"});
  ASSERT_THAT(job, SizeIs(1));
  const JobCounts counts = CountsOf(job[0].view());
  EXPECT_EQ(counts.status, "completed");
  EXPECT_EQ(counts.devices, 10);
  EXPECT_EQ(counts.succeeded, 10);
  EXPECT_THAT(Call({"job", "get", "flags"}).out,
              StartsWith("flags completed in "));

  const std::vector<Json> executions =
      CallJson({"job", "executions", "flags", "--status", "completed"});
  ASSERT_THAT(executions, SizeIs(10));
  EXPECT_EQ(executions[0].view().Find("jobId").string_value(), "flags");
  EXPECT_THAT(CallJson({"job", "executions", "flags", "--status", "failed"}),
              IsEmpty());
  EXPECT_THAT(CallJson({"job", "executions", "--device", "dev-00000003"}),
              Not(IsEmpty()));
  const Result some = Call({"job", "executions", "flags", "--rows", "3"});
  EXPECT_THAT(Lines(some.out), SizeIs(4));
  EXPECT_THAT(some.err, HasSubstr("--rows 0 shows all"));

  // Once more, and another one of that name.
  for (const auto& [patch, condition] :
       {std::pair(R"({"tags": {"seen": 1}})", "tags.floor = 3"),
        std::pair(R"({"tags": {}})", "*")}) {
    const Result again = Call({"job", "create", "--id", "flags", "--patch",
                               patch, "--condition", condition});
    EXPECT_EQ(again.exit_code, 1);
    EXPECT_THAT(again.err, HasSubstr("JobAlreadyExists (409104)"));
  }
}

TEST_F(CliServiceTest, AJobFromAFileIsNamedAfterIt) {
  const std::string file = Write("from-file.json",
                                 R"({"type": "scheduleUpdateTwin",
                                     "updateTwin": {"tags": {"x": 1}},
                                     "queryCondition": "tags.floor = 1"})");
  const Result dry = Call({"job", "create", file, "--dry-run"});
  EXPECT_EQ(dry.exit_code, 0) << dry.err;
  EXPECT_EQ(dry.out, "nothing is wrong with it; it would be for 10 devices\n");
  EXPECT_EQ(Call({"job", "get", "from-file"}).exit_code, 1);
  const Result created = Call({"job", "create", file});
  EXPECT_EQ(created.exit_code, 0) << created.err;
  EXPECT_THAT(created.err,
              HasSubstr("(muster job watch from-file follows it)"));
  const Result watched =
      Call({"job", "watch", "from-file", "--output", "json"});
  EXPECT_EQ(watched.exit_code, 0) << watched.err;
  const std::vector<Json> states = JsonLines(watched.out);
  ASSERT_THAT(states, Not(IsEmpty()));
  EXPECT_EQ(CountsOf(states.back().view()).succeeded, 10);

  const Result both = Call({"job", "create", file, "--method", "x"});
  EXPECT_EQ(both.exit_code, 2);
  EXPECT_THAT(both.err, HasSubstr("--method and a file both say"));
}

TEST_F(CliServiceTest, ARequestIdMakesARepetitionHarmless) {
  const std::vector<std::string> words = {
      "job",          "create",
      "--patch",      "{\"tags\": {\"y\": 1}}",
      "--condition",  "*",
      "--request-id", "6f9619ff-8b86-d011-b42d-00c04fc964ff"};
  const Result first = Call(words);
  EXPECT_EQ(first.exit_code, 0) << first.err;
  const Result second = Call(words);
  EXPECT_EQ(second.exit_code, 0) << second.err;
  EXPECT_EQ(second.err, first.err);  // It names the job.
  const Result named = Call({"job", "create", "--patch", "{\"tags\": {}}",
                             "--condition", "tags.floor = 77"});
  EXPECT_EQ(named.exit_code, 0) << named.err;
}

TEST_F(CliServiceTest, AJobIsCancelledBeforeItStartsOrInItsMidst) {
  ASSERT_EQ(Call({"job", "create", "--id", "later", "--method", "reboot",
                  "--condition", "*", "--start", "2999-01-01T00:00:00Z"})
                .exit_code,
            0);
  EXPECT_THAT(Call({"job", "list", "--status", "scheduled"}).out,
              AllOf(StartsWith("JOB "), HasSubstr("\nlater  ")));
  const Result later = Call({"job", "cancel", "later"});
  EXPECT_EQ(later.exit_code, 0) << later.err;
  EXPECT_THAT(later.out, StartsWith("later cancelled"));

  // No gateway is there: it waits for its devices.
  ASSERT_EQ(Call({"job", "create", "--id", "now", "--method", "reboot",
                  "--condition", "is_defined(tags.floor)"})
                .exit_code,
            0);
  const std::unique_ptr<Process> watch =
      server_->Begin({"job", "watch", "now", "--output", "json"});
  ASSERT_TRUE(watch->WaitFor(0, "\"pendingCount\":50"));
  const Result refused = Call({"job", "cancel", "now"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, AllOf(HasSubstr("(405102)"),
                                 HasSubstr("(--running cancels a job")));
  EXPECT_EQ(Call({"job", "cancel", "now", "--running"}).exit_code, 0);
  const Result watched = watch->Wait();
  EXPECT_EQ(watched.exit_code, 1);
  const JobCounts counts = CountsOf(JsonLines(watched.out).back().view());
  EXPECT_EQ(counts.status, "cancelled");
  EXPECT_EQ(counts.failed, 50);
}

TEST_F(CliServiceTest, CtrlCEndsAWatchAndLeavesTheJobAlone) {
  ASSERT_EQ(Call({"job", "create", "--id", "watched", "--method", "reboot",
                  "--condition", "tags.floor = 2"})
                .exit_code,
            0);
  const std::unique_ptr<Process> watch =
      server_->Begin({"job", "watch", "watched", "--output", "json"});
  ASSERT_TRUE(watch->WaitFor(0, "\"pendingCount\":10"));
  watch->Signal(SIGINT);
  const Result result = watch->Wait();
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.err, HasSubstr("muster job cancel watched --running"));
  EXPECT_EQ(CountsOf(CallJson({"job", "get", "watched"})[0].view()).status,
            "running");
  EXPECT_EQ(Call({"job", "cancel", "watched", "--running"}).exit_code, 0);
}

TEST_F(CliServiceTest, TargetsArePreviewed) {
  const Result text =
      Call({"job", "preview", "tags.floor = 4", "--sample", "2"});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_EQ(text.out,
            "10 devices, 0 connected\n  dev-00000004\n  dev-00000009\n  ...\n");
  const std::vector<Json> json = CallJson({"job", "preview", "tags.floor = 4"});
  ASSERT_THAT(json, SizeIs(1));
  EXPECT_EQ(json[0].view().Find("deviceCount").int_value(), 10);
  const Result wrong = Call({"job", "preview", "tags.floor == 4"});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("  tags.floor == 4\n             ^\n"));
}

// Each kind of list, by pages: as many rows as there are.
TEST_F(CliServiceTest, ListsHaveStableKeys) {
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(Call({"job", "create", "--id", absl::StrCat("list-", i),
                    "--patch", "{\"tags\": {}}", "--condition", "tags.z = 1"})
                  .exit_code,
              0);
  }
  const std::vector<Json> jobs =
      CallJson({"job", "list", "--rows", "3", "--type", "scheduleUpdateTwin"});
  ASSERT_THAT(jobs, SizeIs(3));
  for (const char* key : {"jobId", "type", "status", "queryCondition",
                          "createdTime", "startTime"}) {
    EXPECT_TRUE(jobs[0].view().Find(key).is_string()) << key;
  }
}

// ----------------------------------------------------------------------
// gateways

TEST_F(CliServiceTest, ASimulatedFleetAnswers) {
  const std::unique_ptr<Process> fleet =
      server_->Begin({"fleet", "simulate", "--gateways", "2", "--devices", "50",
                      "--output", "json"});
  ASSERT_TRUE(fleet->WaitFor(0, "\"attachedDevices\":50"));
  const Result job = Call(
      {"job", "create", "--id", "fleet", "--method", "reboot", "--condition",
       "tags.floor = 0 OR tags.floor = 1", "--watch", "--quiet"});
  EXPECT_EQ(job.exit_code, 0) << job.err;
  EXPECT_THAT(job.out, HasSubstr("  succeeded            20\n"));
  EXPECT_EQ(CallJson({"job", "preview", "*"})[0]
                .view()
                .Find("connectedCount")
                .int_value(),
            50);
  fleet->Signal(SIGINT);
  const Result result = fleet->Wait();
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const std::vector<Json> events = JsonLines(result.out);
  ASSERT_THAT(events, Not(IsEmpty()));
  EXPECT_EQ(events.back().view().Find("calls").int_value(), 20);
  EXPECT_EQ(events.back().view().Find("answers").int_value(), 20);
}

// The process that is the child of `parent` with these words.
pid_t ChildOf(pid_t parent) {
  std::ifstream children(
      absl::StrCat("/proc/", parent, "/task/", parent, "/children"));
  pid_t child = -1;
  children >> child;
  return child;
}

TEST_F(CliServiceTest, AGatewayThatDiesIsReported) {
  const std::unique_ptr<Process> fleet =
      server_->Begin({"fleet", "simulate", "--gateways", "2", "--devices", "20",
                      "--output", "json"});
  ASSERT_TRUE(fleet->WaitFor(0, "\"attachedDevices\":20"));
  const pid_t child = ChildOf(fleet->pid());
  ASSERT_GT(child, 0);
  kill(child, SIGKILL);
  ASSERT_TRUE(fleet->WaitFor(0, "\"event\":\"lost\""));
  // The other one goes on.
  ASSERT_TRUE(fleet->WaitFor(0, "\"attachedDevices\":10,"));
  fleet->Signal(SIGTERM);
  const Result result = fleet->Wait();
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.out,
              HasSubstr(absl::StrCat("\"pid\":", child,
                                     ",\"ending\":\"signal 9 (Killed)\"")));
}

TEST_F(CliServiceTest, DevicesWithoutATwinAreRefusedAndSaidSo) {
  const std::unique_ptr<Process> gateway =
      server_->Begin({"fleet", "gateway", "--first", "1000", "--devices", "3",
                      "--output", "json"});
  EXPECT_TRUE(gateway->WaitFor(0, "\"refusedDevices\":3"));
  gateway->Signal(SIGINT);
  EXPECT_EQ(gateway->Wait().exit_code, 0);
}

// ---------------------------------------------------------------------- no
// server

TEST(CliNoServerTest, SaysSoAndWhatToType) {
  // A port that nobody listens at: taken, and given back.
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)),
            0);
  socklen_t size = sizeof(address);
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  const std::string nobody =
      absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
  const std::string twins = Write("one.jsonl", Twins(1));
  const std::vector<std::vector<std::string>> kCommands = {
      {"job", "create", "--method", "reboot", "--condition", "*"},
      {"job", "get", "x"},
      {"job", "list"},
      {"job", "cancel", "x"},
      {"job", "watch", "x"},
      {"job", "executions", "x"},
      {"job", "preview", "*"},
      {"twin", "get", "x"},
      {"twin", "update", "x", "{}"},
      {"twin", "query", "SELECT * FROM devices"},
      {"twin", "import", twins},
      {"twin", "delete", "x"}};
  // All at a time: each waits a moment for a server that may be starting.
  std::vector<std::unique_ptr<Process>> processes;
  for (std::vector<std::string> words : kCommands) {
    words.insert(words.end(), {"--server", nobody});
    processes.push_back(std::make_unique<Process>(words));
  }
  for (size_t i = 0; i < processes.size(); ++i) {
    const Result result = processes[i]->Wait();
    EXPECT_EQ(result.exit_code, 4) << kCommands[i][0] << " " << kCommands[i][1];
    EXPECT_THAT(result.err,
                AllOf(StartsWith(absl::StrCat(
                          "muster ", kCommands[i][0], " ", kCommands[i][1],
                          ": no server answers at ", nobody)),
                      HasSubstr(absl::StrCat("muster serve --listen ", nobody)),
                      HasSubstr("MUSTER_SERVER")));
    EXPECT_EQ(result.out, "");
  }
  close(fd);
}

TEST(CliNoServerTest, AGatewayWaitsForItsServerAndSaysSo) {
  Process gateway(
      {"fleet", "gateway", "--devices", "1", "--server", "127.0.0.1:1"});
  EXPECT_TRUE(gateway.WaitFor(1, "127.0.0.1:1"));
  gateway.Signal(SIGINT);
  const Result result = gateway.Wait();
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out, "sim: 0 calls, 0 answered, 0 timed out\n");
}

// The system takes the connection, and nobody ever says anything.
TEST(CliNoServerTest, AGatewayDoesNotWaitInSilence) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(listen(fd, 8), 0);
  ASSERT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const std::string silent =
      absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
  Process fleet({"fleet", "simulate", "--gateways", "1", "--devices", "1",
                 "--server", silent});
  EXPECT_TRUE(fleet.WaitFor(
      1, absl::StrCat("no server answers at ", silent, " yet\n")));
  fleet.Signal(SIGINT);
  EXPECT_EQ(fleet.Wait().exit_code, 0);
  close(fd);
}

TEST(CliNoServerTest, HelpFitsATerminal) {
  for (const std::string& name : std::vector<std::string>{"",
                                                          "demo",
                                                          "run",
                                                          "query",
                                                          "serve",
                                                          "job",
                                                          "job create",
                                                          "job get",
                                                          "job list",
                                                          "job cancel",
                                                          "job watch",
                                                          "job executions",
                                                          "job preview",
                                                          "twin",
                                                          "twin get",
                                                          "twin update",
                                                          "twin query",
                                                          "twin import",
                                                          "twin delete",
                                                          "token",
                                                          "fleet",
                                                          "fleet simulate",
                                                          "fleet gateway",
                                                          "data",
                                                          "data check",
                                                          "data stats",
                                                          "completion"}) {
    std::vector<std::string> words =
        absl::StrSplit(name, ' ', absl::SkipEmpty());
    words.push_back("--help");
    const Result result = Muster(words);
    EXPECT_EQ(result.exit_code, 0) << name;
    for (const std::string& line : Lines(result.out)) {
      EXPECT_LE(line.size(), 80u) << line;
    }
  }
}

TEST(CliNoServerTest, WrongArgumentsAreSeenBeforeAnyServer) {
  const struct {
    std::vector<std::string> arguments;
    const char* message;
  } kCases[] = {
      {{"job"}, "what to do is one of create, get, list"},
      {{"job", "wach"}, "did you mean job watch?"},
      {{"job", "get"}, "the job is missing"},
      {{"job", "create"}, "the job is missing: a file, or --method"},
      {{"job", "create", "--method", "x"}, "--condition is missing"},
      {{"job", "create", "--method", "x", "--condition", "*", "--payload", "{"},
       "--payload: "},
      {{"job", "create", "--method", "x", "--condition", "*", "--start",
        "soon"},
       "ArgumentInvalid (400004)"},
      {{"job", "create", "no.json"}, "no.json: No such file"},
      {{"job", "executions"}, "the job is missing; or --device ID"},
      {{"job", "list", "--status", "done"}, "--status must be one of queued"},
      {{"twin", "get"}, "the device is missing"},
      {{"twin", "update", "d"}, "the patch is missing"},
      {{"twin", "update", "d", "{"}, "the patch: "},
      {{"twin", "query", "SELECT", "*"}, "put it in quotes"},
      {{"twin", "import"}, "the file is missing; - is standard input"},
      {{"job", "list", "--server", "example.net:1", "--token", "t"},
       "for everybody to read: use tls"},
      {{"token", "--hub", "h"}, "--policy is missing"},
      {{"token", "--hub", "h", "--policy", "p"}, "the key is missing"},
      {{"token", "--hub", "h", "--policy", "p", "--key-file",
        Write("bad.key", "no key")},
       "base64"},
      {{"serve", "--sync", "each"}, "--sync says how --data keeps"},
      {{"serve", "--tls-cert", "x"}, "--tls-cert and --tls-key go together"},
      {{"serve", "--hub-name", "x"}, "--hub-name needs --access"},
      {{"serve", "--listen", "0.0.0.0:0"}, "--insecure if you mean it"},
      {{"serve", "--listen", "localhost"}, "--listen must be HOST:PORT; got"},
      {{"serve", "--listen", "7041"}, "--listen must be HOST:PORT; got"},
      {{"serve", "--gateway", "127.0.0.1"}, "--gateway must be HOST:PORT; got"},
      {{"serve", "--gateway", "10.0.0.5:7501"},
       "the way to the gateway at 10.0.0.5:7501"},
      {{"serve", "--listen", "[::]:0", "--tls-cert", "x", "--tls-key", "y"},
       "everybody could do everything: --access FILE"},
      {{"serve", "--listen", "127.0.0.1:0", "--access", "no.json"},
       "no.json: "},
      {{"serve", "--listen", "127.0.0.1:0", "--data", "/proc/no"}, "/proc/no"},
      {{"fleet", "simulate", "--devices-config", "no.json"},
       "no.json: No such"},
      {{"fleet", "gateway", "--listen", "0.0.0.0:0"},
       "it is for this machine only"},
      {{"fleet", "gateway", "--name", "", "--devices", "1"},
       "--name must be a text"},
  };
  for (const auto& c : kCases) {
    const Result result = Muster(c.arguments);
    EXPECT_EQ(result.exit_code, 2) << c.message << result.err;
    EXPECT_THAT(result.err, HasSubstr(c.message));
    EXPECT_EQ(result.out, "");
  }
}

// -------------------------------------------------------------------------
// serve

TEST(CliServeTest, DrainsWhenItIsToldToEnd) {
  ServerProcess server({"--data", Path("drained")});
  EXPECT_THAT(server.process().text(0),
              HasSubstr("(plaintext, no access control)"));
  ASSERT_EQ(
      server.Call({"twin", "import", Write("t.jsonl", Twins(5))}).exit_code, 0);
  const Result result = server.End(SIGTERM);
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.err,
              AllOf(HasSubstr("found in "), HasSubstr("\ndraining: "),
                    HasSubstr("\ndrained in ")));
  server.Restart();
  EXPECT_THAT(server.process().text(0), HasSubstr(server.address()));
  EXPECT_THAT(server.CallJson({"twin", "query", "SELECT * FROM devices"}),
              SizeIs(5));
}

TEST(CliServeTest, AWatchSaysWhenItIsGoneAndWhenItIsBack) {
  ServerProcess server({"--data", Path("watched")});
  ASSERT_EQ(
      server.Call({"twin", "import", Write("w.jsonl", Twins(3))}).exit_code, 0);
  ASSERT_EQ(server
                .Call({"job", "create", "--id", "w", "--method", "m",
                       "--condition", "*"})
                .exit_code,
            0);
  const std::unique_ptr<Process> watch =
      server.Begin({"job", "watch", "w", "--quiet", "--output", "json"});
  ASSERT_TRUE(watch->WaitFor(0, "\"pendingCount\":3"));
  EXPECT_EQ(server.End(SIGKILL).exit_code, 128 + SIGKILL);
  ASSERT_TRUE(watch->WaitFor(1, "no server answers; trying again\n"));
  server.Restart();
  ASSERT_TRUE(watch->WaitFor(1, "the server answers again\n"));
  EXPECT_EQ(server.Call({"job", "cancel", "w", "--running"}).exit_code, 0);
  EXPECT_EQ(watch->Wait().exit_code, 1);
}

TEST(CliServeTest, DialsGatewaysThatListen) {
  Process gateway({"fleet", "gateway", "--listen", "127.0.0.1:0", "--devices",
                   "5", "--output", "json"});
  ASSERT_TRUE(gateway.WaitFor(0, "\n"));
  const std::string address =
      TextBetween(gateway.text(0), "\"address\":\"", "\"");
  // First the twins: a device without one is refused, and tried again only some
  // seconds later.
  ServerProcess server({"--data", Path("dials"), "--gateway", address});
  ASSERT_EQ(
      server.Call({"twin", "import", Write("d.jsonl", Twins(5))}).exit_code, 0);
  EXPECT_EQ(server.End(SIGTERM).exit_code, 0);
  server.Restart();
  ASSERT_TRUE(gateway.WaitFor(0, "\"attachedDevices\":5"));
  const Result job = server.Call({"job", "create", "--method", "reboot",
                                  "--condition", "*", "--watch", "--quiet"});
  EXPECT_EQ(job.exit_code, 0) << job.err;
  EXPECT_EQ(server.End(SIGTERM).exit_code, 0);
  gateway.Signal(SIGTERM);
  EXPECT_EQ(gateway.Wait().exit_code, 0);
}

TEST(CliServeTest, SpeaksTls) {
  TestAuthority authority("cli-tls");
  const TestCertificate certificate = authority.Issue(
      {.common_name = "server", .alternative_names = "IP:127.0.0.1"});
  const TestCertificate console = authority.Issue(
      {.common_name = "console", .alternative_names = "DNS:console.test"});
  const std::string access = Write("tls-access.json", R"({"certificates": [
      {"name": "console", "roles": ["write"], "subject": "console.test"}]})");
  ServerProcess server({"--tls-cert", certificate.certificate_path, "--tls-key",
                        certificate.key_path, "--tls-client-ca",
                        authority.path(), "--access", access});
  EXPECT_THAT(server.process().text(0), HasSubstr(" (mutual TLS, "));
  EXPECT_EQ(server
                .Call({"twin", "import", Write("tls.jsonl", Twins(3)),
                       "--tls-ca", authority.path(), "--tls-cert",
                       console.certificate_path, "--tls-key", console.key_path})
                .exit_code,
            0);
  // Without a certificate, and in plaintext: nobody answers.
  EXPECT_EQ(
      server.Call({"job", "list", "--tls-ca", authority.path()}).exit_code, 4);
  const Result plaintext = server.Call({"job", "list"});
  EXPECT_EQ(plaintext.exit_code, 4);
  EXPECT_THAT(plaintext.err, HasSubstr("with --tls if it speaks TLS"));
}

// What is wrong is said, by itself, and before anybody is served.
TEST(CliServeTest, SaysWhyItCannotStart) {
  TestAuthority authority("cli-start");
  const TestCertificate one = authority.Issue({.common_name = "one"});
  const TestCertificate other = authority.Issue({.common_name = "other"});
  const Result keys =
      Muster({"serve", "--listen", "127.0.0.1:0", "--tls-cert",
              one.certificate_path, "--tls-key", other.key_path, "--quiet"});
  EXPECT_EQ(keys.exit_code, 2);
  EXPECT_EQ(keys.err, absl::StrCat("muster serve: the key in ", other.key_path,
                                   " is not that of the certificate in ",
                                   one.certificate_path, "\n"));
  ServerProcess server;
  const Result taken =
      Muster({"serve", "--listen", server.address(), "--quiet"});
  EXPECT_EQ(taken.exit_code, 2);
  EXPECT_EQ(taken.err,
            absl::StrCat("muster serve: cannot listen at ", server.address(),
                         ": another process does, or it is no address of this "
                         "machine\n"));
  // The port of the metrics comes first.
  const Result metrics = Muster({"serve", "--listen", server.address(),
                                 "--metrics", server.address(), "--quiet"});
  EXPECT_EQ(metrics.exit_code, 2);
  EXPECT_THAT(metrics.err, StartsWith("muster serve: --metrics: "));
}

TEST(CliServeTest, WithoutTimeToDrainNothingIsCutOffIfThereIsNothing) {
  ServerProcess server({"--drain-seconds", "0"});
  const Result result = server.End(SIGTERM);
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.err,
              AllOf(HasSubstr("\ndrained in "), Not(HasSubstr("cut off"))));
}

// A script that builds the program and runs it says how it is called.
TEST(CliServeTest, SaysWhatToTypeByTheNameThatItWasCalledBy) {
  ASSERT_EQ(setenv("MUSTER_PROGRAM", "./muster", 1), 0);
  {
    ServerProcess server;
    EXPECT_TRUE(server.process().WaitFor(
        0, "  ./muster fleet --devices 10000 | ./muster twin import -\n"));
    const Result created = server.Call(
        {"job", "create", "--id", "j", "--method", "m", "--condition", "*"});
    EXPECT_EQ(created.err, "(./muster job watch j follows it)\n");
  }
  ASSERT_EQ(unsetenv("MUSTER_PROGRAM"), 0);
}

TEST(CliServeTest, ShowsItsMetrics) {
  ServerProcess server({"--metrics", "127.0.0.1:0"});
  const std::string address =
      TextBetween(server.process().text(0), "metrics at http://", "/");
  ASSERT_EQ(
      server.Call({"twin", "import", Write("m.jsonl", Twins(7))}).exit_code, 0);
  EXPECT_THAT(
      HttpGet(address, "/metrics"),
      AllOf(StartsWith("HTTP/1.1 200 "), HasSubstr("\nmuster_twins 7")));
  EXPECT_THAT(HttpGet(address, "/healthz"), StartsWith("HTTP/1.1 200 "));
}

TEST(CliServeTest, TokensSayWhoMayDoWhat) {
  // 32 bytes of the letter k.
  const std::string key = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=";
  const std::string access = Write("access.json", absl::StrCat(R"({
      "policies": [{"name": "console", "roles": ["write"],
                    "primaryKey": ")",
                                                               key, R"("},
                   {"name": "reader", "roles": ["read"],
                    "primaryKey": ")",
                                                               key, R"("}]})"));
  ServerProcess server({"--access", access, "--hub-name", "hub.example.net"});
  const auto token = [&](const std::string& policy) {
    const Result result =
        Muster({"token", "--hub", "hub.example.net", "--policy", policy,
                "--key-file", Write("key", key)});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.out, StartsWith("SharedAccessSignature sr="));
    return Lines(result.out)[0];
  };
  const std::string twins = Write("token.jsonl", Twins(1));

  const Result nobody = server.Call({"job", "list"});
  EXPECT_EQ(nobody.exit_code, 1);
  EXPECT_THAT(nobody.err, AllOf(HasSubstr("IotHubUnauthorized (401003)"),
                                HasSubstr("MUSTER_TOKEN says who calls")));
  const Result stranger = server.Call({"job", "list", "--token", "wrong"});
  EXPECT_EQ(stranger.exit_code, 1);
  EXPECT_THAT(stranger.err, Not(HasSubstr("wrong")));
  EXPECT_EQ(server.Call({"twin", "import", twins, "--token", token("console")})
                .exit_code,
            0);
  EXPECT_EQ(
      server.Call({"twin", "get", "dev-00000000", "--token", token("reader")})
          .exit_code,
      0);
  const Result refused = server.Call(
      {"twin", "delete", "dev-00000000", "--token", token("reader")});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, HasSubstr("IotHubUnauthorizedAccess (401002)"));
}

}  // namespace
}  // namespace muster
