#include "engine/twin/shard_replay.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/twin/identity_document.h"
#include "engine/twin/parsed_twin.h"

namespace muster {
namespace {

absl::Status Impossible(ShardReplay::At at, absl::string_view what) {
  return absl::DataLossError(
      absl::StrCat("shard ", at.shard, ", sequence ", at.sequence, ": ", what));
}

}  // namespace

bool ShardReplay::IsBehind(At at) const {
  return at.shard < adopted_.size() && at.sequence <= adopted_[at.shard];
}

absl::Status ShardReplay::Adopt(At at, std::unique_ptr<Shard> shard) {
  if (at.shard >= kShardsMax || at.sequence > kSequenceMax) {
    return Impossible(at, "no such place");
  }
  if (at.shard >= shards_.size()) {
    shards_.resize(at.shard + 1);
    adopted_.resize(at.shard + 1, 0);
  }
  if (shards_[at.shard] != nullptr) {
    return Impossible(at, "the shard is there already");
  }
  {
    absl::MutexLock lock(&shard->mutex);
    if (shard->sequence_ > at.sequence) {
      return Impossible(
          at, absl::StrCat("it holds sequence ", shard->sequence_, " already"));
    }
    shard->sequence_ = at.sequence;
  }
  shards_[at.shard] = std::move(shard);
  adopted_[at.shard] = at.sequence;
  return absl::OkStatus();
}

absl::StatusOr<Shard*> ShardReplay::Find(At at) {
  if (at.shard >= kShardsMax || at.sequence > kSequenceMax) {
    return Impossible(at, "no such place");
  }
  if (at.shard >= shards_.size()) {
    shards_.resize(at.shard + 1);
    adopted_.resize(at.shard + 1, 0);
  }
  std::unique_ptr<Shard>& shard = shards_[at.shard];
  if (shard == nullptr) shard = std::make_unique<Shard>();
  return shard.get();
}

absl::StatusOr<Shard*> ShardReplay::Step(At at) {
  absl::StatusOr<Shard*> shard = Find(at);
  if (!shard.ok()) return shard;
  absl::MutexLock lock(&(*shard)->mutex);
  if (at.sequence <= (*shard)->sequence_) {
    return Impossible(at,
                      absl::StrCat("the shard is at ", (*shard)->sequence_));
  }
  (*shard)->sequence_ = at.sequence - 1;
  return shard;
}

absl::StatusOr<Shard*> ShardReplay::StepOnRow(At at, int row) {
  absl::StatusOr<Shard*> shard = Step(at);
  if (!shard.ok()) return shard;
  absl::MutexLock lock(&(*shard)->mutex);
  if (row >= (*shard)->row_count_ || !(*shard)->in_use_.Test(row)) {
    return Impossible(at, absl::StrCat("row ", row, " holds no device"));
  }
  return shard;
}

absl::Status ShardReplay::Upsert(At at, int row, JsonView document,
                                 absl::Time now) {
  return Put(at, row, ParseTwin(document), now,
             [&](Shard& shard, const ParsedTwin& twin) {
               shard.mutex.AssertHeld();
               shard.Overwrite(row, twin, now);
             });
}

absl::Status ShardReplay::PutIdentity(At at, int row, JsonView document,
                                      absl::Time now) {
  return Put(at, row, ParseIdentityDocument(document), now,
             [&](Shard& shard, const ParsedTwin& twin) {
               shard.mutex.AssertHeld();
               shard.PutIdentity(row, twin, now);
             });
}

absl::Status ShardReplay::Put(
    At at, int row, const absl::StatusOr<ParsedTwin>& twin, absl::Time now,
    absl::FunctionRef<void(Shard& shard, const ParsedTwin& twin)> overwrite) {
  if (!twin.ok()) return Impossible(at, twin.status().message());
  absl::StatusOr<Shard*> step = Step(at);
  if (!step.ok()) return step.status();
  Shard& shard = **step;
  absl::MutexLock lock(&shard.mutex);
  if (row < shard.row_count_ && shard.in_use_.Test(row)) {
    if (shard.DeviceId(row) != twin->device_id) {
      return Impossible(at,
                        absl::StrCat("row ", row, " is \"", shard.DeviceId(row),
                                     "\", not \"", twin->device_id, "\""));
    }
    overwrite(shard, *twin);
    return absl::OkStatus();
  }
  if (shard.size() >= kShardRowsMax) return Impossible(at, "the shard is full");
  const int given = shard.Insert(*twin, now);
  if (given == row) return absl::OkStatus();
  return Impossible(at, absl::StrCat("\"", twin->device_id, "\" went to row ",
                                     row, " once, and now to ", given));
}

absl::Status ShardReplay::Erase(At at, int row) {
  absl::StatusOr<Shard*> shard = StepOnRow(at, row);
  if (!shard.ok()) return shard.status();
  absl::MutexLock lock(&(*shard)->mutex);
  (*shard)->Erase(row);
  return absl::OkStatus();
}

absl::Status ShardReplay::Apply(At at, int row, Change change,
                                const TwinPatch& patch, absl::Time now) {
  absl::StatusOr<Shard*> step = StepOnRow(at, row);
  if (!step.ok()) return step.status();
  Shard& shard = **step;
  absl::MutexLock lock(&shard.mutex);
  const absl::StatusOr<TwinWrite> write =
      change == Change::kPatch     ? shard.ApplyPatch(row, patch, now)
      : change == Change::kReplace ? shard.Replace(row, patch, now)
                                   : shard.PatchReported(row, patch, now);
  if (write.ok()) return absl::OkStatus();
  return Impossible(at,
                    absl::StrCat("row ", row, ": ", write.status().message()));
}

absl::Status ShardReplay::Apply(At at, RowSpan rows, const TwinPatch& patch,
                                absl::Time now) {
  absl::StatusOr<Shard*> step = Step(at);
  if (!step.ok()) return step.status();
  Shard& shard = **step;
  absl::MutexLock lock(&shard.mutex);
  for (const uint16_t row : rows) {
    if (row >= shard.row_count_ || !shard.in_use_.Test(row)) {
      return Impossible(at, absl::StrCat("row ", row, " holds no device"));
    }
  }
  const std::vector<Shard::RowError> errors =
      shard.ApplyPatch(rows, patch, now);
  if (!errors.empty()) {
    return Impossible(at, absl::StrCat("row ", errors[0].row, ": ",
                                       errors[0].status.message()));
  }
  shard.sequence_ = at.sequence;
  return absl::OkStatus();
}

absl::Status ShardReplay::SetEnabled(At at, int row, bool enabled,
                                     absl::Time now) {
  absl::StatusOr<Shard*> shard = StepOnRow(at, row);
  if (!shard.ok()) return shard.status();
  absl::MutexLock lock(&(*shard)->mutex);
  (*shard)->SetEnabled(row, enabled, now);
  return absl::OkStatus();
}

absl::Status ShardReplay::Reach(At at) {
  absl::StatusOr<Shard*> shard = Find(at);
  if (!shard.ok()) return shard.status();
  absl::MutexLock lock(&(*shard)->mutex);
  (*shard)->sequence_ = std::max((*shard)->sequence_, at.sequence);
  return absl::OkStatus();
}

std::vector<std::unique_ptr<Shard>> ShardReplay::Take() {
  for (const std::unique_ptr<Shard>& shard : shards_) {
    if (shard == nullptr) continue;
    absl::MutexLock lock(&shard->mutex);
    shard->connected_ = RowBitmap();
    shard->kept_back_ = RowBitmap();
    shard->connection_ticks_.clear();
  }
  return std::move(shards_);
}

}  // namespace muster
