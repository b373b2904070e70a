// Direct methods outside of jobs: every row of contract 7.1 and 7.2, on
// simulated time; and what no contract has a row for: a transport without room,
// the end of the engine, and its restart.
#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/engine.h"
#include "engine/journal/journal.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/limits.h"
#include "engine/transport.h"
#include "gtest/gtest.h"
#include "tests/choices.h"
#include "tests/hub_fixture.h"
#include "tests/simulated/simulated_executor.h"

namespace muster {
namespace {

constexpr char kNotOnline[] = "Timed out waiting for device to connect.";
constexpr char kNoResponse[] =
    "Timed out waiting for the response from device.";

// Takes a call's answer, once, and notes when it came.
class Reply : public std::enable_shared_from_this<Reply> {
 public:
  explicit Reply(SimulatedExecutor& time) : time_(time) {}

  MethodCallback Callback() {
    return
        [this, self = shared_from_this()](absl::StatusOr<MethodResult> result) {
          EXPECT_FALSE(result_.has_value()) << "answered twice";
          result_ = std::move(result);
          at_ = time_.Monotonic();
        };
  }

  bool answered() const { return result_.has_value(); }
  absl::Duration at() const { return at_; }
  const absl::StatusOr<MethodResult>& result() const { return *result_; }
  // "200 null", "GatewayTimeout", or "none" as long as there is none.
  std::string Text() const {
    if (!answered()) return "none";
    if (!result_->ok()) {
      return std::string(ErrorInfoOf(ErrorCodeOf(result_->status())).name);
    }
    return absl::StrCat((*result_)->status, " ", (*result_)->payload);
  }
  absl::string_view message() const { return result_->status().message(); }

 private:
  SimulatedExecutor& time_;
  std::optional<absl::StatusOr<MethodResult>> result_;
  absl::Duration at_;
};

MethodAction Call(int response_timeout = 30, int connect_timeout = 0) {
  return {.method_name = "reboot",
          .response_timeout_seconds = response_timeout,
          .connect_timeout_seconds = connect_timeout};
}

// ------------------------------------------- with simulated devices behind it

class MethodsTest : public testing::Test {
 protected:
  std::shared_ptr<Reply> Invoke(absl::string_view device,
                                const MethodAction& action) {
    auto reply = std::make_shared<Reply>(hub.time);
    hub.engine().InvokeMethod(device, action, reply->Callback());
    hub.time.RunReady();
    return reply;
  }
  // The answer, if there is one at once.
  std::string Answer(absl::string_view device, const MethodAction& action) {
    return Invoke(device, action)->Text();
  }
  void OnReboot(LoopbackReply reply) {
    hub.devices().SetHandler("reboot",
                             [reply](const LoopbackCall&) { return reply; });
  }

  Hub hub;
};

TEST_F(MethodsTest, TheDeviceGetsTheCallAndItsAnswerComesBack) {
  hub.AddDevice("d1");
  hub.devices().SetHandler("lockDoor", [](const LoopbackCall& call) {
    EXPECT_EQ(call.device_id, "d1");
    // The text as it was given.
    EXPECT_EQ(call.payload, R"({"delay": 5})");
    return LoopbackReply{.status = 200, .payload = R"({"locked": true})"};
  });
  EXPECT_EQ(
      Answer("d1", {.method_name = "lockDoor", .payload = R"({"delay": 5})"}),
      R"(200 {"locked": true})");
  ASSERT_EQ(hub.devices().calls().size(), 1u);
}

TEST_F(MethodsTest, WhateverTheDeviceSaysIsAnAnswer) {
  hub.AddDevice("d1");
  for (const int32_t status :
       {200, 201, 404, 418, 500, 504, 0, -1, std::numeric_limits<int>::max(),
        std::numeric_limits<int>::min()}) {
    OnReboot({.status = status, .payload = "7"});
    EXPECT_EQ(Answer("d1", Call()), absl::StrCat(status, " 7"));
  }
  for (const absl::string_view payload :
       {"null", "true", "-0.5", R"("text")", "[1,[2]]", "{}"}) {
    OnReboot({.payload = std::string(payload)});
    EXPECT_EQ(Answer("d1", Call()), absl::StrCat("200 ", payload));
  }
  OnReboot({.payload = ""});
  EXPECT_EQ(Answer("d1", Call()), "200 null");
}

TEST_F(MethodsTest, WithoutAPayloadTheDeviceGetsNull) {
  hub.AddDevice("d1");
  Answer("d1", Call());
  EXPECT_EQ(hub.devices().calls().at(0).payload, "null");
}

TEST_F(MethodsTest, PayloadsHaveALimitInEachDirection) {
  hub.AddDevice("d1");
  const auto text = [](size_t size) {
    return absl::StrCat("\"", std::string(size - 2, 'x'), "\"");
  };
  MethodAction action = Call();
  action.payload = text(kMethodPayloadSizeMax);
  EXPECT_EQ(Answer("d1", action), "200 null");
  action.payload = text(kMethodPayloadSizeMax + 1);
  EXPECT_EQ(Answer("d1", action), "MessageTooLarge");
  OnReboot({.payload = text(kMethodPayloadSizeMax)});
  EXPECT_EQ(Answer("d1", Call()),
            absl::StrCat("200 ", text(kMethodPayloadSizeMax)));
  OnReboot({.payload = text(kMethodPayloadSizeMax + 1)});
  EXPECT_EQ(Answer("d1", Call()), "MessageTooLarge");
}

TEST_F(MethodsTest, ABadActionIsRefused) {
  hub.AddDevice("d1");
  const auto with = [](std::function<void(MethodAction&)> change) {
    MethodAction action = Call();
    change(action);
    return action;
  };
  const struct {
    MethodAction action;
    absl::string_view message;  // A part of it.
  } kBad[] = {
      {with([](auto& a) { a.method_name = ""; }), "methodName is empty"},
      {with([](auto& a) { a.method_name = "a b"; }), "methodName \"a b\" has"},
      {with([](auto& a) { a.method_name = std::string(101, 'a'); }),
       "methodName has 101 characters; at most 100"},
      {with([](auto& a) { a.payload = ""; }), "payload: "},
      {with([](auto& a) { a.payload = "{"; }), "payload: "},
      {with([](auto& a) { a.payload = R"({"a":{"b c":1}})"; }),
       "in payload.a the member \"b c\" has"},
      {with([](auto& a) { a.response_timeout_seconds = 4; }),
       "responseTimeoutInSeconds must be an integer in [5, 300]; got 4"},
      {with([](auto& a) { a.response_timeout_seconds = 301; }),
       "responseTimeoutInSeconds must be an integer in [5, 300]; got 301"},
      {with([](auto& a) { a.connect_timeout_seconds = -1; }),
       "connectTimeoutInSeconds must be an integer in [0, 300]; got -1"},
      {with([](auto& a) { a.connect_timeout_seconds = 301; }),
       "connectTimeoutInSeconds must be an integer in [0, 300]; got 301"},
  };
  for (const auto& bad : kBad) {
    const auto reply = Invoke("d1", bad.action);
    EXPECT_EQ(reply->Text(), "ArgumentInvalid") << bad.message;
    EXPECT_TRUE(absl::StartsWith(reply->message(), bad.message))
        << reply->message();
  }
  EXPECT_TRUE(hub.devices().calls().empty());
  // The limits themselves.
  for (const auto& good : {Call(5, 0), Call(300, 300)}) {
    EXPECT_EQ(Answer("d1", good), "200 null");
  }
}

TEST_F(MethodsTest, AnUnknownOrDisabledDeviceIsNotFound) {
  EXPECT_EQ(Answer("d1", Call(30, 300)), "DeviceNotFound");
  EXPECT_EQ(Answer("", Call()), "DeviceNotFound");
  hub.AddDevice("d1");
  ASSERT_TRUE(hub.engine().SetTwinEnabled("d1", false).ok());
  EXPECT_EQ(Answer("d1", Call(30, 300)), "DeviceNotFound");
  ASSERT_TRUE(hub.engine().SetTwinEnabled("d1", true).ok());
  EXPECT_EQ(Answer("d1", Call()), "200 null");
  // The transport may know better.
  hub.devices().RemoveDevice("d1");
  hub.devices().AddDevices({"d1"}, true);
  OnReboot({.code = OutcomeCode::kNoSuchDevice});
  EXPECT_EQ(Answer("d1", Call(30, 300)), "DeviceNotFound");
}

TEST_F(MethodsTest, WithoutATimeToConnectADeviceMustBeThere) {
  hub.AddDevice("d1", /*connected=*/false);
  const auto reply = Invoke("d1", Call());
  EXPECT_EQ(reply->Text(), "DeviceNotOnline");
  EXPECT_EQ(reply->message(), kNotOnline);
}

TEST_F(MethodsTest, ADeviceHasItsTimeToConnect) {
  hub.AddDevice("d1", /*connected=*/false);
  const auto late = Invoke("d1", Call(30, 10));
  const auto timely = Invoke("d1", Call(30, 11));
  hub.time.Advance(absl::Seconds(10) - absl::Nanoseconds(1));
  EXPECT_EQ(late->Text(), "none");
  hub.time.Advance(absl::Nanoseconds(1));
  EXPECT_EQ(late->Text(), "DeviceNotOnline");
  EXPECT_EQ(late->message(), kNotOnline);
  EXPECT_EQ(late->at(), absl::Seconds(10));
  EXPECT_EQ(timely->Text(), "none");

  hub.devices().SetConnected("d1", true);
  hub.time.RunReady();
  EXPECT_EQ(timely->Text(), "200 null");
  EXPECT_EQ(hub.devices().calls().size(), 1u);
}

TEST_F(MethodsTest, ATwinThatIsWrittenAsConnectedIsTried) {
  hub.AddDevice("d1", /*connected=*/false);
  const auto reply = Invoke("d1", Call(30, 10));
  hub.AddTwin("d1", R"("connectionState":"Connected")");
  hub.time.RunReady();
  // The transport knows that nobody is there: once more a second later, and so
  // on until the time is over.
  EXPECT_EQ(reply->Text(), "none");
  hub.time.Advance(absl::Seconds(3));
  hub.devices().SetConnected("d1", true);
  hub.time.Advance(absl::Seconds(1));
  EXPECT_EQ(reply->Text(), "200 null");
}

TEST_F(MethodsTest, WhoWaitsHearsOfTheDevicesEnd) {
  hub.AddDevice("disabled", /*connected=*/false);
  hub.AddDevice("erased", /*connected=*/false);
  hub.AddDevice("other", /*connected=*/false);
  const auto disabled = Invoke("disabled", Call(30, 300));
  const auto erased = Invoke("erased", Call(30, 300));
  const auto other = Invoke("other", Call(30, 300));
  ASSERT_TRUE(hub.engine().SetTwinEnabled("disabled", false).ok());
  ASSERT_TRUE(hub.engine().EraseTwin("erased").ok());
  hub.time.RunReady();
  EXPECT_EQ(disabled->Text(), "DeviceNotFound");
  EXPECT_EQ(erased->Text(), "DeviceNotFound");
  EXPECT_EQ(other->Text(), "none");
  // Another device in the erased one's row is nobody's that was waited for.
  hub.AddDevice("new", /*connected=*/true);
  EXPECT_EQ(other->Text(), "none");
  hub.time.Advance(absl::Seconds(300));
  EXPECT_EQ(other->Text(), "DeviceNotOnline");
}

TEST_F(MethodsTest, NoHandlerCountsAsNotOnline) {
  hub.AddDevice("d1");
  OnReboot({.code = OutcomeCode::kNoHandler});
  const auto reply = Invoke("d1", Call(30, 300));
  EXPECT_EQ(reply->Text(), "DeviceNotOnline");
  EXPECT_EQ(reply->message(),
            "The device is connected but takes no direct methods.");
}

TEST_F(MethodsTest, NoAnswerInTimeIsAGatewayTimeout) {
  hub.AddDevice("d1");
  OnReboot(LoopbackReply::Never());
  const auto reply = Invoke("d1", Call(5));
  hub.time.Advance(absl::Seconds(5) - absl::Nanoseconds(1));
  EXPECT_EQ(reply->Text(), "none");
  hub.time.Advance(absl::Nanoseconds(1));
  EXPECT_EQ(reply->Text(), "GatewayTimeout");
  EXPECT_EQ(reply->message(), kNoResponse);
  EXPECT_EQ(reply->at(), absl::Seconds(5));
  EXPECT_EQ(hub.devices().calls().size(), 1u);  // And never again.
  hub.time.Advance(absl::Hours(1));
  EXPECT_EQ(hub.devices().calls().size(), 1u);
}

TEST_F(MethodsTest, NobodyWaitsForLongerThanBothTimeoutsTogether) {
  hub.AddDevice("d1", /*connected=*/false);
  OnReboot(LoopbackReply::Never());
  const auto reply = Invoke("d1", Call(5, 10));
  hub.time.Advance(absl::Seconds(9));
  hub.devices().SetConnected("d1", true);
  // The time to answer begins with the call.
  hub.time.Advance(absl::Seconds(5) - absl::Nanoseconds(1));
  EXPECT_EQ(reply->Text(), "none");
  hub.time.Advance(absl::Nanoseconds(1));
  EXPECT_EQ(reply->Text(), "GatewayTimeout");
  EXPECT_EQ(reply->at(), absl::Seconds(14));
}

TEST_F(MethodsTest, AnAnswerThatIsLateIsDroppedAndCounted) {
  hub.AddDevice("d1");
  OnReboot({.delay = absl::Seconds(6)});
  const auto reply = Invoke("d1", Call(5));
  hub.time.Advance(absl::Seconds(6));
  EXPECT_EQ(reply->Text(), "GatewayTimeout");
  EXPECT_EQ(hub.engine().Stats().outcomes_dropped, 1);
}

TEST_F(MethodsTest, WhatTheTransportReportsHasItsError) {
  hub.AddDevice("d1");
  const struct {
    OutcomeCode code;
    absl::string_view error;
  } kErrors[] = {
      {OutcomeCode::kNotConnected, "DeviceNotOnline"},
      {OutcomeCode::kNoHandler, "DeviceNotOnline"},
      {OutcomeCode::kNoSuchDevice, "DeviceNotFound"},
      {OutcomeCode::kBusy, "DeviceMaximumInflightMethodExceeded"},
      {OutcomeCode::kBadResponse, "InvalidResponseWhileProxying"},
      {OutcomeCode::kResponseTooLarge, "MessageTooLarge"},
      {OutcomeCode::kLinkLost, "GatewayTimeout"},
      {OutcomeCode::kTimeout, "GatewayTimeout"},
      {OutcomeCode::kError, "ServerError"},
  };
  for (const auto& error : kErrors) {
    OnReboot({.code = error.code});
    EXPECT_EQ(Answer("d1", Call()), error.error);
  }
  OnReboot({.payload = "{no json"});
  EXPECT_EQ(Answer("d1", Call()), "InvalidResponseWhileProxying");
}

TEST_F(MethodsTest, TenAreInFlightOnADeviceAtMost) {
  hub.AddDevice("d1");
  hub.AddDevice("d2");
  OnReboot({.delay = absl::Seconds(2)});
  std::vector<std::shared_ptr<Reply>> replies;
  for (int i = 0; i < kMethodsInFlightPerDeviceMax; ++i) {
    replies.push_back(Invoke("d1", Call()));
  }
  EXPECT_EQ(Answer("d1", Call()), "DeviceMaximumInflightMethodExceeded");
  EXPECT_EQ(Answer("d2", Call()), "none");
  hub.time.Advance(absl::Seconds(2));
  for (const auto& reply : replies) EXPECT_EQ(reply->Text(), "200 null");
  OnReboot({});
  EXPECT_EQ(Answer("d1", Call()), "200 null");
}

TEST_F(MethodsTest, JobsCountToo) {
  hub.AddDevice("d1");
  hub.devices().SetHandler("slow", [](const LoopbackCall&) {
    return LoopbackReply{.delay = absl::Seconds(2)};
  });
  const auto start_jobs = [&](absl::string_view prefix, int count) {
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(
          hub.Create(absl::StrCat(R"({"jobId":")", prefix, i,
                                  R"(","type":"scheduleDeviceMethod",)",
                                  R"("cloudToDeviceMethod":{"methodName":)",
                                  R"("slow"},"queryCondition":"*"})"))
              .ok());
    }
    hub.time.RunReady();
  };
  start_jobs("first-", kMethodsInFlightPerDeviceMax);
  EXPECT_EQ(Answer("d1", Call()), "DeviceMaximumInflightMethodExceeded");
  hub.time.Advance(absl::Seconds(2));
  EXPECT_EQ(Answer("d1", Call()), "200 null");

  OnReboot({.delay = absl::Seconds(2)});
  std::vector<std::shared_ptr<Reply>> replies;
  for (int i = 0; i < kMethodsInFlightPerDeviceMax; ++i) {
    replies.push_back(Invoke("d1", Call()));
  }
  start_jobs("second-", 1);
  EXPECT_EQ(hub.Record("second-0", "d1").error_code,
            ErrorCode::kDeviceMaximumInflightMethodExceeded);
  hub.time.Advance(absl::Seconds(2));
  start_jobs("third-", 1);
  hub.time.Advance(absl::Seconds(2));
  EXPECT_EQ(Counts(hub.Get("third-0")), "1 / f0 s1 r0 p0");
}

TEST_F(MethodsTest, CallsAreCounted) {
  hub.AddDevice("d1");
  hub.AddDevice("off", /*connected=*/false);
  Answer("d1", Call());
  Answer("d1", Call());
  Answer("off", Call());
  Answer("nobody", Call());
  Answer("d1", Call(1));
  const auto waiting = Invoke("off", Call(30, 60));
  DirectMethodStats stats = hub.engine().Stats().direct_methods;
  EXPECT_EQ(stats.under_way, 1);
  EXPECT_EQ(stats.succeeded, 2);
  EXPECT_EQ(stats.failed,
            (std::map<ErrorCode, int64_t>{{ErrorCode::kDeviceNotOnline, 1},
                                          {ErrorCode::kDeviceNotFound, 1},
                                          {ErrorCode::kArgumentInvalid, 1}}));
  hub.time.Advance(absl::Seconds(60));
  stats = hub.engine().Stats().direct_methods;
  EXPECT_EQ(stats.under_way, 0);
  EXPECT_EQ(stats.failed[ErrorCode::kDeviceNotOnline], 2);
}

TEST_F(MethodsTest, ACallbackMayUseTheEngine) {
  hub.AddDevice("d1");
  hub.AddDevice("off", /*connected=*/false);
  const auto second = std::make_shared<Reply>(hub.time);
  std::string first;
  for (const absl::string_view device : {"d1", "off"}) {
    hub.engine().InvokeMethod(
        device, Call(), [&](absl::StatusOr<MethodResult> result) {
          absl::StrAppend(&first, result.ok() ? "answer " : "error ");
          if (!result.ok()) return;
          EXPECT_TRUE(
              hub.engine().PatchTwin("d1", R"({"tags":{"called":1}})").ok());
          hub.engine().InvokeMethod("d1", Call(), second->Callback());
        });
  }
  hub.time.RunReady();
  EXPECT_EQ(first, "error answer ");
  EXPECT_EQ(second->Text(), "200 null");
}

// An engine without a transport reaches nobody, whatever a twin says.
TEST(EngineMethods, WithoutATransportNobodyIsOnline) {
  SimulatedExecutor time;
  auto engine = *Engine::Create({.clock = &time, .executor = &time});
  ASSERT_TRUE(
      engine->UpsertTwin(R"({"deviceId":"d1","connectionState":"Connected"})")
          .ok());
  const auto reply = std::make_shared<Reply>(time);
  engine->InvokeMethod("d1", Call(), reply->Callback());
  EXPECT_EQ(reply->Text(), "DeviceNotOnline");
  engine->Stop();
}

// --------------------------------------------- with a transport of the test's

// Takes calls as long as it has room, and reports what it is told to.
class Wire : public Transport {
 public:
  struct Sent {
    AttemptKey attempt;
    std::string device;  // Empty if it goes by links.
    uint64_t link = 0;
    absl::Duration response_timeout;
    bool has_outcome = false;
  };

  explicit Wire(bool by_links = false) : by_links_(by_links) {}

  void Start(TransportSink* sink) override { sink_ = sink; }
  size_t Send(const MethodBatch& batch) override {
    EXPECT_EQ(batch.device_ids.size(), by_links_ ? 0 : batch.attempts.size());
    EXPECT_EQ(batch.links.size(), batch.attempts.size());
    if (at_send) std::exchange(at_send, nullptr)();
    size_t taken = 0;
    for (; taken < batch.attempts.size() && room > 0; ++taken, --room) {
      const std::string device =
          by_links_ ? "" : std::string(batch.device_ids[taken]);
      if (is_draining || full.contains(device)) break;
      sent.push_back({batch.attempts[taken], device, batch.links[taken],
                      batch.method->response_timeout});
    }
    refused += static_cast<int>(batch.attempts.size() - taken);
    return taken;
  }
  void NotifyDesired(absl::Span<const DesiredNotification>) override {}
  bool wants_device_ids() const override { return !by_links_; }
  bool draining() const override { return is_draining; }
  void Shutdown() override {
    if (at_shutdown) at_shutdown();
  }

  void Connect(absl::string_view device, bool connected = true,
               uint64_t link = 0) {
    const ConnectionChange change{device, connected, link};
    sink_->OnConnections({&change, 1}, {});
  }
  void Report(AttemptKey attempt, OutcomeCode code = OutcomeCode::kAnswered,
              absl::string_view payload = "") {
    const Outcome outcome{attempt, code, 200, payload};
    sink_->OnOutcomes({&outcome, 1});
  }
  void MakeRoom(int64_t count) {
    room += count;
    sink_->OnReady();
  }
  void BeginDrain() {
    is_draining = true;
    sink_->OnReady();
  }
  std::string Devices() const {
    std::string devices;
    for (const Sent& s : sent) absl::StrAppend(&devices, s.device, " ");
    return devices;
  }

  int64_t room = 1'000'000'000;
  std::set<std::string> full;  // Those that have no part in the room.
  bool is_draining = false;
  int refused = 0;
  std::vector<Sent> sent;
  std::function<void()> at_send;  // Once.
  std::function<void()> at_shutdown;

 private:
  const bool by_links_;
  TransportSink* sink_ = nullptr;
};

class WireTest : public testing::Test {
 protected:
  explicit WireTest(bool by_links = false) : wire(by_links) { Restart(); }
  ~WireTest() override { engine->Stop(); }

  void Restart() {
    if (engine != nullptr) engine->Stop();
    if (journal == nullptr) {
      journal = *MakeMemoryJournal(
          {.retained_bytes_max = MemoryJournalOptions::kRetainAll});
    }
    engine = *Engine::Create({.transport = &wire,
                              .clock = &time,
                              .executor = &time,
                              .journal = journal.get()});
  }
  void AddDevice(absl::string_view id, bool connected = true) {
    ASSERT_TRUE(
        engine->UpsertTwin(absl::StrCat(R"({"deviceId":")", id, "\"}")).ok());
    if (connected) wire.Connect(id);
    time.RunReady();
  }
  std::shared_ptr<Reply> Invoke(absl::string_view device,
                                const MethodAction& action = Call()) {
    auto reply = std::make_shared<Reply>(time);
    engine->InvokeMethod(device, action, reply->Callback());
    time.RunReady();
    return reply;
  }

  SimulatedExecutor time;
  Wire wire;
  std::unique_ptr<Journal> journal;
  std::unique_ptr<Engine> engine;
};

TEST_F(WireTest, AttemptsAreOfNoJob) {
  AddDevice("d1");
  ASSERT_TRUE(engine
                  ->CreateJobFromJson(
                      "j", R"({"type":"scheduleDeviceMethod",)"
                           R"("cloudToDeviceMethod":{"methodName":"m"},)"
                           R"("queryCondition":"*"})")
                  .ok());
  time.RunReady();
  const auto reply = Invoke("d1");
  ASSERT_EQ(wire.sent.size(), 2u);
  EXPECT_NE(wire.sent[0].attempt.value >> 36, 0u);
  EXPECT_EQ(wire.sent[1].attempt.value >> 36, 0u);
  // Both in one report.
  wire.Report(wire.sent[1].attempt);
  wire.Report(wire.sent[0].attempt);
  time.RunReady();
  EXPECT_EQ(reply->Text(), "200 null");
  EXPECT_EQ(engine->GetJob("j")->status, JobStatus::kCompleted);
  EXPECT_EQ(engine->Stats().outcomes_dropped, 0);
}

TEST_F(WireTest, ASecondOutcomeIsDroppedAndCounted) {
  AddDevice("d1");
  const auto first = Invoke("d1");
  const auto second = Invoke("d1");
  wire.Report(wire.sent[0].attempt);
  wire.Report(wire.sent[0].attempt, OutcomeCode::kError);
  time.RunReady();
  wire.Report(wire.sent[0].attempt, OutcomeCode::kError);
  time.RunReady();
  EXPECT_EQ(first->Text(), "200 null");
  EXPECT_EQ(second->Text(), "none");
  EXPECT_EQ(engine->Stats().outcomes_dropped, 2);
}

TEST_F(WireTest, ACallThatDidNotRunIsMadeAnew) {
  AddDevice("d1");
  const auto at_once = Invoke("d1");
  const auto patient = Invoke("d1", Call(30, 10));
  wire.Connect("d1", false);
  wire.Report(wire.sent[0].attempt, OutcomeCode::kNotConnected);
  wire.Report(wire.sent[1].attempt, OutcomeCode::kNotConnected);
  time.RunReady();
  EXPECT_EQ(at_once->Text(), "DeviceNotOnline");
  EXPECT_EQ(at_once->message(), kNotOnline);
  EXPECT_EQ(patient->Text(), "none");
  time.Advance(absl::Seconds(9));
  wire.Connect("d1");
  time.RunReady();
  // As another attempt, with its whole time to answer.
  ASSERT_EQ(wire.sent.size(), 3u);
  EXPECT_NE(wire.sent[2].attempt, wire.sent[1].attempt);
  wire.Report(wire.sent[1].attempt);
  time.Advance(absl::Seconds(29));
  EXPECT_EQ(patient->Text(), "none");
  EXPECT_EQ(engine->Stats().outcomes_dropped, 1);
  wire.Report(wire.sent[2].attempt);
  time.RunReady();
  EXPECT_EQ(patient->Text(), "200 null");
}

TEST_F(WireTest, ATransportThatContradictsItselfIsAskedOnceASecond) {
  AddDevice("d1");
  const auto reply = Invoke("d1", Call(30, 10));
  for (size_t i = 0; i < wire.sent.size(); ++i) {
    ASSERT_EQ(wire.sent.size(), i + 1);
    wire.Report(wire.sent[i].attempt, OutcomeCode::kNotConnected);
    time.Advance(absl::Seconds(1));
  }
  EXPECT_EQ(reply->Text(), "DeviceNotOnline");
  EXPECT_EQ(reply->at(), absl::Seconds(10));
  EXPECT_EQ(wire.sent.size(), 11u);
}

TEST_F(WireTest, WhoHasNoRoomIsOfferedItAgain) {
  AddDevice("d1");
  AddDevice("d2");
  wire.room = 0;
  const auto first = Invoke("d1");
  const auto second = Invoke("d2");
  time.Advance(absl::Seconds(3));
  EXPECT_EQ(wire.sent.size(), 0u);
  EXPECT_EQ(wire.refused, 2);  // It says when it has room; nobody asks.
  wire.MakeRoom(1);
  time.RunReady();
  ASSERT_EQ(wire.Devices(), "d1 ");  // In their order.
  wire.Report(wire.sent[0].attempt);
  wire.MakeRoom(1);
  time.RunReady();
  ASSERT_EQ(wire.Devices(), "d1 d2 ");
  EXPECT_EQ(first->Text(), "200 null");
  // The time to answer goes on meanwhile.
  time.Advance(absl::Seconds(27));
  EXPECT_EQ(second->Text(), "GatewayTimeout");
  EXPECT_EQ(second->at(), absl::Seconds(30));
}

TEST_F(WireTest, WithoutRoomInItsTimeACallIsNotMade) {
  AddDevice("d1");
  wire.room = 0;
  std::vector<std::shared_ptr<Reply>> replies;
  for (int i = 0; i < 2 * kMethodsInFlightPerDeviceMax; ++i) {
    replies.push_back(Invoke("d1", Call(5, 5)));
  }
  time.Advance(absl::Seconds(5));
  for (const auto& reply : replies) {
    EXPECT_EQ(reply->Text(), "ThrottlingException");
    EXPECT_EQ(reply->at(), absl::Seconds(5));
  }
  wire.MakeRoom(100);
  time.RunReady();
  EXPECT_TRUE(wire.sent.empty());
  // They were not in flight.
  for (int i = 0; i < kMethodsInFlightPerDeviceMax; ++i) {
    replies.push_back(Invoke("d1"));
    EXPECT_EQ(replies.back()->Text(), "none");
  }
}

TEST_F(WireTest, ADeviceThatGoesWhileThereIsNoRoom) {
  AddDevice("d1");
  AddDevice("d2");
  wire.room = 0;
  const auto at_once = Invoke("d1", Call(30, 0));
  const auto patient = Invoke("d1", Call(30, 20));
  const auto erased = Invoke("d2", Call(30, 20));
  wire.Connect("d1", false);
  ASSERT_TRUE(engine->EraseTwin("d2").ok());
  time.Advance(absl::Seconds(10));
  wire.MakeRoom(100);
  time.RunReady();
  EXPECT_EQ(at_once->Text(), "DeviceNotOnline");
  EXPECT_EQ(erased->Text(), "DeviceNotFound");
  EXPECT_EQ(patient->Text(), "none");
  time.Advance(absl::Seconds(10));
  EXPECT_EQ(patient->Text(), "DeviceNotOnline");
  EXPECT_EQ(patient->at(), absl::Seconds(20));
  EXPECT_TRUE(wire.sent.empty());
}

TEST_F(WireTest, AThousandThatHaveToWaitAllGetTheirTurn) {
  constexpr int kCalls = 1000;
  for (int i = 0; i < kCalls; ++i) AddDevice(absl::StrCat("d", i));
  wire.room = 0;
  std::vector<std::shared_ptr<Reply>> replies;
  for (int i = 0; i < kCalls; ++i) {
    replies.push_back(Invoke(absl::StrCat("d", i), Call(300)));
  }
  // However often there is room, nobody is offered it twice for once.
  wire.refused = 0;
  for (int i = 0; i < 100; ++i) {
    wire.MakeRoom(7);
    time.RunReady();
    ASSERT_EQ(wire.sent.size(), 7u * (i + 1));
  }
  EXPECT_LE(wire.refused, 100 * kCalls);
  wire.MakeRoom(kCalls);
  time.RunReady();
  ASSERT_EQ(wire.sent.size(), static_cast<size_t>(kCalls));
  std::set<std::string> devices;
  for (const Wire::Sent& sent : wire.sent) {
    devices.insert(sent.device);
    wire.Report(sent.attempt);
  }
  time.RunReady();
  EXPECT_EQ(devices.size(), static_cast<size_t>(kCalls));
  for (const auto& reply : replies) EXPECT_EQ(reply->Text(), "200 null");
}

// The room that the transport speaks of may be that of one gateway of several.
TEST_F(WireTest, ThoseWithoutRoomHoldUpNobodyBehindThem) {
  constexpr int kCalls = 1000;
  for (int i = 0; i < kCalls; ++i) AddDevice(absl::StrCat("full-", i));
  AddDevice("d1");
  wire.room = 0;
  for (int i = 0; i < kCalls; ++i) {
    const std::string device = absl::StrCat("full-", i);
    wire.full.insert(device);
    Invoke(device, Call(300));
  }
  const auto reply = Invoke("d1", Call(300));
  wire.refused = 0;
  wire.MakeRoom(kCalls);
  time.RunReady();
  ASSERT_EQ(wire.Devices(), "d1 ");
  EXPECT_EQ(wire.refused, kCalls);  // Each once.
  wire.Report(wire.sent[0].attempt);
  time.RunReady();
  EXPECT_EQ(reply->Text(), "200 null");
}

TEST_F(WireTest, WhoWasBlockedHasTheTimeThatIsLeft) {
  AddDevice("d1");
  wire.room = 0;
  const auto blocked = Invoke("d1", Call(30));
  time.Advance(absl::Seconds(10));
  const auto other = Invoke("d1", Call(30));
  wire.MakeRoom(2);
  time.RunReady();
  ASSERT_EQ(wire.sent.size(), 2u);
  EXPECT_EQ(wire.sent[0].response_timeout, absl::Seconds(20));
  EXPECT_EQ(wire.sent[1].response_timeout, absl::Seconds(30));
  wire.Report(wire.sent[0].attempt);
  wire.Report(wire.sent[1].attempt, OutcomeCode::kNotConnected);
  time.RunReady();
  EXPECT_EQ(blocked->Text(), "200 null");
  EXPECT_EQ(other->Text(), "DeviceNotOnline");
}

// A worker that has a call in its hand may be late.
TEST_F(WireTest, WhoWasBlockedIsNotSentWhenItsTimeIsOver) {
  AddDevice("d1");
  AddDevice("d2");
  wire.room = 0;
  const auto first = Invoke("d1", Call(5));
  const auto second = Invoke("d2", Call(5));
  wire.at_send = [&] { time.FireDue(absl::Seconds(5)); };
  wire.MakeRoom(2);
  time.RunReady();
  EXPECT_EQ(wire.Devices(), "d1 ");
  EXPECT_EQ(second->Text(), "ThrottlingException");
  EXPECT_EQ(first->Text(), "GatewayTimeout");
}

TEST_F(WireTest, OnceTheTransportDrainsNobodyWaitsToBeSent) {
  AddDevice("d1");
  AddDevice("off", /*connected=*/false);
  const auto sent = Invoke("d1");
  const auto returned = Invoke("d1");
  const auto waiting = Invoke("off", Call(30, 300));
  wire.room = 0;
  const auto blocked = Invoke("d1");
  wire.BeginDrain();
  wire.Report(wire.sent[1].attempt, OutcomeCode::kNotConnected);
  time.RunReady();
  const auto later = Invoke("d1");
  const auto waiting_later = Invoke("off", Call(30, 300));
  for (const Reply* reply : {returned.get(), waiting.get(), blocked.get(),
                             later.get(), waiting_later.get()}) {
    EXPECT_EQ(reply->Text(), "ServiceUnavailable");
  }
  EXPECT_EQ(sent->Text(), "none");
  wire.Report(wire.sent[0].attempt);
  time.RunReady();
  EXPECT_EQ(sent->Text(), "200 null");
}

// It has found its device, and is not with the transport yet.
TEST_F(WireTest, ACallThatMeetsTheDrainDoesNotWait) {
  AddDevice("d1");
  wire.at_send = [&] { wire.BeginDrain(); };
  EXPECT_EQ(Invoke("d1")->Text(), "ServiceUnavailable");
}

TEST_F(WireTest, CallsHaveALimit) {
  AddDevice("off", /*connected=*/false);
  AddDevice("d1");
  int answers = 0;
  for (int i = 0; i < kDirectMethodsMax; ++i) {
    engine->InvokeMethod("off", Call(30, 60),
                         [&](absl::StatusOr<MethodResult>) { ++answers; });
  }
  EXPECT_EQ(answers, 0);
  EXPECT_EQ(Invoke("d1")->Text(), "ThrottlingException");
  time.Advance(absl::Seconds(60));
  EXPECT_EQ(answers, kDirectMethodsMax);
  EXPECT_EQ(Invoke("d1")->Text(), "none");
}

TEST_F(WireTest, PayloadsHaveALimitTogether) {
  AddDevice("off", /*connected=*/false);
  MethodAction action = Call(30, 60);
  action.payload =
      absl::StrCat("\"", std::string(kMethodPayloadSizeMax - 2, 'x'), "\"");
  const auto ignore = [](absl::StatusOr<MethodResult>) {};
  for (size_t i = 0; i < kDirectMethodBytesMax / kMethodPayloadSizeMax; ++i) {
    engine->InvokeMethod("off", action, ignore);
  }
  EXPECT_EQ(Invoke("off", Call(30, 60))->Text(), "ThrottlingException");
  time.Advance(absl::Seconds(60));
  EXPECT_EQ(engine->Stats().direct_methods.under_way, 0);
  EXPECT_EQ(Invoke("off", action)->Text(), "none");
}

// What waits to be sent takes nothing from what has been answered.
TEST_F(WireTest, AnAnswerIsTakenHoweverManyPayloadsAreUnderWay) {
  AddDevice("d1");
  AddDevice("off", /*connected=*/false);
  const auto bare = Invoke("d1");
  const auto full = Invoke("d1");
  const size_t used = 2 * Call().payload.size();
  MethodAction action = Call(30, 60);
  for (size_t left = kDirectMethodBytesMax - used; left > 2;) {
    const size_t size = std::min(left, kMethodPayloadSizeMax);
    action.payload = absl::StrCat("\"", std::string(size - 2, 'x'), "\"");
    engine->InvokeMethod("off", action, [](absl::StatusOr<MethodResult>) {});
    left -= size;
  }
  ASSERT_EQ(Invoke("d1")->Text(), "ThrottlingException");
  wire.Report(wire.sent[0].attempt);
  wire.Report(wire.sent[1].attempt, OutcomeCode::kAnswered, "[1]");
  time.RunReady();
  EXPECT_EQ(bare->Text(), "200 null");
  EXPECT_EQ(full->Text(), "200 [1]");
  EXPECT_EQ(engine->Stats().outcomes_dropped, 0);
}

TEST_F(WireTest, AnswersHaveALimitTogether) {
  constexpr size_t kFit = kDirectMethodAnswerBytesMax / kMethodPayloadSizeMax;
  std::vector<std::shared_ptr<Reply>> replies;
  for (size_t i = 0; i < kFit + 3; ++i) {
    const std::string device =
        absl::StrCat("d", i / kMethodsInFlightPerDeviceMax);
    if (i % kMethodsInFlightPerDeviceMax == 0) AddDevice(device);
    replies.push_back(Invoke(device));
  }
  const std::string payload =
      absl::StrCat("\"", std::string(kMethodPayloadSizeMax - 2, 'x'), "\"");
  for (size_t i = 0; i < kFit + 1; ++i) {
    wire.Report(wire.sent[i].attempt, OutcomeCode::kAnswered, payload);
  }
  wire.Report(wire.sent[kFit + 1].attempt);
  time.RunReady();
  for (size_t i = 0; i < kFit; ++i) ASSERT_TRUE(replies[i]->result().ok());
  // It ran: the caller hears so at once.
  EXPECT_EQ(replies[kFit]->Text(), "ServerError");
  EXPECT_TRUE(absl::StartsWith(replies[kFit]->message(), "The method ran"));
  EXPECT_EQ(replies[kFit + 1]->Text(), "200 null");
  EXPECT_EQ(engine->Stats().outcomes_dropped, 0);
  // Those have been passed on.
  wire.Report(wire.sent[kFit + 2].attempt, OutcomeCode::kAnswered, payload);
  time.RunReady();
  EXPECT_TRUE(replies[kFit + 2]->result().ok());
}

TEST_F(WireTest, WhenTheEngineStopsEverybodyIsAnswered) {
  AddDevice("d1");
  AddDevice("off", /*connected=*/false);
  const auto answered = Invoke("d1");
  const auto sent = Invoke("d1");
  const auto waiting = Invoke("off", Call(30, 60));
  const auto returned = Invoke("d1", Call(30, 60));
  wire.room = 0;
  const auto blocked = Invoke("d1");
  wire.at_shutdown = [&] {
    wire.Report(wire.sent[0].attempt);
    wire.Report(wire.sent[2].attempt, OutcomeCode::kNotConnected);
  };
  engine->Stop();
  EXPECT_EQ(answered->Text(), "200 null");
  EXPECT_EQ(sent->Text(), "GatewayTimeout");  // It may have run.
  for (const Reply* reply : {waiting.get(), returned.get(), blocked.get()}) {
    EXPECT_EQ(reply->Text(), "ServiceUnavailable");
  }
  EXPECT_EQ(Invoke("d1")->Text(), "ServiceUnavailable");
  EXPECT_EQ(engine->Stats().direct_methods.under_way, 0);
}

TEST_F(WireTest, AfterARestartNoOutcomeIsTakenForAnothers) {
  std::set<uint64_t> keys;
  for (int round = 0; round < 20; ++round) {
    SCOPED_TRACE(round);
    AddDevice("d1");
    wire.sent.clear();
    for (int i = 0; i < 1000; ++i) {
      const auto reply = Invoke("d1");
      ASSERT_TRUE(keys.insert(wire.sent.back().attempt.value).second);
      wire.Report(wire.sent.back().attempt);
      time.RunReady();
      ASSERT_EQ(reply->Text(), "200 null");
    }
    const auto open = Invoke("d1");
    const AttemptKey late = wire.sent.back().attempt;
    Restart();
    EXPECT_EQ(open->Text(), "GatewayTimeout");
    AddDevice("d1");
    const auto next = Invoke("d1");
    wire.Report(late, OutcomeCode::kError);
    time.RunReady();
    EXPECT_EQ(next->Text(), "none");
    EXPECT_EQ(engine->Stats().outcomes_dropped, 1);
    wire.Report(wire.sent.back().attempt);
    time.RunReady();
    EXPECT_EQ(next->Text(), "200 null");
  }
}

class LinksTest : public WireTest {
 protected:
  LinksTest() : WireTest(/*by_links=*/true) {}
};

TEST_F(LinksTest, TheDevicesConnectionGoesOut) {
  AddDevice("d1", /*connected=*/false);
  wire.Connect("d1", true, 7);
  const auto first = Invoke("d1");
  wire.Connect("d1", true, 8);  // In the other's place.
  const auto second = Invoke("d1");
  ASSERT_EQ(wire.sent.size(), 2u);
  EXPECT_EQ(wire.sent[0].link, 7u);
  EXPECT_EQ(wire.sent[1].link, 8u);
}

TEST_F(LinksTest, ADeviceWithoutOneIsWaitedFor) {
  ASSERT_TRUE(
      engine->UpsertTwin(R"({"deviceId":"d1","connectionState":"Connected"})")
          .ok());
  EXPECT_EQ(Invoke("d1")->Text(), "DeviceNotOnline");
  const auto reply = Invoke("d1", Call(30, 10));
  EXPECT_TRUE(wire.sent.empty());
  wire.Connect("d1", true, 9);
  time.RunReady();
  ASSERT_EQ(wire.sent.size(), 1u);
  EXPECT_EQ(wire.sent[0].link, 9u);
  wire.Report(wire.sent[0].attempt);
  time.RunReady();
  EXPECT_EQ(reply->Text(), "200 null");
}

// ------------------------------------------------------------------ at random

// Everything at once, in every order: whatever happens, each call is answered
// once and in its time, no device has more than ten, and nothing is left.
class RandomMethods {
 public:
  explicit RandomMethods(uint64_t seed) : choices_(seed) {
    time_.SetOrder(
        [this](size_t n) { return choices_.Below(static_cast<uint32_t>(n)); });
    engine_ = *Engine::Create(
        {.transport = &wire_, .clock = &time_, .executor = &time_});
  }

  void Run() {
    wire_.room = 20;
    for (int step = 0; step < 3000; ++step) {
      Step();
      if (choices_.OneIn(2)) time_.RunOne();
      if (choices_.OneIn(8)) {
        time_.Advance(absl::Milliseconds(choices_.Below(1500)));
      }
      CheckBooks();
    }
    time_.Advance(absl::Seconds(40));
    CheckBooks();
    for (const auto& call : calls_) ASSERT_TRUE(call.reply->answered());
    const DirectMethodStats stats = engine_->Stats().direct_methods;
    EXPECT_EQ(stats.under_way, 0);
    int64_t failed = 0;
    for (const auto& [code, count] : stats.failed) failed += count;
    EXPECT_EQ(stats.succeeded + failed, static_cast<int64_t>(calls_.size()));
    EXPECT_GT(stats.succeeded, 50);
    for (const ErrorCode code :
         {ErrorCode::kDeviceNotFound, ErrorCode::kDeviceNotOnline,
          ErrorCode::kGatewayTimeout}) {
      EXPECT_GT(stats.failed.count(code), 0u) << static_cast<int>(code);
    }
    // Nothing is in flight: every device takes ten.
    wire_.room = 1'000'000;
    for (int d = 0; d < kDevices; ++d) {
      const std::string id = absl::StrCat("d", d);
      ASSERT_TRUE(engine_
                      ->UpsertTwin(absl::StrCat(R"({"deviceId":")", id,
                                                R"(","status":"enabled"})"))
                      .ok());
      wire_.Connect(id);
      for (int i = 0; i < kMethodsInFlightPerDeviceMax; ++i) {
        Invoke(id, 30, 0);
        time_.RunReady();
        ASSERT_EQ(calls_.back().reply->Text(), "none");
      }
    }
    engine_->Stop();
    for (const auto& call : calls_) ASSERT_TRUE(call.reply->answered());
  }

 private:
  static constexpr int kDevices = 6;

  struct OneCall {
    std::shared_ptr<Reply> reply;
    absl::Duration latest;  // When it has to be answered.
  };

  void Invoke(const std::string& device, int response, int connect) {
    calls_.push_back({std::make_shared<Reply>(time_),
                      time_.Monotonic() + absl::Seconds(response + connect)});
    engine_->InvokeMethod(device, Call(response, connect),
                          calls_.back().reply->Callback());
  }

  void Step() {
    const std::string id =
        absl::StrCat("d", choices_.Below(static_cast<uint32_t>(kDevices)));
    switch (choices_.Below(16)) {
      case 0:
        engine_->EraseTwin(id).IgnoreError();
        break;
      case 1:
      case 2:
        ASSERT_TRUE(engine_
                        ->UpsertTwin(absl::StrCat(R"({"deviceId":")", id,
                                                  R"(","status":"enabled"})"))
                        .ok());
        break;
      case 3:
        engine_->SetTwinEnabled(id, !choices_.OneIn(3)).IgnoreError();
        break;
      case 4:
      case 5:
        wire_.Connect(id, !choices_.OneIn(3));
        break;
      case 6:
        wire_.MakeRoom(choices_.Below(8));
        break;
      case 7:
      case 8:
      case 9:
      case 10:
        ReportSome();
        break;
      default:
        Invoke(id, 5 + choices_.IntBelow(10),
               choices_.OneIn(2) ? 0 : choices_.IntBelow(20));
    }
  }

  void ReportSome() {
    if (wire_.sent.empty()) return;
    static constexpr OutcomeCode kCodes[] = {
        OutcomeCode::kAnswered,     OutcomeCode::kAnswered,
        OutcomeCode::kAnswered,     OutcomeCode::kNotConnected,
        OutcomeCode::kNotConnected, OutcomeCode::kLinkLost,
        OutcomeCode::kError};
    // One of the last, or any: for the second time, or late.
    const size_t size = wire_.sent.size();
    const size_t of = choices_.OneIn(3) ? size : std::min<size_t>(size, 8);
    Wire::Sent& sent =
        wire_.sent[size - 1 - choices_.Below(static_cast<uint32_t>(of))];
    wire_.Report(sent.attempt, choices_.Pick(kCodes));
    if (!std::exchange(sent.has_outcome, true)) wire_.MakeRoom(1);
  }

  void CheckBooks() {
    const absl::Duration now = time_.Monotonic();
    for (const auto& call : calls_) {
      if (!call.reply->answered()) {
        // Its timer may be due, and not have run yet.
        ASSERT_LE(now, call.latest + absl::Milliseconds(1500));
      } else {
        ASSERT_LE(call.reply->at(), call.latest);
      }
    }
    // A key is never used twice.
    for (; checked_ < wire_.sent.size(); ++checked_) {
      ASSERT_TRUE(keys_.insert(wire_.sent[checked_].attempt.value).second);
    }
  }

  Choices choices_;
  SimulatedExecutor time_;
  Wire wire_;
  std::unique_ptr<Engine> engine_;
  std::vector<OneCall> calls_;
  std::set<uint64_t> keys_;
  size_t checked_ = 0;
};

TEST(EngineMethods, AtRandomEverybodyIsAnsweredOnceAndInTime) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    RandomMethods(seed).Run();
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace muster
