// Waiting for jobs: one line of progress for all of them, and ctrl-C.
#ifndef SERVER_JOB_WATCH_H_
#define SERVER_JOB_WATCH_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/engine.h"
#include "server/interrupt.h"
#include "server/progress.h"

namespace muster {

// All jobs as one line: the bar counts executions that have ended.  `now`: wall
// clock.  `rate`: executions per second, < 0 if not known.  `health`: the
// engine's; says why nothing goes on.
Progress ProgressOfJobs(absl::Span<const JobInfo> jobs, absl::Time now,
                        double rate, bool interrupted,
                        const absl::Status& health = absl::OkStatus());

enum class OnInterrupt {
  // The jobs are cancelled, running ones too, so that the end comes when those
  // in flight have answered or timed out.
  kCancelJobs,
  kLeaveJobs,  // They stay as they are, and the wait ends at once.
};

// Waits until all jobs are terminal; true if an interrupt came first.  A disk
// that does not take what is to be kept is waited for, and said.  `each_second`
// is called about once a second with all jobs as they are; may be null.
//   JobNotFound; and what Engine::Health() says if it will not go on by itself
absl::StatusOr<bool> WaitForJobs(
    Engine& engine, absl::Span<const std::string> job_ids,
    OnInterrupt on_interrupt, Interrupt& interrupt, ProgressLine& line,
    const std::function<void(absl::Span<const JobInfo>)>& each_second);

}  // namespace muster

#endif  // SERVER_JOB_WATCH_H_
