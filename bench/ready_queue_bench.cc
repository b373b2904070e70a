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
// end of every cell each item is there once.  Order is sold for speed by wider
// buckets, so each row has its bucket's width beside it, and its rank error in
// a table of its own.  Items are put in by the threads that take them out, and
// hold first goes once round all items, so that memory is as shuffled as keys.
//
//   ready_queue_bench [--rounds=N] [--ms=N] [--only=WORKLOAD]
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cinttypes>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iterator>
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

// Keys spread over 2^20 units.
constexpr uint64_t kSpan = 1 << 20;
constexpr int kShift = 9;  // 2,048 buckets of ours.
constexpr int kWideShift = kShift + 5;

struct Entry {
  uint64_t key;
  uint32_t id;
};

class Ours {
 public:
  static constexpr char kName[] = "ours";
  static constexpr int kBucket = 1 << kShift;
  explicit Ours(int items, int shards = ReadyQueue::Cores(), int shift = kShift)
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
  static constexpr char kName[] = "ours, wide";
  static constexpr int kBucket = 1 << kWideShift;
  explicit OursWide(int items) : Ours(items, ReadyQueue::Cores(), kWideShift) {}
};

class Tbb {
 public:
  static constexpr char kName[] = "oneTBB";
  static constexpr int kBucket = 1;
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
  static constexpr int kBucket = 1;
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
  int threads = 1;
  int items = 0;
};

// The share of `thread`.
template <typename Queue>
void Fill(Queue& queue, const Cell& cell, int thread) {
  Random random(thread + 1000);
  for (int i = thread; i < cell.items; i += cell.threads) {
    queue.Push({1 + random() % kSpan, static_cast<uint32_t>(i)});
  }
}

template <typename Queue>
void HoldOnce(Queue& queue, Random& random) {
  Entry entry;
  MUSTER_CHECK(queue.Pop(&entry));
  entry.key += 1 + random() % kSpan;
  queue.Push(entry);
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

using Body = std::function<int64_t(int, const std::atomic<bool>&)>;

// Runs `before(thread)` on each thread, then `body(thread, stop)` on all of
// them at once, and says `stop` after `ms`, if not 0.  Operations a second, in
// millions, as the bodies returned them.
double Run(int threads, int ms, const std::function<void(int)>& before,
           const Body& body) {
  std::atomic<bool> start{false}, stop{false};
  std::atomic<int> ready{0};
  std::atomic<int64_t> operations{0};
  std::vector<std::thread> workers;
  for (int t = 0; t < threads; ++t) {
    workers.emplace_back([&, t] {
      before(t);
      ready.fetch_add(1);
      while (!start.load()) std::this_thread::yield();
      operations.fetch_add(body(t, stop));
    });
  }
  while (ready.load() < threads) {
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
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
  const double result = Run(
      cell.threads, ms,
      [&](int thread) {
        Fill(queue, cell, thread);
        Random random(thread + 2);
        for (int i = thread; i < cell.items; i += cell.threads) {
          HoldOnce(queue, random);
        }
      },
      [&](int thread, const std::atomic<bool>& stop) {
        Random random(thread + 100);
        int64_t operations = 0;
        while (!stop.load(std::memory_order_relaxed)) {
          for (int i = 0; i < 64; ++i) HoldOnce(queue, random);
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
  std::vector<std::vector<Entry>> held(cell.threads);
  const double result = Run(
      cell.threads, ms, [&](int thread) { Fill(queue, cell, thread); },
      [&](int thread, const std::atomic<bool>& stop) {
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
  std::vector<std::vector<Entry>> popped(cell.threads);
  std::atomic<int> in{0};
  const double result = Run(
      cell.threads, 0,
      [&](int thread) {
        popped[thread].resize(cell.items);  // Page faults are not the queue's.
        popped[thread].clear();
      },
      [&](int thread, const std::atomic<bool>&) {
        Fill(queue, cell, thread);
        in.fetch_add(1);
        while (in.load() < cell.threads) std::this_thread::yield();
        std::vector<Entry>& mine = popped[thread];
        Entry entry;
        while (queue.Pop(&entry)) mine.push_back(entry);
        return static_cast<int64_t>(2 * mine.size());
      });
  std::vector<Entry> all;
  for (auto& mine : popped) all.insert(all.end(), mine.begin(), mine.end());
  CheckAll(queue, cell.items, all);
  return result;
}

struct Latencies {
  double p50 = 0, p99 = 0, p999 = 0, p9999 = 0;
};

template <typename Queue>
Latencies Latency(const Cell& cell, int ms) {
  Queue queue(cell.items);
  // Counts by a sixteenth of a power of two of nanoseconds.
  std::vector<std::array<int64_t, 1024>> counts(cell.threads);
  Run(
      cell.threads, ms, [&](int thread) { Fill(queue, cell, thread); },
      [&](int thread, const std::atomic<bool>& stop) {
        std::array<int64_t, 1024> mine{};
        Random random(thread + 2);
        int64_t before = NowNs();
        const auto lap = [&] {
          const int64_t now = NowNs();
          const auto ns =
              static_cast<uint64_t>(std::max<int64_t>(now - before, 1));
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
  CheckAll(queue, cell.items, {});
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

// What an item did between a push and the pop that took it.
struct Stay {
  uint64_t key = 0;
  int64_t push_begin = 0, push_end = 0;
  int64_t pop_begin = INT64_MAX, pop_end = INT64_MAX;
  bool judged = false;  // The pop is counted.
};

struct Quantiles {
  double mean = 0;
  int64_t p99 = 0, max = 0;
};

Quantiles QuantilesOf(std::vector<int64_t> values) {
  std::sort(values.begin(), values.end());
  double sum = 0;
  for (int64_t value : values) sum += static_cast<double>(value);
  return {sum / static_cast<double>(values.size()),
          values[values.size() * 99 / 100], values.back()};
}

// Counts, for the pop of each judged stay, the stays with a smaller key.
//
// When a pop really took place, between its two time stamps, is not known, nor
// are the instants of the pushes and pops around it; and a thread may have lost
// its core between a stamp and its call, for milliseconds.  So there are two
// counts, and the rank error is between them: `certain` has the items whose
// push had returned before the pop began, and which no other pop had begun to
// take before it ended; `possible` those that may have been there at some
// instant of the pop.  They differ by what is under way on other threads; but
// for a pop that slept, `possible` is all that came and went meanwhile.
std::vector<int64_t> CountBelow(const std::vector<Stay>& stays, bool certain) {
  const auto from = [&](const Stay& stay) {
    return certain ? stay.push_end : stay.push_begin;
  };
  const auto until = [&](const Stay& stay) {
    return certain ? stay.pop_begin : stay.pop_end;
  };
  std::vector<uint64_t> keys;
  for (const Stay& stay : stays) keys.push_back(stay.key);
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  std::vector<int64_t> tree(keys.size() + 1);  // Fenwick's, by key.
  const auto place = [&](const Stay& stay) {
    return static_cast<size_t>(
        std::lower_bound(keys.begin(), keys.end(), stay.key) - keys.begin());
  };
  const auto add = [&](const Stay& stay, int64_t delta) {
    for (size_t at = place(stay) + 1; at < tree.size(); at += at & -at) {
      tree[at] += delta;
    }
  };
  const auto below = [&](const Stay& stay) {
    int64_t sum = 0;
    for (size_t at = place(stay); at > 0; at -= at & -at) sum += tree[at];
    return sum;
  };
  std::vector<const Stay*> starts, ends, pops;
  for (const Stay& stay : stays) {
    if (stay.judged) pops.push_back(&stay);
    // Popped before the push returned: never certain.
    if (from(stay) > until(stay)) continue;
    starts.push_back(&stay);
    ends.push_back(&stay);
  }
  const auto sort = [](std::vector<const Stay*>& list, const auto& time) {
    std::sort(list.begin(), list.end(), [&](const Stay* a, const Stay* b) {
      return time(*a) < time(*b);
    });
  };
  sort(starts, from);
  sort(ends, until);
  sort(pops, [](const Stay& stay) { return stay.pop_begin; });
  std::vector<int64_t> counts;
  size_t start = 0, end = 0;
  for (const Stay* pop : pops) {
    // Those there at the pop's begin ...
    while (start < starts.size() && from(*starts[start]) < pop->pop_begin) {
      add(*starts[start++], 1);
    }
    while (end < ends.size() && until(*ends[end]) < pop->pop_begin) {
      add(*ends[end++], -1);
    }
    int64_t count = below(*pop);
    // ... less those that went until its end, or with those that came.
    if (certain) {
      for (size_t i = end; i < ends.size() && until(*ends[i]) <= pop->pop_end;
           ++i) {
        if (ends[i]->key < pop->key && from(*ends[i]) < pop->pop_begin) --count;
      }
    } else {
      for (size_t i = start;
           i < starts.size() && from(*starts[i]) <= pop->pop_end; ++i) {
        if (starts[i]->key < pop->key) ++count;
      }
    }
    counts.push_back(count);
  }
  return counts;
}

struct Ranks {
  Quantiles certain, possible;
};

// Judges the last `operations` pops.
template <typename Queue>
Ranks Rank(const Cell& cell, int operations) {
  Queue queue(cell.items);
  // stays[t]: of the pushes of thread t.  latest[id]: of the item's last push,
  // written before it, and read by who pops it.
  std::vector<std::vector<Stay>> stays(cell.threads);
  std::vector<Stay*> latest(cell.items);
  const int judged = operations / cell.threads;
  const auto push = [&](int thread, const Entry& entry, int64_t now) {
    stays[thread].push_back({.key = entry.key, .push_begin = now});
    Stay* stay = latest[entry.id] = &stays[thread].back();
    queue.Push(entry);
    return stay->push_end = NowNs();
  };
  Run(
      cell.threads, 0,
      [&](int thread) {
        Random random(thread + 1000);
        const int share = cell.items / cell.threads + 1;
        stays[thread].reserve(2 * share + judged);
        for (int i = thread; i < cell.items; i += cell.threads) {
          push(thread, {1 + random() % kSpan, static_cast<uint32_t>(i)},
               NowNs());
        }
      },
      [&](int thread, const std::atomic<bool>&) {
        Random random(thread + 2);
        int64_t now = NowNs();
        const int warm_up = cell.items / cell.threads;
        for (int i = 0; i < warm_up + judged; ++i) {
          Entry entry;
          MUSTER_CHECK(queue.Pop(&entry));
          Stay* stay = latest[entry.id];
          stay->pop_begin = now;
          stay->pop_end = now = NowNs();
          stay->judged = i >= warm_up;
          entry.key += 1 + random() % kSpan;
          now = push(thread, entry, now);
        }
        return 0;
      });
  CheckAll(queue, cell.items, {});
  std::vector<Stay> all;
  for (auto& mine : stays) {
    all.insert(all.end(), mine.begin(), mine.end());
    mine = {};
  }
  return {QuantilesOf(CountBelow(all, true)),
          QuantilesOf(CountBelow(all, false))};
}

std::atomic<int> stopped{0};
sem_t go_on;

void StopHere(int) {
  stopped.fetch_add(1);
  while (sem_wait(&go_on) != 0) {
  }
  stopped.fetch_sub(1);
}

// Memory of this process that is in use, in bytes.
int64_t ResidentBytes() {
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  MUSTER_CHECK(file != nullptr);
  int64_t pages = 0, resident = 0;
  MUSTER_CHECK(std::fscanf(file, "%" SCNd64 " %" SCNd64, &pages, &resident) ==
               2);
  std::fclose(file);
  return resident * sysconf(_SC_PAGESIZE);
}

struct Freezes {
  int freezes = 0, stops = 0;
  double lowest_pace = 1e9;
  int64_t resident = 0, allocations = 0;  // Grown meanwhile.
};

// Two threads hold; one of them is stopped for 5 ms, `freezes` times.
template <typename Queue>
Freezes Freeze(int freezes, int items) {
  Queue queue(items);
  std::atomic<bool> done{false};
  std::atomic<int> ready{0};
  struct alignas(64) Count {
    std::atomic<int64_t> value{0};
  };
  Count counts[2];
  std::thread threads[2];
  for (int t = 0; t < 2; ++t) {
    threads[t] = std::thread([&, t] {
      Fill(queue, {2, items}, t);
      ready.fetch_add(1);
      while (ready.load() < 2) std::this_thread::yield();
      Random random(t + 2);
      while (!done.load(std::memory_order_relaxed)) {
        HoldOnce(queue, random);
        counts[t].value.fetch_add(1, std::memory_order_relaxed);
      }
    });
  }
  while (ready.load() < 2) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  Freezes result;
  result.freezes = freezes;
  clockid_t clock;
  MUSTER_CHECK(pthread_getcpuclockid(threads[1].native_handle(), &clock) == 0);
  const auto cpu_ns = [&] {
    struct timespec time;
    clock_gettime(clock, &time);
    return 1'000'000'000 * int64_t{time.tv_sec} + time.tv_nsec;
  };
  // Operations per nanosecond that the other thread had a core: on a busy
  // machine it may have none for a while, which is not the queue's doing.  But
  // if it does nothing in 100 ms, it waits for somebody.
  const auto pace = [&] {
    const int64_t before = counts[1].value.load(), begin = cpu_ns();
    const int64_t limit = NowNs() + 100'000'000;
    do {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    } while (cpu_ns() - begin < 1'000'000 && NowNs() < limit);
    return static_cast<double>(counts[1].value.load() - before) /
           static_cast<double>(cpu_ns() - begin + 1);
  };
  ResidentBytes();  // The first call has pages of its own.
  const int64_t allocations = AllocationCount(), resident = ResidentBytes();
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
  result.resident = ResidentBytes() - resident;
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

// Where the run is, for whoever waits for it.
void Progress(const std::string& what) {
  static const int64_t begin = NowNs();
  absl::FPrintF(stderr, "%4d s  %s\n", (NowNs() - begin) / 1'000'000'000, what);
}

struct Contender {
  const char* name;
  int bucket;
  double (*run)(const Cell&, int ms);
};

template <template <typename> class Of>
std::vector<Contender> Each() {
  return {{Ours::kName, Ours::kBucket, Of<Ours>::kRun},
          {OursStrict::kName, OursStrict::kBucket, Of<OursStrict>::kRun},
          {OursWide::kName, OursWide::kBucket, Of<OursWide>::kRun},
          {Tbb::kName, Tbb::kBucket, Of<Tbb>::kRun},
          {MutexHeap::kName, MutexHeap::kBucket, Of<MutexHeap>::kRun}};
}
template <typename Queue>
struct HoldOf {
  static constexpr auto kRun = Hold<Queue>;
};
template <typename Queue>
struct MixOf {
  static constexpr auto kRun = Mix<Queue>;
};
template <typename Queue>
struct FillOf {
  static constexpr auto kRun = FillAndDrain<Queue>;
};

constexpr int kThreads[] = {1, 2, 4, 8};
constexpr int kSizes[] = {1000, 100'000, 1'000'000};
constexpr int kOfMiddle = 100'000;  // What the other tables are about.

// If `per_device`, also what the queue costs a device.
void Throughput(const char* name, const std::vector<Contender>& queues,
                int rounds, int ms, bool per_device) {
  std::vector<Cell> cells;
  for (int items : kSizes) {
    for (int threads : kThreads) cells.push_back({threads, items});
  }
  std::vector<std::vector<std::vector<double>>> results(
      queues.size(), std::vector<std::vector<double>>(cells.size()));
  for (int round = 0; round < rounds; ++round) {
    Progress(absl::StrFormat("%s, round %d of %d", name, round + 1, rounds));
    for (size_t c = 0; c < cells.size(); ++c) {
      for (size_t q = 0; q < queues.size(); ++q) {
        // Another goes first each time.
        const size_t which = (q + round) % queues.size();
        results[which][c].push_back(queues[which].run(cells[c], ms));
      }
    }
  }
  size_t tbb = 0;
  while (queues[tbb].name != std::string(Tbb::kName)) ++tbb;
  for (size_t c = 0; c < cells.size(); c += std::size(kThreads)) {
    absl::PrintF("\n%s, %d items, million operations a second (times oneTBB)\n",
                 name, cells[c].items);
    absl::PrintF("%18s %7s", "", "bucket");
    for (int threads : kThreads) {
      absl::PrintF(" %15s", absl::StrCat("T", threads));
    }
    for (size_t q = 0; q < queues.size(); ++q) {
      absl::PrintF("\n%18s %7d", queues[q].name, queues[q].bucket);
      for (size_t t = 0; t < std::size(kThreads); ++t) {
        const double value = Median(results[q][c + t]);
        absl::PrintF(" %6.1f (%5.1fx)", value,
                     value / Median(results[tbb][c + t]));
      }
    }
    absl::PrintF("\n");
    if (!per_device || cells[c].items != kOfMiddle) continue;
    // A slice of 256 devices is pushed and popped, and so is the check of its
    // timeouts: 4 operations, each on one of the cores.
    absl::PrintF("%18s, ns per device at 256 rows a slice\n", "queue cost");
    for (size_t q = 0; q < queues.size(); ++q) {
      absl::PrintF("%18s %7d", queues[q].name, queues[q].bucket);
      for (size_t t = 0; t < std::size(kThreads); ++t) {
        const int cores = std::min(kThreads[t], ReadyQueue::Cores());
        absl::PrintF(" %15.2f",
                     4.0 / 256 * 1e3 * cores / Median(results[q][c + t]));
      }
      absl::PrintF("\n");
    }
  }
  std::fflush(stdout);
}

std::string Between(const Ranks& ranks) {
  return absl::StrFormat("%6.0f..%-6.0f %6d..%-6d %7d..%-7d",
                         ranks.certain.mean, ranks.possible.mean,
                         ranks.certain.p99, ranks.possible.p99,
                         ranks.certain.max, ranks.possible.max);
}

template <typename Queue>
void PrintRanks() {
  Progress(absl::StrCat("rank, ", Queue::kName));
  for (const Cell& cell : {Cell{2, kOfMiddle}, Cell{8, 1000},
                           Cell{8, kOfMiddle}, Cell{8, 1'000'000}}) {
    absl::PrintF("%18s %7d T%d %8d  %s\n", Queue::kName, Queue::kBucket,
                 cell.threads, cell.items, Between(Rank<Queue>(cell, 400'000)));
  }
  std::fflush(stdout);
}

template <typename Queue>
void PrintLatency(int rounds, int ms) {
  Progress(absl::StrCat("latency, ", Queue::kName));
  std::vector<double> p50, p99, p999, p9999;
  for (int i = 0; i < rounds; ++i) {
    const Latencies latency = Latency<Queue>({8, kOfMiddle}, 5 * ms);
    p50.push_back(latency.p50);
    p99.push_back(latency.p99);
    p999.push_back(latency.p999);
    p9999.push_back(latency.p9999);
  }
  absl::PrintF("%18s %7d %7.0f %7.0f %7.0f %9.0f\n", Queue::kName,
               Queue::kBucket, Median(p50), Median(p99), Median(p999),
               Median(p9999));
  std::fflush(stdout);
}

template <typename Queue>
void PrintFreezes(int count) {
  Progress(absl::StrCat("freezes, ", Queue::kName));
  const Freezes freezes = Freeze<Queue>(count, kOfMiddle);
  absl::PrintF("%18s %7d %7d of %3d %11.2f %11d %11d\n", Queue::kName,
               Queue::kBucket, freezes.stops, freezes.freezes,
               freezes.lowest_pace, freezes.resident / 1024,
               freezes.allocations);
  std::fflush(stdout);
}

int Main(int argc, char** argv) {
  int rounds = 3, ms = 50;
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
                    "[--only=hold|mix|fill|rank|latency|freeze]\n");
      return 2;
    }
  }
  sem_init(&go_on, 0, 0);
  struct sigaction action = {};
  action.sa_handler = StopHere;
  sigaction(SIGUSR1, &action, nullptr);

  const auto wanted = [&](absl::string_view what) {
    return only.empty() || only == what;
  };
  absl::PrintF("%d cores, medians of %d rounds of %d ms, keys over %d units\n",
               ReadyQueue::Cores(), rounds, ms, kSpan);
  if (wanted("hold")) Throughput("hold", Each<HoldOf>(), rounds, ms, true);
  if (wanted("mix")) Throughput("mix", Each<MixOf>(), rounds, ms, false);
  if (wanted("fill")) {
    Throughput("fill and drain", Each<FillOf>(), rounds, ms, false);
  }
  if (wanted("rank")) {
    absl::PrintF(
        "\nrank error in hold: certain..possible\n%18s %7s %2s %8s  %14s %14s "
        "%16s\n",
        "", "bucket", "", "items", "mean", "p99", "max");
    PrintRanks<Ours>();
    PrintRanks<OursStrict>();
    PrintRanks<OursWide>();
    PrintRanks<Tbb>();
    PrintRanks<MutexHeap>();
  }
  if (wanted("latency")) {
    absl::PrintF(
        "\nlatency of one call in hold, T8, %d items, ns\n%18s %7s %7s %7s %7s "
        "%9s\n",
        kOfMiddle, "", "bucket", "p50", "p99", "p99.9", "p99.99");
    PrintLatency<Ours>(rounds, ms);
    PrintLatency<OursStrict>(rounds, ms);
    PrintLatency<OursWide>(rounds, ms);
    PrintLatency<Tbb>(rounds, ms);
    PrintLatency<MutexHeap>(rounds, ms);
  }
  if (wanted("freeze")) {
    absl::PrintF(
        "\none of two threads is stopped in hold, %d items\n%18s %7s %14s %11s "
        "%11s %11s\n",
        kOfMiddle, "", "bucket", "others stopped", "lowest pace", "KB grown",
        "allocations");
    PrintFreezes<Ours>(200);
    PrintFreezes<OursStrict>(200);
    PrintFreezes<OursWide>(200);
    PrintFreezes<Tbb>(100);
    PrintFreezes<MutexHeap>(100);
  }
  return 0;
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) { return muster::Main(argc, argv); }
