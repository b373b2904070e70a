// OutcomeList and OutcomePool: what goes in comes out, limits, memory; and on
// real threads.  tests/interleaving has every order of a few steps.
#include <atomic>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/allocation_counter.h"
#include "engine/dispatch/attempt_key.h"
#include "engine/dispatch/outcome_list.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using Pool = OutcomePool<OutcomePolicy>;
using List = OutcomeList<OutcomePolicy>;
using Block = OutcomeBlock<OutcomePolicy>;

// A block of outcomes that count from `first`; of every other one the payload
// is the whole one, of those between all of it but its first byte.
Block* MakeBlock(Pool& pool, int count, int32_t first = 0,
                 absl::string_view payload = "") {
  Block* const block = pool.Take(count);
  for (int i = 0; i < count; ++i) {
    block->Add({.rank = static_cast<uint16_t>(i), .attempt = 5},
               {.status = first + i,
                .payload = i % 2 == 0 || payload.empty() ? payload
                                                         : payload.substr(1)});
  }
  return block;
}

// A sanitizer's allocator is not counted.
bool AllocationsAreCounted() {
  const int64_t before = AllocationCount();
  ::operator delete(::operator new(1));
  return AllocationCount() > before;
}

int GiveBackAll(Pool& pool, Block* block) {
  int count = 0;
  while (block != nullptr) {
    Block* const next = block->next();
    count += static_cast<int>(block->entries().size());
    pool.GiveBack(block);
    block = next;
  }
  return count;
}

TEST(OutcomeBlockTest, KeepsWhatWasReported) {
  Pool pool;
  Block* const block = pool.Take(4);
  block->Add({.rank = 3, .attempt = 1}, {.status = 200, .payload = "{}"});
  block->Add({.rank = 16'383, .attempt = 63}, {.status = -1});
  // Only answers have a payload.
  block->Add({.rank = 4},
             {.code = OutcomeCode::kLinkLost, .payload = "nothing"});
  block->Add({.rank = 5}, {.status = 404, .payload = "[1]"});
  const auto& entries = block->entries();
  ASSERT_EQ(entries.size(), 4u);
  EXPECT_EQ(entries[0].rank, 3);
  EXPECT_EQ(entries[0].attempt, 1);
  EXPECT_EQ(entries[0].status, 200);
  EXPECT_EQ(entries[0].payload_size, 2u);
  EXPECT_EQ(entries[1].rank, 16'383);
  EXPECT_EQ(entries[1].attempt, 63);
  EXPECT_EQ(entries[1].status, -1);
  EXPECT_EQ(entries[2].code, OutcomeCode::kLinkLost);
  EXPECT_EQ(entries[2].payload_size, 0u);
  EXPECT_EQ(block->payloads(), "{}[1]");
  pool.GiveBack(block);
}

TEST(OutcomeBlockTest, AnAnswerThatIsTooLargeIsNotKept) {
  Pool pool;
  const std::string most(kMethodPayloadSizeMax, '1');
  const std::string more = most + "1";
  Block* const block = pool.Take(2);
  block->Add({}, {.payload = most});
  block->Add({}, {.payload = more});
  EXPECT_EQ(block->entries()[0].code, OutcomeCode::kAnswered);
  EXPECT_EQ(block->entries()[1].code, OutcomeCode::kResponseTooLarge);
  EXPECT_EQ(block->payloads().size(), most.size());
  pool.GiveBack(block);
}

TEST(OutcomeBlockTest, APayloadThatManyShareIsKeptOnce) {
  Pool pool;
  const std::string shared(kMethodPayloadSizeMax, '1');
  const std::string equal = shared;
  Block* block = pool.Take(kOutcomesPerBlock);
  for (int i = 0; i < kOutcomesPerBlock - 3; ++i) {
    block->Add({}, {.payload = shared});
  }
  EXPECT_EQ(block->payloads().size(), shared.size());
  EXPECT_EQ(block->entries()[0].payload_size, shared.size());
  EXPECT_EQ(block->entries()[1].payload_size, kSamePayload);
  EXPECT_EQ(block->weight(), kOutcomesPerBlock - 3u);
  // A part of it is another one, and so is an equal one elsewhere.
  block->Add({}, {.payload = absl::string_view(shared).substr(0, 5)});
  block->Add({}, {.payload = shared});
  block->Add({}, {.payload = equal});
  EXPECT_EQ(block->payloads().size(), 3 * shared.size() + 5);
  pool.GiveBack(block);
  // What the next owner adds has nothing to do with it.
  block = pool.Take(1);
  block->Add({}, {.payload = equal});
  EXPECT_EQ(block->entries()[0].payload_size, equal.size());
  pool.GiveBack(block);
}

TEST(OutcomeListTest, HoldsSoManyBytesAndNoMore) {
  auto pool = std::make_shared<Pool>();
  List list(pool);
  const std::string most(kMethodPayloadSizeMax, '7');
  for (size_t bytes = 0; bytes < kOutcomeBytesQueuedMax;
       bytes += kOutcomesPerBlock * most.size()) {
    ASSERT_TRUE(list.Push(MakeBlock(*pool, kOutcomesPerBlock, 0, most)));
  }
  Block* const more = MakeBlock(*pool, 1, 0, "7");
  EXPECT_FALSE(list.Push(more));
  EXPECT_EQ(GiveBackAll(*pool, list.TakeAll()),
            static_cast<int>(kOutcomeBytesQueuedMax / most.size()));
  EXPECT_TRUE(list.Push(more));
}

TEST(OutcomeListTest, TakesInTheOrderOfPushes) {
  auto pool = std::make_shared<Pool>();
  List list(pool);
  EXPECT_EQ(list.TakeAll(), nullptr);
  for (int32_t i = 0; i < 5; ++i) {
    ASSERT_TRUE(list.Push(MakeBlock(*pool, 2, 2 * i)));
  }
  Block* const first = list.TakeAll();
  int32_t expected = 0;
  for (Block* block = first; block != nullptr; block = block->next()) {
    for (const OutcomeEntry& entry : block->entries()) {
      EXPECT_EQ(entry.status, expected++);
    }
  }
  EXPECT_EQ(expected, 10);
  EXPECT_EQ(GiveBackAll(*pool, first), 10);
  EXPECT_EQ(list.TakeAll(), nullptr);
}

TEST(OutcomeListTest, HoldsSoManyAndNoMore) {
  auto pool = std::make_shared<Pool>();
  List list(pool);
  constexpr int kFull = kOutcomesQueuedMax / kOutcomesPerBlock;
  for (int i = 0; i < kFull - 1; ++i) {
    ASSERT_TRUE(list.Push(MakeBlock(*pool, kOutcomesPerBlock)));
  }
  ASSERT_TRUE(list.Push(MakeBlock(*pool, kOutcomesPerBlock - 1)));
  Block* const two = MakeBlock(*pool, 2);
  EXPECT_FALSE(list.Push(two));
  ASSERT_TRUE(list.Push(MakeBlock(*pool, 1)));
  Block* const one = MakeBlock(*pool, 1);
  EXPECT_FALSE(list.Push(one));
  EXPECT_EQ(GiveBackAll(*pool, list.TakeAll()),
            static_cast<int>(kOutcomesQueuedMax));
  EXPECT_TRUE(list.Push(one));
  EXPECT_TRUE(list.Push(two));
}

TEST(OutcomeListTest, WhatIsNeverTakenGoesBackToThePool) {
  auto pool = std::make_shared<Pool>();
  {
    List list(pool);
    for (int i = 0; i < kOutcomeBlocksKept; ++i) {
      ASSERT_TRUE(list.Push(MakeBlock(*pool, 1)));
    }
    Block* const extra = pool->Take(1);
    EXPECT_FALSE(extra->kept());
    pool->GiveBack(extra);
  }
  Block* const block = pool->Take(1);
  EXPECT_TRUE(block->kept());
  pool->GiveBack(block);
  EXPECT_EQ(pool->kept(), kOutcomeBlocksKept);
}

TEST(OutcomePoolTest, KeepsItsBlocksAndNoOthers) {
  if (!AllocationsAreCounted()) GTEST_SKIP();
  Pool pool;
  const int64_t before = AllocatedBytes();
  constexpr int kMore = 1'000;
  std::vector<Block*> blocks;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < kOutcomeBlocksKept + kMore; ++i) {
      blocks.push_back(MakeBlock(pool, kOutcomesPerBlock));
      EXPECT_EQ(blocks.back()->kept(), i < kOutcomeBlocksKept);
    }
    for (Block* block : blocks) pool.GiveBack(block);
    blocks.clear();
    EXPECT_EQ(pool.kept(), kOutcomeBlocksKept);
  }
  blocks.shrink_to_fit();
  EXPECT_LE(AllocatedBytes() - before, kOutcomeBlocksKept * 4'000);
}

TEST(OutcomePoolTest, AllocatesNothingOnceItHasItsBlocks) {
  if (!AllocationsAreCounted()) GTEST_SKIP();
  auto pool = std::make_shared<Pool>();
  List list(pool);
  const std::string payload(kOutcomePayloadKept / kOutcomesPerBlock, '7');
  int64_t before = 0;
  for (int round = 0; round < 100; ++round) {
    if (round == 2) before = AllocationCount();
    for (int i = 0; i < 10; ++i) {
      ASSERT_TRUE(list.Push(MakeBlock(*pool, kOutcomesPerBlock, 0, payload)));
    }
    GiveBackAll(*pool, list.TakeAll());
  }
  EXPECT_EQ(AllocationCount() - before, 0);
}

TEST(OutcomePoolTest, HoardsNoHugePayloads) {
  if (!AllocationsAreCounted()) GTEST_SKIP();
  Pool pool;
  const std::string payload(kMethodPayloadSizeMax, '7');
  pool.GiveBack(MakeBlock(pool, kOutcomesPerBlock));
  const int64_t before = AllocatedBytes();
  Block* const block = MakeBlock(pool, kOutcomesPerBlock, 0, payload);
  EXPECT_GE(AllocatedBytes() - before, kOutcomesPerBlock * 128 * 1024);
  pool.GiveBack(block);
  EXPECT_LE(AllocatedBytes() - before,
            static_cast<int64_t>(kOutcomePayloadKept));
}

// Several transports' threads and one worker.  Each outcome accuses whoever
// takes it twice, out of its thread's order, or torn.  Blocks' fields are
// plain: under ThreadSanitizer a missing edge is a race.
TEST(OutcomeListTest, ManyThreadsPushAndOneTakes) {
  constexpr int kThreads = 4, kBlocks = 10'000;
  auto pool = std::make_shared<Pool>();
  List list(pool);
  std::atomic<int> running{kThreads};
  std::vector<int64_t> refused(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      int32_t number = 0;
      std::vector<std::string> payloads(kOutcomesPerBlock);
      for (int i = 0; i < kBlocks; ++i) {
        const int count = 1 + (i * 37 + t) % kOutcomesPerBlock / (i % 7 + 1);
        Block* const block = pool->Take(count);
        ASSERT_TRUE(block->entries().empty());
        for (int k = 0; k < count; ++k) {
          payloads[k] = absl::StrCat(t, ":", number);
          block->Add({.rank = static_cast<uint16_t>(t)},
                     {.status = number++, .payload = payloads[k]});
        }
        if (!list.Push(block)) {
          refused[t] += count;
          pool->GiveBack(block);
        }
      }
      running.fetch_sub(1);
    });
  }
  std::vector<int64_t> taken(kThreads), missed(kThreads);
  std::vector<int32_t> next(kThreads);
  bool last = false;
  while (!last) {
    last = running.load() == 0;
    Block* const first = list.TakeAll();
    int64_t found = 0;
    for (Block* block = first; block != nullptr; block = block->next()) {
      absl::string_view payloads = block->payloads();
      for (const OutcomeEntry& entry : block->entries()) {
        const int t = entry.rank;
        ASSERT_EQ(payloads.substr(0, entry.payload_size),
                  absl::StrCat(t, ":", entry.status));
        payloads.remove_prefix(entry.payload_size);
        ASSERT_GE(entry.status, next[t]) << "twice, or out of order";
        missed[t] += entry.status - next[t];
        next[t] = entry.status + 1;
        ++taken[t];
        ++found;
      }
    }
    ASSERT_LE(found, kOutcomesQueuedMax);
    GiveBackAll(*pool, first);
  }
  for (std::thread& thread : threads) thread.join();
  for (int t = 0; t < kThreads; ++t) {
    EXPECT_LE(missed[t], refused[t]);
    int64_t pushed = 0;
    for (int i = 0; i < kBlocks; ++i) {
      pushed += 1 + (i * 37 + t) % kOutcomesPerBlock / (i % 7 + 1);
    }
    EXPECT_EQ(taken[t] + refused[t], pushed);
  }
}

}  // namespace
}  // namespace muster
