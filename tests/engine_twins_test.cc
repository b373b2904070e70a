// Engine::UpsertTwins() over a journal that fails, and Engine::CountTargets().
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/model/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/forwarding_journal.h"
#include "tests/simulated/simulated_executor.h"
#include "transport/loopback/loopback.h"

namespace muster {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

constexpr int kPartitions = 4;

// Counts appends; may hold them until all partitions have one under way, or
// refuse those of some.
class CountingJournal : public ForwardingJournal {
 public:
  CountingJournal() : ForwardingJournal({.partition_count = kPartitions}) {}

  void Append(int partition, uint64_t epoch, uint64_t sequence,
              std::string chunk, Done done) override {
    ++appends;
    if (away.contains(partition)) {
      std::move(done)(absl::UnavailableError("the disk is away"));
      return;
    }
    if (!together) {
      ForwardingJournal::Append(partition, epoch, sequence, std::move(chunk),
                                std::move(done));
      return;
    }
    held_.push_back([this, partition, epoch, sequence, chunk = std::move(chunk),
                     done = std::move(done)]() mutable {
      ForwardingJournal::Append(partition, epoch, sequence, std::move(chunk),
                                std::move(done));
    });
    if (held_.size() < kPartitions) return;
    for (auto& answer : std::exchange(held_, {})) std::move(answer)();
  }

  int appends = 0;
  bool together = false;
  std::set<int> away;

 private:
  std::vector<absl::AnyInvocable<void() &&>> held_;
};

class EngineTwins : public testing::Test {
 protected:
  explicit EngineTwins(int64_t twin_count_max = 1000) {
    transport = *LoopbackTransport::Create({}, &time, &time);
    engine = *Engine::Create({.transport = transport.get(),
                              .clock = &time,
                              .executor = &time,
                              .journal = &journal,
                              .twin_count_max = twin_count_max});
  }
  ~EngineTwins() override { engine->Stop(); }

  std::vector<absl::Status> Upsert(const std::vector<std::string>& documents) {
    absl::StatusOr<std::vector<absl::Status>> answers = engine->UpsertTwins(
        std::vector<absl::string_view>(documents.begin(), documents.end()));
    EXPECT_TRUE(answers.ok()) << answers.status();
    if (!answers.ok()) return {};
    EXPECT_EQ(answers->size(), documents.size());
    return *std::move(answers);
  }
  static std::vector<std::string> Documents(int count,
                                            absl::string_view members = "") {
    std::vector<std::string> documents;
    for (int i = 0; i < count; ++i) {
      documents.push_back(
          absl::StrCat(R"({"deviceId":"d)", i, "\"", members, "}"));
    }
    return documents;
  }
  bool Has(const std::string& id) { return engine->GetTwin(id).ok(); }

  SimulatedExecutor time;
  CountingJournal journal;
  std::unique_ptr<LoopbackTransport> transport;
  std::unique_ptr<Engine> engine;
};

TEST_F(EngineTwins, ABatchWaitsForTheJournalOnce) {
  // Nothing is answered before each partition has asked: whoever waits for one
  // before it asks the next waits for ever.
  journal.together = true;
  const std::vector<absl::Status> answers = Upsert(Documents(200));
  for (const absl::Status& answer : answers) EXPECT_TRUE(answer.ok()) << answer;
  EXPECT_EQ(journal.appends, kPartitions);
  EXPECT_EQ(engine->Stats().twins, 200);
}

TEST_F(EngineTwins, EachHasItsOwnAnswer) {
  const std::vector<absl::Status> answers = Upsert(
      {R"({"deviceId":"a","tags":{"n":1}})",
       R"({"deviceId":"a","tags":{"n":2}})",  // The last one counts.
       R"({"deviceId":"b")", R"({"tags":{}})", R"({"deviceId":"c","tags":7})",
       R"({"deviceId":"d"})", R"({"deviceId":)" + std::string(300, '"'), ""});
  std::vector<ErrorCode> codes;
  for (const absl::Status& answer : answers) {
    codes.push_back(ErrorCodeOf(answer));
  }
  EXPECT_THAT(
      codes,
      testing::ElementsAre(
          ErrorCode::kOk, ErrorCode::kOk, ErrorCode::kIotHubFormatError,
          ErrorCode::kArgumentNull, ErrorCode::kArgumentInvalid, ErrorCode::kOk,
          ErrorCode::kIotHubFormatError, ErrorCode::kIotHubFormatError));
  EXPECT_EQ(engine->Stats().twins, 2);
  EXPECT_EQ(JsonText(engine->GetTwin("a")->document.view().Find("tags")),
            R"({"n":2})");
  // One by one they are answered alike.
  EXPECT_EQ(engine->UpsertTwin(R"({"deviceId":"b")"), answers[2]);
  EXPECT_EQ(engine->UpsertTwin(R"({"tags":{}})"), answers[3]);
  EXPECT_THAT(Upsert({}), IsEmpty());
}

TEST_F(EngineTwins, APartitionWhoseJournalFailsFailsAlone) {
  journal.away = {1, 3};
  const std::vector<std::string> documents = Documents(100);
  const std::vector<absl::Status> answers = Upsert(documents);
  int written = 0;
  for (size_t i = 0; i < answers.size(); ++i) {
    // Shown for now, and durable once the journal takes it.
    EXPECT_TRUE(Has(absl::StrCat("d", i)));
    written += answers[i].ok();
    if (answers[i].ok()) continue;
    EXPECT_EQ(ErrorCodeOf(answers[i]), ErrorCode::kServiceUnavailable);
    EXPECT_THAT(answers[i].message(), HasSubstr("it may still take effect"));
  }
  EXPECT_GT(written, 20);
  EXPECT_LT(written, 80);

  // The next is refused where that is known, before anything happens.
  const std::vector<absl::Status> again =
      Upsert(Documents(100, R"(,"tags":{"again":true})"));
  for (size_t i = 0; i < again.size(); ++i) {
    const std::string id = absl::StrCat("d", i);
    EXPECT_EQ(again[i].ok(), answers[i].ok());
    EXPECT_EQ(absl::StrContains(JsonText(engine->GetTwin(id)->document.view()),
                                "again"),
              again[i].ok())
        << id;
  }

  journal.away.clear();
  time.Advance(absl::Seconds(5));
  for (const absl::Status& answer : Upsert(documents)) {
    EXPECT_TRUE(answer.ok()) << answer;
  }
  EXPECT_TRUE(engine->Health().ok());
}

TEST_F(EngineTwins, AfterStopNothingIsLookedAt) {
  engine->Stop();
  EXPECT_EQ(ErrorCodeOf(engine->UpsertTwins({R"({"deviceId":"a"})"}).status()),
            ErrorCode::kServiceUnavailable);
  EXPECT_EQ(ErrorCodeOf(engine->UpsertTwin("no JSON")),
            ErrorCode::kServiceUnavailable);
  EXPECT_FALSE(Has("a"));
}

class FewTwins : public EngineTwins {
 protected:
  FewTwins() : EngineTwins(/*twin_count_max=*/3) {}
};

TEST_F(FewTwins, WhatIsTooManyIsRefusedAndTheRestTaken) {
  ASSERT_TRUE(engine->UpsertTwin(R"({"deviceId":"d3"})").ok());
  const std::vector<absl::Status> answers = Upsert(Documents(4));
  EXPECT_TRUE(answers[0].ok());
  EXPECT_TRUE(answers[1].ok());
  EXPECT_EQ(ErrorCodeOf(answers[2]), ErrorCode::kThrottlingException);
  EXPECT_TRUE(answers[3].ok()) << "it is there already";
}

TEST_F(EngineTwins, TargetsAreCounted) {
  for (int i = 0; i < 90; ++i) {
    ASSERT_TRUE(engine
                    ->UpsertTwin(absl::StrCat(R"({"deviceId":"d)", i,
                                              R"(","tags":{"n":)", i, "}}"))
                    .ok());
    transport->AddDevices({absl::StrCat("d", i)}, i % 3 == 0);
  }
  time.RunReady();
  const auto count = [&](absl::string_view condition) {
    const absl::StatusOr<TargetCount> counted = engine->CountTargets(condition);
    EXPECT_TRUE(counted.ok()) << counted.status();
    if (!counted.ok()) return std::string("error");
    return absl::StrCat(counted->devices, " ", counted->connected);
  };
  EXPECT_EQ(count("*"), "90 30");
  EXPECT_EQ(count("tags.n < 30"), "30 10");
  EXPECT_EQ(count("tags.n = 4"), "1 0");
  EXPECT_EQ(count("deviceId IN ['d3', 'd4', 'nobody']"), "2 1");
  EXPECT_EQ(count("connectionState = 'Connected'"), "30 30");
  EXPECT_EQ(count("tags.none = 1"), "0 0");
  ASSERT_TRUE(engine->EraseTwin("d3").ok());
  transport->SetConnected("d4", true);
  time.RunReady();
  EXPECT_EQ(count("*"), "89 30");
  EXPECT_EQ(count("deviceId IN ['d3', 'd4', 'nobody']"), "1 1");
}

TEST_F(EngineTwins, ABrokenConditionHasNoTargets) {
  const absl::StatusOr<TargetCount> broken =
      engine->CountTargets("tags.n =\n  = 3");
  EXPECT_EQ(ErrorCodeOf(broken.status()), ErrorCode::kArgumentInvalid);
  EXPECT_THAT(broken.status().message(), HasSubstr("2:3"));
  for (const char* no_condition :
       {"", "SELECT * FROM devices", "WHERE tags.n = 1", "tags.n"}) {
    JobRequest job;
    job.job_id = "j";
    job.query_condition = no_condition;
    job.action = MethodAction{.method_name = "m"};
    EXPECT_EQ(engine->CountTargets(no_condition).ok(),
              engine->CreateJob(job).ok())
        << no_condition;
  }
}

}  // namespace
}  // namespace muster
