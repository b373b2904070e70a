// What hubs of the public tiers allow: contract 9.1, 9.2, 9.5.
#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/model/error.h"
#include "engine/model/profile.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

// Rates for each number of units as the table writes them: per second where it
// says so, direct methods in KB.
struct Row {
  absl::string_view name;
  int units;
  int active_jobs;
  int64_t job_devices_per_second;
  int64_t job_operations_per_minute;
  int64_t queries_per_minute;
  int64_t twin_reads_per_second;
  int64_t twin_updates_per_second;
  int64_t direct_method_kb_per_second;
  int64_t identity_operations_per_minute;
};

constexpr Row kRows[] = {
    {"free", 1, 1, 10, 100, 20, 100, 50, 160, 100},
    {"free", 200, 1, 10, 100, 20, 100, 50, 160, 100},
    {"s1", 1, 1, 10, 100, 20, 100, 50, 160, 100},
    {"s1", 7, 1, 10, 700, 140, 100, 50, 1120, 700},
    {"s1", 200, 1, 10, 20'000, 4'000, 100, 50, 32'000, 20'000},
    {"s2", 1, 5, 10, 100, 20, 100, 50, 480, 100},
    {"s2", 10, 5, 10, 1'000, 200, 100, 50, 4'800, 1'000},
    {"s2", 11, 5, 11, 1'100, 220, 110, 55, 5'280, 1'100},
    {"s2", 200, 5, 200, 20'000, 4'000, 2'000, 1'000, 96'000, 20'000},
    {"s3", 1, 10, 50, 5'000, 1'000, 500, 250, 24'576, 5'000},
    {"s3", 200, 10, 10'000, 1'000'000, 200'000, 100'000, 50'000, 4'915'200,
     1'000'000},
    // None, and none that a tier without jobs states.
    {"unlimited", 3, 1024, 0, 0, 0, 0, 0, 0, 0},
    {"basic", 1, 0, 0, 0, 0, 0, 0, 0, 0},
};

TEST(ProfileTest, Table) {
  for (const Row& row : kRows) {
    SCOPED_TRACE(absl::StrCat(row.name, " x ", row.units));
    const absl::StatusOr<Profile> profile = FindProfile(row.name, row.units);
    ASSERT_TRUE(profile.ok()) << profile.status();
    EXPECT_EQ(profile->name, row.name);
    EXPECT_EQ(profile->jobs_available, row.name != "basic");
    EXPECT_EQ(profile->active_jobs_max, row.active_jobs);
    EXPECT_EQ(profile->job_device_operations_per_second,
              row.job_devices_per_second);
    EXPECT_EQ(profile->job_operations_per_minute,
              row.job_operations_per_minute);
    EXPECT_EQ(profile->queries_per_minute, row.queries_per_minute);
    EXPECT_EQ(profile->twin_reads_per_minute, 60 * row.twin_reads_per_second);
    EXPECT_EQ(profile->twin_updates_per_minute,
              60 * row.twin_updates_per_second);
    EXPECT_EQ(profile->direct_method_steps_per_minute,
              60 * row.direct_method_kb_per_second / 4);
    EXPECT_EQ(profile->identity_operations_per_minute,
              row.identity_operations_per_minute);
  }
}

TEST(ProfileTest, NamesAndUnits) {
  EXPECT_EQ(FindProfile("S2")->name, "s2");
  EXPECT_EQ(Profile().name, "unlimited");
  for (const int units : {0, -1, 201}) {
    const absl::Status status = FindProfile("s1", units).status();
    EXPECT_EQ(ErrorCodeOf(status), ErrorCode::kArgumentInvalid);
    EXPECT_EQ(status.message(),
              absl::StrCat("profile units must be in [1, 200]; got ", units));
  }
  EXPECT_EQ(FindProfile("s4").status().message(),
            "there is no profile \"s4\"; known are unlimited, free, s1, s2, s3 "
            "and basic");
}

// "0-4 KB counts 4 KB."
TEST(ProfileTest, DirectMethodSteps) {
  EXPECT_EQ(DirectMethodSteps(0), 1);
  EXPECT_EQ(DirectMethodSteps(1), 1);
  EXPECT_EQ(DirectMethodSteps(4096), 1);
  EXPECT_EQ(DirectMethodSteps(4097), 2);
  EXPECT_EQ(DirectMethodSteps(8192), 2);
  EXPECT_EQ(DirectMethodSteps(128 * 1024), 32);
}

}  // namespace
}  // namespace muster
