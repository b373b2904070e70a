#include "tests/simulator/simulation.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/model/error.h"
#include "engine/model/job.h"
#include "engine/model/json.h"
#include "engine/model/limits.h"
#include "engine/query/condition.h"
#include "engine/query/document.h"
#include "engine/twin/device_hash.h"
#include "tests/choices.h"
#include "tests/simulated/simulated_executor.h"
#include "tests/simulator/job_model.h"
#include "tests/simulator/sim_devices.h"
#include "tests/simulator/sim_disk.h"
#include "tests/simulator/sim_journal.h"
#include "tests/simulator/twin_states.h"

namespace muster::simulator {
namespace {

constexpr int kStepsMax = 1000;
constexpr int kJobsMax = 14;
// What the engine's own timers may be late by.
constexpr absl::Duration kGrace = absl::Seconds(30);

// What an answer says about the change that was asked for.
enum class Answer { kDone, kRefused, kUnknown };

Answer AnswerOf(const absl::Status& status) {
  if (status.ok()) return Answer::kDone;
  switch (ErrorCodeOf(status)) {
    case ErrorCode::kServiceUnavailable:
      return Answer::kUnknown;
    case ErrorCode::kThrottlingMaxActiveJobCountExceeded:
    case ErrorCode::kDeviceNotFound:
    case ErrorCode::kDeviceAlreadyExists:
    case ErrorCode::kJobNotFound:
    case ErrorCode::kJobAlreadyExists:
    case ErrorCode::kOperationNotAllowedInCurrentState:
      return Answer::kRefused;
    default:
      return status.code() == absl::StatusCode::kInvalidArgument
                 ? Answer::kRefused
                 : Answer::kUnknown;
  }
}

struct Device {
  std::string id;
  int partition = 0;
  TwinStates states;
  int erased_tick = 0;     // The last erasure that was acknowledged.
  int disturbed_tick = 0;  // Last time that what jobs wrote may have gone.
};

class Simulation {
 public:
  explicit Simulation(const SimulationOptions& options);
  ~Simulation();

  SimulationResult Run();

 private:
  struct Life {
    int number = 0;
    std::unique_ptr<SimJournal::Front> journal;
    std::unique_ptr<SimDevices::Front> transport;
    std::unique_ptr<Engine> engine;
  };

  bool violated() const { return !result_.violation.empty(); }
  void Violate(const std::string& what) {
    if (!violated()) result_.violation = what;
    if (world_.trace) world_.trace(absl::StrCat("VIOLATION ", what));
  }
  template <typename... Args>
  void Trace(const Args&... args) {
    if (world_.trace) world_.trace(absl::StrCat(args...));
  }
  Choices& choices() { return *world_.choices; }
  uint32_t Below(uint32_t limit) { return choices().Below(limit); }
  bool OneIn(uint32_t count) { return Below(count) == 0; }
  template <typename T>
  T& AnyOf(std::vector<T>& of) {
    return of[Below(static_cast<uint32_t>(of.size()))];
  }

  // ----------------------------------------------------------- the engine
  absl::StatusOr<Life> Begin();
  static void Kill(Life* life);
  // After a crash: until there is an engine again.
  void StartUp();
  void Crash(bool with_damage);
  void Restart();
  void TakeOver();
  void PokeZombie();
  void OnNewLife();

  // ----------------------------------------------------------------- steps
  void SetUp();
  void Step(int number);
  void Advance();
  void WriteTwin();
  void WriteTwin(Device& device, bool succeed);
  void CreateJob();
  void CancelJob();
  void ArmTransport();
  void ArmDisk();
  void StepWall();
  void TakeSnapshot();
  void AskQuery();
  void Finish();

  // ---------------------------------------------------------------- checks
  void CheckAll(bool everything);
  void CheckJob(JobModel& job);
  void CheckRecords(JobModel& job);
  void CheckEnd(JobModel& job, const ExecutionRecord& record);
  void CheckTwin(Device& device);
  // A twin may have changed: what jobs that have not begun may find.
  void NoteTargets();
  void ResetTargets(JobModel& job);

  // By the clock as it is or was.
  bool HasExpired(const JobModel& job) {
    return job.terminal() &&
           std::max(wall_latest_, time_.Now()) >=
               *job.last->end_time + absl::Hours(24) * kJobHistoryDays;
  }
  // Whether a job's whole history may have passed since some time.
  bool MayHaveExpired() {
    return now() + wall_step_ - wall_step_min_ >=
           absl::Hours(24) * kJobHistoryDays;
  }
  Device& DeviceOf(const std::string& id) { return devices_[by_id_.at(id)]; }
  JobModel* JobOf(const std::string& id);
  absl::Duration now() { return time_.Monotonic(); }
  int PartitionOf(const std::string& id) const {
    return PartitionOfHash(DeviceHash(id), partitions_);
  }
  void Digest(absl::string_view text) {
    for (const char c : text) {
      result_.digest =
          (result_.digest ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    }
  }

  const SimulationOptions options_;
  SimulationResult result_;
  World world_;
  Choices setup_;
  std::optional<Choices> step_choices_;
  SimulatedExecutor time_;
  int partitions_;
  SimDisk disk_;
  SimJournal journal_;
  SimDevices fleet_;
  Profile profile_;
  EngineOptions engine_options_;

  std::optional<Life> life_;
  std::optional<Life> zombie_;  // The owner before.
  int lives_ = 0;
  absl::Duration life_began_;

  int tick_ = 1;  // Of everything that the model is told, in order.
  std::vector<Device> devices_;
  std::map<std::string, size_t> by_id_;
  std::vector<JobModel> jobs_;
  int asked_ = 0;  // Jobs that were to be created.
  absl::Duration trouble_ = -absl::InfiniteDuration();       // The disk's last.
  absl::Duration wall_stepped_ = -absl::InfiniteDuration();  // The last time.
  absl::Duration wall_step_ = absl::ZeroDuration();          // All of them.
  absl::Duration wall_step_max_ = absl::ZeroDuration();
  absl::Time wall_latest_ = absl::InfinitePast();  // It has been so late.
  absl::Duration wall_step_min_ = absl::ZeroDuration();
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

Simulation::Simulation(const SimulationOptions& options)
    : options_(options),
      setup_(options.seed * 2 + 1),
      partitions_(1 + setup_.IntBelow(3)),
      disk_(&world_),
      journal_(&world_, &disk_, &time_, &time_, partitions_),
      fleet_(&world_, &time_, &time_) {
  world_.choices = &setup_;
  world_.trace = options.trace;
  world_.violation = [this](const std::string& what) { Violate(what); };
  world_.faults.on_strike = [this](Fault fault) {
    if (fault <= Fault::kBitFlipped) trouble_ = now();
    Trace("  fault: ", FaultName(fault));
  };
  if (setup_.Below(2) == 0) {
    time_.SetOrder([this](size_t count) {
      return choices().Below(static_cast<uint32_t>(count));
    });
  }
  profile_.active_jobs_max = setup_.Below(3) == 0 ? 2 : 1024;
  if (setup_.Below(3) == 0) {
    profile_.job_device_operations_per_second = 1 + setup_.IntBelow(3);
  }
  engine_options_.clock = &time_;
  engine_options_.executor = &time_;
  engine_options_.profile = profile_;
  engine_options_.on_active_limit = setup_.Below(2) == 0
                                        ? ActiveLimitPolicy::kReject
                                        : ActiveLimitPolicy::kQueue;
  engine_options_.range_rows_max = 1 + setup_.IntBelow(8);
  // A snapshot that the engine takes by itself waits for the journal, in our
  // only thread, which would have to answer: so either the journal takes its
  // time, or there are such snapshots, for which histories end too.
  if (setup_.Below(3) == 0) {
    journal_.AnswerAtOnce();
    engine_options_.snapshot_after_bytes = 4096;
  }
}

Simulation::~Simulation() {
  if (zombie_) Kill(&*zombie_);
  if (life_) Kill(&*life_);
}

// -------------------------------------------------------------- the engine

absl::StatusOr<Simulation::Life> Simulation::Begin() {
  Life life;
  life.number = ++lives_;
  life.journal = journal_.MakeFront();
  life.transport = fleet_.MakeFront(life.number);
  EngineOptions options = engine_options_;
  options.transport = life.transport.get();
  options.journal = life.journal.get();
  journal_.BeginBlocking(SimJournal::kAll);
  absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Create(options);
  journal_.EndBlocking();
  if (!engine.ok()) {
    life.journal->CutOff();
    return engine.status();
  }
  life.engine = *std::move(engine);
  return life;
}

// As if the process were killed: nothing that it has not done is done.
void Simulation::Kill(Life* life) {
  life->transport->CutOff();
  life->journal->CutOff();
  life->engine.reset();
}

void Simulation::StartUp() {
  for (int attempt = 0;; ++attempt) {
    absl::StatusOr<Life> life = Begin();
    if (life.ok()) {
      life_ = *std::move(life);
      break;
    }
    Trace("  does not start: ", life.status().ToString());
    if (attempt == 4) {
      Violate(absl::StrCat("does not start: ", life.status().ToString()));
      return;
    }
    if (attempt >= 2) {
      world_.faults.DisarmAll();
      disk_.SetFull(false);
    }
    journal_.PowerOff();
  }
  OnNewLife();
}

void Simulation::OnNewLife() {
  Trace("  life ", life_->number, " begins");
  life_began_ = now();
  ++tick_;
  for (Device& device : devices_) device.states.Restarted();
  NoteTargets();
  CheckAll(/*everything=*/true);
}

void Simulation::Crash(bool with_damage) {
  world_.faults.Count(Fault::kCrash);
  if (zombie_) Kill(&*zombie_);
  zombie_.reset();
  if (life_) Kill(&*life_);
  life_.reset();
  journal_.PowerOff();
  if (OneIn(3)) time_.Advance(absl::Seconds(Below(600)));
  if (OneIn(3)) disk_.DieAfter(Below(20));  // And again while it starts.
  if (with_damage && journal_.Damage()) {
    absl::StatusOr<Life> life = Begin();
    if (life.ok() && journal_.damage_seen()) {
      Violate("a flipped bit was read and not noticed");
    }
    if (!life.ok() && journal_.damage_seen()) {
      world_.faults.Count(Fault::kBitFlipped);
      Trace("  ", life.status().ToString());
    }
    if (life.ok()) Kill(&*life);
    journal_.Repair();
    journal_.PowerOff();
  }
  StartUp();
}

void Simulation::Restart() {
  world_.faults.Count(Fault::kRestart);
  if (zombie_) Kill(&*zombie_);
  zombie_.reset();
  journal_.BeginBlocking(SimJournal::kAll);
  life_->engine->Stop();
  journal_.EndBlocking();
  Kill(&*life_);
  life_.reset();
  journal_.PowerOff();
  StartUp();
}

void Simulation::TakeOver() {
  world_.faults.Count(Fault::kTakeover);
  if (zombie_) Kill(&*zombie_);
  zombie_ = std::move(life_);
  life_.reset();
  absl::StatusOr<Life> life = Begin();
  if (!life.ok()) {
    // The owner before may have lost some partitions already.
    Trace("  takeover fails: ", life.status().ToString());
    Kill(&*zombie_);
    zombie_.reset();
    journal_.PowerOff();
    StartUp();
    return;
  }
  life_ = *std::move(life);
  OnNewLife();
}

// Nothing that the engine before is asked to do may be done.
void Simulation::PokeZombie() {
  if (!zombie_) return;
  Engine& engine = *zombie_->engine;
  Device& device = AnyOf(devices_);
  absl::Status status;
  if (OneIn(2)) {
    journal_.BeginBlocking(device.partition);
    status = engine.PatchTwin(device.id, R"({"tags":{"zombie":1}})").status();
  } else {
    JobRequest request;
    request.job_id = absl::StrCat("zombie-", tick_);
    request.query_condition = "*";
    request.action = MethodAction{.method_name = "zombie"};
    journal_.BeginBlocking(PartitionOf(request.job_id));
    status = engine.CreateJob(request).status();
  }
  journal_.EndBlocking();
  Trace("  the zombie answers ", status.ToString());
  if (status.ok()) Violate("an engine that was replaced acknowledges a write");
}

// ------------------------------------------------------------------- steps

void Simulation::SetUp() {
  absl::StatusOr<Life> life = Begin();
  if (!life.ok()) {
    Violate(absl::StrCat("does not start: ", life.status().ToString()));
    return;
  }
  life_ = *std::move(life);
  const int count = 2 + setup_.IntBelow(OneIn(4) ? 30 : 9);
  for (int i = 0; i < count; ++i) {
    Device device;
    device.id = absl::StrCat("d", i);
    device.partition = PartitionOf(device.id);
    by_id_[device.id] = devices_.size();
    devices_.push_back(std::move(device));
  }
  for (Device& device : devices_) {
    if (OneIn(8)) continue;  // It comes later, or never.
    TwinWriteModel write;
    write.kind = TwinWriteModel::kUpsert;
    write.tags["a"] = Below(4);
    if (OneIn(2)) write.tags["b"] = Below(4);
    if (OneIn(2)) write.desired["a"] = Below(4);
    journal_.BeginBlocking(device.partition);
    const absl::Status status =
        life_->engine->UpsertTwin(write.Document(device.id));
    journal_.EndBlocking();
    if (!status.ok()) Violate(status.ToString());
    device.states.Acknowledged(write);
    CheckTwin(device);
    if (!OneIn(5)) fleet_.Connect(device.id, true);
  }
}

void Simulation::Step(int number) {
  // A step's decisions are its own.
  step_choices_.emplace(options_.seed * 0x9e3779b97f4a7c15 +
                        static_cast<uint64_t>(number) * 0xbf58476d1ce4e5b9);
  world_.choices = &*step_choices_;
  using Action = void (Simulation::*)();
  struct Kind {
    uint32_t weight;
    const char* name;
    Action action;
  };
  static constexpr Kind kKinds[] = {
      {16, "time passes", &Simulation::Advance},
      {16, "write a twin", &Simulation::WriteTwin},
      {9, "create a job", &Simulation::CreateJob},
      {4, "cancel a job", &Simulation::CancelJob},
      {14, "faults of the transport", &Simulation::ArmTransport},
      {9, "faults of the disk", &Simulation::ArmDisk},
      {3, "step the wall clock", &Simulation::StepWall},
      {4, "query", &Simulation::AskQuery},
      {3, "take a snapshot", &Simulation::TakeSnapshot},
  };
  // Those with arguments, or that are short.
  constexpr uint32_t kConnectWeight = 9, kRunSomeWeight = 4, kCrashWeight = 5,
                     kRestartWeight = 1, kTakeOverWeight = 2, kPokeWeight = 3;
  uint32_t total = kConnectWeight + kRunSomeWeight + kCrashWeight +
                   kRestartWeight + kTakeOverWeight + kPokeWeight;
  for (const Kind& kind : kKinds) total += kind.weight;
  uint32_t at = Below(total);
  const auto is = [&at](uint32_t weight) {
    if (at < weight) return true;
    at -= weight;
    return false;
  };
  const auto begin = [&](const char* name) {
    Trace("step ", number, " at ", absl::FormatDuration(now()), ": ", name);
  };
  bool done = false;
  for (const Kind& kind : kKinds) {
    if (!is(kind.weight)) continue;
    begin(kind.name);
    (this->*kind.action)();
    done = true;
    break;
  }
  if (done) {
  } else if (is(kConnectWeight)) {
    begin("connections change");
    for (int n = 1 + choices().IntBelow(3); n > 0; --n) {
      const Device& device = choices().Pick(devices_);
      const bool connected = !fleet_.IsConnected(device.id);
      Trace("  ", device.id, connected ? " connects" : " disconnects");
      fleet_.Connect(device.id, connected);
    }
  } else if (is(kRunSomeWeight)) {
    begin("run some callbacks");
    for (int n = choices().IntBelow(10); n > 0 && time_.RunOne(); --n) {
    }
  } else if (is(kCrashWeight)) {
    begin("crash");
    Crash(/*with_damage=*/OneIn(4));
  } else if (is(kRestartWeight)) {
    begin("restart");
    Restart();
  } else if (is(kTakeOverWeight)) {
    begin("takeover");
    TakeOver();
  } else {
    begin("ask the engine that was replaced");
    PokeZombie();
  }
  if (violated()) return;
  if (disk_.dead()) {
    Trace("  the machine is off");
    Crash(/*with_damage=*/false);
    if (violated()) return;
  }
  CheckAll(/*everything=*/false);
}

void Simulation::Advance() {
  absl::Duration duration;
  switch (Below(16)) {
    case 0:
      duration = absl::Hours(1);
      break;
    case 1:
      duration = journal_.at_once() && OneIn(4) ? absl::Hours(24 * 31)
                                                : absl::Minutes(20);
      break;
    case 2:
    case 3:
    case 4:
    case 5:
      duration = absl::Seconds(10 + Below(100));
      break;
    default:
      duration = absl::Milliseconds(1 + Below(6000));
      break;
  }
  Trace("  ", absl::FormatDuration(duration));
  // A machine that went off in between is not left so for weeks.
  const absl::Duration end = now() + duration;
  if (!time_.RunUntil([this] { return disk_.dead(); }, duration)) {
    time_.Advance(end - now());
  }
}

void Simulation::WriteTwin() { WriteTwin(AnyOf(devices_), OneIn(8)); }

// An erasure on demand is followed by a twin that takes the place.
void Simulation::WriteTwin(Device& device, bool succeed) {
  static constexpr TwinWriteModel::Kind kKinds[] = {
      TwinWriteModel::kUpsert,       TwinWriteModel::kUpsert,
      TwinWriteModel::kPatch,        TwinWriteModel::kPatch,
      TwinWriteModel::kPatch,        TwinWriteModel::kPatch,
      TwinWriteModel::kReport,       TwinWriteModel::kReplace,
      TwinWriteModel::kErase,        TwinWriteModel::kErase,
      TwinWriteModel::kEnable,       TwinWriteModel::kDisable,
      TwinWriteModel::kCreateDevice, TwinWriteModel::kUpdateDevice};
  TwinWriteModel write;
  write.kind = succeed ? TwinWriteModel::kErase : choices().Pick(kKinds);
  const bool may_remove = write.kind == TwinWriteModel::kPatch ||
                          write.kind == TwinWriteModel::kReport;
  const auto draw = [&](TwinState::Section* section) {
    for (const char* key : {"a", "b", "c"}) {
      if (OneIn(2)) continue;
      (*section)[key] = may_remove && OneIn(4) ? TwinWriteModel::kNull
                                               : static_cast<int64_t>(Below(4));
    }
  };
  draw(&write.tags);
  draw(&write.desired);
  draw(&write.reported);
  write.has_tags = OneIn(2);
  write.has_desired = !write.has_tags || OneIn(2);
  write.enabled = !OneIn(6);
  write.keys = 1 + static_cast<int64_t>(Below(100));
  const std::string document = write.Document(device.id);

  ++tick_;
  Engine& engine = *life_->engine;
  absl::Status status;
  journal_.BeginBlocking(device.partition);
  switch (write.kind) {
    case TwinWriteModel::kUpsert:
      status = engine.UpsertTwin(document);
      break;
    case TwinWriteModel::kPatch:
      status = engine.PatchTwin(device.id, document).status();
      break;
    case TwinWriteModel::kReplace:
      status = engine.ReplaceTwin(device.id, document).status();
      break;
    case TwinWriteModel::kReport:
      status = engine.PatchReported(device.id, document).status();
      break;
    case TwinWriteModel::kErase:
      status = engine.EraseTwin(device.id);
      break;
    case TwinWriteModel::kEnable:
    case TwinWriteModel::kDisable:
      status = engine.SetTwinEnabled(device.id,
                                     write.kind == TwinWriteModel::kEnable);
      break;
    case TwinWriteModel::kCreateDevice:
      status = engine.CreateDevice(write.Identity(device.id)).status();
      break;
    case TwinWriteModel::kUpdateDevice:
      status = engine.UpdateDevice(write.Identity(device.id)).status();
      break;
  }
  journal_.EndBlocking();
  Trace("  ", device.id, " ", document, ": ", status.ToString());
  Digest(status.ToString());

  const bool creates = write.kind == TwinWriteModel::kCreateDevice;
  const bool disturbs = creates || write.kind == TwinWriteModel::kUpsert ||
                        write.kind == TwinWriteModel::kReplace ||
                        write.kind == TwinWriteModel::kErase;
  switch (AnswerOf(status)) {
    case Answer::kDone:
      device.states.Acknowledged(write);
      if (disturbs) device.disturbed_tick = tick_;
      if (write.kind == TwinWriteModel::kErase) device.erased_tick = tick_;
      break;
    case Answer::kUnknown:
      device.states.Unknown(write);
      if (disturbs) device.disturbed_tick = tick_;
      break;
    case Answer::kRefused:
      if (ErrorCodeOf(status) != (creates ? ErrorCode::kDeviceAlreadyExists
                                          : ErrorCode::kDeviceNotFound)) {
        Violate(absl::StrCat("refused: ", status.ToString()));
      } else if (!device.states.Any([creates](const TwinState& s) {
                   return s.present == creates;
                 })) {
        Violate(absl::StrCat("I10: ", device.id,
                             creates ? " is there" : " is not there"));
      }
      break;
  }
  CheckTwin(device);
  NoteTargets();
  if (!succeed || !status.ok() || violated()) return;
  std::vector<Device*> absent;
  for (Device& other : devices_) {
    if (!other.states.Any([](const TwinState& s) { return s.present; })) {
      absent.push_back(&other);
    }
  }
  Device& next = OneIn(2) ? device : *choices().Pick(absent);
  TwinWriteModel upsert;
  upsert.kind = TwinWriteModel::kUpsert;
  upsert.tags["a"] = Below(4);
  ++tick_;
  journal_.BeginBlocking(next.partition);
  const absl::Status added =
      life_->engine->UpsertTwin(upsert.Document(next.id));
  journal_.EndBlocking();
  Trace("  ", next.id, " takes a place: ", added.ToString());
  if (added.ok()) {
    next.states.Acknowledged(upsert);
  } else {
    next.states.Unknown(upsert);
  }
  next.disturbed_tick = tick_;
  CheckTwin(next);
  NoteTargets();
}

void Simulation::CreateJob() {
  if (asked_ >= kJobsMax) return;
  JobModel job;
  const int number = asked_++;
  job.name = absl::StrCat("job", number);
  job.is_method = !OneIn(3);
  std::vector<std::string> ids;
  for (const Device& device : devices_) ids.push_back(device.id);
  job.condition = SimCondition::Draw(&choices(), ids);
  JobRequest& request = job.request;
  request.job_id = !jobs_.empty() && OneIn(8)
                       ? choices().Pick(jobs_).request.job_id
                       : absl::StrCat("j", number);
  request.query_condition = job.condition.Text();
  if (job.is_method) {
    MethodAction action;
    action.method_name = job.name;
    action.response_timeout_seconds = 5 + choices().IntBelow(26);
    static constexpr int kConnectTimeouts[] = {0, 0, 10, 120};
    action.connect_timeout_seconds = choices().Pick(kConnectTimeouts);
    request.action = action;
  } else {
    TwinUpdateAction action;
    const std::string text = absl::StrCat("{\"", job.name, "\":", number, "}");
    if (OneIn(2)) {
      action.patch.tags = *ParseJson(text);
    } else {
      action.patch.desired = *ParseJson(text);
    }
    request.action = std::move(action);
  }
  if (OneIn(3)) {
    static constexpr int kStarts[] = {-5, 1, 30, 600, 3600};
    request.start_time = time_.Now() + absl::Seconds(choices().Pick(kStarts));
  }
  static constexpr int64_t kLimits[] = {10, 60, 300, 3600};
  request.max_execution_time_seconds = choices().Pick(kLimits);
  request.priority = static_cast<JobPriority>(Below(kJobPriorities));
  request.weight = 1 + choices().IntBelow(1000);

  job.created_tick = ++tick_;
  job.created_life = life_->number;
  job.created = now();
  journal_.BeginBlocking(PartitionOf(request.job_id));
  const absl::StatusOr<JobInfo> info = life_->engine->CreateJob(request);
  journal_.EndBlocking();
  Trace("  ", request.job_id, " ", job.name, " ",
        job.is_method ? "method" : "twins", " where ", request.query_condition,
        " limit ", request.max_execution_time_seconds,
        request.start_time ? " later" : "", ": ", info.status().ToString());
  Digest(info.status().ToString());

  JobModel* before = JobOf(request.job_id);
  const bool taken =
      before != nullptr && before->acknowledged && !before->over &&
      !(before->terminal() ? HasExpired(*before) : MayHaveExpired());
  switch (AnswerOf(info.status())) {
    case Answer::kRefused:
      if (ErrorCodeOf(info.status()) == ErrorCode::kJobAlreadyExists &&
          before == nullptr) {
        Violate(absl::StrCat(request.job_id, " exists before it was created"));
      }
      return;
    case Answer::kDone:
      if (taken) {
        Violate(
            absl::StrCat("I10: the id of ", request.job_id, " is free again"));
      }
      job.acknowledged = true;
      break;
    case Answer::kUnknown:
      break;
  }
  if (before != nullptr) {
    // Which of the two is there nobody can say, if both may be.
    if (!job.acknowledged && taken) return;
    before->over = true;
    if (!job.acknowledged) return;
  }
  ++result_.jobs;
  ResetTargets(job);
  jobs_.push_back(std::move(job));
}

void Simulation::CancelJob() {
  if (jobs_.empty()) return;
  JobModel& job = AnyOf(jobs_);
  if (job.over) return;
  const bool running_too = OneIn(2);
  ++tick_;
  journal_.BeginBlocking(PartitionOf(job.request.job_id));
  const absl::StatusOr<JobInfo> info = life_->engine->CancelJob(
      job.request.job_id, {.cancel_running = running_too});
  journal_.EndBlocking();
  Trace("  ", job.request.job_id, running_too ? " running too" : "", ": ",
        info.ok() ? JobStatusName(info->status) : info.status().ToString());
  Digest(info.status().ToString());
  switch (AnswerOf(info.status())) {
    case Answer::kDone:
      job.acknowledged = true;
      job.maybe_cancelled = true;
      if (info->status == JobStatus::kCancelled) {
        job.must_be_cancelled = true;
      } else if (!running_too) {
        Violate(absl::StrCat(job.request.job_id,
                             ": the cancel was accepted, but it is ",
                             JobStatusName(info->status)));
      }
      job.must_end_cancelled = true;
      break;
    case Answer::kUnknown:
      job.maybe_cancelled = true;
      break;
    case Answer::kRefused:
      // Whether it is there, and what it is, CheckJob() looks at.
      break;
  }
}

void Simulation::ArmTransport() {
  static constexpr Fault kFaults[] = {
      Fault::kOutcomeLost,        Fault::kOutcomeTwice,
      Fault::kOutcomeContradicts, Fault::kOutcomeLate,
      Fault::kOutcomesReordered,  Fault::kPartialSend,
      Fault::kCallFails,          Fault::kReportLate};
  for (int n = 1 + choices().IntBelow(3); n > 0; --n) {
    const Fault fault = choices().Pick(kFaults);
    Trace("  armed: ", FaultName(fault));
    world_.faults.Arm(fault, 1 + choices().IntBelow(3));
  }
}

void Simulation::ArmDisk() {
  switch (Below(8)) {
    case 0: {
      const absl::Duration time = absl::Milliseconds(100 + Below(20'000));
      Trace("  full for ", absl::FormatDuration(time));
      disk_.SetFull(true);
      trouble_ = now() + time;
      time_.RunAt(now() + time, [this, alive = std::weak_ptr<int>(alive_)] {
        if (!alive.expired()) disk_.SetFull(false);
      });
      return;
    }
    case 1:
      Trace("  dies soon");
      disk_.DieAfter(choices().IntBelow(12));
      return;
    default: {
      static constexpr Fault kFaults[] = {
          Fault::kWriteFails, Fault::kShortWrite, Fault::kSyncFails,
          Fault::kAnswerLost, Fault::kAnswerLost, Fault::kSlowSync,
          Fault::kSlowSync};
      const Fault fault = choices().Pick(kFaults);
      Trace("  armed: ", FaultName(fault));
      world_.faults.Arm(fault, 1 + choices().IntBelow(3));
      return;
    }
  }
}

void Simulation::StepWall() {
  wall_latest_ = std::max(wall_latest_, time_.Now());
  wall_stepped_ = now();
  const absl::Duration step =
      absl::Seconds(1 + Below(!OneIn(3)            ? 4000
                              : journal_.at_once() ? 40 * 24 * 3600
                                                   : 24 * 3600));
  if (OneIn(2)) {
    world_.faults.Count(Fault::kWallForward);
    time_.StepWallClock(step);
    wall_step_ += step;
    wall_step_max_ = std::max(wall_step_max_, wall_step_);
  } else {
    world_.faults.Count(Fault::kWallBack);
    time_.StepWallClock(-step);
    wall_step_ -= step;
    wall_step_min_ = std::min(wall_step_min_, wall_step_);
  }
  Trace("  in all ", absl::FormatDuration(wall_step_));
}

void Simulation::TakeSnapshot() {
  // The engine goes on while the snapshot is written; but not to one that it
  // takes by itself, which would wait for this one.
  journal_.on_snapshot = [this] {
    for (int n = journal_.at_once() ? 0 : choices().IntBelow(8);
         n > 0 && time_.RunOne(); --n) {
    }
    if (OneIn(2)) WriteTwin();
    journal_.BeginBlocking(SimJournal::kAll);
  };
  journal_.BeginBlocking(SimJournal::kAll);
  const absl::Status status = life_->engine->WriteSnapshots();
  journal_.EndBlocking();
  journal_.on_snapshot = nullptr;
  Trace("  ", status.ToString());
}

// I6: what the columns answer the reference evaluator answers too.
void Simulation::AskQuery() {
  std::vector<std::string> ids;
  for (const Device& device : devices_) ids.push_back(device.id);
  std::string text;
  if (OneIn(3) && !jobs_.empty()) {
    const std::string& name = choices().Pick(jobs_).name;
    text = OneIn(2) ? absl::StrCat("is_defined(tags.", name, ")")
                    : absl::StrCat("NOT is_defined(properties.desired.", name,
                                   ") AND tags.a != 1");
  } else if (OneIn(4)) {
    text = "connectionState = 'Connected'";
  } else {
    text = SimCondition::Draw(&choices(), ids).Text();
    if (text == "*") text = "tags.a < 2 OR tags.b > 1";
  }
  const absl::StatusOr<Condition> condition =
      Condition::Parse(text, Collection::kDevices);
  std::vector<std::string> expected;
  std::sort(ids.begin(), ids.end());
  for (const std::string& id : ids) {
    const absl::StatusOr<TwinSnapshot> twin = life_->engine->GetTwin(id);
    if (twin.ok() && condition->Matches(JsonDocument(twin->document))) {
      expected.push_back(absl::StrCat("{\"deviceId\":\"", id, "\"}"));
    }
  }
  const absl::StatusOr<TwinPage> page = life_->engine->Query(
      absl::StrCat("SELECT deviceId FROM devices WHERE ", text), 1000);
  if (!page.ok()) {
    Violate(absl::StrCat(text, ": ", page.status().ToString()));
  } else if (page->rows != expected) {
    Violate(absl::StrCat("I6: ", text, " answers ",
                         absl::StrJoin(page->rows, ","), ", not ",
                         absl::StrJoin(expected, ",")));
  }
  Digest(absl::StrJoin(expected, ","));
  for (Device& device : devices_) CheckTwin(device);

  // Every job in the listing is one that was asked for.
  const absl::StatusOr<JobPage> jobs = life_->engine->ListJobs({}, 1000);
  for (const JobInfo& info : jobs->jobs) {
    if (JobOf(info.job_id) == nullptr) {
      Violate(absl::StrCat("nobody asked for ", info.job_id));
    }
  }
}

// ------------------------------------------------------------------ checks

JobModel* Simulation::JobOf(const std::string& id) {
  for (auto it = jobs_.rbegin(); it != jobs_.rend(); ++it) {
    if (it->request.job_id == id) return &*it;
  }
  return nullptr;
}

void Simulation::ResetTargets(JobModel& job) {
  job.always.clear();
  job.ever.clear();
  for (const Device& device : devices_) {
    const auto matches = [&](const TwinState& state) {
      return job.condition.Matches(device.id, state);
    };
    if (device.states.All(matches)) job.always.insert(device.id);
    if (device.states.Any(matches)) job.ever.insert(device.id);
  }
}

void Simulation::NoteTargets() {
  for (JobModel& job : jobs_) {
    if (job.over || job.targets.has_value()) continue;
    for (const Device& device : devices_) {
      const auto matches = [&](const TwinState& state) {
        return job.condition.Matches(device.id, state);
      };
      if (!device.states.All(matches)) job.always.erase(device.id);
      if (device.states.Any(matches)) job.ever.insert(device.id);
    }
  }
}

void Simulation::CheckAll(bool everything) {
  if (violated() || !life_) return;
  ++tick_;
  wall_latest_ = std::max(wall_latest_, time_.Now());
  for (JobModel& job : jobs_) {
    if (violated()) return;
    // What has ended is looked at now and then.
    if (job.terminal() && !everything && tick_ % 8 != 0) continue;
    CheckJob(job);
  }
  if (!everything) return;
  for (Device& device : devices_) CheckTwin(device);
}

void Simulation::CheckJob(JobModel& job) {
  if (job.over) return;
  const std::string& id = job.request.job_id;
  const absl::StatusOr<JobInfo> info = life_->engine->GetJob(id);
  const bool expired =
      job.terminal() &&
      time_.Now() >= *job.last->end_time + absl::Hours(24) * kJobHistoryDays;
  job.expired |= HasExpired(job);
  if (!info.ok()) {
    if (ErrorCodeOf(info.status()) != ErrorCode::kJobNotFound) {
      Violate(absl::StrCat(id, ": ", info.status().ToString()));
    }
    if (job.expired) {
      job.over = true;
      return;
    }
    if (!job.acknowledged) return;
    // It may have ended and expired since it was read last.
    if (!job.terminal() && MayHaveExpired()) {
      job.over = true;
      return;
    }
    Violate(absl::StrCat("I10: ", id, " is lost"));
    return;
  }
  const auto* method = std::get_if<MethodAction>(&info->action);
  const std::string name = method != nullptr ? method->method_name : job.name;
  if (name != job.name) {
    Violate(absl::StrCat("I10: ", id, " is ", name, ", not ", job.name));
    return;
  }
  job.acknowledged = true;
  if (expired) {
    Violate(
        absl::StrCat(id, " is read ",
                     absl::FormatDuration(time_.Now() - *job.last->end_time),
                     " after its end"));
    return;
  }
  if (std::string wrong =
          CompareReads(job.last.has_value() ? &*job.last : nullptr, *info);
      !wrong.empty()) {
    Violate(absl::StrCat(id, ": ", wrong));
    return;
  }
  if (info->status == JobStatus::kFailed) {
    Violate(absl::StrCat(id, " failed: ", info->failure_reason));
    return;
  }
  if (info->status == JobStatus::kCancelled && !job.maybe_cancelled) {
    Violate(absl::StrCat(id, " is cancelled, and nobody asked for it"));
    return;
  }
  if ((job.must_be_cancelled ||
       (job.must_end_cancelled && IsTerminal(info->status))) &&
      info->status != JobStatus::kCancelled) {
    Violate(absl::StrCat("I10: ", id, " was cancelled and is ",
                         JobStatusName(info->status)));
    return;
  }
  // It has never been due: what was true before now is of no matter.
  if (info->status == JobStatus::kScheduled &&
      info->start_time > wall_latest_) {
    ResetTargets(job);
  }
  if (info->status == JobStatus::kRunning) {
    if (!job.last.has_value() || job.last->status != JobStatus::kRunning) {
      job.running_seen = now();
      // A limit counts from the start as the wall clock had it, which may be
      // long before it is shown: the journal may have been stalled.
    } else if (trouble_ < job.running_seen && wall_stepped_ < job.created &&
               now() - life_began_ > kGrace &&
               now() - job.running_seen >
                   absl::Seconds(job.request.max_execution_time_seconds) +
                       kGrace) {
      Violate(absl::StrCat(id, " runs beyond its limit"));
      return;
    }
  }
  if (world_.trace &&
      (!job.last.has_value() || job.last->status != info->status ||
       job.last->statistics != info->statistics)) {
    std::string text;
    AppendJobJson(*info, &text);
    Trace("  reads ", text);
  }
  Digest(JobStatusName(info->status));
  job.last = *info;
  // Whoever reads executions waits until they are durable: not each time, so
  // that there are crashes in between.
  if (info->statistics.has_value() && (!journal_.busy() || OneIn(3))) {
    CheckRecords(job);
  }
}

void Simulation::CheckRecords(JobModel& job) {
  const std::string& id = job.request.job_id;
  std::set<std::string> targets;
  int64_t completed = 0, failed = 0, running = 0, pending = 0;
  journal_.BeginBlocking(SimJournal::kAll);
  const absl::Status status =
      life_->engine->ForEachExecution(id, [&](const ExecutionRecord& record) {
        targets.insert(record.device_id);
        switch (record.status) {
          case ExecutionStatus::kPending:
            ++pending;
            break;
          case ExecutionStatus::kRunning:
            ++running;
            break;
          case ExecutionStatus::kCompleted:
            ++completed;
            break;
          case ExecutionStatus::kFailed:
          case ExecutionStatus::kCanceled:
            ++failed;
            break;
        }
        auto was = job.ended.find(record.device_id);
        if (!IsTerminal(record.status)) {
          if (was != job.ended.end()) {
            Violate(absl::StrCat("I9: ", id, " on ", record.device_id,
                                 " had ended: ", was->second));
          }
          return;
        }
        std::string text;
        AppendExecutionJson(record, &text);
        if (was == job.ended.end()) {
          Trace("  ended ", text);
          Digest(text);
          job.ended.emplace(record.device_id, text);
          ++result_.executions;
          CheckEnd(job, record);
        } else if (was->second != text) {
          Violate(absl::StrCat("I9: ", id, " on ", record.device_id,
                               " ended twice: ", was->second, " and ", text));
        }
      });
  journal_.EndBlocking();
  if (violated()) return;
  if (AnswerOf(status) == Answer::kUnknown) return;  // Not durable yet.
  // The statistics of the same instant say the same.
  const absl::StatusOr<JobInfo> info = life_->engine->GetJob(id);
  if (!info.ok() && MayHaveExpired()) {
    // Its end became durable just now, and was weeks ago by the clock.
    job.over = true;
    return;
  }
  if (!status.ok() || !info.ok()) {
    Violate(absl::StrCat(id, ": ", status.ToString(), " ",
                         info.status().ToString()));
    return;
  }
  if (std::string wrong = CompareReads(&*job.last, *info); !wrong.empty()) {
    Violate(absl::StrCat(id, ": ", wrong));
    return;
  }
  job.last = *info;
  const JobStatistics& s = *info->statistics;
  if (s.succeeded_count != completed || s.failed_count != failed ||
      s.running_count != running || s.pending_count != pending) {
    Violate(absl::StrCat("I8: ", id, " counts f", s.failed_count, " s",
                         s.succeeded_count, " r", s.running_count, " p",
                         s.pending_count, ", its records f", failed, " s",
                         completed, " r", running, " p", pending));
  }
  if (job.targets.has_value()) {
    if (*job.targets != targets) {
      Violate(absl::StrCat("I8: the target set of ", id, " has changed"));
    }
    return;
  }
  job.targets = targets;
  job.targets_tick = tick_;
  for (const std::string& device : job.always) {
    if (!targets.contains(device)) {
      Violate(absl::StrCat("I7: ", id, " misses ", device));
    }
  }
  for (const std::string& device : targets) {
    if (!job.ever.contains(device)) {
      Violate(absl::StrCat("I7: ", id, " should not have ", device));
    }
  }
}

void Simulation::CheckEnd(JobModel& job, const ExecutionRecord& record) {
  const std::string where =
      absl::StrCat(job.request.job_id, " on ", record.device_id);
  if (record.status == ExecutionStatus::kCanceled) {
    if (!job.maybe_cancelled) {
      Violate(absl::StrCat(where, " is canceled, and nobody asked for it"));
    }
    return;
  }
  if (!job.is_method) {
    if (record.status == ExecutionStatus::kCompleted) {
      job.completed.insert(record.device_id);
    } else if (record.error_code == ErrorCode::kDeviceNotFound &&
               DeviceOf(record.device_id).disturbed_tick < job.created_tick) {
      Violate(absl::StrCat(where, ": the device was there all the time"));
    }
    return;
  }
  const std::vector<SimDevices::Call>* calls =
      fleet_.CallsOf(job.name, record.device_id);
  if (record.status == ExecutionStatus::kCompleted) {
    if (!record.response.has_value() || calls == nullptr ||
        !calls->back().answers.contains(record.response->payload)) {
      Violate(absl::StrCat(
          "I9: ", where, " ends with an answer that the ",
          "last call did not have: ",
          record.response.has_value() ? record.response->payload : "none"));
    }
    return;
  }
  const auto& method = std::get<MethodAction>(job.request.action);
  // Timeouts are measured: too early is too early whatever the wall clock says.
  if (job.created_life != life_->number) return;
  const absl::Duration age = now() - job.created;
  const bool limit_over =
      age >= absl::Seconds(job.request.max_execution_time_seconds);
  if (record.error_code == ErrorCode::kGatewayTimeout && !limit_over) {
    constexpr uint32_t kMayTimeOut =
        1u << static_cast<int>(OutcomeCode::kLinkLost) |
        1u << static_cast<int>(OutcomeCode::kTimeout);
    if (calls == nullptr ||
        ((calls->back().told & kMayTimeOut) == 0 &&
         now() - calls->back().sent <
             absl::Seconds(method.response_timeout_seconds))) {
      Violate(absl::StrCat(where, " timed out too early"));
    }
  }
  if (record.error_code == ErrorCode::kRequestTimedOut && !limit_over) {
    Violate(absl::StrCat(where, " ended before the limit"));
  }
}

void Simulation::CheckTwin(Device& device) {
  if (violated()) return;
  const absl::StatusOr<TwinSnapshot> twin = life_->engine->GetTwin(device.id);
  const JsonView document = twin.ok() ? twin->document.view() : JsonView();
  const absl::StatusOr<DeviceIdentity> identity =
      life_->engine->GetDevice(device.id);
  if (identity.ok() != twin.ok()) {
    Violate(absl::StrCat(device.id, " is a device or a twin, not both"));
    return;
  }
  const TwinState seen = TwinState::Of(
      document, identity.ok() ? identity->primary_key : std::string());
  if (std::string wrong = device.states.Read(seen); !wrong.empty()) {
    Violate(absl::StrCat("I10: ", device.id, " ", wrong));
    return;
  }
  if (!twin.ok()) return;
  // What jobs wrote.
  const JsonView tags = document.Find("tags");
  const JsonView desired = document.Find("properties").Find("desired");
  for (const JobModel& job : jobs_) {
    if (job.is_method) continue;
    const bool written = !tags.Find(job.name).is_undefined() ||
                         !desired.Find(job.name).is_undefined();
    if (written && job.targets.has_value()) {
      if (!job.targets->contains(device.id)) {
        Violate(absl::StrCat(job.name, " wrote to ", device.id,
                             ", which it does not mean"));
      } else if (device.erased_tick > job.targets_tick) {
        Violate(absl::StrCat(job.name, " wrote to ", device.id,
                             ", which is another device by now"));
      }
    }
    if (!written && !job.over && job.completed.contains(device.id) &&
        device.disturbed_tick < job.created_tick) {
      Violate(absl::StrCat("I10: what ", job.name, " wrote to ", device.id,
                           " is lost"));
    }
  }
}

// ----------------------------------------------------------------- the whole

// The faults are over: everything comes to its end, and the books balance.
void Simulation::Finish() {
  Trace("the faults are over");
  world_.faults.DisarmAll();
  disk_.SetFull(false);
  disk_.DieAfter(-1);
  // A crash may have it die once more while the engine starts, to its last
  // write.
  while (!violated() && (disk_.dead() || !life_)) {
    Crash(/*with_damage=*/false);
    world_.faults.DisarmAll();
  }
  disk_.DieAfter(-1);
  if (violated()) return;
  if (zombie_) Kill(&*zombie_);
  zombie_.reset();
  // Whatever was to start by the furthest of the clock's steps is due.
  time_.StepWallClock(wall_step_max_ - wall_step_);
  wall_step_ = wall_step_max_;
  CheckAll(/*everything=*/true);
  if (violated()) return;
  const auto open = [this]() -> const JobModel* {
    for (const JobModel& job : jobs_) {
      if (job.over || !job.acknowledged) continue;
      const absl::StatusOr<JobInfo> info =
          life_->engine->GetJob(job.request.job_id);
      if (info.ok() && !IsTerminal(info->status)) return &job;
    }
    return nullptr;
  };
  // Every job's time, one after the other if they wait for each other.
  for (int i = 0; i < 3 * kJobsMax && open() != nullptr && !violated(); ++i) {
    time_.Advance(i < 3 ? absl::Seconds(20) : absl::Minutes(31));
    CheckAll(/*everything=*/false);
  }
  if (violated()) return;
  if (const JobModel* job = open(); job != nullptr) {
    Violate(absl::StrCat(job->request.job_id, " never ends"));
    return;
  }
  CheckAll(/*everything=*/true);
  if (violated()) return;
  Restart();  // And it is all still there.
}

SimulationResult Simulation::Run() {
  Trace("seed ", options_.seed, ": ", partitions_, " partitions");
  SetUp();
  const bool chosen = !options_.only.empty();
  for (int i = 0; i < kStepsMax && !violated(); ++i) {
    if (chosen) {
      if (i >= static_cast<int>(options_.only.size())) break;
      result_.steps.push_back(options_.only[static_cast<size_t>(i)]);
    } else {
      if (i >= options_.steps && world_.faults.total() >= options_.faults_min) {
        break;
      }
      result_.steps.push_back(i);
    }
    Step(result_.steps.back());
  }
  if (!violated()) Finish();
  result_.faults = world_.faults.total();
  result_.struck = world_.faults.struck();
  result_.lives = lives_;
  return result_;
}

}  // namespace

SimulationResult Simulate(const SimulationOptions& options) {
  return Simulation(options).Run();
}

SimulationOptions Shrink(const SimulationOptions& options) {
  SimulationOptions best = options;
  best.trace = nullptr;
  best.only = Simulate(best).steps;
  // Leaves out halves, quarters, ... and at last single steps.
  for (size_t part = best.only.size() / 2; part > 0;) {
    bool shorter = false;
    for (size_t at = 0; at < best.only.size();) {
      SimulationOptions candidate = best;
      const auto first = candidate.only.begin() + static_cast<ptrdiff_t>(at);
      candidate.only.erase(
          first, first + static_cast<ptrdiff_t>(
                             std::min(part, candidate.only.size() - at)));
      if (!candidate.only.empty()) {
        const SimulationResult result = Simulate(candidate);
        if (!result.violation.empty()) {
          best.only = result.steps;
          shorter = true;
          continue;
        }
      }
      at += part;
    }
    if (!shorter || part > best.only.size()) part /= 2;
  }
  best.trace = options.trace;
  return best;
}

}  // namespace muster::simulator
