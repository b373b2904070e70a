// The benchmark fleet's conditions select exactly the twins that thirteen other
// systems agree on, and the index agrees with plain JSON row by row.
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "engine/query/document.h"
#include "engine/twin/json_lines.h"
#include "engine/twin/twin_index.h"
#include "gtest/gtest.h"
#include "tests/twin_testing.h"
#include "transport/loopback/fleet.h"

namespace muster {
namespace {

struct Query {
  std::string condition;
  int of_10k;   // Matches among the first 10,000 devices.
  int of_100k;  // The table's: among the first 100,000.
};

std::vector<Query> Queries() {
  std::string list = "deviceId IN [";
  for (int k = 0; k < 100; ++k) {
    absl::StrAppendFormat(&list, "%s'dev-%08d'", k == 0 ? "" : ",",
                          (k * 9973 + 17) % 1'000'000);
  }
  return {
      {"deviceId = 'dev-00424242'", 0, 0},
      {list + "]", 2, 11},
      {"tags.location.building = '43'", 39, 335},
      {"properties.reported.connectivity.type = 'lte'", 4'510, 44'963},
      {"properties.reported.battery < 20", 911, 9'315},
      {"tags.location.building = '43' AND properties.reported.battery < 20 AND "
       "NOT is_defined(properties.desired.fw)",
       1, 3},
      {"tags.model = 'TH-400' OR tags.customer = 'cust-0017' OR "
       "properties.reported.fw.version = '1.0.3'",
       1'374, 13'859},
      {"NOT (properties.reported.connectivity.type IN ['lte', 'wifi'])",
       2'493, 25'042},
      {"is_defined(properties.reported.lastError)", 292, 3'051},
      {"startswith(properties.reported.fw.version, '2.1.')", 2'996, 29'268},
      {"tags.location.region = 'emea-west' AND tags.location.floor = 7 AND "
       "properties.reported.sensors.env.cal.ok = false",
       5, 48},
      {"properties.reported.temperature >= 30 AND properties.reported.memFree "
       "< 20000",
       10, 116},
      {"*", 10'000, 100'000},
  };
}

std::unique_ptr<TwinIndex> LoadFleet(uint32_t count) {
  auto index = MakeIndex();
  JsonLinesLoader loader(index.get(), {});
  const FleetGenerator fleet;
  std::string lines;
  for (uint32_t row = 0; row < count; ++row) fleet.AppendTwin(row, &lines);
  for (const LineChunk& chunk : CutLines(lines, 1 << 20)) {
    loader.Add(chunk.lines, chunk.first_line_number);
  }
  EXPECT_EQ(Must(loader.Commit(At(0))).twin_count, count);
  return index;
}

// Whole seconds for the table's fleet in a build that is not optimized.
#ifdef NDEBUG
constexpr bool kWholeFleet = true;
#else
constexpr bool kWholeFleet = false;
#endif

TEST(TwinFleetTest, CountsOfTheTable) {
  auto index = LoadFleet(kWholeFleet ? 100'000 : 10'000);
  for (const Query& query : Queries()) {
    EXPECT_EQ(CountMatches(*index, Where(query.condition)),
              kWholeFleet ? query.of_100k : query.of_10k)
        << query.condition;
  }
  // Contract or not, this is what the design promises of memory.
  EXPECT_LT(index->MemoryUsage() / index->size(), 700);
}

TEST(TwinFleetTest, AgreesWithPlainJsonRowByRow) {
  constexpr uint32_t kCount = 1000;
  auto index = LoadFleet(kCount);
  std::vector<Query> queries = Queries();
  for (const char* more :
       {"status = 'disabled' OR connectionState = 'Disconnected'",
        "version > 200 AND lastActivityTime > '2026-06-01'",
        "properties.desired.$version > properties.reported.$version",
        "array_contains(tags.groups, 'g07')",
        "startswith(deviceId, 'dev-0000012')"}) {
    queries.push_back({more, 0, 0});
  }
  std::vector<JsonDocument> documents;
  const FleetGenerator fleet;
  for (uint32_t row = 0; row < kCount; ++row) {
    std::string line;
    fleet.AppendTwin(row, &line);
    documents.emplace_back(Parsed(line));
  }
  for (const Query& query : queries) {
    const Condition condition = Where(query.condition);
    std::vector<RowBitmap> matches(
        static_cast<size_t>(index->shard_count()));
    Matcher matcher(condition);
    for (int s = 0; s < index->shard_count(); ++s) {
      Shard& shard = index->shard(s);
      absl::ReaderMutexLock lock(&shard.mutex);
      matcher.Match(shard, &matches[static_cast<size_t>(s)]);
    }
    for (uint32_t row = 0; row < kCount; ++row) {
      const TwinLocation at = *index->Find(absl::StrFormat("dev-%08u", row));
      EXPECT_EQ(matches[static_cast<size_t>(at.shard)].Test(at.row),
                condition.Matches(documents[row]))
          << query.condition << " of row " << row;
    }
  }
}

}  // namespace
}  // namespace muster
