#include "transport/loopback/loopback_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/model/json.h"

namespace muster {
namespace {

// What a hash is for: no two draws share their bits.
constexpr uint64_t kForKind = 0x6b696e64;
constexpr uint64_t kForSlow = 0x736c6f77;
constexpr uint64_t kForLatency = 0x6c617465;
constexpr uint64_t kForOffline = 0x6f66666c;
constexpr uint64_t kForStay = 0x73746179;

constexpr int kQuantileBits = 12;

// SplitMix64's finalizer (Steele, Lea, Flood 2014): a bijection whose output
// passes for random.
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

uint64_t Combine(uint64_t a, uint64_t b) {
  return Mix((a + 0x9e3779b97f4a7c15u) * 3 ^ b);
}

double Unit(uint64_t hash) {
  return (static_cast<double>(hash >> 11) + 0.5) * 0x1.0p-53;  // In (0, 1).
}

// Share of the 32-bit numbers.
uint64_t Limit(double share) {
  return static_cast<uint64_t>(std::llround(share * 0x1.0p32));
}

// z with half of erfc(-z / sqrt(2)) = p, by bisection: a few thousand of them
// are needed once, and this one has no coefficients to get wrong.
double NormalQuantile(double p) {
  double low = -10, high = 10;
  for (int i = 0; i < 60; ++i) {
    const double z = (low + high) / 2;
    (0.5 * std::erfc(-z / std::sqrt(2.0)) < p ? low : high) = z;
  }
  return low;
}

absl::Duration QuantileOf(const LoopbackLatency& latency, double p) {
  switch (latency.distribution) {
    case LoopbackLatency::Distribution::kConstant:
      break;
    case LoopbackLatency::Distribution::kUniform:
      return latency.min + p * (latency.max - latency.min);
    case LoopbackLatency::Distribution::kLognormal: {
      // Above `min`: median m, and m * exp(sigma * z(0.99)) = p99.
      const absl::Duration median = latency.median - latency.min;
      const double sigma =
          std::log(absl::FDivDuration(latency.p99 - latency.min, median)) /
          NormalQuantile(0.99);
      return latency.min + std::exp(sigma * NormalQuantile(p)) * median;
    }
  }
  return latency.value;
}

}  // namespace

uint64_t LoopbackHash(uint64_t seed, absl::string_view text) {
  uint64_t hash = Mix(seed ^ (text.size() * 0x9e3779b97f4a7c15u));
  while (text.size() >= 8) {
    uint64_t word;
    std::memcpy(&word, text.data(), 8);
    hash = Combine(hash, word);
    text.remove_prefix(8);
  }
  uint64_t rest = 0;
  std::memcpy(&rest, text.data(), text.size());
  return Combine(hash, rest);
}

LoopbackModel::LoopbackModel(const LoopbackOptions& options)
    : options_(options), slow_limit_(Limit(options.slow_share)) {
  const double shares[kKinds - 1] = {
      options.error_status_share,
      options.no_handler_share,
      options.no_answer_share,
      options.bad_response_share,
      options.response_too_large_share,
      options.link_lost_share,
      options.busy_share,
  };
  double sum = 0;
  for (int i = 0; i < kKinds - 1; ++i) {
    sum += shares[i];
    kind_limits_[i] = Limit(sum);
  }
  always_good_ = sum == 0;

  const bool constant =
      options.latency.distribution == LoopbackLatency::Distribution::kConstant;
  const int count = constant ? 1 : 1 << kQuantileBits;
  for (int i = 0; i < count; ++i) {
    latency_quantiles_.push_back(absl::ToInt64Nanoseconds(
        QuantileOf(options.latency, (i + 0.5) / count)));
  }
  at_once_ = *std::max_element(latency_quantiles_.begin(),
                               latency_quantiles_.end()) == 0;

  const absl::string_view text = options_.response_payload;
  static constexpr struct {
    absl::string_view text;
    Piece::Value value;
  } kPlaceholders[] = {
      {"${device_id}", Piece::Value::kDeviceId},
      {"${method}", Piece::Value::kMethod},
      {"\"${payload}\"", Piece::Value::kPayload},
  };
  size_t start = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    for (const auto& placeholder : kPlaceholders) {
      if (text.substr(i, placeholder.text.size()) != placeholder.text) continue;
      pieces_.push_back({text.substr(start, i - start), placeholder.value});
      start = i + placeholder.text.size();
      i = start - 1;
      break;
    }
  }
  if (!pieces_.empty()) {
    pieces_.push_back({text.substr(start), Piece::Value::kNone});
  }
}

LoopbackModel::Kind LoopbackModel::KindOf(uint64_t device,
                                          uint64_t method) const {
  if (always_good_) return Kind::kGood;
  const uint64_t draw = Combine(device ^ kForKind, method) >> 32;
  for (int i = 0; i < kKinds - 1; ++i) {
    if (draw < kind_limits_[i]) return static_cast<Kind>(i + 1);
  }
  return Kind::kGood;
}

absl::Duration LoopbackModel::LatencyOf(uint64_t device, uint64_t method,
                                        uint64_t attempt) const {
  if (at_once_) return absl::ZeroDuration();
  int64_t nanoseconds = latency_quantiles_.front();
  if (latency_quantiles_.size() > 1) {
    const uint64_t draw =
        Combine(Combine(device ^ kForLatency, method), attempt);
    nanoseconds = latency_quantiles_[draw >> (64 - kQuantileBits)];
  }
  const absl::Duration latency = absl::Nanoseconds(nanoseconds);
  return Mix(device ^ kForSlow) >> 32 < slow_limit_
             ? latency * options_.slow_factor
             : latency;
}

bool LoopbackModel::IsOfflineAtFirst(uint64_t device) const {
  return Mix(device ^ kForOffline) >> 32 < Limit(options_.offline_share);
}

absl::Duration LoopbackModel::StayOf(uint64_t device, uint32_t n,
                                     bool connected) const {
  const double unit = Unit(Combine(device ^ kForStay, n));
  if (connected) {
    if (options_.drop_mean == absl::ZeroDuration()) {
      return absl::InfiniteDuration();
    }
    return -std::log(unit) * options_.drop_mean;
  }
  if (options_.reconnect_max == absl::ZeroDuration()) {
    return absl::InfiniteDuration();
  }
  return options_.reconnect_min +
         unit * (options_.reconnect_max - options_.reconnect_min);
}

void LoopbackModel::AppendPayload(absl::string_view device_id,
                                  absl::string_view method,
                                  absl::string_view payload,
                                  std::string* out) const {
  const auto append = [out](absl::string_view text) {
    out->append(text.data(), text.size());
  };
  // The quotes around a placeholder are the template's.
  const auto append_escaped = [out](absl::string_view text) {
    const size_t quote = out->size();
    AppendJsonString(text, out);
    out->erase(quote, 1);
    out->pop_back();
  };
  if (pieces_.empty()) append(options_.response_payload);
  for (const Piece& piece : pieces_) {
    append(piece.text);
    switch (piece.value) {
      case Piece::Value::kNone:
        break;
      case Piece::Value::kDeviceId:
        append_escaped(device_id);
        break;
      case Piece::Value::kMethod:
        append_escaped(method);
        break;
      case Piece::Value::kPayload:
        append(payload);
        break;
    }
  }
}

}  // namespace muster
