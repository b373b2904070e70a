// ForEachInParallel: a loop on the executor's threads and the caller's own.
#ifndef ENGINE_SCHEDULE_PARALLEL_H_
#define ENGINE_SCHEDULE_PARALLEL_H_

#include <atomic>
#include <functional>
#include <memory>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "engine/schedule/executor.h"

namespace muster {

// Calls fn(0) .. fn(count - 1), each once, in any order, and returns when all
// have.  The caller never waits for a call that nobody has begun, so that it
// may be one of the executor's threads, or the only one.
inline void ForEachInParallel(Executor& executor, int count,
                              std::function<void(int)> fn) {
  struct Loop {
    int count;
    std::function<void(int)> fn;
    std::atomic<int> next{0};
    absl::Mutex mutex;
    int done ABSL_GUARDED_BY(mutex) = 0;

    void Run() {
      for (int i; (i = next.fetch_add(1)) < count;) {
        fn(i);
        absl::MutexLock lock(&mutex);
        ++done;
      }
    }
  };
  auto loop = std::make_shared<Loop>();
  loop->count = count;
  loop->fn = std::move(fn);
  for (int i = 1; i < executor.concurrency() && i < count; ++i) {
    executor.Run([loop]() { loop->Run(); });
  }
  loop->Run();
  absl::MutexLock lock(&loop->mutex);
  loop->mutex.Await(absl::Condition(
      +[](Loop* l)
           ABSL_NO_THREAD_SAFETY_ANALYSIS { return l->done == l->count; },
      loop.get()));
}

}  // namespace muster

#endif  // ENGINE_SCHEDULE_PARALLEL_H_
