// What does a timer cost with a million of them outstanding?
//
//   random   devices with deadlines of their own, over 60,000 ticks of 1 ms:
//            a million are scheduled; half of them, in random order, canceled
//            and scheduled anew; then all expire, tick by tick
//   wave     a fan-out: 200 devices a tick in ranges of 256, one time-out of
//            5,000 ticks; 97 % answer at a random time before it, 3 % do not.
//            life = all the timers' work / devices
//   delay    the delay queue alone, as workers use it: take what is due, push
//            it again; and a look when nothing is due
//
// In `random` the deadline store stands beside std::multimap, a binary heap
// with lazy cancel, and a 4-ary heap that knows where each device is.  In
// `wave` also "ranges": one entry {due, first, last} per range in its slice, a
// bit per device, and the slice in the delay queue with the due time of its
// first entry.
//
// Rounds are interleaved, and medians shown.  Answers are checked: each timer
// expires once, at its tick, unless it was canceled.
#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "bench/allocation_counter.h"
#include "engine/model/check.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/deadline_store.h"
#include "engine/schedule/delay_queue.h"

namespace muster {
namespace {

// Ticks of a millisecond.
absl::Duration At(int64_t tick) { return absl::Milliseconds(tick); }

int64_t NowNs() { return absl::ToInt64Nanoseconds(Clock::Real().Monotonic()); }

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15 + 1) {}
  uint64_t operator()() {  // Marsaglia's xorshift.
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_;
  }

 private:
  uint64_t state_;
};

// ------------------------------------------------------------------ stores
// Schedule(id, tick), REQUIRES: not scheduled.  Cancel(id), REQUIRES: is.
// Expire(tick, out): appends the ids whose tick has come.

class Store {
 public:
  static constexpr char kName[] = "deadline store";
  explicit Store(uint32_t ids)
      : generations_(ids),
        store_({.fine_ticks = 65'536}, absl::ZeroDuration()) {}
  void Schedule(uint32_t id, uint32_t tick) {
    MUSTER_CHECK(store_.Add(At(tick), uint64_t{generations_[id]} << 32 | id));
  }
  void Cancel(uint32_t id) { ++generations_[id]; }
  void Expire(uint32_t tick, std::vector<uint32_t>* out) {
    bool more = true;
    while (more) {
      values_.clear();
      more = store_.ExpireDue(At(tick), 1024, &values_);
      for (const uint64_t value : values_) {
        const auto id = static_cast<uint32_t>(value);
        if (generations_[id] == value >> 32) {
          ++generations_[id];
          out->push_back(id);
        }
      }
    }
  }

 private:
  std::vector<uint32_t> generations_;
  DeadlineStore store_;
  std::vector<uint64_t> values_;
};

class Multimap {
 public:
  static constexpr char kName[] = "std::multimap";
  explicit Multimap(uint32_t ids) : places_(ids) {}
  void Schedule(uint32_t id, uint32_t tick) {
    places_[id] = map_.emplace(tick, id);
  }
  void Cancel(uint32_t id) { map_.erase(places_[id]); }
  void Expire(uint32_t tick, std::vector<uint32_t>* out) {
    while (!map_.empty() && map_.begin()->first <= tick) {
      out->push_back(map_.begin()->second);
      map_.erase(map_.begin());
    }
  }

 private:
  std::multimap<uint32_t, uint32_t> map_;
  std::vector<std::multimap<uint32_t, uint32_t>::iterator> places_;
};

class LazyHeap {
 public:
  static constexpr char kName[] = "binary heap, lazy";
  explicit LazyHeap(uint32_t ids) : generations_(ids) {}
  void Schedule(uint32_t id, uint32_t tick) {
    heap_.push_back({tick, generations_[id], id});
    std::push_heap(heap_.begin(), heap_.end(), Later);
  }
  void Cancel(uint32_t id) { ++generations_[id]; }
  void Expire(uint32_t tick, std::vector<uint32_t>* out) {
    while (!heap_.empty() && heap_.front().tick <= tick) {
      const Entry entry = heap_.front();
      std::pop_heap(heap_.begin(), heap_.end(), Later);
      heap_.pop_back();
      if (generations_[entry.id] != entry.generation) continue;
      ++generations_[entry.id];
      out->push_back(entry.id);
    }
  }

 private:
  struct Entry {
    uint32_t tick, generation, id;
  };
  static bool Later(const Entry& a, const Entry& b) { return a.tick > b.tick; }
  std::vector<uint32_t> generations_;
  std::vector<Entry> heap_;
};

class IndexedHeap {
 public:
  static constexpr char kName[] = "4-ary heap, indexed";
  explicit IndexedHeap(uint32_t ids) : places_(ids) {}
  void Schedule(uint32_t id, uint32_t tick) {
    heap_.push_back({tick, id});
    Up(heap_.size() - 1, {tick, id});
  }
  void Cancel(uint32_t id) { Remove(places_[id]); }
  void Expire(uint32_t tick, std::vector<uint32_t>* out) {
    while (!heap_.empty() && heap_[0].tick <= tick) {
      out->push_back(heap_[0].id);
      Remove(0);
    }
  }

 private:
  struct Entry {
    uint32_t tick, id;
  };
  void Set(size_t place, Entry entry) {
    heap_[place] = entry;
    places_[entry.id] = static_cast<uint32_t>(place);
  }
  void Up(size_t place, Entry entry) {
    while (place > 0 && entry.tick < heap_[(place - 1) / 4].tick) {
      Set(place, heap_[(place - 1) / 4]);
      place = (place - 1) / 4;
    }
    Set(place, entry);
  }
  void Remove(size_t place) {
    const Entry last = heap_.back();
    heap_.pop_back();
    const size_t size = heap_.size();
    if (place == size) return;
    while (4 * place + 1 < size) {
      size_t best = 4 * place + 1;
      const size_t end = std::min(best + 4, size);
      for (size_t child = best + 1; child < end; ++child) {
        if (heap_[child].tick < heap_[best].tick) best = child;
      }
      if (last.tick <= heap_[best].tick) break;
      Set(place, heap_[best]);
      place = best;
    }
    Up(place, last);
  }
  std::vector<Entry> heap_;
  std::vector<uint32_t> places_;
};

// ------------------------------------------------------------------ random

struct Costs {
  double schedule = 0, cancel = 0, expire = 0, life = 0;  // Nanoseconds each.
};

constexpr uint32_t kIds = 1'000'000;
constexpr uint32_t kTicks = 60'000;

template <typename Timers>
Costs RunRandom(uint64_t seed) {
  Random random(seed);
  Timers timers(kIds);
  std::vector<uint32_t> due(kIds), ids(kIds);
  std::iota(ids.begin(), ids.end(), 0);
  const auto shuffle = [&] {
    for (uint32_t i = kIds - 1; i > 0; --i) {
      std::swap(ids[i], ids[random() % (i + 1)]);
    }
  };
  const auto draw = [&] {
    return 1 + static_cast<uint32_t>(random() % kTicks);
  };
  shuffle();
  for (const uint32_t id : ids) timers.Schedule(id, due[id] = draw());

  shuffle();
  constexpr uint32_t kBatch = 500;
  int64_t cancel = 0, schedule = 0, expire = 0;
  for (uint32_t first = 0; first < kIds / 2; first += kBatch) {
    for (uint32_t i = first; i < first + kBatch; ++i) due[ids[i]] = draw();
    const int64_t begin = NowNs();
    for (uint32_t i = first; i < first + kBatch; ++i) timers.Cancel(ids[i]);
    const int64_t middle = NowNs();
    for (uint32_t i = first; i < first + kBatch; ++i) {
      timers.Schedule(ids[i], due[ids[i]]);
    }
    cancel += middle - begin;
    schedule += NowNs() - middle;
  }

  std::vector<uint32_t> expired;
  expired.reserve(kIds);
  std::vector<size_t> ends(kTicks + 1);
  const int64_t begin = NowNs();
  for (uint32_t tick = 1; tick <= kTicks; ++tick) {
    timers.Expire(tick, &expired);
    ends[tick] = expired.size();
  }
  expire = NowNs() - begin;
  MUSTER_CHECK(expired.size() == kIds);
  for (uint32_t tick = 1; tick <= kTicks; ++tick) {
    for (size_t i = ends[tick - 1]; i < ends[tick]; ++i) {
      MUSTER_CHECK(due[expired[i]] == tick);
      due[expired[i]] = 0;  // Once.
    }
  }
  return {static_cast<double>(schedule) / (kIds / 2),
          static_cast<double>(cancel) / (kIds / 2),
          static_cast<double>(expire) / kIds};
}

// -------------------------------------------------------------------- wave

constexpr uint32_t kRange = 256;
constexpr uint32_t kTimeout = 5'000;
constexpr uint32_t kPerTick = 200;
// Row numbers are used again after that many: all but a few are outstanding.
constexpr uint32_t kRows = 1 << 20;
constexpr uint32_t kDevices = 3 * kRows;
constexpr uint32_t kRanges = kDevices / kRange;

uint32_t RangeTick(uint32_t range) { return 1 + range * kRange / kPerTick; }

// When who answers: by tick, in random order.
struct Answers {
  std::vector<uint32_t> devices;
  std::vector<size_t> ends;  // By tick.
  std::vector<bool> answers;

  explicit Answers(uint64_t seed) : answers(kDevices) {
    Random random(seed);
    const uint32_t ticks = RangeTick(kRanges) + kTimeout + 1;
    std::vector<std::vector<uint32_t>> by_tick(ticks);
    for (uint32_t device = 0; device < kDevices; ++device) {
      if (random() % 100 < 3) continue;
      answers[device] = true;
      by_tick[RangeTick(device / kRange) + random() % kTimeout].push_back(
          device);
    }
    for (auto& one : by_tick) {
      for (size_t i = one.size(); i > 1; --i) {
        std::swap(one[i - 1], one[random() % i]);
      }
      devices.insert(devices.end(), one.begin(), one.end());
      ends.push_back(devices.size());
    }
  }
};

// Each of the stores above.
template <typename Timers>
class Single {
 public:
  static constexpr const char* kName = Timers::kName;
  Single() : timers_(kRows) {}
  void Dispatch(uint32_t first, uint32_t due) {
    for (uint32_t row = first; row < first + kRange; ++row) {
      timers_.Schedule(row, due);
    }
  }
  void Answer(uint32_t row) { timers_.Cancel(row); }
  void Expire(uint32_t tick, std::vector<uint32_t>* out) {
    timers_.Expire(tick, out);
  }

 private:
  Timers timers_;
};

class Ranges {
 public:
  static constexpr char kName[] = "ranges";
  static constexpr uint32_t kSliceRows = 16'384;
  Ranges() {
    for (uint32_t i = 0; i < kRows / kSliceRows; ++i) {
      slices_.push_back(std::make_unique<Slice>(queue_, i * kSliceRows));
    }
  }
  void Dispatch(uint32_t first, uint32_t due) {
    Slice& slice = *slices_[first / kSliceRows];
    const uint32_t rank = first % kSliceRows;
    for (uint32_t i = rank / 64; i < (rank + kRange) / 64; ++i) {
      slice.running[i] = ~uint64_t{0};
    }
    slice.checks[slice.end++ % kChecksMax] = {due, rank, rank + kRange};
    if (slice.end - slice.begin == 1) {
      queue_.Push(&slice, At(due), At(due - kTimeout));
    }
    MUSTER_CHECK(slice.end - slice.begin <= kChecksMax);
  }
  void Answer(uint32_t row) {
    const uint32_t rank = row % kSliceRows;
    slices_[row / kSliceRows]->running[rank / 64] &=
        ~(uint64_t{1} << (rank % 64));
  }
  void Expire(uint32_t tick, std::vector<uint32_t>* out) {
    const absl::Duration now = At(tick);
    while (auto* due = static_cast<Slice*>(
               queue_.PopDue(now, [](DelayQueue::Timer*) { return true; }))) {
      Slice& slice = *due;
      while (slice.begin != slice.end) {
        const Check& check = slice.checks[slice.begin % kChecksMax];
        if (check.due > tick) {
          queue_.Push(&slice, At(check.due), now);
          break;
        }
        ++slice.begin;
        for (uint32_t i = check.first / 64; i < check.last / 64; ++i) {
          for (uint64_t bits = slice.running[i]; bits != 0; bits &= bits - 1) {
            out->push_back(slice.first_row + i * 64 +
                           static_cast<uint32_t>(std::countr_zero(bits)));
          }
          slice.running[i] = 0;
        }
      }
    }
  }

 private:
  struct Check {
    uint32_t due, first, last;  // Ranks, at the bounds of words.
  };
  static constexpr uint32_t kChecksMax = kSliceRows / kRange;
  // As engine/dispatch/slice.h: a plane of bits by rank.
  struct Slice : DelayQueue::Timer {
    Slice(const DelayQueue& queue, uint32_t first_row)
        : Timer(queue.slots()),
          first_row(first_row),
          running(kSliceRows / 64),
          checks(kChecksMax) {}
    const uint32_t first_row;
    std::vector<uint64_t> running;
    std::vector<Check> checks;
    uint32_t begin = 0, end = 0;
  };
  DelayQueue queue_;
  std::vector<std::unique_ptr<Slice>> slices_;
};

template <typename Timers>
Costs RunWave(const Answers& answers) {
  Timers timers;
  const auto ticks = static_cast<uint32_t>(answers.ends.size());
  std::vector<uint32_t> expired;
  expired.reserve(kDevices);
  std::vector<size_t> ends(ticks);
  int64_t cancel = 0, schedule = 0, expire = 0;
  uint32_t range = 0;
  for (uint32_t tick = 1; tick < ticks; ++tick) {
    const int64_t begin = NowNs();
    timers.Expire(tick, &expired);
    ends[tick] = expired.size();
    const int64_t middle = NowNs();
    for (; range < kRanges && RangeTick(range) == tick; ++range) {
      timers.Dispatch(range * kRange % kRows, tick + kTimeout);
    }
    const int64_t end = NowNs();
    for (size_t i = answers.ends[tick - 1]; i < answers.ends[tick]; ++i) {
      timers.Answer(answers.devices[i] % kRows);
    }
    cancel += NowNs() - end;
    schedule += end - middle;
    expire += middle - begin;
  }
  // Those that did not answer, each at its tick: its device is told from its
  // row by the tick.
  std::vector<bool> seen(kDevices);
  for (uint32_t tick = 1; tick < ticks; ++tick) {
    for (size_t i = ends[tick - 1]; i < ends[tick]; ++i) {
      uint32_t device = expired[i];
      while (RangeTick(device / kRange) + kTimeout < tick) device += kRows;
      MUSTER_CHECK(RangeTick(device / kRange) + kTimeout == tick);
      MUSTER_CHECK(!answers.answers[device] && !seen[device]);
      seen[device] = true;
    }
  }
  MUSTER_CHECK(expired.size() + answers.devices.size() == kDevices);
  return {
      static_cast<double>(schedule) / kDevices,
      static_cast<double>(cancel) / static_cast<double>(answers.devices.size()),
      static_cast<double>(expire) / static_cast<double>(expired.size()),
      static_cast<double>(schedule + cancel + expire) / kDevices};
}

// ------------------------------------------------------------------- delay

struct Timer : DelayQueue::Timer {
  explicit Timer(const DelayQueue& queue) : DelayQueue::Timer(queue.slots()) {}
  int64_t pushes = 0, pops = 0;
};

// Nanoseconds for a pop and a push, by one thread's clock.
double RunDelay(int threads, int count, uint32_t span, int ms) {
  DelayQueue queue;
  std::allocator<Timer> allocator;
  Timer* const timers = allocator.allocate(count);
  Random random(1);
  for (int i = 0; i < count; ++i) {
    new (&timers[i]) Timer(queue);
    ++timers[i].pushes;
    queue.Push(&timers[i], At(static_cast<int64_t>(1 + random() % span)),
               absl::ZeroDuration());
  }
  std::atomic<int64_t> clock{0}, pairs{0};
  std::atomic<bool> start{false}, stop{false};
  std::vector<std::thread> workers;
  for (int t = 0; t < threads; ++t) {
    workers.emplace_back([&, t] {
      while (!start.load()) std::this_thread::yield();
      Random random(t + 2);
      int64_t mine = 0;
      while (!stop.load(std::memory_order_relaxed)) {
        int64_t tick = clock.load(std::memory_order_relaxed);
        const absl::Duration now = At(tick);
        auto* timer = static_cast<Timer*>(
            queue.PopDue(now, [](DelayQueue::Timer*) { return true; }));
        if (timer == nullptr) {
          const absl::Duration next = queue.NextDue();
          // As if we had slept; infinite if others hold all of them.
          if (next > now && next != absl::InfiniteDuration()) {
            clock.compare_exchange_strong(tick,
                                          absl::ToInt64Milliseconds(next));
          }
          continue;
        }
        MUSTER_CHECK(timer->due() <= now);
        MUSTER_CHECK(++timer->pops == timer->pushes);
        ++timer->pushes;
        queue.Push(timer, now + At(static_cast<int64_t>(1 + random() % span)),
                   now);
        ++mine;
      }
      pairs.fetch_add(mine);
    });
  }
  const int64_t begin = NowNs();
  start.store(true);
  while (NowNs() - begin < ms * int64_t{1'000'000}) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  stop.store(true);
  for (std::thread& worker : workers) worker.join();
  const double ns = static_cast<double>(NowNs() - begin);
  // Everything is there, once.
  const absl::Duration end = At(clock.load() + 2 * int64_t{span});
  int found = 0;
  while (found < count) {
    auto* timer = static_cast<Timer*>(
        queue.PopDue(end, [](DelayQueue::Timer*) { return true; }));
    if (timer == nullptr) {
      MUSTER_CHECK(queue.NextDue() <= end);
      continue;
    }
    MUSTER_CHECK(++timer->pops == timer->pushes);
    ++found;
  }
  MUSTER_CHECK(queue.PopDue(end, [](DelayQueue::Timer*) { return true; }) ==
               nullptr);
  MUSTER_CHECK(queue.NextDue() == absl::InfiniteDuration());
  std::destroy_n(timers, count);
  allocator.deallocate(timers, count);
  return ns / static_cast<double>(pairs.load());
}

// Nanoseconds for a look when the first of `count` is due later: PopDue() and
// NextDue().
std::pair<double, double> RunIdle(int count) {
  DelayQueue queue;
  std::vector<std::unique_ptr<Timer>> timers;
  const absl::Duration now = absl::Hours(1000);
  for (int i = 0; i < count; ++i) {
    timers.push_back(std::make_unique<Timer>(queue));
    queue.Push(timers.back().get(), now + absl::Seconds(1 + i), now);
  }
  constexpr int kLooks = 2'000'000;
  const int64_t allocations = AllocationCount();
  const int64_t begin = NowNs();
  for (int i = 0; i < kLooks; ++i) {
    MUSTER_CHECK(queue.PopDue(now + absl::Nanoseconds(i),
                              [](DelayQueue::Timer*) { return true; }) ==
                 nullptr);
  }
  const int64_t middle = NowNs();
  for (int i = 0; i < kLooks; ++i) MUSTER_CHECK(queue.NextDue() > now);
  const int64_t end = NowNs();
  MUSTER_CHECK(AllocationCount() == allocations);
  return {static_cast<double>(middle - begin) / kLooks,
          static_cast<double>(end - middle) / kLooks};
}

// ------------------------------------------------------------------- tables

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

using CostFunction = std::function<Costs(int round)>;

// The last of `stores` is what the others are compared with.
void PrintCosts(const std::vector<std::pair<std::string, CostFunction>>& stores,
                int rounds, bool life) {
  std::vector<std::vector<Costs>> costs(stores.size());
  for (int round = 0; round < rounds; ++round) {
    for (size_t s = 0; s < stores.size(); ++s) {
      // Another goes first each time.
      const size_t which = (s + static_cast<size_t>(round)) % stores.size();
      costs[which].push_back(stores[which].second(round));
    }
  }
  const auto median = [&](size_t store, double Costs::* cost) {
    std::vector<double> values;
    for (const Costs& one : costs[store]) values.push_back(one.*cost);
    return Median(values);
  };
  for (size_t s = 0; s < stores.size(); ++s) {
    absl::PrintF("%20s", stores[s].first);
    for (double Costs::* cost :
         {&Costs::schedule, &Costs::cancel, &Costs::expire, &Costs::life}) {
      if (cost == &Costs::life && !life) continue;
      const double value = median(s, cost);
      absl::PrintF(" %8.1f (%6.3fx)", value,
                   value / median(stores.size() - 1, cost));
    }
    absl::PrintF("\n");
  }
  std::fflush(stdout);
}

template <typename... Timers>
std::vector<std::pair<std::string, CostFunction>> RandomStores() {
  return {{Timers::kName, [](int round) {
             return RunRandom<Timers>(static_cast<uint64_t>(round) + 1);
           }}...};
}

template <typename... Timers>
std::vector<std::pair<std::string, CostFunction>> WaveStores(
    const Answers& answers) {
  return {{Timers::kName, [&](int) { return RunWave<Timers>(answers); }}...};
}

int Main(int argc, char** argv) {
  int rounds = 5, ms = 300;
  std::string only;
  for (int i = 1; i < argc; ++i) {
    absl::string_view argument = argv[i];
    const bool known = (absl::ConsumePrefix(&argument, "--rounds=") &&
                        absl::SimpleAtoi(argument, &rounds) && rounds > 0) ||
                       (absl::ConsumePrefix(&argument, "--ms=") &&
                        absl::SimpleAtoi(argument, &ms) && ms > 0);
    if (!known && absl::ConsumePrefix(&argument, "--only=")) {
      only = std::string(argument);
    } else if (!known) {
      const bool help = argument == "--help";
      absl::FPrintF(help ? stdout : stderr,
                    "usage: timer_bench [--rounds=N] [--ms=N] "
                    "[--only=random|wave|delay]\n"
                    "  --rounds  of which medians are shown; 5\n"
                    "  --ms      of each round of `delay`; 300\n");
      return help ? 0 : 2;
    }
  }
  if (only.empty() || only == "random") {
    absl::PrintF(
        "random, 1M timers, ns each (times std::multimap)\n"
        "%20s %18s %18s %18s\n",
        "", "schedule", "cancel", "expire");
    PrintCosts(RandomStores<Store, LazyHeap, IndexedHeap, Multimap>(), rounds,
               false);
  }
  if (only.empty() || only == "wave") {
    absl::PrintF(
        "\nwave, 1M outstanding, ns each (times std::multimap)\n"
        "%20s %18s %18s %18s %18s\n",
        "", "schedule", "cancel", "expire", "life");
    const Answers answers(1);
    PrintCosts(WaveStores<Ranges, Single<Store>, Single<LazyHeap>,
                          Single<IndexedHeap>, Single<Multimap>>(answers),
               rounds, true);
  }
  if (only.empty() || only == "delay") {
    absl::PrintF("\ndelay queue, ns for a pop and a push\n");
    for (const int count : {1000, 1'000'000}) {
      for (const uint32_t span : {15'000u, 60'000u}) {
        for (const int threads : {1, 2}) {
          std::vector<double> values;
          for (int round = 0; round < rounds; ++round) {
            values.push_back(RunDelay(threads, count, span, ms));
          }
          absl::PrintF("%9d timers, %d s ahead, %d threads: %6.1f\n", count,
                       span / 1000, threads, Median(values));
          std::fflush(stdout);
        }
      }
    }
    std::vector<double> pop, next;
    for (int round = 0; round < rounds; ++round) {
      const auto [one, two] = RunIdle(1000);
      pop.push_back(one);
      next.push_back(two);
    }
    absl::PrintF("nothing due: PopDue() %.1f ns, NextDue() %.1f ns\n",
                 Median(pop), Median(next));
  }
  return 0;
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) { return muster::Main(argc, argv); }
