#include "bench/process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdlib>
#include <ctime>
#include <string>
#include <utility>
#include <vector>

#include "engine/model/check.h"

extern char** environ;

namespace muster {

ChildProcess::ChildProcess(const std::vector<std::string>& arguments) {
  int in[2], out[2];
  MUSTER_CHECK(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in[0], 0);
  posix_spawn_file_actions_adddup2(&actions, out[1], 1);
  std::vector<std::string> all = {program_invocation_short_name};
  all.insert(all.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& argument : all) argv.push_back(argument.data());
  argv.push_back(nullptr);
  MUSTER_CHECK(posix_spawn(&pid_, "/proc/self/exe", &actions, nullptr,
                           argv.data(), environ) == 0);
  posix_spawn_file_actions_destroy(&actions);
  close(in[0]);
  close(out[1]);
  in_ = in[1];
  out_ = fdopen(out[0], "r");
  MUSTER_CHECK(out_ != nullptr);
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(other.pid_),
      in_(other.in_),
      out_(std::exchange(other.out_, nullptr)) {}

ChildProcess::~ChildProcess() { MUSTER_CHECK(out_ == nullptr); }

std::string ChildProcess::ReadLine() {
  char* line = nullptr;
  size_t capacity = 0;
  const ssize_t size = getline(&line, &capacity, out_);
  MUSTER_CHECK(size > 0 && line[size - 1] == '\n');
  const std::string text(line, static_cast<size_t>(size - 1));
  std::free(line);
  return text;
}

std::string ChildProcess::End() {
  close(in_);
  std::string text;
  for (int c; (c = std::fgetc(out_)) != EOF;) text += static_cast<char>(c);
  std::fclose(std::exchange(out_, nullptr));
  int status = 0;
  MUSTER_CHECK(waitpid(pid_, &status, 0) == pid_ && status == 0);
  return text;
}

void AwaitEndOfInput() {
  char byte;
  while (read(0, &byte, 1) > 0) {
  }
}

absl::Duration CpuTime() {
  timespec time;
  MUSTER_CHECK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) == 0);
  return absl::DurationFromTimespec(time);
}

int64_t ResidentBytes() {
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  MUSTER_CHECK(file != nullptr);
  int64_t all = 0, resident = 0;
  MUSTER_CHECK(std::fscanf(file, "%" SCNd64 " %" SCNd64, &all, &resident) == 2);
  std::fclose(file);
  return resident * sysconf(_SC_PAGESIZE);
}

}  // namespace muster
