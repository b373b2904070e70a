// Shard: up to 16,384 rows of one partition's twins, in columns.
//
// One mutex per shard guards its rows and, in dispatch/, the state of every
// running job over them: choosing a device and marking its execution are one
// step.  A match holds it for about a microsecond per predicate, a write for
// one row.
//
// What a twin's sections hold stands in a PropertyTree, what the hub counts and
// stamps in columns beside it; a document is put together from both when
// somebody asks for it (twin_document.h).
//
// Rows are re-used once their device is erased.  A job that was cut (evaluated)
// at sequence s means, by row r, the device that was there at s.  Whether that
// device is still there, and what it was called, follows from the row's arrival
// sequence and a list of former tenants:
//
//   sequence   3          8       9           cut = 5: row 7 is "a", now gone
//   row 7      a arrives  a gone  b arrives   cut = 9: row 7 is "b"
//
// Former tenants are kept as long as a retained cut could name them.
#ifndef ENGINE_TWIN_SHARD_H_
#define ENGINE_TWIN_SHARD_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/model/check.h"
#include "engine/model/identity.h"
#include "engine/model/json.h"
#include "engine/model/limits.h"
#include "engine/model/twin_patch.h"
#include "engine/query/condition.h"
#include "engine/twin/columns/code_array.h"
#include "engine/twin/columns/int_column.h"
#include "engine/twin/columns/row_set.h"
#include "engine/twin/compact_id.h"
#include "engine/twin/match/cells.h"
#include "engine/twin/parsed_twin.h"
#include "engine/twin/property_tree.h"
#include "engine/twin/stamp.h"

namespace muster {

// Paths that the twins of one shard may have among them, in all sections: 4 for
// each row.  A path costs about 400 bytes beside its values, and whatever
// concerns a whole twin looks at every path beside its own: 0.1 us each, so
// that at the limit reading or erasing a twin takes some milliseconds.  Names
// that are values (a tag named by a serial number) are what leads there.
//
// At the limit a shard takes no new twins, and refuses writes that would make
// paths; one write may go beyond it.
inline constexpr int kShardPathsMax = 4 * kShardRowsMax;

// The version after `version`.  Stays at the largest that a document may have:
// no hub counts that far, but a document may begin there, and what the index
// prints must be a twin.
inline int64_t NextVersion(int64_t version) {
  return version < kTwinIntegerMax ? version + 1 : version;
}

// What a write left behind.
struct TwinWrite {
  uint64_t etag = 0;            // Counter behind the etag's text.
  int64_t version = 0;          // Of tags and desired together.
  int64_t desired_version = 0;  // `$version`s.
  int64_t reported_version = 0;
  bool connected = false;
  bool enabled = true;

  friend bool operator==(const TwinWrite&, const TwinWrite&) = default;
};

struct TwinLocation {
  int shard = 0;
  int row = 0;

  friend bool operator==(const TwinLocation&, const TwinLocation&) = default;
};

// Devices outside of which no twin satisfies a condition, and where they were
// found.
struct TwinCandidates {
  struct Twin {
    TwinLocation at;
    std::string id;
  };
  std::vector<Twin> twins;  // By shard and row.
  // Whether all of them satisfy it.
  bool exact = false;
};

class Shard final : public CellSource {
 public:
  Shard() = default;

  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;

  int partition() const { return partition_; }
  int number() const { return number_; }  // In its partition.
  int index() const { return index_; }    // Over the whole TwinIndex.

  // Public: dispatch/ guards its own state by it.  Comes behind the mutex of a
  // partition's id table: whoever holds it must not call the TwinIndex.
  mutable absl::Mutex mutex;

  // Twins.
  int size() const ABSL_SHARED_LOCKS_REQUIRED(mutex) {
    return row_count_ - static_cast<int>(free_rows_.size());
  }
  // Grows with every write to the shard.  A cut is the value at evaluation.
  uint64_t sequence() const ABSL_SHARED_LOCKS_REQUIRED(mutex) {
    return sequence_;
  }
  // Makes it grow by one more, for what dispatch/ does to its own state over
  // the rows; returns it.
  uint64_t AdvanceSequence() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return ++sequence_;
  }

  // True if `row` still is the device that it was at `cut`: false if it was
  // erased since, also if another or the same device has come to the row.
  bool IsPresent(int row, uint64_t cut) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex) {
    return row < row_count_ && in_use_.Test(row) &&
           static_cast<uint64_t>(arrivals_.Get(row)) <= cut;
  }
  // What `row` was called at `cut`, erased since or not.  Valid while the lock
  // is held.  O(1) for a device that is still there, else O(log former
  // tenants).  REQUIRES: the row was in use at `cut`, and `cut` is retained.
  absl::string_view DeviceIdAt(int row, uint64_t cut) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex);
  // Whether that is so.
  bool HadDeviceAt(int row, uint64_t cut) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex);
  // The row that was the device's at `cut`, if it was erased since; else -1.
  // O(former tenants).
  int FormerRowOf(absl::string_view device_id, uint64_t cut) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex);
  // Cuts below `cut` will not be asked for again: forgets former tenants.
  // O(former tenants).  Every erased device leaves one (about 50 bytes), so it
  // should be called now and then, with sequence() if there is no cut.
  void RetainCutsFrom(uint64_t cut) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

  // REQUIRES for all below: the row is in use.
  bool IsConnected(int row) const ABSL_SHARED_LOCKS_REQUIRED(mutex) {
    return connected_.Test(Used(row));
  }
  bool IsEnabled(int row) const ABSL_SHARED_LOCKS_REQUIRED(mutex) {
    return enabled_.Test(Used(row));
  }
  // Whether a transport has reported a connection that stands: the device is
  // connected, or would be if it were not disabled.  In memory only.
  bool HasConnection(int row) const ABSL_SHARED_LOCKS_REQUIRED(mutex) {
    return connected_.Test(Used(row)) || kept_back_.Test(row);
  }
  // The transport's number of the device's connection (ConnectionChange::link);
  // 0 if it gave none, or there is no connection.  In memory only.
  uint64_t LinkOf(int row) const ABSL_SHARED_LOCKS_REQUIRED(mutex) {
    const size_t at = static_cast<size_t>(Used(row));
    return at < links_.size() ? links_[at] : 0;
  }
  const RowBitmap& rows_connected() const ABSL_SHARED_LOCKS_REQUIRED(mutex) {
    return connected_;
  }
  // Valid while the lock is held.
  absl::string_view DeviceId(int row) const ABSL_SHARED_LOCKS_REQUIRED(mutex) {
    return IdAt(Used(row)).view();
  }
  // Whether the registry has written the device.
  bool HasIdentity(int row) const ABSL_SHARED_LOCKS_REQUIRED(mutex);
  // The device as the registry knows it; of one that it has not written, as far
  // as the twin tells: without keys.
  DeviceIdentity IdentityOf(int row) const ABSL_SHARED_LOCKS_REQUIRED(mutex);
  // The etag of an identity after `etag`, its current one.
  static std::string NextDeviceEtag(absl::string_view etag);
  // What a write that changed nothing would have returned.
  TwinWrite StateOf(int row) const ABSL_SHARED_LOCKS_REQUIRED(mutex);

  // Applies a parsed and validated patch (tags and desired) to one row, as one
  // step: all of it or, on an error, nothing.  A patch with neither changes
  // nothing at all.
  //   MessageTooLarge      the merged section would be too large
  //   PreconditionFailed   patch.desired_version is not current
  //   RESOURCE_EXHAUSTED   it makes paths, and there are kShardPathsMax
  // For jobs: does not call the TwinObserver.  A job journals its patch once
  // and the ranges of rows that it went to, not a change per twin.
  absl::StatusOr<TwinWrite> ApplyPatch(int row, const TwinPatch& patch,
                                       absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return Change(row, patch, /*replace=*/false, now);
  }
  // ApplyPatch() of each of the rows, with what that leaves behind and the same
  // errors, but by columns: about 20 ns a row if the rows have the same shape.
  // Returns the rows that refused, in ascending order.
  struct RowError {
    int row;
    absl::Status status;
  };
  std::vector<RowError> ApplyPatch(RowSpan rows, const TwinPatch& patch,
                                   absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

  // Sets the bits of those candidates, all of this shard, that still are there
  // and satisfy the condition, which they are the candidates of; clears all
  // others.  (For all rows of a shard: Matcher.)
  void MatchCandidates(const Condition& condition,
                       absl::Span<const TwinCandidates::Twin> candidates,
                       bool exact, RowBitmap* rows) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex);

  // CellSource, for matchers.  REQUIRES for all: the lock is held.
  const RowBitmap& rows_in_use() const override ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return in_use_;
  }
  int row_count() const override ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return row_count_;
  }
  Cells FindCells(const Path& path) const override;
  int64_t TicksAt(const Cells& cells, int row) const override;
  JsonView ValueAt(const Cells& cells, int row,
                   std::string* buffer) const override;

 private:
  friend class JsonLinesLoader;
  friend class ShardReplay;
  friend class ShardSnapshot;
  friend class TwinDocument;
  friend class TwinIndex;

  static constexpr int kIdChunkRows = 256;
  using IdChunk = std::array<CompactId, kIdChunkRows>;

  struct FormerTenant {
    uint64_t gone;  // Sequence of the write that erased it.
    CompactId id;
  };

  // What a row's versions are to be.
  struct Versions {
    uint64_t etag = 1;
    int64_t version = 1;
    int64_t desired = 1;
    int64_t desired_base = 0;  // `$lastUpdatedVersion` of every node; 0: none.
    int64_t reported = 1;
  };

  // Ids are written, and their chunks appear, with the id table's mutex and
  // ours both held, so that either is enough to read.
  CompactId& IdAt(int row) {
    return (*ids_[row / kIdChunkRows])[row % kIdChunkRows];
  }
  const CompactId& IdAt(int row) const {
    return (*ids_[row / kIdChunkRows])[row % kIdChunkRows];
  }
  // The id, read under either mutex; empty if the row is free.
  absl::string_view IdForTable(int row) const { return IdAt(row).view(); }

  int Used(int row) const ABSL_SHARED_LOCKS_REQUIRED(mutex) {
    MUSTER_DCHECK(0 <= row && row < row_count_ && in_use_.Test(row));
    return row;
  }

  // Says where the shard is.  Once, before anybody else sees it.
  void Place(int partition, int number, int index) {
    partition_ = partition;
    number_ = number;
    index_ = index;
  }

  bool has_room() const ABSL_SHARED_LOCKS_REQUIRED(mutex) {
    return size() < kShardRowsMax && tree_.node_count() < kShardPathsMax;
  }
  // RESOURCE_EXHAUSTED if `part` (anything) has paths that are new to the
  // shard, which has as many as it may.
  absl::Status CheckPaths(PropertyTree::Section section, JsonView part)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  absl::Status CheckPaths(const ParsedTwin& twin)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

  // Each grows the sequence by one.  What can fail leaves the row as it was.
  // Returns the row.  REQUIRES: size() < kShardRowsMax.
  int Insert(const ParsedTwin& twin, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void Erase(int row) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  // Puts a twin in the place of the row's.  What it did not give: versions and
  // etag go on counting, the connection stays; one that has a link stays
  // whatever the twin says of it.  So does what the registry has written.
  void Overwrite(int row, const ParsedTwin& twin, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  absl::StatusOr<TwinWrite> Replace(int row, const TwinPatch& patch,
                                    absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return Change(row, patch, /*replace=*/true, now);
  }
  absl::StatusOr<TwinWrite> PatchReported(int row, const TwinPatch& patch,
                                          absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  // Takes the registry's part from `identity` (ParseIdentityDocument()).
  void PutIdentity(int row, const ParsedTwin& identity, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  // Of a device that the registry has written, its etag changes too.
  void SetEnabled(int row, bool enabled, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void SetConnected(int row, bool connected, uint64_t link, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void SetLink(int row, uint64_t link) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void SetConnectionTime(int row, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  // Keeps the connection of a device that is disabled back, and lets it count
  // once the device is enabled: after `status` may have changed.
  void FollowStatus(int row, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

  // Makes every node of every twin one that was touched at `now`.
  // REQUIRES: no twin was updated since it was inserted.
  void SetBaseTime(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  // Everything as small as it can be.  Takes milliseconds.
  void Compact() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

  absl::StatusOr<TwinWrite> Change(int row, const TwinPatch& patch,
                                   bool replace, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  // Rows that the columns have room for.
  void Grow(int rows) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  // Puts a twin into a row whose sections are empty.
  void Fill(int row, const ParsedTwin& twin, const Versions& versions,
            bool connected, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  // MessageTooLarge if `part` (null or an object) would make the section larger
  // than it may be.
  absl::Status CheckSize(PropertyTree::Section section, int row, JsonView part,
                         bool replace) const ABSL_SHARED_LOCKS_REQUIRED(mutex);
  // The row's kRegistryRoots, as far as there are any, as an object.
  Json RegistryRoots(int row) const ABSL_SHARED_LOCKS_REQUIRED(mutex);
  // `twin` with the row's status and these in the place of its own.  Views into
  // both.
  ParsedTwin WithIdentity(int row, const ParsedTwin& twin,
                          JsonView registry_roots) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex);
  // Merges or replaces a section.
  void Update(PropertyTree::Section section, int row, JsonView part,
              bool replace, const Stamp& stamp)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  // Adds those of the rows for which CheckSize() is not clear at a glance.
  void FindNearlyFull(PropertyTree::Section section, RowSpan rows,
                      JsonView part, RowBitmap* full) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex);
  // Merges an object into rows that are not odd (PropertyTree::FindOdd()).
  // `versions` are those of the stamps, by index into rows.
  void UpdateRows(PropertyTree::Section section, RowSpan rows, JsonView part,
                  int64_t ticks, absl::Span<const int64_t> versions)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  Stamp BaseStamp(PropertyTree::Section section, int row) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex);
  // All columns that are no part of the tree.
  template <typename Self, typename Function>
  static void ForEachSystemColumn(Self& self, Function fn);

  Cells FindInTree(const PropertyTree::Node& root, const Path& path) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex);
  Cells FindInMetadata(PropertyTree::Section section, const Path& path) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex);

  // Of the node whose `$metadata` the cells are; nullopt if the row has none.
  std::optional<Stamp> StampAt(const Cells& cells, int row) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex);

  // Heap bytes.
  size_t MemoryUsage() const ABSL_SHARED_LOCKS_REQUIRED(mutex);

  // Whether the partition has it among those with room.  Guarded by the
  // partition's mutex.
  bool is_listed_with_room_ = false;

  // By Place().
  int partition_ = -1;
  int number_ = -1;
  int index_ = -1;

  // See IdAt().
  std::array<std::unique_ptr<IdChunk>, kShardRowsMax / kIdChunkRows> ids_;

  // Rows in use or freed; row numbers are below it.
  int row_count_ ABSL_GUARDED_BY(mutex) = 0;
  int capacity_ ABSL_GUARDED_BY(mutex) = 0;  // Rows of every column.
  std::vector<uint16_t> free_rows_ ABSL_GUARDED_BY(mutex);
  uint64_t sequence_ ABSL_GUARDED_BY(mutex) = 0;
  size_t long_id_bytes_ ABSL_GUARDED_BY(mutex) = 0;

  RowBitmap in_use_ ABSL_GUARDED_BY(mutex);
  RowBitmap connected_ ABSL_GUARDED_BY(mutex);
  RowBitmap enabled_ ABSL_GUARDED_BY(mutex);
  // By row, as far as they go; 0 beyond.  Empty before the first that is not 0.
  std::vector<uint64_t> links_ ABSL_GUARDED_BY(mutex);
  // Disabled devices whose connection does not count meanwhile.
  RowBitmap kept_back_ ABSL_GUARDED_BY(mutex);
  // When connectionState last changed by a connection: as links_.
  std::vector<int64_t> connection_ticks_ ABSL_GUARDED_BY(mutex);

  IntColumn arrivals_ ABSL_GUARDED_BY(mutex);
  IntColumn etags_ ABSL_GUARDED_BY(mutex);
  IntColumn versions_ ABSL_GUARDED_BY(mutex);
  IntColumn desired_versions_ ABSL_GUARDED_BY(mutex);
  IntColumn reported_versions_ ABSL_GUARDED_BY(mutex);
  IntColumn activity_ticks_ ABSL_GUARDED_BY(mutex);
  // Digits of its fraction of a second, as it was given.
  IntColumn activity_digits_ ABSL_GUARDED_BY(mutex);
  // Stamps of every node that has none of its own.
  IntColumn desired_base_ticks_ ABSL_GUARDED_BY(mutex);
  IntColumn desired_base_versions_ ABSL_GUARDED_BY(mutex);
  IntColumn reported_base_ticks_ ABSL_GUARDED_BY(mutex);
  // By PropertyTree::Section; bytes, as contract 6.3 counts them.
  std::array<IntColumn, 3> sizes_ ABSL_GUARDED_BY(mutex);
  PropertyTree tree_ ABSL_GUARDED_BY(mutex);

  // By row and arrival.
  absl::btree_map<std::pair<uint16_t, uint64_t>, FormerTenant> former_tenants_
      ABSL_GUARDED_BY(mutex);
  uint64_t retained_from_ ABSL_GUARDED_BY(mutex) = 0;
};

template <typename Self, typename Function>
void Shard::ForEachSystemColumn(Self& self, Function fn) {
  self.mutex.AssertReaderHeld();
  for (auto* column :
       {&self.arrivals_, &self.etags_, &self.versions_, &self.desired_versions_,
        &self.reported_versions_, &self.activity_ticks_, &self.activity_digits_,
        &self.desired_base_ticks_, &self.desired_base_versions_,
        &self.reported_base_ticks_, &self.sizes_[0], &self.sizes_[1],
        &self.sizes_[2]}) {
    fn(*column);
  }
}

}  // namespace muster

#endif  // ENGINE_TWIN_SHARD_H_
