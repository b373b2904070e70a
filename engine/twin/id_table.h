// IdTable: where the devices of a partition are, by a hash of their ids.
//
// An entry is 32 bits of the hash and a 32-bit place; the id itself stands in
// its row only, so whoever looks up says whether a place is the one.  With n
// entries about n^2 / 2^33 pairs share their 32 bits, so nearly every look at
// a row is the last.
//
// Entries stand in ascending order of their hashes, each at or a little behind
// the slot that its hash points to, scaled to the number of slots:
//
//   slots     0  1  2  3  4  5  6  7  8  9 10 11
//   hash/2^28       2     4  4  5  5     9     B     <- 5 stands 1 behind
//
// So a search ends at the first larger hash, also if there is nothing to find,
// and moving to more slots is one pass from left to right that looks at no id.
// The table is cut into segments of at most kSegmentSizeMax entries, by the
// upper bits of the hash, and only one segment at a time is copied or cut in
// two:
//
//   directory   00 -> A   01 -> A   10 -> B   11 -> C      (2 bits)
//
// Memory: 8 bytes a slot, of which 80 to 90 % are taken whatever the number of
// entries, so 8.9 to 10.2 bytes per entry with the directory, in tables of a
// hundred entries and more.  (After erasing, down to 40 % may be taken.)
//
// Time: a search looks at one or two cache lines, 3 entries on the average and
// 47 at worst of 4 million with random hashes; 10 ns in cache, 30 to 50 out of
// it.  Insert() takes 60 ns on the average, a third of it for copying.  One in
// about 500 copies a segment and takes 8 us, at most 30, as well with 65,000 as
// with millions of entries: nobody who shares a lock with it waits longer.
// (gcc 12, AMD EPYC.)  Hashes that are all the same make a list of it: O(size)
// for each call, and right.
//
// Ordered linear probing: O. Amble, D. E. Knuth, "Ordered hash tables", The
// Computer Journal 17 (1974); it moves the same entries as Robin Hood hashing
// (P. Celis, 1986).  Segments: R. Fagin et al., "Extendible hashing", ACM TODS
// 4 (1979).
#ifndef ENGINE_TWIN_ID_TABLE_H_
#define ENGINE_TWIN_ID_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace muster {

// Const functions may run at the same time as each other, nothing else.
class IdTable {
 public:
  // What no entry has for its place.
  static constexpr uint32_t kNoPlace = UINT32_MAX;

  IdTable() = default;
  IdTable(IdTable&& other) noexcept { Swap(other); }
  IdTable& operator=(IdTable&& other) noexcept {
    IdTable taken(static_cast<IdTable&&>(other));
    Swap(taken);
    return *this;
  }
  ~IdTable();

  // The place of the entry with this hash for which is_id(place) holds; nullopt
  // if there is none.  is_id is called for entries with the same hash, in any
  // order, until it says yes.
  template <typename IsId>
  std::optional<uint32_t> Find(uint32_t hash, IsId is_id) const {
    const Segment* segment = SegmentOf(hash);
    if (segment == nullptr) return std::nullopt;
    const Entry* entry = segment->FirstFrom(hash);
    // An empty slot may have this hash too, but not a place.
    for (; entry->hash == hash && entry->place != kNoPlace; ++entry) {
      if (is_id(entry->place)) return entry->place;
    }
    return std::nullopt;
  }

  // Adds an entry.  Entries with the same hash may be any number, but each one
  // makes finding them slower.  REQUIRES: `place` is not kNoPlace and not yet
  // in the table with this hash.
  void Insert(uint32_t hash, uint32_t place);

  // REQUIRES: the table has this entry.
  void Erase(uint32_t hash, uint32_t place);

  // Makes room at once for `count` entries in all, if their hashes are spread
  // evenly.  Only saves Insert() the copying.
  void Reserve(size_t count);

  // Tells the processor that `hash` will be looked for soon: does not wait.
  // Pays off from a few lookups on that are known beforehand.
  void Prefetch(uint32_t hash) const {
    const Segment* segment = SegmentOf(hash);
    if (segment == nullptr) return;
    const Entry* home = segment->slots() + segment->HomeOf(hash);
    __builtin_prefetch(home);
    // Nearly all stand less than this far behind.
    __builtin_prefetch(home + kStep);
  }

  size_t size() const { return size_; }
  // Heap bytes.
  size_t MemoryUsage() const {
    return segment_bytes_ + directory_.capacity() * sizeof(Segment*);
  }

 private:
  struct Entry {
    uint32_t hash;
    uint32_t place;
  };
  // Larger than any entry: it ends every search.
  static constexpr Entry kEmpty = {UINT32_MAX, kNoPlace};

  static constexpr uint32_t kSegmentSizeMax = 4096;
  // Slots that a search looks at together: a cache line's worth.
  static constexpr int kStep = 8;

  // The entries whose hashes begin with the same `prefix_bits` bits.  The slots
  // stand behind it.
  struct alignas(Entry) Segment {
    uint32_t size;
    // Hashes point to the slots [0, home_count).  There are more, for what is
    // pushed beyond, and the last kStep are always empty.
    uint32_t home_count;
    uint32_t slot_count;
    uint32_t prefix_bits;

    Entry* slots() { return reinterpret_cast<Entry*>(this + 1); }
    const Entry* slots() const {
      return reinterpret_cast<const Entry*>(this + 1);
    }
    uint32_t HomeOf(uint32_t hash) const {
      return ScaledTo(home_count, hash, prefix_bits);
    }
    // The first entry whose hash is not less, or the empty slot where it would
    // stand.
    const Entry* FirstFrom(uint32_t hash) const {
      const Entry* entry = slots() + HomeOf(hash);
      for (;;) {
        // Counts without branching: how far to go is the one thing that a
        // processor cannot foresee.  Whoever stands behind an empty slot has a
        // larger hash, so the smaller ones stand together.
        int smaller = 0;
        for (int i = 0; i < kStep; ++i) smaller += entry[i].hash < hash;
        entry += smaller;
        if (smaller < kStep) return entry;
      }
    }
    Entry* FirstFrom(uint32_t hash) {
      return const_cast<Entry*>(
          static_cast<const Segment*>(this)->FirstFrom(hash));
    }
    size_t bytes() const {
      return sizeof(Segment) + slot_count * sizeof(Entry);
    }
  };

  // The hash without its first bits, as a fraction of [0, count).
  static uint32_t ScaledTo(uint32_t count, uint32_t hash, int prefix_bits) {
    const uint32_t rest = hash << prefix_bits;
    return static_cast<uint32_t>(uint64_t{rest} * count >> 32);
  }
  // Slots to point to, so that `size` entries have room to grow by an eighth.
  static uint32_t HomesFor(uint32_t size) { return size + size / 4 + 4; }
  static uint32_t SizeMax(uint32_t home_count) {
    return home_count - home_count / 10;
  }

  size_t DirectoryIndex(uint32_t hash) const {
    return static_cast<size_t>(uint64_t{hash} << directory_bits_ >> 32);
  }
  Segment* SegmentOf(uint32_t hash) const {
    return directory_.empty() ? nullptr : directory_[DirectoryIndex(hash)];
  }

  void Swap(IdTable& other);
  // A segment of the `size` entries of `from`, in whose slots gaps may be.
  Segment* MakeSegment(const Entry* from, const Entry* from_end, uint32_t size,
                       uint32_t home_count, int prefix_bits);
  void FreeSegment(Segment* segment);
  // Puts `to` where the directory has `from`, for the hashes that begin as
  // `hash` does in `to`'s bits.
  void Point(uint32_t hash, Segment* to);
  // Copies a segment to so many slots.
  Segment* Rebuild(uint32_t hash, Segment* segment, uint32_t home_count);
  // Cuts a segment in two.
  void Split(uint32_t hash, Segment* segment);
  bool MaySplit(const Segment& segment) const;

  std::vector<Segment*> directory_;  // 2^directory_bits_, or none at all.
  int directory_bits_ = 0;
  size_t size_ = 0;
  size_t segment_bytes_ = 0;
};

}  // namespace muster

#endif  // ENGINE_TWIN_ID_TABLE_H_
