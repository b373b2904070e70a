#include "tests/random_conditions.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/model/check.h"
#include "engine/model/limits.h"
#include "engine/query/lexer.h"
#include "engine/query/number_text.h"
#include "engine/query/utf8.h"

namespace muster {
namespace {

constexpr size_t kValuesMax = 24;
constexpr size_t kDocumentsMax = 64;

std::string Parenthesized(const std::string& text) {
  return absl::StrCat("(", text, ")");
}

// Whether `numbers`th of a stream may take the place of one of `count` kept
// ones, and of which: each of the stream is kept with the same probability.
size_t ReservoirPlace(uint64_t number, size_t count, Choices* choices) {
  if (number < count) return number;
  return choices->Below(
      static_cast<uint32_t>(std::min<uint64_t>(number + 1, 1 << 30)));
}

}  // namespace

// --------------------------------------------------------------- observing

void ConditionGenerator::Observe(const Json& document) {
  std::vector<Step> steps;
  ObserveAt(document.view(), &steps);
  const size_t place = ReservoirPlace(observed_++, kDocumentsMax, &choices_);
  if (place == documents_.size()) {
    documents_.emplace_back(document);
  } else if (place < documents_.size()) {
    documents_[place] = JsonDocument(document);
  }
}

void ConditionGenerator::ObserveAt(JsonView value, std::vector<Step>* steps) {
  if (!steps->empty()) {
    std::string key;
    for (const Step& step : *steps) {
      absl::StrAppend(&key, step.index >= 0 ? "[" : ".", step.name, step.index);
    }
    const auto [entry, is_new] = known_.try_emplace(key);
    KnownPath& path = entry->second;
    if (is_new) {
      path.steps = *steps;
      const std::string& last = steps->back().name;
      const bool of_user =
          steps->size() > 1 && (steps->front().name == "tags" ||
                                steps->front().name == "properties");
      const bool is_date = last == "$lastUpdated" ||
                           last == "lastActivityTime" ||
                           last == "statusUpdateTime";
      const bool is_meta = absl::StrContains(key, ".$");
      // properties, properties.desired: see Wholes().
      const bool is_whole =
          steps->front().name == "properties" && steps->size() < 3;
      if (!is_whole) {
        groups_[is_date   ? kDate
                : is_meta ? kMeta
                : of_user ? kUser
                          : kRoot]
            .push_back(&path);
      }
    }
    const size_t place = ReservoirPlace(path.seen++, kValuesMax, &choices_);
    if (place == path.values.size()) {
      path.values.emplace_back(value);
    } else if (place < path.values.size()) {
      path.values[place] = Json(value);
    }
  }
  for (const JsonView::Member& member : value.members()) {
    steps->push_back({.name = std::string(member.key)});
    ObserveAt(member.value, steps);
    steps->pop_back();
  }
  int64_t index = 0;
  for (JsonView element : value.elements()) {
    if (index > 3) break;
    steps->push_back({.name = "", .index = index++});
    ObserveAt(element, steps);
    steps->pop_back();
  }
}

Condition ConditionGenerator::Next() {
  MUSTER_CHECK(!documents_.empty());
  for (int attempt = 0;; ++attempt) {
    Condition condition = Draw();
    // Of those that select nothing, one in three will do.
    if (attempt == 3 || OneIn(3)) return condition;
    for (const JsonDocument& document : documents_) {
      if (condition.Matches(document)) return condition;
    }
  }
}

Condition ConditionGenerator::Draw() {
  static constexpr int kDepths[] = {1, 2, 0, 3, 1, 2, 5};
  int depth = choices_.Pick(kDepths);
  for (;; depth = 0) {
    const std::string text = OneIn(16) ? NamedDevices() : Boolean(depth);
    if (Utf8Length(text) > kQueryLengthMax) continue;
    absl::StatusOr<Condition> condition = Condition::ParseJobCondition(text);
    if (!condition.ok()) {
      // A fuzzer's bytes may ask for more than a condition can be.
      if (absl::StrContains(condition.status().message(), "nested deeper")) {
        continue;
      }
      absl::FPrintF(stderr, "%s\n%s\n", text, condition.status().message());
    }
    MUSTER_CHECK(condition.ok());
    return *std::move(condition);
  }
}

// ---------------------------------------------------------------- booleans

std::string ConditionGenerator::Boolean(int depth) {
  if (depth <= 0) return Predicate(depth);
  switch (Below(8)) {
    case 0:
    case 1:
      return Predicate(depth);
    case 2:
      return absl::StrCat(OneIn(2) ? "not " : "NOT ", Predicate(0));
    case 3:
      return absl::StrCat("NOT ", Parenthesized(Boolean(depth - 1)));
    case 4:
      return absl::StrCat("NOT NOT ", OneIn(2) ? "NOT " : "",
                          Parenthesized(Boolean(depth - 1)));
    default:
      return Chain(depth);
  }
}

// a AND b OR c ..., with and without parentheses.
std::string ConditionGenerator::Chain(int depth) {
  std::string text;
  const uint32_t style = Below(3);
  for (uint32_t i = 2 + Below(OneIn(20) ? 20 : 3); i > 0; --i) {
    const std::string operand = Boolean(depth - 1);
    if (!text.empty()) {
      const bool is_and = style == 0 || (style == 2 && OneIn(2));
      absl::StrAppend(&text, is_and ? " AND " : " OR ");
    }
    absl::StrAppend(&text, OneIn(2) ? Parenthesized(operand) : operand);
  }
  return text;
}

// Conditions that no other devices than those they name can satisfy; and some
// that only look so.
std::string ConditionGenerator::NamedDevices() {
  const auto id = [this] {
    const JsonView value = choices_.Pick(documents_).Get(Root::kDeviceId);
    return OneIn(12) ? RandomConstant() : StringLiteral(value.string_value());
  };
  std::string list;
  for (uint32_t i = 1 + Below(OneIn(8) ? 200 : 9); i > 0; --i) {
    absl::StrAppend(&list, list.empty() ? "deviceId IN [" : ", ", id());
  }
  list += "]";
  switch (Below(8)) {
    case 0:
      return list;
    case 1:
      return absl::StrCat("deviceId = ", id());
    case 2:
      return absl::StrCat(id(), " = DeviceId AND ", Predicate(0));
    case 3:
      return absl::StrCat(list, " AND NOT ", Predicate(0));
    case 4:
      return absl::StrCat("(", Boolean(1), ") AND ", list);
    case 5:
      return absl::StrCat("deviceId = ", id(), " OR ", list, " OR id = ", id());
    case 6:
      return absl::StrCat("NOT ", list);
    default:
      return absl::StrCat(list, " OR ", Predicate(0));
  }
}

std::string ConditionGenerator::Predicate(int depth) {
  const uint32_t draw = Below(100);
  if (draw < 30) return ComparePath();
  if (draw < 42) return InList();
  if (draw < 50) return TypeTest(depth);
  if (draw < 60) return StringTest();
  if (draw < 65) return ArrayTest();
  if (draw < 72) return ComparePaths();
  if (draw < 79) return CompareResult(Number(2));
  if (draw < 86) return CompareResult(String(2));
  if (draw < 91) return Dates();
  if (draw < 93) return PathText(PickPath(JsonKind::kBool));
  if (draw < 95) {
    return absl::StrCat(Any(1), " ", CompareOperator(), " ", Any(1));
  }
  if (draw < 96) return Any(depth);
  return Wholes();
}

std::string ConditionGenerator::ComparePath() {
  const KnownPath& path = OneIn(2) ? PickPath() : PickPath(JsonKind::kNumber);
  const std::string constant = ConstantFor(path);
  const char* const op = CompareOperator();
  if (OneIn(4)) return absl::StrCat(constant, " ", op, " ", PathText(path));
  return absl::StrCat(PathText(path), OneIn(10) ? "" : " ", op, " ", constant);
}

std::string ConditionGenerator::InList() {
  const KnownPath& path = OneIn(4) ? PickPath(JsonKind::kString) : PickPath();
  static constexpr absl::string_view kOperators[] = {" IN ", " IN ", " NIN ",
                                                     " NOT IN ", " in "};
  const std::string left = OneIn(12) ? Parenthesized(Any(1)) : PathText(path);
  return absl::StrCat(left, choices_.Pick(kOperators), ArrayLiteral(path));
}

std::string ConditionGenerator::TypeTest(int depth) {
  static constexpr absl::string_view kTests[] = {
      "IS_DEFINED", "is_defined",   "IS_ARRAY",  "IS_BOOL",  "Is_Null",
      "IS_NUMBER",  "IS_PRIMITIVE", "IS_STRING", "IS_OBJECT"};
  const std::string argument = OneIn(8)   ? StrayPath()
                               : OneIn(8) ? Any(std::min(depth, 2))
                                          : PathText(PickPath());
  return absl::StrCat(choices_.Pick(kTests), "(", argument, ")");
}

std::string ConditionGenerator::StringTest() {
  static constexpr absl::string_view kTests[] = {
      "STARTSWITH", "startswith", "STARTS_WITH", "ENDSWITH",
      "ENDS_WITH",  "CONTAINS",   "contains"};
  const KnownPath& path = PickPath(JsonKind::kString);
  const JsonView value = choices_.Pick(path.values).view();
  const absl::string_view test = choices_.Pick(kTests);
  std::string piece;
  if (!value.is_string() || OneIn(15)) {
    piece = RandomConstant();
  } else if (OneIn(20)) {
    piece = PathText(PickPath(JsonKind::kString));
  } else {
    // A beginning for a beginning, an end for an end.
    const absl::string_view text = value.string_value();
    const uint32_t length = static_cast<uint32_t>(Utf8Length(text));
    const size_t cut = Utf8Offset(text, Below(length + 1));
    const char first = absl::ascii_toupper(static_cast<unsigned char>(test[0]));
    piece = first == 'S'   ? StringLiteral(text.substr(0, cut))
            : first == 'E' ? StringLiteral(text.substr(cut))
                           : StringLiteral(Piece(text));
  }
  return absl::StrCat(test, "(", PathText(path), ", ", piece, ")");
}

std::string ConditionGenerator::ArrayTest() {
  const KnownPath& path = PickPath(JsonKind::kArray);
  const JsonView array = choices_.Pick(path.values).view();
  if (OneIn(8)) {
    const KnownPath& element = PickPath();
    return absl::StrCat("ARRAY_CONTAINS(", ArrayLiteral(element), ", ",
                        PathText(element), ")");
  }
  std::string element = RandomConstant();
  int64_t count = 0;
  for (JsonView each : array.elements()) {
    (void)each;
    ++count;
  }
  if (count > 0 && !OneIn(8)) {
    const JsonView each =
        array.At(static_cast<int64_t>(Below(static_cast<uint32_t>(count))));
    if (!each.is_array() && !each.is_object()) element = Literal(each);
  }
  return absl::StrCat(OneIn(2) ? "array_contains(" : "ARRAY_CONTAINS(",
                      PathText(path), ", ", element, ")");
}

std::string ConditionGenerator::ComparePaths() {
  static constexpr JsonKind kKinds[] = {JsonKind::kNumber, JsonKind::kString,
                                        JsonKind::kBool, JsonKind::kArray};
  const JsonKind kind = choices_.Pick(kKinds);
  return absl::StrCat(PathText(PickPath(kind)), " ", CompareOperator(), " ",
                      PathText(OneIn(5) ? PickPath() : PickPath(kind)));
}

// Compares with what the expression is worth in one of the twins.
std::string ConditionGenerator::CompareResult(const std::string& expression) {
  std::string constant = RandomConstant();
  const absl::StatusOr<Condition> parsed =
      Condition::ParseJobCondition(expression);
  if (parsed.ok()) {
    for (int attempt = 0; attempt < 3; ++attempt) {
      Scratch scratch;
      const Value value = parsed->Evaluate(choices_.Pick(documents_), &scratch);
      if (!value.is_primitive()) continue;
      constant = Beside(value);
      break;
    }
  }
  if (OneIn(8)) {
    return absl::StrCat(expression, " IN [", constant, ", ", RandomConstant(),
                        "]");
  }
  if (OneIn(5)) {
    return absl::StrCat(constant, " ", CompareOperator(), " ", expression);
  }
  return absl::StrCat(expression, " ", CompareOperator(), " ", constant);
}

std::string ConditionGenerator::Dates() {
  if (groups_[kDate].empty()) return Wholes();
  const KnownPath& path = *choices_.Pick(groups_[kDate]);
  const JsonView value = choices_.Pick(path.values).view();
  const std::string left = PathText(path);
  if (OneIn(6)) {
    const KnownPath& other =
        OneIn(2) ? *choices_.Pick(groups_[kDate]) : PickPath(JsonKind::kString);
    return absl::StrCat(left, " ", CompareOperator(), " ", PathText(other));
  }
  // The same instant can be spelled in many ways, and cut anywhere.
  const std::string text(value.is_string() ? value.string_value() : "2026");
  std::string written = text;
  switch (Below(8)) {
    case 0:
      break;
    case 1:
      written = text.substr(0, 10);
      break;
    case 2:
      written = absl::StrCat(text.substr(0, 19), "Z");
      break;
    case 3:
      written = absl::StrCat(text.substr(0, 19), "+00:00");
      break;
    case 4:
      written = absl::StrCat(text.substr(0, 19), "-01:00");
      break;
    case 5:
      written = text.substr(0, 16);
      break;
    case 6:
      written = text.substr(0, 19);
      if (!written.empty()) {
        written.back() = static_cast<char>('0' + Below(10));
      }
      break;
    default: {
      static constexpr absl::string_view kOdd[] = {"yesterday",
                                                   "",
                                                   "2026",
                                                   "2026-02-30",
                                                   "20260301",
                                                   "2026-03-01 00:00",
                                                   "0001-01-01T00:00:00Z",
                                                   "9999-12-31"};
      written = std::string(choices_.Pick(kOdd));
    }
  }
  const std::string constant = StringLiteral(written);
  if (OneIn(8)) {
    return absl::StrCat(left, OneIn(2) ? " IN [" : " NIN [", constant, ", ",
                        StringLiteral(text), OneIn(2) ? ", NULL]" : "]");
  }
  if (OneIn(8)) {
    return absl::StrCat("STARTSWITH(", left, ", ",
                        StringLiteral(text.substr(0, Below(20))), ")");
  }
  if (OneIn(4)) {
    return absl::StrCat(constant, " ", CompareOperator(), " ", left);
  }
  return absl::StrCat(left, " ", CompareOperator(), " ", constant);
}

// Sections as a whole, names that do not exist, members that are rarely there.
std::string ConditionGenerator::Wholes() {
  static constexpr absl::string_view kWholes[] = {
      "tags",
      "properties",
      "properties.desired",
      "properties.reported",
      "Properties.Reported",
      "properties.desired.$metadata",
      "properties.reported.$version",
      "properties.nope",
      "nope",
      "nope.deeper[0]",
      "moduleId",
      "capabilities",
      "capabilities.iotEdge",
      "x509Thumbprint",
      "x509Thumbprint.primaryThumbprint",
      "id",
      "devices.id",
      "parentScopes",
      "parentScopes[0]",
      "modelId",
      "cloudToDeviceMessageCount",
  };
  const absl::string_view whole = choices_.Pick(kWholes);
  switch (Below(8)) {
    case 0:
      return absl::StrCat("is_defined(", whole, ")");
    case 1:
      return absl::StrCat("IS_OBJECT(", whole, ")");
    case 2:
      return absl::StrCat(whole, " = ", RandomConstant());
    case 3:
      return absl::StrCat(whole, " != ", RandomConstant());
    case 4:
      return absl::StrCat("NOT ", whole, " = NULL");
    case 5:
      return absl::StrCat(whole, " = ", whole);
    case 6:
      return std::string(whole);
    default:
      return absl::StrCat(whole, " ", CompareOperator(), " ",
                          PathText(PickPath()));
  }
}

// ------------------------------------------------------------- expressions

std::string ConditionGenerator::Number(int depth) {
  if (depth <= 0) {
    return OneIn(4) ? NumberLiteral(Below(12))
                    : PathText(PickPath(JsonKind::kNumber));
  }
  const std::string a = Number(depth - 1);
  switch (Below(16)) {
    case 0:
    case 1: {
      static constexpr absl::string_view kOps[] = {" + ", " - ", " * ", " / ",
                                                   " % "};
      std::string text =
          absl::StrCat(a, choices_.Pick(kOps), Number(depth - 1));
      if (OneIn(3)) {
        absl::StrAppend(&text, choices_.Pick(kOps), Number(0));
      }
      return Parenthesized(text);
    }
    case 2:
      return absl::StrCat(OneIn(2) ? "- " : "+", a);
    case 3:
      return absl::StrCat("-(-", a, ")");
    case 4:
      return absl::StrCat("ABS(", a, ")");
    case 5:
      return absl::StrCat("EXP(", a, ")");
    case 6:
      return absl::StrCat("POWER(", a, ", ", Number(0), ")");
    case 7:
      return absl::StrCat("SQUARE(", a, ")");
    case 8:
      return absl::StrCat("CEILING(", a, ")");
    case 9:
      return absl::StrCat("FLOOR(", a, ")");
    case 10:
      return absl::StrCat("SIGN(", a, ")");
    case 11:
      return absl::StrCat("SQRT(", a, ")");
    case 12:
      return absl::StrCat("AS_NUMBER(", String(depth - 1), ")");
    case 13:
      return absl::StrCat("INDEX_OF(", String(depth - 1), ", ", String(0), ")");
    case 14:
      return absl::StrCat("AS_NUMBER(", a, ")");
    default:
      return absl::StrCat("LENGTH(", String(depth - 1), ")");
  }
}

std::string ConditionGenerator::String(int depth) {
  if (depth <= 0) {
    const KnownPath& path = PickPath(JsonKind::kString);
    const JsonView value = choices_.Pick(path.values).view();
    if (OneIn(4) && value.is_string()) {
      return StringLiteral(Piece(value.string_value()));
    }
    return PathText(path);
  }
  const std::string a = String(depth - 1);
  switch (Below(6)) {
    case 0:
      return absl::StrCat("LOWER(", a, ")");
    case 1:
      return absl::StrCat("upper(", a, ")");
    case 2:
      return absl::StrCat("CONCAT(", a, ", ", String(0),
                          OneIn(3) ? ", 'x'" : "", ")");
    case 3:
      return absl::StrCat("SUBSTRING(", a, ", ", Below(6), ")");
    case 4:
      return absl::StrCat("SUBSTRING(", a, ", ", Below(6), ", ",
                          OneIn(8) ? Number(0) : absl::StrCat(Below(8)), ")");
    default:
      return a;
  }
}

std::string ConditionGenerator::Any(int depth) {
  switch (Below(8)) {
    case 0:
      return PathText(PickPath());
    case 1:
      return RandomConstant();
    case 2:
      return Number(depth);
    case 3:
      return String(depth);
    case 4:
      return ArrayLiteral(PickPath());
    case 5:
      return StrayPath();
    default:
      return Parenthesized(depth > 0 ? Boolean(depth - 1) : ComparePath());
  }
}

// ------------------------------------------------------------------- paths

const ConditionGenerator::KnownPath& ConditionGenerator::PickPath() {
  const uint32_t draw = Below(100);
  Group group = draw < 70   ? kUser
                : draw < 85 ? kRoot
                : draw < 92 ? kMeta
                            : kDate;
  while (groups_[group].empty()) {
    group = static_cast<Group>((group + 1) % kGroupCount);
  }
  const KnownPath* path = choices_.Pick(groups_[group]);
  // What few twins have is asked for less often.
  if (OneIn(2)) {
    const KnownPath* other = choices_.Pick(groups_[group]);
    if (other->seen > path->seen) path = other;
  }
  return *path;
}

const ConditionGenerator::KnownPath& ConditionGenerator::PickPath(
    JsonKind kind) {
  const KnownPath* path = &PickPath();
  for (int attempt = 0; attempt < 5; ++attempt) {
    if (choices_.Pick(path->values).view().kind() == kind) break;
    path = &PickPath();
  }
  return *path;
}

std::string ConditionGenerator::PathText(const KnownPath& path) {
  std::string text = OneIn(15) ? "devices." : "";
  const std::string& root = path.steps.front().name;
  // Names that the hub defines: whatever their case.
  size_t fixed = 1;
  if (root == "properties") fixed = 2;
  if (root == "capabilities" || root == "x509Thumbprint") {
    fixed = path.steps.size();
  }
  const uint32_t letters = OneIn(6) ? Below(3) : 3;
  for (size_t i = 0; i < path.steps.size(); ++i) {
    const Step& step = path.steps[i];
    if (step.index >= 0) {
      // Rarely another element, or none.
      absl::StrAppend(&text, "[", step.index + (OneIn(10) ? Below(5) : 0), "]");
      continue;
    }
    std::string name = step.name;
    if (i < fixed) {
      if (letters == 0) absl::AsciiStrToLower(&name);
      if (letters == 1) absl::AsciiStrToUpper(&name);
      absl::StrAppend(&text, i > 0 ? "." : "", name);
    } else if (absl::StrContains(name, "]]") || absl::EndsWith(name, "]") ||
               OneIn(10)) {
      absl::StrAppend(&text, "[", StringLiteral(name), "]");
    } else if (!IsPlainName(name) || OneIn(20)) {
      absl::StrAppend(&text, ".[[", name, "]]");
    } else {
      absl::StrAppend(&text, ".", name);
    }
  }
  return text;
}

std::string ConditionGenerator::StrayPath() {
  if (OneIn(6)) return "nope";
  const std::string text = PathText(PickPath());
  switch (Below(4)) {
    case 0:
      return absl::StrCat(text, ".nope");
    case 1:
      return absl::StrCat(text, "[", Below(4), "]");
    case 2:
      return absl::StrCat(text, ".a");
    default:
      return "tags.nope.deeper.still";
  }
}

// --------------------------------------------------------------- constants

const char* ConditionGenerator::CompareOperator() {
  static constexpr const char* kOperators[] = {
      "=", "<", "!=", ">=", "<=", ">", "=", "<>"};
  return choices_.Pick(kOperators);
}

std::string ConditionGenerator::NumberLiteral(double value) {
  if (value >= 0 && value <= 9'007'199'254'740'992 &&
      value == std::floor(value) && !std::signbit(value) && OneIn(12)) {
    return absl::StrFormat("0x%x", static_cast<uint64_t>(value));
  }
  if (OneIn(12)) return absl::StrFormat("%.17e", value);
  std::string text;
  AppendDecimal(value, &text);
  return text;
}

std::string ConditionGenerator::StringLiteral(absl::string_view value) {
  const char quote = OneIn(4) ? '"' : '\'';
  std::string text(1, quote);
  while (!value.empty()) {
    char32_t code_point = 0;
    const int length = DecodeUtf8(value, &code_point);
    MUSTER_CHECK(length > 0);
    if (code_point == static_cast<unsigned char>(quote) || code_point == '\\') {
      text += '\\';
      text += static_cast<char>(code_point);
    } else if (code_point < 0x20 || (code_point < 0xD800 && OneIn(200))) {
      absl::StrAppendFormat(&text, "\\u%04x",
                            static_cast<uint32_t>(code_point));
    } else {
      absl::StrAppend(&text, value.substr(0, static_cast<size_t>(length)));
    }
    value.remove_prefix(static_cast<size_t>(length));
  }
  return text + quote;
}

std::string ConditionGenerator::Literal(JsonView value) {
  return Beside(Value::FromJson(value));
}

std::string ConditionGenerator::Beside(const Value& value) {
  switch (value.kind()) {
    case JsonKind::kNull:
      return OneIn(4) ? "null" : "NULL";
    case JsonKind::kBool:
      return value.is_true() != OneIn(5) ? "true" : "FALSE";
    case JsonKind::kNumber: {
      double number = value.number_value();
      switch (Below(14)) {
        case 0:
        case 1:
        case 2:
        case 3:
        case 4:
          break;
        case 5:
          number += 1;
          break;
        case 6:
          number -= 1;
          break;
        case 7:
          number = std::nextafter(number, HUGE_VAL);
          break;
        case 8:
          number = std::nextafter(number, -HUGE_VAL);
          break;
        case 9:
          number += 0.5;
          break;
        case 10:
          number = -number;
          break;
        case 11:
          number = std::floor(number);
          break;
        case 12:
          number += 0.05;
          break;
        default:
          number *= 256;
      }
      if (!std::isfinite(number)) number = value.number_value();
      return NumberLiteral(number);
    }
    case JsonKind::kString: {
      absl::string_view text = value.string_value();
      // Long ones fill a condition: whole only now and then.
      if (text.size() > 200 && !OneIn(4)) {
        text = text.substr(0, Utf8Offset(text, 20 + Below(40)));
      }
      std::string changed(text);
      switch (Below(16)) {
        case 0:
          changed = std::string(text.substr(
              0, Utf8Offset(text, Below(1 + static_cast<uint32_t>(
                                                Utf8Length(text))))));
          break;
        case 1:
          changed += OneIn(2) ? "a" : " ";
          break;
        case 2:
          changed += std::string(1, '\0');
          break;
        case 3:
          absl::AsciiStrToUpper(&changed);
          break;
        case 4:
        case 5:
          // The last character one up or down, if that is ASCII.
          if (!changed.empty() && changed.back() > ' ' &&
              changed.back() < '~') {
            changed.back() += OneIn(2) ? 1 : -1;
          }
          break;
        case 6:
          // One that is no other's in a pattern: 7 instead of 07.
          if (!changed.empty() && changed[0] == '0') changed.erase(0, 1);
          break;
        default:
          break;
      }
      return StringLiteral(changed);
    }
    default:
      return OneIn(2) ? "UNDEFINED" : "NULL";
  }
}

std::string ConditionGenerator::ConstantFor(const KnownPath& path) {
  if (OneIn(15)) return RandomConstant();
  if (OneIn(15)) return Literal(choices_.Pick(PickPath().values).view());
  const JsonView value = choices_.Pick(path.values).view();
  return value.is_array() || value.is_object() ? RandomConstant()
                                               : Literal(value);
}

std::string ConditionGenerator::RandomConstant() {
  static constexpr absl::string_view kConstants[] = {
      "'a'",  "0",     "1",         "TRUE",   "NULL",     "''",     "-0",
      "25",   "25.0",  "0.1",       "-1.5",   "1e300",    "-1e300", "5e-324",
      "0x10", "false", "undefined", "'emea'", "'dev-0'",  "\"é\"",  "1e16",
      "255",  "256",   "65536",     "-1",     "'000042'", "'SN'",   "2.5e-9",
  };
  return std::string(choices_.Pick(kConstants));
}

std::string ConditionGenerator::ArrayLiteral(const KnownPath& path) {
  std::string text = "[";
  const uint32_t count = 1 + Below(OneIn(12) ? 60 : 4);
  for (uint32_t i = 0; i < count; ++i) {
    // An array constant knows no `+1`, and a hexadecimal number no `-`.
    absl::StrAppend(&text, i > 0 ? OneIn(2) ? "," : ", " : "",
                    OneIn(12) ? RandomConstant() : ConstantFor(path));
  }
  return text + "]";
}

std::string ConditionGenerator::Piece(absl::string_view text) {
  const uint32_t length = static_cast<uint32_t>(Utf8Length(text));
  text.remove_prefix(Utf8Offset(text, Below(length + 1)));
  return std::string(text.substr(0, Utf8Offset(text, 1 + Below(6))));
}

}  // namespace muster
