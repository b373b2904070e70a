// Loading a fleet of twins from a file, with progress.
#ifndef SERVER_FLEET_LOADING_H_
#define SERVER_FLEET_LOADING_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "server/progress.h"

namespace muster {

struct FleetSource {
  std::string path;
  std::string label;   // In the progress: a short name.
  int64_t bytes = -1;  // For the bar; -1 if they are not known.
  bool skip_bad_lines = false;
};

struct LoadedFleet {
  int64_t devices = 0;
  int64_t skipped = 0;
  absl::Duration elapsed;
};

// Loads all of it or nothing, shows how far it is, and says on `line` which
// lines were left out.  `tick` is called now and then on this thread; may be
// null. Errors name the file, and the line and the member if it is a line's
// fault.
absl::StatusOr<LoadedFleet> LoadFleet(Engine& engine, const FleetSource& source,
                                      ProgressLine& line,
                                      const std::function<void()>& tick);

}  // namespace muster

#endif  // SERVER_FLEET_LOADING_H_
