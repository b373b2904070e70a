// NumberProgram: a comparison of two numeric expressions, 64 rows at a time.
//
//   properties.reported.total - properties.reported.used < 2 * tags.reserve
//
// becomes a program for a stack of columns of 64 numbers.  Every step does to
// each number what the reference evaluator does to one, in the same order and
// in the same arithmetic, so that results are the same to the last bit; what is
// not a number, not finite or divided by zero is undefined there as here.
//
// About 2 ns per row and step, a fortieth of the evaluator's time.
#ifndef ENGINE_TWIN_MATCH_NUMBER_PROGRAM_H_
#define ENGINE_TWIN_MATCH_NUMBER_PROGRAM_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "engine/query/ast.h"
#include "engine/query/plan.h"
#include "engine/twin/columns/column.h"
#include "engine/twin/match/slot.h"

namespace muster {

// Of one thread.
class NumberProgram {
 public:
  // nullopt unless the leaf is a comparison of constants, paths, arithmetic,
  // signs and functions of numbers.  Keeps no reference.
  static std::optional<NumberProgram> Compile(const Plan::Leaf& leaf);

  // Prepares for the slots as they are bound now; false if they hold what no
  // program reads: anything but numbers and nulls where values are compared, or
  // texts that are not kept as codes.
  bool Bind(absl::Span<Slot> slots);

  // Which rows of the word (row 64 * word in bit 0) are selected; bits of rows
  // that are not in use mean nothing.  REQUIRES: Bind().
  uint64_t Select(int word, absl::Span<const Slot> slots);

  // Steps per row.
  int size() const { return static_cast<int>(steps_.size()); }

 private:
  static constexpr int kLanes = 64;

  enum class Op : uint8_t {
    kConstant,
    kSlot,
    kAdd,
    kSubtract,
    kMultiply,
    kDivide,
    kModulo,
    kPower,
    kNegate,
    kNumber,  // +a
    kAbs,
    kExp,
    kSquare,
    kCeiling,
    kFloor,
    kSign,
    kSqrt,
  };
  struct Step {
    Op op;
    size_t slot = 0;
    double constant = 0;
  };
  // 64 values: numbers, nulls, and what is undefined.
  struct alignas(64) Operand {
    double values[kLanes];
    uint64_t numbers;
    uint64_t nulls;
  };
  enum class Class : uint8_t { kUndefined, kNull, kNumber };
  // How to read a slot.
  struct Source {
    bool is_compared = false;  // An operand of the comparison itself.
    enum class Kind : uint8_t {
      kTable,
      kNumberCodes,
      kInts
    } kind = Kind::kTable;
    Column::NumberCodes numbers{};
    const IntColumn* ints = nullptr;
    // By index.
    std::vector<double> values;
    std::vector<Class> classes;
  };

  // False if there is something else in it.
  bool AddExpr(const Expr& expr, size_t slot_count, bool is_compared);
  void Push(Step step);
  void Load(const Source& source, const Slot& slot, int word, Operand* out);
  static void Apply(Op op, Operand* a, const Operand* b);
  static void DropInfinite(Operand* a);

  CompareOp compare_ = CompareOp::kEq;
  bool wanted_ = true;
  std::vector<Step> steps_;
  std::vector<Source> sources_;
  int depth_ = 0;
  int depth_max_ = 0;
  std::unique_ptr<Operand[]> stack_;
};

}  // namespace muster

#endif  // ENGINE_TWIN_MATCH_NUMBER_PROGRAM_H_
