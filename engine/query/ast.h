// The parsed form of a condition: what evaluators and planners walk.
//
// An Expr is a node with its kind's own data and its operands, in order:
//
//   kind         written as                          operands
//   Constant     7  'US'  TRUE  NULL  UNDEFINED      none
//   ArrayConst   ['a', 5]                            none
//   Path         tags.location.region                none
//   And, Or      a AND b AND c                       two or more
//   Not          NOT a                               one
//   Compare      a < b                               two
//   In           a IN ['x','y'], a NIN [...]         one: the left side
//   Arithmetic   a + b - c,  a * b % c               two or more
//   Sign         -a, +a                              one
//   Call         LENGTH(a)                           the arguments
//
// The parser has already done what needs no row, so that every reader finds one
// form only:
//
//   * names are resolved (path.h): aliases, prefixes and the case of root names
//     are gone, and a path begins at a Root;
//   * a signed number is a Constant; a run of signs is one Sign, and of three
//     or more NOTs one or two are left, by the rules -(-a) = +a and
//     NOT NOT NOT a = NOT a, which hold for undefined too;
//   * chains are flat, so that a node's depth is bounded by the text's nesting
//     (kQueryDepthMax) and readers may recurse: a AND b AND c is one node, as
//     is a + b - c; parentheses that the text put around a part keep it apart;
//   * comparisons know whether they compare dates (contract 5.6.3);
//   * on devices.jobs, the literal 'cancelled' compared with status is written
//     'canceled', which is how records spell it (contract 5.11).
#ifndef ENGINE_QUERY_AST_H_
#define ENGINE_QUERY_AST_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "engine/model/json.h"
#include "engine/query/document.h"
#include "engine/query/functions.h"
#include "engine/query/parse_error.h"

namespace muster {

// A literal.  `kind` is kUndefined, kNull, kBool, kNumber or kString.
struct Constant {
  JsonKind kind = JsonKind::kUndefined;
  bool boolean = false;
  double number = 0;
  std::string text;

  static Constant Bool(bool value);
  static Constant Number(double value);
  static Constant String(std::string value);
  friend bool operator==(const Constant&, const Constant&) = default;
};

// A list of literals that stands where a value may stand.
struct ArrayConst {
  std::vector<Constant> elements;
  // The same as JSON, without the undefined ones: no array holds those, and
  // none can be found there.
  Json json;

  friend bool operator==(const ArrayConst& a, const ArrayConst& b) {
    return a.elements == b.elements;
  }
};

// One step below a root: into an object's member or an array's element.
struct PathStep {
  std::optional<int64_t> index;  // At least 0.
  std::string name;              // Without index.

  friend bool operator==(const PathStep&, const PathStep&) = default;
};

// Where a value is found in a row.  Names of fixed members
// (capabilities.iotEdge) are in canonical spelling, names of users' members as
// written.
struct Path {
  Root root = Root::kNone;  // With kNone the steps say what was written.
  std::vector<PathStep> steps;

  friend bool operator==(const Path&, const Path&) = default;
};

// Whether the path's values are instants, written by the hub and not by users.
bool IsDatePath(const Path& path);

enum class CompareOp : uint8_t { kEq, kNe, kLt, kGt, kLe, kGe };
enum class ArithmeticOp : uint8_t {
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kModulo
};

struct And {
  friend bool operator==(const And&, const And&) = default;
};
struct Or {
  friend bool operator==(const Or&, const Or&) = default;
};
struct Not {
  friend bool operator==(const Not&, const Not&) = default;
};
struct Compare {
  CompareOp op = CompareOp::kEq;
  bool as_dates = false;  // One side is a date path.
  friend bool operator==(const Compare&, const Compare&) = default;
};
struct In {
  std::vector<Constant> elements;  // At least one.
  bool negated = false;            // NIN, NOT IN.
  bool as_dates = false;           // The left side is a date path.
  friend bool operator==(const In&, const In&) = default;
};
struct Arithmetic {
  // One fewer than operands, applied from the left; either all of + and -, or
  // all of * / %.
  std::vector<ArithmeticOp> ops;
  friend bool operator==(const Arithmetic&, const Arithmetic&) = default;
};
struct Sign {
  bool negative = false;  // `+a` is a if that is a number, else undefined.
  friend bool operator==(const Sign&, const Sign&) = default;
};
struct Call {
  Function function = Function::kIsDefined;
  friend bool operator==(const Call&, const Call&) = default;
};

struct Expr {
  std::variant<Constant, ArrayConst, Path, And, Or, Not, Compare, In,
               Arithmetic, Sign, Call>
      node;
  std::vector<Expr> operands;
  SourcePosition position;  // Of the first token; no part of equality.

  template <typename Node>
  const Node* As() const {
    return std::get_if<Node>(&node);
  }
  friend bool operator==(const Expr& a, const Expr& b) {
    return a.node == b.node && a.operands == b.operands;
  }
};

enum class AggregateFunction : uint8_t { kCount, kAvg, kSum, kMin, kMax };

// Text that parses into the same path, or into an equal expression, in a query
// over the same collection.  (It may be longer than what was parsed, and so
// exceed kQueryLengthMax.)
std::string PathText(const Path& path);
std::string ExprText(const Expr& expr);

}  // namespace muster

#endif  // ENGINE_QUERY_AST_H_
