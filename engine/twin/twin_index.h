// TwinIndex: all device twins, in shards.
//
// A device's partition follows from a hash of its id and never changes; within
// the partition it lives in one row of one shard until it is erased.  Shards are
// added as the fleet grows and never go away.
//
// Thread-safe.  Writes lock the partition's id table and then one shard; reads
// of one twin the same; Query() one shard after the other.  Instants are passed
// in: the index reads no clock.
#ifndef ENGINE_TWIN_TWIN_INDEX_H_
#define ENGINE_TWIN_TWIN_INDEX_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/model/json.h"
#include "engine/model/twin_patch.h"
#include "engine/query/statement.h"
#include "engine/twin/shard.h"

namespace muster {

// A write, as its observer sees it.  Valid during the call only.
struct TwinChange {
  enum class Kind : uint8_t {
    kUpserted,   // `document` is the whole twin as given.
    kPatched,    // `patch`: tags and desired merged (or replaced: kReplaced).
    kReplaced,
    kReported,   // `patch`: reported merged.
    kErased,
    kConnected,     // The connection came ...
    kDisconnected,  // ... or went.
  };
  Kind kind;
  int partition = 0;
  int shard = 0;
  int row = 0;
  absl::string_view device_id;
  JsonView document;
  const TwinPatch* patch = nullptr;
  TwinWrite after;
  absl::Time time;
};

// Called for every write that took effect, with the shard's lock held, in the
// order of the writes to that shard.  Must not call back into the index.
class TwinObserver {
 public:
  virtual ~TwinObserver() = default;
  virtual void OnTwinChange(const TwinChange& change) = 0;
};

// A twin as it stood at one instant.
struct TwinSnapshot {
  std::string device_id;
  std::string etag;  // Text, without quotes.
  TwinWrite state;
  Json document;  // The whole twin: contract 6.1.
};

struct TwinPage {
  std::vector<std::string> rows;  // JSON text each.
  std::string item_type;          // "Twin" or "Raw".
  std::string continuation;       // Empty: no more rows.
};

struct TwinLocation {
  int shard = 0;
  int row = 0;
};

class TwinIndex {
 public:
  struct Options {
    int partition_count = 16;                // In [1, 256].
    int64_t twin_count_max = 100'000'000;    // Upsert() refuses beyond this.
    TwinObserver* observer = nullptr;        // Not owned; may be null.
  };

  // INVALID_ARGUMENT if an option is outside the range stated above.
  static absl::StatusOr<std::unique_ptr<TwinIndex>> Create(
      const Options& options);

  // Adds the twin, or puts it in the place of the one with its deviceId, whole:
  // roots, tags, desired, reported.  `document` is a twin as contract 6.1 has
  // it; only deviceId is required.  version, etag and `$version`s are taken
  // from the document where they are there, `$metadata` is made anew.
  //   ArgumentNull/-Invalid, MessageTooLarge  naming the member
  //   RESOURCE_EXHAUSTED (ThrottlingException's family) at twin_count_max
  absl::StatusOr<TwinWrite> Upsert(JsonView document, absl::Time now);

  // Merges tags and desired.  `if_match`: "" or any spelling of contract 6.7.
  //   DeviceNotFound, PreconditionFailed, ArgumentInvalid, MessageTooLarge
  absl::StatusOr<TwinWrite> Patch(absl::string_view device_id,
                                  const TwinPatch& patch,
                                  absl::string_view if_match, absl::Time now);
  // Puts the sections that `patch` has in the place of the stored ones.
  absl::StatusOr<TwinWrite> Replace(absl::string_view device_id,
                                    const TwinPatch& patch,
                                    absl::string_view if_match, absl::Time now);
  // Merges reported, as the device does.
  absl::StatusOr<TwinWrite> PatchReported(absl::string_view device_id,
                                          const TwinPatch& patch,
                                          absl::Time now);
  // DeviceNotFound.
  absl::Status Erase(absl::string_view device_id, absl::Time now);
  // status enabled or disabled.  DeviceNotFound.
  absl::Status SetEnabled(absl::string_view device_id, bool enabled,
                          absl::Time now);
  // Sets connectionState and lastActivityTime.  nullopt if there is no such
  // device or nothing changed; else where it lives.
  std::optional<TwinLocation> SetConnected(absl::string_view device_id,
                                           bool connected, absl::Time now);

  // DeviceNotFound.
  absl::StatusOr<TwinSnapshot> Get(absl::string_view device_id) const;
  std::optional<TwinLocation> Find(absl::string_view device_id) const;

  // Answers one page of a statement on `devices`, rows in ascending order of
  // deviceId.  page_size in [1, 1'000'000]; a page may hold fewer rows than
  // asked for although more follow.  `continuation`: empty, or the last page's.
  //   ArgumentInvalid   a damaged or foreign continuation; a statement on
  //                     another collection
  absl::StatusOr<TwinPage> Query(const Statement& statement, int page_size,
                                 absl::string_view continuation) const;

  int64_t size() const;

  // Shards so far; they only grow.  shard(i) is valid as long as the index.
  int shard_count() const;
  Shard& shard(int index) const;

  // Heap bytes, about.
  int64_t MemoryUsage() const;
};

}  // namespace muster

#endif  // ENGINE_TWIN_TWIN_INDEX_H_
