// Small programs over small DelayRings, and what must be true of them.
//
// Checked of every execution:
//
//   - no timer is taken twice or early, and what its pusher wrote is known to
//     who takes it;
//   - a pop that finds nothing overlooks no timer whose push had returned when
//     it began, that was due at its `now`, and that nobody took, or put back,
//     before it ended;
//   - NextDue() is not after the tick of such a timer;
//   - nobody waits: all threads but a frozen one end, whatever the others do;
//   - in the end all timers are found, but for the one that a frozen thread has
//     in its hands.
#ifndef TESTS_INTERLEAVING_DELAY_PROGRAMS_H_
#define TESTS_INTERLEAVING_DELAY_PROGRAMS_H_

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/interleaving/explorer.h"
#include "tests/interleaving/queue_programs.h"

namespace muster {

struct DelayOperation {
  enum Kind { kPush, kPop, kNext, kHold } kind;
  // The clock, from the start.
  int now = 0;
  // Of a push: due so much after the start; of a hold, the same of what it
  // pushes again.
  int due = 0;
};

struct DelaySetup {
  std::string name;
  std::vector<DelayOperation> start;  // Pushes.
  std::vector<std::vector<DelayOperation>> threads;
};

inline std::string NameOf(const DelayOperation& operation) {
  switch (operation.kind) {
    case DelayOperation::kPush:
      return absl::StrCat("push", operation.due, "@", operation.now);
    case DelayOperation::kPop:
      return absl::StrCat("pop@", operation.now);
    case DelayOperation::kNext:
      return "next";
    case DelayOperation::kHold:
      return absl::StrCat("hold", operation.due, "@", operation.now);
  }
  return "";
}

template <typename Rings>
class DelayProgram : public Explorer::Program {
 public:
  using Slab = typename Rings::Slab;
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
  static constexpr uint64_t kStart = 16 * Rings::kNear;

  explicit DelayProgram(const DelaySetup& setup)
      : setup_(setup), rings_(&slab_) {
    size_t timers = setup.start.size();
    for (const auto& thread : setup.threads) {
      for (const DelayOperation& operation : thread) {
        if (operation.kind == DelayOperation::kPush) ++timers;
      }
    }
    for (size_t i = 0; i < timers; ++i) {
      timers_.push_back(std::make_unique<Timer>());
      timers_.back()->slot = slab_.Attach(timers_.back().get());
    }
    for (const DelayOperation& operation : setup.start) {
      Push(*timers_[next_timer_++], operation);
    }
  }

  int threads() const override {
    return static_cast<int>(setup_.threads.size());
  }

  void Run(int thread) override {
    for (const DelayOperation& operation : setup_.threads[thread]) {
      switch (operation.kind) {
        case DelayOperation::kPush:
          Push(*timers_[next_timer_++], operation);
          break;
        case DelayOperation::kNext:
          Next();
          break;
        case DelayOperation::kPop:
        case DelayOperation::kHold: {
          Timer* timer = Pop(kStart + static_cast<uint64_t>(operation.now));
          Explorer::Get().Returned();
          if (timer != nullptr && operation.kind == DelayOperation::kHold) {
            Push(*timer, operation);
          }
        }
      }
      Explorer::Get().Returned();
    }
  }

  void Check(int frozen) override {
    draining_ = true;
    constexpr uint64_t kEnd = kStart + 1000;
    int rounds = 0;
    while (Pop(kEnd) != nullptr || rings_.NextDue() <= kEnd) {
      if (++rounds > 100) {
        Explorer::Get().Fail("timers without end");
        return;
      }
    }
    int missing = 0;
    for (const Stay& stay : stays_) {
      if (stay.pushed != kNever && stay.took == kNever) ++missing;
    }
    if (missing > (frozen >= 0 && popping_[frozen] ? 1 : 0)) {
      Explorer::Get().Fail("a timer is lost");
    }
    for (const Look& look : looks_) {
      for (const Stay& stay : stays_) {
        // Not taken at all: in the hands of the frozen thread.
        if (stay.pushed >= look.begin || stay.took <= look.end ||
            stay.took == kNever || stay.tick > look.before) {
          continue;
        }
        Explorer::Get().Fail(look.is_pop ? "a pop overlooks a timer"
                                         : "NextDue() is late");
      }
    }
  }

 private:
  struct Timer {
    uint32_t slot = 0;
    uint64_t due = 0;
    int stay = -1;         // The present one, or -1.
    CheckedPlain payload;  // Stands for `due`.
  };
  // From a push, or put back, to when it is taken.
  struct Stay {
    uint64_t tick;            // Found from then on.
    int64_t pushed = kNever;  // Last step of the push.
    int64_t took = kNever;    // First step of the pop.
  };
  // Was there no timer up to and with `before`?
  struct Look {
    int64_t begin;
    int64_t end;
    uint64_t before;
    bool is_pop;
  };

  int64_t Clock() {
    // After the threads every step counts as later.
    return draining_ ? ++drained_ : Explorer::Get().now();
  }
  int64_t FirstStep() {
    if (draining_) return Clock();
    const Explorer& explorer = Explorer::Get();
    return explorer.running() < 0 ? 0 : explorer.begin();
  }

  int NewStay(Timer& timer, uint64_t tick) {
    timer.stay = static_cast<int>(stays_.size());
    stays_.push_back({tick});
    return timer.stay;
  }

  void Push(Timer& timer, const DelayOperation& operation) {
    const uint64_t now = kStart + static_cast<uint64_t>(operation.now);
    timer.due = kStart + static_cast<uint64_t>(operation.due);
    timer.payload.Write();
    const int stay = NewStay(timer, std::max(timer.due, now));
    rings_.Push(timer.slot, timer.due, now);
    stays_[stay].pushed = Clock();
  }

  void Leave(Timer& timer) {
    if (timer.stay < 0) {
      Explorer::Get().Fail("a timer is taken twice");
      return;
    }
    stays_[timer.stay].took = FirstStep();
    timer.stay = -1;
  }

  Timer* At(uint32_t slot) { return static_cast<Timer*>(slab_.ItemAt(slot)); }

  Timer* Pop(uint64_t now) {
    Explorer::Get().Begin();
    const int thread = Explorer::Get().running();
    if (thread >= 0) popping_[thread] = true;
    std::vector<int> put_back;
    const uint32_t slot = rings_.PopDue(
        now,
        [&](uint32_t slot) {
          At(slot)->payload.Read();
          return At(slot)->due;
        },
        [&](uint32_t slot) {
          Leave(*At(slot));
          put_back.push_back(NewStay(*At(slot), At(slot)->due));
          return true;
        });
    if (thread >= 0) popping_[thread] = false;
    const int64_t begin = FirstStep();
    for (const int stay : put_back) stays_[stay].pushed = Clock();
    if (slot == Slab::kNone) {
      looks_.push_back({begin, Clock(), now, true});
      return nullptr;
    }
    Timer* timer = At(slot);
    if (timer->due > now) Explorer::Get().Fail("a timer is taken early");
    timer->payload.Write();
    Leave(*timer);
    return timer;
  }

  void Next() {
    Explorer::Get().Begin();
    const uint64_t next = rings_.NextDue();
    looks_.push_back({FirstStep(), Clock(), next - 1, false});
  }

  const DelaySetup setup_;
  Slab slab_;
  Rings rings_;
  std::vector<std::unique_ptr<Timer>> timers_;
  size_t next_timer_ = 0;
  std::vector<Stay> stays_;
  std::vector<Look> looks_;
  bool popping_[Explorer::kThreadsMax] = {};
  bool draining_ = false;
  int64_t drained_ = int64_t{1} << 40;
};

// Every choice of `count` of `threads`, in no order, on every one of `starts`.
inline std::vector<DelaySetup> AllDelaySetups(
    const std::vector<std::vector<DelayOperation>>& threads, int count,
    const std::vector<std::vector<DelayOperation>>& starts) {
  std::vector<DelaySetup> setups;
  for (const auto& start : starts) {
    std::vector<size_t> chosen(count, 0);
    while (true) {
      DelaySetup setup;
      setup.start = start;
      setup.name = "[";
      for (const auto& push : start) {
        absl::StrAppend(&setup.name, " ", NameOf(push));
      }
      absl::StrAppend(&setup.name, " ]");
      for (const size_t c : chosen) {
        setup.threads.push_back(threads[c]);
        absl::StrAppend(&setup.name, " |");
        for (const DelayOperation& operation : threads[c]) {
          absl::StrAppend(&setup.name, " ", NameOf(operation));
        }
      }
      setups.push_back(std::move(setup));
      // The next in which no thread's number is below that of the one before.
      int i = count - 1;
      while (i >= 0 && chosen[i] + 1 == threads.size()) --i;
      if (i < 0) break;
      const size_t next = chosen[i] + 1;
      for (int j = i; j < count; ++j) chosen[j] = next;
    }
  }
  return setups;
}

}  // namespace muster

#endif  // TESTS_INTERLEAVING_DELAY_PROGRAMS_H_
