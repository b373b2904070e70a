#include "engine/query/ast.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/query/lexer.h"
#include "engine/query/number_text.h"

namespace muster {
namespace {

void AppendString(absl::string_view text, std::string* out) {
  out->push_back('\'');
  for (const char c : text) {
    if (c == '\'' || c == '\\') out->push_back('\\');
    out->push_back(c);
  }
  out->push_back('\'');
}

// As a step below another one, or `first` of all.
void AppendName(absl::string_view name, bool first, std::string* out) {
  // What [[ ]] cannot hold was written ['...'], and is never the first.
  const bool escapable = !name.empty() && !absl::StrContains(name, "]]") &&
                         !absl::EndsWith(name, "]");
  if (IsPlainName(name)) {
    absl::StrAppend(out, first ? "" : ".", name);
  } else if (escapable) {
    absl::StrAppend(out, first ? "[[" : ".[[", name, "]]");
  } else {
    out->push_back('[');
    AppendString(name, out);
    out->push_back(']');
  }
}

void AppendConstant(const Constant& constant, std::string* out) {
  switch (constant.kind) {
    case JsonKind::kNull:
      out->append("NULL");
      return;
    case JsonKind::kBool:
      out->append(constant.boolean ? "TRUE" : "FALSE");
      return;
    case JsonKind::kNumber:
      AppendDecimal(constant.number, out);
      return;
    case JsonKind::kString:
      AppendString(constant.text, out);
      return;
    default:
      out->append("UNDEFINED");
      return;
  }
}

void AppendList(const std::vector<Constant>& elements, std::string* out) {
  absl::string_view separator = "[";
  for (const Constant& element : elements) {
    absl::StrAppend(out, separator);
    AppendConstant(element, out);
    separator = ", ";
  }
  out->push_back(']');
}

absl::string_view OpText(CompareOp op) {
  switch (op) {
    case CompareOp::kEq:
      return " = ";
    case CompareOp::kNe:
      return " != ";
    case CompareOp::kLt:
      return " < ";
    case CompareOp::kGt:
      return " > ";
    case CompareOp::kLe:
      return " <= ";
    case CompareOp::kGe:
      break;
  }
  return " >= ";
}

absl::string_view OpText(ArithmeticOp op) {
  switch (op) {
    case ArithmeticOp::kAdd:
      return " + ";
    case ArithmeticOp::kSubtract:
      return " - ";
    case ArithmeticOp::kMultiply:
      return " * ";
    case ArithmeticOp::kDivide:
      return " / ";
    case ArithmeticOp::kModulo:
      break;
  }
  return " % ";
}

// How strongly the outermost part of an expression binds (contract 5.6.2).
enum Binding {
  kBindsOr,
  kBindsAnd,
  kBindsNot,
  kBindsCompare,
  kBindsAdd,
  kBindsMultiply,
  kBindsSign,
  kBindsPrimary,
};

Binding BindingOf(const Expr& expr) {
  if (const Constant* constant = expr.As<Constant>()) {
    std::string text;
    AppendConstant(*constant, &text);
    return text[0] == '-' ? kBindsSign : kBindsPrimary;
  }
  if (expr.As<Or>()) return kBindsOr;
  if (expr.As<And>()) return kBindsAnd;
  if (expr.As<Not>()) return kBindsNot;
  if (expr.As<Compare>() || expr.As<In>()) return kBindsCompare;
  if (const Arithmetic* arithmetic = expr.As<Arithmetic>()) {
    const ArithmeticOp op = arithmetic->ops[0];
    return op == ArithmeticOp::kAdd || op == ArithmeticOp::kSubtract
               ? kBindsAdd
               : kBindsMultiply;
  }
  if (expr.As<Sign>()) return kBindsSign;
  return kBindsPrimary;
}

// Parentheses stand where an operand binds less than its place needs: exactly
// where a text that parsed into this had them.
void Append(const Expr& expr, Binding needed, std::string* out) {
  const Binding binding = BindingOf(expr);
  const bool parenthesized = binding < needed;
  // Operands of one chain bind more than the chain: the others were
  // parenthesized.
  const Binding next = static_cast<Binding>(binding + 1);
  const std::vector<Expr>& operands = expr.operands;
  if (parenthesized) out->push_back('(');
  if (const Constant* constant = expr.As<Constant>()) {
    AppendConstant(*constant, out);
  } else if (const ArrayConst* array = expr.As<ArrayConst>()) {
    AppendList(array->elements, out);
  } else if (const Path* path = expr.As<Path>()) {
    out->append(PathText(*path));
  } else if (expr.As<And>() || expr.As<Or>()) {
    for (size_t i = 0; i < operands.size(); ++i) {
      if (i > 0) out->append(expr.As<And>() ? " AND " : " OR ");
      Append(operands[i], next, out);
    }
  } else if (expr.As<Not>()) {
    out->append("NOT ");
    Append(operands[0], kBindsNot, out);
  } else if (const Compare* compare = expr.As<Compare>()) {
    Append(operands[0], next, out);
    absl::StrAppend(out, OpText(compare->op));
    Append(operands[1], next, out);
  } else if (const In* in = expr.As<In>()) {
    Append(operands[0], next, out);
    out->append(in->negated ? " NIN " : " IN ");
    AppendList(in->elements, out);
  } else if (const Arithmetic* arithmetic = expr.As<Arithmetic>()) {
    Append(operands[0], next, out);
    for (size_t i = 1; i < operands.size(); ++i) {
      absl::StrAppend(out, OpText(arithmetic->ops[i - 1]));
      Append(operands[i], next, out);
    }
  } else if (const Sign* sign = expr.As<Sign>()) {
    out->push_back(sign->negative ? '-' : '+');
    Append(operands[0], kBindsPrimary, out);
  } else if (const Call* call = expr.As<Call>()) {
    absl::StrAppend(out, FunctionInfoOf(call->function).name, "(");
    for (size_t i = 0; i < operands.size(); ++i) {
      if (i > 0) out->append(", ");
      Append(operands[i], kBindsOr, out);
    }
    out->push_back(')');
  }
  if (parenthesized) out->push_back(')');
}

}  // namespace

Constant Constant::Bool(bool value) {
  Constant out;
  out.kind = JsonKind::kBool;
  out.boolean = value;
  return out;
}

Constant Constant::Number(double value) {
  Constant out;
  out.kind = JsonKind::kNumber;
  out.number = value;
  return out;
}

Constant Constant::String(std::string value) {
  Constant out;
  out.kind = JsonKind::kString;
  out.text = std::move(value);
  return out;
}

bool IsDatePath(const Path& path) {
  if (path.root == Root::kDesiredMetadata ||
      path.root == Root::kReportedMetadata) {
    return !path.steps.empty() && !path.steps.back().index.has_value() &&
           path.steps.back().name == "$lastUpdated";
  }
  return path.steps.empty() && IsDateRoot(path.root);
}

std::string PathText(const Path& path) {
  std::string out(RootName(path.root));
  // Unknown at the root, `devices` is no prefix: it has one.
  if (path.root == Root::kNone &&
      absl::EqualsIgnoreCase(path.steps[0].name, "devices")) {
    out = "devices";
  }
  for (const PathStep& step : path.steps) {
    if (step.index.has_value()) {
      absl::StrAppend(&out, "[", *step.index, "]");
    } else {
      AppendName(step.name, out.empty(), &out);
    }
  }
  return out;
}

std::string ExprText(const Expr& expr) {
  std::string out;
  Append(expr, kBindsOr, &out);
  return out;
}

}  // namespace muster
