#include "transport/http/self_signed.h"

#include <arpa/inet.h>

#include <array>
#include <cstddef>
#include <ctime>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "engine/model/check.h"
#include "openssl/bio.h"
#include "openssl/bn.h"
#include "openssl/ec.h"
#include "openssl/err.h"
#include "openssl/evp.h"
#include "openssl/pem.h"
#include "openssl/x509.h"
#include "openssl/x509v3.h"

namespace muster {
namespace {

// RFC 5280, 4.1.2.2, has 20 bytes at most, and nobody else's.
constexpr int kSerialBits = 127;
// X.520's ub-common-name.
constexpr size_t kCommonNameMax = 64;
constexpr size_t kHostMax = 253;
constexpr size_t kLabelMax = 63;
constexpr absl::Duration kLife = absl::Hours(24 * 3652);
// For clocks that are not right.
constexpr absl::Duration kBefore = absl::Hours(24);

struct Free {
  void operator()(X509* p) const { X509_free(p); }
  void operator()(EVP_PKEY* p) const { EVP_PKEY_free(p); }
  void operator()(BIO* p) const { BIO_free(p); }
  void operator()(BIGNUM* p) const { BN_free(p); }
  void operator()(X509_EXTENSION* p) const { X509_EXTENSION_free(p); }
};
template <typename T>
using Owned = std::unique_ptr<T, Free>;

absl::Status Invalid(absl::string_view what) {
  ERR_clear_error();
  return absl::InvalidArgumentError(what);
}

// What `write` puts into a buffer.
template <typename Write>
std::string Pem(Write write) {
  const Owned<BIO> bio(BIO_new(BIO_s_mem()));
  MUSTER_CHECK(bio != nullptr && write(bio.get()) == 1);
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  return std::string(text, static_cast<size_t>(size));
}

Owned<BIO> Reader(const std::string& text) {
  return Owned<BIO>(
      BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

bool AddExtension(X509* certificate, X509* issuer, int nid,
                  const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const Owned<X509_EXTENSION> extension(
      X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  return extension != nullptr &&
         X509_add_ext(certificate, extension.get(), -1) == 1;
}

bool SetTime(ASN1_TIME* time, absl::Time to) {
  return ASN1_TIME_adj(time, static_cast<std::time_t>(absl::ToUnixSeconds(to)),
                       0, 0) != nullptr;
}

void SetSerial(X509* certificate) {
  const Owned<BIGNUM> serial(BN_new());
  MUSTER_CHECK(
      serial != nullptr &&
      BN_rand(serial.get(), kSerialBits, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) ==
          1 &&
      BN_to_ASN1_INTEGER(serial.get(), X509_get_serialNumber(certificate)));
}

bool IsHost(absl::string_view name) {
  if (name.empty() || name.size() > kHostMax) return false;
  absl::ConsumePrefix(&name, "*.");
  for (const absl::string_view label : absl::StrSplit(name, '.')) {
    if (label.empty() || label.size() > kLabelMax) return false;
    for (const char c : label) {
      if (!absl::ascii_isalnum(c) && c != '-' && c != '_') return false;
    }
  }
  return true;
}

bool IsAddress(const std::string& name) {
  std::array<unsigned char, 16> ignored;
  return inet_pton(AF_INET, name.c_str(), ignored.data()) == 1 ||
         inet_pton(AF_INET6, name.c_str(), ignored.data()) == 1;
}

}  // namespace

absl::StatusOr<CertificateAndKey> MakeCertificate(
    const CertificateSpec& spec, const CertificateAndKey* issuer) {
  const Owned<EVP_PKEY> key(EVP_EC_gen("P-256"));
  const Owned<X509> certificate(X509_new());
  MUSTER_CHECK(key != nullptr && certificate != nullptr);
  X509* const x = certificate.get();

  Owned<X509> issuer_x509;
  Owned<EVP_PKEY> issuer_key;
  if (issuer != nullptr) {
    issuer_x509.reset(PEM_read_bio_X509(Reader(issuer->certificate).get(),
                                        nullptr, nullptr, nullptr));
    issuer_key.reset(PEM_read_bio_PrivateKey(Reader(issuer->key).get(), nullptr,
                                             nullptr, nullptr));
    if (issuer_x509 == nullptr || issuer_key == nullptr) {
      return Invalid("the issuer has no certificate and key in PEM");
    }
  }
  X509* const issued_by = issuer != nullptr ? issuer_x509.get() : x;

  MUSTER_CHECK(X509_set_version(x, X509_VERSION_3) == 1);
  SetSerial(x);
  if (spec.from >= spec.to || !SetTime(X509_getm_notBefore(x), spec.from) ||
      !SetTime(X509_getm_notAfter(x), spec.to)) {
    return Invalid(absl::StrCat("a certificate cannot be good from ",
                                absl::FormatTime(spec.from), " to ",
                                absl::FormatTime(spec.to)));
  }
  if (!spec.common_name.empty() &&
      (spec.common_name.size() > kCommonNameMax ||
       X509_NAME_add_entry_by_txt(
           X509_get_subject_name(x), "CN", MBSTRING_UTF8,
           reinterpret_cast<const unsigned char*>(spec.common_name.c_str()), -1,
           -1, 0) != 1)) {
    return Invalid(
        absl::StrCat("no name for a certificate: ", spec.common_name));
  }
  MUSTER_CHECK(X509_set_issuer_name(x, X509_get_subject_name(issued_by)) == 1);
  MUSTER_CHECK(X509_set_pubkey(x, key.get()) == 1);
  MUSTER_CHECK(AddExtension(
      x, issued_by, NID_basic_constraints,
      spec.is_authority ? "critical,CA:TRUE" : "critical,CA:FALSE"));
  MUSTER_CHECK(AddExtension(x, issued_by, NID_key_usage,
                            spec.is_authority ? "critical,keyCertSign"
                                              : "critical,digitalSignature"));
  if (!spec.alternative_names.empty() &&
      !AddExtension(x, issued_by, NID_subject_alt_name,
                    spec.alternative_names)) {
    return Invalid(
        absl::StrCat("no names for a certificate: ", spec.alternative_names));
  }
  EVP_PKEY* const signs = issuer != nullptr ? issuer_key.get() : key.get();
  MUSTER_CHECK(X509_sign(x, signs, EVP_sha256()) > 0);
  return CertificateAndKey{
      Pem([x](BIO* bio) { return PEM_write_bio_X509(bio, x); }),
      Pem([&key](BIO* bio) {
        return PEM_write_bio_PrivateKey(bio, key.get(), nullptr, nullptr, 0,
                                        nullptr, nullptr);
      })};
}

absl::StatusOr<CertificateAndKey> MakeSelfSigned(
    absl::Span<const std::string> names, absl::Time now) {
  if (names.empty()) return Invalid("a certificate needs a name");
  std::string alternative_names;
  for (const std::string& name : names) {
    const bool is_address = IsAddress(name);
    if (!is_address && !IsHost(name)) {
      return Invalid(absl::StrCat(
          "a certificate's name must be a host's or an IP address; got \"",
          name, "\""));
    }
    absl::StrAppend(&alternative_names, alternative_names.empty() ? "" : ",",
                    is_address ? "IP:" : "DNS:", name);
  }
  // What clients look at are the others; this one is for those who read it.
  const std::string common_name = names[0].substr(0, kCommonNameMax);
  return MakeCertificate({.common_name = common_name,
                          .alternative_names = alternative_names,
                          .from = now - kBefore,
                          .to = now - kBefore + kLife},
                         nullptr);
}

}  // namespace muster
