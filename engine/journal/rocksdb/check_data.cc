#include "engine/journal/rocksdb/check_data.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/journal/chunk.h"
#include "engine/journal/record.h"
#include "engine/journal/rocksdb/database.h"
#include "engine/journal/rocksdb/fence_stamp.h"
#include "engine/journal/rocksdb/folder.h"
#include "engine/model/job_status.h"

namespace muster {
namespace {

class Checker {
 public:
  explicit Checker(absl::FunctionRef<void(int64_t, int64_t)> progress)
      : progress_(progress) {}

  void Run(JournalDatabase& database) {
    const std::vector<PartitionState>& states =
        database.state_at_open().partitions;
    for (const PartitionState& state : states) {
      bytes_to_read_ +=
          static_cast<int64_t>(state.chunk_bytes + state.snapshot_bytes);
    }
    for (size_t i = 0; i < states.size(); ++i) {
      partition_ = static_cast<int>(i);
      CheckPartition(database, states[i]);
    }
  }

  void AddProblem(int partition, uint64_t sequence,
                  const absl::Status& status) {
    if (report_.problem_count++ < DataReport::kProblemsListedMax) {
      report_.problems.push_back(
          {partition, sequence, std::string(status.message())});
    }
  }

  DataReport Report() {
    for (auto& [kind, named] : records_) report_.records.push_back(named);
    std::map<JobStatus, int64_t> by_status;
    for (const auto& [job, status] : jobs_) ++by_status[status];
    for (const auto& [status, count] : by_status) {
      report_.jobs.emplace_back(
          status <= JobStatus::kCancelled ? JobStatusName(status) : "unknown",
          count);
    }
    return std::move(report_);
  }

 private:
  void CheckPartition(JournalDatabase& database, const PartitionState& state) {
    DataPartition& p = report_.partitions.emplace_back();
    p.epoch = state.epoch;
    p.first_sequence = state.first_sequence;
    p.last_sequence = state.last_sequence;
    p.snapshot_sequence = state.snapshot_sequence;
    previous_ = std::nullopt;
    snapshot_previous_ = std::nullopt;
    CheckSnapshot(database, state, p);
    if (state.first_sequence > state.snapshot_sequence) {
      AddProblem(partition_, state.snapshot_sequence,
                 absl::DataLossError(absl::StrCat(
                     "partition ", partition_, ": chunks ",
                     state.snapshot_sequence, " to ", state.first_sequence - 1,
                     " are trimmed, and no snapshot stands for them")));
    }
    uint64_t next = state.first_sequence;
    if (next == 1) previous_ = 0;
    while (next <= state.last_sequence) {
      const absl::Status s = database.ReadChunks(
          partition_, next, [&](uint64_t sequence, absl::string_view bytes) {
            CheckChunk(sequence, bytes, state, p);
            next = sequence + 1;
            return absl::OkStatus();
          });
      if (s.ok()) break;
      AddProblem(partition_, next, s);
      previous_ = std::nullopt;
      ++next;
    }
  }

  void CheckSnapshot(JournalDatabase& database, const PartitionState& state,
                     DataPartition& p) {
    std::optional<ChunkHeader> before;
    uint64_t next = 0;
    while (next < state.snapshot_parts) {
      const absl::StatusOr<uint64_t> s =
          database.ReadSnapshot(partition_, next, [&](absl::string_view bytes) {
            CheckPart(static_cast<uint32_t>(next), bytes, state, p, &before);
            ++next;
            return absl::OkStatus();
          });
      if (s.ok()) break;
      AddProblem(partition_, 0, s.status());
      before = std::nullopt;
      ++next;
    }
  }

  void CheckPart(uint32_t number, absl::string_view bytes,
                 const PartitionState& state, DataPartition& p,
                 std::optional<ChunkHeader>* before) {
    ++p.snapshot_parts;
    p.snapshot_bytes += static_cast<int64_t>(bytes.size());
    CountBytes(bytes.size());
    const absl::StatusOr<OpenedChunk> part =
        OpenSnapshotPart(partition_, number, bytes);
    if (!part.ok()) {
      *before = std::nullopt;
      return AddProblem(partition_, 0, part.status());
    }
    const ChunkHeader& header = part->header;
    if (header.sequence != state.snapshot_sequence ||
        header.part_count != state.snapshot_parts ||
        (before->has_value() && header.previous != (*before)->checksum)) {
      AddProblem(partition_, 0,
                 absl::DataLossError(absl::StrCat(
                     "partition ", partition_, ", snapshot part ", number,
                     ", byte ", offsetof(ChunkHeader, sequence),
                     ": it is not of the snapshot before chunk ",
                     state.snapshot_sequence)));
    }
    if (number == 0) snapshot_previous_ = header.previous;
    *before = header;
    CountRecords(0, absl::StrCat(", snapshot part ", number), part->payload, p);
  }

  void CheckChunk(uint64_t sequence, absl::string_view bytes,
                  const PartitionState& state, DataPartition& p) {
    ++p.chunks;
    p.chunk_bytes += static_cast<int64_t>(bytes.size());
    CountBytes(bytes.size());
    const absl::StatusOr<OpenedChunk> chunk =
        OpenChunk(partition_, sequence, bytes);
    if (!chunk.ok()) {
      previous_ = std::nullopt;
      return AddProblem(partition_, sequence, chunk.status());
    }
    // The snapshot knows what it is followed by, even if the chunk before is
    // trimmed.
    if (sequence == state.snapshot_sequence && snapshot_previous_) {
      previous_ = snapshot_previous_;
    }
    if (previous_ && chunk->header.previous != *previous_) {
      AddProblem(partition_, sequence,
                 absl::DataLossError(absl::StrCat(
                     "partition ", partition_, ", chunk ", sequence, ", byte ",
                     offsetof(ChunkHeader, previous),
                     ": it does not follow the chunk before it")));
    }
    previous_ = chunk->header.checksum;
    if (sequence < state.snapshot_sequence) return;  // In the snapshot already.
    CountRecords(sequence, absl::StrCat(", chunk ", sequence), chunk->payload,
                 p);
  }

  void CountRecords(uint64_t sequence, absl::string_view where,
                    absl::string_view payload, DataPartition& p) {
    const absl::Status s = ReadRecords(payload, [&](const Record& record) {
      ++p.records;
      auto& [name, count] = records_[record.index()];
      if (count++ == 0) name = std::string(RecordName(record));
      CountJob(record);
      return absl::OkStatus();
    });
    if (s.ok()) return;
    AddProblem(partition_, sequence,
               absl::DataLossError(absl::StrCat("partition ", partition_, where,
                                                ": ", s.message())));
  }

  // A job's own records stand in one partition, in their order.
  void CountJob(const Record& record) {
    if (const auto* created = std::get_if<JobCreatedRecord>(&record)) {
      jobs_[created->job] = JobStatus::kScheduled;
    } else if (const auto* started = std::get_if<JobStartedRecord>(&record)) {
      jobs_[started->job] = JobStatus::kRunning;
    } else if (const auto* ended = std::get_if<JobEndedRecord>(&record)) {
      jobs_[ended->job] = static_cast<JobStatus>(ended->status);
    } else if (const auto* expired = std::get_if<JobExpiredRecord>(&record)) {
      jobs_.erase(expired->job);
    }
  }

  void CountBytes(size_t bytes) {
    constexpr int64_t kTellEvery = 4 << 20;
    bytes_read_ += static_cast<int64_t>(bytes);
    if (bytes_read_ - bytes_told_ < kTellEvery) return;
    bytes_told_ = bytes_read_;
    progress_(bytes_read_, std::max(bytes_read_, bytes_to_read_));
  }

  const absl::FunctionRef<void(int64_t, int64_t)> progress_;
  DataReport report_;
  int64_t bytes_to_read_ = 0;
  int64_t bytes_read_ = 0;
  int64_t bytes_told_ = 0;
  std::map<size_t, std::pair<std::string, int64_t>> records_;
  absl::flat_hash_map<uint64_t, JobStatus> jobs_;

  // Of the partition that is being read.
  int partition_ = 0;
  std::optional<uint64_t> previous_;  // Checksum before the next, if known.
  std::optional<uint64_t> snapshot_previous_;
};

}  // namespace

absl::StatusOr<DataReport> CheckData(
    const std::string& directory,
    absl::FunctionRef<void(int64_t, int64_t)> progress) {
  Checker checker(progress);
  absl::StatusOr<JournalFolder> folder =
      JournalFolder::Open(directory, JournalFolder::Access::kReadOnly);
  if (!folder.ok()) {
    if (!absl::IsDataLoss(folder.status())) return folder.status();
    checker.AddProblem(-1, 0, folder.status());
    return checker.Report();
  }
  const absl::StatusOr<FenceStamp> stamp =
      FenceStampFile::Read(folder->StampPath());
  if (!stamp.ok()) checker.AddProblem(-1, 0, stamp.status());
  const absl::StatusOr<std::shared_ptr<JournalDatabase>> database =
      JournalDatabase::OpenToRead(folder->DatabasePath());
  if (database.ok()) {
    if (stamp.ok()) {
      const absl::Status s = CheckStamp((*database)->state_at_open(), *stamp);
      if (!s.ok()) checker.AddProblem(-1, 0, s);
    }
    checker.Run(**database);
  } else if (absl::IsDataLoss(database.status())) {
    checker.AddProblem(-1, 0, database.status());
  } else {
    return database.status();
  }
  DataReport report = checker.Report();
  report.disk_bytes = folder->DiskUsage();
  return report;
}

}  // namespace muster
