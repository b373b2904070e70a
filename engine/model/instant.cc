#include "engine/model/instant.h"

#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace muster {
namespace {

// Reads fields off the front of a text; a failed read leaves ok() false.
class Reader {
 public:
  explicit Reader(absl::string_view text) : text_(text) {}

  bool ok() const { return ok_; }
  bool done() const { return text_.empty(); }
  char peek() const { return text_.empty() ? '\0' : text_.front(); }

  bool Take(char c) {
    if (peek() != c || text_.empty()) return false;
    text_.remove_prefix(1);
    return true;
  }
  void Expect(char c) { ok_ = Take(c) && ok_; }

  // Exactly `digits` decimal digits with a value in [low, high].
  int Number(int digits, int low, int high) {
    int value = 0;
    for (int i = 0; i < digits; ++i) {
      if (!absl::ascii_isdigit(static_cast<unsigned char>(peek()))) {
        ok_ = false;
        return low;
      }
      value = value * 10 + (peek() - '0');
      text_.remove_prefix(1);
    }
    if (value < low || value > high) ok_ = false;
    return value;
  }

  // One or more digits behind the decimal point, in units of 100 ns.
  int64_t Fraction() {
    int64_t ticks = 0;
    int digits = 0;
    for (; absl::ascii_isdigit(static_cast<unsigned char>(peek())); ++digits) {
      if (digits < 7) ticks = ticks * 10 + (peek() - '0');
      text_.remove_prefix(1);
    }
    if (digits == 0) ok_ = false;
    for (; digits < 7; ++digits) ticks *= 10;
    return ticks;
  }

  void Fail() { ok_ = false; }

 private:
  absl::string_view text_;
  bool ok_ = true;
};

bool IsLeapYear(int y) { return (y % 4 == 0 && y % 100 != 0) || y % 400 == 0; }

int DaysInMonth(int year, int month) {
  constexpr int kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  return month == 2 && IsLeapYear(year) ? 29 : kDays[month - 1];
}

std::optional<absl::Time> Parse(absl::string_view text, bool date_suffices) {
  Reader in(text);
  int year = in.Number(4, 1, 9999);
  const bool extended = in.Take('-');
  int month = in.Number(2, 1, 12);
  if (extended) in.Expect('-');
  int day = in.Number(2, 1, 31);
  if (!in.ok() || day > DaysInMonth(year, month)) return std::nullopt;

  int hour = 0, minute = 0, second = 0;
  int64_t ticks = 0;  // 100 ns.
  int offset_minutes = 0;
  if (in.done()) {
    if (!date_suffices) return std::nullopt;
  } else {
    if (!in.Take('T') && !in.Take('t')) in.Expect(' ');
    hour = in.Number(2, 0, 23);
    if (extended) in.Expect(':');
    minute = in.Number(2, 0, 59);
    const bool has_seconds =
        extended ? in.Take(':')
                 : absl::ascii_isdigit(static_cast<unsigned char>(in.peek()));
    if (has_seconds) {
      second = in.Number(2, 0, 60);
      if (in.Take('.') || in.Take(',')) ticks = in.Fraction();
      if (second == 60) {  // A leap second: contract 1.11.
        second = 59;
        ticks = 9'999'999;
      }
    }
    if (!in.Take('Z') && !in.Take('z') && !in.done()) {
      const char sign = in.peek();
      if (!in.Take('+') && !in.Take('-')) return std::nullopt;
      offset_minutes = 60 * in.Number(2, 0, 23);
      if (!in.done()) {
        in.Take(':');
        offset_minutes += in.Number(2, 0, 59);
      }
      if (sign == '-') offset_minutes = -offset_minutes;
    }
    if (!in.ok() || !in.done()) return std::nullopt;
  }
  const absl::CivilSecond civil(year, month, day, hour, minute, second);
  const absl::Time time = absl::FromCivil(civil, absl::UTCTimeZone()) +
                          absl::Nanoseconds(100) * ticks -
                          absl::Minutes(offset_minutes);
  // An offset may lead out of the years that can be written again.
  const int64_t utc_year = absl::ToCivilYear(time, absl::UTCTimeZone()).year();
  if (utc_year < 1 || utc_year > 9999) return std::nullopt;
  return time;
}

}  // namespace

std::string FormatInstant(absl::Time time) {
  return absl::FormatTime("%E4Y-%m-%dT%H:%M:%E7SZ", time, absl::UTCTimeZone());
}

std::optional<absl::Time> ParseInstant(absl::string_view text) {
  return Parse(text, /*date_suffices=*/false);
}

std::optional<absl::Time> ParseDateOrInstant(absl::string_view text) {
  return Parse(text, /*date_suffices=*/true);
}

}  // namespace muster
