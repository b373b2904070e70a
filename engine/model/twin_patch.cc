#include "engine/model/twin_patch.h"

#include <algorithm>
#include <array>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/model/check.h"
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
  return MakeError(
      code, absl::StrCat(absl::Utf8SafeCHexEscape(path), ": ", what));
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

bool IsControlByte(unsigned char c) { return c < 0x20 || c == 0x7f; }

// U+0080 to U+009F: two bytes in UTF-8.
bool IsWideControl(absl::string_view text, size_t i) {
  return static_cast<unsigned char>(text[i]) == 0xC2 && i + 1 < text.size() &&
         static_cast<unsigned char>(text[i + 1]) < 0xA0;
}

absl::Status CheckName(absl::string_view name, PatchOrigin origin,
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
      return Invalid(
          place, absl::StrCat("the name ", Shown(name),
                              " is not allowed in a job; there names have "
                              "ASCII letters, digits and ",
                              kJobNamePunctuation, " only"));
    }
  }
  return absl::OkStatus();
}

// ------------------------------------------------------------------ values

// Bytes that count towards a section's size: all but control characters'.
size_t TextSize(absl::string_view text) {
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

size_t ValueSize(JsonView value, bool in_array) {
  switch (value.kind()) {
    case JsonKind::kUndefined:
    case JsonKind::kNull:
      return 0;
    case JsonKind::kBool:
      return 4;
    case JsonKind::kNumber:
      return 8;
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

absl::Status TooDeep(const Place& place) {
  return Invalid(place, absl::StrCat("more than ", kTwinDepthMax,
                                     " objects and arrays inside each other"));
}

// Checks everything below `value`, which stands `level` objects and arrays
// below its section (a member of the section: 1).
absl::Status CheckValue(JsonView value, int level, PatchOrigin origin,
                        const Place& place) {
  switch (value.kind()) {
    case JsonKind::kUndefined:
    case JsonKind::kNull:
    case JsonKind::kBool:
      return absl::OkStatus();
    case JsonKind::kNumber:
      if (IsOutOfIntegerRange(value)) {
        return Invalid(place, absl::StrCat("the integer ", JsonText(value),
                                           " is out of range; integers are in "
                                           "[",
                                           kTwinIntegerMin, ", ",
                                           kTwinIntegerMax, "]"));
      }
      return absl::OkStatus();
    case JsonKind::kString: {
      const absl::string_view text = value.string_value();
      if (text.size() > kTwinStringSizeMax) {
        return Invalid(place, absl::StrCat("the string ", Shown(text), " has ",
                                           text.size(), " bytes; at most ",
                                           kTwinStringSizeMax,
                                           " are allowed"));
      }
      return absl::OkStatus();
    }
    case JsonKind::kArray: {
      if (level > kTwinDepthMax) return TooDeep(place);
      Place inner{.parent = &place, .name = {}, .index = 0};
      for (JsonView element : value.elements()) {
        absl::Status status = CheckValue(element, level + 1, origin, inner);
        if (!status.ok()) return status;
        ++inner.index;
      }
      return absl::OkStatus();
    }
    case JsonKind::kObject: {
      if (level > kTwinDepthMax) return TooDeep(place);
      for (const JsonView::Member& member : value.members()) {
        const Place inner{.parent = &place, .name = member.key};
        absl::Status status = CheckName(member.key, origin, inner);
        if (status.ok()) {
          status = CheckValue(member.value, level + 1, origin, inner);
        }
        if (!status.ok()) return status;
      }
      return absl::OkStatus();
    }
  }
  return absl::OkStatus();
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

// Takes one part of a patch: undefined, null or an object.  `version` is where
// its `$version` goes, nullptr if it can have none.
absl::Status TakePart(JsonView part, PatchOrigin origin, const Place& place,
                      size_t size_max, Json* out,
                      std::optional<int64_t>* version) {
  if (part.is_undefined()) return absl::OkStatus();
  if (part.is_null()) {
    *out = Json(part);
    return absl::OkStatus();
  }
  if (!part.is_object()) {
    return Invalid(place, absl::StrCat("found ", KindPhrase(part),
                                       "; an object or null was expected"));
  }
  bool has_system_members = false;
  for (const JsonView::Member& member : part.members()) {
    const Place inner{.parent = &place, .name = member.key};
    absl::Status status;
    if (IsSystemName(member.key) && origin != PatchOrigin::kJob) {
      has_system_members = true;
      if (member.key == kVersion && version != nullptr) {
        status = ReadVersion(member.value, inner, version);
      } else if (member.key != kMetadata) {
        status = Invalid(
            inner, version == nullptr
                       ? "names do not begin with '$' (tags have no $version; "
                         "their guard is the etag)"
                       : "names do not begin with '$', but for $version and "
                         "$metadata, which is ignored");
      }
    } else {
      status = CheckName(member.key, origin, inner);
      if (status.ok()) status = CheckValue(member.value, 1, origin, inner);
    }
    if (!status.ok()) return status;
  }
  if (has_system_members) {
    std::string bytes;
    JsonBuilder builder(&bytes);
    builder.BeginObject();
    for (const JsonView::Member& member : part.members()) {
      if (IsSystemName(member.key)) continue;
      builder.Key(member.key);
      builder.Value(member.value);
    }
    builder.EndObject();
    *out = Json::FromBytes(std::move(bytes));
  } else {
    *out = Json(part);
  }
  const size_t size = ValueSize(out->view(), /*in_array=*/false);
  if (size > size_max) return TooLarge(place, size, size_max);
  return absl::OkStatus();
}

// Members of a twin that a writer may send and that stay as they are.
bool IsReadOnlyRoot(absl::string_view name) {
  static constexpr absl::string_view kNames[] = {
      "authenticationType", "capabilities",     "cloudToDeviceMessageCount",
      "connectionState",    "deviceEtag",       "deviceScope",
      "lastActivityTime",   "modelId",          "moduleId",
      "parentScopes",       "status",           "statusReason",
      "statusUpdateTime",   "version",          "x509Thumbprint",
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
  for (const JsonView::Member& member :
       document.Find("properties").members()) {
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

// ------------------------------------------------------------------- merge

void WriteMerged(JsonView section, JsonView patch, bool skip_system,
                 JsonBuilder* out);

// Writes `value`, which takes the place of whatever there was, nulls dropped.
void WriteNew(JsonView value, bool skip_system, JsonBuilder* out) {
  if (!value.is_object()) {
    out->Value(value);  // Arrays keep their nulls.
    return;
  }
  out->BeginObject();
  for (const JsonView::Member& member : value.members()) {
    if (member.value.is_null()) continue;
    if (skip_system && IsSystemName(member.key)) continue;
    out->Key(member.key);
    WriteNew(member.value, false, out);
  }
  out->EndObject();
}

void WriteMerged(JsonView section, JsonView patch, bool skip_system,
                 JsonBuilder* out) {
  const auto old_members = section.members();
  const auto new_members = patch.members();
  auto o = old_members.begin();
  auto n = new_members.begin();
  out->BeginObject();
  while (o != old_members.end() || n != new_members.end()) {
    const int order = o == old_members.end()   ? 1
                      : n == new_members.end() ? -1
                                               : o->key.compare(n->key);
    const absl::string_view key = order <= 0 ? o->key : n->key;
    if (skip_system && IsSystemName(key)) {
      // Stays out, whichever side has it.
    } else if (order < 0) {
      out->Key(key);
      out->Value(o->value);
    } else if (!n->value.is_null()) {
      out->Key(key);
      if (order == 0 && o->value.is_object() && n->value.is_object()) {
        WriteMerged(o->value, n->value, false, out);
      } else {
        WriteNew(n->value, false, out);
      }
    }
    if (order <= 0) ++o;
    if (order >= 0) ++n;
  }
  out->EndObject();
}

}  // namespace

absl::Status ValidateDeviceId(absl::string_view device_id) {
  const Place place{.name = "deviceId"};
  if (device_id.empty()) {
    return Invalid(place, "an id must not be empty");
  }
  if (device_id.size() > kDeviceIdLengthMax) {
    return Invalid(place, absl::StrCat(Shown(device_id), " has ",
                                       device_id.size(),
                                       " characters; at most ",
                                       kDeviceIdLengthMax, " are allowed"));
  }
  for (size_t i = 0; i < device_id.size(); ++i) {
    if (kDeviceIdBytes[static_cast<unsigned char>(device_id[i])]) continue;
    size_t end = i + 1;
    while (end < device_id.size() && (device_id[end] & 0xC0) == 0x80) ++end;
    return Invalid(
        place,
        absl::StrCat(Shown(device_id), " has the character ",
                     Shown(device_id.substr(i, end - i)),
                     "; ids have ASCII letters, digits and ",
                     kDeviceIdPunctuation, " only"));
  }
  return absl::OkStatus();
}

absl::StatusOr<TwinPatch> ParseTwinPatch(JsonView document,
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
  TwinPatch patch;
  if (origin == PatchOrigin::kDevice) {
    absl::Status status =
        TakePart(document, origin, whole, kTwinPropertiesSizeMax,
                 &patch.reported, &patch.reported_version);
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
      TakePart(document.Find("tags"), origin, Place{.name = "tags"},
               kTwinTagsSizeMax, &patch.tags, nullptr);
  if (!status.ok()) return status;
  status = TakePart(properties.Find("desired"), origin,
                    Place{.parent = &properties_place, .name = "desired"},
                    kTwinPropertiesSizeMax, &patch.desired,
                    &patch.desired_version);
  if (!status.ok()) return status;
  if (origin == PatchOrigin::kJob) {
    status = CheckJobEtag(document.Find("etag"));
    if (!status.ok()) return status;
  }
  return patch;
}

size_t TwinKeySize(absl::string_view key) { return TextSize(key); }

size_t TwinValueSize(JsonView value) {
  return ValueSize(value, /*in_array=*/false);
}

absl::Status SectionTooLarge(absl::string_view name, size_t size,
                             size_t size_max) {
  return TooLarge(Place{.name = name}, size, size_max);
}

size_t SectionSize(JsonView section) {
  size_t size = 0;
  for (const JsonView::Member& member : section.members()) {
    if (IsSystemName(member.key) || member.value.is_null()) continue;
    size += TextSize(member.key) + ValueSize(member.value, /*in_array=*/false);
  }
  return size;
}

Json MergeSection(JsonView section, JsonView patch) {
  MUSTER_DCHECK(section.is_object());
  if (!patch.is_object()) return Json::EmptyObject();
  std::string bytes;
  bytes.reserve(section.bytes().size() + patch.bytes().size());
  JsonBuilder builder(&bytes);
  WriteMerged(section, patch, /*skip_system=*/true, &builder);
  return Json::FromBytes(std::move(bytes));
}

Json ReplaceSection(JsonView replacement) {
  if (!replacement.is_object()) return Json::EmptyObject();
  std::string bytes;
  bytes.reserve(replacement.bytes().size());
  JsonBuilder builder(&bytes);
  WriteNew(replacement, /*skip_system=*/true, &builder);
  return Json::FromBytes(std::move(bytes));
}

namespace {

absl::Status CheckDepth(JsonView value, int level, const Place& place) {
  if (value.is_object()) {
    if (level > kTwinDepthMax) return TooDeep(place);
    for (const JsonView::Member& member : value.members()) {
      const Place inner{.parent = &place, .name = member.key};
      absl::Status status = CheckDepth(member.value, level + 1, inner);
      if (!status.ok()) return status;
    }
  } else if (value.is_array()) {
    if (level > kTwinDepthMax) return TooDeep(place);
    Place inner{.parent = &place, .name = {}, .index = 0};
    for (JsonView element : value.elements()) {
      absl::Status status = CheckDepth(element, level + 1, inner);
      if (!status.ok()) return status;
      ++inner.index;
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateSection(absl::string_view name, JsonView section,
                             size_t size_max) {
  const Place place{.name = name};
  absl::Status status = CheckDepth(section, 0, place);
  if (!status.ok()) return status;
  const size_t size = SectionSize(section);
  if (size > size_max) return TooLarge(place, size, size_max);
  return absl::OkStatus();
}

}  // namespace muster
