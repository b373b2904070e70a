// DelayQueue: timers against a model, at the edges of time, under jumps of the
// clock, and on real threads.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/civil_time.h"
#include "absl/time/time.h"
#include "engine/schedule/delay_queue.h"
#include "engine/schedule/delay_rings.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr int kScale = 1;
#else
constexpr int kScale = 4;
#endif

struct TestTimer : DelayQueue::Timer {
  explicit TestTimer(const DelayQueue& queue) : Timer(queue.slots()) {}
  int id = 0;
};

constexpr absl::Duration kTick = absl::Milliseconds(1);
constexpr absl::Duration kInfinite = absl::InfiniteDuration();

bool KeepAll(DelayQueue::Timer*) { return true; }

// Calls again as long as it is told to.
DelayQueue::Timer* PopDue(DelayQueue& queue, absl::Duration now) {
  for (int calls = 0; calls < 100'000; ++calls) {
    DelayQueue::Timer* timer = queue.PopDue(now, KeepAll);
    const absl::Duration next = queue.NextDue();
    if (timer != nullptr || next == kInfinite || next > now) return timer;
  }
  ADD_FAILURE() << "put back for ever";
  return nullptr;
}

TEST(DelayQueueTest, EarliestTickFirstAndNoneEarly) {
  DelayQueue queue;
  EXPECT_EQ(queue.NextDue(), kInfinite);
  EXPECT_EQ(queue.PopDue(kInfinite, KeepAll), nullptr);
  TestTimer a(queue), b(queue), c(queue);
  const absl::Duration start = absl::Seconds(1000);
  queue.Push(&a, start + 30 * kTick, start);
  queue.Push(&b, start + 10 * kTick, start);
  queue.Push(&c, start + 20 * kTick, start);
  EXPECT_EQ(queue.NextDue(), start + 10 * kTick);
  EXPECT_EQ(queue.PopDue(start + 9 * kTick, KeepAll), nullptr);
  EXPECT_EQ(queue.PopDue(start + 25 * kTick, KeepAll), &b);
  EXPECT_EQ(queue.PopDue(start + 25 * kTick, KeepAll), &c);
  EXPECT_EQ(queue.PopDue(start + 25 * kTick, KeepAll), nullptr);
  EXPECT_EQ(queue.NextDue(), start + 30 * kTick);
  EXPECT_EQ(queue.PopDue(start + 30 * kTick, KeepAll), &a);
  EXPECT_EQ(queue.PopDue(kInfinite, KeepAll), nullptr);
  EXPECT_EQ(queue.NextDue(), kInfinite);
}

TEST(DelayQueueTest, TheNewestFirstWithinATick) {
  DelayQueue queue;
  TestTimer a(queue), b(queue);
  queue.Push(&a, 5 * kTick - absl::Nanoseconds(1), 0 * kTick);
  queue.Push(&b, 5 * kTick - absl::Nanoseconds(2), 0 * kTick);
  EXPECT_EQ(queue.PopDue(5 * kTick, KeepAll), &b);
  EXPECT_EQ(queue.PopDue(5 * kTick, KeepAll), &a);
}

TEST(DelayQueueTest, DueTimesAreRoundedUpToTheTickAndNowDown) {
  DelayQueue queue;
  TestTimer a(queue);
  const absl::Duration origins[] = {absl::Seconds(5), absl::ZeroDuration(),
                                    absl::Seconds(-5), -absl::Hours(24 * 365)};
  for (const absl::Duration origin : origins) {
    queue.Push(&a, origin + absl::Nanoseconds(1), origin);
    EXPECT_EQ(a.due(), origin + kTick);
    EXPECT_EQ(queue.PopDue(origin + kTick - absl::Nanoseconds(1), KeepAll),
              nullptr);
    EXPECT_EQ(queue.NextDue(), origin + kTick);
    EXPECT_EQ(queue.PopDue(origin + kTick, KeepAll), &a);
    queue.Push(&a, origin, origin - kTick);
    EXPECT_EQ(queue.PopDue(origin - absl::Nanoseconds(1), KeepAll), nullptr);
    EXPECT_EQ(queue.PopDue(origin, KeepAll), &a);
  }
}

TEST(DelayQueueTest, WhatIsDueAlreadyIsDueAtOnce) {
  DelayQueue queue;
  TestTimer a(queue);
  const absl::Duration now = absl::Hours(24 * 365 * 56);
  for (const absl::Duration due :
       {now, now - kTick, now - absl::Hours(24 * 365 * 40),
        absl::ZeroDuration(), -absl::Hours(24 * 365 * 200), -kInfinite}) {
    queue.Push(&a, due, now);
    EXPECT_LE(queue.NextDue(), now);
    EXPECT_EQ(queue.PopDue(now, KeepAll), &a);
  }
}

absl::Duration SinceEpoch(int year) {
  return absl::FromCivil(absl::CivilSecond(year), absl::UTCTimeZone()) -
         absl::UnixEpoch();
}

// The clock goes from one NextDue() to the next, as a worker that sleeps.
TEST(DelayQueueTest, StartTimesInTheYear2050) {
  DelayQueue queue;
  TestTimer timer(queue);
  absl::Duration now = SinceEpoch(2026);
  const absl::Duration due = SinceEpoch(2050) + absl::Milliseconds(1234.5);
  queue.Push(&timer, due, now);
  int wakes = 0;
  DelayQueue::Timer* popped = nullptr;
  while (popped == nullptr) {
    ASSERT_LT(now, due) << "missed";
    ASSERT_GT(queue.NextDue(), now);
    now = queue.NextDue();
    popped = queue.PopDue(now, KeepAll);
    ++wakes;
  }
  EXPECT_EQ(popped, &timer);
  EXPECT_EQ(now, SinceEpoch(2050) + absl::Milliseconds(1235));
  // Every 74.6 hours.
  EXPECT_LT(wakes, 24 * 365.25 * 24 / 74 + 3);
}

TEST(DelayQueueTest, BeyondTheRangeIsNever) {
  DelayQueue queue;
  TestTimer a(queue), b(queue), c(queue);
  const absl::Duration now = SinceEpoch(2026);
  queue.Push(&a, SinceEpoch(9999), now);
  queue.Push(&b, kInfinite, now);
  queue.Push(&c, SinceEpoch(2240), now);
  EXPECT_EQ(a.due(), kInfinite);
  for (const int year : {2027, 2050, 2200, 2239}) {
    EXPECT_EQ(PopDue(queue, SinceEpoch(year)), nullptr);
    EXPECT_NE(queue.NextDue(), kInfinite);
  }
  EXPECT_EQ(PopDue(queue, SinceEpoch(2241)), &c);
  // The clock at its end.
  EXPECT_EQ(PopDue(queue, kInfinite), nullptr);
  EXPECT_EQ(queue.NextDue(), kInfinite);
  TestTimer d(queue);
  queue.Push(&d, kInfinite, kInfinite);
  EXPECT_EQ(PopDue(queue, kInfinite), nullptr);
  queue.Push(&c, absl::ZeroDuration(), -kInfinite);
  EXPECT_EQ(PopDue(queue, -kTick), nullptr);
  EXPECT_EQ(PopDue(queue, absl::ZeroDuration()), &c);
}

TEST(DelayQueueTest, AskedBeforeAPutBack) {
  DelayQueue queue;
  TestTimer near(queue), far(queue), gone(queue);
  queue.Push(&near, absl::Seconds(10), absl::ZeroDuration());
  queue.Push(&far, absl::Seconds(100), absl::ZeroDuration());
  queue.Push(&gone, absl::Seconds(101), absl::ZeroDuration());
  int asked = 0;
  const auto keep = [&](DelayQueue::Timer* timer) {
    ++asked;
    EXPECT_NE(timer, &near);
    return timer != &gone;
  };
  EXPECT_EQ(queue.PopDue(absl::Seconds(9), keep), nullptr);
  EXPECT_EQ(asked, 0);
  EXPECT_EQ(queue.PopDue(absl::Seconds(10), keep), &near);
  EXPECT_EQ(queue.PopDue(absl::Seconds(10), keep), nullptr);
  // Its coarse bucket: it is given up when that begins.
  const absl::Duration surfaces = queue.NextDue();
  EXPECT_GT(surfaces, absl::Seconds(100 - 17));
  EXPECT_EQ(queue.PopDue(surfaces, keep), &gone);
  EXPECT_EQ(queue.PopDue(surfaces, keep), nullptr);
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(queue.NextDue(), absl::Seconds(100));
  EXPECT_EQ(queue.PopDue(absl::Seconds(100), keep), &far);
}

TEST(DelayQueueTest, WhatSurfacesIsSpreadOverCalls) {
  DelayQueue queue;
  std::deque<TestTimer> timers;
  for (int i = 0; i < 1000; ++i) {
    timers.emplace_back(queue);
    queue.Push(&timers.back(), absl::Seconds(3600) + i * kTick,
               absl::ZeroDuration());
  }
  const absl::Duration now = queue.NextDue();
  int calls = 0;
  while (queue.NextDue() <= now) {
    int moved = 0;
    EXPECT_EQ(queue.PopDue(now,
                           [&](DelayQueue::Timer*) {
                             ++moved;
                             return true;
                           }),
              nullptr);
    EXPECT_LE(moved, DelayQueue::kMovesMax);
    ++calls;
  }
  EXPECT_GE(calls, 1000 / DelayQueue::kMovesMax);
  EXPECT_LE(calls, 1000 / DelayQueue::kMovesMax + 3);
  for (TestTimer& timer : timers) {
    EXPECT_EQ(queue.PopDue(timer.due() - kTick, KeepAll), nullptr);
    EXPECT_EQ(queue.PopDue(timer.due(), KeepAll), &timer);
  }
}

// All of the fine ring and hundreds of coarse buckets are due at once.
TEST(DelayQueueTest, AnHourForwardAtOnce) {
  std::mt19937_64 random(3);
  DelayQueue queue;
  std::deque<TestTimer> timers;
  absl::Duration now = absl::Hours(1000);
  int due = 0;
  for (int i = 0; i < 20'000; ++i) {
    timers.emplace_back(queue);
    const auto in = absl::Milliseconds(random() % 5'000'000);
    if (in <= absl::Hours(1)) ++due;
    queue.Push(&timers.back(), now + in, now);
  }
  now += absl::Hours(1);
  int popped = 0;
  while (auto* timer = PopDue(queue, now)) {
    EXPECT_LE(timer->due(), now);
    ++popped;
  }
  EXPECT_EQ(popped, due);
  // From here on in order again, and no wake-up for nothing but at the start of
  // a coarse bucket.
  absl::Duration last = now;
  int idle = 0;
  while (queue.NextDue() != kInfinite) {
    const bool woke = queue.NextDue() > now;
    now = queue.NextDue();
    auto* timer = PopDue(queue, now);
    if (timer == nullptr) {
      if (woke) ++idle;
      continue;
    }
    EXPECT_EQ(timer->due(), now);
    EXPECT_GE(timer->due(), last);
    last = timer->due();
    ++popped;
  }
  EXPECT_EQ(popped, 20'000);
  EXPECT_LE(idle, 5'000 / 16);
}

// What is pushed while the clock is far ahead of what has been served shares
// places with earlier laps.
TEST(DelayQueueTest, ABacklogMovesNoTimerMoreThanThreeTimes) {
  for (const auto jump :
       {absl::Seconds(20), absl::Hours(1), absl::Hours(24 * 5)}) {
    std::mt19937_64 random(5);
    DelayQueue queue;
    std::deque<TestTimer> timers;
    absl::Duration now = absl::Hours(1000);
    const auto push = [&](int64_t reach_ms) {
      TestTimer& timer = timers.emplace_back(queue);
      timer.id = static_cast<int>(timers.size()) - 1;
      const auto in =
          static_cast<int64_t>(random() % static_cast<uint64_t>(reach_ms));
      queue.Push(&timer, now + in * kTick, now);
    };
    for (int i = 0; i < 2000; ++i) {
      push(20'000);
      push(10'000'000);
      push(600'000'000);
    }
    now += jump;
    for (int i = 0; i < 2000; ++i) {
      push(20'000);
      push(10'000'000);
    }
    std::vector<int> moves(timers.size());
    int popped = 0, most = 0;
    while (queue.NextDue() <= now) {
      if (queue.PopDue(now, [&](DelayQueue::Timer* timer) {
            most = std::max(most, ++moves[static_cast<TestTimer*>(timer)->id]);
            return true;
          }) != nullptr) {
        ++popped;
      }
      ASSERT_LE(most, 3) << jump;
    }
    EXPECT_GE(most, 1);
    const auto due = std::count_if(
        timers.begin(), timers.end(),
        [&](const TestTimer& timer) { return timer.due() <= now; });
    EXPECT_EQ(popped, due);
  }
}

// ------------------------------------------------- tiny rings and a model

template <int kBits>
struct TinyPolicy {
  template <typename T>
  using Atomic = std::atomic<T>;
  static constexpr int kFanoutBits = kBits;
  static constexpr int kFirstChunkBits = 4;
  static constexpr std::memory_order Order(QueueEdge, std::memory_order order) {
    return order;
  }
  static constexpr bool kPrefetches = true;
};

struct Shape {
  int jump_percent;  // Of the steps are jumps of the clock ...
  uint64_t jump;     // ... by up to as much ...
  bool back;         // ... both ways.
  uint64_t reach;    // Due up to as much ahead.
};

template <int kBits>
void AgainstModel(const Shape& shape, uint64_t seed) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  using Rings = DelayRings<TinyPolicy<kBits>>;
  using Slab = typename Rings::Slab;
  constexpr int kTimers = 60;
  std::mt19937_64 random(seed);
  Slab slab;
  Rings rings(&slab);
  std::vector<uint32_t> idle;
  for (int i = 0; i < kTimers; ++i) idle.push_back(slab.Attach(&slab));
  std::vector<uint64_t> due(idle.back() + 1), entered(idle.back() + 1);
  std::multimap<uint64_t, uint32_t> model;  // By when they can be popped.
  uint64_t now = uint64_t{1} << 42;
  const auto due_of = [&](uint32_t slot) { return due[slot]; };
  uint64_t settled = now;  // When nothing was due last.
  int64_t moves = 0, pops = 0;
  for (int i = 0; i < 20'000; ++i) {
    if (!idle.empty() && random() % 2 == 0) {
      const uint32_t slot = idle.back();
      idle.pop_back();
      uint64_t reach = shape.reach;
      if (random() % 4 == 0) reach = 3;
      due[slot] = now + random() % reach;
      if (random() % 16 == 0) due[slot] = now - random() % reach;
      if (i < 5) due[slot] = Rings::kNever;
      entered[slot] = std::max(due[slot], now);
      rings.Push(slot, due[slot], now);
      model.emplace(entered[slot], slot);
    }
    now += random() % 3;
    if (static_cast<int>(random() % 100) < shape.jump_percent) {
      const uint64_t by = random() % shape.jump;
      now = shape.back && random() % 2 == 0 ? now - by : now + by;
    }
    ASSERT_LE(rings.NextDue(),
              model.empty() ? Rings::Ring::kNoBucket : model.begin()->first);
    int budget = static_cast<int>(random() % 4);
    int rounds = 0;
    while (budget-- > 0) {
      const uint32_t slot = rings.PopDue(now, due_of, [&](uint32_t moved) {
        EXPECT_GT(due[moved], now);
        ++moves;
        return true;
      });
      if (slot == Slab::kNone) {
        if (rings.NextDue() <= now) {  // Told to come again.
          ++budget;
          ASSERT_LT(++rounds, 10'000) << "put back for ever";
          continue;
        }
        // Nothing is due, then.
        settled = now;
        if (!model.empty()) {
          ASSERT_GT(model.begin()->first, now);
        }
        break;
      }
      ++pops;
      ASSERT_LE(due[slot], now) << "early";
      if (shape.jump_percent == 0 && shape.reach <= Rings::kNear &&
          now < settled + Rings::kNear) {
        ASSERT_EQ(entered[slot], model.begin()->first) << "out of order";
      }
      auto [it, end] = model.equal_range(entered[slot]);
      while (it != end && it->second != slot) ++it;
      ASSERT_NE(it, end) << "twice";
      model.erase(it);
      idle.push_back(slot);
    }
  }
  // All are found in the end, but those that are never due.
  int rounds = 0;
  while (!model.empty() && model.begin()->first < Rings::kNever) {
    now = std::max(now, model.begin()->first);
    const uint32_t slot =
        rings.PopDue(now, due_of, [](uint32_t) { return true; });
    if (slot == Slab::kNone) {
      ASSERT_LE(rings.NextDue(), now);
      ASSERT_LT(++rounds, 100'000);
      continue;
    }
    ASSERT_LE(due[slot], now);
    auto [it, end] = model.equal_range(entered[slot]);
    while (it != end && it->second != slot) ++it;
    ASSERT_NE(it, end);
    model.erase(it);
  }
  EXPECT_GT(pops, 10);
  if (shape.reach > 4 * Rings::kNear) {
    EXPECT_GT(moves, 0);
  }
}

TEST(DelayRingsTest, AgreeWithAModel) {
  const Shape shapes[] = {
      {0, 1, false, 4},        {0, 1, false, 16},
      {0, 1, false, 200},      {5, 100, false, 200},
      {5, 40, true, 60},       {20, 1000, true, 1000},
      {1, 100'000, true, 500}, {10, 3000, true, 4'000'000},
      {2, 100, true, 7},
  };
  for (const Shape& shape : shapes) {
    for (uint64_t seed = 1; seed <= 4; ++seed) {
      AgainstModel<1>(shape, seed);
      AgainstModel<2>(shape, seed);
      if (seed == 1) AgainstModel<5>(shape, seed);
      if (HasFatalFailure()) {
        FAIL() << "jump " << shape.jump << " reach " << shape.reach;
      }
    }
  }
}

// A sleeper that calls only when NextDue() says so misses nothing: with the
// clock stepping back and forth between its calls.
TEST(DelayRingsTest, ASleeperIsExactOnASteadyClock) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    using Rings = DelayRings<TinyPolicy<1>>;
    std::mt19937_64 random(seed);
    Rings::Slab slab;
    Rings rings(&slab);
    std::vector<uint64_t> due(64);  // By slot.
    uint64_t now = 1000;
    for (int i = 0; i < 40; ++i) {
      const uint32_t slot = slab.Attach(&slab);
      due[slot] = now + random() % 500;
      rings.Push(slot, due[slot], now);
    }
    int pops = 0, idle = 0;
    while (rings.NextDue() < Rings::kNever) {
      if (rings.NextDue() > now) now = rings.NextDue();
      const uint32_t slot = rings.PopDue(
          now, [&](uint32_t slot) { return due[slot]; },
          [](uint32_t) { return true; });
      if (slot == Rings::Slab::kNone) {
        ++idle;
      } else {
        ASSERT_EQ(due[slot], now);
        ++pops;
      }
    }
    EXPECT_EQ(pops, 40);
    // One per coarse bucket, and per round of the coarse ring for each timer.
    EXPECT_LE(idle, 500 / static_cast<int>(Rings::kNear) + 40 * 30);
  }
}

// ----------------------------------------------------------- real threads

// Accuses itself: `check` is written with `due_tick` by whoever holds it.
struct AccusingTimer : DelayQueue::Timer {
  explicit AccusingTimer(const DelayQueue& queue) : Timer(queue.slots()) {}
  void Fill(int64_t new_due) {
    due_ms = new_due;
    check = ~new_due;
    ++pushes;
  }
  int64_t due_ms = 0;
  int64_t check = ~int64_t{0};
  int64_t pushes = 0;
  int64_t pops = 0;
};

struct Load {
  int threads;
  int timers;
  int64_t reach;  // Milliseconds.
  int64_t step;   // The clock moves on by up to as much per operation.
  bool jumps;     // Each thread's clock is off by up to `reach`, both ways.
};

class LoadTest : public testing::TestWithParam<Load> {};
INSTANTIATE_TEST_SUITE_P(, LoadTest,
                         testing::Values(Load{2, 4, 3, 1, false},
                                         Load{4, 64, 40, 1, false},
                                         Load{4, 2000, 60'000, 40, false},
                                         Load{3, 100, 1'000'000, 20'000, false},
                                         Load{4, 200, 100'000, 3000, true},
                                         Load{8, 16, 20'000, 10'000, true}));

TEST_P(LoadTest, EveryTimerOnceAndNoneEarly) {
  const Load load = GetParam();
  DelayQueue queue;
  std::deque<AccusingTimer> timers;
  for (int i = 0; i < load.timers; ++i) timers.emplace_back(queue);
  std::atomic<int64_t> clock{1'000'000};
  for (AccusingTimer& timer : timers) {
    timer.Fill(clock.load());
    queue.Push(&timer, absl::Milliseconds(timer.due_ms),
               absl::Milliseconds(clock.load()));
  }
  std::vector<std::thread> threads;
  for (int t = 0; t < load.threads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(t);
      std::vector<AccusingTimer*> mine;
      for (int i = 0; i < 10'000 * kScale; ++i) {
        int64_t now = clock.fetch_add(static_cast<int64_t>(
            random() % static_cast<uint64_t>(load.step + 1)));
        if (load.jumps) {
          now += static_cast<int64_t>(random() %
                                      static_cast<uint64_t>(2 * load.reach)) -
                 load.reach;
        }
        auto* timer = static_cast<AccusingTimer*>(
            queue.PopDue(absl::Milliseconds(now), [&](DelayQueue::Timer* kept) {
              auto* timer = static_cast<AccusingTimer*>(kept);
              EXPECT_EQ(timer->check, ~timer->due_ms);
              EXPECT_GT(timer->due_ms, now);
              return true;
            }));
        if (timer != nullptr) {
          ASSERT_EQ(timer->check, ~timer->due_ms);
          ASSERT_LE(timer->due_ms, now) << "early";
          ++timer->pops;
          ASSERT_EQ(timer->pops, timer->pushes);
          mine.push_back(timer);
        }
        while (!mine.empty() && random() % 4 != 0) {
          timer = mine.back();
          mine.pop_back();
          timer->Fill(now + static_cast<int64_t>(
                                random() % static_cast<uint64_t>(load.reach)));
          queue.Push(timer, absl::Milliseconds(timer->due_ms),
                     absl::Milliseconds(now));
          ASSERT_LE(queue.NextDue(), absl::Hours(1 << 20));
        }
      }
      for (AccusingTimer* timer : mine) {
        timer->Fill(0);
        queue.Push(timer, absl::ZeroDuration(), absl::ZeroDuration());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const auto end = absl::Milliseconds(clock.load() + 4 * load.reach);
  while (auto* timer = PopDue(queue, end)) {
    ++static_cast<AccusingTimer*>(timer)->pops;
  }
  EXPECT_EQ(queue.NextDue(), kInfinite);
  for (const AccusingTimer& timer : timers) {
    EXPECT_EQ(timer.pops, timer.pushes);
  }
}

// Whoever has pushed sees a NextDue() that is not later, until the timer is
// due, while others pop, push and raise.
TEST(DelayQueueStressTest, NextDueIsNeverAfterAPushThatReturned) {
  DelayQueue queue;
  std::atomic<int64_t> clock{1'000'000};
  std::deque<AccusingTimer> timers;
  for (int i = 0; i < 8; ++i) timers.emplace_back(queue);
  std::atomic<int64_t> looks{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(t);
      std::vector<AccusingTimer*> mine = {&timers[2 * t], &timers[2 * t + 1]};
      int64_t mine_looks = 0;
      for (int i = 0; i < 20'000 * kScale; ++i) {
        const int64_t now = clock.fetch_add(1);
        if (!mine.empty()) {
          AccusingTimer* timer = mine.back();
          mine.pop_back();
          const int64_t due = now + 1 + static_cast<int64_t>(random() % 200);
          timer->Fill(due);
          queue.Push(timer, absl::Milliseconds(due), absl::Milliseconds(now));
          for (int look = 0; look < 3; ++look) {
            const absl::Duration next = queue.NextDue();
            // Nobody can have taken it as long as the clock is before it.
            if (clock.load() >= due) break;
            ASSERT_LE(next, absl::Milliseconds(due));
            ++mine_looks;
          }
        }
        if (auto* timer = queue.PopDue(absl::Milliseconds(now), KeepAll)) {
          mine.push_back(static_cast<AccusingTimer*>(timer));
        }
      }
      looks.fetch_add(mine_looks);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(looks.load(), 1000);
}

}  // namespace
}  // namespace muster
