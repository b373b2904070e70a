#include "engine/schedule/workers.h"

#include <algorithm>
#include <utility>

namespace muster {

Workers::Workers(Executor* executor, Clock* clock, WorkSource* source)
    : executor_(*executor),
      clock_(*clock),
      source_(*source),
      idle_(std::min(executor->concurrency(), IdleSet<>::kWorkersMax)),
      counters_(std::min(executor->concurrency(), IdleSet<>::kWorkersMax)) {}

bool Workers::Enter() {
  if ((state_.fetch_add(1) & kStopping) == 0) return true;
  Leave();
  return false;
}

void Workers::Leave() {
  if (state_.fetch_sub(1) != (kStopping | 1)) return;
  absl::MutexLock lock(&stop_mutex_);
  all_left_ = true;
}

void Workers::Stop() {
  // One more goes in and out, so that whoever is last says so.
  if ((state_.fetch_add(1) & kStopping) == 0) state_.fetch_or(kStopping);
  Leave();
  absl::MutexLock lock(&stop_mutex_);
  stop_mutex_.Await(absl::Condition(&all_left_));
}

void Workers::Post(Callback callback) {
  executor_.Run(
      [self = weak_from_this(), callback = std::move(callback)]() mutable {
        auto workers = self.lock();
        if (workers == nullptr || !workers->Enter()) return;
        std::move(callback)();
        workers->Leave();
      });
}

void Workers::Wake() {
  if (stopped()) return;
  const int worker = idle_.Claim();
  if (worker >= 0) Start(worker);
}

void Workers::Start(int worker) {
  Post([this, worker]() { RunTurn(worker); });
}

void Workers::RunTurn(int worker) {
  Counters& counters = counters_[worker];
  const absl::Duration begin = clock_.Monotonic();
  int64_t runs = 0;
  bool more = true;
  while (more && runs < kStepsPerTurn && !stopped()) {
    more = source_.RunOne(worker);
    if (more) ++runs;
  }
  const auto add = [](std::atomic<int64_t>& counter, int64_t count) {
    counter.store(counter.load(std::memory_order_relaxed) + count,
                  std::memory_order_relaxed);
  };
  add(counters.turns, 1);
  add(counters.runs, runs);
  add(counters.busy_ns, absl::ToInt64Nanoseconds(clock_.Monotonic() - begin));
  if (stopped()) return;
  if (more) {
    Start(worker);
    return;
  }
  idle_.Release(worker);
  if (source_.HasWork()) {
    Wake();
    return;
  }
  // After the release: a plan that fires from here on finds an idle worker.
  const absl::Duration due = source_.NextDue();
  if (due < absl::InfiniteDuration()) WakeAt(due);
}

void Workers::WakeAt(absl::Duration due) {
  const int64_t nanos = absl::ToInt64Nanoseconds(due);  // Saturates.
  if (planned_.load() <= nanos || stopped()) return;
  {
    absl::MutexLock lock(&plans_mutex_);
    if (!plans_.empty() && plans_.back() <= nanos) return;
    plans_.push_back(nanos);
    planned_.store(nanos);
  }
  executor_.RunAt(due, [self = weak_from_this(), nanos]() {
    auto workers = self.lock();
    if (workers == nullptr || !workers->Enter()) return;
    workers->OnPlan(nanos);
    workers->Leave();
  });
}

void Workers::OnPlan(int64_t nanos) {
  {
    absl::MutexLock lock(&plans_mutex_);
    plans_.erase(std::find(plans_.begin(), plans_.end(), nanos));
    planned_.store(plans_.empty() ? kNever : plans_.back());
  }
  // If all are busy, each looks for timers before it parks.
  Wake();
}

std::vector<WorkerStats> Workers::Stats() const {
  std::vector<WorkerStats> stats;
  for (const Counters& counters : counters_) {
    stats.push_back(
        {counters.turns.load(std::memory_order_relaxed),
         counters.runs.load(std::memory_order_relaxed),
         absl::Nanoseconds(counters.busy_ns.load(std::memory_order_relaxed))});
  }
  return stats;
}

}  // namespace muster
