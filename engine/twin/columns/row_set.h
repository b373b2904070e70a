// RowSet: which rows of one shard, frozen.
//
// A job keeps one per shard for as long as its history lives, so it takes the
// smaller of two forms: a bitmap (2 KB and a rank directory) for many rows, a
// sorted list of 16-bit numbers for few.  Rows are numbered within the set by
// rank, 0 to size() - 1 in ascending order; whatever a job knows of its targets
// is an array by rank.
#ifndef ENGINE_TWIN_COLUMNS_ROW_SET_H_
#define ENGINE_TWIN_COLUMNS_ROW_SET_H_

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace muster {

inline constexpr int kShardRowsMax = 16'384;

// One bit per row of a shard, row r in word r / 64: what a match writes.
struct RowBitmap {
  static constexpr int kWords = kShardRowsMax / 64;
  std::array<uint64_t, kWords> words{};

  void Set(int row) { words[row >> 6] |= uint64_t{1} << (row & 63); }
  void Clear(int row) { words[row >> 6] &= ~(uint64_t{1} << (row & 63)); }
  bool Test(int row) const { return words[row >> 6] >> (row & 63) & 1; }
  int Count() const;
  // Of the rows that are in both.
  int CountCommon(const RowBitmap& other) const;
  bool Any() const {
    for (const uint64_t word : words) {
      if (word != 0) return true;
    }
    return false;
  }
  // Calls fn(row) for each row in the set, in ascending order.
  template <typename Function>
  void ForEach(Function fn) const {
    for (int i = 0; i < kWords; ++i) {
      for (uint64_t word = words[static_cast<size_t>(i)]; word != 0;
           word &= word - 1) {
        fn(i * 64 + std::countr_zero(word));
      }
    }
  }
};

// Immutable, hence safe to read from any thread.
class RowSet {
 public:
  RowSet() = default;  // Empty.
  explicit RowSet(const RowBitmap& bitmap);

  int size() const { return size_; }

  // The row with `rank`.  O(1) in a list and where the rows are without gaps,
  // as when all are taken; else a walk of at most 8 words in a bitmap.
  // REQUIRES: 0 <= rank < size().
  int RowAt(int rank) const {
    if (run_ >= 0) return run_ + rank;
    if (dense_ == nullptr) return list_[static_cast<size_t>(rank)];
    return RowAtRank(rank);
  }

  // The rank of `row`, or -1 if it is not in the set.  O(1) in a bitmap,
  // O(log size) in a list.
  int RankOf(int row) const;

  RowBitmap ToBitmap() const;

  // Heap bytes.
  size_t MemoryUsage() const;

 private:
  // A bitmap pays off beyond this many rows (2 bytes each in a list).
  static constexpr int kListMax = 1024;
  static constexpr int kWordsPerBlock = 8;  // Per entry of the rank directory.
  struct Dense {
    RowBitmap bitmap;
    // Rows in all blocks before this one.
    std::array<uint16_t, RowBitmap::kWords / kWordsPerBlock> ranks;
  };

  // In a bitmap.
  int RowAtRank(int rank) const;

  int size_ = 0;
  int run_ = -1;  // The first row of a bitmap without gaps; -1: it has some.
  std::vector<uint16_t> list_;
  std::unique_ptr<Dense> dense_;
};

}  // namespace muster

#endif  // ENGINE_TWIN_COLUMNS_ROW_SET_H_
