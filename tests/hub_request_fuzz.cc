// Requests of any form to a whole hub in memory, one after the other: each is
// answered exactly once, with an answer of correct form, and no answer shows a
// secret that is not its to show.
//
// The bytes decide what is asked: a route of the table or any path, ids, query,
// headers, bodies that are nearly right, continuations and etags that the hub
// has given before, and how much time passes between.
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/engine.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/json.h"
#include "engine/model/limits.h"
#include "tests/choices.h"
#include "tests/simulated/simulated_executor.h"
#include "transport/auth/access.h"
#include "transport/auth/sas_token.h"
#include "transport/http/http_server.h"
#include "transport/http/hub/hub_service.h"
#include "transport/http/hub/route.h"
#include "transport/http/hub/router.h"
#include "transport/loopback/loopback.h"

namespace muster {
namespace {

constexpr char kHost[] = "hub.example.net";
constexpr char kPolicyKey[] = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
// What callers give devices; each is written in one place of a body only.
constexpr const char* kDeviceKeys[] = {
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    "c2Vjb25kc2Vjb25kc2Vjb25kMDA=",
};
constexpr const char* kPolicies[] = {"iothubowner", "service", "device",
                                     "registryRead", "registryReadWrite"};
constexpr int kRequestsMax = 12;

const std::vector<hub::Route>& Routes() {
  static const auto& routes = *new std::vector<hub::Route>(hub::AllRoutes());
  return routes;
}

SasKey Key(absl::string_view base64) {
  return SasKey::FromBase64(base64).value();
}

std::shared_ptr<const Access> MakeAccess(Engine* engine) {
  Access::Options options;
  options.hub_name = kHost;
  for (const char* policy : kPolicies) {
    options.default_policies.push_back(
        {.name = policy, .keys = {Key(kPolicyKey)}});
  }
  options.device_keys = [engine](absl::string_view device) {
    std::vector<SasKey> keys;
    const absl::StatusOr<DeviceIdentity> identity = engine->GetDevice(device);
    if (!identity.ok() || !identity->enabled) return keys;
    for (const std::string& text :
         {identity->primary_key, identity->secondary_key}) {
      absl::StatusOr<SasKey> key = SasKey::FromBase64(text);
      if (key.ok()) keys.push_back(*std::move(key));
    }
    return keys;
  };
  return Access::Create(options).value();
}

// ------------------------------------------------------------- what is asked

class Fuzzer {
 public:
  explicit Fuzzer(absl::string_view input) : choices_(input), input_(input) {
    LoopbackOptions devices;
    devices.no_answer_share = 0.2;
    devices.bad_response_share = 0.2;
    devices.response_payload =
        R"({"device":"${device_id}","got":"${payload}"})";
    transport_ = LoopbackTransport::Create(devices, &time_, &time_).value();
    EngineOptions engine_options;
    engine_options.transport = transport_.get();
    engine_options.clock = &time_;
    engine_options.executor = &time_;
    HubServiceOptions options;
    if (choices_.OneIn(4)) {
      options.profile.job_operations_per_minute = 3;
      options.profile.queries_per_minute = 3;
      options.profile.twin_reads_per_minute = 3;
      options.profile.twin_updates_per_minute = 3;
      options.profile.direct_method_steps_per_minute = 3;
      options.profile.identity_operations_per_minute = 3;
      engine_options.profile.active_jobs_max = 1;
    }
    engine_ = Engine::Create(engine_options).value();
    transport_->AddDevices({"d1", "d%2"}, true);
    MUSTER_CHECK(
        engine_->UpsertTwin(R"({"deviceId":"d1","tags":{"a":1}})").ok());
    options.engine = engine_.get();
    options.clock = &time_;
    open_ = choices_.OneIn(2);
    if (!open_) options.access = MakeAccess(engine_.get());
    options.random = [this](absl::Span<uint8_t> bytes) {
      for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(++random_ * 37);
      if (bytes.size() == 16) return;  // A tracking id.
      secrets_.push_back(absl::Base64Escape(absl::string_view(
          reinterpret_cast<const char*>(bytes.data()), bytes.size())));
    };
    service_ = std::make_unique<HubService>(options);
    secrets_.assign(std::begin(kDeviceKeys), std::end(kDeviceKeys));
    secrets_.push_back(kPolicyKey);
    time_.RunReady();
  }
  ~Fuzzer() { engine_->Stop(); }

  void Run() {
    std::vector<std::shared_ptr<Pending>> requests;
    for (int i = 0; i < kRequestsMax && choices_.has_bytes(); ++i) {
      requests.push_back(Send());
      if (choices_.OneIn(4)) {
        time_.Advance(absl::Seconds(choices_.Below(4000)));
      } else {
        time_.RunReady();
      }
    }
    // Until no method call can be under way.
    time_.Advance(absl::Seconds(kResponseTimeoutSecondsMax +
                                kConnectTimeoutSecondsMax + 1));
    for (const auto& pending : requests) {
      MUSTER_CHECK(pending->answers == 1);
    }
  }

 private:
  struct Pending {
    HttpRequest request;
    std::string signature;  // Of its token.
    int answers = 0;
  };

  std::shared_ptr<Pending> Send() {
    auto pending = std::make_shared<Pending>();
    HttpRequest& request = pending->request;
    const hub::Route& route = choices_.Pick(Routes());
    request.method = choices_.OneIn(16) ? choices_.Pick(kMethods)
                                        : std::string(route.method);
    request.target = Target(route);
    if (!open_) {
      const std::string token = Authorization(request.target);
      request.headers.emplace_back("Authorization", token);
      const size_t sig = token.find("&sig=");
      if (sig != std::string::npos) {
        pending->signature = token.substr(sig + 5, 30);
      }
    }
    Headers(route, &request);
    if (route.has_body || choices_.OneIn(8)) {
      request.body = Body(route);
    }
    service_->Handle(request, [this, pending](HttpResponse response) {
      ++pending->answers;
      CheckAnswer(*pending, response);
      Learn(response);
    });
    return pending;
  }

  std::string Raw() {
    std::string text;
    for (uint32_t left = choices_.Below(24); left > 0; --left) {
      text.push_back(static_cast<char>(choices_.Below(256)));
    }
    return text;
  }

  std::string Id() {
    static constexpr const char* kIds[] = {
        "d1",    "d%252",  "job-1",     "d2",       "job-2",
        "query", "create", "bad_id",    "a%2Fb",    "%FF",
        "%",     "%2e%2e", "J\xC3\xB6", "$edgeHub", "methods"};
    if (choices_.OneIn(16)) return Raw();
    if (choices_.OneIn(32)) return std::string(200, 'x');
    return choices_.Pick(kIds);
  }

  std::string Target(const hub::Route& route) {
    std::string target;
    for (const absl::string_view segment :
         absl::StrSplit(route.pattern, '/', absl::SkipEmpty())) {
      absl::StrAppend(&target, "/",
                      segment == "{}" ? Id() : std::string(segment));
    }
    if (choices_.OneIn(16)) absl::StrAppend(&target, "/", Raw());
    if (!choices_.OneIn(32)) {
      absl::StrAppend(&target, "?api-version=", choices_.Pick(kVersions));
    }
    while (choices_.OneIn(4)) {
      absl::StrAppend(&target, "&", choices_.Pick(kParameters), "=", Value());
    }
    return target;
  }

  // Of a parameter or header, among them what the hub has given.
  std::string Value() {
    if (!learned_.empty() && choices_.OneIn(2)) return choices_.Pick(learned_);
    if (choices_.OneIn(16)) {
      return absl::CEscape(Raw());  // Headers have no line breaks.
    }
    return choices_.Pick(kValues);
  }

  std::string Authorization(absl::string_view target) {
    const absl::Time expires = time_.Now() + absl::Hours(1);
    switch (choices_.Below(12)) {
      case 8: {
        const std::string id = choices_.OneIn(2) ? "d2" : "d1";
        return Key(choices_.Pick(kDeviceKeys))
            .MakeToken(absl::StrCat(kHost, "/devices/", id), "", expires);
      }
      case 9:
        return absl::CEscape(Raw());
      case 10:
        return Key(kPolicyKey)
            .MakeToken(absl::StrCat(kHost, target.substr(0, target.find('?'))),
                       "iothubowner", expires);
      case 11:
        return Key(kPolicyKey)
            .MakeToken(kHost, choices_.Pick(kPolicies), expires);
      default:
        return Key(kPolicyKey).MakeToken(kHost, "iothubowner", expires);
    }
  }

  void Headers(const hub::Route& route, HttpRequest* request) {
    if (!choices_.OneIn(32))
      request->headers.emplace_back("Content-Length", "0");
    if (choices_.OneIn(8)) {
      request->headers.emplace_back("Content-Type", choices_.Pick(kTypes));
    }
    while (choices_.OneIn(3)) {
      request->headers.emplace_back(choices_.Pick(kHeaders), Value());
    }
  }

  // ---------------------------------------------------------------- bodies

  std::string Body(const hub::Route& route) {
    if (choices_.OneIn(16)) return Raw();
    if (choices_.OneIn(16)) return Value(2);
    std::string body;
    if (absl::StartsWith(route.pattern, "/jobs")) {
      body = JobBody();
    } else if (route.pattern == "/devices/query") {
      body = Object({{"query", Statement()}});
    } else if (absl::EndsWith(route.pattern, "/methods")) {
      body = Object(MethodMembers());
    } else if (route.pattern == "/devices") {
      std::vector<std::string> devices;
      for (uint32_t left = choices_.Below(4); left > 0; --left) {
        devices.push_back(Object(DeviceMembers(/*bulk=*/true)));
      }
      body = absl::StrCat("[", absl::StrJoin(devices, ","), "]");
    } else if (absl::StartsWith(route.pattern, "/devices")) {
      body = Object(DeviceMembers(/*bulk=*/false));
    } else {
      body = Object(TwinMembers());
    }
    if (choices_.OneIn(32) && !body.empty()) {
      body.resize(choices_.Below(static_cast<uint32_t>(body.size())));
    }
    return body;
  }

  using Members = std::vector<std::pair<std::string, std::string>>;

  // As it should be, but for a member that is left out, is something else, or
  // one that is too many.
  std::string Object(Members members) {
    if (!members.empty() && choices_.OneIn(8)) {
      auto& member =
          members[choices_.Below(static_cast<uint32_t>(members.size()))];
      if (choices_.OneIn(2)) {
        member.second = Value(2);
      } else {
        std::swap(member, members.back());
        members.pop_back();
      }
    }
    if (choices_.OneIn(16)) {
      members.emplace_back(choices_.Pick(kMemberNames), Value(2));
    }
    std::vector<std::string> texts;
    for (const auto& [name, value] : members) {
      texts.push_back(absl::StrCat("\"", name, "\":", value));
    }
    return absl::StrCat("{", absl::StrJoin(texts, ","), "}");
  }

  std::string String(absl::string_view text) {
    std::string json;
    AppendJsonString(text, &json);
    return json;
  }

  // Any JSON value.
  std::string Value(int depth) {
    switch (choices_.Below(depth > 0 ? 8 : 6)) {
      case 0:
        return "null";
      case 1:
        return choices_.OneIn(2) ? "true" : "false";
      case 2:
        return choices_.Pick(kNumbers);
      case 3:
        return String(choices_.Pick(kMemberNames));
      case 4:
        return String(absl::CEscape(Raw()));
      case 5:
        return String(std::string(choices_.Below(9000), 'v'));
      case 6:
        return absl::StrCat("[", Value(depth - 1), ",", Value(depth - 1), "]");
      default:
        return absl::StrCat("{\"", choices_.Pick(kMemberNames),
                            "\":", Value(depth - 1), "}");
    }
  }

  std::string Condition() {
    static constexpr const char* kConditions[] = {
        "*",
        "deviceId = 'd1'",
        "tags.a = 1",
        "deviceId IN ['d1','d2']",
        "deviceId = ",
        "is_defined(tags.a) AND NOT tags.a > 3",
        "FROM devices.modules WHERE tags.a = 1"};
    return String(choices_.Pick(kConditions));
  }
  std::string Statement() {
    static constexpr const char* kStatements[] = {
        "SELECT * FROM devices",
        "SELECT * FROM devices.jobs",
        "SELECT TOP 2 * FROM devices WHERE tags.a = 1",
        "SELECT COUNT() AS n FROM devices",
        "SELECT deviceId, tags.a FROM devices",
        "SELECT tags.a, COUNT() FROM devices GROUP BY tags.a",
        "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'job-1'",
        "SELECT",
        "SELECT * FROM devices.modules"};
    return String(choices_.Pick(kStatements));
  }

  std::string JobBody() {
    Members members = {{"queryCondition", Condition()}};
    if (choices_.OneIn(2)) {
      members.emplace_back("type", "\"scheduleDeviceMethod\"");
      members.emplace_back("cloudToDeviceMethod", Object(MethodMembers()));
    } else {
      members.emplace_back("type", "\"scheduleUpdateTwin\"");
      members.emplace_back("updateTwin", Object(TwinMembers()));
    }
    if (choices_.OneIn(2)) {
      members.emplace_back("startTime",
                           String(absl::FormatTime(
                               "%Y-%m-%dT%H:%M:%SZ",
                               time_.Now() + absl::Seconds(choices_.Below(100)),
                               absl::UTCTimeZone())));
    }
    if (choices_.OneIn(2)) {
      members.emplace_back("maxExecutionTimeInSeconds",
                           choices_.Pick(kNumbers));
    }
    return Object(std::move(members));
  }

  Members MethodMembers() {
    Members members = {{"methodName", "\"reboot\""}};
    if (choices_.OneIn(2)) members.emplace_back("payload", Value(2));
    if (choices_.OneIn(2)) {
      members.emplace_back("responseTimeoutInSeconds", choices_.Pick(kNumbers));
      members.emplace_back("connectTimeoutInSeconds", choices_.Pick(kNumbers));
    }
    return members;
  }

  Members TwinMembers() {
    Members members;
    if (choices_.OneIn(2))
      members.emplace_back("tags", Object({{"a", Value(1)}}));
    if (choices_.OneIn(2)) {
      members.emplace_back("properties",
                           Object({{"desired", Object({{"b", Value(1)}})}}));
    }
    if (choices_.OneIn(4)) members.emplace_back("etag", String(Value()));
    return members;
  }

  Members DeviceMembers(bool bulk) {
    Members members;
    const std::string id = choices_.OneIn(4) ? "d1" : "d2";
    if (bulk) {
      members.emplace_back("id", String(id));
      members.emplace_back("importMode", String(choices_.Pick(kImportModes)));
    } else if (choices_.OneIn(2)) {
      members.emplace_back("deviceId", String(id));
    }
    if (choices_.OneIn(2)) {
      members.emplace_back("status",
                           choices_.OneIn(2) ? "\"enabled\"" : "\"disabled\"");
    }
    if (choices_.OneIn(2)) {
      const char* empty = "";
      const char* primary =
          choices_.OneIn(2) ? empty : choices_.Pick(kDeviceKeys);
      members.emplace_back(
          "authentication",
          Object({{"type", "\"sas\""},
                  {"symmetricKey",
                   Object({{"primaryKey", String(primary)},
                           {"secondaryKey",
                            String(choices_.Pick(kDeviceKeys))}})}}));
    }
    if (choices_.OneIn(4)) members.emplace_back("etag", String(Value()));
    if (choices_.OneIn(4)) {
      members.emplace_back("tags", Object({{"a", Value(1)}}));
    }
    return members;
  }

  // ---------------------------------------------------------------- answers

  // Etags and continuations, to be used.
  void Learn(const HttpResponse& response) {
    for (const auto& [name, value] : response.headers) {
      if (name == "x-ms-continuation" && learned_.size() < 16) {
        learned_.push_back(value);
      }
    }
    const absl::StatusOr<Json> json = ParseJson(response.body);
    if (!json.ok()) return;
    const JsonView etag = json->view().Find("etag");
    if (etag.is_string() && learned_.size() < 16) {
      learned_.push_back(absl::StrCat("\"", etag.string_value(), "\""));
    }
  }

  static std::string Header(const HttpResponse& response,
                            absl::string_view name) {
    for (const auto& [header, value] : response.headers) {
      if (absl::EqualsIgnoreCase(header, name)) return value;
    }
    return "";
  }

  void CheckAnswer(const Pending& pending, const HttpResponse& response) {
    for (const auto& [name, value] : response.headers) {
      for (const char c : absl::StrCat(name, value)) {
        MUSTER_CHECK(c >= ' ' && c < 0x7F);
      }
    }
    if (response.status == 204) {
      MUSTER_CHECK(response.body.empty());
    } else {
      MUSTER_CHECK(response.content_type == "application/json; charset=utf-8");
      const absl::StatusOr<Json> json = ParseJson(response.body);
      MUSTER_CHECK(json.ok());
      if (response.status == 200) {
        CheckSuccess(response, json->view());
      } else {
        CheckError(response, json->view());
      }
    }
    CheckSecrets(pending, response);
  }

  static void CheckSuccess(const HttpResponse& response, JsonView body) {
    MUSTER_CHECK(Header(response, "iothub-errorcode").empty());
    const std::string continuation = Header(response, "x-ms-continuation");
    MUSTER_CHECK(continuation.size() <= 2048);
    const std::string item_type = Header(response, "x-ms-item-type");
    if (item_type.empty()) {
      MUSTER_CHECK(continuation.empty());
      return;
    }
    MUSTER_CHECK(item_type == "Twin" || item_type == "Raw" ||
                 item_type == "DeviceJob" || item_type == "JobResponse");
    MUSTER_CHECK(body.is_array());
    int rows = 0;
    for (const JsonView row : body.elements()) {
      MUSTER_CHECK(row.is_object());
      ++rows;
    }
    MUSTER_CHECK(rows <= kHubPageSizeMax);
  }

  static void CheckError(const HttpResponse& response, JsonView body) {
    const std::string name = Header(response, "iothub-errorcode");
    const ErrorInfo* info = FindErrorByName(name);
    MUSTER_CHECK(info != nullptr && info->code != ErrorCode::kServerError);
    // 411 has no name of its own.
    MUSTER_CHECK(response.status == info->http_status ||
                 response.status == 411);
    if (info->code == ErrorCode::kBulkRegistryOperationFailure) {
      MUSTER_CHECK(body.Find("isSuccessful").is_bool() &&
                   body.Find("errors").is_array());
      return;
    }
    const JsonView message = body.Find("Message");
    MUSTER_CHECK(message.is_string());
    const std::vector<std::string> parts =
        absl::StrSplit(message.string_value(), ';');
    MUSTER_CHECK(parts.size() == 2 &&
                 parts[0] == absl::StrCat("ErrorCode:", name) &&
                 !parts[1].empty());
    const JsonView exception = body.Find("ExceptionMessage");
    MUSTER_CHECK(exception.is_string());
    const absl::string_view tracking = exception.string_value();
    constexpr absl::string_view kForm =
        "Tracking ID:00000000000000000000000000000000-G:0-TimeStamp:"
        "00/00/0000 00:00:00";  // 0: a digit.
    MUSTER_CHECK(tracking.size() == kForm.size());
    for (size_t i = 0; i < kForm.size(); ++i) {
      MUSTER_CHECK(kForm[i] == '0'
                       ? absl::StrContains("0123456789abcdef", tracking[i])
                       : kForm[i] == tracking[i]);
    }
  }

  // A device's keys are in what the registry says of it, and nowhere else.
  void CheckSecrets(const Pending& pending, const HttpResponse& response) {
    const HttpRequest& request = pending.request;
    MUSTER_CHECK(pending.signature.empty() ||
                 !absl::StrContains(response.body, pending.signature));
    const bool registry = response.status == 200 &&
                          absl::StartsWith(request.path(), "/devices") &&
                          request.method != "POST";
    if (registry) return;
    for (const std::string& secret : secrets_) {
      // The input may have found it out, and put it anywhere.
      if (absl::StrContains(input_, secret)) continue;
      MUSTER_CHECK(!absl::StrContains(response.body, secret));
    }
  }

  static constexpr const char* kMethods[] = {
      "GET", "PUT", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS", "get"};
  static constexpr const char* kVersions[] = {
      "2021-04-12", "2020-09-30", "2018-06-30", "2016-09-30-preview", "", "1"};
  static constexpr const char* kParameters[] = {
      "pageSize", "continuationToken", "jobType", "jobStatus",
      "top",      "api-version",       "x"};
  static constexpr const char* kValues[] = {"1",
                                            "*",
                                            "\"*\"",
                                            "0",
                                            "-1",
                                            "100",
                                            "101",
                                            "x",
                                            "99999999999999999999",
                                            "scheduleUpdateTwin",
                                            "ScheduleDeviceMethod",
                                            "completed",
                                            "Canceled",
                                            "queued",
                                            "AAAAAAAAAAE=",
                                            "\"AAAAAAAAAAE=\"",
                                            "W/\"AAAAAAAAAAE=\"",
                                            "AQ",
                                            "%20",
                                            ""};
  static constexpr const char* kTypes[] = {"application/json", "text/plain",
                                           "application/json;charset=utf-8", "",
                                           ";"};
  static constexpr const char* kHeaders[] = {
      "x-ms-max-item-count", "x-ms-continuation", "If-Match", "if-match",
      "Request-Id",          "Transfer-Encoding"};
  static constexpr const char* kNumbers[] = {"0",
                                             "5",
                                             "30",
                                             "300",
                                             "-1",
                                             "301",
                                             "1.5",
                                             "1e3",
                                             "4503599627370496",
                                             "9223372036854775807",
                                             "18446744073709551616"};
  static constexpr const char* kMemberNames[] = {"a",
                                                 "b",
                                                 "tags",
                                                 "properties",
                                                 "etag",
                                                 "deviceId",
                                                 "jobId",
                                                 "type",
                                                 "bad name",
                                                 "$version",
                                                 "$metadata",
                                                 "x.y",
                                                 "status",
                                                 "moduleId",
                                                 "reported",
                                                 "authentication",
                                                 "capabilities",
                                                 "job-1"};
  static constexpr const char* kImportModes[] = {"create",
                                                 "Update",
                                                 "UpdateIfMatchETag",
                                                 "Delete",
                                                 "DeleteIfMatchETag",
                                                 "createOrUpdate",
                                                 "updateTwin",
                                                 "x"};

  Choices choices_;
  const absl::string_view input_;
  SimulatedExecutor time_;
  uint64_t random_ = 0;
  std::vector<std::string> secrets_;
  std::vector<std::string> learned_;
  std::unique_ptr<LoopbackTransport> transport_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<HubService> service_;
  bool open_ = false;
};

}  // namespace
}  // namespace muster

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  muster::Fuzzer(absl::string_view(reinterpret_cast<const char*>(data), size))
      .Run();
  return 0;
}
