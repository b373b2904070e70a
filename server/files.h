// Files, with errors that a person can act on.
#ifndef SERVER_FILES_H_
#define SERVER_FILES_H_

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

// "out.jsonl: No such file or directory", from `error_number`.
absl::Status FileError(absl::string_view path, int error_number);

// OK if `path` can be read: there, not a directory, permitted.
absl::Status CheckReadable(const std::string& path);

// Bytes of a regular file; -1 for anything else.
int64_t FileSize(const std::string& path);

// All of a file.  INVALID_ARGUMENT if it is longer than `size_max`.
absl::StatusOr<std::string> ReadFile(const std::string& path, size_t size_max);

// The last part of a path: "reboot.json" of "a/reboot.json".
absl::string_view LastPart(absl::string_view path);

// The same without its last suffix: "reboot" of "a/reboot.json".
std::string BaseName(absl::string_view path);

// A new file that takes its name only once it is whole.  Until then it is
// beside it as "<name>.<process>.partial", and gone if it is never committed.
// What is no regular file (a pipe, /dev/stdout) is written as it stands; so is
// "-", which is standard output.
class WholeFile {
 public:
  // Creates it: tells now what would go wrong later.
  static absl::StatusOr<std::unique_ptr<WholeFile>> Create(
      const std::string& path);
  ~WholeFile();

  WholeFile(const WholeFile&) = delete;
  WholeFile& operator=(const WholeFile&) = delete;

  // The first error stays, and is Commit()'s answer.
  void Append(absl::string_view bytes);

  // Writes what is left and gives the file its name.
  absl::Status Commit();

  // Where it is until Commit(); "" if it has its name from the start.
  const std::string& partial_path() const { return partial_path_; }

 private:
  WholeFile(std::string path, std::string partial_path, std::FILE* file);

  const std::string path_;
  const std::string partial_path_;
  std::FILE* file_;
  int error_number_ = 0;
  bool committed_ = false;
};

}  // namespace muster

#endif  // SERVER_FILES_H_
