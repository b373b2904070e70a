#include <cstdint>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "engine/twin/columns/row_set.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

RowBitmap BitmapOf(const std::set<int>& rows) {
  RowBitmap bitmap;
  for (const int row : rows) bitmap.Set(row);
  return bitmap;
}

// Checks every answer that a set can give against the rows themselves.
void ExpectIs(const RowSet& set, const std::set<int>& rows) {
  ASSERT_EQ(set.size(), static_cast<int>(rows.size()));
  int rank = 0;
  for (const int row : rows) {
    ASSERT_EQ(set.RowAt(rank), row) << "rank " << rank;
    ASSERT_EQ(set.RankOf(row), rank) << "row " << row;
    ++rank;
  }
  for (int row = 0; row < kShardRowsMax; ++row) {
    if (!rows.contains(row)) {
      ASSERT_EQ(set.RankOf(row), -1) << "row " << row;
    }
  }
  EXPECT_EQ(set.ToBitmap().words, BitmapOf(rows).words);
}

std::set<int> RandomRows(int count, std::mt19937* random) {
  std::set<int> rows;
  while (static_cast<int>(rows.size()) < count) {
    rows.insert(static_cast<int>((*random)() % kShardRowsMax));
  }
  return rows;
}

TEST(RowBitmapTest, SetClearTestCount) {
  RowBitmap bitmap;
  EXPECT_EQ(bitmap.Count(), 0);
  for (const int row : {0, 63, 64, 16'383}) {
    EXPECT_FALSE(bitmap.Test(row));
    bitmap.Set(row);
    bitmap.Set(row);
    EXPECT_TRUE(bitmap.Test(row));
  }
  EXPECT_EQ(bitmap.Count(), 4);
  bitmap.Clear(63);
  EXPECT_FALSE(bitmap.Test(63));
  EXPECT_EQ(bitmap.Count(), 3);
}

TEST(RowSetTest, Empty) {
  ExpectIs(RowSet(), {});
  ExpectIs(RowSet(RowBitmap()), {});
  EXPECT_EQ(RowSet().MemoryUsage(), 0u);
}

TEST(RowSetTest, EveryRow) {
  std::set<int> all;
  for (int row = 0; row < kShardRowsMax; ++row) all.insert(row);
  ExpectIs(RowSet(BitmapOf(all)), all);
}

TEST(RowSetTest, Edges) {
  ExpectIs(RowSet(BitmapOf({0})), {0});
  ExpectIs(RowSet(BitmapOf({16'383})), {16'383});
  ExpectIs(RowSet(BitmapOf({0, 63, 64, 511, 512, 16'383})),
           {0, 63, 64, 511, 512, 16'383});
}

// Where the form changes from a list to a bitmap, and sets whose blocks are
// partly empty.
TEST(RowSetTest, RandomSetsOfAllSizes) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (const int count : {1, 2, 100, 1023, 1024, 1025, 1500, 4000, 16'000}) {
    const std::set<int> rows = RandomRows(count, &random);
    const RowSet set(BitmapOf(rows));
    ExpectIs(set, rows);
    EXPECT_LE(set.MemoryUsage(), 2200u);
  }
}

TEST(RowSetTest, DenseRunsWithGaps) {
  std::set<int> rows;
  for (int row = 700; row < 2300; ++row) rows.insert(row);
  for (int row = 9000; row < 9600; ++row) rows.insert(row);
  rows.insert(16'000);
  ExpectIs(RowSet(BitmapOf(rows)), rows);
}

TEST(RowSetTest, DenseRunWithoutGaps) {
  for (const auto& [first, end] :
       {std::pair(0, 1025), {700, 2300}, {15'000, 16'384}, {1, 16'384}}) {
    std::set<int> rows;
    for (int row = first; row < end; ++row) rows.insert(row);
    ExpectIs(RowSet(BitmapOf(rows)), rows);
    rows.erase(first + 512);
    ExpectIs(RowSet(BitmapOf(rows)), rows);
  }
}

TEST(RowSetTest, Moves) {
  std::set<int> rows = {5, 7};
  RowSet set(BitmapOf(rows));
  const RowSet moved = std::move(set);
  ExpectIs(moved, rows);
}

}  // namespace
}  // namespace muster
