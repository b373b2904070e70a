// lastActivityTime: an instant that reads back as it was given.
#ifndef ENGINE_TWIN_ACTIVITY_TIME_H_
#define ENGINE_TWIN_ACTIVITY_TIME_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/model/instant.h"
#include "engine/twin/stamp.h"

namespace muster {

// 0001-01-01T00:00:00Z, which the hub writes for "never".
inline constexpr int64_t kActivityNeverTicks = -621'355'968'000'000'000;

// Digits of the fraction of a second.
inline constexpr int kActivityDigitsMax = 7;

// "2024-03-01T12:30:45.123Z" for 3 digits.
// REQUIRES: 0 <= digits <= kActivityDigitsMax.
inline std::string ActivityText(int64_t ticks, int digits) {
  constexpr size_t kPoint = 19;  // In 2024-03-01T12:30:45.1230000Z.
  std::string text = FormatInstant(TimeFromTicks(ticks));
  text.resize(digits == 0 ? kPoint : kPoint + 1 + static_cast<size_t>(digits));
  text.push_back('Z');
  return text;
}

}  // namespace muster

#endif  // ENGINE_TWIN_ACTIVITY_TIME_H_
