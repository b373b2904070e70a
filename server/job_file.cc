#include "server/job_file.h"

#include <utility>

#include "engine/model/json.h"
#include "engine/model/limits.h"
#include "server/files.h"

namespace muster {

absl::StatusOr<JobFile> ReadJobFile(const std::string& path) {
  JobFile job;
  job.path = path;
  // What is over the limit by little gets the engine's own answer.
  absl::StatusOr<std::string> body = ReadFile(path, 4 * kJobBodySizeMax);
  if (!body.ok()) return body.status();
  job.body = *std::move(body);
  job.job_id = BaseName(path);
  const absl::StatusOr<Json> json = ParseJson(job.body);
  if (!json.ok()) return job;
  const JsonView id = json->view().Find("jobId");
  if (!id.is_undefined() && !id.is_null()) job.job_id.clear();
  const JsonView condition = json->view().Find("queryCondition");
  if (condition.is_string()) {
    job.condition = std::string(condition.string_value());
  }
  return job;
}

}  // namespace muster
