// BucketQueue in every interleaving of pairs and triples of operations.
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "engine/schedule/bucket_queue.h"
#include "gtest/gtest.h"
#include "tests/interleaving/explorer.h"
#include "tests/interleaving/queue_programs.h"
#include "tests/interleaving/queue_suite.h"

namespace muster {
namespace {

using Queue = BucketQueue<CheckedPolicy>;

void ExpectClean(const Suite& suite) {
  int64_t executions = 0, steps = 0;
  int capped = 0;
  for (const Setup& setup : suite.setups) {
    const Explorer::Result result = RunSetup<Queue>(setup, suite.limits);
    executions += result.executions;
    steps += result.steps;
    if (!result.complete) ++capped;
    if (!result.failure.empty()) {
      // Once more, to tell the steps.
      Explorer::Limits limits = suite.limits;
      limits.trace = true;
      FAIL() << NameOf(setup) << ": " << result.failure << "\n"
             << RunSetup<Queue>(setup, limits).trace;
    }
  }
  absl::PrintF("%-40s %4d programs, %9d executions, %11d steps, %d cut off\n",
               suite.name, suite.setups.size(), executions, steps, capped);
}

class SuiteTest : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(, SuiteTest, testing::Range(0, kSuites));

TEST_P(SuiteTest, IsClean) { ExpectClean(MakeSuite(GetParam())); }

}  // namespace
}  // namespace muster
