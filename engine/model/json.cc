#include "engine/model/json.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "simdjson.h"

namespace muster {
namespace {

using json_internal::kTagArray;
using json_internal::kTagDouble;
using json_internal::kTagFalse;
using json_internal::kTagInteger;
using json_internal::kTagNull;
using json_internal::kTagObject;
using json_internal::kTagString;
using json_internal::kTagTrue;

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

uint64_t ZigZag(int64_t v) {
  return (static_cast<uint64_t>(v) << 1) ^ static_cast<uint64_t>(v >> 63);
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

JsonView JsonView::Find(absl::string_view key) const {
  for (const Member& member : members()) {
    if (member.key == key) return member.value;
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

JsonView JsonView::Null() {
  static constexpr char kEncoded = kTagNull;
  return JsonView(&kEncoded);
}

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

namespace {

// Takes a varint of at most 64 bits from the front.
bool TakeVarint(absl::string_view* bytes, uint64_t* v) {
  *v = 0;
  for (int shift = 0; shift < 64 && !bytes->empty(); shift += 7) {
    const uint8_t byte = static_cast<uint8_t>(bytes->front());
    bytes->remove_prefix(1);
    *v |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte >= 0x80) continue;
    // As short as can be, and no more than 64 bits.
    return shift == 0 || (byte != 0 && (shift < 63 || byte == 1));
  }
  return false;
}

bool TakeString(absl::string_view* bytes, absl::string_view* text) {
  uint64_t size;
  if (!TakeVarint(bytes, &size) || size > bytes->size()) return false;
  *text = bytes->substr(0, size);
  bytes->remove_prefix(size);
  return simdjson::validate_utf8(text->data(), text->size());
}

bool TakeEncoded(absl::string_view* bytes, int depth_max) {
  if (bytes->empty()) return false;
  const char tag = bytes->front();
  bytes->remove_prefix(1);
  uint64_t number;
  absl::string_view text;
  switch (tag) {
    case kTagNull:
    case kTagFalse:
    case kTagTrue:
      return true;
    case kTagInteger:
      return TakeVarint(bytes, &number);
    case kTagDouble: {
      double value;
      if (bytes->size() < sizeof(value)) return false;
      std::memcpy(&value, bytes->data(), sizeof(value));
      bytes->remove_prefix(sizeof(value));
      return std::isfinite(value);
    }
    case kTagString:
      return TakeString(bytes, &text);
    case kTagArray:
    case kTagObject: {
      if (bytes->size() < sizeof(uint32_t) || depth_max <= 0) return false;
      const uint32_t size = json_internal::ReadSize(bytes->data());
      bytes->remove_prefix(sizeof(uint32_t));
      if (size > bytes->size()) return false;
      absl::string_view inside = bytes->substr(0, size);
      bytes->remove_prefix(size);
      absl::string_view last;
      for (bool first = true; !inside.empty(); first = false) {
        if (tag == kTagObject) {
          if (!TakeString(&inside, &text) || (!first && text <= last)) {
            return false;
          }
          last = text;
        }
        if (!TakeEncoded(&inside, depth_max - 1)) return false;
      }
      return true;
    }
    default:
      return false;
  }
}

}  // namespace

bool IsEncodedJson(absl::string_view bytes, int depth_max) {
  return TakeEncoded(&bytes, depth_max) && bytes.empty();
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
//
// Walks the parser's tape instead of its elements, each of which would look up
// the tape again (simdjson: doc/tape.md):
//
//   {"a":[1]}   r.. {>6 "0 [>5 l 1 ]. }. r..      >n: what comes behind
//
// A word has its type in the upper 8 bits.  The number of a container is the
// index behind it; a string's, where it stands in the string buffer, with its
// size in front.
class Encoder {
 public:
  // Makes room for what a text of `text_size` bytes can become, in `document`.
  // At worst 3 bytes make 9: "1e1" is a double.
  void Reset(const dom::document& document, size_t text_size) {
    tape_ = document.tape.get();
    strings_ = reinterpret_cast<const char*>(document.string_buf.get());
    const size_t capacity = 3 * text_size + kBlock;
    if (capacity > capacity_) {
      capacity_ = std::max(capacity, 2 * capacity_);
      buffer_ = std::make_unique_for_overwrite<char[]>(capacity_);
    }
    out_ = buffer_.get();
    duplicate_ = absl::string_view();
    has_duplicate_ = false;
  }

  // The encoded value.  Valid until Reset().
  JsonView Encode() {
    EncodeAt(1);  // Behind the root's word.
    return JsonView::FromEncoded(buffer_.get());
  }

  // Whether an object has a member twice, and its name.  Valid until the
  // document changes.
  bool has_duplicate() const { return has_duplicate_; }
  absl::string_view duplicate() const { return duplicate_; }

 private:
  // Strings are copied in blocks: nearly all are shorter than one, and a loop
  // or a call for each takes longer.  simdjson writes its buffer in such blocks
  // too, so that there is always one behind a string.
  static constexpr size_t kBlock = 32;
  static_assert(kBlock <= simdjson::SIMDJSON_PADDING);

  struct Entry {
    // The key's first 8 bytes, of which the first counts most; then zeros.
    uint64_t prefix;
    const char* key;
    uint32_t key_size;
    uint32_t value;  // Index on the tape.

    absl::string_view key_view() const { return {key, key_size}; }
    friend bool operator<(const Entry& a, const Entry& b) {
      return a.prefix != b.prefix ? a.prefix < b.prefix
                                  : a.key_view() < b.key_view();
    }
  };

  char TypeAt(size_t index) const {
    return static_cast<char>(tape_[index] >> 56);
  }
  uint32_t IndexBehind(size_t container) const {
    return static_cast<uint32_t>(tape_[container]);
  }
  // Where the string at `index` is.
  const char* StringAt(size_t index, uint32_t* size) const {
    const char* p = strings_ + (tape_[index] & ~uint64_t{0} >> 8);
    std::memcpy(size, p, sizeof(*size));
    return p + sizeof(*size);
  }

  void Put(char c) { *out_++ = c; }
  void PutVarint(uint64_t v) {
    while (v >= 0x80) {
      Put(static_cast<char>(v | 0x80));
      v >>= 7;
    }
    Put(static_cast<char>(v));
  }
  void PutString(const char* text, uint32_t size) {
    PutVarint(size);
    std::memcpy(out_, text, kBlock);
    if (size > kBlock) std::memcpy(out_, text, size);
    out_ += size;
  }
  // Leaves room for a size, and says where.
  char* Open(char tag) {
    Put(tag);
    out_ += sizeof(uint32_t);
    return out_;
  }
  void Close(char* first) {
    const uint32_t size = static_cast<uint32_t>(out_ - first);
    std::memcpy(first - sizeof(size), &size, sizeof(size));
  }

  // Returns the index behind the value.
  size_t EncodeAt(size_t index) {
    switch (TypeAt(index)) {
      case '{':
        return EncodeObject(index);
      case '[': {
        char* const first = Open(kTagArray);
        for (++index; TypeAt(index) != ']';) index = EncodeAt(index);
        Close(first);
        return index + 1;
      }
      case '"': {
        uint32_t size;
        const char* text = StringAt(index, &size);
        Put(kTagString);
        PutString(text, size);
        return index + 1;
      }
      case 'l':
        Put(kTagInteger);
        PutVarint(ZigZag(static_cast<int64_t>(tape_[index + 1])));
        return index + 2;
      case 'u': {
        const double value = static_cast<double>(tape_[index + 1]);
        Put(kTagDouble);
        std::memcpy(out_, &value, sizeof(value));
        out_ += sizeof(value);
        return index + 2;
      }
      case 'd':
        Put(kTagDouble);
        std::memcpy(out_, &tape_[index + 1], sizeof(double));
        out_ += sizeof(double);
        return index + 2;
      case 't':
        Put(kTagTrue);
        return index + 1;
      case 'f':
        Put(kTagFalse);
        return index + 1;
      case 'n':
        Put(kTagNull);
        return index + 1;
    }
    MUSTER_CHECK(false && "a tape that simdjson did not write");
  }

  // The index behind the value, which is not written.
  size_t SkipAt(size_t index) const {
    switch (TypeAt(index)) {
      case '{':
      case '[':
        return IndexBehind(index);
      case 'l':
      case 'u':
      case 'd':
        return index + 2;
      default:
        return index + 1;
    }
  }

  size_t EncodeObject(size_t object) {
    // One stack of entries for all levels: an object's are on top.
    const size_t first = entries_.size();
    bool sorted = true;
    for (size_t index = object + 1; TypeAt(index) != '}';) {
      Entry entry;
      entry.key = StringAt(index, &entry.key_size);
      entry.prefix = PrefixOf(entry.key, entry.key_size);
      entry.value = static_cast<uint32_t>(index + 1);
      sorted = sorted && (entries_.size() == first || entries_.back() < entry);
      entries_.push_back(entry);
      index = SkipAt(index + 1);
    }
    const size_t last = entries_.size();
    if (!sorted) SortFrom(first);
    char* const begin = Open(kTagObject);
    for (size_t i = first; i < last; ++i) {
      const Entry entry = entries_[i];  // entries_ may move.
      if (!sorted && i > first &&
          entry.key_view() == entries_[i - 1].key_view()) {
        has_duplicate_ = true;
        duplicate_ = entry.key_view();
      }
      PutString(entry.key, entry.key_size);
      EncodeAt(entry.value);
    }
    Close(begin);
    entries_.resize(first);
    return IndexBehind(object);
  }

  static uint64_t PrefixOf(const char* key, uint32_t size) {
    uint64_t prefix;
    std::memcpy(&prefix, key, sizeof(prefix));
    if constexpr (std::endian::native == std::endian::little) {
      prefix = __builtin_bswap64(prefix);
    }
    if (size >= sizeof(prefix)) return prefix;
    return size == 0 ? 0 : prefix & ~uint64_t{0} << (64 - 8 * size);
  }

  void SortFrom(size_t first) {
    const size_t last = entries_.size();
    constexpr size_t kFew = 24;
    if (last - first > kFew) {
      std::sort(entries_.begin() + static_cast<ptrdiff_t>(first),
                entries_.end());
      return;
    }
    for (size_t i = first + 1; i < last; ++i) {
      const Entry entry = entries_[i];
      size_t to = i;
      for (; to > first && entry < entries_[to - 1]; --to) {
        entries_[to] = entries_[to - 1];
      }
      entries_[to] = entry;
    }
  }

  const uint64_t* tape_ = nullptr;
  const char* strings_ = nullptr;
  std::unique_ptr<char[]> buffer_;
  size_t capacity_ = 0;
  char* out_ = nullptr;
  std::vector<Entry> entries_;
  absl::string_view duplicate_;
  bool has_duplicate_ = false;
};

}  // namespace

struct JsonParser::Impl {
  dom::parser parser;
  Encoder encoder;
};

JsonParser::JsonParser() : impl_(std::make_unique<Impl>()) {}
JsonParser::~JsonParser() = default;
JsonParser::JsonParser(JsonParser&&) noexcept = default;
JsonParser& JsonParser::operator=(JsonParser&&) noexcept = default;

absl::StatusOr<Json> JsonParser::Parse(absl::string_view text) {
  absl::StatusOr<JsonView> view = ParseView(text);
  if (!view.ok()) return view.status();
  return Json(*view);
}

absl::StatusOr<JsonView> JsonParser::ParseView(absl::string_view text) {
  dom::parser& parser = impl_->parser;
  if (parser.capacity() < text.size()) {
    const size_t capacity = std::max<size_t>(text.size(), 4096);
    // simdjson's limit is one above the deepest that it takes.
    if (auto error = parser.allocate(capacity, kJsonDepthMax + 1)) {
      return FormatError(text, error);
    }
  }
  if (auto error = parser.parse(text.data(), text.size()).error()) {
    return FormatError(text, error);
  }
  Encoder& encoder = impl_->encoder;
  encoder.Reset(parser.doc, text.size());
  const JsonView value = encoder.Encode();
  if (encoder.has_duplicate()) {
    return MakeError(ErrorCode::kIotHubFormatError,
                     absl::StrCat("the member \"", encoder.duplicate(),
                                  "\" occurs twice in one object"));
  }
  return value;
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
