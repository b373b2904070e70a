// HttpServer: a small HTTP/1.1 server for a handler.
//
//   auto server = muster::HttpServer::Start(
//       {.listen = "127.0.0.1:9464"},
//       [](const muster::HttpRequest& request, muster::HttpReply reply) {
//         std::move(reply)({.body = "hello\n"});
//       });
//
// The server knows HTTP (RFC 9110, RFC 9112) and the handler knows resources:
// a request of correct form, whatever its method and target, goes to the
// handler, with its body whole; everything else the server answers itself, with
// a line of text or what options.refusal makes, and then closes the connection:
//
//   400  not HTTP; no Host or two; a target or a framing that is not clear;
//        plain HTTP where TLS is spoken (in the clear)
//   408  the header, or the body, did not come in time
//   413  a body beyond what it may have, before it is read
//   417  an Expect that is not 100-continue
//   431  a header beyond header_bytes_max
//   503  a connection beyond connections_max, a body beyond bodies_bytes_max
//   505  neither HTTP/1.1 nor HTTP/1.0
//
// A handler that may refuse requests by their header alone comes as an
// HttpAdmit: what it refuses costs no memory for a body.
//
// Connections are kept alive, requests on one are answered in order, and a
// pipelined one waits in the socket until it is its turn.  HEAD is answered as
// the handler answers it, without the body.
//
// HTTPS is TLS 1.2 or 1.3, in 1.2 with forward secrecy and authenticated
// encryption only; no client certificates, no renegotiation, no ALPN (who
// offers it gets HTTP/1.1).  Sessions are resumed by tickets, with keys that
// live and die with the server, which keeps nothing of connections that have
// gone.  Who sends more than kTlsSilentRecordsMax records without data for a
// request is closed: KeyUpdates, which cost us much and the client nothing.
//
// One thread does it all: it is for handlers that answer at once, or later from
// wherever they do their work.  Measured (bench/http_bench.cc): a request over
// TLS takes 9 us of it beside the handler's own time, a TLS handshake 0.3 ms, a
// connection that is idle 1.4 KB, over TLS 15.6 KB, of which OpenSSL has 14.
#ifndef TRANSPORT_HTTP_HTTP_SERVER_H_
#define TRANSPORT_HTTP_HTTP_SERVER_H_

#include <cstddef>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/variant.h"
#include "engine/schedule/clock.h"

namespace muster {

// Names and values as they were received.
using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;  // "GET", or any other token, as it was received.
  // "/metrics?x=1", or "*": what was asked for, without the "http://host" that
  // some put before it.  Not decoded.
  std::string target;
  HttpHeaders headers;
  std::string body;

  // The target up to its '?'.
  absl::string_view path() const;
  // The value of the first header of that name, in any case; "" if there is
  // none.
  absl::string_view Header(absl::string_view name) const;
};

struct HttpResponse {
  int status = 200;  // In [200, 599].
  std::string content_type = "text/plain; charset=utf-8";
  // Besides Date, Connection, Content-Type and Content-Length, which the server
  // writes.  Neither names nor values have line breaks (CHECKed).
  HttpHeaders headers;
  std::string body;  // None goes out with 204 and 304.
};

// Answers the request.  Called once, from any thread, also from inside the
// handler, also after Stop(), when it does nothing.  If it is destroyed without
// a call, the server answers 500 itself, and keeps the connection.
using HttpReply = absl::AnyInvocable<void(HttpResponse) &&>;

// Called on the server's thread: must not block, must not throw.  `request`
// lives until it returns.
using HttpHandler =
    std::function<void(const HttpRequest& request, HttpReply reply)>;

// A request that may be made: how it goes on.
struct HttpAdmitted {
  // The server's own limit holds as well.
  size_t body_bytes_max = std::numeric_limits<size_t>::max();
  // As an HttpHandler, with the request as it is now, body and all.  Called
  // once, or not at all if the body does not come.
  absl::AnyInvocable<void(HttpRequest request, HttpReply reply) &&> handle;
};

// The answer to a request that may not be made, or how it goes on.  After an
// answer the connection is closed, unless the body is there already.
using HttpAdmission = absl::variant<HttpResponse, HttpAdmitted>;

// Called on the server's thread, when the header of a request is there and its
// body is not: must not block, must not throw.  `header` has no body, and lives
// until it returns.
using HttpAdmit = std::function<HttpAdmission(const HttpRequest& header)>;

// What a server shows its clients: files, PEM, read once.
struct HttpTls {
  std::string certificate_path;  // The chain, the server's own first.
  std::string key_path;          // Without a passphrase.
};

// Connections beyond connections_max that are told so at a time.
inline constexpr int kHttpTurnedAwayMax = 64;

// Records of TLS that a client may send for a request beside those with its
// data: the handshake's, KeyUpdates, warnings, empty ones, attempts at a
// renegotiation.  A KeyUpdate of 22 bytes costs us 25 us, and OpenSSL has no
// limit of its own.  Clients of good faith send 4 for a connection.
inline constexpr int kTlsSilentRecordsMax = 32;

struct HttpServerOptions {
  // "host:port" or "[v6]:port"; port 0 is one that is free.
  std::string listen;

  std::optional<HttpTls> tls;  // HTTPS then.

  // Makes what the server answers itself, from the status and what is wrong;
  // null: a line of text.  Called on the server's thread: must not block.
  std::function<HttpResponse(int status, absl::string_view why)> refusal;

  // Connections at a time, in [1, 1,000,000].  For one beyond it, that stranger
  // is closed who has been without a request for longest: a connection none of
  // whose requests was ever answered with less than 400, be it in its
  // handshake, idle, or in a header that is not whole.  If there is none, the
  // new one is told 503 and closed; beyond kHttpTurnedAwayMax of those, closed
  // without a word.
  int connections_max = 256;
  // Request line and headers, in [256, 1 MiB].
  size_t header_bytes_max = 8 << 10;
  // In [0, 1 GiB].
  size_t body_bytes_max = 64 << 10;
  // Of all requests at a time, in [body_bytes_max, 1 TiB].  A body counts from
  // when it begins to be read until its request is answered: as long as it says
  // that it is, or, chunked, as long as it may be until its length is known.
  size_t bodies_bytes_max = 64 << 20;

  // From the first byte of a request (with TLS: of its first record) until its
  // header is whole; from there until its body is; of an answer, until the
  // client takes more of it, however large it is.  The time between has no
  // limit but the handler's own.  A TLS handshake has header_timeout too, from
  // connecting on; one that fails is closed, with TLS's alert and no answer.
  // All positive.
  absl::Duration header_timeout = absl::Seconds(10);
  absl::Duration body_timeout = absl::Seconds(30);
  absl::Duration write_timeout = absl::Seconds(30);
  // A connection without a request is closed after this.
  absl::Duration idle_timeout = absl::Seconds(75);

  // For the header Date alone: timeouts are the machine's.  Outlives the
  // server.
  Clock* clock = &Clock::Real();
};

// Thread-safe.
class HttpServer {
 public:
  // Listens, and serves from a thread of its own.
  //   INVALID_ARGUMENT  an option, naming its value and range; a file of `tls`
  //                     that is not what it should be, or a key that is not the
  //                     certificate's, naming it
  //   NOT_FOUND         a file of `tls` that cannot be read, naming it
  // and what the system says of the address, naming it: FAILED_PRECONDITION if
  // it is in use, PERMISSION_DENIED, NOT_FOUND for a host that nobody knows.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(
      const HttpServerOptions& options, HttpAdmit admit);
  // Every request may be made.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(
      const HttpServerOptions& options, HttpHandler handler);

  // As Stop(ZeroDuration()).
  ~HttpServer();

  // The port that is listened on.
  int port() const;

  // Accepts no more, closes connections without a request (those that are not
  // through with their handshake among them), and lets the others
  // finish the one that they have, until `limit` is over: then it closes them
  // too, and returns how many those were.  Nothing of the handler's is called
  // once it has returned.  Idempotent, with the same answer; not from the
  // handler.
  int Stop(absl::Duration limit);

 private:
  class Core;
  class Session;

  explicit HttpServer(std::shared_ptr<Core> core);

  // Shared with the sessions, and with replies that come after the end.
  const std::shared_ptr<Core> core_;
};

}  // namespace muster

#endif  // TRANSPORT_HTTP_HTTP_SERVER_H_
