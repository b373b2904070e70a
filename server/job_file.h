// JobFile: a job as a user writes it, the request body of the hub's jobs API.
#ifndef SERVER_JOB_FILE_H_
#define SERVER_JOB_FILE_H_

#include <string>

#include "absl/status/statusor.h"

namespace muster {

struct JobFile {
  std::string path;
  // Empty if the body names the job; else the file's name without directory and
  // suffix.
  std::string job_id;
  std::string body;
  std::string condition;  // Its queryCondition; "" if there is none.
};

// Reads the file; only the engine judges what is in it.  Errors are the file's:
// missing, a directory, not permitted, far too long for a job.
absl::StatusOr<JobFile> ReadJobFile(const std::string& path);

}  // namespace muster

#endif  // SERVER_JOB_FILE_H_
