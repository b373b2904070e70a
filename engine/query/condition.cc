#include "engine/query/condition.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "engine/model/check.h"
#include "engine/query/evaluator.h"
#include "engine/query/parse_error.h"
#include "engine/query/parser.h"

namespace muster {
namespace {

// What a hub puts in front of a job's condition before it parses it.
constexpr absl::string_view kJobPrefix = "SELECT * FROM devices WHERE ";

using Bound = std::optional<std::vector<std::string>>;

Bound SortedUnique(std::vector<std::string> values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  return values;
}

bool IsRoot(const Expr& expr, Root root) {
  const Path* path = expr.As<Path>();
  return path != nullptr && path->root == root && path->steps.empty();
}

// root = 'x', 'x' = root
Bound BoundOfCompare(const Compare& compare, const Expr& expr, Root root) {
  if (compare.op != CompareOp::kEq || compare.as_dates) return std::nullopt;
  for (size_t i = 0; i < 2; ++i) {
    const Constant* constant = expr.operands[1 - i].As<Constant>();
    if (IsRoot(expr.operands[i], root) && constant != nullptr &&
        constant->kind == JsonKind::kString) {
      return std::vector<std::string>{constant->text};
    }
  }
  return std::nullopt;
}

// root IN ['x', 'y']
Bound BoundOfIn(const In& in, const Expr& expr, Root root) {
  if (in.negated || in.as_dates || !IsRoot(expr.operands[0], root)) {
    return std::nullopt;
  }
  std::vector<std::string> values;
  for (const Constant& element : in.elements) {
    if (element.kind == JsonKind::kString) values.push_back(element.text);
  }
  return SortedUnique(std::move(values));
}

// Where `expr` is true, `root` has one of these values.  AND needs one operand
// that says so, and takes what all that do agree on; OR needs all.  `*exact`
// becomes false if `expr` need not be true there.
Bound BoundOf(const Expr& expr, Root root, bool* exact) {
  if (const Compare* compare = expr.As<Compare>()) {
    return BoundOfCompare(*compare, expr, root);
  }
  if (const In* in = expr.As<In>()) return BoundOfIn(*in, expr, root);
  const bool is_and = expr.As<And>() != nullptr;
  if (!is_and && expr.As<Or>() == nullptr) return std::nullopt;
  Bound bound;
  std::vector<std::string> any;
  for (const Expr& operand : expr.operands) {
    Bound other = BoundOf(operand, root, exact);
    if (!other.has_value()) *exact = false;
    if (!is_and) {
      if (!other.has_value()) return std::nullopt;
      any.insert(any.end(), other->begin(), other->end());
    } else if (!bound.has_value()) {
      bound = std::move(other);
    } else if (other.has_value()) {
      std::vector<std::string> both;
      std::set_intersection(bound->begin(), bound->end(), other->begin(),
                            other->end(), std::back_inserter(both));
      bound = std::move(both);
    }
  }
  return is_and ? bound : SortedUnique(std::move(any));
}

}  // namespace

absl::StatusOr<Condition> Condition::Parse(absl::string_view text,
                                           Collection collection,
                                           const QueryOptions& options) {
  absl::StatusOr<Expr> expr = ParseConditionText(text, collection, options);
  if (!expr.ok()) return expr.status();
  return Condition(std::make_shared<const Rep>(
      Rep{std::string(text), collection, *std::move(expr)}));
}

absl::StatusOr<Condition> Condition::ParseJobCondition(
    absl::string_view text, const QueryOptions& options) {
  absl::StatusOr<std::optional<Expr>> expr =
      ParseJobConditionText(text, options);
  if (!expr.ok()) return expr.status();
  return Condition(std::make_shared<const Rep>(
      Rep{std::string(text), Collection::kDevices, *std::move(expr)}));
}

Condition Condition::MatchAll(Collection collection) {
  return Condition(
      std::make_shared<const Rep>(Rep{"*", collection, std::nullopt}));
}

Value Condition::Evaluate(const Document& document, Scratch* scratch) const {
  if (matches_all()) return Value::Bool(true);
  return EvaluateExpr(*expr(), document, scratch);
}

bool Condition::Matches(const Document& document) const {
  Scratch scratch;
  return Evaluate(document, &scratch).is_true();
}

std::optional<std::vector<std::string>> Condition::Candidates(
    Root root, bool* exact) const {
  if (matches_all()) return std::nullopt;
  bool is_exact = true;
  Bound bound = BoundOf(*expr(), root, &is_exact);
  if (exact != nullptr) *exact = is_exact;
  return bound;
}

std::string FailureReason(const absl::Status& error) {
  MUSTER_CHECK(!error.ok());
  constexpr absl::string_view kBeginning =
      "SQL query parse failed due to following errors: ";
  const std::optional<ParseError> parse_error = ParseErrorOf(error);
  if (!parse_error.has_value()) {
    return absl::StrCat(kBeginning, error.message());
  }
  const SourcePosition position = parse_error->position;
  const size_t column =
      position.column + (position.line == 1 ? kJobPrefix.size() : 0);
  return absl::StrCat(kBeginning, position.line, ":", column, ": ",
                      parse_error->what);
}

}  // namespace muster
