#include "server/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace muster {
namespace {

std::vector<char*> Pointers(std::vector<std::string>* words) {
  std::vector<char*> pointers;
  for (std::string& word : *words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

absl::Status SystemError(absl::string_view what) {
  return absl::InternalError(
      absl::StrCat("cannot start a process: ", what, ": ",
                   std::generic_category().message(errno)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Start(
    absl::Span<const std::string> words,
    absl::Span<const std::string> variables) {
  std::vector<std::string> argument_texts = {"muster"};
  argument_texts.insert(argument_texts.end(), words.begin(), words.end());
  // The first of two variables of a name is the one that counts.
  std::vector<std::string> environment_texts(variables.begin(),
                                             variables.end());
  for (char** variable = environ; *variable != nullptr; ++variable) {
    environment_texts.emplace_back(*variable);
  }
  const std::vector<char*> arguments = Pointers(&argument_texts);
  const std::vector<char*> environment = Pointers(&environment_texts);
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return SystemError("pipe");
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) {
    const absl::Status error = SystemError("fork");
    close(fds[0]);
    close(fds[1]);
    return error;
  }
  if (pid == 0) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(1);
    dup2(fds[1], STDOUT_FILENO);
    execve("/proc/self/exe", arguments.data(), environment.data());
    _exit(127);
  }
  close(fds[1]);
  fcntl(fds[0], F_SETFL, O_NONBLOCK);
  return std::unique_ptr<ChildProcess>(new ChildProcess(pid, fds[0]));
}

ChildProcess::~ChildProcess() {
  close(fd_);
  if (!runs_) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

void ChildProcess::ReadLines(
    absl::FunctionRef<void(absl::string_view line)> visit) {
  char buffer[16 * 1024];
  for (;;) {
    const ssize_t size = read(fd_, buffer, sizeof(buffer));
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) break;
    unread_.append(buffer, static_cast<size_t>(size));
  }
  absl::string_view rest = unread_;
  for (size_t end; (end = rest.find('\n')) != absl::string_view::npos;) {
    visit(rest.substr(0, end));
    rest.remove_prefix(end + 1);
  }
  unread_ = std::string(rest);
}

bool ChildProcess::Runs() {
  int status = 0;
  if (!runs_ || waitpid(pid_, &status, WNOHANG) != pid_) return runs_;
  runs_ = false;
  if (WIFSIGNALED(status)) {
    ending_ = absl::StrCat("signal ", WTERMSIG(status), " (",
                           sigdescr_np(WTERMSIG(status)), ")");
  } else if (WEXITSTATUS(status) != 0) {
    ending_ = absl::StrCat("exit code ", WEXITSTATUS(status));
  }
  return runs_;
}

void ChildProcess::Signal(int signal_number) {
  if (runs_) kill(pid_, signal_number);
}

}  // namespace muster
