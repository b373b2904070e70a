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

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/engine.h"
#include "prometheus/collectable.h"
#include "prometheus/metric_family.h"
#include "transport/grpc/call_guard.h"
#include "transport/grpc/gateway/gateway_transport.h"
#include "transport/http/http_server.h"

namespace muster {

// Gateways that are shown one by one, in the order of their names; the others
// are summed up in a series with an empty name, so that no number of gateways
// makes more than four times so many series.
inline constexpr int kGatewaysShownMax = 256;

// Where the numbers come from: called once per scrape, on the thread that
// scrapes.
struct MetricsSources {
  std::function<EngineStats()> engine;
  std::function<absl::Status()> health;  // Engine::Health().
  // Null: a server without.
  std::function<std::vector<AttachedGateway>()> gateways;
  std::function<GatewayTotals()> gateway_totals;
  std::function<CallGuardStats()> calls;
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
