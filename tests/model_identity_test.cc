// Device identities: reading, checking and writing them (wire-facts 6).
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/model/error.h"
#include "engine/model/identity.h"
#include "engine/model/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::string Key(char c, size_t size = 32) {
  return absl::Base64Escape(std::string(size, c));
}

DeviceIdentity Parse(const std::string& body) {
  absl::StatusOr<DeviceIdentity> device = ParseDeviceIdentity("d1", body);
  EXPECT_TRUE(device.ok()) << device.status() << " for " << body;
  return device.ok() ? *std::move(device) : DeviceIdentity();
}

void ExpectRefused(const std::string& body, ErrorCode code,
                   const std::string& part) {
  const absl::StatusOr<DeviceIdentity> device = ParseDeviceIdentity("d1", body);
  ASSERT_FALSE(device.ok()) << body;
  EXPECT_EQ(ErrorCodeOf(device.status()), code) << body;
  EXPECT_THAT(std::string(device.status().message()), HasSubstr(part)) << body;
}

TEST(DeviceIdentity, OfAnEmptyBodySaysNothingOfAuthentication) {
  const DeviceIdentity device = Parse("{}");
  DeviceIdentity expected;
  expected.device_id = "d1";
  expected.authentication_type = std::nullopt;
  EXPECT_EQ(device, expected);
  EXPECT_TRUE(device.enabled);
  EXPECT_THAT(device.primary_key, IsEmpty());
}

// What the vendor's SDK sends where a program gives no `authentication`.
TEST(DeviceIdentity, EmptyKeysAreKeysToBeMade) {
  EXPECT_EQ(Parse(R"({"deviceId":"d1","authentication":{"type":"sas",)"
                  R"("symmetricKey":{"primaryKey":"","secondaryKey":""}}})"),
            Parse(R"({"authentication":{"type":"sas"}})"));
  EXPECT_EQ(Parse(R"({"authentication":{"type":"sas"}})").authentication_type,
            AuthenticationType::kSas);
}

TEST(DeviceIdentity, AnAuthenticationThatSaysNothingIsNone) {
  for (const std::string authentication :
       {"{}", R"({"type":""})", R"({"symmetricKey":{}})",
        R"({"symmetricKey":{"primaryKey":"","secondaryKey":null}})"}) {
    EXPECT_EQ(Parse(absl::StrCat(R"({"authentication":)", authentication, "}")),
              Parse("{}"))
        << authentication;
  }
  // Whoever gives a key means it.
  const DeviceIdentity device =
      Parse(absl::StrCat(R"({"authentication":{"symmetricKey":{)",
                         R"("secondaryKey":")", Key('a'), R"("}}})"));
  EXPECT_EQ(device.authentication_type, AuthenticationType::kSas);
  EXPECT_EQ(device.secondary_key, Key('a'));
}

TEST(DeviceIdentity, TakesEverythingThatABackEndMaySay) {
  const DeviceIdentity device = Parse(absl::StrCat(
      R"({"deviceId":"d1","status":"disabled","statusReason":"lost \u00e9",)",
      R"("authentication":{"type":"sas","symmetricKey":{"primaryKey":")",
      Key('a'), R"(","secondaryKey":")", Key('b', 64), R"("}},)",
      R"("capabilities":{"iotEdge":true},"deviceScope":"s1",)",
      R"("parentScopes":["p1","p2"]})"));
  EXPECT_FALSE(device.enabled);
  EXPECT_EQ(device.status_reason, "lost \xC3\xA9");
  EXPECT_EQ(device.primary_key, Key('a'));
  EXPECT_EQ(device.secondary_key, Key('b', 64));
  EXPECT_TRUE(device.iot_edge);
  EXPECT_EQ(device.device_scope, "s1");
  EXPECT_THAT(device.parent_scopes, ElementsAre("p1", "p2"));
}

TEST(DeviceIdentity, IgnoresWhatTheHubWritesAndWhatItDoesNotKnow) {
  EXPECT_EQ(Parse(R"({"generationId":"7","etag":"AAAAAAAAAAk=",)"
                  R"("connectionState":"Connected","lastActivityTime":5,)"
                  R"("statusUpdatedTime":"x","cloudToDeviceMessageCount":"y",)"
                  R"("connectionStateUpdatedTime":[],"tomorrow":{}})"),
            Parse("{}"));
}

TEST(DeviceIdentity, NullIsAsGoodAsAbsent) {
  EXPECT_EQ(Parse(R"({"deviceId":null,"status":null,"statusReason":null,)"
                  R"("authentication":null,"capabilities":null,)"
                  R"("deviceScope":null,"parentScopes":null})"),
            Parse("{}"));
  EXPECT_EQ(
      Parse(R"({"authentication":{"type":null,"symmetricKey":null,)"
            R"("x509Thumbprint":{"primaryThumbprint":null,)"
            R"("secondaryThumbprint":""}},"capabilities":{"iotEdge":null}})"),
      Parse("{}"));
}

TEST(DeviceIdentity, ThumbprintsMakeItSelfSigned) {
  const std::string sha1(40, 'A');
  const std::string sha256(64, '0');
  const std::string thumbprints =
      absl::StrCat(R"("x509Thumbprint":{"primaryThumbprint":")", sha1,
                   R"(","secondaryThumbprint":")", sha256, R"("})");
  for (const std::string type : {"", R"("type":"selfSigned",)"}) {
    const DeviceIdentity device =
        Parse(absl::StrCat(R"({"authentication":{)", type, thumbprints, "}}"));
    EXPECT_EQ(device.authentication_type, AuthenticationType::kSelfSigned);
    EXPECT_EQ(device.primary_thumbprint, sha1);
    EXPECT_EQ(device.secondary_thumbprint, sha256);
  }
  EXPECT_EQ(Parse(R"({"authentication":{"type":"certificateAuthority"}})")
                .authentication_type,
            AuthenticationType::kCertificateAuthority);
  EXPECT_EQ(Parse(R"({"authentication":{"type":"none"}})").authentication_type,
            AuthenticationType::kNone);
}

TEST(DeviceIdentity, RefusalsNameTheMemberAndWhatWouldBeRight) {
  const ErrorCode format = ErrorCode::kIotHubFormatError;
  const ErrorCode argument = ErrorCode::kArgumentInvalid;
  ExpectRefused("", format, "");
  ExpectRefused("[]", format, "a device is a JSON object; got array");
  ExpectRefused("{\"status\":\"\xFF\"}", format, "UTF-8");
  ExpectRefused(R"({"status":"enabled","status":"enabled"})", format, "status");
  ExpectRefused(R"({"deviceId":"d2"})", argument,
                R"(deviceId: the body names "d2", the path "d1")");
  ExpectRefused(R"({"deviceId":1})", argument,
                "deviceId: found number; expected a string");
  ExpectRefused(R"({"status":"off"})", argument,
                R"(status: found "off"; expected enabled or disabled)");
  ExpectRefused(
      absl::StrCat(R"({"statusReason":")", std::string(129, 'x'), R"("})"),
      argument, "129 characters; at most 128");
  ExpectRefused(R"({"authentication":[]})", argument,
                "authentication: found array; expected an object");
  ExpectRefused(R"({"authentication":{"type":"SAS"}})", argument,
                R"(authentication.type: found "SAS"; expected sas, )");
  ExpectRefused(
      R"({"authentication":{"x509Thumbprint":{"primaryThumbprint":"12"}}})",
      argument, "primaryThumbprint: found \"12\"; expected 40 or 64");
  ExpectRefused(R"({"capabilities":{"iotEdge":1}})", argument,
                "capabilities.iotEdge: found number; expected true or false");
  ExpectRefused(R"({"parentScopes":["a",7]})", argument,
                "parentScopes[1]: found number; expected a string");
  ExpectRefused(R"({"deviceScope":{}})", argument,
                "deviceScope: found object; expected a string");
}

TEST(DeviceIdentity, KeysAre16To64BytesInBase64AndNeverInAMessage) {
  const auto body = [](const std::string& key) {
    return absl::StrCat(
        R"({"authentication":{"symmetricKey":{"secondaryKey":")", key,
        R"("}}})");
  };
  for (const size_t size : {16, 17, 32, 63, 64}) {
    EXPECT_EQ(Parse(body(Key('k', size))).secondary_key, Key('k', size));
  }
  // Too short, too long, no base64, base64 without its padding, with spare bits
  // set, and in the alphabet of URLs.
  for (const std::string& key :
       {Key('k', 15), Key('k', 65), std::string("not base64 at all!"),
        Key('k', 16).substr(0, 22),
        absl::StrCat(Key('k', 16).substr(0, 21), "x=="),
        absl::WebSafeBase64Escape(std::string(33, '\xFF'))}) {
    const absl::StatusOr<DeviceIdentity> device =
        ParseDeviceIdentity("d1", body(key));
    ASSERT_FALSE(device.ok()) << key;
    EXPECT_EQ(ErrorCodeOf(device.status()), ErrorCode::kArgumentInvalid);
    EXPECT_THAT(std::string(device.status().message()),
                HasSubstr("authentication.symmetricKey.secondaryKey"));
    EXPECT_THAT(std::string(device.status().message()), Not(HasSubstr(key)));
  }
}

TEST(DeviceIdentity, IdsAreThoseOfContract61) {
  EXPECT_TRUE(ParseDeviceIdentity("-:.+%_#*?!(),=@;$'", "{}").ok());
  EXPECT_FALSE(ParseDeviceIdentity("", "{}").ok());
  EXPECT_FALSE(ParseDeviceIdentity("a b", "{}").ok());
  EXPECT_FALSE(ParseDeviceIdentity(std::string(129, 'a'), "{}").ok());
}

TEST(DeviceIdentity, TextsFromCppHaveToBeUtf8) {
  DeviceIdentity device{.device_id = "d1"};
  EXPECT_TRUE(ValidateDeviceIdentity(device).ok());
  device.status_reason = "\xC3";
  EXPECT_THAT(std::string(ValidateDeviceIdentity(device).message()),
              HasSubstr("statusReason"));
  device.status_reason.clear();
  device.device_scope = "\xFF";
  EXPECT_FALSE(ValidateDeviceIdentity(device).ok());
  device.device_scope.clear();
  device.parent_scopes = {"a", "\xFF"};
  EXPECT_FALSE(ValidateDeviceIdentity(device).ok());
}

TEST(DeviceIdentity, IsWrittenInTheCustomaryOrder) {
  DeviceIdentity device;
  device.device_id = "d1";
  device.generation_id = "1-7";
  device.etag = "AAAAAAAAAAE=";
  device.primary_key = "a2V5";
  device.secondary_key = "a2V6";
  std::string text;
  AppendDeviceJson(device, &text);
  EXPECT_EQ(text,
            R"({"deviceId":"d1","generationId":"1-7","etag":"AAAAAAAAAAE=",)"
            R"("connectionState":"Disconnected","status":"enabled",)"
            R"("statusReason":null,)"
            R"("connectionStateUpdatedTime":"0001-01-01T00:00:00Z",)"
            R"("statusUpdatedTime":"0001-01-01T00:00:00Z",)"
            R"("lastActivityTime":"0001-01-01T00:00:00Z",)"
            R"("cloudToDeviceMessageCount":0,"authentication":{"symmetricKey":)"
            R"({"primaryKey":"a2V5","secondaryKey":"a2V6"},"x509Thumbprint":)"
            R"({"primaryThumbprint":null,"secondaryThumbprint":null},)"
            R"("type":"sas"},"capabilities":{"iotEdge":false}})");

  device.authentication_type = AuthenticationType::kSelfSigned;
  device.primary_thumbprint = std::string(40, 'a');
  device.enabled = false;
  device.connected = true;
  device.status_reason = "say \"no\"";
  device.status_updated_time = absl::FromUnixSeconds(1'900'000'000);
  device.iot_edge = true;
  device.device_scope = "s";
  device.parent_scopes = {"p"};
  text = "<";
  AppendDeviceJson(device, &text);
  EXPECT_THAT(text, testing::StartsWith("<{"));
  for (const std::string part :
       {R"("connectionState":"Connected","status":"disabled",)",
        R"("statusReason":"say \"no\"")",
        R"("statusUpdatedTime":"2030-03-17T17:46:40.0000000Z")",
        R"({"primaryKey":null,"secondaryKey":null})",
        R"("primaryThumbprint":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",)",
        R"("type":"selfSigned"},"capabilities":{"iotEdge":true},)",
        R"("deviceScope":"s","parentScopes":["p"]})"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

// What is written is read again, but for what the hub says.
TEST(DeviceIdentity, ReadsWhatItHasWritten) {
  DeviceIdentity device;
  device.device_id = "d1";
  device.enabled = false;
  device.status_reason = "r";
  device.primary_key = Key('1');
  device.secondary_key = Key('2');
  device.iot_edge = true;
  device.device_scope = "s";
  device.parent_scopes = {"p", "q"};
  std::string text;
  AppendDeviceJson(device, &text);
  EXPECT_EQ(Parse(text), device);
}

TEST(DeviceIdentity, TypesHaveNames) {
  for (const AuthenticationType type :
       {AuthenticationType::kSas, AuthenticationType::kSelfSigned,
        AuthenticationType::kCertificateAuthority, AuthenticationType::kNone}) {
    EXPECT_EQ(FindAuthenticationType(AuthenticationTypeName(type)), type);
  }
  EXPECT_EQ(FindAuthenticationType("Sas"), std::nullopt);
}

}  // namespace
}  // namespace muster
