#include "tests/simulator/job_model.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace muster::simulator {
namespace {

std::string Counts(const JobStatistics& s) {
  return absl::StrCat(s.device_count, " / f", s.failed_count, " s",
                      s.succeeded_count, " r", s.running_count, " p",
                      s.pending_count);
}

// Of the states that a job goes through, never back.
int Rank(JobStatus status) {
  return IsTerminal(status) ? 2 : status == JobStatus::kRunning ? 1 : 0;
}

}  // namespace

SimCondition SimCondition::Draw(Choices* choices,
                                const std::vector<std::string>& devices) {
  static constexpr Kind kKinds[] = {kEvery,   kEvery,  kTag, kTagAtLeast,
                                    kDesired, kHasTag, kIds, kEnabled};
  SimCondition condition;
  condition.kind = choices->Pick(kKinds);
  condition.key = choices->Below(2) == 0 ? "a" : "b";
  condition.value = choices->Below(4);
  if (condition.kind == kIds) {
    for (const std::string& device : devices) {
      if (choices->Below(3) == 0) condition.ids.push_back(device);
    }
    if (condition.ids.empty()) condition.ids.push_back(devices[0]);
  }
  return condition;
}

std::string SimCondition::Text() const {
  switch (kind) {
    case kEvery:
      return "*";
    case kTag:
      return absl::StrCat("tags.", key, " = ", value);
    case kTagAtLeast:
      return absl::StrCat("tags.", key, " >= ", value);
    case kDesired:
      return absl::StrCat("properties.desired.", key, " = ", value);
    case kHasTag:
      return absl::StrCat("is_defined(tags.", key, ")");
    case kIds:
      return absl::StrCat("deviceId IN ['", absl::StrJoin(ids, "', '"), "']");
    case kEnabled:
      return "status = 'enabled'";
  }
  return "";
}

bool SimCondition::Matches(const std::string& device,
                           const TwinState& twin) const {
  if (!twin.present) return false;
  const auto value_in = [this](const TwinState::Section& section) {
    auto it = section.find(key);
    return it == section.end() ? INT64_MIN : it->second;
  };
  switch (kind) {
    case kEvery:
      return true;
    case kTag:
      return value_in(twin.tags) == value;
    case kTagAtLeast:
      return value_in(twin.tags) >= value;
    case kDesired:
      return value_in(twin.desired) == value;
    case kHasTag:
      return value_in(twin.tags) != INT64_MIN;
    case kIds:
      return std::find(ids.begin(), ids.end(), device) != ids.end();
    case kEnabled:
      return twin.enabled;
  }
  return false;
}

std::string CompareReads(const JobInfo* before, const JobInfo& now) {
  const bool terminal = IsTerminal(now.status);
  if (terminal != now.end_time.has_value()) return "end time without an end";
  if (now.status == JobStatus::kRunning && !now.statistics.has_value()) {
    return "running without statistics";
  }
  if (now.statistics.has_value()) {
    const JobStatistics& s = *now.statistics;
    if (s.device_count != s.failed_count + s.succeeded_count + s.running_count +
                              s.pending_count ||
        s.failed_count < 0 || s.succeeded_count < 0 || s.running_count < 0 ||
        s.pending_count < 0) {
      return absl::StrCat("I8: the sum is wrong: ", Counts(s));
    }
    if (terminal && s.running_count + s.pending_count != 0) {
      return absl::StrCat("I8: it has ended, but: ", Counts(s));
    }
  }
  if (before == nullptr) return "";
  if (before->created_time != now.created_time ||
      before->start_time != now.start_time ||
      before->query_condition != now.query_condition ||
      before->max_execution_time_seconds != now.max_execution_time_seconds ||
      before->priority != now.priority || before->weight != now.weight) {
    return "I10: it is not the job that was accepted";
  }
  if (Rank(now.status) < Rank(before->status) ||
      (IsTerminal(before->status) &&
       (before->status != now.status || before->end_time != now.end_time))) {
    return absl::StrCat("I8: it was ", JobStatusName(before->status),
                        " and is ", JobStatusName(now.status));
  }
  if (before->statistics.has_value()) {
    if (!now.statistics.has_value()) return "I8: its statistics are gone";
    const JobStatistics& was = *before->statistics;
    const JobStatistics& is = *now.statistics;
    if (was.device_count != is.device_count ||
        was.succeeded_count > is.succeeded_count ||
        was.failed_count > is.failed_count) {
      return absl::StrCat("I8: it read ", Counts(was), " and now ", Counts(is));
    }
  }
  return "";
}

}  // namespace muster::simulator
