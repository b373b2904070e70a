#include "engine/query/path.h"

#include <cstddef>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/model/check.h"

namespace muster {
namespace {

struct RootEntry {
  absl::string_view name;
  Root root;
  bool of_devices;
  bool of_jobs;
};

// Names of roots and their aliases; sections of `properties` come below it.
constexpr RootEntry kRoots[] = {
    {"deviceId", Root::kDeviceId, true, true},
    {"id", Root::kDeviceId, true, true},
    {"moduleId", Root::kModuleId, true, true},
    {"status", Root::kStatus, true, true},
    {"etag", Root::kEtag, true, false},
    {"deviceEtag", Root::kDeviceEtag, true, false},
    {"version", Root::kVersion, true, false},
    {"statusReason", Root::kStatusReason, true, false},
    {"statusUpdateTime", Root::kStatusUpdateTime, true, false},
    {"connectionState", Root::kConnectionState, true, false},
    {"lastActivityTime", Root::kLastActivityTime, true, false},
    {"cloudToDeviceMessageCount", Root::kCloudToDeviceMessageCount, true,
     false},
    {"authenticationType", Root::kAuthenticationType, true, false},
    {"x509Thumbprint", Root::kX509Thumbprint, true, false},
    {"capabilities", Root::kCapabilities, true, false},
    {"deviceScope", Root::kDeviceScope, true, false},
    {"parentScopes", Root::kParentScopes, true, false},
    {"modelId", Root::kModelId, true, false},
    {"tags", Root::kTags, true, false},
    {"properties", Root::kProperties, true, false},
    {"jobId", Root::kJobId, false, true},
    {"jobType", Root::kJobType, false, true},
    {"startTimeUtc", Root::kStartTimeUtc, false, true},
    {"endTimeUtc", Root::kEndTimeUtc, false, true},
    {"createdDateTimeUtc", Root::kCreatedDateTimeUtc, false, true},
    {"createdTimeUtc", Root::kCreatedDateTimeUtc, false, true},
    {"lastUpdatedDateTimeUtc", Root::kLastUpdatedDateTimeUtc, false, true},
    {"outcome", Root::kOutcome, false, true},
    {"error", Root::kError, false, true},
};

struct FixedName {
  Root root;
  size_t depth;  // Below the root.
  absl::string_view parent;
  absl::string_view name;
};

// Members that the hub defines below its roots.
constexpr FixedName kFixedNames[] = {
    {Root::kX509Thumbprint, 0, "", "primaryThumbprint"},
    {Root::kX509Thumbprint, 0, "", "secondaryThumbprint"},
    {Root::kCapabilities, 0, "", "iotEdge"},
    {Root::kOutcome, 0, "", "deviceMethodResponse"},
    {Root::kOutcome, 1, "deviceMethodResponse", "status"},
    {Root::kOutcome, 1, "deviceMethodResponse", "payload"},
    {Root::kError, 0, "", "code"},
    {Root::kError, 0, "", "description"},
};

constexpr absl::string_view kMembersOfRecords =
    "expected a member of job records: deviceId, jobId, jobType, status, "
    "startTimeUtc, endTimeUtc, createdDateTimeUtc, lastUpdatedDateTimeUtc, "
    "outcome, error or moduleId";

// A name without regard to case.
bool Is(const WrittenStep& step, absl::string_view name) {
  return !step.step.index.has_value() &&
         absl::EqualsIgnoreCase(step.step.name, name);
}

void UseCanonicalNames(Path* path) {
  for (size_t depth = 0; depth < path->steps.size(); ++depth) {
    PathStep& step = path->steps[depth];
    if (step.index.has_value()) return;
    const FixedName* found = nullptr;
    for (const FixedName& fixed : kFixedNames) {
      if (fixed.root == path->root && fixed.depth == depth &&
          (depth == 0 || fixed.parent == path->steps[depth - 1].name) &&
          absl::EqualsIgnoreCase(fixed.name, step.name)) {
        found = &fixed;
      }
    }
    if (found == nullptr) return;  // Users' names from here on.
    step.name = std::string(found->name);
  }
}

// `written` from `begin` on: the prefix of the collection is gone.
Path WithRoot(Root root, const std::vector<WrittenStep>& written,
              size_t begin) {
  Path path;
  path.root = root;
  for (size_t i = begin; i < written.size(); ++i) {
    path.steps.push_back(written[i].step);
  }
  return path;
}

Path ResolveProperties(const std::vector<WrittenStep>& written, size_t at) {
  if (at + 1 == written.size()) return WithRoot(Root::kProperties, {}, 0);
  const bool desired = Is(written[at + 1], "desired");
  if (!desired && !Is(written[at + 1], "reported")) {
    return WithRoot(Root::kNone, written, at);  // There is nothing else there.
  }
  if (at + 2 < written.size() && !written[at + 2].step.index.has_value() &&
      written[at + 2].step.name == "$metadata") {
    return WithRoot(desired ? Root::kDesiredMetadata : Root::kReportedMetadata,
                    written, at + 3);
  }
  return WithRoot(desired ? Root::kDesired : Root::kReported, written, at + 2);
}

}  // namespace

absl::StatusOr<Path> ResolvePath(const std::vector<WrittenStep>& written,
                                 Collection collection) {
  MUSTER_CHECK(!written.empty() && !written[0].step.index.has_value());
  const bool jobs = collection == Collection::kDeviceJobs;

  size_t at = 0;  // Of the root's name.
  if (Is(written[0], "devices") && (jobs || written.size() > 1)) {
    if (jobs) {
      if (written.size() < 3 || !Is(written[1], "jobs")) {
        return MakeParseError(written[0].position,
                              "found 'devices', expected devices.jobs and a "
                              "member of job records");
      }
      at = 2;
    } else if (Is(written[1], "jobs")) {
      return MakeParseError(
          written[1].position,
          "found a member of job records, expected a member of device twins: "
          "records are found with SELECT * FROM devices.jobs");
    } else if (Is(written[1], "modules")) {
      return MakeParseError(written[1].position,
                            "found a member of module twins, which are not "
                            "supported, expected a member of device twins");
    } else if (!written[1].step.index.has_value()) {
      at = 1;
    }
  }

  const WrittenStep& first = written[at];
  const RootEntry* entry = nullptr;
  for (const RootEntry& candidate : kRoots) {
    if (Is(first, candidate.name)) entry = &candidate;
  }
  if (jobs && (entry == nullptr || !entry->of_jobs)) {
    return MakeParseError(
        first.position,
        absl::StrCat(
            "found ", Quoted(first.step.name),
            entry == nullptr ? ", " : ", which only device twins have, ",
            kMembersOfRecords));
  }
  if (entry == nullptr || (!jobs && !entry->of_devices)) {
    if (Is(first, "property") && written.size() > at + 1) {
      return MakeParseError(first.position,
                            "found 'property', expected 'properties'");
    }
    return WithRoot(Root::kNone, written, at);
  }
  if (entry->root == Root::kProperties) return ResolveProperties(written, at);
  Path path = WithRoot(entry->root, written, at + 1);
  UseCanonicalNames(&path);
  return path;
}

}  // namespace muster
