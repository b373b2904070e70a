// Errors on the wire: absl::Status with the public hub's number on one side,
// grpc::Status with google.rpc details on the other.
//
// The canonical code travels as it is (the numbers of both are the same).  The
// details are
//
//   ErrorInfo   reason    the hub's name in upper snake case: JOB_NOT_FOUND
//               domain    "muster"
//               metadata  name "JobNotFound", number "404002"; of a query or
//                         condition that cannot be read also line, column and
//                         what
//   RetryInfo   of what a later try may help: RESOURCE_EXHAUSTED but for quotas
//               of a day or a tier, and UNAVAILABLE
//   BadRequest  which field of the request is at fault
//
// The way there and back gives the same status: code, message, ErrorCodeOf(),
// ParseErrorOf(), FieldOf(), RetryDelayOf().
//
// Source of the canonical codes: contract 4.6; of the details: AIP-193.
#ifndef TRANSPORT_GRPC_STATUS_H_
#define TRANSPORT_GRPC_STATUS_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/model/error.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/support/status.h"

namespace muster {

// What a client waits before it tries again if nobody knows better.
inline constexpr absl::Duration kRetryDelayDefault = absl::Seconds(1);

// As a call's end, and as a part of a message.
grpc::Status ToGrpcStatus(const absl::Status& status);
google::rpc::Status ToRpcStatus(const absl::Status& status);

// What ToGrpcStatus() and ToRpcStatus() were given.  A status of gRPC's own or
// of another server keeps its code and its message; details that cannot be read
// are left out.
absl::Status FromGrpcStatus(const grpc::Status& status);
absl::Status FromRpcStatus(const google::rpc::Status& status);

// ArgumentInvalid "field: description": the field of the request, by its path
// ("job.query_condition"), is at fault.
absl::Status FieldError(absl::string_view field, absl::string_view description);

// The same about an error that has a code and a message already; both stay.  OK
// stays OK.
absl::Status AtField(absl::string_view field, const absl::Status& status);

// The field at fault, "" if none is named.
std::string FieldOf(const absl::Status& status);

// `status`, of which a client should wait at least so long before the next try.
absl::Status WithRetryDelay(const absl::Status& status, absl::Duration delay);

// What a client should wait before the next try; nullopt if a further try is of
// no use, as far as is known.
std::optional<absl::Duration> RetryDelayOf(const absl::Status& status);

}  // namespace muster

#endif  // TRANSPORT_GRPC_STATUS_H_
