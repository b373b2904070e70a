#include "engine/twin/twin_index.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/twin/device_hash.h"
#include "engine/twin/etag.h"
#include "engine/twin/identity_document.h"
#include "engine/twin/twin_document.h"

namespace muster {
namespace {

absl::Status NoSuchDevice(absl::string_view device_id) {
  return MakeError(ErrorCode::kDeviceNotFound,
                   absl::StrCat("there is no device \"", device_id, "\""));
}

absl::Status CheckIdentityEtag(absl::string_view if_match,
                               const DeviceIdentity& device) {
  if (IfMatchAllows(if_match, device.etag)) return absl::OkStatus();
  return MakeError(
      ErrorCode::kPreconditionFailed,
      absl::StrCat("If-Match: the change is for the etag ", if_match,
                   ", the device has \"", device.etag, "\""));
}

void KeepAuthentication(const DeviceIdentity& before, DeviceIdentity* device) {
  device->authentication_type = before.authentication_type;
  device->primary_key = before.primary_key;
  device->secondary_key = before.secondary_key;
  device->primary_thumbprint = before.primary_thumbprint;
  device->secondary_thumbprint = before.secondary_thumbprint;
}

void FillKeys(const SymmetricKeys& keys, DeviceIdentity* device) {
  if (device->primary_key.empty()) device->primary_key = keys.primary;
  if (device->secondary_key.empty()) device->secondary_key = keys.secondary;
}

// With any other type there are no keys.
void LetKeysGo(DeviceIdentity* device) {
  if (device->authentication_type == AuthenticationType::kSas) return;
  device->primary_key.clear();
  device->secondary_key.clear();
}

}  // namespace

absl::StatusOr<std::unique_ptr<TwinIndex>> TwinIndex::Create(
    const Options& options) {
  if (options.partition_count < 1 || options.partition_count > 256) {
    return absl::InvalidArgumentError(absl::StrCat(
        "partition_count must be in [1, 256]; got ", options.partition_count));
  }
  if (options.twin_count_max < 1 || options.twin_count_max > int64_t{1} << 32) {
    return absl::InvalidArgumentError(
        absl::StrCat("twin_count_max must be in [1, 4294967296]; got ",
                     options.twin_count_max));
  }
  return std::unique_ptr<TwinIndex>(new TwinIndex(options));
}

TwinIndex::TwinIndex(const Options& options)
    : options_(options),
      partitions_(std::make_unique<Partition[]>(options.partition_count)) {}

TwinIndex::~TwinIndex() {
  const int count = shard_count();
  for (int i = 0; i < count; ++i) delete &shard(i);
  for (const std::atomic<ShardBlock*>& block : shard_blocks_) {
    delete block.load(std::memory_order_relaxed);
  }
}

// --------------------------------------------------------------- id tables

std::optional<uint32_t> TwinIndex::Partition::Find(uint64_t hash,
                                                   absl::string_view id) const {
  return ids.Find(static_cast<uint32_t>(hash), [&](uint32_t place) {
    mutex.AssertReaderHeld();
    return ShardOf(place).IdForTable(RowOf(place)) == id;
  });
}

TwinIndex::Partition& TwinIndex::PartitionOf(uint64_t hash) const {
  return partitions_[PartitionOfHash(hash, options_.partition_count)];
}

template <typename Lock, typename Result, typename Function>
Result TwinIndex::WithRow(absl::string_view device_id, Result none,
                          Function fn) const {
  const uint64_t hash = DeviceHash(device_id);
  Partition& partition = PartitionOf(hash);
  for (;;) {
    Shard* shard;
    int row;
    {
      absl::ReaderMutexLock lock(&partition.mutex);
      const std::optional<uint32_t> place = partition.Find(hash, device_id);
      if (!place.has_value()) return none;
      shard = &partition.ShardOf(*place);
      row = Partition::RowOf(*place);
    }
    // Between the locks, so that nobody who waits for a scan of the shard to
    // end keeps others from the table.  The device may go meanwhile.
    Lock lock(&shard->mutex);
    if (shard->IdForTable(row) != device_id) continue;
    return fn(*shard, row);
  }
}

// ------------------------------------------------------------------ shards

Shard& TwinIndex::shard(int index) const {
  MUSTER_DCHECK(0 <= index && index < shard_count());
  // Relaxed: shard_count() has acquired whatever is below it.
  return *(*shard_blocks_[index / kShardsPerBlock].load(
      std::memory_order_relaxed))[index % kShardsPerBlock]
              .load(std::memory_order_relaxed);
}

Shard* TwinIndex::AddShard(Partition& partition, std::unique_ptr<Shard> shard) {
  absl::MutexLock lock(&shards_mutex_);
  const int index = shard_count_.load(std::memory_order_relaxed);
  MUSTER_CHECK(index < kShardsPerBlock * kShardBlocksMax);
  std::atomic<ShardBlock*>& block = shard_blocks_[index / kShardsPerBlock];
  if (block.load(std::memory_order_relaxed) == nullptr) {
    block.store(new ShardBlock(), std::memory_order_relaxed);
  }
  shard->Place(static_cast<int>(&partition - partitions_.get()),
               static_cast<int>(partition.shards.size()), index);
  Shard* const added = shard.release();
  partition.shards.push_back(added);
  (*block.load(std::memory_order_relaxed))[index % kShardsPerBlock].store(
      added, std::memory_order_relaxed);
  // (2) Release: synchronizes-with (1), publishing the two stores above.
  shard_count_.store(index + 1, std::memory_order_release);
  return added;
}

// ------------------------------------------------------------------ writes

void TwinIndex::Notify(TwinChange::Kind kind, const Shard& shard, int row,
                       const TwinPatch* patch, const TwinWrite& after,
                       absl::Time now, JsonView document) const {
  if (options_.observer == nullptr) return;
  TwinChange change;
  change.kind = kind;
  change.partition = shard.partition();
  change.shard = shard.index();
  // The device is told of before it goes.
  change.sequence =
      shard.sequence() + (kind == TwinChange::Kind::kErased ? 1 : 0);
  change.row = row;
  if (kind != TwinChange::Kind::kLoaded) change.device_id = shard.DeviceId(row);
  change.patch = patch;
  change.after = after;
  change.time = now;
  change.document = document;
  Json full;
  if (kind == TwinChange::Kind::kUpserted) {
    TwinDocument twin;
    twin.Reset(&shard, row);
    full = twin.Full(/*with_metadata=*/false);
    change.document = full.view();
  }
  options_.observer->OnTwinChange(change);
}

absl::Status TwinIndex::Reserve(int64_t count) {
  const int64_t before = size_.fetch_add(count, std::memory_order_relaxed);
  if (before + count <= options_.twin_count_max) return absl::OkStatus();
  size_.fetch_sub(count, std::memory_order_relaxed);
  return MakeError(ErrorCode::kThrottlingException,
                   absl::StrCat("the index holds ", before, " twins; ", count,
                                " more would exceed twin_count_max, which is ",
                                options_.twin_count_max));
}

absl::StatusOr<TwinWrite> TwinIndex::Put(Partition& partition, uint64_t hash,
                                         const ParsedTwin& twin, bool must,
                                         absl::Time now) {
  if (const auto place = partition.Find(hash, twin.device_id)) {
    Shard& shard = partition.ShardOf(*place);
    const int row = Partition::RowOf(*place);
    absl::MutexLock lock(&shard.mutex);
    if (!must) {
      absl::Status status = shard.CheckPaths(twin);
      if (!status.ok()) return status;
    }
    shard.Overwrite(row, twin, now);
    const TwinWrite after = shard.StateOf(row);
    Notify(TwinChange::Kind::kUpserted, shard, row, nullptr, after, now);
    return after;
  }
  TwinWrite after;
  Add(partition, hash, twin, TwinChange::Kind::kUpserted, JsonView(), now,
      [&](Shard& shard, int row) {
        shard.mutex.AssertHeld();
        after = shard.StateOf(row);
      });
  return after;
}

void TwinIndex::Add(Partition& partition, uint64_t hash, const ParsedTwin& twin,
                    TwinChange::Kind kind, JsonView document, absl::Time now,
                    absl::FunctionRef<void(Shard& shard, int row)> done) {
  for (;;) {
    if (partition.with_room.empty()) {
      const uint32_t number = static_cast<uint32_t>(partition.shards.size());
      AddShard(partition, std::make_unique<Shard>());
      partition.ListWithRoom(number);
    }
    const uint32_t number = partition.with_room.back();
    Shard& shard = *partition.shards[number];
    absl::MutexLock lock(&shard.mutex);
    if (!shard.has_room()) {
      // Patches have given it as many paths as it may have.
      partition.UnlistLast();
      continue;
    }
    const int row = shard.Insert(twin, now);
    if (!shard.has_room()) partition.UnlistLast();
    partition.ids.Insert(static_cast<uint32_t>(hash),
                         Partition::PlaceOf(number, row));
    Notify(kind, shard, row, nullptr, shard.StateOf(row), now, document);
    done(shard, row);
    return;
  }
}

void TwinIndex::Partition::ListWithRoom(uint32_t number) {
  bool& is_listed = shards[number]->is_listed_with_room_;
  if (is_listed) return;
  is_listed = true;
  with_room.push_back(number);
}

void TwinIndex::Partition::UnlistLast() {
  shards[with_room.back()]->is_listed_with_room_ = false;
  with_room.pop_back();
}

void TwinIndex::Publish(Partition& partition,
                        std::unique_ptr<Shard> published) {
  const Shard& shard = *published;
  shard.mutex.AssertReaderHeld();
  const uint32_t number = static_cast<uint32_t>(partition.shards.size());
  AddShard(partition, std::move(published));
  partition.ids.Reserve(partition.ids.size() +
                        static_cast<size_t>(shard.size()));
  for (int row = 0; row < shard.row_count(); ++row) {
    const absl::string_view id = shard.IdForTable(row);
    if (id.empty()) continue;
    partition.ids.Insert(static_cast<uint32_t>(DeviceHash(id)),
                         Partition::PlaceOf(number, row));
  }
  if (shard.has_room()) partition.ListWithRoom(number);
}

absl::Status TwinIndex::Restore(int partition_number,
                                std::unique_ptr<Shard> restored) {
  if (partition_number < 0 || partition_number >= options_.partition_count) {
    return absl::OutOfRangeError(absl::StrCat("there is no partition ",
                                              partition_number, "; there are ",
                                              options_.partition_count));
  }
  Shard& shard = *restored;
  // Nobody else knows the shard yet, so that its lock may come first.
  int64_t count = 0;
  {
    absl::ReaderMutexLock lock(&shard.mutex);
    count = shard.size();
    for (int row = 0; row < shard.row_count(); ++row) {
      const absl::string_view id = shard.IdForTable(row);
      if (id.empty()) continue;
      const int its = PartitionOfHash(DeviceHash(id), options_.partition_count);
      if (its != partition_number) {
        return absl::InvalidArgumentError(absl::StrCat(
            "device \"", id, "\" belongs to partition ", its, " of ",
            options_.partition_count, ", not to ", partition_number));
      }
    }
  }
  Partition& partition = partitions_[partition_number];
  absl::MutexLock lock(&partition.mutex);
  absl::MutexLock shard_lock(&shard.mutex);
  absl::flat_hash_set<absl::string_view> ids;
  ids.reserve(static_cast<size_t>(count));
  for (int row = 0; row < shard.row_count(); ++row) {
    const absl::string_view id = shard.IdForTable(row);
    if (id.empty()) continue;
    if (!ids.insert(id).second ||
        partition.Find(DeviceHash(id), id).has_value()) {
      return absl::AlreadyExistsError(
          absl::StrCat("device \"", id, "\" is there already"));
    }
  }
  size_.fetch_add(count, std::memory_order_relaxed);
  Publish(partition, std::move(restored));
  return absl::OkStatus();
}

int64_t TwinIndex::Adopt(
    int partition_number, std::unique_ptr<Shard> adopted,
    absl::FunctionRef<void(int row, ParsedTwin* twin)> prepare,
    absl::Time now) {
  Partition& partition = partitions_[partition_number];
  Shard& shard = *adopted;
  absl::ReleasableMutexLock lock(&partition.mutex);
  shard.mutex.Lock();
  TwinDocument document;
  // Puts the twin of a row where Put() would, and frees the row.
  const auto move_out = [&](int row, uint64_t hash) {
    partition.mutex.AssertHeld();
    shard.mutex.AssertHeld();
    document.Reset(&shard, row);
    const Json full = document.Full(/*with_metadata=*/false);
    ParsedTwin twin = *ParseTwin(full.view());
    prepare(row, &twin);
    // Its line was taken: the limit of paths is not asked.
    MUSTER_CHECK(Put(partition, hash, twin, /*must=*/true, now).ok());
    shard.Erase(row);
  };
  int64_t added = shard.size();
  if (partition.ids.size() > 0) {
    for (int row = 0; row < shard.row_count(); ++row) {
      const absl::string_view id = shard.IdForTable(row);
      if (id.empty()) continue;
      const uint64_t hash = DeviceHash(id);
      if (!partition.Find(hash, id).has_value()) continue;
      move_out(row, hash);
      --added;
    }
  }
  // The one with the most room is filled next.
  int room = 0;
  for (uint32_t& number : partition.with_room) {
    const Shard& open = *partition.shards[number];
    absl::ReaderMutexLock open_lock(&open.mutex);
    if (!open.has_room() || kShardRowsMax - open.size() <= room) continue;
    room = kShardRowsMax - open.size();
    std::swap(number, partition.with_room.back());
  }
  if (shard.size() <= room) {
    for (int row = 0; row < shard.row_count(); ++row) {
      const absl::string_view id = shard.IdForTable(row);
      if (!id.empty()) move_out(row, DeviceHash(id));
    }
    shard.mutex.Unlock();
    return added;
  }
  shard.RetainCutsFrom(shard.sequence());
  Publish(partition, std::move(adopted));
  // Who wants one of these devices may look it up, and waits for the shard.
  lock.Release();
  Notify(TwinChange::Kind::kLoaded, shard, 0, nullptr, {}, now);
  shard.mutex.Unlock();
  return added;
}

absl::StatusOr<TwinWrite> TwinIndex::Upsert(JsonView document, absl::Time now) {
  absl::StatusOr<ParsedTwin> twin = ParseTwin(document);
  if (!twin.ok()) return twin.status();
  const uint64_t hash = DeviceHash(twin->device_id);
  Partition& partition = PartitionOf(hash);
  absl::MutexLock lock(&partition.mutex);
  if (!partition.Find(hash, twin->device_id).has_value()) {
    absl::Status status = Reserve(1);
    if (!status.ok()) return status;
  }
  absl::StatusOr<TwinWrite> written =
      Put(partition, hash, *twin, /*must=*/false, now);
  return written;
}

absl::StatusOr<TwinWrite> TwinIndex::Change(absl::string_view device_id,
                                            const TwinPatch& patch,
                                            absl::string_view if_match,
                                            bool replace, absl::Time now) {
  return WithRow<absl::MutexLock, absl::StatusOr<TwinWrite>>(
      device_id, NoSuchDevice(device_id),
      [&](Shard& shard, int row) -> absl::StatusOr<TwinWrite> {
        shard.mutex.AssertHeld();
        const uint64_t etag = shard.StateOf(row).etag;
        if (!IfMatchAllows(if_match, etag)) {
          return MakeError(
              ErrorCode::kPreconditionFailed,
              absl::StrCat("If-Match: the update is for the etag ", if_match,
                           ", the twin has \"", EtagText(etag), "\""));
        }
        const uint64_t before = shard.sequence();
        absl::StatusOr<TwinWrite> after =
            replace ? shard.Replace(row, patch, now)
                    : shard.ApplyPatch(row, patch, now);
        if (after.ok() && shard.sequence() != before) {
          Notify(replace ? TwinChange::Kind::kReplaced
                         : TwinChange::Kind::kPatched,
                 shard, row, &patch, *after, now);
        }
        return after;
      });
}

absl::StatusOr<TwinWrite> TwinIndex::Patch(absl::string_view device_id,
                                           const TwinPatch& patch,
                                           absl::string_view if_match,
                                           absl::Time now) {
  return Change(device_id, patch, if_match, /*replace=*/false, now);
}

absl::StatusOr<TwinWrite> TwinIndex::Replace(absl::string_view device_id,
                                             const TwinPatch& patch,
                                             absl::string_view if_match,
                                             absl::Time now) {
  return Change(device_id, patch, if_match, /*replace=*/true, now);
}

absl::StatusOr<TwinWrite> TwinIndex::PatchReported(absl::string_view device_id,
                                                   const TwinPatch& patch,
                                                   absl::Time now) {
  return WithRow<absl::MutexLock, absl::StatusOr<TwinWrite>>(
      device_id, NoSuchDevice(device_id),
      [&](Shard& shard, int row) -> absl::StatusOr<TwinWrite> {
        shard.mutex.AssertHeld();
        const uint64_t before = shard.sequence();
        absl::StatusOr<TwinWrite> after = shard.PatchReported(row, patch, now);
        if (after.ok() && shard.sequence() != before) {
          Notify(TwinChange::Kind::kReported, shard, row, &patch, *after, now);
        }
        return after;
      });
}

absl::Status TwinIndex::Erase(absl::string_view device_id, absl::Time now,
                              absl::string_view if_match) {
  const uint64_t hash = DeviceHash(device_id);
  Partition& partition = PartitionOf(hash);
  absl::MutexLock lock(&partition.mutex);
  const std::optional<uint32_t> place = partition.Find(hash, device_id);
  if (!place.has_value()) return NoSuchDevice(device_id);
  Shard& shard = partition.ShardOf(*place);
  const int row = Partition::RowOf(*place);
  absl::MutexLock shard_lock(&shard.mutex);
  if (!if_match.empty()) {
    absl::Status status = CheckIdentityEtag(if_match, shard.IdentityOf(row));
    if (!status.ok()) return status;
  }
  Notify(TwinChange::Kind::kErased, shard, row, nullptr, shard.StateOf(row),
         now);
  partition.ids.Erase(static_cast<uint32_t>(hash), *place);
  shard.Erase(row);
  if (shard.has_room()) partition.ListWithRoom(*place >> kRowBits);
  size_.fetch_sub(1, std::memory_order_relaxed);
  return absl::OkStatus();
}

absl::Status TwinIndex::SetEnabled(absl::string_view device_id, bool enabled,
                                   absl::Time now) {
  return WithRow<absl::MutexLock, absl::Status>(
      device_id, NoSuchDevice(device_id), [&](Shard& shard, int row) {
        shard.mutex.AssertHeld();
        if (shard.IsEnabled(row) == enabled) return absl::OkStatus();
        shard.SetEnabled(row, enabled, now);
        Notify(
            enabled ? TwinChange::Kind::kEnabled : TwinChange::Kind::kDisabled,
            shard, row, nullptr, shard.StateOf(row), now);
        return absl::OkStatus();
      });
}

TwinConnection TwinIndex::SetConnected(absl::string_view device_id,
                                       bool connected, absl::Time now,
                                       uint64_t link) {
  return WithRow<absl::MutexLock, TwinConnection>(
      device_id, TwinConnection(), [&](Shard& shard, int row) {
        shard.mutex.AssertHeld();
        TwinConnection answer{.known = true};
        const uint64_t current = shard.LinkOf(row);
        const bool is_current = shard.HasConnection(row) && current == link;
        if (connected ? is_current : !is_current) return answer;
        answer.changed = true;
        if (connected) answer.previous_link = current;
        shard.SetConnected(row, connected, link, now);
        // Nothing comes of the connection of a disabled device.
        if (!shard.IsEnabled(row)) return answer;
        Notify(connected ? TwinChange::Kind::kConnected
                         : TwinChange::Kind::kDisconnected,
               shard, row, nullptr, shard.StateOf(row), now);
        return answer;
      });
}

// --------------------------------------------------------------- registry

absl::StatusOr<DeviceIdentity> TwinIndex::CreateIdentity(
    const DeviceIdentity& device, absl::Time now) {
  DeviceIdentity made = device;
  if (!made.authentication_type.has_value()) {
    made.authentication_type = AuthenticationType::kSas;
  }
  LetKeysGo(&made);
  if (made.authentication_type == AuthenticationType::kSas &&
      (made.primary_key.empty() || made.secondary_key.empty())) {
    return MakeError(
        ErrorCode::kArgumentInvalid,
        absl::StrCat("authentication.symmetricKey.",
                     made.primary_key.empty() ? "primaryKey" : "secondaryKey",
                     ": missing; a new device of type sas needs both keys"));
  }
  made.etag = EtagText(1);
  made.status_updated_time = absl::InfinitePast();
  const Json document = IdentityDocument(made);
  const absl::StatusOr<ParsedTwin> twin =
      ParseIdentityDocument(document.view());
  if (!twin.ok()) return twin.status();
  const uint64_t hash = DeviceHash(made.device_id);
  Partition& partition = PartitionOf(hash);
  absl::MutexLock lock(&partition.mutex);
  if (partition.Find(hash, made.device_id).has_value()) {
    return MakeError(
        ErrorCode::kDeviceAlreadyExists,
        absl::StrCat("there is a device \"", made.device_id, "\" already"));
  }
  if (absl::Status s = Reserve(1); !s.ok()) return s;
  Add(partition, hash, *twin, TwinChange::Kind::kIdentity, document.view(), now,
      [&](Shard& shard, int row) {
        shard.mutex.AssertHeld();
        made = shard.IdentityOf(row);
      });
  return made;
}

absl::StatusOr<DeviceIdentity> TwinIndex::UpdateIdentity(
    const DeviceIdentity& device, absl::string_view if_match, absl::Time now,
    const SymmetricKeys& spare) {
  return WithRow<absl::MutexLock, absl::StatusOr<DeviceIdentity>>(
      device.device_id, NoSuchDevice(device.device_id),
      [&](Shard& shard, int row) -> absl::StatusOr<DeviceIdentity> {
        shard.mutex.AssertHeld();
        const DeviceIdentity before = shard.IdentityOf(row);
        if (absl::Status s = CheckIdentityEtag(if_match, before); !s.ok()) {
          return s;
        }
        DeviceIdentity next = device;
        if (!next.authentication_type.has_value()) {
          KeepAuthentication(before, &next);
        }
        FillKeys({before.primary_key, before.secondary_key}, &next);
        FillKeys(spare, &next);
        LetKeysGo(&next);
        next.etag = Shard::NextDeviceEtag(before.etag);
        next.status_updated_time =
            next.enabled == before.enabled ? before.status_updated_time : now;
        const Json document = IdentityDocument(next);
        const absl::StatusOr<ParsedTwin> identity =
            ParseIdentityDocument(document.view());
        if (!identity.ok()) return identity.status();
        shard.PutIdentity(row, *identity, now);
        Notify(TwinChange::Kind::kIdentity, shard, row, nullptr,
               shard.StateOf(row), now, document.view());
        return shard.IdentityOf(row);
      });
}

absl::StatusOr<DeviceIdentity> TwinIndex::GetIdentity(
    absl::string_view device_id) const {
  return WithRow<absl::ReaderMutexLock, absl::StatusOr<DeviceIdentity>>(
      device_id, NoSuchDevice(device_id),
      [](Shard& shard, int row) -> absl::StatusOr<DeviceIdentity> {
        shard.mutex.AssertReaderHeld();
        return shard.IdentityOf(row);
      });
}

std::vector<DeviceIdentity> TwinIndex::FirstIdentities(size_t count) const {
  // A heap with the last of them in front.
  std::vector<std::string> ids;
  const int shards = shard_count();
  for (int i = 0; i < shards && count > 0; ++i) {
    const Shard& s = shard(i);
    absl::ReaderMutexLock lock(&s.mutex);
    for (int row = 0; row < s.row_count(); ++row) {
      const absl::string_view id = s.IdForTable(row);
      if (id.empty()) continue;
      if (ids.size() == count) {
        if (id >= ids.front()) continue;
        std::pop_heap(ids.begin(), ids.end());
        ids.pop_back();
      }
      ids.emplace_back(id);
      std::push_heap(ids.begin(), ids.end());
    }
  }
  std::sort_heap(ids.begin(), ids.end());
  std::vector<DeviceIdentity> devices;
  devices.reserve(ids.size());
  for (const std::string& id : ids) {
    // One may have gone meanwhile.
    absl::StatusOr<DeviceIdentity> device = GetIdentity(id);
    if (device.ok()) devices.push_back(*std::move(device));
  }
  return devices;
}

TwinIndex::Counts TwinIndex::Count() const {
  Counts counts;
  const int shards = shard_count();
  for (int i = 0; i < shards; ++i) {
    const Shard& s = shard(i);
    absl::ReaderMutexLock lock(&s.mutex);
    counts.twins += s.size();
    counts.enabled += s.enabled_.Count();
  }
  return counts;
}

// ------------------------------------------------------------------- reads

absl::StatusOr<TwinSnapshot> TwinIndex::Get(absl::string_view device_id) const {
  return WithRow<absl::ReaderMutexLock, absl::StatusOr<TwinSnapshot>>(
      device_id, NoSuchDevice(device_id),
      [&](Shard& shard, int row) -> absl::StatusOr<TwinSnapshot> {
        shard.mutex.AssertReaderHeld();
        TwinSnapshot snapshot;
        snapshot.device_id = std::string(device_id);
        snapshot.state = shard.StateOf(row);
        snapshot.etag = EtagText(snapshot.state.etag);
        TwinDocument document;
        document.Reset(&shard, row);
        snapshot.document = document.Full();
        return snapshot;
      });
}

std::optional<TwinLocation> TwinIndex::Find(absl::string_view device_id) const {
  const uint64_t hash = DeviceHash(device_id);
  const Partition& partition = PartitionOf(hash);
  absl::ReaderMutexLock lock(&partition.mutex);
  const std::optional<uint32_t> place = partition.Find(hash, device_id);
  if (!place.has_value()) return std::nullopt;
  return TwinLocation{.shard = partition.ShardOf(*place).index(),
                      .row = Partition::RowOf(*place)};
}

std::optional<TwinCandidates> TwinIndex::Candidates(
    const Condition& condition) const {
  TwinCandidates candidates;
  auto ids = condition.Candidates(Root::kDeviceId, &candidates.exact);
  if (!ids.has_value()) return std::nullopt;
  for (std::string& id : *ids) {
    if (const auto location = Find(id)) {
      candidates.twins.push_back({*location, std::move(id)});
    }
  }
  std::sort(candidates.twins.begin(), candidates.twins.end(),
            [](const TwinCandidates::Twin& a, const TwinCandidates::Twin& b) {
              return a.at.shard != b.at.shard ? a.at.shard < b.at.shard
                                              : a.at.row < b.at.row;
            });
  return candidates;
}

void TwinIndex::MatchCandidates(
    const Condition& condition, const TwinCandidates& candidates,
    absl::FunctionRef<void(int shard, const RowBitmap& rows)> fn) const {
  RowBitmap rows;
  absl::Span<const TwinCandidates::Twin> rest = candidates.twins;
  while (!rest.empty()) {
    const int index = rest.front().at.shard;
    size_t count = 1;
    while (count < rest.size() && rest[count].at.shard == index) ++count;
    {
      const Shard& s = shard(index);
      absl::ReaderMutexLock lock(&s.mutex);
      s.MatchCandidates(condition, rest.first(count), candidates.exact, &rows);
    }
    rest.remove_prefix(count);
    if (rows.Any()) fn(index, rows);
  }
}

void TwinIndex::MatchShards(
    Matcher& matcher,
    absl::FunctionRef<void(int shard, const RowBitmap& rows)> fn) const {
  RowBitmap rows;
  const int count = shard_count();
  for (int i = 0; i < count; ++i) {
    const Shard& s = shard(i);
    {
      absl::ReaderMutexLock lock(&s.mutex);
      matcher.Match(s, &rows);
    }
    if (rows.Any()) fn(i, rows);
  }
}

void TwinIndex::Match(
    const Condition& condition,
    absl::FunctionRef<void(int shard, const RowBitmap& rows)> fn) const {
  if (const auto candidates = Candidates(condition)) {
    MatchCandidates(condition, *candidates, fn);
    return;
  }
  Matcher matcher(condition);
  MatchShards(matcher, fn);
}

MatchExplanation TwinIndex::Explain(
    const Condition& condition, std::function<int64_t()> nanoseconds) const {
  const int64_t begin = nanoseconds();
  MatchExplanation explanation;
  if (const auto candidates = Candidates(condition)) {
    const int64_t found = nanoseconds();
    int64_t matched = 0;
    int last = -1;
    for (const TwinCandidates::Twin& twin : candidates->twins) {
      explanation.shards += twin.at.shard != last;
      last = twin.at.shard;
    }
    MatchCandidates(condition, *candidates, [&](int, const RowBitmap& rows) {
      matched += rows.Count();
    });
    const int64_t end = nanoseconds();
    const int64_t count = static_cast<int64_t>(candidates->twins.size());
    explanation.steps.push_back({.condition = "the devices that it names",
                                 .forms = {{"id table", explanation.shards}},
                                 .rows_in = size(),
                                 .rows_out = count,
                                 .nanoseconds = found - begin});
    explanation.steps.push_back(
        {.condition = condition.text(),
         .forms = {{candidates->exact ? "true of each" : "evaluator",
                    explanation.shards}},
         .rows_in = count,
         .rows_out = matched,
         .values_examined = candidates->exact ? 0 : count,
         .nanoseconds = end - found});
    explanation.rows_in = size();
    explanation.rows_out = matched;
    explanation.nanoseconds = end - begin;
    return explanation;
  }
  Matcher matcher(condition);
  matcher.Explain(nanoseconds);
  MatchShards(matcher, [](int, const RowBitmap&) {});
  explanation = matcher.explanation();
  explanation.nanoseconds = nanoseconds() - begin;
  return explanation;
}

int64_t TwinIndex::MemoryUsage() const {
  int64_t bytes = static_cast<int64_t>(sizeof(*this));
  for (int i = 0; i < options_.partition_count; ++i) {
    const Partition& partition = partitions_[i];
    absl::ReaderMutexLock lock(&partition.mutex);
    bytes +=
        static_cast<int64_t>(sizeof(partition) + partition.ids.MemoryUsage() +
                             partition.shards.capacity() * sizeof(Shard*) +
                             partition.with_room.capacity() * sizeof(uint32_t));
  }
  for (const std::atomic<ShardBlock*>& block : shard_blocks_) {
    if (block.load(std::memory_order_relaxed) != nullptr) {
      bytes += static_cast<int64_t>(sizeof(ShardBlock));
    }
  }
  const int count = shard_count();
  for (int i = 0; i < count; ++i) {
    const Shard& s = shard(i);
    absl::ReaderMutexLock lock(&s.mutex);
    bytes += static_cast<int64_t>(s.MemoryUsage());
  }
  return bytes;
}

}  // namespace muster
