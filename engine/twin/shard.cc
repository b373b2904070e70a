#include "engine/twin/shard.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "engine/model/error.h"
#include "engine/model/instant.h"
#include "engine/query/document.h"
#include "engine/twin/activity_time.h"
#include "engine/twin/etag.h"
#include "engine/twin/twin_document.h"

namespace muster {
namespace {

constexpr absl::string_view kSectionNames[] = {"tags", "properties.desired",
                                               "properties.reported"};
constexpr size_t kSizesMax[] = {kTwinTagsSizeMax, kTwinPropertiesSizeMax,
                                kTwinPropertiesSizeMax};

// Members of every twin's document, given or not (contract 6.1).
constexpr absl::string_view kStatusUpdateTime = "statusUpdateTime";
constexpr absl::string_view kDeviceEtag = "deviceEtag";
constexpr absl::string_view kMessageCount = "cloudToDeviceMessageCount";

absl::Status WrongVersion(absl::string_view section, int64_t wanted,
                          int64_t current) {
  return MakeError(ErrorCode::kPreconditionFailed,
                   absl::StrCat(section, ".$version: the update is for ",
                                wanted, ", the twin has ", current));
}

JsonView StringView(absl::string_view text, std::string* bytes) {
  bytes->clear();
  JsonBuilder(bytes).String(text);
  return JsonView::FromEncoded(bytes->data());
}

// Views that live for ever.
JsonView Literal(absl::string_view text) {
  const auto make = [](absl::string_view t) {
    return new Json(*ParseJson(absl::StrCat("\"", t, "\"")));
  };
  static const Json* const kEnabled = make("enabled");
  static const Json* const kDisabled = make("disabled");
  static const Json* const kConnected = make("Connected");
  static const Json* const kDisconnected = make("Disconnected");
  return (text == "enabled"     ? kEnabled
          : text == "disabled"  ? kDisabled
          : text == "Connected" ? kConnected
                                : kDisconnected)
      ->view();
}

JsonView EmptyObject() {
  static const Json* const kEmpty = new Json(Json::EmptyObject());
  return kEmpty->view();
}

// At most so many bytes of a section's size for each byte of packed JSON: a
// number takes 2 bytes at least and counts as 8, a boolean takes 1 and counts
// as 4.
constexpr size_t kSizePerByte = 4;

}  // namespace

absl::string_view Shard::DeviceIdAt(int row, uint64_t cut) const {
  MUSTER_CHECK(row < row_count_);
  if (IsPresent(row, cut)) return IdAt(row).view();
  // The last tenant that arrived by the cut.
  auto after = former_tenants_.upper_bound({static_cast<uint16_t>(row), cut});
  MUSTER_CHECK(after != former_tenants_.begin());
  --after;
  MUSTER_CHECK(after->first.first == row && cut < after->second.gone);
  return after->second.id.view();
}

bool Shard::HadDeviceAt(int row, uint64_t cut) const {
  if (row >= row_count_ || cut > sequence_) return false;
  if (IsPresent(row, cut)) return true;
  auto after = former_tenants_.upper_bound({static_cast<uint16_t>(row), cut});
  if (after == former_tenants_.begin()) return false;
  --after;
  return after->first.first == row && cut < after->second.gone;
}

int Shard::FormerRowOf(absl::string_view device_id, uint64_t cut) const {
  for (const auto& [place, tenant] : former_tenants_) {
    if (place.second <= cut && cut < tenant.gone &&
        tenant.id.view() == device_id) {
      return place.first;
    }
  }
  return -1;
}

void Shard::RetainCutsFrom(uint64_t cut) {
  retained_from_ = std::max(retained_from_, cut);
  for (auto it = former_tenants_.begin(); it != former_tenants_.end();) {
    it = it->second.gone <= retained_from_ ? former_tenants_.erase(it)
                                           : std::next(it);
  }
}

TwinWrite Shard::StateOf(int row) const {
  Used(row);
  TwinWrite write;
  write.etag = static_cast<uint64_t>(etags_.Get(row));
  write.version = versions_.Get(row);
  write.desired_version = desired_versions_.Get(row);
  write.reported_version = reported_versions_.Get(row);
  write.connected = connected_.Test(row);
  write.enabled = enabled_.Test(row);
  return write;
}

// ------------------------------------------------------------------ updates

absl::Status Shard::CheckPaths(PropertyTree::Section section, JsonView part) {
  if (tree_.node_count() < kShardPathsMax || !part.is_object() ||
      !tree_.MakesNodes(section, part)) {
    return absl::OkStatus();
  }
  if (tree_.has_empty_nodes()) {
    tree_.Prune();
    if (tree_.node_count() < kShardPathsMax) return absl::OkStatus();
  }
  return MakeError(
      ErrorCode::kThrottlingException,
      absl::StrCat(kSectionNames[section],
                   ": it has names that are new, and the twins beside this one "
                   "have ",
                   tree_.node_count(), " different paths among them; at most ",
                   kShardPathsMax, " are allowed"));
}

absl::Status Shard::CheckPaths(const ParsedTwin& twin) {
  absl::Status status = CheckPaths(PropertyTree::kTags, twin.tags);
  if (status.ok()) status = CheckPaths(PropertyTree::kDesired, twin.desired);
  if (status.ok()) status = CheckPaths(PropertyTree::kReported, twin.reported);
  return status;
}

absl::Status Shard::CheckSize(PropertyTree::Section section, int row,
                              JsonView part, bool replace) const {
  if (!part.is_object()) return absl::OkStatus();
  const int64_t before = replace ? 0 : sizes_[section].Get(row);
  const size_t size_max = kSizesMax[section];
  if (static_cast<size_t>(before) + kSizePerByte * part.bytes().size() <=
      size_max) {
    return absl::OkStatus();
  }
  const size_t size =
      replace
          ? TwinValueSize(part)
          : static_cast<size_t>(before + tree_.SizeOfMerge(section, row, part));
  if (size <= size_max) return absl::OkStatus();
  return SectionTooLarge(kSectionNames[section], size, size_max);
}

void Shard::Update(PropertyTree::Section section, int row, JsonView part,
                   bool replace, const Stamp& stamp) {
  // A section without members has no node but itself, and that is touched.
  const bool anew =
      replace || !part.is_object() || !tree_.HasMembers(section, row);
  if (!anew) {
    sizes_[section].Set(
        row, sizes_[section].Get(row) + tree_.Merge(section, row, part, stamp));
    return;
  }
  tree_.Clear(section, row);
  tree_.Put(section, row, part);
  sizes_[section].Set(row, static_cast<int64_t>(TwinValueSize(part)));
  if (section == PropertyTree::kDesired) {
    desired_base_ticks_.Set(row, stamp.ticks);
    desired_base_versions_.Set(row, stamp.version);
  } else if (section == PropertyTree::kReported) {
    reported_base_ticks_.Set(row, stamp.ticks);
  }
}

absl::StatusOr<TwinWrite> Shard::Change(int row, const TwinPatch& patch,
                                        bool replace, absl::Time now) {
  Used(row);
  const bool has_tags = !patch.tags.is_undefined();
  const bool has_desired = !patch.desired.is_undefined();
  if (!has_tags && !has_desired) return StateOf(row);
  absl::Status status = CheckPaths(PropertyTree::kTags, patch.tags.view());
  if (status.ok()) {
    status = CheckPaths(PropertyTree::kDesired, patch.desired.view());
  }
  if (status.ok() && has_tags) {
    status = CheckSize(PropertyTree::kTags, row, patch.tags.view(), replace);
  }
  const int64_t version = desired_versions_.Get(row);
  if (status.ok() && has_desired) {
    if (patch.desired_version.value_or(version) != version) {
      return WrongVersion("properties.desired", *patch.desired_version,
                          version);
    }
    status =
        CheckSize(PropertyTree::kDesired, row, patch.desired.view(), replace);
  }
  if (!status.ok()) return status;
  if (has_tags) {
    Update(PropertyTree::kTags, row, patch.tags.view(), replace, Stamp());
  }
  if (has_desired) {
    const int64_t next = NextVersion(version);
    desired_versions_.Set(row, next);
    Update(PropertyTree::kDesired, row, patch.desired.view(), replace,
           {.ticks = TicksFromTime(now), .version = next});
  }
  etags_.Set(row, etags_.Get(row) + 1);
  versions_.Set(row, NextVersion(versions_.Get(row)));
  ++sequence_;
  return StateOf(row);
}

void Shard::FindNearlyFull(PropertyTree::Section section, RowSpan rows,
                           JsonView part, RowBitmap* full) const {
  const int64_t most = static_cast<int64_t>(kSizesMax[section]) -
                       static_cast<int64_t>(kSizePerByte * part.bytes().size());
  const IntColumn& sizes = sizes_[section];
  sizes.codes().ForEachOf(rows, [&](size_t i, uint64_t code) {
    if (sizes.ValueOf(code) > most) full->Set(rows[i]);
  });
}

void Shard::UpdateRows(PropertyTree::Section section, RowSpan rows,
                       JsonView part, int64_t ticks,
                       absl::Span<const int64_t> versions) {
  if (rows.empty()) return;
  std::vector<int64_t> grown(rows.size(), 0);
  std::vector<uint16_t> empty;
  tree_.FindEmpty(section, rows, &empty);
  if (!empty.empty() && empty.size() < rows.size()) {
    // Two kinds of rows, each on its own.
    std::vector<uint16_t> others;
    std::vector<int64_t> their_versions[2];
    size_t next = 0;
    for (size_t i = 0; i < rows.size(); ++i) {
      const bool is_empty = next < empty.size() && empty[next] == rows[i];
      next += is_empty;
      if (!is_empty) others.push_back(rows[i]);
      if (!versions.empty()) their_versions[is_empty].push_back(versions[i]);
    }
    UpdateRows(section, others, part, ticks, their_versions[0]);
    UpdateRows(section, empty, part, ticks, their_versions[1]);
    return;
  }
  IntColumn& sizes = sizes_[section];
  if (empty.empty()) {
    tree_.MergeRows(section, rows, part, /*stamped=*/true, ticks, versions,
                    absl::MakeSpan(grown));
    for (size_t i = 0; i < rows.size(); ++i) {
      if (grown[i] != 0) sizes.Set(rows[i], sizes.Get(rows[i]) + grown[i]);
    }
    return;
  }
  // A section without members has no node but itself, and that is touched.
  for (const uint16_t row : rows) tree_.Clear(section, row);
  tree_.MergeRows(section, rows, part, /*stamped=*/false, ticks, {},
                  absl::MakeSpan(grown));
  sizes.SetRows(rows, static_cast<int64_t>(TwinValueSize(part)));
  if (section == PropertyTree::kDesired) {
    desired_base_ticks_.SetRows(rows, ticks);
    for (size_t i = 0; i < rows.size(); ++i) {
      desired_base_versions_.Set(rows[i], versions[i]);
    }
  }
}

std::vector<Shard::RowError> Shard::ApplyPatch(RowSpan rows,
                                               const TwinPatch& patch,
                                               absl::Time now) {
  std::vector<RowError> errors;
  const JsonView tags = patch.tags.view();
  const JsonView desired = patch.desired.view();
  if (tags.is_undefined() && desired.is_undefined()) return errors;

  // Rows that are not like most go one by one; all, if they are few, if a
  // section is cleared, or if paths may run out on the way.
  constexpr size_t kFew = 4;
  RowBitmap odd;
  size_t paths = static_cast<size_t>(tree_.node_count());
  bool one_by_one = rows.size() < kFew;
  for (const JsonView part : {tags, desired}) {
    one_by_one |= part.is_null();
    paths += part.bytes().size();
  }
  one_by_one |= paths >= static_cast<size_t>(kShardPathsMax);
  if (one_by_one) {
    for (const uint16_t row : rows) odd.Set(row);
  } else {
    if (tags.is_object()) {
      FindNearlyFull(PropertyTree::kTags, rows, tags, &odd);
      tree_.FindOdd(PropertyTree::kTags, rows, tags, &odd);
    }
    if (desired.is_object()) {
      FindNearlyFull(PropertyTree::kDesired, rows, desired, &odd);
      tree_.FindOdd(PropertyTree::kDesired, rows, desired, &odd);
      if (patch.desired_version.has_value()) {
        for (const uint16_t row : rows) {
          if (desired_versions_.Get(row) != *patch.desired_version) {
            odd.Set(row);
          }
        }
      }
    }
  }
  std::vector<uint16_t> alike;
  alike.reserve(rows.size());
  for (const uint16_t row : rows) {
    Used(row);
    if (!odd.Test(row)) {
      alike.push_back(row);
      continue;
    }
    absl::StatusOr<TwinWrite> write =
        Change(row, patch, /*replace=*/false, now);
    if (!write.ok()) errors.push_back({row, write.status()});
  }

  if (tags.is_object()) UpdateRows(PropertyTree::kTags, alike, tags, 0, {});
  if (desired.is_object()) {
    desired_versions_.IncrementRows(alike, kTwinIntegerMax);
    std::vector<int64_t> versions;
    versions.reserve(alike.size());
    desired_versions_.codes().ForEachOf(alike, [&](size_t, uint64_t code) {
      mutex.AssertReaderHeld();
      versions.push_back(desired_versions_.ValueOf(code));
    });
    UpdateRows(PropertyTree::kDesired, alike, desired, TicksFromTime(now),
               versions);
  }
  etags_.IncrementRows(alike, INT64_MAX);
  versions_.IncrementRows(alike, kTwinIntegerMax);
  sequence_ += alike.size();
  return errors;
}

absl::StatusOr<TwinWrite> Shard::PatchReported(int row, const TwinPatch& patch,
                                               absl::Time now) {
  Used(row);
  if (patch.reported.is_undefined()) return StateOf(row);
  const int64_t version = reported_versions_.Get(row);
  if (patch.reported_version.value_or(version) != version) {
    return WrongVersion("properties.reported", *patch.reported_version,
                        version);
  }
  absl::Status status =
      CheckPaths(PropertyTree::kReported, patch.reported.view());
  if (status.ok()) {
    status = CheckSize(PropertyTree::kReported, row, patch.reported.view(),
                       /*replace=*/false);
  }
  if (!status.ok()) return status;
  const int64_t ticks = TicksFromTime(now);
  Update(PropertyTree::kReported, row, patch.reported.view(),
         /*replace=*/false, {.ticks = ticks, .version = 0});
  reported_versions_.Set(row, NextVersion(version));
  activity_ticks_.Set(row, ticks);
  activity_digits_.Set(row, kActivityDigitsMax);
  ++sequence_;
  return StateOf(row);
}

void Shard::SetEnabled(int row, bool enabled, absl::Time now) {
  Used(row);
  std::string bytes;
  tree_.PutMember(PropertyTree::kRoots, row, kStatusUpdateTime,
                  StringView(FormatInstant(now), &bytes));
  if (HasIdentity(row)) {
    const std::string etag = NextDeviceEtag(IdentityOf(row).etag);
    tree_.PutMember(PropertyTree::kRoots, row, kDeviceEtag,
                    StringView(etag, &bytes));
  }
  enabled ? enabled_.Set(row) : enabled_.Clear(row);
  FollowStatus(row, now);
  ++sequence_;
}

void Shard::SetLink(int row, uint64_t link) {
  const size_t at = static_cast<size_t>(row);
  if (at >= links_.size()) {
    if (link == 0) return;
    links_.resize(static_cast<size_t>(capacity_), 0);
  }
  links_[at] = link;
}

void Shard::SetConnectionTime(int row, absl::Time now) {
  const size_t at = static_cast<size_t>(row);
  if (at >= connection_ticks_.size()) {
    connection_ticks_.resize(static_cast<size_t>(capacity_),
                             kActivityNeverTicks);
  }
  connection_ticks_[at] = TicksFromTime(now);
}

void Shard::FollowStatus(int row, absl::Time now) {
  const bool is_enabled = enabled_.Test(row);
  RowBitmap& from = is_enabled ? kept_back_ : connected_;
  if (!from.Test(row)) return;
  from.Clear(row);
  (is_enabled ? connected_ : kept_back_).Set(row);
  SetConnectionTime(row, now);
}

void Shard::SetConnected(int row, bool connected, uint64_t link,
                         absl::Time now) {
  Used(row);
  SetLink(row, connected ? link : 0);
  if (!enabled_.Test(row)) {
    // A document may have said Connected of it.
    if (connected_.Test(row)) SetConnectionTime(row, now);
    connected_.Clear(row);
    connected ? kept_back_.Set(row) : kept_back_.Clear(row);
    ++sequence_;
    return;
  }
  connected ? connected_.Set(row) : connected_.Clear(row);
  SetConnectionTime(row, now);
  activity_ticks_.Set(row, TicksFromTime(now));
  activity_digits_.Set(row, kActivityDigitsMax);
  ++sequence_;
}

// ------------------------------------------------------------- whole twins

void Shard::Grow(int rows) {
  capacity_ = rows;
  ForEachSystemColumn(*this,
                      [rows](IntColumn& column) { column.Resize(rows); });
  tree_.Resize(rows);
}

void Shard::Fill(int row, const ParsedTwin& twin, const Versions& versions,
                 bool connected, absl::Time now) {
  const int64_t ticks = TicksFromTime(now);
  tree_.Put(PropertyTree::kTags, row, twin.tags);
  tree_.Put(PropertyTree::kDesired, row, twin.desired);
  tree_.Put(PropertyTree::kReported, row, twin.reported);
  bool has_update_time = false;
  bool has_message_count = false;
  size_t hint = 0;
  for (const ParsedTwin::Root& root : twin.roots) {
    tree_.AddMember(PropertyTree::kRoots, row, root.name, root.value, &hint);
    has_update_time |= root.name == kStatusUpdateTime;
    has_message_count |= root.name == kMessageCount;
  }
  CellBuffer buffer;
  if (!has_update_time) {
    static const Json* const kNever = new Json(*ParseJson(
        absl::StrCat("\"", ActivityText(kActivityNeverTicks, 0), "\"")));
    tree_.AddMember(PropertyTree::kRoots, row, kStatusUpdateTime,
                    kNever->view(), &hint);
  }
  if (!has_message_count) {
    EncodeJsonInteger(0, buffer.bytes);
    tree_.AddMember(PropertyTree::kRoots, row, kMessageCount,
                    JsonView::FromEncoded(buffer.bytes), &hint);
  }
  sizes_[PropertyTree::kTags].Set(row, static_cast<int64_t>(twin.tags_size));
  sizes_[PropertyTree::kDesired].Set(row,
                                     static_cast<int64_t>(twin.desired_size));
  sizes_[PropertyTree::kReported].Set(row,
                                      static_cast<int64_t>(twin.reported_size));
  etags_.Set(row, static_cast<int64_t>(versions.etag));
  versions_.Set(row, versions.version);
  desired_versions_.Set(row, versions.desired);
  reported_versions_.Set(row, versions.reported);
  desired_base_ticks_.Set(row, ticks);
  desired_base_versions_.Set(row, versions.desired_base);
  reported_base_ticks_.Set(row, ticks);
  activity_ticks_.Set(row, twin.last_activity_ticks);
  activity_digits_.Set(row, twin.last_activity_digits);
  connected ? connected_.Set(row) : connected_.Clear(row);
  twin.enabled ? enabled_.Set(row) : enabled_.Clear(row);
}

int Shard::Insert(const ParsedTwin& twin, absl::Time now) {
  MUSTER_CHECK(size() < kShardRowsMax);
  int row = row_count_;
  if (!free_rows_.empty()) {
    row = free_rows_.back();
    free_rows_.pop_back();
  } else {
    if (row % kIdChunkRows == 0) {
      ids_[row / kIdChunkRows] = std::make_unique<IdChunk>();
    }
    if (row == capacity_) {
      Grow(std::min(std::max(64, capacity_ * 2), kShardRowsMax));
    }
    ++row_count_;
  }
  MUSTER_DCHECK(!in_use_.Test(row));
  IdAt(row) = CompactId(twin.device_id);
  long_id_bytes_ += IdAt(row).MemoryUsage();
  in_use_.Set(row);
  arrivals_.Set(row, static_cast<int64_t>(++sequence_));
  const int64_t desired = twin.desired_version.value_or(1);
  const bool is_untouched = desired == 1 && !twin.has_desired_members;
  Fill(row, twin,
       {.etag = twin.etag.value_or(1),
        .version = twin.version.value_or(1),
        .desired = desired,
        // A section as every twin begins with was touched by no version yet.
        .desired_base = is_untouched ? 0 : desired,
        .reported = twin.reported_version.value_or(1)},
       twin.connected.value_or(false), now);
  return row;
}

void Shard::Erase(int row) {
  Used(row);
  ++sequence_;
  const uint64_t arrival = static_cast<uint64_t>(arrivals_.Get(row));
  long_id_bytes_ -= IdAt(row).MemoryUsage();
  // A cut at sequence - 1 could still name it; unless it is not retained.
  if (sequence_ > retained_from_) {
    former_tenants_.emplace(
        std::make_pair(static_cast<uint16_t>(row), arrival),
        FormerTenant{.gone = sequence_, .id = std::move(IdAt(row))});
  }
  IdAt(row) = CompactId();
  for (int section = 0; section < PropertyTree::kSectionCount; ++section) {
    tree_.Clear(static_cast<PropertyTree::Section>(section), row);
  }
  ForEachSystemColumn(*this, [row](IntColumn& column) { column.Clear(row); });
  in_use_.Clear(row);
  connected_.Clear(row);
  // Of the device, not of whoever comes to its row.
  SetLink(row, 0);
  kept_back_.Clear(row);
  const size_t at = static_cast<size_t>(row);
  if (at < connection_ticks_.size()) {
    connection_ticks_[at] = kActivityNeverTicks;
  }
  enabled_.Clear(row);
  free_rows_.push_back(static_cast<uint16_t>(row));
}

void Shard::Overwrite(int row, const ParsedTwin& twin, absl::Time now) {
  Used(row);
  // Versions and etags never come back to a value they had.
  const int64_t desired =
      twin.desired_version.value_or(NextVersion(desired_versions_.Get(row)));
  const bool is_untouched =
      twin.desired_version == 1 && !twin.has_desired_members;
  const Versions versions = {
      .etag = twin.etag.value_or(static_cast<uint64_t>(etags_.Get(row)) + 1),
      .version = twin.version.value_or(NextVersion(versions_.Get(row))),
      .desired = desired,
      .desired_base = is_untouched ? 0 : desired,
      .reported = twin.reported_version.value_or(
          NextVersion(reported_versions_.Get(row)))};
  // Who has a link is connected: a document that says otherwise, such as an
  // export that comes back, is older than the connection.
  const bool keeps_connection = LinkOf(row) != 0 || !twin.connected.has_value();
  const bool connected =
      keeps_connection ? HasConnection(row) : *twin.connected;
  // What the registry has written is not a document's to change.
  const bool has_identity = HasIdentity(row);
  const Json registry_roots = has_identity ? RegistryRoots(row) : Json();
  ParsedTwin merged;
  if (has_identity) merged = WithIdentity(row, twin, registry_roots.view());
  for (int section = 0; section < PropertyTree::kSectionCount; ++section) {
    tree_.Clear(static_cast<PropertyTree::Section>(section), row);
  }
  kept_back_.Clear(row);
  Fill(row, has_identity ? merged : twin, versions, connected, now);
  if (keeps_connection) FollowStatus(row, now);
  ++sequence_;
}

void Shard::SetBaseTime(absl::Time now) {
  const int64_t ticks = TicksFromTime(now);
  std::vector<uint16_t> rows;
  rows.reserve(static_cast<size_t>(row_count_));
  for (int row = 0; row < row_count_; ++row) {
    if (in_use_.Test(row)) rows.push_back(static_cast<uint16_t>(row));
  }
  for (IntColumn* column : {&desired_base_ticks_, &reported_base_ticks_}) {
    IntColumn same;
    same.Resize(capacity_);
    same.SetRows(rows, ticks);
    *column = std::move(same);
  }
}

void Shard::Compact() {
  ForEachSystemColumn(*this, [](IntColumn& column) { column.Compact(); });
  tree_.Compact();
}

void Shard::MatchCandidates(const Condition& condition,
                            absl::Span<const TwinCandidates::Twin> candidates,
                            bool exact, RowBitmap* rows) const {
  *rows = RowBitmap();
  TwinDocument document;
  for (const TwinCandidates::Twin& twin : candidates) {
    MUSTER_DCHECK(twin.at.shard == index_);
    if (IdForTable(twin.at.row) != twin.id) continue;
    if (!exact) {
      document.Reset(this, twin.at.row);
      if (!condition.Matches(document)) continue;
    }
    rows->Set(twin.at.row);
  }
}

// ------------------------------------------------------------------- cells

Stamp Shard::BaseStamp(PropertyTree::Section section, int row) const {
  if (section == PropertyTree::kDesired) {
    return {.ticks = desired_base_ticks_.Get(row),
            .version = desired_base_versions_.Get(row)};
  }
  return {.ticks = reported_base_ticks_.Get(row), .version = 0};
}

Cells Shard::FindInTree(const PropertyTree::Node& root,
                        const Path& path) const {
  Cells cells;
  size_t taken = 0;
  const PropertyTree::Node* const node =
      PropertyTree::Find(root, path.steps, &taken);
  if (node == nullptr) return cells;
  cells.kind = Cells::Kind::kColumn;
  cells.column = &node->column;
  cells.rest = absl::MakeConstSpan(path.steps).subspan(taken);
  cells.path = &path;
  return cells;
}

Cells Shard::FindInMetadata(PropertyTree::Section section,
                            const Path& path) const {
  Cells cells;
  absl::Span<const PathStep> steps = path.steps;
  const bool is_instant = !steps.empty() && steps.back().name == "$lastUpdated";
  const bool is_version =
      !steps.empty() && steps.back().name == "$lastUpdatedVersion";
  if (is_instant || is_version) steps.remove_suffix(1);
  size_t taken = 0;
  const PropertyTree::Node& root = tree_.root(section);
  const PropertyTree::Node* const node =
      PropertyTree::Find(root, steps, &taken);
  if (node == nullptr || taken < steps.size()) return cells;
  cells.kind = is_instant ? Cells::Kind::kInstants : Cells::Kind::kComputed;
  cells.path = &path;
  if (node != &root) {
    cells.column = &node->column;
  } else if (is_instant && node->stamps == nullptr) {
    // No twin was touched since its base stamp.
    cells.ints = section == PropertyTree::kDesired ? &desired_base_ticks_
                                                   : &reported_base_ticks_;
  }
  return cells;
}

Cells Shard::FindCells(const Path& path) const {
  mutex.AssertReaderHeld();
  Cells cells;
  const absl::Span<const PathStep> steps = path.steps;
  const auto ints = [&](const IntColumn& column) {
    if (!steps.empty() && &column == &versions_) return;
    cells.kind = Cells::Kind::kInts;
    cells.ints = &column;
  };
  const auto flags = [&](const RowBitmap& bits, absl::string_view clear,
                         absl::string_view set) {
    if (!steps.empty()) return;  // Nothing is below a string.
    cells.kind = Cells::Kind::kFlags;
    cells.flags = &bits;
    cells.if_clear = Literal(clear);
    cells.if_set = Literal(set);
  };
  switch (path.root) {
    case Root::kStatus:
      flags(enabled_, "disabled", "enabled");
      return cells;
    case Root::kConnectionState:
      flags(connected_, "Disconnected", "Connected");
      return cells;
    case Root::kVersion:
      ints(versions_);
      return cells;
    case Root::kDeviceId:
    case Root::kEtag:
    case Root::kLastActivityTime:
      if (!steps.empty()) return cells;
      cells.kind = path.root == Root::kLastActivityTime
                       ? Cells::Kind::kInstants
                       : Cells::Kind::kComputed;
      if (path.root == Root::kLastActivityTime) cells.ints = &activity_ticks_;
      cells.path = &path;
      return cells;
    case Root::kTags:
    case Root::kDesired:
    case Root::kReported: {
      const PropertyTree::Section section =
          path.root == Root::kTags      ? PropertyTree::kTags
          : path.root == Root::kDesired ? PropertyTree::kDesired
                                        : PropertyTree::kReported;
      if (steps.empty()) {
        cells.kind = Cells::Kind::kConstant;
        cells.constant = EmptyObject();
        return cells;
      }
      if (section != PropertyTree::kTags && !steps[0].index.has_value() &&
          steps[0].name == "$version") {
        if (steps.size() == 1) {
          ints(section == PropertyTree::kDesired ? desired_versions_
                                                 : reported_versions_);
        }
        return cells;
      }
      // An index into the section itself is no place.
      if (steps[0].index.has_value()) return cells;
      return FindInTree(tree_.root(section), path);
    }
    case Root::kDesiredMetadata:
      return FindInMetadata(PropertyTree::kDesired, path);
    case Root::kReportedMetadata:
      return FindInMetadata(PropertyTree::kReported, path);
    case Root::kProperties:
      // Below it desired and reported are roots of their own; so it is an
      // object, and nothing else is in it.
      if (steps.empty()) {
        cells.kind = Cells::Kind::kConstant;
        cells.constant = EmptyObject();
      } else {
        cells.kind = Cells::Kind::kComputed;
        cells.path = &path;
      }
      return cells;
    default: {
      // Kept as given, by name; roots of other collections are not there.
      const PropertyTree::Node* const root = PropertyTree::Find(
          tree_.root(PropertyTree::kRoots), RootName(path.root));
      return root == nullptr ? cells : FindInTree(*root, path);
    }
  }
}

std::optional<Stamp> Shard::StampAt(const Cells& cells, int row) const {
  if (cells.column != nullptr && !cells.column->IsDefined(row)) {
    return std::nullopt;
  }
  const PropertyTree::Section section =
      cells.path->root == Root::kDesiredMetadata ? PropertyTree::kDesired
                                                 : PropertyTree::kReported;
  absl::Span<const PathStep> steps = cells.path->steps;
  steps.remove_suffix(1);
  size_t taken = 0;
  const PropertyTree::Node& node =
      *PropertyTree::Find(tree_.root(section), steps, &taken);
  return PropertyTree::StampOf(node, row).value_or(BaseStamp(section, row));
}

int64_t Shard::TicksAt(const Cells& cells, int row) const {
  mutex.AssertReaderHeld();
  if (cells.path->root == Root::kLastActivityTime) {
    return activity_ticks_.Get(row);
  }
  const std::optional<Stamp> stamp = StampAt(cells, row);
  return stamp.has_value() ? stamp->ticks : kNoTicks;
}

JsonView Shard::ValueAt(const Cells& cells, int row,
                        std::string* buffer) const {
  mutex.AssertReaderHeld();
  const Path& path = *cells.path;
  if (path.root == Root::kDeviceId) return StringView(DeviceId(row), buffer);
  if (path.root == Root::kEtag) {
    return StringView(EtagText(static_cast<uint64_t>(etags_.Get(row))), buffer);
  }
  if (path.root == Root::kLastActivityTime) {
    return StringView(ActivityText(activity_ticks_.Get(row),
                                   static_cast<int>(activity_digits_.Get(row))),
                      buffer);
  }
  if (cells.kind == Cells::Kind::kInstants) {
    const std::optional<Stamp> stamp = StampAt(cells, row);
    if (!stamp.has_value()) return JsonView();
    return StringView(FormatInstant(TimeFromTicks(stamp->ticks)), buffer);
  }
  // Of `$metadata` and of `properties`: rare, so the document answers.
  TwinDocument document;
  document.Reset(this, row);
  Json full;
  JsonView view;
  if (path.root == Root::kProperties) {
    full = document.Full();
    view = full.view().Find("properties");
  } else {
    view = document.Get(path.root);
  }
  for (const PathStep& step : path.steps) {
    view = step.index.has_value() ? view.At(*step.index) : view.Find(step.name);
  }
  if (view.is_undefined()) return view;
  buffer->assign(view.bytes().data(), view.bytes().size());
  return JsonView::FromEncoded(buffer->data());
}

size_t Shard::MemoryUsage() const {
  size_t bytes = sizeof(*this) + long_id_bytes_ + tree_.MemoryUsage();
  bytes += static_cast<size_t>((row_count_ + kIdChunkRows - 1) / kIdChunkRows) *
           sizeof(IdChunk);
  ForEachSystemColumn(*this, [&bytes](const IntColumn& column) {
    bytes += column.MemoryUsage();
  });
  bytes += free_rows_.capacity() * sizeof(uint16_t);
  bytes += links_.capacity() * sizeof(uint64_t);
  bytes += connection_ticks_.capacity() * sizeof(int64_t);
  bytes += former_tenants_.size() * 64;
  return bytes;
}

}  // namespace muster
