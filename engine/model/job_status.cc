// Names and aliases of types and statuses, one table each.
#include "engine/model/job_status.h"

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "engine/model/check.h"
#include "engine/model/error.h"

namespace muster {
namespace {

template <typename T>
struct Spelling {
  absl::string_view text;
  T value;
};

// In each table a value's first spelling is its name, the others are aliases.

constexpr Spelling<JobType> kJobTypes[] = {
    {"scheduleUpdateTwin", JobType::kUpdateTwin},
    {"scheduleDeviceMethod", JobType::kDeviceMethod},
};

// Names of older documents.  The live service refuses them and so do we
// (contract 1.2), but whoever copied one from there is told what to write.
constexpr Spelling<JobType> kDeadJobTypes[] = {
    {"scheduleTwinUpdate", JobType::kUpdateTwin},
    {"scheduledUpdateTwin", JobType::kUpdateTwin},
    {"scheduleDirectRequest", JobType::kDeviceMethod},
    {"scheduleDirectMethod", JobType::kDeviceMethod},
    {"scheduledDeviceMethod", JobType::kDeviceMethod},
};

constexpr Spelling<JobStatus> kJobStatuses[] = {
    {"queued", JobStatus::kQueued},       {"enqueued", JobStatus::kQueued},
    {"pending", JobStatus::kQueued},      {"scheduled", JobStatus::kScheduled},
    {"running", JobStatus::kRunning},     {"completed", JobStatus::kCompleted},
    {"finished", JobStatus::kCompleted},  {"failed", JobStatus::kFailed},
    {"cancelled", JobStatus::kCancelled}, {"canceled", JobStatus::kCancelled},
};

// `scheduled` of a record is folded into pending (contract 3.2).
constexpr Spelling<ExecutionStatus> kExecutionStatuses[] = {
    {"pending", ExecutionStatus::kPending},
    {"queued", ExecutionStatus::kPending},
    {"enqueued", ExecutionStatus::kPending},
    {"scheduled", ExecutionStatus::kPending},
    {"running", ExecutionStatus::kRunning},
    {"completed", ExecutionStatus::kCompleted},
    {"finished", ExecutionStatus::kCompleted},
    {"failed", ExecutionStatus::kFailed},
    {"canceled", ExecutionStatus::kCanceled},
    {"cancelled", ExecutionStatus::kCanceled},
};

template <typename T>
absl::string_view NameOf(absl::Span<const Spelling<T>> table, T value) {
  for (const Spelling<T>& entry : table) {
    if (entry.value == value) return entry.text;
  }
  MUSTER_CHECK(false && "a value that is not in its table");
}

template <typename T>
const Spelling<T>* Find(absl::Span<const Spelling<T>> table,
                        absl::string_view text) {
  for (const Spelling<T>& entry : table) {
    if (absl::EqualsIgnoreCase(entry.text, text)) return &entry;
  }
  return nullptr;
}

template <typename T>
absl::StatusOr<T> Parse(absl::string_view what,
                        absl::Span<const Spelling<T>> table,
                        absl::string_view text) {
  if (const Spelling<T>* entry = Find(table, text)) return entry->value;
  std::string message = absl::StrCat(what, " \"", text, "\" is unknown; known");
  absl::string_view separator = ": ";
  for (const Spelling<T>& entry : table) {
    absl::StrAppend(&message, separator, entry.text);
    separator = ", ";
  }
  return MakeError(ErrorCode::kArgumentInvalid, message);
}

}  // namespace

absl::string_view JobTypeName(JobType type) {
  return NameOf<JobType>(kJobTypes, type);
}

absl::string_view JobStatusName(JobStatus status) {
  return NameOf<JobStatus>(kJobStatuses, status);
}

absl::string_view ExecutionStatusName(ExecutionStatus status) {
  return NameOf<ExecutionStatus>(kExecutionStatuses, status);
}

absl::StatusOr<JobType> ParseJobType(absl::string_view name) {
  if (const auto* dead = Find<JobType>(kDeadJobTypes, name)) {
    return MakeError(ErrorCode::kArgumentInvalid,
                     absl::StrCat("job type \"", name,
                                  "\" is a name from older documents; write \"",
                                  JobTypeName(dead->value), "\""));
  }
  return Parse<JobType>("job type", kJobTypes, name);
}

absl::StatusOr<JobStatus> ParseJobStatus(absl::string_view name) {
  return Parse<JobStatus>("job status", kJobStatuses, name);
}

absl::StatusOr<ExecutionStatus> ParseExecutionStatus(absl::string_view name) {
  return Parse<ExecutionStatus>("status", kExecutionStatuses, name);
}

}  // namespace muster
