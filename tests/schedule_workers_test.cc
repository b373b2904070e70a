// Workers: parking, waking, due times, the end.
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "engine/schedule/executor.h"
#include "engine/schedule/workers.h"
#include "gtest/gtest.h"
#include "tests/simulated/simulated_executor.h"

namespace muster {
namespace {

// Work without content, and one time at which there is more.
class CountedSource : public WorkSource {
 public:
  bool RunOne(int worker) override {
    ++steps;
    last_worker = worker;
    if (due.has_value() && clock != nullptr && *due <= clock->Monotonic()) {
      due.reset();
      ++expired;
      return true;
    }
    if (work == 0) return false;
    --work;
    return true;
  }
  bool HasWork() override { return work > 0; }
  absl::Duration NextDue() override {
    return due.value_or(absl::InfiniteDuration());
  }

  Clock* clock = nullptr;
  int work = 0;
  int steps = 0;
  int expired = 0;
  int last_worker = -1;
  std::optional<absl::Duration> due;
};

class WorkersTest : public testing::Test {
 protected:
  WorkersTest() { source_.clock = &simulated_; }
  ~WorkersTest() override { workers_->Stop(); }

  SimulatedExecutor simulated_;
  CountedSource source_;
  const std::shared_ptr<Workers> workers_ =
      std::make_shared<Workers>(&simulated_, &simulated_, &source_);
};

TEST_F(WorkersTest, IdleOnesDoNothing) {
  simulated_.Advance(absl::Hours(1));
  EXPECT_EQ(source_.steps, 0);
  EXPECT_EQ(workers_->Stats()[0].turns, 0);
}

TEST_F(WorkersTest, AWakeRunsAllThereIsAndParks) {
  source_.work = 100;
  workers_->Wake();
  workers_->Wake();  // All run already.
  simulated_.RunReady();
  EXPECT_EQ(source_.work, 0);
  EXPECT_EQ(source_.steps, 101);
  EXPECT_EQ(workers_->Stats()[0].runs, 100);
  // Turns of 16 steps, so that others get theirs.
  EXPECT_EQ(workers_->Stats()[0].turns, 7);
  simulated_.Advance(absl::Hours(1));
  EXPECT_EQ(source_.steps, 101);
}

TEST_F(WorkersTest, OthersOnTheExecutorGetTheirTurn) {
  source_.work = 100;
  workers_->Wake();
  int left_then = -1;
  simulated_.Run([&] { left_then = source_.work; });
  simulated_.RunReady();
  EXPECT_EQ(left_then, 100 - Workers::kStepsPerTurn);
}

TEST_F(WorkersTest, ADueTimeWakes) {
  source_.due = absl::Seconds(10);
  workers_->WakeAt(*source_.due);
  simulated_.Advance(absl::Seconds(9));
  EXPECT_EQ(source_.steps, 0);
  simulated_.Advance(absl::Seconds(1));
  EXPECT_EQ(source_.expired, 1);
}

TEST_F(WorkersTest, AnEarlierDueTimeCounts) {
  source_.due = absl::Seconds(5);
  workers_->WakeAt(absl::Seconds(10));
  workers_->WakeAt(absl::Seconds(5));
  workers_->WakeAt(absl::Seconds(7));
  simulated_.Advance(absl::Seconds(5));
  EXPECT_EQ(source_.expired, 1);
}

// Near times that come and go do not ask for the far one again and again.
TEST_F(WorkersTest, AFarPlanIsMadeOnce) {
  struct CountingExecutor : Executor {
    explicit CountingExecutor(Executor* inner) : inner(inner) {}
    int concurrency() const override { return 1; }
    void Run(Callback callback) override { inner->Run(std::move(callback)); }
    void RunAt(absl::Duration at, Callback callback) override {
      if (at >= absl::Hours(1)) ++far;
      inner->RunAt(at, std::move(callback));
    }
    Executor* const inner;
    int far = 0;
  };
  CountingExecutor counting(&simulated_);
  auto workers = std::make_shared<Workers>(&counting, &simulated_, &source_);
  source_.due = absl::Hours(1);
  workers->WakeAt(*source_.due);
  for (int i = 1; i <= 100; ++i) {
    workers->WakeAt(absl::Milliseconds(i));
    simulated_.Advance(absl::Milliseconds(1));
  }
  EXPECT_EQ(counting.far, 1);
  EXPECT_EQ(source_.expired, 0);
  simulated_.Advance(absl::Hours(1));
  EXPECT_EQ(source_.expired, 1);
  workers->Stop();
}

TEST_F(WorkersTest, WhoParksPlansTheNextDueTime) {
  source_.work = 1;
  source_.due = absl::Seconds(3);
  workers_->Wake();
  simulated_.RunReady();
  EXPECT_EQ(source_.expired, 0);
  simulated_.Advance(absl::Seconds(3));
  EXPECT_EQ(source_.expired, 1);
}

TEST_F(WorkersTest, NothingRunsAfterStop) {
  source_.work = 5;
  workers_->Wake();
  bool posted = false;
  workers_->Post([&] { posted = true; });
  workers_->Stop();
  workers_->Stop();
  EXPECT_FALSE(workers_->Enter());
  workers_->Wake();
  workers_->WakeAt(absl::Seconds(1));
  simulated_.Advance(absl::Seconds(2));
  EXPECT_EQ(source_.steps, 0);
  EXPECT_FALSE(posted);
}

// Many threads add, as many workers as threads take: all of it, and then all
// are parked.  A lost wake-up hangs the test.
TEST(WorkersThreadsTest, NoWakeUpIsLost) {
  constexpr int kAdders = 4, kAdds = 20'000;
  struct Source : WorkSource {
    bool RunOne(int worker) override {
      int64_t left = work.load();
      while (left > 0) {
        if (!work.compare_exchange_weak(left, left - 1)) continue;
        ++done[worker];  // Plain: a worker's number is one worker's.
        if (total.fetch_add(1) + 1 == kAdders * kAdds) all.Notify();
        return true;
      }
      return false;
    }
    bool HasWork() override { return work.load() > 0; }
    absl::Duration NextDue() override { return absl::InfiniteDuration(); }

    std::atomic<int64_t> work{0}, total{0};
    int64_t done[4] = {};
    absl::Notification all;
  };
  Source source;
  auto executor = MakeThreadExecutor(4);
  auto workers =
      std::make_shared<Workers>(executor.get(), &Clock::Real(), &source);
  std::vector<std::thread> adders;
  for (int t = 0; t < kAdders; ++t) {
    adders.emplace_back([&] {
      for (int i = 0; i < kAdds; ++i) {
        source.work.fetch_add(1);
        workers->Wake();
        if (i % 64 == 0) std::this_thread::yield();
      }
    });
  }
  for (std::thread& adder : adders) adder.join();
  source.all.WaitForNotification();
  workers->Stop();
  int64_t done = 0, runs = 0;
  for (int64_t n : source.done) done += n;
  for (const WorkerStats& stats : workers->Stats()) {
    runs += stats.runs;
    EXPECT_GE(stats.busy, absl::ZeroDuration());
  }
  EXPECT_EQ(done, kAdders * kAdds);
  EXPECT_EQ(runs, kAdders * kAdds);
}

// Stop() waits for what runs, whatever it is.
TEST(WorkersThreadsTest, StopWaits) {
  CountedSource source;
  auto executor = MakeThreadExecutor(2);
  auto workers =
      std::make_shared<Workers>(executor.get(), &Clock::Real(), &source);
  absl::Notification begun, go_on;
  std::atomic<bool> ended{false};
  workers->Post([&] {
    begun.Notify();
    go_on.WaitForNotification();
    ended.store(true);
  });
  begun.WaitForNotification();
  std::thread stopper([&] {
    workers->Stop();
    EXPECT_TRUE(ended.load());
  });
  while (!workers->stopped()) std::this_thread::yield();
  go_on.Notify();
  stopper.join();
}

}  // namespace
}  // namespace muster
