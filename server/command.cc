#include "server/command.h"

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "server/exit_code.h"

namespace muster {
namespace {

bool output_lost = false;  // Of the main thread.

}  // namespace

std::string HelpText(const Command& command, absl::Span<const Flag> flags) {
  return absl::StrCat("muster ", command.name, ": ", command.summary,
                      "\n\nusage: muster ", command.name, " ",
                      command.arguments, "\n\n", command.about, "\n",
                      FlagsHelp(flags), "\nexample:\n", command.example);
}

void Print(absl::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() ||
      std::fflush(stdout) != 0) {
    output_lost = true;
  }
}

void PrintError(absl::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

bool OutputLost() { return output_lost; }

int UsageError(const Command& command, const absl::Status& error) {
  Complain(command, error.message(),
           absl::StrCat("(muster ", command.name, " --help says more)\n"));
  return kExitUsage;
}

void Complain(const Command& command, absl::string_view message,
              absl::string_view more) {
  PrintError(absl::StrCat("muster ", command.name, ": ", message, "\n", more));
}

}  // namespace muster
