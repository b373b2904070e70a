#include "tests/test_certificates.h"

#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/model/check.h"
#include "gtest/gtest.h"
#include "openssl/bio.h"
#include "openssl/ec.h"
#include "openssl/evp.h"
#include "openssl/pem.h"
#include "openssl/x509.h"
#include "openssl/x509v3.h"

namespace muster {
namespace {

struct Free {
  void operator()(X509* p) const { X509_free(p); }
  void operator()(EVP_PKEY* p) const { EVP_PKEY_free(p); }
  void operator()(BIO* p) const { BIO_free(p); }
  void operator()(X509_EXTENSION* p) const { X509_EXTENSION_free(p); }
};
template <typename T>
using Owned = std::unique_ptr<T, Free>;

// What `write` puts into a buffer.
template <typename Write>
std::string Pem(Write write) {
  const Owned<BIO> bio(BIO_new(BIO_s_mem()));
  MUSTER_CHECK(write(bio.get()) == 1);
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  return std::string(text, static_cast<size_t>(size));
}

void AddExtension(X509* certificate, X509* issuer, int nid,
                  const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const Owned<X509_EXTENSION> extension(
      X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  MUSTER_CHECK(extension != nullptr);
  MUSTER_CHECK(X509_add_ext(certificate, extension.get(), -1) == 1);
}

long Seconds(absl::Duration duration) {
  return static_cast<long>(absl::ToInt64Seconds(duration));
}

}  // namespace

struct TestAuthority::Pair {
  // Signed by `issuer`, or by itself.
  Pair(const Subject& subject, int serial, const Pair* issuer)
      : key(EVP_EC_gen("P-256")), certificate(X509_new()) {
    MUSTER_CHECK(key != nullptr && certificate != nullptr);
    X509* const x = certificate.get();
    MUSTER_CHECK(X509_set_version(x, X509_VERSION_3) == 1);
    MUSTER_CHECK(ASN1_INTEGER_set(X509_get_serialNumber(x), serial) == 1);
    MUSTER_CHECK(X509_gmtime_adj(X509_getm_notBefore(x),
                                 Seconds(subject.from)) != nullptr);
    MUSTER_CHECK(X509_gmtime_adj(X509_getm_notAfter(x), Seconds(subject.to)) !=
                 nullptr);
    if (!subject.common_name.empty()) {
      MUSTER_CHECK(X509_NAME_add_entry_by_txt(
                       X509_get_subject_name(x), "CN", MBSTRING_UTF8,
                       reinterpret_cast<const unsigned char*>(
                           subject.common_name.c_str()),
                       -1, -1, 0) == 1);
    }
    X509* const issued_by = issuer != nullptr ? issuer->certificate.get() : x;
    MUSTER_CHECK(X509_set_issuer_name(x, X509_get_subject_name(issued_by)) ==
                 1);
    MUSTER_CHECK(X509_set_pubkey(x, key.get()) == 1);
    AddExtension(x, issued_by, NID_basic_constraints,
                 issuer == nullptr ? "critical,CA:TRUE" : "CA:FALSE");
    AddExtension(x, issued_by, NID_key_usage,
                 issuer == nullptr ? "critical,keyCertSign"
                                   : "critical,digitalSignature");
    if (!subject.alternative_names.empty()) {
      AddExtension(x, issued_by, NID_subject_alt_name,
                   subject.alternative_names);
    }
    MUSTER_CHECK(X509_sign(x, (issuer != nullptr ? issuer : this)->key.get(),
                           EVP_sha256()) > 0);
  }

  std::string CertificatePem() const {
    return Pem([this](BIO* bio) {
      return PEM_write_bio_X509(bio, certificate.get());
    });
  }
  std::string KeyPem() const {
    return Pem([this](BIO* bio) {
      return PEM_write_bio_PrivateKey(bio, key.get(), nullptr, nullptr, 0,
                                      nullptr, nullptr);
    });
  }

  Owned<EVP_PKEY> key;
  Owned<X509> certificate;
};

TestAuthority::TestAuthority(absl::string_view name)
    : name_(name),
      own_(std::make_unique<Pair>(Subject{.common_name = name_}, 1, nullptr)) {
  path_ = Write("ca.pem", own_->CertificatePem());
}

TestAuthority::~TestAuthority() = default;

TestCertificate TestAuthority::Issue(const Subject& subject) {
  ++issued_;
  const Pair pair(subject, 1 + issued_, own_.get());
  TestCertificate issued;
  issued.key_pem = pair.KeyPem();
  issued.certificate_path =
      Write(absl::StrCat(issued_, ".pem"), pair.CertificatePem());
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
