#include "engine/query/value.h"

#include <cmath>

#include "absl/strings/str_cat.h"

namespace muster {

Value Value::Bool(bool value) {
  Value out(JsonKind::kBool);
  out.bool_ = value;
  return out;
}

Value Value::Number(double value) {
  Value out(JsonKind::kNumber);
  out.number_ = value;
  return out;
}

Value Value::String(absl::string_view value) {
  Value out(JsonKind::kString);
  out.data_ = value.data();
  out.size_ = value.size();
  return out;
}

Value Value::FromJson(JsonView json) {
  switch (json.kind()) {
    case JsonKind::kUndefined:
    case JsonKind::kNull:
      return Value(json.kind());
    case JsonKind::kBool:
      return Bool(json.bool_value());
    case JsonKind::kNumber:
      return Number(json.number_value());
    case JsonKind::kString:
      return String(json.string_value());
    case JsonKind::kArray:
    case JsonKind::kObject:
      break;
  }
  Value out(json.kind());
  out.json_ = json;
  return out;
}

std::string Value::DebugString() const {
  switch (kind_) {
    case JsonKind::kUndefined:
      return "undefined";
    case JsonKind::kNull:
      return "null";
    case JsonKind::kBool:
      return bool_ ? "true" : "false";
    case JsonKind::kNumber:
      return absl::StrCat(number_);
    case JsonKind::kString: {
      std::string out;
      AppendJsonString(string_value(), &out);
      return out;
    }
    case JsonKind::kArray:
    case JsonKind::kObject:
      break;
  }
  return JsonText(json_);
}

}  // namespace muster
