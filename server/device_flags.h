// What simulated devices do: flags that all commands share which have some.
#ifndef SERVER_DEVICE_FLAGS_H_
#define SERVER_DEVICE_FLAGS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/flags.h"
#include "transport/loopback/loopback_options.h"

namespace muster {

struct DeviceFlags {
  std::string config;
  int64_t seed = -1;  // < 0: the file's.
};

// `flags`, and behind them those of `o`.
std::vector<Flag> WithDeviceFlags(DeviceFlags* o, std::vector<Flag> flags);

struct SimulatedDevices {
  LoopbackOptions options;
  bool has_offline_share = false;  // The file says who is offline.
};

// Reads the file, if there is one.  INVALID_ARGUMENT and NOT_FOUND begin with
// its path.
absl::StatusOr<SimulatedDevices> ReadDeviceFlags(const DeviceFlags& flags);

// The same as words of a command line.
std::vector<std::string> DeviceWords(const DeviceFlags& flags);

}  // namespace muster

#endif  // SERVER_DEVICE_FLAGS_H_
