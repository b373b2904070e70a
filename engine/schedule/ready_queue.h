// ReadyQueue: the slices that have work now, most urgent first.
//
// A slice is in the queue at most once, so the queue holds at most jobs x
// shards items and its owner bounds it by bounding those.  The key is a
// priority class, then a virtual time: lower goes first.  A job's virtual time
// grows with the rows that it has been served, so that a job over ten million
// devices and a job over ten share the workers.
//
// What is promised, and tested in tests/interleaving/:
//
//   found    A push that has returned is found by any pop that starts later,
//            whichever threads are stopped, unless another pop took it.
//   class    A pop takes nothing of a class if it finds anything in a class
//            before it: an emergency overtakes whatever else is queued.
//   order    Keys are compared by their buckets (Options::key_shift).  A pop
//            takes nothing from a bucket while a lower bucket of its shard,
//            or one lower by more than `slack` of another, has an item whose
//            push had returned when the pop last looked, before it took.  So
//            its rank error is at most the items in its bucket and in the
//            `slack` buckets below, and those pushed during the pop.  With one
//            shard: strict to the bucket, linearizable, first come or not.
//   window   Virtual times count as between the time being served and
//            kWindow buckets later: who has waited gets no credit for it, and
//            a debt beyond that is forgiven.  A push that is suspended while
//            the time moves on by half of that may come up to two windows late.
//   stops    No operation waits for another thread.  A thread that is stopped
//            for ever inside Push() keeps at most the item that it pushes, one
//            in Pop() at most the item that it takes.
//
// docs/scheduling.md has the algorithm, its proof and what it costs.
#ifndef ENGINE_SCHEDULE_READY_QUEUE_H_
#define ENGINE_SCHEDULE_READY_QUEUE_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "engine/schedule/bucket_queue.h"
#include "engine/schedule/node_slab.h"

namespace muster {

// Thread-safe.  Push() and Pop() are lock-free; empty() and virtual_time() are
// wait-free.  None of them allocates; memory is up to 1.06 MB per class and
// shard, as far as its buckets were ever used, and 24 bytes for each item that
// lived at the same time as others.
class ReadyQueue {
 public:
  using Slots = NodeSlab<QueuePolicy>;
  using Queue = BucketQueue<QueuePolicy>;

  static constexpr int kClassesMax = 8;
  static constexpr int kShardsMax = 256;
  static constexpr int kWindow = Queue::kWindow;

  // What can wait in a queue; derive from it.  It is in one queue at a time, of
  // those that have the same slots.
  class Item {
   protected:
    // Takes a slot until the item ends; blocking, for a few instructions.
    // `slots` are kept alive: the item may outlive the queue.
    explicit Item(std::shared_ptr<Slots> slots)
        : slots_(std::move(slots)), slot_(slots_->Attach(this)) {}
    ~Item() { slots_->Detach(slot_); }
    Item(const Item&) = delete;
    Item& operator=(const Item&) = delete;

   private:
    friend class ReadyQueue;
    const std::shared_ptr<Slots> slots_;
    const uint32_t slot_;
  };

  struct Options {
    // Null: slots of its own.
    std::shared_ptr<Slots> slots;
    // In [1, kClassesMax]; class 0 is the most urgent.
    int classes = 1;
    // In [1, kShardsMax]: as many as threads can run at the same time.  With 1
    // the order is strict to the bucket.
    int shards = 1;
    // In [0, kWindow]: buckets by which one shard may run ahead of others.
    int slack = 0;
    // In [0, 32]: a bucket is 2^key_shift units of virtual time wide.  Several
    // items per bucket are faster than one, and all in one are not ordered.
    int key_shift = 0;
  };

  // CHECKs the ranges of `options`.
  explicit ReadyQueue(const Options& options);
  ReadyQueue() : ReadyQueue(Options()) {}

  // Cores that this process may run on.
  static int Cores();

  const std::shared_ptr<Slots>& slots() const { return slots_; }

  // Adds `*item`, which must live until Pop() returns it.  What happened before
  // is seen by who pops it.  REQUIRES: not in any queue; its slots are this
  // queue's; 0 <= priority < classes.
  void Push(Item* item, uint64_t key, int priority = 0);

  // Takes out the most urgent item; nullptr if the queue is empty.
  Item* Pop();

  // True if Pop() would have found nothing; false says that it may find
  // something.
  bool empty() const;

  // The key that is being served, to the bucket: where a newcomer starts, so
  // that it gets no credit for the time when it was not there.  Never falls.
  uint64_t virtual_time(int priority = 0) const {
    return queues_[priority]->Now() << key_shift_;
  }

 private:
  const std::shared_ptr<Slots> slots_;
  const int key_shift_;
  std::vector<std::unique_ptr<Queue>> queues_;  // By class.
};

}  // namespace muster

#endif  // ENGINE_SCHEDULE_READY_QUEUE_H_
