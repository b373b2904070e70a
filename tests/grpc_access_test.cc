// Who gets in over gRPC, and to what: every role x every rpc, by token,
// signature and certificate; TLS and its opposite; and nothing secret in what
// is said about it.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/instant.h"
#include "engine/model/json.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "google/protobuf/text_format.h"
#include "google/protobuf/util/json_util.h"
#include "grpc/support/log.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/completion_queue.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/support/byte_buffer.h"
#include "gtest/gtest.h"
#include "muster/v1/gateway_service.grpc.pb.h"
#include "muster/v1/job_service.grpc.pb.h"
#include "muster/v1/twin_service.grpc.pb.h"
#include "tests/test_certificates.h"
#include "transport/auth/access.h"
#include "transport/auth/caller.h"
#include "transport/auth/sas_token.h"
#include "transport/grpc/call_guard.h"
#include "transport/grpc/channel.h"
#include "transport/grpc/client.h"
#include "transport/grpc/gateway/gateway_service.h"
#include "transport/grpc/gateway/gateway_transport.h"
#include "transport/grpc/server.h"
#include "transport/grpc/status.h"

namespace muster {
namespace {

constexpr absl::string_view kHub = "hub.example.net";
constexpr absl::string_view kKey =
    "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
constexpr absl::string_view kForeignKey = "Zm9yZWlnbmZvcmVpZ25mb3JlaWdu";

// When all servers begin.
const absl::Time kStart = absl::Now();

// A wall clock that the test sets, on the machine's own monotonic one.
class WallClock final : public Clock {
 public:
  absl::Time Now() override {
    return absl::FromUnixNanos(now_.load(std::memory_order_relaxed));
  }
  absl::Duration Monotonic() override { return Clock::Real().Monotonic(); }

  void Advance(absl::Duration duration) {
    now_.fetch_add(absl::ToInt64Nanoseconds(duration),
                   std::memory_order_relaxed);
  }

 private:
  std::atomic<int64_t> now_{absl::ToUnixNanos(kStart)};
};

// --------------------------------------------------------------------- calls

// What each rpc needs, and how it ends when all that it gets is one empty
// message.
struct Rpc {
  Role role;
  absl::StatusCode end;
};

const std::map<std::string, Rpc>& Rpcs() {
  constexpr auto kOk = absl::StatusCode::kOk;
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  static const auto& rpcs = *new std::map<std::string, Rpc>{
      {"muster.v1.JobService.CreateJob", {Role::kWrite, kInvalid}},
      {"muster.v1.JobService.GetJob", {Role::kRead, kInvalid}},
      {"muster.v1.JobService.ListJobs", {Role::kRead, kOk}},
      {"muster.v1.JobService.CancelJob", {Role::kWrite, kInvalid}},
      {"muster.v1.JobService.WatchJob", {Role::kRead, kInvalid}},
      {"muster.v1.JobService.GetExecution", {Role::kRead, kInvalid}},
      {"muster.v1.JobService.ListExecutions", {Role::kRead, kInvalid}},
      {"muster.v1.JobService.PreviewTargets", {Role::kRead, kInvalid}},
      {"muster.v1.TwinService.GetTwin", {Role::kRead, kInvalid}},
      {"muster.v1.TwinService.UpdateTwin", {Role::kWrite, kInvalid}},
      {"muster.v1.TwinService.ReplaceTwin", {Role::kWrite, kInvalid}},
      {"muster.v1.TwinService.DeleteTwin", {Role::kWrite, kInvalid}},
      {"muster.v1.TwinService.QueryTwins", {Role::kRead, kInvalid}},
      {"muster.v1.TwinService.StreamTwins", {Role::kRead, kInvalid}},
      {"muster.v1.TwinService.ImportTwins", {Role::kWrite, kOk}},
      {"muster.v1.GatewayService.Attach", {Role::kGateway, kInvalid}},
  };
  return rpcs;
}

// "/muster.v1.JobService/GetJob"
std::string PathOf(absl::string_view full_name) {
  const size_t dot = full_name.rfind('.');
  return absl::StrCat("/", full_name.substr(0, dot), "/",
                      full_name.substr(dot + 1));
}

// How a call of any kind ends that sends one message, with these values of
// `authorization`.  `*last` is the last message that came.
grpc::Status Call(grpc::Channel* channel, const std::string& path,
                  const std::vector<std::string>& authorizations,
                  const std::string& request, std::string* last) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::seconds(60));
  for (const std::string& authorization : authorizations) {
    context.AddMetadata("authorization", authorization);
  }
  grpc::CompletionQueue queue;
  grpc::GenericStub stub(std::shared_ptr<grpc::Channel>(
      channel, [](grpc::Channel*) { /* The caller's. */ }));
  const auto stream = stub.PrepareCall(&context, path, &queue);
  const auto next = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  stream->StartCall(nullptr);
  bool open = next();
  if (open) {
    const grpc::Slice slice(request);
    stream->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(),
                      nullptr);
    next();  // Whether or not it was wanted.
  }
  while (open) {
    grpc::ByteBuffer message;
    stream->Read(&message, nullptr);
    open = next();
    grpc::Slice slice;
    if (open && message.DumpToSingleSlice(&slice).ok()) {
      last->assign(reinterpret_cast<const char*>(slice.begin()), slice.size());
    }
  }
  grpc::Status status;
  stream->Finish(&status, nullptr);
  MUSTER_CHECK(next());
  queue.Shutdown();
  MUSTER_CHECK(!next());
  return status;
}

// The same with an empty message.
grpc::Status CallEmpty(grpc::Channel* channel, const std::string& path,
                       const std::vector<std::string>& authorizations) {
  std::string last;
  return Call(channel, path, authorizations, "", &last);
}

absl::StatusCode CodeOf(const grpc::Status& status) {
  return static_cast<absl::StatusCode>(status.error_code());
}

// ---------------------------------------------------------------------- logs

// All that gRPC has logged in this process, down to its debug messages.
class Logs {
 public:
  static Logs& Captured() {
    static Logs& logs = *new Logs;
    return logs;
  }

  std::string text() {
    absl::MutexLock lock(&mutex_);
    return text_;
  }

 private:
  Logs() {
    gpr_set_log_verbosity(GPR_LOG_SEVERITY_DEBUG);
    gpr_set_log_function([](gpr_log_func_args* line) {
      Logs& logs = Captured();
      absl::MutexLock lock(&logs.mutex_);
      absl::StrAppend(&logs.text_, line->message, "\n");
    });
  }

  absl::Mutex mutex_;
  std::string text_ ABSL_GUARDED_BY(mutex_);
};

// -------------------------------------------------------------- who may call

// Somebody whom the access file knows, or claims to be.
struct Credential {
  std::string what;
  std::string authorization;
  RoleSet roles;
};

// Each set of roles that a file can give.
std::vector<std::pair<std::string, std::vector<std::string>>> RoleSets() {
  return {{"reader", {"read"}},
          {"writer", {"write"}},
          {"gateway", {"gateway"}},
          {"reader-gateway", {"read", "gateway"}},
          {"writer-gateway", {"write", "gateway"}}};
}

RoleSet RolesOf(const std::vector<std::string>& names) {
  RoleSet roles;
  for (const std::string& name : names) roles.Add(FindRole(name).value());
  return roles;
}

std::string BearerOf(absl::string_view name) {
  return absl::StrCat("bearer-secret-of-", name);
}

std::string SubjectOf(absl::string_view name) {
  return absl::StrCat("spiffe://example.net/", name);
}

std::string AccessJson() {
  std::vector<std::string> policies, tokens, certificates;
  for (const auto& [name, roles] : RoleSets()) {
    const std::string list =
        absl::StrCat("[\"", absl::StrJoin(roles, "\",\""), "\"]");
    policies.push_back(absl::StrCat(R"({"name":"sas-)", name, R"(","roles":)",
                                    list, R"(,"primaryKey":")", kKey, R"("})"));
    tokens.push_back(absl::StrCat(R"({"name":"bearer-)", name, R"(","roles":)",
                                  list, R"(,"sha256":")",
                                  HashBearerToken(BearerOf(name)), R"("})"));
    certificates.push_back(
        absl::StrCat(R"({"name":"cert-)", name, R"(","roles":)", list,
                     R"(,"subject":")", SubjectOf(name), R"("})"));
  }
  policies.push_back(absl::StrCat(
      R"({"name":"other","roles":["write","gateway"],"primaryKey":")",
      kForeignKey, R"("})"));
  policies.push_back(absl::StrCat(
      R"({"name":"fleet-eu","roles":["gateway"],"devices":["eu-*"],)",
      R"("primaryKey":")", kKey, R"("})"));
  // Good for a fifth of a second.
  tokens.push_back(
      absl::StrCat(R"({"name":"brief","roles":["write","gateway"],"sha256":")",
                   HashBearerToken(BearerOf("brief")), R"(","expires":")",
                   FormatInstant(kStart + absl::Milliseconds(200)), R"("})"));
  tokens.push_back(
      absl::StrCat(R"({"name":"past","roles":["write","gateway"],"sha256":")",
                   HashBearerToken(BearerOf("past")),
                   R"(","expires":"2001-02-03T04:05:06Z"})"));
  return absl::StrCat(R"({"policies":[)", absl::StrJoin(policies, ","),
                      R"(],"tokens":[)", absl::StrJoin(tokens, ","),
                      R"(],"certificates":[)", absl::StrJoin(certificates, ","),
                      "]}");
}

std::string Sas(absl::string_view policy, absl::string_view resource = kHub,
                absl::string_view key = kKey,
                absl::Duration lifetime = absl::Hours(1)) {
  return SasKey::FromBase64(key).value().MakeToken(resource, policy,
                                                   kStart + lifetime);
}

std::vector<Credential> Callers() {
  std::vector<Credential> callers;
  for (const auto& [name, roles] : RoleSets()) {
    callers.push_back(
        {"bearer " + name, "Bearer " + BearerOf(name), RolesOf(roles)});
    callers.push_back(
        {"signature " + name, Sas("sas-" + name), RolesOf(roles)});
  }
  // Of a policy with more roles: for a device only this one counts.
  callers.push_back({"signature for a device",
                     Sas("sas-writer-gateway", "hub.example.net/devices/eu-1"),
                     {Role::kGateway}});
  return callers;
}

// ----------------------------------------------------------------- the server

class Service {
 public:
  explicit Service(const GrpcServerTls& tls = {},
                   int64_t buffers_max = GrpcServerOptions().buffers_max) {
    Logs::Captured();
    access_ =
        Access::Parse(AccessJson(), {.hub_name = std::string(kHub)}).value();
    executor_ = MakeThreadExecutor(2);
    gateways_ = GatewayTransport::Create(
                    {.clock = &clock_, .executor = executor_.get()})
                    .value();
    engine_ = Engine::Create({.transport = gateways_.get()}).value();
    guard_ = std::make_unique<CallGuard>(
        CallGuard::Options{.access = access_, .clock = &clock_});
    gateway_service_ = MakeGatewayService(gateways_.get(), guard_.get());
    GrpcServerOptions options;
    options.engine = engine_.get();
    options.guard = guard_.get();
    options.further = {{.service = gateway_service_.get(),
                        .name = "muster.v1.GatewayService",
                        .drain = [this] { gateways_->BeginDrain(); }}};
    options.listen = {"127.0.0.1:0"};
    options.tls = tls;
    options.threads = 4;
    options.buffers_max = buffers_max;
    server_ = GrpcServer::Start(options).value();
  }

  ~Service() {
    server_.reset();
    engine_->Stop();
  }

  WallClock& clock() { return clock_; }
  Engine& engine() { return *engine_; }
  CallGuard& guard() { return *guard_; }
  std::string address() const {
    return absl::StrCat("127.0.0.1:", server_->ports()[0]);
  }

  std::shared_ptr<grpc::Channel> Channel(ConnectOptions options = {}) const {
    options.address = address();
    return MakeChannel(options).value();
  }

 private:
  WallClock clock_;
  std::shared_ptr<const Access> access_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<GatewayTransport> gateways_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<CallGuard> guard_;
  std::unique_ptr<grpc::Service> gateway_service_;
  std::unique_ptr<GrpcServer> server_;
};

// What must not be shown: keys, bearer tokens and their hashes, signatures.
std::vector<std::string> Secrets() {
  std::vector<std::string> secrets = {std::string(kKey),
                                      std::string(kForeignKey),
                                      "bearer-secret-of-", "PRIVATE KEY"};
  for (const auto& [name, roles] : RoleSets()) {
    secrets.push_back(HashBearerToken(BearerOf(name)));
  }
  return secrets;
}

void ExpectNothingSecret(absl::string_view shown,
                         absl::string_view authorization) {
  for (const std::string& secret : Secrets()) {
    EXPECT_FALSE(absl::StrContains(shown, secret)) << shown;
  }
  const size_t at = authorization.find("sig=");
  if (at == absl::string_view::npos || authorization.size() < at + 20) return;
  EXPECT_FALSE(absl::StrContains(shown, authorization.substr(at + 4, 16)))
      << shown;
}

class GrpcAccessTest : public testing::Test {
 protected:
  // The check is of the whole process so far.
  void TearDown() override {
    ExpectNothingSecret(Logs::Captured().text(), "");
    EXPECT_FALSE(absl::StrContains(Logs::Captured().text(), "sig="));
  }
};

void ExpectRefused(const grpc::Status& status, ErrorCode code,
                   absl::string_view authorization) {
  const absl::Status refusal = FromGrpcStatus(status);
  EXPECT_EQ(refusal.code(), ErrorInfoOf(code).canonical) << refusal;
  // The details have the public hub's number.
  EXPECT_EQ(ErrorCodeOf(refusal), code) << refusal;
  ExpectNothingSecret(
      absl::StrCat(status.error_message(), status.error_details()),
      authorization);
}

// Each of the rpcs, as somebody with these roles.
void ExpectRoles(grpc::Channel* channel, RoleSet roles,
                 const std::vector<std::string>& authorizations) {
  for (const auto& [name, rpc] : Rpcs()) {
    SCOPED_TRACE(name);
    const grpc::Status status =
        CallEmpty(channel, PathOf(name), authorizations);
    if (roles.Has(rpc.role)) {
      EXPECT_EQ(CodeOf(status), rpc.end) << status.error_message();
    } else {
      ExpectRefused(status, ErrorCode::kIotHubUnauthorizedAccess,
                    absl::StrJoin(authorizations, " "));
    }
  }
}

// ------------------------------------------------------------- roles x rpcs

// No rpc is forgotten here: the table above is what the services have.
TEST_F(GrpcAccessTest, TableIsWhole) {
  std::vector<std::string> names;
  for (const google::protobuf::FileDescriptor* file :
       {v1::Job::descriptor()->file(), v1::Twin::descriptor()->file(),
        v1::AttachRequest::descriptor()->file()}) {
    for (int i = 0; i < file->service_count(); ++i) {
      const google::protobuf::ServiceDescriptor* service = file->service(i);
      // It is gateways that serve it.
      if (service->name() == "GatewayListenerService") continue;
      for (int j = 0; j < service->method_count(); ++j) {
        names.push_back(service->method(j)->full_name());
      }
    }
  }
  std::sort(names.begin(), names.end());
  std::vector<std::string> known;
  for (const auto& [name, rpc] : Rpcs()) known.push_back(name);
  EXPECT_EQ(names, known);
}

// What else the server serves: these two, to everybody, with or without
// credentials.  They tell what it serves and whether it is up.
TEST_F(GrpcAccessTest, ServicesWithoutAccessControl) {
  const Service service;
  const auto channel = service.Channel();
  // The messages are those that gRPC's own library has linked in already.
  const auto make = [](const std::string& name) {
    const google::protobuf::Descriptor* const type =
        google::protobuf::DescriptorPool::generated_pool()
            ->FindMessageTypeByName("grpc.reflection.v1alpha." + name);
    MUSTER_CHECK(type != nullptr);
    return std::unique_ptr<google::protobuf::Message>(
        google::protobuf::MessageFactory::generated_factory()
            ->GetPrototype(type)
            ->New());
  };
  const auto request = make("ServerReflectionRequest");
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString("list_services: ''",
                                                            request.get()));
  std::string bytes;
  ASSERT_TRUE(
      Call(channel.get(),
           "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", {},
           request->SerializeAsString(), &bytes)
          .ok());
  const auto response = make("ServerReflectionResponse");
  ASSERT_TRUE(response->ParseFromString(bytes));
  std::string text;
  ASSERT_TRUE(
      google::protobuf::util::MessageToJsonString(*response, &text).ok());
  const Json json = ParseJson(text).value();
  std::vector<std::string> names;
  for (const JsonView found :
       json.view().Find("listServicesResponse").Find("service").elements()) {
    names.emplace_back(found.Find("name").string_value());
  }
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{
                       "grpc.health.v1.Health",
                       "grpc.reflection.v1alpha.ServerReflection",
                       "muster.v1.GatewayService", "muster.v1.JobService",
                       "muster.v1.TwinService"}));
  EXPECT_TRUE(
      CallEmpty(channel.get(), "/grpc.health.v1.Health/Check", {}).ok());
  EXPECT_EQ(CallEmpty(channel.get(), "/muster.v1.GatewayListenerService/Serve",
                      {Sas("sas-writer-gateway")})
                .error_code(),
            grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(GrpcAccessTest, EveryRoleAndEveryRpc) {
  const Service service;
  const auto channel = service.Channel();
  for (const Credential& caller : Callers()) {
    SCOPED_TRACE(caller.what);
    ExpectRoles(channel.get(), caller.roles, {caller.authorization});
  }
}

TEST_F(GrpcAccessTest, EveryRpcRefusesWhoIsNobody) {
  Service service;
  const auto channel = service.Channel();
  constexpr auto kUnauthorized = ErrorCode::kIotHubUnauthorized;
  constexpr auto kDenied = ErrorCode::kIotHubUnauthorizedAccess;
  const std::string good = Sas("sas-writer-gateway");
  const struct {
    absl::string_view what;
    std::vector<std::string> authorizations;
    ErrorCode code;
  } kCases[] = {
      {"nothing", {}, kUnauthorized},
      {"an empty one", {""}, kUnauthorized},
      {"expired",
       {Sas("sas-writer-gateway", kHub, kKey, -absl::Seconds(302))},
       kUnauthorized},
      {"another hub", {Sas("sas-writer-gateway", "hub.example.org")}, kDenied},
      {"a path of the hub",
       {Sas("sas-writer-gateway", "hub.example.net/jobs/v2")},
       kDenied},
      {"another key", {Sas("sas-writer-gateway", kHub, kForeignKey)}, kDenied},
      {"another policy's key", {Sas("other")}, kDenied},
      {"an unknown policy", {Sas("nobody")}, kDenied},
      {"a device's own", {Sas("", "hub.example.net/devices/eu-1")}, kDenied},
      {"a device that is not the policy's",
       {Sas("fleet-eu", "hub.example.net/devices/us-1")},
       kDenied},
      {"another signature",
       {absl::StrReplaceAll(good, {{"&sig=", "&sig=A"}})},
       kDenied},
      {"another expiry",
       {absl::StrReplaceAll(good, {{"&se=", "&se=1"}})},
       kDenied},
      {"no scheme", {good.substr(good.find(' ') + 1)}, kUnauthorized},
      {"another scheme",
       {absl::StrReplaceAll(good, {{"Signature", ""}})},
       kUnauthorized},
      {"fields without a signature",
       {"SharedAccessSignature sr=hub.example.net&se=1900000000"},
       kUnauthorized},
      {"no number",
       {absl::StrReplaceAll(good, {{"&se=", "&se=x"}})},
       kUnauthorized},
      {"bad escapes",
       {absl::StrReplaceAll(good, {{"&sig=", "&sig=%zz"}})},
       kUnauthorized},
      {"long", {"Bearer " + std::string(9000, 'x')}, kUnauthorized},
      {"an unknown bearer", {"Bearer bearer-secret-of-nobody"}, kUnauthorized},
      {"a bearer's hash",
       {"Bearer " + HashBearerToken(BearerOf("writer-gateway"))},
       kUnauthorized},
      {"a bearer that has expired",
       {"Bearer " + BearerOf("past")},
       kUnauthorized},
      {"a bearer without its scheme",
       {BearerOf("writer-gateway")},
       kUnauthorized},
      {"a name and a password", {"Basic YTpi"}, kUnauthorized},
      {"two that are good alone",
       {good, "Bearer " + BearerOf("writer")},
       kUnauthorized},
  };
  int64_t refused = 0;
  for (const auto& [what, authorizations, code] : kCases) {
    SCOPED_TRACE(what);
    for (const auto& [name, rpc] : Rpcs()) {
      SCOPED_TRACE(name);
      ExpectRefused(CallEmpty(channel.get(), PathOf(name), authorizations),
                    code, authorizations.empty() ? "" : authorizations[0]);
      ++refused;
    }
  }
  // Each was counted, none as under way.
  const CallGuardStats stats = service.guard().Stats();
  int64_t counted = 0;
  for (const CallGuardStats::Method& method : stats.methods) {
    EXPECT_EQ(method.under_way, 0) << method.name;
    for (const int64_t ended : method.ended) counted += ended;
    EXPECT_EQ(method.ended[0], 0) << method.name;
  }
  EXPECT_EQ(counted, refused);
}

// For a call by hand.
void Prepare(grpc::ClientContext* context, absl::string_view bearer) {
  context->AddMetadata("authorization",
                       absl::StrCat("Bearer ", BearerOf(bearer)));
  context->set_deadline(std::chrono::system_clock::now() +
                        std::chrono::seconds(60));
}

// A job that does nothing today.
v1::CreateJobRequest LaterJob() {
  v1::CreateJobRequest request;
  request.set_job_id("later");
  request.mutable_job()->set_query_condition("*");
  request.mutable_job()->mutable_twin_update()->set_merge_patch(
      R"({"tags":{"a":2}})");
  request.mutable_job()->mutable_start_time()->set_seconds(
      absl::ToUnixSeconds(kStart + absl::Hours(24)));
  return request;
}

// ---------------------------------------------------------------- no effects

TEST_F(GrpcAccessTest, ReaderChangesNothing) {
  Service service;
  ASSERT_TRUE(
      service.engine().UpsertTwin(R"({"deviceId":"d","tags":{"a":1}})").ok());
  ConnectOptions options;
  options.address = service.address();
  options.token = BearerOf("writer");
  const auto writer = MusterClient::Connect(options).value();
  options.token = BearerOf("reader");
  const auto reader = MusterClient::Connect(options).value();

  v1::CreateJobRequest create = LaterJob();
  ASSERT_TRUE(writer->CreateJob(create).ok());
  create.set_job_id("now");
  create.mutable_job()->clear_start_time();

  v1::UpdateTwinRequest update;
  update.mutable_twin()->set_name("twins/d");
  update.set_merge_patch(R"({"tags":{"a":2}})");
  v1::ReplaceTwinRequest replace;
  replace.mutable_twin()->set_name("twins/d");
  replace.mutable_twin()->set_document(R"({"deviceId":"d","tags":{"a":2}})");
  int left = 1;
  const absl::Status refusals[] = {
      reader->CreateJob(create).status(),
      reader->CancelJob("jobs/later", true).status(),
      reader->UpdateTwin(update).status(),
      reader->ReplaceTwin(replace).status(),
      reader->DeleteTwin("twins/d"),
      reader
          ->ImportTwins(
              [&left](std::string* document) {
                *document = R"({"deviceId":"new"})";
                return left-- > 0;
              },
              [](int64_t) {})
          .status(),
  };
  for (const absl::Status& refusal : refusals) {
    EXPECT_EQ(ErrorCodeOf(refusal), ErrorCode::kIotHubUnauthorizedAccess)
        << refusal;
    EXPECT_TRUE(absl::StrContains(
        refusal.message(),
        "\"bearer-reader\" needs the role write; it has read"))
        << refusal;
  }
  const auto jobs = reader->ListJobs({});
  ASSERT_TRUE(jobs.ok()) << jobs.status();
  ASSERT_EQ(jobs->jobs_size(), 1);
  EXPECT_EQ(jobs->jobs(0).state(), v1::Job::STATE_SCHEDULED);
  const auto twin = reader->GetTwin("twins/d");
  ASSERT_TRUE(twin.ok()) << twin.status();
  EXPECT_TRUE(absl::StrContains(twin->document(), R"("tags":{"a":1})"))
      << twin->document();
  EXPECT_EQ(service.engine().Stats().twins, 1);
}

// A client that is given a signature, or makes its own.
TEST_F(GrpcAccessTest, ClientWithSharedAccess) {
  const Service service;
  ConnectOptions options;
  options.address = service.address();
  options.token = Sas("sas-reader");
  EXPECT_TRUE(MusterClient::Connect(options).value()->ListJobs({}).ok());
  options.token.clear();
  options.shared_access.resource = std::string(kHub);
  options.shared_access.policy = "sas-reader";
  options.shared_access.key = std::string(kKey);
  EXPECT_TRUE(MusterClient::Connect(options).value()->ListJobs({}).ok());
  options.shared_access.key = std::string(kForeignKey);
  const absl::Status status =
      MusterClient::Connect(options).value()->ListJobs({}).status();
  EXPECT_EQ(ErrorCodeOf(status), ErrorCode::kIotHubUnauthorizedAccess);
  ExpectNothingSecret(status.ToString(), "");
}

// ------------------------------------------------------------------- gateways

// A stream of a gateway's, frame by frame.
class Attachment {
 public:
  Attachment(const std::shared_ptr<grpc::Channel>& channel,
             const std::string& authorization)
      : stub_(v1::GatewayService::NewStub(channel)) {
    context_.AddMetadata("authorization", authorization);
    context_.set_deadline(std::chrono::system_clock::now() +
                          std::chrono::seconds(60));
    stream_ = stub_->Attach(&context_);
    v1::AttachRequest hello;
    hello.mutable_hello()->set_protocol_version(1);
    hello.mutable_hello()->set_gateway("test");
    stream_->Write(hello);
  }

  // The answer for these devices; empty if the stream ends instead.
  v1::AttachResponse::Connected Connect(
      const std::vector<std::string>& device_ids) {
    v1::AttachRequest request;
    for (const std::string& id : device_ids) {
      request.mutable_connect()->add_device_ids(id);
    }
    stream_->Write(request);
    v1::AttachResponse response;
    while (stream_->Read(&response)) {
      if (response.connected_size() > 0) return response.connected(0);
    }
    return {};
  }

  grpc::Status End() {
    stream_->WritesDone();
    return AwaitEnd();
  }

  grpc::Status AwaitEnd() {
    v1::AttachResponse response;
    while (stream_->Read(&response)) {
    }
    return stream_->Finish();
  }

 private:
  grpc::ClientContext context_;
  const std::unique_ptr<v1::GatewayService::Stub> stub_;
  std::unique_ptr<
      grpc::ClientReaderWriter<v1::AttachRequest, v1::AttachResponse>>
      stream_;
};

TEST_F(GrpcAccessTest, GatewaysAttachWhatTheirCredentialCovers) {
  Service service;
  for (const absl::string_view id : {"eu-1", "eu-2", "us-1"}) {
    ASSERT_TRUE(service.engine()
                    .UpsertTwin(absl::StrCat(R"({"deviceId":")", id, R"("})"))
                    .ok());
  }
  // "us-9" has no twin: whoever it is not for does not learn of that.
  const std::vector<std::string> devices = {"eu-1", "eu-2", "us-1", "us-9"};
  constexpr auto kOk = grpc::StatusCode::OK;
  constexpr auto kDenied = grpc::StatusCode::PERMISSION_DENIED;
  constexpr auto kNotFound = grpc::StatusCode::NOT_FOUND;
  const struct {
    absl::string_view what;
    std::string authorization;
    std::vector<grpc::StatusCode> answers;
  } kCases[] = {
      {"all", Sas("sas-gateway"), {kOk, kOk, kOk, kNotFound}},
      {"some", Sas("fleet-eu"), {kOk, kOk, kDenied, kDenied}},
      {"one of some",
       Sas("fleet-eu", "hub.example.net/devices/eu-2"),
       {kDenied, kOk, kDenied, kDenied}},
      {"one of all",
       Sas("sas-writer-gateway", "hub.example.net/devices/us-1"),
       {kDenied, kDenied, kOk, kDenied}},
  };
  for (const auto& [what, authorization, answers] : kCases) {
    SCOPED_TRACE(what);
    Attachment gateway(service.Channel(), authorization);
    const v1::AttachResponse::Connected connected = gateway.Connect(devices);
    ASSERT_EQ(connected.handles_size(), 4);
    std::vector<grpc::StatusCode> codes(4, kOk);
    for (const auto& refusal : connected.refusals()) {
      ASSERT_LT(refusal.position(), 4u);
      codes[refusal.position()] =
          static_cast<grpc::StatusCode>(refusal.error().code());
      ExpectNothingSecret(refusal.error().ShortDebugString(), authorization);
    }
    EXPECT_EQ(codes, answers);
    for (int i = 0; i < 4; ++i) {
      EXPECT_EQ(connected.handles(i) != 0, answers[i] == kOk) << devices[i];
    }
    EXPECT_TRUE(gateway.End().ok());
  }
}

// -------------------------------------------------- streams that last longer

// A gateway's ends at that moment.
TEST_F(GrpcAccessTest, GatewaysEndWithTheirCredential) {
  Service service;
  ASSERT_TRUE(service.engine().UpsertTwin(R"({"deviceId":"eu-1"})").ok());
  Attachment gateway(service.Channel(), "Bearer " + BearerOf("brief"));
  const v1::AttachResponse::Connected connected = gateway.Connect({"eu-1"});
  ASSERT_EQ(connected.handles_size(), 1);
  EXPECT_NE(connected.handles(0), 0u);
  ExpectRefused(gateway.AwaitEnd(), ErrorCode::kIotHubUnauthorized, "");
}

// Others tell nothing and take nothing from then on.
TEST_F(GrpcAccessTest, WatchesEndWithTheirCredential) {
  Service service;
  ConnectOptions options;
  options.address = service.address();
  options.token = BearerOf("writer");
  const auto writer = MusterClient::Connect(options).value();
  ASSERT_TRUE(writer->CreateJob(LaterJob()).ok());

  const auto stub = v1::JobService::NewStub(service.Channel());
  grpc::ClientContext context;
  Prepare(&context, "brief");
  v1::WatchJobRequest request;
  request.set_name("jobs/later");
  const auto stream = stub->WatchJob(&context, request);
  v1::WatchJobResponse response;
  ASSERT_TRUE(stream->Read(&response)) << stream->Finish().error_message();
  EXPECT_EQ(response.job().state(), v1::Job::STATE_SCHEDULED);
  service.clock().Advance(absl::Seconds(1));
  // Nothing becomes of the job meanwhile.
  EXPECT_FALSE(stream->Read(&response)) << response.ShortDebugString();
  ExpectRefused(stream->Finish(), ErrorCode::kIotHubUnauthorized, "");
}

TEST_F(GrpcAccessTest, ImportsEndWithTheirCredential) {
  Service service;
  const auto stub = v1::TwinService::NewStub(service.Channel());
  grpc::ClientContext context;
  Prepare(&context, "brief");
  v1::ImportTwinsResponse response;
  const auto stream = stub->ImportTwins(&context, &response);
  v1::ImportTwinsRequest request;
  request.add_documents(R"({"deviceId":"in-time"})");
  ASSERT_TRUE(stream->Write(request));
  while (!service.engine().GetTwin("in-time").ok()) std::this_thread::yield();
  service.clock().Advance(absl::Seconds(1));
  request.set_documents(0, R"({"deviceId":"late"})");
  stream->Write(request);
  stream->WritesDone();
  ExpectRefused(stream->Finish(), ErrorCode::kIotHubUnauthorized, "");
  EXPECT_FALSE(service.engine().GetTwin("late").ok());
}

// ------------------------------------------------------------------------ TLS

// What TLS makes of a call of ListJobs.
grpc::Status ListJobs(const Service& service, const ConnectOptions& options,
                      const std::vector<std::string>& authorizations) {
  return CallEmpty(service.Channel(options).get(),
                   PathOf("muster.v1.JobService.ListJobs"), authorizations);
}

class GrpcTlsTest : public GrpcAccessTest {
 protected:
  GrpcTlsTest()
      : server_(authority_.Issue(
            {.common_name = "server",
             .alternative_names = "DNS:localhost,IP:127.0.0.1"})) {}

  GrpcServerTls ServerTls(bool clients = false, bool required = true) const {
    return {.certificate_path = server_.certificate_path,
            .key_path = server_.key_path,
            .client_ca_path = clients ? authority_.path() : "",
            .client_certificate_required = required};
  }

  ConnectOptions Client() const {
    ConnectOptions options;
    options.tls = true;
    options.ca_path = authority_.path();
    return options;
  }
  ConnectOptions Client(const TestCertificate& own) const {
    ConnectOptions options = Client();
    options.certificate_path = own.certificate_path;
    options.key_path = own.key_path;
    return options;
  }

  // A client's certificate with the name of one of RoleSets().
  static TestAuthority::Subject Named(absl::string_view name) {
    return {
        .common_name = "somebody",
        .alternative_names = absl::StrCat("DNS:client,URI:", SubjectOf(name))};
  }

  // The tests' names keep the files of tests that run at a time apart.
  static std::string FileName(absl::string_view authority) {
    return absl::StrCat(
        testing::UnitTest::GetInstance()->current_test_info()->name(), ".",
        authority);
  }

  TestAuthority authority_{FileName("own")};
  TestAuthority foreign_{FileName("foreign")};
  const TestCertificate server_;
};

void ExpectNoConnection(const grpc::Status& status,
                        absl::string_view authorization) {
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE)
      << status.error_message();
  ExpectNothingSecret(
      absl::StrCat(status.error_message(), status.error_details()),
      authorization);
}

TEST_F(GrpcTlsTest, RolesOverTls) {
  const Service service(ServerTls());
  const auto channel = service.Channel(Client());
  for (const Credential& caller : Callers()) {
    SCOPED_TRACE(caller.what);
    ExpectRoles(channel.get(), caller.roles, {caller.authorization});
  }
  // TLS alone is nobody's name.
  ExpectRefused(ListJobs(service, Client(), {}), ErrorCode::kIotHubUnauthorized,
                "");
}

// gRPC takes in all of a message before it finds it too long, and breaks off
// anybody's stream when its memory is at an end: a stranger gets as far as that
// with none.
TEST_F(GrpcTlsTest, StrangersTakeNoMemory) {
  Service service(ServerTls(), /*buffers_max=*/16 << 20);
  ASSERT_TRUE(service.engine().UpsertTwin(R"({"deviceId":"eu-1"})").ok());
  Attachment gateway(service.Channel(Client()),
                     "Bearer " + BearerOf("gateway"));
  ASSERT_EQ(gateway.Connect({"eu-1"}).handles_size(), 1);
  const std::string message(64 << 20, 'x');
  for (const absl::string_view authorization : {"", "Bearer unknown"}) {
    std::string last;
    ExpectRefused(Call(service.Channel(Client()).get(),
                       PathOf("muster.v1.JobService.GetJob"),
                       {std::string(authorization)}, message, &last),
                  ErrorCode::kIotHubUnauthorized, "");
  }
  EXPECT_EQ(gateway.Connect({"eu-1"}).handles_size(), 1);
  EXPECT_TRUE(gateway.End().ok());
  // Whether the server is up is nobody's secret.
  EXPECT_TRUE(CallEmpty(service.Channel(Client()).get(),
                        "/grpc.health.v1.Health/Check", {})
                  .ok());
}

TEST_F(GrpcTlsTest, PlaintextAgainstTls) {
  const std::string token = "Bearer " + BearerOf("reader");
  const Service tls(ServerTls());
  ExpectNoConnection(ListJobs(tls, {}, {token}), token);
  const Service plaintext;
  ExpectNoConnection(ListJobs(plaintext, Client(), {token}), token);
  // What gRPC says of it is among what TearDown() looks through.
  EXPECT_FALSE(Logs::Captured().text().empty());
  // Neither has harmed the other.
  EXPECT_TRUE(ListJobs(tls, Client(), {token}).ok());
  EXPECT_TRUE(ListJobs(plaintext, {}, {token}).ok());
}

TEST_F(GrpcTlsTest, ServersThatAreNotWhomTheClientMeans) {
  const std::string token = "Bearer " + BearerOf("reader");
  const Service service(ServerTls());
  ConnectOptions options = Client();
  options.ca_path = foreign_.path();
  ExpectNoConnection(ListJobs(service, options, {token}), token);
  options = Client();
  options.server_name = "other.example.net";
  ExpectNoConnection(ListJobs(service, options, {token}), token);
  options.server_name = "localhost";
  EXPECT_TRUE(ListJobs(service, options, {token}).ok());

  const TestCertificate expired =
      authority_.Issue({.alternative_names = "IP:127.0.0.1",
                        .from = -absl::Hours(2),
                        .to = -absl::Hours(1)});
  const Service old({.certificate_path = expired.certificate_path,
                     .key_path = expired.key_path});
  ExpectNoConnection(ListJobs(old, Client(), {token}), token);
}

TEST_F(GrpcTlsTest, RolesOfCertificates) {
  const Service service(ServerTls(/*clients=*/true));
  for (const auto& [name, roles] : RoleSets()) {
    SCOPED_TRACE(name);
    const auto channel = service.Channel(Client(authority_.Issue(Named(name))));
    ExpectRoles(channel.get(), RolesOf(roles), {});
  }
}

TEST_F(GrpcTlsTest, NamesOfCertificates) {
  const Service service(ServerTls(/*clients=*/true));
  const auto list = [&](const TestAuthority::Subject& subject) {
    return ListJobs(service, Client(authority_.Issue(subject)), {});
  };
  // The access file's names are URIs; as DNS names they could not be.
  EXPECT_TRUE(list({.common_name = SubjectOf("reader")}).ok());
  EXPECT_TRUE(list({.alternative_names = "URI:" + SubjectOf("reader")}).ok());
  const grpc::Status unknown =
      list({.common_name = "a stranger", .alternative_names = "DNS:stranger"});
  ExpectRefused(unknown, ErrorCode::kIotHubUnauthorizedAccess, "");
  EXPECT_TRUE(absl::StrContains(unknown.error_message(), "\"stranger\""))
      << unknown.error_message();
  // The certificate says who talks; it does not say that it may do more.
  ExpectRefused(list({.alternative_names = "URI:" + SubjectOf("gateway")}),
                ErrorCode::kIotHubUnauthorizedAccess, "");
}

TEST_F(GrpcTlsTest, CertificatesThatAreNotGood) {
  const std::string token = "Bearer " + BearerOf("reader");
  const TestCertificate good = authority_.Issue(Named("reader"));
  const TestCertificate foreign = foreign_.Issue(Named("reader"));
  TestAuthority::Subject subject = Named("reader");
  subject.from = -absl::Hours(2);
  subject.to = -absl::Hours(1);
  const TestCertificate expired = authority_.Issue(subject);
  subject.from = absl::Hours(1);
  subject.to = absl::Hours(2);
  const TestCertificate early = authority_.Issue(subject);
  for (const bool required : {true, false}) {
    SCOPED_TRACE(required ? "required" : "not required");
    const Service service(ServerTls(/*clients=*/true, required));
    EXPECT_TRUE(ListJobs(service, Client(good), {}).ok());
    // A token makes up for none of them.
    for (const TestCertificate* bad : {&foreign, &expired, &early}) {
      const grpc::Status status = ListJobs(service, Client(*bad), {token});
      ExpectNoConnection(status, token);
      EXPECT_FALSE(absl::StrContains(
          absl::StrCat(status.error_message(), Logs::Captured().text()),
          bad->key_pem.substr(40, 40)));
    }
    const grpc::Status missing = ListJobs(service, Client(), {token});
    if (required) {
      ExpectNoConnection(missing, token);
    } else {
      EXPECT_TRUE(missing.ok()) << missing.error_message();
      ExpectRefused(ListJobs(service, Client(), {}),
                    ErrorCode::kIotHubUnauthorized, "");
    }
  }
  // A server that asks for no certificate takes none for a name.
  const Service service(ServerTls());
  ExpectRefused(ListJobs(service, Client(good), {}),
                ErrorCode::kIotHubUnauthorized, "");
}

// What is shown on purpose counts, whatever the certificate says.
TEST_F(GrpcTlsTest, TokenAndCertificate) {
  const Service service(ServerTls(/*clients=*/true));
  const auto channel =
      service.Channel(Client(authority_.Issue(Named("writer"))));
  const std::string token = "Bearer " + BearerOf("gateway");
  ExpectRoles(channel.get(), {Role::kGateway}, {token});
  ExpectRefused(
      CallEmpty(channel.get(), PathOf("muster.v1.JobService.ListJobs"),
                {"Bearer unknown"}),
      ErrorCode::kIotHubUnauthorized, "");
  ExpectRoles(channel.get(), {Role::kWrite}, {});
}

}  // namespace
}  // namespace muster
