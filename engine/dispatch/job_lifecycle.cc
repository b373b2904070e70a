// Life of a job: creation, admission, evaluation, end, history (contract 2).
#include <algorithm>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/dispatch/attempt_key.h"
#include "engine/dispatch/dispatcher.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/instant.h"
#include "engine/model/json.h"
#include "engine/query/page_token.h"
#include "engine/twin/device_hash.h"
#include "engine/twin/match/matcher.h"

namespace muster {
namespace {

// Instants are printed with seven digits; what is compared is what is printed.
absl::Time Printable(absl::Time time) {
  return absl::FromUnixNanos(absl::ToUnixNanos(time) / 100 * 100);
}

std::string TextOrEmpty(const Json& json) {
  return json.is_undefined() ? "" : JsonText(json.view());
}

std::string Capitalized(absl::string_view name) {
  std::string out(name);
  out[0] = absl::ascii_toupper(static_cast<unsigned char>(out[0]));
  return out;
}

}  // namespace

absl::Status NotDurable(absl::string_view what, const absl::Status& status) {
  const bool may_come =
      absl::IsUnavailable(status) || absl::IsResourceExhausted(status);
  return MakeError(
      ErrorCode::kServiceUnavailable,
      absl::StrCat("the journal has not taken ", what, ": ", status.message(),
                   may_come ? "; it may still take effect" : ""));
}

JobInfo Job::Info() const {
  JobInfo info;
  info.job_id = request.job_id;
  info.action = request.action;
  info.query_condition = request.query_condition;
  info.created_time = created_time;
  info.start_time = start_time;
  info.max_execution_time_seconds = request.max_execution_time_seconds;
  info.priority = request.priority;
  info.weight = request.weight;
  absl::MutexLock lock(&mutex);
  info.status = status;
  info.end_time = end_time;
  if (status == JobStatus::kFailed) info.failure_reason = failure_reason;
  info.statistics = statistics;
  info.revision = revision;
  return info;
}

// ---------------------------------------------------------------- creation

absl::Status Dispatcher::CheckWritable(int partition) const {
  const absl::Status status = commit_.CheckWritable(partition);
  if (status.ok()) return status;
  return MakeError(
      ErrorCode::kServiceUnavailable,
      absl::StrCat("the journal takes no changes now: ", status.message()));
}

Dispatcher::JobPtr Dispatcher::MakeJob(const JobRequest& request,
                                       const QueryOptions& query) const {
  auto job = std::make_shared<Job>();
  absl::StatusOr<Condition> condition =
      Condition::ParseJobCondition(request.query_condition, query);
  if (condition.ok()) {
    job->condition = *std::move(condition);
  } else {
    job->condition_error = condition.status();
  }
  job->request = request;
  job->partition =
      PartitionOfHash(DeviceHash(request.job_id), commit_.partition_count());
  {
    absl::MutexLock lock(&job->mutex);
    job->revision = static_cast<int64_t>(commit_.epoch(job->partition))
                        << Job::kRevisionCountBits |
                    1;
  }
  if (const auto* method = std::get_if<MethodAction>(&request.action)) {
    job->method = std::make_shared<MethodCall>(
        MethodCall{method->method_name, method->payload,
                   absl::Seconds(method->response_timeout_seconds)});
  } else {
    const TwinPatch& patch = std::get<TwinUpdateAction>(request.action).patch;
    if (!patch.desired.is_undefined()) {
      job->desired_patch =
          std::make_shared<const std::string>(JsonText(patch.desired.view()));
    }
  }
  return job;
}

absl::StatusOr<JobInfo> Dispatcher::CreateJob(const JobRequest& request) {
  const absl::Duration asked = clock_.Monotonic();
  if (!options_.profile.jobs_available) {
    return MakeError(ErrorCode::kOperationNotAvailableInCurrentTier,
                     absl::StrCat("jobs are not available in the profile \"",
                                  options_.profile.name, "\""));
  }
  if (absl::Status s = ValidateJobRequest(request, options_.parse); !s.ok()) {
    return s;
  }
  const JobPtr job = MakeJob(request, options_.query);
  if (!job->condition.has_value() && options_.validate_condition_on_create) {
    return PrefixError("queryCondition: ", job->condition_error);
  }
  const absl::Time now = Printable(clock_.Now());
  job->created_time = now;
  job->start_time = request.start_time.value_or(now);
  JobCreatedRecord record{0,
                          request.job_id,
                          now,
                          "",
                          static_cast<uint8_t>(request.priority),
                          static_cast<uint32_t>(request.weight)};
  AppendJobJson(job->Info(), &record.body);
  // What could not be read back must not be written.
  JobParseOptions lenient;
  lenient.body_size_max = record.body.size();
  if (absl::Status s =
          ParseJobRequest(request.job_id, record.body, lenient).status();
      !s.ok()) {
    return s;
  }
  if (absl::Status s = CheckWritable(job->partition); !s.ok()) return s;

  {
    absl::MutexLock lock(&jobs_mutex_);
    auto existing = jobs_.find(request.job_id);
    if (existing != jobs_.end()) {
      if (!IsExpired(*existing->second)) {
        return MakeError(ErrorCode::kJobAlreadyExists,
                         absl::StrCat("Job ", request.job_id,
                                      " already exists; its id is free again ",
                                      kJobHistoryDays, " days after its end"));
      }
      listing_.erase(ListKeyOf(*existing->second));
      jobs_.erase(existing);
    }
    const bool due = job->start_time <= now;
    if (due && options_.on_active_limit == ActiveLimitPolicy::kReject &&
        active_jobs_ >= options_.profile.active_jobs_max) {
      return MakeError(
          ErrorCode::kThrottlingMaxActiveJobCountExceeded,
          absl::StrCat("Active job limit ", options_.profile.active_jobs_max,
                       " reached"));
    }
    if (next_serial_ > kJobSerialMax) {
      return MakeError(ErrorCode::kThrottlingException,
                       absl::StrCat("this engine has numbered all ",
                                    kJobSerialMax, " jobs that it can"));
    }
    if (static_cast<int64_t>(jobs_.size()) >= options_.jobs_retained_max) {
      return MakeError(
          ErrorCode::kThrottlingException,
          absl::StrCat("the engine keeps at most ", options_.jobs_retained_max,
                       " jobs, ended ones of the last ", kJobHistoryDays,
                       " days included"));
    }
    record.job = job->serial = next_serial_++;
    job->active = due;
    if (due) {
      ++active_jobs_;
      job->due_since = asked;
    }
    jobs_.emplace(request.job_id, job);
  }
  {
    absl::MutexLock lock(&serials_mutex_);
    by_serial_.emplace(job->serial, job);
  }

  JobInfo info = job->Info();
  commit_.Add(
      job->partition, [&](std::string* out) { AppendRecord(record, out); },
      [self = shared_from_this(), job](const absl::Status& status) {
        self->FinishCreate(job, status);
      });
  const absl::Status durable = commit_.Sync(job->partition);
  if (durable.ok()) return info;
  return NotDurable("the job", durable);
}

void Dispatcher::FinishCreate(const JobPtr& job, const absl::Status& status) {
  if (!status.ok()) {
    ReleaseJob(job);
    absl::MutexLock lock(&jobs_mutex_);
    jobs_.erase(job->request.job_id);
    absl::MutexLock serials_lock(&serials_mutex_);
    by_serial_.erase(job->serial);
    return;
  }
  {
    absl::MutexLock lock(&jobs_mutex_);
    job->visible = true;
    listing_.emplace(ListKeyOf(*job), job);
    CountJob(JobStatus::kQueued, 1);
  }
  Post(&Dispatcher::PickUp, job);
}

Dispatcher::JobPtr Dispatcher::FindBySerial(uint64_t serial) const {
  absl::ReaderMutexLock lock(&serials_mutex_);
  auto it = by_serial_.find(serial);
  return it == by_serial_.end() ? nullptr : it->second;
}

bool Dispatcher::IsExpired(const Job& job) const {
  absl::MutexLock lock(&job.mutex);
  return job.end_time.has_value() &&
         clock_.Now() >= *job.end_time + absl::Hours(24) * kJobHistoryDays;
}

absl::StatusOr<Dispatcher::JobPtr> Dispatcher::FindJob(
    absl::string_view job_id) const {
  {
    absl::ReaderMutexLock lock(&jobs_mutex_);
    auto it = jobs_.find(job_id);
    if (it != jobs_.end() && it->second->visible && !IsExpired(*it->second)) {
      return it->second;
    }
  }
  return MakeError(ErrorCode::kJobNotFound,
                   absl::StrCat("Job ", job_id, " not found"));
}

absl::StatusOr<JobInfo> Dispatcher::GetJob(absl::string_view job_id) const {
  absl::StatusOr<JobPtr> job = FindJob(job_id);
  if (!job.ok()) return job.status();
  return (*job)->Info();
}

absl::StatusOr<JobPage> Dispatcher::ListJobs(
    const JobFilter& filter, int page_size,
    absl::string_view continuation) const {
  constexpr absl::string_view kCollection = "jobs";
  const uint64_t hash = HashForPageToken(absl::StrCat(
      filter.type.has_value() ? JobTypeName(*filter.type) : "*", "/",
      filter.status.has_value() ? JobStatusName(*filter.status) : "*"));
  ListKey after{INT64_MIN, ""};
  PageToken token{std::string(kCollection), hash, {}, 0};
  if (!continuation.empty()) {
    absl::StatusOr<PageToken> given =
        DecodePageToken(continuation, kCollection, hash);
    if (!given.ok()) return given.status();
    int64_t created;
    if (given->last_key.size() != 2 ||
        !absl::SimpleAtoi(given->last_key[0], &created)) {
      return MakeError(ErrorCode::kArgumentInvalid,
                       "the continuation is not one of a job listing");
    }
    token = *std::move(given);
    after = {created, token.last_key[1]};
  }
  JobPage page;
  absl::ReaderMutexLock lock(&jobs_mutex_);
  for (auto it = listing_.upper_bound(after); it != listing_.end(); ++it) {
    if (IsExpired(*it->second)) continue;
    JobInfo info = it->second->Info();
    if (filter.type.has_value() && info.type() != *filter.type) continue;
    if (filter.status.has_value() && info.status != *filter.status) continue;
    if (static_cast<int>(page.jobs.size()) == page_size) {
      page.continuation = EncodePageToken(token);
      break;
    }
    page.jobs.push_back(std::move(info));
    token.last_key = {absl::StrCat(it->first.first), it->first.second};
    ++token.rows_given;
  }
  return page;
}

Dispatcher::JobPtr Dispatcher::NextListed(const ListKey& key,
                                          bool inclusive) const {
  absl::ReaderMutexLock lock(&jobs_mutex_);
  auto it = inclusive ? listing_.lower_bound(key) : listing_.upper_bound(key);
  while (it != listing_.end() && IsExpired(*it->second)) ++it;
  return it == listing_.end() ? nullptr : it->second;
}

// --------------------------------------------------------------- admission

void Dispatcher::PickUp(JobPtr job) {
  if (job->start_time <= clock_.Now()) {
    BecomeDue(job);
    return;
  }
  {
    absl::MutexLock lock(&jobs_mutex_);
    absl::MutexLock job_lock(&job->mutex);
    if (job->phase != JobPhase::kOpen) return;
    if (job->active) {  // It was due when it was created; the clock was set
                        // back.
      job->active = false;
      --active_jobs_;
    }
    if (job->status != JobStatus::kScheduled) {
      SetStatus(*job, JobStatus::kScheduled);  // T2
      ShowChange(*job);
    }
  }
  AddWallTimer(JobTimer::kStart, *job, job->start_time);
}

// The start time has come.
void Dispatcher::BecomeDue(const JobPtr& job) {
  {
    absl::MutexLock job_lock(&job->mutex);
    if (job->phase != JobPhase::kOpen) return;
  }
  // The wall clock may have been set back since the timer was set.
  if (job->start_time > clock_.Now()) {
    AddWallTimer(JobTimer::kStart, *job, job->start_time);
    return;
  }
  const DueKey key = DueKeyOf(*job);
  {
    absl::MutexLock lock(&jobs_mutex_);
    absl::MutexLock job_lock(&job->mutex);
    if (job->phase != JobPhase::kOpen || job->has_slot) return;
    if (!job->active) {
      job->active = true;
      ++active_jobs_;
    }
    job->due_since = std::min(job->due_since, clock_.Monotonic());
    due_.emplace(key, job);
  }
  StartDueJobs();
  absl::MutexLock lock(&jobs_mutex_);
  if (!due_.contains(key)) return;
  absl::MutexLock job_lock(&job->mutex);
  if (job->status == JobStatus::kScheduled) {
    SetStatus(*job, JobStatus::kQueued);  // T4: there is no slot.
    ShowChange(*job);
  }
}

Dispatcher::DueKey Dispatcher::DueKeyOf(const Job& job) {
  return {job.request.priority, job.start_time, job.created_time,
          job.request.job_id};
}

Dispatcher::ListKey Dispatcher::ListKeyOf(const Job& job) {
  return {-absl::ToUnixNanos(job.created_time), job.request.job_id};
}

void Dispatcher::StartDueJobs() {
  while (true) {
    JobPtr job;
    {
      absl::MutexLock lock(&jobs_mutex_);
      if (due_.empty() || slots_used_ >= options_.profile.active_jobs_max) {
        return;
      }
      job = due_.begin()->second;
      due_.erase(due_.begin());
      ++slots_used_;
      job->has_slot = true;
    }
    BeginEvaluation(job);
  }
}

// Gives back what the job counts for; the next due job may start.
void Dispatcher::ReleaseJob(const JobPtr& job) {
  {
    absl::MutexLock lock(&jobs_mutex_);
    if (job->active) {
      job->active = false;
      --active_jobs_;
    }
    if (job->has_slot) {
      job->has_slot = false;
      --slots_used_;
    }
    due_.erase(DueKeyOf(*job));
  }
  if (!stopped()) StartDueJobs();
}

// -------------------------------------------------------------- evaluation

void Dispatcher::BeginEvaluation(const JobPtr& job) {
  if (!job->condition.has_value()) {
    FailJob(job, FailureReason(job->condition_error));
    return;
  }
  // Only the shards that can hold a target.
  const auto evaluate_in = [&](int shard) {
    auto work = std::make_unique<EvaluationWork>(ready_.slots());
    work->job = job.get();
    work->shard = &index_.shard(shard);
    job->evaluations.push_back(std::move(work));
    return job->evaluations.back().get();
  };
  job->candidates = index_.Candidates(*job->condition);
  if (job->candidates.has_value()) {
    absl::Span<const TwinCandidates::Twin> rest = job->candidates->twins;
    while (!rest.empty()) {
      const int shard = rest.front().at.shard;
      size_t count = 1;
      while (count < rest.size() && rest[count].at.shard == shard) ++count;
      evaluate_in(shard)->candidates = rest.first(count);
      rest.remove_prefix(count);
    }
  } else {
    job->plan = std::make_shared<const Plan>(*job->condition);
    const int count = index_.shard_count();
    for (int shard = 0; shard < count; ++shard) evaluate_in(shard);
  }
  MUSTER_CHECK(job->evaluations.size() <= kSlicesPerJobMax);
  if (job->evaluations.empty()) {
    FinishEvaluation(job);
    return;
  }
  // A newcomer starts where the queue stands.
  job->virtual_time.store(
      ready_.virtual_time(static_cast<int>(job->request.priority)),
      std::memory_order_relaxed);
  job->evaluations_left.store(static_cast<int>(job->evaluations.size()));
  // The last evaluation to run deletes them all: not before all are pushed.
  job->evaluations_left.fetch_add(1);
  for (auto& work : job->evaluations) {
    MUSTER_CHECK(work->ClaimByWake());
    Push(work.get(), *job);
  }
  if (job->evaluations_left.fetch_sub(1) == 1) FinishEvaluation(job);
}

void Dispatcher::RunEvaluation(EvaluationWork& work) {
  const JobPtr job = work.job->shared_from_this();
  RowBitmap rows;
  std::optional<Matcher> matcher;
  if (job->plan != nullptr) matcher.emplace(job->plan);
  {
    absl::MutexLock lock(&work.shard->mutex);
    if (matcher.has_value()) {
      matcher->Match(*work.shard, &rows);
    } else {
      work.shard->MatchCandidates(*job->condition, work.candidates,
                                  job->candidates->exact, &rows);
    }
    work.cut = work.shard->sequence();
    work.targets = RowSet(rows);
    if (work.targets.size() > 0) {
      StateOf(*work.shard).cuts.insert(work.cut);
    }
  }
  if (job->evaluations_left.fetch_sub(1) == 1) FinishEvaluation(job);
}

// All shards have answered: the target set is fixed, unless a cancel was
// faster.
void Dispatcher::FinishEvaluation(const JobPtr& job) {
  std::vector<std::unique_ptr<EvaluationWork>> evaluations;
  evaluations.swap(job->evaluations);
  job->plan.reset();
  job->candidates.reset();
  bool started_now;
  {
    absl::MutexLock lock(&job->mutex);
    started_now = job->phase == JobPhase::kOpen;
    if (started_now) job->phase = JobPhase::kStarting;  // T3 or T5 has won.
  }
  int64_t slices = 0;
  for (auto& work : evaluations) {
    if (work->targets.size() > 0) ++slices;
  }
  const bool too_many =
      started_now && slices_retained_.fetch_add(slices) + slices >
                         options_.slices_retained_max;
  if (too_many) slices_retained_.fetch_sub(slices);
  if (!started_now || too_many) {
    for (auto& work : evaluations) {
      if (work->targets.size() == 0) continue;
      absl::MutexLock lock(&work->shard->mutex);
      auto& cuts = StateOf(*work->shard).cuts;
      cuts.erase(cuts.find(work->cut));
    }
    if (too_many) {
      FailJob(job, absl::StrCat("the engine keeps at most ",
                                options_.slices_retained_max,
                                " slices, one for each job and shard with "
                                "devices of it, ended jobs of the last ",
                                kJobHistoryDays, " days included"));
    }
    return;  // Whoever cancels gives the slot back.
  }

  int64_t device_count = 0;
  for (auto& work : evaluations) {
    if (work->targets.size() == 0) continue;
    device_count += work->targets.size();
    job->slices.push_back(std::make_unique<SliceWork>(
        ready_.slots(), outcome_pool_, job.get(),
        static_cast<uint32_t>(job->slices.size()), work->shard,
        &StateOf(*work->shard), work->cut, Slice(std::move(work->targets))));
  }
  job->started_time = Printable(clock_.Now());

  // The target set is durable in every partition that has a part of it, and
  // then the start is; only then is the job seen running.
  std::vector<int> partitions;
  for (auto& slice : job->slices) {
    partitions.push_back(slice->shard->partition());
  }
  std::sort(partitions.begin(), partitions.end());
  partitions.erase(std::unique(partitions.begin(), partitions.end()),
                   partitions.end());
  auto started = [self = shared_from_this(), job,
                  device_count](const absl::Status& status) {
    if (!status.ok()) {
      self->Abandon(*job);
      return;
    }
    {
      absl::MutexLock lock(&job->mutex);
      job->phase = JobPhase::kRunning;
      job->statistics = JobStatistics{device_count, 0, 0, 0, device_count};
      self->SetStatus(*job, JobStatus::kRunning);
      self->pending_.fetch_add(device_count, std::memory_order_relaxed);
      // Release: whoever sees it sees the slices.
      job->running.store(true, std::memory_order_release);
      self->ShowChange(*job);
    }
    self->Post(&Dispatcher::BeginRunning, job);
  };
  // No other engine has evaluated this job under that number.
  const uint64_t run = job->run = commit_.epoch(job->partition);
  auto left = std::make_shared<std::atomic<int>>(
      static_cast<int>(partitions.size()) + 1);
  auto failed = std::make_shared<std::atomic<bool>>(false);
  auto targets_durable = [self = shared_from_this(), job, run, left, failed,
                          device_count,
                          started](const absl::Status& status) mutable {
    if (!status.ok() && !failed->exchange(true)) self->Abandon(*job);
    if (left->fetch_sub(1) != 1 || failed->load()) return;
    self->commit_.Add(
        job->partition,
        [&](std::string* out) {
          AppendRecord(
              JobStartedRecord{job->serial, run, job->started_time,
                               static_cast<uint32_t>(job->slices.size()),
                               device_count},
              out);
        },
        started);
    self->commit_.Flush(job->partition);
  };
  for (auto& slice : job->slices) JournalTargets(*slice, run);
  for (int partition : partitions) {
    commit_.Add(partition, [](std::string*) {}, targets_durable);
    commit_.Flush(partition);
  }
  targets_durable(absl::OkStatus());
}

void Dispatcher::JournalTargets(SliceWork& work, uint64_t run) {
  absl::MutexLock lock(&work.shard->mutex);
  work.shard_state->active.push_back(&work);
  work.shard_state->retained.push_back(&work);
  const uint64_t sequence = work.shard->AdvanceSequence();
  commit_.Add(work.shard->partition(), [&](std::string* out) {
    work.shard->mutex.AssertHeld();
    AppendTargets(work, sequence, run, out);
  });
}

void Dispatcher::AppendTargets(const SliceWork& work, uint64_t sequence,
                               uint64_t run, std::string* out) {
  const RowSet& targets = work.slice.targets();
  TargetsRecord record;
  record.job = work.job->serial;
  record.slice = work.number;
  record.shard = static_cast<uint32_t>(work.shard->number());
  record.sequence = sequence;
  record.run = run;
  record.cut = work.cut;
  if (const auto* update =
          std::get_if<TwinUpdateAction>(&work.job->request.action)) {
    record.tags = TextOrEmpty(update->patch.tags);
    record.desired = TextOrEmpty(update->patch.desired);
  }
  record.rows.reserve(static_cast<size_t>(targets.size()));
  for (int rank = 0; rank < targets.size(); ++rank) {
    record.rows.push_back(static_cast<uint16_t>(targets.RowAt(rank)));
  }
  AppendRecord(record, out);
}

// ------------------------------------------------------------ running, ending

void Dispatcher::BeginRunning(JobPtr job) {
  // Of its time, some may have passed before a restart.
  const absl::Duration now = clock_.Monotonic() - job->ran_before;
  // Beyond a century there is no difference, and no overflow either.
  const int64_t limit = std::min<int64_t>(
      job->request.max_execution_time_seconds, 100LL * 365 * 24 * 3600);
  AddJobTimer(JobTimer::kDeadline, *job, now + absl::Seconds(limit));
  if (const auto* method = std::get_if<MethodAction>(&job->request.action)) {
    if (method->connect_timeout_seconds > 0) {
      AddJobTimer(JobTimer::kConnectTimeout, *job,
                  now + absl::Seconds(method->connect_timeout_seconds));
    }
  }
  for (auto& slice : job->slices) Wake(*slice);
  Publish(job, {});  // Ends a job without targets: T6 at once.
}

void Dispatcher::CloseSlices(Job& job, uint32_t reason) {
  job.close.fetch_or(reason, std::memory_order_release);
  // One that does not run yet is told when it does.
  if (!job.running.load(std::memory_order_acquire)) return;
  for (auto& slice : job.slices) Wake(*slice);
}

void Dispatcher::FailJob(const JobPtr& job, absl::string_view reason) {
  {
    absl::MutexLock lock(&job->mutex);
    if (job->phase != JobPhase::kOpen && job->phase != JobPhase::kStarting) {
      return;  // Cancelled first.
    }
    job->phase = JobPhase::kEnding;
    job->failure_reason = std::string(reason);
  }
  EndJob(job, JobStatus::kFailed);
}

void Dispatcher::Abandon(Job& job) {
  absl::MutexLock lock(&job.mutex);
  job.stopped = true;
}

void Dispatcher::Publish(const JobPtr& job, const StatisticsDelta& delta) {
  JobStatus final_status;
  {
    absl::MutexLock lock(&job->mutex);
    if (job->phase != JobPhase::kRunning) return;
    JobStatistics& s = *job->statistics;
    s.pending_count += delta.pending;
    s.running_count += delta.running;
    s.succeeded_count += delta.succeeded;
    s.failed_count += delta.failed;
    pending_.fetch_add(delta.pending, std::memory_order_relaxed);
    in_flight_.fetch_add(delta.running, std::memory_order_relaxed);
    MUSTER_DCHECK(s.device_count == s.pending_count + s.running_count +
                                        s.succeeded_count + s.failed_count);
    if (!delta.empty()) ShowChange(*job);
    if (s.pending_count + s.running_count > 0) return;
    job->phase = JobPhase::kEnding;
    final_status = job->final_status;
  }
  EndJob(job, final_status);
}

void Dispatcher::SetStatus(Job& job, JobStatus status) {
  CountJob(job.status, -1);
  CountJob(status, 1);
  job.status = status;
}

void Dispatcher::CountJob(JobStatus status, int64_t change) {
  jobs_by_status_[static_cast<size_t>(status)].fetch_add(
      change, std::memory_order_relaxed);
}

void Dispatcher::EndJob(const JobPtr& job, JobStatus status) {
  const absl::Time end_time = Printable(clock_.Now());
  std::string failure_reason;
  {
    absl::MutexLock lock(&job->mutex);
    failure_reason = job->failure_reason;
  }
  commit_.Add(
      job->partition,
      [&](std::string* out) {
        AppendRecord(JobEndedRecord{job->serial, static_cast<uint8_t>(status),
                                    end_time, failure_reason},
                     out);
      },
      [self = shared_from_this(), job, status,
       end_time](const absl::Status& durable) {
        if (durable.ok()) {
          self->FinishEnd(job, status, end_time);
        } else {
          self->Abandon(*job);
        }
      });
  commit_.Flush(job->partition);
}

void Dispatcher::FinishEnd(const JobPtr& job, JobStatus status,
                           absl::Time end_time) {
  for (auto& slice : job->slices) {
    absl::MutexLock lock(&slice->shard->mutex);
    std::vector<SliceWork*>& active = slice->shard_state->active;
    active.erase(std::remove(active.begin(), active.end(), slice.get()),
                 active.end());
  }
  {
    absl::MutexLock lock(&job->mutex);
    job->phase = JobPhase::kEnded;
    SetStatus(*job, status);
    job->end_time = end_time;
    ShowChange(*job);
  }
  if (!job->history_timed.exchange(true)) {
    AddWallTimer(JobTimer::kHistoryEnd, *job,
                 end_time + absl::Hours(24) * kJobHistoryDays);
  }
  ReleaseJob(job);
}

void Dispatcher::RemoveExpired(JobPtr job) {
  if (!IsExpired(*job)) {  // The wall clock was set back.
    absl::Time end;
    {
      absl::MutexLock lock(&job->mutex);
      end = job->end_time.value_or(clock_.Now());
    }
    AddWallTimer(JobTimer::kHistoryEnd, *job,
                 end + absl::Hours(24) * kJobHistoryDays);
    return;
  }
  {
    absl::MutexLock lock(&job->mutex);
    CountJob(job->status, -1);
  }
  {
    absl::MutexLock lock(&jobs_mutex_);
    // The id may belong to a successor already.
    auto it = jobs_.find(job->request.job_id);
    if (it != jobs_.end() && it->second == job) {
      jobs_.erase(it);
      listing_.erase(ListKeyOf(*job));
    }
  }
  commit_.Add(
      job->partition,
      [&](std::string* out) {
        AppendRecord(JobExpiredRecord{job->serial}, out);
      },
      [self = shared_from_this(), job](const absl::Status& status) {
        if (status.ok()) self->ForgetSlices(job);
      });
  commit_.Flush(job->partition);
}

// Not before the end of the history is durable: a snapshot without the slices,
// in another partition than the job's, must not be found with the job.
void Dispatcher::ForgetSlices(const JobPtr& job) {
  {
    absl::MutexLock lock(&serials_mutex_);
    by_serial_.erase(job->serial);
  }
  // Before the cuts go: readers look at it under the shards' locks.
  job->expired.store(true);
  slices_retained_.fetch_sub(static_cast<int64_t>(job->slices.size()));
  for (auto& slice : job->slices) {
    absl::MutexLock lock(&slice->shard->mutex);
    std::multiset<uint64_t>& cuts = slice->shard_state->cuts;
    cuts.erase(cuts.find(slice->cut));
    std::vector<SliceWork*>& retained = slice->shard_state->retained;
    retained.erase(std::find(retained.begin(), retained.end(), slice.get()));
    slice->shard->RetainCutsFrom(cuts.empty() ? slice->shard->sequence()
                                              : *cuts.begin());
  }
  RequestSnapshotsWithout(*job);
}

absl::StatusOr<JobInfo> Dispatcher::CancelJob(absl::string_view job_id,
                                              const CancelOptions& options) {
  absl::StatusOr<JobPtr> found = FindJob(job_id);
  if (!found.ok()) return found.status();
  const JobPtr& job = *found;
  if (absl::Status s = CheckWritable(job->partition); !s.ok()) return s;
  enum { kCancelOpen, kCancelRunning, kIsCancelled } step;
  {
    absl::MutexLock lock(&job->mutex);
    if (job->phase == JobPhase::kOpen) {
      job->phase = JobPhase::kCancelling;  // T8 has won.
      step = kCancelOpen;
    } else if (job->phase == JobPhase::kCancelling) {
      // Of another caller: it has happened when that one's is durable.
      constexpr absl::Duration kPatience = absl::Seconds(10);
      const bool ended = job->mutex.AwaitWithTimeout(
          absl::Condition(
              +[](Job* j) ABSL_NO_THREAD_SAFETY_ANALYSIS {
                return j->phase == JobPhase::kEnded || j->stopped;
              },
              job.get()),
          kPatience);
      if (!ended || job->stopped) {
        return NotDurable("the cancel",
                          absl::UnavailableError("another cancel is on its "
                                                 "way"));
      }
      step = kIsCancelled;
    } else if (job->status == JobStatus::kCancelled) {
      step = kIsCancelled;
    } else if (options.cancel_running && (job->phase == JobPhase::kStarting ||
                                          job->phase == JobPhase::kRunning)) {
      job->final_status = JobStatus::kCancelled;
      step = kCancelRunning;
    } else {
      // A job whose start is on its way to the journal counts as running.
      const JobStatus status =
          IsTerminal(job->status) ? job->status : JobStatus::kRunning;
      return MakeError(
          ErrorCode::kOperationNotAllowedInCurrentState,
          absl::StrCat("Job cannot be cancelled in '",
                       Capitalized(JobStatusName(status)), "' status."));
    }
  }
  if (step == kCancelOpen) EndJob(job, JobStatus::kCancelled);
  if (step == kCancelRunning) {
    commit_.Add(
        job->partition,
        [&](std::string* out) {
          AppendRecord(JobCancelRequestedRecord{job->serial}, out);
        },
        [self = shared_from_this(), job](const absl::Status& status) {
          if (status.ok()) self->CloseSlices(*job, Job::kCancel);
        });
  }
  const absl::Status durable = commit_.Sync(job->partition);
  if (!durable.ok()) return NotDurable("the cancel", durable);
  return job->Info();
}

// ---------------------------------------------------------- wait and watch

absl::StatusOr<JobInfo> Dispatcher::WaitJob(absl::string_view job_id,
                                            absl::Duration timeout) const {
  absl::StatusOr<JobPtr> found = FindJob(job_id);
  if (!found.ok()) return found.status();
  const Job* job = found->get();
  bool ended;
  {
    absl::MutexLock lock(&job->mutex);
    ended = job->mutex.AwaitWithTimeout(
        absl::Condition(
            +[](const Job* j) ABSL_NO_THREAD_SAFETY_ANALYSIS {
              return IsTerminal(j->status) || j->stopped;
            },
            job),
        timeout);
    if (ended && !IsTerminal(job->status)) {
      return absl::CancelledError(absl::StrCat(
          "Job ", job_id,
          " has not ended: the engine was stopped, or has lost its journal"));
    }
  }
  if (!ended) {
    return absl::DeadlineExceededError(
        absl::StrCat("Job ", job_id, " has not ended within ",
                     absl::FormatDuration(timeout)));
  }
  return job->Info();
}

absl::StatusOr<std::shared_ptr<JobWatcher>> Dispatcher::WatchJob(
    absl::string_view job_id, JobCallback callback) {
  absl::StatusOr<JobPtr> found = FindJob(job_id);
  if (!found.ok()) return found.status();
  auto watcher = std::make_shared<JobWatcher>();
  {
    absl::MutexLock lock(&watcher->mutex);
    watcher->callback = std::move(callback);
  }
  absl::MutexLock lock(&(*found)->mutex);
  (*found)->watchers.push_back(watcher);
  NotifyWatchers(**found);
  return watcher;
}

void Dispatcher::ShowChange(Job& job) {
  ++job.revision;
  NotifyWatchers(job);
}

void Dispatcher::NotifyWatchers(Job& job) {
  for (auto& watcher : job.watchers) {
    if (watcher->scheduled.exchange(true)) continue;
    workers_->Post([this, job = job.shared_from_this(), watcher]() {
      DeliverToWatcher(job, watcher);
    });
  }
}

void Dispatcher::DeliverToWatcher(const JobPtr& job,
                                  const std::shared_ptr<JobWatcher>& watcher) {
  bool over;
  {
    // One delivery at a time, and each reads the job anew: never the past.
    absl::MutexLock lock(&watcher->mutex);
    // Before the job is read, so that a change after that schedules us again.
    watcher->scheduled.store(false);
    if (watcher->callback && !watcher->ended) {
      const JobInfo info = job->Info();
      watcher->ended = IsTerminal(info.status);
      watcher->callback(info);
    }
    over = watcher->ended || !watcher->callback;
  }
  if (!over) return;
  absl::MutexLock lock(&job->mutex);
  auto& watchers = job->watchers;
  watchers.erase(std::remove(watchers.begin(), watchers.end(), watcher),
                 watchers.end());
}

}  // namespace muster
