#include "engine/schedule/clock.h"

#include <chrono>

#include "absl/time/clock.h"

namespace muster {
namespace {

class RealClock : public Clock {
 public:
  absl::Time Now() override { return absl::Now(); }
  absl::Duration Monotonic() override {
    return absl::FromChrono(
        std::chrono::steady_clock::now().time_since_epoch());
  }
};

}  // namespace

Clock& Clock::Real() {
  static RealClock clock;  // Stateless: not a global that anybody could change.
  return clock;
}

}  // namespace muster
