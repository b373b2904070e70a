#include "transport/grpc/gateway/gateway_side.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/random/distributions.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/model/check.h"

namespace muster {
namespace {

constexpr uint32_t kProtocolVersion = 1;
// Handles that one frame gives back.
constexpr size_t kHandlesBackMax = 65'536;

absl::Status Invalid(absl::string_view what, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(what, ": ", why));
}

int RefusedDoublings(const GatewayOptions& options) {
  int doublings = 0;
  absl::Duration wait = options.refused_retry_min * 2;
  while (doublings < 7 && wait <= options.refused_retry_max) {
    ++doublings;
    wait *= 2;
  }
  return doublings;
}

}  // namespace

absl::Status GatewaySide::Check(const GatewayOptions& o) {
  const auto at_least = [](absl::Duration value, absl::Duration bound,
                           absl::string_view name) {
    return value >= bound ? absl::OkStatus()
                          : Invalid(absl::StrCat("GatewayOptions::", name),
                                    absl::StrCat(absl::FormatDuration(value),
                                                 " is less than ",
                                                 absl::FormatDuration(bound)));
  };
  if (o.name.empty() || o.name.size() > 128) {
    return Invalid("GatewayOptions::name",
                   absl::StrCat("it has ", o.name.size(),
                                " characters; it may have 1 to 128"));
  }
  if (o.work_credit < 1 || o.work_credit > 1'048'576) {
    return Invalid(
        "GatewayOptions::work_credit",
        absl::StrCat(o.work_credit, " is outside of 1 to 1,048,576"));
  }
  if (o.devices_max < 1 || o.devices_max > kGatewayHandleMax) {
    return Invalid(
        "GatewayOptions::devices_max",
        absl::StrCat(o.devices_max, " is outside of 1 to 16,777,216"));
  }
  if (o.answer_bytes_max < GatewayAnswers::kFrameBytes) {
    return Invalid("GatewayOptions::answer_bytes_max",
                   absl::StrCat(o.answer_bytes_max, " is less than 1 MiB"));
  }
  for (const absl::Status& status :
       {at_least(o.reconnect_min, absl::Milliseconds(1), "reconnect_min"),
        at_least(o.reconnect_max, o.reconnect_min, "reconnect_max"),
        at_least(o.refused_retry_min, absl::Milliseconds(1),
                 "refused_retry_min"),
        at_least(o.refused_retry_max, o.refused_retry_min, "refused_retry_max"),
        at_least(o.handshake_timeout, absl::Milliseconds(1),
                 "handshake_timeout")}) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

GatewaySide::GatewaySide(const GatewayOptions& options, Executor* executor,
                         GatewayHandler* handler, Dial dial)
    : options_(options),
      clock_(*options.clock),
      executor_(*executor),
      handler_(*handler),
      dial_(std::move(dial)),
      devices_(options.devices_max, RefusedDoublings(options)),
      ranges_(clock_.Monotonic()),
      next_delay_(options.reconnect_min) {}

void GatewaySide::At(absl::Duration time, std::function<void(GatewaySide&)> f) {
  executor_.RunAt(time, [side = weak_from_this(), f = std::move(f)] {
    if (const auto self = side.lock()) f(*self);
  });
}

// ------------------------------------------------------------------- dialling

void GatewaySide::Start() {
  if (dial_ == nullptr) return;
  absl::MutexLock lock(&mutex_);
  DialLater(absl::ZeroDuration());
}

void GatewaySide::DialLater(absl::Duration delay) {
  At(clock_.Monotonic() + delay, [](GatewaySide& side) { side.DialNow(); });
}

absl::Duration GatewaySide::NextDelay() {
  const absl::Duration delay = next_delay_ * absl::Uniform(random_, 0.5, 1.0);
  next_delay_ = std::min(next_delay_ * 2, options_.reconnect_max);
  return delay;
}

void GatewaySide::DialNow() {
  {
    absl::MutexLock lock(&mutex_);
    if (stopping_) return;
    dialing_ = true;
  }
  const absl::Status status = dial_(shared_from_this());
  absl::Duration delay;
  if (!status.ok()) {
    {
      absl::MutexLock lock(&mutex_);
      delay = NextDelay();
    }
    handler_.OnStreamDown(status, delay);
  }
  absl::MutexLock lock(&mutex_);
  dialing_ = false;
  if (!status.ok() && !stopping_) DialLater(delay);
}

void GatewaySide::Stop() {
  Action action;
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    if (phase_ == Phase::kUp) {
      phase_ = Phase::kLeaving;
      devices_.LeaveStream(&handles_back_);
      action = NextWrite();
    } else if (phase_ == Phase::kHandshake) {
      stream_->Cancel();
    }
  }
  Do(action);
  absl::MutexLock lock(&mutex_);
  const auto idle = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return stream_ == nullptr && !ending_ && !dialing_;
  };
  if (!mutex_.AwaitWithTimeout(absl::Condition(&idle),
                               options_.handshake_timeout)) {
    if (stream_ != nullptr) stream_->Cancel();
    mutex_.Await(absl::Condition(&idle));
  }
}

// ------------------------------------------------------------------- a stream

void GatewaySide::Do(const Action& action) {
  if (action.stream == nullptr) return;
  if (action.release) return action.stream->Release(action.why);
  if (action.close) return action.stream->Close();
  action.stream->Write(action.frame);
}

bool GatewaySide::Begin(EngineStream* stream) {
  {
    absl::MutexLock lock(&mutex_);
    if (stopping_) return false;
    if (stream_ != nullptr || ending_) {
      if (next_stream_ != nullptr) return false;
      next_stream_ = stream;
      if (stream_ != nullptr) {
        Fail(absl::AbortedError("the engine has dialled once more"));
      }
      return true;
    }
    BeginLocked(stream);
  }
  StartStream(stream);
  return true;
}

void GatewaySide::BeginLocked(EngineStream* stream) {
  stream_ = stream;
  phase_ = Phase::kHandshake;
  failed_ = absl::OkStatus();
  read_over_ = write_over_ = draining_ = last_connect_ = false;
  writing_ = true;
  sending_ = answers_.EmptyFrame();
  v1::AttachRequest::Hello* hello = sending_->mutable_hello();
  hello->set_protocol_version(kProtocolVersion);
  hello->set_gateway(options_.name);
  hello->set_work_credit(options_.work_credit);
  At(clock_.Monotonic() + options_.handshake_timeout,
     [number = ++stream_number_](GatewaySide& side) {
       absl::MutexLock lock(&side.mutex_);
       if (side.stream_number_ != number || side.phase_ != Phase::kHandshake) {
         return;
       }
       side.Fail(absl::DeadlineExceededError(absl::StrCat(
           "the engine has not answered the first frame within ",
           absl::FormatDuration(side.options_.handshake_timeout))));
     });
}

void GatewaySide::StartStream(EngineStream* stream) {
  const v1::AttachRequest* hello;
  {
    absl::MutexLock lock(&mutex_);
    hello = sending_.get();
  }
  stream->Write(hello);
  stream->Read(&received_);
}

void GatewaySide::Fail(const absl::Status& why) {
  if (failed_.ok()) failed_ = why;
  stream_->Cancel();
}

GatewaySide::Action GatewaySide::NextWrite() {
  if (phase_ == Phase::kNone || phase_ == Phase::kHandshake || writing_ ||
      write_over_ || read_over_) {
    return {};
  }
  // The last one waits for those before it: what they are answered is handles
  // to give back.
  const bool last =
      phase_ == Phase::kLeaving && !last_connect_ && devices_.unanswered() == 0;
  const bool announce =
      last || (phase_ == Phase::kUp && !draining_ && devices_.has_waiting() &&
               devices_.unanswered() < connect_credit_);
  if (handles_back_.empty() && !announce && answers_.empty()) {
    if (phase_ == Phase::kUp && draining_ && ranges_.open_calls() == 0) {
      phase_ = Phase::kClosing;
    }
    if (phase_ != Phase::kClosing) return {};
    writing_ = write_over_ = true;
    return {.stream = stream_, .close = true};
  }
  // More handles than a frame takes go first and alone: a device's outcomes, or
  // that it is there again, must not overtake that it has gone.
  const bool alone = handles_back_.size() > kHandlesBackMax;
  sending_ = alone ? answers_.EmptyFrame() : answers_.TakeFrame();
  if (!handles_back_.empty()) {
    const size_t keep = alone ? handles_back_.size() - kHandlesBackMax : 0;
    sending_->mutable_disconnect()->mutable_handles()->Add(
        handles_back_.begin() + static_cast<ptrdiff_t>(keep),
        handles_back_.end());
    handles_back_.resize(keep);
  }
  if (announce && !alone) {
    v1::AttachRequest::Connect* connect = sending_->mutable_connect();
    devices_.Announce([&](absl::string_view id) {
      connect->add_device_ids(id.data(), id.size());
    });
    last_connect_ = last;
  }
  writing_ = true;
  return {.stream = stream_, .frame = sending_.get()};
}

GatewaySide::Action GatewaySide::ReleaseIfOver() {
  if (!read_over_ || writing_) return {};
  return {.stream = stream_, .release = true, .why = failed_};
}

bool GatewaySide::AnswersPileUp() const {
  return writing_ && !write_over_ &&
         answers_.bytes() > options_.answer_bytes_max;
}

void GatewaySide::OnWritten(bool ok) {
  Action action;
  EngineStream* read = nullptr;
  {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok) write_over_ = true;  // The reading side hears the same.
    if (sending_ != nullptr) answers_.GiveBack(std::move(sending_));
    action = read_over_ ? ReleaseIfOver() : NextWrite();
    if (read_later_ && !AnswersPileUp()) {
      read_later_ = false;
      read = stream_;
    }
  }
  // First: once a read is under way the stream may end.
  Do(action);
  if (read != nullptr) read->Read(&received_);
}

void GatewaySide::OnRead(bool ok) {
  absl::Status status;
  if (ok) {
    status = OnFrame();
    if (status.ok()) {
      EngineStream* stream;
      {
        absl::MutexLock lock(&mutex_);
        read_later_ = AnswersPileUp();
        if (read_later_) return;
        stream = stream_;
      }
      return stream->Read(&received_);
    }
  }
  Action action;
  {
    absl::MutexLock lock(&mutex_);
    if (!status.ok() && failed_.ok()) failed_ = status;
    read_over_ = true;
    // With a write under way the engine does not hear why.
    if (!status.ok() && writing_) stream_->Cancel();
    action = ReleaseIfOver();
  }
  Do(action);
}

void GatewaySide::OnDone(const absl::Status& status) {
  absl::Status why;
  absl::Duration delay;
  bool tell;
  {
    absl::MutexLock lock(&mutex_);
    why = !failed_.ok() ? failed_ : status;
    if (why.ok()) {
      why =
          absl::UnavailableError(draining_ ? "the engine is about to end"
                                           : "the engine has ended the stream");
    }
    if (phase_ != Phase::kHandshake &&
        clock_.Monotonic() - up_since_ >= options_.reconnect_max) {
      next_delay_ = options_.reconnect_min;
    }
    if (dial_ != nullptr) delay = NextDelay();
    tell = !stopping_;
    phase_ = Phase::kNone;
    stream_ = nullptr;
    ending_ = true;
    counts_.attached = false;
    ranges_.Clear();
    answers_.Clear();
    if (sending_ != nullptr) answers_.GiveBack(std::move(sending_));
    handles_back_.clear();
    devices_.EndStream();
  }
  // Before the next stream has anything to tell.
  if (tell) handler_.OnStreamDown(why, delay);
  EngineStream* next;
  {
    absl::MutexLock lock(&mutex_);
    ending_ = false;
    next = std::exchange(next_stream_, nullptr);
    if (next != nullptr) {
      BeginLocked(next);
      if (stopping_) next->Cancel();
    } else if (dial_ != nullptr && !stopping_) {
      DialLater(delay);
    }
  }
  if (next != nullptr) StartStream(next);
}

// ------------------------------------------------------------- what is
// received

absl::Status GatewaySide::OnFrame() {
  bool up;
  {
    absl::MutexLock lock(&mutex_);
    up = phase_ != Phase::kHandshake;
  }
  if (received_.has_welcome() == up) {
    return Invalid("welcome",
                   up ? "it has come before" : "the first frame is without");
  }
  absl::Status status;
  if (received_.has_welcome()) status = OnWelcome(received_.welcome());
  if (!status.ok()) return status;
  for (const auto& connected : received_.connected()) {
    status = OnConnected(connected);
    if (!status.ok()) return status;
  }
  for (const auto& dropped : received_.dropped()) OnDropped(dropped);
  for (const auto& update : received_.desired()) {
    status = OnDesired(update);
    if (!status.ok()) return status;
  }
  for (const auto& work : received_.methods()) {
    status = OnMethods(work);
    if (!status.ok()) return status;
  }
  Action action;
  {
    absl::MutexLock lock(&mutex_);
    if (received_.draining()) draining_ = true;
    if (phase_ == Phase::kLeaving && last_connect_ &&
        devices_.unanswered() == 0) {
      phase_ = Phase::kClosing;
    }
    action = NextWrite();
  }
  Do(action);
  return absl::OkStatus();
}

absl::Status GatewaySide::OnWelcome(
    const v1::AttachResponse::Welcome& welcome) {
  if (welcome.protocol_version() != kProtocolVersion) {
    return Invalid("welcome.protocol_version",
                   absl::StrCat(welcome.protocol_version(),
                                "; this gateway speaks ", kProtocolVersion));
  }
  if (welcome.connect_credit() < 1) {
    return Invalid("welcome.connect_credit", "it is 0");
  }
  handler_.OnStreamUp();
  absl::MutexLock lock(&mutex_);
  connect_credit_ =
      static_cast<int>(std::min<uint32_t>(welcome.connect_credit(), 1024));
  up_since_ = clock_.Monotonic();
  ++counts_.streams;
  counts_.attached = true;
  devices_.BeginStream();
  phase_ = stopping_ ? Phase::kClosing : Phase::kUp;
  return absl::OkStatus();
}

absl::Status GatewaySide::OnConnected(
    const v1::AttachResponse::Connected& connected) {
  tokens_.clear();
  refusals_.clear();
  {
    absl::MutexLock lock(&mutex_);
    const absl::Status status = devices_.OnConnected(
        absl::MakeConstSpan(connected.handles().data(),
                            static_cast<size_t>(connected.handles_size())),
        &tokens_, &refusals_, &handles_back_);
    if (!status.ok()) return status;
    WatchRefused();
  }
  if (!tokens_.empty()) handler_.OnAttached(tokens_);

  // Those with the same error together.
  size_t next = 0;
  absl::Status error = absl::UnknownError("the engine has not said why");
  const auto tell = [&] {
    if (!tokens_.empty()) handler_.OnRefused(tokens_, error);
    tokens_.clear();
  };
  tokens_.clear();
  for (const auto& [token, position] : refusals_) {
    const auto& list = connected.refusals();
    while (next < static_cast<size_t>(list.size()) &&
           list[static_cast<int>(next)].position() < position) {
      ++next;
    }
    if (next < static_cast<size_t>(list.size()) &&
        list[static_cast<int>(next)].position() == position) {
      const auto& wire = list[static_cast<int>(next)].error();
      if (error.raw_code() != wire.code() ||
          error.message() != absl::string_view(wire.message())) {
        tell();
        error = absl::Status(static_cast<absl::StatusCode>(wire.code()),
                             wire.message());
      }
    }
    tokens_.push_back(token);
  }
  tell();
  return absl::OkStatus();
}

void GatewaySide::OnDropped(const v1::AttachResponse::Dropped& dropped) {
  const bool deleted =
      dropped.reason() == v1::AttachResponse::Dropped::REASON_TWIN_DELETED;
  tokens_.clear();
  {
    absl::MutexLock lock(&mutex_);
    for (const uint32_t handle : dropped.handles()) {
      uint32_t token;
      // Not there: it has been given back already.
      if (!devices_.OnDropped(handle, deleted, &token)) continue;
      handles_back_.push_back(handle);
      tokens_.push_back(token);
    }
    WatchRefused();
  }
  if (tokens_.empty()) return;
  if (deleted) {
    handler_.OnRefused(tokens_, absl::NotFoundError("the twin was deleted"));
  } else {
    handler_.OnTakenOver(tokens_);
  }
}

absl::Status GatewaySide::OnDesired(
    const v1::AttachResponse::DesiredUpdate& update) {
  if (update.versions_size() != update.handles_size()) {
    return Invalid("desired.versions",
                   absl::StrCat(update.versions_size(), " for ",
                                update.handles_size(), " handles"));
  }
  tokens_.clear();
  versions_.clear();
  {
    absl::MutexLock lock(&mutex_);
    for (int i = 0; i < update.handles_size(); ++i) {
      uint32_t token;
      if (!devices_.TokenOf(update.handles(i), &token)) continue;
      tokens_.push_back(token);
      versions_.push_back(update.versions(i));
    }
  }
  if (!tokens_.empty()) {
    handler_.OnDesired(
        {.patch = update.patch(), .devices = tokens_, .versions = versions_});
  }
  return absl::OkStatus();
}

absl::Status GatewaySide::OnMethods(
    const v1::AttachResponse::MethodWork& work) {
  const auto size = static_cast<uint32_t>(work.handles_size());
  if (size < 1 || size > kGatewayRangeMax) {
    return Invalid("methods.handles",
                   absl::StrCat(size, " of them; 1 to 1,024 are allowed"));
  }
  const absl::Duration timeout = absl::Milliseconds(work.response_timeout_ms());
  const uint32_t* const handles = work.handles().data();
  tokens_.resize(size);
  runs_.clear();
  {
    absl::MutexLock lock(&mutex_);
    if (phase_ == Phase::kClosing) return absl::OkStatus();
    if (phase_ == Phase::kLeaving) {
      // They have all been given back, which the engine is told first.
      answers_.Add(work.range(), 0, size, {.code = OutcomeCode::kNotConnected});
      return absl::OkStatus();
    }
    if (ranges_.open_calls() + size > options_.work_credit) {
      // The engine has given up waiting for some before this one has.
      answers_.Add(work.range(), 0, size, {.code = OutcomeCode::kBusy});
      return absl::OkStatus();
    }
    const absl::Duration due = clock_.Monotonic() + timeout;
    for (uint32_t first = 0; first < size;) {
      uint32_t end = first;
      while (end < size && devices_.TokenOf(handles[end], &tokens_[end])) {
        ++end;
      }
      if (end != first) {
        runs_.push_back(
            {.range = ranges_.Open(work.range(), first, end - first, due),
             .first = first,
             .count = end - first});
        counts_.calls += end - first;
      }
      first = end;
      uint32_t token;
      while (end < size && !devices_.TokenOf(handles[end], &token)) ++end;
      if (end != first) {
        // They have gone meanwhile, which the engine is told first.
        answers_.Add(work.range(), first, end - first,
                     {.code = OutcomeCode::kNotConnected});
      }
      first = end;
    }
    WatchTimeouts(due + GatewayRanges::kTick);
  }
  for (const Run& run : runs_) {
    handler_.OnMethods({.range = run.range,
                        .method_name = work.method_name(),
                        .payload = work.payload(),
                        .response_timeout = timeout,
                        .devices = absl::MakeConstSpan(tokens_).subspan(
                            run.first, run.count)});
  }
  return absl::OkStatus();
}

// ----------------------------------------------------------------------
// answers

absl::Status GatewaySide::Answer(GatewayRange range,
                                 absl::Span<const uint32_t> positions,
                                 absl::Span<const GatewayAnswer> answers) {
  if (answers.size() != positions.size() && answers.size() != 1) {
    return Invalid("answers", absl::StrCat(answers.size(), " for ",
                                           positions.size(), " positions"));
  }
  for (const uint32_t position : positions) {
    if (position >= GatewayRanges::CountOf(range)) {
      return Invalid("positions", absl::StrCat(position, " in a range of ",
                                               GatewayRanges::CountOf(range)));
    }
  }
  Action action;
  {
    absl::MutexLock lock(&mutex_);
    GatewayRanges::Slot* const slot = ranges_.Find(range);
    if (slot == nullptr) {
      counts_.unwanted += static_cast<int64_t>(positions.size());
      return absl::OkStatus();
    }
    if (answers_.bytes() > options_.answer_bytes_max) return AnswersWait();
    for (size_t i = 0; i < positions.size(); ++i) {
      if (slot->open == 0 || !ranges_.Take(*slot, positions[i])) {
        ++counts_.unwanted;
        continue;
      }
      ++counts_.answers;
      answers_.Add(*slot, positions[i], 1,
                   answers[answers.size() == 1 ? 0 : i]);
    }
    ranges_.CloseIfDone(*slot);
    action = NextWrite();
  }
  Do(action);
  return absl::OkStatus();
}

absl::Status GatewaySide::AnswerAll(GatewayRange range,
                                    const GatewayAnswer& answer) {
  Action action;
  {
    absl::MutexLock lock(&mutex_);
    GatewayRanges::Slot* const slot = ranges_.Find(range);
    if (slot == nullptr) {
      counts_.unwanted += GatewayRanges::CountOf(range);
      return absl::OkStatus();
    }
    if (answers_.bytes() > options_.answer_bytes_max) return AnswersWait();
    counts_.answers += slot->open;
    ranges_.TakeAll(*slot, [&](uint32_t first, uint32_t count) {
      mutex_.AssertHeld();
      answers_.Add(*slot, first, count, answer);
    });
    action = NextWrite();
  }
  Do(action);
  return absl::OkStatus();
}

absl::Status GatewaySide::AnswersWait() const {
  return absl::ResourceExhaustedError(
      absl::StrCat(answers_.bytes(),
                   " bytes of answers wait for the engine to read: more than "
                   "GatewayOptions::answer_bytes_max = ",
                   options_.answer_bytes_max));
}

void GatewaySide::WatchTimeouts(absl::Duration due) {
  if (due >= timeouts_at_) return;
  timeouts_at_ = due;
  At(due, [due](GatewaySide& side) { side.OnTimeouts(due); });
}

void GatewaySide::OnTimeouts(absl::Duration due) {
  Action action;
  {
    absl::MutexLock lock(&mutex_);
    if (timeouts_at_ != due) return;  // An earlier one was there.
    timeouts_at_ = absl::InfiniteDuration();
    ranges_.Expire(clock_.Monotonic(), [&](GatewayRanges::Slot& slot) {
      mutex_.AssertHeld();
      ranges_.TakeAll(slot, [&](uint32_t first, uint32_t count) {
        mutex_.AssertHeld();
        counts_.timeouts += count;
        answers_.Add(slot, first, count, {.code = OutcomeCode::kTimeout});
      });
    });
    WatchTimeouts(ranges_.NextDue());
    action = NextWrite();
  }
  Do(action);
}

// ----------------------------------------------------------------------
// devices

absl::Status GatewaySide::AddDevices(absl::Span<const GatewayDevice> devices) {
  Action action;
  {
    absl::MutexLock lock(&mutex_);
    const absl::Status status = devices_.Add(devices);
    if (!status.ok()) return status;
    action = NextWrite();
  }
  Do(action);
  return absl::OkStatus();
}

void GatewaySide::RemoveDevices(absl::Span<const uint32_t> tokens) {
  Action action;
  {
    absl::MutexLock lock(&mutex_);
    devices_.Remove(tokens, &handles_back_);
    action = NextWrite();
  }
  Do(action);
}

void GatewaySide::WatchRefused() {
  if (refused_watched_ || devices_.refused() == 0) return;
  refused_watched_ = true;
  At(clock_.Monotonic() + options_.refused_retry_min, [](GatewaySide& side) {
    Action action;
    {
      absl::MutexLock lock(&side.mutex_);
      side.refused_watched_ = false;
      side.devices_.ReviseRefused();
      side.WatchRefused();
      action = side.NextWrite();
    }
    Do(action);
  });
}

GatewayStats GatewaySide::Stats() const {
  absl::MutexLock lock(&mutex_);
  GatewayStats stats = counts_;
  stats.devices = devices_.size();
  stats.attached_devices = devices_.attached();
  stats.refused_devices = devices_.refused();
  stats.in_flight = ranges_.open_calls();
  return stats;
}

}  // namespace muster
