#include "engine/twin/twin_document.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/string_view.h"
#include "engine/model/check.h"
#include "engine/twin/activity_time.h"
#include "engine/twin/etag.h"

namespace muster {

void TwinDocument::Build(Root root, std::string* bytes) const {
  shard_->mutex.AssertReaderHeld();
  const PropertyTree& tree = shard_->tree_;
  JsonBuilder b(bytes);
  switch (root) {
    case Root::kDeviceId:
      return b.String(shard_->DeviceId(row_));
    case Root::kStatus:
      return b.String(shard_->IsEnabled(row_) ? "enabled" : "disabled");
    case Root::kEtag:
      return b.String(
          EtagText(static_cast<uint64_t>(shard_->etags_.Get(row_))));
    case Root::kVersion:
      return b.Int(shard_->versions_.Get(row_));
    case Root::kConnectionState:
      return b.String(shard_->IsConnected(row_) ? "Connected" : "Disconnected");
    case Root::kLastActivityTime:
      return b.String(
          ActivityText(shard_->activity_ticks_.Get(row_),
                       static_cast<int>(shard_->activity_digits_.Get(row_))));
    case Root::kTags:
      return tree.Build(PropertyTree::kTags, row_, std::nullopt, &b);
    case Root::kDesired:
      return tree.Build(PropertyTree::kDesired, row_,
                        shard_->desired_versions_.Get(row_), &b);
    case Root::kReported:
      return tree.Build(PropertyTree::kReported, row_,
                        shard_->reported_versions_.Get(row_), &b);
    case Root::kDesiredMetadata:
      return tree.BuildMetadata(PropertyTree::kDesired, row_,
                                shard_->BaseStamp(PropertyTree::kDesired, row_),
                                &b);
    case Root::kReportedMetadata:
      return tree.BuildMetadata(
          PropertyTree::kReported, row_,
          shard_->BaseStamp(PropertyTree::kReported, row_), &b);
    default:
      // Kept as given, by name; roots of other collections are not there.
      return tree.BuildMember(PropertyTree::kRoots, row_, RootName(root), &b);
  }
}

JsonView TwinDocument::Get(Root root) const {
  const size_t i = static_cast<size_t>(root);
  std::string& bytes = roots_[i];
  if ((built_ >> i & 1) == 0) {
    bytes.clear();
    Build(root, &bytes);
    built_ |= uint64_t{1} << i;
  }
  return bytes.empty() ? JsonView() : JsonView::FromEncoded(bytes.data());
}

namespace {

// A section with its `$metadata`, in ascending order of keys.
void WriteSection(JsonView section, JsonView metadata, JsonBuilder* b) {
  constexpr absl::string_view kMetadata = "$metadata";
  b->BeginObject();
  bool written = metadata.is_undefined();
  for (const JsonView::Member& member : section.members()) {
    // `$version` comes behind it, so that it is always written here.
    if (!written && member.key > kMetadata) {
      b->Key(kMetadata);
      b->Value(metadata);
      written = true;
    }
    b->Key(member.key);
    b->Value(member.value);
  }
  MUSTER_DCHECK(written);
  b->EndObject();
}

}  // namespace

Json TwinDocument::Full(bool with_metadata) const {
  // In ascending order of their names.
  static constexpr Root kRoots[] = {
      Root::kAuthenticationType,
      Root::kCapabilities,
      Root::kCloudToDeviceMessageCount,
      Root::kConnectionState,
      Root::kDeviceEtag,
      Root::kDeviceId,
      Root::kDeviceScope,
      Root::kEtag,
      Root::kLastActivityTime,
      Root::kModelId,
      Root::kParentScopes,
      Root::kProperties,
      Root::kStatus,
      Root::kStatusReason,
      Root::kStatusUpdateTime,
      Root::kTags,
      Root::kVersion,
      Root::kX509Thumbprint,
  };
  std::string bytes;
  bytes.reserve(with_metadata ? 4096 : 1024);
  JsonBuilder b(&bytes);
  b.BeginObject();
  for (const Root root : kRoots) {
    if (root == Root::kProperties) {
      b.Key("properties");
      b.BeginObject();
      b.Key("desired");
      WriteSection(Get(Root::kDesired),
                   with_metadata ? Get(Root::kDesiredMetadata) : JsonView(),
                   &b);
      b.Key("reported");
      WriteSection(Get(Root::kReported),
                   with_metadata ? Get(Root::kReportedMetadata) : JsonView(),
                   &b);
      b.EndObject();
      continue;
    }
    const JsonView value = Get(root);
    if (value.is_undefined()) continue;
    b.Key(RootName(root));
    b.Value(value);
  }
  b.EndObject();
  return Json::FromBytes(std::move(bytes));
}

// -------------------------------------------------------------------- text

namespace {

constexpr absl::string_view kCustomaryOrder[] = {
    "deviceId",
    "moduleId",
    "modelId",
    "etag",
    "deviceEtag",
    "version",
    "status",
    "statusReason",
    "statusUpdateTime",
    "connectionState",
    "lastActivityTime",
    "cloudToDeviceMessageCount",
    "authenticationType",
    "x509Thumbprint",
    "capabilities",
    "deviceScope",
    "parentScopes",
    "tags",
    "properties",
};

void WriteSectionText(JsonView section, JsonWriter* writer) {
  if (!section.is_object()) {
    writer->Value(section);
    return;
  }
  writer->BeginObject();
  for (const JsonView::Member& member : section.members()) {
    if (member.key == "$metadata" || member.key == "$version") continue;
    writer->Key(member.key).Value(member.value);
  }
  for (const absl::string_view key : {"$metadata", "$version"}) {
    const JsonView value = section.Find(key);
    if (!value.is_undefined()) writer->Key(key).Value(value);
  }
  writer->EndObject();
}

void WritePropertiesText(JsonView properties, JsonWriter* writer) {
  if (!properties.is_object()) {
    writer->Value(properties);
    return;
  }
  writer->BeginObject();
  for (const JsonView::Member& member : properties.members()) {
    writer->Key(member.key);
    WriteSectionText(member.value, writer);
  }
  writer->EndObject();
}

}  // namespace

void AppendTwinJson(JsonView document, std::string* out) {
  JsonWriter writer(out);
  writer.BeginObject();
  for (const absl::string_view name : kCustomaryOrder) {
    const JsonView value = document.Find(name);
    if (value.is_undefined()) continue;
    writer.Key(name);
    if (name == "properties") {
      WritePropertiesText(value, &writer);
    } else {
      writer.Value(value);
    }
  }
  for (const JsonView::Member& member : document.members()) {
    if (std::find(std::begin(kCustomaryOrder), std::end(kCustomaryOrder),
                  member.key) == std::end(kCustomaryOrder)) {
      writer.Key(member.key).Value(member.value);
    }
  }
  writer.EndObject();
}

}  // namespace muster
