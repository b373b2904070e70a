// Chunks: what is sealed opens as it was; what was changed, lost or put in
// another place is found, and said where.
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/journal/chunk.h"
#include "gtest/gtest.h"
#include "tests/forwarding_journal.h"

namespace muster {
namespace {

std::string Sealed(const ChunkHeader& header, absl::string_view payload,
                   uint64_t* checksum = nullptr) {
  std::string bytes(ChunkHeader::kSize, '?');  // Whatever is in the room.
  absl::StrAppend(&bytes, payload);
  const uint64_t sum = SealChunk(header, &bytes);
  if (checksum != nullptr) *checksum = sum;
  return bytes;
}

ChunkHeader SomeHeader() {
  ChunkHeader header;
  header.partition = 7;
  header.sequence = 42;
  header.epoch = 3;
  header.time_us = 1'930'000'000'123'456;
  header.previous = 0x0123'4567'89ab'cdef;
  return header;
}

TEST(ChunkTest, OpensAsItWas) {
  for (const std::string& payload :
       {std::string(), std::string("records"), std::string(300'000, '\xff')}) {
    uint64_t checksum = 0;
    const std::string bytes = Sealed(SomeHeader(), payload, &checksum);
    const auto chunk = OpenChunk(7, 42, bytes);
    ASSERT_TRUE(chunk.ok()) << chunk.status();
    EXPECT_EQ(chunk->payload, payload);
    EXPECT_EQ(chunk->header.checksum, checksum);
    EXPECT_EQ(chunk->header.partition, 7);
    EXPECT_EQ(chunk->header.sequence, 42);
    EXPECT_EQ(chunk->header.epoch, 3);
    EXPECT_EQ(chunk->header.time_us, 1'930'000'000'123'456);
    EXPECT_EQ(chunk->header.previous, 0x0123'4567'89ab'cdef);
    EXPECT_EQ(chunk->header.payload_size, payload.size());
  }
}

// The format is what other versions of this program read.
TEST(ChunkTest, TheBytesAreThese) {
  EXPECT_EQ(absl::BytesToHexString(Sealed(SomeHeader(), "records")),
            "b59dabc6ba23d0534d43484b020007002a000000000000000300000000000000"
            "40826c2453db0600efcdab896745230100000000000000000700000000000000"
            "7265636f726473");
}

// Of the version before.
TEST(ChunkTest, ReadsVersion1) {
  const std::string bytes = absl::HexStringToBytes(
      "e45d6840a4afdd064d43484b010007002a000000000000000300000000000000"
      "40826c2453db0600efcdab896745230100000000000000000700000000000000"
      "7265636f726473");
  const auto chunk = OpenChunk(7, 42, bytes);
  ASSERT_TRUE(chunk.ok()) << chunk.status();
  EXPECT_EQ(chunk->header.version, 1);
  EXPECT_EQ(chunk->payload, "records");
}

TEST(ChunkTest, EveryFlippedBitIsFound) {
  const std::string bytes = Sealed(SomeHeader(), "some records");
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string damaged = bytes;
    damaged[bit / 8] ^= static_cast<char>(1 << bit % 8);
    const absl::Status status = OpenChunk(7, 42, damaged).status();
    const bool newer =
        absl::IsFailedPrecondition(status) &&
        bit / 8 - offsetof(ChunkHeader, version) < sizeof(uint16_t);
    EXPECT_TRUE(newer || absl::IsDataLoss(status)) << bit << ": " << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "partition 7, chunk 42"))
        << status;
  }
}

TEST(ChunkTest, EveryOtherLengthIsFound) {
  const std::string bytes = Sealed(SomeHeader(), "some records");
  for (size_t size = 0; size < bytes.size(); ++size) {
    const auto cut = OpenChunk(7, 42, absl::string_view(bytes).substr(0, size));
    EXPECT_TRUE(absl::IsDataLoss(cut.status())) << size;
  }
  EXPECT_TRUE(absl::IsDataLoss(OpenChunk(7, 42, bytes + "x").status()));
}

TEST(ChunkTest, SaysWhereAndWhy) {
  ChunkHeader header = SomeHeader();
  const std::string chunk = Sealed(header, "records");
  header.part = 1;
  header.part_count = 3;
  const std::string part = Sealed(header, "records");
  std::string newer = chunk;
  const uint16_t version = ChunkHeader::kVersion + 1;
  std::memcpy(newer.data() + offsetof(ChunkHeader, version), &version,
              sizeof(version));
  std::string torn = chunk;
  torn.back() = '\0';
  ASSERT_TRUE(OpenSnapshotPart(7, 1, part).ok());
  using absl::StatusCode;
  const struct {
    absl::Status status;
    StatusCode code;
    std::string message;
  } cases[] = {
      {OpenChunk(7, 42, "").status(), StatusCode::kDataLoss,
       "partition 7, chunk 42, byte 0: it ends within its header"},
      {OpenChunk(7, 42, std::string(64, 'x')).status(), StatusCode::kDataLoss,
       "partition 7, chunk 42, byte 8: this is no chunk"},
      {OpenChunk(7, 42, newer).status(), StatusCode::kFailedPrecondition,
       "partition 7, chunk 42: the format of chunks has version 3; this "
       "program reads up to version 2"},
      {OpenChunk(7, 42, chunk + "x").status(), StatusCode::kDataLoss,
       "partition 7, chunk 42, byte 56: it should hold 7 bytes and holds 8"},
      {OpenChunk(7, 42, torn).status(), StatusCode::kDataLoss,
       "partition 7, chunk 42, byte 0: its bytes do not add up to its "
       "checksum"},
      {OpenChunk(6, 42, chunk).status(), StatusCode::kDataLoss,
       "partition 6, chunk 42, byte 14: it is of partition 7"},
      {OpenChunk(7, 41, chunk).status(), StatusCode::kDataLoss,
       "partition 7, chunk 41, byte 16: it is chunk 42"},
      {OpenChunk(7, 42, part).status(), StatusCode::kDataLoss,
       "partition 7, chunk 42, byte 52: it is a part of a snapshot"},
      {OpenSnapshotPart(7, 0, chunk).status(), StatusCode::kDataLoss,
       "partition 7, snapshot part 0, byte 52: it is no part of a snapshot"},
      {OpenSnapshotPart(7, 2, part).status(), StatusCode::kDataLoss,
       "partition 7, snapshot part 2, byte 48: it is part 1 of 3"},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(c.status.code(), c.code) << c.message;
    EXPECT_EQ(c.status.message(), c.message);
  }
}

// ------------------------------------------------------------------ the chain

// What a store holds, to be changed behind everybody's back.
class OpenJournal : public ForwardingJournal {
 public:
  absl::Status Read(int, uint64_t from,
                    absl::FunctionRef<absl::Status(uint64_t, absl::string_view)>
                        visit) const override {
    if (!chunks.empty() && from < chunks.begin()->first) {
      return absl::OutOfRangeError("trimmed");
    }
    for (auto it = chunks.lower_bound(from); it != chunks.end(); ++it) {
      if (absl::Status s = visit(it->first, it->second); !s.ok()) return s;
    }
    return absl::OkStatus();
  }
  absl::StatusOr<uint64_t> ReadSnapshot(
      int,
      absl::FunctionRef<absl::Status(absl::string_view)> visit) const override {
    for (const std::string& part : parts) {
      if (absl::Status s = visit(part); !s.ok()) return s;
    }
    return snapshot_end;
  }

  // Three parts for chunks 1 .. 9, then chunks 10 .. 14; `history` tells apart
  // what two of them say.
  explicit OpenJournal(absl::string_view history = "") {
    ChunkHeader header;
    header.partition = kPartition;
    header.sequence = snapshot_end = 10;
    header.epoch = 2;
    header.part_count = 3;
    const uint64_t mark = header.previous = 1234;
    for (; header.part < 3; ++header.part) {
      parts.push_back(Sealed(header, absl::StrCat(history, "p", header.part),
                             &header.previous));
    }
    header.part = header.part_count = 0;
    header.previous = mark;
    for (; header.sequence < 15; ++header.sequence) {
      if (header.sequence == 12) header.epoch = 5;
      chunks[header.sequence] = Sealed(
          header, absl::StrCat(history, header.sequence), &header.previous);
    }
    end = {15, header.previous};
  }

  // Changes a header and seals it again, as a program with a bug would.
  template <typename F>
  static void Reseal(std::string* bytes, F change) {
    ChunkHeader header;
    std::memcpy(&header, bytes->data(), sizeof(header));
    change(header);
    SealChunk(header, bytes);
  }

  static constexpr int kPartition = 3;
  std::vector<std::string> parts;
  uint64_t snapshot_end = 1;
  std::map<uint64_t, std::string> chunks;
  ChunkMark end;
};

constexpr int kPartition = OpenJournal::kPartition;

absl::StatusOr<ChunkMark> ReadAll(const Journal& journal, std::string* read) {
  return ReadChunks(journal, kPartition, [&](absl::string_view payload) {
    absl::StrAppend(read, payload, " ");
    return absl::OkStatus();
  });
}

TEST(ReadChunksTest, VisitsPartsThenChunks) {
  OpenJournal journal;
  std::string read;
  auto end = ReadAll(journal, &read);
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(read, "p0 p1 p2 10 11 12 13 14 ");
  EXPECT_EQ(*end, journal.end);

  journal.chunks.clear();
  read.clear();
  end = ReadAll(journal, &read);
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(read, "p0 p1 p2 ");
  EXPECT_EQ(*end, (ChunkMark{10, 1234}));

  journal.parts.clear();
  journal.snapshot_end = 1;
  read.clear();
  end = ReadAll(journal, &read);
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(read, "");
  EXPECT_EQ(*end, ChunkMark());
}

TEST(ReadChunksTest, StopsWithTheVisitorsStatus) {
  const OpenJournal journal;
  for (int stop = 1; stop <= 8; ++stop) {
    int seen = 0;
    const auto end = ReadChunks(journal, kPartition, [&](absl::string_view) {
      return ++seen == stop ? absl::OutOfRangeError("enough")
                            : absl::OkStatus();
    });
    EXPECT_EQ(end.status(), absl::OutOfRangeError("enough"));
    EXPECT_EQ(seen, stop);
  }
}

TEST(ReadChunksTest, ANewerVersionIsRefusedByName) {
  const uint16_t version = ChunkHeader::kVersion + 1;
  for (bool in_part : {false, true}) {
    OpenJournal journal;
    std::string& newer = in_part ? journal.parts[2] : journal.chunks[12];
    std::memcpy(newer.data() + offsetof(ChunkHeader, version), &version,
                sizeof(version));
    std::string read;
    const auto end = ReadAll(journal, &read);
    EXPECT_TRUE(absl::IsFailedPrecondition(end.status())) << end.status();
    EXPECT_TRUE(absl::StrContains(
        end.status().message(),
        in_part ? "snapshot part 2: the format of chunks has version 3"
                : "chunk 12: the format of chunks has version 3"))
        << end.status();
    EXPECT_EQ(read, in_part ? "p0 p1 " : "p0 p1 p2 10 11 ");
  }
}

TEST(ReadChunksTest, EveryBreakIsFoundBeforeWhatIsBehindIt) {
  const OpenJournal fork("another ");
  const struct {
    std::string what;
    void (*damage)(OpenJournal&, const OpenJournal& fork);
    std::string read;
    std::string message;
  } cases[] = {
      {"a flipped bit in a chunk",
       [](OpenJournal& j, const OpenJournal&) { j.chunks[12].back() ^= 1; },
       "p0 p1 p2 10 11 ", "partition 3, chunk 12, byte 0: its bytes do not"},
      {"a flipped bit in a part",
       [](OpenJournal& j, const OpenJournal&) { j.parts[1].back() ^= 1; },
       "p0 ", "partition 3, snapshot part 1, byte 0: its bytes do not"},
      {"a gap", [](OpenJournal& j, const OpenJournal&) { j.chunks.erase(12); },
       "p0 p1 p2 10 11 ",
       "partition 3, chunk 12, byte 0: it is missing; chunk 13 follows"},
      {"a gap that was closed",
       [](OpenJournal& j, const OpenJournal&) {
         for (int i = 12; i < 14; ++i) j.chunks[i] = j.chunks[i + 1];
       },
       "p0 p1 p2 10 11 ", "chunk 12, byte 16: it is chunk 13"},
      {"the first chunk is gone",
       [](OpenJournal& j, const OpenJournal&) { j.chunks.erase(10); },
       "p0 p1 p2 ", "trimmed"},
      {"a chunk of another history",
       [](OpenJournal& j, const OpenJournal& fork) {
         j.chunks[13] = fork.chunks.at(13);
       },
       "p0 p1 p2 10 11 12 ",
       "chunk 13, byte 40: it does not follow the chunk before it"},
      {"all chunks of another history, from the snapshot on",
       [](OpenJournal& j, const OpenJournal&) {
         OpenJournal::Reseal(&j.chunks[10],
                             [](ChunkHeader& h) { h.previous = 1235; });
       },
       "p0 p1 p2 ", "chunk 10, byte 40: it does not follow"},
      {"a chunk of another partition",
       [](OpenJournal& j, const OpenJournal&) {
         OpenJournal::Reseal(&j.chunks[11],
                             [](ChunkHeader& h) { h.partition = 2; });
       },
       "p0 p1 p2 10 ", "chunk 11, byte 14: it is of partition 2"},
      {"a fenced owner wrote on",
       [](OpenJournal& j, const OpenJournal&) {
         OpenJournal::Reseal(&j.chunks[14],
                             [](ChunkHeader& h) { h.epoch = 4; });
       },
       "p0 p1 p2 10 11 12 13 ",
       "chunk 14, byte 24: epoch 4 wrote it after epoch 5"},
      {"no first part",
       [](OpenJournal& j, const OpenJournal&) {
         j.parts.erase(j.parts.begin());
       },
       "", "snapshot part 0, byte 48: it is part 1 of 3"},
      {"no last part",
       [](OpenJournal& j, const OpenJournal&) { j.parts.pop_back(); }, "p0 p1 ",
       "snapshot part 2, byte 0: it is missing; there should be 3"},
      {"a part too many",
       [](OpenJournal& j, const OpenJournal&) {
         j.parts.push_back(j.parts.back());
       },
       "p0 p1 p2 ", "snapshot part 3, byte 48: it is part 2 of 3"},
      {"a part of another snapshot",
       [](OpenJournal& j, const OpenJournal& fork) {
         j.parts[2] = fork.parts[2];
       },
       "p0 p1 ", "snapshot part 2, byte 40: it is not of the snapshot"},
      {"the snapshot ends elsewhere",
       [](OpenJournal& j, const OpenJournal&) { j.snapshot_end = 11; },
       "p0 p1 p2 ",
       "partition 3: the snapshot is said to end before chunk 11; it ends "
       "before chunk 10"},
      {"the snapshot is gone",
       [](OpenJournal& j, const OpenJournal&) { j.parts.clear(); }, "",
       "partition 3: the snapshot is said to end before chunk 10; it ends "
       "before chunk 1"},
  };
  for (const auto& c : cases) {
    OpenJournal journal;
    c.damage(journal, fork);
    std::string read;
    const auto end = ReadAll(journal, &read);
    EXPECT_TRUE(absl::IsDataLoss(end.status())) << c.what << end.status();
    EXPECT_TRUE(absl::StrContains(end.status().message(), c.message))
        << c.what << ": " << end.status();
    EXPECT_EQ(read, c.read) << c.what;
  }
}

}  // namespace
}  // namespace muster
