// What a gateway knows without any stream: devices, open calls, outcomes.
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "bench/allocation_counter.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "muster/v1/gateway_service.pb.h"
#include "transport/grpc/gateway/gateway_answers.h"
#include "transport/grpc/gateway/gateway_devices.h"
#include "transport/grpc/gateway/gateway_ranges.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// --------------------------------------------------------------------- ranges

// Ranges against a model that is a map, with clocks that go by steps of all
// sizes: each call ends once, by an answer or by its timeout, which comes
// neither before its time nor more than a tick after.
TEST(GatewayRangesTest, AgreeWithAModel) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  struct Model {
    std::set<uint32_t> open;
    absl::Duration due;
  };
  absl::Duration now = absl::Seconds(1'000);
  GatewayRanges ranges(now);
  std::map<uint64_t, Model> model;
  std::vector<uint64_t> over;
  int64_t open_calls = 0;
  const int64_t timeouts_ms[] = {1, 40, 5'000, 30'000, 300'000, 3'000'000};
  for (int step = 0; step < 20'000; ++step) {
    const uint32_t dice = random() % 100;
    if (dice < 40) {
      const uint32_t count = dice < 10 ? 1 : 1 + random() % 1024;
      const absl::Duration due =
          now + absl::Milliseconds(timeouts_ms[random() % 6]);
      const GatewayRange range = ranges.Open(step, 0, count, due);
      ASSERT_EQ(GatewayRanges::CountOf(range), count);
      Model& m = model[range.value];
      ASSERT_TRUE(m.open.empty());  // Never used again.
      m.due = due;
      for (uint32_t i = 0; i < count; ++i) m.open.insert(i);
      open_calls += count;
    } else if (dice < 75 && !model.empty()) {
      auto it = model.lower_bound(random());
      if (it == model.end()) it = model.begin();
      GatewayRanges::Slot* const slot = ranges.Find({it->first});
      ASSERT_NE(slot, nullptr);
      const uint32_t count = GatewayRanges::CountOf({it->first});
      if (dice < 55) {
        for (int i = 0; i < 5 && slot->open != 0; ++i) {
          const uint32_t position = random() % count;
          const bool first = it->second.open.erase(position) == 1;
          ASSERT_EQ(ranges.Take(*slot, position), first);
          open_calls -= first ? 1 : 0;
        }
        ranges.CloseIfDone(*slot);
      } else {
        std::set<uint32_t> taken;
        ranges.TakeAll(*slot, [&](uint32_t first, uint32_t size) {
          for (uint32_t i = 0; i < size; ++i) {
            ASSERT_TRUE(taken.insert(first + i).second);
          }
        });
        ASSERT_EQ(taken, it->second.open);
        open_calls -= static_cast<int64_t>(taken.size());
        it->second.open.clear();
      }
      if (it->second.open.empty()) {
        over.push_back(it->first);
        model.erase(it);
      }
    } else if (dice < 98) {
      const int64_t steps_ms[] = {0, 10, 50, 700, 20'000};
      now += absl::Milliseconds(steps_ms[random() % 5]);
      const absl::Duration next = ranges.NextDue();
      size_t expired = 0;
      ranges.Expire(now, [&](GatewayRanges::Slot& slot) {
        ++expired;
        ranges.TakeAll(slot,
                       [&](uint32_t, uint32_t size) { open_calls -= size; });
      });
      if (expired != 0) {
        ASSERT_LE(next, now);
      }
      for (auto it = model.begin(); it != model.end();) {
        const bool there = ranges.Find({it->first}) != nullptr;
        if (!there) {
          ASSERT_LE(it->second.due, now);
          --expired;
          over.push_back(it->first);
          it = model.erase(it);
          continue;
        }
        ASSERT_GT(it->second.due, now - 2 * GatewayRanges::kTick);
        ++it;
      }
      ASSERT_EQ(expired, 0u);
    } else if (dice == 99) {
      for (const auto& [value, m] : model) over.push_back(value);
      model.clear();
      ranges.Clear();
      open_calls = 0;
      ASSERT_EQ(ranges.NextDue(), absl::InfiniteDuration());
    }
    ASSERT_EQ(ranges.open_calls(), open_calls);
    if (!over.empty()) {
      ASSERT_EQ(ranges.Find({over[random() % over.size()]}), nullptr);
    }
  }
}

// -------------------------------------------------------------------- devices

class GatewayDevicesTest : public testing::Test {
 protected:
  // What the next frame announces; the engine answers with `handles`.
  std::vector<std::string> Exchange(const std::vector<uint32_t>& handles) {
    std::vector<std::string> ids;
    devices_.Announce([&](absl::string_view id) { ids.emplace_back(id); });
    attached_.clear();
    refused_.clear();
    const absl::Status status =
        devices_.OnConnected(handles, &attached_, &refused_, &back_);
    EXPECT_TRUE(status.ok()) << status;
    return ids;
  }

  GatewayDevices devices_{1'000'000, /*refused_doublings=*/3};
  std::vector<uint32_t> attached_, back_;
  std::vector<GatewayDevices::Refused> refused_;
};

TEST_F(GatewayDevicesTest, RefusedDevicesWaitTwiceAsLongEachTime) {
  ASSERT_TRUE(devices_.Add({{7, "a"}}).ok());
  devices_.BeginStream();
  std::vector<int> waits;
  for (int round = 0; round < 6; ++round) {
    EXPECT_THAT(Exchange({0}), ElementsAre("a"));
    EXPECT_EQ(devices_.refused(), 1);
    int wait = 0;
    while (!devices_.has_waiting()) {
      devices_.ReviseRefused();
      ++wait;
    }
    waits.push_back(wait);
  }
  // One more than the doublings, as the first comes at any time.
  EXPECT_THAT(waits, ElementsAre(2, 3, 5, 9, 9, 9));
  // One that has been taken begins anew.
  Exchange({1});
  uint32_t token;
  ASSERT_TRUE(devices_.OnDropped(1, /*refused=*/true, &token));
  EXPECT_EQ(token, 7u);
  devices_.ReviseRefused();
  EXPECT_FALSE(devices_.has_waiting());
  devices_.ReviseRefused();
  EXPECT_TRUE(devices_.has_waiting());
}

TEST_F(GatewayDevicesTest, IdsAreThoseThatWereAddedHoweverManyHaveGone) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  std::map<uint32_t, std::string> model;
  for (int step = 0; step < 60'000; ++step) {
    const uint32_t token = random() % 3000;
    if (random() % 2 == 0) {
      devices_.Remove({token}, &back_);
      model.erase(token);
    } else {
      const std::string id =
          absl::StrCat(step, std::string(random() % 100, 'x'));
      ASSERT_EQ(devices_.Add({{token, id}}).ok(),
                model.try_emplace(token, id).second);
    }
  }
  EXPECT_EQ(devices_.size(), static_cast<int64_t>(model.size()));
  devices_.BeginStream();
  std::multiset<std::string> announced, expected;
  uint32_t handle = 0;
  while (devices_.has_waiting()) {
    std::vector<uint32_t> handles;
    std::vector<std::string> ids;
    devices_.Announce([&](absl::string_view id) {
      ids.emplace_back(id);
      handles.push_back(++handle);
    });
    ASSERT_TRUE(
        devices_.OnConnected(handles, &attached_, &refused_, &back_).ok());
    announced.insert(ids.begin(), ids.end());
  }
  for (const auto& [token, id] : model) expected.insert(id);
  EXPECT_EQ(announced, expected);
  EXPECT_THAT(back_, IsEmpty());
}

// ------------------------------------------------------------------- hot path

TEST(GatewayAllocationTest, NothingIsAllocatedForAnExecution) {
  GatewayRanges ranges(absl::ZeroDuration());
  GatewayAnswers answers;
  const auto round = [&](int r) {
    GatewayRange open[8];
    for (GatewayRange& range : open) {
      range = ranges.Open(r, 0, 1024, absl::Seconds(30));
    }
    for (int i = 0; i < 8; ++i) {
      GatewayRanges::Slot& slot = *ranges.Find(open[i]);
      if (i % 2 == 0) {
        ranges.TakeAll(slot, [&](uint32_t first, uint32_t count) {
          answers.Add(slot, first, count, {.status = 200});
        });
        continue;
      }
      // One by one, out of order, each with its own status and payload.
      for (uint32_t p = 0; p < 1024; ++p) {
        const uint32_t position = p * 5 % 1024;
        ASSERT_TRUE(ranges.Take(slot, position));
        answers.Add(slot, position, 1,
                    {.status = static_cast<int32_t>(p % 3),
                     .payload = p % 2 == 0 ? "[1]" : "[22]"});
      }
      ranges.CloseIfDone(slot);
    }
    while (!answers.empty()) {
      auto frame = answers.TakeFrame();
      ASSERT_EQ(frame->outcomes_size(), 8);
      answers.GiveBack(std::move(frame));
    }
  };
  for (int r = 0; r < 10; ++r) round(r);
  const int64_t before = AllocationCount();
  for (int r = 0; r < 100; ++r) round(r);
  // The list of frames takes a block for every so many of them.
  EXPECT_LT(AllocationCount() - before, 20);
}

}  // namespace
}  // namespace muster
