// How long after a crash is the engine ready?
//
// A process loads a fleet, runs a method job over all of it until half of the
// devices have answered and some thousand calls are under way, and kills itself
// with SIGKILL.  Another opens what it has left: the time from opening the
// journal until Engine::Create() has returned, in three parts:
//
//   open     the journal: locks, logs read back, the stamp compared
//   replay   every partition's records, checked, and made into twins and slices
//   rebuild  the rest of Engine::Create(): who owns what, jobs, what was under
//            way has failed, what was pending goes on
//
// Answers are checked: all twins, and every execution of the job.  Each round
// recovers a copy of its own; the rounds go from case to case, medians are
// printed.  The files are in the page cache, as after a crash of the process.
//
//   recovery_bench --cases=realistic-1m,realistic-1m-job --rounds=5
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "bench/disk.h"
#include "engine/engine.h"
#include "engine/journal/rocksdb/rocksdb_journal.h"
#include "engine/model/check.h"
#include "engine/schedule/clock.h"
#include "transport/loopback/fleet.h"

namespace muster {
namespace {

// Calls that no device has answered when the process dies.
constexpr int64_t kUnanswered = 4'096;

struct Case {
  const char* name;
  int64_t twins;
  bool realistic;  // The benchmark fleet; or a tag for each.
  bool job;        // Half-done.
  bool snapshot;   // Taken of all that, just before the end.
};
constexpr Case kCases[] = {
    {"realistic-1m", 1'000'000, true, false, false},
    {"realistic-1m-job", 1'000'000, true, true, false},
    {"realistic-1m-snapshot", 1'000'000, true, true, true},
    {"small-10m", 10'000'000, false, false, false},
    {"small-10m-job", 10'000'000, false, true, false},
};

struct Flags {
  std::vector<std::string> cases;  // Empty: all.
  int rounds = 5;
  int sync_ms = 0;
};
Flags flags;

absl::Duration Now() { return Clock::Real().Monotonic(); }

// Answers so many calls, takes some more without an answer, and is full then.
class HalfTransport : public Transport {
 public:
  explicit HalfTransport(int64_t answers) : answers_(answers) {}

  void Start(TransportSink* sink) override { sink_ = sink; }
  size_t Send(const MethodBatch& batch) override {
    const auto size = static_cast<int64_t>(batch.attempts.size());
    const int64_t before = offered_.fetch_add(size);
    const int64_t answered = std::clamp(answers_ - before, int64_t{0}, size);
    const int64_t taken =
        std::clamp(answers_ + kUnanswered - before, int64_t{0}, size);
    std::vector<Outcome> outcomes(static_cast<size_t>(answered));
    for (size_t i = 0; i < outcomes.size(); ++i) {
      outcomes[i] = {batch.attempts[i], OutcomeCode::kAnswered, 200, ""};
    }
    if (!outcomes.empty()) sink_->OnOutcomes(outcomes);
    return static_cast<size_t>(taken);
  }
  void NotifyDesired(absl::Span<const DesiredNotification>) override {}
  void Shutdown() override {}

 private:
  const int64_t answers_;
  TransportSink* sink_ = nullptr;
  std::atomic<int64_t> offered_{0};
};

void WriteFleet(const Case& of, const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "w");
  MUSTER_CHECK(file != nullptr);
  const FleetGenerator realistic;
  std::string line;
  for (int64_t i = 0; i < of.twins; ++i) {
    line.clear();
    if (of.realistic) {
      realistic.AppendTwin(static_cast<uint32_t>(i), &line);
    } else {
      absl::StrAppendFormat(
          &line,
          "{\"deviceId\":\"dev-%08d\",\"connectionState\":\"Connected\","
          "\"tags\":{\"building\":%d}}\n",
          i, i % 400);
    }
    MUSTER_CHECK(std::fwrite(line.data(), 1, line.size(), file) == line.size());
  }
  MUSTER_CHECK(std::fclose(file) == 0);
}

void Check(bool right, const Case& of, const JobStatistics& job) {
  if (right) return;
  absl::FPrintF(stderr,
                "wrong answer: %s; failed %d, succeeded %d, running %d, "
                "pending %d\n",
                of.name, job.failed_count, job.succeeded_count,
                job.running_count, job.pending_count);
  std::exit(1);
}

// In a process of its own; does not return.
[[noreturn]] void LiveAndDie(const Case& of, const std::string& folder) {
  const std::string fleet = absl::StrCat(folder, ".jsonl");
  WriteFleet(of, fleet);
  auto journal = *RocksDbJournal::Open({.directory = folder});
  HalfTransport transport(of.twins / 2);
  auto engine = *Engine::Create(
      {.transport = &transport, .threads = 2, .journal = journal.get()});
  const auto loaded = engine->LoadTwins(fleet);
  MUSTER_CHECK(loaded.ok() && loaded->loaded == of.twins);
  unlink(fleet.c_str());
  if (of.job) {
    JobRequest job;
    job.job_id = "half";
    job.query_condition = "*";
    job.action = MethodAction{.method_name = "reboot"};
    MUSTER_CHECK(engine->CreateJob(job).ok());
    const absl::Duration limit = Now() + absl::Seconds(25);
    for (JobStatistics now; now.succeeded_count != of.twins / 2 ||
                            now.running_count != kUnanswered;) {
      Check(Now() < limit, of, now);  // Before the calls time out.
      absl::SleepFor(absl::Milliseconds(1));
      now = engine->GetJob("half")->statistics.value_or(JobStatistics());
    }
  }
  if (of.snapshot) MUSTER_CHECK(engine->WriteSnapshots().ok());
  kill(getpid(), SIGKILL);
  std::abort();
}

struct Recovery {
  double open = 0;
  double replay = 0;
  double rebuild = 0;
  double total() const { return open + replay + rebuild; }
};

Recovery Recover(const Case& of, const std::string& folder) {
  Recovery recovery;
  const absl::Duration begin = Now();
  auto journal = *RocksDbJournal::Open({.directory = folder});
  const absl::Duration opened = Now();
  absl::Duration replayed;
  EngineOptions options;
  options.threads = 2;
  options.journal = journal.get();
  options.recovery_progress = [&](int done, int partitions) {
    if (done == partitions) replayed = Now();
  };
  auto engine = *Engine::Create(options);
  const absl::Duration ready = Now();
  recovery.open = absl::ToDoubleSeconds(opened - begin);
  recovery.replay = absl::ToDoubleSeconds(replayed - opened);
  recovery.rebuild = absl::ToDoubleSeconds(ready - replayed);

  JobStatistics job;
  Check(engine->Stats().twins == of.twins, of, job);
  if (of.job) {
    // What had no answer has failed, and so do devices that are disabled, as
    // some of the benchmark fleet are; nobody is connected yet.
    const absl::Duration limit = Now() + absl::Seconds(10);
    do {
      Check(Now() < limit, of, job);
      absl::SleepFor(absl::Milliseconds(1));
      job = *engine->GetJob("half")->statistics;
    } while (job.running_count != 0);
    Check(job.device_count == of.twins && job.succeeded_count == of.twins / 2 &&
              (of.realistic ? job.failed_count >= kUnanswered
                            : job.failed_count == kUnanswered) &&
              job.failed_count + job.succeeded_count + job.pending_count ==
                  of.twins,
          of, job);
  }
  return recovery;
}

double Median(const std::vector<Recovery>& of,
              double (*field)(const Recovery&)) {
  std::vector<double> values;
  for (const Recovery& recovery : of) values.push_back(field(recovery));
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void Main() {
  std::vector<const Case*> cases;
  for (const Case& each : kCases) {
    if (flags.cases.empty() || std::find(flags.cases.begin(), flags.cases.end(),
                                         each.name) != flags.cases.end()) {
      cases.push_back(&each);
    }
  }
  const TempFolder folder("recovery_bench");
  const auto path_of = [&](const Case& of) {
    return absl::StrCat(folder.path(), "/", of.name);
  };
  // Before this process has any thread.
  for (const Case* each : cases) {
    const pid_t child = fork();
    MUSTER_CHECK(child >= 0);
    if (child == 0) LiveAndDie(*each, path_of(*each));
    int status = 0;
    MUSTER_CHECK(waitpid(child, &status, 0) == child);
    MUSTER_CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  }
  SetSyncDelay(absl::Milliseconds(flags.sync_ms));
  absl::PrintF("%d rounds; append of 4 KiB and fdatasync %s; %s\n",
               flags.rounds, absl::FormatDuration(MeasureSync(folder.path())),
               MachineLoad());
  std::fflush(stdout);
  std::vector<std::vector<Recovery>> recoveries(cases.size());
  const std::string copy = absl::StrCat(folder.path(), "/copy");
  for (int round = 0; round < flags.rounds; ++round) {
    for (size_t i = 0; i < cases.size(); ++i) {
      CopyFolder(path_of(*cases[i]), copy);
      recoveries[i].push_back(Recover(*cases[i], copy));
      RemoveFolder(copy);
    }
  }
  absl::PrintF("  %-22s %8s %8s %8s %8s %8s   [s, MB]\n", "", "total", "open",
               "replay", "rebuild", "disk");
  for (size_t i = 0; i < cases.size(); ++i) {
    const std::vector<Recovery>& of = recoveries[i];
    absl::PrintF("  %-22s %8.3f %8.3f %8.3f %8.3f %8.0f\n", cases[i]->name,
                 Median(of, [](const Recovery& r) { return r.total(); }),
                 Median(of, [](const Recovery& r) { return r.open; }),
                 Median(of, [](const Recovery& r) { return r.replay; }),
                 Median(of, [](const Recovery& r) { return r.rebuild; }),
                 static_cast<double>(DiskBytes(path_of(*cases[i]))) / 1e6);
  }
  absl::PrintF("  %s\n", MachineLoad());
}

bool ParseFlag(absl::string_view argument) {
  absl::string_view text = argument;
  if (absl::ConsumePrefix(&text, "--cases=")) {
    flags.cases = absl::StrSplit(text, ',');
    return true;
  }
  if (absl::ConsumePrefix(&text, "--rounds=")) {
    return absl::SimpleAtoi(text, &flags.rounds) && flags.rounds > 0;
  }
  return absl::ConsumePrefix(&text, "--sync_ms=") &&
         absl::SimpleAtoi(text, &flags.sync_ms) && flags.sync_ms >= 0;
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (muster::ParseFlag(argv[i])) continue;
    std::fprintf(stderr,
                 "usage: recovery_bench [--cases=NAME,...] [--rounds=N] "
                 "[--sync_ms=N]\n");
    return 2;
  }
  muster::Main();
  return 0;
}
