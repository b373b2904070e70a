#include "server/port_watch.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace muster {
namespace {

// What counts of the time between two looks.
constexpr absl::Duration kStepMax = absl::Seconds(1);

// "" if there is none.
std::string LookUp(absl::string_view address) {
  const size_t colon = address.rfind(':');
  if (absl::StartsWith(address, "unix:") || colon == absl::string_view::npos) {
    return "";
  }
  std::string host(address.substr(0, colon));
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  const std::string port(address.substr(colon + 1));
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  // Without a host: this machine.
  if (getaddrinfo(host.empty() ? nullptr : host.c_str(), port.c_str(), &hints,
                  &found) != 0) {
    return "";
  }
  std::string out(reinterpret_cast<const char*>(found->ai_addr),
                  found->ai_addrlen);
  freeaddrinfo(found);
  return out;
}

}  // namespace

PortWatch::PortWatch(absl::string_view address)
    : address_(address), socket_address_(LookUp(address)) {}

PortWatch::~PortWatch() { End(); }

absl::Status PortWatch::Look(absl::Duration now) {
  const absl::Duration step = std::min(now - looked_, kStepMax);
  looked_ = now;
  if (socket_address_.empty()) return absl::OkStatus();
  if (fd_ < 0) {
    if (now - since_ < kInterval) return absl::OkStatus();
    since_ = now;
    silent_ = absl::ZeroDuration();
    Begin();
    return absl::OkStatus();
  }
  if (Answered()) {
    End();
    since_ = now;
    return absl::OkStatus();
  }
  silent_ += step;
  if (silent_ < kPatience) return absl::OkStatus();
  End();
  since_ = now;
  // It may be that no connection gets from here to there at all.
  if (!has_answered_) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat(address_,
                   " takes no connections any more: one from this process has "
                   "had no answer for ",
                   absl::FormatDuration(kPatience),
                   "; the descriptors had perhaps run out"));
}

void PortWatch::Begin() {
  const auto* const to =
      reinterpret_cast<const sockaddr*>(socket_address_.data());
  fd_ = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd_ < 0) return;
  // The other end needs one, too.
  const int other = fcntl(fd_, F_DUPFD_CLOEXEC, 0);
  if (other < 0) return End();
  close(other);
  ended_writing_ = false;
  if (connect(fd_, to, static_cast<socklen_t>(socket_address_.size())) != 0 &&
      errno != EINPROGRESS) {
    End();
  }
}

bool PortWatch::Answered() {
  pollfd look = {.fd = fd_, .events = POLLIN};
  if (!ended_writing_) look.events |= POLLOUT;
  if (poll(&look, 1, 0) <= 0) return false;
  if ((look.revents & POLLOUT) != 0 && (look.revents & POLLERR) == 0) {
    shutdown(fd_, SHUT_WR);
    ended_writing_ = true;
  }
  if ((look.revents & POLLIN) == 0) return (look.revents & POLLERR) != 0;
  has_answered_ = true;
  return true;
}

void PortWatch::End() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

}  // namespace muster
