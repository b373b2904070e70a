// Values of the engine as messages of muster.v1, and back.
//
// What a caller sends is checked here as far as its form goes (enumerators,
// durations, missing parts: FieldError()s); what it means is checked by the
// engine, whose errors keep their code and get the field's name.
#ifndef TRANSPORT_GRPC_CONVERT_H_
#define TRANSPORT_GRPC_CONVERT_H_

#include <optional>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/model/job.h"
#include "engine/model/job_status.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/timestamp.pb.h"
#include "muster/v1/job_service.pb.h"
#include "muster/v1/twin_service.pb.h"

namespace muster {

// REQUIRES: within the years 0001 to 9999.
google::protobuf::Timestamp ToTimestamp(absl::Time time);
absl::Time FromTimestamp(const google::protobuf::Timestamp& time);
google::protobuf::Duration ToDuration(absl::Duration duration);

v1::Job::State ToState(JobStatus status);
v1::Job::Type ToType(JobType type);
v1::Job::Priority ToPriority(JobPriority priority);
v1::Execution::State ToState(ExecutionStatus status);

// nullopt for the unspecified one; FieldError() for a number that has no name.
absl::StatusOr<std::optional<JobStatus>> FromState(absl::string_view field,
                                                   v1::Job::State state);
absl::StatusOr<std::optional<JobType>> FromType(absl::string_view field,
                                                v1::Job::Type type);
absl::StatusOr<std::optional<ExecutionStatus>> FromState(
    absl::string_view field, v1::Execution::State state);

v1::Job ToJob(const JobInfo& job);
v1::Execution ToExecution(const ExecutionRecord& record);
v1::Twin ToTwin(const TwinSnapshot& twin);

// The request of a job with that id.  Members that are output only are passed
// over.
absl::StatusOr<JobRequest> FromJob(absl::string_view job_id,
                                   const v1::Job& job);

// Whether `job` is what `request` asked for: then a request that comes twice is
// answered with it.
bool IsSameJob(const JobInfo& job, const JobRequest& request);

}  // namespace muster

#endif  // TRANSPORT_GRPC_CONVERT_H_
