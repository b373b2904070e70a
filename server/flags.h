// Flags: a command's flags as a table, and the one reader of such tables.
//
//   RunOptions options;
//   const std::vector<Flag> flags = {
//       {"fleet", "FILE", "twins, one JSON document per line", &options.fleet},
//       {"quiet", "", "show no progress", &options.quiet},
//   };
//   absl::StatusOr<Arguments> arguments = ParseFlags(flags, words);
//
// A table per command, instead of Abseil's flags, which are global and the same
// for all commands.
#ifndef SERVER_FLAGS_H_
#define SERVER_FLAGS_H_

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace muster {

struct IntFlag {
  int64_t* value;
  int64_t min;
  int64_t max;
};

// One of a few words.
struct ChoiceFlag {
  std::string* value;
  std::vector<absl::string_view> choices;
};

struct Flag {
  absl::string_view name;   // Without its dashes.
  absl::string_view value;  // Stands for the value in help; "" for a switch.
  absl::string_view help;   // One or more lines.
  // Where the value goes; what is there stays if the flag is not given.  A list
  // takes the flag as often as it comes, all others once.
  std::variant<bool*, std::string*, std::vector<std::string>*, IntFlag,
               ChoiceFlag>
      target;
};

struct Arguments {
  std::vector<std::string> positional;  // What is no flag, in its order.
  std::vector<std::string> given;       // Names of the flags that are there.
  bool help = false;                    // --help or -h.

  bool Has(absl::string_view name) const;
};

// Reads `--name value`, `--name=value` and, for switches, `--name`.  Everything
// behind `--` is positional.  INVALID_ARGUMENT, saying what would be right: an
// unknown flag (with the nearest name), a flag without its value or for the
// second time, a number that is none or out of its range, a word that is none
// of the choices.  With --help nothing else is looked at.
absl::StatusOr<Arguments> ParseFlags(absl::Span<const Flag> flags,
                                     absl::Span<const absl::string_view> words);

// The flags as lines of a help text, one or more each.
std::string FlagsHelp(absl::Span<const Flag> flags);

}  // namespace muster

#endif  // SERVER_FLAGS_H_
