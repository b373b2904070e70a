#include "engine/query/exact_sum.h"

#include <cmath>
#include <limits>

#include "engine/model/check.h"

namespace muster {
namespace {

constexpr int kLimbBits = 32;
constexpr int64_t kLimbMask = 0xffffffff;
constexpr int kLowestExponent = -1074;  // Of the lowest limb's lowest bit.

// An addition changes a limb by less than 2^32, and 2^29 of them by less than
// 2^61; settled limbs are below 2^32.
constexpr int64_t kAdditionsMax = int64_t{1} << 29;

}  // namespace

ExactSum::ExactSum(const ExactSum& other)
    : whole_(other.whole_),
      wide_(other.wide_ == nullptr ? nullptr
                                   : std::make_unique<Wide>(*other.wide_)) {}

ExactSum& ExactSum::operator=(const ExactSum& other) {
  if (this != &other) *this = ExactSum(other);
  return *this;
}

ExactSum::Wide& ExactSum::wide() {
  if (wide_ == nullptr) wide_ = std::make_unique<Wide>();
  return *wide_;
}

void ExactSum::Add(double value) {
  MUSTER_DCHECK(std::isfinite(value));
  // 2^63 itself does not fit.
  if (value == std::trunc(value) && std::fabs(value) < 0x1p63) {
    whole_ += static_cast<int64_t>(value);
    return;
  }
  // value = mantissa * 2^exponent, with a mantissa of at most 53 bits.
  int exponent = 0;
  const double fraction = std::frexp(std::fabs(value), &exponent);
  uint64_t mantissa = static_cast<uint64_t>(std::ldexp(fraction, 53));
  exponent -= 53;
  if (exponent < kLowestExponent) {  // Subnormal: the bits shifted out are 0.
    mantissa >>= kLowestExponent - exponent;
    exponent = kLowestExponent;
  }
  wide().AddScaled(mantissa, exponent, value < 0);
}

void ExactSum::Merge(const ExactSum& other) {
  whole_ += other.whole_;
  if (other.wide_ == nullptr) return;
  Wide theirs = *other.wide_;
  theirs.Settle();
  Wide& ours = wide();
  ours.Settle();
  for (size_t i = 0; i < kLimbs; ++i) ours.limbs[i] += theirs.limbs[i];
  ours.additions = 1;
}

void ExactSum::Wide::AddScaled(uint64_t magnitude, int exponent,
                               bool negative) {
  if (additions >= kAdditionsMax) Settle();
  ++additions;
  const int bit = exponent - kLowestExponent;
  size_t limb = static_cast<size_t>(bit / kLimbBits);
  absl::uint128 shifted = absl::uint128(magnitude) << (bit % kLimbBits);
  for (; shifted != 0; shifted >>= kLimbBits, ++limb) {
    MUSTER_CHECK(limb < kLimbs);
    const int64_t part =
        static_cast<int64_t>(absl::Uint128Low64(shifted)) & kLimbMask;
    limbs[limb] += negative ? -part : part;
  }
}

// Moves what exceeds 32 bits into the next limb, so that all but the highest
// are in [0, 2^32); the highest carries the sign.
void ExactSum::Wide::Settle() {
  int64_t carry = 0;
  for (size_t i = 0; i + 1 < kLimbs; ++i) {
    const int64_t sum = limbs[i] + carry;
    limbs[i] = sum & kLimbMask;
    carry = sum >> kLimbBits;  // Rounds down, also below zero.
  }
  limbs[kLimbs - 1] += carry;
  additions = 0;
}

double ExactSum::Round() const {
  Wide all;
  if (wide_ != nullptr) all = *wide_;
  all.Settle();

  // whole_ as two pieces of 64 bits with one sign.
  const bool whole_negative = whole_ < 0;
  const absl::uint128 whole =
      whole_negative ? -absl::uint128(whole_) : absl::uint128(whole_);
  all.AddScaled(absl::Uint128Low64(whole), 0, whole_negative);
  all.AddScaled(absl::Uint128High64(whole), 64, whole_negative);
  all.Settle();

  const bool negative = all.limbs[kLimbs - 1] < 0;
  if (negative) {
    for (int64_t& limb : all.limbs) limb = -limb;
    all.Settle();
  }

  size_t top = kLimbs;
  while (top > 0 && all.limbs[top - 1] == 0) --top;
  if (top == 0) return 0;
  --top;

  // The highest limbs make 96 bits or more of which 65 to 96 count; whatever
  // lies below is told by a lowest bit, which decides ties only.
  absl::uint128 bits = 0;
  bool sticky = false;
  for (size_t i = top + 1; i-- > 0;) {
    if (top - i < 3) {
      bits = (bits << kLimbBits) | absl::uint128(all.limbs[i]);
    } else {
      sticky = sticky || all.limbs[i] != 0;
    }
  }
  const size_t used = top < 2 ? top + 1 : 3;
  int exponent = kLowestExponent + kLimbBits * static_cast<int>(top + 1 - used);
  // Down to 64 bits, then to the 53 of a double, or fewer if it is subnormal:
  // but the lowest limb's lowest bit is the smallest subnormal, so that such a
  // number has few bits already.
  int width = 0;
  for (absl::uint128 rest = bits; rest != 0; rest >>= 1) ++width;
  const int drop = width - std::numeric_limits<double>::digits;
  if (drop > 0) {
    const absl::uint128 half = absl::uint128(1) << (drop - 1);
    const absl::uint128 below = bits & ((half << 1) - 1);
    bits >>= drop;
    exponent += drop;
    const bool odd = (bits & 1) != 0;
    if (below > half || (below == half && (sticky || odd))) bits += 1;
  }
  const double magnitude =
      std::ldexp(static_cast<double>(absl::Uint128Low64(bits)), exponent);
  return negative ? -magnitude : magnitude;
}

std::optional<int64_t> ExactSum::WholeSum() const {
  if (wide_ != nullptr) return std::nullopt;
  if (whole_ < std::numeric_limits<int64_t>::min() ||
      whole_ > std::numeric_limits<int64_t>::max()) {
    return std::nullopt;
  }
  return static_cast<int64_t>(whole_);
}

}  // namespace muster
