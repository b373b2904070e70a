// DiskWatch: says when the disk does not take what is to be kept, and when it
// does again.
#ifndef SERVER_DISK_WATCH_H_
#define SERVER_DISK_WATCH_H_

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/progress.h"

namespace muster {

// One thread.
class DiskWatch {
 public:
  // `health`: what Engine::Health() says at `now` (monotonic); notes on `line`
  // what has changed.  Returns an error if the engine will not go on by itself.
  absl::Status Look(const absl::Status& health, absl::Duration now,
                    ProgressLine& line);

 private:
  absl::Duration since_ = absl::InfiniteDuration();
  bool said_ = false;
};

}  // namespace muster

#endif  // SERVER_DISK_WATCH_H_
