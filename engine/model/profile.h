// Profiles: what a hub of a given tier allows (contract 9.1, 9.2, 9.5).
#ifndef ENGINE_MODEL_PROFILE_H_
#define ENGINE_MODEL_PROFILE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

struct Profile {
  absl::string_view name = "unlimited";
  bool jobs_available = true;    // false: creation answers 403010.
  int active_jobs_max = 1024;    // Running, or queued and due.
  // Twin updates and method calls of all jobs together, per second; 0 = no
  // limit.
  int64_t job_device_operations_per_second = 0;
};

// `name`: "unlimited", "free", "s1", "s2", "s3" or "basic", in any case.
// `units` in [1, 200] scales the rates of the paid tiers as the public table
// does.  ArgumentInvalid otherwise.
absl::StatusOr<Profile> FindProfile(absl::string_view name, int units = 1);

}  // namespace muster

#endif  // ENGINE_MODEL_PROFILE_H_
