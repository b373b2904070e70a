#include "transport/grpc/gateway/session_table.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "transport/grpc/gateway/handle_table.h"
#include "transport/grpc/gateway/session.h"
#include "transport/grpc/gateway/work_block.h"

namespace muster {
namespace {

constexpr int kSerialMax = 65'535;

uint16_t SerialOf(uint64_t link) { return SplitLink(link).serial; }

// Puts links into groups by their serials, numbered from 0 on as they come.
class Grouping {
 public:
  // REQUIRES: at most kWorkBlockMax serials.
  size_t GroupOf(uint16_t serial) {
    size_t place = (serial * size_t{40503} >> 4) % kPlaces;
    while (groups_[place] != 0) {
      if (serials_[place] == serial) return groups_[place] - 1;
      place = (place + 1) % kPlaces;
    }
    serials_[place] = serial;
    groups_[place] = ++count_;
    return count_ - 1;
  }

 private:
  static constexpr size_t kPlaces = 2 * kWorkBlockMax;
  uint16_t count_ = 0;
  uint16_t groups_[kPlaces] = {};  // 0: a free place.
  uint16_t serials_[kPlaces];
};

}  // namespace

SessionTable::SessionTable(const GatewayTransportOptions& options)
    : options_(options) {}

absl::StatusOr<std::shared_ptr<GatewaySession>> SessionTable::Open(
    GatewayStream* stream, GatewayAdmission admission) {
  absl::MutexLock lock(&mutex_);
  if (closed_ || draining()) {
    return MakeError(ErrorCode::kServiceUnavailable,
                     "the engine is about to end");
  }
  if (session_count_ >= options_.sessions_max) {
    return MakeError(ErrorCode::kThrottlingException,
                     absl::StrCat("there are ", options_.sessions_max,
                                  " gateways, which is the most at a time"));
  }
  // Round and round, so that a serial rests for as long as possible.
  do {
    last_serial_ = static_cast<uint16_t>(
        last_serial_ == kSerialMax ? 1 : last_serial_ + 1);
    if (last_serial_ >= slots_.size()) slots_.resize(last_serial_ + 1);
  } while (slots_[last_serial_].session != nullptr);
  Slot& slot = slots_[last_serial_];
  // Not by make_shared(): a timer that still knows an ended session keeps no
  // more than what counts its references.
  slot.session = std::shared_ptr<GatewaySession>(
      new GatewaySession(shared_from_this(), last_serial_,
                         slot.first_generation, stream, std::move(admission)));
  slot.order = ++opened_;
  ++session_count_;
  return slot.session;
}

void SessionTable::Remove(GatewaySession* session) {
  const uint16_t next = session->next_first_generation();
  std::shared_ptr<GatewaySession> removed;  // Destroyed without the mutex.
  absl::MutexLock lock(&mutex_);
  if (Find(session->serial()).get() != session) return;  // Shut down.
  Slot& slot = slots_[session->serial()];
  slot.session.swap(removed);
  slot.first_generation = next;
  --session_count_;
}

std::shared_ptr<GatewaySession> SessionTable::Find(uint16_t serial) const {
  if (serial >= slots_.size()) return nullptr;
  return slots_[serial].session;
}

std::vector<std::shared_ptr<GatewaySession>> SessionTable::All() const {
  std::vector<std::pair<uint64_t, std::shared_ptr<GatewaySession>>> ordered;
  for (const Slot& slot : slots_) {
    if (slot.session != nullptr) {
      ordered.emplace_back(slot.order, slot.session);
    }
  }
  std::sort(ordered.begin(), ordered.end());
  std::vector<std::shared_ptr<GatewaySession>> sessions;
  for (auto& [order, session] : ordered) sessions.push_back(std::move(session));
  return sessions;
}

void SessionTable::Start(TransportSink* sink) {
  MUSTER_CHECK(sink != nullptr);
  const Gate::Visit visit(gate_);
  if (!visit) return;
  MUSTER_CHECK(!started());
  // Release: whoever sees the sink may call it.
  sink_.store(sink, std::memory_order_release);
  std::vector<std::shared_ptr<GatewaySession>> sessions;
  {
    absl::ReaderMutexLock lock(&mutex_);
    sessions = All();
  }
  for (const auto& session : sessions) session->OnStart();
}

size_t SessionTable::Send(const MethodBatch& batch) {
  MUSTER_CHECK(batch.links.size() == batch.attempts.size());
  const Gate::Visit visit(gate_);
  if (!visit || !started() || draining()) return 0;
  const absl::Duration now = options_.clock->Monotonic();
  size_t sent = 0;
  while (sent < batch.attempts.size()) {
    const auto attempts = batch.attempts.subspan(sent, kWorkBlockMax);
    const size_t taken = SendChunk(batch.method, now, attempts,
                                   batch.links.subspan(sent, attempts.size()));
    sent += taken;
    if (taken < attempts.size()) break;
  }
  return sent;
}

struct SessionTable::Group {
  std::shared_ptr<GatewaySession> session;  // Null: it has gone.
  uint16_t serial = 0;
  uint16_t wanted = 0;
  uint16_t begin = 0;  // In the columns that are sorted by groups.
  size_t end =
      SIZE_MAX;  // Behind the last one that has room, if some have not.
};

// At most kWorkBlockMax executions.  Room is taken in each session first, since
// what is sent has to be a prefix; then each takes its share under one lock.
size_t SessionTable::SendChunk(const std::shared_ptr<const MethodCall>& method,
                               absl::Duration now,
                               absl::Span<const AttemptKey> attempts,
                               absl::Span<const uint64_t> links) {
  const size_t size = links.size();
  absl::InlinedVector<Group, 8> groups;
  uint16_t group_of[kWorkBlockMax];
  // As a rule with one gateway: no need to sort.
  const uint16_t serial = SerialOf(links[0]);
  const bool is_one =
      std::all_of(links.begin(), links.end(),
                  [serial](uint64_t link) { return SerialOf(link) == serial; });
  if (is_one) {
    groups.emplace_back();
    groups[0].serial = serial;
    groups[0].wanted = static_cast<uint16_t>(size);
  } else {
    Grouping grouping;
    for (size_t i = 0; i < size; ++i) {
      const size_t group = grouping.GroupOf(SerialOf(links[i]));
      if (group == groups.size()) {
        groups.emplace_back();
        groups[group].serial = SerialOf(links[i]);
      }
      ++groups[group].wanted;
      group_of[i] = static_cast<uint16_t>(group);
    }
  }
  {
    absl::ReaderMutexLock lock(&mutex_);
    for (Group& group : groups) group.session = Find(group.serial);
  }

  // Room.
  size_t taken = size;
  for (size_t g = 0; g < groups.size(); ++g) {
    Group& group = groups[g];
    if (group.session == nullptr) continue;
    int64_t got = group.session->Reserve(group.wanted);
    if (got == group.wanted) continue;
    const int64_t too_many = group.wanted - got;
    if (is_one) {
      group.end = static_cast<size_t>(got);
    } else {
      for (size_t i = 0; i < size; ++i) {
        if (group_of[i] == g && got-- == 0) {
          group.end = i;
          break;
        }
      }
    }
    group.wanted = static_cast<uint16_t>(group.wanted - too_many);
    taken = std::min(taken, group.end);
  }
  if (taken < size && !is_one) {
    // Others have room for what stands behind the end: they give it back.
    absl::InlinedVector<uint16_t, 8> counts(groups.size());
    for (size_t i = 0; i < taken; ++i) ++counts[group_of[i]];
    for (size_t g = 0; g < groups.size(); ++g) {
      if (groups[g].session != nullptr && groups[g].wanted > counts[g]) {
        groups[g].session->Release(groups[g].wanted - counts[g]);
      }
      groups[g].wanted = counts[g];
    }
  }

  // Columns by groups.
  AttemptKey sorted_attempts[kWorkBlockMax];
  uint64_t sorted_links[kWorkBlockMax];
  if (!is_one) {
    uint16_t begin = 0;
    for (Group& group : groups) {
      group.begin = begin;
      begin = static_cast<uint16_t>(begin + group.wanted);
    }
    for (size_t i = 0; i < taken; ++i) {
      Group& group = groups[group_of[i]];
      sorted_attempts[group.begin] = attempts[i];
      sorted_links[group.begin] = links[i];
      ++group.begin;
    }
    for (Group& group : groups) {
      group.begin = static_cast<uint16_t>(group.begin - group.wanted);
    }
    attempts = sorted_attempts;
    links = sorted_links;
  }

  std::vector<Outcome> gone;
  for (Group& group : groups) {
    if (group.wanted > 0) {
      const auto its_attempts = attempts.subspan(group.begin, group.wanted);
      if (group.session != nullptr) {
        group.session->Send(method, now, its_attempts,
                            links.subspan(group.begin, group.wanted));
      } else {
        for (const AttemptKey attempt : its_attempts) {
          gone.push_back(
              {.attempt = attempt, .code = OutcomeCode::kNotConnected});
        }
      }
    }
    // Whose room has decided: the others may have some.
    if (group.end == taken) group.session->OweReady();
  }
  if (!gone.empty()) sink().OnOutcomes(gone);
  return taken;
}

void SessionTable::NotifyDesired(
    absl::Span<const DesiredNotification> notifications) {
  const Gate::Visit visit(gate_);
  if (!visit || !started()) return;
  // Runs of one session; what is left of a device's stays in its order.
  std::shared_ptr<GatewaySession> session;
  while (!notifications.empty()) {
    const uint16_t serial = SerialOf(notifications[0].link);
    size_t count = 1;
    while (count < notifications.size() &&
           SerialOf(notifications[count].link) == serial) {
      ++count;
    }
    if (session == nullptr || session->serial() != serial) {
      absl::ReaderMutexLock lock(&mutex_);
      session = Find(serial);
    }
    if (session != nullptr) session->Notify(notifications.subspan(0, count));
    notifications.remove_prefix(count);
  }
}

void SessionTable::Drop(absl::Span<const uint64_t> links,
                        v1::AttachResponse::Dropped::Reason reason) {
  const Gate::Visit visit(gate_);
  if (!visit) return;
  std::vector<uint64_t> sorted(links.begin(), links.end());
  std::sort(sorted.begin(), sorted.end());  // By serials.
  for (absl::Span<const uint64_t> left = sorted; !left.empty();) {
    const uint16_t serial = SerialOf(left[0]);
    size_t count = 1;
    while (count < left.size() && SerialOf(left[count]) == serial) ++count;
    std::shared_ptr<GatewaySession> session;
    {
      absl::ReaderMutexLock lock(&mutex_);
      session = Find(serial);
    }
    if (session != nullptr) session->Drop(left.subspan(0, count), reason);
    left.remove_prefix(count);
  }
}

void SessionTable::BeginDrain() {
  const Gate::Visit visit(gate_);
  if (!visit) return;
  std::vector<std::shared_ptr<GatewaySession>> sessions;
  {
    absl::MutexLock lock(&mutex_);
    draining_.store(true, std::memory_order_relaxed);
    sessions = All();
  }
  for (const auto& session : sessions) session->Drain();
  if (started()) sink().OnReady();
}

bool SessionTable::AwaitDrained(absl::Duration limit) {
  absl::ReaderMutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(this, &SessionTable::Empty),
                                 limit);
}

void SessionTable::Shutdown() {
  gate_.Close();
  std::vector<std::shared_ptr<GatewaySession>> sessions;
  {
    absl::MutexLock lock(&mutex_);
    closed_ = true;
    sessions = All();
    slots_.clear();
    session_count_ = 0;
  }
  for (const auto& session : sessions) {
    session->Abort(
        MakeError(ErrorCode::kServiceUnavailable, "the engine has ended"));
  }
}

std::vector<AttachedGateway> SessionTable::gateways() const {
  std::vector<std::shared_ptr<GatewaySession>> sessions;
  {
    absl::ReaderMutexLock lock(&mutex_);
    sessions = All();
  }
  std::vector<AttachedGateway> gateways;
  gateways.reserve(sessions.size());
  for (const auto& session : sessions) gateways.push_back(session->stats());
  return gateways;
}

GatewayTotals SessionTable::totals() const {
  const auto read = [](const std::atomic<int64_t>& counter) {
    return counter.load(std::memory_order_relaxed);
  };
  GatewayTotals totals;
  totals.sessions = read(counters_.sessions);
  totals.refused_frames = read(counters_.refused_frames);
  totals.executions_sent = read(counters_.executions_sent);
  totals.outcomes = read(counters_.outcomes);
  totals.outcomes_dropped = read(counters_.outcomes_dropped);
  totals.expired_waiting = read(counters_.expired_waiting);
  totals.expired_unanswered = read(counters_.expired_unanswered);
  totals.notifications_dropped = read(counters_.notifications_dropped);
  totals.handles_unknown = read(counters_.handles_unknown);
  return totals;
}

}  // namespace muster
