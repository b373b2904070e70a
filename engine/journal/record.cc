#include "engine/journal/record.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

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
  void Ascending(absl::Span<const uint16_t> v) {
    PutVarint(v.size(), out_);
    uint16_t last = 0;
    for (uint16_t x : v) {
      PutVarint(static_cast<uint16_t>(x - last), out_);
      last = x;
    }
  }
  void Entries(absl::Span<const FinishedRecord::Entry> v) {
    PutVarint(v.size(), out_);
    int last = 0;
    for (const FinishedRecord::Entry& e : v) {
      Signed(e.rank - last);
      last = e.rank;
      PutVarint(e.result, out_);
    }
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
  // A count of things that take at least a byte each.
  uint64_t Count() {
    const uint64_t n = Varint();
    if (n > static_cast<uint64_t>(end_ - p_)) ok_ = false;
    return ok_ ? n : 0;
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
  void Ascending(std::vector<uint16_t>& v) {
    const uint64_t n = Count();
    v.reserve(n);
    uint64_t last = 0;
    for (uint64_t i = 0; i < n; ++i) {
      last += Varint();
      if (last > UINT16_MAX) ok_ = false;
      v.push_back(static_cast<uint16_t>(last));
    }
  }
  void Entries(std::vector<FinishedRecord::Entry>& v) {
    const uint64_t n = Count();
    v.reserve(n);
    int64_t last = 0;
    for (uint64_t i = 0; i < n && ok_; ++i) {
      last += UnZigZag(Varint());
      if (last < 0 || last > UINT16_MAX) ok_ = false;
      FinishedRecord::Entry entry;
      entry.rank = static_cast<uint16_t>(last);
      Number(entry.result);
      v.push_back(entry);
    }
  }

 private:
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
  io.Number(r.cut);
  io.Ascending(r.rows);
}
template <typename Io, typename R>
void Visit(Io& io, R& r, const JobStartedRecord*) {
  io.Number(r.job);
  io.Time(r.time);
  io.Number(r.slice_count);
  io.Number(r.device_count);
}
template <typename Io, typename R>
void Visit(Io& io, R& r, const DispatchedRecord*) {
  io.Number(r.job);
  io.Number(r.slice);
  io.Time(r.time);
  io.Ascending(r.ranks);
}
template <typename Io, typename R>
void Visit(Io& io, R& r, const ReturnedRecord*) {
  io.Number(r.job);
  io.Number(r.slice);
  io.Ascending(r.ranks);
}
template <typename Io, typename R>
void Visit(Io& io, R& r, const ResultRecord*) {
  io.Number(r.job);
  io.Number(r.slice);
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
  io.Time(r.time);
  io.Entries(r.entries);
}
template <typename Io, typename R>
void Visit(Io& io, R& r, const JobEndedRecord*) {
  io.Number(r.job);
  io.Number(r.status);
  io.Time(r.time);
  io.Text(r.failure_reason);
}
template <typename Io, typename R>
void Visit(Io& io, R& r, const TwinWrittenRecord*) {
  io.Text(r.document);
  io.Time(r.time);
}
template <typename Io, typename R>
void Visit(Io& io, R& r, const TwinPatchedRecord*) {
  io.Text(r.device_id);
  io.Number(r.kind);
  io.Text(r.tags);
  io.Text(r.desired);
  io.Text(r.reported);
  io.Time(r.time);
}
template <typename Io, typename R>
void Visit(Io& io, R& r, const TwinErasedRecord*) {
  io.Text(r.device_id);
  io.Time(r.time);
}

// Writes type, length, and what `write` appends.  The length gets as many bytes
// as a chunk of 256 MB may need, so that it can be filled in afterwards.
template <typename Write>
void Frame(uint8_t type, std::string* out, Write write) {
  out->push_back(static_cast<char>(type));
  const size_t at = out->size();
  out->append(4, '\0');
  Writer writer(out);
  write(writer);
  uint32_t size = static_cast<uint32_t>(out->size() - at - 4);
  for (size_t i = 0; i < 4; ++i, size >>= 7) {
    (*out)[at + i] = static_cast<char>((size & 0x7f) | (i < 3 ? 0x80 : 0));
  }
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

void AppendDispatched(uint64_t job, uint32_t slice, absl::Time time,
                      absl::Span<const uint16_t> ranks, std::string* out) {
  Frame(TypeOf<DispatchedRecord>(), out, [&](Writer& w) {
    w.Number(job);
    w.Number(slice);
    w.Time(time);
    w.Ascending(ranks);
  });
}

void AppendReturned(uint64_t job, uint32_t slice,
                    absl::Span<const uint16_t> ranks, std::string* out) {
  Frame(TypeOf<ReturnedRecord>(), out, [&](Writer& w) {
    w.Number(job);
    w.Number(slice);
    w.Ascending(ranks);
  });
}

void AppendFinished(uint64_t job, uint32_t slice, absl::Time time,
                    absl::Span<const FinishedRecord::Entry> entries,
                    std::string* out) {
  Frame(TypeOf<FinishedRecord>(), out, [&](Writer& w) {
    w.Number(job);
    w.Number(slice);
    w.Time(time);
    w.Entries(entries);
  });
}

absl::Status ReadRecords(absl::string_view chunk,
                         absl::FunctionRef<void(Record)> visit) {
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
    visit(std::move(record));
  }
  return absl::OkStatus();
}

}  // namespace muster
