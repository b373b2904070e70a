// Kernels: which rows of a shard have a code in a range or a set, as masks.
//
// A mask is an array of words of 64 rows, row r in bit r % 64 of word r / 64.
// Codes are arrays of whole words of 64 rows, aligned to 64 bytes (CodeArray).
//
// Each kernel is compiled for several instruction sets, of which the best that
// the processor has is taken at run time (Highway).  A million codes of 8, 16,
// 32 and 64 bits that are in cache take 10, 20, 40 and 90 us with AVX-512, sets
// 13 us (8 bits) and 490 us (16 bits).  Out of cache it is the memory's speed.
//
// Thread-safe: no state.
#ifndef ENGINE_TWIN_COLUMNS_KERNELS_H_
#define ENGINE_TWIN_COLUMNS_KERNELS_H_

#include <cstddef>
#include <cstdint>

namespace muster {

// Writes mask[0] to mask[words - 1]: rows with first <= code <= last.
void RangeMask(const uint8_t* codes, size_t words, uint8_t first, uint8_t last,
               uint64_t* mask);
void RangeMask(const uint16_t* codes, size_t words, uint16_t first,
               uint16_t last, uint64_t* mask);
void RangeMask(const uint32_t* codes, size_t words, uint32_t first,
               uint32_t last, uint64_t* mask);
void RangeMask(const uint64_t* codes, size_t words, uint64_t first,
               uint64_t last, uint64_t* mask);

// Writes mask[0] to mask[words - 1]: rows whose code c is in the set, that is,
// has bit c % 64 of set[c / 64].  A set has 4 words for codes of 8 bits and
// 1024 for those of 16.
void SetMask(const uint8_t* codes, size_t words, const uint64_t* set,
             uint64_t* mask);
void SetMask(const uint16_t* codes, size_t words, const uint64_t* set,
             uint64_t* mask);

// The same for a mask that some rows have left already: takes out those that
// are not in the range or set; with `inside` false, those that are.  Codes of
// rows in words that are 0 are not read, so that few words cost little.
void AndRangeMask(const uint8_t* codes, size_t words, uint8_t first,
                  uint8_t last, bool inside, uint64_t* mask);
void AndRangeMask(const uint16_t* codes, size_t words, uint16_t first,
                  uint16_t last, bool inside, uint64_t* mask);
void AndRangeMask(const uint32_t* codes, size_t words, uint32_t first,
                  uint32_t last, bool inside, uint64_t* mask);
void AndRangeMask(const uint64_t* codes, size_t words, uint64_t first,
                  uint64_t last, bool inside, uint64_t* mask);
void AndSetMask(const uint8_t* codes, size_t words, const uint64_t* set,
                uint64_t* mask);
void AndSetMask(const uint16_t* codes, size_t words, const uint64_t* set,
                uint64_t* mask);

// Rows in the mask.
size_t CountMask(const uint64_t* mask, size_t words);

// Writes first_row + r for each row r in the mask, in ascending order, and
// returns how many there are.  REQUIRES: `rows` has room for kRowsOfMaskSpare
// more than that, which may be written to.
inline constexpr size_t kRowsOfMaskSpare = 64;
size_t RowsOfMask(const uint64_t* mask, size_t words, uint32_t first_row,
                  uint32_t* rows);

// For i in [0, 64): bit i of *less says whether left[i] < right[i], that of
// *equal whether they are equal.  REQUIRES: both aligned to 64 bytes.
void CompareNumbers(const double* left, const double* right, uint64_t* less,
                    uint64_t* equal);

// What the kernels above mean, one row after the other: for tests.
namespace scalar {

void RangeMask(const uint8_t* codes, size_t words, uint8_t first, uint8_t last,
               uint64_t* mask);
void RangeMask(const uint16_t* codes, size_t words, uint16_t first,
               uint16_t last, uint64_t* mask);
void RangeMask(const uint32_t* codes, size_t words, uint32_t first,
               uint32_t last, uint64_t* mask);
void RangeMask(const uint64_t* codes, size_t words, uint64_t first,
               uint64_t last, uint64_t* mask);
void SetMask(const uint8_t* codes, size_t words, const uint64_t* set,
             uint64_t* mask);
void SetMask(const uint16_t* codes, size_t words, const uint64_t* set,
             uint64_t* mask);
size_t CountMask(const uint64_t* mask, size_t words);
size_t RowsOfMask(const uint64_t* mask, size_t words, uint32_t first_row,
                  uint32_t* rows);

void CompareNumbers(const double* left, const double* right, uint64_t* less,
                    uint64_t* equal);

}  // namespace scalar

}  // namespace muster

#endif  // ENGINE_TWIN_COLUMNS_KERNELS_H_
