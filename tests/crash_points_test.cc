// A crash at every call that changes a file, in a scenario with a bit of
// everything, for each thing that a crash may leave (tests/disk_history.h): the
// folder opens, all that was acknowledged or published by then is there, no
// device is called twice, and the jobs go on to their end.
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

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
#include "engine/model/json.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "gtest/gtest.h"
#include "tests/disk_history.h"
#include "transport/loopback/loopback.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

constexpr int kShards = 4;
constexpr int kDevices = 5;

// A folder in memory, if there is such a thing: thousands are made.
std::string NewFolder() {
  std::string path = "/dev/shm/crash.XXXXXX";
  if (mkdtemp(path.data()) != nullptr) return path;
  path = absl::StrCat(::testing::TempDir(), "/crash.XXXXXX");
  MUSTER_CHECK(mkdtemp(path.data()) != nullptr);
  return path;
}

void Write(const std::string& folder, const DiskHistory::Files& files) {
  for (const auto& [name, bytes] : files) {  // Directories come first.
    const std::string path = folder + "/" + name;
    if (!bytes.has_value()) {
      fs::create_directory(path);
      continue;
    }
    std::ofstream(path, std::ios::binary)
        .write(bytes->data(), static_cast<std::streamsize>(bytes->size()));
  }
}

// An engine on a folder, and devices that count how often a job has called
// them.  d4 is not there.
class Hub {
 public:
  using Calls = std::map<std::string, int>;  // "job device"

  static absl::StatusOr<std::unique_ptr<Hub>> Open(const std::string& folder) {
    std::unique_ptr<Hub> hub(new Hub);
    auto journal =
        RocksDbJournal::Open({.directory = folder, .partition_count = 2});
    if (!journal.ok()) return journal.status();
    hub->journal_ = *std::move(journal);
    hub->devices_ = *LoopbackTransport::Create(
        {.answer_unknown = false}, &Clock::Real(), hub->executor_.get());
    hub->devices_->SetHandler("", [h = hub.get()](const LoopbackCall& call) {
      absl::MutexLock lock(&h->mutex_);
      ++h->calls_[absl::StrCat(call.payload, " ", call.device_id)];
      h->call_points_.insert({absl::StrCat(call.payload, " ", call.device_id),
                              DiskHistory::size()});
      return LoopbackReply{.payload = "1"};
    });
    for (int i = 0; i < kDevices; ++i) {
      hub->devices_->AddDevices({absl::StrCat("d", i)}, i != 4);
    }
    auto engine = Engine::Create({.transport = hub->devices_.get(),
                                  .threads = 1,
                                  .journal = hub->journal_.get()});
    if (!engine.ok()) return engine.status();
    hub->engine_ = *std::move(engine);
    return hub;
  }

  Engine& engine() { return *engine_; }
  LoopbackTransport& devices() { return *devices_; }
  Calls calls() {
    absl::MutexLock lock(&mutex_);
    return calls_;
  }
  // How many calls to the disk there had been.
  std::map<std::string, size_t> call_points() {
    absl::MutexLock lock(&mutex_);
    return call_points_;
  }

 private:
  Hub() : executor_(MakeThreadExecutor(1)) {}

  const std::unique_ptr<Executor> executor_;
  absl::Mutex mutex_;
  Calls calls_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, size_t> call_points_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<LoopbackTransport> devices_;
  std::unique_ptr<RocksDbJournal> journal_;
  std::unique_ptr<Engine> engine_;
};

// Something that was asked for before `asked` calls to the disk had been made,
// and is true after `acknowledged` of them.
struct Fact {
  std::string what;
  size_t asked = 0;
  size_t acknowledged = 0;
  std::function<bool(Engine&)> holds;
};

bool Counts(Engine& engine, const std::string& id, int64_t succeeded,
            int64_t failed) {
  const absl::StatusOr<JobInfo> job = engine.GetJob(id);
  return job.ok() && job->statistics.has_value() &&
         job->statistics->succeeded_count >= succeeded &&
         job->statistics->failed_count >= failed &&
         job->statistics->device_count == kDevices;
}

class CrashPoints : public testing::TestWithParam<int> {
 protected:
  ~CrashPoints() override { fs::remove_all(root_); }

  // Makes the history.
  void Record() {
    DiskHistory::Start(root_);
    Open();
    for (int i = 0; i < kDevices; ++i) {
      const std::string id = absl::StrCat("d", i);
      Do(
          absl::StrCat("twin ", i),
          [&] {
            return hub_->engine().UpsertTwin(
                absl::StrCat(R"({"deviceId":")", id, R"("})"));
          },
          [id](Engine& e) { return e.GetTwin(id).ok(); });
      if (i == 4) continue;
      // The engine has heard of it when it did not know it yet.
      hub_->devices().SetConnected(id, false);
      hub_->devices().SetConnected(id, true);
    }
    Patch("d0", 1);
    Patch("d0", 2);
    Create("m", MethodAction{.method_name = "run", .payload = "\"m\""}, {});
    AwaitCounts("m", 4, 0);
    TwinUpdateAction update;
    update.patch.desired = *ParseJson(R"({"job":"t"})");
    Create("t", update, {});
    AwaitCounts("t", 5, 0);
    Create("later", update, absl::Hours(10));
    Do(
        "cancel", [&] { return hub_->engine().CancelJob("later").status(); },
        [](Engine& e) {
          const auto job = e.GetJob("later");
          return job.ok() && job->status == JobStatus::kCancelled;
        });
    ASSERT_TRUE(hub_->engine().WriteSnapshots().ok());
    Patch("d1", 3);
    // The log is written into tables, with a job that runs.
    Close();
    Open();
    Patch("d2", 4);
    hub_->devices().SetConnected("d4", true);
    AwaitCounts("m", 5, 0);
    ASSERT_TRUE(hub_->engine().WriteSnapshots().ok());
    Patch("d1", 5);
    Close();
    DiskHistory::Stop();
  }

  // What a crash leaves does what it should.
  void Check(size_t point, DiskHistory::Left left, uint32_t seed) {
    const DiskHistory::Files files = DiskHistory::After(point, left, seed);
    // Most crashes leave what others left.
    size_t facts = 0;
    for (const Fact& fact : facts_) facts += fact.acknowledged <= point;
    for (const auto& [call, at] : calls_) facts += (at <= point) << 16;
    if (!checked_.insert({facts, files}).second) return;
    const std::string folder = NewFolder();
    Write(folder, files);
    CheckFolder(folder + "/data", point);
    fs::remove_all(folder);
  }

  int64_t checked() const { return static_cast<int64_t>(checked_.size()); }
  const std::string& root() const { return root_; }

 private:
  void Open() {
    auto opened = Hub::Open(root_ + "/data");
    ASSERT_TRUE(opened.ok()) << opened.status();
    hub_ = *std::move(opened);
  }
  void Close() {
    hub_->engine().Stop();
    for (const auto& [call, at] : hub_->call_points()) calls_[call] = at;
    hub_ = nullptr;
  }
  void Do(const std::string& what, const std::function<absl::Status()>& call,
          std::function<bool(Engine&)> holds) {
    const size_t asked = DiskHistory::size();
    const absl::Status status = call();
    ASSERT_TRUE(status.ok()) << what << ": " << status;
    facts_.push_back({what, asked, DiskHistory::size(), std::move(holds)});
  }
  void Patch(const std::string& id, int n) {
    ns_[id].push_back(n);
    Do(
        absl::StrCat("patch ", n),
        [&] {
          return hub_->engine()
              .PatchTwin(id, absl::StrCat(R"({"properties":{"desired":{"n":)",
                                          n, "}}}"))
              .status();
        },
        [id, n](Engine& e) {
          const auto twin = e.GetTwin(id);
          if (!twin.ok()) return false;
          const JsonView at = twin->document.view()
                                  .Find("properties")
                                  .Find("desired")
                                  .Find("n");
          return at.is_integer() && at.int_value() >= n;
        });
  }
  void Create(const std::string& id, Action action, absl::Duration in) {
    JobRequest job;
    job.job_id = id;
    job.query_condition = "*";
    job.action = std::move(action);
    job.start_time = absl::Now() + in;
    Do(
        "job " + id, [&] { return hub_->engine().CreateJob(job).status(); },
        [id](Engine& e) { return e.GetJob(id).ok(); });
  }
  // Waits until so much is published.
  void AwaitCounts(const std::string& id, int64_t succeeded, int64_t failed) {
    Do(
        "counts of " + id,
        [&] {
          for (int i = 0; i < 20'000; ++i) {
            if (Counts(hub_->engine(), id, succeeded, failed)) {
              return absl::OkStatus();
            }
            absl::SleepFor(absl::Milliseconds(1));
          }
          return absl::DeadlineExceededError("no counts");
        },
        [=](Engine& e) { return Counts(e, id, succeeded, failed); });
  }

  void CheckFolder(const std::string& folder, size_t point) {
    // Nobody but the process itself makes the folder.
    auto opened = Hub::Open(folder);
    ASSERT_TRUE(opened.ok()) << opened.status();
    Engine& engine = (*opened)->engine();
    for (const Fact& fact : facts_) {
      if (fact.acknowledged <= point) {
        EXPECT_TRUE(fact.holds(engine)) << fact.what << " is lost";
      }
    }
    // The jobs that are there end.
    (*opened)->devices().SetConnected("d4", true);
    for (const char* id : {"m", "t"}) {
      if (!engine.GetJob(id).ok()) continue;
      const auto job = engine.WaitJob(id, absl::Seconds(30));
      ASSERT_TRUE(job.ok()) << job.status();
      EXPECT_EQ(job->status, JobStatus::kCompleted);
      const JobStatistics& s = *job->statistics;
      EXPECT_EQ(s.device_count, s.succeeded_count + s.failed_count);
      if (job->type() == JobType::kUpdateTwin) {
        EXPECT_EQ(s.failed_count, 0);
      }
      EXPECT_TRUE(Counts(engine, id, 0, 0));
    }
    Hub::Calls calls = (*opened)->calls();
    for (const auto& [call, at] : calls_) {
      if (at <= point) ++calls[call];
    }
    for (const auto& [call, times] : calls) {
      EXPECT_EQ(times, 1) << "calls of " << call;
    }
    // Each update once: the patches of the device, and the job's.
    if (engine.GetJob("t").ok()) {
      for (const auto& [id, ns] : ns_) {
        const auto twin = engine.GetTwin(id);
        ASSERT_TRUE(twin.ok()) << twin.status();
        const JsonView desired =
            twin->document.view().Find("properties").Find("desired");
        const JsonView n = desired.Find("n");
        int64_t version = 2;
        for (const int patch : ns) {
          version += n.is_integer() && n.int_value() >= patch ? 1 : 0;
        }
        EXPECT_EQ(desired.Find("$version").int_value(), version) << id;
        EXPECT_EQ(desired.Find("job").string_value(), "t");
      }
    }
    // And it takes changes.
    EXPECT_TRUE(engine.UpsertTwin(R"({"deviceId":"new"})").ok());
  }

  // As the system names it, not by a link.
  const std::string root_ = fs::canonical(NewFolder());
  std::unique_ptr<Hub> hub_;
  std::vector<Fact> facts_;
  std::map<std::string, std::vector<int>> ns_;  // Patches, by device.
  std::map<std::string, size_t> calls_;  // Of devices; see call_points().
  std::set<std::pair<size_t, DiskHistory::Files>> checked_;
};

INSTANTIATE_TEST_SUITE_P(Shard, CrashPoints, testing::Range(0, kShards));

TEST_P(CrashPoints, WhateverIsLeftHasWhatWasAcknowledged) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  Record();
  ASSERT_FALSE(HasFailure());
  const size_t points = DiskHistory::size();
  ASSERT_GT(points, 150u);
  // The history is whole: it makes the folder that is there.
  const DiskHistory::Files all =
      DiskHistory::After(points, DiskHistory::Left::kAll, 0);
  size_t there = 0;
  for (const auto& entry : fs::recursive_directory_iterator(root())) {
    ++there;
    const auto found = all.find(fs::relative(entry.path(), root()).string());
    ASSERT_TRUE(found != all.end()) << entry.path();
    if (!entry.is_regular_file()) continue;
    std::ifstream file(entry.path(), std::ios::binary);
    EXPECT_TRUE(std::string(std::istreambuf_iterator<char>(file), {}) ==
                found->second)
        << entry.path();
  }
  EXPECT_EQ(there, all.size());

  for (size_t point = static_cast<size_t>(GetParam()); point <= points;
       point += kShards) {
    for (int left = 0; left < DiskHistory::kLefts; ++left) {
      SCOPED_TRACE(
          absl::StrCat("after call ", point, ", ",
                       point == 0 ? "none" : DiskHistory::Describe(point - 1),
                       ", left ", left));
      Check(point, static_cast<DiskHistory::Left>(left),
            seed + static_cast<uint32_t>(point));
      if (HasFatalFailure()) return;
    }
  }
  std::cerr << points << " calls of the disk, " << checked()
            << " different folders in this shard\n";
}

}  // namespace
}  // namespace muster
