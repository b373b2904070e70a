// ReadyQueue: the slices that have work now, most urgent first.
//
// A slice is in the queue at most once, so the queue holds at most jobs x
// shards items and its owner bounds it by bounding those.  The key is a virtual
// time: lower goes first.  A job's virtual time grows with the rows that it has
// been served, so that a job over ten million devices and a job over ten share
// the workers.
#ifndef ENGINE_SCHEDULE_READY_QUEUE_H_
#define ENGINE_SCHEDULE_READY_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace muster {

// Thread-safe.  Blocking: each operation takes one mutex for O(log size).
class ReadyQueue {
 public:
  // What can wait in a queue; derive from it.
  class Item {
   protected:
    Item() = default;
    ~Item() = default;

   private:
    friend class ReadyQueue;
    uint64_t key_ = 0;
    uint64_t number_ = 0;
  };

  // Adds `*item`, which must live until Pop() returns it.  Allocates only when
  // the queue is larger than it ever was.  REQUIRES: not in any queue.
  void Push(Item* item, uint64_t key);

  // Takes out the item with the lowest key, the one pushed first among equals;
  // nullptr if the queue is empty.
  Item* Pop();

  size_t size() const;

  // The key of the item popped last: where a newcomer starts, so that it gets
  // no credit for the time when it was not there.
  uint64_t virtual_time() const;

 private:
  static bool After(const Item* a, const Item* b) {
    return a->key_ != b->key_ ? a->key_ > b->key_ : a->number_ > b->number_;
  }

  mutable absl::Mutex mutex_;
  std::vector<Item*> heap_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_number_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t virtual_time_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace muster

#endif  // ENGINE_SCHEDULE_READY_QUEUE_H_
