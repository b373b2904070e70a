// Is every memory order needed, and would a test tell?
//
// Each is weakened in turn and the programs explored until one fails.  The
// table that this prints says which program it was, and how.
#include <atomic>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "engine/schedule/bucket_queue.h"
#include "gtest/gtest.h"
#include "tests/interleaving/explorer.h"
#include "tests/interleaving/queue_programs.h"
#include "tests/interleaving/queue_suite.h"

namespace muster {
namespace {

struct Mutant {
  QueueEdge edge;
  const char* name;
  std::memory_order order;
  const char* order_name;
};

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr auto kAcquire = std::memory_order_acquire;
constexpr auto kRelease = std::memory_order_release;
constexpr auto kAcqRel = std::memory_order_acq_rel;

// Each order by one step, and on.
const Mutant kMutants[] = {
    {QueueEdge::kLink, "(1) link", kRelease, "release"},
    {QueueEdge::kLink, "(1) link", kAcquire, "acquire"},
    {QueueEdge::kLink, "(1) link", kRelaxed, "relaxed"},
    {QueueEdge::kHeadLoad, "(2) head load", kRelaxed, "relaxed"},
    {QueueEdge::kStamp, "(3) stamp", kAcqRel, "acq_rel"},
    {QueueEdge::kStamp, "(3) stamp", kRelease, "release"},
    {QueueEdge::kStamp, "(3) stamp", kAcquire, "acquire"},
    {QueueEdge::kStamp, "(3) stamp", kRelaxed, "relaxed"},
    {QueueEdge::kWordLoad, "(4) word load", kAcquire, "acquire"},
    {QueueEdge::kWordLoad, "(4) word load", kRelaxed, "relaxed"},
    {QueueEdge::kKnownAbove, "(5) known above", kRelaxed, "relaxed"},
    {QueueEdge::kParentLoad, "(6) parent load", kRelaxed, "relaxed"},
    {QueueEdge::kHintLoad, "(7) hint load", kAcquire, "acquire"},
    {QueueEdge::kHintLoad, "(7) hint load", kRelaxed, "relaxed"},
    {QueueEdge::kHintLower, "(8) hint lower", kAcqRel, "acq_rel"},
    {QueueEdge::kHintLower, "(8) hint lower", kRelaxed, "relaxed"},
    {QueueEdge::kHintAnnounce, "(9) announce", kAcqRel, "acq_rel"},
    {QueueEdge::kHintAnnounce, "(9) announce", kRelaxed, "relaxed"},
    {QueueEdge::kWindowLoad, "(10) time load", kAcquire, "acquire"},
    {QueueEdge::kWindowLoad, "(10) time load", kRelaxed, "relaxed"},
    {QueueEdge::kWindowRaise, "(11) time raise", kAcqRel, "acq_rel"},
    {QueueEdge::kWindowRaise, "(11) time raise", kRelaxed, "relaxed"},
    {QueueEdge::kNodeStore, "(12) node store", kRelaxed, "relaxed"},
    {QueueEdge::kNodeLoad, "(13) node load", kRelaxed, "relaxed"},
};

TEST(MutantsTest, AreOfEveryEdge) {
  for (int edge = 0; edge <= static_cast<int>(QueueEdge::kNodeLoad); ++edge) {
    bool any = false;
    for (const Mutant& mutant : kMutants) {
      any |= static_cast<int>(mutant.edge) == edge;
    }
    EXPECT_TRUE(any) << edge;
  }
}

class MutationTest : public testing::TestWithParam<Mutant> {};
INSTANTIATE_TEST_SUITE_P(, MutationTest, testing::ValuesIn(kMutants));

TEST_P(MutationTest, IsCaught) {
  const Mutant& mutant = GetParam();
  const int edge = static_cast<int>(mutant.edge);
  g_weakened[edge] = true;
  g_weaker[edge] = mutant.order;
  // Those in which loads return older values.
  const Catch caught = Hunt<BucketQueue<CheckedPolicy>>({2, 11, 7});
  g_weakened[edge] = false;
  absl::PrintF("TABLE %-15s %-8s %-26s %s\n", mutant.name, mutant.order_name,
               caught.result.failure,
               caught.program.empty() ? "not caught" : caught.program);
  EXPECT_FALSE(caught.program.empty())
      << "not caught in " << caught.executions << " executions";
}

}  // namespace
}  // namespace muster
