// Job requests, row by row of contract 1.1 to 1.11, and jobs as text.
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/model/error.h"
#include "engine/model/instant.h"
#include "engine/model/job.h"
#include "engine/model/job_status.h"
#include "engine/model/json.h"
#include "engine/model/limits.h"
#include "engine/model/twin_patch.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Repeat(absl::string_view text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) absl::StrAppend(&out, text);
  return out;
}

// A request body, from members that a test may replace or leave out.
struct Body {
  std::string job_id = R"("job01")";
  std::string type = R"("scheduleDeviceMethod")";
  std::string method =
      R"({"methodName":"lockDoor","payload":{"mode":"night"}})";
  std::string twin = "";
  std::string condition = R"("*")";
  std::string start_time = "";
  std::string max_execution_time = "";
  std::string more = "";  // Members, as text.

  static Body Method(absl::string_view method) {
    Body body;
    body.method = std::string(method);
    return body;
  }
  static Body Twin(absl::string_view twin) {
    Body body;
    body.type = R"("scheduleUpdateTwin")";
    body.method = "";
    body.twin = std::string(twin);
    return body;
  }

  std::string Text() const {
    std::string out = "{";
    const auto add = [&out](absl::string_view name, absl::string_view value) {
      if (value.empty()) return;
      absl::StrAppend(&out, out.size() > 1 ? "," : "", "\"", name,
                      "\":", value);
    };
    add("jobId", job_id);
    add("type", type);
    add("cloudToDeviceMethod", method);
    add("updateTwin", twin);
    add("queryCondition", condition);
    add("startTime", start_time);
    add("maxExecutionTimeInSeconds", max_execution_time);
    absl::StrAppend(&out, more, "}");
    return out;
  }
};

absl::StatusOr<JobRequest> Parse(const Body& body,
                                 const JobParseOptions& options = {}) {
  return ParseJobRequest("job01", body.Text(), options);
}

// kOk, or the error's number.
ErrorCode CodeOf(const Body& body, const JobParseOptions& options = {}) {
  return ErrorCodeOf(Parse(body, options).status());
}

// The message of an error.
std::string MessageOf(const Body& body) {
  return std::string(Parse(body).status().message());
}

// ------------------------------------------------------------------ 1.1: ids

TEST(JobIdTest, FollowsItsGrammar) {
  for (const std::string& id :
       {std::string("job01"), std::string("DPCMD3f0c"), std::string("a"),
        Repeat("x", 64), std::string("-"), std::string("query2"),
        std::string("0"), std::string("querY-")}) {
    EXPECT_TRUE(ValidateJobId(id).ok()) << id;
  }
  for (const std::string& id :
       {std::string(""), std::string("job_1"), std::string("job.1"),
        std::string("job 1"),
        std::string("j\xC3\xB6"
                    "b"),
        Repeat("x", 65), std::string("query"), std::string("QUERY"),
        std::string("Query"), std::string("a/b"), std::string("a\0b", 3),
        std::string("a\xFF")}) {
    EXPECT_EQ(ErrorCodeOf(ValidateJobId(id)), ErrorCode::kArgumentInvalid)
        << id;
  }
}

TEST(JobIdTest, ErrorsNameTheIdAndTheCharacter) {
  EXPECT_THAT(std::string(ValidateJobId("job_1").message()),
              AllOf(HasSubstr("\"job_1\""), HasSubstr("\"_\"")));
  EXPECT_THAT(std::string(ValidateJobId(Repeat("x", 65)).message()),
              AllOf(HasSubstr("65"), HasSubstr("64")));
}

TEST(JobIdTest, TheBodyMayRepeatThePath) {
  Body body;
  EXPECT_EQ(Parse(body)->job_id, "job01");
  body.job_id = "";
  EXPECT_EQ(Parse(body)->job_id, "job01");
  body.job_id = "null";
  EXPECT_EQ(Parse(body)->job_id, "job01");
  body.job_id = R"("JOB01")";  // Case-sensitive.
  EXPECT_EQ(CodeOf(body), ErrorCode::kArgumentInvalid);
  EXPECT_THAT(MessageOf(body),
              AllOf(HasSubstr("\"JOB01\""), HasSubstr("\"job01\"")));
  body.job_id = R"("")";
  EXPECT_EQ(CodeOf(body), ErrorCode::kArgumentInvalid);
}

TEST(JobIdTest, TheBodyMayWriteItAsANumber) {
  Body body;
  body.job_id = "123";
  EXPECT_EQ(ParseJobRequest("123", body.Text())->job_id, "123");
  EXPECT_EQ(ErrorCodeOf(ParseJobRequest("0123", body.Text()).status()),
            ErrorCode::kArgumentInvalid);
  for (const char* id : {"1.5", "123.0", "true", "[]", "{}"}) {
    body.job_id = id;
    EXPECT_EQ(ErrorCodeOf(ParseJobRequest("123", body.Text()).status()),
              ErrorCode::kArgumentInvalid)
        << id;
  }
}

TEST(JobIdTest, WithoutAPathTheBodyDecides) {
  Body body;
  EXPECT_EQ(ParseJobRequest("", body.Text())->job_id, "job01");
  for (const char* id : {"", "null", R"("")", R"("a_b")", R"("query")"}) {
    body.job_id = id;
    EXPECT_EQ(ErrorCodeOf(ParseJobRequest("", body.Text()).status()),
              ErrorCode::kArgumentInvalid)
        << id;
  }
}

// ----------------------------------------------------------- row 4: the body

TEST(JobBodyTest, MustBeAJsonObject) {
  for (const std::string& body :
       {std::string(""), std::string("{"), std::string("[]"),
        std::string("null"), std::string("3"), std::string("\"x\""),
        std::string("{\"a\":1} x"), std::string("{\"a\":\"\xFF\"}"),
        std::string("{'a':1}")}) {
    EXPECT_EQ(ErrorCodeOf(ParseJobRequest("job01", body).status()),
              ErrorCode::kIotHubFormatError)
        << body;
  }
}

TEST(JobBodyTest, NamesEachMemberOnce) {
  Body body;
  body.more = R"(,"type":"scheduleDeviceMethod")";
  EXPECT_EQ(CodeOf(body), ErrorCode::kIotHubFormatError);
  EXPECT_EQ(CodeOf(Body::Method(
                R"({"methodName":"a","payload":{"x":[{"k":1,"k":2}]}})")),
            ErrorCode::kIotHubFormatError);
}

TEST(JobBodyTest, HasALimit) {
  Body body;
  body.more = ",\"note\":\"\"";
  const size_t rest = kJobBodySizeMax - body.Text().size();
  body.more = absl::StrCat(",\"note\":\"", std::string(rest, 'x'), "\"");
  ASSERT_EQ(body.Text().size(), kJobBodySizeMax);
  EXPECT_EQ(CodeOf(body), ErrorCode::kOk);
  body.more = absl::StrCat(",\"note\":\"", std::string(rest + 1, 'x'), "\"");
  EXPECT_EQ(CodeOf(body), ErrorCode::kMessageTooLarge);
  EXPECT_THAT(MessageOf(body), HasSubstr("262144"));
  // The limit is met before the text is looked at.
  EXPECT_EQ(ErrorCodeOf(
                ParseJobRequest("job01", std::string(kJobBodySizeMax + 1, '{'))
                    .status()),
            ErrorCode::kMessageTooLarge);
}

TEST(JobBodyTest, UnknownMembersAreIgnored) {
  Body body;
  body.more = R"(,"deviceIds":["a"],"x":{"y":1},"$z":null,"größe":3)";
  EXPECT_EQ(CodeOf(body), ErrorCode::kOk);
  EXPECT_EQ(CodeOf(Body::Method(
                R"({"methodName":"a","timeoutInSeconds":-4,"extra":"b c"})")),
            ErrorCode::kOk);
}

// ------------------------------------------------- row 6: type and members

TEST(JobTypeTest, IsOneOfTwoInAnyCase) {
  for (const char* type :
       {R"("scheduleDeviceMethod")", R"("SCHEDULEDEVICEMETHOD")",
        R"("ScheduleDeviceMethod")"}) {
    Body body;
    body.type = type;
    ASSERT_EQ(CodeOf(body), ErrorCode::kOk) << type;
    EXPECT_EQ(Parse(body)->type(), JobType::kDeviceMethod);
  }
  for (const char* type :
       {R"("scheduleUpdateTwin")", R"("scheduleupdatetwin")"}) {
    Body body = Body::Twin("{}");
    body.type = type;
    ASSERT_EQ(CodeOf(body), ErrorCode::kOk) << type;
    EXPECT_EQ(Parse(body)->type(), JobType::kUpdateTwin);
  }
}

TEST(JobTypeTest, EverythingElseIsABadRequest) {
  for (const char* type :
       {"", "null", "3", "{}", R"("")", R"("unknown")", R"("export")",
        R"("import")", R"("backup")", R"("readDeviceProperties")",
        R"("writeDeviceProperties")", R"("updateDeviceConfiguration")",
        R"("rebootDevice")", R"("factoryResetDevice")", R"("firmwareUpdate")",
        R"("restoreFromBackup")", R"("failoverDataCopy")",
        R"("scheduleDeviceMethod ")"}) {
    Body body;
    body.type = type;
    EXPECT_EQ(CodeOf(body), ErrorCode::kGenericBadRequest) << type;
    EXPECT_THAT(MessageOf(body), HasSubstr("scheduleDeviceMethod")) << type;
  }
}

TEST(JobTypeTest, NamesOfOlderDocumentsAreRefusedWithTodays) {
  const struct {
    const char* dead;
    const char* alive;
  } kNames[] = {{"scheduleDirectRequest", "scheduleDeviceMethod"},
                {"scheduleDirectMethod", "scheduleDeviceMethod"},
                {"scheduledDeviceMethod", "scheduleDeviceMethod"},
                {"scheduleTwinUpdate", "scheduleUpdateTwin"},
                {"scheduledUpdateTwin", "scheduleUpdateTwin"}};
  for (const auto& name : kNames) {
    Body body;
    body.type = absl::StrCat("\"", name.dead, "\"");
    EXPECT_EQ(CodeOf(body), ErrorCode::kGenericBadRequest) << name.dead;
    EXPECT_THAT(MessageOf(body),
                AllOf(HasSubstr(absl::StrCat("\"", name.dead, "\"")),
                      HasSubstr(absl::StrCat("write \"", name.alive, "\""))));
  }
}

struct MemberCase {
  const char* name;
  Body body;
  ErrorCode code;
};

class JobMemberTest : public testing::TestWithParam<MemberCase> {};

TEST_P(JobMemberTest, AnswersAsTheTableSays) {
  const MemberCase& c = GetParam();
  EXPECT_EQ(CodeOf(c.body), c.code) << c.body.Text() << "\n"
                                    << MessageOf(c.body);
}

std::string MemberCaseName(const testing::TestParamInfo<MemberCase>& info) {
  return info.param.name;
}

Body WithCondition(const char* condition) {
  Body body;
  body.condition = condition;
  return body;
}

Body Both(Body body, const char* method, const char* twin) {
  body.method = method;
  body.twin = twin;
  return body;
}

Body WithStart(absl::string_view start_time) {
  Body body;
  body.start_time = std::string(start_time);
  return body;
}

Body WithLimit(absl::string_view limit) {
  Body body;
  body.max_execution_time = std::string(limit);
  return body;
}

Body WithName(absl::string_view name) {
  return Body::Method(absl::StrCat(R"({"methodName":")", name, "\"}"));
}

Body WithPayload(absl::string_view payload) {
  return Body::Method(
      absl::StrCat(R"({"methodName":"a","payload":)", payload, "}"));
}

Body WithMethodMember(absl::string_view name, absl::string_view value) {
  return Body::Method(
      absl::StrCat(R"({"methodName":"a",")", name, "\":", value, "}"));
}

Body WithTags(absl::string_view tags) {
  return Body::Twin(absl::StrCat(R"({"tags":)", tags, "}"));
}

Body WithDesired(absl::string_view desired) {
  return Body::Twin(
      absl::StrCat(R"({"properties":{"desired":)", desired, "}}"));
}

Body WithEtag(absl::string_view etag) {
  return Body::Twin(absl::StrCat(R"({"etag":)", etag, "}"));
}

constexpr ErrorCode kOk = ErrorCode::kOk;
constexpr ErrorCode kInvalid = ErrorCode::kArgumentInvalid;
constexpr ErrorCode kNull = ErrorCode::kArgumentNull;
constexpr ErrorCode kTooLarge = ErrorCode::kMessageTooLarge;
constexpr ErrorCode kPrecondition = ErrorCode::kPreconditionFailed;

// Contract 1.3.
INSTANTIATE_TEST_SUITE_P(
    Required, JobMemberTest,
    testing::Values(
        MemberCase{"ConditionAbsent", WithCondition(""), kNull},
        MemberCase{"ConditionNull", WithCondition("null"), kNull},
        MemberCase{"ConditionEmpty", WithCondition(R"("")"), kInvalid},
        MemberCase{"ConditionNumber", WithCondition("3"), kInvalid},
        MemberCase{"ConditionObject", WithCondition("{}"), kInvalid},
        // Its syntax is not looked at here.
        MemberCase{"ConditionAnyText", WithCondition(R"("deviceId = ")"), kOk},
        MemberCase{"MethodAbsent", Body::Method(""), kNull},
        MemberCase{"MethodNull", Body::Method("null"), kNull},
        MemberCase{"MethodString", Body::Method(R"("lockDoor")"), kInvalid},
        MemberCase{"MethodArray", Body::Method("[]"), kInvalid},
        MemberCase{"TwinAbsent", Body::Twin(""), kNull},
        MemberCase{"TwinNull", Body::Twin("null"), kNull},
        MemberCase{"TwinBool", Body::Twin("true"), kInvalid},
        MemberCase{"TwinEmpty", Body::Twin("{}"), kOk},
        MemberCase{"MethodNameAbsent", Body::Method("{}"), kNull},
        MemberCase{"MethodNameNull", Body::Method(R"({"methodName":null})"),
                   kNull},
        MemberCase{"MethodNameEmpty", WithName(""), kInvalid},
        MemberCase{"MethodNameNumber", Body::Method(R"({"methodName":5})"),
                   kInvalid},
        MemberCase{"OtherNullInMethod",
                   Both(Body(), R"({"methodName":"a"})", "null"), kOk},
        MemberCase{"OtherNullInTwin", Both(Body::Twin("{}"), "null", "{}"),
                   kOk},
        MemberCase{"OtherThereInMethod",
                   Both(Body(), R"({"methodName":"a"})", "{}"), kInvalid},
        MemberCase{"OtherThereInTwin",
                   Both(Body::Twin("{}"), R"({"methodName":"a"})", "{}"),
                   kInvalid},
        MemberCase{"OtherOfWrongType",
                   Both(Body(), R"({"methodName":"a"})", "3"), kInvalid}),
    MemberCaseName);

// Contract 1.11 and 1.2.
INSTANTIATE_TEST_SUITE_P(
    Time, JobMemberTest,
    testing::Values(
        MemberCase{"StartNull", WithStart("null"), kOk},
        MemberCase{"StartPast", WithStart(R"("1999-01-01T00:00:00Z")"), kOk},
        MemberCase{"StartFarAway", WithStart(R"("2050-01-01T00:00:00Z")"), kOk},
        MemberCase{"StartLast", WithStart(R"("9999-12-31T23:59:59.9999999Z")"),
                   kOk},
        MemberCase{"StartOffset", WithStart(R"("2031-03-01T22:00:00+01:30")"),
                   kOk},
        MemberCase{"StartNoZone", WithStart(R"("2031-03-01T22:00:00")"), kOk},
        MemberCase{"StartLeapSecond", WithStart(R"("2031-06-30T23:59:60Z")"),
                   kOk},
        MemberCase{"StartDateOnly", WithStart(R"("2031-03-01")"), kInvalid},
        MemberCase{"StartWord", WithStart(R"("tomorrow")"), kInvalid},
        MemberCase{"StartEmpty", WithStart(R"("")"), kInvalid},
        MemberCase{"StartNumber", WithStart("1930000000"), kInvalid},
        MemberCase{"StartObject", WithStart("{}"), kInvalid},
        MemberCase{"StartBeforeYear1",
                   WithStart(R"("0001-01-01T00:00:00+01:00")"), kInvalid},
        MemberCase{"StartAfterYear9999",
                   WithStart(R"("9999-12-31T23:59:59-01:00")"), kInvalid},
        MemberCase{"LimitNull", WithLimit("null"), kOk},
        MemberCase{"LimitZero", WithLimit("0"), kOk},
        MemberCase{"LimitOne", WithLimit("1"), kOk},
        MemberCase{"LimitMax", WithLimit("9223372036854775807"), kOk},
        MemberCase{"LimitBeyondInt64", WithLimit("9223372036854775808"),
                   kInvalid},
        MemberCase{"LimitNegative", WithLimit("-1"), kInvalid},
        MemberCase{"LimitFraction", WithLimit("30.5"), kInvalid},
        MemberCase{"LimitZeroFraction", WithLimit("30.0"), kInvalid},
        MemberCase{"LimitExponent", WithLimit("3e1"), kInvalid},
        MemberCase{"LimitString", WithLimit(R"("30")"), kInvalid},
        MemberCase{"LimitBool", WithLimit("true"), kInvalid}),
    MemberCaseName);

// Contract 1.4 and 1.7.
INSTANTIATE_TEST_SUITE_P(
    Method, JobMemberTest,
    testing::Values(
        MemberCase{"NameAllCharacters", WithName("azAZ09!#%&'*+-.^_`|~"), kOk},
        MemberCase{"NameLongest", WithName(Repeat("n", 100)), kOk},
        MemberCase{"NameTooLong", WithName(Repeat("n", 101)), kInvalid},
        MemberCase{"NameSpace", WithName("bad name"), kInvalid},
        MemberCase{"NameParentheses", WithName("a(b)"), kInvalid},
        MemberCase{"NameDollar", WithName("$version"), kInvalid},
        MemberCase{"NameColon", WithName("key:1"), kInvalid},
        MemberCase{"NameUmlaut",
                   WithName("gr\xC3\xB6\xC3\x9F"
                            "e"),
                   kInvalid},
        MemberCase{"NameNul", WithName("a\\u0000"), kInvalid},
        MemberCase{"PayloadNull", WithPayload("null"), kOk},
        MemberCase{"PayloadNumber", WithPayload("30"), kOk},
        MemberCase{"PayloadString", WithPayload(R"x("any: text (here)")x"),
                   kOk},
        MemberCase{"PayloadArray", WithPayload("[1,[2],{}]"), kOk},
        MemberCase{"PayloadFalse", WithPayload("false"), kOk},
        MemberCase{"PayloadGoodNames",
                   WithPayload(R"({"sendFrequency":1,"fw-version":1,"a_b":1,)"
                               R"("x.y":1,"it's":1})"),
                   kOk},
        MemberCase{"PayloadSpaceInName", WithPayload(R"({"bad name":1})"),
                   kInvalid},
        MemberCase{"PayloadParentheses", WithPayload(R"x({"a(b)":1})x"),
                   kInvalid},
        MemberCase{"PayloadDollar", WithPayload(R"({"$version":1})"), kInvalid},
        MemberCase{"PayloadColon", WithPayload(R"({"key:1":1})"), kInvalid},
        MemberCase{"PayloadUmlaut", WithPayload(R"({"gr\u00f6\u00dfe":1})"),
                   kInvalid},
        MemberCase{"PayloadDeepName", WithPayload(R"({"a":[{"b":{"c d":1}}]})"),
                   kInvalid},
        MemberCase{"PayloadValuesAreFree",
                   WithPayload(R"x({"a":"Class1, Class2 (x)"})x"), kOk},
        MemberCase{"PayloadLargest",
                   WithPayload(absl::StrCat(
                       "\"", Repeat("p", kMethodPayloadSizeMax - 2), "\"")),
                   kOk},
        MemberCase{"PayloadTooLarge",
                   WithPayload(absl::StrCat(
                       "\"", Repeat("p", kMethodPayloadSizeMax - 1), "\"")),
                   kTooLarge},
        MemberCase{"PayloadTooLargeByWhiteSpace",
                   WithPayload(absl::StrCat(
                       "[", Repeat(" ", kMethodPayloadSizeMax - 1), "]")),
                   kTooLarge},
        MemberCase{"ResponseTimeoutNull",
                   WithMethodMember("responseTimeoutInSeconds", "null"), kOk},
        MemberCase{"ResponseTimeoutMin",
                   WithMethodMember("responseTimeoutInSeconds", "5"), kOk},
        MemberCase{"ResponseTimeoutMax",
                   WithMethodMember("responseTimeoutInSeconds", "300"), kOk},
        MemberCase{"ResponseTimeoutBelow",
                   WithMethodMember("responseTimeoutInSeconds", "4"), kInvalid},
        MemberCase{"ResponseTimeoutZero",
                   WithMethodMember("responseTimeoutInSeconds", "0"), kInvalid},
        MemberCase{"ResponseTimeoutAbove",
                   WithMethodMember("responseTimeoutInSeconds", "301"),
                   kInvalid},
        MemberCase{"ResponseTimeoutWraps",
                   WithMethodMember("responseTimeoutInSeconds", "4294967301"),
                   kInvalid},
        MemberCase{"ResponseTimeoutFraction",
                   WithMethodMember("responseTimeoutInSeconds", "30.0"),
                   kInvalid},
        MemberCase{"ResponseTimeoutString",
                   WithMethodMember("responseTimeoutInSeconds", R"("30")"),
                   kInvalid},
        MemberCase{"ConnectTimeoutNull",
                   WithMethodMember("connectTimeoutInSeconds", "null"), kOk},
        MemberCase{"ConnectTimeoutMin",
                   WithMethodMember("connectTimeoutInSeconds", "0"), kOk},
        MemberCase{"ConnectTimeoutMax",
                   WithMethodMember("connectTimeoutInSeconds", "300"), kOk},
        MemberCase{"ConnectTimeoutNegative",
                   WithMethodMember("connectTimeoutInSeconds", "-1"), kInvalid},
        MemberCase{"ConnectTimeoutAbove",
                   WithMethodMember("connectTimeoutInSeconds", "301"),
                   kInvalid},
        MemberCase{"ConnectTimeoutBool",
                   WithMethodMember("connectTimeoutInSeconds", "true"),
                   kInvalid}),
    MemberCaseName);

// Contract 1.5, 1.7 and 6.3.
INSTANTIATE_TEST_SUITE_P(
    Twin, JobMemberTest,
    testing::Values(
        MemberCase{"EtagStar", WithEtag(R"("*")"), kOk},
        MemberCase{"EtagQuotedStar", WithEtag(R"("\"*\"")"), kOk},
        MemberCase{"EtagNull", WithEtag("null"), kOk},
        MemberCase{"EtagOther", WithEtag(R"("abc")"), kPrecondition},
        MemberCase{"EtagEmpty", WithEtag(R"("")"), kPrecondition},
        MemberCase{"EtagNumber", WithEtag("5"), kInvalid},
        MemberCase{"Tags", WithTags(R"({"campaign":"spring"})"), kOk},
        MemberCase{"TagsNull", WithTags("null"), kOk},
        MemberCase{"TagsArray", WithTags("[]"), kInvalid},
        MemberCase{"Desired", WithDesired(R"({"floor":3,"old":null})"), kOk},
        MemberCase{"DesiredString", WithDesired(R"("x")"), kInvalid},
        MemberCase{"PropertiesString", Body::Twin(R"({"properties":"x"})"),
                   kInvalid},
        MemberCase{"ReportedIgnored",
                   Body::Twin(R"({"properties":{"reported":{"a b":1}}})"), kOk},
        MemberCase{"WholeTwin",
                   Body::Twin(R"({"deviceId":null,"etag":null,"version":7,)"
                              R"("moduleId":null,"status":"enabled",)"
                              R"("tags":null,"properties":{"desired":{},)"
                              R"("reported":{}}})"),
                   kOk},
        MemberCase{"DesiredAtTheTop", Body::Twin(R"({"desired":{"a":1}})"),
                   kInvalid},
        MemberCase{"NameDot", WithTags(R"({"x.y":1})"), kInvalid},
        MemberCase{"NameDollar", WithDesired(R"({"$version":1})"), kInvalid},
        MemberCase{"NameSpace", WithTags(R"({"a":{"bad name":1}})"), kInvalid},
        MemberCase{"NameParentheses", WithTags(R"x({"a(b)":1})x"), kInvalid},
        MemberCase{"NameColon", WithTags(R"({"key:1":1})"), kInvalid},
        MemberCase{"NameUmlaut", WithTags(R"({"gr\u00f6\u00dfe":1})"),
                   kInvalid},
        MemberCase{"NameApostrophe", WithTags(R"({"it's":1})"), kOk},
        MemberCase{"ValuesAreFree", WithTags(R"({"a":"Class1, Class2"})"), kOk},
        MemberCase{"IntegerTooLarge", WithTags(R"({"a":4503599627370496})"),
                   kInvalid},
        MemberCase{
            "TagsTooLarge",
            WithTags(absl::StrCat(R"({"a":")", Repeat("x", 4000), R"(","b":")",
                                  Repeat("x", 4000), R"(","c":")",
                                  Repeat("x", 4000), "\"}")),
            kTooLarge},
        MemberCase{"DepthTooLarge",
                   WithTags(absl::StrCat(Repeat(R"({"a":)", 12), "1",
                                         Repeat("}", 12))),
                   kInvalid}),
    MemberCaseName);

TEST(JobRequestTest, FillsInDefaults) {
  Body body = Body::Method(R"({"methodName":"reboot"})");
  body.job_id = "";
  const absl::StatusOr<JobRequest> request = Parse(body);
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->query_condition, "*");
  EXPECT_FALSE(request->start_time.has_value());
  EXPECT_EQ(request->max_execution_time_seconds, 3600);
  const auto& method = std::get<MethodAction>(request->action);
  EXPECT_EQ(method.method_name, "reboot");
  EXPECT_EQ(method.payload, "null");
  EXPECT_EQ(method.response_timeout_seconds, 30);
  EXPECT_EQ(method.connect_timeout_seconds, 0);
  EXPECT_EQ(Parse(WithLimit("0"))->max_execution_time_seconds, 3600);
}

TEST(JobRequestTest, KeepsWhatIsGiven) {
  Body body = Body::Method(
      R"({"methodName":"lockDoor","payload":1,"responseTimeoutInSeconds":15,)"
      R"("connectTimeoutInSeconds":20})");
  body.condition = R"("tags.location.building = '43'")";
  body.start_time = R"("2031-03-01T23:30:00.5+01:30")";
  body.max_execution_time = "300";
  const absl::StatusOr<JobRequest> request = Parse(body);
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->query_condition, "tags.location.building = '43'");
  EXPECT_EQ(FormatInstant(*request->start_time),
            "2031-03-01T22:00:00.5000000Z");
  EXPECT_EQ(request->max_execution_time_seconds, 300);
  const auto& method = std::get<MethodAction>(request->action);
  EXPECT_EQ(method.payload, "1");
  EXPECT_EQ(method.response_timeout_seconds, 15);
  EXPECT_EQ(method.connect_timeout_seconds, 20);
}

TEST(JobRequestTest, PayloadsKeepTheirText) {
  for (const char* payload :
       {R"({ "z" : 1, "a" : [ 1.50, 1e3 ] })", "12345678901234567890",
        R"("\u00e9\/")", "-0", "null", "1.0", "[ ]"}) {
    const absl::StatusOr<JobRequest> request = Parse(WithPayload(payload));
    ASSERT_TRUE(request.ok()) << payload;
    EXPECT_EQ(std::get<MethodAction>(request->action).payload,
              absl::string_view(payload));
  }
}

TEST(JobRequestTest, AnEscapedMemberNameIsTheSameName) {
  Body body =
      Body::Method(R"({"methodName":"a","p\u0061yload":{"z":1,"a":2}})");
  const absl::StatusOr<JobRequest> request = Parse(body);
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(std::get<MethodAction>(request->action).payload,
            R"({"a":2,"z":1})");
}

TEST(JobRequestTest, TwinJobsCarryTheirPatch) {
  const absl::StatusOr<JobRequest> request = Parse(
      Body::Twin(R"({"etag":"*","tags":{"campaign":"spring"},"properties":)"
                 R"({"desired":{"floor":3,"building":"43","legacyMode":null},)"
                 R"("reported":{"x":1}}})"));
  ASSERT_TRUE(request.ok());
  const TwinPatch& patch = std::get<TwinUpdateAction>(request->action).patch;
  EXPECT_EQ(JsonText(patch.tags.view()), R"({"campaign":"spring"})");
  EXPECT_EQ(JsonText(patch.desired.view()),
            R"({"building":"43","floor":3,"legacyMode":null})");
  EXPECT_TRUE(patch.reported.is_undefined());
}

TEST(JobRequestTest, MessagesNameMemberValueAndRemedy) {
  EXPECT_THAT(MessageOf(WithStart(R"("tomorrow")")),
              AllOf(StartsWith("startTime"), HasSubstr("ISO-8601"),
                    HasSubstr("\"tomorrow\"")));
  EXPECT_THAT(MessageOf(WithLimit("-1")),
              AllOf(StartsWith("maxExecutionTimeInSeconds"), HasSubstr("-1")));
  EXPECT_THAT(MessageOf(WithMethodMember("responseTimeoutInSeconds", "4")),
              AllOf(HasSubstr("responseTimeoutInSeconds"),
                    HasSubstr("[5, 300]"), HasSubstr("got 4")));
  EXPECT_THAT(MessageOf(WithPayload(R"({"a":[0,{"b":{"c d":1}}]})")),
              AllOf(HasSubstr("cloudToDeviceMethod.payload.a[1].b"),
                    HasSubstr("\"c d\""), HasSubstr("\" \"")));
  EXPECT_THAT(MessageOf(WithCondition("")), HasSubstr("queryCondition"));
  EXPECT_THAT(MessageOf(WithTags(R"({"a":{"x.y":1}})")),
              HasSubstr("tags.a.x.y"));
}

TEST(JobRequestTest, MessagesStayShortAndPrintable) {
  EXPECT_LT(MessageOf(WithName(Repeat("\xC3\xB6", 5000))).size(), 400u);
  EXPECT_THAT(MessageOf(WithName("a\\u0001b")), HasSubstr("\\x01"));
}

TEST(JobRequestTest, StrictValuesAreAnOption) {
  const JobParseOptions strict = {.strict_job_value_charset = true};
  for (const Body& body :
       {WithPayload(R"({"a":["b c"]})"), WithPayload(R"("b:c")"),
        WithTags(R"({"a":{"b":"c d"}})"), WithDesired(R"({"a":["x,y"]})")}) {
    EXPECT_EQ(CodeOf(body), kOk) << body.Text();
    EXPECT_EQ(CodeOf(body, strict), kInvalid) << body.Text();
  }
  for (const Body& body :
       {WithPayload(R"({"a":["b-c",1,null]})"), WithTags(R"({"a":"b.c"})"),
        // Own grammars, and what is ignored.
        WithCondition(R"("a = 'b c'")"), WithEtag(R"("\"*\"")"),
        Body::Twin(R"({"properties":{"reported":{"a":"b c"}}})")}) {
    EXPECT_EQ(CodeOf(body, strict), kOk) << body.Text();
  }
}

// ------------------------------------------------------- 1.10: the order

// One failure of each check, in the order of the checks.  Each is a change to a
// good method or twin request; changes of different steps do not touch the same
// member, so that a request can fail several.
struct Step {
  const char* name;
  ErrorCode code;
  void (*spoil)(Body&);
};

// Which members are wrong, for both kinds of jobs.
constexpr Step kCommonSteps[] = {
    {"body", ErrorCode::kIotHubFormatError,
     [](Body& b) { b.more = R"(,"x":1,"x":2)"; }},
    {"id", kInvalid, [](Body& b) { b.job_id = R"("other")"; }},
    {"type", ErrorCode::kGenericBadRequest,
     [](Body& b) { b.type = R"("export")"; }},
    {"condition", kNull, [](Body& b) { b.condition = "null"; }},
    {"start", kInvalid, [](Body& b) { b.start_time = "3"; }},
    {"limit", kInvalid, [](Body& b) { b.max_execution_time = "-1"; }},
};

constexpr absl::string_view kMarkers[] = {
    "occurs twice",   "jobId",     "type",
    "queryCondition", "startTime", "maxExecutionTimeInSeconds"};

// Failing steps i < j both, a request answers i: for all pairs, not the
// adjacent ones only.
TEST(JobOrderTest, TheEarlierOfTwoCommonFailuresAnswers) {
  for (const Body& good : {Body(), Body::Twin(R"({"tags":{}})")}) {
    for (size_t i = 0; i < std::size(kCommonSteps); ++i) {
      for (size_t j = i; j < std::size(kCommonSteps); ++j) {
        Body body = good;
        kCommonSteps[i].spoil(body);
        kCommonSteps[j].spoil(body);
        EXPECT_EQ(CodeOf(body), kCommonSteps[i].code) << body.Text();
        EXPECT_THAT(MessageOf(body), HasSubstr(std::string(kMarkers[i])))
            << body.Text();
      }
    }
  }
}

struct OrderCase {
  const char* name;
  Body body;
  ErrorCode code;
  const char* marker;  // In the message.
};

class JobOrderTest : public testing::TestWithParam<OrderCase> {};

TEST_P(JobOrderTest, TheEarlierFailureAnswers) {
  const OrderCase& c = GetParam();
  EXPECT_EQ(CodeOf(c.body), c.code) << c.body.Text();
  EXPECT_THAT(MessageOf(c.body), HasSubstr(c.marker)) << c.body.Text();
}

Body With(Body body, void (*change)(Body&)) {
  change(body);
  return body;
}

INSTANTIATE_TEST_SUITE_P(
    Rows, JobOrderTest,
    testing::Values(
        // Within row 6: type, condition, the other's object, the name.
        OrderCase{
            "TypeBeforeAction",
            With(Body::Method(""), [](Body& b) { b.type = R"("import")"; }),
            ErrorCode::kGenericBadRequest, "type"},
        OrderCase{"ConditionBeforeAction",
                  With(Body::Method(""), [](Body& b) { b.condition = "{}"; }),
                  kInvalid, "queryCondition"},
        OrderCase{"ActionBeforeOther", Both(Body(), "", "{}"), kNull,
                  "cloudToDeviceMethod"},
        OrderCase{"OtherBeforeMethodName", Both(Body(), "{}", "{}"), kInvalid,
                  "updateTwin"},
        // Row 6 before 7.
        OrderCase{"MethodNameBeforeStart",
                  With(Body::Method("{}"), [](Body& b) { b.start_time = "3"; }),
                  kNull, "methodName"},
        OrderCase{"TwinBeforeStart",
                  With(Body::Twin("[]"), [](Body& b) { b.start_time = "3"; }),
                  kInvalid, "updateTwin"},
        // Row 7 before 8.
        OrderCase{
            "LimitBeforeMethodNameCharset",
            With(WithName("a b"), [](Body& b) { b.max_execution_time = "-1"; }),
            kInvalid, "maxExecutionTimeInSeconds"},
        OrderCase{
            "LimitBeforePatch",
            With(WithTags("3"), [](Body& b) { b.max_execution_time = "-1"; }),
            kInvalid, "maxExecutionTimeInSeconds"},
        // Within row 8, the order of 1.4.
        OrderCase{"NameBeforePayload",
                  Body::Method(R"({"methodName":"a b","payload":{"c d":1}})"),
                  kInvalid, "methodName"},
        OrderCase{"PayloadSizeBeforeItsNames",
                  WithPayload(absl::StrCat(R"({"c d":")",
                                           Repeat("x", kMethodPayloadSizeMax),
                                           "\"}")),
                  kTooLarge, "payload"},
        OrderCase{"PayloadBeforeResponseTimeout",
                  Body::Method(R"({"methodName":"a","payload":{"c d":1},)"
                               R"("responseTimeoutInSeconds":1})"),
                  kInvalid, "payload"},
        OrderCase{"ResponseBeforeConnectTimeout",
                  Body::Method(R"({"methodName":"a",)"
                               R"("responseTimeoutInSeconds":1,)"
                               R"("connectTimeoutInSeconds":-1})"),
                  kInvalid, "responseTimeoutInSeconds"},
        // Row 8 before 9.
        OrderCase{"UnknownMemberBeforeEtag",
                  Body::Twin(R"({"desired":{},"etag":"abc"})"), kInvalid,
                  "desired"},
        OrderCase{"TagNameBeforeEtag",
                  Body::Twin(R"({"tags":{"a b":1},"etag":"abc"})"), kInvalid,
                  "a b"},
        OrderCase{"DesiredSizeBeforeEtag",
                  Body::Twin(absl::StrCat(R"({"etag":"abc","tags":{"a":[")",
                                          Repeat("x", 4000), "\",\"",
                                          Repeat("x", 4000), "\",\"",
                                          Repeat("x", 4000), "\"]}}")),
                  kTooLarge, "tags"},
        // Row 7 before 9.
        OrderCase{
            "StartBeforeEtag",
            With(WithEtag(R"("abc")"), [](Body& b) { b.start_time = "3"; }),
            kInvalid, "startTime"}),
    [](const testing::TestParamInfo<OrderCase>& info) {
      return std::string(info.param.name);
    });

TEST(JobOrderTest, SizeComesBeforeFormat) {
  EXPECT_EQ(
      ErrorCodeOf(ParseJobRequest("a_b", std::string(kJobBodySizeMax + 1, '['))
                      .status()),
      kTooLarge);
}

TEST(JobOrderTest, FormatComesBeforeThePathsId) {
  EXPECT_EQ(ErrorCodeOf(ParseJobRequest("a_b", "[]").status()),
            ErrorCode::kIotHubFormatError);
}

TEST(JobOrderTest, ThePathsIdComesBeforeTheBodys) {
  Body body;
  body.job_id = "{}";
  EXPECT_THAT(
      std::string(ParseJobRequest("a_b", body.Text()).status().message()),
      HasSubstr("a_b"));
}

TEST(JobOrderTest, StrictValuesComeBeforeTheEtag) {
  const Body body = Body::Twin(R"({"tags":{"a":"b c"},"etag":"abc"})");
  EXPECT_EQ(CodeOf(body), kPrecondition);
  EXPECT_EQ(CodeOf(body, {.strict_job_value_charset = true}), kInvalid);
}

// --------------------------------------------------- requests built in C++

JobRequest MethodRequest() {
  JobRequest request;
  request.job_id = "job01";
  request.action = MethodAction{.method_name = "lockDoor"};
  request.query_condition = "*";
  return request;
}

JobRequest TwinRequest(absl::string_view tags) {
  JobRequest request = MethodRequest();
  TwinUpdateAction action;
  action.patch.tags = *ParseJson(tags);
  request.action = action;
  return request;
}

ErrorCode Validate(const JobRequest& request,
                   const JobParseOptions& options = {}) {
  return ErrorCodeOf(ValidateJobRequest(request, options));
}

TEST(ValidateJobRequestTest, AcceptsWhatTheParserMakes) {
  for (const Body& body :
       {Body(), Body::Twin("{}"), WithTags("null"), WithPayload("[1]"),
        WithDesired(R"({"a":{"b":null}})"),
        WithStart(R"("2031-03-01T22:00:00Z")"),
        WithLimit("9223372036854775807")}) {
    const absl::StatusOr<JobRequest> request = Parse(body);
    ASSERT_TRUE(request.ok()) << body.Text();
    EXPECT_EQ(Validate(*request), kOk) << body.Text();
  }
}

TEST(ValidateJobRequestTest, ChecksEachField) {
  JobRequest request = MethodRequest();
  EXPECT_EQ(Validate(request), kOk);
  request.job_id = "a_b";
  EXPECT_EQ(Validate(request), kInvalid);

  request = MethodRequest();
  request.query_condition = "";
  EXPECT_EQ(Validate(request), kInvalid);

  for (const int64_t seconds :
       {int64_t{0}, int64_t{-1}, std::numeric_limits<int64_t>::min()}) {
    request = MethodRequest();
    request.max_execution_time_seconds = seconds;
    EXPECT_EQ(Validate(request), kInvalid);
  }

  for (const absl::Time time : {absl::InfinitePast(), absl::InfiniteFuture()}) {
    request = MethodRequest();
    request.start_time = time;
    EXPECT_EQ(Validate(request), kInvalid);
  }

  const auto with = [](MethodAction action) {
    JobRequest request = MethodRequest();
    request.action = std::move(action);
    return request;
  };
  EXPECT_EQ(Validate(with({.method_name = ""})), kInvalid);
  EXPECT_EQ(Validate(with({.method_name = "a b"})), kInvalid);
  EXPECT_EQ(Validate(with({.method_name = "a", .payload = ""})), kInvalid);
  EXPECT_EQ(Validate(with({.method_name = "a", .payload = "{"})), kInvalid);
  EXPECT_EQ(Validate(with({.method_name = "a", .payload = R"({"b c":1})"})),
            kInvalid);
  EXPECT_EQ(
      Validate(with({.method_name = "a",
                     .payload = std::string(kMethodPayloadSizeMax + 1, ' ')})),
      kTooLarge);
  EXPECT_EQ(Validate(with({.method_name = "a", .response_timeout_seconds = 4})),
            kInvalid);
  EXPECT_EQ(
      Validate(with({.method_name = "a", .connect_timeout_seconds = 301})),
      kInvalid);
}

TEST(ValidateJobRequestTest, ChecksThePatch) {
  EXPECT_EQ(Validate(TwinRequest(R"({"a":1})")), kOk);
  EXPECT_EQ(Validate(TwinRequest("null")), kOk);
  EXPECT_EQ(Validate(TwinRequest("[]")), kInvalid);
  EXPECT_EQ(Validate(TwinRequest(R"({"a b":1})")), kInvalid);
  EXPECT_EQ(Validate(TwinRequest(R"({"$version":1})")), kInvalid);
  EXPECT_EQ(Validate(TwinRequest(R"({"a":"b c"})")), kOk);
  EXPECT_EQ(Validate(TwinRequest(R"({"a":"b c"})"),
                     {.strict_job_value_charset = true}),
            kInvalid);
  JobRequest request = TwinRequest("{}");
  std::get<TwinUpdateAction>(request.action).patch.desired_version = 3;
  EXPECT_EQ(Validate(request), kInvalid);
}

TEST(ValidateJobRequestTest, DeadlinesOfAnyLengthAreSafe) {
  const absl::Time start = absl::FromUnixSeconds(1'930'000'000);
  const absl::Duration longest =
      absl::Seconds(std::numeric_limits<int64_t>::max());
  EXPECT_GT(start + longest, start);
}

// ----------------------------------------------------------------- statuses

// ------------------------------------------------- methods outside of jobs

TEST(MethodCallTest, FillsInDefaults) {
  const auto call = ParseMethodCall(R"({"methodName":"reboot"})");
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_EQ(call->method_name, "reboot");
  EXPECT_EQ(call->payload, "null");
  EXPECT_EQ(call->response_timeout_seconds, 30);
  EXPECT_EQ(call->connect_timeout_seconds, 0);
}

TEST(MethodCallTest, KeepsWhatIsGiven) {
  const auto call = ParseMethodCall(
      R"({"methodName":"reboot","payload": {"b": 1.50, "a": [ ]} ,)"
      R"("responseTimeoutInSeconds":300,"connectTimeoutInSeconds":7,)"
      R"("timeoutInSeconds":"ignored"})");
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_EQ(call->payload, R"({"b": 1.50, "a": [ ]})");
  EXPECT_EQ(call->response_timeout_seconds, 300);
  EXPECT_EQ(call->connect_timeout_seconds, 7);
}

TEST(MethodCallTest, NullIsAbsent) {
  const auto call = ParseMethodCall(
      R"({"methodName":"reboot","payload":null,)"
      R"("responseTimeoutInSeconds":null,"connectTimeoutInSeconds":null})");
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_EQ(call->payload, "null");
  EXPECT_EQ(call->response_timeout_seconds, 30);
  EXPECT_EQ(call->connect_timeout_seconds, 0);
}

TEST(MethodCallTest, RefusesWithTheNameOfTheMember) {
  const auto with = [](absl::string_view members) {
    return absl::StrCat(R"({"methodName":"m",)", members, "}");
  };
  const struct {
    std::string body;
    ErrorCode code;
    absl::string_view message;  // Its beginning.
  } kCases[] = {
      {"", ErrorCode::kIotHubFormatError, ""},
      {"[]", ErrorCode::kIotHubFormatError, "the body must be a JSON object"},
      {R"({"methodName":"a","methodName":"b"})", ErrorCode::kIotHubFormatError,
       ""},
      {"{\"methodName\":\"\xff\"}", ErrorCode::kIotHubFormatError, ""},
      {std::string(kJobBodySizeMax + 1, ' '), ErrorCode::kMessageTooLarge,
       "the body has 262145 bytes"},
      {"{}", ErrorCode::kArgumentNull, "methodName is required"},
      {R"({"methodName":null})", ErrorCode::kArgumentNull,
       "methodName is required"},
      {R"({"methodName":7})", ErrorCode::kArgumentInvalid,
       "methodName must be a string; got 7"},
      {R"({"methodName":""})", ErrorCode::kArgumentInvalid,
       "methodName is empty"},
      {R"({"methodName":"a$"})", ErrorCode::kArgumentInvalid,
       "methodName \"a$\" has \"$\""},
      {absl::StrCat(R"({"methodName":")", Repeat("m", 101), "\"}"),
       ErrorCode::kArgumentInvalid, "methodName has 101 characters"},
      {with(R"("payload":{"a b":1})"), ErrorCode::kArgumentInvalid,
       "in payload the member \"a b\" has \" \""},
      {with(absl::StrCat(R"("payload":")", Repeat("x", 128 * 1024 - 1), "\"")),
       ErrorCode::kMessageTooLarge, "payload has 131073 bytes"},
      {with(R"("responseTimeoutInSeconds":4)"), ErrorCode::kArgumentInvalid,
       "responseTimeoutInSeconds must be an integer in [5, 300]; got 4"},
      {with(R"("responseTimeoutInSeconds":30.0)"), ErrorCode::kArgumentInvalid,
       "responseTimeoutInSeconds must be an integer in [5, 300]; got 30"},
      {with(R"("connectTimeoutInSeconds":301)"), ErrorCode::kArgumentInvalid,
       "connectTimeoutInSeconds must be an integer in [0, 300]; got 301"},
      {with(R"("connectTimeoutInSeconds":"1")"), ErrorCode::kArgumentInvalid,
       "connectTimeoutInSeconds must be an integer in [0, 300]; got \"1\""},
  };
  for (const auto& c : kCases) {
    const auto call = ParseMethodCall(c.body);
    ASSERT_FALSE(call.ok()) << c.body;
    EXPECT_EQ(ErrorCodeOf(call.status()), c.code) << call.status();
    EXPECT_THAT(std::string(call.status().message()),
                StartsWith(std::string(c.message)));
  }
}

TEST(MethodCallTest, StrictValuesAreAnOption) {
  constexpr absl::string_view kBody =
      R"({"methodName":"m","payload":{"a":"b c"}})";
  ASSERT_TRUE(ParseMethodCall(kBody).ok());
  const JobParseOptions strict{.strict_job_value_charset = true};
  const auto call = ParseMethodCall(kBody, strict);
  EXPECT_EQ(ErrorCodeOf(call.status()), ErrorCode::kArgumentInvalid);
  EXPECT_EQ(ErrorCodeOf(ValidateMethodCall(*ParseMethodCall(kBody), strict)),
            ErrorCode::kArgumentInvalid);
}

TEST(JobStatusTest, NamesAreTheHubs) {
  EXPECT_EQ(JobStatusName(JobStatus::kQueued), "queued");
  EXPECT_EQ(JobStatusName(JobStatus::kScheduled), "scheduled");
  EXPECT_EQ(JobStatusName(JobStatus::kRunning), "running");
  EXPECT_EQ(JobStatusName(JobStatus::kCompleted), "completed");
  EXPECT_EQ(JobStatusName(JobStatus::kFailed), "failed");
  EXPECT_EQ(JobStatusName(JobStatus::kCancelled), "cancelled");
  EXPECT_EQ(ExecutionStatusName(ExecutionStatus::kPending), "pending");
  EXPECT_EQ(ExecutionStatusName(ExecutionStatus::kRunning), "running");
  EXPECT_EQ(ExecutionStatusName(ExecutionStatus::kCompleted), "completed");
  EXPECT_EQ(ExecutionStatusName(ExecutionStatus::kFailed), "failed");
  EXPECT_EQ(ExecutionStatusName(ExecutionStatus::kCanceled), "canceled");
  EXPECT_EQ(JobTypeName(JobType::kUpdateTwin), "scheduleUpdateTwin");
  EXPECT_EQ(JobTypeName(JobType::kDeviceMethod), "scheduleDeviceMethod");
}

TEST(JobStatusTest, InputsAcceptAliasesInAnyCase) {
  const struct {
    const char* text;
    JobStatus job;
    ExecutionStatus execution;
  } kSpellings[] = {
      {"queued", JobStatus::kQueued, ExecutionStatus::kPending},
      {"enqueued", JobStatus::kQueued, ExecutionStatus::kPending},
      {"pending", JobStatus::kQueued, ExecutionStatus::kPending},
      {"scheduled", JobStatus::kScheduled, ExecutionStatus::kPending},
      {"Running", JobStatus::kRunning, ExecutionStatus::kRunning},
      {"COMPLETED", JobStatus::kCompleted, ExecutionStatus::kCompleted},
      {"finished", JobStatus::kCompleted, ExecutionStatus::kCompleted},
      {"Failed", JobStatus::kFailed, ExecutionStatus::kFailed},
      {"canceled", JobStatus::kCancelled, ExecutionStatus::kCanceled},
      {"Cancelled", JobStatus::kCancelled, ExecutionStatus::kCanceled},
  };
  for (const auto& spelling : kSpellings) {
    EXPECT_EQ(*ParseJobStatus(spelling.text), spelling.job) << spelling.text;
    EXPECT_EQ(*ParseExecutionStatus(spelling.text), spelling.execution)
        << spelling.text;
  }
  EXPECT_EQ(*ParseJobType("ScheduleUpdateTwin"), JobType::kUpdateTwin);
  EXPECT_EQ(*ParseJobType("scheduledevicemethod"), JobType::kDeviceMethod);
}

TEST(JobStatusTest, UnknownNamesAreRefusedWithTheKnownOnes) {
  for (const char* text : {"", "done", "unknown", "queued "}) {
    EXPECT_EQ(ErrorCodeOf(ParseJobStatus(text).status()), kInvalid) << text;
    EXPECT_EQ(ErrorCodeOf(ParseExecutionStatus(text).status()), kInvalid);
    EXPECT_EQ(ErrorCodeOf(ParseJobType(text).status()), kInvalid);
  }
  EXPECT_THAT(std::string(ParseJobStatus("done").status().message()),
              AllOf(HasSubstr("\"done\""), HasSubstr("queued"),
                    HasSubstr("cancelled")));
  EXPECT_EQ(ErrorCodeOf(ParseJobType("scheduleTwinUpdate").status()), kInvalid);
}

TEST(JobStatusTest, TheLastThreeAreTerminal) {
  EXPECT_FALSE(IsTerminal(JobStatus::kQueued));
  EXPECT_FALSE(IsTerminal(JobStatus::kScheduled));
  EXPECT_FALSE(IsTerminal(JobStatus::kRunning));
  EXPECT_TRUE(IsTerminal(JobStatus::kCompleted));
  EXPECT_TRUE(IsTerminal(JobStatus::kFailed));
  EXPECT_TRUE(IsTerminal(JobStatus::kCancelled));
  EXPECT_FALSE(IsTerminal(ExecutionStatus::kRunning));
  EXPECT_TRUE(IsTerminal(ExecutionStatus::kCanceled));
}

// ------------------------------------------------------------------- as text

absl::Time Instant(absl::string_view text) { return *ParseInstant(text); }

std::string Text(const JobInfo& job) {
  std::string out;
  AppendJobJson(job, &out);
  EXPECT_TRUE(ParseJson(out).ok()) << out;
  return out;
}

std::string Text(const ExecutionRecord& record) {
  std::string out;
  AppendExecutionJson(record, &out);
  EXPECT_TRUE(ParseJson(out).ok()) << out;
  return out;
}

// A text of the contract as it stands there, less the white space between
// tokens.
std::string Compact(absl::string_view text) {
  std::string out;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"') in_string = !in_string;
    if (in_string || (text[i] != ' ' && text[i] != '\n')) out += text[i];
  }
  return out;
}

// The job right after its creation.
JobInfo InfoOf(const JobRequest& request) {
  JobInfo job;
  job.job_id = request.job_id;
  job.action = request.action;
  job.query_condition = request.query_condition;
  job.created_time = Instant("2031-03-01T10:12:44.1203Z");
  job.start_time = request.start_time.value_or(job.created_time);
  job.max_execution_time_seconds = request.max_execution_time_seconds;
  return job;
}

TEST(JobTextTest, IsTheContractsExample) {
  const absl::StatusOr<JobRequest> request =
      ParseJobRequest("lock-doors-7", R"({
  "jobId": "lock-doors-7",
  "type": "scheduleDeviceMethod",
  "cloudToDeviceMethod": {
    "methodName": "lockDoor",
    "payload": {"mode":"night"},
    "responseTimeoutInSeconds": 15,
    "connectTimeoutInSeconds": 0
  },
  "queryCondition": "tags.location.building = '43' AND tags.location.floor = 3",
  "startTime": "2031-03-01T22:00:00Z",
  "maxExecutionTimeInSeconds": 300
})");
  ASSERT_TRUE(request.ok()) << request.status();
  JobInfo job = InfoOf(*request);
  job.status = JobStatus::kCompleted;
  job.end_time = Instant("2031-03-01T22:05:00Z");
  job.statistics = {.device_count = 3, .failed_count = 1, .succeeded_count = 2};
  EXPECT_EQ(Text(job), Compact(R"({
  "jobId": "lock-doors-7",
  "type": "scheduleDeviceMethod",
  "status": "completed",
  "queryCondition": "tags.location.building = '43' AND tags.location.floor = 3",
  "createdTime": "2031-03-01T10:12:44.1203000Z",
  "startTime": "2031-03-01T22:00:00.0000000Z",
  "endTime": "2031-03-01T22:05:00.0000000Z",
  "maxExecutionTimeInSeconds": 300,
  "cloudToDeviceMethod": { "methodName": "lockDoor", "payload": { "mode": "night" },
    "responseTimeoutInSeconds": 15, "connectTimeoutInSeconds": 0 },
  "deviceJobStatistics": { "deviceCount": 3, "failedCount": 1, "succeededCount": 2, "runningCount": 0, "pendingCount": 0 }
})"));
}

TEST(JobTextTest, EchoesATwinJob) {
  const absl::StatusOr<JobRequest> request = ParseJobRequest("set-floor-7", R"({
  "type": "scheduleUpdateTwin",
  "updateTwin": {
    "etag": "*",
    "tags": { "campaign": "spring" },
    "properties": { "desired": { "building": "43", "floor": 3, "legacyMode": null } }
  },
  "queryCondition": "deviceId IN ['thermo-042','thermo-043']"
})");
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(Text(InfoOf(*request)), Compact(R"({
  "jobId": "set-floor-7",
  "type": "scheduleUpdateTwin",
  "status": "queued",
  "queryCondition": "deviceId IN ['thermo-042','thermo-043']",
  "createdTime": "2031-03-01T10:12:44.1203000Z",
  "startTime": "2031-03-01T10:12:44.1203000Z",
  "maxExecutionTimeInSeconds": 3600,
  "updateTwin": { "deviceId": null, "etag": "*",
    "tags": { "campaign": "spring" },
    "properties": { "desired": { "building": "43", "floor": 3, "legacyMode": null } } }
})"));
}

TEST(JobTextTest, EchoesOnlyThePartsThatWereSent) {
  EXPECT_THAT(Text(InfoOf(*Parse(Body::Twin("{}")))),
              HasSubstr(R"("updateTwin":{"deviceId":null,"etag":"*"})"));
  EXPECT_THAT(
      Text(InfoOf(*Parse(WithTags("null")))),
      HasSubstr(R"("updateTwin":{"deviceId":null,"etag":"*","tags":null})"));
  EXPECT_THAT(Text(InfoOf(*Parse(WithDesired("null")))),
              HasSubstr(R"("etag":"*","properties":{"desired":null}})"));
}

TEST(JobTextTest, GivesTheReasonOfAFailureOnly) {
  JobInfo job = InfoOf(*Parse(Body()));
  job.failure_reason = "SQL query parse failed";
  EXPECT_THAT(Text(job), testing::Not(HasSubstr("failureReason")));
  job.status = JobStatus::kFailed;
  job.statistics = JobStatistics();
  EXPECT_THAT(Text(job),
              HasSubstr(R"(,"failureReason":"SQL query parse failed",)"
                        R"("deviceJobStatistics":{)"));
}

TEST(JobTextTest, EscapesTexts) {
  Body body = WithCondition(R"("tags.a = '\"\\\n'")");
  EXPECT_THAT(Text(InfoOf(*Parse(body))),
              HasSubstr(R"("queryCondition":"tags.a = '\"\\\n'")"));
}

// Contract 3.5.
TEST(ExecutionTextTest, AreTheContractsExamples) {
  ExecutionRecord record;
  record.device_id = "thermo-042";
  record.job_id = "lock-doors-7";
  record.job_type = JobType::kDeviceMethod;
  record.status = ExecutionStatus::kCompleted;
  record.start_time = Instant("2031-03-01T22:00:00.0104Z");
  record.end_time = Instant("2031-03-01T22:00:01.2Z");
  record.created_time = Instant("2031-03-01T22:00:00Z");
  record.last_updated_time = Instant("2031-03-01T22:00:01.2Z");
  record.response = {.status = 200, .payload = R"({"locked":true})"};
  EXPECT_EQ(
      Text(record),
      Compact(
          R"({ "deviceId": "thermo-042", "jobId": "lock-doors-7", "jobType": "scheduleDeviceMethod", "status": "completed",
  "startTimeUtc": "2031-03-01T22:00:00.0104000Z", "endTimeUtc": "2031-03-01T22:00:01.2000000Z",
  "createdDateTimeUtc": "2031-03-01T22:00:00.0000000Z", "lastUpdatedDateTimeUtc": "2031-03-01T22:00:01.2000000Z",
  "outcome": { "deviceMethodResponse": { "status": 200, "payload": { "locked": true } } } })"));

  record = {};
  record.device_id = "thermo-050";
  record.job_id = "lock-doors-7";
  record.job_type = JobType::kDeviceMethod;
  record.status = ExecutionStatus::kFailed;
  record.end_time = Instant("2031-03-01T22:05:00Z");
  record.created_time = Instant("2031-03-01T22:00:00Z");
  record.last_updated_time = Instant("2031-03-01T22:05:00Z");
  record.error_code = ErrorCode::kDeviceNotOnline;
  record.error_description = "Timed out waiting for device to connect.";
  EXPECT_EQ(
      Text(record),
      Compact(
          R"({ "deviceId": "thermo-050", "jobId": "lock-doors-7", "jobType": "scheduleDeviceMethod", "status": "failed",
  "endTimeUtc": "2031-03-01T22:05:00.0000000Z",
  "createdDateTimeUtc": "2031-03-01T22:00:00.0000000Z", "lastUpdatedDateTimeUtc": "2031-03-01T22:05:00.0000000Z",
  "error": { "code": "DeviceNotOnline", "description": "Timed out waiting for device to connect." } })"));

  record = {};
  record.device_id = "thermo-042";
  record.job_id = "set-floor-7";
  record.job_type = JobType::kUpdateTwin;
  record.status = ExecutionStatus::kCompleted;
  record.start_time = Instant("2031-03-01T09:00:00.01Z");
  record.end_time = Instant("2031-03-01T09:00:00.02Z");
  record.created_time = Instant("2031-03-01T09:00:00Z");
  record.last_updated_time = Instant("2031-03-01T09:00:00.02Z");
  EXPECT_EQ(
      Text(record),
      Compact(
          R"({ "deviceId": "thermo-042", "jobId": "set-floor-7", "jobType": "scheduleUpdateTwin", "status": "completed",
  "startTimeUtc": "2031-03-01T09:00:00.0100000Z", "endTimeUtc": "2031-03-01T09:00:00.0200000Z",
  "createdDateTimeUtc": "2031-03-01T09:00:00.0000000Z", "lastUpdatedDateTimeUtc": "2031-03-01T09:00:00.0200000Z",
  "outcome": { "deviceMethodResponse": null } })"));
}

TEST(ExecutionTextTest, APendingMethodHasNoOutcome) {
  ExecutionRecord record;
  record.device_id = "d";
  record.job_id = "j";
  record.created_time = record.last_updated_time =
      Instant("2031-03-01T22:00:00Z");
  EXPECT_EQ(Text(record),
            R"({"deviceId":"d","jobId":"j","jobType":"scheduleDeviceMethod",)"
            R"("status":"pending",)"
            R"("createdDateTimeUtc":"2031-03-01T22:00:00.0000000Z",)"
            R"("lastUpdatedDateTimeUtc":"2031-03-01T22:00:00.0000000Z"})");
}

TEST(ExecutionTextTest, AnEmptyAnswerIsNull) {
  ExecutionRecord record;
  record.created_time = record.last_updated_time =
      Instant("2031-03-01T22:00:00Z");
  record.status = ExecutionStatus::kCompleted;
  record.response = ExecutionRecord::MethodResponse{.status = -7};
  EXPECT_THAT(Text(record), HasSubstr(R"({"deviceMethodResponse":{"status":-7,)"
                                      R"("payload":null}})"));
}

}  // namespace
}  // namespace muster
