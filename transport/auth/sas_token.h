// Shared access signatures: tokens that whoever has a policy's key makes, and
// that the hub checks without having seen them before (contract 4.7).
//
//   SharedAccessSignature
//   sr={resource}&sig={signature}&se={expiry}&skn={policy}
//
//   signature = base64(HMAC-SHA256(key, resource as it stands + "\n" + expiry))
//
// Clients spell the resource in different ways (`%2F`, `%2f`, `/`), and sign
// what they send: so it is checked as it was sent, and decoded only afterwards.
//
// Source of the format: contract 4.7, whose test vectors are in
// tests/transport_auth_test.cc, and wire-facts 2.1.
#ifndef TRANSPORT_AUTH_SAS_TOKEN_H_
#define TRANSPORT_AUTH_SAS_TOKEN_H_

#include <cstddef>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace muster {

// Of a key, decoded, in bytes.
inline constexpr size_t kSasKeySizeMin = 16;
inline constexpr size_t kSasKeySizeMax = 256;

// A token, taken apart; nothing of it has been checked.
struct SasToken {
  // `sr` as it stands in the token: this is what was signed.
  std::string signed_resource;
  // The same, percent-decoded: "hub.example.net/devices/thermo-042".  Empty if
  // it cannot be decoded, which covers nothing.
  std::string resource;
  // `sig`, percent-decoded: base64 if it is a good one.
  std::string signature;
  // `se` as it stands: this is what was signed.
  std::string signed_expiry;
  // The same as an instant.
  absl::Time expires;
  // `skn`, percent-decoded; empty if there is none, as in a device's own
  // tokens.
  std::string policy;
};

// Takes the value of an `Authorization` header apart.  Fields may stand in any
// order, their names in any case; others than the four are passed over.
// IotHubUnauthorized (401003) that says what is wrong, and shows nothing of the
// token: other than two parts, another scheme, a field that is missing, given
// twice or not decodable, an expiry that is no whole number of seconds.
absl::StatusOr<SasToken> ParseSasToken(absl::string_view authorization);

// A key that signs tokens.  A value; thread-safe to use.  There is no way to
// print it.
class SasKey {
 public:
  // INVALID_ARGUMENT (400004) if `text` is no base64 of 16 to 256 bytes, in its
  // one canonical spelling.  The message shows nothing of it.
  static absl::StatusOr<SasKey> FromBase64(absl::string_view text);

  // Whether `token` was signed with this key.  Takes the same time whichever
  // byte of the signature is wrong.  About 2 us.
  bool HasSigned(const SasToken& token) const;

  // A token for `resource`, such as "hub.example.net" or
  // "hub.example.net/devices/thermo-042", in the name of `policy`, which
  // ParseSasToken() reads back.  An empty `policy` makes a device's own token.
  // Fractions of a second are cut from `expires`.  REQUIRES: `resource` is not
  // empty; `expires` is after 1970 and finite.
  std::string MakeToken(absl::string_view resource, absl::string_view policy,
                        absl::Time expires) const;

 private:
  explicit SasKey(std::string bytes) : bytes_(std::move(bytes)) {}

  // HMAC-SHA256 of the string to sign: 32 bytes.
  std::string Sign(absl::string_view resource, absl::string_view expiry) const;

  std::string bytes_;
};

}  // namespace muster

#endif  // TRANSPORT_AUTH_SAS_TOKEN_H_
