#include "engine/query/evaluator.h"

#include <cmath>
#include <cstddef>
#include <optional>

#include "absl/container/inlined_vector.h"
#include "absl/time/time.h"
#include "engine/model/check.h"
#include "engine/model/instant.h"

namespace muster {
namespace {

// Undefined stands for itself; any kind but boolean counts as undefined.
Value AsLogical(const Value& value) {
  return value.is_bool() ? value : Value();
}

Value NotOf(const Value& value) {
  return value.is_bool() ? Value::Bool(!value.bool_value()) : Value();
}

// Less than zero, zero, more than zero, as left is to right; nullopt if the two
// have no order.  Contract 5.6, the rows of `<` and of `=` for one kind.
std::optional<int> Order(const Value& left, const Value& right, bool as_dates) {
  if (left.kind() != right.kind()) return std::nullopt;
  switch (left.kind()) {
    case JsonKind::kBool:
      return int{left.bool_value()} - int{right.bool_value()};
    case JsonKind::kNumber:
      return left.number_value() < right.number_value()   ? -1
             : left.number_value() > right.number_value() ? 1
                                                          : 0;
    case JsonKind::kString:
      if (as_dates) {
        const std::optional<absl::Time> a =
            ParseDateOrInstant(left.string_value());
        const std::optional<absl::Time> b =
            ParseDateOrInstant(right.string_value());
        if (a.has_value() && b.has_value()) {
          return *a < *b ? -1 : *a > *b ? 1 : 0;
        }
      }
      // Bytes of UTF-8 are in the order of code points.
      return left.string_value().compare(right.string_value());
    default:
      return std::nullopt;
  }
}

// Contract 5.6, the five rows of `=`, in their order.
Value Equal(const Value& left, const Value& right, bool as_dates) {
  if (left.is_undefined() || right.is_undefined()) return Value();
  if (!left.is_primitive() || !right.is_primitive()) return Value();
  if (left.is_null() || right.is_null()) {
    return Value::Bool(left.is_null() && right.is_null());
  }
  if (left.kind() != right.kind()) return Value();
  return Value::Bool(Order(left, right, as_dates) == 0);
}

// Membership is decided for every element: one of another kind is simply
// another value.
Value EvaluateIn(const In& in, const Value& left) {
  if (!left.is_primitive()) return Value();
  bool found = false;
  for (const Constant& constant : in.elements) {
    const Value element = EvaluateConstant(constant);
    if (element.kind() == left.kind() &&
        Equal(left, element, in.as_dates).is_true()) {
      found = true;
    }
  }
  return Value::Bool(found != in.negated);
}

// A number that JSON could hold: the rest is undefined.
Value Finite(double number) {
  return std::isfinite(number) ? Value::Number(number) : Value();
}

Value Apply(ArithmeticOp op, const Value& left, const Value& right) {
  if (!left.is_number() || !right.is_number()) return Value();
  const double a = left.number_value();
  const double b = right.number_value();
  switch (op) {
    case ArithmeticOp::kAdd:
      return Finite(a + b);
    case ArithmeticOp::kSubtract:
      return Finite(a - b);
    case ArithmeticOp::kMultiply:
      return Finite(a * b);
    case ArithmeticOp::kDivide:
      return b == 0 ? Value() : Finite(a / b);
    case ArithmeticOp::kModulo:
      return b == 0 ? Value() : Finite(std::fmod(a, b));
  }
  MUSTER_CHECK(false && "an operator that is no enumerator");
}

// Table 5.6.1.  One false decides AND, one true decides OR; short of that, one
// undefined leaves it undefined.
Value EvaluateChain(const Expr& expr, bool deciding, const Document& document,
                    Scratch* scratch) {
  bool undefined = false;
  for (const Expr& operand : expr.operands) {
    const Value value = AsLogical(EvaluateExpr(operand, document, scratch));
    if (value.is_undefined()) {
      undefined = true;
    } else if (value.bool_value() == deciding) {
      return value;
    }
  }
  return undefined ? Value() : Value::Bool(!deciding);
}

Value EvaluateCall(const Call& call, const Expr& expr, const Document& document,
                   Scratch* scratch) {
  absl::InlinedVector<Value, 4> arguments;
  for (const Expr& operand : expr.operands) {
    arguments.push_back(EvaluateExpr(operand, document, scratch));
  }
  return CallFunction(call.function, arguments, scratch);
}

}  // namespace

Value EvaluateConstant(const Constant& constant) {
  switch (constant.kind) {
    case JsonKind::kNull:
      return Value::Null();
    case JsonKind::kBool:
      return Value::Bool(constant.boolean);
    case JsonKind::kNumber:
      return Value::Number(constant.number);
    case JsonKind::kString:
      return Value::String(constant.text);
    default:
      return Value();
  }
}

Value EvaluateCompare(const Compare& compare, const Value& left,
                      const Value& right) {
  if (compare.op == CompareOp::kEq) return Equal(left, right, compare.as_dates);
  if (compare.op == CompareOp::kNe) {
    return NotOf(Equal(left, right, compare.as_dates));
  }
  const std::optional<int> order = Order(left, right, compare.as_dates);
  if (!order.has_value()) return Value();
  switch (compare.op) {
    case CompareOp::kLt:
      return Value::Bool(*order < 0);
    case CompareOp::kGt:
      return Value::Bool(*order > 0);
    case CompareOp::kLe:
      return Value::Bool(*order <= 0);
    default:
      return Value::Bool(*order >= 0);
  }
}

Value EvaluatePath(const Path& path, const Document& document,
                   Scratch* scratch) {
  if (path.root == Root::kNone) return Value();
  JsonView view;
  if (path.root == Root::kProperties) {
    view = scratch->Keep(document.Full()).Find("properties");
  } else {
    view = document.Get(path.root);
  }
  for (const PathStep& step : path.steps) {
    view = step.index.has_value() ? view.At(*step.index) : view.Find(step.name);
  }
  return Value::FromJson(view);
}

Value EvaluateExpr(const Expr& expr, const Document& document,
                   Scratch* scratch) {
  const auto operand = [&](size_t i) {
    return EvaluateExpr(expr.operands[i], document, scratch);
  };
  if (const Constant* constant = expr.As<Constant>()) {
    return EvaluateConstant(*constant);
  }
  if (const ArrayConst* array = expr.As<ArrayConst>()) {
    return Value::FromJson(array->json.view());
  }
  if (const Path* path = expr.As<Path>()) {
    return EvaluatePath(*path, document, scratch);
  }
  if (expr.As<And>()) {
    return EvaluateChain(expr, /*deciding=*/false, document, scratch);
  }
  if (expr.As<Or>()) {
    return EvaluateChain(expr, /*deciding=*/true, document, scratch);
  }
  if (expr.As<Not>()) return NotOf(operand(0));
  if (const Compare* compare = expr.As<Compare>()) {
    return EvaluateCompare(*compare, operand(0), operand(1));
  }
  if (const In* in = expr.As<In>()) return EvaluateIn(*in, operand(0));
  if (const Arithmetic* arithmetic = expr.As<Arithmetic>()) {
    Value value = operand(0);
    for (size_t i = 0; i < arithmetic->ops.size(); ++i) {
      value = Apply(arithmetic->ops[i], value, operand(i + 1));
    }
    return value;
  }
  if (const Sign* sign = expr.As<Sign>()) {
    const Value value = operand(0);
    if (!value.is_number()) return Value();
    return sign->negative ? Value::Number(-value.number_value()) : value;
  }
  if (const Call* call = expr.As<Call>()) {
    return EvaluateCall(*call, expr, document, scratch);
  }
  MUSTER_CHECK(false && "a node that is no kind");
}

}  // namespace muster
