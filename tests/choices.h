// Where random tests get their decisions from: a seed, or the bytes of a
// fuzzer.
#ifndef TESTS_CHOICES_H_
#define TESTS_CHOICES_H_

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/model/check.h"

namespace muster {

// The same seed, or the same bytes, give the same decisions on every machine.
class Choices {
 public:
  explicit Choices(uint64_t seed) : random_(seed) {}
  // Once the bytes are used up every choice is 0: generators offer their
  // simplest alternative first, so that they come to an end.
  explicit Choices(absl::string_view bytes)
      : from_bytes_(true), bytes_(bytes) {}

  // In [0, limit).  REQUIRES: limit > 0.
  uint32_t Below(uint32_t limit) {
    MUSTER_DCHECK(limit > 0);
    if (!from_bytes_) return static_cast<uint32_t>(random_() % limit);
    uint32_t value = 0;
    for (uint32_t left = limit - 1; left > 0; left >>= 8) {
      value = value << 8 | NextByte();
    }
    return value % limit;
  }
  int IntBelow(int limit) {
    return static_cast<int>(Below(static_cast<uint32_t>(limit)));
  }
  // True once in `count` times; false when the bytes are used up.
  bool OneIn(uint32_t count) { return Below(count) == count - 1; }
  uint64_t Bits() {
    return from_bytes_ ? uint64_t{Below(0xffffffff)} << 32 | Below(0xffffffff)
                       : random_();
  }

  template <typename T, size_t N>
  const T& Pick(const T (&choices)[N]) {
    return choices[Below(N)];
  }
  template <typename T>
  const T& Pick(const std::vector<T>& choices) {
    return choices[Below(static_cast<uint32_t>(choices.size()))];
  }

  // Only for bytes: whether some are left.
  bool has_bytes() const { return !bytes_.empty(); }

 private:
  uint32_t NextByte() {
    if (bytes_.empty()) return 0;
    const uint32_t byte = static_cast<unsigned char>(bytes_[0]);
    bytes_.remove_prefix(1);
    return byte;
  }

  const bool from_bytes_ = false;
  absl::string_view bytes_;
  std::mt19937_64 random_;
};

}  // namespace muster

#endif  // TESTS_CHOICES_H_
