#include "tests/disk_faults.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace muster {
namespace {

// Set while not armed; read by every call.  A character array, so that a call
// that is late never meets a string that is gone.
char folder[512];
int error_number;
DiskFaults::Calls which;
int64_t first_failing;
int64_t last_failing;
std::atomic<bool> armed{false};
std::atomic<int64_t> calls{0};
std::atomic<int64_t> syncs{0};

template <typename F>
F* Next(const char* name) {
  return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
}

bool Below(absl::string_view path) {
  const absl::string_view prefix = folder;
  return path.substr(0, prefix.size()) == prefix;
}

bool Below(int descriptor) {
  char path[1024];
  const std::string link = absl::StrCat("/proc/self/fd/", descriptor);
  const ssize_t size = readlink(link.c_str(), path, sizeof(path));
  return size > 0 && Below(absl::string_view(path, static_cast<size_t>(size)));
}

// True, with errno set, if this call is to fail.
template <typename File>
bool Fails(File file, bool is_sync = false) {
  if (!armed.load(std::memory_order_acquire)) return false;
  const int before = errno;
  const bool counted = Below(file);
  errno = before;
  if (!counted || which == (is_sync ? DiskFaults::Calls::kOthers
                                    : DiskFaults::Calls::kSyncs)) {
    return false;
  }
  const int64_t number = calls.fetch_add(1) + 1;
  if (is_sync) syncs.fetch_add(1);
  if (number < first_failing || number > last_failing) return false;
  errno = error_number;
  return true;
}

}  // namespace

void DiskFaults::Arm(const std::string& path, int error, int64_t first,
                     int64_t last, Calls calls_that_fail) {
  armed.store(false);
  which = calls_that_fail;
  std::strncpy(folder, path.c_str(), sizeof(folder) - 1);
  error_number = error;
  first_failing = first;
  last_failing = last;
  calls.store(0);
  syncs.store(0);
  armed.store(true, std::memory_order_release);
}

int64_t DiskFaults::Disarm() {
  armed.store(false);
  return calls.load();
}

int64_t DiskFaults::Syncs() { return syncs.load(); }

}  // namespace muster

extern "C" {

ssize_t write(int file, const void* bytes, size_t size) {
  static auto* const next = muster::Next<decltype(write)>("write");
  if (!muster::Fails(file)) return next(file, bytes, size);
  if (size < 2) return -1;
  // Half of it is there all the same.
  const int error = errno;
  (void)!next(file, bytes, size / 2);
  errno = error;
  return -1;
}

ssize_t pwrite(int file, const void* bytes, size_t size, off_t offset) {
  static auto* const next = muster::Next<decltype(pwrite)>("pwrite");
  return muster::Fails(file) ? -1 : next(file, bytes, size, offset);
}

int fsync(int file) {
  static auto* const next = muster::Next<decltype(fsync)>("fsync");
  return muster::Fails(file, /*is_sync=*/true) ? -1 : next(file);
}

int fdatasync(int file) {
  static auto* const next = muster::Next<decltype(fdatasync)>("fdatasync");
  return muster::Fails(file, /*is_sync=*/true) ? -1 : next(file);
}

int ftruncate(int file, off_t size) noexcept {
  static auto* const next = muster::Next<decltype(ftruncate)>("ftruncate");
  return muster::Fails(file) ? -1 : next(file, size);
}

int fallocate(int file, int mode, off_t offset, off_t size) {
  static auto* const next = muster::Next<decltype(fallocate)>("fallocate");
  return muster::Fails(file) ? -1 : next(file, mode, offset, size);
}

int rename(const char* from, const char* to) noexcept {
  static auto* const next =
      muster::Next<int(const char*, const char*)>("rename");
  return muster::Fails(absl::string_view(to)) ? -1 : next(from, to);
}

}  // extern "C"
