#include "transport/grpc/convert.h"

#include <algorithm>
#include <string>
#include <utility>
#include <variant>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "engine/model/error.h"
#include "engine/model/json.h"
#include "engine/model/limits.h"
#include "engine/model/twin_patch.h"
#include "engine/twin/twin_document.h"
#include "transport/grpc/names.h"
#include "transport/grpc/status.h"

namespace muster {
namespace {

// What the engine's instants are kept in.
constexpr absl::Duration kTick = absl::Nanoseconds(100);

// What google.protobuf.Duration is defined for: 10,000 years.
constexpr int64_t kDurationSecondsMax = 315'576'000'000;

absl::Status NoSuchEnumerator(absl::string_view field, int number) {
  return FieldError(field, absl::StrCat("there is no value ", number));
}

// nullopt if there is none.
absl::StatusOr<std::optional<int64_t>> WholeSeconds(
    absl::string_view field, bool present,
    const google::protobuf::Duration& duration) {
  if (!present) return std::optional<int64_t>();
  if (duration.nanos() != 0) {
    return FieldError(
        field, absl::StrCat("must be whole seconds; got ", duration.nanos(),
                            " nanoseconds beside ", duration.seconds(), " s"));
  }
  return std::optional<int64_t>(duration.seconds());
}

absl::StatusOr<int> SecondsIn(absl::string_view field, int64_t seconds,
                              int64_t min, int64_t max) {
  if (seconds < min || seconds > max) {
    return FieldError(field, absl::StrCat("must be in [", min, ", ", max,
                                          "] seconds; got ", seconds));
  }
  return static_cast<int>(seconds);
}

absl::StatusOr<Action> FromTwinUpdate(const v1::TwinUpdate& update) {
  constexpr absl::string_view kField = "job.twin_update.merge_patch";
  if (update.merge_patch().empty()) {
    return AtField(kField, MakeError(ErrorCode::kArgumentNull,
                                     "job.twin_update.merge_patch is missing"));
  }
  absl::StatusOr<Json> json = ParseJson(update.merge_patch());
  if (!json.ok()) {
    return AtField(kField,
                   PrefixError("job.twin_update.merge_patch: ", json.status()));
  }
  absl::StatusOr<TwinPatch> patch =
      ParseTwinPatch(json->view(), PatchOrigin::kJob);
  if (!patch.ok()) {
    return AtField(
        kField, PrefixError("job.twin_update.merge_patch: ", patch.status()));
  }
  return Action(TwinUpdateAction{*std::move(patch)});
}

absl::StatusOr<Action> FromDirectMethod(const v1::DirectMethod& method) {
  MethodAction action;
  action.method_name = method.method_name();
  // As it reads back from the journal, which keeps no blanks around it.
  const absl::string_view payload =
      absl::StripAsciiWhitespace(method.payload());
  if (!payload.empty()) action.payload = std::string(payload);
  constexpr absl::string_view kResponse = "job.direct_method.response_timeout";
  absl::StatusOr<std::optional<int64_t>> seconds = WholeSeconds(
      kResponse, method.has_response_timeout(), method.response_timeout());
  if (!seconds.ok()) return seconds.status();
  if (seconds->has_value()) {
    absl::StatusOr<int> timeout =
        SecondsIn(kResponse, **seconds, kResponseTimeoutSecondsMin,
                  kResponseTimeoutSecondsMax);
    if (!timeout.ok()) return timeout.status();
    action.response_timeout_seconds = *timeout;
  }
  constexpr absl::string_view kConnect = "job.direct_method.connect_timeout";
  seconds = WholeSeconds(kConnect, method.has_connect_timeout(),
                         method.connect_timeout());
  if (!seconds.ok()) return seconds.status();
  if (seconds->has_value()) {
    absl::StatusOr<int> timeout =
        SecondsIn(kConnect, **seconds, 0, kConnectTimeoutSecondsMax);
    if (!timeout.ok()) return timeout.status();
    action.connect_timeout_seconds = *timeout;
  }
  return Action(std::move(action));
}

// Text that is the same for patches that do the same, and also after it was
// written down and read again.
std::string PatchText(const TwinPatch& patch) {
  const auto text = [](const Json& part) {
    return part.is_undefined() ? std::string("{}") : JsonText(part.view());
  };
  return absl::StrCat(text(patch.tags), "\n", text(patch.desired));
}

}  // namespace

google::protobuf::Timestamp ToTimestamp(absl::Time time) {
  google::protobuf::Timestamp out;
  const int64_t seconds = absl::ToUnixSeconds(time);  // Rounded down.
  out.set_seconds(seconds);
  out.set_nanos(static_cast<int32_t>(
      absl::ToInt64Nanoseconds(time - absl::FromUnixSeconds(seconds))));
  return out;
}

absl::Time FromTimestamp(const google::protobuf::Timestamp& time) {
  return absl::FromUnixSeconds(time.seconds()) +
         absl::Nanoseconds(time.nanos());
}

google::protobuf::Duration ToDuration(absl::Duration duration) {
  google::protobuf::Duration out;
  // A journal may have more than callers here may say.
  duration = std::min(duration, absl::Seconds(kDurationSecondsMax));
  out.set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &duration));
  out.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(duration)));
  return out;
}

v1::Job::State ToState(JobStatus status) {
  switch (status) {
    case JobStatus::kQueued:
      return v1::Job::STATE_QUEUED;
    case JobStatus::kScheduled:
      return v1::Job::STATE_SCHEDULED;
    case JobStatus::kRunning:
      return v1::Job::STATE_RUNNING;
    case JobStatus::kCompleted:
      return v1::Job::STATE_COMPLETED;
    case JobStatus::kFailed:
      return v1::Job::STATE_FAILED;
    case JobStatus::kCancelled:
      return v1::Job::STATE_CANCELLED;
  }
  return v1::Job::STATE_UNSPECIFIED;
}

v1::Job::Type ToType(JobType type) {
  return type == JobType::kDeviceMethod ? v1::Job::TYPE_DIRECT_METHOD
                                        : v1::Job::TYPE_TWIN_UPDATE;
}

v1::Job::Priority ToPriority(JobPriority priority) {
  switch (priority) {
    case JobPriority::kEmergency:
      return v1::Job::PRIORITY_EMERGENCY;
    case JobPriority::kHigh:
      return v1::Job::PRIORITY_HIGH;
    case JobPriority::kNormal:
      return v1::Job::PRIORITY_NORMAL;
    case JobPriority::kLow:
      return v1::Job::PRIORITY_LOW;
  }
  return v1::Job::PRIORITY_UNSPECIFIED;
}

v1::Execution::State ToState(ExecutionStatus status) {
  switch (status) {
    case ExecutionStatus::kPending:
      return v1::Execution::STATE_PENDING;
    case ExecutionStatus::kRunning:
      return v1::Execution::STATE_RUNNING;
    case ExecutionStatus::kCompleted:
      return v1::Execution::STATE_COMPLETED;
    case ExecutionStatus::kFailed:
      return v1::Execution::STATE_FAILED;
    case ExecutionStatus::kCanceled:
      return v1::Execution::STATE_CANCELED;
  }
  return v1::Execution::STATE_UNSPECIFIED;
}

absl::StatusOr<std::optional<JobStatus>> FromState(absl::string_view field,
                                                   v1::Job::State state) {
  std::optional<JobStatus> status;
  if (state == v1::Job::STATE_UNSPECIFIED) return status;
  for (const JobStatus s :
       {JobStatus::kQueued, JobStatus::kScheduled, JobStatus::kRunning,
        JobStatus::kCompleted, JobStatus::kFailed, JobStatus::kCancelled}) {
    if (ToState(s) == state) status = s;
  }
  if (!status.has_value()) return NoSuchEnumerator(field, state);
  return status;
}

absl::StatusOr<std::optional<JobType>> FromType(absl::string_view field,
                                                v1::Job::Type type) {
  std::optional<JobType> out;
  if (type == v1::Job::TYPE_UNSPECIFIED) return out;
  for (const JobType t : {JobType::kUpdateTwin, JobType::kDeviceMethod}) {
    if (ToType(t) == type) out = t;
  }
  if (!out.has_value()) return NoSuchEnumerator(field, type);
  return out;
}

absl::StatusOr<std::optional<ExecutionStatus>> FromState(
    absl::string_view field, v1::Execution::State state) {
  std::optional<ExecutionStatus> status;
  if (state == v1::Execution::STATE_UNSPECIFIED) return status;
  for (const ExecutionStatus s :
       {ExecutionStatus::kPending, ExecutionStatus::kRunning,
        ExecutionStatus::kCompleted, ExecutionStatus::kFailed,
        ExecutionStatus::kCanceled}) {
    if (ToState(s) == state) status = s;
  }
  if (!status.has_value()) return NoSuchEnumerator(field, state);
  return status;
}

v1::Job ToJob(const JobInfo& job) {
  v1::Job out;
  out.set_name(JobName(job.job_id));
  if (const auto* method = std::get_if<MethodAction>(&job.action)) {
    v1::DirectMethod& to = *out.mutable_direct_method();
    to.set_method_name(method->method_name);
    to.set_payload(method->payload);
    *to.mutable_response_timeout() =
        ToDuration(absl::Seconds(method->response_timeout_seconds));
    if (method->connect_timeout_seconds != 0) {
      *to.mutable_connect_timeout() =
          ToDuration(absl::Seconds(method->connect_timeout_seconds));
    }
  } else {
    const TwinPatch& patch = std::get<TwinUpdateAction>(job.action).patch;
    std::string text;
    JsonWriter writer(&text);
    writer.BeginObject();
    if (!patch.tags.is_undefined()) {
      writer.Key("tags").Value(patch.tags.view());
    }
    if (!patch.desired.is_undefined()) {
      writer.Key("properties").BeginObject();
      writer.Key("desired").Value(patch.desired.view());
      writer.EndObject();
    }
    writer.EndObject();
    out.mutable_twin_update()->set_merge_patch(std::move(text));
  }
  out.set_query_condition(job.query_condition);
  *out.mutable_start_time() = ToTimestamp(job.start_time);
  *out.mutable_max_execution_time() =
      ToDuration(absl::Seconds(job.max_execution_time_seconds));
  out.set_priority(ToPriority(job.priority));
  out.set_weight(job.weight);
  out.set_state(ToState(job.status));
  out.set_type(ToType(job.type()));
  *out.mutable_create_time() = ToTimestamp(job.created_time);
  if (job.end_time.has_value()) {
    *out.mutable_end_time() = ToTimestamp(*job.end_time);
    *out.mutable_expire_time() =
        ToTimestamp(*job.end_time + absl::Hours(24 * kJobHistoryDays));
  }
  out.set_failure_reason(job.failure_reason);
  if (job.statistics.has_value()) {
    v1::Job::Statistics& to = *out.mutable_statistics();
    to.set_device_count(job.statistics->device_count);
    to.set_succeeded_count(job.statistics->succeeded_count);
    to.set_failed_count(job.statistics->failed_count);
    to.set_running_count(job.statistics->running_count);
    to.set_pending_count(job.statistics->pending_count);
  }
  return out;
}

v1::Execution ToExecution(const ExecutionRecord& record) {
  v1::Execution out;
  out.set_name(ExecutionName(record.job_id, record.device_id));
  out.set_twin(TwinName(record.device_id));
  out.set_type(ToType(record.job_type));
  out.set_state(ToState(record.status));
  *out.mutable_create_time() = ToTimestamp(record.created_time);
  if (record.start_time.has_value()) {
    *out.mutable_start_time() = ToTimestamp(*record.start_time);
  }
  *out.mutable_update_time() = ToTimestamp(record.last_updated_time);
  if (record.end_time.has_value()) {
    *out.mutable_end_time() = ToTimestamp(*record.end_time);
  }
  if (record.response.has_value()) {
    out.mutable_method_response()->set_status(record.response->status);
    out.mutable_method_response()->set_payload(record.response->payload);
  }
  if (record.status == ExecutionStatus::kFailed &&
      record.error_code != ErrorCode::kOk) {
    *out.mutable_error() =
        ToRpcStatus(MakeError(record.error_code, record.error_description));
  }
  return out;
}

v1::Twin ToTwin(const TwinSnapshot& twin) {
  v1::Twin out;
  out.set_name(TwinName(twin.device_id));
  AppendTwinJson(twin.document.view(), out.mutable_document());
  out.set_etag(twin.etag);
  out.set_version(twin.state.version);
  return out;
}

absl::StatusOr<JobRequest> FromJob(absl::string_view job_id,
                                   const v1::Job& job) {
  JobRequest request;
  request.job_id = std::string(job_id);
  absl::StatusOr<Action> action =
      MakeError(ErrorCode::kArgumentNull,
                "job.action is missing: either twin_update or direct_method");
  if (job.has_twin_update()) {
    action = FromTwinUpdate(job.twin_update());
  } else if (job.has_direct_method()) {
    action = FromDirectMethod(job.direct_method());
  }
  if (!action.ok()) return AtField("job.action", action.status());
  request.action = *std::move(action);
  if (job.query_condition().empty()) {
    return AtField("job.query_condition",
                   MakeError(ErrorCode::kArgumentNull,
                             "job.query_condition is missing: \"*\" for all "
                             "devices, or a condition"));
  }
  request.query_condition = job.query_condition();
  if (job.has_start_time()) {
    const int32_t nanos = job.start_time().nanos();
    if (nanos < 0 || nanos > 999'999'999) {
      return FieldError("job.start_time", "nanos must be in [0, 999999999]");
    }
    const absl::Time time = FromTimestamp(job.start_time());
    request.start_time =
        absl::UnixEpoch() + absl::Floor(time - absl::UnixEpoch(), kTick);
  }
  absl::StatusOr<std::optional<int64_t>> limit =
      WholeSeconds("job.max_execution_time", job.has_max_execution_time(),
                   job.max_execution_time());
  if (!limit.ok()) return limit.status();
  if (limit->has_value()) {
    if (**limit < 1 || **limit > kDurationSecondsMax) {
      return FieldError("job.max_execution_time",
                        absl::StrCat("must be in [1, ", kDurationSecondsMax,
                                     "] seconds; got ", **limit));
    }
    request.max_execution_time_seconds = **limit;
  }
  if (job.priority() != v1::Job::PRIORITY_UNSPECIFIED) {
    bool known = false;
    for (const JobPriority p : {JobPriority::kEmergency, JobPriority::kHigh,
                                JobPriority::kNormal, JobPriority::kLow}) {
      if (ToPriority(p) != job.priority()) continue;
      request.priority = p;
      known = true;
    }
    if (!known) return NoSuchEnumerator("job.priority", job.priority());
  }
  if (job.weight() != 0) {
    if (job.weight() < kJobWeightMin || job.weight() > kJobWeightMax) {
      return FieldError("job.weight",
                        absl::StrCat("must be in [", kJobWeightMin, ", ",
                                     kJobWeightMax, "]; got ", job.weight()));
    }
    request.weight = job.weight();
  }
  return request;
}

bool IsSameJob(const JobInfo& job, const JobRequest& request) {
  if (job.action.index() != request.action.index() ||
      job.query_condition != request.query_condition ||
      job.start_time != request.start_time.value_or(job.created_time) ||
      job.max_execution_time_seconds != request.max_execution_time_seconds ||
      job.priority != request.priority || job.weight != request.weight) {
    return false;
  }
  if (const auto* method = std::get_if<MethodAction>(&job.action)) {
    const auto& asked = std::get<MethodAction>(request.action);
    return method->method_name == asked.method_name &&
           method->payload == asked.payload &&
           method->response_timeout_seconds == asked.response_timeout_seconds &&
           method->connect_timeout_seconds == asked.connect_timeout_seconds;
  }
  return PatchText(std::get<TwinUpdateAction>(job.action).patch) ==
         PatchText(std::get<TwinUpdateAction>(request.action).patch);
}

}  // namespace muster
