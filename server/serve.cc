// `muster serve`: an engine as a service.

#include <signal.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/journal/rocksdb/rocksdb_journal.h"
#include "engine/model/job_status.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "grpcpp/impl/service_type.h"
#include "server/command.h"
#include "server/connect_flags.h"
#include "server/descriptors.h"
#include "server/disk_watch.h"
#include "server/engine_flags.h"
#include "server/exit_code.h"
#include "server/flags.h"
#include "server/interrupt.h"
#include "server/metrics.h"
#include "server/port_watch.h"
#include "server/progress.h"
#include "server/text.h"
#include "transport/auth/access.h"
#include "transport/grpc/address.h"
#include "transport/grpc/call_guard.h"
#include "transport/grpc/channel.h"
#include "transport/grpc/gateway/gateway_service.h"
#include "transport/grpc/gateway/gateway_transport.h"
#include "transport/grpc/gateway/outbound.h"
#include "transport/grpc/server.h"
#include "transport/http/http_server.h"

namespace muster {
namespace {

constexpr absl::Duration kTick = absl::Milliseconds(200);
// A recovery that takes less is not worth a line.
constexpr absl::Duration kPatience = absl::Milliseconds(500);
// Descriptors beside the connections': the journal's files, mostly.
constexpr int64_t kDescriptorsOfItsOwn = 512;

struct ServeOptions {
  std::vector<std::string> listen;
  std::string data;
  EngineFlags engine;
  std::string metrics;
  std::string tls_cert;
  std::string tls_key;
  std::string tls_client_ca;
  bool tls_client_optional = false;
  std::string access;
  std::string hub_name;
  bool insecure = false;
  int64_t drain_seconds = 30;
  int64_t calls_max = 1024;
  int64_t streams_max = 4096;
  int64_t gateways_max = 1024;
  int64_t bulk_streams_max = 64;
  int64_t message_bytes_max = 4 << 20;
  int64_t query_cost_max = 20'000'000'000;
  int64_t gateway_devices_max = 1'048'576;
  std::vector<std::string> gateways;
  std::string gateway_tls_ca;
  std::string gateway_token;  // Of the environment.
  bool quiet = false;
};

std::vector<Flag> ServeFlags(ServeOptions* o) {
  std::vector<Flag> flags = {
      {"listen", "HOST:PORT",
       "where it serves (127.0.0.1:7040); give the flag once\n"
       "for each address. Port 0: one that is free",
       &o->listen},
      {"data", "DIR",
       "keep everything in this folder; if it has something,\n"
       "go on with that. Without it all is gone at the end",
       &o->data},
      {"metrics", "HOST:PORT",
       "where Prometheus reads /metrics, and a load balancer\n"
       "/healthz: HTTP, open to whoever reaches it",
       &o->metrics},
      {"tls-cert", "FILE", "this server's certificate: it speaks TLS then",
       &o->tls_cert},
      {"tls-key", "FILE", "and its key", &o->tls_key},
      {"tls-client-ca", "FILE",
       "clients show a certificate that this one has signed",
       &o->tls_client_ca},
      {"tls-client-optional", "", "clients may show a token instead",
       &o->tls_client_optional},
      {"access", "FILE",
       "who may do what (docs/service.md); without it\n"
       "everybody may do everything",
       &o->access},
      {"hub-name", "NAME",
       "what shared access signatures are for; needed if FILE\n"
       "has policies",
       &o->hub_name},
      {"gateway", "HOST:PORT",
       "a gateway that listens, to be dialled; give the flag\n"
       "once for each. MUSTER_GATEWAY_TOKEN: the token that\n"
       "they want",
       &o->gateways},
      {"gateway-tls-ca", "FILE",
       "who has signed these gateways' certificates: they\n"
       "speak TLS then",
       &o->gateway_tls_ca},
      {"insecure", "",
       "listen in plaintext or without --access at addresses\n"
       "that others reach, and dial gateways there in\n"
       "plaintext",
       &o->insecure},
      {"drain-seconds", "N", "what calls have to end when it ends (30)",
       IntFlag{&o->drain_seconds, 0, 3600}},
      {"calls-max", "N", "calls under way (1024); one more is refused",
       IntFlag{&o->calls_max, 1, 1'000'000}},
      {"streams-max", "N", "watches, queries and imports (4096)",
       IntFlag{&o->streams_max, 1, 1'000'000}},
      {"bulk-streams-max", "N", "imports and streamed queries among them (64)",
       IntFlag{&o->bulk_streams_max, 1, 10'000}},
      {"gateways-max", "N", "gateways that are attached (1024)",
       IntFlag{&o->gateways_max, 1, 65'535}},
      {"gateway-devices-max", "N", "devices of one gateway (1048576)",
       IntFlag{&o->gateway_devices_max, 1, 16'777'216}},
      {"message-bytes-max", "N", "of a message that a client sends (4194304)",
       IntFlag{&o->message_bytes_max, 64 << 10, 64 << 20}},
      {"query-cost-max", "N",
       "of a query: twins x comparisons (20000000000); one\n"
       "that is evaluated twin by twin, as CONCAT, counts as\n"
       "about 1000. 10^10 take about a second of a processor",
       IntFlag{&o->query_cost_max, 1, INT64_MAX}},
      {"quiet", "", "no progress, and nothing on standard error but errors",
       &o->quiet},
  };
  return WithEngineFlags(&o->engine, std::move(flags));
}

absl::Status CheckOptions(const ServeOptions& o, const Arguments& arguments) {
  if (arguments.Has("sync") && o.data.empty()) {
    return absl::InvalidArgumentError(
        "--sync says how --data keeps, which is missing");
  }
  if (o.tls_cert.empty() != o.tls_key.empty()) {
    return absl::InvalidArgumentError(
        "--tls-cert and --tls-key go together: one is missing");
  }
  if (!o.tls_client_ca.empty() && o.tls_cert.empty()) {
    return absl::InvalidArgumentError(
        "--tls-client-ca needs --tls-cert and --tls-key");
  }
  if (o.tls_client_optional && o.tls_client_ca.empty()) {
    return absl::InvalidArgumentError(
        "--tls-client-optional needs --tls-client-ca");
  }
  if (!o.hub_name.empty() && o.access.empty()) {
    return absl::InvalidArgumentError("--hub-name needs --access");
  }
  if (!o.gateway_tls_ca.empty() && o.gateways.empty()) {
    return absl::InvalidArgumentError("--gateway-tls-ca needs --gateway");
  }
  for (const std::string& address : o.listen) {
    if (!HasPort(address)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--listen must be HOST:PORT; got \"", address, "\""));
    }
  }
  for (const std::string& address : o.gateways) {
    if (!HasPort(address)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--gateway must be HOST:PORT; got \"", address, "\""));
    }
  }
  if (o.insecure) return absl::OkStatus();
  for (const std::string& address : o.gateways) {
    if (IsLoopback(address) || !o.gateway_tls_ca.empty()) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "everybody on the way to the gateway at ", address,
        " could read and change what is said: --gateway-tls-ca, or "
        "--insecure if you mean it"));
  }
  for (const std::string& address : o.listen) {
    if (IsLoopback(address)) continue;
    if (o.tls_cert.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "others reach ", address,
          ", and everybody on the way could read and change what is said: "
          "--tls-cert and --tls-key, or --insecure if you mean it"));
    }
    if (o.access.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "others reach ", address,
          ", and everybody could do everything: --access FILE, or --insecure "
          "if you mean it"));
    }
  }
  return absl::OkStatus();
}

// "100,000 twins; 3 jobs: 1 running, 2 completed".
std::string FoundText(const EngineStats& stats) {
  int64_t sum = 0;
  std::string by_status;
  for (size_t i = 0; i < stats.jobs.size(); ++i) {
    if (stats.jobs[i] == 0) continue;
    sum += stats.jobs[i];
    absl::StrAppend(&by_status, by_status.empty() ? ": " : ", ",
                    WithCommas(stats.jobs[i]), " ",
                    JobStatusName(static_cast<JobStatus>(i)));
  }
  return absl::StrCat(Counted(stats.twins, "twin"), "; ", Counted(sum, "job"),
                      by_status);
}

class Serving {
 public:
  Serving(const Command& command, const ServeOptions& options)
      : command_(command),
        options_(options),
        interrupt_(Interrupt::Install()),
        line_(ProgressLine::ModeForStderr(options.quiet)) {}

  // As far as it comes; an error is the arguments' or the folder's.
  absl::Status Start() {
    RaiseDescriptors();
    CallGuard::Options guard_options;
    if (!options_.access.empty()) {
      absl::StatusOr<std::shared_ptr<const Access>> access =
          Access::FromFile(options_.access, {.hub_name = options_.hub_name});
      if (!access.ok()) return access.status();
      guard_options.access = *std::move(access);
    }
    guard_options.calls_max = static_cast<int>(options_.calls_max);
    guard_options.streams_max = static_cast<int>(options_.streams_max);
    guard_options.gateways_max = static_cast<int>(options_.gateways_max);
    guard_ = std::make_unique<CallGuard>(guard_options);
    executor_ = MakeThreadExecutor(static_cast<int>(options_.engine.threads));
    GatewayTransportOptions gateway_options;
    gateway_options.clock = &clock_;
    gateway_options.executor = executor_.get();
    gateway_options.sessions_max = static_cast<int>(options_.gateways_max);
    gateway_options.devices_per_session_max =
        static_cast<int>(options_.gateway_devices_max);
    absl::StatusOr<std::unique_ptr<GatewayTransport>> gateways =
        GatewayTransport::Create(gateway_options);
    if (!gateways.ok()) return gateways.status();
    gateways_ = *std::move(gateways);
    if (absl::Status s = StartEngine(); !s.ok()) return s;
    // Nobody is served before all else is there.
    if (absl::Status s = StartMetrics(); !s.ok()) return s;
    if (absl::Status s = CheckOutbound(); !s.ok()) return s;
    if (absl::Status s = StartServer(); !s.ok()) return s;
    return StartOutbound();
  }

  int Run() {
    Tell();
    DiskWatch disk;
    // A disk that fails is no progress: it is said with --quiet, too.
    ProgressLine notes(ProgressLine::Mode::kPlain);
    absl::Status health;
    std::vector<std::unique_ptr<PortWatch>> ports;
    for (size_t i = 0; i < options_.listen.size(); ++i) {
      ports.push_back(std::make_unique<PortWatch>(
          WithPort(options_.listen[i], server_->ports()[i])));
    }
    while (!interrupt_.pending()) {
      const absl::Duration now = clock_.Monotonic();
      health = disk.Look(engine_->Health(), now, notes);
      for (const auto& port : ports) health.Update(port->Look(now));
      if (!health.ok()) break;
      interrupt_.Wait(kTick);
    }
    if (!health.ok()) {
      Complain(command_, absl::StrCat(health.message(), "; this server ends"));
    }
    End();
    return health.ok() ? kExitOk : kExitFailed;
  }

 private:
  // Each call may come on a connection of its own.
  void RaiseDescriptors() {
    const int64_t wanted = options_.calls_max + options_.streams_max +
                           options_.gateways_max + kDescriptorsOfItsOwn;
    const int64_t limit = RaiseDescriptorLimit();
    if (limit >= wanted) return;
    line_.Note(absl::StrCat(
        "this process may have ", WithCommas(limit),
        " descriptors (ulimit -Hn); as many calls and gateways as may be ",
        "under way could need ", WithCommas(wanted)));
  }

  absl::Status StartEngine() {
    const absl::Duration begin = clock_.Monotonic();
    EngineOptions engine_options;
    absl::Status status = SetEngineOptions(options_.engine, &engine_options);
    if (!status.ok()) return status;
    engine_options.transport = gateways_.get();
    engine_options.executor = executor_.get();
    if (!options_.data.empty()) {
      RocksDbJournalOptions journal_options;
      journal_options.directory = options_.data;
      journal_options.sync = SyncOf(options_.engine);
      absl::StatusOr<std::unique_ptr<RocksDbJournal>> journal =
          RocksDbJournal::Open(journal_options);
      if (!journal.ok()) {
        return absl::Status(
            journal.status().code(),
            absl::StrContains(journal.status().message(), options_.data)
                ? journal.status().message()
                : absl::StrCat(options_.data, ": ",
                               journal.status().message()));
      }
      journal_ = *std::move(journal);
      engine_options.journal = journal_.get();
      engine_options.recovery_progress = [&](int done, int partitions) {
        if (clock_.Monotonic() - begin < kPatience) return;
        Progress progress;
        progress.label = "recovering";
        progress.done = done;
        progress.total = partitions;
        progress.figures =
            absl::StrCat(done, " of ", partitions, " partitions");
        line_.Show(clock_.Monotonic(), progress);
      };
    }
    absl::StatusOr<std::unique_ptr<Engine>> engine =
        Engine::Create(engine_options);
    line_.Clear();
    if (!engine.ok()) return engine.status();
    engine_ = *std::move(engine);
    const EngineStats stats = engine_->Stats();
    if (options_.data.empty()) {
      line_.Note("nothing is kept: all is in memory (--data DIR keeps it)");
    } else {
      line_.Note(absl::StrCat("found in ", options_.data, ": ",
                              FoundText(stats), "; recovered in ",
                              ShortDuration(clock_.Monotonic() - begin)));
    }
    return absl::OkStatus();
  }

  absl::Status StartServer() {
    service_ = MakeGatewayService(gateways_.get(), guard_.get());
    GrpcServerOptions server_options;
    server_options.engine = engine_.get();
    server_options.guard = guard_.get();
    server_options.further.push_back(
        {.service = service_.get(),
         .name = "muster.v1.GatewayService",
         .drain = [this] { gateways_->BeginDrain(); }});
    server_options.listen = options_.listen;
    server_options.tls = {
        .certificate_path = options_.tls_cert,
        .key_path = options_.tls_key,
        .client_ca_path = options_.tls_client_ca,
        .client_certificate_required = !options_.tls_client_optional};
    server_options.message_size_max =
        static_cast<int>(options_.message_bytes_max);
    server_options.query_cost_max = options_.query_cost_max;
    // Room for two such queries, as by default.
    server_options.queries_cost_max = std::max(
        server_options.queries_cost_max,
        options_.query_cost_max <= INT64_MAX / 2 ? 2 * options_.query_cost_max
                                                 : INT64_MAX);
    server_options.bulk_streams_max =
        static_cast<int>(options_.bulk_streams_max);
    absl::StatusOr<std::unique_ptr<GrpcServer>> server =
        GrpcServer::Start(server_options);
    if (!server.ok()) return server.status();
    server_ = *std::move(server);
    return absl::OkStatus();
  }

  std::vector<ConnectOptions> OutboundConnects() const {
    std::vector<ConnectOptions> connects;
    for (const std::string& address : options_.gateways) {
      ConnectOptions connect;
      connect.address = address;
      connect.token = options_.gateway_token;
      connect.ca_path = options_.gateway_tls_ca;
      connect.tls = !options_.gateway_tls_ca.empty();
      connects.push_back(std::move(connect));
    }
    return connects;
  }

  // What StartOutbound() would find wrong, without dialling anybody.
  absl::Status CheckOutbound() const {
    for (const ConnectOptions& connect : OutboundConnects()) {
      absl::Status status = MakeChannel(connect).status();
      if (!status.ok()) {
        return absl::Status(status.code(),
                            absl::StrCat("--gateway ", connect.address, ": ",
                                         status.message()));
      }
    }
    return absl::OkStatus();
  }

  absl::Status StartOutbound() {
    if (options_.gateways.empty()) return absl::OkStatus();
    OutboundOptions outbound_options;
    outbound_options.clock = &clock_;
    outbound_options.executor = executor_.get();
    for (ConnectOptions& connect : OutboundConnects()) {
      outbound_options.gateways.push_back({.connect = std::move(connect)});
    }
    absl::StatusOr<std::unique_ptr<OutboundGateways>> outbound =
        OutboundGateways::Start(outbound_options, gateways_.get());
    if (!outbound.ok()) {
      return absl::Status(
          outbound.status().code(),
          absl::StrCat("--gateway: ", outbound.status().message()));
    }
    outbound_ = *std::move(outbound);
    return absl::OkStatus();
  }

  absl::Status StartMetrics() {
    if (options_.metrics.empty()) return absl::OkStatus();
    MetricsSources sources;
    sources.engine = [this] { return engine_->Stats(); };
    sources.health = [this] { return engine_->Health(); };
    sources.gateways = [this] { return gateways_->gateways(); };
    sources.gateway_totals = [this] { return gateways_->totals(); };
    sources.calls = [this] { return guard_->Stats(); };
    metrics_ = std::make_unique<Metrics>(std::move(sources));
    absl::StatusOr<std::unique_ptr<HttpServer>> http =
        HttpServer::Start({.listen = options_.metrics}, metrics_->Handler());
    if (!http.ok()) {
      return absl::Status(http.status().code(),
                          absl::StrCat("--metrics: ", http.status().message()));
    }
    http_ = *std::move(http);
    return absl::OkStatus();
  }

  // Where it is, and what to type next.
  void Tell() {
    std::string out;
    for (size_t i = 0; i < options_.listen.size(); ++i) {
      absl::StrAppend(
          &out, "serves at ", WithPort(options_.listen[i], server_->ports()[i]),
          " (",
          options_.tls_cert.empty()        ? "plaintext"
          : options_.tls_client_ca.empty() ? "TLS"
                                           : "mutual TLS",
          ", ", options_.access.empty() ? "no access control" : options_.access,
          ")\n");
    }
    if (http_ != nullptr) {
      absl::StrAppend(&out, "metrics at http://",
                      WithPort(options_.metrics, http_->port()), "/metrics\n");
    }
    const std::string address =
        WithPort(options_.listen[0], server_->ports()[0]);
    absl::StrAppend(&out, "\nNext, in another shell:\n");
    if (address != kServerDefault) {
      absl::StrAppend(&out, "  export MUSTER_SERVER=", address, "\n");
    }
    const std::string& muster = ProgramName();
    absl::StrAppend(&out, "  ", muster, " fleet --devices 10000 | ", muster,
                    " twin import -\n  ", muster,
                    " fleet simulate --gateways 2 --devices 10000\n  ", muster,
                    " job create --method reboot --condition '*' --watch\n");
    Print(out);
  }

  // Lets calls and gateways come to their end.
  void End() {
    const absl::Duration limit = absl::Seconds(options_.drain_seconds);
    bool busy = !gateways_->gateways().empty();
    for (const int64_t under_way : guard_->Stats().under_way) {
      busy = busy || under_way > 0;
    }
    line_.Note(absl::StrCat(
        "draining: no new calls; those under way, and ",
        Counted(static_cast<int64_t>(gateways_->gateways().size()), "gateway"),
        ", have ", ShortDuration(limit), " to end (a second signal ends at ",
        "once)"));
    const absl::Duration begin = clock_.Monotonic();
    server_->Drain(limit);
    // Those that were dialled have been told to drain, too.
    gateways_->AwaitDrained(limit - (clock_.Monotonic() - begin));
    if (outbound_ != nullptr) outbound_->Stop();
    // What became of the executions of a stream that was cut off is reported a
    // moment later; the engine has to hear and journal it.
    gateways_->AwaitDrained(absl::Seconds(1));
    if (http_ != nullptr) http_->Stop(absl::Seconds(1));
    engine_->Stop();
    const absl::Duration elapsed = clock_.Monotonic() - begin;
    line_.Note(elapsed < limit || !busy
                   ? absl::StrCat("drained in ", ShortDuration(elapsed))
                   : absl::StrCat("what was under way after ",
                                  ShortDuration(limit), " was cut off"));
  }

  const Command& command_;
  const ServeOptions& options_;
  Clock& clock_ = Clock::Real();
  Interrupt& interrupt_;
  ProgressLine line_;

  // Members go the other way round: first who calls, at last who is called.
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<RocksDbJournal> journal_;
  std::unique_ptr<GatewayTransport> gateways_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<CallGuard> guard_;
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<GrpcServer> server_;
  std::unique_ptr<OutboundGateways> outbound_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<HttpServer> http_;
};

int Serve(const Command& command, ServeOptions& options,
          const Arguments& arguments) {
  if (options.listen.empty()) options.listen.emplace_back(kServerDefault);
  if (absl::Status s = CheckOptions(options, arguments); !s.ok()) {
    return UsageError(command, s.message());
  }
  options.gateway_token = OfEnvironment("MUSTER_GATEWAY_TOKEN");
  // A reader of the text that goes away does not end the service.
  signal(SIGPIPE, SIG_IGN);
  Serving serving(command, options);
  if (absl::Status s = serving.Start(); !s.ok()) {
    Complain(command, s.message());
    return kExitUsage;
  }
  return serving.Run();
}

}  // namespace

const Command kServeCommand = {
    .name = "serve",
    .summary = "an engine as a service, for back ends and gateways",
    .arguments = "[--listen HOST:PORT] [--data DIR] [FLAGS]",
    .about =
        "Serves muster.v1 over gRPC: jobs and twins for back ends, and the "
        "gateways that\n"
        "hold the devices' connections. With --data it goes on where it was, "
        "after a kill\n"
        "or a power loss too. SIGTERM or ctrl-C drains: nobody new gets in, "
        "calls and\n"
        "gateways come to their end, jobs go on at the next start; a second "
        "signal ends\n"
        "at once. Exit codes: 0 drained, 1 another engine has taken the folder "
        "over, or a\n"
        "port takes no connections any more, 2 wrong arguments, folder or "
        "address.\n"
        "docs/service.md says more.\n",
    .example =
        "  muster serve --data /var/lib/muster\n"
        "  muster serve --listen 0.0.0.0:7040 --data /var/lib/muster \\\n"
        "      --tls-cert server.pem --tls-key server.key \\\n"
        "      --access access.json --hub-name hub.example.net \\\n"
        "      --metrics 127.0.0.1:9464\n",
    .invoke = MakeInvocation<ServeOptions, ServeFlags, Serve>};

}  // namespace muster
