// The engine on a disk that is full or fails, under load: the process goes on,
// Health() says why, changes are refused and reads are not, it goes on by
// itself once the disk does, and what was acknowledged is there.
#include <stdlib.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/journal/rocksdb/rocksdb_journal.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/json.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "gtest/gtest.h"
#include "tests/disk_faults.h"
#include "transport/loopback/loopback.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

constexpr int kCallers = 3;
constexpr int kDevices = 60;

struct Fault {
  const char* name;
  int error_number;
  DiskFaults::Calls which;
  absl::StatusCode code;  // What Health() says.
};

class EngineDiskFaults : public testing::TestWithParam<Fault> {
 protected:
  EngineDiskFaults() : seed_(std::random_device()()) {
    std::cerr << "seed " << seed_ << "\n";
    std::string path = absl::StrCat(::testing::TempDir(), "/faults.XXXXXX");
    MUSTER_CHECK(mkdtemp(path.data()) != nullptr);
    root_ = fs::canonical(path);
    Open();
    for (int i = 0; i < kDevices; ++i) {
      EXPECT_TRUE(
          engine_
              ->UpsertTwin(absl::StrCat(R"({"deviceId":")", Device(i),
                                        R"(","tags":{"slot":)", i, "}}"))
              .ok());
    }
    // Devices that are connected already are reported when it opens.
    Close();
    Open();
  }
  ~EngineDiskFaults() override {
    DiskFaults::Disarm();
    Close();
    fs::remove_all(root_);
  }

  static std::string Device(int i) { return absl::StrCat("d", i); }

  void Open() {
    auto journal = RocksDbJournal::Open(
        {.directory = root_ + "/data", .partition_count = 4});
    ASSERT_TRUE(journal.ok()) << journal.status();
    journal_ = *std::move(journal);
    devices_ = *LoopbackTransport::Create({.answer_unknown = false},
                                          &Clock::Real(), executor_.get());
    for (int i = 0; i < kDevices; ++i) devices_->AddDevices({Device(i)}, true);
    devices_->SetHandler("", [this](const LoopbackCall& call) {
      absl::MutexLock lock(&mutex_);
      EXPECT_TRUE(
          called_.insert(absl::StrCat(call.payload, " ", call.device_id))
              .second)
          << "called twice: " << call.payload << " " << call.device_id;
      return LoopbackReply{.payload = "1"};
    });
    auto engine = Engine::Create({.transport = devices_.get(),
                                  .threads = 2,
                                  .journal = journal_.get(),
                                  .snapshot_after_bytes = 8 << 10,
                                  .range_rows_max = 8});
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
  }
  void Close() {
    engine_ = nullptr;
    devices_ = nullptr;
    journal_ = nullptr;
  }

  void StartLoad() {
    stop_ = false;
    for (int i = 0; i < kCallers; ++i) {
      callers_.emplace_back([this, i] { Call(i); });
    }
  }
  void StopLoad() {
    stop_ = true;
    for (std::thread& caller : callers_) caller.join();
    callers_.clear();
  }

  void Fail(int64_t first, int64_t last) {
    DiskFaults::Arm(root_, GetParam().error_number, first, last,
                    GetParam().which);
  }

  // Whether it is so within a time that is long enough for all retries.
  static bool Soon(absl::FunctionRef<bool()> is) {
    const absl::Time end = absl::Now() + absl::Seconds(30);
    while (!is()) {
      if (absl::Now() > end) return false;
      absl::SleepFor(absl::Milliseconds(1));
    }
    return true;
  }

  // Reads of all kinds go well.
  void Read() {
    EXPECT_TRUE(engine_->GetTwin("d3").ok());
    const auto page = engine_->Query("SELECT * FROM devices");
    ASSERT_TRUE(page.ok()) << page.status();
    EXPECT_EQ(page->rows.size(), kDevices);
    const auto jobs = engine_->ListJobs({}, 1'000'000);
    ASSERT_TRUE(jobs.ok()) << jobs.status();
    for (const JobInfo& job : jobs->jobs) {
      if (!job.statistics.has_value()) continue;
      const JobStatistics& s = *job.statistics;
      EXPECT_EQ(s.device_count, s.failed_count + s.succeeded_count +
                                    s.running_count + s.pending_count);
      auto& [failed, succeeded] = published_[job.job_id];
      EXPECT_GE(s.failed_count, failed);
      EXPECT_GE(s.succeeded_count, succeeded);
      failed = s.failed_count;
      succeeded = s.succeeded_count;
    }
  }

  // With nobody calling: all that was acknowledged is there.
  void CheckBooks() {
    Read();
    for (int i = 0; i < kDevices; ++i) {
      const auto twin = engine_->GetTwin(Device(i));
      ASSERT_TRUE(twin.ok());
      const JsonView n =
          twin->document.view().Find("properties").Find("desired").Find("n");
      const int64_t is = n.is_integer() ? n.int_value() : 0;
      EXPECT_GE(is, acknowledged_[i]) << Device(i);
      EXPECT_LE(is, asked_[i]) << Device(i);
    }
    absl::MutexLock lock(&mutex_);
    for (const std::string& id : jobs_) {
      EXPECT_TRUE(engine_->GetJob(id).ok()) << id << " is lost";
    }
    for (const std::string& id : cancelled_) {
      EXPECT_EQ(engine_->GetJob(id)->status, JobStatus::kCancelled) << id;
    }
  }

  void AwaitJobs() {
    const auto page = engine_->ListJobs({}, 1'000'000);
    ASSERT_TRUE(page.ok());
    for (const JobInfo& job : page->jobs) {
      if (job.start_time > absl::Now()) continue;
      const auto ended = engine_->WaitJob(job.job_id, absl::Seconds(30));
      ASSERT_TRUE(ended.ok()) << job.job_id << ": " << ended.status();
      EXPECT_EQ(ended->status, JobStatus::kCompleted);
      EXPECT_EQ(
          ended->statistics->device_count,
          ended->statistics->succeeded_count + ended->statistics->failed_count);
    }
  }

  const uint32_t seed_;
  std::string root_;
  std::unique_ptr<RocksDbJournal> journal_;
  std::unique_ptr<Engine> engine_;
  std::atomic<int64_t> refused_{0};
  std::atomic<int64_t> done_{0};

 private:
  void Call(int caller) {
    std::mt19937 random(seed_ * 16 + caller + static_cast<uint32_t>(done_));
    while (!stop_) {
      const auto draw = random() % 8;
      if (draw == 0) {
        CreateJob(random);
      } else {
        Patch(static_cast<int>(random() % (kDevices / kCallers) * kCallers) +
              caller);
      }
    }
  }

  // Counts the answer; true if the change was made.
  bool Done(const absl::Status& status) {
    if (status.ok()) {
      ++done_;
      return true;
    }
    ++refused_;
    EXPECT_EQ(ErrorCodeOf(status), ErrorCode::kServiceUnavailable) << status;
    absl::SleepFor(absl::Milliseconds(1));
    return false;
  }

  void Patch(int device) {
    const int64_t n = ++asked_[device];
    if (Done(engine_
                 ->PatchTwin(Device(device),
                             absl::StrCat(R"({"properties":{"desired":{"n":)",
                                          n, "}}}"))
                 .status())) {
      acknowledged_[device] = n;
    }
  }

  void CreateJob(std::mt19937& random) {
    JobRequest job;
    job.job_id = absl::StrCat("j", ++next_job_);
    job.query_condition = absl::StrCat("tags.slot < ", 1 + random() % 40);
    const bool cancel = random() % 8 == 0;
    if (cancel) job.start_time = absl::Now() + absl::Hours(1);
    if (random() % 2 == 0) {
      job.action =
          MethodAction{.method_name = "run",
                       .payload = absl::StrCat("\"", job.job_id, "\"")};
    } else {
      TwinUpdateAction update;
      update.patch.tags = *ParseJson(R"({"job":1})");
      job.action = std::move(update);
    }
    if (!Done(engine_->CreateJob(job).status())) return;
    {
      absl::MutexLock lock(&mutex_);
      jobs_.insert(job.job_id);
    }
    if (!cancel || !Done(engine_->CancelJob(job.job_id).status())) return;
    absl::MutexLock lock(&mutex_);
    cancelled_.insert(job.job_id);
  }

  const std::unique_ptr<Executor> executor_ = MakeThreadExecutor(1);
  std::unique_ptr<LoopbackTransport> devices_;
  std::vector<std::thread> callers_;
  std::atomic<bool> stop_{false};
  std::atomic<int> next_job_{0};
  // Each element is one caller's.
  std::array<int64_t, kDevices> asked_ = {};
  std::array<int64_t, kDevices> acknowledged_ = {};
  std::map<std::string, std::pair<int64_t, int64_t>> published_;

  absl::Mutex mutex_;
  std::set<std::string> called_ ABSL_GUARDED_BY(mutex_);     // "job device"
  std::set<std::string> jobs_ ABSL_GUARDED_BY(mutex_);       // Acknowledged.
  std::set<std::string> cancelled_ ABSL_GUARDED_BY(mutex_);  // Likewise.
};

INSTANTIATE_TEST_SUITE_P(
    Disk, EngineDiskFaults,
    testing::Values(Fault{"Full", ENOSPC, DiskFaults::Calls::kAll,
                          absl::StatusCode::kResourceExhausted},
                    Fault{"WritesFail", EIO, DiskFaults::Calls::kOthers,
                          absl::StatusCode::kUnavailable},
                    Fault{"SyncsFail", EIO, DiskFaults::Calls::kSyncs,
                          absl::StatusCode::kUnavailable}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_P(EngineDiskFaults, RefusesReadsOnAndResumes) {
  std::mt19937 random(seed_);
  StartLoad();
  for (int round = 0; round < 5 && !HasFailure(); ++round) {
    SCOPED_TRACE(absl::StrCat("round ", round));
    const int64_t done = done_;
    EXPECT_TRUE(Soon([&] { return done_ > done + 200; }));
    Fail(1 + static_cast<int64_t>(random() % 30), INT64_MAX);
    EXPECT_TRUE(Soon([&] { return !engine_->Health().ok(); }));
    EXPECT_EQ(engine_->Health().code(), GetParam().code) << engine_->Health();
    const int64_t refused = refused_;
    for (int i = 0; i < 5; ++i) {
      Read();
      absl::SleepFor(absl::Milliseconds(20));
    }
    EXPECT_TRUE(Soon([&] { return refused_ > refused + kCallers; }));
    EXPECT_FALSE(engine_->WriteSnapshots().ok());
    DiskFaults::Disarm();
    EXPECT_TRUE(Soon([&] { return engine_->Health().ok(); }))
        << engine_->Health();
  }
  StopLoad();
  AwaitJobs();
  CheckBooks();
  Close();
  Open();
  CheckBooks();
}

// One call fails, now and then.
TEST_P(EngineDiskFaults, GetsOverHiccups) {
  std::mt19937 random(seed_);
  StartLoad();
  for (int round = 0; round < 15 && !HasFailure(); ++round) {
    const auto call = 1 + static_cast<int64_t>(random() % 60);
    Fail(call, call);
    const int64_t done = done_;
    EXPECT_TRUE(Soon([&] { return done_ > done + 50; }));
    Read();
  }
  DiskFaults::Disarm();
  EXPECT_TRUE(Soon([&] { return engine_->Health().ok(); }));
  EXPECT_GT(journal_->Stats().reopened, 3);
  StopLoad();
  AwaitJobs();
  CheckBooks();
  Close();
  Open();
  CheckBooks();
}

// Nobody waits for a disk that stays as it is.
TEST_P(EngineDiskFaults, StopsOnADiskThatFails) {
  for (int round = 0; round < 3 && !HasFailure(); ++round) {
    StartLoad();
    const int64_t done = done_;
    EXPECT_TRUE(Soon([&] { return done_ > done + 100; }));
    Fail(1, INT64_MAX);
    EXPECT_TRUE(Soon([&] { return !engine_->Health().ok(); }));
    StopLoad();
    const absl::Time begin = absl::Now();
    Close();
    EXPECT_LT(absl::Now() - begin, absl::Seconds(10));
    DiskFaults::Disarm();
    Open();
    CheckBooks();
  }
  AwaitJobs();
}

}  // namespace
}  // namespace muster
