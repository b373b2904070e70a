// R1 to R4, R12 of contract 4.2.

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/model/error.h"
#include "engine/model/job.h"
#include "engine/model/job_status.h"
#include "engine/model/json.h"
#include "transport/http/hub/paging.h"
#include "transport/http/hub/route.h"

namespace muster::hub {
namespace {

HttpResponse JobResponse(const JobInfo& job) {
  std::string body;
  AppendJobJson(job, &body);
  return JsonResponse(std::move(body));
}

// R1.  The answer has these three members, whatever the job is like by now
// (contract 1.6).
void CreateJob(Context& context, Request request, Done done) {
  const absl::StatusOr<JobInfo> job =
      context.engine.CreateJobFromJson(request.ids[0], request.http.body);
  if (!job.ok()) return std::move(done)(job.status());
  std::string body;
  JsonWriter(&body)
      .BeginObject()
      .Key("jobId")
      .String(job->job_id)
      .Key("type")
      .String(JobTypeName(job->type()))
      .Key("status")
      .String(JobStatusName(JobStatus::kQueued))
      .EndObject();
  std::move(done)(JsonResponse(std::move(body)));
}

// R2.
void GetJob(Context& context, Request request, Done done) {
  const absl::StatusOr<JobInfo> job = context.engine.GetJob(request.ids[0]);
  if (!job.ok()) return std::move(done)(job.status());
  std::move(done)(JobResponse(*job));
}

// R3.
void CancelJob(Context& context, Request request, Done done) {
  const absl::StatusOr<JobInfo> job = context.engine.CancelJob(request.ids[0]);
  if (!job.ok()) return std::move(done)(job.status());
  std::move(done)(JobResponse(*job));
}

absl::StatusOr<JobFilter> ReadFilter(const Request& request) {
  JobFilter filter;
  if (const absl::string_view text = request.Parameter("jobType");
      !text.empty()) {
    const absl::StatusOr<JobType> type = ParseJobType(text);
    if (!type.ok()) return PrefixError("jobType: ", type.status());
    filter.type = *type;
  }
  if (const absl::string_view text = request.Parameter("jobStatus");
      !text.empty()) {
    const absl::StatusOr<JobStatus> status = ParseJobStatus(text);
    if (!status.ok()) return PrefixError("jobStatus: ", status.status());
    filter.status = *status;
  }
  return filter;
}

// R4.
void ListJobs(Context& context, Request request, Done done) {
  const absl::StatusOr<JobFilter> filter = ReadFilter(request);
  if (!filter.ok()) return std::move(done)(filter.status());
  const PageRequest asked = ReadPageRequest(request);
  absl::StatusOr<JobPage> page =
      context.engine.ListJobs(*filter, asked.size, asked.continuation);
  if (!page.ok()) return std::move(done)(page.status());
  std::string rows = "[";
  for (const JobInfo& job : page->jobs) {
    if (rows.size() > 1) rows.push_back(',');
    AppendJobJson(job, &rows);
  }
  rows.push_back(']');
  std::move(done)(PageResponse(std::move(rows), "JobResponse",
                               std::move(page->continuation)));
}

// R12.
void RefuseBulkJobs(Context&, Request, Done done) {
  std::move(done)(MakeError(
      ErrorCode::kFeatureNotSupported,
      "jobs that import or export identities are not supported, jobs over "
      "devices are at /jobs/v2/{jobId}"));
}

constexpr Role kReaders[] = {Role::kRegistryRead};
constexpr Role kWriters[] = {Role::kRegistryWrite};

constexpr Route kRoutes[] = {
    {.method = "PUT",
     .pattern = "/jobs/v2/{}",
     .roles = kWriters,
     .throttled = Throttled::kJobOperations,
     .has_body = true,
     .handle = CreateJob},
    {.method = "GET",
     .pattern = "/jobs/v2/{}",
     .roles = kReaders,
     .throttled = Throttled::kJobOperations,
     .blocks = false,
     .handle = GetJob},
    {.method = "POST",
     .pattern = "/jobs/v2/{}/cancel",
     .roles = kWriters,
     .throttled = Throttled::kJobOperations,
     .handle = CancelJob},
    {.method = "GET",
     .pattern = "/jobs/v2/query",
     .roles = kReaders,
     .throttled = Throttled::kJobOperations,
     .handle = ListJobs},
    {.method = "POST",
     .pattern = "/jobs/create",
     .roles = kWriters,
     .throttled = Throttled::kJobOperations,
     .blocks = false,
     .handle = RefuseBulkJobs},
    {.method = "GET",
     .pattern = "/jobs",
     .roles = kReaders,
     .throttled = Throttled::kJobOperations,
     .blocks = false,
     .handle = RefuseBulkJobs},
    {.method = "GET",
     .pattern = "/jobs/{}",
     .roles = kReaders,
     .throttled = Throttled::kJobOperations,
     .blocks = false,
     .handle = RefuseBulkJobs},
    {.method = "DELETE",
     .pattern = "/jobs/{}",
     .roles = kWriters,
     .throttled = Throttled::kJobOperations,
     .blocks = false,
     .handle = RefuseBulkJobs},
};

}  // namespace

absl::Span<const Route> JobRoutes() { return kRoutes; }

}  // namespace muster::hub
