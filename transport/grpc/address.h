// Addresses to listen at: "host:port", "[v6]:port", "unix:/path".
#ifndef TRANSPORT_GRPC_ADDRESS_H_
#define TRANSPORT_GRPC_ADDRESS_H_

#include <string>

#include "absl/strings/string_view.h"

namespace muster {

// Whether nobody but this machine can get there.
bool IsLoopback(absl::string_view address);

// Whether it is an address to listen at, by its form.
bool HasPort(absl::string_view address);

// The address with the port that the system chose.
std::string WithPort(absl::string_view address, int port);

}  // namespace muster

#endif  // TRANSPORT_GRPC_ADDRESS_H_
