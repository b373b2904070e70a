// HubServer: the hub's REST surface (transport/http/hub) at the addresses where
// clients reach it, with threads of its own for what waits.
#ifndef SERVER_HUB_SERVER_H_
#define SERVER_HUB_SERVER_H_

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/model/profile.h"
#include "engine/schedule/executor.h"
#include "transport/auth/access.h"
#include "transport/http/http_server.h"
#include "transport/http/hub/hub_service.h"

namespace muster {

struct HubServerOptions {
  std::vector<std::string> listen;       // "host:port" each; at least one.
  std::optional<HttpTls> tls;            // Null: plaintext.
  std::shared_ptr<const Access> access;  // Null: everybody everything.
  Profile profile;
  // Requests that wait for the journal or read many twins, at a time, in
  // [1, 256].  More wait for their turn.
  int threads = 16;
  int connections_max = 4096;  // At each address, in [1, 1,000,000].
  // Not owned; both outlive the server.
  Engine* engine = nullptr;
  QueryBudget* budget = nullptr;  // Null: statements may cost what they like.
};

// Thread-safe.
class HubServer {
 public:
  // Serves once it returns.  Errors are those of HttpServer::Start().
  static absl::StatusOr<std::unique_ptr<HubServer>> Start(
      const HubServerOptions& options);

  // Drain(ZeroDuration()).  REQUIRES: the engine has been stopped, or nothing
  // is under way: what it still has to answer would find nobody.
  ~HubServer();
  HubServer(const HubServer&) = delete;
  HubServer& operator=(const HubServer&) = delete;

  // Real ones, in the order of the addresses.
  std::vector<int> ports() const;

  // No new connections and requests; those under way have `limit` to end.
  // Returns how many had not, and were cut off.  Idempotent, with the same
  // answer.
  int Drain(absl::Duration limit);

 private:
  HubServer() = default;

  // An address may be refused while others take requests already: until all of
  // them are there nobody is served, so that nothing is under way then.
  std::atomic<bool> started_{false};

  // Members go from who is called to who calls.
  std::unique_ptr<HubService> service_;
  std::unique_ptr<Executor> executor_;
  std::vector<std::unique_ptr<HttpServer>> servers_;
};

}  // namespace muster

#endif  // SERVER_HUB_SERVER_H_
