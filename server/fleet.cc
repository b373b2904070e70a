// `muster fleet`: writes a synthetic fleet, for `muster run` and `muster
// query`.

#include "transport/loopback/fleet.h"

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "server/command.h"
#include "server/exit_code.h"
#include "server/flags.h"

namespace muster {
namespace {

constexpr size_t kChunkBytes = size_t{1} << 20;

int Fleet(const Command& command, absl::Span<const absl::string_view> words) {
  int64_t devices = 100'000;
  int64_t seed = FleetGenerator::kDefaultSeed;
  const std::vector<Flag> flags = {
      {"devices", "N", "devices (100000)", IntFlag{&devices, 0, UINT32_MAX}},
      {"seed", "N", "decides every twin (42)", IntFlag{&seed, 0, INT64_MAX}},
  };
  absl::StatusOr<Arguments> arguments = ParseFlags(flags, words);
  if (!arguments.ok()) return UsageError(command, arguments.status());
  if (arguments->help) {
    Print(HelpText(command, flags));
    return kExitOk;
  }
  if (!arguments->positional.empty()) {
    return UsageError(command,
                      absl::InvalidArgumentError(absl::StrCat(
                          "unexpected argument: ", arguments->positional[0])));
  }
  const FleetGenerator generator(static_cast<uint64_t>(seed));
  std::string lines;
  for (int64_t row = 0; row < devices && !OutputLost(); ++row) {
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
    "fleet",
    "writes the twins of a synthetic fleet",
    "[FLAGS] > FILE",
    "Twins as `muster run` and `muster query` read them, one JSON document "
    "per\n"
    "line, about 735 bytes each. The same flags give the same bytes.\n",
    "  muster fleet --devices 100000 > twins.jsonl\n",
    Fleet};

}  // namespace muster
