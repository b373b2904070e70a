// Records: the logical state changes inside a chunk.
//
// A record is a type byte, a varint length, and fields: varints, and strings
// with a varint length.  Executions are named by job, slice and rank (a
// target's place in the slice's target set), ranks as runs: a range of 256
// costs a few bytes, an outcome on its own one to three.  Nothing is ever
// counted in the journal: statistics follow from the last state of each rank,
// so that reading a record twice changes nothing.
//
//   what happened            records, in this order
//   a job was accepted       JobCreated
//   it started               Targets per slice, then JobStarted
//   methods are to be sent   Dispatched (before they are)
//   ... were not, or had no  Returned
//   device to go to
//   answers, timeouts        Result for each new kind, then Finished
//   a patch was applied      Result, then Dispatched, then Finished
//   a running job is to end  JobCancelRequested
//   the job ended            JobEnded
//   its history ended        JobExpired
//   a twin was written       TwinWritten, TwinPatched, TwinErased
//   a fleet was loaded       ShardWritten
//   the registry has made    IdentityWritten
//   or changed a device
//
// Records of a shard (of its twins, and of slices over it) carry the shard's
// sequence (twin/shard.h) after what they tell.  They stand in the journal in
// the order of those sequences, and whoever has a shard as it was at sequence s
// goes on from it by the records beyond s.
//
// A snapshot is made of the same records: the shortest way to what is retained
// of a partition, between SnapshotBegin and SnapshotEnd.  There ShardWritten
// holds what the Finished records of twin jobs have done to the twins already.
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
  uint32_t shard = 0;  // Its number in its partition.
  uint64_t sequence = 0;
  uint64_t run = 0;  // Of the evaluation: JobStartedRecord::run.
  uint64_t cut = 0;  // The shard's sequence at evaluation.
  // Of a twin job: what Finished records mean for the twins.  JSON text;
  // empty: not mentioned.
  std::string tags;
  std::string desired;
  std::vector<uint16_t> rows;  // Ascending.

  friend bool operator==(const TargetsRecord&, const TargetsRecord&) = default;
};

// The target sets with the same `run` are the job's; others are of an
// evaluation that a crash has overtaken.
struct JobStartedRecord {
  uint64_t job = 0;
  uint64_t run = 0;
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
  uint64_t sequence = 0;
  absl::Time time;
  std::vector<uint16_t> ranks;  // Ascending.

  friend bool operator==(const DispatchedRecord&,
                         const DispatchedRecord&) = default;
};

// The ranks are pending again.
struct ReturnedRecord {
  struct Entry {
    uint16_t rank = 0;
    uint8_t attempt = 0;  // Of the next dispatch: another one if it was sent.
    friend bool operator==(const Entry&, const Entry&) = default;
  };
  uint64_t job = 0;
  uint32_t slice = 0;
  uint64_t sequence = 0;
  std::vector<Entry> entries;  // Ascending ranks.

  friend bool operator==(const ReturnedRecord&,
                         const ReturnedRecord&) = default;
};

// How executions of a slice ended; Finished refers to it by number.
struct ResultRecord {
  uint64_t job = 0;
  uint32_t slice = 0;
  uint64_t sequence = 0;
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
  uint64_t sequence = 0;
  absl::Time time;
  std::vector<Entry> entries;  // Ascending ranks.

  friend bool operator==(const FinishedRecord&,
                         const FinishedRecord&) = default;
};

// Whoever cancelled the running job was told so: it will end cancelled.
struct JobCancelRequestedRecord {
  uint64_t job = 0;

  friend bool operator==(const JobCancelRequestedRecord&,
                         const JobCancelRequestedRecord&) = default;
};

struct JobEndedRecord {
  uint64_t job = 0;
  uint8_t status = 0;  // JobStatus.
  absl::Time time;
  std::string failure_reason;

  friend bool operator==(const JobEndedRecord&,
                         const JobEndedRecord&) = default;
};

// The job is forgotten: its id is free.
struct JobExpiredRecord {
  uint64_t job = 0;

  friend bool operator==(const JobExpiredRecord&,
                         const JobExpiredRecord&) = default;
};

// The whole twin as JSON, with the counters that it has from now on.
struct TwinWrittenRecord {
  uint32_t shard = 0;  // Its number in its partition.
  uint16_t row = 0;
  uint64_t sequence = 0;
  std::string document;
  absl::Time time;

  friend bool operator==(const TwinWrittenRecord&,
                         const TwinWrittenRecord&) = default;
};

struct TwinPatchedRecord {
  enum Kind : uint8_t { kMerged, kReplaced, kReported, kEnabled, kDisabled };
  uint32_t shard = 0;
  uint16_t row = 0;
  uint64_t sequence = 0;
  uint8_t kind = kMerged;
  std::string tags;  // JSON text; empty: not mentioned.
  std::string desired;
  std::string reported;
  absl::Time time;

  friend bool operator==(const TwinPatchedRecord&,
                         const TwinPatchedRecord&) = default;
};

struct TwinErasedRecord {
  uint32_t shard = 0;
  uint16_t row = 0;
  uint64_t sequence = 0;

  friend bool operator==(const TwinErasedRecord&,
                         const TwinErasedRecord&) = default;
};

// A whole shard: ShardSnapshot's bytes.  When read, a view into the chunk.
struct ShardWrittenRecord {
  uint32_t shard = 0;
  uint64_t sequence = 0;
  absl::string_view bytes;

  friend bool operator==(const ShardWrittenRecord&,
                         const ShardWrittenRecord&) = default;
};

struct SnapshotBeginRecord {
  uint64_t next_job = 0;  // The serial number of the next job.

  friend bool operator==(const SnapshotBeginRecord&,
                         const SnapshotBeginRecord&) = default;
};

struct SnapshotEndRecord {
  uint32_t shard_count = 0;

  friend bool operator==(const SnapshotEndRecord&,
                         const SnapshotEndRecord&) = default;
};

// The registry's part of a twin (twin/identity_document.h), with the secrets in
// it; makes the twin if the row is free.
struct IdentityWrittenRecord {
  uint32_t shard = 0;
  uint16_t row = 0;
  uint64_t sequence = 0;
  std::string document;
  absl::Time time;

  friend bool operator==(const IdentityWrittenRecord&,
                         const IdentityWrittenRecord&) = default;
};

// A record's type is its place here, plus one: new ones come last.
using Record =
    std::variant<JobCreatedRecord, TargetsRecord, JobStartedRecord,
                 DispatchedRecord, ReturnedRecord, ResultRecord, FinishedRecord,
                 JobCancelRequestedRecord, JobEndedRecord, JobExpiredRecord,
                 TwinWrittenRecord, TwinPatchedRecord, TwinErasedRecord,
                 ShardWrittenRecord, SnapshotBeginRecord, SnapshotEndRecord,
                 IdentityWrittenRecord>;

// "JobCreated", and so on.
absl::string_view RecordName(const Record& record);

void AppendRecord(const Record& record, std::string* out);

// The records that are written for every range, without building a Record.
void AppendDispatched(uint64_t job, uint32_t slice, uint64_t sequence,
                      absl::Time time, absl::Span<const uint16_t> ranks,
                      std::string* out);
void AppendReturned(uint64_t job, uint32_t slice, uint64_t sequence,
                    absl::Span<const ReturnedRecord::Entry> entries,
                    std::string* out);
void AppendFinished(uint64_t job, uint32_t slice, uint64_t sequence,
                    absl::Time time,
                    absl::Span<const FinishedRecord::Entry> entries,
                    std::string* out);
// `write` appends the shard's bytes.
void AppendShardWritten(uint32_t shard, uint64_t sequence,
                        absl::FunctionRef<void(std::string*)> write,
                        std::string* out);

// Calls `visit` for each record of a chunk, in order; stops with its status if
// that is an error.  DATA_LOSS, with the byte at which it stopped, for bytes
// that AppendRecord() did not write.
absl::Status ReadRecords(absl::string_view chunk,
                         absl::FunctionRef<absl::Status(const Record&)> visit);

}  // namespace muster

#endif  // ENGINE_JOURNAL_RECORD_H_
