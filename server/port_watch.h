// PortWatch: notices that a port of this process takes no connections any more.
//
// gRPC's listener (1.51, tcp_server_posix.cc) never comes back once accept4()
// has failed for want of a descriptor, and says nothing: the port stays open,
// connections wait in the kernel, and nobody answers them.  So every few
// seconds one is made from here, which says nothing and ends: a server that is
// alive answers, or ends it too.
#ifndef SERVER_PORT_WATCH_H_
#define SERVER_PORT_WATCH_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace muster {

// One thread.
class PortWatch {
 public:
  // From one connection's answer to the next connection ...
  static constexpr absl::Duration kInterval = absl::Seconds(5);
  // ... and how long one may be without an answer.
  static constexpr absl::Duration kPatience = absl::Seconds(10);

  // `address`: "host:port" where this process listens, with its real port.
  // Looks the host up, which may take a while.  One that cannot be looked up,
  // and a "unix:" path, are not watched.
  explicit PortWatch(absl::string_view address);
  PortWatch(const PortWatch&) = delete;
  PortWatch& operator=(const PortWatch&) = delete;
  ~PortWatch();

  // To be called several times in a second; `now` is monotonic.  Does not
  // block.  UNAVAILABLE when the port has answered once and does so no more.
  // Nothing is asked while the process has no descriptor free: an accept() for
  // this connection's sake must not be the one that fails.
  absl::Status Look(absl::Duration now);

 private:
  void Begin();
  // Whether the other side has said something, or nobody is there any more.
  bool Answered();
  void End();

  const std::string address_;
  std::string socket_address_;  // A sockaddr; empty: not watched.
  int fd_ = -1;                 // The connection; -1: none.
  bool ended_writing_ = false;
  bool has_answered_ =
      false;  // At any time: the port can be reached from here.
  // When a connection was last begun or answered.
  absl::Duration since_ = -absl::InfiniteDuration();
  // As long as this process was running: one that was stopped meanwhile says
  // nothing about the port.
  absl::Duration silent_;
  absl::Duration looked_;
};

}  // namespace muster

#endif  // SERVER_PORT_WATCH_H_
