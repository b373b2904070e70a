// DelayQueue: what becomes due when.
//
// The delayed side of the ready queue: start times, retries, time-outs of
// dispatched ranges, and pacing are timers that workers take when they are due.
// There is no timer thread, and nothing is handed over.
//
// Times are durations since an origin that the owner chooses: that of
// Clock::Monotonic(), or the Unix epoch for the wall clock.  A tick is a
// millisecond.  A timer's tick is its due time rounded up.
//
// What is promised, and tested in tests/interleaving/:
//
//   not early  No timer is taken before its tick, unless `keep` gives it up.
//   found      A push that has returned is found by any PopDue() that starts
//              later with a `now` at or after its tick (and the push's `now`),
//              whichever threads are stopped, unless another PopDue() took it.
//              A timer that is put back counts as taken and pushed again.
//   wakes      NextDue() is never after the tick of a push that has returned.
//   order      Earliest tick first; within a tick the newest push first.  That
//              is while calls find nothing left that is due at least every 16
//              s; what has been due for longer comes in any order.
//   stops      No operation waits for another thread.  A thread that is stopped
//              for ever inside Push() or PopDue() keeps at most one timer.
//   clock      `now` may jump, both ways, and differ between threads: then
//              timers may be looked at before they are due, and put back.
//   range      Times count as between 139 years before the origin and 278 after
//              it; what is due later than that is never due.
//
// The algorithm and its proof are in delay_rings.h; it stands on bucket_ring.h.
// After Varghese and Lauck, "Hashed and hierarchical timing wheels", SOSP 1987;
// what is put back is their scheme 7, but bounded per call.
#ifndef ENGINE_SCHEDULE_DELAY_QUEUE_H_
#define ENGINE_SCHEDULE_DELAY_QUEUE_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "engine/schedule/delay_rings.h"
#include "engine/schedule/node_slab.h"

namespace muster {

// Thread-safe.  Push() and PopDue() are lock-free, NextDue() is wait-free.
// None of them allocates; memory is up to 2.1 MB, as far as its buckets were
// ever used, and 24 bytes for each timer that lived at the same time as others.
class DelayQueue {
 public:
  using Slots = NodeSlab<QueuePolicy>;

  static constexpr absl::Duration kTick = absl::Milliseconds(1);

  // PopDue() puts back at most as many timers.
  static constexpr int kMovesMax = DelayRings<QueuePolicy>::kMovesMax;

  // What can wait in a queue; derive from it.  It is in one queue at a time, of
  // those that have the same slots, and there once.  What is also an item of a
  // ready queue has a slot for each.
  class Timer {
   public:
    // Of the last push: its tick.  InfiniteDuration(): never.
    // REQUIRES: the caller has the timer, not the queue.
    absl::Duration due() const { return TimeOf(due_); }

   protected:
    // Takes a slot until the timer ends; blocking, for a few instructions.
    // CHECKs that there are at most Slots::kNodesMax.  `slots` are kept alive:
    // the timer may outlive the queue.
    explicit Timer(std::shared_ptr<Slots> slots)
        : slots_(std::move(slots)), slot_(slots_->Attach(this)) {}
    ~Timer() { slots_->Detach(slot_); }
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;

   private:
    friend class DelayQueue;
    const std::shared_ptr<Slots> slots_;
    const uint32_t slot_;
    uint64_t due_ = 0;
  };

  // `slots`: null for slots of its own.
  explicit DelayQueue(std::shared_ptr<Slots> slots = nullptr);

  const std::shared_ptr<Slots>& slots() const { return slots_; }

  // Adds `*timer`, which must live until PopDue() returns it.  What happened
  // before is seen by who pops it.  What is due at `now` is due at once.
  // REQUIRES: not in any queue; its slots are this queue's.
  void Push(Timer* timer, absl::Duration due, absl::Duration now);

  // Takes out the next timer that is due at `now`.  nullptr if there is none,
  // or if kMovesMax were put back first: the caller should come again if
  // NextDue() is not after `now`.
  //
  // Timers farther than 16 s away surface up to 16 s before they are due, those
  // farther than 74 hours every 74 hours, to be put back.  `keep(timer)` is
  // asked before: false gives it up, and it is returned now.  A timer that is
  // put back counts as pushed by the caller: it may be due before what another
  // thread heard from NextDue() just before.
  //
  // Costs two loads if NextDue() is after `now`.
  Timer* PopDue(absl::Duration now, absl::FunctionRef<bool(Timer*)> keep);

  // When PopDue() should be called (again): not before `now` after a PopDue()
  // that found nothing due.  That is then the first tick; for timers in the
  // coarse ring, when they surface; perhaps earlier after the clock has jumped.
  // InfiniteDuration() if there is no timer.  Two loads.
  absl::Duration NextDue() const { return TimeOf(rings_.NextDue()); }

 private:
  using Rings = DelayRings<QueuePolicy>;

  // Ticks count from 2^42 ms before the origin.
  static constexpr int64_t kOrigin = int64_t{1} << 42;

  static absl::Duration TimeOf(uint64_t tick) {
    return tick >= Rings::kNever
               ? absl::InfiniteDuration()
               : absl::Milliseconds(static_cast<int64_t>(tick) - kOrigin);
  }

  static uint64_t DueTick(absl::Duration due);  // Rounded up.
  static uint64_t NowTick(absl::Duration now);  // Rounded down.

  const std::shared_ptr<Slots> slots_;
  Rings rings_;
};

}  // namespace muster

#endif  // ENGINE_SCHEDULE_DELAY_QUEUE_H_
