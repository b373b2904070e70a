// The engine over its journal in a folder: what is there after a restart, and
// that the folder does not grow without end.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/journal/rocksdb/rocksdb_journal.h"
#include "engine/model/json.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

// The machine's clocks, but for steps of the wall clock.
class SteppedClock : public Clock {
 public:
  absl::Time Now() override { return Clock::Real().Now() + step; }
  absl::Duration Monotonic() override { return Clock::Real().Monotonic(); }
  absl::Duration step = absl::ZeroDuration();  // Not while an engine runs.
};

class EngineDisk : public testing::Test {
 protected:
  EngineDisk() {
    directory_ = absl::StrCat(
        std::getenv("TEST_TMPDIR"), "/",
        testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(directory_);
    Start();
  }

  void Start() {
    absl::StatusOr<std::unique_ptr<RocksDbJournal>> journal =
        RocksDbJournal::Open({.directory = directory_, .partition_count = 2});
    ASSERT_TRUE(journal.ok()) << journal.status();
    journal_ = *std::move(journal);
    EngineOptions options;
    options.clock = &clock_;
    options.journal = journal_.get();
    options.snapshot_after_bytes = 64 << 10;
    absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Create(options);
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
  }
  void Restart() {
    engine_.reset();
    journal_.reset();
    Start();
  }
  void AddTwins(int count) {
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(
          engine_->UpsertTwin(absl::StrCat(R"({"deviceId":"d)", i, "\"}"))
              .ok());
    }
  }
  // A job that patches every twin, and its end.
  void Update(const std::string& id, int value) {
    JobRequest job;
    job.job_id = id;
    job.query_condition = "*";
    TwinUpdateAction update;
    update.patch.tags = *ParseJson(absl::StrCat(R"({"n":)", value, "}"));
    job.action = std::move(update);
    ASSERT_TRUE(engine_->CreateJob(job).ok());
    const absl::StatusOr<JobInfo> ended =
        engine_->WaitJob(id, absl::Seconds(30));
    ASSERT_TRUE(ended.ok()) << ended.status();
    EXPECT_EQ(ended->statistics->succeeded_count, engine_->Stats().twins);
  }
  // Until it is true, or long.
  static bool Soon(absl::FunctionRef<bool()> is) {
    for (int i = 0; i < 30'000 && !is(); ++i) {
      absl::SleepFor(absl::Milliseconds(1));
    }
    return is();
  }

  std::string directory_;
  SteppedClock clock_;
  std::unique_ptr<RocksDbJournal> journal_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(EngineDisk, ComesBack) {
  AddTwins(300);
  Update("a", 1);
  const std::string twin = JsonText(engine_->GetTwin("d7")->document.view());
  const JobInfo job = *engine_->GetJob("a");
  for (int round = 0; round < 2; ++round) {
    Restart();
    EXPECT_EQ(engine_->Stats().twins, 300);
    EXPECT_EQ(JsonText(engine_->GetTwin("d7")->document.view()), twin);
    EXPECT_EQ(engine_->GetJob("a")->statistics, job.statistics);
    EXPECT_EQ(engine_->GetJob("a")->end_time, job.end_time);
    // By its snapshot alone, the next time.
    ASSERT_TRUE(engine_->WriteSnapshots().ok());
  }
}

TEST_F(EngineDisk, OnlyOneEngineAtATime) {
  const auto second = RocksDbJournal::Open({.directory = directory_});
  EXPECT_TRUE(absl::IsFailedPrecondition(second.status())) << second.status();
}

// What is written over and over takes the disk once: snapshots let chunks go,
// and the ends of histories let jobs go.
TEST_F(EngineDisk, TheFolderStaysSmall) {
  AddTwins(200);
  const std::string text(3000, 'x');
  int64_t most = 0;
  for (int i = 0; i < 1500; ++i) {
    ASSERT_TRUE(engine_
                    ->PatchTwin(absl::StrCat("d", i % 200),
                                absl::StrCat(R"({"tags":{"t":")", i, text,
                                             R"(","u":")", text, R"("}})"))
                    .ok());
    if (i % 100 == 0) most = std::max(most, engine_->Stats().disk_bytes);
  }
  EXPECT_GT(engine_->Stats().snapshots, 4);
  EXPECT_EQ(engine_->Stats().snapshots_failed, 0);
  EXPECT_GT(engine_->Stats().journal_bytes, 6'000'000);
  // The log alone may keep what the adapter says.
  EXPECT_LT(most, RocksDbJournal::kTrimmedBytesMax + 8'000'000);

  Update("a", 1);
  clock_.step = absl::Hours(24 * 31);
  Restart();
  EXPECT_FALSE(engine_->GetJob("a").ok());
  EXPECT_TRUE(Soon([&] { return engine_->Stats().snapshots > 0; }));
  Restart();
  EXPECT_FALSE(engine_->GetJob("a").ok());
  EXPECT_EQ(engine_->Stats().twins, 200);
}

}  // namespace
}  // namespace muster
