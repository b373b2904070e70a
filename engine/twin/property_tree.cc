#include "engine/twin/property_tree.h"

#include <algorithm>
#include <utility>

#include "engine/model/check.h"
#include "engine/model/instant.h"
#include "engine/model/twin_patch.h"
#include "engine/twin/columns/short_bytes.h"

namespace muster {
namespace {

constexpr absl::string_view kVersion = "$version";
constexpr absl::string_view kLastUpdated = "$lastUpdated";
constexpr absl::string_view kLastUpdatedVersion = "$lastUpdatedVersion";

// Nodes without rows from which looking for them pays.
constexpr int kPruneMin = 64;

}  // namespace

PropertyTree::PropertyTree() = default;

template <typename Function>
void PropertyTree::ForEach(Node* node, Function fn) {
  fn(*node);
  for (Node::Child& child : node->children) ForEach(child.node.get(), fn);
}

template <typename Function>
void PropertyTree::ForEach(const Node& node, Function fn) {
  fn(node);
  for (const Node::Child& child : node.children) ForEach(*child.node, fn);
}

void PropertyTree::Resize(int rows) {
  rows_ = rows;
  for (Node& root : roots_) {
    ForEach(&root, [rows](Node& node) {
      node.column.Resize(rows);
      if (node.stamps != nullptr) {
        node.stamps->ticks.Resize(rows);
        node.stamps->versions.Resize(rows);
      }
    });
  }
}

// ------------------------------------------------------------------- nodes

// `*hint` is where the child before this one was found: keys that come in
// ascending order are mostly found at the next.
PropertyTree::Node* PropertyTree::FindChild(const Node& parent,
                                            absl::string_view key,
                                            size_t* hint) {
  const std::vector<Node::Child>& children = parent.children;
  for (int i = 0; i < 2 && *hint < children.size(); ++i, ++*hint) {
    if (SameBytes(children[*hint].key, key))
      return children[(*hint)++].node.get();
  }
  const auto at = std::lower_bound(
      children.begin(), children.end(), key,
      [](const Node::Child& c, absl::string_view k) { return c.key < k; });
  *hint = static_cast<size_t>(at - children.begin());
  if (at == children.end() || at->key != key) return nullptr;
  ++*hint;
  return at->node.get();
}

PropertyTree::Node* PropertyTree::MakeChild(Node* parent, absl::string_view key,
                                            size_t* hint) {
  if (Node* const found = FindChild(*parent, key, hint)) return found;
  auto node = std::make_unique<Node>();
  node->key = std::string(key);
  node->key_size = TwinKeySize(key);
  node->column.Resize(rows_);
  Node* const made = node.get();
  // A failed search leaves the hint where the key belongs.
  parent->children.insert(
      parent->children.begin() + static_cast<ptrdiff_t>(*hint),
      Node::Child{made->key, std::move(node)});
  ++*hint;
  ++node_count_;
  ++empty_count_;
  return made;
}

void PropertyTree::SetCell(Node* node, int row, uint64_t code) {
  const bool was = node->column.IsDefined(row);
  const bool is = code != Column::kUndefinedCode;
  if (was != is) CountDefined(node, is ? 1 : -1);
  node->column.SetCode(row, code);
}

void PropertyTree::PutCell(Node* node, int row, JsonView value) {
  if (node->defined_count++ == 0) --empty_count_;
  node->column.Set(row, value);
}

void PropertyTree::CountDefined(Node* node, int more) {
  if (more == 0) return;
  if (node->defined_count == 0) --empty_count_;
  node->defined_count += more;
  if (node->defined_count == 0) ++empty_count_;
}

void PropertyTree::Touch(Node* node, int row, const Stamp* stamp,
                         bool with_version) {
  if (stamp == nullptr) return;
  if (node->stamps == nullptr) {
    node->stamps = std::make_unique<Node::Stamps>();
    node->stamps->ticks.Resize(rows_);
    node->stamps->versions.Resize(rows_);
  }
  node->stamps->ticks.Set(row, stamp->ticks);
  if (with_version) node->stamps->versions.Set(row, stamp->version);
}

std::optional<Stamp> PropertyTree::StampOf(const Node& node, int row) {
  if (node.stamps == nullptr || !node.stamps->ticks.Has(row)) {
    return std::nullopt;
  }
  return Stamp{.ticks = node.stamps->ticks.Get(row),
               .version = node.stamps->versions.GetOr(row, 0)};
}

const PropertyTree::Node* PropertyTree::Find(const Node& node,
                                             absl::string_view key) {
  size_t hint = SIZE_MAX;
  return FindChild(node, key, &hint);
}

const PropertyTree::Node* PropertyTree::Find(const Node& node,
                                             absl::Span<const PathStep> steps,
                                             size_t* taken) {
  const Node* found = &node;
  *taken = 0;
  for (const PathStep& step : steps) {
    if (step.index.has_value()) break;
    found = Find(*found, step.name);
    if (found == nullptr) return nullptr;
    ++*taken;
  }
  return found;
}

// ------------------------------------------------------------------ values

void PropertyTree::PutMembers(Node* parent, int row, JsonView object,
                              bool keep_nulls, const Stamp* stamp,
                              bool with_version) {
  size_t hint = 0;
  for (const JsonView::Member& member : object.members()) {
    if (member.value.is_null() && !keep_nulls) continue;
    Node* const child = MakeChild(parent, member.key, &hint);
    PutCell(child, row, member.value);
    Touch(child, row, stamp, with_version);
    if (member.value.is_object()) {
      PutMembers(child, row, member.value, keep_nulls, stamp, with_version);
    }
  }
}

void PropertyTree::Put(Section section, int row, JsonView object) {
  Node* const root = &roots_[section];
  const bool keep_nulls = section == kRoots;
  size_t hint = 0;
  for (const JsonView::Member& member : object.members()) {
    if (member.value.is_null() && !keep_nulls) continue;
    if (!keep_nulls && member.key[0] == '$') continue;
    Node* const child = MakeChild(root, member.key, &hint);
    PutCell(child, row, member.value);
    if (member.value.is_object()) {
      PutMembers(child, row, member.value, keep_nulls, nullptr, false);
    }
  }
}

void PropertyTree::PutMember(Section section, int row, absl::string_view key,
                             JsonView value) {
  size_t hint = SIZE_MAX;
  Node* const node = MakeChild(&roots_[section], key, &hint);
  ClearNode(node, row);
  SetCell(node, row, node->column.CodeFor(value));
  if (value.is_object()) {
    PutMembers(node, row, value, section == kRoots, nullptr, false);
  }
}

void PropertyTree::AddMember(Section section, int row, absl::string_view key,
                             JsonView value, size_t* hint) {
  Node* const node = MakeChild(&roots_[section], key, hint);
  PutCell(node, row, value);
  if (value.is_object()) {
    PutMembers(node, row, value, section == kRoots, nullptr, false);
  }
}

void PropertyTree::ClearMember(Section section, int row,
                               absl::string_view key) {
  size_t hint = SIZE_MAX;
  if (Node* const node = FindChild(roots_[section], key, &hint)) {
    ClearNode(node, row);
  }
}

void PropertyTree::ClearNode(Node* node, int row) {
  if (!node->column.IsDefined(row)) return;
  if (node->column.IsObject(row)) ClearMembers(node, row);
  SetCell(node, row, Column::kUndefinedCode);
  if (node->stamps != nullptr) {
    node->stamps->ticks.Clear(row);
    node->stamps->versions.Clear(row);
  }
}

void PropertyTree::ClearMembers(Node* node, int row) {
  for (Node::Child& child : node->children) ClearNode(child.node.get(), row);
}

void PropertyTree::Clear(Section section, int row) {
  Node& root = roots_[section];
  ClearMembers(&root, row);
  if (root.stamps != nullptr) {
    root.stamps->ticks.Clear(row);
    root.stamps->versions.Clear(row);
  }
  if (empty_count_ >= std::max(kPruneMin, node_count_ / 2)) Prune();
}

bool PropertyTree::MakesNodes(const Node& parent, JsonView object) {
  size_t hint = 0;
  for (const JsonView::Member& member : object.members()) {
    // Of a whole twin, `$version` and the like are not stored.
    if (member.value.is_null() || member.key[0] == '$') continue;
    const Node* const child = FindChild(parent, member.key, &hint);
    if (child == nullptr || MakesNodes(*child, member.value)) return true;
  }
  return false;
}

// With its name.
int64_t PropertyTree::SizeOf(const Node& node, int row) {
  int64_t size = static_cast<int64_t>(node.key_size);
  if (node.column.IsObject(row)) {
    for (const Node::Child& child : node.children) {
      if (child.node->column.IsDefined(row)) size += SizeOf(*child.node, row);
    }
    return size;
  }
  CellBuffer buffer;
  return size +
         static_cast<int64_t>(TwinValueSize(node.column.Get(row, &buffer)));
}

template <bool kDry>
int64_t PropertyTree::MergeInto(Node* parent, int row, JsonView patch,
                                const Stamp* stamp, bool with_version) {
  int64_t grown = 0;
  size_t hint = 0;
  for (const JsonView::Member& member : patch.members()) {
    Node* child = FindChild(*parent, member.key, &hint);
    const bool was = child != nullptr && child->column.IsDefined(row);
    if (member.value.is_null()) {
      if (!was) continue;
      grown -= SizeOf(*child, row);
      if (!kDry) ClearNode(child, row);
      continue;
    }
    const bool was_object = was && child->column.IsObject(row);
    if (was_object && member.value.is_object()) {
      if (!kDry) Touch(child, row, stamp, with_version);
      grown += MergeInto<kDry>(child, row, member.value, stamp, with_version);
      continue;
    }
    if (was) grown -= SizeOf(*child, row);
    grown += static_cast<int64_t>(
        (child != nullptr ? child->key_size : TwinKeySize(member.key)) +
        TwinValueSize(member.value));
    if (kDry) continue;
    if (child == nullptr) child = MakeChild(parent, member.key, &hint);
    if (was_object) ClearMembers(child, row);
    SetCell(child, row, child->column.CodeFor(member.value));
    Touch(child, row, stamp, with_version);
    if (member.value.is_object()) {
      PutMembers(child, row, member.value, /*keep_nulls=*/false, stamp,
                 with_version);
    }
  }
  return grown;
}

int64_t PropertyTree::Merge(Section section, int row, JsonView patch,
                            const Stamp& stamp) {
  Node* const root = &roots_[section];
  const bool with_version = section == kDesired;
  const bool stamped = section == kDesired || section == kReported;
  const Stamp* const touch = stamped ? &stamp : nullptr;
  Touch(root, row, touch, with_version);
  const int64_t grown = MergeInto<false>(root, row, patch, touch, with_version);
  if (empty_count_ >= std::max(kPruneMin, node_count_ / 2)) Prune();
  return grown;
}

int64_t PropertyTree::SizeOfMerge(Section section, int row,
                                  JsonView patch) const {
  // A dry run writes nothing.
  return const_cast<PropertyTree*>(this)->MergeInto<true>(
      const_cast<Node*>(&roots_[section]), row, patch, nullptr, false);
}

// --------------------------------------------------------------- many rows

void PropertyTree::FindOddBelow(const Node& parent, RowSpan rows,
                                JsonView patch, RowBitmap* odd) {
  size_t hint = 0;
  for (const JsonView::Member& member : patch.members()) {
    if (member.value.is_null()) continue;
    const Node* const child = FindChild(parent, member.key, &hint);
    if (child == nullptr) continue;  // Nobody has anything there.
    const std::optional<uint64_t> object = child->column.object_code();
    const CodeArray& codes = child->column.codes();
    if (!member.value.is_object()) {
      if (!object.has_value()) continue;
      codes.ForEachOf(rows, [&](size_t i, uint64_t code) {
        if (code == *object) odd->Set(rows[i]);
      });
      continue;
    }
    codes.ForEachOf(rows, [&](size_t i, uint64_t code) {
      if (code != Column::kUndefinedCode && code != object) odd->Set(rows[i]);
    });
    FindOddBelow(*child, rows, member.value, odd);
  }
}

void PropertyTree::FindOdd(Section section, RowSpan rows, JsonView patch,
                           RowBitmap* odd) const {
  FindOddBelow(roots_[section], rows, patch, odd);
}

void PropertyTree::FindEmpty(Section section, RowSpan rows,
                             std::vector<uint16_t>* empty) const {
  // Mostly one of the first members is there in all of them.
  constexpr int kTried = 4;
  int tried = 0;
  for (const Node::Child& child : roots_[section].children) {
    if (++tried > kTried) break;
    bool all = true;
    child.node->column.codes().ForEachOf(
        rows, [&](size_t, uint64_t code) { all &= code != 0; });
    if (all) return;
  }
  for (const uint16_t row : rows) {
    if (!HasMembers(section, row)) empty->push_back(row);
  }
}

void PropertyTree::TouchRows(Node* node, const RowsMerge& merge) {
  if (!merge.stamped) return;
  if (node->stamps == nullptr) {
    node->stamps = std::make_unique<Node::Stamps>();
    node->stamps->ticks.Resize(rows_);
    node->stamps->versions.Resize(rows_);
  }
  node->stamps->ticks.SetRows(merge.rows, merge.ticks);
  if (merge.versions.empty()) return;
  if (merge.same_version) {
    node->stamps->versions.SetRows(merge.rows, merge.versions[0]);
    return;
  }
  for (size_t i = 0; i < merge.rows.size(); ++i) {
    node->stamps->versions.Set(merge.rows[i], merge.versions[i]);
  }
}

namespace {

// What the values of a column count for, each looked up once.
class ValueSizes {
 public:
  ValueSizes(const Column& column, size_t row_count) : column_(column) {
    // All numbers count the same, and so do texts of one pattern.
    if (column.kind() == Column::Kind::kDictionary &&
        column.max_code() < row_count) {
      sizes_.assign(column.max_code() + 1, -1);
    }
  }

  int64_t Of(uint64_t code) {
    if (code == last_code_) return last_;
    if (column_.kind() != Column::Kind::kDictionary) {
      if (last_code_ != Column::kUndefinedCode) return last_;
      last_ = Read(code);
    } else if (sizes_.empty()) {
      last_ = Read(code);
    } else {
      int64_t& size = sizes_[code];
      if (size < 0) size = Read(code);
      last_ = size;
    }
    last_code_ = code;
    return last_;
  }

 private:
  int64_t Read(uint64_t code) const {
    CellBuffer buffer;
    return static_cast<int64_t>(TwinValueSize(column_.ValueOf(code, &buffer)));
  }

  const Column& column_;
  std::vector<int64_t> sizes_;  // By code.
  uint64_t last_code_ = Column::kUndefinedCode;
  int64_t last_ = 0;
};

}  // namespace

void PropertyTree::MergeRowsInto(Node* parent, JsonView patch,
                                 const RowsMerge& merge) {
  size_t hint = 0;
  for (const JsonView::Member& member : patch.members()) {
    if (member.value.is_null()) {
      Node* const child = FindChild(*parent, member.key, &hint);
      if (child == nullptr || child->defined_count == 0) continue;
      for (size_t i = 0; i < merge.rows.size(); ++i) {
        const int row = merge.rows[i];
        if (!child->column.IsDefined(row)) continue;
        merge.grown[i] -= SizeOf(*child, row);
        ClearNode(child, row);
      }
      continue;
    }
    Node* const child = MakeChild(parent, member.key, &hint);
    const int64_t key_size = static_cast<int64_t>(child->key_size);
    const CodeArray& codes = child->column.codes();
    int more = 0;
    if (member.value.is_object()) {
      codes.ForEachOf(merge.rows, [&](size_t i, uint64_t code) {
        if (code != Column::kUndefinedCode) return;
        merge.grown[i] += key_size;
        ++more;
      });
      if (more > 0) {
        CountDefined(child, more);
        child->column.SetCode(merge.rows, child->column.CodeFor(member.value));
      }
      TouchRows(child, merge);
      MergeRowsInto(child, member.value, merge);
      continue;
    }
    const int64_t size = static_cast<int64_t>(TwinValueSize(member.value));
    ValueSizes sizes(child->column, merge.rows.size());
    codes.ForEachOf(merge.rows, [&](size_t i, uint64_t code) {
      const bool is_new = code == Column::kUndefinedCode;
      more += is_new;
      merge.grown[i] += size + (is_new ? key_size : -sizes.Of(code));
    });
    CountDefined(child, more);
    child->column.SetCode(merge.rows, child->column.CodeFor(member.value));
    TouchRows(child, merge);
  }
}

void PropertyTree::MergeRows(Section section, RowSpan rows, JsonView patch,
                             bool stamped, int64_t ticks,
                             absl::Span<const int64_t> versions,
                             absl::Span<int64_t> grown) {
  if (rows.empty()) return;
  RowsMerge merge = {
      .rows = rows,
      .stamped = stamped && (section == kDesired || section == kReported),
      .ticks = ticks,
      .versions = section == kDesired ? versions : absl::Span<const int64_t>(),
      .same_version = true,
      .grown = grown};
  for (const int64_t version : merge.versions) {
    merge.same_version = merge.same_version && version == merge.versions[0];
  }
  Node* const root = &roots_[section];
  TouchRows(root, merge);
  MergeRowsInto(root, patch, merge);
  if (empty_count_ >= std::max(kPruneMin, node_count_ / 2)) Prune();
}

bool PropertyTree::HasMembers(Section section, int row) const {
  for (const Node::Child& child : roots_[section].children) {
    if (child.node->column.IsDefined(row)) return true;
  }
  return false;
}

// --------------------------------------------------------------- documents

void PropertyTree::BuildValue(const Node& node, int row, JsonBuilder* out) {
  if (!node.column.IsObject(row)) {
    CellBuffer buffer;
    out->Value(node.column.Get(row, &buffer));
    return;
  }
  out->BeginObject();
  for (const Node::Child& child : node.children) {
    if (!child.node->column.IsDefined(row)) continue;
    out->Key(child.key);
    BuildValue(*child.node, row, out);
  }
  out->EndObject();
}

void PropertyTree::Build(Section section, int row,
                         std::optional<int64_t> version,
                         JsonBuilder* out) const {
  out->BeginObject();
  bool written = !version.has_value();
  const auto write_version = [&] {
    if (written) return;
    out->Key(kVersion);
    out->Int(version.value_or(0));
    written = true;
  };
  for (const Node::Child& child : roots_[section].children) {
    if (!child.node->column.IsDefined(row)) continue;
    if (child.key > kVersion) write_version();
    out->Key(child.key);
    BuildValue(*child.node, row, out);
  }
  write_version();
  out->EndObject();
}

void PropertyTree::BuildMember(Section section, int row, absl::string_view key,
                               JsonBuilder* out) const {
  const Node* const node = Find(roots_[section], key);
  if (node == nullptr || !node->column.IsDefined(row)) return;
  BuildValue(*node, row, out);
}

class PropertyTree::MetadataWriter {
 public:
  MetadataWriter(int row, const Stamp& base, JsonBuilder* out)
      : row_(row), base_(base), out_(out) {}

  // `is_object`: whether the row has an object at the node.
  void Write(const Node& node, bool is_object) {
    out_->BeginObject();
    const Stamp stamp = StampOf(node, row_).value_or(base_);
    bool stamped = false;
    for (const Node::Child& child : node.children) {
      if (!is_object) break;
      const Column& column = child.node->column;
      if (!column.IsDefined(row_)) continue;
      if (!stamped && child.key > kLastUpdated) {
        WriteStamp(stamp);
        stamped = true;
      }
      out_->Key(child.key);
      Write(*child.node, column.IsObject(row_));
    }
    if (!stamped) WriteStamp(stamp);
    out_->EndObject();
  }

 private:
  void WriteStamp(const Stamp& stamp) {
    if (text_.empty() || ticks_ != stamp.ticks) {
      ticks_ = stamp.ticks;
      text_ = FormatInstant(TimeFromTicks(stamp.ticks));
    }
    out_->Key(kLastUpdated);
    out_->String(text_);
    if (stamp.version == 0) return;
    out_->Key(kLastUpdatedVersion);
    out_->Int(stamp.version);
  }

  const int row_;
  const Stamp base_;
  JsonBuilder* const out_;
  // The last instant written: neighbours mostly have the same.
  int64_t ticks_ = 0;
  std::string text_;
};

void PropertyTree::BuildMetadata(Section section, int row, const Stamp& base,
                                 JsonBuilder* out) const {
  MetadataWriter(row, base, out).Write(roots_[section], /*is_object=*/true);
}

// ------------------------------------------------------------------ upkeep

namespace {

// Takes out the children that no row has; true if any is left.
int PruneNode(PropertyTree::Node* node) {
  int pruned = 0;
  auto kept = node->children.begin();
  for (PropertyTree::Node::Child& child : node->children) {
    pruned += PruneNode(child.node.get());
    if (child.node->defined_count == 0 && child.node->children.empty()) {
      ++pruned;
      continue;
    }
    if (&*kept != &child) *kept = std::move(child);
    ++kept;
  }
  node->children.erase(kept, node->children.end());
  return pruned;
}

}  // namespace

void PropertyTree::Prune() {
  for (Node& root : roots_) {
    const int pruned = PruneNode(&root);
    node_count_ -= pruned;
    empty_count_ -= pruned;
  }
  MUSTER_DCHECK(empty_count_ == 0);
}

void PropertyTree::Compact() {
  Prune();
  for (Node& root : roots_) {
    ForEach(&root, [](Node& node) {
      node.column.Compact();
      if (node.stamps != nullptr) {
        node.stamps->ticks.Compact();
        node.stamps->versions.Compact();
      }
      node.children.shrink_to_fit();
    });
  }
}

size_t PropertyTree::MemoryUsage() const {
  size_t bytes = 0;
  for (const Node& root : roots_) {
    ForEach(root, [&bytes](const Node& node) {
      bytes += sizeof(Node) + node.column.MemoryUsage() +
               node.children.capacity() * sizeof(Node::Child);
      if (node.stamps != nullptr) {
        bytes += sizeof(Node::Stamps) + node.stamps->ticks.MemoryUsage() +
                 node.stamps->versions.MemoryUsage();
      }
    });
  }
  return bytes;
}

}  // namespace muster
