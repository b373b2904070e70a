// How fast is a condition answered, and what does keeping twins cost?
//
// One process, one run, the same fleet for all: the twin index beside what one
// would otherwise use (SQLite on columns, SQLite on JSON text, a scan of the
// text by simdjson), and beside the limit (bare loops over codes).  Every
// answer is checked, counts and ids; ratios of one run are what to believe.
//
//   parts     queries   the thirteen conditions, counted and enumerated, by one
//                       thread each; rounds go from engine to engine
//             stream    the same while patches come in
//             patches   merge patches per second, and a job's patch for all
//             snapshots every shard as bytes, and from those a second index
//             load      from JSON lines; memory afterwards (always done)
//
//   query_bench --twins=100000 --rounds=3
//   query_bench --twins=10000000 --engines=ours        takes some 2 GB
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "bench/query_engine.h"
#include "bench/query_fleet.h"
#include "bench/query_ours.h"
#include "engine/model/check.h"
#include "engine/model/json.h"
#include "engine/model/twin_patch.h"
#include "engine/query/condition.h"
#include "engine/schedule/clock.h"
#include "engine/twin/shard_snapshot.h"
#include "transport/loopback/fleet.h"

namespace muster {
namespace {

struct Flags {
  uint32_t twins = 1'000'000;
  int rounds = 5;
  std::string engines = "ours,columns,json,scan,kernels";
  std::string parts = "queries,stream,patches,snapshots";
  int64_t patches_per_second = 100'000;
};
Flags flags;

bool Has(absl::string_view list, absl::string_view wanted) {
  for (const absl::string_view each : absl::StrSplit(list, ',')) {
    if (each == wanted) return true;
  }
  return false;
}

double Seconds() { return absl::ToDoubleSeconds(Clock::Real().Monotonic()); }

const absl::Time kNow = absl::FromUnixSeconds(1'893'456'100);

class Samples {
 public:
  void Add(double value) { values_.push_back(value); }
  double Median() const {
    if (values_.empty()) return 0;
    std::vector<double> sorted = values_;
    const size_t middle = sorted.size() / 2;
    std::nth_element(sorted.begin(),
                     sorted.begin() + static_cast<ptrdiff_t>(middle),
                     sorted.end());
    return sorted[middle];
  }
  double Least() const {
    return *std::min_element(values_.begin(), values_.end());
  }

 private:
  std::vector<double> values_;
};

// What every engine gets before its samples of a query begin.
constexpr double kWarmUp = 10e-3;

// Several calls of `fn` in a row, more of a fast one; seconds for each.  The
// first ones find the caches full of what was asked of others, and do not count
// unless a call takes too long for more.
void Measure(absl::FunctionRef<void()> fn, Samples* samples) {
  double start = Seconds();
  fn();
  const double first = Seconds() - start;
  if (first > 0.1) {
    samples->Add(first);
    return;
  }
  while (Seconds() - start < kWarmUp) fn();
  const int batch = static_cast<int>(std::clamp(20e-6 / first, 1.0, 100.0));
  const int count =
      static_cast<int>(std::clamp(5e-3 / (first * batch), 3.0, 20.0));
  for (int i = 0; i < count; ++i) {
    start = Seconds();
    for (int k = 0; k < batch; ++k) fn();
    samples->Add((Seconds() - start) / batch);
  }
}

// --------------------------------------------------------------- answers

struct Medians {
  Samples counted[kQueryCount];
  Samples enumerated[kQueryCount];
};

// The ids of the last enumeration; kernels write a few beyond the last.
std::vector<uint32_t> ids;

void CheckIds(const QueryEngine& engine, int q, int64_t count,
              const Answer& right) {
  Answer answer;
  for (int64_t i = 0; i < count; ++i) {
    answer.Add(engine.DeviceOf(ids[static_cast<size_t>(i)]));
  }
  if (answer == right) return;
  absl::FPrintF(stderr, "%s enumerates %d devices for Q%d; %d are right\n",
                engine.name(), answer.count, q + 1, right.count);
  std::abort();
}

void MeasureQuery(QueryEngine* engine, int q, const Answer& right, bool check,
                  Medians* medians) {
  int64_t count = 0;
  Measure([&] { count = engine->Count(q); }, &medians->counted[q]);
  if (check && count != right.count) {
    absl::FPrintF(stderr, "%s counts %d devices for Q%d; %d are right\n",
                  engine->name(), count, q + 1, right.count);
    std::abort();
  }
  Measure([&] { count = engine->Enumerate(q, ids.data()); },
          &medians->enumerated[q]);
  if (check) CheckIds(*engine, q, count, right);
}

struct Contest {
  std::vector<std::unique_ptr<QueryEngine>> engines;
  std::vector<Medians> medians;
};

void PrintTable(const Contest& contest, const std::vector<Answer>& right,
                bool enumerated) {
  absl::PrintF("\n%s, us\n%-4s %-22s %9s",
               enumerated ? "enumerated" : "counted", "", "", "twins");
  for (const auto& engine : contest.engines) {
    absl::PrintF(" %11s", engine->name());
  }
  for (size_t e = 1; e < contest.engines.size(); ++e) {
    absl::PrintF(" %10s", absl::StrCat("x ", contest.engines[e]->name()));
  }
  absl::PrintF("\n");
  for (int q = 0; q < kQueryCount; ++q) {
    const BenchQuery& query = BenchQueries()[static_cast<size_t>(q)];
    absl::PrintF("%-4s %-22s %9d", query.name, query.shape,
                 right[static_cast<size_t>(q)].count);
    std::vector<double> each;
    for (const Medians& medians : contest.medians) {
      each.push_back(
          (enumerated ? medians.enumerated : medians.counted)[q].Median());
      absl::PrintF(" %11.2f", each.back() * 1e6);
    }
    for (size_t e = 1; e < each.size(); ++e) {
      absl::PrintF(" %10.3g", each[e] / each[0]);
    }
    absl::PrintF("\n");
  }
}

// How much faster than engine `e` the first one is: Q3 to Q12 together, and
// where it is least.
void PrintRatios(const Contest& contest, size_t e) {
  const Medians& ours = contest.medians[0];
  const Medians& peer = contest.medians[e];
  const char* const name = contest.engines[e]->name();
  for (const bool enumerated : {true, false}) {
    double log_sum = 0;
    double worst = HUGE_VAL;
    int worst_at = 0;
    std::string below;
    for (int q = 0; q < kQueryCount; ++q) {
      const double ratio =
          enumerated ? peer.enumerated[q].Median() / ours.enumerated[q].Median()
                     : peer.counted[q].Median() / ours.counted[q].Median();
      if (q >= 2 && q <= 11) log_sum += std::log(ratio);
      if (ratio < worst) {
        worst = ratio;
        worst_at = q;
      }
      if (ratio < 1) absl::StrAppend(&below, " Q", q + 1);
    }
    absl::PrintF(
        "%-7s / ours, %-10s  geometric mean Q3-Q12 %9.3f   worst %9.3f "
        "(Q%d)%s%s\n",
        name, enumerated ? "enumerated" : "counted", std::exp(log_sum / 10),
        worst, worst_at + 1, below.empty() ? "" : "   below 1:", below);
  }
}

void RunQueries(Contest* contest, const std::vector<Answer>& right) {
  contest->medians.resize(contest->engines.size());
  for (int round = 0; round < flags.rounds; ++round) {
    for (int q = 0; q < kQueryCount; ++q) {
      for (size_t e = 0; e < contest->engines.size(); ++e) {
        MeasureQuery(contest->engines[e].get(), q,
                     right[static_cast<size_t>(q)], /*check=*/true,
                     &contest->medians[e]);
      }
    }
  }
  PrintTable(*contest, right, /*enumerated=*/false);
  PrintTable(*contest, right, /*enumerated=*/true);
  absl::PrintF("\n");
  for (size_t e = 1; e < contest->engines.size(); ++e) {
    PrintRatios(*contest, e);
  }
}

// What comes before a prepared condition, and two threads on one question.
void RunOurs(Ours* ours, const std::vector<Answer>& right) {
  absl::PrintF("\nours, us\n%-4s %12s %22s %10s\n", "", "text parsed",
               "counted on 2 threads", "at best");
  double worst = 0;
  for (int q = 0; q < kQueryCount; ++q) {
    const std::string& text = BenchQueries()[static_cast<size_t>(q)].condition;
    Samples parse;
    Samples two;
    for (int round = 0; round < flags.rounds; ++round) {
      Measure([&] { MUSTER_CHECK(Condition::ParseJobCondition(text).ok()); },
              &parse);
      // The other thread is started before the clock is: what is asked is what
      // two cores do, and not what a thread costs.
      for (int i = 0; i < 5; ++i) {
        std::atomic<int> ready{0};
        int64_t other = 0;
        std::thread thread([&] {
          ready = 1;
          while (ready != 2) std::this_thread::yield();
          other = ours->CountPart(q, 1);
          ready = 3;
        });
        while (ready != 1) std::this_thread::yield();
        const double start = Seconds();
        ready = 2;
        const int64_t count = ours->CountPart(q, 0);
        while (ready != 3) std::this_thread::yield();
        two.Add(Seconds() - start);
        thread.join();
        MUSTER_CHECK(count + other == right[static_cast<size_t>(q)].count);
      }
    }
    worst = std::max(worst, two.Median());
    absl::PrintF("Q%-3d %12.2f %22.2f %10.2f\n", q + 1, parse.Median() * 1e6,
                 two.Median() * 1e6, two.Least() * 1e6);
  }
  absl::PrintF("slowest on two threads %.3f ms\n", worst * 1e3);
}

// ---------------------------------------------------------------- patches

std::string DeviceId(uint32_t row) { return absl::StrFormat("dev-%08d", row); }

TwinPatch Parsed(absl::string_view text, PatchOrigin origin) {
  return ParseTwinPatch(ParseJson(text).value().view(), origin).value();
}

// What patches of the battery made of Q5 and Q6: kept beside the index.
class Batteries {
 public:
  explicit Batteries(uint32_t twin_count)
      : tenths_(twin_count), of_q6_(twin_count) {
    ForEachTwin(0, twin_count, [&](absl::string_view, const TwinFacts& facts) {
      tenths_[facts.device] = static_cast<int16_t>(facts.battery_tenths);
      of_q6_[facts.device] = facts.building == "43" && !facts.has_desired_fw;
    });
  }
  void Set(uint32_t device, uint32_t tenths) {
    tenths_[device] = static_cast<int16_t>(tenths);
  }
  // REQUIRES: no patches are on their way.
  void Check(Ours* ours) const {
    int64_t q5 = 0;
    int64_t q6 = 0;
    for (size_t i = 0; i < tenths_.size(); ++i) {
      const bool low = tenths_[i] >= 0 && tenths_[i] < 200;
      q5 += low;
      q6 += low && of_q6_[i];
    }
    MUSTER_CHECK(ours->Count(4) == q5);
    MUSTER_CHECK(ours->Count(5) == q6);
  }

 private:
  std::vector<int16_t> tenths_;
  std::vector<bool> of_q6_;
};

// Calls fn() `per_second` times a second on a thread of its own until it is
// stopped; falls behind if it must.
class Stream {
 public:
  template <typename Function>
  Stream(double per_second, Function fn)
      : thread_([this, per_second, fn]() mutable {
          const double start = Seconds();
          int64_t done = 0;
          while (!stop_.load(std::memory_order_relaxed)) {
            const int64_t due =
                static_cast<int64_t>((Seconds() - start) * per_second);
            if (done >= due) {
              absl::SleepFor(absl::Microseconds(200));
              continue;
            }
            // In portions, to see the stop.
            for (int i = 0; i < 100 && done < due; ++i, ++done) fn();
          }
          per_second_ = static_cast<double>(done) / (Seconds() - start);
        }) {}

  // Per second, as it turned out.
  double Stop() {
    stop_ = true;
    thread_.join();
    return per_second_;
  }

 private:
  std::atomic<bool> stop_{false};
  double per_second_ = 0;
  std::thread thread_;
};

void RunStream(Ours* ours, const Medians* quiet, Batteries* batteries,
               const std::vector<Answer>& right) {
  std::vector<TwinPatch> patches;
  for (int tenths = 0; tenths < 1000; ++tenths) {
    patches.push_back(
        Parsed(absl::StrFormat("{\"battery\":%d.%d}", tenths / 10, tenths % 10),
               PatchOrigin::kDevice));
  }
  Medians own;
  if (quiet == nullptr) {
    for (int round = 0; round < flags.rounds; ++round) {
      for (int q = 0; q < kQueryCount; ++q) {
        MeasureQuery(ours, q, right[static_cast<size_t>(q)], true, &own);
      }
    }
    quiet = &own;
  }
  FleetPatchGenerator generator(flags.twins);
  Stream stream(static_cast<double>(flags.patches_per_second), [&] {
    const FleetPatchGenerator::Patch patch = generator.Next();
    MUSTER_CHECK(ours->index()
                     .PatchReported(DeviceId(patch.row),
                                    patches[patch.battery_tenths], kNow)
                     .ok());
    batteries->Set(patch.row, patch.battery_tenths);
  });
  Medians busy;
  for (int round = 0; round < flags.rounds; ++round) {
    for (int q = 0; q < kQueryCount; ++q) {
      // Batteries change under Q5 and Q6: theirs are checked at the end.
      MeasureQuery(ours, q, right[static_cast<size_t>(q)], q != 4 && q != 5,
                   &busy);
    }
  }
  const double rate = stream.Stop();
  batteries->Check(ours);
  absl::PrintF(
      "\nours with %.0f patches/s (%d wanted), us, and ratio to quiet\n", rate,
      flags.patches_per_second);
  for (int q = 0; q < kQueryCount; ++q) {
    absl::PrintF("Q%-3d counted %11.2f %6.2f   enumerated %11.2f %6.2f\n",
                 q + 1, busy.counted[q].Median() * 1e6,
                 busy.counted[q].Median() / quiet->counted[q].Median(),
                 busy.enumerated[q].Median() * 1e6,
                 busy.enumerated[q].Median() / quiet->enumerated[q].Median());
  }
}

// Patches as they come: text, for a device that is named.
struct TextPatch {
  uint32_t row;
  uint32_t tenths;
  std::string id;
  std::string text;
};

// Goes through the patches again and again for a second; patches per second.
double PerSecond(const std::vector<TextPatch>& patches,
                 absl::FunctionRef<void(const TextPatch&)> fn) {
  const double start = Seconds();
  int64_t done = 0;
  double now = start;
  for (size_t i = 0; now < start + 1; i = i + 1 == patches.size() ? 0 : i + 1) {
    fn(patches[i]);
    if (++done % 256 == 0) now = Seconds();
  }
  return static_cast<double>(done) / (now - start);
}

void RunPatches(Ours* ours, Batteries* batteries) {
  constexpr int kPatchCount = 300'000;
  TwinIndex& index = ours->index();
  FleetPatchGenerator generator(flags.twins, /*seed=*/44);
  std::vector<TextPatch> reports;
  std::vector<TextPatch> changes;
  for (int i = 0; i < kPatchCount; ++i) {
    const FleetPatchGenerator::Patch patch = generator.Next();
    reports.push_back(
        {patch.row, patch.battery_tenths, DeviceId(patch.row),
         absl::StrFormat("{\"battery\":%d.%d}", patch.battery_tenths / 10,
                         patch.battery_tenths % 10)});
    changes.push_back(
        {patch.row, patch.battery_tenths, DeviceId(patch.row),
         absl::StrFormat(
             "{\"tags\":{\"location\":{\"floor\":%d}},\"properties\":"
             "{\"desired\":{\"telemetry\":{\"intervalSec\":%d}}}}",
             1 + patch.battery_tenths % 24, 10 + patch.battery_tenths)});
  }
  JsonParser parser;
  const auto parse = [&](const TextPatch& patch) {
    MUSTER_CHECK(parser.Parse(patch.text).ok());
  };
  const auto take = [&](const TextPatch& patch) {
    MUSTER_CHECK(ParseTwinPatch(parser.Parse(patch.text).value().view(),
                                PatchOrigin::kDevice)
                     .ok());
  };
  const auto report = [&](const TextPatch& patch) {
    const auto parsed = ParseTwinPatch(parser.Parse(patch.text).value().view(),
                                       PatchOrigin::kDevice);
    MUSTER_CHECK(index.PatchReported(patch.id, *parsed, kNow).ok());
    batteries->Set(patch.row, patch.tenths);
  };
  const auto change = [&](const TextPatch& patch) {
    const auto parsed = ParseTwinPatch(parser.Parse(patch.text).value().view(),
                                       PatchOrigin::kService);
    MUSTER_CHECK(index.Patch(patch.id, *parsed, "", kNow).ok());
  };
  absl::PrintF("\nmerge patches on one core, thousands/s\n");
  absl::PrintF("  JSON parsed                     %8.0f\n",
               PerSecond(reports, parse) / 1e3);
  absl::PrintF("  + taken apart and checked       %8.0f\n",
               PerSecond(reports, take) / 1e3);
  absl::PrintF("  + applied: reported             %8.0f\n",
               PerSecond(reports, report) / 1e3);
  absl::PrintF("  tags and desired, all of it     %8.0f\n",
               PerSecond(changes, change) / 1e3);
  int q = 2;
  Stream queries(1000, [ours, q]() mutable {
    (void)ours->Count(q);
    q = q == 11 ? 2 : q + 1;
  });
  const double reported = PerSecond(reports, report);
  const double changed = PerSecond(changes, change);
  const double query_rate = queries.Stop();
  absl::PrintF(
      "with %.0f queries/s (1000 wanted) on the other\n"
      "  reported                        %8.0f\n"
      "  tags and desired                %8.0f\n",
      query_rate, reported / 1e3, changed / 1e3);
  batteries->Check(ours);
}

// What a twin-update job does once it has its devices: ranges of 256 rows, a
// lock for each.
void RunApply(Ours* ours) {
  constexpr int kRange = 256;
  TwinIndex& index = ours->index();
  Samples samples;
  for (int round = 0; round < std::max(flags.rounds, 2); ++round) {
    const int seconds = 300 + round;
    const TwinPatch patch =
        Parsed(absl::StrFormat("{\"properties\":{\"desired\":{\"telemetry\":{"
                               "\"intervalSec\":%d}}}}",
                               seconds),
               PatchOrigin::kJob);
    std::atomic<int64_t> applied{0};
    const auto apply = [&](int first) {
      int64_t count = 0;
      std::vector<uint16_t> rows;
      for (int s = first; s < index.shard_count(); s += 2) {
        Shard& shard = index.shard(s);
        // As a slice of the job does: a lock for each range.
        for (int row = 0, row_count = kRange; row < row_count; row += kRange) {
          absl::MutexLock lock(&shard.mutex);
          row_count = shard.row_count();
          rows.clear();
          for (int r = row; r < std::min(row + kRange, row_count); ++r) {
            if (shard.rows_in_use().Test(r)) {
              rows.push_back(static_cast<uint16_t>(r));
            }
          }
          MUSTER_CHECK(shard.ApplyPatch(rows, patch, kNow).empty());
          count += static_cast<int64_t>(rows.size());
        }
      }
      applied += count;
    };
    const double start = Seconds();
    std::thread thread(apply, 1);
    apply(0);
    thread.join();
    samples.Add(Seconds() - start);
    MUSTER_CHECK(applied == flags.twins);
    int64_t matching = 0;
    const Condition condition =
        Condition::ParseJobCondition(
            absl::StrCat("properties.desired.telemetry.intervalSec = ",
                         seconds))
            .value();
    ours->Ask(condition,
              [&](int, const RowBitmap& rows) { matching += rows.Count(); });
    MUSTER_CHECK(matching == flags.twins);
  }
  absl::PrintF(
      "a job's patch for every twin, two threads: %.1f ms, %.1f million/s\n",
      samples.Median() * 1e3, flags.twins / samples.Median() / 1e6);
}

// Every shard to bytes and back into another index, by two threads.
void RunSnapshots(Ours* ours) {
  const TwinIndex& index = ours->index();
  const int count = index.shard_count();
  std::vector<std::string> snapshots(static_cast<size_t>(count));
  const auto by_two = [&](absl::FunctionRef<void(int)> fn) {
    const double start = Seconds();
    std::thread thread([&] {
      for (int i = 1; i < count; i += 2) fn(i);
    });
    for (int i = 0; i < count; i += 2) fn(i);
    thread.join();
    return Seconds() - start;
  };
  const double out = by_two([&](int i) {
    absl::ReaderMutexLock lock(&index.shard(i).mutex);
    ShardSnapshot::Write(index.shard(i), &snapshots[static_cast<size_t>(i)]);
  });
  auto copy = TwinIndex::Create({}).value();
  const double in = by_two([&](int i) {
    auto shard = ShardSnapshot::Read(snapshots[static_cast<size_t>(i)]);
    MUSTER_CHECK(shard.ok());
    MUSTER_CHECK(copy->Restore(index.shard(i).partition(), *std::move(shard)).ok());
  });
  MUSTER_CHECK(copy->size() == index.size());
  for (const BenchQuery& query : BenchQueries()) {
    const Condition condition =
        Condition::ParseJobCondition(query.condition).value();
    int64_t before = 0;
    int64_t after = 0;
    index.Match(condition,
                [&](int, const RowBitmap& rows) { before += rows.Count(); });
    copy->Match(condition,
                [&](int, const RowBitmap& rows) { after += rows.Count(); });
    MUSTER_CHECK(before == after);
  }
  size_t bytes = 0;
  for (const std::string& snapshot : snapshots) bytes += snapshot.size();
  absl::PrintF(
      "snapshots, two threads: out in %.3f s, in again in %.3f s, %.1f bytes a "
      "twin\n",
      out, in, static_cast<double>(bytes) / flags.twins);
}

// ----------------------------------------------------------------- memory

struct Memory {
  double resident = 0;
  double allocated = 0;

  static Memory Now() {
    malloc_trim(0);
    Memory memory;
    std::FILE* const file = std::fopen("/proc/self/statm", "r");
    MUSTER_CHECK(file != nullptr);
    int64_t total = 0;
    int64_t resident = 0;
    MUSTER_CHECK(std::fscanf(file, "%ld %ld", &total, &resident) == 2);
    std::fclose(file);
    memory.resident = static_cast<double>(resident) *
                      static_cast<double>(sysconf(_SC_PAGESIZE));
    const struct mallinfo2 info = mallinfo2();
    memory.allocated = static_cast<double>(info.uordblks + info.hblkhd);
    return memory;
  }
};

// Since the process began.
double PeakResident() {
  rusage usage{};
  MUSTER_CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
  return static_cast<double>(usage.ru_maxrss) * 1024;
}

std::unique_ptr<Ours> Load() {
  const Memory before = Memory::Now();
  auto ours = std::make_unique<Ours>(flags.twins);
  const Memory after = Memory::Now();
  const double twins = flags.twins;
  const double add = absl::ToDoubleSeconds(ours->load_time().add);
  const double commit = absl::ToDoubleSeconds(ours->load_time().commit);
  absl::PrintF(
      "load from JSON lines, two threads: %.2f s (parsing %.2f, putting in "
      "%.2f; %.2f s of one core), %.0f thousand twins/s\n",
      add + commit, add, commit, absl::ToDoubleSeconds(ours->load_time().cpu),
      twins / (add + commit) / 1e3);
  absl::PrintF(
      "memory, bytes a twin: resident %.1f, from malloc %.1f, by its own count "
      "%.1f; at most while loading %.1f\n",
      (after.resident - before.resident) / twins,
      (after.allocated - before.allocated) / twins,
      static_cast<double>(ours->index().MemoryUsage()) / twins,
      (PeakResident() - before.resident) / twins);
  return ours;
}

int Run() {
  ids.resize(flags.twins + 64);
  BenchQueries();
  const std::vector<Answer> right = RightAnswers(flags.twins);
  absl::PrintF("%d twins, %d rounds\n", flags.twins, flags.rounds);

  Contest contest;
  Ours* ours = nullptr;
  if (Has(flags.engines, "ours")) {
    std::unique_ptr<Ours> loaded = Load();
    ours = loaded.get();
    contest.engines.push_back(std::move(loaded));
  }
  using Make = std::unique_ptr<QueryEngine> (*)(uint32_t);
  for (const auto& [name, make] :
       std::initializer_list<std::pair<absl::string_view, Make>>{
           {"columns", MakeSqliteColumns},
           {"json", MakeSqliteJson},
           {"scan", MakeJsonScan},
           {"kernels", MakeKernels}}) {
    if (!Has(flags.engines, name)) continue;
    const double start = Seconds();
    contest.engines.push_back(make(flags.twins));
    absl::FPrintF(stderr, "%s: made in %.1f s\n", name, Seconds() - start);
  }
  if (Has(flags.parts, "queries")) {
    RunQueries(&contest, right);
    if (ours != nullptr) RunOurs(ours, right);
  }
  // What follows is about one only; the others would be in its caches.
  contest.engines.resize(ours != nullptr ? 1 : 0);
  if (ours == nullptr) return 0;
  Batteries batteries(flags.twins);
  if (Has(flags.parts, "stream") && flags.patches_per_second > 0) {
    RunStream(ours,
              contest.medians.empty() ? nullptr : &contest.medians.front(),
              &batteries, right);
  }
  if (Has(flags.parts, "patches")) {
    RunPatches(ours, &batteries);
    RunApply(ours);
  }
  if (Has(flags.parts, "snapshots")) RunSnapshots(ours);
  return 0;
}

bool ParseFlag(absl::string_view argument) {
  if (absl::ConsumePrefix(&argument, "--twins=")) {
    return absl::SimpleAtoi(argument, &flags.twins) && flags.twins >= 1000 &&
           flags.twins <= 100'000'000;
  }
  if (absl::ConsumePrefix(&argument, "--rounds=")) {
    return absl::SimpleAtoi(argument, &flags.rounds) && flags.rounds > 0;
  }
  if (absl::ConsumePrefix(&argument, "--patches_per_second=")) {
    return absl::SimpleAtoi(argument, &flags.patches_per_second);
  }
  if (absl::ConsumePrefix(&argument, "--engines=")) {
    flags.engines = std::string(argument);
    return true;
  }
  if (absl::ConsumePrefix(&argument, "--parts=")) {
    flags.parts = std::string(argument);
    return true;
  }
  return false;
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (muster::ParseFlag(argv[i])) continue;
    const bool is_help = argv[i] == absl::string_view("--help");
    if (!is_help) std::fprintf(stderr, "query_bench: cannot use %s\n", argv[i]);
    std::fprintf(is_help ? stdout : stderr,
                 "  --twins=1000000 --rounds=5 --patches_per_second=100000\n"
                 "  --engines=ours,columns,json,scan,kernels\n"
                 "  --parts=queries,stream,patches,snapshots\n");
    return is_help ? 0 : 2;
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  return muster::Run();
}
