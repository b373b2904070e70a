// What a bench of several processes needs: others of its own program, and what
// this one has used.
#ifndef BENCH_PROCESS_H_
#define BENCH_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace muster {

// This program, started once more.  It is to live until its standard input
// ends.
class ChildProcess {
 public:
  explicit ChildProcess(const std::vector<std::string>& arguments);
  ~ChildProcess();  // REQUIRES: End() has been called, or this was moved from.
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&&) = delete;

  // Waits for a line of its output: without its end.  CHECKs that there is one.
  std::string ReadLine();

  // Ends its standard input, and returns the rest of its output once it has
  // ended, with 0 (CHECKed).
  std::string End();

 private:
  pid_t pid_ = 0;
  int in_ = -1;
  std::FILE* out_ = nullptr;  // Null: it has ended.
};

// For a child's main().
void AwaitEndOfInput();

// Of this process, by all its threads.
absl::Duration CpuTime();

// Of this process, as the kernel counts pages.
int64_t ResidentBytes();

}  // namespace muster

#endif  // BENCH_PROCESS_H_
