#include "engine/schedule/ready_queue.h"

#include <algorithm>

namespace muster {

void ReadyQueue::Push(Item* item, uint64_t key) {
  absl::MutexLock lock(&mutex_);
  item->key_ = key;
  item->number_ = next_number_++;
  heap_.push_back(item);
  std::push_heap(heap_.begin(), heap_.end(), After);
}

ReadyQueue::Item* ReadyQueue::Pop() {
  absl::MutexLock lock(&mutex_);
  if (heap_.empty()) return nullptr;
  std::pop_heap(heap_.begin(), heap_.end(), After);
  Item* item = heap_.back();
  heap_.pop_back();
  // A late push with an old key must not turn the clock back for newcomers.
  virtual_time_ = std::max(virtual_time_, item->key_);
  return item;
}

size_t ReadyQueue::size() const {
  absl::MutexLock lock(&mutex_);
  return heap_.size();
}

uint64_t ReadyQueue::virtual_time() const {
  absl::MutexLock lock(&mutex_);
  return virtual_time_;
}

}  // namespace muster
