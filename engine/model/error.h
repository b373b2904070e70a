// The one table of errors: the public hub's numbers and names, what they are
// over HTTP, and what they are as absl::Status.  Every error that leaves the
// engine through its interface carries one of these numbers as a payload, so
// that each surface can say it in its own words.
//
// Source of numbers and names: contract 4.6 and 3.4.
#ifndef ENGINE_MODEL_ERROR_H_
#define ENGINE_MODEL_ERROR_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace muster {

enum class ErrorCode : int {
  kOk = 0,
  kGenericBadRequest = 400000,
  kInvalidProtocolVersion = 400001,
  kInvalidOperation = 400003,
  kArgumentInvalid = 400004,
  kArgumentNull = 400005,
  kIotHubFormatError = 400006,
  kDeviceDefinedMultipleTimes = 400011,
  kBulkRegistryOperationFailure = 400013,
  kRequestTimedOut = 400024,
  kIotHubUnauthorizedAccess = 401002,
  kIotHubUnauthorized = 401003,
  kIotHubQuotaExceeded = 403002,
  kJobQuotaExceeded = 403003,
  kOperationNotAvailableInCurrentTier = 403010,
  kDeviceMaximumInflightMethodExceeded = 403800,
  kGenericNotFound = 404000,
  kDeviceNotFound = 404001,
  kJobNotFound = 404002,
  kModuleNotFound = 404010,
  kFeatureNotSupported = 404013,
  kDeviceNotOnline = 404103,
  kGenericMethodNotAllowed = 405000,
  kOperationNotAllowedInCurrentState = 405102,
  kDeviceAlreadyExists = 409001,
  kDeviceJobAlreadyExists = 409103,
  kJobAlreadyExists = 409104,
  kPreconditionFailed = 412001,
  kMessageTooLarge = 413001,
  kGenericUnsupportedMediaType = 415000,
  kThrottlingException = 429001,
  kThrottleBacklogLimitExceeded = 429002,
  kThrottlingBacklogTimeout = 429003,
  kThrottlingMaxActiveJobCountExceeded = 429004,
  kDeviceThrottlingLimitExceeded = 429005,
  kClientClosedRequest = 499000,
  kServerError = 500001,
  // The public tables give only the first three digits.
  kInvalidResponseWhileProxying = 502000,
  kServiceUnavailable = 503001,
  kGatewayTimeout = 504101,
};

struct ErrorInfo {
  ErrorCode code;
  absl::string_view name;      // "JobNotFound"
  int http_status;             // 404
  absl::StatusCode canonical;  // kNotFound
};

// REQUIRES: `code` is an enumerator other than kOk.
const ErrorInfo& ErrorInfoOf(ErrorCode code);

// nullptr if no error has that name (case-sensitive).
const ErrorInfo* FindErrorByName(absl::string_view name);

// Whether an ErrorCode has that number.
bool IsErrorCode(uint32_t number);

// A status with the code's canonical status code, `message`, and the number as
// payload.  REQUIRES: `code` is not kOk.
absl::Status MakeError(ErrorCode code, absl::string_view message);

// The number that MakeError() put in; for an error made elsewhere the nearest
// code of its canonical status code; kOk for an OK status.
ErrorCode ErrorCodeOf(const absl::Status& status);

// `status` with `prefix` in front of its message, everything else kept.
absl::Status PrefixError(absl::string_view prefix, const absl::Status& status);

}  // namespace muster

#endif  // ENGINE_MODEL_ERROR_H_
