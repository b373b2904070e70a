// DelayRings: a lock-free queue of timers over two rings of buckets.
//
//   fine    a bucket per tick            N ticks, of which N/2 ahead are used
//   coarse  a bucket per N/2 ticks       N buckets, of which N/2 are used
//
// A timer that is due within N/2 ticks is in the fine ring; a farther one in
// the coarse ring, in the bucket of its tick, or in the last one in use if it
// is farther still.  When a coarse bucket begins its timers surface one by one
// and are put back where they belong then.
//
// The clock may jump, so laps may meet in a ring.  A node's own bucket is not
// looked at; a place stands for one bucket:
//
//            h                    e          h + N
//   ---------[--------------------x----------)---------   e = the first place
//                                                         that is not empty
//
// The hint h is at most the bucket b of each push that has returned and was not
// taken (I3, bucket_ring.h).  So none of them has b < e: it would be less than
// a round after h, hence in a place before e's, and they are all empty.  Thus
//
//   e > now    nothing is due, and h may be raised to e;
//   e <= now   the top of e's stack is taken.  It tells its due tick then: if
//              that is after `now`, it is of a later lap and may have covered
//              one that is due; so it is put back, elsewhere.
//
// h may be raised to e in any case, but never to a node's own bucket, which may
// be a lap after that of a node which it covers.
//
// What is put back does not come up for ever.  PopDue() serves the ring with
// the lower bound first, so the two bounds sweep up to `now`, and it puts a
// timer where it comes up again later in that sweep, if at all:
//
//   fine -> coarse    into a place after the coarse hint, which is not before
//                     the tick e that is being served, else it would have been
//                     served first
//   coarse -> fine    likewise
//   coarse -> coarse  into another place, so after the one being served
//
// In the coarse ring it is in its own lap as soon as the sweep is less than N
// buckets behind, and from there it gets into its own lap in the fine ring, as
// it surfaces less than N/2 ticks before it is due.  So a timer moves at most
// three times after a jump by less than N coarse buckets, and twice more for
// each N beyond.
#ifndef ENGINE_SCHEDULE_DELAY_RINGS_H_
#define ENGINE_SCHEDULE_DELAY_RINGS_H_

#include <algorithm>
#include <cstdint>

#include "engine/schedule/bucket_ring.h"
#include "engine/schedule/node_slab.h"

namespace muster {

// Thread-safe, lock-free, no allocation after construction.  `Policy`: see
// bucket_ring.h.
template <typename Policy>
class DelayRings {
 public:
  using Ring = BucketRing<Policy>;
  using Slab = NodeSlab<Policy>;

  // How far ahead the fine ring is used, in ticks; and a coarse bucket's width,
  // so that all of a bucket fits into the fine ring when it begins.
  static constexpr uint64_t kNear = Ring::kBuckets / 2;
  // How far ahead the coarse ring is used, in its buckets.
  static constexpr uint64_t kFar = Ring::kBuckets / 2;

  // Ticks are below.  As a due tick: never.
  static constexpr uint64_t kNever = uint64_t{3} << 42;
  static_assert(kNever + kNear < Ring::kNoBucket);

  // A PopDue() puts back at most as many.
  static constexpr int kMovesMax = 64;

  // `slab` outlives the rings.
  explicit DelayRings(Slab* slab) : fine_(slab), coarse_(slab) {}

  // REQUIRES: the caller owns the node; due <= kNever; now < kNever.
  void Push(uint32_t index, uint64_t due, uint64_t now) {
    if (due < now + kNear) {
      fine_.Push(index, std::max(due, now));
    } else {
      coarse_.Push(index, CoarseOf(due, now));
    }
  }

  // A node that is due at `now`, or Slab::kNone.  `due_of(index)` is a node's
  // due tick; `keep(index)` is asked before a node is put back, and if it is
  // false the node is returned.  Both are called for nodes in our hands only.
  template <typename DueOf, typename Keep>
  uint32_t PopDue(uint64_t now, DueOf due_of, Keep keep) {
    for (int moves = 0; moves < kMovesMax;) {
      uint64_t fine = fine_.hint();
      uint64_t coarse = coarse_.hint();
      const uint64_t fine_tick = Ring::BucketOf(fine);
      const uint64_t coarse_tick = TickOf(Ring::BucketOf(coarse));
      if (fine_tick > now && coarse_tick > now) return Slab::kNone;
      const bool in_fine = fine_tick <= coarse_tick;
      Ring& ring = in_fine ? fine_ : coarse_;
      uint64_t* hint = in_fine ? &fine : &coarse;
      const uint64_t bucket = Ring::BucketOf(*hint);

      const typename Ring::Found found = ring.Look(bucket);
      if (!found.any) {
        // Then both are looked at again; so too if others were faster.
        ring.RaiseByPlace(hint);
        continue;
      }
      if (!ring.Take(found)) continue;
      ring.Prefetch(found);
      const uint32_t index = Ring::IndexOf(found.head);
      const uint64_t due = due_of(index);
      if (due <= now || !keep(index)) return index;

      ++moves;
      if (!in_fine && due < now + kNear) {
        fine_.Push(index, due);
        continue;
      }
      uint64_t far = CoarseOf(due, now);
      // Its place comes up again at once: a bucket earlier, that is in a round.
      if (!in_fine && far % Ring::kBuckets == bucket % Ring::kBuckets) --far;
      coarse_.Push(index, far);
    }
    return Slab::kNone;
  }

  // At most the due tick of each push that has returned; more than kNever if
  // there is none.  Wait-free.
  uint64_t NextDue() const {
    return std::min(Ring::BucketOf(fine_.hint()),
                    TickOf(Ring::BucketOf(coarse_.hint())));
  }

 private:
  // When a coarse bucket begins.
  static uint64_t TickOf(uint64_t coarse) {
    return coarse == Ring::kNoBucket ? Ring::kNoBucket : coarse * kNear;
  }
  static uint64_t CoarseOf(uint64_t due, uint64_t now) {
    return std::min(due / kNear, now / kNear + kFar);
  }

  Ring fine_;
  Ring coarse_;
};

}  // namespace muster

#endif  // ENGINE_SCHEDULE_DELAY_RINGS_H_
