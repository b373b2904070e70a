// Pages of rows, as R4 and R5 give them (contract 4.4, 4.5).
#ifndef TRANSPORT_HTTP_HUB_PAGING_H_
#define TRANSPORT_HTTP_HUB_PAGING_H_

#include <string>

#include "absl/strings/string_view.h"
#include "engine/model/limits.h"
#include "transport/http/hub/route.h"

namespace muster::hub {

struct PageRequest {
  int size = kHubPageSizeMax;  // In [1, kHubPageSizeMax].
  std::string continuation;    // Empty: the first page.
};

// What the headers x-ms-max-item-count and x-ms-continuation say, and where
// there is none the parameters pageSize and continuationToken.  A size that is
// not acceptable is no error: a number is taken to the nearest that is, and
// anything else is as if it were not there.
PageRequest ReadPageRequest(const Request& request);

// 200 with `rows`, the text of a JSON array.  Without x-ms-continuation if
// `continuation` is empty: an empty one would send clients to page one for ever
// (wire-facts 5).
HttpResponse PageResponse(std::string rows, absl::string_view item_type,
                          std::string continuation);

}  // namespace muster::hub

#endif  // TRANSPORT_HTTP_HUB_PAGING_H_
