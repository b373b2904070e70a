// The gateway library against an engine's side that is played by the test, over
// real sockets.
#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "gtest/gtest.h"
#include "muster/v1/gateway_service.grpc.pb.h"
#include "tests/gateway/engine_end.h"
#include "transport/auth/access.h"
#include "transport/grpc/channel.h"
#include "transport/grpc/gateway/gateway.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;
using v1::AttachRequest;
using v1::AttachResponse;

// A server whose streams the test plays.
class FakeEngine : public v1::GatewayService::Service {
 public:
  // A stream that has been dialled.
  class Stream : public EngineEnd {
   public:
    using Wire = grpc::ServerReaderWriter<AttachResponse, AttachRequest>;
    Stream(Wire* wire, grpc::ServerContext* context)
        : EngineEnd([wire](AttachRequest* frame) { return wire->Read(frame); },
                    [wire](const AttachResponse& frame) {
                      return wire->Write(frame);
                    }),
          context_(context) {}
    void End(const grpc::Status& status) {
      absl::MutexLock lock(&mutex_);
      if (ended_) return;
      ended_ = true;
      status_ = status;
    }
    grpc::Status AwaitEnd() {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&ended_));
      return status_;
    }
    grpc::ServerContext* context() { return context_; }

   private:
    grpc::ServerContext* const context_;
    absl::Mutex mutex_;
    bool ended_ ABSL_GUARDED_BY(mutex_) = false;
    grpc::Status status_ ABSL_GUARDED_BY(mutex_);
  };

  explicit FakeEngine(int port = 0) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort(absl::StrCat("127.0.0.1:", port),
                             grpc::InsecureServerCredentials(), &port_);
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~FakeEngine() override { Stop(); }

  void Stop() {
    {
      absl::MutexLock lock(&mutex_);
      stopped_ = true;
      for (auto& stream : waiting_) stream->End(grpc::Status::CANCELLED);
      waiting_.clear();
    }
    if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now());
  }

  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }
  int port() const { return port_; }

  // The next stream that is dialled; ends with what is returned.
  std::shared_ptr<Stream> Accept() {
    absl::MutexLock lock(&mutex_);
    const auto there = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
      return !waiting_.empty();
    };
    if (!mutex_.AwaitWithTimeout(absl::Condition(&there), kPatience)) {
      ADD_FAILURE() << "nobody dials";
      return nullptr;
    }
    const auto stream = waiting_.front();
    waiting_.pop_front();
    return {stream.get(), [stream](Stream* s) { s->End(grpc::Status::OK); }};
  }

  grpc::Status Attach(grpc::ServerContext* context,
                      Stream::Wire* wire) override {
    const auto stream = std::make_shared<Stream>(wire, context);
    {
      absl::MutexLock lock(&mutex_);
      if (stopped_) return grpc::Status::CANCELLED;
      waiting_.push_back(stream);
    }
    return stream->AwaitEnd();
  }

 private:
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
  absl::Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<std::shared_ptr<Stream>> waiting_ ABSL_GUARDED_BY(mutex_);
};

class GatewayLibraryTest : public testing::Test {
 protected:
  void TearDown() override {
    if (gateway_ != nullptr) {
      gateway_->Stop();
      recorder_.Close();
      gateway_ = nullptr;
    }
  }

  void Connect(const GatewayOptions& options = Quick()) {
    auto gateway =
        Gateway::Connect({.address = engine_.address()}, options, &recorder_);
    ASSERT_TRUE(gateway.ok()) << gateway.status();
    gateway_ = *std::move(gateway);
  }

  // Devices with tokens from `first` on, called "dev-<token>".
  void Add(uint32_t first, uint32_t count) {
    std::vector<std::string> ids;
    std::vector<GatewayDevice> devices;
    for (uint32_t i = 0; i < count; ++i) ids.push_back(IdOf(first + i));
    for (uint32_t i = 0; i < count; ++i) {
      devices.push_back({.token = first + i, .id = ids[i]});
    }
    ASSERT_EQ(gateway_->AddDevices(devices), absl::OkStatus());
  }
  static std::string IdOf(uint32_t token) {
    return absl::StrCat("dev-", token);
  }

  // A gateway with devices 100, 101 ... that have the handles 1, 2 ...
  std::shared_ptr<FakeEngine::Stream> Attached(
      uint32_t count, const GatewayOptions& options = Quick()) {
    Connect(options);
    Add(100, count);
    auto stream = engine_.Accept();
    stream->Handshake();
    EXPECT_EQ(stream->TakeConnect(1).size(), count);
    EXPECT_TRUE(recorder_.AwaitAttached(count));
    return stream;
  }

  FakeEngine engine_;
  Recorder recorder_;
  std::unique_ptr<Gateway> gateway_;
};

// ------------------------------------------------------------------ options

TEST_F(GatewayLibraryTest, OptionsOutOfRangeAreNamed) {
  const auto fails = [&](const GatewayOptions& options) {
    return std::string(
        Gateway::Connect({.address = "127.0.0.1:1"}, options, &recorder_)
            .status()
            .message());
  };
  GatewayOptions options = Quick();
  options.name = "";
  EXPECT_THAT(fails(options), HasSubstr("GatewayOptions::name"));
  options = Quick();
  options.work_credit = 0;
  EXPECT_THAT(fails(options), HasSubstr("GatewayOptions::work_credit"));
  options.work_credit = 1'048'577;
  EXPECT_THAT(fails(options), HasSubstr("1048577"));
  options = Quick();
  options.devices_max = 0;
  EXPECT_THAT(fails(options), HasSubstr("GatewayOptions::devices_max"));
  options = Quick();
  options.answer_bytes_max = 1000;
  EXPECT_THAT(fails(options), HasSubstr("GatewayOptions::answer_bytes_max"));
  options = Quick();
  options.reconnect_min = absl::ZeroDuration();
  EXPECT_THAT(fails(options), HasSubstr("GatewayOptions::reconnect_min"));
  options = Quick();
  options.refused_retry_max = absl::Milliseconds(1);
  EXPECT_THAT(fails(options), HasSubstr("GatewayOptions::refused_retry_max"));
  EXPECT_EQ(
      Gateway::Connect({.address = ""}, Quick(), &recorder_).status().code(),
      absl::StatusCode::kInvalidArgument);
}

TEST_F(GatewayLibraryTest, DevicesAreTakenAllOrNone) {
  GatewayOptions options = Quick();
  options.devices_max = 3;
  Connect(options);
  const std::string long_id(129, 'x');
  EXPECT_EQ(gateway_->AddDevices({{1, "a"}, {2, ""}}).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(gateway_->AddDevices({{1, "a"}, {2, long_id}}).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(gateway_->AddDevices({{1, "a"}, {1, "b"}}).code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(gateway_->Stats().devices, 0);
  EXPECT_EQ(gateway_->AddDevices({{1, "a"}, {2, "b"}}), absl::OkStatus());
  EXPECT_EQ(gateway_->AddDevices({{3, "c"}, {4, "d"}}).code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(gateway_->AddDevices({{2, "c"}}).code(),
            absl::StatusCode::kAlreadyExists);
  gateway_->RemoveDevices({2, 77});
  EXPECT_EQ(gateway_->AddDevices({{2, "c"}, {3, "d"}}), absl::OkStatus());
  EXPECT_EQ(gateway_->Stats().devices, 3);
}

// ------------------------------------------------------------- calls, answers

TEST_F(GatewayLibraryTest, CallsArriveByTokenAndAnswersByPosition) {
  const auto stream = Attached(5);
  EXPECT_EQ(stream->hello.gateway(), "test-gateway");
  EXPECT_EQ(stream->hello.work_credit(), 65'536u);
  EXPECT_THAT(recorder_.Copy(recorder_.attached_),
              ElementsAre(100, 101, 102, 103, 104));
  stream->Call(7, {5, 1, 3}, 12'000);
  ASSERT_TRUE(recorder_.AwaitCalls(1));
  const Recorder::Call call = recorder_.call(0);
  EXPECT_EQ(call.method, "reboot");
  EXPECT_EQ(call.payload, "{\"in\":5}");
  EXPECT_EQ(call.timeout, absl::Seconds(12));
  EXPECT_THAT(call.devices, ElementsAre(104, 100, 102));
  EXPECT_EQ(gateway_->Stats().in_flight, 3);

  EXPECT_EQ(gateway_->Answer(call.range, 2, {.status = 200, .payload = "[1]"}),
            absl::OkStatus());
  EXPECT_EQ(gateway_->AnswerAll(call.range, {.status = 404}), absl::OkStatus());
  stream->ReadUntil([&] { return stream->results.size() == 3; });
  EXPECT_EQ((stream->results[{7, 0}]), Answered(404));
  EXPECT_EQ((stream->results[{7, 1}]), Answered(404));
  EXPECT_EQ((stream->results[{7, 2}]), Answered(200, "[1]"));
  EXPECT_EQ(gateway_->Stats().in_flight, 0);
  EXPECT_EQ(gateway_->Stats().answers, 3);
}

TEST_F(GatewayLibraryTest, ASecondAnswerIsPassedOverAndCounted) {
  const auto stream = Attached(3);
  stream->Call(1, {1, 2, 3});
  ASSERT_TRUE(recorder_.AwaitCalls(1));
  const GatewayRange range = recorder_.call(0).range;
  EXPECT_EQ(gateway_->Answer(range, {1, 1}, {{{.status = 1}, {.status = 2}}}),
            absl::OkStatus());
  EXPECT_EQ(gateway_->Stats().unwanted, 1);
  EXPECT_EQ(gateway_->Answer(range, 3, {}).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(gateway_->Answer(range, {0, 2}, {}).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(gateway_->AnswerAll(range, {.status = 3}), absl::OkStatus());
  EXPECT_EQ(gateway_->AnswerAll(range, {.status = 4}), absl::OkStatus());
  EXPECT_EQ(gateway_->Stats().unwanted, 1 + 3);
  stream->ReadUntil([&] { return stream->results.size() == 3; });
  EXPECT_EQ((stream->results[{1, 1}]), Answered(1));
  EXPECT_EQ((stream->results[{1, 0}]), Answered(3));
}

TEST_F(GatewayLibraryTest, EveryCodeAndEveryShapeOfPayloadArrives) {
  constexpr uint32_t kCalls = 600;
  const auto stream = Attached(kCalls);
  std::vector<uint32_t> handles;
  for (uint32_t i = 0; i < kCalls; ++i) handles.push_back(i + 1);
  stream->Call(1, handles);
  ASSERT_TRUE(recorder_.AwaitCalls(1));
  const GatewayRange range = recorder_.call(0).range;
  const std::string too_large(128 * 1024 + 1, ' '), large(128 * 1024, '1');
  std::vector<Result> expected;
  for (uint32_t i = 0; i < kCalls; ++i) {
    GatewayAnswer answer;
    std::string payload;
    switch (i % 7) {
      case 0:
      case 1:
        payload = "{\"same\":true}";
        break;
      case 2:
        payload = absl::StrCat(i);
        break;
      case 3:
        answer.code = static_cast<OutcomeCode>(i % 10);
        break;
      case 4:
        if (i % 140 == 4) payload = large;
        break;
      case 5:
        if (i % 140 == 5) payload = too_large;
        break;
    }
    answer.status = static_cast<int32_t>(i / 50) - 3;
    answer.payload = payload;
    const bool answered = answer.code == OutcomeCode::kAnswered;
    const bool fits = payload.size() <= large.size();
    expected.push_back(
        {fits ? static_cast<v1::OutcomeCode>(static_cast<int>(answer.code) + 1)
              : v1::OUTCOME_CODE_RESPONSE_TOO_LARGE,
         answered && fits ? answer.status : 0,
         answered && fits ? payload : ""});
    ASSERT_EQ(gateway_->Answer(range, i, answer), absl::OkStatus());
  }
  stream->ReadUntil([&] { return stream->results.size() == kCalls; });
  for (uint32_t i = 0; i < kCalls; ++i) {
    ASSERT_EQ((stream->results[{1, i}]), expected[i]) << i;
  }
}

TEST_F(GatewayLibraryTest, WhatIsNotAnsweredInTimeIsATimeout) {
  const auto stream = Attached(4);
  stream->Call(9, {1, 2, 3, 4}, /*timeout_ms=*/20);
  ASSERT_TRUE(recorder_.AwaitCalls(1));
  const GatewayRange range = recorder_.call(0).range;
  EXPECT_EQ(gateway_->Answer(range, 2, {.status = 200}), absl::OkStatus());
  stream->ReadUntil([&] { return stream->results.size() == 4; });
  EXPECT_EQ((stream->results[{9, 1}].code), v1::OUTCOME_CODE_TIMEOUT);
  EXPECT_EQ((stream->results[{9, 3}].code), v1::OUTCOME_CODE_TIMEOUT);
  const GatewayStats stats = gateway_->Stats();
  EXPECT_EQ(stats.in_flight, 0);
  EXPECT_EQ(stats.answers + stats.timeouts, 4);
  // Too late.
  EXPECT_EQ(gateway_->Answer(range, 1, {.status = 200}), absl::OkStatus());
  EXPECT_GE(gateway_->Stats().unwanted, 1);
}

TEST_F(GatewayLibraryTest, WhatIsBeyondTheCreditIsBusy) {
  GatewayOptions options = Quick();
  options.work_credit = 3;
  const auto stream = Attached(3, options);
  stream->Call(1, {1, 2});
  stream->Call(2, {1, 2});
  stream->Call(3, {3});
  stream->ReadUntil([&] { return stream->results.size() == 2; });
  EXPECT_EQ((stream->results[{2, 0}].code), v1::OUTCOME_CODE_BUSY);
  EXPECT_EQ((stream->results[{2, 1}].code), v1::OUTCOME_CODE_BUSY);
  ASSERT_TRUE(recorder_.AwaitCalls(2));
  EXPECT_THAT(recorder_.call(1).devices, ElementsAre(102));
  EXPECT_EQ(gateway_->Stats().in_flight, 3);
}

TEST_F(GatewayLibraryTest, AnswersAreRefusedWhileTheEngineDoesNotRead) {
  GatewayOptions options = Quick();
  options.answer_bytes_max = 1 << 20;
  const auto stream = Attached(1, options);
  const std::string payload(100'000, '7');
  constexpr uint32_t kRanges = 1000;
  for (uint32_t i = 1; i <= kRanges; ++i) stream->Call(i, {1});
  ASSERT_TRUE(recorder_.AwaitCalls(kRanges));
  uint32_t range = 0;
  absl::Status status;
  while (status.ok()) {
    ASSERT_LT(range, kRanges);
    status = gateway_->AnswerAll(recorder_.call(range++).range,
                                 {.status = 200, .payload = payload});
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(gateway_->Stats().in_flight, kRanges - range + 1);
  stream->ReadUntil([&] { return stream->results.size() == range - 1; });
  EXPECT_EQ(gateway_->AnswerAll(recorder_.call(range - 1).range,
                                {.status = 200, .payload = payload}),
            absl::OkStatus());
  stream->ReadUntil([&] { return stream->results.size() == range; });
  for (const auto& [where, result] : stream->results) {
    EXPECT_EQ(result.payload, payload);
  }
}

TEST_F(GatewayLibraryTest, DesiredPropertiesArrive) {
  const auto stream = Attached(3);
  AttachResponse frame;
  auto* update = frame.add_desired();
  update->set_patch("{\"a\":1}");
  for (const uint32_t handle : {3, 9, 1}) update->add_handles(handle);
  for (const int64_t version : {5, 6, 7}) update->add_versions(version);
  ASSERT_TRUE(stream->Write(frame));
  ASSERT_TRUE(recorder_.Await(
      [](const Recorder& r) { return r.desired_.size() == 2; }));
  EXPECT_THAT(recorder_.Copy(recorder_.desired_),
              ElementsAre(std::tuple(102u, 5, "{\"a\":1}"),
                          std::tuple(100u, 7, "{\"a\":1}")));
}

// -------------------------------------------------------------------- devices

TEST_F(GatewayLibraryTest, FramesWithConnectStayWithinTheirCredit) {
  Connect();
  constexpr uint32_t kDevices = 30'000;
  Add(0, kDevices);
  const auto stream = engine_.Accept();
  stream->Handshake(/*connect_credit=*/2);
  stream->ReadUntil([&] { return stream->connects.size() == 2; });
  uint32_t attached = 0;
  std::vector<std::string> ids;
  while (attached < kDevices) {
    std::vector<std::string> some = stream->TakeConnect(attached + 1);
    ASSERT_FALSE(some.empty());
    attached += static_cast<uint32_t>(some.size());
    ids.insert(ids.end(), some.begin(), some.end());
    // A frame that the gateway sends anyway: there would be room in it.
    recorder_.on_methods = [&](const GatewayMethods& calls) {
      EXPECT_EQ(gateway_->AnswerAll(calls.range, {}), absl::OkStatus());
    };
    ASSERT_TRUE(recorder_.AwaitAttached(attached));
    const size_t before = stream->results.size();
    stream->Call(attached, {attached});
    stream->ReadUntil([&] { return stream->results.size() == before + 1; });
    EXPECT_LE(stream->connects.size(), 2u);
  }
  std::sort(ids.begin(), ids.end());
  EXPECT_EQ(std::unique(ids.begin(), ids.end()) - ids.begin(), kDevices);
}

TEST_F(GatewayLibraryTest, HandlesAreGivenBackAndUsedAgain) {
  const auto stream = Attached(3);
  gateway_->RemoveDevices({101});
  stream->ReadUntil([&] { return !stream->disconnected.empty(); });
  EXPECT_THAT(stream->disconnected, ElementsAre(2));
  ASSERT_EQ(gateway_->AddDevices({{555, "new"}}), absl::OkStatus());
  EXPECT_THAT(stream->TakeConnect(2), ElementsAre("new"));
  stream->Call(1, {2});
  ASSERT_TRUE(recorder_.AwaitCalls(1));
  EXPECT_THAT(recorder_.call(0).devices, ElementsAre(555));
}

TEST_F(GatewayLibraryTest, CallsForDevicesThatHaveGoneAreNotConnected) {
  const auto stream = Attached(6);
  gateway_->RemoveDevices({101, 102, 105});
  // The engine has not read that yet.
  stream->Call(4, {1, 2, 3, 4, 5, 6});
  ASSERT_TRUE(recorder_.AwaitCalls(2));
  EXPECT_THAT(recorder_.call(0).devices, ElementsAre(100));
  EXPECT_THAT(recorder_.call(1).devices, ElementsAre(103, 104));
  EXPECT_EQ(gateway_->Answer(recorder_.call(1).range, 1, {.status = 5}),
            absl::OkStatus());
  stream->ReadUntil([&] { return stream->results.size() == 4; });
  // "A kNotConnected outcome comes after the report": in a frame or before.
  EXPECT_THAT(stream->disconnected, UnorderedElementsAre(2, 3, 6));
  for (const uint32_t position : {1, 2, 5}) {
    EXPECT_EQ((stream->results[{4, position}].code),
              v1::OUTCOME_CODE_NOT_CONNECTED);
  }
  EXPECT_EQ((stream->results[{4, 4}]), Answered(5));
}

TEST_F(GatewayLibraryTest, ADeviceThatGoesWhileItIsAskedForGivesItsHandleBack) {
  Connect();
  Add(100, 2);
  const auto stream = engine_.Accept();
  stream->Handshake();
  stream->ReadUntil([&] { return !stream->connects.empty(); });
  gateway_->RemoveDevices({100});
  // Its token is free at once.
  ASSERT_EQ(gateway_->AddDevices({{100, "again"}}), absl::OkStatus());
  stream->TakeConnect(1);
  EXPECT_THAT(stream->TakeConnect(3), ElementsAre("again"));
  ASSERT_TRUE(recorder_.AwaitAttached(2));
  EXPECT_THAT(recorder_.Copy(recorder_.attached_), ElementsAre(101, 100));
  stream->ReadUntil([&] { return !stream->disconnected.empty(); });
  EXPECT_THAT(stream->disconnected, ElementsAre(1));
}

TEST_F(GatewayLibraryTest, DevicesThatAreRefusedAreTriedAgain) {
  Connect();
  Add(100, 4);
  const auto stream = engine_.Accept();
  stream->Handshake();
  stream->ReadUntil([&] { return !stream->connects.empty(); });
  EXPECT_EQ(stream->connects[0].size(), 4u);
  stream->connects.clear();
  AttachResponse frame;
  auto* connected = frame.add_connected();
  for (const uint32_t handle : {0, 1, 0, 0}) connected->add_handles(handle);
  for (const uint32_t position : {0, 2, 3}) {
    auto* refusal = connected->add_refusals();
    refusal->set_position(position);
    refusal->mutable_error()->set_code(
        position == 3 ? static_cast<int>(grpc::StatusCode::PERMISSION_DENIED)
                      : static_cast<int>(grpc::StatusCode::NOT_FOUND));
    refusal->mutable_error()->set_message(absl::StrCat("no ", position / 3));
  }
  ASSERT_TRUE(stream->Write(frame));
  ASSERT_TRUE(recorder_.Await(
      [](const Recorder& r) { return r.refused_.size() == 3; }));
  EXPECT_THAT(
      recorder_.Copy(recorder_.refused_),
      ElementsAre(std::pair(100u, absl::NotFoundError("no 0")),
                  std::pair(102u, absl::NotFoundError("no 0")),
                  std::pair(103u, absl::PermissionDeniedError("no 1"))));
  EXPECT_THAT(recorder_.Copy(recorder_.attached_), ElementsAre(101));
  EXPECT_EQ(stream->TakeConnect(2).size(), 3u);
  ASSERT_TRUE(recorder_.AwaitAttached(4));
  EXPECT_EQ(gateway_->Stats().refused_devices, 0);
}

TEST_F(GatewayLibraryTest, DroppedIsAnsweredByDisconnect) {
  const auto stream = Attached(3);
  AttachResponse frame;
  auto* dropped = frame.add_dropped();
  dropped->set_reason(AttachResponse::Dropped::REASON_TAKEN_OVER);
  dropped->add_handles(1);
  dropped->add_handles(77);  // Has been given back, for all that is known.
  dropped = frame.add_dropped();
  dropped->set_reason(AttachResponse::Dropped::REASON_TWIN_DELETED);
  dropped->add_handles(3);
  ASSERT_TRUE(stream->Write(frame));
  stream->ReadUntil([&] { return stream->disconnected.size() == 2; });
  EXPECT_THAT(stream->disconnected, UnorderedElementsAre(1, 3));
  // The deleted one is tried again; the other one has another gateway.
  EXPECT_THAT(stream->TakeConnect(1), ElementsAre("dev-102"));
  ASSERT_TRUE(recorder_.AwaitAttached(4));
  EXPECT_THAT(recorder_.Copy(recorder_.taken_over_), ElementsAre(100));
  EXPECT_EQ(recorder_.Copy(recorder_.refused_)[0].first, 102u);
  EXPECT_EQ(gateway_->Stats().devices, 2);
  EXPECT_EQ(gateway_->AddDevices({{100, "other"}}), absl::OkStatus());
}

// -------------------------------------------------------------------- streams

TEST_F(GatewayLibraryTest, AfterABreakAllDevicesAreAnnouncedAgain) {
  auto stream = Attached(3);
  stream->Call(1, {1, 2, 3});
  ASSERT_TRUE(recorder_.AwaitCalls(1));
  gateway_->RemoveDevices({101});
  stream->End({grpc::StatusCode::UNAVAILABLE, "going"});
  ASSERT_TRUE(recorder_.AwaitDowns(1));
  EXPECT_EQ(recorder_.Copy(recorder_.downs_)[0].first,
            absl::UnavailableError("going"));
  // What the last stream asked is nobody's business any more.
  EXPECT_EQ(gateway_->AnswerAll(recorder_.call(0).range, {.status = 1}),
            absl::OkStatus());
  EXPECT_EQ(gateway_->Stats().unwanted, 3);

  stream = engine_.Accept();
  stream->Handshake();
  EXPECT_THAT(stream->TakeConnect(8),
              UnorderedElementsAre("dev-100", "dev-102"));
  ASSERT_TRUE(recorder_.AwaitAttached(5));
  stream->Call(1, {9});
  ASSERT_TRUE(recorder_.AwaitCalls(2));
  EXPECT_THAT(recorder_.call(1).devices, ElementsAre(102));
  EXPECT_EQ(gateway_->AnswerAll(recorder_.call(0).range, {.status = 1}),
            absl::OkStatus());
  EXPECT_EQ(gateway_->AnswerAll(recorder_.call(1).range, {.status = 2}),
            absl::OkStatus());
  stream->ReadUntil([&] { return stream->results.size() == 1; });
  EXPECT_EQ((stream->results[{1, 0}]), Answered(2));
  EXPECT_TRUE(stream->disconnected.empty());
}

TEST_F(GatewayLibraryTest, ComesBackWhenTheServerDoesAndWaitsLongerEachTime) {
  auto stream = Attached(1);
  const int port = engine_.port();
  stream->End(grpc::Status::CANCELLED);
  engine_.Stop();
  ASSERT_TRUE(recorder_.AwaitDowns(9));
  const auto downs = recorder_.Copy(recorder_.downs_);
  for (size_t i = 0; i < downs.size(); ++i) {
    EXPECT_FALSE(downs[i].first.ok());
    const absl::Duration most = std::min<absl::Duration>(
        absl::Milliseconds(1) * (int64_t{1} << std::min<size_t>(i, 10)),
        absl::Milliseconds(20));
    EXPECT_GE(downs[i].second, most / 2) << i;
    EXPECT_LE(downs[i].second, most) << i;
  }
  FakeEngine again(port);
  ASSERT_EQ(again.port(), port);
  const auto next = again.Accept();
  ASSERT_NE(next, nullptr);
  next->Handshake();
  EXPECT_THAT(next->TakeConnect(1), ElementsAre("dev-100"));
  ASSERT_TRUE(recorder_.AwaitAttached(2));
  next->End(grpc::Status::OK);
  gateway_->Stop();
}

TEST_F(GatewayLibraryTest, AnEngineThatSaysNothingIsLeft) {
  GatewayOptions options = Quick();
  options.handshake_timeout = absl::Milliseconds(50);
  Connect(options);
  const auto stream = engine_.Accept();
  ASSERT_TRUE(recorder_.AwaitDowns(1));
  EXPECT_EQ(recorder_.Copy(recorder_.downs_)[0].first.code(),
            absl::StatusCode::kDeadlineExceeded);
  stream->End(grpc::Status::OK);
  engine_.Accept()->Handshake();
}

TEST_F(GatewayLibraryTest, DrainingIsAnsweredByTheEndOfTheStream) {
  auto stream = Attached(2);
  stream->Call(1, {1, 2});
  ASSERT_TRUE(recorder_.AwaitCalls(1));
  AttachResponse frame;
  frame.set_draining(true);
  ASSERT_TRUE(stream->Write(frame));
  // A device that comes now is announced to the next engine.
  stream->Call(2, {1});
  ASSERT_TRUE(recorder_.AwaitCalls(2));
  Add(200, 1);
  EXPECT_EQ(gateway_->AnswerAll(recorder_.call(1).range, {.status = 1}),
            absl::OkStatus());
  EXPECT_EQ(gateway_->AnswerAll(recorder_.call(0).range, {.status = 2}),
            absl::OkStatus());
  while (stream->Next()) {
  }
  EXPECT_EQ(stream->results.size(), 3u);
  EXPECT_THAT(stream->connects, IsEmpty());
  stream->End(grpc::Status::OK);
  stream = engine_.Accept();
  stream->Handshake();
  EXPECT_EQ(stream->TakeConnect(1).size(), 3u);
}

TEST_F(GatewayLibraryTest, StopSendsWhatHasBeenAnswered) {
  constexpr uint32_t kRanges = 200;
  const auto stream = Attached(1);
  for (uint32_t range = 1; range <= kRanges; ++range) stream->Call(range, {1});
  ASSERT_TRUE(recorder_.AwaitCalls(kRanges));
  for (uint32_t i = 0; i < kRanges; ++i) {
    ASSERT_EQ(gateway_->AnswerAll(recorder_.call(i).range, {.status = 3}),
              absl::OkStatus());
  }
  std::thread stopper([&] {
    gateway_->Stop();
    recorder_.Close();
  });
  while (stream->Next()) {
  }
  EXPECT_EQ(stream->results.size(), kRanges);
  stream->End(grpc::Status::OK);
  stopper.join();
}

TEST_F(GatewayLibraryTest, WhatIsOnTheWireWhenItStopsIsNotConnected) {
  const auto stream = Attached(3);
  stream->Call(1, {1});
  ASSERT_TRUE(recorder_.AwaitCalls(1));
  Add(200, 1);  // Asked for, and not answered yet.
  stream->ReadUntil([&] { return !stream->connects.empty(); });
  stream->answers_last_connect = false;
  std::thread stopper([&] {
    gateway_->Stop();
    recorder_.Close();
  });
  stream->ReadUntil([&] { return stream->disconnected.size() == 3; });
  EXPECT_EQ(stream->last_connects, 0);
  EXPECT_EQ(stream->TakeConnect(4).size(), 1u);
  stream->Call(2, {1, 2, 3, 4});
  EXPECT_EQ(gateway_->AnswerAll(recorder_.call(0).range, {.status = 7}),
            absl::OkStatus());
  stream->ReadUntil([&] {
    return stream->results.size() == 5 && stream->last_connects == 1;
  });
  EXPECT_THAT(stream->disconnected, UnorderedElementsAre(1, 2, 3, 4));
  stream->Call(3, {2});
  stream->AnswerLastConnect();
  while (stream->Next()) {
  }
  EXPECT_EQ((stream->results[{1, 0}]), Answered(7));
  for (const uint32_t position : {0, 1, 2, 3}) {
    EXPECT_EQ((stream->results[{2, position}].code),
              v1::OUTCOME_CODE_NOT_CONNECTED);
  }
  EXPECT_EQ((stream->results[{3, 0}].code), v1::OUTCOME_CODE_NOT_CONNECTED);
  stream->End(grpc::Status::OK);
  stopper.join();
  EXPECT_EQ(recorder_.calls_.size(), 1u);
  EXPECT_EQ(gateway_->Stats().devices, 4);
}

TEST_F(GatewayLibraryTest, StopDoesNotWaitForAnEngineThatDoesNotEnd) {
  GatewayOptions options = Quick();
  options.handshake_timeout = absl::Milliseconds(100);
  const auto stream = Attached(1, options);
  gateway_->Stop();
  recorder_.Close();
  EXPECT_FALSE(gateway_->Stats().attached);
  stream->End(grpc::Status::OK);
}

// Frames that no engine may send.
TEST_F(GatewayLibraryTest, FramesOfWrongFormEndTheStream) {
  struct Case {
    const char* field;
    std::function<void(AttachResponse*)> make;
    bool first = false;  // In the place of Welcome.
  };
  const Case cases[] = {
      {"welcome", [](AttachResponse* f) { f->set_draining(true); }, true},
      {"welcome.protocol_version",
       [](AttachResponse* f) {
         f->mutable_welcome()->set_protocol_version(2);
         f->mutable_welcome()->set_connect_credit(1);
       },
       true},
      {"welcome.connect_credit",
       [](AttachResponse* f) { f->mutable_welcome()->set_protocol_version(1); },
       true},
      {"welcome",
       [](AttachResponse* f) {
         f->mutable_welcome()->set_protocol_version(1);
         f->mutable_welcome()->set_connect_credit(1);
       }},
      {"connected", [](AttachResponse* f) { f->add_connected(); }},
      {"desired.versions",
       [](AttachResponse* f) { f->add_desired()->add_handles(1); }},
      {"methods.handles", [](AttachResponse* f) { f->add_methods(); }},
      {"methods.handles",
       [](AttachResponse* f) {
         EngineEnd::AddCall(f, 1, std::vector<uint32_t>(1025, 1));
       }},
  };
  Connect();
  size_t downs = 0;
  for (const Case& c : cases) {
    const auto stream = engine_.Accept();
    if (c.first) {
      ASSERT_TRUE(stream->Next());
    } else {
      stream->Handshake();
    }
    AttachResponse frame;
    c.make(&frame);
    ASSERT_TRUE(stream->Write(frame));
    ASSERT_TRUE(recorder_.AwaitDowns(++downs));
    const absl::Status why = recorder_.Copy(recorder_.downs_)[downs - 1].first;
    EXPECT_EQ(why.code(), absl::StatusCode::kInvalidArgument) << why;
    EXPECT_THAT(std::string(why.message()),
                HasSubstr(absl::StrCat(c.field, ": ")));
    stream->End(grpc::Status::OK);
  }
}

TEST_F(GatewayLibraryTest, HandlesThatCannotBeEndTheStream) {
  const std::vector<std::vector<uint32_t>> cases = {
      {1}, {1, 2, 3}, {1, 1}, {1, (1u << 24) + 1}};
  Connect();
  Add(100, 2);
  size_t downs = 0;
  for (const auto& handles : cases) {
    const auto stream = engine_.Accept();
    stream->Handshake();
    stream->ReadUntil([&] { return !stream->connects.empty(); });
    AttachResponse frame;
    frame.add_connected()->mutable_handles()->Add(handles.begin(),
                                                  handles.end());
    ASSERT_TRUE(stream->Write(frame));
    ASSERT_TRUE(recorder_.AwaitDowns(++downs));
    const absl::Status why = recorder_.Copy(recorder_.downs_)[downs - 1].first;
    EXPECT_THAT(std::string(why.message()), HasSubstr("connected.handles"));
    stream->End(grpc::Status::OK);
  }
}

// ------------------------------------------------------------------- listening

class GatewayListenTest : public GatewayLibraryTest {
 protected:
  // An engine that dials.
  class Dialled : public EngineEnd {
   public:
    using Wire = grpc::ClientReaderWriter<AttachResponse, AttachRequest>;
    static std::unique_ptr<Dialled> Dial(int port, const std::string& token) {
      auto context = std::make_unique<grpc::ClientContext>();
      if (!token.empty()) {
        context->AddMetadata("authorization", absl::StrCat("Bearer ", token));
      }
      auto stub = v1::GatewayListenerService::NewStub(
          grpc::CreateChannel(absl::StrCat("127.0.0.1:", port),
                              grpc::InsecureChannelCredentials()));
      auto wire = stub->Serve(context.get());
      return std::unique_ptr<Dialled>(
          new Dialled(std::move(stub), std::move(context), std::move(wire)));
    }
    ~Dialled() {
      context_->TryCancel();
      if (!finished_) wire_->Finish();
    }
    void WritesDone() { wire_->WritesDone(); }
    grpc::Status Finish() {
      finished_ = true;
      return wire_->Finish();
    }

   private:
    Dialled(std::unique_ptr<v1::GatewayListenerService::Stub> stub,
            std::unique_ptr<grpc::ClientContext> context,
            std::unique_ptr<Wire> wire)
        : EngineEnd(
              [w = wire.get()](AttachRequest* frame) { return w->Read(frame); },
              [w = wire.get()](const AttachResponse& frame) {
                return w->Write(frame);
              }),
          stub_(std::move(stub)),
          context_(std::move(context)),
          wire_(std::move(wire)) {}

    const std::unique_ptr<v1::GatewayListenerService::Stub> stub_;
    const std::unique_ptr<grpc::ClientContext> context_;
    const std::unique_ptr<Wire> wire_;
    bool finished_ = false;
  };

  void Listen(const GatewayListenOptions& listen) {
    auto gateway = Gateway::Listen(listen, Quick(), &recorder_);
    ASSERT_TRUE(gateway.ok()) << gateway.status();
    gateway_ = *std::move(gateway);
  }
  std::unique_ptr<Dialled> Dial(const std::string& token = "") {
    return Dialled::Dial(gateway_->port(), token);
  }
};

TEST_F(GatewayListenTest, AnEngineDials) {
  Listen({.address = "127.0.0.1:0"});
  Add(100, 2);
  recorder_.on_methods = [&](const GatewayMethods& calls) {
    EXPECT_EQ(gateway_->AnswerAll(calls.range, {.status = 204}),
              absl::OkStatus());
  };
  const auto stream = Dial();
  stream->Handshake();
  EXPECT_EQ(stream->TakeConnect(1).size(), 2u);
  stream->Call(1, {2, 1});
  stream->ReadUntil([&] { return stream->results.size() == 2; });
  EXPECT_EQ((stream->results[{1, 1}]), Answered(204));

  // It says that it is about to end: the gateway ends the stream.
  AttachResponse frame;
  frame.set_draining(true);
  ASSERT_TRUE(stream->Write(frame));
  EXPECT_FALSE(stream->Next());
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(GatewayListenTest, TheEngineThatDialsLastIsServed) {
  Listen({.address = "127.0.0.1:0"});
  Add(100, 1);
  const auto first = Dial();
  first->Handshake();
  first->TakeConnect(1);
  const auto second = Dial();
  second->Handshake();
  EXPECT_EQ(second->TakeConnect(5).size(), 1u);
  EXPECT_FALSE(first->Next());
  ASSERT_TRUE(recorder_.AwaitDowns(1));
  EXPECT_EQ(recorder_.Copy(recorder_.downs_)[0].first.code(),
            absl::StatusCode::kAborted);
  second->Call(1, {5});
  ASSERT_TRUE(recorder_.AwaitCalls(1));
}

TEST_F(GatewayListenTest, FramesOfWrongFormAreAnsweredWithWhatIsWrong) {
  Listen({.address = "127.0.0.1:0"});
  const auto stream = Dial();
  stream->Handshake();
  AttachResponse frame;
  frame.add_connected();
  ASSERT_TRUE(stream->Write(frame));
  EXPECT_FALSE(stream->Next());
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("connected: "));
}

TEST_F(GatewayListenTest, OnlyTheRoleGatewayMayDial) {
  const std::string token = "a-token-of-some-length";
  const auto access = Access::Parse(
      absl::StrCat(R"({"tokens":[{"name":"hub","roles":["gateway"],"sha256":")",
                   HashBearerToken(token), R"("}]})"),
      {});
  ASSERT_TRUE(access.ok()) << access.status();
  Listen({.address = "127.0.0.1:0", .access = *access});
  for (const char* wrong : {"", "another-token-of-some-length"}) {
    const auto stream = Dial(wrong);
    EXPECT_FALSE(stream->Next());
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  }
  const auto stream = Dial(token);
  stream->Handshake();
}

TEST_F(GatewayListenTest, ThePortHasToBeFree) {
  Listen({.address = "127.0.0.1:0"});
  const auto second =
      Gateway::Listen({.address = absl::StrCat("127.0.0.1:", gateway_->port())},
                      Quick(), &recorder_);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
}

// --------------------------------------------------------------------- threads

// Stop() from any thread, in any state.
TEST_F(GatewayLibraryTest, StopEndsWhateverIsUnderWay) {
  for (int round = 0; round < 10; ++round) {
    FakeEngine engine;  // None of the streams of the round before.
    Recorder recorder;
    auto gateway =
        *Gateway::Connect({.address = engine.address()}, Quick(), &recorder);
    ASSERT_EQ(gateway->AddDevices({{1, "a"}}), absl::OkStatus());
    std::shared_ptr<FakeEngine::Stream> stream;
    if (round % 3 != 0) {
      stream = engine.Accept();
      if (round % 3 == 1) stream->Handshake();
    }
    std::thread other([&] { gateway->Stop(); });
    if (stream != nullptr) {
      while (stream->Next()) {
        if (!stream->connects.empty()) stream->TakeConnect(1);
      }
      stream->End(grpc::Status::OK);
    }
    gateway->Stop();
    recorder.Close();
    other.join();
    if (stream == nullptr) continue;
    EXPECT_FALSE(gateway->Stats().attached);
  }
}

}  // namespace
}  // namespace muster
