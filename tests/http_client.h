// HttpClient: a socket, and just enough HTTP to read responses from it.  What
// is sent is up to the test, byte by byte.
#ifndef TESTS_HTTP_CLIENT_H_
#define TESTS_HTTP_CLIENT_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "engine/model/check.h"

namespace muster {

struct HttpAnswer {
  std::string status_line;
  int status = 0;
  std::map<std::string, std::string> headers;  // Names in lower case.
  std::string body;
};

class HttpClient {
 public:
  // Connects to the port of this machine.
  explicit HttpClient(int port) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    MUSTER_CHECK(fd_ >= 0);
    // A test that would wait for ever fails instead.
    const timeval patience{60, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    const int on = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&address),
                         sizeof(address)) == 0;
  }
  ~HttpClient() { close(fd_); }
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  bool connected() const { return connected_; }

  // False if the server has closed the connection.
  bool Send(absl::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  // The server sees the end of what we send.
  void ShutdownSend() { shutdown(fd_, SHUT_WR); }

  // nullopt if the connection ends before the response does; then unread() is
  // what came of it.  `to_head`: the request was HEAD.
  std::optional<HttpAnswer> Read(bool to_head = false) {
    size_t end;
    while ((end = unread_.find("\r\n\r\n")) == std::string::npos) {
      if (!ReadMore()) return std::nullopt;
    }
    HttpAnswer answer;
    const std::string head = unread_.substr(0, end);
    bool first = true;
    for (const absl::string_view line : absl::StrSplit(head, "\r\n")) {
      if (std::exchange(first, false)) {
        answer.status_line = std::string(line);
        MUSTER_CHECK(line.size() > 12 &&
                     absl::SimpleAtoi(line.substr(9, 3), &answer.status));
        continue;
      }
      const std::pair<absl::string_view, absl::string_view> field =
          absl::StrSplit(line, absl::MaxSplits(": ", 1));
      MUSTER_CHECK(answer.headers
                       .emplace(absl::AsciiStrToLower(field.first),
                                std::string(field.second))
                       .second);
    }
    size_t length = 0;
    auto found = answer.headers.find("content-length");
    if (found != answer.headers.end() && !to_head) {
      MUSTER_CHECK(absl::SimpleAtoi(found->second, &length));
    }
    while (unread_.size() < end + 4 + length) {
      if (!ReadMore()) return std::nullopt;
    }
    answer.body = unread_.substr(end + 4, length);
    unread_.erase(0, end + 4 + length);
    return answer;
  }

  std::optional<HttpAnswer> Get(absl::string_view target) {
    if (!Send("GET " + std::string(target) + " HTTP/1.1\r\nHost: h\r\n\r\n")) {
      return std::nullopt;
    }
    return Read();
  }

  // Everything until the server closes the connection.
  std::string ReadAll() {
    while (ReadMore()) {
    }
    return std::exchange(unread_, "");
  }
  // Nothing more came, and the connection has ended.
  bool AtEnd() { return ReadAll().empty(); }

  const std::string& unread() const { return unread_; }

 private:
  bool ReadMore() {
    char bytes[16384];
    const ssize_t size = recv(fd_, bytes, sizeof(bytes), 0);
    if (size <= 0) {
      MUSTER_CHECK(size == 0 || (errno != EAGAIN && errno != EWOULDBLOCK));
      return false;
    }
    unread_.append(bytes, static_cast<size_t>(size));
    return true;
  }

  const int fd_;
  bool connected_ = false;
  std::string unread_;
};

}  // namespace muster

#endif  // TESTS_HTTP_CLIENT_H_
