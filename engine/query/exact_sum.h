// ExactSum: a sum of doubles without rounding, until it is read.
//
// Floating-point addition is not associative: shards that add up their rows in
// another order would answer differently.  A double is an integer times a power
// of two, and all doubles fit into one integer of 2,098 bits times 2^-1074, so
// the sum is kept as that integer, in limbs of 32 bits:
//
//   value = sum over i of limb[i] * 2^(32 * i - 1074)
//
// Limbs are int64_t and signed: adding a double touches three of them, without
// carrying.  Carries are settled before 2^30 additions could overflow one, and
// when the sum is read.  Most sums never get that far: whole numbers below 2^63
// are added in 128 bits, and the limbs are only made for the first other value.
//
// After the small superaccumulator of R. Neal, "Fast exact summation using
// small and large superaccumulators" (2015).
#ifndef ENGINE_QUERY_EXACT_SUM_H_
#define ENGINE_QUERY_EXACT_SUM_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/numeric/int128.h"

namespace muster {

// Values are finite; at most 2^62 of them.  Not thread-safe.
class ExactSum {
 public:
  ExactSum() = default;
  ExactSum(const ExactSum& other);
  ExactSum& operator=(const ExactSum& other);
  ExactSum(ExactSum&&) = default;
  ExactSum& operator=(ExactSum&&) = default;

  // REQUIRES: finite.
  void Add(double value);
  void Merge(const ExactSum& other);

  // The sum rounded once, to nearest, ties to even; infinite beyond doubles.
  double Round() const;

  // The sum itself if only whole numbers below 2^63 in magnitude were added and
  // it is one too.
  std::optional<int64_t> WholeSum() const;

 private:
  // 2^-1074 up to 2^1024, and 2^62 of the largest doubles: 2,160 bits.
  static constexpr size_t kLimbs = 68;
  struct Wide {
    std::array<int64_t, kLimbs> limbs = {};
    int64_t additions = 0;  // Since carries were settled.

    void Settle();
    void AddScaled(uint64_t magnitude, int exponent, bool negative);
  };
  Wide& wide();

  absl::int128 whole_ = 0;
  std::unique_ptr<Wide> wide_;
};

}  // namespace muster

#endif  // ENGINE_QUERY_EXACT_SUM_H_
