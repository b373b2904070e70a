// FenceStamp: how far the journal was durable, kept beside the journal.
//
// A log that ends in a torn record and one whose last records have rotted look
// alike: both are cut off at the first record that cannot be read.  The one is
// what a crash leaves, and nothing that was answered is missing; the other has
// lost what was answered.  The stamp tells them apart: it is written before the
// answers, and a log that ends before it has lost something.
//
// The file has two slots, each with a checksum.  Between two syncs only one of
// them is written, and the other is on disk whole: whatever a power loss does
// to the one, there is a stamp, at most a sync old.
#ifndef ENGINE_JOURNAL_ROCKSDB_FENCE_STAMP_H_
#define ENGINE_JOURNAL_ROCKSDB_FENCE_STAMP_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/journal/rocksdb/folder.h"

namespace muster {

struct FenceStamp {
  uint64_t commit = 0;  // Counts what was made durable, of any kind.
  std::vector<uint64_t> last_sequences;  // Per partition; 0: none.
};

// Not thread-safe.
class FenceStampFile {
 public:
  // Makes the file anew, durably, with `stamp` in both slots.
  static absl::Status Make(const std::string& path, const FenceStamp& stamp);

  // The newest stamp that is whole.
  //   DATA_LOSS  neither slot is; NOT_FOUND, ... as journal_files::Error()
  static absl::StatusOr<FenceStamp> Read(const std::string& path);

  // Opens for writing what Make() has made.
  static absl::StatusOr<std::unique_ptr<FenceStampFile>> Open(
      const std::string& path);

  // Puts `stamp` in place of the last one written: against a crash of the
  // process.  No allocation, one system call.
  absl::Status Write(const FenceStamp& stamp);

  // Against a power loss too.
  absl::Status Sync();

 private:
  FenceStampFile(std::string path, OpenFile file, int slot)
      : path_(std::move(path)), file_(std::move(file)), slot_(slot) {}

  const std::string path_;
  const OpenFile file_;
  int slot_;  // That Write() writes; the other one is on disk.
  std::string bytes_;
};

}  // namespace muster

#endif  // ENGINE_JOURNAL_ROCKSDB_FENCE_STAMP_H_
