// Reading executions: one job's, or the collection devices.jobs (contract 3).
#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/dispatch/dispatcher.h"
#include "engine/model/error.h"
#include "engine/query/document.h"
#include "engine/query/page_token.h"
#include "engine/twin/device_hash.h"

namespace muster {
namespace {

// Executions that are read under one hold of a shard's lock.
constexpr int kRanksPerHold = 256;

ExecutionRecord MakeRecord(const Job& job, absl::string_view device_id,
                           const Slice::View& view) {
  ExecutionRecord record;
  record.device_id = std::string(device_id);
  record.job_id = job.request.job_id;
  record.job_type = job.request.type();
  record.status = view.status;
  record.created_time = job.started_time;
  record.last_updated_time = job.started_time;
  if (view.start != nullptr) {
    record.start_time = view.start->wall;
    record.last_updated_time = view.start->wall;
  }
  if (view.end != nullptr) {
    record.end_time = view.end->wall;
    record.last_updated_time = view.end->wall;
  }
  if (view.result != nullptr) {
    if (view.result->answered) {
      record.response = ExecutionRecord::MethodResponse{
          view.result->response_status, view.result->payload};
    }
    record.error_code = view.result->error;
    record.error_description = view.result->description;
  }
  return record;
}

// Calls `visit` for the slice's executions on `wanted` devices, a few per hold
// of the shard's lock and none while it is held; what it shows is durable, and
// waited for if it is not yet.  Stops when the job's history ends: the devices'
// names may be gone then.
absl::Status ReadSlice(const Job& job, const SliceWork& work,
                       GroupCommit& commit,
                       absl::FunctionRef<bool(absl::string_view device)> wanted,
                       absl::FunctionRef<void(const ExecutionRecord&)> visit) {
  // The end that is shown is durable, and stands on all executions.
  bool ended;
  {
    absl::MutexLock lock(&job.mutex);
    ended = IsTerminal(job.status);
  }
  std::vector<ExecutionRecord> records;
  int from = 0, size = 0;
  do {
    records.clear();
    {
      absl::ReaderMutexLock lock(&work.shard->mutex);
      if (job.expired.load()) return absl::OkStatus();
      size = work.slice.size();
      const int to = std::min(size, from + kRanksPerHold);
      for (; from < to; ++from) {
        const absl::string_view device =
            work.shard->DeviceIdAt(work.slice.targets().RowAt(from), work.cut);
        if (!wanted(device)) continue;
        records.push_back(MakeRecord(
            job, device, work.slice.Get(static_cast<Slice::Rank>(from))));
      }
    }
    if (records.empty()) continue;
    if (ended) {
      for (const ExecutionRecord& record : records) visit(record);
      continue;
    }
    if (absl::Status s = commit.Sync(work.shard->partition()); !s.ok()) {
      return MakeError(ErrorCode::kServiceUnavailable,
                       absl::StrCat("executions of job ", job.request.job_id,
                                    " are not durable yet: ", s.message()));
    }
    for (const ExecutionRecord& record : records) visit(record);
  } while (from < size);
  return absl::OkStatus();
}

}  // namespace

absl::Status Dispatcher::ForEachExecution(
    absl::string_view job_id,
    absl::FunctionRef<void(const ExecutionRecord&)> visit) const {
  absl::StatusOr<JobPtr> found = FindJob(job_id);
  if (!found.ok()) return found.status();
  const Job& job = **found;
  if (!HasTargets(job)) return absl::OkStatus();
  for (const auto& work : job.slices) {
    absl::Status status = ReadSlice(
        job, *work, commit_, [](absl::string_view) { return true; }, visit);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

namespace {

// Where a listing of executions goes on: jobs in the order of their listing,
// their slices by number, and targets by rank.
struct ExecutionPlace {
  std::pair<int64_t, std::string> job = {INT64_MIN, ""};
  uint32_t slice = 0;
  int rank = 0;
};

constexpr absl::string_view kExecutions = "executions";

absl::StatusOr<ExecutionPlace> DecodePlace(absl::string_view continuation,
                                           uint64_t hash) {
  ExecutionPlace place;
  if (continuation.empty()) return place;
  absl::StatusOr<PageToken> token =
      DecodePageToken(continuation, kExecutions, hash);
  if (!token.ok()) return token.status();
  const std::vector<std::string>& keys = token->last_key;
  if (keys.size() != 4 || !absl::SimpleAtoi(keys[0], &place.job.first) ||
      !absl::SimpleAtoi(keys[2], &place.slice) ||
      !absl::SimpleAtoi(keys[3], &place.rank) || place.rank < 0 ||
      place.rank > kShardRowsMax) {
    return MakeError(ErrorCode::kArgumentInvalid,
                     "the continuation is not one of a listing of executions");
  }
  place.job.second = keys[1];
  return place;
}

std::string EncodePlace(const ExecutionPlace& place, uint64_t hash) {
  return EncodePageToken({std::string(kExecutions),
                          hash,
                          {absl::StrCat(place.job.first), place.job.second,
                           absl::StrCat(place.slice), absl::StrCat(place.rank)},
                          0});
}

// A device whose executions are looked for.
struct WantedDevice {
  absl::string_view id;
  int partition;
  std::optional<TwinLocation> here;  // Where it lives now, if it does.
};

// The device's rank in the slice, or -1.
int RankOf(const WantedDevice& device, const SliceWork& work)
    ABSL_SHARED_LOCKS_REQUIRED(work.shard->mutex) {
  const Shard& shard = *work.shard;
  shard.mutex.AssertReaderHeld();  // It is the slice's.
  int row = -1;
  if (device.here.has_value() && device.here->shard == shard.index() &&
      shard.IsPresent(device.here->row, work.cut) &&
      shard.DeviceId(device.here->row) == device.id) {
    row = device.here->row;
  } else {
    row = shard.FormerRowOf(device.id, work.cut);
  }
  return row < 0 ? -1 : work.slice.targets().RankOf(row);
}

// Adds executions of the job from `*place` on, up to `wanted` in all; true if
// there is one more, which `*place` is then.  Notes the partitions that have to
// be durable before anybody sees what was added.
bool AddExecutions(const Job& job, const WantedDevice* device,
                   std::optional<ExecutionStatus> status, size_t wanted,
                   ExecutionPlace* place, std::vector<ExecutionRecord>* added,
                   absl::flat_hash_set<int>* partitions) {
  // The end that is shown is durable, and stands on all executions.
  bool ended;
  {
    absl::MutexLock lock(&job.mutex);
    ended = IsTerminal(job.status);
  }
  for (; place->slice < job.slices.size(); ++place->slice, place->rank = 0) {
    const SliceWork& work = *job.slices[place->slice];
    const int partition = work.shard->partition();
    if (device != nullptr && device->partition != partition) continue;
    int size = 0;
    do {
      absl::ReaderMutexLock lock(&work.shard->mutex);
      if (job.expired.load()) return false;
      size = work.slice.size();
      int to = std::min(size, place->rank + kRanksPerHold);
      int next = to;
      if (device != nullptr) {
        const int rank = RankOf(*device, work);
        next = size;
        to = rank < place->rank ? place->rank : rank + 1;
        place->rank = std::max(place->rank, rank);
      }
      for (; place->rank < to; ++place->rank) {
        const Slice::View view =
            work.slice.Get(static_cast<Slice::Rank>(place->rank));
        if (status.has_value() && view.status != *status) continue;
        if (added->size() == wanted) return true;
        const int row = work.slice.targets().RowAt(place->rank);
        added->push_back(
            MakeRecord(job, work.shard->DeviceIdAt(row, work.cut), view));
        if (!ended) partitions->insert(partition);
      }
      place->rank = next;
    } while (place->rank < size);
  }
  return false;
}

}  // namespace

absl::StatusOr<ExecutionPage> Dispatcher::ListExecutions(
    const ExecutionFilter& filter, int page_size,
    absl::string_view continuation) const {
  const uint64_t hash = HashForPageToken(absl::StrCat(
      filter.job_id, "\n", filter.device_id, "\n",
      filter.status.has_value() ? ExecutionStatusName(*filter.status) : "*"));
  absl::StatusOr<ExecutionPlace> place = DecodePlace(continuation, hash);
  if (!place.ok()) return place.status();
  JobPtr job;
  if (!filter.job_id.empty()) {
    absl::StatusOr<JobPtr> found = FindJob(filter.job_id);
    if (!found.ok()) return found.status();
    job = *std::move(found);
  }
  std::optional<WantedDevice> device;
  if (!filter.device_id.empty()) {
    // One that comes later comes after every cut that there is.
    device = {filter.device_id,
              PartitionOfHash(DeviceHash(filter.device_id),
                              commit_.partition_count()),
              index_.Find(filter.device_id)};
  }

  // From the job that `*place` is in, or, if it is gone, the one after it.
  const auto add = [&](const Job& next, ExecutionPage* page,
                       absl::flat_hash_set<int>* partitions) {
    if (ListKeyOf(next) != place->job) *place = {.job = ListKeyOf(next)};
    if (!HasTargets(next)) return false;
    return AddExecutions(next, device.has_value() ? &*device : nullptr,
                         filter.status, static_cast<size_t>(page_size), &*place,
                         &page->executions, partitions);
  };
  ExecutionPage page;
  absl::flat_hash_set<int> partitions;
  bool more = false;
  if (job != nullptr) {
    more = add(*job, &page, &partitions);
  } else {
    bool inclusive = true;
    while (!more && (job = NextListed(place->job, inclusive)) != nullptr) {
      more = add(*job, &page, &partitions);
      inclusive = false;
    }
  }
  if (more) page.continuation = EncodePlace(*place, hash);
  for (const int partition : partitions) {
    if (absl::Status s = commit_.Sync(partition); !s.ok()) {
      return MakeError(
          ErrorCode::kServiceUnavailable,
          absl::StrCat("executions are not durable yet: ", s.message()));
    }
  }
  return page;
}

absl::StatusOr<ExecutionRecord> Dispatcher::GetExecution(
    absl::string_view job_id, absl::string_view device_id) const {
  // Neither may be empty, which would mean any.
  if (absl::StatusOr<JobPtr> job = FindJob(job_id); !job.ok()) {
    return job.status();
  }
  ExecutionPage page;
  if (!device_id.empty()) {
    absl::StatusOr<ExecutionPage> found =
        ListExecutions({.job_id = std::string(job_id),
                        .device_id = std::string(device_id),
                        .status = std::nullopt},
                       1, "");
    if (!found.ok()) return found.status();
    page = *std::move(found);
  }
  if (page.executions.empty()) {
    return MakeError(
        ErrorCode::kDeviceNotFound,
        absl::StrCat("Job ", job_id, " has no execution on the device \"",
                     device_id, "\""));
  }
  return std::move(page.executions[0]);
}

// The slices of a job appear with its statistics, and are constant from then
// on.
bool Dispatcher::HasTargets(const Job& job) {
  absl::MutexLock lock(&job.mutex);
  return job.statistics.has_value();
}

absl::StatusOr<int64_t> Dispatcher::JobMemoryUsage(
    absl::string_view job_id) const {
  absl::StatusOr<JobPtr> found = FindJob(job_id);
  if (!found.ok()) return found.status();
  int64_t bytes = 0;
  if (!HasTargets(**found)) return bytes;
  for (const auto& work : (*found)->slices) {
    absl::ReaderMutexLock lock(&work->shard->mutex);
    bytes +=
        static_cast<int64_t>(sizeof(SliceWork) + work->slice.MemoryUsage());
  }
  return bytes;
}

namespace {

using RecordKey = std::pair<std::string, std::string>;  // deviceId, jobId.

// Collects the rows of one page: the `size` smallest keys beyond `after` that
// satisfy the statement.  Keys are compared before anything is read, so that a
// page out of a million records builds few of them.
class RecordCollector {
 public:
  RecordCollector(const Statement& statement, RecordKey after, size_t size)
      : statement_(statement), after_(std::move(after)), size_(size) {}

  bool IsWanted(absl::string_view device, absl::string_view job) const {
    if (Compare(device, job, after_) <= 0) return false;
    return rows_.size() <= size_ ||
           Compare(device, job, std::prev(rows_.end())->first) < 0;
  }

  void Add(const ExecutionRecord& record) {
    std::string text;
    AppendExecutionJson(record, &text);
    absl::StatusOr<Json> json = parser_.Parse(text);
    if (!json.ok()) return;  // A payload beyond our limits on depth.
    if (!statement_.Matches(JsonDocument(*std::move(json)))) return;
    rows_.emplace(RecordKey{record.device_id, record.job_id}, std::move(text));
    // One more than the page: whether there is a next one.
    if (rows_.size() > size_ + 1) rows_.erase(std::prev(rows_.end()));
  }

  std::map<RecordKey, std::string>& rows() { return rows_; }

 private:
  static int Compare(absl::string_view device, absl::string_view job,
                     const RecordKey& key) {
    const int by_device = device.compare(key.first);
    return by_device != 0 ? by_device : job.compare(key.second);
  }

  const Statement& statement_;
  const RecordKey after_;
  const size_t size_;
  JsonParser parser_;
  std::map<RecordKey, std::string> rows_;
};

}  // namespace

absl::StatusOr<RecordPage> Dispatcher::QueryRecords(
    const Statement& statement, int page_size,
    absl::string_view continuation) const {
  const absl::string_view collection = CollectionName(Collection::kDeviceJobs);
  PageToken token{std::string(collection), statement.hash(), {}, 0};
  RecordKey after;
  if (!continuation.empty()) {
    absl::StatusOr<PageToken> given =
        DecodePageToken(continuation, collection, statement.hash());
    if (!given.ok()) return given.status();
    if (given->last_key.size() != 2) {
      return MakeError(ErrorCode::kArgumentInvalid,
                       "the continuation is not one of devices.jobs");
    }
    token = *std::move(given);
    after = {token.last_key[0], token.last_key[1]};
  }
  int64_t wanted = page_size;
  if (statement.top().has_value()) {
    wanted = std::min(wanted, *statement.top() - token.rows_given);
  }
  RecordPage page;
  if (wanted <= 0) return page;

  std::vector<JobPtr> jobs;
  {
    absl::ReaderMutexLock lock(&jobs_mutex_);
    for (const auto& [key, job] : listing_) {
      if (!IsExpired(*job)) jobs.push_back(job);
    }
  }
  std::optional<std::vector<std::string>> devices;
  if (const auto& condition = statement.condition()) {
    if (auto ids = condition->Candidates(Root::kJobId)) {
      jobs.erase(std::remove_if(jobs.begin(), jobs.end(),
                                [&](const JobPtr& job) {
                                  return !std::binary_search(
                                      ids->begin(), ids->end(),
                                      job->request.job_id);
                                }),
                 jobs.end());
    }
    devices = condition->Candidates(Root::kDeviceId);
  }
  absl::flat_hash_set<absl::string_view> device_set;
  absl::flat_hash_set<int> partitions;
  if (devices.has_value()) {
    device_set.insert(devices->begin(), devices->end());
    for (const std::string& id : *devices) {
      partitions.insert(
          PartitionOfHash(DeviceHash(id), commit_.partition_count()));
    }
  }

  RecordCollector collector(statement, after, static_cast<size_t>(wanted));
  for (const JobPtr& job : jobs) {
    if (!HasTargets(*job)) continue;
    for (const auto& work : job->slices) {
      if (devices.has_value() &&
          !partitions.contains(work->shard->partition())) {
        continue;
      }
      absl::Status status = ReadSlice(
          *job, *work, commit_,
          [&](absl::string_view device) {
            return (!devices.has_value() || device_set.contains(device)) &&
                   collector.IsWanted(device, job->request.job_id);
          },
          [&](const ExecutionRecord& record) { collector.Add(record); });
      if (!status.ok()) return status;
    }
  }

  for (auto& [key, text] : collector.rows()) {
    if (static_cast<int64_t>(page.rows.size()) == wanted) {
      const bool top_reached =
          statement.top().has_value() && token.rows_given >= *statement.top();
      if (!top_reached) page.continuation = EncodePageToken(token);
      break;
    }
    page.rows.push_back(std::move(text));
    token.last_key = {key.first, key.second};
    ++token.rows_given;
  }
  return page;
}

}  // namespace muster
