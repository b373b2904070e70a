// Who may do what, as `muster serve` is told it: a file, default policies of
// the hub with their keys, and the hub's name.
#ifndef SERVER_ACCESS_FLAGS_H_
#define SERVER_ACCESS_FLAGS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/flags.h"
#include "transport/auth/access.h"

namespace muster {

struct AccessFlags {
  std::string file;
  std::vector<std::string> policies;  // "NAME=KEY[,SECONDARY]" each.
  std::string hub_name;

  // Whether anybody is asked who he is.
  bool given() const { return !file.empty() || !policies.empty(); }
};

// `flags`, and behind them those of `o`.
std::vector<Flag> WithAccessFlags(AccessFlags* o, std::vector<Flag> flags);

// What is wrong with the flags themselves: INVALID_ARGUMENT that names the flag
// and never shows a key.
absl::Status CheckAccessFlags(const AccessFlags& flags);

// Reads "NAME=KEY[,SECONDARY]", where a KEY is base64, or "@FILE" that has it.
// Errors as CheckAccessFlags(), and those of the file.
absl::StatusOr<DefaultPolicy> ReadPolicyFlag(absl::string_view text);

// Null if nothing is given: everybody may do everything.
absl::StatusOr<std::shared_ptr<const Access>> MakeAccess(
    const AccessFlags& flags, DeviceKeys device_keys);

}  // namespace muster

#endif  // SERVER_ACCESS_FLAGS_H_
