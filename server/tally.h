// Tally: a job's executions counted one by one, beside the engine's own counts.
#ifndef SERVER_TALLY_H_
#define SERVER_TALLY_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "engine/model/job.h"

namespace muster {

struct Tally {
  struct Kind {
    std::string code;  // "GatewayTimeout".
    std::string description;
    int64_t count = 0;
  };

  void Add(const ExecutionRecord& record);

  // Executions that did not succeed, by what went wrong; most frequent first.
  std::vector<Kind> Kinds() const;

  int64_t succeeded = 0;
  int64_t failed = 0;
  int64_t canceled = 0;
  int64_t open = 0;  // Neither of these: still pending or running.
  std::map<int32_t, int64_t> answers;  // By the status that devices answered.
  std::map<std::pair<ErrorCode, std::string>, int64_t> errors;
};

// A job at its end.
struct JobReport {
  JobInfo info;
  Tally tally;

  // What the job counts is what its executions say, nothing is open, and
  // nothing is missing.
  bool Balanced() const;
  // It completed, and so did all executions.
  bool Succeeded() const;
  // From the moment at which it was due to its end.
  absl::Duration Elapsed() const;
};

// A few lines for people, each with its line feed: how a job stands.
std::string JobText(const JobInfo& info);

// The same at its end, with what its devices answered.
std::string ReportText(const JobReport& report);

// One JSON object, without a line feed:
//
//   {"event":"summary","job":{...},"succeeded":2,"failed":1,"canceled":0,
//    "answers":[{"status":200,"count":2}],
//    "errors":[{"code":"GatewayTimeout","description":"...","count":1}],
//    "balanced":true,"elapsedSeconds":1.25,"devicesPerSecond":2.4}
std::string ReportJson(const JobReport& report);

}  // namespace muster

#endif  // SERVER_TALLY_H_
