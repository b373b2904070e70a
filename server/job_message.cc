#include "server/job_message.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "transport/grpc/convert.h"
#include "transport/grpc/names.h"
#include "transport/grpc/status.h"

namespace muster {
namespace {

std::optional<absl::Time> TimeOf(bool present,
                                 const google::protobuf::Timestamp& time) {
  if (!present) return std::nullopt;
  return FromTimestamp(time);
}

}  // namespace

absl::StatusOr<JobInfo> JobInfoOf(const v1::Job& job) {
  absl::StatusOr<std::string> id = ParseJobName("name", job.name());
  if (!id.ok()) return id.status();
  absl::StatusOr<JobRequest> request = FromJob(*id, job);
  if (!request.ok()) return request.status();
  absl::StatusOr<std::optional<JobStatus>> status =
      FromState("state", job.state());
  if (!status.ok()) return status.status();
  JobInfo info;
  info.job_id = *std::move(id);
  info.action = std::move(request->action);
  info.status = status->value_or(JobStatus::kQueued);
  info.query_condition = std::move(request->query_condition);
  info.created_time = FromTimestamp(job.create_time());
  info.start_time = request->start_time.value_or(info.created_time);
  info.end_time = TimeOf(job.has_end_time(), job.end_time());
  info.max_execution_time_seconds = request->max_execution_time_seconds;
  info.priority = request->priority;
  info.weight = request->weight;
  info.failure_reason = job.failure_reason();
  if (job.has_statistics()) {
    const v1::Job::Statistics& counts = job.statistics();
    info.statistics = JobStatistics{.device_count = counts.device_count(),
                                    .failed_count = counts.failed_count(),
                                    .succeeded_count = counts.succeeded_count(),
                                    .running_count = counts.running_count(),
                                    .pending_count = counts.pending_count()};
  }
  return info;
}

absl::StatusOr<ExecutionRecord> ExecutionRecordOf(
    const v1::Execution& execution) {
  absl::StatusOr<ExecutionId> id = ParseExecutionName("name", execution.name());
  if (!id.ok()) return id.status();
  absl::StatusOr<std::optional<ExecutionStatus>> status =
      FromState("state", execution.state());
  if (!status.ok()) return status.status();
  absl::StatusOr<std::optional<JobType>> type =
      FromType("type", execution.type());
  if (!type.ok()) return type.status();
  ExecutionRecord record;
  record.device_id = std::move(id->device_id);
  record.job_id = std::move(id->job_id);
  record.job_type = type->value_or(JobType::kDeviceMethod);
  record.status = status->value_or(ExecutionStatus::kPending);
  record.created_time = FromTimestamp(execution.create_time());
  record.last_updated_time = FromTimestamp(execution.update_time());
  record.start_time =
      TimeOf(execution.has_start_time(), execution.start_time());
  record.end_time = TimeOf(execution.has_end_time(), execution.end_time());
  if (execution.has_method_response()) {
    record.response = ExecutionRecord::MethodResponse{
        .status = execution.method_response().status(),
        .payload = execution.method_response().payload()};
  }
  if (execution.has_error()) {
    const absl::Status error = FromRpcStatus(execution.error());
    record.error_code = ErrorCodeOf(error);
    record.error_description = std::string(error.message());
  }
  return record;
}

v1::Job JobMessageOf(const JobRequest& request) {
  JobInfo info;
  info.action = request.action;
  info.query_condition = request.query_condition;
  info.max_execution_time_seconds = request.max_execution_time_seconds;
  info.priority = request.priority;
  info.weight = request.weight;
  if (request.start_time.has_value()) info.start_time = *request.start_time;
  v1::Job job = ToJob(info);
  job.clear_name();
  if (!request.start_time.has_value()) job.clear_start_time();
  return job;
}

}  // namespace muster
