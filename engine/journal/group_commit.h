// GroupCommit: many small records, one append at a time per partition.
//
// Records go into the partition's buffer; Flush() hands the buffer to the
// journal as one chunk.  While that is under way further records gather, and
// leave as the next chunk the moment it is done: the slower the disk, the
// larger the groups, without a timer.
//
// An append that the journal refuses is the partition's last: what comes later
// would stand on records that are not there.  Everything that waits or will
// wait is told the refusal; the process goes on reading, and a restart goes on
// from the journal.
//
// Nothing is promised to anybody before it is durable: what waits for a record
// is a callback beside it, and a partition's callbacks run one after the other
// in the order in which the records were added.  Notifications to devices rely
// on that order.
#ifndef ENGINE_JOURNAL_GROUP_COMMIT_H_
#define ENGINE_JOURNAL_GROUP_COMMIT_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "engine/journal/journal.h"
#include "engine/schedule/executor.h"

namespace muster {

// Thread-safe.
class GroupCommit : public std::enable_shared_from_this<GroupCommit> {
 public:
  using Durable = absl::AnyInvocable<void(const absl::Status&) &&>;

  // A partition whose buffer has grown to this many bytes flushes itself on the
  // executor: whoever adds much need not think of it.
  static constexpr size_t kFlushBytes = 256 * 1024;

  // Acquires every partition of `*journal`, which must outlive this object, as
  // must `*executor`.  Errors are the journal's.
  static absl::StatusOr<std::shared_ptr<GroupCommit>> Create(
      Journal* journal, Executor* executor);

  // Appends under way must have been answered (Drain()).
  ~GroupCommit() = default;

  int partition_count() const { return static_cast<int>(partitions_.size()); }

  // Lets `write` append records to the partition's buffer, and remembers
  // `durable` (may be null), which is called once after the records are durable
  // or with the error that the journal answered.  Takes the partition's mutex
  // for the time of `write`, calls nothing else: may be called with a shard's
  // lock held.  The records stay in memory until a flush.
  void Add(int partition, absl::FunctionRef<void(std::string*)> write,
           Durable durable = nullptr);

  // Starts an append of what has been added, unless one is under way: then it
  // follows that one.  Callbacks run on whatever thread the journal
  // answers on, perhaps this one: no lock may be held here.
  void Flush(int partition);

  // Adds, flushes, and waits until durable.  Not from inside a Durable.
  absl::Status AddAndWait(int partition,
                          absl::FunctionRef<void(std::string*)> write);

  // Waits until everything added so far is durable, or returns the refusal.
  absl::Status Sync(int partition);

  // Flushes until nothing is left and no append is under way, also of what
  // callbacks add meanwhile.
  void Drain();

  // Bytes handed to the journal so far.
  int64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  struct Partition {
    Partition(GroupCommit* commit, int number)
        : commit(commit), number(number) {}

    GroupCommit* const commit;
    const int number;
    absl::Mutex mutex;
    uint64_t epoch = 0;  // Constant after Create().
    uint64_t next_sequence ABSL_GUARDED_BY(mutex) = 1;
    bool in_flight ABSL_GUARDED_BY(mutex) = false;
    bool flush_scheduled ABSL_GUARDED_BY(mutex) = false;
    std::string buffer ABSL_GUARDED_BY(mutex);
    // Of the last chunk, which the journal has kept: the next will be about as
    // large, and its buffer need not grow to it in seven steps.
    size_t chunk_size ABSL_GUARDED_BY(mutex) = 0;
    std::vector<Durable> waiting ABSL_GUARDED_BY(mutex);
    // Of the append under way; touched only by whoever drives it (Pump()).
    std::vector<Durable> committing;
    absl::Status status;
    bool appended = false;                        // The journal was asked.
    absl::Status refused ABSL_GUARDED_BY(mutex);  // OK, or for ever.
    // Set by the first of two: the journal's answer, and Append()'s return. The
    // second of them goes on with the next chunk, so that a journal that
    // answers at once is driven by a loop and not by recursion.
    std::atomic<bool> met{false};
  };

  GroupCommit(Journal* journal, Executor* executor)
      : journal_(journal), executor_(executor) {}

  // Appends until the buffer is empty or the journal answers later.  One thread
  // at a time per partition: the one that set in_flight, or that the journal
  // answers on.
  void Pump(int partition);
  // Runs the callbacks of the append that has been answered; true if there is
  // more to append.
  bool Finish(Partition& p);

  Journal* const journal_;
  Executor* const executor_;
  std::vector<std::unique_ptr<Partition>> partitions_;
  std::atomic<int64_t> bytes_{0};
};

}  // namespace muster

#endif  // ENGINE_JOURNAL_GROUP_COMMIT_H_
