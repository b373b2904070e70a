// SimJournal: a journal over a SimDisk, slow and obviously right; and the front
// of it that one engine holds, which can be cut off.
//
// A partition is a log of frames, each a chunk or the epoch of a new owner, and
// a snapshot that is written beside the old one and renamed.  At most one frame
// is not synced, so that what is broken at the end is a tail that nobody was
// told of, and what is broken before that is damage.
#ifndef TESTS_SIMULATOR_SIM_JOURNAL_H_
#define TESTS_SIMULATOR_SIM_JOURNAL_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/journal/journal.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "tests/simulator/faults.h"
#include "tests/simulator/sim_disk.h"

namespace muster::simulator {

// One thread's.  Outlives every front.
class SimJournal {
 public:
  // All must outlive it.
  SimJournal(World* world, SimDisk* disk, Executor* executor, Clock* clock,
             int partitions);

  // For one engine.  Must outlive it.
  class Front;
  std::unique_ptr<Front> MakeFront();

  // While somebody waits for the partition in this only thread the journal
  // answers at once; what is under way there is answered first.
  static constexpr int kAll = -1;
  void BeginBlocking(int partition);
  void EndBlocking() { blocking_ = false; }

  // From now on it never takes its time.
  void AnswerAtOnce() { at_once_ = true; }
  bool at_once() const { return at_once_; }

  // Whether an append is under way.
  bool busy() const;

  // The machine lost its power and has it again.  Every front has been cut off.
  void PowerOff();

  // Damages a frame that is not the last, if there is one: false if not.
  // Repair() makes it good again.
  bool Damage();
  void Repair();
  // Whether damaged bytes were handed to a reader, or refused, since Damage().
  bool damage_seen() const { return damage_seen_; }

  int partition_count() const { return static_cast<int>(partitions_.size()); }

  // What happens while a snapshot is being written.
  std::function<void()> on_snapshot;

 private:
  struct Chunk {
    uint64_t epoch;
    std::string bytes;
  };
  struct Pending {
    const Front* front;
    uint64_t number;  // Of the append, so that its timer knows it.
    uint64_t epoch;
    uint64_t sequence;
    std::string chunk;
    Journal::Done done;
  };
  struct Partition {
    std::string log;
    std::string snapshot;
    // What the log says.
    uint64_t epoch = 0;
    uint64_t first = 1;  // Sequence of chunks.front().
    std::vector<Chunk> chunks;
    // An operation failed: what the log says has to be read again.
    bool unknown = false;
    absl::Status damaged;
    std::optional<Pending> pending;

    uint64_t next() const { return first + chunks.size(); }
  };

  absl::Status Check(int partition) const;
  // Reads the log again if that is due.
  absl::Status MakeKnown(Partition& p);
  absl::Status Load(Partition& p);
  absl::Status AppendFrame(Partition& p, uint64_t sequence, uint64_t epoch,
                           absl::string_view payload);
  // Syncs the append under way and answers it.
  void Complete(Partition& p);
  // It will never be answered otherwise.
  void Abandon(Partition& p, absl::Status answer);

  absl::StatusOr<Journal::Ownership> Acquire(int partition);
  absl::Status Release(int partition, uint64_t epoch);
  void Append(const Front* front, int partition, uint64_t epoch,
              uint64_t sequence, std::string chunk, Journal::Done done);
  absl::Status Read(
      int partition, uint64_t from,
      absl::FunctionRef<absl::Status(uint64_t, absl::string_view)> visit);
  absl::Status Trim(int partition, uint64_t below);
  absl::Status WriteSnapshot(int partition, uint64_t epoch, uint64_t sequence,
                             absl::Span<const std::string> parts);
  absl::StatusOr<uint64_t> ReadSnapshot(
      int partition, absl::FunctionRef<absl::Status(absl::string_view)> visit);
  void CutOff(const Front* front);

  World& world_;
  SimDisk& disk_;
  Executor& executor_;
  Clock& clock_;
  std::vector<Partition> partitions_;
  bool blocking_ = false;
  bool at_once_ = false;
  uint64_t next_number_ = 0;

  // Damage(): where, and whether readers get it as it is.
  std::string damaged_file_;
  size_t damaged_bit_ = 0;
  uint64_t damaged_sequence_ = 0;  // 0: not that of a chunk.
  bool passes_damage_ = false;
  bool damage_seen_ = false;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

class SimJournal::Front : public Journal {
 public:
  explicit Front(SimJournal* journal) : journal_(*journal) {}

  // From now on everything fails, and nothing that was asked is done any more.
  void CutOff() {
    cut_off_ = true;
    journal_.CutOff(this);
  }
  bool is_cut_off() const { return cut_off_; }

  int partition_count() const override { return journal_.partition_count(); }
  absl::StatusOr<Ownership> Acquire(int partition) override {
    if (cut_off_) return Gone();
    return journal_.Acquire(partition);
  }
  absl::Status Release(int partition, uint64_t epoch) override {
    if (cut_off_) return Gone();
    return journal_.Release(partition, epoch);
  }
  void Append(int partition, uint64_t epoch, uint64_t sequence,
              std::string chunk, Done done) override {
    if (cut_off_) {
      std::move(done)(Gone());
      return;
    }
    journal_.Append(this, partition, epoch, sequence, std::move(chunk),
                    std::move(done));
  }
  absl::Status Read(int partition, uint64_t from,
                    absl::FunctionRef<absl::Status(uint64_t, absl::string_view)>
                        visit) const override {
    if (cut_off_) return Gone();
    return journal_.Read(partition, from, visit);
  }
  absl::Status Trim(int partition, uint64_t below) override {
    if (cut_off_) return Gone();
    return journal_.Trim(partition, below);
  }
  absl::Status WriteSnapshot(int partition, uint64_t epoch, uint64_t sequence,
                             absl::Span<const std::string> parts) override {
    if (cut_off_) return Gone();
    return journal_.WriteSnapshot(partition, epoch, sequence, parts);
  }
  absl::StatusOr<uint64_t> ReadSnapshot(
      int partition,
      absl::FunctionRef<absl::Status(absl::string_view)> visit) const override {
    if (cut_off_) return Gone();
    return journal_.ReadSnapshot(partition, visit);
  }

 private:
  static absl::Status Gone() {
    return absl::FailedPreconditionError("the process was killed");
  }

  SimJournal& journal_;
  bool cut_off_ = false;
};

}  // namespace muster::simulator

#endif  // TESTS_SIMULATOR_SIM_JOURNAL_H_
