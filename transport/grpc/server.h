// GrpcServer: the engine's services at a port.
//
//   muster::CallGuard guard({.access = access});
//   muster::GrpcServerOptions options;
//   options.engine = engine.get();
//   options.guard = &guard;
//   options.listen = {"127.0.0.1:7040"};
//   auto server = muster::GrpcServer::Start(options);
//   ...
//   (*server)->Drain(absl::Seconds(30));
//
// Beside JobService and TwinService it serves grpc.health.v1.Health (SERVING
// from the start, since an engine that exists has recovered; NOT_SERVING once
// it drains) and reflection.  Other parts' services, such as the gateways',
// come along as `further`.
#ifndef TRANSPORT_GRPC_SERVER_H_
#define TRANSPORT_GRPC_SERVER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "transport/grpc/call_guard.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace muster {

class QueryBudget;

// Another part's service on the same ports.
struct FurtherService {
  // Not owned; must outlive the server.  Goes through the same CallGuard.
  grpc::Service* service = nullptr;
  // For the health service: "muster.v1.GatewayService".
  std::string name;
  // Called once, when the server drains, before it waits: asks the service's
  // streams to come to their end.  Must not block.  May be empty.
  std::function<void()> drain;
};

struct GrpcServerTls {
  // Paths of PEM files.  Both empty: plaintext.
  std::string certificate_path;
  std::string key_path;
  // Of the authorities that sign clients' certificates.  Empty: clients are not
  // asked for one.
  std::string client_ca_path;
  // Without a certificate nobody gets in; else one may come with a token
  // instead.
  bool client_certificate_required = true;
};

struct GrpcServerOptions {
  // Not owned; must outlive the server.
  Engine* engine = nullptr;
  CallGuard* guard = nullptr;
  std::vector<FurtherService> further;

  // "host:port", at least one; port 0 is chosen by the system.
  std::vector<std::string> listen;
  GrpcServerTls tls;

  // Not owned; must outlive the server.  Where calls that wait for the journal
  // or read many twins run.  Without one: `threads` threads of the server's
  // own.
  Executor* executor = nullptr;
  int threads = 16;  // In [1, 256].
  Clock* clock = &Clock::Real();

  // Of a message that a client sends, in bytes; in [64 KiB, 64 MiB].  A larger
  // one is RESOURCE_EXHAUSTED.
  int message_size_max = 4 << 20;
  // Of a call's metadata, tokens included, in bytes; in [1 KiB, 1 MiB].  More
  // is RESOURCE_EXHAUSTED.
  int metadata_size_max = 16 << 10;
  // Calls at a time on one connection; a client's further ones wait at the
  // client.  In [1, 100'000].
  int streams_per_connection_max = 1024;
  // All messages that are being received or sent, in bytes; at least 16 MiB.
  // Near it, connections are read more slowly.
  int64_t buffers_max = int64_t{1} << 30;

  // Not owned; must outlive the server.  What queries may cost: the sum is for
  // all surfaces that share it.  Beyond it RESOURCE_EXHAUSTED, as Take() says
  // (query_budget.h).  Without one: one of the server's own, of kQueryCostMax
  // and kQueriesCostMax, in which long queries have three quarters of the
  // threads: the others are for the rest of the calls.
  QueryBudget* budget = nullptr;
  // ImportTwins and StreamTwins streams at a time, each of which holds some
  // megabytes.  Beyond it RESOURCE_EXHAUSTED.
  int bulk_streams_max = 64;
  // A client of ImportTwins that sends nothing for so long, or one of
  // StreamTwins that takes nothing, is ended: with DEADLINE_EXCEEDED, and with
  // CANCELLED, since no status gets past the rows that it does not take.
  absl::Duration stream_idle_timeout = absl::Seconds(60);
  // From a new connection to the end of the TLS and HTTP/2 handshakes; one that
  // takes longer is closed.
  absl::Duration handshake_timeout = absl::Seconds(10);
  // A connection on which nothing arrives is asked for a sign of life after
  // keepalive_time, and closed keepalive_timeout later.
  absl::Duration keepalive_time = absl::Seconds(30);
  absl::Duration keepalive_timeout = absl::Seconds(10);
  // A connection without any call is closed after so long: connections are
  // bounded by the process's descriptors only.  Clients open a new one by
  // themselves.
  absl::Duration connection_idle_timeout = absl::Minutes(5);
};

// Thread-safe.
class GrpcServer {
 public:
  // Serves once it returns.
  //   INVALID_ARGUMENT  an option, naming its value and range; a certificate or
  //                     key that cannot be read
  //   UNAVAILABLE       an address that cannot be listened at
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(
      const GrpcServerOptions& options);

  // Drain(absl::ZeroDuration()), if that has not been done.
  ~GrpcServer();

  // Where it listens, in the order of options.listen.
  const std::vector<int>& ports() const;

  // Health becomes NOT_SERVING, nobody new gets in, watches end with
  // UNAVAILABLE (clients resume them by their revision elsewhere), `further`
  // services are asked to end; calls under way may go on for `limit`, and are
  // cancelled then.  Returns when no call is under way any more.  Idempotent; a
  // second call waits for the first.  Not from a call's handler.
  void Drain(absl::Duration limit);

 private:
  struct Parts;
  explicit GrpcServer(std::unique_ptr<Parts> parts);

  std::unique_ptr<Parts> parts_;
};

}  // namespace muster

#endif  // TRANSPORT_GRPC_SERVER_H_
