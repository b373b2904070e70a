// `muster fleet`: writes a synthetic fleet, for `muster run` and `muster
// query`.

#include "transport/loopback/fleet.h"

#include <cstdint>
#include <string>
#include <vector>

#include "server/command.h"
#include "server/exit_code.h"
#include "server/flags.h"

namespace muster {
namespace {

constexpr size_t kChunkBytes = size_t{1} << 20;

struct FleetOptions {
  int64_t devices = 100'000;
  int64_t seed = FleetGenerator::kDefaultSeed;
};

std::vector<Flag> FleetFlags(FleetOptions* o) {
  return {
      {"devices", "N", "devices (100000)", IntFlag{&o->devices, 0, UINT32_MAX}},
      {"seed", "N", "decides every twin (42)", IntFlag{&o->seed, 0, INT64_MAX}},
  };
}

int Fleet(const Command&, FleetOptions& options, const Arguments&) {
  const FleetGenerator generator(static_cast<uint64_t>(options.seed));
  std::string lines;
  for (int64_t row = 0; row < options.devices && !OutputLost(); ++row) {
    generator.AppendTwin(static_cast<uint32_t>(row), &lines);
    if (lines.size() < kChunkBytes) continue;
    Print(lines);
    lines.clear();
  }
  Print(lines);
  return kExitOk;
}

}  // namespace

const Command kFleetCommand = {
    .name = "fleet",
    .summary = "writes the twins of a synthetic fleet",
    .arguments = "[FLAGS] > FILE",
    .about =
        "Twins as `muster run` and `muster query` read them, one JSON document "
        "per\n"
        "line, about 735 bytes each. The same flags give the same bytes.\n",
    .example = "  muster fleet --devices 100000 > twins.jsonl\n",
    .invoke = MakeInvocation<FleetOptions, FleetFlags, Fleet>};

}  // namespace muster
