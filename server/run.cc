// `muster run`: jobs from files over a fleet from a file, on simulated devices.
//
// All that can be wrong with the arguments and the jobs is found before the
// fleet is loaded: the jobs are first created on an engine without any twins,
// whose checks are the same.

#include <signal.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/engine.h"
#include "engine/model/error.h"
#include "engine/model/job.h"
#include "engine/model/json.h"
#include "server/caret.h"
#include "server/command.h"
#include "server/device_flags.h"
#include "server/engine_flags.h"
#include "server/exit_code.h"
#include "server/files.h"
#include "server/flags.h"
#include "server/interrupt.h"
#include "server/job_file.h"
#include "server/job_watch.h"
#include "server/progress.h"
#include "server/run_output.h"
#include "server/simulation.h"
#include "server/tally.h"
#include "server/text.h"
#include "transport/loopback/loopback_options.h"

namespace muster {
namespace {

struct RunOptions {
  std::string fleet;
  std::vector<std::string> jobs;
  std::string results;
  std::string data;
  DeviceFlags device;
  EngineFlags engine;
  bool skip_bad_lines = false;
  bool json = false;
  bool quiet = false;
};

std::vector<Flag> RunFlags(RunOptions* o) {
  std::vector<Flag> flags = {
      {"fleet", "FILE",
       "the twins: one JSON document per line. Not loaded\n"
       "again if DIR has a fleet",
       &o->fleet},
      {"job", "FILE",
       "a job: the request body of the hub's jobs API; give\n"
       "the flag once for each job. Without a jobId the file's\n"
       "name is the job's. One that DIR has already is\n"
       "followed",
       &o->jobs},
      {"results", "FILE",
       "write one record per device and job: JSON lines, whole\n"
       "or not at all; - is standard output",
       &o->results},
      {"data", "DIR",
       "keep everything in this folder; if it has something,\n"
       "go on with that",
       &o->data},
      {"skip-bad-lines", "", "leave out twins that are wrong",
       &o->skip_bad_lines},
      {"json", "", "JSON lines on standard output instead of text", &o->json},
      {"quiet", "", "no progress", &o->quiet},
  };
  return WithEngineFlags(&o->engine,
                         WithDeviceFlags(&o->device, std::move(flags)));
}

absl::StatusOr<SimulationOptions> ReadSimulationOptions(const RunOptions& o) {
  SimulationOptions options;
  absl::Status status = SetEngineOptions(o.engine, &options.engine);
  if (!status.ok()) return status;
  absl::StatusOr<SimulatedDevices> devices = ReadDeviceFlags(o.device);
  if (!devices.ok()) return devices.status();
  options.devices = devices->options;
  options.connected_as_in_twins = !devices->has_offline_share;
  options.data = o.data;
  const int64_t bytes = o.fleet.empty() ? -1 : FileSize(o.fleet);
  options.check_fleet = [o, bytes](const KeptFleet& kept) {
    if (bytes < 0 || kept.bytes < 0 || bytes == kept.bytes) {
      return absl::OkStatus();
    }
    return absl::FailedPreconditionError(absl::StrCat(
        o.data, " has a fleet, ", kept.name, " of ", WithCommas(kept.bytes),
        " bytes, and ", o.fleet, " has ", WithCommas(bytes),
        ": without --fleet it goes on with its own; another fleet wants "
        "another folder"));
  };
  options.sync = SyncOf(o.engine);
  return options;
}

// A job that was found right: its file, and the job as it was just created.
struct CheckedJob {
  JobFile file;
  JobInfo info;
};

// Creates the jobs on an engine without twins.  Says what is wrong and returns
// false if one of them is refused.
bool CheckJobs(const Command& command, const EngineOptions& engine_options,
               std::vector<CheckedJob>* jobs) {
  EngineOptions options = engine_options;
  options.threads = 1;
  // Whether the profile lets all of them run at once is seen when they do.
  options.on_active_limit = ActiveLimitPolicy::kQueue;
  absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Create(options);
  if (!engine.ok()) {
    Complain(command, engine.status().message());
    return false;
  }
  for (CheckedJob& job : *jobs) {
    absl::StatusOr<JobInfo> info =
        (*engine)->CreateJobFromJson(job.file.job_id, job.file.body);
    if (info.ok()) {
      job.info = *std::move(info);
      continue;
    }
    Complain(command,
             absl::StrCat(job.file.path, ": ", DescribeError(info.status())),
             CaretLines(info.status(), job.file.condition));
    return false;
  }
  return true;
}

// Whether `kept` was created from a request like that of `wanted`, which has
// just been created.
bool SameRequest(JobInfo kept, const JobInfo& wanted) {
  // Without a startTime it is the time at which the job was created.
  const bool any_start = wanted.start_time == wanted.created_time;
  if (!any_start && kept.start_time != wanted.start_time) return false;
  kept.start_time = wanted.start_time;
  kept.created_time = wanted.created_time;
  kept.status = wanted.status;
  kept.end_time = wanted.end_time;
  kept.statistics = wanted.statistics;
  std::string texts[2];
  AppendJobJson(kept, &texts[0]);
  AppendJobJson(wanted, &texts[1]);
  return texts[0] == texts[1];
}

// The job at its end; its records go into `*results` if that is not null.
absl::StatusOr<JobReport> MakeReport(const Engine& engine,
                                     const std::string& job_id,
                                     WholeFile* results) {
  JobReport report;
  absl::StatusOr<JobInfo> info = engine.GetJob(job_id);
  if (!info.ok()) return info.status();
  report.info = *std::move(info);
  std::string line;
  absl::Status status =
      engine.ForEachExecution(job_id, [&](const ExecutionRecord& record) {
        report.tally.Add(record);
        if (results == nullptr) return;
        line.clear();
        AppendExecutionJson(record, &line);
        line.push_back('\n');
        results->Append(line);
      });
  if (!status.ok()) return status;
  return report;
}

// A run after its arguments and its input were found right.
class Runner {
 public:
  Runner(const Command& command, const RunOptions& options,
         std::unique_ptr<WholeFile> results)
      : command_(command),
        options_(options),
        interrupt_(Interrupt::Install()),
        line_(ProgressLine::ModeForStderr(options.quiet)),
        output_(options.json, options.results == "-"),
        results_(std::move(results)) {
    if (results_ != nullptr) {
      interrupt_.RemoveAtOnceWith(results_->partial_path());
    }
  }

  int Run(const SimulationOptions& simulation_options,
          absl::Span<const CheckedJob> jobs) {
    const int exit_code = RunJobs(simulation_options, jobs);
    line_.Clear();
    output_.End(exit_code);
    return exit_code;
  }

 private:
  int RunJobs(const SimulationOptions& simulation_options,
              absl::Span<const CheckedJob> jobs) {
    absl::StatusOr<std::unique_ptr<Simulation>> simulation = Simulation::Create(
        simulation_options, line_, [this] { EndIfInterrupted(); });
    if (!simulation.ok()) return Fail(kExitUsage, simulation.status());
    if ((*simulation)->kept_fleet() != nullptr) {
      if (absl::Status s = TellWhatWasFound(**simulation); !s.ok()) {
        return Fail(kExitUsage, s);
      }
      if (interrupt_.pending()) return InterruptedAndKept();
    } else {
      if (options_.fleet.empty()) {
        return Fail(kExitUsage,
                    absl::InvalidArgumentError(absl::StrCat(
                        "--fleet is missing: the load of the fleet in ",
                        options_.data, " was cut off")));
      }
      if (!Load(**simulation)) return kExitUsage;
      if (interrupt_.pending()) return InterruptedEarly();
    }

    Engine& engine = (*simulation)->engine();
    std::vector<std::string> ids;
    for (const CheckedJob& job : jobs) {
      if (Create(engine, job)) ids.push_back(job.info.job_id);
    }
    // And those that go on by themselves.
    absl::StatusOr<std::vector<std::string>> unfinished =
        (*simulation)->UnfinishedJobs();
    if (!unfinished.ok()) return Fail(kExitFailed, unfinished.status());
    const std::vector<std::string> given = ids;  // A few.
    for (std::string& id : *unfinished) {
      if (!absl::c_linear_search(given, id)) ids.push_back(std::move(id));
    }
    if (ids.empty() && !refused_) {
      line_.Note("all jobs have ended: there is nothing to do");
    }
    absl::StatusOr<bool> interrupted = WaitForJobs(
        engine, ids,
        options_.data.empty() ? OnInterrupt::kCancelJobs
                              : OnInterrupt::kLeaveJobs,
        interrupt_, line_,
        [this](absl::Span<const JobInfo> infos) { output_.Progress(infos); });
    if (!interrupted.ok()) return Fail(kExitFailed, interrupted.status());
    if (*interrupted && !options_.data.empty()) return InterruptedAndKept();
    const int exit_code = Report(engine, ids);
    return *interrupted ? kExitInterrupted : exit_code;
  }

  absl::Status TellWhatWasFound(const Simulation& simulation) {
    absl::StatusOr<Simulation::Found> found = simulation.CountFound();
    if (!found.ok()) return found.status();
    line_.Note(absl::StrCat("found in ", options_.data, ": ", FoundText(*found),
                            "; recovered in ", ShortDuration(found->elapsed)));
    if (!options_.fleet.empty()) {
      line_.Note(
          absl::StrCat(options_.fleet, " is not loaded again: ", options_.data,
                       " has its fleet, ", simulation.kept_fleet()->name));
    }
    output_.Recovered(options_.data, *found);
    return absl::OkStatus();
  }

  // False, and says why, if the job is refused.
  bool Create(Engine& engine, const CheckedJob& job) {
    const std::string& path = job.file.path;
    const absl::Status status =
        engine.CreateJobFromJson(job.file.job_id, job.file.body).status();
    if (status.ok()) return true;
    absl::string_view hint;
    if (ErrorCodeOf(status) == ErrorCode::kJobAlreadyExists) {
      absl::StatusOr<JobInfo> kept = engine.GetJob(job.info.job_id);
      if (kept.ok() && SameRequest(*kept, job.info)) {
        line_.Note(absl::StrCat(path, ": job ", kept->job_id,
                                " is there already, ",
                                JobStatusName(kept->status), "; following it"));
        output_.Kept(path, kept->job_id);
        return true;
      }
      hint =
          "(the job that is there is another one; give this one a jobId of its "
          "own)\n";
    } else if (ErrorCodeOf(status) ==
               ErrorCode::kThrottlingMaxActiveJobCountExceeded) {
      hint = "(--active-limit queue lets it wait for its turn)\n";
    }
    refused_ = true;
    output_.Refused(path, status);
    line_.Clear();
    Complain(command_, absl::StrCat(path, ": ", DescribeError(status)), hint);
    return false;
  }

  // For calls that know no other way out: there is nothing to clean up but the
  // results.
  void EndIfInterrupted() {
    if (!interrupt_.pending()) return;
    line_.Clear();
    results_ = nullptr;
    const int exit_code = InterruptedEarly();
    output_.End(exit_code);
    _exit(exit_code);
  }

  bool Load(Simulation& simulation) {
    FleetSource source;
    source.path = options_.fleet;
    source.label = std::string(LastPart(options_.fleet));
    source.bytes = FileSize(options_.fleet);
    source.skip_bad_lines = options_.skip_bad_lines;
    absl::StatusOr<Simulation::Fleet> fleet =
        simulation.Load(source, line_, [this] { EndIfInterrupted(); });
    if (!fleet.ok()) {
      line_.Clear();
      const bool bad_line = absl::IsInvalidArgument(fleet.status()) ||
                            absl::IsResourceExhausted(fleet.status());
      Complain(command_, fleet.status().message(),
               bad_line ? "(nothing was loaded; --skip-bad-lines leaves out "
                          "what is wrong)\n"
                        : "");
      return false;
    }
    line_.Note(absl::StrCat(
        "loaded ", Counted(fleet->devices, "device"), " in ",
        ShortDuration(fleet->elapsed), "; ", WithCommas(fleet->connected),
        fleet->connected == 1 ? " is" : " are", " connected"));
    output_.Fleet(options_.fleet, *fleet);
    return true;
  }

  int Report(const Engine& engine, absl::Span<const std::string> ids) {
    bool all_succeeded = !refused_;
    int64_t records = 0;
    for (const std::string& id : ids) {
      absl::StatusOr<JobReport> report = MakeReport(engine, id, results_.get());
      if (!report.ok()) return Fail(kExitFailed, report.status());
      output_.Report(*report);
      const Tally& tally = report->tally;
      records += tally.succeeded + tally.failed + tally.canceled;
      all_succeeded = all_succeeded && report->Succeeded();
    }
    if (results_ != nullptr) {
      absl::Status status = results_->Commit();
      interrupt_.RemoveAtOnceWith("");
      if (!status.ok()) return Fail(kExitFailed, status);
      output_.Text(absl::StrCat(
          "wrote ", Counted(records, "record"), " to ",
          options_.results == "-" ? "standard output" : options_.results,
          "\n"));
    }
    return all_succeeded ? kExitOk : kExitFailed;
  }

  int InterruptedAndKept() {
    Complain(
        command_, "interrupted; what is not done goes on with",
        absl::StrCat("  ", ProgramName(), " run --data ", options_.data, "\n"));
    return kExitInterrupted;
  }

  int InterruptedEarly() {
    Complain(command_, "interrupted; no job was started");
    return kExitInterrupted;
  }

  int Fail(int exit_code, const absl::Status& status) {
    line_.Clear();
    Complain(command_, status.message());
    return exit_code;
  }

  const Command& command_;
  const RunOptions& options_;
  Interrupt& interrupt_;
  ProgressLine line_;
  RunOutput output_;
  std::unique_ptr<WholeFile> results_;
  bool refused_ = false;
};

int Run(const Command& command, RunOptions& options,
        const Arguments& arguments) {
  // With a folder both may be there already.
  const bool kept = arguments.Has("data") && KeptFolder::Exists(options.data);
  for (absl::string_view name : {"fleet", "job"}) {
    if (!arguments.Has(name) && !kept) {
      return UsageError(
          command,
          absl::StrCat(
              "--", name, " is missing",
              arguments.Has("data") ? ", and nothing is kept yet in " : "",
              options.data));
    }
  }
  if (arguments.Has("sync") && !arguments.Has("data")) {
    return UsageError(command,
                      "--sync says how --data keeps, which is missing");
  }
  if (options.json && options.results == "-") {
    return UsageError(command,
                      "--json and --results - both want standard output");
  }

  const auto fail = [&](const absl::Status& status) {
    Complain(command, status.message());
    return kExitUsage;
  };
  if (arguments.Has("fleet")) {
    if (absl::Status s = CheckReadable(options.fleet); !s.ok()) return fail(s);
  }
  absl::StatusOr<SimulationOptions> simulation = ReadSimulationOptions(options);
  if (!simulation.ok()) return fail(simulation.status());
  std::vector<CheckedJob> jobs;
  for (const std::string& path : options.jobs) {
    absl::StatusOr<JobFile> job = ReadJobFile(path);
    if (!job.ok()) return fail(job.status());
    jobs.push_back({.file = *std::move(job), .info = {}});
  }
  if (!CheckJobs(command, simulation->engine, &jobs)) return kExitUsage;
  std::unique_ptr<WholeFile> results;
  if (!options.results.empty()) {
    absl::StatusOr<std::unique_ptr<WholeFile>> file =
        WholeFile::Create(options.results);
    if (!file.ok()) return fail(file.status());
    results = *std::move(file);
  }
  // A reader that goes away does not end the jobs.
  signal(SIGPIPE, SIG_IGN);
  return Runner(command, options, std::move(results)).Run(*simulation, jobs);
}

}  // namespace

const Command kRunCommand = {
    .name = "run",
    .summary = "jobs from files over a fleet from a file, devices simulated",
    .arguments =
        "--fleet FILE --job FILE [--job FILE ...] [--data DIR] [FLAGS]",
    .about =
        "Loads the twins, simulates a device for each, and runs the jobs: at "
        "once, "
        "or\n"
        "when their startTime has come. Devices are connected as their twins "
        "say. "
        "At\n"
        "the end it says what became of each job and of its devices.\n"
        "\n"
        "Ctrl-C cancels what has not been sent, waits for what has, and "
        "reports; "
        "a\n"
        "second one ends at once. Exit codes: 0 every device succeeded, 1 some "
        "job "
        "or\n"
        "device failed, 2 wrong arguments or input, 3 interrupted.\n"
        "\n"
        "With --data everything is kept in a folder, and ctrl-C ends at once: "
        "no "
        "job is\n"
        "cancelled. After it, after a kill or a power loss, the same command "
        "goes "
        "on\n"
        "where it was, and so does one without --fleet and --job: it follows "
        "the "
        "jobs\n"
        "that have not ended. Devices are simulated by the --devices-config of "
        "each\n"
        "start, connected as when they were loaded. A method that was sent and "
        "not\n"
        "answered has failed with GatewayTimeout: none is sent twice. It is an "
        "error if\n"
        "--fleet has another size than the fleet in the folder, or a job of "
        "the "
        "same\n"
        "jobId is another one. A folder that is in use, damaged or of a newer "
        "version\n"
        "is exit code 2; a disk that fills up or fails meanwhile is waited "
        "for.\n",
    .example =
        "  muster run --fleet twins.jsonl --job reboot.json --results "
        "out.jsonl\n"
        "  muster run --fleet twins.jsonl --job reboot.json --data kept\n"
        "\n"
        "  reboot.json:\n"
        "    {\"type\": \"scheduleDeviceMethod\",\n"
        "     \"cloudToDeviceMethod\": {\"methodName\": \"reboot\",\n"
        "                             \"connectTimeoutInSeconds\": 10},\n"
        "     \"queryCondition\": \"tags.location.building = '43'\",\n"
        "     \"maxExecutionTimeInSeconds\": 60}\n",
    .invoke = MakeInvocation<RunOptions, RunFlags, Run>};

}  // namespace muster
