#include "engine/twin/identity_document.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/instant.h"
#include "engine/twin/activity_time.h"

namespace muster {

bool IsRegistryRoot(absl::string_view name) {
  return std::binary_search(std::begin(kRegistryRoots),
                            std::end(kRegistryRoots), name);
}

Json IdentityDocument(const DeviceIdentity& device) {
  MUSTER_CHECK(device.authentication_type.has_value());
  std::string bytes;
  JsonBuilder b(&bytes);
  b.BeginObject();
  b.Key(kIdentityRoot);
  b.String(absl::StrCat(device.primary_key, " ", device.secondary_key));
  b.Key("authenticationType");
  b.String(AuthenticationTypeName(*device.authentication_type));
  b.Key("capabilities");
  b.BeginObject();
  b.Key("iotEdge");
  b.Bool(device.iot_edge);
  b.EndObject();
  b.Key("deviceEtag");
  b.String(device.etag);
  b.Key("deviceId");
  b.String(device.device_id);
  if (!device.device_scope.empty()) {
    b.Key("deviceScope");
    b.String(device.device_scope);
  }
  if (!device.parent_scopes.empty()) {
    b.Key("parentScopes");
    b.BeginArray();
    for (const std::string& scope : device.parent_scopes) b.String(scope);
    b.EndArray();
  }
  b.Key("status");
  b.String(device.enabled ? "enabled" : "disabled");
  if (!device.status_reason.empty()) {
    b.Key("statusReason");
    b.String(device.status_reason);
  }
  b.Key("statusUpdateTime");
  b.String(device.status_updated_time == absl::InfinitePast()
               ? ActivityText(kActivityNeverTicks, 0)
               : FormatInstant(device.status_updated_time));
  b.Key("x509Thumbprint");
  b.BeginObject();
  for (const auto& [name, thumbprint] :
       {std::make_pair("primaryThumbprint", &device.primary_thumbprint),
        std::make_pair("secondaryThumbprint", &device.secondary_thumbprint)}) {
    b.Key(name);
    if (thumbprint->has_value()) {
      b.String(**thumbprint);
    } else {
      b.Null();
    }
  }
  b.EndObject();
  b.EndObject();
  return Json::FromBytes(std::move(bytes));
}

absl::StatusOr<ParsedTwin> ParseIdentityDocument(JsonView document) {
  absl::StatusOr<ParsedTwin> twin = ParseTwin(document);
  if (!twin.ok()) return twin;
  const JsonView keys = document.Find(kIdentityRoot);
  if (absl::Status s = ValidateIdentityRoot(keys); !s.ok()) return s;
  twin->roots.insert(twin->roots.begin(), {kIdentityRoot, keys});
  return twin;
}

absl::Status ValidateIdentityRoot(JsonView value) {
  // A key is no longer than this in base64.
  constexpr size_t kSizeMax = 2 * ((kDeviceKeySizeMax + 2) / 3 * 4) + 1;
  if (value.is_string()) {
    const absl::string_view text = value.string_value();
    if (text.size() <= kSizeMax &&
        std::count(text.begin(), text.end(), ' ') == 1) {
      return absl::OkStatus();
    }
  }
  return MakeError(ErrorCode::kArgumentInvalid,
                   absl::StrCat(kIdentityRoot, ": these are not two keys"));
}

void ReadIdentityRoot(JsonView value, DeviceIdentity* device) {
  const absl::string_view text = value.string_value();
  const size_t space = text.find(' ');
  device->primary_key = std::string(text.substr(0, space));
  device->secondary_key = std::string(text.substr(space + 1));
}

}  // namespace muster
