// OutcomeList: outcomes on their way from a transport's threads to the worker
// that runs the slice.
//
//   OnOutcomes       Take a block, fill it, Push         any threads
//                        |                 |
//        OutcomePool <---+                 +---> OutcomeList, one per slice
//                    <---+                 +--->
//                        |                 |
//   RunSlice        GiveBack each        TakeAll         one worker at a time
//
// Both are stacks of blocks (R. K. Treiber, "Systems Programming: Coping with
// Parallelism", IBM RJ 5118, 1986).  The list is only ever taken as a whole,
// so it needs no guard against ABA: what a push links below its block is the
// stack's top at the moment of its CAS, whatever happened in between.  Blocks
// of the pool are taken one by one: its top carries a tag, and a block's memory
// lives as long as the pool, so that a thread which has slept since it read the
// top reads a block, and then fails.
//
// A thread that stops anywhere keeps what is in its hands, one block, and
// nothing of anybody else's.
#ifndef ENGINE_DISPATCH_OUTCOME_LIST_H_
#define ENGINE_DISPATCH_OUTCOME_LIST_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/dispatch/attempt_key.h"
#include "engine/model/check.h"
#include "engine/model/limits.h"
#include "engine/transport.h"
#include "engine/twin/columns/row_set.h"

namespace muster {

// Outcomes in a block.
inline constexpr int kOutcomesPerBlock = 256;

// Outcomes that wait in one slice.  Each of its executions has one attempt
// under way at a time: more are repeats, or late ones.
inline constexpr uint32_t kOutcomesQueuedMax = 4 * kShardRowsMax;

// Bytes of payloads that wait in one slice: one KiB for each of those.
inline constexpr size_t kOutcomeBytesQueuedMax = size_t{64} << 20;
inline constexpr size_t kOutcomeBytesEach =
    kOutcomeBytesQueuedMax / kOutcomesQueuedMax;
static_assert(kOutcomeBytesEach * kOutcomesQueuedMax == kOutcomeBytesQueuedMax);
// An empty list has room for any block.
static_assert(kOutcomesPerBlock * kMethodPayloadSizeMax <=
              kOutcomeBytesQueuedMax);

// Blocks that a pool keeps for ever, once it has needed them: 131,072 outcomes,
// 1.6 MB.
inline constexpr int kOutcomeBlocksKept = 512;

// Payload buffers larger than this go back to the allocator with their block.
inline constexpr size_t kOutcomePayloadKept = 64 * 1024;

// The atomic operations whose order matters; see QueueEdge of
// engine/schedule/bucket_ring.h.  The numbers are those of the comments below.
enum class OutcomeEdge {
  kPush,      // (1)
  kTakeAll,   // (2)
  kGiveBack,  // (3)
  kTake,      // (4)
};

// What lists and pools are made of outside tests.
struct OutcomePolicy {
  template <typename T>
  using Atomic = std::atomic<T>;
  static constexpr uint32_t kQueuedMax = kOutcomesQueuedMax;
  static constexpr int kBlocksKept = kOutcomeBlocksKept;
  // The order to use where `order` is written.
  static constexpr std::memory_order Order(OutcomeEdge,
                                           std::memory_order order) {
    return order;
  }
};

// OutcomeEntry::payload_size of one whose payload is that of the entry before.
inline constexpr uint32_t kSamePayload = ~uint32_t{0};

struct OutcomeEntry {
  // Bytes of OutcomeBlock::payloads() that are its own, or kSamePayload.
  uint32_t payload_size;
  int32_t status;
  uint16_t rank;
  uint8_t attempt;
  OutcomeCode code;
};
static_assert(sizeof(OutcomeEntry) == 12);

template <typename Policy>
class OutcomePool;
template <typename Policy>
class OutcomeList;

// Outcomes of one slice, in the order in which they were reported.  Of the
// thread that has it from Take() or TakeAll().
template <typename Policy>
class alignas(64) OutcomeBlock {
 public:
  // REQUIRES: fewer entries than Take() was told; payloads stay until the last
  // one is added.  An answer that is larger than a device may give is noted as
  // such, without its payload: O(1) in it.  So is one whose payload is the one
  // before's, the same bytes in the same place, as of many devices that a
  // gateway answers for at once: it is kept once.
  void Add(const AttemptKeyParts& parts, const Outcome& outcome) {
    MUSTER_DCHECK(entries_.size() < entries_.capacity());
    OutcomeCode code = outcome.code;
    absl::string_view payload;
    if (code == OutcomeCode::kAnswered) {
      if (outcome.payload.size() <= kMethodPayloadSizeMax) {
        payload = outcome.payload;
      } else {
        code = OutcomeCode::kResponseTooLarge;
      }
    }
    const bool same = !payload.empty() && payload.data() == last_.data() &&
                      payload.size() == last_.size();
    entries_.push_back(
        {same ? kSamePayload : static_cast<uint32_t>(payload.size()),
         outcome.status, parts.rank, parts.attempt, code});
    if (!same) payloads_.append(payload.data(), payload.size());
    last_ = payload;
  }

  const std::vector<OutcomeEntry>& entries() const { return entries_; }
  // One after the other, in the order of the entries.
  absl::string_view payloads() const { return payloads_; }

  // How many outcomes it counts for in a list: as many as it has, or more if
  // their payloads take more than kOutcomeBytesEach on average.
  uint64_t weight() const {
    return std::max<uint64_t>(
        entries_.size(),
        (payloads_.size() + kOutcomeBytesEach - 1) / kOutcomeBytesEach);
  }

  // Of what TakeAll() returned: the block that was pushed after this one.
  OutcomeBlock* next() const { return link_; }

  // Whether the pool keeps it.
  bool kept() const { return number_ != 0; }

 private:
  friend OutcomePool<Policy>;
  friend OutcomeList<Policy>;

  explicit OutcomeBlock(uint32_t number) : number_(number) {}

  const uint32_t number_;  // In the pool; 0: in none.
  // The block below in the pool's stack.  Atomic for those who look at a block
  // that has gone.
  typename Policy::template Atomic<uint32_t> below_{0};
  // In a list the block below, then the next one.
  OutcomeBlock* link_ = nullptr;
  std::vector<OutcomeEntry> entries_;
  std::string payloads_;
  absl::string_view last_;  // The last entry's payload, where it came from.
};

// Thread-safe.  Take() and GiveBack() are lock-free as long as no more than
// kOutcomeBlocksKept blocks are in use; what it takes beyond comes from the
// allocator and goes back there, as do the blocks that it keeps when they are
// needed for the first time, and payload buffers while they grow.
template <typename Policy>
class OutcomePool {
 public:
  using Block = OutcomeBlock<Policy>;

  OutcomePool() = default;
  OutcomePool(const OutcomePool&) = delete;
  OutcomePool& operator=(const OutcomePool&) = delete;
  // REQUIRES: all blocks have been given back.
  ~OutcomePool() {
    for (Block* block : blocks_) delete block;
  }

  // An empty block, with room for `entries` in [1, kOutcomesPerBlock].
  Block* Take(size_t entries) {
    MUSTER_DCHECK(entries > 0 && entries <= kOutcomesPerBlock);
    // (4) Acquire: pairs with (3); the block is ours with all that its last
    // owner did, and its number tells where it is.  The top's later values go
    // on with the release sequence, so that this holds for those below, too.
    uint64_t top = top_.load(Order(OutcomeEdge::kTake, kAcquire));
    while (IndexOf(top) != 0) {
      Block* const block = blocks_[IndexOf(top)];
      // Relaxed: out of date only if the tag is, too.
      const uint32_t below = block->below_.load(kRelaxed);
      // (4) For the top that it finds if it fails.
      if (top_.compare_exchange_strong(top, Above(top) | below,
                                       Order(OutcomeEdge::kTake, kAcquire),
                                       Order(OutcomeEdge::kTake, kAcquire))) {
        return block;
      }
    }
    return Make(entries);
  }

  void GiveBack(Block* block) {
    block->entries_.clear();
    block->payloads_.clear();
    block->last_ = {};
    block->link_ = nullptr;
    if (!block->kept()) {
      delete block;
      return;
    }
    if (block->payloads_.capacity() > kOutcomePayloadKept) {
      std::string().swap(block->payloads_);  // An assignment would keep it.
    }
    uint64_t top = top_.load(kRelaxed);
    do {
      block->below_.store(IndexOf(top), kRelaxed);
      // (3) Release: pairs with (4).
    } while (!top_.compare_exchange_strong(
        top, Above(top) | block->number_,
        Order(OutcomeEdge::kGiveBack, std::memory_order_release), kRelaxed));
  }

  // Blocks that it keeps, in use or not.
  int kept() const { return static_cast<int>(made_.load(kRelaxed)); }

 private:
  static constexpr auto kRelaxed = std::memory_order_relaxed;
  static constexpr auto kAcquire = std::memory_order_acquire;

  // A top is a block's number and a tag, which each change raises: it comes
  // round after 2^48 of them.
  static constexpr int kIndexBits = 16;
  static constexpr uint64_t kIndexMask = (uint64_t{1} << kIndexBits) - 1;
  static constexpr uint64_t kTagOne = uint64_t{1} << kIndexBits;
  static_assert(Policy::kBlocksKept <= kIndexMask);

  static uint32_t IndexOf(uint64_t top) {
    return static_cast<uint32_t>(top & kIndexMask);
  }
  // The next tag, without a number.
  static uint64_t Above(uint64_t top) { return (top & ~kIndexMask) + kTagOne; }

  static std::memory_order Order(OutcomeEdge edge, std::memory_order order) {
    return Policy::Order(edge, order);
  }

  Block* Make(size_t entries) {
    uint64_t made = made_.load(kRelaxed);
    while (made < Policy::kBlocksKept) {
      if (!made_.compare_exchange_strong(made, made + 1, kRelaxed, kRelaxed)) {
        continue;
      }
      auto* block = new Block(static_cast<uint32_t>(made + 1));
      block->entries_.reserve(kOutcomesPerBlock);
      // Others read it once they have the number, by (3) and (4).
      blocks_[made + 1] = block;
      return block;
    }
    auto* block = new Block(0);
    block->entries_.reserve(entries);
    return block;
  }

  alignas(64) typename Policy::template Atomic<uint64_t> top_{0};
  alignas(64) typename Policy::template Atomic<uint64_t> made_{0};
  Block* blocks_[Policy::kBlocksKept + 1] = {};  // By number.
};

// What waits for one slice: at most kOutcomesQueuedMax outcomes and
// kOutcomeBytesQueuedMax bytes of payloads.  Both limits are one, on the sum of
// the blocks' weights.  Thread-safe; TakeAll() by one thread at a time.  A
// cache line of its own, which is all that pushers write.
template <typename Policy>
class alignas(64) OutcomeList {
 public:
  using Block = OutcomeBlock<Policy>;
  using Pool = OutcomePool<Policy>;

  // Blocks that are never taken go back to `pool`.
  explicit OutcomeList(std::shared_ptr<Pool> pool) : pool_(std::move(pool)) {}
  OutcomeList(const OutcomeList&) = delete;
  OutcomeList& operator=(const OutcomeList&) = delete;
  ~OutcomeList() {
    Block* block = TakeAll();
    while (block != nullptr) {
      Block* const next = block->next();
      pool_->GiveBack(block);
      block = next;
    }
  }

  // Adds the block; or, if more than may would wait then, returns false, and
  // the block stays the caller's.  Lock-free: one CAS, repeated only if another
  // push or take came between.
  bool Push(Block* block) {
    const uint64_t count = block->weight();
    uint64_t top = top_.load(kRelaxed);
    while (true) {
      if (CountOf(top) + count > Policy::kQueuedMax) {
        // What a load returns may be out of date; what a CAS confirms is not.
        if (top_.compare_exchange_strong(top, top, kRelaxed, kRelaxed)) {
          return false;
        }
        continue;
      }
      block->link_ = BlockOf(top);  // Not looked at: it may be gone.
      // (1) Release: pairs with (2).
      if (top_.compare_exchange_strong(
              top, Pack(block, CountOf(top) + count),
              Policy::Order(OutcomeEdge::kPush, std::memory_order_release),
              kRelaxed)) {
        return true;
      }
    }
  }

  // Takes all blocks whose push was over, and perhaps more: the first that was
  // pushed, and its next() and so on; nullptr: there are none.  Wait-free: one
  // exchange, then a step per block.
  Block* TakeAll() {
    // (2) Acquire: pairs with (1), of this push and, as pushes go on with each
    // other's release sequence, of those below.
    Block* block = BlockOf(top_.exchange(
        0, Policy::Order(OutcomeEdge::kTakeAll, std::memory_order_acquire)));
    Block* first = nullptr;
    while (block != nullptr) {
      Block* const below = block->link_;
      block->link_ = first;
      first = block;
      block = below;
    }
    return first;
  }

 private:
  static constexpr auto kRelaxed = std::memory_order_relaxed;

  // A top is a block's address, of which the lowest 6 bits and the highest 16
  // are zero, and the weight of what waits.  Both in one word: no count can
  // differ from what is there.
  static constexpr int kCountBits = 22;
  static constexpr int kAddressShift = 16;
  static constexpr uint64_t kCountMask = (uint64_t{1} << kCountBits) - 1;
  static_assert(Policy::kQueuedMax <= kCountMask);
  static_assert(alignof(Block) << kAddressShift == kCountMask + 1);

  static uint64_t CountOf(uint64_t top) { return top & kCountMask; }
  static Block* BlockOf(uint64_t top) {
    return reinterpret_cast<Block*>((top & ~kCountMask) >> kAddressShift);
  }
  static uint64_t Pack(Block* block, uint64_t count) {
    const uint64_t top =
        reinterpret_cast<uintptr_t>(block) << kAddressShift | count;
    MUSTER_CHECK(BlockOf(top) == block);
    return top;
  }

  typename Policy::template Atomic<uint64_t> top_{0};
  const std::shared_ptr<Pool> pool_;
};

}  // namespace muster

#endif  // ENGINE_DISPATCH_OUTCOME_LIST_H_
