// Workers, timers, and the transport's reports.
#include "engine/dispatch/dispatcher.h"

#include <algorithm>
#include <utility>

#include "engine/dispatch/attempt_key.h"

namespace muster {
namespace {

// Items that a worker runs before it lets the executor's other callbacks in.
constexpr int kItemsPerTurn = 16;

// Rows of virtual time that count as the same: a fraction of what a slice is
// served at a time, and enough of them in the queue's window that a job over a
// hundred million devices is in order.
constexpr int kVirtualTimeShift = 12;

ReadyQueue::Options ReadyOptions(const Executor& executor) {
  ReadyQueue::Options options;
  options.shards = std::min(executor.concurrency(), ReadyQueue::Cores());
  options.key_shift = kVirtualTimeShift;
  return options;
}

// What waits for tokens is popped by one worker at a time: no shards.
ReadyQueue::Options PacedOptions(const ReadyQueue& ready) {
  ReadyQueue::Options options;
  options.slots = ready.slots();
  options.key_shift = kVirtualTimeShift;
  return options;
}

}  // namespace

Dispatcher::Dispatcher(const Options& options)
    : options_(options),
      clock_(*options.clock),
      executor_(*options.executor),
      transport_(*options.transport),
      commit_(*options.commit),
      index_(*options.index),
      notifier_(*options.notifier),
      ready_(ReadyOptions(executor_)),
      pacer_(options.profile.job_device_operations_per_second),
      paced_(PacedOptions(ready_)) {}

Dispatcher::~Dispatcher() {
  // What is still queued holds its job, which holds what is queued.
  std::vector<std::shared_ptr<void>> owners;
  while (auto* item = static_cast<Work*>(ready_.Pop())) {
    owners.push_back(std::move(item->owner));
  }
  while (auto* item = static_cast<SliceWork::TokenWait*>(paced_.Pop())) {
    owners.push_back(std::move(item->owner));
  }
}

void Dispatcher::Stop() {
  {
    absl::MutexLock lock(&pool_mutex_);
    stopping_.store(true);
    pool_mutex_.Await(
        absl::Condition(+[](int* inside) { return *inside == 0; }, &inside_));
  }
  // Whoever waits for a job waits for nothing now.
  absl::MutexLock lock(&jobs_mutex_);
  for (auto& [id, job] : jobs_) {
    absl::MutexLock job_lock(&job->mutex);
    job->stopped = true;
  }
}

bool Dispatcher::Enter() {
  absl::MutexLock lock(&pool_mutex_);
  if (stopping_.load()) return false;
  ++inside_;
  return true;
}

void Dispatcher::Leave() {
  absl::MutexLock lock(&pool_mutex_);
  --inside_;
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

void Dispatcher::StartWorker() {
  int workers = workers_.load();
  do {
    if (stopping_.load() || workers >= executor_.concurrency()) return;
  } while (!workers_.compare_exchange_weak(workers, workers + 1));
  executor_.Run([self = weak_from_this()]() {
    auto dispatcher = self.lock();
    if (dispatcher == nullptr || !dispatcher->Enter()) return;
    dispatcher->RunWorker();
    dispatcher->Leave();
  });
}

void Dispatcher::RunWorker() {
  std::unique_ptr<Scratch> scratch;
  {
    absl::MutexLock lock(&pool_mutex_);
    if (!scratches_.empty()) {
      scratch = std::move(scratches_.back());
      scratches_.pop_back();
    }
  }
  if (scratch == nullptr) scratch = std::make_unique<Scratch>();

  for (int n = 0; n < kItemsPerTurn && !stopping_.load(); ++n) {
    ExpireTimers();
    Work* work = static_cast<Work*>(ready_.Pop());
    if (work == nullptr) break;
    const std::shared_ptr<void> owner = std::move(work->owner);
    work->Begin();
    if (auto* slice = dynamic_cast<SliceWork*>(work)) {
      RunSlice(*slice, *scratch);
      if (slice->End()) Push(slice, *slice->job);
    } else {
      // The last evaluation of a job deletes all of them.
      RunEvaluation(static_cast<EvaluationWork&>(*work));
    }
  }

  ArmTimer();
  {
    absl::MutexLock lock(&pool_mutex_);
    scratches_.push_back(std::move(scratch));
  }
  workers_.fetch_sub(1);
  // Pushed after our last Pop() while we still counted as a worker.
  if (!ready_.empty()) StartWorker();
}

uint64_t Dispatcher::CatchUp(Job& job, uint64_t virtual_time) {
  uint64_t own = job.virtual_time.load(std::memory_order_relaxed);
  while (own < virtual_time &&
         !job.virtual_time.compare_exchange_weak(own, virtual_time,
                                                 std::memory_order_relaxed)) {
  }
  return std::max(own, virtual_time);
}

void Dispatcher::Push(Work* work, Job& job) {
  work->owner = job.shared_from_this();
  ready_.Push(work, CatchUp(job, ready_.virtual_time()));
  StartWorker();
}

void Dispatcher::Wake(SliceWork& slice) {
  if (slice.ClaimByWake()) Push(&slice, *slice.job);
}

void Dispatcher::Post(void (Dispatcher::*step)(JobPtr), JobPtr job) {
  executor_.Run([self = weak_from_this(), step, job = std::move(job)]() {
    auto dispatcher = self.lock();
    if (dispatcher == nullptr || !dispatcher->Enter()) return;
    (dispatcher.get()->*step)(job);
    dispatcher->Leave();
  });
}

// ------------------------------------------------------------------ timers

void Dispatcher::AddTimer(absl::Duration due, const TimerEvent& event) {
  if (timers_.Add(due, event)) ArmTimer();
}

void Dispatcher::AddStartTimer(absl::Time due, const TimerEvent& event) {
  if (start_timers_.Add(due, event)) ArmTimer();
}

void Dispatcher::AddWallTimer(absl::Time due, const TimerEvent& event) {
  if (wall_timers_.Add(due, event)) ArmTimer();
}

void Dispatcher::ArmTokensTimer(absl::Duration due) {
  if (tokens_timer_armed_.exchange(true)) return;
  AddTimer(due, {TimerEvent::kTokens, 0, 0});
}

void Dispatcher::ArmTimer() {
  if (stopping_.load()) return;
  const absl::Duration now = clock_.Monotonic();
  absl::Duration due = absl::InfiniteDuration();
  if (auto next = timers_.NextDue()) due = *next;
  if (auto next = wall_timers_.NextDue()) {
    due = std::min(due, now + (*next - clock_.Now()));
  }
  if (auto next = start_timers_.NextDue()) {
    // No clock says when it is set: look again in between.
    const absl::Duration left = *next - clock_.Now();
    due = std::min(
        due, now + std::min(left, left > absl::Hours(24) ? absl::Hours(1)
                                                         : absl::Minutes(1)));
  }
  if (due == absl::InfiniteDuration()) return;
  {
    absl::MutexLock lock(&timer_mutex_);
    if (armed_ <= due) return;
    armed_ = due;
  }
  executor_.RunAt(due, [self = weak_from_this(), due]() {
    auto dispatcher = self.lock();
    if (dispatcher == nullptr) return;
    {
      absl::MutexLock lock(&dispatcher->timer_mutex_);
      if (dispatcher->armed_ == due) {
        dispatcher->armed_ = absl::InfiniteDuration();
      }
    }
    // A worker expires timers first, and arms the next when it leaves.  If all
    // are busy, one of them does.
    dispatcher->StartWorker();
  });
}

void Dispatcher::ExpireTimers() {
  // A few at a time: other workers do not wait while a thousand jobs end.
  constexpr int kEventsMax = 64;
  const absl::Duration monotonic = clock_.Monotonic();
  const absl::Time now = clock_.Now();
  for (int n = 0; n < kEventsMax; ++n) {
    std::optional<TimerEvent> event = timers_.PopDue(monotonic);
    if (!event.has_value()) event = start_timers_.PopDue(now);
    if (!event.has_value()) event = wall_timers_.PopDue(now);
    if (!event.has_value()) return;
    OnTimer(*event);
  }
}

void Dispatcher::OnTimer(const TimerEvent& event) {
  if (event.kind == TimerEvent::kTokens) {
    const absl::Duration now = clock_.Monotonic();
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
    return;
  }
  JobPtr job = FindBySerial(event.job);
  if (job == nullptr) return;
  switch (event.kind) {
    case TimerEvent::kStart:
      BecomeDue(job);
      return;
    case TimerEvent::kHistoryEnd:
      RemoveExpired(job);
      return;
    case TimerEvent::kDeadline:
    case TimerEvent::kConnectTimeout: {
      {
        absl::MutexLock lock(&job->mutex);
        if (IsTerminal(job->status)) return;
      }
      CloseSlices(*job, event.kind == TimerEvent::kDeadline
                            ? Job::kDeadline
                            : Job::kConnectTimeout);
      return;
    }
    case TimerEvent::kResponseTimeout: {
      SliceWork& slice = *job->slices[event.slice];
      slice.response_timer_due.store(true);
      Wake(slice);
      return;
    }
    case TimerEvent::kRecheck: {
      SliceWork& slice = *job->slices[event.slice];
      slice.recheck_due.store(true);
      Wake(slice);
      return;
    }
    case TimerEvent::kTokens:
      return;
  }
}

// -------------------------------------------------- the transport's reports

void Dispatcher::OnOutcomes(absl::Span<const Outcome> outcomes) {
  size_t i = 0;
  while (i < outcomes.size()) {
    // A range comes back together, as a rule: one look-up for all of it.
    const AttemptKeyParts first = SplitAttemptKey(outcomes[i].attempt);
    JobPtr job = FindBySerial(first.job);
    // Acquire: what runs has its slices.
    if (job == nullptr || !job->running.load(std::memory_order_acquire) ||
        first.slice >= job->slices.size()) {
      dropped_.fetch_add(1, std::memory_order_relaxed);
      ++i;
      continue;
    }
    SliceWork& slice = *job->slices[first.slice];
    {
      absl::MutexLock lock(&slice.inbox_mutex);
      for (; i < outcomes.size(); ++i) {
        const Outcome& outcome = outcomes[i];
        const AttemptKeyParts parts = SplitAttemptKey(outcome.attempt);
        if (parts.job != first.job || parts.slice != first.slice) break;
        slice.inbox.entries.push_back(
            {parts.rank, parts.attempt, outcome.code, outcome.status,
             static_cast<uint32_t>(outcome.payload.size())});
        slice.inbox.payloads.append(outcome.payload.data(),
                                    outcome.payload.size());
      }
    }
    Wake(slice);
  }
}

void Dispatcher::OnConnections(absl::Span<const ConnectionChange> changes) {
  const absl::Time now = clock_.Now();
  for (const ConnectionChange& change : changes) {
    index_.SetConnected(change.device_id, change.connected, now);
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
}

void Dispatcher::OnRowErased(Shard& shard, int row) {
  OnRowChanged(shard, row);
  const std::multiset<uint64_t>& cuts = StateOf(shard).cuts;
  if (cuts.empty()) shard.RetainCutsFrom(shard.sequence());
}

void Dispatcher::OnRowChanged(Shard& shard, int row) {
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

DispatcherStats Dispatcher::Stats() const {
  return {dispatched_.load(std::memory_order_relaxed),
          dropped_.load(std::memory_order_relaxed)};
}

}  // namespace muster
