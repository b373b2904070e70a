// A slice's states, against a model that keeps one struct per target.
#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/dispatch/attempt_key.h"
#include "engine/dispatch/slice.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

RowSet EveryNth(int n) {
  RowBitmap bitmap;
  for (int row = 0; row < kShardRowsMax; row += n) bitmap.Set(row);
  return RowSet(bitmap);
}

Slice::Stamp At(int second) {
  return {absl::FromUnixSeconds(second), absl::Seconds(second)};
}

ExecutionResult Answer(int status) {
  ExecutionResult result;
  result.answered = true;
  result.response_status = status;
  result.payload = absl::StrCat(status);
  return result;
}

TEST(SliceTest, AllTargetsBeginReady) {
  for (int n : {1, 3, 1000}) {
    Slice slice(EveryNth(n));
    EXPECT_EQ(slice.ready_count(), slice.size());
    EXPECT_EQ(slice.NextReady(0), 0);
    EXPECT_EQ(slice.NextReady(slice.size()), -1);
    int count = 0;
    slice.ForEachReady([&](Slice::Rank rank) { EXPECT_EQ(rank, count++); });
    EXPECT_EQ(count, slice.size());
    EXPECT_EQ(slice.Get(0).status, ExecutionStatus::kPending);
  }
}

TEST(SliceTest, PendingTargetsCostLittle) {
  EXPECT_LE(Slice(EveryNth(1)).MemoryUsage(), kShardRowsMax * 0.75);
}

TEST(SliceTest, RandomWalkAgreesWithAModel) {
  enum State { kReady, kWaiting, kRunning, kDone };
  struct Target {
    State state = kReady;
    int start = -1;
    int end = -1;
    int status = 0;
    int sent_attempts = 0;
  };
  const uint32_t seed = 20261121;
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  Slice slice(EveryNth(37));
  std::vector<Target> model(slice.size());
  StatisticsDelta sum;
  sum.pending = slice.size();
  for (int step = 0; step < 200'000; ++step) {
    const auto rank = static_cast<Slice::Rank>(random() % model.size());
    Target& t = model[rank];
    switch (random() % 5) {
      case 0:
        if (t.state != kReady) break;
        slice.MarkRunning(rank, slice.AddStamp(At(step)), &sum);
        t.state = kRunning;
        t.start = step;
        break;
      case 1:
        if (t.state == kReady) {
          slice.Wait(rank);
          t.state = kWaiting;
        } else if (t.state == kWaiting) {
          slice.Wake(rank);
          t.state = kReady;
        }
        break;
      case 2:
      case 3:
        // Mostly returned, so that the table of instants overflows many times.
        if (t.state != kRunning) break;
        slice.Return(rank, step % 2 == 0, &sum);
        t.state = kReady;
        t.start = -1;
        t.sent_attempts += step % 2 == 0;
        break;
      case 4: {
        if (t.state == kDone || random() % 200 != 0) break;
        const int status = static_cast<int>(random() % 20);
        bool is_new;
        const uint16_t result = slice.AddResult(Answer(status), &is_new);
        slice.Finish(rank, slice.AddStamp(At(step)), result, &sum);
        t.state = kDone;
        t.end = step;
        t.status = status;
        break;
      }
    }
    if (step % 5'000 != 0 && step != 199'999) continue;
    int ready = 0, waiting = 0, running = 0, done = 0;
    for (size_t i = 0; i < model.size(); ++i) {
      const auto r = static_cast<Slice::Rank>(i);
      const Target& m = model[i];
      const Slice::View view = slice.Get(r);
      ASSERT_EQ(slice.IsReady(r), m.state == kReady);
      ASSERT_EQ(slice.IsWaiting(r), m.state == kWaiting);
      ASSERT_EQ(slice.IsRunning(r), m.state == kRunning);
      ASSERT_EQ(view.start != nullptr, m.start >= 0);
      if (m.start >= 0) {
        ASSERT_EQ(view.start->wall, At(m.start).wall);
      }
      ASSERT_EQ(view.end != nullptr, m.end >= 0);
      if (m.end >= 0) {
        ASSERT_EQ(view.end->wall, At(m.end).wall);
        ASSERT_EQ(view.result->response_status, m.status);
      }
      ASSERT_EQ(slice.attempt(r), m.sent_attempts % Slice::kAttempts);
      ready += m.state == kReady;
      waiting += m.state == kWaiting;
      running += m.state == kRunning;
      done += m.state == kDone;
    }
    ASSERT_EQ(slice.ready_count(), ready);
    ASSERT_EQ(slice.waiting_count(), waiting);
    ASSERT_EQ(slice.running_count(), running);
    ASSERT_EQ(sum.pending, ready + waiting);
    ASSERT_EQ(sum.running, running);
    ASSERT_EQ(sum.succeeded + sum.failed, done);
  }
}

TEST(SliceTest, FailedAndCanceledCountAsFailed) {
  Slice slice(EveryNth(4000));
  StatisticsDelta delta;
  bool is_new;
  ExecutionResult failed;
  failed.status = ExecutionStatus::kFailed;
  failed.error = ErrorCode::kGatewayTimeout;
  ExecutionResult canceled;
  canceled.status = ExecutionStatus::kCanceled;
  slice.Finish(0, slice.AddStamp(At(1)), slice.AddResult(failed, &is_new),
               &delta);
  slice.Finish(1, slice.AddStamp(At(1)), slice.AddResult(canceled, &is_new),
               &delta);
  slice.Finish(2, slice.AddStamp(At(1)), slice.AddResult({}, &is_new), &delta);
  EXPECT_EQ(delta.pending, -3);
  EXPECT_EQ(delta.failed, 2);
  EXPECT_EQ(delta.succeeded, 1);
  EXPECT_EQ(slice.Get(1).status, ExecutionStatus::kCanceled);
}

TEST(SliceTest, EqualResultsShareAnEntry) {
  Slice slice(EveryNth(1));
  bool is_new = false;
  const uint16_t first = slice.AddResult(Answer(200), &is_new);
  EXPECT_TRUE(is_new);
  slice.AddResult(Answer(404), &is_new);
  EXPECT_EQ(slice.AddResult(Answer(200), &is_new), first);
  EXPECT_FALSE(is_new);
}

TEST(SliceDeathTest, ATerminalStateIsNeverLeft) {
  Slice slice(EveryNth(4000));
  StatisticsDelta delta;
  bool is_new;
  const uint16_t result = slice.AddResult({}, &is_new);
  slice.Finish(0, slice.AddStamp(At(1)), result, &delta);
  EXPECT_DEATH(slice.Finish(0, slice.AddStamp(At(2)), result, &delta),
               "CHECK failed");
}

TEST(AttemptKeyTest, EveryPartComesBack) {
  for (uint64_t job : {uint64_t{1}, kJobSerialMax}) {
    for (uint32_t slice : {0u, kSlicesPerJobMax - 1}) {
      for (uint16_t rank : {0, 16'383}) {
        for (uint8_t attempt : {0, 63}) {
          const AttemptKeyParts parts =
              SplitAttemptKey(MakeAttemptKey({job, slice, rank, attempt}));
          EXPECT_EQ(parts.job, job);
          EXPECT_EQ(parts.slice, slice);
          EXPECT_EQ(parts.rank, rank);
          EXPECT_EQ(parts.attempt, attempt);
        }
      }
    }
  }
}

}  // namespace
}  // namespace muster
