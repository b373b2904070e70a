// Fuzzes what a twin and its updates are made of: JSON, patches, merges,
// stamps, and the index on top of them.
//
// The input is two JSON texts with a zero byte between them: a twin's section
// and a patch for it.  (Zero bytes occur in no JSON text.)  Whatever they are:
//
//   text      what was parsed, written and parsed again is the same
//   patch     what ParseTwinPatch() accepts keeps the limits it checks
//   index     accepts the update or changes nothing; $metadata mirrors the
//             section node for node; what it prints makes the same twin
//   merge     what an accepted update leaves is what the naive merge says, is a
//             valid section, and stays as it is if the update comes again
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/json.h"
#include "engine/model/limits.h"
#include "engine/model/twin_patch.h"
#include "engine/twin/parsed_twin.h"
#include "engine/twin/twin_document.h"
#include "engine/twin/twin_index.h"

namespace muster {
namespace {

const absl::Time kCreated = absl::FromUnixSeconds(1'900'000'000);
const absl::Time kChanged = absl::FromUnixSeconds(1'900'000'001);

// Undefined if `text` is no JSON.
Json ParseAndCheck(absl::string_view text) {
  absl::StatusOr<Json> json = ParseJson(text);
  if (!json.ok()) {
    MUSTER_CHECK(ErrorCodeOf(json.status()) == ErrorCode::kIotHubFormatError);
    return Json();
  }
  const std::string written = JsonText(json->view());
  absl::StatusOr<Json> again = ParseJson(written);
  MUSTER_CHECK(again.ok());
  // -0 and 0 are different texts of doubles, and remain so.
  MUSTER_CHECK(*again == *json);
  MUSTER_CHECK(JsonText(again->view()) == written);
  return *std::move(json);
}

// Members ascend, at every level.
void CheckOrder(JsonView value) {
  absl::string_view last;
  bool first = true;
  for (const JsonView::Member& member : value.members()) {
    MUSTER_CHECK(first || last < member.key);
    first = false;
    last = member.key;
    CheckOrder(member.value);
  }
  for (JsonView element : value.elements()) CheckOrder(element);
}

// No nulls outside of arrays, no `$` names.
void CheckStored(JsonView section) {
  for (const JsonView::Member& member : section.members()) {
    MUSTER_CHECK(!member.value.is_null());
    MUSTER_CHECK(!member.key.empty() &&
                 member.key.find('$') == absl::string_view::npos);
    CheckStored(member.value);
  }
}

// Bytes of a section, which must be one that a device may send: names, values,
// depth and size.  `$version` and `$metadata` do not count.
size_t SizeOf(JsonView section) {
  const auto read = ReadTwinPatch(section, PatchOrigin::kDevice);
  MUSTER_CHECK(read.ok());
  return read->reported.size;
}

// Contract 6.4, one look-up after the other.
void NaiveMerge(JsonView section, JsonView patch, JsonBuilder* out) {
  out->BeginObject();
  std::vector<absl::string_view> keys;
  for (const JsonView::Member& member : section.members()) {
    keys.push_back(member.key);
  }
  for (const JsonView::Member& member : patch.members()) {
    if (section.Find(member.key).is_undefined()) keys.push_back(member.key);
  }
  std::sort(keys.begin(), keys.end());
  for (const absl::string_view key : keys) {
    const JsonView before = section.Find(key);
    const JsonView change = patch.Find(key);
    if (change.is_null()) continue;
    out->Key(key);
    if (change.is_undefined()) {
      out->Value(before);
    } else if (change.is_object()) {
      const Json nothing = Json::EmptyObject();
      NaiveMerge(before.is_object() ? before : nothing.view(), change, out);
    } else {
      out->Value(change);
    }
  }
  out->EndObject();
}

// Every node of the section has its stamp, and nothing else has one.
void CheckMirror(JsonView section, JsonView metadata, bool is_section) {
  MUSTER_CHECK(metadata.Find("$lastUpdated").is_string());
  int nodes = 0;
  for (const JsonView::Member& member : section.members()) {
    if (is_section && member.key[0] == '$') continue;
    ++nodes;
    CheckMirror(member.value, metadata.Find(member.key), false);
  }
  for (const JsonView::Member& member : metadata.members()) {
    nodes -= member.key[0] != '$';
  }
  MUSTER_CHECK(nodes == 0);
}

void CheckTwin(const Json& document) {
  CheckOrder(document.view());
  const JsonView properties = document.view().Find("properties");
  for (const absl::string_view name : {"desired", "reported"}) {
    const JsonView section = properties.Find(name);
    MUSTER_CHECK(section.Find("$version").is_integer());
    CheckMirror(section, section.Find("$metadata"), true);
    MUSTER_CHECK(SizeOf(section) <= kTwinPropertiesSizeMax);
  }
  MUSTER_CHECK(SizeOf(document.view().Find("tags")) <= kTwinTagsSizeMax);
  // The text in its customary order says the same.
  std::string text;
  AppendTwinJson(document.view(), &text);
  absl::StatusOr<Json> again = ParseJson(text);
  MUSTER_CHECK(again.ok() && *again == document);
}

// {"deviceId":"d","tags":<part>,"properties":{"desired":<part>,"reported":<part>}}
Json Document(JsonView part) {
  std::string bytes;
  JsonBuilder b(&bytes);
  b.BeginObject();
  b.Key("deviceId");
  b.String("d");
  b.Key("properties");
  b.BeginObject();
  b.Key("desired");
  b.Value(part);
  b.Key("reported");
  b.Value(part);
  b.EndObject();
  const auto read = ReadTwinPatch(part, PatchOrigin::kDevice);
  if (!read.ok() || read->reported.size <= kTwinTagsSizeMax) {
    b.Key("tags");
    b.Value(part);
  }
  b.EndObject();
  return Json::FromBytes(std::move(bytes));
}

// A twin's sections, without what the hub adds to them.
struct Sections {
  Json tags, desired, reported;

  friend bool operator==(const Sections&, const Sections&) = default;
};

Json WithoutSystemMembers(JsonView section) {
  std::string bytes;
  JsonBuilder b(&bytes);
  b.BeginObject();
  for (const JsonView::Member& member : section.members()) {
    if (member.key[0] == '$') continue;
    b.Key(member.key);
    b.Value(member.value);
  }
  b.EndObject();
  return Json::FromBytes(std::move(bytes));
}

Sections SectionsOf(const TwinIndex& index) {
  const Json document = index.Get("d").value().document;
  CheckTwin(document);
  const JsonView properties = document.view().Find("properties");
  Sections sections = {
      .tags = WithoutSystemMembers(document.view().Find("tags")),
      .desired = WithoutSystemMembers(properties.Find("desired")),
      .reported = WithoutSystemMembers(properties.Find("reported"))};
  CheckStored(sections.tags.view());
  CheckStored(sections.desired.view());
  CheckStored(sections.reported.view());
  return sections;
}

// Checks that `after` is `before` with the part merged, or in its place.
void CheckPart(const Json& before, const Json& part, const Json& after,
               bool replaced) {
  if (part.is_undefined()) {
    MUSTER_CHECK(after == before);
    return;
  }
  if (part.view().is_null()) {
    MUSTER_CHECK(after == Json::EmptyObject());
    return;
  }
  const Json nothing = Json::EmptyObject();
  const Json& base = replaced ? nothing : before;
  std::string bytes;
  JsonBuilder builder(&bytes);
  NaiveMerge(base.view(), part.view(), &builder);
  MUSTER_CHECK(bytes == after.bytes());
  MUSTER_CHECK(SizeOf(after.view()) <=
               SizeOf(base.view()) + SizeOf(part.view()));
}

void CheckChange(const Sections& before, const TwinPatch& patch,
                 const Sections& after, bool replaced) {
  CheckPart(before.tags, patch.tags, after.tags, replaced);
  CheckPart(before.desired, patch.desired, after.desired, replaced);
  MUSTER_CHECK(after.reported == before.reported);
}

void CheckIndex(const Json& twin, const Json& update, const Json& report) {
  const auto index = TwinIndex::Create({.partition_count = 1}).value();
  if (!index->Upsert(twin.view(), kCreated).ok()) return;
  const TwinSnapshot created = index->Get("d").value();
  Sections before = SectionsOf(*index);

  absl::StatusOr<TwinPatch> patch =
      ParseTwinPatch(update.view(), PatchOrigin::kService);
  if (patch.ok()) {
    const auto write = index->Patch("d", *patch, "", kChanged);
    const Sections after = SectionsOf(*index);
    // The guards hold for the first time only.
    patch->desired_version.reset();
    if (write.ok()) {
      MUSTER_CHECK(write->etag == created.state.etag + 1);
      MUSTER_CHECK(write->desired_version ==
                   NextVersion(created.state.desired_version));
      CheckChange(before, *patch, after, /*replaced=*/false);
      MUSTER_CHECK(index->Patch("d", *patch, "", kChanged).ok());
      MUSTER_CHECK(SectionsOf(*index) == after);
    } else {
      MUSTER_CHECK(index->Get("d").value().document == created.document);
    }
    MUSTER_CHECK(index->Replace("d", *patch, "*", kChanged).ok());
    const Sections replaced = SectionsOf(*index);
    CheckChange(after, *patch, replaced, /*replaced=*/true);
    before = replaced;
  }
  absl::StatusOr<TwinPatch> reported =
      ParseTwinPatch(report.view(), PatchOrigin::kDevice);
  if (reported.ok()) {
    const bool accepted = index->PatchReported("d", *reported, kChanged).ok();
    const Sections after = SectionsOf(*index);
    MUSTER_CHECK(after.tags == before.tags && after.desired == before.desired);
    if (accepted) {
      CheckPart(before.reported, reported->reported, after.reported,
                /*replaced=*/false);
      reported->reported_version.reset();
      MUSTER_CHECK(index->PatchReported("d", *reported, kChanged).ok());
    }
    MUSTER_CHECK(SectionsOf(*index) == (accepted ? after : before));
  }
  // What the index prints makes the same twin, but for $metadata.
  const TwinSnapshot last = index->Get("d").value();
  const auto copy = TwinIndex::Create({.partition_count = 1}).value();
  const auto write = copy->Upsert(last.document.view(), kCreated);
  MUSTER_CHECK(write.ok() && *write == last.state);
}

void Fuzz(absl::string_view input) {
  const size_t cut = std::min(input.find('\0'), input.size());
  const Json first = ParseAndCheck(input.substr(0, cut));
  const Json second =
      ParseAndCheck(input.substr(std::min(cut + 1, input.size())));
  for (const PatchOrigin origin :
       {PatchOrigin::kService, PatchOrigin::kJob, PatchOrigin::kDevice}) {
    (void)ParseTwinPatch(first.view(), origin);
    (void)ParseTwinPatch(second.view(), origin);
  }
  (void)ParseTwin(first.view());
  if (first.is_undefined() || second.is_undefined()) return;
  CheckIndex(Document(first.view()), Document(second.view()), second);
}

}  // namespace
}  // namespace muster

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  muster::Fuzz(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
