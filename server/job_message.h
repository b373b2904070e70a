// Jobs and executions as a server sends them, turned into the values that
// progress, tables and JSON are made of; and requests the other way.
#ifndef SERVER_JOB_MESSAGE_H_
#define SERVER_JOB_MESSAGE_H_

#include "absl/status/statusor.h"
#include "engine/model/job.h"
#include "muster/v1/job_service.pb.h"

namespace muster {

// INVALID_ARGUMENT for what no server of this version sends.
absl::StatusOr<JobInfo> JobInfoOf(const v1::Job& job);
absl::StatusOr<ExecutionRecord> ExecutionRecordOf(const v1::Execution& record);

// Without the job's id, which the request has beside it.
v1::Job JobMessageOf(const JobRequest& request);

}  // namespace muster

#endif  // SERVER_JOB_MESSAGE_H_
