#include "transport/loopback/fleet.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <iterator>

#include "absl/strings/string_view.h"

namespace muster {
namespace {

// The finalizer of SplitMix64: a bijection whose output looks random.
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// Not absl::BitGen: the sequence has to be the same for ever.
class Random {
 public:
  explicit Random(uint64_t state) : state_(state) {}

  uint64_t Next() { return state_ = Mix(state_); }

  // Uniform in [0, limit); 0 if `limit` is.
  uint32_t Below(uint32_t limit) {
    return static_cast<uint32_t>((Next() >> 32) * uint64_t{limit} >> 32);
  }
  int IntBelow(uint32_t limit) { return static_cast<int>(Below(limit)); }

  // Uniform in [0, 1).
  double Unit() { return static_cast<double>(Next() >> 11) * 0x1.0p-53; }

  bool Chance(uint32_t permille) { return Below(1000) < permille; }

  uint64_t state() const { return state_; }

 private:
  uint64_t state_;
};

struct Choice {
  absl::string_view text;
  uint32_t percent;
};

constexpr Choice kRegions[] = {
    {"emea-west", 28}, {"emea-north", 10}, {"amer-east", 22}, {"amer-west", 16},
    {"apac-se", 11},   {"apac-ne", 7},     {"latam", 4},      {"mea", 2},
};

constexpr Choice kFirmwares[] = {
    {"1.0.3", 2},  {"1.4.0", 3},  {"1.4.7", 4},  {"2.0.0", 5},
    {"2.0.4", 6},  {"2.1.0", 8},  {"2.1.1", 10}, {"2.1.9", 12},
    {"2.2.0", 15}, {"3.0.0", 20}, {"3.0.1", 14}, {"3.1.0-rc2", 1},
};

// The first and the fourth are cellular and come with a SIM card.
constexpr Choice kConnectivities[] = {
    {"lte", 45}, {"wifi", 30}, {"ethernet", 15}, {"nbiot", 8}, {"lora", 2},
};

constexpr absl::string_view kModels[] = {
    "TH-400", "TH-410", "TH-420", "AQ-100", "AQ-110", "AQ-200",
    "PM-50",  "PM-60",  "PM-75",  "GW-1",   "GW-2",   "GW-3",
    "VAV-9",  "VAV-10", "HVAC-3", "HVAC-4", "LGT-1",  "LGT-2",
    "LCK-7",  "LCK-8",  "CAM-1",  "CAM-2",  "ELV-1",  "BMS-0",
};

template <size_t N>
constexpr uint32_t PercentSum(const Choice (&choices)[N]) {
  uint32_t sum = 0;
  for (const Choice& choice : choices) sum += choice.percent;
  return sum;
}

template <size_t N>
absl::string_view Pick(const Choice (&choices)[N], Random& random) {
  uint32_t value = random.Below(100);
  for (const Choice& choice : choices) {
    if (value < choice.percent) return choice.text;
    value -= choice.percent;
  }
  return choices[N - 1].text;
}

static_assert(PercentSum(kRegions) == 100);
static_assert(PercentSum(kFirmwares) == 100);
static_assert(PercentSum(kConnectivities) == 100);

// Skewed towards 0: few sites and models have most of the devices.  Only the
// square root, which IEEE 754 rounds exactly: the same on every machine.
int Skewed(int limit, double unit) {
  return static_cast<int>(limit * unit * std::sqrt(unit));
}

// What is known about a device, drawn in the order of the members.  The order
// is part of the fleet: to change it is to change every twin.
struct Device {
  explicit Device(uint64_t state);

  absl::string_view region;
  int building;
  int floor;
  absl::string_view model;
  int customer;
  absl::string_view firmware_desired;
  bool has_firmware_desired;
  bool has_firmware_reported;
  absl::string_view firmware_reported;
  bool has_battery;
  int battery_tenths;
  absl::string_view connectivity;
  int rssi;
  int temperature_tenths;
  int humidity_tenths;
  uint32_t mem_free;
  bool has_error;
  int error_code_count;
  int group_count;
  int calibration_thousandths;
  bool calibration_ok;
  bool has_sensors;
  uint32_t version;
  uint32_t version_desired;
  uint32_t version_reported;
  uint64_t serial;
  int year;
  int month;
  int day;
  bool connected;
  bool enabled;
  uint32_t uptime;
  int latitude;
  uint32_t latitude_fraction;
  int longitude;
  uint32_t longitude_fraction;
  // Draws what a twin has a varying number of, while the twin is written.
  Random rest;
};

Device::Device(uint64_t state) : rest(state) {
  Random random(state);
  region = Pick(kRegions, random);
  const double building_unit = random.Unit();
  const double model_unit = random.Unit();
  const double customer_unit = random.Unit();
  building = Skewed(400, building_unit);
  floor = 1 + random.IntBelow(24);
  model = kModels[Skewed(std::size(kModels), model_unit)];
  customer = static_cast<int>(2000 * customer_unit * customer_unit);
  firmware_desired = Pick(kFirmwares, random);
  has_firmware_desired = random.Chance(850);
  has_firmware_reported = random.Chance(980);
  firmware_reported =
      random.Chance(800) ? firmware_desired : Pick(kFirmwares, random);
  has_battery = random.Chance(800);
  battery_tenths = static_cast<int>(1000 * std::sqrt(random.Unit()));
  if (random.Chance(80)) battery_tenths = random.IntBelow(200);
  connectivity = Pick(kConnectivities, random);
  rssi = -40 - random.IntBelow(75);
  temperature_tenths = 180 + random.IntBelow(120);
  if (random.Chance(30)) temperature_tenths += random.IntBelow(250);
  humidity_tenths = 200 + random.IntBelow(500);
  mem_free = 8000 + random.Below(250000);
  has_error = random.Chance(30);
  error_code_count = 1 + random.IntBelow(3);
  group_count = random.IntBelow(4);
  calibration_thousandths = random.IntBelow(2000) - 1000;
  calibration_ok = !random.Chance(40);
  has_sensors = random.Chance(700);
  version = 1 + random.Below(400);
  version_desired = 1 + random.Below(40);
  version_reported = 1 + random.Below(5000);
  serial = random.Next();
  year = 2019 + random.IntBelow(7);
  month = 1 + random.IntBelow(12);
  day = 1 + random.IntBelow(28);
  connected = random.Chance(860);
  enabled = !random.Chance(12);
  uptime = random.Below(9000000);
  latitude = random.IntBelow(120) - 60;
  latitude_fraction = random.Below(10000);
  longitude = random.IntBelow(360) - 180;
  longitude_fraction = random.Below(10000);
  rest = random;
}

// Writes into a buffer that is large enough for any twin.
class Line {
 public:
  absl::string_view text() const {
    return absl::string_view(buffer_, static_cast<size_t>(end_ - buffer_));
  }

  void Put(char c) { *end_++ = c; }

  // Inlined, so that a literal is copied by a few moves of known size.
  void Put(absl::string_view s) {
    std::memcpy(end_, s.data(), s.size());
    end_ += s.size();
  }

  void PutUnsigned(uint32_t value) {
    int digits = 1;
    for (uint32_t rest = value; rest >= 10; rest /= 10) ++digits;
    PutDigits(value, digits);
  }

  void PutSigned(int value) {
    if (value < 0) Put('-');
    PutUnsigned(static_cast<uint32_t>(std::abs(value)));
  }

  // Exactly `digits` digits, with leading zeros.
  void PutDigits(uint64_t value, int digits) {
    for (int i = digits; i-- > 0; value /= 10) {
      end_[i] = static_cast<char>('0' + value % 10);
    }
    end_ += digits;
  }

  void PutHex(uint64_t value, int digits) {
    for (int i = digits; i-- > 0; value >>= 4) {
      end_[i] = "0123456789ABCDEF"[value & 15];
    }
    end_ += digits;
  }

  // A number >= 0, given in tenths.
  void PutTenths(int value) {
    PutUnsigned(static_cast<uint32_t>(value / 10));
    Put('.');
    PutDigits(static_cast<uint64_t>(value % 10), 1);
  }

  void PutBool(bool value) {
    Put(value ? absl::string_view("true") : absl::string_view("false"));
  }

  void PutDate(int year, int month, int day) {
    PutDigits(static_cast<uint64_t>(year), 4);
    Put('-');
    PutDigits(static_cast<uint64_t>(month), 2);
    Put('-');
    PutDigits(static_cast<uint64_t>(day), 2);
  }

 private:
  char buffer_[FleetGenerator::kTwinBytesMax];
  char* end_ = buffer_;
};

void PutIdentity(uint32_t row, const Device& device, Line& line) {
  line.Put("{\"deviceId\":\"dev-");
  if (row < 100'000'000) {
    line.PutDigits(row, 8);
  } else {
    line.PutUnsigned(row);
  }
  line.Put("\",\"etag\":\"AAAAAAAA");
  line.PutHex(device.version * 7919 & 0xffff, 4);
  line.Put("=\",\"version\":");
  line.PutUnsigned(device.version);
  line.Put(",\"status\":\"");
  line.Put(device.enabled ? absl::string_view("enabled")
                          : absl::string_view("disabled"));
  line.Put("\",\"connectionState\":\"");
  line.Put(device.connected ? absl::string_view("Connected")
                            : absl::string_view("Disconnected"));
  line.Put("\",\"lastActivityTime\":\"");
  line.PutDate(2026, device.month, device.day);
  line.Put('T');
  line.PutDigits(device.uptime % 24, 2);
  line.Put(':');
  line.PutDigits(device.uptime % 60, 2);
  line.Put(':');
  line.PutDigits(device.uptime / 60 % 60, 2);
  line.Put("Z\"");
}

void PutTags(Device& device, Line& line) {
  line.Put(",\"tags\":{\"location\":{\"region\":\"");
  line.Put(device.region);
  line.Put("\",\"building\":\"");
  line.PutSigned(device.building);
  line.Put("\",\"floor\":");
  line.PutSigned(device.floor);
  line.Put(",\"geo\":{\"lat\":");
  line.PutSigned(device.latitude);
  line.Put('.');
  line.PutDigits(device.latitude_fraction, 4);
  line.Put(",\"lon\":");
  line.PutSigned(device.longitude);
  line.Put('.');
  line.PutDigits(device.longitude_fraction, 4);
  line.Put("}},\"model\":\"");
  line.Put(device.model);
  line.Put("\",\"customer\":\"cust-");
  line.PutDigits(static_cast<uint64_t>(device.customer), 4);
  line.Put("\",\"groups\":[");
  for (int i = 0; i < device.group_count; ++i) {
    if (i > 0) line.Put(',');
    line.Put("\"g");
    line.PutDigits(device.rest.Below(50), 2);
    line.Put('"');
  }
  line.Put("],\"installed\":\"");
  line.PutDate(device.year, device.month, device.day);
  line.Put("\"}");
}

void PutDesired(Device& device, Line& line) {
  line.Put("\"desired\":{");
  if (device.has_firmware_desired) {
    line.Put("\"fw\":{\"version\":\"");
    line.Put(device.firmware_desired);
    line.Put("\",\"ring\":");
    line.PutUnsigned(device.rest.Below(5));
    line.Put("},");
  }
  line.Put("\"telemetry\":{\"intervalSec\":");
  line.PutUnsigned((1 + device.rest.Below(6)) * 10);
  line.Put(",\"enabled\":true},\"$version\":");
  line.PutUnsigned(device.version_desired);
  line.Put('}');
}

void PutConnectivity(Device& device, Line& line) {
  line.Put("\"connectivity\":{\"type\":\"");
  line.Put(device.connectivity);
  line.Put("\",\"rssi\":");
  line.PutSigned(device.rssi);
  if (device.connectivity == kConnectivities[0].text ||
      device.connectivity == kConnectivities[3].text) {
    line.Put(",\"operator\":\"op-");
    line.PutUnsigned(device.rest.Below(12));
    line.Put("\",\"iccid\":\"8944");
    line.PutDigits(device.serial, 12);
    line.Put('"');
  }
  line.Put('}');
}

void PutSensors(const Device& device, Line& line) {
  line.Put(",\"sensors\":{\"env\":{\"humidity\":");
  line.PutTenths(device.humidity_tenths);
  line.Put(",\"cal\":{\"offset\":");
  const int calibration = std::abs(device.calibration_thousandths);
  if (device.calibration_thousandths < 0) line.Put('-');
  line.PutSigned(calibration / 1000);
  line.Put('.');
  line.PutDigits(static_cast<uint64_t>(calibration % 1000), 3);
  line.Put(",\"ok\":");
  line.PutBool(device.calibration_ok);
  line.Put("}}}");
}

void PutReported(Device& device, Line& line) {
  line.Put(",\"reported\":{\"serial\":\"SN");
  line.PutHex(device.serial, 12);
  line.Put("\",");
  if (device.has_firmware_reported) {
    line.Put("\"fw\":{\"version\":\"");
    line.Put(device.firmware_reported);
    line.Put("\",\"slot\":\"");
    line.Put((device.serial & 1) != 0 ? 'B' : 'A');
    line.Put("\"},");
  }
  if (device.has_battery) {
    line.Put("\"battery\":");
    line.PutTenths(device.battery_tenths);
    line.Put(',');
  }
  PutConnectivity(device, line);
  line.Put(",\"temperature\":");
  line.PutTenths(device.temperature_tenths);
  if (device.has_sensors) PutSensors(device, line);
  line.Put(",\"memFree\":");
  line.PutUnsigned(device.mem_free);
  line.Put(",\"uptime\":");
  line.PutUnsigned(device.uptime);
  if (device.has_error) {
    line.Put(",\"lastError\":{\"codes\":[");
    for (int i = 0; i < device.error_code_count; ++i) {
      if (i > 0) line.Put(',');
      line.PutUnsigned(100 + device.rest.Below(60));
    }
    line.Put("],\"at\":\"");
    line.PutDate(2026, device.month, device.day);
    line.Put("T00:00:00Z\"}");
  }
  line.Put(",\"$version\":");
  line.PutUnsigned(device.version_reported);
  line.Put('}');
}

}  // namespace

void FleetGenerator::AppendTwin(uint32_t row, std::string* out) const {
  Device device(Mix(seed_ ^ (uint64_t{row} * 0xd1342543de82ef95u + 1)));
  Line line;
  PutIdentity(row, device, line);
  PutTags(device, line);
  line.Put(",\"properties\":{");
  PutDesired(device, line);
  PutReported(device, line);
  line.Put("}}\n");
  out->append(line.text().data(), line.text().size());
}

FleetPatchGenerator::FleetPatchGenerator(uint32_t row_count, uint64_t seed)
    : row_count_(row_count), state_(Mix(seed)) {}

FleetPatchGenerator::Patch FleetPatchGenerator::Next() {
  Random random(state_);
  const uint32_t row = random.Below(row_count_);
  const uint32_t battery_tenths = random.Below(1000);
  state_ = random.state();
  return {row, battery_tenths};
}

}  // namespace muster
