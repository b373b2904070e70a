// The thirteen conditions of the benchmark fleet, and what is right of them.
//
// What a twin says is read from its JSON text by simdjson; what a condition
// selects is written out in C++ (BenchQuery::Selects), so that there is an
// answer for a fleet of any size.  For 10,000, 100,000 and 1,000,000 devices it
// has to be the count that thirteen other systems agree on.
#ifndef BENCH_QUERY_FLEET_H_
#define BENCH_QUERY_FLEET_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"

namespace muster {

// What the conditions read of one twin.
struct TwinFacts {
  uint32_t device = 0;  // 42 of dev-00000042, which is also its line.
  std::string region;
  std::string building;
  uint32_t floor = 0;
  std::string model;
  std::string customer;
  bool has_desired_fw = false;
  std::string fw_version;   // Empty: none.
  int battery_tenths = -1;  // Below 0: none.
  std::string connectivity;
  bool has_last_error = false;
  int cal_ok = -1;  // Below 0: none.
  int temperature_tenths = 0;
  uint32_t mem_free = 0;
};

// `json` must be followed by simdjson's padding, whatever is in it.
void ReadFacts(absl::string_view json, TwinFacts* facts);

// Calls fn(json, facts) for the twins of `first` up to `last`, in order.
void ForEachTwin(
    uint32_t first, uint32_t last,
    absl::FunctionRef<void(absl::string_view, const TwinFacts&)> fn);

struct BenchQuery {
  const char* name;
  const char* shape;
  std::string condition;
  bool (*selects)(const TwinFacts& facts);
};

inline constexpr int kQueryCount = 13;

// Q1 to Q13, of which Q3 to Q12 make the geometric means.
const std::vector<BenchQuery>& BenchQueries();

// The devices of Q2.
std::vector<uint32_t> ListedDevices();

// A set of devices, whatever their order: how many, and a sum of their hashes.
struct Answer {
  int64_t count = 0;
  uint64_t sum = 0;

  void Add(uint32_t device) {
    ++count;
    uint64_t x = (device + 1) * uint64_t{0x9e3779b97f4a7c15};
    x = (x ^ (x >> 32)) * uint64_t{0xd6e8feb86659fd93};
    sum += x ^ (x >> 32);
  }
  friend bool operator==(const Answer&, const Answer&) = default;
};

// The right answers for the first `twin_count` devices, on two threads.  CHECKs
// the published counts.
std::vector<Answer> RightAnswers(uint32_t twin_count);

}  // namespace muster

#endif  // BENCH_QUERY_FLEET_H_
