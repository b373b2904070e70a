// Json: an immutable JSON value in one compact run of bytes.
//
// The engine keeps millions of twin documents.  A tree of nodes would cost ten
// times the text; here a value is encoded once, depth first, and read in place:
//
//   value   = tag:8, then by tag
//     null, false, true   nothing
//     integer             zigzag varint of an int64
//     double              8 bytes, little endian
//     string              varint length, UTF-8
//     array               u32 size of what follows, values
//     object              u32 size of what follows, (varint length, key, value)*
//
// Members stand in ascending order of their keys' bytes, which for UTF-8 is the
// order of code points: the canonical order in which documents are written, and
// what lets a merge walk two objects side by side.
#ifndef ENGINE_MODEL_JSON_H_
#define ENGINE_MODEL_JSON_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/attributes.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

// Nested arrays and objects that a parsed text may have.
inline constexpr int kJsonDepthMax = 256;

enum class JsonKind : uint8_t {
  kUndefined,  // No value at all: a missing member.
  kNull,
  kBool,
  kNumber,
  kString,
  kArray,
  kObject,
};

// "undefined", "null", "boolean", "number", "string", "array", "object".
absl::string_view JsonKindName(JsonKind kind);

// A value inside somebody else's bytes; a pointer, to be passed by value.
// Valid as long as the Json (or buffer) it came from.  Thread-safe to read.
class JsonView {
 public:
  struct Member;
  class MemberIterator;
  class ElementIterator;
  template <typename Iterator>
  struct Range {
    Iterator first, last;
    Iterator begin() const { return first; }
    Iterator end() const { return last; }
  };

  JsonView() = default;  // Undefined.

  // REQUIRES: `encoded` points to a value written by JsonBuilder.
  static JsonView FromEncoded(const char* encoded) { return JsonView(encoded); }

  // `null`; valid for ever.
  static JsonView Null();

  JsonKind kind() const;
  bool is_undefined() const { return p_ == nullptr; }
  bool is_null() const { return kind() == JsonKind::kNull; }
  bool is_bool() const { return kind() == JsonKind::kBool; }
  bool is_number() const { return kind() == JsonKind::kNumber; }
  bool is_string() const { return kind() == JsonKind::kString; }
  bool is_array() const { return kind() == JsonKind::kArray; }
  bool is_object() const { return kind() == JsonKind::kObject; }

  // REQUIRES: is_bool().
  bool bool_value() const;
  // True for a number written without fraction and exponent that fits int64_t.
  bool is_integer() const;
  // REQUIRES: is_integer().
  int64_t int_value() const;
  // REQUIRES: is_number().  Integers beyond 2^53 are rounded.
  double number_value() const;
  // REQUIRES: is_string().
  absl::string_view string_value() const;

  // The member `key`; undefined if there is none or this is no object.  Walks
  // the members: O(members), without looking into their values.
  JsonView Find(absl::string_view key) const;

  // The element at `index`, which may be anything; undefined if out of range
  // or if this is no array.  O(index).
  JsonView At(int64_t index) const;

  // In ascending order of keys; empty if this is no object.
  Range<MemberIterator> members() const;
  // Empty if this is no array.
  Range<ElementIterator> elements() const;

  // The encoded value, tag included; empty for undefined.  Two values with the
  // same bytes are equal.
  absl::string_view bytes() const;

 private:
  friend class MemberIterator;
  friend class ElementIterator;
  explicit JsonView(const char* p) : p_(p) {}

  const char* p_ = nullptr;
};

struct JsonView::Member {
  absl::string_view key;
  JsonView value;
};

class JsonView::MemberIterator {
 public:
  MemberIterator(const char* p, const char* end) : p_(p), end_(end) { Read(); }
  const Member& operator*() const { return member_; }
  const Member* operator->() const { return &member_; }
  MemberIterator& operator++();
  bool operator==(const MemberIterator& o) const { return p_ == o.p_; }
  bool operator!=(const MemberIterator& o) const { return p_ != o.p_; }

 private:
  void Read();
  const char* p_;
  const char* end_;
  Member member_;
};

class JsonView::ElementIterator {
 public:
  explicit ElementIterator(const char* p) : p_(p) {}
  JsonView operator*() const { return JsonView(p_); }
  ElementIterator& operator++();
  bool operator==(const ElementIterator& o) const { return p_ == o.p_; }
  bool operator!=(const ElementIterator& o) const { return p_ != o.p_; }

 private:
  const char* p_;
};

// Owns an encoded value.  Copying copies the bytes.
class Json {
 public:
  Json() = default;  // Undefined.
  explicit Json(JsonView view) : bytes_(view.bytes()) {}
  // REQUIRES: `bytes` is one value written by JsonBuilder, or empty.
  static Json FromBytes(std::string bytes);
  static Json EmptyObject();

  JsonView view() const ABSL_ATTRIBUTE_LIFETIME_BOUND {
    return bytes_.empty() ? JsonView()
                          : JsonView::FromEncoded(bytes_.data());
  }
  bool is_undefined() const { return bytes_.empty(); }
  const std::string& bytes() const { return bytes_; }

  friend bool operator==(const Json& a, const Json& b) {
    return a.bytes_ == b.bytes_;
  }

 private:
  std::string bytes_;
};

// Writes one value, depth first, to the end of a string.
//
//   std::string bytes;
//   JsonBuilder b(&bytes);
//   b.BeginObject();
//   b.Key("floor"); b.Int(3);
//   b.Key("region"); b.String("emea");   // Keys ascend; CHECKed in debug.
//   b.EndObject();
class JsonBuilder {
 public:
  // Appends to `*out`, which must outlive the builder and be left alone by
  // others meanwhile.
  explicit JsonBuilder(std::string* out) : out_(out) {}

  void Null();
  void Bool(bool value);
  void Int(int64_t value);
  // REQUIRES: finite.
  void Double(double value);
  void String(absl::string_view value);
  // A copy of `value`.  REQUIRES: not undefined.
  void Value(JsonView value);

  void BeginObject();
  void Key(absl::string_view key);
  void EndObject() { End(); }
  void BeginArray();
  void EndArray() { End(); }

 private:
  void End();

  std::string* out_;
  std::vector<size_t> open_;  // Offsets of the sizes still to be filled in.
};

// Single values in a buffer of the caller's, for views of what is stored in
// another form.  Each returns the byte behind what it wrote.
inline constexpr size_t kJsonNumberSizeMax = 11;  // Encoded.
char* EncodeJsonInteger(int64_t value, char* to);
// REQUIRES: finite.
char* EncodeJsonDouble(double value, char* to);
// What stands before a string's bytes.  At most 11 bytes; 2 for less than 128.
char* EncodeJsonStringHead(size_t size, char* to);

// Turns JSON text (RFC 8259, UTF-8) into Json.  Reusable: keeps its buffers, so
// that a parser per thread parses many texts without allocating for each.  Not
// thread-safe.  Speed: about 0.5 GB/s of text.
class JsonParser {
 public:
  JsonParser();
  ~JsonParser();
  JsonParser(JsonParser&&) noexcept;
  JsonParser& operator=(JsonParser&&) noexcept;

  // IotHubFormatError (INVALID_ARGUMENT) with line and column if `text` is no
  // JSON, is deeper than kJsonDepthMax, names a member twice in one object
  // (the message says which), or has a number beyond the range of a double.
  absl::StatusOr<Json> Parse(absl::string_view text);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Parses with a parser of its own: for single texts.
absl::StatusOr<Json> ParseJson(absl::string_view text);

// The text of the member at `path` (object member names from the root) exactly
// as it stands in `text`, without surrounding white space; empty if there is no
// such member.  For payloads that travel as the caller wrote them.
// REQUIRES: `text` was parsed successfully.
std::string RawJsonMember(absl::string_view text,
                          const std::vector<absl::string_view>& path);

// Appends the value as compact JSON text: canonical member order, shortest
// numbers that read back as the same value.  REQUIRES: not undefined.
void AppendJson(JsonView value, std::string* out);
std::string JsonText(JsonView value);

// Appends `text` as a JSON string with its quotes.  REQUIRES: valid UTF-8.
void AppendJsonString(absl::string_view text, std::string* out);

// Writes JSON text member by member, in the order of the calls: for documents
// whose members have a customary order of their own.  Appends to `*out`.
class JsonWriter {
 public:
  explicit JsonWriter(std::string* out) : out_(out) {}

  JsonWriter& BeginObject() { return Open('{'); }
  JsonWriter& EndObject() { return Close('}'); }
  JsonWriter& BeginArray() { return Open('['); }
  JsonWriter& EndArray() { return Close(']'); }
  JsonWriter& Key(absl::string_view key);
  JsonWriter& String(absl::string_view value);
  JsonWriter& Int(int64_t value);
  JsonWriter& Double(double value);
  JsonWriter& Bool(bool value);
  JsonWriter& Null();
  // REQUIRES: `json` is JSON text; it is copied as it stands.
  JsonWriter& Raw(absl::string_view json);
  JsonWriter& Value(JsonView value);

 private:
  void Separate();
  JsonWriter& Open(char c);
  JsonWriter& Close(char c);

  std::string* out_;
  bool need_comma_ = false;
};

}  // namespace muster

#endif  // ENGINE_MODEL_JSON_H_
