#include "engine/twin/columns/dictionary.h"

#include <algorithm>

#include "engine/model/check.h"
#include "engine/twin/columns/short_bytes.h"

namespace muster {

size_t Dictionary::SlotOf(absl::string_view value) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = HashBytes(value) & mask;
  while (slots_[slot] != kEmpty && !SameBytes(bytes_at(slots_[slot]), value)) {
    slot = (slot + 1) & mask;
  }
  return slot;
}

int Dictionary::Find(absl::string_view value) const {
  if (slots_.empty()) return -1;
  const uint16_t number = slots_[SlotOf(value)];
  return number == kEmpty ? -1 : number;
}

int Dictionary::Add(absl::string_view value) {
  // One more than is there, and a fifth to spare.
  if ((ends_.size() + 1) * 5 > slots_.size() * 4) {
    Rehash(std::max<size_t>(slots_.size() * 2, 8));
  }
  const size_t slot = SlotOf(value);
  if (slots_[slot] != kEmpty) return slots_[slot];
  MUSTER_CHECK(size() < kSizeMax);
  const int number = size();
  // By half, not by two: most dictionaries stop growing soon.
  if (bytes_.size() + value.size() > bytes_.capacity()) {
    bytes_.reserve(bytes_.size() + value.size() + bytes_.size() / 4 + 16);
  }
  if (ends_.size() == ends_.capacity()) {
    ends_.reserve(ends_.size() + ends_.size() / 4 + 4);
  }
  AddKind(JsonView::FromEncoded(value.data()));
  bytes_.append(value.data(), value.size());
  ends_.push_back(static_cast<uint32_t>(bytes_.size()));
  slots_[slot] = static_cast<uint16_t>(number);
  return number;
}

void Dictionary::Rehash(size_t slots) {
  slots_.assign(slots, kEmpty);
  const size_t mask = slots - 1;
  for (int number = 0; number < size(); ++number) {
    AddKind(at(number));
    size_t slot = HashBytes(bytes_at(number)) & mask;
    while (slots_[slot] != kEmpty) slot = (slot + 1) & mask;
    slots_[slot] = static_cast<uint16_t>(number);
  }
}

void Dictionary::ShrinkToFit() {
  bytes_.shrink_to_fit();
  ends_.shrink_to_fit();
  slots_.shrink_to_fit();
}

}  // namespace muster
