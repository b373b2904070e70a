#include "server/command.h"

#include <cstddef>
#include <cstdio>
#include <cstdlib>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "server/exit_code.h"

namespace muster {
namespace {

bool output_lost = false;  // Of the main thread.

}  // namespace

int RunCommand(const Command& command,
               absl::Span<const absl::string_view> words) {
  const std::unique_ptr<Invocation> invocation = command.invoke();
  const std::vector<Flag> flags = invocation->Flags();
  absl::StatusOr<Arguments> arguments = ParseFlags(flags, words);
  if (!arguments.ok()) {
    return UsageError(command, arguments.status().message());
  }
  if (arguments->help) {
    Print(HelpText(command, flags));
    return kExitOk;
  }
  const auto words_max = static_cast<size_t>(command.words_max);
  if (arguments->positional.size() > words_max) {
    return UsageError(command, absl::StrCat("unexpected argument: ",
                                            arguments->positional[words_max]));
  }
  return invocation->Run(command, *arguments);
}

std::string HelpText(const Command& command, absl::Span<const Flag> flags) {
  return absl::StrCat("muster ", command.name, ": ", command.summary,
                      "\n\nusage: muster ", command.name, " ",
                      command.arguments, "\n\n", command.about, "\n",
                      FlagsHelp(flags), "\nexample:\n", command.example);
}

const std::string& ProgramName() {
  static const std::string& name = *[] {
    // NOLINTNEXTLINE(concurrency-mt-unsafe)
    const char* const value = std::getenv("MUSTER_PROGRAM");
    return new std::string(value == nullptr || *value == '\0' ? "muster"
                                                              : value);
  }();
  return name;
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

int UsageError(const Command& command, absl::string_view message) {
  Complain(command, message,
           absl::StrCat("(", ProgramName(), " ", command.name,
                        " --help says more)\n"));
  return kExitUsage;
}

void Complain(const Command& command, absl::string_view message,
              absl::string_view more) {
  PrintError(absl::StrCat("muster ", command.name, ": ", message, "\n", more));
}

}  // namespace muster
