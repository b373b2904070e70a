// GatewayTransport keeps the promises of the Transport port over streams
// without gRPC, of which ThreadSanitizer sees every step; and sessions come and
// go while others send.
#include <atomic>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "gtest/gtest.h"
#include "tests/gateway/gateway_harness.h"
#include "tests/gateway/in_process_pipe.h"
#include "tests/gateway/simple_gateway.h"
#include "tests/transport_conformance.h"
#include "transport/grpc/gateway/gateway_transport.h"

namespace muster {
namespace {

class InProcessHarness : public SimpleGatewayHarness {
 public:
  InProcessHarness() {
    auto pipe = std::make_shared<InProcessPipe>(executor_.get());
    gateway_.Start(pipe);
    pipe->Open(transport_.get());
  }
  ~InProcessHarness() override {
    transport_->Shutdown();
    gateway_.Stop();
    executor_.reset();  // Nothing is under way any more.
  }
};

const TransportHarnessParam kInProcess = {
    "InProcess", []() -> std::unique_ptr<TransportHarness> {
      return std::make_unique<InProcessHarness>();
    }};

INSTANTIATE_TEST_SUITE_P(Gateway, TransportConformanceTest,
                         testing::Values(kInProcess), TransportHarnessName);
INSTANTIATE_TEST_SUITE_P(Gateway, TransportThreadsTest,
                         testing::Values(kInProcess), TransportHarnessName);

// Gateways die and come back with each other's devices while three threads send
// to them, tell them things and drop their devices: in the end each attempt has
// had one outcome.
TEST(GatewayThreadsTest, GatewaysComeAndGoWhileOthersSend) {
  constexpr int kDevices = 60, kGateways = 3, kSenders = 3, kErased = 5;
  constexpr uint64_t kPerSender = 3000;
  RecordingSink sink;
  auto executor = MakeThreadExecutor(3);
  auto transport = *GatewayTransport::Create({.clock = &Clock::Real(),
                                              .executor = executor.get(),
                                              .in_flight_max = 500});
  transport->Start(&sink);
  std::atomic<bool> over{false};
  std::atomic<int> done{0};  // Senders.
  std::vector<std::thread> threads;
  for (uint64_t sender = 0; sender < kSenders; ++sender) {
    threads.emplace_back([&, sender] {
      for (uint64_t i = 0; i < kPerSender;) {
        BatchOf batch("echo");
        uint64_t count = 0;
        for (; count < 40 && i + count < kPerSender; ++count) {
          const uint64_t attempt = sender * kPerSender + i + count;
          const std::string id = DeviceOf(attempt * 7 % kDevices);
          if (sink.connected(id) != true) break;  // It will be.
          batch.Add(attempt, id);
        }
        const size_t sent = count == 0 ? 0 : batch.SendTo(*transport, sink);
        i += sent;
        if (sent == 0) std::this_thread::yield();
      }
      ++done;
    });
  }
  threads.emplace_back([&] {
    for (int64_t version = 1; !over.load(); ++version) {
      const std::string id = DeviceOf(version % kDevices);
      transport->NotifyDesired(
          {{.link = sink.link(id), .patch = "{}", .version = version}});
      // As if its twin had been erased.
      if (id == DeviceOf(kErased)) transport->Disconnect({sink.link(id)});
      transport->gateways();
      std::this_thread::yield();
    }
  });
  // A round ends when some more outcomes have come.
  for (int round = 0; done.load() < kSenders; ++round) {
    std::vector<std::unique_ptr<SimpleGateway>> gateways;
    for (int g = 0; g < kGateways; ++g) {
      gateways.push_back(
          std::make_unique<SimpleGateway>(absl::StrCat("g", g), 20));
      std::vector<std::string> ids;
      for (int d = 0; d < kDevices; ++d) {
        // Some of them in two gateways.
        if ((d + round) % kGateways == g || d % 10 == g) {
          ids.push_back(DeviceOf(d));
        }
      }
      gateways[g]->SetConnected(ids, true);
      auto pipe = std::make_shared<InProcessPipe>(executor.get());
      gateways[g]->Start(pipe);
      pipe->Open(transport.get());
    }
    const size_t outcomes = sink.outcome_count();
    while (sink.outcome_count() < outcomes + 300 && done.load() < kSenders) {
      std::this_thread::yield();
    }
  }
  for (int i = 0; i < kSenders; ++i) threads[i].join();
  over.store(true);
  threads.back().join();
  EXPECT_TRUE(transport->AwaitDrained(absl::Seconds(60)));
  transport->Shutdown();
  executor.reset();
  std::set<uint64_t> seen;
  uint64_t answered = 0;
  for (const RecordingSink::Event& e : sink.outcomes()) {
    EXPECT_TRUE(seen.insert(e.attempt.value).second) << e.attempt.value;
    if (e.code == OutcomeCode::kAnswered) {
      ++answered;
      EXPECT_EQ(e.payload,
                EchoOf(DeviceOf(e.attempt.value * 7 % kDevices), "null"));
    }
  }
  EXPECT_EQ(seen.size(), kSenders * kPerSender);
  EXPECT_GT(answered, kPerSender / 2);
  for (int d = 0; d < kDevices; ++d) {
    if (d == kErased) continue;  // The engine is told of it no more.
    EXPECT_NE(sink.connected(DeviceOf(d)), true) << d;
  }
}

}  // namespace
}  // namespace muster
