// What makes a hub for development of `muster serve --dev`: a certificate and a
// policy's key that are made once and kept beside the data, addresses that work
// out on most machines, devices that are simulated, and a text to paste from.
#ifndef SERVER_DEV_HUB_H_
#define SERVER_DEV_HUB_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/engine.h"
#include "server/hub_server.h"
#include "transport/auth/access.h"
#include "transport/http/hub/hub_service.h"
#include "transport/loopback/loopback_options.h"

namespace muster {

inline constexpr char kDevData[] = "muster-dev";
inline constexpr char kDevHubName[] = "localhost";
inline constexpr char kDevPolicy[] = "iothubowner";

// Files in `<data>/dev`, which only the owner can read.
struct DevFiles {
  std::string certificate_path;  // Absolute: to be pasted.
  std::string key_path;
  std::string policy_key_path;
  std::string policy_key;         // Base64.
  bool made_certificate = false;  // This time.
};

// Opens them; makes those that are not there.  The certificate is signed by
// itself, for the hub's name, "localhost", 127.0.0.1 and ::1, and made anew if
// it is for another hub's name.  Errors name the file.
// REQUIRES: `data` is a folder that this process alone has.
absl::StatusOr<DevFiles> OpenDevFiles(const std::string& data,
                                      const std::string& hub_name,
                                      absl::Time now,
                                      const RandomSource& random);

// The policy's.
absl::StatusOr<std::shared_ptr<const Access>> MakeDevAccess(
    const DevFiles& files, const std::string& hub_name, DeviceKeys device_keys);

// Where clients find the hub if nobody says otherwise: the first of them that
// can be had, of 127.0.0.1, and the same port of ::1 if that can be had too.
absl::Span<const int> DevPorts();  // 443, 8443

// Starts at the first of `ports` that this process may have and nobody else
// has.  `*listen` is where.  Errors are those of the last port.
absl::StatusOr<std::unique_ptr<HubServer>> StartDevHub(
    HubServerOptions options, absl::Span<const int> ports,
    std::vector<std::string>* listen);

// Registers the first `count` devices of the synthetic fleet, each with keys of
// its own and its twin; those that are there already stay as they are.
// Returns how many were not.  `progress` is called now and then with how many
// are done.  Errors are those of the engine.
absl::StatusOr<int64_t> RegisterDevDevices(
    Engine& engine, int64_t count, const RandomSource& random,
    absl::FunctionRef<void(int64_t done)> progress);

// What simulated devices do: they answer any method after a moment, with its
// name and payload.
LoopbackOptions DevDevices();

// What a developer pastes: the connection string, how clients come to trust the
// certificate, and how they come to `port` if it is not HTTPS's own.
std::string DevHubText(const DevFiles& files, absl::string_view hub_name,
                       int port, absl::string_view muster);

}  // namespace muster

#endif  // SERVER_DEV_HUB_H_
