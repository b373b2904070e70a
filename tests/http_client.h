// HttpClient: a socket, TLS on it if asked for, and just enough HTTP to read
// responses from it.  What is sent is up to the test, byte by byte.
#ifndef TESTS_HTTP_CLIENT_H_
#define TESTS_HTTP_CLIENT_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "engine/model/check.h"
#include "openssl/bio.h"
#include "openssl/err.h"
#include "openssl/ssl.h"

namespace muster {

struct HttpAnswer {
  std::string status_line;
  int status = 0;
  std::map<std::string, std::string> headers;  // Names in lower case.
  std::string body;
};

// A client's side of TLS: believes what the authorities of the PEM file have
// signed.
inline std::shared_ptr<SSL_CTX> ClientTls(const std::string& ca_path) {
  std::shared_ptr<SSL_CTX> context(SSL_CTX_new(TLS_client_method()),
                                   SSL_CTX_free);
  MUSTER_CHECK(SSL_CTX_load_verify_file(context.get(), ca_path.c_str()) == 1);
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  return context;
}

// One thread may send while another reads.
class HttpClient {
 public:
  // Connects to the port of this machine; with TLS to "localhost" there, unless
  // that is null, and with the session of another connection if there is one.
  explicit HttpClient(int port, const std::shared_ptr<SSL_CTX>& tls = nullptr,
                      SSL_SESSION* session = nullptr)
      : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
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
    if (tls == nullptr) return;
    ssl_.reset(SSL_new(tls.get()));
    in_ = BIO_new(BIO_s_mem());
    out_ = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl_.get(), in_, out_);
    MUSTER_CHECK(SSL_set1_host(ssl_.get(), "localhost") == 1);
    MUSTER_CHECK(session == nullptr ||
                 SSL_set_session(ssl_.get(), session) == 1);
    secured_ = Handshake();
  }
  ~HttpClient() { close(fd_); }
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  bool connected() const { return connected_; }
  // The handshake has succeeded.
  bool secured() const { return secured_; }
  // Null: there is no TLS.
  SSL* ssl() { return ssl_.get(); }

  // False if the server has closed the connection.
  bool Send(absl::string_view bytes) {
    if (ssl_ == nullptr) return SendRaw(bytes);
    absl::MutexLock sending(&send_mutex_);
    {
      absl::MutexLock lock(&ssl_mutex_);
      ERR_clear_error();
      if (!secured_ || SSL_write(ssl_.get(), bytes.data(),
                                 static_cast<int>(bytes.size())) <= 0) {
        return false;
      }
    }
    return Flush();
  }
  // Past TLS.
  bool SendRaw(absl::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  // The server sees the end of what we send.
  void ShutdownSend() {
    if (ssl_ != nullptr) {
      SSL_shutdown(ssl_.get());
      Flush();
    }
    ShutdownSendRaw();
  }
  void ShutdownSendRaw() { shutdown(fd_, SHUT_WR); }
  // The server has said that there is no more: close_notify.
  bool SaidGoodbye() const {
    return (SSL_get_shutdown(ssl_.get()) & SSL_RECEIVED_SHUTDOWN) != 0;
  }

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

  // Reads so many bytes and forgets them; false if the end comes before.
  bool Skip(size_t bytes) {
    while (bytes > 0) {
      if (unread_.empty() && !ReadMore()) return false;
      const size_t size = std::min(bytes, unread_.size());
      unread_.erase(0, size);
      bytes -= size;
    }
    return true;
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
  struct Free {
    void operator()(SSL* p) const { SSL_free(p); }
  };

  bool ReadMore() {
    char bytes[16384];
    while (true) {
      if (ssl_ != nullptr) {
        absl::MutexLock lock(&ssl_mutex_);
        ERR_clear_error();
        const int size =
            secured_ ? SSL_read(ssl_.get(), bytes, sizeof(bytes)) : -1;
        if (size > 0) {
          unread_.append(bytes, static_cast<size_t>(size));
          return true;
        }
        if (!secured_ ||
            SSL_get_error(ssl_.get(), size) != SSL_ERROR_WANT_READ) {
          return false;
        }
      }
      const ssize_t size = recv(fd_, bytes, sizeof(bytes), 0);
      if (size <= 0) {
        MUSTER_CHECK(size == 0 || (errno != EAGAIN && errno != EWOULDBLOCK));
        return false;
      }
      if (ssl_ == nullptr) {
        unread_.append(bytes, static_cast<size_t>(size));
        return true;
      }
      absl::MutexLock lock(&ssl_mutex_);
      BIO_write(in_, bytes, static_cast<int>(size));
    }
  }

  bool Handshake() {
    while (true) {
      ERR_clear_error();
      const int result = SSL_connect(ssl_.get());
      if (!Flush()) return false;
      if (result == 1) return true;
      if (SSL_get_error(ssl_.get(), result) != SSL_ERROR_WANT_READ) {
        return false;
      }
      char bytes[4096];
      const ssize_t size = recv(fd_, bytes, sizeof(bytes), 0);
      if (size <= 0) return false;
      BIO_write(in_, bytes, static_cast<int>(size));
    }
  }

  // Sends what TLS has written.
  bool Flush() {
    std::string bytes;
    {
      absl::MutexLock lock(&ssl_mutex_);
      char* data = nullptr;
      const long size = BIO_get_mem_data(out_, &data);
      bytes.assign(data, static_cast<size_t>(size));
      BIO_reset(out_);
    }
    return SendRaw(bytes);
  }

  const int fd_;
  bool connected_ = false;
  std::string unread_;

  std::unique_ptr<SSL, Free> ssl_;
  BIO* in_ = nullptr;   // What the server has sent; of `ssl_`.
  BIO* out_ = nullptr;  // What it is to be sent; of `ssl_`.
  bool secured_ = false;
  absl::Mutex send_mutex_;  // Records go out in their order ...
  absl::Mutex ssl_mutex_;   // ... and nobody waits with this one held.
};

}  // namespace muster

#endif  // TESTS_HTTP_CLIENT_H_
