#include "engine/twin/shard.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "engine/model/error.h"
#include "engine/model/instant.h"
#include "engine/model/limits.h"
#include "engine/twin/stamps.h"

namespace muster {
namespace {

// What malloc adds to a block.
constexpr size_t kBlockOverhead = 16;

size_t HeapBytes(const PackedTwin& twin, const CompactId& id) {
  return twin.MemoryUsage() + kBlockOverhead +
         (id.MemoryUsage() > 0 ? id.MemoryUsage() + kBlockOverhead : 0);
}

absl::Status WrongVersion(absl::string_view section, int64_t wanted,
                          int64_t current) {
  return MakeError(
      ErrorCode::kPreconditionFailed,
      absl::StrCat(section, ".$version: the update is for ", wanted,
                   ", the twin has ", current));
}

// A section before and after an update of it.
struct Update {
  std::string bytes;
  Stamp base;
  std::string stamps;  // The overlay.
};

// But for `$version`, which every stored property section has.
bool HasNoMembers(JsonView section) {
  const auto members = section.members();
  auto second = members.begin();
  return ++second == members.end();
}

// Merges or replaces a property section that holds `$version`.
absl::StatusOr<Update> UpdateSection(absl::string_view name, JsonView section,
                                     JsonView patch, bool replace, Stamp base,
                                     absl::string_view stamps, Stamp stamp,
                                     int64_t version) {
  Update update;
  // A section without members has no node but itself, and that is touched.
  const bool anew = replace || !patch.is_object() || HasNoMembers(section);
  const Json content =
      replace ? ReplaceSection(patch) : MergeSection(section, patch);
  absl::Status status =
      ValidateSection(name, content.view(), kTwinPropertiesSizeMax);
  if (!status.ok()) return status;
  update.bytes = SectionWithVersion(content.view(), version);
  update.base = anew ? stamp : base;
  if (!anew) update.stamps = MergeStamps(stamps, section, patch, stamp);
  return update;
}

}  // namespace

absl::string_view Shard::DeviceIdAt(int row, uint64_t cut) const {
  MUSTER_CHECK(row < row_count_);
  const Row& r = At(row);
  if (r.in_use() && r.arrival <= cut) return r.id.view();
  // The last tenant that arrived by the cut.
  auto after = former_tenants_.upper_bound({static_cast<uint16_t>(row), cut});
  MUSTER_CHECK(after != former_tenants_.begin());
  --after;
  MUSTER_CHECK(after->first.first == row && cut < after->second.gone);
  return after->second.id.view();
}

void Shard::RetainCutsFrom(uint64_t cut) {
  retained_from_ = std::max(retained_from_, cut);
  for (auto it = former_tenants_.begin(); it != former_tenants_.end();) {
    it = it->second.gone <= retained_from_ ? former_tenants_.erase(it)
                                           : std::next(it);
  }
}

TwinWrite Shard::StateOf(int row) const {
  const PackedTwin& twin = Used(row).twin;
  TwinWrite write;
  write.etag = twin.etag;
  write.version = twin.version;
  write.desired_version = twin.desired_version();
  write.reported_version = twin.reported_version();
  write.connected = twin.connected;
  write.enabled = twin.enabled;
  return write;
}

void Shard::Match(const Condition& condition, RowBitmap* rows) const {
  *rows = RowBitmap();
  TwinDocument document;
  const auto candidates = condition.Candidates(Root::kDeviceId);
  absl::flat_hash_set<absl::string_view> named;
  if (candidates.has_value()) {
    named.insert(candidates->begin(), candidates->end());
    if (named.empty()) return;
  }
  const bool all = condition.matches_all();
  for (int first = 0; first < row_count_; first += kChunkRows) {
    const Chunk& chunk = *chunks_[first / kChunkRows];
    const int count = std::min(kChunkRows, row_count_ - first);
    for (int i = 0; i < count; ++i) {
      // Memory is slower than evaluation: ask for what comes a few rows on.
      constexpr int kAhead = 6;
      if (i + kAhead < count) chunk[i + kAhead].twin.Prefetch();
      const Row& row = chunk[i];
      if (!row.in_use()) continue;
      if (!all) {
        if (!named.empty() && !named.contains(row.id.view())) continue;
        document.Reset(row.id.view(), &row.twin);
        if (!condition.Matches(document)) continue;
      }
      rows->Set(first + i);
    }
  }
}

absl::StatusOr<TwinWrite> Shard::ApplyPatch(int row, const TwinPatch& patch,
                                            absl::Time now) {
  return Change(row, patch, /*replace=*/false, now);
}

absl::StatusOr<TwinWrite> Shard::Change(int row, const TwinPatch& patch,
                                        bool replace, absl::Time now) {
  MUSTER_DCHECK(Used(row).in_use());
  Row& r = At(row);
  if (patch.tags.is_undefined() && patch.desired.is_undefined()) {
    return StateOf(row);
  }
  TwinParts parts = r.twin.parts();
  Json tags;
  if (!patch.tags.is_undefined()) {
    const JsonView part = patch.tags.view();
    tags = replace ? ReplaceSection(part) : MergeSection(r.twin.tags(), part);
    absl::Status status = ValidateSection("tags", tags.view(), kTwinTagsSizeMax);
    if (!status.ok()) return status;
    parts.tags = tags.bytes();
  }
  absl::StatusOr<Update> desired;
  if (!patch.desired.is_undefined()) {
    const int64_t version = r.twin.desired_version();
    const int64_t next = NextVersion(version);
    if (patch.desired_version.value_or(version) != version) {
      return WrongVersion("properties.desired", *patch.desired_version,
                          version);
    }
    desired = UpdateSection(
        "properties.desired", r.twin.desired(), patch.desired.view(), replace,
        parts.desired_base, parts.desired_stamps,
        {.ticks = TicksFromTime(now), .version = next}, next);
    if (!desired.ok()) return desired.status();
    parts.desired = desired->bytes;
    parts.desired_base = desired->base;
    parts.desired_stamps = desired->stamps;
  }
  SetParts(&r, parts);
  ++r.twin.etag;
  r.twin.version = NextVersion(r.twin.version);
  ++sequence_;
  return StateOf(row);
}

absl::StatusOr<TwinWrite> Shard::PatchReported(int row, const TwinPatch& patch,
                                               absl::Time now) {
  MUSTER_DCHECK(Used(row).in_use());
  Row& r = At(row);
  if (patch.reported.is_undefined()) return StateOf(row);
  const int64_t version = r.twin.reported_version();
  if (patch.reported_version.value_or(version) != version) {
    return WrongVersion("properties.reported", *patch.reported_version,
                        version);
  }
  TwinParts parts = r.twin.parts();
  const int64_t ticks = TicksFromTime(now);
  absl::StatusOr<Update> reported = UpdateSection(
      "properties.reported", r.twin.reported(), patch.reported.view(),
      /*replace=*/false, parts.reported_base, parts.reported_stamps,
      {.ticks = ticks, .version = 0}, NextVersion(version));
  if (!reported.ok()) return reported.status();
  parts.reported = reported->bytes;
  parts.reported_base = reported->base;
  parts.reported_stamps = reported->stamps;
  SetParts(&r, parts);
  r.twin.last_activity_ticks = ticks;
  r.twin.last_activity_digits = 7;
  ++sequence_;
  return StateOf(row);
}

void Shard::SetParts(Row* row, const TwinParts& parts) {
  heap_bytes_ -= HeapBytes(row->twin, row->id);
  row->twin.SetParts(parts);
  heap_bytes_ += HeapBytes(row->twin, row->id);
}

int Shard::Insert(PreparedTwin twin, absl::Time now) {
  MUSTER_CHECK(has_room());
  int row = row_count_;
  if (!free_rows_.empty()) {
    row = free_rows_.back();
    free_rows_.pop_back();
  } else {
    if (row % kChunkRows == 0) {
      chunks_[row / kChunkRows] = std::make_unique<Chunk>();
    }
    ++row_count_;
  }
  Row& r = At(row);
  MUSTER_DCHECK(!r.in_use());
  r.twin = std::move(twin.twin);
  r.twin.SetBaseTicks(TicksFromTime(now));
  r.id = std::move(twin.device_id);
  r.arrival = ++sequence_;
  heap_bytes_ += HeapBytes(r.twin, r.id);
  return row;
}

void Shard::Erase(int row) {
  MUSTER_DCHECK(Used(row).in_use());
  Row& r = At(row);
  ++sequence_;
  heap_bytes_ -= HeapBytes(r.twin, r.id);
  // A cut at sequence - 1 could still name it; unless it is not retained.
  if (sequence_ > retained_from_) {
    former_tenants_.emplace(
        std::make_pair(static_cast<uint16_t>(row), r.arrival),
        FormerTenant{.gone = sequence_, .id = std::move(r.id)});
  }
  r.twin = PackedTwin();
  r.id = CompactId();
  free_rows_.push_back(static_cast<uint16_t>(row));
}

void Shard::Overwrite(int row, PreparedTwin prepared, absl::Time now) {
  MUSTER_DCHECK(Used(row).in_use());
  Row& r = At(row);
  PackedTwin twin = std::move(prepared.twin);
  // Versions and etags never come back to a value they had.
  if (!prepared.has_etag) twin.etag = r.twin.etag + 1;
  if (!prepared.has_version) twin.version = NextVersion(r.twin.version);
  if (!prepared.has_connection) twin.connected = r.twin.connected;
  if (!prepared.has_desired_version || !prepared.has_reported_version) {
    TwinParts parts = twin.parts();
    std::string desired;
    std::string reported;
    if (!prepared.has_desired_version) {
      const int64_t version = NextVersion(r.twin.desired_version());
      desired = SectionWithVersion(twin.desired(), version);
      parts.desired = desired;
      parts.desired_base.version = version;
    }
    if (!prepared.has_reported_version) {
      reported = SectionWithVersion(twin.reported(),
                                    NextVersion(r.twin.reported_version()));
      parts.reported = reported;
    }
    twin.SetParts(parts);
  }
  twin.SetBaseTicks(TicksFromTime(now));
  heap_bytes_ -= HeapBytes(r.twin, r.id);
  r.twin = std::move(twin);
  heap_bytes_ += HeapBytes(r.twin, r.id);
  ++sequence_;
}

void Shard::SetEnabled(int row, bool enabled, absl::Time now) {
  MUSTER_DCHECK(Used(row).in_use());
  Row& r = At(row);
  std::string roots;
  JsonBuilder b(&roots);
  b.BeginObject();
  constexpr absl::string_view kKey = "statusUpdateTime";
  bool written = false;
  const auto write = [&] {
    b.Key(kKey);
    b.String(FormatInstant(now));
    written = true;
  };
  for (const JsonView::Member& member : r.twin.roots().members()) {
    if (!written && member.key >= kKey) write();
    if (member.key == kKey) continue;
    b.Key(member.key);
    b.Value(member.value);
  }
  if (!written) write();
  b.EndObject();
  TwinParts parts = r.twin.parts();
  parts.roots = roots;
  SetParts(&r, parts);
  r.twin.enabled = enabled;
  ++sequence_;
}

void Shard::SetConnected(int row, bool connected, absl::Time now) {
  MUSTER_DCHECK(Used(row).in_use());
  Row& r = At(row);
  r.twin.connected = connected;
  r.twin.last_activity_ticks = TicksFromTime(now);
  r.twin.last_activity_digits = 7;
  ++sequence_;
}

size_t Shard::MemoryUsage() const {
  size_t bytes = sizeof(*this) + heap_bytes_;
  bytes += static_cast<size_t>((row_count_ + kChunkRows - 1) / kChunkRows) *
           sizeof(Chunk);
  bytes += free_rows_.capacity() * sizeof(uint16_t);
  bytes += former_tenants_.size() * 64;
  return bytes;
}

}  // namespace muster
