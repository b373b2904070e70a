// Jobs as values: what a caller asks for, and what a caller reads back
// (contract sections 1 and 3).
#ifndef ENGINE_MODEL_JOB_H_
#define ENGINE_MODEL_JOB_H_

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/model/error.h"
#include "engine/model/job_status.h"
#include "engine/model/json.h"
#include "engine/model/limits.h"
#include "engine/model/twin_patch.h"

namespace muster {

// Invoke a direct method on each device.
struct MethodAction {
  std::string method_name;
  std::string payload = "null";  // JSON text; travels as it stands.
  int response_timeout_seconds = kResponseTimeoutSecondsDefault;  // 5..300
  int connect_timeout_seconds = 0;  // 0..300; 0 = wait until the job's limit.
};

// Merge one patch into each device's twin.  `patch.reported` is ignored.
struct TwinUpdateAction {
  TwinPatch patch;
};

using Action = std::variant<TwinUpdateAction, MethodAction>;

struct JobRequest {
  std::string job_id;  // [A-Za-z0-9-]{1,64}, not "query".
  Action action;
  std::string query_condition;  // "*", or a condition over device twins.
  // Past or absent: now.  In the years 0001 to 9999 of UTC, which is what the
  // output format can print.
  std::optional<absl::Time> start_time;
  // Time that the job may run; at least 1, no upper limit.  absl::Seconds() of
  // any int64_t is exact and sums of absl::Time and absl::Duration saturate, so
  // that a deadline beyond all time is absl::InfiniteFuture(), never a wrap.
  int64_t max_execution_time_seconds = kMaxExecutionTimeSecondsDefault;
  // Who goes first, and among jobs of one priority whose devices are served how
  // often: one of weight 200 gets twice the rows of one of 100 while both have
  // some.  In [1, 1000].  What a job can owe is limited: one with slices in n
  // shards (of 16,384 twins each) counts for n / 40 at least; of a limited
  // rate, for n / 10.
  JobPriority priority = JobPriority::kNormal;
  int weight = kJobWeightDefault;

  JobType type() const {
    return std::holds_alternative<MethodAction>(action) ? JobType::kDeviceMethod
                                                        : JobType::kUpdateTwin;
  }
};

struct JobParseOptions {
  // Contract 1.7: token alphabet for string values too, not for names only.
  bool strict_job_value_charset = false;
  // Row 4.  A journal's own text of a job says more than the request did.
  size_t body_size_max = kJobBodySizeMax;
};

// Reads a request body (contract 1.2) for the job `path_job_id` and validates
// everything that needs no twin, no clock and no other job: rows 4 to 9 of
// contract 1.10, in that order; the first failure is the answer.  Each message
// names the member, the value and what would be right.  The condition's text is
// only checked for presence and type here; its syntax is engine/query's.
// If `path_job_id` is empty the body's jobId is taken, and must be there.
//
//   MessageTooLarge    row 4: body over kJobBodySizeMax; row 8: payload text
//                      over kMethodPayloadSizeMax, white space in it included,
//                      or a section of the patch over its limit
//   IotHubFormatError  row 4: no UTF-8, no JSON, no object, a member twice
//   GenericBadRequest  row 6: `type` is none of the two, whatever else it is
//   ArgumentNull       row 6: a required member is absent or null
//   ArgumentInvalid    rows 5 to 8: everything else
//   PreconditionFailed row 9: etag
//
// Within a row members are looked at in the order of the contract's tables.  An
// integer has no fraction and no exponent: 30.0 and 3e1 are refused where 30 is
// meant.  jobId may be a number in the body (123 for "123").  The payload keeps
// the text it has in `body`.  O(body).
absl::StatusOr<JobRequest> ParseJobRequest(absl::string_view path_job_id,
                                           absl::string_view body,
                                           const JobParseOptions& options = {});

// Rows 5 to 9 of the same checks, with the same errors, for a request built in
// C++.  It has no defaults to fall back to: a payload that is no JSON text or
// an execution time of 0 is ArgumentInvalid.  So is patch.desired_version,
// because a job's update is forced.  REQUIRES: the texts are UTF-8.
absl::Status ValidateJobRequest(const JobRequest& request,
                                const JobParseOptions& options = {});

// Reads the body of a direct method's invocation outside of jobs: the members
// of contract 1.4, under the same checks as a job's, with their defaults. Other
// members are ignored.
//   MessageTooLarge    body over kJobBodySizeMax, payload over
//                      kMethodPayloadSizeMax
//   IotHubFormatError  no UTF-8, no JSON, no object, a member twice
//   ArgumentNull       methodName is absent or null
//   ArgumentInvalid    everything else
absl::StatusOr<MethodAction> ParseMethodCall(
    absl::string_view body, const JobParseOptions& options = {});

// The same checks for an action built in C++.  REQUIRES: the texts are UTF-8.
absl::Status ValidateMethodCall(const MethodAction& action,
                                const JobParseOptions& options = {});

// ArgumentInvalid unless `job_id` follows contract 1.1.
absl::Status ValidateJobId(absl::string_view job_id);

// Counts of executions; device = failed + succeeded + running + pending.
struct JobStatistics {
  int64_t device_count = 0;
  int64_t failed_count = 0;  // canceled ones included
  int64_t succeeded_count = 0;
  int64_t running_count = 0;
  int64_t pending_count = 0;

  friend bool operator==(const JobStatistics&, const JobStatistics&) = default;
};

// A job as it stood at one instant.
struct JobInfo {
  std::string job_id;
  Action action;
  JobStatus status = JobStatus::kQueued;
  std::string query_condition;
  absl::Time created_time;
  absl::Time start_time;
  std::optional<absl::Time> end_time;  // Set in terminal states.
  int64_t max_execution_time_seconds = 0;
  JobPriority priority = JobPriority::kNormal;
  int weight = kJobWeightDefault;
  std::string failure_reason;               // Only with status failed.
  std::optional<JobStatistics> statistics;  // From running on.
  // Positive, and larger with each change of what is shown here, and with each
  // restart of the engine: of two values the later one is known by it.
  int64_t revision = 0;

  JobType type() const {
    return std::holds_alternative<MethodAction>(action) ? JobType::kDeviceMethod
                                                        : JobType::kUpdateTwin;
  }
};

// The JobResponse of contract 1.6, as GET shows it: compact, its members in the
// order of contract 1.12.  What is unset is left out; `failureReason` is there
// exactly in status failed.  `updateTwin` echoes the patch as it was sent, with
// `"deviceId":null,"etag":"*"` before it and without `reported`.  Appends to
// `*out`.
// REQUIRES: the times are within the years 0001 to 9999.
void AppendJobJson(const JobInfo& job, std::string* out);

// One device's share of a job (contract 3.1).
struct ExecutionRecord {
  std::string device_id;
  std::string job_id;
  JobType job_type = JobType::kDeviceMethod;
  ExecutionStatus status = ExecutionStatus::kPending;
  absl::Time created_time;
  absl::Time last_updated_time;
  std::optional<absl::Time> start_time;
  std::optional<absl::Time> end_time;
  // Method jobs, when the device answered.
  struct MethodResponse {
    int32_t status = 0;
    std::string payload = "null";  // JSON text.
  };
  std::optional<MethodResponse> response;
  // kOk unless status is failed or canceled.
  ErrorCode error_code = ErrorCode::kOk;
  std::string error_description;
};

// The record of contract 3.1, with the members of 3.5 in that order, compact.
// Unset times are left out.  `outcome` is there in every record of a twin job,
// and in one of a method job when the device has answered.  Appends to `*out`.
void AppendExecutionJson(const ExecutionRecord& record, std::string* out);

}  // namespace muster

#endif  // ENGINE_MODEL_JOB_H_
