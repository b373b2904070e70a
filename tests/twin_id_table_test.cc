#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/twin/id_table.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

constexpr auto kNone = [](uint32_t) { return false; };

std::optional<uint32_t> FindPlace(const IdTable& table, uint32_t hash,
                                  uint32_t place) {
  return table.Find(hash, [&](uint32_t p) { return p == place; });
}

// The places that a search with `hash` comes to, if none is the one.
std::multiset<uint32_t> AllWith(const IdTable& table, uint32_t hash) {
  std::multiset<uint32_t> places;
  table.Find(hash, [&](uint32_t place) {
    places.insert(place);
    return false;
  });
  return places;
}

// The table beside one that is slow and obviously right.
class Checked {
 public:
  void Insert(uint32_t hash, uint32_t place) {
    table.Insert(hash, place);
    model[hash].insert(place);
    ++size;
  }
  void Erase(uint32_t hash, uint32_t place) {
    table.Erase(hash, place);
    const auto it = model.find(hash);
    it->second.erase(place);
    if (it->second.empty()) model.erase(it);
    --size;
  }
  void ExpectSame() const {
    ASSERT_EQ(table.size(), size);
    for (const auto& [hash, places] : model) {
      ASSERT_EQ(AllWith(table, hash),
                std::multiset<uint32_t>(places.begin(), places.end()))
          << "hash " << hash;
    }
  }
  void ExpectNotThere(uint32_t hash) const {
    if (!model.contains(hash)) {
      ASSERT_TRUE(AllWith(table, hash).empty()) << "hash " << hash;
    }
  }

  IdTable table;
  std::unordered_map<uint32_t, std::set<uint32_t>> model;
  size_t size = 0;
};

TEST(IdTableTest, AnEmptyTableHasNothing) {
  IdTable table;
  EXPECT_EQ(table.size(), 0u);
  EXPECT_EQ(table.MemoryUsage(), 0u);
  for (const uint32_t hash : {0u, 1u, 0x80000000u, UINT32_MAX}) {
    EXPECT_EQ(table.Find(hash, kNone), std::nullopt);
    table.Prefetch(hash);
  }
}

TEST(IdTableTest, AsksOnlyAboutTheSameHashUntilOneIsIt) {
  IdTable table;
  for (uint32_t i = 0; i < 100; ++i) table.Insert(i << 24 | i / 4, i);
  table.Insert(7u << 24 | 1, 1000);
  EXPECT_EQ(AllWith(table, 7u << 24 | 1), (std::multiset<uint32_t>{7, 1000}));
  int asked = 0;
  EXPECT_TRUE(table.Find(7u << 24 | 1, [&](uint32_t) { return ++asked == 1; })
                  .has_value());
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(FindPlace(table, 7u << 24 | 1, 1000), 1000u);
  EXPECT_EQ(FindPlace(table, 7u << 24 | 1, 1001), std::nullopt);
}

// The largest hash is what an empty slot has.
TEST(IdTableTest, TheFirstAndTheLastHashAreLikeOthers) {
  Checked checked;
  for (uint32_t i = 0; i < 40; ++i) {
    checked.Insert(UINT32_MAX, i);
    checked.Insert(UINT32_MAX - i % 3, 1000 + i);
    checked.Insert(0, i);
    checked.ExpectSame();
  }
  EXPECT_EQ(FindPlace(checked.table, UINT32_MAX, 5000), std::nullopt);
  for (uint32_t i = 0; i < 40; ++i) {
    checked.Erase(UINT32_MAX, i);
    checked.Erase(0, i);
    checked.ExpectSame();
  }
  checked.ExpectNotThere(0);
}

// Random inserts, erases and lookups over a span of hashes; a narrow one has
// many equal hashes, and neighbours that push each other.
struct Churn {
  std::string name;
  uint32_t first_hash, hash_mask;
  size_t size_max;
};

class IdTableChurnTest : public testing::TestWithParam<Churn> {};

TEST_P(IdTableChurnTest, IsLikeTheModel) {
  const Churn& churn = GetParam();
  std::mt19937 random(20310301);
  Checked checked;
  std::vector<std::pair<uint32_t, uint32_t>> entries;
  uint32_t next_place = 0;
  // It grows, stays for a while, and shrinks, twice.
  for (const int insert_percent : {95, 50, 10, 90, 50, 0}) {
    for (size_t step = 0; step < churn.size_max; ++step) {
      if (random() % 100 < static_cast<uint32_t>(insert_percent)) {
        const uint32_t hash =
            churn.first_hash +
            (static_cast<uint32_t>(random()) & churn.hash_mask);
        entries.emplace_back(hash, next_place++);
        checked.Insert(hash, entries.back().second);
      } else if (!entries.empty()) {
        std::swap(entries[random() % entries.size()], entries.back());
        checked.Erase(entries.back().first, entries.back().second);
        entries.pop_back();
      }
      const uint32_t hash = churn.first_hash +
                            (static_cast<uint32_t>(random()) & churn.hash_mask);
      checked.ExpectNotThere(hash);
      if (!entries.empty()) {
        const auto& [h, place] = entries[random() % entries.size()];
        ASSERT_EQ(FindPlace(checked.table, h, place), place);
      }
    }
    ASSERT_NO_FATAL_FAILURE(checked.ExpectSame());
  }
  while (!entries.empty()) {
    checked.Erase(entries.back().first, entries.back().second);
    entries.pop_back();
  }
  EXPECT_EQ(checked.table.size(), 0u);
  // What stays is the directory and the empty segments.
  EXPECT_LE(checked.table.MemoryUsage(), 256 + churn.size_max / 8);
}

INSTANTIATE_TEST_SUITE_P(
    Spans, IdTableChurnTest,
    testing::Values(Churn{"Small", 0, UINT32_MAX, 60},
                    Churn{"OneSegment", 0, UINT32_MAX, 3000},
                    Churn{"ManySegments", 0, UINT32_MAX, 60'000},
                    Churn{"LowHashes", 0, 0xFFF, 10'000},
                    Churn{"HighHashes", UINT32_MAX - 0xFFF, 0xFFF, 10'000},
                    Churn{"OneSixteenth", 0x30000000, 0x0FFFFFFF, 40'000},
                    Churn{"SixHashes", UINT32_MAX - 7, 5, 1000}),
    [](const testing::TestParamInfo<Churn>& info) { return info.param.name; });

TEST(IdTableTest, AllHashesMayBeTheSame) {
  for (const uint32_t hash : {0u, 0x12345678u, UINT32_MAX}) {
    Checked checked;
    for (uint32_t place = 0; place < 10'000; ++place) {
      checked.Insert(hash, place);
    }
    checked.ExpectSame();
    // The directory did not grow in the hope of parting them.
    EXPECT_LE(checked.table.MemoryUsage(), 10'000u * 30);
    for (uint32_t place = 0; place < 10'000; place += 2) {
      checked.Erase(hash, place);
    }
    checked.ExpectSame();
    checked.ExpectNotThere(hash - 1);
    checked.ExpectNotThere(hash + 1);
  }
}

// Two groups that only the last bit of the hash parts.
TEST(IdTableTest, TheDirectoryStaysSmallForHashesThatHardlyDiffer) {
  Checked checked;
  for (uint32_t place = 0; place < 12'000; ++place) {
    checked.Insert(0x70000000 + place % 2, place);
  }
  checked.ExpectSame();
  EXPECT_LE(checked.table.MemoryUsage(), 12'000u * 30);
}

TEST(IdTableTest, TakesTenBytesPerEntryAtAnySize) {
  std::mt19937 random(7);
  IdTable table;
  double worst = 0;
  for (uint32_t place = 0; place < 300'000; ++place) {
    table.Insert(static_cast<uint32_t>(random()), place);
    if (place + 1 < 100) continue;
    worst = std::max(worst, static_cast<double>(table.MemoryUsage()) /
                                static_cast<double>(table.size()));
  }
  EXPECT_LE(worst, 11.5);
  EXPECT_LE(static_cast<double>(table.MemoryUsage()), 300'000 * 10.3);
}

TEST(IdTableTest, ReserveMakesRoomOnceAndForAll) {
  for (const uint32_t count : {0u, 1u, 100u, 5'000u, 100'000u}) {
    for (const uint32_t before : {0u, 50u, 9'000u}) {
      std::mt19937 random(count + before);
      Checked checked;
      uint32_t place = 0;
      while (place < before) {
        checked.Insert(static_cast<uint32_t>(random()), place++);
      }
      checked.table.Reserve(count);
      checked.ExpectSame();
      const size_t reserved = checked.table.MemoryUsage();
      while (place < count) {
        checked.Insert(static_cast<uint32_t>(random()), place++);
      }
      checked.ExpectSame();
      // But for a segment with a larger share than most.
      EXPECT_LE(checked.table.MemoryUsage(), reserved + reserved / 50);
      EXPECT_LE(reserved, std::max(count, before) * 12 + 200);
    }
  }
}

TEST(IdTableTest, MovesWithItsEntries) {
  IdTable table;
  for (uint32_t i = 0; i < 10'000; ++i) table.Insert(i * 429'497, i);
  const size_t bytes = table.MemoryUsage();
  IdTable moved(std::move(table));
  EXPECT_EQ(moved.size(), 10'000u);
  EXPECT_EQ(moved.MemoryUsage(), bytes);
  IdTable assigned;
  assigned.Insert(1, 1);
  assigned = std::move(moved);
  EXPECT_EQ(FindPlace(assigned, 429'497u * 77, 77), 77u);
  EXPECT_EQ(FindPlace(assigned, 1, 1), std::nullopt);
}

}  // namespace
}  // namespace muster
