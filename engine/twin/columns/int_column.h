// IntColumn: one integer of 64 bits per row, or none.
//
// For what the hub counts and stamps: versions, etags, instants, sizes.  Rows
// of a shard mostly hold neighbours, so codes are distances from a common base,
// which moves when a value comes that is too far from it.
//
//   code 0        none
//   code c        base + c - 1
//
// Not thread-safe; const members may run side by side.
#ifndef ENGINE_TWIN_COLUMNS_INT_COLUMN_H_
#define ENGINE_TWIN_COLUMNS_INT_COLUMN_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "engine/model/check.h"
#include "engine/twin/columns/code_array.h"

namespace muster {

// Codes that stand for base + code - first; smaller ones have other meanings.
//
// Moves `*base` so that `value` and all that is there have codes, with room on
// both sides if not `tight`; the codes take the smallest width that does.
// O(rows).  REQUIRES: the values are less than 2^63 apart.
void MoveBase(uint64_t first, int64_t value, bool tight, int64_t* base,
              CodeArray* codes);

// The code of `value`, after MoveBase() if it was out of reach.
inline uint64_t OffsetCode(uint64_t first, int64_t value, int64_t* base,
                           CodeArray* codes) {
  // The largest code that does not change the form, or not for the worse.
  const CodeArray::Form form = codes->form() == CodeArray::Form::kSparse
                                   ? codes->sparse_form()
                                   : codes->form();
  const uint64_t limit =
      form == CodeArray::Form::k8    ? 0xff
      : form == CodeArray::Form::k16 ? 0xffff
      : form == CodeArray::Form::k32 ? 0xffff'ffff
      : form == CodeArray::Form::k64
          ? INT64_MAX
          : std::max({uint64_t{0xff}, codes->low(), codes->high()});
  const uint64_t distance =
      static_cast<uint64_t>(value) - static_cast<uint64_t>(*base);
  if (value < *base || distance > limit - first) {
    MoveBase(first, value, /*tight=*/false, base, codes);
    return static_cast<uint64_t>(value) - static_cast<uint64_t>(*base) + first;
  }
  return distance + first;
}

class IntColumn {
 public:
  IntColumn() = default;
  IntColumn(IntColumn&&) = default;
  IntColumn& operator=(IntColumn&&) = default;

  int size() const { return codes_.size(); }
  void Resize(int size) { codes_.Resize(size); }

  bool Has(int row) const { return codes_.Get(row) != 0; }
  // REQUIRES: Has(row).
  int64_t Get(int row) const {
    const uint64_t code = codes_.Get(row);
    MUSTER_DCHECK(code != 0);
    return ValueOf(code);
  }
  int64_t GetOr(int row, int64_t none) const {
    const uint64_t code = codes_.Get(row);
    return code == 0 ? none : ValueOf(code);
  }
  // Amortized O(1) but for a change of form, O(size()).  REQUIRES: no two
  // values in the column are 2^63 apart.
  void Set(int row, int64_t value) {
    codes_.Set(row, OffsetCode(kFirst, value, &base_, &codes_));
  }
  void Clear(int row) { codes_.Set(row, 0); }
  // Set() of each of the rows, in O(rows) but for a change of form.
  void SetRows(RowSpan rows, int64_t value) {
    if (rows.empty()) return;
    codes_.SetRows(rows, OffsetCode(kFirst, value, &base_, &codes_));
  }
  // Adds one to each that is below `max`.  As SetRows().
  // REQUIRES: Has() for all of them.
  void IncrementRows(RowSpan rows, int64_t max);

  // For readers of the codes themselves.
  static constexpr uint64_t kFirst = 1;
  const CodeArray& codes() const { return codes_; }
  int64_t base() const { return base_; }
  int64_t ValueOf(uint64_t code) const {
    return static_cast<int64_t>(static_cast<uint64_t>(base_) + (code - kFirst));
  }

  // The smallest form: after a load.  O(size()).
  void Compact();

  // Heap bytes.
  size_t MemoryUsage() const { return codes_.MemoryUsage(); }

 private:
  friend class ShardSnapshot;

  int64_t base_ = 0;
  CodeArray codes_;
};

}  // namespace muster

#endif  // ENGINE_TWIN_COLUMNS_INT_COLUMN_H_
