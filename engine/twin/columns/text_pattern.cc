#include "engine/twin/columns/text_pattern.h"

#include <cstring>
#include <utility>

#include "engine/model/check.h"

namespace muster {
namespace {

// Below 2^60.
constexpr int kDecimalDigitsMax = 18;
constexpr int kHexDigitsMax = 15;
constexpr int kDigitsMin = 2;
// YYYY-MM-DDThh:mm:ssZ
constexpr int kInstantSize = 20;

// -1 if it is no digit.
int DigitOf(char c, TextPattern::Digits digits) {
  if (c >= '0' && c <= '9') return c - '0';
  if (digits == TextPattern::Digits::kUpperHex && c >= 'A' && c <= 'F') {
    return c - 'A' + 10;
  }
  if (digits == TextPattern::Digits::kLowerHex && c >= 'a' && c <= 'f') {
    return c - 'a' + 10;
  }
  return -1;
}

// Days since 0000-03-01 in the proleptic Gregorian calendar, by eras of 400
// years that begin in March, so that the leap day comes last (H. Hinnant,
// "chrono-Compatible Low-Level Date Algorithms").
int64_t DaysOf(int year, int month, int day) {
  const int y = month <= 2 ? year - 1 : year;
  const int era = y / 400;
  const int year_of_era = y - era * 400;
  const int day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
  const int day_of_era =
      year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
  return int64_t{era} * 146'097 + day_of_era;
}

void DateOf(int64_t days, int* year, int* month, int* day) {
  const int era = static_cast<int>(days / 146'097);
  const int day_of_era = static_cast<int>(days % 146'097);
  const int year_of_era = (day_of_era - day_of_era / 1460 +
                           day_of_era / 36'524 - day_of_era / 146'096) /
                          365;
  const int day_of_year =
      day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const int shifted = (5 * day_of_year + 2) / 153;
  *day = day_of_year - (153 * shifted + 2) / 5 + 1;
  *month = shifted < 10 ? shifted + 3 : shifted - 9;
  *year = year_of_era + era * 400 + (*month <= 2 ? 1 : 0);
}

int TwoDigits(const char* p) {
  const int tens = DigitOf(p[0], TextPattern::Digits::kDecimal);
  const int ones = DigitOf(p[1], TextPattern::Digits::kDecimal);
  return tens < 0 || ones < 0 ? -1 : tens * 10 + ones;
}

void PutTwoDigits(int number, char* to) {
  to[0] = static_cast<char>('0' + number / 10);
  to[1] = static_cast<char>('0' + number % 10);
}

std::optional<int64_t> ReadInstant(absl::string_view text) {
  const char* const p = text.data();
  if (text.size() != kInstantSize || p[4] != '-' || p[7] != '-' ||
      p[10] != 'T' || p[13] != ':' || p[16] != ':' || p[19] != 'Z') {
    return std::nullopt;
  }
  const int century = TwoDigits(p);
  const int years = TwoDigits(p + 2);
  const int month = TwoDigits(p + 5);
  const int day = TwoDigits(p + 8);
  const int hour = TwoDigits(p + 11);
  const int minute = TwoDigits(p + 14);
  const int second = TwoDigits(p + 17);
  const int year = century * 100 + years;
  // Not before March of the year 1: no year before it has to be thought of.
  if (century < 0 || years < 0 || year < 2 || month < 1 || month > 12 ||
      day < 1 || day > 31 || hour < 0 || hour > 23 || minute < 0 ||
      minute > 59 || second < 0 || second > 59) {
    return std::nullopt;
  }
  const int64_t days = DaysOf(year, month, day);
  int back_year;
  int back_month;
  int back_day;
  DateOf(days, &back_year, &back_month, &back_day);
  // The 31st of a month that has 30 days is a string, but no day.
  if (back_day != day || back_month != month) return std::nullopt;
  return ((days * 24 + hour) * 60 + minute) * 60 + second;
}

void WriteInstant(int64_t number, char* to) {
  int year;
  int month;
  int day;
  DateOf(number / 86'400, &year, &month, &day);
  const int seconds = static_cast<int>(number % 86'400);
  std::memcpy(to, "0000-00-00T00:00:00Z", kInstantSize);
  PutTwoDigits(year / 100, to);
  PutTwoDigits(year % 100, to + 2);
  PutTwoDigits(month, to + 5);
  PutTwoDigits(day, to + 8);
  PutTwoDigits(seconds / 3600, to + 11);
  PutTwoDigits(seconds / 60 % 60, to + 14);
  PutTwoDigits(seconds % 60, to + 17);
}

}  // namespace

std::optional<TextPattern> TextPattern::Make(Digits digits, std::string prefix,
                                             int digit_count) {
  if (digits > Digits::kInstant) return std::nullopt;
  const bool fits =
      digits == Digits::kInstant
          ? prefix.empty() && digit_count == kInstantSize
          : digit_count >= kDigitsMin &&
                digit_count <= (digits == Digits::kDecimal ? kDecimalDigitsMax
                                                           : kHexDigitsMax) &&
                prefix.size() + static_cast<size_t>(digit_count) <= kSizeMax;
  if (!fits) return std::nullopt;
  return TextPattern(digits, std::move(prefix), digit_count);
}

std::optional<TextPattern> TextPattern::Of(absl::string_view text,
                                           Digits digits) {
  if (digits == Digits::kInstant) {
    if (!ReadInstant(text).has_value()) return std::nullopt;
    return Make(digits, "", kInstantSize);
  }
  const int most =
      digits == Digits::kDecimal ? kDecimalDigitsMax : kHexDigitsMax;
  int count = 0;
  while (count < most && static_cast<size_t>(count) < text.size() &&
         DigitOf(text[text.size() - 1 - static_cast<size_t>(count)], digits) >=
             0) {
    ++count;
  }
  return Make(digits, std::string(text.substr(0, text.size() - count)), count);
}

std::optional<int64_t> TextPattern::Read(absl::string_view text) const {
  if (text.size() != size()) return std::nullopt;
  if (digits_ == Digits::kInstant) return ReadInstant(text);
  if (std::memcmp(text.data(), prefix_.data(), prefix_.size()) != 0) {
    return std::nullopt;
  }
  int64_t number = 0;
  const int64_t radix = digits_ == Digits::kDecimal ? 10 : 16;
  for (size_t i = prefix_.size(); i < text.size(); ++i) {
    const int digit = DigitOf(text[i], digits_);
    if (digit < 0) return std::nullopt;
    number = number * radix + digit;
  }
  return number;
}

int64_t TextPattern::number_max() const {
  if (digits_ == Digits::kInstant) return *ReadInstant("9999-12-31T23:59:59Z");
  int64_t limit = 1;
  for (int i = 0; i < digit_count_; ++i) {
    limit *= digits_ == Digits::kDecimal ? 10 : 16;
  }
  return limit - 1;
}

void TextPattern::Write(int64_t number, char* to) const {
  if (digits_ == Digits::kInstant) {
    WriteInstant(number, to);
    return;
  }
  std::memcpy(to, prefix_.data(), prefix_.size());
  const char* const digits =
      digits_ == Digits::kLowerHex ? "0123456789abcdef" : "0123456789ABCDEF";
  uint64_t rest = static_cast<uint64_t>(number);
  char* const first = to + prefix_.size();
  if (digits_ == Digits::kDecimal) {
    for (int i = digit_count_ - 1; i >= 0; --i, rest /= 10) {
      first[i] = digits[rest % 10];
    }
  } else {
    for (int i = digit_count_ - 1; i >= 0; --i, rest >>= 4) {
      first[i] = digits[rest & 15];
    }
  }
}

}  // namespace muster
