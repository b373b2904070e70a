#include "engine/dispatch/slice_records.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace muster {
namespace {

template <typename R>
absl::Status Impossible(const R& record, absl::string_view what) {
  return absl::DataLossError(absl::StrCat("job ", record.job, ", slice ",
                                          record.slice, ", sequence ",
                                          record.sequence, ": ", what));
}

}  // namespace

void SliceRecords::Append(uint64_t job, uint32_t number, uint64_t sequence,
                          const Slice& slice, std::string* out) {
  for (size_t i = 0; i < slice.results_.size(); ++i) {
    const ExecutionResult& result = slice.results_[i];
    AppendRecord(ResultRecord{job, number, sequence, static_cast<uint32_t>(i),
                              static_cast<uint8_t>(result.status),
                              static_cast<uint32_t>(result.error),
                              result.answered, result.response_status,
                              result.payload, result.description},
                 out);
  }
  if (slice.progress_.empty()) return;
  std::vector<ReturnedRecord::Entry> returned;
  for (int rank = 0; !slice.attempts_.empty() && rank < slice.size(); ++rank) {
    const Slice::Rank r = static_cast<Slice::Rank>(rank);
    if (slice.attempt(r) > 0) returned.push_back({r, slice.attempt(r)});
  }
  if (!returned.empty()) {
    std::vector<Slice::Rank> ranks;
    for (const ReturnedRecord::Entry& e : returned) ranks.push_back(e.rank);
    AppendDispatched(job, number, sequence, absl::UnixEpoch(), ranks, out);
    AppendReturned(job, number, sequence, returned, out);
  }
  // By stamp; the ranks of each ascend.
  std::vector<std::vector<Slice::Rank>> begun(slice.stamps_.size());
  std::vector<std::vector<FinishedRecord::Entry>> ended(slice.stamps_.size());
  for (int rank = 0; rank < slice.size(); ++rank) {
    const Slice::Rank r = static_cast<Slice::Rank>(rank);
    const Slice::Progress& p = slice.progress_[r];
    if (p.start != 0) begun[p.start - 1u].push_back(r);
    if (p.end != 0) ended[p.end - 1u].push_back({r, p.result});
  }
  for (size_t i = 0; i < begun.size(); ++i) {
    if (begun[i].empty()) continue;
    AppendDispatched(job, number, sequence, slice.stamps_[i].wall, begun[i],
                     out);
  }
  for (size_t i = 0; i < ended.size(); ++i) {
    if (ended[i].empty()) continue;
    AppendFinished(job, number, sequence, slice.stamps_[i].wall, ended[i], out);
  }
}

absl::Status SliceRecords::Apply(const DispatchedRecord& record, Slice* slice) {
  const uint16_t stamp = slice->AddStamp({record.time, absl::ZeroDuration()});
  StatisticsDelta delta;
  for (const uint16_t rank : record.ranks) {
    if (rank >= slice->size() || !slice->IsReady(rank)) {
      return Impossible(record,
                        absl::StrCat("rank ", rank, " was not pending"));
    }
    slice->MarkRunning(rank, stamp, &delta);
  }
  return absl::OkStatus();
}

absl::Status SliceRecords::Apply(const ReturnedRecord& record, Slice* slice) {
  StatisticsDelta delta;
  for (const ReturnedRecord::Entry& entry : record.entries) {
    if (entry.rank >= slice->size() || !slice->IsRunning(entry.rank) ||
        entry.attempt >= Slice::kAttempts) {
      return Impossible(record,
                        absl::StrCat("rank ", entry.rank, " did not run"));
    }
    slice->Return(entry.rank, /*sent=*/false, &delta);
    if (entry.attempt != slice->attempt(entry.rank)) {
      slice->attempts_[entry.rank] = entry.attempt;
    }
  }
  return absl::OkStatus();
}

absl::Status SliceRecords::Apply(const ResultRecord& record, Slice* slice) {
  ExecutionResult result;
  result.status = static_cast<ExecutionStatus>(record.status);
  result.error = static_cast<ErrorCode>(record.error);
  result.description = record.description;
  result.answered = record.answered;
  result.response_status = record.response_status;
  result.payload = record.payload;
  if (record.number != slice->results_.size() ||
      record.number >= static_cast<uint32_t>(slice->size()) ||
      !IsErrorCode(record.error) || !IsTerminal(result.status) ||
      result.status > ExecutionStatus::kCanceled) {
    return Impossible(
        record,
        absl::StrCat("result ", record.number, " is not the next, ",
                     slice->results_.size(), ", or no end of an execution"));
  }
  slice->results_.push_back(std::move(result));
  return absl::OkStatus();
}

absl::Status SliceRecords::Apply(const FinishedRecord& record, Slice* slice) {
  const uint16_t stamp = slice->AddStamp({record.time, absl::ZeroDuration()});
  StatisticsDelta delta;
  for (const FinishedRecord::Entry& entry : record.entries) {
    if (entry.rank >= slice->size() || entry.result >= slice->results_.size() ||
        !(slice->IsReady(entry.rank) || slice->IsRunning(entry.rank))) {
      return Impossible(record, absl::StrCat("rank ", entry.rank,
                                             " had ended, or its result ",
                                             entry.result, " is unknown"));
    }
    slice->Finish(entry.rank, stamp, entry.result, &delta);
  }
  return absl::OkStatus();
}

}  // namespace muster
