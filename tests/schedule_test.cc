// Ready queue, pacer, executor.
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <random>
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
#include "gtest/gtest.h"
#include "tests/simulated/simulated_executor.h"

namespace muster {
namespace {

struct TestItem : ReadyQueue::Item {
  explicit TestItem(const ReadyQueue& queue) : Item(queue.slots()) {}
  int id = 0;
};

int PopId(ReadyQueue& queue) {
  auto* item = static_cast<TestItem*>(queue.Pop());
  return item == nullptr ? -1 : item->id;
}

TEST(ReadyQueueTest, LowestKeyFirst) {
  ReadyQueue queue;
  EXPECT_EQ(queue.Pop(), nullptr);
  EXPECT_TRUE(queue.empty());
  std::deque<TestItem> items;
  const uint64_t keys[] = {5, 3, 8, 1, 4, 9};
  for (int i = 0; i < 6; ++i) {
    items.emplace_back(queue).id = i;
    queue.Push(&items[i], keys[i]);
  }
  EXPECT_FALSE(queue.empty());
  for (int expected : {3, 1, 4, 0, 2, 5}) EXPECT_EQ(PopId(queue), expected);
  EXPECT_EQ(queue.Pop(), nullptr);
  EXPECT_TRUE(queue.empty());
}

TEST(ReadyQueueTest, VirtualTimeNeverGoesBack) {
  ReadyQueue queue;
  TestItem a(queue), b(queue);
  queue.Push(&a, 100);
  queue.Pop();
  EXPECT_EQ(queue.virtual_time(), 100);
  queue.Push(&b, 7);
  EXPECT_EQ(queue.Pop(), &b);
  EXPECT_GE(queue.virtual_time(), 100);
}

TEST(ReadyQueueTest, AnEmergencyOvertakesAllThatIsQueued) {
  ReadyQueue queue({.classes = 3, .shards = 2});
  std::deque<TestItem> items;
  for (int i = 0; i < 1000; ++i) {
    items.emplace_back(queue).id = i;
    queue.Push(&items[i], static_cast<uint64_t>(i), i == 0 ? 2 : 1);
  }
  EXPECT_NE(PopId(queue), 0);
  TestItem emergency(queue);
  queue.Push(&emergency, 1'000'000, 0);
  EXPECT_EQ(queue.Pop(), &emergency);
  for (int i = 0; i < 998; ++i) EXPECT_GT(PopId(queue), 0);
  EXPECT_EQ(PopId(queue), 0);  // The last class last, whatever its key.
  EXPECT_EQ(PopId(queue), -1);
}

// Whoever is pushed again and again, with a key that does not move, passes
// nobody who waits.
TEST(ReadyQueueTest, AKeyThatStaysStarvesNobody) {
  ReadyQueue queue({.key_shift = 12});
  std::deque<TestItem> items;
  for (int i = 0; i < 100; ++i) {
    items.emplace_back(queue).id = i;
    queue.Push(&items[i], 0);
  }
  std::set<int> seen;
  for (int i = 0; i < 100; ++i) {
    auto* item = static_cast<TestItem*>(queue.Pop());
    EXPECT_TRUE(seen.insert(item->id).second);
    queue.Push(item, 0);
  }
}

TEST(ReadyQueueTest, KeysAtTheExtremes) {
  for (int shift : {0, 1, 12, 32}) {
    ReadyQueue queue({.key_shift = shift});
    TestItem a(queue), b(queue), c(queue);
    queue.Push(&a, ~uint64_t{0});
    queue.Push(&b, 0);
    queue.Push(&c, uint64_t{1} << 63);
    EXPECT_EQ(queue.Pop(), &b);
    EXPECT_NE(queue.Pop(), nullptr);
    EXPECT_NE(queue.Pop(), nullptr);
    EXPECT_EQ(queue.Pop(), nullptr);
  }
}

// Against a heap, over many times round the ring, with jumps up to the whole
// window and waits in which the queue is empty.
TEST(ReadyQueueTest, OneThreadIsInOrderRoundTheRing) {
  std::mt19937_64 random(1);
  ReadyQueue queue({.shards = 1});
  std::deque<TestItem> items;
  std::vector<uint64_t> key_of(300);
  std::vector<TestItem*> idle;
  for (int i = 0; i < 300; ++i) {
    items.emplace_back(queue).id = i;
    idle.push_back(&items[i]);
  }
  std::multiset<uint64_t> model;
  for (int i = 0; i < 200'000; ++i) {
    const bool filling = i / 1000 % 2 == 0;
    if (!idle.empty() && random() % 4 < (filling ? 3u : 1u)) {
      TestItem* item = idle.back();
      idle.pop_back();
      const uint64_t span = random() % 8 == 0 ? ReadyQueue::kWindow : 100;
      const uint64_t key = queue.virtual_time() + 1 + random() % span;
      key_of[item->id] = key;
      model.insert(key);
      queue.Push(item, key);
    } else {
      auto* item = static_cast<TestItem*>(queue.Pop());
      ASSERT_EQ(item == nullptr, model.empty());
      if (item == nullptr) continue;
      ASSERT_EQ(key_of[item->id], *model.begin()) << i;
      model.erase(model.begin());
      idle.push_back(item);
    }
  }
  EXPECT_GT(queue.virtual_time(), 10 * ReadyQueue::kWindow);
  while (queue.Pop() != nullptr) {
  }
}

TEST(ReadyQueueTest, ItemsOutliveTheirQueueAndGiveTheirSlotsBack) {
  auto slots = std::make_shared<ReadyQueue::Slots>();
  std::unique_ptr<TestItem> item;
  for (int i = 0; i < 20; ++i) {
    ReadyQueue queue({.slots = slots});
    item = std::make_unique<TestItem>(queue);
    queue.Push(item.get(), 1);
    EXPECT_EQ(queue.Pop(), item.get());
  }
}

// Every item carries its number: one that is lost or popped twice shows.
TEST(ReadyQueueTest, ConcurrentPushesAndPopsLoseNothing) {
  constexpr int kThreads = 4, kPerThread = 5'000;
  ReadyQueue queue({.shards = 2});
  std::deque<TestItem> items;
  for (int i = 0; i < kThreads * kPerThread; ++i) items.emplace_back(queue);
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
