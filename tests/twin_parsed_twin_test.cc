// ParseTwin: what is taken from a twin's document, and what is refused.
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/model/error.h"
#include "engine/model/instant.h"
#include "engine/model/json.h"
#include "engine/model/limits.h"
#include "engine/twin/activity_time.h"
#include "engine/twin/parsed_twin.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

Json Parsed(absl::string_view text) {
  absl::StatusOr<Json> json = ParseJson(text);
  EXPECT_TRUE(json.ok()) << json.status() << " in " << text;
  return json.ok() ? *std::move(json) : Json();
}

std::string TextOf(JsonView view) {
  return view.is_undefined() ? "" : JsonText(view);
}

TEST(ParseTwinTest, TakesEveryMember) {
  const Json document = Parsed(R"({
      "deviceId": "thermo-042", "etag": "AAAAAAAAAAk=", "version": 12,
      "deviceEtag": "NzA5", "status": "disabled", "statusReason": "",
      "statusUpdateTime": "2024-03-01T00:00:00Z", "modelId": "dtmi:x;1",
      "connectionState": "Connected", "cloudToDeviceMessageCount": 3,
      "lastActivityTime": "2024-03-01T12:30:45.123Z",
      "authenticationType": "sas",
      "x509Thumbprint": {"primaryThumbprint": null, "secondaryThumbprint": "s"},
      "capabilities": {"iotEdge": false}, "deviceScope": "ms-azure",
      "parentScopes": ["a", "b"], "moduleId": null, "unknown": {"$": []},
      "tags": {"region": "emea", "gone": null},
      "properties": {
        "desired": {"fw": {"v": "1.4"}, "$version": 4,
                    "$metadata": {"$lastUpdated": "2024-01-01T00:00:00Z"}},
        "reported": {"battery": 45.5, "$version": 17}}})");
  const absl::StatusOr<ParsedTwin> twin = ParseTwin(document.view());
  ASSERT_TRUE(twin.ok()) << twin.status();
  EXPECT_EQ(twin->device_id, "thermo-042");
  EXPECT_EQ(twin->etag, 9u);
  EXPECT_EQ(twin->version, 12);
  EXPECT_EQ(twin->desired_version, 4);
  EXPECT_EQ(twin->reported_version, 17);
  EXPECT_EQ(twin->connected, true);
  EXPECT_FALSE(twin->enabled);
  EXPECT_EQ(ActivityText(twin->last_activity_ticks, 3),
            "2024-03-01T12:30:45.123Z");
  EXPECT_EQ(twin->last_activity_digits, 3);

  EXPECT_EQ(TextOf(twin->tags), R"({"gone":null,"region":"emea"})");
  EXPECT_EQ(twin->tags_size, 10u);
  EXPECT_TRUE(twin->desired.is_object());
  EXPECT_EQ(twin->desired_size, 2u + 1 + 3);
  EXPECT_TRUE(twin->has_desired_members);
  EXPECT_EQ(TextOf(twin->reported), R"({"$version":17,"battery":45.5})");
  EXPECT_EQ(twin->reported_size, 7u + 8);
  // Views into the document.
  EXPECT_EQ(twin->tags.bytes().data(),
            document.view().Find("tags").bytes().data());

  std::string roots;
  for (const ParsedTwin::Root& root : twin->roots) {
    absl::StrAppend(&roots, root.name, "=", JsonText(root.value), "\n");
  }
  EXPECT_EQ(roots,
            "authenticationType=\"sas\"\n"
            "capabilities={\"iotEdge\":false}\n"
            "cloudToDeviceMessageCount=3\n"
            "deviceEtag=\"NzA5\"\n"
            "deviceScope=\"ms-azure\"\n"
            "modelId=\"dtmi:x;1\"\n"
            "parentScopes=[\"a\",\"b\"]\n"
            "statusReason=\"\"\n"
            "statusUpdateTime=\"2024-03-01T00:00:00Z\"\n"
            "x509Thumbprint={\"primaryThumbprint\":null,"
            "\"secondaryThumbprint\":\"s\"}\n");
}

TEST(ParseTwinTest, OnlyTheIdIsRequired) {
  for (const char* text :
       {R"({"deviceId":"a"})",
        R"({"deviceId":"a","tags":null,"properties":null,"etag":null,
            "version":null,"status":null,"connectionState":null,
            "lastActivityTime":null,"capabilities":null,"moduleId":null})",
        R"({"deviceId":"a","properties":{"desired":null,"reported":null}})"}) {
    const Json document = Parsed(text);
    const absl::StatusOr<ParsedTwin> twin = ParseTwin(document.view());
    ASSERT_TRUE(twin.ok()) << twin.status();
    EXPECT_EQ(twin->device_id, "a");
    EXPECT_TRUE(twin->tags.is_undefined());
    EXPECT_TRUE(twin->desired.is_undefined());
    EXPECT_TRUE(twin->reported.is_undefined());
    EXPECT_EQ(twin->tags_size + twin->desired_size + twin->reported_size, 0u);
    EXPECT_FALSE(twin->has_desired_members);
    EXPECT_TRUE(twin->roots.empty());
    EXPECT_EQ(twin->etag, std::nullopt);
    EXPECT_EQ(twin->version, std::nullopt);
    EXPECT_EQ(twin->desired_version, std::nullopt);
    EXPECT_EQ(twin->reported_version, std::nullopt);
    EXPECT_EQ(twin->connected, std::nullopt);
    EXPECT_TRUE(twin->enabled);
    EXPECT_EQ(twin->last_activity_ticks, kActivityNeverTicks);
    EXPECT_EQ(twin->last_activity_digits, 0);
  }
}

TEST(ParseTwinTest, DesiredMembersAreThoseThatAreStored) {
  const struct {
    absl::string_view desired;
    bool has_members;
  } kRows[] = {
      {"{}", false},
      {R"({"$version":4,"$metadata":{}})", false},
      {R"({"a":null})", false},
      {R"({"a":null,"b":{}})", true},
      {R"({"a":{"b":null}})", true},
  };
  for (const auto& row : kRows) {
    const Json document = Parsed(absl::StrCat(
        R"({"deviceId":"a","properties":{"desired":)", row.desired, "}}"));
    EXPECT_EQ(ParseTwin(document.view())->has_desired_members, row.has_members)
        << row.desired;
  }
}

TEST(ParseTwinTest, AnotherHubsEtagCountsAsAbsent) {
  const struct {
    absl::string_view etag;
    std::optional<uint64_t> counter;
  } kRows[] = {
      {"AAAAAAAAAAE=", 1},
      {"QAAAAAAAAAA=", uint64_t{1} << 62},
      {"f/////////8=", std::nullopt},  // No room to count on.
      {"gAAAAAAAAAA=", std::nullopt},
      {"//////////8=", std::nullopt},
      {"", std::nullopt},
      {"W/x", std::nullopt},
  };
  for (const auto& row : kRows) {
    const Json document =
        Parsed(absl::StrCat(R"({"deviceId":"a","etag":")", row.etag, "\"}"));
    const absl::StatusOr<ParsedTwin> twin = ParseTwin(document.view());
    ASSERT_TRUE(twin.ok()) << twin.status();
    EXPECT_EQ(twin->etag, row.counter) << row.etag;
  }
}

TEST(ParseTwinTest, ActivityReadsBackAsItWasGiven) {
  const struct {
    absl::string_view given;
    int digits;
  } kRows[] = {
      {"2024-03-01T12:30:45Z", 0},
      {"0001-01-01T00:00:00Z", 0},
      {"2024-03-01T12:30:45.1Z", 1},
      {"2024-03-01T12:30:45.000Z", 3},
      {"2024-03-01T12:30:45.123456Z", 6},
      {"2024-03-01T12:30:45.1234567Z", 7},
      {"2024-03-01T12:30:45.12345678Z", 7},
      {"2024-03-01T12:30:45.123456789012345Z", 7},
      {"2024-03-01T12:30:45+01:00", 7},
      {"2024-03-01T12:30:45.1+01", 7},
      {"2024-03-01T12:30:45z", 7},
      {"2024-03-01t12:30:45Z", 7},
      {"2024-03-01 12:30:45Z", 7},
      {"2024-03-01T12:30:45,12Z", 7},
      {"2024-03-01T12:30:60Z", 7},
      {"2024-03-01T12:30:60.5Z", 7},
      {"2024-03-01T12:30:45", 7},
      {"2024-03-01T12:30Z", 7},
      {"2024-03-01T12:30+01:00", 7},
      {"20240301T123045Z", 7},
      {"20240301T123045.123Z", 7},
      {"20240301T123045.12345Z", 7},
  };
  for (const auto& row : kRows) {
    const Json document = Parsed(absl::StrCat(
        R"({"deviceId":"a","lastActivityTime":")", row.given, "\"}"));
    const absl::StatusOr<ParsedTwin> twin = ParseTwin(document.view());
    ASSERT_TRUE(twin.ok()) << twin.status();
    EXPECT_EQ(twin->last_activity_ticks,
              TicksFromTime(*ParseInstant(row.given)));
    EXPECT_EQ(twin->last_activity_digits, row.digits) << row.given;
    const std::string text =
        ActivityText(twin->last_activity_ticks, twin->last_activity_digits);
    if (row.digits < kActivityDigitsMax) {
      EXPECT_EQ(text, row.given);
    }
  }
}

TEST(ParseTwinTest, Refuses) {
  const std::string id_too_long(kDeviceIdLengthMax + 1, 'i');
  const struct {
    std::string twin;
    ErrorCode code;
    absl::string_view message;
  } kRows[] = {
      {"null", ErrorCode::kArgumentNull,
       "twin: missing or null; an object was expected"},
      {"[]", ErrorCode::kArgumentInvalid,
       "twin: found an array; an object was expected"},
      {"{}", ErrorCode::kArgumentNull,
       "deviceId: missing or null; a string was expected"},
      {R"({"deviceId":null})", ErrorCode::kArgumentNull,
       "deviceId: missing or null; a string was expected"},
      {R"({"deviceId":7})", ErrorCode::kArgumentInvalid,
       "deviceId: found 7; expected a string"},
      {R"({"deviceId":""})", ErrorCode::kArgumentInvalid,
       "deviceId: an id must not be empty"},
      {R"({"deviceId":"a b"})", ErrorCode::kArgumentInvalid,
       "deviceId: \"a b\" has the character \" \""},
      {absl::StrCat(R"({"deviceId":")", id_too_long, "\"}"),
       ErrorCode::kArgumentInvalid, "has 129 characters; at most 128"},
      {R"({"deviceId":"a","moduleId":"m"})", ErrorCode::kArgumentInvalid,
       "moduleId: found \"m\"; expected none: twins of modules are not "
       "supported"},
      {R"({"deviceId":"a","status":"off"})", ErrorCode::kArgumentInvalid,
       "status: found \"off\"; expected enabled or disabled"},
      {R"({"deviceId":"a","connectionState":"connected"})",
       ErrorCode::kArgumentInvalid,
       "connectionState: found \"connected\"; expected Connected or "
       "Disconnected"},
      {R"({"deviceId":"a","lastActivityTime":"soon"})",
       ErrorCode::kArgumentInvalid,
       "lastActivityTime: found \"soon\"; expected an instant, such as "
       "2031-03-01T22:00:00Z"},
      {R"({"deviceId":"a","lastActivityTime":7})", ErrorCode::kArgumentInvalid,
       "lastActivityTime: found 7"},
      {R"({"deviceId":"a","statusUpdateTime":5})", ErrorCode::kArgumentInvalid,
       "statusUpdateTime: found 5; expected a string"},
      {R"({"deviceId":"a","statusUpdateTime":"x"})",
       ErrorCode::kArgumentInvalid, "statusUpdateTime: found \"x\""},
      {R"({"deviceId":"a","version":0})", ErrorCode::kArgumentInvalid,
       "version: found 0; expected an integer in [1, 4503599627370495]"},
      {R"({"deviceId":"a","version":"1"})", ErrorCode::kArgumentInvalid,
       "version: found \"1\""},
      {R"({"deviceId":"a","etag":1})", ErrorCode::kArgumentInvalid,
       "etag: found 1; expected a string"},
      {R"({"deviceId":"a","authenticationType":"magic"})",
       ErrorCode::kArgumentInvalid, "authenticationType: found \"magic\""},
      {R"({"deviceId":"a","capabilities":{"iotEdge":1}})",
       ErrorCode::kArgumentInvalid, "capabilities.iotEdge: found 1"},
      {R"({"deviceId":"a","capabilities":[]})", ErrorCode::kArgumentInvalid,
       "capabilities: found []; expected an object"},
      {R"({"deviceId":"a","x509Thumbprint":{"primaryThumbprint":1}})",
       ErrorCode::kArgumentInvalid,
       "x509Thumbprint.primaryThumbprint: found 1"},
      {R"({"deviceId":"a","parentScopes":[1]})", ErrorCode::kArgumentInvalid,
       "parentScopes: found [1]; expected an array of strings"},
      {R"({"deviceId":"a","cloudToDeviceMessageCount":-1})",
       ErrorCode::kArgumentInvalid, "cloudToDeviceMessageCount: found -1"},
      {R"({"deviceId":"a","modelId":{}})", ErrorCode::kArgumentInvalid,
       "modelId: found {}; expected a string"},
      {R"({"deviceId":"a","tags":{"x y":1}})", ErrorCode::kArgumentInvalid,
       "tags.x y: "},
      {R"({"deviceId":"a","tags":{"$version":1}})", ErrorCode::kArgumentInvalid,
       "tags.$version: "},
      {R"({"deviceId":"a","properties":[]})", ErrorCode::kArgumentInvalid,
       "properties: found an array; an object was expected"},
      {R"({"deviceId":"a","properties":{"reported":{"x.y":1}}})",
       ErrorCode::kArgumentInvalid, "properties.reported.x.y: "},
      {R"({"deviceId":"a","properties":{"reported":[]}})",
       ErrorCode::kArgumentInvalid,
       "properties.reported: found an array; an object was expected"},
      {R"({"deviceId":"a","properties":{"desired":{"$version":0}}})",
       ErrorCode::kArgumentInvalid, "properties.desired.$version: "},
      {R"({"deviceId":"a","properties":{"desired":5}})",
       ErrorCode::kArgumentInvalid, "properties.desired: found the number 5"},
      {absl::StrCat(R"({"deviceId":"a","deviceEtag":")",
                    std::string(kTwinTagsSizeMax, 'e'), "\"}"),
       ErrorCode::kMessageTooLarge,
       "twin: the members beside tags and properties take 8195 bytes; at most "
       "8192 are allowed"},
      // The first that is wrong: sections, the id, other members as they come.
      {R"({"deviceId":7,"tags":{"a b":1}})", ErrorCode::kArgumentInvalid,
       "tags.a b"},
      {R"({"deviceId":7,"properties":{"reported":5}})",
       ErrorCode::kArgumentInvalid, "deviceId"},
      {R"({"deviceId":"a","modelId":1,"properties":{"reported":5}})",
       ErrorCode::kArgumentInvalid, "properties.reported"},
      {R"({"deviceId":"a","modelId":1,"status":1,"etag":1})",
       ErrorCode::kArgumentInvalid, "modelId"},
      {R"({"deviceId":"a","status":1,"etag":1})", ErrorCode::kArgumentInvalid,
       "status"},
  };
  for (const auto& row : kRows) {
    const absl::StatusOr<ParsedTwin> twin = ParseTwin(Parsed(row.twin).view());
    ASSERT_FALSE(twin.ok()) << row.twin;
    EXPECT_EQ(ErrorCodeOf(twin.status()), row.code) << twin.status();
    EXPECT_TRUE(absl::StrContains(twin.status().message(), row.message))
        << twin.status() << " lacks " << row.message;
  }
  EXPECT_EQ(ErrorCodeOf(ParseTwin(JsonView()).status()),
            ErrorCode::kArgumentNull);
}

TEST(ParseTwinTest, StatusReasonIsCountedInCharacters) {
  std::string reason;
  for (size_t i = 0; i < kTwinStatusReasonLengthMax; ++i) reason += "ö";
  for (const bool over : {false, true}) {
    const Json document = Parsed(absl::StrCat(
        R"({"deviceId":"a","statusReason":")", reason, over ? "r" : "", "\"}"));
    EXPECT_EQ(ParseTwin(document.view()).ok(), !over);
  }
}

// Any subset of members, so that each is found whatever stands before it.
TEST(ParseTwinTest, MembersAreFoundInAnyCompany) {
  const std::vector<std::string> members = {
      R"("authenticationType":"none")",
      R"("capabilities":{})",
      R"("deviceEtag":"e")",
      R"("deviceScope":"s")",
      R"("modelId":"m")",
      R"("parentScopes":[])",
      R"("statusReason":"r")",
      R"("x509Thumbprint":{})",
      R"("cloudToDeviceMessageCount":0)",
      R"("statusUpdateTime":"2031-03-01T22:00:00Z")"};
  const std::vector<std::string> others = {
      R"("a":1)",     R"("deviceF":1)",     R"("statusU":2)",  R"("zz":3)",
      R"("tags":{})", R"("properties":{})", R"("deviceIdx":0)"};
  std::mt19937 random(3);
  for (int round = 0; round < 2000; ++round) {
    std::string text = R"({"deviceId":"id")";
    size_t kept = 0;
    for (const std::string& member : members) {
      if (random() % 2 == 0) continue;
      absl::StrAppend(&text, ",", member);
      ++kept;
    }
    for (const std::string& other : others) {
      if (random() % 2 == 0) absl::StrAppend(&text, ",", other);
    }
    const bool has_version = random() % 2 == 0;
    if (has_version) absl::StrAppend(&text, R"(,"version":5)");
    const bool has_status = random() % 2 == 0;
    if (has_status) absl::StrAppend(&text, R"(,"status":"disabled")");
    const Json document = Parsed(text + "}");
    const absl::StatusOr<ParsedTwin> twin = ParseTwin(document.view());
    ASSERT_TRUE(twin.ok()) << twin.status();
    EXPECT_EQ(twin->device_id, "id");
    EXPECT_EQ(twin->roots.size(), kept) << text;
    for (const ParsedTwin::Root& root : twin->roots) {
      EXPECT_EQ(document.view().Find(root.name).bytes().data(),
                root.value.bytes().data());
    }
    EXPECT_EQ(twin->version.has_value(), has_version);
    EXPECT_EQ(twin->enabled, !has_status);
  }
}

}  // namespace
}  // namespace muster
