#include "engine/schedule/ready_queue.h"

#include <sched.h>

#include <algorithm>
#include <memory>

#include "engine/model/check.h"

namespace muster {

int QueuePolicy::Home(int shards) {
  if (shards == 1) return 0;
  // The core and not the thread: threads beyond the cores share its shard, so
  // that no shard is left to a thread that does not run.  It may have changed
  // on return, which costs time and nothing else.
  const int core = sched_getcpu();
  if (core < 0) return 0;
  return core < shards ? core : core % shards;
}

ReadyQueue::ReadyQueue(const Options& options)
    : slots_(options.slots != nullptr ? options.slots
                                      : std::make_shared<Slots>()),
      key_shift_(options.key_shift) {
  MUSTER_CHECK(options.classes >= 1 && options.classes <= kClassesMax);
  MUSTER_CHECK(options.shards >= 1 && options.shards <= kShardsMax);
  MUSTER_CHECK(options.slack >= 0 && options.slack <= kWindow);
  MUSTER_CHECK(options.key_shift >= 0 && options.key_shift <= 32);
  for (int i = 0; i < options.classes; ++i) {
    queues_.push_back(
        std::make_unique<Queue>(slots_.get(), options.shards, options.slack));
  }
}

int ReadyQueue::Cores() {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof(cores), &cores) != 0) return 1;
  return std::max(1, CPU_COUNT(&cores));
}

void ReadyQueue::Push(Item* item, uint64_t key, int priority) {
  MUSTER_DCHECK(item->slots_ == slots_);
  queues_[priority]->Push(item->slot_, key >> key_shift_);
}

ReadyQueue::Item* ReadyQueue::Pop() {
  for (const auto& queue : queues_) {
    const uint32_t slot = queue->Pop();
    if (slot != Slots::kNone) return static_cast<Item*>(slots_->ItemAt(slot));
  }
  return nullptr;
}

bool ReadyQueue::empty() const {
  for (const auto& queue : queues_) {
    if (!queue->empty()) return false;
  }
  return true;
}

}  // namespace muster
