#include "engine/twin/id_table.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

#include "engine/model/check.h"

namespace muster {

IdTable::~IdTable() {
  const Segment* last = nullptr;
  // The same segment's pointers stand side by side.
  for (Segment* segment : directory_) {
    if (segment != last) FreeSegment(segment);
    last = segment;
  }
}

void IdTable::Swap(IdTable& other) {
  std::swap(directory_, other.directory_);
  std::swap(directory_bits_, other.directory_bits_);
  std::swap(size_, other.size_);
  std::swap(segment_bytes_, other.segment_bytes_);
}

// ---------------------------------------------------------------- segments

IdTable::Segment* IdTable::MakeSegment(const Entry* from, const Entry* from_end,
                                       uint32_t size, uint32_t home_count,
                                       int prefix_bits) {
  // How far the entries reach beyond the last home: nearly always less than the
  // few slots that are there in any case, else it is found out the hard way.
  for (uint32_t beyond = 0;;) {
    // In the odd case that many hashes are the same, `beyond` is not little,
    // and the reserve has to grow with it, lest every Insert() copy all.
    const uint32_t slot_count =
        home_count + beyond + beyond / 8 + home_count / 128 + 4 + kStep;
    const Segment header = {.size = size,
                            .home_count = home_count,
                            .slot_count = slot_count,
                            .prefix_bits = static_cast<uint32_t>(prefix_bits)};
    Segment* const segment =
        new (::operator new(header.bytes())) Segment(header);
    segment_bytes_ += header.bytes();
    Entry* const slots = segment->slots();
    std::uninitialized_fill_n(slots, slot_count, kEmpty);

    uint32_t free = 0;  // The first slot behind those that are taken.
    for (const Entry* entry = from; entry != from_end; ++entry) {
      // To its home or, if that is not free, to the first slot that is.  Gaps
      // cannot be foreseen, so there is no branch: an empty entry is written
      // too, where the next one will be.
      const int64_t taken = entry->place != kNoPlace;
      const int64_t ahead = int64_t{segment->HomeOf(entry->hash)} - free;
      free += static_cast<uint32_t>(ahead & ~(ahead >> 63) & -taken);
      if (free < slot_count - kStep) slots[free] = *entry;
      free += static_cast<uint32_t>(taken);
    }
    // There has to be one to spare, or Insert() would be back at once.
    if (free < slot_count - kStep) return segment;
    FreeSegment(segment);
    beyond = free - home_count;
  }
}

void IdTable::FreeSegment(Segment* segment) {
  segment_bytes_ -= segment->bytes();
  ::operator delete(segment);
}

void IdTable::Point(uint32_t hash, Segment* to) {
  const int bits_below = directory_bits_ - static_cast<int>(to->prefix_bits);
  const size_t first = DirectoryIndex(hash) >> bits_below << bits_below;
  std::fill_n(directory_.begin() + static_cast<ptrdiff_t>(first),
              size_t{1} << bits_below, to);
}

IdTable::Segment* IdTable::Rebuild(uint32_t hash, Segment* segment,
                                   uint32_t home_count) {
  Segment* const rebuilt = MakeSegment(
      segment->slots(), segment->slots() + segment->slot_count, segment->size,
      home_count, static_cast<int>(segment->prefix_bits));
  Point(hash, rebuilt);
  FreeSegment(segment);
  return rebuilt;
}

bool IdTable::MaySplit(const Segment& segment) const {
  const int bits = static_cast<int>(segment.prefix_bits);
  if (bits < directory_bits_) return true;
  // Hashes that are much the same can hardly be parted: the directory must not
  // grow for them.
  return bits < 31 && size_ >> bits >= kSegmentSizeMax / 4;
}

void IdTable::Split(uint32_t hash, Segment* segment) {
  const int bits = static_cast<int>(segment->prefix_bits) + 1;
  if (bits > directory_bits_) {
    std::vector<Segment*> directory(directory_.size() * 2);
    for (size_t i = 0; i < directory.size(); ++i) {
      directory[i] = directory_[i / 2];
    }
    directory_ = std::move(directory);
    directory_bits_ = bits;
  }
  // The first hash of the upper half.
  const uint32_t upper_bit = uint32_t{1} << (32 - bits);
  const uint32_t middle = (hash & ~(upper_bit - 1)) | upper_bit;
  const Entry* const begin = segment->slots();
  const Entry* const end = begin + segment->slot_count;
  const Entry* cut = begin;
  uint32_t below = 0;
  for (; cut != end; ++cut) {
    if (cut->place == kNoPlace) continue;
    if (cut->hash >= middle) break;
    ++below;
  }
  const uint32_t above = segment->size - below;
  Point(middle - upper_bit,
        MakeSegment(begin, cut, below, HomesFor(below), bits));
  Point(middle, MakeSegment(cut, end, above, HomesFor(above), bits));
  FreeSegment(segment);
}

// ----------------------------------------------------------------- changes

void IdTable::Insert(uint32_t hash, uint32_t place) {
  MUSTER_DCHECK(place != kNoPlace);
  if (directory_.empty()) {
    directory_.push_back(
        MakeSegment(nullptr, nullptr, 0, HomesFor(0), /*prefix_bits=*/0));
  }
  Segment* segment = SegmentOf(hash);
  if (segment->size >= kSegmentSizeMax && MaySplit(*segment)) {
    Split(hash, segment);
    segment = SegmentOf(hash);
  }
  if (segment->size >= SizeMax(segment->home_count)) {
    segment = Rebuild(hash, segment, HomesFor(segment->size));
  }
  for (;;) {
    Entry* const slots = segment->slots();
    Entry* const at = segment->FirstFrom(hash);
    Entry* gap = at;
    while (gap->place != kNoPlace) ++gap;
    if (gap == slots + segment->slot_count - kStep) {
      // The same, but with new room behind the last home.
      segment = Rebuild(hash, segment, segment->home_count);
      continue;
    }
    std::memmove(at + 1, at, static_cast<size_t>(gap - at) * sizeof(Entry));
    *at = {hash, place};
    break;
  }
  ++segment->size;
  ++size_;
}

void IdTable::Erase(uint32_t hash, uint32_t place) {
  Segment* const segment = SegmentOf(hash);
  MUSTER_CHECK(segment != nullptr);
  Entry* const slots = segment->slots();
  Entry* gap = segment->FirstFrom(hash);
  while (gap->hash == hash && gap->place != place) ++gap;
  MUSTER_CHECK(gap->hash == hash && gap->place == place && place != kNoPlace);
  // Those behind it come one closer, up to the first that is at home.
  Entry* last = gap + 1;
  while (last->place != kNoPlace &&
         slots + segment->HomeOf(last->hash) != last) {
    ++last;
  }
  std::memmove(gap, gap + 1,
               static_cast<size_t>(last - gap - 1) * sizeof(Entry));
  last[-1] = kEmpty;
  --segment->size;
  --size_;
  // Not as soon as it could, so that Insert() and Erase() in turn copy nothing.
  if (HomesFor(segment->size) < segment->home_count / 2) {
    Rebuild(hash, segment, HomesFor(segment->size));
  }
}

void IdTable::Reserve(size_t count) {
  if (count <= size_) return;
  if (directory_.empty()) {
    directory_.push_back(
        MakeSegment(nullptr, nullptr, 0, HomesFor(0), /*prefix_bits=*/0));
  }
  int bits = directory_bits_;
  while (count >> bits >= kSegmentSizeMax && bits < 31) ++bits;
  // From 0 on: a segment that is split is met again as its lower half.
  for (uint64_t first = 0; first < uint64_t{1} << 32;) {
    const uint32_t hash = static_cast<uint32_t>(first);
    Segment* segment = SegmentOf(hash);
    if (static_cast<int>(segment->prefix_bits) < bits) {
      Split(hash, segment);
      continue;
    }
    // Shares are not quite even: their spread is about the root of their size.
    const double share = static_cast<double>(count >> segment->prefix_bits);
    const uint32_t size = static_cast<uint32_t>(share + 3 * std::sqrt(share));
    const uint32_t home_count = size + size / 9 + 4;
    if (home_count > segment->home_count) {
      segment = Rebuild(hash, segment, home_count);
    }
    first += uint64_t{1} << (32 - segment->prefix_bits);
  }
}

}  // namespace muster
