// Matcher: from a plan to the rows of a shard that it selects.
//
//   Matcher matcher(std::make_shared<const Plan>(condition));
//   for (Shard& shard : shards) {
//     RowBitmap rows;
//     matcher.Match(shard, &rows);
//   }
//
// In each shard every leaf of the plan takes the cheapest form that is exact:
//
//   what its path leads to                the leaf becomes
//   nothing, one value for all rows       all rows, or none
//   one of two values                     the column's bits, or the others
//   few rows                              bits that are made here
//   numbers, texts of one pattern         ranges of codes: vector kernels
//   a dictionary                          ranges or a set of codes: the same
//   instants                              a comparison of integers, row by row
//   numbers in expressions                a NumberProgram, 64 rows at a time
//   few different values, or pairs of     the evaluator, once for each
//   all else                              the evaluator, row by row
//
// What a form selects is decided by the reference evaluator on values; nothing
// here knows what `<` means.
//
// AND and OR work on blocks of 4,096 rows.  Operands come in the order of cost
// / (share of rows that they decide); shares are measured as the query goes
// from shard to shard.  A block that is decided is left; where only some rows
// are undecided, only they are looked at.
//
// A predicate on codes of 8 bits costs about 0.3 us per shard of 16,384 rows
// and 0.2 us to bind.
#ifndef ENGINE_TWIN_MATCH_MATCHER_H_
#define ENGINE_TWIN_MATCH_MATCHER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/query/condition.h"
#include "engine/query/plan.h"
#include "engine/twin/columns/row_set.h"
#include "engine/twin/match/cells.h"

namespace muster {

// How a condition was answered, summed over shards.
struct MatchExplanation {
  struct Form {
    std::string text;  // "dictionary, set of codes, 8 bits".
    int64_t shards = 0;
  };
  struct Step {
    std::string condition;  // The part of the whole that it is about.
    std::vector<Form> forms;
    int64_t rows_in = 0;          // Undecided when its turn came.
    int64_t rows_out = 0;         // Of those, selected.
    int64_t values_examined = 0;  // Entries of dictionaries, and rows.
    int64_t nanoseconds = 0;      // With the search for codes.
  };
  // In the order in which they were taken in the last shard.
  std::vector<Step> steps;
  int64_t shards = 0;
  int64_t rows_in = 0;  // Twins that there are.
  int64_t rows_out = 0;
  int64_t nanoseconds = 0;

  // Adds what another thread did for the same plan.
  void Merge(const MatchExplanation& other);
};

// Of one thread and one query; re-usable from shard to shard, which is what it
// learns from.
class Matcher {
 public:
  explicit Matcher(std::shared_ptr<const Plan> plan);
  explicit Matcher(const Condition& condition)
      : Matcher(std::make_shared<const Plan>(condition)) {}
  ~Matcher();
  Matcher(Matcher&&) noexcept;
  Matcher& operator=(Matcher&&) noexcept;

  // Writes the rows in use that the condition selects.  Allocates nothing in
  // the steady state.  REQUIRES: the shard does not change meanwhile.
  void Match(const CellSource& source, RowBitmap* rows);

  // From now on notes how things go, with the time from `nanoseconds` (any
  // origin).  Without, no clock is read.
  void Explain(std::function<int64_t()> nanoseconds);
  MatchExplanation explanation() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster

#endif  // ENGINE_TWIN_MATCH_MATCHER_H_
