#include "engine/schedule/deadline_store.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "engine/model/check.h"

namespace muster {
namespace {

// The first set bit from `from` on; -1 if there is none.
int64_t NextBit(const std::vector<uint64_t>& words, int64_t from) {
  size_t i = static_cast<size_t>(from) / 64;
  if (i >= words.size()) return -1;
  uint64_t word = words[i] & (~uint64_t{0} << (from % 64));
  while (word == 0) {
    if (++i == words.size()) return -1;
    word = words[i];
  }
  return static_cast<int64_t>(i) * 64 + std::countr_zero(word);
}

}  // namespace

// ------------------------------------------------------------------- Wheel

DeadlineStore::Wheel::Wheel(int size)
    : mask(size - 1),
      chains(size),
      bits((size + 63) / 64),
      summary((bits.size() + 63) / 64) {}

void DeadlineStore::Wheel::Mark(int64_t number) {
  const int64_t place = number & mask;
  bits[place / 64] |= uint64_t{1} << (place % 64);
  summary[place / 4096] |= uint64_t{1} << (place / 64 % 64);
}

void DeadlineStore::Wheel::Unmark(int64_t number) {
  const int64_t place = number & mask;
  bits[place / 64] &= ~(uint64_t{1} << (place % 64));
  if (bits[place / 64] == 0) {
    summary[place / 4096] &= ~(uint64_t{1} << (place / 64 % 64));
  }
}

int64_t DeadlineStore::Wheel::First(int64_t number) const {
  const int64_t start = number & mask;
  const int64_t lap = number - start;
  // The rest of the word, the words after it, then from the ring's begin on.
  const uint64_t rest = bits[start / 64] >> (start % 64);
  if (rest != 0) return number + std::countr_zero(rest);
  int64_t word = NextBit(summary, start / 64 + 1);
  int64_t round = 0;
  if (word < 0) {
    word = NextBit(summary, 0);
    round = mask + 1;
    if (word < 0) return number + mask + 1;
  }
  const int64_t place = word * 64 + std::countr_zero(bits[word]);
  return lap + place + round;
}

// ------------------------------------------------------------------- store

DeadlineStore::DeadlineStore(const Options& options, absl::Duration now)
    : tick_ns_(absl::ToInt64Nanoseconds(options.tick)),
      fine_bits_(std::countr_zero(static_cast<unsigned>(options.fine_ticks))),
      entries_max_(options.entries_max),
      cursor_(0),
      fine_(options.fine_ticks),
      coarse_(kCoarse) {
  MUSTER_CHECK(options.tick >= absl::Microseconds(1) &&
               options.tick <= absl::Hours(1));
  MUSTER_CHECK(options.fine_ticks >= 64 && options.fine_ticks <= 65'536 &&
               std::has_single_bit(static_cast<unsigned>(options.fine_ticks)));
  MUSTER_CHECK(options.entries_max >= 1 && options.entries_max <= int64_t{1}
                                                                      << 31);
  cursor_ = NowTick(now);
}

int64_t DeadlineStore::DueTick(absl::Duration due) const {
  const int64_t ns = absl::ToInt64Nanoseconds(due);
  if (ns == std::numeric_limits<int64_t>::max()) return kNever;
  // Towards zero, which is up before the origin.
  const int64_t tick = ns / tick_ns_;
  return tick * tick_ns_ < ns || absl::Nanoseconds(ns) < due ? tick + 1 : tick;
}

int64_t DeadlineStore::NowTick(absl::Duration now) const {
  const int64_t ns = absl::ToInt64Nanoseconds(now);
  const int64_t tick = ns / tick_ns_;
  return tick * tick_ns_ > ns || absl::Nanoseconds(ns) > now ? tick - 1 : tick;
}

bool DeadlineStore::Add(absl::Duration due, uint64_t value) {
  if (size_ == entries_max_) return false;
  ++size_;
  Put(std::max(DueTick(due), cursor_), value);
  return true;
}

void DeadlineStore::Put(int64_t tick, uint64_t value) {
  if (tick - cursor_ <= fine_.mask) {
    Block& block = Room(fine_, tick, 1);
    block.words[fine_.At(tick).count++] = value;
  } else {
    const int64_t number =
        std::min(tick >> fine_bits_, (cursor_ >> fine_bits_) + coarse_.mask);
    Block& block = Room(coarse_, number, 2);
    uint32_t& count = coarse_.At(number).count;
    block.words[count++] = static_cast<uint64_t>(tick);
    block.words[count++] = value;
  }
}

DeadlineStore::Block& DeadlineStore::Room(Wheel& wheel, int64_t number,
                                          uint32_t words) {
  Chain& chain = wheel.At(number);
  if (chain.block != kNone && chain.count + words <= kWords) {
    return At(chain.block);
  }
  uint32_t block = free_;
  if (block != kNone) {
    free_ = At(block).next;
  } else {
    block = used_++;
    if (block >> kChunkBits == chunks_.size()) {
      chunks_.push_back(
          std::make_unique_for_overwrite<Block[]>(size_t{1} << kChunkBits));
    }
  }
  if (chain.block == kNone) wheel.Mark(number);
  At(block).next = chain.block;
  chain.block = block;
  chain.count = 0;
  return At(block);
}

void DeadlineStore::Shrink(Wheel& wheel, int64_t number) {
  Chain& chain = wheel.At(number);
  if (chain.count > 0) return;
  Block& block = At(chain.block);
  const uint32_t next = block.next;
  block.next = free_;
  free_ = chain.block;
  chain.block = next;
  if (next == kNone) {
    wheel.Unmark(number);
  } else {
    // All but the first are full: of single words, or of pairs.
    chain.count = &wheel == &fine_ ? kWords : kWords - 1;
  }
}

bool DeadlineStore::ExpireDue(absl::Duration now, int steps_max,
                              std::vector<uint64_t>* out) {
  MUSTER_DCHECK(steps_max > 0);
  const int64_t until = NowTick(now);
  if (size_ == 0) {
    cursor_ = until;
    return false;
  }
  auto steps = static_cast<uint32_t>(steps_max);
  while (true) {
    const int64_t tick = FirstTick();
    if (tick > until) break;
    if (steps == 0) return true;
    cursor_ = tick;
    const int64_t number = tick >> fine_bits_;
    if (Chain& far = coarse_.At(number); far.block != kNone) {
      // Before anything of its ticks expires.
      Block& block = At(far.block);
      const uint32_t end = far.count - 2 * std::min(far.count / 2, steps);
      steps -= (far.count - end) / 2;
      while (far.count > end) {
        far.count -= 2;
        Put(static_cast<int64_t>(block.words[far.count]),
            block.words[far.count + 1]);
      }
      Shrink(coarse_, number);
      continue;
    }
    Chain& chain = fine_.At(tick);
    const uint32_t taken = std::min(chain.count, steps);
    steps -= taken;
    size_ -= taken;
    chain.count -= taken;
    const uint64_t* words = At(chain.block).words + chain.count;
    out->insert(out->end(), std::make_reverse_iterator(words + taken),
                std::make_reverse_iterator(words));
    Shrink(fine_, tick);
  }
  cursor_ = std::max(cursor_, until);
  Prefetch(fine_.First(cursor_));
  return false;
}

void DeadlineStore::Prefetch(int64_t tick) {
  const Chain& chain = fine_.At(tick);
  if (chain.block == kNone) return;
  const char* line = reinterpret_cast<const char*>(&At(chain.block));
  for (size_t i = 0; i < sizeof(Block); i += 64) __builtin_prefetch(line + i);
}

int64_t DeadlineStore::FirstTick() const {
  int64_t tick = fine_.First(cursor_);
  if (tick - cursor_ > fine_.mask) tick = kNever;
  const int64_t here = cursor_ >> fine_bits_;
  const int64_t number = coarse_.First(here);
  if (number - here > coarse_.mask) return tick;
  return std::min(tick, std::max(number << fine_bits_, cursor_));
}

absl::Duration DeadlineStore::NextDue() const {
  const int64_t tick = FirstTick();
  if (tick == kNever) return absl::InfiniteDuration();
  // A coarse chain may begin when no clock gets to.
  constexpr int64_t kLast = std::numeric_limits<int64_t>::max();
  return absl::Nanoseconds(std::min(tick, kLast / tick_ns_) * tick_ns_);
}

void DeadlineStore::Trim() {
  if (size_ > 0) return;
  chunks_.clear();
  chunks_.shrink_to_fit();
  used_ = 0;
  free_ = kNone;
}

size_t DeadlineStore::MemoryUsage() const {
  const auto of = [](const Wheel& wheel) {
    return wheel.chains.capacity() * sizeof(Chain) +
           (wheel.bits.capacity() + wheel.summary.capacity()) *
               sizeof(uint64_t);
  };
  return of(fine_) + of(coarse_) +
         chunks_.size() * (sizeof(Block) << kChunkBits);
}

}  // namespace muster
