#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "bench/query_engine.h"
#include "bench/query_fleet.h"
#include "engine/model/check.h"
#include "simdjson.h"
#include "transport/loopback/fleet.h"

namespace muster {
namespace {

namespace ondemand = simdjson::ondemand;

bool Is(simdjson::simdjson_result<ondemand::value> value,
        std::string_view wanted) {
  std::string_view text;
  return value.get_string().get(text) == simdjson::SUCCESS && text == wanted;
}

// Each reads what it must of a twin, in the order in which it is written, and
// stops where the answer is known.
template <int q>
bool Selects(ondemand::document& twin,
             const absl::flat_hash_set<std::string>& listed) {
  if constexpr (q == 0) {
    return Is(twin["deviceId"], "dev-00424242");
  } else if constexpr (q == 1) {
    std::string_view id;
    return twin["deviceId"].get_string().get(id) == simdjson::SUCCESS &&
           listed.contains(absl::string_view(id.data(), id.size()));
  } else if constexpr (q == 2) {
    return Is(twin["tags"]["location"]["building"], "43");
  } else if constexpr (q == 3) {
    return Is(twin["properties"]["reported"]["connectivity"]["type"], "lte");
  } else if constexpr (q == 4) {
    double battery = 0;
    return twin["properties"]["reported"]["battery"].get_double().get(
               battery) == simdjson::SUCCESS &&
           battery < 20;
  } else if constexpr (q == 5) {
    if (!Is(twin["tags"]["location"]["building"], "43")) return false;
    auto properties = twin["properties"];
    if (properties["desired"]["fw"].error() == simdjson::SUCCESS) return false;
    double battery = 0;
    return properties["reported"]["battery"].get_double().get(battery) ==
               simdjson::SUCCESS &&
           battery < 20;
  } else if constexpr (q == 6) {
    auto tags = twin["tags"];
    if (Is(tags["model"], "TH-400")) return true;
    if (Is(tags["customer"], "cust-0017")) return true;
    return Is(twin["properties"]["reported"]["fw"]["version"], "1.0.3");
  } else if constexpr (q == 7) {
    std::string_view type;
    return twin["properties"]["reported"]["connectivity"]["type"]
                   .get_string()
                   .get(type) == simdjson::SUCCESS &&
           type != "lte" && type != "wifi";
  } else if constexpr (q == 8) {
    return twin["properties"]["reported"]["lastError"].error() ==
           simdjson::SUCCESS;
  } else if constexpr (q == 9) {
    std::string_view version;
    return twin["properties"]["reported"]["fw"]["version"].get_string().get(
               version) == simdjson::SUCCESS &&
           version.substr(0, 4) == "2.1.";
  } else if constexpr (q == 10) {
    auto location = twin["tags"]["location"];
    if (!Is(location["region"], "emea-west")) return false;
    int64_t floor = 0;
    if (location["floor"].get_int64().get(floor) != simdjson::SUCCESS ||
        floor != 7) {
      return false;
    }
    bool ok = true;
    return twin["properties"]["reported"]["sensors"]["env"]["cal"]["ok"]
                   .get_bool()
                   .get(ok) == simdjson::SUCCESS &&
           !ok;
  } else if constexpr (q == 11) {
    auto reported = twin["properties"]["reported"];
    double temperature = 0;
    if (reported["temperature"].get_double().get(temperature) !=
            simdjson::SUCCESS ||
        temperature < 30) {
      return false;
    }
    int64_t mem_free = 0;
    return reported["memFree"].get_int64().get(mem_free) == simdjson::SUCCESS &&
           mem_free < 20'000;
  } else {
    return true;
  }
}

class Scan : public QueryEngine {
 public:
  explicit Scan(uint32_t twin_count) {
    const FleetGenerator fleet;
    for (uint32_t row = 0; row < twin_count; ++row) {
      begins_.push_back(text_.size());
      fleet.AppendTwin(row, &text_);
    }
    begins_.push_back(text_.size());
    text_.resize(text_.size() + simdjson::SIMDJSON_PADDING);
    for (const uint32_t device : ListedDevices()) {
      listed_.insert(absl::StrFormat("dev-%08d", device));
    }
  }

  const char* name() const override { return "scan"; }
  int64_t Count(int q) override { return Read<false>(q, nullptr); }
  int64_t Enumerate(int q, uint32_t* ids) override {
    return Read<true>(q, ids);
  }
  uint32_t DeviceOf(uint32_t id) const override { return id; }

 private:
  template <bool enumerate, int q>
  int64_t ReadAll(uint32_t* ids) {
    int64_t count = 0;
    for (size_t i = 0; i + 1 < begins_.size(); ++i) {
      ondemand::document twin;
      MUSTER_CHECK(parser_
                       .iterate(text_.data() + begins_[i],
                                begins_[i + 1] - begins_[i] - 1,
                                text_.size() - begins_[i])
                       .get(twin) == simdjson::SUCCESS);
      if (!Selects<q>(twin, listed_)) continue;
      if constexpr (enumerate) ids[count] = static_cast<uint32_t>(i);
      ++count;
    }
    return count;
  }

  template <bool enumerate>
  int64_t Read(int q, uint32_t* ids) {
    return Dispatch<enumerate>(q, ids,
                               std::make_integer_sequence<int, kQueryCount>());
  }
  template <bool enumerate, int... all>
  int64_t Dispatch(int q, uint32_t* ids, std::integer_sequence<int, all...>) {
    int64_t count = 0;
    (void)((q == all && (count = ReadAll<enumerate, all>(ids), true)) || ...);
    return count;
  }

  std::string text_;
  std::vector<size_t> begins_;
  absl::flat_hash_set<std::string> listed_;
  ondemand::parser parser_;
};

}  // namespace

std::unique_ptr<QueryEngine> MakeJsonScan(uint32_t twin_count) {
  return std::make_unique<Scan>(twin_count);
}

}  // namespace muster
