#include "server/text.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace muster {
namespace {

// Three significant digits of a number in [0, 1000).
std::string ThreeDigits(double value) {
  if (value < 9.995) return absl::StrFormat("%.2f", value);
  if (value < 99.95) return absl::StrFormat("%.1f", value);
  return absl::StrFormat("%.0f", value);
}

// Of UTF-8: all bytes of a code point but the first are 10xxxxxx.
bool BeginsCodePoint(char c) {
  return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
}

}  // namespace

std::string WithCommas(int64_t number) {
  std::string digits = absl::StrCat(number);
  const int first = number < 0 ? 1 : 0;
  for (int i = static_cast<int>(digits.size()) - 3; i > first; i -= 3) {
    digits.insert(static_cast<size_t>(i), 1, ',');
  }
  return digits;
}

std::string ShortCount(int64_t number) {
  if (number < 10'000) return absl::StrCat(number);
  const double value = static_cast<double>(number);
  return number < 999'500 ? absl::StrCat(ThreeDigits(value / 1e3), "k")
                          : absl::StrCat(ThreeDigits(value / 1e6), "M");
}

std::string Counted(int64_t number, absl::string_view singular) {
  return absl::StrCat(WithCommas(number), " ", singular,
                      number == 1 ? "" : "s");
}

std::string ShortDuration(absl::Duration duration) {
  const double seconds = absl::ToDoubleSeconds(duration);
  if (seconds < 999.5e-6) return absl::StrFormat("%.0f us", seconds * 1e6);
  if (seconds < 999.5e-3) {
    return absl::StrCat(ThreeDigits(seconds * 1e3), " ms");
  }
  if (seconds < 59.95) return absl::StrCat(ThreeDigits(seconds), " s");
  return ClockDuration(duration);
}

std::string ClockDuration(absl::Duration duration) {
  if (duration == absl::InfiniteDuration()) return "forever";
  const int64_t seconds = std::max<int64_t>(
      0, absl::ToInt64Seconds(absl::Ceil(duration, absl::Seconds(1))));
  const int64_t minutes = seconds / 60;
  const int64_t hours = minutes / 60;
  if (hours >= 24) {
    return absl::StrFormat("%d d %d:%02d:%02d", hours / 24, hours % 24,
                           minutes % 60, seconds % 60);
  }
  if (hours > 0) {
    return absl::StrFormat("%d:%02d:%02d", hours, minutes % 60, seconds % 60);
  }
  return absl::StrFormat("%d:%02d", minutes, seconds % 60);
}

std::string ShortRate(double per_second) {
  if (!std::isfinite(per_second) || per_second < 0) return "";
  if (per_second >= 999.5e3) {
    return absl::StrCat(ThreeDigits(per_second / 1e6), " M/s");
  }
  if (per_second >= 999.5) {
    return absl::StrCat(ThreeDigits(per_second / 1e3), " k/s");
  }
  return absl::StrCat(ThreeDigits(per_second), "/s");
}

std::string ShortBytes(int64_t bytes) {
  if (bytes < 1000) return absl::StrCat(bytes, " B");
  double value = static_cast<double>(bytes);
  const char* unit = "";
  for (const char* next : {"kB", "MB", "GB", "TB"}) {
    if (value < 999.95) break;
    value /= 1000;
    unit = next;
  }
  return absl::StrFormat("%.1f %s", value, unit);
}

int ColumnsOf(absl::string_view text) {
  int columns = 0;
  for (char c : text) {
    if (BeginsCodePoint(c)) ++columns;
  }
  return columns;
}

std::string CutToColumns(absl::string_view text, int columns) {
  if (ColumnsOf(text) <= columns) return std::string(text);
  size_t end = 0;
  for (int left = columns - 3; end < text.size(); ++end) {
    if (BeginsCodePoint(text[end]) && left-- == 0) break;
  }
  return absl::StrCat(text.substr(0, end), "...");
}

}  // namespace muster
