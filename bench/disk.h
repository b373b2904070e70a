// What a bench that writes to the disk needs: a folder of its own, and a disk
// that is as slow as an honest one.
//
// Virtual disks answer a sync within a hundred microseconds: few disks that
// tell the truth do.  Linking this puts fsync(), fdatasync() and
// sync_file_range() of the whole program, shared libraries included, behind a
// pause that can be set.
#ifndef BENCH_DISK_H_
#define BENCH_DISK_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace muster {

// Every sync from now on sleeps that much longer; 0 at first.
void SetSyncDelay(absl::Duration delay);

// Calls so far of fsync(), fdatasync() and sync_file_range(), by all threads.
int64_t SyncCount();

// A folder in $TEST_TMPDIR, or $TMPDIR, or /tmp; removed with all that is in it
// when this goes.
class TempFolder {
 public:
  explicit TempFolder(absl::string_view name);
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::string& path() const { return path_; }
  // Removes what is in it.
  void Clear() const;

 private:
  std::string path_;
};

// Bytes that the files of a folder take on disk, as the file system counts
// blocks.
int64_t DiskBytes(const std::string& folder);

// Copies a folder of files and folders to a place where nothing is.
void CopyFolder(const std::string& from, const std::string& to);
// And what is in it.
void RemoveFolder(const std::string& folder);

// Of appending 4 KiB and fdatasync(), with the delay; the median of a hundred.
absl::Duration MeasureSync(const std::string& folder);

// "load 0.42": runnable threads of the whole machine in the last minute.
// Figures of a machine that others use are worth less.
std::string MachineLoad();

}  // namespace muster

#endif  // BENCH_DISK_H_
