// DiskHistory: what a process does to the files below a folder, call by call,
// and the folder as a crash after any of the calls may leave it.
//
// Stands in front of the C library's calls that change files, as disk_faults.h
// does, and lets them through: the folder itself has everything.
//
// A crash of the machine keeps what was synced: bytes of a file once the file
// was synced, names in a directory once the directory was.  Of the rest it may
// keep what it likes, and that is more than one thing: see Left.
#ifndef TESTS_DISK_HISTORY_H_
#define TESTS_DISK_HISTORY_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace muster {

// All of it for the whole process; any thread.
class DiskHistory {
 public:
  // What is left of what was not synced.
  enum class Left {
    kAll,        // Only the process was killed.
    kNothing,    // Neither bytes nor names.
    kNames,      // Names, but no bytes.
    kTorn,       // All but the second half of the last write.
    kReordered,  // Of the bytes, only those of the last write.
    kSome,       // Names, and each write or not, as `seed` has it.
  };
  static constexpr int kLefts = 6;

  // Files by their path below the folder; directories have no bytes.
  using Files = std::map<std::string, std::optional<std::string>>;

  // Forgets all, and keeps what happens below `folder` from now on; the folder
  // is there, and empty.
  static void Start(const std::string& folder);
  // Keeps no more of what happens.
  static void Stop();

  // Calls so far.
  static size_t size();
  // "write db/000004.log 0+120"
  static std::string Describe(size_t call);

  // What a crash after the first `calls` calls leaves.
  static Files After(size_t calls, Left left, uint32_t seed);
};

}  // namespace muster

#endif  // TESTS_DISK_HISTORY_H_
