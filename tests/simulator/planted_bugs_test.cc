// The simulator's own worth: each planted bug is found within 1,500 seeds.
#include "tests/simulator/planted_bugs.h"

#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace muster::simulator {
namespace {

class PlantedBug : public testing::TestWithParam<const char*> {};

TEST_P(PlantedBug, IsFound) {
  const std::string output =
      absl::StrCat(testing::TempDir(), "/", GetParam(), ".txt");
  // Some end the process, by a CHECK of the engine: that is to find them too.
  const int status = std::system(
      absl::StrCat("timeout 300 tests/simulator/", GetParam(),
                   " --seeds=1500 --start=1 --no_shrink > ", output, " 2>&1")
          .c_str());
  std::ostringstream text;
  text << std::ifstream(output).rdbuf();
  // As the shell says it: 1 for a violation, 128 and the signal for a CHECK.
  ASSERT_TRUE(WIFEXITED(status)) << text.str();
  EXPECT_TRUE(WEXITSTATUS(status) == 1 || WEXITSTATUS(status) == 134)
      << WEXITSTATUS(status) << ": " << text.str();
  RecordProperty("found", text.str());
  std::printf("%s", text.str().c_str());
}

INSTANTIATE_TEST_SUITE_P(All, PlantedBug, testing::ValuesIn(kPlantedBugs),
                         [](const auto& bug) {
                           return std::string(bug.param);
                         });

}  // namespace
}  // namespace muster::simulator
