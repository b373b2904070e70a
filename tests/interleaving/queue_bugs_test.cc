// Does the explorer find bugs?  Copies of the queue, each with one sown in.
//
#include <cstdint>
#include <string>

#include "absl/strings/str_format.h"
#include "gtest/gtest.h"
#include "tests/interleaving/announcement_ignored/bucket_queue.h"
#include "tests/interleaving/behind_the_hint/bucket_queue.h"
#include "tests/interleaving/clear_without_snapshot/bucket_queue.h"
#include "tests/interleaving/explorer.h"
#include "tests/interleaving/known_before_the_stamp/bucket_queue.h"
#include "tests/interleaving/known_stays/bucket_queue.h"
#include "tests/interleaving/near_wrap/bucket_queue.h"
#include "tests/interleaving/no_second_look/bucket_queue.h"
#include "tests/interleaving/queue_programs.h"
#include "tests/interleaving/queue_suite.h"
#include "tests/interleaving/raise_unannounced/bucket_queue.h"
#include "tests/interleaving/recycled_node_is_empty/bucket_queue.h"
#include "tests/interleaving/recycled_node_raises/bucket_queue.h"
#include "tests/interleaving/stamp_before_link/bucket_queue.h"
#include "tests/interleaving/tag_not_changed/bucket_queue.h"
#include "tests/interleaving/upper_stamp_if_empty/bucket_queue.h"

namespace muster {
namespace {

template <typename Queue>
void ExpectFound(const char* bug) {
  const Catch caught = Hunt<Queue>({9, 10, 11, 2, 8});
  absl::PrintF("TABLE %-24s %-26s %7d executions: %s\n", bug,
               caught.result.failure, caught.executions, caught.program);
  EXPECT_FALSE(caught.program.empty())
      << bug << " was not found in " << caught.executions << " executions";
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

TEST(QueueBugsTest, TagNotChanged) {
  ExpectFound<tag_not_changed::BucketQueue<CheckedPolicy>>("tag_not_changed");
}

TEST(QueueBugsTest, RecycledNodeIsEmpty) {
  ExpectFound<recycled_node_is_empty::BucketQueue<CheckedPolicy>>(
      "recycled_node_is_empty");
}

TEST(QueueBugsTest, RecycledNodeRaises) {
  ExpectFound<recycled_node_raises::BucketQueue<CheckedPolicy>>(
      "recycled_node_raises");
}

TEST(QueueBugsTest, UpperStampIfEmpty) {
  ExpectFound<upper_stamp_if_empty::BucketQueue<CheckedPolicy>>(
      "upper_stamp_if_empty");
}

TEST(QueueBugsTest, KnownStays) {
  ExpectFound<known_stays::BucketQueue<CheckedPolicy>>("known_stays");
}

TEST(QueueBugsTest, BehindTheHint) {
  ExpectFound<behind_the_hint::BucketQueue<CheckedPolicy>>("behind_the_hint");
}

// Not a bug: all tags and stamps begin where the second change makes them wrap.
TEST(QueueBugsTest, WrapIsClean) {
  const Catch caught =
      Hunt<near_wrap::BucketQueue<CheckedPolicy>>({9, 10, 11, 2});
  EXPECT_EQ(caught.program, "") << caught.result.failure;
}

}  // namespace
}  // namespace muster
