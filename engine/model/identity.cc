#include "engine/model/identity.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/instant.h"
#include "engine/model/json.h"
#include "engine/model/limits.h"
#include "engine/model/twin_patch.h"

namespace muster {
namespace {

constexpr absl::string_view kTypeNames[] = {"sas", "selfSigned",
                                            "certificateAuthority", "none"};

constexpr absl::string_view kPrimaryKey =
    "authentication.symmetricKey.primaryKey";
constexpr absl::string_view kSecondaryKey =
    "authentication.symmetricKey.secondaryKey";
constexpr absl::string_view kPrimaryThumbprint =
    "authentication.x509Thumbprint.primaryThumbprint";
constexpr absl::string_view kSecondaryThumbprint =
    "authentication.x509Thumbprint.secondaryThumbprint";

absl::Status Invalid(absl::string_view name, absl::string_view what) {
  return MakeError(ErrorCode::kArgumentInvalid, absl::StrCat(name, ": ", what));
}

// `text` in quotes, as much of it as a message can bear.
std::string Shown(absl::string_view text) {
  constexpr size_t kShownMax = 64;
  size_t size = text.size();
  if (size > kShownMax) {
    size = kShownMax;
    while (size > 0 && (text[size] & 0xC0) == 0x80) --size;
  }
  return absl::StrCat("\"", absl::Utf8SafeCHexEscape(text.substr(0, size)),
                      size < text.size() ? "..." : "", "\"");
}

// ---------------------------------------------------------------- validation

bool IsUtf8(absl::string_view text) {
  std::string bytes;
  JsonBuilder(&bytes).String(text);
  return IsEncodedJson(bytes);
}

absl::Status CheckText(absl::string_view name, absl::string_view text) {
  if (IsUtf8(text)) return absl::OkStatus();
  return Invalid(name, absl::StrCat(Shown(text), " is not valid UTF-8"));
}

absl::Status CheckReason(absl::string_view reason) {
  constexpr absl::string_view kName = "statusReason";
  if (absl::Status s = CheckText(kName, reason); !s.ok()) return s;
  const auto characters = std::count_if(
      reason.begin(), reason.end(), [](char c) { return (c & 0xC0) != 0x80; });
  if (static_cast<size_t>(characters) <= kTwinStatusReasonLengthMax) {
    return absl::OkStatus();
  }
  return Invalid(
      kName,
      absl::StrCat(Shown(reason), " has ", characters, " characters; at most ",
                   kTwinStatusReasonLengthMax, " are allowed"));
}

// What is not shown: the key.
absl::Status CheckKey(absl::string_view name, absl::string_view key) {
  if (key.empty()) return absl::OkStatus();
  std::string bytes;
  // Other spellings of base64 would not come back as they were given.
  if (!absl::Base64Unescape(key, &bytes) || absl::Base64Escape(bytes) != key) {
    return Invalid(name, absl::StrCat("no base64; ", kDeviceKeySizeMin, " to ",
                                      kDeviceKeySizeMax,
                                      " bytes in base64 were expected"));
  }
  if (kDeviceKeySizeMin <= bytes.size() && bytes.size() <= kDeviceKeySizeMax) {
    return absl::OkStatus();
  }
  return Invalid(name, absl::StrCat("a key of ", bytes.size(), " bytes; ",
                                    kDeviceKeySizeMin, " to ",
                                    kDeviceKeySizeMax, " were expected"));
}

absl::Status CheckThumbprint(absl::string_view name,
                             const std::optional<std::string>& thumbprint) {
  if (!thumbprint.has_value()) return absl::OkStatus();
  const bool is_hexadecimal = std::all_of(
      thumbprint->begin(), thumbprint->end(),
      [](char c) { return absl::ascii_isxdigit(static_cast<uint8_t>(c)); });
  if (is_hexadecimal &&
      (thumbprint->size() == 40 || thumbprint->size() == 64)) {
    return absl::OkStatus();
  }
  return Invalid(name,
                 absl::StrCat("found ", Shown(*thumbprint),
                              "; expected 40 or 64 hexadecimal digits, the "
                              "SHA-1 or SHA-256 of a certificate"));
}

// ------------------------------------------------------------------- reading

// A member that may be left out: null says the same as absence (contract 0.3).
JsonView FindPresent(JsonView object, absl::string_view key) {
  const JsonView value = object.Find(key);
  return value.is_null() ? JsonView() : value;
}

absl::Status WrongKind(absl::string_view name, JsonView found,
                       absl::string_view expected) {
  return Invalid(name, absl::StrCat("found ", JsonKindName(found.kind()),
                                    "; expected ", expected));
}

// Reads the member `key`, which messages call `name`; leaves `*to` as it is if
// there is none.
absl::Status ReadText(JsonView object, absl::string_view key,
                      absl::string_view name, std::string* to) {
  const JsonView value = FindPresent(object, key);
  if (value.is_undefined()) return absl::OkStatus();
  if (!value.is_string()) return WrongKind(name, value, "a string");
  *to = std::string(value.string_value());
  return absl::OkStatus();
}

absl::Status ReadThumbprint(JsonView object, absl::string_view key,
                            absl::string_view name,
                            std::optional<std::string>* to) {
  std::string text;
  absl::Status status = ReadText(object, key, name, &text);
  if (status.ok() && !text.empty()) *to = std::move(text);
  return status;
}

absl::StatusOr<JsonView> FindObject(JsonView object, absl::string_view key,
                                    absl::string_view name) {
  const JsonView value = FindPresent(object, key);
  if (value.is_undefined() || value.is_object()) return value;
  return WrongKind(name, value, "an object");
}

absl::Status ReadAuthentication(JsonView root, DeviceIdentity* device) {
  const absl::StatusOr<JsonView> authentication =
      FindObject(root, "authentication", "authentication");
  if (!authentication.ok()) return authentication.status();
  const absl::StatusOr<JsonView> keys = FindObject(
      *authentication, "symmetricKey", "authentication.symmetricKey");
  if (!keys.ok()) return keys.status();
  const absl::StatusOr<JsonView> thumbprints = FindObject(
      *authentication, "x509Thumbprint", "authentication.x509Thumbprint");
  if (!thumbprints.ok()) return thumbprints.status();

  absl::Status status =
      ReadText(*keys, "primaryKey", kPrimaryKey, &device->primary_key);
  status.Update(
      ReadText(*keys, "secondaryKey", kSecondaryKey, &device->secondary_key));
  status.Update(ReadThumbprint(*thumbprints, "primaryThumbprint",
                               kPrimaryThumbprint,
                               &device->primary_thumbprint));
  status.Update(ReadThumbprint(*thumbprints, "secondaryThumbprint",
                               kSecondaryThumbprint,
                               &device->secondary_thumbprint));
  std::string type;
  status.Update(
      ReadText(*authentication, "type", "authentication.type", &type));
  if (!status.ok()) return status;
  if (type.empty()) {
    // Whoever gives thumbprints alone means them.
    if (device->primary_thumbprint.has_value() ||
        device->secondary_thumbprint.has_value()) {
      device->authentication_type = AuthenticationType::kSelfSigned;
    } else if (device->primary_key.empty() && device->secondary_key.empty()) {
      device->authentication_type = std::nullopt;
    } else {
      device->authentication_type = AuthenticationType::kSas;
    }
    return absl::OkStatus();
  }
  const auto found = FindAuthenticationType(type);
  if (!found.has_value()) {
    return Invalid("authentication.type",
                   absl::StrCat("found ", Shown(type),
                                "; expected sas, selfSigned, "
                                "certificateAuthority or none"));
  }
  device->authentication_type = *found;
  return absl::OkStatus();
}

absl::Status ReadStatus(JsonView root, DeviceIdentity* device) {
  std::string text = "enabled";
  if (absl::Status s = ReadText(root, "status", "status", &text); !s.ok()) {
    return s;
  }
  if (text != "enabled" && text != "disabled") {
    return Invalid("status", absl::StrCat("found ", Shown(text),
                                          "; expected enabled or disabled"));
  }
  device->enabled = text == "enabled";
  return absl::OkStatus();
}

absl::Status ReadCapabilities(JsonView root, DeviceIdentity* device) {
  const absl::StatusOr<JsonView> capabilities =
      FindObject(root, "capabilities", "capabilities");
  if (!capabilities.ok()) return capabilities.status();
  const JsonView edge = FindPresent(*capabilities, "iotEdge");
  if (edge.is_undefined()) return absl::OkStatus();
  if (!edge.is_bool()) {
    return WrongKind("capabilities.iotEdge", edge, "true or false");
  }
  device->iot_edge = edge.bool_value();
  return absl::OkStatus();
}

absl::Status ReadParentScopes(JsonView root, DeviceIdentity* device) {
  const JsonView scopes = FindPresent(root, "parentScopes");
  if (scopes.is_undefined()) return absl::OkStatus();
  if (!scopes.is_array()) {
    return WrongKind("parentScopes", scopes, "an array of strings");
  }
  for (const JsonView scope : scopes.elements()) {
    if (!scope.is_string()) {
      return WrongKind(
          absl::StrCat("parentScopes[", device->parent_scopes.size(), "]"),
          scope, "a string");
    }
    device->parent_scopes.emplace_back(scope.string_value());
  }
  return absl::OkStatus();
}

std::string TimeText(absl::Time time) {
  return time == absl::InfinitePast() ? "0001-01-01T00:00:00Z"
                                      : FormatInstant(time);
}

}  // namespace

absl::string_view AuthenticationTypeName(AuthenticationType type) {
  return kTypeNames[static_cast<size_t>(type)];
}

std::optional<AuthenticationType> FindAuthenticationType(
    absl::string_view name) {
  const auto found =
      std::find(std::begin(kTypeNames), std::end(kTypeNames), name);
  if (found == std::end(kTypeNames)) return std::nullopt;
  return static_cast<AuthenticationType>(found - std::begin(kTypeNames));
}

absl::Status ValidateSymmetricKeys(const SymmetricKeys& keys) {
  absl::Status status = CheckKey(kPrimaryKey, keys.primary);
  status.Update(CheckKey(kSecondaryKey, keys.secondary));
  return status;
}

absl::Status ValidateDeviceIdentity(const DeviceIdentity& device) {
  absl::Status status = ValidateDeviceId(device.device_id);
  status.Update(CheckReason(device.status_reason));
  status.Update(CheckKey(kPrimaryKey, device.primary_key));
  status.Update(CheckKey(kSecondaryKey, device.secondary_key));
  status.Update(CheckThumbprint(kPrimaryThumbprint, device.primary_thumbprint));
  status.Update(
      CheckThumbprint(kSecondaryThumbprint, device.secondary_thumbprint));
  status.Update(CheckText("deviceScope", device.device_scope));
  for (const std::string& scope : device.parent_scopes) {
    status.Update(CheckText("parentScopes", scope));
  }
  return status;
}

absl::StatusOr<DeviceIdentity> ParseDeviceIdentity(absl::string_view device_id,
                                                   absl::string_view body) {
  const absl::StatusOr<Json> json = ParseJson(body);
  if (!json.ok()) return json.status();
  const JsonView root = json->view();
  if (!root.is_object()) {
    return MakeError(ErrorCode::kIotHubFormatError,
                     absl::StrCat("a device is a JSON object; got ",
                                  JsonKindName(root.kind())));
  }
  absl::StatusOr<DeviceIdentity> result(absl::in_place);
  DeviceIdentity& device = *result;
  device.device_id = std::string(device_id);
  std::string named(device_id);
  absl::Status status = ReadText(root, "deviceId", "deviceId", &named);
  if (status.ok() && named != device_id) {
    status = Invalid("deviceId", absl::StrCat("the body names ", Shown(named),
                                              ", the path ", Shown(device_id)));
  }
  status.Update(ReadStatus(root, &device));
  status.Update(
      ReadText(root, "statusReason", "statusReason", &device.status_reason));
  status.Update(ReadAuthentication(root, &device));
  status.Update(ReadCapabilities(root, &device));
  status.Update(
      ReadText(root, "deviceScope", "deviceScope", &device.device_scope));
  status.Update(ReadParentScopes(root, &device));
  status.Update(ValidateDeviceIdentity(device));
  if (!status.ok()) return status;
  return result;
}

void AppendDeviceJson(const DeviceIdentity& device, std::string* out) {
  MUSTER_CHECK(device.authentication_type.has_value());
  JsonWriter writer(out);
  writer.BeginObject();
  writer.Key("deviceId").String(device.device_id);
  writer.Key("generationId").String(device.generation_id);
  writer.Key("etag").String(device.etag);
  writer.Key("connectionState")
      .String(device.connected ? "Connected" : "Disconnected");
  writer.Key("status").String(device.enabled ? "enabled" : "disabled");
  writer.Key("statusReason");
  if (device.status_reason.empty()) {
    writer.Null();
  } else {
    writer.String(device.status_reason);
  }
  writer.Key("connectionStateUpdatedTime")
      .String(TimeText(device.connection_state_updated_time));
  writer.Key("statusUpdatedTime").String(TimeText(device.status_updated_time));
  writer.Key("lastActivityTime").String(TimeText(device.last_activity_time));
  writer.Key("cloudToDeviceMessageCount").Int(0);

  writer.Key("authentication").BeginObject();
  const auto key = [&](absl::string_view name, const std::string& text) {
    writer.Key(name);
    if (device.authentication_type == AuthenticationType::kSas) {
      writer.String(text);
    } else {
      writer.Null();
    }
  };
  writer.Key("symmetricKey").BeginObject();
  key("primaryKey", device.primary_key);
  key("secondaryKey", device.secondary_key);
  writer.EndObject();
  const auto thumbprint = [&](absl::string_view name,
                              const std::optional<std::string>& text) {
    writer.Key(name);
    if (text.has_value()) {
      writer.String(*text);
    } else {
      writer.Null();
    }
  };
  writer.Key("x509Thumbprint").BeginObject();
  thumbprint("primaryThumbprint", device.primary_thumbprint);
  thumbprint("secondaryThumbprint", device.secondary_thumbprint);
  writer.EndObject();
  writer.Key("type").String(
      AuthenticationTypeName(*device.authentication_type));
  writer.EndObject();

  writer.Key("capabilities").BeginObject();
  writer.Key("iotEdge").Bool(device.iot_edge);
  writer.EndObject();
  if (!device.device_scope.empty()) {
    writer.Key("deviceScope").String(device.device_scope);
  }
  if (!device.parent_scopes.empty()) {
    writer.Key("parentScopes").BeginArray();
    for (const std::string& scope : device.parent_scopes) writer.String(scope);
    writer.EndArray();
  }
  writer.EndObject();
}

}  // namespace muster
