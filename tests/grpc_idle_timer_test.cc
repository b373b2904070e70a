// IdleTimer, with a clock and an executor that the test moves.
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "gtest/gtest.h"
#include "transport/grpc/idle_timer.h"

namespace muster {
namespace {

class ManualTime final : public Clock, public Executor {
 public:
  absl::Time Now() override { return absl::UnixEpoch() + now_; }
  absl::Duration Monotonic() override { return now_; }

  int concurrency() const override { return 1; }
  void Run(Callback callback) override { RunAt(now_, std::move(callback)); }
  void RunAt(absl::Duration monotonic, Callback callback) override {
    due_.emplace_back(monotonic, std::move(callback));
  }

  void Advance(absl::Duration by) {
    now_ += by;
    std::vector<std::pair<absl::Duration, Callback>> due = std::move(due_);
    due_.clear();
    for (auto& [time, callback] : due) {
      if (time <= now_) {
        std::move(callback)();
      } else {
        due_.emplace_back(time, std::move(callback));
      }
    }
  }
  size_t pending() const { return due_.size(); }

 private:
  absl::Duration now_ = absl::Seconds(1000);
  std::vector<std::pair<absl::Duration, Callback>> due_;
};

class IdleTimerTest : public ::testing::Test {
 protected:
  ManualTime time_;
  int idle_ = 0;
  IdleTimer timer_{&time_, &time_, absl::Seconds(60), [this] { ++idle_; }};
};

TEST_F(IdleTimerTest, OnlyWhatWaitsIsIdle) {
  time_.Advance(absl::Seconds(600));
  EXPECT_EQ(idle_, 0);
  timer_.Waiting();
  time_.Advance(absl::Seconds(59));
  timer_.Working();
  time_.Advance(absl::Seconds(600));
  EXPECT_EQ(idle_, 0);
  timer_.Waiting();
  for (int i = 0; i < 3; ++i) time_.Advance(absl::Seconds(30));
  EXPECT_EQ(idle_, 1);
}

// The stream may have moved just then, and have done nothing about it.
TEST_F(IdleTimerTest, NoticesTheNextTimeToo) {
  timer_.Waiting();
  time_.Advance(absl::Seconds(60));
  EXPECT_EQ(idle_, 1);
  timer_.Working();
  timer_.Waiting();
  time_.Advance(absl::Seconds(59));
  EXPECT_EQ(idle_, 1);
  time_.Advance(absl::Seconds(1));
  EXPECT_EQ(idle_, 2);
}

TEST_F(IdleTimerTest, StopsForGood) {
  timer_.Waiting();
  timer_.Stop();
  time_.Advance(absl::Seconds(600));
  EXPECT_EQ(idle_, 0);
  EXPECT_EQ(time_.pending(), 0);
}

}  // namespace
}  // namespace muster
