#include "transport/grpc/gateway/session.h"

#include <algorithm>
#include <utility>

#include "absl/base/optimization.h"
#include "absl/strings/str_cat.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/limits.h"
#include "transport/gate.h"
#include "transport/grpc/gateway/session_table.h"

namespace muster {
namespace {

using v1::AttachRequest;
using v1::AttachResponse;

constexpr uint32_t kVersion = 1;
// Work of one method that comes within this time goes out together if it waits:
// the devices' time is counted from the first of it.
constexpr absl::Duration kBlockTime = absl::Milliseconds(100);
// Blocks at the end of the queue that are looked at for work of one method.
constexpr int kOpenBlocks = 4;
// Executions for which credit is waited for, at most, rather than send a
// smaller range: it would cost a frame, and the payload once more.
constexpr int64_t kRangeCredit = 256;
// Blocks that are kept for later while there is work: 16 KB each when they have
// been full.
constexpr size_t kSpareBlocks = 8;
// Between two looks at all that waits and is unanswered.
constexpr absl::Duration kSweepTime = absl::Seconds(1);
// A frame that took more memory is not used again, nor what it was taken to
// pieces with.
constexpr size_t kFrameMemoryKept = size_t{1} << 20;
// A parser that has met a longer text is not kept.
constexpr size_t kParsedSizeKept = 4096;
constexpr size_t kNotificationsMax = 1024;  // In one DesiredUpdate.

// The most that a block's columns may have room for, for so many executions:
// what growing by doubling comes to.
size_t CapacityFor(size_t executions) {
  return std::max<size_t>(16, 2 * executions);
}

constexpr absl::Duration kNever = absl::InfiniteDuration();
// A timer cannot be taken back: none is further away, so that an ended session
// leaves nothing with the executor for long.
constexpr absl::Duration kTimerMax = absl::Minutes(1);

static_assert(static_cast<int>(v1::OUTCOME_CODE_ANSWERED) ==
                  static_cast<int>(OutcomeCode::kAnswered) + 1 &&
              static_cast<int>(v1::OUTCOME_CODE_ERROR) ==
                  static_cast<int>(OutcomeCode::kError) + 1);

// A frame is not as the protocol has it.
absl::Status WrongForm(absl::string_view field, absl::string_view what) {
  return MakeError(ErrorCode::kArgumentInvalid, absl::StrCat(field, " ", what));
}

absl::Status CheckOutcomes(const AttachRequest::Outcomes& m, uint64_t count) {
  if (!m.positions().empty() && (m.first() != 0 || m.count() != 0)) {
    return WrongForm("outcomes.count",
                     absl::StrCat("and outcomes.first must be 0 beside "
                                  "outcomes.positions; got ",
                                  m.count(), " and ", m.first()));
  }
  if (count < 1 || count > kWorkBlockMax) {
    return WrongForm(
        m.positions().empty() ? "outcomes.count" : "outcomes.positions",
        absl::StrCat("must be 1 to ", kWorkBlockMax, "; got ", count));
  }
  const std::string& codes = m.codes();
  if (!codes.empty() && codes.size() != count) {
    return WrongForm("outcomes.codes",
                     absl::StrCat("must have one byte for each of ", count,
                                  " outcomes, or none; got ", codes.size()));
  }
  bool answered = codes.empty();
  for (const char code : codes) {
    if (code < v1::OUTCOME_CODE_ANSWERED || code > v1::OUTCOME_CODE_ERROR) {
      return WrongForm(
          "outcomes.codes",
          absl::StrCat("must be in [1, 10]; got ", static_cast<uint8_t>(code)));
    }
    answered |= code == v1::OUTCOME_CODE_ANSWERED;
  }
  const uint64_t statuses = m.statuses_size();
  if (statuses != 1 && statuses != count && (statuses != 0 || answered)) {
    return WrongForm("outcomes.statuses",
                     absl::StrCat("must be one for each of ", count,
                                  " outcomes, or one; got ", statuses));
  }
  const uint64_t sizes = m.payload_sizes_size();
  if (sizes > 1 && sizes != count) {
    return WrongForm("outcomes.payload_sizes",
                     absl::StrCat("must be one for each of ", count,
                                  " outcomes, one, or none; got ", sizes));
  }
  uint64_t bytes = 0;
  for (const uint32_t size : m.payload_sizes()) bytes += size;
  if (bytes != m.payloads().size()) {
    return WrongForm("outcomes.payloads",
                     absl::StrCat("must have the ", bytes,
                                  " bytes that outcomes.payload_sizes "
                                  "say; got ",
                                  m.payloads().size()));
  }
  return absl::OkStatus();
}

}  // namespace

GatewaySession::GatewaySession(std::shared_ptr<SessionTable> table,
                               uint16_t serial, uint16_t first_generation,
                               GatewayStream* stream,
                               GatewayAdmission admission)
    : table_(std::move(table)),
      serial_(serial),
      admission_(std::move(admission)),
      stream_(stream),
      handle_table_(serial, first_generation,
                    table_->options().devices_per_session_max),
      hello_until_(kNever),
      finish_until_(kNever),
      credential_until_(kNever),
      sweep_at_(kNever) {}

void GatewaySession::Act(Later& later) {
  if (later.write != nullptr) stream_->StartWrite(later.write);
  if (later.finish) stream_->Finish(*later.finish);
  Report(later.outcomes);
  const int64_t left =
      later.released + static_cast<int64_t>(later.outcomes.size());
  if (left > 0) Release(left);
}

// In pieces: it may be a million.
void GatewaySession::Report(absl::Span<const Outcome> outcomes) {
  while (!outcomes.empty()) {
    const absl::Span<const Outcome> piece = outcomes.subspan(0, kWorkBlockMax);
    table_->sink().OnOutcomes(piece);
    outcomes.remove_prefix(piece.size());
  }
}

// -------------------------------------------------------------------- reading

void GatewaySession::Begin() {
  Later later;
  {
    absl::MutexLock lock(&mutex_);
    begun_ = true;
    if (finish_) {  // Before the stream was up.
      finished_ = true;
      later.finish = *finish_;
    }
  }
  if (later.finish) {
    stream_->Finish(*later.finish);
    return;
  }
  const Gate::Visit visit(table_->gate());
  if (visit && table_->started()) OnStart();
}

void GatewaySession::OnStart() {
  absl::MutexLock lock(&mutex_);
  if (!begun_ || reading_ || finish_) return;
  reading_ = true;
  Clock& clock = *table_->options().clock;
  const absl::Duration now = clock.Monotonic();
  hello_until_ = now + kHelloMax;
  credential_until_ = now + (admission_.expires - clock.Now());
  Arm(std::min(hello_until_, credential_until_));
  stream_->StartRead(&in_);  // Before anybody else can end the stream.
}

void GatewaySession::OnRead(bool ok) {
  const Gate::Visit visit(table_->gate());
  if (!visit) return;  // Abort() ends the stream.
  if (!ok) {
    EndReading(absl::OkStatus());
    return;
  }
  const absl::Status status = TakeFrame();
  ForgetFrame();
  if (!status.ok()) {
    table_->counters().refused_frames.fetch_add(1, std::memory_order_relaxed);
    EndReading(status);
    return;
  }
  stream_->StartRead(&in_);
}

// What one large frame took is not held for good.
void GatewaySession::ForgetFrame() {
  if (in_.SpaceUsedLong() > kFrameMemoryKept) in_ = AttachRequest();
  if (changes_.capacity() > kConnectDevicesMax) {
    changes_ = std::vector<ConnectionChange>();
  }
}

absl::Status GatewaySession::TakeFrame() {
  bool hello_is_due;
  {
    absl::MutexLock lock(&mutex_);
    hello_is_due = phase_ == Phase::kHello;
  }
  if (in_.has_hello() != hello_is_due) {
    return WrongForm("hello", hello_is_due ? "must be in the first frame"
                                           : "must be in the first frame only");
  }
  if (hello_is_due) {
    if (absl::Status s = TakeHello(in_.hello()); !s.ok()) return s;
  }
  if (in_.has_disconnect()) {
    if (absl::Status s = TakeDisconnect(in_.disconnect()); !s.ok()) return s;
  }
  if (in_.has_connect()) {
    if (absl::Status s = TakeConnect(in_.connect()); !s.ok()) return s;
  }
  if (in_.outcomes_size() > kOutcomesMax) {
    return WrongForm("outcomes",
                     absl::StrCat("must be at most ", kOutcomesMax,
                                  " entries; got ", in_.outcomes_size()));
  }
  for (const AttachRequest::Outcomes& outcomes : in_.outcomes()) {
    if (absl::Status s = TakeOutcomes(outcomes); !s.ok()) return s;
  }
  if (in_.work_credit() > kWorkCreditMax) {
    return WrongForm("work_credit",
                     absl::StrCat("must be at most ", kWorkCreditMax, "; got ",
                                  in_.work_credit()));
  }
  Later later;
  {
    absl::MutexLock lock(&mutex_);
    if (in_.work_credit() != 0) credit_ = in_.work_credit();
    Pump(&later);
  }
  Act(later);
  return absl::OkStatus();
}

absl::Status GatewaySession::TakeHello(const AttachRequest::Hello& hello) {
  if (hello.protocol_version() != kVersion) {
    return WrongForm(
        "hello.protocol_version",
        absl::StrCat("must be ", kVersion, "; got ", hello.protocol_version()));
  }
  if (hello.gateway().empty() || hello.gateway().size() > 128) {
    return WrongForm("hello.gateway",
                     absl::StrCat("must have 1 to 128 characters; got ",
                                  hello.gateway().size()));
  }
  if (hello.work_credit() > kWorkCreditMax) {
    return WrongForm("hello.work_credit",
                     absl::StrCat("must be at most ", kWorkCreditMax, "; got ",
                                  hello.work_credit()));
  }
  table_->counters().sessions.fetch_add(1, std::memory_order_relaxed);
  absl::MutexLock lock(&mutex_);
  name_ = hello.gateway();
  credit_ = hello.work_credit() == 0 ? kWorkCreditDefault : hello.work_credit();
  phase_ = Phase::kOpen;
  welcome_ = true;
  hello_until_ = kNever;
  return absl::OkStatus();
}

absl::Status GatewaySession::TakeDisconnect(
    const AttachRequest::Disconnect& disconnect) {
  if (disconnect.handles_size() > kDisconnectHandlesMax) {
    return WrongForm("disconnect.handles",
                     absl::StrCat("must be at most ", kDisconnectHandlesMax,
                                  "; got ", disconnect.handles_size()));
  }
  changes_.clear();
  {
    absl::MutexLock lock(&mutex_);
    for (const uint32_t handle : disconnect.handles()) {
      if (handle == 0) {
        return WrongForm("disconnect.handles", "must be 1 or more; got 0");
      }
      // Those that are dropped are the engine's no more.
      if (handle_table_.state(handle) == HandleTable::State::kAttached) {
        changes_.push_back({.device_id = handle_table_.id(handle),
                            .connected = false,
                            .link = handle_table_.LinkOf(handle)});
      }
    }
  }
  if (!changes_.empty()) table_->sink().OnConnections(changes_, {});
  int64_t unknown = 0;
  absl::MutexLock lock(&mutex_);
  for (const uint32_t handle : disconnect.handles()) {
    if (handle_table_.state(handle) == HandleTable::State::kFree) {
      ++unknown;
    } else {
      handle_table_.Free(handle);
    }
  }
  if (unknown > 0) {
    table_->counters().handles_unknown.fetch_add(unknown,
                                                 std::memory_order_relaxed);
  }
  StaleWork();
  return absl::OkStatus();
}

// Work may wait for devices that have been detached: it is looked for soon.
void GatewaySession::StaleWork() {
  if (waiting_.empty() || waiting_is_stale_) return;
  waiting_is_stale_ = true;
  sweep_at_ =
      std::min(sweep_at_, table_->options().clock->Monotonic() + kSweepTime);
  Arm(sweep_at_);
}

absl::Status GatewaySession::TakeConnect(
    const AttachRequest::Connect& connect) {
  const int count = connect.device_ids_size();
  if (count > kConnectDevicesMax) {
    return WrongForm(
        "connect.device_ids",
        absl::StrCat("must be at most ", kConnectDevicesMax, "; got ", count));
  }
  changes_.clear();
  handles_.clear();  // Of each device; 0: it is refused.
  for (const std::string& id : connect.device_ids()) {
    if (id.empty() || id.size() > HandleTable::kIdSizeMax) {
      return WrongForm("connect.device_ids",
                       absl::StrCat("must have 1 to ", HandleTable::kIdSizeMax,
                                    " bytes each; got ", id.size()));
    }
    // Without the mutex, for which Send() would wait.
    const bool covered = admission_.covers == nullptr || admission_.covers(id);
    handles_.push_back(covered ? 0 : kNotCovered);
  }
  AttachResponse::Connected connected;
  const auto refuse = [&connected](int position, absl::StatusCode code,
                                   const char* message) {
    AttachResponse::Connected::Refusal* const refusal =
        connected.add_refusals();
    refusal->set_position(position);
    refusal->mutable_error()->set_code(static_cast<int>(code));
    refusal->mutable_error()->set_message(message);
  };
  {
    absl::MutexLock lock(&mutex_);
    // What is in the frame that is being written may be there already.
    if (connected_.size() >= kConnectCredit) {
      return MakeError(ErrorCode::kThrottlingException,
                       absl::StrCat("connect: ", kConnectCredit,
                                    " frames are unanswered, which is the "
                                    "most that Welcome allows"));
    }
    announcing_ = true;
    for (int i = 0; i < count; ++i) {
      const std::string& id = connect.device_ids(i);
      if (handles_[i] == kNotCovered) continue;
      handles_[i] = handle_table_.Attach(id);
      if (handles_[i] == 0) continue;
      changes_.push_back({.device_id = id,
                          .connected = true,
                          .link = handle_table_.LinkOf(handles_[i])});
    }
  }
  answers_.assign(changes_.size(), {});
  if (!changes_.empty()) {
    table_->sink().OnConnections(changes_, absl::MakeSpan(answers_));
  }
  previous_.clear();
  connected.mutable_handles()->Reserve(count);
  {
    absl::MutexLock lock(&mutex_);
    size_t change = 0;
    for (int i = 0; i < count; ++i) {
      uint32_t handle = handles_[i];
      if (handle == 0) {
        refuse(i, absl::StatusCode::kResourceExhausted, "too many devices");
      } else if (handle == kNotCovered) {
        handle = 0;
        refuse(i, absl::StatusCode::kPermissionDenied,
               "the credential does not cover the device");
      } else {
        const ConnectionAnswer& answer = answers_[change++];
        if (answer.previous_link != 0) {
          previous_.push_back(answer.previous_link);
        }
        if (!answer.known) {
          handle_table_.Free(handle);
          handle = 0;
          refuse(i, absl::StatusCode::kNotFound, "no such twin");
        }
      }
      connected.add_handles(handle);
    }
    connected_.push_back(std::move(connected));
    announcing_ = false;
  }
  if (!previous_.empty()) {
    table_->Drop(previous_, AttachResponse::Dropped::REASON_TAKEN_OVER);
  }
  return absl::OkStatus();
}

absl::Status GatewaySession::TakeOutcomes(const AttachRequest::Outcomes& m) {
  const uint64_t count =
      m.positions().empty() ? m.count() : m.positions().size();
  if (absl::Status s = CheckOutcomes(m, count); !s.ok()) return s;
  outcomes_.clear();
  {
    absl::MutexLock lock(&mutex_);
    WorkBlock* const range = ranges_.Find(m.range());
    if (range != nullptr) {
      CollectOutcomes(m, range);
      unanswered_ -= static_cast<int64_t>(outcomes_.size());
      if (range->unanswered == 0) GiveBack(ranges_.Remove(m.range()));
    }
  }
  SessionTable::Counters& counters = table_->counters();
  const int64_t taken = static_cast<int64_t>(outcomes_.size());
  if (static_cast<uint64_t>(taken) < count) {
    counters.outcomes_dropped.fetch_add(static_cast<int64_t>(count) - taken,
                                        std::memory_order_relaxed);
  }
  if (taken == 0) return absl::OkStatus();
  counters.outcomes.fetch_add(taken, std::memory_order_relaxed);
  if (!m.payloads().empty()) CheckPayloads();
  table_->sink().OnOutcomes(outcomes_);
  Release(taken);
  return absl::OkStatus();
}

// Fills outcomes_ with those that the range still waits for.
void GatewaySession::CollectOutcomes(const AttachRequest::Outcomes& m,
                                     WorkBlock* range) {
  const size_t size = range->attempts.size();
  const char* const codes = m.codes().empty() ? nullptr : m.codes().data();
  const int32_t* const statuses = m.statuses().data();
  const bool own_status = m.statuses_size() > 1;
  const int32_t status = m.statuses_size() == 1 ? m.statuses(0) : 0;
  const bool own_payload = m.payload_sizes_size() > 1;
  const uint32_t* const payload_sizes = m.payload_sizes().data();
  const char* payload = m.payloads().data();
  size_t payload_size = own_payload ? 0 : m.payloads().size();

  const bool is_run = m.positions().empty();
  const uint32_t* const positions = m.positions().data();
  const size_t first = m.first();
  const size_t count =
      is_run ? std::min<size_t>(m.count(), size - std::min(first, size))
             : m.positions().size();
  outcomes_.reserve(std::min<size_t>(count, range->unanswered));
  for (size_t i = 0; i < count; ++i) {
    if (own_payload) payload_size = payload_sizes[i];
    const char* const text = payload;
    if (own_payload) payload += payload_size;
    const size_t position = is_run ? first + i : positions[i];
    if (position >= size || !range->Answer(position)) continue;
    Outcome& outcome = outcomes_.emplace_back();
    outcome.attempt = range->attempts[position];
    outcome.code = codes == nullptr ? OutcomeCode::kAnswered
                                    : static_cast<OutcomeCode>(codes[i] - 1);
    if (outcome.code != OutcomeCode::kAnswered) continue;
    outcome.status = own_status ? statuses[i] : status;
    outcome.payload = absl::string_view(text, payload_size);
  }
}

// Whoever wrote the gateway: what callers are shown as JSON is JSON.
void GatewaySession::CheckPayloads() {
  absl::string_view last;  // Many devices say the same.
  bool last_is_json = false;
  for (Outcome& outcome : outcomes_) {
    const absl::string_view text = outcome.payload;
    if (text.empty()) continue;
    if (text.size() > kMethodPayloadSizeMax) {
      outcome.code = OutcomeCode::kResponseTooLarge;
      outcome.payload = {};
      continue;
    }
    if (text != last) {
      if (parser_ == nullptr) parser_ = std::make_unique<JsonParser>();
      last = text;
      last_is_json = parser_->ParseView(text).ok();
      if (text.size() > kParsedSizeKept) parser_ = nullptr;
    }
    if (!last_is_json) {
      outcome.code = OutcomeCode::kBadResponse;
      outcome.payload = {};
    }
  }
}

// No frame is read any more.  Called once, by the reading side.
void GatewaySession::EndReading(const absl::Status& status) {
  Later later;
  {
    absl::MutexLock lock(&mutex_);
    phase_ = Phase::kEnding;
    Finish(status, &later);
  }
  Act(later);
  ReportSoon();
}

void GatewaySession::ReportSoon() {
  table_->options().executor->Run(
      [self = shared_from_this()] { self->ReportGone(); });
}

// Reports some devices of the ended stream as disconnected, and once all have
// been what became of its executions.
void GatewaySession::ReportGone() {
  const Gate::Visit visit(table_->gate());
  if (!visit) return;
  changes_.clear();
  Later later;
  bool gone = false;
  {
    absl::MutexLock lock(&mutex_);
    const uint32_t end = handle_table_.end();
    while (reported_ + 1 < end && changes_.size() < kConnectDevicesMax) {
      const uint32_t handle = ++reported_;
      if (handle_table_.state(handle) != HandleTable::State::kAttached) {
        continue;
      }
      changes_.push_back({.device_id = handle_table_.id(handle),
                          .connected = false,
                          .link = handle_table_.LinkOf(handle)});
    }
    if (changes_.empty()) {
      gone = true;
      phase_ = Phase::kGone;
      ranges_.ForEach([&](WorkBlock& range) {
        for (size_t i = 0; i < range.attempts.size(); ++i) {
          if (range.IsAnswered(i)) continue;
          later.outcomes.push_back(
              {.attempt = range.attempts[i], .code = OutcomeCode::kLinkLost});
        }
      });
      ReturnWaiting(&later);
      ForgetWork();
    }
  }
  if (!gone) {
    table_->sink().OnConnections(changes_, {});
    ReportSoon();
    return;
  }
  Act(later);
  table_->Remove(this);
}

void GatewaySession::ForgetWork() {
  ranges_ = RangeTable();
  waiting_.clear();
  spare_.clear();
  desired_.clear();
  connected_.clear();
  dropped_.clear();
  waiting_executions_ = unanswered_ = 0;
  desired_waiting_ = desired_bytes_ = 0;
  sweep_at_ = kNever;
}

// -------------------------------------------------------------------- the end

// `status` is that of the stream, unless it has one already.
void GatewaySession::Finish(absl::Status status, Later* later) {
  if (finish_) return;
  finish_ = std::move(status);
  hello_until_ = credential_until_ = kNever;
  if (!begun_) return;
  if (writing_) {
    finish_until_ = table_->options().clock->Monotonic() + kFinishMax;
    Arm(finish_until_);
    return;
  }
  finished_ = true;
  later->finish = *finish_;
}

void GatewaySession::Close(const absl::Status& status) {
  Later later;
  {
    absl::MutexLock lock(&mutex_);
    Finish(status, &later);
  }
  if (later.finish) stream_->Finish(*later.finish);
}

void GatewaySession::Abort(const absl::Status& status) {
  {
    absl::MutexLock lock(&mutex_);
    phase_ = Phase::kGone;
    ForgetWork();
  }
  Close(status);
}

void GatewaySession::OnEnd() {
  bool was_read;
  {
    absl::MutexLock lock(&mutex_);
    ended_ = true;
    was_read = reading_;
    reading_ = true;  // Not from here on.
  }
  if (!was_read) table_->Remove(this);  // There is nothing to report.
}

// -------------------------------------------------------------------- writing

void GatewaySession::OnWritten(bool ok) {
  Later later;
  {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok) broken_ = true;  // Reading ends, too.
    if (finish_ && !finished_) {
      finished_ = true;
      finish_until_ = kNever;
      later.finish = *finish_;
    }
  }
  if (later.finish) {
    stream_->Finish(*later.finish);
    return;
  }
  const Gate::Visit visit(table_->gate());
  if (!visit) return;
  {
    absl::MutexLock lock(&mutex_);
    Pump(&later);
  }
  Act(later);
}

// Begins to write what there is, if nothing is being written.
void GatewaySession::Pump(Later* later) {
  if (writing_ || broken_ || finish_ || phase_ != Phase::kOpen) return;
  if (!HasSomething() || !FillFrame(later)) return;
  writing_ = true;
  later->write = &frame_;
}

// Whether there is anything for a frame: asked by each Send().
bool GatewaySession::HasSomething() const {
  if (welcome_ || !connected_.empty()) return true;
  if (announcing_) return false;
  return !dropped_.empty() || !desired_.empty() ||
         draining_ != draining_told_ ||
         (!waiting_.empty() && HasCreditForFront());
}

// A gateway at its credit answers one by one, perhaps: what comes back is
// gathered until it is worth a range.  With nothing unanswered there is enough.
bool GatewaySession::HasCreditForFront() const {
  const int64_t worth =
      std::min(kRangeCredit, std::max<int64_t>(1, credit_ / 16));
  return credit_ - unanswered_ >=
         std::min(worth, static_cast<int64_t>(waiting_.front()->size()));
}

// False: it came to nothing.
bool GatewaySession::FillFrame(Later* later) {
  frame_.Clear();
  bool some = false;
  if (welcome_) {
    welcome_ = false;
    frame_.mutable_welcome()->set_protocol_version(kVersion);
    frame_.mutable_welcome()->set_connect_credit(kConnectCredit);
    some = true;
  }
  size_t bytes = FillConnected();
  some |= bytes > 0;
  // What names handles comes behind all that tells them.
  if (!connected_.empty() || announcing_) return some;
  FillDropped();
  bytes += FillDesired();
  FillMethods(bytes, later);
  some |= frame_.dropped_size() > 0 || frame_.desired_size() > 0 ||
          frame_.methods_size() > 0;
  if (draining_ && !draining_told_) {
    draining_told_ = some = true;
    frame_.set_draining(true);
  }
  return some;
}

size_t GatewaySession::FillConnected() {
  size_t bytes = 0;
  while (!connected_.empty() && bytes < kFrameBytesMax) {
    frame_.add_connected()->Swap(&connected_.front());
    connected_.pop_front();
    bytes += frame_.connected(frame_.connected_size() - 1).ByteSizeLong() + 8;
  }
  return bytes;
}

void GatewaySession::FillDropped() {
  size_t count = 0, told = 0;
  while (count < dropped_.size() && told < kFrameDroppedMax) {
    const DroppedLink& dropped = dropped_[count++];
    const LinkParts parts = SplitLink(dropped.link);
    // Gone meanwhile, and perhaps another device's.
    if (!handle_table_.IsDropped(dropped.link)) continue;
    const int last = frame_.dropped_size() - 1;
    AttachResponse::Dropped* const group =
        last >= 0 && frame_.dropped(last).reason() == dropped.reason
            ? frame_.mutable_dropped(last)
            : frame_.add_dropped();
    group->set_reason(dropped.reason);
    group->add_handles(parts.handle);
    ++told;
  }
  dropped_.erase(dropped_.begin(),
                 dropped_.begin() + static_cast<ptrdiff_t>(count));
}

size_t GatewaySession::FillDesired() {
  size_t bytes = 0;
  while (!desired_.empty() && bytes < kFrameBytesMax / 2) {
    DesiredBlock& block = desired_.front();
    AttachResponse::DesiredUpdate* const update = frame_.add_desired();
    for (size_t i = 0; i < block.links.size(); ++i) {
      if (!handle_table_.IsGood(block.links[i])) continue;
      update->add_handles(SplitLink(block.links[i]).handle);
      update->add_versions(block.versions[i]);
    }
    desired_waiting_ -= block.links.size();
    desired_bytes_ -= block.patch.size() + kDesiredBlockBytes;
    if (update->handles().empty()) {
      frame_.mutable_desired()->RemoveLast();
    } else {
      bytes += block.patch.size() + 14 * block.links.size();
      update->set_patch(std::move(block.patch));
    }
    desired_.pop_front();
  }
  return bytes;
}

void GatewaySession::FillMethods(size_t bytes, Later* later) {
  if (waiting_.empty()) return;
  const absl::Duration now = table_->options().clock->Monotonic();
  size_t executions = 0;
  while (!waiting_.empty() && executions < kFrameExecutionsMax &&
         bytes < kFrameBytesMax && HasCreditForFront()) {
    WorkBlock& front = *waiting_.front();
    if (front.deadline() <= now) {
      LoseAll(front, later);
      waiting_executions_ -= static_cast<int64_t>(front.size());
      GiveBack(std::move(waiting_.front()));
      waiting_.pop_front();
      continue;
    }
    const size_t count = std::min<size_t>(
        front.size(), static_cast<size_t>(credit_ - unanswered_));
    waiting_executions_ -= static_cast<int64_t>(count);
    const uint64_t* const links = front.links.data() + front.begin;

    AttachResponse::MethodWork* const work = frame_.add_methods();
    work->mutable_handles()->Reserve(static_cast<int>(count));
    uint32_t* const handles =
        work->mutable_handles()->AddNAlreadyReserved(static_cast<int>(count));
    AttemptKey* const attempts = front.attempts.data() + front.begin;
    size_t good = 0;
    for (size_t i = 0; i < count; ++i) {
      if (ABSL_PREDICT_FALSE(!handle_table_.IsGood(links[i]))) {
        later->outcomes.push_back(
            {.attempt = attempts[i], .code = OutcomeCode::kNotConnected});
        continue;
      }
      handles[good] = SplitLink(links[i]).handle;
      attempts[good] = attempts[i];
      ++good;
    }
    work->mutable_handles()->Truncate(static_cast<int>(good));

    if (good == 0) {
      frame_.mutable_methods()->RemoveLast();
      front.begin += count;
      if (front.size() == 0) {
        GiveBack(std::move(waiting_.front()));
        waiting_.pop_front();
      }
      continue;
    }
    std::unique_ptr<WorkBlock> range;
    if (count == front.attempts.size() &&
        front.attempts.capacity() <= CapacityFor(good)) {
      range = std::move(waiting_.front());
      waiting_.pop_front();
      range->attempts.resize(good);
      range->links.clear();
    } else {
      // As much of it as there is credit; or all of it, but a range that waits
      // for a few outcomes does not hold the room of many.
      range = TakeBlock(CapacityFor(good));
      range->method = front.method;
      range->since = front.since;
      range->attempts.assign(attempts, attempts + good);
      front.begin += count;
      if (front.size() == 0) {
        GiveBack(std::move(waiting_.front()));
        waiting_.pop_front();
      }
    }
    const MethodCall& method = *range->method;
    range->unanswered = static_cast<uint32_t>(good);
    range->expires = range->deadline() + kOutcomeGrace;
    sweep_at_ = std::min(sweep_at_, range->expires);
    work->set_method_name(method.name);
    work->set_payload(method.payload);
    work->set_response_timeout_ms(static_cast<uint32_t>(std::max<int64_t>(
        1, (range->deadline() - now) / absl::Milliseconds(1))));
    unanswered_ += static_cast<int64_t>(good);
    executions += good;
    bytes += 4 * good + method.payload.size() + method.name.size() + 32;
    work->set_range(ranges_.Add(std::move(range)));
  }
  table_->counters().executions_sent.fetch_add(static_cast<int64_t>(executions),
                                               std::memory_order_relaxed);
  Arm(sweep_at_);
}

// All that waits has never been sent, and never will be.
void GatewaySession::ReturnWaiting(Later* later) {
  for (const std::unique_ptr<WorkBlock>& block : waiting_) {
    for (size_t i = block->begin; i < block->attempts.size(); ++i) {
      later->outcomes.push_back(
          {.attempt = block->attempts[i], .code = OutcomeCode::kNotConnected});
    }
  }
  waiting_.clear();
  waiting_executions_ = 0;
}

// Nobody waits for these any more: their time is over, or they never went to a
// device that is no longer here.
void GatewaySession::LoseAll(const WorkBlock& block, Later* later) {
  int64_t expired = 0;
  for (size_t i = block.begin; i < block.attempts.size(); ++i) {
    const bool good = handle_table_.IsGood(block.links[i]);
    expired += good;
    later->outcomes.push_back(
        {.attempt = block.attempts[i],
         .code = good ? OutcomeCode::kTimeout : OutcomeCode::kNotConnected});
  }
  table_->counters().expired_waiting.fetch_add(expired,
                                               std::memory_order_relaxed);
}

// With room for that many, or less.
std::unique_ptr<WorkBlock> GatewaySession::TakeBlock(size_t capacity_max) {
  for (size_t i = spare_.size(); i-- > 0;) {
    if (spare_[i]->attempts.capacity() > capacity_max) continue;
    std::unique_ptr<WorkBlock> block = std::move(spare_[i]);
    spare_[i] = std::move(spare_.back());
    spare_.pop_back();
    return block;
  }
  return std::make_unique<WorkBlock>();
}

void GatewaySession::GiveBack(std::unique_ptr<WorkBlock> block) {
  if (spare_.size() >= kSpareBlocks) return;
  block->Clear();
  spare_.push_back(std::move(block));
}

// ------------------------------------------------------ the transport's side

int64_t GatewaySession::Reserve(int64_t wanted) {
  const int64_t max = table_->options().in_flight_max;
  int64_t now = in_flight_.load();
  while (true) {
    const int64_t got = std::clamp<int64_t>(max - now, 0, wanted);
    if (got == 0 || in_flight_.compare_exchange_weak(now, now + got)) {
      return got;
    }
  }
}

// Room is announced when an eighth is free, not one by one.
bool GatewaySession::HasRoom(int64_t in_flight) const {
  const int64_t max = table_->options().in_flight_max;
  return in_flight <= max - std::max<int64_t>(1, max / 8);
}

void GatewaySession::Release(int64_t count) {
  // (1) Before the load of ready_owed_, in the one order of all.
  const int64_t now = in_flight_.fetch_sub(count) - count;
  if (HasRoom(now) && ready_owed_.load() && ready_owed_.exchange(false)) {
    table_->sink().OnReady();
  }
}

void GatewaySession::OweReady() {
  ready_owed_.store(true);
  // (2) After the store of ready_owed_: one of the two sees the other.
  if (HasRoom(in_flight_.load()) && ready_owed_.exchange(false)) {
    table_->sink().OnReady();
  }
}

void GatewaySession::Send(const std::shared_ptr<const MethodCall>& method,
                          absl::Duration now,
                          absl::Span<const AttemptKey> attempts,
                          absl::Span<const uint64_t> links) {
  Later later;
  {
    absl::MutexLock lock(&mutex_);
    if (phase_ == Phase::kGone || draining_) {
      for (const AttemptKey attempt : attempts) {
        later.outcomes.push_back(
            {.attempt = attempt, .code = OutcomeCode::kNotConnected});
      }
    } else {
      Enqueue(method, now, attempts, links);
      Pump(&later);
    }
  }
  Act(later);
}

void GatewaySession::Enqueue(const std::shared_ptr<const MethodCall>& method,
                             absl::Duration now,
                             absl::Span<const AttemptKey> attempts,
                             absl::Span<const uint64_t> links) {
  waiting_executions_ += static_cast<int64_t>(attempts.size());
  WorkBlock* block = nullptr;
  const size_t open = std::min<size_t>(kOpenBlocks, waiting_.size());
  for (size_t i = 1; i <= open && block == nullptr; ++i) {
    WorkBlock& candidate = *waiting_[waiting_.size() - i];
    if (candidate.method == method && now - candidate.since < kBlockTime) {
      block = &candidate;
    }
  }
  while (!attempts.empty()) {
    if (block == nullptr || block->attempts.size() >= kWorkBlockMax) {
      waiting_.push_back(TakeBlock(kWorkBlockMax));
      block = waiting_.back().get();
      block->method = method;
      block->since = now;
      const absl::Duration deadline = block->deadline();
      if (deadline < sweep_at_) {
        sweep_at_ = deadline;
        Arm(sweep_at_);
      }
    }
    const size_t count =
        std::min(attempts.size(), kWorkBlockMax - block->attempts.size());
    block->attempts.insert(block->attempts.end(), attempts.begin(),
                           attempts.begin() + count);
    block->links.insert(block->links.end(), links.begin(),
                        links.begin() + count);
    attempts.remove_prefix(count);
    links.remove_prefix(count);
  }
}

void GatewaySession::Notify(
    absl::Span<const DesiredNotification> notifications) {
  int64_t dropped = 0;
  Later later;
  {
    absl::MutexLock lock(&mutex_);
    for (const DesiredNotification& n : notifications) {
      if (phase_ != Phase::kOpen || !handle_table_.IsGood(n.link)) continue;
      const bool joins = !desired_.empty() &&
                         desired_.back().links.size() < kNotificationsMax &&
                         desired_.back().patch == n.patch;
      if (desired_waiting_ >= kDesiredWaitingMax ||
          (!joins && desired_bytes_ + n.patch.size() + kDesiredBlockBytes >
                         kDesiredBytesMax)) {
        ++dropped;
        continue;
      }
      if (!joins) {
        desired_.emplace_back().patch.assign(n.patch.data(), n.patch.size());
        desired_bytes_ += n.patch.size() + kDesiredBlockBytes;
      }
      desired_.back().links.push_back(n.link);
      desired_.back().versions.push_back(n.version);
      ++desired_waiting_;
    }
    Pump(&later);
  }
  if (dropped > 0) {
    table_->counters().notifications_dropped.fetch_add(
        dropped, std::memory_order_relaxed);
  }
  Act(later);
}

void GatewaySession::Drop(absl::Span<const uint64_t> links,
                          AttachResponse::Dropped::Reason reason) {
  Later later;
  {
    absl::MutexLock lock(&mutex_);
    for (const uint64_t link : links) {
      if (!handle_table_.Drop(link)) continue;
      if (phase_ == Phase::kOpen) dropped_.push_back({link, reason});
    }
    StaleWork();
    Pump(&later);
  }
  Act(later);
}

void GatewaySession::Drain() {
  Later later;
  {
    absl::MutexLock lock(&mutex_);
    draining_ = true;
    ReturnWaiting(&later);
    Pump(&later);
  }
  Act(later);
}

uint16_t GatewaySession::next_first_generation() const {
  absl::MutexLock lock(&mutex_);
  return handle_table_.next_first_generation();
}

AttachedGateway GatewaySession::stats() const {
  absl::MutexLock lock(&mutex_);
  AttachedGateway stats;
  stats.name = name_;
  stats.peer = admission_.peer;
  stats.devices = handle_table_.size();
  stats.waiting = waiting_executions_;
  stats.unanswered = unanswered_;
  stats.credit = credit_;
  return stats;
}

size_t GatewaySession::device_memory() const {
  absl::MutexLock lock(&mutex_);
  return handle_table_.memory();
}

// ----------------------------------------------------------------------- time

// OnTimer() at `at`, or before.
void GatewaySession::Arm(absl::Duration at) {
  if (at == kNever || (!armed_.empty() && at >= armed_.back())) return;
  at = std::min(at, table_->options().clock->Monotonic() + kTimerMax);
  if (!armed_.empty() && at >= armed_.back()) return;
  armed_.push_back(at);
  table_->options().executor->RunAt(at, [weak = weak_from_this(), at] {
    if (const auto self = weak.lock()) self->OnTimer(at);
  });
}

void GatewaySession::OnTimer(absl::Duration at) {
  Later later;
  const Gate::Visit visit(table_->gate());
  {
    absl::MutexLock lock(&mutex_);
    while (!armed_.empty() && armed_.back() <= at) armed_.pop_back();
    if (ended_) return;
    const absl::Duration now = table_->options().clock->Monotonic();
    if (finish_until_ <= now) {
      finish_until_ = kNever;
      stream_->Cancel();
    }
    if (visit) {
      if (hello_until_ <= now) {
        Finish(absl::DeadlineExceededError(absl::StrCat(
                   "no Hello within ", absl::FormatDuration(kHelloMax))),
               &later);
      }
      if (credential_until_ <= now) {
        Finish(MakeError(ErrorCode::kIotHubUnauthorized,
                         "the gateway's credential has expired"),
               &later);
      }
      if (sweep_at_ <= now) {
        Sweep(now, &later);
        Pump(&later);
      }
    }
    Arm(std::min({hello_until_, finish_until_, credential_until_, sweep_at_}));
  }
  if (visit) Act(later);
}

// Lets go of what nobody waits for any more.
void GatewaySession::Sweep(absl::Duration now, Later* later) {
  sweep_at_ = kNever;
  int64_t expired = 0;
  ranges_.ForEach([&](WorkBlock& range) {
    mutex_.AssertHeld();
    if (range.expires > now) {
      sweep_at_ = std::min(sweep_at_, range.expires);
      return;
    }
    expired += range.unanswered;
    GiveBack(ranges_.Remove(range.number));
  });
  unanswered_ -= expired;
  later->released += expired;
  table_->counters().expired_unanswered.fetch_add(expired,
                                                  std::memory_order_relaxed);
  size_t kept = 0;
  for (std::unique_ptr<WorkBlock>& block : waiting_) {
    const size_t before = block->size();
    if (block->deadline() <= now) {
      LoseAll(*block, later);
      block->begin = block->attempts.size();
    } else if (waiting_is_stale_) {
      LoseStale(block.get(), later);
    }
    waiting_executions_ -= static_cast<int64_t>(before - block->size());
    if (block->size() == 0) {
      GiveBack(std::move(block));
      continue;
    }
    sweep_at_ = std::min(sweep_at_, block->deadline());
    waiting_[kept++].swap(block);
  }
  waiting_.resize(kept);
  waiting_is_stale_ = false;
  if (waiting_.empty() && ranges_.size() == 0) spare_.clear();
  if (sweep_at_ != kNever) sweep_at_ = std::max(sweep_at_, now + kSweepTime);
}

// Takes those out whose devices are gone.
void GatewaySession::LoseStale(WorkBlock* block, Later* later) {
  size_t kept = block->begin;
  for (size_t i = block->begin; i < block->attempts.size(); ++i) {
    if (!handle_table_.IsGood(block->links[i])) {
      later->outcomes.push_back(
          {.attempt = block->attempts[i], .code = OutcomeCode::kNotConnected});
      continue;
    }
    block->attempts[kept] = block->attempts[i];
    block->links[kept] = block->links[i];
    ++kept;
  }
  block->attempts.resize(kept);
  block->links.resize(kept);
}

}  // namespace muster
