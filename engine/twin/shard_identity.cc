// What the registry keeps in a shard's rows: see identity_document.h.
#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/model/check.h"
#include "engine/model/instant.h"
#include "engine/twin/activity_time.h"
#include "engine/twin/etag.h"
#include "engine/twin/identity_document.h"
#include "engine/twin/shard.h"

namespace muster {
namespace {

constexpr absl::string_view kDeviceEtag = "deviceEtag";

absl::Time TimeOrNever(int64_t ticks) {
  return ticks == kActivityNeverTicks ? absl::InfinitePast()
                                      : TimeFromTicks(ticks);
}

std::optional<std::string> TextOf(JsonView value) {
  if (!value.is_string()) return std::nullopt;
  return std::string(value.string_value());
}

}  // namespace

bool Shard::HasIdentity(int row) const {
  const PropertyTree::Node* const node =
      PropertyTree::Find(tree_.root(PropertyTree::kRoots), kIdentityRoot);
  return node != nullptr && node->column.IsDefined(Used(row));
}

Json Shard::RegistryRoots(int row) const {
  std::string bytes;
  JsonBuilder b(&bytes);
  b.BeginObject();
  for (const absl::string_view name : kRegistryRoots) {
    const PropertyTree::Node* const node =
        PropertyTree::Find(tree_.root(PropertyTree::kRoots), name);
    if (node == nullptr || !node->column.IsDefined(Used(row))) continue;
    b.Key(name);
    tree_.BuildMember(PropertyTree::kRoots, row, name, &b);
  }
  b.EndObject();
  return Json::FromBytes(std::move(bytes));
}

DeviceIdentity Shard::IdentityOf(int row) const {
  const Json json = RegistryRoots(row);
  const JsonView roots = json.view();
  DeviceIdentity device;
  device.device_id = std::string(DeviceId(row));
  device.enabled = IsEnabled(row);
  const auto text = [&](absl::string_view name) {
    return TextOf(roots.Find(name)).value_or("");
  };
  device.status_reason = text("statusReason");
  device.authentication_type =
      FindAuthenticationType(text("authenticationType"))
          .value_or(AuthenticationType::kSas);
  if (const JsonView keys = roots.Find(kIdentityRoot); keys.is_string()) {
    ReadIdentityRoot(keys, &device);
  }
  const JsonView thumbprints = roots.Find("x509Thumbprint");
  device.primary_thumbprint = TextOf(thumbprints.Find("primaryThumbprint"));
  device.secondary_thumbprint = TextOf(thumbprints.Find("secondaryThumbprint"));
  const JsonView edge = roots.Find("capabilities").Find("iotEdge");
  device.iot_edge = edge.is_bool() && edge.bool_value();
  device.device_scope = text("deviceScope");
  for (const JsonView scope : roots.Find("parentScopes").elements()) {
    device.parent_scopes.emplace_back(scope.string_value());
  }
  // Nobody comes to the same row of the same shard twice at one sequence.
  device.generation_id = absl::StrCat(number_ + 1, "-", arrivals_.Get(row));
  device.etag = text(kDeviceEtag);
  if (device.etag.empty()) device.etag = EtagText(1);
  device.connected = IsConnected(row);
  const auto updated = ParseInstant(text("statusUpdateTime"));
  device.status_updated_time = TimeOrNever(
      updated.has_value() ? TicksFromTime(*updated) : kActivityNeverTicks);
  const size_t at = static_cast<size_t>(row);
  if (at < connection_ticks_.size()) {
    device.connection_state_updated_time = TimeOrNever(connection_ticks_[at]);
  }
  device.last_activity_time = TimeOrNever(activity_ticks_.Get(row));
  return device;
}

std::string Shard::NextDeviceEtag(absl::string_view etag) {
  // Of another hub: whatever we count is another one.
  return EtagText(ParseEtag(etag).value_or(0) + 1);
}

void Shard::PutIdentity(int row, const ParsedTwin& identity, absl::Time now) {
  Used(row);
  for (const absl::string_view name : kRegistryRoots) {
    const auto root =
        std::find_if(identity.roots.begin(), identity.roots.end(),
                     [&](const ParsedTwin::Root& r) { return r.name == name; });
    if (root == identity.roots.end()) {
      tree_.ClearMember(PropertyTree::kRoots, row, name);
    } else {
      tree_.PutMember(PropertyTree::kRoots, row, name, root->value);
    }
  }
  identity.enabled ? enabled_.Set(row) : enabled_.Clear(row);
  FollowStatus(row, now);
  ++sequence_;
}

ParsedTwin Shard::WithIdentity(int row, const ParsedTwin& twin,
                               JsonView registry_roots) const {
  ParsedTwin whole = twin;
  whole.enabled = IsEnabled(row);
  whole.roots.clear();
  for (const JsonView::Member& member : registry_roots.members()) {
    whole.roots.push_back({member.key, member.value});
  }
  for (const ParsedTwin::Root& root : twin.roots) {
    if (!IsRegistryRoot(root.name)) whole.roots.push_back(root);
  }
  std::sort(whole.roots.begin(), whole.roots.end(),
            [](const ParsedTwin::Root& a, const ParsedTwin::Root& b) {
              return a.name < b.name;
            });
  return whole;
}

}  // namespace muster
