// Connections that have numbers (ConnectionChange::link): what the engine keeps
// of them, and that nobody else's work goes over one.
//
// A link names its device here, so that data accuses itself: a device answers
// with the name that the link has, and an execution that has another's answer
// went to the wrong one.
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/model/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/manual_journal.h"
#include "tests/simulated/simulated_executor.h"

namespace muster {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::string Name(int device) { return absl::StrCat("d", device); }
uint64_t Link(int device, int serial = 1) {
  return static_cast<uint64_t>(serial) << 32 | static_cast<uint32_t>(device);
}
std::string NameOf(uint64_t link) {
  return link == 0 ? "nobody" : Name(static_cast<int>(link & 0xffffffff));
}

class LinkTransport : public Transport {
 public:
  explicit LinkTransport(bool wants_device_ids = false)
      : wants_device_ids_(wants_device_ids) {}

  struct Call {
    std::string method;
    uint64_t link = 0;
    std::string device_id;  // Empty: not named.
  };

  void Start(TransportSink* sink) override { sink_ = sink; }
  bool wants_device_ids() const override { return wants_device_ids_; }
  size_t Send(const MethodBatch& batch) override {
    EXPECT_EQ(batch.links.size(), batch.attempts.size());
    EXPECT_EQ(batch.device_ids.size(),
              wants_device_ids_ ? batch.attempts.size() : 0);
    std::vector<Outcome> outcomes;
    std::vector<std::string> payloads(batch.links.size());
    {
      absl::MutexLock lock(&mutex_);
      for (size_t i = 0; i < batch.links.size(); ++i) {
        const uint64_t link = batch.links[i];
        calls_.push_back({batch.method->name, link,
                          wants_device_ids_ ? std::string(batch.device_ids[i])
                                            : std::string()});
        payloads[i] = absl::StrCat("\"", NameOf(link), "\"");
        Outcome outcome{.attempt = batch.attempts[i], .status = 200};
        if (link == 0 || dead_.contains(link)) {
          outcome.code = OutcomeCode::kNotConnected;
        } else {
          outcome.payload = payloads[i];
        }
        outcomes.push_back(outcome);
      }
    }
    sink_->OnOutcomes(outcomes);
    return batch.attempts.size();
  }
  void NotifyDesired(absl::Span<const DesiredNotification> told) override {
    absl::MutexLock lock(&mutex_);
    for (const DesiredNotification& n : told) {
      EXPECT_EQ(n.device_id, wants_device_ids_ ? NameOf(n.link) : "");
      events_.push_back(
          absl::StrCat("tell ", NameOf(n.link), " ", n.patch, " ", n.version));
    }
  }
  void Disconnect(absl::Span<const uint64_t> links) override {
    ASSERT_FALSE(shut_down_.load());
    if (on_disconnect) on_disconnect();
    absl::MutexLock lock(&mutex_);
    for (const uint64_t link : links) {
      events_.push_back(absl::StrCat("drop ", NameOf(link)));
      dropped_.push_back(link);
    }
  }
  void Shutdown() override { shut_down_.store(true); }

  ConnectionAnswer Report(int device, bool connected, uint64_t link) {
    const std::string id = Name(device);
    const ConnectionChange change{id, connected, link};
    ConnectionAnswer answer;
    sink_->OnConnections({&change, 1}, {&answer, 1});
    return answer;
  }

  // From now on not connected, although nobody says so to the engine.
  void Kill(uint64_t link) {
    absl::MutexLock lock(&mutex_);
    dead_[link] = true;
  }
  TransportSink& sink() { return *sink_; }
  std::vector<Call> calls() const {
    absl::MutexLock lock(&mutex_);
    return calls_;
  }
  std::vector<uint64_t> links() const {
    std::vector<uint64_t> links;
    for (const Call& call : calls()) links.push_back(call.link);
    return links;
  }
  std::vector<std::string> events() const {
    absl::MutexLock lock(&mutex_);
    return events_;
  }
  std::vector<uint64_t> dropped() const {
    absl::MutexLock lock(&mutex_);
    return dropped_;
  }

  std::function<void()> on_disconnect;

 private:
  const bool wants_device_ids_;
  TransportSink* sink_ = nullptr;
  std::atomic<bool> shut_down_{false};
  mutable absl::Mutex mutex_;
  std::map<uint64_t, bool> dead_ ABSL_GUARDED_BY(mutex_);
  std::vector<Call> calls_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> events_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint64_t> dropped_ ABSL_GUARDED_BY(mutex_);
};

absl::Status Upsert(Engine& engine, int device,
                    absl::string_view members = "") {
  return engine.UpsertTwin(
      absl::StrCat(R"({"deviceId":")", Name(device), "\"", members, "}"));
}

JobRequest Method(const std::string& id) {
  JobRequest job;
  job.job_id = id;
  job.query_condition = "*";
  job.action = MethodAction{.method_name = id};
  job.max_execution_time_seconds = 60;
  return job;
}

std::string StateOf(Engine& engine, int device) {
  const absl::StatusOr<TwinSnapshot> twin = engine.GetTwin(Name(device));
  if (!twin.ok()) return "none";
  return std::string(
      twin->document.view().Find("connectionState").string_value());
}

// What became of each execution: "d1: d1" if d1 has answered, as it should.
std::vector<std::string> Answers(Engine& engine, const std::string& job) {
  std::vector<std::string> answers;
  EXPECT_TRUE(
      engine
          .ForEachExecution(
              job,
              [&](const ExecutionRecord& record) {
                answers.push_back(absl::StrCat(
                    record.device_id, ": ",
                    record.response.has_value() ? record.response->payload
                    : IsTerminal(record.status)
                        ? absl::StrCat(static_cast<int>(record.error_code))
                        : ExecutionStatusName(record.status)));
              })
          .ok());
  return answers;
}

// One thread, one partition: rows are re-used at once.
class Connections : public testing::Test {
 protected:
  Connections() { Start(); }
  ~Connections() override { engine->Stop(); }

  void Start(bool wants_device_ids = false) {
    engine.reset();
    transport = std::make_unique<LinkTransport>(wants_device_ids);
    engine = *Engine::Create({.transport = transport.get(),
                              .clock = &time,
                              .executor = &time,
                              .journal = &journal});
  }
  void Add(int device) { ASSERT_TRUE(Upsert(*engine, device).ok()); }
  bool Connect(int device, int serial = 1) {
    const bool known =
        transport->Report(device, true, Link(device, serial)).known;
    time.RunReady();
    return known;
  }
  void Run(const std::string& job) {
    ASSERT_TRUE(engine->CreateJob(Method(job)).ok());
    time.RunReady();
  }
  JobStatus Status(const std::string& job) {
    return engine->GetJob(job)->status;
  }

  SimulatedExecutor time;
  ManualJournal journal{1};
  std::unique_ptr<LinkTransport> transport;
  std::unique_ptr<Engine> engine;
};

TEST_F(Connections, EachReportIsAnswered) {
  Add(1);
  ConnectionAnswer answer = transport->Report(2, true, Link(2));
  EXPECT_FALSE(answer.known);
  EXPECT_EQ(answer.previous_link, 0);

  answer = transport->Report(1, true, Link(1, 1));
  EXPECT_TRUE(answer.known);
  EXPECT_EQ(answer.previous_link, 0);
  answer = transport->Report(1, true, Link(1, 1));
  EXPECT_TRUE(answer.known);
  EXPECT_EQ(answer.previous_link, 0) << "over this very link";
  answer = transport->Report(1, true, Link(1, 2));
  EXPECT_TRUE(answer.known);
  EXPECT_EQ(answer.previous_link, Link(1, 1));
  EXPECT_EQ(StateOf(*engine, 1), "Connected");

  answer = transport->Report(1, false, Link(1, 1));
  EXPECT_TRUE(answer.known);
  EXPECT_EQ(answer.previous_link, 0);
  EXPECT_EQ(StateOf(*engine, 1), "Connected") << "it ended before";
  transport->Report(1, false, Link(1, 2));
  EXPECT_EQ(StateOf(*engine, 1), "Disconnected");
  answer = transport->Report(1, false, Link(1, 2));
  EXPECT_TRUE(answer.known);
  EXPECT_EQ(transport->Report(1, true, Link(1, 3)).previous_link, 0)
      << "it was not connected";
}

TEST_F(Connections, AnswersMeetTheirChanges) {
  Add(1);
  Add(3);
  transport->Report(3, true, Link(3, 1));
  const ConnectionChange changes[] = {
      {"d1", true, Link(1)}, {"d2", true, Link(2)}, {"d3", true, Link(3, 2)}};
  ConnectionAnswer answers[] = {{false, 9}, {true, 9}, {false, 9}};
  transport->sink().OnConnections(changes, absl::MakeSpan(answers));
  EXPECT_TRUE(answers[0].known);
  EXPECT_EQ(answers[0].previous_link, 0);
  EXPECT_FALSE(answers[1].known);
  EXPECT_EQ(answers[1].previous_link, 0);
  EXPECT_TRUE(answers[2].known);
  EXPECT_EQ(answers[2].previous_link, Link(3, 1));
  transport->sink().OnConnections(changes, {});  // Nobody asks.
}

TEST_F(Connections, ATakeOverIsSeenInTheTwinAsActivityOnly) {
  Add(1);
  transport->Report(1, true, Link(1, 1));
  const TwinSnapshot before = *engine->GetTwin("d1");
  time.Advance(absl::Seconds(100));
  transport->Report(1, true, Link(1, 2));
  const TwinSnapshot after = *engine->GetTwin("d1");
  EXPECT_EQ(after.state, before.state);
  EXPECT_EQ(after.etag, before.etag);
  EXPECT_LT(before.document.view().Find("lastActivityTime").string_value(),
            after.document.view().Find("lastActivityTime").string_value());
}

TEST_F(Connections, WorkGoesOverTheLastConnection) {
  Add(1);
  Connect(1, 1);
  Connect(1, 2);
  Run("a");
  EXPECT_THAT(transport->links(), ElementsAre(Link(1, 2)));
  transport->Report(1, false, Link(1, 1));
  Run("b");
  EXPECT_THAT(transport->links(), ElementsAre(Link(1, 2), Link(1, 2)));
  EXPECT_EQ(Status("b"), JobStatus::kCompleted);
}

TEST_F(Connections, ATransportThatWantsNamesGetsBoth) {
  Start(/*wants_device_ids=*/true);
  Add(1);
  Connect(1, 5);
  Run("a");
  ASSERT_EQ(transport->calls().size(), 1);
  EXPECT_EQ(transport->calls()[0].device_id, "d1");
  EXPECT_EQ(transport->calls()[0].link, Link(1, 5));
}

TEST_F(Connections, ATakeOverWakesWhatWaits) {
  Add(1);
  Connect(1, 1);
  transport->Kill(Link(1, 1));
  Run("a");
  EXPECT_THAT(transport->links(), ElementsAre(Link(1, 1)));
  EXPECT_EQ(Status("a"), JobStatus::kRunning);
  Connect(1, 2);  // No time passes.
  EXPECT_THAT(transport->links(), ElementsAre(Link(1, 1), Link(1, 2)));
  EXPECT_EQ(Status("a"), JobStatus::kCompleted);
  EXPECT_THAT(Answers(*engine, "a"), ElementsAre("d1: \"d1\""));
}

TEST_F(Connections, ARangeThatWaitsForTheJournalGoesOverTheLinkThatItHad) {
  Add(1);
  Connect(1, 1);
  ASSERT_TRUE(engine->CreateJob(Method("a")).ok());
  journal.Hold();
  // Targets, start, range: until the range's record is what is held.
  for (int i = 0; i < 2; ++i) {
    time.RunReady();
    journal.ReleaseRound();
  }
  time.RunReady();
  EXPECT_THAT(transport->links(), IsEmpty());
  transport->Report(1, true, Link(1, 2));
  transport->Kill(Link(1, 1));
  journal.ReleaseAll();
  time.RunReady();
  EXPECT_EQ(transport->links()[0], Link(1, 1));
  EXPECT_TRUE(time.RunUntil(
      [&] { return Status("a") == JobStatus::kCompleted; }, absl::Seconds(5)));
  EXPECT_THAT(transport->links(), ElementsAre(Link(1, 1), Link(1, 2)));
  EXPECT_THAT(Answers(*engine, "a"), ElementsAre("d1: \"d1\""));
}

TEST_F(Connections, NotificationsGoByLink) {
  Add(1);
  Add(2);
  Connect(1);
  ASSERT_TRUE(
      engine->PatchTwin("d1", R"({"properties":{"desired":{"a":1}}})").ok());
  ASSERT_TRUE(
      engine->PatchTwin("d2", R"({"properties":{"desired":{"a":1}}})").ok());
  time.RunReady();
  EXPECT_THAT(transport->events(), ElementsAre("tell d1 {\"a\":1} 2"));
  Connect(2);
  JobRequest job = Method("t");
  TwinUpdateAction update;
  update.patch.desired = *ParseJson(R"({"a":2})");
  job.action = update;
  ASSERT_TRUE(engine->CreateJob(job).ok());
  time.RunReady();
  EXPECT_THAT(transport->events(),
              ElementsAre("tell d1 {\"a\":1} 2", "tell d1 {\"a\":2} 3",
                          "tell d2 {\"a\":2} 3"));
}

TEST_F(Connections, TheSameByNameToo) {
  Start(/*wants_device_ids=*/true);
  Add(1);
  Connect(1);
  ASSERT_TRUE(
      engine->PatchTwin("d1", R"({"properties":{"desired":{"a":1}}})").ok());
  time.RunReady();
  EXPECT_THAT(transport->events(), ElementsAre("tell d1 {\"a\":1} 2"));
}

TEST_F(Connections, WhoseTwinIsErasedIsDisconnected) {
  for (int device = 1; device <= 3; ++device) Add(device);
  Connect(1, 4);
  Connect(2, 4);
  transport->Report(2, false, Link(2, 4));
  // Called with no lock held: everything can be asked from there.
  transport->on_disconnect = [&] {
    EXPECT_FALSE(engine->GetTwin("d1").ok());
    EXPECT_TRUE(Upsert(*engine, 7).ok());
    EXPECT_TRUE(engine->GetTwin("d7").ok());
  };
  ASSERT_TRUE(
      engine->PatchTwin("d1", R"({"properties":{"desired":{"a":1}}})").ok());
  ASSERT_TRUE(engine->EraseTwin("d1").ok());
  ASSERT_TRUE(engine->EraseTwin("d2").ok());  // Not connected,
  ASSERT_TRUE(engine->EraseTwin("d3").ok());  // and never was.
  time.RunReady();
  EXPECT_THAT(transport->events(),
              ElementsAre("tell d1 {\"a\":1} 2", "drop d1"));
  EXPECT_THAT(transport->dropped(), ElementsAre(Link(1, 4)));
  EXPECT_FALSE(transport->Report(1, false, Link(1, 4)).known);
}

TEST_F(Connections, NobodyIsDisconnectedBeforeTheErasureIsDurable) {
  Add(1);
  Connect(1);
  journal.Refuse(absl::UnavailableError("the disk is away"));
  EXPECT_EQ(ErrorCodeOf(engine->EraseTwin("d1")),
            ErrorCode::kServiceUnavailable);
  time.RunReady();
  EXPECT_THAT(transport->dropped(), IsEmpty());
  journal.Refuse(absl::OkStatus());
  time.Advance(absl::Seconds(5));
  EXPECT_THAT(transport->dropped(), ElementsAre(Link(1)));
}

TEST_F(Connections, NobodyIsDisconnectedIfTheErasureNeverIs) {
  Add(1);
  Connect(1);
  journal.Refuse(absl::FailedPreconditionError("another owns it"));
  EXPECT_FALSE(engine->EraseTwin("d1").ok());
  time.Advance(absl::Seconds(5));
  EXPECT_THAT(transport->dropped(), IsEmpty());
}

TEST_F(Connections, NobodyIsDisconnectedOnceTheEngineIsStopped) {
  Add(1);
  Connect(1);
  ASSERT_TRUE(engine->EraseTwin("d1").ok());
  engine->Stop();  // What would call it is on the executor still.
  time.RunReady();
  EXPECT_THAT(transport->dropped(), IsEmpty());
}

TEST_F(Connections, WhoComesToARowHasNothingOfTheOneBefore) {
  Add(1);
  Connect(1);
  // A job that has selected d1 and not sent yet.
  ASSERT_TRUE(engine->CreateJob(Method("a")).ok());
  while (Status("a") != JobStatus::kRunning) ASSERT_TRUE(time.RunOne());
  ASSERT_THAT(transport->links(), IsEmpty());
  // d1 goes and d2 comes to its row.
  ASSERT_TRUE(engine->EraseTwin("d1").ok());
  Add(2);
  EXPECT_EQ(StateOf(*engine, 2), "Disconnected");
  time.RunReady();
  EXPECT_THAT(transport->links(), IsEmpty());
  EXPECT_THAT(Answers(*engine, "a"), ElementsAre("d1: 404001"));
  Run("b");
  EXPECT_THAT(transport->links(), IsEmpty()) << "d2 is not connected";
  EXPECT_EQ(transport->Report(2, true, Link(2, 3)).previous_link, 0);
  time.RunReady();
  for (const uint64_t link : transport->links()) EXPECT_EQ(link, Link(2, 3));
  EXPECT_THAT(Answers(*engine, "b"), ElementsAre("d2: \"d2\""));
  // The end of the other's connection is none of d2's.
  transport->Report(1, false, Link(1));
  EXPECT_EQ(StateOf(*engine, 2), "Connected");
}

TEST_F(Connections, AJobDoesNotFollowARowToItsNextDevice) {
  Add(1);
  Run("a");  // Waits for d1.
  ASSERT_TRUE(engine->EraseTwin("d1").ok());
  Add(2);
  Connect(2);
  EXPECT_THAT(transport->links(), IsEmpty());
  EXPECT_THAT(Answers(*engine, "a"), ElementsAre("d1: 404001"));
}

TEST_F(Connections, ADocumentDoesNotCutOffWhoHasALink) {
  Add(1);
  Connect(1);
  ASSERT_TRUE(Upsert(*engine, 1, R"(,"connectionState":"Disconnected")").ok());
  EXPECT_EQ(StateOf(*engine, 1), "Connected");
  Run("a");
  EXPECT_THAT(transport->links(), ElementsAre(Link(1)));
  transport->Report(1, false, Link(1));
  EXPECT_EQ(StateOf(*engine, 1), "Disconnected");
}

TEST_F(Connections, WhoIsConnectedByADocumentAloneWaitsForALink) {
  ASSERT_TRUE(Upsert(*engine, 1, R"(,"connectionState":"Connected")").ok());
  Run("a");
  EXPECT_THAT(transport->links(), IsEmpty());
  // An end of what nobody has reported.
  transport->Report(1, false, Link(1));
  EXPECT_EQ(StateOf(*engine, 1), "Connected");
  EXPECT_EQ(transport->Report(1, true, Link(1, 2)).previous_link, 0);
  time.RunReady();
  EXPECT_THAT(transport->links(), ElementsAre(Link(1, 2)));
  EXPECT_EQ(Status("a"), JobStatus::kCompleted);
  ASSERT_TRUE(Upsert(*engine, 2, R"(,"connectionState":"Connected")").ok());
  ASSERT_TRUE(engine->EraseTwin("d2").ok());
  time.RunReady();
  EXPECT_THAT(transport->dropped(), IsEmpty()) << "it had no connection";
}

// As the twins of an export that somebody has imported.
TEST_F(Connections, WhoIsConnectedByADocumentAloneMissesTheConnectTimeout) {
  for (int device = 1; device <= 3; ++device) {
    ASSERT_TRUE(
        Upsert(*engine, device, R"(,"connectionState":"Connected")").ok());
  }
  JobRequest request = Method("a");
  std::get<MethodAction>(request.action).connect_timeout_seconds = 5;
  ASSERT_TRUE(engine->CreateJob(request).ok());
  time.Advance(absl::Seconds(4));
  EXPECT_EQ(Status("a"), JobStatus::kRunning);
  time.Advance(absl::Seconds(1));
  EXPECT_EQ(Status("a"), JobStatus::kCompleted);
  EXPECT_THAT(Answers(*engine, "a"),
              ElementsAre("d1: 404103", "d2: 404103", "d3: 404103"));
  EXPECT_THAT(transport->links(), IsEmpty());
}

// Who goes by names may well reach them.
TEST_F(Connections, ATransportThatWantsNamesIsAskedForThem) {
  Start(/*wants_device_ids=*/true);
  ASSERT_TRUE(Upsert(*engine, 1, R"(,"connectionState":"Connected")").ok());
  Run("a");
  EXPECT_THAT(transport->links(), ElementsAre(0));
}

TEST_F(Connections, LinksAreKeptWhileTheShardGrows) {
  constexpr int kDevices = 300;
  for (int device = 1; device <= kDevices; ++device) {
    Add(device);
    ASSERT_TRUE(Connect(device));
  }
  Run("a");
  EXPECT_EQ(Status("a"), JobStatus::kCompleted);
  for (const std::string& answer : Answers(*engine, "a")) {
    const std::string name = answer.substr(0, answer.find(':'));
    EXPECT_EQ(answer, absl::StrCat(name, ": \"", name, "\""));
  }
}

TEST(ConnectionsAfterARestart, AreReportedAnew) {
  SimulatedExecutor time;
  auto journal = *MakeMemoryJournal(
      {.partition_count = 1,
       .retained_bytes_max = MemoryJournalOptions::kRetainAll});
  std::unique_ptr<LinkTransport> transport;
  std::unique_ptr<Engine> engine;
  const auto start = [&] {
    engine.reset();
    transport = std::make_unique<LinkTransport>();
    engine = *Engine::Create({.transport = transport.get(),
                              .clock = &time,
                              .executor = &time,
                              .journal = journal.get()});
  };
  for (const bool snapshots : {false, true}) {
    start();
    ASSERT_TRUE(Upsert(*engine, 1).ok());
    EXPECT_EQ(transport->Report(1, true, Link(1, 8)).previous_link, 0);
    // With a connection in the journal's own text of the twin.
    ASSERT_TRUE(Upsert(*engine, 1, R"(,"tags":{"a":1})").ok());
    if (snapshots) {
      ASSERT_TRUE(engine->WriteSnapshots().ok());
    }
    start();
    EXPECT_EQ(StateOf(*engine, 1), "Disconnected");
    EXPECT_TRUE(transport->Report(1, false, Link(1, 8)).known);
    EXPECT_EQ(transport->Report(1, true, Link(1, 9)).previous_link, 0);
    const std::string job = snapshots ? "s" : "c";
    ASSERT_TRUE(engine->CreateJob(Method(job)).ok());
    time.RunReady();
    EXPECT_THAT(transport->links(), ElementsAre(Link(1, 9)));
  }
}

// Gateways that take devices from each other, devices that go for good and
// others that come to their rows, while jobs run over all of them.
TEST(ConnectionsStress, NobodyGetsTheWorkOfAnother) {
  const uint32_t seed = 20261122;
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  constexpr int kDevices = 400, kGateways = 3, kJobs = 30;
  LinkTransport transport;
  auto executor = MakeThreadExecutor(3);
  auto journal = *MakeMemoryJournal({.partition_count = 2});
  auto engine = *Engine::Create({.transport = &transport,
                                 .executor = executor.get(),
                                 .journal = journal.get(),
                                 .range_rows_max = 16});

  // What a transport with many streams knows of a device.  The mutex keeps its
  // reports in order, as the port wants it.
  struct Device {
    absl::Mutex mutex;
    bool there ABSL_GUARDED_BY(mutex) = false;
    int serial ABSL_GUARDED_BY(mutex) = 0;
    uint64_t link ABSL_GUARDED_BY(mutex) = 0;   // The engine's, if it is there.
    uint64_t stale ABSL_GUARDED_BY(mutex) = 0;  // One that has been replaced.
  };
  std::vector<Device> devices(kDevices);
  for (int number = 0; number < kDevices; ++number) {
    Device& device = devices[static_cast<size_t>(number)];
    absl::MutexLock lock(&device.mutex);
    ASSERT_TRUE(Upsert(*engine, number).ok());
    device.there = true;
  }
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  for (int g = 0; g < kGateways; ++g) {
    threads.emplace_back([&, g] {
      std::mt19937 random(seed + static_cast<uint32_t>(g));
      while (!done.load()) {
        const int number = static_cast<int>(random() % kDevices);
        Device& device = devices[static_cast<size_t>(number)];
        const uint32_t what = random() % 16;
        absl::MutexLock lock(&device.mutex);
        if (what < 2) {
          const absl::Status status = device.there
                                          ? engine->EraseTwin(Name(number))
                                          : Upsert(*engine, number);
          ASSERT_TRUE(status.ok()) << status;
          device.there = !device.there;
          device.link = 0;
        } else if (what < 10) {
          const uint64_t link = Link(number, ++device.serial);
          const ConnectionAnswer answer = transport.Report(number, true, link);
          ASSERT_EQ(answer.known, device.there);
          ASSERT_EQ(answer.previous_link, device.link);
          device.stale = device.link;
          if (device.there) device.link = link;
        } else if (what < 12) {
          const ConnectionAnswer answer =
              transport.Report(number, false, device.link);
          ASSERT_EQ(answer.known, device.there);
          device.link = 0;
        } else if (device.stale != 0) {
          ASSERT_EQ(transport.Report(number, false, device.stale).known,
                    device.there);
        }
      }
    });
  }
  std::vector<std::string> jobs;
  for (int j = 0; j < kJobs; ++j) {
    jobs.push_back(absl::StrCat("job-", j));
    ASSERT_TRUE(engine->CreateJob(Method(jobs.back())).ok());
    if (j % 4 == 3) {
      // Whoever wins.
      engine
          ->CancelJob(jobs[static_cast<size_t>(j) - 2],
                      {.cancel_running = true})
          .status()
          .IgnoreError();
    }
    // Some have their answers before the next one comes.
    engine->WaitJob(jobs.back(), absl::Milliseconds(j % 3 * 5))
        .status()
        .IgnoreError();
  }
  done.store(true);
  for (std::thread& thread : threads) thread.join();

  // At rest each has the link that its transport thinks it has.
  std::map<std::string, uint64_t> expected;
  for (int number = 0; number < kDevices; ++number) {
    Device& device = devices[static_cast<size_t>(number)];
    absl::MutexLock lock(&device.mutex);
    if (!device.there) continue;
    if (device.link == 0) {
      device.link = Link(number, ++device.serial);
      ASSERT_TRUE(transport.Report(number, true, device.link).known);
    }
    expected[Name(number)] = device.link;
  }
  ASSERT_TRUE(engine->CreateJob(Method("last")).ok());
  jobs.push_back("last");
  int64_t answered = 0;
  for (const std::string& job : jobs) {
    const absl::StatusOr<JobInfo> ended =
        engine->WaitJob(job, absl::Seconds(100));
    ASSERT_TRUE(ended.ok()) << ended.status();
    ASSERT_TRUE(engine
                    ->ForEachExecution(
                        job,
                        [&](const ExecutionRecord& record) {
                          if (!record.response.has_value()) return;
                          ++answered;
                          EXPECT_EQ(record.response->payload,
                                    absl::StrCat("\"", record.device_id, "\""))
                              << job;
                        })
                    .ok());
  }
  EXPECT_GT(answered, static_cast<int64_t>(expected.size()));
  std::map<std::string, uint64_t> last;
  for (const LinkTransport::Call& call : transport.calls()) {
    if (call.method != "last") continue;
    EXPECT_TRUE(last.emplace(NameOf(call.link), call.link).second);
  }
  EXPECT_EQ(last, expected);
  engine->Stop();
}

}  // namespace
}  // namespace muster
