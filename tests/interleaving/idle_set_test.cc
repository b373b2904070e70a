// IdleSet in every interleaving: no wake-up is lost, no worker runs twice.
#include "engine/schedule/idle_set.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "gtest/gtest.h"
#include "tests/interleaving/explorer.h"

namespace muster {
namespace {

// One order at a time is weakened.
enum class Edge { kNone, kLoad, kClaim, kRelease };
Edge g_weakened = Edge::kNone;
std::memory_order g_weaker;

std::memory_order OrderOf(Edge edge, std::memory_order order) {
  return g_weakened == edge ? g_weaker : order;
}

template <typename T>
class IdleAtomic {
 public:
  T load(std::memory_order order) const {
    return atomic_.load(OrderOf(Edge::kLoad, order));
  }
  void store(T value, std::memory_order order) { atomic_.store(value, order); }
  bool compare_exchange_strong(T& expected, T desired,
                               std::memory_order success,
                               std::memory_order failure) {
    return atomic_.compare_exchange_strong(
        expected, desired, OrderOf(Edge::kClaim, success), failure);
  }
  void fetch_or(T bits, std::memory_order order) {
    T old = atomic_.newest();
    while (!atomic_.compare_exchange_strong(old, old | bits,
                                            OrderOf(Edge::kRelease, order),
                                            std::memory_order_relaxed)) {
    }
  }
  T newest() const { return atomic_.newest(); }

 private:
  CheckedAtomic<T> atomic_;
};

// Each thread adds work, and runs the turns of whom it claims, as an executor
// would elsewhere.
class IdleProgram : public Explorer::Program {
 public:
  IdleProgram(int threads, int adds, int workers)
      : threads_(threads), adds_(adds), workers_(workers), idle_(workers) {
    for (int w = 0; w < workers; ++w) {
      scratch_.push_back(std::make_unique<CheckedPlain>());
    }
  }

  int threads() const override { return threads_; }

  void Run(int) override {
    for (int i = 0; i < adds_; ++i) {
      uint64_t old = work_.newest();
      while (!work_.compare_exchange_strong(
          old, old + 1, std::memory_order_seq_cst, std::memory_order_relaxed)) {
      }
      for (int worker = idle_.Claim(); worker >= 0; worker = Turn(worker)) {
      }
    }
  }

  void Check(int) override {
    if (work_.newest() != 0) Explorer::Get().Fail("work and all are idle");
  }

 private:
  // Who has to run next.
  int Turn(int worker) {
    scratch_[worker]->Write();
    uint64_t old = work_.load(std::memory_order_seq_cst);
    while (old != 0) {
      work_.compare_exchange_strong(old, old - 1, std::memory_order_seq_cst,
                                    std::memory_order_seq_cst);
    }
    scratch_[worker]->Write();
    idle_.Release(worker);
    return work_.load(std::memory_order_seq_cst) != 0 ? idle_.Claim() : -1;
  }

  const int threads_;
  const int adds_;
  const int workers_;
  CheckedAtomic<uint64_t> work_;
  IdleSet<IdleAtomic, 1> idle_;
  std::vector<std::unique_ptr<CheckedPlain>> scratch_;
};

struct Shape {
  int threads;
  int adds;
  int workers;
};
constexpr Shape kShapes[] = {
    {2, 1, 1}, {2, 2, 1}, {2, 1, 2}, {3, 1, 1}, {3, 1, 2}};

// The first failure over all shapes; empty if there is none.
std::string Failure(int64_t* executions) {
  for (const Shape& shape : kShapes) {
    Explorer::Limits limits;
    limits.preemptions = shape.threads == 2 ? 5 : 3;
    limits.stale = 2;
    const Explorer::Result result = Explorer::Explore(limits, [&] {
      return std::make_unique<IdleProgram>(shape.threads, shape.adds,
                                           shape.workers);
    });
    *executions += result.executions;
    if (!result.failure.empty()) return result.failure;
  }
  return "";
}

TEST(IdleSetTest, NoWakeUpIsLost) {
  g_weakened = Edge::kNone;
  int64_t executions = 0;
  EXPECT_EQ(Failure(&executions), "");
  EXPECT_GT(executions, 1000);
  absl::PrintF("%d executions\n", executions);
}

TEST(IdleSetTest, EachOrderIsNeeded) {
  struct Weakening {
    const char* name;
    Edge edge;
    std::memory_order order;
  };
  for (const Weakening& weakening :
       {Weakening{"(3) load acquire", Edge::kLoad, std::memory_order_acquire},
        Weakening{"(5) claim relaxed", Edge::kClaim, std::memory_order_relaxed},
        Weakening{"(2) release acq_rel", Edge::kRelease,
                  std::memory_order_acq_rel},
        Weakening{"(2) release relaxed", Edge::kRelease,
                  std::memory_order_relaxed}}) {
    g_weakened = weakening.edge;
    g_weaker = weakening.order;
    int64_t executions = 0;
    const std::string failure = Failure(&executions);
    absl::PrintF("%-24s %s\n", weakening.name,
                 failure.empty() ? "not caught" : failure);
    EXPECT_NE(failure, "") << weakening.name;
  }
  g_weakened = Edge::kNone;
}

}  // namespace
}  // namespace muster
