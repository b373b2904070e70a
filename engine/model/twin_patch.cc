#include "engine/model/twin_patch.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/model/error.h"
#include "engine/model/limits.h"

namespace muster {
namespace {

constexpr absl::string_view kVersion = "$version";
constexpr absl::string_view kMetadata = "$metadata";

// Where a walk is, linked from the inside out: it costs nothing until an error
// wants its text.
struct Place {
  const Place* parent = nullptr;
  absl::string_view name;  // A member's, or ...
  int64_t index = -1;      // ... an element's.

  void AppendTo(std::string* out) const {
    if (parent != nullptr) parent->AppendTo(out);
    if (index >= 0) {
      absl::StrAppend(out, "[", index, "]");
    } else {
      absl::StrAppend(out, out->empty() ? "" : ".", name);
    }
  }
};

// For messages: printable, and short whatever was sent.
std::string Shown(absl::string_view text) {
  constexpr size_t kShownMax = 64;
  size_t size = std::min(text.size(), kShownMax);
  // Not in the middle of a character.
  while (size > 0 && size < text.size() && (text[size] & 0xC0) == 0x80) --size;
  return absl::StrCat("\"", absl::Utf8SafeCHexEscape(text.substr(0, size)),
                      size < text.size() ? "..." : "", "\"");
}

absl::Status Fault(ErrorCode code, const Place& place, absl::string_view what) {
  std::string path;
  place.AppendTo(&path);
  // A name may hold anything, and be 1 KB long ten times over.
  constexpr size_t kPathShownMax = 512;
  if (path.size() > kPathShownMax) {
    size_t size = kPathShownMax;
    while ((path[size] & 0xC0) == 0x80) --size;
    path.resize(size);
    path += "...";
  }
  return MakeError(code,
                   absl::StrCat(absl::Utf8SafeCHexEscape(path), ": ", what));
}

absl::Status Invalid(const Place& place, absl::string_view what) {
  return Fault(ErrorCode::kArgumentInvalid, place, what);
}

// ------------------------------------------------------------------- names

using ByteSet = std::array<bool, 256>;

constexpr ByteSet MakeByteSet(const char* punctuation) {
  ByteSet set{};
  for (int c = '0'; c <= '9'; ++c) set[c] = true;
  for (int c = 'A'; c <= 'Z'; ++c) set[c] = true;
  for (int c = 'a'; c <= 'z'; ++c) set[c] = true;
  for (const char* p = punctuation; *p != '\0'; ++p) {
    set[static_cast<unsigned char>(*p)] = true;
  }
  return set;
}

// Contract 1.7, less '.', which no twin key may have.
constexpr char kJobNamePunctuation[] = "!#%&'*+-^_`|~";
constexpr ByteSet kJobNameBytes = MakeByteSet(kJobNamePunctuation);
// Contract 6.1.
constexpr char kDeviceIdPunctuation[] = "-:.+%_#*?!(),=@;$'";
constexpr ByteSet kDeviceIdBytes = MakeByteSet(kDeviceIdPunctuation);

constexpr uint64_t kEachByte = 0x0101010101010101;
constexpr uint64_t kUpperBits = kEachByte * 0x80;

bool IsControlByte(unsigned char c) { return c < 0x20 || c == 0x7f; }

// U+0080 to U+009F: two bytes in UTF-8.
bool IsWideControl(absl::string_view text, size_t i) {
  return static_cast<unsigned char>(text[i]) == 0xC2 && i + 1 < text.size() &&
         static_cast<unsigned char>(text[i + 1]) < 0xA0;
}

// Whether is_special() holds for the bytes of `text`, eight at a time.
//
// is_special(word) has the upper bit set in each special byte of `word`; it may
// be set in others too, if there is a special one below.  (H. S. Warren,
// "Hacker's Delight", 6-1.)
template <typename IsSpecial>
bool HasSpecialByte(absl::string_view text, IsSpecial is_special) {
  const char* p = text.data();
  uint64_t word;
  if (text.size() >= sizeof(word)) {
    uint64_t found = 0;
    const char* const last = p + text.size() - sizeof(word);
    for (; p < last; p += sizeof(word)) {
      std::memcpy(&word, p, sizeof(word));
      found |= is_special(word);
    }
    std::memcpy(&word, last, sizeof(word));  // May see some bytes twice.
    found |= is_special(word);
    return (found & kUpperBits) != 0;
  }
  // A short text, with some bytes twice or thrice, in any order.
  if (text.size() >= sizeof(uint32_t)) {
    uint32_t first, last;
    std::memcpy(&first, p, sizeof(first));
    std::memcpy(&last, p + text.size() - sizeof(last), sizeof(last));
    word = uint64_t{first} << 32 | last;
  } else if (!text.empty()) {
    word = kEachByte * static_cast<unsigned char>(p[0]);
    word = word << 8 | static_cast<unsigned char>(p[text.size() / 2]);
    word = word << 8 | static_cast<unsigned char>(p[text.size() - 1]);
  } else {
    return false;
  }
  return (is_special(word) & kUpperBits) != 0;
}

uint64_t BytesBelow(uint64_t word, unsigned char limit) {
  return (word - kEachByte * limit) & ~word;
}
uint64_t BytesWith(uint64_t word, unsigned char value) {
  return BytesBelow(word ^ kEachByte * value, 1);
}

// Whether there may be a control character in `text`.
bool MayHaveControls(absl::string_view text) {
  return HasSpecialByte(text, [](uint64_t word) {
    return BytesBelow(word, 0x20) | BytesWith(word, 0x7f) |
           BytesWith(word, 0xC2);
  });
}

// Whether there may be a character in `name` that no name has.
bool MayBeBadName(absl::string_view name) {
  return HasSpecialByte(name, [](uint64_t word) {
    return BytesBelow(word, 0x21) | BytesWith(word, 0x7f) |
           BytesWith(word, 0xC2) | BytesWith(word, '.') | BytesWith(word, '$');
  });
}

// All rules, one character after the other.
ABSL_ATTRIBUTE_NOINLINE absl::Status CheckEachCharacter(absl::string_view name,
                                                        PatchOrigin origin,
                                                        const Place& place) {
  if (name.empty()) return Invalid(place, "a name must not be empty");
  if (name.size() > kTwinKeySizeMax) {
    return Invalid(place, absl::StrCat("the name ", Shown(name), " has ",
                                       name.size(), " bytes; at most ",
                                       kTwinKeySizeMax, " are allowed"));
  }
  for (size_t i = 0; i < name.size(); ++i) {
    const unsigned char c = static_cast<unsigned char>(name[i]);
    if (IsControlByte(c) || c == '.' || c == '$' || c == ' ' ||
        IsWideControl(name, i)) {
      return Invalid(place,
                     absl::StrCat("the name ", Shown(name),
                                  " is not allowed; names have no '.', no '$', "
                                  "no space and no control character"));
    }
    if (origin == PatchOrigin::kJob && !kJobNameBytes[c]) {
      return Invalid(place,
                     absl::StrCat("the name ", Shown(name),
                                  " is not allowed in a job; there names have "
                                  "ASCII letters, digits and ",
                                  kJobNamePunctuation, " only"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckName(absl::string_view name, PatchOrigin origin,
                       const Place& place) {
  if (origin != PatchOrigin::kJob && !name.empty() &&
      name.size() <= kTwinKeySizeMax && !MayBeBadName(name)) {
    return absl::OkStatus();
  }
  return CheckEachCharacter(name, origin, place);
}

// ------------------------------------------------------------------ values

size_t SizeWithoutControls(absl::string_view text) {
  size_t size = text.size();
  for (size_t i = 0; i < text.size(); ++i) {
    if (IsControlByte(static_cast<unsigned char>(text[i]))) {
      --size;
    } else if (IsWideControl(text, i)) {
      size -= 2;
      ++i;
    }
  }
  return size;
}

// Bytes that count towards a section's size: all but control characters'.
size_t TextSize(absl::string_view text) {
  return MayHaveControls(text) ? SizeWithoutControls(text) : text.size();
}

// Contract 6.3.
constexpr size_t kBoolSize = 4;
constexpr size_t kNumberSize = 8;

size_t ValueSize(JsonView value, bool in_array) {
  switch (value.kind()) {
    case JsonKind::kUndefined:
    case JsonKind::kNull:
      return 0;
    case JsonKind::kBool:
      return kBoolSize;
    case JsonKind::kNumber:
      return kNumberSize;
    case JsonKind::kString:
      return TextSize(value.string_value());
    case JsonKind::kArray: {
      size_t size = 0;
      for (JsonView element : value.elements()) {
        size += ValueSize(element, /*in_array=*/true);
      }
      return size;
    }
    case JsonKind::kObject: {
      size_t size = 0;
      for (const JsonView::Member& member : value.members()) {
        // Outside of arrays null stands for no member, so its name counts
        // neither: it takes no room in any twin.
        if (member.value.is_null() && !in_array) continue;
        size += TextSize(member.key) + ValueSize(member.value, in_array);
      }
      return size;
    }
  }
  return 0;
}

bool IsOutOfIntegerRange(JsonView number) {
  if (number.is_integer()) {
    const int64_t value = number.int_value();
    return value < kTwinIntegerMin || value > kTwinIntegerMax;
  }
  // Integers from 2^63 to 2^64 come out of the parser as doubles, in which they
  // look like 1e19.  Nobody measures that; an integer gone wrong does.
  const double value = number.number_value();
  return value >= 0x1p63 && value <= 0x1p64;
}

absl::Status CheckMember(const JsonView::Member& member, int level,
                         bool in_array, PatchOrigin origin, const Place& place,
                         size_t* size);

// Not inlined, for the sake of those whose values are in order.
ABSL_ATTRIBUTE_NOINLINE absl::Status OutOfIntegerRange(JsonView number,
                                                       const Place& place) {
  return Invalid(place,
                 absl::StrCat("the integer ", JsonText(number),
                              " is out of range; integers are in [",
                              kTwinIntegerMin, ", ", kTwinIntegerMax, "]"));
}

ABSL_ATTRIBUTE_NOINLINE absl::Status TooLong(absl::string_view text,
                                             const Place& place) {
  return Invalid(place, absl::StrCat("the string ", Shown(text), " has ",
                                     text.size(), " bytes; at most ",
                                     kTwinStringSizeMax, " are allowed"));
}

ABSL_ATTRIBUTE_NOINLINE absl::Status TooDeep(const Place& place) {
  return Invalid(place, absl::StrCat("more than ", kTwinDepthMax,
                                     " objects and arrays inside each other"));
}

// Checks everything below `value`, which stands `level` objects and arrays
// below its section (a member of the section: 1), and adds to `*size` what
// ValueSize() says.
absl::Status CheckValue(JsonView value, int level, bool in_array,
                        PatchOrigin origin, const Place& place, size_t* size) {
  switch (value.kind()) {
    case JsonKind::kUndefined:
    case JsonKind::kNull:
      return absl::OkStatus();
    case JsonKind::kBool:
      *size += kBoolSize;
      return absl::OkStatus();
    case JsonKind::kNumber:
      if (IsOutOfIntegerRange(value)) {
        return OutOfIntegerRange(value, place);
      }
      *size += kNumberSize;
      return absl::OkStatus();
    case JsonKind::kString: {
      const absl::string_view text = value.string_value();
      if (text.size() > kTwinStringSizeMax) {
        return TooLong(text, place);
      }
      *size += TextSize(text);
      return absl::OkStatus();
    }
    case JsonKind::kArray: {
      if (level > kTwinDepthMax) return TooDeep(place);
      if (!in_array && value.bytes().size() > kTwinArrayBytesMax) {
        return Fault(ErrorCode::kMessageTooLarge, place,
                     absl::StrCat("the array takes ", value.bytes().size(),
                                  " bytes; at most ", kTwinArrayBytesMax,
                                  " are allowed"));
      }
      Place inner{.parent = &place, .name = {}, .index = 0};
      for (JsonView element : value.elements()) {
        absl::Status status = CheckValue(element, level + 1, /*in_array=*/true,
                                         origin, inner, size);
        if (!status.ok()) return status;
        ++inner.index;
      }
      return absl::OkStatus();
    }
    case JsonKind::kObject: {
      if (level > kTwinDepthMax) return TooDeep(place);
      for (const JsonView::Member& member : value.members()) {
        absl::Status status =
            CheckMember(member, level + 1, in_array, origin,
                        Place{.parent = &place, .name = member.key}, size);
        if (!status.ok()) return status;
      }
      return absl::OkStatus();
    }
  }
  return absl::OkStatus();
}

// The same for a member, whose value stands at `level`.
absl::Status CheckMember(const JsonView::Member& member, int level,
                         bool in_array, PatchOrigin origin, const Place& place,
                         size_t* size) {
  absl::Status status = CheckName(member.key, origin, place);
  if (!status.ok()) return status;
  if (member.value.is_null() && !in_array) return status;
  // No name has control characters, so that every byte counts.
  *size += member.key.size();
  return CheckValue(member.value, level, in_array, origin, place, size);
}

absl::Status TooLarge(const Place& place, size_t size, size_t size_max) {
  return Fault(ErrorCode::kMessageTooLarge, place,
               absl::StrCat(size, " bytes of names and values; at most ",
                            size_max, " are allowed"));
}

// ---------------------------------------------------------------- sections

bool IsSystemName(absl::string_view name) {
  return !name.empty() && name[0] == '$';
}

std::string KindPhrase(JsonView value) {
  switch (value.kind()) {
    case JsonKind::kArray:
      return "an array";
    case JsonKind::kObject:
      return "an object";
    case JsonKind::kString:
      return absl::StrCat("the string ", Shown(value.string_value()));
    case JsonKind::kNumber:
    case JsonKind::kBool:
      return absl::StrCat("the ", JsonKindName(value.kind()), " ",
                          JsonText(value));
    default:
      return std::string(JsonKindName(value.kind()));
  }
}

// Reads `$version`; null counts as absent.
absl::Status ReadVersion(JsonView value, const Place& place,
                         std::optional<int64_t>* version) {
  if (value.is_null()) return absl::OkStatus();
  if (!value.is_integer() || value.int_value() < 1 ||
      value.int_value() > kTwinIntegerMax) {
    return Invalid(place, absl::StrCat("found ", KindPhrase(value),
                                       "; a version is an integer from 1 on, "
                                       "at most 2^52 - 1"));
  }
  *version = value.int_value();
  return absl::OkStatus();
}

// Reads one part of a patch: undefined, null or an object.
absl::Status ReadPart(JsonView part, PatchOrigin origin, bool may_have_version,
                      const Place& place, size_t size_max, TwinPartView* out) {
  out->value = part;
  if (part.is_undefined() || part.is_null()) return absl::OkStatus();
  if (!part.is_object()) {
    return Invalid(place, absl::StrCat("found ", KindPhrase(part),
                                       "; an object or null was expected"));
  }
  size_t size = 0;
  for (const JsonView::Member& member : part.members()) {
    const Place inner{.parent = &place, .name = member.key};
    absl::Status status;
    if (IsSystemName(member.key) && origin != PatchOrigin::kJob) {
      out->has_system_members = true;
      if (member.key == kVersion && may_have_version) {
        status = ReadVersion(member.value, inner, &out->version);
      } else if (member.key != kMetadata) {
        status = Invalid(
            inner, may_have_version
                       ? "names do not begin with '$', but for $version and "
                         "$metadata, which is ignored"
                       : "names do not begin with '$' (tags have no $version; "
                         "their guard is the etag)");
      }
    } else {
      out->has_members |= !member.value.is_null();
      status = CheckMember(member, /*level=*/1, /*in_array=*/false, origin,
                           inner, &size);
    }
    if (!status.ok()) return status;
  }
  out->size = size;
  if (size > size_max) return TooLarge(place, size, size_max);
  return absl::OkStatus();
}

// A copy without members that begin with '$'.
Json CopyPart(const TwinPartView& part) {
  if (!part.has_system_members) return Json(part.value);
  std::string bytes;
  bytes.reserve(part.value.bytes().size());
  JsonBuilder builder(&bytes);
  builder.BeginObject();
  for (const JsonView::Member& member : part.value.members()) {
    if (IsSystemName(member.key)) continue;
    builder.Key(member.key);
    builder.Value(member.value);
  }
  builder.EndObject();
  return Json::FromBytes(std::move(bytes));
}

// Members of a twin that a writer may send and that stay as they are.
bool IsReadOnlyRoot(absl::string_view name) {
  static constexpr absl::string_view kNames[] = {
      "authenticationType", "capabilities", "cloudToDeviceMessageCount",
      "connectionState",    "deviceEtag",   "deviceScope",
      "lastActivityTime",   "modelId",      "moduleId",
      "parentScopes",       "status",       "statusReason",
      "statusUpdateTime",   "version",      "x509Thumbprint",
  };
  return std::find(std::begin(kNames), std::end(kNames), name) !=
         std::end(kNames);
}

// Contract 1.5: what else than tags and properties an updateTwin may have.
absl::Status CheckJobMembers(JsonView document) {
  for (const JsonView::Member& member : document.members()) {
    const Place place{.name = member.key};
    if (member.key == "tags" || member.key == "properties") continue;
    if (member.key == "etag" || member.key == "deviceId") {
      if (member.value.is_null() || member.value.is_string()) continue;
      return Invalid(place, absl::StrCat("found ", KindPhrase(member.value),
                                         "; a string or null was expected"));
    }
    if (IsReadOnlyRoot(member.key)) continue;
    return Invalid(place,
                   "an updateTwin has no such member; it has tags, "
                   "properties.desired and etag");
  }
  for (const JsonView::Member& member : document.Find("properties").members()) {
    if (member.key == "desired" || member.key == "reported") continue;
    const Place properties{.name = "properties"};
    return Invalid(Place{.parent = &properties, .name = member.key},
                   "properties have no such member; they have desired");
  }
  return absl::OkStatus();
}

// Contract 1.5, J6: a job's update is forced.
absl::Status CheckJobEtag(JsonView etag) {
  if (etag.is_undefined() || etag.is_null()) return absl::OkStatus();
  const absl::string_view text = etag.string_value();
  if (text == "*" || text == "\"*\"") return absl::OkStatus();
  return Fault(ErrorCode::kPreconditionFailed, Place{.name = "etag"},
               absl::StrCat("found ", Shown(text),
                            "; a job updates twins whatever their etag: use "
                            "\"*\", or leave it out"));
}

}  // namespace

absl::Status ValidateDeviceId(absl::string_view device_id) {
  const Place place{.name = "deviceId"};
  if (device_id.empty()) {
    return Invalid(place, "an id must not be empty");
  }
  if (device_id.size() > kDeviceIdLengthMax) {
    return Invalid(place,
                   absl::StrCat(Shown(device_id), " has ", device_id.size(),
                                " characters; at most ", kDeviceIdLengthMax,
                                " are allowed"));
  }
  for (size_t i = 0; i < device_id.size(); ++i) {
    if (kDeviceIdBytes[static_cast<unsigned char>(device_id[i])]) continue;
    size_t end = i + 1;
    while (end < device_id.size() && (device_id[end] & 0xC0) == 0x80) ++end;
    return Invalid(place, absl::StrCat(Shown(device_id), " has the character ",
                                       Shown(device_id.substr(i, end - i)),
                                       "; ids have ASCII letters, digits and ",
                                       kDeviceIdPunctuation, " only"));
  }
  return absl::OkStatus();
}

absl::StatusOr<TwinPatchView> ReadTwinPatch(JsonView document,
                                            PatchOrigin origin) {
  const Place whole{.name = origin == PatchOrigin::kDevice
                                ? "properties.reported"
                            : origin == PatchOrigin::kJob ? "updateTwin"
                                                          : "twin"};
  if (document.is_undefined() || document.is_null()) {
    return Fault(ErrorCode::kArgumentNull, whole,
                 "missing or null; an object was expected");
  }
  if (!document.is_object()) {
    return Invalid(whole, absl::StrCat("found ", KindPhrase(document),
                                       "; an object was expected"));
  }
  TwinPatchView patch;
  if (origin == PatchOrigin::kDevice) {
    absl::Status status =
        ReadPart(document, origin, /*may_have_version=*/true, whole,
                 kTwinPropertiesSizeMax, &patch.reported);
    if (!status.ok()) return status;
    return patch;
  }
  const JsonView properties = document.Find("properties");
  const Place properties_place{.name = "properties"};
  if (!properties.is_undefined() && !properties.is_null() &&
      !properties.is_object()) {
    return Invalid(properties_place,
                   absl::StrCat("found ", KindPhrase(properties),
                                "; an object was expected"));
  }
  if (origin == PatchOrigin::kJob) {
    absl::Status status = CheckJobMembers(document);
    if (!status.ok()) return status;
  }
  absl::Status status =
      ReadPart(document.Find("tags"), origin, /*may_have_version=*/false,
               Place{.name = "tags"}, kTwinTagsSizeMax, &patch.tags);
  if (!status.ok()) return status;
  status =
      ReadPart(properties.Find("desired"), origin, /*may_have_version=*/true,
               Place{.parent = &properties_place, .name = "desired"},
               kTwinPropertiesSizeMax, &patch.desired);
  if (!status.ok()) return status;
  if (origin == PatchOrigin::kJob) {
    status = CheckJobEtag(document.Find("etag"));
    if (!status.ok()) return status;
  }
  return patch;
}

absl::StatusOr<TwinPatch> ParseTwinPatch(JsonView document,
                                         PatchOrigin origin) {
  const absl::StatusOr<TwinPatchView> view = ReadTwinPatch(document, origin);
  if (!view.ok()) return view.status();
  TwinPatch patch;
  patch.tags = CopyPart(view->tags);
  patch.desired = CopyPart(view->desired);
  patch.reported = CopyPart(view->reported);
  patch.desired_version = view->desired.version;
  patch.reported_version = view->reported.version;
  return patch;
}

absl::Status ValidateTwinMember(absl::string_view key, JsonView value,
                                int level) {
  size_t size = 0;
  return CheckMember({key, value}, level, /*in_array=*/false,
                     PatchOrigin::kService, Place{.name = key}, &size);
}

size_t TwinKeySize(absl::string_view key) { return TextSize(key); }

size_t TwinValueSize(JsonView value) {
  return ValueSize(value, /*in_array=*/false);
}

absl::Status SectionTooLarge(absl::string_view name, size_t size,
                             size_t size_max) {
  return TooLarge(Place{.name = name}, size, size_max);
}

}  // namespace muster
