// GatewayDevices: what a gateway knows of its devices, and what it has to tell
// the engine about them.
//
// A device is a row of 16 bytes, its id, and an entry in each of two tables:
//
//   token  -> row    what the gateway's author calls it
//   handle -> row    what the engine calls it, for as long as the stream lives
//
//            announced             Connected, a handle
//   waiting -----------> asked ------------------------> attached
//      ^ ^                 |                                |
//      | |   due again     v  Connected, no handle          | twin deleted
//      | +-------------- refused <--------------------------+
//      +--- all, when the next stream is up
//
// A device that is removed while it is asked for stays a row until the answer
// is there: the handle that comes is to be given back.  Rows that wait are bits
// of a set: the order in which devices are announced does not matter.
#ifndef TRANSPORT_GRPC_GATEWAY_GATEWAY_DEVICES_H_
#define TRANSPORT_GRPC_GATEWAY_GATEWAY_DEVICES_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "transport/grpc/gateway/gateway.h"

namespace muster {

// The greatest handle that a stream may use, and the most devices on it.
inline constexpr uint32_t kGatewayHandleMax = uint32_t{1} << 24;
// Devices in one frame.
inline constexpr int kGatewayConnectMax = 4096;

// Thread-compatible: its owner guards it.
class GatewayDevices {
 public:
  // Of a device that is refused for the nth time in a row, how often
  // ReviseRefused() passes over it is 2^(n-1), up to 2^refused_doublings.
  // In [0, 7].
  GatewayDevices(uint32_t devices_max, int refused_doublings);

  // As Gateway::AddDevices().
  absl::Status Add(absl::Span<const GatewayDevice> devices);

  // As Gateway::RemoveDevices(); appends the handles that are to be given back.
  void Remove(absl::Span<const uint32_t> tokens,
              std::vector<uint32_t>* handles);

  // A stream is up: all devices wait to be announced.
  void BeginStream();
  // The stream is about to be left: no device is announced any more.  Appends
  // the handles of all, which are to be given back; those that come still do so
  // as they come.
  void LeaveStream(std::vector<uint32_t>* handles);
  // It is no more: no device has a handle.
  void EndStream();

  // Whether a device waits to be announced.
  bool has_waiting() const { return waiting_count_ != 0; }
  // Frames with Connect that have not been answered.
  int unanswered() const { return static_cast<int>(unanswered_.size()); }

  // Calls add(id) for up to kGatewayConnectMax devices that wait, which are the
  // next frame's: perhaps none.
  template <typename AddId>
  void Announce(AddId add) {
    std::vector<uint32_t> rows = NextRows();
    for (const uint32_t row : rows) add(IdOf(rows_[row]));
    unanswered_.push_back(std::move(rows));
  }

  // The engine's answer to the oldest frame that has not been answered: a
  // handle for each of its devices, 0 for one that is refused.  Appends to
  // `*attached` the tokens of those that are attached now, to `*handles` the
  // handles that are to be given back at once, and to `*refused` those that are
  // refused, with their positions.
  // INVALID_ARGUMENT, saying why, if the answer cannot be one.
  struct Refused {
    uint32_t token;
    uint32_t position;
  };
  absl::Status OnConnected(absl::Span<const uint32_t> answer,
                           std::vector<uint32_t>* attached,
                           std::vector<Refused>* refused,
                           std::vector<uint32_t>* handles);

  // The engine has dropped the handle: the device is forgotten, or, with
  // `refused`, tried again later.  False if no device has it.
  bool OnDropped(uint32_t handle, bool refused, uint32_t* token);

  // Lets some of the devices that were refused wait to be announced.  The owner
  // calls it now and then while there are any.
  void ReviseRefused();

  // False if no device has the handle.
  bool TokenOf(uint32_t handle, uint32_t* token) const {
    if (handle >= by_handle_.size() || by_handle_[handle] == kNone) {
      return false;
    }
    *token = rows_[by_handle_[handle]].token;
    return true;
  }

  int64_t size() const { return static_cast<int64_t>(by_token_.size()); }
  int64_t attached() const { return attached_; }
  int64_t refused() const { return refused_; }

 private:
  static constexpr uint32_t kNone = ~uint32_t{0};
  static constexpr uint32_t kBlockBytes = 1 << 16;  // A power of two.

  enum class State : uint8_t {
    kFree,
    kIdle,  // No stream, or one that is about to be left.
    kWaiting,
    kAsked,
    kLeaving,  // Asked for, and removed since.
    kAttached,
    kRefused,
  };

  struct Row {
    uint32_t token;
    uint32_t handle;  // kAttached.  kFree: the next free row.
    uint32_t id;      // Where it begins in ids_.
    uint8_t id_length;
    State state;
    uint8_t refusals;  // In a row.
    uint8_t passes;    // kRefused: of ReviseRefused(), still to go.
  };

  absl::string_view IdOf(const Row& row) const {
    return {&ids_[row.id / kBlockBytes][row.id % kBlockBytes], row.id_length};
  }
  uint32_t StoreId(absl::string_view id);
  void FreeRow(uint32_t row);
  void DropDeadIds();
  void SetWaiting(uint32_t row);
  void SetRefused(uint32_t row);
  std::vector<uint32_t> NextRows();

  const uint32_t devices_max_;
  const int refused_doublings_;

  std::vector<Row> rows_;
  uint32_t first_free_ = kNone;
  absl::flat_hash_map<uint32_t, uint32_t> by_token_;
  std::vector<uint32_t> by_handle_;  // kNone: nobody's.
  int64_t attached_ = 0;
  int64_t refused_ = 0;

  // Ids one after the other, in blocks; none reaches over the end of one.
  std::vector<std::unique_ptr<char[]>> ids_;
  uint64_t ids_end_ = 0;
  uint64_t live_id_bytes_ = 0;

  bool stream_ = false;            // There, and not about to be left.
  std::vector<uint64_t> waiting_;  // A bit for each row.
  int64_t waiting_count_ = 0;
  size_t cursor_ = 0;  // The word where the search goes on.
  std::deque<std::vector<uint32_t>> unanswered_;
  std::vector<uint32_t> spare_rows_;
};

}  // namespace muster

#endif  // TRANSPORT_GRPC_GATEWAY_GATEWAY_DEVICES_H_
