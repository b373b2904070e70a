// Executor: the only source of threads in the engine (I2).
#ifndef ENGINE_SCHEDULE_EXECUTOR_H_
#define ENGINE_SCHEDULE_EXECUTOR_H_

#include <memory>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"

namespace muster {

using Callback = absl::AnyInvocable<void() &&>;

// Runs callbacks, each once, on threads of its own choice, never from inside
// Run() or RunAt().  Callbacks may block for the time of one batch of work, not
// longer, and may call Run() and RunAt().  Thread-safe.
class Executor {
 public:
  // Destroys what has not run without running it, and returns when no callback
  // is running any more.
  virtual ~Executor() = default;

  // How many callbacks can run at the same time; at least 1, constant.
  virtual int concurrency() const = 0;

  // Runs `callback` as soon as a thread is free.
  virtual void Run(Callback callback) = 0;

  // Runs `callback` at `monotonic` (Clock::Monotonic()) or soon after; at once
  // if that has passed.  There is no cancel: callers let a stale call do
  // nothing.
  virtual void RunAt(absl::Duration monotonic, Callback callback) = 0;
};

// An executor with `threads` threads of its own, in [1, 256] (CHECKed); idle
// threads sleep until there is work or the next due time, without a tick.
std::unique_ptr<Executor> MakeThreadExecutor(int threads);

}  // namespace muster

#endif  // ENGINE_SCHEDULE_EXECUTOR_H_
