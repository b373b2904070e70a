#include "engine/twin/shard_snapshot.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/model/check.h"
#include "engine/model/json.h"
#include "engine/model/limits.h"
#include "engine/model/twin_patch.h"
#include "engine/twin/activity_time.h"
#include "engine/twin/identity_document.h"
#include "engine/twin/parsed_twin.h"
#include "engine/twin/snapshot_header.h"

namespace muster {
namespace {

// Counters that have room to count on.
constexpr int64_t kCounterMax = int64_t{3} << 61;
// 0001-01-01T00:00:00Z to 9999-12-31T23:59:59.9999999Z.
constexpr int64_t kTicksMin = kActivityNeverTicks;
constexpr int64_t kTicksMax = 2'534'023'007'999'999'999;
// What a number times 10^scale is at most (column.cc).
constexpr int64_t kScaledMax = int64_t{1} << 53;

struct Range {
  int64_t low, high;
};
constexpr Range kTicks = {kTicksMin, kTicksMax};
constexpr Range kVersions = {1, kTwinIntegerMax};

}  // namespace

// ------------------------------------------------------------------ header

SnapshotHeader SnapshotHeader::For(absl::string_view payload) {
  return {.version = ShardSnapshot::kVersion,
          .size = payload.size(),
          .checksum = XXH3_64bits(payload.data(), payload.size())};
}

SnapshotHeader SnapshotHeader::Read(absl::string_view bytes) {
  MUSTER_CHECK(bytes.size() >= kSize);
  SnapshotHeader header;
  static_assert(sizeof(header) == kSize);
  std::memcpy(&header, bytes.data(), kSize);
  return header;
}

std::string SnapshotHeader::Bytes() const {
  return std::string(reinterpret_cast<const char*>(this), kSize);
}

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
  out->append(SnapshotHeader::kSize, '\0');
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
  if (shard.kept_back_.Any()) writer.Bitmap(shard.kept_back_, rows);

  const absl::string_view payload =
      absl::string_view(*out).substr(begin + SnapshotHeader::kSize);
  const std::string header = SnapshotHeader::For(payload).Bytes();
  out->replace(begin, header.size(), header);
}

// ----------------------------------------------------------------- reading

namespace {

// Calls fn(row, code) for every row whose code is not 0.
template <typename Function>
void ForEachCode(const CodeArray& codes, Function fn) {
  // Nodes that no row has are cheap to write, so they must be cheap to read.
  if (codes.form() == CodeArray::Form::kConstant && codes.low() == 0) return;
  codes.ForEachSet(fn);
}

bool IsSubset(const RowBitmap& part, const RowBitmap& whole) {
  uint64_t outside = 0;
  for (size_t i = 0; i < part.words.size(); ++i) {
    outside |= part.words[i] & ~whole.words[i];
  }
  return outside == 0;
}

bool IsUtf8(absl::string_view text) {
  std::string encoded;
  JsonBuilder(&encoded).String(text);
  return IsEncodedJson(encoded);
}

bool IsEmptyObject(JsonView value) {
  return value.bytes() == Json::EmptyObject().bytes();
}

}  // namespace

class ShardSnapshot::Reader {
 public:
  explicit Reader(absl::string_view bytes) : rest_(bytes) {}

  size_t left() const { return rest_.size(); }

  // All below are false if the bytes are not what they should be.

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

  // `rows`: that the column has.
  bool Codes(int rows, CodeArray* codes);
  // Only rows of `among` may have a value; each of them has, if `each`.
  bool Ints(int rows, const RowBitmap& among, bool each, Range range,
            IntColumn* column);
  // The nodes of a section and their columns.
  bool Tree(PropertyTree::Section section, const RowBitmap& in_use,
            PropertyTree* tree);

  // Of the section that Tree() read last, by row.
  const std::vector<int64_t>& sizes() const { return sizes_; }

 private:
  // A node, while the nodes below it are read.
  struct Level {
    RowBitmap defined;  // Rows that have a value there ...
    RowBitmap objects;  // ... and that have an object there.
  };

  Level& LevelAt(int level) {
    while (static_cast<int>(levels_.size()) <= level) {
      levels_.push_back(std::make_unique<Level>());
    }
    return *levels_[static_cast<size_t>(level)];
  }
  bool Children(int level, PropertyTree::Node* node);
  bool Stamps(const RowBitmap& defined, PropertyTree::Node* node);
  bool Values(int level, PropertyTree::Node* node);
  bool Entries(int level, Dictionary* dictionary);
  bool Form(Column* column);
  // Whether a value may stand at a node.
  bool MayStand(int level, absl::string_view key, JsonView value) const;
  bool NumbersMayStand(int level, absl::string_view key,
                       const Column& column) const;

  absl::string_view rest_;

  // Of the section that is being read.
  PropertyTree* tree_ = nullptr;
  PropertyTree::Section section_ = PropertyTree::kTags;
  int rows_ = 0;
  absl::string_view root_;  // kRoots: the member that we are in.
  // 0 is the section itself, 1 its members.
  std::vector<std::unique_ptr<Level>> levels_;
  std::vector<int64_t> sizes_;
};

bool ShardSnapshot::Reader::Codes(int rows, CodeArray* codes) {
  using Form = CodeArray::Form;
  uint8_t form = 0;
  if (!Number(&form) || form > static_cast<uint8_t>(Form::k64)) {
    return false;
  }
  *codes = CodeArray();
  codes->size_ = static_cast<uint16_t>(rows);
  switch (static_cast<Form>(form)) {
    case Form::kConstant:
      return Number(&codes->low_);
    case Form::kSparse: {
      uint8_t width = 0;
      uint16_t count = 0;
      if (!Number(&width) || width < static_cast<uint8_t>(Form::k8) ||
          width > static_cast<uint8_t>(Form::k64) || !Number(&count) ||
          count > codes->SparseMax()) {
        return false;
      }
      codes->Allocate(Form::kSparse, static_cast<Form>(width),
                      std::max<int>(count, 1));
      codes->sparse_count_ = count;
      if (!Raw(codes->data_, count * CodeArray::WidthOf(codes->sparse_form_)) ||
          !Raw(codes->MutableSparseRows(), count * sizeof(uint16_t))) {
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
      return Number(&codes->low_) && Number(&codes->high_) &&
             Raw(codes->data_, static_cast<size_t>(rows) / 8);
    default:
      codes->Allocate(static_cast<Form>(form), static_cast<Form>(form), rows);
      return Raw(codes->data_,
                 static_cast<size_t>(rows) * CodeArray::WidthOf(codes->form_));
  }
}

bool ShardSnapshot::Reader::Ints(int rows, const RowBitmap& among, bool each,
                                 Range range, IntColumn* column) {
  if (!Number(&column->base_) || !Codes(rows, &column->codes_)) return false;
  // Distances from the base that lead to no integer would wrap around.
  const uint64_t distance_max =
      static_cast<uint64_t>(INT64_MAX) - static_cast<uint64_t>(column->base_);
  int count = 0;
  bool ok = true;
  ForEachCode(column->codes_, [&](int row, uint64_t code) {
    ++count;
    const int64_t value = column->ValueOf(code);
    ok = ok && among.Test(row) && code - IntColumn::kFirst <= distance_max &&
         range.low <= value && value <= range.high;
  });
  return ok && (!each || count == among.Count());
}

bool ShardSnapshot::Reader::MayStand(int level, absl::string_view key,
                                     JsonView value) const {
  if (value.is_object() && !IsEmptyObject(value)) return false;
  if (section_ != PropertyTree::kRoots) {
    return !value.is_null() && ValidateTwinMember(key, value, level).ok();
  }
  if (level == 1) {
    return key == kIdentityRoot ? ValidateIdentityRoot(value).ok()
                                : ValidateTwinRoot(key, value).ok();
  }
  if (level > 2) return true;
  std::string bytes;
  JsonBuilder builder(&bytes);
  builder.BeginObject();
  builder.Key(key);
  builder.Value(value);
  builder.EndObject();
  return ValidateTwinRoot(root_, JsonView::FromEncoded(bytes.data())).ok();
}

bool ShardSnapshot::Reader::Entries(int level, Dictionary* dictionary) {
  uint32_t size = 0;
  if (!Number(&size) || size > Dictionary::kSizeMax ||
      left() < size * sizeof(uint32_t)) {
    return false;
  }
  dictionary->ends_.resize(size);
  absl::string_view bytes;
  if (!Raw(dictionary->ends_.data(), size * sizeof(uint32_t)) ||
      !Text(&bytes)) {
    return false;
  }
  size_t begin = 0;
  for (const uint32_t end : dictionary->ends_) {
    if (end < begin || end > bytes.size() ||
        !IsEncodedJson(bytes.substr(begin, end - begin),
                       std::max(kJsonDepthMax - level - 1, 0)) ||
        JsonView::FromEncoded(bytes.data() + begin).is_null()) {
      return false;
    }
    begin = end;
  }
  if (begin != bytes.size()) return false;
  dictionary->bytes_.assign(bytes.data(), bytes.size());
  size_t slots = size == 0 ? 0 : 8;
  while (size * size_t{5} > slots * 4) slots *= 2;
  if (slots > 0) dictionary->Rehash(slots);
  // No value is there twice.
  for (int i = 0; i < dictionary->size(); ++i) {
    if (dictionary->Find(dictionary->bytes_at(i)) != i) return false;
  }
  return true;
}

// What codes mean, if it is not a dictionary.
bool ShardSnapshot::Reader::Form(Column* column) {
  if (column->kind_ == Column::Kind::kText) {
    uint8_t digits = 0;
    uint8_t digit_count = 0;
    absl::string_view prefix;
    if (!Number(&digits) || !Number(&digit_count) || !Text(&prefix)) {
      return false;
    }
    if (!IsUtf8(prefix)) return false;
    auto text = TextPattern::Make(static_cast<TextPattern::Digits>(digits),
                                  std::string(prefix), digit_count);
    if (!text.has_value() || !Number(&column->number_.base) ||
        column->number_.base > text->number_max()) {
      return false;
    }
    column->text_ = std::make_unique<TextPattern>(*std::move(text));
    return true;
  }
  Column::NumberForm& form = column->number_;
  return Number(&form.base) && Number(&form.scale) &&
         form.scale <= Column::kScaleMax && Bool(&form.raw) &&
         Bool(&form.integral_are_integers) && Bool(&form.decided) &&
         (form.decided || form.integral_are_integers) &&
         (form.raw ? form.base == INT64_MIN && form.scale == 0
                   : form.base <= kScaledMax);
}

// For columns that are no dictionary, and whose codes are in their range.
bool ShardSnapshot::Reader::NumbersMayStand(int level, absl::string_view key,
                                            const Column& column) const {
  const bool is_number = column.kind_ == Column::Kind::kNumber;
  // What may stand in a section is an interval of scaled numbers, so that the
  // ends are enough.
  const bool ends_only =
      section_ != PropertyTree::kRoots &&
      !(is_number && (column.number_.raw || !column.number_.decided));
  CellBuffer buffer;
  const auto may_stand = [&](uint64_t code) {
    const JsonView value = column.ValueOf(code, &buffer);
    // An integral number would have decided how such numbers are written.
    if (is_number && !column.number_.decided && value.is_integer()) {
      return false;
    }
    return MayStand(level, key, value);
  };
  bool ok = true;
  uint64_t lowest = UINT64_MAX;
  uint64_t largest = 0;
  uint64_t last = Column::kNullCode;
  ForEachCode(column.codes_, [&](int, uint64_t code) {
    if (code < Column::kFirstCode || code == last) return;
    last = code;
    lowest = std::min(lowest, code);
    largest = std::max(largest, code);
    if (!ends_only) ok = ok && may_stand(code);
  });
  if (!ends_only || lowest > largest) return ok;
  return may_stand(lowest) && may_stand(largest);
}

// Reads a node's column and enters it into LevelAt(level) and the sizes.
bool ShardSnapshot::Reader::Values(int level, PropertyTree::Node* node) {
  Column& column = node->column;
  uint8_t kind = 0;
  if (!Number(&kind) || kind > static_cast<uint8_t>(Column::Kind::kText) ||
      !Bool(&column.text_failed_)) {
    return false;
  }
  column.kind_ = static_cast<Column::Kind>(kind);
  const bool is_dictionary = column.kind_ == Column::Kind::kDictionary;
  Column::CodeSpan span;
  if (is_dictionary) {
    Dictionary& dictionary = column.dictionary_;
    if (!Entries(level, &dictionary)) return false;
    span = {Column::kFirstCode,
            Column::kNullCode + static_cast<uint64_t>(dictionary.size())};
    // A column has at most as many values in use as rows.
    column.garbage_at_ = std::max(
        column.garbage_at_, 2 * std::min(dictionary.size(), kShardRowsMax));
    const int object = dictionary.Find(Json::EmptyObject().bytes());
    if (object >= 0) {
      column.object_code_ = Column::kFirstCode + static_cast<uint64_t>(object);
    }
  } else {
    if (!Form(&column)) return false;
    span = column.value_codes();
  }
  if (!Codes(rows_, &column.codes_)) return false;

  const bool is_section = section_ != PropertyTree::kRoots;
  const bool nulls =
      !is_section && level > 1 && MayStand(level, node->key, JsonView::Null());
  Level& here = LevelAt(level);
  here = Level();
  bool ok = true;
  ForEachCode(column.codes_, [&](int row, uint64_t code) {
    ++node->defined_count;
    here.defined.Set(row);
    if (code == column.object_code_) here.objects.Set(row);
    ok = ok &&
         (code == Column::kNullCode ? nulls
                                    : span.first <= code && code <= span.last);
  });
  if (!ok) return false;
  if (!is_dictionary && !NumbersMayStand(level, node->key, column)) {
    return false;
  }
  std::vector<int64_t> entry_sizes;
  if (is_dictionary) {
    // Those that no row has any more, too.
    for (int i = 0; i < column.dictionary_.size(); ++i) {
      const JsonView value = column.dictionary_.at(i);
      if (!MayStand(level, node->key, value)) return false;
      if (is_section) {
        entry_sizes.push_back(static_cast<int64_t>(TwinValueSize(value)));
      }
    }
  }
  if (!is_section || node->defined_count == 0) return true;
  const int64_t key_size = static_cast<int64_t>(node->key_size);
  if (is_dictionary) {
    ForEachCode(column.codes_, [&](int row, uint64_t code) {
      sizes_[static_cast<size_t>(row)] +=
          key_size + entry_sizes[code - Column::kFirstCode];
    });
    return true;
  }
  // All numbers count the same, and so do all strings of a pattern.
  CellBuffer buffer;
  const int64_t size =
      key_size +
      static_cast<int64_t>(TwinValueSize(column.ValueOf(span.first, &buffer)));
  here.defined.ForEach(
      [&](int row) { sizes_[static_cast<size_t>(row)] += size; });
  return true;
}

bool ShardSnapshot::Reader::Stamps(const RowBitmap& defined,
                                   PropertyTree::Node* node) {
  bool has_stamps = false;
  if (!Bool(&has_stamps)) return false;
  if (!has_stamps) return true;
  if (section_ != PropertyTree::kDesired &&
      section_ != PropertyTree::kReported) {
    return false;
  }
  node->stamps = std::make_unique<PropertyTree::Node::Stamps>();
  IntColumn& ticks = node->stamps->ticks;
  if (!Ints(rows_, defined, /*each=*/false, kTicks, &ticks)) return false;
  RowBitmap stamped;
  ForEachCode(ticks.codes(), [&](int row, uint64_t) { stamped.Set(row); });
  // Only nodes of desired tell the version that touched them.
  if (section_ == PropertyTree::kReported) stamped = RowBitmap();
  return Ints(rows_, stamped, /*each=*/true, kVersions,
              &node->stamps->versions);
}

// Reads what follows the column of a node at `level`.
bool ShardSnapshot::Reader::Children(int level, PropertyTree::Node* node) {
  if (level > kJsonDepthMax || !Stamps(LevelAt(level).defined, node)) {
    return false;
  }
  uint32_t count = 0;
  if (!Number(&count)) return false;
  for (uint32_t i = 0; i < count; ++i) {
    absl::string_view key;
    if (!Text(&key) || !IsUtf8(key) ||
        (i > 0 && key <= absl::string_view(node->children.back().key))) {
      return false;
    }
    auto made = std::make_unique<PropertyTree::Node>();
    PropertyTree::Node* const child = made.get();
    child->key = std::string(key);
    child->key_size = TwinKeySize(key);
    node->children.push_back({child->key, std::move(made)});
    ++tree_->node_count_;
    if (section_ == PropertyTree::kRoots && level == 0) root_ = child->key;
    if (!Values(level + 1, child) ||
        !IsSubset(LevelAt(level + 1).defined, LevelAt(level).objects)) {
      return false;
    }
    tree_->empty_count_ += child->defined_count == 0;
    if (!Children(level + 1, child)) return false;
  }
  return true;
}

bool ShardSnapshot::Reader::Tree(PropertyTree::Section section,
                                 const RowBitmap& in_use, PropertyTree* tree) {
  tree_ = tree;
  section_ = section;
  rows_ = tree->rows_;
  sizes_.assign(static_cast<size_t>(rows_), 0);
  LevelAt(0) = {in_use, in_use};
  PropertyTree::Node& root = tree->roots_[section];
  root.column.Resize(rows_);
  return Children(0, &root);
}

bool ShardSnapshot::GetShard(Reader* in, Shard* shard) {
  uint32_t rows = 0;
  uint32_t capacity = 0;
  if (!in->Number(&rows) || !in->Number(&capacity) ||
      capacity > static_cast<uint32_t>(kShardRowsMax) || rows > capacity ||
      capacity % 64 != 0 || !in->Number(&shard->sequence_) ||
      shard->sequence_ > uint64_t{kCounterMax}) {
    return false;
  }
  const int row_count = static_cast<int>(rows);
  shard->row_count_ = row_count;
  shard->capacity_ = static_cast<int>(capacity);
  if (!in->Bitmap(row_count, &shard->in_use_) ||
      !in->Bitmap(row_count, &shard->connected_) ||
      !in->Bitmap(row_count, &shard->enabled_) ||
      !IsSubset(shard->connected_, shard->in_use_) ||
      !IsSubset(shard->enabled_, shard->in_use_)) {
    return false;
  }
  for (int row = 0; row < row_count; ++row) {
    if (row % Shard::kIdChunkRows == 0) {
      shard->ids_[row / Shard::kIdChunkRows] =
          std::make_unique<Shard::IdChunk>();
    }
    uint8_t size = 0;
    absl::string_view id;
    if (!in->Number(&size) || !in->Take(size, &id) ||
        (size > 0) != shard->in_use_.Test(row) ||
        (size > 0 && !ValidateDeviceId(id).ok())) {
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
  // In the order of ForEachSystemColumn().
  const Range ranges[] = {
      {1, static_cast<int64_t>(shard->sequence_)},  // Arrivals.
      {0, kCounterMax},                             // Etags.
      kVersions,
      kVersions,
      kVersions,
      kTicks,  // Activity.
      {0, kActivityDigitsMax},
      kTicks,  // Base stamps.
      {0, kTwinIntegerMax},
      kTicks,
      {0, static_cast<int64_t>(kTwinTagsSizeMax)},
      {0, static_cast<int64_t>(kTwinPropertiesSizeMax)},
      {0, static_cast<int64_t>(kTwinPropertiesSizeMax)},
  };
  bool ok = true;
  size_t next = 0;
  Shard::ForEachSystemColumn(*shard, [&](IntColumn& column) {
    shard->mutex.AssertHeld();
    ok = ok && in->Ints(shard->capacity_, shard->in_use_, /*each=*/true,
                        ranges[next++], &column);
  });
  if (!ok) return false;
  for (int row = 0; row < row_count; ++row) {
    if (!shard->in_use_.Test(row)) continue;
    // What the text of the instant would leave out.
    int64_t unit = 1;
    for (int64_t digits = shard->activity_digits_.Get(row);
         digits < kActivityDigitsMax; ++digits) {
      unit *= 10;
    }
    if (shard->activity_ticks_.Get(row) % unit != 0) return false;
  }
  shard->tree_.rows_ = shard->capacity_;
  for (int i = 0; i < PropertyTree::kSectionCount; ++i) {
    if (!in->Tree(static_cast<PropertyTree::Section>(i), shard->in_use_,
                  &shard->tree_)) {
      return false;
    }
    if (i == PropertyTree::kRoots) continue;
    for (int row = 0; row < row_count; ++row) {
      if (shard->sizes_[static_cast<size_t>(i)].GetOr(row, 0) !=
          in->sizes()[static_cast<size_t>(row)]) {
        return false;
      }
    }
  }
  uint32_t tenants = 0;
  if (!in->Number(&shard->retained_from_) || !in->Number(&tenants)) {
    return false;
  }
  int last_row = -1;
  uint64_t last_gone = 0;
  for (uint32_t i = 0; i < tenants; ++i) {
    uint16_t row = 0;
    uint64_t arrival = 0;
    uint64_t gone = 0;
    absl::string_view id;
    if (!in->Number(&row) || !in->Number(&arrival) || !in->Number(&gone) ||
        !in->Text(&id) || !ValidateDeviceId(id).ok() || row >= row_count ||
        row < last_row || arrival == 0 || gone <= arrival ||
        gone > shard->sequence_) {
      return false;
    }
    // One after the other, and then the device that is there.
    if (row == last_row && arrival <= last_gone) return false;
    if (shard->in_use_.Test(row) &&
        gone >= static_cast<uint64_t>(shard->arrivals_.Get(row))) {
      return false;
    }
    last_row = row;
    last_gone = gone;
    shard->former_tenants_.emplace(
        std::make_pair(row, arrival),
        Shard::FormerTenant{.gone = gone, .id = CompactId(id)});
  }
  if (in->left() == 0) return true;
  if (!in->Bitmap(row_count, &shard->kept_back_) || !shard->kept_back_.Any() ||
      !IsSubset(shard->kept_back_, shard->in_use_)) {
    return false;
  }
  for (int row = 0; row < row_count; ++row) {
    if (shard->kept_back_.Test(row) &&
        (shard->enabled_.Test(row) || shard->connected_.Test(row))) {
      return false;
    }
  }
  return in->left() == 0;
}

absl::StatusOr<std::unique_ptr<Shard>> ShardSnapshot::Read(
    absl::string_view bytes) {
  if (bytes.size() < SnapshotHeader::kSize) {
    return absl::DataLossError(
        absl::StrCat("a shard's snapshot begins with ", SnapshotHeader::kSize,
                     " bytes; there are ", bytes.size()));
  }
  const SnapshotHeader header = SnapshotHeader::Read(bytes);
  if (header.magic != SnapshotHeader::kMagic) {
    return absl::DataLossError("byte 0: this is no snapshot of a shard");
  }
  if (header.version < kVersionOldest || header.version > kVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        "byte 4: the snapshot's format has version ", header.version,
        "; this program reads versions ", kVersionOldest, " to ", kVersion));
  }
  const absl::string_view payload = bytes.substr(SnapshotHeader::kSize);
  if (payload.size() != header.size) {
    return absl::DataLossError(
        absl::StrCat("byte 8: the snapshot should have ", header.size,
                     " bytes behind its header; it has ", payload.size()));
  }
  if (XXH3_64bits(payload.data(), payload.size()) != header.checksum) {
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
