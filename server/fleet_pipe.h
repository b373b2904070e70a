// FleetPipe: the synthetic fleet as a file that is written while it is read, so
// that making and loading it go on at the same time and nothing touches a disk.
#ifndef SERVER_FLEET_PIPE_H_
#define SERVER_FLEET_PIPE_H_

#include <cstdint>
#include <string>
#include <thread>

namespace muster {

// REQUIRES: SIGPIPE is ignored, for the reader may stop early.
class FleetPipe {
 public:
  // Starts to write the twins of `devices` devices.
  FleetPipe(uint32_t devices, uint64_t seed);
  // Ends the writing.
  ~FleetPipe();

  FleetPipe(const FleetPipe&) = delete;
  FleetPipe& operator=(const FleetPipe&) = delete;

  // To be opened and read once; "" if the system gave no pipe, see errno.
  const std::string& path() const { return path_; }

 private:
  int read_fd_ = -1;
  std::string path_;
  std::thread writer_;
};

}  // namespace muster

#endif  // SERVER_FLEET_PIPE_H_
