// R5, POST /devices/query: contract 4.5, 4.8 and 5.12; wire-facts 5.
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "engine/model/json.h"
#include "gtest/gtest.h"
#include "tests/rest_hub.h"
#include "transport/auth/access.h"
#include "transport/auth/sas_token.h"
#include "transport/query_budget.h"

namespace muster {
namespace {

std::string Said(const RestAnswer& answer) {
  return absl::StrCat(answer.status, " ", answer.error());
}

std::string Body(absl::string_view statement) {
  std::string body = R"({"query":)";
  AppendJsonString(statement, &body);
  return body + "}";
}

RestAnswer Ask(RestHub& hub, absl::string_view statement,
               HttpHeaders headers = {}, absl::string_view parameters = "") {
  return hub.Send("POST", absl::StrCat("/devices/query", parameters),
                  Body(statement), std::move(headers));
}

// "d1 d2": of the rows, the member.
std::string Column(const RestAnswer& answer,
                   absl::string_view member = "deviceId") {
  const Json document = answer.Document();
  EXPECT_TRUE(document.view().is_array()) << answer.body;
  std::vector<std::string> values;
  for (const JsonView row : document.view().elements()) {
    const JsonView value = row.Find(member);
    values.push_back(value.is_string()      ? std::string(value.string_value())
                     : value.is_undefined() ? "-"
                                            : JsonText(value));
  }
  return absl::StrJoin(values, " ");
}

// All pages of so many rows; the members of each page, with "|" between.
std::string Pages(RestHub& hub, absl::string_view statement, int page_size,
                  absl::string_view member = "deviceId") {
  std::vector<std::string> pages;
  HttpHeaders headers = {{"x-ms-max-item-count", absl::StrCat(page_size)}};
  for (int i = 0; i < 200; ++i) {
    const RestAnswer page = Ask(hub, statement, headers);
    EXPECT_EQ(Said(page), "200 ") << page.body;
    EXPECT_NE(page.Header("x-ms-item-type"), "");
    pages.push_back(Column(page, member));
    const std::string continuation = page.Header("x-ms-continuation");
    if (continuation.empty()) return absl::StrJoin(pages, "|");
    EXPECT_LE(continuation.size(), 2048u);
    for (const char c : continuation) EXPECT_TRUE(c > ' ' && c < 0x7F);
    headers = {{"x-ms-max-item-count", absl::StrCat(page_size)},
               {"x-ms-continuation", continuation}};
  }
  ADD_FAILURE() << "the pages do not end";
  return "";
}

// Six devices, of which three are in the US.
class HubQueryTest : public testing::Test {
 protected:
  HubQueryTest() {
    struct {
      const char* region;
      const char* status;
      int battery;
    } const devices[] = {{"US", "Success", 10}, {"EU", "Pending", 20},
                         {"US", "Success", 30}, {"EU", "Error", 40},
                         {"US", "Success", 50}, {"EU", "Pending", 60}};
    int i = 0;
    for (const auto& d : devices) {
      hub_.AddDevice(
          absl::StrCat("d", ++i), true,
          absl::StrCat(R"("tags":{"location":{"region":")", d.region,
                       R"("}},"properties":{"reported":{"telemetryConfig":)",
                       R"({"status":")", d.status, R"("},"batteryLevel":)",
                       d.battery, "}}"));
    }
  }

  RestHub hub_;
};

// 5.12, row by row.
TEST_F(HubQueryTest, Statements) {
  RestAnswer answer = Ask(hub_, "SELECT * FROM devices");
  EXPECT_EQ(Said(answer), "200 ");
  EXPECT_EQ(answer.Header("Content-Type"), "application/json; charset=utf-8");
  EXPECT_EQ(answer.Header("x-ms-item-type"), "Twin");
  EXPECT_EQ(answer.Header("x-ms-continuation"), "");
  EXPECT_EQ(Column(answer), "d1 d2 d3 d4 d5 d6");
  {
    // Whole twins.
    const Json document = answer.Document();
    const JsonView twin = document.view().At(0);
    EXPECT_EQ(twin.Find("status").string_value(), "enabled");
    EXPECT_EQ(
        twin.Find("properties").Find("desired").Find("$version").int_value(),
        1);
  }

  answer = Ask(hub_,
               "SELECT TOP 5 * FROM devices WHERE tags.location.region = 'US'");
  EXPECT_EQ(answer.Header("x-ms-item-type"), "Twin");
  EXPECT_EQ(Column(answer), "d1 d3 d5");
  EXPECT_EQ(Column(Ask(hub_, "SELECT TOP 2 * FROM devices")), "d1 d2");

  answer = Ask(hub_, "SELECT COUNT() AS total FROM devices");
  EXPECT_EQ(answer.Header("x-ms-item-type"), "Raw");
  EXPECT_EQ(answer.body, R"([{"total":6}])");

  answer = Ask(hub_,
               "SELECT deviceId, tags.location.region FROM devices WHERE "
               "status = 'enabled' AND deviceId = 'd1'");
  EXPECT_EQ(answer.Header("x-ms-item-type"), "Raw");
  EXPECT_EQ(answer.body, R"([{"deviceId":"d1","region":"US"}])");

  answer = Ask(hub_,
               "SELECT properties.reported.telemetryConfig.status AS status, "
               "COUNT() AS numberOfDevices FROM devices GROUP BY "
               "properties.reported.telemetryConfig.status");
  EXPECT_EQ(answer.Header("x-ms-item-type"), "Raw");
  EXPECT_EQ(answer.body, R"([{"status":"Error","numberOfDevices":1},)"
                         R"({"status":"Pending","numberOfDevices":2},)"
                         R"({"status":"Success","numberOfDevices":3}])");

  answer = Ask(hub_,
               "SELECT AVG(properties.reported.batteryLevel) AS a, "
               "MIN(properties.reported.batteryLevel) AS lo FROM devices");
  EXPECT_EQ(answer.Header("x-ms-item-type"), "Raw");
  EXPECT_EQ(answer.body, R"([{"a":35,"lo":10}])");

  // Nothing is found.
  answer = Ask(hub_, "SELECT * FROM devices WHERE deviceId = 'nobody'");
  EXPECT_EQ(Said(answer), "200 ");
  EXPECT_EQ(answer.body, "[]");
  EXPECT_EQ(answer.Header("x-ms-item-type"), "Twin");
}

TEST_F(HubQueryTest, RecordsOfJobs) {
  hub_.AddDevice("d7", /*connected=*/false);
  hub_.devices().SetHandler("lock", [](const LoopbackCall&) {
    LoopbackReply reply;
    reply.payload = R"({"locked":true})";
    return reply;
  });
  ASSERT_EQ(hub_.Send("PUT", "/jobs/v2/lock-1",
                      R"({"type":"scheduleDeviceMethod",)"
                      R"("cloudToDeviceMethod":{"methodName":"lock"},)"
                      R"("queryCondition":"deviceId IN ['d1','d7']",)"
                      R"("maxExecutionTimeInSeconds":10})")
                .status,
            200);
  ASSERT_EQ(hub_.Send("PUT", "/jobs/v2/update-1",
                      R"({"type":"scheduleUpdateTwin","updateTwin":{},)"
                      R"("queryCondition":"deviceId = 'd1'"})")
                .status,
            200);
  hub_.Finish("lock-1");
  hub_.Finish("update-1");

  RestAnswer answer = Ask(
      hub_, "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'lock-1'");
  EXPECT_EQ(Said(answer), "200 ");
  EXPECT_EQ(answer.Header("x-ms-item-type"), "DeviceJob");
  EXPECT_EQ(Column(answer), "d1 d7");
  EXPECT_EQ(Column(answer, "status"), "completed failed");
  EXPECT_EQ(Column(answer, "jobType"),
            "scheduleDeviceMethod scheduleDeviceMethod");
  EXPECT_EQ(Column(answer, "type"), "- -");
  EXPECT_EQ(
      Column(answer, "outcome"),
      R"({"deviceMethodResponse":{"payload":{"locked":true},"status":200}} -)");
  EXPECT_EQ(Column(answer, "error"),
            R"(- {"code":"DeviceNotOnline","description":)"
            R"("Timed out waiting for device to connect."})");

  answer = Ask(hub_,
               "select * from devices.jobs where devices.jobs.deviceId = 'd1'");
  EXPECT_EQ(Column(answer, "jobId"), "lock-1 update-1");
  EXPECT_EQ(Column(Ask(hub_,
                       "SELECT * FROM devices.jobs WHERE "
                       "devices.jobs.jobType = 'scheduleUpdateTwin'"),
                   "outcome"),
            R"({"deviceMethodResponse":null})");
  EXPECT_EQ(Column(Ask(hub_,
                       "SELECT * FROM devices.jobs WHERE "
                       "devices.jobs.status = 'failed'")),
            "d7");
  EXPECT_EQ(Ask(hub_,
                "SELECT * FROM devices.jobs WHERE "
                "devices.jobs.status = 'cancelled'")
                .body,
            "[]");
  EXPECT_EQ(Pages(hub_, "SELECT * FROM devices.jobs", 1, "jobId"),
            "lock-1|update-1|lock-1");
}

TEST_F(HubQueryTest, BodiesAndStatementsThatAreRefused) {
  // Of so many characters; each takes two bytes.
  const auto long_statement = [](size_t length) {
    const std::string frame = "SELECT * FROM devices WHERE tags.a = ''";
    std::string text = "SELECT * FROM devices WHERE tags.a = '";
    for (size_t i = frame.size(); i < length; ++i) text += "\xC3\xB6";
    return Body(text + "'");
  };
  struct {
    std::string body;
    const char* outcome;
    const char* says = "";
  } const rows[] = {
      {"", "400 IotHubFormatError"},
      {"SELECT * FROM devices", "400 IotHubFormatError"},
      {"[]", "400 IotHubFormatError", "object"},
      {"\"SELECT * FROM devices\"", "400 IotHubFormatError", "object"},
      {R"({"query":"SELECT * FROM devices","query":""})",
       "400 IotHubFormatError", "query"},
      {"{\"query\":\"\xFF\"}", "400 IotHubFormatError"},
      {"{}", "400 ArgumentNull", "query"},
      {R"({"query":null})", "400 ArgumentNull", "query"},
      {R"({"Query":"SELECT * FROM devices"})", "400 ArgumentNull", "query"},
      {R"({"query":7})", "400 ArgumentInvalid", "query"},
      {R"({"query":["SELECT * FROM devices"]})", "400 ArgumentInvalid",
       "query"},
      {R"({"query":""})", "400 ArgumentInvalid"},
      {Body("SELEC * FROM devices"), "400 ArgumentInvalid", "1:1"},
      {Body("SELECT * FROM devices WHERE"), "400 ArgumentInvalid"},
      {Body("SELECT *\nFROM devices WHERE x = ="), "400 ArgumentInvalid", "2:"},
      {Body("SELECT * FROM enrollments"), "400 ArgumentInvalid"},
      {Body("SELECT * FROM enrollmentGroups"), "400 ArgumentInvalid"},
      {Body("SELECT * FROM devices.modules"), "400 ArgumentInvalid"},
      {Body("SELECT * FROM devices ORDER BY deviceId"), "400 ArgumentInvalid"},
      {Body("SELECT * FROM devices; SELECT * FROM devices"),
       "400 ArgumentInvalid"},
      {Body("SELECT deviceId, COUNT() FROM devices"), "400 ArgumentInvalid"},
      {Body("SELECT devices.jobs.status FROM devices.jobs"),
       "400 ArgumentInvalid"},
      {Body("SELECT COUNT() AS n FROM devices.jobs"), "400 ArgumentInvalid"},
      {Body("SELECT * FROM devices.jobs WHERE tags.a = 1"),
       "400 ArgumentInvalid"},
      {long_statement(8192), "200 "},
      {long_statement(8193), "400 ArgumentInvalid", "8192"},
      {R"({"query":"SELECT * FROM devices","unknown":1})", "200 "},
  };
  for (const auto& row : rows) {
    const RestAnswer answer = hub_.Send("POST", "/devices/query", row.body,
                                        {{"Content-Length", "1"}});
    EXPECT_EQ(Said(answer), row.outcome)
        << row.body.substr(0, 100) << answer.body;
    if (answer.status == 200) continue;
    EXPECT_TRUE(absl::StrContains(answer.message(), row.says)) << answer.body;
  }
}

TEST_F(HubQueryTest, PagesEndWithoutAContinuation) {
  EXPECT_EQ(Pages(hub_, "SELECT * FROM devices", 4), "d1 d2 d3 d4|d5 d6");
  // The last page is full.
  EXPECT_EQ(Pages(hub_, "SELECT * FROM devices", 3), "d1 d2 d3|d4 d5 d6");
  EXPECT_EQ(Pages(hub_, "SELECT * FROM devices", 6), "d1 d2 d3 d4 d5 d6");
  EXPECT_EQ(Pages(hub_, "SELECT * FROM devices", 1), "d1|d2|d3|d4|d5|d6");
  EXPECT_EQ(Pages(hub_, "SELECT deviceId FROM devices", 4),
            "d1 d2 d3 d4|d5 d6");
  // TOP is for all pages together.
  EXPECT_EQ(Pages(hub_, "SELECT TOP 5 * FROM devices", 2), "d1 d2|d3 d4|d5");
  EXPECT_EQ(Pages(hub_, "SELECT TOP 4 * FROM devices", 2), "d1 d2|d3 d4");
  // Groups.
  EXPECT_EQ(Pages(hub_,
                  "SELECT tags.location.region AS r, COUNT() AS n FROM "
                  "devices GROUP BY tags.location.region",
                  1, "r"),
            "EU|US");
}

TEST_F(HubQueryTest, SizesAndPlacesInHeadersAndParameters) {
  const std::string all = "SELECT * FROM devices";
  EXPECT_EQ(Column(Ask(hub_, all, {}, "?pageSize=2")), "d1 d2");
  EXPECT_EQ(
      Column(Ask(hub_, all, {{"X-Ms-Max-Item-Count", "1"}}, "?pageSize=2")),
      "d1");
  EXPECT_EQ(Column(Ask(hub_, all, {{"x-ms-max-item-count", "0"}})), "d1");
  EXPECT_EQ(Column(Ask(hub_, all, {{"x-ms-max-item-count", "many"}})),
            "d1 d2 d3 d4 d5 d6");
  const std::string after_2 =
      Ask(hub_, all, {}, "?pageSize=2").Header("x-ms-continuation");
  const std::string after_3 =
      Ask(hub_, all, {}, "?pageSize=3").Header("x-ms-continuation");
  const std::string parameter =
      absl::StrCat("?pageSize=1&continuationToken=", after_2);
  EXPECT_EQ(Column(Ask(hub_, all, {}, parameter)), "d3");
  EXPECT_EQ(Column(Ask(hub_, all, {{"x-ms-continuation", after_3}}, parameter)),
            "d4");
  // An empty one is none: page one, as clients mean it.
  EXPECT_EQ(Column(Ask(hub_, all, {{"x-ms-continuation", ""}}, "?pageSize=1")),
            "d1");
}

TEST_F(HubQueryTest, AHundredRowsAtMost) {
  for (int i = 0; i < 100; ++i) hub_.AddTwin(absl::StrCat("x", i));
  for (const char* size : {"101", "1000", "", "x", "100"}) {
    const RestAnswer page =
        Ask(hub_, "SELECT * FROM devices", {{"x-ms-max-item-count", size}});
    const Json document = page.Document();
    int rows = 0;
    for ([[maybe_unused]] const JsonView row : document.view().elements()) {
      ++rows;
    }
    EXPECT_EQ(rows, 100) << size;
    EXPECT_NE(page.Header("x-ms-continuation"), "") << size;
  }
}

// Twins that come and go between two pages.
TEST_F(HubQueryTest, APlaceStaysWhereItIs) {
  const std::string all = "SELECT * FROM devices";
  const std::string place =
      Ask(hub_, all, {}, "?pageSize=2").Header("x-ms-continuation");
  const HttpHeaders from = {{"x-ms-max-item-count", "2"},
                            {"x-ms-continuation", place}};
  EXPECT_EQ(Column(Ask(hub_, all, from)), "d3 d4");
  EXPECT_EQ(Column(Ask(hub_, all, from)), "d3 d4");  // As often as one likes.
  hub_.AddTwin("d0");
  hub_.AddTwin("d21");
  ASSERT_TRUE(hub_.engine().EraseTwin("d2").ok());  // The last row given.
  ASSERT_TRUE(hub_.engine().EraseTwin("d3").ok());
  EXPECT_EQ(Column(Ask(hub_, all, from)), "d21 d4");
}

TEST_F(HubQueryTest, TokensAreShortAndPrintableWhateverTheKey) {
  RestHub hub;
  std::vector<std::string> ids;
  for (const char last : {'a', 'b', 'c'}) {
    ids.push_back(std::string(127, 'E') + last);
    hub.AddTwin(ids.back());
  }
  hub.AddTwin("!$%'()*+,-.:=@_#?");
  EXPECT_EQ(Pages(hub, "SELECT * FROM devices", 1),
            absl::StrCat("!$%'()*+,-.:=@_#?|", absl::StrJoin(ids, "|")));
}

TEST_F(HubQueryTest, ContinuationsThatAreRefused) {
  const std::string all = "SELECT * FROM devices";
  const std::string token =
      Ask(hub_, all, {}, "?pageSize=2").Header("x-ms-continuation");
  ASSERT_NE(token, "");
  std::string damaged = token;
  damaged[0] = damaged[0] == 'A' ? 'B' : 'A';
  const std::string of_jobs = [&] {
    for (const char* id : {"a", "b"}) {
      EXPECT_EQ(hub_.Send("PUT", absl::StrCat("/jobs/v2/", id),
                          R"({"type":"scheduleUpdateTwin","updateTwin":{},)"
                          R"("queryCondition":"deviceId = 'd1'"})")
                    .status,
                200);
    }
    return hub_.Send("GET", "/jobs/v2/query?pageSize=1")
        .Header("x-ms-continuation");
  }();
  ASSERT_NE(of_jobs, "");
  for (const std::string& bad :
       {damaged, of_jobs, token.substr(1), token + "A", std::string("null"),
        std::string(3000, 'A'), std::string("\xC3\xB6")}) {
    const RestAnswer answer = Ask(hub_, all, {{"x-ms-continuation", bad}});
    EXPECT_EQ(Said(answer), "400 ArgumentInvalid") << bad;
  }
  // Of another statement, of another collection.
  for (const char* other :
       {"SELECT * FROM devices ", "SELECT deviceId FROM devices",
        "SELECT * FROM devices.jobs", "SELECT COUNT() FROM devices"}) {
    EXPECT_EQ(Said(Ask(hub_, other, {{"x-ms-continuation", token}})),
              "400 ArgumentInvalid")
        << other;
  }
}

// As over gRPC: twins x weight.
TEST(HubQueryBudgetTest, WhatCostsTooMuch) {
  QueryBudget budget(20, 30, 1);
  HubServiceOptions options;
  options.budget = &budget;
  RestHub hub({}, options);
  for (int i = 0; i < 10; ++i) hub.AddTwin(absl::StrCat("d", i));
  const std::string good =
      "SELECT * FROM devices WHERE is_defined(tags.a) OR NOT tags.b = 2";
  EXPECT_EQ(Said(Ask(hub, good)), "200 ");
  const RestAnswer refused = Ask(hub, good + " OR tags.c = 3");
  EXPECT_EQ(Said(refused), "403 IotHubQuotaExceeded");
  EXPECT_EQ(refused.message(),
            "the query's condition has the weight 3, and 10 twins make that "
            "more than the 20 that one query may cost, ask for less at a time");
  // Groups are a thousand.
  EXPECT_EQ(Said(Ask(hub, "SELECT SUM(tags.a) FROM devices")),
            "403 IotHubQuotaExceeded");
  // What is wrong with it is said first.
  EXPECT_EQ(Said(Ask(hub, good + " OR")), "400 ArgumentInvalid");

  // Nor beside what another surface has taken.
  {
    const auto other = budget.Take(10, 2);
    ASSERT_TRUE(other.ok());
    EXPECT_EQ(Said(Ask(hub, good)), "429 ThrottlingException");
    EXPECT_EQ(Said(Ask(hub, "SELECT * FROM devices")), "200 ");
  }
  // Shares have been given back: of those that failed in the engine, too.
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Said(Ask(hub, good, {{"x-ms-continuation", "x"}})),
              "400 ArgumentInvalid");
  }
  EXPECT_TRUE(budget.Take(10, 2).ok());
}

// 4.8: which permission depends on the collection.
TEST(HubQueryAccessTest, TheCollectionDecides) {
  constexpr char kKey[] = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
  std::string policies;
  for (const char* role :
       {"RegistryRead", "RegistryWrite", "ServiceConnect", "DeviceConnect"}) {
    absl::StrAppend(&policies, policies.empty() ? "" : ",", R"({"name":")",
                    role, R"(","roles":[")", role, R"("],"primaryKey":")", kKey,
                    R"("})");
  }
  const auto access =
      Access::Parse(absl::StrCat(R"({"policies":[)", policies, "]}"),
                    {.hub_name = "hub.example.net"});
  ASSERT_TRUE(access.ok()) << access.status();
  HubServiceOptions options;
  options.access = *access;
  RestHub hub({}, options);
  const SasKey key = *SasKey::FromBase64(kKey);

  constexpr char kDenied[] = "401 IotHubUnauthorizedAccess";
  constexpr char kInvalid[] = "400 ArgumentInvalid";
  struct {
    const char* role;
    const char* devices;
    const char* jobs;
    const char* broken;  // A statement on no collection.
  } const rows[] = {
      {"RegistryRead", kDenied, "200 ", kInvalid},
      {"RegistryWrite", kDenied, "200 ", kInvalid},  // Implies RegistryRead.
      {"ServiceConnect", "200 ", "200 ", kInvalid},
      {"DeviceConnect", kDenied, kDenied, kDenied},
  };
  for (const auto& row : rows) {
    const HttpHeaders headers = {
        {"Authorization", key.MakeToken("hub.example.net", row.role,
                                        hub.time.Now() + absl::Hours(1))}};
    EXPECT_EQ(Said(Ask(hub, "SELECT * FROM devices", headers)), row.devices)
        << row.role;
    EXPECT_EQ(Said(Ask(hub, "SELECT COUNT() FROM devices", headers)),
              row.devices)
        << row.role;
    EXPECT_EQ(Said(Ask(hub, "SELECT * FROM devices.jobs", headers)), row.jobs)
        << row.role;
    EXPECT_EQ(Said(Ask(hub, "SELECT", headers)), row.broken) << row.role;
  }
}

}  // namespace
}  // namespace muster
