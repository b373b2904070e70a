// `muster query`: asks a fleet which devices meet a condition.

#include <algorithm>
#include <climits>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/schedule/clock.h"
#include "server/caret.h"
#include "server/command.h"
#include "server/engine_flags.h"
#include "server/exit_code.h"
#include "server/files.h"
#include "server/flags.h"
#include "server/fleet_loading.h"
#include "server/progress.h"
#include "server/text.h"

namespace muster {
namespace {

// Rows of one page: every page costs a pass over the fleet, every row its text.
constexpr int64_t kPageRows = 100'000;

struct QueryCommandOptions {
  std::string fleet;
  int64_t limit = INT64_MAX;
  int64_t threads = DefaultThreads();
  bool explain = false;
  bool skip_bad_lines = false;
  bool quiet = false;
};

std::vector<Flag> QueryFlags(QueryCommandOptions* o) {
  return {
      {"fleet", "FILE", "the twins: one JSON document per line", &o->fleet},
      {"limit", "N", "rows at most", IntFlag{&o->limit, 0, INT64_MAX}},
      {"threads", "N", "threads that load (one per processor)",
       IntFlag{&o->threads, 1, 256}},
      {"explain", "", "print how the condition is answered, instead of rows",
       &o->explain},
      {"skip-bad-lines", "", "leave out twins that are wrong",
       &o->skip_bad_lines},
      {"quiet", "", "no progress, and no count of rows", &o->quiet},
  };
}

int ComplainAboutStatement(const Command& command, const absl::Status& status,
                           absl::string_view statement) {
  Complain(command, DescribeError(status), CaretLines(status, statement));
  return kExitUsage;
}

int PrintRows(const Command& command, const Engine& engine,
              const std::string& statement, const QueryCommandOptions& options,
              ProgressLine& line) {
  const absl::Duration begin = Clock::Real().Monotonic();
  std::string continuation;
  std::string out;
  int64_t count = 0;
  do {
    const int64_t wanted = std::min(options.limit - count, kPageRows);
    if (wanted == 0) break;
    absl::StatusOr<TwinPage> page =
        engine.Query(statement, static_cast<int>(wanted), continuation);
    if (!page.ok()) {
      return ComplainAboutStatement(command, page.status(), statement);
    }
    out.clear();
    for (const std::string& row : page->rows) absl::StrAppend(&out, row, "\n");
    line.Clear();
    Print(out);
    if (OutputLost()) return kExitFailed;
    count += static_cast<int64_t>(page->rows.size());
    continuation = std::move(page->continuation);
  } while (!continuation.empty());
  line.Note(absl::StrCat(Counted(count, "row"), " in ",
                         ShortDuration(Clock::Real().Monotonic() - begin)));
  return kExitOk;
}

// "1.2 us", with one digit where it says something.
std::string StepTime(int64_t nanoseconds) {
  return ShortDuration(absl::Nanoseconds(nanoseconds));
}

// The forms that a part took, the most frequent first: mostly there is one.
std::string FormsText(const MatchExplanation::Step& step) {
  std::vector<MatchExplanation::Form> forms = step.forms;
  std::sort(forms.begin(), forms.end(), [](const auto& a, const auto& b) {
    return a.shards != b.shards ? a.shards > b.shards : a.text < b.text;
  });
  std::string text;
  for (const MatchExplanation::Form& form : forms) {
    absl::StrAppend(&text, text.empty() ? "" : "; ", form.text);
    if (forms.size() > 1) {
      absl::StrAppend(&text, " (", Counted(form.shards, "shard"), ")");
    }
  }
  return text;
}

int PrintExplanation(const Command& command, const Engine& engine,
                     const std::string& statement, ProgressLine& line) {
  const absl::StatusOr<MatchExplanation> explanation =
      engine.Explain(statement);
  if (!explanation.ok()) {
    return ComplainAboutStatement(command, explanation.status(), statement);
  }
  line.Clear();
  std::string out =
      absl::StrCat(Counted(explanation->rows_in, "device"), " in ",
                   Counted(explanation->shards, "shard"), ", ",
                   WithCommas(explanation->rows_out), " selected in ",
                   StepTime(explanation->nanoseconds), "\n");
  int number = 0;
  for (const MatchExplanation::Step& step : explanation->steps) {
    absl::StrAppend(&out, "\n", ++number, ". ", step.condition, "\n   by ",
                    FormsText(step), "\n   ", Counted(step.rows_in, "row"),
                    " in, ", WithCommas(step.rows_out), " out, ",
                    Counted(step.values_examined, "value"), " examined, ",
                    StepTime(step.nanoseconds), "\n");
  }
  Print(out);
  return OutputLost() ? kExitFailed : kExitOk;
}

int Query(const Command& command, QueryCommandOptions& options,
          const Arguments& arguments) {
  if (!arguments.Has("fleet")) {
    return UsageError(command, "--fleet is missing");
  }
  if (arguments.positional.size() != 1) {
    return UsageError(
        command, arguments.positional.empty()
                     ? "the statement is missing: \"SELECT ... FROM devices\""
                     : "there is more than one statement; put it in quotes");
  }
  const std::string& statement = arguments.positional[0];
  if (absl::Status s = CheckReadable(options.fleet); !s.ok()) {
    Complain(command, s.message());
    return kExitUsage;
  }

  EngineOptions engine_options;
  engine_options.threads = static_cast<int>(options.threads);
  absl::StatusOr<std::unique_ptr<Engine>> engine =
      Engine::Create(engine_options);
  if (!engine.ok()) {
    Complain(command, engine.status().message());
    return kExitUsage;
  }
  // A mistake in the statement is found before the fleet is loaded.
  if (absl::Status s = (*engine)->Query(statement, 1).status(); !s.ok()) {
    return ComplainAboutStatement(command, s, statement);
  }
  ProgressLine line(ProgressLine::ModeForStderr(options.quiet));
  FleetSource source;
  source.path = options.fleet;
  source.label = std::string(LastPart(options.fleet));
  source.bytes = FileSize(options.fleet);
  source.skip_bad_lines = options.skip_bad_lines;
  absl::StatusOr<LoadedFleet> fleet =
      LoadFleet(**engine, source, line, nullptr);
  if (!fleet.ok()) {
    Complain(command, fleet.status().message());
    return kExitUsage;
  }
  line.Note(absl::StrCat("loaded ", Counted(fleet->devices, "device"), " in ",
                         ShortDuration(fleet->elapsed)));
  if (options.explain) {
    return PrintExplanation(command, **engine, statement, line);
  }
  return PrintRows(command, **engine, statement, options, line);
}

}  // namespace

const Command kQueryCommand = {
    .name = "query",
    .summary = "asks a fleet which devices meet a condition",
    .arguments = "--fleet FILE \"SELECT ... FROM devices ...\" [FLAGS]",
    .about =
        "Loads the twins and answers a statement of the hub's query language, "
        "one "
        "row\n"
        "per line of standard output, as JSON. Exit codes: 0 answered, 1 "
        "output "
        "lost,\n"
        "2 wrong arguments or input.\n",
    .example =
        "  muster query --fleet twins.jsonl \"SELECT deviceId FROM devices "
        "WHERE\n"
        "      tags.location.building = '43' AND properties.reported.battery < "
        "20\"\n"
        "  muster query --fleet twins.jsonl --explain \"SELECT * FROM devices "
        "WHERE ...\"\n"
        "  muster query --fleet twins.jsonl \"SELECT tags.model AS model,\n"
        "      COUNT() AS devices FROM devices GROUP BY tags.model\"\n",
    .words_max = INT_MAX,
    .invoke = MakeInvocation<QueryCommandOptions, QueryFlags, Query>};

}  // namespace muster
