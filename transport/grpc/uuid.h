// UUIDs (RFC 9562, version 4), for jobs without an id and for request ids.
#ifndef TRANSPORT_GRPC_UUID_H_
#define TRANSPORT_GRPC_UUID_H_

#include <string>

#include "absl/strings/string_view.h"

namespace muster {

// A random one, in lower case.
std::string NewUuid();

// Whether it is 32 hexadecimal digits in groups of 8, 4, 4, 4 and 12.
bool IsUuid(absl::string_view text);

}  // namespace muster

#endif  // TRANSPORT_GRPC_UUID_H_
