// The tables of flags, and what is said when somebody mistypes one.
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/flags.h"
#include "server/nearest.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class FlagsTest : public ::testing::Test {
 protected:
  absl::StatusOr<Arguments> Parse(const std::vector<absl::string_view>& words) {
    return ParseFlags(flags_, words);
  }
  // The message of the error that `words` lead to.
  std::string Refusal(const std::vector<absl::string_view>& words) {
    const absl::StatusOr<Arguments> arguments = Parse(words);
    EXPECT_FALSE(arguments.ok());
    return std::string(arguments.status().message());
  }

  std::string fleet_ = "default";
  std::vector<std::string> jobs_;
  int64_t threads_ = 2;
  std::string profile_ = "s1";
  bool quiet_ = false;
  const std::vector<Flag> flags_ = {
      {"fleet", "FILE", "the fleet", &fleet_},
      {"job", "FILE", "a job", &jobs_},
      {"threads", "N", "threads", IntFlag{&threads_, 1, 256}},
      {"profile", "NAME", "profile\nof the hub",
       ChoiceFlag{&profile_, {"s1", "s2"}}},
      {"quiet", "", "be quiet", &quiet_},
  };
};

TEST_F(FlagsTest, WhatIsNotGivenStays) {
  const auto arguments = Parse({});
  ASSERT_TRUE(arguments.ok());
  EXPECT_THAT(arguments->positional, IsEmpty());
  EXPECT_EQ(fleet_, "default");
  EXPECT_EQ(threads_, 2);
  EXPECT_FALSE(arguments->Has("fleet"));
}

TEST_F(FlagsTest, ValuesStandBehindTheNameOrBehindAnEqualsSign) {
  ASSERT_TRUE(Parse({"--fleet", "a.jsonl", "--threads=4", "--quiet"}).ok());
  EXPECT_EQ(fleet_, "a.jsonl");
  EXPECT_EQ(threads_, 4);
  EXPECT_TRUE(quiet_);
  ASSERT_TRUE(Parse({"--fleet=x=y", "--quiet=false"}).ok());
  EXPECT_EQ(fleet_, "x=y");
  EXPECT_FALSE(quiet_);
}

TEST_F(FlagsTest, AListTakesItsFlagAsOftenAsItComes) {
  const auto arguments = Parse({"--job", "a", "--job=b"});
  ASSERT_TRUE(arguments.ok());
  EXPECT_THAT(jobs_, ElementsAre("a", "b"));
  EXPECT_TRUE(arguments->Has("job"));
}

TEST_F(FlagsTest, TheRestIsPositional) {
  const auto arguments =
      Parse({"SELECT", "--quiet", "-", "--", "--fleet", "-x"});
  ASSERT_TRUE(arguments.ok());
  EXPECT_THAT(arguments->positional,
              ElementsAre("SELECT", "-", "--fleet", "-x"));
  EXPECT_EQ(fleet_, "default");
}

TEST_F(FlagsTest, HelpComesBeforeAllElse) {
  for (absl::string_view help : {"--help", "-h"}) {
    const auto arguments = Parse({"--nonsense", "--threads", "0", help});
    ASSERT_TRUE(arguments.ok());
    EXPECT_TRUE(arguments->help);
  }
  const auto arguments = Parse({"--", "--help"});
  ASSERT_TRUE(arguments.ok());
  EXPECT_FALSE(arguments->help);
}

TEST_F(FlagsTest, RefusalsSayWhatWouldBeRight) {
  EXPECT_EQ(Refusal({"--thread", "3"}),
            "there is no flag --thread; did you mean --threads?");
  EXPECT_EQ(Refusal({"--xyzzy"}), "there is no flag --xyzzy");
  EXPECT_EQ(Refusal({"--fleet"}), "--fleet needs a value: --fleet FILE");
  EXPECT_EQ(Refusal({"--fleet", "--quiet"}),
            "--fleet needs a value: --fleet FILE");
  EXPECT_EQ(Refusal({"--fleet", "a", "--fleet", "b"}),
            "--fleet is there twice");
  EXPECT_EQ(Refusal({"--quiet=maybe"}),
            "--quiet must be true or false; got \"maybe\"");
  EXPECT_EQ(Refusal({"--profile=S3"}),
            "--profile must be one of s1, s2; got \"S3\"");
  EXPECT_EQ(Refusal({"--fleet="}),
            "--fleet must be a text that is not empty; got \"\"");
  EXPECT_THAT(Refusal({"-q"}), HasSubstr("two dashes"));
}

TEST_F(FlagsTest, NumbersAreIntegersInTheirRange) {
  for (absl::string_view number : {"0", "257", "-1", "2.5", "1e2", "", " 3",
                                   "two", "99999999999999999999"}) {
    EXPECT_THAT(Refusal({"--threads", number}),
                HasSubstr("--threads must be an integer in [1, 256]; got"))
        << number;
  }
  EXPECT_EQ(threads_, 2);
  ASSERT_TRUE(Parse({"--threads", "256"}).ok());
  EXPECT_EQ(threads_, 256);
}

TEST_F(FlagsTest, HelpStandsInTwoColumns) {
  EXPECT_EQ(FlagsHelp(flags_),
            "  --fleet FILE            the fleet\n"
            "  --job FILE              a job\n"
            "  --threads N             threads\n"
            "  --profile NAME          profile\n"
            "                          of the hub\n"
            "  --quiet                 be quiet\n");
}

TEST(NearestTest, DistanceCountsEdits) {
  EXPECT_EQ(EditDistance("", ""), 0u);
  EXPECT_EQ(EditDistance("abc", ""), 3u);
  EXPECT_EQ(EditDistance("fleet", "fleet"), 0u);
  EXPECT_EQ(EditDistance("felet", "fleet"), 1u);  // Neighbours swapped.
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3u);
}

TEST(NearestTest, OnlyWhatIsNear) {
  const std::vector<absl::string_view> known = {"run", "query", "demo"};
  EXPECT_EQ(NearestName("rnu", known), "run");
  EXPECT_EQ(NearestName("querry", known), "query");
  EXPECT_EQ(NearestName("q", known), "query");
  EXPECT_EQ(NearestName("serve", known), "");
  EXPECT_EQ(NearestName("", known), "");
  EXPECT_EQ(NearestName(std::string(100'000, 'r'), known), "");
}

}  // namespace
}  // namespace muster
