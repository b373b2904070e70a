#include "engine/twin/columns/row_set.h"

#include <algorithm>
#include <bit>

#include "engine/model/check.h"
#include "engine/twin/columns/kernels.h"

namespace muster {
namespace {

// Where a word's set bit number `rank` is; it has more than `rank`.  The byte
// comes from the sums over all bytes at once, after Vigna, "Broadword
// implementation of rank/select queries", WEA 2008.
int SelectBit(uint64_t word, int rank) {
  constexpr uint64_t kOnes = 0x0101010101010101;
  constexpr uint64_t kHighs = 0x8080808080808080;
  uint64_t sums = word - ((word >> 1) & 0x5555555555555555);
  sums = (sums & 0x3333333333333333) + ((sums >> 2) & 0x3333333333333333);
  sums = ((sums + (sums >> 4)) & 0x0f0f0f0f0f0f0f0f) * kOnes;
  // A high bit for each byte behind which there are at most `rank` bits.
  const uint64_t before =
      ((static_cast<uint64_t>(rank) * kOnes | kHighs) - sums) & kHighs;
  const int place = static_cast<int>(((before >> 7) * kOnes) >> 56) * 8;
  int left = rank - static_cast<int>(((sums << 8) >> place) & 0xff);
  uint64_t rest = word >> place;
  while (left-- > 0) rest &= rest - 1;
  return place + std::countr_zero(rest);
}

}  // namespace

int RowBitmap::Count() const {
  return static_cast<int>(CountMask(words.data(), words.size()));
}

int RowBitmap::CountCommon(const RowBitmap& other) const {
  int count = 0;
  for (size_t w = 0; w < words.size(); ++w) {
    count += std::popcount(words[w] & other.words[w]);
  }
  return count;
}

RowSet::RowSet(const RowBitmap& bitmap) : size_(bitmap.Count()) {
  if (size_ > kListMax) {
    dense_ = std::make_unique<Dense>();
    dense_->bitmap = bitmap;
    int rank = 0;
    for (int w = 0; w < RowBitmap::kWords; ++w) {
      if (w % kWordsPerBlock == 0) {
        dense_->ranks[w / kWordsPerBlock] = static_cast<uint16_t>(rank);
      }
      rank += std::popcount(bitmap.words[w]);
    }
    const int first = RowAtRank(0);
    if (RowAtRank(size_ - 1) == first + size_ - 1) run_ = first;
    return;
  }
  list_.reserve(size_);
  for (int w = 0; w < RowBitmap::kWords; ++w) {
    for (uint64_t word = bitmap.words[w]; word != 0; word &= word - 1) {
      list_.push_back(static_cast<uint16_t>(w * 64 + std::countr_zero(word)));
    }
  }
}

int RowSet::RowAtRank(int rank) const {
  // The last block that begins at or below `rank`.  Empty blocks share their
  // number with the block behind them, and upper_bound passes them.
  const auto& ranks = dense_->ranks;
  const auto next = std::upper_bound(ranks.begin(), ranks.end(), rank);
  const int block = static_cast<int>(next - ranks.begin()) - 1;
  int left = rank - ranks[block];
  for (int w = block * kWordsPerBlock;; ++w) {
    const uint64_t word = dense_->bitmap.words[w];
    const int in_word = std::popcount(word);
    if (left >= in_word) {
      left -= in_word;
      continue;
    }
    return w * 64 + SelectBit(word, left);
  }
}

int RowSet::RankOf(int row) const {
  MUSTER_DCHECK(0 <= row && row < kShardRowsMax);
  if (dense_ == nullptr) {
    const auto at = std::lower_bound(list_.begin(), list_.end(), row);
    if (at == list_.end() || *at != row) return -1;
    return static_cast<int>(at - list_.begin());
  }
  const RowBitmap& bitmap = dense_->bitmap;
  if (!bitmap.Test(row)) return -1;
  const int word = row >> 6;
  int rank = dense_->ranks[word / kWordsPerBlock];
  for (int w = word - word % kWordsPerBlock; w < word; ++w) {
    rank += std::popcount(bitmap.words[w]);
  }
  const uint64_t below = (uint64_t{1} << (row & 63)) - 1;
  return rank + std::popcount(bitmap.words[word] & below);
}

RowBitmap RowSet::ToBitmap() const {
  if (dense_ != nullptr) return dense_->bitmap;
  RowBitmap bitmap;
  for (uint16_t row : list_) bitmap.Set(row);
  return bitmap;
}

size_t RowSet::MemoryUsage() const {
  return list_.capacity() * sizeof(uint16_t) +
         (dense_ != nullptr ? sizeof(Dense) : 0);
}

}  // namespace muster
