// PropertyTree: the properties of a shard's twins, as one column per path.
//
// A node of the tree is a path that occurs in some twin of the shard: its
// column has a value for each row, and its children are the paths below.
// Members of an object stand in the children; that there is an object is a
// value of the node itself, so that `{}` is not nothing:
//
//                        row 0: {"fw": {"ring": 2}}   row 1: {"fw": "1.0"}
//   desired
//     fw                 object                       "1.0"
//       ring             2                            -
//
// Paths are known to the shard only: it needs nobody's lock, and a path goes
// when the last twin that has it goes.  A walk over a twin's members (sorted,
// as packed JSON has them) runs beside the node's children (sorted too), so
// that finding the next column is mostly one comparison.
//
// Beside its column a node has stamps: when a row's value was last touched
// (contract 6.6), if that was after the row's base stamp, which the shard
// keeps.
//
// Which nodes a merge patch touches: the section, and every node that the patch
// names and that is there afterwards.  So an update stamps the leaf and its
// ancestors, a removal the ancestors, and an array is one node.
//
// Not thread-safe; const members may run side by side.
#ifndef ENGINE_TWIN_PROPERTY_TREE_H_
#define ENGINE_TWIN_PROPERTY_TREE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/model/json.h"
#include "engine/query/ast.h"
#include "engine/twin/columns/code_array.h"
#include "engine/twin/columns/column.h"
#include "engine/twin/columns/int_column.h"
#include "engine/twin/columns/row_set.h"
#include "engine/twin/stamp.h"

namespace muster {

class PropertyTree {
 public:
  enum Section : uint8_t {
    kTags,
    kDesired,
    kReported,
    kRoots,  // Members beside tags and properties that are kept as given.
  };
  static constexpr int kSectionCount = 4;

  struct Node {
    struct Child {
      absl::string_view key;  // The node's own.
      std::unique_ptr<Node> node;
    };
    struct Stamps {
      IntColumn ticks;
      IntColumn versions;  // Of desired only.
    };

    std::string key;
    size_t key_size = 0;  // As it counts towards a section's size.
    int defined_count = 0;
    Column column;
    std::unique_ptr<Stamps> stamps;
    std::vector<Child> children;  // By key.
  };

  PropertyTree();

  // New rows have nothing.
  void Resize(int rows);

  // Puts the members of an object into a row that has none.  Leaves out what no
  // twin stores: null members of objects (but in kRoots) and members on the top
  // level that begin with '$'.
  void Put(Section section, int row, JsonView object);
  // Puts one member in the place of what the row has there.
  void PutMember(Section section, int row, absl::string_view key,
                 JsonView value);
  // The same for a row that has nothing there.  `*hint` is 0 at first, and for
  // keys in ascending order says where the next is looked for.
  void AddMember(Section section, int row, absl::string_view key,
                 JsonView value, size_t* hint);
  // Takes one member away, if the row has it.
  void ClearMember(Section section, int row, absl::string_view key);
  // Takes the row's members away, and their stamps.
  void Clear(Section section, int row);

  // Merges a patch (contract 6.4) and stamps what it touches.  Returns by how
  // much the section's size grows (contract 6.3).
  int64_t Merge(Section section, int row, JsonView patch, const Stamp& stamp);
  // What Merge() would return.
  int64_t SizeOfMerge(Section section, int row, JsonView patch) const;

  // The same for many rows at once.  An object's own column and those of its
  // leaves are found once, and codes made once.
  //
  // Which of the rows can't be among them, because they have a leaf where the
  // patch has an object, or the other way round: adds them to `*odd`.
  void FindOdd(Section section, RowSpan rows, JsonView patch,
               RowBitmap* odd) const;
  // Merge() for each of the rows: stamped with `ticks` and, in desired, with
  // its own of `versions`; without `stamped` as Put() does it.  Adds what each
  // section grows by to `grown`.  REQUIRES: the patch is an object, and no row
  // is odd; a row that has no members if not `stamped`.
  void MergeRows(Section section, RowSpan rows, JsonView patch, bool stamped,
                 int64_t ticks, absl::Span<const int64_t> versions,
                 absl::Span<int64_t> grown);
  // Adds those of the rows that have no members to `*empty`.
  void FindEmpty(Section section, RowSpan rows,
                 std::vector<uint16_t>* empty) const;

  bool HasMembers(Section section, int row) const;

  // Writes the row's section as an object, members in ascending order, with
  // `$version` among them if it has one.
  void Build(Section section, int row, std::optional<int64_t> version,
             JsonBuilder* out) const;
  // Writes the section's `$metadata`.
  void BuildMetadata(Section section, int row, const Stamp& base,
                     JsonBuilder* out) const;

  // Writes the value of one member of a section, nothing if the row has none.
  void BuildMember(Section section, int row, absl::string_view key,
                   JsonBuilder* out) const;

  // The node below `node` at `steps`, as far as they are names; `*taken` says
  // how many were.  nullptr if no row has such a path.  The node itself for no
  // steps.
  static const Node* Find(const Node& node, absl::Span<const PathStep> steps,
                          size_t* taken);
  static const Node* Find(const Node& node, absl::string_view key);
  const Node& root(Section section) const { return roots_[section]; }
  // The row's stamp at `node`, if it was touched after the base stamp.
  static std::optional<Stamp> StampOf(const Node& node, int row);

  // Nodes, those without any row among them.
  int node_count() const { return node_count_; }
  bool has_empty_nodes() const { return empty_count_ > 0; }
  // Whether writing `object` to a row would need paths that are not there.
  bool MakesNodes(Section section, JsonView object) const {
    return MakesNodes(roots_[section], object);
  }
  // Takes every node without rows out.
  void Prune();
  // Everything as small as it can be: after a load.  O(rows * nodes).
  void Compact();

  // Heap bytes.
  size_t MemoryUsage() const;

 private:
  friend class ShardSnapshot;
  class MetadataWriter;

  static Node* FindChild(const Node& parent, absl::string_view key,
                         size_t* hint);
  // The child, which is made if there is none.
  Node* MakeChild(Node* parent, absl::string_view key, size_t* hint);
  void SetCell(Node* node, int row, uint64_t code);
  // The same for a row that has nothing there, and a value.
  void PutCell(Node* node, int row, JsonView value);
  void Touch(Node* node, int row, const Stamp* stamp, bool with_version);
  void PutMembers(Node* parent, int row, JsonView object, bool keep_nulls,
                  const Stamp* stamp, bool with_version);
  void ClearNode(Node* node, int row);
  void ClearMembers(Node* node, int row);
  template <bool kDry>
  int64_t MergeInto(Node* parent, int row, JsonView patch, const Stamp* stamp,
                    bool with_version);
  // What MergeRows() does to all of its rows.
  struct RowsMerge {
    RowSpan rows;
    bool stamped;
    int64_t ticks;
    absl::Span<const int64_t> versions;  // By index into rows; empty: none.
    bool same_version;                   // All of them.
    absl::Span<int64_t> grown;           // By index into rows.
  };
  void MergeRowsInto(Node* parent, JsonView patch, const RowsMerge& merge);
  void TouchRows(Node* node, const RowsMerge& merge);
  static void FindOddBelow(const Node& parent, RowSpan rows, JsonView patch,
                           RowBitmap* odd);
  // Rows more or less that have a value at the node.
  void CountDefined(Node* node, int more);
  static bool MakesNodes(const Node& parent, JsonView object);
  static int64_t SizeOf(const Node& node, int row);
  // REQUIRES: the row has a value at `node`.
  static void BuildValue(const Node& node, int row, JsonBuilder* out);

  template <typename Function>
  static void ForEach(Node* node, Function fn);
  template <typename Function>
  static void ForEach(const Node& node, Function fn);

  int rows_ = 0;
  int node_count_ = 0;
  int empty_count_ = 0;  // Nodes that no row has a value at.
  Node roots_[kSectionCount];
};

}  // namespace muster

#endif  // ENGINE_TWIN_PROPERTY_TREE_H_
