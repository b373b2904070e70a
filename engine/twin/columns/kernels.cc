#include "engine/twin/columns/kernels.h"

#include <cstddef>
#include <cstdint>

// GCC's address sanitizer does not align 64 bytes on its fake stack (PR
// 110027); and what GCC 12 makes of AVX-512 masks for its thread sanitizer
// gives wrong ones, as the kernels' tests show.  Clang's sanitizers are right.
#if (defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)) && \
    !defined(__clang__)
#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_AVX3 | HWY_AVX3_DL)
#endif

// This file is compiled once per instruction set; see hwy/foreach_target.h.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/twin/columns/kernels.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace muster {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// One bit per lane, from the lowest.
template <class D, class M>
HWY_INLINE uint64_t BitsOf(D d, M m) {
  uint64_t bits = 0;
  hn::StoreMaskBits(d, m, reinterpret_cast<uint8_t*>(&bits));
  return bits;
}

// Whether a code is in [first, last], 64 codes at once.
template <typename T>
class RangeTest {
 public:
  RangeTest(T first, T last)
      : first_(hn::Set(d_, first)),
        span_(hn::Set(d_, static_cast<T>(last - first))) {}

  HWY_INLINE uint64_t operator()(const T* HWY_RESTRICT codes) const {
    const size_t lanes = hn::Lanes(d_);
    uint64_t word = 0;
    for (size_t i = 0; i < 64; i += lanes) {
      // Below `first` wraps around and is large.
      const auto distance = hn::Sub(hn::Load(d_, codes + i), first_);
      uint64_t bits;
      if constexpr (sizeof(T) < 8) {
        bits = BitsOf(d_, hn::Eq(hn::Min(distance, span_), distance));
      } else {
        // There is no minimum of 64-bit numbers in most sets.
        bits = BitsOf(d_, hn::Lt(span_, distance));
      }
      word |= bits << i;
    }
    return sizeof(T) < 8 ? word : ~word;
  }

 private:
  // Not more lanes than rows in a word.
  static constexpr hn::CappedTag<T, 64> d_{};
  hn::Vec<hn::CappedTag<T, 64>> first_, span_;
};

#if HWY_TARGET != HWY_SCALAR
// Membership in a set of 256 by two looks into tables of 16: a code's low half
// says where to look, its high half which of 8 + 8 bits (G. Langdale, W. Mula,
// "SIMD-ized check which bytes are in a set").
class SetTest8 {
 public:
  explicit SetTest8(const uint64_t* set) {
    const hn::Full128<uint8_t> d128;
    auto low_half = hn::Zero(d128);
    auto high_half = hn::Zero(d128);
    for (int i = 0; i < 8; ++i) {
      const auto bit = hn::Set(d128, static_cast<uint8_t>(1 << i));
      low_half = hn::Or(low_half, Expanded(set, 16 * i, bit));
      high_half = hn::Or(high_half, Expanded(set, 16 * (8 + i), bit));
    }
    HWY_ALIGN uint8_t low[16];
    HWY_ALIGN uint8_t high[16];
    hn::Store(low_half, d128, low);
    hn::Store(high_half, d128, high);
    HWY_ALIGN static constexpr uint8_t kBits[16] = {
        1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    low_ = hn::LoadDup128(d_, low);
    high_ = hn::LoadDup128(d_, high);
    bits_ = hn::LoadDup128(d_, kBits);
  }

  HWY_INLINE uint64_t operator()(const uint8_t* HWY_RESTRICT codes) const {
    const size_t lanes = hn::Lanes(d_);
    const auto nibble = hn::Set(d_, uint8_t{0x0f});
    const auto select = hn::Set(d_, uint8_t{0x8f});
    const auto top = hn::Set(d_, uint8_t{0x80});
    const hn::RepartitionToWide<decltype(d_)> d16;
    uint64_t word = 0;
    for (size_t i = 0; i < 64; i += lanes) {
      const auto code = hn::Load(d_, codes + i);
      // The highest bit of an index makes the answer 0.
      const auto index = hn::And(code, select);
      const auto held =
          hn::Or(hn::TableLookupBytesOr0(low_, index),
                 hn::TableLookupBytesOr0(high_, hn::Xor(index, top)));
      const auto high = hn::And(
          hn::BitCast(d_, hn::ShiftRight<4>(hn::BitCast(d16, code))), nibble);
      const auto bit = hn::TableLookupBytes(bits_, high);
      word |= BitsOf(d_, hn::Eq(hn::And(held, bit), bit)) << i;
    }
    return word;
  }

 private:
  using D = hn::CappedTag<uint8_t, 64>;
  // `value` where the 16 bits of the set from `first` on are 1, else 0.
  static HWY_INLINE hn::Vec<hn::Full128<uint8_t>> Expanded(
      const uint64_t* set, int first, hn::Vec<hn::Full128<uint8_t>> value) {
    const uint64_t bits = set[first >> 6] >> (first & 63);
    return hn::IfThenElseZero(
        hn::LoadMaskBits(hn::Full128<uint8_t>(),
                         reinterpret_cast<const uint8_t*>(&bits)),
        value);
  }

  static constexpr D d_{};
  hn::Vec<D> low_, high_, bits_;
};
#else
class SetTest8 {
 public:
  explicit SetTest8(const uint64_t* set) : set_(set) {}
  uint64_t operator()(const uint8_t* codes) const {
    uint64_t word = 0;
    for (int i = 0; i < 64; ++i) {
      word |= (set_[codes[i] >> 6] >> (codes[i] & 63) & 1) << i;
    }
    return word;
  }

 private:
  const uint64_t* const set_;
};
#endif

class SetTest16 {
 public:
  explicit SetTest16(const uint64_t* set) : set_(set) {}

  HWY_INLINE uint64_t operator()(const uint16_t* HWY_RESTRICT codes) const {
    uint64_t word = 0;
    for (int i = 0; i < 64; i += 4) {
      uint64_t bits = 0;
      for (int j = 0; j < 4; ++j) {
        const uint64_t code = codes[i + j];
        bits |= (set_[code >> 6] >> (code & 63) & 1) << j;
      }
      word |= bits << i;
    }
    return word;
  }

 private:
  const uint64_t* const set_;
};

template <typename T, class Test>
HWY_INLINE void WriteMask(const T* HWY_RESTRICT codes, size_t words,
                          const Test& test, uint64_t* HWY_RESTRICT mask) {
  for (size_t w = 0; w < words; ++w) mask[w] = test(codes + 64 * w);
}

// Bit w is set if mask[w] is not 0.  REQUIRES: words <= 64.
HWY_INLINE uint64_t LiveWords(const uint64_t* mask, size_t words) {
  const hn::CappedTag<uint64_t, 8> d;
  const size_t lanes = hn::Lanes(d);
  uint64_t live = 0;
  size_t w = 0;
  for (; w + lanes <= words; w += lanes) {
    const auto zero = hn::Eq(hn::LoadU(d, mask + w), hn::Zero(d));
    live |= (BitsOf(d, zero) ^ ((uint64_t{1} << lanes) - 1)) << w;
  }
  for (; w < words; ++w) live |= uint64_t{mask[w] != 0} << w;
  return live;
}

template <typename T, class Test>
HWY_INLINE void AndMask(const T* HWY_RESTRICT codes, size_t words,
                        const Test& test, uint64_t flip,
                        uint64_t* HWY_RESTRICT mask) {
  while (words > 0) {
    const size_t piece = words < 64 ? words : 64;
    // Asking each word would be mispredicted too often.
    uint64_t live = LiveWords(mask, piece);
    if (hwy::PopCount(live) * 4 > piece * 3) {
      for (size_t w = 0; w < piece; ++w) {
        mask[w] &= test(codes + 64 * w) ^ flip;
      }
    } else {
      for (; live != 0; live &= live - 1) {
        const size_t w = hwy::Num0BitsBelowLS1Bit_Nonzero64(live);
        mask[w] &= test(codes + 64 * w) ^ flip;
      }
    }
    codes += 64 * piece;
    mask += piece;
    words -= piece;
  }
}

// One of each per type: what is dispatched to has to be a plain function.
#define MUSTER_RANGE_KERNELS(T, SUFFIX)                                    \
  void RangeMask##SUFFIX(const T* codes, size_t words, T first, T last,    \
                         uint64_t* mask) {                                 \
    WriteMask(codes, words, RangeTest<T>(first, last), mask);              \
  }                                                                        \
  void AndRangeMask##SUFFIX(const T* codes, size_t words, T first, T last, \
                            bool inside, uint64_t* mask) {                 \
    AndMask(codes, words, RangeTest<T>(first, last),                       \
            inside ? uint64_t{0} : ~uint64_t{0}, mask);                    \
  }
MUSTER_RANGE_KERNELS(uint8_t, 8)
MUSTER_RANGE_KERNELS(uint16_t, 16)
MUSTER_RANGE_KERNELS(uint32_t, 32)
MUSTER_RANGE_KERNELS(uint64_t, 64)
#undef MUSTER_RANGE_KERNELS

void SetMask8(const uint8_t* codes, size_t words, const uint64_t* set,
              uint64_t* mask) {
  WriteMask(codes, words, SetTest8(set), mask);
}
void SetMask16(const uint16_t* codes, size_t words, const uint64_t* set,
               uint64_t* mask) {
  WriteMask(codes, words, SetTest16(set), mask);
}
void AndSetMask8(const uint8_t* codes, size_t words, const uint64_t* set,
                 uint64_t* mask) {
  AndMask(codes, words, SetTest8(set), 0, mask);
}
void AndSetMask16(const uint16_t* codes, size_t words, const uint64_t* set,
                  uint64_t* mask) {
  AndMask(codes, words, SetTest16(set), 0, mask);
}

size_t CountMask(const uint64_t* mask, size_t words) {
  const hn::CappedTag<uint64_t, 8> d;
  const size_t lanes = hn::Lanes(d);
  auto sum = hn::Zero(d);
  size_t w = 0;
  for (; w + lanes <= words; w += lanes) {
    sum = hn::Add(sum, hn::PopulationCount(hn::LoadU(d, mask + w)));
  }
  size_t count = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; w < words; ++w) {
    count += hwy::PopCount(mask[w]);
  }
  return count;
}

size_t RowsOfMask(const uint64_t* mask, size_t words, uint32_t first_row,
                  uint32_t* HWY_RESTRICT rows) {
  // Fewer rows than this in a word are found one by one.
  constexpr size_t kFew = 6;
  const hn::CappedTag<uint32_t, 16> d;
  const size_t lanes = hn::Lanes(d);
  const auto iota = hn::Iota(d, 0u);
  uint32_t* const begin = rows;
  for (size_t w = 0; w < words; ++w) {
    uint64_t word = mask[w];
    if (word == 0) continue;
    const uint32_t base = first_row + static_cast<uint32_t>(64 * w);
    const size_t count = hwy::PopCount(word);
    if (count < kFew) {
      for (size_t i = 0; i < count; ++i) {
        rows[i] = base + static_cast<uint32_t>(
                             hwy::Num0BitsBelowLS1Bit_Nonzero64(word));
        word &= word - 1;
      }
      rows += count;
      continue;
    }
    // Room for 64 more than are written.
    for (size_t i = 0; i < 64; i += lanes) {
      const uint64_t bits = word >> i & ((uint64_t{1} << lanes) - 1);
      const auto m =
          hn::LoadMaskBits(d, reinterpret_cast<const uint8_t*>(&bits));
      const auto numbers =
          hn::Add(iota, hn::Set(d, base + static_cast<uint32_t>(i)));
      hn::StoreU(hn::Compress(numbers, m), d, rows);
      rows += hwy::PopCount(bits);
    }
  }
  return static_cast<size_t>(rows - begin);
}

#if HWY_TARGET != HWY_SCALAR && HWY_HAVE_FLOAT64
void CompareNumbers(const double* left, const double* right, uint64_t* less,
                    uint64_t* equal) {
  const hn::CappedTag<double, 64> d;
  const size_t lanes = hn::Lanes(d);
  uint64_t below = 0;
  uint64_t same = 0;
  for (size_t i = 0; i < 64; i += lanes) {
    const auto a = hn::Load(d, left + i);
    const auto b = hn::Load(d, right + i);
    below |= BitsOf(d, hn::Lt(a, b)) << i;
    same |= BitsOf(d, hn::Eq(a, b)) << i;
  }
  *less = below;
  *equal = same;
}
#else
void CompareNumbers(const double* left, const double* right, uint64_t* less,
                    uint64_t* equal) {
  uint64_t below = 0;
  uint64_t same = 0;
  for (int i = 0; i < 64; ++i) {
    below |= uint64_t{left[i] < right[i]} << i;
    same |= uint64_t{left[i] == right[i]} << i;
  }
  *less = below;
  *equal = same;
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace muster
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace muster {
namespace {

HWY_EXPORT(RangeMask8);
HWY_EXPORT(RangeMask16);
HWY_EXPORT(RangeMask32);
HWY_EXPORT(RangeMask64);
HWY_EXPORT(AndRangeMask8);
HWY_EXPORT(AndRangeMask16);
HWY_EXPORT(AndRangeMask32);
HWY_EXPORT(AndRangeMask64);
HWY_EXPORT(SetMask8);
HWY_EXPORT(SetMask16);
HWY_EXPORT(AndSetMask8);
HWY_EXPORT(AndSetMask16);
HWY_EXPORT(CountMask);
HWY_EXPORT(RowsOfMask);
HWY_EXPORT(CompareNumbers);

}  // namespace

#define MUSTER_DISPATCH_RANGE(T, SUFFIX)                           \
  void RangeMask(const T* codes, size_t words, T first, T last,    \
                 uint64_t* mask) {                                 \
    HWY_DYNAMIC_DISPATCH(RangeMask##SUFFIX)                        \
    (codes, words, first, last, mask);                             \
  }                                                                \
  void AndRangeMask(const T* codes, size_t words, T first, T last, \
                    bool inside, uint64_t* mask) {                 \
    HWY_DYNAMIC_DISPATCH(AndRangeMask##SUFFIX)                     \
    (codes, words, first, last, inside, mask);                     \
  }
MUSTER_DISPATCH_RANGE(uint8_t, 8)
MUSTER_DISPATCH_RANGE(uint16_t, 16)
MUSTER_DISPATCH_RANGE(uint32_t, 32)
MUSTER_DISPATCH_RANGE(uint64_t, 64)
#undef MUSTER_DISPATCH_RANGE

void SetMask(const uint8_t* codes, size_t words, const uint64_t* set,
             uint64_t* mask) {
  HWY_DYNAMIC_DISPATCH(SetMask8)(codes, words, set, mask);
}
void SetMask(const uint16_t* codes, size_t words, const uint64_t* set,
             uint64_t* mask) {
  HWY_DYNAMIC_DISPATCH(SetMask16)(codes, words, set, mask);
}
void AndSetMask(const uint8_t* codes, size_t words, const uint64_t* set,
                uint64_t* mask) {
  HWY_DYNAMIC_DISPATCH(AndSetMask8)(codes, words, set, mask);
}
void AndSetMask(const uint16_t* codes, size_t words, const uint64_t* set,
                uint64_t* mask) {
  HWY_DYNAMIC_DISPATCH(AndSetMask16)(codes, words, set, mask);
}

size_t CountMask(const uint64_t* mask, size_t words) {
  return HWY_DYNAMIC_DISPATCH(CountMask)(mask, words);
}
size_t RowsOfMask(const uint64_t* mask, size_t words, uint32_t first_row,
                  uint32_t* rows) {
  return HWY_DYNAMIC_DISPATCH(RowsOfMask)(mask, words, first_row, rows);
}

void CompareNumbers(const double* left, const double* right, uint64_t* less,
                    uint64_t* equal) {
  HWY_DYNAMIC_DISPATCH(CompareNumbers)(left, right, less, equal);
}

namespace scalar {
namespace {

template <typename T, typename Test>
void MaskOf(const T* codes, size_t words, Test test, uint64_t* mask) {
  for (size_t w = 0; w < words; ++w) {
    mask[w] = 0;
    for (size_t i = 0; i < 64; ++i) {
      if (test(codes[64 * w + i])) mask[w] |= uint64_t{1} << i;
    }
  }
}

template <typename T>
void RangeMaskOf(const T* codes, size_t words, T first, T last,
                 uint64_t* mask) {
  MaskOf(
      codes, words,
      [first, last](T code) { return first <= code && code <= last; }, mask);
}

template <typename T>
void SetMaskOf(const T* codes, size_t words, const uint64_t* set,
               uint64_t* mask) {
  MaskOf(
      codes, words, [set](T code) { return set[code / 64] >> code % 64 & 1; },
      mask);
}

}  // namespace

void RangeMask(const uint8_t* codes, size_t words, uint8_t first, uint8_t last,
               uint64_t* mask) {
  RangeMaskOf(codes, words, first, last, mask);
}
void RangeMask(const uint16_t* codes, size_t words, uint16_t first,
               uint16_t last, uint64_t* mask) {
  RangeMaskOf(codes, words, first, last, mask);
}
void RangeMask(const uint32_t* codes, size_t words, uint32_t first,
               uint32_t last, uint64_t* mask) {
  RangeMaskOf(codes, words, first, last, mask);
}
void RangeMask(const uint64_t* codes, size_t words, uint64_t first,
               uint64_t last, uint64_t* mask) {
  RangeMaskOf(codes, words, first, last, mask);
}
void SetMask(const uint8_t* codes, size_t words, const uint64_t* set,
             uint64_t* mask) {
  SetMaskOf(codes, words, set, mask);
}
void SetMask(const uint16_t* codes, size_t words, const uint64_t* set,
             uint64_t* mask) {
  SetMaskOf(codes, words, set, mask);
}

size_t CountMask(const uint64_t* mask, size_t words) {
  size_t count = 0;
  for (size_t r = 0; r < 64 * words; ++r) count += mask[r / 64] >> r % 64 & 1;
  return count;
}

size_t RowsOfMask(const uint64_t* mask, size_t words, uint32_t first_row,
                  uint32_t* rows) {
  size_t count = 0;
  for (size_t r = 0; r < 64 * words; ++r) {
    if (mask[r / 64] >> r % 64 & 1) {
      rows[count++] = first_row + static_cast<uint32_t>(r);
    }
  }
  return count;
}

void CompareNumbers(const double* left, const double* right, uint64_t* less,
                    uint64_t* equal) {
  *less = 0;
  *equal = 0;
  for (int i = 0; i < 64; ++i) {
    if (left[i] < right[i]) *less |= uint64_t{1} << i;
    if (left[i] == right[i]) *equal |= uint64_t{1} << i;
  }
}

}  // namespace scalar

}  // namespace muster
#endif  // HWY_ONCE
