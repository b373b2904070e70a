// Command: what `muster NAME` does, and how it explains itself.
#ifndef SERVER_COMMAND_H_
#define SERVER_COMMAND_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/flags.h"

namespace muster {

struct Command {
  absl::string_view name;
  absl::string_view summary;    // One line of `muster help`.
  absl::string_view arguments;  // Behind the name in the usage line.
  absl::string_view about;      // What it does; whole lines.
  absl::string_view example;    // Whole lines, indented.
  // `words`: what stands behind the name.  Returns an exit code (exit_code.h).
  int (*run)(const Command& command, absl::Span<const absl::string_view> words);
};

extern const Command kRunCommand;
extern const Command kQueryCommand;
extern const Command kDemoCommand;
extern const Command kFleetCommand;
extern const Command kDataCommand;

// What --help prints.
std::string HelpText(const Command& command, absl::Span<const Flag> flags);

// Writes to standard output or standard error; what cannot be written is lost,
// and OutputLost() tells.
void Print(absl::string_view text);
void PrintError(absl::string_view text);
bool OutputLost();

// Prints "muster NAME: <message>" and where help is.  Returns kExitUsage.
int UsageError(const Command& command, const absl::Status& error);

// Prints "muster NAME: <message>"; lines of `more` follow as they are.
void Complain(const Command& command, absl::string_view message,
              absl::string_view more = "");

}  // namespace muster

#endif  // SERVER_COMMAND_H_
