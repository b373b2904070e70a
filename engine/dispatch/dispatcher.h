// Dispatcher: runs jobs (contract sections 2 and 3).
//
// A job goes through it like this:
//
//   Create        validated, durable, queued
//   pick-up       scheduled until its start time; queued while no slot is free
//   evaluation    one EvaluationWork per shard; the bitmaps are the target set
//   running       one SliceWork per shard that has targets.  A worker takes a
//                 range of pending rows, marks them, journals that, and hands
//                 them to the transport in one call; outcomes land in the
//                 slice's OutcomeList and wake it.
//   end           when the last execution is terminal, or the limit has passed
//
// All work happens on the executor, by workers (schedule/workers.h) that events
// and timers wake; an idle engine does nothing, but for a look at the wall
// clock while a start time or the end of a history lies ahead.  Locks, in the
// order in which they may be held together:
//
//   jobs_mutex_  >  { Job::mutex, serials_mutex_ }
//   Shard::mutex  >  { GroupCommit, Pacer, states, pools, rechecks,
//                      DirectMethods }
//
// and the executor's own lock behind any of them.  The transport, the journal
// and callers' callbacks are called with none (I4).
#ifndef ENGINE_DISPATCH_DISPATCHER_H_
#define ENGINE_DISPATCH_DISPATCHER_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/dispatch/direct_methods.h"
#include "engine/dispatch/job_state.h"
#include "engine/dispatch/notifier.h"
#include "engine/dispatch/outcome_list.h"
#include "engine/journal/group_commit.h"
#include "engine/journal/record.h"
#include "engine/model/error.h"
#include "engine/model/job.h"
#include "engine/model/job_status.h"
#include "engine/model/profile.h"
#include "engine/query/options.h"
#include "engine/query/statement.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/deadline_store.h"
#include "engine/schedule/delay_queue.h"
#include "engine/schedule/executor.h"
#include "engine/schedule/latency_histogram.h"
#include "engine/schedule/pacer.h"
#include "engine/schedule/ready_queue.h"
#include "engine/schedule/workers.h"
#include "engine/transport.h"
#include "engine/twin/twin_index.h"

namespace muster {

// What happens to a job that is due while active_jobs_max jobs are active.
enum class ActiveLimitPolicy : uint8_t {
  kReject,  // Creation answers ThrottlingMaxActiveJobCountExceeded (429004).
  kQueue,   // It waits as queued; oldest start time first.
};

// A slice takes three places in queues (ready, waiting for tokens, its timer);
// some are left for evaluations and the timers of a million jobs.
inline constexpr int64_t kJobsRetainedMax = 1'000'000;
inline constexpr int64_t kSlicesRetainedMax =
    (int64_t{ReadyQueue::Slots::kNodesMax} - (int64_t{1} << 23)) / 3;

struct JobFilter {
  std::optional<JobType> type;
  std::optional<JobStatus> status;
};

struct JobPage {
  std::vector<JobInfo> jobs;
  std::string continuation;  // Empty: no more.
};

// Executions of one job, of one device, of both or of all.
struct ExecutionFilter {
  std::string job_id;     // Empty: of all jobs.
  std::string device_id;  // Empty: of all devices.
  std::optional<ExecutionStatus> status;
};

struct ExecutionPage {
  std::vector<ExecutionRecord> executions;
  std::string continuation;  // Empty: no more.
};

struct RecordPage {
  std::vector<std::string> rows;  // JSON text: contract 3.1.
  std::string continuation;       // Empty: no more.
};

struct CancelOptions {
  // Cancel a running job too: pending executions end canceled, those in flight
  // finish.  The hub's contract refuses that (405102).
  bool cancel_running = false;
};

// Executions that have ended: what the statistics of jobs have grown by.
struct EndedExecutions {
  int64_t succeeded = 0;
  int64_t canceled = 0;  // A job's failed_count has these too.
  std::map<ErrorCode, int64_t> failed;
};

struct DispatcherStats {
  // Jobs that are kept, by JobStatus: those that ended within the last
  // kJobHistoryDays too.
  std::array<int64_t, kJobStatusCount> jobs{};
  int64_t ready_queue_depth = 0;      // Slices and evaluations that wait.
  int64_t executions_dispatched = 0;  // Sent, or patched.
  // Of all jobs, as their statistics show them.
  int64_t executions_pending = 0;
  int64_t executions_in_flight = 0;
  EndedExecutions executions_ended;
  // From the moment when a job may be dispatched (its creation or, later, its
  // start time) to its first dispatch.  Not of jobs that had started before a
  // restart.
  LatencyCounts first_dispatch;
  // From dispatch to the end of an execution, timeouts included; only of those
  // that were dispatched, and not before a restart.
  LatencyCounts execution_time;
  // Late or repeated (I9), or beyond kOutcomesQueuedMax of a slice.
  int64_t outcomes_dropped = 0;
  DirectMethodStats direct_methods;
  int64_t snapshots = 0;         // Taken of partitions ...
  int64_t snapshots_failed = 0;  // ... or tried.
  std::vector<WorkerStats> workers;
};

// What a caller is told whose change (`what`) is not durable: a stalled journal
// may still take it.
absl::Status NotDurable(absl::string_view what, const absl::Status& status);

class PartitionReplay;
struct ReplayedJob;
struct ReplayedSlice;

class Dispatcher : public TransportSink,
                   public std::enable_shared_from_this<Dispatcher>,
                   private WorkSource {
 public:
  struct Options {
    // Not owned; must outlive Stop().
    Clock* clock = nullptr;
    Executor* executor = nullptr;
    Transport* transport = nullptr;
    GroupCommit* commit = nullptr;
    TwinIndex* index = nullptr;
    Notifier* notifier = nullptr;

    Profile profile;
    ActiveLimitPolicy on_active_limit = ActiveLimitPolicy::kReject;
    bool validate_condition_on_create = true;  // Contract 5.8.4.
    QueryOptions query;
    JobParseOptions parse;
    int range_rows_max = kRangeRowsMax;
    int64_t jobs_retained_max = 100'000;
    int64_t slices_retained_max = kSlicesRetainedMax;
    // The journal keeps what it is given: it wants snapshots.
    bool take_snapshots = false;
  };

  explicit Dispatcher(const Options& options);
  // REQUIRES: Stop() has returned.
  ~Dispatcher() override;

  // Takes the state that the journal tells of; `progress` may be null, and is
  // called for each partition that is done, one call at a time, from any
  // thread.  Once, before anything else.
  //   DATA_LOSS            what is there cannot be, or something is missing
  //   FAILED_PRECONDITION  it was written by a newer version
  // and what the journal answers.
  absl::Status Recover(
      const std::function<void(int done, int partitions)>& progress);
  // Journals what a restart means for executions that were under way (contract
  // 2.12).  Before the transport is started: a late outcome changes nothing.
  void CloseInterrupted();
  // Goes on with the jobs that were recovered.  Once the transport is started.
  void Resume();

  // Takes a snapshot of the partition, so that a recovery need not read what
  // the journal said before; the engine goes on meanwhile.  Blocks until it is
  // durable.  Errors as GroupCommit::WriteSnapshot().
  absl::Status WriteSnapshot(int partition);
  // The same on the executor, some time; one partition after the other.
  void RequestSnapshot(int partition);

  // ServiceUnavailable while the partition's journal is stalled or lost.
  absl::Status CheckWritable(int partition) const;
  // The journal takes changes of this partition again: slices go on.
  void OnJournalResumed(int partition);

  // Ends all work and returns when nothing runs any more.  Idempotent.
  // (TakeLastOutcomes() then journals what the transport has reported and
  // nobody has taken in, and answers every direct method.  Once, when it
  // reports no more.)
  void Stop();
  void TakeLastOutcomes();
  bool stopped() const { return workers_->stopped(); }

  // The calls of engine.h, which has their contracts.
  absl::StatusOr<JobInfo> CreateJob(const JobRequest& request);
  absl::StatusOr<JobInfo> GetJob(absl::string_view job_id) const;
  absl::StatusOr<JobPage> ListJobs(const JobFilter& filter, int page_size,
                                   absl::string_view continuation) const;
  absl::StatusOr<JobInfo> CancelJob(absl::string_view job_id,
                                    const CancelOptions& options);
  absl::StatusOr<JobInfo> WaitJob(absl::string_view job_id,
                                  absl::Duration timeout) const;
  absl::StatusOr<std::shared_ptr<JobWatcher>> WatchJob(absl::string_view job_id,
                                                       JobCallback callback);
  absl::Status ForEachExecution(
      absl::string_view job_id,
      absl::FunctionRef<void(const ExecutionRecord&)> visit) const;
  absl::StatusOr<ExecutionPage> ListExecutions(
      const ExecutionFilter& filter, int page_size,
      absl::string_view continuation) const;
  absl::StatusOr<ExecutionRecord> GetExecution(
      absl::string_view job_id, absl::string_view device_id) const;
  absl::StatusOr<RecordPage> QueryRecords(const Statement& statement,
                                          int page_size,
                                          absl::string_view continuation) const;
  void InvokeMethod(absl::string_view device_id, const MethodAction& action,
                    MethodCallback done);
  DispatcherStats Stats() const;
  // Heap bytes of the job's target set and execution states.
  absl::StatusOr<int64_t> JobMemoryUsage(absl::string_view job_id) const;

  // TransportSink.
  void OnOutcomes(absl::Span<const Outcome> outcomes) override;
  void OnConnections(absl::Span<const ConnectionChange> changes,
                     absl::Span<ConnectionAnswer> answers) override;
  void OnReady() override;

  // The device of this row came back, or is not to be waited for any more:
  // executions that wait for it are looked at again.
  void OnRowChanged(Shard& shard, int row)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard.mutex);
  // The same for a device that is being erased; the shard forgets those before
  // it if no retained job could name them.
  void OnRowErased(Shard& shard, int row)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard.mutex);

 private:
  using JobPtr = std::shared_ptr<Job>;

  // Something about a job that a clock decides; in a delay queue from its
  // making until it is due, and no longer than somebody wants it.
  struct JobTimer : Timer {
    enum Event : uint8_t {
      kStart,       // Wall clock: the start time has come.
      kHistoryEnd,  // Wall clock: 30 days after the end.
      kDeadline,    // Monotonic from here on.
      kConnectTimeout,
    };
    JobTimer(std::shared_ptr<ReadyQueue::Slots> slots, Event event,
             uint64_t job)
        : Timer(std::move(slots), Kind::kJob), event(event), job(job) {}
    const Event event;
    const uint64_t job;  // Serial: the job itself may be gone before.
  };

  // Buffers of one worker's turn, so that a range allocates nothing.
  struct alignas(64) Scratch {
    std::vector<FinishedRecord::Entry> finished;
    std::string results;  // Result records.
    std::vector<ReturnedRecord::Entry> returned;
    std::vector<Slice::Rank> patched;  // Began in this run, and ended.
    std::vector<Notifier::Notification> notifications;
    StatisticsDelta delta;
    int64_t rows = 0;  // Served by this run.
    // What ends in this run was dispatched by this process.
    bool timed = true;
    Slice::Stamp now;  // One instant for the whole run.

    // Before a run; `rows` and `now` are set in it.
    void Clear() {
      finished.clear();
      results.clear();
      returned.clear();
      patched.clear();
      notifications.clear();
      delta = {};
    }
  };

  // What has ended in a run, for DispatcherStats: a line for all that ended
  // alike and began together, one or two for most runs.
  struct Ended {
    ExecutionStatus status;
    ErrorCode error;
    absl::Duration time;  // Infinite: not dispatched, or before a restart.
    int64_t count;
  };

  // What a run has to do when its records are durable.  Pooled, so that their
  // callback allocates nothing.
  struct RunCommit {
    std::shared_ptr<Dispatcher> self;
    JobPtr job;
    SliceWork* work = nullptr;
    bool new_range = false;
    StatisticsDelta delta;
    std::vector<Ended> ended;
    std::vector<Notifier::Notification> notifications;
  };

  // ---- workers and timers (dispatcher.cc)
  // WorkSource.
  bool RunOne(int worker) override;
  bool HasWork() override;
  absl::Duration NextDue() override;

  // A job's virtual time, brought up to `virtual_time` first: who comes to a
  // queue gets no credit for the time when it had nothing there.
  static uint64_t CatchUp(std::atomic<uint64_t>& time, uint64_t virtual_time);
  // What serving `rows` costs a job in virtual time.  Start-time fair queueing:
  // Goyal, Vin, Cheng, SIGCOMM 1996.
  static int64_t Charge(const Job& job, int64_t rows);
  // The job has used so many tokens.
  void ChargeTokens(Job& job, int64_t tokens);
  // REQUIRES: the caller has claimed the item.
  void Push(Work* work, Job& job);
  void Wake(SliceWork& slice);
  // True if any was due.
  bool ExpireTimers(absl::Duration now);
  void OnDue(Timer* timer, absl::Duration now);
  void OnJobTimer(const JobTimer& timer);
  void OnTokens(absl::Duration now);
  void OnRechecks(absl::Duration now);
  bool IsWanted(const Timer& timer) const;
  // When to look, on the monotonic clock, for something on the wall clock.
  absl::Duration PlanFor(absl::Duration wall_due);
  void AddTimer(Timer* timer, absl::Duration due);
  void AddJobTimer(JobTimer::Event event, const Job& job, absl::Duration due);
  void AddWallTimer(JobTimer::Event event, const Job& job, absl::Time due);
  // Wakes slices that wait for tokens; does nothing if it is armed already.
  void ArmTokensTimer(absl::Duration due);
  // False if too many wait already.
  bool AddRecheck(AttemptKey attempt, absl::Duration due);
  void Post(void (Dispatcher::*step)(JobPtr), JobPtr job);

  // ---- life of a job (job_lifecycle.cc)
  // What follows from the request alone.
  JobPtr MakeJob(const JobRequest& request, const QueryOptions& query) const;
  void FinishCreate(const JobPtr& job, const absl::Status& status);
  void PickUp(JobPtr job);
  void BecomeDue(const JobPtr& job);
  void StartDueJobs();
  void BeginEvaluation(const JobPtr& job);
  void RunEvaluation(EvaluationWork& work);
  void FinishEvaluation(const JobPtr& job);
  void JournalTargets(SliceWork& work, uint64_t run);
  static void AppendTargets(const SliceWork& work, uint64_t sequence,
                            uint64_t run, std::string* out)
      ABSL_SHARED_LOCKS_REQUIRED(work.shard->mutex);
  void BeginRunning(JobPtr job);
  void CloseSlices(Job& job, uint32_t reason);
  // Of a job that does not run yet.
  void FailJob(const JobPtr& job, absl::string_view reason);
  // The journal will never take what the job did last: here it stays as it is
  // shown.
  void Abandon(Job& job);
  void Publish(const JobPtr& job, const StatisticsDelta& delta);
  // Of a job that is visible.
  void SetStatus(Job& job, JobStatus status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(job.mutex);
  // For DispatcherStats::jobs: one more of these, or one less.
  void CountJob(JobStatus status, int64_t change);
  // Journals the end; the job shows it once that is durable.
  void EndJob(const JobPtr& job, JobStatus status);
  void FinishEnd(const JobPtr& job, JobStatus status, absl::Time end_time);
  void ReleaseJob(const JobPtr& job);
  void RemoveExpired(JobPtr job);
  void ForgetSlices(const JobPtr& job);
  bool IsExpired(const Job& job) const;
  // What the job shows has changed: tells its watchers.
  void ShowChange(Job& job) ABSL_EXCLUSIVE_LOCKS_REQUIRED(job.mutex);
  void NotifyWatchers(Job& job) ABSL_EXCLUSIVE_LOCKS_REQUIRED(job.mutex);
  void DeliverToWatcher(const JobPtr& job,
                        const std::shared_ptr<JobWatcher>& watcher);
  absl::StatusOr<JobPtr> FindJob(absl::string_view job_id) const;
  JobPtr FindBySerial(uint64_t serial) const;

  // ---- a slice's run (slice_run.cc)
  void RunSlice(SliceWork& work, Scratch& scratch);
  // The outcome that was taken last, and the number of its result.
  struct LastResult {
    OutcomeCode code;
    int32_t status;
    absl::string_view payload;
    std::optional<uint16_t> number;  // Valid until the next AddResult().
  };
  void TakeOutcomes(SliceWork& work,
                    const OutcomeBlock<OutcomePolicy>* outcomes,
                    Scratch& scratch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(work.shard->mutex);
  void GiveBackOutcomes(OutcomeBlock<OutcomePolicy>* outcomes);
  void TakeOutcome(SliceWork& work, const OutcomeEntry& entry,
                   absl::string_view payload, LastResult& last,
                   Scratch& scratch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(work.shard->mutex);
  void ExpireResponses(SliceWork& work, Scratch& scratch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(work.shard->mutex);
  void CloseOpen(SliceWork& work, uint32_t reasons, Scratch& scratch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(work.shard->mutex);
  // Takes the next range of pending targets; false if the slice has more to
  // look at, and has to run again.
  bool TakeMethods(SliceWork& work, Scratch& scratch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(work.shard->mutex);
  bool ApplyPatches(SliceWork& work, Scratch& scratch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(work.shard->mutex);
  int64_t TakeTokens(SliceWork& work, int64_t wanted);
  // Whether a method for the row's device can go out.  A twin may say that its
  // device is connected, as a document did, while nobody has reported it: a
  // transport that goes by links has no way to it.
  bool IsReachable(const Shard& shard, int row) const
      ABSL_SHARED_LOCKS_REQUIRED(shard.mutex);
  void FinishExecution(SliceWork& work, Slice::Rank rank,
                       const ExecutionResult& result, Scratch& scratch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(work.shard->mutex);
  // The result's number in the slice; it is recorded if it is new there.
  uint16_t AddResult(SliceWork& work, const ExecutionResult& result,
                     Scratch& scratch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(work.shard->mutex);
  void FinishAs(SliceWork& work, Slice::Rank rank, uint16_t result,
                Scratch& scratch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(work.shard->mutex);
  void JournalRun(SliceWork& work, Scratch& scratch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(work.shard->mutex);
  static void FinishRun(std::unique_ptr<RunCommit> commit,
                        const absl::Status& status);
  // Fills `*ended` with what `scratch.finished` has.
  static void SumUp(const SliceWork& work, const Scratch& scratch,
                    std::vector<Ended>* ended)
      ABSL_SHARED_LOCKS_REQUIRED(work.shard->mutex);
  void Count(absl::Span<const Ended> ended);
  // Something of the job has been dispatched.
  void NoteDispatch(Job& job);
  // `at_once`: in the run that took the range.
  void SendRange(SliceWork& work, bool at_once);
  // Forgets the checks whose executions have all ended, and plans the next.
  void ArmResponseTimer(SliceWork& work)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(work.shard->mutex);
  void Block(SliceWork& work, uint64_t ready_epoch);
  std::unique_ptr<Range> TakeRange();
  void GiveBackRange(std::unique_ptr<Range> range);

  // What was sent, or may have been, has no answer that could still count.
  void CloseSent(SliceWork& work, Scratch& scratch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(work.shard->mutex);

  // ---- recovery and snapshots (recovery.cc)
  struct RecoveredSlice {
    uint32_t number;
    Shard* shard;
    ReplayedSlice* replayed;
  };
  absl::Status RecoverPartition(int partition, PartitionReplay* replay,
                                std::vector<Shard*>* shards);
  absl::Status RecoverJob(int partition, uint64_t serial,
                          const ReplayedJob& replayed,
                          std::vector<RecoveredSlice>* slices);
  static bool MayBe(const RecoveredSlice& recovered);
  // Returns its targets.
  int AddSlice(Job& job, const RecoveredSlice& recovered, bool ended,
               JobStatistics* statistics);
  static int CountSlice(const SliceWork& work, JobStatistics* statistics)
      ABSL_SHARED_LOCKS_REQUIRED(work.shard->mutex);
  std::vector<JobPtr> JobsBySerial() const;
  void TakeDueSnapshot();
  // Of what a job that is forgotten leaves in its partitions.
  void RequestSnapshotsWithout(const Job& job);
  void AppendJobs(int partition, std::string* out);
  void AppendShard(const Shard& shard, std::string* out);

  // ---- reading executions (records.cc)
  static bool HasTargets(const Job& job);

  ShardState& StateOf(const Shard& shard);
  Slice::Stamp Now() const;

  const Options options_;
  Clock& clock_;
  Executor& executor_;
  Transport& transport_;
  const bool wants_device_ids_;  // The transport's word.
  GroupCommit& commit_;
  TwinIndex& index_;
  Notifier& notifier_;

  // Internally synchronized.
  ReadyQueue ready_;
  DelayQueue timers_;       // Monotonic.
  DelayQueue wall_timers_;  // Since the Unix epoch.
  Pacer pacer_;
  const std::shared_ptr<Workers> workers_;
  std::vector<Scratch> scratches_;  // By worker.

  std::atomic<int64_t> slices_retained_{0};
  std::atomic<int64_t> dispatched_{0};
  std::atomic<int64_t> dropped_{0};

  // For Stats(); relaxed, as nothing is decided by them.
  std::array<std::atomic<int64_t>, kJobStatusCount> jobs_by_status_{};
  std::atomic<int64_t> queued_{0};  // Items in ready_.
  std::atomic<int64_t> pending_{0};
  std::atomic<int64_t> in_flight_{0};
  LatencyHistogram first_dispatch_;
  LatencyHistogram execution_time_;
  mutable absl::Mutex ended_mutex_;
  EndedExecutions ended_ ABSL_GUARDED_BY(ended_mutex_);

  // Held while a snapshot is taken; comes before every other lock.
  absl::Mutex snapshot_mutex_;
  absl::Mutex snapshots_due_mutex_;
  std::set<int> snapshots_due_ ABSL_GUARDED_BY(snapshots_due_mutex_);
  bool snapshot_posted_ ABSL_GUARDED_BY(snapshots_due_mutex_) = false;
  // By partition, on the monotonic clock.
  std::vector<absl::Duration> snapshot_times_
      ABSL_GUARDED_BY(snapshots_due_mutex_);
  std::atomic<int64_t> snapshots_{0};
  std::atomic<int64_t> snapshots_failed_{0};

  // Shared with the slices, which may outlive us.
  const std::shared_ptr<OutcomePool<OutcomePolicy>> outcome_pool_ =
      std::make_shared<OutcomePool<OutcomePolicy>>();

  // Slices that wait for the transport's room, and for tokens.
  absl::Mutex blocked_mutex_;
  std::vector<std::pair<JobPtr, SliceWork*>> blocked_
      ABSL_GUARDED_BY(blocked_mutex_);
  std::atomic<uint64_t> ready_epoch_{0};
  ReadyQueue paced_;
  const int64_t paced_units_per_token_;
  std::atomic<bool> tokens_timer_armed_{false};
  Timer tokens_timer_;

  // Executions whose device was not there although it is connected, by when
  // they are tried again.
  absl::Mutex rechecks_mutex_;
  DeadlineStore rechecks_ ABSL_GUARDED_BY(rechecks_mutex_);
  bool rechecks_armed_ ABSL_GUARDED_BY(rechecks_mutex_) = false;
  Timer rechecks_timer_;

  absl::Mutex pool_mutex_;
  std::vector<std::unique_ptr<Range>> ranges_ ABSL_GUARDED_BY(pool_mutex_);
  std::vector<std::unique_ptr<RunCommit>> commits_ ABSL_GUARDED_BY(pool_mutex_);

  mutable absl::Mutex states_mutex_;
  std::vector<std::unique_ptr<ShardState>> states_
      ABSL_GUARDED_BY(states_mutex_);  // By shard.

  DirectMethods methods_;

  // Due jobs without a slot: by priority, start time, creation, id.
  using DueKey = std::tuple<JobPriority, absl::Time, absl::Time, std::string>;
  static DueKey DueKeyOf(const Job& job);
  // Newest first, then by id: the order of listings.
  using ListKey = std::pair<int64_t, std::string>;  // -Unix nanoseconds.
  static ListKey ListKeyOf(const Job& job);
  // The first listed job behind the key, or at it; nullptr: there is none.
  JobPtr NextListed(const ListKey& key, bool inclusive) const;

  mutable absl::Mutex jobs_mutex_;
  absl::flat_hash_map<std::string, JobPtr> jobs_ ABSL_GUARDED_BY(jobs_mutex_);
  std::map<ListKey, JobPtr> listing_ ABSL_GUARDED_BY(jobs_mutex_);
  std::map<DueKey, JobPtr> due_ ABSL_GUARDED_BY(jobs_mutex_);
  int active_jobs_ ABSL_GUARDED_BY(jobs_mutex_) = 0;
  int slots_used_ ABSL_GUARDED_BY(jobs_mutex_) = 0;
  uint64_t next_serial_ ABSL_GUARDED_BY(jobs_mutex_) = 1;

  mutable absl::Mutex serials_mutex_;
  absl::flat_hash_map<uint64_t, JobPtr> by_serial_
      ABSL_GUARDED_BY(serials_mutex_);
};

}  // namespace muster

#endif  // ENGINE_DISPATCH_DISPATCHER_H_
