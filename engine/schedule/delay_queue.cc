#include "engine/schedule/delay_queue.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "engine/model/check.h"

namespace muster {
namespace {

using Rings = DelayRings<QueuePolicy>;

constexpr int64_t kNever = static_cast<int64_t>(Rings::kNever);

// From whole milliseconds since the origin, rounded towards zero and saturated.
int64_t Tick(int64_t ms, int64_t origin, int64_t latest) {
  return std::clamp(ms, -origin, latest - origin) + origin;
}

}  // namespace

DelayQueue::DelayQueue(std::shared_ptr<Slots> slots)
    : slots_(slots != nullptr ? std::move(slots) : std::make_shared<Slots>()),
      rings_(slots_.get()) {}

uint64_t DelayQueue::DueTick(absl::Duration due) {
  const int64_t ms = absl::ToInt64Milliseconds(due);
  const bool rest = absl::Milliseconds(ms) < due;
  return static_cast<uint64_t>(
      std::min(Tick(ms, kOrigin, kNever) + (rest ? 1 : 0), kNever));
}

uint64_t DelayQueue::NowTick(absl::Duration now) {
  const int64_t ms = absl::ToInt64Milliseconds(now);
  // Towards zero is up before the origin.
  const bool rest = ms <= 0 && now < absl::Milliseconds(ms);
  return static_cast<uint64_t>(
      std::max<int64_t>(Tick(ms, kOrigin, kNever - 1) - (rest ? 1 : 0), 0));
}

void DelayQueue::Push(Timer* timer, absl::Duration due, absl::Duration now) {
  MUSTER_DCHECK(timer->slots_ == slots_);
  timer->due_ = DueTick(due);
  rings_.Push(timer->slot_, timer->due_, NowTick(now));
}

DelayQueue::Timer* DelayQueue::PopDue(absl::Duration now,
                                      absl::FunctionRef<bool(Timer*)> keep) {
  const auto timer_at = [this](uint32_t slot) {
    return static_cast<Timer*>(slots_->ItemAt(slot));
  };
  const uint32_t slot = rings_.PopDue(
      NowTick(now), [&](uint32_t slot) { return timer_at(slot)->due_; },
      [&](uint32_t slot) { return keep(timer_at(slot)); });
  return slot == Slots::kNone ? nullptr : timer_at(slot);
}

}  // namespace muster
