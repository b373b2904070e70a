// How a connection goes:
//
//   idle ---> header ---> body ---> handling ---> writing ---> idle
//     |          |          |                        |
//     |          +----------+--- an error is written |
//     v                                              v
//   closed <---------------------------------- lingering
//
// Everything but Stop() and what a reply does first runs on one thread, so that
// nothing of a session is locked.  Of Asio and Beast nothing leaves this file,
// their exceptions included: each call has an error_code, and what could still
// throw is out of memory.
// First, with its <utility>: a header of Asio uses std::exchange and does not
// say so.
#include "transport/http/http_server.h"

#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/status.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "engine/model/check.h"

namespace muster {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;

// After accept() has failed, as it does when the process has no descriptors
// left: not at once again.
constexpr absl::Duration kAcceptPause = absl::Milliseconds(100);

// A connection that is closed behind a response is read for so long, and for so
// many bytes: data that nobody has read would make the kernel reset it, and the
// client might lose the response (RFC 9112, 9.6).
constexpr absl::Duration kLingerTime = absl::Seconds(1);
constexpr size_t kLingerBytesMax = 1 << 20;

// Less than the smallest header_bytes_max, with what may be left of an empty
// line.
constexpr size_t kFirstRead = 255;

// Beyond this, durations are all alike.
constexpr absl::Duration kWaitMax = absl::Hours(24);

constexpr absl::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
constexpr absl::string_view kTooManyConnections =
    "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n"
    "Content-Type: text/plain; charset=utf-8\r\nContent-Length: 21\r\n\r\n"
    "too many connections\n";

template <typename BoostView>
absl::string_view View(const BoostView& view) {
  return absl::string_view(view.data(), view.size());
}

void Arm(asio::steady_timer& timer, absl::Duration time) {
  timer.expires_after(absl::ToChronoNanoseconds(std::min(time, kWaitMax)));
}

absl::Status FromSystem(const error_code& error, absl::string_view what) {
  return absl::ErrnoToStatus(error.value(), what);
}

struct Address {
  std::string host;
  std::string port;
};

absl::StatusOr<Address> ParseAddress(absl::string_view text) {
  const size_t colon = text.rfind(':');
  absl::string_view host = text.substr(0, colon);
  int port = -1;
  if (colon != absl::string_view::npos) {
    const bool v6 = absl::ConsumePrefix(&host, "[");
    if (v6 != absl::ConsumeSuffix(&host, "]") ||
        v6 != absl::StrContains(host, ':') ||
        !absl::SimpleAtoi(text.substr(colon + 1), &port) || port > 65535) {
      port = -1;
    }
  }
  if (port < 0 || host.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "listen must be \"host:port\" or \"[v6]:port\", with a port in [0, "
        "65535]; got \"",
        text, "\""));
  }
  return Address{std::string(host), absl::StrCat(port)};
}

absl::Status CheckRange(absl::string_view name, int64_t value, int64_t min,
                        int64_t max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, " must be in [", min, ", ", max, "]; got ", value));
}

absl::Status Validate(const HttpServerOptions& o) {
  absl::Status status =
      CheckRange("connections_max", o.connections_max, 1, 1'000'000);
  status.Update(CheckRange("header_bytes_max",
                           static_cast<int64_t>(o.header_bytes_max), 256,
                           1 << 20));
  status.Update(CheckRange("body_bytes_max",
                           static_cast<int64_t>(o.body_bytes_max), 0, 1 << 30));
  for (const auto& [name, time] :
       {std::pair{"header_timeout", o.header_timeout},
        {"body_timeout", o.body_timeout},
        {"write_timeout", o.write_timeout},
        {"idle_timeout", o.idle_timeout}}) {
    if (time <= absl::ZeroDuration()) {
      status.Update(absl::InvalidArgumentError(absl::StrCat(
          name, " must be positive; got ", absl::FormatDuration(time))));
    }
  }
  return status;
}

bool HasLineBreak(absl::string_view text) {
  return text.find_first_of(absl::string_view("\r\n\0", 3)) !=
         absl::string_view::npos;
}

// Takes "http://host" off the front: RFC 9112, 3.2.2.
absl::string_view OriginForm(absl::string_view target) {
  for (const absl::string_view scheme : {"http://", "https://"}) {
    if (!absl::StartsWithIgnoreCase(target, scheme)) continue;
    const size_t path = target.find_first_of("/?", scheme.size());
    return path == absl::string_view::npos ? "/" : target.substr(path);
  }
  return target;
}

}  // namespace

absl::string_view HttpRequest::path() const {
  return absl::string_view(target).substr(0, target.find('?'));
}

absl::string_view HttpRequest::Header(absl::string_view name) const {
  for (const auto& [header, value] : headers) {
    if (absl::EqualsIgnoreCase(header, name)) return value;
  }
  return "";
}

class HttpServer::Core : public std::enable_shared_from_this<Core> {
 public:
  Core(const HttpServerOptions& options, HttpHandler handler)
      : options_(options), handler_(std::move(handler)) {}

  const HttpServerOptions& options() const { return options_; }
  int port() const { return port_; }

  absl::Status Listen(const Address& address);
  void Start();
  void Stop(absl::Duration limit);

  // From any thread: runs `step` on the server's, unless that has ended.
  template <typename Step>
  void Post(Step step) {
    absl::MutexLock lock(&ended_mutex_);
    if (!ended_) asio::post(io_, std::move(step));
  }

  // For sessions.
  bool stopping() const { return stopping_; }
  void Handle(const HttpRequest& request, HttpReply reply) {
    handler_(request, std::move(reply));
  }
  void Remove(const std::shared_ptr<Session>& session);

 private:
  void Accept();
  void OnAccept(const error_code& error, tcp::socket socket);
  void BeginStop(absl::Duration limit);
  // The server's thread runs out of work.
  void End();

  const HttpServerOptions options_;
  const HttpHandler handler_;

  // Of the server's thread, once it runs.
  asio::io_context io_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_{
      io_.get_executor()};
  tcp::acceptor acceptor_{io_};
  asio::steady_timer accept_timer_{io_};
  asio::steady_timer stop_timer_{io_};
  std::set<std::shared_ptr<Session>> sessions_;
  bool stopping_ = false;

  int port_ = 0;  // Constant once it listens.

  absl::Mutex stop_mutex_;
  std::thread thread_ ABSL_GUARDED_BY(stop_mutex_);

  // A leaf.
  absl::Mutex ended_mutex_;
  bool ended_ ABSL_GUARDED_BY(ended_mutex_) = false;
};

// One connection.  Of the server's thread.
class HttpServer::Session : public std::enable_shared_from_this<Session> {
 public:
  Session(const std::shared_ptr<Core>& core, tcp::socket socket)
      : core_(core),
        options_(core->options()),
        socket_(std::move(socket)),
        timer_(socket_.get_executor()),
        buffer_(options_.header_bytes_max) {}

  // Waits for a request.
  void Begin();
  // The server is about to end: at once if nothing is under way.
  void OnStopping();
  void Close();

  // Of the request that is being handled.
  void Answer(HttpResponse response);

 private:
  enum class Phase { kIdle, kHeader, kBody, kHandling, kWriting, kLingering };

  using Parser = http::request_parser<http::string_body>;

  // Whoever has the request answers through this; an answer without a call is
  // 500.
  class Reply {
   public:
    Reply(std::shared_ptr<Core> core, std::weak_ptr<Session> session)
        : core_(std::move(core)), session_(std::move(session)) {}
    Reply(Reply&&) = default;
    Reply& operator=(Reply&&) = delete;
    ~Reply() {
      if (core_ == nullptr) return;
      HttpResponse response;
      response.status = 500;
      response.body = "the request was dropped\n";
      (*this)(std::move(response));
    }
    void operator()(HttpResponse response) {
      const std::shared_ptr<Core> core = std::move(core_);
      core->Post([session = std::move(session_),
                  response = std::move(response)]() mutable {
        if (auto s = session.lock()) s->Answer(std::move(response));
      });
    }

   private:
    std::shared_ptr<Core> core_;  // Null: moved from, or answered.
    std::weak_ptr<Session> session_;
  };

  void Enter(Phase phase, absl::Duration limit);
  void OnTimeout();
  // Empty lines before a request are nobody's: RFC 9112, 2.2.  False if there
  // is nothing else.
  bool SkipEmptyLines();
  void ReadFirst();
  void OnHeader(const error_code& error, size_t bytes);
  // What is wrong with a header of correct form: a status, or 0.
  int CheckHeader(std::string* why) const;
  void ReadBody();
  void OnBody(const error_code& error);
  void Handle();
  // Answers for the server, and closes then.
  void Refuse(int status, absl::string_view why);
  void OnReadError(const error_code& error);
  void Write(const HttpResponse& response);
  void OnWritten(const error_code& error);
  void Linger();

  // The session lives as long as something of it is under way.
  template <typename Method>
  auto Then(Method method) {
    return [self = shared_from_this(), method](const error_code& error,
                                               size_t = 0) {
      if (!self->closed_) (self.get()->*method)(error);
    };
  }

  std::weak_ptr<Core> core_;
  const HttpServerOptions& options_;
  tcp::socket socket_;
  asio::steady_timer timer_;
  uint64_t timer_round_ = 0;

  Phase phase_ = Phase::kIdle;
  bool closed_ = false;
  bool timed_out_ = false;  // The read under way.
  boost::beast::flat_buffer buffer_;
  std::optional<Parser> parser_;
  HttpRequest request_;
  bool is_head_ = false;
  bool is_1_0_ = false;
  bool keep_alive_ = false;
  std::string head_;  // Of the response that is being written ...
  std::string body_;  // ... and its body.
  std::array<char, 4096> discarded_;
  size_t lingered_bytes_ = 0;
};

// ------------------------------------------------------------------ sessions

void HttpServer::Session::Enter(Phase phase, absl::Duration limit) {
  phase_ = phase;
  timed_out_ = false;
  // A wait of before that has run out already must not count for this phase.
  const uint64_t round = ++timer_round_;
  if (limit == absl::InfiniteDuration()) {
    timer_.cancel();
    return;
  }
  Arm(timer_, limit);
  timer_.async_wait(
      [self = shared_from_this(), round](const error_code& error) {
        if (!error && round == self->timer_round_) self->OnTimeout();
      });
}

void HttpServer::Session::OnTimeout() {
  if (closed_) return;
  if (phase_ == Phase::kHeader || phase_ == Phase::kBody) {
    // The read under way ends, and tells the client why.
    timed_out_ = true;
    error_code ignored;
    socket_.cancel(ignored);
    return;
  }
  Close();
}

void HttpServer::Session::Close() {
  if (std::exchange(closed_, true)) return;
  ++timer_round_;
  timer_.cancel();
  error_code ignored;
  socket_.close(ignored);
  if (auto core = core_.lock()) core->Remove(shared_from_this());
}

void HttpServer::Session::OnStopping() {
  if (phase_ != Phase::kIdle) return;
  // A request that has come and has not been read is still answered.
  error_code error;
  if (socket_.available(error) == 0 || error) Close();
}

bool HttpServer::Session::SkipEmptyLines() {
  const auto bytes = [this] {
    return absl::string_view(static_cast<const char*>(buffer_.data().data()),
                             buffer_.size());
  };
  while (absl::StartsWith(bytes(), "\r\n")) buffer_.consume(2);
  return !bytes().empty() && bytes() != "\r";
}

void HttpServer::Session::Begin() {
  if (buffer_.size() > 0) {
    Enter(Phase::kHeader, options_.header_timeout);
    ReadFirst();
    return;
  }
  Enter(Phase::kIdle, options_.idle_timeout);
  socket_.async_wait(tcp::socket::wait_read, [self = shared_from_this()](
                                                 const error_code& error) {
    if (self->closed_) return;
    if (error) {
      self->Close();
      return;
    }
    self->Enter(Phase::kHeader, self->options_.header_timeout);
    self->ReadFirst();
  });
}

void HttpServer::Session::ReadFirst() {
  parser_.reset();
  is_head_ = is_1_0_ = false;  // Unless it turns out so.
  if (SkipEmptyLines()) {
    parser_.emplace();
    parser_->header_limit(static_cast<uint32_t>(options_.header_bytes_max));
    parser_->body_limit(options_.body_bytes_max);
    http::async_read_header(
        socket_, buffer_, *parser_,
        [self = shared_from_this()](const error_code& error, size_t bytes) {
          if (!self->closed_) self->OnHeader(error, bytes);
        });
    return;
  }
  socket_.async_read_some(
      buffer_.prepare(kFirstRead),
      [self = shared_from_this()](const error_code& error, size_t bytes) {
        if (self->closed_) return;
        self->buffer_.commit(bytes);
        error ? self->OnReadError(error) : self->ReadFirst();
      });
}

void HttpServer::Session::OnReadError(const error_code& error) {
  if (timed_out_) {
    Refuse(408, phase_ == Phase::kHeader ? "the header did not come in time"
                                         : "the body did not come in time");
  } else if (error == http::error::header_limit ||
             error == http::error::buffer_overflow) {
    Refuse(431, absl::StrCat("the header has more than ",
                             options_.header_bytes_max, " bytes"));
  } else if (error == http::error::body_limit) {
    Refuse(413, absl::StrCat("the body has more than ", options_.body_bytes_max,
                             " bytes"));
  } else if (error == http::error::bad_version) {
    Refuse(505, "this server speaks HTTP/1.1");
  } else if (error.category() ==
                 http::make_error_code(http::error::bad_method).category() &&
             error != http::error::end_of_stream &&
             error != http::error::partial_message) {
    Refuse(400, absl::StrCat("not a request: ", error.message()));
  } else {
    Close();  // The client has gone.
  }
}

int HttpServer::Session::CheckHeader(std::string* why) const {
  const auto& message = parser_->get();
  if (message.method() == http::verb::unknown) {
    *why = "unknown method";
    return 501;
  }
  const absl::string_view target = OriginForm(View(message.target()));
  const bool fits = message.method() == http::verb::connect ||
                    (message.method() == http::verb::options && target == "*");
  if (!fits && !absl::StartsWith(target, "/")) {
    *why = "the target must be a path";
    return 400;
  }
  const size_t hosts = message.count(http::field::host);
  if (hosts > 1 || (hosts == 0 && message.version() == 11)) {
    *why = "there must be one Host";
    return 400;
  }
  // Beast refuses a length beside an encoding; what is left is an encoding that
  // does not tell where the body ends.
  const size_t encodings = message.count(http::field::transfer_encoding);
  if (encodings > 0 &&
      (encodings > 1 || message.version() == 10 ||
       !absl::EqualsIgnoreCase(View(message[http::field::transfer_encoding]),
                               "chunked"))) {
    *why = "Transfer-Encoding must be chunked";
    return 400;
  }
  if (message.count(http::field::expect) > 0 &&
      !absl::EqualsIgnoreCase(View(message[http::field::expect]),
                              "100-continue")) {
    *why = "Expect must be 100-continue";
    return 417;
  }
  return 0;
}

void HttpServer::Session::OnHeader(const error_code& error, size_t bytes) {
  if (error) {
    OnReadError(error);
    return;
  }
  const auto& message = parser_->get();
  is_1_0_ = message.version() == 10;
  is_head_ = message.method() == http::verb::head;
  keep_alive_ = message.keep_alive();
  if (bytes > options_.header_bytes_max) {
    // Beast counts the first line by itself.
    OnReadError(http::error::header_limit);
    return;
  }
  std::string why;
  if (const int status = CheckHeader(&why); status != 0) {
    Refuse(status, why);
    return;
  }
  request_.method = std::string(View(message.method_string()));
  request_.target = std::string(OriginForm(View(message.target())));
  request_.headers.clear();
  // Before the body: what comes behind a chunked one is not of the header.
  for (const auto& field : message) {
    request_.headers.emplace_back(View(field.name_string()),
                                  View(field.value()));
  }
  if (parser_->is_done()) {
    Handle();
    return;
  }
  Enter(Phase::kBody, options_.body_timeout);
  if (message.count(http::field::expect) == 0 || is_1_0_ ||
      buffer_.size() > 0) {
    ReadBody();
    return;
  }
  asio::async_write(socket_, asio::buffer(kContinue.data(), kContinue.size()),
                    [self = shared_from_this()](const error_code& e, size_t) {
                      if (self->closed_) return;
                      e ? self->OnReadError(e) : self->ReadBody();
                    });
}

void HttpServer::Session::ReadBody() {
  http::async_read(socket_, buffer_, *parser_, Then(&Session::OnBody));
}

void HttpServer::Session::OnBody(const error_code& error) {
  if (error) {
    OnReadError(error);
    return;
  }
  Handle();
}

void HttpServer::Session::Handle() {
  const std::shared_ptr<Core> core = core_.lock();
  if (core == nullptr) return;
  request_.body = std::move(parser_->get().body());
  parser_.reset();
  Enter(Phase::kHandling, absl::InfiniteDuration());
  core->Handle(request_, [reply = Reply(core, weak_from_this())](
                             HttpResponse response) mutable {
    reply(std::move(response));
  });
}

void HttpServer::Session::Answer(HttpResponse response) {
  if (closed_ || phase_ != Phase::kHandling) return;
  Write(response);
}

void HttpServer::Session::Refuse(int status, absl::string_view why) {
  keep_alive_ = false;
  HttpResponse response;
  response.status = status;
  response.body = absl::StrCat(why, "\n");
  Write(response);
}

void HttpServer::Session::Write(const HttpResponse& response) {
  MUSTER_CHECK(response.status >= 200 && response.status <= 599);
  MUSTER_CHECK(!HasLineBreak(response.content_type));
  const std::shared_ptr<Core> core = core_.lock();
  if (core == nullptr) return;
  if (core->stopping()) keep_alive_ = false;
  head_ = absl::StrCat(
      is_1_0_ ? "HTTP/1.0 " : "HTTP/1.1 ", response.status, " ",
      View(http::obsolete_reason(
          http::int_to_status(static_cast<unsigned>(response.status)))),
      "\r\nDate: ",
      absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", options_.clock->Now(),
                       absl::UTCTimeZone()),
      "\r\n");
  if (!keep_alive_) {
    head_ += "Connection: close\r\n";
  } else if (is_1_0_) {
    head_ += "Connection: keep-alive\r\n";
  }
  for (const auto& [name, value] : response.headers) {
    MUSTER_CHECK(!HasLineBreak(name) && !HasLineBreak(value));
    absl::StrAppend(&head_, name, ": ", value, "\r\n");
  }
  body_.clear();
  if (response.status != 204 && response.status != 304) {
    absl::StrAppend(&head_, "Content-Type: ", response.content_type,
                    "\r\nContent-Length: ", response.body.size(), "\r\n");
    if (!is_head_) body_ = response.body;
  }
  head_ += "\r\n";
  Enter(Phase::kWriting, options_.write_timeout);
  asio::async_write(socket_,
                    std::array<asio::const_buffer, 2>{asio::buffer(head_),
                                                      asio::buffer(body_)},
                    Then(&Session::OnWritten));
}

void HttpServer::Session::OnWritten(const error_code& error) {
  if (error) {
    Close();
  } else if (keep_alive_) {
    Begin();
    // The end may have begun while this was written.
    if (auto core = core_.lock(); core != nullptr && core->stopping()) {
      OnStopping();
    }
  } else {
    error_code failed;
    socket_.shutdown(tcp::socket::shutdown_send, failed);
    if (failed) {
      Close();
      return;
    }
    Enter(Phase::kLingering, kLingerTime);
    Linger();
  }
}

void HttpServer::Session::Linger() {
  socket_.async_read_some(
      asio::buffer(discarded_),
      [self = shared_from_this()](const error_code& error, size_t bytes) {
        if (self->closed_) return;
        self->lingered_bytes_ += bytes;
        if (error || self->lingered_bytes_ > kLingerBytesMax) {
          self->Close();
        } else {
          self->Linger();
        }
      });
}

// -------------------------------------------------------------------- server

absl::Status HttpServer::Core::Listen(const Address& address) {
  const std::string name = absl::StrCat("cannot listen on ", options_.listen);
  error_code error;
  const auto found = tcp::resolver(io_).resolve(
      address.host, address.port,
      tcp::resolver::passive | tcp::resolver::numeric_service, error);
  if (error || found.empty()) {
    return absl::NotFoundError(absl::StrCat(name, ": ", error.message()));
  }
  const tcp::endpoint endpoint = found.begin()->endpoint();
  acceptor_.open(endpoint.protocol(), error);
  if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor_.bind(endpoint, error);
  if (!error) acceptor_.listen(tcp::acceptor::max_listen_connections, error);
  if (error) return FromSystem(error, name);
  port_ = acceptor_.local_endpoint(error).port();
  return error ? FromSystem(error, name) : absl::OkStatus();
}

void HttpServer::Core::Start() {
  Accept();
  absl::MutexLock lock(&stop_mutex_);
  thread_ = std::thread([this]() noexcept { io_.run(); });
}

void HttpServer::Core::Accept() {
  acceptor_.async_accept([this](const error_code& error, tcp::socket socket) {
    OnAccept(error, std::move(socket));
  });
}

void HttpServer::Core::OnAccept(const error_code& error, tcp::socket socket) {
  if (stopping_) return;
  error_code ignored;
  if (error) {
    Arm(accept_timer_, kAcceptPause);
    accept_timer_.async_wait([this](const error_code& cancelled) {
      if (!cancelled && !stopping_) Accept();
    });
    return;
  }
  if (sessions_.size() >= static_cast<size_t>(options_.connections_max)) {
    // As far as it goes without waiting: whoever refuses must not be held up.
    std::array<char, 4096> discarded;
    socket.non_blocking(true, ignored);
    socket.read_some(asio::buffer(discarded), ignored);
    socket.write_some(
        asio::buffer(kTooManyConnections.data(), kTooManyConnections.size()),
        ignored);
    socket.shutdown(tcp::socket::shutdown_both, ignored);
    socket.close(ignored);
  } else {
    socket.set_option(tcp::no_delay(true), ignored);
    const auto session =
        std::make_shared<Session>(shared_from_this(), std::move(socket));
    sessions_.insert(session);
    session->Begin();
  }
  Accept();
}

void HttpServer::Core::Remove(const std::shared_ptr<Session>& session) {
  sessions_.erase(session);
  if (stopping_ && sessions_.empty()) End();
}

void HttpServer::Core::Stop(absl::Duration limit) {
  absl::MutexLock lock(&stop_mutex_);
  if (!thread_.joinable()) return;
  Post([this, limit]() { BeginStop(limit); });
  thread_.join();
}

void HttpServer::Core::BeginStop(absl::Duration limit) {
  stopping_ = true;
  error_code ignored;
  acceptor_.close(ignored);
  accept_timer_.cancel();
  if (sessions_.empty()) {
    End();
    return;
  }
  Arm(stop_timer_, limit);
  stop_timer_.async_wait([this](const error_code& cancelled) {
    if (cancelled) return;
    const auto sessions = sessions_;
    for (const auto& session : sessions) session->Close();
  });
  const auto sessions = sessions_;
  for (const auto& session : sessions) session->OnStopping();
}

void HttpServer::Core::End() {
  {
    absl::MutexLock lock(&ended_mutex_);
    ended_ = true;
  }
  stop_timer_.cancel();
  work_.reset();
}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(
    const HttpServerOptions& options, HttpHandler handler) {
  if (absl::Status s = Validate(options); !s.ok()) return s;
  absl::StatusOr<Address> address = ParseAddress(options.listen);
  if (!address.ok()) return address.status();
  auto core = std::make_shared<Core>(options, std::move(handler));
  if (absl::Status s = core->Listen(*address); !s.ok()) return s;
  core->Start();
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(core)));
}

HttpServer::HttpServer(std::shared_ptr<Core> core) : core_(std::move(core)) {}

HttpServer::~HttpServer() { Stop(absl::ZeroDuration()); }

int HttpServer::port() const { return core_->port(); }

void HttpServer::Stop(absl::Duration limit) { core_->Stop(limit); }

}  // namespace muster
