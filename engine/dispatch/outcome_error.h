// What an outcome without an answer means to whoever asked for the method, in a
// job or outside of one (contract 3.4, 7.2).
#ifndef ENGINE_DISPATCH_OUTCOME_ERROR_H_
#define ENGINE_DISPATCH_OUTCOME_ERROR_H_

#include "absl/strings/string_view.h"
#include "engine/model/error.h"
#include "engine/transport.h"

namespace muster {

struct OutcomeError {
  ErrorCode code;
  absl::string_view text;
};

// REQUIRES: not kAnswered.
inline OutcomeError OutcomeErrorOf(OutcomeCode code) {
  switch (code) {
    case OutcomeCode::kNotConnected:
      return {ErrorCode::kDeviceNotOnline,
              "Timed out waiting for device to connect."};
    case OutcomeCode::kNoHandler:
      return {ErrorCode::kDeviceNotOnline,
              "The device is connected but takes no direct methods."};
    case OutcomeCode::kNoSuchDevice:
      return {ErrorCode::kDeviceNotFound, "Device not registered or disabled."};
    case OutcomeCode::kBusy:
      return {ErrorCode::kDeviceMaximumInflightMethodExceeded,
              "Too many methods are in flight on the device."};
    case OutcomeCode::kBadResponse:
      return {ErrorCode::kInvalidResponseWhileProxying,
              "The device's answer is not JSON or has no status."};
    case OutcomeCode::kResponseTooLarge:
      return {ErrorCode::kMessageTooLarge,
              "The device's answer is larger than 128 KB."};
    case OutcomeCode::kLinkLost:
    case OutcomeCode::kTimeout:
      return {ErrorCode::kGatewayTimeout,
              "Timed out waiting for the response from device."};
    case OutcomeCode::kAnswered:
    case OutcomeCode::kError:
      break;
  }
  return {ErrorCode::kServerError, "The transport failed."};
}

}  // namespace muster

#endif  // ENGINE_DISPATCH_OUTCOME_ERROR_H_
