// Cells: what a path means in one shard: where its value stands for each row.
//
// Whoever matches conditions asks the shard for the cells of each path that the
// condition reads, once per shard, and then works on codes: Shard::FindCells().
//
//   path                                 kind        values
//   tags.region (no twin here has it)    kUndefined  undefined in every row
//   tags, properties.desired             kConstant   {} in every row
//   tags.region, statusReason            kColumn     the column's
//   tags.list[0].name                    kColumn     of tags.list; and then the
//                                                    steps in `rest`
//   status, connectionState              kFlags      one of two by a bit
//   version, properties.desired.$version kInts       integers
//   lastActivityTime, ...$lastUpdated    kInstants   texts of instants
//   etag, deviceId, properties.x         kComputed   whatever At() says
//
// Rows that are not in use hold no meaning: mask them out.
#ifndef ENGINE_TWIN_MATCH_CELLS_H_
#define ENGINE_TWIN_MATCH_CELLS_H_

#include <cstdint>
#include <string>

#include "absl/types/span.h"
#include "engine/model/json.h"
#include "engine/query/ast.h"
#include "engine/twin/columns/column.h"
#include "engine/twin/columns/int_column.h"
#include "engine/twin/columns/row_set.h"

namespace muster {

// Valid as long as the shard's lock is held, and the path that was asked for.
struct Cells {
  enum class Kind : uint8_t {
    kUndefined,
    kConstant,
    kColumn,
    kFlags,
    kInts,
    kInstants,
    kComputed,
  };
  Kind kind = Kind::kUndefined;

  // kConstant.
  JsonView constant;
  // kColumn.
  const Column* column = nullptr;
  // kColumn: the value is found in the column's by these steps.  Mostly none.
  absl::Span<const PathStep> rest;
  // kFlags: a bit per row, and what it stands for.
  const RowBitmap* flags = nullptr;
  JsonView if_clear, if_set;
  // kInts: a row without an integer is undefined.  kInstants: what TicksAt()
  // says, if one column holds that for all rows; else nullptr.
  const IntColumn* ints = nullptr;
  // kInstants, kComputed: for CellSource::ValueAt() and TicksAt().
  const Path* path = nullptr;
};

// What a matcher sees of a shard.  All of it under the shard's lock.
class CellSource {
 public:
  static constexpr int64_t kNoTicks = INT64_MIN;

  virtual ~CellSource() = default;

  // Rows in use, and a number that they are all below.
  virtual const RowBitmap& rows_in_use() const = 0;
  virtual int row_count() const = 0;

  // Costs a hash lookup per step of the path.
  virtual Cells FindCells(const Path& path) const = 0;

  // REQUIRES for both: the row is in use.
  // kInstants: 100 ns since 1970; kNoTicks where the row has nothing.
  virtual int64_t TicksAt(const Cells& cells, int row) const = 0;
  // kInstants, kComputed: the row's value, valid until `*buffer` is touched.
  virtual JsonView ValueAt(const Cells& cells, int row,
                           std::string* buffer) const = 0;
};

}  // namespace muster

#endif  // ENGINE_TWIN_MATCH_CELLS_H_
