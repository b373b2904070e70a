#include "engine/twin/json_lines.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/json.h"
#include "engine/twin/device_hash.h"

namespace muster {
namespace {

// Twins put in under one lock of a partition's id table: a few hundred
// microseconds for whoever waits.
constexpr size_t kCommitBatch = 1024;

constexpr absl::string_view kByteOrderMark = "\xEF\xBB\xBF";

// The size of the first line of `text`, its end included.
size_t LineSize(absl::string_view text) {
  const void* const end = std::memchr(text.data(), '\n', text.size());
  return end == nullptr ? text.size()
                        : static_cast<const char*>(end) - text.data() + 1;
}

// Without JSON's white space, and so without the line's end.
absl::string_view WithoutSpaceAround(absl::string_view text) {
  constexpr absl::string_view kSpace = " \t\r\n";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == absl::string_view::npos) return absl::string_view();
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

// The parser counts lines of its own; here there is one, with many columns.
absl::Status WithColumn(const absl::Status& status) {
  constexpr absl::string_view kPosition = " at 1:";
  const absl::string_view message = status.message();
  const size_t at = message.find(kPosition);
  if (at == absl::string_view::npos) return status;
  return MakeError(ErrorCodeOf(status),
                   absl::StrCat(message.substr(0, at), " at column ",
                                message.substr(at + kPosition.size())));
}

}  // namespace

std::vector<LineChunk> CutLines(absl::string_view text, size_t chunk_size) {
  MUSTER_CHECK(chunk_size >= 1);
  std::vector<LineChunk> chunks;
  int64_t line = 1;
  while (!text.empty()) {
    size_t size = std::min(chunk_size, text.size());
    size += LineSize(text.substr(size - 1)) - 1;
    const absl::string_view lines = text.substr(0, size);
    chunks.push_back({.lines = lines, .first_line_number = line});
    line += std::count(lines.begin(), lines.end(), '\n');
    text.remove_prefix(size);
  }
  return chunks;
}

JsonLinesLoader::JsonLinesLoader(TwinIndex* index, const Options& options)
    : index_(*index),
      options_(options),
      pending_(static_cast<size_t>(index->partition_count())) {}

void JsonLinesLoader::Refuse(int64_t line, const absl::Status& status) {
  if (!options_.skip_bad_lines) {
    int64_t lowest = bad_line_.load(std::memory_order_relaxed);
    // Relaxed: a stale value only lets others do work for nothing.
    while (line < lowest && !bad_line_.compare_exchange_weak(
                                lowest, line, std::memory_order_relaxed)) {
    }
  }
  absl::MutexLock lock(&mutex_);
  ++refused_count_;
  refused_.emplace(line,
                   PrefixError(absl::StrCat("line ", line, ": "), status));
  const size_t kept = std::max<size_t>(options_.messages_max, 1);
  if (refused_.size() > kept) refused_.erase(std::prev(refused_.end()));
}

void JsonLinesLoader::Add(absl::string_view lines, int64_t first_line_number) {
  if (first_line_number == 1) absl::ConsumePrefix(&lines, kByteOrderMark);
  std::vector<std::vector<Pending>> prepared(
      static_cast<size_t>(index_.partition_count()));
  JsonParser parser;
  for (int64_t number = first_line_number; !lines.empty(); ++number) {
    if (number > bad_line_.load(std::memory_order_relaxed)) break;
    const size_t size = LineSize(lines);
    const absl::string_view line = WithoutSpaceAround(lines.substr(0, size));
    lines.remove_prefix(size);
    if (line.empty()) continue;
    if (line.size() > kJsonLineSizeMax) {
      Refuse(number, MakeError(ErrorCode::kMessageTooLarge,
                               absl::StrCat("the line has ", line.size(),
                                            " bytes; at most ",
                                            kJsonLineSizeMax, " are allowed")));
      continue;
    }
    absl::StatusOr<Json> document = parser.Parse(line);
    if (!document.ok()) {
      Refuse(number, WithColumn(document.status()));
      continue;
    }
    absl::StatusOr<ParsedTwin> twin = ParseTwin(document->view());
    if (!twin.ok()) {
      Refuse(number, twin.status());
      continue;
    }
    const uint64_t hash = DeviceHash(twin->device_id);
    prepared[PartitionOfHash(hash, index_.partition_count())].push_back(
        {.hash = hash,
         .line = number,
         .device_id = std::string(twin->device_id),
         .document = *std::move(document)});
  }
  absl::MutexLock lock(&mutex_);
  MUSTER_CHECK(!committed_);
  for (size_t i = 0; i < prepared.size(); ++i) {
    pending_[i].insert(pending_[i].end(),
                       std::make_move_iterator(prepared[i].begin()),
                       std::make_move_iterator(prepared[i].end()));
  }
}

void JsonLinesLoader::RefuseRepeated(std::vector<Pending>* pending) {
  const auto by_line = [](const Pending& a, const Pending& b) {
    return a.line < b.line;
  };
  if (!std::is_sorted(pending->begin(), pending->end(), by_line)) {
    std::sort(pending->begin(), pending->end(), by_line);
  }
  absl::flat_hash_map<absl::string_view, int64_t> lines;
  lines.reserve(pending->size());
  std::vector<size_t> repeated;
  for (size_t i = 0; i < pending->size(); ++i) {
    const Pending& p = (*pending)[i];
    const absl::string_view id = p.device_id;
    const auto [first, is_new] = lines.emplace(id, p.line);
    if (is_new) continue;
    Refuse(p.line,
           MakeError(ErrorCode::kArgumentInvalid,
                     absl::StrCat("deviceId: \"", id, "\" stands on line ",
                                  first->second, " already")));
    repeated.push_back(i);
  }
  lines.clear();
  if (repeated.empty()) return;
  // Moving the others together keeps their order.
  size_t kept = repeated[0];
  size_t next = 0;
  for (size_t i = repeated[0]; i < pending->size(); ++i) {
    if (next < repeated.size() && repeated[next] == i) {
      ++next;
    } else {
      (*pending)[kept++] = std::move((*pending)[i]);
    }
  }
  pending->resize(kept);
}

absl::StatusOr<JsonLinesLoader::Loaded> JsonLinesLoader::Commit(
    absl::Time now) {
  std::vector<std::vector<Pending>> pending;
  {
    absl::MutexLock lock(&mutex_);
    MUSTER_CHECK(!committed_);
    committed_ = true;
    pending = std::move(pending_);
  }
  for (std::vector<Pending>& partition : pending) RefuseRepeated(&partition);

  Loaded loaded;
  {
    absl::MutexLock lock(&mutex_);
    if (!options_.skip_bad_lines && !refused_.empty()) {
      return refused_.begin()->second;
    }
    loaded.skipped_count = refused_count_;
    for (const auto& [line, status] : refused_) {
      if (loaded.messages.size() == options_.messages_max) break;
      loaded.messages.emplace_back(status.message());
    }
  }

  // How many twins are new, so that they all have room before the first goes
  // in.  Others may add or erase some of them meanwhile: settled at the end.
  int64_t expected = 0;
  for (size_t i = 0; i < pending.size(); ++i) {
    const TwinIndex::Partition& partition = index_.partitions_[i];
    absl::ReaderMutexLock lock(&partition.mutex);
    expected += static_cast<int64_t>(pending[i].size());
    if (partition.ids.empty()) continue;
    for (const Pending& p : pending[i]) {
      expected -= partition.Find(p.hash, p.device_id) != nullptr;
    }
  }
  absl::Status status = index_.Reserve(expected);
  if (!status.ok()) return status;

  int64_t added = 0;
  for (size_t i = 0; i < pending.size(); ++i) {
    TwinIndex::Partition& partition = index_.partitions_[i];
    std::vector<Pending> twins = std::move(pending[i]);
    for (size_t first = 0; first < twins.size(); first += kCommitBatch) {
      const size_t last = std::min(first + kCommitBatch, twins.size());
      absl::MutexLock lock(&partition.mutex);
      if (first == 0) {
        partition.ids.reserve(partition.ids.size() + twins.size());
      }
      const size_t before = partition.ids.size();
      for (size_t j = first; j < last; ++j) {
        index_.Put(partition, twins[j].hash,
                   *ParseTwin(twins[j].document.view()), now);
      }
      added += static_cast<int64_t>(partition.ids.size() - before);
      loaded.twin_count += static_cast<int64_t>(last - first);
    }
  }
  index_.size_.fetch_add(added - expected, std::memory_order_relaxed);
  return loaded;
}

}  // namespace muster
