// Shell completion, made of the table of commands and their flags.
#ifndef SERVER_COMPLETION_H_
#define SERVER_COMPLETION_H_

#include <string>

#include "absl/types/span.h"
#include "server/command.h"

namespace muster {

// A script for bash 4 or later, to be sourced: names of commands, flags, the
// words that a flag or a command takes; files where it takes those.  It calls
// no program.
std::string BashCompletion(absl::Span<const Command* const> commands);

}  // namespace muster

#endif  // SERVER_COMPLETION_H_
