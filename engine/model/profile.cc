#include "engine/model/profile.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/model/error.h"

namespace muster {
namespace {

constexpr int64_t kMethodStepKb = 4;

// The columns of contract 9.2, for `n` units; it gives most rates per second.

constexpr int64_t PerSecond(int64_t rate) { return 60 * rate; }

Profile S1(int64_t n) {
  return {
      .name = "s1",
      .active_jobs_max = 1,
      .job_device_operations_per_second = 10,
      .job_operations_per_minute = 100 * n,
      .queries_per_minute = 20 * n,
      .twin_reads_per_minute = PerSecond(100),
      .twin_updates_per_minute = PerSecond(50),
      .direct_method_steps_per_minute = PerSecond(160 / kMethodStepKb * n),
      .identity_operations_per_minute = 100 * n,
  };
}

Profile S2(int64_t n) {
  return {
      .name = "s2",
      .active_jobs_max = 5,
      .job_device_operations_per_second = std::max<int64_t>(10, n),
      .job_operations_per_minute = 100 * n,
      .queries_per_minute = 20 * n,
      .twin_reads_per_minute = PerSecond(std::max<int64_t>(100, 10 * n)),
      .twin_updates_per_minute = PerSecond(std::max<int64_t>(50, 5 * n)),
      .direct_method_steps_per_minute = PerSecond(480 / kMethodStepKb * n),
      .identity_operations_per_minute = 100 * n,
  };
}

Profile S3(int64_t n) {
  return {
      .name = "s3",
      .active_jobs_max = 10,
      .job_device_operations_per_second = 50 * n,
      .job_operations_per_minute = 5000 * n,
      .queries_per_minute = 1000 * n,
      .twin_reads_per_minute = PerSecond(500 * n),
      .twin_updates_per_minute = PerSecond(250 * n),
      .direct_method_steps_per_minute =
          PerSecond(24 * 1024 / kMethodStepKb * n),
      .identity_operations_per_minute = 5000 * n,
  };
}

// A free hub has one unit, and is like s1 otherwise.
Profile Free() {
  Profile profile = S1(1);
  profile.name = "free";
  return profile;
}

}  // namespace

int64_t DirectMethodSteps(size_t payload_size) {
  constexpr size_t kStep = kMethodStepKb * 1024;
  return std::max<int64_t>(
      1, static_cast<int64_t>((payload_size + kStep - 1) / kStep));
}

absl::StatusOr<Profile> FindProfile(absl::string_view name, int units) {
  if (units < 1 || units > 200) {
    return MakeError(
        ErrorCode::kArgumentInvalid,
        absl::StrCat("profile units must be in [1, 200]; got ", units));
  }
  const Profile profiles[] = {
      Profile(),  // unlimited
      Free(),
      S1(units),
      S2(units),
      S3(units),
      {.name = "basic", .jobs_available = false, .active_jobs_max = 0},
  };
  for (const Profile& profile : profiles) {
    if (absl::EqualsIgnoreCase(name, profile.name)) return profile;
  }
  return MakeError(ErrorCode::kArgumentInvalid,
                   absl::StrCat("there is no profile \"", name,
                                "\"; known are unlimited, free, s1, s2, s3 "
                                "and basic"));
}

}  // namespace muster
