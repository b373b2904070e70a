// Comparing and hashing strings that are mostly shorter than 16 bytes: names of
// properties, and values of dictionaries.  The library's calls for that cost
// more than the work.
#ifndef ENGINE_TWIN_COLUMNS_SHORT_BYTES_H_
#define ENGINE_TWIN_COLUMNS_SHORT_BYTES_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/hash/hash.h"
#include "absl/strings/string_view.h"

namespace muster {
namespace short_bytes_internal {

template <typename Word>
Word Load(const char* from) {
  Word word;
  std::memcpy(&word, from, sizeof(word));
  return word;
}

}  // namespace short_bytes_internal

inline bool SameBytes(absl::string_view a, absl::string_view b) {
  using short_bytes_internal::Load;
  const size_t size = a.size();
  if (size != b.size()) return false;
  const char* const p = a.data();
  const char* const q = b.data();
  // Two words that overlap cover all sizes up to theirs together.
  if (size >= 8) {
    if (size > 16) return std::memcmp(p, q, size) == 0;
    return ((Load<uint64_t>(p) ^ Load<uint64_t>(q)) |
            (Load<uint64_t>(p + size - 8) ^ Load<uint64_t>(q + size - 8))) == 0;
  }
  if (size >= 4) {
    return ((Load<uint32_t>(p) ^ Load<uint32_t>(q)) |
            (Load<uint32_t>(p + size - 4) ^ Load<uint32_t>(q + size - 4))) == 0;
  }
  for (size_t i = 0; i < size; ++i) {
    if (p[i] != q[i]) return false;
  }
  return true;
}

// Differs from one run of the program to the next.
inline uint64_t HashBytes(absl::string_view bytes) {
  using short_bytes_internal::Load;
  const size_t size = bytes.size();
  const char* const p = bytes.data();
  uint64_t first = 0;
  uint64_t last = 0;
  if (size >= 8) {
    if (size > 16) return absl::Hash<absl::string_view>()(bytes);
    first = Load<uint64_t>(p);
    last = Load<uint64_t>(p + size - 8);
  } else if (size >= 4) {
    first = Load<uint32_t>(p);
    last = Load<uint32_t>(p + size - 4);
  } else if (size > 0) {
    first = static_cast<uint8_t>(p[0]);
    last = static_cast<uint64_t>(static_cast<uint8_t>(p[size / 2])) << 8 |
           static_cast<uint8_t>(p[size - 1]);
  }
  // Where the program was loaded is not known to who sends the values.
  static constexpr char kSeed = 0;
  first ^= reinterpret_cast<uintptr_t>(&kSeed) * 0x9e3779b97f4a7c15u;
  last ^= 0xd6e8feb86659fd93u + size;
  const unsigned __int128 product =
      static_cast<unsigned __int128>(first) * last;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

}  // namespace muster

#endif  // ENGINE_TWIN_COLUMNS_SHORT_BYTES_H_
