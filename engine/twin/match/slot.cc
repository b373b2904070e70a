#include "engine/twin/match/slot.h"

#include <algorithm>

#include "engine/model/check.h"
#include "engine/twin/match/code_set.h"

namespace muster {
namespace {

using Form = CodeArray::Form;

template <typename Code>
void Widen(const CodeArray& codes, int word, uint64_t* out) {
  const Code* const from = codes.As<Code>() + size_t{64} * word;
  for (int i = 0; i < 64; ++i) out[i] = from[i];
}

}  // namespace

void Slot::Bind(const CellSource& source, const Cells& cells) {
  source_ = &source;
  cells_ = cells;
  codes_ = nullptr;
  is_short_ = false;
  switch (cells.kind) {
    case Cells::Kind::kUndefined:
    case Cells::Kind::kConstant:
      index_count_ = 1;
      return;
    case Cells::Kind::kFlags:
      index_count_ = 2;
      return;
    case Cells::Kind::kInstants:
    case Cells::Kind::kComputed:
      index_count_ = kUnbounded;
      return;
    case Cells::Kind::kColumn:
      codes_ = &cells.column->codes();
      break;
    case Cells::Kind::kInts:
      codes_ = &cells.ints->codes();
      break;
  }
  is_short_ = codes_->size() < source.row_count();
  const Form form = codes_->form();
  if (form == Form::kConstant || form == Form::kBits) {
    // One more index for rows behind the end.
    index_count_ = (form == Form::kBits ? 2 : 1) + (is_short_ ? 1 : 0);
    return;
  }
  if (cells.kind == Cells::Kind::kColumn &&
      cells.column->kind() == Column::Kind::kDictionary) {
    index_count_ = cells.column->max_code() + 1;
    return;
  }
  switch (form == Form::kSparse ? codes_->sparse_form() : form) {
    case Form::k8:
      index_count_ = 0x100;
      break;
    case Form::k16:
      index_count_ = 0x10000;
      break;
    default:
      index_count_ = kUnbounded;
  }
}

void Slot::Load(int word, uint64_t* indexes) const {
  const int first_row = 64 * word;
  if (codes_ == nullptr) {
    if (cells_.kind == Cells::Kind::kFlags) {
      for (int i = 0; i < 64; ++i) {
        indexes[i] = cells_.flags->words[word] >> i & 1;
      }
    } else if (index_count_ == kUnbounded) {
      for (int i = 0; i < 64; ++i) {
        indexes[i] = static_cast<uint64_t>(first_row + i);
      }
    } else {
      std::fill_n(indexes, 64, 0);
    }
    return;
  }
  const Form form = codes_->form();
  if (first_row >= codes_->size()) {
    // Undefined.
    std::fill_n(
        indexes, 64,
        form == Form::kConstant || form == Form::kBits ? index_count_ - 1 : 0);
    return;
  }
  switch (form) {
    case Form::kConstant:
      std::fill_n(indexes, 64, 0);
      break;
    case Form::kBits:
      for (int i = 0; i < 64; ++i) indexes[i] = codes_->words()[word] >> i & 1;
      break;
    case Form::kSparse: {
      std::fill_n(indexes, 64, 0);
      const uint16_t* const rows = codes_->sparse_rows();
      const uint16_t* const end = rows + codes_->sparse_count();
      for (const uint16_t* at = std::lower_bound(rows, end, first_row);
           at != end && *at < first_row + 64; ++at) {
        indexes[*at - first_row] =
            codes_->sparse_code(static_cast<int>(at - rows));
      }
      return;
    }
    case Form::k8:
      Widen<uint8_t>(*codes_, word, indexes);
      return;
    case Form::k16:
      Widen<uint16_t>(*codes_, word, indexes);
      return;
    case Form::k32:
      Widen<uint32_t>(*codes_, word, indexes);
      return;
    case Form::k64:
      Widen<uint64_t>(*codes_, word, indexes);
      return;
  }
  if (is_short_) {
    for (int row = codes_->size(); row < first_row + 64; ++row) {
      indexes[row - first_row] = index_count_ - 1;
    }
  }
}

JsonView Slot::ValueOf(uint64_t index) {
  switch (cells_.kind) {
    case Cells::Kind::kUndefined:
      return JsonView();
    case Cells::Kind::kConstant:
      return cells_.constant;
    case Cells::Kind::kFlags:
      return index == 0 ? cells_.if_clear : cells_.if_set;
    case Cells::Kind::kInstants:
    case Cells::Kind::kComputed:
      return source_->ValueAt(cells_, static_cast<int>(index), &text_);
    case Cells::Kind::kColumn:
    case Cells::Kind::kInts:
      break;
  }
  const Form form = codes_->form();
  if (form == Form::kConstant || form == Form::kBits) {
    if (is_short_ && index == index_count_ - 1) return JsonView();
    return ValueOfCode(index == 0 ? codes_->low() : codes_->high());
  }
  return ValueOfCode(index);
}

JsonView Slot::ValueOfCode(uint64_t code) {
  if (cells_.kind == Cells::Kind::kInts) {
    if (code < IntColumn::kFirst) return JsonView();
    EncodeJsonInteger(cells_.ints->ValueOf(code), buffer_.bytes);
    return JsonView::FromEncoded(buffer_.bytes);
  }
  return Descend(cells_.column->ValueOf(code, &buffer_), cells_.rest);
}

}  // namespace muster
