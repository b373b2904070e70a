// LoopbackOptions: what a simulated fleet does, as values.
//
// The defaults are a perfect fleet: every device is connected and answers
// status 200 at once.  Each option spoils one thing.
#ifndef TRANSPORT_LOOPBACK_LOOPBACK_OPTIONS_H_
#define TRANSPORT_LOOPBACK_LOOPBACK_OPTIONS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace muster {

// How long a device takes from the call to its answer.  Each duration is in
// [0, 1 h]; those of another distribution are not looked at.
struct LoopbackLatency {
  enum class Distribution : uint8_t {
    kConstant,   // `value`.
    kUniform,    // Evenly in [min, max].
    kLognormal,  // `min` plus a lognormal time: half of the calls are faster
                 // than `median`, one in a hundred is slower than `p99`.
  };

  Distribution distribution = Distribution::kConstant;
  absl::Duration value = absl::ZeroDuration();
  absl::Duration min = absl::ZeroDuration();     // kUniform, kLognormal.
  absl::Duration max = absl::ZeroDuration();     // kUniform: >= min.
  absl::Duration median = absl::ZeroDuration();  // kLognormal: > min.
  absl::Duration p99 = absl::ZeroDuration();     // kLognormal: >= median.
};

// A share is in [0, 1], of devices or, where it says so, of pairs of a device
// and a method: who belongs to it depends on the seed and these names alone.
struct LoopbackOptions {
  // Decides every draw.  Two transports with the same options do the same to
  // the same devices, whatever the order of the calls; only the latency of a
  // call depends on its attempt key too.
  uint64_t seed = 1;

  LoopbackLatency latency;
  // Devices that take `slow_factor` ([1, 1000]) times as long.
  double slow_share = 0;
  double slow_factor = 10;

  // What happens to a call instead of a good answer, as shares of pairs of a
  // device and a method.  Their sum is at most 1.
  double error_status_share = 0;        // Answers `error_status`.
  double no_handler_share = 0;          // OutcomeCode::kNoHandler.
  double no_answer_share = 0;           // Runs; nothing is ever reported.
  double bad_response_share = 0;        // OutcomeCode::kBadResponse.
  double response_too_large_share = 0;  // OutcomeCode::kResponseTooLarge.
  double link_lost_share = 0;           // OutcomeCode::kLinkLost.
  double busy_share = 0;                // OutcomeCode::kBusy.

  int32_t response_status = 200;  // Of good answers.
  int32_t error_status = 500;
  // Payload of good answers: JSON text, or empty for null.  In its strings
  // ${device_id} and ${method} stand for the call's, and the whole string
  // "${payload}" for the payload of the call:
  //
  //   {"device":"${device_id}","echo":"${payload}"}
  std::string response_payload;

  // Devices that are not connected when they are added.
  double offline_share = 0;
  // A device comes back this long after it disconnected: evenly in [min, max],
  // each in [0, 365 d].  max = 0: it stays away.
  absl::Duration reconnect_min = absl::ZeroDuration();
  absl::Duration reconnect_max = absl::ZeroDuration();
  // Mean time that a device stays connected, exponentially distributed; in
  // [0, 365 d], 0: for ever.
  absl::Duration drop_mean = absl::ZeroDuration();

  // Calls in flight at most, in [0, 2^31 - 1]; beyond it Send() takes fewer.
  // 0: no limit.  A call that is never answered is in flight for its
  // response_timeout.
  int64_t send_window = 0;

  // Whether devices that were never added exist too, connected and like the
  // others.  False: they answer kNoSuchDevice.
  bool answer_unknown = true;

  // Keep every call and every notification, for calls() and notifications():
  // for tests, for memory grows with each.
  bool record_calls = false;
};

// INVALID_ARGUMENT, naming the field, its value and its range.
absl::Status ValidateLoopbackOptions(const LoopbackOptions& options);

// Reads options from a JSON object.  Members are named as the fields above,
// with
// "_ms" (milliseconds, fractions allowed) behind those that are durations; what
// is left out keeps its default.  `latency` is an object with `distribution`
// ("constant", "uniform" or "lognormal") and the durations of that one;
// `response_payload` is any JSON value.
//
//   {"seed": 7, "offline_share": 0.1, "busy_share": 0.001,
//    "latency": {"distribution": "lognormal",
//                "min_ms": 5, "median_ms": 60, "p99_ms": 900},
//    "response_payload": {"id": "${device_id}"}}
//
// INVALID_ARGUMENT with the member's name for text that is no JSON object, an
// unknown member (and the known one that is nearest), a wrong type, or a value
// out of its range (and the range).
absl::StatusOr<LoopbackOptions> ParseLoopbackOptions(absl::string_view json);

}  // namespace muster

#endif  // TRANSPORT_LOOPBACK_LOOPBACK_OPTIONS_H_
