// Every instruction set's kernels against the scalar ones, whose meaning is
// plain.
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "engine/twin/columns/kernels.h"
#include "gtest/gtest.h"
#include "hwy/aligned_allocator.h"
#include "hwy/targets.h"

namespace muster {
namespace {

class KernelsTest : public testing::TestWithParam<int64_t> {
 protected:
  KernelsTest() {
    hwy::SetSupportedTargetsForTest(GetParam());
    hwy::GetChosenTarget().DeInit();  // Chosen again at the next call.
  }
  ~KernelsTest() override {
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().DeInit();
  }

  uint64_t Random() { return random_(); }
  uint64_t Below(uint64_t limit) { return random_() % limit; }

  // All, none, few, many, and words of zeros between others.
  std::vector<uint64_t> RandomMask(size_t words) {
    std::vector<uint64_t> mask(words);
    const uint64_t style = Below(6);
    for (uint64_t& word : mask) {
      switch (style) {
        case 0:
          word = 0;
          break;
        case 1:
          word = ~uint64_t{0};
          break;
        case 2:
          word = Random();
          break;
        case 3:
          word = Below(8) == 0 ? uint64_t{1} << Below(64) : 0;
          break;
        case 4:
          word = Random() & Random() & Random();
          break;
        default:
          word = Below(2) == 0 ? 0 : Random() | Random();
      }
    }
    return mask;
  }

  template <typename T>
  void TestRange(size_t words) {
    auto codes = RandomCodes<T>(words);
    T a = RandomCode<T>();
    T b = RandomCode<T>();
    if (Below(4) == 0) a = 0;
    if (Below(4) == 0) b = static_cast<T>(~T{0});
    if (Below(4) == 0) b = a;
    const T first = a < b ? a : b;
    const T last = a < b ? b : a;
    std::vector<uint64_t> expected(words);
    std::vector<uint64_t> actual(words, Random());
    scalar::RangeMask(codes.get(), words, first, last, expected.data());
    RangeMask(codes.get(), words, first, last, actual.data());
    EXPECT_EQ(actual, expected);
    for (const bool inside : {true, false}) {
      const std::vector<uint64_t> mask = RandomMask(words);
      actual = mask;
      AndRangeMask(codes.get(), words, first, last, inside, actual.data());
      std::vector<uint64_t> both = mask;
      for (size_t w = 0; w < words; ++w) {
        both[w] &= inside ? expected[w] : ~expected[w];
      }
      EXPECT_EQ(actual, both);
    }
  }

  template <typename T>
  void TestSet(size_t words) {
    auto codes = RandomCodes<T>(words);
    const std::vector<uint64_t> set =
        RandomMask(size_t{1} << (8 * sizeof(T)) >> 6);
    std::vector<uint64_t> expected(words);
    std::vector<uint64_t> actual(words, Random());
    scalar::SetMask(codes.get(), words, set.data(), expected.data());
    SetMask(codes.get(), words, set.data(), actual.data());
    EXPECT_EQ(actual, expected);
    const std::vector<uint64_t> mask = RandomMask(words);
    actual = mask;
    AndSetMask(codes.get(), words, set.data(), actual.data());
    std::vector<uint64_t> both = mask;
    for (size_t w = 0; w < words; ++w) both[w] &= expected[w];
    EXPECT_EQ(actual, both);
  }

  // Sizes around those of pieces and vectors.
  static constexpr size_t kSizes[] = {0,  1,  2,  3,  4,   7,   8,   9,   15,
                                      16, 63, 64, 65, 255, 256, 257, 300, 600};

 private:
  // Mostly near each other, so that ranges are met.
  template <typename T>
  T RandomCode() {
    const uint64_t number = Random();
    return static_cast<T>(Below(2) == 0   ? number
                          : Below(2) == 0 ? number % 16
                                          : ~(number % 16));
  }
  template <typename T>
  hwy::AlignedFreeUniquePtr<T[]> RandomCodes(size_t words) {
    auto codes = hwy::AllocateAligned<T>(64 * words + 1);
    for (size_t i = 0; i < 64 * words; ++i) codes[i] = RandomCode<T>();
    return codes;
  }

  std::mt19937_64 random_{20310301};
};

TEST_P(KernelsTest, RangesAgreeWithScalar) {
  for (const size_t words : kSizes) {
    SCOPED_TRACE(words);
    for (int i = 0; i < 10; ++i) {
      TestRange<uint8_t>(words);
      TestRange<uint16_t>(words);
      TestRange<uint32_t>(words);
      TestRange<uint64_t>(words);
    }
  }
}

TEST_P(KernelsTest, SetsAgreeWithScalar) {
  for (const size_t words : kSizes) {
    SCOPED_TRACE(words);
    for (int i = 0; i < 10; ++i) {
      TestSet<uint8_t>(words);
      TestSet<uint16_t>(words);
    }
  }
}

TEST_P(KernelsTest, EveryCodeOf8BitsInEverySetOfOne) {
  auto codes = hwy::AllocateAligned<uint8_t>(256);
  for (int i = 0; i < 256; ++i) codes[i] = static_cast<uint8_t>(i);
  for (int code = 0; code < 256; ++code) {
    std::vector<uint64_t> set(4);
    set[static_cast<size_t>(code / 64)] = uint64_t{1} << code % 64;
    std::vector<uint64_t> mask(4);
    SetMask(codes.get(), 4, set.data(), mask.data());
    EXPECT_EQ(mask, set);
  }
}

TEST_P(KernelsTest, RowsAndCountsAgreeWithScalar) {
  for (const size_t words : kSizes) {
    SCOPED_TRACE(words);
    for (int i = 0; i < 20; ++i) {
      const std::vector<uint64_t> mask = RandomMask(words);
      std::vector<uint32_t> expected(64 * words + kRowsOfMaskSpare);
      std::vector<uint32_t> actual(64 * words + kRowsOfMaskSpare);
      const uint32_t first = static_cast<uint32_t>(Below(1u << 24));
      const size_t count =
          scalar::RowsOfMask(mask.data(), words, first, expected.data());
      EXPECT_EQ(RowsOfMask(mask.data(), words, first, actual.data()), count);
      expected.resize(count);
      actual.resize(count);
      EXPECT_EQ(actual, expected);
      EXPECT_EQ(CountMask(mask.data(), words), count);
      EXPECT_EQ(scalar::CountMask(mask.data(), words), count);
    }
  }
}

TEST_P(KernelsTest, NumbersAgreeWithScalar) {
  constexpr double kNumbers[] = {0.0,
                                 -0.0,
                                 1.5,
                                 -1.5,
                                 1e300,
                                 -1e300,
                                 5e-324,
                                 std::numeric_limits<double>::infinity(),
                                 std::numeric_limits<double>::quiet_NaN()};
  for (int i = 0; i < 100; ++i) {
    auto left = hwy::AllocateAligned<double>(64);
    auto right = hwy::AllocateAligned<double>(64);
    for (int j = 0; j < 64; ++j) {
      left[j] = kNumbers[Below(std::size(kNumbers))];
      right[j] = kNumbers[Below(std::size(kNumbers))];
    }
    uint64_t less, equal, expected_less, expected_equal;
    CompareNumbers(left.get(), right.get(), &less, &equal);
    scalar::CompareNumbers(left.get(), right.get(), &expected_less,
                           &expected_equal);
    EXPECT_EQ(less, expected_less);
    EXPECT_EQ(equal, expected_equal);
  }
}

std::vector<int64_t> Targets() {
  std::vector<int64_t> targets;
  for (int64_t left = hwy::SupportedTargets(); left != 0; left &= left - 1) {
    targets.push_back(left & -left);
  }
  return targets;
}

INSTANTIATE_TEST_SUITE_P(Targets, KernelsTest, testing::ValuesIn(Targets()),
                         [](const testing::TestParamInfo<int64_t>& info) {
                           return std::string(hwy::TargetName(info.param));
                         });

}  // namespace
}  // namespace muster
