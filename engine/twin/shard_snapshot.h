// ShardSnapshot: a shard as bytes, and back.
//
// The bytes are about what the shard takes in memory: columns are copied as
// they are, dictionaries without their hash tables.  They hold everything that
// later answers depend on: rows and their numbers, stamps, the sequence, and
// the former tenants that cuts may name.  They can be read on any machine of
// the same byte order (little endian), by this version of the format and those
// that come after it.
//
// Bytes that are cut short or were changed are refused, not read.  A checksum
// covers them; and should that be right all the same, a shard that was read is
// one that could have been written: each twin is what ParseTwin() takes (but
// for the size of the members beside its sections), and has the size that is
// stored for it.
#ifndef ENGINE_TWIN_SHARD_SNAPSHOT_H_
#define ENGINE_TWIN_SHARD_SNAPSHOT_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/twin/shard.h"

namespace muster {

class ShardSnapshot {
 public:
  // 3: there may be `$identity` among the roots (identity_document.h), and
  // connections that are kept back at the end.  2 is read, too.
  static constexpr uint32_t kVersion = 3;
  static constexpr uint32_t kVersionOldest = 2;

  // Appends the shard.  About 0.5 ms for a full shard of the benchmark fleet.
  static void Write(const Shard& shard, std::string* out)
      ABSL_SHARED_LOCKS_REQUIRED(shard.mutex);

  // A shard that is in no index yet: TwinIndex::Restore().  About 9 ms for
  // such a shard.
  //   DATA_LOSS          cut short, changed, or no snapshot: says at which byte
  //   FAILED_PRECONDITION  of another version of the format
  static absl::StatusOr<std::unique_ptr<Shard>> Read(absl::string_view bytes);

 private:
  class Writer;
  class Reader;

  static void Put(const CodeArray& codes, Writer* out);
  static void Put(const IntColumn& column, Writer* out);
  static void Put(const Dictionary& dictionary, Writer* out);
  static void Put(const Column& column, Writer* out);
  static void Put(const PropertyTree::Node& node, Writer* out);

  static bool GetShard(Reader* in, Shard* shard)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard->mutex);
};

}  // namespace muster

#endif  // ENGINE_TWIN_SHARD_SNAPSHOT_H_
