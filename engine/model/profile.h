// Profiles: what a hub of a given tier allows (contract 9.1, 9.2, 9.5).
#ifndef ENGINE_MODEL_PROFILE_H_
#define ENGINE_MODEL_PROFILE_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

struct Profile {
  absl::string_view name = "unlimited";
  bool jobs_available = true;  // false: creation answers 403010.
  int active_jobs_max = 1024;  // Running, or queued and due.
  // Twin updates and method calls of all jobs together, per second; 0 = no
  // limit.
  int64_t job_device_operations_per_second = 0;

  // Calls from outside, each kind for itself; 0 = no limit.
  int64_t job_operations_per_minute = 0;  // Create, read, list, cancel.
  int64_t queries_per_minute = 0;
  int64_t twin_reads_per_minute = 0;
  int64_t twin_updates_per_minute = 0;
  int64_t direct_method_steps_per_minute = 0;  // See DirectMethodSteps().
  int64_t identity_operations_per_minute = 0;
};

// What a direct method with a payload of that many bytes counts: its 4 KB
// steps, at least one.
int64_t DirectMethodSteps(size_t payload_size);

// `name`: "unlimited", "free", "s1", "s2", "s3" or "basic", in any case.
// `units` in [1, 200] scales the rates of s1, s2 and s3 as the public table
// does (contract 9.2).  ArgumentInvalid otherwise.
absl::StatusOr<Profile> FindProfile(absl::string_view name, int units = 1);

}  // namespace muster

#endif  // ENGINE_MODEL_PROFILE_H_
