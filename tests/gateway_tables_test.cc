// HandleTable and RangeTable against simple models, and what a device takes.
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "transport/grpc/gateway/handle_table.h"
#include "transport/grpc/gateway/work_block.h"

namespace muster {
namespace {

using State = HandleTable::State;

TEST(HandleTableTest, LinksHaveTheirParts) {
  const uint64_t link =
      MakeLink({.serial = 0xfedc, .generation = 0x1234, .handle = 0x89abcdef});
  EXPECT_EQ(link, 0xfedc'1234'89ab'cdefu);
  EXPECT_EQ(SplitLink(link).serial, 0xfedc);
  EXPECT_EQ(SplitLink(link).generation, 0x1234);
  EXPECT_EQ(SplitLink(link).handle, 0x89abcdefu);
}

TEST(HandleTableTest, HandlesBeginWithOneAndAreUsedAgainOldestFirst) {
  HandleTable table(7, 100, 3);
  EXPECT_EQ(table.Attach("a"), 1u);
  EXPECT_EQ(table.Attach("b"), 2u);
  EXPECT_EQ(table.Attach("c"), 3u);
  EXPECT_EQ(table.Attach("d"), 0u);
  table.Free(2);
  table.Free(1);
  EXPECT_EQ(table.Attach("e"), 2u);
  EXPECT_EQ(table.Attach("f"), 1u);
  EXPECT_EQ(table.id(2), "e");
  EXPECT_EQ(table.size(), 3);
}

TEST(HandleTableTest, ALinkIsGoodUntilItsDeviceIsDetached) {
  HandleTable table(7, 65'535, 10);
  const uint32_t handle = table.Attach("a");
  const uint64_t link = table.LinkOf(handle);
  EXPECT_TRUE(table.IsGood(link));
  EXPECT_FALSE(table.IsDropped(link));
  EXPECT_FALSE(table.IsGood(link + 1));
  EXPECT_FALSE(table.IsGood(0));
  EXPECT_TRUE(table.Drop(link));
  EXPECT_FALSE(table.Drop(link));
  EXPECT_FALSE(table.IsGood(link));
  EXPECT_TRUE(table.IsDropped(link));
  EXPECT_EQ(table.state(handle), State::kDropped);
  table.Free(handle);
  EXPECT_FALSE(table.IsDropped(link));
  EXPECT_EQ(table.state(handle), State::kFree);
  EXPECT_EQ(table.Attach("b"), handle);
  const uint64_t next = table.LinkOf(handle);
  EXPECT_FALSE(table.IsGood(link));
  EXPECT_TRUE(table.IsGood(next));
  EXPECT_TRUE(table.Drop(next));
  EXPECT_FALSE(table.IsDropped(link));
  EXPECT_EQ(table.state(0), State::kFree);
  EXPECT_EQ(table.state(2), State::kFree);
}

TEST(HandleTableTest, AtRandomAsInAModel) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    std::mt19937 random(seed);
    constexpr int kMax = 600;  // More than two pages.
    HandleTable table(1, static_cast<uint16_t>(random()), kMax);
    std::map<uint32_t, std::pair<std::string, uint64_t>> attached;
    std::map<uint32_t, uint64_t> dropped;
    std::set<uint64_t> stale;
    for (int step = 0; step < 20'000; ++step) {
      // Grows at first, then empties, then again.
      const bool grows = step % 10'000 < 6000;
      if (random() % 10 < (grows ? 7u : 3u)) {
        const std::string id(1 + random() % 128,
                             static_cast<char>('a' + random() % 26));
        const uint32_t handle = table.Attach(id);
        const size_t taken = attached.size() + dropped.size();
        ASSERT_EQ(handle == 0, taken == kMax);
        if (handle == 0) continue;
        ASSERT_EQ(attached.count(handle) + dropped.count(handle), 0u);
        const uint64_t link = table.LinkOf(handle);
        ASSERT_EQ(stale.count(link), 0u);
        attached[handle] = {id, link};
      } else if (random() % 3 == 0) {
        if (attached.empty()) continue;
        auto it = attached.lower_bound(1 + random() % table.end());
        if (it == attached.end()) it = attached.begin();
        ASSERT_TRUE(table.Drop(it->second.second));
        stale.insert(it->second.second);
        dropped[it->first] = it->second.second;
        attached.erase(it);
      } else if (random() % 2 == 0 && !dropped.empty()) {
        table.Free(dropped.begin()->first);
        dropped.erase(dropped.begin());
      } else if (!attached.empty()) {
        auto it = attached.lower_bound(1 + random() % table.end());
        if (it == attached.end()) it = attached.begin();
        table.Free(it->first);
        stale.insert(it->second.second);
        attached.erase(it);
      }
    }
    EXPECT_EQ(table.size(), static_cast<int>(attached.size() + dropped.size()));
    for (const auto& [handle, device] : attached) {
      EXPECT_EQ(table.id(handle), device.first);
      EXPECT_TRUE(table.IsGood(device.second));
    }
    for (const auto& [handle, link] : dropped) {
      EXPECT_TRUE(table.IsDropped(link));
    }
    for (const uint64_t link : stale) EXPECT_FALSE(table.IsGood(link));
    // No link of the next table for this serial is one of this table's.
    const uint16_t next = table.next_first_generation();
    for (const uint64_t link : stale) {
      EXPECT_LT(static_cast<int16_t>(SplitLink(link).generation - next), 0);
    }
  }
}

// What is promised: 6 bytes, the id, at most 4 more, and the pages' frames.
TEST(HandleTableTest, ADeviceTakesFewBytes) {
  for (const size_t id_size : {13u, 36u}) {
    constexpr int kDevices = 250'000;
    HandleTable table(1, 0, kDevices);
    for (int i = 0; i < kDevices; ++i) {
      std::string id = absl::StrCat("device-", i);
      id.resize(id_size, '0');
      ASSERT_NE(table.Attach(id), 0u);
    }
    const double each = static_cast<double>(table.memory()) / kDevices;
    RecordProperty(absl::StrCat("bytes_of_", id_size), absl::StrCat(each));
    EXPECT_LE(each, 6.0 + static_cast<double>(id_size) + 4.0 + 1.0);
  }
}

TEST(RangeTableTest, AtRandomAsInAModel) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    std::mt19937 random(seed);
    RangeTable table;
    std::map<uint32_t, WorkBlock*> model;
    std::set<uint32_t> gone;
    for (int step = 0; step < 20'000; ++step) {
      if (random() % 10 < (step % 8000 < 4000 ? 6u : 4u)) {
        auto block = std::make_unique<WorkBlock>();
        WorkBlock* const raw = block.get();
        const uint32_t number = table.Add(std::move(block));
        EXPECT_EQ(raw->number, number);
        EXPECT_EQ(gone.count(number), 0u);
        EXPECT_TRUE(model.emplace(number, raw).second);
      } else if (!model.empty()) {
        // The oldest stay, as a rule.
        auto it = random() % 8 == 0 ? model.begin() : std::prev(model.end());
        EXPECT_EQ(table.Remove(it->first).get(), it->second);
        gone.insert(it->first);
        model.erase(it);
      }
    }
    EXPECT_EQ(table.size(), model.size());
    for (const auto& [number, block] : model) {
      EXPECT_EQ(table.Find(number), block);
    }
    for (const uint32_t number : gone) EXPECT_EQ(table.Find(number), nullptr);
    size_t visited = 0;
    table.ForEach([&](WorkBlock& block) {
      ++visited;
      table.Remove(block.number);
    });
    EXPECT_EQ(visited, model.size());
    EXPECT_EQ(table.size(), 0u);
  }
}

TEST(WorkBlockTest, APositionIsAnsweredOnce) {
  WorkBlock block;
  block.attempts.resize(130);
  block.unanswered = 130;
  EXPECT_FALSE(block.IsAnswered(129));
  EXPECT_TRUE(block.Answer(129));
  EXPECT_FALSE(block.Answer(129));
  EXPECT_TRUE(block.IsAnswered(129));
  EXPECT_FALSE(block.IsAnswered(65));
  EXPECT_EQ(block.unanswered, 129u);
}

}  // namespace
}  // namespace muster
