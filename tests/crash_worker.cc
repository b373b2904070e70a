// The process that tests/crash_test.cc kills: an engine on a folder under full
// load, which says in a trace what it asks, what it is answered, what it reads
// and what its devices are called for.
//
//   crash_worker FOLDER TRACE ROUND SEED [settle]
//
// Each line of the trace is one write() to the end of a file, so what was
// written before a kill is there after it.  The caller's thread writes "?"
// before a call and "!" after it:
//
//   patch? DEVICE N      patch! DEVICE N VERSION   desired.n becomes N
//   put? DEVICE N        put! DEVICE N             the twin is put whole
//   erase? DEVICE N      erase! DEVICE N
//   job? JOB KIND COUNT  job! JOB, job- JOB   accepted, or too many
//   cancel? JOB          cancel! JOB, cancel- JOB  cancelled, or refused
//   load?                load!
//   stat CALLER JOB ...  statistics that were read: CrashCounts()
//   exec JOB DEVICE STATUS CODE                    a terminal execution, read
//   sent JOB DEVICE      before a device answers: it was called
//   gone JOB DEVICE      before a device is found not connected
//   error TEXT           something that must not be
//   J, X, T              CrashState(): after opening, and when settled
//   ready, settled       what the state said before is complete
//
// One byte goes to the standard output with each of the last two.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/journal/rocksdb/rocksdb_journal.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/json.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "tests/crash_state.h"
#include "transport/loopback/loopback.h"

namespace muster {
namespace {

constexpr int kDevices = 400;  // d0 ..., which jobs are about.
constexpr int kMortals = 30;   // e0 ..., which come and go.
constexpr int kCallers = 3;

class Trace {
 public:
  explicit Trace(const char* path)
      : file_(open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666)) {
    MUSTER_CHECK(file_ >= 0);
  }

  template <typename... Words>
  void Say(const Words&... words) {
    Lines(absl::StrCat(words..., "\n"));
  }
  void Lines(absl::string_view lines) {
    while (!lines.empty()) {
      const ssize_t written = write(file_, lines.data(), lines.size());
      MUSTER_CHECK(written > 0);
      lines.remove_prefix(static_cast<size_t>(written));
    }
  }
  // False, and said, unless the call was answered OK.
  bool Good(absl::string_view what, const absl::Status& status) {
    if (!status.ok()) Say("error ", what, ": ", status.ToString());
    return status.ok();
  }

 private:
  const int file_;
};

class Worker {
 public:
  Worker(char** arguments, Trace* trace)
      : folder_(arguments[1]),
        round_(arguments[3]),
        seed_(std::strtoul(arguments[4], nullptr, 10)),
        trace_(*trace),
        executor_(MakeThreadExecutor(1)) {}

  bool Open() {
    auto journal =
        RocksDbJournal::Open({.directory = folder_, .partition_count = 4});
    if (!trace_.Good("open", journal.status())) return false;
    journal_ = *std::move(journal);
    LoopbackOptions loopback;
    loopback.seed = seed_;
    loopback.offline_share = 0.05;
    loopback.reconnect_min = absl::Milliseconds(1);
    loopback.reconnect_max = absl::Milliseconds(30);
    loopback.answer_unknown = false;
    devices_ =
        *LoopbackTransport::Create(loopback, &Clock::Real(), executor_.get());
    devices_->SetHandler(
        "", [this](const LoopbackCall& call) { return Answer(call); });
    for (int i = 0; i < kDevices; ++i) {
      devices_->AddDevices({absl::StrCat("d", i)});
    }
    auto engine = Engine::Create({.transport = devices_.get(),
                                  .threads = 2,
                                  .journal = journal_.get(),
                                  .snapshot_after_bytes = 16 << 10,
                                  .range_rows_max = 16});
    if (!trace_.Good("recovery", engine.status())) return false;
    engine_ = *std::move(engine);
    const bool loaded = SayState(/*with_executions=*/false) && Load();
    if (loaded) Tell("ready");
    return loaded;
  }

  // Works until it is killed.
  void Work() {
    std::vector<std::thread> threads;
    for (int i = 0; i < kCallers; ++i) {
      threads.emplace_back([this, i] { Call(i); });
    }
    for (std::thread& thread : threads) thread.join();
  }

  // Waits until all that was begun has ended, says all, and waits to be killed.
  void Settle() {
    std::vector<std::string> jobs;
    std::string continuation;
    do {
      absl::StatusOr<JobPage> page = engine_->ListJobs({}, 1'000, continuation);
      if (!trace_.Good("list", page.status())) return;
      for (const JobInfo& job : page->jobs) {
        if (job.start_time < absl::Now() + absl::Minutes(1)) {
          jobs.push_back(job.job_id);
        }
      }
      continuation = page->continuation;
    } while (!continuation.empty());
    for (const std::string& job : jobs) {
      if (!trace_.Good(job,
                       engine_->WaitJob(job, absl::Seconds(30)).status())) {
        return;
      }
    }
    if (!SayState(/*with_executions=*/true)) return;
    Tell("settled");
    absl::SleepFor(absl::Minutes(10));
  }

 private:
  bool SayState(bool with_executions) {
    absl::StatusOr<std::string> state = CrashState(*engine_, with_executions);
    if (!trace_.Good("state", state.status())) return false;
    trace_.Lines(*state);
    return true;
  }

  void Tell(absl::string_view what) {
    trace_.Say(what);
    MUSTER_CHECK(write(STDOUT_FILENO, "\n", 1) == 1);
  }

  // Loads the fleet, unless all of it is there.
  bool Load() {
    int missing = 0;
    for (int i = 0; i < kDevices; ++i) {
      missing += engine_->GetTwin(absl::StrCat("d", i)).ok() ? 0 : 1;
    }
    if (missing == 0) return true;
    const std::string path = absl::StrCat(folder_, ".twins");
    std::ofstream file(path);
    for (int i = 0; i < kDevices; ++i) {
      file << R"({"deviceId":"d)" << i << R"(","tags":{"slot":)" << i << "}}\n";
    }
    file.close();
    trace_.Say("load?");
    if (!trace_.Good("load", engine_->LoadTwins(path).status())) return false;
    trace_.Say("load!");
    return true;
  }

  LoopbackReply Answer(const LoopbackCall& call) {
    // The payload is the job's id as JSON text.
    const absl::string_view job =
        call.payload.substr(1, call.payload.size() - 2);
    std::minstd_rand random(static_cast<uint32_t>(seed_ + 7919 * ++calls_));
    random.discard(2);
    const auto draw = random() % 100;
    if (draw < 8) {
      trace_.Say("gone ", job, " ", call.device_id);
      devices_->SetConnected(call.device_id, false);
      return {.code = OutcomeCode::kNotConnected};
    }
    trace_.Say("sent ", job, " ", call.device_id);
    if (draw < 11) return LoopbackReply::Never();
    if (draw < 13) return {.code = OutcomeCode::kLinkLost};
    if (draw < 15) return {.code = OutcomeCode::kBusy};
    LoopbackReply reply = {.payload = std::string(call.payload)};
    if (draw < 45) reply.delay = absl::Milliseconds(random() % 20);
    return reply;
  }

  void Call(int caller) {
    std::mt19937 random(seed_ * 16 + caller);
    // Numbers of this process's own: larger than those of earlier ones.
    const int64_t first =
        std::strtol(round_.c_str(), nullptr, 10) * 1'000'000 + 1;
    std::vector<std::string> later;  // Jobs that have not begun.
    for (int64_t n = first;; ++n) {
      const auto draw = random() % 100;
      if (draw < 50) {
        Patch(absl::StrCat(
                  "d", random() % (kDevices / kCallers) * kCallers + caller),
              n);
      } else if (draw < 60) {
        PutOrErase(
            absl::StrCat("e",
                         random() % (kMortals / kCallers) * kCallers + caller),
            n, random() % 2 == 0);
      } else if (draw < 70) {
        Create(absl::StrCat("r", round_, "-", caller, "-", n), random, &later);
      } else if (draw < 74) {
        if (!later.empty()) {
          Cancel(later.back());
          later.pop_back();
        }
      } else if (draw < 75) {
        trace_.Good("snapshots", engine_->WriteSnapshots());
      } else {
        Read(caller, random);
      }
    }
  }

  void Patch(const std::string& device, int64_t n) {
    trace_.Say("patch? ", device, " ", n);
    const absl::StatusOr<TwinWrite> write = engine_->PatchTwin(
        device, absl::StrCat(R"({"tags":{"n":)", n,
                             R"(},"properties":{"desired":{"n":)", n, "}}}"));
    if (trace_.Good("patch", write.status())) {
      trace_.Say("patch! ", device, " ", n, " ", write->desired_version);
    }
  }

  void PutOrErase(const std::string& device, int64_t n, bool erase) {
    if (erase && engine_->GetTwin(device).ok()) {
      trace_.Say("erase? ", device, " ", n);
      if (trace_.Good("erase", engine_->EraseTwin(device))) {
        trace_.Say("erase! ", device, " ", n);
      }
      return;
    }
    trace_.Say("put? ", device, " ", n);
    if (trace_.Good("put",
                    engine_->UpsertTwin(absl::StrCat(
                        R"({"deviceId":")", device,
                        R"(","properties":{"desired":{"n":)", n, "}}}")))) {
      trace_.Say("put! ", device, " ", n);
    }
  }

  void Create(const std::string& id, std::mt19937& random,
              std::vector<std::string>* later) {
    const bool method = random() % 2 == 0;
    const int count = 1 + static_cast<int>(random() % 60);
    const int low = static_cast<int>(random() % (kDevices - count + 1));
    JobRequest job;
    job.job_id = id;
    job.query_condition =
        absl::StrCat("tags.slot >= ", low, " AND tags.slot < ", low + count);
    if (method) {
      job.action = MethodAction{
          .method_name = "run",
          .payload = absl::StrCat("\"", id, "\""),
          .connect_timeout_seconds = static_cast<int>(random() % 2)};
    } else {
      TwinUpdateAction update;
      update.patch.desired = *ParseJson(absl::StrCat(R"({"job":")", id, "\"}"));
      job.action = std::move(update);
    }
    job.max_execution_time_seconds = 1 + random() % 2;
    const auto start = random() % 4;
    if (start == 2) {
      job.start_time = absl::Now() + absl::Milliseconds(random() % 300);
    } else if (start == 3) {
      job.start_time = absl::Now() + absl::Hours(10);
    }
    trace_.Say("job? ", id, method ? " method " : " twin ", count);
    const absl::StatusOr<JobInfo> created = engine_->CreateJob(job);
    if (ErrorCodeOf(created.status()) ==
        ErrorCode::kThrottlingMaxActiveJobCountExceeded) {
      trace_.Say("job- ", id);
      return;
    }
    if (!trace_.Good("create", created.status())) return;
    trace_.Say("job! ", id);
    if (start >= 2) later->push_back(id);
    absl::MutexLock lock(&mutex_);
    jobs_.push_back(id);
  }

  void Cancel(const std::string& id) {
    trace_.Say("cancel? ", id);
    const absl::Status status = engine_->CancelJob(id).status();
    if (ErrorCodeOf(status) == ErrorCode::kOperationNotAllowedInCurrentState) {
      trace_.Say("cancel- ", id);
    } else if (trace_.Good("cancel", status)) {
      trace_.Say("cancel! ", id);
    }
  }

  void Read(int caller, std::mt19937& random) {
    std::string id;
    {
      absl::MutexLock lock(&mutex_);
      if (jobs_.empty()) return;
      id = jobs_[random() % jobs_.size()];
    }
    const absl::StatusOr<JobInfo> job = engine_->GetJob(id);
    if (!trace_.Good("get", job.status())) return;
    trace_.Say("stat ", caller, " ", id, CrashCounts(*job));
    if (random() % 8 != 0) return;
    std::string lines;
    const absl::Status status =
        engine_->ForEachExecution(id, [&](const ExecutionRecord& record) {
          if (!IsTerminal(record.status)) return;
          absl::StrAppend(&lines, "exec ", id, " ", record.device_id, " ",
                          ExecutionStatusName(record.status), " ",
                          static_cast<int>(record.error_code), "\n");
        });
    if (trace_.Good("executions", status)) trace_.Lines(lines);
  }

  const std::string folder_;
  const std::string round_;
  const uint64_t seed_;
  Trace& trace_;
  std::atomic<uint64_t> calls_{0};
  const std::unique_ptr<Executor> executor_;  // Of the devices.
  std::unique_ptr<LoopbackTransport> devices_;
  std::unique_ptr<RocksDbJournal> journal_;
  std::unique_ptr<Engine> engine_;

  absl::Mutex mutex_;
  std::vector<std::string> jobs_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace
}  // namespace muster

int main(int argc, char** argv) {
  MUSTER_CHECK(argc == 5 || argc == 6);
  muster::Trace trace(argv[2]);
  muster::Worker worker(argv, &trace);
  if (!worker.Open()) return 1;
  if (argc == 6) {
    worker.Settle();
  } else {
    worker.Work();
  }
  return 1;  // Only a kill ends it.
}
