// SealedPartition: writes chunks and snapshots as the engine does, into one
// partition of a journal, and lets a test do it wrong.
#ifndef TESTS_SEALED_JOURNAL_H_
#define TESTS_SEALED_JOURNAL_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "engine/journal/chunk.h"
#include "engine/journal/journal.h"
#include "engine/journal/record.h"
#include "engine/model/job_status.h"
#include "gtest/gtest.h"

namespace muster {

class SealedPartition {
 public:
  // Acquires it.
  SealedPartition(Journal* journal, int partition)
      : journal_(journal), partition_(partition) {
    const auto owned = journal->Acquire(partition);
    EXPECT_TRUE(owned.ok()) << owned.status();
    epoch_ = owned->epoch;
    mark_.sequence = owned->next_sequence;
  }

  uint64_t next_sequence() const { return mark_.sequence; }

  // What stands before the payload of the next chunk.
  ChunkHeader NextHeader() const {
    ChunkHeader header;
    header.partition = static_cast<uint16_t>(partition_);
    header.sequence = mark_.sequence;
    header.epoch = epoch_;
    header.previous = mark_.checksum;
    return header;
  }

  void Append(absl::string_view payload) { Append(NextHeader(), payload); }

  void Append(const ChunkHeader& header, absl::string_view payload) {
    std::string chunk(ChunkHeader::kSize, '\0');
    absl::StrAppend(&chunk, payload);
    const uint64_t checksum = SealChunk(header, &chunk);
    AppendBytes(std::move(chunk), checksum);
  }

  // Of a chunk with `checksum`, whatever its bytes say.
  void AppendBytes(std::string bytes, uint64_t checksum) {
    absl::Notification answered;
    journal_->Append(partition_, epoch_, mark_.sequence, std::move(bytes),
                     [&](absl::Status status) {
                       EXPECT_TRUE(status.ok()) << status;
                       answered.Notify();
                     });
    answered.WaitForNotification();
    ++mark_.sequence;
    mark_.checksum = checksum;
  }

  // Of all up to here; trims if `trim`.
  void WriteSnapshot(std::vector<std::string> payloads, bool trim = true) {
    ChunkHeader header = NextHeader();
    header.part_count = static_cast<uint32_t>(payloads.size());
    for (std::string& part : payloads) {
      part.insert(0, ChunkHeader::kSize, '\0');
      header.previous = SealChunk(header, &part);
      ++header.part;
    }
    absl::Status s =
        journal_->WriteSnapshot(partition_, epoch_, mark_.sequence, payloads);
    EXPECT_TRUE(s.ok()) << s;
    if (!trim) return;
    s = journal_->Trim(partition_, mark_.sequence);
    EXPECT_TRUE(s.ok()) << s;
  }

  // The records of a job: accepted, and what came of it.
  static std::string JobRecords(uint64_t job, JobStatus status) {
    std::string records;
    AppendRecord(JobCreatedRecord{job, absl::StrCat("job-", job),
                                  absl::FromUnixSeconds(1), "{}", 2, 100},
                 &records);
    if (status >= JobStatus::kRunning) {
      JobStartedRecord started;
      started.job = job;
      AppendRecord(started, &records);
    }
    if (IsTerminal(status)) {
      JobEndedRecord ended;
      ended.job = job;
      ended.status = static_cast<uint8_t>(status);
      AppendRecord(ended, &records);
    }
    return records;
  }

 private:
  Journal* const journal_;
  const int partition_;
  uint64_t epoch_;
  ChunkMark mark_;
};

}  // namespace muster

#endif  // TESTS_SEALED_JOURNAL_H_
