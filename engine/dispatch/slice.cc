#include "engine/dispatch/slice.h"

#include <bit>
#include <limits>
#include <utility>

#include "engine/model/check.h"

namespace muster {

Slice::Slice(RowSet targets)
    : targets_(std::move(targets)), ready_count_(targets_.size()) {
  const size_t words = (targets_.size() + 63) / 64;
  ready_.assign(words, ~uint64_t{0});
  if (targets_.size() % 64 != 0) {
    ready_.back() = (uint64_t{1} << (targets_.size() % 64)) - 1;
  }
  waiting_.assign(words, 0);
  running_.assign(words, 0);
  succeeded_.assign(words, 0);
}

int Slice::Next(const Plane& plane, int from) {
  size_t w = static_cast<size_t>(from) >> 6;
  if (w >= plane.size()) return -1;
  uint64_t word = plane[w] & (~uint64_t{0} << (from & 63));
  while (word == 0) {
    if (++w == plane.size()) return -1;
    word = plane[w];
  }
  return static_cast<int>(w * 64) + std::countr_zero(word);
}

void Slice::ForEach(const Plane& plane, absl::FunctionRef<void(Rank)> visit) {
  for (size_t w = 0; w < plane.size(); ++w) {
    for (uint64_t word = plane[w]; word != 0; word &= word - 1) {
      visit(static_cast<Rank>(w * 64 + std::countr_zero(word)));
    }
  }
}

int Slice::succeeded_count() const {
  int count = 0;
  for (const uint64_t word : succeeded_) count += std::popcount(word);
  return count;
}

void Slice::ForEachReady(absl::FunctionRef<void(Rank)> visit) const {
  ForEach(ready_, visit);
}
void Slice::ForEachWaiting(absl::FunctionRef<void(Rank)> visit) const {
  ForEach(waiting_, visit);
}
void Slice::ForEachRunning(absl::FunctionRef<void(Rank)> visit) const {
  ForEach(running_, visit);
}

void Slice::ForEachRunning(Rank first, Rank last,
                           absl::FunctionRef<void(Rank)> visit) const {
  int rank = Next(running_, first);
  for (; rank >= 0 && rank <= last; rank = Next(running_, rank + 1)) {
    visit(static_cast<Rank>(rank));
  }
}

bool Slice::AnyRunning(Rank first, Rank last) const {
  const int rank = Next(running_, first);
  return rank >= 0 && rank <= last;
}

uint16_t Slice::AddStamp(const Stamp& stamp) {
  if (!stamps_.empty() && stamps_.back().wall == stamp.wall &&
      stamps_.back().monotonic == stamp.monotonic) {
    return static_cast<uint16_t>(stamps_.size() - 1);
  }
  // Two per target at most are referred to, so a full table always has
  // forgotten ones: those of attempts that were returned.
  if (stamps_.size() == std::numeric_limits<uint16_t>::max()) CompactStamps();
  stamps_.push_back(stamp);
  return static_cast<uint16_t>(stamps_.size() - 1);
}

void Slice::CompactStamps() {
  std::vector<uint16_t> renumbered(stamps_.size() + 1, 0);
  std::vector<Stamp> kept;
  auto keep = [&](uint16_t& reference) {
    if (reference == 0) return;
    uint16_t& number = renumbered[reference];
    if (number == 0) {
      kept.push_back(stamps_[reference - 1]);
      number = static_cast<uint16_t>(kept.size());
    }
    reference = number;
  };
  for (Progress& p : progress_) {
    keep(p.start);
    keep(p.end);
  }
  stamps_ = std::move(kept);
}

uint16_t Slice::AddResult(const ExecutionResult& result, bool* is_new) {
  // Most results repeat one of the last few.  An older one that comes again
  // gets a second entry: there are at most as many as targets.
  constexpr size_t kLookBack = 8;
  for (size_t i = results_.size(), n = 0; i > 0 && n < kLookBack; --i, ++n) {
    if (results_[i - 1] == result) {
      *is_new = false;
      return static_cast<uint16_t>(i - 1);
    }
  }
  MUSTER_CHECK(results_.size() < std::numeric_limits<uint16_t>::max());
  results_.push_back(result);
  *is_new = true;
  return static_cast<uint16_t>(results_.size() - 1);
}

Slice::Progress& Slice::progress(Rank rank) {
  if (progress_.empty()) progress_.resize(targets_.size());
  return progress_[rank];
}

void Slice::MarkRunning(Rank rank, uint16_t stamp, StatisticsDelta* delta) {
  MUSTER_DCHECK(IsReady(rank));
  Clear(ready_, rank);
  --ready_count_;
  Set(running_, rank);
  ++running_count_;
  progress(rank).start = stamp + 1;
  --delta->pending;
  ++delta->running;
}

void Slice::RestampStart(Rank rank, uint16_t stamp) {
  MUSTER_DCHECK(IsRunning(rank));
  progress(rank).start = stamp + 1;
}

void Slice::Wait(Rank rank) {
  MUSTER_DCHECK(IsReady(rank));
  Clear(ready_, rank);
  --ready_count_;
  Set(waiting_, rank);
  ++waiting_count_;
}

void Slice::Wake(Rank rank) {
  MUSTER_DCHECK(IsWaiting(rank));
  Clear(waiting_, rank);
  --waiting_count_;
  Set(ready_, rank);
  ++ready_count_;
}

void Slice::Return(Rank rank, bool sent, StatisticsDelta* delta) {
  MUSTER_CHECK(IsRunning(rank));  // A terminal state is never left (I9).
  Clear(running_, rank);
  --running_count_;
  Set(ready_, rank);
  ++ready_count_;
  progress(rank).start = 0;
  if (sent) {
    uint8_t& attempt = attempts_[rank];
    attempt = static_cast<uint8_t>((attempt + 1) % kAttempts);
  }
  ++delta->pending;
  --delta->running;
}

void Slice::Finish(Rank rank, uint16_t stamp, uint16_t result,
                   StatisticsDelta* delta) {
  if (IsRunning(rank)) {
    Clear(running_, rank);
    --running_count_;
    --delta->running;
  } else if (IsReady(rank)) {
    Clear(ready_, rank);
    --ready_count_;
    --delta->pending;
  } else {
    MUSTER_CHECK(IsWaiting(rank));  // A terminal state is never left (I9).
    Clear(waiting_, rank);
    --waiting_count_;
    --delta->pending;
  }
  Progress& p = progress(rank);
  p.end = stamp + 1;
  p.result = result;
  if (results_[result].status == ExecutionStatus::kCompleted) {
    Set(succeeded_, rank);
    ++delta->succeeded;
  } else {
    ++delta->failed;
  }
}

uint8_t Slice::attempt(Rank rank) const {
  if (attempts_.empty()) return 0;
  auto it = attempts_.find(rank);
  return it == attempts_.end() ? 0 : it->second;
}

absl::Duration Slice::RunningSince(Rank rank) const {
  MUSTER_DCHECK(IsRunning(rank));
  return stamps_[progress_[rank].start - 1].monotonic;
}

Slice::View Slice::Get(Rank rank) const {
  View view;
  if (progress_.empty()) return view;
  const Progress& p = progress_[rank];
  if (p.start != 0) view.start = &stamps_[p.start - 1];
  if (p.end != 0) {
    view.end = &stamps_[p.end - 1];
    view.result = &results_[p.result];
    view.status = view.result->status;
  } else if (IsRunning(rank)) {
    view.status = ExecutionStatus::kRunning;
  }
  return view;
}

size_t Slice::MemoryUsage() const {
  size_t bytes = targets_.MemoryUsage() +
                 4 * ready_.capacity() * sizeof(uint64_t) +
                 progress_.capacity() * sizeof(Progress) +
                 stamps_.capacity() * sizeof(Stamp) +
                 results_.capacity() * sizeof(ExecutionResult) +
                 attempts_.capacity() * (sizeof(Rank) + 2);
  for (const ExecutionResult& r : results_) {
    bytes += r.payload.capacity() + r.description.capacity();
  }
  return bytes;
}

}  // namespace muster
