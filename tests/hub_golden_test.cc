// Requests and answers as they stand on the wire: those that the contract shows
// (1.12, 3.5, 4.6, 10), those of the two articles that it is made from, and
// those that clients are known to send (wire-facts 3 to 8).  Byte by byte where
// bytes are shown, white space between tokens aside; otherwise whole documents.
//
// Identities: hub_devices_test.cc.
#include <regex.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/time.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/instant.h"
#include "engine/model/json.h"
#include "gtest/gtest.h"
#include "tests/sdk_hub.h"

namespace muster {
namespace {

void AdvanceTo(SdkHub& hub, absl::string_view instant) {
  hub.time.Advance(*ParseInstant(instant) - hub.time.Now());
}

// Not <regex>, of which GCC 12 warns where its sanitizers are on.
std::string Replace(std::string text, const char* pattern,
                    absl::string_view by) {
  regex_t compiled;
  MUSTER_CHECK(regcomp(&compiled, pattern, REG_EXTENDED) == 0);
  regmatch_t match;
  for (size_t at = 0;
       regexec(&compiled, text.c_str() + at, 1, &match, 0) == 0;) {
    at += static_cast<size_t>(match.rm_so);
    text.replace(at, static_cast<size_t>(match.rm_eo - match.rm_so),
                 std::string(by));
    at += by.size();
  }
  regfree(&compiled);
  return text;
}

// An envelope as the contract shows it, whatever its tracking id is.
std::string WithoutTrackingId(absl::string_view body) {
  return Replace(std::string(body), "Tracking ID:[0-9a-f]{32}-G:0",
                 "Tracking ID:-");
}

// With instants replaced by "T": where the contract's are those of a clock that
// goes on while the hub works.
std::string WithoutTimes(absl::string_view body) {
  return Replace(std::string(body), "\"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z\"",
                 "\"T\"");
}

// ------------------------------------------------- contract 1.12 and 3.5

// Three devices on floor 3 of building 43: two answer, one stays offline.
void SetUpFloor(SdkHub& hub) {
  constexpr char kTwin[] =
      R"({"tags":{"location":{"building":"43","floor":3}}})";
  hub.Add("thermo-042", false, kTwin);
  hub.Add("thermo-043", false, kTwin);
  hub.Add("thermo-050", false, kTwin);
  hub.devices().SetHandler("lockDoor", [](const LoopbackCall& call) {
    EXPECT_EQ(Compact(call.payload), R"({"mode":"night"})");
    LoopbackReply reply;
    reply.payload = R"({ "locked": true })";
    // Called 10.4 ms after the start.
    reply.delay = absl::Seconds(1.2) - absl::Microseconds(10'400);
    return reply;
  });
}

TEST(Contract, MethodJob) {
  SdkHub hub;
  SetUpFloor(hub);
  AdvanceTo(hub, "2031-03-01T10:12:44.1203Z");
  const RestAnswer put = hub.PutJob("lock-doors-7", R"({
  "jobId": "lock-doors-7",
  "type": "scheduleDeviceMethod",
  "cloudToDeviceMethod": {
    "methodName": "lockDoor",
    "payload": { "mode": "night" },
    "responseTimeoutInSeconds": 15,
    "connectTimeoutInSeconds": 0
  },
  "queryCondition": "tags.location.building = '43' AND tags.location.floor = 3",
  "startTime": "2031-03-01T22:00:00Z",
  "maxExecutionTimeInSeconds": 300
})");
  EXPECT_EQ(put.status, 200);
  EXPECT_EQ(put.body, Compact(R"(
{ "jobId": "lock-doors-7", "type": "scheduleDeviceMethod", "status": "queued" }
)"));

  AdvanceTo(hub, "2031-03-01T22:00:00Z");
  hub.time.RunReady();
  hub.time.Advance(absl::Microseconds(10'400));
  hub.Connect("thermo-042");
  hub.Connect("thermo-043");
  AdvanceTo(hub, "2031-03-01T22:05:00Z");
  // The payload keeps the text that it came with.
  EXPECT_EQ(Compact(hub.GetJob("lock-doors-7").body), Compact(R"(
{
  "jobId": "lock-doors-7",
  "type": "scheduleDeviceMethod",
  "status": "completed",
  "queryCondition": "tags.location.building = '43' AND tags.location.floor = 3",
  "createdTime": "2031-03-01T10:12:44.1203000Z",
  "startTime": "2031-03-01T22:00:00.0000000Z",
  "endTime": "2031-03-01T22:05:00.0000000Z",
  "maxExecutionTimeInSeconds": 300,
  "cloudToDeviceMethod": { "methodName": "lockDoor",
    "payload": { "mode": "night" },
    "responseTimeoutInSeconds": 15, "connectTimeoutInSeconds": 0 },
  "deviceJobStatistics": { "deviceCount": 3, "failedCount": 1,
    "succeededCount": 2, "runningCount": 0, "pendingCount": 0 }
})"));

  const std::string answered = Compact(R"(
{ "deviceId": "thermo-042", "jobId": "lock-doors-7",
  "jobType": "scheduleDeviceMethod", "status": "completed",
  "startTimeUtc": "2031-03-01T22:00:00.0104000Z",
  "endTimeUtc": "2031-03-01T22:00:01.2000000Z",
  "createdDateTimeUtc": "2031-03-01T22:00:00.0000000Z",
  "lastUpdatedDateTimeUtc": "2031-03-01T22:00:01.2000000Z",
  "outcome": { "deviceMethodResponse":
    { "status": 200, "payload": { "locked": true } } } })");
  const std::string offline = Compact(R"(
{ "deviceId": "thermo-050", "jobId": "lock-doors-7",
  "jobType": "scheduleDeviceMethod", "status": "failed",
  "endTimeUtc": "2031-03-01T22:05:00.0000000Z",
  "createdDateTimeUtc": "2031-03-01T22:00:00.0000000Z",
  "lastUpdatedDateTimeUtc": "2031-03-01T22:05:00.0000000Z",
  "error": { "code": "DeviceNotOnline",
    "description": "Timed out waiting for device to connect." } })");
  const RestAnswer rows = hub.QueryPage(
      "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'lock-doors-7'");
  EXPECT_EQ(Compact(rows.body),
            absl::StrCat("[", answered, ",",
                         absl::StrReplaceAll(answered, {{"042", "043"}}), ",",
                         offline, "]"));
  EXPECT_EQ(rows.Header("x-ms-item-type"), "DeviceJob");
  EXPECT_EQ(rows.Header("x-ms-continuation"), "");
}

TEST(Contract, TwinJob) {
  SdkHub hub;
  hub.Add("thermo-042", true,
          R"({"properties":{"desired":{"legacyMode":true}}})");
  hub.Add("thermo-043");
  AdvanceTo(hub, "2031-03-01T09:00:00Z");
  const RestAnswer put = hub.PutJob("set-floor-7", R"({
  "type": "scheduleUpdateTwin",
  "updateTwin": {
    "etag": "*",
    "tags": { "campaign": "spring" },
    "properties": {
      "desired": { "building": "43", "floor": 3, "legacyMode": null } }
  },
  "queryCondition": "deviceId IN ['thermo-042','thermo-043']"
})");
  EXPECT_EQ(put.status, 200);
  EXPECT_EQ(put.body, Compact(R"(
{ "jobId": "set-floor-7", "type": "scheduleUpdateTwin", "status": "queued" }
)"));
  hub.FinishJob("set-floor-7");
  EXPECT_EQ(hub.GetJob("set-floor-7").body, Compact(R"(
{
  "jobId": "set-floor-7",
  "type": "scheduleUpdateTwin",
  "status": "completed",
  "queryCondition": "deviceId IN ['thermo-042','thermo-043']",
  "createdTime": "2031-03-01T09:00:00.0000000Z",
  "startTime": "2031-03-01T09:00:00.0000000Z",
  "endTime": "2031-03-01T09:00:00.0000000Z",
  "maxExecutionTimeInSeconds": 3600,
  "updateTwin": {
    "deviceId": null,
    "etag": "*",
    "tags": { "campaign": "spring" },
    "properties": {
      "desired": { "building": "43", "floor": 3, "legacyMode": null } }
  },
  "deviceJobStatistics": { "deviceCount": 2, "failedCount": 0,
    "succeededCount": 2, "runningCount": 0, "pendingCount": 0 }
})"));
  // Here a patch takes no time.
  const std::string record = WithoutTimes(Compact(R"(
{ "deviceId": "thermo-042", "jobId": "set-floor-7",
  "jobType": "scheduleUpdateTwin", "status": "completed",
  "startTimeUtc": "2031-03-01T09:00:00.0100000Z",
  "endTimeUtc": "2031-03-01T09:00:00.0200000Z",
  "createdDateTimeUtc": "2031-03-01T09:00:00.0000000Z",
  "lastUpdatedDateTimeUtc": "2031-03-01T09:00:00.0200000Z",
  "outcome": { "deviceMethodResponse": null } })"));
  EXPECT_EQ(WithoutTimes(hub.QueryPage("SELECT * FROM devices.jobs").body),
            absl::StrCat("[", record, ",",
                         absl::StrReplaceAll(record, {{"042", "043"}}), "]"));
}

// Contract 2.13, as GET shows it.
TEST(Contract, JobBeforeItRuns) {
  SdkHub hub;
  hub.Add("d");
  AdvanceTo(hub, "2031-03-01T09:00:00Z");
  hub.PutJob("later", SdkHub::MethodJob("later", "*",
                                        "\"2031-03-01T10:00:00.5+01:00\""));
  EXPECT_EQ(Text(hub.Job("later").view(), "startTime"),
            "2031-03-01T09:00:00.5000000Z");
  hub.PutJob("much-later",
             SdkHub::MethodJob("much-later", "*", "\"2050-01-01T00:00:00\""));
  hub.time.Advance(absl::Milliseconds(400));
  EXPECT_EQ(hub.GetJob("much-later").body, Compact(R"(
{
  "jobId": "much-later",
  "type": "scheduleDeviceMethod",
  "status": "scheduled",
  "queryCondition": "*",
  "createdTime": "2031-03-01T09:00:00.0000000Z",
  "startTime": "2050-01-01T00:00:00.0000000Z",
  "maxExecutionTimeInSeconds": 300,
  "cloudToDeviceMethod": { "methodName": "lockDoor", "payload": null,
    "responseTimeoutInSeconds": 15, "connectTimeoutInSeconds": 0 }
})"));
  EXPECT_EQ(hub.CancelJob("much-later").body, Compact(R"(
{
  "jobId": "much-later",
  "type": "scheduleDeviceMethod",
  "status": "cancelled",
  "queryCondition": "*",
  "createdTime": "2031-03-01T09:00:00.0000000Z",
  "startTime": "2050-01-01T00:00:00.0000000Z",
  "endTime": "2031-03-01T09:00:00.4000000Z",
  "maxExecutionTimeInSeconds": 300,
  "cloudToDeviceMethod": { "methodName": "lockDoor", "payload": null,
    "responseTimeoutInSeconds": 15, "connectTimeoutInSeconds": 0 }
})"));
}

// --------------------------------------------------------- contract 4.6

TEST(Envelope, JobNotFound) {
  SdkHub hub;
  AdvanceTo(hub, "2031-03-01T10:12:44Z");
  const RestAnswer answer = hub.GetJob("nightly-9");
  EXPECT_EQ(answer.status, 404);
  EXPECT_EQ(answer.Header("iothub-errorcode"), "JobNotFound");
  EXPECT_EQ(WithoutTrackingId(answer.body), Compact(WithoutTrackingId(R"(
{ "Message": "ErrorCode:JobNotFound;Job nightly-9 not found",
  "ExceptionMessage": "Tracking ID:5f0c9a7d21e84b6f9b0a1c2d3e4f5a6b-G:0-TimeStamp:03/01/2031 10:12:44" })")));
}

TEST(Envelope, NotToBeCancelled) {
  SdkHub hub;
  hub.Add("d", /*connected=*/false);
  AdvanceTo(hub, "2031-03-01T22:00:00Z");
  hub.PutJob("running", SdkHub::MethodJob("running", "*"));
  hub.time.Advance(absl::Seconds(5));
  const RestAnswer answer = hub.CancelJob("running");
  EXPECT_EQ(answer.status, 405);
  EXPECT_EQ(answer.Header("iothub-errorcode"),
            "OperationNotAllowedInCurrentState");
  EXPECT_EQ(WithoutTrackingId(answer.body), Compact(WithoutTrackingId(R"(
{ "Message": "ErrorCode:OperationNotAllowedInCurrentState;Job cannot be cancelled in 'Running' status.",
  "ExceptionMessage": "Tracking ID:0a1b2c3d4e5f60718293a4b5c6d7e8f9-G:0-TimeStamp:03/01/2031 22:00:05" })")));
}

TEST(Envelope, TooManyActiveJobs) {
  SdkHub hub({.profile = *FindProfile("s1")});
  hub.Add("d", /*connected=*/false);
  AdvanceTo(hub, "2031-03-01T22:00:06Z");
  hub.PutJob("one", SdkHub::MethodJob("one", "*"));
  const RestAnswer answer = hub.PutJob("two", SdkHub::MethodJob("two", "*"));
  EXPECT_EQ(answer.status, 429);
  EXPECT_EQ(answer.Header("iothub-errorcode"),
            "ThrottlingMaxActiveJobCountExceeded");
  EXPECT_EQ(WithoutTrackingId(answer.body), Compact(WithoutTrackingId(R"(
{ "Message": "ErrorCode:ThrottlingMaxActiveJobCountExceeded;Active job limit 1 reached",
  "ExceptionMessage": "Tracking ID:11112222333344445555666677778888-G:0-TimeStamp:03/01/2031 22:00:06" })")));
}

// The contract shows what newer hubs write; the engine writes form A.
TEST(Envelope, DeviceNotOnline) {
  SdkHub hub;
  hub.Add("d", /*connected=*/false);
  AdvanceTo(hub, "2031-03-01T22:00:07.1234567Z");
  const RestAnswer answer =
      hub.Call("POST", "/twins/d/methods?api-version=2021-04-12",
               R"({"methodName":"reboot","payload":null,)"
               R"("responseTimeoutInSeconds":30,"connectTimeoutInSeconds":0})");
  EXPECT_EQ(answer.status, 404);
  EXPECT_EQ(answer.Header("iothub-errorcode"), "DeviceNotOnline");
  EXPECT_EQ(WithoutTrackingId(answer.body), Compact(WithoutTrackingId(R"(
{ "Message": "ErrorCode:DeviceNotOnline;Timed out waiting for device to connect.",
  "ExceptionMessage": "Tracking ID:99990000aaaabbbbccccddddeeeeffff-G:0-TimeStamp:03/01/2031 22:00:07" })")));
}

// ------------------------------------- the article on jobs of 2019, literally

TEST(FirstArticle, MethodOnAllDevices) {
  SdkHub hub;
  hub.Add("test-device");
  const RestAnswer answer =
      hub.Call("PUT", "/jobs/v2/job01?api-version=2018-06-30", R"({
    "jobId": "job01",
    "type": "scheduleDeviceMethod",
    "cloudToDeviceMethod": {
        "methodName": "testMethod",
        "payload": {},
        "responseTimeoutInSeconds": 30
    },
    "queryCondition": "*", 
    "startTime": "2019-05-04T15:53:00.077Z",
    "maxExecutionTimeInSeconds": 20
})");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(
      answer.body,
      R"({"jobId":"job01","type":"scheduleDeviceMethod","status":"queued"})");
  EXPECT_EQ(answer.body.size(), 65u);  // Its Content-Length.
  EXPECT_EQ(answer.Header("Content-Type"), "application/json; charset=utf-8");
  EXPECT_EQ(Counts(hub.FinishJob("job01")), "1 / f0 s1 r0 p0");
  ASSERT_EQ(hub.devices().calls().size(), 1u);
  EXPECT_EQ(hub.devices().calls()[0].method, "testMethod");
  EXPECT_EQ(hub.devices().calls()[0].payload, "{}");
}

TEST(FirstArticle, TwinUpdate) {
  SdkHub hub;
  hub.Add("test-device");
  const RestAnswer answer =
      hub.Call("PUT", "/jobs/v2/job02?api-version=2018-06-30", R"({
    "jobId": "job02",
    "type": "scheduleUpdateTwin",
    "updateTwin": {
        "properties": {
            "desired": {
                "test1": "value1"
            }
        },
        "etag": "*"
    },
    "queryCondition": "deviceId = 'test-device'",
    "startTime": "2019-05-08T12:19:56.868Z",
    "maxExecutionTimeInSeconds": 20
})");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(
      answer.body,
      R"({"jobId":"job02","type":"scheduleUpdateTwin","status":"queued"})");
  EXPECT_EQ(answer.body.size(), 63u);
  EXPECT_EQ(Counts(hub.FinishJob("job02")), "1 / f0 s1 r0 p0");
  const Json twin = hub.ReadTwin("test-device");
  EXPECT_EQ(Text(twin.view().Find("properties").Find("desired"), "test1"),
            "value1");
}

TEST(FirstArticle, Conditions) {
  SdkHub hub;
  for (absl::string_view id : {"MyDevice1", "MyDevice2", "MyDevice3"}) {
    hub.Add(id);
  }
  const struct {
    absl::string_view condition;
    absl::string_view counts;
  } kCases[] = {
      {"deviceId = 'MyDevice1'", "1 / f0 s1 r0 p0"},
      {"deviceId IN ['MyDevice1','MyDevice2']", "2 / f0 s2 r0 p0"},
      {"deviceId IN ['MyDevice1']", "1 / f0 s1 r0 p0"},
      {"*", "3 / f0 s3 r0 p0"},
  };
  int number = 0;
  for (const auto& c : kCases) {
    const std::string id = absl::StrCat("job", ++number);
    ASSERT_EQ(hub.PutJob(id, SdkHub::TwinJob(id, c.condition,
                                             R"({"etag":"*","tags":{}})"))
                  .status,
              200);
    EXPECT_EQ(Counts(hub.FinishJob(id)), std::string(c.counts)) << c.condition;
  }
}

// "GET /jobs/v2/query?api-version=...[&jobType=<jobType>]
// [&jobStatus=<jobStatus>][&pageSize=<pageSize>]
// [&continuationToken=<continuationToken>]", in both articles.
TEST(FirstArticle, ListWithParameters) {
  SdkHub hub;
  hub.Add("d");
  for (absl::string_view id : {"a", "b", "c"}) {
    hub.PutJob(id, SdkHub::TwinJob(id, "*", R"({"tags":{}})"));
    hub.FinishJob(id);
    hub.time.Advance(absl::Seconds(1));
  }
  hub.PutJob("m", SdkHub::MethodJob("m", "*", hub.In(absl::Hours(1))));
  for (absl::string_view version : {"2018-06-30", "2016-09-30-preview"}) {
    const std::string list =
        absl::StrCat("/jobs/v2/query?api-version=", version);
    EXPECT_EQ(
        hub.Call("GET", list).body,
        absl::StrCat("[", hub.GetJob("m").body, ",", hub.GetJob("c").body, ",",
                     hub.GetJob("b").body, ",", hub.GetJob("a").body, "]"));
    const std::string filtered = absl::StrCat(
        list, "&jobType=scheduleUpdateTwin&jobStatus=completed&pageSize=2");
    const RestAnswer first = hub.Call("GET", filtered);
    EXPECT_EQ(first.body, absl::StrCat("[", hub.GetJob("c").body, ",",
                                       hub.GetJob("b").body, "]"));
    const std::string token = first.Header("x-ms-continuation");
    ASSERT_FALSE(token.empty());
    const RestAnswer second = hub.Call(
        "GET", absl::StrCat(filtered,
                            "&continuationToken=", EncodeUriComponent(token)));
    EXPECT_EQ(second.body, absl::StrCat("[", hub.GetJob("a").body, "]"));
    EXPECT_EQ(second.Header("x-ms-continuation"), "");
    EXPECT_EQ(hub.Call("GET", absl::StrCat(list, "&jobStatus=failed")).body,
              "[]");
    // The article's names of types are refused here as well.
    EXPECT_TRUE(IsError(
        hub.Call("GET", absl::StrCat(list, "&jobType=scheduledUpdateTwin")),
        ErrorCode::kArgumentInvalid));
  }
}

// ------------------------- the article of 2016: contract 1.2, 1.9, 11.1 (J7)

constexpr char kPreview[] = "?api-version=2016-09-30-preview";

TEST(SecondArticle, ItsTypesAreRefused) {
  SdkHub hub;
  hub.Add("d");
  for (absl::string_view type :
       {"scheduleDirectRequest", "scheduleDirectMethod", "scheduleTwinUpdate",
        "scheduledUpdateTwin", "scheduledDeviceMethod"}) {
    const RestAnswer answer = hub.Call(
        "PUT", absl::StrCat("/jobs/v2/job-1", kPreview),
        absl::StrCat(R"({"jobId":"job-1","type":")", type,
                     R"(","cloudToDeviceMethod":{"methodName":"reboot",)"
                     R"("payload":null,"timeoutInSeconds":30},)"
                     R"("updateTwin":{"tags":{}},"queryCondition":"*",)"
                     R"("maxExecutionTimeInSeconds":60})"));
    EXPECT_TRUE(IsError(answer, ErrorCode::kGenericBadRequest)) << type;
  }
  EXPECT_TRUE(IsError(hub.GetJob("job-1"), ErrorCode::kJobNotFound));
}

TEST(SecondArticle, ItsListOfDevicesIsNoCondition) {
  SdkHub hub;
  hub.Add("d");
  EXPECT_TRUE(
      IsError(hub.Call("PUT", absl::StrCat("/jobs/v2/job-1", kPreview),
                       R"({"jobId":"job-1","type":"scheduleUpdateTwin",)"
                       R"("updateTwin":{"tags":{}},"deviceIds":["d"]})"),
              ErrorCode::kArgumentNull));
  // Beside a condition it is one of the members that nobody knows.
  EXPECT_EQ(hub.Call("PUT", absl::StrCat("/jobs/v2/job-1", kPreview),
                     R"({"jobId":"job-1","type":"scheduleUpdateTwin",)"
                     R"("updateTwin":{"tags":{}},"queryCondition":"*",)"
                     R"("deviceIds":["nobody"]})")
                .status,
            200);
  EXPECT_EQ(Counts(hub.FinishJob("job-1")), "1 / f0 s1 r0 p0");
}

TEST(SecondArticle, ItsTimeoutIsIgnored) {
  SdkHub hub;
  EXPECT_EQ(hub.Call("PUT", absl::StrCat("/jobs/v2/job-1", kPreview),
                     R"({"jobId":"job-1","type":"scheduleDeviceMethod",)"
                     R"("cloudToDeviceMethod":{"methodName":"reboot",)"
                     R"("payload":null,"timeoutInSeconds":7},)"
                     R"("queryCondition":"*"})")
                .status,
            200);
  EXPECT_EQ(Shown(hub.Job("job-1").view().Find("cloudToDeviceMethod")),
            R"({"connectTimeoutInSeconds":0,"methodName":"reboot",)"
            R"("payload":null,"responseTimeoutInSeconds":30})");
}

TEST(SecondArticle, ItsPathOfADeviceIsNone) {
  SdkHub hub;
  hub.Add("d");
  const std::string target = absl::StrCat("/jobs/v2/d/methods/job-1", kPreview);
  const std::string body = SdkHub::MethodJob("job-1", "*");
  for (absl::string_view method : {"PUT", "POST"}) {
    EXPECT_TRUE(
        IsError(hub.Call(method, target, body), ErrorCode::kGenericNotFound));
  }
  EXPECT_TRUE(IsError(hub.Call("GET", target), ErrorCode::kGenericNotFound));
}

// As it writes bodies: names without quotes, texts in single ones, comments.
TEST(SecondArticle, ItsSpellingOfBodiesIsNoJson) {
  SdkHub hub;
  EXPECT_TRUE(
      IsError(hub.Call("PUT", absl::StrCat("/jobs/v2/job-1", kPreview),
                       "{ jobId: 'job-1', type: 'scheduleDirectRequest' }"),
              ErrorCode::kIotHubFormatError));
  EXPECT_TRUE(
      IsError(hub.Call("PUT", absl::StrCat("/jobs/v2/job-1", kPreview),
                       "{\"type\": \"scheduleUpdateTwin\", // comment\n"
                       "\"updateTwin\": {}, \"queryCondition\": \"*\"}"),
              ErrorCode::kIotHubFormatError));
}

TEST(SecondArticle, ItsWayToReadAJob) {
  SdkHub hub;
  hub.Add("d");
  hub.PutJob("job-1", SdkHub::TwinJob("job-1", "*", R"({"tags":{}})"));
  hub.FinishJob("job-1");
  EXPECT_EQ(hub.Call("GET", absl::StrCat("/jobs/v2/job-1", kPreview)).body,
            hub.GetJob("job-1").body);
}

// ------------------------------------------------------------ wire-facts 3

TEST(Wire, ApiVersions) {
  SdkHub hub;
  hub.Add("d");
  for (absl::string_view version :
       {"2016-09-30-preview", "2016-11-14", "2018-06-30", "2020-03-13",
        "2020-05-31-preview", "2020-09-30", "2021-04-12"}) {
    EXPECT_EQ(
        hub.Call("GET", absl::StrCat("/twins/d?api-version=", version)).status,
        200)
        << version;
  }
  for (absl::string_view query :
       {"?api-version=2015-01-01", "?api-version=", "?x=api-version",
        "?apiversion=1&api-version=latest"}) {
    const RestAnswer answer = hub.Call("GET", absl::StrCat("/twins/d", query));
    EXPECT_TRUE(IsError(answer, ErrorCode::kInvalidProtocolVersion)) << query;
  }
  // Not first on the line.
  EXPECT_EQ(hub.Call("GET", "/devices?top=5&api-version=2020-09-30").status,
            200);
}

// What the generated client sends besides.
TEST(Wire, HeadersOfTheGeneratedClient) {
  SdkHub hub;
  hub.Add("d");
  const RestAnswer answer =
      hub.Call("GET", "/twins/d?api-version=2020-09-30", std::nullopt,
               {{"accept", "*/*"},
                {"accept-encoding", "gzip,deflate"},
                {"accept-language", "en-US"}});
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.Header("Content-Encoding"), "");
}

// Names and HTTP statuses of the table, as far as a request can bring them up.
TEST(Wire, Errors) {
  SdkHub hub;
  hub.Add("d");
  hub.Add("off", /*connected=*/false);
  hub.PutJob("taken", SdkHub::TwinJob("taken", "*", R"({"tags":{}})"));
  hub.FinishJob("taken");
  const std::string update = SdkHub::TwinJob("j", "*", R"({"tags":{}})");
  const HttpHeaders any_etag = {{"If-Match", "\"*\""}};
  struct Case {
    absl::string_view method, target, body;
    int status;
    absl::string_view name;
    HttpHeaders headers;
  };
  const Case kCases[] = {
      {"PUT", "/jobs/v2/j", R"({"type":"x"})", 400, "GenericBadRequest"},
      {"PUT", "/jobs/v2/j", "{", 400, "IotHubFormatError"},
      {"PUT", "/jobs/v2/j", R"({"type":"scheduleUpdateTwin"})", 400,
       "ArgumentNull"},
      {"PUT", "/jobs/v2/a_b", update, 400, "ArgumentInvalid"},
      {"PUT", "/jobs/v2/taken",
       R"({"type":"scheduleUpdateTwin","updateTwin":{},"queryCondition":"*"})",
       409, "JobAlreadyExists"},
      {"PUT", "/devices/d", "{}", 409, "DeviceAlreadyExists"},
      {"PUT", "/devices/nobody", "{}", 404, "DeviceNotFound", any_etag},
      {"PATCH", "/twins/nobody", "{}", 404, "DeviceNotFound"},
      {"PATCH",
       "/twins/d",
       "{}",
       412,
       "PreconditionFailed",
       {{"If-Match", "\"AAAAAAAAAP8=\""}}},
      {"GET", "/jobs/v2/nobody", "", 404, "JobNotFound"},
      {"POST", "/jobs/v2/nobody/cancel", "", 404, "JobNotFound"},
      {"POST", "/jobs/v2/taken/cancel", "", 405,
       "OperationNotAllowedInCurrentState"},
      {"POST", "/twins/off/methods", R"({"methodName":"m"})", 404,
       "DeviceNotOnline"},
      {"POST", "/twins/nobody/methods", R"({"methodName":"m"})", 404,
       "DeviceNotFound"},
      {"GET", "/twins/d/modules/m", "", 404, "ModuleNotFound"},
      {"POST", "/jobs/create", "{}", 404, "FeatureNotSupported"},
      {"GET", "/nowhere", "", 404, "GenericNotFound"},
      {"PATCH", "/jobs/v2/taken", "{}", 405, "GenericMethodNotAllowed"},
      {"POST", "/jobs/v2//cancel", "", 405, "GenericMethodNotAllowed"},
  };
  for (const Case& c : kCases) {
    const RestAnswer answer = hub.Call(
        c.method, absl::StrCat(c.target, "?api-version=2021-04-12"),
        c.body.empty() ? std::nullopt : std::make_optional(c.body), c.headers);
    EXPECT_EQ(answer.status, c.status) << c.method << " " << c.target;
    EXPECT_EQ(answer.error(), std::string(c.name))
        << c.method << " " << c.target;
  }
}

// ------------------------------------------------------------ wire-facts 4

TEST(Wire, JobsThatHaveToBeAccepted) {
  SdkHub hub;
  hub.Add("d1", true, R"({"tags":{"ring":"fast"}})");
  struct Case {
    absl::string_view what;
    std::string body;
  };
  const auto twin = [](absl::string_view update, absl::string_view more) {
    return absl::StrCat(R"({"type":"scheduleUpdateTwin","updateTwin":)", update,
                        R"(,"queryCondition":"*")", more, "}");
  };
  const auto method = [](absl::string_view call, absl::string_view more) {
    return absl::StrCat(
        R"({"type":"scheduleDeviceMethod","cloudToDeviceMethod":)", call,
        R"(,"queryCondition":"*")", more, "}");
  };
  const auto condition = [](absl::string_view text) {
    return absl::StrCat(
        R"({"type":"scheduleUpdateTwin","updateTwin":{"tags":{}},)",
        R"("queryCondition":")", text, R"("})");
  };
  const auto start = [&](absl::string_view text) {
    return twin("{}", absl::StrCat(R"(,"startTime":")", text, "\""));
  };
  const Case kCases[] = {
      {"as shown, twin",
       R"({"jobId":"ID","type":"scheduleUpdateTwin",
 "updateTwin":{"etag":"*","tags":{"ring":"fast"},"properties":{"desired":{"fw":"2.1"},"reported":{}}},
 "startTime":"2026-11-21T19:53:00.892Z","maxExecutionTimeInSeconds":120,
 "queryCondition":"deviceId IN ['d1','d2']"})"},
      {"as shown, method",
       R"({"jobId":"ID","type":"scheduleDeviceMethod",
 "cloudToDeviceMethod":{"methodName":"reboot","payload":{"delay":5},"responseTimeoutInSeconds":30},
 "startTime":"2026-11-21T19:53:00.892Z","maxExecutionTimeInSeconds":3600,"queryCondition":"tags.ring = 'fast'"})"},
      {"nothing said of times", twin("{}", R"(,"startTime":null)")},
      {"nulls", twin("{}", R"(,"startTime":null,)"
                           R"("maxExecutionTimeInSeconds":null)")},
      {"no jobId, generated client", method(R"({"methodName":"m"})", "")},
      {"payload null", method(R"({"methodName":"m","payload":null,)"
                              R"("responseTimeoutInSeconds":30})",
                              "")},
      {"connect timeout", method(R"({"methodName":"m","payload":30,)"
                                 R"("responseTimeoutInSeconds":30,)"
                                 R"("connectTimeoutInSeconds":10})",
                                 "")},
      {"a field of old", method(R"({"methodName":"m","timeoutInSeconds":1})",
                                R"(,"somethingElse":[1])")},
      {"reported", twin(R"({"properties":{"reported":{"a":1}}})", "")},
      {"a whole twin",
       twin(R"({"deviceId":"d1","etag":null,"version":null,"tags":null,)"
            R"("properties":{"desired":null,"reported":null}})",
            "")},
      {"the other kind, twin", twin("{}", R"(,"cloudToDeviceMethod":null)")},
      {"the other kind, method",
       method(R"({"methodName":"m"})", R"(,"updateTwin":null)")},
      {"type in another case",
       R"({"type":"ScheduleUpdateTwin","updateTwin":{},"queryCondition":"*"})"},
      {"0 digits", start("2026-11-21T19:53:00Z")},
      {"7 digits", start("2026-11-21T19:53:00.8920001Z")},
      {"an offset", start("2026-11-21T20:53:00.892+01:00")},
      {"no zone", start("2026-11-21T19:53:00.892")},
      {"C#'s name", condition("DeviceId IN ['d1']")},
      {"the CLI's keyword", condition("deviceId in ['d1']")},
      {"no spaces", condition("deviceId='d1'")},
      {"all", condition("*")},
      {"keywords in any case", condition("Not deviceId = 'x' oR tags.a = 1")},
  };
  int number = 0;
  for (const Case& c : kCases) {
    const std::string id = absl::StrCat("job-", ++number);
    const RestAnswer answer = hub.PutJob(
        id, absl::StrReplaceAll(c.body, {{"\"ID\"", "\"" + id + "\""}}));
    EXPECT_EQ(answer.status, 200) << c.what << ": " << answer.body;
    if (answer.status != 200) continue;
    EXPECT_EQ(Text(answer.Document().view(), "status"), "queued");
    EXPECT_EQ(Counts(hub.FinishJob(id)), "1 / f0 s1 r0 p0") << c.what;
  }
  // Typings allow a number.
  const RestAnswer numbered = hub.PutJob(
      "123", R"({"jobId":123,"type":"scheduleUpdateTwin","updateTwin":{},)"
             R"("queryCondition":"*"})");
  EXPECT_EQ(numbered.body,
            R"({"jobId":"123","type":"scheduleUpdateTwin","status":"queued"})");
  // A path that is encoded, once.
  EXPECT_EQ(hub.Call("PUT", "/jobs/v2/j%2D1?api-version=2021-04-12",
                     R"({"jobId":"j-1","type":"scheduleUpdateTwin",)"
                     R"("updateTwin":{},"queryCondition":"*"})")
                .status,
            200);
}

TEST(Wire, JobsThatHaveToBeRefused) {
  SdkHub hub;
  const struct {
    absl::string_view id, body;
  } kCases[] = {
      {"j", R"({"type":"scheduleTwinUpdate","updateTwin":{},)"
            R"("queryCondition":"*"})"},
      {"j", R"({"type":"scheduleUpdateTwin","updateTwin":{}})"},
      {"j", R"({"type":"scheduleUpdateTwin","queryCondition":"*"})"},
      {"j", R"({"type":"scheduleDeviceMethod","queryCondition":"*"})"},
      {"j", R"({"type":"scheduleDeviceMethod","cloudToDeviceMethod":{},)"
            R"("queryCondition":"*"})"},
      {"a.b", R"({"type":"scheduleUpdateTwin","updateTwin":{},)"
              R"("queryCondition":"*"})"},
      {"j", R"({"type":"scheduleUpdateTwin","updateTwin":{},)"
            R"("queryCondition":"SELECT * FROM devices"})"},
  };
  for (const auto& c : kCases) {
    EXPECT_EQ(hub.PutJob(c.id, c.body).status, 400) << c.body;
  }
  EXPECT_EQ(hub.ListJobs("", "").body, "[]");
}

// Java sends {} there.
TEST(Wire, CancelWithABody) {
  SdkHub hub;
  hub.PutJob("j", SdkHub::MethodJob("j", "*", hub.In(absl::Hours(1))));
  const RestAnswer answer =
      hub.Call("POST", "/jobs/v2/j/cancel?api-version=2021-04-12", "{}");
  EXPECT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(Text(answer.Document().view(), "status"), "cancelled");
}

TEST(Wire, ListInAnyCase) {
  SdkHub hub;
  hub.PutJob(
      "j", SdkHub::TwinJob("j", "*", R"({"tags":{}})", hub.In(absl::Hours(1))));
  hub.CancelJob("j");
  const RestAnswer answer =
      hub.Call("GET",
               "/jobs/v2/query?api-version=2021-04-12&"
               "jobType=ScheduleUpdateTwin&jobStatus=Cancelled");
  EXPECT_EQ(answer.body, absl::StrCat("[", hub.GetJob("j").body, "]"));
  EXPECT_EQ(answer.Header("x-ms-item-type"), "JobResponse");
}

// ------------------------------------------------------------ wire-facts 5

TEST(Wire, QueryPagesAndItemTypes) {
  SdkHub hub;
  for (absl::string_view id : {"a", "b", "c"}) hub.Add(id);
  const RestAnswer first = hub.QueryPage("SELECT * FROM devices", 2);
  EXPECT_EQ(first.Header("x-ms-item-type"), "Twin");
  const std::string token = first.Header("x-ms-continuation");
  EXPECT_FALSE(token.empty());
  // Twins as GET shows them.
  const Json page = first.Document();
  EXPECT_EQ(Shown(page.view().At(0)), Shown(hub.ReadTwin("a").view()));
  EXPECT_EQ(Shown(page.view().At(1)), Shown(hub.ReadTwin("b").view()));
  EXPECT_TRUE(page.view().At(2).is_undefined());
  const RestAnswer second = hub.QueryPage("SELECT * FROM devices", 2, token);
  EXPECT_EQ(second.Header("x-ms-continuation"), "");
  EXPECT_EQ(Shown(second.Document().view().At(0)),
            Shown(hub.ReadTwin("c").view()));
  EXPECT_FALSE(absl::StrContains(first.body, "primaryKey"));

  const RestAnswer raw = hub.QueryPage("SELECT COUNT() AS total FROM devices");
  EXPECT_EQ(raw.Header("x-ms-item-type"), "Raw");
  EXPECT_EQ(raw.body, R"([{"total":3}])");
  const RestAnswer names =
      hub.QueryPage("SELECT deviceId FROM devices WHERE deviceId = 'b'");
  EXPECT_EQ(names.Header("x-ms-item-type"), "Raw");
  EXPECT_EQ(names.body, R"([{"deviceId":"b"}])");
  const RestAnswer jobs = hub.QueryPage("SELECT * FROM devices.jobs");
  EXPECT_EQ(jobs.Header("x-ms-item-type"), "DeviceJob");
  EXPECT_EQ(jobs.body, "[]");
  EXPECT_TRUE(
      IsError(hub.QueryPage("SELECT * FROM"), ErrorCode::kArgumentInvalid));
  EXPECT_TRUE(
      IsError(hub.Call("POST", "/devices/query?api-version=2021-04-12", "{}"),
              ErrorCode::kArgumentNull));
}

// ------------------------------------------------------- wire-facts 7 and 8

TEST(Wire, Twins) {
  SdkHub hub;
  AdvanceTo(hub, "2031-03-01T09:00:00Z");
  hub.CreateDevice("d");
  const RestAnswer made = hub.Call("GET", SdkHub::TwinPath("d"));
  EXPECT_EQ(made.body, Compact(R"(
{ "deviceId": "d", "etag": "AAAAAAAAAAE=", "deviceEtag": "AAAAAAAAAAE=",
  "version": 1, "status": "enabled",
  "statusUpdateTime": "0001-01-01T00:00:00Z",
  "connectionState": "Disconnected",
  "lastActivityTime": "0001-01-01T00:00:00Z",
  "cloudToDeviceMessageCount": 0, "authenticationType": "sas",
  "x509Thumbprint": { "primaryThumbprint": null, "secondaryThumbprint": null },
  "capabilities": { "iotEdge": false },
  "tags": {},
  "properties": {
    "desired": {
      "$metadata": { "$lastUpdated": "2031-03-01T09:00:00.0000000Z" },
      "$version": 1 },
    "reported": {
      "$metadata": { "$lastUpdated": "2031-03-01T09:00:00.0000000Z" },
      "$version": 1 } } })"));

  hub.time.Advance(absl::Seconds(1));
  const RestAnswer patched = hub.UpdateTwin(
      "d",
      R"({"tags":{"ring":"fast"},"properties":{"desired":{"fw":{"v":"2.1"}}}})",
      "AAAAAAAAAAE=");
  EXPECT_EQ(patched.status, 200);
  EXPECT_EQ(patched.body, hub.Call("GET", SdkHub::TwinPath("d")).body);
  const Json twin = patched.Document();
  EXPECT_EQ(Text(twin.view(), "etag"), "AAAAAAAAAAI=");
  EXPECT_EQ(Shown(twin.view().Find("version")), "2");
  EXPECT_EQ(Shown(twin.view().Find("tags")), R"({"ring":"fast"})");
  EXPECT_EQ(Shown(twin.view().Find("properties").Find("desired")), Compact(R"(
{ "$metadata": {
    "$lastUpdated": "2031-03-01T09:00:01.0000000Z", "$lastUpdatedVersion": 2,
    "fw": { "$lastUpdated": "2031-03-01T09:00:01.0000000Z",
      "$lastUpdatedVersion": 2,
      "v": { "$lastUpdated": "2031-03-01T09:00:01.0000000Z",
        "$lastUpdatedVersion": 2 } } },
  "$version": 2, "fw": { "v": "2.1" } })"));
  EXPECT_TRUE(IsError(hub.UpdateTwin("d", "{}", "AAAAAAAAAAE="),
                      ErrorCode::kPreconditionFailed));

  // Replaces what it has, and leaves the rest: the generated client, others.
  const RestAnswer put = hub.Call("PUT", "/twins/d?api-version=2020-09-30",
                                  R"({"deviceId":"d","tags":{"site":"north"}})",
                                  {{"If-Match", "\"*\""}});
  EXPECT_EQ(put.status, 200);
  EXPECT_EQ(Shown(put.Document().view().Find("tags")), R"({"site":"north"})");
  EXPECT_EQ(Shown(put.Document().view().Find("properties")),
            Shown(twin.view().Find("properties")));
}

TEST(Wire, Methods) {
  SdkHub hub;
  hub.Add("d");
  hub.devices().SetHandler("reboot", [](const LoopbackCall& call) {
    LoopbackReply reply;
    reply.status = 418;
    reply.payload = std::string(call.payload);
    return reply;
  });
  hub.devices().SetHandler(
      "silent", [](const LoopbackCall&) { return LoopbackReply::Never(); });
  const auto invoke = [&](absl::string_view method, absl::string_view payload) {
    return hub.Call(
        "POST", "/twins/d/methods?api-version=2021-04-12",
        absl::StrCat(R"({"methodName":")", method, R"(","payload":)", payload,
                     R"(,"responseTimeoutInSeconds":30,)"
                     R"("connectTimeoutInSeconds":0})"));
  };
  for (absl::string_view payload :
       {R"({"delay":5})", "null", "30", "true", R"("text")", "[1,2]"}) {
    const RestAnswer answer = invoke("reboot", payload);
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.body,
              absl::StrCat(R"({"status":418,"payload":)", payload, "}"));
  }
  const absl::Time start = hub.time.Now();
  EXPECT_TRUE(IsError(invoke("silent", "null"), ErrorCode::kGatewayTimeout,
                      "Timed out waiting for the response from device."));
  EXPECT_EQ(hub.time.Now() - start, absl::Seconds(30));
}

}  // namespace
}  // namespace muster
