#include "server/disk_watch.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace muster {
namespace {

// What passes at once is not worth a line.
constexpr absl::Duration kPatience = absl::Seconds(1);

}  // namespace

absl::Status DiskWatch::Look(const absl::Status& health, absl::Duration now,
                             ProgressLine& line) {
  if (health.ok()) {
    if (said_) line.Note("the disk works again");
    said_ = false;
    since_ = absl::InfiniteDuration();
    return absl::OkStatus();
  }
  if (!absl::IsResourceExhausted(health) && !absl::IsUnavailable(health)) {
    return health;
  }
  since_ = std::min(since_, now);
  if (!said_ && now - since_ >= kPatience) {
    said_ = true;
    line.Note(absl::StrCat("the disk does not take what is to be kept: ",
                           health.message(), "; trying again until it does"));
  }
  return absl::OkStatus();
}

}  // namespace muster
