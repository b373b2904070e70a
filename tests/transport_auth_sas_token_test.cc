// Contract 4.7, steps 1 to 5, and wire-facts 2.1: how tokens are read, signed
// and written.
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/model/error.h"
#include "gtest/gtest.h"
#include "tests/choices.h"
#include "tests/sas_signing.h"
#include "transport/auth/sas_token.h"

namespace muster {
namespace {

// Contract 4.7's test vectors.
constexpr absl::string_view kServiceKey =
    "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
constexpr absl::string_view kServiceToken =
    "SharedAccessSignature sr=hub.example.net&sig="
    "yTVZaH7rOUVMb5M0i2O8B6R22c66BsAbkxCPYPV%2BzNY%3D&se=1900000000&skn="
    "registryReadWrite";
constexpr absl::string_view kDeviceKey =
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
constexpr absl::string_view kDeviceToken =
    "SharedAccessSignature sr=hub.example.net%2fdevices%2fthermo-042&sig="
    "LpxPvDdve3ZXMf%2Fxqy9xnzIqQJxUmOEmdoLXx5z9Xl0%3D&se=1900000000";

const absl::Time kExpiry = absl::FromUnixSeconds(1'900'000'000);

SasKey Key(absl::string_view text) { return SasKey::FromBase64(text).value(); }

TEST(SasTokenTest, ContractVectorsAreWritten) {
  EXPECT_EQ(Key(kServiceKey)
                .MakeToken("hub.example.net", "registryReadWrite", kExpiry),
            kServiceToken);
  EXPECT_EQ(Key(kDeviceKey)
                .MakeToken("hub.example.net/devices/thermo-042", "", kExpiry),
            kDeviceToken);
}

TEST(SasTokenTest, ContractVectorsAreRead) {
  const SasToken service = ParseSasToken(kServiceToken).value();
  EXPECT_EQ(service.signed_resource, "hub.example.net");
  EXPECT_EQ(service.resource, "hub.example.net");
  EXPECT_EQ(service.signature, "yTVZaH7rOUVMb5M0i2O8B6R22c66BsAbkxCPYPV+zNY=");
  EXPECT_EQ(service.signed_expiry, "1900000000");
  EXPECT_EQ(service.expires, kExpiry);
  EXPECT_EQ(service.policy, "registryReadWrite");
  EXPECT_TRUE(Key(kServiceKey).HasSigned(service));
  EXPECT_FALSE(Key(kDeviceKey).HasSigned(service));

  const SasToken device = ParseSasToken(kDeviceToken).value();
  EXPECT_EQ(device.signed_resource, "hub.example.net%2fdevices%2fthermo-042");
  EXPECT_EQ(device.resource, "hub.example.net/devices/thermo-042");
  EXPECT_EQ(device.policy, "");
  EXPECT_TRUE(Key(kDeviceKey).HasSigned(device));
  EXPECT_FALSE(Key(kServiceKey).HasSigned(device));
}

// What clients do differently, and means the same.
TEST(SasTokenTest, SpellingsOfClients) {
  constexpr absl::string_view kExpiryText = "1900000000";
  for (const absl::string_view resource :
       {"hub.example.net/devices/d%25", "hub.example.net%2Fdevices%2Fd%2525",
        "hub.example.net%2fdevices%2fd%2525",
        "%68ub.example.net%2fdevices/d%2525"}) {
    const std::string signature =
        SasSignature(kServiceKey, resource, kExpiryText);
    const std::string strict = absl::StrReplaceAll(
        signature, {{"+", "%2B"}, {"/", "%2F"}, {"=", "%3D"}});
    for (const std::string& fields :
         {absl::StrCat("sr=", resource, "&sig=", strict,
                       "&skn=p&se=1900000000"),
          absl::StrCat("se=1900000000&SKN=p&SR=", resource, "&Sig=", strict),
          // A literal `+` is one, and so is a `=` behind the first.
          absl::StrCat("sig=", signature, "&sE=19%300000000&sr=", resource,
                       "&skn=%70"),
          absl::StrCat("new&sr=", resource, "&sig=", strict,
                       "&se=1900000000&&x=y=z&skn=p")}) {
      const absl::StatusOr<SasToken> token =
          ParseSasToken(absl::StrCat("SharedAccessSignature ", fields));
      ASSERT_TRUE(token.ok()) << token.status() << " in " << fields;
      EXPECT_EQ(token->signed_resource, resource);
      EXPECT_EQ(token->signed_expiry, kExpiryText);
      EXPECT_EQ(token->expires, kExpiry);
      EXPECT_EQ(token->policy, "p");
      EXPECT_TRUE(Key(kServiceKey).HasSigned(*token)) << fields;
    }
  }
}

TEST(SasTokenTest, Malformed) {
  constexpr struct {
    absl::string_view text;
    absl::string_view what;  // Of the message.
  } kCases[] = {
      {"", "must be \"SharedAccessSignature\""},
      {" ", "must be \"SharedAccessSignature\""},
      {"SharedAccessSignature", "must be \"SharedAccessSignature\""},
      {"SharedAccessSignature ", "has no sr"},
      {"sr=hub&sig=c2ln&se=1900000000", "must be \"SharedAccessSignature\""},
      {"sharedaccesssignature sr=hub&sig=c2ln&se=1900000000",
       "must be \"SharedAccessSignature\""},
      {"Basic sr=hub&sig=c2ln&se=1900000000",
       "must be \"SharedAccessSignature\""},
      {"SharedAccessSignature  sr=hub&sig=c2ln&se=1900000000",
       "must be \"SharedAccessSignature\""},
      {" SharedAccessSignature sr=hub&sig=c2ln&se=1900000000",
       "must be \"SharedAccessSignature\""},
      {"SharedAccessSignature sr=hub&sig=c2ln&se=1900000000 ",
       "must be \"SharedAccessSignature\""},
      {"SharedAccessSignature sr=hub&sig=c2ln&se=1900000000 x",
       "must be \"SharedAccessSignature\""},
      {"SharedAccessSignature sr=hub&sig=c2ln&\tse=1900000000",
       "must be \"SharedAccessSignature\""},
      {"SharedAccessSignature sr=hub&sig=c2ln&se=1900000000\n",
       "must be \"SharedAccessSignature\""},
      {"SharedAccessSignature x", "has no sr"},
      {"SharedAccessSignature sig=c2ln&se=1900000000", "has no sr"},
      {"SharedAccessSignature sr=&sig=c2ln&se=1900000000", "has no sr"},
      {"SharedAccessSignature sr&sig=c2ln&se=1900000000", "has no sr"},
      {"SharedAccessSignature sr=hub&se=1900000000", "has no sig"},
      {"SharedAccessSignature sr=hub&sig=&se=1900000000", "has no sig"},
      {"SharedAccessSignature sr=hub&sig=c2ln", "has no se"},
      {"SharedAccessSignature sr=hub&sig=c2ln&se=", "has no se"},
      {"SharedAccessSignature sr=hub;sig=c2ln;se=1900000000", "has no sig"},
      {"SharedAccessSignature sr=hub&sr=hub&sig=c2ln&se=1900000000",
       "sr stands twice"},
      {"SharedAccessSignature sr=hub&sig=c2ln&se=1900000000&SIG=c2ln",
       "sig stands twice"},
      {"SharedAccessSignature sr=hub&sig=c2ln&se=1900000000&se=1900000000",
       "se stands twice"},
      {"SharedAccessSignature skn=&sr=hub&sig=c2ln&se=1900000000&skn=p",
       "skn stands twice"},
      {"SharedAccessSignature sr=hub&sig=c2ln%&se=1900000000",
       "sig is not percent-encoded"},
      {"SharedAccessSignature sr=hub&sig=c2ln%3&se=1900000000",
       "sig is not percent-encoded"},
      {"SharedAccessSignature sr=hub&sig=%g0c2ln&se=1900000000",
       "sig is not percent-encoded"},
      {"SharedAccessSignature sr=hub&sig=c2ln&se=1900000000&skn=%0g",
       "skn is not percent-encoded"},
      {"SharedAccessSignature sr=hub&sig=c2ln&se=19%",
       "se is not percent-encoded"},
      {"SharedAccessSignature sr=hub&sig=c2ln&se=soon", "se must be"},
      {"SharedAccessSignature sr=hub&sig=c2ln&se=-1", "se must be"},
      {"SharedAccessSignature sr=hub&sig=c2ln&se=+1900000000", "se must be"},
      {"SharedAccessSignature sr=hub&sig=c2ln&se=%201900000000", "se must be"},
      {"SharedAccessSignature sr=hub&sig=c2ln&se=1900000000.5", "se must be"},
      {"SharedAccessSignature sr=hub&sig=c2ln&se=1.9e9", "se must be"},
      {"SharedAccessSignature sr=hub&sig=c2ln&se=0x713fb300", "se must be"},
      {"SharedAccessSignature sr=hub&sig=c2ln&se=9223372036854775808",
       "se must be"},
      {"SharedAccessSignature sr=hub&sig=c2ln&se=19000%0000000", "se must be"},
  };
  for (const auto& [text, what] : kCases) {
    const absl::StatusOr<SasToken> token = ParseSasToken(text);
    ASSERT_FALSE(token.ok()) << text;
    EXPECT_EQ(ErrorCodeOf(token.status()), ErrorCode::kIotHubUnauthorized);
    EXPECT_TRUE(absl::StrContains(token.status().message(), what))
        << token.status().message() << " lacks: " << what;
    EXPECT_FALSE(absl::StrContains(token.status().message(), "c2ln"))
        << token.status();
  }
}

TEST(SasTokenTest, ExpiryOfAnySize) {
  for (const absl::string_view se : {"0", "007", "9223372036854775807"}) {
    const absl::StatusOr<SasToken> token = ParseSasToken(
        absl::StrCat("SharedAccessSignature sr=hub&sig=c2ln&se=", se));
    ASSERT_TRUE(token.ok()) << token.status();
    EXPECT_EQ(token->signed_expiry, se);
    EXPECT_GE(token->expires, absl::UnixEpoch());
    EXPECT_EQ(token->expires > kExpiry, se.size() > 10);
  }
}

// A resource that cannot be decoded is signed as well as any, and covers
// nothing.
TEST(SasTokenTest, ResourceThatCannotBeDecoded) {
  const std::string signature =
      SasSignature(kServiceKey, "hub%zz", "1900000000");
  const absl::StatusOr<SasToken> token = ParseSasToken(absl::StrCat(
      "SharedAccessSignature sr=hub%zz&se=1900000000&sig=", signature));
  ASSERT_TRUE(token.ok()) << token.status();
  EXPECT_EQ(token->resource, "");
  EXPECT_TRUE(Key(kServiceKey).HasSigned(*token));
}

TEST(SasTokenTest, SignatureThatIsNone) {
  const SasKey key = Key(kServiceKey);
  SasToken token = ParseSasToken(kServiceToken).value();
  const std::string right = token.signature;
  ASSERT_TRUE(key.HasSigned(token));
  std::string bytes;
  ASSERT_TRUE(absl::Base64Unescape(right, &bytes));
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string wrong = bytes;
      wrong[i] = static_cast<char>(wrong[i] ^ (1 << bit));
      token.signature = absl::Base64Escape(wrong);
      EXPECT_FALSE(key.HasSigned(token)) << "byte " << i << ", bit " << bit;
    }
  }
  for (const std::string& signature :
       {std::string(), std::string("!"), bytes, right.substr(0, 43),
        right + "=", " " + right, right + "\n",
        // Other spellings of the same bytes.
        absl::StrReplaceAll(right, {{"+", "-"}, {"/", "_"}}),
        right.substr(0, 42) + "Z=", absl::Base64Escape(bytes.substr(0, 31)),
        absl::Base64Escape(bytes + bytes[0]), absl::Base64Escape("")}) {
    token.signature = signature;
    EXPECT_FALSE(key.HasSigned(token)) << signature;
  }
}

TEST(SasTokenTest, EveryPartIsSigned) {
  const SasKey key = Key(kServiceKey);
  const SasToken token = ParseSasToken(kServiceToken).value();
  SasToken changed = token;
  changed.signed_resource += "x";
  EXPECT_FALSE(key.HasSigned(changed));
  changed = token;
  changed.signed_expiry = "1900000001";
  EXPECT_FALSE(key.HasSigned(changed));
  // The line between them is where it is.
  changed = token;
  changed.signed_resource += "\n1";
  changed.signed_expiry.erase(0, 1);
  EXPECT_FALSE(key.HasSigned(changed));
}

TEST(SasKeyTest, Refused) {
  constexpr absl::string_view kSecret = "c2VjcmV0";
  const std::string fifteen = absl::Base64Escape(std::string(15, 's'));
  const std::string too_long = absl::Base64Escape(std::string(257, 's'));
  const struct {
    std::string text;
    absl::string_view what;
  } kCases[] = {
      {"", "16 to 256 bytes; got 0"},
      {std::string(kSecret), "16 to 256 bytes; got 6"},
      {fifteen, "16 to 256 bytes; got 15"},
      {too_long, "16 to 256 bytes; got 257"},
      {absl::StrCat(kSecret, "c2VjcmV0c2VjcmV0*"), "must be base64"},
      // Not the canonical spelling: no padding, white space, stray bits, the
      // other alphabet.
      {"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY", "must be base64"},
      {"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n", "must be base64"},
      {"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWZ=", "must be base64"},
      {"____________________________", "must be base64"},
  };
  for (const auto& [text, what] : kCases) {
    const absl::StatusOr<SasKey> key = SasKey::FromBase64(text);
    ASSERT_FALSE(key.ok()) << text;
    EXPECT_EQ(ErrorCodeOf(key.status()), ErrorCode::kArgumentInvalid);
    EXPECT_TRUE(absl::StrContains(key.status().message(), what))
        << key.status().message() << " lacks: " << what;
    EXPECT_FALSE(absl::StrContains(key.status().message(), kSecret));
  }
  for (const size_t size : {16u, 17u, 18u, 64u, 256u}) {
    EXPECT_TRUE(
        SasKey::FromBase64(absl::Base64Escape(std::string(size, 's'))).ok());
  }
}

// What MakeToken() writes is read back whatever characters it has, and the key
// of another is not the one that signed.
TEST(SasKeyTest, TokensOfAnyCharacters) {
  constexpr uint64_t kSeed = 20310301;
  SCOPED_TRACE(absl::StrCat("seed ", kSeed));
  Choices choices(kSeed);
  const auto text = [&choices](size_t size_min) {
    std::string out;
    for (size_t i = size_min + choices.Below(40); i > 0; --i) {
      out.push_back(choices.OneIn(4)
                        ? choices.Pick({' ', '%', '&', '=', '+', '/', '\n'})
                        : static_cast<char>(choices.Below(256)));
    }
    return out;
  };
  for (int i = 0; i < 2000; ++i) {
    const std::string resource = text(1);
    const std::string policy = text(0);
    const std::string bytes = text(16);
    const absl::Time expires =
        absl::FromUnixMillis(static_cast<int64_t>(choices.Bits() >> 20));
    const SasKey key = Key(absl::Base64Escape(bytes));
    const absl::StatusOr<SasToken> token =
        ParseSasToken(key.MakeToken(resource, policy, expires));
    ASSERT_TRUE(token.ok()) << token.status();
    EXPECT_EQ(token->resource, resource);
    EXPECT_EQ(token->policy, policy);
    EXPECT_EQ(token->expires,
              absl::FromUnixSeconds(absl::ToUnixSeconds(expires)));
    EXPECT_EQ(token->signature,
              SasSignature(absl::Base64Escape(bytes), token->signed_resource,
                           token->signed_expiry));
    EXPECT_TRUE(key.HasSigned(*token));
    std::string other = bytes;
    other[choices.Below(static_cast<uint32_t>(other.size()))] ^= 1;
    EXPECT_FALSE(Key(absl::Base64Escape(other)).HasSigned(*token));
  }
}

}  // namespace
}  // namespace muster
