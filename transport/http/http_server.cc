// How a connection goes:
//
//   handshake --> idle --> header --> body --> handling --> writing --> idle
//       |          |         |         |                       |
//       |          |         +---------+-- an error is written |
//       |          v                                           v
//       |        closed <--------------------------------- lingering
//       |                                                      ^
//       +-- it has failed: nothing is written -----------------+
//
// Without TLS it begins idle.  Below HttpStream there is no other difference.
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
#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/completion_condition.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/status.hpp>
#include <boost/beast/http/string_body.hpp>
#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/variant.h"
#include "engine/model/check.h"
#include "transport/http/http_stream.h"
#include "transport/http/tls_context.h"

namespace muster {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;
using Executor = HttpStream::executor_type;
using Socket = HttpStream::Socket;
using Acceptor = asio::basic_socket_acceptor<tcp, Executor>;
using SteadyClock = std::chrono::steady_clock;
using Timer =
    asio::basic_waitable_timer<SteadyClock, asio::wait_traits<SteadyClock>,
                               Executor>;

// After accept() has failed, as it does when the process has no descriptors
// left: not at once again.
constexpr absl::Duration kAcceptPause = absl::Milliseconds(100);

// A connection that is closed behind a response is read for so long, and for so
// many bytes: data that nobody has read would make the kernel reset it, and the
// client might lose the response (RFC 9112, 9.6).
constexpr absl::Duration kLingerTime = absl::Seconds(1);
constexpr size_t kLingerBytesMax = 1 << 20;

// Enough for most requests, so that they are read at once.
constexpr size_t kFirstRead = 4096;

// A response that is no larger goes out in one piece: one record of TLS.
constexpr size_t kOnePieceMax = 16 << 10;

// Beyond this, durations are all alike.
constexpr absl::Duration kWaitMax = absl::Hours(24);

constexpr absl::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

template <typename BoostView>
absl::string_view View(const BoostView& view) {
  return absl::string_view(view.data(), view.size());
}

SteadyClock::time_point In(absl::Duration time) {
  return SteadyClock::now() +
         absl::ToChronoNanoseconds(std::min(time, kWaitMax));
}

// Of another request nothing is to be kept, its memory included.
void Free(std::string& text) { std::string().swap(text); }

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
  status.Update(
      CheckRange("bodies_bytes_max", static_cast<int64_t>(o.bodies_bytes_max),
                 static_cast<int64_t>(o.body_bytes_max), int64_t{1} << 40));
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
  Core(const HttpServerOptions& options, std::unique_ptr<TlsContext> tls,
       HttpAdmit admit)
      : options_(options), tls_(std::move(tls)), admit_(std::move(admit)) {}

  const HttpServerOptions& options() const { return options_; }
  int port() const { return port_; }

  absl::Status Listen(const Address& address);
  void Start();
  int Stop(absl::Duration limit);

  // From any thread: runs `step` on the server's, unless that has ended.
  template <typename Step>
  void Post(Step step) {
    absl::MutexLock lock(&ended_mutex_);
    if (!ended_) asio::post(io_, std::move(step));
  }

  // For sessions.
  bool stopping() const { return stopping_; }
  HttpAdmission Admit(const HttpRequest& header) { return admit_(header); }
  // Room for so much of a body; false if there is none.
  bool TakeRoom(size_t bytes) {
    if (bytes > options_.bodies_bytes_max - bodies_bytes_) return false;
    bodies_bytes_ += bytes;
    return true;
  }
  void GiveRoomBack(size_t bytes) { bodies_bytes_ -= bytes; }
  HttpResponse MakeRefusal(int status, absl::string_view why) const;
  // As Date has it.
  absl::string_view Now();
  void Remove(const std::shared_ptr<Session>& session);
  // Strangers without a request, the one that has waited for longest first.
  std::list<Session*>& waiting_strangers() { return waiting_strangers_; }

 private:
  void Accept();
  void OnAccept(const error_code& error, Socket socket);
  void BeginStop(absl::Duration limit);
  // The server's thread runs out of work.
  void End();

  const HttpServerOptions options_;
  const std::unique_ptr<TlsContext> tls_;  // Null: plaintext.
  const HttpAdmit admit_;

  // Of the server's thread, once it runs.
  asio::io_context io_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_{
      io_.get_executor()};
  Acceptor acceptor_{io_};
  Timer accept_timer_{io_};
  Timer stop_timer_{io_};
  std::set<std::shared_ptr<Session>> sessions_;
  std::list<Session*> waiting_strangers_;  // Of them.
  int turned_away_ = 0;                    // Of them.
  size_t bodies_bytes_ = 0;                // For which there is room.
  int64_t date_second_ = -1;
  std::string date_;  // Of that second.
  bool stopping_ = false;
  int cut_off_ = 0;  // Requests; of whoever has joined the thread, at last.

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
  // `turned_away`: there are too many, and it is told so.
  Session(const std::shared_ptr<Core>& core, Socket socket,
          const TlsContext* tls, bool turned_away)
      : core_(core),
        options_(core->options()),
        turned_away_(turned_away),
        stream_(std::move(socket), tls),
        timer_(stream_.get_executor()),
        buffer_(options_.header_bytes_max) {}

  bool turned_away() const { return turned_away_; }
  // Whether a request is on its way in, is handled or is being answered.
  bool has_request() const {
    return phase_ == Phase::kHeader || phase_ == Phase::kBody ||
           phase_ == Phase::kHandling || phase_ == Phase::kWriting;
  }

  void Start();
  // The server is about to end: at once if nothing is under way.
  void OnStopping();
  void Close();

  // Of the request that is being handled; null: nobody will answer it.
  void Answer(std::optional<HttpResponse> response);

 private:
  enum class Phase {
    kHandshake,
    kIdle,
    kHeader,
    kBody,
    kHandling,
    kWriting,
    kLingering
  };

  using Parser = http::request_parser<http::string_body>;

  // Whoever has the request answers through this; an answer without a call is
  // 500.
  class Reply {
   public:
    // Room for `body_bytes` is given back with the answer, be the session there
    // or not.
    Reply(std::shared_ptr<Core> core, std::weak_ptr<Session> session,
          size_t body_bytes)
        : core_(std::move(core)),
          session_(std::move(session)),
          body_bytes_(body_bytes) {}
    Reply(Reply&&) = default;
    Reply& operator=(Reply&&) = delete;
    ~Reply() {
      if (core_ != nullptr) (*this)(std::nullopt);
    }
    void operator()(std::optional<HttpResponse> response) {
      const std::shared_ptr<Core> core = std::move(core_);
      core->Post([core = core.get(), session = std::move(session_),
                  body_bytes = body_bytes_,
                  response = std::move(response)]() mutable {
        core->GiveRoomBack(body_bytes);
        if (auto s = session.lock()) s->Answer(std::move(response));
      });
    }

   private:
    std::shared_ptr<Core> core_;  // Null: moved from, or answered.
    std::weak_ptr<Session> session_;
    size_t body_bytes_;
  };

  void Enter(Phase phase, absl::Duration limit);
  // Into the list of the strangers who wait, or out of it; in it already, it
  // keeps its place.
  void SetWaitingStranger(bool waits);
  // The timer runs, and calls OnTimeout() once the deadline is over.
  void Wait();
  void OnTimeout();
  void OnHandshake(const error_code& error);
  // Waits for a request.
  void Begin();
  // Empty lines before a request are nobody's: RFC 9112, 2.2.  False if there
  // is nothing else.
  bool SkipEmptyLines();
  void ReadFirst();
  void OnHeader(const error_code& error, size_t bytes);
  // Sees to the limits of a body, and reads it.
  void BeginBody(Core& core, size_t bytes_max);
  // What is wrong with a header of correct form: a status, or 0.
  int CheckHeader(std::string* why) const;
  void ReadBody();
  void OnBody(const error_code& error);
  void Handle();
  // Answers a request that may not be made.
  void Decline(HttpResponse response);
  // Answers for the server, and closes then.
  void Refuse(int status, absl::string_view why);
  void OnReadError(const error_code& error);
  void Write(HttpResponse response);
  void OnWritten(const error_code& error);
  // The client is to have all that was sent before the connection is closed.
  void BeginLingering();
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
  const bool turned_away_;
  HttpStream stream_;

  // Deadlines come and go with every request, most of them long before they
  // are over: the timer is set for no later than the deadline, and looks again
  // when it has run out.
  Timer timer_;
  SteadyClock::time_point deadline_;
  SteadyClock::time_point timer_end_ = SteadyClock::time_point::max();

  Phase phase_ = Phase::kHandshake;
  bool closed_ = false;
  bool is_stranger_ = true;  // None of its requests was ever successful.
  std::optional<std::list<Session*>::iterator> place_;  // As a waiting one.
  bool timed_out_ = false;                              // The read under way.
  boost::beast::flat_buffer buffer_;
  std::optional<Parser> parser_;
  HttpRequest request_;
  absl::AnyInvocable<void(HttpRequest, HttpReply) &&> handle_;  // Its own.
  size_t body_bytes_max_ = 0;                                   // Its own.
  size_t body_bytes_ = 0;  // For which it has room.
  bool is_head_ = false;
  bool is_1_0_ = false;
  bool keep_alive_ = false;
  std::string head_;  // Of the response that is being written ...
  std::string body_;  // ... and its body, unless that is behind it.
  size_t lingered_bytes_ = 0;
};

// ------------------------------------------------------------------ sessions

void HttpServer::Session::Enter(Phase phase, absl::Duration limit) {
  phase_ = phase;
  SetWaitingStranger(is_stranger_ && !turned_away_ &&
                     (phase == Phase::kHandshake || phase == Phase::kIdle ||
                      phase == Phase::kHeader || phase == Phase::kLingering));
  deadline_ = limit == absl::InfiniteDuration() ? SteadyClock::time_point::max()
                                                : In(limit);
  if (deadline_ < timer_end_) Wait();
}

void HttpServer::Session::SetWaitingStranger(bool waits) {
  if (waits == place_.has_value()) return;
  const std::shared_ptr<Core> core = core_.lock();
  if (core == nullptr) return;
  std::list<Session*>& waiting = core->waiting_strangers();
  if (waits) {
    place_ = waiting.insert(waiting.end(), this);
  } else {
    waiting.erase(*place_);
    place_.reset();
  }
}

void HttpServer::Session::Wait() {
  timer_end_ = deadline_;
  timer_.expires_at(deadline_);
  timer_.async_wait([self = shared_from_this()](const error_code& error) {
    if (error || self->closed_) return;
    self->timer_end_ = SteadyClock::time_point::max();
    if (self->deadline_ <= SteadyClock::now()) {
      self->OnTimeout();
    } else if (self->deadline_ != SteadyClock::time_point::max()) {
      self->Wait();
    }
  });
}

void HttpServer::Session::OnTimeout() {
  if (phase_ == Phase::kHeader || phase_ == Phase::kBody) {
    // The read under way ends, and tells the client why.
    timed_out_ = true;
    stream_.Expire();
    return;
  }
  Close();
}

void HttpServer::Session::Close() {
  if (std::exchange(closed_, true)) return;
  timer_.cancel();
  stream_.Close();
  SetWaitingStranger(false);
  if (auto core = core_.lock()) {
    core->GiveRoomBack(std::exchange(body_bytes_, 0));
    core->Remove(shared_from_this());
  }
}

void HttpServer::Session::OnStopping() {
  // A request that has come and has not been read is still answered.
  if (phase_ == Phase::kHandshake ||
      (phase_ == Phase::kIdle && !stream_.CanRead())) {
    Close();
  }
}

bool HttpServer::Session::SkipEmptyLines() {
  const auto bytes = [this] {
    return absl::string_view(static_cast<const char*>(buffer_.data().data()),
                             buffer_.size());
  };
  while (absl::StartsWith(bytes(), "\r\n")) buffer_.consume(2);
  return !bytes().empty() && bytes() != "\r";
}

void HttpServer::Session::Start() {
  if (stream_.needs_handshake()) {
    Enter(Phase::kHandshake, options_.header_timeout);
    stream_.async_handshake(Then(&Session::OnHandshake));
  } else {
    OnHandshake({});
  }
}

void HttpServer::Session::OnHandshake(const error_code& error) {
  if (stream_.handshake_was_http()) {
    stream_.DropTls();
    Refuse(400, "this port speaks HTTPS");
  } else if (error) {
    BeginLingering();
  } else if (turned_away_) {
    Refuse(503, "too many connections");
  } else {
    Begin();
  }
}

void HttpServer::Session::Begin() {
  stream_.BeginRequest();
  if (buffer_.size() > 0) {
    Enter(Phase::kHeader, options_.header_timeout);
    ReadFirst();
    return;
  }
  // Idle connections are many.
  buffer_.shrink_to_fit();
  Free(head_);
  Free(body_);
  request_ = HttpRequest();
  Enter(Phase::kIdle, options_.idle_timeout);
  stream_.async_wait_read([self = shared_from_this()](const error_code& error) {
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
    body_bytes_max_ = options_.body_bytes_max;
    parser_->body_limit(body_bytes_max_);
    http::async_read_header(
        stream_, buffer_, *parser_,
        [self = shared_from_this()](const error_code& error, size_t bytes) {
          if (!self->closed_) self->OnHeader(error, bytes);
        });
    return;
  }
  stream_.async_read_some(
      buffer_.prepare(
          std::min(kFirstRead, buffer_.max_size() - buffer_.size())),
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
    Refuse(413,
           absl::StrCat("the body has more than ", body_bytes_max_, " bytes"));
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
  const std::shared_ptr<Core> core = core_.lock();
  if (core == nullptr) return;
  HttpAdmission admission = core->Admit(request_);
  if (auto* const response = absl::get_if<HttpResponse>(&admission)) {
    Decline(std::move(*response));
    return;
  }
  HttpAdmitted& admitted = absl::get<HttpAdmitted>(admission);
  handle_ = std::move(admitted.handle);
  if (parser_->is_done()) {
    Handle();
  } else {
    BeginBody(*core, admitted.body_bytes_max);
  }
}

void HttpServer::Session::BeginBody(Core& core, size_t bytes_max) {
  body_bytes_max_ = std::min(bytes_max, options_.body_bytes_max);
  parser_->body_limit(body_bytes_max_);  // For one that is chunked.
  const auto length = parser_->content_length();
  if (length.has_value() && *length > body_bytes_max_) {
    OnReadError(http::error::body_limit);
    return;
  }
  const size_t bytes =
      length.has_value() ? static_cast<size_t>(*length) : body_bytes_max_;
  if (!core.TakeRoom(bytes)) {
    Refuse(503, "there is no room for the body beside those of others");
    return;
  }
  body_bytes_ = bytes;
  Enter(Phase::kBody, options_.body_timeout);
  const auto& message = parser_->get();
  if (message.count(http::field::expect) == 0 || is_1_0_ ||
      buffer_.size() > 0) {
    ReadBody();
    return;
  }
  asio::async_write(stream_, asio::buffer(kContinue.data(), kContinue.size()),
                    [self = shared_from_this()](const error_code& e, size_t) {
                      if (self->closed_) return;
                      // Half of it may have gone out: no place for an answer.
                      e ? self->Close() : self->ReadBody();
                    });
}

void HttpServer::Session::ReadBody() {
  http::async_read(stream_, buffer_, *parser_, Then(&Session::OnBody));
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
  // Of one that was chunked the length is known now.
  const size_t bytes = request_.body.size();
  core->GiveRoomBack(std::exchange(body_bytes_, 0) - bytes);
  Enter(Phase::kHandling, absl::InfiniteDuration());
  std::exchange(handle_, nullptr)(
      std::move(request_),
      [reply = Reply(core, weak_from_this(), bytes)](
          HttpResponse response) mutable { reply(std::move(response)); });
}

void HttpServer::Session::Decline(HttpResponse response) {
  if (!parser_->is_done()) {
    const auto length = parser_->content_length();
    if (length.has_value() && *length <= buffer_.size()) {
      buffer_.consume(static_cast<size_t>(*length));
    } else {
      keep_alive_ = false;
    }
  }
  parser_.reset();
  Write(std::move(response));
}

void HttpServer::Session::Answer(std::optional<HttpResponse> response) {
  if (closed_ || phase_ != Phase::kHandling) return;
  if (response.has_value()) {
    if (response->status < 400) is_stranger_ = false;
    Write(*std::move(response));
  } else if (const auto core = core_.lock()) {
    Write(core->MakeRefusal(500, "the request was dropped"));
  }
}

void HttpServer::Session::Refuse(int status, absl::string_view why) {
  keep_alive_ = false;
  if (const auto core = core_.lock()) Write(core->MakeRefusal(status, why));
}

void HttpServer::Session::Write(HttpResponse response) {
  MUSTER_CHECK(response.status >= 200 && response.status <= 599);
  MUSTER_CHECK(!HasLineBreak(response.content_type));
  const std::shared_ptr<Core> core = core_.lock();
  if (core == nullptr) return;
  if (core->stopping()) keep_alive_ = false;
  head_ = absl::StrCat(
      is_1_0_ ? "HTTP/1.0 " : "HTTP/1.1 ", response.status, " ",
      View(http::obsolete_reason(
          http::int_to_status(static_cast<unsigned>(response.status)))),
      "\r\nDate: ", core->Now(), "\r\n");
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
    if (!is_head_) body_ = std::move(response.body);
  }
  head_ += "\r\n";
  if (head_.size() + body_.size() <= kOnePieceMax) {
    head_ += body_;
    body_.clear();
  }
  Enter(Phase::kWriting, options_.write_timeout);
  asio::async_write(
      stream_,
      std::array<asio::const_buffer, 2>{asio::buffer(head_),
                                        asio::buffer(body_)},
      // Before each step.
      [this](const error_code& error, size_t bytes) {
        if (bytes > 0 && !closed_) {
          Enter(Phase::kWriting, options_.write_timeout);
        }
        return asio::transfer_all()(error, bytes);
      },
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
    BeginLingering();
  }
}

void HttpServer::Session::BeginLingering() {
  error_code failed;
  stream_.ShutdownSend(failed);
  if (failed) {
    Close();
    return;
  }
  Enter(Phase::kLingering, kLingerTime);
  Linger();
}

void HttpServer::Session::Linger() {
  stream_.async_discard(
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
  if (!error) acceptor_.set_option(Acceptor::reuse_address(true), error);
  if (!error) acceptor_.bind(endpoint, error);
  if (!error) acceptor_.listen(Acceptor::max_listen_connections, error);
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
  acceptor_.async_accept([this](const error_code& error, Socket socket) {
    OnAccept(error, std::move(socket));
  });
}

void HttpServer::Core::OnAccept(const error_code& error, Socket socket) {
  if (stopping_) return;
  if (error) {
    accept_timer_.expires_at(In(kAcceptPause));
    accept_timer_.async_wait([this](const error_code& cancelled) {
      if (!cancelled && !stopping_) Accept();
    });
    return;
  }
  bool full = sessions_.size() - static_cast<size_t>(turned_away_) >=
              static_cast<size_t>(options_.connections_max);
  if (full && !waiting_strangers_.empty()) {
    waiting_strangers_.front()->Close();
    full = false;
  }
  if (full && turned_away_ >= kHttpTurnedAwayMax) {
    error_code ignored;
    socket.close(ignored);
  } else {
    error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    if (full) ++turned_away_;
    const auto session = std::make_shared<Session>(
        shared_from_this(), std::move(socket), tls_.get(), full);
    sessions_.insert(session);
    session->Start();
  }
  Accept();
}

HttpResponse HttpServer::Core::MakeRefusal(int status,
                                           absl::string_view why) const {
  if (options_.refusal != nullptr) return options_.refusal(status, why);
  HttpResponse response;
  response.status = status;
  response.body = absl::StrCat(why, "\n");
  return response;
}

absl::string_view HttpServer::Core::Now() {
  const absl::Time now = options_.clock->Now();
  const int64_t second = absl::ToUnixSeconds(now);
  if (second != date_second_ || date_.empty()) {
    date_second_ = second;
    date_ =
        absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", now, absl::UTCTimeZone());
  }
  return date_;
}

void HttpServer::Core::Remove(const std::shared_ptr<Session>& session) {
  if (session->turned_away()) --turned_away_;
  sessions_.erase(session);
  if (stopping_ && sessions_.empty()) End();
}

int HttpServer::Core::Stop(absl::Duration limit) {
  absl::MutexLock lock(&stop_mutex_);
  if (thread_.joinable()) {
    Post([this, limit]() { BeginStop(limit); });
    thread_.join();
  }
  return cut_off_;
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
  stop_timer_.expires_at(In(limit));
  stop_timer_.async_wait([this](const error_code& cancelled) {
    if (cancelled) return;
    const auto sessions = sessions_;
    for (const auto& session : sessions) {
      if (session->has_request()) ++cut_off_;
      session->Close();
    }
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
  return Start(
      options,
      [handler = std::move(handler)](const HttpRequest&) -> HttpAdmission {
        HttpAdmitted admitted;
        // The server has the handler for as long as it calls this.
        admitted.handle = [&handler](HttpRequest request, HttpReply reply) {
          handler(request, std::move(reply));
        };
        return admitted;
      });
}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(
    const HttpServerOptions& options, HttpAdmit admit) {
  if (absl::Status s = Validate(options); !s.ok()) return s;
  absl::StatusOr<Address> address = ParseAddress(options.listen);
  if (!address.ok()) return address.status();
  std::unique_ptr<TlsContext> tls;
  if (options.tls.has_value()) {
    auto loaded =
        TlsContext::Load(options.tls->certificate_path, options.tls->key_path);
    if (!loaded.ok()) return loaded.status();
    tls = *std::move(loaded);
  }
  auto core = std::make_shared<Core>(options, std::move(tls), std::move(admit));
  if (absl::Status s = core->Listen(*address); !s.ok()) return s;
  core->Start();
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(core)));
}

HttpServer::HttpServer(std::shared_ptr<Core> core) : core_(std::move(core)) {}

HttpServer::~HttpServer() { Stop(absl::ZeroDuration()); }

int HttpServer::port() const { return core_->port(); }

int HttpServer::Stop(absl::Duration limit) { return core_->Stop(limit); }

}  // namespace muster
