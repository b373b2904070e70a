// Slice: a job's share of one shard, while it runs and as long as its history
// lives.
//
// Targets are numbered by rank in the frozen target set, and each is in one of
// these states:
//
//   ready      pending, to be dispatched
//   waiting    pending, until the device connects
//   running    sent, or its patch is being applied
//   succeeded  \  terminal: never left
//   failed     /  (canceled ones too; the result says which)
//
//            +--------- Return ---------+
//            v                          |
//   --> ready --- MarkRunning ---> running --- Finish ---> succeeded | failed
//        ^ |                                                    ^
//   Wake | | Wait                                               |
//        | v                                                    |
//       waiting ------------------- Finish --------------------+   (also ready)
//
// A state is one bit in one of four planes, so that finding the next ready
// target or all running ones is a scan of words.  Half a byte per target is all
// that a pending job costs beside its target set; six bytes more come with the
// first dispatch: when it began, when it ended, how it ended, each as a number
// in a small table, since whole ranges begin and end together and most answers
// are alike.
#ifndef ENGINE_DISPATCH_SLICE_H_
#define ENGINE_DISPATCH_SLICE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/model/error.h"
#include "engine/model/job_status.h"
#include "engine/twin/columns/row_set.h"

namespace muster {

// How an execution ended.
struct ExecutionResult {
  ExecutionStatus status = ExecutionStatus::kCompleted;  // Terminal.
  ErrorCode error = ErrorCode::kOk;
  std::string description;
  bool answered = false;
  int32_t response_status = 0;
  std::string payload;  // JSON text; empty means null.

  friend bool operator==(const ExecutionResult&,
                         const ExecutionResult&) = default;
};

// Changes of a job's statistics.
struct StatisticsDelta {
  int64_t pending = 0;
  int64_t running = 0;
  int64_t succeeded = 0;
  int64_t failed = 0;

  bool empty() const {
    return pending == 0 && running == 0 && succeeded == 0 && failed == 0;
  }
};

// Not thread-safe: the shard's mutex guards it.  Every change of state adds to
// `*delta`.
class Slice {
 public:
  using Rank = uint16_t;

  // When something happened: on the wall clock for readers, on the monotonic
  // clock for timeouts.
  struct Stamp {
    absl::Time wall;
    absl::Duration monotonic;
  };

  // All targets are ready.
  explicit Slice(RowSet targets);

  const RowSet& targets() const { return targets_; }
  int size() const { return targets_.size(); }
  int ready_count() const { return ready_count_; }
  int waiting_count() const { return waiting_count_; }
  int running_count() const { return running_count_; }
  int succeeded_count() const;  // O(targets / 64).
  int open_count() const {
    return ready_count_ + waiting_count_ + running_count_;
  }

  bool IsReady(Rank rank) const { return Test(ready_, rank); }
  bool IsWaiting(Rank rank) const { return Test(waiting_, rank); }
  bool IsRunning(Rank rank) const { return Test(running_, rank); }

  // The first ready rank at or after `from`, or -1.
  int NextReady(int from) const { return Next(ready_, from); }
  // Calls `visit` for each rank in that state, ascending; `visit` may change
  // the state of the rank that it is given.
  void ForEachReady(absl::FunctionRef<void(Rank)> visit) const;
  void ForEachWaiting(absl::FunctionRef<void(Rank)> visit) const;
  void ForEachRunning(absl::FunctionRef<void(Rank)> visit) const;
  // Of the ranks in [first, last]; O(targets / 64) and the visits.
  void ForEachRunning(Rank first, Rank last,
                      absl::FunctionRef<void(Rank)> visit) const;
  bool AnyRunning(Rank first, Rank last) const;

  // Numbers of instants and results, for MarkRunning() and Finish().  Valid
  // until the next AddStamp() or AddResult() respectively: either may renumber.
  uint16_t AddStamp(const Stamp& stamp);
  // `*is_new` is set if the result was not in the table before.
  uint16_t AddResult(const ExecutionResult& result, bool* is_new);

  // ready -> running.
  void MarkRunning(Rank rank, uint16_t stamp, StatisticsDelta* delta);
  // The running rank began only now.
  void RestampStart(Rank rank, uint16_t stamp);
  // ready <-> waiting.  Not visible in the statistics.
  void Wait(Rank rank);
  void Wake(Rank rank);
  // running -> ready, as if it had not been dispatched.  The next dispatch is a
  // new attempt if `sent`.
  void Return(Rank rank, bool sent, StatisticsDelta* delta);
  // Any open state -> terminal.
  void Finish(Rank rank, uint16_t stamp, uint16_t result,
              StatisticsDelta* delta);

  // Number of the current (or next) attempt modulo kAttempts.
  static constexpr int kAttempts = 64;
  uint8_t attempt(Rank rank) const;

  // When the running rank was marked.  REQUIRES: IsRunning(rank).
  absl::Duration RunningSince(Rank rank) const;

  // What a reader sees.  `result` is valid until the next change.
  struct View {
    ExecutionStatus status = ExecutionStatus::kPending;
    const Stamp* start = nullptr;             // nullptr: not begun.
    const Stamp* end = nullptr;               // nullptr: not ended.
    const ExecutionResult* result = nullptr;  // nullptr: not ended.
  };
  View Get(Rank rank) const;

  // Heap bytes.
  size_t MemoryUsage() const;

 private:
  friend class SliceRecords;

  using Plane = std::vector<uint64_t>;

  // 0 in `start` and `end` means none; the others are table indices plus one.
  struct Progress {
    uint16_t start = 0;
    uint16_t end = 0;
    uint16_t result = 0;
  };

  static bool Test(const Plane& plane, int rank) {
    return plane[rank >> 6] >> (rank & 63) & 1;
  }
  static void Set(Plane& plane, int rank) {
    plane[rank >> 6] |= uint64_t{1} << (rank & 63);
  }
  static void Clear(Plane& plane, int rank) {
    plane[rank >> 6] &= ~(uint64_t{1} << (rank & 63));
  }
  static int Next(const Plane& plane, int from);
  static void ForEach(const Plane& plane, absl::FunctionRef<void(Rank)> visit);

  Progress& progress(Rank rank);
  // Forgets the stamps that no target refers to.
  void CompactStamps();

  RowSet targets_;
  int ready_count_;
  int waiting_count_ = 0;
  int running_count_ = 0;
  Plane ready_;
  Plane waiting_;
  Plane running_;
  Plane succeeded_;

  std::vector<Progress> progress_;  // By rank; empty until the first change.
  std::vector<Stamp> stamps_;
  std::vector<ExecutionResult> results_;
  // Attempts of the ranks that had more than one.
  absl::flat_hash_map<Rank, uint8_t> attempts_;
};

}  // namespace muster

#endif  // ENGINE_DISPATCH_SLICE_H_
