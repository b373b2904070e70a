// So many seeds, none with a violation, each with at least 25 faults; and the
// simulator's promises about itself.
#include <array>
#include <cstdint>
#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "tests/simulator/simulation.h"

namespace muster::simulator {
namespace {

// A sanitizer makes a seed ten times as slow.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t kSeeds = 600;
#else
constexpr uint64_t kSeeds = 10'000;
#endif
constexpr int kFaultsMin = 25;
constexpr int kSlices = 40;

// Cut in slices, so that the test can be sharded.
class Seeds : public testing::TestWithParam<int> {};

TEST_P(Seeds, HoldWhateverFails) {
  SimulationOptions options;
  options.faults_min = kFaultsMin;
  for (uint64_t seed = 1 + static_cast<uint64_t>(GetParam()); seed <= kSeeds;
       seed += kSlices) {
    options.seed = seed;
    const SimulationResult result = Simulate(options);
    ASSERT_EQ(result.violation, "")
        << "bazel run --config=opt //tests:simulate -- --seeds=1 --start="
        << seed;
    ASSERT_GE(result.faults, kFaultsMin) << "seed " << seed;
    ASSERT_GT(result.lives, 1) << "seed " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Seeds, testing::Range(0, kSlices));

TEST(Simulation, ReplaysExactly) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SimulationOptions options;
    options.seed = seed;
    const SimulationResult first = Simulate(options);
    std::string trace;
    options.trace = [&trace](const std::string& line) { trace += line + "\n"; };
    const SimulationResult again = Simulate(options);
    EXPECT_EQ(first.digest, again.digest) << "seed " << seed;
    EXPECT_EQ(first.steps, again.steps) << "seed " << seed;
    EXPECT_EQ(first.struck, again.struck) << "seed " << seed;
    const std::string before = std::move(trace);
    trace.clear();
    Simulate(options);
    EXPECT_EQ(before, trace) << "seed " << seed;
  }
}

// What it is there for: faults of every kind strike, and work is done.
TEST(Simulation, EveryFaultStrikes) {
  SimulationOptions options;
  std::array<int64_t, kFaultCount> struck = {};
  int64_t jobs = 0;
  int64_t executions = 0;
  for (options.seed = 1; options.seed <= 100; ++options.seed) {
    const SimulationResult result = Simulate(options);
    for (size_t i = 0; i < struck.size(); ++i) struck[i] += result.struck[i];
    jobs += result.jobs;
    executions += result.executions;
  }
  for (size_t i = 0; i < struck.size(); ++i) {
    EXPECT_GE(struck[i], 10) << FaultName(static_cast<Fault>(i));
  }
  EXPECT_GE(jobs, 300);
  EXPECT_GE(executions, 600);
}

}  // namespace
}  // namespace muster::simulator
