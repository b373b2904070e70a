#include "engine/journal/chunk.h"

#include <xxhash.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "engine/model/check.h"

namespace muster {
namespace {

// What a header says of itself, and what is said about it.
constexpr size_t kChecked = sizeof(ChunkHeader::checksum);

uint64_t ChecksumOf(absl::string_view bytes) {
  return XXH3_64bits(bytes.data() + kChecked, bytes.size() - kChecked);
}

// Where something is wrong.
struct Place {
  int partition;
  uint64_t number;
  bool is_part;

  std::string Name() const {
    return absl::StrCat("partition ", partition,
                        is_part ? ", snapshot part " : ", chunk ", number);
  }
  absl::Status Lost(size_t byte, absl::string_view why) const {
    return absl::DataLossError(
        absl::StrCat(Name(), ", byte ", byte, ": ", why));
  }
};

// All that the bytes say about themselves.
absl::StatusOr<OpenedChunk> Open(const Place& place, absl::string_view bytes) {
  if (bytes.size() < ChunkHeader::kSize) {
    return place.Lost(bytes.size(), "it ends within its header");
  }
  OpenedChunk chunk;
  ChunkHeader& header = chunk.header;
  std::memcpy(&header, bytes.data(), ChunkHeader::kSize);
  chunk.payload = bytes.substr(ChunkHeader::kSize);
  if (header.magic != ChunkHeader::kMagic) {
    return place.Lost(offsetof(ChunkHeader, magic), "this is no chunk");
  }
  if (header.version > ChunkHeader::kVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        place.Name(), ": the format of chunks has version ", header.version,
        "; this program reads up to version ", ChunkHeader::kVersion));
  }
  if (header.version == 0) {
    return place.Lost(offsetof(ChunkHeader, version),
                      absl::StrCat("there is no version ", header.version));
  }
  if (header.payload_size != chunk.payload.size()) {
    return place.Lost(offsetof(ChunkHeader, payload_size),
                      absl::StrCat("it should hold ", header.payload_size,
                                   " bytes and holds ", chunk.payload.size()));
  }
  if (header.checksum != ChecksumOf(bytes)) {
    return place.Lost(offsetof(ChunkHeader, checksum),
                      "its bytes do not add up to its checksum");
  }
  if (header.partition != place.partition) {
    return place.Lost(offsetof(ChunkHeader, partition),
                      absl::StrCat("it is of partition ", header.partition));
  }
  return chunk;
}

}  // namespace

uint64_t SealChunk(ChunkHeader header, std::string* bytes) {
  MUSTER_CHECK(bytes->size() >= ChunkHeader::kSize);
  header.magic = ChunkHeader::kMagic;
  header.version = ChunkHeader::kVersion;
  header.payload_size = bytes->size() - ChunkHeader::kSize;
  std::memcpy(bytes->data(), &header, ChunkHeader::kSize);
  const uint64_t checksum = ChecksumOf(*bytes);
  std::memcpy(bytes->data(), &checksum, sizeof(checksum));
  return checksum;
}

absl::StatusOr<OpenedChunk> OpenChunk(int partition, uint64_t sequence,
                                      absl::string_view bytes) {
  const Place place = {partition, sequence, /*is_part=*/false};
  absl::StatusOr<OpenedChunk> chunk = Open(place, bytes);
  if (!chunk.ok()) return chunk;
  const ChunkHeader& header = chunk->header;
  if (header.part_count != 0) {
    return place.Lost(offsetof(ChunkHeader, part_count),
                      "it is a part of a snapshot");
  }
  if (header.sequence != sequence) {
    return place.Lost(offsetof(ChunkHeader, sequence),
                      absl::StrCat("it is chunk ", header.sequence));
  }
  return chunk;
}

absl::StatusOr<OpenedChunk> OpenSnapshotPart(int partition, uint32_t part,
                                             absl::string_view bytes) {
  const Place place = {partition, part, /*is_part=*/true};
  absl::StatusOr<OpenedChunk> chunk = Open(place, bytes);
  if (!chunk.ok()) return chunk;
  const ChunkHeader& header = chunk->header;
  if (header.part_count == 0) {
    return place.Lost(offsetof(ChunkHeader, part_count),
                      "it is no part of a snapshot");
  }
  if (header.part != part || part >= header.part_count) {
    return place.Lost(
        offsetof(ChunkHeader, part),
        absl::StrCat("it is part ", header.part, " of ", header.part_count));
  }
  return chunk;
}

absl::StatusOr<ChunkMark> ReadChunks(
    const Journal& journal, int partition,
    absl::FunctionRef<absl::Status(absl::string_view)> visit,
    ChunkBytes* bytes_read) {
  ChunkBytes total;
  ChunkMark mark;
  ChunkHeader last;  // The part before, and then the chunk before.
  uint32_t parts = 0;
  absl::StatusOr<uint64_t> from =
      journal.ReadSnapshot(partition, [&](absl::string_view bytes) {
        const Place place = {partition, parts, /*is_part=*/true};
        absl::StatusOr<OpenedChunk> part =
            OpenSnapshotPart(partition, parts, bytes);
        if (!part.ok()) return part.status();
        const ChunkHeader& header = part->header;
        if (parts == 0) {
          mark = {header.sequence, header.previous};
        } else if (header.previous != last.checksum ||
                   header.sequence != last.sequence ||
                   header.part_count != last.part_count) {
          return place.Lost(offsetof(ChunkHeader, previous),
                            "it is not of the snapshot of the part before");
        }
        last = header;
        ++parts;
        total.snapshot += static_cast<int64_t>(bytes.size());
        return visit(part->payload);
      });
  if (!from.ok()) return from.status();
  if (parts != last.part_count) {
    return Place{partition, parts, /*is_part=*/true}.Lost(
        0, absl::StrCat("it is missing; there should be ", last.part_count));
  }
  if (*from != mark.sequence) {
    return absl::DataLossError(absl::StrCat(
        "partition ", partition, ": the snapshot is said to end before chunk ",
        *from, "; it ends before chunk ", mark.sequence));
  }
  bool stopped = false;  // By `visit`.
  const absl::Status read = journal.Read(
      partition, mark.sequence,
      [&](uint64_t sequence, absl::string_view bytes) {
        const Place place = {partition, mark.sequence, /*is_part=*/false};
        if (sequence != mark.sequence) {
          return place.Lost(
              0, absl::StrCat("it is missing; chunk ", sequence, " follows"));
        }
        absl::StatusOr<OpenedChunk> chunk =
            OpenChunk(partition, sequence, bytes);
        if (!chunk.ok()) return chunk.status();
        const ChunkHeader& header = chunk->header;
        if (header.previous != mark.checksum) {
          return place.Lost(offsetof(ChunkHeader, previous),
                            "it does not follow the chunk before it");
        }
        // An owner that was fenced wrote after its successor.
        if (header.epoch < last.epoch) {
          return place.Lost(offsetof(ChunkHeader, epoch),
                            absl::StrCat("epoch ", header.epoch,
                                         " wrote it after epoch ", last.epoch));
        }
        last = header;
        mark = {sequence + 1, header.checksum};
        total.chunks += static_cast<int64_t>(bytes.size());
        const absl::Status visited = visit(chunk->payload);
        stopped = !visited.ok();
        return visited;
      });
  if (!stopped && absl::IsOutOfRange(read)) {
    return absl::DataLossError(read.message());
  }
  if (!read.ok()) return read;
  if (bytes_read != nullptr) *bytes_read = total;
  return mark;
}

}  // namespace muster
