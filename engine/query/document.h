// Document: what a condition reads, one row of a collection.
//
// Conditions and statements know rows by this interface only.  The twin index
// implements it over packed columns, the engine over job records, and
// JsonDocument, below, over plain JSON.
#ifndef ENGINE_QUERY_DOCUMENT_H_
#define ENGINE_QUERY_DOCUMENT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/strings/string_view.h"
#include "engine/model/json.h"

namespace muster {

enum class Collection : uint8_t {
  kDevices,     // Device twins: "devices".
  kDeviceJobs,  // The records of devices in jobs: "devices.jobs".
};

// "devices", "devices.jobs".
absl::string_view CollectionName(Collection collection);

// The members of a row at which paths begin (contract 5.5 and 3.1).
//
// A twin's two property sections are split in two, so that a row may build the
// bulky part only for the conditions that ask for it:
//
//   properties.desired.firmware               kDesired, then "firmware"
//   properties.desired.$version               kDesired, then "$version"
//   properties.desired.$metadata.firmware     kDesiredMetadata, then "firmware"
enum class Root : uint8_t {
  kNone,  // A name that the collection does not have: undefined in every row.

  // Of both collections.
  kDeviceId,
  kModuleId,
  kStatus,

  // Of devices.
  kEtag,
  kDeviceEtag,
  kVersion,
  kStatusReason,
  kStatusUpdateTime,
  kConnectionState,
  kLastActivityTime,
  kCloudToDeviceMessageCount,
  kAuthenticationType,
  kX509Thumbprint,
  kCapabilities,
  kDeviceScope,
  kParentScopes,
  kModelId,
  kTags,
  kProperties,
  kDesired,
  kReported,
  kDesiredMetadata,
  kReportedMetadata,

  // Of devices.jobs.
  kJobId,
  kJobType,
  kStartTimeUtc,
  kEndTimeUtc,
  kCreatedDateTimeUtc,
  kLastUpdatedDateTimeUtc,
  kOutcome,
  kError,
};
inline constexpr size_t kRootCount = static_cast<size_t>(Root::kError) + 1;

// The root's place in the full document, in canonical spelling, for example
// "deviceId", "properties.desired", "properties.desired.$metadata"; empty for
// kNone.
absl::string_view RootName(Root root);

// Whether the root's values are instants: strings that compare as dates where
// the other side is a date too (contract 5.6.3).
bool IsDateRoot(Root root);

// One row.  Implementations need not be thread-safe: a row is read by one
// thread at a time, and may fill in members lazily.
class Document {
 public:
  virtual ~Document() = default;

  // The value of `root` in this row, undefined if the row has none.  For
  // kDesired and kReported an object that contains "$version"; whether it
  // contains "$metadata" too does not matter, since paths to that ask for the
  // root of its own.  The view stays valid as long as the document.
  // REQUIRES: `root` is neither kNone nor kProperties.
  virtual JsonView Get(Root root) const = 0;

  // The whole row as one JSON document with canonical member names (contract
  // 6.1 for twins, 3.1 for records).  Asked for rarely: by projections of
  // `properties` or of a whole section, and for `properties` in conditions.
  virtual Json Full() const = 0;

 protected:
  Document() = default;
  Document(const Document&) = default;
  Document& operator=(const Document&) = default;
};

// A row that is given as JSON: a twin as in contract 6.1 or a record as in 3.5.
// For job records, tools and tests.  Cheap to copy: copies share the JSON.
// Safe to read from any number of threads.
class JsonDocument final : public Document {
 public:
  // An undefined or non-object `full` makes a row without members.
  explicit JsonDocument(Json full);

  JsonView Get(Root root) const override;
  Json Full() const override { return *full_; }

 private:
  std::shared_ptr<const Json> full_;
  std::array<JsonView, kRootCount> roots_;
};

}  // namespace muster

#endif  // ENGINE_QUERY_DOCUMENT_H_
