// A hub that is asked as the vendor's Node clients ask it: their paths, headers
// and tokens (wire-facts 2 to 8), on simulated time.
//
// Of every answer its form is checked, and of every job that is read that its
// books are right and never go backwards.
#ifndef TESTS_SDK_HUB_H_
#define TESTS_SDK_HUB_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/rest_hub.h"
#include "tests/sas_signing.h"
#include "transport/auth/access.h"

namespace muster {

// As encodeURIComponent() does it.
inline std::string EncodeUriComponent(absl::string_view text) {
  std::string encoded;
  for (const char c : text) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
        absl::StrContains("-_.!~*'()", c)) {
      encoded.push_back(c);
    } else {
      absl::StrAppendFormat(&encoded, "%%%02X", static_cast<unsigned char>(c));
    }
  }
  return encoded;
}

// As Date.toISOString() does it.
inline std::string IsoString(absl::Time time) {
  return absl::FormatTime("%E4Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone());
}

// JSON text without the white space between its tokens.
inline std::string Compact(absl::string_view json) {
  std::string compact;
  bool in_string = false;
  for (size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_string) {
      compact.push_back(c);
      if (c == '\\') compact.push_back(json[++i]);
      if (c == '"') in_string = false;
    } else if (!absl::ascii_isspace(static_cast<unsigned char>(c))) {
      compact.push_back(c);
      if (c == '"') in_string = true;
    }
  }
  return compact;
}

// The text of a member, or "" if it is no string or is not there.
inline std::string Text(JsonView object, absl::string_view member) {
  const JsonView value = object.Find(member);
  return value.is_string() ? std::string(value.string_value()) : "";
}

// The text of a value; "undefined" for none.
inline std::string Shown(JsonView value) {
  return value.is_undefined() ? "undefined" : JsonText(value);
}

// "device_count / f s r p" of a job as it was read; "none" without statistics.
inline std::string Counts(const Json& job) {
  const JsonView s = job.view().Find("deviceJobStatistics");
  if (!s.is_object()) return "none";
  const auto count = [&](absl::string_view name) {
    const JsonView value = s.Find(name);
    return value.is_integer() ? absl::StrCat(value.int_value()) : "?";
  };
  return absl::StrCat(count("deviceCount"), " / f", count("failedCount"), " s",
                      count("succeededCount"), " r", count("runningCount"),
                      " p", count("pendingCount"));
}

// Whether `answer` is the envelope of contract 4.6, form A, for that error.
inline testing::AssertionResult IsError(const RestAnswer& answer,
                                        ErrorCode code,
                                        absl::string_view text = "") {
  const ErrorInfo& info = ErrorInfoOf(code);
  if (answer.status != info.http_status || answer.error() != info.name) {
    return testing::AssertionFailure()
           << "expected " << info.http_status << " " << info.name << "; got "
           << answer.status << " " << answer.error() << ": " << answer.body;
  }
  if (!text.empty() && answer.message() != text) {
    return testing::AssertionFailure()
           << "expected \"" << text << "\"; got " << answer.body;
  }
  return testing::AssertionSuccess();
}

class SdkHub : public RestHub {
 public:
  static constexpr char kHubName[] = "hub.example.net";
  // Of the policies of contract 4.8, each of them.
  static constexpr char kKey[] = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
  static constexpr char kVersion[] = "?api-version=2021-04-12";

  // The surface has the engine's profile.  `random`: null for RestHub's.
  explicit SdkHub(const EngineOptions& engine = {},
                  const LoopbackOptions& devices = {},
                  RandomSource random = nullptr)
      : RestHub(engine, Rest(engine, std::move(random)), devices) {}

  // Whose token the following requests have.
  std::string policy = "iothubowner";

  // A new one for every request, as the clients make it.
  std::string Token() {
    const std::string expiry =
        absl::StrCat(absl::ToUnixSeconds(time.Now()) + 3600);
    return absl::StrCat(
        "SharedAccessSignature sr=", kHubName,
        "&sig=", EncodeUriComponent(SasSignature(kKey, kHubName, expiry)),
        "&skn=", policy, "&se=", expiry);
  }

  // The answer may take time, which passes then.
  RestAnswer Call(absl::string_view method, absl::string_view target,
                  std::optional<absl::string_view> body = std::nullopt,
                  HttpHeaders headers = {}) {
    headers.insert(
        headers.begin(),
        {{"Authorization", Token()},
         {"Request-Id",
          absl::StrFormat("5f0c9a7d-21e8-4b6f-9b0a-%012x", ++requests_)},
         {"User-Agent", "azure-iothub/1.16.6"},
         {"Host", kHubName}});
    const HttpRequest request =
        Request(method, target, body.value_or(""), std::move(headers));
    const std::shared_ptr<Pending> pending = Start(request);
    time.RunUntil([&] { return !pending->answers.empty(); }, absl::Hours(1));
    EXPECT_EQ(pending->answers.size(), 1u) << method << " " << target;
    if (pending->answers.empty()) return {};
    CheckForm(request, pending->answers[0]);
    return pending->answers[0];
  }

  // ------------------------------------------------------------- JobClient

  RestAnswer PutJob(absl::string_view id, absl::string_view body) {
    return Call("PUT",
                absl::StrCat("/jobs/v2/", EncodeUriComponent(id), kVersion),
                body);
  }
  // The client does not encode the id here.
  RestAnswer GetJob(absl::string_view id) {
    RestAnswer answer = Call("GET", absl::StrCat("/jobs/v2/", id, kVersion));
    if (answer.status == 200) CheckBooks(id, answer.Document());
    return answer;
  }
  RestAnswer CancelJob(absl::string_view id) {
    return Call("POST", absl::StrCat("/jobs/v2/", EncodeUriComponent(id),
                                     "/cancel", kVersion));
  }
  // One page; filters that are empty are not sent.
  RestAnswer ListJobs(absl::string_view type, absl::string_view status,
                      int page_size = 0, absl::string_view continuation = "") {
    std::string target = absl::StrCat("/jobs/v2/query", kVersion);
    if (!status.empty()) absl::StrAppend(&target, "&jobStatus=", status);
    if (!type.empty()) absl::StrAppend(&target, "&jobType=", type);
    return Call("GET", target, std::nullopt, Paging(page_size, continuation));
  }

  // A job that is there.
  Json Job(absl::string_view id) {
    const RestAnswer answer = GetJob(id);
    EXPECT_EQ(answer.status, 200) << answer.body;
    return answer.Document();
  }
  std::string StatusOf(absl::string_view id) {
    return Text(Job(id).view(), "status");
  }
  // Polls as the tutorials do it: every five seconds, until the job has ended.
  Json FinishJob(absl::string_view id) {
    for (int i = 0; i < 10'000; ++i) {
      Json job = Job(id);
      if (IsEnd(Text(job.view(), "status"))) return job;
      time.Advance(absl::Seconds(5));
    }
    ADD_FAILURE() << id << " does not end";
    return Job(id);
  }

  // As scheduleDeviceMethod() writes it.  `start` as JSON.
  static std::string MethodJob(absl::string_view id,
                               absl::string_view condition,
                               absl::string_view start = "null",
                               int limit = 300, int response_timeout = 15) {
    return absl::StrCat(
        R"({"jobId":")", id, R"(","type":"scheduleDeviceMethod",)",
        R"("cloudToDeviceMethod":{"methodName":"lockDoor","payload":null,)",
        R"("responseTimeoutInSeconds":)", response_timeout, R"(},"startTime":)",
        start, R"(,"maxExecutionTimeInSeconds":)", limit,
        R"(,"queryCondition":")", condition, R"("})");
  }
  // As scheduleTwinUpdate() writes it.
  static std::string TwinJob(absl::string_view id, absl::string_view condition,
                             absl::string_view update,
                             absl::string_view start = "null",
                             int limit = 300) {
    return absl::StrCat(
        R"({"jobId":")", id, R"(","type":"scheduleUpdateTwin","updateTwin":)",
        update, R"(,"startTime":)", start, R"(,"maxExecutionTimeInSeconds":)",
        limit, R"(,"queryCondition":")", condition, R"("})");
  }
  // A start time in JSON.
  std::string In(absl::Duration from_now) {
    return absl::StrCat("\"", IsoString(time.Now() + from_now), "\"");
  }

  // ------------------------------------------------------ Registry, Query

  // As create() writes it; `more` begins with a comma.
  RestAnswer CreateDevice(absl::string_view id, absl::string_view more = "") {
    return Call("PUT", DevicePath(id), DeviceBody(id, more));
  }
  RestAnswer UpdateDevice(absl::string_view id, absl::string_view more,
                          absl::string_view etag = "*") {
    return Call("PUT", DevicePath(id), DeviceBody(id, more),
                {{"If-Match", absl::StrCat("\"", etag, "\"")}});
  }
  RestAnswer DeleteDevice(absl::string_view id) {
    return Call("DELETE", DevicePath(id), std::nullopt,
                {{"If-Match", "\"*\""}});
  }
  RestAnswer UpdateTwin(absl::string_view id, absl::string_view patch,
                        absl::string_view etag = "*") {
    return Call("PATCH", TwinPath(id), patch,
                {{"If-Match", absl::StrCat("\"", etag, "\"")}});
  }
  Json ReadTwin(absl::string_view id) {
    const RestAnswer answer = Call("GET", TwinPath(id));
    EXPECT_EQ(answer.status, 200) << answer.body;
    return answer.Document();
  }
  static std::string DevicePath(absl::string_view id) {
    return absl::StrCat("/devices/", EncodeUriComponent(id), kVersion);
  }
  static std::string TwinPath(absl::string_view id) {
    return absl::StrCat("/twins/", EncodeUriComponent(id), kVersion);
  }

  RestAnswer QueryPage(absl::string_view statement, int page_size = 0,
                       absl::string_view continuation = "") {
    std::string body = "{\"query\":";
    AppendJsonString(statement, &body);
    body += "}";
    return Call("POST", absl::StrCat("/devices/query", kVersion), body,
                Paging(page_size, continuation));
  }
  // All pages.
  std::vector<Json> Rows(absl::string_view statement, int page_size = 0) {
    std::vector<Json> rows;
    std::string continuation;
    do {
      const RestAnswer page = QueryPage(statement, page_size, continuation);
      EXPECT_EQ(page.status, 200) << page.body;
      const Json json = page.Document();
      for (const JsonView row : json.view().elements()) rows.emplace_back(row);
      continuation = page.Header("x-ms-continuation");
    } while (!continuation.empty());
    return rows;
  }
  std::vector<Json> JobRows(absl::string_view job_id) {
    return Rows(
        absl::StrCat("SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '",
                     job_id, "'"));
  }

  // ------------------------------------------------------------- devices

  // A device of the registry and the thing itself; with a twin, if there is
  // one.
  void Add(absl::string_view id, bool connected = true,
           absl::string_view twin = "") {
    const RestAnswer made = CreateDevice(id);
    EXPECT_EQ(made.status, 200) << made.body;
    if (!twin.empty()) {
      const RestAnswer patched = UpdateTwin(id, twin);
      EXPECT_EQ(patched.status, 200) << patched.body;
    }
    this->devices().AddDevices({id}, connected);
    time.RunReady();
  }
  void Connect(absl::string_view id, bool connected = true) {
    this->devices().SetConnected(id, connected);
    time.RunReady();
  }
  // Devices answer lockDoor with 200 and no body, anything else with 404.
  void SetScript() {
    this->devices().SetHandler(
        "lockDoor", [](const LoopbackCall&) { return LoopbackReply{}; });
    this->devices().SetHandler("", [](const LoopbackCall&) {
      LoopbackReply reply;
      reply.status = 404;
      return reply;
    });
  }

 private:
  static HubServiceOptions Rest(const EngineOptions& engine,
                                RandomSource random) {
    std::string file = R"({"policies":[)";
    const std::pair<absl::string_view, absl::string_view> policies[] = {
        {"iothubowner",
         R"("RegistryRead","RegistryWrite","ServiceConnect","DeviceConnect")"},
        {"service", R"("ServiceConnect")"},
        {"device", R"("DeviceConnect")"},
        {"registryRead", R"("RegistryRead")"},
        {"registryReadWrite", R"("RegistryRead","RegistryWrite")"},
    };
    for (const auto& [name, roles] : policies) {
      absl::StrAppend(&file, file.back() == '[' ? "" : ",", R"({"name":")",
                      name, R"(","roles":[)", roles, R"(],"primaryKey":")",
                      kKey, R"("})");
    }
    file += "]}";
    auto access = Access::Parse(file, {.hub_name = kHubName});
    MUSTER_CHECK(access.ok());
    return {.access = *std::move(access),
            .random = std::move(random),
            .profile = engine.profile};
  }

  static std::string DeviceBody(absl::string_view id, absl::string_view more) {
    std::string body = "{\"deviceId\":";
    AppendJsonString(id, &body);
    absl::StrAppend(&body, more);
    if (!absl::StrContains(more, "\"authentication\"")) {
      absl::StrAppend(&body, R"(,"authentication":{"type":"sas",)",
                      R"("symmetricKey":{"primaryKey":"","secondaryKey":""}})");
    }
    return body + "}";
  }

  static HttpHeaders Paging(int page_size, absl::string_view continuation) {
    HttpHeaders headers;
    if (page_size > 0) {
      headers.emplace_back("x-ms-max-item-count", absl::StrCat(page_size));
    }
    if (!continuation.empty()) {
      headers.emplace_back("x-ms-continuation", std::string(continuation));
    }
    return headers;
  }

  // Wire-facts 3.
  static void CheckForm(const HttpRequest& request, const RestAnswer& answer) {
    SCOPED_TRACE(absl::StrCat(request.method, " ", request.target, " -> ",
                              answer.status, " ", answer.body));
    if (answer.status == 204) {
      EXPECT_EQ(answer.body, "");
      return;
    }
    EXPECT_EQ(answer.Header("Content-Type"), "application/json; charset=utf-8");
    const Json json = answer.Document();
    if (answer.status < 300) {
      EXPECT_EQ(answer.status, 200);
      EXPECT_EQ(answer.error(), "");
      return;
    }
    const ErrorInfo* info = FindErrorByName(answer.error());
    ASSERT_NE(info, nullptr) << answer.error();
    EXPECT_EQ(answer.status, info->http_status);
    if (info->code == ErrorCode::kBulkRegistryOperationFailure) return;
    const std::string message = Text(json.view(), "Message");
    const std::string head = absl::StrCat("ErrorCode:", info->name, ";");
    EXPECT_TRUE(absl::StartsWith(message, head));
    EXPECT_GT(message.size(), head.size());
    EXPECT_FALSE(absl::StrContains(message.substr(head.size()), ';'));
    EXPECT_THAT(Text(json.view(), "ExceptionMessage"),
                ::testing::MatchesRegex(
                    "Tracking ID:[0-9a-f]{32}-G:[0-9]+-TimeStamp:"
                    "[0-9]{2}/[0-9]{2}/[0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2}"));
  }

  static bool IsEnd(absl::string_view status) {
    return status == "completed" || status == "failed" || status == "cancelled";
  }

  // Contract 1.8 and 2.3, as one who polls sees it.
  void CheckBooks(absl::string_view id, const Json& job) {
    SCOPED_TRACE(Shown(job.view()));
    const JsonView s = job.view().Find("deviceJobStatistics");
    Seen now{.status = Text(job.view(), "status")};
    EXPECT_EQ(job.view().Find("endTime").is_string(), IsEnd(now.status));
    if (now.status == "running" || now.status == "completed") {
      EXPECT_TRUE(s.is_object());
    }
    if (s.is_object()) {
      now.devices = s.Find("deviceCount").int_value();
      now.failed = s.Find("failedCount").int_value();
      now.succeeded = s.Find("succeededCount").int_value();
      const int64_t running = s.Find("runningCount").int_value();
      const int64_t pending = s.Find("pendingCount").int_value();
      EXPECT_GE(now.failed, 0);
      EXPECT_GE(now.succeeded, 0);
      EXPECT_GE(running, 0);
      EXPECT_GE(pending, 0);
      EXPECT_EQ(now.devices, now.failed + now.succeeded + running + pending);
      if (IsEnd(now.status)) {
        EXPECT_EQ(running, 0);
        EXPECT_EQ(pending, 0);
      }
    }
    // An id can be used again: then the job is another one.
    const auto [known, is_new] = seen_.emplace(
        absl::StrCat(id, "@", Text(job.view(), "createdTime")), now);
    Seen& before = known->second;
    if (!is_new && IsEnd(before.status)) {
      EXPECT_EQ(now.status, before.status);
    }
    if (!is_new && before.devices >= 0) {
      EXPECT_EQ(now.devices, before.devices);
      EXPECT_GE(now.failed, before.failed);
      EXPECT_GE(now.succeeded, before.succeeded);
    }
    before = now;
  }

  // Of a job when it was read last.
  struct Seen {
    std::string status;
    int64_t devices = -1;  // -1: no statistics yet.
    int64_t failed = 0;
    int64_t succeeded = 0;
  };

  uint64_t requests_ = 0;
  std::map<std::string, Seen> seen_;
};

}  // namespace muster

#endif  // TESTS_SDK_HUB_H_
