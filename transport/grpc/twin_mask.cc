#include "transport/grpc/twin_mask.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/types/span.h"
#include "engine/query/parse_error.h"
#include "transport/grpc/status.h"

namespace muster {
namespace {

JsonView FindPath(JsonView value, absl::Span<const std::string> path) {
  for (const std::string& key : path) value = value.Find(key);
  return value;
}

// `from` with `value` at `path`, or with nothing there if `value` is undefined
// or null; undefined if nothing is left of it.
Json WithPath(JsonView from, absl::Span<const std::string> path,
              JsonView value) {
  const bool removed = value.is_undefined() || value.is_null();
  if (path.empty()) return removed ? Json() : Json(value);
  if (removed && !from.is_object()) {
    // There is nothing to be removed.
    return Json(from);
  }
  std::string bytes;
  JsonBuilder builder(&bytes);
  builder.BeginObject();
  bool placed = false;
  const auto place = [&](JsonView old) {
    placed = true;
    const Json child = WithPath(old, path.subspan(1), value);
    if (child.is_undefined()) return;
    builder.Key(path[0]);
    builder.Value(child.view());
  };
  for (const JsonView::Member& member : from.members()) {
    if (!placed && member.key > path[0]) place(JsonView());
    if (member.key == path[0]) {
      place(member.value);
    } else {
      builder.Key(member.key);
      builder.Value(member.value);
    }
  }
  if (!placed) place(JsonView());
  builder.EndObject();
  return Json::FromBytes(std::move(bytes));
}

// A section without what the hub itself keeps in it: `$metadata`, `$version`.
Json OwnMembers(JsonView section) {
  if (!section.is_object()) return Json::EmptyObject();
  std::string bytes;
  JsonBuilder builder(&bytes);
  builder.BeginObject();
  for (const JsonView::Member& member : section.members()) {
    if (absl::StartsWith(member.key, "$")) continue;
    builder.Key(member.key);
    builder.Value(member.value);
  }
  builder.EndObject();
  return Json::FromBytes(std::move(bytes));
}

}  // namespace

absl::StatusOr<TwinMask> TwinMask::Parse(
    const google::protobuf::FieldMask& mask) {
  constexpr absl::string_view kField = "update_mask";
  if (mask.paths_size() == 0 || mask.paths_size() > kMaskPathsMax) {
    return FieldError(kField, absl::StrCat("must have 1 to ", kMaskPathsMax,
                                           " paths; got ", mask.paths_size()));
  }
  TwinMask out;
  for (const std::string& text : mask.paths()) {
    MaskPath path = absl::StrSplit(text, '.');
    const bool empty_part =
        std::find(path.begin(), path.end(), "") != path.end();
    std::vector<MaskPath>* section = nullptr;
    int root = 0;  // Parts that name the section.
    if (path[0] == "tags") {
      section = &out.tags_;
      root = 1;
    } else if (path.size() >= 2 && path[0] == "properties" &&
               path[1] == "desired") {
      section = &out.desired_;
      root = 2;
    }
    if (section == nullptr || empty_part) {
      return FieldError(
          kField, absl::StrCat("must be within tags or properties.desired, "
                               "such as \"tags.building\"; got ",
                               Quoted(text)));
    }
    path.erase(path.begin(), path.begin() + root);
    section->push_back(std::move(path));
  }
  return out;
}

bool TwinMask::whole_sections() const {
  for (const std::vector<MaskPath>* section : {&tags_, &desired_}) {
    for (const MaskPath& path : *section) {
      if (!path.empty()) return false;
    }
  }
  return true;
}

std::string TwinMask::Apply(JsonView twin, JsonView document) const {
  const auto section = [](JsonView stored, JsonView given,
                          const std::vector<MaskPath>& paths) {
    Json value = OwnMembers(stored);
    for (const MaskPath& path : paths) {
      value = WithPath(value.view(), path, FindPath(given, path));
      if (value.is_undefined()) value = Json::EmptyObject();
    }
    return value;
  };
  std::string text;
  JsonWriter writer(&text);
  writer.BeginObject();
  if (!tags_.empty()) {
    writer.Key("tags").Value(
        section(twin.Find("tags"), document.Find("tags"), tags_).view());
  }
  if (!desired_.empty()) {
    writer.Key("properties").BeginObject();
    writer.Key("desired").Value(
        section(twin.Find("properties").Find("desired"),
                document.Find("properties").Find("desired"), desired_)
            .view());
    writer.EndObject();
  }
  writer.EndObject();
  return text;
}

}  // namespace muster
