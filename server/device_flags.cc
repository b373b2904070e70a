#include "server/device_flags.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/model/json.h"
#include "server/files.h"

namespace muster {
namespace {

constexpr size_t kConfigSizeMax = 1 << 20;

}  // namespace

std::vector<Flag> WithDeviceFlags(DeviceFlags* o, std::vector<Flag> flags) {
  flags.push_back({"devices-config", "FILE",
                   "what the simulated devices do, as JSON: latency,\n"
                   "failures, who is offline (README.md, \"Simulated\n"
                   "devices\")",
                   &o->config});
  flags.push_back({"seed", "N", "decides what each device does (1)",
                   IntFlag{&o->seed, 0, INT64_MAX}});
  return flags;
}

absl::StatusOr<SimulatedDevices> ReadDeviceFlags(const DeviceFlags& flags) {
  SimulatedDevices devices;
  if (!flags.config.empty()) {
    absl::StatusOr<std::string> text = ReadFile(flags.config, kConfigSizeMax);
    if (!text.ok()) return text.status();
    absl::StatusOr<LoopbackOptions> parsed = ParseLoopbackOptions(*text);
    if (!parsed.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(flags.config, ": ", parsed.status().message()));
    }
    devices.options = *std::move(parsed);
    devices.has_offline_share =
        !ParseJson(*text)->view().Find("offline_share").is_undefined();
  }
  if (flags.seed >= 0) devices.options.seed = static_cast<uint64_t>(flags.seed);
  return devices;
}

std::vector<std::string> DeviceWords(const DeviceFlags& flags) {
  std::vector<std::string> words;
  if (!flags.config.empty()) words = {"--devices-config", flags.config};
  if (flags.seed >= 0) {
    words.emplace_back("--seed");
    words.push_back(absl::StrCat(flags.seed));
  }
  return words;
}

}  // namespace muster
