#include "engine/twin/parsed_twin.h"

#include <algorithm>
#include <iterator>
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

// Members that are kept as they were given, in ascending order.
constexpr absl::string_view kKeptRoots[] = {
    "authenticationType", "capabilities", "cloudToDeviceMessageCount",
    "deviceEtag",         "deviceScope",  "modelId",
    "parentScopes",       "statusReason", "statusUpdateTime",
    "x509Thumbprint",
};

// REQUIRES: `name` is in kKeptRoots.
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

// Finds what is there of kKeptRoots.
absl::Status ReadRoots(JsonView document, ParsedTwin* twin) {
  // Both lists ascend.
  const absl::string_view* next = std::begin(kKeptRoots);
  size_t size = 0;
  for (const JsonView::Member& member : document.members()) {
    while (next != std::end(kKeptRoots) && *next < member.key) ++next;
    if (next == std::end(kKeptRoots)) break;
    if (*next != member.key || member.value.is_null()) continue;
    absl::Status status = CheckKeptRoot(member.key, member.value);
    if (!status.ok()) return status;
    twin->roots.push_back({*next, member.value});
    size += member.value.bytes().size();
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

absl::Status ReadActivity(JsonView value, ParsedTwin* twin) {
  constexpr absl::string_view kName = "lastActivityTime";
  if (value.is_undefined() || value.is_null()) return absl::OkStatus();
  const std::optional<absl::Time> time =
      value.is_string() ? ParseInstant(value.string_value()) : std::nullopt;
  if (!time.has_value()) {
    return Invalid(kName, value, "an instant, such as 2031-03-01T22:00:00Z");
  }
  twin->last_activity_ticks = TicksFromTime(*time);
  // Keep the number of digits if that gives the text back.
  const absl::string_view text = value.string_value();
  const size_t plain = absl::string_view("2031-03-01T22:00:00Z").size();
  const size_t digits = text.size() == plain  ? 0
                        : text.size() > plain ? text.size() - plain - 1
                                              : 7;
  twin->last_activity_digits =
      digits < 7 && ActivityText(twin->last_activity_ticks,
                                 static_cast<int>(digits)) == text
          ? static_cast<uint8_t>(digits)
          : 7;
  return absl::OkStatus();
}

absl::Status ReadStatus(JsonView value, bool* enabled) {
  if (value.is_undefined() || value.is_null()) return absl::OkStatus();
  if (!value.is_string() ||
      !IsOneOf(value.string_value(), {"enabled", "disabled"})) {
    return Invalid("status", value, "enabled or disabled");
  }
  *enabled = value.string_value() == "enabled";
  return absl::OkStatus();
}

absl::Status ReadConnection(JsonView value, ParsedTwin* twin) {
  if (value.is_undefined() || value.is_null()) return absl::OkStatus();
  if (!value.is_string() ||
      !IsOneOf(value.string_value(), {"Connected", "Disconnected"})) {
    return Invalid("connectionState", value, "Connected or Disconnected");
  }
  twin->connected = value.string_value() == "Connected";
  return absl::OkStatus();
}

absl::Status ReadVersion(JsonView value, ParsedTwin* twin) {
  if (value.is_undefined() || value.is_null()) return absl::OkStatus();
  if (!value.is_integer() || value.int_value() < 1 ||
      value.int_value() > kTwinIntegerMax) {
    return Invalid("version", value,
                   absl::StrCat("an integer in [1, ", kTwinIntegerMax, "]"));
  }
  twin->version = value.int_value();
  return absl::OkStatus();
}

absl::Status ReadEtag(JsonView value, ParsedTwin* twin) {
  if (!IsStringOrNull(value)) return Invalid("etag", value, "a string");
  if (!value.is_string()) return absl::OkStatus();
  if (const auto counter = ParseEtag(value.string_value())) {
    if (*counter <= uint64_t{INT64_MAX}) twin->etag = *counter;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ParsedTwin> ParseTwin(JsonView document) {
  absl::StatusOr<TwinPatch> content =
      ParseTwinPatch(document, PatchOrigin::kService);
  if (!content.ok()) return content.status();

  ParsedTwin twin;
  const JsonView id = document.Find("deviceId");
  if (id.is_undefined() || id.is_null()) {
    return MakeError(ErrorCode::kArgumentNull,
                     "deviceId: missing or null; a string was expected");
  }
  if (!id.is_string()) return Invalid("deviceId", id, "a string");
  absl::Status status = ValidateDeviceId(id.string_value());
  if (!status.ok()) return status;
  twin.device_id = id.string_value();
  const JsonView module = document.Find("moduleId");
  if (!module.is_undefined() && !module.is_null()) {
    return Invalid("moduleId", module,
                   "none: twins of modules are not supported");
  }

  const JsonView reported = document.Find("properties").Find("reported");
  if (!reported.is_undefined() && !reported.is_null()) {
    absl::StatusOr<TwinPatch> patch =
        ParseTwinPatch(reported, PatchOrigin::kDevice);
    if (!patch.ok()) return patch.status();
    twin.reported = reported;
    twin.reported_size = TwinValueSize(patch->reported.view());
    twin.reported_version = patch->reported_version;
  }
  status = ReadRoots(document, &twin);
  if (!status.ok()) return status;
  status.Update(ReadStatus(document.Find("status"), &twin.enabled));
  status.Update(ReadConnection(document.Find("connectionState"), &twin));
  status.Update(ReadActivity(document.Find("lastActivityTime"), &twin));
  status.Update(ReadVersion(document.Find("version"), &twin));
  status.Update(ReadEtag(document.Find("etag"), &twin));
  if (!status.ok()) return status;

  twin.desired_version = content->desired_version;
  if (content->tags.view().is_object()) {
    twin.tags = document.Find("tags");
    twin.tags_size = TwinValueSize(content->tags.view());
  }
  if (content->desired.view().is_object()) {
    twin.desired = document.Find("properties").Find("desired");
    twin.desired_size = TwinValueSize(content->desired.view());
    for (const JsonView::Member& member : content->desired.view().members()) {
      twin.has_desired_members |= !member.value.is_null();
    }
  }
  return twin;
}

}  // namespace muster
