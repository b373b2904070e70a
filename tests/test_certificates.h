// Certificates for tests of TLS: an authority, and what it signs, as PEM files.
#ifndef TESTS_TEST_CERTIFICATES_H_
#define TESTS_TEST_CERTIFICATES_H_

#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "transport/http/self_signed.h"

namespace muster {

// A certificate and its key, in files below the test's temporary directory.
struct TestCertificate {
  std::string certificate_path;
  std::string key_path;
  std::string key_pem;  // To look for it where it must not be.
};

class TestAuthority {
 public:
  struct Subject {
    std::string common_name;  // Empty: none.
    // As OpenSSL writes them: "DNS:localhost,IP:127.0.0.1,URI:spiffe://a/b".
    // Empty: none.
    std::string alternative_names;
    // Good from and to, seen from now.
    absl::Duration from = -absl::Hours(1);
    absl::Duration to = absl::Hours(1);
  };

  // `name` is that of the files too: no two authorities of a test have the
  // same.
  explicit TestAuthority(absl::string_view name);

  // The PEM file by which others know the authority.
  const std::string& path() const { return path_; }

  // Good for servers and clients.
  TestCertificate Issue(const Subject& subject);

 private:
  std::string Write(absl::string_view suffix, absl::string_view text) const;

  const std::string name_;
  std::string path_;
  const CertificateAndKey own_;
  int issued_ = 0;
};

}  // namespace muster

#endif  // TESTS_TEST_CERTIFICATES_H_
