#include "engine/twin/columns/column.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "absl/base/casts.h"
#include "engine/model/check.h"
#include "engine/twin/columns/int_column.h"

namespace muster {
namespace {

// Integers up to here are doubles too, so that comparing codes is comparing
// numbers.
constexpr int64_t kScaledMax = int64_t{1} << 53;
constexpr int64_t kPowers[] = {1,           10,           100,       1'000,
                               10'000,      100'000,      1'000'000, 10'000'000,
                               100'000'000, 1'000'000'000};

// Entries from which a column of strings is looked at for a pattern, and from
// which a dictionary is cleaned up.
constexpr int kTextTryAt = 256;
constexpr int kGarbageMin = 64;

bool IsIntegral(double number) {
  return std::fabs(number) < 9.2e18 && number == std::trunc(number);
}

// number * 10^scale, if that is a whole number from which it can be had back.
std::optional<int64_t> Scaled(double number, int scale) {
  const double scaled = number * static_cast<double>(kPowers[scale]);
  if (!(std::fabs(scaled) < static_cast<double>(kScaledMax))) {
    return std::nullopt;
  }
  // What this rounds otherwise than std::round() is no whole number anyway.
  constexpr double kHalvesMax = 0x1p52;
  const double half = std::fabs(scaled) < kHalvesMax ? 0.5 : 0.0;
  const int64_t whole =
      static_cast<int64_t>(scaled < 0 ? scaled - half : scaled + half);
  if (static_cast<double>(whole) / static_cast<double>(kPowers[scale]) !=
      number) {
    return std::nullopt;
  }
  // -0.0 has no integer of its own.
  if (whole == 0 && std::signbit(number)) return std::nullopt;
  return whole;
}

}  // namespace

// ----------------------------------------------------------------- numbers

int64_t Column::OrderedBits(double number) {
  const int64_t bits = absl::bit_cast<int64_t>(number);
  return bits >= 0 ? bits
                   : static_cast<int64_t>(~static_cast<uint64_t>(bits) |
                                          uint64_t{1} << 63);
}

// What `value` would be stored as in `form`; nullopt if it can't be.
std::optional<int64_t> Column::ScaledOf(JsonView value,
                                        const NumberForm& form) const {
  if (value.is_integer()) {
    const int64_t integer = value.int_value();
    if (form.decided && !form.integral_are_integers) return std::nullopt;
    if (integer > kScaledMax || integer < -kScaledMax) return std::nullopt;
    if (form.raw) return OrderedBits(static_cast<double>(integer));
    if (integer > kScaledMax / kPowers[form.scale] ||
        integer < -(kScaledMax / kPowers[form.scale])) {
      return std::nullopt;
    }
    return integer * kPowers[form.scale];
  }
  const double number = value.number_value();
  if (IsIntegral(number) && form.decided && form.integral_are_integers) {
    return std::nullopt;
  }
  if (form.raw) return OrderedBits(number);
  return Scaled(number, form.scale);
}

JsonView Column::NumberOf(int64_t stored, CellBuffer* buffer) const {
  const int64_t power = kPowers[number_.scale];
  const double number =
      number_.raw ? FromOrderedBits(stored)
                  : static_cast<double>(stored) / static_cast<double>(power);
  if (number_.integral_are_integers && IsIntegral(number)) {
    EncodeJsonInteger(static_cast<int64_t>(number), buffer->bytes);
  } else {
    EncodeJsonDouble(number, buffer->bytes);
  }
  return JsonView::FromEncoded(buffer->bytes);
}

// Changes the form of the numbers so that `value` can be stored too; false if
// there is none.
bool Column::FitNumber(JsonView value) {
  const bool is_integer = value.is_integer();
  const bool integral = is_integer || IsIntegral(value.number_value());
  NumberForm wanted = number_;
  if (integral) {
    if (wanted.decided && wanted.integral_are_integers != is_integer) {
      return false;
    }
    wanted.integral_are_integers = is_integer;
    wanted.decided = true;
  }
  std::optional<int64_t> stored = ScaledOf(value, wanted);
  while (!stored.has_value() && !wanted.raw) {
    // A scale that fits the new value fits all others too, unless they become
    // too large; then their bits are stored as they are.
    if (wanted.scale < kScaleMax) {
      ++wanted.scale;
    } else {
      wanted.scale = 0;
      wanted.raw = true;
    }
    stored = ScaledOf(value, wanted);
  }
  if (!stored.has_value()) return false;
  if (wanted.raw == number_.raw && wanted.scale == number_.scale) {
    number_ = wanted;
    return true;
  }
  // Store again what is there.
  Column changed;
  changed.Resize(size());
  changed.kind_ = Kind::kNumber;
  changed.text_failed_ = text_failed_;
  for (;;) {
    changed.number_ = wanted;
    changed.number_.base = wanted.raw ? INT64_MIN : *ScaledOf(value, wanted);
    bool fits = true;
    CellBuffer buffer;
    codes_.ForEachSet([&](int row, uint64_t code) {
      if (!fits) return;
      if (code < kFirstCode) {
        changed.codes_.Set(row, code);
        return;
      }
      const std::optional<int64_t> again =
          ScaledOf(ValueOf(code, &buffer), wanted);
      fits = again.has_value();
      if (fits) {
        changed.codes_.Set(row, changed.CodeOfStored(*again));
      }
    });
    if (fits) break;
    if (wanted.raw) return false;
    wanted.scale = 0;
    wanted.raw = true;
    if (!ScaledOf(value, wanted).has_value()) return false;
    changed.codes_ = CodeArray();
    changed.codes_.Resize(size());
  }
  *this = std::move(changed);
  return true;
}

// ------------------------------------------------------------------ values

JsonView Column::ValueOf(uint64_t code, CellBuffer* buffer) const {
  if (code == kUndefinedCode) return JsonView();
  if (code == kNullCode) return JsonView::Null();
  if (kind_ == Kind::kDictionary) {
    return dictionary_.at(static_cast<int>(code - kFirstCode));
  }
  const int64_t stored = static_cast<int64_t>(
      static_cast<uint64_t>(number_.base) + (code - kFirstCode));
  if (kind_ == Kind::kNumber) return NumberOf(stored, buffer);
  text_->Write(stored, EncodeJsonStringHead(text_->size(), buffer->bytes));
  return JsonView::FromEncoded(buffer->bytes);
}

uint64_t Column::max_code() const {
  if (kind_ == Kind::kDictionary) {
    return kNullCode + static_cast<uint64_t>(dictionary_.size());
  }
  uint64_t largest = kNullCode;
  codes_.ForEachSet(
      [&](int, uint64_t code) { largest = std::max(largest, code); });
  return largest;
}

Column::CodeSpan Column::value_codes() const {
  MUSTER_DCHECK(kind_ != Kind::kDictionary);
  int64_t lowest = -kScaledMax;
  int64_t highest = kScaledMax;
  if (kind_ == Kind::kText) {
    lowest = 0;
    highest = text_->number_max();
  } else if (number_.raw) {
    lowest = OrderedBits(std::numeric_limits<double>::lowest());
    highest = OrderedBits(std::numeric_limits<double>::max());
  }
  const auto code = [this](int64_t stored) {
    return static_cast<uint64_t>(stored) - static_cast<uint64_t>(number_.base) +
           kFirstCode;
  };
  return {lowest <= number_.base ? kFirstCode : code(lowest), code(highest)};
}

uint64_t Column::NearCode(JsonView value) const {
  const CodeSpan span = value_codes();
  int64_t stored = number_.base;
  if (kind_ == Kind::kText) {
    if (value.is_string()) {
      stored = text_->Read(value.string_value()).value_or(stored);
    }
  } else if (value.is_number()) {
    const double number = value.number_value();
    const double limit = static_cast<double>(kScaledMax);
    const double scaled = number * static_cast<double>(kPowers[number_.scale]);
    stored = number_.raw ? OrderedBits(number)
                         : static_cast<int64_t>(
                               std::round(std::clamp(scaled, -limit, limit)));
  }
  if (stored < number_.base) return span.first;
  const uint64_t code = static_cast<uint64_t>(stored) -
                        static_cast<uint64_t>(number_.base) + kFirstCode;
  return std::clamp(code, span.first, span.last);
}

Column::NumberCodes Column::number_codes() const {
  MUSTER_DCHECK(kind_ == Kind::kNumber);
  return {number_.base, static_cast<double>(kPowers[number_.scale]),
          number_.raw};
}

uint64_t Column::FindCode(JsonView value) const {
  MUSTER_DCHECK(kind_ == Kind::kDictionary);
  if (value.is_undefined()) return kUndefinedCode;
  if (value.is_null()) return kNullCode;
  const int number = dictionary_.Find(value.bytes());
  return number < 0 ? kUndefinedCode
                    : kFirstCode + static_cast<uint64_t>(number);
}

void Column::Set(int row, JsonView value) { codes_.Set(row, CodeFor(value)); }

uint64_t Column::CodeFor(JsonView value) {
  switch (value.kind()) {
    case JsonKind::kUndefined:
      return kUndefinedCode;
    case JsonKind::kNull:
      return kNullCode;
    case JsonKind::kNumber:
      if (kind_ == Kind::kNumber ||
          (kind_ == Kind::kDictionary && dictionary_.size() == 0)) {
        if (std::optional<uint64_t> code = CodeForNumber(value)) return *code;
      }
      break;
    case JsonKind::kString:
      if (kind_ == Kind::kText) {
        const std::optional<int64_t> number = text_->Read(value.string_value());
        if (number.has_value()) {
          return CodeOfStored(*number);
        }
        text_failed_ = true;
      }
      break;
    case JsonKind::kObject: {
      if (kind_ != Kind::kDictionary) BecomeDictionary();
      if (object_code_ == UINT64_MAX) {
        const Json empty = Json::EmptyObject();
        // Remembered only behind the call, which may clean up and forget it.
        const uint64_t code = CodeInDictionary(empty.view());
        object_code_ = code;
      }
      return object_code_;
    }
    default:
      break;
  }
  if (kind_ != Kind::kDictionary) BecomeDictionary();
  return CodeInDictionary(value);
}

std::optional<uint64_t> Column::CodeForNumber(JsonView value) {
  if (kind_ == Kind::kDictionary) {
    NumberForm fresh;
    kind_ = Kind::kNumber;
    number_ = fresh;
    object_code_ = UINT64_MAX;
    if (!FitNumber(value)) {
      kind_ = Kind::kDictionary;
      return std::nullopt;
    }
    number_.base = number_.raw ? INT64_MIN : *ScaledOf(value, number_);
    return CodeOfStored(*ScaledOf(value, number_));
  }
  const bool undecided = !number_.decided && (value.is_integer() ||
                                              IsIntegral(value.number_value()));
  std::optional<int64_t> stored;
  if (!undecided) stored = ScaledOf(value, number_);
  if (!stored.has_value()) {
    if (!FitNumber(value)) return std::nullopt;
    stored = ScaledOf(value, number_);
  }
  return CodeOfStored(*stored);
}

uint64_t Column::CodeOfStored(int64_t stored) {
  // Bits of doubles have all of 64 bits, and one base.
  if (number_.raw) {
    return static_cast<uint64_t>(stored) - static_cast<uint64_t>(INT64_MIN) +
           kFirstCode;
  }
  return OffsetCode(kFirstCode, stored, &number_.base, &codes_);
}

// ------------------------------------------------------------- dictionaries

uint64_t Column::CodeInDictionary(JsonView value) {
  const absl::string_view bytes = value.bytes();
  const int known = dictionary_.Find(bytes);
  if (known >= 0) return kFirstCode + static_cast<uint64_t>(known);
  if (dictionary_.size() >= garbage_at_) CollectGarbage();
  if (dictionary_.size() == kTextTryAt && value.is_string()) {
    MaybeBecomeText();
    if (kind_ == Kind::kText) return CodeFor(value);
  }
  return kFirstCode + static_cast<uint64_t>(dictionary_.Add(bytes));
}

void Column::BecomeDictionary() {
  Column changed;
  changed.Resize(size());
  changed.text_failed_ = text_failed_;
  CellBuffer buffer;
  codes_.ForEachSet([&](int row, uint64_t code) {
    if (code >= kFirstCode) {
      // Not CodeFor(), which would make numbers of numbers again.
      code = kFirstCode + static_cast<uint64_t>(changed.dictionary_.Add(
                              ValueOf(code, &buffer).bytes()));
    }
    changed.codes_.Set(row, code);
  });
  changed.garbage_at_ = std::max(kGarbageMin, 2 * changed.dictionary_.size());
  *this = std::move(changed);
}

void Column::CollectGarbage() {
  std::vector<int> renamed(static_cast<size_t>(dictionary_.size()), -1);
  codes_.ForEachSet([&](int, uint64_t code) {
    if (code >= kFirstCode) renamed[code - kFirstCode] = 0;
  });
  Dictionary kept;
  for (int i = 0; i < dictionary_.size(); ++i) {
    if (renamed[static_cast<size_t>(i)] < 0) continue;
    renamed[static_cast<size_t>(i)] = kept.Add(dictionary_.bytes_at(i));
  }
  if (kept.size() < dictionary_.size()) {
    codes_.Remap([&](uint64_t code) {
      return code < kFirstCode
                 ? code
                 : kFirstCode +
                       static_cast<uint64_t>(renamed[code - kFirstCode]);
    });
    object_code_ = UINT64_MAX;
    dictionary_ = std::move(kept);
    const int object = dictionary_.Find(Json::EmptyObject().bytes());
    if (object >= 0) object_code_ = kFirstCode + static_cast<uint64_t>(object);
  }
  garbage_at_ = std::max(kGarbageMin, 2 * dictionary_.size());
}

// Strings of one pattern need no dictionary.
void Column::MaybeBecomeText() {
  if (text_failed_ || kind_ != Kind::kDictionary || dictionary_.size() < 2) {
    return;
  }
  if (!dictionary_.at(0).is_string()) return;
  for (const TextPattern::Digits digits :
       {TextPattern::Digits::kDecimal, TextPattern::Digits::kUpperHex,
        TextPattern::Digits::kLowerHex, TextPattern::Digits::kInstant}) {
    std::optional<TextPattern> pattern =
        TextPattern::Of(dictionary_.at(0).string_value(), digits);
    if (!pattern.has_value()) continue;
    std::vector<int64_t> numbers;
    numbers.reserve(static_cast<size_t>(dictionary_.size()));
    for (int i = 0; i < dictionary_.size(); ++i) {
      const JsonView entry = dictionary_.at(i);
      if (!entry.is_string()) return;
      const std::optional<int64_t> number = pattern->Read(entry.string_value());
      if (!number.has_value()) break;
      numbers.push_back(*number);
    }
    if (static_cast<int>(numbers.size()) < dictionary_.size()) continue;
    const int64_t base = *std::min_element(numbers.begin(), numbers.end());
    codes_.Remap([&](uint64_t code) {
      return code < kFirstCode
                 ? code
                 : kFirstCode +
                       static_cast<uint64_t>(numbers[code - kFirstCode] - base);
    });
    number_ = NumberForm();
    number_.base = base;
    text_ = std::make_unique<TextPattern>(*std::move(pattern));
    dictionary_.Clear();
    object_code_ = UINT64_MAX;
    kind_ = Kind::kText;
    return;
  }
}

void Column::Compact() {
  if (kind_ == Kind::kDictionary) {
    CollectGarbage();
    // Few values are shorter as numbers of entries than as what they are.
    if (dictionary_.size() >= kTextTryAt) MaybeBecomeText();
    dictionary_.ShrinkToFit();
  }
  if (kind_ != Kind::kDictionary && !number_.raw) {
    uint64_t lowest = UINT64_MAX;
    codes_.ForEachSet([&](int, uint64_t code) {
      if (code >= kFirstCode) lowest = std::min(lowest, code);
    });
    if (lowest != UINT64_MAX) {
      MoveBase(kFirstCode,
               static_cast<int64_t>(static_cast<uint64_t>(number_.base) +
                                    (lowest - kFirstCode)),
               /*tight=*/true, &number_.base, &codes_);
    }
  }
  codes_.Compact();
}

size_t Column::MemoryUsage() const {
  return codes_.MemoryUsage() + dictionary_.MemoryUsage() +
         (text_ == nullptr ? 0 : sizeof(TextPattern));
}

}  // namespace muster
