// Loading a file of twins, all of them or none: reads blocks of lines, and
// parses them on the calling thread and on the executor.
#ifndef ENGINE_LOAD_TWINS_H_
#define ENGINE_LOAD_TWINS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "engine/twin/twin_index.h"

namespace muster {

// How LoadTwins() is done, and what came of it.
struct LoadOptions {
  // Load the good lines although there are bad ones.
  bool skip_bad_lines = false;
  // Called now and then with the bytes read so far, on the calling thread.
  std::function<void(int64_t bytes)> progress;
};
struct LoadResult {
  int64_t loaded = 0;
  int64_t skipped = 0;                // Only with skip_bad_lines ...
  std::vector<std::string> problems;  // ... and why, the first few of them.
};

// Engine::LoadTwins(), but for the journal: the caller waits for that.  Never
// waits for a callback that has not begun, so that it may run on the executor
// itself.
absl::StatusOr<LoadResult> LoadTwinFile(const std::string& path,
                                        const LoadOptions& options,
                                        TwinIndex* index, Executor* executor,
                                        Clock* clock);

}  // namespace muster

#endif  // ENGINE_LOAD_TWINS_H_
