// The simulated fleet: the same seed does the same, shares and times are what
// the options say, windows fill and empty, and bad options are refused by name.
#include "transport/loopback/loopback.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/transport.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/simulated/simulated_executor.h"
#include "transport/loopback/loopback_options.h"

namespace muster {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Distribution = LoopbackLatency::Distribution;

// What one execution came to, and when.
struct Result {
  OutcomeCode code;
  int32_t status;
  std::string payload;
  absl::Duration time;

  friend bool operator==(const Result&, const Result&) = default;
};

// A transport on simulated time, and everything it says.
class Fleet : public TransportSink {
 public:
  explicit Fleet(const LoopbackOptions& options) {
    absl::StatusOr<std::unique_ptr<LoopbackTransport>> transport =
        LoopbackTransport::Create(options, &executor, &executor);
    EXPECT_TRUE(transport.ok()) << transport.status();
    loopback = *std::move(transport);
  }

  ~Fleet() override { loopback->Shutdown(); }

  // Adds `count` devices before anything else.
  void Start(size_t count = 0) {
    std::vector<std::string> ids;
    for (size_t i = 0; i < count; ++i) ids.push_back(Id(i));
    loopback->AddDevices(
        std::vector<absl::string_view>(ids.begin(), ids.end()));
    loopback->Start(this);
  }

  static std::string Id(size_t i) { return absl::StrCat("device-", i); }

  // Sends `method` to devices [first, last), as attempts with the numbers of
  // the devices plus `offset`.  Returns how many were taken.
  size_t Call(absl::string_view method, size_t first, size_t last,
              uint64_t offset = 0, absl::string_view payload = "null",
              absl::Duration response_timeout = absl::Seconds(30)) {
    std::vector<std::string> ids;
    std::vector<AttemptKey> attempts;
    for (size_t i = first; i < last; ++i) {
      ids.push_back(Id(i));
      attempts.push_back({i + offset});
    }
    std::vector<absl::string_view> views(ids.begin(), ids.end());
    return loopback->Send(
        {.method = std::make_shared<const MethodCall>(
             MethodCall{.name = std::string(method),
                        .payload = std::string(payload),
                        .response_timeout = response_timeout}),
         .attempts = attempts,
         .device_ids = views});
  }

  // Calls one device and waits for the outcome.
  std::optional<Result> Ask(absl::string_view method, size_t device,
                            absl::string_view payload = "null") {
    const uint64_t attempt = 1'000'000 + next_++;
    EXPECT_EQ(Call(method, device, device + 1, attempt - device, payload), 1u);
    executor.Advance(absl::Hours(1));
    const auto it = results.find(attempt);
    if (it == results.end()) return std::nullopt;
    return it->second;
  }

  void OnOutcomes(absl::Span<const Outcome> outcomes) override {
    ++reports;
    for (const Outcome& outcome : outcomes) {
      const bool first =
          results
              .insert({outcome.attempt.value,
                       {outcome.code, outcome.status,
                        std::string(outcome.payload), executor.Monotonic()}})
              .second;
      EXPECT_TRUE(first) << outcome.attempt.value;
    }
  }
  void OnConnections(absl::Span<const ConnectionChange> new_changes,
                     absl::Span<ConnectionAnswer>) override {
    for (const ConnectionChange& change : new_changes) {
      const std::string id(change.device_id);
      connected[id] = change.connected;
      changes.push_back({id, change.connected, executor.Monotonic()});
    }
  }
  void OnReady() override { ++ready; }

  struct Change {
    std::string device_id;
    bool connected;
    absl::Duration time;

    friend bool operator==(const Change&, const Change&) = default;
  };

  SimulatedExecutor executor;
  std::unique_ptr<LoopbackTransport> loopback;
  std::map<uint64_t, Result> results;
  std::map<std::string, bool> connected;
  std::vector<Change> changes;
  int reports = 0;
  int ready = 0;

 private:
  uint64_t next_ = 0;
};

constexpr OutcomeCode kAnswered = OutcomeCode::kAnswered;

// -------------------------------------------------------------------- answers

TEST(LoopbackTest, TheDefaultAnswersAtOnce) {
  Fleet fleet({});
  fleet.Start();
  EXPECT_EQ(fleet.Call("reboot", 0, 1000), 1000u);
  ASSERT_EQ(fleet.results.size(), 1000u);  // From inside Send().
  for (const auto& [attempt, result] : fleet.results) {
    EXPECT_EQ(result, (Result{kAnswered, 200, "", absl::ZeroDuration()}));
  }
  EXPECT_LE(fleet.reports, 4);
  EXPECT_EQ(fleet.loopback->in_flight(), 0);
}

TEST(LoopbackTest, AnswersStatusAndPayload) {
  LoopbackOptions options;
  options.response_status = 418;
  options.response_payload = R"({"ok":true})";
  Fleet fleet(options);
  fleet.Start();
  EXPECT_EQ(fleet.Ask("m", 0),
            (Result{kAnswered, 418, R"({"ok":true})", absl::ZeroDuration()}));
}

TEST(LoopbackTest, FillsInPlaceholders) {
  LoopbackOptions options;
  options.response_payload =
      R"(["${payload}","${device_id}/${method}","$ ${x} ${payload}"])";
  Fleet fleet(options);
  fleet.Start();
  EXPECT_EQ(fleet.Ask("lock\"Door", 7, R"({"a":[1]})")->payload,
            R"([{"a":[1]},"device-7/lock\"Door","$ ${x} ${payload}"])");
}

TEST(LoopbackTest, PlaceholdersWorkWithDelaysToo) {
  LoopbackOptions options;
  options.response_payload = R"("${device_id}")";
  options.latency = {.distribution = Distribution::kUniform,
                     .min = absl::Milliseconds(1),
                     .max = absl::Milliseconds(9)};
  Fleet fleet(options);
  fleet.Start();
  fleet.Call("m", 0, 600);
  EXPECT_TRUE(fleet.results.empty());
  EXPECT_EQ(fleet.loopback->in_flight(), 600);
  fleet.executor.Advance(absl::Seconds(1));
  ASSERT_EQ(fleet.results.size(), 600u);
  for (const auto& [attempt, result] : fleet.results) {
    EXPECT_EQ(result.payload, absl::StrCat("\"device-", attempt, "\""));
  }
  EXPECT_EQ(fleet.loopback->in_flight(), 0);
  // One call for each tick, not for each device.
  EXPECT_LE(fleet.reports, 9 + 600 / 256);
}

// --------------------------------------------------------------------- shares

LoopbackOptions Spoilt() {
  LoopbackOptions options;
  options.seed = 11;
  options.error_status_share = 0.10;
  options.error_status = 503;
  options.no_handler_share = 0.05;
  options.no_answer_share = 0.08;
  options.bad_response_share = 0.03;
  options.response_too_large_share = 0.02;
  options.link_lost_share = 0.07;
  options.busy_share = 0.04;
  options.latency = {.distribution = Distribution::kLognormal,
                     .min = absl::Milliseconds(5),
                     .median = absl::Milliseconds(60),
                     .p99 = absl::Milliseconds(900)};
  options.slow_share = 0.1;
  options.slow_factor = 20;
  return options;
}

TEST(LoopbackTest, KindsOfOutcomesHaveTheirShares) {
  constexpr size_t kDevices = 50'000;
  Fleet fleet(Spoilt());
  fleet.Start();
  fleet.Call("reboot", 0, kDevices);
  fleet.executor.Advance(absl::Hours(1));
  std::map<OutcomeCode, double> share;
  double errors = 0;
  for (const auto& [attempt, result] : fleet.results) {
    share[result.code] += 1.0 / kDevices;
    if (result.code == kAnswered && result.status == 503) {
      errors += 1.0 / kDevices;
    }
  }
  // Ten standard deviations of 50,000 draws are at most 0.014.
  EXPECT_NEAR(errors, 0.10, 0.014);
  EXPECT_NEAR(share[kAnswered] - errors, 0.61, 0.022);
  EXPECT_NEAR(share[OutcomeCode::kNoHandler], 0.05, 0.010);
  EXPECT_NEAR(1 - fleet.results.size() * 1.0 / kDevices, 0.08, 0.013);
  EXPECT_NEAR(share[OutcomeCode::kBadResponse], 0.03, 0.008);
  EXPECT_NEAR(share[OutcomeCode::kResponseTooLarge], 0.02, 0.007);
  EXPECT_NEAR(share[OutcomeCode::kLinkLost], 0.07, 0.012);
  EXPECT_NEAR(share[OutcomeCode::kBusy], 0.04, 0.009);
  EXPECT_EQ(share.size(), 6u);
}

TEST(LoopbackTest, ASeedDecidesWhateverTheOrderOfTheCalls) {
  constexpr size_t kDevices = 2'000;
  Fleet a(Spoilt()), b(Spoilt());
  a.Start();
  b.Start();
  a.Call("reboot", 0, kDevices);
  a.Call("ping", 0, kDevices, kDevices);
  // Backwards, in pieces.
  for (size_t i = kDevices; i > 0; i -= 100) {
    b.Call("ping", i - 100, i, kDevices);
    b.Call("reboot", i - 100, i);
  }
  a.executor.Advance(absl::Hours(1));
  b.executor.Advance(absl::Hours(1));
  EXPECT_EQ(a.results, b.results);

  LoopbackOptions options = Spoilt();
  options.seed = 12;
  Fleet c(options);
  c.Start();
  c.Call("reboot", 0, kDevices);
  c.Call("ping", 0, kDevices, kDevices);
  c.executor.Advance(absl::Hours(1));
  EXPECT_NE(a.results, c.results);
}

TEST(LoopbackTest, AKindBelongsToDeviceAndMethodNotToTheAttempt) {
  LoopbackOptions options;
  options.busy_share = 0.5;
  Fleet fleet(options);
  fleet.Start();
  constexpr size_t kDevices = 500;
  fleet.Call("a", 0, kDevices);
  fleet.Call("a", 0, kDevices, 10'000);
  fleet.Call("b", 0, kDevices, 20'000);
  int differ = 0;
  for (size_t i = 0; i < kDevices; ++i) {
    EXPECT_EQ(fleet.results.at(i).code, fleet.results.at(i + 10'000).code);
    if (fleet.results.at(i).code != fleet.results.at(i + 20'000).code) ++differ;
  }
  EXPECT_GT(differ, 150);
  EXPECT_LT(differ, 350);
}

TEST(LoopbackTest, AShareOfOneIsEverybody) {
  LoopbackOptions options;
  options.no_handler_share = 1;
  Fleet fleet(options);
  fleet.Start();
  fleet.Call("m", 0, 5'000);
  for (const auto& [attempt, result] : fleet.results) {
    ASSERT_EQ(result.code, OutcomeCode::kNoHandler);
  }
  EXPECT_EQ(fleet.results.size(), 5'000u);
}

// ---------------------------------------------------------------------- times

std::vector<absl::Duration> Latencies(const LoopbackOptions& options,
                                      size_t devices) {
  Fleet fleet(options);
  fleet.Start();
  fleet.Call("m", 0, devices);
  fleet.executor.Advance(absl::Hours(2000));
  std::vector<absl::Duration> times;
  for (const auto& [attempt, result] : fleet.results) {
    times.push_back(result.time);
  }
  EXPECT_EQ(times.size(), devices);
  std::sort(times.begin(), times.end());
  return times;
}

TEST(LoopbackLatencyTest, Constant) {
  LoopbackOptions options;
  options.latency.value = absl::Milliseconds(40);
  const std::vector<absl::Duration> times = Latencies(options, 1'000);
  EXPECT_EQ(times.front(), absl::Milliseconds(40));
  EXPECT_EQ(times.back(), absl::Milliseconds(40));
}

TEST(LoopbackLatencyTest, FallsOnTheNextTick) {
  LoopbackOptions options;
  options.latency.value = absl::Microseconds(1);
  EXPECT_EQ(Latencies(options, 1)[0], absl::Milliseconds(1));
  options.latency.value = absl::Microseconds(2300);
  EXPECT_EQ(Latencies(options, 1)[0], absl::Milliseconds(3));
}

TEST(LoopbackLatencyTest, Uniform) {
  LoopbackOptions options;
  options.latency = {.distribution = Distribution::kUniform,
                     .min = absl::Milliseconds(100),
                     .max = absl::Milliseconds(1100)};
  const std::vector<absl::Duration> times = Latencies(options, 20'000);
  EXPECT_GE(times.front(), absl::Milliseconds(100));
  EXPECT_LE(times.front(), absl::Milliseconds(103));
  EXPECT_LE(times.back(), absl::Milliseconds(1101));
  EXPECT_GE(times.back(), absl::Milliseconds(1098));
  EXPECT_NEAR(absl::ToDoubleMilliseconds(times[5'000]), 350, 25);
  EXPECT_NEAR(absl::ToDoubleMilliseconds(times[10'000]), 600, 25);
}

TEST(LoopbackLatencyTest, Lognormal) {
  LoopbackOptions options;
  options.latency = {.distribution = Distribution::kLognormal,
                     .min = absl::Milliseconds(20),
                     .median = absl::Milliseconds(120),
                     .p99 = absl::Milliseconds(2'000)};
  const std::vector<absl::Duration> times = Latencies(options, 100'000);
  EXPECT_GE(times.front(), absl::Milliseconds(20));
  EXPECT_NEAR(absl::ToDoubleMilliseconds(times[50'000]), 120, 6);
  EXPECT_NEAR(absl::ToDoubleMilliseconds(times[99'000]), 2'000, 160);
  EXPECT_GT(times.back(), absl::Milliseconds(4'000));
}

TEST(LoopbackLatencyTest, LognormalWithoutASpreadIsConstant) {
  LoopbackOptions options;
  options.latency = {.distribution = Distribution::kLognormal,
                     .median = absl::Milliseconds(50),
                     .p99 = absl::Milliseconds(50)};
  const std::vector<absl::Duration> times = Latencies(options, 100);
  EXPECT_EQ(times.front(), times.back());
  EXPECT_NEAR(absl::ToDoubleMilliseconds(times.back()), 50, 1);
}

TEST(LoopbackLatencyTest, SomeDevicesAreSlow) {
  LoopbackOptions options;
  options.latency.value = absl::Milliseconds(10);
  options.slow_share = 0.2;
  options.slow_factor = 100;
  const std::vector<absl::Duration> times = Latencies(options, 20'000);
  const auto slow =
      std::upper_bound(times.begin(), times.end(), absl::Milliseconds(10));
  EXPECT_EQ(*slow, absl::Seconds(1));
  EXPECT_EQ(times.back(), absl::Seconds(1));
  EXPECT_NEAR((times.end() - slow) / 20'000.0, 0.2, 0.03);
}

TEST(LoopbackLatencyTest, AttemptsOfOneDeviceDiffer) {
  LoopbackOptions options;
  options.latency = {.distribution = Distribution::kUniform,
                     .min = absl::Milliseconds(1),
                     .max = absl::Seconds(100)};
  Fleet fleet(options);
  fleet.Start();
  fleet.Call("m", 0, 1, 10);
  fleet.Call("m", 0, 1, 11);
  fleet.executor.Advance(absl::Hours(1));
  EXPECT_NE(fleet.results.at(10).time, fleet.results.at(11).time);
}

TEST(LoopbackTest, AMillionCallsInFlight) {
  LoopbackOptions options;
  options.latency = {.distribution = Distribution::kUniform,
                     .min = absl::Milliseconds(1),
                     .max = absl::Seconds(2)};
  SimulatedExecutor executor;
  auto loopback = *LoopbackTransport::Create(options, &executor, &executor);
  // Every outcome once: the keys are 0 to 2^20 - 1.
  class Counter : public TransportSink {
   public:
    void OnOutcomes(absl::Span<const Outcome> outcomes) override {
      for (const Outcome& outcome : outcomes) seen[outcome.attempt.value] += 1;
      ++reports;
    }
    void OnConnections(absl::Span<const ConnectionChange>,
                       absl::Span<ConnectionAnswer>) override {}
    void OnReady() override {}
    std::vector<int> seen = std::vector<int>(1 << 20);
    int reports = 0;
  } counter;
  loopback->Start(&counter);
  const auto method =
      std::make_shared<const MethodCall>(MethodCall{.name = "m"});
  std::vector<AttemptKey> attempts(256);
  std::vector<std::string> ids(256);
  std::vector<absl::string_view> views(256);
  for (uint64_t first = 0; first < counter.seen.size(); first += 256) {
    for (uint64_t i = 0; i < 256; ++i) {
      attempts[i].value = first + i;
      ids[i] = absl::StrCat("d", first + i);
      views[i] = ids[i];
    }
    ASSERT_EQ(
        loopback->Send(
            {.method = method, .attempts = attempts, .device_ids = views}),
        256u);
  }
  EXPECT_EQ(loopback->in_flight(), 1 << 20);
  executor.Advance(absl::Seconds(3));
  EXPECT_EQ(std::count(counter.seen.begin(), counter.seen.end(), 1), 1 << 20);
  EXPECT_LE(counter.reports, 2'000 + (1 << 20) / 256);
  loopback->Shutdown();
}

// -------------------------------------------------------------------- devices

TEST(LoopbackTest, StartReportsConnectionsInBatches) {
  LoopbackOptions options;
  options.offline_share = 0.25;
  Fleet fleet(options);
  fleet.Start(20'000);
  ASSERT_EQ(fleet.connected.size(), 20'000u);
  ASSERT_EQ(fleet.changes.size(), 20'000u);
  const auto online =
      std::count_if(fleet.changes.begin(), fleet.changes.end(),
                    [](const Fleet::Change& c) { return c.connected; });
  EXPECT_NEAR(online / 20'000.0, 0.75, 0.03);
  // And calls agree with the reports.
  fleet.Call("m", 0, 20'000);
  for (const auto& [attempt, result] : fleet.results) {
    EXPECT_EQ(result.code == OutcomeCode::kNotConnected,
              !fleet.connected[Fleet::Id(attempt)]);
  }
}

TEST(LoopbackTest, UnknownDevicesAnswerUnlessToldNotTo) {
  Fleet open({});
  open.Start(1);
  EXPECT_EQ(open.Ask("m", 5)->code, kAnswered);
  LoopbackOptions options;
  options.answer_unknown = false;
  Fleet closed(options);
  closed.Start(1);
  EXPECT_EQ(closed.Ask("m", 0)->code, kAnswered);
  EXPECT_EQ(closed.Ask("m", 5)->code, OutcomeCode::kNoSuchDevice);
}

TEST(LoopbackTest, RemovedDevicesAreGoneUntilTheyAreAddedAgain) {
  for (const bool answer_unknown : {false, true}) {
    LoopbackOptions options;
    options.answer_unknown = answer_unknown;
    Fleet fleet(options);
    fleet.Start(3);
    fleet.loopback->RemoveDevice(Fleet::Id(1));
    EXPECT_FALSE(fleet.connected[Fleet::Id(1)]);
    EXPECT_EQ(fleet.Ask("m", 1)->code, OutcomeCode::kNoSuchDevice);
    EXPECT_EQ(fleet.Ask("m", 2)->code, kAnswered);
    fleet.loopback->RemoveDevice(Fleet::Id(1));
    fleet.loopback->RemoveDevice("never seen");
    EXPECT_EQ(fleet.changes.size(), 4u);
    fleet.loopback->AddDevices({Fleet::Id(1)});
    EXPECT_TRUE(fleet.connected[Fleet::Id(1)]);
    EXPECT_EQ(fleet.Ask("m", 1)->code, kAnswered);
  }
}

TEST(LoopbackTest, AddingTwiceChangesNothing) {
  Fleet fleet({});
  fleet.Start(2);
  fleet.loopback->SetConnected(Fleet::Id(0), false);
  fleet.loopback->AddDevices({Fleet::Id(0), Fleet::Id(1)}, true);
  EXPECT_FALSE(fleet.connected[Fleet::Id(0)]);
  EXPECT_EQ(fleet.changes.size(), 3u);
}

TEST(LoopbackTest, ConnectionsByHand) {
  Fleet fleet({});
  fleet.Start();
  fleet.loopback->SetConnected("a", false);
  fleet.loopback->SetConnected("a", false);
  fleet.loopback->SetConnected("a", true);
  fleet.loopback->SetConnected("b", true);
  EXPECT_THAT(fleet.changes,
              ElementsAre(Fleet::Change{"a", false, absl::ZeroDuration()},
                          Fleet::Change{"a", true, absl::ZeroDuration()},
                          Fleet::Change{"b", true, absl::ZeroDuration()}));
}

TEST(LoopbackTest, AwayDevicesComeBack) {
  LoopbackOptions options;
  options.offline_share = 1;
  options.reconnect_min = absl::Seconds(10);
  options.reconnect_max = absl::Seconds(30);
  Fleet fleet(options);
  fleet.Start(5'000);
  ASSERT_EQ(fleet.changes.size(), 5'000u);
  fleet.changes.clear();
  fleet.executor.Advance(absl::Hours(1));
  ASSERT_EQ(fleet.changes.size(), 5'000u);
  double sum = 0;
  for (const Fleet::Change& change : fleet.changes) {
    EXPECT_TRUE(change.connected);
    EXPECT_GE(change.time, absl::Seconds(10));
    EXPECT_LE(change.time, absl::Seconds(30) + absl::Milliseconds(1));
    sum += absl::ToDoubleSeconds(change.time);
  }
  EXPECT_NEAR(sum / 5'000, 20, 1);
  EXPECT_EQ(fleet.Ask("m", 17)->code, kAnswered);
}

TEST(LoopbackTest, DevicesDropAndComeBackByTheSeed) {
  LoopbackOptions options;
  options.drop_mean = absl::Seconds(60);
  options.reconnect_min = absl::Seconds(1);
  options.reconnect_max = absl::Seconds(3);
  Fleet a(options), b(options);
  a.Start(200);
  b.Start(200);
  a.executor.Advance(absl::Hours(1));
  for (int i = 0; i < 3600; ++i) b.executor.Advance(absl::Seconds(1));
  EXPECT_EQ(a.changes, b.changes);
  // Each device: a drop about every 62 s, in turns with a return.
  EXPECT_NEAR(a.changes.size() / 200.0, 1 + 2 * 3600 / 62.0, 10);
  std::map<std::string, bool> last;
  for (const Fleet::Change& change : a.changes) {
    if (last.contains(change.device_id)) {
      EXPECT_NE(last[change.device_id], change.connected);
    }
    last[change.device_id] = change.connected;
  }
}

TEST(LoopbackTest, AHandDoesNotLeaveOldTimersBehind) {
  LoopbackOptions options;
  options.reconnect_min = options.reconnect_max = absl::Seconds(10);
  Fleet fleet(options);
  fleet.Start(1);
  fleet.loopback->SetConnected(Fleet::Id(0), false);
  fleet.executor.Advance(absl::Seconds(6));
  fleet.loopback->SetConnected(Fleet::Id(0), true);
  fleet.loopback->SetConnected(Fleet::Id(0), false);
  fleet.executor.Advance(absl::Seconds(6));
  EXPECT_FALSE(fleet.connected[Fleet::Id(0)]);  // Not by the first timer.
  fleet.executor.Advance(absl::Seconds(6));
  EXPECT_TRUE(fleet.connected[Fleet::Id(0)]);
}

TEST(LoopbackTest, RemovedDevicesDoNotComeBack) {
  LoopbackOptions options;
  options.reconnect_min = options.reconnect_max = absl::Seconds(10);
  Fleet fleet(options);
  fleet.Start(1);
  fleet.loopback->SetConnected(Fleet::Id(0), false);
  fleet.loopback->RemoveDevice(Fleet::Id(0));
  fleet.executor.Advance(absl::Hours(1));
  EXPECT_EQ(fleet.changes.size(), 2u);
}

// -------------------------------------------------------------------- scripts

TEST(LoopbackTest, HandlersDecideForTheirMethod) {
  LoopbackOptions options;
  options.busy_share = 1;
  options.record_calls = true;
  Fleet fleet(options);
  fleet.Start(2);
  std::vector<std::string> seen;
  fleet.loopback->SetHandler("lockDoor", [&seen](const LoopbackCall& call) {
    seen.push_back(absl::StrCat(call.device_id, " ", call.method, " ",
                                call.payload, " ", call.attempt.value));
    LoopbackReply reply;
    reply.status = 201;
    reply.payload = R"({"locked":true})";
    reply.delay = absl::Seconds(2);
    return reply;
  });
  EXPECT_EQ(fleet.Ask("lockDoor", 1, R"({"mode":"night"})"),
            (Result{kAnswered, 201, R"({"locked":true})", absl::Seconds(2)}));
  EXPECT_THAT(seen,
              ElementsAre(R"(device-1 lockDoor {"mode":"night"} 1000000)"));
  EXPECT_EQ(fleet.Ask("other", 1)->code, OutcomeCode::kBusy);
  fleet.loopback->SetHandler("lockDoor", nullptr);
  EXPECT_EQ(fleet.Ask("lockDoor", 1)->code, OutcomeCode::kBusy);

  const std::vector<LoopbackCallRecord> calls = fleet.loopback->calls();
  ASSERT_EQ(calls.size(), 1u);  // Busy devices did not run it.
  EXPECT_EQ(calls[0].device_id, "device-1");
  EXPECT_EQ(calls[0].method, "lockDoor");
  EXPECT_EQ(calls[0].payload, R"({"mode":"night"})");
  EXPECT_EQ(calls[0].attempt, AttemptKey{1'000'000});
  EXPECT_EQ(calls[0].time, SimulatedExecutor().Now());
}

TEST(LoopbackTest, OneHandlerForAllMethods) {
  Fleet fleet({});
  fleet.Start();
  fleet.loopback->SetHandler(
      "", [](const LoopbackCall&) { return LoopbackReply{.status = 404}; });
  fleet.loopback->SetHandler("known", [](const LoopbackCall&) {
    return LoopbackReply{.status = 200};
  });
  EXPECT_EQ(fleet.Ask("known", 0)->status, 200);
  EXPECT_EQ(fleet.Ask("unknown", 0)->status, 404);
}

TEST(LoopbackTest, HandlersAreHeldToTheProtocol) {
  Fleet fleet({});
  fleet.Start();
  const auto answer = [&fleet](std::string payload) {
    fleet.loopback->SetHandler(
        "m", [payload = std::move(payload)](const LoopbackCall&) {
          return LoopbackReply{.payload = payload};
        });
    return fleet.Ask("m", 0)->code;
  };
  EXPECT_EQ(answer(""), kAnswered);
  EXPECT_EQ(answer("[1]"), kAnswered);
  EXPECT_EQ(answer("not JSON"), OutcomeCode::kBadResponse);
  EXPECT_EQ(answer(absl::StrCat("\"", std::string(128 * 1024 - 2, 'x'), "\"")),
            kAnswered);
  EXPECT_EQ(answer(absl::StrCat("\"", std::string(128 * 1024 - 1, 'x'), "\"")),
            OutcomeCode::kResponseTooLarge);
}

TEST(LoopbackTest, HandlersMayGiveAnyOutcomeOrNone) {
  Fleet fleet({});
  fleet.Start();
  for (const OutcomeCode code :
       {OutcomeCode::kTimeout, OutcomeCode::kError, OutcomeCode::kLinkLost}) {
    fleet.loopback->SetHandler("m", [code](const LoopbackCall&) {
      return LoopbackReply{.code = code};
    });
    EXPECT_EQ(fleet.Ask("m", 0)->code, code);
  }
  fleet.loopback->SetHandler(
      "m", [](const LoopbackCall&) { return LoopbackReply::Never(); });
  EXPECT_EQ(fleet.Ask("m", 0), std::nullopt);
}

TEST(LoopbackTest, HandlersAreNotAskedForAbsentDevices) {
  Fleet fleet({});
  fleet.Start(1);
  int calls = 0;
  fleet.loopback->SetHandler("m", [&calls](const LoopbackCall&) {
    ++calls;
    return LoopbackReply();
  });
  fleet.loopback->SetConnected(Fleet::Id(0), false);
  EXPECT_EQ(fleet.Ask("m", 0)->code, OutcomeCode::kNotConnected);
  EXPECT_EQ(calls, 0);
}

TEST(LoopbackTest, HandlersMayCallTheTransport) {
  Fleet fleet({});
  fleet.Start(1);
  fleet.loopback->SetHandler("reboot", [&fleet](const LoopbackCall& call) {
    fleet.loopback->SetConnected(call.device_id, false);
    return LoopbackReply();
  });
  // Settled in Send(): the answer is not taken back.
  EXPECT_EQ(fleet.Ask("reboot", 0)->code, kAnswered);
  EXPECT_EQ(fleet.Ask("reboot", 0)->code, OutcomeCode::kNotConnected);
}

TEST(LoopbackTest, NotificationsAreRecorded) {
  LoopbackOptions options;
  options.record_calls = true;
  Fleet fleet(options);
  fleet.Start(2);
  fleet.loopback->SetConnected(Fleet::Id(1), false);
  fleet.executor.Advance(absl::Seconds(3));
  const std::string ids[] = {Fleet::Id(0), Fleet::Id(1)};
  fleet.loopback->NotifyDesired(
      {{.device_id = ids[0], .patch = R"({"a":1})", .version = 4},
       {.device_id = ids[1], .patch = R"({"a":1})", .version = 9}});
  const auto notifications = fleet.loopback->notifications();
  ASSERT_EQ(notifications.size(), 1u);
  EXPECT_EQ(notifications[0].device_id, Fleet::Id(0));
  EXPECT_EQ(notifications[0].patch, R"({"a":1})");
  EXPECT_EQ(notifications[0].version, 4);
  EXPECT_EQ(notifications[0].time,
            SimulatedExecutor().Now() + absl::Seconds(3));
}

TEST(LoopbackTest, NothingIsRecordedUnlessAsked) {
  Fleet fleet({});
  fleet.Start(1);
  fleet.Ask("m", 0);
  const std::string id = Fleet::Id(0);
  fleet.loopback->NotifyDesired({{.device_id = id, .patch = "{}"}});
  EXPECT_TRUE(fleet.loopback->calls().empty());
  EXPECT_TRUE(fleet.loopback->notifications().empty());
}

// --------------------------------------------------------------------- window

TEST(LoopbackWindowTest, SendTakesFewerAndSaysWhenThereIsRoom) {
  LoopbackOptions options;
  options.send_window = 300;
  options.latency.value = absl::Milliseconds(50);
  Fleet fleet(options);
  fleet.Start();
  EXPECT_EQ(fleet.Call("m", 0, 1'000), 300u);
  EXPECT_EQ(fleet.Call("m", 300, 1'000), 0u);
  EXPECT_EQ(fleet.loopback->in_flight(), 300);
  fleet.executor.Advance(absl::Milliseconds(49));
  EXPECT_EQ(fleet.ready, 0);
  fleet.executor.Advance(absl::Milliseconds(1));
  EXPECT_EQ(fleet.ready, 1);
  EXPECT_EQ(fleet.results.size(), 300u);
  EXPECT_EQ(fleet.Call("m", 300, 500), 200u);
  fleet.executor.Advance(absl::Seconds(1));
  EXPECT_EQ(fleet.ready, 1);  // That one took all.
}

TEST(LoopbackWindowTest, CallsWithoutADelayAreNeverInFlight) {
  LoopbackOptions options;
  options.send_window = 3;
  Fleet fleet(options);
  fleet.Start();
  EXPECT_EQ(fleet.Call("m", 0, 1'000), 1'000u);
  fleet.loopback->SetConnected(Fleet::Id(1), false);
  EXPECT_EQ(fleet.Call("m", 0, 1'000, 1'000), 1'000u);
  EXPECT_EQ(fleet.loopback->in_flight(), 0);
}

TEST(LoopbackWindowTest, SilentCallsLeaveItAfterTheirTimeout) {
  LoopbackOptions options;
  options.send_window = 2;
  options.no_answer_share = 1;
  Fleet fleet(options);
  fleet.Start();
  EXPECT_EQ(fleet.Call("m", 0, 3, 0, "null", absl::Seconds(5)), 2u);
  fleet.executor.Advance(absl::Seconds(5) - absl::Milliseconds(1));
  EXPECT_EQ(fleet.ready, 0);
  fleet.executor.Advance(absl::Milliseconds(1));
  EXPECT_EQ(fleet.ready, 1);
  EXPECT_EQ(fleet.loopback->in_flight(), 0);
  EXPECT_TRUE(fleet.results.empty());
}

// -------------------------------------------------------------------- options

std::string CreateError(const LoopbackOptions& options) {
  SimulatedExecutor executor;
  const auto transport =
      LoopbackTransport::Create(options, &executor, &executor);
  EXPECT_EQ(transport.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(transport.status(), ValidateLoopbackOptions(options));
  return std::string(transport.status().message());
}

TEST(LoopbackOptionsTest, ErrorsNameFieldValueAndRange) {
  LoopbackOptions o;
  o.busy_share = 1.5;
  EXPECT_EQ(CreateError(o), "busy_share must be a number in [0, 1]; got 1.5");
  o = {};
  o.offline_share = -0.1;
  EXPECT_THAT(CreateError(o),
              AllOf(HasSubstr("offline_share"), HasSubstr("-0.1")));
  o = {};
  o.slow_share = std::nan("");
  EXPECT_THAT(CreateError(o), HasSubstr("slow_share"));
  o = {};
  o.slow_factor = 0.5;
  EXPECT_THAT(CreateError(o), HasSubstr("[1, 1000]"));
  o = {};
  o.send_window = -1;
  EXPECT_THAT(CreateError(o),
              AllOf(HasSubstr("send_window"), HasSubstr("2147483647")));
  o = {};
  o.latency.value = absl::Hours(2);
  EXPECT_EQ(CreateError(o),
            "latency.value must be a duration in [0, 1h]; got 2h");
  o = {};
  o.latency.value = -absl::Milliseconds(1);
  EXPECT_THAT(CreateError(o), HasSubstr("latency.value"));
  o = {};
  o.drop_mean = absl::InfiniteDuration();
  EXPECT_THAT(CreateError(o), HasSubstr("drop_mean"));
  o = {};
  o.reconnect_min = absl::Seconds(2);
  EXPECT_EQ(CreateError(o),
            "reconnect_max must be at least reconnect_min (2s); got 0");
}

TEST(LoopbackOptionsTest, FieldsThatLimitEachOther) {
  LoopbackOptions o;
  o.latency = {.distribution = Distribution::kUniform,
               .min = absl::Seconds(2),
               .max = absl::Seconds(1)};
  EXPECT_EQ(CreateError(o),
            "latency.max must be at least latency.min (2s); got 1s");
  o.latency = {.distribution = Distribution::kLognormal,
               .min = absl::Seconds(1),
               .median = absl::Seconds(1),
               .p99 = absl::Seconds(1)};
  EXPECT_THAT(CreateError(o), HasSubstr("latency.median must be more than"));
  o.latency = {.distribution = Distribution::kLognormal,
               .median = absl::Seconds(3),
               .p99 = absl::Seconds(2)};
  EXPECT_THAT(CreateError(o), HasSubstr("latency.p99 must be at least"));
  o = {};
  o.busy_share = 0.6;
  o.link_lost_share = 0.5;
  EXPECT_THAT(CreateError(o), AllOf(HasSubstr("sum"), HasSubstr("1.1")));
  o = {};
  o.error_status_share = o.no_handler_share = o.no_answer_share = 0.1;
  o.bad_response_share = o.response_too_large_share = 0.2;
  o.link_lost_share = 0.2;
  o.busy_share = 0.1;
  EXPECT_TRUE(ValidateLoopbackOptions(o).ok());
}

TEST(LoopbackOptionsTest, PayloadsAreJson) {
  LoopbackOptions o;
  o.response_payload = "{";
  EXPECT_THAT(CreateError(o), HasSubstr("response_payload"));
  o.response_payload = R"({"${payload}":1})";  // Not as a name.
  EXPECT_THAT(CreateError(o), HasSubstr("response_payload"));
  o.response_payload = R"({"${device_id}":"${payload}"})";
  EXPECT_TRUE(ValidateLoopbackOptions(o).ok());
}

// ---------------------------------------------------------------- from a file

std::string ParseError(absl::string_view json) {
  const absl::StatusOr<LoopbackOptions> options = ParseLoopbackOptions(json);
  EXPECT_EQ(options.status().code(), absl::StatusCode::kInvalidArgument)
      << json;
  return std::string(options.status().message());
}

TEST(LoopbackConfigTest, AnEmptyObjectIsTheDefault) {
  const absl::StatusOr<LoopbackOptions> options = ParseLoopbackOptions("{}");
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(options->seed, LoopbackOptions().seed);
  EXPECT_TRUE(options->answer_unknown);
  EXPECT_EQ(options->latency.value, absl::ZeroDuration());
}

TEST(LoopbackConfigTest, ReadsEveryOption) {
  const absl::StatusOr<LoopbackOptions> options = ParseLoopbackOptions(R"({
    "seed": 9223372036854775807,
    "latency": {"distribution": "lognormal",
                "min_ms": 5, "median_ms": 60.5, "p99_ms": 900},
    "slow_share": 0.01, "slow_factor": 20,
    "error_status_share": 0.02, "no_handler_share": 0.03,
    "no_answer_share": 0.04, "bad_response_share": 0.05,
    "response_too_large_share": 0.06, "link_lost_share": 0.07,
    "busy_share": 0.08,
    "response_status": 202, "error_status": -3,
    "response_payload": {"z": "${device_id}", "a": "${payload}"},
    "offline_share": 0.14,
    "reconnect_min_ms": 1000, "reconnect_max_ms": 60000, "drop_mean_ms": 3600000,
    "send_window": 4096, "answer_unknown": false, "record_calls": true
  })");
  ASSERT_TRUE(options.ok()) << options.status();
  const LoopbackOptions& o = *options;
  EXPECT_EQ(o.seed, 9223372036854775807u);
  EXPECT_EQ(o.latency.distribution, Distribution::kLognormal);
  EXPECT_EQ(o.latency.min, absl::Milliseconds(5));
  EXPECT_EQ(o.latency.median, absl::Microseconds(60'500));
  EXPECT_EQ(o.latency.p99, absl::Milliseconds(900));
  EXPECT_EQ(o.slow_share, 0.01);
  EXPECT_EQ(o.slow_factor, 20);
  EXPECT_EQ(o.error_status_share, 0.02);
  EXPECT_EQ(o.no_handler_share, 0.03);
  EXPECT_EQ(o.no_answer_share, 0.04);
  EXPECT_EQ(o.bad_response_share, 0.05);
  EXPECT_EQ(o.response_too_large_share, 0.06);
  EXPECT_EQ(o.link_lost_share, 0.07);
  EXPECT_EQ(o.busy_share, 0.08);
  EXPECT_EQ(o.response_status, 202);
  EXPECT_EQ(o.error_status, -3);
  EXPECT_EQ(o.response_payload, R"({"a":"${payload}","z":"${device_id}"})");
  EXPECT_EQ(o.offline_share, 0.14);
  EXPECT_EQ(o.reconnect_min, absl::Seconds(1));
  EXPECT_EQ(o.reconnect_max, absl::Seconds(60));
  EXPECT_EQ(o.drop_mean, absl::Hours(1));
  EXPECT_EQ(o.send_window, 4096);
  EXPECT_FALSE(o.answer_unknown);
  EXPECT_TRUE(o.record_calls);
}

TEST(LoopbackConfigTest, EachDistributionHasItsDurations) {
  EXPECT_EQ(ParseLoopbackOptions(
                R"({"latency":{"distribution":"constant","value_ms":20}})")
                ->latency.value,
            absl::Milliseconds(20));
  EXPECT_EQ(ParseLoopbackOptions(R"({"latency":{"distribution":"uniform",)"
                                 R"("min_ms":10,"max_ms":50}})")
                ->latency.max,
            absl::Milliseconds(50));
  EXPECT_THAT(
      ParseError(
          R"({"latency":{"distribution":"constant","value_ms":1,"p99_ms":2}})"),
      HasSubstr("\"latency.p99_ms\""));
  EXPECT_EQ(ParseError(R"({"latency":{"value_ms":1}})"),
            "latency.distribution must be \"constant\", \"uniform\" or "
            "\"lognormal\"; got undefined");
  EXPECT_THAT(ParseError(R"({"latency":{"distribution":"normal"}})"),
              HasSubstr("got \"normal\""));
  EXPECT_THAT(ParseError(R"({"latency":20})"),
              HasSubstr("latency must be an object"));
}

TEST(LoopbackConfigTest, UnknownNamesGetTheNearestKnownOne) {
  EXPECT_EQ(ParseError(R"({"offline_shar":0.1})"),
            "unknown member \"offline_shar\"; the nearest known one is "
            "\"offline_share\"");
  EXPECT_THAT(ParseError(R"({"Seed":1})"), HasSubstr("\"seed\""));
  EXPECT_THAT(ParseError(R"({"reconnect_max":1})"),
              HasSubstr("\"reconnect_max_ms\""));
  EXPECT_THAT(
      ParseError(R"({"latency":{"distribution":"constant","valu_ms":1}})"),
      HasSubstr("\"latency.value_ms\""));
}

TEST(LoopbackConfigTest, WrongTypesAndRangesAreNamed) {
  EXPECT_EQ(ParseError(R"({"busy_share":"0.1"})"),
            "busy_share must be a number in [0, 1]; got \"0.1\"");
  EXPECT_EQ(ParseError(R"({"busy_share":2})"),
            "busy_share must be a number in [0, 1]; got 2");
  EXPECT_EQ(ParseError(R"({"seed":-1})"),
            "seed must be an integer in [0, 2^63 - 1]; got -1");
  EXPECT_THAT(ParseError(R"({"seed":1.0})"), HasSubstr("seed"));
  EXPECT_EQ(ParseError(R"({"response_status":3000000000})"),
            "response_status must be an integer in [-2147483648, 2147483647]; "
            "got 3000000000");
  EXPECT_EQ(ParseError(R"({"record_calls":1})"),
            "record_calls must be true or false; got 1");
  EXPECT_EQ(ParseError(R"({"drop_mean_ms":-5})"),
            "drop_mean_ms must be a number in [0, 31536000000]; got -5");
  EXPECT_EQ(ParseError(R"({"reconnect_min_ms":9,"reconnect_max_ms":5})"),
            "reconnect_max_ms must be at least reconnect_min_ms (9); got 5");
  EXPECT_EQ(ParseError(R"({"latency":{"distribution":"uniform",)"
                       R"("max_ms":3600001}})"),
            "latency.max_ms must be a number in [0, 3600000]; got 3600001");
  EXPECT_THAT(ParseError("[]"), HasSubstr("a JSON object; got array"));
  EXPECT_THAT(ParseError("{"), HasSubstr("not valid JSON"));
  EXPECT_THAT(ParseError(R"({"seed":1,"seed":2})"), HasSubstr("twice"));
}

}  // namespace
}  // namespace muster
