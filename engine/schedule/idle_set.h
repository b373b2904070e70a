// IdleSet: which of up to 256 workers do not run, so that a push can start one.
//
// It is an event count without a sleep: who has added work claims an idle
// worker and starts it; a worker that finds no work says that it is idle, and
// looks once more.
//
//   worker                            whoever adds work
//     looks for work: none              (1) adds the work
//     (2) Release: idle                 (3) Claim: is anybody idle?
//     (4) looks for work again
//
// (1) to (4) are in the one order of sequentially consistent operations, so
// either (3) comes after (2) and finds the worker, or (4) comes after (1) and
// finds the work.  No wake-up is lost, and nobody looks twice for nothing while
// others run.
#ifndef ENGINE_SCHEDULE_IDLE_SET_H_
#define ENGINE_SCHEDULE_IDLE_SET_H_

#include <atomic>
#include <bit>
#include <cstdint>

#include "engine/model/check.h"

namespace muster {

// `AtomicOf`: std::atomic, or a test's.  Thread-safe.
template <template <typename> class AtomicOf = std::atomic, int kWords = 4>
class IdleSet {
 public:
  static constexpr int kWorkersMax = 64 * kWords;

  // All of `workers`, in [1, kWorkersMax] (CHECKed), are idle.
  explicit IdleSet(int workers) {
    MUSTER_CHECK(workers >= 1 && workers <= kWorkersMax);
    for (int w = 0; w < kWords; ++w) {
      const int left = workers - 64 * w;
      words_[w].store(left <= 0    ? 0
                      : left >= 64 ? ~uint64_t{0}
                                   : (uint64_t{1} << left) - 1,
                      std::memory_order_relaxed);
    }
  }

  // An idle worker, who is the caller's to start and not idle any more; -1 if
  // there is none.  REQUIRES: what the worker shall find was added before by a
  // sequentially consistent operation (1).  Lock-free; `kWords` loads if
  // nobody is idle.
  int Claim() {
    for (int w = 0; w < kWords; ++w) {
      // (3) SC: see above.
      while (uint64_t idle = words_[w].load(std::memory_order_seq_cst)) {
        // (5) Acquire: what the worker's last turn wrote is seen by its next,
        // by (2).
        if (words_[w].compare_exchange_strong(idle, idle & (idle - 1),
                                              std::memory_order_acquire,
                                              std::memory_order_relaxed)) {
          return 64 * w + std::countr_zero(idle);
        }
      }
    }
    return -1;
  }

  // The worker is idle again; it has to look for work once more (4), and to
  // Claim() if there is some.  Wait-free.
  void Release(int worker) {
    // (2) SC: see above; and release for (5).
    words_[worker / 64].fetch_or(uint64_t{1} << (worker % 64),
                                 std::memory_order_seq_cst);
  }

 private:
  alignas(64) AtomicOf<uint64_t> words_[kWords] = {};
};

}  // namespace muster

#endif  // ENGINE_SCHEDULE_IDLE_SET_H_
