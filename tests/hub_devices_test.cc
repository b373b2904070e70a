// R11 of the hub's REST surface, lists, bulk and statistics: every row of
// wire-facts 6, and what each of them answers when it cannot.
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/journal/journal.h"
#include "engine/model/error.h"
#include "engine/model/json.h"
#include "engine/model/limits.h"
#include "gtest/gtest.h"
#include "tests/forwarding_journal.h"
#include "tests/sdk_hub.h"

namespace muster {
namespace {

// 00 to 1f, 20 to 3f and so on: what the fixture's random numbers make.
constexpr char kFirstKey[] = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
constexpr char kSecondKey[] = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
// A key of a caller's.
constexpr char kOwnKey[] = "bXkgb3duIGtleSwgbm8gbGVzcyBhbmQgbm8gbW9yZQ==";
constexpr char kThumbprint[] = "0123456789ABCDEF0123456789ABCDEF01234567";
constexpr char kBulk[] = "/devices?api-version=2021-04-12";

std::string WithSymmetricKeys(absl::string_view primary,
                              absl::string_view secondary) {
  return absl::StrCat(R"(,"authentication":{"type":"sas","symmetricKey":{)",
                      R"("primaryKey":")", primary, R"(","secondaryKey":")",
                      secondary, R"("}})");
}

std::string WithThumbprint() {
  return absl::StrCat(R"(,"authentication":{"type":"selfSigned",)",
                      R"("x509Thumbprint":{"primaryThumbprint":")", kThumbprint,
                      R"(","secondaryThumbprint":null}})");
}

Json Device(SdkHub& hub, absl::string_view id) {
  const RestAnswer answer = hub.Call("GET", SdkHub::DevicePath(id));
  EXPECT_EQ(answer.status, 200) << answer.body;
  return answer.Document();
}

std::string Etag(SdkHub& hub, absl::string_view id) {
  return Text(Device(hub, id).view(), "etag");
}

std::string Key(const Json& device, absl::string_view which) {
  return Text(device.view().Find("authentication").Find("symmetricKey"), which);
}

bool Exists(SdkHub& hub, absl::string_view id) {
  const RestAnswer answer = hub.Call("GET", SdkHub::DevicePath(id));
  if (answer.status == 200) return true;
  EXPECT_TRUE(IsError(answer, ErrorCode::kDeviceNotFound));
  EXPECT_TRUE(IsError(hub.Call("GET", SdkHub::TwinPath(id)),
                      ErrorCode::kDeviceNotFound));
  return false;
}

RestAnswer Bulk(SdkHub& hub, absl::string_view rows) {
  return hub.Call("POST", kBulk, rows);
}

// ------------------------------------------------------------------ create

TEST(CreateDevice, MakesKeysAndTheTwin) {
  SdkHub hub;
  const RestAnswer answer = hub.CreateDevice("thermo-042");
  ASSERT_EQ(answer.status, 200) << answer.body;
  const Json device = answer.Document();
  const std::string generation = Text(device.view(), "generationId");
  EXPECT_FALSE(generation.empty());
  EXPECT_EQ(answer.body,
            absl::StrCat(
                R"({"deviceId":"thermo-042","generationId":")", generation,
                R"(","etag":"AAAAAAAAAAE=","connectionState":"Disconnected",)",
                R"("status":"enabled","statusReason":null,)",
                R"("connectionStateUpdatedTime":"0001-01-01T00:00:00Z",)",
                R"("statusUpdatedTime":"0001-01-01T00:00:00Z",)",
                R"("lastActivityTime":"0001-01-01T00:00:00Z",)",
                R"("cloudToDeviceMessageCount":0,)",
                R"("authentication":{"symmetricKey":{"primaryKey":")",
                kFirstKey, R"(","secondaryKey":")", kSecondKey,
                R"("},"x509Thumbprint":{"primaryThumbprint":null,)",
                R"("secondaryThumbprint":null},"type":"sas"},)",
                R"("capabilities":{"iotEdge":false}})"));
  EXPECT_EQ(hub.Call("GET", SdkHub::DevicePath("thermo-042")).body,
            answer.body);
  const Json twin = hub.ReadTwin("thermo-042");
  EXPECT_EQ(Text(twin.view(), "status"), "enabled");
  EXPECT_EQ(Text(twin.view(), "connectionState"), "Disconnected");
  EXPECT_EQ(Text(twin.view(), "authenticationType"), "sas");
  EXPECT_EQ(Text(twin.view(), "deviceEtag"), "AAAAAAAAAAE=");
  EXPECT_FALSE(absl::StrContains(Shown(twin.view()), kFirstKey));
}

TEST(CreateDevice, WithoutAuthenticationIsTheSame) {
  SdkHub hub;
  const RestAnswer answer =
      hub.Call("PUT", SdkHub::DevicePath("d"), R"({"deviceId":"d"})");
  ASSERT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(Key(answer.Document(), "primaryKey"), kFirstKey);
  EXPECT_EQ(Key(answer.Document(), "secondaryKey"), kSecondKey);
  // The path decides: the body need not say it.
  EXPECT_EQ(hub.Call("PUT", SdkHub::DevicePath("e"), "{}").status, 200);
}

TEST(CreateDevice, KeepsKeysThatAreGiven) {
  SdkHub hub;
  const std::string other = absl::Base64Escape(std::string(64, 'k'));
  Json device =
      hub.CreateDevice("both", WithSymmetricKeys(kOwnKey, other)).Document();
  EXPECT_EQ(Key(device, "primaryKey"), kOwnKey);
  EXPECT_EQ(Key(device, "secondaryKey"), other);
  device = hub.CreateDevice("one", WithSymmetricKeys(kOwnKey, "")).Document();
  EXPECT_EQ(Key(device, "primaryKey"), kOwnKey);
  EXPECT_EQ(Key(device, "secondaryKey"), kFirstKey);
}

TEST(CreateDevice, KeysDiffer) {
  SdkHub hub;
  std::set<std::string> keys;
  for (int i = 0; i < 4; ++i) {
    const Json device = hub.CreateDevice(absl::StrCat("d", i)).Document();
    for (const char* which : {"primaryKey", "secondaryKey"}) {
      std::string bytes;
      ASSERT_TRUE(absl::Base64Unescape(Key(device, which), &bytes));
      EXPECT_EQ(bytes.size(), 32u);
      keys.insert(bytes);
    }
  }
  EXPECT_EQ(keys.size(), 8u);
}

TEST(CreateDevice, WithAThumbprint) {
  SdkHub hub;
  const RestAnswer answer = hub.CreateDevice("d", WithThumbprint());
  ASSERT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(Shown(answer.Document().view().Find("authentication")),
            absl::StrCat(
                R"({"symmetricKey":{"primaryKey":null,"secondaryKey":null},)",
                R"("type":"selfSigned","x509Thumbprint":{)",
                R"("primaryThumbprint":")", kThumbprint,
                R"(","secondaryThumbprint":null}})"));
  EXPECT_EQ(Text(hub.ReadTwin("d").view(), "authenticationType"), "selfSigned");
}

TEST(CreateDevice, WithEverythingElse) {
  SdkHub hub;
  const RestAnswer answer = hub.CreateDevice(
      "d", R"(,"status":"disabled","statusReason":"not yet","capabilities":)"
           R"({"iotEdge":true},"deviceScope":"ms-azure-iot-edge://e-1",)"
           R"("parentScopes":["ms-azure-iot-edge://p-1"],"etag":"ignored",)"
           R"("generationId":"ignored","connectionState":"Connected",)"
           R"("cloudToDeviceMessageCount":7,"future":{"member":1})");
  ASSERT_EQ(answer.status, 200) << answer.body;
  const Json device = answer.Document();
  EXPECT_EQ(Text(device.view(), "status"), "disabled");
  EXPECT_EQ(Text(device.view(), "statusReason"), "not yet");
  EXPECT_EQ(Shown(device.view().Find("capabilities")), R"({"iotEdge":true})");
  EXPECT_EQ(Text(device.view(), "deviceScope"), "ms-azure-iot-edge://e-1");
  EXPECT_EQ(Shown(device.view().Find("parentScopes")),
            R"(["ms-azure-iot-edge://p-1"])");
  EXPECT_EQ(Text(device.view(), "etag"), "AAAAAAAAAAE=");
  EXPECT_NE(Text(device.view(), "generationId"), "ignored");
  EXPECT_EQ(Text(device.view(), "connectionState"), "Disconnected");
  EXPECT_EQ(Shown(device.view().Find("cloudToDeviceMessageCount")), "0");
  EXPECT_TRUE(device.view().Find("future").is_undefined());
}

TEST(CreateDevice, Twice) {
  SdkHub hub;
  const RestAnswer first = hub.CreateDevice("d");
  ASSERT_EQ(first.status, 200);
  EXPECT_TRUE(IsError(hub.CreateDevice("d"), ErrorCode::kDeviceAlreadyExists));
  EXPECT_EQ(hub.Call("GET", SdkHub::DevicePath("d")).body, first.body);
  // Case matters.
  EXPECT_EQ(hub.CreateDevice("D").status, 200);
  // One that came as a twin is there as well.
  hub.AddTwin("t");
  EXPECT_TRUE(IsError(hub.CreateDevice("t"), ErrorCode::kDeviceAlreadyExists));
}

TEST(CreateDevice, IdsOfAllCharacters) {
  SdkHub hub;
  const std::vector<std::string> ids = {
      "abcXYZ019-.%_*?!(),:=@$'",  // What clients allow.
      "a+b#c;d",                   // What the hub allows besides.
      "100%25",
      std::string(128, 'x'),
  };
  for (const std::string& id : ids) {
    const RestAnswer answer = hub.CreateDevice(id);
    ASSERT_EQ(answer.status, 200) << id << ": " << answer.body;
    EXPECT_EQ(Text(answer.Document().view(), "deviceId"), id);
    EXPECT_TRUE(Exists(hub, id)) << id;
    EXPECT_EQ(hub.DeleteDevice(id).status, 204) << id;
    EXPECT_FALSE(Exists(hub, id)) << id;
  }
  for (const std::string& id :
       {std::string(129, 'x'), std::string("a b"), std::string("a/b"),
        std::string("größe"), std::string("a\"b")}) {
    EXPECT_TRUE(IsError(hub.CreateDevice(id), ErrorCode::kArgumentInvalid))
        << id;
  }
}

TEST(CreateDevice, BadBodies) {
  SdkHub hub;
  const struct {
    absl::string_view body;
    ErrorCode code;
  } kCases[] = {
      {"", ErrorCode::kIotHubFormatError},
      {"{", ErrorCode::kIotHubFormatError},
      {"[]", ErrorCode::kIotHubFormatError},
      {"\"d\"", ErrorCode::kIotHubFormatError},
      {R"({"deviceId":"d","deviceId":"d"})", ErrorCode::kIotHubFormatError},
      {"{\"statusReason\":\"\xff\"}", ErrorCode::kIotHubFormatError},
      {R"({"deviceId":"e"})", ErrorCode::kArgumentInvalid},
      {R"({"deviceId":7})", ErrorCode::kArgumentInvalid},
      {R"({"status":"Enabled"})", ErrorCode::kArgumentInvalid},
      {R"({"status":true})", ErrorCode::kArgumentInvalid},
      {R"({"authentication":"sas"})", ErrorCode::kArgumentInvalid},
      {R"({"authentication":{"type":"password"}})",
       ErrorCode::kArgumentInvalid},
      {R"({"authentication":{"symmetricKey":{"primaryKey":"c2hvcnQ="}}})",
       ErrorCode::kArgumentInvalid},
      {R"({"authentication":{"symmetricKey":{"primaryKey":"no base64"}}})",
       ErrorCode::kArgumentInvalid},
      {R"({"authentication":{"x509Thumbprint":{"primaryThumbprint":"xyz"}}})",
       ErrorCode::kArgumentInvalid},
      {R"({"capabilities":{"iotEdge":"yes"}})", ErrorCode::kArgumentInvalid},
      {R"({"parentScopes":"p"})", ErrorCode::kArgumentInvalid},
  };
  for (const auto& c : kCases) {
    for (const bool update : {false, true}) {
      HttpHeaders headers = {{"Content-Type", "application/json"}};
      if (update) headers.emplace_back("If-Match", "\"*\"");
      EXPECT_TRUE(IsError(
          hub.Call("PUT", SdkHub::DevicePath("d"), c.body, headers), c.code))
          << c.body;
    }
  }
  const std::string reason(kTwinStatusReasonLengthMax + 1, 'r');
  EXPECT_TRUE(IsError(
      hub.CreateDevice("d", absl::StrCat(R"(,"statusReason":")", reason, "\"")),
      ErrorCode::kArgumentInvalid));
  EXPECT_FALSE(Exists(hub, "d"));
}

TEST(CreateDevice, ErrorsDoNotShowKeys) {
  SdkHub hub;
  for (absl::string_view key : {"c2VjcmV0", "secret secret secret"}) {
    const RestAnswer answer = hub.CreateDevice("d", WithSymmetricKeys(key, ""));
    EXPECT_TRUE(IsError(answer, ErrorCode::kArgumentInvalid));
    EXPECT_FALSE(absl::StrContains(answer.body, key)) << answer.body;
  }
}

// ------------------------------------------------------------------ update

TEST(UpdateDevice, ChangesWhatItSaysAndKeepsTheKeys) {
  SdkHub hub;
  const Json made = hub.CreateDevice("d").Document();
  ASSERT_EQ(hub.UpdateTwin("d", R"({"tags":{"a":1},"properties":{"desired":)"
                                R"({"b":2}}})")
                .status,
            200);
  hub.time.Advance(absl::Seconds(7));
  const RestAnswer answer =
      hub.UpdateDevice("d", R"(,"status":"disabled","statusReason":"lost")");
  ASSERT_EQ(answer.status, 200) << answer.body;
  const Json device = answer.Document();
  EXPECT_EQ(Text(device.view(), "status"), "disabled");
  EXPECT_EQ(Text(device.view(), "statusReason"), "lost");
  EXPECT_NE(Text(device.view(), "statusUpdatedTime"),
            Text(made.view(), "statusUpdatedTime"));
  EXPECT_NE(Text(device.view(), "etag"), Text(made.view(), "etag"));
  EXPECT_EQ(Text(device.view(), "generationId"),
            Text(made.view(), "generationId"));
  EXPECT_EQ(Key(device, "primaryKey"), kFirstKey);
  EXPECT_EQ(Key(device, "secondaryKey"), kSecondKey);
  const Json twin = hub.ReadTwin("d");
  EXPECT_EQ(Shown(twin.view().Find("tags")), R"({"a":1})");
  EXPECT_EQ(
      twin.view().Find("properties").Find("desired").Find("b").int_value(), 2);
  EXPECT_EQ(Text(twin.view(), "status"), "disabled");
  EXPECT_EQ(Text(twin.view(), "deviceEtag"), Text(device.view(), "etag"));
  // What it does not say is as in a new one.
  const Json again = hub.UpdateDevice("d", "").Document();
  EXPECT_EQ(Text(again.view(), "status"), "enabled");
  EXPECT_TRUE(again.view().Find("statusReason").is_null());
}

TEST(UpdateDevice, TakesKeysThatAreGiven) {
  SdkHub hub;
  hub.CreateDevice("d");
  Json device =
      hub.UpdateDevice("d", WithSymmetricKeys(kOwnKey, "")).Document();
  EXPECT_EQ(Key(device, "primaryKey"), kOwnKey);
  EXPECT_EQ(Key(device, "secondaryKey"), kSecondKey);
  // To certificates and back: the keys of before are gone.
  device = hub.UpdateDevice("d", WithThumbprint()).Document();
  EXPECT_EQ(Key(device, "primaryKey"), "");
  device = hub.UpdateDevice("d", "").Document();
  EXPECT_FALSE(Key(device, "primaryKey").empty());
  EXPECT_NE(Key(device, "primaryKey"), kOwnKey);
  EXPECT_FALSE(Key(device, "secondaryKey").empty());
  EXPECT_NE(Key(device, "secondaryKey"), kSecondKey);
}

TEST(UpdateDevice, MakesKeysForOneThatCameAsATwin) {
  SdkHub hub;
  hub.AddTwin("t", R"("tags":{"a":1})");
  EXPECT_EQ(Key(Device(hub, "t"), "primaryKey"), "");
  const RestAnswer answer = hub.UpdateDevice("t", "");
  ASSERT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(Key(answer.Document(), "primaryKey"), kFirstKey);
  EXPECT_EQ(Key(answer.Document(), "secondaryKey"), kSecondKey);
  EXPECT_EQ(Shown(hub.ReadTwin("t").view().Find("tags")), R"({"a":1})");
}

TEST(UpdateDevice, WithoutAuthenticationItStays) {
  SdkHub hub;
  const auto authentication = [&](absl::string_view id) {
    return Shown(Device(hub, id).view().Find("authentication"));
  };
  hub.CreateDevice("keys", WithSymmetricKeys(kOwnKey, kSecondKey));
  hub.CreateDevice("certificate", WithThumbprint());
  hub.CreateDevice("authority",
                   R"(,"authentication":{"type":"certificateAuthority"})");
  for (absl::string_view id : {"keys", "certificate", "authority"}) {
    const std::string before = authentication(id);
    for (absl::string_view body :
         {R"({"status":"disabled"})",
          R"({"status":"enabled","authentication":null})",
          R"({"status":"disabled","authentication":{}})"}) {
      const RestAnswer answer = hub.Call("PUT", SdkHub::DevicePath(id), body,
                                         {{"If-Match", "\"*\""}});
      EXPECT_EQ(answer.status, 200) << answer.body;
      EXPECT_EQ(Shown(answer.Document().view().Find("authentication")), before)
          << body;
    }
    EXPECT_EQ(Text(Device(hub, id).view(), "status"), "disabled") << id;
    EXPECT_EQ(authentication(id), before);
    EXPECT_EQ(
        Bulk(hub, absl::StrCat(R"([{"id":")", id, R"(","importMode":"update",)",
                               R"("status":"enabled"}])"))
            .body,
        R"({"isSuccessful":true,"errors":[],"warnings":[]})");
    EXPECT_EQ(Text(Device(hub, id).view(), "status"), "enabled") << id;
    EXPECT_EQ(authentication(id), before);
  }
  // One that came as a twin gets its keys all the same.
  hub.AddTwin("t");
  const Json device =
      hub.Call("PUT", SdkHub::DevicePath("t"), "{}", {{"If-Match", "\"*\""}})
          .Document();
  EXPECT_FALSE(Key(device, "primaryKey").empty());
  EXPECT_FALSE(Key(device, "secondaryKey").empty());
}

// The other's keys have been answered already.
TEST(UpdateDevice, TwoThatMakeTheKeysAtOnceSeeTheSame) {
  SdkHub* hub = nullptr;
  bool other_is_due = true;
  Json other;
  uint8_t next = 0;
  SdkHub the_hub({}, {}, [&](absl::Span<uint8_t> bytes) {
    for (uint8_t& byte : bytes) byte = next++;
    if (!std::exchange(other_is_due, false)) return;
    other = hub->UpdateDevice("t", R"(,"statusReason":"other")").Document();
  });
  hub = &the_hub;
  hub->AddTwin("t");
  const Json one =
      hub->UpdateDevice("t", R"(,"statusReason":"one")").Document();
  ASSERT_FALSE(other_is_due);
  EXPECT_EQ(Text(one.view(), "statusReason"), "one");
  for (const char* which : {"primaryKey", "secondaryKey"}) {
    EXPECT_FALSE(Key(other, which).empty());
    EXPECT_EQ(Key(one, which), Key(other, which)) << which;
    EXPECT_EQ(Key(Device(*hub, "t"), which), Key(other, which)) << which;
  }
}

TEST(UpdateDevice, NeedsTheEtag) {
  SdkHub hub;
  EXPECT_TRUE(IsError(hub.UpdateDevice("d", ""), ErrorCode::kDeviceNotFound));
  EXPECT_FALSE(Exists(hub, "d"));
  hub.CreateDevice("d");
  const std::string old = Etag(hub, "d");
  EXPECT_EQ(hub.UpdateDevice("d", "", old).status, 200);
  const std::string now = Etag(hub, "d");
  EXPECT_NE(now, old);
  EXPECT_TRUE(IsError(hub.UpdateDevice("d", R"(,"status":"disabled")", old),
                      ErrorCode::kPreconditionFailed));
  EXPECT_EQ(Etag(hub, "d"), now);
  EXPECT_EQ(Text(Device(hub, "d").view(), "status"), "enabled");
  // Spellings of contract 6.7.
  for (const std::string& if_match :
       {std::string("*"), std::string("\"*\""), std::string("current"),
        std::string("\"current\""), std::string("W/\"current\"")}) {
    const std::string header =
        absl::StrReplaceAll(if_match, {{"current", Etag(hub, "d")}});
    EXPECT_EQ(hub.Call("PUT", SdkHub::DevicePath("d"), R"({"deviceId":"d"})",
                       {{"If-Match", header}})
                  .status,
              200)
        << header;
  }
  // The twin's etag is another one.
  EXPECT_EQ(hub.UpdateTwin("d", R"({"tags":{"a":1}})").status, 200);
  EXPECT_EQ(hub.UpdateDevice("d", "", Etag(hub, "d")).status, 200);
}

// --------------------------------------------------------- get and delete

TEST(GetDevice, ShowsTheConnection) {
  SdkHub hub;
  EXPECT_TRUE(IsError(hub.Call("GET", SdkHub::DevicePath("d")),
                      ErrorCode::kDeviceNotFound));
  hub.Add("d", /*connected=*/false);
  hub.time.Advance(absl::Seconds(5));
  hub.Connect("d");
  const Json device = Device(hub, "d");
  EXPECT_EQ(Text(device.view(), "connectionState"), "Connected");
  EXPECT_TRUE(
      absl::StartsWith(Text(device.view(), "connectionStateUpdatedTime"),
                       absl::FormatTime("%Y-%m-%dT%H:%M:%S", hub.time.Now(),
                                        absl::UTCTimeZone())))
      << Shown(device.view());
  hub.Connect("d", false);
  EXPECT_EQ(Text(Device(hub, "d").view(), "connectionState"), "Disconnected");
}

TEST(DeleteDevice, TakesTheTwinToo) {
  SdkHub hub;
  const Json made = hub.CreateDevice("d").Document();
  const RestAnswer deleted = hub.DeleteDevice("d");
  EXPECT_EQ(deleted.status, 204);
  EXPECT_EQ(deleted.body, "");
  EXPECT_FALSE(Exists(hub, "d"));
  EXPECT_TRUE(IsError(hub.DeleteDevice("d"), ErrorCode::kDeviceNotFound));
  // Made anew, it is another one.
  const Json again = hub.CreateDevice("d").Document();
  EXPECT_NE(Text(again.view(), "generationId"),
            Text(made.view(), "generationId"));
  EXPECT_NE(Key(again, "primaryKey"), Key(made, "primaryKey"));
}

TEST(DeleteDevice, NeedsTheEtag) {
  SdkHub hub;
  hub.CreateDevice("d");
  const std::string old = Etag(hub, "d");
  hub.UpdateDevice("d", "");
  const auto remove = [&](HttpHeaders headers) {
    return hub.Call("DELETE", SdkHub::DevicePath("d"), std::nullopt,
                    std::move(headers));
  };
  EXPECT_TRUE(IsError(remove({{"If-Match", absl::StrCat("\"", old, "\"")}}),
                      ErrorCode::kPreconditionFailed));
  EXPECT_TRUE(Exists(hub, "d"));
  EXPECT_EQ(
      remove({{"If-Match", absl::StrCat("\"", Etag(hub, "d"), "\"")}}).status,
      204);
  // Without: whatever it has.
  hub.CreateDevice("d");
  EXPECT_EQ(remove({}).status, 204);
  EXPECT_FALSE(Exists(hub, "d"));
}

// ------------------------------------------------------------------- lists

std::vector<std::string> Ids(const RestAnswer& answer) {
  EXPECT_EQ(answer.status, 200) << answer.body;
  const Json json = answer.Document();
  EXPECT_TRUE(json.view().is_array());
  std::vector<std::string> ids;
  for (const JsonView device : json.view().elements()) {
    ids.push_back(Text(device, "deviceId"));
  }
  return ids;
}

TEST(ListDevices, AsBothClientsAsk) {
  SdkHub hub;
  EXPECT_EQ(hub.Call("GET", "/devices/?api-version=2021-04-12").body, "[]");
  for (absl::string_view id : {"c", "a", "b"}) hub.CreateDevice(id);
  const RestAnswer all = hub.Call("GET", "/devices/?api-version=2021-04-12");
  EXPECT_EQ(Ids(all), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(Shown(all.Document().view().At(1)), Shown(Device(hub, "b").view()));
  EXPECT_EQ(Ids(hub.Call("GET", "/devices?top=2&api-version=2020-09-30")),
            (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(Ids(hub.Call("GET", "/devices?api-version=2020-09-30")).size(), 3u);
}

TEST(ListDevices, AtMostAThousand) {
  SdkHub hub;
  for (int i = 0; i < 1001; ++i) hub.AddTwin(absl::StrCat("d", 1000 + i));
  const std::vector<std::string> ids =
      Ids(hub.Call("GET", "/devices/?api-version=2021-04-12"));
  ASSERT_EQ(ids.size(), 1000u);
  EXPECT_EQ(ids.front(), "d1000");
  EXPECT_EQ(ids.back(), "d1999");
  EXPECT_EQ(
      Ids(hub.Call("GET", "/devices?top=1000&api-version=2020-09-30")).size(),
      1000u);
  EXPECT_EQ(
      Ids(hub.Call("GET", "/devices?top=1&api-version=2020-09-30")).size(), 1u);
  // Any value outside of 1 to 1000 is considered to be 1000.
  for (absl::string_view top :
       {"0", "-1", "1001", "99999999999", "-99999999999",
        "99999999999999999999999999999999999999999999"}) {
    EXPECT_EQ(Ids(hub.Call("GET", absl::StrCat("/devices?top=", top,
                                               "&api-version=2020-09-30")))
                  .size(),
              1000u)
        << top;
  }
  for (absl::string_view top : {"x", "1.5", "-", "1x", "%201"}) {
    EXPECT_TRUE(IsError(
        hub.Call("GET",
                 absl::StrCat("/devices?top=", top, "&api-version=2020-09-30")),
        ErrorCode::kArgumentInvalid))
        << top;
  }
}

TEST(ListModules, ThereAreNone) {
  SdkHub hub;
  // As getModulesOnDevice() asks.
  const std::string path = "/devices/d%231/modules?api-version=2021-04-12";
  EXPECT_TRUE(IsError(hub.Call("GET", path), ErrorCode::kDeviceNotFound));
  hub.CreateDevice("d#1");
  EXPECT_EQ(hub.Call("GET", path).body, "[]");
}

TEST(Statistics, CountDevices) {
  SdkHub hub;
  const auto devices = [&] {
    return hub.Call("GET", "/statistics/devices?api-version=2021-04-12").body;
  };
  const auto service = [&] {
    return hub.Call("GET", "/statistics/service?api-version=2021-04-12").body;
  };
  EXPECT_EQ(devices(), R"({"totalDeviceCount":0,"enabledDeviceCount":0,)"
                       R"("disabledDeviceCount":0})");
  EXPECT_EQ(service(), R"({"connectedDeviceCount":0})");
  hub.Add("a");
  hub.Add("b");
  hub.Add("c", /*connected=*/false);
  hub.CreateDevice("off", R"(,"status":"disabled")");
  EXPECT_EQ(devices(), R"({"totalDeviceCount":4,"enabledDeviceCount":3,)"
                       R"("disabledDeviceCount":1})");
  EXPECT_EQ(service(), R"({"connectedDeviceCount":2})");
  hub.DeleteDevice("off");
  hub.Connect("a", false);
  EXPECT_EQ(devices(), R"({"totalDeviceCount":3,"enabledDeviceCount":3,)"
                       R"("disabledDeviceCount":0})");
  EXPECT_EQ(service(), R"({"connectedDeviceCount":1})");
}

// -------------------------------------------------------------------- bulk

constexpr char kBulkOk[] = R"({"isSuccessful":true,"errors":[],"warnings":[]})";

// Rows of errors: device ids and codes, in their order.
std::string Errors(const RestAnswer& answer) {
  EXPECT_EQ(answer.status, 400) << answer.body;
  EXPECT_EQ(answer.error(), "BulkRegistryOperationFailure") << answer.body;
  const Json json = answer.Document();
  EXPECT_TRUE(json.view().Find("isSuccessful").is_bool() &&
              !json.view().Find("isSuccessful").bool_value())
      << answer.body;
  EXPECT_EQ(Shown(json.view().Find("warnings")), "[]");
  std::string errors;
  for (const JsonView error : json.view().Find("errors").elements()) {
    absl::StrAppend(&errors, errors.empty() ? "" : " ", Text(error, "deviceId"),
                    ":",
                    error.Find("errorCode").is_integer()
                        ? error.Find("errorCode").int_value()
                        : 0);
    EXPECT_FALSE(Text(error, "errorStatus").empty()) << answer.body;
  }
  return errors;
}

// As addDevices() writes it.
std::string Row(absl::string_view id, absl::string_view mode,
                absl::string_view more = "") {
  return absl::StrCat(R"({"id":")", id, R"(","importMode":")", mode, "\"", more,
                      absl::StrContains(more, "\"authentication\"")
                          ? ""
                          : R"(,"authentication":{"type":"sas","symmetricKey":)"
                            R"({"primaryKey":"","secondaryKey":""}})",
                      "}");
}

TEST(BulkDevices, Create) {
  SdkHub hub;
  const RestAnswer answer =
      Bulk(hub, absl::StrCat("[", Row("a", "create"), ",",
                             Row("b", "create", WithSymmetricKeys(kOwnKey, "")),
                             ",", Row("c", "create", WithThumbprint()), "]"));
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, kBulkOk);
  EXPECT_EQ(Key(Device(hub, "a"), "primaryKey"), kFirstKey);
  EXPECT_EQ(Key(Device(hub, "a"), "secondaryKey"), kSecondKey);
  EXPECT_EQ(Key(Device(hub, "b"), "primaryKey"), kOwnKey);
  EXPECT_EQ(Text(Device(hub, "c").view().Find("authentication"), "type"),
            "selfSigned");
}

TEST(BulkDevices, PartialFailure) {
  SdkHub hub;
  hub.CreateDevice("b");
  const RestAnswer answer = Bulk(
      hub, absl::StrCat("[", Row("a", "create"), ",", Row("b", "create"), ",",
                        Row("c", "create", R"(,"status":"broken")"), ",",
                        Row("d d", "create"), ",", Row("e", "create"), "]"));
  EXPECT_EQ(Errors(answer), "b:409001 c:400004 d d:400004");
  EXPECT_TRUE(Exists(hub, "a"));
  EXPECT_FALSE(Exists(hub, "c"));
  EXPECT_TRUE(Exists(hub, "e"));
  // Byte by byte, as the hub writes such a row.
  const RestAnswer one = Bulk(hub, R"([{"id":"z","importMode":"Delete"}])");
  const Json json = one.Document();
  EXPECT_EQ(
      one.body,
      absl::StrCat(R"({"isSuccessful":false,"errors":[{"deviceId":"z",)",
                   R"("errorCode":404001,"errorStatus":)",
                   Shown(json.view().Find("errors").At(0).Find("errorStatus")),
                   R"(}],"warnings":[]})"));
}

TEST(BulkDevices, UpdateAndDelete) {
  SdkHub hub;
  for (absl::string_view id : {"a", "b", "c", "d"}) hub.CreateDevice(id);
  const std::string a = Etag(hub, "a");
  const std::string key = Key(Device(hub, "a"), "primaryKey");
  const std::string disable = R"(,"status":"disabled")";
  // As updateDevices() and removeDevices() write it, with force and without:
  // the latter with what get() has given.
  EXPECT_EQ(
      Errors(Bulk(
          hub,
          absl::StrCat("[",
                       Row("a", "UpdateIfMatchETag",
                           absl::StrCat(disable, R"(,"etag":")", a, "\"")),
                       ",",
                       Row("b", "UpdateIfMatchETag",
                           absl::StrCat(disable, R"(,"eTag":"AAAAAAAAAP8=")")),
                       ",", Row("c", "Update", disable), ",",
                       Row("d", "UpdateIfMatchETag", disable), ",",
                       Row("x", "Update", disable), "]"))),
      "b:412001 d:400005 x:404001");
  const auto status = [&](absl::string_view id) {
    return Text(Device(hub, id).view(), "status");
  };
  EXPECT_EQ(status("a"), "disabled");
  EXPECT_EQ(Key(Device(hub, "a"), "primaryKey"), key);
  EXPECT_EQ(status("b"), "enabled");
  EXPECT_EQ(status("c"), "disabled");
  EXPECT_EQ(status("d"), "enabled");
  EXPECT_FALSE(Exists(hub, "x"));

  EXPECT_EQ(
      Errors(Bulk(hub, absl::StrCat("[",
                                    Row("a", "DeleteIfMatchETag",
                                        absl::StrCat(R"(,"etag":")", a, "\"")),
                                    ",",
                                    Row("b", "DeleteIfMatchETag",
                                        absl::StrCat(R"(,"eTag":"\")",
                                                     Etag(hub, "b"), R"(\"")")),
                                    ",", Row("c", "Delete"), ",",
                                    Row("x", "Delete"), "]"))),
      "a:412001 x:404001");
  EXPECT_TRUE(Exists(hub, "a"));
  EXPECT_FALSE(Exists(hub, "b"));
  EXPECT_FALSE(Exists(hub, "c"));
  EXPECT_TRUE(Exists(hub, "d"));
}

TEST(BulkDevices, UpdateMakesMissingKeys) {
  SdkHub hub;
  hub.AddTwin("t");
  EXPECT_EQ(Bulk(hub, absl::StrCat("[", Row("t", "update"), "]")).body,
            kBulkOk);
  EXPECT_EQ(Key(Device(hub, "t"), "primaryKey"), kFirstKey);
}

TEST(BulkDevices, CreateOrUpdate) {
  SdkHub hub;
  hub.CreateDevice("old");
  hub.CreateDevice("guarded");
  hub.CreateDevice("unguarded");
  const std::string key = Key(Device(hub, "old"), "primaryKey");
  const std::string disable = R"(,"status":"disabled")";
  // The last one has no importMode: the same as the first.
  EXPECT_EQ(
      Errors(Bulk(
          hub,
          absl::StrCat(
              "[", Row("old", "createOrUpdate", disable), ",",
              Row("new", "createOrUpdate", disable), ",",
              Row("guarded", "createOrUpdateIfMatchETag",
                  absl::StrCat(disable, R"(,"eTag":"AAAAAAAAAP8=")")),
              ",",
              Row("newer", "createOrUpdateIfMatchETag",
                  absl::StrCat(disable, R"(,"eTag":"AAAAAAAAAP8=")")),
              ",", Row("newer-still", "createOrUpdateIfMatchETag", disable),
              ",", Row("unguarded", "createOrUpdateIfMatchETag", disable), ",",
              R"({"id":"newest","status":"disabled"})", "]"))),
      "guarded:412001 unguarded:409001");
  for (absl::string_view id :
       {"old", "new", "newer", "newer-still", "newest"}) {
    const Json device = Device(hub, id);
    EXPECT_EQ(Text(device.view(), "status"), "disabled") << id;
    EXPECT_FALSE(Key(device, "primaryKey").empty()) << id;
    EXPECT_FALSE(Key(device, "secondaryKey").empty()) << id;
  }
  EXPECT_EQ(Key(Device(hub, "old"), "primaryKey"), key);
  EXPECT_EQ(Text(Device(hub, "guarded").view(), "status"), "enabled");
}

TEST(BulkDevices, WithTwins) {
  SdkHub hub;
  hub.CreateDevice("old");
  hub.CreateDevice("other");
  hub.CreateDevice("third");
  hub.UpdateTwin("old", R"({"tags":{"kept":1}})");
  const std::string twin =
      R"(,"tags":{"ring":"fast"},"properties":{"desired":{"fw":"2.1",)"
      R"("$version":7,"$metadata":{"$lastUpdated":"2031-03-01T00:00:00Z"}},)"
      R"("reported":{}})";
  EXPECT_EQ(
      Errors(Bulk(
          hub,
          absl::StrCat("[", Row("a", "create", twin), ",",
                       Row("old", "updateTwin", twin), ",",
                       Row("other", "updateTwinIfMatchETag",
                           absl::StrCat(twin, R"(,"twinETag":"AAAAAAAAAP8=")")),
                       ",", Row("x", "updateTwin", twin), ",",
                       Row("b", "create", R"(,"tags":{"bad key":1})"), ",",
                       Row("c", "createOrUpdate",
                           absl::StrCat(twin, R"(,"twinETag":"AAAAAAAAAP8=")")),
                       "]"))),
      "other:412001 x:404001 b:400004");
  const auto tags = [&](absl::string_view id) {
    return Shown(hub.ReadTwin(id).view().Find("tags"));
  };
  EXPECT_EQ(tags("a"), R"({"ring":"fast"})");
  EXPECT_EQ(
      Text(hub.ReadTwin("a").view().Find("properties").Find("desired"), "fw"),
      "2.1");
  EXPECT_EQ(tags("old"), R"({"kept":1,"ring":"fast"})");
  EXPECT_EQ(tags("c"), R"({"ring":"fast"})");
  EXPECT_FALSE(Exists(hub, "b"));
  // A twin's change leaves the identity alone.
  EXPECT_EQ(Etag(hub, "old"), "AAAAAAAAAAE=");
  // With the right etag.
  EXPECT_EQ(
      Bulk(hub, absl::StrCat(
                    "[",
                    Row("other", "UpdateTwinIfMatchETag",
                        absl::StrCat(twin, R"(,"twinETag":")",
                                     Text(hub.ReadTwin("other").view(), "etag"),
                                     "\"")),
                    "]"))
          .body,
      kBulkOk);
  EXPECT_EQ(tags("other"), R"({"ring":"fast"})");
}

// The text of the first error.
std::string ErrorStatus(const RestAnswer& answer) {
  return Text(answer.Document().view().Find("errors").At(0), "errorStatus");
}

TEST(BulkDevices, SaysThatTheTwinAloneFailed) {
  SdkHub hub;
  hub.CreateDevice("old");
  RestAnswer answer = Bulk(
      hub,
      absl::StrCat(
          "[",
          Row("old", "createOrUpdate",
              R"(,"status":"disabled","tags":{"a":1},"twinETag":"AAAAAAAAAP8=")"),
          "]"));
  EXPECT_EQ(Errors(answer), "old:412001");
  EXPECT_TRUE(absl::StartsWith(ErrorStatus(answer),
                               "the device was changed, its twin was not: "))
      << answer.body;
  EXPECT_EQ(Text(Device(hub, "old").view(), "status"), "disabled");
  // Where the twin is all that was asked for, there is nothing to add.
  answer = Bulk(
      hub, absl::StrCat("[",
                        Row("old", "updateTwinIfMatchETag",
                            R"(,"tags":{"a":1},"twinETag":"AAAAAAAAAP8=")"),
                        "]"));
  EXPECT_EQ(Errors(answer), "old:412001");
  EXPECT_FALSE(absl::StrContains(ErrorStatus(answer), "the device was"));
  // What is wrong with the twin itself is seen before anything is made.
  std::string large = R"(,"properties":{"desired":{)";  // 32 KiB are allowed.
  for (int i = 0; i < 10; ++i) {
    absl::StrAppend(&large, i > 0 ? "," : "", "\"p", i, "\":\"",
                    std::string(4'000, 'x'), "\"");
  }
  large += "}}";
  EXPECT_EQ(
      Errors(Bulk(hub, absl::StrCat("[", Row("new", "create", large), "]"))),
      "new:413001");
  EXPECT_FALSE(Exists(hub, "new"));
}

// Takes so many chunks, and then is full.
class FillingJournal : public ForwardingJournal {
 public:
  void Append(int partition, uint64_t epoch, uint64_t sequence,
              std::string chunk, Done done) override {
    if (room == 0) {
      std::move(done)(absl::ResourceExhaustedError("the disk is full"));
      return;
    }
    --room;
    ForwardingJournal::Append(partition, epoch, sequence, std::move(chunk),
                              std::move(done));
  }

  int room = 1'000'000;
};

TEST(BulkDevices, TheJournalFailsInTheMiddle) {
  FillingJournal journal;
  SdkHub hub({.journal = &journal});
  const std::string row = Row("d", "create", R"(,"tags":{"a":1})");
  journal.room = 1;
  RestAnswer answer = Bulk(hub, absl::StrCat("[", row, "]"));
  // One was made: that is more than nothing.
  EXPECT_EQ(Errors(answer), "d:503001");
  EXPECT_TRUE(absl::StartsWith(ErrorStatus(answer),
                               "the device was made, its twin was not: "))
      << answer.body;
  EXPECT_TRUE(Exists(hub, "d"));
  // Nothing at all, and no row is to blame.
  EXPECT_TRUE(IsError(Bulk(hub, absl::StrCat("[", Row("d", "update"), "]")),
                      ErrorCode::kServiceUnavailable));
  journal.room = 1'000'000;
}

TEST(BulkDevices, OneDeviceTwice) {
  SdkHub hub;
  EXPECT_EQ(Errors(Bulk(hub, absl::StrCat("[", Row("a", "create"), ",",
                                          Row("a", "delete"), "]"))),
            "a:400011");
  EXPECT_TRUE(Exists(hub, "a"));
}

TEST(BulkDevices, ModulesAreNotTheirDevices) {
  SdkHub hub;
  hub.CreateDevice("a");
  const std::string module = R"(,"moduleId":"m")";
  EXPECT_EQ(
      Errors(Bulk(hub,
                  absl::StrCat("[", Row("a", "delete", module), ",",
                               Row("a", "create", module), ",",
                               Row("a", "updateTwin",
                                   absl::StrCat(module, R"(,"tags":{"x":1})")),
                               ",",
                               Row("a", "update",
                                   R"(,"status":"disabled",)"
                                   R"("moduleId":null)"),
                               "]"))),
      "a:404013 a:404013 a:404013");
  EXPECT_EQ(Text(Device(hub, "a").view(), "status"), "disabled");
  EXPECT_EQ(Shown(hub.ReadTwin("a").view().Find("tags")), "{}");
}

TEST(BulkDevices, AtMostAHundred) {
  SdkHub hub;
  std::string rows = "[";
  for (int i = 0; i < 100; ++i) {
    absl::StrAppend(&rows, i > 0 ? "," : "",
                    Row(absl::StrCat("d", i), "create"));
  }
  EXPECT_EQ(Bulk(hub, absl::StrCat(rows, "]")).body, kBulkOk);
  EXPECT_TRUE(
      IsError(Bulk(hub, absl::StrCat(rows, ",", Row("more", "create"), "]")),
              ErrorCode::kArgumentInvalid));
  EXPECT_FALSE(Exists(hub, "more"));
  EXPECT_EQ(Bulk(hub, "[]").body, kBulkOk);
}

TEST(BulkDevices, BadRequestsChangeNothing) {
  SdkHub hub;
  const struct {
    absl::string_view row;
    ErrorCode code;
  } kCases[] = {
      {R"({"importMode":"create"})", ErrorCode::kArgumentNull},
      {R"({"id":null,"importMode":"create"})", ErrorCode::kArgumentNull},
      {R"({"id":"","importMode":"create"})", ErrorCode::kArgumentNull},
      {R"({"id":7,"importMode":"create"})", ErrorCode::kArgumentInvalid},
      {R"({"id":"b","importMode":"upsert"})", ErrorCode::kArgumentInvalid},
      {R"({"id":"b","importMode":1})", ErrorCode::kArgumentInvalid},
      {R"({"id":"b","importMode":"update","eTag":1})",
       ErrorCode::kArgumentInvalid},
      {R"({"id":"b","importMode":"update","twinETag":{}})",
       ErrorCode::kArgumentInvalid},
      {R"({"id":"b","moduleId":7})", ErrorCode::kArgumentInvalid},
      {R"({"id":"b","id":"c"})", ErrorCode::kIotHubFormatError},
      {R"("b")", ErrorCode::kArgumentInvalid},
  };
  for (const auto& c : kCases) {
    EXPECT_TRUE(IsError(
        Bulk(hub, absl::StrCat("[", Row("a", "create"), ",", c.row, "]")),
        c.code))
        << c.row;
  }
  for (absl::string_view body : {"{}", "[", "null", R"({"id":"a"})"}) {
    EXPECT_TRUE(IsError(Bulk(hub, body), ErrorCode::kIotHubFormatError))
        << body;
  }
  EXPECT_FALSE(Exists(hub, "a"));
}

// ---------------------------------------------------------- what they share

TEST(DeviceRoutes, Permissions) {
  SdkHub hub;
  hub.CreateDevice("d");
  struct Case {
    absl::string_view method;
    std::string target;
    absl::string_view body;
    bool write;
  };
  const Case kCases[] = {
      {"PUT", SdkHub::DevicePath("e"), "{}", true},
      {"GET", SdkHub::DevicePath("d"), "", false},
      {"GET", "/devices/?api-version=2021-04-12", "", false},
      {"POST", kBulk, "[]", true},
      {"GET", "/statistics/devices?api-version=2021-04-12", "", false},
      {"GET", "/statistics/service?api-version=2021-04-12", "", false},
      {"DELETE", SdkHub::DevicePath("e"), "", true},
  };
  for (const Case& c : kCases) {
    for (absl::string_view policy :
         {"service", "device", "registryRead", "registryReadWrite"}) {
      hub.policy = std::string(policy);
      const RestAnswer answer =
          hub.Call(c.method, c.target,
                   c.body.empty() ? std::nullopt : std::make_optional(c.body));
      const bool may = policy == "registryReadWrite" ||
                       (policy == "registryRead" && !c.write);
      if (may) {
        EXPECT_LT(answer.status, 300) << c.target << " " << policy;
      } else {
        EXPECT_TRUE(IsError(answer, ErrorCode::kIotHubUnauthorizedAccess))
            << c.target << " " << policy;
      }
    }
    // Nobody at all.
    const RestAnswer answer = hub.Send(c.method, c.target, c.body);
    EXPECT_TRUE(IsError(answer, ErrorCode::kIotHubUnauthorized)) << c.target;
  }
}

TEST(DeviceRoutes, VerbsPathsAndMediaTypes) {
  SdkHub hub;
  for (absl::string_view method : {"PATCH", "POST"}) {
    EXPECT_TRUE(IsError(hub.Call(method, SdkHub::DevicePath("d"), "{}"),
                        ErrorCode::kGenericMethodNotAllowed));
  }
  EXPECT_TRUE(
      IsError(hub.Call("DELETE", kBulk), ErrorCode::kGenericMethodNotAllowed));
  EXPECT_TRUE(
      IsError(hub.Call("GET", "/statistics/jobs?api-version=2021-04-12"),
              ErrorCode::kGenericNotFound));
  EXPECT_TRUE(
      IsError(hub.Call("GET", "/devices/d"), ErrorCode::kDeviceNotFound));
  EXPECT_TRUE(IsError(hub.Call("GET", "/devices/d?api-version="),
                      ErrorCode::kInvalidProtocolVersion));
  EXPECT_TRUE(IsError(hub.Call("PUT", SdkHub::DevicePath("d"), "<d/>",
                               {{"Content-Type", "application/xml"}}),
                      ErrorCode::kGenericUnsupportedMediaType));
}

TEST(DeviceRoutes, RateOfIdentityOperations) {
  SdkHub hub({.profile = *FindProfile("s1")});
  hub.CreateDevice("d");
  int passed = 1;
  RestAnswer answer;
  while ((answer = hub.Call("GET", SdkHub::DevicePath("d"))).status == 200) {
    ASSERT_LT(++passed, 1000);
  }
  EXPECT_EQ(passed, 100);  // Contract 9.2: a minute's worth.
  EXPECT_TRUE(IsError(answer, ErrorCode::kThrottlingException));
  hub.time.Advance(absl::Minutes(1));
  EXPECT_TRUE(Exists(hub, "d"));
}

TEST(DeviceRoutes, IdentitiesOutliveARestart) {
  const std::unique_ptr<Journal> journal = *MakeMemoryJournal(
      {.partition_count = 4,
       .retained_bytes_max = MemoryJournalOptions::kRetainAll});
  SdkHub hub({.journal = journal.get()});
  hub.CreateDevice("a");
  hub.CreateDevice("b", WithThumbprint());
  hub.CreateDevice("c");
  hub.UpdateDevice("b", R"(,"status":"disabled","statusReason":"lost")");
  hub.DeleteDevice("c");
  EXPECT_EQ(Bulk(hub, absl::StrCat("[", Row("d", "create"), "]")).body,
            kBulkOk);
  const std::string before =
      hub.Call("GET", "/devices/?api-version=2021-04-12").body;
  const std::string counts =
      hub.Call("GET", "/statistics/devices?api-version=2021-04-12").body;
  hub.Restart();
  EXPECT_EQ(hub.Call("GET", "/devices/?api-version=2021-04-12").body, before);
  EXPECT_EQ(hub.Call("GET", "/statistics/devices?api-version=2021-04-12").body,
            counts);
  EXPECT_FALSE(Exists(hub, "c"));
  EXPECT_TRUE(IsError(hub.CreateDevice("a"), ErrorCode::kDeviceAlreadyExists));
}

TEST(DeviceRoutes, AfterTheEnginesEnd) {
  SdkHub hub;
  hub.CreateDevice("d");
  hub.engine().Stop();
  EXPECT_TRUE(Exists(hub, "d"));
  EXPECT_TRUE(IsError(hub.CreateDevice("e"), ErrorCode::kServiceUnavailable));
  EXPECT_TRUE(
      IsError(hub.UpdateDevice("d", ""), ErrorCode::kServiceUnavailable));
  EXPECT_TRUE(IsError(hub.DeleteDevice("d"), ErrorCode::kServiceUnavailable));
  // No row is to blame.
  EXPECT_TRUE(IsError(Bulk(hub, absl::StrCat("[", Row("e", "create"), "]")),
                      ErrorCode::kServiceUnavailable));
}

}  // namespace
}  // namespace muster
