// From the journal and back: recovery, and the snapshots that keep it short.
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/dispatch/dispatcher.h"
#include "engine/dispatch/replay.h"
#include "engine/dispatch/slice_records.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/schedule/parallel.h"
#include "engine/twin/shard_snapshot.h"

namespace muster {
namespace {

absl::Status InPartition(int partition, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat("partition ", partition, ": ",
                                                  status.message()));
}

absl::Status InJob(const ReplayedJob& job, absl::string_view what) {
  return absl::DataLossError(
      absl::StrCat("job ", job.created.job_id, ": ", what));
}

}  // namespace

// ---------------------------------------------------------------- recovery

absl::Status Dispatcher::Recover(
    const std::function<void(int done, int partitions)>& progress) {
  const int count = commit_.partition_count();
  std::vector<PartitionReplay> replays(static_cast<size_t>(count));
  std::vector<std::vector<Shard*>> shards(static_cast<size_t>(count));
  std::vector<absl::Status> results(static_cast<size_t>(count));
  absl::Mutex progress_mutex;
  int done = 0;
  ForEachInParallel(executor_, count, [&](int i) {
    const size_t at = static_cast<size_t>(i);
    results[at] = RecoverPartition(i, &replays[at], &shards[at]);
    absl::MutexLock lock(&progress_mutex);
    ++done;
    if (progress) progress(done, count);
  });
  for (int i = 0; i < count; ++i) {
    const absl::Status& status = results[static_cast<size_t>(i)];
    if (!status.ok()) return InPartition(i, status);
  }

  // Slices of a job stand where its devices live.
  std::map<uint64_t, std::vector<RecoveredSlice>> slices;
  uint64_t next_serial = 1;
  for (int i = 0; i < count; ++i) {
    PartitionReplay& replay = replays[static_cast<size_t>(i)];
    next_serial = std::max(next_serial, replay.next_job);
    for (auto& [key, slice] : replay.slices) {
      // A slice is made before anything is said of its shard's twins only if
      // the shard is damaged.
      Shard* const shard = slice.shard < shards[static_cast<size_t>(i)].size()
                               ? shards[static_cast<size_t>(i)][slice.shard]
                               : nullptr;
      if (shard == nullptr) {
        return InPartition(i, absl::DataLossError(absl::StrCat(
                                  "there is no shard ", slice.shard)));
      }
      slices[key.first].push_back({key.second, shard, &slice});
    }
  }
  {
    absl::MutexLock lock(&jobs_mutex_);
    next_serial_ = next_serial;
  }
  for (auto& [serial, of_job] : slices) {
    std::sort(of_job.begin(), of_job.end(),
              [](const RecoveredSlice& a, const RecoveredSlice& b) {
                return a.number < b.number;
              });
  }
  for (PartitionReplay& replay : replays) {
    const int partition = static_cast<int>(&replay - replays.data());
    for (auto& [serial, job] : replay.jobs) {
      absl::Status status = RecoverJob(partition, serial, job, &slices[serial]);
      if (!status.ok()) return InPartition(partition, status);
    }
  }
  for (int i = 0; i < index_.shard_count(); ++i) {
    Shard& shard = index_.shard(i);
    absl::MutexLock lock(&shard.mutex);
    const std::multiset<uint64_t>& cuts = StateOf(shard).cuts;
    shard.RetainCutsFrom(cuts.empty() ? shard.sequence() : *cuts.begin());
  }
  return absl::OkStatus();
}

absl::Status Dispatcher::RecoverPartition(int partition,
                                          PartitionReplay* replay,
                                          std::vector<Shard*>* shards) {
  absl::Status status = commit_.Recover(
      partition,
      [&](absl::string_view records) { return replay->Visit(records); });
  if (status.ok()) status = replay->Finish();
  if (!status.ok()) return status;
  for (std::unique_ptr<Shard>& shard : replay->shards.Take()) {
    // Its first record may have been lost with the process; its number is not
    // given to another.
    if (shard == nullptr) shard = std::make_unique<Shard>();
    shards->push_back(shard.get());
    status = index_.Restore(partition, std::move(shard));
    if (!status.ok()) return absl::DataLossError(status.message());
  }
  return absl::OkStatus();
}

absl::Status Dispatcher::RecoverJob(int partition, uint64_t serial,
                                    const ReplayedJob& replayed,
                                    std::vector<RecoveredSlice>* slices) {
  // What was accepted once is not judged by today's options.
  JobParseOptions lenient;
  lenient.body_size_max = replayed.created.body.size();
  absl::StatusOr<JobRequest> request =
      ParseJobRequest(replayed.created.job_id, replayed.created.body, lenient);
  if (!request.ok()) return InJob(replayed, request.status().message());
  if (replayed.created.priority >= kJobPriorities ||
      replayed.created.weight < kJobWeightMin ||
      replayed.created.weight > kJobWeightMax) {
    return InJob(
        replayed,
        absl::StrCat("no job has the priority ", replayed.created.priority,
                     " and the weight ", replayed.created.weight));
  }
  request->priority = static_cast<JobPriority>(replayed.created.priority);
  request->weight = static_cast<int>(replayed.created.weight);
  const JobPtr job = MakeJob(*request, QueryOptions());
  if (serial == 0 || serial > kJobSerialMax || job->partition != partition) {
    return InJob(replayed,
                 absl::StrCat("number ", serial, " does not belong here"));
  }
  job->serial = serial;
  job->created_time = replayed.created.created_time;
  job->start_time = request->start_time.value_or(job->created_time);

  if (replayed.started.has_value()) {
    const JobStartedRecord& started = *replayed.started;
    job->run = started.run;
    job->started_time = started.time;
    job->ran_before =
        std::max(absl::ZeroDuration(), clock_.Now() - started.time);
    JobStatistics statistics{started.device_count, 0, 0, 0, 0};
    int64_t targets = 0;
    for (RecoveredSlice& recovered : *slices) {
      if (recovered.replayed->run != started.run) continue;
      if (recovered.number != job->slices.size()) {
        return InJob(replayed, absl::StrCat("slice ", job->slices.size(),
                                            " is not there"));
      }
      if (!MayBe(recovered)) {
        return InJob(replayed,
                     absl::StrCat("slice ", recovered.number,
                                  " has targets that its shard never had"));
      }
      targets +=
          AddSlice(*job, recovered, replayed.ended.has_value(), &statistics);
    }
    if (job->slices.size() != started.slice_count ||
        targets != started.device_count) {
      return InJob(replayed, absl::StrCat("there are ", targets, " of its ",
                                          started.device_count, " devices in ",
                                          job->slices.size(), " of ",
                                          started.slice_count, " slices"));
    }
    if (replayed.ended.has_value() &&
        statistics.pending_count + statistics.running_count > 0) {
      return InJob(replayed, "it has ended, but not all of its executions");
    }
    slices_retained_.fetch_add(static_cast<int64_t>(job->slices.size()));
    absl::MutexLock lock(&job->mutex);
    job->statistics = statistics;
    job->status = JobStatus::kRunning;
    job->phase = JobPhase::kRunning;
    job->running.store(true, std::memory_order_release);
    // What has passed while it was down has passed before anything is sent.
    const absl::Duration ran = job->ran_before;
    if (ran >= absl::Seconds(job->request.max_execution_time_seconds)) {
      job->close.fetch_or(Job::kDeadline);
    }
  }
  if (replayed.cancel_requested) {
    // Also if the start that it came upon was lost: the next one ends so.
    absl::MutexLock lock(&job->mutex);
    job->final_status = JobStatus::kCancelled;
    job->close.fetch_or(Job::kCancel);
  }
  if (!replayed.started.has_value() && job->start_time > clock_.Now()) {
    absl::MutexLock lock(&job->mutex);
    job->status = JobStatus::kScheduled;  // As it was, a moment after T1.
  }
  if (replayed.ended.has_value()) {
    absl::MutexLock lock(&job->mutex);
    job->phase = JobPhase::kEnded;
    job->status = static_cast<JobStatus>(replayed.ended->status);
    job->end_time = replayed.ended->time;
    job->failure_reason = replayed.ended->failure_reason;
    if (!IsTerminal(job->status) || job->status > JobStatus::kCancelled) {
      return InJob(replayed, absl::StrCat("no end has the number ",
                                          replayed.ended->status));
    }
  }

  {
    absl::MutexLock lock(&job->mutex);
    CountJob(job->status, 1);
    if (job->status == JobStatus::kRunning) {
      pending_.fetch_add(job->statistics->pending_count);
      in_flight_.fetch_add(job->statistics->running_count);
    }
  }
  absl::MutexLock lock(&jobs_mutex_);
  job->visible = true;
  const bool running =
      replayed.started.has_value() && !replayed.ended.has_value();
  const bool due = !replayed.started.has_value() &&
                   !replayed.ended.has_value() &&
                   job->start_time <= clock_.Now();
  if (running || due) {
    job->active = true;
    ++active_jobs_;
  }
  if (running) {
    job->has_slot = true;
    ++slots_used_;
  }
  JobPtr& by_id = jobs_[job->request.job_id];
  // An id that was free again names the newer job.
  if (by_id == nullptr || by_id->serial < serial) {
    if (by_id != nullptr) listing_.erase(ListKeyOf(*by_id));
    by_id = job;
    listing_.emplace(ListKeyOf(*job), job);
  }
  absl::MutexLock serials_lock(&serials_mutex_);
  by_serial_.emplace(serial, job);
  return absl::OkStatus();
}

// Of each target the shard knows which device it was.
bool Dispatcher::MayBe(const RecoveredSlice& recovered) {
  absl::ReaderMutexLock lock(&recovered.shard->mutex);
  const RowSet& targets = recovered.replayed->slice->targets();
  for (int rank = 0; rank < targets.size(); ++rank) {
    if (!recovered.shard->HadDeviceAt(targets.RowAt(rank),
                                      recovered.replayed->cut)) {
      return false;
    }
  }
  return true;
}

int Dispatcher::AddSlice(Job& job, const RecoveredSlice& recovered, bool ended,
                         JobStatistics* statistics) {
  Shard& shard = *recovered.shard;
  ShardState& state = StateOf(shard);
  auto work = std::make_unique<SliceWork>(
      ready_.slots(), outcome_pool_, &job, recovered.number, &shard, &state,
      recovered.replayed->cut, std::move(*recovered.replayed->slice));
  absl::MutexLock lock(&work->shard->mutex);
  state.cuts.insert(work->cut);
  state.retained.push_back(work.get());
  if (!ended) state.active.push_back(work.get());
  const int size = CountSlice(*work, statistics);
  job.slices.push_back(std::move(work));
  return size;
}

int Dispatcher::CountSlice(const SliceWork& work, JobStatistics* statistics) {
  const Slice& slice = work.slice;
  const int succeeded = slice.succeeded_count();
  statistics->pending_count += slice.ready_count() + slice.waiting_count();
  statistics->running_count += slice.running_count();
  statistics->succeeded_count += succeeded;
  statistics->failed_count += slice.size() - slice.open_count() - succeeded;
  return slice.size();
}

std::vector<Dispatcher::JobPtr> Dispatcher::JobsBySerial() const {
  std::vector<JobPtr> jobs;
  {
    absl::ReaderMutexLock lock(&serials_mutex_);
    for (const auto& [serial, job] : by_serial_) jobs.push_back(job);
  }
  // In an order that does not depend on a table's.
  std::sort(jobs.begin(), jobs.end(), [](const JobPtr& a, const JobPtr& b) {
    return a->serial < b->serial;
  });
  return jobs;
}

void Dispatcher::CloseInterrupted() {
  Scratch scratch;
  scratch.timed = false;
  for (const JobPtr& job : JobsBySerial()) {
    if (!job->running.load()) continue;
    for (auto& work : job->slices) {
      absl::MutexLock lock(&work->shard->mutex);
      if (work->slice.running_count() == 0) continue;
      scratch.Clear();
      scratch.now = Now();
      CloseSent(*work, scratch);
      JournalRun(*work, scratch);
    }
  }
}

void Dispatcher::TakeLastOutcomes() {
  MUSTER_CHECK(stopped());
  Scratch scratch;
  for (const JobPtr& job : JobsBySerial()) {
    if (!job->running.load()) continue;
    for (auto& work : job->slices) {
      OutcomeBlock<OutcomePolicy>* const outcomes = work->outcomes.TakeAll();
      if (outcomes == nullptr) continue;
      {
        absl::MutexLock lock(&work->shard->mutex);
        scratch.Clear();
        TakeOutcomes(*work, outcomes, scratch);
        JournalRun(*work, scratch);
      }
      GiveBackOutcomes(outcomes);
    }
  }
  methods_.AnswerAll();
}

void Dispatcher::Resume() {
  for (int i = 0; i < commit_.partition_count(); ++i) commit_.Flush(i);
  for (const JobPtr& job : JobsBySerial()) {
    JobPhase phase;
    absl::Time end;
    {
      absl::MutexLock lock(&job->mutex);
      phase = job->phase;
      end = job->end_time.value_or(absl::InfiniteFuture());
    }
    if (phase == JobPhase::kOpen) {
      Post(&Dispatcher::PickUp, job);
    } else if (phase == JobPhase::kRunning) {
      Post(&Dispatcher::BeginRunning, job);
    } else if (phase == JobPhase::kEnded &&
               !job->history_timed.exchange(true)) {
      AddWallTimer(JobTimer::kHistoryEnd, *job,
                   end + absl::Hours(24) * kJobHistoryDays);
    }
  }
}

// --------------------------------------------------------------- snapshots

absl::Status Dispatcher::WriteSnapshot(int partition) {
  absl::MutexLock lock(&snapshot_mutex_);
  const GroupCommit::Mark mark = commit_.Position(partition);
  // What the chunks before the mark say of jobs is shown once their callbacks
  // have run; of shards and slices, it was so before they were written.
  if (absl::Status s = commit_.Sync(partition); !s.ok()) return s;

  std::vector<std::string> parts(1);
  AppendJobs(partition, &parts.back());
  uint32_t shard_count = 0;
  for (int i = 0; i < index_.shard_count(); ++i) {
    Shard& shard = index_.shard(i);
    if (shard.partition() != partition) continue;
    ++shard_count;
    parts.emplace_back();
    AppendShard(shard, &parts.back());
  }
  AppendRecord(SnapshotEndRecord{shard_count}, &parts.emplace_back());

  // All that is in there has to be durable: nobody may find it after a crash
  // who did not find the records before.
  if (absl::Status s = commit_.Sync(partition); !s.ok()) return s;
  absl::Status written =
      commit_.WriteSnapshot(partition, mark, std::move(parts));
  if (written.ok()) snapshots_.fetch_add(1, std::memory_order_relaxed);
  return written;
}

void Dispatcher::AppendJobs(int partition, std::string* out) {
  std::vector<JobPtr> jobs;
  {
    absl::ReaderMutexLock lock(&jobs_mutex_);
    AppendRecord(SnapshotBeginRecord{next_serial_}, out);
    for (const auto& [id, job] : jobs_) {
      if (job->partition == partition && job->visible) jobs.push_back(job);
    }
  }
  for (const JobPtr& job : jobs) {
    const JobInfo info = job->Info();
    JobCreatedRecord created{job->serial,
                             info.job_id,
                             info.created_time,
                             "",
                             static_cast<uint8_t>(info.priority),
                             static_cast<uint32_t>(info.weight)};
    AppendJobJson(info, &created.body);
    AppendRecord(created, out);
    if (info.statistics.has_value()) {
      AppendRecord(JobStartedRecord{job->serial, job->run, job->started_time,
                                    static_cast<uint32_t>(job->slices.size()),
                                    info.statistics->device_count},
                   out);
    }
    bool cancel_requested;
    {
      absl::MutexLock lock(&job->mutex);
      cancel_requested = job->final_status == JobStatus::kCancelled;
    }
    if (cancel_requested) {
      AppendRecord(JobCancelRequestedRecord{job->serial}, out);
    }
    if (IsTerminal(info.status)) {
      AppendRecord(
          JobEndedRecord{job->serial, static_cast<uint8_t>(info.status),
                         *info.end_time, info.failure_reason},
          out);
    }
  }
}

void Dispatcher::AppendShard(const Shard& shard, std::string* out) {
  absl::MutexLock lock(&shard.mutex);
  const uint64_t sequence = shard.sequence();
  AppendShardWritten(
      static_cast<uint32_t>(shard.number()), sequence,
      [&](std::string* bytes) {
        shard.mutex.AssertReaderHeld();
        ShardSnapshot::Write(shard, bytes);
      },
      out);
  for (const SliceWork* work : StateOf(shard).retained) {
    work->shard->mutex.AssertHeld();  // It is this shard's.
    AppendTargets(*work, sequence, work->job->run, out);
    SliceRecords::Append(work->job->serial, work->number, sequence, work->slice,
                         out);
  }
}

void Dispatcher::RequestSnapshot(int partition) {
  {
    absl::MutexLock lock(&snapshots_due_mutex_);
    snapshots_due_.insert(partition);
    if (std::exchange(snapshot_posted_, true)) return;
  }
  workers_->Post([this]() { TakeDueSnapshot(); });
}

void Dispatcher::RequestSnapshotsWithout(const Job& job) {
  if (!options_.take_snapshots) return;
  // Its bytes are given back within a day and the next end of a history.
  constexpr absl::Duration kAtMostEvery = absl::Hours(24);
  std::set<int> partitions = {job.partition};
  for (const auto& work : job.slices) {
    partitions.insert(work->shard->partition());
  }
  const absl::Duration now = clock_.Monotonic();
  for (const int partition : partitions) {
    {
      absl::MutexLock lock(&snapshots_due_mutex_);
      absl::Duration& last = snapshot_times_[static_cast<size_t>(partition)];
      if (now - last < kAtMostEvery) continue;
      last = now;
    }
    RequestSnapshot(partition);
  }
}

void Dispatcher::TakeDueSnapshot() {
  int partition;
  {
    absl::MutexLock lock(&snapshots_due_mutex_);
    partition = *snapshots_due_.begin();
    snapshots_due_.erase(snapshots_due_.begin());
    snapshot_times_[static_cast<size_t>(partition)] = clock_.Monotonic();
  }
  // After a failure what was there is still there, and later chunks ask again.
  if (!WriteSnapshot(partition).ok()) {
    snapshots_failed_.fetch_add(1, std::memory_order_relaxed);
  }
  {
    absl::MutexLock lock(&snapshots_due_mutex_);
    snapshot_posted_ = !snapshots_due_.empty();
    if (!snapshot_posted_) return;
  }
  // Behind what others have to do meanwhile.
  workers_->Post([this]() { TakeDueSnapshot(); });
}

}  // namespace muster
