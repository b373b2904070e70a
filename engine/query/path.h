// Which member of a row does a written path mean?  (Contract 5.5.)
//
//   written                                   on devices
//   deviceId, DEVICEID, devices.deviceId, id  kDeviceId
//   tags.Region                               kTags, "Region"
//   Properties.Desired.firmware               kDesired, "firmware"
//   properties.desired.$metadata.firmware     kDesiredMetadata, "firmware"
//   capabilities.IOTEDGE                      kCapabilities, "iotEdge"
//   region                                    kNone: undefined in every row
//   property.desired.x                        refused: an old misprint
//   devices.jobs.status                       refused: use FROM devices.jobs
//
//   written                                   on devices.jobs
//   status, devices.jobs.status               kStatus
//   createdTimeUtc                            kCreatedDateTimeUtc
//   tags.region, anything else                refused: records have no such
//   member
//
// Names that the hub defines are matched whatever their case; names that users
// chose, below tags, desired, reported and a method's payload, are not touched.
#ifndef ENGINE_QUERY_PATH_H_
#define ENGINE_QUERY_PATH_H_

#include <vector>

#include "absl/status/statusor.h"
#include "engine/query/ast.h"
#include "engine/query/document.h"
#include "engine/query/parse_error.h"

namespace muster {

struct WrittenStep {
  PathStep step;
  SourcePosition position;
};

// Parse errors as the table above says.
// REQUIRES: `written` is not empty and begins with a name.
absl::StatusOr<Path> ResolvePath(const std::vector<WrittenStep>& written,
                                 Collection collection);

}  // namespace muster

#endif  // ENGINE_QUERY_PATH_H_
