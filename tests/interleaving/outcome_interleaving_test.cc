// OutcomeList and OutcomePool in every interleaving of a few operations; each
// of their memory orders weakened; and the pool without its tag.
#include <string>

#include "absl/strings/str_format.h"
#include "engine/dispatch/outcome_list.h"
#include "gtest/gtest.h"
#include "tests/interleaving/explorer.h"
#include "tests/interleaving/outcome_full_by_load/outcome_list.h"
#include "tests/interleaving/outcome_programs.h"
#include "tests/interleaving/outcome_untagged/outcome_list.h"

namespace muster {
namespace {

class SuiteTest : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(, SuiteTest,
                         testing::Values(kEveryOrder, kWeakMemory,
                                         kOneFreezes));

TEST_P(SuiteTest, IsClean) {
  const OutcomeSuite suite = MakeOutcomeSuite(GetParam());
  for (const OutcomeSetup& setup : suite.setups) {
    const Explorer::Result result =
        RunOutcomes<OutcomePool, OutcomeList>(setup, suite.limits);
    if (!result.failure.empty()) {
      Explorer::Limits limits = suite.limits;
      limits.trace = true;  // Once more, to tell the steps.
      FAIL() << setup.name << ": " << result.failure << "\n"
             << RunOutcomes<OutcomePool, OutcomeList>(setup, limits).trace;
    }
    absl::PrintF("%-12s %-24s %9d executions, %10d steps%s\n", suite.name,
                 setup.name, result.executions, result.steps,
                 result.complete ? "" : ", cut off");
  }
}

// What a suite finds, and in which program; empty: nothing.
template <template <typename> class Pool, template <typename> class List>
std::string Find(int which) {
  const OutcomeSuite suite = MakeOutcomeSuite(which);
  for (const OutcomeSetup& setup : suite.setups) {
    const Explorer::Result result =
        RunOutcomes<Pool, List>(setup, suite.limits);
    if (result.failure.empty()) continue;
    return absl::StrFormat("%s: %s, after %d executions", setup.name,
                           result.failure, result.executions);
  }
  return "";
}

TEST(MutationTest, EachOrderIsNeeded) {
  constexpr const char* kNames[kOutcomeEdges] = {"(1) push", "(2) take all",
                                                 "(3) give back", "(4) take"};
  for (int edge = 0; edge < kOutcomeEdges; ++edge) {
    g_relaxed_edges[edge] = true;
    const std::string found = Find<OutcomePool, OutcomeList>(kWeakMemory);
    g_relaxed_edges[edge] = false;
    absl::PrintF("TABLE %-14s relaxed: %s\n", kNames[edge],
                 found.empty() ? "not caught" : found);
    EXPECT_NE(found, "") << kNames[edge];
  }
}

// Needs no weak memory, only a thread that sleeps between two steps.
TEST(MutationTest, TheTagIsNeeded) {
  const std::string found =
      Find<outcome_untagged::OutcomePool, outcome_untagged::OutcomeList>(
          kEveryOrder);
  absl::PrintF("TABLE %-14s missing: %s\n", "tag", found);
  EXPECT_NE(found, "");
}

TEST(MutationTest, FullIsConfirmed) {
  const std::string found =
      Find<outcome_full_by_load::OutcomePool,
           outcome_full_by_load::OutcomeList>(kWeakMemory);
  absl::PrintF("TABLE %-14s by load: %s\n", "full", found);
  EXPECT_NE(found, "");
}

}  // namespace
}  // namespace muster
