#include "engine/schedule/pacer.h"

#include <algorithm>

#include "engine/model/check.h"

namespace muster {

Pacer::Pacer(int64_t rate) : rate_(rate), tokens_(rate) {
  MUSTER_CHECK(rate >= 0 && rate <= 1'000'000'000);
}

int64_t Pacer::share() const { return std::max<int64_t>(1, rate_ / 8); }

absl::Duration Pacer::interval() const {
  if (unlimited()) return absl::ZeroDuration();
  return absl::Nanoseconds((kUnitsPerToken + rate_ - 1) / rate_);
}

void Pacer::Refill(absl::Duration now) {
  if (!started_) {
    started_ = true;
    last_ = now;
    return;
  }
  if (now <= last_) return;
  // More than a second fills the bucket whatever was in it; the cut keeps the
  // product below within 64 bits.
  const int64_t nanos =
      std::min<int64_t>(absl::ToInt64Nanoseconds(now - last_), 1'000'000'000);
  last_ = now;
  units_ += nanos * rate_;
  tokens_ += units_ / kUnitsPerToken;
  units_ %= kUnitsPerToken;
  if (tokens_ >= rate_) {
    tokens_ = rate_;
    units_ = 0;
  }
}

int64_t Pacer::Take(int64_t wanted, absl::Duration now) {
  if (unlimited()) return wanted;
  absl::MutexLock lock(&mutex_);
  Refill(now);
  const int64_t taken = std::min(wanted, tokens_);
  tokens_ -= taken;
  return taken;
}

void Pacer::Return(int64_t tokens) {
  if (unlimited()) return;
  absl::MutexLock lock(&mutex_);
  tokens_ = std::min(rate_, tokens_ + tokens);
}

int64_t Pacer::Available(absl::Duration now) {
  if (unlimited()) return INT64_MAX;
  absl::MutexLock lock(&mutex_);
  Refill(now);
  return tokens_;
}

absl::Duration Pacer::NextToken(absl::Duration now) {
  if (unlimited()) return now;
  absl::MutexLock lock(&mutex_);
  Refill(now);
  if (tokens_ > 0) return now;
  const int64_t missing = kUnitsPerToken - units_;
  return last_ + absl::Nanoseconds((missing + rate_ - 1) / rate_);
}

}  // namespace muster
