// Every route of the hub's REST surface, with every error that contract 4.1 to
// 4.8 has for it: who may not call, and what else each of them refuses.
//
// What is tested comes from the route table itself.  What is right stands here
// once more, after the contract: a route that is not in kContract fails.
#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "engine/model/error.h"
#include "engine/model/instant.h"
#include "engine/model/json.h"
#include "engine/model/limits.h"
#include "gtest/gtest.h"
#include "tests/rest_hub.h"
#include "tests/sas_signing.h"
#include "transport/auth/access.h"
#include "transport/auth/caller.h"
#include "transport/auth/sas_token.h"
#include "transport/http/hub/route.h"
#include "transport/http/hub/router.h"
#include "transport/query_budget.h"

namespace muster {
namespace {

using hub::Route;
using hub::Throttled;

constexpr char kHost[] = "hub.example.net";
constexpr char kKey[] = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
constexpr char kSecondKey[] = "c2Vjb25kc2Vjb25kc2Vjb25kMDA=";
constexpr char kOtherKey[] = "dGhpcmR0aGlyZHRoaXJkdGhpcmQ=";
constexpr char kDeviceKey[] = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

struct ContractRow {
  const char* route;
  const char* permissions;  // One of them is enough.
  Throttled throttled;
};

// Contract 4.2, 4.8, 9.2.
const ContractRow kContract[] = {
    {"PUT /jobs/v2/{}", "RegistryWrite", Throttled::kJobOperations},
    {"GET /jobs/v2/{}", "RegistryRead", Throttled::kJobOperations},
    {"POST /jobs/v2/{}/cancel", "RegistryWrite", Throttled::kJobOperations},
    {"GET /jobs/v2/query", "RegistryRead", Throttled::kJobOperations},
    {"POST /devices/query", "ServiceConnect RegistryRead", Throttled::kQueries},
    {"GET /twins/{}", "ServiceConnect", Throttled::kTwinReads},
    {"PATCH /twins/{}", "ServiceConnect", Throttled::kTwinUpdates},
    {"PUT /twins/{}", "ServiceConnect", Throttled::kTwinUpdates},
    {"POST /twins/{}/methods", "ServiceConnect", Throttled::kDirectMethods},
    {"GET /twins/{}/modules/{}", "ServiceConnect", Throttled::kTwinReads},
    {"PATCH /twins/{}/modules/{}", "ServiceConnect", Throttled::kTwinUpdates},
    {"PUT /twins/{}/modules/{}", "ServiceConnect", Throttled::kTwinUpdates},
    {"POST /twins/{}/modules/{}/methods", "ServiceConnect",
     Throttled::kDirectMethods},
    {"PUT /devices/{}", "RegistryWrite", Throttled::kIdentityOperations},
    {"GET /devices/{}", "RegistryRead", Throttled::kIdentityOperations},
    {"DELETE /devices/{}", "RegistryWrite", Throttled::kIdentityOperations},
    {"GET /devices/{}/modules", "RegistryRead", Throttled::kIdentityOperations},
    {"GET /devices", "RegistryRead", Throttled::kIdentityOperations},
    {"POST /devices", "RegistryWrite", Throttled::kIdentityOperations},
    {"GET /statistics/devices", "RegistryRead", Throttled::kIdentityOperations},
    {"GET /statistics/service", "RegistryRead", Throttled::kIdentityOperations},
    {"POST /jobs/create", "RegistryWrite", Throttled::kJobOperations},
    {"GET /jobs", "RegistryRead", Throttled::kJobOperations},
    {"GET /jobs/{}", "RegistryRead", Throttled::kJobOperations},
    {"DELETE /jobs/{}", "RegistryWrite", Throttled::kJobOperations},
};

// What each route answers who may call it: of what is there, and nothing is
// wrong with.  Of modules and R12 there is never anything (contract 4.2).
struct GoodRequest {
  const char* route;
  const char* target;
  const char* body;
  const char* answer;  // As Said().
};
const GoodRequest kGoodRequests[] = {
    {"PUT /jobs/v2/{}", "/jobs/v2/new-job",
     R"({"type":"scheduleUpdateTwin","updateTwin":{"tags":{"a":1}},)"
     R"("queryCondition":"deviceId = 'd1'"})",
     "200 "},
    {"GET /jobs/v2/{}", "/jobs/v2/later", "", "200 "},
    {"POST /jobs/v2/{}/cancel", "/jobs/v2/later/cancel", "", "200 "},
    {"GET /jobs/v2/query", "/jobs/v2/query", "", "200 "},
    // The collection that each of the route's permissions may read.
    {"POST /devices/query", "/devices/query",
     R"({"query":"SELECT * FROM devices.jobs"})", "200 "},
    {"GET /twins/{}", "/twins/d1", "", "200 "},
    {"PATCH /twins/{}", "/twins/d1", R"({"tags":{"a":1}})", "200 "},
    {"PUT /twins/{}", "/twins/d1", R"({"tags":{"a":1}})", "200 "},
    {"POST /twins/{}/methods", "/twins/d1/methods", R"({"methodName":"m"})",
     "200 "},
    {"GET /twins/{}/modules/{}", "/twins/d1/modules/m", "",
     "404 ModuleNotFound"},
    {"PATCH /twins/{}/modules/{}", "/twins/d1/modules/m", "{}",
     "404 ModuleNotFound"},
    {"PUT /twins/{}/modules/{}", "/twins/d1/modules/m", "{}",
     "404 ModuleNotFound"},
    {"POST /twins/{}/modules/{}/methods", "/twins/d1/modules/m/methods",
     R"({"methodName":"m"})", "404 ModuleNotFound"},
    {"PUT /devices/{}", "/devices/new", R"({"deviceId":"new"})", "200 "},
    {"GET /devices/{}", "/devices/d1", "", "200 "},
    {"DELETE /devices/{}", "/devices/d1", "", "204 "},
    {"GET /devices/{}/modules", "/devices/d1/modules", "", "200 "},
    {"GET /devices", "/devices?top=10", "", "200 "},
    {"POST /devices", "/devices", R"([{"id":"new","importMode":"create"}])",
     "200 "},
    {"GET /statistics/devices", "/statistics/devices", "", "200 "},
    {"GET /statistics/service", "/statistics/service", "", "200 "},
    {"POST /jobs/create", "/jobs/create", "{}", "404 FeatureNotSupported"},
    {"GET /jobs", "/jobs", "", "404 FeatureNotSupported"},
    {"GET /jobs/{}", "/jobs/later", "", "404 FeatureNotSupported"},
    {"DELETE /jobs/{}", "/jobs/later", "", "404 FeatureNotSupported"},
};

std::string Name(const Route& route) {
  return absl::StrCat(route.method, " ", route.pattern);
}

std::string Said(const RestAnswer& answer) {
  return absl::StrCat(answer.status, " ", answer.error());
}

// A path of the route.  The ids are nobody's.
std::string PathOf(const Route& route) {
  return absl::StrReplaceAll(route.pattern, {{"{}", "nobody-1"}});
}

// A request that nothing is wrong with but that it names nobody, and that its
// body, where there is one, says nothing.
HttpRequest RequestFor(const Route& route) {
  HttpRequest request =
      RestHub::Request(route.method, PathOf(route), route.has_body ? "{}" : "");
  if (route.method == "DELETE") request.headers.emplace_back("If-Match", "*");
  return request;
}

void ExpectEnvelope(const RestAnswer& answer, const std::string& context) {
  const ErrorInfo* info = FindErrorByName(answer.error());
  ASSERT_NE(info, nullptr) << context << answer.body;
  EXPECT_EQ(info->http_status, answer.status) << context;
  EXPECT_EQ(answer.Header("Content-Type"), "application/json; charset=utf-8");
  const Json document = answer.Document();
  const JsonView message = document.view().Find("Message");
  ASSERT_TRUE(message.is_string()) << context << answer.body;
  const std::vector<std::string> parts =
      absl::StrSplit(message.string_value(), ';');
  ASSERT_EQ(parts.size(), 2u) << context << answer.body;
  EXPECT_EQ(parts[0], absl::StrCat("ErrorCode:", answer.error())) << context;
  EXPECT_NE(parts[1], "") << context;
  EXPECT_TRUE(absl::StartsWith(
      document.view().Find("ExceptionMessage").string_value(), "Tracking ID:"))
      << context;
  for (const char* secret : {kKey, kSecondKey, kOtherKey, kDeviceKey}) {
    EXPECT_FALSE(absl::StrContains(answer.body, secret)) << context;
  }
}

SasKey Key(absl::string_view base64) {
  return SasKey::FromBase64(base64).value();
}

std::vector<std::string> DefaultPolicies() {
  return {"iothubowner", "service", "device", "registryRead",
          "registryReadWrite"};
}
// A policy for each role, named after it.
std::vector<Role> Roles() {
  return {Role::kRead,         Role::kWrite,         Role::kGateway,
          Role::kRegistryRead, Role::kRegistryWrite, Role::kServiceConnect,
          Role::kDeviceConnect};
}

std::shared_ptr<const Access> MakeAccess() {
  Access::Options options;
  options.hub_name = kHost;
  for (const std::string& name : DefaultPolicies()) {
    options.default_policies.push_back(
        {.name = name, .keys = {Key(kKey), Key(kSecondKey)}});
  }
  options.device_keys = [](absl::string_view device) {
    return device == "nobody-1" ? std::vector<SasKey>{Key(kDeviceKey)}
                                : std::vector<SasKey>();
  };
  std::string policies;
  for (const Role role : Roles()) {
    absl::StrAppend(&policies, policies.empty() ? "" : ",", R"({"name":")",
                    RoleName(role), R"(","roles":[")", RoleName(role),
                    R"("],"primaryKey":")", kKey, R"("})");
  }
  const auto access =
      Access::Parse(absl::StrCat(R"({"policies":[)", policies,
                                 R"(],"tokens":[{"name":"dashboard",)",
                                 R"("roles":["RegistryRead"],"sha256":")",
                                 HashBearerToken("known-token"), R"("}]})"),
                    options);
  EXPECT_TRUE(access.ok()) << access.status();
  return *access;
}

class HubAccessTest : public testing::Test {
 protected:
  HubAccessTest() : hub_({}, Options()) {}

  static HubServiceOptions Options() {
    HubServiceOptions options;
    options.access = MakeAccess();
    return options;
  }

  std::string Token(absl::string_view policy,
                    absl::string_view resource = kHost,
                    absl::string_view key = kKey) {
    return Key(key).MakeToken(resource, policy,
                              hub_.time.Now() + absl::Hours(1));
  }

  RestAnswer SendAs(const Route& route, const std::string& authorization) {
    HttpRequest request = RequestFor(route);
    request.headers.emplace_back("Authorization", authorization);
    return hub_.Send(request);
  }

  RestHub hub_;
};

TEST_F(HubAccessTest, TheRouteTableIsTheContracts) {
  std::map<std::string, ContractRow> contract;
  for (const ContractRow& row : kContract) contract.emplace(row.route, row);
  for (const Route& route : hub::AllRoutes()) {
    const auto row = contract.extract(Name(route));
    ASSERT_FALSE(row.empty()) << Name(route) << ": not in kContract";
    std::vector<absl::string_view> roles;
    for (const Role role : route.roles) roles.push_back(RoleName(role));
    EXPECT_EQ(absl::StrJoin(roles, " "), row.mapped().permissions)
        << Name(route);
    EXPECT_EQ(route.throttled, row.mapped().throttled) << Name(route);
  }
  for (const auto& [route, row] : contract) {
    ADD_FAILURE() << route << ": no such route";
  }
}

// 4.7, step by step; 4.3, "all".
TEST_F(HubAccessTest, NobodyMayCall) {
  const absl::Time now = hub_.time.Now();
  const auto expiring = [&](absl::Duration from_now) {
    return Key(kKey).MakeToken(kHost, "iothubowner", now + from_now);
  };
  const std::string good = Token("iothubowner");
  const auto signed_with = [&](absl::string_view sr, absl::string_view se,
                               absl::string_view policy) {
    return absl::StrCat(
        "SharedAccessSignature sr=", sr, "&sig=",
        absl::StrReplaceAll(SasSignature(kKey, sr, se),
                            {{"+", "%2B"}, {"/", "%2F"}, {"=", "%3D"}}),
        "&se=", se, "&skn=", policy);
  };
  const std::string later = absl::StrCat(absl::ToUnixSeconds(now) + 60);
  // The last byte of the signature, another one.
  const size_t sig = good.find("&sig=") + 5;
  std::string tampered = good;
  tampered[sig] = tampered[sig] == 'A' ? 'B' : 'A';

  constexpr char kNobody[] = "401 IotHubUnauthorized";
  constexpr char kDenied[] = "401 IotHubUnauthorizedAccess";
  struct {
    const char* what;
    std::string authorization;
    const char* outcome;
  } const rows[] = {
      {"nothing", "", kNobody},
      {"no scheme", "x", kNobody},
      {"another scheme", "Basic eDp5", kNobody},
      {"the scheme alone", "SharedAccessSignature", kNobody},
      {"three parts", good + " x", kNobody},
      {"no sr", absl::StrReplaceAll(good, {{"sr=", "s="}}), kNobody},
      {"no sig", absl::StrReplaceAll(good, {{"sig=", "si="}}), kNobody},
      {"no se", absl::StrReplaceAll(good, {{"se=", "s="}}), kNobody},
      {"se is no number", signed_with(kHost, "soon", "iothubowner"), kNobody},
      {"se has a fraction", signed_with(kHost, later + ".5", "iothubowner"),
       kNobody},
      {"long expired", expiring(-absl::Hours(1)), kNobody},
      {"expired beyond clocks that differ", expiring(-absl::Seconds(301)),
       kNobody},
      {"too long", good + "&x=" + std::string(kAuthorizationSizeMax, 'x'),
       kNobody},
      {"an unknown bearer", "Bearer unknown-token", kNobody},
      {"another key", Token("iothubowner", kHost, kOtherKey), kDenied},
      {"a tampered signature", tampered, kDenied},
      {"another expiry than signed",
       absl::StrReplaceAll(good, {{"&se=", "&se=1"}}), kDenied},
      {"another policy's name",
       absl::StrReplaceAll(Token("service", kHost, kOtherKey),
                           {{"skn=service", "skn=iothubowner"}}),
       kDenied},
      {"an unknown policy", Token("nobody"), kDenied},
      {"another hub", Token("iothubowner", "other.example.net"), kDenied},
      {"a hub that begins alike", Token("iothubowner", "hub.example.ne"),
       kDenied},
      {"another path", Token("iothubowner", "hub.example.net/elsewhere"),
       kDenied},
      {"no policy, signed with a policy's key",
       Token("", "hub.example.net/devices/nobody-1"), kDenied},
      {"a device that is not there",
       Token("", "hub.example.net/devices/nobody-2", kDeviceKey), kDenied},
      // Permission missing: a device may do nothing here.
      {"a device's own",
       Token("", "hub.example.net/devices/nobody-1", kDeviceKey), kDenied},
  };
  for (const Route& route : hub::AllRoutes()) {
    for (const auto& row : rows) {
      const std::string context = absl::StrCat(Name(route), ": ", row.what);
      const RestAnswer answer = SendAs(route, row.authorization);
      EXPECT_EQ(Said(answer), row.outcome) << context << "\n" << answer.body;
      ExpectEnvelope(answer, context);
    }
    // By less than what is allowed for clocks.
    EXPECT_NE(SendAs(route, expiring(-absl::Seconds(299))).status, 401)
        << Name(route);
    // Of a part of the path that is no segment.
    const std::string path = PathOf(route);
    EXPECT_EQ(
        Said(SendAs(route, Token("iothubowner",
                                 kHost + path.substr(0, path.size() - 1)))),
        kDenied)
        << Name(route);
    EXPECT_EQ(
        Said(SendAs(route, Token("iothubowner", kHost + path + "/below"))),
        kDenied)
        << Name(route);
  }
  // None of them has done anything.
  EXPECT_EQ(hub_.engine().TwinCount(), 0);
  EXPECT_TRUE(hub_.engine().ListJobs()->jobs.empty());
}

// A hub with what kGoodRequests are about: the device d1, and a job that waits.
class HubWithDevice : public RestHub {
 public:
  HubWithDevice(const HubServiceOptions& options, const std::string& owner)
      : RestHub({}, options) {
    AddDevice("d1");
    devices().SetHandler(
        "m", [](const LoopbackCall&) { return LoopbackReply{.status = 200}; });
    const std::string job = absl::StrCat(
        R"({"type":"scheduleUpdateTwin","updateTwin":{"tags":{"b":1}},)",
        R"("queryCondition":"*","startTime":")",
        FormatInstant(time.Now() + absl::Hours(1)), "\"}");
    EXPECT_EQ(
        Send("PUT", "/jobs/v2/later", job, {{"Authorization", owner}}).status,
        200);
  }
};

// 4.8: every policy, and every role by itself, on every route.
TEST_F(HubAccessTest, PermissionsDecide) {
  const std::map<std::string, std::set<std::string>> granted = {
      {"iothubowner",
       {"RegistryRead", "RegistryWrite", "ServiceConnect", "DeviceConnect"}},
      {"service", {"ServiceConnect"}},
      {"device", {"DeviceConnect"}},
      {"registryRead", {"RegistryRead"}},
      {"registryReadWrite", {"RegistryRead", "RegistryWrite"}},
      {"RegistryRead", {"RegistryRead"}},
      {"RegistryWrite", {"RegistryRead", "RegistryWrite"}},
      {"ServiceConnect", {"ServiceConnect"}},
      {"DeviceConnect", {"DeviceConnect"}},
      // Of gRPC alone.
      {"read", {}},
      {"write", {}},
      {"gateway", {}},
  };
  std::map<std::string, std::string> permissions;
  for (const ContractRow& row : kContract) {
    permissions[row.route] = row.permissions;
  }
  std::map<std::string, GoodRequest> good_requests;
  for (const GoodRequest& good : kGoodRequests) {
    good_requests.emplace(good.route, good);
  }
  for (const Route& route : hub::AllRoutes()) {
    const auto good = good_requests.find(Name(route));
    ASSERT_NE(good, good_requests.end())
        << Name(route) << ": not in kGoodRequests";
    // With what is there: nothing but the permission decides.
    const auto send_good = [&](const std::string& authorization) {
      HubWithDevice hub(Options(), Token("iothubowner"));
      HttpRequest request = RestHub::Request(route.method, good->second.target,
                                             good->second.body);
      if (route.method == "DELETE") {
        request.headers.emplace_back("If-Match", "*");
      }
      request.headers.emplace_back("Authorization", authorization);
      return hub.Send(request);
    };
    for (const auto& [policy, has] : granted) {
      bool allowed = false;
      for (const absl::string_view needed :
           absl::StrSplit(permissions[Name(route)], ' ')) {
        allowed |= has.contains(std::string(needed));
      }
      const std::string context = absl::StrCat(Name(route), " as ", policy);
      const RestAnswer answer = send_good(Token(policy));
      if (allowed) {
        EXPECT_EQ(Said(answer), good->second.answer) << context << "\n"
                                                     << answer.body;
        continue;
      }
      EXPECT_EQ(Said(answer), "401 IotHubUnauthorizedAccess") << context;
      ExpectEnvelope(answer, context);
      // Nor does it tell what is there.
      EXPECT_EQ(Said(SendAs(route, Token(policy))),
                "401 IotHubUnauthorizedAccess")
          << context;
    }
    // By way of a bearer token, with RegistryRead.
    EXPECT_EQ(Said(send_good("Bearer known-token")),
              absl::StrContains(permissions[Name(route)], "RegistryRead")
                  ? good->second.answer
                  : "401 IotHubUnauthorizedAccess")
        << Name(route);
  }
}

// 4.7, step 6: a token for a part of the hub is good for what is below it, in
// each spelling.
TEST_F(HubAccessTest, ResourcesCoverWhatIsBelowThem) {
  for (const Route& route : hub::AllRoutes()) {
    std::string resource = "HUB.Example.Net";
    for (const absl::string_view segment :
         absl::StrSplit(PathOf(route), '/', absl::SkipEmpty())) {
      absl::StrAppend(&resource, "/", segment);
      for (const char* slash : {"/", "%2F", "%2f"}) {
        const std::string sr = absl::StrReplaceAll(resource, {{"/", slash}});
        const std::string se =
            absl::StrCat(absl::ToUnixSeconds(hub_.time.Now()) + 60);
        const std::string token = absl::StrCat(
            "SharedAccessSignature sig=",
            absl::StrReplaceAll(SasSignature(kKey, sr, se),
                                {{"+", "%2B"}, {"/", "%2F"}, {"=", "%3D"}}),
            "&skn=iothubowner&se=", se, "&sr=", sr);
        const RestAnswer answer = SendAs(route, token);
        EXPECT_NE(answer.status, 401) << Name(route) << " " << sr;
      }
    }
  }
  // The path is compared as it means, not as it is written.
  HttpRequest request = RestHub::Request("GET", "/jobs/%76%32//nobody-1/");
  request.headers.emplace_back(
      "authorization",
      Token("registryRead", "hub.example.net/jobs/v2/nobody-1"));
  EXPECT_EQ(Said(hub_.Send(request)), "404 JobNotFound");
}

TEST_F(HubAccessTest, BothKeysOfAPolicySign) {
  for (const Route& route : hub::AllRoutes()) {
    EXPECT_NE(SendAs(route, Token("iothubowner", kHost, kSecondKey)).status,
              401)
        << Name(route);
  }
}

TEST(HubOpenTest, WithoutAccessEverybodyMayCall) {
  RestHub hub;
  for (const Route& route : hub::AllRoutes()) {
    EXPECT_NE(hub.Send(RequestFor(route)).status, 401) << Name(route);
  }
}

// --------------------------------------------- what every route refuses alike

TEST(HubRouteErrorsTest, WhatEveryRouteRefuses) {
  const std::vector<Route> routes = hub::AllRoutes();
  RestHub hub;
  for (const Route& route : routes) {
    const std::string name = Name(route);
    const auto expect = [&](const HttpRequest& request, const char* outcome) {
      const RestAnswer answer = hub.Send(request);
      EXPECT_EQ(Said(answer), outcome) << name << "\n" << answer.body;
      if (answer.status != 411) ExpectEnvelope(answer, name);
    };
    HttpRequest request = RequestFor(route);
    request.target = PathOf(route);
    expect(request, "400 InvalidProtocolVersion");
    request.target += "?api-version=2015-01-01";
    expect(request, "400 InvalidProtocolVersion");

    request = RequestFor(route);
    request.method = "TRACE";
    expect(request, "405 GenericMethodNotAllowed");
    request = RequestFor(route);
    request.target = "/hub" + request.target;
    expect(request, "404 GenericNotFound");

    if (route.method != "GET" && route.method != "DELETE") {
      request = RequestFor(route);
      request.body.clear();
      request.headers.clear();
      expect(request, "411 GenericBadRequest");
    }
    if (route.has_body) {
      request = RequestFor(route);
      request.headers = {{"Content-Type", "text/xml"}};
      expect(request, "415 GenericUnsupportedMediaType");
      for (const char* body : {"{", "\"\xFF\"", R"({"a":1,"a":2})"}) {
        request = RestHub::Request(route.method, PathOf(route), body);
        const RestAnswer answer = hub.Send(request);
        // Of a module or a body that is not read, something else is wrong
        // first.
        EXPECT_TRUE(Said(answer) == "400 IotHubFormatError" ||
                    absl::StrContains(route.pattern, "modules"))
            << name << body << "\n"
            << answer.body;
        ExpectEnvelope(answer, name);
      }
    }
  }
}

// 4.3, "all"; 9.2 and 9.3.
TEST(HubRouteErrorsTest, EveryRouteIsThrottled) {
  for (const Route& route : hub::AllRoutes()) {
    HubServiceOptions options;
    options.profile.job_operations_per_minute = 60;
    options.profile.queries_per_minute = 60;
    options.profile.twin_reads_per_minute = 60;
    options.profile.twin_updates_per_minute = 60;
    options.profile.direct_method_steps_per_minute = 60;
    options.profile.identity_operations_per_minute = 60;
    RestHub hub({}, options);
    for (int i = 0; i < 60; ++i) {
      EXPECT_NE(hub.Send(RequestFor(route)).status, 429) << Name(route) << i;
    }
    const RestAnswer answer = hub.Send(RequestFor(route));
    EXPECT_EQ(Said(answer), "429 ThrottlingException") << Name(route);
    ExpectEnvelope(answer, Name(route));
    // What does not get that far does not count.
    HttpRequest request = RequestFor(route);
    request.target = PathOf(route);
    EXPECT_EQ(Said(hub.Send(request)), "400 InvalidProtocolVersion");
    // The other rates are other buckets.
    for (const Route& other : hub::AllRoutes()) {
      EXPECT_EQ(hub.Send(RequestFor(other)).status == 429,
                other.throttled == route.throttled)
          << Name(route) << " and " << Name(other);
    }
    hub.time.Advance(absl::Seconds(1));
    EXPECT_NE(hub.Send(RequestFor(route)).status, 429) << Name(route);
  }
}

// 9.2: 4 KB of a method's payload are one step, whatever else is in the body.
TEST(HubRouteErrorsTest, StepsOfMethods) {
  HubServiceOptions options;
  options.profile.direct_method_steps_per_minute = 4;
  // As many calls with a payload of so many bytes as are let in.
  const auto let_in = [&](size_t payload) {
    RestHub hub({}, options);
    const std::string body = absl::StrCat(
        R"({"methodName":")", std::string(100, 'm'), "\"",
        payload == 0 ? ""
                     : absl::StrCat(R"(,"payload":")",
                                    std::string(payload - 2, 'x'), "\""),
        "}");
    for (int calls = 0;; ++calls) {
      const std::string said =
          Said(hub.Send("POST", "/twins/nobody-1/methods", body));
      if (said == "429 ThrottlingException") return calls;
      EXPECT_EQ(said, "404 DeviceNotFound") << payload;
    }
  };
  EXPECT_EQ(let_in(0), 4);
  EXPECT_EQ(let_in(2), 4);
  EXPECT_EQ(let_in(4096), 4);
  EXPECT_EQ(let_in(4097), 2);
  EXPECT_EQ(let_in(2 * 4096), 2);
  EXPECT_EQ(let_in(2 * 4096 + 1), 1);
  EXPECT_EQ(let_in(4 * 4096), 1);
  EXPECT_EQ(let_in(4 * 4096 + 1), 0);

  // A body that tells no payload is one step, and the rate goes before what is
  // wrong with it (1.10).
  options.profile.direct_method_steps_per_minute = 2;
  RestHub hub({}, options);
  const auto say = [&](const std::string& body, const char* type) {
    return Said(hub.Send("POST", "/twins/nobody-1/methods", body,
                         {{"Content-Type", type}}));
  };
  const std::string broken = std::string(5000, 'x');
  EXPECT_EQ(say(broken, "application/json"), "400 IotHubFormatError");
  EXPECT_EQ(say("{}", "text/plain"), "415 GenericUnsupportedMediaType");
  EXPECT_EQ(say(broken, "application/json"), "429 ThrottlingException");
  EXPECT_EQ(say("{}", "text/plain"), "429 ThrottlingException");
}

// 4.3: what changes something while the storage is not available.
TEST(HubRouteErrorsTest, ChangesOfAStoppedEngineAreRefused) {
  for (const auto& [method, target, body] :
       {std::tuple{"PUT", "/jobs/v2/j",
                   R"({"type":"scheduleUpdateTwin","updateTwin":{},)"
                   R"("queryCondition":"*"})"},
        {"POST", "/jobs/v2/j/cancel", ""},
        {"PATCH", "/twins/d1", R"({"tags":{"a":1}})"},
        {"PUT", "/twins/d1", R"({"tags":{"a":1}})"},
        {"POST", "/twins/d1/methods", R"({"methodName":"m"})"},
        {"PUT", "/devices/d2", R"({"deviceId":"d2"})"},
        {"DELETE", "/devices/d1", ""}}) {
    RestHub hub;
    hub.AddDevice("d1");
    hub.engine().Stop();
    const RestAnswer answer = hub.Send(method, target, body);
    EXPECT_EQ(Said(answer), "503 ServiceUnavailable")
        << method << target << answer.body;
    ExpectEnvelope(answer, target);
  }
}

// ------------------------------------- every error of 4.6, where it is met

// Of contract 4.6, what no answer can be.
const ErrorCode kNotAnswered[] = {
    ErrorCode::kDeviceDefinedMultipleTimes,  // Of a row of a bulk request.
    ErrorCode::kInvalidOperation,            // Nothing here is one.
    ErrorCode::kRequestTimedOut,             // Of records, and of HttpServer.
    ErrorCode::kJobQuotaExceeded,            // Of R12, which is not supported.
    ErrorCode::kDeviceJobAlreadyExists,      // Internal.
    ErrorCode::kThrottleBacklogLimitExceeded,  // Nothing queues: 9.3.
    ErrorCode::kThrottlingBacklogTimeout,
    ErrorCode::kDeviceThrottlingLimitExceeded,  // Of records.
    ErrorCode::kClientClosedRequest,            // Nobody is left to read it.
    ErrorCode::kServerError,                    // Would be ours.
};

TEST(HubErrorsTest, EveryErrorOfTheContractIsMet) {
  EngineOptions engine_options;
  engine_options.profile.active_jobs_max = 1;
  HubServiceOptions options;
  options.access = MakeAccess();
  options.profile.queries_per_minute = 1;
  LoopbackOptions devices;
  RestHub hub(engine_options, options, devices);
  hub.devices().SetHandler(
      "never", [](const LoopbackCall&) { return LoopbackReply::Never(); });
  hub.devices().SetHandler("text", [](const LoopbackCall&) {
    LoopbackReply reply;
    reply.payload = "no JSON";
    return reply;
  });
  hub.AddDevice("d1");
  hub.AddDevice("off", /*connected=*/false);
  const auto token = [&](absl::string_view policy) {
    return Key(kKey).MakeToken(kHost, policy, hub.time.Now() + absl::Hours(1));
  };
  const std::string job =
      R"({"type":"scheduleDeviceMethod","cloudToDeviceMethod":)"
      R"({"methodName":"never"},"queryCondition":"deviceId = 'off'"})";
  const std::string large(std::string(9000, 'x'));

  struct Row {
    const char* method;
    const char* target;
    std::string body;
    const char* outcome;
    HttpHeaders headers = {};
  };
  const Row rows[] = {
      {"PUT", "/jobs/v2/j", R"({"type":"export"})", "400 GenericBadRequest"},
      {"GET", "/jobs/v2/j?api-version=1", "", "400 InvalidProtocolVersion"},
      {"PUT", "/jobs/v2/j_1", job, "400 ArgumentInvalid"},
      {"POST", "/devices/query", "{}", "400 ArgumentNull"},
      {"PUT", "/jobs/v2/j", "{", "400 IotHubFormatError"},
      {"POST", "/devices", R"([{"id":"none","importMode":"delete"}])",
       "400 BulkRegistryOperationFailure"},
      {"GET",
       "/twins/d1",
       "",
       "401 IotHubUnauthorizedAccess",
       {{"Authorization", token("registryRead")}}},
      {"GET",
       "/twins/d1",
       "",
       "401 IotHubUnauthorized",
       {{"Authorization", "x"}}},
      {"GET", "/", "", "404 GenericNotFound"},
      {"GET", "/twins/none", "", "404 DeviceNotFound"},
      {"GET", "/jobs/v2/none", "", "404 JobNotFound"},
      {"GET", "/twins/d1/modules/m", "", "404 ModuleNotFound"},
      {"POST", "/jobs/create", "", "404 FeatureNotSupported"},
      {"POST", "/twins/off/methods", R"({"methodName":"m"})",
       "404 DeviceNotOnline"},
      {"DELETE", "/twins/d1", "", "405 GenericMethodNotAllowed"},
      {"PUT", "/jobs/v2/j", job, "200 "},
      {"POST", "/jobs/v2/j/cancel", "",
       "405 OperationNotAllowedInCurrentState"},
      {"PUT", "/devices/d1", R"({"deviceId":"d1"})", "409 DeviceAlreadyExists"},
      {"PUT", "/jobs/v2/j", job, "409 JobAlreadyExists"},
      {"PATCH",
       "/twins/d1",
       "{}",
       "412 PreconditionFailed",
       {{"If-Match", "\"AAAAAAAAAGM=\""}}},
      {"PATCH", "/twins/d1",
       absl::StrCat(R"({"tags":{"a":")", large.substr(0, 4000), R"(","b":")",
                    large.substr(0, 4000), R"(","c":")", large.substr(0, 4000),
                    "\"}}"),
       "413 MessageTooLarge"},
      {"PATCH",
       "/twins/d1",
       "{}",
       "415 GenericUnsupportedMediaType",
       {{"Content-Type", "text/plain"}}},
      {"POST", "/devices/query", "{}", "429 ThrottlingException"},
      {"PUT", "/jobs/v2/k", job, "429 ThrottlingMaxActiveJobCountExceeded"},
      {"POST", "/twins/d1/methods", R"({"methodName":"text"})",
       "502 InvalidResponseWhileProxying"},
  };
  std::set<std::string> met;
  const auto expect = [&](RestHub& at, const Row& row) {
    HttpHeaders headers = row.headers;
    if (headers.empty() || headers[0].first != "Authorization") {
      headers.emplace_back("Authorization", token("iothubowner"));
    }
    const RestAnswer answer =
        at.Send(row.method, row.target, row.body, headers);
    const std::string context = absl::StrCat(row.method, " ", row.target);
    EXPECT_EQ(Said(answer), row.outcome) << context << "\n" << answer.body;
    met.insert(answer.error());
    if (answer.status != 200 &&
        answer.error() != "BulkRegistryOperationFailure") {
      ExpectEnvelope(answer, context);
    }
  };
  for (const Row& row : rows) expect(hub, row);

  // A method that is not answered; and one more than a device may have.
  std::vector<std::shared_ptr<RestHub::Pending>> waiting;
  const HttpHeaders owner = {{"Authorization", token("iothubowner")}};
  for (int i = 0; i < kMethodsInFlightPerDeviceMax; ++i) {
    waiting.push_back(hub.Start("POST", "/twins/d1/methods",
                                R"({"methodName":"never"})", owner));
  }
  expect(hub, {"POST", "/twins/d1/methods", R"({"methodName":"never"})",
               "403 DeviceMaximumInflightMethodExceeded"});
  hub.time.Advance(absl::Seconds(kResponseTimeoutSecondsDefault));
  for (const auto& pending : waiting) {
    ASSERT_EQ(pending->answers.size(), 1u);
    EXPECT_EQ(Said(pending->answers[0]), "504 GatewayTimeout");
    ExpectEnvelope(pending->answers[0], "a method");
    met.insert(pending->answers[0].error());
  }

  hub.engine().Stop();
  expect(hub, {"PUT", "/jobs/v2/k", job, "503 ServiceUnavailable"});

  QueryBudget budget(1, 1, 1);
  HubServiceOptions poor;
  poor.budget = &budget;
  RestHub poor_hub({}, poor);
  expect(poor_hub,
         {"POST", "/devices/query",
          R"({"query":"SELECT * FROM devices WHERE tags.a = 1 OR tags.b = 1"})",
          "403 IotHubQuotaExceeded"});

  EngineOptions basic;
  basic.profile.jobs_available = false;
  RestHub basic_hub(basic);
  expect(basic_hub,
         {"PUT", "/jobs/v2/j", job, "403 OperationNotAvailableInCurrentTier"});

  for (uint32_t number = 0; number < 600000; ++number) {
    if (!IsErrorCode(number) || number == 0) continue;
    const ErrorCode code = static_cast<ErrorCode>(number);
    const bool answered = met.contains(std::string(ErrorInfoOf(code).name));
    const bool expected =
        std::find(std::begin(kNotAnswered), std::end(kNotAnswered), code) ==
        std::end(kNotAnswered);
    EXPECT_EQ(answered, expected) << ErrorInfoOf(code).name;
  }
}

}  // namespace
}  // namespace muster
