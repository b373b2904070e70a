// Chunk: the sealed envelope around every chunk and every part of a snapshot
// that a journal keeps.
//
// An adapter stores bytes and hands them back.  Whether they are whole, and the
// ones that belong there, is told by what stands before them:
//
//   checksum  part of a chunk changed: a flipped bit, a torn or lost page
//   previous  every chunk carries the checksum of the one before: one that is
//             missing, from another history or in another place breaks the
//             chain, also where its own bytes are whole
//   version   a program does not guess at a format that came after it
//
//   snapshot: mark <- part 0 <- part 1 <- ...
//               ^
//               chunk 42 <- chunk 43 <- ...
//
// A mark is a place between two chunks.  A snapshot's first part carries the
// checksum of the last chunk that the snapshot stands for, and so does the
// first chunk after it: the chain holds across chunks that were trimmed.
//
// Integers are little endian.  The checksum is XXH3 (64 bits, xxHash 0.8):
// against accidents, not against forgers.
#ifndef ENGINE_JOURNAL_CHUNK_H_
#define ENGINE_JOURNAL_CHUNK_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/journal/journal.h"

namespace muster {

// Stands before the payload, as it is.  Every version of the format has the
// magic and the version where they are here.
struct ChunkHeader {
  static constexpr size_t kSize = 64;
  static constexpr uint32_t kMagic = 0x4b48'434d;  // "MCHK"
  // 2: there may be IdentityWritten among the records.  1 is read, too.
  static constexpr uint16_t kVersion = 2;

  uint64_t checksum = 0;  // Of all that follows it, payload included.
  uint32_t magic = kMagic;
  uint16_t version = kVersion;
  uint16_t partition = 0;
  uint64_t sequence = 0;    // The slot; of a part: the first chunk after it.
  uint64_t epoch = 0;       // Of the owner that wrote it.
  int64_t time_us = 0;      // Wall clock, since 1970: to be read by people.
  uint64_t previous = 0;    // The checksum of the one before; 0: there is none.
  uint32_t part = 0;        // Of a snapshot: counted from 0 ...
  uint32_t part_count = 0;  // ... of so many; 0: this is a chunk.
  uint64_t payload_size = 0;
};
static_assert(sizeof(ChunkHeader) == ChunkHeader::kSize);

// A place in a partition's journal.
struct ChunkMark {
  uint64_t sequence = 1;  // Of the next chunk.
  uint64_t checksum = 0;  // Of the one before; 0: there is none.

  friend bool operator==(const ChunkMark&, const ChunkMark&) = default;
};

// Seals `*bytes`, whose first ChunkHeader::kSize bytes are room for the header
// and the rest the payload, in place; returns the checksum.  Magic, version,
// payload_size and checksum of `header` are filled in here.
uint64_t SealChunk(ChunkHeader header, std::string* bytes);

// What is in the envelope; lives as long as the bytes.
struct OpenedChunk {
  ChunkHeader header;
  absl::string_view payload;
};

// Of slot `sequence` of a partition.  The message names both, and the byte.
//   DATA_LOSS            damaged, cut short, or not what belongs there
//   FAILED_PRECONDITION  in a format that came after this program
absl::StatusOr<OpenedChunk> OpenChunk(int partition, uint64_t sequence,
                                      absl::string_view bytes);

// Of part `part` of a partition's snapshot.  Errors as above.
absl::StatusOr<OpenedChunk> OpenSnapshotPart(int partition, uint32_t part,
                                             absl::string_view bytes);

// How much was read.
struct ChunkBytes {
  int64_t snapshot = 0;
  int64_t chunks = 0;  // After it.
};

// Calls `visit` with the payload of every part of the partition's snapshot,
// then of every chunk after it, each once it has been found whole and the next
// of the chain; returns the place behind the last.  Reads only: the partition
// need not be owned.  Stops early, with its status, if `visit` returns an
// error; else errors as above and those of Journal::Read() and ReadSnapshot(),
// but for chunks that are gone: DATA_LOSS.
absl::StatusOr<ChunkMark> ReadChunks(
    const Journal& journal, int partition,
    absl::FunctionRef<absl::Status(absl::string_view payload)> visit,
    ChunkBytes* bytes_read = nullptr);

}  // namespace muster

#endif  // ENGINE_JOURNAL_CHUNK_H_
