// Gate: lets calls in until it is closed, and lets whoever closes it wait until
// the last of them is out.
//
// Enter() and Leave() are one atomic read-modify-write each while the gate is
// open: cheap enough for every Send().  They are lock-free; Close() blocks.
#ifndef TRANSPORT_GATE_H_
#define TRANSPORT_GATE_H_

#include <atomic>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace muster {

class Gate {
 public:
  // One call that is inside, or was refused.
  class Visit {
   public:
    explicit Visit(Gate& gate) : gate_(gate.Enter() ? &gate : nullptr) {}
    ~Visit() {
      if (gate_ != nullptr) gate_->Leave();
    }
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;

    // Whether the gate was open.
    explicit operator bool() const { return gate_ != nullptr; }

   private:
    Gate* const gate_;
  };

  // Refuses all who come from now on; returns when all who came before have
  // left, and everything they did is visible.  Idempotent: a second call waits
  // as the first.  Must not be called from inside.
  void Close() {
    absl::MutexLock lock(&mutex_);
    // Relaxed: whoever must see it takes the mutex or gets it from the same
    // modification order.
    state_.fetch_or(kClosed, std::memory_order_relaxed);
    mutex_.Await(absl::Condition(this, &Gate::Empty));
  }

 private:
  // The lowest bit says closed, the others count visits.
  static constexpr uint64_t kClosed = 1;
  static constexpr uint64_t kVisit = 2;

  bool Enter() {
    uint64_t state = state_.load(std::memory_order_relaxed);
    do {
      if ((state & kClosed) != 0) return false;
      // Relaxed: a visit learns nothing from the gate but that it is open.
    } while (!state_.compare_exchange_weak(state, state + kVisit,
                                           std::memory_order_relaxed));
    return true;
  }

  void Leave() {
    uint64_t state = state_.load(std::memory_order_relaxed);
    while ((state & kClosed) == 0) {
      // (1) Release: synchronizes-with (2), so that Close() sees what the visit
      // did; later modifications of others continue the release sequence.
      if (state_.compare_exchange_weak(state, state - kVisit,
                                       std::memory_order_release,
                                       std::memory_order_relaxed)) {
        return;
      }
    }
    // Someone waits.  Under the mutex, so that they look again, and so that
    // they cannot destroy the gate while we are still in here.
    absl::MutexLock lock(&mutex_);
    state_.fetch_sub(kVisit, std::memory_order_release);
  }

  bool Empty() const {
    // (2) Acquire: synchronizes-with (1).
    return state_.load(std::memory_order_acquire) == kClosed;
  }

  std::atomic<uint64_t> state_{0};
  absl::Mutex mutex_;
};

}  // namespace muster

#endif  // TRANSPORT_GATE_H_
