// LoopbackTransport: a fleet of simulated devices in process, behind the
// Transport port: for tests, demonstrations and benchmarks.
//
// What a device does with a call is drawn from the seed, its id and the
// method's name, so that two runs agree on every device.  Tests may script
// methods instead, connect and disconnect devices by hand, and read what
// arrived.
//
//   auto fleet = LoopbackTransport::Create(options, &clock, &executor);
//   (*fleet)->AddDevices({"thermo-041", "thermo-042"});
//   (*fleet)->SetHandler("lockDoor", [](const LoopbackCall& call) {
//     return LoopbackReply{.status = 200, .payload = R"({"locked":true})"};
//   });
//
// Time: outcomes with a delay, drops and reconnects fall on ticks of 1 ms and
// are reported in batches from one callback per tick.  Outcomes without a delay
// are reported from inside Send().
//
// Cost, measured with batches of 256 on one core: with the default options, no
// handlers and no device disconnected or removed, 2.5 ns for an execution in
// Send(), which then allocates nothing and takes no lock.  With shares or some
// devices away about 50 ns, with latencies about 200 ns; without
// options.answer_unknown 200 ns more, because each device has to be found among
// all.  A device takes about 30 bytes and its id, 16 more if it will drop or
// reconnect; a call in flight takes 24 bytes and its payload.
#ifndef TRANSPORT_LOOPBACK_LOOPBACK_H_
#define TRANSPORT_LOOPBACK_LOOPBACK_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
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
#include "transport/loopback/loopback_options.h"

namespace muster {

// A call as the device sees it.  Valid while the handler runs.
struct LoopbackCall {
  absl::string_view device_id;
  absl::string_view method;
  absl::string_view payload;  // JSON text.
  AttemptKey attempt;
};

// What a scripted device does.
struct LoopbackReply {
  // nullopt: it runs the method and never answers.
  std::optional<OutcomeCode> code = OutcomeCode::kAnswered;
  int32_t status = 200;  // With kAnswered.
  // With kAnswered.  Empty means null.  Text that is no JSON arrives as
  // kBadResponse, more than 128 KB as kResponseTooLarge.
  std::string payload;
  absl::Duration delay = absl::ZeroDuration();  // >= 0; options.latency aside.

  static LoopbackReply Never() {
    LoopbackReply reply;
    reply.code.reset();
    return reply;
  }
};

// Called without locks, on the thread that called Send(): from several at once
// if Send() is.  May call the transport back, but not Shutdown().
using LoopbackHandler =
    absl::AnyInvocable<LoopbackReply(const LoopbackCall& call) const>;

// A method that ran on a device, or may have run.
struct LoopbackCallRecord {
  std::string device_id;
  std::string method;
  std::string payload;
  AttemptKey attempt;
  absl::Time time;
};

// A change of desired properties that a connected device was told of.
struct LoopbackNotificationRecord {
  std::string device_id;
  std::string patch;
  int64_t version = 0;
  absl::Time time;
};

// Thread-safe.
class LoopbackTransport : public Transport {
 public:
  // INVALID_ARGUMENT if an option is out of its range.  `*clock` and
  // `*executor` outlive the transport.
  static absl::StatusOr<std::unique_ptr<LoopbackTransport>> Create(
      const LoopbackOptions& options, Clock* clock, Executor* executor);

  // As Shutdown().
  ~LoopbackTransport() override;

  // Transport.  Start() reports every device that was added, those that are not
  // connected too.  What a call leads to is settled in Send(): a device that
  // disconnects afterwards still answers.  Shutdown() waits for calls of the
  // sink to return, so it must not be called from one.
  void Start(TransportSink* sink) override;
  size_t Send(const MethodBatch& batch) override;
  void NotifyDesired(
      absl::Span<const DesiredNotification> notifications) override;
  void Shutdown() override;

  // The following do nothing after Shutdown().

  // Adds devices, or brings back removed ones; those that exist stay as they
  // are.  Connected as `connected` says, or, without it, as
  // options.offline_share decides.  Copies the ids, which have 1 to 128 bytes
  // (CHECKed).  After Start() the sink hears of each.
  void AddDevices(absl::Span<const absl::string_view> device_ids,
                  std::optional<bool> connected = std::nullopt);

  // Reports the device disconnected if it was connected; calls to it answer
  // kNoSuchDevice from now on.
  void RemoveDevice(absl::string_view device_id);

  // Connects or disconnects a device, adding it if it is not there.  Reported
  // before the call returns, or, if another thread is just reporting, by that
  // one.  The simulation goes on from the new state: with options.reconnect_max
  // set, the device comes back by itself.
  void SetConnected(absl::string_view device_id, bool connected);

  // From now on `handler` decides about calls of `method` to connected devices;
  // "" stands for all methods that have no handler of their own.  A null
  // handler takes the method's away.
  void SetHandler(absl::string_view method, LoopbackHandler handler);

  // What was recorded so far, oldest first; empty without options.record_calls.
  // Read after Shutdown() too.
  std::vector<LoopbackCallRecord> calls() const;
  std::vector<LoopbackNotificationRecord> notifications() const;

  // Calls whose outcome is still to come, or that are unanswered within their
  // response_timeout.
  int64_t in_flight() const;

 private:
  class Core;
  explicit LoopbackTransport(std::shared_ptr<Core> core);

  // Shared with callbacks that the executor still holds.
  const std::shared_ptr<Core> core_;
};

}  // namespace muster

#endif  // TRANSPORT_LOOPBACK_LOOPBACK_H_
