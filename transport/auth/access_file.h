// The file behind Access, read and checked; access.h has its format.
#ifndef TRANSPORT_AUTH_ACCESS_FILE_H_
#define TRANSPORT_AUTH_ACCESS_FILE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "transport/auth/caller.h"
#include "transport/auth/sas_token.h"

namespace muster {

// What every entry has.
struct Grant {
  std::string name;
  RoleSet roles;
  DeviceScope devices;
};

struct PolicyEntry {
  Grant grant;
  std::vector<SasKey> keys;  // One or two.
};

struct TokenEntry {
  Grant grant;
  std::string sha256;  // Lower case.
  absl::Time expires = absl::InfiniteFuture();
};

struct CertificateEntry {
  Grant grant;
  std::string subject;
};

// At least one entry if ParseAccessFile() has made it; names, hashes and
// subjects occur once each.
struct AccessFile {
  std::vector<PolicyEntry> policies;
  std::vector<TokenEntry> tokens;
  std::vector<CertificateEntry> certificates;
};

// Errors as those of Access::Parse().
absl::StatusOr<AccessFile> ParseAccessFile(absl::string_view json);

}  // namespace muster

#endif  // TRANSPORT_AUTH_ACCESS_FILE_H_
