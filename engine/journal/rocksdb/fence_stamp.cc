// A slot, numbers with their highest byte first:
//
//   0  8  magic     8  8  commit     16  8  partitions
//   24  8 * partitions  last sequences     then 8  XXH3 of all before
#include "engine/journal/rocksdb/fence_stamp.h"

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/journal/rocksdb/fixed.h"

namespace muster {
namespace {

constexpr uint64_t kMagic = 0x4d535354414d5031;  // "MSSTAMP1"
constexpr size_t kSlotBytes = 4096;              // A page: torn on its own.
constexpr size_t kHeaderBytes = 24;
constexpr uint64_t kPartitionsMax = 256;

void Encode(const FenceStamp& stamp, std::string* out) {
  out->clear();
  AppendBigEndian(kMagic, 8, out);
  AppendBigEndian(stamp.commit, 8, out);
  AppendBigEndian(stamp.last_sequences.size(), 8, out);
  for (const uint64_t last : stamp.last_sequences)
    AppendBigEndian(last, 8, out);
  AppendBigEndian(XXH3_64bits(out->data(), out->size()), 8, out);
}

std::optional<FenceStamp> Decode(absl::string_view slot) {
  const auto load = [&](size_t offset) {
    return LoadBigEndian(slot, offset, 8);
  };
  if (slot.size() < kHeaderBytes || load(0) != kMagic) return std::nullopt;
  const uint64_t partitions = load(16);
  const size_t size = kHeaderBytes + 8 * partitions;
  if (partitions < 1 || partitions > kPartitionsMax || slot.size() < size + 8 ||
      load(size) != XXH3_64bits(slot.data(), size)) {
    return std::nullopt;
  }
  FenceStamp stamp;
  stamp.commit = load(8);
  for (uint64_t i = 0; i < partitions; ++i) {
    stamp.last_sequences.push_back(load(kHeaderBytes + 8 * i));
  }
  return stamp;
}

struct Slots {
  FenceStamp newest;
  int slot = 0;  // Where it is.
};

absl::StatusOr<Slots> ReadSlots(const std::string& path) {
  absl::StatusOr<std::string> bytes = journal_files::Read(path, 2 * kSlotBytes);
  if (!bytes.ok()) return bytes.status();
  bytes->resize(2 * kSlotBytes);
  std::optional<Slots> found;
  for (int slot : {0, 1}) {
    std::optional<FenceStamp> stamp =
        Decode(absl::string_view(*bytes).substr(slot * kSlotBytes, kSlotBytes));
    if (stamp && (!found || stamp->commit > found->newest.commit)) {
      found = Slots{*std::move(stamp), slot};
    }
  }
  if (!found) {
    return absl::DataLossError(
        absl::StrCat(path, " is damaged: neither of its stamps is whole"));
  }
  return *std::move(found);
}

}  // namespace

absl::Status FenceStampFile::Make(const std::string& path,
                                  const FenceStamp& stamp) {
  std::string slot;
  Encode(stamp, &slot);
  slot.resize(kSlotBytes);
  return journal_files::Replace(path, slot + slot);
}

absl::StatusOr<FenceStamp> FenceStampFile::Read(const std::string& path) {
  absl::StatusOr<Slots> slots = ReadSlots(path);
  if (!slots.ok()) return slots.status();
  return std::move(slots->newest);
}

absl::StatusOr<std::unique_ptr<FenceStampFile>> FenceStampFile::Open(
    const std::string& path) {
  absl::StatusOr<Slots> slots = ReadSlots(path);
  if (!slots.ok()) return slots.status();
  OpenFile file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (file.descriptor() < 0) return journal_files::Error(errno, path);
  // What was read may not be on disk yet: a process that was killed has not
  // synced it.
  if (fdatasync(file.descriptor()) != 0)
    return journal_files::Error(errno, path);
  return std::unique_ptr<FenceStampFile>(
      new FenceStampFile(path, std::move(file), 1 - slots->slot));
}

absl::Status FenceStampFile::Write(const FenceStamp& stamp) {
  Encode(stamp, &bytes_);
  for (;;) {
    const ssize_t written =
        pwrite(file_.descriptor(), bytes_.data(), bytes_.size(),
               static_cast<off_t>(slot_ * kSlotBytes));
    if (written == static_cast<ssize_t>(bytes_.size())) {
      return absl::OkStatus();
    }
    if (written < 0 && errno == EINTR) continue;
    return journal_files::Error(written < 0 ? errno : EIO, path_);
  }
}

absl::Status FenceStampFile::Sync() {
  if (fdatasync(file_.descriptor()) != 0)
    return journal_files::Error(errno, path_);
  slot_ = 1 - slot_;
  return absl::OkStatus();
}

}  // namespace muster
