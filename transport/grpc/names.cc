#include "transport/grpc/names.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/query/parse_error.h"
#include "transport/grpc/status.h"

namespace muster {
namespace {

// The parts of `name` behind the collections that `form` names.
absl::StatusOr<std::vector<std::string>> Parse(absl::string_view field,
                                               absl::string_view name,
                                               absl::string_view form) {
  const std::vector<absl::string_view> parts = absl::StrSplit(name, '/');
  const std::vector<absl::string_view> wanted = absl::StrSplit(form, '/');
  std::vector<std::string> ids;
  bool fits = parts.size() == wanted.size();
  for (size_t i = 0; fits && i < parts.size(); ++i) {
    if (i % 2 == 0) {
      fits = parts[i] == wanted[i];
    } else {
      fits = !parts[i].empty();
      ids.emplace_back(parts[i]);
    }
  }
  if (!fits) {
    return FieldError(field,
                      absl::StrCat("must be ", form, "; got ", Quoted(name)));
  }
  return ids;
}

}  // namespace

std::string JobName(absl::string_view job_id) {
  return absl::StrCat("jobs/", job_id);
}

std::string TwinName(absl::string_view device_id) {
  return absl::StrCat("twins/", device_id);
}

std::string ExecutionName(absl::string_view job_id,
                          absl::string_view device_id) {
  return absl::StrCat("jobs/", job_id, "/executions/", device_id);
}

absl::StatusOr<std::string> ParseJobName(absl::string_view field,
                                         absl::string_view name) {
  absl::StatusOr<std::vector<std::string>> ids =
      Parse(field, name, "jobs/{job}");
  if (!ids.ok()) return ids.status();
  return (*ids)[0];
}

absl::StatusOr<std::string> ParseTwinName(absl::string_view field,
                                          absl::string_view name) {
  absl::StatusOr<std::vector<std::string>> ids =
      Parse(field, name, "twins/{device}");
  if (!ids.ok()) return ids.status();
  return (*ids)[0];
}

absl::StatusOr<ExecutionId> ParseExecutionName(absl::string_view field,
                                               absl::string_view name) {
  absl::StatusOr<std::vector<std::string>> ids =
      Parse(field, name, "jobs/{job}/executions/{device}");
  if (!ids.ok()) return ids.status();
  return ExecutionId{std::move((*ids)[0]), std::move((*ids)[1])};
}

}  // namespace muster
