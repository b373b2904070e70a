#include "tests/disk_history.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <mutex>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/model/check.h"

namespace muster {
namespace {

enum class Kind {
  kCreate,  // A file.
  kMake,    // A directory.
  kRename,  // To `other`.
  kRemove,
  kWrite,     // `bytes` at `offset`.
  kTruncate,  // To `offset`.
  kSync,
  kSyncDirectory,
};

struct Call {
  Kind kind;
  std::string path;
  std::string other;
  size_t offset = 0;
  std::string bytes;
};

// One lock around each call and what is kept of it: the order in which they are
// kept is the order in which they happened.
std::mutex mutex;
bool running = false;
std::string folder;
std::vector<Call> calls;

template <typename F>
F* Next(const char* name) {
  return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
}

// The path below the folder, if it is below.
std::optional<std::string> Below(absl::string_view path) {
  if (path == folder) return "";
  if (!absl::StartsWith(path, folder) || path.size() <= folder.size() ||
      path[folder.size()] != '/') {
    return std::nullopt;
  }
  path.remove_prefix(folder.size() + 1);
  while (absl::EndsWith(path, "/")) path.remove_suffix(1);
  return std::string(path);
}

std::optional<std::string> Below(int descriptor) {
  char path[1024];
  const std::string link = absl::StrCat("/proc/self/fd/", descriptor);
  const ssize_t size = readlink(link.c_str(), path, sizeof(path));
  // A file that has no name any more cannot be left by a crash.
  const absl::string_view name(path, static_cast<size_t>(size > 0 ? size : 0));
  if (absl::EndsWith(name, " (deleted)")) return std::nullopt;
  return Below(name);
}

bool IsDirectory(int descriptor) {
  struct stat status;
  return fstat(descriptor, &status) == 0 && S_ISDIR(status.st_mode);
}

// Makes the call; keeps what `describe` makes of it, if it went well.
template <typename Make, typename Describe>
auto Keep(Make make, Describe describe) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto result = make();
  if (!running || result < 0) return result;
  const int error = errno;
  describe(result);
  errno = error;
  return result;
}

// The last component's directory; "" is the folder.
std::string Directory(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

// What has a name: which file; -1 is a directory.
using Names = std::map<std::string, int>;

struct File {
  std::string synced;
  std::vector<const Call*> pending;  // Writes and truncations since.
};

void Apply(const Call& call, std::string* bytes) {
  if (call.kind == Kind::kTruncate) return bytes->resize(call.offset);
  const size_t end = call.offset + call.bytes.size();
  if (bytes->size() < end) bytes->resize(end);
  bytes->replace(call.offset, call.bytes.size(), call.bytes);
}

}  // namespace

void DiskHistory::Start(const std::string& path) {
  const std::lock_guard<std::mutex> lock(mutex);
  folder = path;
  calls.clear();
  running = true;
}

void DiskHistory::Stop() {
  const std::lock_guard<std::mutex> lock(mutex);
  running = false;
}

size_t DiskHistory::size() {
  const std::lock_guard<std::mutex> lock(mutex);
  return calls.size();
}

std::string DiskHistory::Describe(size_t call) {
  const std::lock_guard<std::mutex> lock(mutex);
  const Call& c = calls[call];
  switch (c.kind) {
    case Kind::kCreate:
      return absl::StrCat("create ", c.path);
    case Kind::kMake:
      return absl::StrCat("mkdir ", c.path);
    case Kind::kRename:
      return absl::StrCat("rename ", c.path, " ", c.other);
    case Kind::kRemove:
      return absl::StrCat("remove ", c.path);
    case Kind::kWrite:
      return absl::StrCat("write ", c.path, " ", c.offset, "+", c.bytes.size());
    case Kind::kTruncate:
      return absl::StrCat("truncate ", c.path, " ", c.offset);
    case Kind::kSync:
      return absl::StrCat("sync ", c.path);
    case Kind::kSyncDirectory:
      return absl::StrCat("sync directory ", c.path);
  }
  return "";
}

DiskHistory::Files DiskHistory::After(size_t count, Left left, uint32_t seed) {
  const std::lock_guard<std::mutex> lock(mutex);
  std::vector<File> files;
  Names names, synced_names;
  const Call* last = nullptr;  // Write that is pending.
  for (size_t i = 0; i < count; ++i) {
    const Call& c = calls[i];
    switch (c.kind) {
      case Kind::kCreate:
        names[c.path] = static_cast<int>(files.size());
        files.emplace_back();
        break;
      case Kind::kMake:
        names[c.path] = -1;
        break;
      case Kind::kRename:
        names[c.other] = names.at(c.path);
        names.erase(c.path);
        break;
      case Kind::kRemove:
        names.erase(c.path);
        break;
      case Kind::kWrite:
      case Kind::kTruncate:
        files[names.at(c.path)].pending.push_back(&c);
        if (c.kind == Kind::kWrite) last = &c;
        break;
      case Kind::kSync: {
        File& file = files[names.at(c.path)];
        for (const Call* call : file.pending) {
          Apply(*call, &file.synced);
          if (call == last) last = nullptr;
        }
        file.pending.clear();
        break;
      }
      case Kind::kSyncDirectory:
        for (auto it = synced_names.begin(); it != synced_names.end();) {
          const bool here = Directory(it->first) == c.path;
          it = here ? synced_names.erase(it) : std::next(it);
        }
        for (const auto& [path, file] : names) {
          if (Directory(path) == c.path) synced_names[path] = file;
        }
        break;
    }
  }
  std::mt19937 random(seed);
  Files result;
  for (const auto& [path, number] :
       left == Left::kNothing ? synced_names : names) {
    // A name in a directory that is not there itself.
    if (left == Left::kNothing && !Directory(path).empty() &&
        synced_names.count(Directory(path)) == 0) {
      continue;
    }
    if (number < 0) {
      result[path];
      continue;
    }
    const File& file = files[number];
    std::string bytes = file.synced;
    for (const Call* call : file.pending) {
      bool there = false;
      switch (left) {
        case Left::kAll:
          there = true;
          break;
        case Left::kNothing:
        case Left::kNames:
          break;
        case Left::kTorn:
          there = call != last;
          if (there) break;
          {
            Call half = *call;
            half.bytes.resize(half.bytes.size() / 2);
            Apply(half, &bytes);
          }
          break;
        case Left::kReordered:
          there = call == last;
          break;
        case Left::kSome:
          there = random() % 2 == 0;
          break;
      }
      if (there) Apply(*call, &bytes);
    }
    result[path] = std::move(bytes);
  }
  return result;
}

namespace {

int Open(const char* path, int flags, mode_t mode) {
  static auto* const next = Next<int(const char*, int, ...)>("open");
  struct stat status;
  bool is_new = false;
  return Keep(
      [&] {
        is_new = running && stat(path, &status) != 0;
        return next(path, flags, mode);
      },
      [&](int) {
        const std::optional<std::string> below = Below(path);
        if (!below.has_value()) return;
        if (is_new) {
          calls.push_back({Kind::kCreate, *below});
        } else if ((flags & O_TRUNC) != 0) {
          calls.push_back({Kind::kTruncate, *below});
        }
      });
}

ssize_t KeepWrite(int file, const void* bytes, ssize_t written, off_t offset) {
  if (const auto below = Below(file); below.has_value()) {
    calls.push_back({Kind::kWrite, *below, "", static_cast<size_t>(offset),
                     std::string(static_cast<const char*>(bytes),
                                 static_cast<size_t>(written))});
  }
  return written;
}

void KeepSync(int file) {
  if (const auto below = Below(file); below.has_value()) {
    calls.push_back(
        {IsDirectory(file) ? Kind::kSyncDirectory : Kind::kSync, *below});
  }
}

}  // namespace
}  // namespace muster

extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const auto mode =
      (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : mode_t{0};
  va_end(arguments);
  return muster::Open(path, flags, mode);
}

ssize_t write(int file, const void* bytes, size_t size) {
  static auto* const next = muster::Next<decltype(write)>("write");
  return muster::Keep([&] { return next(file, bytes, size); },
                      [&](ssize_t written) {
                        muster::KeepWrite(file, bytes, written,
                                          lseek(file, 0, SEEK_CUR) - written);
                      });
}

ssize_t pwrite(int file, const void* bytes, size_t size, off_t offset) {
  static auto* const next = muster::Next<decltype(pwrite)>("pwrite");
  return muster::Keep([&] { return next(file, bytes, size, offset); },
                      [&](ssize_t written) {
                        muster::KeepWrite(file, bytes, written, offset);
                      });
}

int fsync(int file) {
  static auto* const next = muster::Next<decltype(fsync)>("fsync");
  return muster::Keep([&] { return next(file); },
                      [&](int) { muster::KeepSync(file); });
}

int fdatasync(int file) {
  static auto* const next = muster::Next<decltype(fdatasync)>("fdatasync");
  return muster::Keep([&] { return next(file); },
                      [&](int) { muster::KeepSync(file); });
}

// Space is not set aside: in a folder in memory that would take longer than all
// the rest.
int fallocate(int, int, off_t, off_t) {
  errno = EOPNOTSUPP;
  return -1;
}

int ftruncate(int file, off_t size) noexcept {
  static auto* const next = muster::Next<decltype(ftruncate)>("ftruncate");
  return muster::Keep(
      [&] { return next(file, size); },
      [&](int) {
        if (const auto below = muster::Below(file)) {
          muster::calls.push_back(
              {muster::Kind::kTruncate, *below, "", static_cast<size_t>(size)});
        }
      });
}

int rename(const char* from, const char* to) noexcept {
  static auto* const next =
      muster::Next<int(const char*, const char*)>("rename");
  return muster::Keep([&] { return next(from, to); },
                      [&](int) {
                        if (const auto below = muster::Below(from)) {
                          muster::calls.push_back({muster::Kind::kRename,
                                                   *below, *muster::Below(to)});
                        }
                      });
}

int unlink(const char* path) noexcept {
  static auto* const next = muster::Next<int(const char*)>("unlink");
  return muster::Keep(
      [&] { return next(path); },
      [&](int) {
        if (const auto below = muster::Below(path)) {
          muster::calls.push_back({muster::Kind::kRemove, *below});
        }
      });
}

int rmdir(const char* path) noexcept {
  static auto* const next = muster::Next<int(const char*)>("rmdir");
  return muster::Keep(
      [&] { return next(path); },
      [&](int) {
        if (const auto below = muster::Below(path)) {
          muster::calls.push_back({muster::Kind::kRemove, *below});
        }
      });
}

int mkdir(const char* path, mode_t mode) noexcept {
  static auto* const next = muster::Next<int(const char*, mode_t)>("mkdir");
  return muster::Keep(
      [&] { return next(path, mode); },
      [&](int) {
        if (const auto below = muster::Below(path)) {
          muster::calls.push_back({muster::Kind::kMake, *below});
        }
      });
}

}  // extern "C"
