// ReadyQueue on real threads: recorded histories against its promises, and
// threads that are stopped at arbitrary instructions.
//
// tests/interleaving/ has every order of a few steps; here are long runs, real
// items, and the machine's own scheduler.  Run it under ThreadSanitizer: an
// item's fields are plain, so a missing edge is a race.
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "engine/schedule/ready_queue.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr int kScale = 1;
#else
constexpr int kScale = 4;
#endif

// Accuses itself: `check` is written with `key` by whoever holds the item, so a
// reader that sees one write without the other, or an item in two hands, shows.
struct TestItem : ReadyQueue::Item {
  explicit TestItem(const ReadyQueue& queue) : Item(queue.slots()) {}

  void Fill(uint64_t new_key) {
    key = new_key;
    check = ~new_key;
    ++pushes;
  }
  bool intact() const { return check == ~key; }

  int id = 0;
  uint64_t key = 0;
  uint64_t check = ~uint64_t{0};
  int64_t pushes = 0;
  int64_t pops = 0;
};

std::deque<TestItem> MakeItems(const ReadyQueue& queue, int count) {
  std::deque<TestItem> items;
  for (int i = 0; i < count; ++i) items.emplace_back(queue).id = i;
  return items;
}

// Pops until nothing is left; returns how many there were.
int Drain(ReadyQueue& queue) {
  int count = 0;
  while (auto* item = static_cast<TestItem*>(queue.Pop())) {
    EXPECT_TRUE(item->intact());
    ++item->pops;
    ++count;
  }
  return count;
}

struct Shape {
  int threads;
  int shards;
  int slack;
  int items;
  int span;  // Steps of keys are in [0, span], in buckets of 4.
};

class ShapeTest : public testing::TestWithParam<Shape> {
 protected:
  static constexpr int kShift = 2;
  static constexpr uint64_t kWindow = ReadyQueue::kWindow;
  static constexpr uint64_t kAnyBucket = std::numeric_limits<uint64_t>::max();
  const Shape shape_ = GetParam();
};

INSTANTIATE_TEST_SUITE_P(
    , ShapeTest,
    testing::Values(Shape{2, 1, 0, 3, 0}, Shape{3, 1, 0, 8, 10},
                    Shape{4, 2, 0, 8, 60}, Shape{4, 2, 0, 2000, 4000},
                    Shape{8, 2, 3, 500, 4000}, Shape{8, 4, 0, 64, 60'000},
                    Shape{8, 1, 0, 1000, 8}));

TEST_P(ShapeTest, NothingIsLostOrTakenTwiceOrTorn) {
  ReadyQueue queue(
      {.shards = shape_.shards, .slack = shape_.slack, .key_shift = kShift});
  auto items = MakeItems(queue, shape_.items);
  for (TestItem& item : items) {
    item.Fill(static_cast<uint64_t>(item.id));
    queue.Push(&item, item.key);
  }
  std::vector<std::thread> threads;
  for (int t = 0; t < shape_.threads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(t);
      std::vector<TestItem*> mine;
      for (int i = 0; i < 15'000 * kScale; ++i) {
        auto* item = static_cast<TestItem*>(queue.Pop());
        if (item != nullptr) {
          ASSERT_TRUE(item->intact());
          ++item->pops;
          ASSERT_EQ(item->pops, item->pushes);
          mine.push_back(item);
        }
        while (!mine.empty() && random() % 4 != 0) {
          item = mine.back();
          mine.pop_back();
          item->Fill(queue.virtual_time() + random() % (shape_.span + 1));
          queue.Push(item, item->key);
        }
      }
      for (TestItem* item : mine) {
        item->Fill(0);
        queue.Push(item, 0);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Drain(queue), shape_.items);
  for (const TestItem& item : items) ASSERT_EQ(item.pops, item.pushes);
  EXPECT_TRUE(queue.empty());
}

// The bound of the header, on recorded histories: no pop takes from a bucket
// while an item of a lower one (by more than the slack) was there from before
// the pop began until after it ended.
TEST_P(ShapeTest, NoPopOvertakesMoreThanTheBound) {
  struct Stay {
    uint64_t bucket;  // Highest that it can have been put into.
    uint64_t lowest;  // Lowest.
    int64_t pushed;   // When its push had returned ...
    int64_t begin;    // ... and when the pop that took it began,
    int64_t end;      // and ended.
  };
  ReadyQueue queue(
      {.shards = shape_.shards, .slack = shape_.slack, .key_shift = kShift});
  auto items = MakeItems(queue, shape_.items);
  std::atomic<int64_t> clock{0};
  // (item, push number) -> what the pusher saw after its push.
  constexpr int kOps = 8'000 * kScale;
  struct Pushed {
    uint64_t bucket = 0;
    uint64_t lowest = 0;
    int64_t time = 0;
  };
  struct Popped {
    int id;
    int64_t number;
    int64_t begin;
    int64_t end;
  };
  struct Log {
    std::vector<std::pair<std::pair<int, int64_t>, Pushed>> pushes;
    std::vector<Popped> pops;
  };
  std::vector<Log> logs(shape_.threads + 1);
  const auto log_push = [&](Log& log, TestItem* item, uint64_t key) {
    item->Fill(key);
    const std::pair<int, int64_t> name{item->id, item->pushes};
    const uint64_t served = queue.virtual_time() >> kShift;
    queue.Push(item, key);
    Pushed pushed;
    // It went to its key's bucket, or to the one after the time then served.
    pushed.lowest = key >> kShift;
    const uint64_t now = queue.virtual_time() >> kShift;
    pushed.bucket = std::max(pushed.lowest, now + 1);
    // One that slept through a good part of the window may come late.
    if (now - served >= kWindow / 4) pushed.bucket = kAnyBucket;
    pushed.time = clock.fetch_add(1);
    log.pushes.push_back({name, pushed});
  };
  const auto log_pop = [&](Log& log) {
    const int64_t begin = clock.fetch_add(1);
    auto* item = static_cast<TestItem*>(queue.Pop());
    if (item == nullptr) return item;
    log.pops.push_back({item->id, item->pushes, begin, clock.fetch_add(1)});
    return item;
  };

  for (TestItem& item : items) {
    log_push(logs.back(), &item, 8 + static_cast<uint64_t>(item.id));
  }
  std::vector<std::thread> threads;
  for (int t = 0; t < shape_.threads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(100 + t);
      for (int i = 0; i < kOps; ++i) {
        TestItem* item = log_pop(logs[t]);
        if (item == nullptr) continue;
        log_push(logs[t], item,
                 queue.virtual_time() + random() % (shape_.span + 1));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  while (log_pop(logs.back()) != nullptr) {
  }

  std::vector<std::vector<Pushed>> pushed(shape_.items);
  for (TestItem& item : items) pushed[item.id].resize(item.pushes + 1);
  for (const Log& log : logs) {
    for (const auto& [name, push] : log.pushes) {
      pushed[name.first][name.second] = push;
    }
  }
  std::vector<Stay> stays;
  for (const Log& log : logs) {
    for (const Popped& pop : log.pops) {
      const Pushed& push = pushed[pop.id][pop.number];
      stays.push_back(
          {push.bucket, push.lowest, push.time, pop.begin, pop.end});
    }
  }
  // Pops by their begin; items enter once their push had returned.  A tree over
  // the begins of the pops that took them gives the lowest bucket of those that
  // were taken after an instant.
  const int64_t end_of_time = clock.load();
  std::vector<uint64_t> tree(2 * end_of_time,
                             std::numeric_limits<uint64_t>::max());
  const auto enter = [&](int64_t at, uint64_t bucket) {
    for (int64_t i = at + end_of_time; i > 0; i /= 2) {
      tree[i] = std::min(tree[i], bucket);
    }
  };
  const auto lowest_after = [&](int64_t at) {
    uint64_t lowest = std::numeric_limits<uint64_t>::max();
    for (int64_t l = at + end_of_time, r = 2 * end_of_time; l < r;
         l /= 2, r /= 2) {
      if (l & 1) lowest = std::min(lowest, tree[l++]);
      if (r & 1) lowest = std::min(lowest, tree[--r]);
    }
    return lowest;
  };
  std::vector<Stay> by_push = stays;
  std::sort(by_push.begin(), by_push.end(),
            [](const Stay& a, const Stay& b) { return a.pushed < b.pushed; });
  std::sort(stays.begin(), stays.end(),
            [](const Stay& a, const Stay& b) { return a.begin < b.begin; });
  size_t next = 0;
  int64_t overtakes = 0;
  for (const Stay& pop : stays) {
    for (; next < by_push.size() && by_push[next].pushed < pop.begin; ++next) {
      enter(by_push[next].begin, by_push[next].bucket);
    }
    const uint64_t lowest = lowest_after(pop.end);
    const uint64_t slack = shape_.shards == 1 ? 0 : shape_.slack;
    if (lowest < std::numeric_limits<uint64_t>::max() - slack &&
        lowest + slack < pop.lowest) {
      ++overtakes;
    }
  }
  EXPECT_EQ(overtakes, 0) << "of " << stays.size();
}

// --------------------------------------------------------- stopped threads

// Stops a thread wherever it is, as SIGSTOP would a process: its handler sits
// on a semaphore.
std::atomic<int> stopped{0};
sem_t go_on;

void StopHere(int) {
  stopped.fetch_add(1);
  while (sem_wait(&go_on) != 0) {
  }
  stopped.fetch_sub(1);
}

class FreezeTest : public testing::Test {
 protected:
  void SetUp() override {
    sem_init(&go_on, 0, 0);
    struct sigaction action = {};
    action.sa_handler = StopHere;
    sigaction(SIGUSR1, &action, nullptr);
  }

  static void Freeze(std::thread& thread) {
    pthread_kill(thread.native_handle(), SIGUSR1);
    while (stopped.load() == 0) std::this_thread::yield();
  }
  static void Thaw() {
    sem_post(&go_on);
    while (stopped.load() != 0) std::this_thread::yield();
  }
};

// Whatever instruction a thread is stopped at, the others go on, and all items
// but those in its hands are found.
TEST_F(FreezeTest, AStoppedThreadHidesOnlyWhatIsInItsHands) {
  constexpr int kItems = 200, kOthers = 2, kFreezes = 25 * kScale;
  ReadyQueue queue({.shards = 2});
  auto items = MakeItems(queue, kItems);
  for (TestItem& item : items) {
    item.Fill(0);
    queue.Push(&item, 0);
  }
  std::atomic<bool> done{false}, pause{false};
  std::atomic<int> paused{0};
  std::atomic<int64_t> operations[kOthers + 1] = {};
  std::vector<std::thread> threads;
  for (int t = 0; t <= kOthers; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(t);
      while (!done.load()) {
        if (t > 0 && pause.load()) {
          paused.fetch_add(1);
          while (pause.load() && !done.load()) std::this_thread::yield();
          paused.fetch_sub(1);
        }
        auto* item = static_cast<TestItem*>(queue.Pop());
        if (item == nullptr) continue;
        EXPECT_TRUE(item->intact());
        ++item->pops;
        item->Fill(queue.virtual_time() + random() % 50);
        queue.Push(item, item->key);
        operations[t].fetch_add(1, std::memory_order_relaxed);
      }
    });
  }
  std::mt19937_64 random(7);
  for (int f = 0; f < kFreezes; ++f) {
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 500));
    Freeze(threads[0]);
    // The others go on ...
    int64_t before[kOthers + 1];
    for (int t = 1; t <= kOthers; ++t) before[t] = operations[t].load();
    const auto limit =
        std::chrono::steady_clock::now() + std::chrono::seconds(20);
    for (int t = 1; t <= kOthers; ++t) {
      while (operations[t].load() < before[t] + 100 &&
             std::chrono::steady_clock::now() < limit) {
        std::this_thread::yield();
      }
      ASSERT_GE(operations[t].load(), before[t] + 100) << "stopped too";
    }
    // ... and once they hold nothing, all that was pushed is found.
    pause.store(true);
    while (paused.load() < kOthers) std::this_thread::yield();
    std::vector<TestItem*> found;
    while (auto* item = static_cast<TestItem*>(queue.Pop())) {
      found.push_back(item);
    }
    EXPECT_GE(found.size(), kItems - 1u) << "a freeze hides finished pushes";
    for (TestItem* item : found) {
      ++item->pops;
      item->Fill(queue.virtual_time());
      queue.Push(item, item->key);
    }
    pause.store(false);
    while (paused.load() > 0) std::this_thread::yield();
    Thaw();
    if (HasFailure()) break;
  }
  done.store(true);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Drain(queue), kItems);
}

}  // namespace
}  // namespace muster
