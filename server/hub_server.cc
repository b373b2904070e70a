#include "server/hub_server.h"

#include <atomic>
#include <cstddef>
#include <thread>
#include <utility>

#include "absl/strings/string_view.h"

namespace muster {
namespace {

// The longest request line and headers: a token of kAuthorizationSizeMax, and
// as much again for all else.
constexpr size_t kHeaderBytesMax = size_t{16} << 10;

}  // namespace

absl::StatusOr<std::unique_ptr<HubServer>> HubServer::Start(
    const HubServerOptions& options) {
  std::unique_ptr<HubServer> hub(new HubServer());
  hub->executor_ = MakeThreadExecutor(options.threads);
  HubServiceOptions service_options;
  service_options.engine = options.engine;
  service_options.access = options.access;
  service_options.executor = hub->executor_.get();
  service_options.profile = options.profile;
  service_options.budget = options.budget;
  hub->service_ = std::make_unique<HubService>(service_options);
  for (const std::string& address : options.listen) {
    HttpServerOptions server_options;
    server_options.listen = address;
    server_options.tls = options.tls;
    server_options.refusal = [service = hub->service_.get()](
                                 int status, absl::string_view why) {
      return service->Refusal(status, why);
    };
    server_options.connections_max = options.connections_max;
    server_options.header_bytes_max = kHeaderBytesMax;
    server_options.body_bytes_max = kHubBodySizeMax;
    absl::StatusOr<std::unique_ptr<HttpServer>> server = HttpServer::Start(
        server_options,
        [hub = hub.get()](const HttpRequest& header) -> HttpAdmission {
          if (hub->started_.load(std::memory_order_acquire)) {
            return hub->service_->Admit(header);
          }
          return hub->service_->Refusal(503, "the hub starts");
        });
    if (!server.ok()) return server.status();
    hub->servers_.push_back(*std::move(server));
  }
  hub->started_.store(true, std::memory_order_release);
  return hub;
}

HubServer::~HubServer() { Drain(absl::ZeroDuration()); }

std::vector<int> HubServer::ports() const {
  std::vector<int> ports;
  for (const auto& server : servers_) ports.push_back(server->port());
  return ports;
}

int HubServer::Drain(absl::Duration limit) {
  // All at once: none takes requests while another drains.
  std::vector<std::thread> threads;
  std::atomic<int> cut_off = 0;
  for (const auto& server : servers_) {
    threads.emplace_back(
        [&server, &cut_off, limit] { cut_off += server->Stop(limit); });
  }
  for (std::thread& thread : threads) thread.join();
  return cut_off;
}

}  // namespace muster
