#include "tests/crash_state.h"

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/model/job_status.h"
#include "engine/model/json.h"

namespace muster {
namespace {

// FNV-1a: the same in every process.
uint64_t Hash(absl::string_view text) {
  uint64_t hash = 14695981039346656037u;
  for (const char c : text) {
    hash = (hash ^ static_cast<uint8_t>(c)) * 1099511628211u;
  }
  return hash;
}

absl::Status AppendJobs(const Engine& engine, std::vector<std::string>* ids,
                        std::string* out) {
  std::string continuation;
  do {
    absl::StatusOr<JobPage> page = engine.ListJobs({}, 1'000, continuation);
    if (!page.ok()) return page.status();
    for (const JobInfo& job : page->jobs) {
      std::string json;
      if (IsTerminal(job.status)) AppendJobJson(job, &json);
      absl::StrAppend(out, "J ", job.job_id, CrashCounts(job), " ",
                      json.empty() ? 0 : Hash(json), "\n");
      ids->push_back(job.job_id);
    }
    continuation = page->continuation;
  } while (!continuation.empty());
  return absl::OkStatus();
}

absl::Status AppendExecutions(const Engine& engine, const std::string& job,
                              std::string* out) {
  return engine.ForEachExecution(job, [&](const ExecutionRecord& record) {
    std::string json;
    AppendExecutionJson(record, &json);
    absl::StrAppend(out, "X ", job, " ", record.device_id, " ",
                    ExecutionStatusName(record.status), " ",
                    static_cast<int>(record.error_code), " ", Hash(json), "\n");
  });
}

absl::Status AppendTwins(const Engine& engine, std::string* out) {
  std::string continuation;
  do {
    absl::StatusOr<TwinPage> page =
        engine.Query("SELECT * FROM devices", 1'000, continuation);
    if (!page.ok()) return page.status();
    for (const std::string& row : page->rows) {
      absl::StatusOr<Json> twin = ParseJson(row);
      if (!twin.ok()) return twin.status();
      const JsonView desired = twin->view().Find("properties").Find("desired");
      const JsonView n = desired.Find("n");
      absl::StrAppend(out, "T ", twin->view().Find("deviceId").string_value(),
                      " ", n.is_undefined() ? 0 : n.int_value(), " ",
                      desired.Find("$version").int_value(), " ", Hash(row),
                      "\n");
    }
    continuation = page->continuation;
  } while (!continuation.empty());
  return absl::OkStatus();
}

}  // namespace

absl::string_view CrashStatusName(JobStatus status) {
  return status == JobStatus::kQueued || status == JobStatus::kScheduled
             ? "waiting"
             : JobStatusName(status);
}

std::string CrashCounts(const JobInfo& job) {
  const JobStatistics s =
      job.statistics.value_or(JobStatistics{-1, -1, -1, -1, -1});
  return absl::StrCat(" ", CrashStatusName(job.status), " ", s.device_count,
                      " ", s.failed_count, " ", s.succeeded_count, " ",
                      s.running_count, " ", s.pending_count);
}

absl::StatusOr<std::string> CrashState(const Engine& engine,
                                       bool with_executions) {
  std::string text;
  std::vector<std::string> jobs;
  if (absl::Status s = AppendJobs(engine, &jobs, &text); !s.ok()) return s;
  if (with_executions) {
    for (const std::string& job : jobs) {
      if (absl::Status s = AppendExecutions(engine, job, &text); !s.ok()) {
        return s;
      }
    }
  }
  if (absl::Status s = AppendTwins(engine, &text); !s.ok()) return s;
  return text;
}

}  // namespace muster
