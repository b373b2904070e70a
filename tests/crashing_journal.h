// CrashingJournal: a journal in memory that outlives its engine.
#ifndef TESTS_CRASHING_JOURNAL_H_
#define TESTS_CRASHING_JOURNAL_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "tests/forwarding_journal.h"

namespace muster {

// Keeps everything; a crash cuts off what would be appended after it.
class CrashingJournal : public ForwardingJournal {
 public:
  CrashingJournal()
      : ForwardingJournal(
            {.partition_count = 4,
             .retained_bytes_max = MemoryJournalOptions::kRetainAll}) {}

  void Append(int partition, uint64_t epoch, uint64_t sequence,
              std::string chunk, Done done) override {
    if (full) {
      std::move(done)(absl::ResourceExhaustedError("the disk is full"));
      return;
    }
    if (crashed) {
      std::move(done)(absl::FailedPreconditionError("the process is gone"));
      return;
    }
    ++appends;
    ForwardingJournal::Append(partition, epoch, sequence, std::move(chunk),
                              std::move(done));
  }

  bool crashed = false;
  bool full = false;
  int appends = 0;
};

}  // namespace muster

#endif  // TESTS_CRASHING_JOURNAL_H_
