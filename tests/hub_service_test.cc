// What every request to the hub's REST surface goes through, whatever its
// route: contract 4.1, 4.6, and the first rows of 1.10; wire-facts 3.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "absl/types/variant.h"
#include "engine/engine.h"
#include "engine/model/error.h"
#include "engine/model/json.h"
#include "engine/schedule/executor.h"
#include "gtest/gtest.h"
#include "tests/rest_hub.h"
#include "tests/simulated/simulated_executor.h"
#include "transport/auth/access.h"
#include "transport/auth/sas_token.h"
#include "transport/http/hub/envelope.h"
#include "transport/http/hub/route.h"
#include "transport/http/hub/router.h"
#include "transport/http/hub/target.h"

namespace muster {
namespace {

constexpr char kUpdate[] =
    R"({"type":"scheduleUpdateTwin","updateTwin":{},"queryCondition":"*"})";

std::string Said(const RestAnswer& answer) {
  return absl::StrCat(answer.status, " ", answer.error());
}

// ------------------------------------------------------------------- target

std::string Shown(const hub::Target& target) {
  std::string text;
  for (const std::string& segment : target.segments) {
    absl::StrAppend(&text, "[", segment, "]");
  }
  for (const auto& [name, value] : target.query) {
    absl::StrAppend(&text, "{", name, "=", value, "}");
  }
  return text;
}

TEST(HubTargetTest, IsTakenApartAndDecodedOnce) {
  struct {
    const char* target;
    const char* parts;
  } const rows[] = {
      {"/jobs/v2/a", "[jobs][v2][a]"},
      {"/jobs/v2/a?b=c", "[jobs][v2][a]{b=c}"},
      {"/devices/", "[devices]"},
      {"//devices//d1/", "[devices][d1]"},
      {"/", ""},
      {"", ""},
      {"*", "[*]"},
      {"?", ""},
      {"/twins/a%2Fb", "[twins][a/b]"},
      {"/twins/a%2fb", "[twins][a/b]"},
      {"/twins/%25%32%35", "[twins][%25]"},
      {"/twins/100%", "[twins][100%]"},
      {"/twins/100%2", "[twins][100%2]"},
      {"/twins/%zz%4", "[twins][%zz%4]"},
      {"/twins/%%41", "[twins][%A]"},
      {"/twins/a+b!'()*", "[twins][a+b!'()*]"},
      {"/a?x=1&x=2&&y&=z&w=a=b", "[a]{x=1}{x=2}{y=}{=z}{w=a=b}"},
      {"/a?x=%26%3D+%2B", "[a]{x=&=++}"},
      {"/a?%78=1", "[a]{x=1}"},
      {"/a?b?c=d", "[a]{b?c=d}"},
      {"/a%3Fb=c", "[a?b=c]"},
  };
  for (const auto& row : rows) {
    EXPECT_EQ(Shown(hub::ParseTarget(row.target)), row.parts) << row.target;
  }
  EXPECT_EQ(hub::ParseTarget("//twins//a%2Fb/?x").Path(), "/twins/a/b");
}

// ------------------------------------------------------------------- router

hub::Route At(const char* method, const char* pattern) {
  return {.method = method, .pattern = pattern};
}

TEST(HubRouterTest, LiteralsGoFirst) {
  const hub::Router router({At("GET", "/jobs/v2/{}"), At("PUT", "/jobs/v2/{}"),
                            At("GET", "/jobs/v2/query"), At("GET", "/jobs/{}"),
                            At("POST", "/jobs/v2/{}/cancel"),
                            At("PATCH", "/twins/{}/modules/{}"),
                            At("GET", "/devices")});
  struct {
    const char* method;
    const char* path;
    const char* found;  // A pattern and its ids, or what is allowed.
  } const rows[] = {
      {"GET", "/jobs/v2/a", "/jobs/v2/{} a"},
      {"PUT", "/jobs/v2/a", "/jobs/v2/{} a"},
      {"GET", "/jobs/v2/query", "/jobs/v2/query"},
      // No route lists with PUT, so it is an id.
      {"PUT", "/jobs/v2/query", "/jobs/v2/{} query"},
      {"GET", "/jobs/v2/QUERY", "/jobs/v2/{} QUERY"},
      {"DELETE", "/jobs/v2/query", "- GET, PUT"},
      {"POST", "/jobs/v2/a/cancel", "/jobs/v2/{}/cancel a"},
      {"POST", "/jobs/v2//cancel", "- GET, PUT"},
      {"POST", "/jobs/v2/a/b/cancel", "- "},
      {"GET", "/jobs/v2/a/cancel", "- POST"},
      {"GET", "/jobs/v2", "/jobs/{} v2"},
      {"PATCH", "/twins/d%2F1/modules/%6D", "/twins/{}/modules/{} d/1 m"},
      {"GET", "/devices", "/devices"},
      {"GET", "/devices/", "/devices"},
      {"get", "/devices", "- GET"},
      {"HEAD", "/devices", "- GET"},
      {"GET", "/Devices", "- "},
      {"GET", "/", "- "},
      {"OPTIONS", "*", "- "},
  };
  for (const auto& row : rows) {
    const hub::Target target = hub::ParseTarget(row.path);
    const hub::Router::Match match = router.Find(row.method, target.segments);
    std::string found;
    if (match.route == nullptr) {
      found = absl::StrCat("- ", match.allowed);
    } else {
      found = std::string(match.route->pattern);
      for (const std::string& id :
           hub::Router::TakeIds(*match.route, target.segments)) {
        absl::StrAppend(&found, " ", id);
      }
    }
    EXPECT_EQ(found, row.found) << row.method << " " << row.path;
  }
}

TEST(HubRouterDeathTest, ARouteIsThereOnce) {
  EXPECT_DEATH(
      hub::Router({At("GET", "/a/{}"), At("GET", "/b/{}"), At("GET", "/a/{}")}),
      "CHECK failed");
}

// Of contract 4.2.
TEST(HubRouterTest, HasEveryRouteOfTheContract) {
  std::set<std::string> routes;
  for (const hub::Route& route : hub::AllRoutes()) {
    routes.insert(absl::StrCat(route.method, " ", route.pattern));
    EXPECT_FALSE(route.roles.empty()) << route.pattern;
    EXPECT_NE(route.handle, nullptr) << route.pattern;
  }
  for (const char* route :
       {"PUT /jobs/v2/{}", "GET /jobs/v2/{}", "POST /jobs/v2/{}/cancel",
        "GET /jobs/v2/query", "POST /devices/query", "POST /jobs/create",
        "GET /jobs", "GET /jobs/{}", "DELETE /jobs/{}"}) {
    EXPECT_TRUE(routes.contains(route)) << route;
  }
}

// ----------------------------------------------------------------- envelope

TEST(HubEnvelopeTest, IsFormA) {
  const RandomSource random = [](absl::Span<uint8_t> bytes) {
    for (size_t i = 0; i < bytes.size(); ++i) {
      bytes[i] = static_cast<uint8_t>(0xF8 + i);
    }
  };
  const HttpResponse response = hub::ErrorResponse(
      MakeError(ErrorCode::kJobNotFound, "Job nightly-9 not found"),
      absl::FromCivil(absl::CivilSecond(2031, 3, 1, 10, 12, 44),
                      absl::UTCTimeZone()) +
          absl::Milliseconds(999),
      random);
  EXPECT_EQ(response.status, 404);
  EXPECT_EQ(response.content_type, "application/json; charset=utf-8");
  EXPECT_EQ(response.headers,
            (HttpHeaders{{"iothub-errorcode", "JobNotFound"}}));
  EXPECT_EQ(response.body,
            R"({"Message":"ErrorCode:JobNotFound;Job nightly-9 not found",)"
            R"("ExceptionMessage":"Tracking ID:)"
            R"(f8f9fafbfcfdfeff0001020304050607-G:0-)"
            R"(TimeStamp:03/01/2031 10:12:44"})");
}

TEST(HubEnvelopeTest, TextsStayInTheirPart) {
  struct {
    const char* text;
    const char* shown;
  } const rows[] = {
      {"a;b;", "a,b,"},         {"", "ServerError"},
      {"a:b", "a:b"},           {"line\nline \"q\"", R"(line\nline \"q\")"},
      {"\xC3\xB6", "\xC3\xB6"}, {"\xFF;x", R"(\\xff,x)"},
  };
  for (const auto& row : rows) {
    const HttpResponse response =
        hub::ErrorResponse(MakeError(ErrorCode::kServerError, row.text),
                           absl::UnixEpoch(), SystemRandom());
    EXPECT_TRUE(absl::StrContains(
        response.body,
        absl::StrCat(R"("Message":"ErrorCode:ServerError;)", row.shown, "\"")))
        << response.body;
    EXPECT_TRUE(ParseJson(response.body).ok()) << response.body;
  }
}

// Every code of the table, and errors that were made without one.
TEST(HubEnvelopeTest, EveryErrorHasItsStatusAndName) {
  for (uint32_t number = 400000; number < 505000; ++number) {
    if (!IsErrorCode(number)) continue;
    const ErrorInfo& info = ErrorInfoOf(static_cast<ErrorCode>(number));
    const HttpResponse response = hub::ErrorResponse(
        MakeError(info.code, "text"), absl::UnixEpoch(), SystemRandom());
    EXPECT_EQ(response.status, info.http_status) << number;
    EXPECT_EQ(response.headers[0].second, info.name) << number;
  }
  const HttpResponse response = hub::ErrorResponse(
      absl::DataLossError("text"), absl::UnixEpoch(), SystemRandom());
  EXPECT_EQ(response.status, 500);
  EXPECT_EQ(response.headers[0].second, "ServerError");
}

// What HttpServer answers itself.
TEST(HubServiceTest, Refusals) {
  RestHub hub;
  struct {
    int status;
    const char* name;
  } const rows[] = {
      {400, "GenericBadRequest"}, {408, "RequestTimedOut"},
      {411, "GenericBadRequest"}, {413, "MessageTooLarge"},
      {417, "GenericBadRequest"}, {431, "GenericBadRequest"},
      {500, "ServerError"},       {503, "ServiceUnavailable"},
      {505, "GenericBadRequest"},
  };
  for (const auto& row : rows) {
    const HttpResponse response = hub.service().Refusal(row.status, "why; so");
    EXPECT_EQ(response.status, row.status);
    EXPECT_EQ(response.content_type, "application/json; charset=utf-8");
    EXPECT_EQ(response.headers, (HttpHeaders{{"iothub-errorcode", row.name}}));
    EXPECT_TRUE(absl::StartsWith(
        response.body,
        absl::StrCat(R"({"Message":"ErrorCode:)", row.name, ";why, so\"")))
        << response.body;
  }
}

TEST(HubServiceTest, TrackingIdsAreRandom) {
  std::set<std::string> ids;
  const RandomSource random = SystemRandom();
  for (int i = 0; i < 100; ++i) {
    const HttpResponse response =
        hub::ErrorResponse(absl::InternalError("x"), absl::UnixEpoch(), random);
    ids.insert(response.body);
  }
  EXPECT_EQ(ids.size(), 100u);
}

// ----------------------------------------------------------------- pipeline

TEST(HubServiceTest, PathsAndVerbs) {
  RestHub hub;
  EXPECT_EQ(Said(hub.Send("GET", "/nothing")), "404 GenericNotFound");
  EXPECT_EQ(Said(hub.Send("GET", "/")), "404 GenericNotFound");
  EXPECT_EQ(Said(hub.Send("OPTIONS", "*")), "404 GenericNotFound");
  EXPECT_EQ(Said(hub.Send("GET", "/Jobs/v2/a")), "404 GenericNotFound");
  RestAnswer answer = hub.Send("DELETE", "/jobs/v2/a");
  EXPECT_EQ(Said(answer), "405 GenericMethodNotAllowed");
  EXPECT_EQ(answer.Header("Allow"), "GET, PUT");
  // An empty job id.
  answer = hub.Send("POST", "/jobs/v2//cancel");
  EXPECT_EQ(Said(answer), "405 GenericMethodNotAllowed");
  EXPECT_EQ(Said(hub.Send("HEAD", "/jobs/v2/a")),
            "405 GenericMethodNotAllowed");
  // The path is shown, whatever it is.
  answer = hub.Send("GET", "/%22%3B%FF%0A");
  EXPECT_EQ(Said(answer), "404 GenericNotFound");
  EXPECT_TRUE(answer.Document().view().is_object());
}

TEST(HubServiceTest, ApiVersions) {
  RestHub hub;
  struct {
    const char* query;
    bool known;
  } const rows[] = {
      {"?api-version=2016-09-30-preview", true},
      {"?api-version=2016-11-14", true},
      {"?api-version=2018-06-30", true},
      {"?api-version=2020-03-13", true},
      {"?api-version=2020-05-31-preview", true},
      {"?api-version=2020-09-30", true},
      {"?api-version=2021-04-12", true},
      {"?api%2Dversion=2021%2D04%2D12", true},
      {"?x=y&api-version=2021-04-12", true},
      {"?api-version=2021-04-12&api-version=1", true},
      {"?api-version=1&api-version=2021-04-12", false},
      {"", false},
      {"?", false},
      {"?api-version", false},
      {"?api-version=", false},
      {"?api-version=2021-04-13", false},
      {"?api-version=2021-04-12x", false},
      {"?api-version=2021-04-12+", false},
      {"?Api-Version=2021-04-12", false},
  };
  for (const auto& row : rows) {
    HttpRequest request;
    request.method = "GET";
    request.target = absl::StrCat("/jobs/v2/query", row.query);
    const RestAnswer answer = hub.Send(request);
    EXPECT_EQ(Said(answer), row.known ? "200 " : "400 InvalidProtocolVersion")
        << row.query;
    if (!row.known) {
      EXPECT_TRUE(absl::StrContains(answer.message(), "api-version"));
      EXPECT_TRUE(absl::StrContains(answer.message(), "2021-04-12"));
    }
  }
}

TEST(HubServiceTest, BodiesAreJson) {
  RestHub hub;
  struct {
    const char* type;
    bool accepted;
  } const rows[] = {
      {"application/json; charset=utf-8", true},
      {"application/json", true},
      {"Application/JSON;charset=UTF-8", true},
      {" application/json ", true},
      {"", true},
      {"text/plain", false},
      {"application/jsonp", false},
      {"application/x-www-form-urlencoded", false},
      {"application/json-patch+json", false},
      {"*/*", false},
      {"json", false},
  };
  int next = 0;
  for (const auto& row : rows) {
    const RestAnswer answer =
        hub.Send(RestHub::Request("PUT", absl::StrCat("/jobs/v2/j", next++),
                                  kUpdate, {{"content-type", row.type}}));
    EXPECT_EQ(Said(answer),
              row.accepted ? "200 " : "415 GenericUnsupportedMediaType")
        << row.type;
  }
  // Without the header at all.
  HttpRequest request = RestHub::Request("PUT", "/jobs/v2/none", kUpdate);
  std::erase_if(request.headers, [](const auto& header) {
    return header.first == "Content-Type";
  });
  EXPECT_EQ(Said(hub.Send(request)), "200 ");
  // Where there is no body to be read, nobody looks.
  EXPECT_EQ(Said(hub.Send("POST", "/jobs/v2/no/cancel", "{}",
                          {{"Content-Type", "text/plain"}})),
            "404 JobNotFound");
  EXPECT_EQ(Said(hub.Send("GET", "/jobs/v2/none", "",
                          {{"Content-Type", "text/plain"}})),
            "200 ");
}

TEST(HubServiceTest, AnEmptyBodyHasToSaySo) {
  RestHub hub;
  struct {
    const char* method;
    const char* target;
    HttpHeaders headers;
    const char* outcome;
  } const rows[] = {
      {"POST", "/jobs/v2/j/cancel", {}, "411 GenericBadRequest"},
      {"POST",
       "/jobs/v2/j/cancel",
       {{"content-length", "0"}},
       "404 JobNotFound"},
      {"POST",
       "/jobs/v2/j/cancel",
       {{"transfer-encoding", "chunked"}},
       "404 JobNotFound"},
      {"PUT", "/jobs/v2/j", {}, "411 GenericBadRequest"},
      {"PUT", "/jobs/v2/j", {{"Content-Length", "0"}}, "400 IotHubFormatError"},
      {"GET", "/jobs/v2/j", {}, "404 JobNotFound"},
      // A path that is not there is not there.
      {"POST", "/nothing", {}, "404 GenericNotFound"},
      {"POST", "/jobs/v2/j", {}, "405 GenericMethodNotAllowed"},
  };
  for (const auto& row : rows) {
    HttpRequest request;
    request.method = row.method;
    request.target = absl::StrCat(row.target, "?api-version=2021-04-12");
    request.headers = row.headers;
    EXPECT_EQ(Said(hub.Send(request)), row.outcome)
        << row.method << " " << row.target;
  }
}

// A request that is wrong in every way is put right step by step: each answer
// is the next step's (contract 1.10, rows 1 to 4).
TEST(HubServiceTest, TheFirstStepThatFailsAnswers) {
  constexpr char kKey[] = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
  const auto access = Access::Parse(
      absl::StrCat(R"({"policies":[)",
                   R"({"name":"reader","roles":["RegistryRead"],)",
                   R"("primaryKey":")", kKey, R"("},)",
                   R"({"name":"writer","roles":["RegistryWrite"],)",
                   R"("primaryKey":")", kKey, R"("}]})"),
      {.hub_name = "hub.example.net"});
  ASSERT_TRUE(access.ok()) << access.status();
  HubServiceOptions options;
  options.access = *access;
  RestHub hub({}, options);
  const SasKey key = *SasKey::FromBase64(kKey);
  const auto token = [&](absl::string_view policy) {
    return key.MakeToken("hub.example.net", policy,
                         hub.time.Now() + absl::Hours(1));
  };

  HttpRequest request;
  request.method = "LOCK";
  request.target = "/job/v2/j";
  request.headers = {{"Content-Type", "text/plain"}};
  EXPECT_EQ(Said(hub.Send(request)), "404 GenericNotFound");
  request.target = "/jobs/v2/j";
  EXPECT_EQ(Said(hub.Send(request)), "405 GenericMethodNotAllowed");
  request.method = "PUT";
  EXPECT_EQ(Said(hub.Send(request)), "411 GenericBadRequest");
  request.body = "{";
  EXPECT_EQ(Said(hub.Send(request)), "400 InvalidProtocolVersion");
  request.target += "?api-version=2021-04-12";
  EXPECT_EQ(Said(hub.Send(request)), "401 IotHubUnauthorized");
  request.headers.emplace_back("authorization", token("reader"));
  EXPECT_EQ(Said(hub.Send(request)), "401 IotHubUnauthorizedAccess");
  request.headers.back().second = token("writer");
  EXPECT_EQ(Said(hub.Send(request)), "415 GenericUnsupportedMediaType");
  request.headers[0].second = "application/json";
  EXPECT_EQ(Said(hub.Send(request)), "400 IotHubFormatError");
  request.body = kUpdate;
  EXPECT_EQ(Said(hub.Send(request)), "200 ");
}

// The length alone is there, in a header whose body has not been read.
TEST(HubServiceTest, ABodyIsReadOnlyForACallerWhoMay) {
  const auto header = [](const hub::Route& route) {
    HttpRequest request = RestHub::Request(
        route.method, absl::StrReplaceAll(route.pattern, {{"{}", "x"}}));
    request.headers = {{"Content-Length", "2000000"}};
    return request;
  };
  RestHub open;
  const auto access = Access::Parse(
      R"({"policies":[{"name":"reader","roles":["RegistryRead"],)"
      R"("primaryKey":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}]})",
      {.hub_name = "hub.example.net"});
  ASSERT_TRUE(access.ok()) << access.status();
  HubServiceOptions options;
  options.access = *access;
  RestHub closed({}, options);
  int large = 0;
  for (const hub::Route& route : hub::AllRoutes()) {
    SCOPED_TRACE(absl::StrCat(route.method, " ", route.pattern));
    const HttpAdmission admitted = open.service().Admit(header(route));
    ASSERT_TRUE(absl::holds_alternative<HttpAdmitted>(admitted));
    const size_t max = absl::get<HttpAdmitted>(admitted).body_bytes_max;
    const bool bulk = route.method == "POST" && route.pattern == "/devices";
    EXPECT_EQ(max, static_cast<size_t>(bulk ? 1024 : 256) * 1024);
    large += bulk;
    const HttpAdmission refused = closed.service().Admit(header(route));
    ASSERT_TRUE(absl::holds_alternative<HttpResponse>(refused));
    EXPECT_EQ(absl::get<HttpResponse>(refused).status, 401);
  }
  EXPECT_EQ(large, 1);
}

// ----------------------------------------------------------------- executor

TEST(HubServiceTest, CallsThatBlockAreMadeOnTheExecutor) {
  SimulatedExecutor executor;
  HubServiceOptions options;
  options.executor = &executor;
  RestHub hub({}, options);
  const auto put = hub.Start("PUT", "/jobs/v2/j", kUpdate);
  EXPECT_TRUE(put->answers.empty());
  // A read that takes microseconds does not wait for its turn.
  EXPECT_EQ(Said(hub.Send("GET", "/jobs/v2/j")), "404 JobNotFound");
  // Nor does a refusal.
  EXPECT_EQ(Said(hub.Send("PUT", "/jobs/v2/j", "{}",
                          {{"Content-Type", "text/plain"}})),
            "415 GenericUnsupportedMediaType");
  executor.RunReady();
  ASSERT_EQ(put->answers.size(), 1u);
  EXPECT_EQ(put->answers[0].status, 200);
  EXPECT_EQ(hub.Send("GET", "/jobs/v2/j").status, 200);
}

// Requests from several threads, on an executor with threads of its own: each
// is answered once, with what it asked for.
TEST(HubServiceTest, IsThreadSafe) {
  constexpr int kThreads = 4;
  constexpr int kJobs = 50;
  const std::unique_ptr<Executor> engine_threads = MakeThreadExecutor(2);
  EngineOptions engine_options;
  engine_options.executor = engine_threads.get();
  absl::StatusOr<std::unique_ptr<Engine>> engine =
      Engine::Create(engine_options);
  ASSERT_TRUE(engine.ok()) << engine.status();
  const std::unique_ptr<Executor> executor = MakeThreadExecutor(2);
  HubServiceOptions options;
  options.engine = engine->get();
  options.executor = executor.get();
  HubService service(options);

  std::atomic<int> wrong = 0;
  const auto ask = [&](const HttpRequest& request, int status,
                       absl::string_view said) {
    absl::BlockingCounter answered(1);
    service.Handle(request, [&](HttpResponse response) {
      if (response.status != status ||
          !absl::StrContains(response.body, said)) {
        ++wrong;
      }
      answered.DecrementCount();
    });
    answered.Wait();
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kJobs; ++i) {
        const std::string id = absl::StrCat("job-", t, "-", i);
        const std::string path = absl::StrCat("/jobs/v2/", id);
        const std::string shown = absl::StrCat("\"jobId\":\"", id, "\"");
        ask(RestHub::Request("PUT", path, kUpdate), 200, shown);
        ask(RestHub::Request("PUT", path, kUpdate), 409, id);
        ask(RestHub::Request("GET", path), 200, shown);
        ask(RestHub::Request("GET", path + "x"), 404, id + "x");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  (*engine)->Stop();
}

// Nothing secret is kept or shown: not the token, not its signature.
TEST(HubServiceTest, NoAnswerShowsAToken) {
  const auto access = Access::Parse(
      R"({"policies":[{"name":"p","roles":["RegistryRead"],)"
      R"("primaryKey":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}]})",
      {.hub_name = "hub.example.net"});
  ASSERT_TRUE(access.ok()) << access.status();
  HubServiceOptions options;
  options.access = *access;
  RestHub hub({}, options);
  for (const char* token :
       {"SharedAccessSignature sr=hub.example.net&sig=c2VjcmV0&se=1&skn=p",
        "SharedAccessSignature sr=hub.example.net&sig=c2VjcmV0&"
        "se=1990000000&skn=p",
        "Bearer c2VjcmV0", "c2VjcmV0", "Basic c2VjcmV0"}) {
    const RestAnswer answer =
        hub.Send("GET", "/jobs/v2/j", "", {{"Authorization", token}});
    EXPECT_EQ(answer.status, 401) << token;
    EXPECT_FALSE(absl::StrContains(answer.body, "c2VjcmV0")) << answer.body;
  }
}

}  // namespace
}  // namespace muster
