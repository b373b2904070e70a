// Transport: what the engine needs from whatever reaches devices.
//
// The engine hands over work in batches, a whole range of executions of one
// action at a time, and hears back in batches: outcomes, and which devices can
// be reached.  Every adapter passes tests/transport_conformance.h, which has a
// test for each sentence below.
#ifndef ENGINE_TRANSPORT_H_
#define ENGINE_TRANSPORT_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace muster {

// Names one attempt of one execution, for good: it goes out with the work,
// comes back with the outcome, and is never used twice.  Opaque to transports.
struct AttemptKey {
  uint64_t value = 0;

  friend bool operator==(AttemptKey, AttemptKey) = default;
  template <typename H>
  friend H AbslHashValue(H h, AttemptKey key) {
    return H::combine(std::move(h), key.value);
  }
};

// A direct method, shared by all executions of a job.
struct MethodCall {
  std::string name;
  std::string payload;              // JSON text.
  absl::Duration response_timeout;  // What the device has for its answer.
};

// Executions of one action, as columns of equal length.  Nothing in it is valid
// after Send() returns but `method`.
struct MethodBatch {
  std::shared_ptr<const MethodCall> method;
  absl::Span<const AttemptKey> attempts;
  absl::Span<const absl::string_view> device_ids;
};

enum class OutcomeCode : uint8_t {
  kAnswered,      // The device answered; `status` and `payload` are its own.
  kNotConnected,  // Not connected; the method did not run.
  kNoHandler,     // Connected, but takes no methods; the method did not run.
  kNoSuchDevice,  // Unknown or disabled; the method did not run.
  kBusy,          // Too many methods in flight there; the method did not run.
  kBadResponse,   // An answer that is no JSON or has no status; it ran.
  kResponseTooLarge,  // An answer over 128 KB; it ran.
  kLinkLost,          // The link failed after sending; the method may have run.
  kTimeout,           // No answer within response_timeout; it may have run.
  kError,             // Anything else; it may have run.
};

struct Outcome {
  AttemptKey attempt;
  OutcomeCode code = OutcomeCode::kAnswered;
  int32_t status = 0;         // With kAnswered.
  absl::string_view payload;  // With kAnswered: JSON text; empty means null.
};

struct ConnectionChange {
  absl::string_view device_id;
  bool connected = false;
};

// Where a transport reports.  Thread-safe, never blocks for long, keeps no
// reference to what it is given.  May be called from inside Send().
class TransportSink {
 public:
  virtual ~TransportSink() = default;

  // For each attempt that Send() took at most one outcome; a second one, or one
  // for an attempt that has timed out meanwhile, is dropped and counted.  Takes
  // no lock but for the look-up of a job, and to start a worker.  So many
  // outcomes of a job may wait to be taken in, four for each device of a shard,
  // that a transport gets there by repeating itself only; what comes beyond is
  // dropped and counted too, and an execution whose only outcome it was ends by
  // its response timeout.
  virtual void OnOutcomes(absl::Span<const Outcome> outcomes) = 0;

  // Changes of one device are reported in the order in which they happened.  A
  // kNotConnected outcome comes after the report that the device disconnected.
  // A device that the engine does not know is ignored.
  virtual void OnConnections(absl::Span<const ConnectionChange> changes) = 0;

  // The transport has room again.  Called at least once after each Send() that
  // took fewer executions than it was offered.
  virtual void OnReady() = 0;
};

// A change of desired properties, for a device that is connected.
struct DesiredNotification {
  absl::string_view device_id;
  absl::string_view patch;  // JSON text of the patch, `$version` not in it.
  int64_t version = 0;      // The new desired `$version`.
};

// Thread-safe.
class Transport {
 public:
  virtual ~Transport() = default;

  // Called once, before anything else.  `*sink` outlives Shutdown().  Devices
  // that are already connected are reported from here on; best before Start()
  // returns: then recovered jobs go on, and one whose connect timeout has passed
  // meanwhile fails what waits for devices that nobody has reported.
  virtual void Start(TransportSink* sink) = 0;

  // Takes the first n executions of the batch and returns n; the others were
  // not sent, stay pending, and are offered again after OnReady().  Never
  // blocks.  0 after Shutdown().  Each device is called at most once per
  // attempt.
  virtual size_t Send(const MethodBatch& batch) = 0;

  // Tells devices of new desired properties, best effort.  For one device the
  // engine calls in ascending order of versions, and the transport keeps it.
  virtual void NotifyDesired(
      absl::Span<const DesiredNotification> notifications) = 0;

  // Ends all work.  Once it has returned, the sink is called no more.
  // Attempts without an outcome stay without one.  Idempotent.
  virtual void Shutdown() = 0;
};

}  // namespace muster

#endif  // ENGINE_TRANSPORT_H_
