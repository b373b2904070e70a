// SimDisk: files of pages, which are on the disk for sure once they are synced,
// and may be there, whole or in part and in any order, before that.
#ifndef TESTS_SIMULATOR_SIM_DISK_H_
#define TESTS_SIMULATOR_SIM_DISK_H_

#include <cstddef>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "tests/simulator/faults.h"

namespace muster::simulator {

// One thread's.
class SimDisk {
 public:
  static constexpr size_t kPageBytes = 128;

  explicit SimDisk(World* world) : world_(*world) {}

  // Appends to the file, which is made if it is not there; not durable yet.
  //   RESOURCE_EXHAUSTED  full; UNAVAILABLE  failed: nothing or a part is there
  absl::Status Append(const std::string& file, absl::string_view bytes);
  // All that was appended is durable.  UNAVAILABLE: some of it may be.
  absl::Status Sync(const std::string& file);
  // Cuts the file, durably.
  absl::Status Truncate(const std::string& file, size_t size);
  // `from` takes the place of `to`, durably, in one step.
  absl::Status Rename(const std::string& from, const std::string& to);
  void Remove(const std::string& file) { files_.erase(file); }

  // What a reader sees; empty if there is no such file.
  absl::string_view Read(const std::string& file) const;

  // Of what was not synced some may be on the disk; the rest is gone.
  void LoseUnsynced(const std::string& file);
  // The same for all files: the machine lost its power, and has it again.
  void PowerOff();

  // Flips a bit on the disk.
  void FlipBit(const std::string& file, size_t bit);

  void SetFull(bool full) { full_ = full; }
  bool full() const { return full_; }
  // Every operation fails once so many more have been tried: the process is
  // as good as dead, and is killed when somebody looks.
  void DieAfter(int operations) { left_ = operations; }
  bool dead() const { return dead_; }

  int64_t operations() const { return operations_; }

 private:
  struct File {
    std::string bytes;  // As a reader sees it.
    size_t synced = 0;  // So many of them are durable.
  };

  // Every operation that changes something begins with it.
  absl::Status Begin();

  World& world_;
  std::map<std::string, File> files_;
  bool full_ = false;
  bool dead_ = false;
  int left_ = -1;  // -1: does not die.
  int64_t operations_ = 0;
};

}  // namespace muster::simulator

#endif  // TESTS_SIMULATOR_SIM_DISK_H_
