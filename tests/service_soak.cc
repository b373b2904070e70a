// A service under half of the load that it can take, for minutes, with gateways
// that are killed at random and come back.  Its memory stays flat, but for the
// history of the jobs, which is kept for 30 days; every job's books balance,
// and the log has nothing in it.
//
//   bazel run --config=opt //tests:service_soak -- --minutes=10
//
// Prints its figures, and what was wrong; exits with 1 then.
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/model/check.h"
#include "tests/service_process.h"
#include "transport/grpc/client.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

// Flags.
double minutes = 10;
int64_t gateways = 4;
int64_t devices_each = 25'000;
uint32_t seed = 0;

constexpr absl::Duration kJobLimit = absl::Minutes(2);
// A gateway lives this long, on average.
constexpr absl::Duration kGatewayLife = absl::Seconds(20);
// The first part of the time is for warming up: from its end on, memory may
// grow by a tenth, this much, and what the history takes for an execution
// (measured: 7 bytes).
constexpr double kWarmUp = 0.25;
constexpr int64_t kGrowthMax = 16 << 20;
constexpr int64_t kHistoryBytes = 8;

int problems = 0;
void Problem(absl::string_view what) {
  ++problems;
  std::cout << "PROBLEM: " << what << std::endl;
}

std::string ReadAll(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

// The program as a process whose output goes to files.
class Child {
 public:
  Child(std::vector<std::string> words, std::string log)
      : words_(std::move(words)), log_(std::move(log)) {
    Start();
  }
  ~Child() { End(SIGKILL); }

  void Start() {
    std::vector<char*> argv = {const_cast<char*>("muster")};
    for (std::string& word : words_) argv.push_back(word.data());
    argv.push_back(nullptr);
    const int out = open((log_ + ".out").c_str(),
                         O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    const int err = open((log_ + ".err").c_str(),
                         O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(out, STDOUT_FILENO);
      dup2(err, STDERR_FILENO);
      execv("server/muster", argv.data());
      _exit(99);
    }
    close(out);
    close(err);
  }
  // Returns the exit code, or 128 and the signal.
  int End(int signal_number) {
    if (pid_ < 0) return 0;
    kill(pid_, signal_number);
    int status = 0;
    waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  std::string out() const { return ReadAll(log_ + ".out"); }
  std::string err() const { return ReadAll(log_ + ".err"); }

  // Bytes in memory.
  int64_t rss() const {
    for (absl::string_view line : absl::StrSplit(
             ReadAll(absl::StrCat("/proc/", pid_, "/status")), '\n')) {
      if (!absl::StartsWith(line, "VmRSS:")) continue;
      int64_t kilobytes = 0;
      const std::vector<absl::string_view> words =
          absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
      if (absl::SimpleAtoi(words[1], &kilobytes)) return kilobytes * 1024;
    }
    return 0;
  }

 private:
  std::vector<std::string> words_;
  const std::string log_;
  pid_t pid_ = -1;
};

class Soak {
 public:
  explicit Soak(std::string folder) : folder_(std::move(folder)) {}

  void Run() {
    std::cout << "seed " << seed << ", " << gateways << " gateways x "
              << devices_each << " devices, " << minutes << " minutes"
              << std::endl;
    StartServer();
    if (problems > 0) return;
    Import();
    for (int64_t i = 0; i < gateways; ++i) {
      children_.push_back(std::make_unique<Child>(
          std::vector<std::string>{"fleet", "gateway", "--server", address_,
                                   "--name", absl::StrCat("gateway-", i),
                                   "--first", absl::StrCat(i * devices_each),
                                   "--devices", absl::StrCat(devices_each),
                                   "--quiet"},
          absl::StrCat(folder_, "/gateway-", i)));
      deaths_.push_back(NextDeath());
    }
    std::atomic<bool> ends = false;
    std::thread killer([this, &ends] {
      while (!ends) {
        KillGateways();
        absl::SleepFor(absl::Milliseconds(10));
      }
    });
    const absl::Time begin = absl::Now();
    const absl::Time end = begin + absl::Minutes(minutes);
    absl::Time report = begin;
    int64_t warm = 0;
    int64_t warm_executions = 0;
    while (absl::Now() < end && problems < 10) {
      const absl::Duration work = RunJob();
      const int64_t rss = server_->rss();
      peak_ = std::max(peak_, rss);
      if (absl::Now() - begin < kWarmUp * (end - begin)) {
        warm = std::max(warm, rss);
        warm_executions = executions_;
      } else if (rss > warm + warm / 10 + kGrowthMax +
                           kHistoryBytes * (executions_ - warm_executions)) {
        Problem(absl::StrCat("memory has grown from ", warm >> 20, " to ",
                             rss >> 20, " MiB"));
      }
      if (absl::Now() - report > absl::Seconds(10)) {
        report = absl::Now();
        std::cout << absl::Floor(report - begin, absl::Seconds(1)) << ": "
                  << jobs_ << " jobs, " << executions_ << " executions, "
                  << failed_ << " failed, " << kills_.load()
                  << " gateways killed, " << (rss >> 20) << " MiB" << std::endl;
      }
      // As much rest as work: half of the load that it can take.
      absl::SleepFor(work);
    }
    const absl::Duration elapsed = absl::Now() - begin;
    ends = true;
    killer.join();
    Finish();
    std::cout << "jobs " << jobs_ << ", executions " << executions_
              << ", failed " << failed_ << ", gateways killed " << kills_.load()
              << "\nexecutions/s "
              << static_cast<int64_t>(static_cast<double>(executions_) /
                                      absl::ToDoubleSeconds(elapsed))
              << " over all, "
              << static_cast<int64_t>(static_cast<double>(executions_) /
                                      absl::ToDoubleSeconds(busy_))
              << " while at work\nmemory " << (warm >> 20) << " MiB warm, "
              << (peak_ >> 20) << " MiB at most: "
              << static_cast<double>(peak_ - warm) /
                     static_cast<double>(
                         std::max<int64_t>(1, executions_ - warm_executions))
              << " bytes for each execution since" << std::endl;
  }

 private:
  int64_t devices() const { return gateways * devices_each; }

  absl::Time NextDeath() {
    return absl::Now() +
           kGatewayLife * std::exponential_distribution<double>(1)(random_);
  }

  void StartServer() {
    server_ = std::make_unique<Child>(
        std::vector<std::string>{"serve", "--listen", "127.0.0.1:0", "--data",
                                 folder_ + "/data", "--quiet"},
        folder_ + "/server");
    std::string out;
    for (int i = 0; i < 1000 && !absl::StrContains(out, "\nNext, "); ++i) {
      absl::SleepFor(absl::Milliseconds(20));
      out = server_->out();
    }
    address_ = TextBetween(out, "serves at ", " ");
    if (address_.empty()) {
      Problem("serve does not start: " + server_->err());
      return;
    }
    ConnectOptions options;
    options.address = address_;
    absl::StatusOr<std::unique_ptr<MusterClient>> client =
        MusterClient::Connect(options);
    MUSTER_CHECK(client.ok());
    client_ = *std::move(client);
  }

  void Import() {
    int64_t row = 0;
    const auto response = client_->ImportTwins(
        [&](std::string* document) {
          if (row == devices()) return false;
          *document = absl::StrCat(R"({"deviceId": "dev-)",
                                   absl::Dec(row, absl::kZeroPad8), "\"}");
          ++row;
          return true;
        },
        [](int64_t) {});
    if (!response.ok() || response->imported_count() != devices()) {
      Problem(absl::StrCat("import: ", response.status().ToString()));
    }
  }

  // A method on every device.  What an offline device has waited for is not
  // held against anybody.
  absl::Duration RunJob() {
    const absl::Time begin = absl::Now();
    v1::CreateJobRequest request;
    request.mutable_job()->set_query_condition("*");
    request.mutable_job()->mutable_direct_method()->set_method_name("reboot");
    request.mutable_job()->mutable_max_execution_time()->set_seconds(
        absl::ToInt64Seconds(kJobLimit));
    request.set_job_id(absl::StrCat("soak-", jobs_));
    const auto created = client_->CreateJob(request);
    if (!created.ok()) {
      Problem(absl::StrCat("create: ", created.status().ToString()));
      return absl::Seconds(1);
    }
    const auto job = client_->WatchJob(
        created->name(), 2 * kJobLimit, [&](const v1::Job& state) {
          const v1::Job::Statistics& s = state.statistics();
          if (s.device_count() != s.succeeded_count() + s.failed_count() +
                                      s.running_count() + s.pending_count()) {
            Problem("counts of a job under way do not add up");
          }
          return true;
        });
    if (!job.ok()) {
      Problem(absl::StrCat("watch: ", job.status().ToString()));
      return absl::Seconds(1);
    }
    const v1::Job::Statistics& s = job->statistics();
    if (job->state() != v1::Job::STATE_COMPLETED ||
        s.device_count() != devices() || s.running_count() != 0 ||
        s.pending_count() != 0 ||
        s.succeeded_count() + s.failed_count() != devices()) {
      Problem(absl::StrCat("unbalanced: ", job->ShortDebugString()));
    }
    ++jobs_;
    executions_ += s.device_count();
    failed_ += s.failed_count();
    const absl::Duration work = absl::Now() - begin;
    busy_ += work;
    return work;
  }

  // In a thread of its own, so that it comes at any moment of a job.
  void KillGateways() {
    for (size_t i = 0; i < children_.size(); ++i) {
      if (absl::Now() < deaths_[i]) continue;
      children_[i]->End(SIGKILL);
      children_[i]->Start();
      deaths_[i] = NextDeath();
      ++kills_;
    }
  }

  void Finish() {
    for (const auto& child : children_) {
      if (const int code = child->End(SIGTERM); code != 0) {
        Problem(absl::StrCat("a gateway has ended with ", code));
      }
      if (const std::string err = child->err(); !err.empty()) {
        Problem(absl::StrCat("a gateway says: ", err));
      }
    }
    client_ = nullptr;
    if (const int code = server_->End(SIGTERM); code != 0) {
      Problem(absl::StrCat("the server has ended with ", code));
    }
    if (const std::string err = server_->err(); !err.empty()) {
      Problem(absl::StrCat("the server says: ", err));
    }
  }

  const std::string folder_;
  std::mt19937 random_{seed};
  std::string address_;
  std::unique_ptr<Child> server_;
  std::unique_ptr<MusterClient> client_;
  std::vector<std::unique_ptr<Child>> children_;
  std::vector<absl::Time> deaths_;  // Of `children_`.
  std::atomic<int64_t> kills_ = 0;
  int64_t jobs_ = 0;
  int64_t executions_ = 0;
  int64_t failed_ = 0;
  int64_t peak_ = 0;
  absl::Duration busy_;
};

}  // namespace
}  // namespace muster

int main(int argc, char** argv) {
  muster::seed = std::random_device()() % 1'000'000;
  for (int i = 1; i < argc; ++i) {
    const std::pair<std::string, std::string> flag =
        absl::StrSplit(argv[i], absl::MaxSplits('=', 1));
    const bool good = flag.first == "--minutes"
                          ? absl::SimpleAtod(flag.second, &muster::minutes)
                      : flag.first == "--gateways"
                          ? absl::SimpleAtoi(flag.second, &muster::gateways)
                      : flag.first == "--devices"
                          ? absl::SimpleAtoi(flag.second, &muster::devices_each)
                      : flag.first == "--seed"
                          ? absl::SimpleAtoi(flag.second, &muster::seed)
                          : false;
    if (good) continue;
    std::cerr << "--minutes=M, --gateways=N, --devices=N of each, --seed=S; "
                 "got "
              << argv[i] << "\n";
    return 2;
  }
  std::string folder =
      (muster::fs::temp_directory_path() / "service_soak.XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) return 2;
  muster::Soak(folder).Run();
  std::cout << (muster::problems == 0
                    ? "no problems"
                    : absl::StrCat(muster::problems, " problems"))
            << std::endl;
  if (muster::problems == 0) muster::fs::remove_all(folder);
  return muster::problems == 0 ? 0 : 1;
}
