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
// a line of text, and then closes the connection:
//
//   400  not HTTP; no Host or two; a target or a framing that is not clear
//   408  the header, or the body, did not come in time
//   413  a body beyond body_bytes_max, before it is read
//   417  an Expect that is not 100-continue
//   431  a header beyond header_bytes_max
//   501  a method that HTTP does not know
//   503  a connection beyond connections_max
//   505  neither HTTP/1.1 nor HTTP/1.0
//
// Connections are kept alive, requests on one are answered in order, and a
// pipelined one waits in the socket until it is its turn.  HEAD is answered as
// the handler answers it, without the body.
//
// One thread does it all: it is for handlers that answer at once, or later from
// wherever they do their work.
#ifndef TRANSPORT_HTTP_HTTP_SERVER_H_
#define TRANSPORT_HTTP_HTTP_SERVER_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/schedule/clock.h"

namespace muster {

// Names and values as they were received.
using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;  // "GET": one that HTTP knows.
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
// a call, the answer is 500.
using HttpReply = absl::AnyInvocable<void(HttpResponse) &&>;

// Called on the server's thread: must not block, must not throw.  `request`
// lives until it returns.
using HttpHandler =
    std::function<void(const HttpRequest& request, HttpReply reply)>;

struct HttpServerOptions {
  // "host:port" or "[v6]:port"; port 0 is one that is free.
  std::string listen;

  // Connections at a time, in [1, 1,000,000].  One beyond it is told 503 and
  // closed.
  int connections_max = 256;
  // Request line and headers, in [256, 1 MiB].
  size_t header_bytes_max = 8 << 10;
  // In [0, 1 GiB].
  size_t body_bytes_max = 64 << 10;

  // From the first byte of a request until its header is whole; from there
  // until its body is; until the answer is taken by the client.  The time
  // between has no limit but the handler's own.  All positive.
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
  //   INVALID_ARGUMENT  an option, naming its value and range
  // and what the system says of the address, naming it: FAILED_PRECONDITION if
  // it is in use, PERMISSION_DENIED, NOT_FOUND for a host that nobody knows.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(
      const HttpServerOptions& options, HttpHandler handler);

  // As Stop(ZeroDuration()).
  ~HttpServer();

  // The port that is listened on.
  int port() const;

  // Accepts no more, closes connections without a request, and lets the others
  // finish the one that they have, until `limit` is over: then it closes them
  // too.  The handler is not called once it has returned.  Idempotent; not from
  // the handler.
  void Stop(absl::Duration limit);

 private:
  class Core;
  class Session;

  explicit HttpServer(std::shared_ptr<Core> core);

  // Shared with the sessions, and with replies that come after the end.
  const std::shared_ptr<Core> core_;
};

}  // namespace muster

#endif  // TRANSPORT_HTTP_HTTP_SERVER_H_
