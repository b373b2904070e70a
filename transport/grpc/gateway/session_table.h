// SessionTable: a GatewayTransport's sessions by their serials, and what they
// share.
#ifndef TRANSPORT_GRPC_GATEWAY_SESSION_TABLE_H_
#define TRANSPORT_GRPC_GATEWAY_SESSION_TABLE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/transport.h"
#include "muster/v1/gateway_service.pb.h"
#include "transport/gate.h"
#include "transport/grpc/gateway/gateway_transport.h"

namespace muster {

class GatewaySession;
class GatewayStream;

// Thread-safe.  Owned by the transport and its sessions, which the streams own.
class SessionTable : public std::enable_shared_from_this<SessionTable> {
 public:
  // REQUIRES: options within their ranges.
  explicit SessionTable(const GatewayTransportOptions& options);

  // As GatewayTransport's.
  void Start(TransportSink* sink) ABSL_LOCKS_EXCLUDED(mutex_);
  size_t Send(const MethodBatch& batch) ABSL_LOCKS_EXCLUDED(mutex_);
  void NotifyDesired(absl::Span<const DesiredNotification> notifications)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Shutdown() ABSL_LOCKS_EXCLUDED(mutex_);
  bool draining() const { return draining_.load(std::memory_order_relaxed); }
  void BeginDrain() ABSL_LOCKS_EXCLUDED(mutex_);
  bool AwaitDrained(absl::Duration limit) ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<AttachedGateway> gateways() const ABSL_LOCKS_EXCLUDED(mutex_);
  GatewayTotals totals() const;
  absl::StatusOr<std::shared_ptr<GatewaySession>> Open(
      GatewayStream* stream, GatewayAdmission admission)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Links of any sessions; those that are good no more are ignored.
  void Drop(absl::Span<const uint64_t> links,
            v1::AttachResponse::Dropped::Reason reason)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // For the sessions.
  const GatewayTransportOptions& options() const { return options_; }
  Gate& gate() { return gate_; }
  // REQUIRES: started().
  TransportSink& sink() { return *sink_.load(std::memory_order_acquire); }
  bool started() const {
    return sink_.load(std::memory_order_acquire) != nullptr;
  }
  // The session has reported all.
  void Remove(GatewaySession* session) ABSL_LOCKS_EXCLUDED(mutex_);

  // Relaxed, all of them: they stand for themselves.
  struct Counters {
    std::atomic<int64_t> sessions{0};
    std::atomic<int64_t> refused_frames{0};
    std::atomic<int64_t> executions_sent{0};
    std::atomic<int64_t> outcomes{0};
    std::atomic<int64_t> outcomes_dropped{0};
    std::atomic<int64_t> expired_waiting{0};
    std::atomic<int64_t> expired_unanswered{0};
    std::atomic<int64_t> notifications_dropped{0};
    std::atomic<int64_t> handles_unknown{0};
  };
  Counters& counters() { return counters_; }

 private:
  struct Slot {
    std::shared_ptr<GatewaySession> session;  // Null: the serial is free.
    uint16_t first_generation = 0;
    uint64_t order = 0;  // Of attaching.
  };
  struct Group;

  size_t SendChunk(const std::shared_ptr<const MethodCall>& method,
                   absl::Duration now, absl::Span<const AttemptKey> attempts,
                   absl::Span<const uint64_t> links)
      ABSL_LOCKS_EXCLUDED(mutex_);
  std::shared_ptr<GatewaySession> Find(uint16_t serial) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  std::vector<std::shared_ptr<GatewaySession>> All() const
      ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  bool Empty() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return session_count_ == 0;
  }

  const GatewayTransportOptions options_;
  Gate gate_;
  std::atomic<TransportSink*> sink_{nullptr};
  std::atomic<bool> draining_{false};
  Counters counters_;

  // Held while no session is called, and no sink.
  mutable absl::Mutex mutex_;
  std::vector<Slot> slots_
      ABSL_GUARDED_BY(mutex_);  // By serial; 0 is nobody's.
  uint16_t last_serial_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t opened_ ABSL_GUARDED_BY(mutex_) = 0;
  int session_count_ ABSL_GUARDED_BY(mutex_) = 0;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace muster

#endif  // TRANSPORT_GRPC_GATEWAY_SESSION_TABLE_H_
