// Throttle: how many calls from outside a hub takes in a minute (contract 9.3).
//
// A token bucket that holds one minute of its rate, so that short bursts pass.
// A call that finds it empty is refused at once: nothing waits here, unlike the
// work of jobs (pacer.h).
#ifndef ENGINE_SCHEDULE_THROTTLE_H_
#define ENGINE_SCHEDULE_THROTTLE_H_

#include <cstdint>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/schedule/token_bucket.h"

namespace muster {

// Thread-safe; blocking, for a few instructions.
class Throttle {
 public:
  // `what` is counted, for messages: "job operations".  `per_minute`: 0 means
  // no limit.  REQUIRES: per_minute in [0, 100'000'000].
  Throttle(absl::string_view what, int64_t per_minute);

  // Takes all of `tokens` at `now`, which is monotonic, or none of them and
  // answers ThrottlingException (429001), saying the rate and when to come
  // again.  More than a minute of the rate is refused always.
  // REQUIRES: tokens >= 1.
  absl::Status Take(int64_t tokens, absl::Duration now);

 private:
  const std::string what_;
  const int64_t per_minute_;

  absl::Mutex mutex_;
  TokenBucket bucket_ ABSL_GUARDED_BY(mutex_);  // Not looked at without limit.
};

}  // namespace muster

#endif  // ENGINE_SCHEDULE_THROTTLE_H_
