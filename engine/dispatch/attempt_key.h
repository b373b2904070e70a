// What an AttemptKey says: job:28 | slice:16 | rank:14 | attempt:6.
//
// Job 0 is none: there, slice and rank together number a direct method outside
// of jobs (direct_methods.h).
//
// An engine numbers 2^28 jobs in its life, a job has at most 2^16 slices, and
// an attempt's number comes round after 64: an outcome that is 64 attempts late
// could be taken for a new one, which no transport's queue is long enough for.
#ifndef ENGINE_DISPATCH_ATTEMPT_KEY_H_
#define ENGINE_DISPATCH_ATTEMPT_KEY_H_

#include <cstdint>

#include "engine/transport.h"

namespace muster {

inline constexpr uint64_t kJobSerialMax = (uint64_t{1} << 28) - 1;
inline constexpr uint32_t kSlicesPerJobMax = 1 << 16;

struct AttemptKeyParts {
  uint64_t job = 0;
  uint32_t slice = 0;
  uint16_t rank = 0;
  uint8_t attempt = 0;
};

inline AttemptKey MakeAttemptKey(const AttemptKeyParts& parts) {
  return {parts.job << 36 | uint64_t{parts.slice} << 20 |
          uint64_t{parts.rank} << 6 | parts.attempt};
}

inline AttemptKeyParts SplitAttemptKey(AttemptKey key) {
  return {key.value >> 36, static_cast<uint32_t>(key.value >> 20 & 0xffff),
          static_cast<uint16_t>(key.value >> 6 & 0x3fff),
          static_cast<uint8_t>(key.value & 0x3f)};
}

// Whether both are of one slice of one job.
inline bool OfSameSlice(AttemptKey a, AttemptKey b) {
  return a.value >> 20 == b.value >> 20;
}

}  // namespace muster

#endif  // ENGINE_DISPATCH_ATTEMPT_KEY_H_
