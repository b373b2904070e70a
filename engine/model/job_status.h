// The one table of statuses and types, with every spelling that is understood
// (contract 2.1, 2.2, 3.2).
#ifndef ENGINE_MODEL_JOB_STATUS_H_
#define ENGINE_MODEL_JOB_STATUS_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

enum class JobType : uint8_t { kUpdateTwin, kDeviceMethod };

enum class JobStatus : uint8_t {
  kQueued,
  kScheduled,
  kRunning,
  kCompleted,  // Terminal from here on.
  kFailed,
  kCancelled,
};
inline constexpr int kJobStatusCount = 6;

enum class ExecutionStatus : uint8_t {
  kPending,
  kRunning,
  kCompleted,  // Terminal from here on.
  kFailed,
  kCanceled,
};

// Classes of urgency: while one has work, no worker starts on work of a class
// after it.  Not part of the hub's contract; its jobs are normal.
enum class JobPriority : uint8_t { kEmergency, kHigh, kNormal, kLow };
inline constexpr int kJobPriorities = 4;

inline bool IsTerminal(JobStatus s) { return s >= JobStatus::kCompleted; }
inline bool IsTerminal(ExecutionStatus s) {
  return s >= ExecutionStatus::kCompleted;
}

// "scheduleUpdateTwin", "scheduleDeviceMethod".
absl::string_view JobTypeName(JobType type);
// "queued", ..., "cancelled".
absl::string_view JobStatusName(JobStatus status);
// "pending", ..., "canceled".
absl::string_view ExecutionStatusName(ExecutionStatus status);

// By name or alias, in any case.  ArgumentInvalid (400004) for anything else,
// naming the value and what is known.  A job type's name from older documents
// (contract 1.2) is refused too, and the message names today's.
absl::StatusOr<JobType> ParseJobType(absl::string_view name);
absl::StatusOr<JobStatus> ParseJobStatus(absl::string_view name);
absl::StatusOr<ExecutionStatus> ParseExecutionStatus(absl::string_view name);

}  // namespace muster

#endif  // ENGINE_MODEL_JOB_STATUS_H_
