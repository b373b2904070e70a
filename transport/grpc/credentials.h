// What a server shows, and asks of those who call.
#ifndef TRANSPORT_GRPC_CREDENTIALS_H_
#define TRANSPORT_GRPC_CREDENTIALS_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace grpc {
class ServerCredentials;
}  // namespace grpc

namespace muster {

struct ServerFiles {
  // Paths of PEM files.  Both empty: plaintext.
  std::string certificate_path;
  std::string key_path;
  // Of the authorities that sign callers' certificates.  Empty: callers are not
  // asked for one.
  std::string client_ca_path;
  // With an authority: who has no certificate does not get in.
  bool client_certificate_required = true;
};

// INVALID_ARGUMENT if some of the files are missing without which the others
// are of no use, and what ReadPem() and CheckKeyPair() say.  Errors name the
// members, each behind `prefix`: "tls." makes it "tls.key_path".
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const ServerFiles& files, absl::string_view prefix);

}  // namespace muster

#endif  // TRANSPORT_GRPC_CREDENTIALS_H_
