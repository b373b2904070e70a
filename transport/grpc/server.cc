#include "transport/grpc/server.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "engine/model/check.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/resource_quota.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "transport/grpc/bulk_streams.h"
#include "transport/grpc/credentials.h"
#include "transport/grpc/early_check.h"
#include "transport/grpc/health_service.h"
#include "transport/grpc/job_service.h"
#include "transport/grpc/service_context.h"
#include "transport/grpc/twin_service.h"
#include "transport/query_budget.h"

namespace muster {
namespace {

constexpr char kJobServiceName[] = "muster.v1.JobService";
constexpr char kTwinServiceName[] = "muster.v1.TwinService";

// Those that wait for calls among them; beyond it RESOURCE_EXHAUSTED.
constexpr int kReflectionThreadsMax = 16;

absl::Status CheckRange(absl::string_view option, int64_t value, int64_t low,
                        int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(option, " must be in [", low, ", ", high, "]; got ", value));
}

absl::Status Validate(const GrpcServerOptions& o) {
  if (o.listen.empty()) {
    return absl::InvalidArgumentError(
        "listen is empty; give at least one \"host:port\"");
  }
  const absl::Status checks[] = {
      CheckRange("threads", o.threads, 1, 256),
      CheckRange("message_size_max", o.message_size_max, 64 << 10, 64 << 20),
      CheckRange("metadata_size_max", o.metadata_size_max, 1 << 10, 1 << 20),
      CheckRange("streams_per_connection_max", o.streams_per_connection_max, 1,
                 100'000),
      CheckRange("buffers_max", o.buffers_max, 16 << 20, INT64_MAX),
      CheckRange("bulk_streams_max", o.bulk_streams_max, 1, 1'000'000),
  };
  for (const absl::Status& check : checks) {
    if (!check.ok()) return check;
  }
  constexpr absl::Duration kShortest = absl::Milliseconds(1);
  for (const auto& [name, value] :
       {std::pair("stream_idle_timeout", o.stream_idle_timeout),
        std::pair("handshake_timeout", o.handshake_timeout),
        std::pair("keepalive_time", o.keepalive_time),
        std::pair("keepalive_timeout", o.keepalive_timeout),
        std::pair("connection_idle_timeout", o.connection_idle_timeout)}) {
    if (value < kShortest || value > absl::Hours(24)) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, " must be from a millisecond to a day; got ",
                       absl::FormatDuration(value)));
    }
  }
  return absl::OkStatus();
}

// For the health service.
std::vector<std::string> Names(const GrpcServerOptions& options) {
  std::vector<std::string> names = {kJobServiceName, kTwinServiceName};
  for (const FurtherService& further : options.further) {
    names.push_back(further.name);
  }
  return names;
}

int Milliseconds(absl::Duration duration) {
  return static_cast<int>(absl::ToInt64Milliseconds(duration));
}

}  // namespace

// In the order in which they are made; destroyed the other way round.
struct GrpcServer::Parts {
  explicit Parts(const GrpcServerOptions& o)
      : options(o),
        own_executor(o.executor == nullptr ? MakeThreadExecutor(o.threads)
                                           : nullptr),
        executor(own_executor ? own_executor.get() : o.executor),
        own_budget(kQueryCostMax, kQueriesCostMax,
                   QueryBudget::LongQueriesMax(executor->concurrency())),
        bulk(o.bulk_streams_max),
        context{.engine = o.engine,
                .guard = o.guard,
                .executor = executor,
                .clock = o.clock,
                .budget = o.budget == nullptr ? &own_budget : o.budget,
                .bulk = &bulk,
                .idle_timeout = o.stream_idle_timeout},
        jobs(context),
        twins(context),
        health(Names(o)) {}

  const GrpcServerOptions options;
  const std::unique_ptr<Executor> own_executor;
  Executor* const executor;
  QueryBudget own_budget;  // Unless there is another.
  BulkStreams bulk;
  const ServiceContext context;
  JobService jobs;
  TwinService twins;
  HealthService health;
  std::vector<int> ports;
  std::unique_ptr<grpc::Server> server;

  // Held as long as a drain takes.
  absl::Mutex drain_mutex;
  bool drained ABSL_GUARDED_BY(drain_mutex) = false;
};

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(
    const GrpcServerOptions& options) {
  MUSTER_CHECK(options.engine != nullptr && options.guard != nullptr &&
               options.clock != nullptr);
  if (absl::Status s = Validate(options); !s.ok()) return s;
  absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> credentials =
      MakeServerCredentials({.certificate_path = options.tls.certificate_path,
                             .key_path = options.tls.key_path,
                             .client_ca_path = options.tls.client_ca_path,
                             .client_certificate_required =
                                 options.tls.client_certificate_required},
                            "tls.");
  if (!credentials.ok()) return credentials.status();
  if (!options.tls.certificate_path.empty()) {
    (*credentials)->SetAuthMetadataProcessor(MakeEarlyCheck(options.guard));
  }

  auto parts = std::make_unique<Parts>(options);
  // Whoever links gRPC's reflection has it in every server of the process; this
  // sees to it that it is linked.
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  parts->ports.resize(options.listen.size());
  for (size_t i = 0; i < options.listen.size(); ++i) {
    builder.AddListeningPort(options.listen[i], *credentials, &parts->ports[i]);
  }
  builder.RegisterService(&parts->jobs);
  builder.RegisterService(&parts->twins);
  builder.RegisterService(&parts->health);
  for (const FurtherService& further : options.further) {
    builder.RegisterService(further.service);
  }
  builder.SetMaxReceiveMessageSize(options.message_size_max);
  grpc::ResourceQuota quota("muster");
  quota.Resize(static_cast<size_t>(options.buffers_max));
  // Reflection takes a thread for each of its streams: all others need none.
  quota.SetMaxThreads(kReflectionThreadsMax);
  builder.SetResourceQuota(quota);
  // A second server at the same port would take a part of the connections.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE,
                             options.metadata_size_max);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                             options.streams_per_connection_max);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                             Milliseconds(options.handshake_timeout));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS,
                             Milliseconds(options.keepalive_time));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                             Milliseconds(options.keepalive_timeout));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS,
                             Milliseconds(options.connection_idle_timeout));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // Clients ask for signs of life too: as often as every 5 seconds.
  builder.AddChannelArgument(
      GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5000);
  parts->server = builder.BuildAndStart();
  if (parts->server == nullptr) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen at ", absl::StrJoin(options.listen, ", "),
                     ": another process does, or it is no address of this "
                     "machine"));
  }
  return std::unique_ptr<GrpcServer>(new GrpcServer(std::move(parts)));
}

GrpcServer::GrpcServer(std::unique_ptr<Parts> parts)
    : parts_(std::move(parts)) {}

GrpcServer::~GrpcServer() { Drain(absl::ZeroDuration()); }

const std::vector<int>& GrpcServer::ports() const { return parts_->ports; }

void GrpcServer::Drain(absl::Duration limit) {
  Parts& p = *parts_;
  absl::MutexLock lock(&p.drain_mutex);
  if (std::exchange(p.drained, true)) return;
  p.health.Drain();
  p.jobs.Drain();
  for (const FurtherService& further : p.options.further) {
    if (further.drain) further.drain();
  }
  // What the clock can hold, and longer than anybody waits.
  p.server->Shutdown(std::chrono::system_clock::now() +
                     absl::ToChronoNanoseconds(std::clamp(
                         limit, absl::ZeroDuration(), absl::Hours(1 << 16))));
}

}  // namespace muster
