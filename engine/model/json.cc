#include "engine/model/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "simdjson.h"

namespace muster {
namespace {

enum Tag : char {
  kTagNull = 1,
  kTagFalse,
  kTagTrue,
  kTagInteger,
  kTagDouble,
  kTagString,
  kTagArray,
  kTagObject,
};

void AppendVarint(uint64_t v, std::string* out) {
  while (v >= 0x80) {
    out->push_back(static_cast<char>(v | 0x80));
    v >>= 7;
  }
  out->push_back(static_cast<char>(v));
}

char* PutVarint(uint64_t v, char* to) {
  while (v >= 0x80) {
    *to++ = static_cast<char>(v | 0x80);
    v >>= 7;
  }
  *to++ = static_cast<char>(v);
  return to;
}

uint64_t ReadVarint(const char** p) {
  uint64_t v = 0;
  for (int shift = 0;; shift += 7) {
    const uint8_t byte = static_cast<uint8_t>(*(*p)++);
    v |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return v;
  }
}

uint64_t ZigZag(int64_t v) {
  return (static_cast<uint64_t>(v) << 1) ^ static_cast<uint64_t>(v >> 63);
}
int64_t UnZigZag(uint64_t v) {
  return static_cast<int64_t>((v >> 1) ^ (~(v & 1) + 1));
}

uint32_t ReadSize(const char* p) {
  uint32_t size;
  std::memcpy(&size, p, sizeof(size));
  return size;
}

absl::string_view ReadString(const char** p) {
  const uint64_t size = ReadVarint(p);
  absl::string_view text(*p, size);
  *p += size;
  return text;
}

// The byte behind the value at `p`.
const char* Skip(const char* p) {
  switch (*p++) {
    case kTagInteger:
      ReadVarint(&p);
      return p;
    case kTagDouble:
      return p + sizeof(double);
    case kTagString:
      ReadString(&p);
      return p;
    case kTagArray:
    case kTagObject:
      return p + sizeof(uint32_t) + ReadSize(p);
    default:
      return p;
  }
}

}  // namespace

absl::string_view JsonKindName(JsonKind kind) {
  switch (kind) {
    case JsonKind::kUndefined:
      return "undefined";
    case JsonKind::kNull:
      return "null";
    case JsonKind::kBool:
      return "boolean";
    case JsonKind::kNumber:
      return "number";
    case JsonKind::kString:
      return "string";
    case JsonKind::kArray:
      return "array";
    case JsonKind::kObject:
      return "object";
  }
  MUSTER_CHECK(false && "unknown JsonKind");
}

// ---------------------------------------------------------------- JsonView

JsonKind JsonView::kind() const {
  if (p_ == nullptr) return JsonKind::kUndefined;
  switch (*p_) {
    case kTagNull:
      return JsonKind::kNull;
    case kTagFalse:
    case kTagTrue:
      return JsonKind::kBool;
    case kTagInteger:
    case kTagDouble:
      return JsonKind::kNumber;
    case kTagString:
      return JsonKind::kString;
    case kTagArray:
      return JsonKind::kArray;
    case kTagObject:
      return JsonKind::kObject;
  }
  MUSTER_CHECK(false && "bytes that JsonBuilder did not write");
}

bool JsonView::bool_value() const {
  MUSTER_DCHECK(is_bool());
  return *p_ == kTagTrue;
}

JsonView JsonView::Null() {
  static constexpr char kEncoded = kTagNull;
  return JsonView(&kEncoded);
}

bool JsonView::is_integer() const {
  return p_ != nullptr && *p_ == kTagInteger;
}

int64_t JsonView::int_value() const {
  MUSTER_DCHECK(is_integer());
  const char* p = p_ + 1;
  return UnZigZag(ReadVarint(&p));
}

double JsonView::number_value() const {
  MUSTER_DCHECK(is_number());
  if (*p_ == kTagInteger) return static_cast<double>(int_value());
  double value;
  std::memcpy(&value, p_ + 1, sizeof(value));
  return value;
}

absl::string_view JsonView::string_value() const {
  MUSTER_DCHECK(is_string());
  const char* p = p_ + 1;
  return ReadString(&p);
}

JsonView JsonView::Find(absl::string_view key) const {
  if (p_ == nullptr || *p_ != kTagObject) return JsonView();
  const char* p = p_ + 1;
  const char* end = p + sizeof(uint32_t) + ReadSize(p);
  p += sizeof(uint32_t);
  while (p != end) {
    if (ReadString(&p) == key) return JsonView(p);
    p = Skip(p);
  }
  return JsonView();
}

JsonView JsonView::At(int64_t index) const {
  if (index < 0) return JsonView();
  for (JsonView element : elements()) {
    if (index-- == 0) return element;
  }
  return JsonView();
}

JsonView::Range<JsonView::MemberIterator> JsonView::members() const {
  if (p_ == nullptr || *p_ != kTagObject) {
    return {MemberIterator(nullptr, nullptr), MemberIterator(nullptr, nullptr)};
  }
  const char* first = p_ + 1 + sizeof(uint32_t);
  const char* end = first + ReadSize(p_ + 1);
  return {MemberIterator(first, end), MemberIterator(end, end)};
}

JsonView::Range<JsonView::ElementIterator> JsonView::elements() const {
  if (p_ == nullptr || *p_ != kTagArray) {
    return {ElementIterator(nullptr), ElementIterator(nullptr)};
  }
  const char* first = p_ + 1 + sizeof(uint32_t);
  return {ElementIterator(first), ElementIterator(first + ReadSize(p_ + 1))};
}

absl::string_view JsonView::bytes() const {
  if (p_ == nullptr) return absl::string_view();
  return absl::string_view(p_, Skip(p_) - p_);
}

void JsonView::MemberIterator::Read() {
  if (p_ == end_) return;
  const char* p = p_;
  member_.key = ReadString(&p);
  member_.value = JsonView(p);
}

JsonView::MemberIterator& JsonView::MemberIterator::operator++() {
  p_ = Skip(member_.value.p_);
  Read();
  return *this;
}

JsonView::ElementIterator& JsonView::ElementIterator::operator++() {
  p_ = Skip(p_);
  return *this;
}

// -------------------------------------------------------------------- Json

Json Json::FromBytes(std::string bytes) {
  Json json;
  json.bytes_ = std::move(bytes);
  return json;
}

Json Json::EmptyObject() {
  std::string bytes;
  JsonBuilder builder(&bytes);
  builder.BeginObject();
  builder.EndObject();
  return FromBytes(std::move(bytes));
}

// ------------------------------------------------------------- JsonBuilder

void JsonBuilder::Null() { out_->push_back(kTagNull); }

void JsonBuilder::Bool(bool value) {
  out_->push_back(value ? kTagTrue : kTagFalse);
}

void JsonBuilder::Int(int64_t value) {
  out_->push_back(kTagInteger);
  AppendVarint(ZigZag(value), out_);
}

void JsonBuilder::Double(double value) {
  MUSTER_DCHECK(std::isfinite(value));
  out_->push_back(kTagDouble);
  char bytes[sizeof(value)];
  std::memcpy(bytes, &value, sizeof(value));
  out_->append(bytes, sizeof(value));
}

void JsonBuilder::String(absl::string_view value) {
  out_->push_back(kTagString);
  AppendVarint(value.size(), out_);
  out_->append(value.data(), value.size());
}

void JsonBuilder::Value(JsonView value) {
  MUSTER_DCHECK(!value.is_undefined());
  const absl::string_view bytes = value.bytes();
  out_->append(bytes.data(), bytes.size());
}

void JsonBuilder::BeginObject() {
  out_->push_back(kTagObject);
  open_.push_back(out_->size());
  out_->append(sizeof(uint32_t), '\0');
}

void JsonBuilder::Key(absl::string_view key) {
  AppendVarint(key.size(), out_);
  out_->append(key.data(), key.size());
}

void JsonBuilder::BeginArray() {
  out_->push_back(kTagArray);
  open_.push_back(out_->size());
  out_->append(sizeof(uint32_t), '\0');
}

void JsonBuilder::End() {
  MUSTER_DCHECK(!open_.empty());
  const size_t at = open_.back();
  open_.pop_back();
  const uint32_t size =
      static_cast<uint32_t>(out_->size() - at - sizeof(uint32_t));
  std::memcpy(&(*out_)[at], &size, sizeof(size));
}

char* EncodeJsonInteger(int64_t value, char* to) {
  *to++ = kTagInteger;
  return PutVarint(ZigZag(value), to);
}

char* EncodeJsonDouble(double value, char* to) {
  MUSTER_DCHECK(std::isfinite(value));
  *to++ = kTagDouble;
  std::memcpy(to, &value, sizeof(value));
  return to + sizeof(value);
}

char* EncodeJsonStringHead(size_t size, char* to) {
  *to++ = kTagString;
  return PutVarint(size, to);
}

// -------------------------------------------------------------- JsonParser

namespace {

namespace dom = simdjson::dom;

template <typename View>
absl::string_view AsView(const View& v) {
  return absl::string_view(v.data(), v.size());
}

std::string Position(absl::string_view text, size_t offset) {
  offset = std::min(offset, text.size());
  int line = 1;
  size_t line_start = 0;
  for (size_t i = 0; i < offset; ++i) {
    if (text[i] == '\n') {
      ++line;
      line_start = i + 1;
    }
  }
  int column = 1;
  for (size_t i = line_start; i < offset; ++i) {
    if ((text[i] & 0xC0) != 0x80) ++column;  // Code points, not bytes.
  }
  return absl::StrCat(line, ":", column);
}

// Reads everything below `value`, so that an error in it comes to light.
simdjson::error_code Visit(simdjson::ondemand::value value, int depth) {
  namespace od = simdjson::ondemand;
  if (depth > kJsonDepthMax) return simdjson::DEPTH_ERROR;
  od::json_type type;
  if (auto e = value.type().get(type)) return e;
  switch (type) {
    case od::json_type::object: {
      od::object object;
      if (auto e = value.get_object().get(object)) return e;
      for (auto field : object) {
        if (auto e = field.error()) return e;
        od::value inner;
        if (auto e = field.value().get(inner)) return e;
        if (auto e = Visit(inner, depth + 1)) return e;
      }
      return simdjson::SUCCESS;
    }
    case od::json_type::array: {
      od::array array;
      if (auto e = value.get_array().get(array)) return e;
      for (auto element : array) {
        od::value inner;
        if (auto e = element.get(inner)) return e;
        if (auto e = Visit(inner, depth + 1)) return e;
      }
      return simdjson::SUCCESS;
    }
    case od::json_type::number:
      return value.get_number().error();
    case od::json_type::string:
      return value.get_string().error();
    case od::json_type::boolean:
      return value.get_bool().error();
    case od::json_type::null:
      return value.is_null().error();
  }
  return simdjson::SUCCESS;
}

// Where in `text` the parser stumbles, as "line:column"; empty if a second,
// slower look cannot tell.  Only for messages.
std::string LocateError(absl::string_view text) {
  const simdjson::padded_string padded(text.data(), text.size());
  simdjson::ondemand::parser parser;
  simdjson::ondemand::document document;
  if (parser.iterate(padded).get(document)) return "";
  simdjson::ondemand::value value;
  if (document.get_value().get(value)) return "";
  if (!Visit(value, 1)) return "";
  const char* location = nullptr;
  if (document.current_location().get(location)) {
    return Position(text, text.size());
  }
  return Position(text, static_cast<size_t>(location - padded.data()));
}

absl::Status FormatError(absl::string_view text, simdjson::error_code error) {
  std::string what(simdjson::error_message(error));
  switch (error) {
    case simdjson::EMPTY:
      what = "the text is empty; a JSON value was expected";
      break;
    case simdjson::UTF8_ERROR:
      what = "the text is not valid UTF-8";
      break;
    case simdjson::DEPTH_ERROR:
      what = absl::StrCat("arrays and objects are nested more than ",
                          kJsonDepthMax, " deep");
      break;
    case simdjson::NUMBER_ERROR:
      what = "a number is malformed or out of range (integers have 64 bits)";
      break;
    case simdjson::UNCLOSED_STRING:
      what = "a string is not closed";
      break;
    case simdjson::TAPE_ERROR:
      what = "a comma, colon, bracket or value is missing or misplaced";
      break;
    default:
      break;
  }
  const std::string where = LocateError(text);
  return MakeError(ErrorCode::kIotHubFormatError,
                   absl::StrCat("not valid JSON", where.empty() ? "" : " at ",
                                where, ": ", what));
}

// Encodes a parsed value with its members in order.
class Encoder {
 public:
  explicit Encoder(std::string* out) : builder_(out) {}

  // The name of a member that an object has twice.
  const std::optional<std::string>& duplicate() const { return duplicate_; }

  void Encode(const dom::element& element) {
    // Each value is taken as what it says it is: nothing can go wrong.
    switch (element.type()) {
      case dom::element_type::ARRAY: {
        const dom::array array = element.get_array().value_unsafe();
        builder_.BeginArray();
        for (dom::element e : array) Encode(e);
        builder_.EndArray();
        return;
      }
      case dom::element_type::OBJECT:
        EncodeObject(element.get_object().value_unsafe());
        return;
      case dom::element_type::INT64:
        builder_.Int(element.get_int64().value_unsafe());
        return;
      case dom::element_type::UINT64:
        builder_.Double(
            static_cast<double>(element.get_uint64().value_unsafe()));
        return;
      case dom::element_type::DOUBLE:
        builder_.Double(element.get_double().value_unsafe());
        return;
      case dom::element_type::STRING:
        builder_.String(AsView(element.get_string().value_unsafe()));
        return;
      case dom::element_type::BOOL:
        builder_.Bool(element.get_bool().value_unsafe());
        return;
      case dom::element_type::NULL_VALUE:
        builder_.Null();
        return;
    }
  }

 private:
  struct Entry {
    absl::string_view key;
    dom::element value;
  };

  void EncodeObject(const dom::object& object) {
    // One stack of entries for all levels: an object's are on top.
    const size_t first = entries_.size();
    bool sorted = true;
    for (dom::key_value_pair field : object) {
      const absl::string_view key = AsView(field.key);
      sorted = sorted && (entries_.size() == first || entries_.back().key < key);
      entries_.push_back({key, field.value});
    }
    const size_t last = entries_.size();
    if (!sorted) {
      std::sort(entries_.begin() + first, entries_.begin() + last,
                [](const Entry& a, const Entry& b) { return a.key < b.key; });
    }
    builder_.BeginObject();
    for (size_t i = first; i < last; ++i) {
      if (i > first && entries_[i].key == entries_[i - 1].key) {
        duplicate_ = std::string(entries_[i].key);
      }
      builder_.Key(entries_[i].key);
      const dom::element value = entries_[i].value;  // entries_ may move.
      Encode(value);
    }
    builder_.EndObject();
    entries_.resize(first);
  }

  JsonBuilder builder_;
  std::vector<Entry> entries_;
  std::optional<std::string> duplicate_;
};

}  // namespace

struct JsonParser::Impl {
  dom::parser parser;
  std::string scratch;
};

JsonParser::JsonParser() : impl_(std::make_unique<Impl>()) {}
JsonParser::~JsonParser() = default;
JsonParser::JsonParser(JsonParser&&) noexcept = default;
JsonParser& JsonParser::operator=(JsonParser&&) noexcept = default;

absl::StatusOr<Json> JsonParser::Parse(absl::string_view text) {
  if (impl_->parser.capacity() < text.size()) {
    const size_t capacity = std::max<size_t>(text.size(), 4096);
    // simdjson's limit is one above the deepest that it takes.
    if (auto error = impl_->parser.allocate(capacity, kJsonDepthMax + 1)) {
      return FormatError(text, error);
    }
  }
  dom::element root;
  if (auto error = impl_->parser.parse(text.data(), text.size()).get(root)) {
    return FormatError(text, error);
  }
  impl_->scratch.clear();
  Encoder encoder(&impl_->scratch);
  encoder.Encode(root);
  if (encoder.duplicate().has_value()) {
    return MakeError(ErrorCode::kIotHubFormatError,
                     absl::StrCat("the member \"", *encoder.duplicate(),
                                  "\" occurs twice in one object"));
  }
  return Json::FromBytes(std::string(impl_->scratch));
}

absl::StatusOr<Json> ParseJson(absl::string_view text) {
  return JsonParser().Parse(text);
}

std::string RawJsonMember(absl::string_view text,
                          const std::vector<absl::string_view>& path) {
  namespace od = simdjson::ondemand;
  const simdjson::padded_string padded(text.data(), text.size());
  od::parser parser;
  od::document document;
  if (parser.iterate(padded).get(document)) return "";
  od::value value;
  if (document.get_value().get(value)) return "";
  for (absl::string_view key : path) {
    od::object object;
    if (value.get_object().get(object)) return "";
    if (object.find_field_unordered(std::string_view(key.data(), key.size()))
            .get(value)) {
      return "";
    }
  }
  od::json_type type;
  if (value.type().get(type)) return "";
  std::string_view raw;
  if (type == od::json_type::object) {
    od::object object;
    if (value.get_object().get(object)) return "";
    if (object.raw_json().get(raw)) return "";
  } else if (type == od::json_type::array) {
    od::array array;
    if (value.get_array().get(array)) return "";
    if (array.raw_json().get(raw)) return "";
  } else {
    raw = value.raw_json_token();
  }
  while (!raw.empty() && (raw.back() == ' ' || raw.back() == '\n' ||
                          raw.back() == '\r' || raw.back() == '\t')) {
    raw.remove_suffix(1);
  }
  return std::string(raw);
}

// ------------------------------------------------------------------ output

void AppendJsonString(absl::string_view text, std::string* out) {
  static constexpr char kHex[] = "0123456789abcdef";
  out->push_back('"');
  size_t plain = 0;  // Start of the run that needs no escape.
  for (size_t i = 0; i < text.size(); ++i) {
    const unsigned char c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c != '"' && c != '\\') continue;
    out->append(text.data() + plain, i - plain);
    plain = i + 1;
    switch (c) {
      case '"':
        out->append("\\\"");
        break;
      case '\\':
        out->append("\\\\");
        break;
      case '\n':
        out->append("\\n");
        break;
      case '\r':
        out->append("\\r");
        break;
      case '\t':
        out->append("\\t");
        break;
      default:
        out->append("\\u00");
        out->push_back(kHex[c >> 4]);
        out->push_back(kHex[c & 15]);
    }
  }
  out->append(text.data() + plain, text.size() - plain);
  out->push_back('"');
}

namespace {

void AppendDouble(double value, std::string* out) {
  char buffer[32];
  const std::to_chars_result end =
      std::to_chars(buffer, buffer + sizeof(buffer), value);
  const absl::string_view text(buffer, end.ptr - buffer);
  out->append(text.data(), text.size());
  // "300" would read back as an integer.
  if (text.find_first_of(".e") == absl::string_view::npos) out->append(".0");
}

}  // namespace

void AppendJson(JsonView value, std::string* out) {
  switch (value.kind()) {
    case JsonKind::kUndefined:
      MUSTER_CHECK(false && "undefined has no text");
    case JsonKind::kNull:
      out->append("null");
      return;
    case JsonKind::kBool:
      out->append(value.bool_value() ? "true" : "false");
      return;
    case JsonKind::kNumber:
      if (value.is_integer()) {
        absl::StrAppend(out, value.int_value());
      } else {
        AppendDouble(value.number_value(), out);
      }
      return;
    case JsonKind::kString:
      AppendJsonString(value.string_value(), out);
      return;
    case JsonKind::kArray: {
      out->push_back('[');
      bool comma = false;
      for (JsonView element : value.elements()) {
        if (comma) out->push_back(',');
        comma = true;
        AppendJson(element, out);
      }
      out->push_back(']');
      return;
    }
    case JsonKind::kObject: {
      out->push_back('{');
      bool comma = false;
      for (const JsonView::Member& member : value.members()) {
        if (comma) out->push_back(',');
        comma = true;
        AppendJsonString(member.key, out);
        out->push_back(':');
        AppendJson(member.value, out);
      }
      out->push_back('}');
      return;
    }
  }
}

std::string JsonText(JsonView value) {
  std::string text;
  AppendJson(value, &text);
  return text;
}

// -------------------------------------------------------------- JsonWriter

void JsonWriter::Separate() {
  if (need_comma_) out_->push_back(',');
  need_comma_ = true;
}

JsonWriter& JsonWriter::Open(char c) {
  Separate();
  out_->push_back(c);
  need_comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::Close(char c) {
  out_->push_back(c);
  need_comma_ = true;
  return *this;
}

JsonWriter& JsonWriter::Key(absl::string_view key) {
  Separate();
  AppendJsonString(key, out_);
  out_->push_back(':');
  need_comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::String(absl::string_view value) {
  Separate();
  AppendJsonString(value, out_);
  return *this;
}

JsonWriter& JsonWriter::Int(int64_t value) {
  Separate();
  absl::StrAppend(out_, value);
  return *this;
}

JsonWriter& JsonWriter::Double(double value) {
  Separate();
  AppendDouble(value, out_);
  return *this;
}

JsonWriter& JsonWriter::Bool(bool value) {
  Separate();
  out_->append(value ? "true" : "false");
  return *this;
}

JsonWriter& JsonWriter::Null() {
  Separate();
  out_->append("null");
  return *this;
}

JsonWriter& JsonWriter::Raw(absl::string_view json) {
  Separate();
  out_->append(json.data(), json.size());
  return *this;
}

JsonWriter& JsonWriter::Value(JsonView value) {
  Separate();
  AppendJson(value, out_);
  return *this;
}

}  // namespace muster
