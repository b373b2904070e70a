// The program as a process: what tests of the command line start.
#ifndef TESTS_CLI_PROCESS_H_
#define TESTS_CLI_PROCESS_H_

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "engine/model/json.h"
#include "gtest/gtest.h"

namespace muster {

// How it ended, and what it said.
struct Result {
  int exit_code = -1;  // 128 + signal if a signal ended it.
  std::string out;
  std::string err;
};

// The program while it runs.
class Process {
 public:
  // `input`, if given, is its standard input.
  explicit Process(const std::vector<std::string>& arguments, int input = -1) {
    int out[2];
    int err[2];
    EXPECT_EQ(pipe2(out, O_CLOEXEC), 0);
    EXPECT_EQ(pipe2(err, O_CLOEXEC), 0);
    std::vector<char*> argv = {const_cast<char*>("muster")};
    for (const std::string& a : arguments) {
      argv.push_back(const_cast<char*>(a.c_str()));
    }
    argv.push_back(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      // As a script's background job has it.
      signal(SIGINT, SIG_IGN);
      if (input >= 0) dup2(input, STDIN_FILENO);
      dup2(out[1], STDOUT_FILENO);
      dup2(err[1], STDERR_FILENO);
      execv("server/muster", argv.data());
      _exit(99);
    }
    close(out[1]);
    close(err[1]);
    fds_[0] = out[0];
    fds_[1] = err[0];
  }
  ~Process() {
    for (int fd : fds_) close(fd);
  }

  pid_t pid() const { return pid_; }
  // What has been read so far of standard output (0) or error (1).
  const std::string& text(int stream) const { return text_[stream]; }
  void Signal(int signal_number) { kill(pid_, signal_number); }

  // Reads until `text` has come on standard output (0) or error (1); false if
  // the program ends first.
  bool WaitFor(int stream, absl::string_view text) {
    while (!absl::StrContains(text_[stream], text)) {
      if (!Read()) return absl::StrContains(text_[stream], text);
    }
    return true;
  }

  Result Wait() {
    while (Read()) {
    }
    int status = 0;
    EXPECT_EQ(waitpid(pid_, &status, 0), pid_);
    Result result;
    result.exit_code =
        WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    result.out = text_[0];
    result.err = text_[1];
    return result;
  }

 private:
  // Reads what there is, at least a byte; false at the end of both streams.
  bool Read() {
    pollfd polled[2] = {{.fd = open_[0] ? fds_[0] : -1, .events = POLLIN},
                        {.fd = open_[1] ? fds_[1] : -1, .events = POLLIN}};
    if (!open_[0] && !open_[1]) return false;
    poll(polled, 2, -1);
    for (int i = 0; i < 2; ++i) {
      if (polled[i].revents == 0) continue;
      char buffer[64 * 1024];
      const ssize_t size = read(fds_[i], buffer, sizeof(buffer));
      if (size > 0) {
        text_[i].append(buffer, static_cast<size_t>(size));
      } else if (size == 0 || errno != EINTR) {
        open_[i] = false;
      }
    }
    return true;
  }

  pid_t pid_ = -1;
  int fds_[2] = {-1, -1};
  bool open_[2] = {true, true};
  std::string text_[2];
};

inline Result Muster(const std::vector<std::string>& arguments) {
  return Process(arguments).Wait();
}

inline std::vector<std::string> Lines(absl::string_view text) {
  std::vector<std::string> lines = absl::StrSplit(text, '\n');
  if (lines.back().empty()) lines.pop_back();
  return lines;
}

inline std::vector<Json> JsonLines(absl::string_view text) {
  std::vector<Json> values;
  for (const std::string& line : Lines(text)) {
    auto json = ParseJson(line);
    EXPECT_TRUE(json.ok()) << line;
    if (json.ok()) values.push_back(*std::move(json));
  }
  return values;
}

}  // namespace muster

#endif  // TESTS_CLI_PROCESS_H_
