#include "engine/twin/json_lines.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/json.h"
#include "engine/twin/device_hash.h"
#include "engine/twin/parsed_twin.h"

namespace muster {
namespace {

// Documents that are parsed before they are put into shards: so many that the
// lock of a partition is taken for several at a time, so few that they are
// still in the processor's cache.
constexpr size_t kStageBatch = 1024;
constexpr size_t kArenaSize = size_t{1} << 20;

constexpr absl::string_view kByteOrderMark = "\xEF\xBB\xBF";

// The size of the first line of `text`, its end included.
size_t LineSize(absl::string_view text) {
  const void* const end = std::memchr(text.data(), '\n', text.size());
  return end == nullptr ? text.size()
                        : static_cast<const char*>(end) - text.data() + 1;
}

// std::count() of line ends, with the processor's wide instructions.
int64_t CountLines(absl::string_view text) {
  constexpr size_t kBlock = 64;
  int64_t count = 0;
  const char* p = text.data();
  size_t left = text.size();
  for (; left >= kBlock; p += kBlock, left -= kBlock) {
    uint8_t in_block = 0;
    for (size_t i = 0; i < kBlock; ++i) {
      in_block = static_cast<uint8_t>(in_block + (p[i] == '\n'));
    }
    count += in_block;
  }
  return count + std::count(p, p + left, '\n');
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
    line += CountLines(lines);
    text.remove_prefix(size);
  }
  return chunks;
}

JsonLinesLoader::JsonLinesLoader(TwinIndex* index, const Options& options)
    : index_(*index),
      options_(options),
      staged_(std::make_unique<Staged[]>(
          static_cast<size_t>(index->partition_count()))) {}

void JsonLinesLoader::Refuse(int64_t line, Refusal refusal) {
  if (!options_.skip_bad_lines) {
    int64_t lowest = bad_line_.load(std::memory_order_relaxed);
    // Relaxed: a stale value only lets others do work for nothing.
    while (line < lowest && !bad_line_.compare_exchange_weak(
                                lowest, line, std::memory_order_relaxed)) {
    }
  }
  absl::MutexLock lock(&mutex_);
  ++refused_count_;
  refused_.emplace(line, std::move(refusal));
  const size_t kept = std::max<size_t>(options_.messages_max, 1);
  if (refused_.size() > kept) refused_.erase(std::prev(refused_.end()));
}

void JsonLinesLoader::Add(absl::string_view lines, int64_t first_line_number) {
  {
    absl::MutexLock lock(&mutex_);
    MUSTER_CHECK(!committed_);
  }
  if (first_line_number == 1) absl::ConsumePrefix(&lines, kByteOrderMark);
  std::vector<std::vector<Parsed>> parsed(
      static_cast<size_t>(index_.partition_count()));
  // Documents that twins are views into: never moves.
  const std::unique_ptr<char[]> arena(new char[kArenaSize]);
  Json large;  // One that has no room in it.
  size_t used = 0;
  size_t parsed_count = 0;
  const auto stage = [&] {
    for (size_t i = 0; i < parsed.size(); ++i) {
      if (!parsed[i].empty()) Stage(staged_[i], parsed[i]);
      parsed[i].clear();
    }
    used = 0;
    parsed_count = 0;
  };
  JsonParser parser;
  for (int64_t number = first_line_number; !lines.empty(); ++number) {
    if (number > bad_line_.load(std::memory_order_relaxed)) break;
    const size_t size = LineSize(lines);
    const absl::string_view line = WithoutSpaceAround(lines.substr(0, size));
    lines.remove_prefix(size);
    if (line.empty()) continue;
    if (line.size() > kJsonLineSizeMax) {
      Refuse(number, {MakeError(ErrorCode::kMessageTooLarge,
                                absl::StrCat("the line has ", line.size(),
                                             " bytes; at most ",
                                             kJsonLineSizeMax, " are allowed")),
                      ""});
      continue;
    }
    const absl::StatusOr<JsonView> document = parser.ParseView(line);
    if (!document.ok()) {
      Refuse(number, {WithColumn(document.status()), ""});
      continue;
    }
    const absl::string_view bytes = document->bytes();
    JsonView kept;
    const bool fits = bytes.size() <= kArenaSize - used;
    if (fits) {
      std::memcpy(arena.get() + used, bytes.data(), bytes.size());
      kept = JsonView::FromEncoded(arena.get() + used);
    } else {
      large = Json(*document);
      kept = large.view();
    }
    absl::StatusOr<ParsedTwin> twin = ParseTwin(kept);
    if (!twin.ok()) {
      Refuse(number, {twin.status(), ""});
      continue;
    }
    if (fits) used += bytes.size();
    const uint64_t hash = DeviceHash(twin->device_id);
    parsed[static_cast<size_t>(PartitionOfHash(hash, index_.partition_count()))]
        .push_back({.hash = hash, .line = number, .twin = *std::move(twin)});
    if (++parsed_count == kStageBatch || !fits) stage();
  }
  stage();
}

void JsonLinesLoader::Stage(Staged& staged, const std::vector<Parsed>& twins) {
  absl::MutexLock lock(&staged.mutex);
  for (const Parsed& parsed : twins) {
    const ParsedTwin& twin = parsed.twin;
    const uint32_t hash = static_cast<uint32_t>(parsed.hash);
    const std::optional<uint32_t> before =
        staged.ids.Find(hash, [&](uint32_t place) {
          staged.mutex.AssertHeld();
          return staged.shards[place >> TwinIndex::kRowBits]->IdForTable(
                     TwinIndex::Partition::RowOf(place)) == twin.device_id;
        });
    if (before.has_value()) {
      // Of two lines with one id the later is the bad one, in whatever order
      // they come.
      const uint32_t number = *before >> TwinIndex::kRowBits;
      const int row = TwinIndex::Partition::RowOf(*before);
      const int64_t line =
          staged.origins[number][static_cast<size_t>(row)].line;
      Refuse(std::max(line, parsed.line),
             {absl::OkStatus(), std::string(twin.device_id)});
      if (line < parsed.line) continue;
      absl::MutexLock shard_lock(&staged.shards[number]->mutex);
      staged.shards[number]->Erase(row);
      staged.shards[number]->RetainCutsFrom(staged.shards[number]->sequence());
      staged.ids.Erase(hash, *before);
      --staged.twin_count;
    }
    // The shard that the last one went to, or the one that one was taken from.
    uint32_t number = before.has_value()
                          ? *before >> TwinIndex::kRowBits
                          : static_cast<uint32_t>(staged.shards.size()) - 1;
    if (staged.shards.empty()) number = 0;
    for (; number < staged.shards.size(); ++number) {
      absl::ReaderMutexLock shard_lock(&staged.shards[number]->mutex);
      if (staged.shards[number]->has_room()) break;
    }
    if (number == staged.shards.size()) {
      staged.shards.push_back(std::make_unique<Shard>());
      staged.origins.emplace_back();
      staged.compacted.push_back(false);
    }
    Shard& shard = *staged.shards[number];
    absl::MutexLock shard_lock(&shard.mutex);
    const int row = shard.Insert(twin, absl::UnixEpoch());
    // Once: a repeated line may take a twin out of a full shard again.
    if (!shard.has_room() && !staged.compacted[number]) {
      staged.compacted[number] = true;
      shard.Compact();
    }
    std::vector<Origin>& origins = staged.origins[number];
    origins.resize(std::max(origins.size(), static_cast<size_t>(row) + 1));
    origins[static_cast<size_t>(row)] = {
        .line = parsed.line,
        .missing = static_cast<uint8_t>(
            (twin.etag.has_value() ? 0 : kEtag) |
            (twin.version.has_value() ? 0 : kVersion) |
            (twin.desired_version.has_value() ? 0 : kDesiredVersion) |
            (twin.reported_version.has_value() ? 0 : kReportedVersion) |
            (twin.connected.has_value() ? 0 : kConnection))};
    staged.ids.Insert(hash, TwinIndex::Partition::PlaceOf(number, row));
    ++staged.twin_count;
  }
}

int64_t JsonLinesLoader::CountNew(int partition) {
  Staged& staged = staged_[partition];
  absl::MutexLock staged_lock(&staged.mutex);
  const TwinIndex::Partition& real = index_.partitions_[partition];
  absl::ReaderMutexLock lock(&real.mutex);
  int64_t count = staged.twin_count;
  if (real.ids.size() == 0) return count;
  for (const std::unique_ptr<Shard>& shard : staged.shards) {
    absl::ReaderMutexLock shard_lock(&shard->mutex);
    for (int row = 0; row < shard->row_count(); ++row) {
      const absl::string_view id = shard->IdForTable(row);
      if (!id.empty() && real.Find(DeviceHash(id), id).has_value()) --count;
    }
  }
  return count;
}

int64_t JsonLinesLoader::CommitPartition(int partition, absl::Time now) {
  Staged& staged = staged_[partition];
  absl::MutexLock staged_lock(&staged.mutex);
  staged.ids = IdTable();
  int64_t added = 0;
  for (size_t i = 0; i < staged.shards.size(); ++i) {
    std::unique_ptr<Shard> shard = std::move(staged.shards[i]);
    const std::vector<Origin> origins = std::move(staged.origins[i]);
    {
      absl::MutexLock lock(&shard->mutex);
      shard->SetBaseTime(now);
      // A full one was made small when it became full.
      if (shard->has_room()) shard->Compact();
    }
    added += index_.Adopt(
        partition, std::move(shard),
        [&origins](int row, ParsedTwin* twin) {
          const uint8_t missing = origins[static_cast<size_t>(row)].missing;
          if (missing & kEtag) twin->etag.reset();
          if (missing & kVersion) twin->version.reset();
          if (missing & kDesiredVersion) twin->desired_version.reset();
          if (missing & kReportedVersion) twin->reported_version.reset();
          if (missing & kConnection) twin->connected.reset();
        },
        now);
  }
  return added;
}

absl::StatusOr<JsonLinesLoader::Loaded> JsonLinesLoader::Commit(
    absl::Time now) {
  Loaded loaded;
  std::map<int64_t, Refusal> refused;
  {
    absl::MutexLock lock(&mutex_);
    MUSTER_CHECK(!committed_);
    committed_ = true;
    refused = std::move(refused_);
    loaded.skipped_count = refused_count_;
  }
  for (auto& [line, refusal] : refused) {
    if (!refusal.repeated_id.empty()) {
      const uint64_t hash = DeviceHash(refusal.repeated_id);
      Staged& staged = staged_[PartitionOfHash(hash, index_.partition_count())];
      absl::MutexLock staged_lock(&staged.mutex);
      const auto place =
          staged.ids.Find(static_cast<uint32_t>(hash), [&](uint32_t candidate) {
            staged.mutex.AssertHeld();
            return staged.shards[candidate >> TwinIndex::kRowBits]->IdForTable(
                       TwinIndex::Partition::RowOf(candidate)) ==
                   refusal.repeated_id;
          });
      MUSTER_CHECK(place.has_value());
      const Origin& origin =
          staged.origins[*place >> TwinIndex::kRowBits][static_cast<size_t>(
              TwinIndex::Partition::RowOf(*place))];
      refusal.status = MakeError(
          ErrorCode::kArgumentInvalid,
          absl::StrCat("deviceId: \"", refusal.repeated_id,
                       "\" stands on line ", origin.line, " already"));
    }
    refusal.status =
        PrefixError(absl::StrCat("line ", line, ": "), refusal.status);
  }
  if (!options_.skip_bad_lines && !refused.empty()) {
    return refused.begin()->second.status;
  }
  for (const auto& [line, refusal] : refused) {
    if (loaded.messages.size() == options_.messages_max) break;
    loaded.messages.emplace_back(refusal.status.message());
  }

  // How many twins are new, so that they all have room before the first goes
  // in.  Others may add or erase some of them meanwhile: settled at the end.
  int64_t expected = 0;
  for (int i = 0; i < index_.partition_count(); ++i) {
    expected += CountNew(i);
    absl::MutexLock lock(&staged_[i].mutex);
    loaded.twin_count += staged_[i].twin_count;
  }
  absl::Status status = index_.Reserve(expected);
  if (!status.ok()) return status;
  int64_t added = 0;
  for (int i = 0; i < index_.partition_count(); ++i) {
    added += CommitPartition(i, now);
  }
  index_.size_.fetch_add(added - expected, std::memory_order_relaxed);
  return loaded;
}

}  // namespace muster
