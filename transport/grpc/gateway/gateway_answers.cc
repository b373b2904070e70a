#include "transport/grpc/gateway/gateway_answers.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "engine/model/limits.h"

namespace muster {
namespace {

using Outcomes = v1::AttachRequest::Outcomes;

// A payload that all share is written out once for each of them when another
// one comes, if that is no more than this.
constexpr size_t kCopiesBytesMax = 4096;
// What one call takes in columns, at most, and what an entry takes.
constexpr size_t kCallBytes = 12;
constexpr size_t kEntryBytes = 32;
constexpr size_t kSpareFramesMax = 4;
// A frame that has grown beyond is not kept.
constexpr size_t kSpareFrameBytes = size_t{4} << 20;

uint32_t SizeOf(const Outcomes& entry) {
  return entry.positions().empty()
             ? entry.count()
             : static_cast<uint32_t>(entry.positions_size());
}

// Whether the payload can be added without many copies of it or of another.
bool Fits(const Outcomes& entry, uint32_t count, absl::string_view payload) {
  const uint32_t size = SizeOf(entry);
  if (size == 0 || entry.payload_sizes().empty()) {
    return size == 0 || payload.empty() ||
           (count - 1) * payload.size() <= kCopiesBytesMax;
  }
  const bool shared = entry.payload_sizes_size() == 1;
  if (shared && entry.payloads() == payload) return true;
  const size_t copies = (count - 1) * payload.size() +
                        (shared ? (size - 1) * entry.payloads().size() : 0);
  return copies <= kCopiesBytesMax;
}

void AddPositions(Outcomes* entry, uint32_t first, uint32_t count) {
  if (entry->positions().empty()) {
    if (entry->count() == 0) {
      entry->set_first(first);
      entry->set_count(count);
      return;
    }
    if (entry->first() + entry->count() == first) {
      entry->set_count(entry->count() + count);
      return;
    }
    for (uint32_t i = 0; i < entry->count(); ++i) {
      entry->add_positions(entry->first() + i);
    }
    entry->clear_first();
    entry->clear_count();
  }
  for (uint32_t i = 0; i < count; ++i) entry->add_positions(first + i);
}

void AddCodes(Outcomes* entry, uint32_t size, uint32_t count,
              OutcomeCode code) {
  // The numbers on the wire are the enum's, and one more: 0 is none.
  const char byte = static_cast<char>(static_cast<int>(code) + 1);
  if (entry->codes().empty()) {
    if (code == OutcomeCode::kAnswered) return;
    entry->mutable_codes()->assign(size, v1::OUTCOME_CODE_ANSWERED);
  }
  entry->mutable_codes()->append(count, byte);
}

void AddStatuses(Outcomes* entry, uint32_t size, uint32_t count,
                 int32_t status) {
  if (size == 0) {
    entry->add_statuses(status);
    return;
  }
  if (entry->statuses_size() == 1) {
    const int32_t shared = entry->statuses(0);
    if (shared == status) return;
    for (uint32_t i = 1; i < size; ++i) entry->add_statuses(shared);
  }
  for (uint32_t i = 0; i < count; ++i) entry->add_statuses(status);
}

// REQUIRES: Fits().
void AddPayloads(Outcomes* entry, uint32_t size, uint32_t count,
                 absl::string_view payload) {
  std::string& payloads = *entry->mutable_payloads();
  if (entry->payload_sizes().empty()) {
    if (payload.empty()) return;
    if (size == 0) {
      entry->add_payload_sizes(static_cast<uint32_t>(payload.size()));
      payloads.append(payload.data(), payload.size());
      return;
    }
    for (uint32_t i = 0; i < size; ++i) entry->add_payload_sizes(0);
  } else if (entry->payload_sizes_size() == 1) {
    if (payloads == payload) return;
    const auto shared = static_cast<uint32_t>(payloads.size());
    for (uint32_t i = 1; i < size; ++i) {
      entry->add_payload_sizes(shared);
      payloads.append(payloads, 0, shared);
    }
  }
  for (uint32_t i = 0; i < count; ++i) {
    entry->add_payload_sizes(static_cast<uint32_t>(payload.size()));
    payloads.append(payload.data(), payload.size());
  }
}

}  // namespace

void GatewayAnswers::Add(GatewayRanges::Slot& slot, uint32_t first,
                         uint32_t count, const GatewayAnswer& answer) {
  first += slot.base;
  if (slot.frame == number_ && !frames_.empty()) {
    Frame& frame = frames_.back();
    Outcomes* entry = frame.message->mutable_outcomes(slot.entry);
    if (frame.bytes < kFrameBytes && Fits(*entry, count, answer.payload)) {
      AddTo(entry, first, count, answer);
      return;
    }
  }
  Outcomes* entry = NewEntry(slot.wire_range);
  slot.frame = number_;
  slot.entry = frames_.back().message->outcomes_size() - 1;
  AddTo(entry, first, count, answer);
}

void GatewayAnswers::Add(uint32_t wire_range, uint32_t first, uint32_t count,
                         const GatewayAnswer& answer) {
  AddTo(NewEntry(wire_range), first, count, answer);
}

Outcomes* GatewayAnswers::NewEntry(uint32_t wire_range) {
  if (frames_.empty() || frames_.back().bytes >= kFrameBytes) {
    frames_.push_back({.message = EmptyFrame()});
    if (++number_ == 0) ++number_;  // 0 is no frame's.
  }
  Outcomes* entry = frames_.back().message->add_outcomes();
  entry->set_range(wire_range);
  Grow(kEntryBytes);
  return entry;
}

void GatewayAnswers::AddTo(Outcomes* entry, uint32_t first, uint32_t count,
                           const GatewayAnswer& answer) {
  const bool answered = answer.code == OutcomeCode::kAnswered;
  const bool too_large = answer.payload.size() > kMethodPayloadSizeMax;
  const OutcomeCode code =
      answered && too_large ? OutcomeCode::kResponseTooLarge : answer.code;
  const absl::string_view payload =
      answered && !too_large ? answer.payload : absl::string_view();
  const uint32_t size = SizeOf(*entry);
  const size_t payloads = entry->payloads().size();
  AddPositions(entry, first, count);
  AddCodes(entry, size, count, code);
  AddStatuses(entry, size, count,
              code == OutcomeCode::kAnswered ? answer.status : 0);
  AddPayloads(entry, size, count, payload);
  const bool columns = SizeOf(*entry) != count;
  Grow(entry->payloads().size() - payloads +
       (columns ? count * kCallBytes : 0));
}

void GatewayAnswers::Grow(size_t bytes) {
  frames_.back().bytes += bytes;
  bytes_ += bytes;
}

std::unique_ptr<v1::AttachRequest> GatewayAnswers::EmptyFrame() {
  if (spare_.empty()) return std::make_unique<v1::AttachRequest>();
  std::unique_ptr<v1::AttachRequest> frame = std::move(spare_.back());
  spare_.pop_back();
  return frame;
}

std::unique_ptr<v1::AttachRequest> GatewayAnswers::TakeFrame() {
  if (frames_.empty()) return EmptyFrame();
  std::unique_ptr<v1::AttachRequest> message =
      std::move(frames_.front().message);
  bytes_ -= frames_.front().bytes;
  frames_.pop_front();
  return message;
}

void GatewayAnswers::GiveBack(std::unique_ptr<v1::AttachRequest> frame) {
  if (spare_.size() >= kSpareFramesMax) return;
  // Only large ones are measured: that takes a walk through all entries.
  if (static_cast<size_t>(frame->GetCachedSize()) > kFrameBytes / 16 &&
      frame->SpaceUsedLong() > kSpareFrameBytes) {
    return;
  }
  frame->Clear();
  spare_.push_back(std::move(frame));
}

void GatewayAnswers::Clear() {
  for (Frame& frame : frames_) GiveBack(std::move(frame.message));
  frames_.clear();
  bytes_ = 0;
}

}  // namespace muster
