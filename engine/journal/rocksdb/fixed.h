// Numbers of fixed width as bytes, whatever the machine's order.
#ifndef ENGINE_JOURNAL_ROCKSDB_FIXED_H_
#define ENGINE_JOURNAL_ROCKSDB_FIXED_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace muster {

// The last `bytes` bytes of `value`, the highest first: sorts as the numbers
// do.
inline void AppendBigEndian(uint64_t value, int bytes, std::string* out) {
  while (bytes-- > 0) out->push_back(static_cast<char>(value >> (8 * bytes)));
}

// REQUIRES: offset + bytes <= text.size().
inline uint64_t LoadBigEndian(absl::string_view text, size_t offset,
                              int bytes) {
  uint64_t value = 0;
  while (bytes-- > 0) {
    value = value << 8 | static_cast<uint8_t>(text[offset++]);
  }
  return value;
}

}  // namespace muster

#endif  // ENGINE_JOURNAL_ROCKSDB_FIXED_H_
