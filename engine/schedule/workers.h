// Workers: as many loops over a source of work as the executor has threads for.
//
// A worker that finds nothing parks: its callback on the executor returns, so
// that a parked worker holds no thread of an embedder's, and nothing polls.  It
// is started again by Wake() after new work, or at the next due time. A worker
// with much to do lets the executor's other callbacks in after each turn.
#ifndef ENGINE_SCHEDULE_WORKERS_H_
#define ENGINE_SCHEDULE_WORKERS_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "engine/schedule/idle_set.h"

namespace muster {

// What one worker has done; see Workers::Stats().
struct WorkerStats {
  int64_t turns = 0;                           // Times that it was started.
  int64_t runs = 0;                            // Steps that found work.
  absl::Duration busy = absl::ZeroDuration();  // In its turns.
};

// What the workers work on; the owner of the workers implements it.
class WorkSource {
 public:
  virtual ~WorkSource() = default;

  // One step of work: timers that are due, one item; false if there was
  // nothing.  `worker`: who calls, in [0, executor.concurrency()); calls with
  // the same number never overlap, and each sees what the one before it wrote.
  virtual bool RunOne(int worker) = 0;

  // Whether RunOne() would find something now, timers left aside.  Must see, in
  // the order of sequentially consistent operations, everything that was added
  // before a Wake().
  virtual bool HasWork() = 0;

  // When there will be something to do although nobody adds anything, on the
  // monotonic clock; infinite if never.
  virtual absl::Duration NextDue() = 0;
};

// Thread-safe.  Owned by a shared_ptr: callbacks on the executor outlive
// nobody.
class Workers : public std::enable_shared_from_this<Workers> {
 public:
  // Steps of a turn: between two turns the executor's other callbacks run.
  static constexpr int kStepsPerTurn = 16;

  // `*executor`, `*clock` and `*source` must outlive Stop().  One worker for
  // each thread of the executor, at most IdleSet<>::kWorkersMax.
  Workers(Executor* executor, Clock* clock, WorkSource* source);

  int count() const { return static_cast<int>(counters_.size()); }

  // Work was added: starts a worker unless all run.  Lock-free, but for the
  // executor's Run() if one has to be started.
  void Wake();

  // Starts a worker at `due` (monotonic) or soon after.  One load if something
  // as early is planned; otherwise a mutex and the executor's RunAt().
  void WakeAt(absl::Duration due);

  // Runs `callback` on the executor, unless Stop() comes first.
  void Post(Callback callback);

  // Begins something that Stop() has to wait for; false once it was called.
  // Each true is followed by a Leave().  Wait-free.
  bool Enter();
  void Leave();

  // No worker and no posted callback runs any more once it has returned, and
  // none starts.  Idempotent.  Not from a worker or a callback.
  void Stop();
  bool stopped() const { return (state_.load() & kStopping) != 0; }

  // By worker.
  std::vector<WorkerStats> Stats() const;

 private:
  // Written by the worker whose it is, read by anybody.
  struct alignas(64) Counters {
    std::atomic<int64_t> turns{0};
    std::atomic<int64_t> runs{0};
    std::atomic<int64_t> busy_ns{0};
  };
  static constexpr int64_t kStopping = int64_t{1} << 62;
  static constexpr int64_t kNever = INT64_MAX;

  void Start(int worker);
  void RunTurn(int worker);
  void OnPlan(int64_t nanos);

  Executor& executor_;
  Clock& clock_;
  WorkSource& source_;
  IdleSet<> idle_;
  std::vector<Counters> counters_;
  // The times that the executor has been asked to wake us at and has not yet,
  // in nanoseconds.  Each is earlier than those before it, so there are no more
  // than timers that came in that order.
  absl::Mutex plans_mutex_;
  std::vector<int64_t> plans_ ABSL_GUARDED_BY(plans_mutex_);
  // The earliest of them, kNever if there is none.
  alignas(64) std::atomic<int64_t> planned_{kNever};
  // Those inside, and kStopping.
  alignas(64) std::atomic<int64_t> state_{0};
  absl::Mutex stop_mutex_;
  bool all_left_ ABSL_GUARDED_BY(stop_mutex_) = false;
};

}  // namespace muster

#endif  // ENGINE_SCHEDULE_WORKERS_H_
