// HandleTable: the devices of one stream, by the handles that they have there.
//
// A link names a connection of a device for good:
//
//   link = serial of the stream:16 | generation:16 | handle:32
//
// A handle's generation moves on whenever its device is detached, and so does a
// serial's whole table from one stream to the next (first_generation), so that
// a link of long ago meets no device of today before 65,536 others had its
// place.
//
// A handle is
//   free      nobody's;
//   attached  a device's: its link is good;
//   dropped   taken back by the engine: its link is no longer good, but the
//             gateway may still name it, until it has said Disconnect.
//
//   free --Attach--> attached --Drop--> dropped --Free--> free
//                       \------------- Free ------------/
//
// A device takes 6 bytes, its id's bytes, and at most 4 more of what its page
// of ids has not used.
#ifndef TRANSPORT_GRPC_GATEWAY_HANDLE_TABLE_H_
#define TRANSPORT_GRPC_GATEWAY_HANDLE_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/strings/string_view.h"

namespace muster {

struct LinkParts {
  uint16_t serial = 0;
  uint16_t generation = 0;
  uint32_t handle = 0;
};
inline uint64_t MakeLink(const LinkParts& parts) {
  return uint64_t{parts.serial} << 48 | uint64_t{parts.generation} << 32 |
         parts.handle;
}
inline LinkParts SplitLink(uint64_t link) {
  return {.serial = static_cast<uint16_t>(link >> 48),
          .generation = static_cast<uint16_t>(link >> 32),
          .handle = static_cast<uint32_t>(link)};
}

// Not thread-safe, but for id(): it may be read by the one thread that calls
// Attach() and Free() while others call the rest, which touch no ids.
class HandleTable {
 public:
  static constexpr size_t kIdSizeMax = 128;

  enum class State : uint8_t { kFree, kAttached, kDropped };

  // REQUIRES: serial >= 1; devices_max in [1, 2^24].
  HandleTable(uint16_t serial, uint16_t first_generation, int devices_max);

  // A handle for the device, at least 1: that which has been free for longest,
  // else a new one; 0 if devices_max handles are not free.  REQUIRES: 1 to
  // kIdSizeMax bytes.
  uint32_t Attach(absl::string_view id);

  // Whether it is the link of an attached device of this table.
  bool IsGood(uint64_t link) const {
    // A handle that is not attached has a generation which no link has yet.
    const uint32_t index = static_cast<uint32_t>(link) - 1;
    return index < generations_.size() &&
           generations_[index] == static_cast<uint16_t>(link >> 32);
  }

  // REQUIRES: `handle` is not free; id(): nor freed meanwhile.
  uint64_t LinkOf(uint32_t handle) const {
    return MakeLink({serial_, generations_[handle - 1], handle});
  }
  absl::string_view id(uint32_t handle) const;

  // kFree for handles that have never been.
  State state(uint32_t handle) const;

  // Whether it is the link of a device that is dropped.
  bool IsDropped(uint64_t link) const;

  // attached -> dropped; false if the link is not good.
  bool Drop(uint64_t link);

  // attached or dropped -> free.
  void Free(uint32_t handle);

  // Attached and dropped handles.
  int size() const { return size_; }
  // Handles are in [1, end()).
  uint32_t end() const {
    return static_cast<uint32_t>(generations_.size()) + 1;
  }

  // What another table for this serial has to begin with.
  uint16_t next_first_generation() const {
    return static_cast<uint16_t>(first_generation_ + generations_used_ + 1);
  }

  // Bytes that it takes, without itself.
  size_t memory() const;

 private:
  // A page of ids: those of so many handles, one after the other.
  static constexpr uint32_t kPageHandles = 256;
  // By which a page's bytes grow: 4 for each of its devices.
  static constexpr uint32_t kPageGrowth = 4 * kPageHandles;

  struct Entry {
    uint16_t begin = 0;  // Of the id, in the page's bytes.
    uint8_t size = 0;
    State state = State::kFree;
  };
  struct Page {
    Entry entries[kPageHandles];
    std::unique_ptr<char[]> bytes;
    uint16_t used = 0;  // All of 256 ids of 128 bytes are 32,768.
    uint16_t wasted = 0;
    uint16_t capacity = 0;
  };

  Entry& EntryOf(uint32_t handle) {
    return pages_[(handle - 1) / kPageHandles]
        ->entries[(handle - 1) % kPageHandles];
  }
  const Entry& EntryOf(uint32_t handle) const {
    return pages_[(handle - 1) / kPageHandles]
        ->entries[(handle - 1) % kPageHandles];
  }
  static void MakeRoom(Page* page, uint32_t size);
  void Advance(uint32_t handle);

  const uint16_t serial_;
  const uint16_t first_generation_;
  const uint32_t devices_max_;

  // Apart from the rest, as it is what is looked at for each execution.
  std::vector<uint16_t> generations_;
  std::vector<std::unique_ptr<Page>> pages_;
  std::deque<uint32_t> free_;
  int size_ = 0;
  // By how much the furthest generation is ahead of the first one.
  uint16_t generations_used_ = 0;
};

}  // namespace muster

#endif  // TRANSPORT_GRPC_GATEWAY_HANDLE_TABLE_H_
