// The default Executor: a mutex, a queue, a heap of due times, threads.
#include <algorithm>
#include <cstdint>
#include <deque>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "engine/model/check.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"

namespace muster {
namespace {

class ThreadExecutor : public Executor {
 public:
  explicit ThreadExecutor(int threads) {
    MUSTER_CHECK(threads >= 1 && threads <= 256);
    for (int i = 0; i < threads; ++i) {
      threads_.emplace_back([this] { Loop(); });
    }
  }

  ~ThreadExecutor() override {
    {
      absl::MutexLock lock(&mutex_);
      stopping_ = true;
      changed_.SignalAll();
    }
    for (std::thread& thread : threads_) thread.join();
  }

  int concurrency() const override { return static_cast<int>(threads_.size()); }

  void Run(Callback callback) override {
    absl::MutexLock lock(&mutex_);
    ready_.push_back(std::move(callback));
    changed_.Signal();
  }

  void RunAt(absl::Duration monotonic, Callback callback) override {
    absl::MutexLock lock(&mutex_);
    const bool earliest = due_.empty() || monotonic < due_.front().time;
    due_.push_back({monotonic, next_number_++, std::move(callback)});
    std::push_heap(due_.begin(), due_.end(), Later);
    // Whoever sleeps until a later time has to look again.
    if (earliest) changed_.Signal();
  }

 private:
  struct Due {
    absl::Duration time;
    uint64_t number;  // First come, first served at equal times.
    Callback callback;
  };
  static bool Later(const Due& a, const Due& b) {
    return a.time != b.time ? a.time > b.time : a.number > b.number;
  }

  void Loop() {
    absl::MutexLock lock(&mutex_);
    while (true) {
      if (stopping_) return;
      if (!due_.empty() && due_.front().time <= Clock::Real().Monotonic()) {
        std::pop_heap(due_.begin(), due_.end(), Later);
        ready_.push_back(std::move(due_.back().callback));
        due_.pop_back();
      }
      if (!ready_.empty()) {
        Callback callback = std::move(ready_.front());
        ready_.pop_front();
        // Others may have gone to sleep before this one was there for them.
        if (!ready_.empty() || !due_.empty()) changed_.Signal();
        mutex_.Unlock();
        std::move(callback)();
        callback = nullptr;  // Destroyed outside of the lock.
        mutex_.Lock();
        continue;
      }
      if (due_.empty()) {
        changed_.Wait(&mutex_);
      } else {
        changed_.WaitWithTimeout(&mutex_,
                                 due_.front().time - Clock::Real().Monotonic());
      }
    }
  }

  absl::Mutex mutex_;
  absl::CondVar changed_;
  std::deque<Callback> ready_ ABSL_GUARDED_BY(mutex_);
  std::vector<Due> due_ ABSL_GUARDED_BY(mutex_);  // A heap, earliest first.
  uint64_t next_number_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  std::vector<std::thread> threads_;  // Constant after construction.
};

}  // namespace

std::unique_ptr<Executor> MakeThreadExecutor(int threads) {
  return std::make_unique<ThreadExecutor>(threads);
}

}  // namespace muster
