// QueryBudget: how much work all queries together may be at a time, whichever
// surface they come from.
//
// What a query costs is known before it is begun, about: twins x the weight of
// its condition, in units of 0.1 ns of a processor.
//
//   a part of the condition                                         weight
//   tags.a = 7, tags.a IN [...], is_defined(tags.a): a search of         1
//     a column (engine/twin/match/matcher.h)
//   a comparison of an instant with one: row by row                     80
//   tags.a < 'x', STARTSWITH(tags.a, 'x'): each distinct text          200
//   all else, which the evaluator may have to answer row by row:       800
//     CONCAT(tags.a, 'x') = 'y', tags.a = tags.b, deviceId > 'x'
//     and for every node and element of it                             100
//   groups and aggregates, but for COUNT() alone                     1,000
//
// It is an upper estimate (measured over texts of some 20 bytes: CONCAT 70 ns,
// an instant and a text that is none 105 ns, deviceId < 'x' 23 ns): few
// distinct values, numbers in columns and parts that others decide make it
// less.  The rows that are written out, which are bounded by the page, are left
// out.
#ifndef TRANSPORT_QUERY_BUDGET_H_
#define TRANSPORT_QUERY_BUDGET_H_

#include <atomic>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"

namespace muster {

struct Expr;
class Statement;

// What one query may cost, 2 seconds, and all under way, where nothing else is
// said.
inline constexpr int64_t kQueryCostMax = 20'000'000'000;
inline constexpr int64_t kQueriesCostMax = 2 * kQueryCostMax;

// A query of at least so much, 10 ms, is a long one.
inline constexpr int64_t kLongQueryCost = 100'000'000;

// Of a condition (nullptr: all twins), at least 1.
int64_t QueryWeight(const Expr* expr);

// Of a statement, at least 1.
int64_t StatementWeight(const Statement& statement);

// Thread-safe.
class QueryBudget {
 public:
  // A part of the budget; given back when it is destroyed.
  class Share {
   public:
    Share(Share&& other) noexcept
        : budget_(std::exchange(other.budget_, nullptr)), cost_(other.cost_) {}
    Share& operator=(Share&&) = delete;
    ~Share();

   private:
    friend class QueryBudget;
    Share(QueryBudget* budget, int64_t cost) : budget_(budget), cost_(cost) {}

    QueryBudget* budget_;
    int64_t cost_;
  };

  // The cost of one query, that of all under way, and how many long ones may be
  // under way; all at least 1.
  QueryBudget(int64_t query_max, int64_t total_max, int long_max);

  // How many long queries leave some of so many threads to other calls.
  static int LongQueriesMax(int threads);

  // For a query of this weight over so many twins.
  //   IotHubQuotaExceeded  it is too much by itself: no later try helps
  //   ThrottlingException  the others leave no room; RetryInfo
  absl::StatusOr<Share> Take(int64_t twins, int64_t weight);

 private:
  const int64_t query_max_;
  const int64_t total_max_;
  const int long_max_;
  std::atomic<int64_t> taken_{0};
  std::atomic<int> long_taken_{0};
};

}  // namespace muster

#endif  // TRANSPORT_QUERY_BUDGET_H_
