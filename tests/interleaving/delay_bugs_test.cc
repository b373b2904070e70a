// Does the explorer find what would break the delay rings?  Copies of them with
// a bug sown in, and memory orders weakened.
#include <atomic>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "engine/schedule/delay_rings.h"
#include "gtest/gtest.h"
#include "tests/interleaving/delay_announcement_ignored/delay_rings.h"
#include "tests/interleaving/delay_later_lap_hides/delay_rings.h"
#include "tests/interleaving/delay_raise_to_own_bucket/delay_rings.h"
#include "tests/interleaving/delay_raise_unannounced/delay_rings.h"
#include "tests/interleaving/delay_suite.h"
#include "tests/interleaving/explorer.h"
#include "tests/interleaving/queue_programs.h"

namespace muster {
namespace {

template <typename Rings>
void ExpectFound(const char* bug, std::vector<int> suites) {
  int64_t executions = 0;
  for (const int which : suites) {
    const DelaySuite suite = MakeDelaySuite(which);
    for (const DelaySetup& setup : suite.setups) {
      const Explorer::Result result = RunSetup<Rings>(setup, suite.limits);
      executions += result.executions;
      if (result.failure.empty()) continue;
      absl::PrintF("TABLE %-30s %-28s %9d executions: %s: %s\n", bug,
                   result.failure, executions, suite.name, setup.name);
      return;
    }
  }
  ADD_FAILURE() << bug << " was not found in " << executions << " executions";
}

TEST(DelayBugsTest, RaiseUnannounced) {
  ExpectFound<delay_raise_unannounced::DelayRings<CheckedPolicy>>(
      "raise_unannounced", {1, 2});
}

TEST(DelayBugsTest, AnnouncementIgnored) {
  ExpectFound<delay_announcement_ignored::DelayRings<CheckedPolicy>>(
      "announcement_ignored", {1, 2});
}

TEST(DelayBugsTest, RaiseToOwnBucket) {
  ExpectFound<delay_raise_to_own_bucket::DelayRings<CheckedPolicy>>(
      "raise_to_own_bucket", {6, 1});
}

TEST(DelayBugsTest, LaterLapHides) {
  ExpectFound<delay_later_lap_hides::DelayRings<CheckedPolicy>>(
      "later_lap_hides", {6, 1});
}

struct Weaker {
  QueueEdge edge;
  const char* name;
};
class DelayOrderTest : public testing::TestWithParam<Weaker> {};
INSTANTIATE_TEST_SUITE_P(
    , DelayOrderTest,
    testing::Values(Weaker{QueueEdge::kLink, "(1) link"},
                    Weaker{QueueEdge::kHeadLoad, "(2) head load"},
                    Weaker{QueueEdge::kStamp, "(3) stamp"},
                    Weaker{QueueEdge::kWordLoad, "(4) word load"},
                    Weaker{QueueEdge::kHintLoad, "(7) hint load"},
                    Weaker{QueueEdge::kHintLower, "(8) hint lower"},
                    Weaker{QueueEdge::kHintAnnounce, "(9) announce"}));

TEST_P(DelayOrderTest, RelaxedIsCaught) {
  const int edge = static_cast<int>(GetParam().edge);
  g_weakened[edge] = true;
  g_weaker[edge] = std::memory_order_relaxed;
  ExpectFound<DelayRings<CheckedPolicy>>(GetParam().name, {1, 6, 2});
  g_weakened[edge] = false;
}

}  // namespace
}  // namespace muster
