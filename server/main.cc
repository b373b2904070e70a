// muster: jobs over fleets of devices, from the command line.

#include <stdlib.h>

#include <vector>

#include "absl/strings/string_view.h"
#include "server/command.h"
#include "server/commands.h"
#include "server/exit_code.h"

int main(int argc, char** argv) {
  // gRPC writes to standard error by itself; what matters of it comes back as
  // an error, too, and is said.
  setenv("GRPC_VERBOSITY", "NONE", 0);  // NOLINT(concurrency-mt-unsafe)
  muster::ProgramName();
  const std::vector<absl::string_view> words(argv + 1, argv + argc);
  const int exit_code = muster::RunMuster(words);
  return exit_code == muster::kExitOk && muster::OutputLost()
             ? muster::kExitFailed
             : exit_code;
}
