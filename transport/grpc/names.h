// Resource names: "jobs/{job}", "twins/{device}" and
// "jobs/{job}/executions/{device}".
//
// Only the form is looked at here; whether an id follows its own rules is for
// whoever uses it.  Errors are FieldError()s of `field`.
#ifndef TRANSPORT_GRPC_NAMES_H_
#define TRANSPORT_GRPC_NAMES_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

std::string JobName(absl::string_view job_id);
std::string TwinName(absl::string_view device_id);
std::string ExecutionName(absl::string_view job_id,
                          absl::string_view device_id);

struct ExecutionId {
  std::string job_id;
  std::string device_id;
};

absl::StatusOr<std::string> ParseJobName(absl::string_view field,
                                         absl::string_view name);
absl::StatusOr<std::string> ParseTwinName(absl::string_view field,
                                          absl::string_view name);
absl::StatusOr<ExecutionId> ParseExecutionName(absl::string_view field,
                                               absl::string_view name);

}  // namespace muster

#endif  // TRANSPORT_GRPC_NAMES_H_
