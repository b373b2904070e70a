// GatewayTransport: reaches devices through gateways, each over one gRPC
// stream.
//
// A gateway is a process that holds the connections of many devices.  It
// attaches, names its devices, takes work in ranges and sends outcomes back as
// columns: proto/muster/v1/gateway_service.proto has the frames,
// docs/gateway-protocol.md the rules.  Gateways that dial come in through
// gateway_service.h; those that listen are dialled by outbound.h.  Either way
// each stream is a GatewaySession (session.h), which has the rules for
// everything that crosses.
//
//   auto gateways = GatewayTransport::Create({.clock = ..., .executor = ...});
//   engine_options.transport = gateways->get();
//   ... MakeGatewayService(gateways->get(), &guard) ...
//
// Work waits for a gateway's credit in that gateway's own queue, so that a slow
// one does not hold up the others: until in_flight_max executions of it wait or
// are unanswered.  Beyond that Send() takes what stands before the first one
// for which there is no room, and whoever calls it offers the rest again after
// OnReady(): then a slow gateway holds up what stands behind its own work.
//
// What a device costs while it is attached: 6 bytes, its id, and at most 4
// bytes that its id's page has not used; with the link that the engine keeps,
// 31 bytes for an id of 13 and 54 for an id of 36 bytes.  An execution costs 16
// to 32 bytes while it waits, and at most 33 while it is unanswered; and some
// 200 bytes for each range or block of up to 1,024 that it is in.  Executions
// of methods that all differ are one in each.
#ifndef TRANSPORT_GRPC_GATEWAY_GATEWAY_TRANSPORT_H_
#define TRANSPORT_GRPC_GATEWAY_GATEWAY_TRANSPORT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "engine/transport.h"

namespace muster {

class SessionTable;
class GatewaySession;
class GatewayStream;

struct GatewayTransportOptions {
  Clock* clock = nullptr;        // Outlives the transport; not null.
  Executor* executor = nullptr;  // The same.
  // Streams at a time, in [1, 65,535]; more are refused: RESOURCE_EXHAUSTED.
  int sessions_max = 16'384;
  // Devices of one gateway, in [1, 16,777,216]; those beyond it are refused one
  // by one: RESOURCE_EXHAUSTED.
  int devices_per_session_max = 1'048'576;
  // Executions of one gateway that wait or are unanswered, in [1, 16,777,216];
  // beyond it Send() takes fewer.
  int in_flight_max = 1'048'576;
};

// One attached gateway, as it is at the moment.
struct AttachedGateway {
  std::string name;        // What it calls itself; "" before its Hello.
  std::string peer;        // Where it is, as gRPC writes it.
  int64_t devices = 0;     // Attached, and dropped ones that it still has.
  int64_t waiting = 0;     // Executions that are not on their way yet.
  int64_t unanswered = 0;  // Executions that are.
  int64_t credit = 0;      // How many it takes without having answered.
};

// Counted since the transport was made, over all gateways.
struct GatewayTotals {
  int64_t sessions = 0;  // Gateways that have said Hello.
  // Frames that ended their streams: of wrong form, or beyond a credit.
  int64_t refused_frames = 0;
  int64_t executions_sent = 0;
  int64_t outcomes = 0;          // Taken, and handed on.
  int64_t outcomes_dropped = 0;  // Unknown range or position, or a second one.
  int64_t expired_waiting = 0;   // Never sent: their time was over.
  int64_t expired_unanswered = 0;
  int64_t notifications_dropped = 0;  // Too many waited.
  int64_t handles_unknown = 0;        // In a Disconnect; ignored.
};

// What a stream may do, and where it comes from.
struct GatewayAdmission {
  std::string peer;  // For GatewayTransport::gateways().
  // Whether the credential covers a device; null: each.  Called by the thread
  // that reads the stream.
  absl::AnyInvocable<bool(absl::string_view) const> covers;
  // The credential's end: UNAUTHENTICATED.
  absl::Time expires = absl::InfiniteFuture();
};

// Thread-safe.
class GatewayTransport : public Transport {
 public:
  // INVALID_ARGUMENT if an option is out of its range.
  static absl::StatusOr<std::unique_ptr<GatewayTransport>> Create(
      const GatewayTransportOptions& options);

  // As Shutdown().
  ~GatewayTransport() override;

  // Transport.  Streams that are open before Start() are read from there on.
  // Send() takes a mutex per gateway and 1,024 executions, for the time that it
  // takes to copy them, and allocates per block of up to 1,024 only. Shutdown()
  // ends every stream with UNAVAILABLE and waits for calls of the sink to
  // return, so it must not be called from one.
  void Start(TransportSink* sink) override;
  size_t Send(const MethodBatch& batch) override;
  void NotifyDesired(
      absl::Span<const DesiredNotification> notifications) override;
  void Disconnect(absl::Span<const uint64_t> links) override;
  bool wants_device_ids() const override { return false; }
  bool draining() const override;  // Since BeginDrain().
  void Shutdown() override;

  // Tells every gateway that the engine is about to end: no more work goes out,
  // Send() takes none, new streams are refused.  What waits here is reported as
  // kNotConnected before this returns: it has not run.  OnReady() tells those
  // who wait that draining() is true.  Gateways answer what they have and
  // close.  Idempotent.  Must not be called from a TransportSink.
  void BeginDrain();
  // Waits until no gateway is attached; false if that takes longer than
  // `limit`.
  bool AwaitDrained(absl::Duration limit);

  // In the order in which they attached.  Takes each gateway's lock for a
  // moment.
  std::vector<AttachedGateway> gateways() const;
  GatewayTotals totals() const;

  // A new stream; the session lives until the stream has ended and all has been
  // reported.  RESOURCE_EXHAUSTED at sessions_max, UNAVAILABLE after
  // BeginDrain() or Shutdown().  For those who carry frames: session.h.
  absl::StatusOr<std::shared_ptr<GatewaySession>> Open(
      GatewayStream* stream, GatewayAdmission admission);

 private:
  explicit GatewayTransport(std::shared_ptr<SessionTable> table);

  // Shared with the sessions.
  const std::shared_ptr<SessionTable> table_;
};

}  // namespace muster

#endif  // TRANSPORT_GRPC_GATEWAY_GATEWAY_TRANSPORT_H_
