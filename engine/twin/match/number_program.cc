#include "engine/twin/match/number_program.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/base/casts.h"
#include "engine/model/check.h"
#include "engine/twin/columns/kernels.h"

namespace muster {
namespace {

// Entries of a dictionary that are worth a table of numbers.
constexpr uint64_t kTableMax = 4096;

// fmod() takes 20 ns.  Whole numbers divide as integers do, with the same
// remainder: it is exact, and has the sign of what is divided.
double Remainder(double a, double b) {
  constexpr double kWholeMax = 9e15;
  if (std::fabs(a) < kWholeMax && std::fabs(b) < kWholeMax && b != 0) {
    const int64_t whole_a = static_cast<int64_t>(a);
    const int64_t whole_b = static_cast<int64_t>(b);
    if (static_cast<double>(whole_a) == a &&
        static_cast<double>(whole_b) == b) {
      return std::copysign(static_cast<double>(whole_a % whole_b), a);
    }
  }
  return std::fmod(a, b);
}

}  // namespace

std::optional<NumberProgram> NumberProgram::Compile(const Plan::Leaf& leaf) {
  const Compare* compare = leaf.expr.As<Compare>();
  if (compare == nullptr) return std::nullopt;
  NumberProgram program;
  program.compare_ = compare->op;
  program.wanted_ = leaf.wanted;
  program.sources_.resize(leaf.paths.size());
  for (const Expr& operand : leaf.expr.operands) {
    if (!program.AddExpr(operand, leaf.paths.size(), /*is_compared=*/true)) {
      return std::nullopt;
    }
  }
  program.stack_ =
      std::make_unique<Operand[]>(static_cast<size_t>(program.depth_max_));
  return program;
}

bool NumberProgram::AddExpr(const Expr& expr, size_t slot_count,
                            bool is_compared) {
  const auto add = [&](const Expr& operand) {
    return AddExpr(operand, slot_count, /*is_compared=*/false);
  };
  if (const Constant* constant = expr.As<Constant>()) {
    if (constant->kind != JsonKind::kNumber) return false;
    Push({.op = Op::kConstant, .constant = constant->number});
    return true;
  }
  if (const Path* path = expr.As<Path>()) {
    for (size_t i = 0; i < slot_count; ++i) {
      if (*path != SlotPath(i, slot_count)) continue;
      Push({.op = Op::kSlot, .slot = i});
      sources_[i].is_compared |= is_compared;
      return true;
    }
    return false;  // A name that leads nowhere.
  }
  if (const Arithmetic* arithmetic = expr.As<Arithmetic>()) {
    if (!add(expr.operands[0])) return false;
    for (size_t i = 0; i < arithmetic->ops.size(); ++i) {
      if (!add(expr.operands[i + 1])) return false;
      switch (arithmetic->ops[i]) {
        case ArithmeticOp::kAdd:
          Push({.op = Op::kAdd});
          break;
        case ArithmeticOp::kSubtract:
          Push({.op = Op::kSubtract});
          break;
        case ArithmeticOp::kMultiply:
          Push({.op = Op::kMultiply});
          break;
        case ArithmeticOp::kDivide:
          Push({.op = Op::kDivide});
          break;
        case ArithmeticOp::kModulo:
          Push({.op = Op::kModulo});
          break;
      }
    }
    return true;
  }
  if (const Sign* sign = expr.As<Sign>()) {
    if (!add(expr.operands[0])) return false;
    Push({.op = sign->negative ? Op::kNegate : Op::kNumber});
    return true;
  }
  const Call* call = expr.As<Call>();
  if (call == nullptr) return false;
  Op op;
  switch (call->function) {
    case Function::kAbs:
      op = Op::kAbs;
      break;
    case Function::kExp:
      op = Op::kExp;
      break;
    case Function::kSquare:
      op = Op::kSquare;
      break;
    case Function::kCeiling:
      op = Op::kCeiling;
      break;
    case Function::kFloor:
      op = Op::kFloor;
      break;
    case Function::kSign:
      op = Op::kSign;
      break;
    case Function::kSqrt:
      op = Op::kSqrt;
      break;
    case Function::kPower:
      op = Op::kPower;
      break;
    default:
      return false;
  }
  for (const Expr& operand : expr.operands) {
    if (!add(operand)) return false;
  }
  Push({.op = op});
  return true;
}

void NumberProgram::Push(Step step) {
  if (step.op == Op::kConstant || step.op == Op::kSlot) {
    depth_max_ = std::max(depth_max_, ++depth_);
  } else if (step.op <= Op::kPower) {
    --depth_;  // Two become one.
  }
  steps_.push_back(step);
}

bool NumberProgram::Bind(absl::Span<Slot> slots) {
  for (size_t i = 0; i < slots.size(); ++i) {
    Source& source = sources_[i];
    Slot& slot = slots[i];
    const Cells& cells = slot.cells();
    const bool is_indexed =
        slot.codes() != nullptr &&
        (slot.codes()->form() == CodeArray::Form::kConstant ||
         slot.codes()->form() == CodeArray::Form::kBits);
    if (cells.kind == Cells::Kind::kColumn && cells.rest.empty() &&
        cells.column->kind() == Column::Kind::kNumber && !is_indexed) {
      source.kind = Source::Kind::kNumberCodes;
      source.numbers = cells.column->number_codes();
      continue;
    }
    if (cells.kind == Cells::Kind::kInts && !is_indexed) {
      source.kind = Source::Kind::kInts;
      source.ints = cells.ints;
      continue;
    }
    // The rest by what each index stands for, if there are not too many.
    if (slot.index_count() > kTableMax) return false;
    if (cells.kind == Cells::Kind::kColumn && !is_indexed &&
        cells.column->kind() != Column::Kind::kDictionary) {
      return false;
    }
    source.kind = Source::Kind::kTable;
    const size_t count = static_cast<size_t>(slot.index_count());
    source.values.assign(count, 1);
    source.classes.assign(count, Class::kUndefined);
    for (size_t index = 0; index < count; ++index) {
      const JsonView value = slot.ValueOf(index);
      switch (value.kind()) {
        case JsonKind::kUndefined:
          break;
        case JsonKind::kNull:
          source.classes[index] = Class::kNull;
          break;
        case JsonKind::kNumber:
          source.classes[index] = Class::kNumber;
          source.values[index] = value.number_value();
          break;
        default:
          // To arithmetic all the same as undefined; but texts and booleans can
          // be compared.
          if (source.is_compared) return false;
      }
    }
  }
  return true;
}

void NumberProgram::Load(const Source& source, const Slot& slot, int word,
                         Operand* out) {
  uint64_t indexes[kLanes];
  slot.Load(word, indexes);
  uint64_t numbers = 0;
  uint64_t nulls = 0;
  switch (source.kind) {
    case Source::Kind::kTable:
      for (int i = 0; i < kLanes; ++i) {
        const Class kind = source.classes[indexes[i]];
        out->values[i] = source.values[indexes[i]];
        numbers |= uint64_t{kind == Class::kNumber} << i;
        nulls |= uint64_t{kind == Class::kNull} << i;
      }
      break;
    case Source::Kind::kNumberCodes: {
      // A copy of its own, which no store below can change.
      const Column::NumberCodes codes = source.numbers;
      for (int i = 0; i < kLanes; ++i) {
        numbers |= uint64_t{indexes[i] >= Column::kFirstCode} << i;
        nulls |= uint64_t{indexes[i] == Column::kNullCode} << i;
      }
      if (codes.raw) {
        for (int i = 0; i < kLanes; ++i) {
          out->values[i] = numbers >> i & 1 ? codes.At(indexes[i]) : 1;
        }
      } else {
        for (int i = 0; i < kLanes; ++i) out->values[i] = codes.At(indexes[i]);
      }
      break;
    }
    case Source::Kind::kInts:
      for (int i = 0; i < kLanes; ++i) {
        numbers |= uint64_t{indexes[i] >= IntColumn::kFirst} << i;
        out->values[i] = static_cast<double>(source.ints->ValueOf(indexes[i]));
      }
      break;
  }
  out->numbers = numbers;
  out->nulls = nulls;
}

// What is no finite number any more is undefined.
void NumberProgram::DropInfinite(Operand* a) {
  // An exponent of all ones becomes a bit more.
  uint64_t carries = 0;
  for (int i = 0; i < kLanes; ++i) {
    const uint64_t bits = absl::bit_cast<uint64_t>(a->values[i]);
    carries |= (bits >> 52 & 0x7ff) + 1;
  }
  if ((carries & 0x800) == 0) return;
  for (int i = 0; i < kLanes; ++i) {
    if (std::isfinite(a->values[i])) continue;
    a->values[i] = 1;
    a->numbers &= ~(uint64_t{1} << i);
  }
}

void NumberProgram::Apply(Op op, Operand* a, const Operand* b) {
  double* const x = a->values;
  const double* const y = b->values;
  // Slow functions are not called for what is undefined anyway.
  const auto for_each_number = [a](auto function) {
    for (int i = 0; i < kLanes; ++i) {
      if (a->numbers >> i & 1) function(i);
    }
  };
  if (op <= Op::kPower) a->numbers &= b->numbers;
  switch (op) {
    case Op::kConstant:
    case Op::kSlot:
      break;
    case Op::kAdd:
      for (int i = 0; i < kLanes; ++i) x[i] += y[i];
      break;
    case Op::kSubtract:
      for (int i = 0; i < kLanes; ++i) x[i] -= y[i];
      break;
    case Op::kMultiply:
      for (int i = 0; i < kLanes; ++i) x[i] *= y[i];
      break;
    case Op::kDivide:
      // What is divided by zero is not finite.
      for (int i = 0; i < kLanes; ++i) x[i] /= y[i];
      break;
    case Op::kModulo:
      // Nor is what is left of a division by zero.
      for_each_number([&](int i) { x[i] = Remainder(x[i], y[i]); });
      break;
    case Op::kPower:
      for_each_number([&](int i) { x[i] = std::pow(x[i], y[i]); });
      break;
    case Op::kNegate:
      for (int i = 0; i < kLanes; ++i) x[i] = -x[i];
      break;
    case Op::kNumber:
      break;
    case Op::kAbs:
      for (int i = 0; i < kLanes; ++i) x[i] = std::fabs(x[i]);
      break;
    case Op::kExp:
      for_each_number([&](int i) { x[i] = std::exp(x[i]); });
      break;
    case Op::kSquare:
      for (int i = 0; i < kLanes; ++i) x[i] *= x[i];
      break;
    case Op::kCeiling:
      for_each_number([&](int i) { x[i] = std::ceil(x[i]); });
      break;
    case Op::kFloor:
      for_each_number([&](int i) { x[i] = std::floor(x[i]); });
      break;
    case Op::kSign:
      for (int i = 0; i < kLanes; ++i) x[i] = x[i] > 0 ? 1 : x[i] < 0 ? -1 : 0;
      break;
    case Op::kSqrt:
      for_each_number([&](int i) { x[i] = std::sqrt(x[i]); });
      break;
  }
  // Null is no operand for any of them.
  a->nulls = 0;
  DropInfinite(a);
}

uint64_t NumberProgram::Select(int word, absl::Span<const Slot> slots) {
  Operand* top = stack_.get();  // Behind the last operand.
  for (const Step& step : steps_) {
    if (step.op == Op::kConstant) {
      std::fill_n(top->values, kLanes, step.constant);
      top->numbers = ~uint64_t{0};
      top->nulls = 0;
      ++top;
    } else if (step.op == Op::kSlot) {
      Load(sources_[step.slot], slots[step.slot], word, top++);
    } else if (step.op <= Op::kPower) {
      Apply(step.op, top - 2, top - 1);
      --top;
    } else {
      Apply(step.op, top - 1, top - 1);
    }
  }
  const Operand& a = top[-2];
  const Operand& b = top[-1];
  MUSTER_DCHECK(&a == stack_.get());
  uint64_t less, equal;
  CompareNumbers(a.values, b.values, &less, &equal);
  const uint64_t numbers = a.numbers & b.numbers;
  // Contract 5.6: null equals null, and no number; it is in no order.
  const uint64_t comparable = (a.numbers | a.nulls) & (b.numbers | b.nulls);
  const uint64_t same = (numbers & equal) | (a.nulls & b.nulls);
  uint64_t defined = numbers;
  uint64_t is_true = 0;
  switch (compare_) {
    case CompareOp::kEq:
      defined = comparable;
      is_true = same;
      break;
    case CompareOp::kNe:
      defined = comparable;
      is_true = ~same;
      break;
    case CompareOp::kLt:
      is_true = less;
      break;
    case CompareOp::kGt:
      is_true = ~(less | equal);
      break;
    case CompareOp::kLe:
      is_true = less | equal;
      break;
    case CompareOp::kGe:
      is_true = ~less;
      break;
  }
  return defined & (wanted_ ? is_true : ~is_true);
}

}  // namespace muster
