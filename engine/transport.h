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

// A direct method, shared by all executions of a job; or of one call outside of
// any.
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
  // Empty if the transport does without: Transport::wants_device_ids().
  absl::Span<const absl::string_view> device_ids;
  // The connections of the devices, as ConnectionChange::link named them when
  // the range was made up; they may have ended since, or others may have come.
  // 0 for a device that nobody has reported, and whose twin says that it is
  // connected: a transport that does without device_ids is not offered it.
  absl::Span<const uint64_t> links;
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
  // The transport's own number of the connection, which comes back with work
  // for the device; 0 if it does without.  The last connection that is reported
  // is the device's, although the twin's connectionState does not change; the
  // end of one that is not the device's is ignored.  That of a disabled device
  // comes to nothing until the device is enabled.  The engine keeps links in
  // memory only, and forgets a device's with its twin.
  uint64_t link = 0;
};

// What a ConnectionChange has met.
struct ConnectionAnswer {
  bool known = false;  // The engine has the device's twin.
  // The link of the connection that this one has taken the place of; 0: the
  // device was not connected, or over this very link.
  uint64_t previous_link = 0;
};

// Where a transport reports.  Thread-safe, never blocks for long, keeps no
// reference to what it is given.  May be called from inside Send().
class TransportSink {
 public:
  virtual ~TransportSink() = default;

  // For each attempt that Send() took at most one outcome; a second one, or one
  // for an attempt that has timed out meanwhile, is dropped and counted.  Takes
  // no lock but for the look-up of a job or call, and to start a worker.  So
  // many outcomes of a job may wait to be taken in, four for each device of a
  // shard, that a transport gets there by repeating itself only; and so many
  // bytes of their payloads, 64 MiB.  What comes beyond is dropped and counted
  // too, and an execution whose only outcome it was ends by its response
  // timeout. Outcomes next to each other whose payloads are the same bytes in
  // the same place share one, which counts, and is copied, once or a few times
  // in all.
  virtual void OnOutcomes(absl::Span<const Outcome> outcomes) = 0;

  // Changes of one device are reported in the order in which they happened.  A
  // kNotConnected outcome comes after the report that the device disconnected,
  // or because the transport is about to end: what it gives back then is
  // pending again. A device that the engine does not know is ignored. `answers`
  // is empty, or has an element for each change, which is set.
  virtual void OnConnections(absl::Span<const ConnectionChange> changes,
                             absl::Span<ConnectionAnswer> answers) = 0;

  // The transport has room again.  Called at least once after each Send() that
  // took fewer executions than it was offered.
  virtual void OnReady() = 0;
};

// A change of desired properties, for a device that is connected.
struct DesiredNotification {
  absl::string_view device_id;  // Empty if the transport does without.
  // The device's connection at the time of the change; it may have ended since.
  uint64_t link = 0;
  absl::string_view patch;  // JSON text of the patch, `$version` not in it.
  int64_t version = 0;      // The new desired `$version`.
};

// Thread-safe.
class Transport {
 public:
  virtual ~Transport() = default;

  // Called once, before anything else.  `*sink` outlives Shutdown().  Devices
  // that are already connected are reported from here on; best before Start()
  // returns: then recovered jobs go on, and one whose connect timeout has
  // passed meanwhile fails what waits for devices that nobody has reported.
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

  // Devices whose twins were erased, by their connections, if those have links:
  // they are of no more use.  Called once that is durable, behind what the
  // devices are told, perhaps for connections that have ended.  Best effort.
  virtual void Disconnect(absl::Span<const uint64_t> links) {}

  // Whether MethodBatch and DesiredNotification name devices by their ids too,
  // which costs the engine some time for each.  Constant.
  virtual bool wants_device_ids() const { return true; }

  // Whether it has begun to end, for good: Send() takes nothing more, and owes
  // no OnReady().  One comes once this is true, for those who wait.  Called
  // under locks: a load.
  virtual bool draining() const { return false; }

  // Ends all work.  Once it has returned, the sink is called no more.
  // Attempts without an outcome stay without one.  Idempotent.
  virtual void Shutdown() = 0;
};

}  // namespace muster

#endif  // ENGINE_TRANSPORT_H_
