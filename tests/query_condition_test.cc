// Conditions: what contract 5.10 and 5.11 say row by row, then what 5.3 to 5.8
// say rule by rule.
#include <cstdint>
#include <optional>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "engine/model/error.h"
#include "engine/model/limits.h"
#include "engine/query/ast.h"
#include "engine/query/condition.h"
#include "engine/query/document.h"
#include "engine/query/functions.h"
#include "engine/query/options.h"
#include "engine/query/parse_error.h"
#include "engine/query/value.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/query_samples.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Optional;

std::string Repeat(absl::string_view text, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i) absl::StrAppend(&out, text);
  return out;
}

// The value as JSON, "undefined", or "error".
std::string ValueOf(const absl::StatusOr<Condition>& condition,
                    const Document& document) {
  if (!condition.ok()) {
    EXPECT_EQ(ErrorCodeOf(condition.status()), ErrorCode::kArgumentInvalid);
    EXPECT_TRUE(ParseErrorOf(condition.status()).has_value());
    return "error";
  }
  Scratch scratch;
  const Value value = condition->Evaluate(document, &scratch);
  EXPECT_EQ(condition->Matches(document), value.is_true());
  return value.DebugString();
}

std::string OnTwin(absl::string_view text, const QueryOptions& options = {}) {
  return ValueOf(Condition::ParseJobCondition(text, options), ExampleTwin());
}

std::string OnRecord(absl::string_view text) {
  return ValueOf(Condition::Parse(text, Collection::kDeviceJobs),
                 ExampleRecord());
}

// The message, or "" if there is no error.
std::string ErrorOf(absl::string_view text, const QueryOptions& options = {}) {
  const absl::StatusOr<Condition> condition =
      Condition::ParseJobCondition(text, options);
  return condition.ok() ? "" : std::string(condition.status().message());
}

// Contract 5.10.

struct ConditionCase {
  int number;
  const char* text;
  const char* value;
};

void PrintTo(const ConditionCase& row, std::ostream* os) { *os << row.text; }

std::string RowName(const ::testing::TestParamInfo<ConditionCase>& info) {
  return absl::StrFormat("Row%03d", info.param.number);
}

class ConditionRow : public ::testing::TestWithParam<ConditionCase> {};

TEST_P(ConditionRow, HasTheValueOfTheContract) {
  EXPECT_EQ(OnTwin(GetParam().text), GetParam().value);
}

TEST_P(ConditionRow, IsSelectedOnlyIfTrue) {
  const absl::StatusOr<Condition> condition =
      Condition::ParseJobCondition(GetParam().text);
  const std::string value = GetParam().value;
  ASSERT_EQ(condition.ok(), value != "error");
  if (!condition.ok()) return;
  EXPECT_EQ(condition->Matches(ExampleTwin()), value == "true");
  EXPECT_EQ(condition->text(), GetParam().text);
  EXPECT_EQ(condition->matches_all(), GetParam().number == 1);
}

constexpr ConditionCase kConditionRows[] = {
    {1, "*", "true"},
    {2, "deviceId = 'thermo-042'", "true"},
    {3, "deviceId = 'Thermo-042'", "false"},
    {4, "deviceId IN ['thermo-042','x']", "true"},
    {5, "deviceId IN ['thermo-042']", "true"},
    {6, "deviceid in ['thermo-042']", "true"},
    {7, "devices.deviceId = 'thermo-042'", "true"},
    {8, "STARTSWITH(id, 'thermo')", "true"},
    {9, "is_defined(DeviceId)", "true"},
    {10, "status = 'enabled' AND connectionState = 'Connected'", "true"},
    {11, "status = 'Enabled'", "false"},
    {12, "capabilities.iotEdge = true", "false"},
    {13, "NOT capabilities.iotEdge", "true"},
    {14, "tags.location.region = 'US'", "true"},
    {15, "tags.location.Region = 'US'", "undefined"},
    {16, "tags.Region = 'shadow'", "true"},
    {17, "TAGS.location.region = 'US'", "true"},
    {18, "tags.location.region = 'us'", "false"},
    {19, "tags.location.region = \"US\"", "true"},
    {20, "tags.location.floor = 3", "true"},
    {21, "tags.location.floor = '3'", "undefined"},
    {22, "tags.location.floor != '3'", "undefined"},
    {23, "tags.location.building = 43", "undefined"},
    {24, "AS_NUMBER(tags.location.building) = 43", "true"},
    {25, "tags.zip = '00043'", "true"},
    {26, "tags.location.floor >= 3 AND tags.location.floor < 4", "true"},
    {27, "tags.location.floor = 0x3", "true"},
    {28, "properties.reported.telemetryConfig.intervalSecs >= 60", "true"},
    {29,
     "properties.desired.telemetryConfig.intervalSecs = "
     "properties.reported.telemetryConfig.intervalSecs",
     "true"},
    {30,
     "properties.desired.firmware.version = "
     "properties.reported.firmware.version",
     "false"},
    {31,
     "properties.desired.firmware.version > "
     "properties.reported.firmware.version",
     "true"},
    {32,
     "properties.desired.telemetryConfig = properties.reported.telemetryConfig",
     "undefined"},
    {33, "properties.reported.connectivity IN ['wired','wifi']", "undefined"},
    {34, "properties.reported.connectivity.type IN ['wired','wifi']", "false"},
    {35, "properties.reported.connectivity.type NIN ['wired','wifi']", "true"},
    {36, "properties.reported.connectivity.type NOT IN ['wired']", "true"},
    {37, "tags.location.region IN ['US', 5, null]", "true"},
    {38, "tags.location.floor NIN ['3']", "true"},
    {39, "tags.nope IN ['a']", "undefined"},
    {40, "tags.nope NIN ['a']", "undefined"},
    {41, "is_defined(properties.reported.connectivity)", "true"},
    {42, "IS_DEFINED(tags.nope)", "false"},
    {43, "NOT is_defined(tags.nope)", "true"},
    {44, "is_defined(tags.nope.deeper.still)", "false"},
    {45, "is_defined(x509Thumbprint.primaryThumbprint)", "true"},
    {46, "x509Thumbprint.primaryThumbprint = null", "true"},
    {47, "x509Thumbprint.primaryThumbprint != 'ab'", "true"},
    {48, "tags.location.region != null", "true"},
    {49, "tags.nope = null", "undefined"},
    {50, "tags.nope != null", "undefined"},
    {51, "x509Thumbprint.primaryThumbprint < 1", "undefined"},
    {52, "IS_NULL(x509Thumbprint.primaryThumbprint)", "true"},
    {53, "IS_NULL(tags.nope)", "false"},
    {54, "tags.nope = undefined", "undefined"},
    {55, "tags.nope != 'US'", "undefined"},
    {56, "NOT tags.nope = 'US'", "undefined"},
    {57, "tags.nope = 'US' OR tags.location.region = 'US'", "true"},
    {58, "tags.nope = 'US' AND tags.location.region = 'US'", "undefined"},
    {59, "tags.nope = 'US' AND tags.location.region = 'EU'", "false"},
    {60, "NOT (tags.nope = 'US' AND tags.location.region = 'EU')", "true"},
    {61,
     "tags.location.region = 'EU' OR tags.location.region = 'US' AND "
     "tags.priority = 8",
     "false"},
    {62,
     "(tags.location.region = 'EU' OR tags.location.region = 'US') AND "
     "tags.priority = 7",
     "true"},
    {63,
     "tags.location.region = 'US' OR tags.priority = 8 AND tags.priority = 9",
     "true"},
    {64, "NOT tags.priority = 8", "true"},
    {65, "NOT NOT tags.priority = 7", "true"},
    {66, "NOT tags.priority = 7 OR tags.retired = false", "true"},
    {67, "tags.priority + 1 = 8", "true"},
    {68, "tags.priority - 2 * 3 = 1", "true"},
    {69, "(tags.priority - 2) * 3 = 15", "true"},
    {70, "tags.priority % 4 = 3", "true"},
    {71, "tags.priority / 2 = 3.5", "true"},
    {72, "tags.priority / properties.reported.uptimeHours > 0", "undefined"},
    {73, "tags.location.geo.lon < -100", "true"},
    {74, "tags.location.region + 'A' = 'USA'", "undefined"},
    {75, "CONCAT(tags.location.region, 'A') = 'USA'", "true"},
    {76, "tags.retired = false", "true"},
    {77, "tags.retired", "false"},
    {78, "tags.priority", "7"},
    {79, "tags.location.region", "\"US\""},
    {80, "NOT tags.location.region", "undefined"},
    {81, "tags.[[group]].name = 'pilot'", "true"},
    {82, "tags.group.name = 'pilot'", "error"},
    {83, "tags.[[in]] = 'reserved'", "true"},
    {84, "tags.[[my-tag]] = 'dash'", "true"},
    {85, "tags.my-tag = 'dash'", "undefined"},
    {86, "tags['my-tag'] = 'dash'", "true"},
    {87, "tags.[[4g]] = true", "true"},
    {88, "tags.4g = true", "error"},
    {89, "tags['a]b'] = 1", "true"},
    {90, "tags.部屋 = '会議室'", "true"},
    {91, "tags.label = '\\u00dcn\\u00eft\\u00e9-\\u03a9'", "true"},
    {92, "tags.note = 'it\\'s \\\"ok\\\"'", "true"},
    {93, "tags.path = 'C:\\\\fw'", "true"},
    {94, "tags.path = 'C:\\fw'", "error"},
    {95, "tags.note = 'it''s \"ok\"'", "error"},
    {96, "LENGTH(tags.label) = 7", "true"},
    {97, "LENGTH(tags.empty) = 0 AND is_defined(tags.empty)", "true"},
    {98, "UPPER(tags.location.region) = LOWER('US')", "false"},
    {99, "LOWER(tags.location.region) = 'us'", "true"},
    {100, "STARTSWITH(tags.zip, '000') AND ENDSWITH(tags.zip, '43')", "true"},
    {101, "STARTS_WITH(tags.zip, '000')", "true"},
    {102, "STARTSWITH(tags.priority, '7')", "undefined"},
    {103, "NOT STARTSWITH(deviceId, 'thermo')", "false"},
    {104,
     "CONTAINS(UPPER(CONCAT(tags.location.region, '-', tags.zip)), 'S-000')",
     "true"},
    {105, "SUBSTRING(tags.zip, 3) = '43' AND SUBSTRING(tags.zip, 0, 3) = '000'",
     "true"},
    {106, "INDEX_OF(tags.zip, '9') = -1", "true"},
    {107, "tags.colors[0] = 'red'", "true"},
    {108, "tags.colors[9] = 'red'", "undefined"},
    {109, "ARRAY_CONTAINS(tags.colors, 'blue')", "true"},
    {110, "ARRAY_CONTAINS(tags.limits, '10')", "false"},
    {111, "tags.colors = ['red','blue']", "undefined"},
    {112, "IS_ARRAY(tags.colors) AND NOT IS_PRIMITIVE(tags.colors)", "true"},
    {113,
     "IS_OBJECT(tags.location) AND IS_NUMBER(tags.location.floor) AND "
     "IS_STRING(tags.zip) AND IS_BOOL(tags.retired)",
     "true"},
    {114, "properties.desired.$version = 4", "true"},
    {115, "properties.reported.$metadata.$lastUpdated > '2024-03-01'", "true"},
    {116, "lastActivityTime >= '2024-03-01T13:30:45.123+01:00'", "true"},
    {117, "lastActivityTime > 'yesterday'", "false"},
    {118,
     "ABS(tags.location.geo.lon) > 122 AND FLOOR(tags.location.geo.lat) = 47 "
     "AND CEILING(tags.location.geo.lat) = 48",
     "true"},
    {119,
     "POWER(2, 3) = 8 AND SQUARE(-3) = 9 AND SQRT(16) = 4 AND SIGN(-2) = -1",
     "true"},
    {120, "SQRT(-1) = 0", "undefined"},
    {121, "tags.priority <> 8", "true"},
    {122, "tags.priority == 7", "error"},
    {123, "1 < tags.priority < 9", "error"},
    {124, "tags.location.region LIKE 'U%'", "error"},
    {125, "tags.priority = 7 ORDER BY deviceId", "error"},
    {126, "SELECT * FROM devices", "error"},
    {127, "deviceId IN ()", "error"},
    {128, "deviceId IN []", "error"},
    {129, "deviceId IN ['a',]", "error"},
    {130, "FOO(tags.zip) = 1", "error"},
    {131, "", "error"},
};

INSTANTIATE_TEST_SUITE_P(Rows, ConditionRow,
                         ::testing::ValuesIn(kConditionRows), RowName);

// Contract 5.11; the statements of its last two rows are in
// query_statement_test.cc.

class JobConditionRow : public ::testing::TestWithParam<ConditionCase> {};

TEST_P(JobConditionRow, HasTheValueOfTheContract) {
  EXPECT_EQ(OnRecord(GetParam().text), GetParam().value);
}

constexpr ConditionCase kJobRows[] = {
    {1, "devices.jobs.jobId = 'lock-2024-03'", "true"},
    {2,
     "devices.jobs.deviceId = 'thermo-042' AND devices.jobs.status = "
     "'completed'",
     "true"},
    {3, "jobId = 'lock-2024-03' AND status = 'failed'", "false"},
    {4, "devices.jobs.jobType = 'scheduleUpdateTwin'", "false"},
    {5, "devices.jobs.createdTimeUtc > '2016-09-01'", "true"},
    {6, "devices.jobs.createdDateTimeUtc > '2024-03-01T11:59:58.0000000Z'",
     "false"},
    {7, "devices.jobs.startTimeUtc > '2024-03-01T12:00:00Z'", "true"},
    {8, "devices.jobs.outcome.deviceMethodResponse.status = 200", "true"},
    {9, "devices.jobs.outcome.deviceMethodResponse.payload.locked", "true"},
    {10, "is_defined(devices.jobs.error.code)", "false"},
    {11, "devices.jobs.error.code = 'DeviceNotOnline'", "undefined"},
    {12,
     "devices.jobs.deviceId IN ['thermo-042','thermo-043'] AND NOT "
     "devices.jobs.status IN ['failed','canceled']",
     "true"},
    {13, "tags.location.region = 'US'", "error"},
};

INSTANTIATE_TEST_SUITE_P(Rows, JobConditionRow, ::testing::ValuesIn(kJobRows),
                         RowName);

TEST(JobRecords, CancelledIsReadAsTheySpellIt) {
  const JsonDocument canceled = Row(R"({"status": "canceled"})");
  for (const char* text :
       {"status = 'canceled'", "status = 'cancelled'", "'cancelled' = status",
        "status IN ['failed', 'cancelled']", "NOT status != 'cancelled'"}) {
    EXPECT_EQ(
        ValueOf(Condition::Parse(text, Collection::kDeviceJobs), canceled),
        "true")
        << text;
  }
  EXPECT_EQ(
      ValueOf(Condition::Parse("jobId = 'cancelled'", Collection::kDeviceJobs),
              Row(R"({"jobId": "cancelled"})")),
      "true");
}

TEST(JobRecords, FixedNamesInAnyCaseUsersNamesAsWritten) {
  EXPECT_EQ(OnRecord("Outcome.DEVICEMETHODRESPONSE.Status = 200"), "true");
  EXPECT_EQ(OnRecord("outcome.devicemethodresponse.PAYLOAD.locked"), "true");
  EXPECT_EQ(OnRecord("outcome.deviceMethodResponse.payload.Locked"),
            "undefined");
}

TEST(JobRecords, MembersOfTwinsAndUnknownOnesAreRefused) {
  for (const char* text :
       {"tags.x = 1", "devices.jobs.tags.x = 1", "properties.desired.x = 1",
        "etag = 'x'", "nope = 1", "devices.deviceId = 'x'", "devices = 1",
        "devices.jobs = 1", "devices.jobs[0] = 1"}) {
    EXPECT_EQ(OnRecord(text), "error") << text;
  }
}

TEST(Twins, MembersOfRecordsAndModulesAreRefused) {
  EXPECT_THAT(ErrorOf("devices.jobs.status = 'failed'"),
              HasSubstr("FROM devices.jobs"));
  EXPECT_THAT(ErrorOf("devices.modules.moduleId = 'x'"),
              HasSubstr("not supported"));
  EXPECT_THAT(ErrorOf("property.reported.x = 1"), HasSubstr("'properties'"));
}

// Contract 5.5.

TEST(Paths, WhatTheyReach) {
  EXPECT_EQ(OnTwin("Properties.Desired.firmware.version"), "\"1.4.0\"");
  EXPECT_EQ(OnTwin("properties.desired.Firmware.version"), "undefined");
  EXPECT_EQ(OnTwin("properties['desired'].firmware['version']"), "\"1.4.0\"");
  EXPECT_EQ(OnTwin("CAPABILITIES.IOTEDGE"), "false");
  EXPECT_EQ(OnTwin("x509thumbprint.PRIMARYTHUMBPRINT"), "null");
  EXPECT_EQ(OnTwin("devices.tags.priority"), "7");
  EXPECT_EQ(OnTwin("tags.devices"), "undefined");
  EXPECT_EQ(OnTwin("[[tags]].priority"), "7");
  EXPECT_EQ(OnTwin("tags . location . region"), "\"US\"");
  EXPECT_EQ(OnTwin("tags.location.region.deeper"), "undefined");
  EXPECT_EQ(OnTwin("tags.limits[1]"), "20.5");
  EXPECT_EQ(OnTwin("tags.limits[3]"), "undefined");
  EXPECT_EQ(OnTwin("tags.limits[99999999999999999999999]"), "undefined");
  EXPECT_EQ(OnTwin("tags.limits['0']"), "undefined");
  EXPECT_EQ(OnTwin("tags.location[0]"), "undefined");
  EXPECT_EQ(OnTwin("tags['']"), "undefined");
  EXPECT_EQ(OnTwin("region"), "undefined");
  EXPECT_EQ(OnTwin("jobId"), "undefined");
  EXPECT_EQ(OnTwin("devices"), "undefined");
  EXPECT_EQ(OnTwin("properties.desired.$version"), "4");
  EXPECT_EQ(OnTwin("properties.desired.$metadata.$lastUpdated"),
            "\"2024-02-20T10:00:00.5Z\"");
  EXPECT_EQ(OnTwin("tags.contains"), "undefined");
}

TEST(Paths, SectionsOnTheirOwnAreObjects) {
  for (const char* path : {"tags", "properties", "properties.desired",
                           "properties.reported.$metadata", "capabilities"}) {
    EXPECT_EQ(OnTwin(absl::StrCat("IS_OBJECT(", path, ")")), "true") << path;
    EXPECT_EQ(OnTwin(absl::StrCat(path, " = 1")), "undefined") << path;
  }
  EXPECT_EQ(OnTwin("IS_DEFINED(properties.other)"), "false");
  EXPECT_EQ(OnTwin("IS_DEFINED(properties[0])"), "false");
}

// Contract 5.6.

TEST(Logic, TruthTable) {
  const std::string spelled[] = {"TRUE", "FALSE", "UNDEFINED"};
  const char* const rows[][5] = {
      {"TRUE", "TRUE", "true", "true", "false"},
      {"TRUE", "FALSE", "false", "true", "false"},
      {"TRUE", "UNDEFINED", "undefined", "true", "false"},
      {"FALSE", "TRUE", "false", "true", "true"},
      {"FALSE", "FALSE", "false", "false", "true"},
      {"FALSE", "UNDEFINED", "false", "undefined", "true"},
      {"UNDEFINED", "TRUE", "undefined", "true", "undefined"},
      {"UNDEFINED", "FALSE", "false", "undefined", "undefined"},
      {"UNDEFINED", "UNDEFINED", "undefined", "undefined", "undefined"},
  };
  for (const auto& row : rows) {
    EXPECT_EQ(OnTwin(absl::StrCat(row[0], " AND ", row[1])), row[2]);
    EXPECT_EQ(OnTwin(absl::StrCat(row[0], " OR ", row[1])), row[3]);
    EXPECT_EQ(OnTwin(absl::StrCat("NOT ", row[0])), row[4]);
  }
  // Any other kind counts as undefined.
  for (const char* other :
       {"NULL", "1", "0", "'true'", "''", "['x']", "tags", "tags.colors"}) {
    EXPECT_EQ(OnTwin(absl::StrCat(other, " AND TRUE")), "undefined") << other;
    EXPECT_EQ(OnTwin(absl::StrCat(other, " AND FALSE")), "false") << other;
    EXPECT_EQ(OnTwin(absl::StrCat("TRUE OR ", other)), "true") << other;
    EXPECT_EQ(OnTwin(absl::StrCat("NOT ", other)), "undefined") << other;
  }
}

TEST(Logic, ChainsOfNot) {
  EXPECT_EQ(OnTwin("NOT NOT NOT TRUE"), "false");
  EXPECT_EQ(OnTwin("NOT (NOT (NOT (NOT 7)))"), "undefined");
  EXPECT_EQ(OnTwin(Repeat("NOT ", 2000) + "TRUE"), "true");
}

// Rows of `=`, `!=`, `<` for every pair of kinds; "u" is undefined.
TEST(Comparison, EveryPairOfKinds) {
  const char* const operands[] = {"UNDEFINED", "NULL",  "TRUE", "1",
                                  "'a'",       "['a']", "tags"};
  const char* const equal[] = {
      "uuuuuuu",  // undefined
      "utfffuu",  // null
      "uftuuuu",  // boolean
      "ufutuuu",  // number
      "ufuutuu",  // string
      "uuuuuuu",  // array
      "uuuuuuu",  // object
  };
  for (int i = 0; i < 7; ++i) {
    for (int j = 0; j < 7; ++j) {
      const auto value = [&](absl::string_view op) {
        return OnTwin(absl::StrCat(operands[i], op, operands[j]))[0];
      };
      const char eq = equal[i][j];
      EXPECT_EQ(value(" = "), eq) << operands[i] << operands[j];
      EXPECT_EQ(value(" != "), eq == 't' ? 'f' : eq == 'f' ? 't' : 'u');
      EXPECT_EQ(value(" <> "), value(" != "));
      const bool ordered = i == j && i >= 2 && i <= 4;
      EXPECT_EQ(value(" < "), ordered ? 'f' : 'u') << operands[i];
      EXPECT_EQ(value(" >= "), ordered ? 't' : 'u') << operands[i];
    }
  }
}

TEST(Comparison, Order) {
  EXPECT_EQ(OnTwin("FALSE < TRUE"), "true");
  EXPECT_EQ(OnTwin("2 > 10"), "false");
  EXPECT_EQ(OnTwin("'2' > '10'"), "true");
  EXPECT_EQ(OnTwin("'Z' < 'a'"), "true");
  // By code point: U+FF5E comes before U+1F600, unlike in UTF-16.
  EXPECT_EQ(OnTwin("'\\uff5e' < '\\ud83d\\ude00'"), "true");
  EXPECT_EQ(OnTwin("-0 = 0"), "true");
  EXPECT_EQ(OnTwin("300 = 3e2"), "true");
  EXPECT_EQ(OnTwin("9007199254740992 = 0x20000000000000"), "true");
}

TEST(Membership, IsStrictPerElement) {
  EXPECT_EQ(OnTwin("x509Thumbprint.primaryThumbprint IN [1, NULL]"), "true");
  EXPECT_EQ(OnTwin("x509Thumbprint.primaryThumbprint IN [1, 'null']"), "false");
  EXPECT_EQ(OnTwin("tags.priority IN [UNDEFINED, '7']"), "false");
  EXPECT_EQ(OnTwin("tags.priority IN [-7, 7]"), "true");
  EXPECT_EQ(OnTwin("tags.colors IN ['red']"), "undefined");
  EXPECT_EQ(OnTwin("tags.colors NIN ['red']"), "undefined");
  EXPECT_EQ(OnTwin("tags.retired IN [FALSE]"), "true");
}

TEST(Arithmetic, NumbersOrUndefined) {
  EXPECT_EQ(OnTwin("7 % 4"), "3");
  EXPECT_EQ(OnTwin("-7 % 4"), "-3");
  EXPECT_EQ(OnTwin("7 % -4"), "3");
  EXPECT_EQ(OnTwin("1 / 0"), "undefined");
  EXPECT_EQ(OnTwin("1 % 0"), "undefined");
  EXPECT_EQ(OnTwin("1e308 * 10"), "undefined");
  EXPECT_EQ(OnTwin("10 - 3 - 2"), "5");
  EXPECT_EQ(OnTwin("100 / 10 / 5"), "2");
  EXPECT_EQ(OnTwin("2 + 3 * 4"), "14");
  EXPECT_EQ(OnTwin("- - 5"), "5");
  EXPECT_EQ(OnTwin("-(-tags.priority)"), "7");
  EXPECT_EQ(OnTwin("-+-tags.priority"), "7");
  EXPECT_EQ(OnTwin("-tags.priority * 2"), "-14");
  EXPECT_EQ(OnTwin("+tags.zip"), "undefined");
  EXPECT_EQ(OnTwin("-tags.zip"), "undefined");
  EXPECT_EQ(OnTwin("1 + NULL"), "undefined");
  EXPECT_EQ(OnTwin("1 + TRUE"), "undefined");
  EXPECT_EQ(OnTwin(Repeat("1+", 4000) + "1"), "4001");
}

// Contract 5.6.2: the text on the left reads as the one on the right.
TEST(Precedence, AsIfParenthesized) {
  const char* const pairs[][2] = {
      {"a OR b AND c", "a OR (b AND c)"},
      {"a AND b OR c AND d", "(a AND b) OR (c AND d)"},
      {"NOT a AND b", "(NOT a) AND b"},
      {"NOT a = b", "NOT (a = b)"},
      {"NOT a IN [1]", "NOT (a IN [1])"},
      {"a + b < c * d", "(a + b) < (c * d)"},
      {"a + b * c - d", "a + (b * c) - d"},
      {"-a * b", "(-a) * b"},
      {"a * -b", "a * (-b)"},
      {"a = b OR NOT c", "(a = b) OR (NOT c)"},
      {"a + 1 IN [2]", "(a + 1) IN [2]"},
      {"a != -1", "a != (-1)"},
      {"a NOT IN [1]", "a NIN [1]"},
      {"a<>b", "a != b"},
  };
  for (const auto& pair : pairs) {
    const auto left = Condition::Parse(pair[0], Collection::kDevices);
    const auto right = Condition::Parse(pair[1], Collection::kDevices);
    ASSERT_TRUE(left.ok() && right.ok()) << pair[0];
    EXPECT_TRUE(*left->expr() == *right->expr())
        << ExprText(*left->expr()) << " and " << ExprText(*right->expr());
  }
  // Parentheses keep chains apart, and text around them together.
  const auto nested = Condition::Parse("a - (b - c)", Collection::kDevices);
  ASSERT_TRUE(nested.ok());
  EXPECT_EQ(ExprText(*nested->expr()), "a - (b - c)");
}

// Contract 5.6.3.
TEST(Dates, CompareAsInstantsWhereTheHubWroteThem) {
  EXPECT_EQ(OnTwin("lastActivityTime = '2024-03-01T13:30:45.123+01:00'"),
            "true");
  EXPECT_EQ(OnTwin("'2024-03-01T13:30:45.123+01:00' = LastActivityTime"),
            "true");
  EXPECT_EQ(OnTwin("lastActivityTime != '2024-03-01T12:30:45.1230000Z'"),
            "false");
  EXPECT_EQ(OnTwin("lastActivityTime IN ['2024-03-01T12:30:45.1230Z']"),
            "true");
  EXPECT_EQ(OnTwin("statusUpdateTime > '2024-01-10'"), "true");
  EXPECT_EQ(OnTwin("statusUpdateTime < '2024-01-10T08:00:01'"), "true");
  EXPECT_EQ(OnTwin("lastActivityTime > statusUpdateTime"), "true");
  EXPECT_EQ(OnTwin("properties.reported.$metadata.$lastUpdated = "
                   "lastActivityTime"),
            "true");
  EXPECT_EQ(OnTwin("properties.desired.$metadata.$lastUpdated = "
                   "CONCAT('2024-02-20T10:00:00', '.50Z')"),
            "true");
  EXPECT_EQ(OnTwin("lastActivityTime > 5"), "undefined");
  // One side is no date: the order of strings.
  EXPECT_EQ(OnTwin("lastActivityTime = '2024-03-01T12:30:45.123Z '"), "false");
}

TEST(Dates, AreStringsWhereUsersWroteThem) {
  const JsonDocument row = Row(
      R"({"tags": {"lastActivityTime": "2024-03-01T12:00:00Z",
                   "$lastUpdated": "2024-03-01T12:00:00Z"}})");
  for (const char* path : {"tags.lastActivityTime", "tags.$lastUpdated"}) {
    EXPECT_EQ(ValueOf(Condition::Parse(
                          absl::StrCat(path, " = '2024-03-01T12:00:00.0Z'"),
                          Collection::kDevices),
                      row),
              "false")
        << path;
  }
}

// Contract 5.7.

struct FunctionCase {
  const char* text;
  const char* value;
};

TEST(Functions, Values) {
  constexpr FunctionCase kCases[] = {
      {"IS_DEFINED(NULL)", "true"},
      {"IS_DEFINED(UNDEFINED)", "false"},
      {"IS_DEFINED(1 = 2)", "true"},
      {"IS_DEFINED(1 = 'a')", "false"},
      {"IS_ARRAY(['a'])", "true"},
      {"IS_ARRAY(tags)", "false"},
      {"IS_ARRAY(tags.nope)", "false"},
      {"IS_BOOL(TRUE)", "true"},
      {"IS_BOOL(NULL)", "false"},
      {"IS_NULL(NULL)", "true"},
      {"IS_NULL(0)", "false"},
      {"IS_NUMBER(1)", "true"},
      {"IS_NUMBER('1')", "false"},
      {"IS_OBJECT(tags)", "true"},
      {"IS_OBJECT(tags.colors)", "false"},
      {"IS_STRING('')", "true"},
      {"IS_STRING(1)", "false"},
      {"IS_PRIMITIVE(NULL)", "true"},
      {"IS_PRIMITIVE('x')", "true"},
      {"IS_PRIMITIVE(tags)", "false"},
      {"IS_PRIMITIVE(UNDEFINED)", "false"},
      {"STARTSWITH('abc', '')", "true"},
      {"STARTSWITH('abc', 'ABC')", "false"},
      {"startswith('abc', 'ab')", "true"},
      {"ENDSWITH('abc', 'bc')", "true"},
      {"ENDS_WITH('abc', 'b')", "false"},
      {"ENDSWITH(NULL, 'b')", "undefined"},
      {"CONTAINS('abc', 'b')", "true"},
      {"CONTAINS('abc', '')", "true"},
      {"CONTAINS('', '')", "true"},
      {"CONTAINS('', 'a')", "false"},
      {"CONTAINS(tags.colors, 'red')", "undefined"},
      {"ARRAY_CONTAINS(tags.limits, 10.0)", "true"},
      {"ARRAY_CONTAINS(tags.limits, 'x')", "true"},
      {"ARRAY_CONTAINS(tags.limits, tags)", "undefined"},
      {"ARRAY_CONTAINS(tags.limits, UNDEFINED)", "undefined"},
      {"ARRAY_CONTAINS('x', 'x')", "undefined"},
      {"ARRAY_CONTAINS([1, NULL, UNDEFINED, -2, 'a', TRUE], NULL)", "true"},
      {"ARRAY_CONTAINS([1, NULL, UNDEFINED, -2, 'a', TRUE], -2)", "true"},
      {"ARRAY_CONTAINS([1, NULL, UNDEFINED, -2, 'a', TRUE], TRUE)", "true"},
      {"ARRAY_CONTAINS([1, NULL, UNDEFINED, -2, 'a', TRUE], FALSE)", "false"},
      {"AS_NUMBER('00043')", "43"},
      {"AS_NUMBER('-1.5e2')", "-150"},
      {"AS_NUMBER('+.5')", "0.5"},
      {"AS_NUMBER(7)", "7"},
      {"AS_NUMBER('')", "undefined"},
      {"AS_NUMBER('-')", "undefined"},
      {"AS_NUMBER(' 1')", "undefined"},
      {"AS_NUMBER('1 ')", "undefined"},
      {"AS_NUMBER('1.')", "undefined"},
      {"AS_NUMBER('0x10')", "undefined"},
      {"AS_NUMBER('inf')", "undefined"},
      {"AS_NUMBER('1e999')", "undefined"},
      {"AS_NUMBER('1e-999')", "0"},
      {"AS_NUMBER('--1')", "undefined"},
      {"AS_NUMBER(TRUE)", "undefined"},
      {"CONCAT('a', 'b', 'c')", "\"abc\""},
      {"CONCAT('a', 1)", "undefined"},
      {"LENGTH('Ω😀')", "2"},
      {"LENGTH(tags.colors)", "undefined"},
      {"LOWER('ABCÄ')", "\"abcÄ\""},
      {"UPPER('abcä')", "\"ABCä\""},
      {"UPPER(1)", "undefined"},
      {"SUBSTRING('Ω😀x', 1)", "\"😀x\""},
      {"SUBSTRING('Ω😀x', 1, 1)", "\"😀\""},
      {"SUBSTRING('abc', 3)", "\"\""},
      {"SUBSTRING('abc', 4)", "undefined"},
      {"SUBSTRING('abc', 1, 99)", "\"bc\""},
      {"SUBSTRING('abc', 1, 1e300)", "\"bc\""},
      {"SUBSTRING('abc', 1e300)", "undefined"},
      {"SUBSTRING('abc', 1, 0)", "\"\""},
      {"SUBSTRING('abc', -1)", "undefined"},
      {"SUBSTRING('abc', 0, -1)", "undefined"},
      {"SUBSTRING('abc', 0.5)", "undefined"},
      {"SUBSTRING('abc', '0')", "undefined"},
      {"INDEX_OF('Ω😀x', 'x')", "2"},
      {"INDEX_OF('abc', '')", "0"},
      {"INDEX_OF('abc', 'bcd')", "-1"},
      {"INDEX_OF('abc', 1)", "undefined"},
      {"ABS(-2.5)", "2.5"},
      {"EXP(0)", "1"},
      {"EXP(1000)", "undefined"},
      {"POWER(2, 10)", "1024"},
      {"POWER(-1, 0.5)", "undefined"},
      {"POWER(0, -1)", "undefined"},
      {"SQUARE(1e200)", "undefined"},
      {"CEILING(-1.5)", "-1"},
      {"FLOOR(-1.5)", "-2"},
      {"SIGN(0)", "0"},
      {"SIGN(-3)", "-1"},
      {"SQRT(2.25)", "1.5"},
      {"SQRT('4')", "undefined"},
      {"ABS(UNDEFINED)", "undefined"},
  };
  for (const FunctionCase& c : kCases) {
    EXPECT_EQ(OnTwin(c.text), c.value) << c.text;
  }
}

TEST(Functions, StringsTheyMakeAreBounded) {
  std::string row = R"({"tags": {"s": ")";
  row += std::string(kQueryStringSizeMax / 2, 'x');
  row += R"("}})";
  const JsonDocument document = Row(row);
  const auto value = [&](absl::string_view text) {
    return ValueOf(Condition::Parse(text, Collection::kDevices), document);
  };
  EXPECT_EQ(value("LENGTH(CONCAT(tags.s, tags.s)) = 262144"), "true");
  EXPECT_EQ(value("CONCAT(tags.s, tags.s, 'x')"), "undefined");
}

TEST(Functions, ArgumentCounts) {
  for (const char* text :
       {"IS_DEFINED()", "IS_DEFINED(1, 2)", "STARTSWITH('a')", "CONCAT('a')",
        "SUBSTRING('a')", "SUBSTRING('a', 1, 2, 3)", "POWER(2)",
        "LENGTH('a', 'b')"}) {
    EXPECT_THAT(ErrorOf(text), HasSubstr("arguments of")) << text;
  }
  EXPECT_EQ(ErrorOf("SUBSTRING('a') = ''"),
            "1:1: found 1 arguments of SUBSTRING, expected 2 or 3");
  EXPECT_EQ(ErrorOf("1 = CONCAT('a')"),
            "1:5: found 1 arguments of CONCAT, expected 2 or more");
}

TEST(Functions, Profiles) {
  const QueryOptions all;
  const QueryOptions observed{FunctionProfile::kObserved};
  const QueryOptions documented{FunctionProfile::kDocumented};
  for (const char* text : {"IS_DEFINED(tags.priority)"}) {
    EXPECT_EQ(OnTwin(text, all), "true");
    EXPECT_EQ(OnTwin(text, observed), "true");
    EXPECT_EQ(OnTwin(text, documented), "true");
  }
  for (const char* text :
       {"STARTSWITH(tags.zip, '0')", "starts_with(tags.zip, '0')",
        "ARRAY_CONTAINS(tags.colors, 'red')"}) {
    EXPECT_EQ(OnTwin(text, all), "true");
    EXPECT_EQ(OnTwin(text, observed), "true");
    EXPECT_EQ(OnTwin(text, documented), "error");
  }
  for (const char* text : {"LENGTH(tags.zip) = 5", "ENDSWITH(tags.zip, '3')",
                           "IS_NULL(NULL)", "ABS(-1) = 1"}) {
    EXPECT_EQ(OnTwin(text, all), "true");
    EXPECT_EQ(OnTwin(text, observed), "error");
    EXPECT_EQ(OnTwin(text, documented), "error");
  }
  EXPECT_THAT(ErrorOf("LENGTH(tags.zip) = 5", observed),
              HasSubstr("not in the function profile"));
}

// Contract 5.4, and what messages say.

struct ErrorCase {
  const char* text;
  const char* message;
};

TEST(Errors, SayWhereWhatAndWhatInstead) {
  constexpr ErrorCase kCases[] = {
      {"",
       "1:1: found the end of the condition, expected *, NOT or an operand"},
      {"tags.x =", "1:9: found the end of the condition, expected an operand"},
      {"tags.priority == 7", "1:15: found '==': use = to compare"},
      {"tags.group = 1",
       "1:6: found 'group', expected a name; a reserved word is written as "
       "[[group]] where it is a name"},
      {"SELECT * FROM devices",
       "1:1: found 'SELECT', expected *; give only what follows WHERE"},
      {"where tags.x = 1",
       "1:1: found 'where', expected *; give only what follows WHERE"},
      {"FROM devices.modules WHERE moduleId = 'x'",
       "1:1: found 'FROM': jobs over module twins are not supported; for "
       "device twins give only what follows WHERE"},
      {"FOO(tags.zip) = 1",
       "1:1: found 'FOO', expected the name of a function"},
      {"STARTWITH(tags.zip, '0')",
       "1:1: found 'STARTWITH', expected the name of a function; did you mean "
       "STARTSWITH?"},
      {"isdefined(tags.zip)",
       "1:1: found 'isdefined', expected the name of a function; did you mean "
       "IS_DEFINED?"},
      {"1 < tags.priority < 9",
       "1:19: found '<', expected '.', '[', an arithmetic operator, AND, OR or "
       "the end; comparisons do not chain, join two of them with AND"},
      {"deviceId IN ('a')",
       "1:13: found '(', expected '['; the values stand in [ ]"},
      {"deviceId IN ['a',]",
       "1:18: found ']', expected '-', a number, a string, TRUE, FALSE, NULL "
       "or UNDEFINED"},
      {"deviceId IN ['a' 'b']", "1:18: found 'b', expected ',' or ']'"},
      {"deviceId IN [[1]]",
       "1:14: found '[', expected '-', a number, a string, TRUE, FALSE, NULL "
       "or UNDEFINED; lists do not nest"},
      {"tags.x LIKE 'a%'",
       "1:8: found 'LIKE', expected '.', '[', an arithmetic operator, a "
       "comparison, IN, NIN, AND, OR or the end; there is no LIKE, use "
       "STARTSWITH, ENDSWITH or CONTAINS"},
      {"(tags.x = 1",
       "1:12: found the end of the condition, expected an arithmetic operator, "
       "AND, OR or ')'"},
      {"tags.x = 1)",
       "1:11: found ')', expected an arithmetic operator, AND, OR or the end"},
      {"tags.4g = true",
       "1:5: found a digit behind '.': write a name that begins with a digit "
       "as [[name]], an index as [0]"},
      {"COUNT() = 1",
       "1:1: found 'COUNT', expected *, NOT or an operand; aggregates stand in "
       "the list of SELECT only"},
      {"tags.x NOT = 1", "1:12: found '=', expected IN"},
      {"tags.x[-1] = 1",
       "1:8: found '-', expected an index or a name in quotes"},
      {"'a' = 'b", "1:7: found a string without the ' that ends it"},
      {"tags.x = 1 AND\n  tags.y = 'C:\\fw'",
       "2:15: found an escape that does not exist: after '\\' comes one of \\ "
       "' \" or u and four hexadecimal digits; write '\\\\' for '\\'"},
      {"'\\u12' = ''",
       "1:2: found '\\u', expected four hexadecimal digits behind it"},
      {"tags.部屋 = 'é' = 1",
       "1:15: found '=', expected an arithmetic operator, AND, OR or the end; "
       "comparisons do not chain, join two of them with AND"},
      {"tags.x = #",
       "1:10: found '#', which no token begins with; a name with "
       "such characters is written as [[name]]"},
      {"tags.[[]] = 1", "1:6: found '[[]]', expected a name in it"},
      {"tags.[[x] = 1", "1:6: found '[[' without the ']]' that ends the name"},
      {"tags.x = 1 && tags.y = 2", "1:12: found '&&': use AND"},
      {"!tags.x", "1:1: found '!': use NOT"},
      // The first of two errors counts, whichever finds it.
      {"tags.x = ) ==", "1:10: found ')', expected an operand"},
      {"* = 1", "1:3: found '=', expected the end"},
  };
  for (const ErrorCase& c : kCases) EXPECT_EQ(ErrorOf(c.text), c.message);
}

TEST(Errors, LongTokensAreCutInMessages) {
  const std::string message =
      ErrorOf(absl::StrCat("tags.x '", std::string(5000, 'y'), "'"));
  EXPECT_THAT(message, HasSubstr("yyy..."));
  EXPECT_LT(message.size(), 250);
}

TEST(Errors, FailureReasonCountsInTheHubsText) {
  const auto reason = [](absl::string_view text) {
    return FailureReason(Condition::ParseJobCondition(text).status());
  };
  EXPECT_EQ(reason(""),
            "SQL query parse failed due to following errors: 1:29: found the "
            "end of the condition, expected *, NOT or an operand");
  EXPECT_THAT(reason("tags.x = = 1"), HasSubstr("errors: 1:38: found '='"));
  EXPECT_THAT(reason("tags.x = 1 AND\n= 1"), HasSubstr("errors: 2:1: found"));
  const absl::Status prefixed = PrefixError(
      "queryCondition: ", Condition::ParseJobCondition("= 1").status());
  EXPECT_THAT(FailureReason(prefixed), HasSubstr("errors: 1:29: found '='"));
  EXPECT_EQ(FailureReason(absl::InternalError("no store")),
            "SQL query parse failed due to following errors: no store");
}

TEST(Lexical, ReservedWordsNeedBrackets) {
  const char* const kReserved[] = {
      "ALL",  "AND",   "AS",        "ASC",   "AVG",   "BY",     "COUNT",
      "DESC", "FALSE", "FROM",      "GROUP", "IN",    "MAX",    "MIN",
      "NIN",  "NOT",   "NULL",      "OR",    "ORDER", "SELECT", "SUM",
      "TOP",  "TRUE",  "UNDEFINED", "WHERE"};
  for (const char* word : kReserved) {
    EXPECT_EQ(OnTwin(absl::StrCat("IS_DEFINED(tags.", word, ")")), "error");
    EXPECT_EQ(OnTwin(absl::StrCat("IS_DEFINED(tags.[[", word, "]])")), "false");
    EXPECT_EQ(OnTwin(absl::StrCat("IS_DEFINED(tags.x", word, ")")), "false");
  }
}

TEST(Lexical, Numbers) {
  EXPECT_EQ(OnTwin("0x1F"), "31");
  EXPECT_EQ(OnTwin(".5"), "0.5");
  EXPECT_EQ(OnTwin("1.5E+2"), "150");
  EXPECT_EQ(OnTwin("1e-999"), "0");
  EXPECT_EQ(OnTwin("NOT .5"), "undefined");
  for (const char* text :
       {"1.", "1.x", "1e", "1e+", "4g", "0x", "0xg", "0X1", "1e999", "1.2.3",
        "0x20000000000001", "0xfffffffffffffffffffff", "1_000", "5Ω",
        "tags.x .5", "tags.x.5"}) {
    EXPECT_EQ(OnTwin(text), "error") << text;
  }
}

TEST(Lexical, Strings) {
  EXPECT_EQ(OnTwin(R"("it's" = 'it\'s')"), "true");
  EXPECT_EQ(OnTwin(R"('\u0041' = "A")"), "true");
  EXPECT_EQ(OnTwin(R"('\ud83d\ude00' = '😀')"), "true");
  EXPECT_EQ(OnTwin(R"('\\u0041' = '\u005cu0041')"), "true");
  EXPECT_EQ(OnTwin("LENGTH('a\nb') = 3"), "true");
  for (const char* text :
       {R"('\ud83d')", R"('\ud83dx')", R"('\ud83d\u0041')", R"('\ude00')",
        R"('\n')", R"('\U0041')", R"('\)", R"('\u00)", "'a\"", "'a''b'"}) {
    EXPECT_EQ(OnTwin(text), "error") << text;
  }
}

TEST(Lexical, Names) {
  EXPECT_EQ(OnTwin("tags.[[a]b]] = 1"), "true");
  EXPECT_EQ(OnTwin("tags[\"my-tag\"] = 'dash'"), "true");
  EXPECT_EQ(OnTwin("tags.[[部屋]] = '会議室'"), "true");
  EXPECT_EQ(OnTwin("IS_DEFINED(tags._a$9)"), "false");
  // White space beyond ASCII neither separates tokens nor stands in names.
  EXPECT_EQ(OnTwin("tags.priority\u00a0= 7"), "error");
  EXPECT_EQ(OnTwin("tags.priority\u3000= 7"), "error");
  EXPECT_EQ(OnTwin("tags.a\u0085b = 7"), "error");
  EXPECT_EQ(OnTwin("\t\r\n tags.priority\n=\t7 \r\n"), "true");
  EXPECT_EQ(OnTwin(absl::string_view("tags.priority\0= 7", 17)), "error");
}

TEST(Lexical, InvalidUtf8IsRefusedWhereItIs) {
  EXPECT_EQ(ErrorOf("a = 'é\xff'"),
            "1:7: the text is no valid UTF-8 from here on");
  for (const char* bytes : {"\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                            "\xe2\x82", "\x80", "\xf8\x88\x80\x80\x80"}) {
    EXPECT_THAT(ErrorOf(absl::StrCat("'", bytes, "'")), HasSubstr("UTF-8"));
  }
}

TEST(Limits, LengthInCodePoints) {
  const auto text = [](size_t length) {
    return absl::StrCat("tags.x = '", Repeat("Ω", length - 11), "'");
  };
  EXPECT_EQ(OnTwin(text(kQueryLengthMax)), "undefined");
  EXPECT_EQ(ErrorOf(text(kQueryLengthMax + 1)),
            "1:8193: the text is longer than 8192 characters");
  EXPECT_EQ(ErrorOf(std::string(1 << 20, ' ')),
            "1:8193: the text is longer than 8192 characters");
}

TEST(Limits, Depth) {
  const auto parentheses = [](int depth) {
    return Repeat("(", depth) + "TRUE" + Repeat(")", depth);
  };
  EXPECT_EQ(OnTwin(parentheses(kQueryDepthMax)), "true");
  EXPECT_EQ(ErrorOf(parentheses(kQueryDepthMax + 1)),
            "1:65: nested deeper than 64 parentheses and calls");
  const auto calls = [](int depth) {
    return Repeat("LOWER(", depth) + "'A'" + Repeat(")", depth);
  };
  EXPECT_EQ(OnTwin(calls(kQueryDepthMax)), "\"a\"");
  EXPECT_EQ(OnTwin(calls(kQueryDepthMax + 1)), "error");
  EXPECT_EQ(OnTwin(Repeat("LOWER((", 32) + "'A'" + Repeat("))", 32)), "\"a\"");
  EXPECT_EQ(OnTwin(Repeat("LOWER((", 33) + "'A'" + Repeat("))", 33)), "error");
  // Depth, not number.
  EXPECT_EQ(OnTwin(Repeat("(TRUE) AND ", 500) + "(TRUE)"), "true");
}

TEST(Limits, TokensInAList) {
  // 1,024 values and 1,023 commas; a sign is a token too.
  const std::string values = Repeat("1,", 1023);
  EXPECT_EQ(OnTwin(absl::StrCat("tags.x IN [", values, "1]")), "undefined");
  EXPECT_EQ(OnTwin(absl::StrCat("tags.x IN [", values, "-1]")), "undefined");
  EXPECT_THAT(ErrorOf(absl::StrCat("tags.x IN [-1,", values, "-1]")),
              HasSubstr("a list of more than 2048 tokens"));
  EXPECT_THAT(ErrorOf(absl::StrCat("tags.x IN [", values, "1,1]")),
              HasSubstr("a list of more than 2048 tokens"));
  const std::string arguments = Repeat("'',", 1023);
  EXPECT_EQ(OnTwin(absl::StrCat("CONCAT(", arguments, "'')")), "\"\"");
  EXPECT_THAT(ErrorOf(absl::StrCat("CONCAT(", arguments, "'', '')")),
              HasSubstr("a list of more than 2048 tokens"));
}

TEST(ConditionTest, CopiesShareAndOutliveTheOriginal) {
  std::optional<Condition> copy;
  {
    auto condition = Condition::ParseJobCondition("tags.zip = '00043'");
    ASSERT_TRUE(condition.ok());
    copy = *condition;
    EXPECT_EQ(copy->expr(), condition->expr());
  }
  EXPECT_TRUE(copy->Matches(ExampleTwin()));
  EXPECT_EQ(copy->text(), "tags.zip = '00043'");
}

TEST(ConditionTest, StarIsForJobsOnly) {
  EXPECT_EQ(OnTwin(" \t* "), "true");
  EXPECT_FALSE(Condition::Parse("*", Collection::kDevices).ok());
  EXPECT_TRUE(Condition::MatchAll(Collection::kDeviceJobs).matches_all());
  EXPECT_TRUE(Condition::MatchAll(Collection::kDevices).Matches(ExampleTwin()));
}

TEST(Candidates, BoundWhatCanMatch) {
  const auto candidates = [](absl::string_view text) {
    const auto condition = Condition::ParseJobCondition(text);
    EXPECT_TRUE(condition.ok()) << text;
    return condition->Candidates(Root::kDeviceId);
  };
  EXPECT_THAT(candidates("deviceId = 'a'"), Optional(ElementsAre("a")));
  EXPECT_THAT(candidates("'a' = id AND tags.x = 1"),
              Optional(ElementsAre("a")));
  EXPECT_THAT(candidates("tags.x = 1 AND (deviceId IN ['b', 'a', 7, 'b'])"),
              Optional(ElementsAre("a", "b")));
  EXPECT_THAT(candidates("deviceId = 'a' AND deviceId = 'b'"),
              Optional(IsEmpty()));
  EXPECT_THAT(candidates("deviceId IN ['a','b','c'] AND deviceId IN ['c','b']"),
              Optional(ElementsAre("b", "c")));
  EXPECT_THAT(candidates("deviceId IN [1]"), Optional(IsEmpty()));
  EXPECT_THAT(candidates("deviceId = 'b' OR deviceId IN ['a']"),
              Optional(ElementsAre("a", "b")));
  for (const char* text :
       {"*", "tags.x = 1", "deviceId != 'a'", "deviceId > 'a'",
        "deviceId NIN ['a']", "NOT deviceId = 'a'", "deviceId = 1",
        "deviceId = 'a' OR tags.x = 1", "deviceId = tags.x", "deviceId.x = 'a'",
        "moduleId = 'a'", "'a' = 'a'"}) {
    EXPECT_EQ(candidates(text), std::nullopt) << text;
  }
  // Instants have many spellings.
  const auto date =
      Condition::ParseJobCondition("lastActivityTime = '2024-03-01'");
  ASSERT_TRUE(date.ok());
  EXPECT_EQ(date->Candidates(Root::kLastActivityTime), std::nullopt);
}

// Random conditions over the members of the example twin.
class ConditionMaker {
 public:
  explicit ConditionMaker(uint32_t seed) : random_(seed) {}

  std::string Condition(int depth) {
    switch (depth <= 0 ? Roll(2) : Roll(9)) {
      case 0:
        return absl::StrCat(Operand(depth),
                            Pick({" = ", "!=", "<>", "<", " > ", "<=", " >= "}),
                            Operand(depth));
      case 1:
        return absl::StrCat(Operand(depth), Pick({" IN ", " nin ", " NOT IN "}),
                            List());
      case 2:
      case 3:
        return absl::StrCat(Condition(depth - 1), " AND ",
                            Condition(depth - 1));
      case 4:
      case 5:
        return absl::StrCat(Condition(depth - 1), " or ", Condition(depth - 1));
      case 6:
        return absl::StrCat("NOT ", Condition(depth - 1));
      case 7:
        return absl::StrCat("(", Condition(depth - 1), ")");
      default:
        return Operand(depth);
    }
  }

 private:
  uint32_t Roll(uint32_t sides) { return random_() % sides; }

  std::string Pick(std::vector<const char*> from) {
    return from[Roll(static_cast<uint32_t>(from.size()))];
  }

  std::string Constant() {
    return Pick({"1", "0", "7", "-3", "0x1f", "2.5e-7", "1e300", "'US'", "''",
                 "\"it's\"", "'\\\\'", "'2024-03-01'", "TRUE", "false", "NULL",
                 "undefined", "'\\u0041'"});
  }

  std::string List() {
    std::vector<std::string> elements;
    for (uint32_t i = 0; i <= Roll(3); ++i) elements.push_back(Constant());
    return absl::StrCat("[", absl::StrJoin(elements, ","), "]");
  }

  std::string Path() {
    return Pick({"tags.priority",
                 "tags.location.region",
                 "deviceId",
                 "Properties.Reported.batteryLevel",
                 "tags.[[my-tag]]",
                 "tags['a]b']",
                 "tags['x]]']",
                 "tags.[[in]]",
                 "tags['']",
                 "tags.limits[1]",
                 "nope",
                 "devices.devices.x",
                 "devices[0]",
                 "tags.retired",
                 "properties",
                 "properties.desired.$version",
                 "properties.reported.$metadata.$lastUpdated",
                 "lastActivityTime",
                 "x509Thumbprint.primarythumbprint",
                 "[[group]].x",
                 "tags['it\\'s \\\\']"});
  }

  std::string Operand(int depth) {
    switch (depth <= 0 ? Roll(4) : Roll(10)) {
      case 0:
        return Constant();
      case 1:
      case 2:
        return Path();
      case 3:
        return List();
      case 4:
        return absl::StrCat("(", Condition(depth - 1), ")");
      case 5:
        return absl::StrCat(Pick({"-", "+", "- -", "-+-"}), Operand(depth - 1));
      case 6:
        return absl::StrCat(Operand(depth - 1),
                            Pick({"+", " - ", "*", " / ", "%"}),
                            Operand(depth - 1));
      case 7:
        return absl::StrCat(
            Pick({"IS_DEFINED", "is_null", "LENGTH", "UPPER", "ABS"}), "(",
            Condition(depth - 1), ")");
      case 8:
        return absl::StrCat(Pick({"STARTS_WITH", "INDEX_OF", "CONCAT"}), "(",
                            Operand(depth - 1), ", ", Operand(depth - 1), ")");
      default:
        return Path();
    }
  }

  std::mt19937 random_;
};

TEST(Printing, ParsesBackIntoTheSame) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  ConditionMaker maker(seed);
  const JsonDocument twin = ExampleTwin();
  int parsed = 0;
  for (int i = 0; i < 6'000; ++i) {
    const std::string text = maker.Condition(5);
    const auto condition = Condition::Parse(text, Collection::kDevices);
    if (!condition.ok()) continue;  // Too long; some signs and operators meet.
    const std::string printed = ExprText(*condition->expr());
    const auto again = Condition::Parse(printed, Collection::kDevices);
    ASSERT_TRUE(again.ok()) << text << "\n"
                            << printed << "\n"
                            << again.status();
    ASSERT_TRUE(*again->expr() == *condition->expr()) << text << "\n"
                                                      << printed;
    EXPECT_EQ(ExprText(*again->expr()), printed);
    Scratch scratch;
    EXPECT_EQ(again->Evaluate(twin, &scratch).DebugString(),
              condition->Evaluate(twin, &scratch).DebugString())
        << text;
    ++parsed;
  }
  EXPECT_GT(parsed, 3'000);
}

}  // namespace
}  // namespace muster
