// A gateway that dials: GatewayService.Attach, over a channel of its own for
// each try.
//
// A channel that has failed may stay as it is for long after the other side is
// back: it waits by a clock of its own, and with gRPC 1.51 nobody looks after
// it while no call waits for it (upstream issue 28866).  A new one has no such
// past; how long to wait between tries is GatewaySide's business alone.
//
// The last channel of a program waits at its end for the threads that run all
// callbacks.  So no channel, and nothing that holds one, may end on those: a
// stream that is done stays until the next one, or the dialer's own end.
#ifndef TRANSPORT_GRPC_GATEWAY_GATEWAY_DIALER_H_
#define TRANSPORT_GRPC_GATEWAY_GATEWAY_DIALER_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/schedule/clock.h"
#include "transport/grpc/gateway/gateway_side.h"

namespace muster {

struct ConnectOptions;

class GatewayDialer {
 public:
  // What MakeChannel() says to `connect`.
  static absl::StatusOr<std::unique_ptr<GatewayDialer>> Create(
      const ConnectOptions& connect, Clock* clock);
  ~GatewayDialer();

  // Makes a stream and hands it to `side`.  REQUIRES: the stream before is
  // done; not on a thread of gRPC's.
  absl::Status Dial(std::shared_ptr<GatewaySide> side);

 private:
  class Stream;
  struct Parts;
  explicit GatewayDialer(std::unique_ptr<Parts> parts);

  const std::unique_ptr<Parts> parts_;
};

}  // namespace muster

#endif  // TRANSPORT_GRPC_GATEWAY_GATEWAY_DIALER_H_
