#include "transport/grpc/gateway/gateway_ranges.h"

#include <cstdint>

#include "absl/time/time.h"
#include "engine/model/check.h"

namespace muster {

// A range's name: the slot in the low 20 bits, the number of its calls less one
// in the next 10, and the slot's generation in the others.
GatewayRanges::GatewayRanges(absl::Duration now)
    : origin_(now), buckets_(kBuckets, kNone) {}

GatewayRange GatewayRanges::Open(uint32_t wire_range, uint32_t base,
                                 uint32_t count, absl::Duration due) {
  MUSTER_CHECK(count >= 1 && count <= kGatewayRangeMax);
  uint32_t number = first_free_;
  if (number != kNone) {
    first_free_ = slots_[number].before;
  } else {
    number = static_cast<uint32_t>(slots_.size());
    MUSTER_CHECK(number < 1 << 20);  // The credit is no greater.
    slots_.emplace_back();
  }
  Slot& slot = slots_[number];
  slot.wire_range = wire_range;
  slot.base = static_cast<uint16_t>(base);
  slot.count = slot.open = static_cast<uint16_t>(count);
  slot.frame = 0;
  open_calls_ += count;
  ++open_slots_;

  slot.tick = TickBefore(due) + 1;
  if (slot.tick <= tick_) slot.tick = tick_ + 1;
  uint32_t& bucket = buckets_[slot.tick % kBuckets];
  slot.before = kNone;
  slot.after = bucket;
  if (bucket != kNone) slots_[bucket].before = number;
  bucket = number;
  return {uint64_t{number} | uint64_t{count - 1} << 20 |
          uint64_t{slot.generation} << 30};
}

GatewayRanges::Slot* GatewayRanges::Find(GatewayRange range) {
  const auto number = static_cast<uint32_t>(range.value & ((1 << 20) - 1));
  if (number >= slots_.size()) return nullptr;
  Slot& slot = slots_[number];
  if (slot.open == 0 || slot.generation != range.value >> 30) return nullptr;
  return &slot;
}

bool GatewayRanges::Take(Slot& slot, uint32_t position) {
  if (slot.bits == kNone) {
    if (slot.count == 1) {
      slot.open = 0;
      --open_calls_;
      return true;
    }
    if (free_bits_.empty()) {
      slot.bits = static_cast<uint32_t>(answered_.size());
      answered_.emplace_back();
    } else {
      slot.bits = free_bits_.back();
      free_bits_.pop_back();
    }
    answered_[slot.bits] = {};
  }
  uint64_t& word = answered_[slot.bits][position / 64];
  const uint64_t bit = uint64_t{1} << (position % 64);
  if ((word & bit) != 0) return false;
  word |= bit;
  --slot.open;
  --open_calls_;
  return true;
}

void GatewayRanges::Close(Slot& slot) {
  if (slot.before == kNone) {
    buckets_[slot.tick % kBuckets] = slot.after;
  } else {
    slots_[slot.before].after = slot.after;
  }
  if (slot.after != kNone) slots_[slot.after].before = slot.before;
  if (slot.bits != kNone) {
    free_bits_.push_back(slot.bits);
    slot.bits = kNone;
  }
  ++slot.generation;
  slot.before = first_free_;
  first_free_ = static_cast<uint32_t>(&slot - slots_.data());
  --open_slots_;
}

absl::Duration GatewayRanges::NextDue() const {
  if (open_slots_ == 0) return absl::InfiniteDuration();
  for (uint32_t i = 1; i <= kBuckets; ++i) {
    if (buckets_[(tick_ + i) % kBuckets] != kNone) {
      return origin_ + (tick_ + i) * kTick;
    }
  }
  MUSTER_CHECK(false);  // An open slot is in a bucket.
}

void GatewayRanges::Clear() {
  for (Slot& slot : slots_) {
    if (slot.open == 0) continue;
    open_calls_ -= slot.open;
    slot.open = 0;
    Close(slot);
  }
}

}  // namespace muster
