// Looks for violations of the engine's invariants, seed by seed.
//
//   bazel run --config=opt //tests:simulate -- --seeds=10000 --start=1
//   bazel run --config=opt //tests:simulate -- --seeds=1 --start=4711 --verbose
//
// The first seed with a violation is run again with as few of its steps as lead
// to one, and told step by step.  --steps=N: at least so many steps a seed.
// --only=3,5,8 runs these steps of the first seed alone.  Exit code 1: a
// violation was found.
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "tests/simulator/simulation.h"

namespace muster::simulator {
namespace {

void Print(const std::string& line) { std::printf("%s\n", line.c_str()); }

// Should the engine end the process, this is what it was at.
volatile uint64_t g_seed = 0;

void OnAbort(int) {
  char text[64];
  const int size = std::snprintf(text, sizeof(text), "seed %llu: aborted\n",
                                 static_cast<unsigned long long>(g_seed));
  [[maybe_unused]] const auto written =
      write(STDOUT_FILENO, text, static_cast<size_t>(size));
}

int Main(int argc, char** argv) {
  SimulationOptions options;
  uint64_t seeds = 100;
  bool verbose = false;
  bool shrink = true;
  for (int i = 1; i < argc; ++i) {
    absl::string_view flag = argv[i];
    bool known = true;
    if (absl::ConsumePrefix(&flag, "--seeds=")) {
      known = absl::SimpleAtoi(flag, &seeds);
    } else if (absl::ConsumePrefix(&flag, "--start=")) {
      known = absl::SimpleAtoi(flag, &options.seed);
    } else if (absl::ConsumePrefix(&flag, "--steps=")) {
      known = absl::SimpleAtoi(flag, &options.steps);
    } else if (absl::ConsumePrefix(&flag, "--only=")) {
      for (const absl::string_view number : absl::StrSplit(flag, ',')) {
        int step = 0;
        known = known && absl::SimpleAtoi(number, &step);
        options.only.push_back(step);
      }
    } else if (flag == "--verbose") {
      verbose = true;
    } else if (flag == "--no_shrink") {
      shrink = false;
    } else {
      known = false;
    }
    if (!known) {
      std::fprintf(stderr, "%s is not understood\n", argv[i]);
      return 2;
    }
  }
  if (verbose) options.trace = Print;
  std::signal(SIGABRT, OnAbort);
  const auto begin = std::chrono::steady_clock::now();
  SimulationResult sum;
  const uint64_t end = options.seed + seeds;
  for (; options.seed < end; ++options.seed) {
    g_seed = options.seed;
    const SimulationResult result = Simulate(options);
    sum.faults += result.faults;
    sum.jobs += result.jobs;
    sum.executions += result.executions;
    sum.lives += result.lives;
    for (int i = 0; i < kFaultCount; ++i) sum.struck[i] += result.struck[i];
    if (result.violation.empty()) continue;
    std::printf("seed %llu: %s\n",
                static_cast<unsigned long long>(options.seed),
                result.violation.c_str());
    if (verbose || !shrink) return 1;
    SimulationOptions few = Shrink(options);
    few.trace = Print;
    Simulate(few);
    std::printf("replay: --start=%llu --seeds=1 --verbose --only=%s\n",
                static_cast<unsigned long long>(options.seed),
                absl::StrJoin(few.only, ",").c_str());
    return 1;
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin)
          .count();
  std::printf(
      "%llu seeds in %.1f s, no violation: %lld faults, %lld jobs, %lld "
      "executions, %lld engines\n",
      static_cast<unsigned long long>(seeds), seconds,
      static_cast<long long>(sum.faults), static_cast<long long>(sum.jobs),
      static_cast<long long>(sum.executions),
      static_cast<long long>(sum.lives));
  for (int i = 0; i < kFaultCount; ++i) {
    std::printf("  %9lld  %s\n", static_cast<long long>(sum.struck[i]),
                std::string(FaultName(static_cast<Fault>(i))).c_str());
  }
  return 0;
}

}  // namespace
}  // namespace muster::simulator

int main(int argc, char** argv) { return muster::simulator::Main(argc, argv); }
