#include "engine/journal/group_commit.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/model/check.h"

namespace muster {

namespace {

// What an idle partition keeps of each of its two buffers.
constexpr size_t kKeptBytes = 64 * 1024;

bool MayChange(const absl::Status& answer) {
  return absl::IsResourceExhausted(answer) || absl::IsUnavailable(answer);
}

}  // namespace

absl::Status GroupCommit::Partition::Writable() const {
  if (!refused.ok() || buffer.size() <= kBufferBytesMax) return Trouble();
  return absl::ResourceExhaustedError(
      absl::StrCat("partition ", number, ": ", buffer.size(),
                   " bytes of records wait for the journal",
                   stalled.ok() ? "" : ": ", stalled.message()));
}

bool GroupCommit::Partition::PublishWritable() {
  const bool now = Writable().ok();
  const bool before = writable.load(std::memory_order_relaxed);
  if (now != before) writable.store(now, std::memory_order_relaxed);
  return now && !before;
}

absl::StatusOr<std::shared_ptr<GroupCommit>> GroupCommit::Create(
    Journal* journal, Executor* executor, Clock* clock) {
  std::shared_ptr<GroupCommit> commit(
      new GroupCommit(journal, executor, clock));
  for (int i = 0; i < journal->partition_count(); ++i) {
    absl::StatusOr<Journal::Ownership> owned = journal->Acquire(i);
    if (!owned.ok()) return owned.status();
    auto partition = std::make_unique<Partition>(commit.get(), i);
    partition->epoch = owned->epoch;
    {
      absl::MutexLock lock(&partition->mutex);
      partition->mark.sequence = owned->next_sequence;
      partition->recovered = owned->next_sequence == 1 || journal->forgets();
    }
    commit->partitions_.push_back(std::move(partition));
  }
  return commit;
}

absl::Status GroupCommit::Recover(
    int partition, absl::FunctionRef<absl::Status(absl::string_view)> visit) {
  if (journal_->forgets()) return absl::OkStatus();
  Partition& p = *partitions_[partition];
  ChunkBytes bytes;
  const absl::StatusOr<Mark> end =
      ReadChunks(*journal_, partition, visit, &bytes);
  if (!end.ok()) return end.status();
  absl::MutexLock lock(&p.mutex);
  if (end->sequence > p.mark.sequence) {
    return absl::FailedPreconditionError(
        absl::StrCat("partition ", partition, ": chunk ", p.mark.sequence,
                     " has been written by another owner"));
  }
  if (end->sequence < p.mark.sequence) {
    return absl::DataLossError(absl::StrCat(
        "partition ", partition, ", chunk ", end->sequence,
        ", byte 0: it is missing; the next to write is ", p.mark.sequence));
  }
  p.mark = *end;
  p.bytes_since = bytes.chunks;
  p.snapshot_size = bytes.snapshot;
  p.recovered = true;
  return absl::OkStatus();
}

void GroupCommit::AddLocked(Partition& p,
                            absl::FunctionRef<void(std::string*)> write) {
  if (p.buffer.empty()) p.buffer.resize(ChunkHeader::kSize);
  write(&p.buffer);
  if (p.buffer.size() < kFlushBytes) return;
  if (p.buffer.size() > kBufferBytesMax) {
    p.writable.store(false, std::memory_order_relaxed);
  }
  if (p.in_flight || p.flush_scheduled) return;
  p.flush_scheduled = true;
  executor_->Run([self = weak_from_this(), partition = p.number]() {
    if (auto commit = self.lock()) commit->Flush(partition);
  });
}

void GroupCommit::Add(int partition,
                      absl::FunctionRef<void(std::string*)> write,
                      Durable durable) {
  Partition& p = *partitions_[partition];
  absl::MutexLock lock(&p.mutex);
  AddLocked(p, write);
  if (durable) p.waiting.push_back(std::move(durable));
}

void GroupCommit::Flush(int partition) {
  Partition& p = *partitions_[partition];
  {
    absl::MutexLock lock(&p.mutex);
    p.flush_scheduled = false;
    if (p.in_flight || !p.HasWork()) return;
    p.in_flight = true;
  }
  Pump(p);
}

void GroupCommit::Pump(Partition& p) {
  do {
    Take(p);
  } while (Ask(p) && Finish(p));
}

void GroupCommit::Take(Partition& p) {
  uint64_t previous;
  bool resumed;
  {
    absl::MutexLock lock(&p.mutex);
    p.chunk.swap(p.buffer);
    p.committing.swap(p.waiting);
    p.blocked_committing.swap(p.blocked);
    p.status = p.refused;
    // Without records somebody waits for what is durable already.
    const bool has_records = p.chunk.size() > ChunkHeader::kSize;
    p.appended = p.refused.ok() && has_records;
    if (!p.refused.ok() && has_records) p.lost = true;
    MUSTER_CHECK(p.recovered || !p.appended);
    p.sequence = p.mark.sequence;
    previous = p.mark.checksum;
    resumed = p.PublishWritable();
  }
  if (p.appended) {
    ChunkHeader header;
    header.partition = static_cast<uint16_t>(p.number);
    header.sequence = p.sequence;
    header.epoch = p.epoch;
    header.time_us = absl::ToUnixMicros(clock_->Now());
    header.previous = previous;
    p.checksum = SealChunk(header, &p.chunk);
    p.sealed = clock_->Monotonic();
    bytes_.fetch_add(static_cast<int64_t>(p.chunk.size()),
                     std::memory_order_relaxed);
  }
  if (resumed && resumed_) resumed_(p.number);
}

bool GroupCommit::Ask(Partition& p) {
  if (!p.appended) return true;
  p.met.store(false, std::memory_order_relaxed);
  journal_->Append(
      p.number, p.epoch, p.sequence, p.chunk,
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
        if (commit.Finish(*answered)) commit.Pump(*answered);
      });
  // (2) Acquire-release: pairs with (1).
  return p.met.exchange(true, std::memory_order_acq_rel);
}

bool GroupCommit::Finish(Partition& p) {
  if (p.appended && MayChange(p.status)) {
    Stall(p);
    return false;
  }
  bool resumed = false;
  bool snapshot_due = false;
  if (p.appended && p.status.ok()) {
    commit_times_.Add(clock_->Monotonic() - p.sealed);
  }
  {
    absl::MutexLock lock(&p.mutex);
    if (p.appended) {
      if (p.status.ok()) {
        p.mark = {p.sequence + 1, p.checksum};
        p.bytes_since += static_cast<int64_t>(p.chunk.size());
        snapshot_due =
            snapshot_due_ && !p.snapshot_asked &&
            p.bytes_since >= std::max(snapshot_bytes_, 2 * p.snapshot_size);
        p.snapshot_asked |= snapshot_due;
      } else {
        p.refused = p.status;
        p.lost = true;
      }
      p.stalled = absl::OkStatus();
      resumed = p.PublishWritable();
    }
  }
  p.retry_delay = kRetryDelayMin;
  p.chunk.clear();
  if (p.chunk.capacity() > kKeptBytes) std::string().swap(p.chunk);
  for (Durable& durable : p.committing) std::move(durable)(p.status);
  p.committing.clear();
  Tell(p.status, &p.blocked_committing);
  if (resumed && resumed_) resumed_(p.number);
  if (snapshot_due) snapshot_due_(p.number);
  absl::MutexLock lock(&p.mutex);
  if (p.HasWork()) return true;
  p.in_flight = false;
  return false;
}

void GroupCommit::Stall(Partition& p) {
  absl::MutexLock lock(&p.mutex);
  p.stalled = p.status;
  p.PublishWritable();
  // Who can wait goes on waiting; who blocks a thread does not.
  Tell(p.status, &p.blocked_committing);
  Tell(p.status, &p.blocked);
  executor_->RunAt(clock_->Monotonic() + p.retry_delay,
                   [self = weak_from_this(), partition = p.number]() {
                     if (auto commit = self.lock()) commit->Retry(partition);
                   });
  p.retry_delay = std::min(2 * p.retry_delay, kRetryDelayMax);
  // Last: from here on others drive the partition.
  p.retry_pending = true;
}

void GroupCommit::Tell(const absl::Status& status,
                       std::vector<Waiter*>* blocked) {
  for (Waiter* waiter : *blocked) {
    waiter->status = status;
    waiter->told.Notify();  // The last that is known of it.
  }
  blocked->clear();
}

void GroupCommit::Retry(int partition) {
  Partition& p = *partitions_[partition];
  {
    absl::MutexLock lock(&p.mutex);
    if (!p.retry_pending) return;  // Drain() came first.
    p.retry_pending = false;
  }
  if (Ask(p) && Finish(p)) Pump(p);
}

absl::Status GroupCommit::Wait(int partition, Waiter* waiter) {
  Flush(partition);
  waiter->told.WaitForNotification();
  return waiter->status;
}

absl::Status GroupCommit::AddAndWait(
    int partition, absl::FunctionRef<void(std::string*)> write) {
  Partition& p = *partitions_[partition];
  Waiter waiter;
  {
    absl::MutexLock lock(&p.mutex);
    if (absl::Status s = p.Writable(); !s.ok()) return s;
    AddLocked(p, write);
    p.blocked.push_back(&waiter);
  }
  return Wait(partition, &waiter);
}

absl::Status GroupCommit::Sync(int partition) {
  Partition& p = *partitions_[partition];
  Waiter waiter;
  {
    absl::MutexLock lock(&p.mutex);
    if (absl::Status s = p.Trouble(); !s.ok()) {
      // What was durable before the trouble still is.
      const bool all_durable = !p.in_flight && !p.HasWork() && !p.lost;
      return all_durable ? absl::OkStatus() : s;
    }
    p.blocked.push_back(&waiter);
  }
  return Wait(partition, &waiter);
}

absl::Status GroupCommit::CheckWritable(int partition) const {
  const Partition& p = *partitions_[partition];
  if (p.writable.load(std::memory_order_relaxed)) return absl::OkStatus();
  absl::MutexLock lock(&p.mutex);
  return p.Writable();
}

GroupCommit::Mark GroupCommit::Position(int partition) const {
  const Partition& p = *partitions_[partition];
  absl::MutexLock lock(&p.mutex);
  return p.mark;
}

absl::Status GroupCommit::WriteSnapshot(int partition, Mark mark,
                                        std::vector<std::string> parts) {
  MUSTER_CHECK(!parts.empty() && parts.size() <= UINT32_MAX);
  Partition& p = *partitions_[partition];
  int64_t size = 0;
  {
    // Chunks between the two would be gone.
    absl::MutexLock lock(&p.mutex);
    MUSTER_CHECK(mark.sequence >= p.snapshot_sequence);
  }
  ChunkHeader header;
  header.partition = static_cast<uint16_t>(partition);
  header.sequence = mark.sequence;
  header.epoch = p.epoch;
  header.time_us = absl::ToUnixMicros(clock_->Now());
  header.previous = mark.checksum;
  header.part_count = static_cast<uint32_t>(parts.size());
  for (std::string& part : parts) {
    part.insert(0, ChunkHeader::kSize, '\0');
    header.previous = SealChunk(header, &part);
    ++header.part;
    size += static_cast<int64_t>(part.size());
  }
  const absl::Status written =
      journal_->WriteSnapshot(partition, p.epoch, mark.sequence, parts);
  {
    // Also after a failure: the next one is due as many bytes later.
    absl::MutexLock lock(&p.mutex);
    p.snapshot_asked = false;
    p.bytes_since = 0;
    if (written.ok()) {
      p.snapshot_size = size;
      p.snapshot_sequence = mark.sequence;
    }
  }
  if (!written.ok()) return written;
  return journal_->Trim(partition, mark.sequence);
}

void GroupCommit::Drain() {
  // A partition's callbacks may add to another that has been drained already:
  // until a whole pass finds nothing to do.
  bool idle;
  do {
    idle = true;
    for (const std::unique_ptr<Partition>& partition : partitions_) {
      Partition& p = *partition;
      {
        absl::MutexLock lock(&p.mutex);
        idle = idle && !p.in_flight && !p.HasWork();
      }
      Flush(p.number);
      {
        absl::MutexLock lock(&p.mutex);
        p.mutex.Await(absl::Condition(
            +[](Partition* q) ABSL_NO_THREAD_SAFETY_ANALYSIS {
              return !q->in_flight || q->retry_pending;
            },
            &p));
        if (!p.retry_pending) continue;
        p.retry_pending = false;
      }
      p.status = absl::CancelledError(absl::StrCat(
          "partition ", p.number,
          " was given up while it was stalled: ", p.status.message()));
      if (Finish(p)) Pump(p);
    }
  } while (!idle);
}

absl::Status GroupCommit::Release() {
  absl::Status first;
  for (const std::unique_ptr<Partition>& partition : partitions_) {
    Partition& p = *partition;
    bool given_up = false;
    {
      absl::MutexLock lock(&p.mutex);
      if (p.refused.ok()) {
        p.refused = absl::FailedPreconditionError(
            absl::StrCat("partition ", p.number, " has been released"));
        p.PublishWritable();
      }
      // Of somebody who has added meanwhile.
      p.mutex.Await(absl::Condition(
          +[](Partition* q) ABSL_NO_THREAD_SAFETY_ANALYSIS {
            return !q->in_flight || q->retry_pending;
          },
          &p));
      if (std::exchange(p.retry_pending, false)) given_up = true;
    }
    if (given_up) {
      p.status = absl::CancelledError(absl::StrCat(
          "partition ", p.number, " was released while it was stalled"));
      if (Finish(p)) Pump(p);
    }
    const absl::Status released = journal_->Release(p.number, p.epoch);
    if (!absl::IsFailedPrecondition(released)) first.Update(released);
  }
  return first;
}

}  // namespace muster
