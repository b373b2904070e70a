// R6 to R8 of contract 4.2, and what R10 has of them: twins (contract 6,
// wire-facts 7).

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/twin/twin_document.h"
#include "transport/http/hub/modules.h"
#include "transport/http/hub/route.h"

namespace muster::hub {
namespace {

// The whole twin, as it is now.
void AnswerTwin(const Context& context, const Request& request, Done done) {
  const absl::StatusOr<TwinSnapshot> twin =
      context.engine.GetTwin(request.ids[0]);
  if (!twin.ok()) return std::move(done)(twin.status());
  std::string body;
  AppendTwinJson(twin->document.view(), &body);
  std::move(done)(JsonResponse(std::move(body)));
}

void GetTwin(Context& context, Request request, Done done) {
  AnswerTwin(context, request, std::move(done));
}

// Of the body count `tags` and `properties.desired`, so that it may be a whole
// twin as the SDKs send it; what else it has, known or not, is passed over
// (contract 0.3, 6.2).  If somebody else changes the twin before it is read
// again, the answer has both changes, and an etag that stands for both.
void PatchTwin(Context& context, Request request, Done done) {
  const absl::StatusOr<TwinWrite> write = context.engine.PatchTwin(
      request.ids[0], request.http.body, IfMatch(request));
  if (!write.ok()) return std::move(done)(write.status());
  AnswerTwin(context, request, std::move(done));
}

// The sections that the body has take the place of the twin's.
void PutTwin(Context& context, Request request, Done done) {
  const absl::StatusOr<TwinWrite> write = context.engine.ReplaceTwin(
      request.ids[0], request.http.body, IfMatch(request));
  if (!write.ok()) return std::move(done)(write.status());
  AnswerTwin(context, request, std::move(done));
}

constexpr Role kRoles[] = {Role::kServiceConnect};

constexpr Route kRoutes[] = {
    {.method = "GET",
     .pattern = "/twins/{}",
     .roles = kRoles,
     .throttled = Throttled::kTwinReads,
     .handle = GetTwin},
    {.method = "PATCH",
     .pattern = "/twins/{}",
     .roles = kRoles,
     .throttled = Throttled::kTwinUpdates,
     .has_body = true,
     .handle = PatchTwin},
    {.method = "PUT",
     .pattern = "/twins/{}",
     .roles = kRoles,
     .throttled = Throttled::kTwinUpdates,
     .has_body = true,
     .handle = PutTwin},
    {.method = "GET",
     .pattern = "/twins/{}/modules/{}",
     .roles = kRoles,
     .throttled = Throttled::kTwinReads,
     .handle = RefuseModule},
    {.method = "PATCH",
     .pattern = "/twins/{}/modules/{}",
     .roles = kRoles,
     .throttled = Throttled::kTwinUpdates,
     .has_body = true,
     .handle = RefuseModule},
    {.method = "PUT",
     .pattern = "/twins/{}/modules/{}",
     .roles = kRoles,
     .throttled = Throttled::kTwinUpdates,
     .has_body = true,
     .handle = RefuseModule},
};

}  // namespace

absl::Span<const Route> TwinRoutes() { return kRoutes; }

}  // namespace muster::hub
