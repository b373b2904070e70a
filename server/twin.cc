// `muster twin`: the twins of a server.

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/model/json.h"
#include "engine/schedule/clock.h"
#include "server/caret.h"
#include "server/command.h"
#include "server/exit_code.h"
#include "server/files.h"
#include "server/flags.h"
#include "server/interrupt.h"
#include "server/progress.h"
#include "server/service.h"
#include "server/table.h"
#include "server/text.h"
#include "transport/grpc/names.h"
#include "transport/grpc/status.h"

namespace muster {
namespace {

std::vector<Flag> OnlyServiceFlags(ServiceFlags* o) {
  return WithServiceFlags(o, {});
}

// "d-1: version 3, etag AAAAAAAAAAM=".
std::string VersionLine(const v1::Twin& twin) {
  absl::StatusOr<std::string> id = ParseTwinName("name", twin.name());
  return absl::StrCat(id.ok() ? *id : twin.name(), ": version ", twin.version(),
                      ", etag ", twin.etag(), "\n");
}

// A document for people: a member per line.
void AppendIndented(JsonView value, int indent, std::string* out) {
  if (!value.is_object() || value.members().begin() == value.members().end()) {
    JsonWriter(out).Value(value);
    return;
  }
  out->append("{");
  absl::string_view separator = "\n";
  for (const JsonView::Member& member : value.members()) {
    absl::StrAppend(out, separator,
                    std::string(static_cast<size_t>(indent) + 2, ' '));
    JsonWriter(out).String(member.key);
    out->append(": ");
    AppendIndented(member.value, indent + 2, out);
    separator = ",\n";
  }
  absl::StrAppend(out, "\n", std::string(static_cast<size_t>(indent), ' '),
                  "}");
}

// ----------------------------------------------------------- get, update,
// delete

int Get(const Command& command, ServiceFlags& options,
        const Arguments& arguments) {
  if (arguments.positional.empty()) {
    return UsageError(command, "the device is missing");
  }
  Service service(command, options);
  if (const int exit_code = service.Connect(); exit_code != kExitOk) {
    return exit_code;
  }
  absl::StatusOr<v1::Twin> twin =
      service.client().GetTwin(TwinName(arguments.positional[0]));
  if (!twin.ok()) return service.Fail(twin.status());
  std::string out;
  if (service.json()) {
    out = twin->document();
  } else {
    absl::StatusOr<Json> document = ParseJson(twin->document());
    if (!document.ok()) return service.Fail(document.status());
    AppendIndented(document->view(), 0, &out);
  }
  Print(absl::StrCat(out, "\n"));
  return kExitOk;
}

struct UpdateOptions {
  ServiceFlags service;
  std::string etag;
};

std::vector<Flag> UpdateFlags(UpdateOptions* o) {
  return WithServiceFlags(
      &o->service,
      {{"etag", "ETAG", "only if the twin still has it", &o->etag}});
}

int Update(const Command& command, UpdateOptions& options,
           const Arguments& arguments) {
  if (arguments.positional.size() < 2) {
    return UsageError(command, arguments.positional.empty()
                                   ? "the device is missing"
                                   : "the patch is missing");
  }
  const std::string& patch = arguments.positional[1];
  if (absl::Status s = ParseJson(patch).status(); !s.ok()) {
    return UsageError(command, absl::StrCat("the patch: ", s.message()));
  }
  Service service(command, options.service);
  if (const int exit_code = service.Connect(); exit_code != kExitOk) {
    return exit_code;
  }
  v1::UpdateTwinRequest request;
  request.mutable_twin()->set_name(TwinName(arguments.positional[0]));
  request.mutable_twin()->set_etag(options.etag);
  request.set_merge_patch(patch);
  absl::StatusOr<v1::Twin> twin = service.client().UpdateTwin(request);
  if (!twin.ok()) return service.Fail(twin.status());
  Print(service.json() ? absl::StrCat(twin->document(), "\n")
                       : VersionLine(*twin));
  return kExitOk;
}

int Delete(const Command& command, ServiceFlags& options,
           const Arguments& arguments) {
  if (arguments.positional.empty()) {
    return UsageError(command, "the device is missing");
  }
  Service service(command, options);
  if (const int exit_code = service.Connect(); exit_code != kExitOk) {
    return exit_code;
  }
  const std::string& id = arguments.positional[0];
  absl::Status status = service.client().DeleteTwin(TwinName(id));
  if (!status.ok()) return service.Fail(status);
  std::string out;
  if (service.json()) {
    JsonWriter json(&out);
    json.BeginObject().Key("deviceId").String(id);
    json.Key("deleted").Bool(true).EndObject();
    out.push_back('\n');
  } else {
    out = absl::StrCat(id, ": deleted\n");
  }
  Print(out);
  return kExitOk;
}

// ----------------------------------------------------------------------- query

// Rows of answers as a table: a column per member of the first rows.
class RowTable {
 public:
  static constexpr size_t kRowsPerTable = 1000;
  static constexpr int kCellColumnsMax = 40;

  absl::Status Add(absl::string_view row) {
    absl::StatusOr<Json> json = ParseJson(row);
    if (!json.ok()) return json.status();
    rows_.push_back(*std::move(json));
    if (rows_.size() == kRowsPerTable) Flush();
    return absl::OkStatus();
  }

  // A member that has no column, because only later rows have it; "" if there
  // is none.
  const std::string& other() const { return other_; }

  void Flush() {
    const bool first = names_.empty();
    if (first) {
      ChooseColumns();
    } else {
      LookForOthers();
    }
    if (rows_.empty()) return;
    Table table(names_);
    for (const Json& row : rows_) {
      std::vector<std::string> cells;
      for (const std::string& name : names_) {
        cells.push_back(Cell(row.view().Find(name)));
      }
      table.AddRow(std::move(cells));
    }
    Print(table.Text(first));
    rows_.clear();
  }

 private:
  void ChooseColumns() {
    for (const Json& row : rows_) {
      for (const JsonView::Member& member : row.view().members()) {
        if (std::find(names_.begin(), names_.end(), member.key) ==
            names_.end()) {
          names_.emplace_back(member.key);
        }
      }
    }
    // Whoever it is about comes first.
    std::stable_partition(
        names_.begin(), names_.end(),
        [](const std::string& name) { return name == "deviceId"; });
  }

  void LookForOthers() {
    for (const Json& row : rows_) {
      for (const JsonView::Member& member : row.view().members()) {
        if (!other_.empty()) return;
        if (std::find(names_.begin(), names_.end(), member.key) ==
            names_.end()) {
          other_ = std::string(member.key);
        }
      }
    }
  }

  static std::string Cell(JsonView value) {
    if (value.is_undefined()) return "";
    if (value.is_string()) return std::string(value.string_value());
    std::string text;
    JsonWriter(&text).Value(value);
    return CutToColumns(text, kCellColumnsMax);
  }

  std::vector<std::string> names_;
  std::string other_;
  std::vector<Json> rows_;
};

struct QueryOptions {
  ServiceFlags service;
  int64_t rows = 0;
};

std::vector<Flag> QueryFlags(QueryOptions* o) {
  return WithServiceFlags(&o->service, {{"rows", "N", "rows at most (all)",
                                         IntFlag{&o->rows, 1, INT64_MAX}}});
}

int Query(const Command& command, QueryOptions& options,
          const Arguments& arguments) {
  if (arguments.positional.size() != 1) {
    return UsageError(
        command, arguments.positional.empty()
                     ? "the statement is missing: \"SELECT ... FROM devices\""
                     : "there is more than one statement; put it in quotes");
  }
  const std::string& statement = arguments.positional[0];
  Service service(command, options.service);
  if (const int exit_code = service.Connect(); exit_code != kExitOk) {
    return exit_code;
  }
  RowTable table;
  int64_t rows = 0;
  absl::Status status = absl::OkStatus();
  absl::Status answered =
      service.client().StreamTwins(statement, [&](absl::string_view row) {
        if (service.json()) {
          Print(absl::StrCat(row, "\n"));
        } else {
          status = table.Add(row);
        }
        ++rows;
        return status.ok() && !OutputLost() && rows != options.rows;
      });
  if (!answered.ok()) return service.Fail(answered, statement);
  if (!status.ok()) return service.Fail(status);
  if (!service.json()) table.Flush();
  if (!table.other().empty()) {
    PrintError(absl::StrCat("(columns are those of the first ",
                            WithCommas(RowTable::kRowsPerTable),
                            " rows; later ones have others, \"", table.other(),
                            "\" for one: --output json shows all)\n"));
  }
  return kExitOk;
}

// ---------------------------------------------------------------------- import

struct ImportOptions {
  ServiceFlags service;
  bool quiet = false;
};

std::vector<Flag> ImportFlags(ImportOptions* o) {
  return WithServiceFlags(&o->service,
                          {{"quiet", "", "no progress", &o->quiet}});
}

// Documents of a file, one per line; empty lines are passed over.  Ctrl-C ends
// it, also while the other end of a pipe says nothing.
class DocumentReader {
 public:
  // Closes `fd` at its end.
  DocumentReader(int fd, Interrupt& interrupt)
      : fd_(fd), interrupt_(interrupt) {}
  ~DocumentReader() { close(fd_); }
  DocumentReader(const DocumentReader&) = delete;
  DocumentReader& operator=(const DocumentReader&) = delete;

  bool Next(std::string* document) {
    while (NextLine(document)) {
      bytes_ += static_cast<int64_t>(document->size()) + 1;
      if (!absl::StripAsciiWhitespace(*document).empty()) {
        ++count_;
        return true;
      }
      skipped_.push_back(count_);
    }
    return false;
  }

  int64_t bytes() const { return bytes_; }
  bool failed() const { return failed_; }

  // The line, from 1 on, of the document at `index`, from 0 on.
  int64_t LineOf(int64_t index) const {
    return index + 1 +
           (std::upper_bound(skipped_.begin(), skipped_.end(), index) -
            skipped_.begin());
  }

 private:
  static constexpr size_t kChunkBytes = size_t{256} << 10;

  bool NextLine(std::string* line) {
    line->clear();
    for (;;) {
      const size_t end = chunk_.find('\n', next_);
      if (end != std::string::npos) {
        line->append(chunk_, next_, end - next_);
        next_ = end + 1;
        return true;
      }
      line->append(chunk_, next_);
      if (ReadChunk()) continue;
      // The last line needs no line feed; a half one is none.
      return !line->empty() && !failed_ && !interrupt_.pending();
    }
  }

  bool ReadChunk() {
    chunk_.resize(kChunkBytes);
    next_ = 0;
    ssize_t size = 0;
    do {
      if (!interrupt_.AwaitReadable(fd_)) break;
      size = read(fd_, chunk_.data(), chunk_.size());
    } while (size < 0 && (errno == EINTR || errno == EAGAIN));
    failed_ = size < 0;
    chunk_.resize(static_cast<size_t>(std::max<ssize_t>(size, 0)));
    return size > 0;
  }

  const int fd_;
  Interrupt& interrupt_;
  std::string chunk_;
  size_t next_ = 0;  // In the chunk: what has not been given yet.
  bool failed_ = false;
  int64_t bytes_ = 0;
  int64_t count_ = 0;
  std::vector<int64_t> skipped_;  // How many documents came before.
};

std::string ImportJson(const v1::ImportTwinsResponse& response,
                       const DocumentReader& reader, absl::Duration elapsed) {
  std::string out;
  JsonWriter json(&out);
  json.BeginObject().Key("imported").Int(response.imported_count());
  json.Key("failed").Int(response.failed_count());
  json.Key("failures").BeginArray();
  for (const v1::ImportTwinsResponse::Failure& failure : response.failures()) {
    json.BeginObject().Key("line").Int(reader.LineOf(failure.index()));
    json.Key("error").String(DescribeError(FromRpcStatus(failure.error())));
    json.EndObject();
  }
  json.EndArray();
  json.Key("elapsedSeconds").Double(absl::ToDoubleSeconds(elapsed));
  json.EndObject();
  out.push_back('\n');
  return out;
}

std::string ImportText(const v1::ImportTwinsResponse& response,
                       const DocumentReader& reader, absl::Duration elapsed) {
  std::string out =
      absl::StrCat("imported ", Counted(response.imported_count(), "twin"),
                   " in ", ShortDuration(elapsed), "\n");
  if (response.failed_count() == 0) return out;
  absl::StrAppend(&out, WithCommas(response.failed_count()), " not taken:\n");
  for (const v1::ImportTwinsResponse::Failure& failure : response.failures()) {
    absl::StrAppend(&out, "  line ", reader.LineOf(failure.index()), ": ",
                    DescribeError(FromRpcStatus(failure.error())), "\n");
  }
  if (response.failed_count() > response.failures_size()) {
    absl::StrAppend(&out, "  ...\n");
  }
  return out;
}

int Import(const Command& command, ImportOptions& options,
           const Arguments& arguments) {
  if (arguments.positional.empty()) {
    return UsageError(command, "the file is missing; - is standard input");
  }
  const std::string& path = arguments.positional[0];
  int64_t size = -1;
  if (path != "-") {
    if (absl::Status s = CheckReadable(path); !s.ok()) {
      Complain(command, s.message());
      return kExitUsage;
    }
    size = FileSize(path);
  }
  Service service(command, options.service);
  if (const int exit_code = service.Connect(); exit_code != kExitOk) {
    return exit_code;
  }
  const int fd =
      path == "-" ? STDIN_FILENO : open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    Complain(command, FileError(path, errno).message());
    return kExitUsage;
  }
  Clock& clock = Clock::Real();
  Interrupt& interrupt = Interrupt::Install();
  ProgressLine line(ProgressLine::ModeForStderr(options.quiet));
  RateMeter meter;
  DocumentReader reader(fd, interrupt);
  const absl::Duration begin = clock.Monotonic();
  absl::StatusOr<v1::ImportTwinsResponse> response =
      service.client().ImportTwins(
          [&](std::string* document) {
            return !interrupt.pending() && reader.Next(document);
          },
          [&](int64_t sent) {
            const absl::Duration now = clock.Monotonic();
            Progress progress;
            progress.label = "importing";
            progress.done = reader.bytes();
            progress.total = size;
            progress.figures = Counted(sent, "twin");
            progress.rate = meter.Add(now, sent);
            // The rate is of twins, the bar of bytes.
            const double seconds = absl::ToDoubleSeconds(now - begin);
            if (size > 0 && reader.bytes() > 0 && seconds > 1) {
              progress.left = absl::StrCat(
                  ClockDuration(absl::Seconds(
                      seconds * static_cast<double>(size - reader.bytes()) /
                      static_cast<double>(reader.bytes()))),
                  " left");
            } else {
              progress.left = " ";
            }
            line.Show(now, progress);
          });
  line.Clear();
  if (!response.ok()) {
    const int exit_code = service.Fail(response.status());
    PrintError("(some twins may be there; the same import may be repeated)\n");
    return exit_code;
  }
  const absl::Duration elapsed = clock.Monotonic() - begin;
  Print(service.json() ? ImportJson(*response, reader, elapsed)
                       : ImportText(*response, reader, elapsed));
  if (reader.failed()) {
    Complain(command, absl::StrCat(path, ": cannot be read to its end"));
    return kExitFailed;
  }
  if (interrupt.pending()) {
    Complain(command, "interrupted; the same import may be repeated");
    return kExitInterrupted;
  }
  return response->failed_count() == 0 ? kExitOk : kExitFailed;
}

}  // namespace

const Command kTwinGroup = {.name = "twin",
                            .summary = "the twins of a server",
                            .about = "Exit codes: see muster help.\n",
                            .example = "  muster twin get dev-00000042\n"};

const Command kTwinGetCommand = {
    .name = "twin get",
    .summary = "shows a twin",
    .arguments = "DEVICE [FLAGS]",
    .about = "All of it, as JSON.\n",
    .example = "  muster twin get dev-00000042\n",
    .words_max = 1,
    .invoke = MakeInvocation<ServiceFlags, OnlyServiceFlags, Get>};

const Command kTwinUpdateCommand = {
    .name = "twin update",
    .summary = "merges a patch into a twin",
    .arguments = "DEVICE PATCH [FLAGS]",
    .about =
        "PATCH is JSON: {\"tags\": ..., \"properties\": {\"desired\": ...}}; a "
        "member that\n"
        "is null is removed.\n",
    .example =
        "  muster twin update dev-00000042 '{\"tags\": {\"campaign\": "
        "\"spring\"}}'\n",
    .words_max = 2,
    .invoke = MakeInvocation<UpdateOptions, UpdateFlags, Update>};

const Command kTwinQueryCommand = {
    .name = "twin query",
    .summary = "asks which devices meet a condition",
    .arguments = "\"SELECT ... FROM devices ...\" [FLAGS]",
    .about =
        "Answers a statement of the hub's query language, as muster query does "
        "for a\n"
        "file. With --output json one row per line, whole; in a table long "
        "values are\n"
        "cut.\n",
    .example =
        "  muster twin query \"SELECT deviceId FROM devices\n"
        "      WHERE connectionState = 'Disconnected'\"\n",
    .words_max = 1000,
    .invoke = MakeInvocation<QueryOptions, QueryFlags, Query>};

const Command kTwinImportCommand = {
    .name = "twin import",
    .summary = "adds twins from a file, or puts them in the place of others",
    .arguments = "FILE [FLAGS]",
    .about =
        "FILE has one JSON document per line; - is standard input. What is "
        "wrong with a\n"
        "line is said, and concerns no other. Repeating an import is harmless. "
        "Exit\n"
        "codes: 0 all were taken, 1 some were not, 2 wrong arguments, 3 "
        "interrupted, 4 no\n"
        "server.\n",
    .example = "  muster fleet --devices 100000 | muster twin import -\n",
    .words_max = 1,
    .invoke = MakeInvocation<ImportOptions, ImportFlags, Import>};

const Command kTwinDeleteCommand = {
    .name = "twin delete",
    .summary = "removes a twin",
    .arguments = "DEVICE [FLAGS]",
    .about = "Its device is disconnected.\n",
    .example = "  muster twin delete dev-00000042\n",
    .words_max = 1,
    .invoke = MakeInvocation<ServiceFlags, OnlyServiceFlags, Delete>};

}  // namespace muster
