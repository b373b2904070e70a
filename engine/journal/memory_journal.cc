// The memory adapter: a deque of chunks per partition.
#include <deque>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/journal/journal.h"

namespace muster {
namespace {

class MemoryJournal : public Journal {
 public:
  explicit MemoryJournal(const MemoryJournalOptions& options)
      : options_(options), partitions_(options.partition_count) {}

  int partition_count() const override { return options_.partition_count; }

  absl::StatusOr<Ownership> Acquire(int partition) override {
    if (absl::Status s = CheckPartition(partition); !s.ok()) return s;
    Partition& p = partitions_[partition];
    absl::MutexLock lock(&p.mutex);
    return Ownership{++p.epoch, p.first + p.chunks.size()};
  }

  absl::Status Release(int partition, uint64_t epoch) override {
    if (absl::Status s = CheckPartition(partition); !s.ok()) return s;
    Partition& p = partitions_[partition];
    absl::MutexLock lock(&p.mutex);
    if (absl::Status s = CheckEpoch(partition, p, epoch); !s.ok()) return s;
    ++p.epoch;
    return absl::OkStatus();
  }

  void Append(int partition, uint64_t epoch, uint64_t sequence,
              std::string chunk, Done done) override {
    std::move(done)(TryAppend(partition, epoch, sequence, std::move(chunk)));
  }

  absl::Status Read(int partition, uint64_t from,
                    absl::FunctionRef<absl::Status(uint64_t, absl::string_view)>
                        visit) const override {
    if (absl::Status s = CheckPartition(partition); !s.ok()) return s;
    const Partition& p = partitions_[partition];
    // A copy, so that `visit` may take its time.
    std::vector<std::string> chunks;
    {
      absl::MutexLock lock(&p.mutex);
      if (from < p.first) {
        return absl::OutOfRangeError(
            absl::StrCat("partition ", partition, ": chunk ", from,
                         " was trimmed; the oldest is ", p.first));
      }
      for (size_t i = from - p.first; i < p.chunks.size(); ++i) {
        chunks.push_back(p.chunks[i]);
      }
    }
    for (const std::string& chunk : chunks) {
      if (absl::Status s = visit(from++, chunk); !s.ok()) return s;
    }
    return absl::OkStatus();
  }

  absl::Status Trim(int partition, uint64_t below) override {
    if (absl::Status s = CheckPartition(partition); !s.ok()) return s;
    Partition& p = partitions_[partition];
    absl::MutexLock lock(&p.mutex);
    while (p.first < below && !p.chunks.empty()) DropOldest(p);
    return absl::OkStatus();
  }

  absl::Status WriteSnapshot(int partition, uint64_t epoch, uint64_t sequence,
                             absl::Span<const std::string> parts) override {
    if (absl::Status s = CheckPartition(partition); !s.ok()) return s;
    Partition& p = partitions_[partition];
    absl::MutexLock lock(&p.mutex);
    if (absl::Status s = CheckEpoch(partition, p, epoch); !s.ok()) return s;
    p.snapshot.assign(parts.begin(), parts.end());
    p.snapshot_sequence = sequence;
    return absl::OkStatus();
  }

  absl::StatusOr<uint64_t> ReadSnapshot(
      int partition,
      absl::FunctionRef<absl::Status(absl::string_view)> visit) const override {
    if (absl::Status s = CheckPartition(partition); !s.ok()) return s;
    const Partition& p = partitions_[partition];
    // A copy, as in Read().
    std::vector<std::string> parts;
    uint64_t sequence;
    {
      absl::MutexLock lock(&p.mutex);
      parts = p.snapshot;
      sequence = p.snapshot_sequence;
    }
    for (const std::string& part : parts) {
      if (absl::Status s = visit(part); !s.ok()) return s;
    }
    return sequence;
  }

  bool forgets() const override {
    return options_.retained_bytes_max != MemoryJournalOptions::kRetainAll;
  }

 private:
  struct Partition {
    mutable absl::Mutex mutex;
    uint64_t epoch ABSL_GUARDED_BY(mutex) = 0;
    uint64_t first ABSL_GUARDED_BY(mutex) = 1;  // Sequence of chunks.front().
    std::deque<std::string> chunks ABSL_GUARDED_BY(mutex);
    int64_t bytes ABSL_GUARDED_BY(mutex) = 0;
    std::vector<std::string> snapshot ABSL_GUARDED_BY(mutex);
    uint64_t snapshot_sequence ABSL_GUARDED_BY(mutex) = 1;
  };

  static absl::Status CheckEpoch(int partition, const Partition& p,
                                 uint64_t epoch)
      ABSL_SHARED_LOCKS_REQUIRED(p.mutex) {
    if (epoch == p.epoch) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat("partition ", partition, ": epoch ", epoch,
                     " is fenced by epoch ", p.epoch));
  }

  absl::Status CheckPartition(int partition) const {
    if (partition >= 0 && partition < options_.partition_count) {
      return absl::OkStatus();
    }
    return absl::OutOfRangeError(absl::StrCat("there is no partition ",
                                              partition, "; there are ",
                                              options_.partition_count));
  }

  absl::Status TryAppend(int partition, uint64_t epoch, uint64_t sequence,
                         std::string chunk) {
    if (absl::Status s = CheckPartition(partition); !s.ok()) return s;
    Partition& p = partitions_[partition];
    absl::MutexLock lock(&p.mutex);
    if (absl::Status s = CheckEpoch(partition, p, epoch); !s.ok()) return s;
    const uint64_t next = p.first + p.chunks.size();
    if (sequence != next) {
      const bool same = sequence >= p.first && sequence < next &&
                        p.chunks[sequence - p.first] == chunk;
      if (same) return absl::OkStatus();
      return absl::OutOfRangeError(absl::StrCat("partition ", partition,
                                                ": slot ", sequence,
                                                " is not the next, ", next));
    }
    p.bytes += static_cast<int64_t>(chunk.size());
    p.chunks.push_back(std::move(chunk));
    while (p.chunks.size() > 1 && p.bytes > options_.retained_bytes_max) {
      DropOldest(p);
    }
    return absl::OkStatus();
  }

  static void DropOldest(Partition& p) ABSL_EXCLUSIVE_LOCKS_REQUIRED(p.mutex) {
    p.bytes -= static_cast<int64_t>(p.chunks.front().size());
    p.chunks.pop_front();
    ++p.first;
  }

  const MemoryJournalOptions options_;
  std::vector<Partition> partitions_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Journal>> MakeMemoryJournal(
    const MemoryJournalOptions& options) {
  if (options.partition_count < 1 || options.partition_count > 256) {
    return absl::InvalidArgumentError(absl::StrCat(
        "partition_count must be in [1, 256]; got ", options.partition_count));
  }
  if (options.retained_bytes_max < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("retained_bytes_max must not be negative; got ",
                     options.retained_bytes_max));
  }
  return std::make_unique<MemoryJournal>(options);
}

}  // namespace muster
