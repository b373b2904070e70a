// Limits, through a real server: each that a caller can meet has a clear
// answer.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/model/error.h"
#include "engine/query/condition.h"
#include "engine/query/statement.h"
#include "engine/schedule/executor.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "gtest/gtest.h"
#include "tests/grpc_fixture.h"
#include "transport/grpc/status.h"
#include "transport/query_budget.h"

namespace muster {
namespace {

// Keeps what it is given back while it is told to.
class HeldExecutor : public Executor {
 public:
  int concurrency() const override { return inner_->concurrency(); }
  void Run(Callback callback) override {
    {
      absl::MutexLock lock(&mutex_);
      if (holding_) {
        held_.push_back(std::move(callback));
        return;
      }
    }
    inner_->Run(std::move(callback));
  }
  void RunAt(absl::Duration monotonic, Callback callback) override {
    inner_->RunAt(monotonic, std::move(callback));
  }

  void Hold() {
    absl::MutexLock lock(&mutex_);
    holding_ = true;
  }
  void WaitForHeld(size_t count) {
    absl::MutexLock lock(&mutex_);
    const auto enough = [this, count]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
      return held_.size() >= count;
    };
    mutex_.Await(absl::Condition(&enough));
  }
  void Release() {
    absl::MutexLock lock(&mutex_);
    holding_ = false;
    for (Callback& callback : held_) inner_->Run(std::move(callback));
    held_.clear();
  }

 private:
  const std::unique_ptr<Executor> inner_ = MakeThreadExecutor(2);
  absl::Mutex mutex_;
  bool holding_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<Callback> held_ ABSL_GUARDED_BY(mutex_);
};

// What a client is told, or would be.
void ExpectThrottled(const absl::Status& told, absl::string_view part) {
  const absl::Status status = FromGrpcStatus(ToGrpcStatus(told));
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_EQ(ErrorCodeOf(status), ErrorCode::kThrottlingException) << status;
  EXPECT_TRUE(RetryDelayOf(status).has_value()) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), part)) << status;
}

const CallGuardStats::Method* Find(const CallGuardStats& stats,
                                   absl::string_view name) {
  for (const CallGuardStats::Method& method : stats.methods) {
    if (method.name == name) return &method;
  }
  return nullptr;
}

// ------------------------------------------------------------ calls and
// streams

TEST(GrpcLimitsTest, CallsUnderWay) {
  HeldExecutor executor;
  GrpcServerOptions options;
  options.executor = &executor;
  CallGuard::Options guard;
  guard.calls_max = 2;
  GrpcHub hub(options, guard);
  executor.Hold();
  std::vector<std::thread> callers;
  for (int i = 0; i < 2; ++i) {
    callers.emplace_back([&] { EXPECT_TRUE(hub.client().ListJobs({}).ok()); });
  }
  executor.WaitForHeld(2);
  ExpectThrottled(hub.client().ListJobs({}).status(), "2 calls under way");
  const CallGuardStats busy = hub.guard().Stats();
  EXPECT_EQ(busy.under_way[static_cast<int>(CallKind::kUnary)], 2);
  EXPECT_EQ(busy.limit[static_cast<int>(CallKind::kUnary)], 2);
  executor.Release();
  for (std::thread& caller : callers) caller.join();
  EXPECT_TRUE(hub.client().ListJobs({}).ok());
  const CallGuardStats idle = hub.guard().Stats();
  EXPECT_EQ(idle.under_way[static_cast<int>(CallKind::kUnary)], 0);
  const CallGuardStats::Method* list = Find(idle, "ListJobs");
  ASSERT_NE(list, nullptr);
  EXPECT_EQ(list->under_way, 0);
  EXPECT_EQ(list->ended[0], 3);
  EXPECT_EQ(list->ended[static_cast<int>(absl::StatusCode::kResourceExhausted)],
            1);
}

// A call whose caller has gone away (or whose deadline has passed, which is the
// same to a server) while it waited is not begun.  The server may hear of it a
// moment too late: then the next one shows it.
TEST(GrpcLimitsTest, ACallerThatDoesNotWait) {
  HeldExecutor executor;
  GrpcServerOptions options;
  options.executor = &executor;
  GrpcHub hub(options);
  const auto channel = hub.Channel();
  const auto jobs = v1::JobService::NewStub(channel);
  const auto twins = v1::TwinService::NewStub(channel);
  bool begun = true;
  for (int i = 0; begun && i < 1000; ++i) {
    const std::string id = absl::StrCat("gone", i);
    executor.Hold();
    grpc::ClientContext context;
    std::thread caller([&] {
      v1::Job job;
      EXPECT_EQ(
          jobs->CreateJob(&context, MethodJob(id, "m"), &job).error_code(),
          grpc::CANCELLED);
    });
    executor.WaitForHeld(1);
    context.TryCancel();
    caller.join();
    // Behind the cancel on the same connection, and not held.
    grpc::ClientContext after;
    v1::GetTwinRequest get;
    get.set_name("twins/none");
    v1::Twin twin;
    EXPECT_EQ(twins->GetTwin(&after, get, &twin).error_code(), grpc::NOT_FOUND);
    executor.Release();
    while (hub.guard().Stats().under_way[0] > 0) std::this_thread::yield();
    begun = hub.client().GetJob(absl::StrCat("jobs/", id)).ok();
  }
  EXPECT_FALSE(begun);
}

TEST(GrpcLimitsTest, Streams) {
  CallGuard::Options guard;
  guard.streams_max = 1;
  GrpcHub hub({}, guard);
  v1::CreateJobRequest later = MethodJob("later", "m");
  later.mutable_job()->mutable_start_time()->set_seconds(4'000'000'000);
  ASSERT_TRUE(hub.client().CreateJob(later).ok());
  const auto jobs = hub.Jobs();
  v1::WatchJobRequest request;
  request.set_name("jobs/later");
  v1::WatchJobResponse response;
  grpc::ClientContext first;
  const auto watch = jobs->WatchJob(&first, request);
  ASSERT_TRUE(watch->Read(&response));
  grpc::ClientContext second;
  ExpectThrottled(FromGrpcStatus(jobs->WatchJob(&second, request)->Finish()),
                  "1 streams under way");
  first.TryCancel();
  watch->Finish();
  // The place is free again.
  while (hub.guard().Stats().under_way[1] > 0) std::this_thread::yield();
  grpc::ClientContext third;
  const auto again = jobs->WatchJob(&third, request);
  EXPECT_TRUE(again->Read(&response));
  third.TryCancel();
  again->Finish();
}

TEST(GrpcLimitsTest, StreamsOfManyTwins) {
  GrpcServerOptions options;
  options.bulk_streams_max = 1;
  GrpcHub hub(options);
  const auto twins = hub.Twins();
  grpc::ClientContext context;
  v1::ImportTwinsResponse response;
  const auto import = twins->ImportTwins(&context, &response);
  v1::ImportTwinsRequest part;
  part.add_documents(R"({"deviceId":"d1"})");
  ASSERT_TRUE(import->Write(part));
  while (hub.engine().TwinCount() < 1) std::this_thread::yield();
  const auto list = [&] {
    return hub.client().StreamTwins("SELECT * FROM devices",
                                    [](absl::string_view) { return true; });
  };
  ExpectThrottled(list(), "1 streams under way that import or list");
  ExpectThrottled(
      hub.client()
          .ImportTwins([](std::string*) { return false; }, [](int64_t) {})
          .status(),
      "1 streams under way that import or list");
  import->WritesDone();
  ASSERT_TRUE(import->Finish().ok());
  while (hub.guard().Stats().under_way[1] > 0) std::this_thread::yield();
  EXPECT_TRUE(list().ok());
}

// Further calls on the connection wait at the client, for their deadline.
TEST(GrpcLimitsTest, StreamsOfAConnection) {
  GrpcServerOptions options;
  options.streams_per_connection_max = 1;
  GrpcHub hub(options);
  const auto channel = hub.Channel();
  const auto twins = v1::TwinService::NewStub(channel);
  grpc::ClientContext context;
  v1::ImportTwinsResponse response;
  const auto import = twins->ImportTwins(&context, &response);
  v1::ImportTwinsRequest part;
  part.add_documents(R"({"deviceId":"d1"})");
  ASSERT_TRUE(import->Write(part));
  while (hub.engine().TwinCount() < 1) std::this_thread::yield();
  grpc::ClientContext waiting;
  waiting.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::milliseconds(100));
  v1::GetTwinRequest get;
  get.set_name("twins/d1");
  v1::Twin twin;
  EXPECT_EQ(twins->GetTwin(&waiting, get, &twin).error_code(),
            grpc::DEADLINE_EXCEEDED);
  EXPECT_TRUE(hub.client().GetTwin("twins/d1").ok());  // Another connection.
  import->WritesDone();
  EXPECT_TRUE(import->Finish().ok());
}

TEST(GrpcLimitsTest, HealthWatches) {
  GrpcHub hub;
  using grpc::health::v1::Health;
  const auto health = Health::NewStub(hub.Channel());
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<
      grpc::ClientReader<grpc::health::v1::HealthCheckResponse>>>
      watches;
  grpc::health::v1::HealthCheckResponse response;
  for (int i = 0; i < 256; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    watches.push_back(health->Watch(contexts.back().get(), {}));
    ASSERT_TRUE(watches.back()->Read(&response));
  }
  grpc::ClientContext context;
  ExpectThrottled(FromGrpcStatus(health->Watch(&context, {})->Finish()),
                  "256 health watches");
  for (const auto& c : contexts) c->TryCancel();
  for (const auto& watch : watches) watch->Finish();
}

// ------------------------------------------------------------------------
// sizes

TEST(GrpcLimitsTest, SizesOfMessages) {
  GrpcServerOptions options;
  options.message_size_max = 64 << 10;
  GrpcHub hub(options);
  hub.AddDevice("d1");
  v1::UpdateTwinRequest request;
  request.mutable_twin()->set_name("twins/d1");
  request.set_merge_patch(absl::StrCat("{}", std::string(60 << 10, ' ')));
  EXPECT_TRUE(hub.client().UpdateTwin(request).ok());
  request.set_merge_patch(absl::StrCat("{}", std::string(64 << 10, ' ')));
  const absl::Status status = hub.client().UpdateTwin(request).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "65536")) << status;
  EXPECT_FALSE(RetryDelayOf(status).has_value());

  // In a stream as well.
  grpc::ClientContext context;
  v1::ImportTwinsResponse response;
  const auto twins = hub.Twins();
  const auto import = twins->ImportTwins(&context, &response);
  v1::ImportTwinsRequest part;
  part.add_documents(std::string(64 << 10, ' '));
  import->Write(part);
  const absl::Status streamed = FromGrpcStatus(import->Finish());
  EXPECT_TRUE(absl::IsResourceExhausted(streamed)) << streamed;

  // What comes back is limited by whoever asked for it.
  ConnectOptions connect;
  connect.address = hub.address();
  connect.message_size_max = 1024;
  auto client = MusterClient::Connect(connect);
  ASSERT_TRUE(client.ok());
  ASSERT_TRUE(
      hub.engine()
          .PatchTwin("d1", absl::StrCat(R"({"tags":{"a":")",
                                        std::string(2000, 'x'), R"("}})"))
          .ok());
  EXPECT_TRUE(
      absl::IsResourceExhausted((*client)->GetTwin("twins/d1").status()));
}

TEST(GrpcLimitsTest, SizesOfMetadata) {
  GrpcServerOptions options;
  options.metadata_size_max = 4 << 10;
  GrpcHub hub(options);
  const auto jobs = hub.Jobs();
  for (const int size : {1 << 10, 8 << 10}) {
    grpc::ClientContext context;
    context.AddMetadata("x-much", std::string(size, 'x'));
    v1::ListJobsResponse response;
    const grpc::Status status = jobs->ListJobs(&context, {}, &response);
    EXPECT_EQ(status.error_code(),
              size < (4 << 10) ? grpc::OK : grpc::RESOURCE_EXHAUSTED)
        << status.error_message();
  }
}

// ----------------------------------------------------------------------
// queries

TEST(GrpcLimitsTest, WeightsOfConditions) {
  const auto weight = [](absl::string_view text) {
    absl::StatusOr<Condition> condition = Condition::ParseJobCondition(text);
    EXPECT_TRUE(condition.ok()) << condition.status();
    return condition.ok() ? QueryWeight(condition->expr()) : -1;
  };
  EXPECT_EQ(weight("*"), 1);
  EXPECT_EQ(weight("1 = 1"), 1);
  EXPECT_EQ(weight("tags.a = 1"), 1);
  EXPECT_EQ(weight("'x' != tags.a.b"), 1);
  EXPECT_EQ(weight("connectionState = 'Connected'"), 1);
  EXPECT_EQ(weight("tags.a < 1 OR tags.b"), 2);
  EXPECT_EQ(weight("tags.a IN [1, 2, 3] AND NOT is_defined(tags.b)"), 2);
  EXPECT_EQ(weight("lastActivityTime > '2026-01-01T00:00:00Z'"), 80);
  EXPECT_EQ(weight("lastActivityTime IN ['2026-01-01', '2026-01-02']"), 80);
  EXPECT_EQ(weight("lastActivityTime > 'yesterday'"), 1100);
  EXPECT_EQ(weight("tags.a < 'x' AND STARTSWITH(tags.a, 'x')"), 400);
  // Row by row: 800, and 100 for each node and element.
  EXPECT_EQ(weight("CONCAT(tags.a, 'x') = 'y'"), 1300);
  EXPECT_EQ(weight("NOT (CONCAT(tags.a, 'x') = 'y' OR tags.a = 1)"), 1301);
  EXPECT_EQ(weight("tags.a = tags.b"), 1100);
  EXPECT_EQ(weight("deviceId > 'x'"), 1100);
  EXPECT_EQ(weight("tags = 1"), 1100);
  EXPECT_EQ(weight("LENGTH(tags.a) IN [1, 2, 3]"), 1400);
  EXPECT_EQ(weight("tags.a + tags.b * tags.c > 3 OR tags.a = 1"), 1501);
}

TEST(GrpcLimitsTest, TheBudgetOfQueries) {
  QueryBudget budget(100, 150, 1);
  {
    absl::StatusOr<QueryBudget::Share> first = budget.Take(50, 2);
    ASSERT_TRUE(first.ok());
    ExpectThrottled(budget.Take(51, 1).status(), "150");
    absl::StatusOr<QueryBudget::Share> second = budget.Take(50, 1);
    ASSERT_TRUE(second.ok());
    ExpectThrottled(budget.Take(0, 1).status(), "150");
    const QueryBudget::Share moved = *std::move(second);
    ExpectThrottled(budget.Take(0, 1).status(), "150");
  }
  EXPECT_TRUE(budget.Take(100, 1).ok());
  const absl::Status status = budget.Take(101, 1).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_EQ(RetryDelayOf(status), std::nullopt);
  EXPECT_EQ(ErrorCodeOf(budget.Take(INT64_MAX, INT64_MAX).status()),
            ErrorCode::kIotHubQuotaExceeded);
}

TEST(GrpcLimitsTest, LongQueriesLeaveThreads) {
  for (const auto& [threads, most] :
       {std::pair(1, 1), std::pair(2, 1), std::pair(4, 3), std::pair(16, 12)}) {
    EXPECT_EQ(QueryBudget::LongQueriesMax(threads), most) << threads;
  }
  QueryBudget budget(INT64_MAX, INT64_MAX, 2);
  for (int round = 0; round < 2; ++round) {
    const auto first = budget.Take(kLongQueryCost, 1);
    EXPECT_TRUE(first.ok());
    const auto second = budget.Take(1, kLongQueryCost);
    EXPECT_TRUE(second.ok());
    ExpectThrottled(budget.Take(kLongQueryCost, 1).status(), "2 long queries");
    EXPECT_TRUE(budget.Take(kLongQueryCost - 1, 1).ok());
  }
  // One that the total has no room for takes no place.
  QueryBudget narrow(kLongQueryCost, kLongQueryCost, 2);
  const auto only = narrow.Take(kLongQueryCost, 1);
  for (int i = 0; i < 3; ++i) {
    ExpectThrottled(narrow.Take(kLongQueryCost, 1).status(), "would add");
  }
}

TEST(GrpcLimitsTest, TheWeightOfAStatement) {
  const auto weight = [](absl::string_view statement) {
    const auto parsed = Statement::Parse(statement);
    EXPECT_TRUE(parsed.ok()) << parsed.status();
    return parsed.ok() ? StatementWeight(*parsed) : -1;
  };
  EXPECT_EQ(weight("SELECT * FROM devices"), 1);
  EXPECT_EQ(weight("SELECT * FROM devices WHERE tags.a = 1 OR tags.b = 1"), 2);
  EXPECT_EQ(weight("SELECT COUNT() FROM devices WHERE tags.a = 1"), 1);
  EXPECT_EQ(weight("SELECT SUM(tags.a) FROM devices"), 1001);
  EXPECT_EQ(weight("SELECT tags.a, COUNT() FROM devices GROUP BY tags.a"),
            1001);
}

TEST(GrpcLimitsTest, QueriesThatCostTooMuch) {
  GrpcServerOptions options;
  QueryBudget budget(20, 20, 1);
  options.budget = &budget;
  GrpcHub hub(options);
  for (int i = 0; i < 10; ++i) hub.AddDevice(absl::StrCat("d", i));
  const std::string good = "tags.a = 1 AND tags.b = 2";
  const std::string bad = "tags.a = 1 AND tags.b = 2 AND tags.c = 3";
  for (const bool fits : {true, false}) {
    const std::string& condition = fits ? good : bad;
    v1::QueryTwinsRequest query;
    query.set_query(absl::StrCat("SELECT * FROM devices WHERE ", condition));
    v1::PreviewTargetsRequest preview;
    preview.set_query_condition(condition);
    v1::CreateJobRequest dry = MethodJob("dry", "m", condition);
    dry.set_validate_only(true);
    for (const absl::Status& status :
         {hub.client().QueryTwins(query).status(),
          hub.client().StreamTwins(query.query(),
                                   [](absl::string_view) { return true; }),
          hub.client().PreviewTargets(preview).status(),
          hub.client().CreateJob(dry).status()}) {
      EXPECT_EQ(status.ok(), fits) << status;
      if (fits) continue;
      EXPECT_EQ(ErrorCodeOf(status), ErrorCode::kIotHubQuotaExceeded) << status;
      EXPECT_EQ(RetryDelayOf(status), std::nullopt);
      EXPECT_TRUE(absl::StrContains(status.message(), "weight 3, and 10 twins"))
          << status;
    }
  }
}

// ------------------------------------------------------------------- slow
// peers

TEST(GrpcLimitsTest, AnImportThatSendsNothing) {
  GrpcServerOptions options;
  options.stream_idle_timeout = absl::Milliseconds(50);
  GrpcHub hub(options);
  grpc::ClientContext context;
  v1::ImportTwinsResponse response;
  const auto twins = hub.Twins();
  const auto import = twins->ImportTwins(&context, &response);
  const absl::Status status = FromGrpcStatus(import->Finish());
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "50ms")) << status;
  while (hub.guard().Stats().under_way[1] > 0) std::this_thread::yield();
}

TEST(GrpcLimitsTest, AReaderThatTakesNothing) {
  GrpcServerOptions options;
  options.stream_idle_timeout = absl::Milliseconds(100);
  GrpcHub hub(options);
  const std::string part(4000, 'x');
  for (int i = 0; i < 3000; ++i) {
    hub.AddDevice(
        absl::StrCat("d", i),
        absl::StrCat(R"("tags":{"a":")", part, R"(","b":")", part, "\"}"));
  }
  grpc::ClientContext context;
  v1::StreamTwinsRequest request;
  request.set_query("SELECT * FROM devices");
  const auto twins = hub.Twins();
  const auto reader = twins->StreamTwins(&context, request);
  // Nothing is read: the server breaks off by itself.
  const absl::Time begin = absl::Now();
  const auto ended = [&] {
    const CallGuardStats stats = hub.guard().Stats();
    const CallGuardStats::Method* method = Find(stats, "StreamTwins");
    return method != nullptr && method->ended[static_cast<int>(
                                    absl::StatusCode::kDeadlineExceeded)] == 1;
  };
  while (!ended() && absl::Now() - begin < absl::Seconds(60)) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_TRUE(ended());
  v1::StreamTwinsResponse response;
  while (reader->Read(&response)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::CANCELLED);
}

// A watch's first message is more than what a client takes unread.
TEST(GrpcLimitsTest, AWatchThatTakesNothing) {
  GrpcServerOptions options;
  options.stream_idle_timeout = absl::Milliseconds(100);
  GrpcHub hub(options);
  v1::CreateJobRequest later = MethodJob("later", "m");
  later.mutable_job()->mutable_start_time()->set_seconds(4'000'000'000);
  later.mutable_job()->mutable_direct_method()->set_payload(
      absl::StrCat("\"", std::string(120'000, 'x'), "\""));
  ASSERT_TRUE(hub.client().CreateJob(later).ok());
  grpc::ClientContext context;
  v1::WatchJobRequest request;
  request.set_name("jobs/later");
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 100);
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  const auto jobs = v1::JobService::NewStub(grpc::CreateCustomChannel(
      hub.address(), grpc::InsecureChannelCredentials(), arguments));
  const auto watch = jobs->WatchJob(&context, request);
  const absl::Time begin = absl::Now();
  const auto ended = [&] {
    const CallGuardStats stats = hub.guard().Stats();
    const CallGuardStats::Method* method = Find(stats, "WatchJob");
    return method != nullptr && method->ended[static_cast<int>(
                                    absl::StatusCode::kDeadlineExceeded)] == 1;
  };
  while (!ended() && absl::Now() - begin < absl::Seconds(20)) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_TRUE(ended());
  context.TryCancel();
  watch->Finish();
}

// A socket that speaks as little as it can.
class RawSocket {
 public:
  explicit RawSocket(int port) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(port));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0);
    const timeval limit = {.tv_sec = 5};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  }
  ~RawSocket() { close(fd_); }

  void Send(absl::string_view bytes) {
    EXPECT_EQ(send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  // Whether the other side closes it, 5 seconds after its last byte at most.
  bool IsClosed() {
    char buffer[4096];
    ssize_t got;
    do {
      got = recv(fd_, buffer, sizeof(buffer), 0);
    } while (got > 0);
    return got == 0 || errno == ECONNRESET;
  }

 private:
  const int fd_;
};

constexpr char kPreface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

TEST(GrpcLimitsTest, AConnectionThatSaysNothing) {
  GrpcServerOptions options;
  options.handshake_timeout = absl::Milliseconds(200);
  options.keepalive_time = absl::Milliseconds(200);
  options.keepalive_timeout = absl::Milliseconds(200);
  GrpcHub hub(options);
  const int port = hub.server().ports()[0];
  RawSocket silent(port);
  EXPECT_TRUE(silent.IsClosed());
  RawSocket half(port);
  half.Send(absl::string_view(kPreface).substr(0, 10));
  EXPECT_TRUE(half.IsClosed());
  // A client that gets as far as an empty SETTINGS frame and then falls asleep:
  // it gives no sign of life.
  RawSocket asleep(port);
  asleep.Send(kPreface);
  asleep.Send(absl::string_view("\0\0\0\4\0\0\0\0\0", 9));
  EXPECT_TRUE(asleep.IsClosed());
  EXPECT_TRUE(hub.client().ListJobs({}).ok());
}

}  // namespace
}  // namespace muster
