// BucketRing: one shard of a lock-free priority queue, a ring of stacks of
// nodes with an index over the stacks that are not empty.
//
//   top     [.x..]                       1 word:       a bit per upper word
//   upper   [....][x..x][....][....]     F words:      a bit per leaf word
//   leaves  [..x.] ... [x...] ...        F x F words:  a bit per bucket
//   buckets  stack stack stack ...       F x F x F words
//
// All four levels keep one protocol.  Call a bucket, or a word of the index, a
// child of the word above it, and a child empty if its stack, or its bits, are.
// A child carries a flag, "known above":
//
//   I1  A push that has returned and was not taken has its bit set in each word
//       above it.
//   I2  While a child is known above, its parent's bit is set.
//
// A push fills a child, and if the child was not known above, stamps the
// parent: sets the bit and changes the word even if the bit was set.  A child
// that turns out empty is first made not known above; then the bit is cleared
// by a CAS from a parent word that was read before the child was seen empty.
// So:
//
//   fill before the look           the look finds it, and nothing is cleared
//   fill after the look, stamp
//     before the CAS               the stamp makes the CAS fail
//     after the CAS                the stamp sets the bit again
//
// and a push that finds a child filled by another, who may be stopped before
// its stamp, does not rely on it: only "known above" spares the stamp, and that
// is set by a CAS from exactly the word that was written before the stamp, so
// that the child was never empty in between.  This closes the case of two
// threads stopped between the two levels of a bitmap, without a stamp per push:
// in a bucket that holds several items a push is one CAS.
//
// The hint is a lower bound of the shard's buckets:
//
//   I3  hint <= bucket of each push that has returned and was not taken.
//
// A push lowers it after its stamps, if need be.  Raising takes two steps: a
// CAS announces it, then the index is searched, then a CAS raises the hint.  A
// push that finds the announcement takes it back, so the second CAS fails; a
// push that had looked before it is found by the search.  Announcements are not
// owned: whoever finds one searches and raises on it himself, so that nobody
// waits for the one who made it.
#ifndef ENGINE_SCHEDULE_BUCKET_RING_H_
#define ENGINE_SCHEDULE_BUCKET_RING_H_

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "absl/base/attributes.h"
#include "engine/schedule/node_slab.h"
#include "engine/schedule/zeroed_array.h"

namespace muster {

// The atomic operations whose order matters, so that tests can weaken them one
// by one.  Operations that are not listed are relaxed.  The numbers are those
// of the comments below.
enum class QueueEdge {
  kLink,          // (1)
  kHeadLoad,      // (2)
  kStamp,         // (3)
  kWordLoad,      // (4)
  kKnownAbove,    // (5)
  kParentLoad,    // (6)
  kHintLoad,      // (7)
  kHintLower,     // (8)
  kHintAnnounce,  // (9)
  kWindowLoad,    // (10)
  kWindowRaise,   // (11)
  kNodeStore,     // (12)
  kNodeLoad,      // (13)
};

// What the queues are made of outside tests.
struct QueuePolicy {
  template <typename T>
  using Atomic = std::atomic<T>;
  static constexpr int kFanoutBits = 5;
  static constexpr int kFirstChunkBits = 10;
  // The order to use where `order` is written.
  static constexpr std::memory_order Order(QueueEdge, std::memory_order order) {
    return order;
  }
  static constexpr bool kPrefetches = true;
  // Where the calling thread pushes, and looks first: in [0, shards).
  static int Home(int shards);
};

// Thread-safe.  Lock-free: each operation ends in a bounded number of its own
// steps unless others keep completing theirs.  No allocation after
// construction.
template <typename Policy>
class BucketRing {
 public:
  using Slab = NodeSlab<Policy>;

  static constexpr int kFanout = 1 << Policy::kFanoutBits;
  static constexpr int kBuckets = kFanout * kFanout * kFanout;

  // A bucket's number counts on for ever; its place in the ring is the number
  // modulo kBuckets.
  static constexpr uint64_t kNoBucket = (uint64_t{1} << 44) - 1;

  // A stack that was seen not empty.
  struct Found {
    bool any = false;
    int place = 0;
    uint64_t head = 0;
    uint64_t meta = 0;    // Of the top node.
    uint64_t bucket = 0;  // Of the top node.
  };

  explicit BucketRing(Slab* slab) : slab_(*slab) {}

  // ------------------------------------------------------------------ hints
  // A hint is one word: a bucket, the announcement of a raise, a stamp.

  static uint64_t BucketOf(uint64_t hint) { return hint & kNoBucket; }

  // (7) SC: with (8) and (9), see Push() and Raise().
  uint64_t hint() const {
    return hint_.load(Order(QueueEdge::kHintLoad, std::memory_order_seq_cst));
  }

  // ------------------------------------------------------------------- push

  // Puts the node into `bucket`.  REQUIRES: the caller owns the node.
  void Push(uint32_t index, uint64_t bucket) {
    const int place = static_cast<int>(bucket % kBuckets);
    auto& node = slab_.At(index);
    Word& head = stacks_[place].head;
    // Relaxed, as a stale head only costs a try.
    uint64_t old = head.load(std::memory_order_relaxed);
    uint64_t linked;
    auto& pushed = stacks_[place].pushed[(old / kTagOne) % kAhead];
    if constexpr (Policy::kPrefetches) {
      node.ahead.store(pushed.load(std::memory_order_relaxed),
                       std::memory_order_relaxed);
    }
    do {
      // (12) Release: who reads it by (13), because it still holds the head of
      // an earlier stay, also sees that the node has been taken from there.
      node.meta.store(bucket << 32 | IndexOf(old),
                      Order(QueueEdge::kNodeStore, std::memory_order_release));
      linked = ((old & ~kIndexMask) + kTagOne) | index;
      // (1) Release for (2), which takes the node and what its owner did
      // before; acquire for (5), whose flag it may find.  It need not be in
      // the one order: the stamps that lead to the node are, and they bring it.
    } while (!head.compare_exchange_strong(
        old, linked, Order(QueueEdge::kLink, std::memory_order_acq_rel),
        std::memory_order_relaxed));
    if constexpr (Policy::kPrefetches) {
      pushed.store(index, std::memory_order_relaxed);
    }
    if ((old & kHeadKnown) == 0) {
      Stamp(0, place);
      // Only a bucket with several items is worth the flag.
      if (IndexOf(old) != Slab::kNone) {
        // (5) Release: who finds the flag by (1) relies on the stamp (3).
        head.compare_exchange_strong(
            linked, linked | kHeadKnown,
            Order(QueueEdge::kKnownAbove, std::memory_order_release),
            std::memory_order_relaxed);
      }
    }
    Lower(bucket);
  }

  // -------------------------------------------------------------------- pop

  // The first stack, from `bucket` on around the ring, that is not empty.
  Found First(uint64_t bucket) {
    while (true) {
      const int start = static_cast<int>(bucket % kBuckets);
      int place = Search(start);
      if (place < 0 && start != 0) place = Search(0);
      if (place < 0) return {};
      Found found = Look(place, bucket);
      if (found.any) return found;
      Clear(0, place);
    }
  }

  // The stack at `bucket`'s place.
  ABSL_ATTRIBUTE_ALWAYS_INLINE Found Look(uint64_t bucket) {
    return Look(static_cast<int>(bucket % kBuckets), bucket);
  }

  // Takes the node that was found; false if its stack has changed since.
  bool Take(const Found& found) {
    uint64_t head = found.head;
    // Relaxed: (2) has acquired the node, and as a read-modify-write this goes
    // on with the release sequence of the nodes below.
    return stacks_[found.place].head.compare_exchange_strong(
        head, (head & ~kIndexMask) | IndexOf(found.meta),
        std::memory_order_relaxed, std::memory_order_relaxed);
  }

  // After Take(): asks for the memory of what may be taken kAhead and twice
  // kAhead pops later.
  void Prefetch(const Found& found) {
    if constexpr (Policy::kPrefetches) slab_.Prefetch(IndexOf(found.head));
  }

  // Whether the stack is still as it was found.
  bool Unchanged(const Found& found) const {
    return stacks_[found.place].head.load(std::memory_order_relaxed) ==
           found.head;
  }

  static uint32_t IndexOf(uint64_t head) {
    return static_cast<uint32_t>(head & kIndexMask);
  }

  // Raises the hint from `*hint`, which was read before, to the first bucket
  // that is found from `from` on, or to kNoBucket.  True if it did; `*found` is
  // what it found, and `*hint` the new hint.
  bool Raise(uint64_t* hint, uint64_t from, Found* found) {
    if (!Announce(hint)) return false;
    *found = First(from);
    uint64_t bucket = kNoBucket;
    if (found->any) {
      // The node may have left and come back elsewhere since its head was read.
      if (!Unchanged(*found)) return false;
      // A push on its way that has slept since the ring went round: whoever
      // takes it need not raise anything.
      if (found->bucket < from) return true;
      bucket = found->bucket;
    }
    return RaiseTo(hint, bucket);
  }

  // The same from the hint itself, and to the bucket that the found place
  // stands for: the one that is less than a round after the hint.  For rings
  // in which several laps meet: a node below the top may be of an earlier lap
  // than the top, but of none before that bucket.
  bool RaiseByPlace(uint64_t* hint) {
    if (!Announce(hint)) return false;
    const uint64_t from = BucketOf(*hint);
    const Found found = First(from);
    if (!found.any) return RaiseTo(hint, kNoBucket);
    const uint64_t ahead =
        (static_cast<uint64_t>(found.place) - from) % kBuckets;
    return RaiseTo(hint, from + ahead);
  }

 private:
  using Word = typename Policy::template Atomic<uint64_t>;

  // A bucket: the top node's number, known above, a tag that each link changes:
  // a stack that only shrinks has no top twice.  37 bits wrap in 40 minutes if
  // one bucket is pushed 50 M items a second.
  static constexpr uint64_t kIndexMask = Slab::kIndexMask;
  static constexpr uint64_t kHeadKnown = uint64_t{1} << Slab::kIndexBits;
  static constexpr uint64_t kTagOne = kHeadKnown << 1;

  // In a chain one has to wait for each node to learn where the next one is, a
  // hundred nanoseconds each if there are a million.  So each node also names
  // the one that was pushed kAhead pushes before it: as a rule, the one that is
  // popped kAhead pops after it.  Nothing but prefetching relies on that.
  static constexpr int kAhead = 6;
  struct Stack {
    Word head{0};
    std::atomic<uint32_t> pushed[kAhead] = {};  // Lately, by tag.
  };

  // A word of the index: bits, known above, a stamp.
  static constexpr uint64_t kBitsMask = 0xffffffff;
  static constexpr uint64_t kWordKnown = uint64_t{1} << 32;
  static constexpr uint64_t kWordStampOne = kWordKnown << 1;

  static constexpr uint64_t kRaising = uint64_t{1} << 44;
  static constexpr uint64_t kStampOne = kRaising << 1;

  static constexpr std::memory_order Order(QueueEdge edge,
                                           std::memory_order order) {
    return Policy::Order(edge, order);
  }

  // The words above the buckets (level 0), the leaves (1), the upper words (2).
  Word& WordAbove(int level, int child) {
    const int place = child >> Policy::kFanoutBits;
    return level == 0 ? leaves_[place] : level == 1 ? upper_[place] : top_;
  }

  uint64_t Bits(const Word& word) const {
    // (4) SC: acquires what (3) stamped, and comes after (9) in a raise.
    return word.load(Order(QueueEdge::kWordLoad, std::memory_order_seq_cst)) &
           kBitsMask;
  }

  // The first step of a raise from `*hint`; the search comes after it.
  bool Announce(uint64_t* hint) {
    if ((*hint & kRaising) == 0) {
      const uint64_t announced = (*hint + kStampOne) | kRaising;
      // (9) SC: a push's (7) either comes before it in the one order, and then
      // the search sees its stamps (3), or finds it.
      if (!hint_.compare_exchange_strong(
              *hint, announced,
              Order(QueueEdge::kHintAnnounce, std::memory_order_seq_cst),
              std::memory_order_relaxed)) {
        return false;
      }
      *hint = announced;
    }
    return true;
  }

  // The last step: `bucket` is the first that the search found.
  bool RaiseTo(uint64_t* hint, uint64_t bucket) {
    const uint64_t raised =
        ((*hint + kStampOne) & ~kRaising & ~kNoBucket) | bucket;
    // Relaxed: (9) comes before it in the hint's own order, so who reads it by
    // (7) comes after (9) and finds by (4) all that the search could find.
    if (!hint_.compare_exchange_strong(*hint, raised,
                                       std::memory_order_relaxed,
                                       std::memory_order_relaxed)) {
      return false;
    }
    *hint = raised;
    return true;
  }

  // Tells the words above that `child` of `level` is not empty.
  void Stamp(int level, int child) {
    Word& word = WordAbove(level, child);
    const uint64_t bit = uint64_t{1} << (child & (kFanout - 1));
    // Relaxed, as a stale word only costs a try.
    uint64_t old = word.load(std::memory_order_relaxed);
    uint64_t stamped;
    do {
      stamped = (old | bit) + kWordStampOne;
      // (3) SC: release for (4) and (6), which have to see the child filled;
      // acquire for (5); and in the one order before the push's (7), so that a
      // raise whose (9) comes after that finds it by (4).
    } while (!word.compare_exchange_strong(
        old, stamped, Order(QueueEdge::kStamp, std::memory_order_seq_cst),
        std::memory_order_relaxed));
    if (level == 2 || (old & kWordKnown) != 0) return;
    Stamp(level + 1, child >> Policy::kFanoutBits);
    if ((old & kBitsMask) != 0) {
      // (5) Release: as in Push().
      word.compare_exchange_strong(
          stamped, stamped | kWordKnown,
          Order(QueueEdge::kKnownAbove, std::memory_order_release),
          std::memory_order_relaxed);
    }
  }

  // Takes back what the word above says about `child` of `level`, which has
  // been seen empty.  May do nothing or a part, if others are at it.
  void Clear(int level, int child) {
    Word& word = WordAbove(level, child);
    const uint64_t bit = uint64_t{1} << (child & (kFanout - 1));
    Word& below = level == 0   ? stacks_[child].head
                  : level == 1 ? leaves_[child]
                               : upper_[child];
    const uint64_t content = level == 0 ? kIndexMask : kBitsMask;
    const uint64_t known = level == 0 ? kHeadKnown : kWordKnown;
    // (6) Acquire: if the word has the stamp (3) of a push, the next load sees
    // what the push filled.
    uint64_t old =
        word.load(Order(QueueEdge::kParentLoad, std::memory_order_acquire));
    // Relaxed: a stale child makes the CAS of `known` fail, or the word's: its
    // stamp came after (6).
    uint64_t seen = below.load(std::memory_order_relaxed);
    if ((seen & content) != 0) return;
    if ((seen & known) != 0) {
      // Relaxed: pushes that find it do more, not less.
      if (!below.compare_exchange_strong(seen, seen & ~known,
                                         std::memory_order_relaxed,
                                         std::memory_order_relaxed)) {
        return;
      }
      // The bit was read while the child was still known above, and a push
      // that finds it is not stamps: `old` still tells whether one did.
    }
    if ((old & bit) == 0) return;
    word.compare_exchange_strong(old, old & ~bit, std::memory_order_relaxed,
                                 std::memory_order_relaxed);
  }

  // The first place from `start` on, to the ring's end, whose bit is set; -1 if
  // there is none.  Clears bits over empty words that it meets.
  int Search(int start) {
    constexpr int kLowBits = Policy::kFanoutBits;
    while (true) {
      int leaf = start >> kLowBits;
      uint64_t bits = Bits(leaves_[leaf]) >> (start & (kFanout - 1));
      if (bits != 0) return start + std::countr_zero(bits);
      int upper = leaf >> kLowBits;
      bits = Bits(upper_[upper]) >> (leaf & (kFanout - 1)) >> 1;
      if (bits != 0) {
        leaf += 1 + std::countr_zero(bits);
      } else {
        bits = Bits(top_) >> upper >> 1;
        if (bits == 0) return -1;
        upper += 1 + std::countr_zero(bits);
        bits = Bits(upper_[upper]);
        if (bits == 0) {
          Clear(2, upper);
          continue;
        }
        leaf = (upper << kLowBits) + std::countr_zero(bits);
      }
      bits = Bits(leaves_[leaf]);
      if (bits != 0) return (leaf << kLowBits) + std::countr_zero(bits);
      Clear(1, leaf);
    }
  }

  ABSL_ATTRIBUTE_ALWAYS_INLINE Found Look(int place, uint64_t near) {
    Found found;
    found.place = place;
    // (2) Acquires the node from (1).  In a raise, (4) has acquired the stamp
    // that led here, and with it a head that is not older.
    found.head = stacks_[place].head.load(
        Order(QueueEdge::kHeadLoad, std::memory_order_acquire));
    if (IndexOf(found.head) == Slab::kNone) return found;
    found.any = true;
    // (13) Acquire: (2) has acquired this stay of the node; if it has left and
    // was filled anew, Unchanged() must not read an old head, see (12).
    found.meta =
        slab_.At(IndexOf(found.head))
            .meta.load(Order(QueueEdge::kNodeLoad, std::memory_order_acquire));
    const auto ahead = static_cast<int32_t>(
        static_cast<uint32_t>(found.meta >> 32) - static_cast<uint32_t>(near));
    found.bucket = near + static_cast<uint64_t>(static_cast<int64_t>(ahead));
    return found;
  }

  void Lower(uint64_t bucket) {
    uint64_t hint = this->hint();
    while ((hint & kRaising) != 0 || BucketOf(hint) > bucket) {
      const uint64_t lowered = ((hint + kStampOne) & ~kRaising & ~kNoBucket) |
                               std::min(BucketOf(hint), bucket);
      // (8) SC: who reads it by (7), or fails to raise, finds the bucket.
      if (hint_.compare_exchange_strong(
              hint, lowered,
              Order(QueueEdge::kHintLower, std::memory_order_seq_cst),
              std::memory_order_relaxed)) {
        return;
      }
      hint = this->hint();
    }
  }

  Slab& slab_;
  // The hint is read by every pop of every core and written once per bucket.
  alignas(128) Word hint_{kNoBucket};
  alignas(128) Word top_{0};
  // Empty stacks and words without bits are zeros; not so a test's atomics.
  static constexpr bool kZeroIsEmpty =
      std::is_same_v<Word, std::atomic<uint64_t>>;
  ZeroedArray<Word, kZeroIsEmpty> upper_{kFanout};
  ZeroedArray<Word, kZeroIsEmpty> leaves_{kFanout * kFanout};
  ZeroedArray<Stack, kZeroIsEmpty> stacks_{kBuckets};
};

}  // namespace muster

#endif  // ENGINE_SCHEDULE_BUCKET_RING_H_
