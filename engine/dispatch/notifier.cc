#include "engine/dispatch/notifier.h"

#include <iterator>

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
    if (p.scheduled) return;
    p.scheduled = true;
  }
  executor_->Run([self = weak_from_this(), partition]() {
    if (auto notifier = self.lock()) notifier->Deliver(partition);
  });
}

void Notifier::Deliver(int partition) {
  Partition& p = *partitions_[partition];
  std::vector<Notification> batch;
  std::vector<DesiredNotification> views;
  while (true) {
    {
      absl::MutexLock lock(&p.mutex);
      batch.clear();
      p.delivering = false;
      if (!p.stopped) batch.swap(p.queue);
      if (batch.empty()) {
        p.scheduled = false;
        return;
      }
      p.delivering = true;
    }
    views.clear();
    for (const Notification& n : batch) {
      views.push_back({n.device_id, *n.patch, n.version});
    }
    transport_->NotifyDesired(views);
  }
}

void Notifier::Stop() {
  for (auto& p : partitions_) {
    absl::MutexLock lock(&p->mutex);
    p->stopped = true;
    p->queue.clear();
    p->mutex.Await(absl::Condition(
        +[](Partition* q)
             ABSL_NO_THREAD_SAFETY_ANALYSIS { return !q->delivering; },
        p.get()));
  }
}

}  // namespace muster
