#include "transport/loopback/fleet.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

// FNV-1a, 64 bits.  The expected sums are those of the program that the first
// measurements were made with.
uint64_t Checksum(absl::string_view bytes) {
  uint64_t sum = 0xcbf29ce484222325u;
  for (const char byte : bytes) {
    sum = (sum ^ static_cast<unsigned char>(byte)) * 0x100000001b3u;
  }
  return sum;
}

std::string Twins(uint32_t count, const FleetGenerator& fleet) {
  std::string out;
  for (uint32_t row = 0; row < count; ++row) fleet.AppendTwin(row, &out);
  return out;
}

std::string Twin(uint32_t row) {
  std::string out;
  FleetGenerator().AppendTwin(row, &out);
  return out;
}

TEST(FleetGeneratorTest, BytesAreFixed) {
  const std::string twins = Twins(2000, FleetGenerator());
  EXPECT_EQ(twins.size(), 1470641u);
  EXPECT_EQ(Checksum(twins), 0x06001cd186ea2899u);
}

TEST(FleetGeneratorTest, BytesOfAnotherSeedAreFixed) {
  EXPECT_EQ(Checksum(Twins(2000, FleetGenerator(7))), 0xe108a0bc9d52a71bu);
}

// No desired firmware, no SIM card, no sensors, no error.
TEST(FleetGeneratorTest, ATwinWithMembersMissing) {
  EXPECT_EQ(
      Twin(34),
      R"({"deviceId":"dev-00000034","etag":"AAAAAAAAC00C=","version":180,)"
      R"("status":"enabled","connectionState":"Disconnected",)"
      R"("lastActivityTime":"2026-05-18T01:37:45Z",)"
      R"("tags":{"location":{"region":"amer-west","building":"144","floor":21,)"
      R"("geo":{"lat":22.1347,"lon":20.0890}},"model":"CAM-2",)"
      R"("customer":"cust-0028","groups":["g23","g45"],"installed":"2020-05-18"},)"
      R"("properties":{"desired":{"telemetry":{"intervalSec":40,"enabled":true},)"
      R"("$version":34},"reported":{"serial":"SN157247EC25D9",)"
      R"("fw":{"version":"2.1.0","slot":"B"},"battery":79.5,)"
      R"("connectivity":{"type":"wifi","rssi":-72},"temperature":27.9,)"
      R"("memFree":83254,"uptime":967537,"$version":4479}}})"
      "\n");
}

// A SIM card, sensors with a negative offset, error codes.
TEST(FleetGeneratorTest, ATwinWithSensorsAndErrors) {
  EXPECT_EQ(
      Twin(432),
      R"({"deviceId":"dev-00000432","etag":"AAAAAAAAB89F=","version":337,)"
      R"("status":"enabled","connectionState":"Connected",)"
      R"("lastActivityTime":"2026-10-25T08:44:31Z",)"
      R"("tags":{"location":{"region":"amer-west","building":"90","floor":5,)"
      R"("geo":{"lat":-27.4936,"lon":-36.9774}},"model":"TH-400",)"
      R"("customer":"cust-0009","groups":["g18"],"installed":"2020-10-25"},)"
      R"("properties":{"desired":{"telemetry":{"intervalSec":30,"enabled":true},)"
      R"("$version":29},"reported":{"serial":"SN16AEC5A45BB5",)"
      R"("fw":{"version":"2.0.0","slot":"B"},"battery":1.8,)"
      R"("connectivity":{"type":"lte","rssi":-83,"operator":"op-8",)"
      R"("iccid":"8944430114479029"},"temperature":27.2,)"
      R"("sensors":{"env":{"humidity":68.4,"cal":{"offset":-0.089,"ok":true}}},)"
      R"("memFree":128463,"uptime":4444304,"lastError":{"codes":[116,149,147],)"
      R"("at":"2026-10-25T00:00:00Z"},"$version":462}}})"
      "\n");
}

TEST(FleetGeneratorTest, TheLastRow) {
  EXPECT_EQ(
      Twin(std::numeric_limits<uint32_t>::max()),
      R"({"deviceId":"dev-4294967295","etag":"AAAAAAAA7DF2=","version":302,)"
      R"("status":"enabled","connectionState":"Connected",)"
      R"("lastActivityTime":"2026-06-03T21:21:14Z",)"
      R"("tags":{"location":{"region":"amer-east","building":"98","floor":6,)"
      R"("geo":{"lat":-31.0156,"lon":-101.8123}},"model":"LCK-7",)"
      R"("customer":"cust-0239","groups":["g02","g38","g12"],)"
      R"("installed":"2020-06-03"},)"
      R"("properties":{"desired":{"fw":{"version":"3.0.1","ring":1},)"
      R"("telemetry":{"intervalSec":40,"enabled":true},"$version":29},)"
      R"("reported":{"serial":"SN4A805B2F3CC9","fw":{"version":"3.0.1",)"
      R"("slot":"B"},"battery":69.1,"connectivity":{"type":"lora","rssi":-112},)"
      R"("temperature":18.4,"sensors":{"env":{"humidity":45.0,)"
      R"("cal":{"offset":-0.247,"ok":true}}},"memFree":87813,"uptime":8756061,)"
      R"("$version":2557}}})"
      "\n");
}

TEST(FleetGeneratorTest, AppendsWhateverTheOrder) {
  const FleetGenerator fleet;
  std::string out = "before";
  fleet.AppendTwin(9, &out);
  fleet.AppendTwin(3, &out);
  EXPECT_EQ(out, absl::StrCat("before", Twin(9), Twin(3)));
}

TEST(FleetGeneratorTest, NoTwinIsLongerThanItsBound) {
  const FleetGenerator fleet;
  size_t longest = 0;
  std::string out;
  for (uint32_t row = 0; row < 20'000; ++row) {
    out.clear();
    fleet.AppendTwin(row, &out);
    longest = std::max(longest, out.size());
  }
  EXPECT_LE(longest, FleetGenerator::kTwinBytesMax);
}

TEST(FleetPatchGeneratorTest, BytesAreFixed) {
  FleetPatchGenerator patches(1'000'000);
  std::string out;
  for (int i = 0; i < 2000; ++i) {
    const FleetPatchGenerator::Patch patch = patches.Next();
    absl::StrAppend(&out, patch.row, ",", patch.battery_tenths, "\n");
  }
  EXPECT_EQ(out.substr(0, 11), "843755,608\n");
  EXPECT_EQ(Checksum(out), 0x97d2244bca5f2863u);
}

TEST(FleetPatchGeneratorTest, StaysInItsRange) {
  FleetPatchGenerator patches(/*row_count=*/3, /*seed=*/1);
  bool seen[3] = {};
  for (int i = 0; i < 1000; ++i) {
    const FleetPatchGenerator::Patch patch = patches.Next();
    ASSERT_LT(patch.row, 3u);
    ASSERT_LT(patch.battery_tenths, 1000u);
    seen[patch.row] = true;
  }
  EXPECT_TRUE(seen[0] && seen[1] && seen[2]);
}

}  // namespace
}  // namespace muster
