#include "engine/twin/packed_twin.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/instant.h"
#include "engine/model/limits.h"
#include "engine/model/twin_patch.h"
#include "engine/twin/etag.h"

namespace muster {

// ------------------------------------------------------------------ blocks

struct PackedTwin::Header {
  int64_t desired_ticks;
  int64_t desired_version;
  int64_t reported_ticks;
  // Where the parts begin; tags begin behind the header.
  uint32_t desired;
  uint32_t reported;
  uint32_t roots;
  uint32_t desired_stamps;
  uint32_t reported_stamps;
  uint32_t end;
};

PackedTwin& PackedTwin::operator=(PackedTwin&& other) noexcept {
  if (this == &other) return *this;
  delete[] block_;
  block_ = std::exchange(other.block_, nullptr);
  etag = other.etag;
  version = other.version;
  last_activity_ticks = other.last_activity_ticks;
  last_activity_digits = other.last_activity_digits;
  connected = other.connected;
  enabled = other.enabled;
  return *this;
}

const PackedTwin::Header& PackedTwin::header() const {
  // new char[] is aligned for any object of that size.
  return *reinterpret_cast<const Header*>(block_);
}

JsonView PackedTwin::tags() const { return SectionAt(sizeof(Header)); }
JsonView PackedTwin::desired() const { return SectionAt(header().desired); }
JsonView PackedTwin::reported() const { return SectionAt(header().reported); }
JsonView PackedTwin::roots() const {
  const Header& h = header();
  return h.roots == h.desired_stamps ? JsonView() : SectionAt(h.roots);
}

int64_t PackedTwin::desired_version() const {
  return desired().Find("$version").int_value();
}
int64_t PackedTwin::reported_version() const {
  return reported().Find("$version").int_value();
}

Json PackedTwin::desired_metadata() const {
  const TwinParts p = parts();
  return MetadataJson(p.desired_base, p.desired_stamps, desired());
}
Json PackedTwin::reported_metadata() const {
  const TwinParts p = parts();
  return MetadataJson(p.reported_base, p.reported_stamps, reported());
}

TwinParts PackedTwin::parts() const {
  const Header& h = header();
  const auto part = [this](uint32_t begin, uint32_t end) {
    return absl::string_view(block_ + begin, end - begin);
  };
  TwinParts parts;
  parts.tags = part(sizeof(Header), h.desired);
  parts.desired = part(h.desired, h.reported);
  parts.reported = part(h.reported, h.roots);
  parts.roots = part(h.roots, h.desired_stamps);
  parts.desired_stamps = part(h.desired_stamps, h.reported_stamps);
  parts.reported_stamps = part(h.reported_stamps, h.end);
  parts.desired_base = {h.desired_ticks, h.desired_version};
  parts.reported_base = {h.reported_ticks, 0};
  return parts;
}

void PackedTwin::SetParts(const TwinParts& parts) {
  const absl::string_view in_order[] = {
      parts.tags,  parts.desired,        parts.reported,
      parts.roots, parts.desired_stamps, parts.reported_stamps};
  size_t size = sizeof(Header);
  for (const absl::string_view part : in_order) size += part.size();
  char* block = new char[size];
  uint32_t begins[std::size(in_order) + 1];
  uint32_t at = sizeof(Header);
  for (size_t i = 0; i < std::size(in_order); ++i) {
    begins[i] = at;
    if (!in_order[i].empty()) {
      std::memcpy(block + at, in_order[i].data(), in_order[i].size());
    }
    at += static_cast<uint32_t>(in_order[i].size());
  }
  begins[std::size(in_order)] = at;
  const Header h = {
      .desired_ticks = parts.desired_base.ticks,
      .desired_version = parts.desired_base.version,
      .reported_ticks = parts.reported_base.ticks,
      .desired = begins[1],
      .reported = begins[2],
      .roots = begins[3],
      .desired_stamps = begins[4],
      .reported_stamps = begins[5],
      .end = begins[6],
  };
  std::memcpy(block, &h, sizeof(h));
  delete[] block_;  // Last: the parts may have been in it.
  block_ = block;
}

void PackedTwin::SetBaseTicks(int64_t ticks) {
  Header& h = *reinterpret_cast<Header*>(block_);
  h.desired_ticks = ticks;
  h.reported_ticks = ticks;
}

size_t PackedTwin::MemoryUsage() const {
  return block_ == nullptr ? 0 : header().end;
}

std::string SectionWithVersion(JsonView section, int64_t version) {
  constexpr absl::string_view kVersion = "$version";
  std::string bytes;
  bytes.reserve(section.bytes().size() + kVersion.size() + 12);
  JsonBuilder builder(&bytes);
  builder.BeginObject();
  bool written = false;
  const auto write = [&] {
    builder.Key(kVersion);
    builder.Int(version);
    written = true;
  };
  for (const JsonView::Member& member : section.members()) {
    if (!written && member.key >= kVersion) write();
    if (member.key == kVersion) continue;
    builder.Key(member.key);
    builder.Value(member.value);
  }
  if (!written) write();
  builder.EndObject();
  return bytes;
}

// ----------------------------------------------------------------- reading

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
      return Invalid(name, value,
                     absl::StrCat("at most ", kTwinStatusReasonLengthMax,
                                  " characters"));
    }
  } else if (name == "statusUpdateTime") {
    if (!ParseInstant(text).has_value()) {
      return Invalid(name, value,
                     "an instant, such as 2031-03-01T22:00:00Z");
    }
  } else if (name == "authenticationType") {
    if (!IsOneOf(text, {"sas", "selfSigned", "certificateAuthority", "none"})) {
      return Invalid(name, value,
                     "sas, selfSigned, certificateAuthority or none");
    }
  }
  return absl::OkStatus();
}

// Packs what is there of kKeptRoots; empty if nothing is.
absl::StatusOr<std::string> PackRoots(JsonView document) {
  std::string bytes;
  JsonBuilder builder(&bytes);
  // Both lists ascend.
  const absl::string_view* next = std::begin(kKeptRoots);
  size_t size = 0;
  for (const JsonView::Member& member : document.members()) {
    while (next != std::end(kKeptRoots) && *next < member.key) ++next;
    if (next == std::end(kKeptRoots)) break;
    if (*next != member.key || member.value.is_null()) continue;
    absl::Status status = CheckKeptRoot(member.key, member.value);
    if (!status.ok()) return status;
    if (bytes.empty()) builder.BeginObject();
    builder.Key(member.key);
    builder.Value(member.value);
    size += member.value.bytes().size();
  }
  if (!bytes.empty()) builder.EndObject();
  // No contract bounds what the registry writes; one twin must not fill memory.
  if (size > kTwinTagsSizeMax) {
    return MakeError(
        ErrorCode::kMessageTooLarge,
        absl::StrCat("twin: the members beside tags and properties take ", size,
                     " bytes; at most ", kTwinTagsSizeMax, " are allowed"));
  }
  return bytes;
}

// "2024-03-01T12:30:45.123Z" for 3 digits.
std::string InstantWithDigits(int64_t ticks, int digits) {
  constexpr size_t kPoint = 19;  // In 2024-03-01T12:30:45.1230000Z.
  std::string text = FormatInstant(TimeFromTicks(ticks));
  text.resize(digits == 0 ? kPoint : kPoint + 1 + digits);
  text.push_back('Z');
  return text;
}

absl::Status ReadActivity(JsonView value, PackedTwin* twin) {
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
      digits < 7 &&
              InstantWithDigits(twin->last_activity_ticks,
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

absl::Status ReadConnection(JsonView value, PreparedTwin* prepared) {
  if (value.is_undefined() || value.is_null()) return absl::OkStatus();
  if (!value.is_string() ||
      !IsOneOf(value.string_value(), {"Connected", "Disconnected"})) {
    return Invalid("connectionState", value, "Connected or Disconnected");
  }
  prepared->has_connection = true;
  prepared->twin.connected = value.string_value() == "Connected";
  return absl::OkStatus();
}

absl::Status ReadVersion(JsonView value, PreparedTwin* prepared) {
  if (value.is_undefined() || value.is_null()) return absl::OkStatus();
  if (!value.is_integer() || value.int_value() < 1 ||
      value.int_value() > kTwinIntegerMax) {
    return Invalid("version", value,
                   absl::StrCat("an integer in [1, ", kTwinIntegerMax, "]"));
  }
  prepared->has_version = true;
  prepared->twin.version = value.int_value();
  return absl::OkStatus();
}

absl::Status ReadEtag(JsonView value, PreparedTwin* prepared) {
  if (!IsStringOrNull(value)) return Invalid("etag", value, "a string");
  if (!value.is_string()) return absl::OkStatus();
  if (const auto counter = ParseEtag(value.string_value())) {
    prepared->has_etag = true;
    prepared->twin.etag = *counter;
  }
  return absl::OkStatus();
}

// A section as the block has it, and the stamp that its nodes begin with.
struct Section {
  std::string bytes;
  Stamp base;
};

Section MakeSection(const Json& content, std::optional<int64_t> version) {
  const Json section = ReplaceSection(content.view());
  const int64_t v = version.value_or(1);
  // A section as every twin begins with has been touched by no version yet.
  const bool is_new = v == 1 && section == Json::EmptyObject();
  return {.bytes = SectionWithVersion(section.view(), v),
          .base = {0, is_new ? 0 : v}};
}

}  // namespace

absl::StatusOr<PreparedTwin> PrepareTwin(JsonView document) {
  absl::StatusOr<TwinPatch> content =
      ParseTwinPatch(document, PatchOrigin::kService);
  if (!content.ok()) return content.status();

  PreparedTwin prepared;
  const JsonView id = document.Find("deviceId");
  if (id.is_undefined() || id.is_null()) {
    return MakeError(ErrorCode::kArgumentNull,
                     "deviceId: missing or null; a string was expected");
  }
  if (!id.is_string()) return Invalid("deviceId", id, "a string");
  absl::Status status = ValidateDeviceId(id.string_value());
  if (!status.ok()) return status;
  prepared.device_id = CompactId(id.string_value());
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
    content->reported = std::move(patch->reported);
    content->reported_version = patch->reported_version;
  }
  absl::StatusOr<std::string> roots = PackRoots(document);
  if (!roots.ok()) return roots.status();
  PackedTwin& twin = prepared.twin;
  status.Update(ReadStatus(document.Find("status"), &twin.enabled));
  status.Update(ReadConnection(document.Find("connectionState"), &prepared));
  status.Update(ReadActivity(document.Find("lastActivityTime"), &twin));
  status.Update(ReadVersion(document.Find("version"), &prepared));
  status.Update(ReadEtag(document.Find("etag"), &prepared));
  if (!status.ok()) return status;

  prepared.has_desired_version = content->desired_version.has_value();
  prepared.has_reported_version = content->reported_version.has_value();
  const Json tags = ReplaceSection(content->tags.view());
  const Section desired =
      MakeSection(content->desired, content->desired_version);
  const Section reported_section =
      MakeSection(content->reported, content->reported_version);
  TwinParts parts;
  parts.tags = tags.bytes();
  parts.desired = desired.bytes;
  parts.reported = reported_section.bytes;
  parts.roots = *roots;
  parts.desired_base = desired.base;
  twin.SetParts(parts);
  return prepared;
}

// ---------------------------------------------------------------- document

void TwinDocument::Build(Lazy lazy, std::string* bytes) const {
  JsonBuilder b(bytes);
  switch (lazy) {
    case kId:
      return b.String(device_id_);
    case kEnabled:
      return b.String(twin_->enabled ? "enabled" : "disabled");
    case kTag:
      return b.String(EtagText(twin_->etag));
    case kNumber:
      return b.Int(twin_->version);
    case kUpdated:
      return b.String(InstantWithDigits(PackedTwin::kNeverTicks, 0));
    case kConnection:
      return b.String(twin_->connected ? "Connected" : "Disconnected");
    case kActivity:
      return b.String(InstantWithDigits(twin_->last_activity_ticks,
                                        twin_->last_activity_digits));
    case kMessages:
      return b.Int(0);
    case kDesiredStamps:
      return b.Value(twin_->desired_metadata().view());
    case kReportedStamps:
      return b.Value(twin_->reported_metadata().view());
    case kLazyCount:
      break;
  }
  MUSTER_CHECK(false && "no such root");
}

JsonView TwinDocument::Get(Root root) const {
  switch (root) {
    case Root::kDeviceId:
      return Made(kId);
    case Root::kStatus:
      return Made(kEnabled);
    case Root::kEtag:
      return Made(kTag);
    case Root::kVersion:
      return Made(kNumber);
    case Root::kConnectionState:
      return Made(kConnection);
    case Root::kLastActivityTime:
      return Made(kActivity);
    case Root::kTags:
      return twin_->tags();
    case Root::kDesired:
      return twin_->desired();
    case Root::kReported:
      return twin_->reported();
    case Root::kDesiredMetadata:
      return Made(kDesiredStamps);
    case Root::kReportedMetadata:
      return Made(kReportedStamps);
    case Root::kStatusUpdateTime: {
      const JsonView given = twin_->roots().Find("statusUpdateTime");
      return given.is_undefined() ? Made(kUpdated) : given;
    }
    case Root::kCloudToDeviceMessageCount: {
      const JsonView given = twin_->roots().Find("cloudToDeviceMessageCount");
      return given.is_undefined() ? Made(kMessages) : given;
    }
    case Root::kDeviceEtag:
    case Root::kStatusReason:
    case Root::kAuthenticationType:
    case Root::kX509Thumbprint:
    case Root::kCapabilities:
    case Root::kDeviceScope:
    case Root::kParentScopes:
    case Root::kModelId:
      return twin_->roots().Find(RootName(root));
    default:
      return JsonView();
  }
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
  bytes.reserve(twin_->MemoryUsage() * (with_metadata ? 4 : 1) + 512);
  JsonBuilder b(&bytes);
  b.BeginObject();
  for (const Root root : kRoots) {
    if (root == Root::kProperties) {
      b.Key("properties");
      b.BeginObject();
      b.Key("desired");
      WriteSection(twin_->desired(),
                   with_metadata ? Get(Root::kDesiredMetadata) : JsonView(),
                   &b);
      b.Key("reported");
      WriteSection(twin_->reported(),
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
