// Journal: where the engine's state changes become durable.
//
// State is a function of the journal.  The id space is cut into partitions;
// each has one journal of its own, a gap-free sequence of chunks numbered
// from 1.  A chunk is one group commit: many logical records (record.h) packed
// together.
//
// Every append names the owner's epoch and the sequence that it expects to
// fill. So two owners cannot both write (the older is fenced), and an append
// whose answer was lost can be repeated without being stored twice.
//
// A snapshot stands for the chunks before it, so that they need not be kept:
//
//   snapshot: all that chunks 1 .. 41 said | chunk 42 | chunk 43 | ...
//
// What chunks and snapshots hold, and whether it is whole, is the engine's
// business (chunk.h): an adapter stores bytes.
#ifndef ENGINE_JOURNAL_JOURNAL_H_
#define ENGINE_JOURNAL_JOURNAL_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace muster {

// Thread-safe.  Every adapter passes tests/journal_conformance.h.
class Journal {
 public:
  using Done = absl::AnyInvocable<void(absl::Status) &&>;

  // What the new owner of a partition needs to go on.
  struct Ownership {
    uint64_t epoch = 0;          // Goes with every append.
    uint64_t next_sequence = 1;  // The slot that the next append fills.
  };

  virtual ~Journal() = default;

  // Partitions are 0 .. partition_count() - 1; constant.
  virtual int partition_count() const = 0;

  // Becomes the owner of a partition; whoever was it before is fenced from now
  // on.
  //   OUT_OF_RANGE  no such partition
  //   UNAVAILABLE   the store cannot be reached or written
  virtual absl::StatusOr<Ownership> Acquire(int partition) = 0;

  // Gives the partition up: whoever has `epoch` is fenced from now on, as if
  // somebody else had acquired it.  Appends under way must have been answered.
  //   FAILED_PRECONDITION, OUT_OF_RANGE, UNAVAILABLE  as Append() and Acquire()
  virtual absl::Status Release(int partition, uint64_t epoch) = 0;

  // Stores `chunk` in slot `sequence` and calls `done` once it is durable,
  // exactly once, from any thread, perhaps before Append() returns.  It must
  // not need a thread of the engine's executor for that: those wait for it.
  //   OK                  durable; also if this very chunk was stored in that
  //                       slot by an earlier append of the same epoch
  //   FAILED_PRECONDITION fenced: `epoch` is not the owner's any more
  //   OUT_OF_RANGE        the slot is not the next one, and holds another chunk
  //   RESOURCE_EXHAUSTED  the disk is full, and
  //   UNAVAILABLE         it fails: perhaps stored, perhaps not; the same call
  //                       again finds out, and stores it if it can
  virtual void Append(int partition, uint64_t epoch, uint64_t sequence,
                      std::string chunk, Done done) = 0;

  // Calls `visit` for every chunk from `from` on, in order and without a gap;
  // stops early, with its status, if `visit` returns an error.
  //   OUT_OF_RANGE  chunks from `from` on are not there any more (trimmed)
  //   DATA_LOSS     a chunk is damaged; the message says which
  virtual absl::Status Read(int partition, uint64_t from,
                            absl::FunctionRef<absl::Status(
                                uint64_t sequence, absl::string_view chunk)>
                                visit) const = 0;

  // Chunks below `below` are not needed any more: Read() may not find them.
  virtual absl::Status Trim(int partition, uint64_t below) = 0;

  // Puts `parts` in the place of the partition's snapshot: all of them or, on
  // an error, none.  They stand for the chunks below `sequence`.  Durable when
  // it returns; blocks for that long.
  //   FAILED_PRECONDITION  fenced
  //   RESOURCE_EXHAUSTED, UNAVAILABLE  the snapshot before it is still there
  virtual absl::Status WriteSnapshot(int partition, uint64_t epoch,
                                     uint64_t sequence,
                                     absl::Span<const std::string> parts) = 0;

  // Calls `visit` for every part of the partition's snapshot, in order, and
  // returns the sequence of the first chunk after it; 1 if there is none.
  //   DATA_LOSS  a part is damaged or not there
  virtual absl::StatusOr<uint64_t> ReadSnapshot(
      int partition,
      absl::FunctionRef<absl::Status(absl::string_view part)> visit) const = 0;

  // True if what was appended may be forgotten although nobody has trimmed it:
  // there is nothing to recover from then, and nothing to take snapshots for.
  virtual bool forgets() const { return false; }

  // Bytes that it takes on disk; 0 if it has none.
  virtual int64_t DiskUsage() const { return 0; }
};

// In memory: durable as long as the process lives.
struct MemoryJournalOptions {
  int partition_count = 16;  // In [1, 256].
  // Chunks kept per partition for Read(), in bytes; the oldest go first, as if
  // trimmed.  At least the newest chunk stays.  kRetainAll: nothing goes, and
  // an engine can be recovered from it; else it forgets().
  static constexpr int64_t kRetainAll = INT64_MAX;
  int64_t retained_bytes_max = 1 << 20;
};

// INVALID_ARGUMENT if an option is outside the range stated above.
absl::StatusOr<std::unique_ptr<Journal>> MakeMemoryJournal(
    const MemoryJournalOptions& options = {});

}  // namespace muster

#endif  // ENGINE_JOURNAL_JOURNAL_H_
