// TwinIndex: all device twins, in shards.
//
// A device's partition follows from a hash of its id (device_hash.h) and never
// changes; within the partition it lives in one row of one shard until it is
// erased.  Shards are added as the fleet grows and never go away.
//
// Thread-safe.  Writes look the device up in the partition's id table and then
// lock one shard; reads of one twin the same; Query() locks one shard after the
// other.  Adding and erasing hold both locks, in that order.  Instants are
// passed in: the index reads no clock.
//
// Memory: about 10 bytes per twin in the id table, 16 for the id (more for one
// of over 15 characters), and what its columns take: for the benchmark fleet,
// whose twins are 735 bytes of JSON, about 100.
#ifndef ENGINE_TWIN_TWIN_INDEX_H_
#define ENGINE_TWIN_TWIN_INDEX_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/model/identity.h"
#include "engine/model/json.h"
#include "engine/model/twin_patch.h"
#include "engine/query/condition.h"
#include "engine/query/statement.h"
#include "engine/twin/id_table.h"
#include "engine/twin/match/matcher.h"
#include "engine/twin/parsed_twin.h"
#include "engine/twin/shard.h"

namespace muster {

// A write, as its observer sees it.  Valid during the call only.
struct TwinChange {
  enum class Kind : uint8_t {
    kUpserted,  // `document` is the whole twin as it stands now.
    kIdentity,  // `document` is the registry's part: identity_document.h.
    kPatched,   // `patch`: tags and desired merged (or replaced: kReplaced).
    kReplaced,
    kReported,  // `patch`: reported merged.
    kErased,
    kConnected,     // A connection came, the first or in another's place ...
    kDisconnected,  // ... or went.
    kEnabled,       // status became enabled ...
    kDisabled,      // ... or disabled.
    kLoaded,        // A whole shard: all its twins are new.
  };
  Kind kind = Kind::kUpserted;
  int partition = 0;
  int shard = 0;
  uint64_t sequence = 0;  // The shard's, after the write.
  // Not with kLoaded: row and device_id.
  int row = 0;
  absl::string_view device_id;
  // Without `$metadata`; versions and etag in it are the index's, so that
  // another index makes the same twin of it.
  JsonView document;
  const TwinPatch* patch = nullptr;
  TwinWrite after;  // With kErased: as it was last.
  absl::Time time;
};

// Called for every write that took effect, with the shard's lock held, in the
// order of the writes to that shard.  Must not call back into the index.  Not
// called for Shard::ApplyPatch(), whose caller, a job, journals on its own.
class TwinObserver {
 public:
  virtual ~TwinObserver() = default;
  virtual void OnTwinChange(const TwinChange& change) = 0;
};

// What a report of a connection has met.
struct TwinConnection {
  bool known = false;    // There is such a device.
  bool changed = false;  // Its connectionState, or its link.
  // The link of the connection that this one has taken the place of; 0: none,
  // or the same.
  uint64_t previous_link = 0;

  friend bool operator==(const TwinConnection&,
                         const TwinConnection&) = default;
};

// A twin as it stood at one instant.
struct TwinSnapshot {
  std::string device_id;
  std::string etag;  // Text, without quotes.
  TwinWrite state;
  Json document;  // The whole twin: contract 6.1.  Text: AppendTwinJson().
};

struct TwinPage {
  std::vector<std::string> rows;  // JSON text each.
  std::string item_type;          // "Twin" or "Raw".
  std::string continuation;       // Empty: no more rows.
};

// What a caller may ask of one page of TwinIndex::Query().
inline constexpr int kTwinPageSizeMax = 1'000'000;

class TwinIndex {
 public:
  struct Options {
    int partition_count = 16;              // In [1, 256].
    int64_t twin_count_max = 100'000'000;  // In [1, 2^32].
    TwinObserver* observer = nullptr;      // Not owned; may be null.
  };

  // INVALID_ARGUMENT if an option is outside the range stated above.
  static absl::StatusOr<std::unique_ptr<TwinIndex>> Create(
      const Options& options);

  ~TwinIndex();

  // Adds the twin, or puts it in the place of the one with its deviceId, whole:
  // roots, tags, desired, reported.  `document` is a twin as contract 6.1 has
  // it; only deviceId is required.  version, etag and `$version`s are taken
  // from the document where they are there (an etag in another hub's spelling
  // counts as not there); else they are 1 in a new twin, and one more than they
  // were in an old one.  So is connectionState, else Disconnected or as it was;
  // but of a device whose connection has a link (SetConnected()) it stays.
  // `$metadata` is made anew: every node is of `now`.
  //   ArgumentNull/-Invalid, MessageTooLarge  naming the member
  //   RESOURCE_EXHAUSTED (ThrottlingException's family) at twin_count_max; or
  //   it has new paths, and its shard has kShardPathsMax
  absl::StatusOr<TwinWrite> Upsert(JsonView document, absl::Time now);

  // Merges tags and desired.  `if_match`: "" or any spelling of contract 6.7.
  // A patch with neither tags nor desired changes nothing.
  //   DeviceNotFound, PreconditionFailed, ArgumentInvalid, MessageTooLarge
  absl::StatusOr<TwinWrite> Patch(absl::string_view device_id,
                                  const TwinPatch& patch,
                                  absl::string_view if_match, absl::Time now);
  // Puts the sections that `patch` has in the place of the stored ones.  Errors
  // as Patch().
  absl::StatusOr<TwinWrite> Replace(absl::string_view device_id,
                                    const TwinPatch& patch,
                                    absl::string_view if_match, absl::Time now);
  // Merges reported, as the device does.  Sets lastActivityTime too.
  //   DeviceNotFound, PreconditionFailed ($version), MessageTooLarge
  absl::StatusOr<TwinWrite> PatchReported(absl::string_view device_id,
                                          const TwinPatch& patch,
                                          absl::Time now);
  // `if_match`: "" or any spelling of contract 6.7 of the identity's etag.
  //   DeviceNotFound, PreconditionFailed
  absl::Status Erase(absl::string_view device_id, absl::Time now,
                     absl::string_view if_match = "");
  // status enabled or disabled, and statusUpdateTime; nothing if it is so
  // already.  DeviceNotFound.
  absl::Status SetEnabled(absl::string_view device_id, bool enabled,
                          absl::Time now);
  // A connection of the device has come or gone: sets connectionState, the link
  // (Shard::LinkOf()) and lastActivityTime.  The last connection that came is
  // the device's, although connectionState stays; that one goes which has the
  // same link, or it changes nothing.  The connection of a device that is
  // disabled, or becomes so, is kept back: it is Disconnected until it is
  // enabled.
  TwinConnection SetConnected(absl::string_view device_id, bool connected,
                              absl::Time now, uint64_t link = 0);

  // What the registry writes: engine.h has the rules.  Each answers with the
  // device as it stands then.  REQUIRES: valid (ValidateDeviceIdentity,
  // ValidateSymmetricKeys).
  //   DeviceAlreadyExists, ArgumentInvalid (kSas without keys),
  //   MessageTooLarge, RESOURCE_EXHAUSTED at twin_count_max
  absl::StatusOr<DeviceIdentity> CreateIdentity(const DeviceIdentity& device,
                                                absl::Time now);
  //   DeviceNotFound, PreconditionFailed, MessageTooLarge
  absl::StatusOr<DeviceIdentity> UpdateIdentity(
      const DeviceIdentity& device, absl::string_view if_match, absl::Time now,
      const SymmetricKeys& spare = {});
  // DeviceNotFound.
  absl::StatusOr<DeviceIdentity> GetIdentity(absl::string_view device_id) const;
  // The first `count` in ascending order of device ids.  Looks at every id, and
  // takes memory for `count`; locks one shard after the other.
  std::vector<DeviceIdentity> FirstIdentities(size_t count) const;
  // Twins, and how many of them are enabled.  Locks one shard after the other.
  struct Counts {
    int64_t twins = 0;
    int64_t enabled = 0;
  };
  Counts Count() const;

  // DeviceNotFound.
  absl::StatusOr<TwinSnapshot> Get(absl::string_view device_id) const;
  std::optional<TwinLocation> Find(absl::string_view device_id) const;

  // Where the devices live outside of which no twin satisfies `condition`, if
  // it names devices (Condition::Candidates()); nullopt if it does not bound
  // them. So a job for one device need not visit every shard.  Whoever uses a
  // location must look again under the shard's lock: Shard::MatchCandidates().
  std::optional<TwinCandidates> Candidates(const Condition& condition) const;

  // Calls fn(shard, rows) with the rows that satisfy `condition`, for each
  // shard that has any, in ascending order and with no lock held.  Every write
  // that was acknowledged before the call is seen.  A shard is locked for
  // microseconds; one thread does it all, at 0.1 ms for a million twins and a
  // simple condition.
  void Match(
      const Condition& condition,
      absl::FunctionRef<void(int shard, const RowBitmap& rows)> fn) const;

  // Match(), and how it went, with times from `nanoseconds` (any origin).
  MatchExplanation Explain(const Condition& condition,
                           std::function<int64_t()> nanoseconds) const;

  // Answers one page of a statement on `devices`, rows in ascending order of
  // deviceId.  page_size in [1, kTwinPageSizeMax]; a page may hold fewer rows
  // than asked for although more follow.  `continuation`: empty, or the last
  // page's.
  //
  // Each page is a scan of its own: there is no state between two.  Devices
  // that come behind the position are shown, others are not; each row satisfies
  // the condition at the instant it was written out.  Takes memory for one page
  // whatever the number of twins.  Rows of aggregates are made anew for each
  // page, so that a page of them sees the fleet as it is then.
  //   ArgumentInvalid   page_size out of range; a damaged or foreign
  //                     continuation; a statement on another collection; too
  //                     many groups (kQueryGroupsMax)
  absl::StatusOr<TwinPage> Query(const Statement& statement, int page_size,
                                 absl::string_view continuation) const;

  // Takes a shard that was read (ShardSnapshot) or rebuilt (ShardReplay), with
  // its rows as they are, as the next one of the partition; the observer is not
  // told.  Twins that were there once are taken beyond twin_count_max, too.
  //   OUT_OF_RANGE        no such partition
  //   INVALID_ARGUMENT    one of its devices is not of that partition
  //   ALREADY_EXISTS      the index has one of its devices, or it has one twice
  absl::Status Restore(int partition, std::unique_ptr<Shard> shard);

  // Twins.
  int64_t size() const { return size_.load(std::memory_order_relaxed); }

  int partition_count() const { return options_.partition_count; }
  // Shards so far; they only grow.  shard(i) is valid as long as the index.
  int shard_count() const {
    // (1) Acquire: synchronizes-with (2), which published those shards.
    return shard_count_.load(std::memory_order_acquire);
  }
  // REQUIRES: 0 <= index < shard_count().
  Shard& shard(int index) const;

  // Heap bytes, about.  Locks one shard after the other.
  int64_t MemoryUsage() const;

 private:
  friend class JsonLinesLoader;
  struct Partition;

  static constexpr int kRowBits = 14;
  static_assert(1 << kRowBits == kShardRowsMax);

  struct Partition {
    // The shard and row behind a place in `ids`.
    Shard& ShardOf(uint32_t place) const ABSL_SHARED_LOCKS_REQUIRED(mutex) {
      return *shards[place >> kRowBits];
    }
    static int RowOf(uint32_t place) { return place & (kShardRowsMax - 1); }
    static uint32_t PlaceOf(uint32_t shard_number, int row) {
      return shard_number << kRowBits | static_cast<uint32_t>(row);
    }
    // nullopt if there is no such device.
    std::optional<uint32_t> Find(uint64_t hash, absl::string_view id) const
        ABSL_SHARED_LOCKS_REQUIRED(mutex);

    // Comes before the mutex of any shard.
    mutable absl::Mutex mutex;
    // By the lower half of DeviceHash(): the upper one chose the partition.
    IdTable ids ABSL_GUARDED_BY(mutex);
    std::vector<Shard*> shards ABSL_GUARDED_BY(mutex);
    // Numbers in `shards` of those that have room.
    std::vector<uint32_t> with_room ABSL_GUARDED_BY(mutex);

    // Into with_room, if it is not there; and the last one out.
    void ListWithRoom(uint32_t number) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
    void UnlistLast() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  };

  // Shards are found without a lock: a table of tables that never move.
  static constexpr int kShardsPerBlock = 1024;
  static constexpr int kShardBlocksMax = 1024;
  using ShardBlock = std::array<std::atomic<Shard*>, kShardsPerBlock>;

  explicit TwinIndex(const Options& options);

  Partition& PartitionOf(uint64_t hash) const;
  // Publishes a shard, of which nobody knows yet, at the end of a partition.
  Shard* AddShard(Partition& partition, std::unique_ptr<Shard> shard)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(partition.mutex)
          ABSL_LOCKS_EXCLUDED(shards_mutex_);

  // Calls fn(shard, row) with the shard's lock held (for writing, or for
  // reading with Lock = absl::ReaderMutexLock); `none` if there is no such
  // device.
  template <typename Lock, typename Result, typename Function>
  Result WithRow(absl::string_view device_id, Result none, Function fn) const;

  // Adds or overwrites one twin.  A new one has to be counted in size_ before.
  // RESOURCE_EXHAUSTED as Shard::CheckPaths(), unless it `must`.
  absl::StatusOr<TwinWrite> Put(Partition& partition, uint64_t hash,
                                const ParsedTwin& twin, bool must,
                                absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(partition.mutex);
  // Adds one twin, which is not there, and says so: `document` as Notify() has
  // it.  Calls `done` with its place.
  void Add(Partition& partition, uint64_t hash, const ParsedTwin& twin,
           TwinChange::Kind kind, JsonView document, absl::Time now,
           absl::FunctionRef<void(Shard& shard, int row)> done)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(partition.mutex);
  // Takes a shard that nobody else knows into a partition, and returns how many
  // of its twins are new.  Those that the index has already take the place of
  // what is there, as `prepare(row, twin)` would have them.  A shard of few
  // twins is emptied into one that has room for them.
  int64_t Adopt(int partition, std::unique_ptr<Shard> shard,
                absl::FunctionRef<void(int row, ParsedTwin* twin)> prepare,
                absl::Time now);
  // Match() for a condition that names devices, and for one that does not.
  void MatchCandidates(
      const Condition& condition, const TwinCandidates& candidates,
      absl::FunctionRef<void(int shard, const RowBitmap& rows)> fn) const;
  void MatchShards(
      Matcher& matcher,
      absl::FunctionRef<void(int shard, const RowBitmap& rows)> fn) const;

  // Publishes a shard and enters its devices, none of which the index has.
  void Publish(Partition& partition, std::unique_ptr<Shard> shard)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(partition.mutex);
  // Counts `count` more twins.  RESOURCE_EXHAUSTED at twin_count_max.
  absl::Status Reserve(int64_t count);

  // `document`: with kIdentity.  With kUpserted it is made here.
  void Notify(TwinChange::Kind kind, const Shard& shard, int row,
              const TwinPatch* patch, const TwinWrite& after, absl::Time now,
              JsonView document = JsonView()) const
      ABSL_SHARED_LOCKS_REQUIRED(shard.mutex);

  absl::StatusOr<TwinWrite> Change(absl::string_view device_id,
                                   const TwinPatch& patch,
                                   absl::string_view if_match, bool replace,
                                   absl::Time now);

  absl::Status QueryRows(const Statement& statement, int page_size,
                         absl::string_view continuation, TwinPage* page) const;
  absl::Status QueryAggregates(const Statement& statement, int page_size,
                               absl::string_view continuation,
                               TwinPage* page) const;

  // Constant after construction.
  const Options options_;
  const std::unique_ptr<Partition[]> partitions_;

  // Counts what Put() is about to add, too.
  std::atomic<int64_t> size_{0};

  // Guards adding shards; readers use the atomics.
  absl::Mutex shards_mutex_;
  std::array<std::atomic<ShardBlock*>, kShardBlocksMax> shard_blocks_{};
  std::atomic<int> shard_count_{0};
};

}  // namespace muster

#endif  // ENGINE_TWIN_TWIN_INDEX_H_
