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
#ifndef ENGINE_TWIN_SHARD_H_
#define ENGINE_TWIN_SHARD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/model/json.h"
#include "engine/model/twin_patch.h"
#include "engine/query/condition.h"
#include "engine/query/document.h"
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
};

class Shard {
 public:
  Shard(int partition, int index);  // `index` over the whole TwinIndex.

  int partition() const { return partition_; }
  int index() const { return index_; }

  // Public: dispatch/ guards its own state by it.
  absl::Mutex mutex;

  // Rows in use or freed; row numbers are below it.
  int row_count() const ABSL_SHARED_LOCKS_REQUIRED(mutex);
  // Twins.
  int size() const ABSL_SHARED_LOCKS_REQUIRED(mutex);
  // Grows with every write to the shard.  A cut is the value at evaluation.
  uint64_t sequence() const ABSL_SHARED_LOCKS_REQUIRED(mutex);

  // True if `row` still is the device that it was at `cut`.
  bool IsPresent(int row, uint64_t cut) const ABSL_SHARED_LOCKS_REQUIRED(mutex);
  // What `row` was called at `cut`, erased since or not.  Valid while the lock
  // is held.  REQUIRES: the row was in use at `cut`, and `cut` is retained.
  absl::string_view DeviceIdAt(int row, uint64_t cut) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex);
  // Cuts below `cut` will not be asked for again: forgets former tenants.
  void RetainCutsFrom(uint64_t cut) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

  // REQUIRES for all below: the row is in use.
  bool IsConnected(int row) const ABSL_SHARED_LOCKS_REQUIRED(mutex);
  bool IsEnabled(int row) const ABSL_SHARED_LOCKS_REQUIRED(mutex);

  // Sets the bits of the rows that satisfy the condition, clears all others.
  void Match(const Condition& condition, RowBitmap* rows) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex);

  // Applies a parsed and validated patch (tags and desired) to one row, as one
  // step: all of it or, on an error, nothing.
  //   ArgumentInvalid, MessageTooLarge  the merged twin would break a limit
  //   PreconditionFailed                patch.desired_version is not current
  absl::StatusOr<TwinWrite> ApplyPatch(int row, const TwinPatch& patch,
                                       absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
};

}  // namespace muster

#endif  // ENGINE_TWIN_SHARD_H_
