// Gateway: for those who write gateways, the processes that hold the devices'
// connections.  It attaches to Muster, says which devices are there, takes
// calls of methods in batches and sends what the devices answer; it attaches
// again, and says it all again, when the stream breaks.
//
//   class Handler : public GatewayHandler {
//     void OnMethods(const GatewayMethods& calls) override {
//       for (uint32_t device : calls.devices) ...
//       gateway->AnswerAll(calls.range, {.status = 200});
//     }
//   };
//   auto gateway = Gateway::Connect({.address = "localhost:7040"},
//                                   {.name = "hall-3"}, &handler);
//   (*gateway)->AddDevices({{1, "thermo-041"}, {2, "thermo-042"}});
//
// examples/gateway.cc is a whole one.  docs/gateway-protocol.md has what goes
// over the wire, for gateways that are written without this library.
//
// Devices go by tokens, 32-bit numbers of the gateway's own choice; their ids
// are needed once, in AddDevices().
//
// Cost: nothing is allocated for an execution in the steady state; a range of
// 1,024 calls that is answered at once takes about as long as its frame does on
// the wire.  A device takes 31 to 61 bytes, as its tables have just been filled
// or doubled, and its id.
#ifndef TRANSPORT_GRPC_GATEWAY_GATEWAY_H_
#define TRANSPORT_GRPC_GATEWAY_GATEWAY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "engine/transport.h"

namespace muster {

class Access;  // transport/auth/access.h
class GatewayDialer;
class GatewayListener;
class GatewaySide;
struct ConnectOptions;  // transport/grpc/channel.h

struct GatewayDevice {
  uint32_t token = 0;    // Any number; no two devices have the same.
  absl::string_view id;  // 1 to 128 bytes.
};

// Names executions that came in one batch, for their answers.  Never used
// again.
struct GatewayRange {
  uint64_t value = 0;

  friend bool operator==(GatewayRange, GatewayRange) = default;
};

// Calls of one method, one for each device.
struct GatewayMethods {
  GatewayRange range;
  absl::string_view method_name;
  absl::string_view payload;           // JSON text.
  absl::Duration response_timeout;     // What there is for the answers.
  absl::Span<const uint32_t> devices;  // Tokens, 1 to 1,024.
};

// New desired properties, for each of some devices.
struct GatewayDesired {
  absl::string_view patch;             // JSON text; `$version` is not in it.
  absl::Span<const uint32_t> devices;  // Tokens, 1 to 1,024.
  absl::Span<const int64_t> versions;  // The new `$version` of each.
};

// What became of a call.
struct GatewayAnswer {
  OutcomeCode code = OutcomeCode::kAnswered;
  int32_t status = 0;         // With kAnswered: the device's own number.
  absl::string_view payload;  // With kAnswered: JSON text; empty means null.
};

// What the library calls, from threads of its own: one call at a time, in the
// order in which things came, and none after Gateway::Stop().  May call the
// gateway back, but for Stop().  Should not block: the stream waits meanwhile,
// and with it all devices of the gateway.  What it is given is valid while the
// call lasts.
class GatewayHandler {
 public:
  virtual ~GatewayHandler() = default;

  // Calls for devices.  Each is to be answered once, now or later, from any
  // thread; what has not been when `response_timeout` has passed is answered
  // kTimeout by the library.  A device that RemoveDevices() has just taken may
  // be named still.
  virtual void OnMethods(const GatewayMethods& calls) = 0;

  // New desired properties; for one device in ascending order of versions.
  virtual void OnDesired(const GatewayDesired& update) {}

  // The devices are attached: from now on they get calls.
  virtual void OnAttached(absl::Span<const uint32_t> devices) {}

  // The engine does not take these devices, or no more: `error` is NOT_FOUND,
  // it has no such twin; PERMISSION_DENIED, the credential does not cover the
  // device; or RESOURCE_EXHAUSTED, too many devices.  They are tried again,
  // after GatewayOptions::refused_retry_min at first.
  virtual void OnRefused(absl::Span<const uint32_t> devices,
                         const absl::Status& error) {}

  // The devices have connected to another gateway.  This one has forgotten
  // them: their tokens are free.
  virtual void OnTakenOver(absl::Span<const uint32_t> devices) {}

  // The stream to the engine is up, and devices are about to be attached.
  virtual void OnStreamUp() {}

  // The stream has ended, or has not come up: why.  No device is attached; what
  // has not been answered never will be.  It is tried again after `retry_in`;
  // a gateway that listens waits for an engine to dial, and that is 0.  Not
  // called for Stop().
  virtual void OnStreamDown(const absl::Status& why, absl::Duration retry_in) {}
};

struct GatewayOptions {
  std::string name;  // For logs and metrics: 1 to 128 characters.

  // How many calls may be unanswered at a time: 1 to 1,048,576.
  uint32_t work_credit = 65'536;

  // How many devices there may be: 1 to 16,777,216.
  uint32_t devices_max = 1'048'576;

  // Bytes of answers that wait to be sent, because the engine does not read:
  // beyond it Answer() refuses, and nothing is read that might have to be
  // answered by the library.  1 MiB or more.
  size_t answer_bytes_max = size_t{64} << 20;

  // How long it waits before it dials again: the first time, and at most.  Each
  // time it is twice as long, and between half and all of that at random.
  // A millisecond or more.
  absl::Duration reconnect_min = absl::Milliseconds(100);
  absl::Duration reconnect_max = absl::Seconds(30);

  // How long a device that was refused waits before it is tried again: between
  // this and twice this the first time, then twice as long each time, up to
  // about the other.
  absl::Duration refused_retry_min = absl::Seconds(5);
  absl::Duration refused_retry_max = absl::Minutes(5);

  // How long the engine has to answer the first frame, and to end a stream.
  absl::Duration handshake_timeout = absl::Seconds(10);

  Clock* clock = &Clock::Real();  // Outlives the gateway.
  // Outlives the gateway.  Null: a thread of its own.
  Executor* executor = nullptr;
};

// Where a gateway listens for the engine, and whom it lets in.
struct GatewayListenOptions {
  std::string address;  // "host:port"; port 0 is any that is free.

  // Paths of PEM files.  Both empty: no TLS.
  std::string certificate_path;
  std::string key_path;
  // With TLS: the engine shows a certificate that this one has signed.  Empty:
  // it is not asked for one.
  std::string client_ca_path;

  // What the engine shows has to have the role `gateway` here.  Null: anybody
  // may be the engine.
  std::shared_ptr<const Access> access;
};

// Counts since the gateway was made, and what is now.
struct GatewayStats {
  bool attached = false;         // The stream is up.
  int64_t devices = 0;           // Added.
  int64_t attached_devices = 0;  // The engine has taken them.
  int64_t refused_devices = 0;   // To be tried again.
  int64_t in_flight = 0;         // Calls without an answer yet.
  int64_t calls = 0;
  int64_t answers = 0;   // Given by the user, in time.
  int64_t timeouts = 0;  // Answered kTimeout by the library.
  int64_t unwanted = 0;  // Answers too late or given before; not sent.
  int64_t streams = 0;   // Streams that came up.
};

// Thread-safe.
class Gateway {
 public:
  // A gateway that dials the engine.  `*handler` outlives it.  Returns at once:
  // GatewayHandler tells when the stream is up or why it is not.
  // INVALID_ARGUMENT for options outside the ranges stated above, and what
  // MakeChannel() says to `connect`.
  static absl::StatusOr<std::unique_ptr<Gateway>> Connect(
      const ConnectOptions& connect, const GatewayOptions& options,
      GatewayHandler* handler);

  // A gateway that listens, for engines that dial.  It serves one at a time:
  // one that dials takes the place of the one before, whose stream may be dead.
  // As Connect(), and UNAVAILABLE if it cannot listen there.
  static absl::StatusOr<std::unique_ptr<Gateway>> Listen(
      const GatewayListenOptions& listen, const GatewayOptions& options,
      GatewayHandler* handler);

  ~Gateway();  // Stop().

  // The port it listens at; 0 with Connect().
  int port() const;

  // Devices that have connected to the gateway.  All or none: INVALID_ARGUMENT
  // for an id of wrong length, ALREADY_EXISTS for a token that is in use,
  // RESOURCE_EXHAUSTED beyond `devices_max`.
  absl::Status AddDevices(absl::Span<const GatewayDevice> devices);

  // Devices that have disconnected from the gateway.  Tokens that are not in
  // use are ignored.  Calls that are in flight may be answered still.
  void RemoveDevices(absl::Span<const uint32_t> devices);

  // Answers calls of a range: `positions` in GatewayMethods::devices, and an
  // answer for each, or one for all.  A call that has been answered, or has
  // timed out, or whose stream has ended, is passed over and counted.  A
  // payload over 128 KB goes as kResponseTooLarge.
  //   INVALID_ARGUMENT     a position outside the range.  None was taken.
  //   RESOURCE_EXHAUSTED   `answer_bytes_max`.  None was taken: later again.
  // Takes a lock, and time in proportion to the answers; frames go out at once
  // if none is under way, else together when that one is out.
  absl::Status Answer(GatewayRange range, absl::Span<const uint32_t> positions,
                      absl::Span<const GatewayAnswer> answers);
  absl::Status Answer(GatewayRange range, uint32_t position,
                      const GatewayAnswer& answer) {
    return Answer(range, absl::MakeConstSpan(&position, 1),
                  absl::MakeConstSpan(&answer, 1));
  }
  // All of the range that have not been answered yet; the same for each, and
  // in constant time if none has.
  absl::Status AnswerAll(GatewayRange range, const GatewayAnswer& answer);

  GatewayStats Stats() const;

  // Ends the stream, within `handshake_timeout` if the engine does its part:
  // says that all devices have gone, answers kNotConnected to calls that were
  // on their way, so that they wait for the devices' next gateway, and sends
  // what has been answered.  A call that the handler has had and not answered
  // by then may have run: it fails.  Once it has returned, the handler is
  // called no more.  Idempotent.
  void Stop();

 private:
  explicit Gateway(const GatewayOptions& options);

  const std::unique_ptr<Executor> own_executor_;  // Null: the user has one.
  Executor* const executor_;
  std::unique_ptr<GatewayDialer> dialer_;  // Null with Listen().
  std::shared_ptr<GatewaySide> side_;
  std::unique_ptr<GatewayListener> listener_;  // Null with Connect().
};

}  // namespace muster

#endif  // TRANSPORT_GRPC_GATEWAY_GATEWAY_H_
