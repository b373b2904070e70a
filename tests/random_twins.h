// Random twins and patches, of all that a column store might get wrong.
//
// A fleet has a shape: paths, what kind of values stands at each, and how often
// one is there.  So its twins resemble each other, as those of a real fleet do:
// columns have a type, a range, a dictionary, a pattern.  And then they break
// it: a number among strings, an object where others have a leaf, -0.0, 25 and
// 25.0, one serial number that is not like the rest.
#ifndef TESTS_RANDOM_TWINS_H_
#define TESTS_RANDOM_TWINS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tests/choices.h"
#include "tests/twin_model.h"

namespace muster {

class TwinShape {
 public:
  // Draws `path_count` paths below tags, desired and reported together.
  TwinShape(Choices* choices, int path_count);

  // The id of the fleet's `number`th device: valid, and never given twice.
  std::string DeviceId(uint32_t number) const;

  // JSON text for TwinIndex::Upsert().  No text of this class breaks a limit of
  // the contract, nor does a twin that was made from any number of them.
  std::string Twin(const std::string& device_id, Choices* choices) const;
  // One for Patch() and Replace(), and one for PatchReported().
  std::string ServicePatch(Choices* choices) const;
  std::string ReportedPatch(Choices* choices) const;

 private:
  enum class Kind : uint8_t {
    kSmallInt,
    kLowCardinality,
    kTenths,
    kBool,
    kConstant,
    kWideInt,
    kDecimal,
    kDouble,
    kSpecialNumber,
    kWholeAndFraction,  // 25 and 25.0.
    kHighCardinality,
    kUnicode,
    kShort,
    kNumbered,  // dev-00000042
    kSerial,    // SN00FF12AB34CD
    kDigits,    // 000042
    kTime,
    kVersion,
    kUuid,
    kStringArray,
    kMixedArray,
    kObjectArray,
    kEmptyObject,
    kObject,
    kMixed,
    kLong,
  };
  static constexpr uint32_t kKindCount = static_cast<uint32_t>(Kind::kLong) + 1;

  struct Slot {
    int section = 0;  // Of tags, desired, reported.
    std::vector<std::string> keys;
    Kind kind = Kind::kSmallInt;
    uint32_t cardinality = 1;  // About so many values, for some kinds.
    uint32_t variant = 0;      // Of the kind: a width, a prefix, a constant.
    uint32_t permille = 1000;  // Of the twins that have a value here.
  };

  static std::string Value(const Slot& slot, Choices* choices);
  // The section's values; with `sparse`, few of them, and nulls.
  Tree Section(int section, bool sparse, Choices* choices) const;

  uint32_t id_style_ = 0;
  std::vector<Slot> slots_;
};

}  // namespace muster

#endif  // TESTS_RANDOM_TWINS_H_
