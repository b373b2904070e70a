#include "bench/query_ours.h"

#include <time.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>

#include "absl/strings/numbers.h"
#include "bench/query_fleet.h"
#include "engine/model/check.h"
#include "engine/schedule/clock.h"
#include "engine/twin/columns/kernels.h"
#include "engine/twin/columns/row_set.h"
#include "engine/twin/json_lines.h"
#include "engine/twin/match/matcher.h"
#include "transport/loopback/fleet.h"

namespace muster {
namespace {

constexpr int kRowBits = 14;
static_assert(1 << kRowBits == kShardRowsMax);

// Processor time of this thread, or of all.
absl::Duration Cpu(clockid_t clock) {
  timespec time{};
  MUSTER_CHECK(clock_gettime(clock, &time) == 0);
  return absl::DurationFromTimespec(time);
}

}  // namespace

Ours::Ours(uint32_t twin_count) {
  index_ = TwinIndex::Create({}).value();
  constexpr uint32_t kChunkTwins = 10'000;
  std::atomic<uint32_t> next{0};
  JsonLinesLoader loader(index_.get(), {});
  struct Times {
    absl::Duration wall;
    absl::Duration cpu;
  };
  const auto add = [&](Times* times) {
    const FleetGenerator fleet;
    std::string lines;
    for (;;) {
      const uint32_t first = next.fetch_add(kChunkTwins);
      if (first >= twin_count) return;
      lines.clear();
      for (uint32_t i = first; i < std::min(first + kChunkTwins, twin_count);
           ++i) {
        fleet.AppendTwin(i, &lines);
      }
      const absl::Duration start = Clock::Real().Monotonic();
      const absl::Duration cpu = Cpu(CLOCK_THREAD_CPUTIME_ID);
      loader.Add(lines, int64_t{first} + 1);
      times->cpu += Cpu(CLOCK_THREAD_CPUTIME_ID) - cpu;
      times->wall += Clock::Real().Monotonic() - start;
    }
  };
  Times times[2];
  std::thread thread(add, &times[0]);
  add(&times[1]);
  thread.join();
  load_time_.add = std::max(times[0].wall, times[1].wall);
  const absl::Duration start = Clock::Real().Monotonic();
  const absl::Duration cpu = Cpu(CLOCK_PROCESS_CPUTIME_ID);
  const auto loaded =
      loader.Commit(absl::FromUnixSeconds(1'893'456'000)).value();
  load_time_.commit = Clock::Real().Monotonic() - start;
  load_time_.cpu =
      times[0].cpu + times[1].cpu + Cpu(CLOCK_PROCESS_CPUTIME_ID) - cpu;
  MUSTER_CHECK(loaded.twin_count == twin_count);
  for (const BenchQuery& query : BenchQueries()) {
    conditions_.push_back(
        Condition::ParseJobCondition(query.condition).value());
  }
}

int64_t Ours::Count(int q) {
  int64_t count = 0;
  index_->Match(conditions_[static_cast<size_t>(q)],
                [&](int, const RowBitmap& rows) { count += rows.Count(); });
  return count;
}

// Every second shard, as two workers share the evaluation of a job.
int64_t Ours::CountPart(int q, int part) const {
  const Condition& condition = conditions_[static_cast<size_t>(q)];
  if (index_->Candidates(condition).has_value()) {
    return part == 0 ? const_cast<Ours*>(this)->Count(q) : 0;
  }
  int64_t count = 0;
  Matcher matcher(condition);
  RowBitmap rows;
  for (int i = part; i < index_->shard_count(); i += 2) {
    const Shard& shard = index_->shard(i);
    {
      absl::ReaderMutexLock lock(&shard.mutex);
      matcher.Match(shard, &rows);
    }
    count += rows.Count();
  }
  return count;
}

int64_t Ours::Enumerate(int q, uint32_t* ids) {
  uint32_t* next = ids;
  index_->Match(conditions_[static_cast<size_t>(q)],
                [&](int shard, const RowBitmap& rows) {
                  next += RowsOfMask(rows.words.data(), rows.words.size(),
                                     static_cast<uint32_t>(shard) << kRowBits,
                                     next);
                });
  return next - ids;
}

void Ours::Ask(const Condition& condition,
               absl::FunctionRef<void(int, const RowBitmap&)> fn) const {
  index_->Match(condition, fn);
}

uint32_t Ours::DeviceOf(uint32_t id) const {
  Shard& shard = index_->shard(static_cast<int>(id >> kRowBits));
  absl::ReaderMutexLock lock(&shard.mutex);
  uint32_t device = 0;
  MUSTER_CHECK(absl::SimpleAtoi(
      shard.DeviceId(static_cast<int>(id & (kShardRowsMax - 1))).substr(4),
      &device));
  return device;
}

}  // namespace muster
