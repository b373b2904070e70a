// GatewayRanges: calls that a gateway has not answered yet.
//
// Calls come and are answered by the range; what is kept for one is a slot of
// 48 bytes, whatever its length, and a bit for each call from the moment when a
// part of it is answered.  The slot's number is in the range's name, and how
// often it has been used: a name of an earlier use finds nothing.
//
// Timeouts: a wheel of buckets of kTick, each a list through the slots.  A slot
// goes into the bucket of its tick and out of it in O(1), whatever the timeout;
// one that is more than a round of the wheel ahead is passed over until then.
// After Varghese and Lauck, "Hashed and hierarchical timing wheels", SOSP 1987.
#ifndef TRANSPORT_GRPC_GATEWAY_GATEWAY_RANGES_H_
#define TRANSPORT_GRPC_GATEWAY_GATEWAY_RANGES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "transport/grpc/gateway/gateway.h"

namespace muster {

// Calls in a range.
inline constexpr uint32_t kGatewayRangeMax = 1024;

// Thread-compatible: its owner guards it.
class GatewayRanges {
 public:
  static constexpr absl::Duration kTick = absl::Milliseconds(50);

  struct Slot {
    uint32_t wire_range;  // The engine's number of it.
    uint16_t base;        // Its first call's position in the engine's range.
    uint16_t count;
    uint16_t open;  // Calls that are not answered; 0: the slot is free.

    // Where the outcomes that are not sent yet are: GatewayAnswers'.
    uint32_t frame = 0;
    int32_t entry = 0;

   private:
    friend class GatewayRanges;
    uint32_t generation = 0;
    uint32_t bits = kNone;  // Its answered_ block; kNone: none is answered.
    uint32_t tick = 0;      // When it times out.
    uint32_t before = 0;    // In its bucket.  Free: the next free slot.
    uint32_t after = 0;
  };

  // `now`: where its clock stands.
  explicit GatewayRanges(absl::Duration now);

  // A range of 1 to kGatewayRangeMax calls, which times out at `due`.
  GatewayRange Open(uint32_t wire_range, uint32_t base, uint32_t count,
                    absl::Duration due);

  // Null if all its calls have been answered, or it has been closed.
  Slot* Find(GatewayRange range);
  // How many calls a range has or had.
  static uint32_t CountOf(GatewayRange range) {
    return static_cast<uint32_t>(range.value >> 20 & 1023) + 1;
  }

  // Takes the call at `position` as answered; false if it was.  Has to be
  // followed by CloseIfDone().
  bool Take(Slot& slot, uint32_t position);

  // Calls f(first, count) for each run of calls without an answer and closes
  // the range.
  template <typename F>
  void TakeAll(Slot& slot, F f) {
    if (slot.open == slot.count) {
      f(uint32_t{0}, uint32_t{slot.count});
    } else {
      for (uint32_t first = 0; first < slot.count; ++first) {
        uint32_t end = first;
        while (end < slot.count && !IsTaken(slot, end)) ++end;
        if (end != first) f(first, end - first);
        first = end;
      }
    }
    open_calls_ -= slot.open;
    slot.open = 0;
    Close(slot);
  }

  void CloseIfDone(Slot& slot) {
    if (slot.open == 0) Close(slot);
  }

  // Calls f(slot) for each range that has timed out; f has to take all of it.
  template <typename F>
  void Expire(absl::Duration now, F f) {
    const uint32_t last = TickBefore(now);
    // After a long time every bucket is looked at once.
    for (uint32_t i = 0; tick_ < last && i < kBuckets; ++i) {
      ++tick_;
      for (uint32_t slot = buckets_[tick_ % kBuckets]; slot != kNone;) {
        const uint32_t next = slots_[slot].after;
        if (slots_[slot].tick <= last) f(slots_[slot]);
        slot = next;
      }
    }
    tick_ = last;
  }

  // When Expire() should be called next; InfiniteDuration() if nothing is open.
  absl::Duration NextDue() const;

  // Forgets all ranges: the stream has ended.
  void Clear();

  int64_t open_calls() const { return open_calls_; }

 private:
  static constexpr uint32_t kNone = ~uint32_t{0};
  static constexpr uint32_t kBuckets = 4096;  // A power of two.
  using Bits = std::array<uint64_t, kGatewayRangeMax / 64>;

  bool IsTaken(const Slot& slot, uint32_t position) const {
    return (answered_[slot.bits][position / 64] >> (position % 64) & 1) != 0;
  }
  uint32_t TickBefore(absl::Duration time) const {
    return static_cast<uint32_t>((time - origin_) / kTick);
  }
  void Close(Slot& slot);

  const absl::Duration origin_;

  std::vector<Slot> slots_;
  uint32_t first_free_ = kNone;
  int64_t open_calls_ = 0;
  int64_t open_slots_ = 0;

  std::vector<Bits> answered_;
  std::vector<uint32_t> free_bits_;

  uint32_t tick_ = 0;  // The last one that has expired.
  std::vector<uint32_t> buckets_;
};

}  // namespace muster

#endif  // TRANSPORT_GRPC_GATEWAY_GATEWAY_RANGES_H_
