// SimulatedExecutor: clock and threads for tests, in one thread and without
// waiting.  Time stands still while callbacks run and jumps to the next due
// time when none is left: a job of an hour takes a millisecond.
#ifndef TESTS_SIMULATED_SIMULATED_EXECUTOR_H_
#define TESTS_SIMULATED_SIMULATED_EXECUTOR_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"

namespace muster {

// Not thread-safe: one thread owns it and everything that runs on it.
class SimulatedExecutor : public Executor, public Clock {
 public:
  explicit SimulatedExecutor(
      absl::Time start = absl::FromUnixSeconds(1'930'000'000))
      : start_(start) {}

  // Clock.
  absl::Time Now() override { return start_ + elapsed_; }
  absl::Duration Monotonic() override { return elapsed_; }

  // Executor.
  int concurrency() const override { return 1; }
  void Run(Callback callback) override {
    ready_.push_back(std::move(callback));
  }
  void RunAt(absl::Duration monotonic, Callback callback) override {
    due_.emplace(std::make_pair(monotonic, next_number_++),
                 std::move(callback));
  }

  // Which of so many ready callbacks runs next; nullptr: the oldest.
  void SetOrder(std::function<size_t(size_t)> pick) { pick_ = std::move(pick); }

  // Runs one of those that are ready; false if none is.
  bool RunOne() {
    if (ready_.empty()) return false;
    const size_t which =
        pick_ != nullptr && ready_.size() > 1 ? pick_(ready_.size()) : 0;
    Callback callback = std::move(ready_[which]);
    ready_.erase(ready_.begin() + static_cast<ptrdiff_t>(which));
    std::move(callback)();
    return true;
  }

  // Runs what is ready, without letting time pass.
  void RunReady() {
    while (RunOne()) {
    }
  }

  // Lets `duration` pass, with everything that falls due in it, and leaves the
  // clock exactly there.
  void Advance(absl::Duration duration) { AdvanceTo(elapsed_ + duration); }

  // Lets `duration` pass, with everything that falls due in it; what that makes
  // ready does not run.
  void FireDue(absl::Duration duration) {
    const absl::Duration end = elapsed_ + duration;
    while (!due_.empty() && due_.begin()->first.first <= end) FireFirst();
    elapsed_ = end;
  }

  // Lets time pass until `done` is true or `limit` is over; whether it is true.
  bool RunUntil(absl::FunctionRef<bool()> done,
                absl::Duration limit = absl::Hours(24 * 365)) {
    const absl::Duration end = elapsed_ + limit;
    RunReady();
    while (!done()) {
      if (due_.empty() || due_.begin()->first.first > end) return done();
      AdvanceTo(due_.begin()->first.first);
    }
    return true;
  }

  // A step of the wall clock alone; the monotonic clock goes on as it was.
  void StepWallClock(absl::Duration step) { start_ += step; }

 private:
  void AdvanceTo(absl::Duration end) {
    RunReady();
    while (!due_.empty() && due_.begin()->first.first <= end) {
      FireFirst();
      RunReady();
    }
    if (end > elapsed_) elapsed_ = end;
  }

  void FireFirst() {
    auto first = due_.begin();
    if (first->first.first > elapsed_) elapsed_ = first->first.first;
    Callback callback = std::move(first->second);
    due_.erase(first);
    std::move(callback)();
  }

  absl::Time start_;
  absl::Duration elapsed_ = absl::ZeroDuration();
  std::deque<Callback> ready_;
  std::function<size_t(size_t)> pick_;
  std::map<std::pair<absl::Duration, uint64_t>, Callback> due_;
  uint64_t next_number_ = 0;
};

}  // namespace muster

#endif  // TESTS_SIMULATED_SIMULATED_EXECUTOR_H_
