#include "engine/journal/rocksdb/folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace muster {
namespace {

constexpr absl::string_view kFormatName = "muster journal ";
constexpr int kFormatVersion = 1;

absl::Status WriteAll(int descriptor, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return journal_files::Error(errno, "write");
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

std::string Parent(const std::string& path) {
  std::string parent = std::filesystem::path(path).parent_path();
  return parent.empty() ? "." : parent;
}

// Makes what was created, renamed or removed in a directory durable.
absl::Status SyncDirectory(const std::string& path) {
  const OpenFile file(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (file.descriptor() < 0) return journal_files::Error(errno, path);
  if (fsync(file.descriptor()) != 0) return journal_files::Error(errno, path);
  return absl::OkStatus();
}

// For its owner alone: devices' keys are kept in it.
absl::Status MakeDirectory(const std::string& path) {
  if (mkdir(path.c_str(), 0700) != 0) {
    if (errno == EEXIST) return absl::OkStatus();
    return journal_files::Error(errno, path);
  }
  return SyncDirectory(Parent(path));
}

absl::StatusOr<OpenFile> Lock(const std::string& directory, bool read_only) {
  const std::string path = directory + "/lock";
  OpenFile file(open(
      path.c_str(),
      read_only ? O_RDONLY | O_CLOEXEC : O_RDWR | O_CREAT | O_CLOEXEC, 0666));
  if (file.descriptor() < 0) {
    // A copy without a lock file: nobody can have it.
    if (read_only && errno == ENOENT) return file;
    return journal_files::Error(errno, path);
  }
  if (flock(file.descriptor(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return journal_files::Error(errno, path);
    char text[32];
    const ssize_t size = pread(file.descriptor(), text, sizeof(text), 0);
    return absl::FailedPreconditionError(
        absl::StrCat(directory, " is in use by another engine, process ",
                     absl::StripAsciiWhitespace(absl::string_view(
                         text, size > 0 ? static_cast<size_t>(size) : 0)),
                     ": a folder has one engine at a time"));
  }
  if (!read_only) {
    // It only names the process: an error in writing it is none.
    const std::string number = absl::StrCat(getpid(), "\n");
    if (ftruncate(file.descriptor(), 0) == 0) {
      (void)!pwrite(file.descriptor(), number.data(), number.size(), 0);
    }
  }
  return file;
}

absl::Status CheckFormat(const std::string& directory) {
  absl::StatusOr<std::string> text =
      journal_files::Read(directory + "/format", 256);
  if (!text.ok()) return text.status();
  const absl::string_view line = absl::StripSuffix(*text, "\n");
  int version = 0;
  if (!absl::StartsWith(line, kFormatName) ||
      !absl::SimpleAtoi(line.substr(kFormatName.size()), &version) ||
      version < 1) {
    return absl::DataLossError(
        absl::StrCat(directory, "/format is damaged: it should say \"",
                     kFormatName, kFormatVersion, "\""));
  }
  if (version > kFormatVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        directory, " was written by a newer version: its format is \"", line,
        "\", and this version reads \"", kFormatName, kFormatVersion, "\""));
  }
  return absl::OkStatus();
}

// A folder without a format is new if there is nothing else in it either.
absl::Status CheckNew(const std::string& directory) {
  std::error_code error;
  std::filesystem::directory_iterator entries(directory, error);
  if (error) return journal_files::Error(error.value(), directory);
  for (const auto& entry : entries) {
    const std::string name = entry.path().filename();
    if (name == "db" || name == "stamp") {
      return absl::DataLossError(
          absl::StrCat(directory, "/format is missing beside ", name));
    }
    if (name != "lock" && name != "format.new" && name != "lost+found") {
      return absl::FailedPreconditionError(
          absl::StrCat(directory, " is not the folder of a journal: there is ",
                       name, " in it"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

OpenFile::OpenFile(OpenFile&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)) {}

OpenFile& OpenFile::operator=(OpenFile&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

OpenFile::~OpenFile() {
  if (descriptor_ >= 0) close(descriptor_);
}

absl::StatusOr<JournalFolder> JournalFolder::Open(const std::string& directory,
                                                  Access access) {
  const bool read_only = access == Access::kReadOnly;
  if (!read_only) {
    if (absl::Status s = MakeDirectory(directory); !s.ok()) return s;
  }
  const bool is_new = !journal_files::Exists(directory + "/format");
  if (is_new && read_only) {
    return absl::NotFoundError(
        absl::StrCat(directory, journal_files::Exists(directory)
                                    ? " is not the folder of a journal"
                                    : ": there is no such folder"));
  }
  if (is_new) {
    // Before the lock, so that nothing is left in a folder of other things.
    if (absl::Status s = CheckNew(directory); !s.ok()) return s;
  }
  absl::StatusOr<OpenFile> lock = Lock(directory, read_only);
  if (!lock.ok()) return lock.status();
  if (is_new) {
    if (absl::Status s = journal_files::Replace(
            directory + "/format",
            absl::StrCat(kFormatName, kFormatVersion, "\n"));
        !s.ok()) {
      return s;
    }
  }
  if (absl::Status s = CheckFormat(directory); !s.ok()) return s;
  return JournalFolder(directory, *std::move(lock));
}

std::string JournalFolder::StampPath() const { return directory_ + "/stamp"; }

std::string JournalFolder::DatabasePath() const { return directory_ + "/db"; }

absl::Status JournalFolder::HideDatabase() const {
  const std::string path = DatabasePath();
  if (chmod(path.c_str(), 0700) != 0) {
    return journal_files::Error(errno, path);
  }
  return absl::OkStatus();
}

int64_t JournalFolder::DiskUsage() const {
  namespace fs = std::filesystem;
  int64_t bytes = 0;
  std::error_code error;
  // Files come and go meanwhile: what is gone counts nothing.
  for (fs::recursive_directory_iterator it(directory_, error), end;
       !error && it != end; it.increment(error)) {
    struct stat status;
    if (lstat(it->path().c_str(), &status) == 0) {
      bytes += int64_t{status.st_blocks} * 512;
    }
  }
  return bytes;
}

namespace journal_files {

bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

absl::Status Error(int error_number, absl::string_view what) {
  const std::string message =
      absl::StrCat(what, ": ", std::generic_category().message(error_number));
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(message);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(message);
    case ENOSPC:
    case EDQUOT:
      return absl::ResourceExhaustedError(message);
    default:
      return absl::UnavailableError(message);
  }
}

absl::Status Replace(const std::string& path, absl::string_view bytes) {
  const std::string temporary = path + ".new";
  {
    const OpenFile file(open(temporary.c_str(),
                             O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (file.descriptor() < 0) return Error(errno, temporary);
    if (absl::Status s = WriteAll(file.descriptor(), bytes); !s.ok()) return s;
    if (fsync(file.descriptor()) != 0) return Error(errno, temporary);
  }
  if (rename(temporary.c_str(), path.c_str()) != 0) {
    return Error(errno, path);
  }
  return SyncDirectory(Parent(path));
}

absl::StatusOr<std::string> Read(const std::string& path, size_t bytes_max) {
  const OpenFile file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.descriptor() < 0) return Error(errno, path);
  std::string bytes(bytes_max, '\0');
  size_t size = 0;
  while (size < bytes_max) {
    const ssize_t got = read(file.descriptor(), &bytes[size], bytes_max - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error(errno, path);
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  bytes.resize(size);
  return bytes;
}

}  // namespace journal_files
}  // namespace muster
