// What the program tells the shell.  README.md and `muster help` say the same.
#ifndef SERVER_EXIT_CODE_H_
#define SERVER_EXIT_CODE_H_

namespace muster {

enum ExitCode : int {
  kExitOk = 0,      // All was done, on every device.
  kExitFailed = 1,  // A job or an execution failed, or output was lost.
  // Arguments or input are wrong, or a folder cannot be used; nothing was
  // started.
  kExitUsage = 2,
  kExitInterrupted = 3,  // Ctrl-C, with a clean end.
  kExitUnreachable = 4,  // The server is not there, or does not answer.
};

}  // namespace muster

#endif  // SERVER_EXIT_CODE_H_
