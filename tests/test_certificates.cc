#include "tests/test_certificates.h"

#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/model/check.h"
#include "engine/schedule/clock.h"
#include "gtest/gtest.h"
#include "transport/http/self_signed.h"

namespace muster {
namespace {

CertificateAndKey Make(const TestAuthority::Subject& subject,
                       const CertificateAndKey* issuer) {
  const absl::Time now = Clock::Real().Now();
  return MakeCertificate({.common_name = subject.common_name,
                          .alternative_names = subject.alternative_names,
                          .from = now + subject.from,
                          .to = now + subject.to,
                          .is_authority = issuer == nullptr},
                         issuer)
      .value();
}

}  // namespace

TestAuthority::TestAuthority(absl::string_view name)
    : name_(name), own_(Make({.common_name = name_}, nullptr)) {
  path_ = Write("ca.pem", own_.certificate);
}

TestCertificate TestAuthority::Issue(const Subject& subject) {
  ++issued_;
  const CertificateAndKey made = Make(subject, &own_);
  TestCertificate issued;
  issued.key_pem = made.key;
  issued.certificate_path =
      Write(absl::StrCat(issued_, ".pem"), made.certificate);
  issued.key_path = Write(absl::StrCat(issued_, ".key"), issued.key_pem);
  return issued;
}

std::string TestAuthority::Write(absl::string_view suffix,
                                 absl::string_view text) const {
  const std::string path =
      absl::StrCat(::testing::TempDir(), "/", name_, ".", suffix);
  std::FILE* const file = std::fopen(path.c_str(), "wb");
  MUSTER_CHECK(file != nullptr);
  MUSTER_CHECK(std::fwrite(text.data(), 1, text.size(), file) == text.size());
  MUSTER_CHECK(std::fclose(file) == 0);
  return path;
}

}  // namespace muster
