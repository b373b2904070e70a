#include "server/fleet_loading.h"

#include "absl/strings/str_cat.h"
#include "engine/schedule/clock.h"
#include "server/text.h"

namespace muster {

absl::StatusOr<LoadedFleet> LoadFleet(Engine& engine, const FleetSource& source,
                                      ProgressLine& line,
                                      const std::function<void()>& tick) {
  Clock& clock = Clock::Real();
  const absl::Duration begin = clock.Monotonic();
  RateMeter meter;

  LoadOptions options;
  options.skip_bad_lines = source.skip_bad_lines;
  options.progress = [&](int64_t bytes) {
    if (tick) tick();
    const absl::Duration now = clock.Monotonic();
    const double rate = meter.Add(now, bytes);
    const bool all_read = bytes >= source.bytes;
    if (!line.IsDue(now) && !all_read) return;
    Progress progress;
    progress.label = absl::StrCat("loading ", source.label);
    progress.done = bytes;
    progress.total = source.bytes;
    progress.figures =
        source.bytes < 0
            ? ShortBytes(bytes)
            : absl::StrCat(ShortBytes(bytes), " of ", ShortBytes(source.bytes));
    // The rate itself, in bytes, would say little.
    if (all_read && source.bytes >= 0) {
      progress.left = "building the index";
    } else if (rate > 0 && source.bytes >= 0) {
      progress.left = absl::StrCat(
          ClockDuration(
              absl::Seconds(static_cast<double>(source.bytes - bytes) / rate)),
          " left");
    }
    if (all_read && source.bytes >= 0) {
      line.ShowNow(now, progress);
    } else {
      line.Show(now, progress);
    }
  };
  absl::StatusOr<LoadResult> result = engine.LoadTwins(source.path, options);
  line.Clear();
  if (!result.ok()) return result.status();

  LoadedFleet fleet;
  fleet.devices = result->loaded;
  fleet.skipped = result->skipped;
  fleet.elapsed = clock.Monotonic() - begin;
  if (fleet.skipped > 0) {
    line.Note(
        absl::StrCat("left out ", Counted(fleet.skipped, "bad line"), ":"));
    for (const std::string& problem : result->problems) {
      line.Note(absl::StrCat("  ", problem));
    }
    if (fleet.skipped > static_cast<int64_t>(result->problems.size())) {
      line.Note("  ...");
    }
  }
  return fleet;
}

}  // namespace muster
