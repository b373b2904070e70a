#include "engine/query/document.h"

#include <utility>

#include "absl/strings/str_split.h"
#include "engine/model/check.h"

namespace muster {
namespace {

// By Root.
constexpr absl::string_view kRootNames[kRootCount] = {
    "",
    "deviceId",
    "moduleId",
    "status",
    "etag",
    "deviceEtag",
    "version",
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
    "modelId",
    "tags",
    "properties",
    "properties.desired",
    "properties.reported",
    "properties.desired.$metadata",
    "properties.reported.$metadata",
    "jobId",
    "jobType",
    "startTimeUtc",
    "endTimeUtc",
    "createdDateTimeUtc",
    "lastUpdatedDateTimeUtc",
    "outcome",
    "error",
};

}  // namespace

absl::string_view CollectionName(Collection collection) {
  return collection == Collection::kDevices ? "devices" : "devices.jobs";
}

absl::string_view RootName(Root root) {
  return kRootNames[static_cast<size_t>(root)];
}

bool IsDateRoot(Root root) {
  switch (root) {
    case Root::kStatusUpdateTime:
    case Root::kLastActivityTime:
    case Root::kStartTimeUtc:
    case Root::kEndTimeUtc:
    case Root::kCreatedDateTimeUtc:
    case Root::kLastUpdatedDateTimeUtc:
      return true;
    default:
      return false;
  }
}

JsonDocument::JsonDocument(Json full)
    : full_(std::make_shared<const Json>(std::move(full))) {
  for (size_t i = 1; i < kRootCount; ++i) {
    JsonView view = full_->view();
    for (const absl::string_view name : absl::StrSplit(kRootNames[i], '.')) {
      view = view.Find(name);
    }
    roots_[i] = view;
  }
}

JsonView JsonDocument::Get(Root root) const {
  MUSTER_DCHECK(root != Root::kNone && root != Root::kProperties);
  return roots_[static_cast<size_t>(root)];
}

}  // namespace muster
