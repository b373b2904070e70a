// GatewaySession over a stream that the test plays by hand, on simulated time:
// what sockets cannot make happen in a certain order.
#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/model/check.h"
#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "muster/v1/gateway_service.pb.h"
#include "tests/simulated/simulated_executor.h"
#include "tests/transport_conformance.h"
#include "transport/grpc/gateway/gateway_transport.h"
#include "transport/grpc/gateway/session.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using v1::AttachRequest;
using v1::AttachResponse;

AttachRequest Frame(const std::string& text) {
  AttachRequest frame;
  MUSTER_CHECK(google::protobuf::TextFormat::ParseFromString(text, &frame));
  return frame;
}

// The gateway's end.  What is written stays under way until Out() or Written().
class FakeStream : public GatewayStream {
 public:
  void StartRead(AttachRequest* frame) override {
    EXPECT_EQ(reading, nullptr) << "two reads at a time";
    reading = frame;
  }
  void StartWrite(const AttachResponse* frame) override {
    EXPECT_FALSE(finished.has_value()) << "a write behind the end";
    EXPECT_EQ(writing, nullptr) << "two writes at a time";
    writing = frame;
  }
  void Finish(const absl::Status& status) override {
    EXPECT_FALSE(finished.has_value()) << "a second end";
    EXPECT_EQ(writing, nullptr) << "the end while a frame is being written";
    finished = status;
  }
  void Cancel() override { canceled = true; }

  // The frame reaches the engine.
  void Give(const AttachRequest& frame) {
    ASSERT_NE(reading, nullptr);
    AttachRequest* const to = std::exchange(reading, nullptr);
    to->ParseFromString(frame.SerializeAsString());
    session->OnRead(true);
  }
  void Give(const std::string& text) { Give(Frame(text)); }
  // The stream breaks for those who read.
  void Break() {
    ASSERT_NE(reading, nullptr);
    reading = nullptr;
    session->OnRead(false);
  }
  void Written(bool ok = true) {
    ASSERT_NE(writing, nullptr);
    writing = nullptr;
    session->OnWritten(ok);
  }
  // Lets all be written that is there: the frames, in order.
  std::vector<AttachResponse> Out() {
    std::vector<AttachResponse> frames;
    while (writing != nullptr) {
      frames.push_back(*writing);
      Written();
    }
    return frames;
  }

  std::shared_ptr<GatewaySession> session;
  AttachRequest* reading = nullptr;
  const AttachResponse* writing = nullptr;
  std::optional<absl::Status> finished;
  bool canceled = false;
};

// An engine that knows some twins only, and is otherwise as RecordingSink.
class Sink : public RecordingSink {
 public:
  void OnConnections(absl::Span<const ConnectionChange> changes,
                     absl::Span<ConnectionAnswer> answers) override {
    RecordingSink::OnConnections(changes, answers);
    for (size_t i = 0; i < answers.size(); ++i) {
      if (absl::StartsWith(changes[i].device_id, "unknown")) {
        answers[i] = {.known = false};
      }
    }
  }
};

// Knows how many timers there are, and how far away the furthest was.
class CountingExecutor : public SimulatedExecutor {
 public:
  void RunAt(absl::Duration monotonic, Callback callback) override {
    furthest_ = std::max(furthest_, monotonic - Monotonic());
    SimulatedExecutor::RunAt(
        monotonic, [timer = timer_, callback = std::move(callback)]() mutable {
          timer = nullptr;
          std::move(callback)();
        });
  }
  // Timers that have not run.
  int timers() const { return static_cast<int>(timer_.use_count()) - 1; }
  absl::Duration furthest() const { return furthest_; }

 private:
  const std::shared_ptr<int> timer_ = std::make_shared<int>(0);
  absl::Duration furthest_ = absl::ZeroDuration();
};

class GatewaySessionTest : public testing::Test {
 protected:
  GatewaySessionTest() { Make({}); }
  ~GatewaySessionTest() override {
    transport_->Shutdown();
    sink_.Close();
  }

  void Make(GatewayTransportOptions options) {
    options.clock = &time_;
    options.executor = &time_;
    transport_ = *GatewayTransport::Create(options);
    transport_->Start(&sink_);
  }

  FakeStream* Open(GatewayAdmission admission = {}) {
    streams_.push_back(std::make_unique<FakeStream>());
    FakeStream* const stream = streams_.back().get();
    stream->session = *transport_->Open(stream, std::move(admission));
    stream->session->Begin();
    return stream;
  }
  // With Hello and Welcome behind it.
  FakeStream* Attach(uint32_t credit = 0, GatewayAdmission admission = {}) {
    FakeStream* const stream = Open(std::move(admission));
    stream->Give(absl::StrCat(
        "hello { protocol_version: 1 gateway: 'g' work_credit: ", credit, "}"));
    const std::vector<AttachResponse> frames = stream->Out();
    EXPECT_THAT(frames, SizeIs(1));
    EXPECT_EQ(frames[0].welcome().connect_credit(), 16u);
    return stream;
  }
  // The devices' handles.
  std::vector<uint32_t> Connect(FakeStream& stream,
                                const std::vector<std::string>& ids) {
    AttachRequest frame;
    for (const std::string& id : ids)
      frame.mutable_connect()->add_device_ids(id);
    stream.Give(frame);
    const std::vector<AttachResponse> frames = stream.Out();
    EXPECT_THAT(frames, SizeIs(1));
    EXPECT_EQ(frames[0].connected_size(), 1);
    return {frames[0].connected(0).handles().begin(),
            frames[0].connected(0).handles().end()};
  }
  size_t Send(uint64_t attempt, const std::string& id,
              absl::Duration timeout = absl::Seconds(30)) {
    return BatchOf("m", "{}", timeout)
        .Add(attempt, id)
        .SendTo(*transport_, sink_);
  }
  size_t SendAll(uint64_t first, const std::vector<std::string>& ids,
                 absl::Duration timeout = absl::Seconds(30)) {
    BatchOf batch("m", "{}", timeout);
    for (const std::string& id : ids) batch.Add(first++, id);
    return batch.SendTo(*transport_, sink_);
  }
  // "5:kAnswered 6:kNotConnected", in the order of the reports.
  std::string Outcomes() {
    static constexpr const char* kNames[] = {
        "answered",  "notconnected", "nohandler", "nosuchdevice", "busy",
        "badanswer", "toolarge",     "linklost",  "timeout",      "error"};
    std::string text;
    for (const RecordingSink::Event& e : sink_.outcomes()) {
      absl::StrAppend(&text, text.empty() ? "" : " ", e.attempt.value, ":",
                      kNames[static_cast<int>(e.code)]);
    }
    return text;
  }

  CountingExecutor time_;
  Sink sink_;
  std::vector<std::unique_ptr<FakeStream>> streams_;
  std::unique_ptr<GatewayTransport> transport_;
};

std::vector<uint32_t> Handles(const AttachResponse::MethodWork& work) {
  return {work.handles().begin(), work.handles().end()};
}

// ------------------------------------------------------------------ the form

TEST_F(GatewaySessionTest, HelloIsWelcomed) {
  FakeStream* const stream = Open();
  stream->Give("hello { protocol_version: 1 gateway: 'hall' }");
  const auto frames = stream->Out();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_EQ(frames[0].welcome().protocol_version(), 1u);
  ASSERT_THAT(transport_->gateways(), SizeIs(1));
  EXPECT_EQ(transport_->gateways()[0].name, "hall");
  EXPECT_EQ(transport_->gateways()[0].credit, 65'536);
}

TEST_F(GatewaySessionTest, FramesOfWrongFormEndTheStream) {
  struct Case {
    const char* frame;
    const char* field;
    bool is_first = false;
  };
  const std::string long_name(129, 'x');
  const std::string kLongName =
      absl::StrCat("hello { protocol_version: 1 gateway: '", long_name, "' }");
  const std::string kLongId =
      absl::StrCat("connect { device_ids: '", long_name, "' }");
  const Case kCases[] = {
      {"connect { device_ids: 'a' }", "hello", true},
      {"", "hello", true},
      {"hello { protocol_version: 2 gateway: 'g' }", "hello.protocol_version",
       true},
      {"hello { gateway: 'g' }", "hello.protocol_version", true},
      {"hello { protocol_version: 1 }", "hello.gateway", true},
      {kLongName.c_str(), "hello.gateway", true},
      {"hello { protocol_version: 1 gateway: 'g' work_credit: 1048577 }",
       "hello.work_credit", true},
      {"hello { protocol_version: 1 gateway: 'g' }", "hello"},
      {"work_credit: 1048577", "work_credit"},
      {"disconnect { handles: 0 }", "disconnect.handles"},
      {"connect { device_ids: '' }", "connect.device_ids"},
      {kLongId.c_str(), "connect.device_ids"},
      {"outcomes { range: 1 count: 2 codes: '\\001' statuses: 200 }",
       "outcomes.codes"},
      {"outcomes { range: 1 count: 1 codes: '\\000' statuses: 200 }",
       "outcomes.codes"},
      {"outcomes { range: 1 count: 1 codes: '\\013' statuses: 200 }",
       "outcomes.codes"},
      {"outcomes { range: 1 count: 1 codes: '\\377' statuses: 200 }",
       "outcomes.codes"},
      {"outcomes { range: 1 count: 3 statuses: [1, 2] }", "outcomes.statuses"},
      {"outcomes { range: 1 count: 1 }", "outcomes.statuses"},
      {"outcomes { range: 1 statuses: 1 }", "outcomes.count"},
      {"outcomes { range: 1 count: 1025 statuses: 1 }", "outcomes.count"},
      {"outcomes { range: 7 count: 4294967295 statuses: 1 }", "outcomes.count"},
      {"outcomes { range: 1 positions: 1 count: 1 statuses: 1 }",
       "outcomes.count"},
      {"outcomes { range: 1 positions: 1 first: 1 statuses: 1 }",
       "outcomes.count"},
      {"outcomes { range: 1 count: 3 statuses: 1 payload_sizes: [1, 1] "
       "payloads: '11' }",
       "outcomes.payload_sizes"},
      {"outcomes { range: 1 count: 1 statuses: 1 payload_sizes: 2 "
       "payloads: '1' }",
       "outcomes.payloads"},
      {"outcomes { range: 1 count: 1 statuses: 1 payloads: '1' }",
       "outcomes.payloads"},
      {"outcomes { range: 1 count: 2 statuses: 1 "
       "payload_sizes: [4294967295, 2] payloads: '1' }",
       "outcomes.payloads"},
  };
  int refused = 0;
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.frame);
    FakeStream* const stream = c.is_first ? Open() : Attach();
    stream->Give(c.frame);
    ASSERT_TRUE(stream->finished.has_value());
    EXPECT_EQ(stream->finished->code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(stream->finished->message()),
                ::testing::StartsWith(absl::StrCat(c.field, " ")));
    EXPECT_EQ(stream->reading, nullptr);
    stream->session->OnEnd();
    EXPECT_EQ(transport_->totals().refused_frames, ++refused);
    time_.RunReady();
    EXPECT_THAT(transport_->gateways(), IsEmpty());
  }
}

TEST_F(GatewaySessionTest, TooManyDeviceIdsInOneFrame) {
  FakeStream* const stream = Attach();
  AttachRequest frame;
  for (int i = 0; i < 4097; ++i) frame.mutable_connect()->add_device_ids("x");
  stream->Give(frame);
  ASSERT_TRUE(stream->finished.has_value());
  EXPECT_THAT(std::string(stream->finished->message()),
              HasSubstr("connect.device_ids must be at most 4096; got 4097"));
}

// Columns that one frame may have: what is over the limit is of wrong form,
// what is within it changes nothing here, as nobody has these handles.
TEST_F(GatewaySessionTest, AFramesColumnsHaveTheirLimits) {
  for (const bool too_many : {false, true}) {
    AttachRequest disconnect, outcomes, positions;
    for (int i = 0; i < 65'536 + too_many; ++i) {
      disconnect.mutable_disconnect()->add_handles(7);
      outcomes.add_outcomes()->set_count(1);
      outcomes.mutable_outcomes(i)->add_statuses(1);
    }
    positions.add_outcomes()->add_statuses(1);
    for (int i = 0; i < 1024 + too_many; ++i) {
      positions.mutable_outcomes(0)->add_positions(i);
    }
    const std::pair<const AttachRequest*, const char*> kFrames[] = {
        {&disconnect, "disconnect.handles must be at most 65536; got 65537"},
        {&outcomes, "outcomes must be at most 65536 entries; got 65537"},
        {&positions, "outcomes.positions must be 1 to 1024; got 1025"}};
    for (const auto& [frame, error] : kFrames) {
      SCOPED_TRACE(error);
      FakeStream* const stream = Attach();
      stream->Give(*frame);
      ASSERT_EQ(stream->finished.has_value(), too_many);
      if (!too_many) {
        // What it took is not kept for the next one.
        EXPECT_LT(stream->reading->SpaceUsedLong(), size_t{1} << 20);
        continue;
      }
      EXPECT_THAT(std::string(stream->finished->message()), HasSubstr(error));
    }
  }
}

TEST_F(GatewaySessionTest, HelloHasToComeInTime) {
  FakeStream* const stream = Open();
  time_.Advance(absl::Seconds(10) - absl::Nanoseconds(1));
  EXPECT_FALSE(stream->finished.has_value());
  time_.Advance(absl::Nanoseconds(1));
  ASSERT_TRUE(stream->finished.has_value());
  EXPECT_EQ(stream->finished->code(), absl::StatusCode::kDeadlineExceeded);
  stream->Break();
  stream->session->OnEnd();
  time_.RunReady();
  EXPECT_THAT(transport_->gateways(), IsEmpty());
}

TEST_F(GatewaySessionTest, AStreamLastsAsLongAsItsCredential) {
  auto stream = Attach(0, {.expires = time_.Now() + absl::Minutes(5)});
  time_.Advance(absl::Minutes(5) - absl::Seconds(1));
  EXPECT_FALSE(stream->finished.has_value());
  time_.Advance(absl::Seconds(1));
  ASSERT_TRUE(stream->finished.has_value());
  EXPECT_EQ(stream->finished->code(), absl::StatusCode::kUnauthenticated);
  stream->Break();
  stream->session->OnEnd();
  time_.RunReady();
  EXPECT_THAT(transport_->gateways(), IsEmpty());
  time_.Advance(absl::Minutes(1));
  EXPECT_EQ(time_.timers(), 0);
}

// Neither while it lives, however often it has something nearer to wait for,
// nor once it has ended.
TEST_F(GatewaySessionTest, AFarEndOfTheCredentialLeavesNoTimers) {
  FakeStream* const stream =
      Attach(0, {.expires = time_.Now() + absl::Hours(24 * 365)});
  Connect(*stream, {"a"});
  for (int i = 1; i <= 100; ++i) {
    EXPECT_EQ(Send(i, "a", absl::Seconds(5)), 1u);
    stream->Give(
        absl::StrCat("outcomes { range: ", stream->writing->methods(0).range(),
                     " count: 1 statuses: 1 }"));
    stream->Out();
    time_.Advance(absl::Seconds(20));
    EXPECT_LE(time_.timers(), 3);
  }
  EXPECT_LE(time_.furthest(), absl::Minutes(1));
  const std::weak_ptr<GatewaySession> session = stream->session;
  stream->Break();
  stream->session->OnEnd();
  time_.RunReady();
  stream->session = nullptr;
  EXPECT_TRUE(session.expired());
  time_.Advance(absl::Minutes(1));
  EXPECT_EQ(time_.timers(), 0);
}

// --------------------------------------------------------------- connections

TEST_F(GatewaySessionTest, DevicesGetHandlesOrAReason) {
  Make({.devices_per_session_max = 2});
  FakeStream* const stream = Attach(0, {.covers = [](absl::string_view id) {
                                      return !absl::StartsWith(id, "foreign");
                                    }});
  stream->Give("connect { device_ids: ['unknown', 'foreign', 'a', 'b', 'c'] }");
  const auto frames = stream->Out();
  ASSERT_THAT(frames, SizeIs(1));
  const AttachResponse::Connected& connected = frames[0].connected(0);
  ASSERT_EQ(connected.handles_size(), 5);
  EXPECT_EQ(connected.handles(0), 0u);
  EXPECT_EQ(connected.handles(1), 0u);
  EXPECT_NE(connected.handles(2), 0u);
  std::vector<std::pair<int, int>> refusals;
  for (const auto& refusal : connected.refusals()) {
    refusals.emplace_back(refusal.position(), refusal.error().code());
  }
  // The unknown one has its place until the engine has said so.
  EXPECT_THAT(refusals, ElementsAre(std::pair(0, 5), std::pair(1, 7),
                                    std::pair(3, 8), std::pair(4, 8)));
  EXPECT_EQ(sink_.connected("a"), true);
  EXPECT_EQ(sink_.connected("foreign"), std::nullopt);
}

// The question whom a credential covers holds up no work.
TEST_F(GatewaySessionTest, ScopesAreAskedWithoutTheSessionsMutex) {
  int asked = 0;
  FakeStream* const stream =
      Attach(0, {.covers = [&](absl::string_view id) {
               // Each takes the mutex.
               EXPECT_EQ(transport_->gateways().size(), 1u);
               if (sink_.connected("a") == true) {
                 EXPECT_EQ(Send(++asked, "a"), 1u);
               }
               return id != "foreign";
             }});
  EXPECT_NE(Connect(*stream, {"a"})[0], 0u);
  stream->Give("connect { device_ids: ['b', 'foreign'] }");
  stream->Out();
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(sink_.connected("b"), true);
  EXPECT_EQ(sink_.connected("foreign"), std::nullopt);
}

TEST_F(GatewaySessionTest, ConnectsBeyondTheCreditEndTheStream) {
  FakeStream* const stream = Attach();
  stream->Give(
      "connect { device_ids: 'd' }");  // Is being written from here on.
  for (int i = 0; i < 16; ++i) {
    stream->Give(absl::StrCat("connect { device_ids: 'd", i, "' }"));
    ASSERT_FALSE(stream->finished.has_value()) << i;
  }
  stream->Give("connect { device_ids: 'x' }");
  stream->Written();
  ASSERT_TRUE(stream->finished.has_value());
  EXPECT_EQ(stream->finished->code(), absl::StatusCode::kResourceExhausted);
}

// "While it is told, and until Connected is in a frame, nothing that names
// handles goes out."
TEST_F(GatewaySessionTest, WorkComesBehindTheHandlesThatItNames) {
  FakeStream* const stream = Attach();
  Connect(*stream, {"old"});
  sink_.on_connections = [&] {
    // On another thread, as far as the session can tell.
    EXPECT_EQ(SendAll(1, {"new", "old"}), 2u);
    EXPECT_EQ(stream->writing, nullptr);
  };
  stream->Give("connect { device_ids: 'new' }");
  sink_.on_connections = nullptr;
  const auto frames = stream->Out();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_EQ(frames[0].connected_size(), 1);
  ASSERT_EQ(frames[0].methods_size(), 1);
  EXPECT_EQ(frames[0].methods(0).handles_size(), 2);
}

TEST_F(GatewaySessionTest, AHandleIsNamedAgainAndItsOldWorkIsNot) {
  FakeStream* const stream = Attach(/*credit=*/1);
  const uint32_t a = Connect(*stream, {"a"})[0];
  EXPECT_EQ(Send(1, "a"), 1u);  // Goes out.
  EXPECT_EQ(Send(2, "a"), 1u);  // Waits for credit.
  ASSERT_THAT(stream->Out(), SizeIs(1));
  stream->Give(absl::StrCat("disconnect { handles: ", a, " }"));
  EXPECT_EQ(sink_.connected("a"), false);
  EXPECT_THAT(Connect(*stream, {"b"}), ElementsAre(a));
  EXPECT_EQ(Send(3, "b"), 1u);
  stream->Give("outcomes { range: 1 count: 1 codes: '\\002' }");
  const auto frames = stream->Out();
  ASSERT_THAT(frames, SizeIs(1));
  ASSERT_EQ(frames[0].methods_size(), 1);
  EXPECT_THAT(Handles(frames[0].methods(0)), ElementsAre(a));
  EXPECT_EQ(Outcomes(), "1:notconnected 2:notconnected");
  stream->Give(absl::StrCat("outcomes { range: ", frames[0].methods(0).range(),
                            " count: 1 statuses: 200 }"));
  EXPECT_EQ(Outcomes(), "1:notconnected 2:notconnected 3:answered");
}

TEST_F(GatewaySessionTest, WorkThatWaitsForAGoneDeviceEndsSoon) {
  FakeStream* const stream = Attach(/*credit=*/1);
  const std::vector<uint32_t> handles = Connect(*stream, {"a", "b", "c"});
  EXPECT_EQ(SendAll(1, {"c", "a", "b"}), 3u);
  stream->Out();
  stream->Give(absl::StrCat("disconnect { handles: ", handles[0], " }"));
  time_.Advance(absl::Milliseconds(999));
  EXPECT_EQ(Outcomes(), "");
  time_.Advance(absl::Milliseconds(1));
  EXPECT_EQ(Outcomes(), "2:notconnected");
  EXPECT_EQ(transport_->gateways()[0].waiting, 1);
}

// As the example in docs/gateway-protocol.md: the handle that has been free for
// longest is named, and one that was refused had one for a moment.
TEST_F(GatewaySessionTest, HandlesAreNamedInTheOrderInWhichTheyCameFree) {
  FakeStream* const stream = Attach();
  EXPECT_THAT(Connect(*stream, {"thermo-041", "thermo-042", "unknown-7"}),
              ElementsAre(1, 2, 0));
  stream->Give("disconnect { handles: 2 }");
  EXPECT_THAT(Connect(*stream, {"lock-9"}), ElementsAre(3));
}

TEST_F(GatewaySessionTest, HandlesThatAreNobodysAreIgnoredAndCounted) {
  FakeStream* const stream = Attach();
  const uint32_t a = Connect(*stream, {"a"})[0];
  stream->Give(absl::StrCat("disconnect { handles: [", a, ", ", a, ", 77] }"));
  EXPECT_FALSE(stream->finished.has_value());
  EXPECT_EQ(transport_->totals().handles_unknown, 2);
  EXPECT_EQ(transport_->gateways()[0].devices, 0);
}

// ------------------------------------------------------------------ take-over

TEST_F(GatewaySessionTest, ADeviceThatConnectsElsewhereIsDroppedHere) {
  FakeStream* const one = Attach(/*credit=*/1);
  FakeStream* const two = Attach();
  const uint32_t handle = Connect(*one, {"a"})[0];
  EXPECT_EQ(Send(1, "a"), 1u);
  EXPECT_EQ(Send(2, "a"), 1u);
  one->Out();
  const uint32_t other = Connect(*two, {"a"})[0];
  auto frames = one->Out();
  ASSERT_THAT(frames, SizeIs(1));
  ASSERT_EQ(frames[0].dropped_size(), 1);
  EXPECT_EQ(frames[0].dropped(0).reason(),
            AttachResponse::Dropped::REASON_TAKEN_OVER);
  EXPECT_THAT(frames[0].dropped(0).handles(), ElementsAre(handle));
  // What waits for it here goes back, what is out is this gateway's to answer.
  time_.Advance(absl::Seconds(1));
  EXPECT_EQ(Outcomes(), "2:notconnected");
  EXPECT_EQ(Send(3, "a"), 1u);
  frames = two->Out();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_THAT(Handles(frames[0].methods(0)), ElementsAre(other));
  one->Give("outcomes { range: 1 count: 1 statuses: 5 }");
  EXPECT_EQ(Outcomes(), "2:notconnected 1:answered");
  // Its end here is not the device's.
  one->Give(absl::StrCat("disconnect { handles: ", handle, " }"));
  EXPECT_EQ(sink_.connected("a"), true);
  EXPECT_EQ(transport_->gateways()[0].devices, 0);
  EXPECT_EQ(transport_->totals().handles_unknown, 0);
}

TEST_F(GatewaySessionTest, ADeviceThatConnectsTwiceHasTheLastHandle) {
  FakeStream* const stream = Attach();
  stream->Give("connect { device_ids: ['a', 'a'] }");
  const auto frames = stream->Out();
  ASSERT_THAT(frames, SizeIs(1));
  const auto& handles = frames[0].connected(0).handles();
  ASSERT_EQ(frames[0].dropped_size(), 1);
  EXPECT_THAT(frames[0].dropped(0).handles(), ElementsAre(handles[0]));
  EXPECT_EQ(Send(1, "a"), 1u);
  EXPECT_THAT(Handles(stream->Out()[0].methods(0)), ElementsAre(handles[1]));
}

TEST_F(GatewaySessionTest, AnErasedTwinsDeviceIsDropped) {
  FakeStream* const stream = Attach();
  const uint32_t handle = Connect(*stream, {"a"})[0];
  const uint64_t link = sink_.link("a");
  transport_->Disconnect({link, link, link ^ uint64_t{1} << 40, 12345});
  const auto frames = stream->Out();
  ASSERT_THAT(frames, SizeIs(1));
  ASSERT_EQ(frames[0].dropped_size(), 1);
  EXPECT_EQ(frames[0].dropped(0).reason(),
            AttachResponse::Dropped::REASON_TWIN_DELETED);
  EXPECT_THAT(frames[0].dropped(0).handles(), ElementsAre(handle));
}

// "Dropped goes out only if the handle is still dropped when the frame is
// filled": here it is another device's by then.
TEST_F(GatewaySessionTest, ADropThatHasBeenOvertakenIsNotTold) {
  FakeStream* const stream = Attach();
  const uint32_t handle = Connect(*stream, {"a"})[0];
  EXPECT_EQ(Send(1, "a"), 1u);  // A frame is being written from here on.
  transport_->Disconnect({sink_.link("a")});
  stream->Give(absl::StrCat("disconnect { handles: ", handle, " }"));
  stream->Give("connect { device_ids: 'b' }");
  const auto frames = stream->Out();
  ASSERT_THAT(frames, SizeIs(2));
  EXPECT_THAT(frames[1].connected(0).handles(), ElementsAre(handle));
  EXPECT_EQ(frames[1].dropped_size(), 0);
}

// However many of them have been overtaken, the last is told.
TEST_F(GatewaySessionTest, ADropBehindManyThatHaveBeenOvertakenIsTold) {
  constexpr uint32_t kOvertaken = 65'536;
  FakeStream* const stream = Attach();
  std::vector<uint64_t> links;
  for (int frame = 0; frame <= 16; ++frame) {
    std::vector<std::string> ids;
    for (int i = frame * 4096; i < (frame + 1) * 4096; ++i) {
      if (ids.size() + frame * size_t{4096} > kOvertaken) break;
      ids.push_back(absl::StrCat("d", i));
    }
    Connect(*stream, ids);
    for (const std::string& id : ids) links.push_back(sink_.link(id));
  }
  ASSERT_EQ(links.size(), kOvertaken + 1);
  EXPECT_EQ(Send(1, "d0"), 1u);  // A frame is being written from here on.
  transport_->Disconnect(links);
  AttachRequest frame;
  for (uint32_t handle = 1; handle <= kOvertaken; ++handle) {
    frame.mutable_disconnect()->add_handles(handle);
  }
  stream->Give(frame);
  const auto frames = stream->Out();
  ASSERT_THAT(frames, SizeIs(2));
  ASSERT_EQ(frames[1].dropped_size(), 1);
  EXPECT_THAT(frames[1].dropped(0).handles(), ElementsAre(kOvertaken + 1));
}

// ----------------------------------------------------------------- the sending

TEST_F(GatewaySessionTest, WorkCollectsWhileAFrameIsBeingWritten) {
  FakeStream* const stream = Attach();
  const std::vector<uint32_t> h = Connect(*stream, {"a", "b", "c"});
  BatchOf batch("m", "{\"x\":1}");
  batch.Add(1, "a").Add(2, "b").Add(3, "c").Add(4, "a").Add(5, "b");
  // Each Send() with one execution more than the last one offered.
  EXPECT_EQ(batch.SendTo(*transport_, sink_, 4), 1u);
  EXPECT_EQ(batch.SendTo(*transport_, sink_, 3), 2u);
  EXPECT_EQ(batch.SendTo(*transport_, sink_, 0), 5u);
  const auto frames = stream->Out();
  ASSERT_THAT(frames, SizeIs(2));
  EXPECT_THAT(Handles(frames[0].methods(0)), ElementsAre(h[1]));
  ASSERT_EQ(frames[1].methods_size(), 1);
  EXPECT_THAT(Handles(frames[1].methods(0)),
              ElementsAre(h[0], h[1], h[0], h[1], h[2], h[0], h[1]));
  EXPECT_EQ(frames[1].methods(0).method_name(), "m");
  EXPECT_EQ(frames[1].methods(0).payload(), "{\"x\":1}");
  EXPECT_EQ(frames[1].methods(0).response_timeout_ms(), 30'000u);
}

TEST_F(GatewaySessionTest, RangesAndFramesHaveTheirLimits) {
  FakeStream* const stream = Attach();
  std::vector<std::string> ids;
  for (int i = 0; i < 4000; ++i) ids.push_back(absl::StrCat("d", i));
  Connect(*stream, ids);
  EXPECT_EQ(SendAll(0, ids), 4000u);
  // The first 1,024 went out at once, as nothing was being written.  Later ones
  // stand in blocks: a frame is full with the block that reaches its limit.
  EXPECT_EQ(stream->writing->methods(0).handles_size(), 1024);
  for (int i = 1; i < 10; ++i) EXPECT_EQ(SendAll(i * 4000, ids), 4000u);
  std::vector<int> executions;
  for (const AttachResponse& frame : stream->Out()) {
    executions.push_back(0);
    for (const auto& work : frame.methods()) {
      EXPECT_LE(work.handles_size(), 1024);
      executions.back() += work.handles_size();
    }
  }
  EXPECT_THAT(executions, ElementsAre(1024, 17'024, 17'024, 4928));
}

TEST_F(GatewaySessionTest, WhatIsUnansweredStaysWithinTheCredit) {
  FakeStream* const stream = Attach(/*credit=*/10);
  std::vector<std::string> ids;
  for (int i = 0; i < 25; ++i) ids.push_back(absl::StrCat("d", i));
  const std::vector<uint32_t> h = Connect(*stream, ids);
  EXPECT_EQ(SendAll(0, ids), 25u);
  auto frames = stream->Out();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_THAT(frames[0].methods(0).handles(), SizeIs(10));
  stream->Give("outcomes { range: 1 first: 2 count: 4 statuses: 1 }");
  frames = stream->Out();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_THAT(Handles(frames[0].methods(0)),
              ElementsAre(h[10], h[11], h[12], h[13]));
  stream->Give("work_credit: 12");
  frames = stream->Out();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_THAT(Handles(frames[0].methods(0)), ElementsAre(h[14], h[15]));
  stream->Give("work_credit: 3 outcomes { range: 1 count: 2 statuses: 1 }");
  EXPECT_EQ(stream->writing, nullptr);
  const AttachedGateway stats = transport_->gateways()[0];
  EXPECT_EQ(stats.unanswered, 10);
  EXPECT_EQ(stats.waiting, 9);
  EXPECT_EQ(stats.credit, 3);
}

// Answers that come one by one do not make ranges of one.
TEST_F(GatewaySessionTest, CreditIsGatheredForARange) {
  FakeStream* const stream = Attach(/*credit=*/640);
  std::vector<std::string> ids;
  for (int i = 0; i < 2000; ++i) ids.push_back(absl::StrCat("d", i));
  Connect(*stream, ids);
  EXPECT_EQ(SendAll(0, ids), 2000u);
  // Ranges that are out, in the order in which they went.
  std::deque<AttachResponse::MethodWork> out;
  std::vector<int> sizes;
  const auto take = [&] {
    for (const AttachResponse& frame : stream->Out()) {
      for (const auto& work : frame.methods()) {
        sizes.push_back(work.handles_size());
        out.push_back(work);
      }
    }
  };
  for (take(); !out.empty(); out.pop_front()) {
    for (int i = 0; i < out.front().handles_size(); ++i) {
      stream->Give(absl::StrCat("outcomes { range: ", out.front().range(),
                                " first: ", i, " count: 1 statuses: 1 }"));
      EXPECT_LE(transport_->gateways()[0].unanswered, 640);
      take();
    }
  }
  EXPECT_EQ(sink_.outcome_count(), 2000u);
  EXPECT_EQ(transport_->gateways()[0].waiting, 0);
  // A sixteenth of the credit each, but for the ends of blocks.
  EXPECT_EQ(sizes[0], 640);
  EXPECT_LE(sizes.size(), 1 + (2000 - 640) / 40 + 2);
}

TEST_F(GatewaySessionTest, WhatWaitsHasLessTimeAndThenNone) {
  FakeStream* const stream = Attach(/*credit=*/1);
  Connect(*stream, {"a"});
  EXPECT_EQ(Send(1, "a", absl::Seconds(30)), 1u);
  EXPECT_EQ(Send(2, "a", absl::Seconds(5)), 1u);
  EXPECT_EQ(Send(3, "a", absl::Seconds(20)), 1u);
  stream->Out();
  time_.Advance(absl::Seconds(5));
  EXPECT_EQ(Outcomes(), "2:timeout");
  EXPECT_EQ(transport_->totals().expired_waiting, 1);
  time_.Advance(absl::Seconds(3));
  stream->Give("outcomes { range: 1 count: 1 statuses: 1 }");
  const auto frames = stream->Out();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_EQ(frames[0].methods(0).response_timeout_ms(), 12'000u);
}

TEST_F(GatewaySessionTest, RangesThatNobodyWaitsForAreFreed) {
  Make({.in_flight_max = 2});
  FakeStream* const stream = Attach(/*credit=*/2);
  Connect(*stream, {"a"});
  EXPECT_EQ(SendAll(1, {"a", "a", "a"}, absl::Seconds(5)), 2u);
  stream->Out();
  const size_t ready = sink_.ready_count();
  time_.Advance(absl::Seconds(15) - absl::Nanoseconds(1));
  EXPECT_EQ(sink_.ready_count(), ready);
  time_.Advance(absl::Nanoseconds(1));
  EXPECT_EQ(sink_.ready_count(), ready + 1);
  EXPECT_EQ(transport_->totals().expired_unanswered, 2);
  stream->Give("outcomes { range: 1 count: 2 statuses: 1 }");
  EXPECT_EQ(transport_->totals().outcomes_dropped, 2);
  EXPECT_EQ(Outcomes(), "");
  EXPECT_EQ(SendAll(3, {"a", "a"}), 2u);
  EXPECT_NE(stream->Out()[0].methods(0).range(), 1u);
}

TEST_F(GatewaySessionTest, ASlowGatewayDoesNotHoldUpTheOthers) {
  FakeStream* const slow = Attach();
  FakeStream* const fast = Attach();
  std::vector<std::string> ids;
  AttachRequest of_slow, of_fast;
  for (int i = 0; i < 1000; ++i) {
    ids.push_back(absl::StrCat(i % 2 == 0 ? "slow" : "fast", i));
    (i % 2 == 0 ? of_slow : of_fast).mutable_connect()->add_device_ids(ids[i]);
  }
  slow->Give(of_slow);  // Its first frame never leaves.
  fast->Give(of_fast);
  fast->Out();
  for (int round = 0; round < 20; ++round) {
    EXPECT_EQ(SendAll(round * 1000, ids), 1000u);
    const auto frames = fast->Out();
    ASSERT_THAT(frames, SizeIs(1));
    EXPECT_EQ(frames[0].methods(0).handles_size(), 500);
    fast->Give(absl::StrCat("outcomes { range: ", frames[0].methods(0).range(),
                            " count: 500 statuses: 1 }"));
  }
  EXPECT_EQ(sink_.outcome_count(), 10'000u);
  EXPECT_EQ(transport_->gateways()[0].waiting, 10'000);
}

// What is sent is a prefix, though others have room; OnReady() follows, once.
TEST_F(GatewaySessionTest, AFullSessionCutsTheBatchThere) {
  Make({.in_flight_max = 8});
  FakeStream* const one = Attach();
  FakeStream* const two = Attach();
  Connect(*one, {"a"});
  Connect(*two, {"b"});
  std::vector<std::string> ids;
  for (int i = 0; i < 40; ++i) ids.push_back(i % 4 == 0 ? "a" : "b");
  // "b" is full at 8 of them: at 4n + 1, 2, 3 for n = 0, 1, and 9, 10.
  EXPECT_EQ(SendAll(0, ids), 11u);
  EXPECT_EQ(transport_->gateways()[0].unanswered, 3);
  EXPECT_EQ(transport_->gateways()[1].unanswered, 8);
  EXPECT_EQ(SendAll(100, {"b", "a"}), 0u);
  EXPECT_EQ(SendAll(100, {"a", "b"}), 1u);
  EXPECT_EQ(sink_.ready_count(), 0u);
  one->Out();
  two->Out();
  // An eighth has to be free: one.
  one->Give("outcomes { range: 1 count: 1 statuses: 1 }");
  EXPECT_EQ(sink_.ready_count(), 0u);  // Nobody is owed anything for "a".
  two->Give("outcomes { range: 1 count: 1 statuses: 1 }");
  EXPECT_EQ(sink_.ready_count(), 1u);
  two->Give("outcomes { range: 1 first: 1 count: 3 statuses: 1 }");
  EXPECT_EQ(sink_.ready_count(), 1u);
}

TEST_F(GatewaySessionTest, LinksThatNobodyHasAreNotConnected) {
  FakeStream* const stream = Attach();
  Connect(*stream, {"a"});
  EXPECT_EQ(SendAll(1, {"nobody", "a", "nobody"}), 3u);
  EXPECT_EQ(Outcomes(), "1:notconnected 3:notconnected");
  EXPECT_THAT(Handles(stream->Out()[0].methods(0)), SizeIs(1));
}

// ----------------------------------------------------------------- outcomes

TEST_F(GatewaySessionTest, ColumnsBecomeOutcomes) {
  FakeStream* const stream = Attach();
  std::vector<std::string> ids;
  for (int i = 0; i < 10; ++i) ids.push_back(absl::StrCat("d", i));
  Connect(*stream, ids);
  EXPECT_EQ(SendAll(0, ids), 10u);
  stream->Out();
  stream->Give(
      "outcomes { range: 1 positions: [7, 3] codes: '\\001\\007'"
      "  statuses: [-4, 9] payload_sizes: [2, 0] payloads: '{}' }"
      "outcomes { range: 1 first: 4 count: 2 statuses: 200"
      "  payload_sizes: 4 payloads: 'true' }"
      "outcomes { range: 1 positions: [9, 8, 6] statuses: [1, 2, 3]"
      "  payload_sizes: [1, 0, 3] payloads: '1[2]' }"
      "outcomes { range: 1 first: 0 count: 3"
      "  codes: '\\003\\012\\011' }");
  std::map<uint64_t, std::string> got;
  for (const RecordingSink::Event& e : sink_.outcomes()) {
    EXPECT_EQ(got.count(e.attempt.value), 0u);
    got[e.attempt.value] =
        absl::StrCat(static_cast<int>(e.code), " ", e.status, " ", e.payload);
  }
  EXPECT_THAT(
      got, ElementsAre(std::pair(0, "2 0 "), std::pair(1, "9 0 "),
                       std::pair(2, "8 0 "), std::pair(3, "6 0 "),
                       std::pair(4, "0 200 true"), std::pair(5, "0 200 true"),
                       std::pair(6, "0 3 [2]"), std::pair(7, "0 -4 {}"),
                       std::pair(8, "0 2 "), std::pair(9, "0 1 1")));
  EXPECT_EQ(transport_->gateways()[0].unanswered, 0);
}

TEST_F(GatewaySessionTest, OutcomesAreTakenOnceAndFromWhomTheyWereAskedOf) {
  FakeStream* const one = Attach();
  FakeStream* const two = Attach();
  Connect(*one, {"a", "b", "c"});
  Connect(*two, {"x"});
  EXPECT_EQ(SendAll(1, {"a", "b", "c"}), 3u);
  EXPECT_EQ(Send(10, "x"), 1u);
  one->Out();
  two->Out();
  // Both have a range 1: each session has its own.
  two->Give("outcomes { range: 1 first: 1 count: 2 statuses: 1 }");
  EXPECT_EQ(Outcomes(), "");
  EXPECT_EQ(transport_->totals().outcomes_dropped, 2);
  one->Give(
      "outcomes { range: 1 positions: [2, 2, 7, 4000000000] statuses: 1 }");
  EXPECT_EQ(Outcomes(), "3:answered");
  EXPECT_EQ(transport_->totals().outcomes_dropped, 5);
  one->Give("outcomes { range: 1 first: 1 count: 1024 statuses: 1 }");
  EXPECT_EQ(Outcomes(), "3:answered 2:answered");
  one->Give("outcomes { range: 2 count: 1 statuses: 1 }");
  one->Give(
      "outcomes { range: 1 first: 4294967295 count: 1024 "
      "statuses: 1 }");
  one->Give("outcomes { range: 1 count: 3 statuses: 1 }");
  EXPECT_EQ(Outcomes(), "3:answered 2:answered 1:answered");
  one->Give("outcomes { range: 1 count: 3 statuses: 1 }");  // It is gone.
  EXPECT_EQ(Outcomes(), "3:answered 2:answered 1:answered");
  EXPECT_EQ(transport_->totals().outcomes, 3);
  EXPECT_FALSE(one->finished.has_value());
}

TEST_F(GatewaySessionTest, WhatIsNoJsonOrTooLargeIsNotAnAnswer) {
  FakeStream* const stream = Attach();
  Connect(*stream, {"a", "b", "c", "d"});
  EXPECT_EQ(SendAll(1, {"a", "b", "c", "d"}), 4u);
  stream->Out();
  const std::string large = absl::StrCat("\"", std::string(131'071, 'x'), "\"");
  AttachRequest frame;
  auto* outcomes = frame.add_outcomes();
  outcomes->set_range(1);
  outcomes->set_count(4);
  outcomes->add_statuses(200);
  for (const std::string& text :
       {std::string("{bad"), std::string("{bad"), large, std::string("{}")}) {
    outcomes->add_payload_sizes(static_cast<uint32_t>(text.size()));
    outcomes->mutable_payloads()->append(text);
  }
  stream->Give(frame);
  EXPECT_EQ(Outcomes(), "1:badanswer 2:badanswer 3:toolarge 4:answered");
}

// -------------------------------------------------------------------- the end

TEST_F(GatewaySessionTest, AStreamThatBreaksReportsDevicesThenExecutions) {
  FakeStream* const stream = Attach(/*credit=*/2);
  Connect(*stream, {"a", "b", "c"});
  EXPECT_EQ(SendAll(1, {"a", "b", "c"}), 3u);
  stream->Out();
  stream->Give("outcomes { range: 1 first: 1 count: 1 statuses: 1 }");
  EXPECT_THAT(stream->Out(), SizeIs(1));  // 3 is out.
  EXPECT_EQ(Send(4, "a"), 1u);            // Waits.
  const size_t before = sink_.events().size();
  stream->Break();
  ASSERT_TRUE(stream->finished.has_value());
  EXPECT_TRUE(stream->finished->ok());
  stream->session->OnEnd();
  EXPECT_EQ(sink_.events().size(), before);
  EXPECT_EQ(Send(5, "b"), 1u);  // Comes while it is on its way out.
  EXPECT_EQ(sink_.events().size(), before);
  time_.RunReady();
  const std::vector<RecordingSink::Event> events = sink_.events();
  ASSERT_EQ(events.size(), before + 3 + 4);
  for (size_t i = before; i < before + 3; ++i) {
    EXPECT_EQ(events[i].kind, RecordingSink::Event::Kind::kConnection);
    EXPECT_FALSE(events[i].connected);
  }
  std::map<uint64_t, OutcomeCode> codes;
  for (const auto& e : sink_.outcomes()) codes[e.attempt.value] = e.code;
  EXPECT_THAT(codes, ElementsAre(std::pair(1, OutcomeCode::kLinkLost),
                                 std::pair(2, OutcomeCode::kAnswered),
                                 std::pair(3, OutcomeCode::kLinkLost),
                                 std::pair(4, OutcomeCode::kNotConnected),
                                 std::pair(5, OutcomeCode::kNotConnected)));
  EXPECT_THAT(transport_->gateways(), IsEmpty());
  EXPECT_EQ(Send(6, "a"), 1u);
  EXPECT_EQ(sink_.outcomes().back().code, OutcomeCode::kNotConnected);
}

TEST_F(GatewaySessionTest, AFullSessionThatDiesHasRoomAgain) {
  Make({.in_flight_max = 1});
  FakeStream* const stream = Attach();
  Connect(*stream, {"a"});
  EXPECT_EQ(SendAll(1, {"a", "a"}), 1u);
  stream->Out();
  stream->Break();
  EXPECT_EQ(sink_.ready_count(), 0u);
  time_.RunReady();
  EXPECT_EQ(sink_.ready_count(), 1u);
}

// A link of a stream that has ended names nobody on any later one, although
// serials and handles are used again.
TEST_F(GatewaySessionTest, LinksOfLongAgoNameNobody) {
  std::set<uint64_t> links;
  FakeStream* const first = Attach();
  Connect(*first, {"a"});
  const uint64_t link = sink_.link("a");
  first->Break();
  time_.RunReady();
  first->session->OnEnd();
  for (int i = 0; i < 65'535; ++i) {
    FakeStream stream;
    stream.session = *transport_->Open(&stream, {});
    stream.session->Begin();
    if (i < 65'534) {
      stream.Break();
      time_.RunReady();
      stream.session->OnEnd();
      continue;
    }
    stream.Give(
        "hello { protocol_version: 1 gateway: 'g' }"
        "connect { device_ids: 'b' }");
    EXPECT_EQ(sink_.link("b") >> 48, link >> 48) << "not the same serial";
    EXPECT_EQ(sink_.link("b") & 0xffffffff, link & 0xffffffff);
    EXPECT_NE(sink_.link("b"), link);
    stream.Out();
    EXPECT_EQ(Send(1, "a"), 1u);  // By its old link.
    EXPECT_EQ(stream.writing, nullptr);
    EXPECT_EQ(Outcomes(), "1:notconnected");
    stream.Break();
    time_.RunReady();
  }
}

TEST_F(GatewaySessionTest, TheEndWaitsForTheFrameThatIsBeingWritten) {
  FakeStream* const stream = Attach();
  stream->Give("connect { device_ids: 'a' }");
  stream->Give("hello {}");
  EXPECT_FALSE(stream->finished.has_value());
  time_.Advance(absl::Seconds(5) - absl::Nanoseconds(1));
  EXPECT_FALSE(stream->canceled);
  time_.Advance(absl::Nanoseconds(1));
  EXPECT_TRUE(stream->canceled);
  stream->Written(false);
  ASSERT_TRUE(stream->finished.has_value());
  EXPECT_EQ(stream->finished->code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(GatewaySessionTest, AFailedWriteIsTheLast) {
  FakeStream* const stream = Attach();
  stream->Give("connect { device_ids: 'a' }");
  EXPECT_EQ(Send(1, "a"), 1u);
  stream->Written(false);
  EXPECT_EQ(stream->writing, nullptr);
  EXPECT_EQ(Send(2, "a"), 1u);
  EXPECT_EQ(stream->writing, nullptr);
  stream->Break();
  time_.RunReady();
  EXPECT_EQ(Outcomes(), "1:notconnected 2:notconnected");
}

TEST_F(GatewaySessionTest, ShutdownEndsEveryStream) {
  FakeStream* const open = Attach();
  FakeStream* const writing = Attach();
  FakeStream* const hello = Open();
  writing->Give("connect { device_ids: 'a' }");
  transport_->Shutdown();
  sink_.Close();
  ASSERT_TRUE(open->finished.has_value());
  EXPECT_EQ(open->finished->code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(hello->finished.has_value());
  EXPECT_FALSE(writing->finished.has_value());
  writing->Written();
  EXPECT_TRUE(writing->finished.has_value());
  // What still comes is for nobody.
  open->Give("connect { device_ids: 'b' }");
  writing->Break();
  time_.Advance(absl::Hours(1));
  FakeStream late;
  EXPECT_EQ(transport_->Open(&late, {}).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST_F(GatewaySessionTest, DrainingTellsGatewaysAndSendsNoMore) {
  FakeStream* const stream = Attach(/*credit=*/1);
  Connect(*stream, {"a", "b"});
  EXPECT_EQ(SendAll(1, {"a", "b"}), 2u);
  stream->Out();
  const size_t ready = sink_.ready_count();
  EXPECT_FALSE(transport_->draining());
  transport_->BeginDrain();
  EXPECT_TRUE(transport_->draining());
  EXPECT_GT(sink_.ready_count(), ready);  // For those who wait for room.
  transport_->BeginDrain();
  const auto frames = stream->Out();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_TRUE(frames[0].draining());
  // What has not gone out has not run: nobody has to wait to know.
  EXPECT_EQ(Outcomes(), "2:notconnected");
  EXPECT_EQ(transport_->gateways()[0].waiting, 0);
  EXPECT_EQ(Send(3, "a"), 0u);
  FakeStream late;
  EXPECT_EQ(transport_->Open(&late, {}).status().code(),
            absl::StatusCode::kUnavailable);
  stream->Give("outcomes { range: 1 count: 1 statuses: 1 }");
  EXPECT_EQ(stream->writing, nullptr);
  EXPECT_FALSE(transport_->AwaitDrained(absl::ZeroDuration()));
  stream->Break();  // It closes, having answered.
  time_.RunReady();
  EXPECT_TRUE(transport_->AwaitDrained(absl::ZeroDuration()));
  EXPECT_EQ(Outcomes(), "2:notconnected 1:answered");
}

TEST_F(GatewaySessionTest, ThereIsALimitToSessions) {
  Make({.sessions_max = 2});
  FakeStream* const a = Open();
  Open();
  FakeStream c;
  EXPECT_EQ(transport_->Open(&c, {}).status().code(),
            absl::StatusCode::kResourceExhausted);
  a->Break();
  time_.RunReady();
  EXPECT_TRUE(transport_->Open(&c, {}).ok());
}

// --------------------------------------------------------------- notifications

TEST_F(GatewaySessionTest, NotificationsShareTheirPatch) {
  FakeStream* const stream = Attach();
  const std::vector<uint32_t> h = Connect(*stream, {"a", "b"});
  const uint64_t a = sink_.link("a"), b = sink_.link("b");
  EXPECT_EQ(Send(1, "a"), 1u);  // A frame is being written from here on.
  transport_->NotifyDesired({{.link = a, .patch = "{\"x\":1}", .version = 2},
                             {.link = b, .patch = "{\"x\":1}", .version = 7},
                             {.link = a, .patch = "{\"x\":2}", .version = 3},
                             {.link = 99, .patch = "{\"x\":2}", .version = 3},
                             {.link = a, .patch = "{\"x\":1}", .version = 4}});
  const auto frames = stream->Out();
  ASSERT_THAT(frames, SizeIs(2));
  ASSERT_EQ(frames[1].desired_size(), 3);
  EXPECT_EQ(frames[1].desired(0).patch(), "{\"x\":1}");
  EXPECT_THAT(frames[1].desired(0).handles(), ElementsAre(h[0], h[1]));
  EXPECT_THAT(frames[1].desired(0).versions(), ElementsAre(2, 7));
  EXPECT_THAT(frames[1].desired(1).versions(), ElementsAre(3));
  EXPECT_THAT(frames[1].desired(2).versions(), ElementsAre(4));
}

TEST_F(GatewaySessionTest, NotificationsThatNobodyReadsHaveALimit) {
  FakeStream* const stream = Attach();
  Connect(*stream, {"a"});
  EXPECT_EQ(Send(1, "a"), 1u);  // A frame that never leaves.
  const std::string patch(1 << 20, 'x');
  std::vector<std::string> patches;
  for (int i = 0; i < 70; ++i) patches.push_back(absl::StrCat(i, patch));
  for (int i = 0; i < 70; ++i) {
    transport_->NotifyDesired(
        {{.link = sink_.link("a"), .patch = patches[i], .version = i}});
  }
  EXPECT_EQ(transport_->totals().notifications_dropped, 70 - 63);
}

// Small ones that differ cost what they are kept in; those that share a patch
// are counted.
TEST_F(GatewaySessionTest, SmallNotificationsHaveLimitsToo) {
  FakeStream* const stream = Attach();
  Connect(*stream, {"a"});
  const uint64_t link = sink_.link("a");
  EXPECT_EQ(Send(1, "a"), 1u);  // A frame that never leaves.
  constexpr int kFit = (64 << 20) / (192 + 1);
  std::vector<DesiredNotification> notifications;
  // None shares its patch with the last one that had room.
  const std::string kPatches = "0123456789";
  for (int i = 0; i < kFit + 9; ++i) {
    notifications.push_back(
        {.link = link,
         .patch = absl::string_view(kPatches).substr(i % 10, 1),
         .version = i});
  }
  transport_->NotifyDesired(notifications);
  EXPECT_EQ(transport_->totals().notifications_dropped, 9);

  FakeStream* const other = Attach();
  Connect(*other, {"b"});
  EXPECT_EQ(Send(2, "b"), 1u);
  notifications.assign(4096, {.link = sink_.link("b"), .patch = "{}"});
  for (int i = 0; i < 256; ++i) transport_->NotifyDesired(notifications);
  EXPECT_EQ(transport_->totals().notifications_dropped, 9);
  notifications.resize(7);
  transport_->NotifyDesired(notifications);
  EXPECT_EQ(transport_->totals().notifications_dropped, 16);
}

// ------------------------------------------------------------------ at random

// Gateways that connect, disconnect, die, answer, repeat and lie at random, as
// seen by both ends: each attempt has at most one outcome, and exactly one once
// all is over; what is answered was answered for the right device; a gateway is
// never asked for a device that it never had by that handle.
class RandomGateways : public GatewaySessionTest,
                       public testing::WithParamInterface<int> {};

TEST_P(RandomGateways, KeepTheirBooks) {
  Make({.in_flight_max = 64});
  std::mt19937 random(GetParam());
  SCOPED_TRACE(absl::StrCat("seed ", GetParam()));
  const auto pick = [&](int n) { return static_cast<int>(random() % n); };
  struct Range {
    uint32_t number;
    std::vector<std::string> devices;
  };
  struct Peer {
    FakeStream* stream;
    std::map<uint32_t, std::string> handles;
    std::vector<std::vector<std::string>> connecting;
    std::vector<Range> ranges;
    bool dead = false;
  };
  std::vector<std::unique_ptr<Peer>> peers;
  std::map<uint64_t, std::string> device_of;
  uint64_t next_attempt = 1;
  constexpr int kDevices = 12;

  // What the gateway learns from a frame.
  const auto take = [&](Peer& peer) {
    if (peer.stream->writing == nullptr) return;
    const AttachResponse frame = *peer.stream->writing;
    for (const auto& connected : frame.connected()) {
      const std::vector<std::string> ids = peer.connecting.front();
      peer.connecting.erase(peer.connecting.begin());
      for (size_t i = 0; i < ids.size(); ++i) {
        const uint32_t handle = connected.handles(static_cast<int>(i));
        ASSERT_NE(handle, 0u);
        ASSERT_EQ(peer.handles.count(handle), 0u) << "named twice";
        peer.handles[handle] = ids[i];
      }
    }
    AttachRequest goodbye;
    for (const auto& dropped : frame.dropped()) {
      for (const uint32_t handle : dropped.handles()) {
        if (peer.handles.erase(handle) == 0) continue;
        goodbye.mutable_disconnect()->add_handles(handle);
      }
    }
    for (const auto& work : frame.methods()) {
      Range range{work.range(), {}};
      for (const uint32_t handle : work.handles()) {
        const auto it = peer.handles.find(handle);
        range.devices.push_back(it == peer.handles.end() ? "" : it->second);
      }
      peer.ranges.push_back(std::move(range));
    }
    peer.stream->Written();
    if (goodbye.has_disconnect() && peer.stream->reading != nullptr) {
      peer.stream->Give(goodbye);
    }
  };

  for (int step = 0; step < 3000; ++step) {
    if (peers.size() < 3) {
      auto peer = std::make_unique<Peer>();
      peer->stream = Open();
      peer->stream->Give(
          absl::StrCat("hello { protocol_version: 1 gateway: 'g' work_credit: ",
                       1 + pick(40), "}"));
      peers.push_back(std::move(peer));
    }
    Peer& peer = *peers[pick(static_cast<int>(peers.size()))];
    FakeStream& stream = *peer.stream;
    switch (pick(10)) {
      case 0: {  // Connects.
        if (peer.connecting.size() >= 8) break;
        AttachRequest frame;
        std::vector<std::string> ids;
        for (int i = pick(4); i >= 0; --i) {
          ids.push_back(DeviceOf(pick(kDevices)));
          frame.mutable_connect()->add_device_ids(ids.back());
        }
        peer.connecting.push_back(ids);
        stream.Give(frame);
        break;
      }
      case 1: {  // Disconnects.
        if (peer.handles.empty()) break;
        auto it = peer.handles.begin();
        std::advance(it, pick(static_cast<int>(peer.handles.size())));
        const uint32_t handle = it->first;
        peer.handles.erase(it);
        stream.Give(absl::StrCat("disconnect { handles: ", handle, " }"));
        break;
      }
      case 2:
      case 3: {  // The engine sends.
        BatchOf batch("m", "{}", absl::Seconds(300));
        std::vector<std::string> devices;
        for (int i = pick(20); i >= 0; --i) {
          devices.push_back(DeviceOf(pick(kDevices)));
          batch.Add(next_attempt + devices.size() - 1, devices.back());
        }
        const size_t sent = batch.SendTo(*transport_, sink_);
        for (size_t i = 0; i < sent; ++i)
          device_of[next_attempt++] = devices[i];
        break;
      }
      case 4:
      case 5:
      case 6: {  // A frame arrives.
        take(peer);
        break;
      }
      case 7:
      case 8: {  // Answers, in any order, again and again, or for nobody.
        if (peer.ranges.empty()) break;
        const Range& range =
            peer.ranges[pick(static_cast<int>(peer.ranges.size()))];
        AttachRequest frame;
        auto* outcomes = frame.add_outcomes();
        outcomes->set_range(range.number + (pick(20) == 0 ? 1 : 0));
        for (int i = pick(10); i >= 0; --i) {
          const size_t position =
              pick(static_cast<int>(range.devices.size()) + 2);
          const std::string device =
              position < range.devices.size() ? range.devices[position] : "";
          // What is said for a range that is not this one is a lie.
          const std::string payload = outcomes->range() != range.number
                                          ? "\"lie\""
                                          : absl::StrCat("\"", device, "\"");
          outcomes->add_positions(static_cast<uint32_t>(position));
          outcomes->mutable_codes()->push_back(device.empty() ? 2 : 1);
          outcomes->add_statuses(1);
          outcomes->add_payload_sizes(static_cast<uint32_t>(payload.size()));
          outcomes->mutable_payloads()->append(payload);
        }
        stream.Give(frame);
        break;
      }
      case 9: {
        if (pick(20) != 0) {
          time_.Advance(absl::Milliseconds(pick(2000)));
          break;
        }
        stream.Break();
        if (stream.writing != nullptr) stream.Written(false);
        stream.session->OnEnd();
        for (size_t i = 0; i < peers.size(); ++i) {
          if (peers[i].get() != &peer) continue;
          peers.erase(peers.begin() + static_cast<ptrdiff_t>(i));
          break;
        }
        break;
      }
    }
    if (HasFatalFailure()) return;
  }
  for (auto& peer : peers) {
    if (peer->stream->writing != nullptr) peer->stream->Written(false);
    peer->stream->Break();
    peer->stream->session->OnEnd();
  }
  time_.Advance(absl::Minutes(1));
  std::set<uint64_t> seen;
  int answered = 0;
  for (const RecordingSink::Event& e : sink_.outcomes()) {
    EXPECT_TRUE(seen.insert(e.attempt.value).second) << e.attempt.value;
    if (e.code != OutcomeCode::kAnswered || e.payload == "\"lie\"") continue;
    ++answered;
    EXPECT_EQ(e.payload, absl::StrCat("\"", device_of[e.attempt.value], "\""));
  }
  EXPECT_EQ(seen.size(), device_of.size());
  EXPECT_GT(answered, 100);
  for (int i = 0; i < kDevices; ++i) {
    EXPECT_NE(sink_.connected(DeviceOf(i)), true) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomGateways, testing::Range(0, 50));

}  // namespace
}  // namespace muster
