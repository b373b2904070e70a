// Pacer: a token bucket that holds one second of its rate (contract 9.3).
//
// Work that finds it empty is not refused: it waits until tokens return.
#ifndef ENGINE_SCHEDULE_PACER_H_
#define ENGINE_SCHEDULE_PACER_H_

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/schedule/token_bucket.h"

namespace muster {

// Thread-safe; blocking, for a few instructions.
class Pacer {
 public:
  // `rate`: tokens per second; 0 means no limit.  The bucket starts full.
  // REQUIRES: rate is 0 or in [1, 1'000'000'000].
  explicit Pacer(int64_t rate);

  bool unlimited() const { return rate_ == 0; }

  // The most that one caller should ask for at a time, so that others get their
  // turn while the bucket is nearly empty: an eighth of a second, at least 1.
  int64_t share() const;

  // Time between two tokens, rounded up; zero without a limit.
  absl::Duration interval() const;

  // Takes up to `wanted` tokens and returns how many; `now` is monotonic.
  int64_t Take(int64_t wanted, absl::Duration now);

  // Puts back tokens that were taken and not used.
  void Return(int64_t tokens);

  // Whole tokens that are there at `now`.
  int64_t Available(absl::Duration now);

  // When at least one token will be there, if nobody takes any meanwhile; `now`
  // or earlier if one is there already.
  absl::Duration NextToken(absl::Duration now);

 private:
  const int64_t rate_;

  absl::Mutex mutex_;
  TokenBucket bucket_ ABSL_GUARDED_BY(mutex_);  // Not looked at without limit.
};

}  // namespace muster

#endif  // ENGINE_SCHEDULE_PACER_H_
