// Column: the values at one property path, one per row of a shard.
//
// A row's value is a code (code_array.h):
//
//   0       undefined: the twin has nothing there
//   1       null
//   2 ...   a value
//
// What the codes from 2 on stand for depends on the column's kind, which
// follows what is put in:
//
//   kDictionary  numbers of entries in a dictionary: values of any kinds, side
//                by side; strings, booleans, arrays, mixtures.  That there is
//                an object is a value too: its members stand in columns of
//                their own (as `{}` here).
//   kNumber      numbers only: (value - base) * 10^scale, which must be exact.
//                45.1 and -3 are 451 and -30 with a scale of 1.  Codes ascend
//                with the values.
//   kText        strings of one pattern only, such as "SN00A1": 2 letters and
//                4 digits.  The digits' value; codes ascend with the strings.
//
// A value reads back as it was put in, to the bit: 25 and 25.0 differ, and so
// do 0.0 and -0.0.  Where a kind can't tell them apart, the column becomes a
// dictionary.
//
// A column that has become wider, or a dictionary, stays so until Compact().
// Dictionaries forget values that no row has any more: before one grows past
// twice what is in use it is cleaned up (O(rows + entries), amortized O(1)).
//
// Not thread-safe; const members may run side by side.
#ifndef ENGINE_TWIN_COLUMNS_COLUMN_H_
#define ENGINE_TWIN_COLUMNS_COLUMN_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/casts.h"
#include "absl/strings/string_view.h"
#include "engine/model/json.h"
#include "engine/twin/columns/code_array.h"
#include "engine/twin/columns/dictionary.h"
#include "engine/twin/columns/text_pattern.h"

namespace muster {

// Where a value that is not stored as such is made.  A view of it is valid
// until the buffer is used again.
struct CellBuffer {
  char bytes[64];
};

class Column {
 public:
  enum class Kind : uint8_t { kDictionary, kNumber, kText };

  static constexpr uint64_t kUndefinedCode = 0;
  static constexpr uint64_t kNullCode = 1;
  static constexpr uint64_t kFirstCode = 2;

  Column() = default;
  Column(Column&&) = default;
  Column& operator=(Column&&) = default;

  int size() const { return codes_.size(); }
  void Resize(int size) { codes_.Resize(size); }

  // The value's view lives until the column changes and `*buffer` is used
  // again.
  JsonView Get(int row, CellBuffer* buffer) const {
    return ValueOf(codes_.Get(row), buffer);
  }
  bool IsDefined(int row) const { return codes_.Get(row) != kUndefinedCode; }
  bool IsObject(int row) const {
    return kind_ == Kind::kDictionary && codes_.Get(row) == object_code_;
  }
  // Undefined takes the row's value away.  An object is put as `{}` whatever it
  // holds.  Amortized O(1) but for a change of form or kind, O(size()).
  void Set(int row, JsonView value);
  // For a value that goes to many rows: Set(row, CodeFor(value)) is the same,
  // until another value is put in.
  uint64_t CodeFor(JsonView value);
  void SetCode(int row, uint64_t code) { codes_.Set(row, code); }
  void SetCode(RowSpan rows, uint64_t code) { codes_.SetRows(rows, code); }
  // The code of an object, if a row may have one.
  std::optional<uint64_t> object_code() const {
    if (kind_ != Kind::kDictionary || object_code_ == UINT64_MAX) {
      return std::nullopt;
    }
    return object_code_;
  }

  Kind kind() const { return kind_; }
  const CodeArray& codes() const { return codes_; }

  // What a code stands for.  REQUIRES: 0, 1, or from kFirstCode to max_code().
  JsonView ValueOf(uint64_t code, CellBuffer* buffer) const;
  // The largest code that may occur.  With kDictionary, the last entry's;
  // entries that no row uses any more are among them.
  uint64_t max_code() const;
  // kNumber, kText: from `first` to `last`, codes stand for values in ascending
  // order, whether a row has them or not.  O(1).
  struct CodeSpan {
    uint64_t first, last;
  };
  CodeSpan value_codes() const;
  // A code in that span: the value's, or one that is near where it would be if
  // it is of the column's kind.  O(1).
  uint64_t NearCode(JsonView value) const;
  // kNumber: how codes become ValueOf(code).number_value().
  struct NumberCodes {
    int64_t base;    // What kFirstCode stands for, ...
    double divisor;  // ... by this; or the bits of a double, if raw.
    bool raw;

    double At(uint64_t code) const;
  };
  NumberCodes number_codes() const;
  // kDictionary: the code of a value, 0 if no row has it (or if it is
  // undefined). O(1).  REQUIRES: kDictionary.
  uint64_t FindCode(JsonView value) const;
  // kDictionary: whether an entry is of that kind.  O(1).
  bool HasKind(JsonKind kind) const {
    return dictionary_.kinds() >> static_cast<int>(kind) & 1;
  }

  // Makes it as small as it can be: after a load.  O(size()).
  void Compact();

  // Heap bytes.
  size_t MemoryUsage() const;

 private:
  friend class ShardSnapshot;

  static constexpr int kScaleMax = 9;  // Digits behind the point.

  // A code stands for base + code - kFirstCode: of a text, that is its digits;
  // of a number, it is number * 10^scale, or its bits if that is not exact
  // (raw).
  struct NumberForm {
    int64_t base = 0;
    uint8_t scale = 0;
    bool raw = false;
    bool integral_are_integers = true;  // 25 is an integer, not 25.0.
    bool decided = false;               // Whether an integral value has come.
  };

  std::optional<uint64_t> CodeForNumber(JsonView value);
  std::optional<int64_t> ScaledOf(JsonView value, const NumberForm& form) const;
  JsonView NumberOf(int64_t stored, CellBuffer* buffer) const;
  bool FitNumber(JsonView value);
  uint64_t CodeOfStored(int64_t stored);
  uint64_t CodeInDictionary(JsonView value);
  void BecomeDictionary();
  void MaybeBecomeText();
  void CollectGarbage();

  // The bits of a finite double as an integer in the order of the doubles.
  static int64_t OrderedBits(double number);
  static double FromOrderedBits(int64_t ordered) {
    const uint64_t bits = static_cast<uint64_t>(ordered);
    return absl::bit_cast<double>(
        ordered >= 0 ? bits : ~(bits & ~(uint64_t{1} << 63)));
  }

  Kind kind_ = Kind::kDictionary;
  bool text_failed_ = false;  // Was kText, and had to be given up.
  int garbage_at_ = 64;       // Entries at which the dictionary is cleaned up.
  uint64_t object_code_ = UINT64_MAX;
  NumberForm number_;
  std::unique_ptr<TextPattern> text_;
  Dictionary dictionary_;
  CodeArray codes_;
};

inline double Column::NumberCodes::At(uint64_t code) const {
  const int64_t stored =
      static_cast<int64_t>(static_cast<uint64_t>(base) + (code - kFirstCode));
  return raw ? FromOrderedBits(stored) : static_cast<double>(stored) / divisor;
}

}  // namespace muster

#endif  // ENGINE_TWIN_COLUMNS_COLUMN_H_
