// A server and its gateways as processes: what tests of the service start.
#ifndef TESTS_SERVICE_PROCESS_H_
#define TESTS_SERVICE_PROCESS_H_

#include <signal.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/model/json.h"
#include "gtest/gtest.h"
#include "tests/cli_process.h"

namespace muster {

// What stands behind the first `before`, up to the next `after`; "" if there is
// no `before`.
inline std::string TextBetween(absl::string_view text, absl::string_view before,
                               absl::string_view after) {
  const size_t begin = text.find(before);
  if (begin == absl::string_view::npos) return "";
  text.remove_prefix(begin + before.size());
  return std::string(text.substr(0, text.find(after)));
}

// `muster serve` on this machine, at a port of its own.  Killed at the end if
// nobody has ended it.
class ServerProcess {
 public:
  explicit ServerProcess(std::vector<std::string> flags = {})
      : flags_(std::move(flags)) {
    Start("127.0.0.1:0");
  }
  ~ServerProcess() {
    if (process_ == nullptr) return;
    process_->Signal(SIGKILL);
    process_->Wait();
  }

  // "127.0.0.1:40123"; the same after a restart.
  const std::string& address() const { return address_; }
  pid_t pid() const { return process_->pid(); }
  Process& process() { return *process_; }

  // Signals it and waits for its end.
  Result End(int signal_number) {
    process_->Signal(signal_number);
    Result result = process_->Wait();
    process_ = nullptr;
    return result;
  }
  // REQUIRES: it has ended.
  void Restart() { Start(address_); }

  // Runs `muster WORDS --server ADDRESS`.
  Result Call(std::vector<std::string> words) const {
    words.insert(words.end(), {"--server", address_});
    return Muster(words);
  }
  // The same, whose output is lines of JSON.
  std::vector<Json> CallJson(std::vector<std::string> words) const {
    words.insert(words.end(), {"--output", "json"});
    const Result result = Call(std::move(words));
    EXPECT_EQ(result.err, "");
    return JsonLines(result.out);
  }
  std::unique_ptr<Process> Begin(std::vector<std::string> words) const {
    words.insert(words.end(), {"--server", address_});
    return std::make_unique<Process>(words);
  }

 private:
  void Start(const std::string& listen) {
    std::vector<std::string> words = {"serve", "--listen", listen};
    words.insert(words.end(), flags_.begin(), flags_.end());
    process_ = std::make_unique<Process>(words);
    if (!process_->WaitFor(0, "\nNext, in another shell:\n")) {
      const Result result = process_->Wait();
      process_ = nullptr;
      FAIL() << "serve has ended: " << result.err;
    }
    address_ = TextBetween(process_->text(0), "serves at ", " ");
  }

  const std::vector<std::string> flags_;
  std::string address_;
  std::unique_ptr<Process> process_;
};

// The counts of a job as `muster job get --output json` shows them.
struct JobCounts {
  std::string status;
  int64_t devices = 0;
  int64_t succeeded = 0;
  int64_t failed = 0;
  int64_t running = 0;
  int64_t pending = 0;

  bool terminal() const {
    return status == "completed" || status == "failed" || status == "cancelled";
  }
};

inline JobCounts CountsOf(JsonView job) {
  JobCounts counts;
  counts.status = std::string(job.Find("status").string_value());
  const JsonView statistics = job.Find("deviceJobStatistics");
  if (statistics.is_undefined()) return counts;
  counts.devices = statistics.Find("deviceCount").int_value();
  counts.succeeded = statistics.Find("succeededCount").int_value();
  counts.failed = statistics.Find("failedCount").int_value();
  counts.running = statistics.Find("runningCount").int_value();
  counts.pending = statistics.Find("pendingCount").int_value();
  EXPECT_EQ(counts.devices,
            counts.succeeded + counts.failed + counts.running + counts.pending);
  return counts;
}

}  // namespace muster

#endif  // TESTS_SERVICE_PROCESS_H_
