// What people see while they wait.
#include "server/progress.h"

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/job_watch.h"
#include "server/text.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

using Mode = ProgressLine::Mode;

Progress Half() {
  Progress progress;
  progress.label = "reboot";
  progress.done = 500'000;
  progress.total = 1'000'000;
  progress.rate = 250'000;
  progress.detail = "ok 499,000  failed 1,000";
  return progress;
}

TEST(FormatProgressTest, OneLineWithAllOfIt) {
  EXPECT_EQ(FormatProgress(Half(), 160),
            "reboot  [###############---------------]  50%  "
            "500,000 of 1,000,000  ok 499,000  failed 1,000  250 k/s  "
            "0:02 left");
}

TEST(FormatProgressTest, GivesUpTheLeastImportantInNarrowTerminals) {
  Progress progress = Half();
  progress.short_detail = "ok 499k";
  EXPECT_EQ(FormatProgress(progress, 79),
            "reboot  [#####-----]  50%  ok 499k  250 k/s  0:02 left");
  EXPECT_EQ(FormatProgress(progress, 50),
            "reboot  [#####-----]  50%  ok 499k  0:02 left");
  EXPECT_EQ(FormatProgress(progress, 40), "reboot  [#####-----]  50%  ok 499k");
  progress.short_detail.clear();
  EXPECT_EQ(FormatProgress(progress, 79),
            "reboot  [#####-----]  50%  500,000 of 1,000,000  250 k/s  "
            "0:02 left");
  EXPECT_EQ(FormatProgress(progress, 60),
            "reboot  50%  500,000 of 1,000,000  250 k/s  0:02 left");
  for (int width = 1; width < 200; ++width) {
    EXPECT_LE(ColumnsOf(FormatProgress(progress, width)), width);
    EXPECT_LE(ColumnsOf(FormatProgress(Half(), width)), width);
  }
}

TEST(FormatProgressTest, AHundredPercentIsAll) {
  Progress progress = Half();
  progress.done = 999'999;
  EXPECT_THAT(FormatProgress(progress, 160), HasSubstr(" 99% "));
  progress.done = 1'000'000;
  EXPECT_THAT(FormatProgress(progress, 160), HasSubstr(" 100% "));
  EXPECT_THAT(FormatProgress(progress, 160), Not(HasSubstr("left")));
  progress.done = 2'000'000;  // More than was announced.
  EXPECT_THAT(FormatProgress(progress, 160), HasSubstr(" 100% "));
}

TEST(FormatProgressTest, WithoutATotalThereIsNoBar) {
  Progress progress;
  progress.label = "loading";
  progress.done = 1234;
  EXPECT_EQ(FormatProgress(progress, 80), "loading  1,234");
  progress.total = 0;
  EXPECT_EQ(FormatProgress(progress, 80), "loading  1,234 of 0");
}

TEST(RateMeterTest, FollowsTheLastSeconds) {
  RateMeter meter(absl::Seconds(4));
  EXPECT_LT(meter.Add(absl::ZeroDuration(), 0), 0);
  EXPECT_LT(meter.Add(absl::Milliseconds(1), 100), 0);  // Too little to tell.
  EXPECT_DOUBLE_EQ(meter.Add(absl::Seconds(1), 1000), 1000);
  for (int second = 2; second <= 20; ++second) {
    meter.Add(absl::Seconds(second), 1000);
  }
  EXPECT_DOUBLE_EQ(meter.Add(absl::Seconds(21), 1000), 0);
}

// What a ProgressLine wrote, piece by piece.
class ProgressLineTest : public ::testing::Test {
 protected:
  ProgressLine::Write Writer() {
    return [this](absl::string_view text) { written_.emplace_back(text); };
  }
  static Progress Done(int64_t done) {
    Progress progress;
    progress.label = "x";
    progress.done = done;
    return progress;
  }

  std::vector<std::string> written_;
};

TEST_F(ProgressLineTest, RewritesOneLineOnATerminal) {
  {
    ProgressLine line(Mode::kTerminal, 80, Writer());
    line.Show(absl::ZeroDuration(), Done(1));
    line.Show(absl::Milliseconds(50), Done(2));  // Too soon.
    line.Show(absl::Milliseconds(100), Done(3));
    line.Note("note");
    line.Show(absl::Milliseconds(101), Done(4));  // At once after a note.
  }
  EXPECT_THAT(written_, ElementsAre("\rx  1\x1b[K", "\rx  3\x1b[K", "\r\x1b[K",
                                    "note\n", "\rx  4\x1b[K", "\r\x1b[K"));
}

TEST_F(ProgressLineTest, WritesPlainLinesElsewhere) {
  {
    ProgressLine line(Mode::kPlain, 80, Writer());
    line.Show(absl::ZeroDuration(), Done(1));
    line.Show(absl::Milliseconds(999), Done(2));
    line.Show(absl::Seconds(1), Done(3));
    line.Show(absl::Seconds(2), Done(3));  // Nothing new ...
    line.Show(absl::Seconds(10), Done(3));
    line.Show(absl::Seconds(11), Done(3));  // ... for ten seconds.
    line.ShowNow(absl::Seconds(11), Done(4));
  }
  EXPECT_THAT(written_, ElementsAre("x  1\n", "x  3\n", "x  3\n", "x  4\n"));
}

TEST_F(ProgressLineTest, IsSilentWhenOff) {
  {
    ProgressLine line(Mode::kOff, 80, Writer());
    line.Show(absl::ZeroDuration(), Done(1));
    line.ShowNow(absl::ZeroDuration(), Done(1));
    line.Note("note");
  }
  EXPECT_THAT(written_, IsEmpty());
}

JobInfo Job(absl::string_view id, JobStatus status) {
  JobInfo job;
  job.job_id = std::string(id);
  job.status = status;
  job.max_execution_time_seconds = 60;
  return job;
}

TEST(ProgressOfJobsTest, AddsUpAllJobs) {
  JobInfo a = Job("a", JobStatus::kCompleted);
  a.statistics = JobStatistics{.device_count = 10, .succeeded_count = 10};
  JobInfo b = Job("b", JobStatus::kRunning);
  b.statistics = JobStatistics{.device_count = 10,
                               .failed_count = 1,
                               .succeeded_count = 2,
                               .running_count = 3,
                               .pending_count = 4};
  const Progress progress = ProgressOfJobs({a, b}, absl::UnixEpoch(), 5, false);
  EXPECT_EQ(progress.label, "1 of 2 jobs");
  EXPECT_EQ(progress.done, 13);
  EXPECT_EQ(progress.total, 20);
  EXPECT_EQ(progress.detail, "ok 12  failed 1  running 3  pending 4");
  EXPECT_EQ(progress.short_detail, "ok 12 fail 1 run 3 wait 4");
  EXPECT_EQ(progress.left, "");
}

TEST(ProgressOfJobsTest, SaysWhenItWaitsForDevices) {
  JobInfo job = Job("a", JobStatus::kRunning);
  job.start_time = job.created_time = absl::FromUnixSeconds(1000);
  job.statistics = JobStatistics{
      .device_count = 10, .succeeded_count = 9, .pending_count = 1};
  const Progress progress =
      ProgressOfJobs({job}, absl::FromUnixSeconds(1015), 0, false);
  EXPECT_EQ(progress.left, "waiting, 0:45 at most");
}

TEST(ProgressOfJobsTest, SaysWhenItWaitsForTheDisk) {
  JobInfo job = Job("a", JobStatus::kRunning);
  job.statistics = JobStatistics{
      .device_count = 10, .succeeded_count = 9, .pending_count = 1};
  const absl::Status full = absl::ResourceExhaustedError("no space left");
  EXPECT_EQ(FormatProgress(
                ProgressOfJobs({job}, absl::UnixEpoch(), 0, false, full), 100),
            "a  [#########-]  90%  9 of 10  ok 9  failed 0  "
            "running 0  pending 1  waiting for the disk");
  job = Job("a", JobStatus::kQueued);
  EXPECT_EQ(ProgressOfJobs({job}, absl::UnixEpoch(), -1, false, full).left,
            "waiting for the disk");
}

TEST(ProgressOfJobsTest, CountsDownToTheNextStart) {
  JobInfo a = Job("a", JobStatus::kScheduled);
  a.start_time = absl::FromUnixSeconds(90);
  JobInfo b = Job("b", JobStatus::kScheduled);
  b.start_time = absl::FromUnixSeconds(75);
  EXPECT_EQ(
      ProgressOfJobs({a, b}, absl::FromUnixSeconds(10), -1, false).figures,
      "b starts in 1:05");
  EXPECT_EQ(ProgressOfJobs({a}, absl::FromUnixSeconds(10), -1, false).figures,
            "starts in 1:20");
}

TEST(TextTest, Figures) {
  EXPECT_EQ(WithCommas(0), "0");
  EXPECT_EQ(WithCommas(999), "999");
  EXPECT_EQ(WithCommas(1000), "1,000");
  EXPECT_EQ(WithCommas(-123456), "-123,456");
  EXPECT_EQ(ShortCount(9'999), "9999");
  EXPECT_EQ(ShortCount(10'000), "10.0k");
  EXPECT_EQ(ShortCount(999'499), "999k");
  EXPECT_EQ(ShortCount(999'500), "1.00M");
  EXPECT_EQ(Counted(1, "device"), "1 device");
  EXPECT_EQ(Counted(1'000'000, "device"), "1,000,000 devices");
  EXPECT_EQ(ShortBytes(17), "17 B");
  EXPECT_EQ(ShortBytes(734'761'974), "734.8 MB");
  EXPECT_EQ(ShortRate(0.5), "0.50/s");
  EXPECT_EQ(ShortRate(999.7), "1.00 k/s");
  EXPECT_EQ(ShortRate(1'234'567), "1.23 M/s");
  EXPECT_EQ(ShortRate(-1), "");
}

TEST(TextTest, Durations) {
  EXPECT_EQ(ShortDuration(absl::Microseconds(850)), "850 us");
  EXPECT_EQ(ShortDuration(absl::Milliseconds(4)), "4.00 ms");
  EXPECT_EQ(ShortDuration(absl::Seconds(1.3249)), "1.32 s");
  EXPECT_EQ(ShortDuration(absl::Seconds(65)), "1:05");
  EXPECT_EQ(ClockDuration(absl::Milliseconds(1)), "0:01");  // Not yet over.
  EXPECT_EQ(ClockDuration(absl::ZeroDuration()), "0:00");
  EXPECT_EQ(ClockDuration(-absl::Seconds(5)), "0:00");
  EXPECT_EQ(ClockDuration(absl::Seconds(7265)), "2:01:05");
  EXPECT_EQ(ClockDuration(absl::Hours(76)), "3 d 4:00:00");
  EXPECT_EQ(ClockDuration(absl::InfiniteDuration()), "forever");
}

}  // namespace
}  // namespace muster
