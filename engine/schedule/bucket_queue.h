// BucketQueue: a lock-free priority queue over a window of buckets.
//
// Shards (bucket_ring.h), one per core, and one word for all: the virtual time
// V, the bucket that is being served.  V only rises.
//
//            V - N/2            V  V+1                V + N/2
//   ----------[-----------------|---[------------------)----------
//     late pushes are found here     pushes go here
//
// A push goes to a bucket after V: not into the one that is being drained, so
// that a node that is pushed again and again passes nobody who waits (a bucket
// is a stack).  Farther ones go into the last bucket of the window.
//
// V rises to the bucket of a node that was taken, if all hints allow, by a CAS
// from a value that was read before the hints: so at most one raise can
// overlook a push that has returned, and as each is by N/4 at most, what is
// pushed while V moves on by less than that stays within N/2 of V, and two laps
// never meet in the ring.  The exception, a push that was suspended while V
// moved on by N/4 or more: its node is late.  It is taken next if the hint
// leads to it, and at most one lap later if nodes of the next lap have covered
// it.
#ifndef ENGINE_SCHEDULE_BUCKET_QUEUE_H_
#define ENGINE_SCHEDULE_BUCKET_QUEUE_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/model/check.h"
#include "engine/schedule/bucket_ring.h"
#include "engine/schedule/node_slab.h"

namespace muster {

// Thread-safe, lock-free, no allocation after construction.
template <typename Policy>
class BucketQueue {
 public:
  using Ring = BucketRing<Policy>;
  using Slab = NodeSlab<Policy>;

  // Buckets ahead of V that pushes can tell apart.
  static constexpr int kWindow = Ring::kBuckets / 2 - 1;

  // `slab` outlives the queue.  `shards` and `slack`: as ReadyQueue's.
  BucketQueue(Slab* slab, int shards, int slack)
      : slack_(static_cast<uint64_t>(slack)) {
    for (int i = 0; i < shards; ++i) {
      shards_.push_back(std::make_unique<Ring>(slab));
    }
  }

  // Puts a node into `bucket`, or into the nearest in the window.
  // REQUIRES: the caller owns the node.
  void Push(uint32_t index, uint64_t bucket) {
    const uint64_t now = Now();
    shards_[Policy::Home(shards())]->Push(
        index, std::clamp(bucket, now + 1, now + kWindow));
  }

  // Takes a node of the lowest bucket, the newest in it; Slab::kNone if all
  // shards are empty.
  uint32_t Pop() {
    typename Ring::Found found;
    while (true) {
      const uint64_t now = Now();
      Ring* ring = shards_[Policy::Home(shards())].get();
      uint64_t hint = ring->hint();
      for (const auto& other : shards_) {
        if (other.get() == ring) continue;
        const uint64_t its = other->hint();
        if (Ring::BucketOf(its) + slack_ < Ring::BucketOf(hint)) {
          ring = other.get();
          hint = its;
        }
      }
      if (Ring::BucketOf(hint) == Ring::kNoBucket) return Slab::kNone;

      uint64_t from = Ring::BucketOf(hint);
      // Read after the hint: while the hint is behind V, V rises once at most,
      // so from `late` on no item is more than a round ahead.  With a V that is
      // older than the hint, one in the next round could look like the first.
      const uint64_t served = Now();
      const uint64_t late =
          served - std::min<uint64_t>(served, Ring::kBuckets / 4);
      if (from < late) {
        // A push that slept: the hint leads to it, while a search would take it
        // for one of the next lap.
        found = ring->Look(from);
        if (found.any && found.bucket == from) {
          if (ring->Take(found)) return Ring::IndexOf(found.head);
          continue;
        }
        from = late;
        found = {};
      } else {
        found = ring->Look(from);
      }
      // If it is not in the hint's bucket, the hint has to be raised to it.
      const bool raise = !found.any || found.bucket > Ring::BucketOf(hint);
      if (raise && (!ring->Raise(&hint, from, &found) || !found.any)) continue;
      // Nothing that was pushed before this look is more urgent: the node is
      // there already, and if Take() succeeds it has been since.  It can be
      // behind the hint, of a push that was under way, or beyond the hint of a
      // push that slept: the hint must not have been lowered below either.
      const uint64_t bound = std::min(found.bucket, Ring::BucketOf(hint));
      uint64_t lowest = found.bucket;
      bool overtakes = false;
      for (const auto& other : shards_) {
        const uint64_t its = Ring::BucketOf(other->hint());
        lowest = std::min(lowest, its);
        if (other.get() == ring ? its < bound : its + slack_ < found.bucket)
          overtakes = true;
      }
      if (overtakes || !ring->Take(found)) continue;
      ring->Prefetch(found);
      if (lowest > now) RaiseTime(now, lowest);
      return Ring::IndexOf(found.head);
    }
  }

  // True if Pop() would have found nothing; false says nothing.  Wait-free.
  bool empty() const {
    for (const auto& ring : shards_) {
      if (Ring::BucketOf(ring->hint()) != Ring::kNoBucket) return false;
    }
    return true;
  }

  // V: the bucket that is being served.  Wait-free.
  uint64_t Now() const {
    // (10) SC: in the one order with the hints, see above; and a push that
    // begins after a pop has returned goes behind what the pop has raised.
    return now_.load(
        Policy::Order(QueueEdge::kWindowLoad, std::memory_order_seq_cst));
  }

  int shards() const { return static_cast<int>(shards_.size()); }

 protected:
  alignas(128) typename Policy::template Atomic<uint64_t> now_{0};

 private:
  void RaiseTime(uint64_t now, uint64_t bucket) {
    // (11) SC: as (10).  If it fails, another has raised it.
    now_.compare_exchange_strong(
        now, std::min<uint64_t>(bucket, now + Ring::kBuckets / 4),
        Policy::Order(QueueEdge::kWindowRaise, std::memory_order_seq_cst),
        std::memory_order_relaxed);
  }

  const uint64_t slack_;
  std::vector<std::unique_ptr<Ring>> shards_;
};

}  // namespace muster

#endif  // ENGINE_SCHEDULE_BUCKET_QUEUE_H_
