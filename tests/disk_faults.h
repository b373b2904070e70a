// DiskFaults: a disk that is full or fails, under the real system calls of the
// process that links this.
//
// Stands in front of the C library's write(), pwrite(), fsync(), fdatasync(),
// ftruncate(), fallocate() and rename(): the test's own code and the shared
// libraries it uses both come here.  Only calls on files below one folder are
// counted and refused.
#ifndef TESTS_DISK_FAULTS_H_
#define TESTS_DISK_FAULTS_H_

#include <cstdint>
#include <string>

namespace muster {

// All of it for the whole process; any thread.
class DiskFaults {
 public:
  enum class Calls {
    kAll,
    kSyncs,   // fsync() and fdatasync().
    kOthers,  // All but these.
  };

  // From now on such calls on files below `folder` are counted from 1, and
  // those from `first` to `last` fail with `error_number`; write() with half of
  // the bytes written.
  static void Arm(const std::string& folder, int error_number, int64_t first,
                  int64_t last, Calls which = Calls::kAll);

  // All goes well again.  Returns how many calls there have been since Arm().
  static int64_t Disarm();

  // How many of the calls since Arm() were fsync() or fdatasync().
  static int64_t Syncs();
};

}  // namespace muster

#endif  // TESTS_DISK_FAULTS_H_
