// Small programs over a small BucketQueue, and what must be true of them.
//
// Every push and pop is logged with its first and last step.  Checked of every
// execution:
//
//   - no item is taken twice, and what its pusher wrote is known to its popper;
//   - a pop that finds nothing overlooks no item whose push had returned when
//     it began and that nobody took before it ended;
//   - nor does a pop take from a higher bucket than such an item's;
//   - a push goes to a bucket after the time that was served when it began;
//   - with one shard, if no thread is frozen, the history is linearizable:
//   there
//     is an order of the operations, which respects that some returned before
//     others began, in which each pop takes from the lowest bucket of those
//     that have an item, or finds nothing if none has;
//   - nobody waits: all threads but a frozen one end, whatever the others do;
//   - in the end all items are found, in order, but for the one that a frozen
//     thread has in its hands.
#ifndef TESTS_INTERLEAVING_QUEUE_PROGRAMS_H_
#define TESTS_INTERLEAVING_QUEUE_PROGRAMS_H_

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/interleaving/explorer.h"

namespace muster {

inline constexpr int kEdgesMax = 16;

// Orders to use in place of those that are written, by edge.
inline bool g_weakened[kEdgesMax];
inline std::memory_order g_weaker[kEdgesMax];

struct CheckedPolicy {
  template <typename T>
  using Atomic = CheckedAtomic<T>;
  static constexpr int kFanoutBits = 1;  // 8 buckets, in words of 2 bits.
  static constexpr int kFirstChunkBits = 2;
  template <typename Edge>
  static std::memory_order Order(Edge edge, std::memory_order order) {
    const int number = static_cast<int>(edge);
    return g_weakened[number] ? g_weaker[number] : order;
  }
  static constexpr bool kPrefetches = false;
  // Thread t is at home in shard t; before they start, who sets it.
  static inline int home = 0;
  static int Home(int shards) {
    const int thread = Explorer::Get().running();
    return (thread < 0 ? home : thread) % shards;
  }
};

struct Operation {
  enum Kind { kPush, kPop, kHold } kind;
  // Of a push, from the time that is served at the start; of a hold, what it
  // adds to the bucket of what it took.
  int bucket = 0;
};

struct Setup {
  int shards = 1;
  // Rounds the ring that far before: a bucket that is served.
  int served = 0;
  std::vector<int> buckets;  // Of the items that are there at the start.
  std::vector<std::vector<Operation>> threads;
};

inline std::string NameOf(const Operation& operation) {
  switch (operation.kind) {
    case Operation::kPush:
      return absl::StrCat("push", operation.bucket);
    case Operation::kPop:
      return "pop";
    case Operation::kHold:
      return absl::StrCat("hold", operation.bucket);
  }
  return "";
}

inline std::string NameOf(const Setup& setup) {
  std::string name =
      absl::StrCat("shards=", setup.shards, " served=", setup.served, " [");
  for (int bucket : setup.buckets) absl::StrAppend(&name, " ", bucket);
  absl::StrAppend(&name, " ]");
  for (const auto& thread : setup.threads) {
    absl::StrAppend(&name, " |");
    for (const Operation& operation : thread) {
      absl::StrAppend(&name, " ", NameOf(operation));
    }
  }
  return name;
}

template <typename Queue>
class QueueProgram : public Explorer::Program {
 public:
  using Slab = typename Queue::Slab;
  static constexpr int kItemsMax = 7;
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

  explicit QueueProgram(const Setup& setup)
      : setup_(setup), queue_(&slab_, setup.shards, /*slack=*/0) {
    log_.reserve(64);
    CheckedPolicy::home = 0;
    int items = static_cast<int>(setup.buckets.size());
    for (const auto& thread : setup.threads) {
      for (const Operation& operation : thread) {
        if (operation.kind == Operation::kPush) ++items;
      }
    }
    for (int i = 0; i < std::max(items, 1); ++i) {
      payload_.push_back(std::make_unique<CheckedPlain>());
      slots_.push_back(slab_.Attach(payload_.back().get()));
    }
    for (int at = 1; at <= setup.served; ++at) {
      queue_.Push(slots_[0], static_cast<uint64_t>(at));
      queue_.Pop();
    }
    for (int bucket : setup.buckets) {
      CheckedPolicy::home = next_item_;
      Push(next_item_++, bucket + setup.served);
    }
  }

  int threads() const override {
    return static_cast<int>(setup_.threads.size());
  }

  void Run(int thread) override {
    for (const Operation& operation : setup_.threads[thread]) {
      if (operation.kind == Operation::kPush) {
        Push(next_item_++, operation.bucket + setup_.served);
      } else {
        const int taken = Pop();
        if (taken < 0) continue;
        Explorer::Get().Returned();
        if (operation.kind == Operation::kHold) {
          const auto bucket = static_cast<int>(log_[taken].bucket);
          Push(log_[taken].item, bucket + operation.bucket);
        }
      }
      Explorer::Get().Returned();
    }
  }

  void Check(int frozen) override {
    draining_ = true;
    const size_t before = log_.size();
    while (Pop() >= 0) {
      if (log_.size() > before + 2 * slots_.size()) {
        Explorer::Get().Fail("items without end");
        return;
      }
    }
    int missing = 0;
    for (const Stay& stay : log_) {
      if (stay.pushed != kNever && stay.taken == kNever) ++missing;
    }
    // A frozen pop may have one in its hands.
    if (missing > (frozen >= 0 && popping_[frozen] ? 1 : 0))
      Fail("an item is lost");
    for (const Stay& stay : log_) {
      if (stay.taken == kNever) continue;
      for (const Time& time : times_) {
        if (time.step < stay.began && stay.bucket <= time.served)
          Fail("a push goes before the time");
      }
    }
    for (const Look& look : looks_) {
      for (const Stay& stay : log_) {
        if (stay.pushed >= look.begin || stay.took <= look.end) continue;
        // Not popped at all: in the hands of the frozen thread.
        if (stay.took == kNever) continue;
        if (look.stay < 0) Fail("a pop overlooks an item");
        if (look.stay >= 0 && !stay.late &&
            stay.bucket < log_[look.stay].bucket) {
          Fail("a pop overtakes an item");
        }
      }
    }
    if (setup_.shards == 1 && frozen < 0) CheckLinearizable();
  }

 private:
  // From a push to the pop that took it.
  struct Stay {
    int item;
    int64_t began = 0;        // First step of the push.
    int64_t pushed = kNever;  // Last step of the push.
    int64_t took = kNever;    // First step of the pop.
    int64_t taken = kNever;   // Last step of the pop.
    uint64_t bucket = 0;      // As the pop saw it.
    bool late = false;        // The push slept through a quarter of the ring.
  };
  struct Look {
    int64_t begin;
    int64_t end;
    int stay;  // -1: found nothing.
  };

  // A pop that has returned and what had been served then.
  struct Time {
    int64_t step;
    uint64_t served;
  };

  // Wing and Gong, JPDC 1993, with a memory of the sets of operations that
  // cannot go first (Lowe, 2017).
  void CheckLinearizable() {
    history_.clear();
    for (size_t i = 0; i < log_.size(); ++i) {
      // The order is not promised for a push that slept too long.
      if (log_[i].late) return;
      history_.push_back(
          {log_[i].began, log_[i].pushed, static_cast<int>(i), true});
    }
    for (const Look& look : looks_) {
      history_.push_back({look.begin, look.end, look.stay, false});
    }
    if (history_.size() > 64 || log_.size() > 64) {
      Fail("too long to check");
      return;
    }
    std::sort(history_.begin(), history_.end(),
              [](const auto& a, const auto& b) { return a.end < b.end; });
    hopeless_.clear();
    if (!Linearize(0, 0)) Fail("not linearizable");
  }

  // Whether the operations that are not in `done` can follow those that are;
  // `present`: the stays that have begun and not ended.
  bool Linearize(uint64_t done, uint64_t present) {
    const size_t count = history_.size();
    if (static_cast<size_t>(std::popcount(done)) == count) return true;
    for (uint64_t set : hopeless_) {
      if (set == done) return false;
    }
    int64_t first_end = kNever;
    for (size_t i = 0; i < count; ++i) {
      if ((done >> i & 1) == 0) {
        first_end = history_[i].end;
        break;
      }
    }
    for (size_t i = 0; i < count; ++i) {
      const Entry& entry = history_[i];
      if ((done >> i & 1) != 0 || entry.begin > first_end) continue;
      uint64_t after = present;
      if (entry.push) {
        after |= uint64_t{1} << entry.stay;
      } else if (entry.stay < 0) {
        if (present != 0) continue;
      } else {
        if ((present >> entry.stay & 1) == 0 || !IsLowest(present, entry.stay))
          continue;
        after &= ~(uint64_t{1} << entry.stay);
      }
      if (Linearize(done | uint64_t{1} << i, after)) return true;
    }
    hopeless_.push_back(done);
    return false;
  }

  bool IsLowest(uint64_t present, int stay) const {
    for (; present != 0; present &= present - 1) {
      if (log_[std::countr_zero(present)].bucket < log_[stay].bucket)
        return false;
    }
    return true;
  }

  void Fail(const char* what) { Explorer::Get().Fail(what); }

  int64_t Clock() {
    // After the threads every step counts as later.
    return draining_ ? ++drained_ : Explorer::Get().now();
  }

  static int64_t FirstStep() {
    const Explorer& explorer = Explorer::Get();
    return explorer.running() < 0 ? 0 : explorer.begin();
  }

  void Push(int item, int bucket) {
    const int stay = static_cast<int>(log_.size());
    log_.push_back({item});
    payload_[item]->Write();
    current_[item] = stay;
    const uint64_t from = Served();
    Explorer::Get().Begin();
    queue_.Push(slots_[item], static_cast<uint64_t>(bucket));
    log_[stay].began = FirstStep();
    log_[stay].late = Served() - from >= Queue::Ring::kBuckets / 4;
    log_[stay].pushed = Clock();
  }

  int Pop() {
    Explorer::Get().Begin();
    const int thread = Explorer::Get().running();
    if (thread >= 0) popping_[thread] = true;
    const uint32_t slot = queue_.Pop();
    if (thread >= 0) popping_[thread] = false;
    const int64_t begin = draining_ ? Clock() : FirstStep();
    const int64_t end = Clock();
    if (slot == Slab::kNone) {
      looks_.push_back({begin, end, -1});
      return -1;
    }
    const int item = static_cast<int>(
        std::find(slots_.begin(), slots_.end(), slot) - slots_.begin());
    const int stay = current_[item];
    if (stay < 0) {
      Fail("an item is taken twice");
      return -1;
    }
    current_[item] = -1;
    payload_[item]->Write();
    log_[stay].took = begin;
    log_[stay].taken = end;
    log_[stay].bucket = queue_.BucketForTesting(slot);
    looks_.push_back({begin, end, stay});
    // What it has raised the time to, if it did, was its last step.
    if (!draining_) times_.push_back({end, Served()});
    return stay;
  }

  uint64_t Served() const { return queue_.NowForTesting(); }

  const Setup setup_;
  Slab slab_;
  struct Peeking : Queue {
    Peeking(Slab* slab, int shards, int slack)
        : Queue(slab, shards, slack), slab(slab) {}
    uint64_t BucketForTesting(uint32_t slot) {
      return slab->At(slot).meta.newest() >> 32;
    }
    uint64_t NowForTesting() const { return this->now_.newest(); }
    Slab* slab;
  };
  Peeking queue_;
  std::vector<uint32_t> slots_;
  std::vector<std::unique_ptr<CheckedPlain>> payload_;
  int current_[kItemsMax] = {-1, -1, -1, -1, -1, -1, -1};
  int next_item_ = 0;
  std::vector<Stay> log_;
  std::vector<Look> looks_;
  std::vector<Time> times_;
  struct Entry {
    int64_t begin;
    int64_t end;
    int stay;
    bool push;
  };
  std::vector<Entry> history_;
  std::vector<uint64_t> hopeless_;
  bool popping_[Explorer::kThreadsMax] = {};
  bool draining_ = false;
  int64_t drained_ = int64_t{1} << 40;
};

// Every pair, or triple, of `threads` on every one of the `starts`.
inline std::vector<Setup> AllSetups(
    const std::vector<std::vector<Operation>>& threads, int count,
    const std::vector<std::vector<int>>& starts, int shards, int served) {
  std::vector<Setup> setups;
  for (const auto& start : starts) {
    std::vector<size_t> chosen(count, 0);
    while (true) {
      Setup setup;
      setup.shards = shards;
      setup.served = served;
      setup.buckets = start;
      for (size_t c : chosen) setup.threads.push_back(threads[c]);
      setups.push_back(std::move(setup));
      // The next in which no thread's number is below that of the one before.
      int i = count - 1;
      while (i >= 0 && chosen[i] + 1 == threads.size()) --i;
      if (i < 0) break;
      const size_t next = chosen[i] + 1;
      for (int j = i; j < count; ++j) chosen[j] = next;
    }
  }
  return setups;
}

}  // namespace muster

#endif  // TESTS_INTERLEAVING_QUEUE_PROGRAMS_H_
