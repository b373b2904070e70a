// What an engine says of itself, as lines of text, for the tests that crash it.
#ifndef TESTS_CRASH_STATE_H_
#define TESTS_CRASH_STATE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/engine.h"
#include "engine/model/job.h"

namespace muster {

// "waiting" for both statuses before running: which of the two it is, is a
// matter of a moment.
absl::string_view CrashStatusName(JobStatus status);

// " <status> <device> <failed> <succeeded> <running> <pending>"; counts that
// there are none of are -1.
std::string CrashCounts(const JobInfo& job);

// All that can be read, line by line:
//
//   J <job> <status> <device> <failed> <succeeded> <running> <pending> <hash>
//   X <job> <device> <status> <error code> <hash>     one for each execution
//   T <device> <properties.desired.n> <desired $version> <hash>
//
// <hash> is of the JSON text; of a job that has not ended, 0.  Without the X
// lines if `with_executions` is false.
absl::StatusOr<std::string> CrashState(const Engine& engine,
                                       bool with_executions);

}  // namespace muster

#endif  // TESTS_CRASH_STATE_H_
