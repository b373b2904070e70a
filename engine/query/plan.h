// Plan: a condition in the form in which it is answered for many rows at once.
//
// A row is selected iff the condition is true.  Logic has three values, but a
// plan needs sets of rows only: NOT is pushed down to where there is none, and
// what is left asks of each part either where it is true or where it is false.
//
//   true(a AND b)  = true(a)  and true(b)     true(NOT a)  = false(a)
//   false(a AND b) = false(a) or  false(b)    false(NOT a) = true(a)
//
// and the same for OR with the two exchanged.  Where a part is undefined it is
// neither true nor false, so that undefined needs no set of its own:
//
//   NOT (tags.a = 1 AND is_defined(tags.b))
//       false(tags.a = 1) or false(is_defined(tags.b))
//
// The parts that are no AND, OR or NOT are leaves.  A leaf knows the paths that
// it reads, and its expression reads their values from a SlotDocument instead
// of a row, wherever they may come from; so the reference evaluator can say
// what a leaf is worth for any values, and decides in the end what it means.
#ifndef ENGINE_QUERY_PLAN_H_
#define ENGINE_QUERY_PLAN_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "engine/model/json.h"
#include "engine/query/ast.h"
#include "engine/query/condition.h"
#include "engine/query/document.h"

namespace muster {

// Immutable and thread-safe.
class Plan {
 public:
  struct Leaf {
    // Path nodes are slots: SlotPath(i, paths.size()) for the i-th of `paths`.
    Expr expr;
    // What it reads, as indexes into Plan::paths(); distinct, at least one.
    std::vector<int> paths;
    // Whether rows are wanted where it is true, or those where it is false.
    bool wanted = true;
  };

  struct Node {
    enum class Kind {
      kAll,   // Every row; only as a root.
      kNone,  // No row; only as a root.
      kLeaf,
      kAnd,  // Of two or more operands, none of them an AND.
      kOr,   // Of two or more operands, none of them an OR.
    };
    Kind kind = Kind::kAll;
    int leaf = -1;  // kLeaf: index into leaves().
    std::vector<Node> operands;
    int id = 0;  // In 0 .. node_count() - 1, distinct.
  };

  // Takes time linear in the condition's size, but for its leaves, which are
  // compared pairwise: equal ones become one.
  explicit Plan(const Condition& condition);

  const Node& root() const { return root_; }
  int node_count() const { return node_count_; }
  const std::vector<Leaf>& leaves() const { return leaves_; }
  // All that the leaves read, each once.
  const std::vector<Path>& paths() const { return paths_; }

  // The leaf as a condition that selects what it selects, for explanations:
  // "tags.a = 1"; with rows wanted where it is false, "NOT (tags.a = 1)".
  std::string LeafText(const Leaf& leaf) const;

 private:
  Node Compile(const Expr& expr, bool wanted);
  Node CompileLeaf(const Expr& expr, bool wanted);
  Expr WithSlots(const Expr& expr, size_t slot_count, Leaf* leaf);
  int PathNumber(const Path& path);

  std::vector<Path> paths_;
  std::vector<Leaf> leaves_;
  int node_count_ = 0;
  Node root_;
};

// How slot `slot` of `count` is written in a leaf's expression.
Path SlotPath(size_t slot, size_t count);

// The row that a leaf is evaluated in: values by slots.
//
//   SlotDocument slots(leaf.paths.size());
//   slots.Set(0, view);
//   Value value = EvaluateExpr(leaf.expr, slots, &scratch);
//
// Set() costs nothing but a store.  Not thread-safe.
class SlotDocument final : public Document {
 public:
  // Slots are undefined.
  explicit SlotDocument(size_t count);

  // `value` has to live as long as it is read.
  void Set(size_t slot, JsonView value) { slots_[slot] = value; }

  JsonView Get(Root root) const override;
  // REQUIRES: never called; no slot is `properties`.
  Json Full() const override;

 private:
  std::vector<JsonView> slots_;
  // More slots than there are roots: all of them as one object.
  mutable std::string object_;
};

}  // namespace muster

#endif  // ENGINE_QUERY_PLAN_H_
