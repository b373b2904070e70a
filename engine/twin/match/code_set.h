// CodeSet: the codes of a column that satisfy a leaf of a plan.
//
// Found without looking at the rows: where codes ascend with values, by binary
// search; in a dictionary by looking the constants up, or by asking for each
// entry once.
#ifndef ENGINE_TWIN_MATCH_CODE_SET_H_
#define ENGINE_TWIN_MATCH_CODE_SET_H_

#include <cstddef>
#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "absl/types/span.h"
#include "engine/query/ast.h"
#include "engine/twin/columns/column.h"
#include "engine/twin/columns/int_column.h"
#include "engine/twin/match/leaf_predicate.h"

namespace muster {

// From `first` to `last`, both among them.
struct CodeRange {
  uint64_t first;
  uint64_t last;

  friend bool operator==(const CodeRange&, const CodeRange&) = default;
};

// Codes that occur in no row may or may not be in a set.
class CodeSet {
 public:
  // Sorted, disjoint and not adjacent.
  absl::Span<const CodeRange> ranges() const { return ranges_; }

  void Clear() { ranges_.clear(); }
  // REQUIRES: first <= last; not below the last range.
  void Append(uint64_t first, uint64_t last) {
    if (!ranges_.empty() && ranges_.back().last >= first - 1 && first > 0) {
      if (last > ranges_.back().last) ranges_.back().last = last;
    } else {
      ranges_.push_back({first, last});
    }
  }
  // O(log ranges).
  bool Contains(uint64_t code) const;

 private:
  absl::InlinedVector<CodeRange, 8> ranges_;
};

// Each writes the codes that satisfy the leaf, or returns false if what it
// knows is not enough.  REQUIRES for all: leaf->one_path(), which leads to the
// column itself.
//
// kNumber, kText, by binary search.  O(constants * log codes).
bool OrderedCodes(const Column& column, LeafPredicate* leaf, CodeSet* codes);
bool OrderedCodes(const IntColumn& column, LeafPredicate* leaf, CodeSet* codes);
// kDictionary, by looking constants up; or where all values are alike to the
// leaf. O(constants).
bool LookedUpCodes(const Column& column, const LeafPredicate& leaf,
                   CodeSet* codes);
// kDictionary, by walking the entries: what `rest` leads to in each.
// O(entries).
void WalkedCodes(const Column& column, absl::Span<const PathStep> rest,
                 LeafPredicate* leaf, CodeSet* codes);

// What the steps lead to from there.
JsonView Descend(JsonView value, absl::Span<const PathStep> steps);

}  // namespace muster

#endif  // ENGINE_TWIN_MATCH_CODE_SET_H_
