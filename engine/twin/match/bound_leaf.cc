#include "engine/twin/match/bound_leaf.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/model/check.h"
#include "engine/model/instant.h"
#include "engine/query/evaluator.h"
#include "engine/twin/columns/kernels.h"
#include "engine/twin/stamp.h"

namespace muster {
namespace {

using ArrayForm = CodeArray::Form;

// Dictionaries of so many entries are walked without asking whether it pays.
constexpr uint64_t kWalkAlways = 256;
// Combinations of values for which a table of answers is kept.
constexpr uint64_t kKnownMax = 1 << 16;

// Measured, in nanoseconds per 64 rows or per value.
constexpr double kBitsCost = 0.3;
constexpr double kRangeCost8 = 0.7;
constexpr double kSet8Cost = 1;
constexpr double kSet16Cost = 31;
constexpr double kRangesCost = 64 * 5;
constexpr double kOnceCost = 64 * 3;
constexpr double kTicksCost = 64 * 8;
constexpr double kStepCost = 64;
constexpr double kRowCost = 64 * 100;
constexpr double kValueCost = 20;

// Passes over the codes, one per hole, that are cheaper than a set.
constexpr size_t HolesMax(ArrayForm form) {
  return form == ArrayForm::k8 ? 1 : form == ArrayForm::k16 ? 8 : 16;
}

uint64_t LargestOf(ArrayForm form) {
  return form == ArrayForm::k8    ? 0xff
         : form == ArrayForm::k16 ? 0xffff
         : form == ArrayForm::k32 ? 0xffff'ffff
                                  : UINT64_MAX;
}

// Calls fn(i, &word) for every word that is not 0.
template <typename Function>
void ForEachWord(int words, uint64_t* mask, Function fn) {
  for (int i = 0; i < words; ++i) {
    if (mask[i] != 0) fn(i, &mask[i]);
  }
}

// Takes out of the word the bits for which test(bit) is false.
template <typename Test>
void KeepBits(uint64_t* word, Test test) {
  for (uint64_t left = *word; left != 0; left &= left - 1) {
    const int bit = std::countr_zero(left);
    if (!test(bit)) *word &= ~(uint64_t{1} << bit);
  }
}

}  // namespace

BoundLeaf::BoundLeaf(const Plan::Leaf& leaf)
    : test_(leaf),
      program_(NumberProgram::Compile(leaf)),
      slots_(leaf.paths.size()) {
  // What a set of codes can answer needs no arithmetic.
  if (test_.one_path()) {
    has_tick_test_ = MakeTickTest();
    if (test_.shape() != LeafPredicate::Shape::kOther) program_.reset();
  }
}

void BoundLeaf::Bind(const CellSource& source,
                     absl::Span<const Cells* const> cells) {
  MUSTER_DCHECK(cells.size() == slots_.size());
  source_ = &source;
  codes_ = nullptr;
  guess_ = 0.5;
  if (test_.one_path()) {
    BindOne(*cells[0]);
    return;
  }
  for (size_t i = 0; i < slots_.size(); ++i) slots_[i].Bind(source, *cells[i]);
  BindValues();
}

void BoundLeaf::BindOne(const Cells& cells) {
  cells_kind_ = cells.kind;
  switch (cells.kind) {
    case Cells::Kind::kUndefined:
      Decide(test_.OfKind(JsonKind::kUndefined));
      return;
    case Cells::Kind::kConstant:
      Decide(SelectsView(cells.constant));
      return;
    case Cells::Kind::kColumn:
      BindColumn(cells);
      return;
    case Cells::Kind::kFlags:
      slots_[0].Bind(*source_, cells);
      BindTwoValues(cells.flags->words.data());
      return;
    case Cells::Kind::kInts:
      codes_ = &cells.ints->codes();
      slots_[0].Bind(*source_, cells);
      if (slots_[0].index_count() <= 3) {
        BindTwoValues(codes_->words());
      } else if (OrderedCodes(*cells.ints, &test_, &set_)) {
        BindCodes();
      } else {
        BindValues();
      }
      return;
    case Cells::Kind::kInstants:
      BindInstants(cells);
      return;
    case Cells::Kind::kComputed: {
      // Every twin has these two, and they are strings: IS_DEFINED(deviceId) is
      // how old conditions say "all".
      const Path& path = *cells.path;
      if (path.steps.empty() &&
          (path.root == Root::kDeviceId || path.root == Root::kEtag) &&
          !test_.IsOpen(JsonKind::kString)) {
        Decide(test_.OfKind(JsonKind::kString));
        return;
      }
      slots_[0].Bind(*source_, cells);
      BindValues();
      return;
    }
  }
}

void BoundLeaf::BindColumn(const Cells& cells) {
  const Column& column = *cells.column;
  column_kind_ = column.kind();
  codes_ = &column.codes();
  if (column.kind() != Column::Kind::kDictionary && !cells.rest.empty()) {
    // Nothing is below a number or a string.
    Decide(test_.OfKind(JsonKind::kUndefined));
    return;
  }
  if (codes_->form() == ArrayForm::kConstant ||
      codes_->form() == ArrayForm::kBits) {
    slots_[0].Bind(*source_, cells);
    BindTwoValues(codes_->words());
    return;
  }
  if (column.kind() != Column::Kind::kDictionary) {
    if (OrderedCodes(column, &test_, &set_)) {
      BindCodes();
    } else {
      slots_[0].Bind(*source_, cells);
      BindValues();
    }
    return;
  }
  if (cells.rest.empty() && LookedUpCodes(column, test_, &set_)) {
    if (test_.members() == LeafPredicate::Members::kListed) guess_ = 0.05;
    if (test_.members() == LeafPredicate::Members::kOthers) guess_ = 0.95;
    BindCodes();
    return;
  }
  slots_[0].Bind(*source_, cells);
  const uint64_t entries = slots_[0].index_count();
  if (codes_->form() == ArrayForm::kSparse &&
      entries > static_cast<uint64_t>(codes_->sparse_count())) {
    BindListed(/*by_value=*/true);
    return;
  }
  if (entries <= kWalkAlways || codes_->form() == ArrayForm::kSparse) {
    WalkedCodes(column, cells.rest, &test_, &set_);
    values_examined_ += static_cast<int64_t>(entries);
    BindCodes();
    return;
  }
  form_ = Form::kEntries;
  cost_ = kSet16Cost +
          static_cast<double>(entries) * kValueCost / RowBitmap::kWords;
  known_count_ = static_cast<size_t>(entries);
  known_is_clear_ = false;
}

void BoundLeaf::BindTwoValues(const uint64_t* words) {
  Slot& slot = slots_[0];
  const bool if_clear = SelectsView(slot.ValueOf(0));
  // A constant's rows, or those behind a short column's end.
  const bool has_bits =
      slot.codes() == nullptr || slot.codes()->form() == ArrayForm::kBits;
  const uint64_t known = has_bits ? 2 : 1;
  const bool if_set = has_bits ? SelectsView(slot.ValueOf(1)) : if_clear;
  values_examined_ += has_bits ? 2 : 1;
  const bool is_short = slot.index_count() > known;
  if (is_short) {
    // Rows behind the end are undefined: not what their bits say.
    if (own_words_ == nullptr) own_words_ = std::make_unique<RowBitmap>();
    const bool behind = test_.OfKind(JsonKind::kUndefined);
    for (int row = 0; row < source_->row_count(); ++row) {
      const bool selects = row >= codes_->size() ? behind
                           : has_bits && (words[row / 64] >> row % 64 & 1)
                               ? if_set
                               : if_clear;
      if (selects) {
        own_words_->Set(row);
      } else {
        own_words_->Clear(row);
      }
    }
    form_ = Form::kBits;
    cost_ = kBitsCost;
    words_ = own_words_->words.data();
    flip_ = 0;
    return;
  }
  if (if_clear == if_set) {
    Decide(if_set);
    return;
  }
  form_ = Form::kBits;
  cost_ = kBitsCost;
  words_ = words;
  flip_ = if_set ? 0 : ~uint64_t{0};
}

// The rows whose codes are in set_.
void BoundLeaf::BindCodes() {
  const ArrayForm form = codes_->form();
  const absl::Span<const CodeRange> ranges = set_.ranges();
  if (ranges.empty()) {
    Decide(false);
    return;
  }
  if (form == ArrayForm::kSparse) {
    BindListed(/*by_value=*/false);
    return;
  }
  MUSTER_DCHECK(form >= ArrayForm::k8);
  const uint64_t largest = LargestOf(form);
  // What is not in the set, as far as there is room for it.
  holes_.clear();
  uint64_t next = 0;
  bool is_open = true;  // Codes from `next` on are undecided.
  size_t count = 0;
  for (const CodeRange& range : ranges) {
    if (range.first > largest) break;
    ++count;
    if (range.first > next) holes_.push_back({next, range.first - 1});
    is_open = range.last < largest;
    if (!is_open) break;
    next = range.last + 1;
  }
  if (is_open) holes_.push_back({next, largest});
  const double pass =
      kRangeCost8 * static_cast<double>(CodeArray::WidthOf(form));
  if (count == 0) {
    Decide(false);
  } else if (holes_.empty()) {
    Decide(true);
  } else if (count == 1) {
    form_ = Form::kRange;
    cost_ = pass;
  } else if (holes_.size() <= HolesMax(form)) {
    form_ = Form::kHoles;
    cost_ = pass * static_cast<double>(holes_.size());
  } else if (form == ArrayForm::k8 || form == ArrayForm::k16) {
    form_ = Form::kSet;
    cost_ = form == ArrayForm::k8 ? kSet8Cost : kSet16Cost;
    members_.assign((largest + 1) / 64, 0);
    for (const CodeRange& range : ranges) {
      const uint64_t last = std::min(range.last, largest);
      for (uint64_t code = range.first; code <= last; ++code) {
        members_[code / 64] |= uint64_t{1} << code % 64;
      }
    }
  } else {
    form_ = Form::kRanges;
    cost_ = kRangesCost;
  }
}

// A mask for an array that lists some rows, and has 0 for the others: by set_,
// or by asking for each row.
void BoundLeaf::BindListed(bool by_value) {
  if (own_words_ == nullptr) own_words_ = std::make_unique<RowBitmap>();
  RowBitmap& mask = *own_words_;
  const bool of_others = test_.OfKind(JsonKind::kUndefined);
  mask.words.fill(0);
  const uint16_t* const rows = codes_->sparse_rows();
  const int count = codes_->sparse_count();
  // First the rows that differ from all others; then those are the rest.
  const auto differ = [&](int i, bool selects) {
    const int row = rows[i];
    mask.words[row >> 6] |= uint64_t{selects != of_others} << (row & 63);
  };
  if (by_value) {
    values_examined_ += count;
    for (int i = 0; i < count; ++i) {
      differ(i, SelectsView(slots_[0].ValueOf(codes_->sparse_code(i))));
    }
  } else {
    switch (codes_->sparse_form()) {
      case ArrayForm::k8:
        ForEachListed<uint8_t>(differ);
        break;
      case ArrayForm::k16:
        ForEachListed<uint16_t>(differ);
        break;
      case ArrayForm::k32:
        ForEachListed<uint32_t>(differ);
        break;
      default:
        ForEachListed<uint64_t>(differ);
    }
  }
  form_ = Form::kBits;
  cost_ = kBitsCost;
  guess_ = of_others ? 0.95 : 0.05;
  words_ = mask.words.data();
  flip_ = of_others ? ~uint64_t{0} : 0;
}

// Calls fn(i, whether the code is in set_) for each row that is listed.
template <typename Code, typename Function>
void BoundLeaf::ForEachListed(Function fn) const {
  const Code* const codes = codes_->As<Code>();
  const int count = codes_->sparse_count();
  if (set_.ranges().size() == 1) {
    const CodeRange range = set_.ranges()[0];
    for (int i = 0; i < count; ++i) {
      fn(i, codes[i] - range.first <= range.last - range.first);
    }
  } else {
    for (int i = 0; i < count; ++i) fn(i, set_.Contains(codes[i]));
  }
}

void BoundLeaf::BindInstants(const Cells& cells) {
  slots_[0].Bind(*source_, cells);
  if (!has_tick_test_) {
    BindValues();
    return;
  }
  form_ = Form::kTicks;
  cost_ = kTicksCost;
  if (cells.ints == nullptr) return;
  codes_ = &cells.ints->codes();
  const ArrayForm form = codes_->form();
  if (form != ArrayForm::kConstant && form != ArrayForm::kBits) {
    FindTickCodes(*cells.ints);
    BindCodes();
    return;
  }
  if (codes_->size() < source_->row_count()) return;  // Hardly ever.
  const auto selects = [&](uint64_t code) {
    return SelectsTicks(code < IntColumn::kFirst ? CellSource::kNoTicks
                                                 : cells.ints->ValueOf(code));
  };
  const bool if_clear = selects(codes_->low());
  if (form == ArrayForm::kConstant || selects(codes_->high()) == if_clear) {
    Decide(if_clear);
    return;
  }
  form_ = Form::kBits;
  cost_ = kBitsCost;
  words_ = codes_->words();
  flip_ = if_clear ? ~uint64_t{0} : 0;
}

// The codes of instants that satisfy tick_test_.
void BoundLeaf::FindTickCodes(const IntColumn& column) {
  set_.Clear();
  const auto append = [this](uint64_t first, uint64_t end) {
    if (first < end) set_.Append(first, end - 1);
  };
  if (tick_test_.none) set_.Append(0, 0);
  // [first, second): the codes that stand for these ticks.
  const auto codes_of = [&](int64_t ticks) -> std::pair<uint64_t, uint64_t> {
    if (ticks < column.base()) return {IntColumn::kFirst, IntColumn::kFirst};
    const uint64_t distance =
        static_cast<uint64_t>(ticks) - static_cast<uint64_t>(column.base());
    return {distance + IntColumn::kFirst, distance + IntColumn::kFirst + 1};
  };
  uint64_t next = IntColumn::kFirst;
  if (tick_test_.is_list) {
    for (const int64_t ticks : tick_test_.list) {
      const auto [first, end] = codes_of(ticks);
      if (end <= next) continue;  // Below all codes, or for the second time.
      if (tick_test_.less) append(next, first);
      if (tick_test_.equal) append(first, end);
      next = end;
    }
    if (tick_test_.less) append(next, UINT64_MAX);
    return;
  }
  const auto [first, end] = codes_of(tick_test_.ticks);
  if (tick_test_.less) append(next, first);
  if (tick_test_.equal) append(first, end);
  if (tick_test_.greater) append(end, UINT64_MAX);
}

// What the leaf asks of instants, if it asks nothing else than how they compare
// with others.  Their texts have the resolution of ticks, and so have constants
// once they are parsed.
bool BoundLeaf::MakeTickTest() {
  tick_test_.none = test_.OfKind(JsonKind::kUndefined);
  if (!test_.IsOpen(JsonKind::kString)) {
    tick_test_.less = tick_test_.equal = tick_test_.greater =
        test_.OfKind(JsonKind::kString);
    return true;
  }
  if (!test_.as_dates()) return false;
  for (const Json& constant : test_.constants()) {
    if (!constant.view().is_string()) continue;  // Equal to no instant.
    const std::optional<absl::Time> time =
        ParseDateOrInstant(constant.view().string_value());
    // Then texts are compared as such.
    if (!time.has_value()) return false;
    tick_test_.list.push_back(TicksFromTime(*time));
  }
  if (test_.shape() == LeafPredicate::Shape::kIn) {
    tick_test_.is_list = true;
    std::sort(tick_test_.list.begin(), tick_test_.list.end());
    tick_test_.equal = test_.wants_listed();
    tick_test_.less = !test_.wants_listed();
    return true;
  }
  tick_test_.ticks = tick_test_.list[0];
  tick_test_.list.clear();
  // Zero stands for the constant, and numbers for what is to it as they are.
  const auto selects = [this](double number) {
    const Value value = Value::Number(number);
    const Value zero = Value::Number(0);
    return test_.Wants(test_.constant_on_left()
                           ? EvaluateCompare(test_.compare(), zero, value)
                           : EvaluateCompare(test_.compare(), value, zero));
  };
  tick_test_.less = selects(-1);
  tick_test_.equal = selects(0);
  tick_test_.greater = selects(1);
  return true;
}

// No set of codes: the values of slots_, one by one or together.
void BoundLeaf::BindValues() {
  known_count_ = 1;
  for (const Slot& slot : slots_) {
    const uint64_t count = slot.index_count();
    if (count > kKnownMax || known_count_ * count > kKnownMax) {
      known_count_ = 0;
      break;
    }
    known_count_ *= static_cast<size_t>(count);
  }
  if (known_count_ == 1) {
    for (size_t i = 0; i < slots_.size(); ++i) {
      test_.slots().Set(i, slots_[i].ValueOf(0));
    }
    ++values_examined_;
    Decide(test_.SelectsSlots());
    return;
  }
  if (program_.has_value() && program_->Bind(absl::MakeSpan(slots_))) {
    form_ = Form::kNumbers;
    cost_ = kStepCost * program_->size();
  } else if (known_count_ > 0) {
    form_ = Form::kOnce;
    cost_ = kOnceCost +
            kRowCost * static_cast<double>(known_count_) / kShardRowsMax;
    known_is_clear_ = false;
  } else {
    form_ = Form::kRows;
    cost_ = kRowCost;
  }
}

bool BoundLeaf::SelectsView(JsonView value) {
  const JsonKind kind = value.kind();
  return test_.IsOpen(kind) ? test_.Selects(value) : test_.OfKind(kind);
}

bool BoundLeaf::SelectsTicks(int64_t ticks) const {
  if (ticks == CellSource::kNoTicks) return tick_test_.none;
  if (tick_test_.is_list) {
    return std::binary_search(tick_test_.list.begin(), tick_test_.list.end(),
                              ticks)
               ? tick_test_.equal
               : tick_test_.less;
  }
  return ticks < tick_test_.ticks    ? tick_test_.less
         : ticks == tick_test_.ticks ? tick_test_.equal
                                     : tick_test_.greater;
}

void BoundLeaf::Apply(int first_word, int words, uint64_t* mask) {
  switch (form_) {
    case Form::kNone:
    case Form::kAll:
      MUSTER_CHECK(false && "nothing to apply");
    case Form::kBits: {
      // Copies, which no store to the mask can change.
      const uint64_t* const bits = words_ + first_word;
      const uint64_t flip = flip_;
      for (int i = 0; i < words; ++i) mask[i] &= bits[i] ^ flip;
      return;
    }
    case Form::kRange:
    case Form::kHoles:
    case Form::kSet:
    case Form::kRanges: {
      // Words behind the end of a short array: all undefined.
      const int there = (codes_->size() + 63) / 64;
      if (first_word + words > there) {
        const int inside = std::max(there - first_word, 0);
        if (!test_.OfKind(JsonKind::kUndefined)) {
          std::fill(mask + inside, mask + words, 0);
        }
        words = inside;
      }
      switch (codes_->form()) {
        case ArrayForm::k8:
          ApplyCodes<uint8_t>(first_word, words, mask);
          return;
        case ArrayForm::k16:
          ApplyCodes<uint16_t>(first_word, words, mask);
          return;
        case ArrayForm::k32:
          ApplyCodes<uint32_t>(first_word, words, mask);
          return;
        default:
          ApplyCodes<uint64_t>(first_word, words, mask);
          return;
      }
    }
    case Form::kEntries:
      ApplyEntries(first_word, words, mask);
      return;
    case Form::kTicks:
      ApplyTicks(first_word, words, mask);
      return;
    case Form::kNumbers:
      ForEachWord(words, mask, [&](int i, uint64_t* word) {
        *word &= program_->Select(first_word + i, slots_);
      });
      return;
    case Form::kOnce:
      ApplyOnce(first_word, words, mask);
      return;
    case Form::kRows:
      ApplyRows(first_word, words, mask);
      return;
  }
}

template <typename Code>
void BoundLeaf::ApplyCodes(int first_word, int words, uint64_t* mask) {
  const Code* const codes = codes_->As<Code>() + size_t{64} * first_word;
  const size_t count = static_cast<size_t>(words);
  constexpr uint64_t kLargest = std::numeric_limits<Code>::max();
  switch (form_) {
    case Form::kRange: {
      const CodeRange& range = set_.ranges()[0];
      AndRangeMask(codes, count, static_cast<Code>(range.first),
                   static_cast<Code>(std::min(range.last, kLargest)),
                   /*inside=*/true, mask);
      return;
    }
    case Form::kHoles:
      for (const CodeRange& hole : holes_) {
        AndRangeMask(codes, count, static_cast<Code>(hole.first),
                     static_cast<Code>(hole.last), /*inside=*/false, mask);
      }
      return;
    case Form::kSet:
      if constexpr (sizeof(Code) <= 2) {
        AndSetMask(codes, count, members_.data(), mask);
      }
      return;
    default:
      ForEachWord(words, mask, [&](int i, uint64_t* word) {
        KeepBits(word,
                 [&](int bit) { return set_.Contains(codes[64 * i + bit]); });
      });
  }
}

// Either all entries are looked at now, or those that some row has, when it
// comes to it.
void BoundLeaf::ApplyEntries(int first_word, int words, uint64_t* mask) {
  const double undecided =
      static_cast<double>(CountMask(mask, static_cast<size_t>(words))) *
      RowBitmap::kWords / words;
  if (undecided * 2 < static_cast<double>(known_count_)) {
    ApplyOnce(first_word, words, mask);
    return;
  }
  const Cells& cells = slots_[0].cells();
  WalkedCodes(*cells.column, cells.rest, &test_, &set_);
  values_examined_ += static_cast<int64_t>(known_count_);
  BindCodes();
  if (form_ == Form::kAll || form_ == Form::kNone) {
    // It is too late to say so.
    holes_.clear();
    if (form_ == Form::kNone) holes_.push_back({0, LargestOf(codes_->form())});
    form_ = Form::kHoles;
  }
  Apply(first_word, words, mask);
}

void BoundLeaf::ApplyTicks(int first_word, int words, uint64_t* mask) {
  const Cells& cells = slots_[0].cells();
  ForEachWord(words, mask, [&](int i, uint64_t* word) {
    values_examined_ += std::popcount(*word);
    KeepBits(word, [&](int bit) {
      return SelectsTicks(source_->TicksAt(cells, 64 * (first_word + i) + bit));
    });
  });
}

void BoundLeaf::ApplyOnce(int first_word, int words, uint64_t* mask) {
  if (!known_is_clear_) {
    known_.assign(known_count_, 0);
    known_is_clear_ = true;
  }
  const size_t slot_count = slots_.size();
  ForEachWord(words, mask, [&](int i, uint64_t* word) {
    uint64_t combined[64];
    slots_[0].Load(first_word + i, combined);
    for (size_t s = 1; s < slot_count; ++s) {
      uint64_t indexes[64];
      slots_[s].Load(first_word + i, indexes);
      const uint64_t count = slots_[s].index_count();
      for (int j = 0; j < 64; ++j) {
        combined[j] = combined[j] * count + indexes[j];
      }
    }
    KeepBits(word, [&](int bit) {
      uint8_t& known = known_[combined[bit]];
      if (known == 0) known = SelectsCombined(combined[bit]) ? 2 : 1;
      return known == 2;
    });
  });
}

bool BoundLeaf::SelectsCombined(uint64_t combined) {
  ++values_examined_;
  if (test_.one_path()) return SelectsView(slots_[0].ValueOf(combined));
  for (size_t s = slots_.size(); s-- > 0;) {
    const uint64_t count = slots_[s].index_count();
    test_.slots().Set(s, slots_[s].ValueOf(combined % count));
    combined /= count;
  }
  return test_.SelectsSlots();
}

void BoundLeaf::ApplyRows(int first_word, int words, uint64_t* mask) {
  const size_t slot_count = slots_.size();
  indexes_.resize(64 * slot_count);
  ForEachWord(words, mask, [&](int i, uint64_t* word) {
    values_examined_ += std::popcount(*word);
    for (size_t s = 0; s < slot_count; ++s) {
      slots_[s].Load(first_word + i, &indexes_[64 * s]);
    }
    KeepBits(word, [&](int bit) {
      const size_t lane = static_cast<size_t>(bit);
      if (test_.one_path()) {
        return SelectsView(slots_[0].ValueOf(indexes_[lane]));
      }
      for (size_t s = 0; s < slot_count; ++s) {
        test_.slots().Set(s, slots_[s].ValueOf(indexes_[64 * s + lane]));
      }
      return test_.SelectsSlots();
    });
  });
}

std::string BoundLeaf::FormText() const {
  const absl::string_view what = Where();
  std::string text(what);
  const auto add = [&text](absl::string_view part) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", part);
  };
  switch (form_) {
    case Form::kNone:
      add("no row");
      return text;
    case Form::kAll:
      add("every row");
      return text;
    case Form::kBits:
      add(own_words_ != nullptr && words_ == own_words_->words.data()
              ? "few rows"
              : "bits");
      return text;
    case Form::kRange:
      add("range of codes");
      break;
    case Form::kHoles:
      add("ranges of codes");
      break;
    case Form::kSet:
      add("set of codes");
      break;
    case Form::kRanges:
      add("ranges of codes, row by row");
      break;
    case Form::kEntries:
      add("entries as rows need them");
      break;
    case Form::kTicks:
      add("row by row");
      return text;
    case Form::kNumbers:
      add("arithmetic on columns");
      return text;
    case Form::kOnce:
      add("each value once");
      return text;
    case Form::kRows:
      add("evaluator, row by row");
      return text;
  }
  absl::StrAppend(&text, ", ", 8 * CodeArray::WidthOf(codes_->form()), " bits");
  return text;
}

// What the path leads to, for explanations.
absl::string_view BoundLeaf::Where() const {
  if (!test_.one_path()) return "";
  switch (cells_kind_) {
    case Cells::Kind::kUndefined:
      return "nothing there";
    case Cells::Kind::kConstant:
      return "one value";
    case Cells::Kind::kColumn:
      switch (column_kind_) {
        case Column::Kind::kDictionary:
          return "dictionary";
        case Column::Kind::kNumber:
          return "numbers";
        case Column::Kind::kText:
          return "texts of one pattern";
      }
      break;
    case Cells::Kind::kFlags:
      return "flags";
    case Cells::Kind::kInts:
      return "integers";
    case Cells::Kind::kInstants:
      return "instants";
    case Cells::Kind::kComputed:
      return "computed";
  }
  return "";
}

}  // namespace muster
