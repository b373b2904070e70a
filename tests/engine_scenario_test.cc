// The acceptance scenario: contract 10.2, 10.3, and the variations of 10.4 that
// need no REST surface, by their numbers; and the timeline of 2.13.
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "tests/hub_fixture.h"

namespace muster {
namespace {

std::string MethodJob(absl::string_view id, absl::string_view condition,
                      absl::string_view more = "",
                      absl::string_view method_more = "") {
  return absl::StrCat(
      R"({"jobId":")", id,
      R"(","type":"scheduleDeviceMethod","cloudToDeviceMethod":)",
      R"({"methodName":"lockDoor","payload":null,)",
      R"("responseTimeoutInSeconds":15)", method_more,
      R"(},"queryCondition":")", condition,
      R"(","maxExecutionTimeInSeconds":300)", more, "}");
}

std::string TwinJob(absl::string_view id, absl::string_view condition,
                    absl::string_view patch, absl::string_view more = "") {
  return absl::StrCat(R"({"jobId":")", id,
                      R"(","type":"scheduleUpdateTwin","updateTwin":)", patch,
                      R"(,"queryCondition":")", condition, "\"", more, "}");
}

// Devices answer lockDoor with 200 and no body, anything else with 404.
void Script(Hub& hub) {
  hub.devices().SetHandler("lockDoor",
                           [](const LoopbackCall&) { return LoopbackReply{}; });
  hub.devices().SetHandler("", [](const LoopbackCall&) {
    LoopbackReply reply;
    reply.status = 404;
    return reply;
  });
}

std::string At(Hub& hub, absl::Duration from_now) {
  return absl::StrCat(",\"startTime\":\"",
                      FormatInstant(hub.time.Now() + from_now), "\"");
}

// 10.2
TEST(Scenario, MethodJob) {
  Hub hub;
  Script(hub);
  hub.AddDevice("myDeviceId");
  const std::string id = "4f0c9a7d-21e8-4b6f-9b0a-1c2d3e4f5a6b";
  auto created = hub.Create(MethodJob(id, "deviceId IN ['myDeviceId']",
                                      At(hub, absl::ZeroDuration())));
  ASSERT_TRUE(created.ok()) << created.status();
  EXPECT_EQ(created->status, JobStatus::kQueued);

  const JobInfo job = hub.Finish(id);
  EXPECT_EQ(job.status, JobStatus::kCompleted);
  EXPECT_EQ(Counts(job), "1 / f0 s1 r0 p0");
  EXPECT_TRUE(job.end_time.has_value());
  const auto& method = std::get<MethodAction>(job.action);
  EXPECT_EQ(method.method_name, "lockDoor");
  EXPECT_EQ(method.response_timeout_seconds, 15);

  const auto calls = hub.devices().calls();
  ASSERT_EQ(calls.size(), 1);
  EXPECT_EQ(calls[0].method, "lockDoor");
  EXPECT_EQ(calls[0].payload, "null");

  const auto rows = hub.Query(absl::StrCat(
      "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '", id, "'"));
  ASSERT_EQ(rows.size(), 1);
  auto row = ParseJson(rows[0]);
  ASSERT_TRUE(row.ok());
  EXPECT_EQ(row->view().Find("status").string_value(), "completed");
  const JsonView response =
      row->view().Find("outcome").Find("deviceMethodResponse");
  EXPECT_EQ(response.Find("status").int_value(), 200);
  EXPECT_TRUE(response.Find("payload").is_null());
}

// 10.3
TEST(Scenario, TwinJob) {
  Hub hub;
  Script(hub);
  hub.AddDevice("myDeviceId", true, R"("tags":{"site":"north"})");
  const Json before = hub.Twin("myDeviceId");
  ASSERT_TRUE(hub.Create(TwinJob("twin-1", "deviceId IN ['myDeviceId']",
                                 R"({"etag":"*","properties":{"desired":)"
                                 R"({"building":"43","floor":3}}})"))
                  .ok());
  const JobInfo job = hub.Finish("twin-1");
  EXPECT_EQ(job.status, JobStatus::kCompleted);
  EXPECT_EQ(Counts(job), "1 / f0 s1 r0 p0");

  const Json after = hub.Twin("myDeviceId");
  const JsonView desired = after.view().Find("properties").Find("desired");
  EXPECT_EQ(desired.Find("building").string_value(), "43");
  EXPECT_EQ(desired.Find("floor").int_value(), 3);
  EXPECT_EQ(desired.Find("$version").int_value(), before.view()
                                                          .Find("properties")
                                                          .Find("desired")
                                                          .Find("$version")
                                                          .int_value() +
                                                      1);
  EXPECT_NE(after.view().Find("etag").string_value(),
            before.view().Find("etag").string_value());
  EXPECT_EQ(JsonText(after.view().Find("tags")), R"({"site":"north"})");

  hub.time.RunReady();
  const auto told = hub.devices().notifications();
  ASSERT_EQ(told.size(), 1);
  EXPECT_EQ(told[0].device_id, "myDeviceId");
  EXPECT_EQ(told[0].patch, R"({"building":"43","floor":3})");
  EXPECT_EQ(told[0].version, desired.Find("$version").int_value());

  auto reported = hub.engine().PatchReported("myDeviceId", R"({"floor":3})");
  ASSERT_TRUE(reported.ok()) << reported.status();
  EXPECT_EQ(reported->reported_version, 2);
  EXPECT_EQ(hub.Twin("myDeviceId")
                .view()
                .Find("properties")
                .Find("reported")
                .Find("floor")
                .int_value(),
            3);

  const ExecutionRecord record = hub.Record("twin-1", "myDeviceId");
  EXPECT_EQ(record.status, ExecutionStatus::kCompleted);
  EXPECT_FALSE(record.response.has_value());
  EXPECT_EQ(record.error_code, ErrorCode::kOk);
  std::string text;
  AppendExecutionJson(record, &text);
  EXPECT_TRUE(
      absl::StrContains(text, R"("outcome":{"deviceMethodResponse":null})"))
      << text;
}

// 10.3, Java variant.
TEST(Scenario, JavaOrder) {
  Hub hub({.profile = *FindProfile("s1")});
  Script(hub);
  hub.AddDevice("myDeviceId");
  const std::string start = FormatInstant(hub.time.Now() - absl::Seconds(1));
  ASSERT_TRUE(hub.Create(TwinJob("DPCMD5f0c", "deviceId='myDeviceId'",
                                 R"({"etag":"*","properties":{"desired":)"
                                 R"({"Building":43,"Floor":3}}})",
                                 R"(,"maxExecutionTimeInSeconds":30)"))
                  .ok());
  EXPECT_EQ(hub.Finish("DPCMD5f0c").status, JobStatus::kCompleted);
  ASSERT_TRUE(hub.Create(MethodJob("DMCMD5f0c", "deviceId='myDeviceId'")).ok());
  EXPECT_EQ(hub.Finish("DMCMD5f0c").status, JobStatus::kCompleted);
  EXPECT_EQ(hub.Query(absl::StrCat("SELECT * FROM devices.jobs WHERE "
                                   "devices.jobs.startTimeUtc > '",
                                   start, "'"))
                .size(),
            2);
}

// 2.13
TEST(Scenario, TimelineOfAScheduledJob) {
  Hub hub;
  for (absl::string_view id : {"a", "b", "c"}) hub.AddDevice(id);
  hub.AddDevice("offline", /*connected=*/false);
  hub.devices().SetHandler("lockDoor", [](const LoopbackCall& call) {
    LoopbackReply reply;
    reply.delay = absl::Seconds(1);
    if (call.device_id == "a") reply.status = 500;
    if (call.device_id == "c") reply.delay = absl::Seconds(2);
    return reply;
  });
  ASSERT_TRUE(
      hub.Create(absl::StrCat(
                     R"({"jobId":"t","type":"scheduleDeviceMethod",)",
                     R"("cloudToDeviceMethod":{"methodName":"lockDoor"},)",
                     R"("queryCondition":"*","maxExecutionTimeInSeconds":60)",
                     At(hub, absl::Seconds(3600)), "}"))
          .ok());
  EXPECT_EQ(hub.Status("t"), JobStatus::kQueued);
  hub.time.Advance(absl::Seconds(1));
  EXPECT_EQ(hub.Status("t"), JobStatus::kScheduled);
  EXPECT_EQ(Counts(hub.Get("t")), "none");
  hub.time.Advance(absl::Seconds(3599));
  EXPECT_EQ(hub.Status("t"), JobStatus::kRunning);
  EXPECT_EQ(Counts(hub.Get("t")), "4 / f0 s0 r3 p1");
  hub.time.Advance(absl::Seconds(2));
  EXPECT_EQ(Counts(hub.Get("t")), "4 / f0 s3 r0 p1");
  auto refused = hub.engine().CancelJob("t");
  EXPECT_EQ(ErrorCodeOf(refused.status()),
            ErrorCode::kOperationNotAllowedInCurrentState);
  EXPECT_EQ(refused.status().message(),
            "Job cannot be cancelled in 'Running' status.");
  hub.time.Advance(absl::Seconds(57));
  EXPECT_EQ(hub.Status("t"), JobStatus::kRunning);
  hub.time.Advance(absl::Seconds(1));
  const JobInfo job = hub.Get("t");
  EXPECT_EQ(job.status, JobStatus::kCompleted);
  EXPECT_EQ(Counts(job), "4 / f1 s3 r0 p0");
  EXPECT_EQ(*job.end_time - job.start_time, absl::Seconds(60));
  hub.time.Advance(absl::Hours(24 * 30) - absl::Nanoseconds(1));
  EXPECT_TRUE(hub.engine().GetJob("t").ok());
  hub.time.Advance(absl::Nanoseconds(1));
  EXPECT_EQ(ErrorCodeOf(hub.engine().GetJob("t").status()),
            ErrorCode::kJobNotFound);
}

TEST(Variations, V1CancelRightAfterPut) {
  Hub hub;
  hub.AddDevice("d");
  auto created = hub.Create(MethodJob("v1", "*", At(hub, absl::Hours(1))));
  ASSERT_TRUE(created.ok()) << created.status();
  EXPECT_EQ(created->status, JobStatus::kQueued);
  auto cancelled = hub.engine().CancelJob("v1");
  ASSERT_TRUE(cancelled.ok()) << cancelled.status();
  EXPECT_EQ(cancelled->status, JobStatus::kCancelled);
  hub.time.Advance(absl::Hours(2));
  EXPECT_EQ(hub.Status("v1"), JobStatus::kCancelled);
  EXPECT_TRUE(hub.Records("v1").empty());
  EXPECT_TRUE(hub.Query("SELECT * FROM devices.jobs").empty());
  EXPECT_TRUE(hub.devices().calls().empty());
  // A second cancel finds it so.
  EXPECT_EQ(hub.engine().CancelJob("v1")->status, JobStatus::kCancelled);
}

TEST(Variations, V2CancelWhenScheduled) {
  Hub hub;
  hub.AddDevice("d");
  ASSERT_TRUE(hub.Create(MethodJob("v2", "*", At(hub, absl::Hours(1)))).ok());
  hub.time.Advance(absl::Seconds(5));
  EXPECT_EQ(hub.Status("v2"), JobStatus::kScheduled);
  EXPECT_EQ(hub.engine().CancelJob("v2")->status, JobStatus::kCancelled);
  hub.time.Advance(absl::Hours(2));
  EXPECT_TRUE(hub.devices().calls().empty());
}

TEST(Variations, V3CancelWhileRunning) {
  Hub hub;
  hub.AddDevice("d");
  hub.devices().SetHandler("lockDoor", [](const LoopbackCall&) {
    LoopbackReply reply;
    reply.delay = absl::Seconds(3);
    return reply;
  });
  ASSERT_TRUE(hub.Create(MethodJob("v3", "*")).ok());
  hub.time.Advance(absl::Seconds(1));
  EXPECT_EQ(hub.Status("v3"), JobStatus::kRunning);
  EXPECT_EQ(ErrorCodeOf(hub.engine().CancelJob("v3").status()),
            ErrorCode::kOperationNotAllowedInCurrentState);
  EXPECT_EQ(Counts(hub.Finish("v3")), "1 / f0 s1 r0 p0");
  auto ended = hub.engine().CancelJob("v3").status();
  EXPECT_EQ(ErrorCodeOf(ended), ErrorCode::kOperationNotAllowedInCurrentState);
  EXPECT_EQ(ended.message(), "Job cannot be cancelled in 'Completed' status.");
}

TEST(Variations, V4DeviceStaysOffline) {
  Hub hub;
  Script(hub);
  hub.AddDevice("d", /*connected=*/false);
  const absl::Time start = hub.time.Now();
  ASSERT_TRUE(
      hub.Create(absl::StrCat(R"({"jobId":"v4","type":"scheduleDeviceMethod",)",
                              R"("cloudToDeviceMethod":{"methodName":"x"},)",
                              R"("queryCondition":"*",)",
                              R"("maxExecutionTimeInSeconds":10})"))
          .ok());
  const JobInfo job = hub.Finish("v4");
  EXPECT_EQ(job.status, JobStatus::kCompleted);
  EXPECT_EQ(Counts(job), "1 / f1 s0 r0 p0");
  EXPECT_EQ(*job.end_time - start, absl::Seconds(10));
  const ExecutionRecord record = hub.Record("v4", "d");
  EXPECT_EQ(record.error_code, ErrorCode::kDeviceNotOnline);
  EXPECT_EQ(record.error_description,
            "Timed out waiting for device to connect.");
  EXPECT_FALSE(record.start_time.has_value());
}

TEST(Variations, V5DeviceConnectsInTime) {
  Hub hub;
  Script(hub);
  hub.AddDevice("d", /*connected=*/false);
  ASSERT_TRUE(hub.Create(MethodJob("v5", "*")).ok());
  hub.time.Advance(absl::Seconds(4));
  EXPECT_EQ(Counts(hub.Get("v5")), "1 / f0 s0 r0 p1");
  hub.devices().SetConnected("d", true);
  hub.time.RunReady();
  const JobInfo job = hub.Get("v5");
  EXPECT_EQ(job.status, JobStatus::kCompleted);
  EXPECT_EQ(Counts(job), "1 / f0 s1 r0 p0");
}

TEST(Variations, V6HandlerNeverAnswers) {
  Hub hub;
  hub.AddDevice("d");
  hub.devices().SetHandler(
      "lockDoor", [](const LoopbackCall&) { return LoopbackReply::Never(); });
  const absl::Time start = hub.time.Now();
  ASSERT_TRUE(
      hub.Create(absl::StrCat(
                     R"({"jobId":"v6","type":"scheduleDeviceMethod",)",
                     R"("cloudToDeviceMethod":{"methodName":"lockDoor",)",
                     R"("responseTimeoutInSeconds":5},"queryCondition":"*",)",
                     R"("maxExecutionTimeInSeconds":30})"))
          .ok());
  const JobInfo job = hub.Finish("v6");
  EXPECT_EQ(job.status, JobStatus::kCompleted);
  EXPECT_EQ(Counts(job), "1 / f1 s0 r0 p0");
  EXPECT_EQ(*job.end_time - start, absl::Seconds(5));
  const ExecutionRecord record = hub.Record("v6", "d");
  EXPECT_EQ(record.error_code, ErrorCode::kGatewayTimeout);
  EXPECT_EQ(record.error_description,
            "Timed out waiting for the response from device.");
}

TEST(Variations, V7HandlerAnswersAnError) {
  Hub hub;
  hub.AddDevice("d");
  hub.devices().SetHandler("lockDoor", [](const LoopbackCall&) {
    LoopbackReply reply;
    reply.status = 500;
    reply.payload = R"({"why":"jammed"})";
    return reply;
  });
  ASSERT_TRUE(hub.Create(MethodJob("v7", "*")).ok());
  EXPECT_EQ(Counts(hub.Finish("v7")), "1 / f0 s1 r0 p0");
  const ExecutionRecord record = hub.Record("v7", "d");
  ASSERT_TRUE(record.response.has_value());
  EXPECT_EQ(record.response->status, 500);
  EXPECT_EQ(record.response->payload, R"({"why":"jammed"})");
}

TEST(Variations, V8DisabledDevice) {
  Hub hub;
  Script(hub);
  for (absl::string_view id : {"a", "b", "c"}) hub.AddDevice(id);
  ASSERT_TRUE(hub.engine().SetTwinEnabled("b", false).ok());
  ASSERT_TRUE(hub.Create(MethodJob("v8", "*")).ok());
  EXPECT_EQ(Counts(hub.Finish("v8")), "3 / f1 s2 r0 p0");
  EXPECT_EQ(hub.Record("v8", "b").error_code, ErrorCode::kDeviceNotFound);
  // Patches apply to disabled devices.
  ASSERT_TRUE(hub.Create(TwinJob("v8-twin", "*", R"({"tags":{"x":1}})")).ok());
  EXPECT_EQ(Counts(hub.Finish("v8-twin")), "3 / f0 s3 r0 p0");
}

TEST(Variations, V9NobodyMatches) {
  Hub hub;
  hub.AddDevice("d");
  ASSERT_TRUE(hub.Create(MethodJob("v9", "tags.nope = 1")).ok());
  const JobInfo job = hub.Finish("v9");
  EXPECT_EQ(job.status, JobStatus::kCompleted);
  EXPECT_EQ(Counts(job), "0 / f0 s0 r0 p0");
}

TEST(Variations, V10SameIdTwice) {
  Hub hub;
  hub.AddDevice("d");
  ASSERT_TRUE(hub.Create(MethodJob("v10", "*")).ok());
  auto again = hub.Create(MethodJob("v10", "*"));
  EXPECT_EQ(ErrorCodeOf(again.status()), ErrorCode::kJobAlreadyExists);
  hub.Finish("v10");
  again = hub.Create(MethodJob("v10", "*"));
  EXPECT_EQ(ErrorCodeOf(again.status()), ErrorCode::kJobAlreadyExists);
}

TEST(Variations, V11BrokenCondition) {
  Hub hub;
  auto created = hub.Create(MethodJob("v11", "deviceId = "));
  EXPECT_EQ(ErrorCodeOf(created.status()), ErrorCode::kArgumentInvalid);
  EXPECT_EQ(ErrorCodeOf(hub.engine().GetJob("v11").status()),
            ErrorCode::kJobNotFound);
  EXPECT_TRUE(hub.engine().ListJobs()->jobs.empty());
}

TEST(Variations, V11BrokenConditionFoundWhenDue) {
  Hub hub({.validate_condition_on_create = false});
  ASSERT_TRUE(hub.Create(MethodJob("v11", "deviceId = ")).ok());
  const JobInfo job = hub.Finish("v11");
  EXPECT_EQ(job.status, JobStatus::kFailed);
  EXPECT_TRUE(absl::StartsWith(
      job.failure_reason, "SQL query parse failed due to following errors:"))
      << job.failure_reason;
  EXPECT_TRUE(job.end_time.has_value());
}

TEST(Variations, V12BadIds) {
  Hub hub;
  for (const std::string& id :
       {std::string("a_b"), std::string(65, 'x'), std::string("query")}) {
    EXPECT_EQ(ErrorCodeOf(hub.Create(MethodJob(id, "*")).status()),
              ErrorCode::kArgumentInvalid)
        << id;
  }
}

TEST(Variations, V13Etag) {
  Hub hub;
  EXPECT_EQ(
      ErrorCodeOf(hub.Create(TwinJob("v13", "*", R"({"etag":"abc","tags":{}})"))
                      .status()),
      ErrorCode::kPreconditionFailed);
}

TEST(Variations, V14DeviceCreatedAfterTheStart) {
  Hub hub;
  hub.AddDevice("early", /*connected=*/false);
  Script(hub);
  ASSERT_TRUE(hub.Create(MethodJob("v14", "*")).ok());
  hub.time.Advance(absl::Seconds(1));
  hub.AddDevice("late");
  hub.devices().SetConnected("early", true);
  EXPECT_EQ(Counts(hub.Finish("v14")), "1 / f0 s1 r0 p0");
  ASSERT_EQ(hub.devices().calls().size(), 1);
  EXPECT_EQ(hub.devices().calls()[0].device_id, "early");
}

TEST(Variations, V15TagChangedAfterTheStart) {
  Hub hub;
  Script(hub);
  hub.AddDevice("d", /*connected=*/false, R"("tags":{"ring":"slow"})");
  ASSERT_TRUE(hub.Create(MethodJob("v15", "tags.ring = 'slow'")).ok());
  hub.time.Advance(absl::Seconds(1));
  ASSERT_TRUE(hub.engine().PatchTwin("d", R"({"tags":{"ring":"fast"}})").ok());
  hub.devices().SetConnected("d", true);
  EXPECT_EQ(Counts(hub.Finish("v15")), "1 / f0 s1 r0 p0");
}

TEST(Variations, V16PatchOverTheLimitOfOneDevice) {
  Hub hub;
  std::string members = R"("properties":{"desired":{)";
  for (int i = 0; i < 8; ++i) {
    absl::StrAppend(&members, i > 0 ? "," : "", "\"k", i, "\":\"",
                    std::string(4000, 'x'), "\"");
  }
  absl::StrAppend(&members, "}}");
  hub.AddDevice("full", true, members);
  hub.AddDevice("empty");
  const Json before = hub.Twin("full");
  ASSERT_TRUE(
      hub.Create(TwinJob("v16", "*",
                         absl::StrCat(R"({"properties":{"desired":{"more":")",
                                      std::string(3000, 'y'), R"("}}})")))
          .ok());
  EXPECT_EQ(Counts(hub.Finish("v16")), "2 / f1 s1 r0 p0");
  const ExecutionRecord record = hub.Record("v16", "full");
  EXPECT_EQ(record.status, ExecutionStatus::kFailed);
  EXPECT_EQ(record.error_code, ErrorCode::kMessageTooLarge);
  EXPECT_EQ(hub.Twin("full"), before);
}

TEST(Variations, V17NullRemovesAndIsTold) {
  Hub hub;
  hub.AddDevice("d", true, R"("properties":{"desired":{"a":1,"b":2}})");
  ASSERT_TRUE(hub.Create(TwinJob("v17", "*",
                                 R"({"properties":{"desired":{"a":null}}})"))
                  .ok());
  hub.Finish("v17");
  const Json twin = hub.Twin("d");
  const JsonView desired = twin.view().Find("properties").Find("desired");
  EXPECT_TRUE(desired.Find("a").is_undefined());
  EXPECT_EQ(desired.Find("b").int_value(), 2);
  hub.time.RunReady();
  ASSERT_EQ(hub.devices().notifications().size(), 1);
  EXPECT_EQ(hub.devices().notifications()[0].patch, R"({"a":null})");
}

TEST(Variations, V18ListingByPages) {
  Hub hub;
  Script(hub);
  hub.AddDevice("d");
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(hub.Create(MethodJob(absl::StrCat("m", i), "*")).ok());
    hub.Finish(absl::StrCat("m", i));
    ASSERT_TRUE(
        hub.Create(TwinJob(absl::StrCat("t", i), "*", R"({"tags":{}})")).ok());
    hub.Finish(absl::StrCat("t", i));
    hub.time.Advance(absl::Seconds(1));
  }
  const JobFilter filter{JobType::kDeviceMethod, *ParseJobStatus("Completed")};
  std::vector<std::string> ids;
  std::string continuation;
  do {
    auto page = hub.engine().ListJobs(filter, 1, continuation);
    ASSERT_TRUE(page.ok()) << page.status();
    ASSERT_EQ(page->jobs.size(), 1);
    ids.push_back(page->jobs[0].job_id);
    continuation = page->continuation;
  } while (!continuation.empty());
  EXPECT_EQ(ids, (std::vector<std::string>{"m2", "m1", "m0"}));
  // A continuation belongs to its filters.
  auto first = hub.engine().ListJobs(filter, 1);
  EXPECT_EQ(
      ErrorCodeOf(hub.engine().ListJobs({}, 1, first->continuation).status()),
      ErrorCode::kArgumentInvalid);
}

TEST(Variations, V19ThirtyDaysLater) {
  Hub hub;
  Script(hub);
  hub.AddDevice("d");
  ASSERT_TRUE(hub.Create(MethodJob("v19", "*")).ok());
  hub.Finish("v19");
  hub.time.Advance(absl::Hours(24 * 30));
  EXPECT_EQ(ErrorCodeOf(hub.engine().GetJob("v19").status()),
            ErrorCode::kJobNotFound);
  EXPECT_EQ(ErrorCodeOf(hub.engine().CancelJob("v19").status()),
            ErrorCode::kJobNotFound);
  EXPECT_TRUE(hub.engine().ListJobs()->jobs.empty());
  EXPECT_TRUE(hub.Query("SELECT * FROM devices.jobs").empty());
  EXPECT_TRUE(hub.Create(MethodJob("v19", "*")).ok());
  EXPECT_EQ(Counts(hub.Finish("v19")), "1 / f0 s1 r0 p0");
}

TEST(Variations, V20ActiveLimitRejects) {
  Hub hub({.profile = *FindProfile("s1")});
  hub.AddDevice("d", /*connected=*/false);
  ASSERT_TRUE(hub.Create(MethodJob("one", "*")).ok());
  auto second = hub.Create(MethodJob("two", "*"));
  EXPECT_EQ(ErrorCodeOf(second.status()),
            ErrorCode::kThrottlingMaxActiveJobCountExceeded);
  EXPECT_EQ(second.status().message(), "Active job limit 1 reached");
  // A future one does not count yet.
  EXPECT_TRUE(
      hub.Create(MethodJob("later", "*", At(hub, absl::Hours(1)))).ok());
  hub.Finish("one");
  EXPECT_TRUE(hub.Create(MethodJob("two", "*")).ok());
}

TEST(Variations, V20ActiveLimitQueues) {
  Hub hub({.profile = *FindProfile("s1"),
           .on_active_limit = ActiveLimitPolicy::kQueue});
  Script(hub);
  hub.AddDevice("d", /*connected=*/false);
  ASSERT_TRUE(hub.Create(MethodJob("one", "*")).ok());
  ASSERT_TRUE(hub.Create(MethodJob("two", "*")).ok());
  hub.time.Advance(absl::Seconds(1));
  EXPECT_EQ(hub.Status("one"), JobStatus::kRunning);
  EXPECT_EQ(hub.Status("two"), JobStatus::kQueued);
  hub.devices().SetConnected("d", true);
  hub.time.RunReady();
  EXPECT_EQ(hub.Status("one"), JobStatus::kCompleted);
  EXPECT_EQ(hub.Status("two"), JobStatus::kCompleted);
}

TEST(Variations, V21TwoFutureJobsOneSlot) {
  Hub hub({.profile = *FindProfile("s1")});
  Script(hub);
  hub.AddDevice("d", /*connected=*/false);
  ASSERT_TRUE(hub.Create(MethodJob("a", "*", At(hub, absl::Hours(1)))).ok());
  ASSERT_TRUE(hub.Create(MethodJob("b", "*", At(hub, absl::Hours(1)))).ok());
  hub.time.Advance(absl::Seconds(3601));
  EXPECT_EQ(hub.Status("a"), JobStatus::kRunning);
  EXPECT_EQ(hub.Status("b"), JobStatus::kQueued);
  EXPECT_EQ(Counts(hub.Get("b")), "none");
  // It can still be cancelled, or run when its turn comes.
  hub.devices().SetConnected("d", true);
  EXPECT_EQ(Counts(hub.Finish("a")), "1 / f0 s1 r0 p0");
  EXPECT_EQ(Counts(hub.Finish("b")), "1 / f0 s1 r0 p0");
}

TEST(Variations, BasicTierHasNoJobs) {
  Hub hub({.profile = *FindProfile("basic")});
  EXPECT_EQ(ErrorCodeOf(hub.Create(MethodJob("x", "*")).status()),
            ErrorCode::kOperationNotAvailableInCurrentTier);
}

TEST(Variations, StartFarInTheFutureAndInThePast) {
  Hub hub;
  hub.AddDevice("d");
  Script(hub);
  ASSERT_TRUE(hub.Create(MethodJob("far", "*",
                                   R"(,"startTime":"2050-01-01T00:00:00Z")"))
                  .ok());
  ASSERT_TRUE(hub.Create(MethodJob("past", "*",
                                   R"(,"startTime":"2001-01-01T00:00:00Z")"))
                  .ok());
  const JobInfo past = hub.Finish("past");
  EXPECT_EQ(FormatInstant(past.start_time), "2001-01-01T00:00:00.0000000Z");
  EXPECT_EQ(hub.Status("far"), JobStatus::kScheduled);
  const JobInfo far = hub.Finish("far");
  EXPECT_EQ(FormatInstant(*far.end_time), "2050-01-01T00:00:00.0000000Z");
}

}  // namespace
}  // namespace muster
