#include "tests/simulator/faults.h"

namespace muster::simulator {

absl::string_view FaultName(Fault fault) {
  static constexpr std::array<absl::string_view, kFaultCount> kNames = {
      "write fails",
      "short write",
      "sync fails",
      "answer lost",
      "slow sync",
      "disk full",
      "crash at a write",
      "bit flipped",
      "pages lost",
      "page torn",
      "pages reordered",
      "outcome lost",
      "outcome twice",
      "outcome contradicts",
      "outcome late",
      "outcome of an old life",
      "outcomes reordered",
      "partial send",
      "call fails",
      "disconnect",
      "report late",
      "wall clock forward",
      "wall clock back",
      "crash",
      "restart",
      "takeover",
  };
  return kNames[static_cast<size_t>(fault)];
}

}  // namespace muster::simulator
