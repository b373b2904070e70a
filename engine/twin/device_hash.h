// The hash that says in which partition a device lives.
//
// A partition is the unit of journal and ownership, so the answer is part of
// what is stored: it must be the same in every process, on every machine and in
// every version.  That rules out absl::Hash, which is seeded per process.
#ifndef ENGINE_TWIN_DEVICE_HASH_H_
#define ENGINE_TWIN_DEVICE_HASH_H_

#include <cstdint>

#include "absl/strings/string_view.h"

namespace muster {

// FNV-1a of the id's bytes, 64 bits, and then MurmurHash3's finalizer, since
// FNV alone hardly carries the last characters into the upper bits, where ids
// that are numbered differ.  Never to be changed; the values of a few ids are
// written down in tests/twin_index_test.cc.
inline uint64_t DeviceHash(absl::string_view device_id) {
  uint64_t h = 0xcbf29ce484222325;
  for (const char c : device_id) {
    h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  }
  h = (h ^ (h >> 33)) * 0xff51afd7ed558ccd;
  h = (h ^ (h >> 33)) * 0xc4ceb9fe1a85ec53;
  return h ^ (h >> 33);
}

// The upper half, scaled to [0, partition_count).
// REQUIRES: partition_count is at least 1.
inline int PartitionOfHash(uint64_t hash, int partition_count) {
  return static_cast<int>((hash >> 32) * static_cast<uint64_t>(partition_count) >>
                          32);
}

}  // namespace muster

#endif  // ENGINE_TWIN_DEVICE_HASH_H_
