// Workers, timers, and the transport's reports.
#include "engine/dispatch/dispatcher.h"

#include <algorithm>
#include <utility>

#include "absl/memory/memory.h"
#include "engine/dispatch/attempt_key.h"
#include "engine/model/check.h"
#include "engine/model/limits.h"

namespace muster {
namespace {

// Timers of each clock that a worker looks after before it takes an item: a
// few, so that nobody waits while those of a thousand jobs are due.
constexpr int kTimersPerStep = 8;

// A run costs at least as much as one that serves so many rows: to take in
// outcomes is work too.
constexpr int64_t kRowsPerRunMin = 256;

// Width of a bucket of virtual time.  The window is 16,383 buckets, a run of
// the default weight four of them.  Wider, and weights over 400 would not hold
// between two slices; narrower, and fewer than 4,000 slices of the default
// weight would fit.
constexpr int kVirtualTimeShift = 6;

// The same for tokens: what a slice takes at a time is sixteen buckets, so that
// all weights hold, and a thousand slices fit.
constexpr int64_t kPacedUnitsPerTurn = 1024;
constexpr int kPacedTimeShift = 6;

ReadyQueue::Options ReadyOptions(const Executor& executor) {
  ReadyQueue::Options options;
  options.shards = std::min(
      {executor.concurrency(), ReadyQueue::Cores(), ReadyQueue::kShardsMax});
  options.key_shift = kVirtualTimeShift;
  options.classes = kJobPriorities;
  return options;
}

// What waits for tokens is popped by one worker at a time: no shards.
ReadyQueue::Options PacedOptions(const ReadyQueue& ready) {
  ReadyQueue::Options options;
  options.slots = ready.slots();
  options.classes = kJobPriorities;
  options.key_shift = kPacedTimeShift;
  return options;
}

}  // namespace

Dispatcher::Dispatcher(const Options& options)
    : options_(options),
      clock_(*options.clock),
      executor_(*options.executor),
      transport_(*options.transport),
      wants_device_ids_(transport_.wants_device_ids()),
      commit_(*options.commit),
      index_(*options.index),
      notifier_(*options.notifier),
      ready_(ReadyOptions(executor_)),
      timers_(ready_.slots()),
      wall_timers_(ready_.slots()),
      pacer_(options.profile.job_device_operations_per_second),
      workers_(std::make_shared<Workers>(&executor_, &clock_,
                                         static_cast<WorkSource*>(this))),
      scratches_(workers_->count()),
      snapshot_times_(static_cast<size_t>(commit_.partition_count()),
                      clock_.Monotonic() - absl::Hours(24)),
      paced_(PacedOptions(ready_)),
      paced_units_per_token_(std::max<int64_t>(
          1, kPacedUnitsPerTurn /
                 std::min<int64_t>(
                     {options.range_rows_max, kRangeRows, pacer_.share()}))),
      tokens_timer_(ready_.slots(), Timer::Kind::kTokens),
      rechecks_(DeadlineStore::Options(), clock_.Monotonic()),
      rechecks_timer_(ready_.slots(), Timer::Kind::kRechecks),
      methods_({.clock = &clock_,
                .transport = &transport_,
                .index = &index_,
                .workers = workers_.get(),
                .state_of = [this](const Shard& shard) -> ShardState& {
                  return StateOf(shard);
                },
                .parse = options.parse,
                .epoch = commit_.epoch(0)}) {}

Dispatcher::~Dispatcher() {
  // What is still queued holds its job, which holds what is queued.
  std::vector<std::shared_ptr<void>> owners;
  while (auto* item = static_cast<Work*>(ready_.Pop())) {
    owners.push_back(std::move(item->owner));
  }
  while (auto* item = static_cast<SliceWork::TokenWait*>(paced_.Pop())) {
    owners.push_back(std::move(item->owner));
  }
  for (DelayQueue* queue : {&timers_, &wall_timers_}) {
    while (auto* timer = static_cast<Timer*>(queue->PopDue(
               absl::InfiniteDuration(), [](auto*) { return false; }))) {
      if (timer->kind == Timer::Kind::kJob) {
        delete static_cast<JobTimer*>(timer);
      } else if (timer->kind == Timer::Kind::kResponses) {
        owners.push_back(
            std::move(static_cast<SliceWork::ResponseTimer*>(timer)->owner));
      }
    }
  }
}

void Dispatcher::Stop() {
  workers_->Stop();
  // Whoever waits for a job waits for nothing now.
  absl::MutexLock lock(&jobs_mutex_);
  for (auto& [id, job] : jobs_) {
    absl::MutexLock job_lock(&job->mutex);
    job->stopped = true;
  }
}

Slice::Stamp Dispatcher::Now() const {
  return {clock_.Now(), clock_.Monotonic()};
}

ShardState& Dispatcher::StateOf(const Shard& shard) {
  const size_t index = static_cast<size_t>(shard.index());
  {
    absl::ReaderMutexLock lock(&states_mutex_);
    if (index < states_.size()) return *states_[index];
  }
  absl::MutexLock lock(&states_mutex_);
  while (states_.size() <= index) {
    states_.push_back(std::make_unique<ShardState>());
  }
  return *states_[index];
}

// ----------------------------------------------------------------- workers

bool Dispatcher::RunOne(int worker) {
  const absl::Duration now = clock_.Monotonic();
  bool found = ExpireTimers(now);
  if (methods_.RunSome(now)) found = true;
  Work* work = static_cast<Work*>(ready_.Pop());
  if (work == nullptr) return found;
  queued_.fetch_sub(1, std::memory_order_relaxed);
  const std::shared_ptr<void> owner = std::move(work->owner);
  work->Begin();
  if (work->kind == Work::Kind::kEvaluation) {
    // The last evaluation of a job deletes all of them.
    RunEvaluation(static_cast<EvaluationWork&>(*work));
    return true;
  }
  auto& slice = static_cast<SliceWork&>(*work);
  Scratch& scratch = scratches_[worker];
  scratch.rows = 0;
  RunSlice(slice, scratch);
  const int64_t cost =
      Charge(*slice.job, std::max<int64_t>(scratch.rows, kRowsPerRunMin));
  slice.job->virtual_time.fetch_add(static_cast<uint64_t>(cost - work->charged),
                                    std::memory_order_relaxed);
  if (slice.End()) Push(&slice, *slice.job);
  return true;
}

bool Dispatcher::HasWork() { return !ready_.empty() || methods_.HasWork(); }

uint64_t Dispatcher::CatchUp(std::atomic<uint64_t>& time,
                             uint64_t virtual_time) {
  uint64_t own = time.load(std::memory_order_relaxed);
  while (own < virtual_time &&
         !time.compare_exchange_weak(own, virtual_time,
                                     std::memory_order_relaxed)) {
  }
  return std::max(own, virtual_time);
}

int64_t Dispatcher::Charge(const Job& job, int64_t rows) {
  return rows * kJobWeightDefault / job.request.weight;
}

void Dispatcher::ChargeTokens(Job& job, int64_t tokens) {
  if (pacer_.unlimited()) return;
  job.paced_time.fetch_add(
      static_cast<uint64_t>(Charge(job, tokens * paced_units_per_token_)),
      std::memory_order_relaxed);
}

void Dispatcher::Push(Work* work, Job& job) {
  const int priority = static_cast<int>(job.request.priority);
  work->owner = job.shared_from_this();
  // Charged in advance, so that the thousand slices of a job that starts line
  // up one behind the other, with room between them for a smaller job's.
  work->charged = Charge(job, kRowsPerRunMin);
  const uint64_t key = CatchUp(job.virtual_time, ready_.virtual_time(priority));
  job.virtual_time.fetch_add(static_cast<uint64_t>(work->charged),
                             std::memory_order_relaxed);
  queued_.fetch_add(1, std::memory_order_relaxed);
  ready_.Push(work, key, priority);
  workers_->Wake();
}

void Dispatcher::Wake(SliceWork& slice) {
  if (slice.ClaimByWake()) Push(&slice, *slice.job);
}

void Dispatcher::Post(void (Dispatcher::*step)(JobPtr), JobPtr job) {
  workers_->Post([this, step, job = std::move(job)]() { (this->*step)(job); });
}

// ------------------------------------------------------------------ timers

absl::Duration Dispatcher::NextDue() {
  const absl::Duration due = std::min(timers_.NextDue(), methods_.NextDue());
  const absl::Duration wall_due = wall_timers_.NextDue();
  if (wall_due == absl::InfiniteDuration()) return due;
  return std::min(due, PlanFor(wall_due));
}

absl::Duration Dispatcher::PlanFor(absl::Duration wall_due) {
  // No clock says when it is set forward: look again in between, more often
  // when the time is near.
  const absl::Duration left = wall_due - (clock_.Now() - absl::UnixEpoch());
  return clock_.Monotonic() + std::min(left, left > absl::Hours(24)
                                                 ? absl::Hours(1)
                                                 : absl::Minutes(1));
}

void Dispatcher::AddTimer(Timer* timer, absl::Duration due) {
  timers_.Push(timer, due, clock_.Monotonic());
  workers_->WakeAt(absl::Ceil(due, DelayQueue::kTick));
}

void Dispatcher::AddJobTimer(JobTimer::Event event, const Job& job,
                             absl::Duration due) {
  AddTimer(new JobTimer(ready_.slots(), event, job.serial), due);
}

void Dispatcher::AddWallTimer(JobTimer::Event event, const Job& job,
                              absl::Time due) {
  const absl::Duration since_epoch = due - absl::UnixEpoch();
  wall_timers_.Push(new JobTimer(ready_.slots(), event, job.serial),
                    since_epoch, clock_.Now() - absl::UnixEpoch());
  workers_->WakeAt(PlanFor(absl::Ceil(since_epoch, DelayQueue::kTick)));
}

void Dispatcher::ArmTokensTimer(absl::Duration due) {
  if (tokens_timer_armed_.exchange(true)) return;
  AddTimer(&tokens_timer_, due);
}

bool Dispatcher::AddRecheck(AttemptKey attempt, absl::Duration due) {
  absl::MutexLock lock(&rechecks_mutex_);
  if (!rechecks_.Add(due, attempt.value)) return false;
  if (!rechecks_armed_) {
    rechecks_armed_ = true;
    AddTimer(&rechecks_timer_, due);
  }
  return true;
}

bool Dispatcher::IsWanted(const Timer& timer) const {
  if (timer.kind != Timer::Kind::kJob) return true;
  const auto& job_timer = static_cast<const JobTimer&>(timer);
  const JobPtr job = FindBySerial(job_timer.job);
  if (job == nullptr) return false;
  if (job_timer.event == JobTimer::kHistoryEnd) return true;
  absl::MutexLock lock(&job->mutex);
  return !IsTerminal(job->status);
}

bool Dispatcher::ExpireTimers(absl::Duration now) {
  const auto wanted = [this](DelayQueue::Timer* timer) {
    return IsWanted(*static_cast<Timer*>(timer));
  };
  bool found = false;
  const auto expire = [&](DelayQueue& queue, absl::Duration queue_now) {
    for (int n = 0; n < kTimersPerStep; ++n) {
      auto* timer = static_cast<Timer*>(queue.PopDue(queue_now, wanted));
      if (timer == nullptr) return;
      OnDue(timer, now);
      found = true;
    }
  };
  expire(timers_, now);
  expire(wall_timers_, clock_.Now() - absl::UnixEpoch());
  return found;
}

void Dispatcher::OnDue(Timer* timer, absl::Duration now) {
  switch (timer->kind) {
    case Timer::Kind::kJob:
      OnJobTimer(*absl::WrapUnique(static_cast<JobTimer*>(timer)));
      return;
    case Timer::Kind::kResponses: {
      auto& responses = static_cast<SliceWork::ResponseTimer&>(*timer);
      SliceWork& slice = *responses.work;
      const std::shared_ptr<Job> owner = std::move(responses.owner);
      slice.response_timer_due.store(true);
      Wake(slice);
      return;
    }
    case Timer::Kind::kTokens:
      OnTokens(now);
      return;
    case Timer::Kind::kRechecks:
      OnRechecks(now);
      return;
  }
}

void Dispatcher::OnJobTimer(const JobTimer& timer) {
  const JobPtr job = FindBySerial(timer.job);
  if (job == nullptr) return;
  switch (timer.event) {
    case JobTimer::kStart:
      BecomeDue(job);
      return;
    case JobTimer::kHistoryEnd:
      RemoveExpired(job);
      return;
    case JobTimer::kDeadline:
    case JobTimer::kConnectTimeout: {
      {
        absl::MutexLock lock(&job->mutex);
        if (IsTerminal(job->status)) return;
      }
      CloseSlices(*job, timer.event == JobTimer::kDeadline
                            ? Job::kDeadline
                            : Job::kConnectTimeout);
      return;
    }
  }
}

void Dispatcher::OnTokens(absl::Duration now) {
  tokens_timer_armed_.store(false);
  for (int64_t tokens = pacer_.Available(now); tokens > 0; --tokens) {
    auto* item = static_cast<SliceWork::TokenWait*>(paced_.Pop());
    if (item == nullptr) return;
    const std::shared_ptr<Job> owner = std::move(item->owner);
    item->work->paced.store(false);
    Wake(*item->work);
  }
  // Those that were woken may leave their tokens: the others come next.
  if (!paced_.empty()) ArmTokensTimer(now + pacer_.interval());
}

void Dispatcher::OnRechecks(absl::Duration now) {
  constexpr int kRechecksPerStep = 256;
  std::vector<uint64_t> due;
  {
    absl::MutexLock lock(&rechecks_mutex_);
    rechecks_.ExpireDue(now, kRechecksPerStep, &due);
    const absl::Duration next = rechecks_.NextDue();
    rechecks_armed_ = next < absl::InfiniteDuration();
    if (rechecks_armed_) AddTimer(&rechecks_timer_, next);
  }
  for (uint64_t value : due) {
    const AttemptKeyParts parts = SplitAttemptKey({value});
    const JobPtr job = FindBySerial(parts.job);
    if (job == nullptr) continue;
    SliceWork& work = *job->slices[parts.slice];
    {
      absl::MutexLock lock(&work.shard->mutex);
      // Another attempt, or the device has come back: not this one's to wake.
      if (!work.slice.IsWaiting(parts.rank) ||
          work.slice.attempt(parts.rank) != parts.attempt) {
        continue;
      }
      work.slice.Wake(parts.rank);
    }
    Wake(work);
  }
}

// -------------------------------------------------- the transport's reports

void Dispatcher::OnOutcomes(absl::Span<const Outcome> outcomes) {
  while (!outcomes.empty()) {
    const AttemptKeyParts first = SplitAttemptKey(outcomes[0].attempt);
    // A range comes back together, as a rule: one look-up for all of it.
    size_t count = 1;
    while (count < std::min<size_t>(outcomes.size(), kOutcomesPerBlock) &&
           OfSameSlice(outcomes[count].attempt, outcomes[0].attempt)) {
      ++count;
    }
    const absl::Span<const Outcome> run = outcomes.subspan(0, count);
    outcomes.remove_prefix(count);
    if (first.job == 0) {
      dropped_.fetch_add(methods_.OnOutcomes(run), std::memory_order_relaxed);
      continue;
    }

    const JobPtr job = FindBySerial(first.job);
    // Acquire: what runs has its slices.
    if (job == nullptr || !job->running.load(std::memory_order_acquire) ||
        first.slice >= job->slices.size()) {
      dropped_.fetch_add(static_cast<int64_t>(count),
                         std::memory_order_relaxed);
      continue;
    }
    SliceWork& slice = *job->slices[first.slice];
    OutcomeBlock<OutcomePolicy>* const block = outcome_pool_->Take(count);
    for (const Outcome& outcome : run) {
      block->Add(SplitAttemptKey(outcome.attempt), outcome);
    }
    if (!slice.outcomes.Push(block)) {
      dropped_.fetch_add(static_cast<int64_t>(count),
                         std::memory_order_relaxed);
      outcome_pool_->GiveBack(block);
    }
    // Also if it was full: those who filled it may be stopped before this.
    Wake(slice);
  }
}

void Dispatcher::OnConnections(absl::Span<const ConnectionChange> changes,
                               absl::Span<ConnectionAnswer> answers) {
  MUSTER_CHECK(answers.empty() || answers.size() == changes.size());
  const absl::Time now = clock_.Now();
  for (size_t i = 0; i < changes.size(); ++i) {
    const ConnectionChange& change = changes[i];
    const TwinConnection met = index_.SetConnected(
        change.device_id, change.connected, now, change.link);
    if (!answers.empty()) {
      answers[i] = {.known = met.known, .previous_link = met.previous_link};
    }
  }
}

void Dispatcher::OnReady() {
  ready_epoch_.fetch_add(1);
  std::vector<std::pair<JobPtr, SliceWork*>> blocked;
  {
    absl::MutexLock lock(&blocked_mutex_);
    blocked.swap(blocked_);
  }
  for (auto& [job, slice] : blocked) {
    slice->blocked.store(false);
    Wake(*slice);
  }
  methods_.OnReady();
}

void Dispatcher::OnJournalResumed(int partition) {
  for (int i = 0; i < index_.shard_count(); ++i) {
    Shard& shard = index_.shard(i);
    if (shard.partition() != partition) continue;
    absl::MutexLock lock(&shard.mutex);
    for (SliceWork* work : StateOf(shard).active) Wake(*work);
  }
}

void Dispatcher::OnRowErased(Shard& shard, int row) {
  OnRowChanged(shard, row);
  const std::multiset<uint64_t>& cuts = StateOf(shard).cuts;
  if (cuts.empty()) shard.RetainCutsFrom(shard.sequence());
}

void Dispatcher::OnRowChanged(Shard& shard, int row) {
  methods_.OnRowChanged(shard, row);
  for (SliceWork* work : StateOf(shard).active) {
    work->shard->mutex.AssertHeld();  // It is this shard's.
    const int rank = work->slice.targets().RankOf(row);
    if (rank < 0 || !work->slice.IsWaiting(static_cast<Slice::Rank>(rank))) {
      continue;
    }
    work->slice.Wake(static_cast<Slice::Rank>(rank));
    Wake(*work);
  }
}

void Dispatcher::InvokeMethod(absl::string_view device_id,
                              const MethodAction& action, MethodCallback done) {
  if (!workers_->Enter()) {
    std::move(done)(MakeError(ErrorCode::kServiceUnavailable,
                              "the engine has been stopped"));
    return;
  }
  methods_.Invoke(device_id, action, std::move(done));
  workers_->Leave();
}

DispatcherStats Dispatcher::Stats() const {
  DispatcherStats stats;
  for (size_t i = 0; i < jobs_by_status_.size(); ++i) {
    stats.jobs[i] = jobs_by_status_[i].load(std::memory_order_relaxed);
  }
  stats.ready_queue_depth = queued_.load(std::memory_order_relaxed);
  stats.executions_dispatched = dispatched_.load(std::memory_order_relaxed);
  stats.executions_pending = pending_.load(std::memory_order_relaxed);
  stats.executions_in_flight = in_flight_.load(std::memory_order_relaxed);
  {
    absl::MutexLock lock(&ended_mutex_);
    stats.executions_ended = ended_;
  }
  stats.first_dispatch = first_dispatch_.Read();
  stats.execution_time = execution_time_.Read();
  stats.outcomes_dropped = dropped_.load(std::memory_order_relaxed);
  stats.direct_methods = methods_.Stats();
  stats.snapshots = snapshots_.load(std::memory_order_relaxed);
  stats.snapshots_failed = snapshots_failed_.load(std::memory_order_relaxed);
  stats.workers = workers_->Stats();
  return stats;
}

}  // namespace muster
