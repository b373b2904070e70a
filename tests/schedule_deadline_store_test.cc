// DeadlineStore against a model, and at its limits.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/time/civil_time.h"
#include "absl/time/time.h"
#include "engine/schedule/deadline_store.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

constexpr absl::Duration kMs = absl::Milliseconds(1);
constexpr int kAll = 1 << 30;

std::vector<uint64_t> Expire(DeadlineStore& store, absl::Duration now) {
  std::vector<uint64_t> out;
  EXPECT_FALSE(store.ExpireDue(now, kAll, &out));
  return out;
}

using Values = std::vector<uint64_t>;

TEST(DeadlineStoreTest, ExactToTheTick) {
  for (const absl::Duration start :
       {absl::ZeroDuration(), absl::Hours(500'000), -absl::Hours(1)}) {
    DeadlineStore store({}, start);
    EXPECT_EQ(store.NextDue(), absl::InfiniteDuration());
    EXPECT_TRUE(store.Add(start + 7 * kMs - absl::Nanoseconds(1), 7));
    EXPECT_TRUE(store.Add(start + 3 * kMs, 3));
    EXPECT_TRUE(store.Add(start + 3 * kMs - absl::Nanoseconds(0.25), 4));
    EXPECT_TRUE(store.Add(start - kMs, 0));
    EXPECT_EQ(store.NextDue(), start);
    EXPECT_EQ(Expire(store, start), Values({0}));
    EXPECT_EQ(store.NextDue(), start + 3 * kMs);
    EXPECT_EQ(Expire(store, start + 3 * kMs - absl::Nanoseconds(1)), Values());
    EXPECT_EQ(Expire(store, start + 3 * kMs), Values({4, 3}));
    // What is due already comes with the next call, at the same time too.
    EXPECT_TRUE(store.Add(start, 5));
    EXPECT_EQ(Expire(store, start + 3 * kMs), Values({5}));
    EXPECT_EQ(Expire(store, start + 7 * kMs), Values({7}));
    EXPECT_EQ(store.size(), 0);
    EXPECT_EQ(store.NextDue(), absl::InfiniteDuration());
  }
}

TEST(DeadlineStoreTest, OtherTicks) {
  DeadlineStore store({.tick = absl::Seconds(1), .fine_ticks = 64},
                      absl::ZeroDuration());
  store.Add(absl::Milliseconds(1001), 1);
  EXPECT_EQ(store.NextDue(), absl::Seconds(2));
  EXPECT_EQ(Expire(store, absl::Milliseconds(1999)), Values());
  EXPECT_EQ(Expire(store, absl::Seconds(2)), Values({1}));
}

TEST(DeadlineStoreTest, RefusesBeyondItsLimit) {
  DeadlineStore store({.entries_max = 100}, absl::ZeroDuration());
  for (uint64_t i = 0; i < 100; ++i) {
    EXPECT_TRUE(store.Add(absl::Seconds(static_cast<int64_t>(i)), i));
  }
  EXPECT_FALSE(store.Add(absl::ZeroDuration(), 100));
  EXPECT_EQ(store.size(), 100);
  EXPECT_EQ(Expire(store, absl::ZeroDuration()), Values({0}));
  EXPECT_TRUE(store.Add(absl::Seconds(7), 100));
  EXPECT_FALSE(store.Add(absl::Seconds(7), 100));
}

TEST(DeadlineStoreTest, BoundedPerCallAndGoesOn) {
  // All in one tick: of the fine ring, then of a coarse chain.
  for (const absl::Duration due : {5 * kMs, absl::Hours(1)}) {
    DeadlineStore store({}, absl::ZeroDuration());
    for (uint64_t i = 0; i < 1000; ++i) store.Add(due, i);
    std::vector<uint64_t> all;
    int calls = 0;
    bool more = true;
    while (more) {
      std::vector<uint64_t> out;
      more = store.ExpireDue(due, 7, &out);
      EXPECT_LE(out.size(), 7u);
      if (more) {
        EXPECT_LE(store.NextDue(), due);
      }
      all.insert(all.end(), out.begin(), out.end());
      ASSERT_LT(++calls, 400);
      // An entry that comes in between is not lost.
      if (calls == 10) store.Add(due, 1000);
    }
    std::sort(all.begin(), all.end());
    ASSERT_EQ(all.size(), 1001u);
    for (uint64_t i = 0; i <= 1000; ++i) EXPECT_EQ(all[i], i);
  }
}

TEST(DeadlineStoreTest, FarFutures) {
  const auto at = [](int year) {
    return absl::FromCivil(absl::CivilSecond(year), absl::UTCTimeZone()) -
           absl::UnixEpoch();
  };
  absl::Duration now = at(2026);
  DeadlineStore store({}, now);
  store.Add(at(2050) + absl::Milliseconds(0.5), 2050);
  store.Add(at(9999), 9999);
  store.Add(absl::InfiniteDuration(), 1);
  store.Add(-absl::InfiniteDuration(), 0);
  EXPECT_EQ(Expire(store, now), Values({0}));
  std::vector<uint64_t> out;
  int wakes = 0;
  while (out.empty()) {
    ASSERT_LE(now, at(2050));
    ASSERT_GT(store.NextDue(), now) << "a call for nothing";
    now = store.NextDue();
    EXPECT_FALSE(store.ExpireDue(now, kAll, &out));
    ++wakes;
  }
  EXPECT_EQ(out, Values({2050}));
  EXPECT_EQ(now, at(2050) + kMs);
  EXPECT_LT(wakes, 50'000);  // Every 4.6 hours.
  EXPECT_EQ(Expire(store, at(2060)), Values());
  EXPECT_EQ(store.size(), 2);
}

TEST(DeadlineStoreTest, AClockThatGoesBack) {
  DeadlineStore store({}, absl::Seconds(100));
  store.Add(absl::Seconds(101), 1);
  EXPECT_EQ(Expire(store, absl::Seconds(100.5)), Values());
  EXPECT_EQ(Expire(store, absl::Seconds(10)), Values());
  store.Add(absl::Seconds(11), 2);
  EXPECT_EQ(Expire(store, absl::Seconds(12)), Values());
  EXPECT_EQ(Expire(store, absl::Seconds(100.5)), Values({2}));
  EXPECT_EQ(Expire(store, absl::Seconds(101)), Values({1}));
  // Empty: nothing ties it to the later time.
  EXPECT_EQ(Expire(store, absl::Seconds(10)), Values());
  store.Add(absl::Seconds(11), 3);
  EXPECT_EQ(store.NextDue(), absl::Seconds(11));
  EXPECT_EQ(Expire(store, absl::Seconds(11)), Values({3}));
}

TEST(DeadlineStoreTest, MemoryIsUsedAgainAndGivenBack) {
  DeadlineStore store({}, absl::ZeroDuration());
  const size_t empty = store.MemoryUsage();
  size_t full = 0;
  absl::Duration now;
  for (int round = 0; round < 5; ++round) {
    for (uint64_t i = 0; i < 100'000; ++i) {
      store.Add(now + static_cast<int64_t>(i % 10'000) * kMs, i);
    }
    if (round == 0) full = store.MemoryUsage();
    EXPECT_EQ(store.MemoryUsage(), full);
    store.Trim();
    EXPECT_EQ(store.MemoryUsage(), full);
    now += absl::Seconds(10);
    EXPECT_EQ(Expire(store, now).size(), 100'000u);
  }
  EXPECT_GT(full, empty);
  store.Trim();
  EXPECT_EQ(store.MemoryUsage(), empty);
  store.Add(now, 1);
  EXPECT_EQ(Expire(store, now), Values({1}));
}

struct Shape {
  int fine_ticks;
  uint64_t reach;
  uint64_t jump;
  int steps_max;
};

class ModelTest : public testing::TestWithParam<Shape> {};
INSTANTIATE_TEST_SUITE_P(, ModelTest,
                         testing::Values(Shape{64, 30, 1, 100},
                                         Shape{64, 400, 3, 3},
                                         Shape{64, 64, 200, 1},
                                         Shape{128, 400'000, 2000, 50},
                                         Shape{64, 3'000'000, 500'000, 5},
                                         Shape{4096, 20'000, 30, 1000},
                                         Shape{65'536, 60'000, 30, 7}));

TEST_P(ModelTest, Agrees) {
  const Shape shape = GetParam();
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    int64_t now = static_cast<int64_t>(random() % 1'000'000) - 500'000;
    DeadlineStore store({.fine_ticks = shape.fine_ticks}, now * kMs);
    std::multimap<int64_t, uint64_t> model;
    std::vector<uint64_t> out;
    int64_t spread_calls = 0;
    for (uint64_t i = 0; i < 30'000; ++i) {
      if (random() % 8 != 0) {
        int64_t due = now + static_cast<int64_t>(random() % shape.reach);
        if (random() % 16 == 0) due = now - 5;
        ASSERT_TRUE(store.Add(due * kMs, i));
        model.emplace(std::max(due, now), i);
      }
      if (random() % 4 != 0) continue;
      now += static_cast<int64_t>(random() % (shape.jump + 1));
      bool more = true;
      int64_t last = model.empty() ? now : model.begin()->first;
      while (more) {
        out.clear();
        more = store.ExpireDue(now * kMs, shape.steps_max, &out);
        if (out.empty() && more) ++spread_calls;
        for (const uint64_t value : out) {
          // In the order of ticks.
          const int64_t first = model.begin()->first;
          ASSERT_LE(first, now) << "early";
          ASSERT_GE(first, last);
          last = first;
          auto [it, end] = model.equal_range(first);
          while (it != end && it->second != value) ++it;
          ASSERT_NE(it, end) << "out of order, or twice";
          model.erase(it);
        }
      }
      ASSERT_TRUE(model.empty() || model.begin()->first > now) << "missed";
      ASSERT_EQ(store.size(), static_cast<int64_t>(model.size()));
      const absl::Duration next = store.NextDue();
      if (model.empty()) {
        ASSERT_EQ(next, absl::InfiniteDuration());
      } else {
        ASSERT_LE(next, model.begin()->first * kMs);
        ASSERT_GT(next, now * kMs);
        if (model.begin()->first - now < shape.fine_ticks) {
          // Exact, but for the begin of a coarse chain.
          ASSERT_TRUE(next == model.begin()->first * kMs ||
                      next / kMs / shape.fine_ticks ==
                          std::floor(next / kMs / shape.fine_ticks));
        }
      }
    }
  }
}

}  // namespace
}  // namespace muster
