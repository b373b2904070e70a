#include "transport/grpc/job_service.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/json.h"
#include "engine/query/condition.h"
#include "transport/grpc/convert.h"
#include "transport/grpc/names.h"
#include "transport/grpc/page_size.h"
#include "transport/grpc/status.h"
#include "transport/grpc/twin_query.h"
#include "transport/grpc/uuid.h"

namespace muster {
namespace {

constexpr int kSampleMax = 1000;
constexpr absl::string_view kSampleQuery = "SELECT deviceId FROM devices";

// The engine speaks of members of the public hub's request: the field of ours
// that is meant.
absl::Status AtJobField(const absl::Status& status) {
  constexpr struct {
    absl::string_view prefix;
    absl::string_view field;
  } kFields[] = {
      {"cloudToDeviceMethod.methodName", "job.direct_method.method_name"},
      {"cloudToDeviceMethod.payload", "job.direct_method.payload"},
      {"updateTwin", "job.twin_update.merge_patch"},
      {"queryCondition", "job.query_condition"},
      {"startTime", "job.start_time"},
      {"jobId", "job_id"},
  };
  if (!absl::IsInvalidArgument(status)) return status;
  for (const auto& [prefix, field] : kFields) {
    if (absl::StartsWith(status.message(), prefix)) {
      return AtField(field, status);
    }
  }
  return status;
}

}  // namespace

JobService::JobService(const ServiceContext& context)
    : context_(context),
      engine_(context.engine),
      calls_(context.guard, context.executor),
      watches_(context) {}

// --------------------------------------------------------------------- create

absl::Status JobService::Create(const v1::CreateJobRequest& request,
                                v1::Job* response) {
  if (!request.request_id().empty() && !IsUuid(request.request_id())) {
    return FieldError("request_id",
                      "must be a UUID, such as "
                      "\"6f1ed002-ab5f-4cd8-a1a3-1cf0d5d1c0a1\"");
  }
  const std::string job_id = !request.job_id().empty() ? request.job_id()
                             : !request.request_id().empty()
                                 ? request.request_id()
                                 : NewUuid();
  if (absl::Status s = ValidateJobId(job_id); !s.ok()) {
    return AtField("job_id", s);
  }
  absl::StatusOr<JobRequest> job = FromJob(job_id, request.job());
  if (!job.ok()) return job.status();
  absl::Status status = request.validate_only() ? ValidateOnly(*job, response)
                                                : CreateNew(*job, response);
  if (ErrorCodeOf(status) == ErrorCode::kJobAlreadyExists &&
      !request.request_id().empty()) {
    // Asked for a second time, perhaps because the answer was lost.
    const absl::StatusOr<JobInfo> existing = engine_->GetJob(job_id);
    if (existing.ok() && IsSameJob(*existing, *job)) {
      *response = ToJob(*existing);
      return absl::OkStatus();
    }
  }
  return AtJobField(status);
}

absl::Status JobService::CreateNew(const JobRequest& job, v1::Job* response) {
  absl::StatusOr<JobInfo> created = engine_->CreateJob(job);
  if (!created.ok()) return created.status();
  *response = ToJob(*created);
  return absl::OkStatus();
}

absl::Status JobService::ValidateOnly(const JobRequest& job,
                                      v1::Job* response) const {
  if (absl::Status s = ValidateJobRequest(job); !s.ok()) return s;
  absl::StatusOr<TargetCount> targets = Count(job.query_condition);
  if (!targets.ok()) return targets.status();
  if (engine_->GetJob(job.job_id).ok()) {
    return MakeError(ErrorCode::kJobAlreadyExists,
                     absl::StrCat("Job ", job.job_id, " already exists"));
  }
  JobInfo info;
  info.job_id = job.job_id;
  info.action = job.action;
  info.query_condition = job.query_condition;
  info.created_time = context_.clock->Now();
  info.start_time = job.start_time.value_or(info.created_time);
  info.max_execution_time_seconds = job.max_execution_time_seconds;
  info.priority = job.priority;
  info.weight = job.weight;
  info.statistics.emplace();
  info.statistics->device_count = targets->devices;
  info.statistics->pending_count = targets->devices;
  *response = ToJob(info);
  return absl::OkStatus();
}

absl::StatusOr<TargetCount> JobService::Count(
    absl::string_view condition) const {
  absl::StatusOr<Condition> parsed = Condition::ParseJobCondition(condition);
  if (!parsed.ok()) return PrefixError("queryCondition: ", parsed.status());
  absl::StatusOr<QueryBudget::Share> share =
      context_.budget->Take(engine_->TwinCount(), QueryWeight(parsed->expr()));
  if (!share.ok()) return share.status();
  absl::StatusOr<TargetCount> count = engine_->CountTargets(condition);
  if (!count.ok()) return PrefixError("queryCondition: ", count.status());
  return count;
}

grpc::ServerUnaryReactor* JobService::CreateJob(
    grpc::CallbackServerContext* context, const v1::CreateJobRequest* request,
    v1::Job* response) {
  return calls_.RunOnExecutor(context, Role::kWrite, "CreateJob",
                              [=, this] { return Create(*request, response); });
}

// ----------------------------------------------------------------------- read

grpc::ServerUnaryReactor* JobService::GetJob(
    grpc::CallbackServerContext* context, const v1::GetJobRequest* request,
    v1::Job* response) {
  return calls_.RunHere(
      context, Role::kRead, "GetJob", [=, this]() -> absl::Status {
        absl::StatusOr<std::string> id = ParseJobName("name", request->name());
        if (!id.ok()) return id.status();
        absl::StatusOr<JobInfo> job = engine_->GetJob(*id);
        if (!job.ok()) return job.status();
        *response = ToJob(*job);
        return absl::OkStatus();
      });
}

absl::Status JobService::List(const v1::ListJobsRequest& request,
                              v1::ListJobsResponse* response) const {
  absl::StatusOr<int> size = PageSize(request.page_size(), 100, 1000);
  if (!size.ok()) return size.status();
  absl::StatusOr<std::optional<JobStatus>> status =
      FromState("state", request.state());
  if (!status.ok()) return status.status();
  absl::StatusOr<std::optional<JobType>> type =
      FromType("type", request.type());
  if (!type.ok()) return type.status();
  absl::StatusOr<JobPage> page =
      engine_->ListJobs({*type, *status}, *size, request.page_token());
  if (!page.ok()) return AtPageToken(page.status());
  for (const JobInfo& job : page->jobs) *response->add_jobs() = ToJob(job);
  response->set_next_page_token(page->continuation);
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* JobService::ListJobs(
    grpc::CallbackServerContext* context, const v1::ListJobsRequest* request,
    v1::ListJobsResponse* response) {
  return calls_.RunOnExecutor(context, Role::kRead, "ListJobs",
                              [=, this] { return List(*request, response); });
}

// --------------------------------------------------------------------- cancel

absl::Status JobService::Cancel(const v1::CancelJobRequest& request,
                                v1::Job* response) {
  absl::StatusOr<std::string> id = ParseJobName("name", request.name());
  if (!id.ok()) return id.status();
  CancelOptions options;
  options.cancel_running = request.cancel_running();
  absl::StatusOr<JobInfo> job = engine_->CancelJob(*id, options);
  if (!job.ok()) return job.status();
  *response = ToJob(*job);
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* JobService::CancelJob(
    grpc::CallbackServerContext* context, const v1::CancelJobRequest* request,
    v1::Job* response) {
  return calls_.RunOnExecutor(context, Role::kWrite, "CancelJob",
                              [=, this] { return Cancel(*request, response); });
}

// ----------------------------------------------------------------- executions

grpc::ServerWriteReactor<v1::WatchJobResponse>* JobService::WatchJob(
    grpc::CallbackServerContext* context, const v1::WatchJobRequest* request) {
  return watches_.Open(context, *request);
}

grpc::ServerUnaryReactor* JobService::GetExecution(
    grpc::CallbackServerContext* context,
    const v1::GetExecutionRequest* request, v1::Execution* response) {
  return calls_.RunOnExecutor(
      context, Role::kRead, "GetExecution", [=, this]() -> absl::Status {
        absl::StatusOr<ExecutionId> id =
            ParseExecutionName("name", request->name());
        if (!id.ok()) return id.status();
        absl::StatusOr<ExecutionRecord> record =
            engine_->GetExecution(id->job_id, id->device_id);
        if (!record.ok()) return record.status();
        *response = ToExecution(*record);
        return absl::OkStatus();
      });
}

absl::Status JobService::Executions(
    const v1::ListExecutionsRequest& request,
    v1::ListExecutionsResponse* response) const {
  ExecutionFilter filter;
  if (request.parent() != "jobs/-") {
    absl::StatusOr<std::string> id = ParseJobName("parent", request.parent());
    if (!id.ok()) return id.status();
    filter.job_id = *std::move(id);
  } else if (request.twin().empty()) {
    return FieldError("twin", "is needed with the parent \"jobs/-\"");
  }
  if (!request.twin().empty()) {
    absl::StatusOr<std::string> id = ParseTwinName("twin", request.twin());
    if (!id.ok()) return id.status();
    filter.device_id = *std::move(id);
  }
  absl::StatusOr<std::optional<ExecutionStatus>> status =
      FromState("state", request.state());
  if (!status.ok()) return status.status();
  filter.status = *status;
  absl::StatusOr<int> size = PageSize(request.page_size(), 100, 1000);
  if (!size.ok()) return size.status();
  absl::StatusOr<ExecutionPage> page =
      engine_->ListExecutions(filter, *size, request.page_token());
  if (!page.ok()) return AtPageToken(page.status());
  for (const ExecutionRecord& record : page->executions) {
    *response->add_executions() = ToExecution(record);
  }
  response->set_next_page_token(page->continuation);
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* JobService::ListExecutions(
    grpc::CallbackServerContext* context,
    const v1::ListExecutionsRequest* request,
    v1::ListExecutionsResponse* response) {
  return calls_.RunOnExecutor(
      context, Role::kRead, "ListExecutions",
      [=, this] { return Executions(*request, response); });
}

// -------------------------------------------------------------------- preview

absl::Status JobService::Preview(const grpc::CallbackServerContext& context,
                                 const v1::PreviewTargetsRequest& request,
                                 v1::PreviewTargetsResponse* response) const {
  const std::string& condition = request.query_condition();
  if (condition.empty()) {
    return AtField("query_condition",
                   MakeError(ErrorCode::kArgumentNull,
                             "query_condition is missing: \"*\" for all "
                             "devices, or a condition"));
  }
  if (request.sample_size() < 0 || request.sample_size() > kSampleMax) {
    return FieldError("sample_size",
                      absl::StrCat("must be in [0, ", kSampleMax, "]; got ",
                                   request.sample_size()));
  }
  absl::StatusOr<TargetCount> count = Count(condition);
  if (!count.ok()) {
    return absl::IsInvalidArgument(count.status())
               ? AtField("query_condition", count.status())
               : count.status();
  }
  response->set_device_count(count->devices);
  response->set_connected_count(count->connected);
  if (request.sample_size() == 0 || count->devices == 0) {
    return absl::OkStatus();
  }
  const std::string query =
      absl::StrCat(kSampleQuery, condition == "*" ? "" : " WHERE ",
                   condition == "*" ? "" : condition);
  absl::StatusOr<int64_t> weight = ReadStatementWeight(query);
  if (!weight.ok()) {
    // The condition is a good one: it has been counted.
    return FieldError("sample_size",
                      "a condition of nearly 8,192 characters can only be "
                      "counted: leave it at 0");
  }
  absl::StatusOr<TwinPage> page =
      QueryPage(context, engine_, context_.budget, query, *weight,
                request.sample_size(), kRowBytesMax, "");
  if (!page.ok()) return page.status();
  for (const std::string& row : page->rows) {
    const absl::StatusOr<Json> json = ParseJson(row);
    MUSTER_CHECK(json.ok());
    response->add_sample(
        TwinName(json->view().Find("deviceId").string_value()));
  }
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* JobService::PreviewTargets(
    grpc::CallbackServerContext* context,
    const v1::PreviewTargetsRequest* request,
    v1::PreviewTargetsResponse* response) {
  return calls_.RunOnExecutor(
      context, Role::kRead, "PreviewTargets",
      [=, this] { return Preview(*context, *request, response); });
}

}  // namespace muster
