// The sets of programs that the queue's tests explore.
#ifndef TESTS_INTERLEAVING_QUEUE_SUITE_H_
#define TESTS_INTERLEAVING_QUEUE_SUITE_H_

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "tests/interleaving/explorer.h"
#include "tests/interleaving/queue_programs.h"

namespace muster {

struct Suite {
  std::string name;
  Explorer::Limits limits;
  std::vector<Setup> setups;
};

inline constexpr int kSuites = 12;

inline Suite MakeSuite(int which) {
  using O = Operation;
  const O push1{O::kPush, 1}, push2{O::kPush, 2}, push3{O::kPush, 3};
  const O pop{O::kPop}, hold1{O::kHold, 1}, hold2{O::kHold, 2},
      hold3{O::kHold, 3};
  const std::vector<std::vector<O>> single = {{push1}, {push3}, {pop}, {hold1}};
  const std::vector<std::vector<O>> twice = {
      {push1, push1}, {push2, pop}, {pop, pop}, {hold1, hold1}};
  const std::vector<std::vector<int>> starts = {{}, {1}, {1, 1}, {1, 2}, {3}};
  Suite suite;
  const auto add = [&](const std::vector<Setup>& setups) {
    suite.setups.insert(suite.setups.end(), setups.begin(), setups.end());
  };
  switch (which) {
    case 0:
      suite.name = "pairs, every order";
      suite.limits = {.preemptions = -1, .executions = 60'000};
      add(AllSetups(single, 2, starts, 1, 0));
      add(AllSetups(single, 2, starts, 1, 3));
      break;
    case 1:
      suite.name = "pairs, two shards, every order";
      suite.limits = {.preemptions = -1, .executions = 60'000};
      add(AllSetups(single, 2, starts, 2, 0));
      break;
    case 2:
      suite.name = "pairs, weak memory";
      suite.limits = {.preemptions = 2, .stale = 2};
      add(AllSetups(single, 2, starts, 1, 0));
      add(AllSetups(single, 2, {{}, {1}}, 2, 0));
      break;
    case 3:
      suite.name = "pairs of two, weak memory";
      suite.limits = {.preemptions = 2, .stale = 1};
      add(AllSetups(twice, 2, {{}, {1}, {1, 2}}, 1, 6));
      break;
    case 4:
      suite.name = "pairs of two, one freezes";
      suite.limits = {.preemptions = 1, .freeze = true};
      add(AllSetups(twice, 2, {{}, {1}, {1, 1}}, 1, 6));
      add(AllSetups(twice, 2, {{1}, {1, 2}}, 2, 0));
      break;
    case 5:
      suite.name = "triples, weak memory";
      suite.limits = {.preemptions = 2, .stale = 1};
      add(AllSetups({{push1}, {push2}, {pop}}, 3, {{}, {1}, {1, 1}}, 1, 0));
      break;
    case 6:
      suite.name = "triples, one freezes";
      suite.limits = {.preemptions = 1, .freeze = true};
      add(AllSetups(single, 3, {{}, {1}, {1, 2}}, 1, 0));
      break;
    case 7:
      suite.name = "holds, weak memory";
      suite.limits = {.preemptions = 2, .stale = 1};
      add(AllSetups({{push1}, {push1, push1}, {hold1, pop}, {pop, pop}}, 2,
                    {{1}, {1, 1}}, 1, 3));
      add(AllSetups({{push1, pop}, {hold1, pop}, {pop, pop}}, 2, {{}, {1, 1}},
                    2, 3));
      break;
    case 8:
      suite.name = "two stops, one for ever";
      suite.limits = {.preemptions = 2, .freeze = true};
      // Once round the ring, back to the place that another looks at.
      suite.setups.push_back(
          {1, 0, {1, 1}, {{pop}, {hold3, pop, hold3, hold3, hold1}}});
      // Two pushes into one leaf while a pop clears it.
      suite.setups.push_back({1, 0, {2}, {{pop, pop}, {push3}, {push3}}});
      break;
    case 9:
      suite.name = "two stops";
      suite.limits = {.preemptions = 2};
      // A push that stands between two levels, and one into the same leaf that
      // has returned.
      suite.setups.push_back({1, 0, {1}, {{push3}, {push3, pop, pop}}});
      // The stack that a raise has found is made smaller.
      suite.setups.push_back({1, 0, {3, 3}, {{pop}, {push1, pop, pop}}});
      // A node comes back to its stack with another below it, one lap later.
      suite.setups.push_back(
          {1,
           0,
           {1, 1},
           {{pop}, {hold3, hold3, hold3, hold3, hold3, {O::kPush, 9}, hold2}}});
      // Two pushes behind the hint, one after the other, while a pop is on its
      // way round the ring and the time has not been raised.
      suite.setups.push_back({1, 0, {3}, {{pop}, {pop}, {push1, push2}}});
      break;
    case 10:
      suite.name = "three stops";
      suite.limits = {.preemptions = 3};
      // The node that a raise has found is on its way to another bucket.
      suite.setups.push_back({1, 0, {3, 3}, {{hold3}, {push1, pop, pop}}});
      break;
    case 11:
      suite.name = "in turn, weak memory";
      suite.limits = {.preemptions = 2, .stale = 2, .in_turn = true};
      // The third push relies on the second's stamp, and has not seen it.
      suite.setups.push_back({1, 1, {}, {{push1}, {push1}, {push1}, {pop}}});
      // A push between a search's look at a bucket and the clearing of its bit,
      // while the hint is lower: the first pop keeps the time from being
      // raised.
      suite.setups.push_back({1, 0, {3}, {{pop}, {push1, pop, pop}, {push3}}});
      break;
  }
  return suite;
}

struct Catch {
  Explorer::Result result;
  int64_t executions = 0;
  std::string program;  // "": nothing was caught.
};

template <typename Queue>
Explorer::Result RunSetup(const Setup& setup, const Explorer::Limits& limits) {
  return Explorer::Explore(limits, [&]() -> std::unique_ptr<Explorer::Program> {
    return std::make_unique<QueueProgram<Queue>>(setup);
  });
}

// The first failure in these suites.
template <typename Queue>
Catch Hunt(std::initializer_list<int> suites) {
  Catch caught;
  for (int which : suites) {
    const Suite suite = MakeSuite(which);
    for (const Setup& setup : suite.setups) {
      caught.result = RunSetup<Queue>(setup, suite.limits);
      caught.executions += caught.result.executions;
      if (caught.result.failure.empty()) continue;
      caught.program = suite.name + ": " + NameOf(setup);
      return caught;
    }
  }
  return caught;
}

}  // namespace muster

#endif  // TESTS_INTERLEAVING_QUEUE_SUITE_H_
