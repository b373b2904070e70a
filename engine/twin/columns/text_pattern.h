// TextPattern: strings that differ in one number only.
//
// Serial numbers, device ids and instants are unique, so no dictionary makes
// them smaller, but most of their characters are the same in all:
//
//   "SN00A1B2C3D4E5"         "SN" and 12 hexadecimal digits    48 bits
//   "8944000000000123"       16 decimal digits                 54 bits
//   "2026-03-01T12:30:45Z"   seconds since 1970                33 bits
//
// A pattern turns such strings into numbers and back.  Numbers are in the order
// of the strings.
#ifndef ENGINE_TWIN_COLUMNS_TEXT_PATTERN_H_
#define ENGINE_TWIN_COLUMNS_TEXT_PATTERN_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace muster {

class TextPattern {
 public:
  // Strings of a pattern have at most so many bytes.
  static constexpr size_t kSizeMax = 48;

  enum class Digits : uint8_t { kDecimal, kUpperHex, kLowerHex, kInstant };

  // The pattern of `digits` that `text` is of: nullopt if it is of none.
  static std::optional<TextPattern> Of(absl::string_view text, Digits digits);

  // nullopt if `text` is of another pattern; else at least 0, below 2^60.
  std::optional<int64_t> Read(absl::string_view text) const;

  // No Read() returns more.
  int64_t number_max() const;

  // Writes size() bytes.  REQUIRES: 0 <= number <= number_max().
  void Write(int64_t number, char* to) const;
  size_t size() const { return prefix_.size() + digit_count_; }

  Digits digits() const { return digits_; }
  const std::string& prefix() const { return prefix_; }
  int digit_count() const { return digit_count_; }

  // What those three said; nullopt if no string can be of it.
  static std::optional<TextPattern> Make(Digits digits, std::string prefix,
                                         int digit_count);

 private:
  TextPattern(Digits digits, std::string prefix, int digit_count)
      : digits_(digits),
        digit_count_(static_cast<uint8_t>(digit_count)),
        prefix_(std::move(prefix)) {}

  Digits digits_;
  uint8_t digit_count_;
  std::string prefix_;
};

}  // namespace muster

#endif  // ENGINE_TWIN_COLUMNS_TEXT_PATTERN_H_
