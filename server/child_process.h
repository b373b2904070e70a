// ChildProcess: this program once more, as a process of its own.
#ifndef SERVER_CHILD_PROCESS_H_
#define SERVER_CHILD_PROCESS_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace muster {

// One thread.
class ChildProcess {
 public:
  // Runs `muster WORDS`, whose standard output is read here, in a process group
  // of its own: ctrl-C on the terminal reaches this process alone, which ends
  // the child.  A child that its parent has left behind gets SIGTERM.
  // `variables`: "NAME=value", on top of the environment.  Not to be called
  // when there are other threads.  INTERNAL if the system has no room.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Start(
      absl::Span<const std::string> words,
      absl::Span<const std::string> variables);

  // Kills it if it runs.
  ~ChildProcess();

  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }

  // Calls `visit` with each line that has come meanwhile, without its end.
  // Never blocks.
  void ReadLines(absl::FunctionRef<void(absl::string_view line)> visit);

  // Whether it still runs; looks.
  bool Runs();
  // Of one that does not: "exit code 2", "signal 9 (Killed)"; "" after exit
  // code 0.
  const std::string& ending() const { return ending_; }

  void Signal(int signal_number);

 private:
  ChildProcess(pid_t pid, int fd) : pid_(pid), fd_(fd) {}

  const pid_t pid_;
  const int fd_;
  bool runs_ = true;
  std::string ending_;
  std::string unread_;  // The beginning of a line.
};

}  // namespace muster

#endif  // SERVER_CHILD_PROCESS_H_
