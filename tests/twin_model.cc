#include "tests/twin_model.h"

#include "absl/strings/str_cat.h"
#include "engine/model/instant.h"
#include "engine/twin/etag.h"
#include "tests/twin_testing.h"

namespace muster {
namespace {

constexpr absl::string_view kNever = "0001-01-01T00:00:00Z";

std::string StringText(absl::string_view text) {
  std::string quoted;
  AppendJsonString(text, &quoted);
  return quoted;
}

std::string Metadata(const Tree& tree) {
  std::map<std::string, std::string> members;
  members["$lastUpdated"] = StringText(FormatInstant(At(tree.second)));
  if (tree.version > 0) {
    members["$lastUpdatedVersion"] = absl::StrCat(tree.version);
  }
  if (tree.kind == Tree::kObject) {
    for (const auto& [key, value] : tree.members) {
      members[key] = Metadata(value);
    }
  }
  return ObjectText(members);
}

// `patch` as it stands in a twin: without nulls, all of it touched now.
Tree Fresh(const Tree& patch, int second, int64_t version) {
  Tree tree{.kind = patch.kind,
            .leaf = patch.leaf,
            .members = {},
            .second = second,
            .version = version};
  for (const auto& [key, value] : patch.members) {
    if (value.kind == Tree::kNull) continue;
    tree.members[key] = Fresh(value, second, version);
  }
  return tree;
}

void Merge(Tree* tree, const Tree& patch, int second, int64_t version) {
  tree->second = second;
  tree->version = version;
  for (const auto& [key, value] : patch.members) {
    const auto old = tree->members.find(key);
    if (value.kind == Tree::kNull) {
      tree->members.erase(key);
    } else if (value.kind == Tree::kObject && old != tree->members.end() &&
               old->second.kind == Tree::kObject) {
      Merge(&old->second, value, second, version);
    } else {
      tree->members[key] = Fresh(value, second, version);
    }
  }
}

void ChangeSection(Tree* section, const Tree& part, bool replace, int second,
                   int64_t version) {
  if (part.kind == Tree::kNull) {
    *section = Fresh(Tree(), second, version);
  } else if (replace) {
    *section = Fresh(part, second, version);
  } else {
    Merge(section, part, second, version);
  }
}

std::string StringOr(JsonView value, absl::string_view otherwise) {
  return std::string(value.is_string() ? value.string_value() : otherwise);
}

// The version that the document gives; else one more than that of the twin in
// whose place it comes.
int64_t NextOf(JsonView given, int64_t current, bool is_new) {
  if (given.is_integer()) return given.int_value();
  return is_new ? 1 : current + 1;
}

}  // namespace

Tree TreeOf(JsonView value) {
  Tree tree;
  if (value.is_object()) {
    for (const JsonView::Member& member : value.members()) {
      if (!member.key.empty() && member.key[0] == '$') continue;
      tree.members[std::string(member.key)] = TreeOf(member.value);
    }
  } else if (value.is_null()) {
    tree.kind = Tree::kNull;
  } else if (!value.is_undefined()) {
    tree.kind = Tree::kLeaf;
    tree.leaf = JsonText(value);
  }
  return tree;
}

std::string ObjectText(const std::map<std::string, std::string>& members) {
  std::string text = "{";
  for (const auto& [key, value] : members) {
    absl::StrAppend(&text, text.size() == 1 ? "" : ",", StringText(key), ":",
                    value);
  }
  return text + "}";
}

std::string Text(const Tree& tree, int64_t section_version,
                 const std::string& metadata) {
  if (tree.kind == Tree::kNull) return "null";
  if (tree.kind == Tree::kLeaf) return tree.leaf;
  std::map<std::string, std::string> members;
  for (const auto& [key, value] : tree.members) members[key] = Text(value);
  if (section_version > 0) {
    members["$version"] = absl::StrCat(section_version);
  }
  if (!metadata.empty()) members["$metadata"] = metadata;
  return ObjectText(members);
}

void ModelTwin::Put(JsonView document, bool is_new, int second) {
  const JsonView given_desired = document.Find("properties").Find("desired");
  const JsonView given_reported = document.Find("properties").Find("reported");
  const auto given_etag = ParseEtag(StringOr(document.Find("etag"), ""));
  etag = given_etag.has_value() ? *given_etag : is_new ? 1 : etag + 1;
  version = NextOf(document.Find("version"), version, is_new);
  desired_version =
      NextOf(given_desired.Find("$version"), desired_version, is_new);
  reported_version =
      NextOf(given_reported.Find("$version"), reported_version, is_new);

  if (!has_identity) {
    enabled = StringOr(document.Find("status"), "enabled") == "enabled";
    updated = StringOr(document.Find("statusUpdateTime"), kNever);
  }
  const std::string connection = StringOr(document.Find("connectionState"), "");
  if (connection.empty()) {
    FollowStatus();
  } else {
    connected = connection == "Connected";
    kept_back = false;
  }
  activity = StringOr(document.Find("lastActivityTime"), kNever);
  for (const absl::string_view name :
       {"authenticationType", "capabilities", "cloudToDeviceMessageCount",
        "deviceEtag", "deviceScope", "modelId", "parentScopes", "statusReason",
        "x509Thumbprint"}) {
    const bool is_registrys =
        name != "cloudToDeviceMessageCount" && name != "modelId";
    if (has_identity && is_registrys) continue;
    roots.erase(std::string(name));
    const JsonView value = document.Find(name);
    if (value.is_undefined() || value.is_null()) continue;
    roots[std::string(name)] = JsonText(value);
  }

  tags = Fresh(TreeOf(document.Find("tags")), 0, 0);
  desired = Fresh(TreeOf(given_desired), second, desired_version);
  // A section as every twin begins with was touched by no version.
  if (desired.members.empty() && desired_version == 1) desired.version = 0;
  reported = Fresh(TreeOf(given_reported), second, 0);
}

void ModelTwin::Change(const Tree* tags_part, const Tree* desired_part,
                       bool replace, int second) {
  if (tags_part == nullptr && desired_part == nullptr) return;
  ++etag;
  ++version;
  if (tags_part != nullptr) {
    ChangeSection(&tags, *tags_part, replace, second, 0);
  }
  if (desired_part != nullptr) {
    ++desired_version;
    ChangeSection(&desired, *desired_part, replace, second, desired_version);
  }
}

void ModelTwin::Report(const Tree& part, int second) {
  Merge(&reported, part, second, 0);
  ++reported_version;
  activity = FormatInstant(At(second));
}

void ModelTwin::SetConnected(bool value, int second) {
  if (HasConnection() == value) return;
  if (!enabled) {
    connected = false;
    kept_back = value;
    return;
  }
  connected = value;
  activity = FormatInstant(At(second));
}

void ModelTwin::FollowStatus() {
  const bool has_connection = HasConnection();
  if (enabled) {
    connected = has_connection;
    kept_back = false;
  } else {
    connected = false;
    kept_back = has_connection;
  }
}

std::string ModelTwin::NextDeviceEtag() const {
  const auto found = roots.find("deviceEtag");
  if (found == roots.end()) return EtagText(2);
  const absl::string_view text = found->second;
  return EtagText(ParseEtag(text.substr(1, text.size() - 2)).value_or(0) + 1);
}

void ModelTwin::SetEnabled(bool value, int second) {
  if (enabled == value) return;
  enabled = value;
  updated = FormatInstant(At(second));
  if (has_identity) roots["deviceEtag"] = StringText(NextDeviceEtag());
  FollowStatus();
}

void ModelTwin::PutIdentity(const DeviceIdentity& device, bool is_new,
                            int second) {
  const std::string device_etag = is_new ? EtagText(1) : NextDeviceEtag();
  if (is_new) {
    activity = std::string(kNever);
    updated = std::string(kNever);
    desired.second = second;
    reported.second = second;
  } else if (enabled != device.enabled) {
    updated = FormatInstant(At(second));
  } else {
    // The same instant, as it is written here.
    const absl::Time time = *ParseInstant(updated);
    updated = time == *ParseInstant(kNever) ? std::string(kNever)
                                            : FormatInstant(time);
  }
  has_identity = true;
  enabled = device.enabled;
  FollowStatus();
  if (device.authentication_type != AuthenticationType::kSas) {
    primary_key.clear();
    secondary_key.clear();
  } else {
    if (!device.primary_key.empty()) primary_key = device.primary_key;
    if (!device.secondary_key.empty()) secondary_key = device.secondary_key;
  }
  roots["authenticationType"] =
      StringText(AuthenticationTypeName(*device.authentication_type));
  roots["capabilities"] =
      ObjectText({{"iotEdge", device.iot_edge ? "true" : "false"}});
  roots["deviceEtag"] = StringText(device_etag);
  for (const absl::string_view name :
       {"deviceScope", "parentScopes", "statusReason"}) {
    roots.erase(std::string(name));
  }
  if (!device.device_scope.empty()) {
    roots["deviceScope"] = StringText(device.device_scope);
  }
  if (!device.parent_scopes.empty()) {
    std::string list;
    for (const std::string& scope : device.parent_scopes) {
      absl::StrAppend(&list, list.empty() ? "[" : ",", StringText(scope));
    }
    roots["parentScopes"] = list + "]";
  }
  if (!device.status_reason.empty()) {
    roots["statusReason"] = StringText(device.status_reason);
  }
  const auto thumbprint = [](const std::optional<std::string>& text) {
    return text.has_value() ? StringText(*text) : "null";
  };
  roots["x509Thumbprint"] = ObjectText(
      {{"primaryThumbprint", thumbprint(device.primary_thumbprint)},
       {"secondaryThumbprint", thumbprint(device.secondary_thumbprint)}});
}

TwinWrite ModelTwin::State() const {
  return {.etag = etag,
          .version = version,
          .desired_version = desired_version,
          .reported_version = reported_version,
          .connected = connected,
          .enabled = enabled};
}

std::string ModelTwin::Document(absl::string_view id) const {
  std::map<std::string, std::string> members = roots;
  members.try_emplace("cloudToDeviceMessageCount", "0");
  members["connectionState"] =
      StringText(connected ? "Connected" : "Disconnected");
  members["deviceId"] = StringText(id);
  members["etag"] = StringText(EtagText(etag));
  members["lastActivityTime"] = StringText(activity);
  members["properties"] = ObjectText(
      {{"desired", Text(desired, desired_version, Metadata(desired))},
       {"reported", Text(reported, reported_version, Metadata(reported))}});
  members["status"] = StringText(enabled ? "enabled" : "disabled");
  members["statusUpdateTime"] = StringText(updated);
  members["tags"] = Text(tags);
  members["version"] = absl::StrCat(version);
  return ObjectText(members);
}

}  // namespace muster
