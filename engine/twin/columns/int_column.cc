#include "engine/twin/columns/int_column.h"

#include <algorithm>
#include <optional>

namespace muster {

void MoveBase(uint64_t first, int64_t value, bool tight, int64_t* base,
              CodeArray* codes) {
  bool any = false;
  uint64_t lowest = UINT64_MAX;
  uint64_t highest = 0;
  codes->ForEachSet([&](int, uint64_t code) {
    if (code < first) return;
    any = true;
    lowest = std::min(lowest, code);
    highest = std::max(highest, code);
  });
  if (!any) {
    *base = value;
    return;
  }
  const auto value_of = [&](uint64_t code) {
    return static_cast<int64_t>(static_cast<uint64_t>(*base) + (code - first));
  };
  const int64_t low = std::min(value_of(lowest), value);
  const int64_t high = std::max(value_of(highest), value);
  const uint64_t span =
      static_cast<uint64_t>(high) - static_cast<uint64_t>(low);
  MUSTER_CHECK(span <= INT64_MAX);
  int64_t moved = low;
  if (!tight) {
    // An eighth to spare, or the next value would move the base again.
    const uint64_t wanted = span + span / 8 + first;
    const uint64_t limit = wanted <= 0xff          ? 0xff
                           : wanted <= 0xffff      ? 0xffff
                           : wanted <= 0xffff'ffff ? 0xffff'ffff
                                                   : INT64_MAX;
    const uint64_t spare =
        limit - first > span ? (limit - first - span) / 2 : 0;
    const uint64_t below =
        static_cast<uint64_t>(low) - static_cast<uint64_t>(INT64_MIN);
    moved = static_cast<int64_t>(static_cast<uint64_t>(low) -
                                 std::min(spare, below));
  }
  const uint64_t delta =
      static_cast<uint64_t>(*base) - static_cast<uint64_t>(moved);
  if (delta != 0) {
    codes->Remap([first, delta](uint64_t code) {
      return code < first ? code : code + delta;
    });
  }
  *base = moved;
}

void IntColumn::IncrementRows(RowSpan rows, int64_t max) {
  if (rows.empty()) return;
  const uint64_t limit =
      max < base_
          ? 0
          : static_cast<uint64_t>(max) - static_cast<uint64_t>(base_) + kFirst;
  if (codes_.IncrementRows(rows, limit)) return;
  if (const std::optional<uint64_t> same = codes_.SameCode(rows)) {
    const int64_t value = ValueOf(*same);
    if (value < max) SetRows(rows, value + 1);
    return;
  }
  for (const uint16_t row : rows) {
    const int64_t value = Get(row);
    if (value < max) Set(row, value + 1);
  }
}

void IntColumn::Compact() {
  uint64_t lowest = UINT64_MAX;
  codes_.ForEachSet(
      [&](int, uint64_t code) { lowest = std::min(lowest, code); });
  if (lowest != UINT64_MAX) {
    MoveBase(kFirst, ValueOf(lowest), /*tight=*/true, &base_, &codes_);
  }
  codes_.Compact();
}

}  // namespace muster
