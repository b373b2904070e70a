// Work: what waits in the ready queue, once at a time.
//
// Anybody may Wake() an item, at any moment and as often as they like; one
// worker at a time runs it, and a wake during the run makes it run once more:
//
//            Claim by Wake      Begin            End
//   idle ------------------> queued ---> running -----> idle
//                              ^            | Wake
//                              |    End     v
//                              +---------- again
//
// So whatever happened before a Wake() is seen by a run that begins after it.
#ifndef ENGINE_DISPATCH_WORK_H_
#define ENGINE_DISPATCH_WORK_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "engine/schedule/delay_queue.h"
#include "engine/schedule/ready_queue.h"

namespace muster {

class Work : public ReadyQueue::Item {
 public:
  enum class Kind : uint8_t { kEvaluation, kSlice };

  Work(std::shared_ptr<ReadyQueue::Slots> slots, Kind kind)
      : Item(std::move(slots)), kind(kind) {}
  virtual ~Work() = default;

  const Kind kind;

  // What the push that is under way has charged to the job's virtual time; of
  // whoever has claimed the item, and then of the worker that runs it.
  int64_t charged = 0;

  // Of whoever queued the item, until it is popped: the job must not go away
  // while the queue has a plain pointer into it.
  std::shared_ptr<void> owner;

  // True if the caller has to push the item into the ready queue.  Lock-free.
  bool ClaimByWake() {
    State state = state_.load(std::memory_order_relaxed);
    while (true) {
      if (state == kQueued || state == kAgain) {
        // (1) Release, even without a change: what this caller did is seen by
        // the run, whose Begin() or End() acquires.
        if (state_.compare_exchange_weak(state, state,
                                         std::memory_order_acq_rel)) {
          return false;
        }
        continue;
      }
      const State next = state == kIdle ? kQueued : kAgain;
      // (1) Release: pairs with (2).
      if (state_.compare_exchange_weak(state, next,
                                       std::memory_order_acq_rel)) {
        return next == kQueued;
      }
    }
  }

  // The worker that popped the item starts on it.
  void Begin() {
    // (2) Acquire: sees what was done before the wakes (1).
    state_.exchange(kRunning, std::memory_order_acq_rel);
  }

  // The worker is done; true if it has to push the item again.
  bool End() {
    State expected = kRunning;
    // (2) As Begin(): an item that was woken meanwhile is queued again.
    if (state_.compare_exchange_strong(expected, kIdle,
                                       std::memory_order_acq_rel)) {
      return false;
    }
    // An exchange, as another wake may have come since: it too is (1) to this
    // (2).
    state_.exchange(kQueued, std::memory_order_acq_rel);
    return true;
  }

 private:
  enum State : uint8_t { kIdle, kQueued, kRunning, kAgain };
  std::atomic<State> state_{kIdle};
};

// What waits in a delay queue.
struct Timer : DelayQueue::Timer {
  enum class Kind : uint8_t { kJob, kResponses, kTokens, kRechecks };

  Timer(std::shared_ptr<ReadyQueue::Slots> slots, Kind kind)
      : DelayQueue::Timer(std::move(slots)), kind(kind) {}

  const Kind kind;
};

}  // namespace muster

#endif  // ENGINE_DISPATCH_WORK_H_
