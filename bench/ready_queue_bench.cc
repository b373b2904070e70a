// Which queue should hand out the slices?  The ready queue beside two others in
// one run: oneTBB's concurrent_priority_queue, and a mutex with an 8-ary heap.
//
//   hold     pop, add a random step to the key, push back: what workers do
//   mix      a coin decides between a pop and a push after the key seen last
//   fill     all threads push, then all pop
//   latency  of one call in hold, with four threads per core
//   rank     live items with a smaller key than the one popped, in hold
//   freeze   a thread is stopped for 5 ms anywhere in hold: do others go on?
//            and how much memory has it cost?
//
// Rounds are interleaved and medians shown, in million operations a second (a
// push or a pop is one), with the ratio to oneTBB.  Answers are checked: at the
// end of every cell each item is there once.
//
//   ready_queue_bench [--rounds=N] [--ms=N] [--only=WORKLOAD]
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "bench/allocation_counter.h"
#include "engine/model/check.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/ready_queue.h"
#include "tbb/concurrent_priority_queue.h"

namespace muster {
namespace {

// Keys spread over 2^20; 2,048 buckets of ours.
constexpr uint64_t kSpan = 1 << 20;
constexpr int kShift = 9;

struct Entry {
  uint64_t key;
  uint32_t id;
};

class Ours {
 public:
  static constexpr char kName[] = "ours";
  explicit Ours(int items, int shards = 2, int shift = kShift)
      : queue_({.shards = shards, .key_shift = shift}),
        items_(std::allocator<Item>().allocate(items)),
        count_(items) {
    for (int i = 0; i < items; ++i) {
      new (&items_[i]) Item(queue_.slots(), static_cast<uint32_t>(i));
    }
  }
  ~Ours() {
    std::destroy_n(items_, count_);
    std::allocator<Item>().deallocate(items_, count_);
  }
  void Push(Entry entry) {
    items_[entry.id].key = entry.key;
    queue_.Push(&items_[entry.id], entry.key);
  }
  bool Pop(Entry* entry) {
    auto* item = static_cast<Item*>(queue_.Pop());
    if (item == nullptr) return false;
    *entry = {item->key, item->id};
    return true;
  }

 private:
  struct Item : ReadyQueue::Item {
    Item(const std::shared_ptr<ReadyQueue::Slots>& slots, uint32_t id)
        : ReadyQueue::Item(slots), id(id) {}
    const uint32_t id;
    uint64_t key = 0;
  };
  ReadyQueue queue_;
  Item* const items_;
  const int count_;
};

struct OursStrict : Ours {
  static constexpr char kName[] = "ours, 1 shard";
  explicit OursStrict(int items) : Ours(items, 1) {}
};

struct OursWide : Ours {
  static constexpr char kName[] = "ours, 32x wider";
  explicit OursWide(int items) : Ours(items, 2, kShift + 5) {}
};

class Tbb {
 public:
  static constexpr char kName[] = "oneTBB";
  explicit Tbb(int items) : queue_(items) {}
  void Push(Entry entry) { queue_.push(entry); }
  bool Pop(Entry* entry) { return queue_.try_pop(*entry); }

 private:
  struct Later {
    bool operator()(const Entry& a, const Entry& b) const {
      return a.key > b.key;
    }
  };
  tbb::concurrent_priority_queue<Entry, Later> queue_;
};

class MutexHeap {
 public:
  static constexpr char kName[] = "mutex, 8-ary heap";
  explicit MutexHeap(int items) { heap_.reserve(items); }
  void Push(Entry entry) {
    absl::MutexLock lock(&mutex_);
    size_t place = heap_.size();
    heap_.push_back(entry);
    while (place > 0 && entry.key < heap_[(place - 1) / 8].key) {
      heap_[place] = heap_[(place - 1) / 8];
      place = (place - 1) / 8;
    }
    heap_[place] = entry;
  }
  bool Pop(Entry* entry) {
    absl::MutexLock lock(&mutex_);
    if (heap_.empty()) return false;
    *entry = heap_.front();
    const Entry last = heap_.back();
    heap_.pop_back();
    const size_t size = heap_.size();
    if (size == 0) return true;
    size_t place = 0;
    while (8 * place + 1 < size) {
      size_t best = 8 * place + 1;
      const size_t end = std::min(best + 8, size);
      for (size_t child = best + 1; child < end; ++child) {
        if (heap_[child].key < heap_[best].key) best = child;
      }
      if (last.key <= heap_[best].key) break;
      heap_[place] = heap_[best];
      place = best;
    }
    heap_[place] = last;
    return true;
  }

 private:
  absl::Mutex mutex_;
  std::vector<Entry> heap_;
};

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

int64_t NowNs() { return absl::ToInt64Nanoseconds(Clock::Real().Monotonic()); }

struct Cell {
  std::string workload;
  int threads = 1;
  int items = 0;
};

template <typename Queue>
void Fill(Queue& queue, int items) {
  Random random(1);
  for (int i = 0; i < items; ++i) {
    queue.Push({1 + random() % kSpan, static_cast<uint32_t>(i)});
  }
}

// Everything that is in `queue` or in `held`, once each.
template <typename Queue>
void CheckAll(Queue& queue, int items, const std::vector<Entry>& held) {
  std::vector<bool> seen(items);
  int count = 0;
  const auto see = [&](uint32_t id) {
    MUSTER_CHECK(!seen[id]);
    seen[id] = true;
    ++count;
  };
  for (const Entry& entry : held) see(entry.id);
  Entry entry;
  while (queue.Pop(&entry)) see(entry.id);
  MUSTER_CHECK(count == items);
}

// Runs `body(thread, &stop)` on the cell's threads for `ms`; operations a
// second as they returned them, in millions.
double Run(int threads, int ms,
           const std::function<int64_t(int, const std::atomic<bool>&)>& body) {
  std::atomic<bool> start{false}, stop{false};
  std::atomic<int> ready{0};
  std::atomic<int64_t> operations{0};
  std::vector<std::thread> workers;
  for (int t = 0; t < threads; ++t) {
    workers.emplace_back([&, t] {
      ready.fetch_add(1);
      while (!start.load()) std::this_thread::yield();
      operations.fetch_add(body(t, stop));
    });
  }
  while (ready.load() < threads) std::this_thread::yield();
  const int64_t begin = NowNs();
  start.store(true);
  if (ms > 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(ms));
    stop.store(true);
  }
  for (std::thread& worker : workers) worker.join();
  return static_cast<double>(operations.load()) * 1e3 /
         static_cast<double>(NowNs() - begin);
}

template <typename Queue>
double Hold(const Cell& cell, int ms) {
  Queue queue(cell.items);
  Fill(queue, cell.items);
  const double result =
      Run(cell.threads, ms, [&](int thread, const std::atomic<bool>& stop) {
        Random random(thread + 2);
        int64_t operations = 0;
        while (!stop.load(std::memory_order_relaxed)) {
          for (int i = 0; i < 64; ++i) {
            Entry entry;
            MUSTER_CHECK(queue.Pop(&entry));
            entry.key += 1 + random() % kSpan;
            queue.Push(entry);
          }
          operations += 128;
        }
        return operations;
      });
  CheckAll(queue, cell.items, {});
  return result;
}

template <typename Queue>
double Mix(const Cell& cell, int ms) {
  Queue queue(cell.items);
  Fill(queue, cell.items);
  std::vector<std::vector<Entry>> held(cell.threads);
  const double result =
      Run(cell.threads, ms, [&](int thread, const std::atomic<bool>& stop) {
        Random random(thread + 2);
        std::vector<Entry>& mine = held[thread];
        int64_t operations = 0;
        uint64_t last = 0;
        while (!stop.load(std::memory_order_relaxed)) {
          for (int i = 0; i < 64; ++i) {
            const uint64_t r = random();
            Entry entry;
            if ((r >> 60) % 2 == 0 || mine.empty()) {
              if (!queue.Pop(&entry)) continue;
              last = entry.key;
              mine.push_back(entry);
            } else {
              entry = mine.back();
              mine.pop_back();
              entry.key = last + 1 + r % kSpan;
              queue.Push(entry);
            }
          }
          operations += 64;
        }
        return operations;
      });
  std::vector<Entry> all;
  for (const auto& mine : held) all.insert(all.end(), mine.begin(), mine.end());
  CheckAll(queue, cell.items, all);
  return result;
}

template <typename Queue>
double FillAndDrain(const Cell& cell, int) {
  Queue queue(cell.items);
  std::vector<std::atomic<int>> seen(cell.items);
  std::atomic<int> in{0};
  const double result =
      Run(cell.threads, 0, [&](int thread, const std::atomic<bool>&) {
        Random random(thread + 2);
        int64_t operations = 0;
        for (int i = thread; i < cell.items; i += cell.threads) {
          queue.Push({1 + random() % kSpan, static_cast<uint32_t>(i)});
          ++operations;
        }
        in.fetch_add(1);
        while (in.load() < cell.threads) std::this_thread::yield();
        Entry entry;
        while (queue.Pop(&entry)) {
          seen[entry.id].store(1, std::memory_order_relaxed);
          ++operations;
        }
        return operations;
      });
  for (const auto& one : seen) MUSTER_CHECK(one.load() == 1);
  return result;
}

struct Latencies {
  double p50 = 0, p99 = 0, p999 = 0, p9999 = 0;
};

template <typename Queue>
Latencies Latency(int threads, int items, int ms) {
  Queue queue(items);
  Fill(queue, items);
  // Counts by a sixteenth of a power of two of nanoseconds.
  std::vector<std::array<int64_t, 1024>> counts(threads);
  Run(threads, ms, [&](int thread, const std::atomic<bool>& stop) {
    std::array<int64_t, 1024> mine{};
    Random random(thread + 2);
    int64_t before = NowNs();
    const auto lap = [&] {
      const int64_t now = NowNs();
      const auto ns = static_cast<uint64_t>(std::max<int64_t>(now - before, 1));
      const int power = std::bit_width(ns) - 1;
      const uint64_t part = power < 4 ? 0 : (ns >> (power - 4)) % 16;
      ++mine[16 * power + part];
      before = NowNs();
    };
    while (!stop.load(std::memory_order_relaxed)) {
      Entry entry;
      MUSTER_CHECK(queue.Pop(&entry));
      lap();
      entry.key += 1 + random() % kSpan;
      queue.Push(entry);
      lap();
    }
    counts[thread] = mine;
    return 0;
  });
  CheckAll(queue, items, {});
  std::array<int64_t, 1024> all{};
  int64_t total = 0;
  for (const auto& mine : counts) {
    for (size_t i = 0; i < all.size(); ++i) {
      all[i] += mine[i];
      total += mine[i];
    }
  }
  const auto quantile = [&](double share) {
    auto left = static_cast<int64_t>(share * static_cast<double>(total));
    for (size_t i = 0; i < all.size(); ++i) {
      left -= all[i];
      if (left < 0) {
        return std::ldexp(1.0 + static_cast<double>(i % 16 + 1) / 16,
                          static_cast<int>(i / 16));
      }
    }
    return 0.0;
  };
  return {quantile(.5), quantile(.99), quantile(.999), quantile(.9999)};
}

struct Ranks {
  double mean = 0;
  int64_t p99 = 0, max = 0;
};

// Pushes count from when they return, pops from when they begin: a pop that
// sleeps before it looks is counted worse than it is, never better.
template <typename Queue>
Ranks Rank(int threads, int items, int operations) {
  struct Event {
    int64_t time;
    bool push;
    uint64_t key;
    uint32_t id;
  };
  Queue queue(items);
  std::vector<std::vector<Event>> logs(threads + 1);
  {
    Random random(1);
    for (int i = 0; i < items; ++i) {
      const uint64_t key = 1 + random() % kSpan;
      queue.Push({key, static_cast<uint32_t>(i)});
      logs[threads].push_back({NowNs(), true, key, static_cast<uint32_t>(i)});
    }
  }
  Run(threads, 0, [&](int thread, const std::atomic<bool>&) {
    Random random(thread + 2);
    auto& log = logs[thread];
    log.reserve(2 * operations / threads);
    for (int i = 0; i < operations / threads; ++i) {
      const int64_t begin = NowNs();
      Entry entry;
      MUSTER_CHECK(queue.Pop(&entry));
      log.push_back({begin, false, entry.key, entry.id});
      entry.key += 1 + random() % kSpan;
      queue.Push(entry);
      log.push_back({NowNs(), true, entry.key, entry.id});
    }
    return 0;
  });
  std::vector<Event> events;
  for (auto& log : logs) events.insert(events.end(), log.begin(), log.end());
  std::stable_sort(
      events.begin(), events.end(),
      [](const Event& a, const Event& b) { return a.time < b.time; });
  std::vector<uint64_t> keys;
  for (const Event& event : events) keys.push_back(event.key);
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  std::vector<int64_t> tree(keys.size() + 1);
  const auto add = [&](size_t at, int64_t delta) {
    for (++at; at < tree.size(); at += at & -at) tree[at] += delta;
  };
  const auto below = [&](size_t at) {
    int64_t sum = 0;
    for (; at > 0; at -= at & -at) sum += tree[at];
    return sum;
  };
  // A pop can begin before the push of what it takes returns.
  std::vector<int> live(items);
  std::vector<int64_t> ranks;
  for (const Event& event : events) {
    const size_t at =
        std::lower_bound(keys.begin(), keys.end(), event.key) - keys.begin();
    if (event.push) {
      if (++live[event.id] == 1) add(at, 1);
    } else {
      ranks.push_back(below(at));
      if (--live[event.id] == 0) add(at, -1);
    }
  }
  CheckAll(queue, items, {});
  std::sort(ranks.begin(), ranks.end());
  double sum = 0;
  for (int64_t rank : ranks) sum += static_cast<double>(rank);
  return {sum / static_cast<double>(ranks.size()),
          ranks[ranks.size() * 99 / 100], ranks.back()};
}

std::atomic<int> stopped{0};
sem_t go_on;

void StopHere(int) {
  stopped.fetch_add(1);
  while (sem_wait(&go_on) != 0) {
  }
  stopped.fetch_sub(1);
}

struct Freezes {
  int freezes = 0, stops = 0;
  double lowest_pace = 1e9;
  int64_t allocations = 0;
};

// Two threads hold; one of them is stopped for 5 ms, `freezes` times.
template <typename Queue>
Freezes Freeze(int freezes, int items) {
  Queue queue(items);
  Fill(queue, items);
  std::atomic<bool> done{false};
  struct alignas(64) Count {
    std::atomic<int64_t> value{0};
  };
  Count counts[2];
  std::thread threads[2];
  for (int t = 0; t < 2; ++t) {
    threads[t] = std::thread([&, t] {
      Random random(t + 2);
      while (!done.load(std::memory_order_relaxed)) {
        Entry entry;
        MUSTER_CHECK(queue.Pop(&entry));
        entry.key += 1 + random() % kSpan;
        queue.Push(entry);
        counts[t].value.fetch_add(1, std::memory_order_relaxed);
      }
    });
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  Freezes result;
  result.freezes = freezes;
  const int64_t allocations = AllocationCount();
  const auto pace = [&] {
    const int64_t before = counts[1].value.load(), begin = NowNs();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return static_cast<double>(counts[1].value.load() - before) /
           static_cast<double>(NowNs() - begin);
  };
  for (int f = 0; f < freezes; ++f) {
    const double before = pace();
    pthread_kill(threads[0].native_handle(), SIGUSR1);
    while (stopped.load() == 0) std::this_thread::yield();
    const double during = pace();
    if (during == 0) ++result.stops;
    result.lowest_pace = std::min(result.lowest_pace, during / before);
    sem_post(&go_on);
    while (stopped.load() != 0) std::this_thread::yield();
  }
  result.allocations = AllocationCount() - allocations;
  done.store(true);
  for (std::thread& thread : threads) thread.join();
  CheckAll(queue, items, {});
  return result;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

using CellFunction = double (*)(const Cell&, int);

template <template <typename> class Of>
std::vector<std::pair<std::string, CellFunction>> Each() {
  return {{Ours::kName, Of<Ours>::kRun},
          {OursStrict::kName, Of<OursStrict>::kRun},
          {OursWide::kName, Of<OursWide>::kRun},
          {Tbb::kName, Of<Tbb>::kRun},
          {MutexHeap::kName, Of<MutexHeap>::kRun}};
}
template <typename Queue>
struct HoldOf {
  static constexpr CellFunction kRun = Hold<Queue>;
};
template <typename Queue>
struct MixOf {
  static constexpr CellFunction kRun = Mix<Queue>;
};
template <typename Queue>
struct FillOf {
  static constexpr CellFunction kRun = FillAndDrain<Queue>;
};

void Throughput(const char* name,
                const std::vector<std::pair<std::string, CellFunction>>& queues,
                const std::vector<int>& sizes, int rounds, int ms) {
  absl::PrintF("\n%s, million operations a second (times oneTBB)\n%18s", name,
               "");
  std::vector<Cell> cells;
  for (int threads : {1, 2, 4, 8}) {
    for (int items : sizes) {
      cells.push_back({name, threads, items});
      absl::PrintF(" %14s", absl::StrFormat("T%d %dk", threads, items / 1000));
    }
  }
  absl::PrintF("\n");
  std::vector<std::vector<std::vector<double>>> results(
      queues.size(), std::vector<std::vector<double>>(cells.size()));
  for (int round = 0; round < rounds; ++round) {
    for (size_t c = 0; c < cells.size(); ++c) {
      for (size_t q = 0; q < queues.size(); ++q) {
        // Another goes first each time.
        const size_t which = (q + round) % queues.size();
        results[which][c].push_back(queues[which].second(cells[c], ms));
      }
    }
  }
  size_t tbb = 0;
  while (queues[tbb].first != Tbb::kName) ++tbb;
  for (size_t q = 0; q < queues.size(); ++q) {
    absl::PrintF("%18s", queues[q].first);
    for (size_t c = 0; c < cells.size(); ++c) {
      const double value = Median(results[q][c]);
      absl::PrintF(" %6.1f (%4.1fx)", value, value / Median(results[tbb][c]));
    }
    absl::PrintF("\n");
  }
  std::fflush(stdout);
}

template <typename Queue>
void PrintQuality(int rounds, int ms) {
  std::vector<double> p50, p99, p999, p9999;
  for (int i = 0; i < rounds; ++i) {
    const Latencies latency = Latency<Queue>(8, 100'000, 5 * ms);
    p50.push_back(latency.p50);
    p99.push_back(latency.p99);
    p999.push_back(latency.p999);
    p9999.push_back(latency.p9999);
  }
  const Ranks two = Rank<Queue>(2, 100'000, 400'000);
  const Ranks eight = Rank<Queue>(8, 100'000, 400'000);
  const Freezes freezes = Freeze<Queue>(100, 100'000);
  absl::PrintF(
      "%18s %6.0f %6.0f %7.0f %9.0f | %7.1f %5d %6d | %7.1f %5d %6d |"
      " %3d of %3d %5.2f %6d\n",
      Queue::kName, Median(p50), Median(p99), Median(p999), Median(p9999),
      two.mean, two.p99, two.max, eight.mean, eight.p99, eight.max,
      freezes.stops, freezes.freezes, freezes.lowest_pace, freezes.allocations);
  std::fflush(stdout);
}

int Main(int argc, char** argv) {
  int rounds = 5, ms = 60;
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
      absl::FPrintF(stderr,
                    "usage: ready_queue_bench [--rounds=N] [--ms=N] "
                    "[--only=hold|mix|fill|quality]\n");
      return 2;
    }
  }
  sem_init(&go_on, 0, 0);
  struct sigaction action = {};
  action.sa_handler = StopHere;
  sigaction(SIGUSR1, &action, nullptr);

  absl::PrintF("%d cores, %d rounds of %d ms\n", ReadyQueue::Cores(), rounds,
               ms);
  if (only.empty() || only == "hold") {
    Throughput("hold", Each<HoldOf>(), {1000, 100'000, 1'000'000}, rounds, ms);
  }
  if (only.empty() || only == "mix") {
    Throughput("mix", Each<MixOf>(), {1000, 100'000, 1'000'000}, rounds, ms);
  }
  if (only.empty() || only == "fill") {
    Throughput("fill and drain", Each<FillOf>(), {1000, 100'000, 1'000'000},
               rounds, ms);
  }
  if (only.empty() || only == "quality") {
    absl::PrintF(
        "\n%18s latency, 8 threads, 100k, ns    | rank error, T2 100k   |"
        " rank error, T8 100k   | freezes\n"
        "%18s    p50    p99   p99.9    p99.99 |    mean   p99    max |"
        "    mean   p99    max | stopped lowest pace, allocations\n",
        "", "");
    PrintQuality<Ours>(rounds, ms);
    PrintQuality<OursStrict>(rounds, ms);
    PrintQuality<OursWide>(rounds, ms);
    PrintQuality<Tbb>(rounds, ms);
    PrintQuality<MutexHeap>(rounds, ms);
  }
  return 0;
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) { return muster::Main(argc, argv); }
