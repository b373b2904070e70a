#include "bench/disk.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "engine/model/check.h"
#include "engine/schedule/clock.h"

namespace fs = std::filesystem;

namespace {

std::atomic<int64_t> delay_ns{0};
std::atomic<int64_t> sync_count{0};

void CountAndWait() {
  sync_count.fetch_add(1, std::memory_order_relaxed);
  const int64_t ns = delay_ns.load(std::memory_order_relaxed);
  if (ns > 0) absl::SleepFor(absl::Nanoseconds(ns));
}

template <typename F>
F* Next(const char* name) {
  F* const next = reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
  MUSTER_CHECK(next != nullptr);
  return next;
}

}  // namespace

// In the place of the C library's, also for shared libraries: a program's own
// symbols come first.
extern "C" {

int fsync(int fd) {
  static const auto next = Next<int(int)>("fsync");
  CountAndWait();
  return next(fd);
}

int fdatasync(int fd) {
  static const auto next = Next<int(int)>("fdatasync");
  CountAndWait();
  return next(fd);
}

int sync_file_range(int fd, off64_t from, off64_t count, unsigned int flags) {
  static const auto next =
      Next<int(int, off64_t, off64_t, unsigned int)>("sync_file_range");
  CountAndWait();
  return next(fd, from, count, flags);
}

}  // extern "C"

namespace muster {

void SetSyncDelay(absl::Duration delay) {
  delay_ns.store(absl::ToInt64Nanoseconds(delay));
}

int64_t SyncCount() { return sync_count.load(); }

TempFolder::TempFolder(absl::string_view name) {
  const char* parent = std::getenv("TEST_TMPDIR");
  if (parent == nullptr) parent = std::getenv("TMPDIR");
  if (parent == nullptr) parent = "/tmp";
  path_ = absl::StrCat(parent, "/", name, ".XXXXXX");
  MUSTER_CHECK(mkdtemp(path_.data()) != nullptr);
}

TempFolder::~TempFolder() {
  std::error_code error;
  fs::remove_all(path_, error);
}

void TempFolder::Clear() const {
  for (const fs::directory_entry& entry : fs::directory_iterator(path_)) {
    fs::remove_all(entry.path());
  }
}

int64_t DiskBytes(const std::string& folder) {
  int64_t bytes = 0;
  for (const fs::directory_entry& entry :
       fs::recursive_directory_iterator(folder)) {
    struct stat of;
    // One that was removed meanwhile takes nothing.
    if (entry.is_regular_file() && stat(entry.path().c_str(), &of) == 0) {
      bytes += int64_t{of.st_blocks} * 512;
    }
  }
  return bytes;
}

void CopyFolder(const std::string& from, const std::string& to) {
  fs::copy(from, to, fs::copy_options::recursive);
}

void RemoveFolder(const std::string& folder) { fs::remove_all(folder); }

absl::Duration MeasureSync(const std::string& folder) {
  const std::string path = absl::StrCat(folder, "/sync");
  const int fd = open(path.c_str(), O_CREAT | O_WRONLY | O_APPEND, 0600);
  MUSTER_CHECK(fd >= 0);
  const std::string page(4096, 'x');
  std::vector<absl::Duration> times;
  for (int i = 0; i < 100; ++i) {
    const absl::Duration start = Clock::Real().Monotonic();
    MUSTER_CHECK(write(fd, page.data(), page.size()) ==
                 static_cast<ssize_t>(page.size()));
    MUSTER_CHECK(fdatasync(fd) == 0);
    times.push_back(Clock::Real().Monotonic() - start);
  }
  close(fd);
  unlink(path.c_str());
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

std::string MachineLoad() {
  double load[1];
  if (getloadavg(load, 1) != 1) return "load unknown";
  return absl::StrFormat("load %.2f", load[0]);
}

}  // namespace muster
