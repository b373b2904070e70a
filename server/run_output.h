// RunOutput: what `muster run` tells on standard output, as text for people or
// as JSON lines.  Each line of JSON is an event:
//
//   {"event":"fleet","path":...,"devices":...,"connected":...,...}
//   {"event":"recovered","path":...,"devices":...,"connected":...,
//    "jobs":{"running":1,...},"elapsedSeconds":...}   instead, with --data
//   {"event":"kept","path":...,"jobId":...}           a job that was there
//   {"event":"refused","path":...,"error":...}        a job that was not taken
//   {"event":"progress","job":{...}}                  about once a second
//   {"event":"summary","job":{...},...}               tally.h
//   {"event":"end","exitCode":...}                    the last line
//
// A job is shown as the hub's jobs API shows it.
#ifndef SERVER_RUN_OUTPUT_H_
#define SERVER_RUN_OUTPUT_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/model/job.h"
#include "server/simulation.h"
#include "server/tally.h"

namespace muster {

class RunOutput {
 public:
  // `text_to_stderr`: standard output is taken by the results.
  RunOutput(bool json, bool text_to_stderr)
      : json_(json), text_to_stderr_(text_to_stderr) {}

  void Fleet(const std::string& path, const Simulation::Fleet& fleet);
  void Recovered(const std::string& path, const Simulation::Found& found);
  void Kept(const std::string& path, const std::string& job_id);
  void Refused(const std::string& path, const absl::Status& status);
  void Progress(absl::Span<const JobInfo> jobs);
  void Report(const JobReport& report);
  void End(int exit_code);

  // Only for people.
  void Text(absl::string_view text);

 private:
  const bool json_;
  const bool text_to_stderr_;
};

}  // namespace muster

#endif  // SERVER_RUN_OUTPUT_H_
