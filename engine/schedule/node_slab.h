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
      index = ++used_;
      const int chunk = ChunkOf(index);
      if (owned_[chunk] == nullptr) {
        owned_[chunk] =
            std::make_unique<Node[]>(size_t{1} << (chunk + kFirstChunkBits));
        chunks_[chunk].store(owned_[chunk].get(), std::memory_order_relaxed);
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
    const uint32_t place = index + kFirstChunk - 1;
    const int chunk = ChunkOf(index);
    // Relaxed: whoever has the number knows of the chunk.
    return chunks_[chunk].load(
        std::memory_order_relaxed)[place - (kFirstChunk << chunk)];
  }

  // The item that owns the number.  REQUIRES: as At().
  void* ItemAt(uint32_t index) {
    return At(index).item.load(std::memory_order_relaxed);
  }

  // Asks for the memory of what may be popped after the next: node `index`'s
  // item, and the node below.  The number may be out of date, which only costs
  // the work.  Wait-free.
  void Prefetch(uint32_t index) {
    if (index == kNone) return;
    Node& node = At(index);
    __builtin_prefetch(node.item.load(std::memory_order_relaxed), 1);
    const uint32_t below = static_cast<uint32_t>(
        node.meta.load(std::memory_order_relaxed) & kIndexMask);
    if (below == kNone) return;
    const int chunk = ChunkOf(below);
    // Null if we do not know of the chunk yet.
    const Node* nodes = chunks_[chunk].load(std::memory_order_relaxed);
    if (nodes == nullptr) return;
    __builtin_prefetch(&nodes[below + kFirstChunk - 1 - (kFirstChunk << chunk)],
                       1);
  }

 private:
  // Each chunk is twice as large as the one before.
  static constexpr int kFirstChunkBits = Policy::kFirstChunkBits;
  static constexpr uint32_t kFirstChunk = uint32_t{1} << kFirstChunkBits;

  static int ChunkOf(uint32_t index) {
    return std::bit_width(index + kFirstChunk - 1) - 1 - kFirstChunkBits;
  }

  absl::Mutex mutex_;
  std::vector<uint32_t> free_ ABSL_GUARDED_BY(mutex_);
  uint32_t used_ ABSL_GUARDED_BY(mutex_) = 0;
  static constexpr int kChunks = kIndexBits + 1 - kFirstChunkBits;
  std::unique_ptr<Node[]> owned_[kChunks] ABSL_GUARDED_BY(mutex_);
  // Each is written once, before any number in it is handed out.
  std::atomic<Node*> chunks_[kChunks] = {};
};

}  // namespace muster

#endif  // ENGINE_SCHEDULE_NODE_SLAB_H_
