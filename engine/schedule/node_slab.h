// NodeSlab: the places that waiting items take in lock-free queues.
//
// A place is a number that an item owns from its construction to its end; a
// node stands behind each.  Nodes are never freed while the slab lives, so a
// thread that has slept since it read a number may still look at the node: what
// it reads may be out of date, and the queue's tags tell it so, but it is
// memory, and a node.  That is all the reclamation there is.
#ifndef ENGINE_SCHEDULE_NODE_SLAB_H_
#define ENGINE_SCHEDULE_NODE_SLAB_H_

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "engine/model/check.h"

namespace muster {

// `Policy`: see bucket_ring.h.  Thread-safe.  Attach() and Detach() block
// (they come with an item's allocation and end); At() does not.
template <typename Policy>
class NodeSlab {
 public:
  struct Node {
    // The bucket (its low 32 bits) and the next node of its stack.
    typename Policy::template Atomic<uint64_t> meta{0};
    // Constant while attached.  Atomic for those who look from afar, below.
    std::atomic<void*> item{nullptr};
    // A node that is likely to be popped some time after this one, or kNone.
    std::atomic<uint32_t> ahead{0};
  };

  static constexpr int kIndexBits = 26;
  static constexpr uint64_t kIndexMask = (uint64_t{1} << kIndexBits) - 1;
  static constexpr uint32_t kNone = 0;  // No node has this number.
  static constexpr uint32_t kNodesMax = (uint32_t{1} << kIndexBits) - 1024;

  NodeSlab() = default;
  NodeSlab(const NodeSlab&) = delete;
  NodeSlab& operator=(const NodeSlab&) = delete;

  // A number for `item`, to be given back by Detach().  CHECKs that there are
  // at most kNodesMax at a time.  O(1), but for the growth: amortised.
  uint32_t Attach(void* item) {
    absl::MutexLock lock(&mutex_);
    uint32_t index;
    if (!free_.empty()) {
      index = free_.back();
      free_.pop_back();
    } else {
      MUSTER_CHECK(used_ < kNodesMax);
      index = kFirst + used_++;
      const int chunk = ChunkOf(index);
      if (owned_[chunk] == nullptr) {
        owned_[chunk] = std::make_unique<Node[]>(size_t{1} << chunk);
        // Release: for Ahead().
        chunks_[chunk].store(owned_[chunk].get(), std::memory_order_release);
      }
    }
    At(index).item.store(item, std::memory_order_relaxed);
    return index;
  }

  // REQUIRES: in no queue.
  void Detach(uint32_t index) {
    absl::MutexLock lock(&mutex_);
    free_.push_back(index);
  }

  // Wait-free.  REQUIRES: the caller has the number from Attach(), or from a
  // queue that it was pushed into: so it sees the chunk.
  Node& At(uint32_t index) {
    const int chunk = ChunkOf(index);
    // Relaxed: whoever has the number knows of the chunk.
    return chunks_[chunk].load(
        std::memory_order_relaxed)[index ^ (uint32_t{1} << chunk)];
  }

  // The item that owns the number.  REQUIRES: as At().
  void* ItemAt(uint32_t index) {
    return At(index).item.load(std::memory_order_relaxed);
  }

  // Asks for the memory of the item that is ahead of node `index`, and of the
  // node ahead of that one.  Wait-free.  REQUIRES: as At().
  void Prefetch(uint32_t index) {
    // Into the second level of the cache (the 2): measured, a quarter more at a
    // million items than into the first, which is kept busy by the pop's own.
    Node* node = Ahead(At(index));
    if (node == nullptr) return;
    __builtin_prefetch(node->item.load(std::memory_order_relaxed), 1, 2);
    // Asked for when one behind was popped, so it is there to be read.
    node = Ahead(*node);
    if (node != nullptr) __builtin_prefetch(node, 1, 2);
  }

 private:
  // Chunk i has the numbers from 2^i to 2^(i+1) - 1.
  static constexpr uint32_t kFirst = uint32_t{1} << Policy::kFirstChunkBits;

  // The highest bit.  ^, as for - compilers do not see that it is one
  // instruction.
  static int ChunkOf(uint32_t index) {
    return 31 ^ std::countl_zero(index | 1);
  }

  // Null if there is none, or in a chunk that we do not know of yet.  May be
  // any node: the number is a guess.
  Node* Ahead(const Node& node) {
    const uint32_t index = node.ahead.load(std::memory_order_relaxed);
    const int chunk = ChunkOf(index);
    // Acquire: the caller never had this number.  kNone is in no chunk.
    Node* nodes = chunks_[chunk].load(std::memory_order_acquire);
    return nodes == nullptr ? nullptr : &nodes[index ^ (uint32_t{1} << chunk)];
  }

  absl::Mutex mutex_;
  std::vector<uint32_t> free_ ABSL_GUARDED_BY(mutex_);
  uint32_t used_ ABSL_GUARDED_BY(mutex_) = 0;
  std::unique_ptr<Node[]> owned_[kIndexBits] ABSL_GUARDED_BY(mutex_);
  // Each is written once, before any number in it is handed out.
  std::atomic<Node*> chunks_[kIndexBits] = {};
};

}  // namespace muster

#endif  // ENGINE_SCHEDULE_NODE_SLAB_H_
