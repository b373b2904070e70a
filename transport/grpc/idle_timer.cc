#include "transport/grpc/idle_timer.h"

#include <utility>

namespace muster {

IdleTimer::IdleTimer(Executor* executor, Clock* clock, absl::Duration timeout,
                     absl::AnyInvocable<void()> on_idle)
    : clock_(clock), state_(std::make_shared<State>(std::move(on_idle))) {
  executor->RunAt(clock->Monotonic() + timeout, [=, state = state_] {
    Look(executor, clock, timeout, state);
  });
}

IdleTimer::~IdleTimer() { Stop(); }

void IdleTimer::Waiting() {
  state_->since.store(absl::ToInt64Nanoseconds(clock_->Monotonic()),
                      std::memory_order_relaxed);
}

void IdleTimer::Working() {
  state_->since.store(kWorking, std::memory_order_relaxed);
}

void IdleTimer::Stop() {
  absl::MutexLock lock(&state_->mutex);
  state_->on_idle = nullptr;
}

void IdleTimer::Look(Executor* executor, Clock* clock, absl::Duration timeout,
                     std::shared_ptr<State> state) {
  const absl::Duration now = clock->Monotonic();
  const int64_t nanoseconds = state->since.load(std::memory_order_relaxed);
  absl::Duration since =
      nanoseconds == kWorking ? now : absl::Nanoseconds(nanoseconds);
  absl::MutexLock lock(&state->mutex);
  if (state->on_idle == nullptr) return;
  if (since + timeout <= now) {
    state->on_idle();
    since = now;
  }
  executor->RunAt(since + timeout,
                  [=] { Look(executor, clock, timeout, state); });
}

}  // namespace muster
