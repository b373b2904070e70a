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

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/engine.h"
#include "engine/model/error.h"
#include "engine/model/job.h"
#include "engine/model/json.h"
#include "engine/model/profile.h"
#include "server/caret.h"
#include "server/command.h"
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

constexpr size_t kDevicesConfigSizeMax = 1 << 20;

struct RunOptions {
  std::string fleet;
  std::vector<std::string> jobs;
  std::string results;
  std::string devices_config;
  std::string profile = "unlimited";
  int64_t units = 1;
  std::string active_limit = "reject";
  int64_t threads = DefaultThreads();
  int64_t seed = 1;
  bool skip_bad_lines = false;
  bool json = false;
  bool quiet = false;
};

std::vector<Flag> RunFlags(RunOptions* o) {
  return {
      {"fleet", "FILE", "the twins: one JSON document per line", &o->fleet},
      {"job", "FILE",
       "a job: the request body of the hub's jobs API; give the\n"
       "flag once for each job. Without a jobId the file's name\n"
       "is the job's",
       &o->jobs},
      {"results", "FILE",
       "write one record per device and job: JSON lines, whole or\n"
       "not at all; - is standard output",
       &o->results},
      {"devices-config", "FILE",
       "what the simulated devices do, as JSON: latency, failures,\n"
       "who is offline (README.md, \"Simulated devices\")",
       &o->devices_config},
      {"seed", "N", "decides what each device does (1)",
       IntFlag{&o->seed, 0, INT64_MAX}},
      {"profile", "NAME",
       "limits like a hub's: unlimited (default), free, s1, s2,\n"
       "s3 or basic",
       ChoiceFlag{&o->profile,
                  {"unlimited", "free", "s1", "s2", "s3", "basic"}}},
      {"units", "N", "units of the profile, for its rates (1)",
       IntFlag{&o->units, 1, 200}},
      {"active-limit", "WHAT",
       "a job too many for the profile: reject it (default) or\n"
       "queue it",
       ChoiceFlag{&o->active_limit, {"reject", "queue"}}},
      {"threads", "N", "threads of the engine (one per processor)",
       IntFlag{&o->threads, 1, 256}},
      {"skip-bad-lines", "", "leave out twins that are wrong",
       &o->skip_bad_lines},
      {"json", "", "JSON lines on standard output instead of text", &o->json},
      {"quiet", "", "no progress", &o->quiet},
  };
}

absl::StatusOr<SimulationOptions> ReadSimulationOptions(const RunOptions& o,
                                                        bool has_seed) {
  SimulationOptions options;
  absl::StatusOr<Profile> profile =
      FindProfile(o.profile, static_cast<int>(o.units));
  if (!profile.ok()) return profile.status();
  options.engine.profile = *profile;
  options.engine.on_active_limit = o.active_limit == "queue"
                                       ? ActiveLimitPolicy::kQueue
                                       : ActiveLimitPolicy::kReject;
  options.engine.threads = static_cast<int>(o.threads);
  if (!o.devices_config.empty()) {
    absl::StatusOr<std::string> text =
        ReadFile(o.devices_config, kDevicesConfigSizeMax);
    if (!text.ok()) return text.status();
    absl::StatusOr<LoopbackOptions> devices = ParseLoopbackOptions(*text);
    if (!devices.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(o.devices_config, ": ", devices.status().message()));
    }
    options.devices = *std::move(devices);
    options.connected_as_in_twins =
        ParseJson(*text)->view().Find("offline_share").is_undefined();
  }
  if (has_seed) options.devices.seed = static_cast<uint64_t>(o.seed);
  return options;
}

// Creates the jobs on an engine without twins.  Says what is wrong and returns
// false if one of them is refused.
bool CheckJobs(const Command& command, const EngineOptions& engine_options,
               absl::Span<const JobFile> jobs) {
  EngineOptions options = engine_options;
  options.threads = 1;
  // Whether the profile lets all of them run at once is seen when they do.
  options.on_active_limit = ActiveLimitPolicy::kQueue;
  absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Create(options);
  if (!engine.ok()) {
    Complain(command, engine.status().message());
    return false;
  }
  for (const JobFile& job : jobs) {
    const absl::Status status =
        (*engine)->CreateJobFromJson(job.job_id, job.body).status();
    if (status.ok()) continue;
    Complain(command, absl::StrCat(job.path, ": ", DescribeError(status)),
             CaretLines(status, job.condition));
    return false;
  }
  return true;
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
          absl::Span<const JobFile> jobs) {
    const int exit_code = RunJobs(simulation_options, jobs);
    line_.Clear();
    output_.End(exit_code);
    return exit_code;
  }

 private:
  int RunJobs(const SimulationOptions& simulation_options,
              absl::Span<const JobFile> jobs) {
    absl::StatusOr<std::unique_ptr<Simulation>> simulation =
        Simulation::Create(simulation_options);
    if (!simulation.ok()) return Fail(kExitUsage, simulation.status());
    if (!Load(**simulation)) return kExitUsage;
    if (interrupt_.pending()) return InterruptedEarly();

    Engine& engine = (*simulation)->engine();
    std::vector<std::string> ids;
    for (const JobFile& job : jobs) {
      absl::StatusOr<JobInfo> info =
          engine.CreateJobFromJson(job.job_id, job.body);
      if (info.ok()) {
        ids.push_back(info->job_id);
        continue;
      }
      refused_ = true;
      output_.Refused(job.path, info.status());
      Complain(command_,
               absl::StrCat(job.path, ": ", DescribeError(info.status())),
               ErrorCodeOf(info.status()) ==
                       ErrorCode::kThrottlingMaxActiveJobCountExceeded
                   ? "(--active-limit queue lets it wait for its turn)\n"
                   : "");
    }
    absl::StatusOr<bool> interrupted = WaitForJobs(
        engine, ids, interrupt_, line_,
        [this](absl::Span<const JobInfo> infos) { output_.Progress(infos); });
    if (!interrupted.ok()) return Fail(kExitFailed, interrupted.status());
    const int exit_code = Report(engine, ids);
    return *interrupted ? kExitInterrupted : exit_code;
  }

  bool Load(Simulation& simulation) {
    FleetSource source;
    source.path = options_.fleet;
    source.label = std::string(LastPart(options_.fleet));
    source.bytes = FileSize(options_.fleet);
    source.skip_bad_lines = options_.skip_bad_lines;
    absl::StatusOr<Simulation::Fleet> fleet =
        simulation.Load(source, line_, [this] {
          if (!interrupt_.pending()) return;
          // There is no other way out of a load, and nothing to clean up but
          // this.
          line_.Clear();
          results_ = nullptr;
          const int exit_code = InterruptedEarly();
          output_.End(exit_code);
          _exit(exit_code);
        });
    if (!fleet.ok()) {
      line_.Clear();
      Complain(command_, fleet.status().message(),
               ErrorCodeOf(fleet.status()) == ErrorCode::kGenericNotFound
                   ? ""
                   : "(nothing was loaded; --skip-bad-lines leaves out what is "
                     "wrong)\n");
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

int Run(const Command& command, absl::Span<const absl::string_view> words) {
  RunOptions options;
  const std::vector<Flag> flags = RunFlags(&options);
  absl::StatusOr<Arguments> arguments = ParseFlags(flags, words);
  if (!arguments.ok()) return UsageError(command, arguments.status());
  if (arguments->help) {
    Print(HelpText(command, flags));
    return kExitOk;
  }
  if (!arguments->positional.empty()) {
    return UsageError(command,
                      absl::InvalidArgumentError(absl::StrCat(
                          "unexpected argument: ", arguments->positional[0])));
  }
  for (absl::string_view name : {"fleet", "job"}) {
    if (!arguments->Has(name)) {
      return UsageError(command, absl::InvalidArgumentError(
                                     absl::StrCat("--", name, " is missing")));
    }
  }
  if (options.json && options.results == "-") {
    return UsageError(command, absl::InvalidArgumentError(
                                   "--json and --results - both want standard "
                                   "output"));
  }

  const auto fail = [&](const absl::Status& status) {
    Complain(command, status.message());
    return kExitUsage;
  };
  absl::StatusOr<SimulationOptions> simulation =
      ReadSimulationOptions(options, arguments->Has("seed"));
  if (!simulation.ok()) return fail(simulation.status());
  if (absl::Status s = CheckReadable(options.fleet); !s.ok()) return fail(s);
  std::vector<JobFile> jobs;
  for (const std::string& path : options.jobs) {
    absl::StatusOr<JobFile> job = ReadJobFile(path);
    if (!job.ok()) return fail(job.status());
    jobs.push_back(*std::move(job));
  }
  if (!CheckJobs(command, simulation->engine, jobs)) return kExitUsage;
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
    "run",
    "jobs from files over a fleet from a file, on simulated devices",
    "--fleet FILE --job FILE [--job FILE ...] [FLAGS]",
    "Loads the twins, simulates a device for each, and runs the jobs: at once, "
    "or\n"
    "when their startTime has come. Devices are connected as their twins say. "
    "At\n"
    "the end it says what became of each job and of its devices.\n"
    "\n"
    "Ctrl-C cancels what has not been sent, waits for what has, and reports; "
    "a\n"
    "second one ends at once. Exit codes: 0 every device succeeded, 1 some job "
    "or\n"
    "device failed, 2 wrong arguments or input, 3 interrupted.\n",
    "  muster run --fleet twins.jsonl --job reboot.json --results out.jsonl\n"
    "\n"
    "  reboot.json:\n"
    "    {\"type\": \"scheduleDeviceMethod\",\n"
    "     \"cloudToDeviceMethod\": {\"methodName\": \"reboot\",\n"
    "                             \"connectTimeoutInSeconds\": 10},\n"
    "     \"queryCondition\": \"tags.location.building = '43'\",\n"
    "     \"maxExecutionTimeInSeconds\": 60}\n",
    Run};

}  // namespace muster
