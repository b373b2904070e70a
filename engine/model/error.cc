#include "engine/model/error.h"

#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "engine/model/check.h"

namespace muster {
namespace {

// The type URL of the payload that holds the number in decimal.
constexpr absl::string_view kPayloadUrl = "muster.v1/error_code";

using absl::StatusCode;

constexpr ErrorInfo kErrors[] = {
    {ErrorCode::kGenericBadRequest, "GenericBadRequest", 400,
     StatusCode::kInvalidArgument},
    {ErrorCode::kInvalidProtocolVersion, "InvalidProtocolVersion", 400,
     StatusCode::kInvalidArgument},
    {ErrorCode::kInvalidOperation, "InvalidOperation", 400,
     StatusCode::kInvalidArgument},
    {ErrorCode::kArgumentInvalid, "ArgumentInvalid", 400,
     StatusCode::kInvalidArgument},
    {ErrorCode::kArgumentNull, "ArgumentNull", 400,
     StatusCode::kInvalidArgument},
    {ErrorCode::kIotHubFormatError, "IotHubFormatError", 400,
     StatusCode::kInvalidArgument},
    {ErrorCode::kDeviceDefinedMultipleTimes, "DeviceDefinedMultipleTimes", 400,
     StatusCode::kInvalidArgument},
    {ErrorCode::kBulkRegistryOperationFailure, "BulkRegistryOperationFailure",
     400, StatusCode::kInvalidArgument},
    {ErrorCode::kRequestTimedOut, "RequestTimedOut", 400,
     StatusCode::kDeadlineExceeded},
    {ErrorCode::kIotHubUnauthorizedAccess, "IotHubUnauthorizedAccess", 401,
     StatusCode::kPermissionDenied},
    {ErrorCode::kIotHubUnauthorized, "IotHubUnauthorized", 401,
     StatusCode::kUnauthenticated},
    {ErrorCode::kIotHubQuotaExceeded, "IotHubQuotaExceeded", 403,
     StatusCode::kResourceExhausted},
    {ErrorCode::kJobQuotaExceeded, "JobQuotaExceeded", 403,
     StatusCode::kResourceExhausted},
    {ErrorCode::kOperationNotAvailableInCurrentTier,
     "OperationNotAvailableInCurrentTier", 403,
     StatusCode::kFailedPrecondition},
    {ErrorCode::kDeviceMaximumInflightMethodExceeded,
     "DeviceMaximumInflightMethodExceeded", 403,
     StatusCode::kResourceExhausted},
    {ErrorCode::kGenericNotFound, "GenericNotFound", 404,
     StatusCode::kNotFound},
    {ErrorCode::kDeviceNotFound, "DeviceNotFound", 404, StatusCode::kNotFound},
    {ErrorCode::kJobNotFound, "JobNotFound", 404, StatusCode::kNotFound},
    {ErrorCode::kModuleNotFound, "ModuleNotFound", 404, StatusCode::kNotFound},
    {ErrorCode::kFeatureNotSupported, "FeatureNotSupported", 404,
     StatusCode::kUnimplemented},
    {ErrorCode::kDeviceNotOnline, "DeviceNotOnline", 404,
     StatusCode::kUnavailable},
    {ErrorCode::kGenericMethodNotAllowed, "GenericMethodNotAllowed", 405,
     StatusCode::kUnimplemented},
    {ErrorCode::kOperationNotAllowedInCurrentState,
     "OperationNotAllowedInCurrentState", 405, StatusCode::kFailedPrecondition},
    {ErrorCode::kDeviceAlreadyExists, "DeviceAlreadyExists", 409,
     StatusCode::kAlreadyExists},
    {ErrorCode::kDeviceJobAlreadyExists, "DeviceJobAlreadyExists", 409,
     StatusCode::kInternal},
    {ErrorCode::kJobAlreadyExists, "JobAlreadyExists", 409,
     StatusCode::kAlreadyExists},
    {ErrorCode::kPreconditionFailed, "PreconditionFailed", 412,
     StatusCode::kAborted},
    {ErrorCode::kMessageTooLarge, "MessageTooLarge", 413,
     StatusCode::kInvalidArgument},
    {ErrorCode::kGenericUnsupportedMediaType, "GenericUnsupportedMediaType",
     415, StatusCode::kInvalidArgument},
    {ErrorCode::kThrottlingException, "ThrottlingException", 429,
     StatusCode::kResourceExhausted},
    {ErrorCode::kThrottleBacklogLimitExceeded, "ThrottleBacklogLimitExceeded",
     429, StatusCode::kResourceExhausted},
    {ErrorCode::kThrottlingBacklogTimeout, "ThrottlingBacklogTimeout", 429,
     StatusCode::kResourceExhausted},
    {ErrorCode::kThrottlingMaxActiveJobCountExceeded,
     "ThrottlingMaxActiveJobCountExceeded", 429,
     StatusCode::kResourceExhausted},
    {ErrorCode::kDeviceThrottlingLimitExceeded, "DeviceThrottlingLimitExceeded",
     429, StatusCode::kResourceExhausted},
    {ErrorCode::kClientClosedRequest, "ClientClosedRequest", 499,
     StatusCode::kCancelled},
    {ErrorCode::kServerError, "ServerError", 500, StatusCode::kInternal},
    {ErrorCode::kInvalidResponseWhileProxying, "InvalidResponseWhileProxying",
     502, StatusCode::kUnavailable},
    {ErrorCode::kServiceUnavailable, "ServiceUnavailable", 503,
     StatusCode::kUnavailable},
    {ErrorCode::kGatewayTimeout, "GatewayTimeout", 504,
     StatusCode::kDeadlineExceeded},
};

// For errors that were made without a number.
ErrorCode NearestCode(absl::StatusCode code) {
  switch (code) {
    case StatusCode::kOk:
      return ErrorCode::kOk;
    case StatusCode::kInvalidArgument:
    case StatusCode::kOutOfRange:
      return ErrorCode::kArgumentInvalid;
    case StatusCode::kNotFound:
      return ErrorCode::kGenericNotFound;
    case StatusCode::kAborted:
      return ErrorCode::kPreconditionFailed;
    case StatusCode::kFailedPrecondition:
      return ErrorCode::kInvalidOperation;
    case StatusCode::kPermissionDenied:
      return ErrorCode::kIotHubUnauthorizedAccess;
    case StatusCode::kUnauthenticated:
      return ErrorCode::kIotHubUnauthorized;
    case StatusCode::kResourceExhausted:
      return ErrorCode::kThrottlingException;
    case StatusCode::kUnimplemented:
      return ErrorCode::kFeatureNotSupported;
    case StatusCode::kUnavailable:
      return ErrorCode::kServiceUnavailable;
    case StatusCode::kDeadlineExceeded:
      return ErrorCode::kGatewayTimeout;
    case StatusCode::kCancelled:
      return ErrorCode::kClientClosedRequest;
    default:
      return ErrorCode::kServerError;
  }
}

}  // namespace

const ErrorInfo& ErrorInfoOf(ErrorCode code) {
  for (const ErrorInfo& info : kErrors) {
    if (info.code == code) return info;
  }
  MUSTER_CHECK(false && "an error code that is not in the table");
}

bool IsErrorCode(uint32_t number) {
  for (const ErrorInfo& info : kErrors) {
    if (static_cast<uint32_t>(info.code) == number) return true;
  }
  return number == static_cast<uint32_t>(ErrorCode::kOk);
}

const ErrorInfo* FindErrorByName(absl::string_view name) {
  for (const ErrorInfo& info : kErrors) {
    if (info.name == name) return &info;
  }
  return nullptr;
}

absl::Status MakeError(ErrorCode code, absl::string_view message) {
  absl::Status status(ErrorInfoOf(code).canonical, message);
  // A view: the string constructor is a template that compilers mangle in
  // different ways, and the installed Abseil has only one of them.
  const std::string number = absl::StrCat(static_cast<int>(code));
  status.SetPayload(kPayloadUrl, absl::Cord(absl::string_view(number)));
  return status;
}

ErrorCode ErrorCodeOf(const absl::Status& status) {
  absl::optional<absl::Cord> payload = status.GetPayload(kPayloadUrl);
  int number = 0;
  if (payload.has_value() && absl::SimpleAtoi(std::string(*payload), &number)) {
    return static_cast<ErrorCode>(number);
  }
  return NearestCode(status.code());
}

absl::Status PrefixError(absl::string_view prefix, const absl::Status& status) {
  absl::Status out(status.code(), absl::StrCat(prefix, status.message()));
  status.ForEachPayload(
      [&out](absl::string_view url, const absl::Cord& payload) {
        out.SetPayload(url, payload);
      });
  return out;
}

}  // namespace muster
