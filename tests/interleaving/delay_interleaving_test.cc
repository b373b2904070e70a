// DelayRings in the interleavings of pairs and triples of operations.
#include "absl/strings/str_format.h"
#include "engine/schedule/delay_rings.h"
#include "gtest/gtest.h"
#include "tests/interleaving/delay_suite.h"
#include "tests/interleaving/explorer.h"
#include "tests/interleaving/queue_programs.h"

namespace muster {
namespace {

using Rings = DelayRings<CheckedPolicy>;

class DelaySuiteTest : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(, DelaySuiteTest, testing::Range(0, kDelaySuites));

TEST_P(DelaySuiteTest, IsClean) {
  const DelaySuite suite = MakeDelaySuite(GetParam());
  int64_t executions = 0, steps = 0;
  int capped = 0;
  for (const DelaySetup& setup : suite.setups) {
    const Explorer::Result result = RunSetup<Rings>(setup, suite.limits);
    executions += result.executions;
    steps += result.steps;
    if (!result.complete) ++capped;
    if (!result.failure.empty()) {
      // Once more, to tell the steps.
      Explorer::Limits limits = suite.limits;
      limits.trace = true;
      FAIL() << setup.name << ": " << result.failure << "\n"
             << RunSetup<Rings>(setup, limits).trace;
    }
  }
  absl::PrintF("%-40s %4d programs, %9d executions, %11d steps, %d cut off\n",
               suite.name, suite.setups.size(), executions, steps, capped);
}

}  // namespace
}  // namespace muster
