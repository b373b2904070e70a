#include "engine/journal/group_commit.h"

#include <algorithm>
#include <utility>

#include "absl/synchronization/notification.h"

namespace muster {

namespace {

// A small chunk after a large one takes no more room than this.
constexpr size_t kReserveMax = 4096;

}  // namespace

absl::StatusOr<std::shared_ptr<GroupCommit>> GroupCommit::Create(
    Journal* journal, Executor* executor) {
  std::shared_ptr<GroupCommit> commit(new GroupCommit(journal, executor));
  for (int i = 0; i < journal->partition_count(); ++i) {
    absl::StatusOr<Journal::Ownership> owned = journal->Acquire(i);
    if (!owned.ok()) return owned.status();
    auto partition = std::make_unique<Partition>(commit.get(), i);
    partition->epoch = owned->epoch;
    {
      absl::MutexLock lock(&partition->mutex);
      partition->next_sequence = owned->next_sequence;
    }
    commit->partitions_.push_back(std::move(partition));
  }
  return commit;
}

void GroupCommit::Add(int partition,
                      absl::FunctionRef<void(std::string*)> write,
                      Durable durable) {
  Partition& p = *partitions_[partition];
  absl::MutexLock lock(&p.mutex);
  if (p.buffer.empty()) p.buffer.reserve(std::min(p.chunk_size, kReserveMax));
  write(&p.buffer);
  if (durable) p.waiting.push_back(std::move(durable));
  if (p.buffer.size() < kFlushBytes || p.in_flight || p.flush_scheduled) return;
  p.flush_scheduled = true;
  executor_->Run([self = weak_from_this(), partition]() {
    if (auto commit = self.lock()) commit->Flush(partition);
  });
}

void GroupCommit::Flush(int partition) {
  Partition& p = *partitions_[partition];
  {
    absl::MutexLock lock(&p.mutex);
    p.flush_scheduled = false;
    if (p.in_flight || (p.buffer.empty() && p.waiting.empty())) return;
    p.in_flight = true;
  }
  Pump(partition);
}

void GroupCommit::Pump(int partition) {
  Partition& p = *partitions_[partition];
  while (true) {
    std::string chunk;
    uint64_t sequence;
    {
      absl::MutexLock lock(&p.mutex);
      chunk.swap(p.buffer);
      p.chunk_size = chunk.size();
      p.committing.swap(p.waiting);
      sequence = p.next_sequence;
      p.status = p.refused;
      // Without bytes somebody waits for what is durable already.
      p.appended = p.refused.ok() && !chunk.empty();
    }
    if (p.appended) {
      bytes_.fetch_add(static_cast<int64_t>(chunk.size()),
                       std::memory_order_relaxed);
      p.met.store(false, std::memory_order_relaxed);
      journal_->Append(
          partition, p.epoch, sequence, std::move(chunk),
          // One pointer that also holds *this: no more fits into a callback
          // without an allocation.
          [answered = std::shared_ptr<Partition>(shared_from_this(), &p)](
              absl::Status status) {
            answered->status = std::move(status);
            // (1) Acquire-release: pairs with (2); the loser sees
            // what the winner wrote before, `status` above all.
            if (!answered->met.exchange(true, std::memory_order_acq_rel)) {
              return;  // Append() has not returned: it goes on.
            }
            GroupCommit& commit = *answered->commit;
            if (commit.Finish(*answered)) commit.Pump(answered->number);
          });
      // (2) Acquire-release: pairs with (1).
      if (!p.met.exchange(true, std::memory_order_acq_rel)) return;
    }
    if (!Finish(p)) return;
  }
}

bool GroupCommit::Finish(Partition& p) {
  if (p.appended) {
    absl::MutexLock lock(&p.mutex);
    if (p.status.ok()) {
      ++p.next_sequence;
    } else {
      p.refused = p.status;
    }
  }
  for (Durable& durable : p.committing) std::move(durable)(p.status);
  p.committing.clear();
  absl::MutexLock lock(&p.mutex);
  if (!p.buffer.empty() || !p.waiting.empty()) return true;
  p.in_flight = false;
  return false;
}

absl::Status GroupCommit::AddAndWait(
    int partition, absl::FunctionRef<void(std::string*)> write) {
  absl::Notification done;
  absl::Status result;
  Add(partition, write, [&](const absl::Status& status) {
    result = status;
    done.Notify();
  });
  Flush(partition);
  done.WaitForNotification();
  return result;
}

absl::Status GroupCommit::Sync(int partition) {
  return AddAndWait(partition, [](std::string*) {});
}

void GroupCommit::Drain() {
  // A partition's callbacks may add to another that has been drained already:
  // until a whole pass finds nothing to do.
  bool idle;
  do {
    idle = true;
    for (int i = 0; i < partition_count(); ++i) {
      Partition& p = *partitions_[i];
      {
        absl::MutexLock lock(&p.mutex);
        idle = idle && !p.in_flight && p.buffer.empty() && p.waiting.empty();
      }
      Flush(i);
      absl::MutexLock lock(&p.mutex);
      p.mutex.Await(absl::Condition(
          +[](Partition* q)
               ABSL_NO_THREAD_SAFETY_ANALYSIS { return !q->in_flight; },
          &p));
    }
  } while (!idle);
}

}  // namespace muster
