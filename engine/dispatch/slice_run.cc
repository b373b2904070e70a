// One run of a slice: what has happened to it is taken in, what is next goes
// out.
//
//   1. send the range whose record is durable
//   2. under the shard's lock: outcomes, timeouts, closing, the next range; and
//      their records into the partition's buffer
//   3. flush; if the journal answers at once, send the new range right away
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "engine/dispatch/attempt_key.h"
#include "engine/dispatch/dispatcher.h"
#include "engine/dispatch/outcome_error.h"
#include "engine/model/check.h"

namespace muster {
namespace {

// How soon a device is tried again that was not there although it is connected.
constexpr absl::Duration kRecheckDelay = absl::Seconds(1);

// Targets that one run looks at while it holds the shard's lock.
constexpr int kExaminedMax = 1024;

constexpr char kNotServed[] =
    "Job execution time ended before the device was processed.";

ExecutionResult Failed(ErrorCode error, absl::string_view description) {
  ExecutionResult result;
  result.status = ExecutionStatus::kFailed;
  result.error = error;
  result.description = std::string(description);
  return result;
}

ExecutionResult Failed(OutcomeCode code) {
  const OutcomeError error = OutcomeErrorOf(code);
  return Failed(error.code, error.text);
}

ExecutionResult DeviceGone() { return Failed(OutcomeCode::kNoSuchDevice); }
ExecutionResult NotOnline() { return Failed(OutcomeCode::kNotConnected); }
ExecutionResult NoResponse() { return Failed(OutcomeCode::kTimeout); }

// What an outcome means for the execution.  REQUIRES: not kNotConnected.
ExecutionResult ResultOf(OutcomeCode code, int32_t status,
                         absl::string_view payload) {
  if (code != OutcomeCode::kAnswered) return Failed(code);
  ExecutionResult result;
  result.answered = true;
  result.response_status = status;
  result.payload = payload.empty() ? "null" : std::string(payload);
  return result;
}

}  // namespace

std::unique_ptr<Range> Dispatcher::TakeRange() {
  absl::MutexLock lock(&pool_mutex_);
  if (ranges_.empty()) return std::make_unique<Range>();
  std::unique_ptr<Range> range = std::move(ranges_.back());
  ranges_.pop_back();
  return range;
}

void Dispatcher::GiveBackRange(std::unique_ptr<Range> range) {
  range->Clear();
  absl::MutexLock lock(&pool_mutex_);
  ranges_.push_back(std::move(range));
}

void Dispatcher::RunSlice(SliceWork& work, Scratch& scratch) {
  if (!work.job->running.load(std::memory_order_acquire)) return;
  if (work.range != nullptr) {
    const uint8_t state = work.range_state.load(std::memory_order_acquire);
    if (state == SliceWork::kDurable) SendRange(work, /*at_once=*/false);
    if (state == SliceWork::kRefused) GiveBackRange(std::move(work.range));
  }

  OutcomeBlock<OutcomePolicy>* outcomes = work.outcomes.TakeAll();
  scratch.Clear();

  Job& job = *work.job;
  const int partition = work.shard->partition();
  bool again = false;
  {
    absl::MutexLock lock(&work.shard->mutex);
    TakeOutcomes(work, outcomes, scratch);
    if (work.response_timer_due.exchange(false)) {
      work.response_timer_armed = false;
      ExpireResponses(work, scratch);
    }
    uint32_t reasons = job.close.load(std::memory_order_acquire);
    // Once is enough: TakeMethods() knows of it from then on.
    if (work.connect_timeout_done) reasons &= ~Job::kConnectTimeout;
    if (reasons != 0) {
      CloseOpen(work, reasons, scratch);
      work.connect_timeout_done |= (reasons & Job::kConnectTimeout) != 0;
    }
    // Nothing new goes out while the journal is stalled: OnJournalResumed().
    if (!work.closed && work.range == nullptr && !work.blocked.load() &&
        !work.paced.load() && work.slice.ready_count() > 0 &&
        commit_.CheckWritable(partition).ok()) {
      again = job.method != nullptr ? !TakeMethods(work, scratch)
                                    : !ApplyPatches(work, scratch);
    }
    JournalRun(work, scratch);
    ArmResponseTimer(work);
  }
  GiveBackOutcomes(outcomes);
  commit_.Flush(partition);
  if (work.range != nullptr &&
      work.range_state.load(std::memory_order_acquire) == SliceWork::kDurable) {
    SendRange(work, /*at_once=*/true);
    again = true;
  }
  if (again) Wake(work);
}

void Dispatcher::GiveBackOutcomes(OutcomeBlock<OutcomePolicy>* outcomes) {
  while (outcomes != nullptr) {
    OutcomeBlock<OutcomePolicy>* const next = outcomes->next();
    outcome_pool_->GiveBack(outcomes);
    outcomes = next;
  }
}

bool Dispatcher::IsReachable(const Shard& shard, int row) const {
  return shard.IsConnected(row) &&
         (wants_device_ids_ || shard.LinkOf(row) != 0);
}

void Dispatcher::FinishExecution(SliceWork& work, Slice::Rank rank,
                                 const ExecutionResult& result,
                                 Scratch& scratch) {
  FinishAs(work, rank, AddResult(work, result, scratch), scratch);
}

uint16_t Dispatcher::AddResult(SliceWork& work, const ExecutionResult& result,
                               Scratch& scratch) {
  bool is_new = false;
  const uint16_t number = work.slice.AddResult(result, &is_new);
  if (is_new) {
    // JournalRun() will give the run the shard's next sequence.
    AppendRecord(
        ResultRecord{work.job->serial, work.number, work.shard->sequence() + 1,
                     number, static_cast<uint8_t>(result.status),
                     static_cast<uint32_t>(result.error), result.answered,
                     result.response_status, result.payload,
                     result.description},
        &scratch.results);
  }
  return number;
}

void Dispatcher::FinishAs(SliceWork& work, Slice::Rank rank, uint16_t result,
                          Scratch& scratch) {
  Slice& slice = work.slice;
  if (slice.IsRunning(rank) && work.job->method != nullptr) {
    // Those of before a restart were not counted.
    std::vector<uint8_t>& in_flight = work.shard_state->in_flight;
    const size_t row = static_cast<size_t>(slice.targets().RowAt(rank));
    if (row < in_flight.size() && in_flight[row] > 0) --in_flight[row];
  }
  // The same instant for the whole run: the stamp is found again, not added.
  slice.Finish(rank, slice.AddStamp(scratch.now), result, &scratch.delta);
  scratch.finished.push_back({rank, result});
}

void Dispatcher::TakeOutcomes(SliceWork& work,
                              const OutcomeBlock<OutcomePolicy>* outcomes,
                              Scratch& scratch) {
  scratch.now = Now();
  LastResult last = {};
  for (; outcomes != nullptr; outcomes = outcomes->next()) {
    absl::string_view payloads = outcomes->payloads();
    absl::string_view payload;
    for (const OutcomeEntry& entry : outcomes->entries()) {
      if (entry.payload_size != kSamePayload) {
        payload = payloads.substr(0, entry.payload_size);
        payloads.remove_prefix(entry.payload_size);
      }
      TakeOutcome(work, entry, payload, last, scratch);
    }
  }
}

void Dispatcher::TakeOutcome(SliceWork& work, const OutcomeEntry& entry,
                             absl::string_view payload, LastResult& last,
                             Scratch& scratch) {
  Slice& slice = work.slice;
  if (entry.rank >= slice.size() || !slice.IsRunning(entry.rank) ||
      slice.attempt(entry.rank) != entry.attempt || work.IsUnsent(entry.rank)) {
    dropped_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  if (entry.code != OutcomeCode::kNotConnected) {
    // Most are as the one before: nothing is compared but where it stands.
    const bool same =
        last.number.has_value() && last.code == entry.code &&
        last.status == entry.status && last.payload.size() == payload.size() &&
        (payload.empty() || last.payload.data() == payload.data());
    if (!same) {
      last = {entry.code, entry.status, payload,
              AddResult(work, ResultOf(entry.code, entry.status, payload),
                        scratch)};
    }
    FinishAs(work, entry.rank, *last.number, scratch);
    return;
  }
  const int row = slice.targets().RowAt(entry.rank);
  uint8_t& in_flight = work.shard_state->in_flight[row];
  if (in_flight > 0) --in_flight;
  slice.Return(entry.rank, /*sent=*/true, &scratch.delta);
  scratch.returned.push_back({entry.rank, slice.attempt(entry.rank)});
  if (!work.shard->IsPresent(row, work.cut) || !IsReachable(*work.shard, row)) {
    return;  // TakeMethods() settles it.
  }
  // It may have come back already, or the transport contradicts itself: look
  // again, but not at once.
  if (AddRecheck(MakeAttemptKey({work.job->serial, work.number, entry.rank,
                                 slice.attempt(entry.rank)}),
                 scratch.now.monotonic + kRecheckDelay)) {
    slice.Wait(entry.rank);
  } else {
    last.number.reset();
    FinishExecution(work, entry.rank,
                    Failed(ErrorCode::kServerError,
                           "The transport does not reach a device that is "
                           "connected, nor too many others."),
                    scratch);
  }
}

void Dispatcher::ExpireResponses(SliceWork& work, Scratch& scratch) {
  const absl::Duration limit =
      scratch.now.monotonic - work.job->method->response_timeout;
  Slice& slice = work.slice;
  for (; work.checks_begin < work.checks.size(); ++work.checks_begin) {
    const SliceWork::ResponseCheck& check = work.checks[work.checks_begin];
    if (check.due > scratch.now.monotonic) break;
    slice.ForEachRunning(check.first, check.last, [&](Slice::Rank rank) {
      work.shard->mutex.AssertHeld();
      if (slice.RunningSince(rank) > limit || work.IsUnsent(rank)) return;
      FinishExecution(work, rank, NoResponse(), scratch);
    });
  }
}

void Dispatcher::CloseSent(SliceWork& work, Scratch& scratch) {
  work.slice.ForEachRunning([&](Slice::Rank rank) {
    work.shard->mutex.AssertHeld();
    FinishExecution(work, rank, NoResponse(), scratch);
  });
}

// Contract 2.6 (connect timeout), 2.7 (the limit), and the native cancel.
void Dispatcher::CloseOpen(SliceWork& work, uint32_t reasons,
                           Scratch& scratch) {
  if (work.closed) return;
  Slice& slice = work.slice;
  const bool is_method = work.job->method != nullptr;

  // The fate of a pending execution; nullopt: it stays.
  auto close_pending = [&](Slice::Rank rank) -> std::optional<ExecutionResult> {
    work.shard->mutex.AssertHeld();
    if (reasons & Job::kCancel) {
      ExecutionResult result;
      result.status = ExecutionStatus::kCanceled;
      return result;
    }
    const int row = slice.targets().RowAt(rank);
    if (!work.shard->IsPresent(row, work.cut)) return DeviceGone();
    if (is_method && !work.shard->IsEnabled(row)) return DeviceGone();
    if (is_method && !IsReachable(*work.shard, row)) {
      return NotOnline();
    }
    if (reasons & Job::kDeadline) {
      return Failed(ErrorCode::kRequestTimedOut, kNotServed);
    }
    return std::nullopt;
  };
  auto close = [&](Slice::Rank rank) {
    work.shard->mutex.AssertHeld();
    if (auto result = close_pending(rank)) {
      FinishExecution(work, rank, *result, scratch);
    }
  };
  slice.ForEachReady(close);
  slice.ForEachWaiting(close);

  if (reasons & Job::kDeadline) {
    slice.ForEachRunning([&](Slice::Rank rank) {
      work.shard->mutex.AssertHeld();
      FinishExecution(work, rank,
                      work.IsUnsent(rank)
                          ? Failed(ErrorCode::kRequestTimedOut, kNotServed)
                          : NoResponse(),
                      scratch);
    });
    work.closed = true;
  }
}

int64_t Dispatcher::TakeTokens(SliceWork& work, int64_t wanted) {
  if (pacer_.unlimited()) return wanted;
  const absl::Duration now = clock_.Monotonic();
  const int64_t tokens = pacer_.Take(std::min(wanted, pacer_.share()), now);
  if (tokens == 0) {
    work.paced.store(true);
    const int priority = static_cast<int>(work.job->request.priority);
    work.waiting_for_tokens.owner = work.job->shared_from_this();
    paced_.Push(&work.waiting_for_tokens,
                CatchUp(work.job->paced_time, paced_.virtual_time(priority)),
                priority);
    ArmTokensTimer(pacer_.NextToken(now));
  }
  return tokens;
}

bool Dispatcher::TakeMethods(SliceWork& work, Scratch& scratch) {
  Job& job = *work.job;
  Slice& slice = work.slice;
  Shard& shard = *work.shard;
  shard.mutex.AssertHeld();
  std::vector<uint8_t>& in_flight = work.shard_state->in_flight;
  if (in_flight.empty()) in_flight.resize(kShardRowsMax);

  const int64_t tokens =
      TakeTokens(work, std::min({options_.range_rows_max, work.range_rows,
                                 work.offer_max, slice.ready_count()}));
  if (tokens == 0) return true;  // Woken when there are some.

  std::unique_ptr<Range> range = TakeRange();
  const uint16_t stamp = slice.AddStamp(scratch.now);
  const bool connect_expired =
      job.close.load(std::memory_order_acquire) & Job::kConnectTimeout;
  int examined = 0;
  int rank = slice.NextReady(0);
  for (; rank >= 0 && examined < kExaminedMax &&
         static_cast<int64_t>(range->ranks.size()) < tokens;
       rank = slice.NextReady(rank + 1), ++examined) {
    const Slice::Rank r = static_cast<Slice::Rank>(rank);
    const int row = slice.targets().RowAt(rank);
    if (!shard.IsPresent(row, work.cut) || !shard.IsEnabled(row)) {
      FinishExecution(work, r, DeviceGone(), scratch);
    } else if (!IsReachable(shard, row)) {
      if (connect_expired) {
        FinishExecution(work, r, NotOnline(), scratch);
      } else {
        slice.Wait(r);
      }
    } else if (in_flight[row] >= kMethodsInFlightPerDeviceMax) {
      FinishExecution(work, r, ResultOf(OutcomeCode::kBusy, 0, ""), scratch);
    } else {
      ++in_flight[row];
      slice.MarkRunning(r, stamp, &scratch.delta);
      range->ranks.push_back(r);
      range->attempts.push_back(
          MakeAttemptKey({job.serial, work.number, r, slice.attempt(r)}));
      range->links.push_back(shard.LinkOf(row));
      if (!wants_device_ids_) continue;
      const absl::string_view id = shard.DeviceIdAt(row, work.cut);
      range->id_bytes.append(id.data(), id.size());
      range->id_ends.push_back(static_cast<uint32_t>(range->id_bytes.size()));
    }
  }
  const int64_t taken = static_cast<int64_t>(range->ranks.size());
  pacer_.Return(tokens - taken);
  ChargeTokens(job, taken);
  scratch.rows = taken;
  if (range->ranks.empty()) {
    GiveBackRange(std::move(range));
    return rank < 0;
  }
  work.range = std::move(range);
  work.range_time = scratch.now;
  work.range_sent = scratch.now.monotonic;
  work.range_state.store(SliceWork::kCommitting, std::memory_order_relaxed);
  return true;  // Goes on when the range has been sent.
}

bool Dispatcher::ApplyPatches(SliceWork& work, Scratch& scratch) {
  Job& job = *work.job;
  Slice& slice = work.slice;
  Shard& shard = *work.shard;
  shard.mutex.AssertHeld();
  const TwinPatch& patch = std::get<TwinUpdateAction>(job.request.action).patch;

  const int64_t tokens = TakeTokens(
      work,
      std::min({options_.range_rows_max, kRangeRows, slice.ready_count()}));
  if (tokens == 0) return true;  // Woken when there are some.

  const ExecutionResult succeeded;
  const uint16_t stamp = slice.AddStamp(scratch.now);
  // Ranks ascend, and so do their rows: the patch goes to all of them at once.
  std::vector<Slice::Rank>& ranks = scratch.patched;
  std::vector<uint16_t> rows;
  int examined = 0;
  int rank = slice.NextReady(0);
  for (; rank >= 0 && examined < kExaminedMax &&
         static_cast<int64_t>(rows.size()) < tokens;
       rank = slice.NextReady(rank + 1), ++examined) {
    const Slice::Rank r = static_cast<Slice::Rank>(rank);
    const int row = slice.targets().RowAt(rank);
    if (!shard.IsPresent(row, work.cut)) {
      FinishExecution(work, r, DeviceGone(), scratch);
      continue;
    }
    slice.MarkRunning(r, stamp, &scratch.delta);
    ranks.push_back(r);
    rows.push_back(static_cast<uint16_t>(row));
  }
  const std::vector<Shard::RowError> errors =
      shard.ApplyPatch(rows, patch, scratch.now.wall);
  auto error = errors.begin();
  for (size_t i = 0; i < rows.size(); ++i) {
    const int row = rows[i];
    if (error != errors.end() && error->row == row) {
      FinishExecution(
          work, ranks[i],
          Failed(ErrorCodeOf(error->status), error->status.message()), scratch);
      ++error;
      continue;
    }
    FinishExecution(work, ranks[i], succeeded, scratch);
    if (job.desired_patch != nullptr && shard.IsConnected(row)) {
      scratch.notifications.push_back(
          {wants_device_ids_ ? std::string(shard.DeviceIdAt(row, work.cut))
                             : std::string(),
           shard.LinkOf(row), job.desired_patch,
           shard.StateOf(row).desired_version});
    }
  }
  const int64_t used = static_cast<int64_t>(rows.size());
  pacer_.Return(tokens - used);
  ChargeTokens(job, used);
  dispatched_.fetch_add(used, std::memory_order_relaxed);
  if (used > 0) NoteDispatch(job);
  scratch.rows = used;
  return slice.ready_count() == 0;
}

void Dispatcher::JournalRun(SliceWork& work, Scratch& scratch) {
  const bool new_range = work.range != nullptr &&
                         work.range_state.load(std::memory_order_relaxed) ==
                             SliceWork::kCommitting &&
                         !work.range->recorded;
  if (scratch.finished.empty() && scratch.returned.empty() && !new_range) {
    return;
  }
  std::unique_ptr<RunCommit> commit;
  {
    absl::MutexLock lock(&pool_mutex_);
    if (!commits_.empty()) {
      commit = std::move(commits_.back());
      commits_.pop_back();
    }
  }
  if (commit == nullptr) commit = std::make_unique<RunCommit>();
  commit->self = shared_from_this();
  commit->job = work.job->shared_from_this();
  commit->work = &work;
  commit->new_range = new_range;
  commit->delta = scratch.delta;
  commit->notifications.swap(scratch.notifications);
  SumUp(work, scratch, &commit->ended);
  const uint64_t serial = work.job->serial;
  const uint64_t sequence = work.shard->AdvanceSequence();
  const auto by_rank = [](const auto& a, const auto& b) {
    return a.rank < b.rank;
  };
  std::sort(scratch.finished.begin(), scratch.finished.end(), by_rank);
  std::sort(scratch.returned.begin(), scratch.returned.end(), by_rank);
  commit_.Add(
      work.shard->partition(),
      [&](std::string* out) {
        out->append(scratch.results);
        if (!scratch.returned.empty()) {
          AppendReturned(serial, work.number, sequence, scratch.returned, out);
        }
        if (!scratch.patched.empty()) {
          AppendDispatched(serial, work.number, sequence, scratch.now.wall,
                           scratch.patched, out);
        }
        if (!scratch.finished.empty()) {
          AppendFinished(serial, work.number, sequence, scratch.now.wall,
                         scratch.finished, out);
        }
        if (new_range) {
          AppendDispatched(serial, work.number, sequence, scratch.now.wall,
                           work.range->ranks, out);
        }
      },
      [commit = std::move(commit)](const absl::Status& status) mutable {
        FinishRun(std::move(commit), status);
      });
  if (new_range) work.range->recorded = true;
  scratch.returned.clear();
}

void Dispatcher::FinishRun(std::unique_ptr<RunCommit> commit,
                           const absl::Status& status) {
  const std::shared_ptr<Dispatcher> self = std::move(commit->self);
  const JobPtr job = std::move(commit->job);
  SliceWork& work = *commit->work;
  if (commit->new_range) {
    work.range_state.store(
        status.ok() ? SliceWork::kDurable : SliceWork::kRefused,
        std::memory_order_release);
    self->Wake(work);
  }
  if (status.ok()) {
    // First: who sees the job's end sees its executions counted.
    self->Count(commit->ended);
    if (!commit->notifications.empty()) {
      self->notifier_.Add(work.shard->partition(),
                          std::move(commit->notifications));
    }
    self->Publish(job, commit->delta);
  } else {
    // What is not durable is not shown (I10).
    self->Abandon(*job);
  }
  commit->notifications.clear();
  commit->ended.clear();
  absl::MutexLock lock(&self->pool_mutex_);
  self->commits_.push_back(std::move(commit));
}

void Dispatcher::SumUp(const SliceWork& work, const Scratch& scratch,
                       std::vector<Ended>* ended) {
  // What began together and ended alike shares its entries in the slice's
  // tables.
  const Slice::Stamp* start = nullptr;
  const ExecutionResult* result = nullptr;
  for (const FinishedRecord::Entry& entry : scratch.finished) {
    const Slice::View view = work.slice.Get(entry.rank);
    if (view.start != start || view.result != result) {
      start = view.start;
      result = view.result;
      ended->push_back({result->status, result->error,
                        start != nullptr && scratch.timed
                            ? scratch.now.monotonic - start->monotonic
                            : absl::InfiniteDuration(),
                        0});
    }
    ++ended->back().count;
  }
}

void Dispatcher::Count(absl::Span<const Ended> ended) {
  if (ended.empty()) return;
  for (const Ended& e : ended) {
    if (e.time < absl::InfiniteDuration()) {
      execution_time_.Add(e.time, e.count);
    }
  }
  absl::MutexLock lock(&ended_mutex_);
  for (const Ended& e : ended) {
    switch (e.status) {
      case ExecutionStatus::kCompleted:
        ended_.succeeded += e.count;
        break;
      case ExecutionStatus::kCanceled:
        ended_.canceled += e.count;
        break;
      default:
        ended_.failed[e.error] += e.count;
    }
  }
}

void Dispatcher::NoteDispatch(Job& job) {
  // Relaxed: whoever is first of those that find it unset takes the exchange.
  if (job.dispatched.load(std::memory_order_relaxed) ||
      job.dispatched.exchange(true, std::memory_order_relaxed)) {
    return;
  }
  if (job.due_since == absl::InfiniteDuration()) return;
  first_dispatch_.Add(clock_.Monotonic() - job.due_since);
}

void Dispatcher::SendRange(SliceWork& work, bool at_once) {
  Range& range = *work.range;
  const int64_t offered = static_cast<int64_t>(range.ranks.size());
  if (work.closed) {  // Its executions have failed; nobody is called.
    pacer_.Return(offered);
    GiveBackRange(std::move(work.range));
    return;
  }
  if (at_once) {
    work.range_rows = std::max(kRangeRows, work.range_rows / 2);
  } else {
    work.range_rows = std::min(options_.range_rows_max, 2 * work.range_rows);
    // The journal took its time: the device's time to answer begins now.  What
    // readers see of the start is what the journal has.
    absl::MutexLock lock(&work.shard->mutex);
    work.range_sent = clock_.Monotonic();
    const uint16_t stamp =
        work.slice.AddStamp({work.range_time.wall, work.range_sent});
    for (Slice::Rank rank : range.ranks) work.slice.RestampStart(rank, stamp);
  }
  range.device_ids.clear();
  uint32_t begin = 0;
  for (uint32_t end : range.id_ends) {
    range.device_ids.push_back(
        absl::string_view(range.id_bytes).substr(begin, end - begin));
    begin = end;
  }
  work.checks.push_back({work.range_sent + work.job->method->response_timeout,
                         range.ranks.front(), range.ranks.back()});
  const uint64_t epoch = ready_epoch_.load();
  const int64_t sent = static_cast<int64_t>(transport_.Send(
      {work.job->method, range.attempts, range.device_ids, range.links}));
  MUSTER_CHECK(sent <= offered);
  dispatched_.fetch_add(sent, std::memory_order_relaxed);
  if (sent > 0) NoteDispatch(*work.job);
  // A transport with little room is offered little, so that what it does not
  // take need not be journaled twice.
  work.offer_max = sent < offered ? static_cast<int>(std::max<int64_t>(1, sent))
                                  : std::min(kShardRowsMax, 2 * work.offer_max);
  if (sent < offered) {
    const absl::Span<const Slice::Rank> unsent =
        absl::MakeConstSpan(range.ranks).subspan(sent);
    {
      absl::MutexLock lock(&work.shard->mutex);
      StatisticsDelta delta;
      std::vector<ReturnedRecord::Entry> returned;
      returned.reserve(unsent.size());
      for (Slice::Rank rank : unsent) {
        work.slice.Return(rank, /*sent=*/false, &delta);
        returned.push_back({rank, work.slice.attempt(rank)});
        --work.shard_state->in_flight[work.slice.targets().RowAt(rank)];
      }
      const uint64_t sequence = work.shard->AdvanceSequence();
      commit_.Add(
          work.shard->partition(),
          [&](std::string* out) {
            AppendReturned(work.job->serial, work.number, sequence, returned,
                           out);
          },
          [self = shared_from_this(), job = work.job->shared_from_this(),
           delta](const absl::Status& status) {
            if (status.ok()) {
              self->Publish(job, delta);
            } else {
              self->Abandon(*job);
            }
          });
    }
    pacer_.Return(offered - sent);
    ChargeTokens(*work.job, sent - offered);
    commit_.Flush(work.shard->partition());
    Block(work, epoch);
  }
  GiveBackRange(std::move(work.range));
}

void Dispatcher::Block(SliceWork& work, uint64_t ready_epoch) {
  work.blocked.store(true);
  {
    absl::MutexLock lock(&blocked_mutex_);
    blocked_.emplace_back(work.job->shared_from_this(), &work);
  }
  // The transport may have had room again before we were on the list.
  if (ready_epoch_.load() != ready_epoch) OnReady();
}

void Dispatcher::ArmResponseTimer(SliceWork& work) {
  while (work.checks_begin < work.checks.size()) {
    const SliceWork::ResponseCheck& check = work.checks[work.checks_begin];
    if (work.slice.AnyRunning(check.first, check.last)) break;
    ++work.checks_begin;
  }
  if (work.checks_begin == work.checks.size()) {
    work.checks.clear();
    work.checks_begin = 0;
    return;
  }
  // In the middle of many small ranges: what has been looked at makes room.
  if (work.checks_begin >= 64 && 2 * work.checks_begin > work.checks.size()) {
    work.checks.erase(
        work.checks.begin(),
        work.checks.begin() + static_cast<std::ptrdiff_t>(work.checks_begin));
    work.checks_begin = 0;
  }
  if (work.response_timer_armed) return;
  work.response_timer_armed = true;
  work.response_timer.owner = work.job->shared_from_this();
  AddTimer(&work.response_timer, work.checks[work.checks_begin].due);
}

}  // namespace muster
