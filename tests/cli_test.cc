// The program as its users meet it: each test runs the real binary.
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/model/instant.h"
#include "engine/model/json.h"
#include "engine/query/condition.h"
#include "engine/query/document.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cli_process.h"
#include "transport/loopback/fleet.h"

namespace muster {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;

constexpr int kFleetDevices = 2'000;
constexpr int kConditionsFleetDevices = 10'000;

// The events of that kind in what --json printed.
std::vector<Json> Events(const Result& result, absl::string_view kind) {
  std::vector<Json> events;
  for (Json& event : JsonLines(result.out)) {
    if (event.view().Find("event").string_value() == kind) {
      events.push_back(std::move(event));
    }
  }
  return events;
}

class CliTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    fleet_text_ = new std::string(FleetText(kFleetDevices));
    Write("fleet.jsonl", *fleet_text_);
  }

  static std::string FleetText(uint32_t devices) {
    const FleetGenerator generator;
    std::string text;
    for (uint32_t i = 0; i < devices; ++i) generator.AppendTwin(i, &text);
    return text;
  }

  static std::string Path(absl::string_view name) {
    return absl::StrCat(::testing::TempDir(), "/", name);
  }
  static std::string Write(absl::string_view name, absl::string_view text) {
    const std::string path = Path(name);
    std::ofstream(path, std::ios::binary)
        .write(text.data(), static_cast<std::streamsize>(text.size()));
    return path;
  }
  static std::string Read(const std::string& path) {
    std::stringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
  }
  static bool Exists(const std::string& path) {
    return access(path.c_str(), F_OK) == 0;
  }

  static std::string Fleet() { return Path("fleet.jsonl"); }

  // A direct method; offline devices are not waited for.
  static std::string MethodJob(absl::string_view name,
                               absl::string_view condition,
                               absl::string_view more = "") {
    return Write(absl::StrCat(name, ".json"),
                 absl::StrCat(R"({"jobId": ")", name,
                              R"(", "type": "scheduleDeviceMethod",
                              "cloudToDeviceMethod": {"methodName": "reboot",
                                "connectTimeoutInSeconds": 1},
                              "queryCondition": ")",
                              condition, "\"", more, "}"));
  }
  static std::string TwinJob(absl::string_view name,
                             absl::string_view condition,
                             absl::string_view more = "") {
    return Write(absl::StrCat(name, ".json"),
                 absl::StrCat(R"({"jobId": ")", name,
                              R"(", "type": "scheduleUpdateTwin",
                              "updateTwin": {"tags": {"seen": true}},
                              "queryCondition": ")",
                              condition, "\"", more, "}"));
  }
  // Devices that are all connected and answer at once, but for `more`.
  static std::string Devices(absl::string_view more = "") {
    return Write("devices.json",
                 absl::StrCat(R"({"offline_share": 0)", more, "}"));
  }

  // Records add up with the summary of their job: each target once, as many in
  // each state as were counted.
  static void ExpectBalanced(const Json& summary, absl::string_view records) {
    const JsonView s = summary.view();
    const JsonView counts = s.Find("job").Find("deviceJobStatistics");
    EXPECT_TRUE(s.Find("balanced").bool_value());
    EXPECT_EQ(counts.Find("runningCount").int_value(), 0);
    EXPECT_EQ(counts.Find("pendingCount").int_value(), 0);
    std::map<std::string, int64_t> by_status;
    std::set<std::string> devices;
    for (const Json& record : JsonLines(records)) {
      const JsonView r = record.view();
      if (r.Find("jobId").string_value() !=
          s.Find("job").Find("jobId").string_value()) {
        continue;
      }
      ++by_status[std::string(r.Find("status").string_value())];
      EXPECT_TRUE(devices.emplace(r.Find("deviceId").string_value()).second);
    }
    EXPECT_EQ(static_cast<int64_t>(devices.size()),
              counts.Find("deviceCount").int_value());
    EXPECT_EQ(by_status["completed"],
              counts.Find("succeededCount").int_value());
    EXPECT_EQ(by_status["failed"] + by_status["canceled"],
              counts.Find("failedCount").int_value());
    EXPECT_EQ(by_status["canceled"], s.Find("canceled").int_value());
  }

  static const std::string* fleet_text_;
};

const std::string* CliTest::fleet_text_ = nullptr;

// ---------------------------------------------------------- help, arguments

TEST_F(CliTest, ExplainsItself) {
  const Result help = Muster({"help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_THAT(help.out, AllOf(HasSubstr("usage: muster COMMAND"),
                              HasSubstr("exit codes:")));
  EXPECT_EQ(Muster({"--help"}).out, help.out);
  EXPECT_EQ(Muster({"help", "help"}).out, help.out);
  const Result nothing = Muster({});
  EXPECT_EQ(nothing.exit_code, 2);
  EXPECT_EQ(nothing.err, help.out);

  for (const char* command :
       {"run", "query", "demo", "serve", "job", "twin", "token", "fleet",
        "fleet simulate", "fleet gateway", "data", "completion"}) {
    EXPECT_THAT(help.out, HasSubstr(absl::StrCat("\n  ", command, " ")));
  }
  for (const char* command :
       {"run",         "query",          "demo",        "serve",
        "job",         "job create",     "job get",     "job list",
        "job cancel",  "job watch",      "job preview", "job executions",
        "twin",        "twin get",       "twin update", "twin query",
        "twin import", "twin delete",    "token",       "fleet",
        "data",        "fleet simulate", "data check",  "data stats",
        "completion",  "fleet gateway"}) {
    std::vector<std::string> words = absl::StrSplit(command, ' ');
    words.emplace_back("--help");
    const Result by_flag = Muster(words);
    words.pop_back();
    words.insert(words.begin(), "help");
    EXPECT_EQ(by_flag.exit_code, 0);
    EXPECT_THAT(by_flag.out,
                AllOf(StartsWith(absl::StrCat("muster ", command, ": ")),
                      HasSubstr(absl::StrCat("usage: muster ", command)),
                      HasSubstr("\nexample:\n")));
    EXPECT_EQ(Muster(words).out, by_flag.out);
    for (const std::string& line : Lines(by_flag.out)) {
      EXPECT_LE(line.size(), 90u) << line;
    }
  }
}

// As bash itself would call the function that the script declares.
TEST_F(CliTest, BashCompletes) {
  if (access("/bin/bash", X_OK) != 0) GTEST_SKIP() << "there is no bash here";
  Write("completion.bash", Muster({"completion", "bash"}).out);
  const struct {
    const char* words;
    const char* completed;
  } kCases[] = {
      {"muster ''", "help version demo run query"},
      {"muster de", "demo "},
      {"muster help ''", "help version demo run query"},
      {"muster help data ''", "check stats "},
      {"muster data ''", "check stats "},
      {"muster data check --j", "--json "},
      {"muster run --pro", "--profile "},
      {"muster run --job x --pro", "--profile "},
      {"muster run --profile s", "s1 s2 s3 "},
      {"muster run --quiet --profile = s", "s1 s2 s3 "},
      {"muster run --sync =", "none group each "},
      {"muster run ''", ""},
      {"muster demo --devices ''", ""},
      {"muster completion ''", "bash "},
      {"muster nonsense ''", ""},
  };
  for (const auto& c : kCases) {
    const std::string script =
        Write("complete.bash",
              absl::StrCat("source ", Path("completion.bash"), "\n",
                           "set -- $(complete -p muster)\n"
                           "function=$5\n"
                           "COMP_WORDS=(",
                           c.words,
                           ")\n"
                           "COMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n"
                           "$function muster \"${COMP_WORDS[COMP_CWORD]}\"\n"
                           "((${#COMPREPLY[@]} == 0)) ||"
                           " printf '%s ' \"${COMPREPLY[@]}\"\n"));
    std::FILE* const pipe =
        popen(absl::StrCat("/bin/bash -u ", script, " 2>&1").c_str(), "r");
    ASSERT_NE(pipe, nullptr);
    char buffer[4096];
    const size_t size = std::fread(buffer, 1, sizeof(buffer), pipe);
    EXPECT_EQ(pclose(pipe), 0) << c.words;
    const absl::string_view out(buffer, size);
    if (*c.completed == '\0') {
      EXPECT_EQ(out, "") << c.words;
    } else {
      EXPECT_THAT(std::string(out), StartsWith(c.completed)) << c.words;
    }
  }
}

TEST_F(CliTest, TellsItsVersion) {
  const Result result = Muster({"version"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, StartsWith("muster "));
}

TEST_F(CliTest, WrongArgumentsAreUsageErrors) {
  const struct {
    std::vector<std::string> arguments;
    const char* message;
  } kCases[] = {
      {{"rnu"}, "there is no command \"rnu\"; did you mean run?"},
      {{"help", "rnu"}, "there is no command \"rnu\"; did you mean run?"},
      {{"data"}, "what to do is one of check, stats"},
      {{"data", "chekc"},
       "there is no command \"data chekc\"; did you mean data check?"},
      {{"data", "check", "a", "b"}, "unexpected argument: b"},
      {{"completion", "fish"}, "the shell must be bash; got \"fish\""},
      {{"run", "--fleat", "x"},
       "there is no flag --fleat; did you mean --fleet?"},
      {{"run", "--job", "x"}, "--fleet is missing"},
      {{"run", "--fleet", "x"}, "--job is missing"},
      {{"run", "--fleet"}, "--fleet needs a value: --fleet FILE"},
      {{"run", "--fleet", "x", "--job", "y", "z"}, "unexpected argument: z"},
      {{"run", "--fleet", "x", "--job", "y", "--threads", "0"},
       "--threads must be an integer in [1, 256]; got \"0\""},
      {{"run", "--fleet", "x", "--job", "y", "--profile", "s4"},
       "--profile must be one of unlimited, free, s1, s2, s3, basic; got"},
      {{"run", "--fleet", "x", "--job", "y", "--json", "--results", "-"},
       "--json and --results - both want standard output"},
      {{"run", "--fleet", "x", "--job", "y", "--sync", "each"},
       "--sync says how --data keeps, which is missing"},
      {{"run", "--fleet", "x", "--job", "y", "--data", "d", "--sync", "some"},
       "--sync must be one of none, group, each; got \"some\""},
      {{"run", "--job", "y", "--data", "nothing-yet"},
       "--fleet is missing, and nothing is kept yet in nothing-yet"},
      {{"query", "--fleet", "x"}, "the statement is missing"},
      {{"query", "SELECT * FROM devices"}, "--fleet is missing"},
      {{"query", "--fleet", "x", "SELECT", "*"}, "put it in quotes"},
      {{"demo", "--devices", "none"}, "--devices must be an integer"},
      {{"demo", "please"}, "unexpected argument: please"},
      {{"fleet", "100"}, "unexpected argument: 100"},
  };
  for (const auto& c : kCases) {
    const Result result = Muster(c.arguments);
    EXPECT_EQ(result.exit_code, 2) << c.message;
    EXPECT_THAT(result.err, HasSubstr(c.message));
    EXPECT_THAT(result.out, IsEmpty());
  }
}

// ------------------------------------------------------------------- inputs

TEST_F(CliTest, FilesThatCannotBeReadAreNamed) {
  const std::string job = TwinJob("job", "*");
  const std::string folder = ::testing::TempDir();
  const struct {
    std::vector<std::string> arguments;
    std::string message;
  } kCases[] = {
      {{"run", "--fleet", "no.jsonl", "--job", job},
       "no.jsonl: No such file or directory"},
      {{"run", "--fleet", folder, "--job", job},
       absl::StrCat(folder, ": Is a directory")},
      {{"run", "--fleet", Fleet(), "--job", "no.json"},
       "no.json: No such file or directory"},
      {{"run", "--fleet", Fleet(), "--job", folder},
       absl::StrCat(folder, ": Is a directory")},
      {{"run", "--fleet", Fleet(), "--job", job, "--devices-config", "no.json"},
       "no.json: No such file or directory"},
      {{"query", "--fleet", "no.jsonl", "SELECT * FROM devices"},
       "no.jsonl: No such file or directory"},
      {{"query", "--fleet", folder, "SELECT * FROM devices"},
       absl::StrCat(folder, ": Is a directory")},
  };
  for (const auto& c : kCases) {
    const Result result = Muster(c.arguments);
    EXPECT_EQ(result.exit_code, 2) << c.message;
    EXPECT_THAT(result.err, HasSubstr(c.message));
  }
}

TEST_F(CliTest, AnEmptyFleetIsAFleet) {
  const std::string fleet = Write("empty.jsonl", "");
  const Result result = Muster(
      {"run", "--fleet", fleet, "--job", MethodJob("job", "*"), "--json"});
  EXPECT_EQ(result.exit_code, 0);
  const auto summaries = Events(result, "summary");
  ASSERT_THAT(summaries, SizeIs(1));
  EXPECT_EQ(summaries[0].view().Find("job").Find("status").string_value(),
            "completed");
  EXPECT_EQ(summaries[0]
                .view()
                .Find("job")
                .Find("deviceJobStatistics")
                .Find("deviceCount")
                .int_value(),
            0);
}

TEST_F(CliTest, ABrokenLineIsFoundAndNothingIsLoaded) {
  std::vector<std::string> lines = Lines(*fleet_text_);
  lines[1665] = R"({"deviceId": "dev-1", "tags": {"floor": [}})";
  lines[1776] = R"({"deviceId": "dev-2", "connectionState": "maybe"})";
  const std::string fleet =
      Write("broken.jsonl", absl::StrCat(absl::StrJoin(lines, "\n"), "\n"));
  const std::string results = Path("broken-results.jsonl");
  const std::vector<std::string> run = {
      "run",       "--fleet", fleet, "--job", TwinJob("job", "*"),
      "--results", results};
  const Result result = Muster(run);
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, AllOf(HasSubstr("broken.jsonl: line 1666: "),
                                HasSubstr("--skip-bad-lines")));
  EXPECT_THAT(result.out, IsEmpty());
  EXPECT_FALSE(Exists(results));

  std::vector<std::string> skipping = run;
  skipping.push_back("--skip-bad-lines");
  const Result skipped = Muster(skipping);
  EXPECT_EQ(skipped.exit_code, 0);
  EXPECT_THAT(skipped.err,
              AllOf(HasSubstr("left out 2 bad lines"), HasSubstr("line 1666: "),
                    HasSubstr("line 1777: "), HasSubstr("connectionState")));
  EXPECT_THAT(Lines(Read(results)), SizeIs(kFleetDevices - 2));

  const Result query =
      Muster({"query", "--fleet", fleet, "SELECT COUNT() AS n FROM devices"});
  EXPECT_EQ(query.exit_code, 2);
  EXPECT_THAT(query.err, HasSubstr("line 1666: "));
  EXPECT_EQ(Muster({"query", "--fleet", fleet, "--skip-bad-lines",
                    "SELECT COUNT() AS n FROM devices"})
                .out,
            "{\"n\":1998}\n");
}

TEST_F(CliTest, ATypoInTheConditionIsShown) {
  const Result result =
      Muster({"run", "--fleet", Fleet(), "--job",
              MethodJob("typo", "tags.location.building == '43'")});
  EXPECT_EQ(result.exit_code, 2);
  const std::vector<std::string> lines = Lines(result.err);
  ASSERT_THAT(lines, SizeIs(3));
  EXPECT_THAT(lines[0],
              AllOf(HasSubstr("typo.json: ArgumentInvalid (400004): "),
                    HasSubstr("1:24: ")));
  EXPECT_EQ(lines[1], "  tags.location.building == '43'");
  EXPECT_EQ(lines[2], "                         ^");
}

TEST_F(CliTest, ATypoInTheStatementIsShown) {
  const Result result =
      Muster({"query", "--fleet", Fleet(), "SELECT * FORM devices"});
  EXPECT_EQ(result.exit_code, 2);
  const std::vector<std::string> lines = Lines(result.err);
  ASSERT_THAT(lines, SizeIs(3));
  EXPECT_THAT(lines[0], HasSubstr("1:10: "));
  EXPECT_EQ(lines[1], "  SELECT * FORM devices");
  EXPECT_EQ(lines[2], "           ^");
}

TEST_F(CliTest, JobsThatAreWrongAreRefusedBeforeAnythingRuns) {
  const std::string good = TwinJob("good", "*");
  const std::string results = Path("refused-results.jsonl");
  const struct {
    std::string job;
    const char* message;
  } kCases[] = {
      {TwinJob(std::string(65, 'x'), "*"), "ArgumentInvalid (400004)"},
      {Write("under_score.json",
             R"({"type": "scheduleUpdateTwin", "updateTwin": {},
                 "queryCondition": "*"})"),
       "under_score"},
      {Write("large.json",
             absl::StrCat(R"({"type": "scheduleUpdateTwin", "updateTwin":
                              {"tags": {"a": ")",
                          std::string(4000, 'a'), R"(", "b": ")",
                          std::string(4000, 'a'), R"(", "c": ")",
                          std::string(4000, 'a'),
                          R"("}}, "queryCondition": "*"})")),
       "MessageTooLarge (413001)"},
      {Write("huge.json", std::string(300'000, ' ')),
       "MessageTooLarge (413001)"},
      {Write("text.json", "reboot everything"), "IotHubFormatError (400006)"},
      {Write("none.json", ""), "IotHubFormatError (400006)"},
      {Write("type.json", R"({"type": "reboot", "queryCondition": "*"})"),
       "GenericBadRequest (400000)"},
      {good, "JobAlreadyExists (409104)"},  // The second of that name.
  };
  for (const auto& c : kCases) {
    const Result result = Muster({"run", "--fleet", Fleet(), "--job", good,
                                  "--job", c.job, "--results", results});
    EXPECT_EQ(result.exit_code, 2) << c.message;
    EXPECT_THAT(result.err, AllOf(HasSubstr(c.message), HasSubstr(c.job)));
    EXPECT_THAT(result.out, IsEmpty());
    EXPECT_FALSE(Exists(results));
  }
}

TEST_F(CliTest, ADevicesConfigThatIsWrongIsRefused) {
  const Result result = Muster(
      {"run", "--fleet", Fleet(), "--job", TwinJob("job", "*"),
       "--devices-config", Write("devices.json", R"({"offline_chare": 1})")});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err,
              AllOf(HasSubstr("devices.json: "), HasSubstr("offline_share")));
}

TEST_F(CliTest, ResultsThatCannotBeWrittenAreFoundBeforeTheRun) {
  for (const std::string& path :
       {Path("no/such/folder/out.jsonl"), ::testing::TempDir()}) {
    const Result result = Muster({"run", "--fleet", Fleet(), "--job",
                                  TwinJob("job", "*"), "--results", path});
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.err, HasSubstr(path));
    EXPECT_THAT(result.err, Not(HasSubstr("load")));
  }
}

TEST_F(CliTest, OutputThatIsLostIsAFailure) {
  const Result result = Muster({"run", "--fleet", Fleet(), "--job",
                                TwinJob("job", "*"), "--results", "/dev/full"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("/dev/full: No space left on device"));
}

// --------------------------------------------------------------------- runs

TEST_F(CliTest, ARunThatSucceedsEverywhere) {
  const std::string results = Write("good-results.jsonl", "old");
  const Result result = Muster(
      {"run", "--fleet", Fleet(), "--job",
       MethodJob("reboot", "status = 'enabled'"), "--job", TwinJob("tag", "*"),
       "--devices-config", Devices(), "--results", results, "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const auto summaries = Events(result, "summary");
  ASSERT_THAT(summaries, SizeIs(2));
  const std::string records = Read(results);
  for (const Json& summary : summaries) ExpectBalanced(summary, records);
  ASSERT_THAT(Events(result, "fleet"), SizeIs(1));
  int64_t enabled = 0;
  for (const Json& twin : JsonLines(Read(Fleet()))) {
    if (twin.view().Find("status").string_value() == "enabled") ++enabled;
  }
  EXPECT_GT(enabled, 0);
  EXPECT_LT(enabled, kFleetDevices);
  EXPECT_EQ(Events(result, "fleet")[0].view().Find("connected").int_value(),
            enabled);
  EXPECT_EQ(JsonLines(result.out).back().view().Find("exitCode").int_value(),
            0);
  EXPECT_FALSE(Exists(absl::StrCat(results, ".partial")));
}

TEST_F(CliTest, FailedExecutionsAreExitCode1) {
  const std::string results = Path("failed-results.jsonl");
  const Result result =
      Muster({"run", "--fleet", Fleet(), "--job", MethodJob("reboot", "*"),
              "--devices-config", Devices(R"(, "busy_share": 0.1,
                                       "error_status_share": 0.2)"),
              "--results", results, "--json"});
  EXPECT_EQ(result.exit_code, 1) << result.err;
  const auto summaries = Events(result, "summary");
  ASSERT_THAT(summaries, SizeIs(1));
  ExpectBalanced(summaries[0], Read(results));
  int64_t failed = 0;
  for (JsonView kind : summaries[0].view().Find("errors").elements()) {
    failed += kind.Find("count").int_value();
  }
  EXPECT_EQ(failed, summaries[0].view().Find("failed").int_value());
  EXPECT_GT(failed, 100);
  int64_t answered = 0;
  for (JsonView answer : summaries[0].view().Find("answers").elements()) {
    answered += answer.Find("count").int_value();
  }
  EXPECT_EQ(answered, summaries[0].view().Find("succeeded").int_value());
  EXPECT_EQ(answered + failed, kFleetDevices);
}

TEST_F(CliTest, TheSummaryIsForPeople) {
  const Result result = Muster({"run", "--fleet", Fleet(), "--job",
                                TwinJob("tag", "deviceId = 'dev-00000042'")});
  EXPECT_EQ(result.exit_code, 0);
  const std::vector<std::string> lines = Lines(result.out);
  ASSERT_THAT(lines, SizeIs(4));
  EXPECT_THAT(lines[0], StartsWith("tag completed in "));
  EXPECT_EQ(lines[1], "  devices               1");
  EXPECT_EQ(lines[2], "  succeeded             1");
  EXPECT_EQ(lines[3], "  failed                0");
  EXPECT_THAT(result.err, HasSubstr("loaded 2,000 devices in "));
}

TEST_F(CliTest, QuietIsQuiet) {
  const Result result = Muster(
      {"run", "--fleet", Fleet(), "--job", TwinJob("tag", "*"), "--quiet"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.err, IsEmpty());
  EXPECT_THAT(Lines(result.out), SizeIs(4));
}

TEST_F(CliTest, ResultsOnStandardOutputAreNothingButResults) {
  const Result result =
      Muster({"run", "--fleet", Fleet(), "--job",
              TwinJob("tag", "properties.reported.battery < 20"), "--results",
              "-", "--quiet"});
  EXPECT_EQ(result.exit_code, 0);
  for (const Json& record : JsonLines(result.out)) {
    EXPECT_EQ(record.view().Find("jobId").string_value(), "tag");
  }
  EXPECT_THAT(result.err, HasSubstr("tag completed in "));
}

TEST_F(CliTest, DevicesAreConnectedAsTheirTwinsSay) {
  const Result count = Muster(
      {"query", "--fleet", Fleet(), "--quiet",
       "SELECT COUNT() AS n FROM devices WHERE connectionState = 'Connected' "
       "AND status = 'enabled'"});
  const std::string condition = "status = 'enabled'";
  const Result result = Muster({"run", "--fleet", Fleet(), "--job",
                                MethodJob("reboot", condition), "--json"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(Events(result, "fleet")[0].view().Find("connected").int_value(),
            JsonLines(count.out)[0].view().Find("n").int_value());
  const Json summary = Events(result, "summary")[0];
  const JsonView error = summary.view().Find("errors").At(0);
  EXPECT_EQ(error.Find("code").string_value(), "DeviceNotOnline");
  const Result offline =
      Muster({"query", "--fleet", Fleet(), "--quiet",
              absl::StrCat("SELECT COUNT() AS n FROM devices WHERE ", condition,
                           " AND connectionState = 'Disconnected'")});
  EXPECT_EQ(error.Find("count").int_value(),
            JsonLines(offline.out)[0].view().Find("n").int_value());
}

TEST_F(CliTest, AJobInTheFutureIsWaitedFor) {
  // Far enough away that a slow machine has loaded the fleet by then.
  const std::string fleet = Write("one.jsonl", R"({"deviceId": "d"})");
  const absl::Time start = absl::Now() + absl::Seconds(4);
  const Result result = Muster(
      {"run", "--fleet", fleet, "--job",
       TwinJob("later", "*",
               absl::StrCat(R"(, "startTime": ")", FormatInstant(start), "\"")),
       "--json"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_GE(absl::Now(), start);
  EXPECT_THAT(result.err, HasSubstr("later  starts in 0:"));
  EXPECT_THAT(result.out, HasSubstr("\"status\":\"scheduled\""));
}

TEST_F(CliTest, ProfilesLimitHowManyJobsRun) {
  const std::string condition = "deviceId = 'dev-00000042'";
  // The first is still active when the second is created.
  const std::string first =
      MethodJob("first", condition, R"(, "maxExecutionTimeInSeconds": 1)");
  const std::string second = TwinJob("second", condition);
  const std::string devices = Devices(R"(, "no_answer_share": 1)");
  const std::vector<std::string> run = {
      "run",    "--fleet",          Fleet(), "--job",     first, "--job",
      second,   "--devices-config", devices, "--profile", "s1",  "--json",
      "--quiet"};
  const Result rejected = Muster(run);
  EXPECT_EQ(rejected.exit_code, 1);
  EXPECT_THAT(
      rejected.err,
      AllOf(HasSubstr("second.json: ThrottlingMaxActiveJobCountExceeded "
                      "(429004)"),
            HasSubstr("--active-limit queue")));
  EXPECT_THAT(Events(rejected, "summary"), SizeIs(1));
  EXPECT_THAT(Events(rejected, "refused"), SizeIs(1));

  std::vector<std::string> queueing = run;
  queueing.insert(queueing.end(), {"--active-limit", "queue"});
  const Result queued = Muster(queueing);
  EXPECT_EQ(queued.exit_code, 1);  // The first job's device never answers.
  const auto summaries = Events(queued, "summary");
  ASSERT_THAT(summaries, SizeIs(2));
  EXPECT_EQ(summaries[1].view().Find("succeeded").int_value(), 1);

  std::vector<std::string> basic = run;
  basic[10] = "basic";
  const Result none = Muster(basic);
  EXPECT_EQ(none.exit_code, 2);
  EXPECT_THAT(none.err,
              HasSubstr("OperationNotAvailableInCurrentTier (403010)"));
}

// The conditions that every query engine was measured with; Q2 is the list.
TEST_F(CliTest, ThirteenConditionsSelectWhatQueriesAndTextSay) {
  std::vector<std::string> ids;
  ids.reserve(100);
  for (int k = 0; k < 100; ++k) {
    char id[16];
    std::snprintf(id, sizeof(id), "'dev-%08d'", (k * 9973 + 17) % 1'000'000);
    ids.push_back(id);
  }
  const std::vector<std::string> conditions = {
      "deviceId = 'dev-00424242'",
      absl::StrCat("deviceId IN [", absl::StrJoin(ids, ", "), "]"),
      "tags.location.building = '43'",
      "properties.reported.connectivity.type = 'lte'",
      "properties.reported.battery < 20",
      absl::StrCat("tags.location.building = '43' AND "
                   "properties.reported.battery < 20 AND ",
                   "NOT is_defined(properties.desired.fw)"),
      absl::StrCat("tags.model = 'TH-400' OR tags.customer = 'cust-0017' OR ",
                   "properties.reported.fw.version = '1.0.3'"),
      "NOT (properties.reported.connectivity.type IN ['lte', 'wifi'])",
      "is_defined(properties.reported.lastError)",
      "startswith(properties.reported.fw.version, '2.1.')",
      absl::StrCat(
          "tags.location.region = 'emea-west' AND tags.location.floor = 7 AND ",
          "properties.reported.sensors.env.cal.ok = false"),
      absl::StrCat("properties.reported.temperature >= 30 AND "
                   "properties.reported.memFree < ",
                   "20000"),
      "*",
  };
  const std::string text = FleetText(kConditionsFleetDevices);
  const std::string fleet = Write("conditions.jsonl", text);
  std::vector<std::string> run = {"run", "--fleet", fleet, "--json", "--quiet"};
  for (size_t i = 0; i < conditions.size(); ++i) {
    run.insert(run.end(),
               {"--job", TwinJob(absl::StrCat("Q", i + 1), conditions[i])});
  }
  const Result result = Muster(run);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const auto summaries = Events(result, "summary");
  ASSERT_THAT(summaries, SizeIs(conditions.size()));
  std::vector<int64_t> counts;
  counts.reserve(summaries.size());
  for (const Json& summary : summaries) {
    counts.push_back(summary.view().Find("succeeded").int_value());
  }
  EXPECT_EQ(counts[0], 0);
  EXPECT_EQ(counts[12], kConditionsFleetDevices);

  // By the reference evaluator, twin by twin.
  std::vector<int64_t> matches(conditions.size());
  std::vector<Condition> parsed;
  parsed.reserve(conditions.size());
  for (const std::string& condition : conditions) {
    parsed.push_back(*Condition::ParseJobCondition(condition));
  }
  JsonParser parser;
  for (const std::string& line : Lines(text)) {
    const JsonDocument document(*parser.Parse(line));
    for (size_t i = 0; i < parsed.size(); ++i) {
      matches[i] += parsed[i].Matches(document);
    }
  }
  EXPECT_EQ(counts, matches);

  // By query: the one with most parts.
  EXPECT_EQ(Muster({"query", "--fleet", fleet, "--quiet",
                    absl::StrCat("SELECT COUNT() AS n FROM devices WHERE ",
                                 conditions[6])})
                .out,
            absl::StrCat("{\"n\":", counts[6], "}\n"));

  // By text: those that a search in the lines can answer.
  int64_t q2 = 0;
  int64_t q3 = 0;
  int64_t q4 = 0;
  int64_t q7 = 0;
  int64_t q8 = 0;
  int64_t q9 = 0;
  int64_t q10 = 0;
  for (const std::string& line : Lines(text)) {
    for (const std::string& id : ids) {
      q2 += absl::StrContains(line, absl::StrReplaceAll(id, {{"'", "\""}}));
    }
    const std::vector<std::string> halves =
        absl::StrSplit(line, "\"reported\":");
    q3 += absl::StrContains(line, "\"building\":\"43\"");
    q4 += absl::StrContains(line, "\"type\":\"lte\"");
    q7 += absl::StrContains(line, "\"model\":\"TH-400\"") ||
          absl::StrContains(line, "\"customer\":\"cust-0017\"") ||
          absl::StrContains(halves[1], "\"version\":\"1.0.3\"");
    q8 += !absl::StrContains(line, "\"type\":\"lte\"") &&
          !absl::StrContains(line, "\"type\":\"wifi\"");
    q9 += absl::StrContains(line, "\"lastError\":");
    q10 += absl::StrContains(halves[1], "\"version\":\"2.1.");
  }
  EXPECT_EQ(counts[1], q2);
  EXPECT_EQ(counts[2], q3);
  EXPECT_EQ(counts[3], q4);
  EXPECT_EQ(counts[6], q7);
  EXPECT_EQ(counts[7], q8);
  EXPECT_EQ(counts[8], q9);
  EXPECT_EQ(counts[9], q10);
}

// ------------------------------------------------------------------- ctrl-C

TEST_F(CliTest, CtrlCInTheMiddleIsACleanEnd) {
  const std::string results = Path("interrupted-results.jsonl");
  // Four calls at a time, 40 ms each: 100 a second, 20 seconds in all.
  const std::string devices =
      Devices(R"(, "send_window": 4, "latency": {"distribution": "constant",
                  "value_ms": 40})");
  Process process({"run", "--fleet", Fleet(), "--job", MethodJob("slow", "*"),
                   "--devices-config", devices, "--results", results,
                   "--json"});
  ASSERT_TRUE(process.WaitFor(0, "\"succeededCount\":"));
  ASSERT_TRUE(process.WaitFor(0, "\"status\":\"running\""));
  process.Signal(SIGINT);
  const Result result = process.Wait();
  EXPECT_EQ(result.exit_code, 3) << result.err;
  EXPECT_THAT(result.err, HasSubstr("interrupted: cancelling"));
  const auto summaries = Events(result, "summary");
  ASSERT_THAT(summaries, SizeIs(1));
  const JsonView summary = summaries[0].view();
  EXPECT_EQ(summary.Find("job").Find("status").string_value(), "cancelled");
  EXPECT_GT(summary.Find("succeeded").int_value(), 0);
  EXPECT_GT(summary.Find("canceled").int_value(), 0);
  const std::string records = Read(results);
  EXPECT_THAT(Lines(records), SizeIs(kFleetDevices));
  ExpectBalanced(summaries[0], records);
  EXPECT_EQ(JsonLines(result.out).back().view().Find("exitCode").int_value(),
            3);
}

TEST_F(CliTest, CtrlCBeforeAJobStartsCancelsIt) {
  Process process(
      {"run", "--fleet", Fleet(), "--job",
       TwinJob("later", "*", R"(, "startTime": "2050-01-01T00:00:00Z")"),
       "--json"});
  ASSERT_TRUE(process.WaitFor(1, "starts in"));
  process.Signal(SIGINT);
  const Result result = process.Wait();
  EXPECT_EQ(result.exit_code, 3);
  const auto summaries = Events(result, "summary");
  ASSERT_THAT(summaries, SizeIs(1));
  EXPECT_EQ(summaries[0].view().Find("job").Find("status").string_value(),
            "cancelled");
  EXPECT_TRUE(summaries[0].view().Find("balanced").bool_value());
}

TEST_F(CliTest, TheSecondCtrlCEndsAtOnce) {
  const std::string results = Path("killed-results.jsonl");
  Process process({"run", "--fleet", Fleet(), "--job", MethodJob("slow", "*"),
                   "--devices-config", Devices(R"(, "no_answer_share": 1)"),
                   "--results", results, "--json"});
  ASSERT_TRUE(process.WaitFor(0, "\"status\":\"running\""));
  process.Signal(SIGINT);
  ASSERT_TRUE(process.WaitFor(1, "ctrl-C again ends at once"));
  process.Signal(SIGINT);
  EXPECT_EQ(process.Wait().exit_code, 130);
  EXPECT_FALSE(Exists(results));
  glob_t found;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): this is the only thread.
  EXPECT_EQ(glob(absl::StrCat(results, ".*").c_str(), 0, nullptr, &found),
            GLOB_NOMATCH);
  globfree(&found);
}

// ------------------------------------------------------------------- --data

// Runs that are kept in a folder; each test has its own.
class CliKeptTest : public CliTest {
 protected:
  CliKeptTest() {
    const std::string name =
        ::testing::UnitTest::GetInstance()->current_test_info()->name();
    data_ = Path(absl::StrCat(name, ".data"));
    results_ = Path(absl::StrCat(name, ".out"));
    std::filesystem::remove_all(data_);
    std::filesystem::remove(results_);
  }

  // A direct method that every selected device takes.
  static std::string EnabledJob() {
    return MethodJob("reboot", "status = 'enabled'");
  }
  static int64_t EnabledDevices() {
    int64_t count = 0;
    for (const std::string& line : Lines(*fleet_text_)) {
      count += absl::StrContains(line, R"("status":"enabled")");
    }
    return count;
  }
  // All are connected; a call takes a while, and four are under way at a time:
  // 100 a second.
  static std::string SlowDevices() {
    return Write("slow.json",
                 R"({"offline_share": 0, "send_window": 4, "latency":
                     {"distribution": "constant", "value_ms": 40}})");
  }
  static std::string FastDevices() {
    return Write("fast.json", R"({"offline_share": 0})");
  }

  std::vector<std::string> Arguments(const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"run",       "--data", data_,
                                          "--results", results_, "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  Result Run(const std::vector<std::string>& more) {
    return Muster(Arguments(more));
  }
  // A run that ends by the signal while its job runs.
  Result RunUntil(int signal_number, const std::vector<std::string>& more) {
    Process process(Arguments(more));
    EXPECT_TRUE(process.WaitFor(0, R"("status":"running")"));
    process.Signal(signal_number);
    Result result = process.Wait();
    EXPECT_FALSE(Exists(results_));
    EXPECT_THAT(Events(result, "summary"), IsEmpty());
    return result;
  }

  // Devices whose outcome was shown last.
  static int64_t Done(const Result& result) {
    const std::vector<Json> events = Events(result, "progress");
    const JsonView counts =
        events.back().view().Find("job").Find("deviceJobStatistics");
    return counts.Find("succeededCount").int_value() +
           counts.Find("failedCount").int_value();
  }
  // How many jobs of that status were found.
  static int64_t Found(const Result& result, absl::string_view status) {
    const std::vector<Json> events = Events(result, "recovered");
    EXPECT_THAT(events, SizeIs(1)) << result.err;
    if (events.size() != 1) return -1;
    EXPECT_EQ(events[0].view().Find("devices").int_value(), kFleetDevices);
    const JsonView count = events[0].view().Find("jobs").Find(status);
    return count.is_undefined() ? 0 : count.int_value();
  }
  // The job of EnabledJob() has come to its end over a restart: every device
  // has one outcome, and only calls that were under way have failed.
  void ExpectWentOn(const Result& before, const Result& after) {
    const std::vector<Json> summaries = Events(after, "summary");
    ASSERT_THAT(summaries, SizeIs(1)) << after.err;
    ExpectBalanced(summaries[0], Read(results_));
    EXPECT_THAT(Lines(Read(results_)),
                SizeIs(static_cast<size_t>(EnabledDevices())));
    const JsonView summary = summaries[0].view();
    EXPECT_EQ(summary.Find("job").Find("status").string_value(), "completed");
    int64_t unanswered = 0;
    for (JsonView kind : summary.Find("errors").elements()) {
      EXPECT_EQ(kind.Find("code").string_value(), "GatewayTimeout");
      unanswered += kind.Find("count").int_value();
    }
    EXPECT_EQ(unanswered, summary.Find("failed").int_value());
    EXPECT_EQ(summary.Find("succeeded").int_value(),
              EnabledDevices() - unanswered);
    // What was shown stays true.
    EXPECT_GE(EnabledDevices() - unanswered, Done(before));
    EXPECT_EQ(after.exit_code, unanswered == 0 ? 0 : 1);
  }

  std::string data_;
  std::string results_;
};

TEST_F(CliKeptTest, AfterAKillTheSameCommandGoesOn) {
  const std::string job = EnabledJob();
  const Result killed = RunUntil(SIGKILL, {"--fleet", Fleet(), "--job", job,
                                           "--devices-config", SlowDevices()});
  EXPECT_EQ(killed.exit_code, 128 + SIGKILL);
  const Result check = Muster({"data", "check", data_});
  EXPECT_EQ(check.exit_code, 0) << check.out << check.err;
  const std::vector<std::string> again = {
      "--fleet", Fleet(), "--job", job, "--devices-config", FastDevices()};
  const Result result = Run(again);
  ExpectWentOn(killed, result);
  EXPECT_EQ(Found(result, "running"), 1);
  EXPECT_THAT(Events(result, "fleet"), IsEmpty());
  ASSERT_THAT(Events(result, "kept"), SizeIs(1));
  EXPECT_EQ(Events(result, "kept")[0].view().Find("jobId").string_value(),
            "reboot");
  EXPECT_THAT(result.err, AllOf(HasSubstr("is not loaded again"),
                                HasSubstr("job reboot is there already")));

  // Once more: it is history, and tells the same.
  const std::string records = Read(results_);
  const Result third = Run(again);
  EXPECT_EQ(Found(third, "completed"), 1);
  EXPECT_EQ(Read(results_), records);
  EXPECT_EQ(third.exit_code, result.exit_code);
  // And without a job there is nothing to do.
  const Result nothing = Muster({"run", "--data", data_});
  EXPECT_EQ(nothing.exit_code, 0);
  EXPECT_THAT(nothing.err, HasSubstr("there is nothing to do"));
  EXPECT_THAT(nothing.out, IsEmpty());
}

TEST_F(CliKeptTest, AfterCtrlCItGoesOnWithoutFleetAndJob) {
  const Result interrupted =
      RunUntil(SIGINT, {"--fleet", Fleet(), "--job", EnabledJob(),
                        "--devices-config", SlowDevices()});
  EXPECT_EQ(interrupted.exit_code, 3);
  EXPECT_THAT(interrupted.err,
              HasSubstr(absl::StrCat("muster run --data ", data_, "\n")));
  EXPECT_EQ(
      JsonLines(interrupted.out).back().view().Find("exitCode").int_value(), 3);
  ExpectWentOn(interrupted, Run({"--devices-config", FastDevices()}));
}

TEST_F(CliKeptTest, ATwinUpdateIsAppliedToAll) {
  // 10 devices a second, for the first start.
  const Result killed =
      RunUntil(SIGKILL, {"--fleet", Fleet(), "--job", TwinJob("tag", "*"),
                         "--profile", "s1", "--sync", "none"});
  EXPECT_LT(Done(killed), kFleetDevices);
  const Result result = Run({"--sync", "each"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(Found(result, "running"), 1);
  EXPECT_THAT(Lines(Read(results_)), SizeIs(kFleetDevices));
  // Its twins are what later jobs select by.
  const Result tagged = Run({"--job", MethodJob("ask", "tags.seen = true"),
                             "--devices-config", FastDevices()});
  const std::vector<Json> summaries = Events(tagged, "summary");
  ASSERT_THAT(summaries, SizeIs(1));
  EXPECT_EQ(summaries[0]
                .view()
                .Find("job")
                .Find("deviceJobStatistics")
                .Find("deviceCount")
                .int_value(),
            kFleetDevices);
  ExpectBalanced(summaries[0], Read(results_));
}

TEST_F(CliKeptTest, AJobThatWaitsWaitsOn) {
  const std::string job =
      TwinJob("later", "*", R"(, "startTime": "2050-01-01T00:00:00Z")");
  for (const bool first : {true, false}) {
    Process process(Arguments({"--fleet", Fleet(), "--job", job}));
    ASSERT_TRUE(process.WaitFor(1, "starts in"));
    process.Signal(SIGINT);
    const Result result = process.Wait();
    EXPECT_EQ(result.exit_code, 3);
    if (!first) {
      EXPECT_EQ(Found(result, "scheduled"), 1);
      EXPECT_THAT(Events(result, "kept"), SizeIs(1));
    }
  }
}

TEST_F(CliKeptTest, DevicesAreConnectedAsInAFreshRun) {
  ASSERT_EQ(Run({"--fleet", Fleet(), "--job", TwinJob("tag", "*")}).exit_code,
            0);
  const std::string job = EnabledJob();
  const Result fresh =
      Muster({"run", "--fleet", Fleet(), "--job", job, "--json"});
  const Result kept = Run({"--job", job});
  const auto counts = [](const Result& result) {
    const std::vector<Json> summaries = Events(result, "summary");
    EXPECT_THAT(summaries, SizeIs(1));
    return absl::StrCat(JsonText(summaries[0].view().Find("answers")),
                        JsonText(summaries[0].view().Find("errors")));
  };
  EXPECT_EQ(counts(kept), counts(fresh));
  EXPECT_THAT(counts(kept), HasSubstr("DeviceNotOnline"));
  EXPECT_EQ(Events(kept, "recovered")[0].view().Find("connected").int_value(),
            Events(fresh, "fleet")[0].view().Find("connected").int_value());
}

TEST_F(CliKeptTest, AJobOfTheSameNameThatIsAnotherOneIsRefused) {
  ASSERT_EQ(Run({"--fleet", Fleet(), "--job", TwinJob("tag", "*")}).exit_code,
            0);
  const Result result = Run({"--job", TwinJob("tag", "tags.seen = true")});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err,
              AllOf(HasSubstr("tag.json: JobAlreadyExists (409104)"),
                    HasSubstr("the job that is there is another one")));
  EXPECT_THAT(Events(result, "refused"), SizeIs(1));
  EXPECT_THAT(Events(result, "kept"), IsEmpty());
}

TEST_F(CliKeptTest, AFolderHasOneEngineAtATime) {
  Process process(Arguments({"--fleet", Fleet(), "--job", EnabledJob(),
                             "--devices-config", SlowDevices()}));
  ASSERT_TRUE(process.WaitFor(0, R"("event":"fleet")"));
  for (const char* command : {"run", "demo"}) {
    const Result second = Muster({command, "--data", data_});
    EXPECT_EQ(second.exit_code, 2);
    EXPECT_THAT(second.err, HasSubstr(absl::StrCat(
                                data_, " is in use by another engine, process ",
                                process.pid())));
  }
  process.Signal(SIGKILL);
  process.Wait();
}

TEST_F(CliKeptTest, FoldersThatCannotBeUsedAreNamed) {
  const std::string job = TwinJob("tag", "*");
  const std::string other = Write("other.jsonl", R"({"deviceId": "d"})");
  ASSERT_EQ(Run({"--fleet", Fleet(), "--job", job}).exit_code, 0);
  const std::string foreign = Path("foreign");
  std::filesystem::create_directories(foreign);
  Write("foreign/photo.jpg", "x");
  // A copy of the folder with something else in one of its files.
  int copies = 0;
  const auto with = [&](absl::string_view file, absl::string_view text) {
    const std::string copy = absl::StrCat(data_, ".", ++copies);
    std::filesystem::remove_all(copy);
    std::filesystem::copy(data_, copy,
                          std::filesystem::copy_options::recursive);
    std::ofstream(absl::StrCat(copy, "/", file), std::ios::binary) << text;
    return copy;
  };
  std::string flipped = Read(absl::StrCat(data_, "/devices"));
  flipped[flipped.size() / 2] ^= 1;
  const std::string unknown = with("devices", "");  // Taken away below.
  std::filesystem::remove(absl::StrCat(unknown, "/devices"));
  const struct {
    std::string data;
    std::string fleet;
    std::string message;
  } kCases[] = {
      {Path("no/such/parent"), Fleet(), "No such file or directory"},
      {job, Fleet(), absl::StrCat(job, ": ")},
      {foreign, Fleet(), "there is photo.jpg in it"},
      {with("format", "muster journal 999\n"), Fleet(), "a newer version"},
      {with("format", "?"), Fleet(), "format is damaged"},
      {with("stamp", "?"), Fleet(), "stamp"},
      {with("devices", "muster devices 999 0\n"), Fleet(), "a newer version"},
      {with("devices", flipped), Fleet(), "devices is damaged"},
      {with("devices", ""), Fleet(), "devices is damaged"},
      {unknown, Fleet(), "written by another program's engine"},
      {data_, other, "another fleet wants another folder"},
  };
  for (const auto& c : kCases) {
    const Result result = Muster(
        {"run", "--data", c.data, "--fleet", c.fleet, "--job", job, "--json"});
    EXPECT_EQ(result.exit_code, 2) << c.message;
    EXPECT_THAT(result.err,
                AllOf(StartsWith("muster run: "), HasSubstr(c.message)));
  }
  // Nothing of this has changed what is kept.
  EXPECT_EQ(Run({"--fleet", Fleet(), "--job", job}).exit_code, 0);
}

TEST_F(CliKeptTest, ALoadThatWasCutOffIsDoneAgain) {
  const std::string job = TwinJob("tag", "*");
  const std::string broken = Write("broken-fleet.jsonl", "{");
  const Result refused = Run({"--fleet", broken, "--job", job});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("nothing was loaded"));
  const std::string unfinished = Read(absl::StrCat(data_, "/devices"));
  ASSERT_EQ(Run({"--fleet", Fleet(), "--job", job}).exit_code, 0);

  // As if it had been killed when the twins were in.
  std::ofstream(absl::StrCat(data_, "/devices"), std::ios::binary)
      << unfinished;
  const Result without = Run({});
  EXPECT_EQ(without.exit_code, 2);
  EXPECT_THAT(without.err, HasSubstr("--fleet is missing: the load"));
  const Result other =
      Run({"--fleet", Write("one-twin.jsonl", R"({"deviceId": "d"})"), "--job",
           job});
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_THAT(other.err, HasSubstr("has left 2,000 twins that"));
}

TEST_F(CliKeptTest, ALoadCanBeRepeatedAfterItWasCutOff) {
  const std::string job = TwinJob("tag", "*");
  EXPECT_EQ(Run({"--fleet", Write("broken-fleet.jsonl", "{"), "--job", job})
                .exit_code,
            2);
  const std::string unfinished = Read(absl::StrCat(data_, "/devices"));
  ASSERT_EQ(Run({"--fleet", Fleet(), "--job", job}).exit_code, 0);
  std::ofstream(absl::StrCat(data_, "/devices"), std::ios::binary)
      << unfinished;
  const Result again = Run({"--fleet", Fleet(), "--job", job});
  EXPECT_EQ(again.exit_code, 0) << again.err;
  ASSERT_THAT(Events(again, "fleet"), SizeIs(1));
  EXPECT_THAT(Lines(Read(results_)), SizeIs(kFleetDevices));
  EXPECT_EQ(Found(Run({}), "completed"), 1);
}

// --------------------------------------------------------- the other commands

TEST_F(CliTest, QueryPrintsOneRowPerLine) {
  constexpr char kLowBattery[] =
      "SELECT deviceId FROM devices WHERE properties.reported.battery < 20";
  const Result all = Muster({"query", "--fleet", Fleet(), kLowBattery});
  EXPECT_EQ(all.exit_code, 0);
  std::vector<std::string> rows = Lines(all.out);
  ASSERT_GT(rows.size(), 100u);
  EXPECT_THAT(JsonLines(all.out), SizeIs(rows.size()));
  EXPECT_THAT(all.err, HasSubstr(" rows in "));
  const Result three =
      Muster({"query", "--fleet", Fleet(), "--limit", "3", kLowBattery});
  rows.resize(3);
  EXPECT_EQ(Lines(three.out), rows);
  EXPECT_THAT(Muster({"query", "--fleet", Fleet(), "--limit", "0",
                      "SELECT * FROM devices"})
                  .out,
              IsEmpty());
  const Result none = Muster({"query", "--fleet", Fleet(), "--quiet",
                              "SELECT * FROM devices WHERE tags.x = 1"});
  EXPECT_EQ(none.exit_code, 0);
  EXPECT_EQ(none.out + none.err, "");
}

TEST_F(CliTest, QueryExplainsItsPlan) {
  constexpr char kStatement[] =
      "SELECT deviceId FROM devices WHERE properties.reported.battery < 20 AND "
      "tags.location.building = '43'";
  const Result rows =
      Muster({"query", "--fleet", Fleet(), "--quiet", kStatement});
  const Result plan =
      Muster({"query", "--fleet", Fleet(), "--explain", kStatement});
  EXPECT_EQ(plan.exit_code, 0);
  EXPECT_THAT(plan.out,
              AllOf(StartsWith(absl::StrCat(kFleetDevices / 1000)),
                    HasSubstr(absl::StrCat(", ", Lines(rows.out).size(),
                                           " selected in ")),
                    HasSubstr("\n1. "), HasSubstr("\n2. "),
                    HasSubstr("tags.location.building = '43'\n   by "),
                    HasSubstr("properties.reported.battery < 20\n   by ")));
  const Result wrong = Muster(
      {"query", "--fleet", Fleet(), "--explain", "SELECT * FROM devices.jobs"});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("only statements on devices have a plan"));
}

TEST_F(CliTest, FleetWritesTheSyntheticFleet) {
  const Result result =
      Muster({"fleet", "--devices", absl::StrCat(kFleetDevices)});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out, *fleet_text_);
  EXPECT_NE(Muster({"fleet", "--devices", "1", "--seed", "7"}).out,
            Muster({"fleet", "--devices", "1"}).out);
}

// The demo's text without what depends on the machine: instants and rates.
std::string Counts(const std::string& text) {
  std::string counts;
  for (const std::string& line : Lines(text)) {
    if (!absl::StrContains(line, " in ") &&
        !absl::StrContains(line, " took ")) {
      absl::StrAppend(&counts, line, "\n");
    }
  }
  return counts;
}

TEST_F(CliTest, TheDemoAddsUpAndIsTheSameForASeed) {
  const std::vector<std::string> demo = {"demo", "--devices", "5000",
                                         "--quiet"};
  const Result result = Muster(demo);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, IsEmpty());
  EXPECT_THAT(result.out,
              AllOf(HasSubstr("adds up: 5,000 selected"),
                    HasSubstr("devices are offline"),
                    HasSubstr("DeviceNotFound"), HasSubstr("\nNext:\n")));
  EXPECT_EQ(Counts(Muster(demo).out), Counts(result.out));
  EXPECT_EQ(Muster({"demo", "--devices", "1", "--quiet"}).exit_code, 0);
}

TEST_F(CliKeptTest, TheDemoIsKept) {
  const std::vector<std::string> devices = {"demo", "--devices", "5000",
                                            "--quiet"};
  std::vector<std::string> kept = devices;
  kept.insert(kept.end(), {"--data", data_});
  const Result first = Muster(kept);
  EXPECT_EQ(first.exit_code, 0) << first.err;
  EXPECT_EQ(Counts(first.out), Counts(Muster(devices).out));
  // Its history.
  const Result second = Muster({"demo", "--data", data_, "--quiet"});
  EXPECT_EQ(second.exit_code, 0) << second.err;
  EXPECT_THAT(second.out, AllOf(HasSubstr("5,000 devices"),
                                HasSubstr("3 jobs: 3 completed"),
                                HasSubstr("now completed"),
                                Not(HasSubstr("offline; the job waits"))));
  for (const std::string& line : Lines(first.out)) {
    if (absl::StrContains(line, "adds up: ")) {
      EXPECT_THAT(second.out, HasSubstr(line));
    }
  }
  for (const auto& [flag, value] :
       {std::pair("--devices", "4999"), std::pair("--seed", "43")}) {
    const Result other = Muster({"demo", "--data", data_, flag, value});
    EXPECT_EQ(other.exit_code, 2);
    EXPECT_THAT(other.err, HasSubstr("another fleet wants another folder"));
  }
}

TEST_F(CliKeptTest, TheDemoGoesOnAfterAKill) {
  const std::vector<std::string> demo = {"demo",    "--devices", "5000",
                                         "--quiet", "--data",    data_};
  for (const char* moment :
       {"3. A job with a mistake", "4. A direct method", "5. A twin update",
        "7. A direct method for everyone"}) {
    Process process(demo);
    ASSERT_TRUE(process.WaitFor(0, moment));
    process.Signal(SIGKILL);
    process.Wait();
  }
  // In the middle of the last job, if that has not come to its end before the
  // signal came.
  Process process(demo);
  process.WaitFor(0, "offline; the job waits");
  process.Signal(SIGKILL);
  process.Wait();
  const Result result = Muster(demo);
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  EXPECT_THAT(result.out,
              AllOf(HasSubstr("3 jobs: "), HasSubstr("kept: created"),
                    HasSubstr("adds up: 5,000 selected")));
}

// Standard error is a terminal: one line that is rewritten.
TEST_F(CliTest, ProgressIsALineOnATerminal) {
  const int master = posix_openpt(O_RDWR | O_NOCTTY);
  if (master < 0) GTEST_SKIP() << "there are no pseudo-terminals here";
  ASSERT_EQ(grantpt(master), 0);
  ASSERT_EQ(unlockpt(master), 0);
  char name[64];
  ASSERT_EQ(ptsname_r(master, name, sizeof(name)), 0);
  const int terminal = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
  ASSERT_GE(terminal, 0);
  const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
  ASSERT_GE(null, 0);
  const std::string fleet = Fleet();
  const std::string job = TwinJob("tag", "*");
  char term[] = "TERM=xterm";
  char* const environment[] = {term, nullptr};
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(terminal, STDERR_FILENO);
    dup2(null, STDOUT_FILENO);
    execle("server/muster", "muster", "run", "--fleet", fleet.c_str(), "--job",
           job.c_str(), static_cast<char*>(nullptr), environment);
    _exit(99);
  }
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  char buffer[16 * 1024];
  const ssize_t size = read(master, buffer, sizeof(buffer));
  for (int fd : {master, terminal, null}) close(fd);
  ASSERT_GT(size, 0);
  const std::string shown(buffer, static_cast<size_t>(size));
  EXPECT_THAT(shown, AllOf(HasSubstr("\rloading "), HasSubstr("\x1b[K")));
  // 80 columns, of which the last stays free.
  for (absl::string_view line :
       absl::StrSplit(shown, absl::ByAnyChar("\r\n"))) {
    EXPECT_LE(line.size(), 79u + 3u) << line;
  }
}

}  // namespace
}  // namespace muster
