// README.md shows files of examples/: they are the same, and what it says of
// the program is what the program prints.
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::HasSubstr;

std::string Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.is_open()) << path;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// What the shell command prints on standard output.
std::string Output(const std::string& command) {
  std::string out;
  std::FILE* const pipe = popen(command.c_str(), "r");
  EXPECT_NE(pipe, nullptr);
  char buffer[4096];
  size_t size;
  while ((size = std::fread(buffer, 1, sizeof(buffer), pipe)) > 0) {
    out.append(buffer, size);
  }
  EXPECT_EQ(pclose(pipe), 0) << command;
  return out;
}

TEST(ReadmeTest, CodeBlocksAreTheFiles) {
  const std::string readme = Read("README.md");
  for (const char* name : {"embed", "gateway"}) {
    EXPECT_THAT(readme,
                HasSubstr(absl::StrCat(
                    "```cpp\n", Read(absl::StrCat("examples/", name, ".cc")),
                    "```\n")));
  }
  EXPECT_THAT(readme, HasSubstr(absl::StrCat("```js\n", Read("examples/hub.js"),
                                             "```\n")));
  for (const char* name : {"reboot", "devices"}) {
    EXPECT_THAT(readme,
                HasSubstr(absl::StrCat(
                    "```json\n", Read(absl::StrCat("examples/", name, ".json")),
                    "```\n")));
  }
}

TEST(ReadmeTest, TheEmbeddedProgramDoesWhatIsSaid) {
  const std::string readme = Read("README.md");
  std::string said = "It prints";
  for (absl::string_view line :
       absl::StrSplit(Output("examples/embed"), '\n', absl::SkipEmpty())) {
    absl::StrAppend(&said, said == "It prints" ? " `" : " and `", line, "`");
  }
  EXPECT_THAT(readme, HasSubstr(said));
}

// Every flag and every command that the README uses is in the help.
TEST(ReadmeTest, FlagsAndCommandsExist) {
  std::string help;
  for (const char* command :
       {"", "run", "query", "demo", "serve", "job create", "job executions",
        "twin import", "fleet", "fleet simulate"}) {
    help += Output(absl::StrCat("server/muster help ", command));
  }
  for (absl::string_view line : absl::StrSplit(Read("README.md"), '\n')) {
    if (!absl::StrContains(line, "./muster ") ||
        absl::StrContains(line, "./muster test") ||
        absl::StrContains(line, "./muster bench") ||
        absl::StrContains(line, "./muster help")) {
      continue;
    }
    for (absl::string_view word : absl::StrSplit(line, ' ')) {
      if (absl::StartsWith(word, "--")) {
        EXPECT_THAT(help, HasSubstr(absl::StrCat("  ", word))) << line;
      }
    }
  }
}

// "Kept on disk", killed by and by.
TEST(ReadmeTest, AKeptRunGoesOn) {
  const std::string run =
      "server/muster run --fleet $TEST_TMPDIR/kept.jsonl --quiet "
      "--job examples/reboot.json --data $TEST_TMPDIR/kept ";
  EXPECT_THAT(
      Output(absl::StrCat(
          "server/muster fleet --devices 2000 > $TEST_TMPDIR/kept.jsonl; "
          "timeout -s KILL 0.5 ",
          run, "; timeout -s KILL 0.5 ", run, "; ", run,
          "--results - | wc -l")),
      "5\n");
  EXPECT_EQ(Output("server/muster run --data $TEST_TMPDIR/kept --quiet"), "");
}

TEST(ReadmeTest, TheExamplesRun) {
  EXPECT_THAT(
      Output("server/muster fleet --devices 2000 > $TEST_TMPDIR/twins.jsonl && "
             "server/muster run --fleet $TEST_TMPDIR/twins.jsonl --quiet "
             "--job examples/reboot.json --job examples/update.json "
             "--devices-config examples/devices.json || test $? = 1"),
      HasSubstr("slower-telemetry completed in "));
}

}  // namespace
}  // namespace muster
