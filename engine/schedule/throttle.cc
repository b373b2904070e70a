#include "engine/schedule/throttle.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/model/check.h"
#include "engine/model/error.h"

namespace muster {

Throttle::Throttle(absl::string_view what, int64_t per_minute)
    : what_(what),
      per_minute_(per_minute),
      bucket_(std::max<int64_t>(per_minute, 1), absl::Minutes(1)) {
  MUSTER_CHECK(per_minute >= 0 && per_minute <= 100'000'000);
}

absl::Status Throttle::Take(int64_t tokens, absl::Duration now) {
  MUSTER_CHECK(tokens >= 1);
  if (per_minute_ == 0) return absl::OkStatus();
  if (tokens > per_minute_) {
    return MakeError(ErrorCode::kThrottlingException,
                     absl::StrCat("at most ", per_minute_, " ", what_,
                                  " a minute; got ", tokens, " at once"));
  }
  absl::Duration wait;
  {
    absl::MutexLock lock(&mutex_);
    bucket_.Refill(now);
    if (tokens <= bucket_.tokens()) {
      bucket_.Take(tokens);
      return absl::OkStatus();
    }
    wait = bucket_.TimeOf(tokens) - now;
  }
  // Whole milliseconds, and never too early.
  const int64_t ms =
      absl::ToInt64Milliseconds(absl::Ceil(wait, absl::Milliseconds(1)));
  return MakeError(
      ErrorCode::kThrottlingException,
      absl::StrCat("at most ", per_minute_, " ", what_,
                   " a minute, and they are used up: try again in ", ms,
                   " ms"));
}

}  // namespace muster
