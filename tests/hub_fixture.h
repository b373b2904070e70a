// A whole hub in one thread on simulated time: engine, scripted devices, clock.
#ifndef TESTS_HUB_FIXTURE_H_
#define TESTS_HUB_FIXTURE_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/instant.h"
#include "engine/model/json.h"
#include "gtest/gtest.h"
#include "tests/simulated/simulated_executor.h"
#include "transport/loopback/loopback.h"

namespace muster {

class Hub {
 public:
  explicit Hub(EngineOptions options = {}, LoopbackOptions devices = {})
      : options_(std::move(options)), device_options_(std::move(devices)) {
    options_.clock = &time;
    options_.executor = &time;
    device_options_.record_calls = true;
    device_options_.answer_unknown = false;
    Start();
  }
  ~Hub() { engine_->Stop(); }

  // Another engine in the place of this one, which finds what is in the
  // journal of the options; its devices have to be added again.
  void Restart() {
    engine_.reset();
    transport_.reset();
    Start();
  }

  SimulatedExecutor time;

  Engine& engine() { return *engine_; }
  LoopbackTransport& devices() { return *transport_; }

  // A twin, and the device behind it.
  void AddDevice(absl::string_view id, bool connected = true,
                 absl::string_view members = "") {
    AddTwin(id, members);
    transport_->AddDevices({id}, connected);
    time.RunReady();
  }
  void AddTwin(absl::string_view id, absl::string_view members = "") {
    const absl::Status status = engine_->UpsertTwin(
        absl::StrCat(R"({"deviceId":")", id, "\"", members.empty() ? "" : ",",
                     members, "}"));
    ASSERT_TRUE(status.ok()) << status;
  }

  // Creates the job from contract 1.2's JSON; its id is in the body.
  absl::StatusOr<JobInfo> Create(absl::string_view body) {
    return engine_->CreateJobFromJson("", body);
  }

  JobInfo Get(absl::string_view job_id) {
    absl::StatusOr<JobInfo> job = engine_->GetJob(job_id);
    MUSTER_CHECK(job.ok());
    CheckBooks(*job);
    return *std::move(job);
  }
  JobStatus Status(absl::string_view job_id) { return Get(job_id).status; }

  // Lets time pass until the job has ended, and returns it.
  JobInfo Finish(absl::string_view job_id) {
    EXPECT_TRUE(time.RunUntil([&] { return IsTerminal(Status(job_id)); },
                              absl::Hours(24 * 366 * 30)))
        << job_id;
    return Get(job_id);
  }

  // Rows of a statement, all pages.
  std::vector<std::string> Query(absl::string_view statement,
                                 int page_size = kHubPageSizeMax) {
    std::vector<std::string> rows;
    std::string continuation;
    do {
      absl::StatusOr<TwinPage> page =
          engine_->Query(statement, page_size, continuation);
      EXPECT_TRUE(page.ok()) << page.status();
      if (!page.ok()) return rows;
      rows.insert(rows.end(), page->rows.begin(), page->rows.end());
      continuation = page->continuation;
    } while (!continuation.empty());
    return rows;
  }

  std::vector<ExecutionRecord> Records(absl::string_view job_id) {
    std::vector<ExecutionRecord> records;
    const absl::Status status = engine_->ForEachExecution(
        job_id,
        [&](const ExecutionRecord& record) { records.push_back(record); });
    EXPECT_TRUE(status.ok()) << status;
    return records;
  }
  // REQUIRES: the job has one execution for the device.
  ExecutionRecord Record(absl::string_view job_id, absl::string_view device) {
    for (ExecutionRecord& record : Records(job_id)) {
      if (record.device_id == device) return record;
    }
    ADD_FAILURE() << "no record of " << device << " in " << job_id;
    return {};
  }

  Json Twin(absl::string_view device) {
    absl::StatusOr<TwinSnapshot> twin = engine_->GetTwin(device);
    MUSTER_CHECK(twin.ok());
    return twin->document;
  }

  // I8.
  static void CheckBooks(const JobInfo& job) {
    if (!job.statistics.has_value()) return;
    const JobStatistics& s = *job.statistics;
    EXPECT_GE(s.failed_count, 0);
    EXPECT_GE(s.succeeded_count, 0);
    EXPECT_GE(s.running_count, 0);
    EXPECT_GE(s.pending_count, 0);
    EXPECT_EQ(s.device_count, s.failed_count + s.succeeded_count +
                                  s.running_count + s.pending_count);
    if (IsTerminal(job.status)) {
      EXPECT_EQ(s.running_count, 0);
      EXPECT_EQ(s.pending_count, 0);
    }
  }

 private:
  void Start() {
    auto transport = LoopbackTransport::Create(device_options_, &time, &time);
    MUSTER_CHECK(transport.ok());
    transport_ = *std::move(transport);
    options_.transport = transport_.get();
    auto created = Engine::Create(options_);
    MUSTER_CHECK(created.ok());
    engine_ = *std::move(created);
  }

  EngineOptions options_;
  LoopbackOptions device_options_;
  std::unique_ptr<LoopbackTransport> transport_;
  std::unique_ptr<Engine> engine_;
};

// "device_count / f s r p", to be compared as one.
inline std::string Counts(const JobInfo& job) {
  if (!job.statistics.has_value()) return "none";
  const JobStatistics& s = *job.statistics;
  return absl::StrCat(s.device_count, " / f", s.failed_count, " s",
                      s.succeeded_count, " r", s.running_count, " p",
                      s.pending_count);
}

}  // namespace muster

#endif  // TESTS_HUB_FIXTURE_H_
