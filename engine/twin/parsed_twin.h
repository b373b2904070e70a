// ParsedTwin: a whole twin (contract 6.1) that was read and checked, but is in
// no row yet.
#ifndef ENGINE_TWIN_PARSED_TWIN_H_
#define ENGINE_TWIN_PARSED_TWIN_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/model/json.h"
#include "engine/twin/activity_time.h"

namespace muster {

// Views into the document that it came from, which must outlive it.
struct ParsedTwin {
  absl::string_view device_id;

  // Objects, or undefined.  They may still hold what no twin stores: members on
  // the top level that begin with '$', and null members of objects outside of
  // arrays.
  JsonView tags;
  JsonView desired;
  JsonView reported;
  // Bytes of each as contract 6.3 counts them, without those.
  size_t tags_size = 0;
  size_t desired_size = 0;
  size_t reported_size = 0;
  // Whether anything of desired is stored.
  bool has_desired_members = false;

  // Members beside tags and properties that are kept as they were given, in
  // ascending order of their names.
  struct Root {
    absl::string_view name;
    JsonView value;
  };
  absl::InlinedVector<Root, 4> roots;

  // nullopt if the document does not have them.  An etag that EtagText() did
  // not write, or beyond 2^63, is another hub's and counts as absent.
  std::optional<uint64_t> etag;
  std::optional<int64_t> version;
  std::optional<int64_t> desired_version;
  std::optional<int64_t> reported_version;
  std::optional<bool> connected;
  bool enabled = true;
  int64_t last_activity_ticks = kActivityNeverTicks;
  uint8_t last_activity_digits = 0;
};

// Only deviceId is required.  `$metadata` and unknown members are ignored, null
// members count as absent.  O(size of the document): about 0.7 us for a twin of
// 735 bytes of text.  Allocates nothing, but for errors and for documents with
// more than 4 `roots`.
//   ArgumentNull, ArgumentInvalid, MessageTooLarge  naming the member
absl::StatusOr<ParsedTwin> ParseTwin(JsonView document);

// What ParseTwin() checks of one of ParsedTwin::roots, but for their size.
absl::Status ValidateTwinRoot(absl::string_view name, JsonView value);

}  // namespace muster

#endif  // ENGINE_TWIN_PARSED_TWIN_H_
