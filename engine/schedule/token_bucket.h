// TokenBucket: the arithmetic of a rate, in whole numbers.
#ifndef ENGINE_SCHEDULE_TOKEN_BUCKET_H_
#define ENGINE_SCHEDULE_TOKEN_BUCKET_H_

#include <algorithm>
#include <cstdint>

#include "absl/time/time.h"
#include "engine/model/check.h"

namespace muster {

// Holds `capacity` tokens and is full at first; an empty one is full again
// after `period`.  No fraction of a token is lost, however often it is asked.
// One thread at a time; nothing allocates.
class TokenBucket {
 public:
  // REQUIRES: capacity in [1, 9e18 / period in nanoseconds]; a whole number of
  // nanoseconds.
  TokenBucket(int64_t capacity, absl::Duration period)
      : capacity_(capacity),
        units_per_token_(absl::ToInt64Nanoseconds(period)),
        tokens_(capacity) {
    MUSTER_CHECK(units_per_token_ > 0 && capacity > 0 &&
                 capacity <=
                     int64_t{9'000'000'000'000'000'000} / units_per_token_);
  }

  // Adds what has come since the last call; the first one only begins.  `now`
  // is monotonic: what lies before an earlier call adds nothing.
  void Refill(absl::Duration now) {
    if (!started_) {
      started_ = true;
      last_ = now;
      return;
    }
    if (now <= last_) return;
    // More than a period fills the bucket whatever was in it; the cut keeps the
    // product below within 64 bits.
    const int64_t nanos = std::min<int64_t>(
        absl::ToInt64Nanoseconds(now - last_), units_per_token_);
    last_ = now;
    units_ += nanos * capacity_;
    tokens_ += units_ / units_per_token_;
    units_ %= units_per_token_;
    if (tokens_ >= capacity_) {
      tokens_ = capacity_;
      units_ = 0;
    }
  }

  // Whole ones, since the last Refill().
  int64_t tokens() const { return tokens_; }

  // REQUIRES: count <= tokens().
  void Take(int64_t count) {
    MUSTER_CHECK(count <= tokens_);
    tokens_ -= count;
  }
  void Return(int64_t count) { tokens_ = std::min(capacity_, tokens_ + count); }

  // When there will be `count` tokens if nobody takes any; the time of the last
  // Refill() if there are.  REQUIRES: Refill() was called; count is at most the
  // capacity.
  absl::Duration TimeOf(int64_t count) const {
    MUSTER_CHECK(count <= capacity_);
    if (count <= tokens_) return last_;
    const int64_t missing = (count - tokens_) * units_per_token_ - units_;
    return last_ + absl::Nanoseconds((missing + capacity_ - 1) / capacity_);
  }

 private:
  const int64_t capacity_;
  // A nanosecond brings `capacity_` units, so that a token has as many as the
  // period has nanoseconds.
  const int64_t units_per_token_;
  int64_t tokens_;
  int64_t units_ = 0;  // Below one token.
  bool started_ = false;
  absl::Duration last_;
};

}  // namespace muster

#endif  // ENGINE_SCHEDULE_TOKEN_BUCKET_H_
