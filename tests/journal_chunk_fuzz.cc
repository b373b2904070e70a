// Any bytes as a chunk, and as the records of one that is whole.
//
//   open      takes only what SealChunk() makes: sealed again it is the same,
//             and one of the version before the same but for that
//   records   are read, or refused with DATA_LOSS
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/journal/chunk.h"
#include "engine/journal/record.h"
#include "engine/model/check.h"

namespace muster {
namespace {

void CheckRecords(absl::string_view payload) {
  const absl::Status status =
      ReadRecords(payload, [](const Record&) { return absl::OkStatus(); });
  MUSTER_CHECK(status.ok() || absl::IsDataLoss(status));
}

// As they are: nearly always refused.
void CheckOpen(absl::string_view bytes) {
  const absl::StatusOr<OpenedChunk> chunk = OpenChunk(0, 1, bytes);
  if (!chunk.ok()) {
    MUSTER_CHECK(absl::IsDataLoss(chunk.status()) ||
                 absl::IsFailedPrecondition(chunk.status()));
    return;
  }
  std::string again(bytes);
  SealChunk(chunk->header, &again);
  if (chunk->header.version == ChunkHeader::kVersion) {
    MUSTER_CHECK(again == bytes);
  } else {
    const absl::StatusOr<OpenedChunk> newer = OpenChunk(0, 1, again);
    MUSTER_CHECK(newer.ok() && newer->payload == chunk->payload);
    MUSTER_CHECK(chunk->header.version < ChunkHeader::kVersion);
  }
  CheckRecords(chunk->payload);
}

// Sealed here: taken exactly if the header says that it belongs there.
void CheckSealed(absl::string_view bytes) {
  std::string sealed(bytes);
  ChunkHeader header;
  std::memcpy(&header, sealed.data(), sizeof(header));
  const bool is_part = header.part_count != 0;
  const uint64_t checksum = SealChunk(header, &sealed);
  const absl::StatusOr<OpenedChunk> chunk =
      is_part ? OpenSnapshotPart(header.partition, header.part, sealed)
              : OpenChunk(header.partition, header.sequence, sealed);
  MUSTER_CHECK(chunk.ok() == (!is_part || header.part < header.part_count));
  if (!chunk.ok()) return;
  MUSTER_CHECK(chunk->header.checksum == checksum);
  MUSTER_CHECK(chunk->payload == bytes.substr(ChunkHeader::kSize));
  CheckRecords(chunk->payload);
}

}  // namespace
}  // namespace muster

// The first byte says how the others are to be taken.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const absl::string_view bytes(reinterpret_cast<const char*>(data + 1),
                                size - 1);
  if (data[0] % 4 == 0) {
    muster::CheckOpen(bytes);
  } else if (data[0] % 4 == 1 && bytes.size() >= muster::ChunkHeader::kSize) {
    muster::CheckSealed(bytes);
  } else {
    muster::CheckRecords(bytes);
  }
  return 0;
}
