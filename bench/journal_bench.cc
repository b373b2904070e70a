// What does it cost to make outcomes durable, and to read them back?
//
// In one run, side by side, on the same disk:
//
//   ours    GroupCommit over the RocksDB journal, the engine's own records: a
//           range of 256 executions is dispatched, and finishes; 16 partitions,
//           two threads that add, at most --window outcomes on their way
//   raw     the limit: the bytes of our records appended to a file in groups as
//           large as ours were on average, fdatasync() after each
//   rows    RocksDB with a row per outcome, as one would do it first: a synced
//           WriteBatch for as many outcomes as a group of ours had
//
// ours and raw in three shapes: `ranges`, 256 neighbours end together;
// `scattered`, 256 anywhere in a shard; `trickle`, 16 anywhere in a shard.
// Each also with every sync slower by 1 ms and by 5 ms.
//
// Then what was written is read back: by the product's replay (PartitionReplay
// over GroupCommit::Recover(), two threads), by a loop over the raw file that
// only decodes records, and by a scan of all rows.  Answers are checked: every
// outcome is there, once.
//
//   journal_bench --outcomes=1000000 --rounds=1
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "bench/disk.h"
#include "engine/dispatch/replay.h"
#include "engine/journal/group_commit.h"
#include "engine/journal/record.h"
#include "engine/journal/rocksdb/rocksdb_journal.h"
#include "engine/model/check.h"
#include "engine/model/job_status.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "engine/schedule/parallel.h"
#include "engine/twin/columns/row_set.h"
#include "rocksdb/db.h"
#include "rocksdb/iterator.h"
#include "rocksdb/write_batch.h"

namespace muster {
namespace {

struct Flags {
  int64_t outcomes = 10'000'000;
  int64_t rows = 1'000'000;  // Of `rows`, which takes its time.
  int64_t window = 65'536;
  int rounds = 3;
};
Flags flags;

constexpr int kPartitions = 16;
constexpr int kThreads = 2;
constexpr uint64_t kJob = 42;
const absl::Time kStart = absl::FromUnixSeconds(1'893'456'100);

absl::Duration Now() { return Clock::Real().Monotonic(); }

struct Shape {
  const char* name;
  int group;       // Outcomes of a record.
  bool scattered;  // Anywhere in the shard; or neighbours.
};
constexpr Shape kShapes[] = {
    {"ranges", 256, false}, {"scattered", 256, true}, {"trickle", 16, true}};

// A shard's part of the job: which ranks end in which order.
struct Part {
  int partition;
  uint32_t shard;  // Its number in the partition.
  uint32_t slice;
  std::vector<uint16_t> order;
};

std::vector<Part> MakeParts(const Shape& shape, int64_t outcomes) {
  std::vector<Part> parts;
  std::mt19937 random(1);
  for (int64_t begin = 0; begin < outcomes; begin += kShardRowsMax) {
    const int number = static_cast<int>(parts.size());
    Part& part = parts.emplace_back();
    part.partition = number % kPartitions;
    part.shard = static_cast<uint32_t>(number / kPartitions);
    part.slice = static_cast<uint32_t>(number);
    part.order.resize(static_cast<size_t>(
        std::min<int64_t>(kShardRowsMax, outcomes - begin)));
    std::iota(part.order.begin(), part.order.end(), uint16_t{0});
    if (!shape.scattered) continue;
    std::shuffle(part.order.begin(), part.order.end(), random);
    const auto group = static_cast<size_t>(shape.group);
    for (size_t i = 0; i < part.order.size(); i += group) {
      std::sort(part.order.begin() + static_cast<ptrdiff_t>(i),
                part.order.begin() + static_cast<ptrdiff_t>(std::min(
                                         i + group, part.order.size())));
    }
  }
  return parts;
}

// What stands before a slice's first outcome.
void AppendBeginning(const Part& part, std::string* out) {
  TargetsRecord targets;
  targets.job = kJob;
  targets.slice = part.slice;
  targets.shard = part.shard;
  targets.sequence = 1;
  targets.run = 1;
  targets.rows.resize(part.order.size());
  std::iota(targets.rows.begin(), targets.rows.end(), uint16_t{0});
  AppendRecord(targets, out);
  ResultRecord result;
  result.job = kJob;
  result.slice = part.slice;
  result.sequence = 2;
  result.status = static_cast<uint8_t>(ExecutionStatus::kCompleted);
  result.answered = true;
  result.response_status = 200;
  result.payload = "null";
  AppendRecord(result, out);
}

// A slice's runs, in the engine's manner: what ended, then what goes out next.
class SliceRuns {
 public:
  SliceRuns(const Part& part, const Shape& shape)
      : part_(part), group_(static_cast<size_t>(shape.group)) {}

  int partition() const { return part_.partition; }
  bool done() const { return begin_ == part_.order.size(); }

  // Appends the next run's records; returns how many outcomes they hold.
  int64_t Append(std::string* out) {
    const absl::Time time = kStart + absl::Nanoseconds(1'234'567) * sequence_;
    const size_t next = std::min(begin_ + sent_, part_.order.size());
    const int64_t finished = static_cast<int64_t>(next - begin_);
    if (finished > 0) {
      entries_.clear();
      for (size_t i = begin_; i < next; ++i) {
        entries_.push_back({part_.order[i], 0});
      }
      AppendFinished(kJob, part_.slice, sequence_, time, entries_, out);
    }
    sent_ = std::min(group_, part_.order.size() - next);
    if (sent_ > 0) {
      AppendDispatched(kJob, part_.slice, sequence_, time,
                       absl::MakeConstSpan(part_.order).subspan(next, sent_),
                       out);
    }
    begin_ = next;
    ++sequence_;
    return finished;
  }

 private:
  const Part& part_;
  const size_t group_;
  size_t begin_ = 0;
  size_t sent_ = 0;
  uint64_t sequence_ = 2;
  std::vector<FinishedRecord::Entry> entries_;
};

class Samples {
 public:
  void Add(double value) { values_.push_back(value); }
  void Add(const Samples& other) {
    values_.insert(values_.end(), other.values_.begin(), other.values_.end());
  }
  double Quantile(double share) const {
    if (values_.empty()) return 0;
    std::vector<double> sorted = values_;
    std::sort(sorted.begin(), sorted.end());
    return sorted[static_cast<size_t>(share *
                                      static_cast<double>(sorted.size() - 1))];
  }
  double Median() const { return Quantile(.5); }

 private:
  std::vector<double> values_;
};

// Of one run of one way.
struct Result {
  double seconds = 0;
  int64_t outcomes = 0;
  double group = 0;       // Outcomes that became durable together.
  double commit_p50 = 0;  // Of a group, in seconds.
  double commit_p99 = 0;
  double durable_p50 = 0;  // From adding an outcome until it is durable.
  double durable_p99 = 0;
  double disk_bytes = 0;  // For each outcome.
  double replay_seconds = 0;
};

void Check(bool right, absl::string_view what) {
  if (right) return;
  absl::FPrintF(stderr, "wrong answer: %s\n", what);
  std::exit(1);
}

// ---------------------------------------------------------------------- ours

// At most so many outcomes between Add() and durable.
class Window {
 public:
  void Enter(int64_t n) {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(this, &Window::HasRoom));
    used_ += n;
  }
  void Leave(int64_t n) {
    absl::MutexLock lock(&mutex_);
    used_ -= n;
  }

 private:
  bool HasRoom() const { return used_ < flags.window; }
  absl::Mutex mutex_;
  int64_t used_ = 0;
};

// Reads it all back and counts the executions that succeeded.
double Replay(const std::string& folder, int64_t outcomes) {
  auto executor = MakeThreadExecutor(kThreads);
  auto journal = *RocksDbJournal::Open({.directory = folder});
  auto commit =
      *GroupCommit::Create(journal.get(), executor.get(), &Clock::Real());
  std::vector<PartitionReplay> replays(kPartitions);
  const absl::Duration start = Now();
  ForEachInParallel(*executor, kPartitions, [&](int i) {
    PartitionReplay& replay = replays[static_cast<size_t>(i)];
    const absl::Status status = commit->Recover(
        i, [&](absl::string_view records) { return replay.Visit(records); });
    if (!status.ok()) absl::FPrintF(stderr, "%s\n", status.ToString());
    MUSTER_CHECK(status.ok() && replay.Finish().ok());
  });
  const double seconds = absl::ToDoubleSeconds(Now() - start);
  int64_t succeeded = 0;
  for (const PartitionReplay& replay : replays) {
    for (const auto& [key, slice] : replay.slices) {
      succeeded += slice.slice->succeeded_count();
      MUSTER_CHECK(slice.slice->open_count() == 0);
    }
  }
  Check(succeeded == outcomes, "replay");
  MUSTER_CHECK(commit->Release().ok());
  return seconds;
}

// Adds the runs of every second part, sixteen slices in turn, as a worker does.
void AddRuns(const std::vector<Part>& parts, const Shape& shape, size_t first,
             GroupCommit& commit, Window& window,
             std::vector<Samples>* latencies, std::atomic<int64_t>* durable) {
  constexpr size_t kAtATime = 16;
  std::vector<std::unique_ptr<SliceRuns>> slices;
  for (size_t next = first, i = 0; next < parts.size() || !slices.empty();) {
    if (next < parts.size() && slices.size() < kAtATime) {
      slices.push_back(std::make_unique<SliceRuns>(parts[next], shape));
      next += kThreads;
      continue;
    }
    if (i >= slices.size()) i = 0;
    SliceRuns& slice = *slices[i];
    const int partition = slice.partition();
    window.Enter(shape.group);
    const absl::Duration added = Now();
    // The callback needs what only the writing tells.
    auto finished = std::make_shared<int64_t>(0);
    commit.Add(
        partition, [&](std::string* out) { *finished = slice.Append(out); },
        [&window, &shape, added, finished, durable,
         samples = &(*latencies)[static_cast<size_t>(partition)]](
            const absl::Status& status) {
          MUSTER_CHECK(status.ok());
          durable->fetch_add(*finished);
          samples->Add(absl::ToDoubleSeconds(Now() - added));
          window.Leave(shape.group);
        });
    commit.Flush(partition);
    if (slice.done()) {
      slices.erase(slices.begin() + static_cast<ptrdiff_t>(i));
    } else {
      ++i;
    }
  }
}

Result RunOurs(const std::vector<Part>& parts, const Shape& shape,
               int64_t outcomes, const std::string& folder, bool replay) {
  Result result;
  result.outcomes = outcomes;
  {
    auto executor = MakeThreadExecutor(kThreads);
    auto journal = *RocksDbJournal::Open({.directory = folder});
    auto commit =
        *GroupCommit::Create(journal.get(), executor.get(), &Clock::Real());
    for (const Part& part : parts) {
      commit->Add(part.partition,
                  [&](std::string* out) { AppendBeginning(part, out); });
    }
    for (int i = 0; i < kPartitions; ++i) MUSTER_CHECK(commit->Sync(i).ok());

    const int64_t commits = journal->Stats().commits;
    const int64_t syncs = SyncCount();
    Window window;
    // By partition: its callbacks run one after the other.
    std::vector<Samples> latencies(kPartitions);
    std::atomic<int64_t> durable{0};
    const absl::Duration start = Now();
    std::vector<std::thread> threads;
    for (size_t i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        AddRuns(parts, shape, i, *commit, window, &latencies, &durable);
      });
    }
    for (std::thread& thread : threads) thread.join();
    commit->Drain();
    result.seconds = absl::ToDoubleSeconds(Now() - start);
    Check(durable.load() == outcomes, "ours, durable outcomes");
    const RocksDbJournalStats stats = journal->Stats();
    Check(SyncCount() - syncs >= stats.commits - commits, "ours, syncs");
    result.group = static_cast<double>(outcomes) /
                   static_cast<double>(stats.commits - commits);
    result.commit_p50 = absl::ToDoubleSeconds(stats.commit_p50);
    result.commit_p99 = absl::ToDoubleSeconds(stats.commit_p99);
    Samples all;
    for (const Samples& samples : latencies) all.Add(samples);
    result.durable_p50 = all.Quantile(.5);
    result.durable_p99 = all.Quantile(.99);
    MUSTER_CHECK(commit->Release().ok());
  }
  result.disk_bytes =
      static_cast<double>(DiskBytes(folder)) / static_cast<double>(outcomes);
  if (replay) result.replay_seconds = Replay(folder, outcomes);
  return result;
}

// ----------------------------------------------------------------------- raw

std::string AllRecords(const std::vector<Part>& parts, const Shape& shape) {
  std::string bytes;
  for (const Part& part : parts) {
    for (SliceRuns runs(part, shape); !runs.done();) runs.Append(&bytes);
  }
  return bytes;
}

double ReplayRaw(const std::string& path, int64_t outcomes) {
  const absl::Duration start = Now();
  const int fd = open(path.c_str(), O_RDONLY);
  MUSTER_CHECK(fd >= 0);
  std::string bytes(static_cast<size_t>(lseek(fd, 0, SEEK_END)), '\0');
  MUSTER_CHECK(pread(fd, bytes.data(), bytes.size(), 0) ==
               static_cast<ssize_t>(bytes.size()));
  close(fd);
  int64_t finished = 0;
  MUSTER_CHECK(ReadRecords(bytes, [&](const Record& record) {
                 if (const auto* f = std::get_if<FinishedRecord>(&record)) {
                   finished += static_cast<int64_t>(f->entries.size());
                 }
                 return absl::OkStatus();
               }).ok());
  const double seconds = absl::ToDoubleSeconds(Now() - start);
  Check(finished == outcomes, "raw");
  return seconds;
}

// The bytes in groups of `group` outcomes on average.
Result RunRaw(absl::string_view bytes, double group, int64_t outcomes,
              const std::string& folder, bool replay) {
  Result result;
  result.outcomes = outcomes;
  result.group = group;
  const auto size = std::max<size_t>(
      1, static_cast<size_t>(static_cast<double>(bytes.size()) * group /
                             static_cast<double>(outcomes)));
  const std::string path = absl::StrCat(folder, "/raw");
  const int fd = open(path.c_str(), O_CREAT | O_WRONLY | O_APPEND, 0600);
  MUSTER_CHECK(fd >= 0);
  Samples commits;
  const absl::Duration start = Now();
  for (absl::string_view left = bytes; !left.empty();) {
    const absl::string_view chunk = left.substr(0, size);
    left.remove_prefix(chunk.size());
    const absl::Duration begin = Now();
    MUSTER_CHECK(write(fd, chunk.data(), chunk.size()) ==
                 static_cast<ssize_t>(chunk.size()));
    MUSTER_CHECK(fdatasync(fd) == 0);
    commits.Add(absl::ToDoubleSeconds(Now() - begin));
  }
  result.seconds = absl::ToDoubleSeconds(Now() - start);
  close(fd);
  result.commit_p50 = result.durable_p50 = commits.Quantile(.5);
  result.commit_p99 = result.durable_p99 = commits.Quantile(.99);
  result.disk_bytes =
      static_cast<double>(DiskBytes(folder)) / static_cast<double>(outcomes);
  if (replay) result.replay_seconds = ReplayRaw(path, outcomes);
  return result;
}

// ---------------------------------------------------------------------- rows

void AppendFixed(uint64_t v, int bytes, std::string* out) {
  for (int i = bytes - 1; i >= 0; --i) {
    out->push_back(static_cast<char>(v >> (8 * i)));
  }
}

double ReplayRows(const std::string& folder, int64_t outcomes) {
  rocksdb::DB* opened = nullptr;
  MUSTER_CHECK(rocksdb::DB::Open({}, folder, &opened).ok());
  const std::unique_ptr<rocksdb::DB> db(opened);
  const absl::Duration start = Now();
  int64_t succeeded = 0;
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  options.readahead_size = 1 << 20;
  const std::unique_ptr<rocksdb::Iterator> it(db->NewIterator(options));
  for (it->SeekToFirst(); it->Valid(); it->Next()) {
    succeeded += it->value().size() == 11 && it->value()[0] == 1;
  }
  const double seconds = absl::ToDoubleSeconds(Now() - start);
  Check(it->status().ok() && succeeded == outcomes, "rows");
  return seconds;
}

// Key: job, slice, rank; value: state, time, result.
Result RunRows(double group, int64_t outcomes, const std::string& folder,
               bool replay) {
  Result result;
  result.outcomes = outcomes;
  result.group = std::max(1.0, group);
  Samples commits;
  {
    rocksdb::Options options;
    options.create_if_missing = true;
    options.max_background_jobs = 2;
    options.write_buffer_size = 32 << 20;
    rocksdb::DB* opened = nullptr;
    MUSTER_CHECK(rocksdb::DB::Open(options, folder, &opened).ok());
    const std::unique_ptr<rocksdb::DB> db(opened);
    rocksdb::WriteOptions durable;
    durable.sync = true;
    rocksdb::WriteBatch batch;
    std::string key, value;
    const int64_t syncs = SyncCount();
    int64_t groups = 0;
    const absl::Duration start = Now();
    for (int64_t i = 0; i < outcomes; ++groups) {
      const int64_t end = std::min(outcomes, i + int64_t(result.group));
      batch.Clear();
      for (; i < end; ++i) {
        key.clear();
        AppendFixed(kJob, 8, &key);
        AppendFixed(static_cast<uint64_t>(i / kShardRowsMax), 4, &key);
        AppendFixed(static_cast<uint64_t>(i % kShardRowsMax), 2, &key);
        value.assign(1, 1);
        AppendFixed(static_cast<uint64_t>(absl::ToUnixNanos(kStart) + i), 8,
                    &value);
        AppendFixed(0, 2, &value);
        MUSTER_CHECK(batch.Put(key, value).ok());
      }
      const absl::Duration begin = Now();
      MUSTER_CHECK(db->Write(durable, &batch).ok());
      commits.Add(absl::ToDoubleSeconds(Now() - begin));
    }
    result.seconds = absl::ToDoubleSeconds(Now() - start);
    Check(SyncCount() - syncs >= groups, "rows, syncs");
    MUSTER_CHECK(db->Close().ok());
  }
  result.commit_p50 = result.durable_p50 = commits.Quantile(.5);
  result.commit_p99 = result.durable_p99 = commits.Quantile(.99);
  result.disk_bytes =
      static_cast<double>(DiskBytes(folder)) / static_cast<double>(outcomes);
  if (replay) result.replay_seconds = ReplayRows(folder, outcomes);
  return result;
}

// -------------------------------------------------------------------- report

double MedianOf(const std::vector<Result>& results, double Result::* field) {
  Samples samples;
  for (const Result& result : results) samples.Add(result.*field);
  return samples.Median();
}

void Print(absl::string_view name, const std::vector<Result>& results,
           bool replay) {
  const int64_t outcomes = results.front().outcomes;
  const double seconds = MedianOf(results, &Result::seconds);
  absl::PrintF("  %-16s %7.2f M/s  %8.0f  %8.2f %8.2f  %8.2f %8.2f  %7.2f",
               name, static_cast<double>(outcomes) / seconds / 1e6,
               MedianOf(results, &Result::group),
               1e3 * MedianOf(results, &Result::commit_p50),
               1e3 * MedianOf(results, &Result::commit_p99),
               1e3 * MedianOf(results, &Result::durable_p50),
               1e3 * MedianOf(results, &Result::durable_p99),
               MedianOf(results, &Result::disk_bytes));
  if (replay) {
    absl::PrintF("  %6.3f s of %.1f M",
                 MedianOf(results, &Result::replay_seconds),
                 static_cast<double>(outcomes) / 1e6);
  }
  absl::PrintF("\n");
}

void Main() {
  const TempFolder folder("journal_bench");
  const auto fresh = [&]() -> const std::string& {
    folder.Clear();
    return folder.path();
  };
  std::vector<std::vector<Part>> parts;
  std::vector<std::string> bytes;
  for (const Shape& shape : kShapes) {
    parts.push_back(MakeParts(shape, flags.outcomes));
    bytes.push_back(AllRecords(parts.back(), shape));
  }
  absl::PrintF("%d outcomes (rows: %d), at most %d on their way, %d rounds\n",
               flags.outcomes, flags.rows, flags.window, flags.rounds);
  for (const int delay_ms : {0, 1, 5}) {
    const bool replay = delay_ms == 0;
    SetSyncDelay(absl::Milliseconds(delay_ms));
    absl::PrintF(
        "\nsync +%d ms: append of 4 KiB and fdatasync %s, %s\n"
        "  %-16s %11s  %8s  %8s %8s  %8s %8s  %7s  %s\n",
        delay_ms, absl::FormatDuration(MeasureSync(fresh())), MachineLoad(), "",
        "durable", "group", "commit50", "99 [ms]", "durabl50", "99 [ms]",
        "disk B", replay ? "replay" : "");
    std::fflush(stdout);
    // By name, in the order in which they ran first.
    std::vector<std::pair<std::string, std::vector<Result>>> ways;
    const auto add = [&](const std::string& name, const Result& result) {
      auto it = std::find_if(ways.begin(), ways.end(), [&](const auto& way) {
        return way.first == name;
      });
      if (it == ways.end()) it = ways.insert(it, {name, {}});
      it->second.push_back(result);
      return result;
    };
    for (int round = 0; round < flags.rounds; ++round) {
      for (size_t i = 0; i < std::size(kShapes); ++i) {
        const Shape& shape = kShapes[i];
        const Result ours =
            add(absl::StrCat("ours, ", shape.name),
                RunOurs(parts[i], shape, flags.outcomes,
                        absl::StrCat(fresh(), "/data"), replay));
        add(absl::StrCat("raw, ", shape.name),
            RunRaw(bytes[i], ours.group, flags.outcomes, fresh(), replay));
        if (i == 0) {
          add("rows", RunRows(ours.group, flags.rows, fresh(), replay));
        }
      }
    }
    for (const auto& [name, results] : ways) Print(name, results, replay);
    std::fflush(stdout);
  }
}

bool ParseFlag(absl::string_view argument) {
  int64_t rounds = flags.rounds;
  const auto number = [&](absl::string_view name, int64_t* value) {
    absl::string_view text = argument;
    return absl::ConsumePrefix(&text, name) && absl::SimpleAtoi(text, value) &&
           *value > 0;
  };
  const bool known = number("--outcomes=", &flags.outcomes) ||
                     number("--rows=", &flags.rows) ||
                     number("--window=", &flags.window) ||
                     number("--rounds=", &rounds);
  flags.rounds = static_cast<int>(rounds);
  return known;
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (muster::ParseFlag(argv[i])) continue;
    std::fprintf(stderr,
                 "usage: journal_bench [--outcomes=N] [--rows=N] [--window=N] "
                 "[--rounds=N]\n");
    return 2;
  }
  muster::Main();
  return 0;
}
