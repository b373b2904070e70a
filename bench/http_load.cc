#include "bench/http_load.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/model/check.h"
#include "engine/schedule/clock.h"
#include "openssl/err.h"
#include "openssl/ssl.h"

namespace muster {
namespace {

struct Free {
  void operator()(SSL* p) const { SSL_free(p); }
  void operator()(SSL_CTX* p) const { SSL_CTX_free(p); }
  void operator()(SSL_SESSION* p) const { SSL_SESSION_free(p); }
};

absl::Duration Now() { return Clock::Real().Monotonic(); }

// What all connections share.
class Client {
 public:
  explicit Client(const HttpLoad& load)
      : load_(load), context_(SSL_CTX_new(TLS_client_method())) {
    MUSTER_CHECK(load.targets.size() == load.expected.size());
    MUSTER_CHECK(
        SSL_CTX_load_verify_file(context_.get(), load.ca_path.c_str()) == 1);
    SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER, nullptr);
    SSL_CTX_set_mode(context_.get(), SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(context_.get(), 1);
    for (const std::string& target : load.targets) {
      requests_.push_back(absl::StrCat(
          "GET ", target,
          " HTTP/1.1\r\nHost: localhost\r\nAuthorization: ", load.authorization,
          "\r\nUser-Agent: azure-iothub/1.16.6 (node v20.0.0; Linux; x64)\r\n"
          "Accept: application/json\r\nRequest-Id: 1234\r\n"
          "Connection: keep-alive\r\n\r\n"));
    }
    bodies_.resize(requests_.size());
  }

  SSL* NewSsl(int fd) const {
    SSL* const ssl = SSL_new(context_.get());
    MUSTER_CHECK(ssl != nullptr && SSL_set_fd(ssl, fd) == 1 &&
                 SSL_set1_host(ssl, "localhost") == 1);
    SSL_set_connect_state(ssl);
    return ssl;
  }
  const HttpLoad& load() const { return load_; }
  size_t NextTarget() { return next_target_++ % requests_.size(); }
  const std::string& request(size_t target) const { return requests_[target]; }

  void Check(size_t target, absl::string_view head, absl::string_view body) {
    std::string& expected = bodies_[target];
    if (expected.empty() && absl::StrContains(body, load_.expected[target])) {
      expected = std::string(body);
    }
    if (!absl::StartsWith(head, "HTTP/1.1 200 ") || body != expected) {
      std::fprintf(stderr, "a wrong answer to %s:\n%s\n\n%s\n",
                   load_.targets[target].c_str(), std::string(head).c_str(),
                   std::string(body).c_str());
      std::exit(1);
    }
  }

 private:
  const HttpLoad& load_;
  const std::unique_ptr<SSL_CTX, Free> context_;
  std::vector<std::string> requests_;
  std::vector<std::string> bodies_;
  size_t next_target_ = 0;
};

class Connection {
 public:
  Connection(Client* client, int epoll) : client_(client), epoll_(epoll) {
    Open();
  }
  ~Connection() { Close(); }
  Connection(const Connection&) = delete;

  bool established() const { return established_; }
  absl::Duration due() const { return due_; }

  // At once, or when it is established.
  void Ask(absl::Duration due) {
    due_ = due;
    asking_ = true;
    target_ = client_->NextTarget();
    if (established_) Send();
  }

  // Once the socket is ready: true if an answer has come.
  bool OnReady() {
    if (!established_ && !Handshake()) return false;
    std::array<char, 16384> bytes;
    while (true) {
      ERR_clear_error();
      const int size = SSL_read(ssl_.get(), bytes.data(), bytes.size());
      if (size <= 0) {
        MUSTER_CHECK(SSL_get_error(ssl_.get(), size) == SSL_ERROR_WANT_READ);
        break;
      }
      answer_.append(bytes.data(), static_cast<size_t>(size));
    }
    return asking_ && TakeAnswer();
  }

  // Goes on with a connection of its own.
  void Reopen() {
    session_.reset(client_->load().resume ? SSL_get1_session(ssl_.get())
                                          : nullptr);
    SSL_shutdown(ssl_.get());
    Close();
    Open();
  }

 private:
  void Open() {
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    MUSTER_CHECK(fd_ >= 0);
    const int on = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(client_->load().port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    MUSTER_CHECK(connect(fd_, reinterpret_cast<sockaddr*>(&address),
                         sizeof(address)) == 0);
    MUSTER_CHECK(fcntl(fd_, F_SETFL, O_NONBLOCK) == 0);
    ssl_.reset(client_->NewSsl(fd_));
    if (session_ != nullptr) {
      MUSTER_CHECK(SSL_set_session(ssl_.get(), session_.get()) == 1);
    }
    epoll_event event{.events = EPOLLIN, .data = {.ptr = this}};
    MUSTER_CHECK(epoll_ctl(epoll_, EPOLL_CTL_ADD, fd_, &event) == 0);
    Handshake();
  }
  void Close() {
    ssl_ = nullptr;
    close(fd_);
    established_ = false;
    answer_.clear();
  }

  // True once it is established.  What we send fits into the socket's buffer.
  bool Handshake() {
    ERR_clear_error();
    const int result = SSL_do_handshake(ssl_.get());
    if (result != 1) {
      MUSTER_CHECK(SSL_get_error(ssl_.get(), result) == SSL_ERROR_WANT_READ);
      return false;
    }
    MUSTER_CHECK((SSL_session_reused(ssl_.get()) == 1) ==
                 (session_ != nullptr));
    established_ = true;
    if (asking_) Send();
    return true;
  }
  void Send() {
    const std::string& request = client_->request(target_);
    MUSTER_CHECK(SSL_write(ssl_.get(), request.data(),
                           static_cast<int>(request.size())) ==
                 static_cast<int>(request.size()));
  }
  bool TakeAnswer() {
    constexpr absl::string_view kLength = "Content-Length: ";
    const absl::string_view answer = answer_;
    const size_t head = answer.find("\r\n\r\n");
    if (head == answer.npos) return false;
    const size_t at = answer.find(kLength);
    MUSTER_CHECK(at < head);
    const size_t begin = at + kLength.size();
    size_t length = 0;
    MUSTER_CHECK(absl::SimpleAtoi(
        answer.substr(begin, answer.find("\r\n", begin) - begin), &length));
    if (answer.size() < head + 4 + length) return false;
    MUSTER_CHECK(answer.size() == head + 4 + length);
    client_->Check(target_, answer.substr(0, head), answer.substr(head + 4));
    answer_.clear();
    asking_ = false;
    return true;
  }

  Client* const client_;
  const int epoll_;
  int fd_ = -1;
  std::unique_ptr<SSL, Free> ssl_;
  std::unique_ptr<SSL_SESSION, Free> session_;
  bool established_ = false;
  bool asking_ = false;
  size_t target_ = 0;
  absl::Duration due_;
  std::string answer_;
};

// Connections and what they wait for.
class Loop {
 public:
  explicit Loop(const HttpLoad& load)
      : client_(load), epoll_(epoll_create1(EPOLL_CLOEXEC)) {
    MUSTER_CHECK(epoll_ >= 0);
    std::signal(SIGPIPE, SIG_IGN);
    // Else the kernel makes 50 us of waiting longer to save wake-ups.
    MUSTER_CHECK(prctl(PR_SET_TIMERSLACK, 1) == 0);
    for (int i = 0; i < load.connections; ++i) {
      connections_.push_back(std::make_unique<Connection>(&client_, epoll_));
      // What the server accepts at a time is limited.
      while (!connections_.back()->established()) {
        Wait(absl::Seconds(60), [](Connection&) { MUSTER_CHECK(false); });
      }
    }
  }
  ~Loop() {
    connections_.clear();
    close(epoll_);
  }

  std::vector<std::unique_ptr<Connection>>& connections() {
    return connections_;
  }

  // Waits until something has come, or for so long: calls on_answer(connection)
  // for each answer.
  template <typename OnAnswer>
  void Wait(absl::Duration limit, OnAnswer on_answer) {
    std::array<epoll_event, 256> events;
    const timespec time =
        absl::ToTimespec(std::max(limit, absl::ZeroDuration()));
    const int count =
        epoll_pwait2(epoll_, events.data(), events.size(), &time, nullptr);
    MUSTER_CHECK(count >= 0 || errno == EINTR);
    for (int i = 0; i < count; ++i) {
      auto* const connection = static_cast<Connection*>(events[i].data.ptr);
      if (connection->OnReady()) on_answer(*connection);
    }
  }

 private:
  Client client_;
  const int epoll_;
  std::vector<std::unique_ptr<Connection>> connections_;
};

}  // namespace

absl::Duration HttpLoadResult::Latency(double share) const {
  MUSTER_CHECK(!latencies.empty());
  return latencies[static_cast<size_t>(
      share * static_cast<double>(latencies.size() - 1))];
}

HttpLoadResult RunHttpLoad(const HttpLoad& load,
                           const std::function<void()>& on_warm) {
  Loop loop(load);
  const bool open = load.rate > 0;
  const absl::Duration interval =
      open ? absl::Seconds(1 / load.rate) : absl::ZeroDuration();
  HttpLoadResult result;
  const absl::Duration start = Now();
  const absl::Duration warm = start + load.warm_up;
  const absl::Duration end = warm + load.time;
  bool is_warm = false;
  int64_t asked = 0;
  size_t under_way = 0;
  std::vector<Connection*> idle;
  std::deque<absl::Duration> waiting;  // For a connection; as long as it gets.
  for (const auto& connection : loop.connections()) {
    if (open) {
      idle.push_back(connection.get());
    } else {
      connection->Ask(Now());
      ++under_way;
    }
  }
  absl::Duration last = start;
  const auto on_answer = [&](Connection& connection) {
    last = Now();
    if (connection.due() >= warm) {
      ++result.requests;
      result.latencies.push_back(last - connection.due());
    }
    --under_way;
    if (load.connect_each) connection.Reopen();
    if (open ? waiting.empty() : last >= end) {
      idle.push_back(&connection);
      return;
    }
    connection.Ask(open ? waiting.front() : last);
    if (open) waiting.pop_front();
    ++under_way;
  };
  while (true) {
    const absl::Duration now = Now();
    if (!is_warm && now >= warm) {
      is_warm = true;
      on_warm();
    }
    absl::Duration next = end;
    if (open) {
      for (; (next = start + static_cast<double>(asked) * interval) <= now &&
             next < end;
           ++asked) {
        if (idle.empty()) {
          waiting.push_back(next);
          continue;
        }
        idle.back()->Ask(next);
        idle.pop_back();
        ++under_way;
      }
    }
    if (now >= end && under_way == 0 && waiting.empty()) break;
    loop.Wait(now >= end ? absl::Seconds(60) : next - now, on_answer);
  }
  result.time = last - warm;
  std::sort(result.latencies.begin(), result.latencies.end());
  return result;
}

void HoldConnections(const HttpLoad& load, const std::function<void()>& then) {
  Loop loop(load);
  for (const auto& connection : loop.connections()) {
    connection->Ask(Now());
    bool answered = false;
    while (!answered) {
      loop.Wait(absl::Seconds(60), [&](Connection&) { answered = true; });
    }
  }
  then();
}

}  // namespace muster
