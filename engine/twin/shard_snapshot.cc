// A snapshot is a header of 24 bytes and the shard:
//
//   u32 magic, u32 version, u64 size of what follows the header, u64 checksum
//
// The checksum is over the bytes behind the header; it tells an accident from
// none, not a forger from a friend.
#include "engine/twin/shard_snapshot.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/model/check.h"
#include "engine/model/json.h"
#include "engine/model/limits.h"
#include "engine/model/twin_patch.h"

namespace muster {
namespace {

constexpr uint32_t kMagic = 0x4453'484d;  // "MHSD"
constexpr size_t kHeaderSize = 24;

uint64_t Checksum(absl::string_view bytes) {
  // Multiplying spreads a word's bits upwards, the rotation takes them down
  // again; four lanes, so that no step waits for the one before it.
  constexpr uint64_t kMultiplier = 0x9e37'79b9'7f4a'7c15;
  uint64_t lanes[4] = {1, 2, 3, 4};
  const auto mix = [](uint64_t lane, uint64_t word) {
    lane = (lane ^ word) * kMultiplier;
    return lane << 29 | lane >> 35;
  };
  const char* p = bytes.data();
  size_t left = bytes.size();
  for (; left >= 32; left -= 32) {
    for (uint64_t& lane : lanes) {
      uint64_t word;
      std::memcpy(&word, p, sizeof(word));
      p += sizeof(word);
      lane = mix(lane, word);
    }
  }
  uint64_t sum = bytes.size();
  for (; left > 0; --left) sum = mix(sum, static_cast<uint8_t>(*p++));
  for (const uint64_t lane : lanes) sum = mix(sum, lane);
  return sum;
}

}  // namespace

// ----------------------------------------------------------------- writing

class ShardSnapshot::Writer {
 public:
  explicit Writer(std::string* out) : out_(out) {}

  template <typename T>
  void Number(T v) {
    static_assert(std::is_integral_v<T>);
    out_->append(reinterpret_cast<const char*>(&v), sizeof(v));
  }
  void Raw(const void* bytes, size_t size) {
    if (size > 0) out_->append(static_cast<const char*>(bytes), size);
  }
  void Text(absl::string_view text) {
    Number(static_cast<uint32_t>(text.size()));
    Raw(text.data(), text.size());
  }
  void Bitmap(const RowBitmap& bitmap, int rows) {
    Raw(bitmap.words.data(),
        static_cast<size_t>((rows + 63) / 64) * sizeof(uint64_t));
  }

 private:
  std::string* const out_;
};

void ShardSnapshot::Put(const CodeArray& codes, Writer* out) {
  out->Number(static_cast<uint8_t>(codes.form_));
  switch (codes.form_) {
    case CodeArray::Form::kConstant:
      out->Number(codes.low_);
      return;
    case CodeArray::Form::kSparse: {
      const size_t count = codes.sparse_count_;
      out->Number(static_cast<uint8_t>(codes.sparse_form_));
      out->Number(codes.sparse_count_);
      out->Raw(codes.data_, count * CodeArray::WidthOf(codes.sparse_form_));
      out->Raw(codes.sparse_rows(), count * sizeof(uint16_t));
      return;
    }
    case CodeArray::Form::kBits:
      out->Number(codes.low_);
      out->Number(codes.high_);
      out->Raw(codes.data_, static_cast<size_t>(codes.size_) / 8);
      return;
    default:
      out->Raw(codes.data_, codes.size_ * CodeArray::WidthOf(codes.form_));
  }
}

void ShardSnapshot::Put(const IntColumn& column, Writer* out) {
  out->Number(column.base_);
  Put(column.codes_, out);
}

void ShardSnapshot::Put(const Dictionary& dictionary, Writer* out) {
  out->Number(static_cast<uint32_t>(dictionary.size()));
  out->Raw(dictionary.ends_.data(), dictionary.ends_.size() * sizeof(uint32_t));
  out->Text(dictionary.bytes_);
}

void ShardSnapshot::Put(const Column& column, Writer* out) {
  out->Number(static_cast<uint8_t>(column.kind_));
  out->Number(static_cast<uint8_t>(column.text_failed_));
  switch (column.kind_) {
    case Column::Kind::kDictionary:
      Put(column.dictionary_, out);
      break;
    case Column::Kind::kText:
      out->Number(static_cast<uint8_t>(column.text_->digits()));
      out->Number(static_cast<uint8_t>(column.text_->digit_count()));
      out->Text(column.text_->prefix());
      out->Number(column.number_.base);
      break;
    case Column::Kind::kNumber:
      out->Number(column.number_.base);
      out->Number(column.number_.scale);
      out->Number(static_cast<uint8_t>(column.number_.raw));
      out->Number(static_cast<uint8_t>(column.number_.integral_are_integers));
      out->Number(static_cast<uint8_t>(column.number_.decided));
      break;
  }
  Put(column.codes_, out);
}

void ShardSnapshot::Put(const PropertyTree::Node& node, Writer* out) {
  out->Number(static_cast<uint8_t>(node.stamps != nullptr));
  if (node.stamps != nullptr) {
    Put(node.stamps->ticks, out);
    Put(node.stamps->versions, out);
  }
  out->Number(static_cast<uint32_t>(node.children.size()));
  for (const PropertyTree::Node::Child& child : node.children) {
    out->Text(child.key);
    Put(child.node->column, out);
    Put(*child.node, out);
  }
}

void ShardSnapshot::Write(const Shard& shard, std::string* out) {
  const size_t begin = out->size();
  out->append(kHeaderSize, '\0');
  Writer writer(out);
  const int rows = shard.row_count_;
  writer.Number(static_cast<uint32_t>(rows));
  writer.Number(static_cast<uint32_t>(shard.capacity_));
  writer.Number(shard.sequence_);
  writer.Bitmap(shard.in_use_, rows);
  writer.Bitmap(shard.connected_, rows);
  writer.Bitmap(shard.enabled_, rows);
  for (int row = 0; row < rows; ++row) {
    const absl::string_view id = shard.IdForTable(row);
    writer.Number(static_cast<uint8_t>(id.size()));
    writer.Raw(id.data(), id.size());
  }
  // In this order they are taken again.
  writer.Number(static_cast<uint32_t>(shard.free_rows_.size()));
  writer.Raw(shard.free_rows_.data(),
             shard.free_rows_.size() * sizeof(uint16_t));
  Shard::ForEachSystemColumn(
      shard, [&writer](const IntColumn& column) { Put(column, &writer); });
  for (int i = 0; i < PropertyTree::kSectionCount; ++i) {
    Put(shard.tree_.roots_[i], &writer);
  }
  writer.Number(shard.retained_from_);
  writer.Number(static_cast<uint32_t>(shard.former_tenants_.size()));
  for (const auto& [key, tenant] : shard.former_tenants_) {
    writer.Number(key.first);
    writer.Number(key.second);
    writer.Number(tenant.gone);
    writer.Text(tenant.id.view());
  }

  const absl::string_view payload =
      absl::string_view(*out).substr(begin + kHeaderSize);
  std::string header;
  Writer header_writer(&header);
  header_writer.Number(kMagic);
  header_writer.Number(kVersion);
  header_writer.Number(static_cast<uint64_t>(payload.size()));
  header_writer.Number(Checksum(payload));
  MUSTER_CHECK(header.size() == kHeaderSize);
  out->replace(begin, kHeaderSize, header);
}

// ----------------------------------------------------------------- reading

class ShardSnapshot::Reader {
 public:
  explicit Reader(absl::string_view bytes) : rest_(bytes) {}

  size_t left() const { return rest_.size(); }

  template <typename T>
  bool Number(T* v) {
    return Raw(v, sizeof(*v));
  }
  bool Bool(bool* v) {
    uint8_t byte = 0;
    if (!Number(&byte) || byte > 1) return false;
    *v = byte == 1;
    return true;
  }
  bool Raw(void* to, size_t size) {
    if (rest_.size() < size) return false;
    if (size > 0) std::memcpy(to, rest_.data(), size);
    rest_.remove_prefix(size);
    return true;
  }
  bool Text(absl::string_view* text) {
    uint32_t size = 0;
    return Number(&size) && Take(size, text);
  }
  bool Take(size_t size, absl::string_view* text) {
    if (rest_.size() < size) return false;
    *text = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return true;
  }
  // No bit at or behind `rows` may be set.
  bool Bitmap(int rows, RowBitmap* bitmap) {
    const size_t words = static_cast<size_t>((rows + 63) / 64);
    if (!Raw(bitmap->words.data(), words * sizeof(uint64_t))) return false;
    return rows % 64 == 0 || bitmap->words[words - 1] >> rows % 64 == 0;
  }

 private:
  absl::string_view rest_;
};

bool ShardSnapshot::Get(Reader* in, int rows, CodeArray* codes) {
  using Form = CodeArray::Form;
  uint8_t form = 0;
  if (!in->Number(&form) || form > static_cast<uint8_t>(Form::k64)) {
    return false;
  }
  *codes = CodeArray();
  codes->size_ = static_cast<uint16_t>(rows);
  switch (static_cast<Form>(form)) {
    case Form::kConstant:
      return in->Number(&codes->low_);
    case Form::kSparse: {
      uint8_t width = 0;
      uint16_t count = 0;
      if (!in->Number(&width) || width < static_cast<uint8_t>(Form::k8) ||
          width > static_cast<uint8_t>(Form::k64) || !in->Number(&count) ||
          count > codes->SparseMax()) {
        return false;
      }
      codes->Allocate(Form::kSparse, static_cast<Form>(width),
                      std::max<int>(count, 1));
      codes->sparse_count_ = count;
      if (!in->Raw(codes->data_,
                   count * CodeArray::WidthOf(codes->sparse_form_)) ||
          !in->Raw(codes->MutableSparseRows(), count * sizeof(uint16_t))) {
        return false;
      }
      for (int i = 0; i < count; ++i) {
        const int row = codes->sparse_rows()[i];
        if (row >= rows || (i > 0 && row <= codes->sparse_rows()[i - 1]) ||
            codes->sparse_code(i) == 0) {
          return false;
        }
      }
      return true;
    }
    case Form::kBits:
      codes->Allocate(Form::kBits, Form::kBits, rows);
      return in->Number(&codes->low_) && in->Number(&codes->high_) &&
             in->Raw(codes->data_, static_cast<size_t>(rows) / 8);
    default:
      codes->Allocate(static_cast<Form>(form), static_cast<Form>(form), rows);
      return in->Raw(codes->data_, static_cast<size_t>(rows) *
                                       CodeArray::WidthOf(codes->form_));
  }
}

bool ShardSnapshot::Get(Reader* in, int rows, IntColumn* column) {
  return in->Number(&column->base_) && Get(in, rows, &column->codes_);
}

bool ShardSnapshot::Get(Reader* in, Dictionary* dictionary) {
  uint32_t size = 0;
  if (!in->Number(&size) || size > Dictionary::kSizeMax) return false;
  dictionary->ends_.resize(size);
  absl::string_view bytes;
  if (!in->Raw(dictionary->ends_.data(), size * sizeof(uint32_t)) ||
      !in->Text(&bytes)) {
    return false;
  }
  size_t begin = 0;
  for (const uint32_t end : dictionary->ends_) {
    if (end < begin || end > bytes.size() ||
        !IsEncodedJson(bytes.substr(begin, end - begin))) {
      return false;
    }
    begin = end;
  }
  if (begin != bytes.size()) return false;
  dictionary->bytes_.assign(bytes.data(), bytes.size());
  size_t slots = size == 0 ? 0 : 8;
  while (size * size_t{5} > slots * 4) slots *= 2;
  if (slots > 0) dictionary->Rehash(slots);
  return true;
}

bool ShardSnapshot::Get(Reader* in, int rows, Column* column) {
  uint8_t kind = 0;
  if (!in->Number(&kind) || kind > static_cast<uint8_t>(Column::Kind::kText) ||
      !in->Bool(&column->text_failed_)) {
    return false;
  }
  column->kind_ = static_cast<Column::Kind>(kind);
  uint64_t code_max = Column::kNullCode;
  switch (column->kind_) {
    case Column::Kind::kDictionary: {
      if (!Get(in, &column->dictionary_)) return false;
      code_max += static_cast<uint64_t>(column->dictionary_.size());
      column->garbage_at_ =
          std::max(column->garbage_at_, 2 * column->dictionary_.size());
      const int object = column->dictionary_.Find(Json::EmptyObject().bytes());
      if (object >= 0) {
        column->object_code_ =
            Column::kFirstCode + static_cast<uint64_t>(object);
      }
      break;
    }
    case Column::Kind::kText: {
      uint8_t digits = 0;
      uint8_t digit_count = 0;
      absl::string_view prefix;
      if (!in->Number(&digits) || !in->Number(&digit_count) ||
          !in->Text(&prefix)) {
        return false;
      }
      auto text = TextPattern::Make(static_cast<TextPattern::Digits>(digits),
                                    std::string(prefix), digit_count);
      if (!text.has_value() || !in->Number(&column->number_.base) ||
          column->number_.base > text->number_max()) {
        return false;
      }
      column->text_ = std::make_unique<TextPattern>(*std::move(text));
      code_max = column->value_codes().last;
      break;
    }
    case Column::Kind::kNumber:
      if (!in->Number(&column->number_.base) ||
          !in->Number(&column->number_.scale) ||
          column->number_.scale > Column::kScaleMax ||
          !in->Bool(&column->number_.raw) ||
          !in->Bool(&column->number_.integral_are_integers) ||
          !in->Bool(&column->number_.decided) ||
          (column->number_.raw && column->number_.base != INT64_MIN)) {
        return false;
      }
      code_max = column->value_codes().last;
      break;
  }
  if (!Get(in, rows, &column->codes_)) return false;
  uint64_t lowest = UINT64_MAX;
  uint64_t largest = 0;
  column->codes_.ForEachSet([&](int, uint64_t code) {
    largest = std::max(largest, code);
    if (code >= Column::kFirstCode) lowest = std::min(lowest, code);
  });
  if (largest > code_max) return false;
  return column->kind_ == Column::Kind::kDictionary || lowest == UINT64_MAX ||
         lowest >= column->value_codes().first;
}

bool ShardSnapshot::Get(Reader* in, int rows, int depth, PropertyTree* tree,
                        PropertyTree::Node* node) {
  if (depth > kJsonDepthMax) return false;
  bool has_stamps = false;
  if (!in->Bool(&has_stamps)) return false;
  if (has_stamps) {
    node->stamps = std::make_unique<PropertyTree::Node::Stamps>();
    if (!Get(in, rows, &node->stamps->ticks) ||
        !Get(in, rows, &node->stamps->versions)) {
      return false;
    }
  }
  uint32_t count = 0;
  if (!in->Number(&count)) return false;
  absl::string_view last;
  for (uint32_t i = 0; i < count; ++i) {
    absl::string_view key;
    if (!in->Text(&key) || (i > 0 && key <= last)) return false;
    last = key;
    auto made = std::make_unique<PropertyTree::Node>();
    PropertyTree::Node* const child = made.get();
    child->key = std::string(key);
    child->key_size = TwinKeySize(key);
    node->children.push_back({child->key, std::move(made)});
    ++tree->node_count_;
    if (!Get(in, rows, &child->column)) return false;
    child->column.codes_.ForEachSet(
        [child](int, uint64_t) { ++child->defined_count; });
    tree->empty_count_ += child->defined_count == 0;
    if (!Get(in, rows, depth + 1, tree, child)) return false;
  }
  return true;
}

bool ShardSnapshot::GetShard(Reader* in, Shard* shard) {
  uint32_t rows = 0;
  uint32_t capacity = 0;
  if (!in->Number(&rows) || !in->Number(&capacity) ||
      capacity > static_cast<uint32_t>(kShardRowsMax) || rows > capacity ||
      capacity % 64 != 0 || !in->Number(&shard->sequence_)) {
    return false;
  }
  const int row_count = static_cast<int>(rows);
  shard->row_count_ = row_count;
  shard->capacity_ = static_cast<int>(capacity);
  if (!in->Bitmap(row_count, &shard->in_use_) ||
      !in->Bitmap(row_count, &shard->connected_) ||
      !in->Bitmap(row_count, &shard->enabled_)) {
    return false;
  }
  for (int row = 0; row < row_count; ++row) {
    if (row % Shard::kIdChunkRows == 0) {
      shard->ids_[row / Shard::kIdChunkRows] =
          std::make_unique<Shard::IdChunk>();
    }
    uint8_t size = 0;
    absl::string_view id;
    if (!in->Number(&size) || size > kDeviceIdLengthMax ||
        !in->Take(size, &id) || (size > 0) != shard->in_use_.Test(row)) {
      return false;
    }
    shard->IdAt(row) = CompactId(id);
    shard->long_id_bytes_ += shard->IdAt(row).MemoryUsage();
  }
  uint32_t free_count = 0;
  if (!in->Number(&free_count) ||
      static_cast<int>(free_count) != row_count - shard->in_use_.Count()) {
    return false;
  }
  shard->free_rows_.resize(free_count);
  if (!in->Raw(shard->free_rows_.data(), free_count * sizeof(uint16_t))) {
    return false;
  }
  RowBitmap free;
  for (const uint16_t row : shard->free_rows_) {
    if (row >= row_count || shard->in_use_.Test(row) || free.Test(row)) {
      return false;
    }
    free.Set(row);
  }
  bool ok = true;
  Shard::ForEachSystemColumn(*shard, [&](IntColumn& column) {
    ok = ok && Get(in, shard->capacity_, &column);
    for (int row = 0; ok && row < row_count; ++row) {
      ok = column.Has(row) || !shard->in_use_.Test(row);
    }
  });
  if (!ok) return false;
  for (int row = 0; row < row_count; ++row) {
    if (!shard->in_use_.Test(row)) continue;
    const int64_t digits = shard->activity_digits_.Get(row);
    if (digits < 0 || digits > kActivityDigitsMax) return false;
  }
  shard->tree_.rows_ = shard->capacity_;
  for (PropertyTree::Node& root : shard->tree_.roots_) {
    root.column.Resize(shard->capacity_);
    if (!Get(in, shard->capacity_, 0, &shard->tree_, &root)) return false;
  }
  uint32_t tenants = 0;
  if (!in->Number(&shard->retained_from_) || !in->Number(&tenants)) {
    return false;
  }
  for (uint32_t i = 0; i < tenants; ++i) {
    uint16_t row = 0;
    uint64_t arrival = 0;
    uint64_t gone = 0;
    absl::string_view id;
    if (!in->Number(&row) || !in->Number(&arrival) || !in->Number(&gone) ||
        !in->Text(&id) || id.size() > kDeviceIdLengthMax || gone <= arrival) {
      return false;
    }
    shard->former_tenants_.emplace(
        std::make_pair(row, arrival),
        Shard::FormerTenant{.gone = gone, .id = CompactId(id)});
  }
  return in->left() == 0;
}

absl::StatusOr<std::unique_ptr<Shard>> ShardSnapshot::Read(
    absl::string_view bytes) {
  Reader header(bytes);
  uint32_t magic = 0;
  uint32_t version = 0;
  uint64_t size = 0;
  uint64_t checksum = 0;
  if (!header.Number(&magic) || !header.Number(&version) ||
      !header.Number(&size) || !header.Number(&checksum)) {
    return absl::DataLossError(absl::StrCat("a shard's snapshot begins with ",
                                            kHeaderSize, " bytes; there are ",
                                            bytes.size()));
  }
  if (magic != kMagic) {
    return absl::DataLossError("byte 0: this is no snapshot of a shard");
  }
  if (version != kVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("byte 4: the snapshot's format has version ", version,
                     "; this program reads version ", kVersion));
  }
  const absl::string_view payload = bytes.substr(kHeaderSize);
  if (payload.size() != size) {
    return absl::DataLossError(
        absl::StrCat("byte 8: the snapshot should have ", size,
                     " bytes behind its header; it has ", payload.size()));
  }
  if (Checksum(payload) != checksum) {
    return absl::DataLossError(
        "byte 16: the snapshot's bytes do not add up to its checksum");
  }
  auto shard = std::make_unique<Shard>();
  Reader reader(payload);
  absl::MutexLock lock(&shard->mutex);
  if (!GetShard(&reader, shard.get())) {
    return absl::DataLossError(
        absl::StrCat("byte ", bytes.size() - reader.left(),
                     ": what is before it is not what a shard holds"));
  }
  return shard;
}

}  // namespace muster
