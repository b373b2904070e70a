// GatewaySide: a gateway over one stream after the other, whoever dials.
//
//   none --> handshake --> up -------------> closing --> none     draining
//    ^          |           |                   ^
//    |          |           +----> leaving -----+                 Stop()
//    |          |           |         |
//    +----------+-----------+---------+                  the stream breaks
//
// Leaving: all handles go back, and behind them a Connect without devices.  Its
// Connected is behind all work that the engine sent before it knew; each call
// of that is answered kNotConnected, so that it waits for the device, and the
// stream is closed then.
//
// Reads and writes of a stream are under way one at a time.  What is to be
// written gathers in GatewayAnswers and GatewayDevices; it goes out when
// nothing is under way, so that frames grow as the other side, or the network,
// slows down.
//
// Whoever starts an operation has marked it under mutex_ and starts it without;
// as a stream is let go of only when none is marked, it is there meanwhile.
#ifndef TRANSPORT_GRPC_GATEWAY_GATEWAY_SIDE_H_
#define TRANSPORT_GRPC_GATEWAY_GATEWAY_SIDE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/random/random.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "muster/v1/gateway_service.pb.h"
#include "transport/grpc/gateway/gateway.h"
#include "transport/grpc/gateway/gateway_answers.h"
#include "transport/grpc/gateway/gateway_devices.h"
#include "transport/grpc/gateway/gateway_ranges.h"

namespace muster {

// A stream of frames as GatewaySide uses it.  No call waits, and none calls it
// back before it returns.
class EngineStream {
 public:
  virtual ~EngineStream() = default;

  // GatewaySide::OnRead() and OnWritten() tell of the end.
  virtual void Read(v1::AttachResponse* frame) = 0;
  virtual void Write(const v1::AttachRequest* frame) = 0;
  // Says that no more frames are written.  Counts as a write; if that ends the
  // stream, only OnDone() tells.
  virtual void Close() = 0;
  // Ends the stream at once; what is under way fails.  May be called again.
  virtual void Cancel() = 0;
  // Neither read nor write is under way, nor will be: OnDone() follows.
  virtual void Release(const absl::Status& why) = 0;
};

// Thread-safe, but for the events of a stream: those are in order.
class GatewaySide : public std::enable_shared_from_this<GatewaySide> {
 public:
  // Calls `dial` when a stream is wanted; null: streams come by themselves.
  // `dial` makes a stream and hands it to Begin(), or returns why not.
  using Dial = std::function<absl::Status(std::shared_ptr<GatewaySide>)>;

  // `options` are checked; the executor is there.
  GatewaySide(const GatewayOptions& options, Executor* executor,
              GatewayHandler* handler, Dial dial);

  // INVALID_ARGUMENT naming the option.
  static absl::Status Check(const GatewayOptions& options);

  // Dials for the first time.
  void Start();
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_);

  // See Gateway.
  absl::Status AddDevices(absl::Span<const GatewayDevice> devices);
  void RemoveDevices(absl::Span<const uint32_t> tokens);
  absl::Status Answer(GatewayRange range, absl::Span<const uint32_t> positions,
                      absl::Span<const GatewayAnswer> answers);
  absl::Status AnswerAll(GatewayRange range, const GatewayAnswer& answer);
  GatewayStats Stats() const;

  // A stream is there; `*stream` stays until OnDone().  If another one is, that
  // is cancelled, and this one's turn comes when it is done.  After Stop():
  // false, and it is not used.
  bool Begin(EngineStream* stream);
  void OnRead(bool ok);
  void OnWritten(bool ok);
  // No event follows.  `status`: what the other side has said.
  void OnDone(const absl::Status& status);

 private:
  enum class Phase { kNone, kHandshake, kUp, kLeaving, kClosing };

  // What is to be done with the stream once mutex_ is free.
  struct Action {
    EngineStream* stream = nullptr;
    const v1::AttachRequest* frame = nullptr;  // Write() it.
    bool close = false;
    bool release = false;
    absl::Status why;
  };
  static void Do(const Action& action);

  void BeginLocked(EngineStream* stream) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StartStream(EngineStream* stream);
  // The next write, if none is under way and there is something to write.
  Action NextWrite() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether more answers wait than the user may add to, and are going out.
  bool AnswersPileUp() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Action ReleaseIfOver() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends the stream at once, for a reason that the handler hears.
  void Fail(const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DialLater(absl::Duration delay) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DialNow();
  absl::Duration NextDelay() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status AnswersWait() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WatchTimeouts(absl::Duration due) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnTimeouts(absl::Duration due);
  void WatchRefused() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Calls f(*this) at a time, if this is still there.
  void At(absl::Duration time, std::function<void(GatewaySide&)> f);

  // What a frame holds.  An error ends the stream.
  absl::Status OnFrame();
  absl::Status OnWelcome(const v1::AttachResponse::Welcome& welcome);
  absl::Status OnConnected(const v1::AttachResponse::Connected& connected);
  void OnDropped(const v1::AttachResponse::Dropped& dropped);
  absl::Status OnDesired(const v1::AttachResponse::DesiredUpdate& update);
  absl::Status OnMethods(const v1::AttachResponse::MethodWork& work);

  // Constant after construction.
  const GatewayOptions options_;
  Clock& clock_;
  Executor& executor_;
  GatewayHandler& handler_;
  const Dial dial_;

  // The reading side's own: one event of the stream at a time.
  v1::AttachResponse received_;
  std::vector<uint32_t> tokens_;
  std::vector<int64_t> versions_;
  struct Run {
    GatewayRange range;
    uint32_t first;  // In tokens_.
    uint32_t count;
  };
  std::vector<Run> runs_;
  std::vector<GatewayDevices::Refused> refusals_;

  // We hold it across no call of the handler, and of a stream only for
  // Cancel().
  mutable absl::Mutex mutex_;
  GatewayDevices devices_ ABSL_GUARDED_BY(mutex_);
  GatewayRanges ranges_ ABSL_GUARDED_BY(mutex_);
  GatewayAnswers answers_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint32_t> handles_back_ ABSL_GUARDED_BY(mutex_);

  Phase phase_ ABSL_GUARDED_BY(mutex_) = Phase::kNone;
  EngineStream* stream_ ABSL_GUARDED_BY(mutex_) = nullptr;
  EngineStream* next_stream_ ABSL_GUARDED_BY(mutex_) = nullptr;
  uint64_t stream_number_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Duration up_since_ ABSL_GUARDED_BY(mutex_) = absl::ZeroDuration();
  absl::Status failed_ ABSL_GUARDED_BY(mutex_);  // Our own reason to end it.
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool read_over_ ABSL_GUARDED_BY(mutex_) = false;
  // Nothing is read until answers have gone out.  A write is under way.
  bool read_later_ ABSL_GUARDED_BY(mutex_) = false;
  bool write_over_ ABSL_GUARDED_BY(mutex_) = false;
  std::unique_ptr<v1::AttachRequest> sending_ ABSL_GUARDED_BY(mutex_);
  int connect_credit_ ABSL_GUARDED_BY(mutex_) = 0;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool last_connect_ ABSL_GUARDED_BY(mutex_) = false;  // kLeaving's is out.

  // A stream is done, and its end is being told.
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool dialing_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Duration next_delay_ ABSL_GUARDED_BY(mutex_);
  absl::BitGen random_ ABSL_GUARDED_BY(mutex_);
  // The earliest call of OnTimeouts() that is to come.
  absl::Duration timeouts_at_ ABSL_GUARDED_BY(mutex_) =
      absl::InfiniteDuration();
  bool refused_watched_ ABSL_GUARDED_BY(mutex_) = false;
  GatewayStats counts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace muster

#endif  // TRANSPORT_GRPC_GATEWAY_GATEWAY_SIDE_H_
