#include "server/tally.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/model/error.h"
#include "engine/model/json.h"
#include "server/text.h"

namespace muster {
namespace {

// Kinds of errors that are told apart, and that a person wants to read.
constexpr size_t kKindsMax = 1000;
constexpr size_t kKindsShown = 8;

double PerSecond(int64_t count, absl::Duration elapsed) {
  const double seconds = absl::ToDoubleSeconds(elapsed);
  return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

// From the moment at which it was due to its end; 0 if it has not come.
absl::Duration ElapsedOf(const JobInfo& info) {
  if (!info.end_time.has_value()) return absl::ZeroDuration();
  return std::max(
      absl::ZeroDuration(),
      *info.end_time - std::max(info.created_time, info.start_time));
}

// "reboot-43 completed in 5.04 s, 66.2/s", and why it failed.
std::string HeadLines(const JobInfo& info) {
  const int64_t devices =
      info.statistics.value_or(JobStatistics()).device_count;
  std::string out = absl::StrCat(info.job_id, " ", JobStatusName(info.status));
  if (IsTerminal(info.status)) {
    const absl::Duration elapsed = ElapsedOf(info);
    absl::StrAppend(&out, " in ", ShortDuration(elapsed));
    if (devices > 0) {
      absl::StrAppend(&out, ", ", ShortRate(PerSecond(devices, elapsed)));
    }
  }
  absl::StrAppend(&out, "\n");
  if (!info.failure_reason.empty()) {
    absl::StrAppend(&out, "  ", info.failure_reason, "\n");
  }
  return out;
}

std::string CountLine(absl::string_view what, int64_t count) {
  return absl::StrFormat("  %-10s %12s\n", what, WithCommas(count));
}

std::string DetailLine(absl::string_view what, int64_t count) {
  return absl::StrFormat("    %19s  %s\n", WithCommas(count), what);
}

}  // namespace

void Tally::Add(const ExecutionRecord& record) {
  switch (record.status) {
    case ExecutionStatus::kCompleted:
      ++succeeded;
      break;
    case ExecutionStatus::kFailed:
      ++failed;
      break;
    case ExecutionStatus::kCanceled:
      ++canceled;
      break;
    case ExecutionStatus::kPending:
    case ExecutionStatus::kRunning:
      ++open;
      break;
  }
  if (record.response.has_value()) ++answers[record.response->status];
  if (record.error_code == ErrorCode::kOk) return;
  std::pair<ErrorCode, std::string> kind(record.error_code,
                                         record.error_description);
  if (errors.size() >= kKindsMax && errors.find(kind) == errors.end()) {
    kind.second = "other descriptions";
  }
  ++errors[std::move(kind)];
}

std::vector<Tally::Kind> Tally::Kinds() const {
  std::vector<Kind> kinds;
  kinds.reserve(errors.size());
  for (const auto& [kind, count] : errors) {
    kinds.push_back(
        {std::string(ErrorInfoOf(kind.first).name), kind.second, count});
  }
  std::sort(kinds.begin(), kinds.end(), [](const Kind& a, const Kind& b) {
    return std::tie(b.count, a.code, a.description) <
           std::tie(a.count, b.code, b.description);
  });
  return kinds;
}

bool JobReport::Balanced() const {
  const JobStatistics counts = info.statistics.value_or(JobStatistics());
  return tally.open == 0 && counts.running_count == 0 &&
         counts.pending_count == 0 &&
         counts.succeeded_count == tally.succeeded &&
         counts.failed_count == tally.failed + tally.canceled &&
         counts.device_count == counts.succeeded_count + counts.failed_count;
}

bool JobReport::Succeeded() const {
  return info.status == JobStatus::kCompleted && tally.failed == 0 &&
         tally.canceled == 0 && Balanced();
}

absl::Duration JobReport::Elapsed() const { return ElapsedOf(info); }

std::string JobText(const JobInfo& info) {
  const JobStatistics counts = info.statistics.value_or(JobStatistics());
  std::string out = HeadLines(info);
  if (!info.statistics.has_value()) return out;
  absl::StrAppend(&out, CountLine("devices", counts.device_count),
                  CountLine("succeeded", counts.succeeded_count),
                  CountLine("failed", counts.failed_count));
  if (!IsTerminal(info.status)) {
    absl::StrAppend(&out, CountLine("running", counts.running_count),
                    CountLine("pending", counts.pending_count));
  }
  return out;
}

std::string ReportText(const JobReport& report) {
  const JobInfo& info = report.info;
  const Tally& tally = report.tally;
  const JobStatistics counts = info.statistics.value_or(JobStatistics());
  std::string out = HeadLines(info);
  absl::StrAppend(&out, CountLine("devices", counts.device_count),
                  CountLine("succeeded", counts.succeeded_count));
  for (const auto& [status, count] : tally.answers) {
    absl::StrAppend(&out, DetailLine(absl::StrCat("answered ", status), count));
  }
  absl::StrAppend(&out, CountLine("failed", counts.failed_count));
  const std::vector<Tally::Kind> kinds = tally.Kinds();
  for (size_t i = 0; i < kinds.size() && i < kKindsShown; ++i) {
    absl::StrAppend(&out, DetailLine(absl::StrCat(kinds[i].code, ": ",
                                                  kinds[i].description),
                                     kinds[i].count));
  }
  if (kinds.size() > kKindsShown) {
    int64_t others = 0;
    for (size_t i = kKindsShown; i < kinds.size(); ++i) {
      others += kinds[i].count;
    }
    absl::StrAppend(&out, DetailLine("others", others));
  }
  // Canceled executions have no error to be counted by.
  int64_t canceled = tally.failed + tally.canceled;
  for (const Tally::Kind& kind : kinds) canceled -= kind.count;
  if (canceled > 0) {
    absl::StrAppend(&out,
                    DetailLine("canceled before they were sent", canceled));
  }
  if (!report.Balanced()) {
    absl::StrAppend(&out,
                    "  These counts do not add up: this is a bug of muster.\n");
  }
  return out;
}

std::string ReportJson(const JobReport& report) {
  const Tally& tally = report.tally;
  std::string job;
  AppendJobJson(report.info, &job);
  std::string out;
  JsonWriter json(&out);
  json.BeginObject().Key("event").String("summary").Key("job").Raw(job);
  json.Key("succeeded").Int(tally.succeeded);
  json.Key("failed").Int(tally.failed);
  json.Key("canceled").Int(tally.canceled);
  json.Key("answers").BeginArray();
  for (const auto& [status, count] : tally.answers) {
    json.BeginObject().Key("status").Int(status).Key("count").Int(count);
    json.EndObject();
  }
  json.EndArray().Key("errors").BeginArray();
  for (const Tally::Kind& kind : tally.Kinds()) {
    json.BeginObject().Key("code").String(kind.code);
    json.Key("description").String(kind.description);
    json.Key("count").Int(kind.count).EndObject();
  }
  json.EndArray().Key("balanced").Bool(report.Balanced());
  json.Key("elapsedSeconds").Double(absl::ToDoubleSeconds(report.Elapsed()));
  json.Key("devicesPerSecond")
      .Double(PerSecond(tally.succeeded + tally.failed + tally.canceled,
                        report.Elapsed()));
  json.EndObject();
  return out;
}

}  // namespace muster
