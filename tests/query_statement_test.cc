// Statements: the rows of contract 5.12 by number, the statements of 5.11, and
// the rules of 5.2 and J38.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "engine/model/error.h"
#include "engine/model/json.h"
#include "engine/query/document.h"
#include "engine/query/options.h"
#include "engine/query/parse_error.h"
#include "engine/query/statement.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/query_samples.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Runs a statement as an engine would: rows in order, TOP over all.  A row of
// SELECT * stands as its device.
std::vector<std::string> RowsOf(const Statement& statement,
                                const std::vector<JsonDocument>& documents) {
  if (statement.is_aggregate()) {
    Aggregator aggregator(statement);
    for (const JsonDocument& document : documents) {
      if (!statement.Matches(document)) continue;
      EXPECT_EQ(aggregator.Add(document), absl::OkStatus());
    }
    return aggregator.Rows();
  }
  const int64_t top = statement.top().value_or(INT64_MAX);
  std::vector<std::string> rows;
  for (const JsonDocument& document : documents) {
    if (static_cast<int64_t>(rows.size()) >= top) {
      break;
    }
    if (!statement.Matches(document)) continue;
    rows.push_back(
        statement.is_select_all()
            ? std::string(document.Get(Root::kDeviceId).string_value())
            : statement.ProjectRow(document));
  }
  return rows;
}

std::vector<std::string> RowsOf(absl::string_view text,
                                const std::vector<JsonDocument>& documents) {
  const absl::StatusOr<Statement> statement = Statement::Parse(text);
  EXPECT_TRUE(statement.ok()) << statement.status();
  return statement.ok() ? RowsOf(*statement, documents)
                        : std::vector<std::string>();
}

std::vector<std::string> RowsOf(absl::string_view text) {
  return RowsOf(text, SixTwins());
}

// The message, or "" if there is no error.
std::string ErrorOf(absl::string_view text) {
  const absl::StatusOr<Statement> statement = Statement::Parse(text);
  if (statement.ok()) return "";
  EXPECT_EQ(ErrorCodeOf(statement.status()), ErrorCode::kArgumentInvalid);
  EXPECT_TRUE(ParseErrorOf(statement.status()).has_value());
  return std::string(statement.status().message());
}

// Contract 5.12.

struct StatementCase {
  int number;
  const char* text;
  const char* item_type;  // "error" if it is refused.
  std::vector<std::string> rows;
};

void PrintTo(const StatementCase& row, std::ostream* os) { *os << row.text; }

class StatementRow : public ::testing::TestWithParam<StatementCase> {};

TEST_P(StatementRow, GivesTheRowsOfTheContract) {
  const StatementCase& row = GetParam();
  const absl::StatusOr<Statement> statement = Statement::Parse(row.text);
  if (absl::string_view(row.item_type) == "error") {
    EXPECT_THAT(ErrorOf(row.text), HasSubstr("not supported"));
    return;
  }
  ASSERT_TRUE(statement.ok()) << statement.status();
  EXPECT_EQ(statement->item_type(), row.item_type);
  EXPECT_EQ(statement->text(), row.text);
  std::vector<JsonDocument> documents = SixTwins();
  if (statement->collection() == Collection::kDeviceJobs) {
    documents = {ExampleRecord(), Row(R"({"deviceId": "d", "jobId": "x"})")};
  }
  EXPECT_EQ(RowsOf(*statement, documents), row.rows);
}

INSTANTIATE_TEST_SUITE_P(
    Rows, StatementRow,
    ::testing::Values(
        StatementCase{1,
                      "SELECT * FROM devices",
                      "Twin",
                      {"thermo-042", "thermo-043", "thermo-044", "thermo-045",
                       "thermo-046", "thermo-047"}},
        StatementCase{2,
                      "SELECT TOP 5 * FROM devices WHERE tags.location.region "
                      "= 'US'",
                      "Twin",
                      {"thermo-042", "thermo-043", "thermo-047"}},
        StatementCase{3,
                      "SELECT COUNT() AS total FROM devices",
                      "Raw",
                      {R"({"total":6})"}},
        StatementCase{4,
                      "SELECT deviceId, lastActivityTime FROM devices WHERE "
                      "status = 'enabled'",
                      "Raw",
                      {R"({"deviceId":"thermo-042",)"
                       R"("lastActivityTime":"2024-03-01T12:30:45.123Z"})"}},
        StatementCase{
            5,
            "SELECT properties.reported.telemetryConfig.status AS status, "
            "COUNT() AS numberOfDevices FROM devices GROUP BY "
            "properties.reported.telemetryConfig.status",
            "Raw",
            {R"({"status":"Error","numberOfDevices":1})",
             R"({"status":"Pending","numberOfDevices":2})",
             R"({"status":"Success","numberOfDevices":3})"}},
        StatementCase{
            6,
            "SELECT AVG(properties.reported.batteryLevel) AS a, "
            "MIN(properties.reported.batteryLevel) AS lo FROM devices",
            "Raw",
            {R"({"a":44.375,"lo":12.5})"}},
        // Module twins: not yet, and said so.
        StatementCase{7,
                      "SELECT * FROM devices.modules WHERE "
                      "properties.reported.status = 'scanning' AND deviceId IN "
                      "['d1','d2']",
                      "error",
                      {}},
        StatementCase{8,
                      "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = "
                      "'lock-2024-03'",
                      "DeviceJob",
                      {"thermo-042"}}),
    [](const ::testing::TestParamInfo<StatementCase>& info) {
      return absl::StrFormat("Row%03d", info.param.number);
    });

// Contract 5.11, the last two rows, and 5.2.
TEST(Collections, RecordsAreGivenWholeOnly) {
  EXPECT_THAT(ErrorOf("SELECT devices.jobs.status FROM devices.jobs"),
              HasSubstr("1:8: found a list of columns, expected *"));
  EXPECT_THAT(ErrorOf("SELECT COUNT() AS n FROM devices.jobs"),
              HasSubstr("expected *"));
  EXPECT_THAT(ErrorOf("SELECT * FROM devices.jobs GROUP BY status"),
              HasSubstr("cannot be grouped"));
  EXPECT_THAT(ErrorOf("SELECT * FROM devices.jobs WHERE tags.x = 1"),
              HasSubstr("1:34: found 'tags', which only device twins have"));
}

TEST(Collections, OthersAreRefused) {
  for (const char* name : {"enrollments", "enrollmentGroups", "device", "x",
                           "devices.twins", "[[devices]]", "devices.jobs.x"}) {
    EXPECT_NE(ErrorOf(absl::StrCat("SELECT * FROM ", name)), "") << name;
  }
  EXPECT_EQ(ErrorOf("SELECT * FROM enrollments"),
            "1:15: found 'enrollments', expected devices or devices.jobs");
}

TEST(Collections, NamesAndKeywordsInAnyCase) {
  EXPECT_THAT(RowsOf("select Top 1 * From DEVICES where STATUS = 'enabled'"),
              ElementsAre("thermo-042"));
  const auto statement = Statement::Parse("Select * from Devices.Jobs");
  ASSERT_TRUE(statement.ok());
  EXPECT_EQ(statement->collection(), Collection::kDeviceJobs);
}

TEST(StatementTest, Parts) {
  const auto all = Statement::Parse("SELECT * FROM devices");
  ASSERT_TRUE(all.ok());
  EXPECT_TRUE(all->is_select_all());
  EXPECT_FALSE(all->is_aggregate());
  EXPECT_EQ(all->top(), std::nullopt);
  EXPECT_FALSE(all->condition().has_value());

  const auto some = Statement::Parse(
      "SELECT TOP 3 deviceId FROM devices WHERE  tags.x = 'é'  ");
  ASSERT_TRUE(some.ok());
  EXPECT_FALSE(some->is_select_all());
  EXPECT_EQ(some->top(), 3);
  const std::optional<Condition>& condition = some->condition();
  EXPECT_EQ(condition.has_value() ? condition->text() : "", "tags.x = 'é'");
  EXPECT_NE(some->hash(), all->hash());
  EXPECT_EQ(some->hash(), Statement::Parse(some->text())->hash());
}

TEST(StatementTest, ProfileHoldsForWhere) {
  const QueryOptions documented{FunctionProfile::kDocumented};
  EXPECT_FALSE(
      Statement::Parse("SELECT * FROM devices WHERE STARTSWITH(deviceId, 'x')",
                       documented)
          .ok());
  EXPECT_TRUE(Statement::Parse("SELECT * FROM devices WHERE IS_DEFINED(tags.x)",
                               documented)
                  .ok());
}

TEST(StatementTest, Errors) {
  const struct {
    const char* text;
    const char* message;
  } kCases[] = {
      {"", "1:1: found the end of the statement, expected SELECT"},
      {"tags.x = 1", "1:1: found 'tags', expected SELECT"},
      {"SELECT",
       "1:7: found the end of the statement, expected TOP, *, a "
       "member or an aggregate"},
      {"SELECT TOP x * FROM devices",
       "1:12: found 'x', expected a whole number"},
      {"SELECT TOP 1.5 * FROM devices",
       "1:12: found '1.5', expected a whole number"},
      {"SELECT TOP 0x5 * FROM devices",
       "1:12: found '0x5', expected a whole number"},
      {"SELECT TOP 9999999999999999999 * FROM devices",
       "1:12: found a number that is too large"},
      {"SELECT TOP -1 * FROM devices",
       "1:12: found '-', expected a whole number"},
      {"SELECT *", "1:9: found the end of the statement, expected FROM"},
      {"SELECT *, deviceId FROM devices", "1:9: found ',', expected FROM"},
      {"SELECT * FROM devices ORDER BY deviceId",
       "1:23: found 'ORDER', expected '.', WHERE, GROUP BY or the end; there "
       "is no ORDER BY, rows come in the order of their keys"},
      {"SELECT DISTINCT tags.x FROM devices",
       "1:17: found 'tags', expected '.', '[', AS, ',' or FROM"},
      {"SELECT LENGTH(tags.x) FROM devices",
       "1:8: found 'LENGTH', expected TOP, *, a member or COUNT, AVG, SUM, MIN "
       "or MAX; other functions stand in conditions only"},
      {"SELECT COUNT(tags.x) FROM devices",
       "1:14: found 'tags', expected * or ')'"},
      {"SELECT AVG() FROM devices", "1:12: found ')', expected a name"},
      {"SELECT tags.x AS group FROM devices",
       "1:18: found 'group', expected a name; a reserved word is written as "
       "[[group]] where it is a name"},
      {"SELECT count FROM devices",
       "1:8: found 'count', expected TOP, *, a member or an aggregate; a "
       "reserved word is written as [[count]] where it is a name"},
      {"SELECT tags.x, COUNT() FROM devices",
       "1:8: found a member beside aggregates, expected GROUP BY it, or "
       "aggregates only"},
      {"SELECT tags.y, COUNT() FROM devices GROUP BY tags.x",
       "1:8: found tags.y, expected the member of GROUP BY, which is tags.x, "
       "or an aggregate"},
      {"SELECT * FROM devices GROUP BY tags.x",
       "1:8: found *, expected the member of GROUP BY or aggregates"},
      {"SELECT COUNT() FROM devices GROUP BY tags.x, tags.y",
       "1:44: found ',', expected '.', '[' or the end"},
      {"SELECT COUNT() FROM devices GROUP tags.x",
       "1:35: found 'tags', expected BY"},
      {"SELECT tags.a, properties.reported.a FROM devices",
       "1:16: found a second column named 'a', expected another name; give it "
       "one with AS"},
      {"SELECT COUNT() FROM devices WHERE tags.x = 1 HAVING COUNT() > 1",
       "1:46: found 'HAVING', expected an arithmetic operator, AND, OR, GROUP "
       "BY or the end; there is no HAVING"},
      {"SELECT * FROM devices WHERE *",
       "1:29: found '*', expected NOT or an operand"},
  };
  for (const auto& c : kCases) EXPECT_EQ(ErrorOf(c.text), c.message);
}

TEST(StatementTest, TokensInASelectList) {
  // One token and a comma for each column but the last.
  std::vector<std::string> columns;
  columns.reserve(1025);
  for (int i = 0; i < 1024; ++i) columns.push_back(absl::StrCat("c", i));
  EXPECT_EQ(ErrorOf(absl::StrCat("SELECT ", absl::StrJoin(columns, ","),
                                 " FROM devices")),
            "");
  columns.push_back("x");
  EXPECT_THAT(ErrorOf(absl::StrCat("SELECT ", absl::StrJoin(columns, ","),
                                   " FROM devices")),
              HasSubstr("a list of more than 2048 tokens"));
}

// Projections.

TEST(Projection, NamesAndOrder) {
  EXPECT_THAT(
      RowsOf(
          "SELECT TOP 1 tags.zip, DEVICEID, devices.tags.location.FLOOR AS f, "
          "CAPABILITIES.IOTEDGE, tags.colors[1], tags.[[my-tag]], "
          "tags['a]b'], properties.reported.$version, tags.location.geo AS "
          "[[select]] FROM devices"),
      ElementsAre(R"({"zip":"00043","deviceId":"thermo-042","iotEdge":false,)"
                  R"("colors":"blue","my-tag":"dash","a]b":1,"$version":17,)"
                  R"("select":{"lat":47.5,"lon":-122.25}})"));
}

TEST(Projection, MissingMembersAreLeftOutAndNullsAreNot) {
  EXPECT_THAT(RowsOf("SELECT deviceId, tags.mix, region FROM devices"),
              ElementsAre(R"({"deviceId":"thermo-042"})",
                          R"({"deviceId":"thermo-043","mix":null})",
                          R"({"deviceId":"thermo-044","mix":"b"})",
                          R"({"deviceId":"thermo-045","mix":true})",
                          R"({"deviceId":"thermo-046","mix":2})",
                          R"({"deviceId":"thermo-047","mix":["a"]})"));
}

// A row whose sections come without $metadata, as packed rows give them.
class PackedRow : public Document {
 public:
  JsonView Get(Root root) const override {
    return root == Root::kDesired ? section_.view() : JsonView();
  }
  Json Full() const override {
    return *ParseJson(
        R"({"properties": {"desired": {"$metadata": {}, "$version": 1}}})");
  }

 private:
  const Json section_ = *ParseJson(R"({"$version": 1})");
};

TEST(Projection, WholeSectionsComeFromTheWholeRow) {
  const auto project = [](absl::string_view path) {
    const auto statement =
        Statement::Parse(absl::StrCat("SELECT ", path, " FROM devices"));
    EXPECT_TRUE(statement.ok());
    return statement->ProjectRow(PackedRow());
  };
  EXPECT_EQ(project("properties.desired"),
            R"({"desired":{"$metadata":{},"$version":1}})");
  EXPECT_EQ(project("properties"),
            R"({"properties":{"desired":{"$metadata":{},"$version":1}}})");
  EXPECT_EQ(project("properties.desired.$version"), R"({"$version":1})");
  EXPECT_EQ(project("properties.reported"), "{}");
}

// Aggregates: J38.

TEST(Aggregates, SkipWhatIsNoNumber) {
  EXPECT_THAT(
      RowsOf("SELECT COUNT(*), AVG(properties.reported.batteryLevel), "
             "SUM(properties.reported.batteryLevel) AS s, "
             "MIN(properties.reported.batteryLevel), "
             "MAX(properties.reported.batteryLevel) FROM devices"),
      ElementsAre(R"({"$1":6,"$2":44.375,"s":177.5,"$3":12.5,"$4":90})"));
}

TEST(Aggregates, OverNothing) {
  const char* const text =
      "SELECT COUNT() AS n, SUM(tags.nope) AS s, AVG(tags.nope) AS a, "
      "MIN(tags.nope) AS lo, MAX(tags.nope) AS hi FROM devices";
  EXPECT_THAT(RowsOf(text), ElementsAre(R"({"n":6,"s":0})"));
  EXPECT_THAT(RowsOf(text, {}), ElementsAre(R"({"n":0,"s":0})"));
  EXPECT_THAT(RowsOf("SELECT COUNT() AS n FROM devices WHERE tags.nope = 1"),
              ElementsAre(R"({"n":0})"));
}

TEST(Aggregates, TopBoundsTheirRows) {
  EXPECT_THAT(RowsOf("SELECT TOP 1 COUNT() FROM devices GROUP BY status"),
              ElementsAre(R"({"$1":5})"));
  EXPECT_THAT(RowsOf("SELECT TOP 0 COUNT() FROM devices"), IsEmpty());
}

TEST(Groups, InAscendingOrderOfKindThenValue) {
  const std::vector<JsonDocument> documents = {
      Row(R"({"tags": {"g": "b", "v": 1}})"),
      Row(R"({"tags": {"g": 10, "v": 1}})"),
      Row(R"({"tags": {"g": true, "v": 1}})"),
      Row(R"({"tags": {"g": null, "v": 1}})"),
      Row(R"({"tags": {"v": 1}})"),
      Row(R"({"tags": {"g": false, "v": 1}})"),
      Row(R"({"tags": {"g": "B", "v": 1}})"),
      Row(R"({"tags": {"g": 9.5, "v": 1}})"),
      Row(R"({"tags": {"g": -3, "v": 1}})"),
      Row(R"({"tags": {"g": "", "v": 1}})"),
      // One value, however it is written.
      Row(R"({"tags": {"g": 10.0, "v": 1}})"),
      Row(R"({"tags": {"g": 0, "v": 1}})"),
      Row(R"({"tags": {"g": -0.0, "v": 1}})"),
      // No values to group by: the group "missing".
      Row(R"({"tags": {"g": {"x": 1}, "v": 1}})"),
      Row(R"({"tags": {"g": [1], "v": 1}})"),
      Row(R"({})"),
  };
  EXPECT_THAT(
      RowsOf(
          "SELECT tags.g, COUNT() AS n, SUM(tags.v) AS s FROM devices GROUP BY "
          "tags.g",
          documents),
      ElementsAre(R"({"n":4,"s":3})", R"({"g":null,"n":1,"s":1})",
                  R"({"g":false,"n":1,"s":1})", R"({"g":true,"n":1,"s":1})",
                  R"({"g":-3,"n":1,"s":1})", R"({"g":0,"n":2,"s":2})",
                  R"({"g":9.5,"n":1,"s":1})", R"({"g":10,"n":2,"s":2})",
                  R"({"g":"","n":1,"s":1})", R"({"g":"B","n":1,"s":1})",
                  R"({"g":"b","n":1,"s":1})"));
}

TEST(Groups, OfNoRowsAreNone) {
  EXPECT_THAT(RowsOf("SELECT COUNT() FROM devices GROUP BY status", {}),
              IsEmpty());
}

TEST(Groups, MemberMayBeLeftOutOrStandAlone) {
  EXPECT_THAT(RowsOf("SELECT COUNT() AS n FROM devices GROUP BY status"),
              ElementsAre(R"({"n":5})", R"({"n":1})"));
  EXPECT_THAT(
      RowsOf("SELECT STATUS FROM devices GROUP BY devices.status"),
      ElementsAre(R"({"status":"disabled"})", R"({"status":"enabled"})"));
}

std::string GroupRow(absl::string_view device) {
  return absl::StrCat(R"({"deviceId": ")", device, R"("})");
}

TEST(Groups, NumberIsBounded) {
  const auto statement =
      Statement::Parse("SELECT COUNT() FROM devices GROUP BY deviceId");
  ASSERT_TRUE(statement.ok());
  Aggregator aggregator(*statement);
  for (size_t i = 0; i < kQueryGroupsMax; ++i) {
    ASSERT_EQ(aggregator.Add(Row(GroupRow(absl::StrCat("d", i)))),
              absl::OkStatus());
  }
  // A group that is there already is no new one.
  EXPECT_EQ(aggregator.Add(Row(GroupRow("d0"))), absl::OkStatus());
  EXPECT_THAT(aggregator.Rows(), SizeIs(kQueryGroupsMax));
  const absl::Status status = aggregator.Add(Row(GroupRow("new")));
  EXPECT_EQ(ErrorCodeOf(status), ErrorCode::kArgumentInvalid);
  EXPECT_THAT(std::string(status.message()), HasSubstr("65536 groups"));

  Aggregator other(*statement);
  ASSERT_EQ(other.Add(Row(GroupRow("other"))), absl::OkStatus());
  EXPECT_EQ(ErrorCodeOf(other.Merge(aggregator)), ErrorCode::kArgumentInvalid);
}

TEST(Groups, ValuesInTheirColumnsAreBounded) {
  std::string text = "SELECT COUNT()";
  for (int i = 1; i < 512; ++i) absl::StrAppend(&text, ",COUNT()");
  const auto statement =
      Statement::Parse(text + " FROM devices GROUP BY deviceId");
  ASSERT_TRUE(statement.ok());
  Aggregator aggregator(*statement);
  for (size_t i = 0; i < kQueryGroupCellsMax / 512; ++i) {
    ASSERT_EQ(aggregator.Add(Row(GroupRow(absl::StrCat("d", i)))),
              absl::OkStatus());
  }
  EXPECT_EQ(ErrorCodeOf(aggregator.Add(Row(GroupRow("new")))),
            ErrorCode::kArgumentInvalid);
}

TEST(Groups, BytesAreBounded) {
  const auto statement =
      Statement::Parse("SELECT COUNT() FROM devices GROUP BY deviceId");
  ASSERT_TRUE(statement.ok());
  Aggregator aggregator(*statement);
  const std::string big(kQueryGroupBytesMax / 4, 'x');
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(aggregator.Add(Row(GroupRow(absl::StrCat(i, big)))),
              absl::OkStatus());
  }
  EXPECT_EQ(ErrorCodeOf(aggregator.Add(Row(GroupRow(absl::StrCat(3, big))))),
            ErrorCode::kArgumentInvalid);
}

// However rows are ordered and dealt to aggregators, the answer is the same
// text, though doubles are added whose sum depends on the order.
TEST(Aggregates, DoNotDependOnOrderOrShards) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  std::vector<JsonDocument> documents;
  for (int i = 0; i < 500; ++i) {
    const double values[] = {1e16, -1e16, 0.1, 1e-9, 3, 1e300, -1e300};
    documents.push_back(Row(absl::StrCat(
        R"({"tags": {"g": )", random() % 3, R"(, "v": )",
        values[random() % 7] * static_cast<double>(random() % 100), "}}")));
  }
  const auto statement = Statement::Parse(
      "SELECT tags.g, COUNT(), SUM(tags.v), AVG(tags.v), MIN(tags.v), "
      "MAX(tags.v) FROM devices GROUP BY tags.g");
  ASSERT_TRUE(statement.ok());
  const std::vector<std::string> expected = RowsOf(*statement, documents);
  for (int round = 0; round < 20; ++round) {
    std::shuffle(documents.begin(), documents.end(), random);
    std::vector<Aggregator> shards(1 + random() % 7, Aggregator(*statement));
    for (const JsonDocument& document : documents) {
      ASSERT_EQ(shards[random() % shards.size()].Add(document),
                absl::OkStatus());
    }
    Aggregator total(*statement);
    for (const Aggregator& shard : shards) {
      ASSERT_EQ(total.Merge(shard), absl::OkStatus());
    }
    EXPECT_EQ(total.Rows(), expected);
  }
}

}  // namespace
}  // namespace muster
