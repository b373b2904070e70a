#include "server/files.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/text.h"

namespace muster {
namespace {

// Every write is a call of the system: 256 KB make it cheap.
constexpr size_t kBufferBytes = 1 << 18;

}  // namespace

absl::Status FileError(absl::string_view path, int error_number) {
  const std::string message =
      absl::StrCat(path, ": ", std::generic_category().message(error_number));
  return error_number == ENOENT ? absl::NotFoundError(message)
                                : absl::InvalidArgumentError(message);
}

absl::Status CheckReadable(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return FileError(path, errno);
  if (S_ISDIR(info.st_mode)) return FileError(path, EISDIR);
  if (access(path.c_str(), R_OK) != 0) return FileError(path, errno);
  return absl::OkStatus();
}

int64_t FileSize(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return -1;
  return info.st_size;
}

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t size_max) {
  absl::Status readable = CheckReadable(path);
  if (!readable.ok()) return readable;
  std::FILE* const file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return FileError(path, errno);
  std::string text;
  char buffer[16 * 1024];
  size_t size = sizeof(buffer);
  // Less than was asked for is the end, or an error.
  while (text.size() <= size_max && size == sizeof(buffer)) {
    size = std::fread(buffer, 1, sizeof(buffer), file);
    text.append(buffer, size);
  }
  const int error_number = std::ferror(file) != 0 ? errno : 0;
  std::fclose(file);
  if (error_number != 0) return FileError(path, error_number);
  if (text.size() > size_max) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": longer than ",
                     WithCommas(static_cast<int64_t>(size_max)), " bytes"));
  }
  return text;
}

absl::string_view LastPart(absl::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == absl::string_view::npos ? path : path.substr(slash + 1);
}

std::string BaseName(absl::string_view path) {
  path = LastPart(path);
  const size_t dot = path.rfind('.');
  if (dot != absl::string_view::npos && dot > 0) path = path.substr(0, dot);
  return std::string(path);
}

absl::StatusOr<std::unique_ptr<WholeFile>> WholeFile::Create(
    const std::string& path) {
  if (path == "-") {
    return std::unique_ptr<WholeFile>(new WholeFile(path, "", stdout));
  }
  std::string target = path;
  std::string partial;
  struct stat info;
  if (stat(path.c_str(), &info) == 0) {
    if (S_ISDIR(info.st_mode)) return FileError(path, EISDIR);
    if (S_ISREG(info.st_mode)) {
      if (access(path.c_str(), W_OK) != 0) return FileError(path, errno);
      // Behind a link it is the file that is to be replaced, not the link.
      char* const real = realpath(path.c_str(), nullptr);
      if (real == nullptr) return FileError(path, errno);
      target = real;
      free(real);  // NOLINT: realpath() allocates with malloc().
    } else {
      std::FILE* const file = std::fopen(path.c_str(), "we");
      if (file == nullptr) return FileError(path, errno);
      return std::unique_ptr<WholeFile>(new WholeFile(path, "", file));
    }
  }
  partial = absl::StrCat(target, ".", getpid(), ".partial");
  std::FILE* const file = std::fopen(partial.c_str(), "we");
  if (file == nullptr) return FileError(path, errno);
  return std::unique_ptr<WholeFile>(
      new WholeFile(std::move(target), std::move(partial), file));
}

WholeFile::WholeFile(std::string path, std::string partial_path,
                     std::FILE* file)
    : path_(std::move(path)),
      partial_path_(std::move(partial_path)),
      file_(file) {
  if (file_ != stdout) std::setvbuf(file_, nullptr, _IOFBF, kBufferBytes);
}

WholeFile::~WholeFile() {
  if (file_ != nullptr && file_ != stdout) std::fclose(file_);
  if (!committed_ && !partial_path_.empty()) unlink(partial_path_.c_str());
}

void WholeFile::Append(absl::string_view bytes) {
  if (error_number_ != 0) return;
  if (std::fwrite(bytes.data(), 1, bytes.size(), file_) != bytes.size()) {
    error_number_ = errno;
  }
}

absl::Status WholeFile::Commit() {
  if (std::fflush(file_) != 0 && error_number_ == 0) error_number_ = errno;
  if (file_ != stdout && std::fclose(std::exchange(file_, nullptr)) != 0 &&
      error_number_ == 0) {
    error_number_ = errno;
  }
  if (error_number_ == 0 && !partial_path_.empty() &&
      std::rename(partial_path_.c_str(), path_.c_str()) != 0) {
    error_number_ = errno;
  }
  if (error_number_ != 0) {
    return FileError(path_ == "-" ? "standard output" : path_, error_number_);
  }
  committed_ = true;
  return absl::OkStatus();
}

}  // namespace muster
