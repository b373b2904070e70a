// Commands: all that `muster` can do.
#ifndef SERVER_COMMANDS_H_
#define SERVER_COMMANDS_H_

#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/command.h"

namespace muster {

// In the order of `muster help`.
absl::Span<const Command* const> Commands();

// What `muster help` prints.
std::string Help();

// Does what the words behind `muster` say.  Returns an exit code.
int RunMuster(absl::Span<const absl::string_view> words);

}  // namespace muster

#endif  // SERVER_COMMANDS_H_
