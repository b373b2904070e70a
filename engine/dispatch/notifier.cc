#include "engine/dispatch/notifier.h"

#include <iterator>
#include <utility>

namespace muster {

Notifier::Notifier(int partition_count, Executor* executor,
                   Transport* transport)
    : executor_(executor), transport_(transport) {
  for (int i = 0; i < partition_count; ++i) {
    partitions_.push_back(std::make_unique<Partition>());
  }
}

void Notifier::Add(int partition, std::vector<Notification> notifications) {
  Partition& p = *partitions_[partition];
  {
    absl::MutexLock lock(&p.mutex);
    if (p.stopped) return;
    p.queue.insert(p.queue.end(),
                   std::make_move_iterator(notifications.begin()),
                   std::make_move_iterator(notifications.end()));
    if (std::exchange(p.scheduled, true)) return;
  }
  Schedule(partition);
}

void Notifier::AddErased(int partition, uint64_t link) {
  Partition& p = *partitions_[partition];
  {
    absl::MutexLock lock(&p.mutex);
    if (p.stopped) return;
    p.erased.push_back(link);
    if (std::exchange(p.scheduled, true)) return;
  }
  Schedule(partition);
}

void Notifier::Schedule(int partition) {
  executor_->Run([self = weak_from_this(), partition]() {
    if (auto notifier = self.lock()) notifier->Deliver(partition);
  });
}

void Notifier::Deliver(int partition) {
  Partition& p = *partitions_[partition];
  std::vector<Notification> batch;
  std::vector<uint64_t> erased;
  std::vector<DesiredNotification> views;
  while (true) {
    {
      absl::MutexLock lock(&p.mutex);
      batch.clear();
      erased.clear();
      p.delivering = false;
      if (!p.stopped) {
        batch.swap(p.queue);
        erased.swap(p.erased);
      }
      if (batch.empty() && erased.empty()) {
        p.scheduled = false;
        return;
      }
      p.delivering = true;
    }
    if (!batch.empty()) {
      views.clear();
      for (const Notification& n : batch) {
        views.push_back({.device_id = n.device_id,
                         .link = n.link,
                         .patch = *n.patch,
                         .version = n.version});
      }
      transport_->NotifyDesired(views);
    }
    if (!erased.empty()) transport_->Disconnect(erased);
  }
}

void Notifier::Stop() {
  for (auto& p : partitions_) {
    absl::MutexLock lock(&p->mutex);
    p->stopped = true;
    p->queue.clear();
    p->erased.clear();
    p->mutex.Await(absl::Condition(
        +[](Partition* q)
             ABSL_NO_THREAD_SAFETY_ANALYSIS { return !q->delivering; },
        p.get()));
  }
}

}  // namespace muster
