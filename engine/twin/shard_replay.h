// ShardReplay: a partition's shards, rebuilt from what was once done to them.
//
// Each step names its shard by its number in the partition and tells the
// shard's sequence after it.  Steps of a shard come in the order of those
// sequences; what a shard has behind it already, because it was read from a
// snapshot, is passed over.  A step that does not lead to where it once led
// (another row than then, a row that holds no device) is DATA_LOSS.
//
// Rows come out where they were, so that target sets mean the same devices.
#ifndef ENGINE_TWIN_SHARD_REPLAY_H_
#define ENGINE_TWIN_SHARD_REPLAY_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/model/json.h"
#include "engine/model/twin_patch.h"
#include "engine/twin/columns/row_set.h"
#include "engine/twin/parsed_twin.h"
#include "engine/twin/shard.h"

namespace muster {

// Not thread-safe.
class ShardReplay {
 public:
  // Shards of a partition that replay takes; more is DATA_LOSS.
  static constexpr uint32_t kShardsMax = 1 << 20;
  // No shard counts that far.
  static constexpr uint64_t kSequenceMax = uint64_t{3} << 61;

  // Where in the history a step stands.
  struct At {
    uint32_t shard;
    uint64_t sequence;
  };

  // Whether the shard has the step behind it.
  bool IsBehind(At at) const;

  // A whole shard, as it was at `at.sequence`.
  absl::Status Adopt(At at, std::unique_ptr<Shard> shard);

  // TwinIndex::Upsert().
  absl::Status Upsert(At at, int row, JsonView document, absl::Time now);
  // A change of the registry; makes the twin if there is none.
  absl::Status PutIdentity(At at, int row, JsonView document, absl::Time now);
  absl::Status Erase(At at, int row);
  // Of one row.  TwinIndex::Patch(), Replace(), PatchReported().
  enum class Change : uint8_t { kPatch, kReplace, kReported };
  absl::Status Apply(At at, int row, Change change, const TwinPatch& patch,
                     absl::Time now);
  // A job's patch of many rows.
  absl::Status Apply(At at, RowSpan rows, const TwinPatch& patch,
                     absl::Time now);
  absl::Status SetEnabled(At at, int row, bool enabled, absl::Time now);
  // Anything else that made the sequence grow; may tell the same one twice.
  absl::Status Reach(At at);

  // All shards, by number; leaves none behind.  Null: of that one nothing was
  // told.  Every device is disconnected: who has its connection now will say.
  std::vector<std::unique_ptr<Shard>> Take();

 private:
  // The shard, made if it is not there, with its sequence one below the step's.
  absl::StatusOr<Shard*> Step(At at);
  // The shard, made if it is not there.
  absl::StatusOr<Shard*> Find(At at);
  absl::StatusOr<Shard*> StepOnRow(At at, int row);
  // Makes the twin, or has it written over.
  absl::Status Put(
      At at, int row, const absl::StatusOr<ParsedTwin>& twin, absl::Time now,
      absl::FunctionRef<void(Shard& shard, const ParsedTwin& twin)> overwrite);

  std::vector<std::unique_ptr<Shard>> shards_;
  std::vector<uint64_t> adopted_;  // By shard: the sequence it came with.
};

}  // namespace muster

#endif  // ENGINE_TWIN_SHARD_REPLAY_H_
