#include "engine/twin/columns/code_array.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <new>

namespace muster {
namespace {

constexpr size_t kAlignment = 64;

constexpr size_t RoundUp(size_t n, size_t unit) {
  return (n + unit - 1) / unit * unit;
}

}  // namespace

CodeArray& CodeArray::operator=(CodeArray&& other) noexcept {
  if (this == &other) return *this;
  std::free(data_);
  form_ = std::exchange(other.form_, Form::kConstant);
  sparse_form_ = other.sparse_form_;
  sparse_count_ = std::exchange(other.sparse_count_, uint16_t{0});
  size_ = std::exchange(other.size_, uint16_t{0});
  capacity_ = std::exchange(other.capacity_, uint16_t{0});
  bytes_ = std::exchange(other.bytes_, 0u);
  low_ = std::exchange(other.low_, uint64_t{0});
  high_ = std::exchange(other.high_, uint64_t{0});
  data_ = std::exchange(other.data_, nullptr);
  return *this;
}

uint64_t CodeArray::Load(Form width, int i) const {
  switch (width) {
    case Form::k8:
      return As<uint8_t>()[i];
    case Form::k16:
      return As<uint16_t>()[i];
    case Form::k32:
      return As<uint32_t>()[i];
    default:
      return As<uint64_t>()[i];
  }
}

void CodeArray::Store(Form width, int i, uint64_t code) {
  switch (width) {
    case Form::k8:
      Mutable<uint8_t>()[i] = static_cast<uint8_t>(code);
      return;
    case Form::k16:
      Mutable<uint16_t>()[i] = static_cast<uint16_t>(code);
      return;
    case Form::k32:
      Mutable<uint32_t>()[i] = static_cast<uint32_t>(code);
      return;
    default:
      Mutable<uint64_t>()[i] = code;
  }
}

void* CodeArray::Allocate(Form form, Form width, int capacity) {
  void* const old = std::exchange(data_, nullptr);
  form_ = form;
  size_t bytes = 0;
  if (form == Form::kSparse) {
    sparse_form_ = width;
    // Even, so that the rows behind codes of one byte are aligned.
    capacity_ = static_cast<uint16_t>(capacity + capacity % 2);
    bytes = size_t{capacity_} * (WidthOf(width) + sizeof(uint16_t));
  } else if (form != Form::kConstant) {
    capacity_ =
        static_cast<uint16_t>(RoundUp(static_cast<size_t>(capacity), 64));
    bytes = form == Form::kBits ? size_t{capacity_} / 8
                                : size_t{capacity_} * WidthOf(form);
  } else {
    capacity_ = 0;
  }
  bytes = RoundUp(bytes, kAlignment);
  bytes_ = static_cast<uint32_t>(bytes);
  if (bytes > 0) {
    data_ = std::aligned_alloc(kAlignment, bytes);
    MUSTER_CHECK(data_ != nullptr);
    std::memset(data_, 0, bytes);
  }
  return old;
}

void CodeArray::Resize(int size) {
  MUSTER_DCHECK(size_ <= size && size <= kShardRowsMax);
  if (size == size_) return;
  switch (form_) {
    case Form::kConstant:
      // All rows that there were hold it; those that come do not.
      if (low_ != 0 && size_ > 0) {
        ChangeTo(Form::kBits);
        Resize(size);
        return;
      }
      low_ = 0;
      break;
    case Form::kSparse:
      break;
    case Form::kBits:
      if (low_ != 0) {  // A bit of 0 has to stand for 0 in what comes.
        if (high_ == 0) {
          for (int i = 0; i < size_; i += 64)
            Mutable<uint64_t>()[i / 64] ^= ~0ull;
          if (size_ % 64 != 0) {
            Mutable<uint64_t>()[size_ / 64] &= (uint64_t{1} << size_ % 64) - 1;
          }
          std::swap(low_, high_);
        } else {
          ChangeTo(FormFor(std::max(low_, high_)));
        }
        Resize(size);
        return;
      }
      [[fallthrough]];
    default:
      if (size > capacity_) {
        const size_t bytes = bytes_;
        void* const old = Allocate(form_, form_, size);
        std::memcpy(data_, old, bytes);
        std::free(old);
      }
  }
  size_ = static_cast<uint16_t>(size);
}

uint64_t CodeArray::GetSparse(int row) const {
  const uint16_t* const first = sparse_rows();
  const uint16_t* const last = first + sparse_count_;
  const uint16_t* const at = std::lower_bound(first, last, row);
  return at == last || *at != row
             ? 0
             : Load(sparse_form_, static_cast<int>(at - first));
}

void CodeArray::SetSparse(int row, uint64_t code) {
  uint16_t* rows = MutableSparseRows();
  const int at = static_cast<int>(
      std::lower_bound(rows, rows + sparse_count_, row) - rows);
  const bool found = at < sparse_count_ && rows[at] == row;
  if (code == 0) {
    if (!found) return;
    const int behind = sparse_count_ - at - 1;
    const size_t width = WidthOf(sparse_form_);
    char* const codes = static_cast<char*>(data_);
    std::memmove(codes + at * width, codes + (at + 1) * width, behind * width);
    std::memmove(rows + at, rows + at + 1, behind * sizeof(uint16_t));
    --sparse_count_;
    return;
  }
  if (!found && sparse_count_ >= SparseMax()) {
    MakeDense(code);
    Set(row, code);
    return;
  }
  const Form width = std::max(sparse_form_, FormFor(code));
  if (width != sparse_form_ || (!found && sparse_count_ == capacity_)) {
    CodeArray wider;
    wider.size_ = size_;
    const int capacity =
        found ? std::max<int>(sparse_count_, 1)
              : std::min(SparseMax(), sparse_count_ + sparse_count_ / 2 + 4);
    wider.Allocate(Form::kSparse, width,
                   std::max<int>(capacity, sparse_count_));
    wider.sparse_count_ = sparse_count_;
    for (int i = 0; i < sparse_count_; ++i) {
      wider.Store(width, i, sparse_code(i));
    }
    std::memcpy(wider.MutableSparseRows(), rows,
                sparse_count_ * sizeof(uint16_t));
    *this = std::move(wider);
    rows = MutableSparseRows();
  }
  if (!found) {
    const int behind = sparse_count_ - at;
    const size_t bytes = WidthOf(sparse_form_);
    char* const codes = static_cast<char*>(data_);
    std::memmove(codes + (at + 1) * bytes, codes + at * bytes, behind * bytes);
    std::memmove(rows + at + 1, rows + at, behind * sizeof(uint16_t));
    rows[at] = static_cast<uint16_t>(row);
    ++sparse_count_;
  }
  Store(sparse_form_, at, code);
}

void CodeArray::MakeDense(uint64_t code) {
  // Two codes only (0 and one more) fit bits.
  uint64_t largest = code;
  bool same = true;
  for (int i = 0; i < sparse_count_; ++i) {
    largest = std::max(largest, sparse_code(i));
    same = same && sparse_code(i) == code;
  }
  if (same) {
    low_ = 0;
    high_ = code;
    ChangeTo(Form::kBits);
  } else {
    ChangeTo(FormFor(largest));
  }
}

namespace {

bool IsRun(RowSpan rows) {
  return size_t{rows.back()} - rows.front() + 1 == rows.size();
}

template <typename Code>
void StoreRows(RowSpan rows, uint64_t code, Code* codes) {
  const Code narrow = static_cast<Code>(code);
  if (IsRun(rows)) {
    std::fill_n(codes + rows.front(), rows.size(), narrow);
  } else {
    for (const uint16_t row : rows) codes[row] = narrow;
  }
}

template <typename Code>
bool AllAre(uint64_t code, const Code* codes, int size) {
  Code differs = 0;
  for (int i = 0; i < size; ++i) {
    differs = static_cast<Code>(differs | (codes[i] ^ static_cast<Code>(code)));
  }
  return differs == 0;
}

template <typename Code>
bool AddOne(RowSpan rows, uint64_t limit, Code* codes) {
  limit = std::min<uint64_t>(limit, std::numeric_limits<Code>::max());
  Code largest = 0;
  for (const uint16_t row : rows) largest = std::max(largest, codes[row]);
  if (largest >= limit) return false;
  for (const uint16_t row : rows) ++codes[row];
  return true;
}

}  // namespace

void CodeArray::SetRows(RowSpan rows, uint64_t code) {
  if (rows.empty()) return;
  MUSTER_DCHECK(rows.back() < size_);
  if (static_cast<int>(rows.size()) == size_) {
    CodeArray same;
    same.size_ = size_;
    same.low_ = code;
    *this = std::move(same);
    return;
  }
  const int count = static_cast<int>(rows.size());
  switch (form_) {
    case Form::kConstant:
      if (code == low_) return;
      if (low_ == 0 && count <= SparseMax()) {
        for (const uint16_t row : rows) Set(row, code);
        return;
      }
      high_ = code;
      ChangeTo(Form::kBits);
      break;
    case Form::kSparse:
      if (code == 0 || sparse_count_ + count <= SparseMax()) {
        for (const uint16_t row : rows) Set(row, code);
        return;
      }
      MakeDense(code);
      break;
    case Form::kBits:
      if (code != low_ && code != high_) {
        ChangeTo(FormFor(std::max({low_, high_, code})));
      }
      break;
    default:
      if (FormFor(code) > form_) ChangeTo(FormFor(code));
  }
  switch (form_) {
    case Form::kBits: {
      uint64_t* const words = Mutable<uint64_t>();
      const bool bit = code == high_;
      for (const uint16_t row : rows) {
        const uint64_t mask = uint64_t{1} << (row & 63);
        words[row >> 6] =
            bit ? words[row >> 6] | mask : words[row >> 6] & ~mask;
      }
      break;
    }
    case Form::k8:
      StoreRows(rows, code, Mutable<uint8_t>());
      break;
    case Form::k16:
      StoreRows(rows, code, Mutable<uint16_t>());
      break;
    case Form::k32:
      StoreRows(rows, code, Mutable<uint32_t>());
      break;
    default:
      StoreRows(rows, code, Mutable<uint64_t>());
  }
  // What goes to a whole shard comes in several spans.
  if (Get(0) != code || Get(size_ - 1) != code) return;
  bool same = false;
  switch (form_) {
    case Form::kBits: {
      same = true;
      const uint64_t all = code == high_ ? ~uint64_t{0} : 0;
      for (int i = 0; i < size_ / 64; ++i) same = same && words()[i] == all;
      const uint64_t rest = (uint64_t{1} << size_ % 64) - 1;
      if (rest != 0) same = same && words()[size_ / 64] == (all & rest);
      break;
    }
    case Form::k8:
      same = AllAre(code, As<uint8_t>(), size_);
      break;
    case Form::k16:
      same = AllAre(code, As<uint16_t>(), size_);
      break;
    case Form::k32:
      same = AllAre(code, As<uint32_t>(), size_);
      break;
    default:
      same = AllAre(code, As<uint64_t>(), size_);
  }
  if (!same) return;
  CodeArray constant;
  constant.size_ = size_;
  constant.low_ = code;
  *this = std::move(constant);
}

bool CodeArray::IncrementRows(RowSpan rows, uint64_t limit) {
  switch (form_) {
    case Form::k8:
      return AddOne(rows, limit, Mutable<uint8_t>());
    case Form::k16:
      return AddOne(rows, limit, Mutable<uint16_t>());
    case Form::k32:
      return AddOne(rows, limit, Mutable<uint32_t>());
    case Form::k64:
      return AddOne(rows, limit, Mutable<uint64_t>());
    default:
      return false;
  }
}

std::optional<uint64_t> CodeArray::SameCode(RowSpan rows) const {
  const uint64_t first = Get(rows.front());
  if (form_ == Form::kConstant) return first;
  if (Get(rows.back()) != first) return std::nullopt;
  uint64_t differs = 0;
  ForEachOf(rows, [&](size_t, uint64_t code) { differs |= code ^ first; });
  if (differs != 0) return std::nullopt;
  return first;
}

void CodeArray::SetSlow(int row, uint64_t code) {
  switch (form_) {
    case Form::kConstant:
      if (code == low_) return;
      if (low_ == 0 && SparseMax() > 0) {
        Allocate(Form::kSparse, FormFor(code), std::min(SparseMax(), 4));
        sparse_count_ = 0;
        SetSparse(row, code);
        return;
      }
      high_ = code;
      ChangeTo(Form::kBits);
      Set(row, code);
      return;
    case Form::kSparse:
      SetSparse(row, code);
      return;
    case Form::kBits:
      ChangeTo(FormFor(std::max({low_, high_, code})));
      Set(row, code);
      return;
    default:
      ChangeTo(FormFor(code));  // Too narrow.
      Set(row, code);
  }
}

void CodeArray::ChangeTo(Form form) {
  CodeArray changed;
  changed.size_ = size_;
  changed.low_ = low_;
  changed.high_ = high_;
  if (form == Form::kSparse) {
    int count = 0;
    uint64_t largest = 0;
    ForEachSet([&](int, uint64_t code) {
      ++count;
      largest = std::max(largest, code);
    });
    changed.Allocate(form, FormFor(largest), count);
    changed.sparse_count_ = static_cast<uint16_t>(count);
    changed.low_ = changed.high_ = 0;
    int i = 0;
    ForEachSet([&](int row, uint64_t code) {
      changed.MutableSparseRows()[i] = static_cast<uint16_t>(row);
      changed.Store(changed.sparse_form_, i++, code);
    });
  } else {
    // Bits keep what low_ and high_ are; a constant's rows all hold low_.
    changed.Allocate(form, form, size_);
    if (form == Form::kBits) {
      if (form_ != Form::kConstant) {
        ForEachSet([&](int row, uint64_t code) {
          if (code == high_) {
            changed.Mutable<uint64_t>()[row >> 6] |= uint64_t{1} << (row & 63);
          }
        });
      }
    } else {
      changed.low_ = changed.high_ = 0;
      ForEachSet(
          [&](int row, uint64_t code) { changed.Store(form, row, code); });
    }
  }
  *this = std::move(changed);
}

void CodeArray::Compact() {
  if (size_ == 0 || form_ == Form::kConstant) return;
  const uint64_t first = Get(0);
  uint64_t largest = first;
  uint64_t other = first;
  int count = 0;
  bool two = true;
  if (first == 0) {
    ForEachSet([&](int, uint64_t code) {
      largest = std::max(largest, code);
      ++count;
      if (code == other) return;
      two = two && other == first;
      other = code;
    });
  } else {
    ForEachSet([&](int, uint64_t code) {
      largest = std::max(largest, code);
      ++count;
      if (code == first || code == other) return;
      two = two && other == first;
      other = code;
    });
    if (count < size_) {
      two = two && other == first;
      other = 0;
    }
  }
  if (other == first) {
    CodeArray constant;
    constant.size_ = size_;
    constant.low_ = first;
    *this = std::move(constant);
    return;
  }
  if (count <= SparseMax()) {
    ChangeTo(Form::kSparse);
    return;
  }
  const Form form = two ? Form::kBits : FormFor(largest);
  if (two) {
    if (form_ == Form::kBits) return;
    low_ = std::min(first, other);
    high_ = std::max(first, other);
    ChangeTo(form);
  } else if (form != form_ || capacity_ >= size_ + 64) {
    ChangeTo(form);
  }
}

}  // namespace muster
