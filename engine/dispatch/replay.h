// PartitionReplay: what a partition's journal says, read from its beginning.
//
// Records are taken in the journal's order.  What comes out is the state behind
// the last of them: the twins in their shards and rows, the jobs whose records
// stand in this partition, and the slices over its shards, of jobs of any
// partition.
#ifndef ENGINE_DISPATCH_REPLAY_H_
#define ENGINE_DISPATCH_REPLAY_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/dispatch/slice.h"
#include "engine/journal/record.h"
#include "engine/model/twin_patch.h"
#include "engine/twin/shard_replay.h"

namespace muster {

struct ReplayedSlice {
  uint32_t shard = 0;  // Its number in the partition.
  uint64_t cut = 0;
  uint64_t run = 0;
  std::unique_ptr<Slice> slice;
  std::optional<TwinPatch> patch;  // Of a twin job.
};

struct ReplayedJob {
  JobCreatedRecord created;
  std::optional<JobStartedRecord> started;
  bool cancel_requested = false;
  std::optional<JobEndedRecord> ended;
};

// Not thread-safe; one per partition.
class PartitionReplay {
 public:
  // Takes the records of one chunk, or of one part of a snapshot.
  //   DATA_LOSS            what cannot have been written, and why
  //   FAILED_PRECONDITION  a shard in another version's format
  absl::Status Visit(absl::string_view records);

  // After the last.  DATA_LOSS if the snapshot has no end.
  absl::Status Finish() const;

  ShardReplay shards;
  std::map<uint64_t, ReplayedJob> jobs;  // By serial number.
  // By job and number.
  std::map<std::pair<uint64_t, uint32_t>, ReplayedSlice> slices;
  uint64_t next_job = 1;  // A serial number that none had here.
  int64_t records = 0;

 private:
  using At = ShardReplay::At;

  absl::Status Take(const JobCreatedRecord& record);
  absl::Status Take(const TargetsRecord& record);
  absl::Status Take(const JobStartedRecord& record);
  absl::Status Take(const DispatchedRecord& record) { return OfSlice(record); }
  absl::Status Take(const ReturnedRecord& record) { return OfSlice(record); }
  absl::Status Take(const ResultRecord& record) { return OfSlice(record); }
  absl::Status Take(const FinishedRecord& record);
  absl::Status Take(const JobCancelRequestedRecord& record);
  absl::Status Take(const JobEndedRecord& record);
  absl::Status Take(const JobExpiredRecord& record);
  absl::Status Take(const TwinWrittenRecord& record);
  absl::Status Take(const TwinPatchedRecord& record);
  absl::Status Take(const TwinErasedRecord& record);
  absl::Status Take(const ShardWrittenRecord& record);
  absl::Status Take(const IdentityWrittenRecord& record);
  absl::Status Take(const SnapshotBeginRecord& record);
  absl::Status Take(const SnapshotEndRecord& record);

  template <typename R>
  absl::Status OfSlice(const R& record);
  // nullptr if the record is one that the snapshot has behind it.
  template <typename R>
  absl::StatusOr<ReplayedSlice*> FindSlice(const R& record);
  // nullptr if the job is forgotten.
  ReplayedJob* FindJob(uint64_t serial);

  // Inside of a snapshot twins are as the slices left them.
  bool in_snapshot_ = false;
  uint32_t snapshot_shards_ = 0;
};

}  // namespace muster

#endif  // ENGINE_DISPATCH_REPLAY_H_
