// JobService over an engine.
#ifndef TRANSPORT_GRPC_JOB_SERVICE_H_
#define TRANSPORT_GRPC_JOB_SERVICE_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/model/job.h"
#include "muster/v1/job_service.grpc.pb.h"
#include "transport/grpc/service_context.h"
#include "transport/grpc/unary_call.h"
#include "transport/grpc/watch_stream.h"

namespace muster {

class JobService final : public v1::JobService::CallbackService {
 public:
  explicit JobService(const ServiceContext& context);

  // Ends all watches, with UNAVAILABLE, and refuses new ones.
  void Drain() { watches_.Drain(); }

  grpc::ServerUnaryReactor* CreateJob(grpc::CallbackServerContext* context,
                                      const v1::CreateJobRequest* request,
                                      v1::Job* response) override;
  grpc::ServerUnaryReactor* GetJob(grpc::CallbackServerContext* context,
                                   const v1::GetJobRequest* request,
                                   v1::Job* response) override;
  grpc::ServerUnaryReactor* ListJobs(grpc::CallbackServerContext* context,
                                     const v1::ListJobsRequest* request,
                                     v1::ListJobsResponse* response) override;
  grpc::ServerUnaryReactor* CancelJob(grpc::CallbackServerContext* context,
                                      const v1::CancelJobRequest* request,
                                      v1::Job* response) override;
  grpc::ServerWriteReactor<v1::WatchJobResponse>* WatchJob(
      grpc::CallbackServerContext* context,
      const v1::WatchJobRequest* request) override;
  grpc::ServerUnaryReactor* GetExecution(grpc::CallbackServerContext* context,
                                         const v1::GetExecutionRequest* request,
                                         v1::Execution* response) override;
  grpc::ServerUnaryReactor* ListExecutions(
      grpc::CallbackServerContext* context,
      const v1::ListExecutionsRequest* request,
      v1::ListExecutionsResponse* response) override;
  grpc::ServerUnaryReactor* PreviewTargets(
      grpc::CallbackServerContext* context,
      const v1::PreviewTargetsRequest* request,
      v1::PreviewTargetsResponse* response) override;

 private:
  absl::Status Create(const v1::CreateJobRequest& request, v1::Job* response);
  absl::Status CreateNew(const JobRequest& job, v1::Job* response);
  absl::Status ValidateOnly(const JobRequest& job, v1::Job* response) const;
  // Within the budget.  Errors begin with "queryCondition: ".
  absl::StatusOr<TargetCount> Count(absl::string_view condition) const;
  absl::Status List(const v1::ListJobsRequest& request,
                    v1::ListJobsResponse* response) const;
  absl::Status Cancel(const v1::CancelJobRequest& request, v1::Job* response);
  absl::Status Executions(const v1::ListExecutionsRequest& request,
                          v1::ListExecutionsResponse* response) const;
  absl::Status Preview(const grpc::CallbackServerContext& context,
                       const v1::PreviewTargetsRequest& request,
                       v1::PreviewTargetsResponse* response) const;

  const ServiceContext context_;
  Engine* const engine_;
  UnaryCalls calls_;
  WatchStreams watches_;
};

}  // namespace muster

#endif  // TRANSPORT_GRPC_JOB_SERVICE_H_
