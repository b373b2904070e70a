// TimerQueue: what is due when, for one time scale.
//
// Two of these exist: one on the wall clock for start times and history, one on
// the monotonic clock for timeouts and limits.  There is no cancel: who is
// woken looks whether there is still something to do.
#ifndef ENGINE_SCHEDULE_TIMER_QUEUE_H_
#define ENGINE_SCHEDULE_TIMER_QUEUE_H_

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace muster {

// `TimePoint` is absl::Time or absl::Duration; `Event` a small value that says
// whom to wake.  Thread-safe.  Blocking: each operation takes one mutex for
// O(log size).
template <typename TimePoint, typename Event>
class TimerQueue {
 public:
  // Returns true if no other timer is due before this one: the owner may have
  // to wake up earlier than planned.
  bool Add(TimePoint due, const Event& event) {
    absl::MutexLock lock(&mutex_);
    const bool first = heap_.empty() || due < heap_.front().due;
    heap_.push_back({due, next_number_++, event});
    std::push_heap(heap_.begin(), heap_.end(), After);
    return first;
  }

  // Takes out the earliest event that is due at `now`, in order of due times
  // and, among equals, of Add().  nullopt if none is.
  std::optional<Event> PopDue(TimePoint now) {
    absl::MutexLock lock(&mutex_);
    if (heap_.empty() || heap_.front().due > now) return std::nullopt;
    std::pop_heap(heap_.begin(), heap_.end(), After);
    const Event event = heap_.back().event;
    heap_.pop_back();
    return event;
  }

  // When the next event is due; nullopt if there is none.
  std::optional<TimePoint> NextDue() const {
    absl::MutexLock lock(&mutex_);
    if (heap_.empty()) return std::nullopt;
    return heap_.front().due;
  }

 private:
  struct Entry {
    TimePoint due;
    uint64_t number;
    Event event;
  };
  static bool After(const Entry& a, const Entry& b) {
    return a.due != b.due ? a.due > b.due : a.number > b.number;
  }

  mutable absl::Mutex mutex_;
  std::vector<Entry> heap_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_number_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace muster

#endif  // ENGINE_SCHEDULE_TIMER_QUEUE_H_
