#include "transport/tls/pem_files.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "openssl/bio.h"
#include "openssl/err.h"
#include "openssl/evp.h"
#include "openssl/pem.h"
#include "openssl/x509.h"

namespace muster {
namespace {

template <auto kFree>
struct Deleter {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};

std::unique_ptr<BIO, Deleter<BIO_free>> Reader(absl::string_view text) {
  return std::unique_ptr<BIO, Deleter<BIO_free>>(
      BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// Instead of OpenSSL's, which asks at the terminal.
int NoPassphrase(char*, int, int, void*) { return -1; }

}  // namespace

absl::StatusOr<std::string> ReadPem(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) {
    return absl::NotFoundError(
        absl::StrCat("cannot read ", path, ": ", std::strerror(errno)));
  }
  if (!absl::StrContains(text.str(), "-----BEGIN ")) {
    return absl::InvalidArgumentError(
        absl::StrCat(path,
                     " is no PEM file: it has no line that begins with "
                     "\"-----BEGIN\""));
  }
  return text.str();
}

absl::Status CheckKeyPair(const std::string& certificate_path,
                          absl::string_view certificate,
                          const std::string& key_path, absl::string_view key) {
  const std::unique_ptr<X509, Deleter<X509_free>> x509(PEM_read_bio_X509(
      Reader(certificate).get(), nullptr, NoPassphrase, nullptr));
  const std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>> pkey(
      PEM_read_bio_PrivateKey(Reader(key).get(), nullptr, NoPassphrase,
                              nullptr));
  const bool fit = x509 != nullptr && pkey != nullptr &&
                   X509_check_private_key(x509.get(), pkey.get()) == 1;
  ERR_clear_error();  // What it says is of no use to anybody.
  if (x509 == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(certificate_path, " has no certificate that can be read"));
  }
  if (pkey == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        key_path, " has no key that can be read without a passphrase"));
  }
  if (!fit) {
    return absl::InvalidArgumentError(
        absl::StrCat("the key in ", key_path,
                     " is not that of the certificate in ", certificate_path));
  }
  return absl::OkStatus();
}

}  // namespace muster
