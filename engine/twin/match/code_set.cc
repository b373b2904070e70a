#include "engine/twin/match/code_set.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "engine/model/check.h"
#include "engine/query/evaluator.h"
#include "engine/query/value.h"

namespace muster {
namespace {

// Codes behind the last one occur in no row.  That they are taken in lets a set
// of all codes be seen as one.
constexpr uint64_t kAllBehind = UINT64_MAX;

constexpr Compare kAtLeast{.op = CompareOp::kGe, .as_dates = false};
constexpr Compare kAbove{.op = CompareOp::kGt, .as_dates = false};

constexpr uint64_t Twice(uint64_t step) {
  return step < uint64_t{1} << 62 ? 2 * step : step;
}

// The first code in [first, last] for which test(code) holds, last + 1 if there
// is none, by steps that grow from `near` and then by halves.
// REQUIRES: false up to some code and true from there; first <= near <= last.
template <typename Test>
uint64_t FirstWhere(uint64_t first, uint64_t last, uint64_t near, Test test) {
  uint64_t low = first;      // All below are false.
  uint64_t high = last + 1;  // True, or behind all.
  if (test(near)) {
    high = near;
    for (uint64_t step = 1; low < high; step = Twice(step)) {
      const uint64_t at = high - low > step ? high - step : low;
      if (!test(at)) {
        low = at + 1;
        break;
      }
      high = at;
    }
  } else {
    low = near + 1;
    for (uint64_t step = 1; low < high; step = Twice(step)) {
      const uint64_t at = high - low > step ? low + step - 1 : high - 1;
      if (test(at)) {
        high = at;
        break;
      }
      low = at + 1;
    }
  }
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    if (test(middle)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

// Codes [first, last] that ascend with their values, all of one kind.
template <typename ValueAt, typename Near>
class OrderedSpan {
 public:
  OrderedSpan(JsonKind kind, uint64_t first, uint64_t last, ValueAt value_at,
              Near near)
      : kind_(kind),
        first_(first),
        last_(last),
        value_at_(value_at),
        near_(near) {}

  // Appends what satisfies the leaf, which is open for the kind.
  void AppendTo(CodeSet* codes, LeafPredicate* leaf) {
    if (first_ > last_) return;
    switch (leaf->shape()) {
      case LeafPredicate::Shape::kCompare:
        AppendCompare(codes, *leaf);
        return;
      case LeafPredicate::Shape::kIn:
        AppendIn(codes, *leaf);
        return;
      default:
        AppendPrefix(codes, *leaf);
    }
  }

 private:
  // Codes of values that are equal to the constant: [lower, upper).
  CodeRange Equal(JsonView constant) {
    const Value value = Value::FromJson(constant);
    const uint64_t lower =
        FirstWhere(first_, last_, Clamped(near_(constant)), [&](uint64_t code) {
          return EvaluateCompare(kAtLeast, value_at_(code), value).is_true();
        });
    uint64_t upper = lower;
    if (lower <= last_) {
      upper = FirstWhere(lower, last_, lower, [&](uint64_t code) {
        return EvaluateCompare(kAbove, value_at_(code), value).is_true();
      });
    }
    return {lower, upper};
  }

  // All values that are less than the constant are alike to a comparison, all
  // that are equal, and all that are greater: one of each says what to do.
  void AppendCompare(CodeSet* codes, const LeafPredicate& leaf) {
    const auto [lower, upper] = Equal(leaf.constants()[0].view());
    AppendIf(codes, leaf, first_, lower);
    AppendIf(codes, leaf, lower, upper);
    if (upper <= last_ && leaf.Compares(value_at_(upper))) {
      codes->Append(upper, kAllBehind);
    }
  }
  void AppendIf(CodeSet* codes, const LeafPredicate& leaf, uint64_t first,
                uint64_t end) {
    if (first < end && leaf.Compares(value_at_(first))) {
      codes->Append(first, end - 1);
    }
  }

  void AppendIn(CodeSet* codes, const LeafPredicate& leaf) {
    absl::InlinedVector<CodeRange, 8> members;
    for (const Json& constant : leaf.constants()) {
      if (constant.view().kind() != kind_) continue;
      const auto [lower, upper] = Equal(constant.view());
      if (lower < upper) members.push_back({lower, upper - 1});
    }
    std::sort(members.begin(), members.end(),
              [](const CodeRange& a, const CodeRange& b) {
                return a.first < b.first;
              });
    const bool wants_listed = leaf.wants_listed();
    uint64_t next = first_;
    for (const CodeRange& range : members) {
      if (wants_listed) {
        codes->Append(range.first, range.last);
      } else if (next < range.first) {
        codes->Append(next, range.first - 1);
      }
      next = range.last + 1;
    }
    if (!wants_listed) codes->Append(next, kAllBehind);
  }

  // In the order of strings those with one prefix are neighbours.
  void AppendPrefix(CodeSet* codes, const LeafPredicate& leaf) {
    const absl::string_view prefix = leaf.constants()[0].view().string_value();
    const auto starts = [&](const Value& value) {
      return absl::StartsWith(value.string_value(), prefix);
    };
    const uint64_t lower =
        FirstWhere(first_, last_, first_, [&](uint64_t code) {
          return value_at_(code).string_value() >= prefix;
        });
    uint64_t upper = lower;
    if (lower <= last_) {
      upper = FirstWhere(lower, last_, lower, [&](uint64_t code) {
        return !starts(value_at_(code));
      });
    }
    // STARTSWITH is true from lower to upper, and false elsewhere.
    if (leaf.leaf().wanted) {
      if (lower < upper) codes->Append(lower, upper - 1);
      return;
    }
    if (first_ < lower) codes->Append(first_, lower - 1);
    codes->Append(upper, kAllBehind);
  }

  uint64_t Clamped(uint64_t code) const {
    return std::clamp(code, first_, last_);
  }

  const JsonKind kind_;
  const uint64_t first_;
  const uint64_t last_;
  ValueAt value_at_;
  Near near_;
};

// The largest code that there is room for.
uint64_t LargestCode(const CodeArray& codes) {
  const CodeArray::Form form = codes.form() == CodeArray::Form::kSparse
                                   ? codes.sparse_form()
                                   : codes.form();
  switch (form) {
    case CodeArray::Form::k8:
      return 0xff;
    case CodeArray::Form::k16:
      return 0xffff;
    case CodeArray::Form::k32:
      return 0xffff'ffff;
    default:
      return UINT64_MAX - 1;
  }
}

}  // namespace

bool CodeSet::Contains(uint64_t code) const {
  const auto behind =
      std::upper_bound(ranges_.begin(), ranges_.end(), code,
                       [](uint64_t value, const CodeRange& range) {
                         return value < range.first;
                       });
  return behind != ranges_.begin() && code <= (behind - 1)->last;
}

bool OrderedCodes(const Column& column, LeafPredicate* leaf, CodeSet* codes) {
  if (column.kind() == Column::Kind::kDictionary) return false;
  const bool is_number = column.kind() == Column::Kind::kNumber;
  const JsonKind kind = is_number ? JsonKind::kNumber : JsonKind::kString;
  if (leaf->IsOpen(kind) && !leaf->IsOrdered(kind)) return false;
  codes->Clear();
  if (leaf->OfKind(JsonKind::kUndefined)) {
    codes->Append(Column::kUndefinedCode, Column::kUndefinedCode);
  }
  if (leaf->OfKind(JsonKind::kNull)) {
    codes->Append(Column::kNullCode, Column::kNullCode);
  }
  if (!leaf->IsOpen(kind)) {
    if (leaf->OfKind(kind)) codes->Append(Column::kFirstCode, kAllBehind);
    return true;
  }
  const Column::CodeSpan span = column.value_codes();
  const uint64_t last = std::min(span.last, LargestCode(column.codes()));
  const auto near = [&](JsonView constant) {
    return column.NearCode(constant);
  };
  if (is_number) {
    const Column::NumberCodes numbers = column.number_codes();
    OrderedSpan(
        kind, span.first, last,
        [&](uint64_t code) { return Value::Number(numbers.At(code)); }, near)
        .AppendTo(codes, leaf);
  } else {
    CellBuffer buffer;
    OrderedSpan(
        kind, span.first, last,
        [&](uint64_t code) {
          return Value::FromJson(column.ValueOf(code, &buffer));
        },
        near)
        .AppendTo(codes, leaf);
  }
  return true;
}

bool OrderedCodes(const IntColumn& column, LeafPredicate* leaf,
                  CodeSet* codes) {
  const JsonKind kind = JsonKind::kNumber;
  if (leaf->IsOpen(kind) && !leaf->IsOrdered(kind)) return false;
  codes->Clear();
  if (leaf->OfKind(JsonKind::kUndefined)) codes->Append(0, 0);
  if (!leaf->IsOpen(kind)) {
    if (leaf->OfKind(kind)) codes->Append(IntColumn::kFirst, kAllBehind);
    return true;
  }
  // Up to the largest integer.
  const uint64_t room =
      static_cast<uint64_t>(INT64_MAX) - static_cast<uint64_t>(column.base());
  const uint64_t last =
      std::min(LargestCode(column.codes()),
               room < UINT64_MAX - 1 ? room + IntColumn::kFirst : room);
  OrderedSpan(
      kind, IntColumn::kFirst, last,
      [&](uint64_t code) {
        return Value::Number(static_cast<double>(column.ValueOf(code)));
      },
      [&](JsonView constant) {
        const double number = constant.number_value();
        const double base = static_cast<double>(column.base());
        const double distance = number - base;
        return distance < 0      ? IntColumn::kFirst
               : distance > 9e18 ? last
                                 : static_cast<uint64_t>(distance);
      })
      .AppendTo(codes, leaf);
  return true;
}

bool LookedUpCodes(const Column& column, const LeafPredicate& leaf,
                   CodeSet* codes) {
  MUSTER_DCHECK(column.kind() == Column::Kind::kDictionary);
  // What is selected of the values that are no constants: the same of all?
  bool others = false;
  bool is_first = true;
  for (const JsonKind kind :
       {JsonKind::kBool, JsonKind::kNumber, JsonKind::kString, JsonKind::kArray,
        JsonKind::kObject}) {
    if (!column.HasKind(kind)) continue;
    bool selects = leaf.OfKind(kind);
    if (leaf.IsOpen(kind)) {
      // Equal numbers may differ in their bytes.
      if (leaf.members() == LeafPredicate::Members::kSome ||
          kind == JsonKind::kNumber) {
        return false;
      }
      selects = leaf.members() == LeafPredicate::Members::kOthers;
    }
    if (!is_first && selects != others) return false;
    others = selects;
    is_first = false;
  }
  codes->Clear();
  if (leaf.OfKind(JsonKind::kUndefined)) {
    codes->Append(Column::kUndefinedCode, Column::kUndefinedCode);
  }
  if (leaf.OfKind(JsonKind::kNull)) {
    codes->Append(Column::kNullCode, Column::kNullCode);
  }
  absl::InlinedVector<uint64_t, 8> listed;
  if (leaf.members() != LeafPredicate::Members::kSome) {
    for (const Json& constant : leaf.constants()) {
      const uint64_t code = column.FindCode(constant.view());
      if (code >= Column::kFirstCode) listed.push_back(code);
    }
    std::sort(listed.begin(), listed.end());
  }
  uint64_t next = Column::kFirstCode;
  for (const uint64_t code : listed) {
    if (!others) {
      codes->Append(code, code);
    } else if (next < code) {
      codes->Append(next, code - 1);
    }
    next = code + 1;
  }
  if (others) codes->Append(next, kAllBehind);
  return true;
}

void WalkedCodes(const Column& column, absl::Span<const PathStep> rest,
                 LeafPredicate* leaf, CodeSet* codes) {
  MUSTER_DCHECK(column.kind() == Column::Kind::kDictionary);
  codes->Clear();
  const uint64_t last = column.max_code();
  CellBuffer buffer;
  for (uint64_t code = 0; code <= last; ++code) {
    const JsonView value = Descend(column.ValueOf(code, &buffer), rest);
    const JsonKind kind = value.kind();
    if (leaf->IsOpen(kind) ? leaf->Selects(value) : leaf->OfKind(kind)) {
      codes->Append(code, code == last ? kAllBehind : code);
    }
  }
}

JsonView Descend(JsonView value, absl::Span<const PathStep> steps) {
  for (const PathStep& step : steps) {
    value =
        step.index.has_value() ? value.At(*step.index) : value.Find(step.name);
  }
  return value;
}

}  // namespace muster
