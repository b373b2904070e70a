// Engine: schedules jobs over a fleet of devices.  The header to start from.
//
//   auto engine = muster::Engine::Create({.transport = &transport});
//   (*engine)->UpsertTwin(R"({"deviceId": "d1", "tags": {"floor": 3}})");
//   muster::JobRequest job;
//   job.job_id = "reboot-floor-3";
//   job.query_condition = "tags.floor = 3";
//   job.action = muster::MethodAction{.method_name = "reboot"};
//   (*engine)->CreateJob(job);
//   auto info = (*engine)->WaitJob("reboot-floor-3", absl::Minutes(5));
//
// Every call is thread-safe.  A call that changes something returns OK once the
// change is durable in the journal, and an error if nothing changed, with one
// exception: ServiceUnavailable "it may still take effect", when the journal
// began to fail with the change on its way.  Then it shows for now, and becomes
// durable if the journal takes it before the engine is stopped.  While the
// journal fails, further changes are refused before anything happens, and reads
// go on (Health()).  What readers see of jobs and executions is durable; twins
// are seen as soon as they are written.  Errors carry the public
// hub's number: ErrorCodeOf() in model/error.h.  Calls that change something
// wait for the journal: they are not for the callbacks of a journal; everywhere
// else, a transport's handlers included, they may be used.
#ifndef ENGINE_ENGINE_H_
#define ENGINE_ENGINE_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/dispatch/dispatcher.h"
#include "engine/journal/journal.h"
#include "engine/load_twins.h"
#include "engine/model/identity.h"
#include "engine/model/job.h"
#include "engine/model/job_status.h"
#include "engine/model/profile.h"
#include "engine/query/options.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "engine/schedule/latency_histogram.h"
#include "engine/transport.h"
#include "engine/twin/twin_index.h"

namespace muster {

// The library's version, "major.minor.patch".
inline constexpr char kVersion[] = "0.1.0";

struct EngineOptions {
  // What reaches the devices.  Not owned; must outlive the engine.  Without one
  // every device is offline: twin jobs run, method jobs wait.
  Transport* transport = nullptr;

  // Not owned; must outlive the engine.  Without one: the machine's clocks, and
  // threads of the engine's own.
  Clock* clock = nullptr;
  Executor* executor = nullptr;
  int threads = 2;  // Of the engine's own executor; in [1, 256].

  // Not owned; must outlive the engine.  Without one: in memory.  What is in
  // it already is recovered before Create() returns.
  Journal* journal = nullptr;
  // Called as a recovery goes on, one call at a time, from any thread.
  std::function<void(int done, int partitions)> recovery_progress;
  // A partition's snapshot is taken when its journal has grown by so many
  // bytes, or by twice the last snapshot's size if that is more; at least
  // 4,096.  Not of a journal that forgets().
  int64_t snapshot_after_bytes = 16 << 20;

  // How many jobs may be active, and how fast they may go.
  Profile profile;
  ActiveLimitPolicy on_active_limit = ActiveLimitPolicy::kReject;

  // false: a broken condition is accepted, and the job fails when it is due.
  bool validate_condition_on_create = true;
  FunctionProfile function_profile = FunctionProfile::kAll;
  bool strict_job_value_charset = false;

  // Executions that are dispatched at a time, at most; in [1, 1024].  Ranges of
  // methods begin with 256 and grow while they have to wait for the journal;
  // twins are patched 256 at a time.
  int range_rows_max = kRangeRowsMax;
  // CreateJob() refuses beyond this; in [1, kJobsRetainedMax].
  int64_t jobs_retained_max = 100'000;
  // A job has a slice for each shard with devices of it.  One that would go
  // beyond this fails when it is due; in [1, kSlicesRetainedMax].
  int64_t slices_retained_max = kSlicesRetainedMax;
  int64_t twin_count_max = 100'000'000;  // UpsertTwin() refuses beyond this.
};

// Counters count since this engine was made, the rest is as it is now.
struct EngineStats {
  int64_t twins = 0;
  // Jobs that are kept, by JobStatus: those that ended within the last
  // kJobHistoryDays too.
  std::array<int64_t, kJobStatusCount> jobs{};
  int64_t ready_queue_depth = 0;  // Slices and evaluations that wait.
  // Of all jobs, as their statistics show them: when all have ended, both are 0
  // and what has ended is the sum of what their statistics have grown by.
  int64_t executions_pending = 0;
  int64_t executions_in_flight = 0;
  EndedExecutions executions_ended;
  int64_t executions_dispatched = 0;  // Sent, or patched.
  // Late, for the second time, or too many at a time: see transport.h.
  int64_t outcomes_dropped = 0;
  DirectMethodStats direct_methods;
  // From the moment when a job may be dispatched (its creation or, later, its
  // start time) to its first dispatch.
  LatencyCounts first_dispatch;
  // From dispatch to the end of an execution, timeouts included; of those that
  // were dispatched by this engine.
  LatencyCounts execution_time;
  // What the journal took for a group of records to be durable.
  LatencyCounts journal_commit;
  int64_t journal_bytes = 0;  // Handed to the journal.
  int64_t disk_bytes = 0;     // What the journal takes on disk.
  int64_t snapshots = 0;      // Of partitions.
  int64_t snapshots_failed = 0;
  int64_t twin_bytes = 0;  // Heap bytes of the twin index, about.
  std::vector<WorkerStats> workers;
};

// Whom a condition selects.
struct TargetCount {
  int64_t devices = 0;
  int64_t connected = 0;  // Of them.
};

// What the registry holds.
struct RegistryStatistics {
  int64_t devices = 0;
  int64_t enabled = 0;
  int64_t disabled = 0;
};

// One of many changes of the registry.
struct DeviceOperation {
  enum class Kind : uint8_t { kCreate, kUpdate, kDelete };
  Kind kind = Kind::kCreate;
  DeviceIdentity device;     // kDelete: its device_id alone.
  std::string if_match;      // Not with kCreate.
  SymmetricKeys spare_keys;  // With kUpdate.
};

class Engine {
 public:
  // Recovers what the journal holds: twins, jobs with every execution, history.
  // Scheduled jobs wait on, running ones go on: what was pending is served, a
  // twin patch under way is applied, a method that was sent and not answered
  // has failed with GatewayTimeout and is not sent again (contract 2.12).
  //   INVALID_ARGUMENT     an option, naming its value and range
  //   DATA_LOSS            what the journal holds is damaged: says where
  //   FAILED_PRECONDITION  a newer version has written it
  // and what else the journal answers.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(
      const EngineOptions& options);

  // Stop(), then frees everything.
  ~Engine();

  // Ends all work and gives the journal up: no callback runs, and the transport
  // and the journal are called no more, once it has returned.  Jobs stay as
  // they are and can be read; changes answer ServiceUnavailable, and WaitJob()
  // returns CANCELLED. Idempotent.  Not from a callback.
  void Stop();

  // ------------------------------------------------------------------ twins

  // Adds the twin, or puts it in the place of the one with its deviceId.  Once
  // the registry has written the device, what it has written stays: the members
  // of the twin that it writes (kRegistryRoots, and status) are ignored.
  //   IotHubFormatError, ArgumentNull, ArgumentInvalid, MessageTooLarge
  //   ThrottlingException  twin_count_max, or too many paths beside it
  absl::Status UpsertTwin(absl::string_view document);

  // The same for many, in their order, and waits for the journal once: the
  // answer for each, in their order.  What is wrong with one of them concerns
  // no other.  As much as fits into the journal's buffers is taken at a time
  // (GroupCommit::kBufferBytesMax for each partition), the rest refused with
  // ServiceUnavailable: some thousands are a good number.
  //   ServiceUnavailable  the engine has been stopped; nothing was written
  absl::StatusOr<std::vector<absl::Status>> UpsertTwins(
      absl::Span<const absl::string_view> documents);

  // Loads one twin per line; all of them, or on an error in the file none.  (If
  // the journal fails or the process ends in the middle, some may be there.)
  // The first bad line is named with what is wrong in it.
  //   INVALID_ARGUMENT, and NOT_FOUND if there is no such file
  absl::StatusOr<LoadResult> LoadTwins(const std::string& path,
                                       const LoadOptions& options = {});

  // How many there are.
  int64_t TwinCount() const;

  // DeviceNotFound.
  absl::StatusOr<TwinSnapshot> GetTwin(absl::string_view device_id) const;

  // Merges a partial twin {"tags": ..., "properties": {"desired": ...}}.
  // `if_match`: "" or "*" for any, else the etag that the twin must have.
  //   DeviceNotFound, PreconditionFailed, IotHubFormatError, ArgumentInvalid,
  //   MessageTooLarge
  absl::StatusOr<TwinWrite> PatchTwin(absl::string_view device_id,
                                      absl::string_view patch,
                                      absl::string_view if_match = "");

  // Puts the sections of `document` in the place of the twin's.  Errors as
  // PatchTwin().
  absl::StatusOr<TwinWrite> ReplaceTwin(absl::string_view device_id,
                                        absl::string_view document,
                                        absl::string_view if_match = "");

  // Merges reported properties, as the device itself does.
  absl::StatusOr<TwinWrite> PatchReported(absl::string_view device_id,
                                          absl::string_view patch);

  // DeviceNotFound.
  absl::Status EraseTwin(absl::string_view device_id);

  // A disabled device takes no methods, and is Disconnected: a connection that
  // the transport reports counts from when it is enabled.  DeviceNotFound.
  absl::Status SetTwinEnabled(absl::string_view device_id, bool enabled);

  // --------------------------------------------------------------- registry
  //
  // A device's identity, which is made and deleted together with its twin.  The
  // engine makes no keys: with kSas, empty ones are kept as they are when a
  // device is updated, and refused when it is created.  A device whose twin was
  // only upserted is here too, without keys.  The etag counts from 1
  // ("AAAAAAAAAAE="), apart from the twin's, and changes with SetTwinEnabled()
  // too once the registry has written the device.

  // Also makes the twin.  What the hub says of it is in the answer.
  //   DeviceAlreadyExists, ArgumentInvalid
  //   MessageTooLarge      the scopes: in all kTwinTagsSizeMax
  //   ThrottlingException  twin_count_max
  absl::StatusOr<DeviceIdentity> CreateDevice(const DeviceIdentity& device);

  // Puts the identity in the place of the device's; tags and properties stay,
  // and without an authentication_type how it authenticates.
  // `if_match`: "" or "*" for any, else the identity's etag.
  // `spare_keys`: each is the device's if, with kSas, neither `device` has that
  // key nor the device has one yet; in one step, so that two who do so at once
  // see the same keys.
  //   DeviceNotFound, PreconditionFailed, ArgumentInvalid, MessageTooLarge
  absl::StatusOr<DeviceIdentity> UpdateDevice(
      const DeviceIdentity& device, absl::string_view if_match = "",
      const SymmetricKeys& spare_keys = {});

  // DeviceNotFound.
  absl::StatusOr<DeviceIdentity> GetDevice(absl::string_view device_id) const;

  // The twin goes too.  DeviceNotFound, PreconditionFailed.
  absl::Status DeleteDevice(absl::string_view device_id,
                            absl::string_view if_match = "");

  // Each for itself, in their order, and one wait for the journal: the answers
  // in their order.  So many at a time as UpsertTwins().
  std::vector<absl::Status> ChangeDevices(
      absl::Span<const DeviceOperation> operations);

  // The first `count` in ascending order of device ids; count in
  // [1, kDevicesListedMax].  Looks at every id: 25 ms for a million.
  absl::StatusOr<std::vector<DeviceIdentity>> ListDevices(int count) const;

  // Locks each shard for a moment.
  RegistryStatistics CountDevices() const;

  // ---------------------------------------------------------------- methods

  // Invokes a direct method on one device, outside of any job (contract 7).
  // `done` is called once: from inside, or later on the executor, where it must
  // not block, or from inside Stop().  The device is called at most once.
  // Nothing of the call is journaled: after a restart nobody is answered.
  //   ArgumentInvalid, MessageTooLarge      the action (contract 1.4)
  //   DeviceNotFound                        unknown or disabled
  //   DeviceNotOnline                       not connected in time, no handler
  //   DeviceMaximumInflightMethodExceeded   kMethodsInFlightPerDeviceMax
  //   InvalidResponseWhileProxying, MessageTooLarge  the answer
  //   GatewayTimeout                        no answer in time, or until Stop():
  //                                         the method may have run
  //   ThrottlingException                   kDirectMethodsMax are under way, or
  //                                         kDirectMethodBytesMax of payloads;
  //                                         the transport had no room in time
  //   ServerError                           the transport failed, or the answer
  //                                         came while others that nobody has
  //                                         taken in yet have all of
  //                                         kDirectMethodAnswerBytesMax; the
  //                                         method may have run
  //   ServiceUnavailable                    the engine has been stopped, or the
  //                                         transport is draining(): the method
  //                                         did not run
  void InvokeMethod(absl::string_view device_id, const MethodAction& action,
                    MethodCallback done);

  // One page of a statement (contract 5.3) on devices or devices.jobs; rows in
  // ascending order of deviceId, then jobId.  page_size in [1, 1'000'000].
  // `continuation`: empty, or the last page's; an empty one ends.
  //   ArgumentInvalid  with line and column
  absl::StatusOr<TwinPage> Query(absl::string_view statement,
                                 int page_size = kHubPageSizeMax,
                                 absl::string_view continuation = "") const;

  // How many devices a job with this condition would be for, now, and how many
  // of them are connected; as fast as a job's own selection.
  //   ArgumentInvalid  with line and column
  absl::StatusOr<TargetCount> CountTargets(absl::string_view condition) const;

  // How the condition of a statement on devices is answered: its parts in the
  // order in which they were taken, in what form, and what each cost.  Answers
  // it once, for counting only.
  //   ArgumentInvalid  with line and column; a statement on devices.jobs
  absl::StatusOr<MatchExplanation> Explain(absl::string_view statement) const;

  // ------------------------------------------------------------------- jobs

  // Accepts a job; it starts when its time has come.  The answer's status is
  // queued.  Checked in the order of contract 1.10.
  //   OperationNotAvailableInCurrentTier   profile basic
  //   GenericBadRequest, ArgumentNull, ArgumentInvalid, MessageTooLarge,
  //   PreconditionFailed                   the request, the condition
  //   JobAlreadyExists                     the id is retained
  //   ThrottlingMaxActiveJobCountExceeded  too many active jobs
  //   ThrottlingException                  jobs_retained_max
  absl::StatusOr<JobInfo> CreateJob(const JobRequest& request);

  // The same from the JSON body of contract 1.2; `job_id` may be empty if the
  // body names it.
  absl::StatusOr<JobInfo> CreateJobFromJson(absl::string_view job_id,
                                            absl::string_view body);

  // JobNotFound.
  absl::StatusOr<JobInfo> GetJob(absl::string_view job_id) const;

  // Newest first.  page_size in [1, 1'000'000].  ArgumentInvalid for a damaged
  // or foreign continuation.
  absl::StatusOr<JobPage> ListJobs(const JobFilter& filter = {},
                                   int page_size = kHubPageSizeMax,
                                   absl::string_view continuation = "") const;

  // Cancels a job that does not run yet; one that is cancelled already is left
  // so.  A running one only if the options say so.
  //   JobNotFound
  //   OperationNotAllowedInCurrentState  running, completed or failed
  absl::StatusOr<JobInfo> CancelJob(absl::string_view job_id,
                                    const CancelOptions& options = {});

  // Waits until the job is terminal and returns it; DEADLINE_EXCEEDED after
  // `timeout` of real time, CANCELLED after Stop().  JobNotFound.  Blocks the
  // calling thread.
  absl::StatusOr<JobInfo> WaitJob(
      absl::string_view job_id,
      absl::Duration timeout = absl::InfiniteDuration()) const;

  // Calls `callback` with the job as it is now, and whenever it has changed,
  // the last time when it is terminal; always with the latest, so that a slow
  // callback misses states in between and nothing piles up.  Revisions ascend.
  // On the executor, one call at a time.  Ends when the handle is destroyed,
  // which waits for a call under way: not from the callback itself.
  // JobNotFound.
  class Watch;
  absl::StatusOr<std::unique_ptr<Watch>> WatchJob(absl::string_view job_id,
                                                  JobCallback callback);

  // Calls `visit` for every execution of the job, shard by shard, each as it is
  // at that moment.  No lock is held during the calls.  JobNotFound.
  absl::Status ForEachExecution(
      absl::string_view job_id,
      absl::FunctionRef<void(const ExecutionRecord&)> visit) const;

  // One page of executions, each as it is at that moment, in an order that
  // stays the same: newest job first, and within a job an order of its own.
  // page_size in [1, 1'000'000]; `continuation`: empty, or the last page's with
  // the same filter.  An execution that changes while the pages are read is
  // seen once, before the change or after it.
  //
  // Of a job, a page costs what is on it; with a status, what it has to pass by
  // (some ns each).  Of a device, it looks at each retained job in turn: about
  // 1 us for those that the device has no part in, as long as no twins have
  // been erased.  Those that have been while a retained job might name them are
  // remembered, and all of the device's partition are looked through for such
  // a job: O(erased), in all O(jobs * erased).
  //   JobNotFound      there is no such job
  //   ArgumentInvalid  page_size; a damaged or foreign continuation
  //   ServiceUnavailable  what would be shown is not durable, and the journal
  //                    does not take it
  absl::StatusOr<ExecutionPage> ListExecutions(
      const ExecutionFilter& filter, int page_size = kHubPageSizeMax,
      absl::string_view continuation = "") const;

  // A device's share of a job; also of one that was erased since.  Costs what
  // one job does above.
  //   JobNotFound     there is no such job
  //   DeviceNotFound  the device is not among its targets, or they are not
  //                   selected yet
  //   ServiceUnavailable  as above
  absl::StatusOr<ExecutionRecord> GetExecution(
      absl::string_view job_id, absl::string_view device_id) const;

  // Locks each shard for a moment: 20 us with a million twins.
  EngineStats Stats() const;

  // OK, or why changes are refused in some part of the id space: the disk is
  // full or fails (RESOURCE_EXHAUSTED, UNAVAILABLE: it is tried again until it
  // works), or another engine has taken over (FAILED_PRECONDITION).  Reads go
  // on.
  absl::Status Health() const;

  // Takes a snapshot of every partition now; the engine goes on meanwhile.
  // Blocks until all are durable.  Errors as Health().
  absl::Status WriteSnapshots();

  // Heap bytes of a job's target set and execution states.  JobNotFound.
  absl::StatusOr<int64_t> JobMemoryUsage(absl::string_view job_id) const;

 private:
  struct Parts;
  enum class TwinWriteKind { kPatch, kReplace, kReported };

  explicit Engine(std::unique_ptr<Parts> parts);

  // Waits for what was written in the partitions `written_in`, for answer i in
  // written_in[i], where that is not -1: what has become of the partition is
  // what has become of it.
  void SyncEach(absl::Span<const int> written_in,
                absl::Span<absl::Status> answers);
  // One change of the registry, which is not waited for.
  absl::Status ChangeDevice(const DeviceOperation& operation, absl::Time now);
  // Returns the partition whose journal has to take it.
  absl::StatusOr<int> WriteDocument(absl::string_view document, absl::Time now);
  absl::StatusOr<TwinWrite> WriteTwin(absl::string_view device_id,
                                      absl::string_view patch,
                                      absl::string_view if_match,
                                      TwinWriteKind kind);

  std::unique_ptr<Parts> parts_;
};

class Engine::Watch {
 public:
  explicit Watch(std::shared_ptr<JobWatcher> watcher);
  ~Watch();
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

 private:
  std::shared_ptr<JobWatcher> watcher_;
};

}  // namespace muster

#endif  // ENGINE_ENGINE_H_
