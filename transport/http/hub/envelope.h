// The hub's envelope of errors (contract 4.6, form A; wire-facts 3):
//
//   HTTP/1.1 404 Not Found
//   Content-Type: application/json; charset=utf-8
//   iothub-errorcode: JobNotFound
//
//   {"Message":"ErrorCode:JobNotFound;Job nightly-9 not found",
//    "ExceptionMessage":"Tracking ID:<32 hex>-G:0-TimeStamp:<when, UTC>"}
#ifndef TRANSPORT_HTTP_HUB_ENVELOPE_H_
#define TRANSPORT_HTTP_HUB_ENVELOPE_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "transport/http/http_server.h"
#include "transport/http/hub/hub_service.h"

namespace muster::hub {

// `status` by its hub code.  The text is its message, with "," for ";", which
// would end it for clients, and escapes for what is no UTF-8.
// REQUIRES: !status.ok().
HttpResponse ErrorResponse(const absl::Status& status, absl::Time now,
                           const RandomSource& random);

// For what the hub's codes have no number of: `http_status`, in [400, 599], is
// as HTTP has it, and the name the nearest.
HttpResponse HttpErrorResponse(int http_status, absl::string_view why,
                               absl::Time now, const RandomSource& random);

}  // namespace muster::hub

#endif  // TRANSPORT_HTTP_HUB_ENVELOPE_H_
