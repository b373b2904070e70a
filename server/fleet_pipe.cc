#include "server/fleet_pipe.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "transport/loopback/fleet.h"

namespace muster {
namespace {

constexpr size_t kChunkBytes = size_t{1} << 19;
constexpr int kPipeBytes = 1 << 20;

bool WriteAll(int fd, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t size = write(fd, bytes.data(), bytes.size());
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(size));
  }
  return true;
}

}  // namespace

FleetPipe::FleetPipe(uint32_t devices, uint64_t seed) {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return;
  read_fd_ = fds[0];
  path_ = absl::StrCat("/dev/fd/", read_fd_);
  // Fewer switches between reader and writer, if the system allows it.
  fcntl(fds[1], F_SETPIPE_SZ, kPipeBytes);
  writer_ = std::thread([fd = fds[1], devices, seed] {
    const FleetGenerator generator(seed);
    std::string lines;
    for (uint32_t row = 0; row < devices; ++row) {
      generator.AppendTwin(row, &lines);
      if (lines.size() < kChunkBytes && row + 1 < devices) continue;
      if (!WriteAll(fd, lines)) break;
      lines.clear();
    }
    close(fd);
  });
}

FleetPipe::~FleetPipe() {
  if (read_fd_ >= 0) close(read_fd_);
  if (writer_.joinable()) writer_.join();
}

}  // namespace muster
