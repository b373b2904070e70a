// How fast does a job fan out, and what does an execution cost?
//
// One direct method goes to every device of a fleet and is answered at once:
// loopback devices without latency, the journal in memory, two workers.  What
// is timed is a whole job: create, select, mark, journal, send, take the answer
// in, count, end.  Answers are checked: the statistics, and the transport's own
// count of calls.
//
// The limit beside it (BM_SendAlone) is the same transport called with the same
// ranges and no engine at all.  BM_SmallJob: what does somebody wait who comes
// while all that is going on?
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "bench/allocation_counter.h"
#include "benchmark/benchmark.h"
#include "engine/engine.h"
#include "engine/model/check.h"
#include "transport/loopback/loopback.h"

namespace muster {
namespace {

// Passes everything on, counts what was sent, and notes when a method of some
// name was sent first.
class CountingTransport : public Transport {
 public:
  explicit CountingTransport(Transport* inner) : inner_(inner) {}
  void Start(TransportSink* sink) override { inner_->Start(sink); }
  size_t Send(const MethodBatch& batch) override {
    if (batch.method->name == kAwaited) {
      int64_t never = 0;
      first_sent_ns_.compare_exchange_strong(
          never, absl::ToInt64Nanoseconds(Clock::Real().Monotonic()));
    }
    const size_t sent = inner_->Send(batch);
    sent_.fetch_add(static_cast<int64_t>(sent), std::memory_order_relaxed);
    return sent;
  }
  void NotifyDesired(absl::Span<const DesiredNotification> n) override {
    inner_->NotifyDesired(n);
  }
  void Shutdown() override { inner_->Shutdown(); }
  int64_t sent() const { return sent_.load(); }

  static constexpr char kAwaited[] = "awaited";
  void Await() { first_sent_ns_.store(0); }
  absl::Duration FirstSent() const {
    return absl::Nanoseconds(first_sent_ns_.load());
  }

 private:
  Transport* const inner_;
  std::atomic<int64_t> sent_{0};
  std::atomic<int64_t> first_sent_ns_{0};
};

constexpr int kThreads = 2;

void LoadFleet(Engine& engine, int64_t devices, const char* state) {
  const char* folder = std::getenv("TMPDIR");
  const std::string path = absl::StrCat(folder != nullptr ? folder : "/tmp",
                                        "/fanout_bench_fleet.jsonl");
  std::FILE* file = std::fopen(path.c_str(), "w");
  MUSTER_CHECK(file != nullptr);
  for (int64_t i = 0; i < devices; ++i) {
    absl::FPrintF(file,
                  "{\"deviceId\":\"dev-%08d\",\"connectionState\":\"%s\","
                  "\"tags\":{\"building\":%d}}\n",
                  i, state, i % 400);
  }
  std::fclose(file);
  const auto loaded = engine.LoadTwins(path);
  std::remove(path.c_str());
  MUSTER_CHECK(loaded.ok() && loaded->loaded == devices);
}

// An engine with `devices` connected twins, kept from one benchmark to the next
// of the same size: loading ten million takes longer than calling them.
class Fleet {
 public:
  static Fleet& Of(int64_t devices) {
    static std::unique_ptr<Fleet> current;
    if (current == nullptr || current->devices_ != devices) {
      current.reset();
      current = std::make_unique<Fleet>(devices);
    }
    return *current;
  }

  explicit Fleet(int64_t devices) : devices_(devices) {
    executor_ = MakeThreadExecutor(kThreads);
    loopback_ = *LoopbackTransport::Create({}, &Clock::Real(), executor_.get());
    transport_ = std::make_unique<CountingTransport>(loopback_.get());
    engine_ = *Engine::Create(
        {.transport = transport_.get(), .executor = executor_.get()});
    LoadFleet(*engine_, devices, "Connected");
  }

  // Runs one job over the condition and returns it.
  JobInfo Run(const std::string& condition) {
    JobRequest job;
    job.job_id = absl::StrCat("job-", jobs_.fetch_add(1) + 1);
    job.query_condition = condition;
    job.action = MethodAction{.method_name = "reboot"};
    MUSTER_CHECK(engine_->CreateJob(job).ok());
    return *engine_->WaitJob(job.job_id);
  }

  Engine& engine() { return *engine_; }
  CountingTransport& transport() { return *transport_; }
  int64_t sent() const { return transport_->sent(); }
  int64_t last_job() const { return jobs_.load(); }

 private:
  const int64_t devices_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<LoopbackTransport> loopback_;
  std::unique_ptr<CountingTransport> transport_;
  std::unique_ptr<Engine> engine_;
  std::atomic<int64_t> jobs_{0};
};

void BM_Fanout(benchmark::State& state) {
  const int64_t devices = state.range(0);
  Fleet& fleet = Fleet::Of(devices);
  fleet.Run("*");  // Warm: pools and buffers have their size.
  int64_t sent = fleet.sent();
  const int64_t journal = fleet.engine().Stats().journal_bytes;
  const int64_t allocated = AllocationCount();
  int64_t jobs = 0;
  const absl::Duration start = Clock::Real().Monotonic();
  for (auto _ : state) {
    const JobInfo job = fleet.Run("*");
    ++jobs;
    sent += devices;
    if (job.status != JobStatus::kCompleted ||
        *job.statistics != JobStatistics{devices, 0, devices, 0, 0} ||
        fleet.sent() != sent) {
      state.SkipWithError("wrong counts");
      return;
    }
  }
  const double executions = static_cast<double>(devices * jobs);
  state.SetItemsProcessed(devices * jobs);
  state.counters["ns/execution"] =
      absl::ToDoubleNanoseconds(Clock::Real().Monotonic() - start) / executions;
  state.counters["journal_B/execution"] =
      (fleet.engine().Stats().journal_bytes - journal) / executions;
  state.counters["allocations/execution"] =
      (AllocationCount() - allocated) / executions;
  state.counters["history_B/execution"] =
      *fleet.engine().JobMemoryUsage(absl::StrCat("job-", fleet.last_job())) /
      static_cast<double>(devices);
}
BENCHMARK(BM_Fanout)
    ->ArgName("devices")
    ->Arg(10'000)
    ->Arg(100'000)
    ->Arg(1'000'000)
    ->Arg(10'000'000)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime()
    ->MeasureProcessCPUTime();

absl::Duration Quantile(std::vector<absl::Duration> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share *
                                    static_cast<double>(values.size() - 1))];
}

// How long does a small job take while one over the whole fleet runs?  Ten
// devices of a fleet, by id; from create to the first device called, and to the
// end.  Jobs over the fleet follow each other on a thread of their own; a small
// one counts only if the same big one ran before and after it.
void BM_SmallJob(benchmark::State& state) {
  const int64_t devices = state.range(0);
  const auto priority = static_cast<JobPriority>(state.range(1));
  constexpr int kJobs = 1000;
  Fleet& fleet = Fleet::Of(devices);
  Engine& engine = fleet.engine();
  static int64_t small_jobs = 0;
  std::vector<absl::Duration> first, whole;
  for (auto _ : state) {
    std::atomic<bool> stop{false};
    std::atomic<int64_t> running{0};
    std::thread background([&] {
      while (!stop.load()) {
        running.store(fleet.last_job() + 1);
        const JobInfo job = fleet.Run("*");
        MUSTER_CHECK(job.statistics->succeeded_count == devices);
      }
    });
    const auto big_job = [&]() -> int64_t {
      const int64_t number = running.load();
      const auto job = engine.GetJob(absl::StrCat("job-", number));
      return job.ok() && job->status == JobStatus::kRunning ? number : 0;
    };
    while (whole.size() < kJobs) {
      const int64_t before = big_job();
      if (before == 0) {
        absl::SleepFor(absl::Microseconds(100));
        continue;
      }
      JobRequest job;
      job.job_id = absl::StrCat("small-", ++small_jobs);
      job.priority = priority;
      job.action = MethodAction{.method_name = CountingTransport::kAwaited};
      job.query_condition = "deviceId IN [";
      for (int i = 0; i < 10; ++i) {
        absl::StrAppendFormat(
            &job.query_condition, "%s'dev-%08d'", i == 0 ? "" : ",",
            (small_jobs * 7919 + i * (devices / 10)) % devices);
      }
      job.query_condition += "]";
      fleet.transport().Await();
      const absl::Duration start = Clock::Real().Monotonic();
      MUSTER_CHECK(engine.CreateJob(job).ok());
      const JobInfo done = *engine.WaitJob(job.job_id);
      const absl::Duration end = Clock::Real().Monotonic();
      MUSTER_CHECK(done.statistics->succeeded_count == 10);
      if (big_job() != before) continue;
      first.push_back(fleet.transport().FirstSent() - start);
      whole.push_back(end - start);
    }
    stop.store(true);
    background.join();
  }
  const auto report = [&](const char* name,
                          const std::vector<absl::Duration>& values) {
    for (const auto& [share_name, share] :
         {std::pair{"p50", .5}, {"p99", .99}, {"max", 1.0}}) {
      state.counters[absl::StrCat(name, "_", share_name, "_ms")] =
          absl::ToDoubleMilliseconds(Quantile(values, share));
    }
  };
  report("first", first);
  report("whole", whole);
}
BENCHMARK(BM_SmallJob)
    ->ArgNames({"devices", "priority"})
    ->Args({10'000'000, static_cast<int>(JobPriority::kEmergency)})
    ->Args({10'000'000, static_cast<int>(JobPriority::kNormal)})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime()
    ->Iterations(1);

// What does an execution cost that waits?  Every device is offline, so the
// whole job stays pending.  Counted at the allocator, and by the engine itself.
void BM_PendingTargets(benchmark::State& state) {
  const int64_t devices = state.range(0);
  auto engine = *Engine::Create({.threads = kThreads});
  LoadFleet(*engine, devices, "Disconnected");
  int64_t jobs = 0;
  const int64_t before = AllocatedBytes();
  for (auto _ : state) {
    JobRequest job;
    job.job_id = absl::StrCat("job-", ++jobs);
    job.query_condition = "*";
    job.action = MethodAction{.method_name = "reboot"};
    MUSTER_CHECK(engine->CreateJob(job).ok());
    // Running, and every device looked at once.
    while (engine->GetJob(job.job_id)->status != JobStatus::kRunning) {
      absl::SleepFor(absl::Milliseconds(1));
    }
  }
  absl::SleepFor(absl::Milliseconds(500));
  const JobInfo job = *engine->GetJob("job-1");
  if (*job.statistics != JobStatistics{devices, 0, 0, 0, devices}) {
    state.SkipWithError("wrong counts");
    return;
  }
  state.counters["allocated_B/pending"] =
      static_cast<double>(AllocatedBytes() - before) / (devices * jobs);
  state.counters["B/pending"] =
      *engine->JobMemoryUsage("job-1") / static_cast<double>(devices);
}
BENCHMARK(BM_PendingTargets)
    ->ArgName("devices")
    ->Arg(1'000'000)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime()
    ->Iterations(5);

// The limit: the transport alone, called with ranges of the same size.
void BM_SendAlone(benchmark::State& state) {
  class Sink : public TransportSink {
   public:
    void OnOutcomes(absl::Span<const Outcome> o) override { count += o.size(); }
    void OnConnections(absl::Span<const ConnectionChange>) override {}
    void OnReady() override {}
    int64_t count = 0;
  };
  constexpr int kRange = 256;
  auto executor = MakeThreadExecutor(1);
  auto transport =
      *LoopbackTransport::Create({}, &Clock::Real(), executor.get());
  Sink sink;
  transport->Start(&sink);
  MethodBatch batch;
  batch.method = std::make_shared<MethodCall>(
      MethodCall{"reboot", "null", absl::Seconds(30)});
  const std::vector<AttemptKey> attempts(kRange);
  const std::vector<absl::string_view> ids(kRange, "dev-00000042");
  batch.attempts = attempts;
  batch.device_ids = ids;
  int64_t sent = 0;
  for (auto _ : state) sent += transport->Send(batch);
  if (sink.count != sent) state.SkipWithError("wrong counts");
  state.SetItemsProcessed(sent);
}
BENCHMARK(BM_SendAlone)->UseRealTime();

}  // namespace
}  // namespace muster
