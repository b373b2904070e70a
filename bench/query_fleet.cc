#include "bench/query_fleet.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "engine/model/check.h"
#include "simdjson.h"
#include "transport/loopback/fleet.h"

namespace muster {
namespace {

namespace ondemand = simdjson::ondemand;

void ReadString(simdjson::simdjson_result<ondemand::value> value,
                std::string* out) {
  std::string_view text;
  out->clear();
  if (value.get_string().get(text) == simdjson::SUCCESS) out->assign(text);
}

template <typename Int>
void ReadInt(simdjson::simdjson_result<ondemand::value> value, Int* out) {
  int64_t number = 0;
  MUSTER_CHECK(value.get_int64().get(number) == simdjson::SUCCESS);
  *out = static_cast<Int>(number);
}

int Tenths(double number) { return static_cast<int>(std::lround(number * 10)); }

struct Published {
  uint32_t twin_count;
  std::array<int64_t, kQueryCount> counts;
};
constexpr Published kPublished[] = {
    {10'000,
     {0, 2, 39, 4'510, 911, 1, 1'374, 2'493, 292, 2'996, 5, 10, 10'000}},
    {100'000,
     {0, 11, 335, 44'963, 9'315, 3, 13'859, 25'042, 3'051, 29'268, 48, 116,
      100'000}},
    {1'000'000,
     {1, 100, 3'488, 449'706, 92'830, 41, 139'935, 250'298, 30'192, 293'117,
      322, 1'118, 1'000'000}},
};

}  // namespace

void ReadFacts(absl::string_view json, TwinFacts* facts) {
  static thread_local ondemand::parser parser;
  ondemand::document document;
  MUSTER_CHECK(parser
                   .iterate(json.data(), json.size(),
                            json.size() + simdjson::SIMDJSON_PADDING)
                   .get(document) == simdjson::SUCCESS);
  std::string id;
  ReadString(document["deviceId"], &id);
  facts->device = static_cast<uint32_t>(std::stoul(id.substr(4)));
  auto tags = document["tags"];
  auto location = tags["location"];
  ReadString(location["region"], &facts->region);
  ReadString(location["building"], &facts->building);
  ReadInt(location["floor"], &facts->floor);
  ReadString(tags["model"], &facts->model);
  ReadString(tags["customer"], &facts->customer);
  auto properties = document["properties"];
  facts->has_desired_fw =
      properties["desired"]["fw"].error() == simdjson::SUCCESS;
  auto reported = properties["reported"];
  ReadString(reported["fw"]["version"], &facts->fw_version);
  double number = 0;
  facts->battery_tenths =
      reported["battery"].get_double().get(number) == simdjson::SUCCESS
          ? Tenths(number)
          : -1;
  ReadString(reported["connectivity"]["type"], &facts->connectivity);
  MUSTER_CHECK(reported["temperature"].get_double().get(number) ==
               simdjson::SUCCESS);
  facts->temperature_tenths = Tenths(number);
  bool ok = false;
  facts->cal_ok = reported["sensors"]["env"]["cal"]["ok"].get_bool().get(ok) ==
                          simdjson::SUCCESS
                      ? ok
                      : -1;
  ReadInt(reported["memFree"], &facts->mem_free);
  facts->has_last_error = reported["lastError"].error() == simdjson::SUCCESS;
}

void ForEachTwin(
    uint32_t first, uint32_t last,
    absl::FunctionRef<void(absl::string_view, const TwinFacts&)> fn) {
  const FleetGenerator fleet;
  TwinFacts facts;
  std::string line;
  line.reserve(FleetGenerator::kTwinBytesMax + simdjson::SIMDJSON_PADDING);
  for (uint32_t row = first; row < last; ++row) {
    line.clear();
    fleet.AppendTwin(row, &line);
    const size_t size = line.size() - 1;  // Without the line's end.
    line.resize(line.size() + simdjson::SIMDJSON_PADDING);
    const absl::string_view json(line.data(), size);
    ReadFacts(json, &facts);
    MUSTER_CHECK(facts.device == row);
    fn(json, facts);
  }
}

std::vector<uint32_t> ListedDevices() {
  std::vector<uint32_t> devices;
  for (uint32_t k = 0; k < 100; ++k) {
    devices.push_back((k * 9973 + 17) % 1'000'000);
  }
  return devices;
}

const std::vector<BenchQuery>& BenchQueries() {
  static const auto* const queries = [] {
    std::string list;
    for (const uint32_t device : ListedDevices()) {
      absl::StrAppendFormat(&list, "%s'dev-%08d'",
                            list.empty() ? "deviceId IN [" : ",", device);
    }
    using F = TwinFacts;
    return new std::vector<BenchQuery>{
        {"Q1", "point", "deviceId = 'dev-00424242'",
         [](const F& f) { return f.device == 424'242; }},
        {"Q2", "list", list + "]",
         [](const F& f) {
           static const auto* const listed = [] {
             auto* devices = new std::vector<uint32_t>(ListedDevices());
             std::sort(devices->begin(), devices->end());
             return devices;
           }();
           return std::binary_search(listed->begin(), listed->end(), f.device);
         }},
        {"Q3", "equality, selective", "tags.location.building = '43'",
         [](const F& f) { return f.building == "43"; }},
        {"Q4", "equality, unselective",
         "properties.reported.connectivity.type = 'lte'",
         [](const F& f) { return f.connectivity == "lte"; }},
        {"Q5", "range", "properties.reported.battery < 20",
         [](const F& f) {
           return f.battery_tenths >= 0 && f.battery_tenths < 200;
         }},
        {"Q6", "conjunction",
         "tags.location.building = '43' AND properties.reported.battery < 20 "
         "AND NOT is_defined(properties.desired.fw)",
         [](const F& f) {
           return f.building == "43" && f.battery_tenths >= 0 &&
                  f.battery_tenths < 200 && !f.has_desired_fw;
         }},
        {"Q7", "disjunction",
         "tags.model = 'TH-400' OR tags.customer = 'cust-0017' OR "
         "properties.reported.fw.version = '1.0.3'",
         [](const F& f) {
           return f.model == "TH-400" || f.customer == "cust-0017" ||
                  f.fw_version == "1.0.3";
         }},
        {"Q8", "negation",
         "NOT (properties.reported.connectivity.type IN ['lte', 'wifi'])",
         [](const F& f) {
           return !f.connectivity.empty() && f.connectivity != "lte" &&
                  f.connectivity != "wifi";
         }},
        {"Q9", "presence", "is_defined(properties.reported.lastError)",
         [](const F& f) { return f.has_last_error; }},
        {"Q10", "prefix", "startswith(properties.reported.fw.version, '2.1.')",
         [](const F& f) { return absl::StartsWith(f.fw_version, "2.1."); }},
        {"Q11", "nested",
         "tags.location.region = 'emea-west' AND tags.location.floor = 7 AND "
         "properties.reported.sensors.env.cal.ok = false",
         [](const F& f) {
           return f.region == "emea-west" && f.floor == 7 && f.cal_ok == 0;
         }},
        {"Q12", "two ranges",
         "properties.reported.temperature >= 30 AND "
         "properties.reported.memFree < 20000",
         [](const F& f) {
           return f.temperature_tenths >= 300 && f.mem_free < 20'000;
         }},
        {"Q13", "all", "*", [](const F&) { return true; }},
    };
  }();
  MUSTER_CHECK(queries->size() == kQueryCount);
  return *queries;
}

std::vector<Answer> RightAnswers(uint32_t twin_count) {
  const auto part = [](uint32_t first, uint32_t last,
                       std::vector<Answer>* answers) {
    answers->resize(kQueryCount);
    ForEachTwin(first, last, [&](absl::string_view, const TwinFacts& facts) {
      for (size_t q = 0; q < kQueryCount; ++q) {
        if (BenchQueries()[q].selects(facts)) (*answers)[q].Add(facts.device);
      }
    });
  };
  BenchQueries();
  std::vector<Answer> answers;
  std::vector<Answer> others;
  std::thread thread(part, twin_count / 2, twin_count, &others);
  part(0, twin_count / 2, &answers);
  thread.join();
  for (size_t q = 0; q < kQueryCount; ++q) {
    answers[q].count += others[q].count;
    answers[q].sum += others[q].sum;
    for (const Published& published : kPublished) {
      MUSTER_CHECK(published.twin_count != twin_count ||
                   published.counts[q] == answers[q].count);
    }
  }
  return answers;
}

}  // namespace muster
