// R1 to R4 and R12 of the hub's REST surface, row by row: contract 1.1 to 1.11,
// 2.1, 2.8, 4.3, 4.4; wire-facts 4.
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/time.h"
#include "engine/model/instant.h"
#include "gtest/gtest.h"
#include "tests/rest_hub.h"

namespace muster {
namespace {

constexpr char kUpdate[] =
    R"({"type":"scheduleUpdateTwin","updateTwin":{"etag":"*","tags":{"a":1}},)"
    R"("queryCondition":"*"})";
constexpr char kMethod[] =
    R"({"type":"scheduleDeviceMethod","cloudToDeviceMethod":)"
    R"({"methodName":"lockDoor"},"queryCondition":"*"})";

std::string JobPath(absl::string_view id) {
  return absl::StrCat("/jobs/v2/", id);
}

// `body` with more members.
std::string With(absl::string_view body, absl::string_view members) {
  return absl::StrCat(body.substr(0, body.size() - 1), ",", members, "}");
}
std::string StartingAt(absl::string_view body, absl::Time time) {
  return With(body,
              absl::StrCat(R"("startTime":")", FormatInstant(time), "\""));
}

std::string Text(const RestAnswer& answer, absl::string_view member) {
  const Json document = answer.Document();
  const JsonView value = document.view().Find(member);
  return value.is_undefined() ? "-"
         : value.is_string()  ? std::string(value.string_value())
                              : JsonText(value);
}
std::string StatusOf(RestHub& hub, absl::string_view id) {
  return Text(hub.Send("GET", JobPath(id)), "status");
}

// "404 JobNotFound", "200 ".
std::string Said(const RestAnswer& answer) {
  return absl::StrCat(answer.status, " ", answer.error());
}

// -------------------------------------------------------------- 1.1 identity

struct IdRow {
  const char* segment;  // Of the path, as a client encodes it.
  bool valid;
};

TEST(HubJobsTest, IdsFollowTheirGrammar) {
  const std::string x64(64, 'x');
  const std::string x65(65, 'x');
  const IdRow rows[] = {
      {"job01", true},      {"DPCMD3f0c", true},
      {"a", true},          {x64.c_str(), true},
      {"%6Aob-2", true},  // Decoded: job-2.
      {"-", true},          {"Queryx", true},
      {x65.c_str(), false}, {"job_1", false},
      {"job.1", false},     {"job%201", false},
      {"j%C3%B6b", false},  {"j\xC3\xB6\x62", false},
      {"a%2Fb", false},     {"query", false},
      {"Query", false},     {"QUERY", false},
      {"%71uery", false},   {"a%", false},
      {"a%zz", false},      {"%256Aob", false},  // Decoded once: %6Aob.
      {"a%FF", false},      {"a%00", false},
      {"a+b", false},
  };
  for (const IdRow& row : rows) {
    RestHub hub;
    const RestAnswer put = hub.Send("PUT", JobPath(row.segment), kUpdate);
    const RestAnswer get = hub.Send("GET", JobPath(row.segment));
    const RestAnswer cancel =
        hub.Send("POST", JobPath(row.segment) + "/cancel");
    if (row.valid) {
      EXPECT_EQ(Said(put), "200 ") << row.segment << put.body;
      EXPECT_EQ(Said(get), "200 ") << row.segment << get.body;
      continue;
    }
    EXPECT_EQ(Said(put), "400 ArgumentInvalid") << row.segment;
    EXPECT_TRUE(absl::StrContains(put.message(), "jobId")) << put.body;
    // 4.3: what breaks the grammar is not there.  GET of exactly /query lists.
    if (std::string(row.segment) != "query" &&
        std::string(row.segment) != "%71uery") {
      EXPECT_EQ(Said(get), "404 JobNotFound") << row.segment << get.body;
    }
    EXPECT_EQ(Said(cancel), "404 JobNotFound") << row.segment;
    EXPECT_EQ(hub.Send("GET", "/jobs/v2/query").body, "[]") << row.segment;
  }
}

TEST(HubJobsTest, IdsAreComparedWithRespectToCase) {
  RestHub hub;
  EXPECT_EQ(Said(hub.Send("PUT", "/jobs/v2/a", kUpdate)), "200 ");
  EXPECT_EQ(Said(hub.Send("PUT", "/jobs/v2/A", kUpdate)), "200 ");
  EXPECT_EQ(Text(hub.Send("GET", "/jobs/v2/A"), "jobId"), "A");
}

TEST(HubJobsTest, TheBodyMayRepeatTheId) {
  struct {
    const char* member;
    const char* outcome;
  } const rows[] = {
      {R"("jobId":"123")", "200 "},
      {R"("jobId":123)", "200 "},  // Typings allow a number.
      {R"("jobId":null)", "200 "},
      {R"("jobId":"124")", "400 ArgumentInvalid"},
      {R"("jobId":124)", "400 ArgumentInvalid"},
      {R"("jobId":"")", "400 ArgumentInvalid"},
      {R"("jobId":{})", "400 ArgumentInvalid"},
  };
  for (const auto& row : rows) {
    RestHub hub;
    const RestAnswer answer =
        hub.Send("PUT", "/jobs/v2/123", With(kUpdate, row.member));
    EXPECT_EQ(Said(answer), row.outcome) << row.member << answer.body;
  }
}

// 1.1 and 2.9.
TEST(HubJobsTest, IdsAreTakenUntilTheirHistoryEnds) {
  RestHub hub;
  hub.AddDevice("d1");
  ASSERT_EQ(Said(hub.Send("PUT", "/jobs/v2/j", kUpdate)), "200 ");
  EXPECT_EQ(Said(hub.Send("PUT", "/jobs/v2/j", kUpdate)),
            "409 JobAlreadyExists");
  const JobInfo job = hub.Finish("j");
  EXPECT_EQ(Said(hub.Send("PUT", "/jobs/v2/j", kMethod)),
            "409 JobAlreadyExists");
  const absl::Duration left =
      *job.end_time + absl::Hours(24 * 30) - hub.time.Now();
  hub.time.Advance(left - absl::Nanoseconds(100));
  EXPECT_EQ(Said(hub.Send("GET", "/jobs/v2/j")), "200 ");
  hub.time.Advance(absl::Nanoseconds(100));
  EXPECT_EQ(Said(hub.Send("GET", "/jobs/v2/j")), "404 JobNotFound");
  EXPECT_EQ(Said(hub.Send("POST", "/jobs/v2/j/cancel")), "404 JobNotFound");
  EXPECT_EQ(hub.Send("GET", "/jobs/v2/query").body, "[]");
  EXPECT_EQ(Said(hub.Send("PUT", "/jobs/v2/j", kMethod)), "200 ");
}

// ------------------------------------------------- 1.2 to 1.5, 1.7: the body

struct BodyRow {
  std::string body;
  const char* outcome;
  // Of what the answer says, or, with 200, of what GET shows.
  const char* says = "";
};

void CheckBodies(const std::vector<BodyRow>& rows) {
  for (const BodyRow& row : rows) {
    RestHub hub;
    const RestAnswer answer = hub.Send("PUT", "/jobs/v2/j", row.body);
    ASSERT_EQ(Said(answer), row.outcome) << row.body << "\n" << answer.body;
    if (answer.status != 200) {
      EXPECT_TRUE(absl::StrContains(answer.message(), row.says))
          << row.body << "\n"
          << answer.body;
      EXPECT_EQ(hub.Send("GET", "/jobs/v2/query").body, "[]") << row.body;
      continue;
    }
    const RestAnswer job = hub.Send("GET", "/jobs/v2/j");
    EXPECT_TRUE(absl::StrContains(job.body, row.says)) << row.body << "\n"
                                                       << job.body;
  }
}

std::string Method(absl::string_view members) {
  return absl::StrCat(
      R"({"type":"scheduleDeviceMethod","cloudToDeviceMethod":{)", members,
      R"(},"queryCondition":"*"})");
}
std::string Update(absl::string_view members) {
  return absl::StrCat(R"({"type":"scheduleUpdateTwin","updateTwin":{)", members,
                      R"(},"queryCondition":"*"})");
}
// An update job whose `type` is this text.
std::string Type(absl::string_view json) {
  return absl::StrReplaceAll(kUpdate, {{R"("scheduleUpdateTwin")", json}});
}
// One with this condition, or without.
std::string Where(absl::string_view json) {
  return absl::StrReplaceAll(kUpdate, {{R"("*"})", absl::StrCat(json, "}")}});
}

TEST(HubJobsTest, TheBodyIsAJsonObject) {
  CheckBodies({
      {"", "400 IotHubFormatError"},
      {"{", "400 IotHubFormatError"},
      {"[]", "400 IotHubFormatError"},
      {"null", "400 IotHubFormatError"},
      {"\"x\"", "400 IotHubFormatError"},
      {"{\"type\":\"\xFF\"}", "400 IotHubFormatError"},
      {With(kUpdate, R"("type":"scheduleUpdateTwin")"), "400 IotHubFormatError",
       "type"},
      {With(kUpdate,
            absl::StrCat(R"("x":")", std::string(256 << 10, 'x'), "\"")),
       "413 MessageTooLarge", "at most 262144"},
      {With(kUpdate, R"("unknown":{"a":[]})"), "200 "},
      {With(kUpdate, R"("deviceIds":["d1"])"), "200 "},  // 2016; J7.
  });
}

TEST(HubJobsTest, TypesAreTwo) {
  std::vector<BodyRow> rows = {
      {Type(R"("scheduleUpdateTwin")"), "200 ",
       R"("type":"scheduleUpdateTwin")"},
      {Type(R"("ScheduleUpdateTwin")"), "200 ",
       R"("type":"scheduleUpdateTwin")"},
      {absl::StrReplaceAll(kMethod, {{"scheduleD", "SCHEDULEd"}}), "200 ",
       R"("type":"scheduleDeviceMethod")"},
      {R"({"updateTwin":{},"queryCondition":"*"})", "400 GenericBadRequest",
       "type"},
  };
  for (const char* type : {"null",
                           "1",
                           "{}",
                           R"("")",
                           R"("unknown")",
                           R"("export")",
                           R"("import")",
                           R"("backup")",
                           R"("readDeviceProperties")",
                           R"("writeDeviceProperties")",
                           R"("updateDeviceConfiguration")",
                           R"("rebootDevice")",
                           R"("factoryResetDevice")",
                           R"("firmwareUpdate")",
                           R"("restoreFromBackup")",
                           R"("failoverDataCopy")",
                           R"("scheduleDirectRequest")",
                           R"("scheduleDirectMethod")",
                           R"("scheduleTwinUpdate")",
                           R"("scheduledUpdateTwin")",
                           R"("scheduledDeviceMethod")"}) {
    rows.push_back({Type(type), "400 GenericBadRequest", "type"});
  }
  CheckBodies(rows);
}

TEST(HubJobsTest, RequiredMembers) {
  CheckBodies({
      // 1.3, both columns.
      {R"({"type":"scheduleUpdateTwin","updateTwin":{}})", "400 ArgumentNull",
       "queryCondition"},
      {Where("null"), "400 ArgumentNull", "queryCondition"},
      {Where(R"("")"), "400 ArgumentInvalid", "queryCondition"},
      {Where("7"), "400 ArgumentInvalid", "queryCondition"},
      {R"({"type":"scheduleUpdateTwin","queryCondition":"*"})",
       "400 ArgumentNull", "updateTwin"},
      {R"({"type":"scheduleUpdateTwin","queryCondition":"*","updateTwin":null})",
       "400 ArgumentNull", "updateTwin"},
      {R"({"type":"scheduleUpdateTwin","queryCondition":"*","updateTwin":[]})",
       "400 ArgumentInvalid", "updateTwin"},
      {With(kUpdate, R"("cloudToDeviceMethod":null)"), "200 "},
      {With(kUpdate, R"("cloudToDeviceMethod":{"methodName":"x"})"),
       "400 ArgumentInvalid", "cloudToDeviceMethod"},
      {R"({"type":"scheduleDeviceMethod","queryCondition":"*"})",
       "400 ArgumentNull", "cloudToDeviceMethod"},
      {R"({"type":"scheduleDeviceMethod","queryCondition":"*",)"
       R"("cloudToDeviceMethod":"x"})",
       "400 ArgumentInvalid", "cloudToDeviceMethod"},
      {With(kMethod, R"("updateTwin":null)"), "200 "},
      {With(kMethod, R"("updateTwin":{})"), "400 ArgumentInvalid",
       "updateTwin"},
      {Method(""), "400 ArgumentNull", "methodName"},
      {Method(R"("methodName":null)"), "400 ArgumentNull", "methodName"},
      {Method(R"("methodName":"")"), "400 ArgumentInvalid", "methodName"},
      {Method(R"("methodName":7)"), "400 ArgumentInvalid", "methodName"},
  });
}

TEST(HubJobsTest, ExecutionTime) {
  constexpr char kShown[] = R"("maxExecutionTimeInSeconds":3600,)";
  CheckBodies({
      {kUpdate, "200 ", kShown},
      {With(kUpdate, R"("maxExecutionTimeInSeconds":null)"), "200 ", kShown},
      {With(kUpdate, R"("maxExecutionTimeInSeconds":0)"), "200 ", kShown},
      {With(kUpdate, R"("maxExecutionTimeInSeconds":1)"), "200 ",
       R"("maxExecutionTimeInSeconds":1,)"},
      {With(kUpdate, R"("maxExecutionTimeInSeconds":172800)"), "200 ",
       R"("maxExecutionTimeInSeconds":172800,)"},
      {With(kUpdate, R"("maxExecutionTimeInSeconds":9223372036854775807)"),
       "200 ", R"("maxExecutionTimeInSeconds":9223372036854775807,)"},
      {With(kUpdate, R"("maxExecutionTimeInSeconds":-1)"),
       "400 ArgumentInvalid", "maxExecutionTimeInSeconds"},
      {With(kUpdate, R"("maxExecutionTimeInSeconds":"60")"),
       "400 ArgumentInvalid", "maxExecutionTimeInSeconds"},
      {With(kUpdate, R"("maxExecutionTimeInSeconds":1.5)"),
       "400 ArgumentInvalid", "maxExecutionTimeInSeconds"},
  });
}

// 1.4 and 1.7.
TEST(HubJobsTest, Methods) {
  const std::string name100(100, 'm');
  const std::string name101(101, 'm');
  const auto named = [](absl::string_view name) {
    return Method(absl::StrCat(R"("methodName":")", name, "\""));
  };
  const auto paying = [](absl::string_view payload) {
    return Method(absl::StrCat(R"("methodName":"m","payload":)", payload));
  };
  const auto timed = [](absl::string_view members) {
    return Method(absl::StrCat(R"("methodName":"m",)", members));
  };
  // 128 KB with its quotes, and one byte more.
  const std::string large =
      absl::StrCat("\"", std::string((128 << 10) - 2, 'p'), "\"");
  const std::string larger =
      absl::StrCat("\"", std::string((128 << 10) - 1, 'p'), "\"");
  CheckBodies({
      {named("m"), "200 ",
       R"("cloudToDeviceMethod":{"methodName":"m","payload":null,)"
       R"("responseTimeoutInSeconds":30,"connectTimeoutInSeconds":0})"},
      {named("sendFrequency"), "200 "},
      {named("fw-version"), "200 "},
      {named("a_b"), "200 "},
      {named("x.y"), "200 "},
      {named("it's"), "200 "},
      {named("!#%&*+^`|~"), "200 "},
      {named(name100), "200 "},
      {named(name101), "400 ArgumentInvalid", "at most 100"},
      {named("bad name"), "400 ArgumentInvalid", "methodName"},
      {named("a(b)"), "400 ArgumentInvalid", "methodName"},
      {named("$version"), "400 ArgumentInvalid", "methodName"},
      {named("key:1"), "400 ArgumentInvalid", "methodName"},
      {named("gr\xC3\xB6\xC3\x9F\x65"), "400 ArgumentInvalid", "methodName"},
      {paying("null"), "200 ", R"("payload":null)"},
      {paying("30"), "200 ", R"("payload":30)"},
      {paying(R"("x")"), "200 ", R"("payload":"x")"},
      {paying("[1,{}]"), "200 ", R"("payload":[1,{}])"},
      {paying(R"({"x.y":{"it's":"a: b, c;"}})"), "200 ",
       R"("payload":{"x.y":{"it's":"a: b, c;"}})"},
      {paying(R"({"bad name":1})"), "400 ArgumentInvalid", "payload"},
      {paying(R"([{"a":{"$version":1}}])"), "400 ArgumentInvalid", "payload"},
      {paying(large), "200 "},
      {paying(larger), "413 MessageTooLarge", "payload"},
      {timed(R"("responseTimeoutInSeconds":5)"), "200 ",
       R"("responseTimeoutInSeconds":5,)"},
      {timed(R"("responseTimeoutInSeconds":300)"), "200 "},
      {timed(R"("responseTimeoutInSeconds":4)"), "400 ArgumentInvalid",
       "[5, 300]"},
      {timed(R"("responseTimeoutInSeconds":301)"), "400 ArgumentInvalid",
       "[5, 300]"},
      {timed(R"("responseTimeoutInSeconds":"30")"), "400 ArgumentInvalid",
       "responseTimeoutInSeconds"},
      {timed(R"("responseTimeoutInSeconds":null)"), "200 ",
       R"("responseTimeoutInSeconds":30,)"},
      {timed(R"("connectTimeoutInSeconds":0)"), "200 "},
      {timed(R"("connectTimeoutInSeconds":300)"), "200 ",
       R"("connectTimeoutInSeconds":300})"},
      {timed(R"("connectTimeoutInSeconds":301)"), "400 ArgumentInvalid",
       "[0, 300]"},
      {timed(R"("connectTimeoutInSeconds":-1)"), "400 ArgumentInvalid",
       "[0, 300]"},
      {timed(R"("timeoutInSeconds":1)"), "200 ",  // 2016: ignored.
       R"("responseTimeoutInSeconds":30,)"},
  });
}

// 1.5, 1.7, 6.3.
TEST(HubJobsTest, TwinUpdates) {
  const auto tagged = [](absl::string_view tags) {
    return Update(absl::StrCat(R"("etag":"*","tags":)", tags));
  };
  const auto desired = [](absl::string_view value) {
    return Update(absl::StrCat(R"("properties":{"desired":)", value, "}"));
  };
  std::string wide = "{";  // Over 8 KB, no value of it over 4 KB.
  for (const char* key : {"a", "b", "c"}) {
    absl::StrAppend(&wide, wide.size() > 1 ? "," : "", "\"", key, "\":\"",
                    std::string(3000, 'v'), "\"");
  }
  wide += "}";
  std::string deep = "1";
  for (int i = 0; i < 12; ++i) deep = absl::StrCat(R"({"a":)", deep, "}");
  CheckBodies({
      {Update(""), "200 ", R"("updateTwin":{"deviceId":null,"etag":"*"})"},
      {Update(R"("etag":"*")"), "200 ", R"("etag":"*")"},
      {Update(R"("etag":"\"*\"")"), "200 ", R"("etag":"*")"},
      {Update(R"("etag":null)"), "200 ", R"("etag":"*")"},
      {Update(R"("etag":"abc")"), "412 PreconditionFailed", "etag"},
      {Update(R"("etag":"AAAAAAAAAAE=")"), "412 PreconditionFailed", "etag"},
      {Update(R"("etag":7)"), "400 ArgumentInvalid", "etag"},
      {tagged(R"({"a":{"b":null}})"), "200 ", R"("tags":{"a":{"b":null}})"},
      {tagged("null"), "200 ", R"("tags":null)"},  // Clears them: 6.4.
      {tagged("[]"), "400 ArgumentInvalid", "tags"},
      {tagged(R"({"x.y":1})"), "400 ArgumentInvalid", "tags"},
      {tagged(R"({"bad name":1})"), "400 ArgumentInvalid", "tags"},
      {tagged(R"({"$version":1})"), "400 ArgumentInvalid", "tags"},
      {tagged(wide), "413 MessageTooLarge", "tags"},
      {tagged(deep), "400 ArgumentInvalid", "tags"},
      {tagged(R"({"c":"Class1, Class2, Class3"})"), "200 "},
      {desired(R"({"building":"43","floor":3,"legacyMode":null})"), "200 ",
       R"("properties":{"desired":{"building":"43","floor":3,)"
       R"("legacyMode":null}})"},
      {desired(R"({"x.y":1})"), "400 ArgumentInvalid", "desired"},
      {desired(R"({"n":4503599627370496})"), "400 ArgumentInvalid", "desired"},
      {desired(wide), "200 "},
      {Update(R"("properties":{"desired":{"a":1},"reported":{}})"), "200 ",
       R"("properties":{"desired":{"a":1}})"},
      {Update(R"("deviceId":"d1","version":7,"moduleId":null)"), "200 ",
       R"("updateTwin":{"deviceId":null,"etag":"*"})"},
      {Update(R"("desired":{"a":1})"), "400 ArgumentInvalid", "desired"},
      {Update(R"("unknown":1)"), "400 ArgumentInvalid", "unknown"},
  });
}

// 1.11.
TEST(HubJobsTest, StartTimes) {
  const auto at = [](absl::string_view json) {
    return With(kUpdate, absl::StrCat(R"("startTime":)", json));
  };
  CheckBodies({
      {at(R"("2050-01-02T03:04:05Z")"), "200 ",
       R"("startTime":"2050-01-02T03:04:05.0000000Z")"},
      {at(R"("2050-01-02T03:04:05.1Z")"), "200 ",
       R"("startTime":"2050-01-02T03:04:05.1000000Z")"},
      {at(R"("2050-01-02T03:04:05.1234567Z")"), "200 ",
       R"("startTime":"2050-01-02T03:04:05.1234567Z")"},
      {at(R"("2050-01-02T03:04:05+02:00")"), "200 ",
       R"("startTime":"2050-01-02T01:04:05.0000000Z")"},
      {at(R"("2050-01-02T03:04:05")"), "200 ",  // No zone: UTC.
       R"("startTime":"2050-01-02T03:04:05.0000000Z")"},
      {at(R"("2050-01-02T23:59:60Z")"), "200 ",
       R"("startTime":"2050-01-02T23:59:59.9999999Z")"},
      {at(R"("2001-01-02T03:04:05Z")"), "200 ",  // Past: echoed unchanged.
       R"("startTime":"2001-01-02T03:04:05.0000000Z")"},
      {at("null"), "200 "},
      {at(R"("tomorrow")"), "400 ArgumentInvalid", "startTime"},
      {at(R"("2050-01-02")"), "400 ArgumentInvalid", "startTime"},
      {at("1900000000"), "400 ArgumentInvalid", "startTime"},
      {at(R"("")"), "400 ArgumentInvalid", "startTime"},
  });
  RestHub hub;
  ASSERT_EQ(hub.Send("PUT", "/jobs/v2/now", kUpdate).status, 200);
  const RestAnswer job = hub.Send("GET", "/jobs/v2/now");
  EXPECT_EQ(Text(job, "startTime"), Text(job, "createdTime"));
  EXPECT_EQ(Text(job, "createdTime"), FormatInstant(hub.time.Now()));
}

TEST(HubJobsTest, Conditions) {
  const auto where = [](absl::string_view condition) {
    return Where(absl::StrCat("\"", condition, "\""));
  };
  // A comparison of exactly so many characters.
  const auto long_condition = [](size_t size) {
    const std::string frame = "tags.a = ''";
    return absl::StrCat("tags.a = '", std::string(size - frame.size(), 'x'),
                        "'");
  };
  CheckBodies({
      {where("*"), "200 ", R"("queryCondition":"*")"},
      {where(" * "), "200 ", R"("queryCondition":" * ")"},
      {where("deviceId = 'd1'"), "200 "},
      {where("deviceId='d1'"), "200 "},
      {where("DeviceId IN ['d1','d2']"), "200 ",
       R"("queryCondition":"DeviceId IN ['d1','d2']")"},
      {where("deviceId in ['d1']"), "200 "},
      {where("deviceId = "), "400 ArgumentInvalid", "queryCondition"},
      {where("SELECT * FROM devices"), "400 ArgumentInvalid"},
      {where("WHERE tags.a = 1"), "400 ArgumentInvalid"},
      {where("tags.a LIKE 'x'"), "400 ArgumentInvalid"},
      {where("FROM devices.modules WHERE tags.a = 1"), "400 ArgumentInvalid"},
      {where(long_condition(8192)), "200 "},
      {where(long_condition(8193)), "400 ArgumentInvalid", "8192"},
  });
}

// ------------------------------------------- 1.6, 1.8, 2.13: what is answered

TEST(HubJobsTest, PutAnswersThreeMembersAlsoOfAFutureJob) {
  RestHub hub;
  const RestAnswer answer =
      hub.Send("PUT", "/jobs/v2/later",
               StartingAt(kMethod, hub.time.Now() + absl::Hours(1)));
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.Header("Content-Type"), "application/json; charset=utf-8");
  EXPECT_EQ(answer.body, R"({"jobId":"later","type":"scheduleDeviceMethod",)"
                         R"("status":"queued"})");
}

TEST(HubJobsTest, MethodJobFromQueuedToCompleted) {
  RestHub hub;
  hub.AddDevice("d1");
  hub.AddDevice("d2", /*connected=*/false);
  hub.devices().SetHandler("lockDoor", [](const LoopbackCall&) {
    LoopbackReply reply;
    reply.delay = absl::Seconds(1);
    return reply;
  });
  const absl::Time start = hub.time.Now() + absl::Hours(1);
  const std::string created = FormatInstant(hub.time.Now());
  ASSERT_EQ(hub.Send("PUT", "/jobs/v2/j",
                     With(StartingAt(kMethod, start),
                          R"("maxExecutionTimeInSeconds":60)"))
                .status,
            200);
  const auto shown = [&](absl::string_view status, absl::string_view end,
                         absl::string_view statistics) {
    return absl::StrCat(
        R"({"jobId":"j","type":"scheduleDeviceMethod","status":")", status,
        R"(","queryCondition":"*","createdTime":")", created,
        R"(","startTime":")", FormatInstant(start), "\"", end,
        R"(,"maxExecutionTimeInSeconds":60,"cloudToDeviceMethod":)",
        R"({"methodName":"lockDoor","payload":null,)",
        R"("responseTimeoutInSeconds":30,"connectTimeoutInSeconds":0})",
        statistics, "}");
  };
  hub.time.Advance(absl::Seconds(5));
  EXPECT_EQ(hub.Send("GET", "/jobs/v2/j").body, shown("scheduled", "", ""));
  hub.time.Advance(start - hub.time.Now() + absl::Milliseconds(500));
  EXPECT_EQ(hub.Send("GET", "/jobs/v2/j").body,
            shown("running", "",
                  R"(,"deviceJobStatistics":{"deviceCount":2,)"
                  R"("failedCount":0,"succeededCount":0,"runningCount":1,)"
                  R"("pendingCount":1})"));
  hub.Finish("j");
  EXPECT_EQ(hub.Send("GET", "/jobs/v2/j").body,
            shown("completed",
                  absl::StrCat(R"(,"endTime":")",
                               FormatInstant(start + absl::Seconds(60)), "\""),
                  R"(,"deviceJobStatistics":{"deviceCount":2,)"
                  R"("failedCount":1,"succeededCount":1,"runningCount":0,)"
                  R"("pendingCount":0})"));
}

TEST(HubJobsTest, AFailedJobSaysWhy) {
  EngineOptions options;
  options.validate_condition_on_create = false;
  RestHub hub(options);
  ASSERT_EQ(hub.Send("PUT", "/jobs/v2/j", Where(R"("deviceId = ")")).status,
            200);
  hub.Finish("j");
  const RestAnswer job = hub.Send("GET", "/jobs/v2/j");
  EXPECT_EQ(Text(job, "status"), "failed");
  EXPECT_TRUE(
      absl::StartsWith(Text(job, "failureReason"),
                       "SQL query parse failed due to following errors:"));
  EXPECT_NE(Text(job, "endTime"), "-");
  EXPECT_EQ(Text(job, "deviceJobStatistics"), "-");
}

// ------------------------------------------------- 1.10: the order of checks

// A request that is wrong in every way is put right from the first check to the
// last: each answer is the next check's.  (What comes before the body, and who
// the caller is: hub_service_test and hub_access_test.)
TEST(HubJobsTest, TheFirstCheckThatFailsAnswers) {
  EngineOptions options;
  options.profile.active_jobs_max = 1;
  RestHub hub(options);
  hub.AddDevice("d1", /*connected=*/false);
  ASSERT_EQ(hub.Send("PUT", "/jobs/v2/active", kMethod).status, 200);
  ASSERT_EQ(StatusOf(hub, "active"), "running");

  std::string id = "bad_id";
  std::string type = "firmwareUpdate";
  std::string start = "tomorrow";
  std::string tags = R"({"a.b":1})";
  std::string etag = "abc";
  std::string condition = "deviceId = ";
  const auto put = [&] {
    return hub.Send(
        "PUT", JobPath(id),
        absl::StrCat(R"({"type":")", type, R"(","startTime":")", start,
                     R"(","updateTwin":{"etag":")", etag, R"(","tags":)", tags,
                     R"(},"queryCondition":")", condition, "\"}"));
  };
  EXPECT_EQ(Said(hub.Send("PUT", JobPath(id), "{")), "400 IotHubFormatError");
  const auto expect = [&](const char* outcome, absl::string_view says) {
    const RestAnswer answer = put();
    EXPECT_EQ(Said(answer), outcome) << answer.body;
    EXPECT_TRUE(absl::StrContains(answer.message(), says)) << answer.body;
  };
  expect("400 ArgumentInvalid", "bad_id");
  id = "active";
  expect("400 GenericBadRequest", "type");
  type = "scheduleUpdateTwin";
  expect("400 ArgumentInvalid", "startTime");
  start = "2001-01-01T00:00:00Z";
  expect("400 ArgumentInvalid", "tags");
  tags = "{}";
  expect("412 PreconditionFailed", "etag");
  etag = "*";
  expect("400 ArgumentInvalid", "queryCondition");
  condition = "*";
  expect("409 JobAlreadyExists", "active");
  id = "next";
  expect("429 ThrottlingMaxActiveJobCountExceeded", "1");
  hub.Finish("active");
  EXPECT_EQ(put().status, 200);
}

TEST(HubJobsTest, JobsAreNotThereInTheBasicTier) {
  EngineOptions options;
  options.profile.jobs_available = false;
  RestHub hub(options);
  EXPECT_EQ(Said(hub.Send("PUT", "/jobs/v2/j", kUpdate)),
            "403 OperationNotAvailableInCurrentTier");
}

// 4.3: storage that is not available.
TEST(HubJobsTest, AStoppedEngineRefusesChangesAndIsStillRead) {
  RestHub hub;
  ASSERT_EQ(hub.Send("PUT", "/jobs/v2/j", kUpdate).status, 200);
  hub.engine().Stop();
  EXPECT_EQ(Said(hub.Send("PUT", "/jobs/v2/k", kUpdate)),
            "503 ServiceUnavailable");
  EXPECT_EQ(Said(hub.Send("POST", "/jobs/v2/j/cancel")),
            "503 ServiceUnavailable");
  EXPECT_EQ(Said(hub.Send("GET", "/jobs/v2/j")), "200 ");
}

// --------------------------------------------------------------- 2.8: cancel

TEST(HubJobsTest, CancelByState) {
  EngineOptions options;
  options.profile.active_jobs_max = 1;
  options.on_active_limit = ActiveLimitPolicy::kQueue;
  options.validate_condition_on_create = false;
  RestHub hub(options);
  hub.AddDevice("d1", /*connected=*/false);
  const absl::Time later = hub.time.Now() + absl::Hours(1);

  // Scheduled, at once and after it has been picked up.
  ASSERT_EQ(
      hub.Send("PUT", "/jobs/v2/future", StartingAt(kUpdate, later)).status,
      200);
  hub.time.Advance(absl::Seconds(5));
  ASSERT_EQ(StatusOf(hub, "future"), "scheduled");
  const RestAnswer cancelled = hub.Send("POST", "/jobs/v2/future/cancel");
  EXPECT_EQ(Said(cancelled), "200 ");
  EXPECT_EQ(Text(cancelled, "status"), "cancelled");
  EXPECT_EQ(Text(cancelled, "jobId"), "future");
  EXPECT_EQ(Text(cancelled, "type"), "scheduleUpdateTwin");
  EXPECT_EQ(Text(cancelled, "endTime"), FormatInstant(hub.time.Now()));
  EXPECT_EQ(Text(cancelled, "deviceJobStatistics"), "-");
  EXPECT_EQ(cancelled.body, hub.Send("GET", "/jobs/v2/future").body);

  // Cancelled: again, later, the same.
  hub.time.Advance(absl::Seconds(5));
  const RestAnswer again = hub.Send("POST", "/jobs/v2/future/cancel", "{}");
  EXPECT_EQ(Said(again), "200 ");
  EXPECT_EQ(again.body, cancelled.body);

  // Running.
  ASSERT_EQ(hub.Send("PUT", "/jobs/v2/runs", kMethod).status, 200);
  ASSERT_EQ(StatusOf(hub, "runs"), "running");
  RestAnswer refused = hub.Send("POST", "/jobs/v2/runs/cancel");
  EXPECT_EQ(Said(refused), "405 OperationNotAllowedInCurrentState");
  EXPECT_EQ(refused.message(), "Job cannot be cancelled in 'Running' status.");
  EXPECT_EQ(StatusOf(hub, "runs"), "running");

  // Queued: due, without a slot.
  ASSERT_EQ(hub.Send("PUT", "/jobs/v2/waits", kUpdate).status, 200);
  ASSERT_EQ(StatusOf(hub, "waits"), "queued");
  const RestAnswer waits = hub.Send("POST", "/jobs/v2/waits/cancel");
  EXPECT_EQ(Said(waits), "200 ");
  EXPECT_EQ(Text(waits, "status"), "cancelled");

  // Ended.
  hub.Finish("runs");
  refused = hub.Send("POST", "/jobs/v2/runs/cancel");
  EXPECT_EQ(Said(refused), "405 OperationNotAllowedInCurrentState");
  EXPECT_EQ(refused.message(),
            "Job cannot be cancelled in 'Completed' status.");
  ASSERT_EQ(hub.Send("PUT", "/jobs/v2/bad", Where(R"("x = ")")).status, 200);
  hub.Finish("bad");
  refused = hub.Send("POST", "/jobs/v2/bad/cancel");
  EXPECT_EQ(Said(refused), "405 OperationNotAllowedInCurrentState");
  EXPECT_EQ(refused.message(), "Job cannot be cancelled in 'Failed' status.");

  // Unknown.
  const RestAnswer unknown = hub.Send("POST", "/jobs/v2/nobody/cancel");
  EXPECT_EQ(Said(unknown), "404 JobNotFound");
  EXPECT_TRUE(absl::StrContains(unknown.message(), "nobody"));
  // V1: nothing was ever called.
  EXPECT_TRUE(hub.devices().calls().empty());
}

// -------------------------------------------------------------- 4.4: listing

std::vector<std::string> Ids(const RestAnswer& answer) {
  std::vector<std::string> ids;
  const Json document = answer.Document();
  EXPECT_TRUE(document.view().is_array()) << answer.body;
  for (const JsonView job : document.view().elements()) {
    ids.emplace_back(job.Find("jobId").string_value());
  }
  return ids;
}

// One job of each status, of both types.
class HubJobListTest : public testing::Test {
 protected:
  HubJobListTest() : hub_(Options()) {
    hub_.AddDevice("d1", /*connected=*/false);
    const absl::Time later = hub_.time.Now() + absl::Hours(1);
    Put("completed", kUpdate);
    hub_.Finish("completed");
    Put("failed", Where(R"("x = ")"));
    hub_.Finish("failed");
    Put("cancelled", StartingAt(kMethod, later));
    EXPECT_EQ(hub_.Send("POST", "/jobs/v2/cancelled/cancel").status, 200);
    Put("scheduled", StartingAt(kMethod, later));
    hub_.time.Advance(absl::Seconds(5));
    Put("running", kMethod);
    Put("queued", kUpdate);
    for (const char* status : {"completed", "failed", "cancelled", "scheduled",
                               "running", "queued"}) {
      EXPECT_EQ(StatusOf(hub_, status), status);
    }
  }

  static EngineOptions Options() {
    EngineOptions options;
    options.profile.active_jobs_max = 1;
    options.on_active_limit = ActiveLimitPolicy::kQueue;
    options.validate_condition_on_create = false;
    return options;
  }
  void Put(absl::string_view id, absl::string_view body) {
    ASSERT_EQ(hub_.Send("PUT", JobPath(id), body).status, 200) << id;
    hub_.time.Advance(absl::Milliseconds(1));
  }
  RestAnswer List(absl::string_view parameters = "", HttpHeaders headers = {}) {
    return hub_.Send("GET", absl::StrCat("/jobs/v2/query", parameters), "",
                     std::move(headers));
  }

  RestHub hub_;
};

TEST_F(HubJobListTest, AllJobsNewestFirst) {
  const RestAnswer answer = List();
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.Header("x-ms-item-type"), "JobResponse");
  EXPECT_EQ(answer.Header("x-ms-continuation"), "");
  EXPECT_EQ(answer.Header("Content-Type"), "application/json; charset=utf-8");
  EXPECT_EQ(Ids(answer),
            (std::vector<std::string>{"queued", "running", "scheduled",
                                      "cancelled", "failed", "completed"}));
  // Each as GET shows it.
  std::string all = "[";
  for (const std::string& id : Ids(answer)) {
    absl::StrAppend(&all, all.size() > 1 ? "," : "",
                    hub_.Send("GET", JobPath(id)).body);
  }
  EXPECT_EQ(answer.body, all + "]");
}

TEST_F(HubJobListTest, FiltersInAnySpelling) {
  struct {
    const char* parameters;
    std::vector<std::string> ids;
  } const rows[] = {
      {"?jobStatus=queued", {"queued"}},
      {"?jobStatus=Queued", {"queued"}},
      {"?jobStatus=enqueued", {"queued"}},
      {"?jobStatus=PENDING", {"queued"}},
      {"?jobStatus=scheduled", {"scheduled"}},
      {"?jobStatus=Running", {"running"}},
      {"?jobStatus=completed", {"completed"}},
      {"?jobStatus=finished", {"completed"}},
      {"?jobStatus=failed", {"failed"}},
      {"?jobStatus=cancelled", {"cancelled"}},
      {"?jobStatus=Canceled", {"cancelled"}},
      {"?jobStatus=%43ompleted", {"completed"}},
      {"?jobType=scheduleUpdateTwin", {"queued", "failed", "completed"}},
      {"?jobType=ScheduleDeviceMethod", {"running", "scheduled", "cancelled"}},
      {"?jobStatus=&jobType=",
       {"queued", "running", "scheduled", "cancelled", "failed", "completed"}},
      {"?jobStatus=Cancelled&jobType=ScheduleDeviceMethod", {"cancelled"}},
      {"?jobType=scheduleUpdateTwin&jobStatus=Cancelled", {}},
  };
  for (const auto& row : rows) {
    const RestAnswer answer = List(row.parameters);
    EXPECT_EQ(answer.status, 200) << row.parameters << answer.body;
    EXPECT_EQ(Ids(answer), row.ids) << row.parameters;
    EXPECT_EQ(answer.Header("x-ms-item-type"), "JobResponse");
  }
  EXPECT_EQ(List("?jobType=scheduleUpdateTwin&jobStatus=Cancelled").body, "[]");
}

TEST_F(HubJobListTest, UnknownFiltersAreRefused) {
  for (const char* parameters :
       {"?jobStatus=done", "?jobStatus=unknown", "?jobType=unknown",
        "?jobType=scheduleTwinUpdate", "?jobType=export",
        "?jobStatus=queued%20"}) {
    const RestAnswer answer = List(parameters);
    EXPECT_EQ(Said(answer), "400 ArgumentInvalid") << parameters;
    EXPECT_TRUE(absl::StrContains(
        answer.message(),
        absl::StrContains(parameters, "Type") ? "jobType" : "jobStatus"))
        << answer.body;
  }
}

// V18, and the sizes of 4.5.
TEST_F(HubJobListTest, Pages) {
  std::vector<std::string> ids;
  std::string continuation;
  int pages = 0;
  do {
    HttpHeaders headers = {{"x-ms-max-item-count", "1"}};
    if (!continuation.empty()) {
      headers.emplace_back("x-ms-continuation", continuation);
    }
    const RestAnswer page =
        List("?jobType=scheduleDeviceMethod", std::move(headers));
    ASSERT_EQ(page.status, 200) << page.body;
    EXPECT_EQ(page.Header("X-Ms-Item-Type"), "JobResponse");
    for (std::string& id : Ids(page)) ids.push_back(std::move(id));
    continuation = page.Header("x-ms-continuation");
    EXPECT_LE(continuation.size(), 2048u);
    for (const char c : continuation) EXPECT_TRUE(c > ' ' && c < 0x7F);
    ++pages;
  } while (!continuation.empty() && pages < 10);
  EXPECT_EQ(ids,
            (std::vector<std::string>{"running", "scheduled", "cancelled"}));
  EXPECT_EQ(pages, 3);
}

TEST_F(HubJobListTest, HeadersWinOverParameters) {
  EXPECT_EQ(Ids(List("?pageSize=2")).size(), 2u);
  EXPECT_EQ(Ids(List("?pageSize=2", {{"X-MS-Max-Item-Count", "3"}})).size(),
            3u);
  const RestAnswer two = List("?pageSize=2");
  const std::string after_two = two.Header("x-ms-continuation");
  const std::string after_three =
      List("?pageSize=3").Header("x-ms-continuation");
  ASSERT_NE(after_two, "");
  EXPECT_EQ(Ids(List("?continuationToken=" + after_two))[0], "scheduled");
  EXPECT_EQ(Ids(List("?continuationToken=" + after_two,
                     {{"x-ms-continuation", after_three}}))[0],
            "cancelled");
  // The same page again, whenever it is asked for.
  EXPECT_EQ(List("?continuationToken=" + after_two).body,
            List("?continuationToken=" + after_two).body);
}

TEST_F(HubJobListTest, ForeignContinuationsAreRefused) {
  std::string token = List("?pageSize=1").Header("x-ms-continuation");
  ASSERT_NE(token, "");
  const std::string of_devices = [&] {
    hub_.AddTwin("d2");
    return hub_
        .Send("POST", "/devices/query", R"({"query":"SELECT * FROM devices"})",
              {{"x-ms-max-item-count", "1"}})
        .Header("x-ms-continuation");
  }();
  ASSERT_NE(of_devices, "");
  std::string damaged = token;
  damaged[damaged.size() / 2] = damaged[damaged.size() / 2] == 'A' ? 'B' : 'A';
  for (const std::string& bad :
       {damaged, of_devices, std::string("x"), token + "x",
        std::string(4096, 'A'), std::string("\xFF")}) {
    EXPECT_EQ(Said(List("", {{"x-ms-continuation", bad}})),
              "400 ArgumentInvalid")
        << bad;
  }
  // Of another filter.
  EXPECT_EQ(Said(List("?jobStatus=queued", {{"x-ms-continuation", token}})),
            "400 ArgumentInvalid");
}

TEST(HubJobsTest, PageSizesAreTakenToTheNearest) {
  RestHub hub;
  const std::string later =
      StartingAt(kUpdate, hub.time.Now() + absl::Hours(1));
  for (int i = 0; i < 101; ++i) {
    ASSERT_EQ(hub.Send("PUT", JobPath(absl::StrCat("j", i)), later).status,
              200);
  }
  struct {
    const char* size;
    size_t rows;
  } const rows[] = {
      {"1", 1},
      {"50", 50},
      {" 50 ", 50},
      {"100", 100},
      {"101", 100},
      {"1000", 100},
      {"0", 1},
      {"-1", 1},
      {"", 100},
      {"many", 100},
      {"1.5", 100},
      {"0x10", 100},
      {"99999999999999999999", 100},
      {"-99999999999999999999", 1},
      {"-", 100},
  };
  for (const auto& row : rows) {
    const RestAnswer answer = hub.Send("GET", "/jobs/v2/query", "",
                                       {{"x-ms-max-item-count", row.size}});
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(Ids(answer).size(), row.rows) << row.size;
    EXPECT_NE(answer.Header("x-ms-continuation"), "");
  }
  // Of jobs created at one instant: by id.
  const std::vector<std::string> ids = Ids(hub.Send("GET", "/jobs/v2/query"));
  const std::set<std::string> sorted(ids.begin(), ids.end());
  EXPECT_EQ(ids, std::vector<std::string>(sorted.begin(), sorted.end()));
}

// ------------------------------------------------------------------ R2, R12

TEST(HubJobsTest, UnknownJobs) {
  RestHub hub;
  const RestAnswer answer = hub.Send("GET", "/jobs/v2/nightly-9");
  EXPECT_EQ(Said(answer), "404 JobNotFound");
  EXPECT_TRUE(absl::StrContains(answer.message(), "nightly-9"));
}

TEST(HubJobsTest, BulkJobsAreNotSupported) {
  RestHub hub;
  for (const auto& [method, target] : {std::pair{"POST", "/jobs/create"},
                                       {"GET", "/jobs"},
                                       {"GET", "/jobs/x"},
                                       {"DELETE", "/jobs/x"},
                                       {"GET", "/jobs/"}}) {
    EXPECT_EQ(Said(hub.Send(method, target)), "404 FeatureNotSupported")
        << method << target;
  }
}

// The second seed's per-device path (contract 1.9, J7).
TEST(HubJobsTest, ThePathOf2016IsNotThere) {
  RestHub hub;
  EXPECT_EQ(Said(hub.Send("PUT", "/jobs/v2/d1/methods/j", kMethod)),
            "404 GenericNotFound");
}

}  // namespace
}  // namespace muster
