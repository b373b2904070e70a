// Slot: the values at one path, row by row, for leaves that no set of codes
// answers.
//
// Values are read in two steps, so that what is known of a value needs to be
// found out once only: rows give indexes, 64 at a time, and indexes values.
//
//   cells                       indexes
//   a column's, integers        codes
//   flags; two codes            0, 1
//   undefined, a constant       0
//   instants, computed          row numbers
#ifndef ENGINE_TWIN_MATCH_SLOT_H_
#define ENGINE_TWIN_MATCH_SLOT_H_

#include <cstdint>
#include <string>

#include "engine/model/json.h"
#include "engine/twin/columns/column.h"
#include "engine/twin/match/cells.h"

namespace muster {

// Of one thread, re-used for one shard after the other.
class Slot {
 public:
  // Values are not shared between rows, or by too many to have a number.
  static constexpr uint64_t kUnbounded = UINT64_MAX;

  // REQUIRES: both live until the next call.
  void Bind(const CellSource& source, const Cells& cells);

  // Indexes are below it; kUnbounded if no good limit is known.
  uint64_t index_count() const { return index_count_; }

  // Writes the indexes of rows 64 * word to 64 * word + 63.  REQUIRES: some of
  // them are in use.
  void Load(int word, uint64_t* indexes) const;

  // What an index stands for.  The view is valid until the next call.
  // REQUIRES: it came from Load(), of a row in use; or index_count() is known.
  JsonView ValueOf(uint64_t index);

  const Cells& cells() const { return cells_; }
  // The codes that indexes are, or tell apart; nullptr for other cells.
  const CodeArray* codes() const { return codes_; }

 private:
  JsonView ValueOfCode(uint64_t code);

  const CellSource* source_ = nullptr;
  Cells cells_;
  const CodeArray* codes_ = nullptr;
  bool is_short_ = false;  // Has fewer rows than the shard.
  uint64_t index_count_ = 1;
  CellBuffer buffer_;
  std::string text_;
};

}  // namespace muster

#endif  // ENGINE_TWIN_MATCH_SLOT_H_
