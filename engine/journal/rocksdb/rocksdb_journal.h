// RocksDbJournal: the Journal of an engine on one machine, in a folder.
//
// A folder holds one RocksDB database (chunks, snapshots, epochs), a lock file
// that keeps a second engine out, and a fence stamp: how far each partition was
// durable.  All partitions share one write-ahead log: what is appended while a
// sync is under way leaves with the next, whatever its partition.
//
// A thread of its own writes: a sync blocks for as long as the disk takes, and
// the executor's threads have work meanwhile.  Append() only queues; the thread
// takes all that is queued, checks it, writes it as one batch, syncs, stamps,
// and answers.  A second thread, asleep but for a while after trimming, gives
// space back.
//
// After an error the database is closed, and opened anew for the next call that
// needs it: nothing is asked of a handle that has failed, and what is read back
// decides what was stored.  A full disk or a failing one never ends the
// process; once it is well again the next call goes through.
#ifndef ENGINE_JOURNAL_ROCKSDB_ROCKSDB_JOURNAL_H_
#define ENGINE_JOURNAL_ROCKSDB_ROCKSDB_JOURNAL_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/journal/journal.h"

namespace muster {

// When an append is answered.
enum class JournalSync : uint8_t {
  kNone,   // Once the operating system has it: survives kill -9 of the process,
           // not a power loss, which costs about the last second.
  kGroup,  // Once it is on disk; appends that come meanwhile share a sync.
  kEach,   // Once it is on disk, by a sync of its own.
};

struct RocksDbJournalOptions {
  std::string directory;  // Made if it is not there; its parent must be.
  // In [1, 256].  Of a new folder: one that exists has its own number.
  int partition_count = 16;
  JournalSync sync = JournalSync::kGroup;
};

struct RocksDbJournalStats {
  int64_t appends = 0;  // Answered OK.
  int64_t append_bytes = 0;
  int64_t commits = 0;   // Writes to the log, each with a sync unless kNone.
  int64_t reopened = 0;  // Times that it went on after an error.
  int64_t disk_bytes = 0;
  absl::Duration commit_p50;  // Of the last 1,024 commits; 0 if none.
  absl::Duration commit_p99;
};

// Thread-safe.  What `done` callbacks are called on is the writing thread: they
// should be short, and call nothing here but Append().  Acquire(), Release(),
// Trim() and WriteSnapshot() block until durable.  Visitors of Read() and
// ReadSnapshot() may take their time and call what they like: no lock is held
// and they see one instant; only an error's repair waits until they are done.
class RocksDbJournal : public Journal {
 public:
  // Append() answers UNAVAILABLE, at once, while more than this is queued.
  static constexpr int64_t kQueuedBytesMax = 256 << 20;

  // Space of what was trimmed that may be kept before it is given back, beside
  // as much as all that is not trimmed takes.
  static constexpr int64_t kTrimmedBytesMax = 64 << 20;

  // Opens or makes the folder; reads its log back.
  //   INVALID_ARGUMENT    an option is outside the range stated above
  //   FAILED_PRECONDITION another engine has the folder (its process is named);
  //                       or a newer version has written it; or other things
  //                       are in it
  //   DATA_LOSS           what was durable is damaged; says what and where.
  //                       Nothing is changed in the folder
  //   NOT_FOUND, PERMISSION_DENIED, RESOURCE_EXHAUSTED, UNAVAILABLE
  static absl::StatusOr<std::unique_ptr<RocksDbJournal>> Open(
      const RocksDbJournalOptions& options);

  // Answers what is queued, then closes.  No other call may be under way.
  ~RocksDbJournal() override = default;

  virtual RocksDbJournalStats Stats() const = 0;
};

}  // namespace muster

#endif  // ENGINE_JOURNAL_ROCKSDB_ROCKSDB_JOURNAL_H_
