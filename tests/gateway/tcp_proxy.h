// TcpProxy: stands between two ends of TCP connections on this machine, and can
// let them fall silent without either end being told.
#ifndef TESTS_GATEWAY_TCP_PROXY_H_
#define TESTS_GATEWAY_TCP_PROXY_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "engine/model/check.h"

namespace muster {

class TcpProxy {
 public:
  // Forwards to 127.0.0.1:`to`.
  explicit TcpProxy(int to) : to_(to) {
    listener_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = Local(0);
    MUSTER_CHECK(bind(listener_, reinterpret_cast<sockaddr*>(&address),
                      sizeof(address)) == 0);
    socklen_t size = sizeof(address);
    MUSTER_CHECK(getsockname(listener_, reinterpret_cast<sockaddr*>(&address),
                             &size) == 0);
    port_ = ntohs(address.sin_port);
    MUSTER_CHECK(listen(listener_, 16) == 0);
    MUSTER_CHECK(pipe(wake_) == 0);
    thread_ = std::thread([this] { Run(); });
  }
  ~TcpProxy() {
    MUSTER_CHECK(write(wake_[1], "x", 1) == 1);
    thread_.join();
    for (const Pair& pair : pairs_) {
      close(pair.near);
      close(pair.far);
    }
    close(listener_);
    close(wake_[0]);
    close(wake_[1]);
  }

  int port() const { return port_; }

  // From now on bytes are read and thrown away, both ways.
  void GoSilent() { silent_.store(true); }

 private:
  struct Pair {
    int near, far;
  };

  static sockaddr_in Local(int port) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    return address;
  }

  void Run() {
    while (true) {
      std::vector<pollfd> polled = {{wake_[0], POLLIN, 0},
                                    {listener_, POLLIN, 0}};
      for (const Pair& pair : pairs_) {
        polled.push_back({pair.near, POLLIN, 0});
        polled.push_back({pair.far, POLLIN, 0});
      }
      if (poll(polled.data(), polled.size(), -1) < 0) continue;
      if (polled[0].revents != 0) return;
      for (size_t i = pairs_.size(); i-- > 0;) {
        const bool open =
            Forward(polled[2 + 2 * i], pairs_[i].near, pairs_[i].far) &&
            Forward(polled[3 + 2 * i], pairs_[i].far, pairs_[i].near);
        if (open) continue;
        close(pairs_[i].near);
        close(pairs_[i].far);
        pairs_.erase(pairs_.begin() + static_cast<ptrdiff_t>(i));
      }
      if (polled[1].revents != 0) Accept();
    }
  }

  void Accept() {
    const int near = accept(listener_, nullptr, nullptr);
    if (near < 0) return;
    const int far = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = Local(to_);
    if (connect(far, reinterpret_cast<sockaddr*>(&address), sizeof(address)) !=
        0) {
      close(near);
      close(far);
      return;
    }
    pairs_.push_back({near, far});
  }

  // False: the connection has ended.
  bool Forward(const pollfd& polled, int from, int to) {
    if (polled.revents == 0) return true;
    char bytes[64 * 1024];
    const ssize_t size = recv(from, bytes, sizeof(bytes), 0);
    if (size <= 0) return false;
    if (silent_.load()) return true;
    for (ssize_t sent = 0; sent < size;) {
      const ssize_t n = send(to, bytes + sent, static_cast<size_t>(size - sent),
                             MSG_NOSIGNAL);
      if (n <= 0) return false;
      sent += n;
    }
    return true;
  }

  const int to_;
  int listener_ = -1;
  int port_ = 0;
  int wake_[2];
  std::atomic<bool> silent_{false};
  std::vector<Pair> pairs_;  // Of the thread.
  std::thread thread_;
};

}  // namespace muster

#endif  // TESTS_GATEWAY_TCP_PROXY_H_
