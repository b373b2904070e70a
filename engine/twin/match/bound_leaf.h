// BoundLeaf: one leaf of a plan in the form that it takes in the shard at hand.
//
// The table of forms is in matcher.h.  Binding finds the form, without looking
// at rows where it can; Apply() then takes out of a mask of rows those that the
// leaf does not select.
#ifndef ENGINE_TWIN_MATCH_BOUND_LEAF_H_
#define ENGINE_TWIN_MATCH_BOUND_LEAF_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/query/plan.h"
#include "engine/twin/columns/row_set.h"
#include "engine/twin/match/cells.h"
#include "engine/twin/match/code_set.h"
#include "engine/twin/match/leaf_predicate.h"
#include "engine/twin/match/number_program.h"
#include "engine/twin/match/slot.h"

namespace muster {

// Of one thread, re-used for one shard after the other.
class BoundLeaf {
 public:
  enum class Form : uint8_t {
    kNone,     // No row.
    kAll,      // Every row.
    kBits,     // A mask, or its complement.
    kRange,    // Codes in one range.
    kHoles,    // Codes in none of some ranges.
    kSet,      // Codes of 8 or 16 bits in a set.
    kRanges,   // Codes in one of many ranges, row by row.
    kEntries,  // A large dictionary: kRange to kSet if enough rows are
               // undecided.
    kTicks,    // Instants, row by row.
    kNumbers,  // A NumberProgram.
    kOnce,     // The evaluator, once for each combination of values.
    kRows,     // The evaluator, row by row.
  };

  // Keeps a reference to `leaf`.
  explicit BoundLeaf(const Plan::Leaf& leaf);

  // REQUIRES: cells[i] is what FindCells() says of the leaf's i-th path; all
  // that is passed lives until the next call.
  void Bind(const CellSource& source, absl::Span<const Cells* const> cells);

  Form form() const { return form_; }
  // About, in nanoseconds per word of 64 rows.
  double cost() const { return cost_; }
  // The share of rows that it may select, for want of anything better.
  double guess() const { return guess_; }

  // Takes rows out of mask[0] to mask[words - 1], which stand for the shard's
  // words from `first_word` on.  REQUIRES: form() is neither kNone nor kAll;
  // the rows in the mask are in use.
  void Apply(int first_word, int words, uint64_t* mask);

  // For explanations: "dictionary, set of codes, 8 bits".
  std::string FormText() const;
  // Values that the leaf was evaluated for, entries and rows, since
  // construction.
  int64_t values_examined() const { return values_examined_; }

 private:
  struct TickTest {
    // Of instants that are there: what a comparison with `ticks` selects.
    bool less = false, equal = false, greater = false;
    bool none = false;  // Of rows that have no instant.
    int64_t ticks = 0;
    // Instead, for lists: members select by `equal`, others by `less`.
    bool is_list = false;
    std::vector<int64_t> list;
  };

  void BindOne(const Cells& cells);
  void BindColumn(const Cells& cells);
  void BindInstants(const Cells& cells);
  bool MakeTickTest();
  void FindTickCodes(const IntColumn& column);
  void BindValues();
  void BindTwoValues(const uint64_t* words);
  void BindCodes();
  void BindListed(bool by_value);
  void Decide(bool all) { form_ = all ? Form::kAll : Form::kNone; }
  template <typename Code, typename Function>
  void ForEachListed(Function fn) const;
  bool SelectsCombined(uint64_t combined);
  bool SelectsView(JsonView value);
  bool SelectsTicks(int64_t ticks) const;

  absl::string_view Where() const;

  template <typename Code>
  void ApplyCodes(int first_word, int words, uint64_t* mask);
  void ApplyEntries(int first_word, int words, uint64_t* mask);
  void ApplyTicks(int first_word, int words, uint64_t* mask);
  void ApplyOnce(int first_word, int words, uint64_t* mask);
  void ApplyRows(int first_word, int words, uint64_t* mask);

  LeafPredicate test_;
  std::optional<NumberProgram> program_;
  std::vector<Slot> slots_;
  TickTest tick_test_;
  bool has_tick_test_ = false;

  // In the shard at hand.
  const CellSource* source_ = nullptr;
  Form form_ = Form::kNone;
  double cost_ = 0;
  double guess_ = 0.5;
  const CodeArray* codes_ = nullptr;
  CodeSet set_;
  absl::InlinedVector<CodeRange, 8> holes_;
  // kBits.
  const uint64_t* words_ = nullptr;
  uint64_t flip_ = 0;
  std::unique_ptr<RowBitmap> own_words_;
  // kSet.
  std::vector<uint64_t> members_;
  // kEntries and kOnce: 0 unknown, 1 not selected, 2 selected; by index.
  std::vector<uint8_t> known_;
  size_t known_count_ = 0;
  bool known_is_clear_ = false;
  // kRows.
  std::vector<uint64_t> indexes_;
  // For explanations.
  Cells::Kind cells_kind_ = Cells::Kind::kUndefined;
  Column::Kind column_kind_ = Column::Kind::kDictionary;
  int64_t values_examined_ = 0;
};

}  // namespace muster

#endif  // ENGINE_TWIN_MATCH_BOUND_LEAF_H_
