// fleetgen writes a synthetic fleet (transport/loopback/fleet.h) to standard
// output, for demos, benches and other programs to read.

#include <cstdint>
#include <cstdio>
#include <limits>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "transport/loopback/fleet.h"

namespace {

constexpr char kHelp[] =
    "Writes a synthetic fleet of devices to standard output.\n"
    "\n"
    "  fleetgen twins N [SEED]      the twins of N devices, one JSON a line\n"
    "  fleetgen patches M N [SEED]  M changes to the battery of one of N\n"
    "                               devices each: ROW,TENTHS_OF_A_PERCENT\n"
    "\n"
    "The same arguments give the same bytes. SEED is 42 for twins and 43 for\n"
    "patches if it is left out; 100,000 twins are 73 MB.\n";

constexpr size_t kChunkBytes = size_t{1} << 20;

int UsageError(absl::string_view message) {
  const std::string text =
      absl::StrCat("fleetgen: ", message, " (see fleetgen --help)\n");
  std::fputs(text.c_str(), stderr);
  return 2;
}

// Writes `*out` and clears it.  False if standard output does not take it.
bool Flush(std::string* out) {
  const bool ok =
      std::fwrite(out->data(), 1, out->size(), stdout) == out->size() &&
      std::fflush(stdout) == 0;
  out->clear();
  return ok;
}

// Calls `append(i, &out)` for each i below `count` and writes what it appends.
template <typename Append>
int WriteLines(uint32_t count, Append append) {
  std::string out;
  out.reserve(kChunkBytes + muster::FleetGenerator::kTwinBytesMax);
  for (uint32_t i = 0; i < count; ++i) {
    append(i, &out);
    if (out.size() >= kChunkBytes && !Flush(&out)) break;
  }
  if (!Flush(&out) || std::ferror(stdout) != 0) {
    std::perror("fleetgen: standard output");
    return 1;
  }
  return 0;
}

int WriteTwins(uint32_t count, uint64_t seed) {
  const muster::FleetGenerator fleet(seed);
  return WriteLines(count, [&fleet](uint32_t row, std::string* out) {
    fleet.AppendTwin(row, out);
  });
}

int WritePatches(uint32_t count, uint32_t row_count, uint64_t seed) {
  muster::FleetPatchGenerator patches(row_count, seed);
  return WriteLines(count, [&patches](uint32_t, std::string* out) {
    const muster::FleetPatchGenerator::Patch patch = patches.Next();
    absl::StrAppend(out, patch.row, ",", patch.battery_tenths, "\n");
  });
}

}  // namespace

int main(int argc, char** argv) {
  const absl::string_view command = argc > 1 ? argv[1] : "";
  if (command == "--help" || command == "-h" || command == "help") {
    std::fputs(kHelp, stdout);
    return 0;
  }
  // The counts that follow the command; then a seed may.
  const int counts = command == "twins" ? 1 : command == "patches" ? 2 : 0;
  if (counts == 0) return UsageError("the command is twins or patches");
  if (argc < 2 + counts || argc > 3 + counts) {
    return UsageError(counts == 1 ? "usage: fleetgen twins N [SEED]"
                                  : "usage: fleetgen patches M N [SEED]");
  }
  uint32_t count[2] = {0, 0};
  for (int i = 0; i < counts; ++i) {
    if (!absl::SimpleAtoi(argv[2 + i], &count[i])) {
      return UsageError(absl::StrCat("a count is a whole number up to ",
                                     std::numeric_limits<uint32_t>::max(),
                                     "; got '", argv[2 + i], "'"));
    }
  }
  uint64_t seed = counts == 1 ? muster::FleetGenerator::kDefaultSeed
                              : muster::FleetPatchGenerator::kDefaultSeed;
  if (argc > 2 + counts && !absl::SimpleAtoi(argv[2 + counts], &seed)) {
    return UsageError(absl::StrCat("a seed is a whole number below 2^64; got '",
                                   argv[2 + counts], "'"));
  }
  if (counts == 1) return WriteTwins(count[0], seed);
  if (count[1] == 0) return UsageError("patches need at least one device");
  return WritePatches(count[0], count[1], seed);
}
