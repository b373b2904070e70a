// GatewayAnswers: outcomes on their way into frames.
//
// Outcomes are gathered by range, in columns that are as short as what is in
// them allows:
//
//   all of a range, the same       first and count, one status, one payload
//   one after the other            first and count as long as no gap comes
//   out of order                   a list of positions
//   the same status, the same      one for all
//   payload
//
// A frame takes outcomes until it has kFrameBytes; the next one begins then.
// Frames that are sent come back and are used again with all their memory.
#ifndef TRANSPORT_GRPC_GATEWAY_GATEWAY_ANSWERS_H_
#define TRANSPORT_GRPC_GATEWAY_GATEWAY_ANSWERS_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "muster/v1/gateway_service.pb.h"
#include "transport/grpc/gateway/gateway.h"
#include "transport/grpc/gateway/gateway_ranges.h"

namespace muster {

// Thread-compatible: its owner guards it.
class GatewayAnswers {
 public:
  // As the engine has to take them, about.
  static constexpr size_t kFrameBytes = size_t{1} << 20;

  // Adds the outcome of `count` calls of the range from `first` on.
  void Add(GatewayRanges::Slot& slot, uint32_t first, uint32_t count,
           const GatewayAnswer& answer);
  // The same for calls that are in no range here: those of the engine's range.
  void Add(uint32_t wire_range, uint32_t first, uint32_t count,
           const GatewayAnswer& answer);

  bool empty() const { return frames_.empty(); }
  // What waits, about.
  size_t bytes() const { return bytes_; }

  // The oldest frame with outcomes, or an empty one.
  std::unique_ptr<v1::AttachRequest> TakeFrame();
  std::unique_ptr<v1::AttachRequest> EmptyFrame();
  // One that has been sent.
  void GiveBack(std::unique_ptr<v1::AttachRequest> frame);

  // Forgets all outcomes: the stream has ended.
  void Clear();

 private:
  struct Frame {
    std::unique_ptr<v1::AttachRequest> message;
    size_t bytes = 0;
  };

  v1::AttachRequest::Outcomes* NewEntry(uint32_t wire_range);
  void AddTo(v1::AttachRequest::Outcomes* entry, uint32_t first, uint32_t count,
             const GatewayAnswer& answer);
  void Grow(size_t bytes);

  std::deque<Frame> frames_;
  uint32_t number_ = 0;  // Of the last one; a range's entry is found by it.
  size_t bytes_ = 0;
  std::vector<std::unique_ptr<v1::AttachRequest>> spare_;
};

}  // namespace muster

#endif  // TRANSPORT_GRPC_GATEWAY_GATEWAY_ANSWERS_H_
