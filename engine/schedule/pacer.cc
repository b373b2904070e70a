#include "engine/schedule/pacer.h"

#include <algorithm>

#include "engine/model/check.h"

namespace muster {

Pacer::Pacer(int64_t rate)
    : rate_(rate), bucket_(std::max<int64_t>(rate, 1), absl::Seconds(1)) {
  MUSTER_CHECK(rate >= 0 && rate <= 1'000'000'000);
}

int64_t Pacer::share() const { return std::max<int64_t>(1, rate_ / 8); }

absl::Duration Pacer::interval() const {
  if (unlimited()) return absl::ZeroDuration();
  return absl::Nanoseconds((1'000'000'000 + rate_ - 1) / rate_);
}

int64_t Pacer::Take(int64_t wanted, absl::Duration now) {
  if (unlimited()) return wanted;
  absl::MutexLock lock(&mutex_);
  bucket_.Refill(now);
  const int64_t taken = std::min(wanted, bucket_.tokens());
  bucket_.Take(taken);
  return taken;
}

void Pacer::Return(int64_t tokens) {
  if (unlimited()) return;
  absl::MutexLock lock(&mutex_);
  bucket_.Return(tokens);
}

int64_t Pacer::Available(absl::Duration now) {
  if (unlimited()) return INT64_MAX;
  absl::MutexLock lock(&mutex_);
  bucket_.Refill(now);
  return bucket_.tokens();
}

absl::Duration Pacer::NextToken(absl::Duration now) {
  if (unlimited()) return now;
  absl::MutexLock lock(&mutex_);
  bucket_.Refill(now);
  return bucket_.tokens() > 0 ? now : bucket_.TimeOf(1);
}

}  // namespace muster
