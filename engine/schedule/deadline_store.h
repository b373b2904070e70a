// DeadlineStore: deadlines of single devices, one by one, in O(1).
//
// Where executions do not share a due time (a device's own Retry-After, a
// schedule of its own) there are as many deadlines as devices.  Here each is
// appended to a chain of blocks:
//
//   fine     a chain per tick                   8 bytes a deadline
//   coarse   4,096 chains, each as many ticks   16 bytes
//            as the fine ring has
//   chain    block -> block -> block            256 bytes: 31 words and a link
//
// A coarse chain is spread over the fine ones when it begins; the last one also
// holds what is farther, and gets it back then.
//
// There is no cancel.  A value is the caller's own: he puts a generation into
// it and passes over, when they expire, those that are not the newest of their
// device.  That costs 8 bytes until then, and no cache miss for the cancel.
//
// After Varghese and Lauck, "Hashed and hierarchical timing wheels", SOSP 1987.
// Work per call is bounded, as a slot that is emptied at once stops all else.
#ifndef ENGINE_SCHEDULE_DEADLINE_STORE_H_
#define ENGINE_SCHEDULE_DEADLINE_STORE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/time/time.h"

namespace muster {

// Thread-compatible: its owner guards it.
//
// Times are durations since an origin that the owner chooses, and count to 292
// years before and after it; what is due later is never due.  A deadline's tick
// is its due time rounded up.
class DeadlineStore {
 public:
  struct Options {
    // In [1 us, 1 h].
    absl::Duration tick = absl::Milliseconds(1);
    // A power of two in [64, 65,536]: how many ticks ahead cost 8 bytes and one
    // move.  8 bytes of memory each.
    int fine_ticks = 4096;
    // In [1, 2^31]: Add() refuses beyond.
    int64_t entries_max = int64_t{1} << 24;
  };

  // CHECKs the ranges of `options`.  `now`: where its clock stands.
  DeadlineStore(const Options& options, absl::Duration now);
  DeadlineStore(const DeadlineStore&) = delete;
  DeadlineStore& operator=(const DeadlineStore&) = delete;

  // False if there are `entries_max` entries: nothing was added.  What is due
  // already expires with the next ExpireDue().  O(1); allocates only when there
  // are more blocks than ever before.
  bool Add(absl::Duration due, uint64_t value);

  // Appends to `*out` the values whose tick has come at `now`, tick by tick, in
  // one tick the newest first, and removes them.  Stops after `steps_max`
  // entries that were appended or spread: true if there is more to do at `now`.
  // If `now` is before that of an earlier call, nothing expires until it is
  // there again, unless the store runs empty.  REQUIRES: steps_max > 0.
  bool ExpireDue(absl::Duration now, int steps_max, std::vector<uint64_t>* out);

  // When ExpireDue() should be called: never after the first tick; that tick if
  // it is less than `fine_ticks` ahead, else when its coarse chain begins.
  // InfiniteDuration() if there is no entry.  O(1).
  absl::Duration NextDue() const;

  // Entries, those that the caller has forgotten among them.
  int64_t size() const { return size_; }

  // Gives the blocks' memory back if there is no entry.  Until then blocks are
  // kept for the next ones.
  void Trim();

  // Heap bytes.
  size_t MemoryUsage() const;

 private:
  static constexpr int kWords = 31;
  static constexpr uint32_t kNone = ~uint32_t{0};

  struct alignas(64) Block {
    uint64_t words[kWords];
    uint32_t next;
  };
  static_assert(sizeof(Block) == 256);

  // A stack of blocks; only the first is not full.
  struct Chain {
    uint32_t block = kNone;
    uint32_t count = 0;  // Words in the first block.
  };

  // Chains in a ring, with an index over those that are not empty.
  struct Wheel {
    explicit Wheel(int size);
    Chain& At(int64_t number) { return chains[number & mask]; }
    const Chain& At(int64_t number) const { return chains[number & mask]; }
    void Mark(int64_t number);
    void Unmark(int64_t number);
    // The first in [number, number + size) that is not empty; number + size if
    // there is none.
    int64_t First(int64_t number) const;

    const int64_t mask;
    std::vector<Chain> chains;
    std::vector<uint64_t> bits;     // One per chain.
    std::vector<uint64_t> summary;  // One per word of them.
  };

  static constexpr int kChunkBits = 12;
  static constexpr int64_t kCoarse = 4096;
  // After all ticks that a clock can have.
  static constexpr int64_t kNever = int64_t{1} << 62;

  Block& At(uint32_t block) {
    return chunks_[block >> kChunkBits][block & ((1 << kChunkBits) - 1)];
  }
  // The chain's first block with room for `words`.
  Block& Room(Wheel& wheel, int64_t number, uint32_t words);
  // After words were taken off the chain's first block.
  void Shrink(Wheel& wheel, int64_t number);
  // REQUIRES: tick >= cursor_.
  void Put(int64_t tick, uint64_t value);
  void Prefetch(int64_t tick);
  int64_t DueTick(absl::Duration due) const;
  int64_t NowTick(absl::Duration now) const;
  // The first tick at which there is something to expire or to spread.
  int64_t FirstTick() const;

  const int64_t tick_ns_;
  const int fine_bits_;
  const int64_t entries_max_;
  // All before is done.  The fine ring has the ticks from here on, the coarse
  // one the chains from this tick's on.
  int64_t cursor_;
  int64_t size_ = 0;
  Wheel fine_;
  Wheel coarse_;
  std::vector<std::unique_ptr<Block[]>> chunks_;
  uint32_t used_ = 0;  // Blocks that were ever in a chain.
  uint32_t free_ = kNone;
};

}  // namespace muster

#endif  // ENGINE_SCHEDULE_DEADLINE_STORE_H_
