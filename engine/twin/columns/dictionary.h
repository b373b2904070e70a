// Dictionary: values of one column, each once, numbered.
//
// Values stand as packed JSON one behind the other; a hash table of 16-bit
// numbers finds them again.  About 7 bytes a value beside the value itself.
//
// Not thread-safe; const members may run side by side.
#ifndef ENGINE_TWIN_COLUMNS_DICTIONARY_H_
#define ENGINE_TWIN_COLUMNS_DICTIONARY_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/model/json.h"

namespace muster {

class Dictionary {
 public:
  // A column has at most kShardRowsMax values in use, and cleans up before it
  // has this many.
  static constexpr int kSizeMax = 65'000;

  // Numbers in use are 0 to size() - 1.
  int size() const { return static_cast<int>(ends_.size()); }
  // Valid until the next Add().
  JsonView at(int number) const {
    return JsonView::FromEncoded(bytes_.data() + BeginOf(number));
  }
  absl::string_view bytes_at(int number) const {
    const size_t begin = BeginOf(number);
    return absl::string_view(bytes_.data() + begin,
                             ends_[static_cast<size_t>(number)] - begin);
  }

  // The number of the value, -1 if it is not there.  O(1).
  int Find(absl::string_view value) const;
  // The number of the value, which is added if it is not there.  Amortized
  // O(1). REQUIRES: size() < kSizeMax; packed JSON.
  int Add(absl::string_view value);

  // The kinds of values that are there: bit k is JsonKind k's.
  uint8_t kinds() const { return kinds_; }

  // Gives back what was allocated in advance.
  void ShrinkToFit();
  void Clear() {
    Dictionary empty;  // Assigning it would keep the string's memory.
    std::swap(*this, empty);
  }

  // Heap bytes.
  size_t MemoryUsage() const {
    return bytes_.capacity() + ends_.capacity() * sizeof(uint32_t) +
           slots_.capacity() * sizeof(uint16_t);
  }

 private:
  friend class ShardSnapshot;

  static constexpr uint16_t kEmpty = UINT16_MAX;

  size_t BeginOf(int number) const {
    return number == 0 ? 0 : ends_[static_cast<size_t>(number) - 1];
  }
  void Rehash(size_t slots);
  void AddKind(JsonView value) {
    kinds_ = static_cast<uint8_t>(kinds_ | 1 << static_cast<int>(value.kind()));
  }
  // Where the value is, or the empty slot where it belongs.
  size_t SlotOf(absl::string_view value) const;

  uint8_t kinds_ = 0;
  std::string bytes_;
  std::vector<uint32_t> ends_;
  std::vector<uint16_t> slots_;  // A power of two of them, 4/5 full at most.
};

}  // namespace muster

#endif  // ENGINE_TWIN_COLUMNS_DICTIONARY_H_
