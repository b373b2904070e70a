#include "server/job_watch.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/model/instant.h"
#include "engine/schedule/clock.h"
#include "server/disk_watch.h"
#include "server/text.h"

namespace muster {
namespace {

constexpr absl::Duration kTick = absl::Milliseconds(100);
constexpr absl::Duration kSecond = absl::Seconds(1);

std::string CountsText(const JobStatistics& counts) {
  return absl::StrCat("ok ", WithCommas(counts.succeeded_count), "  failed ",
                      WithCommas(counts.failed_count), "  running ",
                      WithCommas(counts.running_count), "  pending ",
                      WithCommas(counts.pending_count));
}

// The same for terminals of 80 columns.
std::string ShortCountsText(const JobStatistics& counts) {
  return absl::StrCat("ok ", ShortCount(counts.succeeded_count), " fail ",
                      ShortCount(counts.failed_count), " run ",
                      ShortCount(counts.running_count), " wait ",
                      ShortCount(counts.pending_count));
}

}  // namespace

Progress ProgressOfJobs(absl::Span<const JobInfo> jobs, absl::Time now,
                        double rate, bool interrupted,
                        const absl::Status& health) {
  JobStatistics sum;
  int64_t terminal = 0;
  const JobInfo* next = nullptr;  // The one that starts next.
  absl::Time last_end = absl::InfinitePast();
  bool running = false;
  bool selecting = false;  // A job is due and has no target set yet.
  for (const JobInfo& job : jobs) {
    if (IsTerminal(job.status)) ++terminal;
    const JobStatistics counts = job.statistics.value_or(JobStatistics());
    sum.device_count += counts.device_count;
    sum.succeeded_count += counts.succeeded_count;
    sum.failed_count += counts.failed_count;
    sum.running_count += counts.running_count;
    sum.pending_count += counts.pending_count;
    if (job.status == JobStatus::kRunning) {
      running = true;
      last_end =
          std::max(last_end, std::max(job.start_time, job.created_time) +
                                 absl::Seconds(job.max_execution_time_seconds));
    } else if (!IsTerminal(job.status) && job.start_time > now) {
      if (next == nullptr || job.start_time < next->start_time) next = &job;
    } else if (!IsTerminal(job.status)) {
      selecting = true;
    }
  }

  Progress progress;
  if (!health.ok()) progress.left = "waiting for the disk";
  progress.label =
      jobs.size() == 1
          ? jobs[0].job_id
          : absl::StrCat(terminal, " of ",
                         Counted(static_cast<int64_t>(jobs.size()), "job"));
  if (!running && !selecting && next != nullptr) {
    progress.figures =
        absl::StrCat(jobs.size() == 1 ? "" : absl::StrCat(next->job_id, " "),
                     "starts in ", ClockDuration(next->start_time - now));
    progress.detail = absl::StrCat("at ", FormatInstant(next->start_time));
    return progress;
  }
  if (!running && selecting && sum.device_count == 0) {
    progress.figures = "selecting devices";
    return progress;
  }
  progress.done = sum.succeeded_count + sum.failed_count;
  progress.total = sum.device_count;
  progress.detail = CountsText(sum);
  progress.short_detail = ShortCountsText(sum);
  progress.rate = rate;
  if (!health.ok()) {
    progress.rate = -1;
  } else if (interrupted) {
    progress.left = absl::StrCat("ends when ", WithCommas(sum.running_count),
                                 " in flight are done");
  } else if (running && rate == 0 && progress.done < progress.total) {
    // Nobody answers: what is left waits for devices to connect.
    progress.rate = -1;
    progress.left =
        absl::StrCat("waiting, ", ClockDuration(last_end - now), " at most");
  }
  return progress;
}

absl::StatusOr<bool> WaitForJobs(
    Engine& engine, absl::Span<const std::string> job_ids,
    OnInterrupt on_interrupt, Interrupt& interrupt, ProgressLine& line,
    const std::function<void(absl::Span<const JobInfo>)>& each_second) {
  Clock& clock = Clock::Real();

  // The end of a job ends the wait of this thread at once.
  std::vector<std::unique_ptr<Engine::Watch>> watches;
  for (const std::string& id : job_ids) {
    absl::StatusOr<std::unique_ptr<Engine::Watch>> watch =
        engine.WatchJob(id, [&interrupt](const JobInfo& job) {
          if (IsTerminal(job.status)) interrupt.Wake();
        });
    if (!watch.ok()) return watch.status();
    watches.push_back(*std::move(watch));
  }

  RateMeter meter(absl::Seconds(2));
  DiskWatch disk;
  bool interrupted = false;
  absl::Duration last_second = clock.Monotonic();
  while (true) {
    std::vector<JobInfo> jobs;
    bool all_terminal = true;
    int64_t done = 0;
    for (const std::string& id : job_ids) {
      absl::StatusOr<JobInfo> job = engine.GetJob(id);
      if (!job.ok()) return job.status();
      all_terminal = all_terminal && IsTerminal(job->status);
      const JobStatistics counts = job->statistics.value_or(JobStatistics());
      done += counts.succeeded_count + counts.failed_count;
      jobs.push_back(*std::move(job));
    }
    if (all_terminal) break;

    if (!interrupted && interrupt.pending()) {
      interrupted = true;
      if (on_interrupt == OnInterrupt::kLeaveJobs) {
        if (each_second) each_second(jobs);
        break;
      }
      line.Note(
          "interrupted: cancelling; waiting for what is in flight (ctrl-C "
          "again ends at once)");
      for (const std::string& id : job_ids) {
        // Refused if it has just ended: then there is nothing to cancel.
        (void)engine.CancelJob(id, {.cancel_running = true});
      }
      continue;
    }
    const absl::Duration now = clock.Monotonic();
    const double rate = meter.Add(now, done);
    const absl::Status health = engine.Health();
    if (absl::Status s = disk.Look(health, now, line); !s.ok()) return s;
    line.Show(now,
              ProgressOfJobs(jobs, clock.Now(), rate, interrupted, health));
    if (each_second && now - last_second >= kSecond) {
      last_second = now;
      each_second(jobs);
    }
    interrupt.Wait(kTick);
  }
  line.Clear();
  return interrupted;
}

}  // namespace muster
