// How fast does a job fan out, and what does an execution cost?
//
// One direct method goes to every device of a fleet and is answered at once:
// loopback devices without latency, the journal in memory, two workers.  What
// is timed is a whole job: create, select, mark, journal, send, take the answer
// in, count, end.  Answers are checked: the statistics, and the transport's own
// count of calls.
//
// The same with the journal on disk, as it is and with every sync made slower
// (BM_FanoutOnDisk), and a job that patches every twin (BM_TwinJobOnDisk): from
// create to the moment when the last outcome is durable, as a job ends no
// sooner.  What a method job waits for is the disk: a slice's next range goes
// out when its record is durable, so that larger ranges need fewer syncs.
// Repetitions give medians:
//
//   fanout_bench --benchmark_filter=OnDisk --benchmark_repetitions=5
//
// The limit beside it (BM_SendAlone) is the same transport called with the same
// ranges and no engine at all.  BM_SmallJob: what does somebody wait who comes
// while all that is going on?
#include <algorithm>
#include <array>
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
#include "bench/disk.h"
#include "benchmark/benchmark.h"
#include "engine/engine.h"
#include "engine/journal/rocksdb/rocksdb_journal.h"
#include "engine/model/check.h"
#include "engine/model/json.h"
#include "transport/loopback/fleet.h"
#include "transport/loopback/loopback.h"

namespace muster {
namespace {

// Answers at once, and goes by links: what the engine does when nobody asks for
// the devices' names.
class NamelessTransport : public Transport {
 public:
  void Start(TransportSink* sink) override { sink_ = sink; }
  bool wants_device_ids() const override { return false; }
  size_t Send(const MethodBatch& batch) override {
    MUSTER_CHECK(batch.device_ids.empty());
    MUSTER_CHECK(batch.links.size() == batch.attempts.size());
    constexpr size_t kAtATime = 256;
    std::array<Outcome, kAtATime> outcomes;
    for (size_t first = 0; first < batch.attempts.size(); first += kAtATime) {
      const auto attempts = batch.attempts.subspan(first, kAtATime);
      for (size_t i = 0; i < attempts.size(); ++i) {
        outcomes[i] = {.attempt = attempts[i], .status = 200};
      }
      sink_->OnOutcomes(absl::MakeConstSpan(outcomes.data(), attempts.size()));
    }
    return batch.attempts.size();
  }
  void NotifyDesired(absl::Span<const DesiredNotification>) override {}
  void Shutdown() override {}

 private:
  TransportSink* sink_ = nullptr;
};

// Passes everything on, counts what was sent, and notes when a method of some
// name was sent first.
class CountingTransport : public Transport {
 public:
  explicit CountingTransport(Transport* inner) : inner_(inner) {}
  void Start(TransportSink* sink) override { inner_->Start(sink); }
  bool wants_device_ids() const override { return inner_->wants_device_ids(); }
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

enum class Twins {
  kSmall,      // A tag; all connected.
  kRealistic,  // The benchmark fleet: 735 bytes of JSON each.
};

void LoadFleet(Engine& engine, int64_t devices, Twins twins,
               const char* state) {
  const TempFolder folder("fanout_bench_fleet");
  const std::string path = absl::StrCat(folder.path(), "/twins.jsonl");
  std::FILE* file = std::fopen(path.c_str(), "w");
  MUSTER_CHECK(file != nullptr);
  const FleetGenerator realistic;
  std::string line;
  for (int64_t i = 0; i < devices; ++i) {
    line.clear();
    if (twins == Twins::kRealistic) {
      realistic.AppendTwin(static_cast<uint32_t>(i), &line);
    } else {
      absl::StrAppendFormat(
          &line,
          "{\"deviceId\":\"dev-%08d\",\"connectionState\":\"%s\","
          "\"tags\":{\"building\":%d}}\n",
          i, state, i % 400);
    }
    MUSTER_CHECK(std::fwrite(line.data(), 1, line.size(), file) == line.size());
  }
  std::fclose(file);
  const auto loaded = engine.LoadTwins(path);
  MUSTER_CHECK(loaded.ok() && loaded->loaded == devices);
}

enum class Place { kMemory, kDisk };
enum class Devices { kNamed, kNameless };

// An engine with so many twins, kept from one benchmark to the next that wants
// the same: loading ten million takes longer than calling them.
class Fleet {
 public:
  static Fleet& Of(int64_t devices, Place place = Place::kMemory,
                   Twins twins = Twins::kSmall, int range_rows = kRangeRowsMax,
                   Devices named = Devices::kNamed) {
    std::unique_ptr<Fleet>& current = Current();
    if (current == nullptr || current->devices_ != devices ||
        current->place_ != place || current->twins_ != twins ||
        current->range_rows_ != range_rows || current->named_ != named) {
      current.reset();
      current =
          std::make_unique<Fleet>(devices, place, twins, range_rows, named);
    }
    return *current;
  }

  // The one that is kept: let go of it before the program's own end, when the
  // libraries under it have gone.
  static std::unique_ptr<Fleet>& Current() {
    static std::unique_ptr<Fleet> current;
    return current;
  }

  Fleet(int64_t devices, Place place, Twins twins, int range_rows,
        Devices named)
      : devices_(devices),
        place_(place),
        twins_(twins),
        range_rows_(range_rows),
        named_(named) {
    if (place == Place::kDisk) {
      folder_ = std::make_unique<TempFolder>("fanout_bench_journal");
      journal_ = *RocksDbJournal::Open(
          {.directory = absl::StrCat(folder_->path(), "/data")});
    }
    executor_ = MakeThreadExecutor(kThreads);
    loopback_ = *LoopbackTransport::Create({}, &Clock::Real(), executor_.get());
    transport_ = std::make_unique<CountingTransport>(
        named == Devices::kNamed ? static_cast<Transport*>(loopback_.get())
                                 : &nameless_);
    engine_ = *Engine::Create({.transport = transport_.get(),
                               .executor = executor_.get(),
                               .journal = journal_.get(),
                               .range_rows_max = range_rows});
    LoadFleet(*engine_, devices, twins, "Connected");
    // Loading has asked for some of them: not in the middle of a job.
    MUSTER_CHECK(engine_->WriteSnapshots().ok());
  }

  // Runs one job over the condition and returns it.
  JobInfo Run(const std::string& condition) {
    return Run(condition, MethodAction{.method_name = "reboot"});
  }
  // A patch that changes every twin of the fleet.
  JobInfo RunTwinJob() {
    TwinUpdateAction update;
    update.patch.desired = *ParseJson(
        absl::StrFormat("{\"update\":{\"number\":%d}}", jobs_.load()));
    return Run("*", std::move(update));
  }

  Engine& engine() { return *engine_; }
  CountingTransport& transport() { return *transport_; }
  // Null: in memory.
  const RocksDbJournal* journal() const { return journal_.get(); }
  std::string folder() const { return folder_->path(); }
  int64_t sent() const { return transport_->sent(); }
  int64_t last_job() const { return jobs_.load(); }

 private:
  JobInfo Run(const std::string& condition, Action action) {
    JobRequest job;
    job.job_id = absl::StrCat("job-", jobs_.fetch_add(1) + 1);
    job.query_condition = condition;
    job.action = std::move(action);
    MUSTER_CHECK(engine_->CreateJob(job).ok());
    return *engine_->WaitJob(job.job_id);
  }

  const int64_t devices_;
  const Place place_;
  const Twins twins_;
  const int range_rows_;
  const Devices named_;
  std::unique_ptr<TempFolder> folder_;
  std::unique_ptr<RocksDbJournal> journal_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<LoopbackTransport> loopback_;
  NamelessTransport nameless_;
  std::unique_ptr<CountingTransport> transport_;
  std::unique_ptr<Engine> engine_;
  std::atomic<int64_t> jobs_{0};
};

void Fanout(benchmark::State& state, Devices named) {
  const int64_t devices = state.range(0);
  Fleet& fleet =
      Fleet::Of(devices, Place::kMemory, Twins::kSmall, kRangeRowsMax, named);
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

void BM_Fanout(benchmark::State& state) { Fanout(state, Devices::kNamed); }
BENCHMARK(BM_Fanout)
    ->ArgName("devices")
    ->Arg(10'000)
    ->Arg(100'000)
    ->Arg(1'000'000)
    ->Arg(10'000'000)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime()
    ->MeasureProcessCPUTime();

// The same for a transport that does without the devices' names.
void BM_FanoutNameless(benchmark::State& state) {
  Fanout(state, Devices::kNameless);
}
BENCHMARK(BM_FanoutNameless)
    ->ArgName("devices")
    ->Arg(1'000'000)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime()
    ->MeasureProcessCPUTime();

// One job over all twins of a fleet whose journal is on disk, with every sync
// so much slower.  `run` runs it; `sent` tells whether each device is called.
template <typename RunJob>
void OnDisk(benchmark::State& state, Twins twins, int range_rows, bool sent,
            RunJob run) {
  const int64_t devices = state.range(0);
  Fleet& fleet = Fleet::Of(devices, Place::kDisk, twins, range_rows);
  run(fleet);  // Warm: pools, buffers and twins have their size.
  SetSyncDelay(absl::Microseconds(state.range(1)));
  const int64_t calls = fleet.sent();
  const int64_t journal = fleet.engine().Stats().journal_bytes;
  const int64_t commits = fleet.journal()->Stats().commits;
  const int64_t snapshots = fleet.engine().Stats().snapshots;
  const int64_t syncs = SyncCount();
  const int64_t allocated = AllocationCount();
  int64_t jobs = 0;
  for (auto _ : state) {
    const JobInfo job = run(fleet);
    ++jobs;
    if (job.status != JobStatus::kCompleted ||
        *job.statistics != JobStatistics{devices, 0, devices, 0, 0} ||
        fleet.sent() != calls + (sent ? jobs * devices : 0)) {
      state.SkipWithError("wrong counts");
      break;
    }
  }
  const double executions = static_cast<double>(devices * jobs);
  state.SetItemsProcessed(devices * jobs);
  state.counters["journal_B/execution"] =
      (fleet.engine().Stats().journal_bytes - journal) / executions;
  state.counters["allocations/execution"] =
      (AllocationCount() - allocated) / executions;
  state.counters["commits/job"] =
      static_cast<double>(fleet.journal()->Stats().commits - commits) / jobs;
  state.counters["syncs/job"] = static_cast<double>(SyncCount() - syncs) / jobs;
  state.counters["snapshots/job"] =
      static_cast<double>(fleet.engine().Stats().snapshots - snapshots) / jobs;
  state.counters["sync_us"] =
      absl::ToDoubleMicroseconds(MeasureSync(fleet.folder()));
  SetSyncDelay(absl::ZeroDuration());
  state.SetLabel(MachineLoad());
}

void BM_FanoutOnDisk(benchmark::State& state) {
  OnDisk(state, Twins::kSmall, static_cast<int>(state.range(2)), /*sent=*/true,
         [](Fleet& fleet) { return fleet.Run("*"); });
}

void BM_TwinJobOnDisk(benchmark::State& state) {
  OnDisk(state, static_cast<Twins>(state.range(2)), kRangeRows,
         /*sent=*/false, [](Fleet& fleet) { return fleet.RunTwinJob(); });
}

constexpr int kSyncDelaysUs[] = {0, 1000, 5000};

BENCHMARK(BM_FanoutOnDisk)
    ->Apply([](benchmark::internal::Benchmark* b) {
      b->ArgNames({"devices", "sync_us", "range_rows"});
      for (const int range_rows : {kRangeRows, kRangeRowsMax}) {
        for (const int delay : kSyncDelaysUs) {
          b->Args({1'000'000, delay, range_rows});
        }
      }
    })
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime()
    ->MeasureProcessCPUTime();
BENCHMARK(BM_TwinJobOnDisk)
    ->Apply([](benchmark::internal::Benchmark* b) {
      b->ArgNames({"devices", "sync_us", "realistic"});
      for (const Twins twins : {Twins::kSmall, Twins::kRealistic}) {
        for (const int delay : kSyncDelaysUs) {
          b->Args({1'000'000, delay, static_cast<int>(twins)});
        }
      }
    })
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
  LoadFleet(*engine, devices, Twins::kSmall, "Disconnected");
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
    void OnConnections(absl::Span<const ConnectionChange>,
                       absl::Span<ConnectionAnswer>) override {}
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

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  muster::Fleet::Current().reset();
  return 0;
}
