// `muster demo`: what jobs are, told with a fleet that is made up on the spot.
//
// Everything that is printed has happened, and every count is compared with one
// that was got in another way.  For a seed and a number of devices all counts
// are the same on every machine: nothing depends on when a simulated device
// comes back, because the demo itself brings them back.

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/model/error.h"
#include "engine/model/instant.h"
#include "engine/model/job.h"
#include "engine/model/json.h"
#include "engine/schedule/clock.h"
#include "server/caret.h"
#include "server/command.h"
#include "server/engine_flags.h"
#include "server/exit_code.h"
#include "server/files.h"
#include "server/flags.h"
#include "server/fleet_pipe.h"
#include "server/interrupt.h"
#include "server/job_watch.h"
#include "server/progress.h"
#include "server/simulation.h"
#include "server/tally.h"
#include "server/text.h"
#include "transport/loopback/fleet.h"
#include "transport/loopback/loopback_options.h"

namespace muster {
namespace {

constexpr absl::string_view kFloor =
    "tags.location.building = '43' AND tags.location.floor = 3";

constexpr absl::string_view kRebootJob = R"({
  "jobId": "reboot-43-3",
  "type": "scheduleDeviceMethod",
  "cloudToDeviceMethod": {
    "methodName": "reboot",
    "payload": {"delaySeconds": 5}
  },
  "queryCondition": "tags.location.building = '43' AND tags.location.floor = 3",
  "maxExecutionTimeInSeconds": 300
})";

constexpr absl::string_view kUpdateJob = R"({
  "jobId": "telemetry-everywhere",
  "type": "scheduleUpdateTwin",
  "updateTwin": {
    "etag": "*",
    "tags": {"campaign": "spring"},
    "properties": {"desired": {"telemetry": {"intervalSec": 300}}}
  },
  "queryCondition": "*",
  "maxExecutionTimeInSeconds": 300
})";

constexpr absl::string_view kIdentifyJob = R"({
  "jobId": "identify-all",
  "type": "scheduleDeviceMethod",
  "cloudToDeviceMethod": {"methodName": "identify"},
  "queryCondition": "*",
  "maxExecutionTimeInSeconds": 300
})";

// The mean of the synthetic fleet, newline included: for the progress only.
constexpr double kTwinBytes = 734.8;

// A fleet with the faults of a real one.
LoopbackOptions DemoDevices(uint64_t seed) {
  LoopbackOptions devices;
  devices.seed = seed;
  devices.latency.distribution = LoopbackLatency::Distribution::kLognormal;
  devices.latency.min = absl::Milliseconds(2);
  devices.latency.median = absl::Milliseconds(40);
  devices.latency.p99 = absl::Milliseconds(400);
  devices.error_status_share = 0.02;
  devices.busy_share = 0.005;
  devices.bad_response_share = 0.005;
  devices.response_payload = R"({"done":true})";
  return devices;
}

struct DemoOptions {
  int64_t devices = 1'000'000;
  int64_t seed = FleetGenerator::kDefaultSeed;
  bool devices_given = false;
  std::string data;
  int64_t threads = DefaultThreads();
  bool quiet = false;
};

std::vector<Flag> DemoFlags(DemoOptions* o) {
  return {
      {"devices", "N", "devices of the fleet (1000000)",
       IntFlag{&o->devices, 1, 20'000'000}},
      {"seed", "N", "decides the fleet and what each device does (42)",
       IntFlag{&o->seed, 0, INT64_MAX}},
      {"data", "DIR",
       "keep everything in this folder; if it has something,\n"
       "go on with that",
       &o->data},
      {"threads", "N", "threads of the engine (one per processor)",
       IntFlag{&o->threads, 1, 256}},
      {"quiet", "", "no progress", &o->quiet},
  };
}

// The story.  Each chapter returns an error, or OK to go on.
class Demo {
 public:
  explicit Demo(const DemoOptions& options)
      : options_(options),
        interrupt_(Interrupt::Install()),
        line_(ProgressLine::ModeForStderr(options.quiet)),
        devices_(options.devices) {}

  // Makes the simulation, and finds what is kept.
  absl::Status Open() {
    SimulationOptions simulation_options;
    simulation_options.engine.threads = static_cast<int>(options_.threads);
    simulation_options.devices =
        DemoDevices(static_cast<uint64_t>(options_.seed));
    simulation_options.data = options_.data;
    simulation_options.check_fleet = [this](const KeptFleet& kept) {
      if (kept.name == FleetName() &&
          (!options_.devices_given || options_.devices == kept.devices())) {
        devices_ = kept.devices();
        return absl::OkStatus();
      }
      return absl::FailedPreconditionError(absl::StrCat(
          options_.data, " has ", kept.name, ", ",
          Counted(kept.devices(), "device"), ", and not ", FleetName(),
          options_.devices_given
              ? absl::StrCat(", ", WithCommas(options_.devices))
              : "",
          ": another fleet wants another folder"));
    };
    absl::StatusOr<std::unique_ptr<Simulation>> simulation = Simulation::Create(
        simulation_options, line_, [this] { EndIfInterrupted(); });
    if (!simulation.ok()) return simulation.status();
    simulation_ = *std::move(simulation);
    return absl::OkStatus();
  }

  absl::Status Tell() {
    const absl::Duration begin = clock_.Monotonic();
    for (const auto& chapter :
         {&Demo::MakeFleet, &Demo::AskBefore, &Demo::RefuseTypo, &Demo::Reboot,
          &Demo::UpdateTwins, &Demo::AskAfter, &Demo::Identify}) {
      absl::Status status = (this->*chapter)();
      line_.Clear();
      if (!status.ok()) return status;
      if (interrupted()) return absl::CancelledError("interrupted");
    }
    Print(absl::StrCat("\nAll of it took ",
                       ShortDuration(clock_.Monotonic() - begin),
                       "; every count was checked against another one.\n"));
    return absl::OkStatus();
  }

  bool interrupted() const { return interrupt_.pending(); }

 private:
  void Chapter(absl::string_view title) {
    ++number_;
    Print(absl::StrCat(number_ == 1 ? "" : "\n", number_, ". ", title, "\n"));
  }

  // Text of the story, indented.
  static void Say(absl::string_view text) {
    Print(absl::StrCat("   ", absl::StrReplaceAll(text, {{"\n", "\n   "}}),
                       "\n"));
  }

  static absl::Status Expect(absl::string_view what, int64_t actual,
                             int64_t expected) {
    if (actual == expected) return absl::OkStatus();
    return absl::InternalError(absl::StrCat(what, " is ", WithCommas(actual),
                                            " and should be ",
                                            WithCommas(expected)));
  }

  // Answers `SELECT COUNT() AS n FROM devices WHERE ` + `condition`.
  absl::StatusOr<int64_t> Count(absl::string_view condition) {
    absl::StatusOr<TwinPage> page = engine().Query(
        absl::StrCat("SELECT COUNT() AS n FROM devices WHERE ", condition));
    if (!page.ok()) return page.status();
    absl::StatusOr<Json> row = ParseJson(page->rows.at(0));
    if (!row.ok()) return row.status();
    return row->view().Find("n").int_value();
  }

  // Asks, shows the statement, its answer and how long it took.
  absl::Status Ask(absl::string_view statement, std::string* first_row) {
    const absl::Duration begin = clock_.Monotonic();
    absl::StatusOr<TwinPage> page = engine().Query(statement);
    if (!page.ok()) return page.status();
    const absl::Duration elapsed = clock_.Monotonic() - begin;
    Say(statement);
    for (size_t i = 0; i < page->rows.size() && i < 5; ++i) {
      Say(absl::StrCat("  ", page->rows[i]));
    }
    Say(absl::StrCat("answered in ", ShortDuration(elapsed)));
    if (!page->rows.empty()) *first_row = page->rows[0];
    return absl::OkStatus();
  }

  std::string FleetName() const {
    return absl::StrCat("the demo's fleet, seed ", options_.seed);
  }

  // Creates the job and shows its body.  One that was kept goes on.
  absl::Status Create(absl::string_view body) {
    Say(body);
    absl::StatusOr<JobInfo> info = engine().CreateJobFromJson("", body);
    if (ErrorCodeOf(info.status()) == ErrorCode::kJobAlreadyExists) {
      info =
          engine().GetJob(ParseJson(body)->view().Find("jobId").string_value());
      if (info.ok()) {
        Say(absl::StrCat("kept: created ", FormatInstant(info->created_time),
                         ", now ", JobStatusName(info->status)));
      }
    }
    return info.status();
  }

  // For calls that know no other way out.
  void EndIfInterrupted() {
    if (!interrupted()) return;
    line_.Clear();
    PrintError("muster demo: interrupted\n");
    _exit(kExitInterrupted);
  }

  // Waits for the job, shows what came of it, and checks it: `selected`
  // devices, nothing left over, every execution looked at one by one.
  absl::Status Finish(const std::string& job_id, int64_t selected,
                      JobReport* report) {
    absl::StatusOr<bool> interrupted =
        WaitForJobs(engine(), {job_id},
                    options_.data.empty() ? OnInterrupt::kCancelJobs
                                          : OnInterrupt::kLeaveJobs,
                    interrupt_, line_, nullptr);
    if (!interrupted.ok()) return interrupted.status();
    if (*interrupted && !options_.data.empty()) {
      return absl::CancelledError("interrupted");
    }
    absl::StatusOr<JobInfo> info = engine().GetJob(job_id);
    if (!info.ok()) return info.status();
    report->info = *std::move(info);
    absl::Status status = engine().ForEachExecution(
        job_id,
        [&](const ExecutionRecord& record) { report->tally.Add(record); });
    if (!status.ok()) return status;
    std::string text = ReportText(*report);
    text.pop_back();
    Say(text);
    if (*interrupted) return absl::CancelledError("interrupted");
    const JobStatistics counts =
        report->info.statistics.value_or(JobStatistics());
    if (!report->Balanced()) {
      return absl::InternalError("the counts do not add up");
    }
    status = Expect("the number of devices that the job selected",
                    counts.device_count, selected);
    if (!status.ok()) return status;
    Say(absl::StrCat(
        "adds up: ", WithCommas(counts.device_count),
        " selected, as the query says = ", WithCommas(counts.succeeded_count),
        " succeeded + ", WithCommas(counts.failed_count), " failed"));
    return absl::OkStatus();
  }

  // Waits until the executions that need no waiting have ended, and returns how
  // many have not; then brings the devices back.
  absl::Status BringBack(const std::string& job_id,
                         absl::string_view condition) {
    const std::string offline =
        absl::StrCat(condition.empty() ? "" : absl::StrCat(condition, " AND "),
                     "connectionState = 'Disconnected' AND status = 'enabled'");
    std::vector<std::string> ids;
    std::string continuation;
    do {
      absl::StatusOr<TwinPage> page = engine().Query(
          absl::StrCat("SELECT deviceId FROM devices WHERE ", offline),
          1'000'000, continuation);
      if (!page.ok()) return page.status();
      for (const std::string& row : page->rows) {
        absl::StatusOr<Json> json = ParseJson(row);
        if (!json.ok()) return json.status();
        ids.emplace_back(json->view().Find("deviceId").string_value());
      }
      continuation = page->continuation;
    } while (!continuation.empty());

    const int64_t waiting = static_cast<int64_t>(ids.size());
    bool ended = false;
    RateMeter meter;
    while (!interrupted()) {
      absl::StatusOr<JobInfo> info = engine().GetJob(job_id);
      if (!info.ok()) return info.status();
      ended = IsTerminal(info->status);
      if (ended) break;
      const JobStatistics counts = info->statistics.value_or(JobStatistics());
      const absl::Duration now = clock_.Monotonic();
      const double rate =
          meter.Add(now, counts.succeeded_count + counts.failed_count);
      line_.Show(now, ProgressOfJobs({*info}, clock_.Now(), rate, false));
      if (info->statistics.has_value() && counts.running_count == 0 &&
          counts.pending_count <= waiting) {
        break;
      }
      interrupt_.Wait(absl::Milliseconds(20));
    }
    line_.Clear();
    if (waiting == 0 || ended || interrupted()) return absl::OkStatus();
    Say(absl::StrCat(Counted(waiting, "device"), waiting == 1 ? " is" : " are",
                     " offline; the job waits. Now they come back."));
    simulation_->devices().AddDevices(
        std::vector<absl::string_view>(ids.begin(), ids.end()), true);
    return absl::OkStatus();
  }

  // ---- the chapters

  absl::Status MakeFleet() {
    Chapter(absl::StrCat("A fleet of ", Counted(devices_, "device"),
                         ", simulated in this process"));
    if (simulation_->kept_fleet() != nullptr) {
      absl::StatusOr<Simulation::Found> found = simulation_->CountFound();
      if (!found.ok()) return found.status();
      Say(absl::StrCat("found in ", options_.data, ": ", FoundText(*found)));
      Say(absl::StrCat("recovered in ", ShortDuration(found->elapsed)));
      return absl::OkStatus();
    }

    const FleetPipe pipe(static_cast<uint32_t>(options_.devices),
                         static_cast<uint64_t>(options_.seed));
    if (pipe.path().empty()) return FileError("pipe", errno);
    FleetSource source;
    source.path = pipe.path();
    source.label = FleetName();
    source.bytes = static_cast<int64_t>(kTwinBytes *
                                        static_cast<double>(options_.devices));
    absl::StatusOr<Simulation::Fleet> fleet =
        simulation_->Load(source, line_, [this] { EndIfInterrupted(); });
    if (!fleet.ok()) return fleet.status();
    absl::Status status =
        Expect("the number of devices", fleet->devices, options_.devices);
    if (!status.ok()) return status;
    const EngineStats stats = engine().Stats();
    Say(absl::StrCat(
        "twins made and loaded in ", ShortDuration(fleet->elapsed), ", ",
        ShortRate(static_cast<double>(fleet->devices) /
                  absl::ToDoubleSeconds(fleet->elapsed)),
        ", ", stats.twin_bytes / std::max<int64_t>(1, stats.twins),
        " bytes each; ", WithCommas(fleet->connected), " are connected"));
    return absl::OkStatus();
  }

  absl::Status AskBefore() {
    Chapter("A question: who is on floor 3 of building 43?");
    std::string row;
    absl::Status status =
        Ask(absl::StrCat("SELECT COUNT() AS devices FROM devices\n  WHERE ",
                         kFloor),
            &row);
    if (!status.ok()) return status;
    absl::StatusOr<Json> json = ParseJson(row);
    if (!json.ok()) return json.status();
    on_floor_ = json->view().Find("devices").int_value();
    return absl::OkStatus();
  }

  absl::Status RefuseTypo() {
    Chapter("A job with a mistake is refused before anything happens");
    const std::string condition =
        absl::StrReplaceAll(kFloor, {{" = 3", " == 3"}});
    JobRequest request;
    request.job_id = "typo";
    request.action = MethodAction{.method_name = "reboot"};
    request.query_condition = condition;
    const absl::Status refused = engine().CreateJob(request).status();
    if (refused.ok()) {
      return absl::InternalError("a job with a broken condition was accepted");
    }
    std::string text = absl::StrCat(DescribeError(refused), "\n",
                                    CaretLines(refused, condition));
    text.pop_back();
    Say(text);
    return absl::OkStatus();
  }

  absl::Status Reboot() {
    Chapter("A direct method: reboot these devices");
    absl::Status status = Create(kRebootJob);
    if (!status.ok()) return status;
    status = BringBack("reboot-43-3", kFloor);
    if (!status.ok()) return status;
    JobReport report;
    return Finish("reboot-43-3", on_floor_, &report);
  }

  absl::Status UpdateTwins() {
    Chapter("A twin update for everyone");
    absl::Status status = Create(kUpdateJob);
    if (!status.ok()) return status;
    JobReport report;
    return Finish("telemetry-everywhere", devices_, &report);
  }

  absl::Status AskAfter() {
    Chapter("Has it arrived?");
    std::string row;
    absl::Status status =
        Ask("SELECT properties.desired.telemetry.intervalSec AS intervalSec, "
            "COUNT() AS devices\n  FROM devices GROUP BY "
            "properties.desired.telemetry.intervalSec",
            &row);
    if (!status.ok()) return status;
    absl::StatusOr<int64_t> tagged = Count(
        "tags.campaign = 'spring' AND "
        "properties.desired.telemetry.intervalSec = 300");
    if (!tagged.ok()) return tagged.status();
    return Expect("the number of devices with the new twin", *tagged, devices_);
  }

  absl::Status Identify() {
    Chapter("A direct method for everyone");
    absl::Status status = Create(kIdentifyJob);
    if (!status.ok()) return status;
    status = BringBack("identify-all", "");
    if (!status.ok()) return status;
    JobReport report;
    return Finish("identify-all", devices_, &report);
  }

  Engine& engine() { return simulation_->engine(); }

  const DemoOptions& options_;
  Clock& clock_ = Clock::Real();
  Interrupt& interrupt_;
  ProgressLine line_;
  std::unique_ptr<Simulation> simulation_;
  int64_t devices_;
  int number_ = 0;
  int64_t on_floor_ = 0;
};

constexpr absl::string_view kNext = R"(
Next:
  ./muster fleet --devices 100000 > twins.jsonl
  ./muster query --fleet twins.jsonl "SELECT tags.model AS model, COUNT() AS n FROM devices GROUP BY tags.model"
  ./muster run --fleet twins.jsonl --job examples/reboot.json --job examples/update.json --results out.jsonl
  ./muster run --help
)";

int RunDemo(const Command& command, DemoOptions& options,
            const Arguments& arguments) {
  // A reader of the story that goes away, or an engine that stops reading
  // twins: both are seen where they are written.
  signal(SIGPIPE, SIG_IGN);
  options.devices_given = arguments.Has("devices");
  Demo demo(options);
  if (absl::Status s = demo.Open(); !s.ok()) {
    Complain(command, s.message());
    return kExitUsage;
  }
  const absl::Status status = demo.Tell();
  if (demo.interrupted()) {
    if (options.data.empty()) {
      Complain(command, "interrupted");
    } else {
      Complain(command, "interrupted; what is not done goes on with",
               absl::StrCat("  ", ProgramName(), " demo --data ", options.data,
                            "\n"));
    }
    return kExitInterrupted;
  }
  if (!status.ok()) {
    Complain(command, status.message());
    return kExitFailed;
  }
  Print(kNext);
  return kExitOk;
}

}  // namespace

const Command kDemoCommand = {
    .name = "demo",
    .summary = "jobs over a simulated fleet, start to end",
    .arguments = "[FLAGS]",
    .about =
        "Makes up a fleet and shows what jobs do with it: a direct method for "
        "one\n"
        "floor of a building, a twin update and a direct method for everyone, "
        "with\n"
        "devices that fail and devices that are offline and come back. All in "
        "memory;\n"
        "nothing is written, but with --data: then everything is kept, and "
        "after "
        "ctrl-C\n"
        "or a kill the same command goes on, or shows what was. Exit codes: 0 "
        "all "
        "counts\n"
        "add up, 1 they do not, 2 wrong arguments or folder, 3 interrupted.\n",
    .example =
        "  muster demo --devices 100000\n"
        "  muster demo --devices 100000 --data kept\n",
    .invoke = MakeInvocation<DemoOptions, DemoFlags, RunDemo>};

}  // namespace muster
