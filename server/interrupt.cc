#include "server/interrupt.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "engine/model/check.h"

namespace muster {
namespace {

// All that the handler touches.  Lock-free, or it would be no signal handler's.
std::atomic<int> interrupts{0};
std::atomic<int> wake_fd{-1};
std::atomic<bool> has_file{false};
char file_to_remove[PATH_MAX];  // Constant while `has_file`.
static_assert(std::atomic<int>::is_always_lock_free);
static_assert(std::atomic<bool>::is_always_lock_free);

int read_fd = -1;  // Of the main thread.

void WriteByte() {
  const char byte = 0;
  // The pipe is full only if there is enough in it to wake the reader.
  [[maybe_unused]] const ssize_t written = write(wake_fd.load(), &byte, 1);
}

void ReadBytes() {
  char bytes[256];
  while (read(read_fd, bytes, sizeof(bytes)) == sizeof(bytes)) {
  }
}

// Calls only what POSIX lists as async-signal-safe.
void OnSignal(int signal_number) {
  if (interrupts.fetch_add(1) > 0) {
    if (has_file.load()) unlink(file_to_remove);
    _exit(128 + signal_number);
  }
  const int error = errno;
  WriteByte();
  errno = error;
}

}  // namespace

Interrupt& Interrupt::Install() {
  static Interrupt& interrupt = *new Interrupt;
  return interrupt;
}

Interrupt::Interrupt() {
  int fds[2];
  MUSTER_CHECK(pipe2(fds, O_NONBLOCK | O_CLOEXEC) == 0);
  read_fd = fds[0];
  wake_fd.store(fds[1]);
  struct sigaction action;
  std::memset(&action, 0, sizeof(action));
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART;
  for (int signal_number : {SIGINT, SIGTERM}) {
    // Also if it was ignored: a script's background job can be told to end.
    MUSTER_CHECK(sigaction(signal_number, &action, nullptr) == 0);
  }
}

bool Interrupt::pending() const { return interrupts.load() > 0; }

void Interrupt::Wait(absl::Duration timeout) {
  // Rounded up: a wait of less than a millisecond would be none.
  const int64_t milliseconds =
      absl::ToInt64Milliseconds(absl::Ceil(timeout, absl::Milliseconds(1)));
  pollfd poll_fd = {.fd = read_fd, .events = POLLIN, .revents = 0};
  if (poll(&poll_fd, 1,
           static_cast<int>(std::clamp<int64_t>(milliseconds, 0, 60'000))) <=
      0) {
    return;
  }
  ReadBytes();
}

bool Interrupt::AwaitReadable(int fd) {
  while (!pending()) {
    pollfd poll_fds[] = {{.fd = fd, .events = POLLIN, .revents = 0},
                         {.fd = read_fd, .events = POLLIN, .revents = 0}};
    if (poll(poll_fds, 2, -1) < 0) continue;
    if (poll_fds[1].revents != 0) ReadBytes();
    if (poll_fds[0].revents != 0) return !pending();
  }
  return false;
}

void Interrupt::Wake() { WriteByte(); }

void Interrupt::RemoveAtOnceWith(const std::string& path) {
  has_file.store(false);
  if (path.empty() || path.size() >= sizeof(file_to_remove)) return;
  std::memcpy(file_to_remove, path.c_str(), path.size() + 1);
  has_file.store(true);
}

}  // namespace muster
