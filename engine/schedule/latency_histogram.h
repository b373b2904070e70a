// LatencyHistogram: how long something took, counted in fixed buckets.
//
// The bounds are the same for everything that is measured: 1, 2.5 and 5 of each
// decade from 100 us to 1,000 s.  So a budget of 5 or 10 ms is a bound, and a
// share within it is exact; quantiles between bounds are guesses.
#ifndef ENGINE_SCHEDULE_LATENCY_HISTOGRAM_H_
#define ENGINE_SCHEDULE_LATENCY_HISTOGRAM_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

namespace muster {

// Upper bounds of the buckets, in microseconds; a value that equals one is
// within.  What is longer than the last has a bucket of its own.
inline constexpr std::array<int64_t, 22> kLatencyBoundsUs = {
    100,         250,         500,         1'000,        2'500,      5'000,
    10'000,      25'000,      50'000,      100'000,      250'000,    500'000,
    1'000'000,   2'500'000,   5'000'000,   10'000'000,   25'000'000, 50'000'000,
    100'000'000, 250'000'000, 500'000'000, 1'000'000'000};

// What a histogram has counted.
struct LatencyCounts {
  // By bucket, not cumulated; the last is beyond all bounds.
  std::array<int64_t, kLatencyBoundsUs.size() + 1> buckets{};
  double sum_seconds = 0;

  int64_t count() const {
    int64_t count = 0;
    for (const int64_t n : buckets) count += n;
    return count;
  }
};

// Thread-safe.
class LatencyHistogram {
 public:
  // Counts `count` times that took `latency`; a negative one as none.  One
  // addition to a bucket and one to the sum, however large `count` is.
  // Lock-free: the sum is a compare-and-swap.
  void Add(absl::Duration latency, int64_t count = 1) {
    const double seconds = std::max(0.0, absl::ToDoubleSeconds(latency)) *
                           static_cast<double>(count);
    const auto bucket =
        std::lower_bound(kLatencyBoundsUs.begin(), kLatencyBoundsUs.end(),
                         latency, [](int64_t bound, absl::Duration value) {
                           return absl::Microseconds(bound) < value;
                         });
    // Relaxed: nothing is read because of what these say.
    buckets_[static_cast<size_t>(bucket - kLatencyBoundsUs.begin())].fetch_add(
        count, std::memory_order_relaxed);
    sum_seconds_.fetch_add(seconds, std::memory_order_relaxed);
  }

  // Additions that are under way may be in the sum and not in a bucket, or the
  // other way round.  Wait-free.
  LatencyCounts Read() const {
    LatencyCounts counts;
    for (size_t i = 0; i < buckets_.size(); ++i) {
      counts.buckets[i] = buckets_[i].load(std::memory_order_relaxed);
    }
    counts.sum_seconds = sum_seconds_.load(std::memory_order_relaxed);
    return counts;
  }

 private:
  alignas(64) std::atomic<double> sum_seconds_{0};
  std::array<std::atomic<int64_t>, kLatencyBoundsUs.size() + 1> buckets_{};
};

}  // namespace muster

#endif  // ENGINE_SCHEDULE_LATENCY_HISTOGRAM_H_
