// `muster job`: the jobs of a server.

#include "engine/model/job.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/model/instant.h"
#include "engine/model/job_status.h"
#include "engine/model/json.h"
#include "engine/schedule/clock.h"
#include "server/caret.h"
#include "server/command.h"
#include "server/exit_code.h"
#include "server/flags.h"
#include "server/interrupt.h"
#include "server/job_file.h"
#include "server/job_message.h"
#include "server/job_watch.h"
#include "server/progress.h"
#include "server/service.h"
#include "server/table.h"
#include "server/tally.h"
#include "server/text.h"
#include "transport/grpc/convert.h"
#include "transport/grpc/names.h"

namespace muster {
namespace {

constexpr absl::Duration kTick = absl::Milliseconds(100);
// Of a page, at most (job_service.proto).
constexpr int64_t kPageSizeMax = 1000;

std::string JobJson(const JobInfo& info) {
  std::string line;
  AppendJobJson(info, &line);
  line.push_back('\n');
  return line;
}

void PrintJob(const Service& service, const JobInfo& info) {
  Print(service.json() ? JobJson(info) : JobText(info));
}

// The one word that a command takes, or what is missing.
absl::StatusOr<std::string> OnlyWord(const Arguments& arguments,
                                     absl::string_view what) {
  if (arguments.positional.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the ", what, " is missing"));
  }
  return arguments.positional[0];
}

// ----------------------------------------------------------------------- watch

// Follows a job in a thread of its own, so that this one is free for progress
// and ctrl-C.
class JobFollower {
 public:
  JobFollower(MusterClient& client, Interrupt& interrupt,
              const std::string& job_id)
      : thread_([this, &client, &interrupt, job_id] {
          const absl::StatusOr<v1::Job> last = client.WatchJob(
              JobName(job_id), absl::InfiniteDuration(),
              [this](const v1::Job& job) { return Take(job); },
              [this](const absl::Status& connection) {
                absl::MutexLock lock(&mutex_);
                connected_ = connection.ok();
              });
          {
            absl::MutexLock lock(&mutex_);
            if (status_.ok()) status_ = last.status();
            done_ = true;
          }
          interrupt.Wake();
        }) {}
  // REQUIRES: the job has ended, or the client was told to Cancel().
  ~JobFollower() { thread_.join(); }

  struct Look {
    std::optional<JobInfo> job;  // As it was last.
    bool changed = false;        // Since the last look.
    bool connected = true;
    bool done = false;
    absl::Status status;  // With `done`.
  };
  Look Now() {
    absl::MutexLock lock(&mutex_);
    return {.job = job_,
            .changed = std::exchange(changed_, false),
            .connected = connected_,
            .done = done_,
            .status = status_};
  }

 private:
  bool Take(const v1::Job& job) {
    absl::StatusOr<JobInfo> info = JobInfoOf(job);
    absl::MutexLock lock(&mutex_);
    if (!info.ok()) {
      status_ = info.status();
      return false;
    }
    job_ = *std::move(info);
    changed_ = true;
    return true;
  }

  absl::Mutex mutex_;
  std::optional<JobInfo> job_ ABSL_GUARDED_BY(mutex_);
  bool changed_ ABSL_GUARDED_BY(mutex_) = false;
  bool connected_ ABSL_GUARDED_BY(mutex_) = true;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;  // The last member: it uses the others.
};

int Watch(const Command& command, Service& service, const std::string& job_id,
          bool quiet) {
  // Also tells whether there is a server, and such a job.
  absl::StatusOr<v1::Job> job = service.client().GetJob(JobName(job_id));
  if (!job.ok()) return service.Fail(job.status());
  Clock& clock = Clock::Real();
  Interrupt& interrupt = Interrupt::Install();
  ProgressLine line(ProgressLine::ModeForStderr(quiet || service.json()));
  RateMeter meter(absl::Seconds(2));
  JobFollower follower(service.client(), interrupt, job_id);
  JobFollower::Look look;
  bool connected = true;
  for (;;) {
    look = follower.Now();
    if (look.connected != std::exchange(connected, look.connected)) {
      // No progress: it is said with --quiet and with JSON, too.
      line.Clear();
      Complain(command, connected ? "the server answers again"
                                  : "no server answers; trying again");
    }
    if (look.changed && service.json()) Print(JobJson(*look.job));
    if (look.done) break;
    if (interrupt.pending() || OutputLost()) {
      service.client().Cancel();
      line.Clear();
      Complain(command, "interrupted; the job goes on",
               absl::StrCat("(", ProgramName(), " job watch ", job_id,
                            " follows it again, ", ProgramName(),
                            " job cancel ", job_id, " --running ends it)\n"));
      return kExitInterrupted;
    }
    const absl::Duration now = clock.Monotonic();
    if (look.job.has_value()) {
      const JobStatistics counts =
          look.job->statistics.value_or(JobStatistics());
      const double rate =
          meter.Add(now, counts.succeeded_count + counts.failed_count);
      line.Show(now, ProgressOfJobs({&*look.job, 1}, clock.Now(), rate, false));
    }
    interrupt.Wait(kTick);
  }
  line.Clear();
  if (!look.status.ok()) return service.Fail(look.status);
  const JobInfo& info = *look.job;
  if (!service.json()) Print(JobText(info));
  const bool succeeded =
      info.status == JobStatus::kCompleted &&
      info.statistics.value_or(JobStatistics()).failed_count == 0;
  if (succeeded) return kExitOk;
  if (!service.json() && info.status == JobStatus::kCompleted) {
    PrintError(absl::StrCat("(", ProgramName(), " job executions ", job_id,
                            " --status failed says which)\n"));
  }
  return kExitFailed;
}

struct WatchOptions {
  ServiceFlags service;
  bool quiet = false;
};

std::vector<Flag> WatchFlags(WatchOptions* o) {
  return WithServiceFlags(&o->service,
                          {{"quiet", "", "no progress", &o->quiet}});
}

int RunWatch(const Command& command, WatchOptions& options,
             const Arguments& arguments) {
  absl::StatusOr<std::string> job_id = OnlyWord(arguments, "job");
  if (!job_id.ok()) return UsageError(command, job_id.status().message());
  Service service(command, options.service);
  if (const int exit_code = service.Connect(); exit_code != kExitOk) {
    return exit_code;
  }
  return Watch(command, service, *job_id, options.quiet);
}

// ---------------------------------------------------------------------- create

struct CreateOptions {
  ServiceFlags service;
  std::string id;
  std::string method;
  std::string payload;
  int64_t response_timeout = kResponseTimeoutSecondsDefault;
  int64_t connect_timeout = 0;
  std::string patch;
  std::string condition;
  std::string start;
  int64_t limit = kMaxExecutionTimeSecondsDefault;
  std::string priority = "normal";
  int64_t weight = kJobWeightDefault;
  std::string request_id;
  bool dry_run = false;
  bool watch = false;
  bool quiet = false;
};

std::vector<Flag> CreateFlags(CreateOptions* o) {
  return WithServiceFlags(
      &o->service,
      {
          {"id", "JOB",
           "its name (the file's jobId or name; or else the\n"
           "server's choice)",
           &o->id},
          {"method", "NAME", "a direct method that is called on each device",
           &o->method},
          {"payload", "JSON", "what the method is given (null)", &o->payload},
          {"response-timeout", "S", "what a device has for its answer (30)",
           IntFlag{&o->response_timeout, kResponseTimeoutSecondsMin,
                   kResponseTimeoutSecondsMax}},
          {"connect-timeout", "S",
           "how long a device that is offline is waited for (0: as\n"
           "long as the job may run)",
           IntFlag{&o->connect_timeout, 0, kConnectTimeoutSecondsMax}},
          {"patch", "JSON",
           "instead of a method: what is merged into each twin, as\n"
           "{\"tags\": ..., \"properties\": {\"desired\": ...}}",
           &o->patch},
          {"condition", "TEXT",
           "whom: a condition over twins, or * for all devices", &o->condition},
          {"start", "TIME", "when: 2031-03-01T22:00:00Z (now)", &o->start},
          {"limit", "S", "how long it may run (3600)",
           IntFlag{&o->limit, 1, INT64_MAX}},
          {"priority", "CLASS", "emergency, high, normal (default) or low",
           ChoiceFlag{&o->priority, {"emergency", "high", "normal", "low"}}},
          {"weight", "N",
           "of jobs of one class, one of 200 is served twice as\n"
           "often as one of 100 (100)",
           IntFlag{&o->weight, kJobWeightMin, kJobWeightMax}},
          {"request-id", "UUID",
           "makes a repetition harmless: an equal job that is\n"
           "there already is the answer",
           &o->request_id},
          {"dry-run", "",
           "checks everything, and says how many devices there are",
           &o->dry_run},
          {"watch", "", "follows it to its end", &o->watch},
          {"quiet", "", "no progress", &o->quiet},
      });
}

JobPriority PriorityOf(absl::string_view name) {
  return name == "emergency" ? JobPriority::kEmergency
         : name == "high"    ? JobPriority::kHigh
         : name == "low"     ? JobPriority::kLow
                             : JobPriority::kNormal;
}

// The flags as the request body that a file would have.
absl::StatusOr<std::string> BodyOf(const CreateOptions& o) {
  for (const auto& [name, text] :
       {std::pair("payload", &o.payload), std::pair("patch", &o.patch)}) {
    if (text->empty()) continue;
    if (absl::Status s = ParseJson(*text).status(); !s.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", name, ": ", s.message()));
    }
  }
  std::string body;
  JsonWriter json(&body);
  json.BeginObject();
  if (!o.method.empty()) {
    json.Key("type").String("scheduleDeviceMethod");
    json.Key("cloudToDeviceMethod").BeginObject();
    json.Key("methodName").String(o.method);
    json.Key("payload").Raw(o.payload.empty() ? "null" : o.payload);
    json.Key("responseTimeoutInSeconds").Int(o.response_timeout);
    json.Key("connectTimeoutInSeconds").Int(o.connect_timeout);
    json.EndObject();
  } else {
    json.Key("type").String("scheduleUpdateTwin");
    json.Key("updateTwin").Raw(o.patch);
  }
  json.Key("queryCondition").String(o.condition);
  if (!o.start.empty()) json.Key("startTime").String(o.start);
  json.Key("maxExecutionTimeInSeconds").Int(o.limit);
  json.EndObject();
  return body;
}

// What the flags of a job are not to be combined with: a file.
constexpr absl::string_view kOfFile[] = {
    "method",          "payload", "response-timeout",
    "connect-timeout", "patch",   "condition",
    "start",           "limit"};

absl::StatusOr<JobFile> JobOf(const CreateOptions& o,
                              const Arguments& arguments) {
  if (!arguments.positional.empty()) {
    for (absl::string_view name : kOfFile) {
      if (arguments.Has(name)) {
        return absl::InvalidArgumentError(
            absl::StrCat("--", name, " and a file both say what the job is"));
      }
    }
    absl::StatusOr<JobFile> file = ReadJobFile(arguments.positional[0]);
    if (file.ok() && !o.id.empty()) file->job_id = o.id;
    return file;
  }
  if (o.method.empty() == o.patch.empty()) {
    return absl::InvalidArgumentError(
        "the job is missing: a file, or --method NAME, or --patch JSON");
  }
  if (o.condition.empty()) {
    return absl::InvalidArgumentError(
        "--condition is missing: whom the job is for; * for all devices");
  }
  absl::StatusOr<std::string> body = BodyOf(o);
  if (!body.ok()) return body.status();
  JobFile job;
  job.job_id = o.id;
  job.body = *std::move(body);
  job.condition = o.condition;
  return job;
}

int Create(const Command& command, CreateOptions& options,
           const Arguments& arguments) {
  absl::StatusOr<JobFile> file = JobOf(options, arguments);
  if (!file.ok()) return UsageError(command, file.status().message());
  // Without an id the server chooses one; here any will do.
  const bool named = !file->job_id.empty() || !file->path.empty();
  absl::StatusOr<JobRequest> request =
      ParseJobRequest(named ? file->job_id : "unnamed", file->body);
  if (!request.ok()) {
    Complain(command, absl::StrCat(file->path, file->path.empty() ? "" : ": ",
                                   DescribeError(request.status())));
    return kExitUsage;
  }
  request->priority = PriorityOf(options.priority);
  request->weight = static_cast<int>(options.weight);

  Service service(command, options.service);
  if (const int exit_code = service.Connect(); exit_code != kExitOk) {
    return exit_code;
  }
  v1::CreateJobRequest message;
  if (named) message.set_job_id(request->job_id);
  *message.mutable_job() = JobMessageOf(*request);
  message.set_request_id(options.request_id);
  message.set_validate_only(options.dry_run);
  absl::StatusOr<v1::Job> job = service.client().CreateJob(message);
  if (!job.ok()) return service.Fail(job.status(), file->condition);
  if (options.watch && !options.dry_run) {
    absl::StatusOr<std::string> id = ParseJobName("name", job->name());
    if (!id.ok()) return service.Fail(id.status());
    return Watch(command, service, *id, options.quiet);
  }
  absl::StatusOr<JobInfo> info = JobInfoOf(*job);
  if (!info.ok()) return service.Fail(info.status());
  if (service.json()) {
    Print(JobJson(*info));
  } else if (options.dry_run) {
    Print(absl::StrCat(
        "nothing is wrong with it; it would be for ",
        Counted(info->statistics.value_or(JobStatistics()).device_count,
                "device"),
        "\n"));
  } else {
    Print(absl::StrCat(info->job_id, " ", JobStatusName(info->status), "\n"));
    PrintError(absl::StrCat("(", ProgramName(), " job watch ", info->job_id,
                            " follows it)\n"));
  }
  return kExitOk;
}

// ------------------------------------------------------------------ get,
// cancel

int Get(const Command& command, ServiceFlags& options,
        const Arguments& arguments) {
  absl::StatusOr<std::string> job_id = OnlyWord(arguments, "job");
  if (!job_id.ok()) return UsageError(command, job_id.status().message());
  Service service(command, options);
  if (const int exit_code = service.Connect(); exit_code != kExitOk) {
    return exit_code;
  }
  absl::StatusOr<v1::Job> job = service.client().GetJob(JobName(*job_id));
  if (!job.ok()) return service.Fail(job.status());
  absl::StatusOr<JobInfo> info = JobInfoOf(*job);
  if (!info.ok()) return service.Fail(info.status());
  PrintJob(service, *info);
  return kExitOk;
}

std::vector<Flag> OnlyServiceFlags(ServiceFlags* o) {
  return WithServiceFlags(o, {});
}

struct CancelCommandOptions {
  ServiceFlags service;
  bool running = false;
};

std::vector<Flag> CancelFlags(CancelCommandOptions* o) {
  return WithServiceFlags(
      &o->service, {{"running", "",
                     "also if it runs already: what is pending is cancelled,\n"
                     "what is in flight comes to its end",
                     &o->running}});
}

int Cancel(const Command& command, CancelCommandOptions& options,
           const Arguments& arguments) {
  absl::StatusOr<std::string> job_id = OnlyWord(arguments, "job");
  if (!job_id.ok()) return UsageError(command, job_id.status().message());
  Service service(command, options.service);
  if (const int exit_code = service.Connect(); exit_code != kExitOk) {
    return exit_code;
  }
  absl::StatusOr<v1::Job> job =
      service.client().CancelJob(JobName(*job_id), options.running);
  if (!job.ok()) {
    const int exit_code = service.Fail(job.status());
    if (!options.running && absl::IsFailedPrecondition(job.status())) {
      PrintError("(--running cancels a job that runs)\n");
    }
    return exit_code;
  }
  absl::StatusOr<JobInfo> info = JobInfoOf(*job);
  if (!info.ok()) return service.Fail(info.status());
  PrintJob(service, *info);
  return kExitOk;
}

// ------------------------------------------------------------------------
// lists

constexpr absl::string_view kRowsHelp = "rows at most (100); 0: all";

// How many rows the next page is to have; 0: no more are wanted.
int32_t NextPageSize(int64_t rows_max, int64_t shown) {
  if (rows_max == 0) return kPageSizeMax;
  return static_cast<int32_t>(std::min(kPageSizeMax, rows_max - shown));
}

void TellOfMore(const Service& service, int64_t shown) {
  if (service.json()) return;
  PrintError(absl::StrCat("(the first ", Counted(shown, "row"),
                          "; --rows 0 shows all)\n"));
}

struct ListOptions {
  ServiceFlags service;
  std::string status;
  std::string type;
  int64_t rows = 100;
};

std::vector<Flag> ListFlags(ListOptions* o) {
  return WithServiceFlags(
      &o->service,
      {
          {"status", "STATUS", "only jobs in this status",
           ChoiceFlag{&o->status,
                      {"queued", "scheduled", "running", "completed", "failed",
                       "cancelled"}}},
          {"type", "TYPE", "only jobs that do this",
           ChoiceFlag{&o->type,
                      {"scheduleUpdateTwin", "scheduleDeviceMethod"}}},
          {"rows", "N", kRowsHelp, IntFlag{&o->rows, 0, INT64_MAX}},
      });
}

int List(const Command& command, ListOptions& options, const Arguments&) {
  Service service(command, options.service);
  if (const int exit_code = service.Connect(); exit_code != kExitOk) {
    return exit_code;
  }
  v1::ListJobsRequest request;
  if (!options.status.empty()) {
    request.set_state(ToState(*ParseJobStatus(options.status)));
  }
  if (!options.type.empty()) {
    request.set_type(ToType(*ParseJobType(options.type)));
  }
  int64_t shown = 0;
  do {
    request.set_page_size(NextPageSize(options.rows, shown));
    if (request.page_size() == 0) {
      TellOfMore(service, shown);
      break;
    }
    absl::StatusOr<v1::ListJobsResponse> page =
        service.client().ListJobs(request);
    if (!page.ok()) return service.Fail(page.status());
    Table table({"JOB", "STATUS", "TYPE", ">DEVICES", ">OK", ">FAILED",
                 ">RUNNING", ">PENDING", "CREATED", "CONDITION"});
    std::string lines;
    for (const v1::Job& job : page->jobs()) {
      absl::StatusOr<JobInfo> info = JobInfoOf(job);
      if (!info.ok()) return service.Fail(info.status());
      if (service.json()) {
        lines += JobJson(*info);
        continue;
      }
      const JobStatistics counts = info->statistics.value_or(JobStatistics());
      table.AddRow(
          {info->job_id, std::string(JobStatusName(info->status)),
           info->type() == JobType::kDeviceMethod ? "method" : "twin",
           WithCommas(counts.device_count), WithCommas(counts.succeeded_count),
           WithCommas(counts.failed_count), WithCommas(counts.running_count),
           WithCommas(counts.pending_count),
           absl::FormatTime("%Y-%m-%d %H:%M:%SZ", info->created_time,
                            absl::UTCTimeZone()),
           info->query_condition});
    }
    Print(service.json() ? lines : table.Text(shown == 0));
    shown += page->jobs_size();
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty() && !OutputLost());
  return kExitOk;
}

struct ExecutionsOptions {
  ServiceFlags service;
  std::string device;
  std::string status;
  int64_t rows = 100;
};

std::vector<Flag> ExecutionsFlags(ExecutionsOptions* o) {
  return WithServiceFlags(
      &o->service,
      {
          {"device", "ID", "only this device's; without JOB those of all jobs",
           &o->device},
          {"status", "STATUS", "only executions in this status",
           ChoiceFlag{
               &o->status,
               {"pending", "running", "completed", "failed", "canceled"}}},
          {"rows", "N", kRowsHelp, IntFlag{&o->rows, 0, INT64_MAX}},
      });
}

int Executions(const Command& command, ExecutionsOptions& options,
               const Arguments& arguments) {
  if (arguments.positional.empty() && options.device.empty()) {
    return UsageError(command,
                      "the job is missing; or --device ID, for all jobs");
  }
  Service service(command, options.service);
  if (const int exit_code = service.Connect(); exit_code != kExitOk) {
    return exit_code;
  }
  v1::ListExecutionsRequest request;
  request.set_parent(arguments.positional.empty()
                         ? "jobs/-"
                         : JobName(arguments.positional[0]));
  if (!options.device.empty()) request.set_twin(TwinName(options.device));
  if (!options.status.empty()) {
    request.set_state(ToState(*ParseExecutionStatus(options.status)));
  }
  int64_t shown = 0;
  do {
    request.set_page_size(NextPageSize(options.rows, shown));
    if (request.page_size() == 0) {
      TellOfMore(service, shown);
      break;
    }
    absl::StatusOr<v1::ListExecutionsResponse> page =
        service.client().ListExecutions(request);
    if (!page.ok()) return service.Fail(page.status());
    Table table({"JOB", "DEVICE", "STATUS", ">ANSWER", "PAYLOAD OR ERROR"});
    std::string lines;
    for (const v1::Execution& execution : page->executions()) {
      absl::StatusOr<ExecutionRecord> record = ExecutionRecordOf(execution);
      if (!record.ok()) return service.Fail(record.status());
      if (service.json()) {
        AppendExecutionJson(*record, &lines);
        lines.push_back('\n');
        continue;
      }
      const bool failed = record->error_code != ErrorCode::kOk;
      table.AddRow(
          {record->job_id, record->device_id,
           std::string(ExecutionStatusName(record->status)),
           record->response.has_value() ? absl::StrCat(record->response->status)
                                        : "",
           failed
               ? absl::StrCat(ErrorInfoOf(record->error_code).name, ": ",
                              record->error_description)
               : record->response
                     .value_or(ExecutionRecord::MethodResponse{.payload = ""})
                     .payload});
    }
    Print(service.json() ? lines : table.Text(shown == 0));
    shown += page->executions_size();
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty() && !OutputLost());
  return kExitOk;
}

// ----------------------------------------------------------------------
// preview

struct PreviewOptions {
  ServiceFlags service;
  int64_t sample = 10;
};

std::vector<Flag> PreviewFlags(PreviewOptions* o) {
  return WithServiceFlags(&o->service,
                          {{"sample", "N", "devices that are named (10)",
                            IntFlag{&o->sample, 0, 1000}}});
}

int Preview(const Command& command, PreviewOptions& options,
            const Arguments& arguments) {
  absl::StatusOr<std::string> condition = OnlyWord(arguments, "condition");
  if (!condition.ok()) return UsageError(command, condition.status().message());
  Service service(command, options.service);
  if (const int exit_code = service.Connect(); exit_code != kExitOk) {
    return exit_code;
  }
  v1::PreviewTargetsRequest request;
  request.set_query_condition(*condition);
  request.set_sample_size(static_cast<int32_t>(options.sample));
  absl::StatusOr<v1::PreviewTargetsResponse> targets =
      service.client().PreviewTargets(request);
  if (!targets.ok()) return service.Fail(targets.status(), *condition);
  std::vector<std::string> ids;
  for (const std::string& name : targets->sample()) {
    absl::StatusOr<std::string> id = ParseTwinName("sample", name);
    if (!id.ok()) return service.Fail(id.status());
    ids.push_back(*std::move(id));
  }
  std::string out;
  if (service.json()) {
    JsonWriter json(&out);
    json.BeginObject().Key("deviceCount").Int(targets->device_count());
    json.Key("connectedCount").Int(targets->connected_count());
    json.Key("sample").BeginArray();
    for (const std::string& id : ids) json.String(id);
    json.EndArray().EndObject();
    out.push_back('\n');
  } else {
    out = absl::StrCat(Counted(targets->device_count(), "device"), ", ",
                       WithCommas(targets->connected_count()), " connected\n");
    for (const std::string& id : ids) absl::StrAppend(&out, "  ", id, "\n");
    if (targets->device_count() > static_cast<int64_t>(ids.size())) {
      absl::StrAppend(&out, "  ...\n");
    }
  }
  Print(out);
  return kExitOk;
}

}  // namespace

const Command kJobGroup = {
    .name = "job",
    .summary = "the jobs of a server",
    .about = "Exit codes: see muster help.\n",
    .example =
        "  muster job create --id reboot-43 --method reboot \\\n"
        "      --condition \"tags.location.building = '43'\" --watch\n"};

const Command kJobCreateCommand = {
    .name = "job create",
    .summary = "creates a job, from flags or a file",
    .arguments = "FILE | --method NAME | --patch JSON [FLAGS]",
    .about =
        "FILE is a request body of the hub's jobs API, as for muster run. "
        "With --watch\n"
        "it is followed as by muster job watch, and so is the exit code.\n",
    .example =
        "  muster job create --id reboot-43 --method reboot \\\n"
        "      --condition \"tags.location.building = '43'\" --watch\n"
        "  muster job create --id slower --condition '*' \\\n"
        "      --patch '{\"properties\": {\"desired\": {\"intervalSec\": "
        "300}}}'\n"
        "  muster job create examples/reboot.json\n",
    .words_max = 1,
    .invoke = MakeInvocation<CreateOptions, CreateFlags, Create>};

const Command kJobGetCommand = {
    .name = "job get",
    .summary = "shows a job",
    .arguments = "JOB [FLAGS]",
    .about = "With --output json as the hub's jobs API shows it.\n",
    .example = "  muster job get reboot-43\n",
    .words_max = 1,
    .invoke = MakeInvocation<ServiceFlags, OnlyServiceFlags, Get>};

const Command kJobListCommand = {
    .name = "job list",
    .summary = "lists jobs, newest first",
    .arguments = "[FLAGS]",
    .about = "Those that ended are listed for 30 days.\n",
    .example = "  muster job list --status running\n",
    .invoke = MakeInvocation<ListOptions, ListFlags, List>};

const Command kJobCancelCommand = {
    .name = "job cancel",
    .summary = "cancels a job",
    .arguments = "JOB [FLAGS]",
    .about = "One that runs already only with --running.\n",
    .example = "  muster job cancel reboot-43 --running\n",
    .words_max = 1,
    .invoke = MakeInvocation<CancelCommandOptions, CancelFlags, Cancel>};

const Command kJobWatchCommand = {
    .name = "job watch",
    .summary = "follows a job to its end, with progress",
    .arguments = "JOB [FLAGS]",
    .about =
        "Goes on when the server was away and comes back. Ctrl-C ends the "
        "watching and\n"
        "leaves the job alone. With --output json a line for each change, ten "
        "a second at\n"
        "most. Exit codes: 0 all devices succeeded, 1 the job or a device "
        "failed, 2 wrong\n"
        "arguments, 3 interrupted, 4 no server.\n",
    .example = "  muster job watch reboot-43\n",
    .words_max = 1,
    .invoke = MakeInvocation<WatchOptions, WatchFlags, RunWatch>};

const Command kJobExecutionsCommand = {
    .name = "job executions",
    .summary = "lists what became of devices",
    .arguments = "JOB | --device ID [FLAGS]",
    .about = "One row for each device of a job, or for each job of a device.\n",
    .example =
        "  muster job executions reboot-43 --status failed\n"
        "  muster job executions --device dev-00000042\n",
    .words_max = 1,
    .invoke = MakeInvocation<ExecutionsOptions, ExecutionsFlags, Executions>};

const Command kJobPreviewCommand = {
    .name = "job preview",
    .summary = "counts the devices that a condition selects",
    .arguments = "CONDITION [FLAGS]",
    .about = "And names the first ones.\n",
    .example = "  muster job preview \"tags.location.building = '43'\"\n",
    .words_max = 1,
    .invoke = MakeInvocation<PreviewOptions, PreviewFlags, Preview>};

}  // namespace muster
