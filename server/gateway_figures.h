// GatewayFigures: how far a simulated gateway is.  `muster fleet gateway` says
// it as lines of JSON, which `muster fleet simulate` reads from each of its
// gateways.
#ifndef SERVER_GATEWAY_FIGURES_H_
#define SERVER_GATEWAY_FIGURES_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/progress.h"

namespace muster {

// Counts of one gateway, or sums.
struct GatewayFigures {
  int64_t streams_up = 0;  // Gateways that are attached.
  int64_t devices = 0;     // That are there.
  int64_t attached = 0;    // That the server has taken ...
  int64_t refused = 0;     // ... and not taken.
  int64_t in_flight = 0;   // Calls of methods without an answer yet ...
  int64_t calls = 0;       // ... all that have come ...
  int64_t answers = 0;     // ... answered ...
  int64_t timeouts = 0;    // ... and never answered.
  int64_t streams =
      0;              // Streams that came up: more than one, it has come back.
  std::string error;  // What is wrong now; "" if nothing is.

  void Add(const GatewayFigures& other);
};

// One JSON object, without a line feed:
//
//   {"event":"gateway","name":"sim-1","attached":true,"devices":2500,
//    "attachedDevices":2500,"refusedDevices":0,"inFlight":0,"calls":7,
//    "answers":7,"timeouts":0,"streams":1,"error":""}
std::string GatewayFiguresJson(absl::string_view name,
                               const GatewayFigures& figures);
absl::StatusOr<GatewayFigures> ParseGatewayFigures(absl::string_view json);

// The bar counts devices that are attached, out of `devices`; the rate is of
// answers.
Progress ProgressOfGateways(absl::string_view label, int64_t devices,
                            const GatewayFigures& figures, double rate);

// Notes what is wrong when that has changed.  `*said`: what was said last, ""
// at first.
void NoteError(const GatewayFigures& figures, std::string* said,
               ProgressLine& line);

}  // namespace muster

#endif  // SERVER_GATEWAY_FIGURES_H_
