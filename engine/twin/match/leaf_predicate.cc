#include "engine/twin/match/leaf_predicate.h"

#include <string>
#include <utility>

#include "engine/model/check.h"
#include "engine/query/evaluator.h"
#include "engine/query/functions.h"

namespace muster {
namespace {

Json JsonOf(const Constant& constant) {
  std::string bytes;
  JsonBuilder builder(&bytes);
  switch (constant.kind) {
    case JsonKind::kNull:
      builder.Null();
      break;
    case JsonKind::kBool:
      builder.Bool(constant.boolean);
      break;
    case JsonKind::kNumber:
      builder.Double(constant.number);
      break;
    case JsonKind::kString:
      builder.String(constant.text);
      break;
    default:
      break;
  }
  return Json::FromBytes(std::move(bytes));
}

bool IsConstant(const Expr& expr) {
  return expr.As<Constant>() != nullptr || expr.As<ArrayConst>() != nullptr;
}

// A leaf with one path has one slot.
bool IsSlot(const Expr& expr) {
  const Path* path = expr.As<Path>();
  return path != nullptr && path->root != Root::kNone;
}

}  // namespace

LeafPredicate::LeafPredicate(const Plan::Leaf& leaf)
    : leaf_(&leaf), slots_(leaf.paths.size()) {
  if (!one_path()) return;
  FindShape();
  FindKinds();
  FindMembers();
}

void LeafPredicate::FindShape() {
  const Expr& expr = leaf_->expr;
  if (IsSlot(expr)) {
    shape_ = Shape::kPath;
  } else if (const Compare* compare = expr.As<Compare>()) {
    const bool on_left = IsConstant(expr.operands[0]);
    const Expr& constant = expr.operands[on_left ? 0 : 1];
    if (!IsConstant(constant) || !IsSlot(expr.operands[on_left ? 1 : 0])) {
      return;
    }
    shape_ = Shape::kCompare;
    compare_ = compare;
    as_dates_ = compare->as_dates;
    constant_on_left_ = on_left;
    constant_ = EvaluateExpr(constant, slots_, &scratch_);
    if (const Constant* literal = constant.As<Constant>()) {
      constants_.push_back(JsonOf(*literal));
    } else {
      constants_.push_back(constant.As<ArrayConst>()->json);
    }
  } else if (const In* in = expr.As<In>()) {
    if (!IsSlot(expr.operands[0])) return;
    shape_ = Shape::kIn;
    in_ = in;
    as_dates_ = in->as_dates;
    for (const Constant& element : in->elements) {
      if (element.kind == JsonKind::kUndefined) continue;
      constants_.push_back(JsonOf(element));
    }
  } else if (const Call* call = expr.As<Call>()) {
    FindCallShape(*call, expr);
  }
}

bool LeafPredicate::FindCallShape(const Call& call, const Expr& expr) {
  int slots = 0;
  for (size_t i = 0; i < expr.operands.size(); ++i) {
    const Expr& operand = expr.operands[i];
    if (IsSlot(operand)) {
      ++slots;
      argument_ = i;
    } else if (!IsConstant(operand)) {
      return false;
    }
  }
  if (slots != 1) return false;
  for (const Expr& operand : expr.operands) {
    arguments_.push_back(
        IsSlot(operand) ? Value() : EvaluateExpr(operand, slots_, &scratch_));
  }
  function_ = call.function;
  shape_ = Shape::kCall;
  if (function_ == Function::kStartsWith && argument_ == 0) {
    const Constant* prefix = expr.operands[1].As<Constant>();
    if (prefix != nullptr && prefix->kind == JsonKind::kString) {
      shape_ = Shape::kPrefix;
      constants_.push_back(JsonOf(*prefix));
    }
  }
  return true;
}

// Of which kinds the values matter; and what is selected of the others.
void LeafPredicate::FindKinds() {
  const auto open = [this](JsonKind kind) {
    open_[static_cast<size_t>(kind)] = true;
  };
  switch (shape_) {
    case Shape::kCompare:
    case Shape::kIn:
      // Of another kind than a constant's is all the same to it.
      for (const Json& constant : constants_) open(constant.view().kind());
      break;
    case Shape::kPrefix:
      open(JsonKind::kString);
      break;
    case Shape::kPath:
      open(JsonKind::kBool);
      break;
    case Shape::kCall:
      switch (function_) {
        case Function::kIsDefined:
        case Function::kIsArray:
        case Function::kIsBool:
        case Function::kIsNull:
        case Function::kIsNumber:
        case Function::kIsObject:
        case Function::kIsPrimitive:
        case Function::kIsString:
          break;
        case Function::kStartsWith:
        case Function::kEndsWith:
        case Function::kContains:
          open(JsonKind::kString);
          break;
        case Function::kArrayContains:
          if (argument_ == 0) {
            open(JsonKind::kArray);
            break;
          }
          [[fallthrough]];
        default:
          open(JsonKind::kBool);
          open(JsonKind::kNumber);
          open(JsonKind::kString);
          open(JsonKind::kArray);
      }
      break;
    case Shape::kOther:
      open(JsonKind::kBool);
      open(JsonKind::kNumber);
      open(JsonKind::kString);
      open(JsonKind::kArray);
  }
  // No operator and no function looks into objects, and compares arrays.
  open_[static_cast<size_t>(JsonKind::kUndefined)] = false;
  open_[static_cast<size_t>(JsonKind::kNull)] = false;
  open_[static_cast<size_t>(JsonKind::kObject)] = false;
  if (shape_ == Shape::kCompare || shape_ == Shape::kIn) {
    open_[static_cast<size_t>(JsonKind::kArray)] = false;
  }
  // One value stands for all of its kind.
  const auto sample = [this](JsonKind kind, JsonView value) {
    of_kind_[static_cast<size_t>(kind)] = Selects(value);
  };
  std::string boolean, number, text, array;
  JsonBuilder(&boolean).Bool(true);
  JsonBuilder(&number).Int(0);
  JsonBuilder(&text).String("");
  JsonBuilder array_builder(&array);
  array_builder.BeginArray();
  array_builder.EndArray();
  sample(JsonKind::kUndefined, JsonView());
  sample(JsonKind::kNull, JsonView::Null());
  sample(JsonKind::kBool, JsonView::FromEncoded(boolean.data()));
  sample(JsonKind::kNumber, JsonView::FromEncoded(number.data()));
  sample(JsonKind::kString, JsonView::FromEncoded(text.data()));
  sample(JsonKind::kArray, JsonView::FromEncoded(array.data()));
  sample(JsonKind::kObject, Json::EmptyObject().view());
}

// Equality is true where equal, and false elsewhere: within a kind.
void LeafPredicate::FindMembers() {
  if (as_dates_) return;
  const bool wanted = leaf_->wanted;
  if (shape_ == Shape::kIn) {
    members_ = in_->negated != wanted ? Members::kListed : Members::kOthers;
  } else if (shape_ == Shape::kCompare && constant_.is_primitive()) {
    if (compare_->op == CompareOp::kEq) {
      members_ = wanted ? Members::kListed : Members::kOthers;
    } else if (compare_->op == CompareOp::kNe) {
      members_ = wanted ? Members::kOthers : Members::kListed;
    }
  }
}

bool LeafPredicate::IsOrdered(JsonKind kind) const {
  switch (shape_) {
    case Shape::kCompare:
    case Shape::kIn:
      return kind == JsonKind::kNumber ||
             (kind == JsonKind::kString && !as_dates_);
    case Shape::kPrefix:
      return kind == JsonKind::kString;
    default:
      return false;
  }
}

bool LeafPredicate::Selects(JsonView value) {
  switch (shape_) {
    case Shape::kPath:
      return Wants(Value::FromJson(value));
    case Shape::kCompare:
      return Compares(Value::FromJson(value));
    case Shape::kPrefix:
    case Shape::kCall: {
      arguments_[argument_] = Value::FromJson(value);
      const bool wants = Wants(CallFunction(function_, arguments_, &scratch_));
      scratch_.Clear();
      return wants;
    }
    case Shape::kIn:
    case Shape::kOther:
      break;
  }
  slots_.Set(0, value);
  return SelectsSlots();
}

bool LeafPredicate::Compares(const Value& value) const {
  return Wants(constant_on_left_
                   ? EvaluateCompare(*compare_, constant_, value)
                   : EvaluateCompare(*compare_, value, constant_));
}

bool LeafPredicate::SelectsSlots() {
  const bool wants = Wants(EvaluateExpr(leaf_->expr, slots_, &scratch_));
  scratch_.Clear();
  return wants;
}

}  // namespace muster
