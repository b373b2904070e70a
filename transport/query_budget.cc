#include "transport/query_budget.h"

#include <algorithm>
#include <optional>

#include "absl/numeric/int128.h"
#include "absl/strings/str_cat.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/instant.h"
#include "engine/model/json.h"
#include "engine/query/ast.h"
#include "engine/query/condition.h"
#include "engine/query/document.h"
#include "engine/query/functions.h"
#include "engine/query/statement.h"

namespace muster {
namespace {

// See the table in query_budget.h.
constexpr int64_t kColumnWeight = 1;
constexpr int64_t kInstantWeight = 80;
constexpr int64_t kDistinctWeight = 200;
constexpr int64_t kRowWeight = 800;
constexpr int64_t kNodeWeight = 100;
constexpr int64_t kAggregateWeight = 1000;

// Of the threads, one in so many is kept from long queries.
constexpr int kThreadsKept = 4;

// Nodes, and elements of lists: what an evaluator walks at most.
int64_t Nodes(const Expr& expr) {
  int64_t nodes = 1;
  if (const In* in = expr.As<In>()) {
    nodes += static_cast<int64_t>(in->elements.size());
  } else if (const ArrayConst* array = expr.As<ArrayConst>()) {
    nodes += static_cast<int64_t>(array->elements.size());
  }
  for (const Expr& operand : expr.operands) nodes += Nodes(operand);
  return nodes;
}

bool ReadsRows(const Expr& expr) {
  const Path* const path = expr.As<Path>();
  if (path != nullptr && path->root != Root::kNone) return true;
  return std::any_of(expr.operands.begin(), expr.operands.end(), ReadsRows);
}

// Whether it is a member that is kept as a column: not made up for each row, as
// ids and whole objects are.
bool IsColumn(const Expr& expr) {
  const Path* const path = expr.As<Path>();
  if (path == nullptr) return false;
  switch (path->root) {
    case Root::kDeviceId:
    case Root::kEtag:
      return false;
    case Root::kTags:
    case Root::kProperties:
    case Root::kDesired:
    case Root::kReported:
    case Root::kDesiredMetadata:
    case Root::kReportedMetadata:
      return !path->steps.empty();
    default:
      return true;
  }
}

// What instants are compared with as such; other texts are compared with
// theirs, which have to be written for each row.
bool IsInstant(const Constant& constant) {
  return constant.kind != JsonKind::kString ||
         ParseDateOrInstant(constant.text).has_value();
}

int64_t CompareWeight(const Compare& compare, const Expr& expr) {
  const bool on_left = expr.operands[0].As<Constant>() != nullptr;
  const Constant* const constant =
      expr.operands[on_left ? 0 : 1].As<Constant>();
  const Expr& other = expr.operands[on_left ? 1 : 0];
  if (constant == nullptr || !IsColumn(other)) return 0;
  if (compare.as_dates) return IsInstant(*constant) ? kInstantWeight : 0;
  const bool is_ordered =
      compare.op != CompareOp::kEq && compare.op != CompareOp::kNe;
  return is_ordered && constant->kind == JsonKind::kString ? kDistinctWeight
                                                           : kColumnWeight;
}

int64_t CallWeight(const Call& call, const Expr& expr) {
  if (!IsColumn(expr.operands[0])) return 0;
  switch (call.function) {
    case Function::kIsDefined:
    case Function::kIsArray:
    case Function::kIsBool:
    case Function::kIsNull:
    case Function::kIsNumber:
    case Function::kIsObject:
    case Function::kIsPrimitive:
    case Function::kIsString:
      return kColumnWeight;
    case Function::kStartsWith:
      return expr.operands[1].As<Constant>() != nullptr ? kDistinctWeight : 0;
    default:
      return 0;
  }
}

// Of what is no AND, OR or NOT; the plan's leaves.
int64_t LeafWeight(const Expr& expr) {
  if (!ReadsRows(expr)) return kColumnWeight;
  int64_t weight = 0;
  if (IsColumn(expr)) {
    weight = kColumnWeight;
  } else if (const Compare* compare = expr.As<Compare>()) {
    weight = CompareWeight(*compare, expr);
  } else if (const In* in = expr.As<In>()) {
    if (IsColumn(expr.operands[0])) {
      const bool as_instants =
          std::all_of(in->elements.begin(), in->elements.end(), IsInstant);
      weight = !in->as_dates ? kColumnWeight : as_instants ? kInstantWeight : 0;
    }
  } else if (const Call* call = expr.As<Call>()) {
    weight = CallWeight(*call, expr);
  }
  return weight > 0 ? weight : kRowWeight + kNodeWeight * Nodes(expr);
}

int64_t Weight(const Expr& expr) {
  if (expr.As<And>() == nullptr && expr.As<Or>() == nullptr &&
      expr.As<Not>() == nullptr) {
    return LeafWeight(expr);
  }
  int64_t weight = 0;
  for (const Expr& operand : expr.operands) weight += Weight(operand);
  return weight;
}

}  // namespace

int64_t QueryWeight(const Expr* expr) {
  return expr == nullptr ? kColumnWeight : Weight(*expr);
}

int64_t StatementWeight(const Statement& statement) {
  const std::optional<Condition>& condition = statement.condition();
  const int64_t weight =
      QueryWeight(condition.has_value() ? condition->expr() : nullptr);
  return statement.is_aggregate() && !statement.is_count()
             ? weight + kAggregateWeight
             : weight;
}

QueryBudget::QueryBudget(int64_t query_max, int64_t total_max, int long_max)
    : query_max_(query_max), total_max_(total_max), long_max_(long_max) {
  MUSTER_CHECK(query_max >= 1 && total_max >= 1 && long_max >= 1);
}

int QueryBudget::LongQueriesMax(int threads) {
  return std::max(1, threads - std::max(1, threads / kThreadsKept));
}

// Relaxed throughout: the sum stands for itself.
QueryBudget::Share::~Share() {
  if (budget_ == nullptr) return;
  budget_->taken_.fetch_sub(cost_, std::memory_order_relaxed);
  if (cost_ >= kLongQueryCost) {
    budget_->long_taken_.fetch_sub(1, std::memory_order_relaxed);
  }
}

absl::StatusOr<QueryBudget::Share> QueryBudget::Take(int64_t twins,
                                                     int64_t weight) {
  twins = std::max<int64_t>(twins, 1);
  const absl::int128 cost = absl::int128(twins) * weight;
  if (cost > query_max_) {
    return MakeError(
        ErrorCode::kIotHubQuotaExceeded,
        absl::StrCat("the query's condition has the weight ", weight, ", and ",
                     twins, " twins make that more than the ", query_max_,
                     " that one query may cost; ask for less at a time"));
  }
  const int64_t wanted = static_cast<int64_t>(cost);
  const bool is_long = wanted >= kLongQueryCost;
  if (is_long &&
      long_taken_.fetch_add(1, std::memory_order_relaxed) >= long_max_) {
    long_taken_.fetch_sub(1, std::memory_order_relaxed);
    return MakeError(
        ErrorCode::kThrottlingException,
        absl::StrCat("there are ", long_max_,
                     " long queries under way, which is the most at a time"));
  }
  if (taken_.fetch_add(wanted, std::memory_order_relaxed) >
      total_max_ - wanted) {
    taken_.fetch_sub(wanted, std::memory_order_relaxed);
    if (is_long) long_taken_.fetch_sub(1, std::memory_order_relaxed);
    return MakeError(
        ErrorCode::kThrottlingException,
        absl::StrCat("the queries under way cost as much as they may at a "
                     "time, ",
                     total_max_, "; this one would add ", wanted));
  }
  return Share(this, wanted);
}

}  // namespace muster
