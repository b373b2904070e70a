// The conformance suite of the Transport port: a test for each sentence of
// engine/transport.h.
//
// An adapter's test implements TransportHarness, which owns the transport and
// plays the devices at its far end, and instantiates the suites:
//
//   INSTANTIATE_TEST_SUITE_P(Loopback, TransportConformanceTest,
//                            testing::Values(...), TransportHarnessName);
//
// TransportThreadsTest is for transports on real threads.
#ifndef TESTS_TRANSPORT_CONFORMANCE_H_
#define TESTS_TRANSPORT_CONFORMANCE_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/transport.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {

// What arrived at the far end.
struct DeviceCall {
  std::string device_id;
  std::string method;
  std::string payload;
};
struct DeviceNotification {
  std::string device_id;
  std::string patch;
  int64_t version = 0;
};

// A transport and its devices.  A device answers the method
//
//   "echo"   soon, but not at once: status 200,
//   {"device":<id>,"echo":<payload>} "never"  not at all.
class TransportHarness {
 public:
  virtual ~TransportHarness() = default;

  // Not started, without devices.
  virtual Transport& transport() = 0;

  // A new device, which the transport knows from now on.  Before Start() or
  // after.
  virtual void AddDevice(absl::string_view id, bool connected) = 0;
  // The device connects or disconnects.  Does not wait for the report.  Any
  // thread.
  virtual void SetConnected(absl::string_view id, bool connected) = 0;

  // How many calls of "echo" or "never", all to different devices, Send() takes
  // before one has ended.  In [2, 1000].
  virtual size_t send_window() const = 0;

  // In the order in which they arrived.
  virtual std::vector<DeviceCall> calls() = 0;
  virtual std::vector<DeviceNotification> notifications() = 0;

  // Lets time pass until `done` is true; false if that does not happen within a
  // time in which everything should have.
  virtual bool RunUntil(absl::FunctionRef<bool()> done) = 0;
  // Lets everything arrive that is under way.
  virtual void Settle() = 0;
};

struct TransportHarnessParam {
  std::string name;
  std::unique_ptr<TransportHarness> (*make)();
};

inline std::string TransportHarnessName(
    const testing::TestParamInfo<TransportHarnessParam>& info) {
  return info.param.name;
}
inline void PrintTo(const TransportHarnessParam& param, std::ostream* os) {
  *os << param.name;
}

// Keeps what a transport reports, in order, and complains about reports after
// Close().
class RecordingSink : public TransportSink {
 public:
  struct Event {
    enum class Kind { kOutcome, kConnection, kReady };
    Kind kind;
    AttemptKey attempt = {};  // kOutcome.
    OutcomeCode code = OutcomeCode::kAnswered;
    int32_t status = 0;
    std::string payload = {};
    std::string device_id = {};  // kConnection.
    bool connected = false;
    bool taken_over = false;  // In the place of a connection with another link.
  };

  void OnOutcomes(absl::Span<const Outcome> outcomes) override {
    EXPECT_FALSE(outcomes.empty());
    if (before_outcomes) before_outcomes();
    {
      absl::MutexLock lock(&mutex_);
      EXPECT_FALSE(closed_) << "an outcome after Shutdown()";
      for (const Outcome& outcome : outcomes) {
        events_.push_back({.kind = Event::Kind::kOutcome,
                           .attempt = outcome.attempt,
                           .code = outcome.code,
                           .status = outcome.status,
                           .payload = std::string(outcome.payload)});
      }
      outcome_count_ += outcomes.size();
    }
    if (on_outcomes) on_outcomes();
  }

  void OnConnections(absl::Span<const ConnectionChange> changes,
                     absl::Span<ConnectionAnswer> answers) override {
    EXPECT_FALSE(changes.empty());
    if (before_connections) before_connections(changes);
    {
      absl::MutexLock lock(&mutex_);
      EXPECT_FALSE(closed_) << "a connection after Shutdown()";
      TakeLinks(changes, answers);
    }
    if (on_connections) on_connections();
  }

  void OnReady() override {
    {
      absl::MutexLock lock(&mutex_);
      EXPECT_FALSE(closed_) << "OnReady() after Shutdown()";
      events_.push_back({.kind = Event::Kind::kReady});
      ++ready_count_;
    }
    if (on_ready) on_ready();
  }

  // From now on nothing may come.
  void Close() {
    absl::MutexLock lock(&mutex_);
    closed_ = true;
  }

  std::vector<Event> events() const {
    absl::MutexLock lock(&mutex_);
    return events_;
  }
  std::vector<Event> outcomes() const {
    std::vector<Event> outcomes;
    absl::MutexLock lock(&mutex_);
    for (const Event& event : events_) {
      if (event.kind == Event::Kind::kOutcome) outcomes.push_back(event);
    }
    return outcomes;
  }
  size_t outcome_count() const {
    absl::MutexLock lock(&mutex_);
    return outcome_count_;
  }
  size_t ready_count() const {
    absl::MutexLock lock(&mutex_);
    return ready_count_;
  }
  // The latest report; nullopt if there is none.
  std::optional<bool> connected(absl::string_view id) const {
    absl::MutexLock lock(&mutex_);
    const auto it = connected_.find(std::string(id));
    if (it == connected_.end()) return std::nullopt;
    return it->second;
  }

  // The device's connection as the engine would name it: the last one that was
  // reported, though it may have ended; 0: none, or without a number.
  uint64_t link(absl::string_view id) const {
    absl::MutexLock lock(&mutex_);
    const auto it = links_.find(std::string(id));
    return it == links_.end() ? 0 : it->second.link;
  }

  // Called before the report is kept, and after, without locks.  Set before the
  // transport can report.
  absl::AnyInvocable<void()> before_outcomes;
  absl::AnyInvocable<void(absl::Span<const ConnectionChange>)>
      before_connections;
  absl::AnyInvocable<void()> on_outcomes;
  absl::AnyInvocable<void()> on_connections;
  absl::AnyInvocable<void()> on_ready;

 private:
  struct Link {
    uint64_t link = 0;
    bool connected = false;
  };

  void TakeLinks(absl::Span<const ConnectionChange> changes,
                 absl::Span<ConnectionAnswer> answers)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (size_t i = 0; i < changes.size(); ++i) {
      const std::string id(changes[i].device_id);
      Link& link = links_[id];
      ConnectionAnswer answer{.known = true};
      // The end of a connection that is not the device's is ignored.
      if (changes[i].connected || link.link == changes[i].link) {
        events_.push_back({.kind = Event::Kind::kConnection,
                           .device_id = id,
                           .connected = changes[i].connected,
                           .taken_over = changes[i].connected &&
                                         link.connected &&
                                         link.link != changes[i].link});
      }
      if (changes[i].connected) {
        if (link.connected && link.link != changes[i].link) {
          answer.previous_link = link.link;
        }
        link = {.link = changes[i].link, .connected = true};
      } else if (link.link == changes[i].link) {
        link.connected = false;
      }
      connected_[id] = link.connected;
      if (!answers.empty()) answers[i] = answer;
    }
  }

  mutable absl::Mutex mutex_;
  std::vector<Event> events_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, bool> connected_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Link> links_ ABSL_GUARDED_BY(mutex_);
  size_t outcome_count_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t ready_count_ ABSL_GUARDED_BY(mutex_) = 0;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

// Owns the columns of a batch.
class BatchOf {
 public:
  explicit BatchOf(absl::string_view method, absl::string_view payload = "null",
                   absl::Duration response_timeout = absl::Seconds(30))
      : method_(std::make_shared<const MethodCall>(
            MethodCall{.name = std::string(method),
                       .payload = std::string(payload),
                       .response_timeout = response_timeout})) {}

  BatchOf& Add(uint64_t attempt, absl::string_view device_id) {
    attempts_.push_back({attempt});
    ids_.emplace_back(device_id);
    return *this;
  }

  // From `first` on, to the connections that `sink` has heard of.
  size_t SendTo(Transport& transport, const RecordingSink& sink,
                size_t first = 0) {
    std::vector<absl::string_view> views;
    std::vector<uint64_t> links;
    for (size_t i = first; i < ids_.size(); ++i) {
      if (transport.wants_device_ids()) views.push_back(ids_[i]);
      links.push_back(sink.link(ids_[i]));
    }
    return transport.Send(
        {.method = method_,
         .attempts = absl::MakeConstSpan(attempts_).subspan(first),
         .device_ids = views,
         .links = links});
  }

  // Makes unusable whatever may not be used after Send().
  void Spoil() {
    for (AttemptKey& attempt : attempts_) attempt.value = ~uint64_t{0};
    for (std::string& id : ids_) id.assign(id.size(), '?');
    method_ = nullptr;
  }

 private:
  std::shared_ptr<const MethodCall> method_;
  std::vector<AttemptKey> attempts_;
  std::vector<std::string> ids_;
};

// The tests' devices: attempt n goes to device n % kDevices unless it says
// otherwise, so that an outcome that went astray shows by itself.
inline std::string DeviceOf(uint64_t n) { return absl::StrCat("device-", n); }

inline std::string EchoOf(absl::string_view device, absl::string_view payload) {
  return absl::StrCat("{\"device\":\"", device, "\",\"echo\":", payload, "}");
}

class TransportTestBase : public testing::TestWithParam<TransportHarnessParam> {
 protected:
  TransportTestBase() : harness_(GetParam().make()) {}

  ~TransportTestBase() override { ShutDown(); }

  Transport& transport() { return harness_->transport(); }

  void Start() { transport().Start(&sink_); }
  void ShutDown() {
    transport().Shutdown();
    sink_.Close();
  }

  // Devices 0 to count - 1.
  void AddDevices(size_t count) {
    for (size_t i = 0; i < count; ++i) harness_->AddDevice(DeviceOf(i), true);
  }
  // Starts, and waits until `count` new devices are reported.
  void StartWith(size_t count) {
    AddDevices(count);
    Start();
    ASSERT_TRUE(harness_->RunUntil([&] {
      for (size_t i = 0; i < count; ++i) {
        if (sink_.connected(DeviceOf(i)) != true) return false;
      }
      return true;
    }));
  }
  bool WaitForOutcomes(size_t count) {
    return harness_->RunUntil([&] { return sink_.outcome_count() >= count; });
  }
  bool WaitUntilConnected(absl::string_view id, bool connected) {
    return harness_->RunUntil([&] { return sink_.connected(id) == connected; });
  }

  RecordingSink sink_;  // Outlives the transport.
  std::unique_ptr<TransportHarness> harness_;
};

class TransportConformanceTest : public TransportTestBase {};
class TransportThreadsTest : public TransportTestBase {};

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(TransportConformanceTest);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(TransportThreadsTest);

// "Devices that are already connected are reported from here on."
TEST_P(TransportConformanceTest, StartReportsWhoIsConnectedAlready) {
  harness_->AddDevice("early", true);
  harness_->AddDevice("absent", false);
  harness_->Settle();
  EXPECT_TRUE(sink_.events().empty());
  Start();
  EXPECT_TRUE(WaitUntilConnected("early", true));
  harness_->Settle();
  EXPECT_NE(sink_.connected("absent"), true);
}

TEST_P(TransportConformanceTest, DevicesThatComeLaterAreReported) {
  Start();
  harness_->AddDevice("late", true);
  EXPECT_TRUE(WaitUntilConnected("late", true));
  harness_->SetConnected("late", false);
  EXPECT_TRUE(WaitUntilConnected("late", false));
  harness_->SetConnected("late", true);
  EXPECT_TRUE(WaitUntilConnected("late", true));
}

// "The device answered; `status` and `payload` are its own."
TEST_P(TransportConformanceTest, OutcomesCarryWhatTheDeviceAnswered) {
  StartWith(2);
  BatchOf batch("echo", R"({"n":[1,2.5,"x"]})");
  EXPECT_EQ(batch.Add(70, DeviceOf(0))
                .Add(71, DeviceOf(1))
                .SendTo(transport(), sink_),
            2u);
  ASSERT_TRUE(WaitForOutcomes(2));
  for (const RecordingSink::Event& outcome : sink_.outcomes()) {
    EXPECT_EQ(outcome.code, OutcomeCode::kAnswered);
    EXPECT_EQ(outcome.status, 200);
    EXPECT_EQ(outcome.payload, EchoOf(DeviceOf(outcome.attempt.value - 70),
                                      R"({"n":[1,2.5,"x"]})"));
  }
}

// "Nothing in it is valid after Send() returns but `method`."
TEST_P(TransportConformanceTest, SendCopiesWhatItKeeps) {
  StartWith(1);
  BatchOf batch("echo", R"("kept")");
  EXPECT_EQ(batch.Add(5, DeviceOf(0)).SendTo(transport(), sink_), 1u);
  batch.Spoil();
  ASSERT_TRUE(WaitForOutcomes(1));
  EXPECT_EQ(sink_.outcomes()[0].attempt, AttemptKey{5});
  EXPECT_EQ(sink_.outcomes()[0].payload, EchoOf(DeviceOf(0), R"("kept")"));
}

TEST_P(TransportConformanceTest, AnEmptyBatchIsTakenWhole) {
  StartWith(1);
  EXPECT_EQ(BatchOf("echo").SendTo(transport(), sink_), 0u);
  harness_->Settle();
  EXPECT_EQ(sink_.outcome_count(), 0u);
}

// "draining(): Whether it has begun to end": whoever takes work has not.
TEST_P(TransportConformanceTest, WhoTakesWorkDoesNotDrain) {
  StartWith(1);
  EXPECT_FALSE(transport().draining());
  EXPECT_EQ(BatchOf("echo").Add(1, DeviceOf(0)).SendTo(transport(), sink_), 1u);
  harness_->Settle();
  EXPECT_EQ(sink_.outcome_count(), 1u);
  EXPECT_FALSE(transport().draining());
}

// "For each attempt that Send() took at most one outcome"; here each is
// answered, so exactly one.  "Each device is called at most once per attempt."
TEST_P(TransportConformanceTest, EachAttemptRunsOnceAndHasOneOutcome) {
  const size_t count = harness_->send_window();
  StartWith(count);
  uint64_t next = 0;
  for (int round = 0; round < 3; ++round) {
    BatchOf batch("echo");
    for (size_t i = 0; i < count; ++i) batch.Add(next++, DeviceOf(i));
    ASSERT_EQ(batch.SendTo(transport(), sink_), count);
    ASSERT_TRUE(WaitForOutcomes(next));
  }
  harness_->Settle();
  std::set<uint64_t> seen;
  for (const RecordingSink::Event& outcome : sink_.outcomes()) {
    EXPECT_TRUE(seen.insert(outcome.attempt.value).second);
    EXPECT_EQ(outcome.payload,
              EchoOf(DeviceOf(outcome.attempt.value % count), "null"));
  }
  EXPECT_EQ(seen.size(), next);
  std::map<std::string, int> called;
  for (const DeviceCall& call : harness_->calls()) ++called[call.device_id];
  EXPECT_EQ(called.size(), count);
  for (const auto& [device, times] : called) EXPECT_EQ(times, 3) << device;
}

// "Takes the first n executions of the batch and returns n; the others were not
// sent"; "Never blocks."
TEST_P(TransportConformanceTest, AFullTransportTakesAPrefixAndReturns) {
  const size_t window = harness_->send_window();
  StartWith(window + 10);
  BatchOf batch("never");
  for (size_t i = 0; i < window + 10; ++i) batch.Add(i, DeviceOf(i));
  const size_t taken = batch.SendTo(transport(), sink_);
  EXPECT_EQ(taken, window);
  EXPECT_EQ(batch.SendTo(transport(), sink_, taken), 0u);
  ASSERT_TRUE(
      harness_->RunUntil([&] { return harness_->calls().size() >= taken; }));
  std::set<std::string> called, expected;
  for (const DeviceCall& call : harness_->calls()) {
    EXPECT_TRUE(called.insert(call.device_id).second) << call.device_id;
  }
  for (size_t i = 0; i < taken; ++i) expected.insert(DeviceOf(i));
  EXPECT_EQ(called, expected);
}

// "OnReady(): Called at least once after each Send() that took fewer executions
// than it was offered"; "offered again after OnReady()".
TEST_P(TransportConformanceTest, OnReadyFollowsEachShortSend) {
  const size_t count = 5 * harness_->send_window() + 1;
  StartWith(count);
  BatchOf batch("echo");
  for (size_t i = 0; i < count; ++i) batch.Add(i, DeviceOf(i));
  size_t sent = 0;
  int short_sends = 0;
  while (true) {
    const size_t ready_before = sink_.ready_count();
    const size_t offered = count - sent;
    const size_t taken = batch.SendTo(transport(), sink_, sent);
    ASSERT_LE(taken, offered);
    sent += taken;
    if (taken == offered) break;
    ++short_sends;
    ASSERT_TRUE(
        harness_->RunUntil([&] { return sink_.ready_count() > ready_before; }));
  }
  EXPECT_GE(short_sends, 1);
  EXPECT_TRUE(WaitForOutcomes(count));
  harness_->Settle();
  EXPECT_EQ(sink_.outcome_count(), count);
  EXPECT_EQ(harness_->calls().size(), count);
}

// "Not connected; the method did not run."
TEST_P(TransportConformanceTest, AnAbsentDeviceIsNotCalled) {
  StartWith(1);
  harness_->SetConnected(DeviceOf(0), false);
  ASSERT_TRUE(WaitUntilConnected(DeviceOf(0), false));
  ASSERT_EQ(BatchOf("echo").Add(1, DeviceOf(0)).SendTo(transport(), sink_), 1u);
  ASSERT_TRUE(WaitForOutcomes(1));
  EXPECT_EQ(sink_.outcomes()[0].code, OutcomeCode::kNotConnected);
  harness_->Settle();
  EXPECT_TRUE(harness_->calls().empty());
}

// "Unknown or disabled; the method did not run."
TEST_P(TransportConformanceTest, AnUnknownDeviceIsNotCalled) {
  StartWith(1);
  ASSERT_EQ(BatchOf("echo").Add(1, "nobody").SendTo(transport(), sink_), 1u);
  ASSERT_TRUE(WaitForOutcomes(1));
  const OutcomeCode code = sink_.outcomes()[0].code;
  // A transport without a list of its own devices cannot tell the two apart.
  EXPECT_TRUE(code == OutcomeCode::kNoSuchDevice ||
              code == OutcomeCode::kNotConnected);
  harness_->Settle();
  EXPECT_TRUE(harness_->calls().empty());
}

// "No answer within response_timeout; it may have run": if it is said at all,
// then once and not before.
TEST_P(TransportConformanceTest, SilenceHasAtMostATimeoutForAnOutcome) {
  StartWith(2);
  BatchOf batch("never", "null", absl::Seconds(5));
  ASSERT_EQ(batch.Add(1, DeviceOf(0)).SendTo(transport(), sink_), 1u);
  // Others are answered meanwhile, before any timeout.
  ASSERT_EQ(BatchOf("echo").Add(2, DeviceOf(1)).SendTo(transport(), sink_), 1u);
  ASSERT_TRUE(WaitForOutcomes(1));
  EXPECT_EQ(sink_.outcomes()[0].attempt, AttemptKey{2});
  harness_->Settle();
  int outcomes = 0;
  for (const RecordingSink::Event& outcome : sink_.outcomes()) {
    if (outcome.attempt == AttemptKey{2}) continue;
    ++outcomes;
    EXPECT_EQ(outcome.code, OutcomeCode::kTimeout);
  }
  EXPECT_LE(outcomes, 1);
  EXPECT_EQ(harness_->calls().size(), 2u);
}

// "Changes of one device are reported in the order in which they happened."
TEST_P(TransportConformanceTest, ChangesOfOneDeviceKeepTheirOrder) {
  StartWith(2);
  bool connected = true;
  for (int i = 0; i < 51; ++i) {
    connected = !connected;
    harness_->SetConnected(DeviceOf(0), connected);
    harness_->SetConnected(DeviceOf(1), !connected);
  }
  ASSERT_TRUE(WaitUntilConnected(DeviceOf(0), false));
  ASSERT_TRUE(WaitUntilConnected(DeviceOf(1), true));
  harness_->Settle();
  // A transport may leave out a pair of changes, but not turn one around.
  std::map<std::string, bool> last;
  for (const RecordingSink::Event& event : sink_.events()) {
    if (event.kind != RecordingSink::Event::Kind::kConnection) continue;
    const auto it = last.find(event.device_id);
    if (it != last.end()) {
      EXPECT_TRUE(event.taken_over || it->second != event.connected);
    }
    last[event.device_id] = event.connected;
  }
  EXPECT_EQ(last[DeviceOf(0)], false);
  EXPECT_EQ(last[DeviceOf(1)], true);
}

// "A kNotConnected outcome comes after the report that the device
// disconnected."
TEST_P(TransportConformanceTest, NotConnectedComesAfterTheReport) {
  constexpr size_t kDevices = 20;
  StartWith(kDevices);
  uint64_t attempt = 0;
  for (size_t i = 0; i < kDevices; ++i) {
    harness_->SetConnected(DeviceOf(i), false);
    ASSERT_EQ(
        BatchOf("echo").Add(attempt++, DeviceOf(i)).SendTo(transport(), sink_),
        1u);
  }
  harness_->Settle();
  std::map<std::string, bool> connected;
  int not_connected = 0;
  for (const RecordingSink::Event& event : sink_.events()) {
    if (event.kind == RecordingSink::Event::Kind::kConnection) {
      connected[event.device_id] = event.connected;
    } else if (event.kind == RecordingSink::Event::Kind::kOutcome &&
               event.code == OutcomeCode::kNotConnected) {
      ++not_connected;
      EXPECT_FALSE(connected[DeviceOf(event.attempt.value)]);
    }
  }
  EXPECT_GE(not_connected, 1);
}

// Nor while the report is on its way: whoever sends before the sink has heard
// does not hear of it from an outcome.
TEST_P(TransportConformanceTest, NotConnectedWaitsForTheReportToArrive) {
  StartWith(1);
  uint64_t attempts = 0;
  sink_.before_connections = [&](absl::Span<const ConnectionChange> changes) {
    for (const ConnectionChange& change : changes) {
      if (change.connected) continue;
      EXPECT_EQ(BatchOf("echo")
                    .Add(attempts++, DeviceOf(0))
                    .SendTo(transport(), sink_),
                1u);
    }
  };
  harness_->SetConnected(DeviceOf(0), false);
  ASSERT_TRUE(WaitUntilConnected(DeviceOf(0), false));
  harness_->Settle();
  EXPECT_EQ(attempts, 1u);
  bool reported = false;
  for (const RecordingSink::Event& event : sink_.events()) {
    if (event.kind == RecordingSink::Event::Kind::kConnection) {
      reported = !event.connected;
    } else if (event.code == OutcomeCode::kNotConnected) {
      EXPECT_TRUE(reported);
    }
  }
}

// "Tells devices of new desired properties"; "For one device the engine calls
// in ascending order of versions, and the transport keeps it."
TEST_P(TransportConformanceTest, NotificationsArriveInOrder) {
  StartWith(3);
  const std::string ids[] = {DeviceOf(0), DeviceOf(1), DeviceOf(2)};
  std::vector<std::string> patches;
  for (int v = 0; v < 60; ++v)
    patches.push_back(absl::StrCat("{\"v\":", v, "}"));
  for (int v = 0; v < 60; v += 2) {
    std::vector<DesiredNotification> batch;
    for (int w = v; w < v + 2; ++w) {
      for (const std::string& id : ids) {
        batch.push_back({.device_id = id,
                         .link = sink_.link(id),
                         .patch = patches[w],
                         .version = w});
      }
    }
    transport().NotifyDesired(batch);
  }
  ASSERT_TRUE(harness_->RunUntil(
      [&] { return harness_->notifications().size() >= 3 * 60; }));
  harness_->Settle();
  std::map<std::string, int64_t> next;
  for (const DeviceNotification& n : harness_->notifications()) {
    EXPECT_EQ(n.version, next[n.device_id]++) << n.device_id;
    EXPECT_EQ(n.patch, patches[n.version]);
  }
  EXPECT_EQ(next.size(), 3u);
}

// "for a device that is connected"
TEST_P(TransportConformanceTest, AbsentDevicesAreToldNothing) {
  StartWith(2);
  harness_->SetConnected(DeviceOf(0), false);
  ASSERT_TRUE(WaitUntilConnected(DeviceOf(0), false));
  const std::string ids[] = {DeviceOf(0), DeviceOf(1), "nobody"};
  std::vector<DesiredNotification> batch;
  for (const std::string& id : ids) {
    batch.push_back(
        {.device_id = id, .link = sink_.link(id), .patch = "{}", .version = 4});
  }
  transport().NotifyDesired(batch);
  ASSERT_TRUE(
      harness_->RunUntil([&] { return !harness_->notifications().empty(); }));
  harness_->SetConnected(DeviceOf(0), true);
  harness_->Settle();
  ASSERT_EQ(harness_->notifications().size(), 1u);
  EXPECT_EQ(harness_->notifications()[0].device_id, DeviceOf(1));
}

// The sink is free to call back: no lock is held while it is called.
TEST_P(TransportConformanceTest, TheSinkMayCallTheTransport) {
  constexpr uint64_t kChain = 50;
  uint64_t next = 0;
  const auto send_next = [&] {
    if (next >= kChain) return;
    const uint64_t attempt = next++;
    const std::string id = DeviceOf(0);
    transport().NotifyDesired({{.device_id = id,
                                .link = sink_.link(id),
                                .patch = "{}",
                                .version = static_cast<int64_t>(attempt)}});
    EXPECT_EQ(BatchOf("echo").Add(attempt, id).SendTo(transport(), sink_), 1u);
  };
  sink_.on_outcomes = send_next;
  sink_.on_connections = send_next;
  harness_->AddDevice(DeviceOf(0), true);
  Start();
  ASSERT_TRUE(WaitForOutcomes(kChain));
  harness_->Settle();
  EXPECT_EQ(harness_->calls().size(), kChain);
}

// "Ends all work.  Once it has returned, the sink is called no more.  Attempts
// without an outcome stay without one."
TEST_P(TransportConformanceTest, NothingIsReportedAfterShutdown) {
  const size_t count = harness_->send_window();
  StartWith(count + 1);
  BatchOf batch("echo");
  for (size_t i = 0; i < count + 1; ++i) batch.Add(i, DeviceOf(i));
  EXPECT_EQ(batch.SendTo(transport(), sink_),
            count);  // OnReady() is owed, too.
  ShutDown();
  const size_t events = sink_.events().size();
  harness_->SetConnected(DeviceOf(0), false);
  harness_->AddDevice("late", true);
  harness_->Settle();
  EXPECT_EQ(sink_.events().size(), events);
}

// "0 after Shutdown()"
TEST_P(TransportConformanceTest, NothingIsTakenAfterShutdown) {
  StartWith(1);
  ShutDown();
  EXPECT_EQ(BatchOf("echo").Add(1, DeviceOf(0)).SendTo(transport(), sink_), 0u);
  const std::string id = DeviceOf(0);
  transport().NotifyDesired(
      {{.device_id = id, .link = sink_.link(id), .patch = "{}", .version = 1}});
  harness_->Settle();
  EXPECT_TRUE(harness_->calls().empty());
  EXPECT_TRUE(harness_->notifications().empty());
}

// "Idempotent."
TEST_P(TransportConformanceTest, ShutdownMayBeCalledAgain) {
  StartWith(1);
  ShutDown();
  transport().Shutdown();
  transport().Shutdown();
}

TEST_P(TransportConformanceTest, ShutdownMayComeBeforeStart) {
  AddDevices(1);
  ShutDown();
  EXPECT_TRUE(sink_.events().empty());
}

// --------------------------------------------------------------- real threads

// "Thread-safe": senders, and devices that come and go.  An attempt's key names
// its sender and its device; one that is lost, repeated or answered by another
// device shows by itself.
TEST_P(TransportThreadsTest, SendersDoNotDisturbEachOther) {
  constexpr uint64_t kSenders = 4, kPerSender = 2'000;
  constexpr uint64_t kDevices = 40;  // The last four come and go.
  StartWith(kDevices);
  std::atomic<uint64_t> ready{0};
  std::vector<std::thread> threads;
  for (uint64_t sender = 0; sender < kSenders; ++sender) {
    threads.emplace_back([this, sender] {
      BatchOf batch("echo");
      for (uint64_t i = 0; i < kPerSender; ++i) {
        const uint64_t attempt = sender * kPerSender + i;
        batch.Add(attempt, DeviceOf(attempt % kDevices));
      }
      for (size_t sent = 0; sent < kPerSender;) {
        // Before the Send(): a report that comes while it returns must count.
        const size_t ready_before = sink_.ready_count();
        const size_t taken = batch.SendTo(transport(), sink_, sent);
        sent += taken;
        if (sent == kPerSender) break;
        EXPECT_TRUE(harness_->RunUntil(
            [&] { return sink_.ready_count() > ready_before; }));
      }
    });
  }
  threads.emplace_back([this] {
    bool connected = true;
    for (int i = 0; i < 400; ++i) {
      if (i % 4 == 0) connected = !connected;
      harness_->SetConnected(DeviceOf(kDevices - 1 - i % 4), connected);
    }
  });
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(WaitForOutcomes(kSenders * kPerSender));
  harness_->Settle();

  std::set<uint64_t> seen;
  std::map<std::string, int> answered;
  std::map<std::string, bool> connected;
  for (const RecordingSink::Event& event : sink_.events()) {
    if (event.kind == RecordingSink::Event::Kind::kConnection) {
      const auto it = connected.find(event.device_id);
      if (it != connected.end()) {
        EXPECT_TRUE(event.taken_over || it->second != event.connected);
      }
      connected[event.device_id] = event.connected;
    }
    if (event.kind != RecordingSink::Event::Kind::kOutcome) continue;
    const uint64_t attempt = event.attempt.value;
    EXPECT_TRUE(seen.insert(attempt).second) << attempt;
    const std::string device = DeviceOf(attempt % kDevices);
    if (event.code == OutcomeCode::kNotConnected) {
      EXPECT_GE(attempt % kDevices, kDevices - 4) << attempt;
    } else {
      EXPECT_EQ(event.code, OutcomeCode::kAnswered);
      EXPECT_EQ(event.payload, EchoOf(device, "null"));
      ++answered[device];
    }
  }
  EXPECT_EQ(seen.size(), kSenders * kPerSender);
  // Each attempt has its outcome: none was called for one of them twice.
  std::map<std::string, int> called;
  for (const DeviceCall& call : harness_->calls()) ++called[call.device_id];
  EXPECT_EQ(called, answered);
}

// A device's kNotConnected is never ahead of the report, whoever sends while it
// disconnects.
TEST_P(TransportThreadsTest, NotConnectedIsNeverAheadOfTheReport) {
  constexpr uint64_t kDevices = 200;
  StartWith(kDevices);
  std::atomic<uint64_t> gone{0};  // Devices below are disconnecting or gone.
  std::thread disconnecter([&] {
    for (uint64_t i = 0; i < kDevices; ++i) {
      gone.store(i + 1);
      harness_->SetConnected(DeviceOf(i), false);
    }
  });
  uint64_t sent = 0;
  for (uint64_t device = 0; device < kDevices; ++device) {
    while (gone.load() <= device) std::this_thread::yield();
    sent += BatchOf("echo")
                .Add(device, DeviceOf(device))
                .SendTo(transport(), sink_);
  }
  disconnecter.join();
  ASSERT_TRUE(WaitForOutcomes(sent));
  harness_->Settle();
  std::set<std::string> reported;
  for (const RecordingSink::Event& event : sink_.events()) {
    if (event.kind == RecordingSink::Event::Kind::kConnection &&
        !event.connected) {
      reported.insert(event.device_id);
    }
    if (event.kind == RecordingSink::Event::Kind::kOutcome &&
        event.code == OutcomeCode::kNotConnected) {
      EXPECT_TRUE(reported.contains(DeviceOf(event.attempt.value)))
          << event.attempt.value;
    }
  }
}

// A change is not reported while the one before it is still on its way into the
// sink: here it happens in the middle of that, on another thread.
TEST_P(TransportThreadsTest, AReportDoesNotOvertakeTheOneBefore) {
  StartWith(1);
  bool first = true;
  sink_.before_connections = [&](absl::Span<const ConnectionChange>) {
    if (!std::exchange(first, false)) return;
    std::thread([&] { harness_->SetConnected(DeviceOf(0), true); }).join();
  };
  harness_->SetConnected(DeviceOf(0), false);
  harness_->Settle();
  std::vector<bool> changes;
  for (const RecordingSink::Event& event : sink_.events()) {
    if (event.kind == RecordingSink::Event::Kind::kConnection) {
      changes.push_back(event.connected);
    }
  }
  // A transport may leave out a pair of changes, but not turn one around.
  ASSERT_FALSE(changes.empty());
  for (size_t i = 1; i < changes.size(); ++i) {
    EXPECT_NE(changes[i - 1], changes[i]) << i;
  }
  EXPECT_EQ(changes.back(), true);
}

// Notifications of a device that one thread tells stay in order while others
// tell other devices.
TEST_P(TransportThreadsTest, NotifiersDoNotDisturbEachOther) {
  constexpr int kNotifiers = 4, kVersions = 500;
  StartWith(kNotifiers);
  std::vector<std::thread> threads;
  for (int n = 0; n < kNotifiers; ++n) {
    threads.emplace_back([this, n] {
      const std::string id = DeviceOf(n);
      for (int64_t version = 0; version < kVersions; ++version) {
        const std::string patch = absl::StrCat("{\"v\":", version, "}");
        transport().NotifyDesired({{.device_id = id,
                                    .link = sink_.link(id),
                                    .patch = patch,
                                    .version = version}});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(harness_->RunUntil([&] {
    return harness_->notifications().size() >= kNotifiers * kVersions;
  }));
  std::map<std::string, int64_t> next;
  for (const DeviceNotification& n : harness_->notifications()) {
    ASSERT_EQ(n.version, next[n.device_id]++) << n.device_id;
    ASSERT_EQ(n.patch, absl::StrCat("{\"v\":", n.version, "}"));
  }
}

// Shutdown() from any thread, while others send and devices come and go: the
// sink complains about whatever comes after it.
TEST_P(TransportThreadsTest, ShutdownStopsEverythingThatIsUnderWay) {
  constexpr uint64_t kSenders = 3;
  const size_t devices = harness_->send_window();
  StartWith(devices);
  std::atomic<bool> stopped{false};
  std::atomic<uint64_t> next{0};
  std::vector<std::thread> threads;
  for (uint64_t sender = 0; sender < kSenders; ++sender) {
    threads.emplace_back([&] {
      while (true) {
        const bool after = stopped.load();
        const uint64_t attempt = next.fetch_add(1);
        const size_t taken = BatchOf("echo")
                                 .Add(attempt, DeviceOf(attempt % devices))
                                 .SendTo(transport(), sink_);
        if (after) {
          EXPECT_EQ(taken, 0u);
          return;
        }
      }
    });
  }
  threads.emplace_back([&] {
    for (bool connected = false; !stopped.load(); connected = !connected) {
      harness_->SetConnected(DeviceOf(0), connected);
    }
  });
  ASSERT_TRUE(WaitForOutcomes(100));
  std::thread second([this] { transport().Shutdown(); });
  ShutDown();
  stopped.store(true);
  second.join();
  for (std::thread& thread : threads) thread.join();
  const size_t events = sink_.events().size();
  harness_->Settle();
  EXPECT_EQ(sink_.events().size(), events);
}

// A call of the sink that has begun ends before Shutdown() does: the sink
// complains if it is closed in the middle of one.
TEST_P(TransportThreadsTest, ShutdownWaitsForCallsOfTheSink) {
  StartWith(1);
  absl::Notification entered, may_leave;
  sink_.before_outcomes = [&] {
    entered.Notify();
    may_leave.WaitForNotification();
  };
  std::thread sender([&] {
    EXPECT_EQ(BatchOf("echo").Add(1, DeviceOf(0)).SendTo(transport(), sink_),
              1u);
  });
  entered.WaitForNotification();
  std::thread closer([&] { ShutDown(); });
  harness_->Settle();  // Time for Shutdown() to do the wrong thing.
  may_leave.Notify();
  closer.join();
  sender.join();
  EXPECT_EQ(sink_.outcome_count(), 1u);
}

}  // namespace muster

#endif  // TESTS_TRANSPORT_CONFORMANCE_H_
