// ForwardingJournal: a journal in memory that a test overrides a call of.
#ifndef TESTS_FORWARDING_JOURNAL_H_
#define TESTS_FORWARDING_JOURNAL_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/journal/journal.h"

namespace muster {

class ForwardingJournal : public Journal {
 public:
  explicit ForwardingJournal(const MemoryJournalOptions& options = {})
      : inner_(*MakeMemoryJournal(options)) {}

  int partition_count() const override { return inner_->partition_count(); }
  absl::StatusOr<Ownership> Acquire(int partition) override {
    return inner_->Acquire(partition);
  }
  absl::Status Release(int partition, uint64_t epoch) override {
    return inner_->Release(partition, epoch);
  }
  void Append(int partition, uint64_t epoch, uint64_t sequence,
              std::string chunk, Done done) override {
    inner_->Append(partition, epoch, sequence, std::move(chunk),
                   std::move(done));
  }
  absl::Status Read(int partition, uint64_t from,
                    absl::FunctionRef<absl::Status(uint64_t, absl::string_view)>
                        visit) const override {
    return inner_->Read(partition, from, visit);
  }
  absl::Status Trim(int partition, uint64_t below) override {
    return inner_->Trim(partition, below);
  }
  absl::Status WriteSnapshot(int partition, uint64_t epoch, uint64_t sequence,
                             absl::Span<const std::string> parts) override {
    return inner_->WriteSnapshot(partition, epoch, sequence, parts);
  }
  absl::StatusOr<uint64_t> ReadSnapshot(
      int partition,
      absl::FunctionRef<absl::Status(absl::string_view)> visit) const override {
    return inner_->ReadSnapshot(partition, visit);
  }
  bool forgets() const override { return inner_->forgets(); }

 private:
  const std::unique_ptr<Journal> inner_;
};

}  // namespace muster

#endif  // TESTS_FORWARDING_JOURNAL_H_
