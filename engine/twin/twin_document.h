// TwinDocument: one row of a shard, put together as a document again.
#ifndef ENGINE_TWIN_TWIN_DOCUMENT_H_
#define ENGINE_TWIN_TWIN_DOCUMENT_H_

#include <array>
#include <cstdint>
#include <string>

#include "engine/model/json.h"
#include "engine/query/document.h"
#include "engine/twin/shard.h"

namespace muster {

// A row of the collection `devices`: what conditions and statements read.
// Reusable for many rows, one after the other, without allocating for each.
// All of it under the shard's lock.
class TwinDocument final : public Document {
 public:
  TwinDocument() = default;

  // Makes it the row `row` of `shard`, which must be in use; views got so far
  // are void.
  void Reset(const Shard* shard, int row) {
    shard_ = shard;
    row_ = row;
    built_ = 0;
  }

  // What of a root is put together is so once.  A whole section costs some 10
  // ns for each of its members.
  JsonView Get(Root root) const override;
  // With `$metadata`.
  Json Full() const override { return Full(/*with_metadata=*/true); }
  Json Full(bool with_metadata) const;

 private:
  void Build(Root root, std::string* bytes) const;

  const Shard* shard_ = nullptr;
  int row_ = 0;
  mutable uint64_t built_ = 0;  // A bit per Root.
  mutable std::array<std::string, kRootCount> roots_;
};
static_assert(kRootCount <= 64);

// Appends a twin document as JSON text with its members in the customary order:
// deviceId, etag, version, ..., tags, properties with desired before reported,
// and in those `$metadata` and `$version` last.  Members that are not a twin's
// come behind the others.  REQUIRES: an object.
void AppendTwinJson(JsonView document, std::string* out);

}  // namespace muster

#endif  // ENGINE_TWIN_TWIN_DOCUMENT_H_
