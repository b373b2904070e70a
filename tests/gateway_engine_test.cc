// The engine, its gateways and their devices, over real sockets: what a job
// comes to when gateways die, are slow, repeat themselves or lie.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/job.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "gmock/gmock.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "gtest/gtest.h"
#include "tests/gateway/frame_pipe.h"
#include "tests/gateway/simple_gateway.h"
#include "tests/gateway/tcp_proxy.h"
#include "transport/auth/access.h"
#include "transport/auth/caller.h"
#include "transport/grpc/call_guard.h"
#include "transport/grpc/channel.h"
#include "transport/grpc/gateway/gateway.h"
#include "transport/grpc/gateway/gateway_service.h"
#include "transport/grpc/gateway/gateway_transport.h"
#include "transport/grpc/gateway/outbound.h"
#include "transport/grpc/server.h"

namespace muster {
namespace {

using ::testing::UnorderedElementsAre;

std::string Id(int i) { return absl::StrCat("device-", i); }

std::vector<std::string> Ids(int first, int count) {
  std::vector<std::string> ids;
  for (int i = first; i < first + count; ++i) ids.push_back(Id(i));
  return ids;
}

bool WaitFor(absl::FunctionRef<bool()> done,
             absl::Duration patience = absl::Seconds(60)) {
  const absl::Duration end = Clock::Real().Monotonic() + patience;
  while (!done()) {
    if (Clock::Real().Monotonic() > end) return false;
    absl::SleepFor(absl::Milliseconds(1));
  }
  return true;
}

// An engine that serves gateways at a port.
class GatewayEngineTest : public testing::Test {
 protected:
  GatewayEngineTest() { Start({}, {}); }
  ~GatewayEngineTest() override { Stop(); }

  void Start(GrpcServerOptions options, const CallGuard::Options& guard) {
    Stop();
    executor_ = MakeThreadExecutor(2);
    transport_ = *GatewayTransport::Create(
        {.clock = &Clock::Real(), .executor = executor_.get()});
    engine_ = *Engine::Create(
        {.transport = transport_.get(), .executor = executor_.get()});
    guard_ = std::make_unique<CallGuard>(guard);
    service_ = MakeGatewayService(transport_.get(), guard_.get());
    options.engine = engine_.get();
    options.guard = guard_.get();
    options.listen = {"127.0.0.1:0"};
    options.further = {{.service = service_.get(),
                        .name = "muster.v1.GatewayService",
                        .drain = [this] { transport_->BeginDrain(); }}};
    auto server = GrpcServer::Start(options);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    port_ = server_->ports()[0];
  }
  void Stop() {
    if (server_ == nullptr) return;
    engine_->Stop();
    server_.reset();
    service_.reset();
    guard_.reset();
    engine_.reset();
    transport_.reset();
    executor_.reset();
  }

  std::shared_ptr<FramePipe> Dial(int port = 0,
                                  const std::string& authorization = "") {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return std::make_shared<DialledPipe>(
        grpc::CreateCustomChannel(
            absl::StrCat("127.0.0.1:", port == 0 ? port_ : port),
            grpc::InsecureChannelCredentials(), arguments),
        authorization);
  }

  void AddTwins(const std::vector<std::string>& ids) {
    std::vector<std::string> documents;
    for (const std::string& id : ids) {
      documents.push_back(absl::StrCat(R"({"deviceId":")", id, R"("})"));
    }
    const std::vector<absl::string_view> views(documents.begin(),
                                               documents.end());
    const auto written = engine_->UpsertTwins(views);
    ASSERT_TRUE(written.ok()) << written.status();
    for (const absl::Status& status : *written) {
      ASSERT_TRUE(status.ok()) << status;
    }
  }
  bool AwaitAttached(const SimpleGateway& gateway, size_t count) {
    return WaitFor([&] { return gateway.attached() == count; });
  }
  int64_t Connected() {
    return engine_->CountTargets("*").value_or(TargetCount()).connected;
  }
  // What becomes of a direct method: "200 {...}", or the error's name.
  std::future<std::string> Invoke(int device, absl::string_view method) {
    auto answer = std::make_shared<std::promise<std::string>>();
    engine_->InvokeMethod(
        Id(device),
        {.method_name = std::string(method),
         .payload = R"({"delay": 5})",
         .connect_timeout_seconds = 60},
        [answer](absl::StatusOr<MethodResult> result) {
          answer->set_value(
              result.ok()
                  ? absl::StrCat(result->status, " ", result->payload)
                  : std::string(
                        ErrorInfoOf(ErrorCodeOf(result.status())).name));
        });
    return answer->get_future();
  }
  std::string Create(absl::string_view method, int limit_seconds = 3600) {
    JobRequest job;
    job.job_id = absl::StrCat("job-", ++jobs_);
    job.query_condition = "*";
    MethodAction action;
    action.method_name = std::string(method);
    job.action = std::move(action);
    job.max_execution_time_seconds = limit_seconds;
    const absl::StatusOr<JobInfo> created = engine_->CreateJob(job);
    MUSTER_CHECK(created.ok());
    return job.job_id;
  }
  JobStatistics Statistics(const std::string& job) {
    return engine_->GetJob(job)->statistics.value_or(JobStatistics());
  }
  JobStatistics Finish(const std::string& job) {
    const absl::StatusOr<JobInfo> info =
        engine_->WaitJob(job, absl::Seconds(60));
    MUSTER_CHECK(info.ok());
    EXPECT_TRUE(info->statistics.has_value());
    return info->statistics.value_or(JobStatistics());
  }
  int64_t FailedAs(const std::string& job, ErrorCode code) {
    int64_t count = 0;
    const absl::Status status =
        engine_->ForEachExecution(job, [&](const ExecutionRecord& record) {
          count += record.error_code == code;
        });
    EXPECT_TRUE(status.ok()) << status;
    return count;
  }

  std::unique_ptr<Executor> executor_;
  std::unique_ptr<GatewayTransport> transport_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<CallGuard> guard_;
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<GrpcServer> server_;
  int port_ = 0;
  int jobs_ = 0;
};

TEST_F(GatewayEngineTest, AJobReachesTheDevicesOfSeveralGateways) {
  AddTwins(Ids(0, 5000));
  SimpleGateway a("a"), b("b");
  a.Start(Dial());
  b.Start(Dial());
  a.SetConnected(Ids(0, 2000), true);
  b.SetConnected(Ids(2000, 3000), true);
  ASSERT_TRUE(AwaitAttached(a, 2000));
  ASSERT_TRUE(AwaitAttached(b, 3000));
  const JobStatistics statistics = Finish(Create("echo"));
  EXPECT_EQ(statistics.succeeded_count, 5000);
  EXPECT_EQ(a.call_count(), 2000u);
  EXPECT_EQ(b.call_count(), 3000u);
  EXPECT_EQ(transport_->totals().outcomes, 5000);
}

TEST_F(GatewayEngineTest, ADirectMethodReachesItsDevice) {
  AddTwins(Ids(0, 2));
  SimpleGateway a("a"), b("b");
  a.Start(Dial());
  b.Start(Dial());
  a.SetConnected(Id(0), true);
  ASSERT_TRUE(AwaitAttached(a, 1));
  constexpr char kAnswer0[] =
      R"(200 {"device":"device-0","echo":{"delay": 5}})";
  EXPECT_EQ(Invoke(0, "echo").get(), kAnswer0);
  EXPECT_EQ(a.call_count(), 1u);
  // Over the connection that it has now.
  b.SetConnected(Id(0), true);
  ASSERT_TRUE(AwaitAttached(b, 1));
  EXPECT_EQ(Invoke(0, "echo").get(), kAnswer0);
  EXPECT_EQ(b.call_count(), 1u);
  // One that comes later.
  auto later = Invoke(1, "echo");
  a.SetConnected(Id(1), true);
  EXPECT_EQ(later.get(), R"(200 {"device":"device-1","echo":{"delay": 5}})");
  // It may have run when its gateway died.
  auto lost = Invoke(1, "never");
  ASSERT_TRUE(WaitFor([&] { return a.call_count() == 3; }));
  a.Stop();
  EXPECT_EQ(lost.get(), "GatewayTimeout");
}

// What a gateway had not answered when it died may have run: it fails, once.
// What had not reached it waits for its device, wherever that comes back.
TEST_F(GatewayEngineTest, AGatewayIsKilled) {
  constexpr int kDevices = 3000, kCredit = 500;
  AddTwins(Ids(0, kDevices));
  SimpleGateway a("a", kCredit), b("b");
  a.SetMeddle([](v1::AttachRequest* frame) { frame->clear_outcomes(); });
  a.Start(Dial());
  b.Start(Dial());
  a.SetConnected(Ids(0, 2000), true);
  b.SetConnected(Ids(2000, 1000), true);
  ASSERT_TRUE(AwaitAttached(a, 2000));
  ASSERT_TRUE(AwaitAttached(b, 1000));
  const std::string job = Create("echo");
  // Up to what is too little of its credit for a range.
  ASSERT_TRUE(WaitFor([&] {
    int64_t sent = 0, waiting = 0;
    for (const AttachedGateway& gateway : transport_->gateways()) {
      if (gateway.name != "a") continue;
      sent = gateway.unanswered;
      waiting = gateway.waiting;
    }
    return sent + waiting == 2000 && sent > kCredit - kCredit / 16 &&
           a.call_count() == static_cast<size_t>(sent) &&
           Statistics(job).succeeded_count == 1000;
  }));
  a.Stop();
  const int64_t sent = static_cast<int64_t>(a.call_count());
  EXPECT_LE(sent, kCredit);
  ASSERT_TRUE(WaitFor([&] { return Statistics(job).failed_count == sent; }));
  EXPECT_EQ(Connected(), 1000);
  EXPECT_EQ(FailedAs(job, ErrorCode::kGatewayTimeout), sent);
  EXPECT_EQ(Statistics(job).succeeded_count, 1000);
  b.SetConnected(Ids(0, 2000), true);
  const JobStatistics statistics = Finish(job);
  EXPECT_EQ(statistics.failed_count, sent);
  EXPECT_EQ(statistics.succeeded_count, kDevices - sent);
  EXPECT_EQ(a.call_count() + b.call_count(), static_cast<size_t>(kDevices));
}

// It takes nothing from its stream, from some point on.
TEST_F(GatewayEngineTest, ASlowGatewayHoldsUpNobodyElse) {
  constexpr int kEach = 2000;
  AddTwins(Ids(0, 2 * kEach));
  SimpleGateway fast("fast");
  fast.Start(Dial());
  fast.SetConnected(Ids(0, kEach), true);
  ASSERT_TRUE(AwaitAttached(fast, kEach));
  const std::shared_ptr<FramePipe> slow = Dial();
  v1::AttachRequest frame;
  frame.mutable_hello()->set_protocol_version(1);
  frame.mutable_hello()->set_gateway("slow");
  for (const std::string& id : Ids(kEach, kEach)) {
    frame.mutable_connect()->add_device_ids(id);
  }
  ASSERT_TRUE(slow->Write(frame));
  ASSERT_TRUE(WaitFor([&] { return Connected() == 2 * kEach; }));
  std::vector<std::string> jobs;
  for (int i = 0; i < 9; ++i) jobs.push_back(Create("echo"));
  ASSERT_TRUE(WaitFor([&] {
    for (const std::string& job : jobs) {
      if (Statistics(job).succeeded_count != kEach) return false;
    }
    return true;
  }));
  slow->Kill();
  v1::AttachResponse ignored;
  while (slow->Read(&ignored)) {
  }
  EXPECT_EQ(slow->Finish().error_code(), grpc::StatusCode::CANCELLED);
  ASSERT_TRUE(WaitFor([&] { return Connected() == kEach; }));
}

TEST_F(GatewayEngineTest, OutcomesComeInAnyOrderAndTwice) {
  constexpr int kDevices = 4000;
  AddTwins(Ids(0, kDevices));
  SimpleGateway gateway("g");
  // Turns the executions of each range around, takes them apart, and says
  // everything a second time, some of it a frame later.
  std::vector<v1::AttachRequest::Outcomes> before;
  gateway.SetMeddle([&before](v1::AttachRequest* frame) {
    std::vector<v1::AttachRequest::Outcomes> parts;
    for (const auto& outcomes : frame->outcomes()) {
      size_t end = outcomes.payloads().size();
      for (int i = outcomes.positions_size(); i-- > 0;) {
        v1::AttachRequest::Outcomes part;
        part.set_range(outcomes.range());
        part.add_positions(outcomes.positions(i));
        part.add_statuses(outcomes.statuses(i));
        part.set_codes(outcomes.codes().substr(i, 1));
        const uint32_t size = outcomes.payload_sizes(i);
        part.add_payload_sizes(size);
        end -= size;
        part.set_payloads(outcomes.payloads().substr(end, size));
        parts.push_back(std::move(part));
      }
    }
    frame->clear_outcomes();
    for (auto& part : before) *frame->add_outcomes() = part;
    before = parts;
    for (auto& part : parts) {
      *frame->add_outcomes() = part;
      *frame->add_outcomes() = part;
    }
  });
  gateway.Start(Dial());
  gateway.SetConnected(Ids(0, kDevices), true);
  ASSERT_TRUE(AwaitAttached(gateway, kDevices));
  for (int i = 0; i < 3; ++i) {
    const std::string job = Create("echo");
    EXPECT_EQ(Finish(job).succeeded_count, kDevices);
    const absl::Status status =
        engine_->ForEachExecution(job, [&](const ExecutionRecord& record) {
          EXPECT_EQ(record.response.value().payload,
                    EchoOf(record.device_id, "null"));
        });
    EXPECT_TRUE(status.ok()) << status;
  }
  EXPECT_EQ(transport_->totals().outcomes, 3 * kDevices);
  EXPECT_GE(transport_->totals().outcomes_dropped, 3 * kDevices);
  EXPECT_EQ(engine_->Stats().outcomes_dropped, 0);
}

// A gateway that answers for what it was never asked.
TEST_F(GatewayEngineTest, AGatewayLies) {
  constexpr int kEach = 1000;
  AddTwins(Ids(0, 2 * kEach));
  SimpleGateway honest("honest"), liar("liar");
  liar.SetMeddle([n = uint32_t{0}](v1::AttachRequest* frame) mutable {
    // Behind the ends of its own ranges, of those that it will be sent next,
    // and in ranges far from them.
    uint32_t last = 0;
    for (v1::AttachRequest::Outcomes& own : *frame->mutable_outcomes()) {
      last = std::max(last, own.range());
      for (uint32_t& position : *own.mutable_positions()) position += 1024;
    }
    for (int i = 0; last > 0 && i < 100; ++i) {
      v1::AttachRequest::Outcomes* const lie = frame->add_outcomes();
      lie->set_range(i < 10 ? last + 1 + i : 1'000'000 + n++);
      if (i < 10) lie->set_first(1024);  // Those may be its own by now.
      lie->set_count(1024);
      lie->add_statuses(666);
    }
  });
  honest.Start(Dial());
  honest.SetConnected(Ids(0, kEach), true);
  ASSERT_TRUE(AwaitAttached(honest, kEach));
  liar.Start(Dial());
  liar.SetConnected(Ids(kEach, kEach), true);
  ASSERT_TRUE(AwaitAttached(liar, kEach));
  const std::string job = Create("echo");
  ASSERT_TRUE(WaitFor([&] {
    return Statistics(job).succeeded_count == kEach &&
           liar.call_count() == kEach &&
           transport_->totals().outcomes_dropped >= 1024 * 100;
  }));
  liar.Stop();
  const JobStatistics statistics = Finish(job);
  EXPECT_EQ(statistics.succeeded_count, kEach);
  EXPECT_EQ(statistics.failed_count, kEach);
  EXPECT_EQ(transport_->totals().outcomes, kEach);
}

// The connection is there no more, and neither end is told: the server's
// keepalive finds out.
TEST_F(GatewayEngineTest, AConnectionIsHalfOpen) {
  GrpcServerOptions options;
  options.keepalive_time = absl::Milliseconds(100);
  options.keepalive_timeout = absl::Milliseconds(500);
  Start(options, {});
  constexpr int kDevices = 100;
  AddTwins(Ids(0, kDevices));
  TcpProxy proxy(port_);
  SimpleGateway gateway("behind the proxy");
  gateway.Start(Dial(proxy.port()));
  gateway.SetConnected(Ids(0, kDevices), true);
  ASSERT_TRUE(AwaitAttached(gateway, kDevices));
  // While nobody has anything to say the server asks again and again.
  absl::SleepFor(absl::Seconds(1));
  EXPECT_EQ(Connected(), kDevices);
  proxy.GoSilent();
  ASSERT_TRUE(WaitFor([&] { return Connected() == 0; }));
}

// The same while calls are on their way: they may have been made.
TEST_F(GatewayEngineTest, AConnectionIsHalfOpenUnderWork) {
  GrpcServerOptions options;
  options.keepalive_time = absl::Milliseconds(100);
  options.keepalive_timeout = absl::Milliseconds(500);
  Start(options, {});
  constexpr int kDevices = 100;
  AddTwins(Ids(0, kDevices));
  TcpProxy proxy(port_);
  SimpleGateway gateway("behind the proxy");
  gateway.Start(Dial(proxy.port()));
  gateway.SetConnected(Ids(0, kDevices), true);
  ASSERT_TRUE(AwaitAttached(gateway, kDevices));
  EXPECT_EQ(Finish(Create("echo")).succeeded_count, kDevices);
  proxy.GoSilent();
  const std::string job = Create("echo");
  const JobStatistics statistics = Finish(job);
  EXPECT_EQ(statistics.failed_count, kDevices);
  EXPECT_EQ(FailedAs(job, ErrorCode::kGatewayTimeout), kDevices);
  EXPECT_EQ(Connected(), 0);
  EXPECT_EQ(gateway.call_count(), static_cast<size_t>(kDevices));
  // It comes back, by another way.
  SimpleGateway again("again");
  again.Start(Dial());
  again.SetConnected(Ids(0, kDevices), true);
  ASSERT_TRUE(AwaitAttached(again, kDevices));
  EXPECT_EQ(Finish(Create("echo")).succeeded_count, kDevices);
}

TEST_F(GatewayEngineTest, AHundredThousandDevicesComeBackAtOnce) {
  constexpr int kDevices = 100'000, kGateways = 4;
  AddTwins(Ids(0, kDevices));
  constexpr int kEach = kDevices / kGateways;
  for (int storm = 0; storm < 3; ++storm) {
    std::vector<std::unique_ptr<SimpleGateway>> gateways;
    for (int g = 0; g < kGateways; ++g) {
      gateways.push_back(std::make_unique<SimpleGateway>(absl::StrCat("g", g)));
      // Each time with others' devices; and while the last ones are going.
      gateways[g]->SetConnected(Ids(((g + storm) % kGateways) * kEach, kEach),
                                true);
      gateways[g]->Start(Dial());
    }
    for (const auto& gateway : gateways) {
      ASSERT_TRUE(AwaitAttached(*gateway, kEach));
    }
    ASSERT_TRUE(WaitFor([&] { return Connected() == kDevices; }));
    EXPECT_EQ(Finish(Create("echo")).succeeded_count, kDevices);
    size_t calls = 0;
    for (const auto& gateway : gateways) calls += gateway->call_count();
    EXPECT_EQ(calls, static_cast<size_t>(kDevices));
  }
  // A session reports its devices before it is gone itself.
  ASSERT_TRUE(WaitFor(
      [&] { return Connected() == 0 && transport_->gateways().empty(); }));
}

// Devices go from one gateway to the other and back while jobs run over them:
// each is called once for each job, wherever it is.
TEST_F(GatewayEngineTest, DevicesMoveWhileJobsRun) {
  constexpr int kDevices = 500, kJobs = 10;
  AddTwins(Ids(0, kDevices));
  SimpleGateway a("a"), b("b");
  a.Start(Dial());
  b.Start(Dial());
  a.SetConnected(Ids(0, kDevices), true);
  ASSERT_TRUE(AwaitAttached(a, kDevices));
  std::vector<std::string> jobs;
  for (int i = 0; i < kJobs; ++i) {
    jobs.push_back(Create("echo"));
    SimpleGateway& to = i % 2 == 0 ? b : a;
    to.SetConnected(Ids(0, kDevices), true);
    ASSERT_TRUE(AwaitAttached(to, kDevices));
    ASSERT_TRUE(AwaitAttached(i % 2 == 0 ? a : b, 0));
  }
  for (const std::string& job : jobs) {
    EXPECT_EQ(Finish(job).succeeded_count, kDevices);
  }
  EXPECT_EQ(a.taken_over().size(), size_t{kDevices} * kJobs / 2);
  std::map<std::string, int> calls;
  for (const SimpleGateway* gateway : {&a, &b}) {
    for (const DeviceCall& call : gateway->calls()) ++calls[call.device_id];
  }
  for (const std::string& id : Ids(0, kDevices)) EXPECT_EQ(calls[id], kJobs);
}

TEST_F(GatewayEngineTest, ACredentialCoversSomeDevices) {
  // Of "hall-token-0123456789" and "read-token-0123456789".
  const std::string hash =
      "7e201126fe1a22c05de219f67d6b3e5fed55040dda06b854221a83d22f0679f0";
  const std::string other =
      "d354526d2b69d5dec36caef20814c68e90bf9a093c3cce5d33b59e8d01e41652";
  const auto access = Access::Parse(
      absl::StrCat(R"({"tokens":[{"name":"hall","roles":["gateway"],)",
                   R"("devices":["eu-*","us-1"],"sha256":")", hash, R"("},)",
                   R"({"name":"reader","roles":["read"],"sha256":")", other,
                   R"("}]})"),
      {});
  ASSERT_TRUE(access.ok()) << access.status();
  Start({}, {.access = *access});
  AddTwins({"eu-1", "eu-2", "us-1", "us-2"});
  SimpleGateway gateway("hall");
  gateway.Start(Dial(0, "Bearer hall-token-0123456789"));
  gateway.SetConnected({"eu-1", "us-2", "eu-3", "us-1"}, true);
  ASSERT_TRUE(AwaitAttached(gateway, 2));
  EXPECT_THAT(gateway.refusals(),
              UnorderedElementsAre(
                  std::pair("us-2", int{grpc::StatusCode::PERMISSION_DENIED}),
                  std::pair("eu-3", int{grpc::StatusCode::NOT_FOUND})));
  EXPECT_EQ(Connected(), 2);

  for (const auto& [token, code] :
       {std::pair("Bearer read-token-0123456789",
                  grpc::StatusCode::PERMISSION_DENIED),
        std::pair("Bearer nobodys-token-0123456789",
                  grpc::StatusCode::UNAUTHENTICATED),
        std::pair("", grpc::StatusCode::UNAUTHENTICATED)}) {
    SimpleGateway refused("refused");
    refused.Start(Dial(0, token));
    ASSERT_TRUE(WaitFor([&] { return refused.ended(); }));
    EXPECT_EQ(refused.status().error_code(), code) << token;
  }
}

TEST_F(GatewayEngineTest, AnErasedTwinsDeviceIsLetGo) {
  AddTwins({"a", "b"});
  SimpleGateway gateway("g");
  gateway.Start(Dial());
  gateway.SetConnected({"a", "b"}, true);
  ASSERT_TRUE(AwaitAttached(gateway, 2));
  ASSERT_TRUE(engine_->EraseTwin("a").ok());
  ASSERT_TRUE(AwaitAttached(gateway, 1));
  EXPECT_THAT(gateway.taken_over(), testing::ElementsAre("a"));
  EXPECT_EQ(Finish(Create("echo")).succeeded_count, 1);
}

TEST_F(GatewayEngineTest, AServerThatDrainsLetsGatewaysFinish) {
  AddTwins(Ids(0, 11));
  SimpleGateway gateway("g");
  gateway.Start(Dial());
  gateway.SetConnected(Ids(0, 10), true);
  ASSERT_TRUE(AwaitAttached(gateway, 10));
  auto waiting = Invoke(10, "echo");  // For a device that is not there.
  transport_->BeginDrain();
  ASSERT_TRUE(WaitFor([&] { return gateway.draining(); }));
  // Nobody waits for what will not be.
  EXPECT_EQ(Invoke(0, "echo").get(), "ServiceUnavailable");
  EXPECT_EQ(waiting.get(), "ServiceUnavailable");
  SimpleGateway late("late");
  late.Start(Dial());
  ASSERT_TRUE(WaitFor([&] { return late.ended(); }));
  EXPECT_EQ(late.status().error_code(), grpc::StatusCode::UNAVAILABLE);
  gateway.pipe()->CloseWriting();
  EXPECT_TRUE(transport_->AwaitDrained(absl::Seconds(30)));
  ASSERT_TRUE(WaitFor([&] { return gateway.ended(); }));
  EXPECT_TRUE(gateway.status().ok());
}

// The library's: answers at once, but for one range, with which it waits until
// its devices have been given back or for a while.
class StoppedInTheMiddle : public GatewayHandler {
 public:
  void OnMethods(const GatewayMethods& calls) override {
    if (ranges_++ == 1) {
      in_the_middle.Notify();
      WaitFor([&] { return gateway->Stats().attached_devices == 0; },
              absl::Seconds(2));
    }
    calls_ += static_cast<int64_t>(calls.devices.size());
    EXPECT_TRUE(gateway->AnswerAll(calls.range, {.status = 200}).ok());
  }
  int64_t calls() const { return calls_; }  // Once it is stopped.

  absl::Notification in_the_middle;
  std::unique_ptr<Gateway> gateway;

 private:
  int64_t ranges_ = 0;
  int64_t calls_ = 0;
};

// A gateway that is stopped in the middle of a job, and another one that gets
// its devices: what has not run waits for it.
TEST_F(GatewayEngineTest, AGatewayIsRestartedInTheMiddleOfAJob) {
  constexpr int kDevices = 20'000;
  const std::vector<std::string> ids = Ids(0, kDevices);
  AddTwins(ids);
  const auto start = [&](GatewayHandler* handler) {
    auto gateway = *Gateway::Connect(
        {.address = absl::StrCat("127.0.0.1:", port_)}, {.name = "g"}, handler);
    std::vector<GatewayDevice> devices;
    for (int i = 0; i < kDevices; ++i) {
      devices.push_back({.token = static_cast<uint32_t>(i), .id = ids[i]});
    }
    EXPECT_EQ(gateway->AddDevices(devices), absl::OkStatus());
    return gateway;
  };
  StoppedInTheMiddle first;
  first.gateway = start(&first);
  ASSERT_TRUE(WaitFor([&] { return Connected() == kDevices; }));
  const std::string job = Create("echo");
  first.in_the_middle.WaitForNotification();
  first.gateway->Stop();
  EXPECT_LT(first.calls(), kDevices);
  ASSERT_TRUE(WaitFor([&] { return Connected() == 0; }));
  EXPECT_EQ(Statistics(job).failed_count, 0);

  SimpleGateway second("g");
  second.Start(Dial());
  second.SetConnected(ids, true);
  const JobStatistics end = Finish(job);
  EXPECT_EQ(end.succeeded_count, kDevices);
  EXPECT_EQ(end.failed_count, 0);
}

TEST_F(GatewayEngineTest, AnEngineThatEndsEndsTheStreams) {
  AddTwins(Ids(0, 10));
  SimpleGateway gateway("g"), silent("silent");
  gateway.Start(Dial());
  gateway.SetConnected(Ids(0, 10), true);
  ASSERT_TRUE(AwaitAttached(gateway, 10));
  engine_->Stop();
  ASSERT_TRUE(WaitFor([&] { return gateway.ended(); }));
  EXPECT_EQ(gateway.status().error_code(), grpc::StatusCode::UNAVAILABLE);
  silent.Start(Dial());
  ASSERT_TRUE(WaitFor([&] { return silent.ended(); }));
  EXPECT_EQ(silent.status().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(GatewayEngineTest, AFrameOfWrongFormIsAnError) {
  const std::shared_ptr<FramePipe> pipe = Dial();
  ASSERT_TRUE(pipe->Write(v1::AttachRequest()));
  v1::AttachResponse ignored;
  EXPECT_FALSE(pipe->Read(&ignored));
  const grpc::Status status = pipe->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), testing::HasSubstr("hello"));
}

// A listening gateway whose stream breaks, and one that was not there yet, are
// dialled again.
TEST_F(GatewayEngineTest, ListeningGatewaysAreDialledAgain) {
  AddTwins(Ids(0, 100));
  SimpleGateway gateway("g");
  gateway.SetConnected(Ids(0, 100), true);
  PipeListener listener(
      [&](std::shared_ptr<FramePipe> pipe) { gateway.Serve(std::move(pipe)); });
  auto outbound = OutboundGateways::Start(
      {.gateways = {{.connect = {.address = absl::StrCat("127.0.0.1:",
                                                         listener.port())}},
                    // Nobody is there.
                    {.connect = {.address = "127.0.0.1:1"}}},
       .retry_min = absl::Milliseconds(10),
       .clock = &Clock::Real(),
       .executor = executor_.get()},
      transport_.get());
  ASSERT_TRUE(outbound.ok()) << outbound.status();
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(AwaitAttached(gateway, 100));
    ASSERT_TRUE(WaitFor([&] { return Connected() == 100; }));
    EXPECT_EQ(Finish(Create("echo")).succeeded_count, 100);
    gateway.pipe()->Kill();
    ASSERT_TRUE(
        WaitFor([&] { return transport_->totals().sessions == i + 2; }));
  }
  (*outbound)->Stop();
  ASSERT_TRUE(WaitFor([&] { return Connected() == 0; }));
}

// Notes for when it is asked to run something, from then on.
class NotingExecutor : public Executor {
 public:
  explicit NotingExecutor(Executor* executor) : executor_(*executor) {}
  int concurrency() const override { return executor_.concurrency(); }
  void Run(Callback callback) override { executor_.Run(std::move(callback)); }
  void RunAt(absl::Duration monotonic, Callback callback) override {
    {
      absl::MutexLock lock(&mutex_);
      delays_.push_back(monotonic - Clock::Real().Monotonic());
    }
    executor_.RunAt(monotonic, std::move(callback));
  }
  std::vector<absl::Duration> delays() const {
    absl::MutexLock lock(&mutex_);
    return delays_;
  }

 private:
  Executor& executor_;
  mutable absl::Mutex mutex_;
  std::vector<absl::Duration> delays_ ABSL_GUARDED_BY(mutex_);
};

// That streams come up is not enough to be dialled as at first; and a listening
// gateway has the devices only that it may have.
TEST_F(GatewayEngineTest, AListeningGatewayHasABackoffAndAScope) {
  AddTwins({"eu-1", "us-1"});
  SimpleGateway gateway("g");
  gateway.SetConnected({"eu-1", "us-1"}, true);
  PipeListener listener(
      [&](std::shared_ptr<FramePipe> pipe) { gateway.Serve(std::move(pipe)); });
  NotingExecutor executor(executor_.get());
  const std::string address = absl::StrCat("127.0.0.1:", listener.port());
  auto outbound = OutboundGateways::Start(
      {.gateways = {{.connect = {.address = address},
                     .devices = DeviceScope::Of({"eu-*"})}},
       .retry_min = absl::Milliseconds(10),
       .clock = &Clock::Real(),
       .executor = &executor},
      transport_.get());
  ASSERT_TRUE(outbound.ok()) << outbound.status();
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(AwaitAttached(gateway, 1));
    ASSERT_TRUE(WaitFor([&] { return Connected() == 1; }));
    gateway.pipe()->Kill();
    ASSERT_TRUE(
        WaitFor([&] { return transport_->totals().sessions == i + 2; }));
  }
  (*outbound)->Stop();
  EXPECT_THAT(gateway.refusals()[0],
              testing::Pair("us-1", int{grpc::StatusCode::PERMISSION_DENIED}));
  const std::vector<absl::Duration> delays = executor.delays();
  ASSERT_GE(delays.size(), 5u);
  EXPECT_LE(delays[0], absl::Milliseconds(10));
  // Half of 10 ms doubled four times, less what making the call took.
  EXPECT_GT(delays[4], absl::Milliseconds(40));
}

TEST(OutboundTest, OptionsHaveRanges) {
  auto executor = MakeThreadExecutor(1);
  auto transport = *GatewayTransport::Create(
      {.clock = &Clock::Real(), .executor = executor.get()});
  OutboundOptions options{.retry_min = absl::Seconds(2),
                          .retry_max = absl::Seconds(1),
                          .clock = &Clock::Real(),
                          .executor = executor.get()};
  EXPECT_EQ(OutboundGateways::Start(options, transport.get()).status().code(),
            absl::StatusCode::kInvalidArgument);
  options.retry_max = absl::Seconds(3);
  options.gateways = {
      {.connect = {.address = "hall-3:7501", .message_size_max = 1}}};
  EXPECT_THAT(
      std::string(
          OutboundGateways::Start(options, transport.get()).status().message()),
      testing::HasSubstr("hall-3:7501"));
}

}  // namespace
}  // namespace muster
