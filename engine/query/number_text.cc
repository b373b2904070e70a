#include "engine/query/number_text.h"

#include <charconv>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "engine/model/check.h"

namespace muster {
namespace {

// The offset behind the digits that begin at `i`.
size_t SkipDigits(absl::string_view text, size_t i) {
  while (i < text.size() &&
         absl::ascii_isdigit(static_cast<unsigned char>(text[i]))) {
    ++i;
  }
  return i;
}

}  // namespace

size_t ScanDecimal(absl::string_view text) {
  size_t end = SkipDigits(text, 0);
  if (end < text.size() && text[end] == '.') {
    const size_t fraction_end = SkipDigits(text, end + 1);
    if (fraction_end > end + 1) end = fraction_end;
  }
  if (end == 0) return 0;
  if (end < text.size() && (text[end] == 'e' || text[end] == 'E')) {
    size_t digits = end + 1;
    if (digits < text.size() && (text[digits] == '+' || text[digits] == '-')) {
      ++digits;
    }
    const size_t exponent_end = SkipDigits(text, digits);
    if (exponent_end > digits) end = exponent_end;
  }
  return end;
}

bool ParseDecimal(absl::string_view text, double* value) {
  return absl::SimpleAtod(text, value) && std::isfinite(*value);
}

void AppendDecimal(double value, std::string* out) {
  MUSTER_DCHECK(std::isfinite(value));
  char buffer[32];  // The longest: -2.2250738585072014e-308
  const std::to_chars_result result =
      std::to_chars(buffer, buffer + sizeof(buffer), value);
  out->append(buffer, result.ptr);
}

}  // namespace muster
