// Shard: up to 16,384 rows of one partition's twins.
//
// One mutex per shard guards its rows and, in dispatch/, the state of every
// running job over them: choosing a device and marking its execution are one
// step.  A match holds it for a scan of the shard, a write for one row.
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
//
// A row is one cache line (shard.h's Row) and one heap block (packed_twin.h);
// rows come in chunks that never move, and the whole shard is made of nothing
// else but a few words.
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
#include "engine/model/check.h"
#include "engine/model/json.h"
#include "engine/model/twin_patch.h"
#include "engine/query/condition.h"
#include "engine/query/document.h"
#include "engine/twin/compact_id.h"
#include "engine/twin/packed_twin.h"
#include "engine/twin/row_set.h"

namespace muster {

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

class Shard {
 public:
  // `index` over the whole TwinIndex.
  Shard(int partition, int index) : partition_(partition), index_(index) {}

  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;

  int partition() const { return partition_; }
  int index() const { return index_; }

  // Public: dispatch/ guards its own state by it.  Comes behind the mutex of a
  // partition's id table: whoever holds it must not call the TwinIndex.
  mutable absl::Mutex mutex;

  // Rows in use or freed; row numbers are below it.
  int row_count() const ABSL_SHARED_LOCKS_REQUIRED(mutex) { return row_count_; }
  // Twins.
  int size() const ABSL_SHARED_LOCKS_REQUIRED(mutex) {
    return row_count_ - static_cast<int>(free_rows_.size());
  }
  // Grows with every write to the shard.  A cut is the value at evaluation.
  uint64_t sequence() const ABSL_SHARED_LOCKS_REQUIRED(mutex) {
    return sequence_;
  }

  // True if `row` still is the device that it was at `cut`: false if it was
  // erased since, also if another or the same device has come to the row.
  bool IsPresent(int row, uint64_t cut) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex) {
    if (row >= row_count_) return false;
    const Row& r = At(row);
    return r.in_use() && r.arrival <= cut;
  }
  // What `row` was called at `cut`, erased since or not.  Valid while the lock
  // is held.  O(1) for a device that is still there, else O(log former
  // tenants).  REQUIRES: the row was in use at `cut`, and `cut` is retained.
  absl::string_view DeviceIdAt(int row, uint64_t cut) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex);
  // Cuts below `cut` will not be asked for again: forgets former tenants.
  // O(former tenants).  Every erased device leaves one (about 50 bytes), so it
  // should be called now and then, with sequence() if there is no cut.
  void RetainCutsFrom(uint64_t cut) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

  // REQUIRES for all below: the row is in use.
  bool IsConnected(int row) const ABSL_SHARED_LOCKS_REQUIRED(mutex) {
    return Used(row).twin.connected;
  }
  bool IsEnabled(int row) const ABSL_SHARED_LOCKS_REQUIRED(mutex) {
    return Used(row).twin.enabled;
  }
  // Valid while the lock is held.
  absl::string_view DeviceId(int row) const ABSL_SHARED_LOCKS_REQUIRED(mutex) {
    return Used(row).id.view();
  }
  // What a write that changed nothing would have returned.
  TwinWrite StateOf(int row) const ABSL_SHARED_LOCKS_REQUIRED(mutex);

  // Sets the bits of the rows that satisfy the condition, clears all others.
  // O(rows); for a condition that names devices (Candidates()) a row costs one
  // comparison, and only those devices are evaluated.
  void Match(const Condition& condition, RowBitmap* rows) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex);

  // Applies a parsed and validated patch (tags and desired) to one row, as one
  // step: all of it or, on an error, nothing.  A patch with neither changes
  // nothing at all.
  //   ArgumentInvalid, MessageTooLarge  the merged twin would break a limit
  //   PreconditionFailed                patch.desired_version is not current
  // For jobs: does not call the TwinObserver.  A job journals its patch once
  // and the ranges of rows that it went to, not a change per twin.
  absl::StatusOr<TwinWrite> ApplyPatch(int row, const TwinPatch& patch,
                                       absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

 private:
  friend class TwinIndex;

  struct Row {
    PackedTwin twin;       // Empty if the row is free.
    uint64_t arrival = 0;  // Sequence of the write that brought the device.
    // Written with the id table's mutex and ours both held, so that either is
    // enough to read it.
    CompactId id;

    bool in_use() const { return !twin.is_empty(); }
  };
  static constexpr int kChunkRows = 256;
  using Chunk = std::array<Row, kChunkRows>;

  struct FormerTenant {
    uint64_t gone;  // Sequence of the write that erased it.
    CompactId id;
  };

  // Chunks appear with both mutexes held; either is enough to read.
  Row& At(int row) { return (*chunks_[row / kChunkRows])[row % kChunkRows]; }
  const Row& At(int row) const {
    return (*chunks_[row / kChunkRows])[row % kChunkRows];
  }
  const Row& Used(int row) const ABSL_SHARED_LOCKS_REQUIRED(mutex) {
    MUSTER_DCHECK(0 <= row && row < row_count_ && At(row).in_use());
    return At(row);
  }
  // The id, read under the id table's mutex alone.
  absl::string_view IdForTable(int row) const { return At(row).id.view(); }

  bool has_room() const ABSL_SHARED_LOCKS_REQUIRED(mutex) {
    return size() < kShardRowsMax;
  }

  // Each grows the sequence by one.  All but the first three leave the row as
  // it was on an error.
  // Returns the row.  REQUIRES: has_room().
  int Insert(PreparedTwin twin, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void Erase(int row) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  // Puts a prepared twin in the place of the row's.  What it did not give:
  // versions and etag go on counting, the connection stays.
  void Overwrite(int row, PreparedTwin twin, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  absl::StatusOr<TwinWrite> Replace(int row, const TwinPatch& patch,
                                    absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return Change(row, patch, /*replace=*/true, now);
  }
  absl::StatusOr<TwinWrite> PatchReported(int row, const TwinPatch& patch,
                                          absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void SetEnabled(int row, bool enabled, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void SetConnected(int row, bool connected, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

  absl::StatusOr<TwinWrite> Change(int row, const TwinPatch& patch,
                                   bool replace, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  // Sets the parts and keeps the count of bytes.
  void SetParts(Row* row, const TwinParts& parts)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

  // Heap bytes, about.
  size_t MemoryUsage() const ABSL_SHARED_LOCKS_REQUIRED(mutex);

  // Constant.
  const int partition_;
  const int index_;

  // See At().
  std::array<std::unique_ptr<Chunk>, kShardRowsMax / kChunkRows> chunks_;

  int row_count_ ABSL_GUARDED_BY(mutex) = 0;
  std::vector<uint16_t> free_rows_ ABSL_GUARDED_BY(mutex);
  uint64_t sequence_ ABSL_GUARDED_BY(mutex) = 0;
  size_t heap_bytes_ ABSL_GUARDED_BY(mutex) = 0;  // Of blocks and ids.
  // By row and arrival.
  absl::btree_map<std::pair<uint16_t, uint64_t>, FormerTenant> former_tenants_
      ABSL_GUARDED_BY(mutex);
  uint64_t retained_from_ ABSL_GUARDED_BY(mutex) = 0;
};

}  // namespace muster

#endif  // ENGINE_TWIN_SHARD_H_
