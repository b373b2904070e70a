#include "transport/grpc/credentials.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "grpcpp/security/server_credentials.h"
#include "transport/tls/pem_files.h"

namespace muster {

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const ServerFiles& files, absl::string_view prefix) {
  if (files.certificate_path.empty() != files.key_path.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(prefix, "certificate_path and ", prefix,
                     "key_path go together: one is missing"));
  }
  if (files.certificate_path.empty()) {
    if (!files.client_ca_path.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(prefix, "client_ca_path needs ", prefix,
                       "certificate_path and ", prefix, "key_path"));
    }
    return grpc::InsecureServerCredentials();
  }
  absl::StatusOr<std::string> certificate = ReadPem(files.certificate_path);
  if (!certificate.ok()) return certificate.status();
  absl::StatusOr<std::string> key = ReadPem(files.key_path);
  if (!key.ok()) return key.status();
  if (absl::Status s = CheckKeyPair(files.certificate_path, *certificate,
                                    files.key_path, *key);
      !s.ok()) {
    return s;
  }
  grpc::SslServerCredentialsOptions options(
      GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
  if (!files.client_ca_path.empty()) {
    absl::StatusOr<std::string> ca = ReadPem(files.client_ca_path);
    if (!ca.ok()) return ca.status();
    options.pem_root_certs = *std::move(ca);
    options.client_certificate_request =
        files.client_certificate_required
            ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
            : GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY;
  }
  options.pem_key_cert_pairs.push_back(
      {*std::move(key), *std::move(certificate)});
  return grpc::SslServerCredentials(options);
}

}  // namespace muster
