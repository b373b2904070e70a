// LoopbackModel: what a simulated device does, as a pure function.
//
// Every draw is a hash of the seed and of what the draw may depend on, never a
// step of a generator: no state, no order of calls, no locks.
//
//   kind of outcome     device, method
//   slow or not         device
//   latency             device, method, attempt
//   offline at first    device
//   n-th stay           device, n
#ifndef TRANSPORT_LOOPBACK_LOOPBACK_MODEL_H_
#define TRANSPORT_LOOPBACK_LOOPBACK_MODEL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "transport/loopback/loopback_options.h"

namespace muster {

// 64 bits that look random, the same on every machine and for ever.
uint64_t LoopbackHash(uint64_t seed, absl::string_view text);

// Immutable after construction: thread-safe.
class LoopbackModel {
 public:
  enum class Kind : uint8_t {
    kGood,
    kErrorStatus,
    kNoHandler,
    kNoAnswer,
    kBadResponse,
    kResponseTooLarge,
    kLinkLost,
    kBusy,
  };
  static constexpr int kKinds = 8;

  // REQUIRES: ValidateLoopbackOptions(options).ok().
  explicit LoopbackModel(const LoopbackOptions& options);

  LoopbackModel(const LoopbackModel&) = delete;  // pieces_ point into options_.
  LoopbackModel& operator=(const LoopbackModel&) = delete;

  // Every call is kGood and takes no time.
  bool always_good_at_once() const { return always_good_ && at_once_; }

  uint64_t HashOf(absl::string_view name) const {
    return LoopbackHash(options_.seed, name);
  }

  // The arguments are HashOf() the names.
  Kind KindOf(uint64_t device, uint64_t method) const;
  absl::Duration LatencyOf(uint64_t device, uint64_t method,
                           uint64_t attempt) const;
  bool IsOfflineAtFirst(uint64_t device) const;
  // How long the device stays connected, or stays away, after its n-th change;
  // InfiniteDuration() for ever.
  absl::Duration StayOf(uint64_t device, uint32_t n, bool connected) const;

  // Whether good answers differ from call to call.
  bool has_placeholders() const { return !pieces_.empty(); }
  // The payload of good answers without placeholders; empty for null.
  absl::string_view constant_payload() const {
    return options_.response_payload;
  }
  // Appends the payload of one good answer.
  void AppendPayload(absl::string_view device_id, absl::string_view method,
                     absl::string_view payload, std::string* out) const;

  const LoopbackOptions& options() const { return options_; }

 private:
  // The template: `text`, then what `value` stands for.
  struct Piece {
    enum class Value : uint8_t { kNone, kDeviceId, kMethod, kPayload };
    absl::string_view text;  // In options_.response_payload.
    Value value = Value::kNone;
  };

  const LoopbackOptions options_;
  bool always_good_;
  bool at_once_;
  // A draw of 32 bits below kind_limits_[k] is Kind(k + 1) or one before it.
  uint64_t kind_limits_[kKinds - 1];
  uint64_t slow_limit_;
  // Latencies in nanoseconds, at evenly spaced quantiles: one load for a draw.
  std::vector<int64_t> latency_quantiles_;
  std::vector<Piece> pieces_;
};

}  // namespace muster

#endif  // TRANSPORT_LOOPBACK_LOOPBACK_MODEL_H_
