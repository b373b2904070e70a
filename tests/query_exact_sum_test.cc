// Sums of doubles that are rounded once.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <random>
#include <vector>

#include "absl/numeric/int128.h"
#include "absl/strings/str_cat.h"
#include "engine/query/exact_sum.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

double Sum(const std::vector<double>& values) {
  ExactSum sum;
  for (const double value : values) sum.Add(value);
  return sum.Round();
}

TEST(ExactSum, Known) {
  constexpr double kMax = std::numeric_limits<double>::max();
  constexpr double kTiny = std::numeric_limits<double>::denorm_min();
  constexpr double kNormal = std::numeric_limits<double>::min();
  EXPECT_EQ(Sum({}), 0);
  EXPECT_EQ(Sum({0.5}), 0.5);
  EXPECT_EQ(Sum({-0.75, 0.5}), -0.25);
  EXPECT_EQ(Sum({1e300, 1, -1e300}), 1);
  EXPECT_EQ(Sum({1e16, 0.5, 0.5, -1e16}), 1);
  EXPECT_EQ(Sum({0.1, 0.2, -0.3}),
            0x1p-55);  // What the three really add up to.
  EXPECT_EQ(Sum({kMax, kMax, -kMax}), kMax);
  EXPECT_EQ(Sum({-kMax, -kMax}), -std::numeric_limits<double>::infinity());
  EXPECT_EQ(Sum({kTiny}), kTiny);
  EXPECT_EQ(Sum({kTiny, kTiny, -kTiny}), kTiny);
  EXPECT_EQ(Sum({kNormal, -kTiny}), kNormal - kTiny);
  EXPECT_EQ(Sum({kMax, kTiny, -kMax}), kTiny);
  EXPECT_EQ(Sum({0x1p63, -0x1p63, 0x1p62}), 0x1p62);
}

TEST(ExactSum, RoundsToNearestTiesToEven) {
  EXPECT_EQ(Sum({0x1p53, 1}), 0x1p53);
  EXPECT_EQ(Sum({0x1p53, 3}), 0x1p53 + 4);
  EXPECT_EQ(Sum({0x1p53, 1, 0x1p-1000}), 0x1p53 + 2);
  EXPECT_EQ(Sum({0x1p53, 1, -0x1p-1000}), 0x1p53);
  EXPECT_EQ(Sum({-0x1p53, -1, -0x1p-1000}), -0x1p53 - 2);
  EXPECT_EQ(Sum({1.5, 0x1p-53, 0x1p-1074}), 1.5 + 0x1p-52);
  EXPECT_EQ(Sum({1, 0x1p-53}), 1);
  EXPECT_EQ(Sum({1 + 0x1p-52, 0x1p-53}), 1 + 0x1p-51);
  // Rounding up into the next power of two.
  EXPECT_EQ(Sum({0x1.fffffffffffffp52, 0.5}), 0x1p53);
}

TEST(ExactSum, WholeNumbersStayWhole) {
  ExactSum sum;
  for (int i = 0; i < 3; ++i) sum.Add(9007199254740991);
  EXPECT_EQ(sum.WholeSum(), int64_t{27021597764222973});
  for (int i = 0; i < 2000; ++i) sum.Add(0x1p62);
  EXPECT_EQ(sum.WholeSum(), std::nullopt);  // Too large for an int64_t.
  sum.Add(0.5);
  EXPECT_EQ(sum.WholeSum(), std::nullopt);
}

// Dyadic fractions that fit a 128-bit integer, against that integer.
TEST(ExactSum, AgreesWithWideIntegers) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 2000; ++round) {
    absl::int128 units = 0;  // Of 2^-20.
    ExactSum sum;
    const int count = 1 + static_cast<int>(random() % 50);
    for (int i = 0; i < count; ++i) {
      const int shift = static_cast<int>(random() % 40);
      int64_t mantissa = static_cast<int64_t>(random() >> (11 + random() % 50));
      if (random() % 2 == 0) mantissa = -mantissa;
      sum.Add(std::ldexp(static_cast<double>(mantissa), shift - 20));
      units += absl::int128(mantissa) * (absl::int128(1) << shift);
    }
    // Conversion of absl::int128 to double truncates; __int128's rounds.
    const __int128 native = static_cast<__int128>(units);
    EXPECT_EQ(sum.Round(), std::ldexp(static_cast<double>(native), -20));
  }
}

TEST(ExactSum, OrderAndMergingDoNotMatter) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937_64 random(seed);
  std::vector<double> values;
  for (int i = 0; i < 1000; ++i) {
    const double mantissa = static_cast<double>(random() % 1'000'000) - 500'000;
    values.push_back(
        std::ldexp(mantissa, static_cast<int>(random() % 1900) - 950));
  }
  const double expected = Sum(values);
  for (int round = 0; round < 20; ++round) {
    std::shuffle(values.begin(), values.end(), random);
    std::vector<ExactSum> parts(1 + random() % 5);
    for (const double value : values) {
      parts[random() % parts.size()].Add(value);
    }
    ExactSum total;
    for (const ExactSum& part : parts) total.Merge(part);
    EXPECT_EQ(total.Round(), expected);
    ExactSum copy = total;
    for (const double value : values) copy.Add(-value);
    EXPECT_EQ(copy.Round(), 0);
    EXPECT_EQ(total.Round(), expected);
  }
}

}  // namespace
}  // namespace muster
