// Simulation: one life of a hub, made from a seed: the product's own engine
// over simulated devices, a simulated disk and a simulated clock, faults in all
// of them, and a model that says after every step what callers may see.
//
// A seed is a sequence of steps, each with a seed of its own, so that a subset
// of the steps is a simulation too: whoever looks for the cause of a violation
// leaves out what does not matter.
#ifndef TESTS_SIMULATOR_SIMULATION_H_
#define TESTS_SIMULATOR_SIMULATION_H_

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/simulator/faults.h"

namespace muster::simulator {

struct SimulationOptions {
  uint64_t seed = 1;
  int steps = 60;       // At least.
  int faults_min = 25;  // More steps until so many have struck.
  // If not empty: these steps and no others.
  std::vector<int> only;
  // Every step and what it led to; null: nobody reads it.
  std::function<void(const std::string&)> trace;
};

struct SimulationResult {
  std::string violation;   // Empty: none.
  std::vector<int> steps;  // That were executed, up to the violation.
  int64_t faults = 0;
  std::array<int64_t, kFaultCount> struck = {};
  int64_t jobs = 0;
  int64_t executions = 0;
  int64_t lives = 0;  // Engines.
  // Of all that callers saw: the same for the same options.
  uint64_t digest = 0;
};

SimulationResult Simulate(const SimulationOptions& options);

// The options with as few steps as a greedy search finds that still lead to a
// violation.  REQUIRES: `options` lead to one.
SimulationOptions Shrink(const SimulationOptions& options);

}  // namespace muster::simulator

#endif  // TESTS_SIMULATOR_SIMULATION_H_
