// CheckData: reads all that a journal's folder holds, and says what is wrong.
//
// Looks at what Open() looks at and beyond: every part of a snapshot and every
// chunk is read back from disk, with its checksum, its place in the chain and
// its records.  Goes on behind what is damaged, so that it can be told what is
// not.
#ifndef ENGINE_JOURNAL_ROCKSDB_CHECK_DATA_H_
#define ENGINE_JOURNAL_ROCKSDB_CHECK_DATA_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"

namespace muster {

struct DataProblem {
  int partition = -1;     // -1: of the folder.
  uint64_t sequence = 0;  // Of the chunk; 0: of a snapshot, or the partition.
  std::string message;    // Names them, and the byte if it is one.
};

struct DataPartition {
  uint64_t epoch = 0;
  uint64_t first_sequence = 1;
  uint64_t last_sequence = 0;
  int64_t chunks = 0;
  int64_t chunk_bytes = 0;
  uint64_t snapshot_sequence = 1;  // The first chunk after the snapshot.
  int64_t snapshot_parts = 0;      // 0: there is no snapshot.
  int64_t snapshot_bytes = 0;
  int64_t records = 0;  // In the snapshot and the chunks after it.
};

struct DataReport {
  static constexpr int64_t kProblemsListedMax = 1'000;

  int64_t disk_bytes = 0;
  std::vector<DataPartition> partitions;
  // How many there are of each kind and status, but for those of which there
  // are none, in the snapshots and the chunks after them.  A job that has not
  // started counts as scheduled.
  std::vector<std::pair<std::string, int64_t>> records;
  std::vector<std::pair<std::string, int64_t>> jobs;

  std::vector<DataProblem> problems;  // The first kProblemsListedMax.
  int64_t problem_count = 0;
};

// Changes nothing in the folder.  Calls `progress` with bytes read and to read
// now and then.  Takes the time of reading it all.
//   NOT_FOUND            there is no such folder, or it is none of a journal
//   FAILED_PRECONDITION  an engine has it; or a newer version has written it
//   PERMISSION_DENIED, RESOURCE_EXHAUSTED, UNAVAILABLE
// Damage is no error but a problem in the report.
absl::StatusOr<DataReport> CheckData(
    const std::string& directory,
    absl::FunctionRef<void(int64_t done, int64_t total)> progress);

}  // namespace muster

#endif  // ENGINE_JOURNAL_ROCKSDB_CHECK_DATA_H_
