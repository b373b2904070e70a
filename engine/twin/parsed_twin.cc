#include "engine/twin/parsed_twin.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/model/error.h"
#include "engine/model/instant.h"
#include "engine/model/limits.h"
#include "engine/model/twin_patch.h"
#include "engine/twin/etag.h"

namespace muster {
namespace {

absl::Status Invalid(absl::string_view name, JsonView found,
                     absl::string_view expected) {
  std::string text = found.is_undefined() ? "nothing" : JsonText(found);
  constexpr size_t kShownMax = 64;
  if (text.size() > kShownMax) {
    size_t size = kShownMax;
    while ((text[size] & 0xC0) == 0x80) --size;
    text.resize(size);
    text += "...";
  }
  return MakeError(
      ErrorCode::kArgumentInvalid,
      absl::StrCat(name, ": found ", text, "; expected ", expected));
}

bool IsOneOf(absl::string_view text,
             std::initializer_list<absl::string_view> list) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

bool IsStringOrNull(JsonView value) {
  return value.is_undefined() || value.is_null() || value.is_string();
}

// Members of a twin that are read here, in ascending order of their names.
enum RootIndex {
  kAuthenticationType,
  kCapabilities,
  kMessageCount,
  kConnectionState,
  kDeviceEtag,
  kDeviceId,
  kDeviceScope,
  kEtag,
  kLastActivityTime,
  kModelId,
  kModuleId,
  kParentScopes,
  kProperties,
  kStatus,
  kStatusReason,
  kStatusUpdateTime,
  kVersion,
  kX509Thumbprint,
  kRootCount
};

struct RootName {
  absl::string_view name;
  bool is_kept;  // As it was given.
};

constexpr RootName kRootNames[] = {
    {"authenticationType", true},
    {"capabilities", true},
    {"cloudToDeviceMessageCount", true},
    {"connectionState", false},
    {"deviceEtag", true},
    {"deviceId", false},
    {"deviceScope", true},
    {"etag", false},
    {"lastActivityTime", false},
    {"modelId", true},
    {"moduleId", false},
    {"parentScopes", true},
    {"properties", false},
    {"status", false},
    {"statusReason", true},
    {"statusUpdateTime", true},
    {"version", false},
    {"x509Thumbprint", true},
};
static_assert(std::size(kRootNames) == kRootCount);

using Roots = std::array<JsonView, kRootCount>;

Roots FindRoots(JsonView document) {
  Roots roots;
  size_t next = 0;  // Both lists ascend.
  for (const JsonView::Member& member : document.members()) {
    for (size_t i = next; i < kRootCount; ++i) {
      if (kRootNames[i].name != member.key) continue;
      // Null counts as absent, everywhere.
      if (!member.value.is_null()) roots[i] = member.value;
      next = i + 1;
      break;
    }
  }
  return roots;
}

// REQUIRES: `name` is in kRootNames, and is_kept.
absl::Status CheckKeptRoot(absl::string_view name, JsonView value) {
  if (name == "capabilities") {
    if (!value.is_object()) return Invalid(name, value, "an object");
    const JsonView edge = value.Find("iotEdge");
    if (!edge.is_undefined() && !edge.is_bool()) {
      return Invalid("capabilities.iotEdge", edge, "true or false");
    }
    return absl::OkStatus();
  }
  if (name == "x509Thumbprint") {
    if (!value.is_object()) return Invalid(name, value, "an object");
    for (const JsonView::Member& member : value.members()) {
      if (!IsStringOrNull(member.value)) {
        return Invalid(absl::StrCat(name, ".", member.key), member.value,
                       "a string or null");
      }
    }
    return absl::OkStatus();
  }
  if (name == "cloudToDeviceMessageCount") {
    if (!value.is_integer() || value.int_value() < 0 ||
        value.int_value() > INT32_MAX) {
      return Invalid(name, value, "an integer from 0 to 2147483647");
    }
    return absl::OkStatus();
  }
  if (name == "parentScopes") {
    if (!value.is_array()) return Invalid(name, value, "an array of strings");
    for (JsonView scope : value.elements()) {
      if (!scope.is_string()) {
        return Invalid(name, value, "an array of strings");
      }
    }
    return absl::OkStatus();
  }
  if (!value.is_string()) return Invalid(name, value, "a string");
  const absl::string_view text = value.string_value();
  if (name == "statusReason") {
    int characters = 0;
    for (const char c : text) characters += (c & 0xC0) != 0x80;
    if (characters > static_cast<int>(kTwinStatusReasonLengthMax)) {
      return Invalid(
          name, value,
          absl::StrCat("at most ", kTwinStatusReasonLengthMax, " characters"));
    }
  } else if (name == "statusUpdateTime") {
    if (!ParseInstant(text).has_value()) {
      return Invalid(name, value, "an instant, such as 2031-03-01T22:00:00Z");
    }
  } else if (name == "authenticationType") {
    if (!IsOneOf(text, {"sas", "selfSigned", "certificateAuthority", "none"})) {
      return Invalid(name, value,
                     "sas, selfSigned, certificateAuthority or none");
    }
  }
  return absl::OkStatus();
}

absl::Status ReadKeptRoots(const Roots& roots, ParsedTwin* twin) {
  size_t size = 0;
  for (size_t i = 0; i < kRootCount; ++i) {
    if (!kRootNames[i].is_kept || roots[i].is_undefined()) continue;
    const absl::string_view name = kRootNames[i].name;
    absl::Status status = CheckKeptRoot(name, roots[i]);
    if (!status.ok()) return status;
    twin->roots.push_back({name, roots[i]});
    size += roots[i].bytes().size();
  }
  // No contract bounds what the registry writes; one twin must not fill memory.
  if (size > kTwinTagsSizeMax) {
    return MakeError(
        ErrorCode::kMessageTooLarge,
        absl::StrCat("twin: the members beside tags and properties take ", size,
                     " bytes; at most ", kTwinTagsSizeMax, " are allowed"));
  }
  return absl::OkStatus();
}

// How many digits of its fraction ActivityText() has to write to give `text`
// back, which ParseInstant() takes; kActivityDigitsMax if it is written in any
// other way.
int ActivityDigits(absl::string_view text) {
  // 2031-03-01T22:00:00Z; digits may stand behind the point.
  constexpr size_t kPoint = 19;
  constexpr size_t kPlain = 20;
  if (text.size() < kPlain || text[4] != '-' || text[10] != 'T' ||
      text[13] != ':' || text[16] != ':' || text.back() != 'Z' ||
      text.substr(17, 2) == "60") {  // A leap second is written as 59.
    return kActivityDigitsMax;
  }
  if (text.size() == kPlain) return 0;
  const size_t digits = text.size() - kPlain - 1;
  return text[kPoint] == '.' && digits < kActivityDigitsMax
             ? static_cast<int>(digits)
             : kActivityDigitsMax;
}

absl::Status ReadActivity(JsonView value, ParsedTwin* twin) {
  constexpr absl::string_view kName = "lastActivityTime";
  if (value.is_undefined()) return absl::OkStatus();
  const std::optional<absl::Time> time =
      value.is_string() ? ParseInstant(value.string_value()) : std::nullopt;
  if (!time.has_value()) {
    return Invalid(kName, value, "an instant, such as 2031-03-01T22:00:00Z");
  }
  twin->last_activity_ticks = TicksFromTime(*time);
  twin->last_activity_digits =
      static_cast<uint8_t>(ActivityDigits(value.string_value()));
  return absl::OkStatus();
}

absl::Status ReadStatus(JsonView value, bool* enabled) {
  if (value.is_undefined()) return absl::OkStatus();
  if (!value.is_string() ||
      !IsOneOf(value.string_value(), {"enabled", "disabled"})) {
    return Invalid("status", value, "enabled or disabled");
  }
  *enabled = value.string_value() == "enabled";
  return absl::OkStatus();
}

absl::Status ReadConnection(JsonView value, ParsedTwin* twin) {
  if (value.is_undefined()) return absl::OkStatus();
  if (!value.is_string() ||
      !IsOneOf(value.string_value(), {"Connected", "Disconnected"})) {
    return Invalid("connectionState", value, "Connected or Disconnected");
  }
  twin->connected = value.string_value() == "Connected";
  return absl::OkStatus();
}

absl::Status ReadVersion(JsonView value, ParsedTwin* twin) {
  if (value.is_undefined()) return absl::OkStatus();
  if (!value.is_integer() || value.int_value() < 1 ||
      value.int_value() > kTwinIntegerMax) {
    return Invalid("version", value,
                   absl::StrCat("an integer in [1, ", kTwinIntegerMax, "]"));
  }
  twin->version = value.int_value();
  return absl::OkStatus();
}

// Leaves it room to count on.
constexpr uint64_t kEtagMax = uint64_t{1} << 62;

absl::Status ReadEtag(JsonView value, ParsedTwin* twin) {
  if (value.is_undefined()) return absl::OkStatus();
  if (!value.is_string()) return Invalid("etag", value, "a string");
  if (const auto counter = ParseEtag(value.string_value())) {
    if (*counter <= kEtagMax) twin->etag = *counter;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateTwinRoot(absl::string_view name, JsonView value) {
  for (const RootName& root : kRootNames) {
    if (root.is_kept && root.name == name) return CheckKeptRoot(name, value);
  }
  return MakeError(ErrorCode::kArgumentInvalid,
                   absl::StrCat(name, ": no twin has such a member"));
}

absl::StatusOr<ParsedTwin> ParseTwin(JsonView document) {
  const absl::StatusOr<TwinPatchView> content =
      ReadTwinPatch(document, PatchOrigin::kService);
  if (!content.ok()) return content.status();

  absl::StatusOr<ParsedTwin> result(absl::in_place);
  ParsedTwin& twin = *result;
  const Roots roots = FindRoots(document);
  const JsonView id = roots[kDeviceId];
  if (id.is_undefined()) {
    return MakeError(ErrorCode::kArgumentNull,
                     "deviceId: missing or null; a string was expected");
  }
  if (!id.is_string()) return Invalid("deviceId", id, "a string");
  absl::Status status = ValidateDeviceId(id.string_value());
  if (!status.ok()) return status;
  twin.device_id = id.string_value();
  if (!roots[kModuleId].is_undefined()) {
    return Invalid("moduleId", roots[kModuleId],
                   "none: twins of modules are not supported");
  }

  const JsonView reported = roots[kProperties].Find("reported");
  if (!reported.is_undefined() && !reported.is_null()) {
    const absl::StatusOr<TwinPatchView> patch =
        ReadTwinPatch(reported, PatchOrigin::kDevice);
    if (!patch.ok()) return patch.status();
    twin.reported = reported;
    twin.reported_size = patch->reported.size;
    twin.reported_version = patch->reported.version;
  }
  status = ReadKeptRoots(roots, &twin);
  if (!status.ok()) return status;
  status.Update(ReadStatus(roots[kStatus], &twin.enabled));
  status.Update(ReadConnection(roots[kConnectionState], &twin));
  status.Update(ReadActivity(roots[kLastActivityTime], &twin));
  status.Update(ReadVersion(roots[kVersion], &twin));
  status.Update(ReadEtag(roots[kEtag], &twin));
  if (!status.ok()) return status;

  if (content->tags.value.is_object()) {
    twin.tags = content->tags.value;
    twin.tags_size = content->tags.size;
  }
  if (content->desired.value.is_object()) {
    twin.desired = content->desired.value;
    twin.desired_size = content->desired.size;
    twin.desired_version = content->desired.version;
    twin.has_desired_members = content->desired.has_members;
  }
  return result;
}

}  // namespace muster
