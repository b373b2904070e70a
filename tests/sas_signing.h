// Signs what a token claims, whatever that is: for tokens that SasKey does not
// make.
#ifndef TESTS_SAS_SIGNING_H_
#define TESTS_SAS_SIGNING_H_

#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/model/check.h"
#include "openssl/evp.h"
#include "openssl/hmac.h"

namespace muster {

// Base64 of HMAC-SHA256(key, resource + "\n" + expiry), for a key in base64.
inline std::string SasSignature(absl::string_view key_base64,
                                absl::string_view resource,
                                absl::string_view expiry) {
  std::string key;
  MUSTER_CHECK(absl::Base64Unescape(key_base64, &key));
  const std::string text = absl::StrCat(resource, "\n", expiry);
  unsigned char bytes[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  MUSTER_CHECK(HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
                    reinterpret_cast<const unsigned char*>(text.data()),
                    text.size(), bytes, &size) != nullptr);
  return absl::Base64Escape(
      absl::string_view(reinterpret_cast<const char*>(bytes), size));
}

}  // namespace muster

#endif  // TESTS_SAS_SIGNING_H_
