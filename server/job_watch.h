// Waiting for jobs: one line of progress for all of them, and ctrl-C.
#ifndef SERVER_JOB_WATCH_H_
#define SERVER_JOB_WATCH_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/engine.h"
#include "server/interrupt.h"
#include "server/progress.h"

namespace muster {

// All jobs as one line: the bar counts executions that have ended.  `now`: wall
// clock.  `rate`: executions per second, < 0 if not known.
Progress ProgressOfJobs(absl::Span<const JobInfo> jobs, absl::Time now,
                        double rate, bool interrupted);

// Waits until all jobs are terminal; true if an interrupt came first.  Then the
// jobs are cancelled, running ones too, so that the end comes when those in
// flight have answered or timed out.  `each_second` is called about once a
// second with all jobs as they are; may be null.
absl::StatusOr<bool> WaitForJobs(
    Engine& engine, absl::Span<const std::string> job_ids, Interrupt& interrupt,
    ProgressLine& line,
    const std::function<void(absl::Span<const JobInfo>)>& each_second);

}  // namespace muster

#endif  // SERVER_JOB_WATCH_H_
