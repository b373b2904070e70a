// JournalDatabase: the RocksDB database of a journal: what its tables hold, and
// the rule by which it is opened.
//
//   table      key                                   value
//   default    "commit"                              commit number
//              "partition" | partition               PartitionState
//   journal    partition | sequence                  chunk
//   snapshots  partition | generation | part number  part
//
// Whatever changes a partition changes its PartitionState in the same batch,
// and every batch counts the commit number up.  So the state, which says how
// many chunks and parts there must be, is there if and only if they are.
#ifndef ENGINE_JOURNAL_ROCKSDB_DATABASE_H_
#define ENGINE_JOURNAL_ROCKSDB_DATABASE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/journal/rocksdb/fence_stamp.h"
#include "rocksdb/db.h"
#include "rocksdb/write_batch.h"

namespace muster {

struct PartitionState {
  uint64_t epoch = 0;
  uint64_t first_sequence = 1;       // Chunks below it are trimmed.
  uint64_t last_sequence = 0;        // first_sequence - 1: there are none.
  uint64_t chunk_bytes = 0;          // Of chunks that are there, about.
  uint64_t snapshot_generation = 0;  // 0: there is no snapshot.
  uint64_t snapshot_sequence = 1;    // The first chunk after the snapshot.
  uint64_t snapshot_parts = 0;
  uint64_t snapshot_bytes = 0;

  friend bool operator==(const PartitionState&,
                         const PartitionState&) = default;
};

struct JournalState {
  uint64_t commit = 0;
  std::vector<PartitionState> partitions;
};

std::string ChunkKey(int partition, uint64_t sequence);
std::string PartKey(int partition, uint64_t generation, uint64_t part);

// Thread-safe but for what is said otherwise.
class JournalDatabase {
 public:
  // Makes an empty one, at commit 1.  What a call that was cut short has left
  // is no hindrance.
  static absl::StatusOr<std::shared_ptr<JournalDatabase>> Make(
      const std::string& path, int partition_count);

  // Opens one that is there, to read only; changes nothing at all.  Its log is
  // read back to its last whole record, which only a record that is cut off by
  // the log's end may follow.  If something else follows, that is a crash's
  // doing or damage: then it is read back up to there, and only a stamp can
  // tell which it was (CheckStamp()).
  //   DATA_LOSS  it is damaged; RESOURCE_EXHAUSTED, UNAVAILABLE
  static absl::StatusOr<std::shared_ptr<JournalDatabase>> OpenToRead(
      const std::string& path);

  // Opens one that is there.  Opens it to read first, and changes nothing in it
  // before it is known that all is there that `stamp` says was durable.
  //   DATA_LOSS  it is damaged; says where, and what is lost if that is known
  //   RESOURCE_EXHAUSTED  the disk is full; UNAVAILABLE
  static absl::StatusOr<std::shared_ptr<JournalDatabase>> Open(
      const std::string& path, const FenceStamp& stamp);

  // Blocks until what runs in its background has ended.
  ~JournalDatabase();

  // As it was when opened.
  const JournalState& state_at_open() const { return state_at_open_; }

  // Writes `batch` with the states in it; durable if `sync`.  On an error it
  // has failed.  One call at a time.
  absl::Status Write(rocksdb::WriteBatch* batch, uint64_t commit, bool sync);

  // Puts a partition's state into a batch.
  void PutState(int partition, const PartitionState& state,
                rocksdb::WriteBatch* batch);

  // What was written without sync is durable.
  absl::Status SyncLog();

  // The chunk in a slot.  NOT_FOUND if there is none.
  absl::StatusOr<std::string> ReadChunk(int partition, uint64_t sequence);

  // As Journal::Read() and ReadSnapshot().  May be called by any thread while
  // others write: sees the partition as it was at one instant.
  absl::Status ReadChunks(
      int partition, uint64_t from,
      absl::FunctionRef<absl::Status(uint64_t, absl::string_view)> visit);
  absl::StatusOr<uint64_t> ReadSnapshot(
      int partition, uint64_t first_part,
      absl::FunctionRef<absl::Status(absl::string_view)> visit);

  // Gives back the space of what has been deleted.  Takes as long as reading
  // and writing all that is left.
  absl::Status Reclaim();

  // Whoever reads or reclaims ends early, with UNAVAILABLE.
  void Cancel() { cancelled_.store(true, std::memory_order_relaxed); }

  // True once anything has failed: it must be closed then and not be asked
  // again.
  bool failed() const { return failed_.load(std::memory_order_acquire); }

  rocksdb::ColumnFamilyHandle* journal() { return tables_[1]; }
  rocksdb::ColumnFamilyHandle* snapshots() { return tables_[2]; }

 private:
  class LastMessages;
  class View;
  enum class Access { kMake, kWrite, kRead };

  explicit JournalDatabase(rocksdb::WALRecoveryMode mode);

  static absl::StatusOr<std::shared_ptr<JournalDatabase>> OpenOnce(
      const std::string& path, Access access, rocksdb::WALRecoveryMode mode);
  absl::Status LoadState();
  // The status that tells a caller of `status`, and that it has failed.
  absl::Status Failed(const rocksdb::Status& status, absl::string_view what);

  const rocksdb::WALRecoveryMode mode_;
  const std::shared_ptr<LastMessages> messages_;
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> tables_;  // The database's.
  JournalState state_at_open_;
  std::atomic<bool> failed_{false};
  std::atomic<bool> cancelled_{false};
};

// OK if all that `stamp` says was durable is in `state`; else DATA_LOSS, which
// names the partitions and sequences that are not.
absl::Status CheckStamp(const JournalState& state, const FenceStamp& stamp);

}  // namespace muster

#endif  // ENGINE_JOURNAL_ROCKSDB_DATABASE_H_
