// Records: the logical state changes inside a chunk.
//
// A record is a type byte, a varint length, and fields: varints, and strings
// with a varint length.  Executions are named by job, slice and rank (a
// target's place in the slice's target set), ranks as differences: an outcome
// costs about two bytes.  Nothing is ever counted in the journal: statistics
// follow from the last state of each rank, so that reading a record twice
// changes nothing.
//
//   what happened            records, in this order
//   a job was accepted       JobCreated
//   it started               Targets per slice, then JobStarted
//   methods are to be sent   Dispatched (before they are)
//   ... were not             Returned
//   answers, timeouts        Result for each new kind, then Finished
//   a patch was applied      Result, then Finished
//   the job ended            JobEnded
//   a twin was written       TwinWritten, TwinPatched, TwinErased
#ifndef ENGINE_JOURNAL_RECORD_H_
#define ENGINE_JOURNAL_RECORD_H_

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace muster {

// Job-level records stand in the partition of the job's id, the others in the
// partition of their shard.  `job` is the job's serial number: unique for ever,
// unlike ids, which are free again after 30 days.

struct JobCreatedRecord {
  uint64_t job = 0;
  std::string job_id;
  absl::Time created_time;
  std::string body;      // The job as JSON: contract 1.6.
  uint8_t priority = 0;  // JobPriority.
  uint32_t weight = 0;

  friend bool operator==(const JobCreatedRecord&,
                         const JobCreatedRecord&) = default;
};

// The frozen target set of one slice.
struct TargetsRecord {
  uint64_t job = 0;
  uint32_t slice = 0;
  uint32_t shard = 0;
  uint64_t cut = 0;            // The shard's sequence at evaluation.
  std::vector<uint16_t> rows;  // Ascending.

  friend bool operator==(const TargetsRecord&, const TargetsRecord&) = default;
};

struct JobStartedRecord {
  uint64_t job = 0;
  absl::Time time;
  uint32_t slice_count = 0;
  int64_t device_count = 0;

  friend bool operator==(const JobStartedRecord&,
                         const JobStartedRecord&) = default;
};

// The ranks are about to be sent: after a crash they may have been.
struct DispatchedRecord {
  uint64_t job = 0;
  uint32_t slice = 0;
  absl::Time time;
  std::vector<uint16_t> ranks;  // Ascending.

  friend bool operator==(const DispatchedRecord&,
                         const DispatchedRecord&) = default;
};

// The ranks were not sent after all, and are pending again.
struct ReturnedRecord {
  uint64_t job = 0;
  uint32_t slice = 0;
  std::vector<uint16_t> ranks;  // Ascending.

  friend bool operator==(const ReturnedRecord&,
                         const ReturnedRecord&) = default;
};

// How executions of a slice ended; Finished refers to it by number.
struct ResultRecord {
  uint64_t job = 0;
  uint32_t slice = 0;
  uint32_t number = 0;  // From 0, within the slice.
  uint8_t status = 0;   // ExecutionStatus.
  uint32_t error = 0;   // ErrorCode.
  bool answered = false;
  int32_t response_status = 0;
  std::string payload;      // With answered.
  std::string description;  // With an error.

  friend bool operator==(const ResultRecord&, const ResultRecord&) = default;
};

struct FinishedRecord {
  struct Entry {
    uint16_t rank = 0;
    uint16_t result = 0;
    friend bool operator==(const Entry&, const Entry&) = default;
  };
  uint64_t job = 0;
  uint32_t slice = 0;
  absl::Time time;
  std::vector<Entry> entries;  // In any order.

  friend bool operator==(const FinishedRecord&,
                         const FinishedRecord&) = default;
};

struct JobEndedRecord {
  uint64_t job = 0;
  uint8_t status = 0;  // JobStatus.
  absl::Time time;
  std::string failure_reason;

  friend bool operator==(const JobEndedRecord&,
                         const JobEndedRecord&) = default;
};

// The whole twin as JSON, with the counters that it has from now on.
struct TwinWrittenRecord {
  std::string document;
  absl::Time time;

  friend bool operator==(const TwinWrittenRecord&,
                         const TwinWrittenRecord&) = default;
};

struct TwinPatchedRecord {
  enum Kind : uint8_t { kMerged, kReplaced, kReported, kEnabled, kDisabled };
  std::string device_id;
  uint8_t kind = kMerged;
  std::string tags;  // JSON text; empty: not mentioned.
  std::string desired;
  std::string reported;
  absl::Time time;

  friend bool operator==(const TwinPatchedRecord&,
                         const TwinPatchedRecord&) = default;
};

struct TwinErasedRecord {
  std::string device_id;
  absl::Time time;

  friend bool operator==(const TwinErasedRecord&,
                         const TwinErasedRecord&) = default;
};

using Record = std::variant<JobCreatedRecord, TargetsRecord, JobStartedRecord,
                            DispatchedRecord, ReturnedRecord, ResultRecord,
                            FinishedRecord, JobEndedRecord, TwinWrittenRecord,
                            TwinPatchedRecord, TwinErasedRecord>;

void AppendRecord(const Record& record, std::string* out);

// The records that are written for every range, without building a Record.
void AppendDispatched(uint64_t job, uint32_t slice, absl::Time time,
                      absl::Span<const uint16_t> ranks, std::string* out);
void AppendReturned(uint64_t job, uint32_t slice,
                    absl::Span<const uint16_t> ranks, std::string* out);
void AppendFinished(uint64_t job, uint32_t slice, absl::Time time,
                    absl::Span<const FinishedRecord::Entry> entries,
                    std::string* out);

// Calls `visit` for each record of a chunk, in order.  DATA_LOSS, with the byte
// at which it stopped, for bytes that AppendRecord() did not write.
absl::Status ReadRecords(absl::string_view chunk,
                         absl::FunctionRef<void(Record)> visit);

}  // namespace muster

#endif  // ENGINE_JOURNAL_RECORD_H_
