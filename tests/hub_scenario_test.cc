// The acceptance scenario over REST: contract 10.1 to 10.3, the Java variant,
// and the variations of 10.4 by their numbers, asked as an SDK asks.
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/model/error.h"
#include "engine/model/instant.h"
#include "engine/model/json.h"
#include "gtest/gtest.h"
#include "tests/forwarding_journal.h"
#include "tests/sdk_hub.h"

namespace muster {
namespace {

constexpr char kMethodJobId[] = "4f0c9a7d-21e8-4b6f-9b0a-1c2d3e4f5a6b";
constexpr char kTwinJobId[] = "8a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d";

// 10.1
void SetUpTutorial(SdkHub& hub) {
  hub.SetScript();
  ASSERT_EQ(hub.CreateDevice("myDeviceId").status, 200);
  EXPECT_EQ(Text(hub.ReadTwin("myDeviceId").view(), "connectionState"),
            "Disconnected");
  hub.Connect("myDeviceId");
  EXPECT_EQ(Text(hub.ReadTwin("myDeviceId").view(), "connectionState"),
            "Connected");
  hub.policy = "registryReadWrite";
  EXPECT_TRUE(IsError(hub.GetJob("no-such-job"), ErrorCode::kJobNotFound));
}

// When a job ended, after it was created.
absl::Duration Took(const Json& job) {
  const auto end = ParseInstant(Text(job.view(), "endTime"));
  const auto created = ParseInstant(Text(job.view(), "createdTime"));
  EXPECT_TRUE(end.has_value() && created.has_value()) << Shown(job.view());
  return *end - *created;
}

JsonView Response(const Json& row) {
  return row.view().Find("outcome").Find("deviceMethodResponse");
}

TEST(Scenario, MethodJobNodeOrder) {
  SdkHub hub({.profile = *FindProfile("s2")});
  SetUpTutorial(hub);
  const RestAnswer put =
      hub.PutJob(kMethodJobId,
                 SdkHub::MethodJob(kMethodJobId, "deviceId IN ['myDeviceId']",
                                   hub.In(absl::ZeroDuration())));
  EXPECT_EQ(put.status, 200) << put.body;
  EXPECT_EQ(put.body, absl::StrCat(R"({"jobId":")", kMethodJobId,
                                   R"(","type":"scheduleDeviceMethod",)",
                                   R"("status":"queued"})"));

  const Json job = hub.FinishJob(kMethodJobId);
  EXPECT_EQ(Text(job.view(), "status"), "completed");
  EXPECT_EQ(Counts(job), "1 / f0 s1 r0 p0");
  EXPECT_EQ(Shown(job.view().Find("cloudToDeviceMethod")),
            R"({"connectTimeoutInSeconds":0,"methodName":"lockDoor",)"
            R"("payload":null,"responseTimeoutInSeconds":15})");

  const auto calls = hub.devices().calls();
  ASSERT_EQ(calls.size(), 1u);
  EXPECT_EQ(calls[0].device_id, "myDeviceId");
  EXPECT_EQ(calls[0].method, "lockDoor");
  EXPECT_EQ(calls[0].payload, "null");

  const std::vector<Json> rows = hub.JobRows(kMethodJobId);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(Text(rows[0].view(), "status"), "completed");
  EXPECT_EQ(Shown(Response(rows[0])), R"({"payload":null,"status":200})");
}

TEST(Scenario, TwinJobNodeOrder) {
  SdkHub hub({.profile = *FindProfile("s2")});
  SetUpTutorial(hub);
  hub.policy = "service";
  ASSERT_EQ(hub.UpdateTwin("myDeviceId", R"({"tags":{"site":"north"}})").status,
            200);
  const Json before = hub.ReadTwin("myDeviceId");
  hub.policy = "registryReadWrite";
  const RestAnswer put = hub.PutJob(
      kTwinJobId, SdkHub::TwinJob(kTwinJobId, "deviceId IN ['myDeviceId']",
                                  R"({"etag":"*","properties":{"desired":)"
                                  R"({"building":"43","floor":3}}})",
                                  hub.In(absl::ZeroDuration())));
  EXPECT_EQ(put.status, 200) << put.body;
  EXPECT_EQ(Text(put.Document().view(), "status"), "queued");

  const Json job = hub.FinishJob(kTwinJobId);
  EXPECT_EQ(Text(job.view(), "status"), "completed");
  EXPECT_EQ(Counts(job), "1 / f0 s1 r0 p0");

  hub.policy = "service";
  const Json after = hub.ReadTwin("myDeviceId");
  const JsonView desired = after.view().Find("properties").Find("desired");
  const int64_t version = desired.Find("$version").int_value();
  EXPECT_EQ(Text(desired, "building"), "43");
  EXPECT_EQ(desired.Find("floor").int_value(), 3);
  EXPECT_EQ(version, before.view()
                             .Find("properties")
                             .Find("desired")
                             .Find("$version")
                             .int_value() +
                         1);
  EXPECT_NE(Text(after.view(), "etag"), Text(before.view(), "etag"));
  EXPECT_EQ(Shown(after.view().Find("tags")), R"({"site":"north"})");

  hub.time.RunReady();
  const auto told = hub.devices().notifications();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].device_id, "myDeviceId");
  EXPECT_EQ(told[0].patch, R"({"building":"43","floor":3})");
  EXPECT_EQ(told[0].version, version);

  // What the device itself does.
  ASSERT_TRUE(hub.engine().PatchReported("myDeviceId", R"({"floor":3})").ok());
  const Json reported = hub.ReadTwin("myDeviceId");
  const JsonView section = reported.view().Find("properties").Find("reported");
  EXPECT_EQ(section.Find("floor").int_value(), 3);
  EXPECT_EQ(section.Find("$version").int_value(), 2);

  const std::vector<Json> rows = hub.JobRows(kTwinJobId);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(Text(rows[0].view(), "status"), "completed");
  EXPECT_TRUE(Response(rows[0]).is_null());
  EXPECT_TRUE(rows[0].view().Find("error").is_undefined());
}

TEST(Scenario, JavaOrder) {
  SdkHub hub({.profile = *FindProfile("s1")});
  SetUpTutorial(hub);
  const std::string start = IsoString(hub.time.Now() - absl::Seconds(1));
  const std::string now = hub.In(absl::ZeroDuration());
  const std::string twin_job = "DPCMD5f0c9a7d-21e8-4b6f-9b0a-1c2d3e4f5a6b";
  const std::string method_job = "DMCMD5f0c9a7d-21e8-4b6f-9b0a-1c2d3e4f5a6b";
  // As Java serializes it: the whole twin, and the other kind's member.
  ASSERT_EQ(
      hub.PutJob(
             twin_job,
             absl::StrCat(
                 R"({"jobId":")", twin_job, R"(","type":"scheduleUpdateTwin",)",
                 R"("cloudToDeviceMethod":null,"updateTwin":{)",
                 R"("deviceId":"myDeviceId","etag":"*","version":null,)",
                 R"("tags":null,"properties":{"desired":)",
                 R"({"Building":43,"Floor":3}}},)",
                 R"("queryCondition":"deviceId='myDeviceId'",)",
                 R"("startTime":)", now, R"(,"maxExecutionTimeInSeconds":30})"))
          .status,
      200);
  EXPECT_EQ(Text(hub.FinishJob(twin_job).view(), "status"), "completed");
  ASSERT_EQ(
      hub.PutJob(
             method_job,
             absl::StrCat(
                 R"({"jobId":")", method_job,
                 R"(","type":"scheduleDeviceMethod","updateTwin":null,)",
                 R"("cloudToDeviceMethod":{"methodName":"lockDoor",)",
                 R"("payload":null,"responseTimeoutInSeconds":5,)",
                 R"("connectTimeoutInSeconds":5},)",
                 R"("queryCondition":"deviceId='myDeviceId'",)",
                 R"("startTime":)", now, R"(,"maxExecutionTimeInSeconds":30})"))
          .status,
      200);
  EXPECT_EQ(Text(hub.FinishJob(method_job).view(), "status"), "completed");
  const std::vector<Json> rows =
      hub.Rows(absl::StrCat("SELECT * FROM devices.jobs WHERE "
                            "devices.jobs.startTimeUtc > '",
                            start, "'"));
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(Text(rows[0].view(), "jobId"), method_job);
  EXPECT_EQ(Text(rows[1].view(), "jobId"), twin_job);
}

TEST(Variations, V1CancelRightAfterPut) {
  SdkHub hub;
  hub.SetScript();
  hub.Add("d");
  const RestAnswer put =
      hub.PutJob("v1", SdkHub::MethodJob("v1", "*", hub.In(absl::Hours(1))));
  EXPECT_EQ(Text(put.Document().view(), "status"), "queued");
  const RestAnswer cancelled = hub.CancelJob("v1");
  EXPECT_EQ(cancelled.status, 200) << cancelled.body;
  EXPECT_EQ(Text(cancelled.Document().view(), "status"), "cancelled");
  EXPECT_EQ(hub.StatusOf("v1"), "cancelled");
  hub.time.Advance(absl::Hours(2));
  EXPECT_EQ(hub.StatusOf("v1"), "cancelled");
  EXPECT_TRUE(hub.JobRows("v1").empty());
  EXPECT_TRUE(hub.devices().calls().empty());
  // A second cancel finds it so, and changes nothing.
  const RestAnswer again = hub.CancelJob("v1");
  EXPECT_EQ(again.status, 200);
  EXPECT_EQ(again.body, hub.GetJob("v1").body);
}

TEST(Variations, V2CancelWhenScheduled) {
  SdkHub hub;
  hub.SetScript();
  hub.Add("d");
  const RestAnswer put =
      hub.PutJob("v2", SdkHub::MethodJob("v2", "*", hub.In(absl::Hours(1))));
  EXPECT_EQ(Text(put.Document().view(), "status"), "queued");
  hub.time.Advance(absl::Seconds(5));
  EXPECT_EQ(hub.StatusOf("v2"), "scheduled");
  EXPECT_EQ(Counts(hub.Job("v2")), "none");
  EXPECT_EQ(Text(hub.CancelJob("v2").Document().view(), "status"), "cancelled");
  hub.time.Advance(absl::Hours(2));
  EXPECT_EQ(hub.StatusOf("v2"), "cancelled");
  EXPECT_TRUE(hub.devices().calls().empty());
}

TEST(Variations, V3CancelWhileRunning) {
  SdkHub hub;
  hub.Add("d");
  hub.devices().SetHandler("lockDoor", [](const LoopbackCall&) {
    LoopbackReply reply;
    reply.delay = absl::Seconds(3);
    return reply;
  });
  ASSERT_EQ(hub.PutJob("v3", SdkHub::MethodJob("v3", "*")).status, 200);
  hub.time.Advance(absl::Seconds(1));
  EXPECT_EQ(hub.StatusOf("v3"), "running");
  EXPECT_TRUE(IsError(hub.CancelJob("v3"),
                      ErrorCode::kOperationNotAllowedInCurrentState,
                      "Job cannot be cancelled in 'Running' status."));
  const Json job = hub.FinishJob("v3");
  EXPECT_EQ(Text(job.view(), "status"), "completed");
  EXPECT_EQ(Counts(job), "1 / f0 s1 r0 p0");
  EXPECT_TRUE(IsError(hub.CancelJob("v3"),
                      ErrorCode::kOperationNotAllowedInCurrentState,
                      "Job cannot be cancelled in 'Completed' status."));
}

TEST(Variations, V4DeviceStaysOffline) {
  SdkHub hub;
  hub.SetScript();
  hub.Add("d", /*connected=*/false);
  ASSERT_EQ(hub.PutJob("v4", SdkHub::MethodJob("v4", "*", "null", 10)).status,
            200);
  const Json job = hub.FinishJob("v4");
  EXPECT_EQ(Text(job.view(), "status"), "completed");
  EXPECT_EQ(Counts(job), "1 / f1 s0 r0 p0");
  EXPECT_EQ(Took(job), absl::Seconds(10));
  const std::vector<Json> rows = hub.JobRows("v4");
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(Text(rows[0].view(), "status"), "failed");
  EXPECT_EQ(Shown(rows[0].view().Find("error")),
            R"({"code":"DeviceNotOnline",)"
            R"("description":"Timed out waiting for device to connect."})");
  EXPECT_TRUE(rows[0].view().Find("startTimeUtc").is_undefined());
}

TEST(Variations, V5DeviceConnectsInTime) {
  SdkHub hub;
  hub.SetScript();
  hub.Add("d", /*connected=*/false);
  ASSERT_EQ(hub.PutJob("v5", SdkHub::MethodJob("v5", "*", "null", 10)).status,
            200);
  hub.time.Advance(absl::Seconds(4));
  EXPECT_EQ(hub.StatusOf("v5"), "running");
  EXPECT_EQ(Counts(hub.Job("v5")), "1 / f0 s0 r0 p1");
  hub.Connect("d");
  const Json job = hub.Job("v5");
  EXPECT_EQ(Text(job.view(), "status"), "completed");
  EXPECT_EQ(Counts(job), "1 / f0 s1 r0 p0");
}

TEST(Variations, V6HandlerNeverAnswers) {
  SdkHub hub;
  hub.Add("d");
  hub.devices().SetHandler(
      "lockDoor", [](const LoopbackCall&) { return LoopbackReply::Never(); });
  ASSERT_EQ(
      hub.PutJob("v6", SdkHub::MethodJob("v6", "*", "null", 30, 5)).status,
      200);
  const Json job = hub.FinishJob("v6");
  EXPECT_EQ(Text(job.view(), "status"), "completed");
  EXPECT_EQ(Counts(job), "1 / f1 s0 r0 p0");
  EXPECT_EQ(Took(job), absl::Seconds(5));
  const std::vector<Json> rows = hub.JobRows("v6");
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(
      Shown(rows[0].view().Find("error")),
      R"({"code":"GatewayTimeout",)"
      R"("description":"Timed out waiting for the response from device."})");
}

TEST(Variations, V7HandlerAnswersAnError) {
  SdkHub hub;
  hub.Add("d");
  hub.devices().SetHandler("lockDoor", [](const LoopbackCall&) {
    LoopbackReply reply;
    reply.status = 500;
    reply.payload = R"({"why":"jammed"})";
    return reply;
  });
  ASSERT_EQ(hub.PutJob("v7", SdkHub::MethodJob("v7", "*")).status, 200);
  const Json job = hub.FinishJob("v7");
  EXPECT_EQ(Text(job.view(), "status"), "completed");
  EXPECT_EQ(Counts(job), "1 / f0 s1 r0 p0");
  const std::vector<Json> rows = hub.JobRows("v7");
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(Text(rows[0].view(), "status"), "completed");
  EXPECT_EQ(Shown(Response(rows[0])),
            R"({"payload":{"why":"jammed"},"status":500})");
}

TEST(Variations, V8DisabledDevice) {
  SdkHub hub;
  hub.SetScript();
  for (absl::string_view id : {"a", "b", "c"}) hub.Add(id);
  const RestAnswer disabled =
      hub.UpdateDevice("b", R"(,"status":"disabled","statusReason":"lost")");
  ASSERT_EQ(disabled.status, 200) << disabled.body;
  ASSERT_EQ(hub.PutJob("v8", SdkHub::MethodJob("v8", "*")).status, 200);
  const Json job = hub.FinishJob("v8");
  EXPECT_EQ(Text(job.view(), "status"), "completed");
  EXPECT_EQ(Counts(job), "3 / f1 s2 r0 p0");
  const std::vector<Json> failed = hub.Rows(
      "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'v8' AND "
      "devices.jobs.status = 'failed'");
  ASSERT_EQ(failed.size(), 1u);
  EXPECT_EQ(Text(failed[0].view(), "deviceId"), "b");
  EXPECT_EQ(Text(failed[0].view().Find("error"), "code"), "DeviceNotFound");
  // Patches apply to disabled devices.
  ASSERT_EQ(hub.PutJob("v8-twin",
                       SdkHub::TwinJob("v8-twin", "*", R"({"tags":{"x":1}})"))
                .status,
            200);
  EXPECT_EQ(Counts(hub.FinishJob("v8-twin")), "3 / f0 s3 r0 p0");
}

TEST(Variations, V9NobodyMatches) {
  SdkHub hub;
  hub.Add("d");
  ASSERT_EQ(hub.PutJob("v9", SdkHub::MethodJob("v9", "tags.nope = 1")).status,
            200);
  const Json job = hub.FinishJob("v9");
  EXPECT_EQ(Text(job.view(), "status"), "completed");
  EXPECT_EQ(Counts(job), "0 / f0 s0 r0 p0");
}

TEST(Variations, V10SameIdTwice) {
  SdkHub hub;
  hub.SetScript();
  hub.Add("d");
  const std::string body = SdkHub::MethodJob("v10", "*");
  ASSERT_EQ(hub.PutJob("v10", body).status, 200);
  EXPECT_TRUE(IsError(hub.PutJob("v10", body), ErrorCode::kJobAlreadyExists));
  hub.FinishJob("v10");
  EXPECT_TRUE(IsError(hub.PutJob("v10", body), ErrorCode::kJobAlreadyExists));
  EXPECT_EQ(hub.devices().calls().size(), 1u);
}

TEST(Variations, V11BrokenCondition) {
  SdkHub hub;
  EXPECT_TRUE(
      IsError(hub.PutJob("v11", SdkHub::MethodJob("v11", "deviceId = ")),
              ErrorCode::kArgumentInvalid));
  EXPECT_TRUE(IsError(hub.GetJob("v11"), ErrorCode::kJobNotFound));
  EXPECT_EQ(hub.ListJobs("", "").body, "[]");
}

TEST(Variations, V12BadIds) {
  SdkHub hub;
  for (const std::string& id :
       {std::string("a_b"), std::string(65, 'x'), std::string("query")}) {
    EXPECT_TRUE(IsError(hub.PutJob(id, SdkHub::MethodJob(id, "*")),
                        ErrorCode::kArgumentInvalid))
        << id;
  }
  EXPECT_EQ(hub.ListJobs("", "").body, "[]");
}

TEST(Variations, V13Etag) {
  SdkHub hub;
  EXPECT_TRUE(IsError(
      hub.PutJob(
          "v13",
          SdkHub::TwinJob("v13", "*", R"({"etag":"\"abc\"","tags":{"a":1}})")),
      ErrorCode::kPreconditionFailed));
  EXPECT_TRUE(IsError(hub.GetJob("v13"), ErrorCode::kJobNotFound));
}

TEST(Variations, V14DeviceCreatedAfterTheStart) {
  SdkHub hub;
  hub.SetScript();
  hub.Add("early", /*connected=*/false);
  ASSERT_EQ(hub.PutJob("v14", SdkHub::MethodJob("v14", "*")).status, 200);
  hub.time.Advance(absl::Seconds(1));
  EXPECT_EQ(Counts(hub.Job("v14")), "1 / f0 s0 r0 p1");
  hub.Add("late");
  hub.Connect("early");
  EXPECT_EQ(Counts(hub.FinishJob("v14")), "1 / f0 s1 r0 p0");
  const std::vector<Json> rows = hub.JobRows("v14");
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(Text(rows[0].view(), "deviceId"), "early");
}

TEST(Variations, V15TagChangedAfterTheStart) {
  SdkHub hub;
  hub.SetScript();
  hub.Add("d", /*connected=*/false, R"({"tags":{"ring":"slow"}})");
  ASSERT_EQ(
      hub.PutJob("v15", SdkHub::MethodJob("v15", "tags.ring = 'slow'")).status,
      200);
  hub.time.Advance(absl::Seconds(1));
  ASSERT_EQ(hub.UpdateTwin("d", R"({"tags":{"ring":"fast"}})").status, 200);
  hub.Connect("d");
  EXPECT_EQ(Counts(hub.FinishJob("v15")), "1 / f0 s1 r0 p0");
}

TEST(Variations, V16PatchOverTheLimitOfOneDevice) {
  SdkHub hub;
  std::string full = R"({"properties":{"desired":{)";
  for (int i = 0; i < 8; ++i) {
    absl::StrAppend(&full, i > 0 ? "," : "", "\"k", i, "\":\"",
                    std::string(4000, 'x'), "\"");
  }
  full += "}}}";
  hub.Add("full", true, full);
  hub.Add("empty");
  const Json before = hub.ReadTwin("full");
  ASSERT_EQ(hub.PutJob("v16",
                       SdkHub::TwinJob(
                           "v16", "*",
                           absl::StrCat(R"({"properties":{"desired":{"more":")",
                                        std::string(3000, 'y'), R"("}}})")))
                .status,
            200);
  const Json job = hub.FinishJob("v16");
  EXPECT_EQ(Text(job.view(), "status"), "completed");
  EXPECT_EQ(Counts(job), "2 / f1 s1 r0 p0");
  const std::vector<Json> rows = hub.JobRows("v16");
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(Text(rows[0].view(), "deviceId"), "empty");
  EXPECT_EQ(Text(rows[0].view(), "status"), "completed");
  EXPECT_EQ(Text(rows[1].view(), "deviceId"), "full");
  EXPECT_EQ(Text(rows[1].view(), "status"), "failed");
  EXPECT_EQ(Text(rows[1].view().Find("error"), "code"), "MessageTooLarge");
  EXPECT_EQ(hub.ReadTwin("full"), before);
}

TEST(Variations, V17NullRemovesAndIsTold) {
  SdkHub hub;
  hub.Add("d", true, R"({"properties":{"desired":{"a":1,"b":2}}})");
  ASSERT_EQ(hub.PutJob("v17", SdkHub::TwinJob(
                                  "v17", "*",
                                  R"({"properties":{"desired":{"a":null}}})"))
                .status,
            200);
  hub.FinishJob("v17");
  const Json twin = hub.ReadTwin("d");
  const JsonView desired = twin.view().Find("properties").Find("desired");
  EXPECT_TRUE(desired.Find("a").is_undefined());
  EXPECT_EQ(desired.Find("b").int_value(), 2);
  hub.time.RunReady();
  ASSERT_EQ(hub.devices().notifications().size(), 1u);
  EXPECT_EQ(hub.devices().notifications()[0].patch, R"({"a":null})");
}

TEST(Variations, V18ListingByPages) {
  SdkHub hub;
  hub.SetScript();
  hub.Add("d");
  for (int i = 0; i < 3; ++i) {
    const std::string method = absl::StrCat("m", i);
    const std::string twin = absl::StrCat("t", i);
    ASSERT_EQ(hub.PutJob(method, SdkHub::MethodJob(method, "*")).status, 200);
    hub.FinishJob(method);
    ASSERT_EQ(
        hub.PutJob(twin, SdkHub::TwinJob(twin, "*", R"({"tags":{}})")).status,
        200);
    hub.FinishJob(twin);
    hub.time.Advance(absl::Seconds(1));
  }
  std::vector<std::string> ids;
  std::string continuation;
  std::string first;
  do {
    const RestAnswer page =
        hub.ListJobs("scheduleDeviceMethod", "Completed", 1, continuation);
    ASSERT_EQ(page.status, 200) << page.body;
    EXPECT_EQ(page.Header("x-ms-item-type"), "JobResponse");
    const Json rows = page.Document();
    ASSERT_TRUE(rows.view().At(0).is_object()) << page.body;
    EXPECT_TRUE(rows.view().At(1).is_undefined()) << page.body;
    ids.push_back(Text(rows.view().At(0), "jobId"));
    continuation = page.Header("x-ms-continuation");
    if (first.empty()) first = continuation;
  } while (!continuation.empty());
  EXPECT_EQ(ids, (std::vector<std::string>{"m2", "m1", "m0"}));
  // A continuation belongs to its filters.
  EXPECT_TRUE(IsError(hub.ListJobs("scheduleUpdateTwin", "Completed", 1, first),
                      ErrorCode::kArgumentInvalid));
}

TEST(Variations, V19ThirtyDaysLater) {
  SdkHub hub;
  hub.SetScript();
  hub.Add("d");
  ASSERT_EQ(hub.PutJob("v19", SdkHub::MethodJob("v19", "*")).status, 200);
  const absl::Time end =
      *ParseInstant(Text(hub.FinishJob("v19").view(), "endTime"));
  hub.time.Advance(end + absl::Hours(24 * 30) - absl::Nanoseconds(100) -
                   hub.time.Now());
  EXPECT_EQ(hub.GetJob("v19").status, 200);
  EXPECT_EQ(hub.JobRows("v19").size(), 1u);
  hub.time.Advance(absl::Nanoseconds(100));
  EXPECT_TRUE(IsError(hub.GetJob("v19"), ErrorCode::kJobNotFound));
  EXPECT_TRUE(IsError(hub.CancelJob("v19"), ErrorCode::kJobNotFound));
  EXPECT_EQ(hub.ListJobs("", "").body, "[]");
  EXPECT_TRUE(hub.JobRows("v19").empty());
  ASSERT_EQ(hub.PutJob("v19", SdkHub::MethodJob("v19", "*")).status, 200);
  EXPECT_EQ(Counts(hub.FinishJob("v19")), "1 / f0 s1 r0 p0");
}

TEST(Variations, V20ActiveLimitRejects) {
  SdkHub hub({.profile = *FindProfile("s1")});
  hub.SetScript();
  hub.Add("d", /*connected=*/false);
  ASSERT_EQ(hub.PutJob("one", SdkHub::MethodJob("one", "*")).status, 200);
  EXPECT_TRUE(IsError(hub.PutJob("two", SdkHub::MethodJob("two", "*")),
                      ErrorCode::kThrottlingMaxActiveJobCountExceeded,
                      "Active job limit 1 reached"));
  // A future one does not count yet.
  EXPECT_EQ(hub.PutJob("later",
                       SdkHub::MethodJob("later", "*", hub.In(absl::Hours(1))))
                .status,
            200);
  hub.Connect("d");
  hub.FinishJob("one");
  EXPECT_EQ(hub.PutJob("two", SdkHub::MethodJob("two", "*")).status, 200);
  EXPECT_EQ(Counts(hub.FinishJob("two")), "1 / f0 s1 r0 p0");
}

TEST(Variations, V20ActiveLimitQueues) {
  SdkHub hub({.profile = *FindProfile("s1"),
              .on_active_limit = ActiveLimitPolicy::kQueue});
  hub.SetScript();
  hub.Add("d", /*connected=*/false);
  ASSERT_EQ(hub.PutJob("one", SdkHub::MethodJob("one", "*")).status, 200);
  ASSERT_EQ(hub.PutJob("two", SdkHub::MethodJob("two", "*")).status, 200);
  hub.time.Advance(absl::Seconds(1));
  EXPECT_EQ(hub.StatusOf("one"), "running");
  EXPECT_EQ(hub.StatusOf("two"), "queued");
  hub.Connect("d");
  EXPECT_EQ(hub.StatusOf("one"), "completed");
  EXPECT_EQ(hub.StatusOf("two"), "completed");
}

TEST(Variations, V21TwoFutureJobsOneSlot) {
  SdkHub hub({.profile = *FindProfile("s1")});
  hub.SetScript();
  hub.Add("d", /*connected=*/false);
  const std::string start = hub.In(absl::Hours(1));
  ASSERT_EQ(hub.PutJob("a", SdkHub::MethodJob("a", "*", start)).status, 200);
  ASSERT_EQ(hub.PutJob("b", SdkHub::MethodJob("b", "*", start)).status, 200);
  hub.time.Advance(absl::Seconds(3601));
  EXPECT_EQ(hub.StatusOf("a"), "running");
  EXPECT_EQ(hub.StatusOf("b"), "queued");
  EXPECT_EQ(Counts(hub.Job("b")), "none");
  hub.Connect("d");
  EXPECT_EQ(Counts(hub.FinishJob("a")), "1 / f0 s1 r0 p0");
  EXPECT_EQ(Counts(hub.FinishJob("b")), "1 / f0 s1 r0 p0");
}

// Keeps everything.  Once it has crashed nothing more arrives, until another
// engine takes it over.
class CrashingJournal : public ForwardingJournal {
 public:
  CrashingJournal()
      : ForwardingJournal(
            {.partition_count = 4,
             .retained_bytes_max = MemoryJournalOptions::kRetainAll}) {}

  absl::StatusOr<Ownership> Acquire(int partition) override {
    crashed = false;
    return ForwardingJournal::Acquire(partition);
  }
  void Append(int partition, uint64_t epoch, uint64_t sequence,
              std::string chunk, Done done) override {
    if (crashed) {
      std::move(done)(absl::FailedPreconditionError("the process is gone"));
      return;
    }
    ForwardingJournal::Append(partition, epoch, sequence, std::move(chunk),
                              std::move(done));
  }

  bool crashed = false;
};

class RestartWhileAJobRuns : public testing::TestWithParam<bool> {};

INSTANTIATE_TEST_SUITE_P(V22, RestartWhileAJobRuns, testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "Crash" : "Stop";
                         });

TEST_P(RestartWhileAJobRuns, V22InFlightFailsPendingIsServed) {
  CrashingJournal journal;
  SdkHub hub({.journal = &journal});
  hub.devices().SetHandler("lockDoor", [](const LoopbackCall& call) {
    return call.device_id == "silent" ? LoopbackReply::Never()
                                      : LoopbackReply{};
  });
  hub.Add("done");
  hub.Add("silent");
  hub.Add("offline", /*connected=*/false);
  ASSERT_EQ(hub.PutJob("v22", SdkHub::MethodJob("v22", "*")).status, 200);
  hub.time.Advance(absl::Seconds(1));
  EXPECT_EQ(hub.StatusOf("v22"), "running");
  EXPECT_EQ(Counts(hub.Job("v22")), "3 / f0 s1 r1 p1");

  if (GetParam()) journal.crashed = true;
  hub.Restart();
  hub.SetScript();
  const std::string after_restart = Counts(hub.Job("v22"));
  hub.devices().AddDevices({"done", "silent"}, true);
  hub.devices().AddDevices({"offline"}, false);
  hub.time.RunReady();
  EXPECT_EQ(hub.StatusOf("v22"), "running") << after_restart;
  EXPECT_EQ(Counts(hub.Job("v22")), "3 / f1 s1 r0 p1") << after_restart;
  hub.Connect("offline");
  const Json job = hub.FinishJob("v22");
  EXPECT_EQ(Text(job.view(), "status"), "completed");
  EXPECT_EQ(Counts(job), "3 / f1 s2 r0 p0");

  const std::vector<Json> rows = hub.JobRows("v22");
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(Text(rows[0].view(), "deviceId"), "done");
  EXPECT_EQ(Text(rows[0].view(), "status"), "completed");
  EXPECT_EQ(Text(rows[1].view(), "deviceId"), "offline");
  EXPECT_EQ(Text(rows[1].view(), "status"), "completed");
  EXPECT_EQ(Text(rows[2].view(), "deviceId"), "silent");
  EXPECT_EQ(Text(rows[2].view().Find("error"), "code"), "GatewayTimeout");
  // Nobody was called a second time.
  const auto calls = hub.devices().calls();
  ASSERT_EQ(calls.size(), 1u);
  EXPECT_EQ(calls[0].device_id, "offline");
  // And the registry is what it was.
  EXPECT_EQ(hub.CreateDevice("done").status, 409);
}

}  // namespace
}  // namespace muster
