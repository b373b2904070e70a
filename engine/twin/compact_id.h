// CompactId: a device id in 16 bytes.
//
// Every row has one, and looking up a device reads it first.  Most fleets have
// ids of at most 15 characters, which are kept inline; longer ones on the heap.
#ifndef ENGINE_TWIN_COMPACT_ID_H_
#define ENGINE_TWIN_COMPACT_ID_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/strings/string_view.h"
#include "engine/model/check.h"
#include "engine/model/limits.h"

namespace muster {

class CompactId {
 public:
  CompactId() { std::memset(bytes_, 0, sizeof(bytes_)); }
  // REQUIRES: at most kDeviceIdLengthMax bytes.
  explicit CompactId(absl::string_view id) : CompactId() {
    MUSTER_DCHECK(id.size() <= kDeviceIdLengthMax);
    char* to = bytes_;
    if (id.size() > kInlineMax) {
      to = new char[id.size()];
      std::memcpy(bytes_, &to, sizeof(to));
    }
    if (!id.empty()) std::memcpy(to, id.data(), id.size());
    bytes_[kSizeAt] = static_cast<char>(id.size());
  }
  CompactId(CompactId&& other) noexcept : CompactId() { Swap(other); }
  CompactId& operator=(CompactId&& other) noexcept {
    CompactId taken(std::move(other));
    Swap(taken);
    return *this;
  }
  ~CompactId() {
    if (size() > kInlineMax) delete[] heap();
  }

  size_t size() const { return static_cast<uint8_t>(bytes_[kSizeAt]); }
  absl::string_view view() const {
    return absl::string_view(size() > kInlineMax ? heap() : bytes_, size());
  }
  // Heap bytes.
  size_t MemoryUsage() const { return size() > kInlineMax ? size() : 0; }

 private:
  static constexpr size_t kInlineMax = 15;
  static constexpr size_t kSizeAt = 15;
  static_assert(kDeviceIdLengthMax <= 255);

  char* heap() const {
    char* p;
    std::memcpy(&p, bytes_, sizeof(p));
    return p;
  }
  void Swap(CompactId& other) {
    char kept[sizeof(bytes_)];
    std::memcpy(kept, bytes_, sizeof(bytes_));
    std::memcpy(bytes_, other.bytes_, sizeof(bytes_));
    std::memcpy(other.bytes_, kept, sizeof(bytes_));
  }

  // The id's bytes, or a pointer to them; its size in the last.
  char bytes_[16];
};

}  // namespace muster

#endif  // ENGINE_TWIN_COMPACT_ID_H_
