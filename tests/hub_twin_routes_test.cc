// R6 to R8 of the hub's REST surface and R10's twins, row by row: contract 6,
// wire-facts 7.
#include <initializer_list>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/model/json.h"
#include "gtest/gtest.h"
#include "tests/rest_hub.h"

namespace muster {
namespace {

constexpr char kTwin[] = "/twins/d1";

// "404 DeviceNotFound", "200 ".
std::string Said(const RestAnswer& answer) {
  return absl::StrCat(answer.status, " ", answer.error());
}

// What stands in `document` at the path; "-" if nothing does.
std::string At(JsonView document, std::initializer_list<const char*> path) {
  for (const char* member : path) document = document.Find(member);
  return document.is_undefined() ? "-" : JsonText(document);
}
std::string At(const RestAnswer& answer,
               std::initializer_list<const char*> path) {
  const Json document = answer.Document();
  return At(document.view(), path);
}

// A section without `$metadata` and `$version`.
std::string Section(const RestAnswer& answer, absl::string_view name) {
  const Json document = answer.Document();
  const JsonView section = name == "tags"
                               ? document.view().Find("tags")
                               : document.view().Find("properties").Find(name);
  std::string text = "{";
  for (const JsonView::Member& member : section.members()) {
    if (member.key[0] == '$') continue;
    absl::StrAppend(&text, text.size() > 1 ? "," : "", "\"", member.key,
                    "\":", JsonText(member.value));
  }
  return text + "}";
}

std::string Desired(absl::string_view section) {
  return absl::StrCat(R"({"properties":{"desired":)", section, "}}");
}
std::string Tags(absl::string_view section) {
  return absl::StrCat(R"({"tags":)", section, "}");
}

HttpHeaders IfMatchIs(absl::string_view value) {
  return {{"If-Match", std::string(value)}};
}

class TwinRoutesTest : public testing::Test {
 protected:
  TwinRoutesTest() { hub.AddDevice("d1"); }
  RestHub hub;
};

TEST_F(TwinRoutesTest, GetAnswersTheWholeTwin) {
  RestHub fresh;
  ASSERT_EQ(fresh.Send("PUT", "/devices/d1", R"({"deviceId":"d1"})").status,
            200);
  const RestAnswer answer = fresh.Send("GET", kTwin);
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.Header("Content-Type"), "application/json; charset=utf-8");
  EXPECT_EQ(At(answer, {"deviceId"}), R"("d1")");
  EXPECT_EQ(At(answer, {"etag"}), R"("AAAAAAAAAAE=")");
  EXPECT_EQ(At(answer, {"version"}), "1");
  EXPECT_EQ(At(answer, {"status"}), R"("enabled")");
  EXPECT_EQ(At(answer, {"connectionState"}), R"("Disconnected")");
  EXPECT_EQ(At(answer, {"authenticationType"}), R"("sas")");
  for (const char* section : {"desired", "reported"}) {
    EXPECT_EQ(At(answer, {"properties", section, "$version"}), "1");
    EXPECT_NE(At(answer, {"properties", section, "$metadata", "$lastUpdated"}),
              "-");
    EXPECT_EQ(Section(answer, section), "{}");
  }
  // What is the identity's alone is not the twin's.
  EXPECT_FALSE(absl::StrContains(answer.body, "Key"));
  EXPECT_FALSE(absl::StrContains(answer.body, "generationId"));
  EXPECT_EQ(At(answer, {"connectionStateUpdatedTime"}), "-");
}

TEST_F(TwinRoutesTest, AChangeAnswersTheWholeTwinAfterIt) {
  for (const char* method : {"PATCH", "PUT"}) {
    const RestAnswer answer =
        hub.Send(method, kTwin,
                 R"({"tags":{"ring":"fast"},)"
                 R"("properties":{"desired":{"fw":"2.1"}}})");
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.Header("Content-Type"), "application/json; charset=utf-8");
    EXPECT_EQ(At(answer, {"deviceId"}), R"("d1")");
    EXPECT_EQ(At(answer, {"tags"}), R"({"ring":"fast"})");
    EXPECT_EQ(At(answer, {"properties", "desired", "fw"}), R"("2.1")");
    EXPECT_EQ(answer.body, hub.Send("GET", kTwin).body);
  }
}

TEST_F(TwinRoutesTest, VersionsAndTheEtagCountChanges) {
  struct Row {
    const char* method;
    std::string body;
    const char* etag;
    const char* version;
    const char* desired;
  };
  const Row rows[] = {
      {"PATCH", Tags(R"({"a":1})"), R"("AAAAAAAAAAI=")", "2", "1"},
      {"PATCH", Desired(R"({"a":1})"), R"("AAAAAAAAAAM=")", "3", "2"},
      // Although the content stays equal.
      {"PATCH", Desired(R"({"a":1})"), R"("AAAAAAAAAAQ=")", "4", "3"},
      {"PUT", Desired("{}"), R"("AAAAAAAAAAU=")", "5", "4"},
      // Nothing that a back end writes: no change.
      {"PATCH", "{}", R"("AAAAAAAAAAU=")", "5", "4"},
      {"PATCH", R"({"properties":{"reported":{"x":1}}})", R"("AAAAAAAAAAU=")",
       "5", "4"},
      {"PUT", R"({"properties":{"reported":{"x":1}}})", R"("AAAAAAAAAAU=")",
       "5", "4"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(absl::StrCat(row.method, " ", row.body));
    const RestAnswer answer = hub.Send(row.method, kTwin, row.body);
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(At(answer, {"etag"}), row.etag);
    EXPECT_EQ(At(answer, {"version"}), row.version);
    EXPECT_EQ(At(answer, {"properties", "desired", "$version"}), row.desired);
    EXPECT_EQ(At(answer, {"properties", "reported", "$version"}), "1");
    EXPECT_EQ(Section(answer, "reported"), "{}");
  }
}

TEST_F(TwinRoutesTest, PatchesMerge) {
  // Contract 6.4: before, patch, after.
  const char* const rows[][3] = {
      {R"({"a":1})", R"({"a":2})", R"({"a":2})"},
      {R"({"a":{"b":1,"c":2}})", R"({"a":{"b":null}})", R"({"a":{"c":2}})"},
      {R"({"a":{"b":1}})", R"({"a":{"b":null}})", R"({"a":{}})"},
      {R"({"a":{"b":1}})", R"({"a":5})", R"({"a":5})"},
      {R"({"a":5})", R"({"a":{"b":1}})", R"({"a":{"b":1}})"},
      {R"({"a":[1,2,3]})", R"({"a":[9]})", R"({"a":[9]})"},
      {R"({"a":1})", R"({"A":2})", R"({"A":2,"a":1})"},
      {"{}", R"({"a":{"b":null}})", R"({"a":{}})"},
      {R"({"a":1})", R"({"zz":null})", R"({"a":1})"},
      {R"({"a":1})", "null", "{}"},
      {R"({"a":1})", R"({"b":[null]})", R"({"a":1,"b":[null]})"},
      {R"({"a":{"b":1}})", R"({"a":{}})", R"({"a":{"b":1}})"},
  };
  for (const auto& [before, patch, after] : rows) {
    SCOPED_TRACE(absl::StrCat(before, " + ", patch));
    ASSERT_EQ(hub.Send("PUT", kTwin, Desired(before)).status, 200);
    EXPECT_EQ(Section(hub.Send("PATCH", kTwin, Desired(patch)), "desired"),
              after);
    ASSERT_EQ(hub.Send("PUT", kTwin, Tags(before)).status, 200);
    EXPECT_EQ(Section(hub.Send("PATCH", kTwin, Tags(patch)), "tags"), after);
  }
}

TEST_F(TwinRoutesTest, PutReplacesTheSectionsThatItHas) {
  ASSERT_EQ(hub.Send("PATCH", kTwin,
                     R"({"tags":{"a":1,"b":2},)"
                     R"("properties":{"desired":{"c":3,"d":4}}})")
                .status,
            200);
  RestAnswer answer = hub.Send("PUT", kTwin, Tags(R"({"b":5,"x":null})"));
  EXPECT_EQ(Section(answer, "tags"), R"({"b":5})");
  EXPECT_EQ(Section(answer, "desired"), R"({"c":3,"d":4})");
  answer = hub.Send("PUT", kTwin, Desired(R"({"e":{"f":1}})"));
  EXPECT_EQ(Section(answer, "tags"), R"({"b":5})");
  EXPECT_EQ(Section(answer, "desired"), R"({"e":{"f":1}})");
}

TEST_F(TwinRoutesTest, ABodyMayBeAWholeTwin) {
  // As C# and Java have it: what GET says, changed in one place.
  const RestAnswer old = hub.Send("PATCH", kTwin,
                                  R"({"tags":{"floor":1},)"
                                  R"("properties":{"desired":{"on":true}}})");
  for (const char* method : {"PATCH", "PUT"}) {
    const std::string body = absl::StrReplaceAll(
        hub.Send("GET", kTwin).body,
        {{R"("floor":1)", absl::StrCat(R"("floor":")", method, "\"")},
         {R"("floor":"PATCH")", R"("floor":"PUT")"}});
    const RestAnswer answer = hub.Send(method, kTwin, body);
    EXPECT_EQ(Said(answer), "200 ") << body << answer.body;
    EXPECT_EQ(Section(answer, "tags"),
              absl::StrCat(R"({"floor":")", method, "\"}"));
  }
  // One that somebody else has changed since says so by its `$version`.
  EXPECT_EQ(Said(hub.Send("PATCH", kTwin, old.body)), "412 PreconditionFailed");
}

TEST_F(TwinRoutesTest, WhatABackEndDoesNotWriteIsPassedOver) {
  const RestAnswer answer = hub.Send(
      "PATCH", kTwin,
      R"({"deviceId":"another","moduleId":null,"etag":"AAAAAAAAAEE=",)"
      R"("deviceEtag":"x","version":77,"status":"disabled",)"
      R"("statusReason":"no","connectionState":"Disconnected",)"
      R"("lastActivityTime":"2001-01-01T00:00:00Z","capabilities":null,)"
      R"("cloudToDeviceMessageCount":9,"authenticationType":"none",)"
      R"("x509Thumbprint":{"primaryThumbprint":null},"unknown":[1],)"
      R"("tags":{"a":1},)"
      R"("properties":{"other":1,"reported":{"x":1,"$version":9},)"
      R"("desired":{"b":2,"$metadata":{"$lastUpdated":"x"}}}})");
  EXPECT_EQ(Said(answer), "200 ");
  EXPECT_EQ(At(answer, {"deviceId"}), R"("d1")");
  EXPECT_EQ(At(answer, {"version"}), "2");
  EXPECT_EQ(At(answer, {"status"}), R"("enabled")");
  EXPECT_EQ(At(answer, {"connectionState"}), R"("Connected")");
  EXPECT_EQ(At(answer, {"unknown"}), "-");
  EXPECT_EQ(Section(answer, "tags"), R"({"a":1})");
  EXPECT_EQ(Section(answer, "desired"), R"({"b":2})");
  EXPECT_EQ(Section(answer, "reported"), "{}");
}

TEST_F(TwinRoutesTest, IfMatchGuardsAChange) {
  const struct {
    const char* if_match;  // ETAG: the twin's.
    const char* said;
  } kRows[] = {
      {"*", "200 "},
      {R"("*")", "200 "},
      {R"("ETAG")", "200 "},
      {"ETAG", "200 "},
      {R"(W/"ETAG")", "200 "},
      {R"("AAAAAAAAAEE=")", "412 PreconditionFailed"},
      {"AAAAAAAAAEE=", "412 PreconditionFailed"},
      {R"("")", "412 PreconditionFailed"},
      {"x", "412 PreconditionFailed"},
  };
  for (const char* method : {"PATCH", "PUT"}) {
    for (const auto& row : kRows) {
      SCOPED_TRACE(absl::StrCat(method, " ", row.if_match));
      const RestAnswer before = hub.Send("GET", kTwin);
      const Json document = before.Document();
      const absl::string_view etag =
          document.view().Find("etag").string_value();
      const RestAnswer answer = hub.Send(
          method, kTwin, Tags(R"({"a":1})"),
          IfMatchIs(absl::StrReplaceAll(row.if_match, {{"ETAG", etag}})));
      EXPECT_EQ(Said(answer), row.said);
      if (answer.status != 200) {
        EXPECT_EQ(hub.Send("GET", kTwin).body, before.body);
      }
    }
  }
}

TEST_F(TwinRoutesTest, AVersionInTheSectionGuardsItToo) {
  EXPECT_EQ(Said(hub.Send("PATCH", kTwin, Desired(R"({"a":1,"$version":1})"))),
            "200 ");
  EXPECT_EQ(Said(hub.Send("PATCH", kTwin, Desired(R"({"a":1,"$version":1})"))),
            "412 PreconditionFailed");
  EXPECT_EQ(Said(hub.Send("PUT", kTwin, Desired(R"({"a":1,"$version":2})"))),
            "200 ");
}

TEST_F(TwinRoutesTest, WhatIsWrongIsSaid) {
  const auto deep = [](int levels) {
    std::string text = "1";
    for (int i = 0; i < levels; ++i) text = absl::StrCat(R"({"a":)", text, "}");
    return text;
  };
  const std::string long_text =
      absl::StrCat("\"", std::string(4096, 'x'), "\"");
  const std::string too_long = absl::StrCat("\"", std::string(4097, 'x'), "\"");
  const auto many = [&](int count) {
    std::string text = "{";
    for (int i = 0; i < count; ++i) {
      absl::StrAppend(&text, i > 0 ? "," : "", "\"k", i, "\":", long_text);
    }
    return text + "}";
  };
  const struct {
    std::string body;
    const char* said;
  } kRows[] = {
      {"", "400 IotHubFormatError"},
      {"{", "400 IotHubFormatError"},
      {"\xff", "400 IotHubFormatError"},
      {R"({"tags":{},"tags":{}})", "400 IotHubFormatError"},
      {"null", "400 ArgumentNull"},
      {"[]", "400 ArgumentInvalid"},
      {"7", "400 ArgumentInvalid"},
      {Tags("7"), "400 ArgumentInvalid"},
      {R"({"properties":[]})", "400 ArgumentInvalid"},
      {Desired("[]"), "400 ArgumentInvalid"},
      // Contract 6.3.
      {Tags(R"({"":1})"), "400 ArgumentInvalid"},
      {Tags(R"({"a.b":1})"), "400 ArgumentInvalid"},
      {Tags(R"({"a b":1})"), "400 ArgumentInvalid"},
      {Tags(R"({"a":{"$b":1}})"), "400 ArgumentInvalid"},
      {Desired(R"({"$other":1})"), "400 ArgumentInvalid"},
      {Tags(R"({"a\u0000b":1})"), "400 ArgumentInvalid"},
      {Tags(R"({"a\u0080b":1})"), "400 ArgumentInvalid"},
      {Tags(R"({"a#b":1})"), "200 "},
      {Tags(absl::StrCat(R"({")", std::string(1024, 'k'), R"(":1})")), "200 "},
      {Tags(absl::StrCat(R"({")", std::string(1025, 'k'), R"(":1})")),
       "400 ArgumentInvalid"},
      {Desired(R"({"n":4503599627370495})"), "200 "},
      {Desired(R"({"n":4503599627370496})"), "400 ArgumentInvalid"},
      {Desired(R"({"n":-4503599627370496})"), "200 "},
      {Desired(R"({"n":-4503599627370497})"), "400 ArgumentInvalid"},
      {Desired(absl::StrCat(R"({"a":)", long_text, "}")), "200 "},
      {Desired(absl::StrCat(R"({"a":)", too_long, "}")), "400 ArgumentInvalid"},
      {Tags(deep(11)), "200 "},
      {Tags(deep(12)), "400 ArgumentInvalid"},
      {Tags(many(1)), "200 "},
      {Tags(many(2)), "413 MessageTooLarge"},
      {Desired(many(7)), "200 "},
      {Desired(many(8)), "413 MessageTooLarge"},
  };
  for (const auto& row : kRows) {
    for (const char* method : {"PATCH", "PUT"}) {
      SCOPED_TRACE(absl::StrCat(method, " ", row.body.substr(0, 60)));
      ASSERT_EQ(
          hub.Send("PUT", kTwin, R"({"tags":{},"properties":{"desired":{}}})")
              .status,
          200);
      const std::string before = hub.Send("GET", kTwin).body;
      const RestAnswer answer = hub.Send(method, kTwin, row.body);
      EXPECT_EQ(Said(answer), row.said) << answer.body;
      if (answer.status != 200) {
        EXPECT_EQ(hub.Send("GET", kTwin).body, before);
      }
    }
  }
}

TEST_F(TwinRoutesTest, ASectionThatWouldGrowTooLargeIsLeftAsItIs) {
  const auto half = [](const char* key) {
    std::string text = "{";
    for (int i = 0; i < 5; ++i) {
      absl::StrAppend(&text, i > 0 ? "," : "", "\"", key, i, "\":\"",
                      std::string(4000, 'x'), "\"");
    }
    return text + "}";
  };
  ASSERT_EQ(hub.Send("PATCH", kTwin, Desired(half("a"))).status, 200);
  const std::string before = hub.Send("GET", kTwin).body;
  EXPECT_EQ(Said(hub.Send("PATCH", kTwin, Desired(half("b")))),
            "413 MessageTooLarge");
  EXPECT_EQ(hub.Send("GET", kTwin).body, before);
  EXPECT_EQ(Said(hub.Send("PUT", kTwin, Desired(half("b")))), "200 ");
}

TEST_F(TwinRoutesTest, BodiesAreJson) {
  for (const char* method : {"PATCH", "PUT"}) {
    EXPECT_EQ(Said(hub.Send(method, kTwin, Tags("{}"),
                            {{"Content-Type", "text/plain"}})),
              "415 GenericUnsupportedMediaType");
  }
}

TEST_F(TwinRoutesTest, NobodyHasAnUnknownTwin) {
  for (const char* id : {"d2", "D1", "d1%20", "%64%31%2F"}) {
    for (const char* method : {"GET", "PATCH", "PUT"}) {
      const RestAnswer answer = hub.Send(method, absl::StrCat("/twins/", id),
                                         method[0] == 'G' ? "" : Tags("{}"));
      EXPECT_EQ(Said(answer), "404 DeviceNotFound") << id << " " << method;
    }
  }
}

TEST_F(TwinRoutesTest, IdsAreDecodedOnce) {
  hub.AddDevice("a%20:=@$,?b");
  EXPECT_EQ(
      At(hub.Send("GET", "/twins/a%2520%3A%3D%40%24%2C%3Fb"), {"deviceId"}),
      R"("a%20:=@$,?b")");
  hub.AddDevice("!'()*");
  EXPECT_EQ(At(hub.Send("GET", "/twins/!'()*"), {"deviceId"}), R"("!'()*")");
}

TEST_F(TwinRoutesTest, TheVerbsAreThree) {
  for (const char* method : {"POST", "DELETE"}) {
    const RestAnswer answer = hub.Send(method, kTwin);
    EXPECT_EQ(Said(answer), "405 GenericMethodNotAllowed") << method;
    for (const char* allowed : {"GET", "PATCH", "PUT"}) {
      EXPECT_TRUE(absl::StrContains(answer.Header("Allow"), allowed));
    }
  }
}

// Contract 6.8.
TEST_F(TwinRoutesTest, ADeviceHearsOfDesiredProperties) {
  hub.Send("PATCH", kTwin, Tags(R"({"a":1})"));
  hub.Send("PATCH", kTwin, "{}");
  hub.Send("PATCH", kTwin, Desired(R"({"a":1,"gone":null,"$version":1})"));
  hub.Send("PATCH", kTwin, Desired(R"({"a":1,"$version":1})"));  // Refused.
  hub.Send("PUT", kTwin, Desired(R"({"b":2})"));
  hub.time.RunReady();
  const auto notifications = hub.devices().notifications();
  ASSERT_EQ(notifications.size(), 2u);
  EXPECT_EQ(notifications[0].patch, R"({"a":1,"gone":null})");
  EXPECT_EQ(notifications[0].version, 2);
  EXPECT_EQ(notifications[1].patch, R"({"b":2})");
  EXPECT_EQ(notifications[1].version, 3);
}

TEST_F(TwinRoutesTest, ThereAreNoModules) {
  for (const char* method : {"GET", "PATCH", "PUT"}) {
    const std::string body = method[0] == 'G' ? "" : Tags("{}");
    const RestAnswer answer =
        hub.Send(method, "/twins/d1/modules/camera", body);
    EXPECT_EQ(Said(answer), "404 ModuleNotFound");
    EXPECT_EQ(answer.message(),
              "Module camera of device d1 not registered, this hub has no "
              "modules");
    EXPECT_EQ(Said(hub.Send(method, "/twins/d2/modules/camera", body)),
              "404 DeviceNotFound");
  }
}

}  // namespace
}  // namespace muster
