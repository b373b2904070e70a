// A load generator for HTTPS: many connections in one thread, every answer
// checked, latencies exact.
//
// In an open loop requests are due at fixed times, whatever the server does,
// and a latency is counted from the time when its request was due: one that had
// to wait for a connection, or for this program, has waited.  In a closed loop
// a connection asks again as soon as it has been answered.
#ifndef BENCH_HTTP_LOAD_H_
#define BENCH_HTTP_LOAD_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace muster {

struct HttpLoad {
  int port = 0;         // Of this machine.
  std::string ca_path;  // PEM: who has signed the server's certificate.
  std::string authorization;
  // Asked for in turn.  The answer has to be 200 with `expected` in its body,
  // and the same each time (CHECKed).
  std::vector<std::string> targets;
  std::vector<std::string> expected;  // As many.

  int connections = 32;
  double rate = 0;  // Requests a second, open loop; 0: closed loop.
  // Each request on a connection of its own; with `resume`, a connection goes
  // on with the session of the one before.  Not with a rate.
  bool connect_each = false;
  bool resume = false;

  absl::Duration warm_up = absl::Seconds(1);
  absl::Duration time = absl::Seconds(5);
};

struct HttpLoadResult {
  int64_t requests = 0;
  absl::Duration time;                    // Until the last answer.
  std::vector<absl::Duration> latencies;  // Sorted.

  // `share` in [0, 1].
  absl::Duration Latency(double share) const;
};

// `on_warm` is called once the warm-up is over.
HttpLoadResult RunHttpLoad(const HttpLoad& load,
                           const std::function<void()>& on_warm);

// Opens the load's connections, makes one request on each, and calls `then`
// while they are all open.
void HoldConnections(const HttpLoad& load, const std::function<void()>& then);

}  // namespace muster

#endif  // BENCH_HTTP_LOAD_H_
