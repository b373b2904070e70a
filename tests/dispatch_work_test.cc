// Work, in every interleaving: nobody's wake is lost, nothing is queued twice.
//
// Each operation takes effect in one atomic step but for End(), whose second
// step (kAgain -> kQueued) nobody else can tell from its first, so that
// interleavings of whole operations are all that there are.
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "engine/dispatch/work.h"
#include "engine/schedule/ready_queue.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

// Wakers that wake `wakes` times each, and two workers, as a state that can be
// replayed: the path is the list of who moves.
class World {
 public:
  World(int wakers, int wakes) : left_(wakers, wakes) {}

  // Moves in which something can happen now.
  std::vector<int> Moves() const {
    std::vector<int> moves;
    for (size_t w = 0; w < left_.size(); ++w) {
      if (left_[w] > 0) moves.push_back(static_cast<int>(w));
    }
    for (int worker = 0; worker < 2; ++worker) {
      if (running_[worker] || queued_ > 0) {
        moves.push_back(static_cast<int>(left_.size()) + worker);
      }
    }
    return moves;
  }

  void Move(int who) {
    if (who < static_cast<int>(left_.size())) {
      --left_[who];
      unseen_ = true;
      if (work_.ClaimByWake()) ++queued_;
    } else {
      const int worker = who - static_cast<int>(left_.size());
      if (!running_[worker]) {
        --queued_;
        work_.Begin();
        ASSERT_FALSE(running_[1 - worker]) << "two workers run it at once";
        running_[worker] = true;
        unseen_ = false;  // This run sees every wake up to now.
      } else {
        running_[worker] = false;
        if (work_.End()) ++queued_;
      }
    }
    ASSERT_LE(queued_, 1) << "in the queue twice";
  }

  bool unseen() const { return unseen_; }

 private:
  Work work_{std::make_shared<ReadyQueue::Slots>(), Work::Kind::kSlice};
  std::vector<int> left_;
  int queued_ = 0;
  bool running_[2] = {false, false};
  bool unseen_ = false;
};

int64_t Explore(int wakers, int wakes, std::vector<int>& path) {
  World world(wakers, wakes);
  for (int who : path) {
    world.Move(who);
    if (testing::Test::HasFatalFailure()) return 0;
  }
  const std::vector<int> moves = world.Moves();
  if (moves.empty()) {
    EXPECT_FALSE(world.unseen()) << "a wake was lost";
    return 1;
  }
  int64_t paths = 0;
  for (int who : moves) {
    path.push_back(who);
    paths += Explore(wakers, wakes, path);
    path.pop_back();
    if (testing::Test::HasFailure()) return paths;
  }
  return paths;
}

TEST(WorkTest, EveryInterleavingOfThreeWakersAndTwoWorkers) {
  std::vector<int> path;
  EXPECT_GT(Explore(/*wakers=*/3, /*wakes=*/1, path), 100);
  EXPECT_GT(Explore(/*wakers=*/2, /*wakes=*/2, path), 100);
}

// On real threads: each wake publishes a number, and whoever runs last must
// have seen the last of every waker.
TEST(WorkTest, WhatWasDoneBeforeAWakeIsSeenByARun) {
  constexpr int kWakers = 3, kWakes = 20'000;
  struct Item : Work {
    using Work::Work;
    int seen[kWakers] = {};  // Plain: two runs at once would race.
  };
  ReadyQueue queue;
  Item item(queue.slots(), Work::Kind::kSlice);
  std::atomic<int> wakers_left{kWakers};
  std::atomic<int> published[kWakers] = {};
  std::vector<std::thread> threads;
  for (int w = 0; w < kWakers; ++w) {
    threads.emplace_back([&, w] {
      for (int i = 1; i <= kWakes; ++i) {
        published[w].store(i, std::memory_order_relaxed);
        if (item.ClaimByWake()) queue.Push(&item, 0);
      }
      wakers_left.fetch_sub(1);
    });
  }
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&] {
      while (true) {
        const bool last_look = wakers_left.load() == 0;
        auto* popped = static_cast<Item*>(queue.Pop());
        if (popped == nullptr) {
          if (last_look) return;
          continue;
        }
        popped->Begin();
        // Only one worker is here at a time: plain memory is enough.
        for (int w = 0; w < kWakers; ++w) {
          popped->seen[w] = published[w].load(std::memory_order_relaxed);
        }
        if (popped->End()) queue.Push(popped, 0);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  // A worker may have left while another still ran an item that was woken
  // again.
  while (auto* popped = static_cast<Item*>(queue.Pop())) {
    popped->Begin();
    for (int w = 0; w < kWakers; ++w) {
      popped->seen[w] = published[w].load(std::memory_order_relaxed);
    }
    if (popped->End()) queue.Push(popped, 0);
  }
  for (int w = 0; w < kWakers; ++w) EXPECT_EQ(item.seen[w], kWakes);
}

}  // namespace
}  // namespace muster
