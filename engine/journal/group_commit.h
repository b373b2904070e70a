// GroupCommit: many small records, one append at a time per partition.
//
// Records go into the partition's buffer; Flush() seals the buffer (chunk.h)
// and hands it to the journal as one chunk.  While that is under way further
// records gather, and leave as the next chunk the moment it is done: the slower
// the disk, the larger the groups, without a timer.
//
// Nothing is promised to anybody before it is durable: what waits for a record
// is a callback beside it, and a partition's callbacks run one after the other
// in the order in which the records were added.  Notifications to devices rely
// on that order.
//
// What the journal answers to an append decides how it goes on:
//
//   OK                               durable; the next chunk
//   RESOURCE_EXHAUSTED, UNAVAILABLE  the partition is stalled: perhaps stored,
//                                    perhaps not.  The same chunk is tried
//                                    again, by itself, until the answer is
//                                    another; callbacks go on waiting
//   anything else                    for ever: what comes later would stand on
//                                    records that are not there.  All that
//                                    waits or will wait is told this answer;
//                                    only a restart, or whoever has the
//                                    partition now, goes on from the journal
//
// So a disk that was full resumes without anybody's help, nothing is stored
// twice, and whoever can refuse a write asks CheckWritable() first.
#ifndef ENGINE_JOURNAL_GROUP_COMMIT_H_
#define ENGINE_JOURNAL_GROUP_COMMIT_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "engine/journal/chunk.h"
#include "engine/journal/journal.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "engine/schedule/latency_histogram.h"

namespace muster {

// Thread-safe.
class GroupCommit : public std::enable_shared_from_this<GroupCommit> {
 public:
  using Durable = absl::AnyInvocable<void(const absl::Status&) &&>;
  using Mark = ChunkMark;

  // A partition whose buffer has grown to this many bytes flushes itself on the
  // executor: whoever adds much need not think of it.
  static constexpr size_t kFlushBytes = 256 * 1024;

  // A partition with more bytes than this in its buffer, since the journal is
  // stalled or too slow, is not writable (CheckWritable()).
  static constexpr size_t kBufferBytesMax = 64 << 20;

  // Between two tries of a stalled append: at first, and, doubled each time,
  // at most.
  static constexpr absl::Duration kRetryDelayMin = absl::Milliseconds(100);
  static constexpr absl::Duration kRetryDelayMax = absl::Seconds(2);

  // Acquires every partition of `*journal`, which must outlive this object, as
  // must `*executor` and `*clock`.  Errors are the journal's.
  static absl::StatusOr<std::shared_ptr<GroupCommit>> Create(Journal* journal,
                                                             Executor* executor,
                                                             Clock* clock);

  // Appends under way must have been answered (Drain()).
  ~GroupCommit() = default;

  int partition_count() const { return static_cast<int>(partitions_.size()); }

  // What the journal gave us the partition under: another number than any
  // owner's before.
  uint64_t epoch(int partition) const { return partitions_[partition]->epoch; }

  // Calls `visit` with the records of the partition's snapshot, part by part,
  // and then of the chunks after it, in order, each found whole before it is
  // visited; nothing if the journal forgets().  A journal with chunks must
  // have been recovered before the first Add() to the partition; may be called
  // more than once until then, and for several partitions at a time.
  //   FAILED_PRECONDITION  in a newer format, or the partition has a new owner
  //   DATA_LOSS            damaged, or not all that was acknowledged: says what
  //                        and where
  // and what `visit` or the journal returns.
  absl::Status Recover(
      int partition,
      absl::FunctionRef<absl::Status(absl::string_view records)> visit);

  // Called, with no lock held and not from inside Add(), whenever a partition
  // is writable again after it was not.  To be set before the first Add().
  void SetResumed(std::function<void(int partition)> resumed) {
    resumed_ = std::move(resumed);
  }

  // `due` is called, with no lock held and not from inside Add(), when the
  // chunks since a partition's snapshot (or since Create()) have come to
  // `bytes`, or to twice the size of that snapshot if that is more; again only
  // after WriteSnapshot() has been tried.  To be set before the first Add().
  void SetSnapshotDue(int64_t bytes, std::function<void(int partition)> due) {
    snapshot_bytes_ = bytes;
    snapshot_due_ = std::move(due);
  }

  // Lets `write` append records to the partition's buffer, and remembers
  // `durable` (may be null), which is called once after the records are durable
  // or with the answer that is for ever; CANCELLED if Drain() came first.
  // Takes the partition's mutex for the time of `write`, calls nothing else:
  // may be called with a shard's lock held.  The records stay in memory until
  // a flush.  Cannot fail, so it takes them even if the partition is not
  // writable: what follows a change that has been made has to be recorded.
  void Add(int partition, absl::FunctionRef<void(std::string*)> write,
           Durable durable = nullptr);

  // Starts an append of what has been added, unless one is under way: then it
  // follows that one.  Callbacks run on whatever thread the journal
  // answers on, perhaps this one: no lock may be held here.
  void Flush(int partition);

  // Adds, flushes, and waits until durable.  Not from inside a Durable.  On
  // RESOURCE_EXHAUSTED and UNAVAILABLE it has not waited to the end: the
  // partition was not writable, and nothing was added; or it stalled on the
  // way, and the records may still become durable.  Other errors are for ever.
  absl::Status AddAndWait(int partition,
                          absl::FunctionRef<void(std::string*)> write);

  // Waits until everything added so far is durable; OK at once if it is,
  // whatever has become of the partition.  Errors as above.
  absl::Status Sync(int partition);

  // OK, or why nothing should be added to the partition now:
  //   RESOURCE_EXHAUSTED, UNAVAILABLE  it is stalled, or its buffer is full:
  //                                    SetResumed() tells when it is over
  //   others                           the answer that is for ever
  // Wait-free while OK.
  absl::Status CheckWritable(int partition) const;

  // The place behind what is durable.  A snapshot of state that is looked at
  // after this call holds what the chunks before the mark say.
  Mark Position(int partition) const;

  // Seals `parts` (at least one, each with room made for its header: a move of
  // its bytes) and puts them in the place of the partition's snapshot; then
  // lets go of the chunks before `mark`, which must not be before that of the
  // snapshot it replaces.  Blocks until durable.  One call per partition at a
  // time.  Errors are the journal's; the snapshot before is still there then,
  // or it is the new one, and chunks were not let go of.
  absl::Status WriteSnapshot(int partition, Mark mark,
                             std::vector<std::string> parts);

  // Flushes until nothing is left and no append is under way, also of what
  // callbacks add meanwhile.  Does not wait for a partition that stalls: it
  // takes no records any more, and what waits for it is told CANCELLED (the
  // last chunk may have been stored).
  void Drain();

  // Gives every partition up, so that others may acquire them without fencing
  // anybody; nothing can be added any more.  After Drain().  Tries all and
  // returns the first error; a partition that has a new owner is none.
  absl::Status Release();

  // Bytes of chunks handed to the journal so far, each chunk once.
  int64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

  // How long chunks took from the moment when they were sealed until they were
  // durable, tries that failed included.
  LatencyCounts CommitTimes() const { return commit_times_.Read(); }

 private:
  // Somebody who blocks: on the waiting thread's stack, told once.
  struct Waiter {
    absl::Notification told;
    absl::Status status;
  };

  struct Partition {
    Partition(GroupCommit* commit, int number)
        : commit(commit), number(number) {}

    bool HasWork() const ABSL_SHARED_LOCKS_REQUIRED(mutex) {
      return buffer.size() > ChunkHeader::kSize || !waiting.empty() ||
             !blocked.empty();
    }
    // OK, the answer that is for ever, or why it is stalled.
    absl::Status Trouble() const ABSL_SHARED_LOCKS_REQUIRED(mutex) {
      return refused.ok() ? stalled : refused;
    }
    absl::Status Writable() const ABSL_SHARED_LOCKS_REQUIRED(mutex);
    // After a change of what Writable() says; true if it is OK again.
    bool PublishWritable() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

    GroupCommit* const commit;
    const int number;
    mutable absl::Mutex mutex;
    uint64_t epoch = 0;  // Constant after Create().
    Mark mark ABSL_GUARDED_BY(mutex);
    // The end of the chain is known: new chunks can be linked to it.
    bool recovered ABSL_GUARDED_BY(mutex) = false;
    // Somebody drives the partition, or will once it is not stalled.
    bool in_flight ABSL_GUARDED_BY(mutex) = false;
    bool lost ABSL_GUARDED_BY(mutex) = false;  // Records were refused for ever.
    // Appended since the snapshot; the size of that; and whether somebody has
    // been told that the next is due.
    int64_t bytes_since ABSL_GUARDED_BY(mutex) = 0;
    int64_t snapshot_size ABSL_GUARDED_BY(mutex) = 0;
    uint64_t snapshot_sequence ABSL_GUARDED_BY(mutex) = 0;  // Of its mark.
    bool snapshot_asked ABSL_GUARDED_BY(mutex) = false;
    // Stalled, and nobody drives: whoever clears this does.
    bool retry_pending ABSL_GUARDED_BY(mutex) = false;
    bool flush_scheduled ABSL_GUARDED_BY(mutex) = false;
    // Begins with room for the header, or is empty.
    std::string buffer ABSL_GUARDED_BY(mutex);
    std::vector<Durable> waiting ABSL_GUARDED_BY(mutex);
    std::vector<Waiter*> blocked ABSL_GUARDED_BY(mutex);
    absl::Status refused ABSL_GUARDED_BY(mutex);  // OK, or for ever.
    absl::Status stalled ABSL_GUARDED_BY(mutex);  // OK, or the last answer.
    // What Writable() says; orders no other memory.
    std::atomic<bool> writable{true};

    // Of the append under way; touched only by whoever drives it (Pump()).
    std::string chunk;  // Sealed; the journal gets a copy, since it may fail.
    uint64_t sequence = 0;
    uint64_t checksum = 0;
    absl::Duration sealed = absl::ZeroDuration();  // When; monotonic.
    std::vector<Durable> committing;
    std::vector<Waiter*> blocked_committing;
    absl::Status status;
    bool appended = false;  // The journal is asked.
    absl::Duration retry_delay = kRetryDelayMin;
    // Set by the first of two: the journal's answer, and Append()'s return. The
    // second of them goes on with the next chunk, so that a journal that
    // answers at once is driven by a loop and not by recursion.
    std::atomic<bool> met{false};
  };

  GroupCommit(Journal* journal, Executor* executor, Clock* clock)
      : journal_(journal), executor_(executor), clock_(clock) {}

  void AddLocked(Partition& p, absl::FunctionRef<void(std::string*)> write)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(p.mutex);
  absl::Status Wait(int partition, Waiter* waiter);

  // Appends until the buffer is empty, the journal answers later, or the
  // partition stalls.  One thread at a time per partition: the one that set
  // in_flight or cleared retry_pending, or that the journal answers on.
  void Pump(Partition& p);
  // Makes what has gathered the append under way.
  void Take(Partition& p);
  // Asks the journal; false if it answers later.
  bool Ask(Partition& p);
  // Runs the callbacks of the append that has been answered; true if there is
  // more to append.
  bool Finish(Partition& p);
  // Finish() for an answer that may change: lets go of the partition.
  void Stall(Partition& p);
  static void Tell(const absl::Status& status, std::vector<Waiter*>* blocked);
  void Retry(int partition);

  Journal* const journal_;
  Executor* const executor_;
  Clock* const clock_;
  std::function<void(int)> resumed_;
  int64_t snapshot_bytes_ = 0;
  std::function<void(int partition)> snapshot_due_;
  std::vector<std::unique_ptr<Partition>> partitions_;
  std::atomic<int64_t> bytes_{0};
  LatencyHistogram commit_times_;
};

}  // namespace muster

#endif  // ENGINE_JOURNAL_GROUP_COMMIT_H_
