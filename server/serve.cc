// `muster serve`: an engine as a service.

#include <signal.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
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
#include "engine/model/identity.h"
#include "engine/model/job_status.h"
#include "engine/model/profile.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "grpcpp/impl/service_type.h"
#include "server/access_flags.h"
#include "server/command.h"
#include "server/connect_flags.h"
#include "server/descriptors.h"
#include "server/dev_hub.h"
#include "server/disk_watch.h"
#include "server/engine_flags.h"
#include "server/exit_code.h"
#include "server/flags.h"
#include "server/hub_server.h"
#include "server/interrupt.h"
#include "server/metrics.h"
#include "server/port_watch.h"
#include "server/progress.h"
#include "server/serve_options.h"
#include "server/simulated_gateway.h"
#include "server/text.h"
#include "transport/auth/access.h"
#include "transport/auth/sas_token.h"
#include "transport/grpc/address.h"
#include "transport/grpc/call_guard.h"
#include "transport/grpc/channel.h"
#include "transport/grpc/gateway/gateway_service.h"
#include "transport/grpc/gateway/gateway_transport.h"
#include "transport/grpc/gateway/outbound.h"
#include "transport/grpc/server.h"
#include "transport/http/http_server.h"
#include "transport/http/hub/hub_service.h"
#include "transport/query_budget.h"

namespace muster {
namespace {

constexpr absl::Duration kTick = absl::Milliseconds(200);
// A recovery that takes less is not worth a line.
constexpr absl::Duration kPatience = absl::Milliseconds(500);
// Descriptors beside the connections': the journal's files, mostly.
constexpr int64_t kDescriptorsOfItsOwn = 512;

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
    absl::StatusOr<std::shared_ptr<const Access>> access =
        MakeAccess(options_.access, DeviceKeysOfEngine());
    if (!access.ok()) return access.status();
    access_ = *std::move(access);
    guard_options.access = access_;
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
    if (absl::Status s = StartDevices(); !s.ok()) return s;
    if (absl::Status s = StartOutbound(); !s.ok()) return s;
    // Last: once it takes requests, nothing fails any more.
    return StartHub();
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
    // A connection of theirs that nobody has answered yet would be waited for.
    ports.clear();
    End();
    return health.ok() ? kExitOk : kExitFailed;
  }

 private:
  // Each call may come on a connection of its own.
  void RaiseDescriptors() {
    const int64_t wanted = options_.calls_max + options_.streams_max +
                           options_.gateways_max +
                           static_cast<int64_t>(options_.http.size()) *
                               options_.http_connections_max +
                           kDescriptorsOfItsOwn;
    const int64_t limit = RaiseDescriptorLimit();
    if (limit >= wanted) return;
    line_.Note(absl::StrCat(
        "this process may have ", WithCommas(limit),
        " descriptors (ulimit -Hn); as many calls, gateways and connections ",
        "as may be under way could need ", WithCommas(wanted)));
  }

  absl::Status StartEngine() {
    const absl::Duration begin = clock_.Monotonic();
    EngineOptions engine_options;
    absl::Status status = SetEngineOptions(options_.engine, &engine_options);
    if (!status.ok()) return status;
    profile_ = engine_options.profile;
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
    MakeBudget(server_options.threads);
    server_options.budget = budget_.get();
    server_options.bulk_streams_max =
        static_cast<int>(options_.bulk_streams_max);
    absl::StatusOr<std::unique_ptr<GrpcServer>> server =
        GrpcServer::Start(server_options);
    if (!server.ok()) return server.status();
    server_ = *std::move(server);
    return absl::OkStatus();
  }

  // For gRPC and the hub's API together.
  void MakeBudget(int grpc_threads) {
    // Room for two of the most expensive queries, as by default.
    const int64_t total =
        std::max(kQueriesCostMax, options_.query_cost_max <= INT64_MAX / 2
                                      ? 2 * options_.query_cost_max
                                      : INT64_MAX);
    // Wherever the long ones are, they leave threads to other calls.
    int threads = grpc_threads;
    if (options_.dev || !options_.http.empty()) {
      threads = std::min(threads, static_cast<int>(options_.http_threads));
    }
    budget_ = std::make_unique<QueryBudget>(
        options_.query_cost_max, total, QueryBudget::LongQueriesMax(threads));
  }

  // What a device may sign with: access.h has the contract.
  DeviceKeys DeviceKeysOfEngine() {
    return [this](absl::string_view device_id) {
      std::vector<SasKey> keys;
      const absl::StatusOr<DeviceIdentity> device =
          engine_->GetDevice(device_id);
      if (!device.ok() || !device->enabled) return keys;
      for (const std::string& text :
           {device->primary_key, device->secondary_key}) {
        absl::StatusOr<SasKey> key = SasKey::FromBase64(text);
        if (key.ok()) keys.push_back(*std::move(key));
      }
      return keys;
    };
  }

  absl::Status StartHub() {
    if (options_.http.empty() && !options_.dev) return absl::OkStatus();
    HubServerOptions hub_options;
    hub_options.listen = options_.http;
    if (!options_.tls_cert.empty()) {
      hub_options.tls = HttpTls{.certificate_path = options_.tls_cert,
                                .key_path = options_.tls_key};
    }
    hub_options.access = access_;
    hub_options.profile = profile_;
    hub_options.threads = static_cast<int>(options_.http_threads);
    hub_options.connections_max =
        static_cast<int>(options_.http_connections_max);
    hub_options.engine = engine_.get();
    hub_options.budget = budget_.get();
    if (options_.dev) {
      if (absl::Status s = SetDevOptions(&hub_options); !s.ok()) return s;
    }
    hub_addresses_ = options_.http;
    absl::StatusOr<std::unique_ptr<HubServer>> hub =
        hub_addresses_.empty()
            ? StartDevHub(hub_options, DevPorts(), &hub_addresses_)
            : HubServer::Start(hub_options);
    if (!hub.ok()) {
      return absl::Status(hub.status().code(),
                          absl::StrCat("--http: ", hub.status().message()));
    }
    hub_ = *std::move(hub);
    return absl::OkStatus();
  }

  absl::Status SetDevOptions(HubServerOptions* hub_options) {
    absl::StatusOr<DevFiles> files = OpenDevFiles(
        options_.data, options_.access.hub_name, clock_.Now(), SystemRandom());
    if (!files.ok()) return files.status();
    dev_ = *std::move(files);
    absl::StatusOr<std::shared_ptr<const Access>> access =
        MakeDevAccess(dev_, options_.access.hub_name, DeviceKeysOfEngine());
    if (!access.ok()) return access.status();
    hub_options->access = *std::move(access);
    hub_options->tls = HttpTls{.certificate_path = dev_.certificate_path,
                               .key_path = dev_.key_path};
    return absl::OkStatus();
  }

  // The devices of --dev, and a gateway that they are attached to.
  absl::Status StartDevices() {
    if (options_.devices == 0) return absl::OkStatus();
    const absl::Duration begin = clock_.Monotonic();
    const absl::StatusOr<int64_t> made = RegisterDevDevices(
        *engine_, options_.devices, SystemRandom(), [&](int64_t done) {
          if (clock_.Monotonic() - begin < kPatience) return;
          line_.Show(clock_.Monotonic(), {.label = "registering",
                                          .done = done,
                                          .total = options_.devices});
        });
    line_.Clear();
    if (!made.ok()) return made.status();
    devices_executor_ = MakeThreadExecutor(1);
    SimulatedGatewayOptions gateway_options;
    gateway_options.connect.address =
        WithPort(options_.listen[0], server_->ports()[0]);
    gateway_options.name = "dev";
    gateway_options.devices = DevDevices();
    gateway_options.device_count = static_cast<uint32_t>(options_.devices);
    gateway_options.executor = devices_executor_.get();
    absl::StatusOr<std::unique_ptr<SimulatedGateway>> devices =
        SimulatedGateway::Start(gateway_options);
    if (!devices.ok()) return devices.status();
    devices_ = *std::move(devices);
    line_.Note(absl::StrCat("simulates ", Counted(options_.devices, "device"),
                            ", ", WithCommas(*made), " of them new"));
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

  std::string AccessText() const {
    if (!options_.access.given()) return "no access control";
    std::string text = options_.access.file;
    for (const std::string& policy : options_.access.policies) {
      absl::StrAppend(&text, text.empty() ? "" : ", ",
                      policy.substr(0, policy.find('=')));
    }
    return text;
  }

  // Where it is, and what to type next.
  void Tell() {
    std::string out;
    for (size_t i = 0; i < options_.listen.size(); ++i) {
      absl::StrAppend(&out, "serves at ",
                      WithPort(options_.listen[i], server_->ports()[i]), " (",
                      options_.tls_cert.empty()        ? "plaintext"
                      : options_.tls_client_ca.empty() ? "TLS"
                                                       : "mutual TLS",
                      ", ", AccessText(), ")\n");
    }
    for (size_t i = 0; i < hub_addresses_.size(); ++i) {
      absl::StrAppend(&out, "serves the hub's API at http",
                      options_.dev || !options_.tls_cert.empty() ? "s" : "",
                      "://", WithPort(hub_addresses_[i], hub_->ports()[i]),
                      " (", options_.dev ? kDevPolicy : AccessText(), ")\n");
    }
    if (http_ != nullptr) {
      absl::StrAppend(&out, "metrics at http://",
                      WithPort(options_.metrics, http_->port()), "/metrics\n");
    }
    const std::string address =
        WithPort(options_.listen[0], server_->ports()[0]);
    const std::string& muster = ProgramName();
    absl::StrAppend(&out, options_.dev
                              ? DevHubText(dev_, options_.access.hub_name,
                                           hub_->ports()[0], muster)
                              : "\nNext, in another shell:\n");
    if (address != kServerDefault) {
      absl::StrAppend(&out, "  export MUSTER_SERVER=", address, "\n");
    }
    if (devices_ == nullptr) {
      absl::StrAppend(&out, "  ", muster, " fleet --devices 10000 | ", muster,
                      " twin import -\n  ", muster,
                      " fleet simulate --gateways 2 --devices 10000\n");
    }
    absl::StrAppend(&out, "  ", muster,
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
    int requests_cut_off = 0;
    if (hub_ == nullptr) {
      server_->Drain(limit);
    } else {
      std::thread hub([&] { requests_cut_off = hub_->Drain(limit); });
      server_->Drain(limit);
      hub.join();
    }
    // Those that were dialled have been told to drain, too.
    gateways_->AwaitDrained(limit - (clock_.Monotonic() - begin));
    if (outbound_ != nullptr) outbound_->Stop();
    if (devices_ != nullptr) devices_->Stop();
    // What became of the executions of a stream that was cut off is reported a
    // moment later; the engine has to hear and journal it.
    gateways_->AwaitDrained(absl::Seconds(1));
    if (http_ != nullptr) http_->Stop(absl::Seconds(1));
    engine_->Stop();
    const absl::Duration elapsed = clock_.Monotonic() - begin;
    if (requests_cut_off > 0) {
      line_.Note(absl::StrCat(
          "what was under way after ", ShortDuration(limit), " was cut off, ",
          Counted(requests_cut_off, "request"), " of the hub's API among it"));
    } else if (busy && elapsed >= limit) {
      line_.Note(absl::StrCat("what was under way after ", ShortDuration(limit),
                              " was cut off"));
    } else {
      line_.Note(absl::StrCat("drained in ", ShortDuration(elapsed)));
    }
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
  std::shared_ptr<const Access> access_;
  Profile profile_;
  std::unique_ptr<CallGuard> guard_;
  std::unique_ptr<QueryBudget> budget_;
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<GrpcServer> server_;
  std::unique_ptr<OutboundGateways> outbound_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<HttpServer> http_;
  DevFiles dev_;  // With --dev.
  std::vector<std::string> hub_addresses_;
  std::unique_ptr<HubServer> hub_;
  std::unique_ptr<Executor> devices_executor_;
  std::unique_ptr<SimulatedGateway> devices_;
};

int Serve(const Command& command, ServeOptions& options,
          const Arguments& arguments) {
  if (options.listen.empty()) options.listen.emplace_back(kServerDefault);
  if (options.dev) {
    if (options.data.empty()) options.data = kDevData;
    if (options.access.hub_name.empty()) options.access.hub_name = kDevHubName;
  }
  if (absl::Status s = CheckServeOptions(options, arguments); !s.ok()) {
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
    .arguments = "[--listen HOST:PORT] [--http HOST:PORT] [--data DIR] [FLAGS]",
    .about =
        "Serves muster.v1 over gRPC: jobs and twins for back ends, and the "
        "gateways that\n"
        "hold the devices' connections; with --http the hub's own REST API, "
        "too, for\n"
        "clients of its SDKs. --dev is a whole hub for development, in one "
        "command. With\n"
        "--data it goes on where it was, after a kill or a power loss too. "
        "SIGTERM or\n"
        "ctrl-C drains: nobody new gets in, calls and gateways come to their "
        "end, jobs go\n"
        "on at the next start; a second signal ends at once. Exit codes: 0 "
        "drained, 1\n"
        "another engine has taken the folder over, or a port takes no "
        "connections any\n"
        "more, 2 wrong arguments, folder or address. docs/service.md says "
        "more.\n",
    .example =
        "  muster serve --dev --devices 100\n"
        "  muster serve --listen 0.0.0.0:7040 --data /var/lib/muster \\\n"
        "      --tls-cert server.pem --tls-key server.key \\\n"
        "      --access access.json --hub-name hub.example.net \\\n"
        "      --metrics 127.0.0.1:9464\n"
        "  muster serve --http 0.0.0.0:443 --data /var/lib/muster \\\n"
        "      --tls-cert server.pem --tls-key server.key \\\n"
        "      --hub-name hub.example.net --policy iothubowner=@owner.key\n",
    .invoke = MakeInvocation<ServeOptions, ServeFlags, Serve>};

}  // namespace muster
