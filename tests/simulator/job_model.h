// What callers may read of a job, from what they have been told so far.
#ifndef TESTS_SIMULATOR_JOB_MODEL_H_
#define TESTS_SIMULATOR_JOB_MODEL_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "engine/model/job.h"
#include "tests/choices.h"
#include "tests/simulator/twin_states.h"

namespace muster::simulator {

// A condition that the model can evaluate.
struct SimCondition {
  enum Kind { kEvery, kTag, kTagAtLeast, kDesired, kHasTag, kIds, kEnabled };
  Kind kind = kEvery;
  std::string key;
  int64_t value = 0;
  std::vector<std::string> ids;

  static SimCondition Draw(Choices* choices,
                           const std::vector<std::string>& devices);
  std::string Text() const;
  bool Matches(const std::string& device, const TwinState& twin) const;
};

struct JobModel {
  JobRequest request;
  std::string name;  // Of the method, or of the key that a twin job writes.
  SimCondition condition;
  bool is_method = false;

  bool acknowledged = false;  // Created, for sure.
  bool over = false;          // Nothing can be said of it any more.
  bool expired = false;       // By the clock, at some time.
  int created_tick = 0;
  int created_life = 0;
  absl::Duration created;  // Monotonic.

  bool maybe_cancelled = false;
  bool must_be_cancelled = false;  // Now.
  bool must_end_cancelled = false;

  // Devices that matched at every, and at any, time at which the target set may
  // have been made.
  std::set<std::string> always;
  std::set<std::string> ever;
  std::optional<std::set<std::string>> targets;  // As they were read.
  int targets_tick = 0;

  std::optional<JobInfo> last;
  absl::Duration running_seen;
  std::map<std::string, std::string> ended;  // Records by device, as text.
  std::set<std::string> completed;

  bool terminal() const { return last.has_value() && IsTerminal(last->status); }
};

// Empty, or what is wrong with reading `now` after `before`, a job's state as
// it was read last (nullptr: never).
std::string CompareReads(const JobInfo* before, const JobInfo& now);

}  // namespace muster::simulator

#endif  // TESTS_SIMULATOR_JOB_MODEL_H_
