// Does the explorer find bugs?  Copies of the queue, each with one sown in.
//
// The first three are pushes whose item stays hidden, the others what keeps the
// hint a lower bound, and the order.
#include <string>

#include "absl/strings/str_format.h"
#include "gtest/gtest.h"
#include "tests/interleaving/announcement_ignored/bucket_queue.h"
#include "tests/interleaving/clear_without_snapshot/bucket_queue.h"
#include "tests/interleaving/explorer.h"
#include "tests/interleaving/known_before_the_stamp/bucket_queue.h"
#include "tests/interleaving/no_second_look/bucket_queue.h"
#include "tests/interleaving/queue_programs.h"
#include "tests/interleaving/queue_suite.h"
#include "tests/interleaving/raise_unannounced/bucket_queue.h"
#include "tests/interleaving/stamp_before_link/bucket_queue.h"

namespace muster {
namespace {

template <typename Queue>
void ExpectFound(const char* bug) {
  int64_t executions = 0;
  for (int which : {2, 8, 7, 4, 3, 5}) {
    const Suite suite = MakeSuite(which);
    for (const auto& setup : suite.setups) {
      const Explorer::Result result = RunSetup<Queue>(setup, suite.limits);
      executions += result.executions;
      if (result.failure.empty()) continue;
      absl::PrintF("TABLE %-30s %-28s %9d executions: %s: %s\n", bug,
                   result.failure, executions, suite.name, setup.name);
      return;
    }
  }
  ADD_FAILURE() << bug << " was not found in " << executions << " executions";
}

TEST(QueueBugsTest, StampBeforeLink) {
  ExpectFound<stamp_before_link::BucketQueue<CheckedPolicy>>(
      "stamp_before_link");
}

TEST(QueueBugsTest, ClearWithoutSnapshot) {
  ExpectFound<clear_without_snapshot::BucketQueue<CheckedPolicy>>(
      "clear_without_snapshot");
}

TEST(QueueBugsTest, KnownBeforeTheStamp) {
  ExpectFound<known_before_the_stamp::BucketQueue<CheckedPolicy>>(
      "known_before_the_stamp");
}

TEST(QueueBugsTest, RaiseUnannounced) {
  ExpectFound<raise_unannounced::BucketQueue<CheckedPolicy>>(
      "raise_unannounced");
}

TEST(QueueBugsTest, AnnouncementIgnored) {
  ExpectFound<announcement_ignored::BucketQueue<CheckedPolicy>>(
      "announcement_ignored");
}

TEST(QueueBugsTest, NoSecondLook) {
  ExpectFound<no_second_look::BucketQueue<CheckedPolicy>>("no_second_look");
}

}  // namespace
}  // namespace muster
