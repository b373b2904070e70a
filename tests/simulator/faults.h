// Faults: what is to go wrong next, and what has gone wrong so far.
//
// A step of the simulation arms a fault; it strikes when the product next does
// what the fault is about, and is counted then.  So a fault can be taken out of
// a plan without touching anything else, which is what shrinking needs.
#ifndef TESTS_SIMULATOR_FAULTS_H_
#define TESTS_SIMULATOR_FAULTS_H_

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "tests/choices.h"

namespace muster::simulator {

enum class Fault : uint8_t {
  // Of the disk.
  kWriteFails,
  kShortWrite,
  kSyncFails,
  kAnswerLost,    // Durable, but the answer says that nobody knows.
  kSlowSync,      // The answer takes seconds.
  kDiskFull,      // For a while.
  kCrashAtWrite,  // After so many operations of the disk.
  kBitFlipped,    // Something that was read back is not what was written.
  // Of what was not synced when the machine stopped.
  kPagesLost,
  kPageTorn,
  kPagesReordered,
  // Of the transport.
  kOutcomeLost,
  kOutcomeTwice,
  kOutcomeContradicts,  // A second one that says something else.
  kOutcomeLate,         // Beyond the response timeout.
  kOutcomeOfOldLife,    // Told to the engine after the one that asked.
  kOutcomesReordered,
  kPartialSend,
  kCallFails,   // Any outcome but an answer.
  kDisconnect,  // With calls under way, or none.
  kReportLate,  // A change of connection is told late.
  // Of the clock and the process.
  kWallForward,
  kWallBack,
  kCrash,
  kRestart,
  kTakeover,  // Another engine becomes the owner while the first lives.
};
inline constexpr int kFaultCount = static_cast<int>(Fault::kTakeover) + 1;

absl::string_view FaultName(Fault fault);

// One thread's.
class Faults {
 public:
  // Strikes the next `count` times.
  void Arm(Fault fault, int count) { armed_[Index(fault)] += count; }
  void DisarmAll() { armed_.fill(0); }
  int armed(Fault fault) const { return armed_[Index(fault)]; }

  // Whether the fault strikes now; counts it.
  bool Strikes(Fault fault) {
    if (armed_[Index(fault)] == 0) return false;
    --armed_[Index(fault)];
    Count(fault);
    return true;
  }
  // One that was not armed has struck.
  void Count(Fault fault) {
    ++struck_[Index(fault)];
    ++total_;
    if (on_strike) on_strike(fault);
  }

  int64_t total() const { return total_; }
  const std::array<int64_t, kFaultCount>& struck() const { return struck_; }

  std::function<void(Fault)> on_strike;

 private:
  static size_t Index(Fault fault) { return static_cast<size_t>(fault); }

  std::array<int, kFaultCount> armed_ = {};
  std::array<int64_t, kFaultCount> struck_ = {};
  int64_t total_ = 0;
};

// What the parts of a simulated world share.
struct World {
  Faults faults;
  // Of the step that is being executed: dropping a step leaves the decisions of
  // the others as they were.
  Choices* choices = nullptr;
  // Null: nobody reads it.
  std::function<void(const std::string&)> trace;
  // Where a violation of an invariant goes; the first one counts.
  std::function<void(const std::string&)> violation;
};

}  // namespace muster::simulator

#endif  // TESTS_SIMULATOR_FAULTS_H_
