// LeafPredicate: which values satisfy one leaf of a plan?
//
// The answer always comes from the reference evaluator, or from the very
// functions that it calls.  What is added here is to know how little has to be
// asked:
//
//   leaf                      decided by the kind    asks for the value of
//   tags.a < 7                strings, null, ...     numbers
//   tags.a IN ['x', TRUE]     numbers, ...           strings, booleans
//   is_defined(tags.a)        everything             nothing
//   startswith(tags.a, 'x')   all but strings        strings
//   tags.a = tags.b           nothing                everything
//
// Not thread-safe: a matcher has one for each leaf.
#ifndef ENGINE_TWIN_MATCH_LEAF_PREDICATE_H_
#define ENGINE_TWIN_MATCH_LEAF_PREDICATE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/model/json.h"
#include "engine/query/ast.h"
#include "engine/query/functions.h"
#include "engine/query/plan.h"
#include "engine/query/value.h"

namespace muster {

class LeafPredicate {
 public:
  enum class Shape : uint8_t {
    kCompare,  // Of the path with a constant.
    kIn,       // The path IN constants.
    kPrefix,   // STARTSWITH(path, constant).
    kCall,     // Another function of the path and of constants.
    kPath,     // The path itself.
    kOther,
  };

  // Keeps a reference to `leaf`.
  explicit LeafPredicate(const Plan::Leaf& leaf);

  const Plan::Leaf& leaf() const { return *leaf_; }
  Shape shape() const { return shape_; }
  bool one_path() const { return leaf_->paths.size() == 1; }

  // Whether a row is selected whose value at the leaf's path is this.
  // REQUIRES: one_path().
  bool Selects(JsonView value);
  // The same.  REQUIRES: kCompare.
  bool Compares(const Value& value) const;

  // Whether a row is selected whose values were put into slots().
  bool SelectsSlots();
  SlotDocument& slots() { return slots_; }

  // REQUIRES for what follows: one_path().

  // Whether values of that kind differ in what Selects() says.  If not so,
  // OfKind() says it of all.  Undefined, null and objects are never open.
  bool IsOpen(JsonKind kind) const { return open_[static_cast<size_t>(kind)]; }
  bool OfKind(JsonKind kind) const {
    return of_kind_[static_cast<size_t>(kind)];
  }

  // Whether Selects() follows from how a value compares with constants() in the
  // order of values of that kind.  (Instants as dates do not: many texts are
  // equal then.)  Implies kCompare, kIn or, for strings, kPrefix.
  bool IsOrdered(JsonKind kind) const;
  // Of the values of open kinds, which are selected.
  enum class Members : uint8_t {
    kSome,    // It has to be asked.
    kListed,  // Those that are equal to one of constants().
    kOthers,  // Those that are not.
  };
  Members members() const { return members_; }

  // kCompare, kPrefix: one; kIn: the list's, without those that are undefined.
  const std::vector<Json>& constants() const { return constants_; }
  // kCompare.
  const Compare& compare() const { return *compare_; }
  bool constant_on_left() const { return constant_on_left_; }
  // kIn: whether rows are selected that are in the list, or those that are not.
  bool wants_listed() const { return in_->negated != leaf_->wanted; }
  // kCompare and kIn.
  bool as_dates() const { return as_dates_; }

  // Whether a row is selected where the leaf is `value`.
  bool Wants(const Value& value) const {
    return value.is_bool() && value.bool_value() == leaf_->wanted;
  }

 private:
  void FindShape();
  bool FindCallShape(const Call& call, const Expr& expr);
  void FindKinds();
  void FindMembers();

  const Plan::Leaf* leaf_;
  Shape shape_ = Shape::kOther;
  const Compare* compare_ = nullptr;
  const In* in_ = nullptr;
  bool constant_on_left_ = false;
  bool as_dates_ = false;
  Members members_ = Members::kSome;
  // kCompare: the constant.
  Value constant_;
  std::vector<Json> constants_;
  // kPrefix, kCall: with a place for the path's value.
  Function function_ = Function::kIsDefined;
  std::vector<Value> arguments_;
  size_t argument_ = 0;
  std::array<bool, 7> open_{};
  std::array<bool, 7> of_kind_{};
  SlotDocument slots_;
  Scratch scratch_;
};

}  // namespace muster

#endif  // ENGINE_TWIN_MATCH_LEAF_PREDICATE_H_
