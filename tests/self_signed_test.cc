// Certificates that are made on the spot: what is in them, and that OpenSSL as
// a client takes them for what they say.
#include "transport/http/self_signed.h"

#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "openssl/bio.h"
#include "openssl/evp.h"
#include "openssl/pem.h"
#include "openssl/x509.h"
#include "openssl/x509_vfy.h"
#include "openssl/x509v3.h"

namespace muster {
namespace {

struct Free {
  void operator()(X509* p) const { X509_free(p); }
  void operator()(EVP_PKEY* p) const { EVP_PKEY_free(p); }
  void operator()(BIO* p) const { BIO_free(p); }
  void operator()(X509_STORE* p) const { X509_STORE_free(p); }
  void operator()(X509_STORE_CTX* p) const { X509_STORE_CTX_free(p); }
};
template <typename T>
using Owned = std::unique_ptr<T, Free>;

const absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);

Owned<X509> Parse(const CertificateAndKey& made) {
  const Owned<BIO> bio(BIO_new_mem_buf(
      made.certificate.data(), static_cast<int>(made.certificate.size())));
  return Owned<X509>(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
}

Owned<EVP_PKEY> ParseKey(const CertificateAndKey& made) {
  const Owned<BIO> bio(
      BIO_new_mem_buf(made.key.data(), static_cast<int>(made.key.size())));
  return Owned<EVP_PKEY>(
      PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr));
}

// What a client says that trusts `anchor`, looks at `shown` at that time, and
// wants a server.
int Verify(X509* anchor, X509* shown, absl::Time at) {
  const Owned<X509_STORE> store(X509_STORE_new());
  EXPECT_EQ(X509_STORE_add_cert(store.get(), anchor), 1);
  const Owned<X509_STORE_CTX> context(X509_STORE_CTX_new());
  EXPECT_EQ(X509_STORE_CTX_init(context.get(), store.get(), shown, nullptr), 1);
  X509_STORE_CTX_set_default(context.get(), "ssl_server");
  X509_STORE_CTX_set_time(context.get(), 0,
                          static_cast<std::time_t>(absl::ToUnixSeconds(at)));
  X509_verify_cert(context.get());
  return X509_STORE_CTX_get_error(context.get());
}

TEST(SelfSignedTest, IsGoodForItsNamesAndForTenYears) {
  const auto made = MakeSelfSigned(
      {"hub.example.net", "*.dev.example.net", "localhost", "127.0.0.1", "::1"},
      kNow);
  ASSERT_TRUE(made.ok()) << made.status();
  const Owned<X509> x = Parse(*made);
  ASSERT_NE(x, nullptr);
  for (const char* host : {"hub.example.net", "a.dev.example.net", "localhost"})
    EXPECT_EQ(X509_check_host(x.get(), host, 0, 0, nullptr), 1) << host;
  for (const char* host : {"example.net", "b.a.dev.example.net", "127.0.0.1"})
    EXPECT_EQ(X509_check_host(x.get(), host, 0, 0, nullptr), 0) << host;
  for (const char* address : {"127.0.0.1", "::1"})
    EXPECT_EQ(X509_check_ip_asc(x.get(), address, 0), 1) << address;
  EXPECT_EQ(X509_check_ip_asc(x.get(), "127.0.0.2", 0), 0);
  const Owned<EVP_PKEY> key = ParseKey(*made);
  ASSERT_NE(key, nullptr);
  EXPECT_EQ(X509_check_private_key(x.get(), key.get()), 1);
  EXPECT_EQ(EVP_PKEY_get_bits(key.get()), 256);

  // The one who trusts it takes it, all that time and no longer.
  const absl::Duration year = absl::Hours(24 * 365);
  EXPECT_EQ(Verify(x.get(), x.get(), kNow), X509_V_OK);
  EXPECT_EQ(Verify(x.get(), x.get(), kNow + 10 * year), X509_V_OK);
  EXPECT_EQ(Verify(x.get(), x.get(), kNow + 10 * year + absl::Hours(72)),
            X509_V_ERR_CERT_HAS_EXPIRED);
  EXPECT_EQ(Verify(x.get(), x.get(), kNow - absl::Hours(25)),
            X509_V_ERR_CERT_NOT_YET_VALID);

  // No two are alike, and it cannot speak for others.
  const auto second = MakeSelfSigned({"localhost"}, kNow);
  ASSERT_TRUE(second.ok());
  EXPECT_NE(second->key, made->key);
  EXPECT_NE(ASN1_INTEGER_cmp(X509_get0_serialNumber(Parse(*second).get()),
                             X509_get0_serialNumber(x.get())),
            0);
  EXPECT_EQ(X509_check_ca(x.get()), 0);
}

TEST(SelfSignedTest, NamesAreChecked) {
  EXPECT_EQ(MakeSelfSigned({}, kNow).status().message(),
            "a certificate needs a name");
  for (const std::string& name : std::vector<std::string>{
           "", ".", "a..b", "a b", "a,DNS:b", "DNS:a", "a:b", "a*", "*.", "é",
           std::string(64, 'a'), absl::StrCat(std::string(250, '.'), "a")}) {
    const auto made = MakeSelfSigned({"localhost", name}, kNow);
    EXPECT_EQ(made.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(made.status().message(),
              absl::StrCat("a certificate's name must be a host's or an IP "
                           "address; got \"",
                           name, "\""));
  }
  EXPECT_TRUE(
      MakeSelfSigned({absl::StrCat(std::string(63, 'a'), ".net")}, kNow).ok());
}

TEST(SelfSignedTest, AnAuthoritySignsOthers) {
  const absl::Time to = kNow + absl::Hours(1);
  const auto authority = MakeCertificate(
      {.common_name = "ca", .from = kNow, .to = to, .is_authority = true},
      nullptr);
  ASSERT_TRUE(authority.ok()) << authority.status();
  const auto issued = MakeCertificate(
      {.alternative_names = "URI:a:b", .from = kNow, .to = to}, &*authority);
  ASSERT_TRUE(issued.ok()) << issued.status();
  const Owned<X509> ca = Parse(*authority), x = Parse(*issued);
  EXPECT_EQ(Verify(ca.get(), x.get(), kNow), X509_V_OK);
  EXPECT_NE(Verify(x.get(), ca.get(), kNow), X509_V_OK);

  const auto message = [](const CertificateSpec& spec,
                          const CertificateAndKey* issuer) {
    return std::string(MakeCertificate(spec, issuer).status().message());
  };
  const CertificateAndKey nobody{"x", "y"};
  EXPECT_EQ(message({.from = kNow, .to = to}, &nobody),
            "the issuer has no certificate and key in PEM");
  EXPECT_EQ(
      message({.alternative_names = "a", .from = kNow, .to = to}, nullptr),
      "no names for a certificate: a");
  EXPECT_EQ(
      message({.common_name = std::string(65, 'a'), .from = kNow, .to = to},
              nullptr),
      absl::StrCat("no name for a certificate: ", std::string(65, 'a')));
  EXPECT_FALSE(MakeCertificate({.from = to, .to = kNow}, nullptr).ok());
}

}  // namespace
}  // namespace muster
