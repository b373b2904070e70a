#include "engine/model/profile.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/model/error.h"

namespace muster {

absl::StatusOr<Profile> FindProfile(absl::string_view name, int units) {
  if (units < 1 || units > 200) {
    return MakeError(
        ErrorCode::kArgumentInvalid,
        absl::StrCat("profile units must be in [1, 200]; got ", units));
  }
  const Profile profiles[] = {
      {"unlimited", true, 1024, 0},
      {"free", true, 1, 10},
      {"s1", true, 1, 10},
      {"s2", true, 5, std::max(10, units)},
      {"s3", true, 10, 50 * units},
      {"basic", false, 0, 0},
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
