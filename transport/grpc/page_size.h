// Pages (AIP-158): 0 is a default, too much is cut, negative is an error.
#ifndef TRANSPORT_GRPC_PAGE_SIZE_H_
#define TRANSPORT_GRPC_PAGE_SIZE_H_

#include <algorithm>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "transport/grpc/status.h"

namespace muster {

inline absl::StatusOr<int> PageSize(int32_t asked, int usual, int max) {
  if (asked < 0) {
    return FieldError("page_size",
                      absl::StrCat("must be at least 0; got ", asked));
  }
  return asked == 0 ? usual : std::min(asked, max);
}

// What the engine says of a page: where all else has been checked before, it is
// the continuation that it cannot use.
inline absl::Status AtPageToken(const absl::Status& status) {
  return absl::IsInvalidArgument(status) ? AtField("page_token", status)
                                         : status;
}

}  // namespace muster

#endif  // TRANSPORT_GRPC_PAGE_SIZE_H_
