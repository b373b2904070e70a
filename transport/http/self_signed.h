// Certificates, made with OpenSSL: for a server that is tried out, and for
// tests.
//
//   auto made = muster::MakeSelfSigned({"localhost", "127.0.0.1"},
//                                      Clock::Real().Now());
//
// Whoever is to trust such a server is given its certificate as that of an
// authority (curl --cacert, NODE_EXTRA_CA_CERTS).
#ifndef TRANSPORT_HTTP_SELF_SIGNED_H_
#define TRANSPORT_HTTP_SELF_SIGNED_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace muster {

// PEM.
struct CertificateAndKey {
  std::string certificate;
  std::string key;  // PKCS #8, without a passphrase.
};

struct CertificateSpec {
  std::string common_name;  // At most 64 bytes; empty: none.
  // As OpenSSL writes them: "DNS:localhost,IP:127.0.0.1,URI:spiffe://a/b".
  // Empty: none.
  std::string alternative_names;
  absl::Time from;
  absl::Time to;
  // It signs others, and shows itself to nobody.
  bool is_authority = false;
};

// Of a new key on P-256, signed by `issuer`, or by itself if that is null.
//   INVALID_ARGUMENT  a spec or an issuer that is of no use
absl::StatusOr<CertificateAndKey> MakeCertificate(
    const CertificateSpec& spec, const CertificateAndKey* issuer);

// For a server of these names, signed by itself: good for ten years from a day
// before `now`.
//   INVALID_ARGUMENT  no name; one that is neither a host's ("a.b", "*.a.b")
//                     nor an IP address, naming it
absl::StatusOr<CertificateAndKey> MakeSelfSigned(
    absl::Span<const std::string> names, absl::Time now);

}  // namespace muster

#endif  // TRANSPORT_HTTP_SELF_SIGNED_H_
