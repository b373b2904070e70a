// Stamp: when a node of a section was last touched (contract 6.6).
#ifndef ENGINE_TWIN_STAMP_H_
#define ENGINE_TWIN_STAMP_H_

#include <cstdint>

#include "absl/time/time.h"

namespace muster {

struct Stamp {
  int64_t ticks = 0;  // 100 ns since 1970, the resolution of their text.
  // `$version` of the update, printed as `$lastUpdatedVersion`; 0 prints none.
  int64_t version = 0;

  friend bool operator==(const Stamp&, const Stamp&) = default;
};

inline constexpr absl::Duration kStampTick = absl::Nanoseconds(100);

inline int64_t TicksFromTime(absl::Time time) {
  absl::Duration rest;
  return absl::IDivDuration(absl::Floor(time - absl::UnixEpoch(), kStampTick),
                            kStampTick, &rest);
}
inline absl::Time TimeFromTicks(int64_t ticks) {
  return absl::UnixEpoch() + ticks * kStampTick;
}

}  // namespace muster

#endif  // ENGINE_TWIN_STAMP_H_
