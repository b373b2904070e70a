// What Prometheus reads, read back line by line: the form of the exposition
// format, and every value after a run whose numbers are known.
#include "server/metrics.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/model/error.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "gtest/gtest.h"
#include "tests/http_client.h"
#include "tests/hub_fixture.h"
#include "transport/grpc/call_guard.h"
#include "transport/grpc/gateway/gateway_transport.h"
#include "transport/http/http_server.h"
#include "transport/loopback/loopback.h"
#include "transport/loopback/loopback_options.h"

namespace muster {
namespace {

double ParseValue(absl::string_view text) {
  double value = 0;
  if (text == "+Inf" || text == "Inf") {
    return std::numeric_limits<double>::infinity();
  }
  EXPECT_TRUE(absl::SimpleAtod(text, &value)) << text;
  return value;
}

// The samples of a text, each under its name with its labels as they are
// written; checks everything that the format demands of the text.
class Exposition {
 public:
  explicit Exposition(absl::string_view text) {
    EXPECT_TRUE(absl::EndsWith(text, "\n"));
    std::set<std::string> families;
    std::string family, type;
    for (absl::string_view line : absl::StrSplit(text, '\n')) {
      if (line.empty()) continue;
      if (absl::ConsumePrefix(&line, "# HELP ")) {
        const std::pair<std::string, std::string> help =
            absl::StrSplit(line, absl::MaxSplits(' ', 1));
        family = help.first;
        type.clear();
        EXPECT_TRUE(families.insert(family).second) << family;
        EXPECT_TRUE(absl::StartsWith(family, "muster_"));
        for (const char c : family) {
          EXPECT_TRUE(absl::ascii_islower(c) || c == '_') << family;
        }
        EXPECT_TRUE(absl::EndsWith(help.second, ".") ||
                    family == "muster_build_info" || family == "muster_healthy")
            << help.second;
      } else if (absl::ConsumePrefix(&line, "# TYPE ")) {
        const std::pair<std::string, std::string> named =
            absl::StrSplit(line, ' ');
        EXPECT_EQ(named.first, family);
        EXPECT_TRUE(type.empty());
        type = named.second;
        EXPECT_EQ(type == "counter", absl::EndsWith(family, "_total"))
            << family;
        EXPECT_EQ(type == "histogram", absl::EndsWith(family, "_seconds"))
            << family;
      } else {
        AddSample(line, family, type);
      }
    }
    CheckHistograms();
  }

  // Fails the test if there is no such sample.
  double operator[](absl::string_view sample) const {
    auto it = samples_.find(std::string(sample));
    EXPECT_NE(it, samples_.end()) << sample;
    return it == samples_.end() ? -1 : it->second;
  }
  bool Has(absl::string_view sample) const {
    return samples_.contains(std::string(sample));
  }
  const std::map<std::string, double>& samples() const { return samples_; }
  // Of all samples of this name.
  double Sum(absl::string_view name) const {
    double sum = 0;
    for (const auto& [sample, value] : samples_) {
      if (absl::StartsWith(sample, absl::StrCat(name, "{"))) sum += value;
    }
    return sum;
  }

 private:
  void AddSample(absl::string_view line, const std::string& family,
                 const std::string& type) {
    // Labels may have spaces in them, values have none.
    const size_t space = line.rfind(' ');
    const std::string sample(line.substr(0, space));
    const absl::string_view name = line.substr(0, line.find_first_of("{ "));
    if (type == "histogram") {
      EXPECT_TRUE(name == family + "_bucket" || name == family + "_sum" ||
                  name == family + "_count")
          << line;
    } else {
      EXPECT_EQ(name, family) << line;
    }
    const double value = ParseValue(line.substr(space + 1));
    EXPECT_TRUE(samples_.emplace(sample, value).second) << sample;
    if (name == family + "_bucket") {
      absl::string_view le = line.substr(line.find("le=\"") + 4);
      buckets_[family].emplace_back(ParseValue(le.substr(0, le.find('"'))),
                                    value);
    }
  }

  void CheckHistograms() {
    for (const auto& [family, buckets] : buckets_) {
      for (size_t i = 1; i < buckets.size(); ++i) {
        EXPECT_LT(buckets[i - 1].first, buckets[i].first) << family;
        EXPECT_LE(buckets[i - 1].second, buckets[i].second) << family;
      }
      EXPECT_TRUE(std::isinf(buckets.back().first));
      EXPECT_EQ(buckets.back().second, (*this)[family + "_count"]);
      EXPECT_GE((*this)[family + "_sum"], 0);
    }
  }

  std::map<std::string, double> samples_;
  std::map<std::string, std::vector<std::pair<double, double>>> buckets_;
};

MetricsSources SourcesOf(Engine& engine) {
  return {.engine = [&] { return engine.Stats(); },
          .health = [&] { return engine.Health(); }};
}

TEST(Metrics, AnIdleServerShowsEveryNameAtZero) {
  Hub hub;
  const Exposition e(Metrics(SourcesOf(hub.engine())).Text());
  EXPECT_EQ(e["muster_build_info{version=\"0.1.0\"}"], 1);
  EXPECT_EQ(e["muster_healthy"], 1);
  for (const char* state :
       {"queued", "scheduled", "running", "completed", "failed", "cancelled"}) {
    EXPECT_EQ(e[absl::StrCat("muster_jobs{state=\"", state, "\"}")], 0);
  }
  for (const char* name :
       {"muster_ready_queue_depth", "muster_executions_pending",
        "muster_executions_in_flight", "muster_executions_dispatched_total",
        "muster_direct_methods_under_way", "muster_outcomes_dropped_total",
        "muster_first_dispatch_seconds_count", "muster_execution_seconds_count",
        "muster_journal_commit_seconds_count", "muster_journal_bytes_total",
        "muster_disk_bytes", "muster_snapshots_total",
        "muster_snapshot_failures_total", "muster_twins",
        "muster_worker_busy_seconds_total"}) {
    EXPECT_EQ(e[name], 0) << name;
  }
  EXPECT_EQ(e["muster_workers"], 1);
  EXPECT_GT(e["muster_twin_bytes"], 0);
  EXPECT_EQ(e["muster_executions_total{outcome=\"succeeded\"}"], 0);
  EXPECT_EQ(e["muster_executions_total{outcome=\"canceled\"}"], 0);
  for (const char* reason :
       {"DeviceNotFound", "DeviceNotOnline", "GatewayTimeout",
        "RequestTimedOut", "InvalidResponseWhileProxying", "MessageTooLarge",
        "ServerError", "DeviceMaximumInflightMethodExceeded"}) {
    EXPECT_EQ(
        e[absl::StrCat("muster_executions_total{outcome=\"failed\",reason=\"",
                       reason, "\"}")],
        0);
  }
  EXPECT_EQ(e["muster_direct_methods_total{outcome=\"succeeded\"}"], 0);
  for (const char* reason :
       {"ArgumentInvalid", "DeviceNotFound", "DeviceNotOnline",
        "GatewayTimeout", "InvalidResponseWhileProxying", "MessageTooLarge",
        "ServerError", "DeviceMaximumInflightMethodExceeded",
        "ThrottlingException"}) {
    EXPECT_EQ(e[absl::StrCat(
                  "muster_direct_methods_total{outcome=\"failed\",reason=\"",
                  reason, "\"}")],
              0);
  }
  // A server without gateways and gRPC has nothing to say of them.
  EXPECT_FALSE(e.Has("muster_gateways"));
  EXPECT_FALSE(e.Has("muster_grpc_calls_total"));
}

TEST(Metrics, ValuesAfterAKnownRun) {
  Hub hub;
  for (int i = 0; i < 10; ++i) hub.AddDevice(absl::StrCat("d", i), i < 7);
  hub.devices().SetHandler("reboot", [](const LoopbackCall& call) {
    LoopbackReply reply;
    reply.delay = absl::Milliseconds(20);
    if (call.device_id == "d0") reply.code = OutcomeCode::kBusy;
    if (call.device_id == "d1") reply = LoopbackReply::Never();
    return reply;
  });
  JobRequest job;
  job.job_id = "j";
  job.query_condition = "*";
  job.action = MethodAction{.method_name = "reboot",
                            .response_timeout_seconds = 30,
                            .connect_timeout_seconds = 60};
  ASSERT_TRUE(hub.engine().CreateJob(job).ok());
  const Metrics metrics(SourcesOf(hub.engine()));
  hub.time.Advance(absl::Seconds(1));
  {
    const Exposition e(metrics.Text());
    EXPECT_EQ(e["muster_jobs{state=\"running\"}"], 1);
    EXPECT_EQ(e["muster_executions_pending"], 3);
    EXPECT_EQ(e["muster_executions_in_flight"], 1);
    EXPECT_EQ(e["muster_executions_dispatched_total"], 7);
  }
  EXPECT_EQ(Counts(hub.Finish("j")), "10 / f5 s5 r0 p0");
  const Exposition e(metrics.Text());
  EXPECT_EQ(e["muster_twins"], 10);
  EXPECT_EQ(e["muster_jobs{state=\"running\"}"], 0);
  EXPECT_EQ(e["muster_jobs{state=\"completed\"}"], 1);
  EXPECT_EQ(e["muster_executions_pending"], 0);
  EXPECT_EQ(e["muster_executions_in_flight"], 0);
  EXPECT_EQ(e["muster_executions_total{outcome=\"succeeded\"}"], 5);
  const auto failed = [&](absl::string_view reason) {
    return e[absl::StrCat(
        "muster_executions_total{outcome=\"failed\",reason=\"", reason, "\"}")];
  };
  EXPECT_EQ(failed("DeviceNotOnline"), 3);
  EXPECT_EQ(failed("GatewayTimeout"), 1);
  EXPECT_EQ(failed("DeviceMaximumInflightMethodExceeded"), 1);
  EXPECT_EQ(e.Sum("muster_executions_total"), 10);
  EXPECT_EQ(e["muster_execution_seconds_count"], 7);
  EXPECT_EQ(e["muster_execution_seconds_bucket{le=\"0.01\"}"], 0);
  EXPECT_EQ(e["muster_execution_seconds_bucket{le=\"0.025\"}"], 6);
  EXPECT_EQ(e["muster_execution_seconds_bucket{le=\"50\"}"], 7);
  EXPECT_NEAR(e["muster_execution_seconds_sum"], 6 * 0.02 + 30, 0.1);
  EXPECT_EQ(e["muster_first_dispatch_seconds_count"], 1);
  EXPECT_EQ(e["muster_first_dispatch_seconds_bucket{le=\"0.0001\"}"], 1);
  EXPECT_GT(e["muster_journal_commit_seconds_count"], 10);
  EXPECT_EQ(e["muster_journal_bytes_total"],
            static_cast<double>(hub.engine().Stats().journal_bytes));
}

TEST(Metrics, DirectMethodsAreCountedForThemselves) {
  Hub hub;
  hub.AddDevice("d1");
  hub.AddDevice("off", /*connected=*/false);
  const auto ignore = [](absl::StatusOr<MethodResult>) {};
  const MethodAction reboot{.method_name = "reboot"};
  MethodAction patient = reboot;
  patient.connect_timeout_seconds = 60;
  hub.engine().InvokeMethod("d1", reboot, ignore);
  hub.engine().InvokeMethod("d1", reboot, ignore);
  hub.engine().InvokeMethod("off", reboot, ignore);
  hub.engine().InvokeMethod("off", patient, ignore);
  hub.time.RunReady();
  const Exposition e(Metrics(SourcesOf(hub.engine())).Text());
  EXPECT_EQ(e["muster_direct_methods_under_way"], 1);
  EXPECT_EQ(e["muster_direct_methods_total{outcome=\"succeeded\"}"], 2);
  EXPECT_EQ(e["muster_direct_methods_total{outcome=\"failed\",reason="
              "\"DeviceNotOnline\"}"],
            1);
  EXPECT_EQ(e.Sum("muster_direct_methods_total"), 3);
  EXPECT_EQ(e.Sum("muster_executions_total"), 0);
}

// Counters beyond what six digits hold are still exact.
TEST(Metrics, LargeCountersAreExact) {
  EngineStats stats;
  stats.executions_ended.succeeded = 123'456'789'012'345;
  stats.executions_ended.failed[ErrorCode::kArgumentInvalid] = 1'000'000'001;
  const Exposition e(Metrics({.engine = [&] { return stats; },
                              .health = [] { return absl::OkStatus(); }})
                         .Text());
  EXPECT_EQ(e["muster_executions_total{outcome=\"succeeded\"}"],
            123'456'789'012'345.0);
  EXPECT_EQ(e["muster_executions_total{outcome=\"failed\",reason="
              "\"ArgumentInvalid\"}"],
            1'000'000'001);
}

TEST(Metrics, GatewaysAreShownUpToALimit) {
  Hub hub;
  MetricsSources sources = SourcesOf(hub.engine());
  std::vector<AttachedGateway> gateways;
  sources.gateways = [&] { return gateways; };
  const Metrics metrics(sources);
  {
    const Exposition e(metrics.Text());
    EXPECT_EQ(e["muster_gateways"], 0);
    EXPECT_EQ(e.Sum("muster_gateway_devices"), 0);
  }
  gateways = {{"b\"\\\n", "", 1, 2, 3, 4},
              {"a", "", 10, 20, 30, 40},
              {"", "", 0, 0, 0, 5},
              {"a", "", 1, 1, 1, 1}};
  {
    const Exposition e(metrics.Text());
    EXPECT_EQ(e["muster_gateways"], 4);
    EXPECT_EQ(e["muster_gateway_devices{gateway=\"a\"}"], 11);
    EXPECT_EQ(e["muster_gateway_waiting{gateway=\"a\"}"], 21);
    EXPECT_EQ(e["muster_gateway_in_flight{gateway=\"a\"}"], 31);
    EXPECT_EQ(e["muster_gateway_credit{gateway=\"a\"}"], 41);
    EXPECT_EQ(e["muster_gateway_credit{gateway=\"b\\\"\\\\\\n\"}"], 4);
    EXPECT_FALSE(e.Has("muster_gateway_credit{gateway=\"\"}"));
  }
  gateways.clear();
  for (int i = 0; i < 1000; ++i) {
    gateways.push_back({absl::StrFormat("gw-%04d", 999 - i), "", 1, 2, 3, 4});
  }
  const Exposition e(metrics.Text());
  EXPECT_EQ(e["muster_gateways"], 1000);
  EXPECT_EQ(e["muster_gateway_devices{gateway=\"gw-0000\"}"], 1);
  EXPECT_EQ(e["muster_gateway_devices{gateway=\"gw-0255\"}"], 1);
  EXPECT_FALSE(e.Has("muster_gateway_devices{gateway=\"gw-0256\"}"));
  const double rest = 1000 - kGatewaysShownMax;
  EXPECT_EQ(e["muster_gateway_devices{gateway=\"\"}"], rest);
  EXPECT_EQ(e["muster_gateway_waiting{gateway=\"\"}"], 2 * rest);
  EXPECT_EQ(e["muster_gateway_in_flight{gateway=\"\"}"], 3 * rest);
  EXPECT_EQ(e["muster_gateway_credit{gateway=\"\"}"], 4 * rest);
  EXPECT_EQ(e.Sum("muster_gateway_devices"), 1000);
  EXPECT_LE(e.samples().size(), 200u + 4 * (kGatewaysShownMax + 1));
}

TEST(Metrics, GatewaysAreCountedOverAll) {
  Hub hub;
  MetricsSources sources = SourcesOf(hub.engine());
  sources.gateway_totals = [] {
    return GatewayTotals{.sessions = 1,
                         .refused_frames = 2,
                         .executions_sent = 3,
                         .outcomes = 4,
                         .outcomes_dropped = 5,
                         .expired_waiting = 6,
                         .expired_unanswered = 7,
                         .notifications_dropped = 8,
                         .handles_unknown = 9};
  };
  const Exposition e(Metrics(sources).Text());
  EXPECT_EQ(e["muster_gateway_attached_total"], 1);
  EXPECT_EQ(e["muster_gateway_refused_frames_total"], 2);
  EXPECT_EQ(e["muster_gateway_executions_sent_total"], 3);
  EXPECT_EQ(e["muster_gateway_outcomes_total"], 4);
  EXPECT_EQ(e["muster_gateway_outcomes_dropped_total"], 5);
  EXPECT_EQ(e["muster_gateway_expired_total{where=\"waiting\"}"], 6);
  EXPECT_EQ(e["muster_gateway_expired_total{where=\"unanswered\"}"], 7);
  EXPECT_EQ(e["muster_gateway_notifications_dropped_total"], 8);
  EXPECT_EQ(e["muster_gateway_handles_unknown_total"], 9);
}

TEST(Metrics, CallsAreShownByMethodAndCode) {
  Hub hub;
  MetricsSources sources = SourcesOf(hub.engine());
  CallGuardStats::Method get{.name = "GetJob"};
  get.ended[0] = 5;
  get.ended[static_cast<size_t>(absl::StatusCode::kNotFound)] = 2;
  get.ended[static_cast<size_t>(absl::StatusCode::kUnauthenticated)] = 1;
  sources.calls = [&] {
    return CallGuardStats{.methods = {get, {.name = "ListJobs"}},
                          .under_way = {3, 0, 2},
                          .limit = {1024, 4096, 512}};
  };
  const Exposition e(Metrics(sources).Text());
  const auto calls = [](absl::string_view method, absl::string_view code) {
    return absl::StrCat("muster_grpc_calls_total{method=\"", method,
                        "\",code=\"", code, "\"}");
  };
  EXPECT_EQ(e[calls("GetJob", "OK")], 5);
  EXPECT_EQ(e[calls("GetJob", "NOT_FOUND")], 2);
  EXPECT_EQ(e[calls("GetJob", "UNAUTHENTICATED")], 1);
  EXPECT_EQ(e[calls("ListJobs", "OK")], 0);
  EXPECT_EQ(e.Sum("muster_grpc_calls_total"), 8);
  EXPECT_EQ(e["muster_grpc_calls_in_flight{kind=\"unary\"}"], 3);
  EXPECT_EQ(e["muster_grpc_calls_limit{kind=\"stream\"}"], 4096);
}

// The page names every metric, and none that there is not.
TEST(Metrics, TheDocumentationNamesThemAll) {
  Hub hub;
  MetricsSources sources = SourcesOf(hub.engine());
  sources.gateways = [] { return std::vector<AttachedGateway>(); };
  sources.gateway_totals = [] { return GatewayTotals(); };
  sources.calls = [] { return CallGuardStats(); };
  std::set<std::string> names;
  for (const prometheus::MetricFamily& family : Metrics(sources).Collect()) {
    names.insert(family.name);
  }
  std::ifstream file("docs/metrics.md");
  ASSERT_TRUE(file);
  std::set<std::string> documented;
  for (std::string line; std::getline(file, line);) {
    // Of tables, the first column.
    if (!absl::StartsWith(line, "| `muster_")) continue;
    absl::string_view cell(line);
    cell = cell.substr(2, cell.find(" | ") - 2);
    for (absl::string_view name : absl::StrSplit(cell, ", ")) {
      EXPECT_TRUE(absl::ConsumePrefix(&name, "`"));
      name = name.substr(0, name.find_first_of("{`"));
      EXPECT_TRUE(documented.insert(std::string(name)).second) << name;
    }
  }
  EXPECT_EQ(documented, names);
}

TEST(Metrics, OverHttp) {
  Hub hub;
  hub.AddTwin("d");
  absl::Status health;
  const Metrics metrics({.engine = [&] { return hub.engine().Stats(); },
                         .health = [&] { return health; }});
  auto server = HttpServer::Start({.listen = "127.0.0.1:0"}, metrics.Handler());
  ASSERT_TRUE(server.ok()) << server.status();
  HttpClient client((*server)->port());
  auto answer = client.Get("/metrics?x=y");
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->status, 200);
  EXPECT_EQ(answer->headers.at("content-type"),
            "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_EQ(answer->headers.at("cache-control"), "no-store");
  EXPECT_EQ(Exposition(answer->body)["muster_twins"], 1);
  EXPECT_EQ(client.Get("/healthz")->body, "ok\n");
  ASSERT_TRUE(client.Send("HEAD /metrics HTTP/1.1\r\nHost: h\r\n\r\n"));
  EXPECT_EQ(client.Read(/*to_head=*/true)->status, 200);
  EXPECT_EQ(client.Get("/")->status, 404);
  EXPECT_EQ(client.Get("/metrics/")->status, 404);
  ASSERT_TRUE(client.Send(
      "POST /metrics HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx"));
  answer = client.Read();
  EXPECT_EQ(answer->status, 405);
  EXPECT_EQ(answer->headers.at("allow"), "GET, HEAD");
}

TEST(Metrics, AnEngineThatRefusesChangesIsNotHealthy) {
  Hub hub;
  const Metrics metrics(SourcesOf(hub.engine()));
  hub.engine().Stop();
  EXPECT_EQ(Exposition(metrics.Text())["muster_healthy"], 0);
  auto server = HttpServer::Start({.listen = "127.0.0.1:0"}, metrics.Handler());
  ASSERT_TRUE(server.ok()) << server.status();
  HttpClient client((*server)->port());
  const auto answer = client.Get("/healthz");
  EXPECT_EQ(answer->status, 503);
  EXPECT_EQ(answer->body, "the engine has been stopped\n");
}

// While jobs run on threads: no counter ever falls, nothing is below zero, and
// in the end the counters are the sums of the jobs' statistics.
TEST(Metrics, ScrapesWhileJobsRun) {
  constexpr int kDevices = 2000, kJobs = 30;
  auto executor = MakeThreadExecutor(2);
  LoopbackOptions devices;
  devices.latency.distribution = LoopbackLatency::Distribution::kUniform;
  devices.latency.max = absl::Milliseconds(5);
  auto loopback =
      LoopbackTransport::Create(devices, &Clock::Real(), executor.get());
  ASSERT_TRUE(loopback.ok());
  auto engine = Engine::Create(
      {.transport = loopback->get(), .executor = executor.get()});
  ASSERT_TRUE(engine.ok());
  std::vector<std::string> ids;
  for (int i = 0; i < kDevices; ++i) {
    ids.push_back(absl::StrCat("d", i));
    ASSERT_TRUE(
        (*engine)
            ->UpsertTwin(absl::StrCat(R"({"deviceId":")", ids.back(), "\"}"))
            .ok());
  }
  (*loopback)->AddDevices(
      std::vector<absl::string_view>(ids.begin(), ids.end()), true);
  const Metrics metrics(SourcesOf(**engine));
  auto server = HttpServer::Start({.listen = "127.0.0.1:0"}, metrics.Handler());
  ASSERT_TRUE(server.ok()) << server.status();

  std::atomic<bool> stop{false};
  std::thread scraper([&] {
    HttpClient client((*server)->port());
    std::map<std::string, double> last;
    do {
      const auto answer = client.Get("/metrics");
      ASSERT_TRUE(answer.has_value());
      const Exposition e(answer->body);
      for (const auto& [sample, value] : e.samples()) {
        EXPECT_GE(value, 0) << sample;
        if (sample.find("_total") == std::string::npos) continue;
        EXPECT_GE(value, last[sample]) << sample;
        last[sample] = value;
      }
    } while (!stop.load());
  });
  int64_t succeeded = 0;
  for (int i = 0; i < kJobs; ++i) {
    JobRequest job;
    job.job_id = absl::StrCat("j", i);
    job.query_condition = "*";
    job.action = MethodAction{.method_name = "reboot"};
    ASSERT_TRUE((*engine)->CreateJob(job).ok());
    if (i % 3 == 2) {
      const auto ended = (*engine)->WaitJob(job.job_id);
      ASSERT_TRUE(ended.ok());
    }
  }
  for (int i = 0; i < kJobs; ++i) {
    const auto ended = (*engine)->WaitJob(absl::StrCat("j", i));
    ASSERT_TRUE(ended.ok());
    succeeded += ended->statistics->succeeded_count;
    EXPECT_EQ(ended->statistics->device_count, kDevices);
  }
  stop.store(true);
  scraper.join();
  const Exposition e(metrics.Text());
  EXPECT_EQ(e["muster_executions_total{outcome=\"succeeded\"}"],
            static_cast<double>(succeeded));
  EXPECT_EQ(e.Sum("muster_executions_total"), kDevices * kJobs);
  EXPECT_EQ(e["muster_jobs{state=\"completed\"}"], kJobs);
  EXPECT_EQ(e["muster_executions_in_flight"], 0);
  EXPECT_EQ(e["muster_executions_pending"], 0);
  EXPECT_EQ(e["muster_ready_queue_depth"], 0);
  EXPECT_EQ(e["muster_first_dispatch_seconds_count"], kJobs);
  (*server)->Stop(absl::Seconds(10));
  (*engine)->Stop();
}

}  // namespace
}  // namespace muster
