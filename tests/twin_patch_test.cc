// Contract 6.3 (what a section may hold), 1.5 and 1.7 (what a job's update may
// hold).  How updates apply: twin_update_test.
#include "engine/model/twin_patch.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/model/error.h"
#include "engine/model/json.h"
#include "engine/model/limits.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

Json Parsed(absl::string_view text) {
  absl::StatusOr<Json> json = ParseJson(text);
  EXPECT_TRUE(json.ok()) << json.status() << " in " << text;
  return json.ok() ? *std::move(json) : Json();
}

absl::StatusOr<TwinPatch> Patch(absl::string_view text,
                                PatchOrigin origin = PatchOrigin::kService) {
  return ParseTwinPatch(Parsed(text).view(), origin);
}

// The patch as text: what of it was kept.
std::string Kept(const Json& part) {
  return part.is_undefined() ? "undefined" : JsonText(part.view());
}

void ExpectError(const absl::StatusOr<TwinPatch>& patch, ErrorCode code,
                 absl::string_view what) {
  ASSERT_FALSE(patch.ok()) << "expected: " << what;
  EXPECT_EQ(ErrorCodeOf(patch.status()), code) << patch.status();
  EXPECT_TRUE(absl::StrContains(patch.status().message(), what))
      << patch.status().message() << " lacks: " << what;
}

// {"tags":{"k":<value>}}
std::string Tag(absl::string_view value) {
  return absl::StrCat(R"({"tags":{"k":)", value, "}}");
}

std::string Desired(absl::string_view section) {
  return absl::StrCat(R"({"properties":{"desired":)", section, "}}");
}

// ------------------------------------------------------------------ shape

TEST(ParseTwinPatchTest, TakesTheDocumentApart) {
  const auto patch = Patch(
      R"({"tags":{"a":1},"properties":{"desired":{"b":null},"reported":{"c":3}}})");
  ASSERT_TRUE(patch.ok()) << patch.status();
  EXPECT_EQ(Kept(patch->tags), R"({"a":1})");
  EXPECT_EQ(Kept(patch->desired), R"({"b":null})");
  EXPECT_EQ(Kept(patch->reported), "undefined");
  EXPECT_FALSE(patch->desired_version.has_value());
  EXPECT_FALSE(patch->reported_version.has_value());
}

TEST(ParseTwinPatchTest, PartsAreOptionalAndMayBeNull) {
  const struct {
    absl::string_view text, tags, desired;
  } kRows[] = {
      {R"({})", "undefined", "undefined"},
      {R"({"tags":null})", "null", "undefined"},
      {R"({"tags":{}})", "{}", "undefined"},
      {R"({"properties":null})", "undefined", "undefined"},
      {R"({"properties":{}})", "undefined", "undefined"},
      {R"({"properties":{"desired":null}})", "undefined", "null"},
      {R"({"properties":{"desired":{}}})", "undefined", "{}"},
      {R"({"deviceId":"x","etag":"abc","version":7,"other":1})", "undefined",
       "undefined"},
  };
  for (const auto& row : kRows) {
    const auto patch = Patch(row.text);
    ASSERT_TRUE(patch.ok()) << row.text << ": " << patch.status();
    EXPECT_EQ(Kept(patch->tags), row.tags) << row.text;
    EXPECT_EQ(Kept(patch->desired), row.desired) << row.text;
  }
}

TEST(ParseTwinPatchTest, RefusesWrongKinds) {
  ExpectError(ParseTwinPatch(JsonView(), PatchOrigin::kService),
              ErrorCode::kArgumentNull, "twin: missing or null");
  ExpectError(Patch("null"), ErrorCode::kArgumentNull, "twin");
  ExpectError(Patch("null", PatchOrigin::kJob), ErrorCode::kArgumentNull,
              "updateTwin");
  ExpectError(Patch("null", PatchOrigin::kDevice), ErrorCode::kArgumentNull,
              "properties.reported");
  ExpectError(Patch("[]"), ErrorCode::kArgumentInvalid, "twin: found an array");
  ExpectError(Patch("5", PatchOrigin::kDevice), ErrorCode::kArgumentInvalid,
              "properties.reported: found the number 5");
  ExpectError(Patch(R"({"tags":[1]})"), ErrorCode::kArgumentInvalid,
              "tags: found an array; an object or null was expected");
  ExpectError(Patch(R"({"tags":"x"})"), ErrorCode::kArgumentInvalid,
              "tags: found the string \"x\"");
  ExpectError(Patch(R"({"properties":7})"), ErrorCode::kArgumentInvalid,
              "properties: found the number 7");
  ExpectError(Patch(R"({"properties":{"desired":true}})"),
              ErrorCode::kArgumentInvalid,
              "properties.desired: found the boolean true");
}

TEST(ParseTwinPatchTest, DevicePatchIsTheSectionItself) {
  const auto patch =
      Patch(R"({"$version":9,"a":{"b":1}})", PatchOrigin::kDevice);
  ASSERT_TRUE(patch.ok()) << patch.status();
  EXPECT_EQ(Kept(patch->reported), R"({"a":{"b":1}})");
  EXPECT_EQ(patch->reported_version, 9);
  EXPECT_EQ(Kept(patch->tags), "undefined");
  EXPECT_EQ(Kept(patch->desired), "undefined");
  // Names that mean something elsewhere mean nothing here.
  const auto names =
      Patch(R"({"tags":1,"properties":{"desired":2}})", PatchOrigin::kDevice);
  ASSERT_TRUE(names.ok());
  EXPECT_EQ(Kept(names->reported), R"({"properties":{"desired":2},"tags":1})");
}

// -------------------------------------------------------- names beginning $

TEST(ParseTwinPatchTest, SystemMembersOfSections) {
  // $metadata is ignored, whatever it holds; $version is a guard.
  auto patch = Patch(Desired(
      R"({"!":0,"$metadata":{"$lastUpdated":"x","a b":[[[[]]]]},"$version":4,"a":1})"));
  ASSERT_TRUE(patch.ok()) << patch.status();
  EXPECT_EQ(Kept(patch->desired), R"({"!":0,"a":1})");
  EXPECT_EQ(patch->desired_version, 4);

  patch = Patch(Desired(R"({"$version":null})"));
  ASSERT_TRUE(patch.ok());
  EXPECT_EQ(Kept(patch->desired), "{}");
  EXPECT_FALSE(patch->desired_version.has_value());

  patch = Patch(R"({"tags":{"$metadata":{},"a":1}})");
  ASSERT_TRUE(patch.ok());
  EXPECT_EQ(Kept(patch->tags), R"({"a":1})");

  for (const char* version :
       {"\"4\"", "4.0", "0", "-1", "{}", "true", "4503599627370496"}) {
    ExpectError(Patch(Desired(absl::StrCat(R"({"$version":)", version, "}"))),
                ErrorCode::kArgumentInvalid, "properties.desired.$version");
  }
  ExpectError(Patch(Desired(R"({"$other":1})")), ErrorCode::kArgumentInvalid,
              "properties.desired.$other");
  // Tags have no version: a guard that guards nothing would be a trap.
  ExpectError(Patch(R"({"tags":{"$version":4}})"), ErrorCode::kArgumentInvalid,
              "tags.$version");
  // Inside a section nothing begins with '$'.
  ExpectError(Patch(Desired(R"({"a":{"$metadata":1}})")),
              ErrorCode::kArgumentInvalid, "properties.desired.a.$metadata");
  ExpectError(Patch(Desired(R"({"a":[{"$version":1}]})")),
              ErrorCode::kArgumentInvalid, "properties.desired.a[0].$version");
}

// -------------------------------------------------------------------- names

std::string JsonString(absl::string_view text) {
  std::string out;
  AppendJsonString(text, &out);
  return out;
}

TEST(ParseTwinPatchTest, NameCharacters) {
  for (const char* good :
       {"a", "A", "#x", "ä",  "部屋", "my-tag",   "4g", "a]b", "it's", "(",
        "@", "/", "\\", "\"", ":",    "\xC2\xA0", "=",  "{",   "~",    "a,b"}) {
    const auto patch =
        Patch(absl::StrCat(R"({"tags":{)", JsonString(good), ":1}}"));
    EXPECT_TRUE(patch.ok()) << good << ": " << patch.status();
  }
  for (const char* bad : {"", " ", "a b", "a.b", ".", "$", "a$", "a\tb", "\x01",
                          "\x1f", "\x7f", "\xC2\x80", "a\xC2\x9F", "a\n"}) {
    // As a member of the section, deeper, in an array, and where it is deleted.
    for (const char* around :
         {R"({"tags":{@:1}})", R"({"tags":{"a":{@:1}}})",
          R"({"tags":{"a":[1,[{@:1}]]}})", R"({"tags":{@:null}})",
          R"({"properties":{"desired":{"a":{"b":{@:{}}}}}})"}) {
      std::string text = around;
      text.replace(text.find('@'), 1, JsonString(bad));
      const auto patch = Patch(text);
      EXPECT_FALSE(patch.ok()) << text;
      EXPECT_EQ(ErrorCodeOf(patch.status()), ErrorCode::kArgumentInvalid);
    }
  }
}

// Names are looked at several bytes at a time, short ones in another way.
TEST(ParseTwinPatchTest, ABadCharacterIsFoundWhereverItStands) {
  for (size_t size = 1; size <= 20; ++size) {
    for (size_t at = 0; at < size; ++at) {
      for (const char* good : {"!", "~", "-", "/", "#", "%", "0", "\xC2\xA0",
                               "\xC3\x85", "\xE2\x82\xAC"}) {
        std::string name(size, 'n');
        name.replace(at, 1, good);
        const auto patch =
            Patch(absl::StrCat(R"({"tags":{)", JsonString(name), ":1}}"));
        ASSERT_TRUE(patch.ok()) << patch.status();
      }
      for (const char* bad :
           {"\x01", "\x1f", " ", "$", ".", "\x7f", "\xC2\x80", "\xC2\x9F"}) {
        std::string name(size, 'n');
        name.replace(at, 1, bad);
        const auto patch =
            Patch(absl::StrCat(R"({"tags":{)", JsonString(name), ":1}}"));
        ASSERT_FALSE(patch.ok()) << name;
      }
    }
  }
}

TEST(ParseTwinPatchTest, NameLength) {
  const std::string longest(kTwinKeySizeMax, 'n');
  EXPECT_TRUE(Patch(absl::StrCat(R"({"tags":{")", longest, R"(":1}})")).ok());
  ExpectError(Patch(absl::StrCat(R"({"tags":{")", longest, R"(n":1}})")),
              ErrorCode::kArgumentInvalid, "1025 bytes; at most 1024");
  // Bytes, not characters.
  std::string umlauts;
  for (size_t i = 0; i < kTwinKeySizeMax / 2; ++i) umlauts += "ä";
  EXPECT_TRUE(Patch(absl::StrCat(R"({"tags":{")", umlauts, R"(":1}})")).ok());
  EXPECT_FALSE(Patch(absl::StrCat(R"({"tags":{")", umlauts, R"(n":1}})")).ok());
}

TEST(ParseTwinPatchTest, MessagesNamePathValueAndRule) {
  const auto patch = Patch(R"({"tags":{"location":{"the floor":3}}})");
  ASSERT_FALSE(patch.ok());
  EXPECT_EQ(patch.status().message(),
            "tags.location.the floor: the name \"the floor\" is not allowed; "
            "names have no '.', no '$', no space and no control character");
  // Whatever was sent, the message stays short and printable.
  const auto big = Patch(
      absl::StrCat(R"({"tags":{")", std::string(4000, 'x'), R"(\u0001":1}})"));
  ASSERT_FALSE(big.ok());
  EXPECT_LT(big.status().message().size(), 1000u);
  EXPECT_FALSE(absl::StrContains(big.status().message(), "\x01"));
}

// ------------------------------------------------------------------- values

TEST(ParseTwinPatchTest, ValueKinds) {
  for (const char* value :
       {"true", "false", "null", "0", "-7", "1.5", "1e300", "\"\"", "\"x\"",
        "{}", "[]", "[null,1,{\"a\":null}]"}) {
    EXPECT_TRUE(Patch(Tag(value)).ok()) << value;
  }
}

TEST(ParseTwinPatchTest, IntegerRange) {
  EXPECT_TRUE(Patch(Tag("4503599627370495")).ok());
  EXPECT_TRUE(Patch(Tag("-4503599627370496")).ok());
  for (const char* value : {"4503599627370496", "-4503599627370497",
                            "9223372036854775807", "-9223372036854775808",
                            "9223372036854775808", "18446744073709551615"}) {
    ExpectError(Patch(Tag(value)), ErrorCode::kArgumentInvalid,
                "tags.k: the integer");
    ExpectError(Patch(Tag(absl::StrCat("[0,{\"x\":", value, "}]"))),
                ErrorCode::kArgumentInvalid, "tags.k[1].x: the integer");
  }
  // Not written as an integer: any double.
  EXPECT_TRUE(Patch(Tag("4503599627370496.5")).ok());
  EXPECT_TRUE(Patch(Tag("1e17")).ok());
  EXPECT_TRUE(Patch(Tag("-1e300")).ok());
}

TEST(ParseTwinPatchTest, StringLength) {
  const std::string longest(kTwinStringSizeMax, 's');
  EXPECT_TRUE(Patch(Tag(JsonString(longest))).ok());
  ExpectError(Patch(Tag(JsonString(longest + "s"))),
              ErrorCode::kArgumentInvalid,
              "has 4097 bytes; at most 4096 are allowed");
  ExpectError(Patch(Tag(absl::StrCat("[", JsonString(longest + "s"), "]"))),
              ErrorCode::kArgumentInvalid, "tags.k[0]: the string");
}

// A member inside `depth` objects below the section: depth 1 is
// {"o":{"p":<leaf>}}.
std::string Nested(int depth, absl::string_view leaf) {
  std::string text;
  for (int i = 0; i < depth; ++i) text += R"({"o":)";
  absl::StrAppend(&text, R"({"p":)", leaf, "}");
  return text + std::string(depth, '}');
}

TEST(ParseTwinPatchTest, Depth) {
  // tags.one.two...ten.property.
  EXPECT_TRUE(Patch(Desired(Nested(10, "1"))).ok());
  ExpectError(Patch(Desired(Nested(11, "1"))), ErrorCode::kArgumentInvalid,
              "more than 10 objects and arrays inside each other");
  EXPECT_FALSE(Patch(Desired(Nested(10, "{}"))).ok());
  EXPECT_TRUE(Patch(Desired(Nested(9, "{}"))).ok());
  // An array is a level.
  EXPECT_TRUE(Patch(Desired(Nested(9, "[1]"))).ok());
  EXPECT_FALSE(Patch(Desired(Nested(10, "[1]"))).ok());
  EXPECT_TRUE(Patch(Desired(Nested(8, R"([{"x":1}])"))).ok());
  EXPECT_FALSE(Patch(Desired(Nested(9, R"([{"x":1}])"))).ok());
  EXPECT_FALSE(Patch(Desired(Nested(9, "[[]]"))).ok());
  // A deletion makes nothing deeper than its objects are.
  EXPECT_TRUE(Patch(Desired(Nested(10, "null"))).ok());
}

// --------------------------------------------------------------------- size

// Of a section, as it is counted while it is checked.
size_t SizeOf(absl::string_view section) {
  const Json document = Parsed(section);
  const auto read = ReadTwinPatch(document.view(), PatchOrigin::kDevice);
  EXPECT_TRUE(read.ok()) << read.status();
  return read.ok() ? read->reported.size : SIZE_MAX;
}

TEST(SectionSizeTest, CheckExample) {
  EXPECT_EQ(SizeOf(R"({"a":"xyz","n":5,"b":true,"o":{"k":"é"}})"), 22u);
}

TEST(SectionSizeTest, ControlCharactersDoNotCountWhereverTheyStand) {
  for (size_t size = 1; size <= 20; ++size) {
    for (size_t at = 0; at < size; ++at) {
      const struct {
        const char* character;
        size_t size;
      } kRows[] = {{"x", 1},        {" ", 1},        {"\x01", 0},
                   {"\x1f", 0},     {"\x7f", 0},     {"\xC2\x80", 0},
                   {"\xC2\x9F", 0}, {"\xC2\xA0", 2}, {"\xC3\x9F", 2}};
      for (const auto& row : kRows) {
        std::string text(size, 'v');
        text.replace(at, 1, row.character);
        const std::string section =
            absl::StrCat(R"({"k":)", JsonString(text), "}");
        ASSERT_EQ(SizeOf(section), 1 + size - 1 + row.size);
        // A value alone counts the same.
        const Json parsed = Parsed(section);
        ASSERT_EQ(TwinKeySize("k") + TwinValueSize(parsed.view().Find("k")),
                  size + row.size);
      }
    }
  }
}

TEST(SectionSizeTest, Parts) {
  const struct {
    absl::string_view section;
    size_t size;
  } kRows[] = {
      {R"({})", 0},
      {R"({"ab":""})", 2},
      {R"({"ab":"x"})", 3},
      {R"({"ab":"é"})", 4},
      {R"({"ab":"x\u0000\u001f\u007fy"})", 4},  // Controls do not count,
      {R"({"ab":"\u0080\u009f\u00a0"})", 4},    // neither do the wide ones.
      {R"({"é":1})", 10},
      {R"({"a":1})", 9},
      {R"({"a":1.5})", 9},
      {R"({"a":false})", 5},
      {R"({"a":{}})", 1},
      {R"({"a":[]})", 1},
      {R"({"a":[1,true,"xy",null]})", 15},
      {R"({"a":[{"b":1,"c":null},[2]]})", 19},
      {R"({"a":null})", 0},  // No member at all.
      {R"({"a":{"b":null}})", 1},
      {R"({"$version":7,"$metadata":{"x":1},"a":1})", 9},
  };
  for (const auto& row : kRows) {
    EXPECT_EQ(SizeOf(row.section), row.size) << row.section;
  }
}

TEST(ReadTwinPatchTest, ViewsThePartsAsTheyStand) {
  const Json document = Parsed(
      R"({"tags":{"a":null},"properties":{"desired":{"$version":3,"b":{"c":null}},
          "reported":{"x":1}}})");
  const auto patch = ReadTwinPatch(document.view(), PatchOrigin::kService);
  ASSERT_TRUE(patch.ok()) << patch.status();
  EXPECT_EQ(JsonText(patch->tags.value), R"({"a":null})");
  EXPECT_EQ(patch->tags.size, 0u);
  EXPECT_FALSE(patch->tags.has_members);
  EXPECT_FALSE(patch->tags.has_system_members);
  EXPECT_EQ(JsonText(patch->desired.value), R"({"$version":3,"b":{"c":null}})");
  EXPECT_EQ(patch->desired.size, 1u);
  EXPECT_TRUE(patch->desired.has_members);
  EXPECT_TRUE(patch->desired.has_system_members);
  EXPECT_EQ(patch->desired.version, 3);
  EXPECT_TRUE(patch->reported.value.is_undefined());
  // No copy.
  EXPECT_GE(patch->tags.value.bytes().data(), document.bytes().data());
  EXPECT_LT(patch->tags.value.bytes().data(),
            document.bytes().data() + document.bytes().size());

  const Json null = Parsed(R"({"tags":null,"properties":null})");
  const auto cleared = ReadTwinPatch(null.view(), PatchOrigin::kService);
  ASSERT_TRUE(cleared.ok());
  EXPECT_TRUE(cleared->tags.value.is_null());
  EXPECT_TRUE(cleared->desired.value.is_undefined());
  // The rules are those of ParseTwinPatch(), which is made of it.
  const auto bad = ReadTwinPatch(Parsed(Tag("\"x\",\"x y\":1")).view(),
                                 PatchOrigin::kService);
  EXPECT_EQ(ErrorCodeOf(bad.status()), ErrorCode::kArgumentInvalid);
}

// A section of exactly `size` bytes by the contract's count.
std::string SectionOf(size_t size) {
  std::string text = "{";
  int n = 0;
  while (size > 0) {
    // "kNN" and a string.
    const size_t value = std::min(size - 3, size_t{2000});
    // What is left must take another member or be nothing.
    const size_t part =
        size - 3 - value < 4 && size - 3 != value ? value - 10 : value;
    absl::StrAppend(&text, n == 0 ? "" : ",", "\"k", n < 10 ? "0" : "", n,
                    "\":\"", std::string(part, 'x'), "\"");
    ++n;
    size -= 3 + part;
  }
  return text + "}";
}

TEST(ParseTwinPatchTest, SizeOfAPartAlone) {
  const std::string tags = SectionOf(kTwinTagsSizeMax);
  ASSERT_EQ(SizeOf(tags), kTwinTagsSizeMax);
  EXPECT_TRUE(Patch(absl::StrCat(R"({"tags":)", tags, "}")).ok());
  ExpectError(
      Patch(absl::StrCat(R"({"tags":)", SectionOf(kTwinTagsSizeMax + 1), "}")),
      ErrorCode::kMessageTooLarge,
      "tags: 8193 bytes of names and values; at most 8192");
  const std::string section = SectionOf(kTwinPropertiesSizeMax);
  EXPECT_TRUE(Patch(Desired(section)).ok());
  EXPECT_TRUE(Patch(section, PatchOrigin::kDevice).ok());
  const std::string over = SectionOf(kTwinPropertiesSizeMax + 1);
  ExpectError(Patch(Desired(over)), ErrorCode::kMessageTooLarge,
              "properties.desired: 32769");
  ExpectError(Patch(over, PatchOrigin::kDevice), ErrorCode::kMessageTooLarge,
              "properties.reported: 32769");
  ExpectError(Patch(Desired(over), PatchOrigin::kJob),
              ErrorCode::kMessageTooLarge, "properties.desired");
}

TEST(ParseTwinPatchTest, DeletionsTakeNoRoom) {
  std::string text = R"({"tags":{)";
  for (int i = 0; i < 2000; ++i) {
    absl::StrAppend(&text, i == 0 ? "" : ",", "\"member", i, "\":null");
  }
  EXPECT_TRUE(Patch(text + "}}").ok());
}

// --------------------------------------------------------------------- jobs

TEST(ParseJobPatchTest, Members) {
  for (const char* good :
       {R"({})", R"({"etag":"*"})", R"({"etag":"\"*\""})", R"({"etag":null})",
        R"({"deviceId":null})", R"({"deviceId":"x"})", R"({"version":3})",
        R"({"moduleId":{"any":"thing"}})", R"({"status":"enabled"})",
        R"({"connectionState":1,"lastActivityTime":2,"capabilities":3})",
        R"({"properties":{"reported":{}}})",
        R"({"properties":{"reported":{"bad name":1}}})",
        R"({"properties":{"reported":null}})", R"({"tags":null})"}) {
    const auto patch = Patch(good, PatchOrigin::kJob);
    EXPECT_TRUE(patch.ok()) << good << ": " << patch.status();
    EXPECT_TRUE(patch->reported.is_undefined());
  }
  ExpectError(Patch(R"({"desired":{"a":1}})", PatchOrigin::kJob),
              ErrorCode::kArgumentInvalid,
              "desired: an updateTwin has no such");
  ExpectError(Patch(R"({"$version":1})", PatchOrigin::kJob),
              ErrorCode::kArgumentInvalid, "$version");
  ExpectError(Patch(R"({"properties":{"desird":{}}})", PatchOrigin::kJob),
              ErrorCode::kArgumentInvalid, "properties.desird");
  ExpectError(Patch(R"({"deviceId":7})", PatchOrigin::kJob),
              ErrorCode::kArgumentInvalid, "deviceId: found the number 7");
  ExpectError(Patch(R"({"etag":7})", PatchOrigin::kJob),
              ErrorCode::kArgumentInvalid, "etag");
}

TEST(ParseJobPatchTest, Etag) {
  for (const char* bad : {R"("abc")", R"("\"abc\"")", R"("")", R"("W/\"*\"")",
                          R"("AAAAAAAAAAE=")", R"("**")"}) {
    ExpectError(Patch(absl::StrCat(R"({"etag":)", bad, "}"), PatchOrigin::kJob),
                ErrorCode::kPreconditionFailed, "etag: found");
  }
  // Contract 1.10: what is wrong with the patch comes first.
  ExpectError(Patch(R"({"etag":"abc","tags":{"a b":1}})", PatchOrigin::kJob),
              ErrorCode::kArgumentInvalid, "tags.a b");
  // Elsewhere If-Match is the guard, and the body's etag says nothing.
  EXPECT_TRUE(Patch(R"({"etag":"abc"})").ok());
}

TEST(ParseJobPatchTest, NameCharacters) {
  for (const char* good :
       {"sendFrequency", "fw-version", "a_b", "it's", "!#%&'*+-^_`|~", "4g"}) {
    for (const char* around :
         {R"({"tags":{@:1}})", R"({"properties":{"desired":{"a":{@:1}}}})"}) {
      std::string text = around;
      text.replace(text.find('@'), 1, JsonString(good));
      EXPECT_TRUE(Patch(text, PatchOrigin::kJob).ok()) << text;
    }
  }
  for (const char* bad :
       {"bad name", "a(b)", "$version", "$metadata", "key:1", "größe", "x.y",
        "a,b",      "a<b",  "a@b",      "a;b",       "a\\b",  "a\"b",  "a/b",
        "a[0]",     "a?",   "{a}",      "a=b",       "a\tb",  "部屋"}) {
    for (const char* around :
         {R"({"tags":{@:1}})", R"({"properties":{"desired":{@:1}}})",
          R"({"tags":{"a":[{@:null}]}})"}) {
      std::string text = around;
      text.replace(text.find('@'), 1, JsonString(bad));
      const auto patch = Patch(text, PatchOrigin::kJob);
      EXPECT_FALSE(patch.ok()) << text;
      EXPECT_EQ(ErrorCodeOf(patch.status()), ErrorCode::kArgumentInvalid);
    }
  }
  // Values are not restricted.
  EXPECT_TRUE(
      Patch(R"({"tags":{"class":"Class1, Class2, größe"}})", PatchOrigin::kJob)
          .ok());
}

// ---------------------------------------------------------------- device ids

TEST(ValidateDeviceIdTest, Alphabet) {
  EXPECT_TRUE(ValidateDeviceId("a").ok());
  EXPECT_TRUE(ValidateDeviceId("azAZ09-:.+%_#*?!(),=@;$'").ok());
  EXPECT_TRUE(ValidateDeviceId(std::string(kDeviceIdLengthMax, 'x')).ok());
  const absl::Status longer =
      ValidateDeviceId(std::string(kDeviceIdLengthMax + 1, 'x'));
  EXPECT_EQ(ErrorCodeOf(longer), ErrorCode::kArgumentInvalid);
  EXPECT_TRUE(absl::StrContains(longer.message(), "129")) << longer;
  EXPECT_FALSE(ValidateDeviceId("").ok());
  for (const char c : std::string(" \t\"/\\<>[]{}|^`~&\x7f\x01")) {
    EXPECT_FALSE(ValidateDeviceId(std::string("a") + c).ok()) << c;
  }
  const absl::Status umlaut = ValidateDeviceId("gerät");
  EXPECT_TRUE(absl::StrContains(umlaut.message(), "deviceId: \"ger")) << umlaut;
}

}  // namespace
}  // namespace muster
