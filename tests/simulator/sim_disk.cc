#include "tests/simulator/sim_disk.h"

#include <algorithm>
#include <utility>

namespace muster::simulator {

absl::Status SimDisk::Begin() {
  ++operations_;
  if (!dead_ && left_ >= 0 && left_-- == 0) {
    dead_ = true;
    world_.faults.Count(Fault::kCrashAtWrite);
  }
  if (dead_) return absl::UnavailableError("the machine is off");
  return absl::OkStatus();
}

absl::Status SimDisk::Append(const std::string& file, absl::string_view bytes) {
  if (absl::Status s = Begin(); !s.ok()) {
    // The write that it died of may have been done in part.
    if (left_ == -1) files_[file].bytes.append(bytes.data(), bytes.size());
    left_ = -2;
    return s;
  }
  if (full_) {
    world_.faults.Count(Fault::kDiskFull);
    return absl::ResourceExhaustedError("no space left on device");
  }
  if (world_.faults.Strikes(Fault::kWriteFails)) {
    return absl::UnavailableError("write: input/output error");
  }
  File& f = files_[file];
  if (world_.faults.Strikes(Fault::kShortWrite)) {
    const size_t part = world_.choices->Below(
        static_cast<uint32_t>(std::max<size_t>(bytes.size(), 1)));
    f.bytes.append(bytes.data(), part);
    return absl::UnavailableError("write: only a part was written");
  }
  f.bytes.append(bytes.data(), bytes.size());
  return absl::OkStatus();
}

absl::Status SimDisk::Sync(const std::string& file) {
  if (absl::Status s = Begin(); !s.ok()) return s;
  if (world_.faults.Strikes(Fault::kSyncFails)) {
    return absl::UnavailableError("fdatasync: input/output error");
  }
  File& f = files_[file];
  f.synced = f.bytes.size();
  return absl::OkStatus();
}

absl::Status SimDisk::Truncate(const std::string& file, size_t size) {
  if (absl::Status s = Begin(); !s.ok()) return s;
  File& f = files_[file];
  f.bytes.resize(std::min(size, f.bytes.size()));
  f.synced = f.bytes.size();
  return absl::OkStatus();
}

absl::Status SimDisk::Rename(const std::string& from, const std::string& to) {
  if (absl::Status s = Begin(); !s.ok()) return s;
  files_[to] = std::move(files_[from]);
  files_.erase(from);
  return absl::OkStatus();
}

absl::string_view SimDisk::Read(const std::string& file) const {
  auto it = files_.find(file);
  return it == files_.end() ? absl::string_view() : it->second.bytes;
}

void SimDisk::LoseUnsynced(const std::string& file) {
  auto it = files_.find(file);
  if (it == files_.end()) return;
  File& f = it->second;
  if (f.synced == f.bytes.size()) return;
  Choices& choices = *world_.choices;
  const size_t unsynced = f.bytes.size() - f.synced;
  switch (choices.Below(4)) {
    case 0:  // It was all written back already.
      break;
    case 1:
      f.bytes.resize(f.synced);
      world_.faults.Count(Fault::kPagesLost);
      break;
    case 2:
      f.bytes.resize(f.synced + choices.Below(static_cast<uint32_t>(unsynced)));
      world_.faults.Count(Fault::kPageTorn);
      break;
    case 3: {
      // The length is there, and any of the pages.
      bool any = false;
      for (size_t at = f.synced; at < f.bytes.size();) {
        const size_t end =
            std::min(f.bytes.size(), (at / kPageBytes + 1) * kPageBytes);
        if (choices.Below(2) == 0) {
          std::fill(f.bytes.begin() + static_cast<ptrdiff_t>(at),
                    f.bytes.begin() + static_cast<ptrdiff_t>(end), '\0');
          any = true;
        }
        at = end;
      }
      if (any) world_.faults.Count(Fault::kPagesReordered);
      break;
    }
  }
  f.synced = f.bytes.size();
}

void SimDisk::PowerOff() {
  for (auto& [name, file] : files_) LoseUnsynced(name);
  dead_ = false;
  left_ = -1;
}

void SimDisk::FlipBit(const std::string& file, size_t bit) {
  char& byte = files_[file].bytes[bit / 8];
  byte = static_cast<char>(byte ^ (1 << (bit % 8)));
}

}  // namespace muster::simulator
