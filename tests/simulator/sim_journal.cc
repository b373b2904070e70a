#include "tests/simulator/sim_journal.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/model/check.h"

namespace muster::simulator {
namespace {

// Before a frame's payload: checksum of what follows, sequence (0: only an
// epoch), epoch, length.
constexpr size_t kHeadBytes = 32;

uint64_t Load64(const char* from) {
  uint64_t value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

void Append64(uint64_t value, std::string* out) {
  char bytes[sizeof(value)];
  std::memcpy(bytes, &value, sizeof(value));
  out->append(bytes, sizeof(bytes));
}

// Good enough to tell what was written from what was not.
uint64_t Checksum(absl::string_view bytes) {
  uint64_t sum = 0x9e3779b97f4a7c15 ^ bytes.size();
  const auto mix = [&sum](uint64_t word) {
    sum = (sum ^ word) * 0xff51afd7ed558ccd;
    sum ^= sum >> 32;
  };
  while (bytes.size() >= 8) {
    mix(Load64(bytes.data()));
    bytes.remove_prefix(8);
  }
  char rest[8] = {};
  std::memcpy(rest, bytes.data(), bytes.size());
  mix(Load64(rest));
  return sum;
}

struct Frame {
  uint64_t sequence;
  uint64_t epoch;
  absl::string_view payload;
  bool good;     // The checksum is right.
  size_t bytes;  // On disk.
};

std::string FrameOf(uint64_t sequence, uint64_t epoch,
                    absl::string_view payload) {
  std::string body;
  Append64(sequence, &body);
  Append64(epoch, &body);
  Append64(payload.size(), &body);
  body.append(payload.data(), payload.size());
  std::string frame;
  Append64(Checksum(body), &frame);
  frame.append(body);
  return frame;
}

// The frame at the beginning of `bytes`; nullopt if none of its length fits.
std::optional<Frame> FrameAt(absl::string_view bytes) {
  if (bytes.size() < kHeadBytes) return std::nullopt;
  const uint64_t size = Load64(bytes.data() + 24);
  if (size > bytes.size() - kHeadBytes) return std::nullopt;
  Frame frame;
  frame.sequence = Load64(bytes.data() + 8);
  frame.epoch = Load64(bytes.data() + 16);
  frame.payload = bytes.substr(kHeadBytes, size);
  frame.bytes = kHeadBytes + size;
  frame.good =
      Load64(bytes.data()) == Checksum(bytes.substr(8, frame.bytes - 8));
  return frame;
}

// Whether a whole frame begins anywhere behind the first byte.
bool AnyFrameIn(absl::string_view bytes) {
  for (size_t at = 1; at + kHeadBytes <= bytes.size(); ++at) {
    const std::optional<Frame> frame = FrameAt(bytes.substr(at));
    if (frame.has_value() && frame->good) return true;
  }
  return false;
}

}  // namespace

SimJournal::SimJournal(World* world, SimDisk* disk, Executor* executor,
                       Clock* clock, int partitions)
    : world_(*world),
      disk_(*disk),
      executor_(*executor),
      clock_(*clock),
      partitions_(static_cast<size_t>(partitions)) {
  for (int i = 0; i < partitions; ++i) {
    partitions_[i].log = absl::StrCat("log-", i);
    partitions_[i].snapshot = absl::StrCat("snapshot-", i);
  }
}

std::unique_ptr<SimJournal::Front> SimJournal::MakeFront() {
  return std::make_unique<Front>(this);
}

void SimJournal::BeginBlocking(int partition) {
  blocking_ = true;
  for (int i = 0; i < partition_count(); ++i) {
    if (partition != kAll && partition != i) continue;
    if (partitions_[i].pending) Complete(partitions_[i]);
  }
}

bool SimJournal::busy() const {
  return std::any_of(partitions_.begin(), partitions_.end(),
                     [](const Partition& p) { return p.pending.has_value(); });
}

void SimJournal::PowerOff() {
  disk_.PowerOff();
  for (Partition& p : partitions_) {
    MUSTER_CHECK(!p.pending.has_value());
    p.unknown = true;
  }
}

bool SimJournal::Damage() {
  std::vector<std::pair<std::string, size_t>> ends;
  for (const Partition& p : partitions_) {
    // Of the last frame nobody could tell damage from a torn tail.
    const absl::string_view bytes = disk_.Read(p.log);
    size_t last = 0;
    for (size_t at = 0; at < bytes.size();) {
      const std::optional<Frame> frame = FrameAt(bytes.substr(at));
      if (!frame.has_value() || !frame->good) break;
      last = at;
      at += frame->bytes;
    }
    if (last > 0) ends.emplace_back(p.log, last);
    if (!disk_.Read(p.snapshot).empty()) {
      ends.emplace_back(p.snapshot, disk_.Read(p.snapshot).size());
    }
  }
  if (ends.empty()) return false;
  const auto& [file, end] = world_.choices->Pick(ends);
  damaged_file_ = file;
  damaged_bit_ = world_.choices->Below(static_cast<uint32_t>(end * 8));
  passes_damage_ = world_.choices->Below(4) != 0;
  damage_seen_ = false;
  damaged_sequence_ = 0;
  disk_.FlipBit(file, damaged_bit_);
  for (Partition& p : partitions_) p.unknown = true;
  return true;
}

void SimJournal::Repair() {
  if (damaged_file_.empty()) return;
  disk_.FlipBit(damaged_file_, damaged_bit_);
  damaged_file_.clear();
  for (Partition& p : partitions_) {
    p.damaged = absl::OkStatus();
    p.unknown = true;
  }
}

absl::Status SimJournal::Check(int partition) const {
  if (partition >= 0 && partition < partition_count()) return absl::OkStatus();
  return absl::OutOfRangeError(absl::StrCat("no partition ", partition));
}

absl::Status SimJournal::MakeKnown(Partition& p) {
  if (!p.damaged.ok()) return p.damaged;
  if (!p.unknown) return absl::OkStatus();
  if (disk_.dead()) return absl::UnavailableError("the machine is off");
  // The handle is closed, and another looks at what is there.
  disk_.LoseUnsynced(p.log);
  return Load(p);
}

absl::Status SimJournal::Load(Partition& p) {
  const absl::string_view bytes = disk_.Read(p.log);
  p.epoch = 0;
  p.chunks.clear();
  bool any = false;
  size_t at = 0;
  while (at < bytes.size()) {
    const std::optional<Frame> frame = FrameAt(bytes.substr(at));
    const bool damaged_here = damaged_file_ == p.log && frame.has_value() &&
                              !frame->good && damaged_bit_ / 8 >= at &&
                              damaged_bit_ / 8 < at + frame->bytes;
    if (!frame.has_value() || !frame->good) {
      // What this store does not check its reader has to: damage in a payload
      // is handed on.
      const bool in_payload = damaged_bit_ / 8 >= at + kHeadBytes &&
                              frame.has_value() && frame->sequence != 0;
      if (!(damaged_here && passes_damage_ && in_payload)) {
        if (!AnyFrameIn(bytes.substr(at))) break;  // A torn tail.
        damage_seen_ = true;
        return p.damaged = absl::DataLossError(absl::StrCat(
                   p.log, ": damaged at byte ", at, ", sequence ", p.next()));
      }
    }
    p.epoch = std::max(p.epoch, frame->epoch);
    if (!frame->good) damaged_sequence_ = frame->sequence;
    if (frame->sequence != 0) {
      if (!any) p.first = frame->sequence;
      any = true;
      p.chunks.push_back({frame->epoch, std::string(frame->payload)});
    } else if (!any && !frame->payload.empty()) {
      p.first = Load64(frame->payload.data());  // All before it was trimmed.
    }
    at += frame->bytes;
  }
  if (at < bytes.size()) {
    if (absl::Status s = disk_.Truncate(p.log, at); !s.ok()) return s;
  }
  p.unknown = false;
  return absl::OkStatus();
}

absl::Status SimJournal::AppendFrame(Partition& p, uint64_t sequence,
                                     uint64_t epoch,
                                     absl::string_view payload) {
  absl::Status s = disk_.Append(p.log, FrameOf(sequence, epoch, payload));
  if (!s.ok()) p.unknown = true;
  return s;
}

absl::StatusOr<Journal::Ownership> SimJournal::Acquire(int partition) {
  if (absl::Status s = Check(partition); !s.ok()) return s;
  Partition& p = partitions_[partition];
  while (p.pending) {
    // The owner before is on its way: it is in time, or too late.
    if (world_.choices->Below(2) == 0) {
      Complete(p);
    } else {
      Abandon(p, absl::FailedPreconditionError("fenced meanwhile"));
    }
  }
  if (absl::Status s = MakeKnown(p); !s.ok()) return s;
  // The frame of an epoch carries the first sequence, for a log without chunks.
  std::string first;
  Append64(p.first, &first);
  absl::Status s = AppendFrame(p, 0, p.epoch + 1, first);
  if (s.ok()) s = disk_.Sync(p.log);
  if (!s.ok()) {
    p.unknown = true;
    return s;
  }
  ++p.epoch;
  return Journal::Ownership{p.epoch, p.next()};
}

absl::Status SimJournal::Release(int partition, uint64_t epoch) {
  if (absl::Status s = Check(partition); !s.ok()) return s;
  Partition& p = partitions_[partition];
  if (absl::Status s = MakeKnown(p); !s.ok()) return s;
  if (epoch != p.epoch) return absl::FailedPreconditionError("fenced");
  absl::StatusOr<Journal::Ownership> owned = Acquire(partition);
  return owned.status();
}

void SimJournal::Append(const Front* front, int partition, uint64_t epoch,
                        uint64_t sequence, std::string chunk,
                        Journal::Done done) {
  absl::Status s = Check(partition);
  Partition* p = nullptr;
  if (s.ok()) {
    p = &partitions_[partition];
    // The owner has one append at a time.
    MUSTER_CHECK(!p->pending.has_value() || epoch != p->epoch);
    if (!p->pending) s = MakeKnown(*p);
  }
  if (s.ok() && epoch != p->epoch) {
    s = absl::FailedPreconditionError(absl::StrCat("partition ", partition,
                                                   ": epoch ", epoch,
                                                   " is fenced by ", p->epoch));
  }
  if (s.ok() && sequence != p->next()) {
    const bool same = sequence >= p->first && sequence < p->next() &&
                      p->chunks[sequence - p->first].epoch == epoch &&
                      p->chunks[sequence - p->first].bytes == chunk;
    if (!same) {
      s = absl::OutOfRangeError(absl::StrCat("partition ", partition, ": slot ",
                                             sequence, " is not the next, ",
                                             p->next()));
    }
    std::move(done)(s);
    return;
  }
  if (s.ok()) s = AppendFrame(*p, sequence, epoch, chunk);
  if (!s.ok()) {
    std::move(done)(s);
    return;
  }
  const uint64_t number = next_number_++;
  p->pending = Pending{front,    number,           epoch,
                       sequence, std::move(chunk), std::move(done)};
  if (blocking_ || at_once_) {
    Complete(*p);
    return;
  }
  absl::Duration time = absl::ZeroDuration();
  if (world_.faults.Strikes(Fault::kSlowSync)) {
    time = absl::Milliseconds(500 + world_.choices->Below(20'000));
  } else if (world_.choices->Below(4) == 0) {
    time = absl::Microseconds(world_.choices->Below(5000));
  }
  if (time == absl::ZeroDuration()) {
    Complete(*p);
    return;
  }
  executor_.RunAt(clock_.Monotonic() + time,
                  [this, alive = std::weak_ptr<int>(alive_), p, number] {
                    if (alive.expired()) return;
                    if (p->pending && p->pending->number == number) {
                      Complete(*p);
                    }
                  });
}

void SimJournal::Complete(Partition& p) {
  Pending pending = std::move(*p.pending);
  p.pending.reset();
  absl::Status s = disk_.Sync(p.log);
  if (!s.ok()) {
    p.unknown = true;
  } else {
    p.chunks.push_back({pending.epoch, std::move(pending.chunk)});
    if (world_.faults.Strikes(Fault::kAnswerLost)) {
      s = absl::UnavailableError("nobody knows");
    }
  }
  std::move(pending.done)(s);
}

void SimJournal::Abandon(Partition& p, absl::Status answer) {
  Pending pending = std::move(*p.pending);
  p.pending.reset();
  p.unknown = true;
  std::move(pending.done)(std::move(answer));
}

absl::Status SimJournal::Read(
    int partition, uint64_t from,
    absl::FunctionRef<absl::Status(uint64_t, absl::string_view)> visit) {
  if (absl::Status s = Check(partition); !s.ok()) return s;
  Partition& p = partitions_[partition];
  if (absl::Status s = MakeKnown(p); !s.ok()) return s;
  if (from < p.first) {
    return absl::OutOfRangeError(absl::StrCat("chunk ", from, " was trimmed"));
  }
  for (; from < p.next(); ++from) {
    if (damaged_file_ == p.log && from == damaged_sequence_) {
      damage_seen_ = true;
    }
    // A copy: the visitor may do what it likes.
    const std::string chunk = p.chunks[from - p.first].bytes;
    if (absl::Status s = visit(from, chunk); !s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::Status SimJournal::Trim(int partition, uint64_t below) {
  if (absl::Status s = Check(partition); !s.ok()) return s;
  Partition& p = partitions_[partition];
  // Another time will do.
  if (p.pending || !damaged_file_.empty()) return absl::OkStatus();
  if (absl::Status s = MakeKnown(p); !s.ok()) return s;
  below = std::min(below, p.next());
  if (below <= p.first) return absl::OkStatus();
  std::string bytes;
  std::string first;
  Append64(below, &first);
  bytes += FrameOf(0, p.epoch, first);
  for (uint64_t sequence = below; sequence < p.next(); ++sequence) {
    const Chunk& chunk = p.chunks[sequence - p.first];
    bytes += FrameOf(sequence, chunk.epoch, chunk.bytes);
  }
  const std::string next = p.log + ".next";
  disk_.Remove(next);
  absl::Status s = disk_.Append(next, bytes);
  if (s.ok()) s = disk_.Sync(next);
  if (s.ok()) s = disk_.Rename(next, p.log);
  if (!s.ok()) return s;
  p.chunks.erase(p.chunks.begin(),
                 p.chunks.begin() + static_cast<ptrdiff_t>(below - p.first));
  p.first = below;
  return absl::OkStatus();
}

absl::Status SimJournal::WriteSnapshot(int partition, uint64_t epoch,
                                       uint64_t sequence,
                                       absl::Span<const std::string> parts) {
  if (absl::Status s = Check(partition); !s.ok()) return s;
  Partition& p = partitions_[partition];
  if (!p.pending) {
    if (absl::Status s = MakeKnown(p); !s.ok()) return s;
  }
  if (epoch != p.epoch) return absl::FailedPreconditionError("fenced");
  if (!damaged_file_.empty()) return absl::UnavailableError("being repaired");
  std::string bytes = FrameOf(sequence, parts.size(), "");
  for (const std::string& part : parts) bytes += FrameOf(0, 0, part);
  const std::string next = p.snapshot + ".next";
  disk_.Remove(next);
  absl::Status s = disk_.Append(next, bytes);
  if (on_snapshot) on_snapshot();
  if (s.ok()) s = disk_.Sync(next);
  if (s.ok()) s = disk_.Rename(next, p.snapshot);
  return s;
}

absl::StatusOr<uint64_t> SimJournal::ReadSnapshot(
    int partition, absl::FunctionRef<absl::Status(absl::string_view)> visit) {
  if (absl::Status s = Check(partition); !s.ok()) return s;
  Partition& p = partitions_[partition];
  if (absl::Status s = MakeKnown(p); !s.ok()) return s;
  const std::string bytes(disk_.Read(p.snapshot));
  if (bytes.empty()) return 1;
  absl::string_view rest = bytes;
  if (damaged_file_ == p.snapshot) damage_seen_ = true;
  const auto next = [&]() -> std::optional<Frame> {
    const size_t at = bytes.size() - rest.size();
    std::optional<Frame> frame = FrameAt(rest);
    if (!frame.has_value()) return std::nullopt;
    const bool in_payload = damaged_file_ == p.snapshot &&
                            damaged_bit_ / 8 >= at + kHeadBytes &&
                            damaged_bit_ / 8 < at + frame->bytes;
    if (!frame->good && !(passes_damage_ && in_payload)) return std::nullopt;
    rest.remove_prefix(frame->bytes);
    return frame;
  };
  const std::optional<Frame> head = next();
  if (!head.has_value()) return absl::DataLossError(p.snapshot + ": damaged");
  for (uint64_t i = 0; i < head->epoch; ++i) {
    const std::optional<Frame> part = next();
    if (!part.has_value()) return absl::DataLossError(p.snapshot + ": damaged");
    if (absl::Status s = visit(part->payload); !s.ok()) return s;
  }
  return head->sequence;
}

void SimJournal::CutOff(const Front* front) {
  for (Partition& p : partitions_) {
    if (p.pending && p.pending->front == front) {
      Abandon(p, absl::FailedPreconditionError("the process was killed"));
    }
  }
}

}  // namespace muster::simulator
