// What the routes of the hub's REST surface have in common.
#ifndef TRANSPORT_HTTP_HUB_ROUTE_H_
#define TRANSPORT_HTTP_HUB_ROUTE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/engine.h"
#include "engine/model/limits.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/throttle.h"
#include "transport/auth/caller.h"
#include "transport/http/http_server.h"
#include "transport/http/hub/hub_service.h"

namespace muster::hub {

// A request whose caller may make it.  A copy of its own: it may be handled
// after the server's is gone.
struct Request {
  HttpRequest http;
  std::vector<std::string> ids;  // Of the path's {}, decoded, in order.
  std::vector<std::pair<std::string, std::string>> query;  // Decoded.
  // What the caller may do: for routes whose permission depends on the body.
  RoleSet roles;

  // The value of the first query parameter of that name; "" if there is none.
  absl::string_view Parameter(absl::string_view name) const;
};

// What routes work with.  Outlives every request.
struct Context {
  Engine& engine;
  Clock& clock;
  const RandomSource& random;
  QueryBudget* budget;  // Null: statements may cost what they like.
  // Of 4 KB steps beyond the first, which every call has taken.
  Throttle& method_steps;
};

// Answers the request; an error becomes the envelope.  Called once, from any
// thread.
using Done = absl::AnyInvocable<void(absl::StatusOr<HttpResponse>) &&>;

// Which of contract 9.2's rates a route counts against.
enum class Throttled : uint8_t {
  kJobOperations,
  kQueries,
  kTwinReads,
  kTwinUpdates,
  kDirectMethods,  // A step; its route takes those of a longer payload.
  kIdentityOperations,
};

struct Route {
  absl::string_view method;
  // "/jobs/v2/{}/cancel": each {} is one segment, which is not empty.  A
  // literal segment goes before a {}.
  absl::string_view pattern;
  // Any one of them will do.
  absl::Span<const Role> roles;
  Throttled throttled;
  // Waits for the journal, or takes long: is handled on the executor.
  bool blocks = true;
  bool has_body = false;  // Must be application/json; others are not looked at.
  size_t body_size_max = kJobBodySizeMax;  // Up to kHubBodySizeMax.
  void (*handle)(Context&, Request, Done) = nullptr;
};

// Each in a file of its own: job_routes.cc, query_routes.cc, and so on.
absl::Span<const Route> JobRoutes();     // R1 to R4, R12
absl::Span<const Route> QueryRoutes();   // R5
absl::Span<const Route> TwinRoutes();    // R6 to R8, R10
absl::Span<const Route> MethodRoutes();  // R9, R10
absl::Span<const Route> DeviceRoutes();  // R11, lists, bulk, statistics

// 200 with that JSON text.
HttpResponse JsonResponse(std::string body);

// The value of If-Match as the engine wants it: "" if there is none; quotes and
// W/ are the engine's to know (contract 6.7).
absl::string_view IfMatch(const Request& request);

}  // namespace muster::hub

#endif  // TRANSPORT_HTTP_HUB_ROUTE_H_
