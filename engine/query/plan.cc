#include "engine/query/plan.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/model/check.h"
#include "engine/query/evaluator.h"
#include "engine/query/value.h"

namespace muster {
namespace {

// Slots stand at roots, but for two that evaluators treat in a way of their
// own.
constexpr size_t kSlotRoots = kRootCount - 2;
static_assert(Root::kNone == static_cast<Root>(0));

Root SlotRoot(size_t slot) {
  const size_t root = slot + 1;
  return static_cast<Root>(
      root < static_cast<size_t>(Root::kProperties) ? root : root + 1);
}

size_t SlotOfRoot(Root root) {
  MUSTER_DCHECK(root != Root::kNone && root != Root::kProperties);
  const size_t number = static_cast<size_t>(root);
  return number < static_cast<size_t>(Root::kProperties) ? number - 1
                                                         : number - 2;
}

// Where there are too many slots for roots they are the members of one.
std::string SlotKey(size_t slot) { return absl::StrFormat("%05d", slot); }

// Calls fn(path) for every path, in the order of the text.
template <typename Function>
void ForEachPath(const Expr& expr, Function& fn) {
  if (const Path* path = expr.As<Path>()) fn(*path);
  for (const Expr& operand : expr.operands) ForEachPath(operand, fn);
}

}  // namespace

Path SlotPath(size_t slot, size_t count) {
  MUSTER_DCHECK(slot < count);
  Path path;
  if (count <= kSlotRoots) {
    path.root = SlotRoot(slot);
  } else {
    path.root = Root::kTags;
    path.steps.push_back({.index = std::nullopt, .name = SlotKey(slot)});
  }
  return path;
}

SlotDocument::SlotDocument(size_t count) : slots_(count) {}

JsonView SlotDocument::Get(Root root) const {
  if (slots_.size() <= kSlotRoots) {
    const size_t slot = SlotOfRoot(root);
    return slot < slots_.size() ? slots_[slot] : JsonView();
  }
  MUSTER_CHECK(root == Root::kTags);
  // Made again for every path of such a leaf, of which there are hardly any: it
  // reads more than two dozen paths outside of AND, OR and NOT.  Views of what
  // was made before stay valid, because the bytes come out the same.
  std::string object;
  JsonBuilder builder(&object);
  builder.BeginObject();
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].is_undefined()) continue;
    builder.Key(SlotKey(i));
    builder.Value(slots_[i]);
  }
  builder.EndObject();
  if (object != object_) object_ = std::move(object);
  return JsonView::FromEncoded(object_.data());
}

Json SlotDocument::Full() const {
  MUSTER_CHECK(false && "a slot is no document");
}

Plan::Plan(const Condition& condition) {
  if (!condition.matches_all()) {
    root_ = Compile(*condition.expr(), /*wanted=*/true);
  }
  // Numbered at last, when it is known which are left.
  std::vector<Node*> nodes = {&root_};
  while (!nodes.empty()) {
    Node* const node = nodes.back();
    nodes.pop_back();
    node->id = node_count_++;
    for (Node& operand : node->operands) nodes.push_back(&operand);
  }
}

Plan::Node Plan::Compile(const Expr& expr, bool wanted) {
  if (expr.As<Not>()) return Compile(expr.operands[0], !wanted);
  const bool is_and = expr.As<And>() != nullptr;
  if (!is_and && expr.As<Or>() == nullptr) return CompileLeaf(expr, wanted);

  Node node;
  node.kind = is_and == wanted ? Node::Kind::kAnd : Node::Kind::kOr;
  // What leaves the others to decide, and what decides alone.
  const bool intersects = node.kind == Node::Kind::kAnd;
  const Node::Kind neutral = intersects ? Node::Kind::kAll : Node::Kind::kNone;
  const Node::Kind deciding = intersects ? Node::Kind::kNone : Node::Kind::kAll;
  for (const Expr& operand : expr.operands) {
    Node compiled = Compile(operand, wanted);
    if (compiled.kind == neutral) continue;
    if (compiled.kind == deciding) {
      Node decided;
      decided.kind = deciding;
      return decided;
    }
    if (compiled.kind == node.kind) {
      for (Node& inner : compiled.operands) {
        node.operands.push_back(std::move(inner));
      }
    } else {
      node.operands.push_back(std::move(compiled));
    }
  }
  if (node.operands.empty()) node.kind = neutral;
  if (node.operands.size() == 1) {
    // Not in one step: it would be moved from itself.
    Node only = std::move(node.operands[0]);
    return only;
  }
  return node;
}

Plan::Node Plan::CompileLeaf(const Expr& expr, bool wanted) {
  Node node;
  Leaf leaf;
  leaf.wanted = wanted;
  auto note = [&](const Path& path) {
    // Undefined whatever the row: not worth a place.
    if (path.root == Root::kNone) return;
    const int number = PathNumber(path);
    if (std::find(leaf.paths.begin(), leaf.paths.end(), number) ==
        leaf.paths.end()) {
      leaf.paths.push_back(number);
    }
  };
  ForEachPath(expr, note);
  if (leaf.paths.empty()) {
    Scratch scratch;
    const Value value = EvaluateExpr(expr, SlotDocument(0), &scratch);
    node.kind = value.is_bool() && value.bool_value() == wanted
                    ? Node::Kind::kAll
                    : Node::Kind::kNone;
    return node;
  }
  leaf.expr = WithSlots(expr, leaf.paths.size(), &leaf);
  node.kind = Node::Kind::kLeaf;
  for (size_t i = 0; i < leaves_.size(); ++i) {
    if (leaves_[i].wanted == leaf.wanted && leaves_[i].paths == leaf.paths &&
        leaves_[i].expr == leaf.expr) {
      node.leaf = static_cast<int>(i);
      return node;
    }
  }
  node.leaf = static_cast<int>(leaves_.size());
  leaves_.push_back(std::move(leaf));
  return node;
}

Expr Plan::WithSlots(const Expr& expr, size_t slot_count, Leaf* leaf) {
  Expr copy;
  copy.position = expr.position;
  const Path* path = expr.As<Path>();
  if (path != nullptr && path->root != Root::kNone) {
    const auto at =
        std::find(leaf->paths.begin(), leaf->paths.end(), PathNumber(*path));
    copy.node =
        SlotPath(static_cast<size_t>(at - leaf->paths.begin()), slot_count);
    return copy;
  }
  copy.node = expr.node;
  for (const Expr& operand : expr.operands) {
    copy.operands.push_back(WithSlots(operand, slot_count, leaf));
  }
  return copy;
}

int Plan::PathNumber(const Path& path) {
  const auto at = std::find(paths_.begin(), paths_.end(), path);
  const int number = static_cast<int>(at - paths_.begin());
  if (at == paths_.end()) paths_.push_back(path);
  return number;
}

std::string Plan::LeafText(const Leaf& leaf) const {
  const auto with_paths = [&](const auto& self, const Expr& expr) -> Expr {
    Expr copy;
    copy.node = expr.node;
    if (Path* path = std::get_if<Path>(&copy.node)) {
      for (size_t i = 0; i < leaf.paths.size(); ++i) {
        if (*path != SlotPath(i, leaf.paths.size())) continue;
        copy.node = paths_[static_cast<size_t>(leaf.paths[i])];
        break;
      }
      return copy;
    }
    for (const Expr& operand : expr.operands) {
      copy.operands.push_back(self(self, operand));
    }
    return copy;
  };
  const std::string text = ExprText(with_paths(with_paths, leaf.expr));
  return leaf.wanted ? text : absl::StrCat("NOT (", text, ")");
}

}  // namespace muster
