// R9 of contract 4.2, and what R10 has of it: direct methods (contract 7,
// wire-facts 8).

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/model/job.h"
#include "engine/model/json.h"
#include "engine/model/profile.h"
#include "transport/http/hub/modules.h"
#include "transport/http/hub/route.h"

namespace muster::hub {
namespace {

// A call is metered by its payload (contract 9.2), which is known once the body
// has been read.  The first step has been taken before that, as any call has
// one; the others are taken here, all or none.
absl::Status TakeFurtherSteps(Context& context, const MethodAction& action) {
  const int64_t steps = DirectMethodSteps(action.payload.size());
  return steps == 1
             ? absl::OkStatus()
             : context.method_steps.Take(steps - 1, context.clock.Monotonic());
}

// Whatever the device says is a 200: contract 7.1.
void InvokeMethod(Context& context, Request request, Done done) {
  const absl::StatusOr<MethodAction> action =
      ParseMethodCall(request.http.body);
  if (!action.ok()) return std::move(done)(action.status());
  if (absl::Status s = TakeFurtherSteps(context, *action); !s.ok()) {
    return std::move(done)(s);
  }
  context.engine.InvokeMethod(
      request.ids[0], *action,
      [done = std::move(done)](absl::StatusOr<MethodResult> result) mutable {
        if (!result.ok()) return std::move(done)(result.status());
        std::string body;
        JsonWriter(&body)
            .BeginObject()
            .Key("status")
            .Int(result->status)
            .Key("payload")
            .Raw(result->payload)
            .EndObject();
        std::move(done)(JsonResponse(std::move(body)));
      });
}

constexpr Role kRoles[] = {Role::kServiceConnect};

constexpr Route kRoutes[] = {
    {.method = "POST",
     .pattern = "/twins/{}/methods",
     .roles = kRoles,
     .throttled = Throttled::kDirectMethods,
     .blocks = false,
     .has_body = true,
     .handle = InvokeMethod},
    {.method = "POST",
     .pattern = "/twins/{}/modules/{}/methods",
     .roles = kRoles,
     .throttled = Throttled::kDirectMethods,
     .has_body = true,
     .handle = RefuseModule},
};

}  // namespace

absl::Span<const Route> MethodRoutes() { return kRoutes; }

}  // namespace muster::hub
