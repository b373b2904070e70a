// Command: what `muster NAME` does, and how it explains itself.
//
// What is known of a command stands in one place: what runs it, its help, its
// line in `muster help` and what a shell completes all come from there.
#ifndef SERVER_COMMAND_H_
#define SERVER_COMMAND_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/flags.h"

namespace muster {

struct Command;

// One call of a command: where the values of its flags go, and the work.
class Invocation {
 public:
  virtual ~Invocation() = default;

  // The values go into this object.
  virtual std::vector<Flag> Flags() = 0;

  // Returns an exit code (exit_code.h).  The flags have been read, and there
  // are no more words than Command::words_max.
  virtual int Run(const Command& command, const Arguments& arguments) = 0;
};

// The invocation of a command whose flags go into an `Options`.
template <typename Options, std::vector<Flag> (*kFlags)(Options*),
          int (*kRun)(const Command&, Options&, const Arguments&)>
std::unique_ptr<Invocation> MakeInvocation() {
  class OptionsInvocation final : public Invocation {
   public:
    std::vector<Flag> Flags() override { return kFlags(&options_); }
    int Run(const Command& command, const Arguments& arguments) override {
      return kRun(command, options_, arguments);
    }

   private:
    Options options_;
  };
  return std::make_unique<OptionsInvocation>();
}

struct Command {
  absl::string_view name;       // One word, or two: "job create".
  absl::string_view summary;    // One line of `muster help`.
  absl::string_view arguments;  // Behind the name in the usage line.
  absl::string_view about;      // What it does; whole lines.
  absl::string_view example;    // Whole lines, indented.
  int words_max = 0;            // Words that are no flags, at most.
  // What can stand in their place, separated by spaces; empty: files, or what a
  // shell cannot know.
  absl::string_view choices;
  // Null: a group, whose name only begins those of others.
  std::unique_ptr<Invocation> (*invoke)() = nullptr;
};

extern const Command kCompletionCommand;
extern const Command kDataCheckCommand;
extern const Command kDataGroup;
extern const Command kDataStatsCommand;
extern const Command kDemoCommand;
extern const Command kFleetCommand;
extern const Command kFleetGatewayCommand;
extern const Command kFleetSimulateCommand;
extern const Command kJobCancelCommand;
extern const Command kJobCreateCommand;
extern const Command kJobExecutionsCommand;
extern const Command kJobGetCommand;
extern const Command kJobGroup;
extern const Command kJobListCommand;
extern const Command kJobPreviewCommand;
extern const Command kJobWatchCommand;
extern const Command kQueryCommand;
extern const Command kRunCommand;
extern const Command kServeCommand;
extern const Command kTokenCommand;
extern const Command kTwinDeleteCommand;
extern const Command kTwinGetCommand;
extern const Command kTwinGroup;
extern const Command kTwinImportCommand;
extern const Command kTwinQueryCommand;
extern const Command kTwinUpdateCommand;

// Reads the flags and runs the command; with --help prints `HelpText()`.
// `words`: what stands behind the name.  Returns an exit code.
int RunCommand(const Command& command,
               absl::Span<const absl::string_view> words);

// What --help prints.
std::string HelpText(const Command& command, absl::Span<const Flag> flags);

// What is typed to run this program: what MUSTER_PROGRAM says, "./muster" for
// one, or else "muster".  The first call is main()'s, before other threads.
const std::string& ProgramName();

// Writes to standard output or standard error; what cannot be written is lost,
// and OutputLost() tells.
void Print(absl::string_view text);
void PrintError(absl::string_view text);
bool OutputLost();

// Prints "muster NAME: <message>" and where help is.  Returns kExitUsage.
int UsageError(const Command& command, absl::string_view message);

// Prints "muster NAME: <message>"; lines of `more` follow as they are.
void Complain(const Command& command, absl::string_view message,
              absl::string_view more = "");

}  // namespace muster

#endif  // SERVER_COMMAND_H_
