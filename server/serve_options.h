// What `muster serve` is told.
#ifndef SERVER_SERVE_OPTIONS_H_
#define SERVER_SERVE_OPTIONS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/access_flags.h"
#include "server/engine_flags.h"
#include "server/flags.h"
#include "transport/query_budget.h"

namespace muster {

// Of what is not given here, `dev` says where the data is (kDevData), what the
// hub is called (kDevHubName) and where it listens (StartDevHub()).
struct ServeOptions {
  std::vector<std::string> listen;
  std::vector<std::string> http;
  int64_t http_threads = 16;
  int64_t http_connections_max = 4096;
  std::string data;
  EngineFlags engine;
  std::string metrics;
  std::string tls_cert;
  std::string tls_key;
  std::string tls_client_ca;
  bool tls_client_optional = false;
  AccessFlags access;
  bool insecure = false;
  bool dev = false;
  int64_t devices = 0;  // With dev.
  int64_t drain_seconds = 30;
  int64_t calls_max = 1024;
  int64_t streams_max = 4096;
  int64_t gateways_max = 1024;
  int64_t bulk_streams_max = 64;
  int64_t message_bytes_max = 4 << 20;
  int64_t query_cost_max = kQueryCostMax;
  int64_t gateway_devices_max = 1'048'576;
  std::vector<std::string> gateways;
  std::string gateway_tls_ca;
  std::string gateway_token;  // Of the environment.
  bool quiet = false;
};

// What `muster serve --help` shows.
std::vector<Flag> ServeFlags(ServeOptions* o);

// INVALID_ARGUMENT that names the flag: what does not go together, and what
// would let others in unasked, or listen on the way, without --insecure.
absl::Status CheckServeOptions(const ServeOptions& o,
                               const Arguments& arguments);

}  // namespace muster

#endif  // SERVER_SERVE_OPTIONS_H_
