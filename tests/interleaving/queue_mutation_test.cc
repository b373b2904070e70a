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
  // Whether a program fails.  If not, the order stands on an argument only: the
  // model ties the one order of SC operations to that in which they run.
  bool caught;
};

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr auto kAcquire = std::memory_order_acquire;
constexpr auto kRelease = std::memory_order_release;
constexpr auto kAcqRel = std::memory_order_acq_rel;

const Mutant kMutants[] = {
    {QueueEdge::kLink, "(1) link", kRelaxed, "relaxed", true},
    {QueueEdge::kLink, "(1) link", kAcquire, "acquire", true},
    {QueueEdge::kLink, "(1) link", kRelease, "release", false},
    {QueueEdge::kLink, "(1) link", kAcqRel, "acq_rel", false},
    {QueueEdge::kHeadLoad, "(2) head load", kRelaxed, "relaxed", true},
    {QueueEdge::kHeadLoad, "(2) head load", kAcquire, "acquire", false},
    {QueueEdge::kStamp, "(3) stamp", kRelaxed, "relaxed", true},
    {QueueEdge::kStamp, "(3) stamp", kAcquire, "acquire", true},
    {QueueEdge::kStamp, "(3) stamp", kRelease, "release", true},
    {QueueEdge::kStamp, "(3) stamp", kAcqRel, "acq_rel", true},
    {QueueEdge::kWordLoad, "(4) word load", kRelaxed, "relaxed", true},
    {QueueEdge::kWordLoad, "(4) word load", kAcquire, "acquire", true},
    {QueueEdge::kKnownAbove, "(5) known above", kRelaxed, "relaxed", false},
    {QueueEdge::kParentLoad, "(6) parent load", kRelaxed, "relaxed", true},
    {QueueEdge::kHintLoad, "(7) hint load", kRelaxed, "relaxed", true},
    {QueueEdge::kHintLoad, "(7) hint load", kAcquire, "acquire", true},
    {QueueEdge::kHintLower, "(8) hint lower", kRelaxed, "relaxed", true},
    {QueueEdge::kHintLower, "(8) hint lower", kAcqRel, "acq_rel", true},
    {QueueEdge::kHintAnnounce, "(9) announce", kRelaxed, "relaxed", true},
    {QueueEdge::kHintAnnounce, "(9) announce", kAcqRel, "acq_rel", true},
    {QueueEdge::kHintRaise, "(10) raise", kRelaxed, "relaxed", false},
    {QueueEdge::kHintRaise, "(10) raise", kAcqRel, "acq_rel", false},
    {QueueEdge::kWindowLoad, "(11) time load", kRelaxed, "relaxed", false},
    {QueueEdge::kWindowLoad, "(11) time load", kAcquire, "acquire", false},
    {QueueEdge::kWindowRaise, "(12) time raise", kRelaxed, "relaxed", false},
    {QueueEdge::kWindowRaise, "(12) time raise", kAcqRel, "acq_rel", false},
    {QueueEdge::kNodeStore, "(13) node store", kRelaxed, "relaxed", true},
    {QueueEdge::kNodeLoad, "(14) node load", kRelaxed, "relaxed", true},
};

class MutationTest : public testing::TestWithParam<Mutant> {};
INSTANTIATE_TEST_SUITE_P(, MutationTest, testing::ValuesIn(kMutants));

TEST_P(MutationTest, IsCaught) {
  const Mutant& mutant = GetParam();
  const int edge = static_cast<int>(mutant.edge);
  g_weakened[edge] = true;
  g_weaker[edge] = mutant.order;
  std::string caught = "not caught", failure;
  for (int which : {2, 7, 3}) {
    const Suite suite = MakeSuite(which);
    for (const auto& setup : suite.setups) {
      const Explorer::Result result =
          RunSetup<BucketQueue<CheckedPolicy>>(setup, suite.limits);
      if (result.failure.empty()) continue;
      caught = suite.name + ": " + setup.name;
      failure = result.failure;
      break;
    }
    if (!failure.empty()) break;
  }
  g_weakened[edge] = false;
  absl::PrintF("TABLE %-16s %-8s %-30s %s\n", mutant.name, mutant.order_name,
               failure, caught);
  EXPECT_EQ(!failure.empty(), mutant.caught);
}

}  // namespace
}  // namespace muster
