// Clock: the only source of time in the engine (I2).
#ifndef ENGINE_SCHEDULE_CLOCK_H_
#define ENGINE_SCHEDULE_CLOCK_H_

#include "absl/time/time.h"

namespace muster {

// Thread-safe; both calls are cheap and never block.
class Clock {
 public:
  virtual ~Clock() = default;

  // The wall clock: decides when a start time has come and what callers read.
  // May step in either direction.
  virtual absl::Time Now() = 0;

  // Time since an arbitrary origin; never runs backwards and does not follow
  // steps of the wall clock: measures timeouts and limits.
  virtual absl::Duration Monotonic() = 0;

  // The machine's clocks.  Lives for ever.
  static Clock& Real();
};

}  // namespace muster

#endif  // ENGINE_SCHEDULE_CLOCK_H_
