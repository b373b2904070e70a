// WorkBlock and RangeTable: executions of one gateway, from Send() to their
// outcomes.
//
// A block collects executions of one method while they wait; when it goes out
// it becomes a range, and its attempt keys stay where they are.
#ifndef TRANSPORT_GRPC_GATEWAY_WORK_BLOCK_H_
#define TRANSPORT_GRPC_GATEWAY_WORK_BLOCK_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "engine/transport.h"

namespace muster {

// Executions in one MethodWork.
inline constexpr size_t kWorkBlockMax = 1024;

struct WorkBlock {
  std::shared_ptr<const MethodCall> method;
  // When the first of it came: its devices' time began then.
  absl::Duration since;
  std::vector<AttemptKey> attempts;

  // While it waits: as many as attempts.  Those before `begin` have gone.
  std::vector<uint64_t> links;
  size_t begin = 0;

  // As a range.
  uint32_t number = 0;
  uint32_t unanswered = 0;
  absl::Duration expires;          // Nobody waits for its outcomes any more.
  std::vector<uint64_t> answered;  // A bit for each position; none: no bit.

  size_t size() const { return attempts.size() - begin; }
  absl::Duration deadline() const { return since + method->response_timeout; }

  // Takes position `i` as answered; false if it was.  REQUIRES: i <
  // attempts.size().
  bool Answer(size_t i) {
    if (answered.empty()) answered.resize((attempts.size() + 63) / 64);
    const uint64_t bit = uint64_t{1} << (i % 64);
    if ((answered[i / 64] & bit) != 0) return false;
    answered[i / 64] |= bit;
    --unanswered;
    return true;
  }
  bool IsAnswered(size_t i) const {
    return !answered.empty() && ((answered[i / 64] >> (i % 64)) & 1) != 0;
  }

  void Clear() {
    method = nullptr;
    attempts.clear();
    links.clear();
    answered.clear();
    begin = 0;
    unanswered = 0;
  }
};

// Ranges by their numbers, which count up, so that one is not used again before
// all others have been: what comes late or twice for a range that has gone
// meets no other.  A number whose place is taken by an older range is left out.
class RangeTable {
 public:
  // Gives the block a number, and returns it.
  uint32_t Add(std::unique_ptr<WorkBlock> block) {
    if (2 * (size_ + 1) > slots_.size()) Grow();
    while (slots_[Place(next_)] != nullptr) ++next_;
    block->number = next_;
    slots_[Place(next_)] = std::move(block);
    ++size_;
    return next_++;
  }

  // nullptr: no such range.
  WorkBlock* Find(uint32_t number) const {
    if (slots_.empty()) return nullptr;
    WorkBlock* const block = slots_[Place(number)].get();
    return block != nullptr && block->number == number ? block : nullptr;
  }

  // REQUIRES: Find(number) != nullptr.
  std::unique_ptr<WorkBlock> Remove(uint32_t number) {
    --size_;
    return std::move(slots_[Place(number)]);
  }

  // In no order.  `visit` may remove the range that it is called with.
  void ForEach(absl::FunctionRef<void(WorkBlock&)> visit) {
    for (size_t i = 0; i < slots_.size(); ++i) {
      if (slots_[i] != nullptr) visit(*slots_[i]);
    }
  }

  size_t size() const { return size_; }

 private:
  size_t Place(uint32_t number) const { return number & (slots_.size() - 1); }

  // Two numbers of different places are of different places in twice as many.
  void Grow() {
    std::vector<std::unique_ptr<WorkBlock>> old(
        slots_.empty() ? 4 : 2 * slots_.size());
    old.swap(slots_);
    for (std::unique_ptr<WorkBlock>& block : old) {
      if (block != nullptr) {
        const size_t place = Place(block->number);
        slots_[place] = std::move(block);
      }
    }
  }

  std::vector<std::unique_ptr<WorkBlock>> slots_;  // A power of two, or none.
  uint32_t next_ = 1;
  size_t size_ = 0;
};

}  // namespace muster

#endif  // TRANSPORT_GRPC_GATEWAY_WORK_BLOCK_H_
