// Value: what an expression evaluates to.
//
// Seven kinds (contract 5.6).  A Value is a reference, 24 bytes to be passed by
// value: its string, array or object lives in the row, in the parsed condition
// or in the Scratch that was given to the evaluation.
#ifndef ENGINE_QUERY_VALUE_H_
#define ENGINE_QUERY_VALUE_H_

#include <cstddef>
#include <forward_list>
#include <string>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/strings/string_view.h"
#include "engine/model/json.h"

namespace muster {

// Keeps what an evaluation had to make: strings that functions return.  Empty,
// it owns no memory; most conditions never put anything in.  Not thread-safe.
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // The kept text or JSON, valid until Clear() or destruction.
  absl::string_view Keep(std::string text) ABSL_ATTRIBUTE_LIFETIME_BOUND {
    strings_.push_front(std::move(text));
    return strings_.front();
  }
  JsonView Keep(Json json) ABSL_ATTRIBUTE_LIFETIME_BOUND {
    jsons_.push_front(std::move(json));
    return jsons_.front().view();
  }
  void Clear() {
    strings_.clear();
    jsons_.clear();
  }

 private:
  std::forward_list<std::string> strings_;
  std::forward_list<Json> jsons_;
};

class Value {
 public:
  Value() : number_(0) {}  // Undefined.
  static Value Null() { return Value(JsonKind::kNull); }
  static Value Bool(bool value);
  static Value Number(double value);
  static Value String(absl::string_view value);
  // Integers beyond 2^53 are rounded.
  static Value FromJson(JsonView json);

  JsonKind kind() const { return kind_; }
  bool is_undefined() const { return kind_ == JsonKind::kUndefined; }
  bool is_null() const { return kind_ == JsonKind::kNull; }
  bool is_bool() const { return kind_ == JsonKind::kBool; }
  bool is_number() const { return kind_ == JsonKind::kNumber; }
  bool is_string() const { return kind_ == JsonKind::kString; }
  bool is_array() const { return kind_ == JsonKind::kArray; }
  bool is_object() const { return kind_ == JsonKind::kObject; }
  // null, boolean, number or string: what comparisons are defined for.
  bool is_primitive() const {
    return is_null() || is_bool() || is_number() || is_string();
  }
  // The only value that selects a row.
  bool is_true() const { return is_bool() && bool_; }

  // REQUIRES: is_bool().
  bool bool_value() const { return bool_; }
  // REQUIRES: is_number().
  double number_value() const { return number_; }
  // REQUIRES: is_string().
  absl::string_view string_value() const { return {data_, size_}; }
  // REQUIRES: is_array() or is_object().
  JsonView json_value() const { return json_; }

  // JSON text, or "undefined"; for messages and tests.
  std::string DebugString() const;

 private:
  explicit Value(JsonKind kind) : kind_(kind), number_(0) {}

  JsonKind kind_ = JsonKind::kUndefined;
  bool bool_ = false;
  size_t size_ = 0;  // Of a string.
  union {
    double number_;
    const char* data_;
    JsonView json_;
  };
};

}  // namespace muster

#endif  // ENGINE_QUERY_VALUE_H_
