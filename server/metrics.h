// Metrics: what a server tells Prometheus of itself.
//
// docs/metrics.md has every metric: its name, its unit, what to alert on.
//
//   Metrics metrics({.engine = [&] { return engine->Stats(); },
//                    .health = [&] { return engine->Health(); }});
//   auto server = HttpServer::Start({.listen = "127.0.0.1:9464"},
//                                   metrics.Handler());
#ifndef SERVER_METRICS_H_
#define SERVER_METRICS_H_

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/engine.h"
#include "prometheus/collectable.h"
#include "prometheus/metric_family.h"
#include "transport/http/http_server.h"

namespace muster {

// Gateways that are shown one by one, in the order of their names; the others
// are summed up in a series with an empty name, so that no number of gateways
// makes more than four times so many series.
inline constexpr int kGatewaysShownMax = 256;

// One gateway, as it is at the moment.
struct GatewayMetrics {
  std::string name;  // "" before it has said one: then it is not shown.
  int64_t devices = 0;
  int64_t waiting = 0;     // Executions that are not on their way yet.
  int64_t unanswered = 0;  // Executions that are.
  int64_t credit = 0;      // How many it takes without having answered.
};

// What has gone through gateways since the server was started, over all.
struct GatewayCounts {
  int64_t attached = 0;        // Gateways that have said who they are.
  int64_t refused_frames = 0;  // Streams that ended with a frame of wrong form.
  int64_t executions_sent = 0;
  int64_t outcomes = 0;          // Taken, and handed on.
  int64_t outcomes_dropped = 0;  // Of no execution that the gateway has.
  int64_t expired_waiting = 0;   // Their time was over before they were sent.
  int64_t expired_unanswered = 0;
};

// The calls of one gRPC method.
struct CallMetrics {
  std::string name;  // "GetJob"
  // That have ended, by absl::StatusCode.
  std::array<int64_t, 17> ended{};
};

// Calls of one kind under way, and how many there may be.
struct CallLoad {
  std::string kind;  // "unary"
  int64_t under_way = 0;
  int64_t limit = 0;
};

// Where the numbers come from: called once per scrape, on the thread that
// scrapes.
struct MetricsSources {
  std::function<EngineStats()> engine;
  std::function<absl::Status()> health;  // Engine::Health().
  // Null: a server without.
  std::function<std::vector<GatewayMetrics>()> gateways;
  std::function<GatewayCounts()> gateway_counts;
  std::function<std::vector<CallMetrics>()> calls;
  std::function<std::vector<CallLoad>()> call_loads;
};

// Thread-safe if the sources are.
class Metrics : public prometheus::Collectable {
 public:
  // REQUIRES: `engine` and `health` are set.
  explicit Metrics(MetricsSources sources);

  // Families in a constant order, without two series of the same labels.
  std::vector<prometheus::MetricFamily> Collect() const override;

  // The same in the text exposition format 0.0.4.
  std::string Text() const;

  // Answers GET and HEAD of
  //   /metrics  Text()
  //   /healthz  200, or 503 and why while changes are refused: reads go on
  //   then,
  //             so it is no reason to restart the server
  // and anything else with 404 or 405.  *this must outlive its calls.
  HttpHandler Handler() const;

 private:
  const MetricsSources sources_;
};

}  // namespace muster

#endif  // SERVER_METRICS_H_
