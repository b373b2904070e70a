#include "engine/query/functions.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/strip.h"
#include "engine/model/check.h"
#include "engine/query/number_text.h"
#include "engine/query/utf8.h"

namespace muster {
namespace {

// A list of 2,048 tokens has no more.
constexpr int kMany = 2048;

constexpr FunctionProfile kAll = FunctionProfile::kAll;
constexpr FunctionProfile kObserved = FunctionProfile::kObserved;
constexpr FunctionProfile kDocumented = FunctionProfile::kDocumented;

// A function's first entry has its canonical name; those that follow, aliases.
constexpr FunctionInfo kFunctions[] = {
    {"IS_DEFINED", 1, 1, Function::kIsDefined, kDocumented},
    {"IS_ARRAY", 1, 1, Function::kIsArray, kAll},
    {"IS_BOOL", 1, 1, Function::kIsBool, kAll},
    {"IS_NULL", 1, 1, Function::kIsNull, kAll},
    {"IS_NUMBER", 1, 1, Function::kIsNumber, kAll},
    {"IS_OBJECT", 1, 1, Function::kIsObject, kAll},
    {"IS_PRIMITIVE", 1, 1, Function::kIsPrimitive, kAll},
    {"IS_STRING", 1, 1, Function::kIsString, kAll},
    {"STARTSWITH", 2, 2, Function::kStartsWith, kObserved},
    {"STARTS_WITH", 2, 2, Function::kStartsWith, kObserved},
    {"ENDSWITH", 2, 2, Function::kEndsWith, kAll},
    {"ENDS_WITH", 2, 2, Function::kEndsWith, kAll},
    {"CONTAINS", 2, 2, Function::kContains, kAll},
    {"ARRAY_CONTAINS", 2, 2, Function::kArrayContains, kObserved},
    {"AS_NUMBER", 1, 1, Function::kAsNumber, kAll},
    {"CONCAT", 2, kMany, Function::kConcat, kAll},
    {"LENGTH", 1, 1, Function::kLength, kAll},
    {"LOWER", 1, 1, Function::kLower, kAll},
    {"UPPER", 1, 1, Function::kUpper, kAll},
    {"SUBSTRING", 2, 3, Function::kSubstring, kAll},
    {"INDEX_OF", 2, 2, Function::kIndexOf, kAll},
    {"ABS", 1, 1, Function::kAbs, kAll},
    {"EXP", 1, 1, Function::kExp, kAll},
    {"POWER", 2, 2, Function::kPower, kAll},
    {"SQUARE", 1, 1, Function::kSquare, kAll},
    {"CEILING", 1, 1, Function::kCeiling, kAll},
    {"FLOOR", 1, 1, Function::kFloor, kAll},
    {"SIGN", 1, 1, Function::kSign, kAll},
    {"SQRT", 1, 1, Function::kSqrt, kAll},
};

// The byte offset of `needle` in `text`; npos if absent.  Linear, whatever the
// texts: string_view::find is not, and both come from outside.
size_t FindText(absl::string_view text, absl::string_view needle) {
  if (needle.empty()) return 0;
  const void* found =
      memmem(text.data(), text.size(), needle.data(), needle.size());
  if (found == nullptr) return absl::string_view::npos;
  return static_cast<const char*>(found) - text.data();
}

// Reads a decimal number of the language with an optional sign, and nothing
// around it.
Value AsNumber(absl::string_view text) {
  const bool negative = absl::ConsumePrefix(&text, "-");
  if (!negative) absl::ConsumePrefix(&text, "+");
  double number = 0;
  if (text.empty() || ScanDecimal(text) != text.size() ||
      !ParseDecimal(text, &number)) {
    return Value();
  }
  return Value::Number(negative ? -number : number);
}

Value FiniteOrUndefined(double number) {
  return std::isfinite(number) ? Value::Number(number) : Value();
}

// A count of code points: a whole number, not negative.
bool AsCount(const Value& value, size_t* count) {
  if (!value.is_number()) return false;
  const double number = value.number_value();
  if (number < 0 || number != std::floor(number)) return false;
  // Beyond any string; what would not fit size_t is cut here.
  *count = static_cast<size_t>(
      std::min(number, static_cast<double>(2 * kQueryStringSizeMax)));
  return true;
}

Value Substring(absl::Span<const Value> arguments) {
  if (!arguments[0].is_string()) return Value();
  absl::string_view text = arguments[0].string_value();
  size_t start = 0;
  if (!AsCount(arguments[1], &start)) return Value();
  if (start > Utf8Length(text)) return Value();
  text.remove_prefix(Utf8Offset(text, start));
  if (arguments.size() == 3) {
    size_t length = 0;
    if (!AsCount(arguments[2], &length)) return Value();
    text = text.substr(0, Utf8Offset(text, length));
  }
  return Value::String(text);
}

Value Concat(absl::Span<const Value> arguments, Scratch* scratch) {
  size_t size = 0;
  for (const Value& argument : arguments) {
    if (!argument.is_string()) return Value();
    size += argument.string_value().size();
  }
  if (size > kQueryStringSizeMax) return Value();
  std::string text;
  text.reserve(size);
  for (const Value& argument : arguments) {
    const absl::string_view part = argument.string_value();
    text.append(part.data(), part.size());
  }
  return Value::String(scratch->Keep(std::move(text)));
}

Value MapCase(const Value& argument, bool upper, Scratch* scratch) {
  if (!argument.is_string()) return Value();
  if (argument.string_value().size() > kQueryStringSizeMax) return Value();
  std::string text(argument.string_value());
  if (upper) {
    absl::AsciiStrToUpper(&text);
  } else {
    absl::AsciiStrToLower(&text);
  }
  return Value::String(scratch->Keep(std::move(text)));
}

Value ArrayContains(const Value& array, const Value& value) {
  if (!array.is_array() || !value.is_primitive()) return Value();
  for (const JsonView json : array.json_value().elements()) {
    const Value element = Value::FromJson(json);
    if (element.kind() != value.kind()) continue;
    if (value.is_null() ||
        (value.is_bool() && element.bool_value() == value.bool_value()) ||
        (value.is_number() && element.number_value() == value.number_value()) ||
        (value.is_string() && element.string_value() == value.string_value())) {
      return Value::Bool(true);
    }
  }
  return Value::Bool(false);
}

Value CallOnNumber(Function function, double x) {
  switch (function) {
    case Function::kAbs:
      return Value::Number(std::fabs(x));
    case Function::kExp:
      return FiniteOrUndefined(std::exp(x));
    case Function::kSquare:
      return FiniteOrUndefined(x * x);
    case Function::kCeiling:
      return Value::Number(std::ceil(x));
    case Function::kFloor:
      return Value::Number(std::floor(x));
    case Function::kSign:
      return Value::Number(x > 0 ? 1 : x < 0 ? -1 : 0);
    case Function::kSqrt:
      return FiniteOrUndefined(std::sqrt(x));
    default:
      MUSTER_CHECK(false && "a function of another shape");
  }
}

Value CallOnStrings(Function function, absl::string_view text,
                    absl::string_view other) {
  switch (function) {
    case Function::kStartsWith:
      return Value::Bool(absl::StartsWith(text, other));
    case Function::kEndsWith:
      return Value::Bool(absl::EndsWith(text, other));
    case Function::kContains:
      return Value::Bool(FindText(text, other) != absl::string_view::npos);
    case Function::kIndexOf: {
      // UTF-8 is self-synchronizing: a match begins where a code point does.
      const size_t offset = FindText(text, other);
      if (offset == absl::string_view::npos) return Value::Number(-1);
      return Value::Number(
          static_cast<double>(Utf8Length(text.substr(0, offset))));
    }
    default:
      MUSTER_CHECK(false && "a function of another shape");
  }
}

// Levenshtein's distance without regard to case.
size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const bool same =
          absl::ascii_toupper(static_cast<unsigned char>(a[i - 1])) ==
          absl::ascii_toupper(static_cast<unsigned char>(b[j - 1]));
      const size_t replace = diagonal + (same ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replace, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

const FunctionInfo* FindFunction(absl::string_view name) {
  for (const FunctionInfo& info : kFunctions) {
    if (absl::EqualsIgnoreCase(info.name, name)) return &info;
  }
  return nullptr;
}

const FunctionInfo& FunctionInfoOf(Function function) {
  for (const FunctionInfo& info : kFunctions) {
    if (info.function == function) return info;
  }
  MUSTER_CHECK(false && "a function that is not in the table");
}

bool InProfile(const FunctionInfo& info, FunctionProfile profile) {
  // Profiles are enumerated from wide to narrow.
  return info.profile >= profile;
}

absl::string_view NearestFunctionName(absl::string_view name,
                                      FunctionProfile profile) {
  if (name.size() > 32) return "";  // Far from all, and dear to compare.
  absl::string_view nearest;
  // More than a third of the letters wrong is another word.
  size_t nearest_distance = std::max<size_t>(name.size() / 3, 1) + 1;
  for (const FunctionInfo& info : kFunctions) {
    if (!InProfile(info, profile)) continue;
    const size_t distance = EditDistance(name, info.name);
    if (distance < nearest_distance) {
      nearest = info.name;
      nearest_distance = distance;
    }
  }
  return nearest;
}

Value CallFunction(Function function, absl::Span<const Value> arguments,
                   Scratch* scratch) {
  MUSTER_DCHECK(!arguments.empty());
  const Value& first = arguments[0];
  switch (function) {
    case Function::kIsDefined:
      return Value::Bool(!first.is_undefined());
    case Function::kIsArray:
      return Value::Bool(first.is_array());
    case Function::kIsBool:
      return Value::Bool(first.is_bool());
    case Function::kIsNull:
      return Value::Bool(first.is_null());
    case Function::kIsNumber:
      return Value::Bool(first.is_number());
    case Function::kIsObject:
      return Value::Bool(first.is_object());
    case Function::kIsPrimitive:
      return Value::Bool(first.is_primitive());
    case Function::kIsString:
      return Value::Bool(first.is_string());
    case Function::kStartsWith:
    case Function::kEndsWith:
    case Function::kContains:
    case Function::kIndexOf:
      if (!first.is_string() || !arguments[1].is_string()) return Value();
      return CallOnStrings(function, first.string_value(),
                           arguments[1].string_value());
    case Function::kArrayContains:
      return ArrayContains(first, arguments[1]);
    case Function::kAsNumber:
      if (first.is_number()) return first;
      return first.is_string() ? AsNumber(first.string_value()) : Value();
    case Function::kConcat:
      return Concat(arguments, scratch);
    case Function::kLength:
      if (!first.is_string()) return Value();
      return Value::Number(
          static_cast<double>(Utf8Length(first.string_value())));
    case Function::kLower:
      return MapCase(first, /*upper=*/false, scratch);
    case Function::kUpper:
      return MapCase(first, /*upper=*/true, scratch);
    case Function::kSubstring:
      return Substring(arguments);
    case Function::kAbs:
    case Function::kExp:
    case Function::kSquare:
    case Function::kCeiling:
    case Function::kFloor:
    case Function::kSign:
    case Function::kSqrt:
      if (!first.is_number()) return Value();
      return CallOnNumber(function, first.number_value());
    case Function::kPower:
      if (!first.is_number() || !arguments[1].is_number()) return Value();
      return FiniteOrUndefined(
          std::pow(first.number_value(), arguments[1].number_value()));
  }
  MUSTER_CHECK(false && "a function that is no enumerator");
}

}  // namespace muster
