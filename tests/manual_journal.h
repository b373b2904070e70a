// ManualJournal: answers when the test says so, so that what happens between a
// record and its durability can be acted out step by step.
#ifndef TESTS_MANUAL_JOURNAL_H_
#define TESTS_MANUAL_JOURNAL_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "engine/journal/journal.h"
#include "tests/forwarding_journal.h"

namespace muster {

// In memory; answers at once unless hold() was called.  For one thread.
class ManualJournal : public ForwardingJournal {
 public:
  explicit ManualJournal(int partitions = 16)
      : ForwardingJournal({.partition_count = partitions}) {}

  void Append(int partition, uint64_t epoch, uint64_t sequence,
              std::string chunk, Done done) override {
    if (before_append) std::exchange(before_append, nullptr)();
    if (holding_) {
      held_[partition] = {epoch, sequence, std::move(chunk), std::move(done)};
    } else if (!refusal_.ok()) {
      std::move(done)(refusal_);
    } else {
      ForwardingJournal::Append(partition, epoch, sequence, std::move(chunk),
                                std::move(done));
    }
  }

  // From now on appends wait.
  void Hold() { holding_ = true; }
  // From now on appends that do not wait are answered so.
  void Refuse(absl::Status status) { refusal_ = std::move(status); }
  int held() const { return static_cast<int>(held_.size()); }
  // Answers what waits now; what that leads to waits again.
  void ReleaseRound() {
    std::map<int, Held> round;
    round.swap(held_);
    for (auto& [partition, h] : round) {
      ForwardingJournal::Append(partition, h.epoch, h.sequence,
                                std::move(h.chunk), std::move(h.done));
    }
  }
  // Answers everything, from now on at once.
  void ReleaseAll() {
    holding_ = false;
    while (!held_.empty()) ReleaseRound();
  }

  // Called once, at the next append, before it is answered.
  std::function<void()> before_append;

 private:
  struct Held {
    uint64_t epoch = 0;
    uint64_t sequence = 0;
    std::string chunk;
    Done done;
  };

  bool holding_ = false;
  absl::Status refusal_;
  std::map<int, Held> held_;  // By partition, which has one append at a time.
};

}  // namespace muster

#endif  // TESTS_MANUAL_JOURNAL_H_
