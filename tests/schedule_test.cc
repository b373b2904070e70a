// Ready queue, timers, pacer, executor.
#include <atomic>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "engine/schedule/pacer.h"
#include "engine/schedule/ready_queue.h"
#include "engine/schedule/timer_queue.h"
#include "gtest/gtest.h"
#include "tests/simulated/simulated_executor.h"

namespace muster {
namespace {

struct TestItem : ReadyQueue::Item {
  int id = 0;
};

TEST(ReadyQueueTest, LowestKeyFirstAndFirstComeAmongEquals) {
  ReadyQueue queue;
  EXPECT_EQ(queue.Pop(), nullptr);
  TestItem items[6];
  const uint64_t keys[] = {5, 3, 5, 1, 3, 9};
  for (int i = 0; i < 6; ++i) {
    items[i].id = i;
    queue.Push(&items[i], keys[i]);
  }
  EXPECT_EQ(queue.size(), 6);
  for (int expected : {3, 1, 4, 0, 2, 5}) {
    EXPECT_EQ(static_cast<TestItem*>(queue.Pop())->id, expected);
  }
  EXPECT_EQ(queue.Pop(), nullptr);
}

TEST(ReadyQueueTest, VirtualTimeNeverGoesBack) {
  ReadyQueue queue;
  TestItem a, b;
  queue.Push(&a, 100);
  queue.Pop();
  queue.Push(&b, 7);
  queue.Pop();
  EXPECT_EQ(queue.virtual_time(), 100);
}

// Every item carries its number: one that is lost or popped twice shows.
TEST(ReadyQueueTest, ConcurrentPushesAndPopsLoseNothing) {
  constexpr int kThreads = 4, kPerThread = 5'000;
  ReadyQueue queue;
  std::vector<TestItem> items(kThreads * kPerThread);
  std::vector<std::atomic<int>> popped(items.size());
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kPerThread; ++i) {
        TestItem& item = items[t * kPerThread + i];
        item.id = t * kPerThread + i;
        queue.Push(&item, static_cast<uint64_t>(i * 7919 % 1000));
        if (auto* other = static_cast<TestItem*>(queue.Pop())) {
          popped[other->id].fetch_add(1);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  while (auto* item = static_cast<TestItem*>(queue.Pop())) {
    popped[item->id].fetch_add(1);
  }
  for (size_t i = 0; i < popped.size(); ++i) ASSERT_EQ(popped[i], 1) << i;
}

TEST(TimerQueueTest, InOrderOfDueTimesThenOfArrival) {
  TimerQueue<absl::Duration, int> timers;
  EXPECT_TRUE(timers.Add(absl::Seconds(5), 1));
  EXPECT_FALSE(timers.Add(absl::Seconds(9), 2));
  EXPECT_FALSE(timers.Add(absl::Seconds(5), 3));  // Not earlier.
  EXPECT_TRUE(timers.Add(absl::Seconds(1), 4));
  EXPECT_EQ(timers.NextDue(), absl::Seconds(1));
  EXPECT_EQ(timers.PopDue(absl::Milliseconds(999)), std::nullopt);
  EXPECT_EQ(timers.PopDue(absl::Seconds(7)), 4);
  EXPECT_EQ(timers.PopDue(absl::Seconds(7)), 1);
  EXPECT_EQ(timers.PopDue(absl::Seconds(7)), 3);
  EXPECT_EQ(timers.PopDue(absl::Seconds(7)), std::nullopt);
  EXPECT_EQ(timers.PopDue(absl::InfiniteDuration()), 2);
  EXPECT_EQ(timers.NextDue(), std::nullopt);
}

TEST(PacerTest, UnlimitedGivesWhatIsWanted) {
  Pacer pacer(0);
  EXPECT_TRUE(pacer.unlimited());
  EXPECT_EQ(pacer.Take(1'000'000, absl::ZeroDuration()), 1'000'000);
}

TEST(PacerTest, HoldsOneSecondAndRefillsAtTheRate) {
  Pacer pacer(10);
  absl::Duration now = absl::Seconds(100);
  EXPECT_EQ(pacer.Take(25, now), 10);
  EXPECT_EQ(pacer.Take(1, now), 0);
  EXPECT_EQ(pacer.NextToken(now), now + absl::Milliseconds(100));
  now += absl::Milliseconds(250);
  EXPECT_EQ(pacer.Available(now), 2);
  EXPECT_EQ(pacer.Take(5, now), 2);
  now += absl::Milliseconds(50);  // The half token from before counts.
  EXPECT_EQ(pacer.Take(5, now), 1);
  now += absl::Hours(24 * 365);
  EXPECT_EQ(pacer.Available(now), 10);
  EXPECT_EQ(pacer.Take(4, now), 4);
  pacer.Return(3);
  EXPECT_EQ(pacer.Available(now), 9);
  pacer.Return(100);
  EXPECT_EQ(pacer.Available(now), 10);
}

// Whatever the steps of the clock: no token too many, none lost.
TEST(PacerTest, LosesNoFraction) {
  for (int64_t rate : {1, 3, 7, 50, 999}) {
    Pacer pacer(rate);
    absl::Duration now = absl::ZeroDuration();
    int64_t taken = pacer.Take(rate, now);
    for (int i = 0; i < 10'000; ++i) {
      now += absl::Microseconds(137 + i % 11);
      taken += pacer.Take(rate, now);
    }
    const double expected =
        static_cast<double>(rate) * (1 + absl::ToDoubleSeconds(now));
    EXPECT_LE(taken, expected) << rate;
    EXPECT_GT(taken, expected - 1.001) << rate;
  }
}

TEST(PacerTest, NextTokenIsExact) {
  Pacer pacer(3);
  absl::Duration now = absl::Seconds(1);
  EXPECT_EQ(pacer.Take(3, now), 3);
  for (int i = 0; i < 1000; ++i) {
    const absl::Duration next = pacer.NextToken(now);
    EXPECT_EQ(pacer.Available(next - absl::Nanoseconds(1)), 0);
    EXPECT_EQ(pacer.Take(1, next), 1) << i;
    now = next;
  }
}

TEST(ThreadExecutorTest, RunsEachOnceAndNothingTwice) {
  constexpr int kCallbacks = 10'000;
  auto executor = MakeThreadExecutor(3);
  EXPECT_EQ(executor->concurrency(), 3);
  std::vector<std::atomic<int>> ran(kCallbacks);
  absl::BlockingCounter left(kCallbacks);
  for (int i = 0; i < kCallbacks; ++i) {
    auto callback = [&, i] {
      ran[i].fetch_add(1);
      left.DecrementCount();
    };
    if (i % 3 == 0) {
      executor->RunAt(Clock::Real().Monotonic() + absl::Microseconds(i % 50),
                      callback);
    } else {
      executor->Run(callback);
    }
  }
  left.Wait();
  for (int i = 0; i < kCallbacks; ++i) ASSERT_EQ(ran[i], 1) << i;
}

TEST(ThreadExecutorTest, AnEarlierTimeWakesWhoSleepsForALaterOne) {
  auto executor = MakeThreadExecutor(1);
  absl::Notification early;
  executor->RunAt(Clock::Real().Monotonic() + absl::Hours(1),
                  [] { ADD_FAILURE() << "an hour early"; });
  executor->RunAt(Clock::Real().Monotonic() + absl::Milliseconds(1),
                  [&] { early.Notify(); });
  EXPECT_TRUE(early.WaitForNotificationWithTimeout(absl::Seconds(30)));
}

TEST(ThreadExecutorTest, DestructionDropsWhatHasNotRun) {
  auto alive = std::make_shared<int>(0);
  {
    auto executor = MakeThreadExecutor(2);
    executor->RunAt(absl::InfiniteDuration(), [alive] {});
  }
  EXPECT_EQ(alive.use_count(), 1);
}

TEST(SimulatedExecutorTest, TimePassesOnlyBetweenCallbacks) {
  SimulatedExecutor time;
  std::vector<int> order;
  time.RunAt(absl::Seconds(2), [&] { order.push_back(2); });
  time.RunAt(absl::Seconds(1), [&] {
    order.push_back(1);
    EXPECT_EQ(time.Monotonic(), absl::Seconds(1));
    time.Run([&] { order.push_back(10); });
  });
  time.Run([&] { order.push_back(0); });
  time.Advance(absl::Seconds(3));
  EXPECT_EQ(order, (std::vector<int>{0, 1, 10, 2}));
  EXPECT_EQ(time.Monotonic(), absl::Seconds(3));
}

}  // namespace
}  // namespace muster
