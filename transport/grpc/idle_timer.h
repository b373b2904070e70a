// IdleTimer: notices that a stream has waited too long for the other side.
//
// One call on the executor is pending at a time, however often the stream
// moves: it looks when that was last, and comes back later if it was recently.
#ifndef TRANSPORT_GRPC_IDLE_TIMER_H_
#define TRANSPORT_GRPC_IDLE_TIMER_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"

namespace muster {

// Thread-safe.
class IdleTimer {
 public:
  // `on_idle` is called on the executor when it has been Waiting() for
  // `timeout`, and again for every further `timeout`: the other side may have
  // moved just then, so that one call did not end the stream.  `*executor` and
  // `*clock` must outlive Stop().
  IdleTimer(Executor* executor, Clock* clock, absl::Duration timeout,
            absl::AnyInvocable<void()> on_idle);
  // Stop().
  ~IdleTimer();

  // From now on the other side is waited for ...
  void Waiting();
  // ... and from now on it is not.
  void Working();

  // `on_idle` does not run any more when it has returned.  Not from itself.
  void Stop();

 private:
  static constexpr int64_t kWorking = INT64_MAX;

  struct State {
    explicit State(absl::AnyInvocable<void()> f) : on_idle(std::move(f)) {}

    // Since when it waits, in nanoseconds of Clock::Monotonic().  Relaxed: a
    // stale value only makes the timer look again.
    std::atomic<int64_t> since{kWorking};
    absl::Mutex mutex;  // Held while on_idle runs.
    absl::AnyInvocable<void()> on_idle ABSL_GUARDED_BY(mutex);
  };

  static void Look(Executor* executor, Clock* clock, absl::Duration timeout,
                   std::shared_ptr<State> state);

  Clock* const clock_;
  const std::shared_ptr<State> state_;
};

}  // namespace muster

#endif  // TRANSPORT_GRPC_IDLE_TIMER_H_
