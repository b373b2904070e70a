// Calls from outside against a minute's rate: contract 9.3.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/model/error.h"
#include "engine/schedule/throttle.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

// How many calls of one token each are taken at `now`, up to `tries`.
int Taken(Throttle& throttle, absl::Duration now, int tries) {
  int taken = 0;
  for (int i = 0; i < tries; ++i) taken += throttle.Take(1, now).ok();
  return taken;
}

TEST(ThrottleTest, WithoutLimit) {
  Throttle throttle("things", 0);
  for (int i = 0; i < 1000; ++i) {
    EXPECT_TRUE(throttle.Take(1'000'000'000, absl::ZeroDuration()).ok());
  }
}

TEST(ThrottleTest, HoldsOneMinuteAndRefillsAtTheRate) {
  Throttle throttle("queries", 20);
  absl::Duration now = absl::Hours(7);
  EXPECT_EQ(Taken(throttle, now, 30), 20);
  now += absl::Milliseconds(2999);  // One each 3 s.
  EXPECT_EQ(Taken(throttle, now, 5), 0);
  now += absl::Milliseconds(1);
  EXPECT_EQ(Taken(throttle, now, 5), 1);
  now += absl::Seconds(31);  // And a third of the next one.
  EXPECT_EQ(Taken(throttle, now, 30), 10);
  now += absl::Seconds(2);
  EXPECT_EQ(Taken(throttle, now, 5), 1);
  now += absl::Hours(24 * 365 * 200);
  EXPECT_EQ(Taken(throttle, now, 50), 20);
}

TEST(ThrottleTest, SaysTheRateAndWhenToComeAgain) {
  Throttle throttle("job operations", 100);
  absl::Duration now = absl::Seconds(1);
  EXPECT_EQ(Taken(throttle, now, 100), 100);
  absl::Status status = throttle.Take(1, now);
  EXPECT_EQ(ErrorCodeOf(status), ErrorCode::kThrottlingException);
  EXPECT_EQ(status.message(),
            "at most 100 job operations a minute, and they are used up: try "
            "again in 600 ms");
  // What it says is so.
  EXPECT_FALSE(throttle.Take(1, now + absl::Milliseconds(599)).ok());
  EXPECT_TRUE(throttle.Take(1, now + absl::Milliseconds(600)).ok());
  now += absl::Milliseconds(600);
  status = throttle.Take(3, now);
  EXPECT_EQ(status.message(),
            "at most 100 job operations a minute, and they are used up: try "
            "again in 1800 ms");
  EXPECT_FALSE(throttle.Take(3, now + absl::Milliseconds(1799)).ok());
  EXPECT_TRUE(throttle.Take(3, now + absl::Milliseconds(1800)).ok());
}

// Nothing is taken of what is refused, and a smaller call passes still.
TEST(ThrottleTest, AllOrNothing) {
  Throttle throttle("steps", 40);
  const absl::Duration now = absl::Seconds(5);
  EXPECT_TRUE(throttle.Take(32, now).ok());
  EXPECT_FALSE(throttle.Take(32, now).ok());
  EXPECT_FALSE(throttle.Take(9, now).ok());
  EXPECT_TRUE(throttle.Take(8, now).ok());
  EXPECT_FALSE(throttle.Take(1, now).ok());
  EXPECT_EQ(throttle.Take(41, now + absl::Hours(1)).message(),
            "at most 40 steps a minute; got 41 at once");
  EXPECT_TRUE(throttle.Take(40, now + absl::Hours(1)).ok());
}

// A clock that is asked on several threads may seem to go back a little.
TEST(ThrottleTest, AnEarlierInstantAddsNothing) {
  Throttle throttle("calls", 60);
  const absl::Duration now = absl::Seconds(100);
  EXPECT_EQ(Taken(throttle, now, 60), 60);
  EXPECT_EQ(Taken(throttle, now - absl::Seconds(50), 1), 0);
  EXPECT_EQ(Taken(throttle, now + absl::Seconds(1), 2), 1);
}

// Whatever the steps of the clock: no call too many, none lost.
TEST(ThrottleTest, LosesNoFraction) {
  for (const int64_t rate : {1, 7, 100, 1667, 73'728'000, 100'000'000}) {
    Throttle throttle("calls", rate);
    absl::Duration now = absl::ZeroDuration();
    ASSERT_TRUE(throttle.Take(rate, now).ok());
    // A minute in uneven steps fills it exactly, wherever it was looked at.
    for (int i = 0; now < absl::Minutes(1); ++i) {
      EXPECT_FALSE(throttle.Take(rate, now).ok()) << rate;
      now = std::min(now + absl::Milliseconds(137 + i % 11), absl::Minutes(1));
    }
    EXPECT_TRUE(throttle.Take(rate, now).ok()) << rate;
    EXPECT_FALSE(throttle.Take(1, now).ok()) << rate;
  }
}

TEST(ThrottleTest, ManyThreadsTakeNoneTwice) {
  constexpr int kThreads = 4;
  Throttle throttle("calls", 10'000);
  std::atomic<int> taken{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back(
        [&] { taken.fetch_add(Taken(throttle, absl::Seconds(3), 5'000)); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(taken.load(), 10'000);
}

}  // namespace
}  // namespace muster
