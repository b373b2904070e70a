#include "engine/dispatch/direct_methods.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/dispatch/attempt_key.h"
#include "engine/dispatch/outcome_error.h"
#include "engine/model/check.h"
#include "engine/model/limits.h"

namespace muster {
namespace {

// How soon a device is tried again that was not there although it is connected.
constexpr absl::Duration kRecheckDelay = absl::Seconds(1);

// What one step of a worker does: others want their turn.
constexpr int kEventsPerStep = 64;

absl::Status ErrorOf(OutcomeCode code) {
  const OutcomeError error = OutcomeErrorOf(code);
  return MakeError(error.code, error.text);
}

absl::Status TooMany() {
  return MakeError(
      ErrorCode::kThrottlingException,
      absl::StrCat("too many direct methods are under way; at most ",
                   kDirectMethodsMax, " with ", kDirectMethodBytesMax,
                   " bytes of payloads"));
}

absl::Status NoRoom() {
  return MakeError(ErrorCode::kThrottlingException,
                   "What reaches the device had no room for the method, which "
                   "did not run.");
}

absl::Status Ending() {
  return MakeError(ErrorCode::kServiceUnavailable,
                   "The engine is about to end; the method did not run.");
}

// Nothing that is tried again by habit: the method ran.
absl::Status AnswerLost() {
  return MakeError(
      ErrorCode::kServerError,
      absl::StrCat("The method ran, but there was no room for its answer: "
                   "answers that have not been passed on may have ",
                   kDirectMethodAnswerBytesMax, " bytes together."));
}

}  // namespace

AttemptKey DirectMethods::KeyOf(const Call& call) {
  return MakeAttemptKey({.job = 0,
                         .slice = call.id >> 14,
                         .rank = static_cast<uint16_t>(call.id & 0x3fff),
                         .attempt = call.attempt});
}

uint32_t DirectMethods::IdOf(AttemptKey key) {
  const AttemptKeyParts parts = SplitAttemptKey(key);
  return parts.slice << 14 | parts.rank;
}

DirectMethods::DirectMethods(Options options)
    : options_(std::move(options)),
      clock_(*options_.clock),
      transport_(*options_.transport),
      index_(*options_.index),
      workers_(*options_.workers),
      wants_device_ids_(transport_.wants_device_ids()),
      // Multiples of the golden ratio keep away from each other: of n epochs in
      // a row each has 2^30 / 3n ids to itself at least (Knuth, The Art of
      // Computer Programming 3, section 6.4, theorem S).
      next_id_(static_cast<uint32_t>((options_.epoch * 0x9e3779b97f4a7c15) >>
                                     (64 - kIdBits))) {}

// ------------------------------------------------------------ what happens

void DirectMethods::Invoke(absl::string_view device_id,
                           const MethodAction& action, MethodCallback done) {
  auto call = std::make_shared<Call>();
  call->device_id = std::string(device_id);
  call->done = std::move(done);
  absl::Status status = ValidateMethodCall(action, options_.parse);
  if (status.ok()) {
    call->method = std::make_shared<MethodCall>(
        MethodCall{action.method_name, action.payload,
                   absl::Seconds(action.response_timeout_seconds)});
    call->connect_by =
        clock_.Monotonic() + absl::Seconds(action.connect_timeout_seconds);
    absl::MutexLock lock(&mutex_);
    if (calls_.size() < kDirectMethodsMax &&
        bytes_ + action.payload.size() <= kDirectMethodBytesMax) {
      do {
        call->id = next_id_++ & ((uint32_t{1} << kIdBits) - 1);
      } while (!calls_.emplace(call->id, call).second);
      bytes_ += action.payload.size();
    } else {
      status = TooMany();
    }
  }
  if (status.ok()) {
    Look(call);
    return;
  }
  {
    absl::MutexLock lock(&mutex_);
    ++stats_.failed[ErrorCodeOf(status)];
  }
  std::move(call->done)(std::move(status));
}

int64_t DirectMethods::OnOutcomes(absl::Span<const Outcome> outcomes) {
  int64_t dropped = 0;
  {
    absl::MutexLock lock(&mutex_);
    for (const Outcome& outcome : outcomes) {
      auto it = calls_.find(IdOf(outcome.attempt));
      if (it == calls_.end() || it->second->place != Place::kSent ||
          KeyOf(*it->second) != outcome.attempt) {
        ++dropped;
        continue;
      }
      const CallPtr& call = it->second;
      Hold(*call);
      if (outcome.code == OutcomeCode::kNotConnected) {
        call->came_back = true;
        events_.push_back({call, std::nullopt});
      } else if (outcome.code != OutcomeCode::kAnswered) {
        events_.push_back({call, ErrorOf(outcome.code)});
      } else if (!outcome.payload.empty() &&
                 answer_bytes_ + outcome.payload.size() >
                     kDirectMethodAnswerBytesMax) {
        events_.push_back({call, AnswerLost()});
      } else {
        MethodResult result;
        result.status = outcome.status;
        if (!outcome.payload.empty()) {
          result.payload = std::string(outcome.payload);
        }
        answer_bytes_ += result.payload.size();
        events_.push_back({call, std::move(result)});
      }
    }
    Publish();
  }
  workers_.Wake();
  return dropped;
}

void DirectMethods::OnReady() {
  // Before the look at what is blocked: see Send().
  ready_epoch_.fetch_add(1);
  {
    absl::MutexLock lock(&mutex_);
    // Whoever waits for a device hears that there is no use in it; who comes
    // later sees that, too, behind this lock.
    if (transport_.draining()) {
      while (!waiting_.empty()) {
        const CallPtr call = Find(std::get<2>(*waiting_.begin()));
        Hold(*call);
        events_.push_back({call, std::nullopt});
      }
    }
    offer_end_ = next_blocked_number_;
    Publish();
    if (!HasWork()) return;
  }
  workers_.Wake();
}

void DirectMethods::OnRowChanged(const Shard& shard, int row) {
  if (waiting_count_.load(std::memory_order_relaxed) == 0) return;
  {
    absl::MutexLock lock(&mutex_);
    bool any = false;
    for (;;) {
      const auto it = waiting_.lower_bound({shard.index(), row, 0});
      if (it == waiting_.end() || std::get<0>(*it) != shard.index() ||
          std::get<1>(*it) != row) {
        break;
      }
      const CallPtr call = Find(std::get<2>(*it));
      Hold(*call);
      events_.push_back({call, std::nullopt});
      any = true;
    }
    if (!any) return;
    Publish();
  }
  workers_.Wake();
}

// --------------------------------------------------- what follows from that

absl::Duration DirectMethods::NextDue() const {
  const int64_t due = next_due_ns_.load();
  return due == INT64_MAX ? absl::InfiniteDuration() : absl::Nanoseconds(due);
}

bool DirectMethods::RunSome(absl::Duration now) {
  if (work_.load() == 0 && NextDue() > now) return false;
  std::vector<Event> events;
  std::vector<CallPtr> offers;
  {
    absl::MutexLock lock(&mutex_);
    for (int n = 0; n < kEventsPerStep && !deadlines_.empty() &&
                    deadlines_.begin()->first <= now;
         ++n) {
      Expire(Find(deadlines_.begin()->second));
    }
    while (events.size() < kEventsPerStep && !events_.empty()) {
      events.push_back(std::move(events_.front()));
      events_.pop_front();
    }
    while (events.size() + offers.size() < kEventsPerStep && offering()) {
      offers.push_back(blocked_.begin()->second);
      Hold(*offers.back());
    }
    Publish();
  }
  for (Event& event : events) {
    if (event.result.has_value()) {
      Answer(event.call, *std::move(event.result));
    } else {
      Look(event.call);
    }
  }
  for (const CallPtr& call : offers) Look(call);
  return !events.empty() || !offers.empty();
}

void DirectMethods::Look(const CallPtr& call) {
  Discount(*call);
  std::optional<Attempt> attempt;
  absl::Status status = FindDevice(*call, &attempt);
  if (!status.ok()) {
    Answer(call, std::move(status));
  } else if (attempt.has_value()) {
    Send(call, *attempt);
  }
}

absl::Status DirectMethods::FindDevice(Call& call,
                                       std::optional<Attempt>* attempt) {
  const absl::Duration now = clock_.Monotonic();
  const bool came_back = std::exchange(call.came_back, false);
  absl::Duration due;
  for (;;) {
    const std::optional<TwinLocation> at = index_.Find(call.device_id);
    if (!at.has_value()) return ErrorOf(OutcomeCode::kNoSuchDevice);
    Shard& shard = index_.shard(at->shard);
    const int row = at->row;
    absl::MutexLock shard_lock(&shard.mutex);
    // It may have been erased in between, and be back in another row.
    if (!shard.IsPresent(row, UINT64_MAX) ||
        shard.DeviceId(row) != call.device_id) {
      continue;
    }
    if (!shard.IsEnabled(row)) return ErrorOf(OutcomeCode::kNoSuchDevice);
    absl::MutexLock lock(&mutex_);
    if (transport_.draining()) return Ending();
    // A twin may say that its device is connected while nobody has reported it:
    // a transport that goes by links has no way to it.
    const uint64_t link = shard.LinkOf(row);
    const bool reachable =
        shard.IsConnected(row) && (wants_device_ids_ || link != 0);
    if (!reachable || came_back) {
      if (now >= call.connect_by) return ErrorOf(OutcomeCode::kNotConnected);
      // It may have come back before it was missed, or the transport
      // contradicts itself: no change of the row will tell.
      due = reachable ? std::min(call.connect_by, now + kRecheckDelay)
                      : call.connect_by;
      call.place = Place::kWaiting;
      call.shard = at->shard;
      call.row = row;
      call.answer_by = absl::InfiniteDuration();
      waiting_.insert({at->shard, row, call.id});
      waiting_count_.fetch_add(1, std::memory_order_relaxed);
      SetDue(call, due);
      Publish();
      break;
    }
    // It was blocked, and its turn has come when nobody waits for it any more.
    if (now >= call.answer_by) return NoRoom();
    std::vector<uint8_t>& in_flight = options_.state_of(shard).in_flight;
    if (in_flight.empty()) in_flight.resize(kShardRowsMax);
    uint8_t& its = in_flight[static_cast<size_t>(row)];
    if (its >= kMethodsInFlightPerDeviceMax) {
      return ErrorOf(OutcomeCode::kBusy);
    }
    ++its;
    call.place = Place::kSent;
    call.shard = at->shard;
    call.row = row;
    call.counts = true;
    call.attempt = (call.attempt + 1) & 63;  // What a key has room for.
    if (call.answer_by == absl::InfiniteDuration()) {
      call.answer_by = now + call.method->response_timeout;
    }
    due = call.answer_by;
    SetDue(call, due);
    Publish();
    *attempt = Attempt{KeyOf(call), link, at->shard, row, due - now};
    break;
  }
  workers_.WakeAt(due);
  return absl::OkStatus();
}

void DirectMethods::Send(const CallPtr& call, const Attempt& attempt) {
  const absl::string_view id = call->device_id;
  MethodBatch batch;
  batch.method = call->method;
  if (attempt.time_left < call->method->response_timeout) {
    // It was blocked: the device does not get the time that has gone by.
    batch.method = std::make_shared<MethodCall>(MethodCall{
        call->method->name, call->method->payload, attempt.time_left});
  }
  batch.attempts = {&attempt.key, 1};
  if (wants_device_ids_) batch.device_ids = {&id, 1};
  batch.links = {&attempt.link, 1};
  const uint64_t epoch = ready_epoch_.load();
  const size_t sent = transport_.Send(batch);
  MUSTER_CHECK(sent <= 1);
  if (sent == 1) return;

  bool again = false;
  {
    Shard& shard = index_.shard(attempt.shard);
    absl::MutexLock shard_lock(&shard.mutex);
    absl::MutexLock lock(&mutex_);
    // Its time may be over.
    if (call->place != Place::kSent || KeyOf(*call) != attempt.key) return;
    call->counts = false;
    --options_.state_of(shard).in_flight[static_cast<size_t>(attempt.row)];
    // The transport may have had room again before we were on the list, or have
    // begun to end and said so before we asked for the epoch.
    again = ready_epoch_.load() != epoch || transport_.draining();
    if (again) {
      Hold(*call);
      events_.push_back({call, std::nullopt});
    } else {
      call->place = Place::kBlocked;
      call->blocked_number = next_blocked_number_++;
      blocked_.emplace(call->blocked_number, call);
    }
    Publish();
  }
  if (again) workers_.Wake();
}

void DirectMethods::Discount(Call& call) {
  int row;
  Shard* shard;
  {
    absl::MutexLock lock(&mutex_);
    if (!std::exchange(call.counts, false)) return;
    row = call.row;
    shard = &index_.shard(call.shard);
  }
  absl::MutexLock lock(&shard->mutex);
  --options_.state_of(*shard).in_flight[static_cast<size_t>(row)];
}

void DirectMethods::Answer(const CallPtr& call, Result result) {
  Discount(*call);
  {
    absl::MutexLock lock(&mutex_);
    calls_.erase(call->id);
    bytes_ -= call->method->payload.size();
    if (result.ok()) {
      answer_bytes_ -= result->payload.size();
      ++stats_.succeeded;
    } else {
      ++stats_.failed[ErrorCodeOf(result.status())];
    }
  }
  std::move(call->done)(std::move(result));
}

void DirectMethods::AnswerAll() {
  MUSTER_CHECK(workers_.stopped());
  std::deque<Event> events;
  {
    absl::MutexLock lock(&mutex_);
    events.swap(events_);
  }
  const absl::Status stopped =
      MakeError(ErrorCode::kServiceUnavailable, "the engine has been stopped");
  for (Event& event : events) {
    Answer(event.call,
           event.result.has_value() ? *std::move(event.result) : stopped);
  }
  const absl::Status unknown =
      MakeError(ErrorCode::kGatewayTimeout,
                "The engine has been stopped before the device answered; the "
                "method may have run.");
  std::vector<std::pair<CallPtr, const absl::Status*>> calls;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [id, call] : calls_) {
      calls.emplace_back(call,
                         call->place == Place::kSent ? &unknown : &stopped);
      Hold(*call);
    }
    Publish();
  }
  for (const auto& [call, status] : calls) Answer(call, *status);
}

DirectMethodStats DirectMethods::Stats() const {
  absl::MutexLock lock(&mutex_);
  DirectMethodStats stats = stats_;
  stats.under_way = static_cast<int64_t>(calls_.size());
  return stats;
}

// ------------------------------------------------------------ under the lock

const DirectMethods::CallPtr& DirectMethods::Find(uint32_t id) const {
  const auto it = calls_.find(id);
  MUSTER_CHECK(it != calls_.end());
  return it->second;
}

void DirectMethods::Hold(Call& call) {
  SetDue(call, absl::InfiniteDuration());
  if (call.place == Place::kWaiting) {
    waiting_.erase({call.shard, call.row, call.id});
    waiting_count_.fetch_sub(1, std::memory_order_relaxed);
  } else if (call.place == Place::kBlocked) {
    blocked_.erase(call.blocked_number);
  }
  call.place = Place::kHeld;
}

void DirectMethods::SetDue(Call& call, absl::Duration due) {
  if (call.due < absl::InfiniteDuration()) {
    deadlines_.erase({call.due, call.id});
  }
  call.due = due;
  if (due < absl::InfiniteDuration()) deadlines_.insert({due, call.id});
}

void DirectMethods::Expire(const CallPtr& call) {
  const Place place = call->place;
  Hold(*call);
  if (place == Place::kWaiting) {
    events_.push_back(
        {call, std::nullopt});  // It may have come at this very moment.
  } else if (place == Place::kSent) {
    events_.push_back({call, ErrorOf(OutcomeCode::kTimeout)});
  } else {
    events_.push_back({call, NoRoom()});
  }
}

void DirectMethods::Publish() {
  work_.store(static_cast<int64_t>(events_.size()) + (offering() ? 1 : 0));
  next_due_ns_.store(deadlines_.empty()
                         ? INT64_MAX
                         : absl::ToInt64Nanoseconds(deadlines_.begin()->first));
}

}  // namespace muster
