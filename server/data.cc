// `muster data`: looks at the folder that an engine keeps its data in.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "engine/journal/rocksdb/check_data.h"
#include "engine/model/json.h"
#include "engine/schedule/clock.h"
#include "server/command.h"
#include "server/exit_code.h"
#include "server/flags.h"
#include "server/progress.h"
#include "server/text.h"

namespace muster {
namespace {

struct DataCommandOptions {
  bool json = false;
  bool quiet = false;
};

std::vector<Flag> DataFlags(DataCommandOptions* o) {
  return {
      {"json", "", "one JSON object on standard output instead of text",
       &o->json},
      {"quiet", "", "no progress", &o->quiet},
  };
}

// What the partitions hold together.
struct Totals {
  int64_t chunks = 0;
  int64_t chunk_bytes = 0;
  int64_t snapshots = 0;
  int64_t snapshot_bytes = 0;
  int64_t records = 0;
};

Totals TotalsOf(const DataReport& report) {
  Totals t;
  for (const DataPartition& p : report.partitions) {
    t.chunks += p.chunks;
    t.chunk_bytes += p.chunk_bytes;
    t.snapshots += p.snapshot_parts > 0 ? 1 : 0;
    t.snapshot_bytes += p.snapshot_bytes;
    t.records += p.records;
  }
  return t;
}

std::string CheckText(const std::string& directory, const DataReport& report) {
  std::string out;
  for (const DataProblem& problem : report.problems) {
    absl::StrAppend(&out, problem.message, "\n");
  }
  const int64_t unlisted =
      report.problem_count - static_cast<int64_t>(report.problems.size());
  if (unlisted > 0) {
    absl::StrAppend(&out, "... and ", WithCommas(unlisted), " more\n");
  }
  const Totals t = TotalsOf(report);
  absl::StrAppend(
      &out, directory, ": ",
      Counted(static_cast<int64_t>(report.partitions.size()), "partition"),
      ", ", Counted(t.snapshots, "snapshot"), " (",
      ShortBytes(t.snapshot_bytes), "), ", Counted(t.chunks, "chunk"), " (",
      ShortBytes(t.chunk_bytes), "), ", Counted(t.records, "record"), ": ",
      report.problem_count == 0 ? "no problems"
                                : Counted(report.problem_count, "problem"),
      "\n");
  return out;
}

std::string StatsText(const DataReport& report) {
  const Totals t = TotalsOf(report);
  std::string out;
  const auto line = [&out](absl::string_view name, absl::string_view value) {
    absl::StrAppendFormat(&out, "%-22s%14s\n", name, value);
  };
  line("on disk", ShortBytes(report.disk_bytes));
  line("snapshots", WithCommas(t.snapshots));
  line("  bytes", ShortBytes(t.snapshot_bytes));
  line("chunks", WithCommas(t.chunks));
  line("  bytes", ShortBytes(t.chunk_bytes));
  line("records", WithCommas(t.records));
  for (const auto& [name, count] : report.records) {
    line(absl::StrCat("  ", name), WithCommas(count));
  }
  int64_t jobs = 0;
  for (const auto& [name, count] : report.jobs) jobs += count;
  line("jobs", WithCommas(jobs));
  for (const auto& [name, count] : report.jobs) {
    line(absl::StrCat("  ", name), WithCommas(count));
  }
  absl::StrAppendFormat(&out, "\n%-10s%14s%14s%14s%14s%14s\n", "partition",
                        "snapshot", "chunks", "bytes", "records", "next chunk");
  for (size_t i = 0; i < report.partitions.size(); ++i) {
    const DataPartition& p = report.partitions[i];
    absl::StrAppendFormat(
        &out, "%-10d%14s%14s%14s%14s%14s\n", i, ShortBytes(p.snapshot_bytes),
        WithCommas(p.chunks), ShortBytes(p.chunk_bytes), WithCommas(p.records),
        WithCommas(static_cast<int64_t>(p.last_sequence) + 1));
  }
  return out;
}

void AppendCounts(absl::string_view name,
                  const std::vector<std::pair<std::string, int64_t>>& counts,
                  JsonWriter* json) {
  json->Key(name).BeginObject();
  for (const auto& [key, count] : counts) json->Key(key).Int(count);
  json->EndObject();
}

std::string JsonText(const DataReport& report, bool with_stats) {
  const Totals t = TotalsOf(report);
  std::string out;
  JsonWriter json(&out);
  json.BeginObject();
  json.Key("diskBytes").Int(report.disk_bytes);
  json.Key("snapshots").Int(t.snapshots);
  json.Key("snapshotBytes").Int(t.snapshot_bytes);
  json.Key("chunks").Int(t.chunks);
  json.Key("chunkBytes").Int(t.chunk_bytes);
  json.Key("records").Int(t.records);
  json.Key("problemCount").Int(report.problem_count);
  json.Key("problems").BeginArray();
  for (const DataProblem& problem : report.problems) {
    json.BeginObject();
    if (problem.partition >= 0) json.Key("partition").Int(problem.partition);
    if (problem.sequence != 0) {
      json.Key("sequence").Int(static_cast<int64_t>(problem.sequence));
    }
    json.Key("message").String(problem.message).EndObject();
  }
  json.EndArray();
  if (with_stats) {
    AppendCounts("recordsByKind", report.records, &json);
    AppendCounts("jobsByStatus", report.jobs, &json);
    json.Key("partitions").BeginArray();
    for (const DataPartition& p : report.partitions) {
      json.BeginObject();
      json.Key("epoch").Int(static_cast<int64_t>(p.epoch));
      json.Key("snapshotParts").Int(p.snapshot_parts);
      json.Key("snapshotBytes").Int(p.snapshot_bytes);
      json.Key("firstSequence").Int(static_cast<int64_t>(p.first_sequence));
      json.Key("lastSequence").Int(static_cast<int64_t>(p.last_sequence));
      json.Key("chunkBytes").Int(p.chunk_bytes);
      json.Key("records").Int(p.records);
      json.EndObject();
    }
    json.EndArray();
  }
  json.EndObject();
  absl::StrAppend(&out, "\n");
  return out;
}

template <bool kStats>
int Data(const Command& command, DataCommandOptions& options,
         const Arguments& arguments) {
  if (arguments.positional.empty()) {
    return UsageError(command, "the folder is missing");
  }
  const std::string& directory = arguments.positional[0];

  ProgressLine line(ProgressLine::ModeForStderr(options.quiet));
  RateMeter meter;
  absl::StatusOr<DataReport> report =
      CheckData(directory, [&](int64_t done, int64_t total) {
        const absl::Duration now = Clock::Real().Monotonic();
        const double rate = meter.Add(now, done);
        if (!line.IsDue(now)) return;
        Progress progress;
        progress.label = "reading";
        progress.done = done;
        progress.total = total;
        progress.figures =
            absl::StrCat(ShortBytes(done), " of ", ShortBytes(total));
        if (rate > 0) {
          progress.left = absl::StrCat(
              ClockDuration(
                  absl::Seconds(static_cast<double>(total - done) / rate)),
              " left");
        }
        line.Show(now, progress);
      });
  line.Clear();
  if (!report.ok()) {
    Complain(command, report.status().message());
    return kExitUsage;
  }
  if (options.json) {
    Print(JsonText(*report, kStats));
  } else {
    Print(kStats ? StatsText(*report) : CheckText(directory, *report));
  }
  if (report->problem_count == 0) return kExitOk;
  if (kStats) {
    Complain(command, absl::StrCat("the data has ",
                                   Counted(report->problem_count, "problem"),
                                   ": ", ProgramName(), " data check ",
                                   directory, " lists them"));
  }
  return kExitFailed;
}

}  // namespace

const Command kDataGroup = {
    .name = "data",
    .summary = "checks the folder that an engine keeps its data in",
    .about =
        "Neither changes anything; the engine must not be running. Exit codes: "
        "0 all is\n"
        "whole, 1 there are problems, 2 wrong arguments or no folder that can "
        "be read.\n",
    .example = "  muster data check /var/lib/muster\n"};

const Command kDataCheckCommand = {
    .name = "data check",
    .summary = "lists what is damaged or missing in a folder",
    .arguments = "DIR [FLAGS]",
    .about =
        "Reads all that is in the folder, with every checksum, and lists what "
        "is\n"
        "damaged or missing: the partition, the chunk and the byte. Changes "
        "nothing; the\n"
        "engine must not be running. Exit codes: 0 all is whole, 1 there are "
        "problems,\n"
        "2 wrong arguments or no folder that can be read.\n",
    .example = "  muster data check /var/lib/muster\n",
    .words_max = 1,
    .invoke = MakeInvocation<DataCommandOptions, DataFlags, Data<false>>};

const Command kDataStatsCommand = {
    .name = "data stats",
    .summary = "says how much there is of what in a folder",
    .arguments = "DIR [FLAGS]",
    .about =
        "Reads all that is in the folder and counts it. Changes nothing; the "
        "engine must\n"
        "not be running. Exit codes: 0 all is whole, 1 there are problems, 2 "
        "wrong\n"
        "arguments or no folder that can be read.\n",
    .example = "  muster data stats /var/lib/muster --json\n",
    .words_max = 1,
    .invoke = MakeInvocation<DataCommandOptions, DataFlags, Data<true>>};

}  // namespace muster
