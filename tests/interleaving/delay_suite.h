// The sets of programs that the delay rings' tests explore: rings of 8 buckets,
// of which a coarse one is 4 ticks wide.
#ifndef TESTS_INTERLEAVING_DELAY_SUITE_H_
#define TESTS_INTERLEAVING_DELAY_SUITE_H_

#include <memory>
#include <string>
#include <vector>

#include "tests/interleaving/delay_programs.h"
#include "tests/interleaving/explorer.h"

namespace muster {

struct DelaySuite {
  std::string name;
  Explorer::Limits limits;
  std::vector<DelaySetup> setups;
};

inline constexpr int kDelaySuites = 7;

inline DelaySuite MakeDelaySuite(int which) {
  using O = DelayOperation;
  const O push1{O::kPush, 0, 1}, push2{O::kPush, 0, 2};
  const O push_far{O::kPush, 0, 6};
  const O pop1{O::kPop, 1}, pop9{O::kPop, 9};
  // The coarse bucket of what is due at 6 has begun.
  const O surface{O::kPop, 4};
  const O hold{O::kHold, 1, 3};
  const O next{O::kNext};
  // The clock has been at 8, and went back: two laps in a place.
  const O lap{O::kPush, 8, 9};
  // The same in the coarse ring.
  const O far_lap{O::kPush, 32, 38};

  const std::vector<std::vector<O>> single = {
      {push1}, {push_far}, {pop1}, {surface}, {pop9}, {hold}, {next}};
  const std::vector<std::vector<O>> starts = {{},
                                              {push1},
                                              {push1, push2},
                                              {push_far},
                                              {push1, push_far},
                                              {lap, push1},
                                              {push1, lap},
                                              {far_lap, push_far}};
  switch (which) {
    case 0:
      return {"pairs, every order",
              {.preemptions = -1, .executions = 10'000},
              AllDelaySetups(single, 2, starts)};
    case 1:
      return {"pairs, weak memory",
              {.preemptions = 2, .stale = 2, .executions = 40'000},
              AllDelaySetups(single, 2, starts)};
    case 2:
      return {"pairs of two, weak memory",
              {.preemptions = 2, .stale = 1, .executions = 40'000},
              AllDelaySetups({{push1, next},
                              {push_far, next},
                              {pop1, next},
                              {surface, pop9},
                              {hold, pop9}},
                             2, starts)};
    case 3:
      return {"pairs of two, one freezes",
              {.preemptions = 1, .freeze = true},
              AllDelaySetups({{push1, next},
                              {push_far, pop9},
                              {pop1, next},
                              {surface, pop9},
                              {hold, hold}},
                             2, starts)};
    case 4:
      return {"triples, weak memory",
              {.preemptions = 1, .stale = 1},
              AllDelaySetups({{push1}, {pop1}, {surface}, {next}}, 3,
                             {{}, {push1}, {push_far}, {lap, push1}})};
    case 5:
      return {"triples, one freezes",
              {.preemptions = 1, .freeze = true},
              AllDelaySetups({{push1}, {push_far}, {surface}, {pop9}}, 3,
                             {{}, {push_far}, {lap, push1}})};
    case 6:
      return {
          "laps, weak memory",
          {.preemptions = 2, .stale = 1},
          AllDelaySetups({{push1}, {pop1, pop1}, {pop9}, {{O::kPop, 22}}}, 2,
                         {{lap, push1},
                          {push1, lap},
                          {{O::kPush, 0, 0}, push1, lap},
                          {far_lap},
                          {far_lap, push_far}})};
  }
  return {};
}

template <typename Rings>
Explorer::Result RunSetup(const DelaySetup& setup,
                          const Explorer::Limits& limits) {
  return Explorer::Explore(limits, [&]() -> std::unique_ptr<Explorer::Program> {
    return std::make_unique<DelayProgram<Rings>>(setup);
  });
}

}  // namespace muster

#endif  // TESTS_INTERLEAVING_DELAY_SUITE_H_
