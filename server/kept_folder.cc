#include "server/kept_folder.h"

#include <xxhash.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/journal/rocksdb/folder.h"
#include "engine/model/check.h"
#include "engine/model/json.h"
#include "server/files.h"

namespace muster {
namespace {

// The file: a line with format, version and the checksum of all that follows; a
// line of JSON, {"fleet":...,"bytes":...}; a line for each device, "+" and its
// id if it was connected, else "-" and its id.
constexpr absl::string_view kFormatName = "muster devices ";
constexpr int kFormatVersion = 1;

std::string Checksum(absl::string_view bytes) {
  return absl::StrCat(
      absl::Hex(XXH3_64bits(bytes.data(), bytes.size()), absl::kZeroPad16));
}

std::string FileText(const KeptFleet& fleet) {
  std::string text;
  JsonWriter json(&text);
  json.BeginObject().Key("fleet").String(fleet.name);
  json.Key("bytes").Int(fleet.bytes).EndObject();
  text += '\n';
  for (absl::string_view id : fleet.connected) {
    absl::StrAppend(&text, "+", id, "\n");
  }
  for (absl::string_view id : fleet.disconnected) {
    absl::StrAppend(&text, "-", id, "\n");
  }
  return absl::StrCat(kFormatName, kFormatVersion, " ", Checksum(text), "\n",
                      text);
}

// Cuts the first line off, without its end.
absl::string_view TakeLine(absl::string_view* text) {
  const absl::string_view line = text->substr(0, text->find('\n'));
  text->remove_prefix(std::min(text->size(), line.size() + 1));
  return line;
}

// Whether nothing was ever written.
absl::StatusOr<bool> IsEmpty(const Journal& journal) {
  bool empty = true;
  const auto stop = [&empty] {
    empty = false;
    return absl::CancelledError();
  };
  for (int i = 0; i < journal.partition_count() && empty; ++i) {
    absl::StatusOr<uint64_t> next = journal.ReadSnapshot(
        i, [&](absl::string_view) { return absl::Status(stop()); });
    if (empty && !next.ok()) return next.status();
    if (!empty) break;
    absl::Status status = journal.Read(
        i, *next,
        [&](uint64_t, absl::string_view) { return absl::Status(stop()); });
    if (empty && !status.ok()) return status;
  }
  return empty;
}

std::string DevicesPath(const std::string& directory) {
  return directory + "/devices";
}

}  // namespace

KeptFolder::KeptFolder(const std::string& directory)
    : path_(DevicesPath(directory)) {}

bool KeptFolder::Exists(const std::string& directory) {
  return journal_files::Exists(DevicesPath(directory));
}

absl::StatusOr<std::unique_ptr<KeptFolder>> KeptFolder::Open(
    const std::string& directory, JournalSync sync) {
  RocksDbJournalOptions options;
  options.directory = directory;
  options.sync = sync;
  absl::StatusOr<std::unique_ptr<RocksDbJournal>> journal =
      RocksDbJournal::Open(options);
  if (!journal.ok()) {
    const absl::Status& status = journal.status();
    if (absl::StrContains(status.message(), directory)) return status;
    return absl::Status(status.code(),
                        absl::StrCat(directory, ": ", status.message()));
  }
  std::unique_ptr<KeptFolder> folder(new KeptFolder(directory));
  folder->journal_ = *std::move(journal);
  if (Exists(directory)) {
    if (absl::Status s = folder->ReadDevices(); !s.ok()) return s;
    return folder;
  }
  absl::StatusOr<bool> empty = IsEmpty(*folder->journal_);
  if (!empty.ok()) return empty.status();
  if (!*empty) {
    return absl::FailedPreconditionError(absl::StrCat(
        directory,
        " was written by another program's engine: there is no list of "
        "simulated devices in it"));
  }
  if (absl::Status s = journal_files::Replace(folder->path_, FileText({}));
      !s.ok()) {
    return s;
  }
  return folder;
}

absl::Status KeptFolder::ReadDevices() {
  const auto damaged = [this](absl::string_view what) {
    return absl::DataLossError(absl::StrCat(path_, " is damaged: ", what));
  };
  absl::StatusOr<std::string> bytes = journal_files::Read(
      path_, static_cast<size_t>(std::max<int64_t>(0, FileSize(path_))));
  if (!bytes.ok()) return bytes.status();
  text_ = *std::move(bytes);
  absl::string_view rest = text_;
  absl::string_view line = TakeLine(&rest);
  if (!absl::ConsumePrefix(&line, kFormatName)) {
    return damaged("it does not say what it is");
  }
  const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
  int version = 0;
  if (absl::SimpleAtoi(words[0], &version) && version > kFormatVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat(path_, " was written by a newer version: its format is ",
                     version, ", and this version reads ", kFormatVersion));
  }
  if (version != kFormatVersion || words.size() != 2 ||
      words[1] != Checksum(rest)) {
    return damaged("its checksum is another one");
  }
  // From here on it is as it was written.
  absl::StatusOr<Json> header = ParseJson(TakeLine(&rest));
  if (!header.ok()) return damaged(header.status().message());
  fleet_.name = std::string(header->view().Find("fleet").string_value());
  fleet_.bytes = header->view().Find("bytes").int_value();
  while (!rest.empty()) {
    line = TakeLine(&rest);
    (absl::ConsumePrefix(&line, "+") ? fleet_.connected : fleet_.disconnected)
        .push_back(absl::StripPrefix(line, "-"));
  }
  return absl::OkStatus();
}

void KeptFolder::DropIds() {
  fleet_.connected = {};
  fleet_.disconnected = {};
  text_ = {};
}

absl::Status KeptFolder::KeepFleet(const KeptFleet& fleet) {
  MUSTER_CHECK(!fleet.name.empty());
  absl::Status status = journal_files::Replace(path_, FileText(fleet));
  if (!status.ok()) return status;
  DropIds();
  fleet_.name = fleet.name;
  fleet_.bytes = fleet.bytes;
  return absl::OkStatus();
}

}  // namespace muster
