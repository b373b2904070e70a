#include "server/commands.h"

#include <cstddef>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "engine/engine.h"
#include "server/completion.h"
#include "server/exit_code.h"
#include "server/nearest.h"

namespace muster {
namespace {

const Command* const kCommands[] = {
    &kDemoCommand,
    &kRunCommand,
    &kQueryCommand,
    &kServeCommand,
    &kJobGroup,
    &kJobCreateCommand,
    &kJobGetCommand,
    &kJobListCommand,
    &kJobCancelCommand,
    &kJobWatchCommand,
    &kJobExecutionsCommand,
    &kJobPreviewCommand,
    &kTwinGroup,
    &kTwinGetCommand,
    &kTwinUpdateCommand,
    &kTwinQueryCommand,
    &kTwinImportCommand,
    &kTwinDeleteCommand,
    &kTokenCommand,
    &kFleetCommand,
    &kFleetSimulateCommand,
    &kFleetGatewayCommand,
    &kDataGroup,
    &kDataCheckCommand,
    &kDataStatsCommand,
    &kCompletionCommand,
};

const Command* FindCommand(absl::string_view name) {
  for (const Command* command : kCommands) {
    if (command->name == name) return command;
  }
  return nullptr;
}

// The commands whose names begin with `name` and a space.
std::vector<const Command*> CommandsOf(absl::string_view name) {
  std::vector<const Command*> commands;
  for (const Command* command : kCommands) {
    if (absl::StartsWith(command->name, absl::StrCat(name, " "))) {
      commands.push_back(command);
    }
  }
  return commands;
}

absl::string_view LastWord(absl::string_view name) {
  const size_t space = name.rfind(' ');
  return space == absl::string_view::npos ? name : name.substr(space + 1);
}

std::string GroupHelp(const Command& group) {
  std::string out = absl::StrCat("muster ", group.name, ": ", group.summary,
                                 "\n\nusage: muster ", group.name,
                                 " COMMAND [ARGUMENTS]\n\n");
  for (const Command* command : CommandsOf(group.name)) {
    absl::StrAppendFormat(&out, "  %-12s %s\n", LastWord(command->name),
                          command->summary);
  }
  absl::StrAppend(&out, group.about.empty() ? "" : "\n", group.about,
                  "\nexample:\n", group.example, "\n(", ProgramName(), " ",
                  group.name, " COMMAND --help says more)\n");
  return out;
}

int RunGroup(const Command& group, absl::Span<const absl::string_view> words) {
  if (!words.empty() && (words[0] == "--help" || words[0] == "-h")) {
    Print(GroupHelp(group));
    return kExitOk;
  }
  std::vector<absl::string_view> known;
  for (const Command* command : CommandsOf(group.name)) {
    known.push_back(LastWord(command->name));
  }
  if (words.empty() || absl::StartsWith(words[0], "-")) {
    return UsageError(group, absl::StrCat("what to do is one of ",
                                          absl::StrJoin(known, ", ")));
  }
  const absl::string_view nearest = NearestName(words[0], known);
  return UsageError(
      group,
      absl::StrCat(
          "there is no command \"", group.name, " ", words[0], "\"; ",
          nearest.empty()
              ? absl::StrCat("there are ", absl::StrJoin(known, ", "))
              : absl::StrCat("did you mean ", group.name, " ", nearest, "?")));
}

int UnknownCommand(absl::string_view name) {
  std::vector<absl::string_view> known = {"help", "version"};
  for (const Command* command : kCommands) known.push_back(command->name);
  const absl::string_view nearest = NearestName(name, known);
  PrintError(absl::StrCat(
      "muster: there is no command \"", name, "\"",
      nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?"),
      "\n(", ProgramName(), " help lists the commands)\n"));
  return kExitUsage;
}

// `words` begin with the name of a command.
int RunNamed(absl::Span<const absl::string_view> words) {
  const Command* command = nullptr;
  if (words.size() >= 2) {
    command = FindCommand(absl::StrCat(words[0], " ", words[1]));
    if (command != nullptr) words.remove_prefix(2);
  }
  if (command == nullptr) {
    command = FindCommand(words[0]);
    if (command == nullptr) return UnknownCommand(words[0]);
    words.remove_prefix(1);
  }
  return command->invoke == nullptr ? RunGroup(*command, words)
                                    : RunCommand(*command, words);
}

// `muster completion`.
struct CompletionOptions {};

std::vector<Flag> CompletionFlags(CompletionOptions*) { return {}; }

int Completion(const Command& command, CompletionOptions&,
               const Arguments& arguments) {
  if (arguments.positional.empty()) {
    return UsageError(command, "the shell is missing: bash");
  }
  if (arguments.positional[0] != "bash") {
    return UsageError(command, absl::StrCat("the shell must be bash; got \"",
                                            arguments.positional[0], "\""));
  }
  Print(BashCompletion(Commands()));
  return kExitOk;
}

}  // namespace

const Command kCompletionCommand = {
    .name = "completion",
    .summary = "a script that lets a shell complete commands and flags",
    .arguments = "bash",
    .about = "Prints the script; what it completes is muster and ./muster.\n",
    .example = "  source <(muster completion bash)\n",
    .words_max = 1,
    .choices = "bash",
    .invoke = MakeInvocation<CompletionOptions, CompletionFlags, Completion>};

absl::Span<const Command* const> Commands() { return kCommands; }

std::string Help() {
  std::string out =
      "muster schedules jobs over fleets of devices.\n"
      "\n"
      "usage: muster COMMAND [ARGUMENTS]\n"
      "\n";
  const auto line = [&out](absl::string_view name, absl::string_view summary) {
    absl::StrAppendFormat(&out, "  %-16s %s\n", name, summary);
  };
  for (const Command* command : kCommands) {
    // Those of a group stand in its own help.
    const absl::string_view first =
        command->name.substr(0, command->name.find(' '));
    if (first != command->name && FindCommand(first)->invoke == nullptr) {
      continue;
    }
    line(command->name, command->summary);
    if (command->invoke != nullptr) continue;
    line("", absl::StrJoin(CommandsOf(command->name), ", ",
                           [](std::string* names, const Command* of_group) {
                             absl::StrAppend(names, LastWord(of_group->name));
                           }));
  }
  line("help [COMMAND]", "this text, or what a command takes");
  line("version", "the version of the library");
  absl::StrAppend(
      &out,
      "\n"
      "exit codes:\n"
      "  0  all was done, on every device\n"
      "  1  a job or an execution failed, or output could not be written\n"
      "  2  the arguments or the input are wrong; no job was started\n"
      "  3  interrupted (ctrl-C), with a clean end\n"
      "  4  the server cannot be reached\n"
      "\n"
      "Results are on standard output; progress and errors on standard "
      "error.\n");
  return out;
}

int RunMuster(absl::Span<const absl::string_view> words) {
  if (words.empty()) {
    PrintError(Help());
    return kExitUsage;
  }
  const absl::string_view name = words[0];
  if (name == "help" || name == "--help" || name == "-h") {
    words.remove_prefix(1);
    if (words.empty() || words[0] == "help") {
      Print(Help());
      return kExitOk;
    }
    std::vector<absl::string_view> help(words.begin(), words.end());
    help.push_back("--help");
    return RunNamed(help);
  }
  if (name == "version" || name == "--version") {
    Print(absl::StrCat("muster ", kVersion, "\n"));
    return kExitOk;
  }
  return RunNamed(words);
}

}  // namespace muster
