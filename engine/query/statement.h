// Statement: a SELECT over twins or job records, and what makes its rows.
//
//   SELECT [TOP n] * | members | aggregates
//   FROM devices | devices.jobs [WHERE condition] [GROUP BY member]
//
// Whoever holds the rows runs the statement: walks them in order, keeps those
// that Matches() says, and hands each to ProjectRow() or to an Aggregator.
//
//   is_select_all()   rows are given as they are; item type Twin or DeviceJob
//   is_aggregate()    rows go into an Aggregator; item type Raw
//   neither           each row gives ProjectRow(); item type Raw
#ifndef ENGINE_QUERY_STATEMENT_H_
#define ENGINE_QUERY_STATEMENT_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/model/json.h"
#include "engine/query/ast.h"
#include "engine/query/condition.h"
#include "engine/query/document.h"
#include "engine/query/exact_sum.h"
#include "engine/query/options.h"

namespace muster {

// Groups that one statement may make, groups times columns, and bytes of the
// groups' values taken together.  An aggregator at these limits holds 50 MB,
// and 150 MB more if every column is a sum of fractions.
inline constexpr size_t kQueryGroupsMax = 65'536;
inline constexpr size_t kQueryGroupCellsMax = 4 * kQueryGroupsMax;
inline constexpr size_t kQueryGroupBytesMax = size_t{16} * 1024 * 1024;

// A parsed statement.  Immutable and thread-safe; copies share the parsed form.
class Statement {
 public:
  // ArgumentInvalid (400004) with "line:column: ..." as Condition::Parse(), and
  // for what contract 5.2 and 5.12 rule out: another collection, module twins
  // (not supported), anything but `SELECT *` without GROUP BY on devices.jobs,
  // members and aggregates side by side without GROUP BY, a member that is not
  // the one of GROUP BY, two columns of one name.
  static absl::StatusOr<Statement> Parse(absl::string_view text,
                                         const QueryOptions& options = {});

  const std::string& text() const { return rep_->text; }
  Collection collection() const { return rep_->collection; }
  // Rows to give at most, over all pages together; nullopt without TOP.
  std::optional<int64_t> top() const { return rep_->top; }
  // nullopt without WHERE.
  const std::optional<Condition>& condition() const { return rep_->condition; }
  bool is_select_all() const { return rep_->columns.empty(); }
  // Whether it has aggregates or GROUP BY: its rows come from an Aggregator.
  bool is_aggregate() const { return rep_->is_aggregate; }
  // Whether it only counts rows: no aggregate but COUNT, no GROUP BY.
  bool is_count() const;
  // "Twin", "DeviceJob" or "Raw": the hub's name for what the rows are.
  absl::string_view item_type() const;

  // Equal for equal texts, stable over processes and versions: what a page
  // token binds.
  uint64_t hash() const { return rep_->hash; }

  // Whether the row is selected; true without WHERE.
  bool Matches(const Document& document) const;

  // The columns of one row as a JSON object, in the order of the select list;
  // a member that the row lacks is left out.  Does not ask Matches().
  // REQUIRES: !is_select_all() and !is_aggregate().
  std::string ProjectRow(const Document& document) const;

 private:
  friend class Aggregator;

  struct Column {
    std::optional<AggregateFunction> aggregate;
    Path path;  // Without meaning for COUNT.
    std::string name;
  };
  struct Rep {
    std::string text;
    uint64_t hash = 0;
    Collection collection = Collection::kDevices;
    std::optional<int64_t> top;
    std::vector<Column> columns;  // Empty: SELECT *.
    std::optional<Condition> condition;
    std::optional<Path> group_by;
    bool is_aggregate = false;
  };
  explicit Statement(std::shared_ptr<const Rep> rep) : rep_(std::move(rep)) {}

  std::shared_ptr<const Rep> rep_;
};

// Folds rows into the rows of an aggregate statement.  What it answers depends
// on which rows were added, not on their order nor on how they were spread over
// aggregators that were merged: sums are exact (exact_sum.h), and rounded once.
//
// Not thread-safe: give each shard its own and merge them.
class Aggregator {
 public:
  // REQUIRES: statement.is_aggregate().
  explicit Aggregator(Statement statement);

  // Adds a row.  Does not ask Matches().
  //   ArgumentInvalid (400004)  more groups than kQueryGroupsMax,
  //                             kQueryGroupCellsMax and kQueryGroupBytesMax
  //                             allow; the aggregator is of no further use.
  absl::Status Add(const Document& document);

  // Adds that many rows, whatever is in them.  REQUIRES: the statement
  // is_count().
  void AddCount(int64_t rows);

  // Adds what `other` holds.  Errors as Add().
  // REQUIRES: `other` was made for a statement with the same text.
  absl::Status Merge(const Aggregator& other);

  // The rows as JSON objects, at most top() of them: one row without GROUP BY,
  // even if nothing was added; otherwise one for each group, in ascending order
  // of the group's value: missing, null, booleans, numbers, strings.  Rows
  // whose group value is missing, an array or an object form the group
  // "missing".
  std::vector<std::string> Rows() const;

 private:
  // A group's value; kUndefined for the group "missing".
  struct GroupKey {
    JsonKind kind = JsonKind::kUndefined;
    double number = 0;  // 0 or 1 for a boolean.
    std::string text;

    // By kind, then value; strings by code point.
    bool operator<(const GroupKey& other) const;
  };
  struct Cell {
    int64_t count = 0;  // Of rows for COUNT, of numbers for the others.
    double min = 0;
    double max = 0;
    ExactSum sum;
  };
  using Group = std::vector<Cell>;  // One for each column.

  // The group `key`, made if it is new; nullptr beyond the limits.
  Group* FindOrAdd(GroupKey key);
  static absl::Status TooManyGroups();

  static void WriteCell(AggregateFunction function, absl::string_view name,
                        const Cell& cell, JsonWriter* writer);
  static void WriteGroupKey(const GroupKey& key, absl::string_view name,
                            JsonWriter* writer);

  Statement statement_;
  std::map<GroupKey, Group> groups_;
  size_t group_bytes_ = 0;
};

}  // namespace muster

#endif  // ENGINE_QUERY_STATEMENT_H_
