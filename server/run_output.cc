#include "server/run_output.h"

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/model/json.h"
#include "server/caret.h"
#include "server/command.h"

namespace muster {

void RunOutput::Fleet(const std::string& path, const Simulation::Fleet& fleet) {
  if (!json_) return;
  std::string out;
  JsonWriter json(&out);
  json.BeginObject().Key("event").String("fleet");
  json.Key("path").String(path);
  json.Key("devices").Int(fleet.devices);
  json.Key("connected").Int(fleet.connected);
  json.Key("skippedLines").Int(fleet.skipped);
  json.Key("elapsedSeconds").Double(absl::ToDoubleSeconds(fleet.elapsed));
  json.EndObject();
  Print(absl::StrCat(out, "\n"));
}

void RunOutput::Recovered(const std::string& path,
                          const Simulation::Found& found) {
  if (!json_) return;
  std::string out;
  JsonWriter json(&out);
  json.BeginObject().Key("event").String("recovered");
  json.Key("path").String(path);
  json.Key("devices").Int(found.devices);
  json.Key("connected").Int(found.connected);
  json.Key("jobs").BeginObject();
  for (const auto& [status, count] : found.jobs) {
    json.Key(JobStatusName(status)).Int(count);
  }
  json.EndObject();
  json.Key("elapsedSeconds").Double(absl::ToDoubleSeconds(found.elapsed));
  json.EndObject();
  Print(absl::StrCat(out, "\n"));
}

void RunOutput::Kept(const std::string& path, const std::string& job_id) {
  if (!json_) return;
  std::string out;
  JsonWriter json(&out);
  json.BeginObject().Key("event").String("kept");
  json.Key("path").String(path);
  json.Key("jobId").String(job_id);
  json.EndObject();
  Print(absl::StrCat(out, "\n"));
}

void RunOutput::Refused(const std::string& path, const absl::Status& status) {
  if (!json_) return;
  std::string out;
  JsonWriter json(&out);
  json.BeginObject().Key("event").String("refused");
  json.Key("path").String(path);
  json.Key("error").String(DescribeError(status));
  json.EndObject();
  Print(absl::StrCat(out, "\n"));
}

void RunOutput::Progress(absl::Span<const JobInfo> jobs) {
  if (!json_) return;
  std::string lines;
  for (const JobInfo& job : jobs) {
    absl::StrAppend(&lines, "{\"event\":\"progress\",\"job\":");
    AppendJobJson(job, &lines);
    absl::StrAppend(&lines, "}\n");
  }
  Print(lines);
}

void RunOutput::Report(const JobReport& report) {
  if (json_) {
    Print(absl::StrCat(ReportJson(report), "\n"));
  } else {
    Text(ReportText(report));
  }
}

void RunOutput::End(int exit_code) {
  if (!json_) return;
  Print(absl::StrCat("{\"event\":\"end\",\"exitCode\":", exit_code, "}\n"));
}

void RunOutput::Text(absl::string_view text) {
  if (json_) return;
  if (text_to_stderr_) {
    PrintError(text);
  } else {
    Print(text);
  }
}

}  // namespace muster
