// Instants as the contract reads and prints them (0.3, 1.11).
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/civil_time.h"
#include "absl/time/time.h"
#include "engine/model/instant.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

// What ParseInstant() made of `text`, as FormatInstant() prints it.
std::string Read(absl::string_view text) {
  const std::optional<absl::Time> time = ParseInstant(text);
  return time.has_value() ? FormatInstant(*time) : "nothing";
}

std::string ReadDate(absl::string_view text) {
  const std::optional<absl::Time> time = ParseDateOrInstant(text);
  return time.has_value() ? FormatInstant(*time) : "nothing";
}

TEST(InstantTest, PrintsSevenDigitsInUtc) {
  const absl::Time time = absl::FromCivil(
      absl::CivilSecond(2031, 3, 1, 22, 0, 0), absl::UTCTimeZone());
  EXPECT_EQ(FormatInstant(time), "2031-03-01T22:00:00.0000000Z");
  EXPECT_EQ(FormatInstant(time + absl::Microseconds(10'400)),
            "2031-03-01T22:00:00.0104000Z");
  EXPECT_EQ(FormatInstant(time + absl::Nanoseconds(199)),
            "2031-03-01T22:00:00.0000001Z");
  EXPECT_EQ(FormatInstant(time - absl::Nanoseconds(100)),
            "2031-03-01T21:59:59.9999999Z");
  EXPECT_EQ(FormatInstant(absl::UnixEpoch()), "1970-01-01T00:00:00.0000000Z");
  EXPECT_EQ(FormatInstant(absl::UnixEpoch() - absl::Nanoseconds(100)),
            "1969-12-31T23:59:59.9999999Z");
}

TEST(InstantTest, ReadsTheExtendedForm) {
  EXPECT_EQ(Read("2031-03-01T22:00:00Z"), "2031-03-01T22:00:00.0000000Z");
  EXPECT_EQ(Read("2031-03-01t22:00:00z"), "2031-03-01T22:00:00.0000000Z");
  EXPECT_EQ(Read("2031-03-01 22:00:00Z"), "2031-03-01T22:00:00.0000000Z");
  EXPECT_EQ(Read("2031-03-01T22:00Z"), "2031-03-01T22:00:00.0000000Z");
  EXPECT_EQ(Read("0001-01-01T00:00:00Z"), "0001-01-01T00:00:00.0000000Z");
  // Beyond the years that can be written, though each field is in range.
  EXPECT_EQ(ParseInstant("0001-01-01T00:00:00+01:00"), std::nullopt);
  EXPECT_EQ(ParseInstant("9999-12-31T23:30:00-01:00"), std::nullopt);
  EXPECT_EQ(Read("9999-12-31T23:59:59.9999999Z"),
            "9999-12-31T23:59:59.9999999Z");
}

TEST(InstantTest, ReadsTheBasicForm) {
  EXPECT_EQ(Read("20310301T220000Z"), "2031-03-01T22:00:00.0000000Z");
  EXPECT_EQ(Read("20310301T2200"), "2031-03-01T22:00:00.0000000Z");
  EXPECT_EQ(Read("20310301T220000.5+0130"), "2031-03-01T20:30:00.5000000Z");
  EXPECT_EQ(Read("2031-03-01T220000Z"), "nothing");
  EXPECT_EQ(Read("20310301T22:00:00Z"), "nothing");
  EXPECT_EQ(Read("2031-0301T22:00:00Z"), "nothing");
}

TEST(InstantTest, ReadsFractions) {
  EXPECT_EQ(Read("2031-03-01T22:00:00.1Z"), "2031-03-01T22:00:00.1000000Z");
  EXPECT_EQ(Read("2031-03-01T22:00:00.892Z"), "2031-03-01T22:00:00.8920000Z");
  EXPECT_EQ(Read("2031-03-01T22:00:00.1234567Z"),
            "2031-03-01T22:00:00.1234567Z");
  EXPECT_EQ(Read("2031-03-01T22:00:00,25Z"), "2031-03-01T22:00:00.2500000Z");
  // Finer than the clock: cut, not rounded.
  EXPECT_EQ(Read("2031-03-01T22:00:00.12345679999999999999Z"),
            "2031-03-01T22:00:00.1234567Z");
  EXPECT_EQ(Read("2031-03-01T22:00:00.Z"), "nothing");
  EXPECT_EQ(Read("2031-03-01T22:00.5Z"), "nothing");
}

TEST(InstantTest, ReadsOffsets) {
  EXPECT_EQ(Read("2031-03-01T22:00:00"), "2031-03-01T22:00:00.0000000Z");
  EXPECT_EQ(Read("2031-03-01T22:00:00+01:30"), "2031-03-01T20:30:00.0000000Z");
  EXPECT_EQ(Read("2031-03-01T22:00:00-08:00"), "2031-03-02T06:00:00.0000000Z");
  EXPECT_EQ(Read("2031-03-01T22:00:00+0530"), "2031-03-01T16:30:00.0000000Z");
  EXPECT_EQ(Read("2031-03-01T22:00:00+05"), "2031-03-01T17:00:00.0000000Z");
  EXPECT_EQ(Read("2031-03-01T22:00:00-00:00"), "2031-03-01T22:00:00.0000000Z");
  for (const char* text :
       {"2031-03-01T22:00:00+", "2031-03-01T22:00:00+1",
        "2031-03-01T22:00:00+24:00", "2031-03-01T22:00:00+01:60",
        "2031-03-01T22:00:00+01:3", "2031-03-01T22:00:00Z+01:00",
        "2031-03-01T22:00:00UTC"}) {
    EXPECT_EQ(Read(text), "nothing") << text;
  }
}

TEST(InstantTest, ReadsLeapSeconds) {
  EXPECT_EQ(Read("2016-12-31T23:59:60Z"), "2016-12-31T23:59:59.9999999Z");
  EXPECT_EQ(Read("2016-12-31T23:59:60.5Z"), "2016-12-31T23:59:59.9999999Z");
  EXPECT_EQ(Read("2016-12-31T23:59:61Z"), "nothing");
}

TEST(InstantTest, KnowsTheCalendar) {
  EXPECT_EQ(Read("2028-02-29T00:00:00Z"), "2028-02-29T00:00:00.0000000Z");
  EXPECT_EQ(Read("2000-02-29T00:00:00Z"), "2000-02-29T00:00:00.0000000Z");
  for (const char* text :
       {"2027-02-29T00:00:00Z", "2100-02-29T00:00:00Z", "2031-04-31T00:00:00Z",
        "2031-13-01T00:00:00Z", "2031-00-01T00:00:00Z", "2031-01-00T00:00:00Z",
        "2031-01-32T00:00:00Z", "0000-01-01T00:00:00Z", "2031-01-01T24:00:00Z",
        "2031-01-01T23:60:00Z"}) {
    EXPECT_EQ(Read(text), "nothing") << text;
  }
}

TEST(InstantTest, RefusesEverythingElse) {
  const absl::string_view kTexts[] = {
      "",
      "now",
      "tomorrow",
      "1930000000",
      "2031",
      "2031-03",
      "2031-03-01",
      "2031-03-01T",
      "2031-03-01T22",
      "2031-03-01T22:",
      "2031-03-01T22:00:",
      " 2031-03-01T22:00:00Z",
      "2031-03-01T22:00:00Z ",
      "2031-03-01  22:00:00Z",
      "31-03-01T22:00:00Z",
      "2031-3-1T22:00:00Z",
      "+2031-03-01T22:00:00Z",
      "-2031-03-01T22:00:00Z",
      "02031-03-01T22:00:00Z",
      "2031-03-01T2:00:00Z",
      "2031/03/01T22:00:00Z",
      "03/01/2031 22:00:00",
      absl::string_view("2031-03-01T22:00:00Z\0", 21),
      "\xD9\xA2\xD9\xA0\xD9\xA3\xD9\xA1-03-01T22:00:00Z"};
  for (absl::string_view text : kTexts) {
    EXPECT_EQ(Read(text), "nothing") << text;
  }
}

TEST(InstantTest, ADateMayStandForItsMidnight) {
  EXPECT_EQ(ReadDate("2031-03-01"), "2031-03-01T00:00:00.0000000Z");
  EXPECT_EQ(ReadDate("20310301"), "2031-03-01T00:00:00.0000000Z");
  EXPECT_EQ(ReadDate("2031-03-01T22:00:00Z"), "2031-03-01T22:00:00.0000000Z");
  EXPECT_EQ(ReadDate("2031-03"), "nothing");
  EXPECT_EQ(ReadDate("2031-02-29"), "nothing");
  EXPECT_EQ(ReadDate("2031-03-01 "), "nothing");
}

// Every instant of 100 ns that can be printed reads back as itself.
TEST(InstantTest, RoundTrips) {
  uint64_t state = 20310301;
  for (int i = 0; i < 20'000; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    // Seconds in the years 1 to 9999.
    const int64_t second =
        -62'135'596'800 + static_cast<int64_t>((state >> 20) % 315'537'897'600);
    const absl::Time time =
        absl::FromUnixSeconds(second) +
        absl::Nanoseconds(100 * static_cast<int64_t>(state % 10'000'000));
    const std::string text = FormatInstant(time);
    EXPECT_EQ(text.size(), 28u);
    ASSERT_EQ(ParseInstant(text), time) << text;
  }
}

}  // namespace
}  // namespace muster
