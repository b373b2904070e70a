// GatewaySession: one gateway's stream, whoever dialled.
//
// A session knows frames and what they mean, and nothing of gRPC: it talks to a
// GatewayStream, which carries frames, and is told by it what has happened.
//
//   Send()         work waits in blocks; a block goes out as a range when no
//                  frame is being written and the gateway has credit.  While a
//                  frame is on its way, work collects for the next: the busier,
//                  the larger (adaptive flush).
//   OnRead()       a frame from the gateway, one at a time, in order.
//   OnWritten()    the frame is out: the next one.
//   timer          Hello in time; work whose time has passed; credentials.
//
// One frame is used over and over.  It is filled at one moment, with the mutex
// held, from what waits, and only with links that are good then.
//
// What crosses, and how it comes out:
//
// Disconnect crosses work.  The engine is told first; only then does the link
//   stop being good.  So an outcome kNotConnected of ours, which is given where
//   a link is not good, comes after the report.  Work that goes out before that
//   is the gateway's to answer, NOT_CONNECTED as a rule, in a frame behind the
//   Disconnect.  Work that waits is looked at when it goes out, and within a
//   second otherwise.
// A handle that is free is named again.  Work for its last device that waits
//   has a link that is not good and never goes out; work that is out stands in
//   a frame before the one with the Connected that names the handle again.
// Connect crosses work.  The engine may send from the moment in which it is
//   told, before the gateway knows the handles.  While it is told, and until
//   Connected is in a frame, nothing that names handles goes out.
// Take-over.  The engine says which link a connection has replaced, and that
//   session drops it: the link is good no more, what waits for it becomes
//   kNotConnected and goes out again by the new link; what the gateway has is
//   the gateway's to answer.  Each execution is sent once.  Within one stream
//   it is the same: Connected comes before Dropped, in one frame too.
// Dropped crosses Disconnect.  Dropped goes out only if the handle is still
//   dropped when the frame is filled.  If both cross on the wire the gateway
//   has no such handle and ignores it; it is named again behind that Dropped.
// The stream dies while Send() runs.  Work that comes while its devices are
//   being reported waits; once all have been, what was out unanswered is
//   kLinkLost, what waited is kNotConnected, and what still comes for the
//   session is that at once.
// Shutdown().  Every call of the sink is made inside the table's gate: it ends
//   before Shutdown() does, and none begins after.
//
// The mutex is a leaf but for the executor's: no sink, no other session and no
// stream (but for the first StartRead() and Cancel()) is called with it.  The
// one writer is whoever has set writing_.
#ifndef TRANSPORT_GRPC_GATEWAY_SESSION_H_
#define TRANSPORT_GRPC_GATEWAY_SESSION_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/model/json.h"
#include "engine/transport.h"
#include "muster/v1/gateway_service.pb.h"
#include "transport/grpc/gateway/gateway_transport.h"
#include "transport/grpc/gateway/handle_table.h"
#include "transport/grpc/gateway/work_block.h"

namespace muster {

class SessionTable;

// Carries frames for a session.  Calls of it return at once, and do not call
// the session back on the same stack.
class GatewayStream {
 public:
  virtual ~GatewayStream() = default;

  // OnRead() follows.  One at a time.
  virtual void StartRead(v1::AttachRequest* frame) = 0;
  // OnWritten() follows; `frame` stays until then.  One at a time.
  virtual void StartWrite(const v1::AttachResponse* frame) = 0;
  // Ends the stream: a read that is under way fails, and OnEnd() follows. Once,
  // while no write is under way; none follows.
  virtual void Finish(const absl::Status& status) = 0;
  // Makes what is under way fail.  Before Finish().
  virtual void Cancel() = 0;
};

// Limits that the protocol does not leave to anybody.
inline constexpr int kConnectDevicesMax = 4096;       // In one Connect.
inline constexpr int kConnectCredit = 16;             // Frames with Connect.
inline constexpr int kDisconnectHandlesMax = 65'536;  // In one Disconnect.
inline constexpr int kOutcomesMax = 65'536;           // Entries in one frame.
inline constexpr uint32_t kWorkCreditMax = 1'048'576;
inline constexpr uint32_t kWorkCreditDefault = 65'536;
inline constexpr absl::Duration kHelloMax = absl::Seconds(10);
// After an execution's time has passed, for an outcome that is on its way.
inline constexpr absl::Duration kOutcomeGrace = absl::Seconds(10);
// For a frame that is being written when a stream is to end.
inline constexpr absl::Duration kFinishMax = absl::Seconds(5);
// In one frame.  Bytes bound what is added on top of one part.
inline constexpr size_t kFrameExecutionsMax = 16'384;
inline constexpr size_t kFrameBytesMax = size_t{1} << 20;
inline constexpr size_t kFrameDroppedMax = 65'536;
// Notifications of one gateway that wait; what comes on top is dropped.  Bytes
// are those of patches, and kDesiredBlockBytes for each that is not shared.
inline constexpr size_t kDesiredWaitingMax = 1'048'576;
inline constexpr size_t kDesiredBytesMax = size_t{64} << 20;
inline constexpr size_t kDesiredBlockBytes = 192;

// Thread-safe.
class GatewaySession : public std::enable_shared_from_this<GatewaySession> {
 public:
  // Of SessionTable.
  GatewaySession(std::shared_ptr<SessionTable> table, uint16_t serial,
                 uint16_t first_generation, GatewayStream* stream,
                 GatewayAdmission admission);

  // ------------------------------------------------- the stream's side
  // The stream is up.  It is read from here on, or from the transport's
  // Start().
  void Begin();
  void OnRead(bool ok);
  void OnWritten(bool ok);
  // The stream is not touched any more.
  void OnEnd();

  // ------------------------------------------------- the transport's side
  // Inside the table's gate, each.

  void OnStart();
  // Makes room for up to `wanted` executions: how many.
  int64_t Reserve(int64_t wanted);
  // Gives back what was reserved, or what has come to its end.
  void Release(int64_t count);
  // A Send() was short of room here: OnReady() is owed.
  void OweReady();
  // Takes executions for which there is room.  `links` name this session.
  void Send(const std::shared_ptr<const MethodCall>& method, absl::Duration now,
            absl::Span<const AttemptKey> attempts,
            absl::Span<const uint64_t> links);
  void Notify(absl::Span<const DesiredNotification> notifications);
  void Drop(absl::Span<const uint64_t> links,
            v1::AttachResponse::Dropped::Reason reason);
  // No work goes out from now on: what waits becomes kNotConnected, although
  // its devices are connected.  The engine looks again, finds no room, and
  // leaves it for its next life.
  void Drain();
  // Ends the stream, and with it all else.  Inside the gate or not.
  void Close(const absl::Status& status);
  // The gate is closed: ends the stream, forgets all.
  void Abort(const absl::Status& status);

  uint16_t serial() const { return serial_; }
  // What the serial's next session begins with.
  uint16_t next_first_generation() const;
  AttachedGateway stats() const;
  // Bytes that the devices take here.
  size_t device_memory() const;

 private:
  enum class Phase : uint8_t {
    kHello,  // Nothing but Hello may come.
    kOpen,
    kEnding,  // Reading has ended; its devices are being reported.
    kGone,    // All is reported.
  };

  // What is to be done once the mutex is free.
  struct Later {
    const v1::AttachResponse* write = nullptr;
    std::optional<absl::Status> finish;
    std::vector<Outcome> outcomes;  // Of executions that leave the session.
    int64_t released = 0;           // Executions that left without one.
  };
  void Act(Later& later) ABSL_LOCKS_EXCLUDED(mutex_);
  void Report(absl::Span<const Outcome> outcomes) ABSL_LOCKS_EXCLUDED(mutex_);

  struct DesiredBlock {
    std::string patch;
    std::vector<uint64_t> links;
    std::vector<int64_t> versions;
  };
  struct DroppedLink {
    uint64_t link;
    v1::AttachResponse::Dropped::Reason reason;
  };
  // In handles_: the credential does not cover the device.
  static constexpr uint32_t kNotCovered = ~uint32_t{0};

  // Reading.
  absl::Status TakeFrame() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status TakeHello(const v1::AttachRequest::Hello& hello)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status TakeDisconnect(const v1::AttachRequest::Disconnect& disconnect)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status TakeConnect(const v1::AttachRequest::Connect& connect)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status TakeOutcomes(const v1::AttachRequest::Outcomes& outcomes)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void CollectOutcomes(const v1::AttachRequest::Outcomes& outcomes,
                       WorkBlock* range) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CheckPayloads();
  void ForgetFrame();
  void EndReading(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);
  void ReportSoon() ABSL_LOCKS_EXCLUDED(mutex_);
  void ReportGone() ABSL_LOCKS_EXCLUDED(mutex_);
  void ForgetWork() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Writing.
  void Pump(Later* later) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasSomething() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasCreditForFront() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool FillFrame(Later* later) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  size_t FillConnected() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FillDropped() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  size_t FillDesired() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FillMethods(size_t bytes, Later* later)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Finish(absl::Status status, Later* later)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  std::unique_ptr<WorkBlock> TakeBlock(size_t capacity_max)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void GiveBack(std::unique_ptr<WorkBlock> block)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Enqueue(const std::shared_ptr<const MethodCall>& method,
               absl::Duration now, absl::Span<const AttemptKey> attempts,
               absl::Span<const uint64_t> links)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasRoom(int64_t in_flight) const;
  void StaleWork() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void LoseStale(WorkBlock* block, Later* later)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReturnWaiting(Later* later) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void LoseAll(const WorkBlock& block, Later* later)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Time.
  void Arm(absl::Duration at) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnTimer(absl::Duration at) ABSL_LOCKS_EXCLUDED(mutex_);
  void Sweep(absl::Duration now, Later* later)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Constant after construction.
  const std::shared_ptr<SessionTable> table_;
  const uint16_t serial_;
  const GatewayAdmission admission_;
  GatewayStream* const stream_;  // Good until OnEnd().

  // Of the reading side: OnRead(), and ReportGone() after it.
  v1::AttachRequest in_;
  std::vector<Outcome> outcomes_;  // At most kWorkBlockMax.
  std::vector<ConnectionChange> changes_;
  std::vector<ConnectionAnswer> answers_;
  std::vector<uint32_t> handles_;
  std::vector<uint64_t> previous_;
  std::unique_ptr<JsonParser> parser_;
  uint32_t reported_ = 0;  // Handles up to here, by ReportGone().

  // Executions that wait or are unanswered.  (1) and (2): whoever frees room
  // and whoever finds none see each other, as both are sequentially consistent.
  std::atomic<int64_t> in_flight_{0};
  std::atomic<bool> ready_owed_{false};

  mutable absl::Mutex mutex_;
  Phase phase_ ABSL_GUARDED_BY(mutex_) = Phase::kHello;
  std::string name_ ABSL_GUARDED_BY(mutex_);
  HandleTable handle_table_ ABSL_GUARDED_BY(mutex_);
  int64_t credit_ ABSL_GUARDED_BY(mutex_) = 0;

  std::deque<std::unique_ptr<WorkBlock>> waiting_ ABSL_GUARDED_BY(mutex_);
  int64_t waiting_executions_ ABSL_GUARDED_BY(mutex_) = 0;
  RangeTable ranges_ ABSL_GUARDED_BY(mutex_);
  int64_t unanswered_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::unique_ptr<WorkBlock>> spare_ ABSL_GUARDED_BY(mutex_);
  // A device has been detached for which something may wait.
  bool waiting_is_stale_ ABSL_GUARDED_BY(mutex_) = false;

  std::deque<DesiredBlock> desired_ ABSL_GUARDED_BY(mutex_);
  size_t desired_waiting_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t desired_bytes_ ABSL_GUARDED_BY(mutex_) = 0;

  bool welcome_ ABSL_GUARDED_BY(mutex_) = false;  // To be written.
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_told_ ABSL_GUARDED_BY(mutex_) = false;
  // A Connect is being taken: handles are not known to the gateway yet.
  bool announcing_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<v1::AttachResponse::Connected> connected_ ABSL_GUARDED_BY(mutex_);
  std::vector<DroppedLink> dropped_ ABSL_GUARDED_BY(mutex_);

  bool begun_ ABSL_GUARDED_BY(mutex_) = false;
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;  // From the first one on.
  v1::AttachResponse frame_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;  // frame_ is the stream's.
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;   // A write has failed.

  std::optional<absl::Status> finish_ ABSL_GUARDED_BY(mutex_);  // Wanted.
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;

  // Each of them infinite if there is none.
  absl::Duration hello_until_ ABSL_GUARDED_BY(mutex_);
  absl::Duration finish_until_ ABSL_GUARDED_BY(mutex_);
  absl::Duration credential_until_ ABSL_GUARDED_BY(mutex_);
  // At or before the first execution's end.
  absl::Duration sweep_at_ ABSL_GUARDED_BY(mutex_);
  // Timers that are on their way: each nearer than the one before it.
  std::vector<absl::Duration> armed_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace muster

#endif  // TRANSPORT_GRPC_GATEWAY_SESSION_H_
