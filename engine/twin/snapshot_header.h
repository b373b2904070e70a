// What stands before a shard's snapshot.  For shard_snapshot.cc and its tests.
#ifndef ENGINE_TWIN_SNAPSHOT_HEADER_H_
#define ENGINE_TWIN_SNAPSHOT_HEADER_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace muster {

// u32 magic, u32 version, u64 size of what follows the header, u64 checksum:
// XXH3 (64 bits), which tells an accident from none, not a forger from a friend
struct SnapshotHeader {
  static constexpr uint32_t kMagic = 0x4453'484d;  // "MHSD"
  static constexpr size_t kSize = 24;

  uint32_t magic = kMagic;
  uint32_t version = 0;
  uint64_t size = 0;
  uint64_t checksum = 0;

  // Of a snapshot of this version of the format.
  static SnapshotHeader For(absl::string_view payload);

  // REQUIRES: at least kSize bytes.
  static SnapshotHeader Read(absl::string_view bytes);
  // kSize bytes.
  std::string Bytes() const;
};

}  // namespace muster

#endif  // ENGINE_TWIN_SNAPSHOT_HEADER_H_
