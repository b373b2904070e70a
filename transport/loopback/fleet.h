// A synthetic fleet: the twins of devices that do not exist, realistic in
// shape.
//
// A twin is one JSON document of about 735 bytes with up to 37 leaf paths, 6
// levels deep: skewed values, missing members, arrays, strings that only one
// device has.  Every twin is a pure function of (seed, row), so any part of a
// fleet can be made again, anywhere and in any order.
//
// The bytes are fixed: results measured on one version of this file compare
// with those of any other.  tests/fleet_test.cc holds them; for a change in
// the shape of the fleet, add a second generator.

#ifndef TRANSPORT_LOOPBACK_FLEET_H_
#define TRANSPORT_LOOPBACK_FLEET_H_

#include <cstddef>
#include <cstdint>
#include <string>

namespace muster {

// Writes twins.  Immutable, so any number of threads may share one.
class FleetGenerator {
 public:
  static constexpr uint64_t kDefaultSeed = 42;

  // No twin of any seed and row is longer, its newline included.
  static constexpr size_t kTwinBytesMax = 1'024;

  explicit FleetGenerator(uint64_t seed = kDefaultSeed) : seed_(seed) {}

  // Appends the twin of device `row` to `*out`: one line of JSON with its '\n'.
  // The device is "dev-" and `row` in at least eight digits.  Takes about half
  // a microsecond; allocates only if `*out` has to grow.
  void AppendTwin(uint32_t row, std::string* out) const;

 private:
  uint64_t seed_;
};

// An endless stream of changes to a single property, as the devices of a fleet
// would report them: device `row` has a new `properties.reported.battery`.
// One thread at a time; the order is fixed by the seed.
class FleetPatchGenerator {
 public:
  static constexpr uint64_t kDefaultSeed = 43;

  struct Patch {
    uint32_t row;             // In [0, row_count).
    uint32_t battery_tenths;  // In [0, 999]: tenths of a percent.
  };

  // Patches devices 0 to `row_count` - 1.  REQUIRES: row_count > 0.
  explicit FleetPatchGenerator(uint32_t row_count,
                               uint64_t seed = kDefaultSeed);

  Patch Next();

 private:
  uint32_t row_count_;
  uint64_t state_;
};

}  // namespace muster

#endif  // TRANSPORT_LOOPBACK_FLEET_H_
