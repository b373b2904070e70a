// muster: jobs over fleets of devices, from the command line.

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/engine.h"
#include "server/command.h"
#include "server/exit_code.h"
#include "server/nearest.h"

namespace muster {
namespace {

const Command* const kCommands[] = {&kDemoCommand, &kRunCommand, &kQueryCommand,
                                    &kFleetCommand, &kDataCommand};

const Command* FindCommand(absl::string_view name) {
  for (const Command* command : kCommands) {
    if (command->name == name) return command;
  }
  return nullptr;
}

std::string Help() {
  std::string out =
      "muster schedules jobs over fleets of devices.\n"
      "\n"
      "usage: muster COMMAND [ARGUMENTS]\n"
      "\n";
  for (const Command* command : kCommands) {
    absl::StrAppendFormat(&out, "  %-16s %s\n", command->name,
                          command->summary);
  }
  absl::StrAppendFormat(&out, "  %-16s %s\n", "help [COMMAND]",
                        "this text, or what a command takes");
  absl::StrAppendFormat(&out, "  %-16s %s\n", "version",
                        "the version of the library");
  absl::StrAppend(
      &out,
      "\n"
      "exit codes:\n"
      "  0  all was done, on every device\n"
      "  1  a job or an execution failed, or output could not be written\n"
      "  2  the arguments or the input are wrong; no job was started\n"
      "  3  interrupted (ctrl-C), with a clean end\n"
      "\n"
      "Results are on standard output; progress and errors on standard "
      "error.\n");
  return out;
}

int UnknownCommand(absl::string_view name) {
  std::vector<absl::string_view> known = {"help", "version"};
  for (const Command* command : kCommands) known.push_back(command->name);
  const absl::string_view nearest = NearestName(name, known);
  PrintError(absl::StrCat(
      "muster: there is no command \"", name, "\"",
      nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?"),
      "\n(muster help lists the commands)\n"));
  return kExitUsage;
}

int RunCommand(absl::string_view name,
               absl::Span<const absl::string_view> words) {
  const Command* const command = FindCommand(name);
  return command != nullptr ? command->run(*command, words)
                            : UnknownCommand(name);
}

int Main(absl::Span<const absl::string_view> words) {
  if (words.empty()) {
    PrintError(Help());
    return kExitUsage;
  }
  const absl::string_view name = words[0];
  words.remove_prefix(1);
  if (name == "help" || name == "--help" || name == "-h") {
    if (words.empty() || words[0] == "help") {
      Print(Help());
      return kExitOk;
    }
    return RunCommand(words[0], {"--help"});
  }
  if (name == "version" || name == "--version") {
    Print(absl::StrCat("muster ", kVersion, "\n"));
    return kExitOk;
  }
  return RunCommand(name, words);
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) {
  std::vector<absl::string_view> words(argv + 1, argv + argc);
  const int exit_code = muster::Main(words);
  return exit_code == muster::kExitOk && muster::OutputLost()
             ? muster::kExitFailed
             : exit_code;
}
