// HubService: the public hub's REST surface, over an engine (contract 4, 6, 7
// and wire-facts 2 to 8).  A handler for an HttpServer:
//
//   HubService hub({.engine = engine, .access = access,
//                   .executor = executor});
//   auto server = HttpServer::Start({.listen = "0.0.0.0:443", .tls = ...},
//       [&hub](const HttpRequest& header) { return hub.Admit(header); });
//
// A request goes through these steps, and the first that fails answers it
// (contract 1.10): path and verb, api-version, authorization, throttle, content
// type, all before its body is read; the body's length, and then what its route
// checks.  Errors are the envelope of contract
// 4.6, form A, on every route.
#ifndef TRANSPORT_HTTP_HUB_HUB_SERVICE_H_
#define TRANSPORT_HTTP_HUB_HUB_SERVICE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/engine.h"
#include "engine/model/profile.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "transport/auth/access.h"
#include "transport/http/http_server.h"

namespace muster {

class QueryBudget;

// The longest body of all: of many devices, with their twins' tags.  The others
// have 256 KiB.
inline constexpr size_t kHubBodySizeMax = size_t{1} << 20;

// Fills the bytes with what nobody can guess.  Thread-safe.
using RandomSource = std::function<void(absl::Span<uint8_t>)>;

// OpenSSL's generator.
RandomSource SystemRandom();

struct HubServiceOptions {
  Engine* engine = nullptr;  // Not owned; outlives the service.
  // Who may do what; null: everybody everything.
  std::shared_ptr<const Access> access;
  // Where calls are made that wait for the journal or read many twins; not
  // owned, outlives the service.  Null: where Handle() is called.  Not the
  // engine's own, whose threads must not wait.
  Executor* executor = nullptr;
  Clock* clock = &Clock::Real();
  // Of keys and tracking ids; null: SystemRandom().
  RandomSource random;
  // What statements may cost, together with those of other surfaces; not owned,
  // outlives the service.  Null: whatever they cost.
  QueryBudget* budget = nullptr;
  // Its rates are those of contract 9.2; `unlimited` has none.
  Profile profile;
};

// Thread-safe.
class HubService {
 public:
  explicit HubService(const HubServiceOptions& options);
  ~HubService();  // REQUIRES: every request has been answered.
  HubService(const HubService&) = delete;
  HubService& operator=(const HubService&) = delete;

  // Takes the steps that need no body; what they refuse is never read.  What
  // is admitted answers the request, now or later, from any thread, and never
  // blocks if there is an executor.  It must not outlive the service.
  HttpAdmission Admit(const HttpRequest& header);

  // Both in one, for a request that is there as a whole.
  void Handle(const HttpRequest& request, HttpReply reply);

  // What HttpServer answers itself (a body that is too large, and so on), in
  // the hub's envelope: for HttpServerOptions::refusal.
  HttpResponse Refusal(int status, absl::string_view why);

 private:
  class Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace muster

#endif  // TRANSPORT_HTTP_HUB_HUB_SERVICE_H_
