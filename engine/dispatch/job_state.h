// A job while the engine knows it: from its creation until its history expires.
#ifndef ENGINE_DISPATCH_JOB_STATE_H_
#define ENGINE_DISPATCH_JOB_STATE_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/dispatch/outcome_list.h"
#include "engine/dispatch/slice.h"
#include "engine/dispatch/work.h"
#include "engine/model/job.h"
#include "engine/query/condition.h"
#include "engine/query/plan.h"
#include "engine/transport.h"
#include "engine/twin/shard.h"

namespace muster {

struct Job;

// What dispatch/ keeps beside a shard's rows.  The shard's mutex guards all of
// it, as it guards every Slice over the shard.
struct ShardState {
  // Slices of running jobs.
  std::vector<class SliceWork*> active;
  // Methods in flight per row, over all jobs; empty until the first.
  std::vector<uint8_t> in_flight;
  // Cuts of all retained slices: the shard remembers former tenants for them.
  std::multiset<uint64_t> cuts;
  // Slices of retained jobs whose target set is in the journal's buffer or
  // beyond: what a snapshot of the shard has to say of them.
  std::vector<class SliceWork*> retained;
};

// A range of executions between its mark and its Send().  Pooled.
struct Range {
  std::vector<Slice::Rank> ranks;
  std::vector<AttemptKey> attempts;
  std::vector<uint64_t> links;
  // If the transport wants them:
  std::string id_bytes;           // Device ids, one after the other ...
  std::vector<uint32_t> id_ends;  // ... and where each ends.
  std::vector<absl::string_view> device_ids;
  bool recorded = false;  // Its record is in the partition's buffer.

  void Clear() {
    recorded = false;
    ranks.clear();
    attempts.clear();
    links.clear();
    id_bytes.clear();
    id_ends.clear();
    device_ids.clear();
  }
};

// Evaluates the job's condition over one shard.
class EvaluationWork : public Work {
 public:
  explicit EvaluationWork(std::shared_ptr<ReadyQueue::Slots> slots)
      : Work(std::move(slots), Kind::kEvaluation) {}

  Job* job = nullptr;
  Shard* shard = nullptr;
  // The devices to ask, if the condition names them (Job::candidates).
  absl::Span<const TwinCandidates::Twin> candidates;
  // Written by the worker that runs it; read once all have run.
  RowSet targets;
  uint64_t cut = 0;
};

// Executions of a range, to begin with: enough to make what is done once for a
// range cheap, and few enough that others get their turn soon.
inline constexpr int kRangeRows = 256;
// And at most: a journal that takes its time gets larger groups.
inline constexpr int kRangeRowsMax = 1024;

// Dispatches one slice and takes in its outcomes.
class SliceWork : public Work {
 public:
  SliceWork(const std::shared_ptr<ReadyQueue::Slots>& slots,
            const std::shared_ptr<OutcomePool<OutcomePolicy>>& outcome_pool,
            Job* job, uint32_t number, Shard* shard, ShardState* shard_state,
            uint64_t cut, Slice slice)
      : Work(slots, Kind::kSlice),
        job(job),
        number(number),
        shard(shard),
        shard_state(shard_state),
        cut(cut),
        slice(std::move(slice)),
        waiting_for_tokens(slots),
        response_timer(slots),
        outcomes(outcome_pool) {
    waiting_for_tokens.work = this;
    response_timer.work = this;
  }

  // Its place among those that wait for tokens.
  struct TokenWait : ReadyQueue::Item {
    explicit TokenWait(std::shared_ptr<ReadyQueue::Slots> slots)
        : Item(std::move(slots)) {}
    SliceWork* work = nullptr;
    std::shared_ptr<Job> owner;  // While it is there: see Work::owner.
  };

  // One at a time, for the first of `checks`.
  struct ResponseTimer : Timer {
    explicit ResponseTimer(std::shared_ptr<ReadyQueue::Slots> slots)
        : Timer(std::move(slots), Kind::kResponses) {}
    SliceWork* work = nullptr;
    std::shared_ptr<Job> owner;  // While it is in the queue: see Work::owner.
  };

  // Ranks that were sent together: whoever of them still runs at `due`, since
  // it was sent then, has timed out.
  struct ResponseCheck {
    absl::Duration due;
    Slice::Rank first;
    Slice::Rank last;
  };

  // Constant.  Away from what wakes write, in the base.
  alignas(64) Job* const job;
  const uint32_t number;  // Place in the job's slices.
  Shard* const shard;
  ShardState* const shard_state;
  const uint64_t cut;

  Slice slice ABSL_GUARDED_BY(shard->mutex);

  // Whether the rank is marked running but has not been offered to the
  // transport.
  bool IsUnsent(Slice::Rank rank) const {
    return range != nullptr &&
           std::binary_search(range->ranks.begin(), range->ranks.end(), rank);
  }

  // Of the worker that runs it.
  std::unique_ptr<Range> range;  // Marked running, not yet sent.
  Slice::Stamp range_time;       // When it was marked ...
  absl::Duration range_sent;     // ... and when it was sent, if later.
  // In the order of sending, which is that of `due`: a job has one timeout.
  // From `checks_begin` on; what is before has been looked at.
  std::vector<ResponseCheck> checks;
  size_t checks_begin = 0;
  bool closed = false;  // The limit has passed: sends no more.
  bool response_timer_armed = false;
  bool connect_timeout_done = false;
  // Executions to offer at a time: what the transport took last, and growing.
  int offer_max = kShardRowsMax;
  // Executions of a range: twice as many each time that one has had to wait for
  // the journal, half as many when one has not.
  int range_rows = kRangeRows;

  // The range's record: kDurable or kRefused by the journal's callback.
  enum RangeState : uint8_t { kNone, kCommitting, kDurable, kRefused };
  std::atomic<uint8_t> range_state{kNone};
  // Set until the transport has room again, or until tokens return.
  std::atomic<bool> blocked{false};
  std::atomic<bool> paced{false};
  std::atomic<bool> response_timer_due{false};
  TokenWait waiting_for_tokens;
  ResponseTimer response_timer;

  // What the transport has reported; a cache line of its own.
  OutcomeList<OutcomePolicy> outcomes;
};

using JobCallback = std::function<void(const JobInfo&)>;

// Somebody who follows a job: at most one delivery is under way, and each tells
// the latest, so that a slow watcher costs nothing.
struct JobWatcher {
  absl::Mutex mutex;
  JobCallback callback ABSL_GUARDED_BY(mutex);  // Null: nobody listens.
  bool ended ABSL_GUARDED_BY(mutex) = false;    // The end has been told.
  std::atomic<bool> scheduled{false};
};

// What is decided about a job, which is ahead of what is shown (JobStatus) by
// the time that the journal takes:
//
//   open ------> starting ---> running ---> ending ---> ended
//    |                                                    ^
//    v                                                    |
//   cancelling -------------------------------------------+
//
// and from open and starting also straight to ending, when the job fails. Every
// step is taken under Job::mutex by whoever finds the phase that it starts
// from, so that of racing steps exactly one wins.
enum class JobPhase : uint8_t {
  kOpen,        // Queued or scheduled, perhaps being evaluated.
  kCancelling,  // The cancel is on its way to the journal.
  kStarting,    // The target set and the start are.
  kRunning,
  kEnding,  // The end is.
  kEnded,
};

struct Job : std::enable_shared_from_this<Job> {
  // Of `revision`: 8 million epochs of 10^12 changes.
  static constexpr int kRevisionCountBits = 40;

  // What ends the pending, and perhaps the running, executions.
  enum Close : uint32_t {
    kConnectTimeout = 1,  // Waiting ones fail.
    kDeadline = 2,        // All open ones fail: contract 2.7.
    kCancel = 4,          // Pending ones are canceled, running ones go on.
  };

  // Constant after creation.
  uint64_t serial = 0;
  JobRequest request;
  std::optional<Condition> condition;  // Absent: broken; see condition_error.
  std::shared_ptr<const Plan> plan;    // Of the condition; while evaluating.
  std::optional<TwinCandidates> candidates;  // The same.
  absl::Status condition_error;
  absl::Time created_time;
  absl::Time start_time;
  int partition = 0;                         // Of the job-level records.
  std::shared_ptr<const MethodCall> method;  // Method jobs.
  std::shared_ptr<const std::string> desired_patch;  // Twin jobs that have one.

  // Constant once the job runs.
  std::vector<std::unique_ptr<SliceWork>> slices;
  uint64_t run = 0;         // Of its evaluation: TargetsRecord::run.
  absl::Time started_time;  // Of every record: contract 3.1 createdDateTimeUtc.
  // Since when it may be dispatched: its creation or, later, its start time, on
  // the monotonic clock; infinite if that was before a restart.
  absl::Duration due_since = absl::InfiniteDuration();
  // Of its execution time, what had passed when the engine recovered it.
  absl::Duration ran_before = absl::ZeroDuration();

  // Between its start and that.
  std::vector<std::unique_ptr<EvaluationWork>> evaluations;
  std::atomic<int> evaluations_left{0};

  // Set with kRunning, once slices and statistics are there: nothing is sent
  // and no outcome taken before.
  std::atomic<bool> running{false};
  // There is a timer for the end of its history: one, also if it ends while it
  // is being recovered.
  std::atomic<bool> history_timed{false};
  // Something of it has been dispatched by this process.
  std::atomic<bool> dispatched{false};
  // Its history is over: what its cuts name may be forgotten.
  std::atomic<bool> expired{false};

  // What it has been served, by weight; and of tokens, which are scarce at
  // other times than workers are.
  std::atomic<uint64_t> virtual_time{0};
  std::atomic<uint64_t> paced_time{0};
  std::atomic<uint32_t> close{0};

  // Guarded by the dispatcher's jobs mutex.
  bool visible = false;  // Durable: may be read.
  bool active = false;   // Counts for the active-job limit.
  bool has_slot = false;

  // A leaf, but for the executor's own lock.
  mutable absl::Mutex mutex;
  JobStatus status ABSL_GUARDED_BY(mutex) = JobStatus::kQueued;
  JobPhase phase ABSL_GUARDED_BY(mutex) = JobPhase::kOpen;
  // It goes no further here: the engine was stopped, or the journal has become
  // somebody else's.
  bool stopped ABSL_GUARDED_BY(mutex) = false;
  JobStatus final_status ABSL_GUARDED_BY(mutex) = JobStatus::kCompleted;
  std::optional<absl::Time> end_time ABSL_GUARDED_BY(mutex);
  std::string failure_reason ABSL_GUARDED_BY(mutex);
  std::optional<JobStatistics> statistics ABSL_GUARDED_BY(mutex);
  // Grows with each change of what Info() shows.  The journal's epoch is in its
  // upper bits, so that the first value after a restart is beyond the last one
  // before, which nobody has written down.
  int64_t revision ABSL_GUARDED_BY(mutex) = 0;
  std::vector<std::shared_ptr<JobWatcher>> watchers ABSL_GUARDED_BY(mutex);

  JobInfo Info() const;
};

}  // namespace muster

#endif  // ENGINE_DISPATCH_JOB_STATE_H_
