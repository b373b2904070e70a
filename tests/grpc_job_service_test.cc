// JobService through a real server on a real socket: what each call answers,
// and each error with its code, number and field.
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "engine/journal/journal.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/query/parse_error.h"
#include "google/protobuf/util/time_util.h"
#include "grpcpp/client_context.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "grpcpp/server_context.h"
#include "gtest/gtest.h"
#include "tests/grpc_fixture.h"
#include "transport/grpc/status.h"

namespace muster {
namespace {

using google::protobuf::util::TimeUtil;

constexpr absl::Duration kLong = absl::Seconds(60);
constexpr char kUuid[] = "6f1ed002-ab5f-4cd8-a1a3-1cf0d5d1c0a1";

void ExpectError(const absl::Status& status, ErrorCode code,
                 absl::string_view field = "") {
  EXPECT_EQ(ErrorCodeOf(status), code) << status;
  EXPECT_EQ(status.code(), ErrorInfoOf(code).canonical) << status;
  EXPECT_EQ(FieldOf(status), field) << status;
}

// Watches to the end; the job as it was last.
v1::Job Finish(MusterClient& client, absl::string_view name) {
  absl::StatusOr<v1::Job> job =
      client.WatchJob(name, kLong, [](const v1::Job&) { return true; });
  EXPECT_TRUE(job.ok()) << job.status();
  return job.ok() ? *job : v1::Job();
}

std::string Counts(const v1::Job& job) {
  const v1::Job::Statistics& s = job.statistics();
  return absl::StrCat(s.device_count(), " / f", s.failed_count(), " s",
                      s.succeeded_count(), " r", s.running_count(), " p",
                      s.pending_count());
}

// --------------------------------------------------------------------- create

// The engine takes any time, a journal may have it, and a Duration does not.
TEST(GrpcJobServiceTest, AJobThatMayRunForEver) {
  GrpcHub hub;
  JobRequest job;
  job.job_id = "for-ever";
  job.action = MethodAction{.method_name = "m"};
  job.query_condition = "*";
  job.start_time = absl::FromUnixSeconds(4'000'000'000);
  job.max_execution_time_seconds = INT64_MAX;
  ASSERT_TRUE(hub.engine().CreateJob(job).ok());
  const absl::StatusOr<v1::Job> read = hub.client().GetJob("jobs/for-ever");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->max_execution_time().seconds(), 315'576'000'000);
  EXPECT_EQ(read->max_execution_time().nanos(), 0);
}

TEST(GrpcJobServiceTest, AMethodJobFromCreationToItsEnd) {
  GrpcHub hub;
  for (int i = 0; i < 5; ++i) hub.AddDevice(absl::StrCat("d", i));
  hub.devices().SetHandler("reboot", [](const LoopbackCall& call) {
    return LoopbackReply{.status = call.device_id == "d3" ? 500 : 200,
                         .payload = std::string(call.payload)};
  });
  v1::CreateJobRequest request = MethodJob("reboot-all", "reboot");
  v1::DirectMethod& method = *request.mutable_job()->mutable_direct_method();
  method.set_payload(R"({"big": 9007199254740993})");
  *method.mutable_response_timeout() = TimeUtil::SecondsToDuration(7);
  *method.mutable_connect_timeout() = TimeUtil::SecondsToDuration(9);
  request.mutable_job()->set_priority(v1::Job::PRIORITY_HIGH);
  request.mutable_job()->set_weight(200);
  *request.mutable_job()->mutable_max_execution_time() =
      TimeUtil::SecondsToDuration(60);
  absl::StatusOr<v1::Job> created = hub.client().CreateJob(request);
  ASSERT_TRUE(created.ok()) << created.status();
  EXPECT_EQ(created->name(), "jobs/reboot-all");
  EXPECT_EQ(created->state(), v1::Job::STATE_QUEUED);

  const v1::Job job = Finish(hub.client(), "jobs/reboot-all");
  EXPECT_EQ(job.state(), v1::Job::STATE_COMPLETED);
  EXPECT_EQ(job.type(), v1::Job::TYPE_DIRECT_METHOD);
  EXPECT_EQ(Counts(job), "5 / f0 s5 r0 p0");
  EXPECT_EQ(job.direct_method().method_name(), "reboot");
  EXPECT_EQ(job.direct_method().payload(), R"({"big": 9007199254740993})");
  EXPECT_EQ(job.direct_method().response_timeout().seconds(), 7);
  EXPECT_EQ(job.direct_method().connect_timeout().seconds(), 9);
  EXPECT_EQ(job.query_condition(), "*");
  EXPECT_EQ(job.priority(), v1::Job::PRIORITY_HIGH);
  EXPECT_EQ(job.weight(), 200);
  EXPECT_EQ(job.max_execution_time().seconds(), 60);
  EXPECT_EQ(TimeUtil::ToString(job.start_time()),
            TimeUtil::ToString(job.create_time()));
  EXPECT_GE(TimeUtil::TimestampToNanoseconds(job.end_time()),
            TimeUtil::TimestampToNanoseconds(job.create_time()));
  EXPECT_EQ((job.expire_time() - job.end_time()).seconds(), 30 * 86'400);
  EXPECT_EQ(job.failure_reason(), "");

  absl::StatusOr<v1::Execution> execution =
      hub.client().GetExecution("jobs/reboot-all/executions/d3");
  ASSERT_TRUE(execution.ok()) << execution.status();
  EXPECT_EQ(execution->name(), "jobs/reboot-all/executions/d3");
  EXPECT_EQ(execution->twin(), "twins/d3");
  EXPECT_EQ(execution->type(), v1::Job::TYPE_DIRECT_METHOD);
  EXPECT_EQ(execution->state(), v1::Execution::STATE_COMPLETED);
  EXPECT_EQ(execution->method_response().status(), 500);
  EXPECT_EQ(execution->method_response().payload(),
            R"({"big": 9007199254740993})");
  EXPECT_TRUE(execution->has_start_time());
  EXPECT_TRUE(execution->has_update_time());
  EXPECT_TRUE(execution->has_end_time());
  EXPECT_FALSE(execution->has_error());
}

TEST(GrpcJobServiceTest, ATwinJob) {
  GrpcHub hub;
  hub.AddDevice("d1");
  absl::StatusOr<v1::Job> created =
      hub.client().CreateJob(TwinJob("set", R"({"tags":{"n":4503599627370495},
                         "properties":{"desired":{"x":{"y":1}}}})",
                                     "deviceId = 'd1'"));
  ASSERT_TRUE(created.ok()) << created.status();
  const v1::Job job = Finish(hub.client(), "jobs/set");
  EXPECT_EQ(job.type(), v1::Job::TYPE_TWIN_UPDATE);
  EXPECT_EQ(Counts(job), "1 / f0 s1 r0 p0");
  EXPECT_EQ(job.twin_update().merge_patch(),
            R"({"tags":{"n":4503599627370495},)"
            R"("properties":{"desired":{"x":{"y":1}}}})");
  absl::StatusOr<v1::Twin> twin = hub.client().GetTwin("twins/d1");
  ASSERT_TRUE(twin.ok());
  EXPECT_TRUE(absl::StrContains(twin->document(), R"("n":4503599627370495)"));
}

TEST(GrpcJobServiceTest, AJobWithoutAnId) {
  GrpcHub hub;
  v1::CreateJobRequest request = MethodJob("", "m");
  request.set_request_id(kUuid);
  absl::StatusOr<v1::Job> named = hub.client().CreateJob(request);
  ASSERT_TRUE(named.ok()) << named.status();
  EXPECT_EQ(named->name(), absl::StrCat("jobs/", kUuid));

  // The client's library gives a request id then: past it.
  grpc::ClientContext context;
  v1::Job job;
  ASSERT_TRUE(hub.Jobs()->CreateJob(&context, MethodJob("", "m"), &job).ok());
  EXPECT_EQ(job.name().size(), std::string("jobs/").size() + 36);
  EXPECT_NE(job.name(), named->name());
}

// A request that comes twice is answered with the job that is there, if that is
// what it asks for.
TEST(GrpcJobServiceTest, ARequestThatIsRepeated) {
  GrpcHub hub;
  hub.AddDevice("d1");
  hub.devices().SetHandler("m",
                           [](const LoopbackCall&) { return LoopbackReply{}; });
  v1::CreateJobRequest request = MethodJob("once", "m");
  request.set_request_id(kUuid);
  ASSERT_TRUE(hub.client().CreateJob(request).ok());
  Finish(hub.client(), "jobs/once");
  absl::StatusOr<v1::Job> again = hub.client().CreateJob(request);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->state(), v1::Job::STATE_COMPLETED);
  EXPECT_EQ(Counts(*again), "1 / f0 s1 r0 p0");

  const auto refused = [&](auto change) {
    v1::CreateJobRequest other = request;
    change(other);
    ExpectError(hub.client().CreateJob(other).status(),
                ErrorCode::kJobAlreadyExists);
  };
  refused(
      [](auto& r) { r.mutable_job()->set_query_condition("deviceId='x'"); });
  refused([](auto& r) { r.mutable_job()->set_weight(7); });
  refused(
      [](auto& r) { r.mutable_job()->set_priority(v1::Job::PRIORITY_LOW); });
  refused([](auto& r) {
    r.mutable_job()->mutable_direct_method()->set_method_name("other");
  });
  refused([](auto& r) {
    r.mutable_job()->mutable_direct_method()->set_payload("1");
  });
  refused([](auto& r) {
    r.mutable_job()->mutable_twin_update()->set_merge_patch("{}");
  });
  refused([](auto& r) {
    *r.mutable_job()->mutable_max_execution_time() =
        TimeUtil::SecondsToDuration(10);
  });
  refused([](auto& r) {
    *r.mutable_job()->mutable_start_time() = TimeUtil::SecondsToTimestamp(10);
  });
  // Without a request id it is not known to be the same request.
  grpc::ClientContext context;
  v1::Job job;
  request.clear_request_id();
  ExpectError(FromGrpcStatus(hub.Jobs()->CreateJob(&context, request, &job)),
              ErrorCode::kJobAlreadyExists);
}

// A server of which a test says what it answers.
class ScriptedServer : public v1::JobService::Service {
 public:
  ScriptedServer() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~ScriptedServer() override { server_->Shutdown(); }

  std::unique_ptr<MusterClient> NewClient(ConnectOptions options = {}) const {
    options.address = absl::StrCat("127.0.0.1:", port_);
    auto client = MusterClient::Connect(options);
    MUSTER_CHECK(client.ok());
    return *std::move(client);
  }

  grpc::Status CreateJob(grpc::ServerContext*,
                         const v1::CreateJobRequest* request,
                         v1::Job*) override {
    absl::MutexLock lock(&mutex_);
    request_ids_.push_back(request->request_id());
    return request_ids_.size() % 2 == 1
               ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "lost")
               : grpc::Status::OK;
  }
  // Does not answer as long as anybody waits for it.
  grpc::Status GetJob(grpc::ServerContext* context, const v1::GetJobRequest*,
                      v1::Job*) override {
    absl::Notification cancelled;
    while (!context->IsCancelled()) {
      cancelled.WaitForNotificationWithTimeout(absl::Milliseconds(1));
    }
    return grpc::Status::CANCELLED;
  }
  // Shows the job once, and then that the token is out of time.
  grpc::Status WatchJob(
      grpc::ServerContext* context, const v1::WatchJobRequest*,
      grpc::ServerWriter<v1::WatchJobResponse>* writer) override {
    {
      absl::MutexLock lock(&mutex_);
      const auto token = context->client_metadata().find("authorization");
      tokens_.emplace_back(token->second.data(), token->second.size());
    }
    v1::WatchJobResponse response;
    response.set_revision(1);
    writer->Write(response);
    return grpc::Status(grpc::StatusCode::UNAUTHENTICATED, "expired");
  }

  std::vector<std::string> request_ids() {
    absl::MutexLock lock(&mutex_);
    return request_ids_;
  }
  std::vector<std::string> tokens() {
    absl::MutexLock lock(&mutex_);
    return tokens_;
  }

 private:
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  absl::Mutex mutex_;
  std::vector<std::string> request_ids_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> tokens_ ABSL_GUARDED_BY(mutex_);
};

// Only what the library repeats by itself is known to be the same request.
TEST(GrpcJobServiceTest, ASecondCallIsNoRepetition) {
  GrpcHub hub;
  ASSERT_TRUE(hub.client().CreateJob(MethodJob("nightly", "m")).ok());
  ExpectError(hub.client().CreateJob(MethodJob("nightly", "m")).status(),
              ErrorCode::kJobAlreadyExists);

  ScriptedServer server;
  const std::unique_ptr<MusterClient> client = server.NewClient();
  ASSERT_TRUE(client->CreateJob(MethodJob("nightly", "m")).ok());
  ASSERT_TRUE(client->CreateJob(MethodJob("", "m")).ok());
  const std::vector<std::string> ids = server.request_ids();
  ASSERT_EQ(ids.size(), 4u);
  EXPECT_EQ(ids[0], "");
  EXPECT_EQ(ids[1].size(), 36u);
  EXPECT_EQ(ids[2].size(), 36u);
  EXPECT_EQ(ids[3], ids[2]);
}

TEST(GrpcJobServiceTest, AWatchEndsWithItsToken) {
  ScriptedServer server;
  ConnectOptions options;
  options.token = "t";
  int changes = 0;
  absl::StatusOr<v1::Job> job = server.NewClient(options)->WatchJob(
      "jobs/j", kLong, [&](const v1::Job&) { return ++changes < 100; });
  EXPECT_TRUE(absl::IsUnauthenticated(job.status())) << job.status();
  EXPECT_EQ(changes, 1);
  EXPECT_EQ(server.tokens(), std::vector<std::string>{"Bearer t"});
}

// Who is there and says nothing is not taken for one who is not there.
TEST(GrpcJobServiceTest, ACallThatTakesTooLong) {
  ConnectOptions options;
  options.timeout = absl::Milliseconds(300);
  {
    ScriptedServer server;
    absl::StatusOr<v1::Job> job = server.NewClient(options)->GetJob("jobs/j");
    EXPECT_TRUE(absl::IsDeadlineExceeded(job.status())) << job.status();
  }
  // The system accepts connections; nobody ever answers them.
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(listen(fd, 8), 0);
  ASSERT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
  options.address = absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
  auto client = MusterClient::Connect(options);
  ASSERT_TRUE(client.ok());
  const absl::Status status = (*client)->GetJob("jobs/j").status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_TRUE(absl::StartsWith(status.message(),
                               absl::StrCat("cannot reach ", options.address)))
      << status;
  close(fd);
}

// Also by an engine that has only read of the job in its journal.
TEST(GrpcJobServiceTest, ARequestThatIsRepeatedAfterARestart) {
  absl::StatusOr<std::unique_ptr<Journal>> journal = MakeMemoryJournal();
  ASSERT_TRUE(journal.ok());
  EngineOptions options;
  options.journal = journal->get();
  std::vector<v1::CreateJobRequest> requests = {
      MethodJob("m1", "m"),
      MethodJob("m2", "m", "tags.x = 1"),
      TwinJob("t1", R"( { "tags" : { "b" : 1.50, "a" : null, "c": 1.0 } } )"),
      TwinJob("t2", R"({"properties":{"desired":{"big":4503599627370495}}})"),
      TwinJob("t3", "{}"),
      TwinJob("t4", R"({"tags":{}})"),
      TwinJob("t5", R"({"tags":null})")};
  requests[0].mutable_job()->mutable_direct_method()->set_payload(
      " {\"a\" :  [1, 2.50] }\n");
  *requests[1].mutable_job()->mutable_start_time() =
      TimeUtil::NanosecondsToTimestamp(4'000'000'000'123'456'789);
  for (v1::CreateJobRequest& request : requests) {
    request.set_request_id(kUuid);
  }
  {
    GrpcHub hub({}, {}, options);
    for (const v1::CreateJobRequest& request : requests) {
      absl::StatusOr<v1::Job> job = hub.client().CreateJob(request);
      ASSERT_TRUE(job.ok()) << job.status();
      job = hub.client().CreateJob(request);
      EXPECT_TRUE(job.ok()) << job.status();
    }
  }
  GrpcHub hub({}, {}, options);
  for (v1::CreateJobRequest& request : requests) {
    absl::StatusOr<v1::Job> job = hub.client().CreateJob(request);
    EXPECT_TRUE(job.ok()) << request.job_id() << ": " << job.status();
    request.mutable_job()->set_weight(3);
    ExpectError(hub.client().CreateJob(request).status(),
                ErrorCode::kJobAlreadyExists);
  }
}

TEST(GrpcJobServiceTest, ValidateOnly) {
  GrpcHub hub;
  hub.AddDevice("d1", R"("tags":{"floor":3})");
  hub.AddDevice("d2", R"("tags":{"floor":4})");
  v1::CreateJobRequest request = MethodJob("dry", "m", "tags.floor = 3");
  request.set_validate_only(true);
  absl::StatusOr<v1::Job> job = hub.client().CreateJob(request);
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->name(), "jobs/dry");
  EXPECT_EQ(job->state(), v1::Job::STATE_QUEUED);
  EXPECT_EQ(Counts(*job), "1 / f0 s0 r0 p1");
  ExpectError(hub.client().GetJob("jobs/dry").status(),
              ErrorCode::kJobNotFound);
  request.mutable_job()->set_query_condition("tags.floor =");
  ExpectError(hub.client().CreateJob(request).status(),
              ErrorCode::kArgumentInvalid, "job.query_condition");
  ASSERT_TRUE(hub.client().CreateJob(MethodJob("there", "m")).ok());
  request = MethodJob("there", "other");
  request.set_validate_only(true);
  ExpectError(hub.client().CreateJob(request).status(),
              ErrorCode::kJobAlreadyExists);
}

TEST(GrpcJobServiceTest, ErrorsOfCreation) {
  GrpcHub hub;
  const auto error = [&](ErrorCode code, absl::string_view field, auto change) {
    v1::CreateJobRequest request = MethodJob("bad", "m");
    change(request, *request.mutable_job());
    for (const bool only : {false, true}) {
      request.set_validate_only(only);
      SCOPED_TRACE(request.ShortDebugString());
      ExpectError(hub.client().CreateJob(request).status(), code, field);
    }
  };
  constexpr ErrorCode kInvalid = ErrorCode::kArgumentInvalid;
  constexpr ErrorCode kNull = ErrorCode::kArgumentNull;
  error(kInvalid, "job_id", [](auto& r, auto&) { r.set_job_id("a_b"); });
  error(kInvalid, "job_id", [](auto& r, auto&) { r.set_job_id("query"); });
  error(kInvalid, "job_id",
        [](auto& r, auto&) { r.set_job_id(std::string(65, 'a')); });
  error(kInvalid, "request_id",
        [](auto& r, auto&) { r.set_request_id("not-a-uuid"); });
  error(kNull, "job.action",
        [](auto&, auto& job) { job.clear_direct_method(); });
  error(kNull, "job.query_condition",
        [](auto&, auto& job) { job.clear_query_condition(); });
  error(kInvalid, "job.query_condition",
        [](auto&, auto& job) { job.set_query_condition("tags.a = "); });
  error(kInvalid, "job.query_condition", [](auto&, auto& job) {
    job.set_query_condition(std::string(8193, ' '));
  });
  error(kInvalid, "job.direct_method.method_name", [](auto&, auto& job) {
    job.mutable_direct_method()->set_method_name("bad name");
  });
  error(kInvalid, "job.direct_method.method_name", [](auto&, auto& job) {
    job.mutable_direct_method()->clear_method_name();
  });
  error(kInvalid, "job.direct_method.method_name", [](auto&, auto& job) {
    job.mutable_direct_method()->set_method_name(std::string(101, 'm'));
  });
  error(kInvalid, "job.direct_method.payload", [](auto&, auto& job) {
    job.mutable_direct_method()->set_payload("{");
  });
  error(kInvalid, "job.direct_method.payload", [](auto&, auto& job) {
    job.mutable_direct_method()->set_payload("\"\xff\"");
  });
  error(ErrorCode::kMessageTooLarge, "job.direct_method.payload",
        [](auto&, auto& job) {
          job.mutable_direct_method()->set_payload(
              absl::StrCat("\"", std::string(128 * 1024, 'x'), "\""));
        });
  const auto seconds = [](auto* duration, int64_t value, int nanos = 0) {
    duration->set_seconds(value);
    duration->set_nanos(nanos);
  };
  for (const int64_t value :
       {int64_t{-1}, int64_t{0}, int64_t{4}, int64_t{301}, int64_t{1} << 40}) {
    error(kInvalid, "job.direct_method.response_timeout",
          [&](auto&, auto& job) {
            seconds(job.mutable_direct_method()->mutable_response_timeout(),
                    value);
          });
  }
  error(kInvalid, "job.direct_method.response_timeout", [&](auto&, auto& job) {
    seconds(job.mutable_direct_method()->mutable_response_timeout(), 5, 1);
  });
  error(kInvalid, "job.direct_method.connect_timeout", [&](auto&, auto& job) {
    seconds(job.mutable_direct_method()->mutable_connect_timeout(), 301);
  });
  error(kInvalid, "job.max_execution_time", [&](auto&, auto& job) {
    seconds(job.mutable_max_execution_time(), 0);
  });
  error(kInvalid, "job.max_execution_time", [&](auto&, auto& job) {
    seconds(job.mutable_max_execution_time(), 1, 500);
  });
  error(kInvalid, "job.max_execution_time", [&](auto&, auto& job) {
    seconds(job.mutable_max_execution_time(), 315'576'000'001);
  });
  error(kInvalid, "job.start_time",
        [](auto&, auto& job) { job.mutable_start_time()->set_nanos(-1); });
  error(kInvalid, "job.start_time", [](auto&, auto& job) {
    job.mutable_start_time()->set_seconds(int64_t{1} << 50);
  });
  error(kInvalid, "job.priority", [](auto&, auto& job) {
    job.set_priority(static_cast<v1::Job::Priority>(17));
  });
  error(kInvalid, "job.weight", [](auto&, auto& job) { job.set_weight(1001); });
  error(kInvalid, "job.weight", [](auto&, auto& job) { job.set_weight(-1); });
  constexpr char kPatch[] = "job.twin_update.merge_patch";
  const auto patch = [](std::string text) {
    return [text](auto&, auto& job) {
      job.mutable_twin_update()->set_merge_patch(text);
    };
  };
  error(kNull, kPatch, patch(""));
  error(ErrorCode::kIotHubFormatError, kPatch, patch("{"));
  error(ErrorCode::kIotHubFormatError, kPatch, patch("{\"a\":1,\"a\":2}"));
  error(kInvalid, kPatch, patch("[1]"));
  error(kInvalid, kPatch, patch("{\"desired\":{}}"));
  error(kInvalid, kPatch, patch("{\"tags\":{\"a.b\":1}}"));
  error(ErrorCode::kPreconditionFailed, kPatch, patch("{\"etag\":\"x\"}"));
  error(ErrorCode::kMessageTooLarge, kPatch,
        patch(absl::StrCat(R"({"tags":{"a":")", std::string(3000, 'x'),
                           R"(","b":")", std::string(3000, 'x'), R"(","c":")",
                           std::string(3000, 'x'), R"("}})")));

  // A parse error says where, also to a program.
  const absl::Status status =
      hub.client().CreateJob(MethodJob("bad", "m", "tags.a == 1")).status();
  const std::optional<ParseError> parse = ParseErrorOf(status);
  ASSERT_TRUE(parse.has_value()) << status;
  EXPECT_EQ(parse->position.column, 8);
}

TEST(GrpcJobServiceTest, LimitsOfTheEngine) {
  EngineOptions options;
  options.profile.active_jobs_max = 1;
  options.jobs_retained_max = 2;
  GrpcHub hub({}, {}, options);
  hub.AddDevice("d1");
  hub.devices().SetHandler(
      "m", [](const LoopbackCall&) { return LoopbackReply::Never(); });
  ASSERT_TRUE(hub.client().CreateJob(MethodJob("a", "m")).ok());
  const absl::Status active =
      hub.client().CreateJob(MethodJob("b", "m")).status();
  ExpectError(active, ErrorCode::kThrottlingMaxActiveJobCountExceeded);
  EXPECT_TRUE(RetryDelayOf(active).has_value());
  v1::CreateJobRequest later = MethodJob("b", "m");
  *later.mutable_job()->mutable_start_time() =
      TimeUtil::SecondsToTimestamp(4'000'000'000);
  ASSERT_TRUE(hub.client().CreateJob(later).ok());
  later.set_job_id("c");
  ExpectError(hub.client().CreateJob(later).status(),
              ErrorCode::kThrottlingException);

  EngineOptions basic;
  basic.profile.jobs_available = false;
  GrpcHub without({}, {}, basic);
  ExpectError(without.client().CreateJob(MethodJob("a", "m")).status(),
              ErrorCode::kOperationNotAvailableInCurrentTier);
}

TEST(GrpcJobServiceTest, AfterTheEngineHasStopped) {
  GrpcHub hub;
  ASSERT_TRUE(hub.client().CreateJob(MethodJob("a", "m")).ok());
  hub.engine().Stop();
  // Past the client's library, which would try again for half a minute.
  grpc::ClientContext context;
  v1::Job job;
  const absl::Status status = FromGrpcStatus(
      hub.Jobs()->CreateJob(&context, MethodJob("b", "m"), &job));
  ExpectError(status, ErrorCode::kServiceUnavailable);
  EXPECT_TRUE(RetryDelayOf(status).has_value());
  EXPECT_TRUE(hub.client().GetJob("jobs/a").ok());
}

// ----------------------------------------------------------- get, list, cancel

TEST(GrpcJobServiceTest, NamesThatAreNone) {
  GrpcHub hub;
  constexpr ErrorCode kInvalid = ErrorCode::kArgumentInvalid;
  for (const char* name : {"", "a", "jobs", "jobs/", "jobs/a/b", "/jobs/a",
                           "twins/a", "jobs/a/executions"}) {
    SCOPED_TRACE(name);
    ExpectError(hub.client().GetJob(name).status(), kInvalid, "name");
    ExpectError(hub.client().CancelJob(name, false).status(), kInvalid, "name");
    ExpectError(hub.client().GetExecution(name).status(), kInvalid, "name");
    ExpectError(hub.client()
                    .WatchJob(name, kLong, [](const v1::Job&) { return true; })
                    .status(),
                kInvalid, "name");
    v1::ListExecutionsRequest request;
    request.set_parent(name);
    ExpectError(hub.client().ListExecutions(request).status(), kInvalid,
                "parent");
  }
  constexpr ErrorCode kMissing = ErrorCode::kJobNotFound;
  ExpectError(hub.client().GetJob("jobs/none").status(), kMissing);
  ExpectError(hub.client().CancelJob("jobs/none", true).status(), kMissing);
  ExpectError(hub.client().GetExecution("jobs/none/executions/d").status(),
              kMissing);
  ExpectError(
      hub.client()
          .WatchJob("jobs/none", kLong, [](const v1::Job&) { return true; })
          .status(),
      kMissing);
  v1::ListExecutionsRequest request;
  request.set_parent("jobs/none");
  ExpectError(hub.client().ListExecutions(request).status(), kMissing);
}

TEST(GrpcJobServiceTest, PagesOfJobs) {
  GrpcHub hub;
  for (int i = 0; i < 7; ++i) {
    v1::CreateJobRequest request = i % 2 == 0
                                       ? MethodJob(absl::StrCat("j", i), "m")
                                       : TwinJob(absl::StrCat("j", i), "{}");
    *request.mutable_job()->mutable_start_time() =
        TimeUtil::SecondsToTimestamp(4'000'000'000);
    ASSERT_TRUE(hub.client().CreateJob(request).ok());
  }
  ASSERT_TRUE(hub.client().CancelJob("jobs/j0", false).ok());
  const auto list = [&](v1::ListJobsRequest request) {
    std::string names;
    int pages = 0;
    do {
      absl::StatusOr<v1::ListJobsResponse> page =
          hub.client().ListJobs(request);
      EXPECT_TRUE(page.ok()) << page.status();
      if (!page.ok()) break;
      for (const v1::Job& job : page->jobs()) {
        absl::StrAppend(&names, job.name(), " ");
      }
      request.set_page_token(page->next_page_token());
      ++pages;
    } while (!request.page_token().empty());
    return absl::StrCat(names, "on ", pages);
  };
  v1::ListJobsRequest request;
  EXPECT_EQ(list(request),
            "jobs/j6 jobs/j5 jobs/j4 jobs/j3 jobs/j2 jobs/j1 jobs/j0 on 1");
  request.set_page_size(3);
  EXPECT_EQ(list(request),
            "jobs/j6 jobs/j5 jobs/j4 jobs/j3 jobs/j2 jobs/j1 jobs/j0 on 3");
  request.set_page_size(5000);
  request.set_type(v1::Job::TYPE_TWIN_UPDATE);
  EXPECT_EQ(list(request), "jobs/j5 jobs/j3 jobs/j1 on 1");
  request.clear_type();
  request.set_state(v1::Job::STATE_CANCELLED);
  EXPECT_EQ(list(request), "jobs/j0 on 1");

  request.Clear();
  request.set_page_size(-1);
  ExpectError(hub.client().ListJobs(request).status(),
              ErrorCode::kArgumentInvalid, "page_size");
  request.set_page_size(1);
  request.set_page_token("no token");
  ExpectError(hub.client().ListJobs(request).status(),
              ErrorCode::kArgumentInvalid, "page_token");
  request.clear_page_token();
  absl::StatusOr<v1::ListJobsResponse> page = hub.client().ListJobs(request);
  ASSERT_TRUE(page.ok());
  request.set_page_token(page->next_page_token());
  request.set_type(v1::Job::TYPE_TWIN_UPDATE);  // Another list.
  ExpectError(hub.client().ListJobs(request).status(),
              ErrorCode::kArgumentInvalid, "page_token");
  request.Clear();
  request.set_state(static_cast<v1::Job::State>(99));
  ExpectError(hub.client().ListJobs(request).status(),
              ErrorCode::kArgumentInvalid, "state");
  request.Clear();
  request.set_type(static_cast<v1::Job::Type>(99));
  ExpectError(hub.client().ListJobs(request).status(),
              ErrorCode::kArgumentInvalid, "type");
}

TEST(GrpcJobServiceTest, Cancel) {
  GrpcHub hub;
  hub.AddDevice("d1");
  hub.devices().SetHandler(
      "m", [](const LoopbackCall&) { return LoopbackReply::Never(); });
  v1::CreateJobRequest later = MethodJob("later", "m");
  *later.mutable_job()->mutable_start_time() =
      TimeUtil::SecondsToTimestamp(4'000'000'000);
  ASSERT_TRUE(hub.client().CreateJob(later).ok());
  for (int i = 0; i < 2; ++i) {
    absl::StatusOr<v1::Job> cancelled =
        hub.client().CancelJob("jobs/later", false);
    ASSERT_TRUE(cancelled.ok()) << cancelled.status();
    EXPECT_EQ(cancelled->state(), v1::Job::STATE_CANCELLED);
  }
  ASSERT_TRUE(hub.client().CreateJob(MethodJob("runs", "m")).ok());
  absl::StatusOr<v1::Job> running = hub.client().WatchJob(
      "jobs/runs", kLong,
      [](const v1::Job& job) { return job.statistics().running_count() != 1; });
  ASSERT_TRUE(running.ok()) << running.status();
  ExpectError(hub.client().CancelJob("jobs/runs", false).status(),
              ErrorCode::kOperationNotAllowedInCurrentState);
  absl::StatusOr<v1::Job> cancelled = hub.client().CancelJob("jobs/runs", true);
  EXPECT_TRUE(cancelled.ok()) << cancelled.status();
}

// ------------------------------------------------------------------ executions

TEST(GrpcJobServiceTest, Executions) {
  GrpcHub hub;
  for (int i = 0; i < 25; ++i) hub.AddDevice(absl::StrCat("d", i));
  hub.devices().SetHandler("m", [](const LoopbackCall& call) {
    LoopbackReply reply;
    if (call.device_id == "d7") reply.code = OutcomeCode::kBadResponse;
    return reply;
  });
  for (const char* id : {"a", "b"}) {
    ASSERT_TRUE(hub.client().CreateJob(MethodJob(id, "m")).ok());
    Finish(hub.client(), absl::StrCat("jobs/", id));
  }
  v1::ListExecutionsRequest request;
  request.set_parent("jobs/a");
  request.set_page_size(10);
  std::set<std::string> names;
  int pages = 0;
  do {
    absl::StatusOr<v1::ListExecutionsResponse> page =
        hub.client().ListExecutions(request);
    ASSERT_TRUE(page.ok()) << page.status();
    for (const v1::Execution& execution : page->executions()) {
      EXPECT_TRUE(names.insert(execution.name()).second);
      EXPECT_TRUE(absl::StartsWith(execution.name(), "jobs/a/executions/d"));
    }
    request.set_page_token(page->next_page_token());
    ++pages;
  } while (!request.page_token().empty());
  EXPECT_EQ(names.size(), 25);
  EXPECT_EQ(pages, 3);

  request.set_page_token("x");
  ExpectError(hub.client().ListExecutions(request).status(),
              ErrorCode::kArgumentInvalid, "page_token");

  // What failed, and why.
  request.Clear();
  request.set_parent("jobs/a");
  request.set_state(v1::Execution::STATE_FAILED);
  absl::StatusOr<v1::ListExecutionsResponse> failed =
      hub.client().ListExecutions(request);
  ASSERT_TRUE(failed.ok());
  ASSERT_EQ(failed->executions_size(), 1);
  EXPECT_EQ(failed->executions(0).twin(), "twins/d7");
  const absl::Status why = FromRpcStatus(failed->executions(0).error());
  EXPECT_EQ(ErrorCodeOf(why), ErrorCode::kInvalidResponseWhileProxying) << why;

  // Of one device, in all jobs.
  request.Clear();
  request.set_parent("jobs/-");
  request.set_twin("twins/d7");
  absl::StatusOr<v1::ListExecutionsResponse> of_device =
      hub.client().ListExecutions(request);
  ASSERT_TRUE(of_device.ok()) << of_device.status();
  ASSERT_EQ(of_device->executions_size(), 2);
  EXPECT_EQ(of_device->executions(0).name(), "jobs/b/executions/d7");
  EXPECT_EQ(of_device->executions(1).name(), "jobs/a/executions/d7");

  request.clear_twin();
  ExpectError(hub.client().ListExecutions(request).status(),
              ErrorCode::kArgumentInvalid, "twin");
  request.set_twin("d7");
  ExpectError(hub.client().ListExecutions(request).status(),
              ErrorCode::kArgumentInvalid, "twin");
  request.set_twin("twins/d7");
  request.set_page_size(-5);
  ExpectError(hub.client().ListExecutions(request).status(),
              ErrorCode::kArgumentInvalid, "page_size");
  request.set_page_size(0);
  request.set_state(static_cast<v1::Execution::State>(9));
  ExpectError(hub.client().ListExecutions(request).status(),
              ErrorCode::kArgumentInvalid, "state");

  ExpectError(hub.client().GetExecution("jobs/a/executions/none").status(),
              ErrorCode::kDeviceNotFound);
}

TEST(GrpcJobServiceTest, PreviewOfTargets) {
  GrpcHub hub;
  for (int i = 0; i < 10; ++i) {
    hub.AddDevice(absl::StrCat("d", i),
                  absl::StrCat(R"("tags":{"n":)", i, "}"));
  }
  hub.devices().SetConnected("d2", false);
  v1::PreviewTargetsRequest request;
  request.set_query_condition("tags.n < 5");
  request.set_sample_size(3);
  absl::StatusOr<v1::PreviewTargetsResponse> preview =
      hub.client().PreviewTargets(request);
  ASSERT_TRUE(preview.ok()) << preview.status();
  EXPECT_EQ(preview->device_count(), 5);
  EXPECT_EQ(preview->connected_count(), 4);
  EXPECT_EQ(absl::StrJoin(preview->sample(), " "),
            "twins/d0 twins/d1 twins/d2");
  request.set_query_condition("*");
  request.set_sample_size(1000);
  preview = hub.client().PreviewTargets(request);
  ASSERT_TRUE(preview.ok()) << preview.status();
  EXPECT_EQ(preview->device_count(), 10);
  EXPECT_EQ(preview->sample_size(), 10);
  request.set_sample_size(0);
  preview = hub.client().PreviewTargets(request);
  ASSERT_TRUE(preview.ok()) << preview.status();
  EXPECT_EQ(preview->sample_size(), 0);

  request.set_sample_size(1001);
  ExpectError(hub.client().PreviewTargets(request).status(),
              ErrorCode::kArgumentInvalid, "sample_size");
  request.set_sample_size(-1);
  ExpectError(hub.client().PreviewTargets(request).status(),
              ErrorCode::kArgumentInvalid, "sample_size");
  request.set_sample_size(1);
  request.set_query_condition("tags.n <");
  ExpectError(hub.client().PreviewTargets(request).status(),
              ErrorCode::kArgumentInvalid, "query_condition");
  request.clear_query_condition();
  ExpectError(hub.client().PreviewTargets(request).status(),
              ErrorCode::kArgumentNull, "query_condition");
  // Longer than a statement around it may be.
  request.set_query_condition(
      absl::StrCat("tags.n < 5 OR tags.x = '", std::string(8150, 'x'), "'"));
  ExpectError(hub.client().PreviewTargets(request).status(),
              ErrorCode::kArgumentInvalid, "sample_size");
}

// ----------------------------------------------------------------------- watch

// States never go back, revisions ascend, and the last one is the end.
TEST(GrpcJobServiceTest, AWatchAscends) {
  GrpcHub hub;
  for (int i = 0; i < 200; ++i) hub.AddDevice(absl::StrCat("d", i));
  hub.devices().SetHandler("m", [](const LoopbackCall&) {
    return LoopbackReply{.delay = absl::Milliseconds(20)};
  });
  ASSERT_TRUE(hub.client().CreateJob(MethodJob("job", "m")).ok());
  grpc::ClientContext context;
  v1::WatchJobRequest request;
  request.set_name("jobs/job");
  const auto jobs = hub.Jobs();
  const auto reader = jobs->WatchJob(&context, request);
  v1::WatchJobResponse response;
  int64_t revision = 0;
  int64_t done = 0;
  int state = 0;
  while (reader->Read(&response)) {
    EXPECT_GT(response.revision(), revision);
    revision = response.revision();
    const v1::Job::Statistics& s = response.job().statistics();
    EXPECT_GE(s.succeeded_count() + s.failed_count(), done);
    done = s.succeeded_count() + s.failed_count();
    EXPECT_EQ(s.device_count(), done + s.running_count() + s.pending_count());
    EXPECT_GE(response.job().state(), state);
    state = response.job().state();
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(state, v1::Job::STATE_COMPLETED);
  EXPECT_EQ(done, 200);

  // From the last revision on there is nothing to be said.
  grpc::ClientContext again;
  request.set_revision(revision);
  const auto rest = jobs->WatchJob(&again, request);
  EXPECT_FALSE(rest->Read(&response));
  EXPECT_TRUE(rest->Finish().ok());
  // From one before it the end.
  grpc::ClientContext before;
  request.set_revision(revision - 1);
  const auto last = jobs->WatchJob(&before, request);
  EXPECT_TRUE(last->Read(&response));
  EXPECT_EQ(response.revision(), revision);
  EXPECT_FALSE(last->Read(&response));
  EXPECT_TRUE(last->Finish().ok());

  grpc::ClientContext negative;
  request.set_revision(-1);
  ExpectError(FromGrpcStatus(jobs->WatchJob(&negative, request)->Finish()),
              ErrorCode::kArgumentInvalid, "revision");
}

// A watch ends when its caller cancels it, and nothing is left of it.
TEST(GrpcJobServiceTest, AWatchThatIsCancelled) {
  GrpcHub hub;
  v1::CreateJobRequest later = MethodJob("later", "m");
  *later.mutable_job()->mutable_start_time() =
      TimeUtil::SecondsToTimestamp(4'000'000'000);
  ASSERT_TRUE(hub.client().CreateJob(later).ok());
  v1::WatchJobRequest request;
  request.set_name("jobs/later");
  const auto jobs = hub.Jobs();
  for (int i = 0; i < 20; ++i) {
    grpc::ClientContext context;
    const auto reader = jobs->WatchJob(&context, request);
    v1::WatchJobResponse response;
    if (i % 2 == 0) {
      EXPECT_TRUE(reader->Read(&response));
    }
    context.TryCancel();
    EXPECT_EQ(reader->Finish().error_code(), grpc::CANCELLED);
  }
  // By its deadline, too.
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::milliseconds(50));
  const auto reader = jobs->WatchJob(&context, request);
  EXPECT_EQ(reader->Finish().error_code(), grpc::DEADLINE_EXCEEDED);
  const absl::Status status =
      hub.client()
          .WatchJob("jobs/later", absl::Milliseconds(50),
                    [](const v1::Job&) { return true; })
          .status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
}

// A watch through the client goes on where it was when the server comes back.
TEST(GrpcJobServiceTest, AWatchOutlivesTheServer) {
  GrpcHub hub;
  for (int i = 0; i < 10; ++i) hub.AddDevice(absl::StrCat("d", i));
  hub.devices().SetHandler("m",
                           [](const LoopbackCall&) { return LoopbackReply{}; });
  hub.devices().SetConnected("d0", false);
  ASSERT_TRUE(hub.client().CreateJob(MethodJob("job", "m")).ok());
  absl::Notification nine;
  std::vector<int64_t> seen;
  absl::StatusOr<v1::Job> end;
  std::thread watcher([&] {
    end = hub.client().WatchJob("jobs/job", kLong, [&](const v1::Job& job) {
      seen.push_back(job.statistics().succeeded_count());
      if (seen.back() == 9 && !nine.HasBeenNotified()) nine.Notify();
      return true;
    });
  });
  nine.WaitForNotification();
  hub.StopServer();
  hub.StartServer();
  hub.devices().SetConnected("d0", true);
  watcher.join();
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(Counts(*end), "10 / f0 s10 r0 p0");
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
  EXPECT_EQ(std::count(seen.begin(), seen.end(), 10), 1);
}

// Everything but the end is optional to a caller that stops earlier.
TEST(GrpcJobServiceTest, AWatchThatHasSeenEnough) {
  GrpcHub hub;
  v1::CreateJobRequest later = MethodJob("later", "m");
  *later.mutable_job()->mutable_start_time() =
      TimeUtil::SecondsToTimestamp(4'000'000'000);
  ASSERT_TRUE(hub.client().CreateJob(later).ok());
  int calls = 0;
  absl::StatusOr<v1::Job> job =
      hub.client().WatchJob("jobs/later", kLong, [&](const v1::Job&) {
        ++calls;
        return false;
      });
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(calls, 1);
}

// Cancel() ends what waits, from another thread.
TEST(GrpcJobServiceTest, TheClientCanBeToldToStop) {
  GrpcHub hub;
  v1::CreateJobRequest later = MethodJob("later", "m");
  *later.mutable_job()->mutable_start_time() =
      TimeUtil::SecondsToTimestamp(4'000'000'000);
  ASSERT_TRUE(hub.client().CreateJob(later).ok());
  const std::unique_ptr<MusterClient> client = hub.NewClient();
  absl::Notification watching;
  absl::Status status;
  std::thread watcher([&] {
    status = client
                 ->WatchJob("jobs/later", kLong,
                            [&](const v1::Job&) {
                              watching.Notify();
                              return true;
                            })
                 .status();
  });
  watching.WaitForNotification();
  client->Cancel();
  watcher.join();
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
  EXPECT_TRUE(absl::IsCancelled(client->GetJob("jobs/later").status()));
}

}  // namespace
}  // namespace muster
