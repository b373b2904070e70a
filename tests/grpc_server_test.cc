// The server around the services: health, drain, TLS, addresses, and a client
// that comes back when the server does.
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/model/error.h"
#include "engine/schedule/clock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/client_context.h"
#include "gtest/gtest.h"
#include "muster/v1/gateway_service.grpc.pb.h"
#include "tests/grpc_fixture.h"
#include "tests/test_certificates.h"
#include "transport/auth/sas_token.h"
#include "transport/grpc/channel.h"
#include "transport/grpc/server.h"
#include "transport/grpc/status.h"

namespace muster {
namespace {

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

constexpr absl::Duration kLong = absl::Seconds(60);

// --------------------------------------------------------------------- health

TEST(GrpcServerTest, Health) {
  v1::GatewayService::CallbackService gateways;
  GrpcServerOptions options;
  options.further.push_back({&gateways, "muster.v1.GatewayService", nullptr});
  GrpcHub hub(options);
  const auto health = Health::NewStub(hub.Channel());
  HealthCheckRequest request;
  HealthCheckResponse response;
  for (const char* service :
       {"", "muster.v1.JobService", "muster.v1.TwinService",
        "muster.v1.GatewayService"}) {
    grpc::ClientContext context;
    request.set_service(service);
    ASSERT_TRUE(health->Check(&context, request, &response).ok());
    EXPECT_EQ(response.status(), HealthCheckResponse::SERVING) << service;
  }
  grpc::ClientContext context;
  request.set_service("elsewhere");
  EXPECT_EQ(health->Check(&context, request, &response).error_code(),
            grpc::NOT_FOUND);
}

TEST(GrpcServerTest, HealthWatchesHearOfADrain) {
  GrpcHub hub;
  const auto health = Health::NewStub(hub.Channel());
  HealthCheckRequest request;
  HealthCheckResponse response;
  grpc::ClientContext context;
  const auto watch = health->Watch(&context, request);
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  grpc::ClientContext unknown_context;
  request.set_service("elsewhere");
  const auto unknown = health->Watch(&unknown_context, request);
  ASSERT_TRUE(unknown->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVICE_UNKNOWN);
  std::thread drain([&] { hub.server().Drain(kLong); });
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  EXPECT_FALSE(watch->Read(&response));
  EXPECT_EQ(watch->Finish().error_code(), grpc::UNAVAILABLE);
  EXPECT_FALSE(unknown->Read(&response));
  EXPECT_EQ(unknown->Finish().error_code(), grpc::UNAVAILABLE);
  drain.join();
}

// ---------------------------------------------------------------------- drain

// Watches are told to go elsewhere, what is under way goes on to its end, and
// nobody new gets in.
TEST(GrpcServerTest, Drain) {
  v1::GatewayService::CallbackService gateways;
  std::atomic<int> asked{0};
  GrpcServerOptions options;
  options.further.push_back(
      {&gateways, "muster.v1.GatewayService", [&] { ++asked; }});
  GrpcHub hub(options);
  v1::CreateJobRequest later = MethodJob("later", "m");
  later.mutable_job()->mutable_start_time()->set_seconds(4'000'000'000);
  ASSERT_TRUE(hub.client().CreateJob(later).ok());

  const auto jobs = hub.Jobs();
  grpc::ClientContext watch_context;
  v1::WatchJobRequest watch_request;
  watch_request.set_name("jobs/later");
  const auto watch = jobs->WatchJob(&watch_context, watch_request);
  v1::WatchJobResponse seen;
  ASSERT_TRUE(watch->Read(&seen));

  const auto twins = hub.Twins();
  grpc::ClientContext import_context;
  v1::ImportTwinsResponse imported;
  const auto import = twins->ImportTwins(&import_context, &imported);
  v1::ImportTwinsRequest part;
  part.add_documents(R"({"deviceId":"d1"})");
  ASSERT_TRUE(import->Write(part));
  while (hub.engine().TwinCount() < 1) std::this_thread::yield();

  std::atomic<bool> drained{false};
  std::thread drain([&] {
    hub.server().Drain(kLong);
    drained = true;
  });
  // (It may have changed from queued to scheduled meanwhile.)
  while (watch->Read(&seen)) {
  }
  const absl::Status ended = FromGrpcStatus(watch->Finish());
  EXPECT_EQ(ErrorCodeOf(ended), ErrorCode::kServiceUnavailable) << ended;
  EXPECT_TRUE(RetryDelayOf(ended).has_value());
  while (asked == 0) std::this_thread::yield();

  part.set_documents(0, R"({"deviceId":"d2"})");
  EXPECT_TRUE(import->Write(part));
  EXPECT_FALSE(drained);
  import->WritesDone();
  EXPECT_TRUE(import->Finish().ok());
  EXPECT_EQ(imported.imported_count(), 2);
  drain.join();

  grpc::ClientContext context;
  v1::Job job;
  v1::GetJobRequest get;
  get.set_name("jobs/later");
  EXPECT_EQ(jobs->GetJob(&context, get, &job).error_code(), grpc::UNAVAILABLE);
  hub.server().Drain(kLong);
  EXPECT_EQ(asked, 1);
}

TEST(GrpcServerTest, ADrainHasAnEnd) {
  GrpcHub hub;
  const auto twins = hub.Twins();
  grpc::ClientContext context;
  v1::ImportTwinsResponse response;
  const auto import = twins->ImportTwins(&context, &response);
  v1::ImportTwinsRequest part;
  part.add_documents(R"({"deviceId":"d1"})");
  ASSERT_TRUE(import->Write(part));
  while (hub.engine().TwinCount() < 1) std::this_thread::yield();
  hub.server().Drain(absl::Milliseconds(50));
  const grpc::Status status = import->Finish();
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(hub.guard().Stats().under_way[1], 0);
}

// -------------------------------------------------------------------- options

TEST(GrpcServerTest, Options) {
  GrpcHub hub;
  const auto refused = [&](absl::string_view option, auto change) {
    GrpcServerOptions options;
    options.engine = &hub.engine();
    options.guard = &hub.guard();
    options.listen = {"127.0.0.1:0"};
    change(options);
    const absl::Status status = GrpcServer::Start(options).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), option)) << status;
  };
  refused("listen", [](auto& o) { o.listen.clear(); });
  refused("threads", [](auto& o) { o.threads = 0; });
  refused("message_size_max", [](auto& o) { o.message_size_max = 1; });
  refused("metadata_size_max", [](auto& o) { o.metadata_size_max = 1; });
  refused("streams_per_connection_max",
          [](auto& o) { o.streams_per_connection_max = 0; });
  refused("buffers_max", [](auto& o) { o.buffers_max = 0; });
  refused("bulk_streams_max", [](auto& o) { o.bulk_streams_max = 0; });
  refused("stream_idle_timeout",
          [](auto& o) { o.stream_idle_timeout = absl::ZeroDuration(); });
  refused("handshake_timeout",
          [](auto& o) { o.handshake_timeout = -absl::Seconds(1); });
  refused("keepalive_time",
          [](auto& o) { o.keepalive_time = absl::InfiniteDuration(); });
  refused("keepalive_timeout",
          [](auto& o) { o.keepalive_timeout = absl::ZeroDuration(); });
  refused("connection_idle_timeout",
          [](auto& o) { o.connection_idle_timeout = absl::Hours(25); });
  refused("tls.key_path", [](auto& o) { o.tls.certificate_path = "/x"; });
  refused("tls.client_ca_path", [](auto& o) { o.tls.client_ca_path = "/x"; });

  GrpcServerOptions options;
  options.engine = &hub.engine();
  options.guard = &hub.guard();
  options.listen = {"127.0.0.1:0"};
  options.tls.certificate_path = "/none.pem";
  options.tls.key_path = "/none.key";
  EXPECT_TRUE(absl::IsNotFound(GrpcServer::Start(options).status()));
  // An address that is in use.
  options.tls = {};
  options.listen = {hub.address()};
  const absl::Status status = GrpcServer::Start(options).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), hub.address())) << status;
}

TEST(GrpcServerTest, SeveralAddresses) {
  GrpcServerOptions options;
  options.listen = {"127.0.0.1:0", "127.0.0.2:0"};
  GrpcHub hub(options);
  ASSERT_EQ(hub.server().ports().size(), 2);
  for (int i = 0; i < 2; ++i) {
    ConnectOptions connect;
    connect.address =
        absl::StrCat("127.0.0.", i + 1, ":", hub.server().ports()[i]);
    auto client = MusterClient::Connect(connect);
    ASSERT_TRUE(client.ok());
    EXPECT_TRUE((*client)->ListJobs({}).ok());
  }
}

// ------------------------------------------------------------------------ TLS

class GrpcTlsTest : public testing::Test {
 protected:
  GrpcTlsTest() : ours_("grpc_server_test"), other_("grpc_server_test_other") {}

  TestCertificate Server() {
    return ours_.Issue({.common_name = "muster",
                        .alternative_names = "DNS:localhost,IP:127.0.0.1"});
  }
  ConnectOptions Connect(int port) {
    ConnectOptions options;
    options.address = absl::StrCat("127.0.0.1:", port);
    options.tls = true;
    options.ca_path = ours_.path();
    options.connect_timeout = absl::Seconds(3);
    return options;
  }
  absl::Status Call(const ConnectOptions& options) {
    auto client = MusterClient::Connect(options);
    if (!client.ok()) return client.status();
    return (*client)->ListJobs({}).status();
  }

  TestAuthority ours_;
  TestAuthority other_;
};

TEST_F(GrpcTlsTest, OneSided) {
  const TestCertificate certificate = Server();
  GrpcServerOptions options;
  options.tls.certificate_path = certificate.certificate_path;
  options.tls.key_path = certificate.key_path;
  GrpcHub hub(options);
  const int port = hub.server().ports()[0];
  EXPECT_TRUE(Call(Connect(port)).ok()) << Call(Connect(port));
  // Signed by somebody else, or for another name.
  ConnectOptions connect = Connect(port);
  connect.ca_path = other_.path();
  connect.connect_timeout = absl::Milliseconds(300);
  EXPECT_TRUE(absl::IsUnavailable(Call(connect)));
  connect = Connect(port);
  connect.server_name = "elsewhere.example.net";
  connect.connect_timeout = absl::Milliseconds(300);
  EXPECT_TRUE(absl::IsUnavailable(Call(connect)));
  // In plain text.
  connect = {};
  connect.address = absl::StrCat("127.0.0.1:", port);
  connect.connect_timeout = absl::Milliseconds(300);
  const absl::Status status = Call(connect);
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), connect.address)) << status;
}

TEST_F(GrpcTlsTest, TlsToAPlainServer) {
  GrpcHub hub;
  ConnectOptions connect = Connect(hub.server().ports()[0]);
  connect.connect_timeout = absl::Milliseconds(300);
  EXPECT_TRUE(absl::IsUnavailable(Call(connect)));
}

TEST_F(GrpcTlsTest, Mutual) {
  const TestCertificate certificate = Server();
  GrpcServerOptions options;
  options.tls.certificate_path = certificate.certificate_path;
  options.tls.key_path = certificate.key_path;
  options.tls.client_ca_path = ours_.path();
  GrpcHub hub(options);
  const int port = hub.server().ports()[0];
  ConnectOptions connect = Connect(port);
  connect.connect_timeout = absl::Milliseconds(300);
  EXPECT_TRUE(absl::IsUnavailable(Call(connect)));
  const TestCertificate foreign = other_.Issue({.common_name = "console"});
  connect.certificate_path = foreign.certificate_path;
  connect.key_path = foreign.key_path;
  EXPECT_TRUE(absl::IsUnavailable(Call(connect)));
  const TestCertificate own = ours_.Issue({.common_name = "console"});
  connect = Connect(port);
  connect.certificate_path = own.certificate_path;
  connect.key_path = own.key_path;
  EXPECT_TRUE(Call(connect).ok()) << Call(connect);
}

// --------------------------------------------------------------------- client

TEST(GrpcChannelTest, Options) {
  const auto refused = [](absl::string_view option, auto change) {
    ConnectOptions options;
    options.address = "hub.example.net:7040";
    change(options);
    const absl::Status status = MusterClient::Connect(options).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), option)) << status;
    EXPECT_FALSE(absl::StrContains(status.message(), "SECRET")) << status;
  };
  refused("address", [](auto& o) { o.address.clear(); });
  refused("ca_path", [](auto& o) { o.ca_path = "/x"; });
  refused("key_path", [](auto& o) {
    o.tls = true;
    o.certificate_path = "/x";
  });
  refused("tls", [](auto& o) { o.token = "SECRET"; });
  refused("shared access", [](auto& o) {
    o.token = "SECRET";
    o.shared_access.key = "U0VDUkVUU0VDUkVUU0VDUkVUU0VDUkVU";
  });
  refused("shared_access.key", [](auto& o) {
    o.tls = true;
    o.shared_access.resource = "hub";
    o.shared_access.key = "SECRET";
  });
  refused("shared_access.resource", [](auto& o) {
    o.tls = true;
    o.shared_access.key = "U0VDUkVUU0VDUkVUU0VDUkVUU0VDUkVU";
  });
  refused("shared_access.lifetime", [](auto& o) {
    o.tls = true;
    o.shared_access.resource = "hub";
    o.shared_access.key = "U0VDUkVUU0VDUkVUU0VDUkVUU0VDUkVU";
    o.shared_access.lifetime = absl::Seconds(1);
  });
  refused("timeout", [](auto& o) { o.timeout = absl::ZeroDuration(); });
  refused("message_size_max", [](auto& o) { o.message_size_max = 1; });
  ConnectOptions options;
  options.address = "hub.example.net:7040";
  options.tls = true;
  options.ca_path = "/none.pem";
  EXPECT_TRUE(absl::IsNotFound(MusterClient::Connect(options).status()));
}

class FakeClock : public Clock {
 public:
  absl::Time Now() override { return absl::UnixEpoch() + since; }
  absl::Duration Monotonic() override { return since; }
  absl::Duration since = absl::Hours(500'000);
};

TEST(GrpcChannelTest, TokensAreRenewed) {
  FakeClock clock;
  ConnectOptions options;
  options.shared_access = {
      .resource = "hub.example.net",
      .policy = "service",
      .key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
      .lifetime = absl::Minutes(10)};
  Authorization authorization(options, &clock);
  const std::string first = authorization.Value();
  const absl::StatusOr<SasToken> token = ParseSasToken(first);
  ASSERT_TRUE(token.ok()) << token.status();
  EXPECT_EQ(token->resource, "hub.example.net");
  EXPECT_EQ(token->policy, "service");
  EXPECT_EQ(token->expires, clock.Now() + absl::Minutes(10));
  clock.since += absl::Minutes(9) - absl::Seconds(1);
  EXPECT_EQ(authorization.Value(), first);
  clock.since += absl::Seconds(1);
  const absl::StatusOr<SasToken> next = ParseSasToken(authorization.Value());
  ASSERT_TRUE(next.ok());
  EXPECT_EQ(next->expires, clock.Now() + absl::Minutes(10));

  ConnectOptions bearer;
  bearer.token = "t0ken";
  EXPECT_EQ(Authorization(bearer, &clock).Value(), "Bearer t0ken");
  EXPECT_EQ(Authorization({}, &clock).Value(), "");
}

// Nobody listens: an answer soon, and one that says where.
TEST(GrpcClientTest, TheServerIsNotThere) {
  std::string address;
  {
    GrpcHub hub;
    address = hub.address();
  }
  ConnectOptions options;
  options.address = address;
  options.connect_timeout = absl::Milliseconds(300);
  auto client = MusterClient::Connect(options);
  ASSERT_TRUE(client.ok());
  const absl::Time begin = absl::Now();
  const absl::Status get = (*client)->GetJob("jobs/j").status();
  const absl::Status cancel = (*client)->CancelJob("jobs/j", false).status();
  const absl::Status import =
      (*client)
          ->ImportTwins([](std::string*) { return false; }, [](int64_t) {})
          .status();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(10));
  for (const absl::Status& status : {get, cancel, import}) {
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "cannot reach")) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), address)) << status;
  }
}

// A channel all of whose connections failed, that nobody polls for a while, and
// whose server then comes back: with gRPC 1.51 it may never notice.
TEST(GrpcClientTest, TheServerComesBackAfterAWhile) {
  GrpcHub hub;
  ConnectOptions options;
  options.address = hub.address();
  options.connect_timeout = absl::Milliseconds(200);
  auto client = MusterClient::Connect(options);
  ASSERT_TRUE(client.ok());
  ASSERT_TRUE((*client)->ListJobs({}).ok());
  hub.StopServer();
  // Calls that fail at once, then silence: the time that passes is the test.
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(absl::IsUnavailable((*client)->ListJobs({}).status()));
  }
  absl::SleepFor(absl::Seconds(2));
  hub.StartServer();
  // Calls now and then: each waits a fifth of a second for a connection, and in
  // between nobody looks.
  const absl::Time back = absl::Now();
  absl::Status status;
  do {
    absl::SleepFor(absl::Milliseconds(300));
    status = (*client)->ListJobs({}).status();
  } while (!status.ok() && absl::Now() - back < absl::Seconds(30));
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_LT(absl::Now() - back, absl::Seconds(6));
}

// Calls that may be repeated bridge a restart.
TEST(GrpcClientTest, ACallBridgesARestart) {
  GrpcHub hub;
  ASSERT_TRUE(hub.client().ListJobs({}).ok());
  hub.StopServer();
  absl::Notification begun;
  absl::Status status;
  std::thread caller([&] {
    begun.Notify();
    status = hub.client().CreateJob(MethodJob("bridge", "m")).status();
  });
  begun.WaitForNotification();
  absl::SleepFor(absl::Milliseconds(500));
  hub.StartServer();
  caller.join();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(hub.client().GetJob("jobs/bridge").ok());
}

}  // namespace
}  // namespace muster
