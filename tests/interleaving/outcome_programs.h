// Small programs over an OutcomeList and its OutcomePool, and what must be true
// of them.
//
// Checked of every execution:
//
//   - no block is in two hands, and what its last owner wrote is known to the
//     next;
//   - each push that was accepted is taken once, in an order that none of them
//     contradicts: one that had returned when another began comes first;
//   - a take overlooks no push that had returned when it began;
//   - a push is refused only if the list may have been full during it, and no
//     take finds more than may wait;
//   - nobody waits: all threads but a frozen one end, whatever the others do;
//   - in the end all blocks are found, but for what a frozen thread has.
#ifndef TESTS_INTERLEAVING_OUTCOME_PROGRAMS_H_
#define TESTS_INTERLEAVING_OUTCOME_PROGRAMS_H_

#include <atomic>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/interleaving/explorer.h"

namespace muster {

inline constexpr int kOutcomeEdges = 4;

// Edges whose order is relaxed, whatever is written.
inline bool g_relaxed_edges[kOutcomeEdges];

template <typename T>
struct OutcomeAtomic : CheckedAtomic<T> {
  using CheckedAtomic<T>::CheckedAtomic;
  T exchange(T desired, std::memory_order order) {
    T before = this->newest();
    while (!this->compare_exchange_strong(before, desired, order,
                                          std::memory_order_relaxed)) {
    }
    return before;
  }
};

struct CheckedOutcomePolicy {
  template <typename T>
  using Atomic = OutcomeAtomic<T>;
  static constexpr uint32_t kQueuedMax = 3;
  static constexpr int kBlocksKept = 3;
  template <typename Edge>
  static std::memory_order Order(Edge edge, std::memory_order order) {
    return g_relaxed_edges[static_cast<int>(edge)] ? std::memory_order_relaxed
                                                   : order;
  }
};

enum class OutcomeStep {
  kTake,      // Of the pool.
  kGiveBack,  // The block that the thread has had for longest ...
  kPush,      // ... or pushes it, and gives it back if it is refused.
  kTakeAll,   // And gives back each.
};

struct OutcomeSetup {
  std::string name;
  int pooled = 0;         // Blocks in the pool at the start,
  int queued = 0;         // in the list,
  std::vector<int> held;  // and in the hands of each thread.
  std::vector<std::vector<OutcomeStep>> threads;
};

template <typename Pool, typename List>
class OutcomeProgram : public Explorer::Program {
 public:
  using Block = typename Pool::Block;
  using Policy = CheckedOutcomePolicy;
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

  explicit OutcomeProgram(const OutcomeSetup& setup)
      : setup_(setup),
        pool_(std::make_shared<Pool>()),
        list_(std::make_unique<List>(pool_)) {
    std::vector<Block*> blocks;
    for (int i = 0; i < setup.pooled; ++i) blocks.push_back(TakeBlock());
    for (size_t t = 0; t < setup.held.size(); ++t) {
      for (int i = 0; i < setup.held[t]; ++i) held_[t].push_back(TakeBlock());
    }
    for (int i = 0; i < setup.queued; ++i) PushBlock(TakeBlock());
    for (Block* block : blocks) GiveBack(block);
  }

  int threads() const override {
    return static_cast<int>(setup_.threads.size());
  }

  void Run(int thread) override {
    std::vector<Block*>& held = held_[thread];
    for (OutcomeStep step : setup_.threads[thread]) {
      Explorer::Get().Begin();
      busy_[thread] = step;
      in_step_[thread] = true;
      switch (step) {
        case OutcomeStep::kTake:
          held.push_back(TakeBlock());
          break;
        case OutcomeStep::kGiveBack:
        case OutcomeStep::kPush: {
          Block* const block = held.front();
          held.erase(held.begin());
          if (step == OutcomeStep::kPush) {
            PushBlock(block);
          } else {
            GiveBack(block);
          }
          break;
        }
        case OutcomeStep::kTakeAll:
          TakeAll();
          break;
      }
      in_step_[thread] = false;
      Explorer::Get().Returned();
    }
  }

  void Check(int frozen) override {
    const bool in_step = frozen >= 0 && in_step_[frozen];
    const bool in_take_all = in_step && busy_[frozen] == OutcomeStep::kTakeAll;
    after_ = true;
    TakeAll();
    for (size_t i = 0; i < pushes_.size(); ++i) {
      if (pushes_[i].end != kNever && pushes_[i].accepted &&
          !pushes_[i].taken && !in_take_all) {
        Fail("a push is lost");
      }
    }
    for (size_t i = 0; i < taken_.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        if (pushes_[taken_[i]].end < pushes_[taken_[j]].begin) {
          Fail("pushes change places");
        }
      }
    }
    for (const Push& refused : pushes_) {
      if (refused.accepted || refused.end == kNever) continue;
      uint32_t most = 0;
      for (const Push& push : pushes_) {
        if (&push == &refused || push.begin >= refused.end) continue;
        if (push.end != kNever && !push.accepted) continue;
        if (push.taken_at >= refused.begin) ++most;
      }
      if (most < Policy::kQueuedMax) Fail("refused, although there was room");
    }
    // Whatever the pool has left.
    size_t missing = Policy::kBlocksKept;
    for (Block* block = TakeBlock(); block->kept(); block = TakeBlock()) {
      --missing;
      left_.push_back(block);
    }
    for (auto& held : held_) {
      for (Block* block : held) missing -= block->kept() ? 1 : 0;
    }
    if (missing > (in_take_all ? Policy::kQueuedMax : in_step ? 1u : 0u)) {
      Fail("a block is lost");
    }
  }

 private:
  struct Push {
    int64_t begin = 0;  // Not known before the end.
    int64_t end = kNever;
    bool accepted = false;
    bool taken = false;
    int64_t taken_at = kNever;  // When its taker was done.
  };

  void Fail(const char* what) { Explorer::Get().Fail(what); }

  int64_t Now() const { return after_ ? kNever - 1 : Explorer::Get().now(); }
  // First step of the operation that is just over.
  int64_t Begin() const {
    if (after_) return kNever - 2;
    return Explorer::Get().running() < 0 ? 0 : Explorer::Get().begin();
  }

  // A block comes into a hand, or leaves it: both are writes to it.
  void Touch(Block* block) {
    if (!block->kept()) return;  // Memory may come again, by way of the heap.
    auto& plain = plain_[block];
    if (plain == nullptr) plain = std::make_unique<CheckedPlain>();
    plain->Write();
  }
  void Enter(Block* block) {
    if (block->kept() && !in_hand_.insert(block).second) {
      Fail("a block is in two hands");
    }
    Touch(block);
  }
  void Leave(Block* block) {
    Touch(block);
    in_hand_.erase(block);
  }

  Block* TakeBlock() {
    Block* const block = pool_->Take(1);
    Enter(block);
    if (!block->entries().empty() || block->next() != nullptr) {
      Fail("a block is not empty");
    }
    return block;
  }

  void GiveBack(Block* block) {
    Leave(block);
    pool_->GiveBack(block);
  }

  void PushBlock(Block* block) {
    const size_t number = pushes_.size();
    pushes_.emplace_back();
    block->Add({.rank = static_cast<uint16_t>(number)}, {});
    Leave(block);
    const bool accepted = list_->Push(block);
    pushes_[number].begin = Begin();
    pushes_[number].end = Now();
    pushes_[number].accepted = accepted;
    if (accepted) return;
    Enter(block);
    GiveBack(block);
  }

  void TakeAll() {
    Block* block = list_->TakeAll();
    const int64_t begin = Begin();
    const int64_t end = Now();
    uint32_t count = 0;
    for (Block* b = block; b != nullptr; b = b->next()) {
      Enter(b);
      const uint16_t number = b->entries()[0].rank;
      if (pushes_[number].taken) Fail("a push is taken twice");
      if (pushes_[number].end < last_take_) Fail("a take overlooks a push");
      pushes_[number].taken = true;
      pushes_[number].taken_at = end;
      taken_.push_back(number);
      ++count;
    }
    if (count > Policy::kQueuedMax) Fail("more wait than may");
    last_take_ = begin;
    while (block != nullptr) {
      Block* const next = block->next();
      GiveBack(block);
      block = next;
    }
  }

  const OutcomeSetup setup_;
  std::shared_ptr<Pool> pool_;
  std::unique_ptr<List> list_;
  std::map<Block*, std::unique_ptr<CheckedPlain>> plain_;
  std::set<Block*> in_hand_;
  std::vector<Block*> held_[Explorer::kThreadsMax];
  std::vector<Block*> left_;
  OutcomeStep busy_[Explorer::kThreadsMax] = {};
  bool in_step_[Explorer::kThreadsMax] = {};
  std::vector<Push> pushes_;
  std::vector<size_t> taken_;  // In the order of takes.
  int64_t last_take_ = -1;     // When the take before began.
  bool after_ = false;
};

struct OutcomeSuite {
  std::string name;
  Explorer::Limits limits;
  std::vector<OutcomeSetup> setups;
};

enum { kEveryOrder, kWeakMemory, kOneFreezes };

inline OutcomeSuite MakeOutcomeSuite(int which) {
  constexpr auto kTake = OutcomeStep::kTake;
  constexpr auto kGiveBack = OutcomeStep::kGiveBack;
  constexpr auto kPush = OutcomeStep::kPush;
  constexpr auto kTakeAll = OutcomeStep::kTakeAll;
  OutcomeSuite suite;
  switch (which) {
    case kEveryOrder:
      suite.name = "every order";
      suite.limits = {.preemptions = -1, .executions = 300'000};
      break;
    case kWeakMemory:
      suite.name = "weak memory";
      suite.limits = {.preemptions = 3, .stale = 1};
      break;
    case kOneFreezes:
      suite.name = "one freezes";
      suite.limits = {.preemptions = 2, .freeze = true};
      break;
  }
  suite.setups = {
      {"two pushers and a taker",
       0,
       0,
       {2, 1, 0},
       {{kPush, kPush}, {kPush}, {kTakeAll, kTakeAll}}},
      {"pushers at the limit", 0, 2, {1, 1, 0}, {{kPush}, {kPush}, {kTakeAll}}},
      {"three at the pool",
       2,
       0,
       {},
       {{kTake, kGiveBack},
        {kTake, kTake, kGiveBack, kGiveBack},
        {kTake, kGiveBack}}},
      {"the pool runs empty",
       1,
       0,
       {},
       {{kTake, kTake, kGiveBack}, {kTake, kGiveBack, kTake}}},
      {"round and round",
       1,
       0,
       {},
       {{kTake, kPush}, {kTake, kPush}, {kTakeAll, kTakeAll}}},
  };
  return suite;
}

template <template <typename> class Pool, template <typename> class List>
Explorer::Result RunOutcomes(const OutcomeSetup& setup,
                             const Explorer::Limits& limits) {
  using Program =
      OutcomeProgram<Pool<CheckedOutcomePolicy>, List<CheckedOutcomePolicy>>;
  return Explorer::Explore(limits, [&]() -> std::unique_ptr<Explorer::Program> {
    return std::make_unique<Program>(setup);
  });
}

}  // namespace muster

#endif  // TESTS_INTERLEAVING_OUTCOME_PROGRAMS_H_
