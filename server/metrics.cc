#include "server/metrics.h"

#include <algorithm>
#include <limits>
#include <map>
#include <sstream>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/job_status.h"
#include "engine/schedule/latency_histogram.h"
#include "prometheus/client_metric.h"
#include "prometheus/metric_type.h"
#include "prometheus/text_serializer.h"

namespace muster {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

// What executions fail with, as a rule.  These are there from the start: of a
// series that begins with its first failure nobody sees that failure's rate.
constexpr ErrorCode kReasons[] = {
    ErrorCode::kRequestTimedOut,
    ErrorCode::kDeviceMaximumInflightMethodExceeded,
    ErrorCode::kDeviceNotFound,
    ErrorCode::kDeviceNotOnline,
    ErrorCode::kMessageTooLarge,
    ErrorCode::kServerError,
    ErrorCode::kInvalidResponseWhileProxying,
    ErrorCode::kGatewayTimeout,
};
// The same of direct methods outside of jobs.
constexpr ErrorCode kMethodReasons[] = {
    ErrorCode::kArgumentInvalid,
    ErrorCode::kDeviceMaximumInflightMethodExceeded,
    ErrorCode::kDeviceNotFound,
    ErrorCode::kDeviceNotOnline,
    ErrorCode::kMessageTooLarge,
    ErrorCode::kThrottlingException,
    ErrorCode::kServerError,
    ErrorCode::kInvalidResponseWhileProxying,
    ErrorCode::kGatewayTimeout,
};

class Families {
 public:
  // Begins a family; the samples that are added next are its.
  Families& Gauge(const char* name, const char* help) {
    return Begin(name, help, MetricType::Gauge);
  }
  Families& Counter(const char* name, const char* help) {
    return Begin(name, help, MetricType::Counter);
  }
  template <typename Number>
  Families& Add(Number number, Labels labels = {}) {
    const auto value = static_cast<double>(number);
    MetricFamily& family = families_.back();
    ClientMetric metric;
    metric.label = std::move(labels);
    if (family.type == MetricType::Counter) {
      metric.counter.value = value;
    } else {
      metric.gauge.value = value;
    }
    family.metric.push_back(std::move(metric));
    return *this;
  }
  void Histogram(const char* name, const char* help,
                 const LatencyCounts& counts) {
    Begin(name, help, MetricType::Histogram);
    ClientMetric metric;
    ClientMetric::Histogram& histogram = metric.histogram;
    for (size_t i = 0; i < counts.buckets.size(); ++i) {
      histogram.sample_count += static_cast<uint64_t>(counts.buckets[i]);
      histogram.bucket.push_back(
          {histogram.sample_count,
           i < kLatencyBoundsUs.size()
               ? static_cast<double>(kLatencyBoundsUs[i]) / 1e6
               : std::numeric_limits<double>::infinity()});
    }
    histogram.sample_sum = counts.sum_seconds;
    families_.back().metric.push_back(std::move(metric));
  }

  std::vector<MetricFamily> Take() { return std::move(families_); }

 private:
  Families& Begin(const char* name, const char* help, MetricType type) {
    MetricFamily family;
    family.name = name;
    family.help = help;
    family.type = type;
    families_.push_back(std::move(family));
    return *this;
  }

  std::vector<MetricFamily> families_;
};

// To a family that is counted by outcome and reason.
void AddFailed(std::map<ErrorCode, int64_t> failed,
               absl::Span<const ErrorCode> reasons, Families& out) {
  for (const ErrorCode code : reasons) failed.try_emplace(code, 0);
  for (const auto& [code, count] : failed) {
    out.Add(count, {{"outcome", "failed"},
                    {"reason", std::string(ErrorInfoOf(code).name)}});
  }
}

void AddEngine(const EngineStats& stats, Families& out) {
  out.Gauge("muster_jobs",
            "Jobs that are kept, by state; ended ones of the last 30 days "
            "included.");
  for (int i = 0; i < kJobStatusCount; ++i) {
    out.Add(stats.jobs[static_cast<size_t>(i)],
            {{"state", std::string(JobStatusName(static_cast<JobStatus>(i)))}});
  }
  out.Gauge("muster_ready_queue_depth",
            "Shares of jobs that wait for a worker.")
      .Add(stats.ready_queue_depth);
  out.Gauge("muster_executions_pending",
            "Executions of running jobs that are not dispatched.")
      .Add(stats.executions_pending);
  out.Gauge("muster_executions_in_flight",
            "Executions that are dispatched and have not ended.")
      .Add(stats.executions_in_flight);
  out.Counter("muster_executions_dispatched_total",
              "Dispatches: methods sent and twins patched.")
      .Add(stats.executions_dispatched);

  out.Counter("muster_executions_total",
              "Executions that have ended, by outcome and reason.")
      .Add(stats.executions_ended.succeeded, {{"outcome", "succeeded"}})
      .Add(stats.executions_ended.canceled, {{"outcome", "canceled"}});
  AddFailed(stats.executions_ended.failed, kReasons, out);
  out.Gauge("muster_direct_methods_under_way",
            "Direct methods outside of jobs that are not answered yet.")
      .Add(stats.direct_methods.under_way);
  out.Counter("muster_direct_methods_total",
              "Direct methods outside of jobs, by outcome and reason.")
      .Add(stats.direct_methods.succeeded, {{"outcome", "succeeded"}});
  AddFailed(stats.direct_methods.failed, kMethodReasons, out);
  out.Counter("muster_outcomes_dropped_total",
              "Outcomes that came late, twice, or too many at a time.")
      .Add(stats.outcomes_dropped);
  out.Histogram("muster_first_dispatch_seconds",
                "From a job's creation or start time to its first dispatch.",
                stats.first_dispatch);
  out.Histogram("muster_execution_seconds",
                "From an execution's dispatch to its end.",
                stats.execution_time);
  out.Histogram("muster_journal_commit_seconds",
                "Until a group of records is durable.", stats.journal_commit);
  out.Counter("muster_journal_bytes_total", "Bytes given to the journal.")
      .Add(stats.journal_bytes);
  out.Gauge("muster_disk_bytes", "What the journal takes on disk.")
      .Add(stats.disk_bytes);
  out.Counter("muster_snapshots_total", "Snapshots of partitions.")
      .Add(stats.snapshots);
  out.Counter("muster_snapshot_failures_total",
              "Snapshots of partitions that could not be written.")
      .Add(stats.snapshots_failed);
  out.Gauge("muster_twins", "Twins.").Add(stats.twins);
  out.Gauge("muster_twin_bytes", "Memory of the twin index, about.")
      .Add(stats.twin_bytes);
  double busy = 0;
  for (const WorkerStats& worker : stats.workers) {
    busy += absl::ToDoubleSeconds(worker.busy);
  }
  out.Gauge("muster_workers", "Workers of the engine.")
      .Add(stats.workers.size());
  out.Counter("muster_worker_busy_seconds_total",
              "Time that workers were not parked, over all.")
      .Add(busy);
}

void AddGateways(std::vector<AttachedGateway> gateways, Families& out) {
  const size_t attached = gateways.size();
  // One series for a name, also if a gateway has come back before its last
  // stream has gone.
  std::map<std::string, AttachedGateway> by_name;
  for (AttachedGateway& gateway : gateways) {
    if (gateway.name.empty()) continue;
    AttachedGateway& sum = by_name[gateway.name];
    sum.devices += gateway.devices;
    sum.waiting += gateway.waiting;
    sum.unanswered += gateway.unanswered;
    sum.credit += gateway.credit;
  }
  std::vector<std::pair<std::string, AttachedGateway>> shown;
  AttachedGateway rest;
  for (auto& [name, gateway] : by_name) {
    if (shown.size() < static_cast<size_t>(kGatewaysShownMax)) {
      shown.emplace_back(name, std::move(gateway));
      continue;
    }
    rest.devices += gateway.devices;
    rest.waiting += gateway.waiting;
    rest.unanswered += gateway.unanswered;
    rest.credit += gateway.credit;
  }
  if (by_name.size() > shown.size()) shown.emplace_back("", std::move(rest));

  out.Gauge("muster_gateways", "Gateways that are attached.").Add(attached);
  const auto each = [&](const char* name, const char* help,
                        int64_t AttachedGateway::* field) {
    out.Gauge(name, help);
    for (const auto& [gateway, values] : shown) {
      out.Add(values.*field, {{"gateway", gateway}});
    }
  };
  each("muster_gateway_devices", "Devices that are attached by the gateway.",
       &AttachedGateway::devices);
  each("muster_gateway_credit",
       "Executions that the gateway takes without having answered.",
       &AttachedGateway::credit);
  each("muster_gateway_in_flight",
       "Executions that the gateway has and has not answered.",
       &AttachedGateway::unanswered);
  each("muster_gateway_waiting",
       "Executions that wait for the gateway's credit.",
       &AttachedGateway::waiting);
}

void AddGatewayTotals(const GatewayTotals& totals, Families& out) {
  out.Counter("muster_gateway_attached_total",
              "Gateways that have attached and said who they are.")
      .Add(totals.sessions);
  out.Counter("muster_gateway_refused_frames_total",
              "Gateways' streams that ended with a frame of wrong form.")
      .Add(totals.refused_frames);
  out.Counter("muster_gateway_executions_sent_total",
              "Executions that were written to gateways.")
      .Add(totals.executions_sent);
  out.Counter("muster_gateway_outcomes_total",
              "Outcomes that were taken from gateways.")
      .Add(totals.outcomes);
  out.Counter("muster_gateway_outcomes_dropped_total",
              "Outcomes of no execution that the gateway has.")
      .Add(totals.outcomes_dropped);
  out.Counter("muster_gateway_expired_total",
              "Executions whose time was over while they waited for credit or "
              "for an answer.")
      .Add(totals.expired_waiting, {{"where", "waiting"}})
      .Add(totals.expired_unanswered, {{"where", "unanswered"}});
  out.Counter("muster_gateway_notifications_dropped_total",
              "Changes of desired properties that were not told, because too "
              "many waited.")
      .Add(totals.notifications_dropped);
  out.Counter("muster_gateway_handles_unknown_total",
              "Handles that gateways gave back and did not have.")
      .Add(totals.handles_unknown);
}

void AddCalls(const CallGuardStats& stats, Families& out) {
  out.Counter("muster_grpc_calls_total",
              "gRPC calls that have ended, by method and status code.");
  for (const CallGuardStats::Method& method : stats.methods) {
    for (size_t code = 0; code < method.ended.size(); ++code) {
      // OK from the start; of the others, those that were.
      if (code > 0 && method.ended[code] == 0) continue;
      out.Add(method.ended[code],
              {{"method", method.name},
               {"code", absl::StatusCodeToString(
                            static_cast<absl::StatusCode>(code))}});
    }
  }
  constexpr const char* kKinds[kCallKinds] = {"unary", "stream", "gateway"};
  out.Gauge("muster_grpc_calls_in_flight", "gRPC calls under way, by kind.");
  for (int i = 0; i < kCallKinds; ++i) {
    out.Add(stats.under_way[i], {{"kind", kKinds[i]}});
  }
  out.Gauge("muster_grpc_calls_limit",
            "How many gRPC calls of a kind may be under way.");
  for (int i = 0; i < kCallKinds; ++i) {
    out.Add(stats.limit[i], {{"kind", kKinds[i]}});
  }
}

HttpResponse TextResponse(int status, std::string body) {
  HttpResponse response;
  response.status = status;
  response.body = std::move(body);
  return response;
}

}  // namespace

Metrics::Metrics(MetricsSources sources) : sources_(std::move(sources)) {
  MUSTER_CHECK(sources_.engine && sources_.health);
}

std::vector<MetricFamily> Metrics::Collect() const {
  Families families;
  families.Gauge("muster_build_info", "1, with the version as a label.")
      .Add(1, {{"version", kVersion}});
  families
      .Gauge("muster_healthy", "1 if changes are taken, 0 if they are refused.")
      .Add(sources_.health().ok() ? 1 : 0);
  AddEngine(sources_.engine(), families);
  if (sources_.gateways) AddGateways(sources_.gateways(), families);
  if (sources_.gateway_totals) {
    AddGatewayTotals(sources_.gateway_totals(), families);
  }
  if (sources_.calls) AddCalls(sources_.calls(), families);
  return families.Take();
}

std::string Metrics::Text() const {
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, Collect());
  return out.str();
}

HttpHandler Metrics::Handler() const {
  return [this](const HttpRequest& request, HttpReply reply) {
    const absl::string_view path = request.path();
    if (path != "/metrics" && path != "/healthz") {
      std::move(reply)(
          TextResponse(404, "nothing here: there are /metrics and /healthz\n"));
      return;
    }
    if (request.method != "GET" && request.method != "HEAD") {
      HttpResponse response = TextResponse(405, "GET and HEAD only\n");
      response.headers = {{"Allow", "GET, HEAD"}};
      std::move(reply)(std::move(response));
      return;
    }
    HttpResponse response;
    if (path == "/healthz") {
      const absl::Status health = sources_.health();
      response = health.ok()
                     ? TextResponse(200, "ok\n")
                     : TextResponse(503, absl::StrCat(health.message(), "\n"));
    } else {
      response = TextResponse(200, Text());
      response.content_type = "text/plain; version=0.0.4; charset=utf-8";
    }
    response.headers = {{"Cache-Control", "no-store"}};
    std::move(reply)(std::move(response));
  };
}

}  // namespace muster
