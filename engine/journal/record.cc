#include "engine/journal/record.h"

#include <cstring>
#include <iterator>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/model/check.h"

namespace muster {
namespace {

// A record's type is its place in the variant, plus one.
template <typename T, size_t I = 0>
constexpr uint8_t TypeOf() {
  if constexpr (std::is_same_v<std::variant_alternative_t<I, Record>, T>) {
    return I + 1;
  } else {
    return TypeOf<T, I + 1>();
  }
}

// ----------------------------------------------------------------- writing

void PutVarint(uint64_t v, std::string* out) {
  while (v >= 0x80) {
    out->push_back(static_cast<char>(v | 0x80));
    v >>= 7;
  }
  out->push_back(static_cast<char>(v));
}

uint64_t ZigZag(int64_t v) {
  return (static_cast<uint64_t>(v) << 1) ^ static_cast<uint64_t>(v >> 63);
}
int64_t UnZigZag(uint64_t v) {
  return static_cast<int64_t>((v >> 1) ^ (~(v & 1) + 1));
}

// Fields in the order in which Visit() names them.
class Writer {
 public:
  explicit Writer(std::string* out) : out_(out) {}

  template <typename T>
  void Number(T v) {
    PutVarint(static_cast<uint64_t>(v), out_);
  }
  void Signed(int64_t v) { PutVarint(ZigZag(v), out_); }
  void Text(absl::string_view v) {
    PutVarint(v.size(), out_);
    out_->append(v.data(), v.size());
  }
  void Time(absl::Time v) { Signed(absl::ToUnixNanos(v)); }
  // Bytes to the end of the record.
  void Rest(absl::string_view v) { out_->append(v.data(), v.size()); }
  // Ascending numbers, as runs: distance from the run before << 1 | whether
  // there is a length; length - 2.
  void Ascending(absl::Span<const uint16_t> v) {
    PutVarint(v.size(), out_);
    int expected = 0;
    for (size_t i = 0; i < v.size();) {
      size_t length = 1;
      while (i + length < v.size() && v[i + length] == v[i] + length) ++length;
      PutVarint(static_cast<uint64_t>(v[i] - expected) << 1 | (length > 1),
                out_);
      if (length > 1) PutVarint(length - 2, out_);
      expected = v[i] + static_cast<int>(length);
      i += length;
    }
  }
  // Ranks with a number each, as runs with the same number: distance << 2 |
  // whether there is a length << 1 | whether there is a number, or else it is
  // the last run's.
  template <typename Entry, typename Number>
  void Runs(absl::Span<const Entry> v, Number number) {
    PutVarint(v.size(), out_);
    int expected = 0;
    uint64_t last = 0;
    for (size_t i = 0; i < v.size();) {
      const uint64_t value = number(v[i]);
      size_t length = 1;
      while (i + length < v.size() &&
             v[i + length].rank == v[i].rank + length &&
             number(v[i + length]) == value) {
        ++length;
      }
      PutVarint(static_cast<uint64_t>(v[i].rank - expected) << 2 |
                    uint64_t{length > 1} << 1 | uint64_t{value != last},
                out_);
      if (length > 1) PutVarint(length - 2, out_);
      if (value != last) PutVarint(value, out_);
      last = value;
      expected = v[i].rank + static_cast<int>(length);
      i += length;
    }
  }
  void Entries(absl::Span<const FinishedRecord::Entry> v) {
    Runs(v, [](const FinishedRecord::Entry& e) { return e.result; });
  }
  void Entries(absl::Span<const ReturnedRecord::Entry> v) {
    Runs(v, [](const ReturnedRecord::Entry& e) { return e.attempt; });
  }

 private:
  std::string* const out_;
};

// ----------------------------------------------------------------- reading

class Reader {
 public:
  Reader(const char* p, const char* end) : p_(p), end_(end) {}

  bool ok() const { return ok_; }
  bool done() const { return p_ == end_; }
  const char* position() const { return p_; }

  uint64_t Varint() {
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (p_ == end_) break;
      const uint8_t byte = static_cast<uint8_t>(*p_++);
      v |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return v;
    }
    ok_ = false;
    return 0;
  }
  absl::string_view Bytes(uint64_t size) {
    if (size > static_cast<uint64_t>(end_ - p_)) {
      ok_ = false;
      return absl::string_view();
    }
    absl::string_view bytes(p_, size);
    p_ += size;
    return bytes;
  }
  template <typename T>
  void Number(T& v) {
    const uint64_t x = Varint();
    v = static_cast<T>(x);
    if (static_cast<uint64_t>(v) != x) ok_ = false;
  }
  template <typename T>
  void Signed(T& v) {
    const int64_t x = UnZigZag(Varint());
    v = static_cast<T>(x);
    if (v != x) ok_ = false;
  }
  void Text(std::string& v) { v = std::string(Bytes(Varint())); }
  void Time(absl::Time& v) { v = absl::FromUnixNanos(UnZigZag(Varint())); }
  void Rest(absl::string_view& v) {
    v = Bytes(static_cast<uint64_t>(end_ - p_));
  }
  void Ascending(std::vector<uint16_t>& v) {
    const uint64_t n = Count();
    v.reserve(n);
    for (uint64_t next = 0; ok_ && v.size() < n;) {
      const uint64_t head = Varint();
      const uint64_t first = next + (head >> 1);
      const uint64_t length = head & 1 ? Varint() + 2 : 1;
      if (!IsRun(first, length, n - v.size())) return;
      for (uint64_t i = 0; i < length; ++i) {
        v.push_back(static_cast<uint16_t>(first + i));
      }
      next = first + length;
    }
  }
  template <typename Entry>
  void Entries(std::vector<Entry>& v) {
    const uint64_t n = Count();
    v.reserve(n);
    uint64_t number = 0;
    for (uint64_t next = 0; ok_ && v.size() < n;) {
      const uint64_t head = Varint();
      const uint64_t first = next + (head >> 2);
      const uint64_t length = head & 2 ? Varint() + 2 : 1;
      if (head & 1) number = Varint();
      if (!IsRun(first, length, n - v.size()) || !IsNumber<Entry>(number)) {
        ok_ = false;
        return;
      }
      for (uint64_t i = 0; i < length; ++i) {
        v.push_back(MakeEntry<Entry>(first + i, number));
      }
      next = first + length;
    }
  }

 private:
  // Of things that are told apart by 16 bits.
  uint64_t Count() {
    const uint64_t n = Varint();
    if (n > uint64_t{UINT16_MAX} + 1) ok_ = false;
    return ok_ ? n : 0;
  }
  bool IsRun(uint64_t first, uint64_t length, uint64_t left) {
    if (length > left || first > UINT16_MAX ||
        first + length > uint64_t{UINT16_MAX} + 1) {
      ok_ = false;
    }
    return ok_;
  }
  template <typename Entry>
  static bool IsNumber(uint64_t number) {
    if constexpr (std::is_same_v<Entry, FinishedRecord::Entry>) {
      return number <= UINT16_MAX;
    } else {
      return number <= UINT8_MAX;
    }
  }
  template <typename Entry>
  static Entry MakeEntry(uint64_t rank, uint64_t number) {
    Entry entry;
    entry.rank = static_cast<uint16_t>(rank);
    if constexpr (std::is_same_v<Entry, FinishedRecord::Entry>) {
      entry.result = static_cast<uint16_t>(number);
    } else {
      entry.attempt = static_cast<uint8_t>(number);
    }
    return entry;
  }

  const char* p_;
  const char* const end_;
  bool ok_ = true;
};

// -------------------------------------------------------------- the records

template <typename Io, typename R>
void Visit(Io& io, R& r, const JobCreatedRecord*) {
  io.Number(r.job);
  io.Text(r.job_id);
  io.Time(r.created_time);
  io.Text(r.body);
  io.Number(r.priority);
  io.Number(r.weight);
}
template <typename Io, typename R>
void Visit(Io& io, R& r, const TargetsRecord*) {
  io.Number(r.job);
  io.Number(r.slice);
  io.Number(r.shard);
  io.Number(r.sequence);
  io.Number(r.run);
  io.Number(r.cut);
  io.Text(r.tags);
  io.Text(r.desired);
  io.Ascending(r.rows);
}
template <typename Io, typename R>
void Visit(Io& io, R& r, const JobStartedRecord*) {
  io.Number(r.job);
  io.Number(r.run);
  io.Time(r.time);
  io.Number(r.slice_count);
  io.Number(r.device_count);
}
template <typename Io, typename R>
void Visit(Io& io, R& r, const DispatchedRecord*) {
  io.Number(r.job);
  io.Number(r.slice);
  io.Number(r.sequence);
  io.Time(r.time);
  io.Ascending(r.ranks);
}
template <typename Io, typename R>
void Visit(Io& io, R& r, const ReturnedRecord*) {
  io.Number(r.job);
  io.Number(r.slice);
  io.Number(r.sequence);
  io.Entries(r.entries);
}
template <typename Io, typename R>
void Visit(Io& io, R& r, const ResultRecord*) {
  io.Number(r.job);
  io.Number(r.slice);
  io.Number(r.sequence);
  io.Number(r.number);
  io.Number(r.status);
  io.Number(r.error);
  io.Number(r.answered);
  io.Signed(r.response_status);
  io.Text(r.payload);
  io.Text(r.description);
}
template <typename Io, typename R>
void Visit(Io& io, R& r, const FinishedRecord*) {
  io.Number(r.job);
  io.Number(r.slice);
  io.Number(r.sequence);
  io.Time(r.time);
  io.Entries(r.entries);
}
template <typename Io, typename R>
void Visit(Io& io, R& r, const JobCancelRequestedRecord*) {
  io.Number(r.job);
}
template <typename Io, typename R>
void Visit(Io& io, R& r, const JobEndedRecord*) {
  io.Number(r.job);
  io.Number(r.status);
  io.Time(r.time);
  io.Text(r.failure_reason);
}
template <typename Io, typename R>
void Visit(Io& io, R& r, const JobExpiredRecord*) {
  io.Number(r.job);
}
template <typename Io, typename R>
void Visit(Io& io, R& r, const TwinWrittenRecord*) {
  io.Number(r.shard);
  io.Number(r.row);
  io.Number(r.sequence);
  io.Text(r.document);
  io.Time(r.time);
}
template <typename Io, typename R>
void Visit(Io& io, R& r, const TwinPatchedRecord*) {
  io.Number(r.shard);
  io.Number(r.row);
  io.Number(r.sequence);
  io.Number(r.kind);
  io.Text(r.tags);
  io.Text(r.desired);
  io.Text(r.reported);
  io.Time(r.time);
}
template <typename Io, typename R>
void Visit(Io& io, R& r, const TwinErasedRecord*) {
  io.Number(r.shard);
  io.Number(r.row);
  io.Number(r.sequence);
}
template <typename Io, typename R>
void Visit(Io& io, R& r, const ShardWrittenRecord*) {
  io.Number(r.shard);
  io.Number(r.sequence);
  io.Rest(r.bytes);
}
template <typename Io, typename R>
void Visit(Io& io, R& r, const SnapshotBeginRecord*) {
  io.Number(r.next_job);
}
template <typename Io, typename R>
void Visit(Io& io, R& r, const SnapshotEndRecord*) {
  io.Number(r.shard_count);
}

template <typename Io, typename R>
void Visit(Io& io, R& r, const IdentityWrittenRecord*) {
  io.Number(r.shard);
  io.Number(r.row);
  io.Number(r.sequence);
  io.Text(r.document);
  io.Time(r.time);
}

// Writes type, length, and what `write` appends.  The length gets as many bytes
// as a shard of 32 GB may need, so that it can be filled in afterwards.
template <typename Write>
void Frame(uint8_t type, std::string* out, Write write) {
  out->push_back(static_cast<char>(type));
  const size_t at = out->size();
  constexpr size_t kLengthBytes = 5;
  out->append(kLengthBytes, '\0');
  Writer writer(out);
  write(writer);
  uint64_t size = out->size() - at - kLengthBytes;
  for (size_t i = 0; i < kLengthBytes; ++i, size >>= 7) {
    (*out)[at + i] =
        static_cast<char>((size & 0x7f) | (i + 1 < kLengthBytes ? 0x80 : 0));
  }
  MUSTER_CHECK(size == 0);
}

template <size_t I = 0>
bool Decode(uint8_t type, Reader& in, Record* record) {
  if constexpr (I == std::variant_size_v<Record>) {
    return false;
  } else {
    if (type != I + 1) return Decode<I + 1>(type, in, record);
    using R = std::variant_alternative_t<I, Record>;
    R r;
    Visit(in, r, static_cast<const R*>(nullptr));
    if (!in.ok() || !in.done()) return false;
    *record = std::move(r);
    return true;
  }
}

}  // namespace

void AppendRecord(const Record& record, std::string* out) {
  std::visit(
      [out](const auto& r) {
        using R = std::decay_t<decltype(r)>;
        Frame(TypeOf<R>(), out,
              [&r](Writer& w) { Visit(w, r, static_cast<const R*>(nullptr)); });
      },
      record);
}

absl::string_view RecordName(const Record& record) {
  static constexpr absl::string_view kNames[] = {
      "JobCreated",     "Targets",      "JobStarted",    "Dispatched",
      "Returned",       "Result",       "Finished",      "JobCancelRequested",
      "JobEnded",       "JobExpired",   "TwinWritten",   "TwinPatched",
      "TwinErased",     "ShardWritten", "SnapshotBegin", "SnapshotEnd",
      "IdentityWritten"};
  static_assert(std::size(kNames) == std::variant_size_v<Record>);
  return kNames[record.index()];
}

void AppendDispatched(uint64_t job, uint32_t slice, uint64_t sequence,
                      absl::Time time, absl::Span<const uint16_t> ranks,
                      std::string* out) {
  Frame(TypeOf<DispatchedRecord>(), out, [&](Writer& w) {
    w.Number(job);
    w.Number(slice);
    w.Number(sequence);
    w.Time(time);
    w.Ascending(ranks);
  });
}

void AppendReturned(uint64_t job, uint32_t slice, uint64_t sequence,
                    absl::Span<const ReturnedRecord::Entry> entries,
                    std::string* out) {
  Frame(TypeOf<ReturnedRecord>(), out, [&](Writer& w) {
    w.Number(job);
    w.Number(slice);
    w.Number(sequence);
    w.Entries(entries);
  });
}

void AppendFinished(uint64_t job, uint32_t slice, uint64_t sequence,
                    absl::Time time,
                    absl::Span<const FinishedRecord::Entry> entries,
                    std::string* out) {
  Frame(TypeOf<FinishedRecord>(), out, [&](Writer& w) {
    w.Number(job);
    w.Number(slice);
    w.Number(sequence);
    w.Time(time);
    w.Entries(entries);
  });
}

void AppendShardWritten(uint32_t shard, uint64_t sequence,
                        absl::FunctionRef<void(std::string*)> write,
                        std::string* out) {
  Frame(TypeOf<ShardWrittenRecord>(), out, [&](Writer& w) {
    w.Number(shard);
    w.Number(sequence);
    write(out);
  });
}

absl::Status ReadRecords(absl::string_view chunk,
                         absl::FunctionRef<absl::Status(const Record&)> visit) {
  const char* const begin = chunk.data();
  Reader in(begin, begin + chunk.size());
  while (!in.done()) {
    const ptrdiff_t at = in.position() - begin;
    const absl::string_view type = in.Bytes(1);
    const absl::string_view body = in.Bytes(in.Varint());
    Record record;
    Reader fields(body.data(), body.data() + body.size());
    if (!in.ok() || !Decode(static_cast<uint8_t>(type[0]), fields, &record)) {
      return absl::DataLossError(absl::StrCat("no record starts at byte ", at,
                                              " of a chunk of ", chunk.size(),
                                              " bytes"));
    }
    if (absl::Status s = visit(record); !s.ok()) return s;
  }
  return absl::OkStatus();
}

}  // namespace muster
