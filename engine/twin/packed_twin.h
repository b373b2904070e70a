// PackedTwin: one device twin, in as few bytes as can still be read in place.
//
// What changes often or is read often stands in the object itself; the sections
// stand one behind the other in a single heap block, as packed JSON:
//
//   object   block, etag, version, last activity, flags
//   block    base stamps, offsets; tags, desired, reported, other roots,
//            stamps of desired, stamps of reported
//
// A write makes a new block.  The benchmark fleet's twins, 735 bytes of JSON,
// take about 660 bytes so; a twin with an id and one tag less than 200.
#ifndef ENGINE_TWIN_PACKED_TWIN_H_
#define ENGINE_TWIN_PACKED_TWIN_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/model/json.h"
#include "engine/model/limits.h"
#include "engine/query/document.h"
#include "engine/twin/compact_id.h"
#include "engine/twin/stamps.h"

namespace muster {

// The version after `version`.  Stays at the largest that a document may have:
// no hub counts that far, but a document may begin there, and what the index
// prints must be a twin.
inline int64_t NextVersion(int64_t version) {
  return version < kTwinIntegerMax ? version + 1 : version;
}

// What a block is made of.  Views of somebody else's bytes.
struct TwinParts {
  // Packed objects; desired and reported contain `$version`.
  absl::string_view tags, desired, reported;
  // A packed object of the members that are kept as they were given
  // (deviceEtag, statusReason, capabilities, ...), or empty.
  absl::string_view roots;
  Stamp desired_base, reported_base;
  // Overlays: stamps.h.
  absl::string_view desired_stamps, reported_stamps;
};

class PackedTwin {
 public:
  // Nothing: not even empty sections.
  PackedTwin() = default;
  PackedTwin(PackedTwin&& other) noexcept { *this = std::move(other); }
  PackedTwin& operator=(PackedTwin&& other) noexcept;
  ~PackedTwin() { delete[] block_; }

  bool is_empty() const { return block_ == nullptr; }

  // REQUIRES for all below: !is_empty().  Views are valid until SetParts().
  JsonView tags() const;
  JsonView desired() const;
  JsonView reported() const;
  JsonView roots() const;  // Undefined if there are none.
  int64_t desired_version() const;
  int64_t reported_version() const;
  Json desired_metadata() const;
  Json reported_metadata() const;

  TwinParts parts() const;
  // May be called with views of this twin's own block.
  void SetParts(const TwinParts& parts);
  // Moves both base stamps: for a twin that was prepared before its time.
  void SetBaseTicks(int64_t ticks);

  // Tells the processor that sections will be read soon.
  void Prefetch() const {
    // By numbers: an empty twin has no block, and a null pointer no next byte.
    const uintptr_t block = reinterpret_cast<uintptr_t>(block_);
    __builtin_prefetch(reinterpret_cast<const void*>(block));
    __builtin_prefetch(reinterpret_cast<const void*>(block + 64));
  }

  // Heap bytes.
  size_t MemoryUsage() const;

  // Behind the etag's text.
  uint64_t etag = 1;
  int64_t version = 1;
  int64_t last_activity_ticks = kNeverTicks;
  // Digits of its fraction of a second as it was given, so that it reads back
  // the same.
  uint8_t last_activity_digits = 0;
  bool connected = false;
  bool enabled = true;

  // 0001-01-01T00:00:00Z, which the hub writes for "never".
  static constexpr int64_t kNeverTicks = -621'355'968'000'000'000;

 private:
  struct Header;
  const Header& header() const;
  JsonView SectionAt(uint32_t offset) const {
    return JsonView::FromEncoded(block_ + offset);
  }

  char* block_ = nullptr;
};

// The bytes of `section` (an object, or undefined for an empty one) with this
// `$version` in its place.
std::string SectionWithVersion(JsonView section, int64_t version);

// A twin that was read from a document but is in no row yet.  Its base stamps
// have no instant: PackedTwin::SetBaseTicks().
struct PreparedTwin {
  CompactId device_id;
  PackedTwin twin;
  // Whether the document had them; if not, they are as in a new twin.
  bool has_etag = false;
  bool has_version = false;
  bool has_desired_version = false;
  bool has_reported_version = false;
  bool has_connection = false;
};

// Reads a whole twin (contract 6.1).  Only deviceId is required.  `$metadata`
// and unknown members are ignored, null members count as absent.  An etag that
// EtagText() did not write counts as absent too: it is another hub's.
//   ArgumentNull, ArgumentInvalid, MessageTooLarge  naming the member
absl::StatusOr<PreparedTwin> PrepareTwin(JsonView document);

// A row of the collection `devices`: what conditions and statements read.
// Reusable for many rows, one after the other, without allocating for each.
class TwinDocument final : public Document {
 public:
  TwinDocument() = default;

  // Makes it the row of `twin`; views got so far are void.  Both arguments must
  // outlive the document's use.
  void Reset(absl::string_view device_id, const PackedTwin* twin) {
    device_id_ = device_id;
    twin_ = twin;
    built_ = 0;
  }

  JsonView Get(Root root) const override;
  // With `$metadata`.
  Json Full() const override { return Full(/*with_metadata=*/true); }
  Json Full(bool with_metadata) const;

 private:
  // Roots that are made when they are asked for.
  enum Lazy {
    kId,
    kEnabled,
    kTag,
    kNumber,
    kUpdated,
    kConnection,
    kActivity,
    kMessages,
    kDesiredStamps,
    kReportedStamps,
    kLazyCount
  };
  void Build(Lazy lazy, std::string* bytes) const;
  JsonView Made(Lazy lazy) const {
    if ((built_ >> lazy & 1) == 0) {
      lazy_[lazy].clear();
      Build(lazy, &lazy_[lazy]);
      built_ |= 1u << lazy;
    }
    return JsonView::FromEncoded(lazy_[lazy].data());
  }

  absl::string_view device_id_;
  const PackedTwin* twin_ = nullptr;
  mutable uint32_t built_ = 0;
  mutable std::array<std::string, kLazyCount> lazy_;
};

// Appends a twin document as JSON text with its members in the customary order:
// deviceId, etag, version, ..., tags, properties with desired before reported,
// and in those `$metadata` and `$version` last.  Members that are not a twin's
// come behind the others.  REQUIRES: an object.
void AppendTwinJson(JsonView document, std::string* out);

}  // namespace muster

#endif  // ENGINE_TWIN_PACKED_TWIN_H_
