#include "transport/auth/sas_token.h"

#include <cstdint>
#include <optional>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "openssl/crypto.h"
#include "openssl/evp.h"
#include "openssl/hmac.h"

namespace muster {
namespace {

constexpr absl::string_view kScheme = "SharedAccessSignature";
constexpr absl::string_view kWhiteSpace = " \t\n\v\f\r";
constexpr size_t kSignatureSize = 32;  // Of SHA-256.

absl::Status Malformed(absl::string_view what) {
  return MakeError(ErrorCode::kIotHubUnauthorized,
                   absl::StrCat("authorization: ", what));
}

// The value of a hexadecimal digit; -1 for anything else.
int HexValue(char c) {
  if (absl::ascii_isdigit(c)) return c - '0';
  const char lower = absl::ascii_tolower(c);
  return 'a' <= lower && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// nullopt if a `%` has no two hexadecimal digits behind it.  A `+` is itself:
// it stands in base64, and no client writes a space like that.
std::optional<std::string> PercentDecode(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out.push_back(text[i]);
      continue;
    }
    if (text.size() - i < 3) return std::nullopt;
    const int high = HexValue(text[i + 1]);
    const int low = HexValue(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    out.push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return out;
}

// Encodes all but RFC 3986's unreserved characters.
std::string PercentEncode(absl::string_view text, absl::string_view digits) {
  std::string out;
  for (const char c : text) {
    if (absl::ascii_isalnum(c) || absl::StrContains("-_.~", c)) {
      out.push_back(c);
      continue;
    }
    const uint8_t byte = static_cast<uint8_t>(c);
    out.push_back('%');
    out.push_back(digits[byte >> 4]);
    out.push_back(digits[byte & 15]);
  }
  return out;
}

// Contract 4.7: the resource's escapes are to be written in lower case.
std::string EncodeResource(absl::string_view text) {
  return PercentEncode(text, "0123456789abcdef");
}

std::string EncodeField(absl::string_view text) {
  return PercentEncode(text, "0123456789ABCDEF");
}

// nullopt if `text` is not how base64 writes some bytes.  Abseil's decoder also
// takes white space and missing padding: hence the way back.
std::optional<std::string> DecodeBase64(absl::string_view text) {
  std::string bytes;
  if (!absl::Base64Unescape(text, &bytes)) return std::nullopt;
  if (absl::Base64Escape(bytes) != text) return std::nullopt;
  return bytes;
}

// Digits alone: SimpleAtoi() would also take signs and spaces.
std::optional<absl::Time> ParseExpiry(absl::string_view text) {
  for (const char c : text) {
    if (!absl::ascii_isdigit(c)) return std::nullopt;
  }
  int64_t seconds;
  if (!absl::SimpleAtoi(text, &seconds)) return std::nullopt;
  return absl::FromUnixSeconds(seconds);
}

}  // namespace

absl::StatusOr<SasToken> ParseSasToken(absl::string_view authorization) {
  const std::vector<absl::string_view> parts =
      absl::StrSplit(authorization, absl::ByAnyChar(kWhiteSpace));
  if (parts.size() != 2 || parts[0] != kScheme) {
    return Malformed(absl::StrCat("must be \"", kScheme,
                                  "\", one space and the token's fields"));
  }
  std::optional<absl::string_view> sr, sig, se, skn;
  for (const absl::string_view field : absl::StrSplit(parts[1], '&')) {
    const std::pair<absl::string_view, absl::string_view> pair =
        absl::StrSplit(field, absl::MaxSplits('=', 1));
    for (const auto& [name, value] :
         {std::pair("sr", &sr), {"sig", &sig}, {"se", &se}, {"skn", &skn}}) {
      if (!absl::EqualsIgnoreCase(pair.first, name)) continue;
      if (value->has_value()) {
        return Malformed(absl::StrCat("the token's ", name, " stands twice"));
      }
      *value = pair.second;
    }
  }
  SasToken token;
  for (const auto& [name, value] :
       {std::pair("sr", sr), {"sig", sig}, {"se", se}}) {
    if (value.value_or("").empty()) {
      return Malformed(absl::StrCat("the token has no ", name));
    }
  }
  token.signed_resource = std::string(*sr);
  token.resource = PercentDecode(*sr).value_or("");
  for (const auto& [name, value, to] :
       {std::tuple("sig", *sig, &token.signature),
        {"se", *se, &token.signed_expiry},
        {"skn", skn.value_or(""), &token.policy}}) {
    std::optional<std::string> decoded = PercentDecode(value);
    if (!decoded.has_value()) {
      return Malformed(
          absl::StrCat("the token's ", name, " is not percent-encoded"));
    }
    *to = *std::move(decoded);
  }
  const std::optional<absl::Time> expires = ParseExpiry(token.signed_expiry);
  if (!expires.has_value()) {
    return Malformed(
        "the token's se must be the seconds from 1970 to its expiry");
  }
  token.expires = *expires;
  return token;
}

absl::StatusOr<SasKey> SasKey::FromBase64(absl::string_view text) {
  std::optional<std::string> bytes = DecodeBase64(text);
  if (!bytes.has_value()) {
    return MakeError(ErrorCode::kArgumentInvalid, "a key must be base64");
  }
  if (bytes->size() < kSasKeySizeMin || bytes->size() > kSasKeySizeMax) {
    return MakeError(
        ErrorCode::kArgumentInvalid,
        absl::StrCat("a key must have ", kSasKeySizeMin, " to ", kSasKeySizeMax,
                     " bytes; got ", bytes->size()));
  }
  return SasKey(*std::move(bytes));
}

std::string SasKey::Sign(absl::string_view resource,
                         absl::string_view expiry) const {
  const std::string text = absl::StrCat(resource, "\n", expiry);
  std::string signature(kSignatureSize, '\0');
  unsigned int size = 0;
  // Fails only for lack of memory.
  MUSTER_CHECK(
      HMAC(EVP_sha256(), bytes_.data(), static_cast<int>(bytes_.size()),
           reinterpret_cast<const unsigned char*>(text.data()), text.size(),
           reinterpret_cast<unsigned char*>(signature.data()),
           &size) != nullptr);
  MUSTER_CHECK(size == kSignatureSize);
  return signature;
}

bool SasKey::HasSigned(const SasToken& token) const {
  const std::optional<std::string> claimed = DecodeBase64(token.signature);
  if (!claimed.has_value() || claimed->size() != kSignatureSize) return false;
  const std::string right = Sign(token.signed_resource, token.signed_expiry);
  return CRYPTO_memcmp(claimed->data(), right.data(), kSignatureSize) == 0;
}

std::string SasKey::MakeToken(absl::string_view resource,
                              absl::string_view policy,
                              absl::Time expires) const {
  MUSTER_CHECK(!resource.empty());
  MUSTER_CHECK(expires >= absl::UnixEpoch() &&
               expires < absl::InfiniteFuture());
  const std::string sr = EncodeResource(resource);
  const std::string se = absl::StrCat(absl::ToUnixSeconds(expires));
  std::string token = absl::StrCat(
      kScheme, " sr=", sr,
      "&sig=", EncodeField(absl::Base64Escape(Sign(sr, se))), "&se=", se);
  if (!policy.empty()) absl::StrAppend(&token, "&skn=", EncodeField(policy));
  return token;
}

}  // namespace muster
