// CodeArray: one unsigned number per row of a shard, in as few bits as it
// takes.
//
// Everything that a shard knows of its rows stands in arrays of codes, one per
// property path or system member.  Most of them need few bits: a member that
// every twin has in common needs none.  An array has one of these forms, and
// changes by itself to the next that can hold what is put in:
//
//   form       holds                                     bytes for n rows
//   constant   the same code in every row                0
//   sparse     0 in all but few rows (1/16 at most)      2 + width/8 a row set
//   bits       two different codes                       n / 8
//   8 .. 64    any codes that fit                        n * width/8
//
// Arrays of bits and wider are whole words of 64 rows, aligned to a cache line,
// with zeros behind the last row, so that kernels need no remainder loop.
//
// Not thread-safe; const members may run side by side.
#ifndef ENGINE_TWIN_COLUMNS_CODE_ARRAY_H_
#define ENGINE_TWIN_COLUMNS_CODE_ARRAY_H_

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <utility>

#include "absl/types/span.h"
#include "engine/model/check.h"
#include "engine/twin/columns/row_set.h"

namespace muster {

// Rows that something is done to at once: in ascending order, none twice.
using RowSpan = absl::Span<const uint16_t>;

class CodeArray {
 public:
  enum class Form : uint8_t { kConstant, kSparse, kBits, k8, k16, k32, k64 };

  CodeArray() = default;  // No rows, constant 0.
  CodeArray(CodeArray&& other) noexcept { *this = std::move(other); }
  CodeArray& operator=(CodeArray&& other) noexcept;
  ~CodeArray() { std::free(data_); }

  // The rows that there are; at most kShardRowsMax.  New ones hold 0.
  int size() const { return size_; }
  void Resize(int size);

  // REQUIRES: 0 <= row < size().  O(1); O(log rows set) if sparse.
  uint64_t Get(int row) const {
    MUSTER_DCHECK(0 <= row && row < size_);
    switch (form_) {
      case Form::kConstant:
        return low_;
      case Form::kSparse:
        return GetSparse(row);
      case Form::kBits:
        return words()[row >> 6] >> (row & 63) & 1 ? high_ : low_;
      case Form::k8:
        return As<uint8_t>()[row];
      case Form::k16:
        return As<uint16_t>()[row];
      case Form::k32:
        return As<uint32_t>()[row];
      case Form::k64:
        return As<uint64_t>()[row];
    }
    MUSTER_CHECK(false && "a form that is no enumerator");
  }
  // As Get().  A change of form costs O(size()); a row more or less in a sparse
  // array, O(rows set).
  void Set(int row, uint64_t code) {
    MUSTER_DCHECK(0 <= row && row < size_);
    switch (form_) {
      case Form::kConstant:
        if (code != low_) break;
        return;
      case Form::kBits: {
        if (code != low_ && code != high_) break;
        const uint64_t bit = uint64_t{1} << (row & 63);
        uint64_t& word = Mutable<uint64_t>()[row >> 6];
        word = code == low_ ? word & ~bit : word | bit;
        return;
      }
      case Form::k8:
        if (code > 0xff) break;
        Mutable<uint8_t>()[row] = static_cast<uint8_t>(code);
        return;
      case Form::k16:
        if (code > 0xffff) break;
        Mutable<uint16_t>()[row] = static_cast<uint16_t>(code);
        return;
      case Form::k32:
        if (code > 0xffff'ffff) break;
        Mutable<uint32_t>()[row] = static_cast<uint32_t>(code);
        return;
      case Form::k64:
        Mutable<uint64_t>()[row] = code;
        return;
      default:
        break;
    }
    SetSlow(row, code);
  }
  // Set() of each of the rows, in O(rows) but for a change of form.
  void SetRows(RowSpan rows, uint64_t code);
  // Adds one to the code of each of the rows, unless that takes a wider form or
  // a code is over `limit` then: then false, and nothing is done.  O(rows).
  bool IncrementRows(RowSpan rows, uint64_t limit);

  Form form() const { return form_; }

  // kConstant: the code.  kBits: what a bit of 0 and of 1 stands for.
  uint64_t low() const { return low_; }
  uint64_t high() const { return high_; }
  // kBits: size() bits.
  const uint64_t* words() const { return As<uint64_t>(); }
  // k8 to k64: size() codes of that type.
  template <typename Code>
  const Code* As() const {
    return static_cast<const Code*>(data_);
  }
  // kSparse: the rows that do not hold 0, in ascending order, and their codes,
  // of the width sparse_form() says (k8 to k64).
  int sparse_count() const { return sparse_count_; }
  const uint16_t* sparse_rows() const {
    return reinterpret_cast<const uint16_t*>(static_cast<const char*>(data_) +
                                             static_cast<size_t>(capacity_) *
                                                 WidthOf(sparse_form_));
  }
  Form sparse_form() const { return sparse_form_; }
  uint64_t sparse_code(int i) const { return Load(sparse_form_, i); }

  // Calls fn(row, code) for every row whose code is not 0, in ascending order.
  template <typename Function>
  void ForEachSet(Function fn) const;

  // Calls fn(i, code of rows[i]) for each of the rows, in their order.
  template <typename Function>
  void ForEachOf(RowSpan rows, Function fn) const;
  // The code that all of them have, if they have the same.  REQUIRES: there is
  // a row.
  std::optional<uint64_t> SameCode(RowSpan rows) const;

  // Replaces each code c but 0 by map(c), which is not 0.  O(size()).
  template <typename Function>
  void Remap(Function map);

  // Takes the smallest form that holds the codes.  O(size()).
  void Compact();

  // Heap bytes.
  size_t MemoryUsage() const { return bytes_; }

  // The bytes of one code, 0 for constant, sparse and bits.
  static size_t WidthOf(Form form) {
    return form < Form::k8 ? 0
                           : size_t{1} << (static_cast<int>(form) -
                                           static_cast<int>(Form::k8));
  }

 private:
  friend class ShardSnapshot;

  template <typename Code>
  Code* Mutable() {
    return static_cast<Code*>(data_);
  }
  uint16_t* MutableSparseRows() { return const_cast<uint16_t*>(sparse_rows()); }
  uint64_t Load(Form width, int i) const;
  void Store(Form width, int i, uint64_t code);

  // Calls fn(get), where get(row) is Get(row) for the form that there is.
  template <typename Function>
  void WithReader(Function fn) const;

  uint64_t GetSparse(int row) const;
  void SetSlow(int row, uint64_t code);
  void SetSparse(int row, uint64_t code);
  // Rows that a sparse array may set at most.
  int SparseMax() const { return size_ / 16; }
  // Allocates for `form` with room for `capacity` rows (kSparse: rows set, of
  // `width`), zeros in it, and gives back what was there.
  void* Allocate(Form form, Form width, int capacity);
  void ChangeTo(Form form);
  // From sparse to bits or wider, so that rows may be set to `code`.
  void MakeDense(uint64_t code);
  static Form FormFor(uint64_t code) {
    return code <= 0xff          ? Form::k8
           : code <= 0xffff      ? Form::k16
           : code <= 0xffff'ffff ? Form::k32
                                 : Form::k64;
  }

  Form form_ = Form::kConstant;
  Form sparse_form_ = Form::k8;
  uint16_t sparse_count_ = 0;
  uint16_t size_ = 0;
  uint16_t capacity_ = 0;  // Rows, or rows set, that data_ has room for.
  uint32_t bytes_ = 0;     // Of data_.
  uint64_t low_ = 0;
  uint64_t high_ = 0;
  void* data_ = nullptr;
};
static_assert(kShardRowsMax <= UINT16_MAX);

template <typename Function>
void CodeArray::WithReader(Function fn) const {
  switch (form_) {
    case Form::kConstant:
      return fn([this](int) { return low_; });
    case Form::kSparse:
      return fn([this](int row) { return GetSparse(row); });
    case Form::kBits:
      return fn([this](int row) {
        return words()[row >> 6] >> (row & 63) & 1 ? high_ : low_;
      });
    case Form::k8:
      return fn([this](int row) { return As<uint8_t>()[row]; });
    case Form::k16:
      return fn([this](int row) { return As<uint16_t>()[row]; });
    case Form::k32:
      return fn([this](int row) { return As<uint32_t>()[row]; });
    case Form::k64:
      return fn([this](int row) { return As<uint64_t>()[row]; });
  }
}

template <typename Function>
void CodeArray::ForEachSet(Function fn) const {
  if (form_ == Form::kSparse) {
    const uint16_t* const rows = sparse_rows();
    for (int i = 0; i < sparse_count_; ++i) fn(int{rows[i]}, sparse_code(i));
    return;
  }
  WithReader([&](auto get) {
    for (int row = 0; row < size_; ++row) {
      if (const uint64_t code = get(row)) fn(row, code);
    }
  });
}

template <typename Function>
void CodeArray::ForEachOf(RowSpan rows, Function fn) const {
  WithReader([&](auto get) {
    for (size_t i = 0; i < rows.size(); ++i) fn(i, uint64_t{get(rows[i])});
  });
}

template <typename Function>
void CodeArray::Remap(Function map) {
  if (form_ == Form::kConstant) {
    if (low_ != 0) low_ = map(low_);
    return;
  }
  if (form_ == Form::kBits) {
    // A code that no row has any more might map to anything.
    bool any_low = false;
    bool any_high = false;
    for (int row = 0; row < size_; ++row) {
      const bool is_high = words()[row >> 6] >> (row & 63) & 1;
      any_low |= !is_high;
      any_high |= is_high;
    }
    if (low_ != 0) low_ = any_low ? map(low_) : 0;
    if (high_ != 0) high_ = any_high ? map(high_) : 0;
    return;
  }
  uint64_t largest = 0;
  ForEachSet([&](int, uint64_t code) {
    const uint64_t mapped = map(code);
    largest = largest > mapped ? largest : mapped;
  });
  CodeArray mapped;
  mapped.size_ = size_;
  const Form width = FormFor(largest);
  if (form_ == Form::kSparse) {
    mapped.Allocate(form_, width, sparse_count_ > 0 ? sparse_count_ : 1);
    mapped.sparse_count_ = sparse_count_;
    for (int i = 0; i < sparse_count_; ++i) {
      mapped.MutableSparseRows()[i] = sparse_rows()[i];
      mapped.Store(width, i, map(sparse_code(i)));
    }
  } else {
    mapped.Allocate(width, width, size_);
    ForEachSet(
        [&](int row, uint64_t code) { mapped.Store(width, row, map(code)); });
  }
  *this = std::move(mapped);
}

}  // namespace muster

#endif  // ENGINE_TWIN_COLUMNS_CODE_ARRAY_H_
