#include "engine/engine.h"

#include <set>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/dispatch/notifier.h"
#include "engine/dispatch/twin_journal.h"
#include "engine/journal/group_commit.h"
#include "engine/load_twins.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/identity.h"
#include "engine/model/json.h"
#include "engine/model/limits.h"
#include "engine/query/condition.h"
#include "engine/query/statement.h"
#include "engine/twin/device_hash.h"

namespace muster {
namespace {

// For an engine without a transport: takes nothing and knows no device.
class NoTransport : public Transport {
 public:
  void Start(TransportSink*) override {}
  size_t Send(const MethodBatch&) override { return 0; }
  void NotifyDesired(absl::Span<const DesiredNotification>) override {}
  // Goes by links, and has none: whatever a twin says, nobody is connected.
  bool wants_device_ids() const override { return false; }
  void Shutdown() override {}
};

absl::Status OutOfRange(absl::string_view option, int64_t value, int64_t low,
                        int64_t high) {
  return absl::InvalidArgumentError(
      absl::StrCat(option, " must be in [", low, ", ", high, "]; got ", value));
}

absl::Status Validate(const EngineOptions& o) {
  if (o.threads < 1 || o.threads > 256) {
    return OutOfRange("threads", o.threads, 1, 256);
  }
  if (o.range_rows_max < 1 || o.range_rows_max > kRangeRowsMax) {
    return OutOfRange("range_rows_max", o.range_rows_max, 1, kRangeRowsMax);
  }
  if (o.slices_retained_max < 1 || o.slices_retained_max > kSlicesRetainedMax) {
    return OutOfRange("slices_retained_max", o.slices_retained_max, 1,
                      kSlicesRetainedMax);
  }
  if (o.jobs_retained_max < 1 || o.jobs_retained_max > kJobsRetainedMax) {
    return OutOfRange("jobs_retained_max", o.jobs_retained_max, 1,
                      kJobsRetainedMax);
  }
  if (o.snapshot_after_bytes < 4096) {
    return OutOfRange("snapshot_after_bytes", o.snapshot_after_bytes, 4096,
                      INT64_MAX);
  }
  if (o.twin_count_max < 1 || o.twin_count_max > 1'000'000'000) {
    return OutOfRange("twin_count_max", o.twin_count_max, 1, 1'000'000'000);
  }
  if (o.profile.jobs_available && (o.profile.active_jobs_max < 1 ||
                                   o.profile.active_jobs_max > 1'000'000)) {
    return OutOfRange("profile.active_jobs_max", o.profile.active_jobs_max, 1,
                      1'000'000);
  }
  if (o.profile.job_device_operations_per_second < 0 ||
      o.profile.job_device_operations_per_second > 1'000'000'000) {
    return OutOfRange("profile.job_device_operations_per_second",
                      o.profile.job_device_operations_per_second, 0,
                      1'000'000'000);
  }
  return absl::OkStatus();
}

// In a list of partitions.
constexpr int kNotWritten = -1;

absl::Status CheckPageSize(int page_size) {
  if (1 <= page_size && page_size <= kTwinPageSizeMax) return absl::OkStatus();
  return MakeError(ErrorCode::kArgumentInvalid,
                   absl::StrCat("page_size must be in [1, ", kTwinPageSizeMax,
                                "]; got ", page_size));
}

}  // namespace

// In the order in which they are made; destroyed the other way round.
struct Engine::Parts {
  EngineOptions options;
  Clock* clock = nullptr;
  std::unique_ptr<Executor> own_executor;
  Executor* executor = nullptr;
  std::unique_ptr<Transport> own_transport;
  Transport* transport = nullptr;
  std::unique_ptr<Journal> own_journal;
  std::shared_ptr<GroupCommit> commit;
  std::shared_ptr<Notifier> notifier;
  std::unique_ptr<TwinJournal> twin_journal;
  std::unique_ptr<TwinIndex> index;
  std::shared_ptr<Dispatcher> dispatcher;
  Journal* journal = nullptr;
  bool started = false;  // The transport.
  absl::Mutex stop_mutex;
  bool stopped ABSL_GUARDED_BY(stop_mutex) = false;

  // An error once the engine was stopped.
  absl::Status CheckRunning() const {
    if (!dispatcher->stopped()) return absl::OkStatus();
    return MakeError(ErrorCode::kServiceUnavailable,
                     "the engine has been stopped");
  }

  int PartitionOf(absl::string_view device_id) const {
    return PartitionOfHash(DeviceHash(device_id), commit->partition_count());
  }
  // Whether the device's twin can be changed now.
  absl::Status CheckWritable(absl::string_view device_id) const {
    if (absl::Status s = CheckRunning(); !s.ok()) return s;
    return dispatcher->CheckWritable(PartitionOf(device_id));
  }
  absl::Status SyncDevice(absl::string_view device_id) {
    return Sync(PartitionOf(device_id));
  }
  absl::Status Sync(int partition) {
    const absl::Status status = commit->Sync(partition);
    return status.ok() ? status : NotDurable("the write", status);
  }
};

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(
    const EngineOptions& options) {
  if (absl::Status s = Validate(options); !s.ok()) return s;
  auto parts = std::make_unique<Parts>();
  Parts& p = *parts;
  p.options = options;
  p.clock = options.clock != nullptr ? options.clock : &Clock::Real();
  if (options.executor == nullptr) {
    p.own_executor = MakeThreadExecutor(options.threads);
  }
  p.executor = p.own_executor ? p.own_executor.get() : options.executor;
  if (options.transport == nullptr) {
    p.own_transport = std::make_unique<NoTransport>();
  }
  p.transport = p.own_transport ? p.own_transport.get() : options.transport;
  Journal*& journal = p.journal;
  journal = options.journal;
  if (journal == nullptr) {
    absl::StatusOr<std::unique_ptr<Journal>> made = MakeMemoryJournal();
    if (!made.ok()) return made.status();
    p.own_journal = *std::move(made);
    journal = p.own_journal.get();
  }
  absl::StatusOr<std::shared_ptr<GroupCommit>> commit =
      GroupCommit::Create(journal, p.executor, p.clock);
  if (!commit.ok()) return commit.status();
  p.commit = *std::move(commit);
  p.notifier = std::make_shared<Notifier>(p.commit->partition_count(),
                                          p.executor, p.transport);
  p.twin_journal = std::make_unique<TwinJournal>(p.commit.get());

  TwinIndex::Options index_options;
  index_options.partition_count = p.commit->partition_count();
  index_options.twin_count_max = options.twin_count_max;
  index_options.observer = p.twin_journal.get();
  absl::StatusOr<std::unique_ptr<TwinIndex>> index =
      TwinIndex::Create(index_options);
  if (!index.ok()) return index.status();
  p.index = *std::move(index);

  Dispatcher::Options d;
  d.clock = p.clock;
  d.executor = p.executor;
  d.transport = p.transport;
  d.commit = p.commit.get();
  d.index = p.index.get();
  d.notifier = p.notifier.get();
  d.profile = options.profile;
  d.on_active_limit = options.on_active_limit;
  d.validate_condition_on_create = options.validate_condition_on_create;
  d.query.function_profile = options.function_profile;
  d.parse.strict_job_value_charset = options.strict_job_value_charset;
  d.range_rows_max = options.range_rows_max;
  d.jobs_retained_max = options.jobs_retained_max;
  d.slices_retained_max = options.slices_retained_max;
  d.take_snapshots = !journal->forgets();
  p.dispatcher = std::make_shared<Dispatcher>(d);
  p.twin_journal->Connect(p.index.get(), p.dispatcher.get(), p.notifier.get());
  p.commit->SetResumed([dispatcher = p.dispatcher.get()](int partition) {
    dispatcher->OnJournalResumed(partition);
  });
  if (!journal->forgets()) {
    p.commit->SetSnapshotDue(options.snapshot_after_bytes,
                             [dispatcher = p.dispatcher.get()](int partition) {
                               dispatcher->RequestSnapshot(partition);
                             });
  }
  std::unique_ptr<Engine> engine(new Engine(std::move(parts)));
  if (absl::Status s = p.dispatcher->Recover(options.recovery_progress);
      !s.ok()) {
    return s;
  }
  p.dispatcher->CloseInterrupted();
  p.transport->Start(p.dispatcher.get());
  p.started = true;
  p.dispatcher->Resume();
  return engine;
}

Engine::Engine(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Engine::~Engine() { Stop(); }

void Engine::Stop() {
  Parts& p = *parts_;
  absl::MutexLock lock(&p.stop_mutex);
  if (std::exchange(p.stopped, true)) return;
  p.dispatcher->Stop();
  p.notifier->Stop();
  if (p.started) {
    p.transport->Shutdown();
    p.dispatcher->TakeLastOutcomes();
  }
  p.commit->Drain();
  // Whoever acquires a partition that was not released fences us.
  p.commit->Release().IgnoreError();
}

// ------------------------------------------------------------------- twins

absl::Status Engine::UpsertTwin(absl::string_view document) {
  absl::StatusOr<std::vector<absl::Status>> answers = UpsertTwins({document});
  return answers.ok() ? (*answers)[0] : answers.status();
}

absl::StatusOr<std::vector<absl::Status>> Engine::UpsertTwins(
    absl::Span<const absl::string_view> documents) {
  if (absl::Status s = parts_->CheckRunning(); !s.ok()) return s;
  std::vector<absl::Status> answers;
  std::vector<int> written_in;
  answers.reserve(documents.size());
  written_in.reserve(documents.size());
  const absl::Time now = parts_->clock->Now();
  for (const absl::string_view document : documents) {
    absl::StatusOr<int> partition = WriteDocument(document, now);
    answers.push_back(partition.status());
    written_in.push_back(partition.value_or(kNotWritten));
  }
  SyncEach(written_in, absl::MakeSpan(answers));
  return answers;
}

void Engine::SyncEach(absl::Span<const int> written_in,
                      absl::Span<absl::Status> answers) {
  std::set<int> partitions(written_in.begin(), written_in.end());
  partitions.erase(kNotWritten);
  // All at once, and then one wait after the other.
  for (const int partition : partitions) parts_->commit->Flush(partition);
  for (const int partition : partitions) {
    const absl::Status durable = parts_->Sync(partition);
    if (durable.ok()) continue;
    for (size_t i = 0; i < answers.size(); ++i) {
      if (written_in[i] == partition) answers[i] = durable;
    }
  }
}

absl::StatusOr<int> Engine::WriteDocument(absl::string_view document,
                                          absl::Time now) {
  absl::StatusOr<Json> json = ParseJson(document);
  if (!json.ok()) return json.status();
  // Without an id it belongs nowhere, and is refused below.
  const JsonView id = json->view().Find("deviceId");
  const absl::string_view device_id =
      id.is_string() ? id.string_value() : absl::string_view();
  if (absl::Status s = parts_->CheckWritable(device_id); !s.ok()) return s;
  absl::StatusOr<TwinWrite> write = parts_->index->Upsert(json->view(), now);
  if (!write.ok()) return write.status();
  return parts_->PartitionOf(device_id);
}

int64_t Engine::TwinCount() const { return parts_->index->size(); }

absl::StatusOr<TwinSnapshot> Engine::GetTwin(
    absl::string_view device_id) const {
  return parts_->index->Get(device_id);
}

absl::StatusOr<TwinWrite> Engine::WriteTwin(absl::string_view device_id,
                                            absl::string_view patch,
                                            absl::string_view if_match,
                                            TwinWriteKind kind) {
  if (absl::Status s = parts_->CheckWritable(device_id); !s.ok()) return s;
  absl::StatusOr<Json> json = ParseJson(patch);
  if (!json.ok()) return json.status();
  absl::StatusOr<TwinPatch> parsed = ParseTwinPatch(
      json->view(), kind == TwinWriteKind::kReported ? PatchOrigin::kDevice
                                                     : PatchOrigin::kService);
  if (!parsed.ok()) return parsed.status();
  TwinIndex& index = *parts_->index;
  const absl::Time now = parts_->clock->Now();
  absl::StatusOr<TwinWrite> write =
      kind == TwinWriteKind::kPatch
          ? index.Patch(device_id, *parsed, if_match, now)
      : kind == TwinWriteKind::kReplace
          ? index.Replace(device_id, *parsed, if_match, now)
          : index.PatchReported(device_id, *parsed, now);
  if (!write.ok()) return write;
  if (absl::Status s = parts_->SyncDevice(device_id); !s.ok()) return s;
  return write;
}

absl::StatusOr<TwinWrite> Engine::PatchTwin(absl::string_view device_id,
                                            absl::string_view patch,
                                            absl::string_view if_match) {
  return WriteTwin(device_id, patch, if_match, TwinWriteKind::kPatch);
}

absl::StatusOr<TwinWrite> Engine::ReplaceTwin(absl::string_view device_id,
                                              absl::string_view document,
                                              absl::string_view if_match) {
  return WriteTwin(device_id, document, if_match, TwinWriteKind::kReplace);
}

absl::StatusOr<TwinWrite> Engine::PatchReported(absl::string_view device_id,
                                                absl::string_view patch) {
  return WriteTwin(device_id, patch, "", TwinWriteKind::kReported);
}

absl::Status Engine::EraseTwin(absl::string_view device_id) {
  if (absl::Status s = parts_->CheckWritable(device_id); !s.ok()) return s;
  if (absl::Status s = parts_->index->Erase(device_id, parts_->clock->Now());
      !s.ok()) {
    return s;
  }
  return parts_->SyncDevice(device_id);
}

absl::Status Engine::SetTwinEnabled(absl::string_view device_id, bool enabled) {
  if (absl::Status s = parts_->CheckWritable(device_id); !s.ok()) return s;
  if (absl::Status s =
          parts_->index->SetEnabled(device_id, enabled, parts_->clock->Now());
      !s.ok()) {
    return s;
  }
  return parts_->SyncDevice(device_id);
}

absl::StatusOr<LoadResult> Engine::LoadTwins(const std::string& path,
                                             const LoadOptions& options) {
  if (absl::Status s = parts_->CheckRunning(); !s.ok()) return s;
  if (absl::Status s = Health(); !s.ok()) {
    return MakeError(ErrorCode::kServiceUnavailable, s.message());
  }
  absl::StatusOr<LoadResult> result = LoadTwinFile(
      path, options, parts_->index.get(), parts_->executor, parts_->clock);
  if (!result.ok()) return result;
  for (int i = 0; i < parts_->commit->partition_count(); ++i) {
    if (absl::Status s = parts_->Sync(i); !s.ok()) return s;
  }
  return result;
}

// --------------------------------------------------------------- registry

absl::StatusOr<DeviceIdentity> Engine::CreateDevice(
    const DeviceIdentity& device) {
  if (absl::Status s = ValidateDeviceIdentity(device); !s.ok()) return s;
  if (absl::Status s = parts_->CheckWritable(device.device_id); !s.ok()) {
    return s;
  }
  absl::StatusOr<DeviceIdentity> made =
      parts_->index->CreateIdentity(device, parts_->clock->Now());
  if (!made.ok()) return made;
  if (absl::Status s = parts_->SyncDevice(device.device_id); !s.ok()) return s;
  return made;
}

absl::StatusOr<DeviceIdentity> Engine::UpdateDevice(
    const DeviceIdentity& device, absl::string_view if_match,
    const SymmetricKeys& spare_keys) {
  if (absl::Status s = ValidateDeviceIdentity(device); !s.ok()) return s;
  if (absl::Status s = ValidateSymmetricKeys(spare_keys); !s.ok()) return s;
  if (absl::Status s = parts_->CheckWritable(device.device_id); !s.ok()) {
    return s;
  }
  absl::StatusOr<DeviceIdentity> updated = parts_->index->UpdateIdentity(
      device, if_match, parts_->clock->Now(), spare_keys);
  if (!updated.ok()) return updated;
  if (absl::Status s = parts_->SyncDevice(device.device_id); !s.ok()) return s;
  return updated;
}

absl::StatusOr<DeviceIdentity> Engine::GetDevice(
    absl::string_view device_id) const {
  return parts_->index->GetIdentity(device_id);
}

absl::Status Engine::DeleteDevice(absl::string_view device_id,
                                  absl::string_view if_match) {
  if (absl::Status s = parts_->CheckWritable(device_id); !s.ok()) return s;
  if (absl::Status s =
          parts_->index->Erase(device_id, parts_->clock->Now(), if_match);
      !s.ok()) {
    return s;
  }
  return parts_->SyncDevice(device_id);
}

absl::Status Engine::ChangeDevice(const DeviceOperation& operation,
                                  absl::Time now) {
  const DeviceIdentity& device = operation.device;
  const bool is_delete = operation.kind == DeviceOperation::Kind::kDelete;
  if (!is_delete) {
    absl::Status status = ValidateDeviceIdentity(device);
    status.Update(ValidateSymmetricKeys(operation.spare_keys));
    if (!status.ok()) return status;
  }
  if (absl::Status s = parts_->CheckWritable(device.device_id); !s.ok()) {
    return s;
  }
  TwinIndex& index = *parts_->index;
  switch (operation.kind) {
    case DeviceOperation::Kind::kCreate:
      return index.CreateIdentity(device, now).status();
    case DeviceOperation::Kind::kUpdate:
      return index
          .UpdateIdentity(device, operation.if_match, now, operation.spare_keys)
          .status();
    case DeviceOperation::Kind::kDelete:
      return index.Erase(device.device_id, now, operation.if_match);
  }
  MUSTER_CHECK(false);
}

std::vector<absl::Status> Engine::ChangeDevices(
    absl::Span<const DeviceOperation> operations) {
  std::vector<absl::Status> answers;
  std::vector<int> written_in;
  answers.reserve(operations.size());
  written_in.reserve(operations.size());
  const absl::Time now = parts_->clock->Now();
  for (const DeviceOperation& operation : operations) {
    answers.push_back(ChangeDevice(operation, now));
    written_in.push_back(answers.back().ok()
                             ? parts_->PartitionOf(operation.device.device_id)
                             : kNotWritten);
  }
  SyncEach(written_in, absl::MakeSpan(answers));
  return answers;
}

absl::StatusOr<std::vector<DeviceIdentity>> Engine::ListDevices(
    int count) const {
  if (count < 1 || count > kDevicesListedMax) {
    return MakeError(ErrorCode::kArgumentInvalid,
                     absl::StrCat("count must be in [1, ", kDevicesListedMax,
                                  "]; got ", count));
  }
  return parts_->index->FirstIdentities(static_cast<size_t>(count));
}

RegistryStatistics Engine::CountDevices() const {
  const TwinIndex::Counts counts = parts_->index->Count();
  return {.devices = counts.twins,
          .enabled = counts.enabled,
          .disabled = counts.twins - counts.enabled};
}

absl::StatusOr<TargetCount> Engine::CountTargets(
    absl::string_view condition) const {
  absl::StatusOr<Condition> parsed = Condition::ParseJobCondition(
      condition, {parts_->options.function_profile});
  if (!parsed.ok()) return parsed.status();
  TargetCount count;
  const TwinIndex& index = *parts_->index;
  index.Match(*parsed, [&](int number, const RowBitmap& rows) {
    const Shard& shard = index.shard(number);
    count.devices += rows.Count();
    absl::ReaderMutexLock lock(&shard.mutex);
    count.connected += rows.CountCommon(shard.rows_connected());
  });
  return count;
}

absl::StatusOr<MatchExplanation> Engine::Explain(
    absl::string_view statement) const {
  absl::StatusOr<Statement> parsed =
      Statement::Parse(statement, {parts_->options.function_profile});
  if (!parsed.ok()) return parsed.status();
  if (parsed->collection() != Collection::kDevices) {
    return MakeError(ErrorCode::kArgumentInvalid,
                     "only statements on devices have a plan; those on "
                     "devices.jobs walk the records");
  }
  return parts_->index->Explain(
      parsed->condition().value_or(Condition::MatchAll(Collection::kDevices)),
      [clock = parts_->clock] {
        return absl::ToInt64Nanoseconds(clock->Monotonic());
      });
}

absl::StatusOr<TwinPage> Engine::Query(absl::string_view statement,
                                       int page_size,
                                       absl::string_view continuation) const {
  if (absl::Status s = CheckPageSize(page_size); !s.ok()) return s;
  absl::StatusOr<Statement> parsed =
      Statement::Parse(statement, {parts_->options.function_profile});
  if (!parsed.ok()) return parsed.status();
  if (parsed->collection() == Collection::kDevices) {
    return parts_->index->Query(*parsed, page_size, continuation);
  }
  absl::StatusOr<RecordPage> records =
      parts_->dispatcher->QueryRecords(*parsed, page_size, continuation);
  if (!records.ok()) return records.status();
  TwinPage page;
  page.rows = std::move(records->rows);
  page.item_type = std::string(parsed->item_type());
  page.continuation = std::move(records->continuation);
  return page;
}

// -------------------------------------------------------------------- jobs

absl::StatusOr<JobInfo> Engine::CreateJob(const JobRequest& request) {
  if (absl::Status s = parts_->CheckRunning(); !s.ok()) return s;
  return parts_->dispatcher->CreateJob(request);
}

absl::StatusOr<JobInfo> Engine::CreateJobFromJson(absl::string_view job_id,
                                                  absl::string_view body) {
  if (absl::Status s = parts_->CheckRunning(); !s.ok()) return s;
  JobParseOptions parse;
  parse.strict_job_value_charset = parts_->options.strict_job_value_charset;
  absl::StatusOr<JobRequest> request = ParseJobRequest(job_id, body, parse);
  if (!request.ok()) return request.status();
  return parts_->dispatcher->CreateJob(*request);
}

absl::StatusOr<JobInfo> Engine::GetJob(absl::string_view job_id) const {
  return parts_->dispatcher->GetJob(job_id);
}

absl::StatusOr<JobPage> Engine::ListJobs(const JobFilter& filter, int page_size,
                                         absl::string_view continuation) const {
  if (absl::Status s = CheckPageSize(page_size); !s.ok()) return s;
  return parts_->dispatcher->ListJobs(filter, page_size, continuation);
}

absl::StatusOr<JobInfo> Engine::CancelJob(absl::string_view job_id,
                                          const CancelOptions& options) {
  if (absl::Status s = parts_->CheckRunning(); !s.ok()) return s;
  return parts_->dispatcher->CancelJob(job_id, options);
}

absl::StatusOr<JobInfo> Engine::WaitJob(absl::string_view job_id,
                                        absl::Duration timeout) const {
  return parts_->dispatcher->WaitJob(job_id, timeout);
}

absl::StatusOr<std::unique_ptr<Engine::Watch>> Engine::WatchJob(
    absl::string_view job_id, JobCallback callback) {
  absl::StatusOr<std::shared_ptr<JobWatcher>> watcher =
      parts_->dispatcher->WatchJob(job_id, std::move(callback));
  if (!watcher.ok()) return watcher.status();
  return std::make_unique<Watch>(*std::move(watcher));
}

Engine::Watch::Watch(std::shared_ptr<JobWatcher> watcher)
    : watcher_(std::move(watcher)) {}

Engine::Watch::~Watch() {
  // A call under way holds the mutex.
  absl::MutexLock lock(&watcher_->mutex);
  watcher_->callback = nullptr;
}

absl::Status Engine::ForEachExecution(
    absl::string_view job_id,
    absl::FunctionRef<void(const ExecutionRecord&)> visit) const {
  return parts_->dispatcher->ForEachExecution(job_id, visit);
}

absl::StatusOr<ExecutionPage> Engine::ListExecutions(
    const ExecutionFilter& filter, int page_size,
    absl::string_view continuation) const {
  if (absl::Status s = CheckPageSize(page_size); !s.ok()) return s;
  return parts_->dispatcher->ListExecutions(filter, page_size, continuation);
}

absl::StatusOr<ExecutionRecord> Engine::GetExecution(
    absl::string_view job_id, absl::string_view device_id) const {
  return parts_->dispatcher->GetExecution(job_id, device_id);
}

void Engine::InvokeMethod(absl::string_view device_id,
                          const MethodAction& action, MethodCallback done) {
  parts_->dispatcher->InvokeMethod(device_id, action, std::move(done));
}

EngineStats Engine::Stats() const {
  DispatcherStats dispatched = parts_->dispatcher->Stats();
  EngineStats stats;
  stats.twins = parts_->index->size();
  stats.jobs = dispatched.jobs;
  stats.ready_queue_depth = dispatched.ready_queue_depth;
  stats.executions_pending = dispatched.executions_pending;
  stats.executions_in_flight = dispatched.executions_in_flight;
  stats.executions_ended = std::move(dispatched.executions_ended);
  stats.executions_dispatched = dispatched.executions_dispatched;
  stats.outcomes_dropped = dispatched.outcomes_dropped;
  stats.direct_methods = std::move(dispatched.direct_methods);
  stats.first_dispatch = dispatched.first_dispatch;
  stats.execution_time = dispatched.execution_time;
  stats.journal_commit = parts_->commit->CommitTimes();
  stats.workers = std::move(dispatched.workers);
  stats.journal_bytes = parts_->commit->bytes();
  stats.disk_bytes = parts_->journal->DiskUsage();
  stats.snapshots = dispatched.snapshots;
  stats.snapshots_failed = dispatched.snapshots_failed;
  stats.twin_bytes = parts_->index->MemoryUsage();
  return stats;
}

absl::Status Engine::Health() const {
  if (absl::Status s = parts_->CheckRunning(); !s.ok()) return s;
  for (int i = 0; i < parts_->commit->partition_count(); ++i) {
    absl::Status status = parts_->commit->CheckWritable(i);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Engine::WriteSnapshots() {
  if (absl::Status s = parts_->CheckRunning(); !s.ok()) return s;
  for (int i = 0; i < parts_->commit->partition_count(); ++i) {
    absl::Status status = parts_->dispatcher->WriteSnapshot(i);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> Engine::JobMemoryUsage(absl::string_view job_id) const {
  return parts_->dispatcher->JobMemoryUsage(job_id);
}

}  // namespace muster
