#include "engine/dispatch/replay.h"

#include <algorithm>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "engine/dispatch/slice_records.h"
#include "engine/model/json.h"
#include "engine/twin/shard_snapshot.h"

namespace muster {
namespace {

// A part of a patch; undefined if it is empty.
absl::StatusOr<Json> ParsePart(absl::string_view text) {
  if (text.empty()) return Json();
  absl::StatusOr<Json> json = ParseJson(text);
  if (!json.ok()) {
    return absl::DataLossError(
        absl::StrCat("a patch that is no JSON: ", json.status().message()));
  }
  return json;
}

absl::StatusOr<TwinPatch> ParsePatch(absl::string_view tags,
                                     absl::string_view desired,
                                     absl::string_view reported) {
  TwinPatch patch;
  absl::StatusOr<Json> part = ParsePart(tags);
  if (!part.ok()) return part.status();
  patch.tags = *std::move(part);
  part = ParsePart(desired);
  if (!part.ok()) return part.status();
  patch.desired = *std::move(part);
  part = ParsePart(reported);
  if (!part.ok()) return part.status();
  patch.reported = *std::move(part);
  return patch;
}

}  // namespace

absl::Status PartitionReplay::Visit(absl::string_view bytes) {
  return ReadRecords(bytes, [this](const Record& record) {
    ++records;
    return std::visit([this](const auto& r) { return Take(r); }, record);
  });
}

absl::Status PartitionReplay::Finish() const {
  if (!in_snapshot_) return absl::OkStatus();
  return absl::DataLossError("the snapshot has no end");
}

// -------------------------------------------------------------------- jobs

ReplayedJob* PartitionReplay::FindJob(uint64_t serial) {
  auto it = jobs.find(serial);
  return it == jobs.end() ? nullptr : &it->second;
}

// Records of jobs that a snapshot has behind it come again: the first counts.

absl::Status PartitionReplay::Take(const JobCreatedRecord& record) {
  jobs.try_emplace(record.job).first->second.created = record;
  next_job = std::max(next_job, record.job + 1);
  return absl::OkStatus();
}

absl::Status PartitionReplay::Take(const JobStartedRecord& record) {
  ReplayedJob* job = FindJob(record.job);
  if (job != nullptr && !job->started.has_value()) job->started = record;
  return absl::OkStatus();
}

absl::Status PartitionReplay::Take(const JobCancelRequestedRecord& record) {
  if (ReplayedJob* job = FindJob(record.job)) job->cancel_requested = true;
  return absl::OkStatus();
}

absl::Status PartitionReplay::Take(const JobEndedRecord& record) {
  ReplayedJob* job = FindJob(record.job);
  if (job != nullptr && !job->ended.has_value()) job->ended = record;
  return absl::OkStatus();
}

absl::Status PartitionReplay::Take(const JobExpiredRecord& record) {
  jobs.erase(record.job);
  return absl::OkStatus();
}

// ------------------------------------------------------------------ slices

template <typename R>
absl::StatusOr<ReplayedSlice*> PartitionReplay::FindSlice(const R& record) {
  auto it = slices.find({record.job, record.slice});
  // A slice that a snapshot leaves out is of a job that had expired.
  if (it == slices.end()) return nullptr;
  ReplayedSlice& slice = it->second;
  if (in_snapshot_) return &slice;
  const At at{slice.shard, record.sequence};
  if (shards.IsBehind(at)) return nullptr;
  return &slice;
}

template <typename R>
absl::Status PartitionReplay::OfSlice(const R& record) {
  absl::StatusOr<ReplayedSlice*> slice = FindSlice(record);
  if (!slice.ok() || *slice == nullptr) return slice.status();
  absl::Status applied = SliceRecords::Apply(record, (*slice)->slice.get());
  // Others with the same sequence follow a result, and the beginning of
  // patches.
  if (!applied.ok() || in_snapshot_ || std::is_same_v<R, ResultRecord> ||
      (std::is_same_v<R, DispatchedRecord> && (*slice)->patch.has_value())) {
    return applied;
  }
  return shards.Reach(At{(*slice)->shard, record.sequence});
}

absl::Status PartitionReplay::Take(const TargetsRecord& record) {
  const At at{record.shard, record.sequence};
  if (!in_snapshot_ && shards.IsBehind(at)) return absl::OkStatus();
  RowBitmap rows;
  for (const uint16_t row : record.rows) {
    if (row >= kShardRowsMax) {
      return absl::DataLossError(
          absl::StrCat("job ", record.job, ": no shard has a row ", row));
    }
    rows.Set(row);
  }
  // In the place of one that was never started.
  ReplayedSlice& slice = slices[{record.job, record.slice}];
  slice = ReplayedSlice{record.shard, record.cut, record.run,
                        std::make_unique<Slice>(RowSet(rows)), std::nullopt};
  if (!record.tags.empty() || !record.desired.empty()) {
    absl::StatusOr<TwinPatch> patch =
        ParsePatch(record.tags, record.desired, "");
    if (!patch.ok()) return patch.status();
    slice.patch = *std::move(patch);
  }
  return in_snapshot_ ? absl::OkStatus() : shards.Reach(at);
}

absl::Status PartitionReplay::Take(const FinishedRecord& record) {
  absl::StatusOr<ReplayedSlice*> found = FindSlice(record);
  if (!found.ok() || *found == nullptr) return found.status();
  ReplayedSlice& replayed = **found;
  Slice& slice = *replayed.slice;
  if (absl::Status s = SliceRecords::Apply(record, &slice); !s.ok()) return s;
  if (in_snapshot_) return absl::OkStatus();
  // What ended well was patched, in the same breath.
  const At at{replayed.shard, record.sequence};
  std::vector<uint16_t> rows;
  for (const FinishedRecord::Entry& entry : record.entries) {
    if (!replayed.patch.has_value() ||
        slice.Get(entry.rank).status != ExecutionStatus::kCompleted) {
      continue;
    }
    rows.push_back(static_cast<uint16_t>(slice.targets().RowAt(entry.rank)));
  }
  if (rows.empty()) return shards.Reach(at);
  return shards.Apply(at, rows, *replayed.patch, record.time);
}

// ------------------------------------------------------------------- twins

absl::Status PartitionReplay::Take(const TwinWrittenRecord& record) {
  const At at{record.shard, record.sequence};
  if (shards.IsBehind(at)) return absl::OkStatus();
  absl::StatusOr<Json> document = ParseJson(record.document);
  if (!document.ok()) {
    return absl::DataLossError(
        absl::StrCat("a twin that is no JSON: ", document.status().message()));
  }
  return shards.Upsert(at, record.row, document->view(), record.time);
}

absl::Status PartitionReplay::Take(const IdentityWrittenRecord& record) {
  const At at{record.shard, record.sequence};
  if (shards.IsBehind(at)) return absl::OkStatus();
  absl::StatusOr<Json> document = ParseJson(record.document);
  // Its message may show what is in it.
  if (!document.ok()) return absl::DataLossError("an identity that is no JSON");
  return shards.PutIdentity(at, record.row, document->view(), record.time);
}

absl::Status PartitionReplay::Take(const TwinPatchedRecord& record) {
  const At at{record.shard, record.sequence};
  if (shards.IsBehind(at)) return absl::OkStatus();
  if (record.kind == TwinPatchedRecord::kEnabled ||
      record.kind == TwinPatchedRecord::kDisabled) {
    return shards.SetEnabled(at, record.row,
                             record.kind == TwinPatchedRecord::kEnabled,
                             record.time);
  }
  absl::StatusOr<TwinPatch> patch =
      ParsePatch(record.tags, record.desired, record.reported);
  if (!patch.ok()) return patch.status();
  using Change = ShardReplay::Change;
  switch (record.kind) {
    case TwinPatchedRecord::kMerged:
      return shards.Apply(at, record.row, Change::kPatch, *patch, record.time);
    case TwinPatchedRecord::kReplaced:
      return shards.Apply(at, record.row, Change::kReplace, *patch,
                          record.time);
    case TwinPatchedRecord::kReported:
      return shards.Apply(at, record.row, Change::kReported, *patch,
                          record.time);
    default:
      return absl::DataLossError(
          absl::StrCat("no kind of patch has the number ", record.kind));
  }
}

absl::Status PartitionReplay::Take(const TwinErasedRecord& record) {
  const At at{record.shard, record.sequence};
  if (shards.IsBehind(at)) return absl::OkStatus();
  return shards.Erase(at, record.row);
}

absl::Status PartitionReplay::Take(const ShardWrittenRecord& record) {
  const At at{record.shard, record.sequence};
  if (shards.IsBehind(at)) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<Shard>> shard =
      ShardSnapshot::Read(record.bytes);
  if (!shard.ok()) return shard.status();
  if (in_snapshot_) ++snapshot_shards_;
  return shards.Adopt(at, *std::move(shard));
}

// --------------------------------------------------------------- snapshots

absl::Status PartitionReplay::Take(const SnapshotBeginRecord& record) {
  if (records != 1) {
    return absl::DataLossError("a snapshot begins behind other records");
  }
  in_snapshot_ = true;
  next_job = std::max(next_job, record.next_job);
  return absl::OkStatus();
}

absl::Status PartitionReplay::Take(const SnapshotEndRecord& record) {
  if (!in_snapshot_) {
    return absl::DataLossError("a snapshot ends that has not begun");
  }
  if (record.shard_count != snapshot_shards_) {
    return absl::DataLossError(absl::StrCat("a snapshot of ",
                                            record.shard_count, " shards has ",
                                            snapshot_shards_));
  }
  in_snapshot_ = false;
  return absl::OkStatus();
}

}  // namespace muster
