// Engine::ListExecutions() and GetExecution(): pages that together are what a
// walk over everything finds, whatever the filter, the page and what happens
// between two pages.
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/model/error.h"
#include "engine/query/page_token.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/forwarding_journal.h"
#include "tests/simulated/simulated_executor.h"
#include "transport/loopback/loopback.h"

namespace muster {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Keeps everything; refuses what comes while it is away.
class AwayJournal : public ForwardingJournal {
 public:
  explicit AwayJournal(int partitions)
      : ForwardingJournal(
            {.partition_count = partitions,
             .retained_bytes_max = MemoryJournalOptions::kRetainAll}) {}
  void Append(int partition, uint64_t epoch, uint64_t sequence,
              std::string chunk, Done done) override {
    if (away) {
      std::move(done)(absl::UnavailableError("the disk is away"));
      return;
    }
    ForwardingJournal::Append(partition, epoch, sequence, std::move(chunk),
                              std::move(done));
  }
  bool away = false;
};

std::string Text(const ExecutionRecord& record) {
  std::string text;
  AppendExecutionJson(record, &text);
  return text;
}

std::string Device(int i) { return absl::StrCat("d", i); }

// By how many partitions the devices lie in: one slice of a job, or many.
class Executions : public testing::TestWithParam<int> {
 protected:
  Executions() { Start(); }
  ~Executions() override { engine->Stop(); }

  void Start() {
    engine.reset();
    LoopbackOptions loopback;
    loopback.answer_unknown = false;
    devices = *LoopbackTransport::Create(loopback, &time, &time);
    devices->SetHandler("mixed", [](const LoopbackCall& call) {
      if (call.device_id.back() == '3') {
        return LoopbackReply{.code = OutcomeCode::kBusy};
      }
      if (call.device_id.back() == '5') return LoopbackReply::Never();
      return LoopbackReply{.payload = absl::StrCat("\"", call.device_id, "\"")};
    });
    engine = *Engine::Create({.transport = devices.get(),
                              .clock = &time,
                              .executor = &time,
                              .journal = &journal});
    for (const auto& [id, connected] : connected_) {
      devices->AddDevices({id}, connected);
    }
    time.RunReady();
  }
  void Add(int count, bool connected = true) {
    for (int i = 0; i < count; ++i) AddOne(Device(i), connected && i % 4 != 1);
    time.RunReady();
  }
  void AddOne(const std::string& id, bool connected) {
    ASSERT_TRUE(
        engine
            ->UpsertTwin(absl::StrCat(R"({"deviceId":")", id,
                                      R"(","tags":{"n":)", id.substr(1), "}}"))
            .ok());
    connected_.emplace_back(id, connected);
    devices->AddDevices({id}, connected);
  }
  void Run(const std::string& id, const std::string& condition = "*",
           const std::string& method = "mixed") {
    JobRequest job;
    job.job_id = id;
    job.query_condition = condition;
    job.action =
        MethodAction{.method_name = method, .response_timeout_seconds = 100};
    job.max_execution_time_seconds = 1000;
    const absl::Status status = engine->CreateJob(job).status();
    ASSERT_TRUE(status.ok()) << status;
    time.Advance(absl::Milliseconds(2));
  }

  ExecutionPage Page(const ExecutionFilter& filter, int page_size,
                     const std::string& continuation = "") {
    absl::StatusOr<ExecutionPage> page =
        engine->ListExecutions(filter, page_size, continuation);
    EXPECT_TRUE(page.ok()) << page.status();
    return page.ok() ? *std::move(page) : ExecutionPage();
  }
  // All pages; each but the last is full, and the last is not empty.
  std::vector<std::string> Pages(const ExecutionFilter& filter, int page_size) {
    std::vector<std::string> rows;
    std::string continuation;
    do {
      const ExecutionPage page = Page(filter, page_size, continuation);
      EXPECT_TRUE(continuation.empty() || !page.executions.empty());
      if (!page.continuation.empty()) {
        EXPECT_EQ(static_cast<int>(page.executions.size()), page_size);
      }
      for (const ExecutionRecord& record : page.executions) {
        rows.push_back(Text(record));
      }
      continuation = page.continuation;
    } while (!continuation.empty());
    return rows;
  }
  // The same by a walk; jobs newest first.
  std::vector<std::string> Walk(const ExecutionFilter& filter) {
    std::vector<std::string> rows;
    const absl::StatusOr<JobPage> jobs = engine->ListJobs({}, 1000);
    for (const JobInfo& job : jobs->jobs) {
      if (!filter.job_id.empty() && job.job_id != filter.job_id) continue;
      EXPECT_TRUE(
          engine
              ->ForEachExecution(job.job_id,
                                 [&](const ExecutionRecord& record) {
                                   if ((filter.device_id.empty() ||
                                        filter.device_id == record.device_id) &&
                                       filter.status.value_or(record.status) ==
                                           record.status) {
                                     rows.push_back(Text(record));
                                   }
                                 })
              .ok());
    }
    return rows;
  }
  ErrorCode ErrorOf(const ExecutionFilter& filter, int page_size,
                    const std::string& continuation = "") {
    return ErrorCodeOf(
        engine->ListExecutions(filter, page_size, continuation).status());
  }

  SimulatedExecutor time;
  AwayJournal journal{GetParam()};
  std::unique_ptr<LoopbackTransport> devices;
  std::unique_ptr<Engine> engine;
  std::vector<std::pair<std::string, bool>> connected_;
};

INSTANTIATE_TEST_SUITE_P(Partitions, Executions, testing::Values(1, 16),
                         [](const auto& info) {
                           return absl::StrCat(info.param);
                         });

TEST_P(Executions, PagesTogetherAreWhatAWalkFinds) {
  const uint32_t seed = 20261123;
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  Add(700);
  Run("all");
  Run("odd", "tags.n % 2 = 1");
  Run("few", "tags.n < 5");
  Run("one", "deviceId = 'd7'");
  Run("none", "tags.n < 0");
  for (const char* id : {"d7", "d2"}) {
    ASSERT_TRUE(engine->EraseTwin(id).ok());  // In each of them once.
  }
  AddOne("d2", true);     // Another, for all that jobs know.
  AddOne("d4000", true);  // In the row of d7, with one partition.
  Run("late", "tags.n < 9 OR tags.n = 4000");

  const std::string jobs[] = {"", "all", "odd", "few", "one", "none", "late"};
  const std::optional<ExecutionStatus> statuses[] = {
      std::nullopt, ExecutionStatus::kPending, ExecutionStatus::kRunning,
      ExecutionStatus::kCompleted, ExecutionStatus::kFailed};
  int64_t rows = 0;
  for (const std::string& job : jobs) {
    for (const auto& status : statuses) {
      for (const std::string device :
           {"", "d7", "d2", "d699", "d700", "d4000"}) {
        const ExecutionFilter filter{job, device, status};
        const std::vector<std::string> expected = Walk(filter);
        rows += static_cast<int64_t>(expected.size());
        for (const int page_size :
             {1 + static_cast<int>(random() % 9), 256,
              std::max(1, static_cast<int>(expected.size())), 1'000'000}) {
          ASSERT_EQ(Pages(filter, page_size), expected)
              << "job " << job << ", device " << device << ", status "
              << (status.has_value() ? ExecutionStatusName(*status) : "any")
              << ", pages of " << page_size;
        }
      }
    }
  }
  EXPECT_GT(rows, 2 * 1000);
  // All that is there once was in all of these.
  EXPECT_EQ(Walk({.device_id = "d7"}).size(), 3);
  EXPECT_EQ(Walk({.device_id = "d2"}).size(), 3);
}

TEST_P(Executions, APageIsAsTheJobIsWhenItIsRead) {
  Add(20, /*connected=*/false);
  Run("j");
  const ExecutionFilter filter{.job_id = "j"};
  const ExecutionPage first = Page(filter, 10);
  for (const ExecutionRecord& record : first.executions) {
    EXPECT_EQ(record.status, ExecutionStatus::kPending);
  }
  ASSERT_TRUE(engine->CancelJob("j", {.cancel_running = true}).ok());
  time.RunReady();
  const ExecutionPage second = Page(filter, 10, first.continuation);
  ASSERT_EQ(second.executions.size(), 10);
  for (const ExecutionRecord& record : second.executions) {
    EXPECT_EQ(record.status, ExecutionStatus::kCanceled);
  }
  EXPECT_THAT(second.continuation, IsEmpty());
  // What a status is asked for changes the rows under the reader, who sees none
  // twice.
  EXPECT_THAT(Pages({"j", "", ExecutionStatus::kPending}, 3), IsEmpty());
  EXPECT_EQ(Pages({"j", "", ExecutionStatus::kCanceled}, 3).size(), 20);
}

TEST_P(Executions, AContinuationSurvivesARestart) {
  Add(300);
  Run("a");
  Run("b");
  for (const bool snapshots : {false, true}) {
    for (const std::string job : {"", "a"}) {
      const ExecutionFilter filter{.job_id = job};
      std::vector<std::string> names;
      std::string continuation;
      do {
        const ExecutionPage page = Page(filter, 70, continuation);
        for (const ExecutionRecord& record : page.executions) {
          names.push_back(absl::StrCat(record.job_id, "/", record.device_id));
        }
        continuation = page.continuation;
        if (snapshots) {
          ASSERT_TRUE(engine->WriteSnapshots().ok());
        }
        Start();
      } while (!continuation.empty());
      std::vector<std::string> expected;
      for (const ExecutionRecord& record : Page(filter, 1000).executions) {
        expected.push_back(absl::StrCat(record.job_id, "/", record.device_id));
      }
      EXPECT_EQ(names, expected);
      EXPECT_EQ(names.size(), job.empty() ? 600 : 300);
    }
  }
}

TEST_P(Executions, JobsThatComeAndGoBetweenPages) {
  Add(10);
  Run("old");
  time.Advance(absl::Hours(1));  // It has ended.
  time.Advance(absl::Hours(24));
  Run("mid");
  Run("new");
  const ExecutionPage first = Page({}, 5);
  EXPECT_EQ(first.executions[0].job_id, "new");
  // One that comes later stands before the place.
  Run("later", "deviceId = 'd1'");
  const ExecutionPage second = Page({}, 10, first.continuation);
  EXPECT_EQ(second.executions.front().job_id, "new");
  EXPECT_EQ(second.executions.back().job_id, "mid");
  // One that is forgotten is passed by.
  const ExecutionPage third = Page({}, 8, second.continuation);
  EXPECT_EQ(third.executions.back().job_id, "old");
  time.Advance(absl::Hours(24 * kJobHistoryDays - 12));
  EXPECT_THAT(Page({}, 8, third.continuation).executions, IsEmpty());
  EXPECT_EQ(ErrorOf({.job_id = "old"}, 8), ErrorCode::kJobNotFound);
  EXPECT_EQ(Pages({}, 8).size(), 21);
}

TEST_P(Executions, OneExecution) {
  Add(8);
  Run("j", "tags.n < 6");
  ExecutionRecord record = *engine->GetExecution("j", "d2");
  EXPECT_EQ(record.device_id, "d2");
  EXPECT_EQ(record.job_id, "j");
  EXPECT_EQ(record.status, ExecutionStatus::kCompleted);
  ASSERT_TRUE(record.response.has_value());
  EXPECT_EQ(record.response->payload, "\"d2\"");
  EXPECT_EQ(engine->GetExecution("j", "d1")->status, ExecutionStatus::kPending);
  EXPECT_EQ(engine->GetExecution("j", "d5")->status,
            ExecutionStatus::kPending);  // Not connected either.
  EXPECT_EQ(engine->GetExecution("j", "d3")->error_code,
            ErrorCode::kDeviceMaximumInflightMethodExceeded);
  // Gone, and come back as another.
  ASSERT_TRUE(engine->EraseTwin("d2").ok());
  EXPECT_EQ(engine->GetExecution("j", "d2")->response->payload, "\"d2\"");
  AddOne("d9", true);  // In its row, with one partition.
  AddOne("d2", true);
  EXPECT_EQ(engine->GetExecution("j", "d2")->response->payload, "\"d2\"");

  ASSERT_TRUE(engine->EraseTwin("d9").ok());  // It came after the job.
  for (const char* none : {"d6", "d9", "nobody", ""}) {
    const absl::Status status = engine->GetExecution("j", none).status();
    EXPECT_EQ(ErrorCodeOf(status), ErrorCode::kDeviceNotFound) << status;
    EXPECT_THAT(status.message(), HasSubstr("Job j has no execution on"));
  }
  for (const char* none : {"k", ""}) {
    EXPECT_EQ(ErrorCodeOf(engine->GetExecution(none, "d2").status()),
              ErrorCode::kJobNotFound);
  }
}

TEST_P(Executions, AJobThatHasNotBegunHasNone) {
  Add(3);
  JobRequest job;
  job.job_id = "j";
  job.query_condition = "*";
  job.action = MethodAction{.method_name = "mixed"};
  job.start_time = time.Now() + absl::Hours(1);
  ASSERT_TRUE(engine->CreateJob(job).ok());
  time.RunReady();
  EXPECT_THAT(Page({.job_id = "j"}, 10).executions, IsEmpty());
  EXPECT_THAT(Page({.device_id = "d1"}, 10).executions, IsEmpty());
  EXPECT_EQ(ErrorCodeOf(engine->GetExecution("j", "d1").status()),
            ErrorCode::kDeviceNotFound);
}

TEST_P(Executions, WhatIsWrongIsRefused) {
  Add(30);
  Run("j");
  Run("k");
  EXPECT_EQ(ErrorOf({.job_id = "nobody"}, 10), ErrorCode::kJobNotFound);
  EXPECT_THAT(Page({.device_id = "nobody"}, 10).executions, IsEmpty());
  for (const int page_size : {0, -1, 1'000'001}) {
    EXPECT_EQ(ErrorOf({.job_id = "j"}, page_size), ErrorCode::kArgumentInvalid);
  }
  const std::string token = Page({.job_id = "j"}, 4).continuation;
  ASSERT_FALSE(token.empty());
  EXPECT_EQ(ErrorOf({.job_id = "j"}, 7, token), ErrorCode::kOk)
      << "the page size is none of the filter";
  EXPECT_EQ(ErrorOf({.job_id = "k"}, 4, token), ErrorCode::kArgumentInvalid);
  EXPECT_EQ(ErrorOf({}, 4, token), ErrorCode::kArgumentInvalid);
  EXPECT_EQ(ErrorOf({.job_id = "j", .device_id = "d1"}, 4, token),
            ErrorCode::kArgumentInvalid);
  EXPECT_EQ(ErrorOf({"j", "", ExecutionStatus::kRunning}, 4, token),
            ErrorCode::kArgumentInvalid);
  EXPECT_EQ(ErrorOf({.job_id = "j"}, 4, token.substr(1)),
            ErrorCode::kArgumentInvalid);
  EXPECT_EQ(ErrorOf({.job_id = "j"}, 4, engine->ListJobs({}, 1)->continuation),
            ErrorCode::kArgumentInvalid);

  // Whole, and of places that there are not: a checksum is no signature.
  const uint64_t hash = HashForPageToken("j\n\n*");
  PageToken place = *DecodePageToken(token, "executions", hash);
  const std::vector<std::string> good = place.last_key;
  ASSERT_EQ(good.size(), 4);
  for (const char* rank : {"-1", "16385", "99999999999", "x", ""}) {
    place.last_key = good;
    place.last_key[3] = rank;
    EXPECT_EQ(ErrorOf({.job_id = "j"}, 4, EncodePageToken(place)),
              ErrorCode::kArgumentInvalid)
        << rank;
  }
  for (const char* slice : {"-1", "4294967296", "x"}) {
    place.last_key = good;
    place.last_key[2] = slice;
    EXPECT_EQ(ErrorOf({.job_id = "j"}, 4, EncodePageToken(place)),
              ErrorCode::kArgumentInvalid)
        << slice;
  }
  place.last_key = {good[0], good[1], good[2]};
  EXPECT_EQ(ErrorOf({.job_id = "j"}, 4, EncodePageToken(place)),
            ErrorCode::kArgumentInvalid);
  place.last_key = {good[0], good[1], "4294967295", "16384"};
  EXPECT_THAT(Page({.job_id = "j"}, 4, EncodePageToken(place)).executions,
              IsEmpty());
  place.last_key = {good[0], good[1], "0", "16384"};
  EXPECT_THAT(
      Page({.job_id = "j"}, 100, EncodePageToken(place)).executions.size(),
      testing::Lt(30));
}

TEST_P(Executions, NothingIsShownThatIsNotDurable) {
  Add(10);
  Run("before");
  time.Advance(absl::Hours(1));
  ASSERT_EQ(engine->GetJob("before")->status, JobStatus::kCompleted);
  Run("j");
  journal.away = true;
  devices->SetConnected("d1", true);  // Its range is not to be had.
  time.RunReady();
  EXPECT_EQ(ErrorOf({.job_id = "j"}, 10), ErrorCode::kServiceUnavailable);
  EXPECT_EQ(ErrorCodeOf(engine->GetExecution("j", "d1").status()),
            ErrorCode::kServiceUnavailable);
  // What has ended is durable.
  EXPECT_EQ(Page({.job_id = "before"}, 100).executions.size(), 10);
  journal.away = false;
  time.Advance(absl::Seconds(5));
  EXPECT_EQ(engine->GetExecution("j", "d1")->status,
            ExecutionStatus::kCompleted);
  EXPECT_EQ(Page({.job_id = "j"}, 100).executions.size(), 10);
}

}  // namespace
}  // namespace muster
