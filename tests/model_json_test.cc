// Json: what texts it takes, what it keeps, and how it writes it down again.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/model/error.h"
#include "engine/model/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::HasSubstr;

// The text of what was read from `text`, or the error.
std::string Read(absl::string_view text) {
  const absl::StatusOr<Json> json = ParseJson(text);
  return json.ok() ? JsonText(json->view()) : json.status().ToString();
}

std::string ErrorOf(absl::string_view text) {
  const absl::StatusOr<Json> json = ParseJson(text);
  EXPECT_EQ(ErrorCodeOf(json.status()), ErrorCode::kIotHubFormatError) << text;
  return std::string(json.status().message());
}

std::string Nested(int depth, absl::string_view open, absl::string_view inner,
                   absl::string_view close) {
  std::string text;
  for (int i = 0; i < depth; ++i) absl::StrAppend(&text, open);
  absl::StrAppend(&text, inner);
  for (int i = 0; i < depth; ++i) absl::StrAppend(&text, close);
  return text;
}

TEST(JsonTest, CompactTextsReadBackAsThemselves) {
  for (const char* text :
       {"null", "true", "false", "0", "-1", "9223372036854775807",
        "-9223372036854775808", "1.5", "-0.25", "1e+300", "\"\"", "\"x\"", "[]",
        "{}", "[1,[2,[]],{}]", R"({"a":{"b":[1,null,"x"]},"c":false})",
        R"("\"\\\n\r\t\u0000\u001f/")", "\"\xC3\xA9\xE2\x82\xAC\""}) {
    EXPECT_EQ(Read(text), text);
  }
}

TEST(JsonTest, WhiteSpaceDoesNotMatter) {
  EXPECT_EQ(Read(" \t\r\n{ \"a\" :\n[ 1 , 2 ] } "), R"({"a":[1,2]})");
}

TEST(JsonTest, MembersStandInOrderOfCodePoints) {
  EXPECT_EQ(Read(R"({"b":1,"a":2,"B":3,"":4,"aa":5,"10":6,"9":7})"),
            R"({"":4,"10":6,"9":7,"B":3,"a":2,"aa":5,"b":1})");
  // U+FFFD is below U+10000: so they are in UTF-8, and not in UTF-16.
  EXPECT_EQ(Read("{\"\\ud800\\udc00\":1,\"\xEF\xBF\xBD\":2}"),
            "{\"\xEF\xBF\xBD\":2,\"\xF0\x90\x80\x80\":1}");
  EXPECT_EQ(ParseJson(R"({"x":{"b":1,"a":[2]}})")->bytes(),
            ParseJson(R"( {"x": {"a":[2], "b":1}} )")->bytes());
}

TEST(JsonTest, DuplicateMembersAreRefusedByName) {
  EXPECT_THAT(ErrorOf(R"({"a":1,"b":2,"a":1})"), HasSubstr("\"a\""));
  EXPECT_THAT(ErrorOf(R"([{"x":[{"deep":1,"deep":2}]}])"),
              HasSubstr("\"deep\""));
  EXPECT_THAT(ErrorOf(R"({"a":1,"\u0061":2})"), HasSubstr("\"a\""));
  EXPECT_THAT(ErrorOf(R"({"":1,"":2})"), HasSubstr("\"\""));
  EXPECT_EQ(Read(R"({"a":{"a":1},"b":[{"a":1},{"a":1}]})"),
            R"({"a":{"a":1},"b":[{"a":1},{"a":1}]})");
}

// In small and large objects, with keys that differ early, late or in their
// length only, given in any order.
TEST(JsonTest, AnyNumberOfMembersIsPutInOrder) {
  std::mt19937_64 random(11);
  const std::string nul("\0", 1);
  const std::string stems[] = {"",
                               "a",
                               std::string("a") + nul,
                               "temperature.of.",
                               "temperatu",
                               "temperat",
                               nul,
                               "\xC3\xA9",
                               "\xF0\x9F\x98\x80 faces",
                               std::string(300, 'k')};
  for (size_t count : {1, 2, 7, 23, 24, 25, 60, 400}) {
    std::set<std::string> keys;
    while (keys.size() < count) {
      std::string key = stems[random() % std::size(stems)];
      if (random() % 2 == 0) absl::StrAppend(&key, random() % 1000);
      keys.insert(key);
    }
    std::vector<std::string> shuffled(keys.begin(), keys.end());
    std::shuffle(shuffled.begin(), shuffled.end(), random);
    const auto text_of = [](const auto& names) {
      std::string text;
      JsonWriter writer(&text);
      writer.BeginObject();
      for (const std::string& name : names) {
        writer.Key(name).String(name);
      }
      writer.EndObject();
      return text;
    };
    EXPECT_EQ(Read(text_of(shuffled)), text_of(keys)) << count;

    // Once more, somewhere.
    const std::string twice = shuffled[random() % count];
    shuffled.insert(shuffled.begin() + static_cast<ptrdiff_t>(random() % count),
                    twice);
    EXPECT_THAT(ErrorOf(text_of(shuffled)),
                HasSubstr(absl::StrCat("\"", twice, "\" occurs twice")));
  }
}

TEST(JsonTest, StringsAndNamesOfEverySizeAreKept) {
  std::string bytes;
  for (int i = 0; i < 70'000; ++i) {
    bytes.push_back(static_cast<char>('0' + i % 61));
  }
  JsonParser parser;
  std::vector<size_t> sizes = {127, 128, 129, 16'383, 16'384, 70'000};
  for (size_t size = 0; size < 100; ++size) sizes.push_back(size);
  for (const size_t size : sizes) {
    std::string text;
    JsonWriter writer(&text);
    writer.BeginObject();
    writer.Key(bytes.substr(0, size)).String(bytes.substr(0, size));
    writer.EndObject();
    EXPECT_EQ(JsonText(parser.Parse(text)->view()), text) << size;
  }
}

// What takes the most room for its text.
TEST(JsonTest, ShortTextsMayBecomeLonger) {
  for (const char* one : {"1e1", "0", "{}", "[]", "\"\"", "-1"}) {
    for (const int count : {1, 2, 100, 5000}) {
      std::string text = "[";
      for (int i = 0; i < count; ++i) {
        absl::StrAppend(&text, i > 0 ? "," : "", one);
      }
      text += "]";
      const absl::StatusOr<Json> json = ParseJson(text);
      ASSERT_TRUE(json.ok());
      EXPECT_EQ(*ParseJson(JsonText(json->view())), *json);
      EXPECT_FALSE(json->view().At(count - 1).is_undefined());
      EXPECT_TRUE(json->view().At(count).is_undefined());
    }
  }
}

TEST(JsonTest, DepthHasALimit) {
  EXPECT_TRUE(ParseJson(Nested(kJsonDepthMax, "[", "1", "]")).ok());
  EXPECT_TRUE(ParseJson(Nested(kJsonDepthMax, "{\"a\":", "1", "}")).ok());
  for (const int depth : {kJsonDepthMax + 1, 100'000}) {
    EXPECT_THAT(ErrorOf(Nested(depth, "[", "1", "]")), HasSubstr("256"));
    EXPECT_THAT(ErrorOf(Nested(depth, "{\"a\":", "1", "}")), HasSubstr("256"));
  }
  ErrorOf(Nested(100'000, "[", "", ""));  // Not closed, either.
}

TEST(JsonTest, IntegersAreExact) {
  const Json max = *ParseJson("9223372036854775807");
  EXPECT_TRUE(max.view().is_integer());
  EXPECT_EQ(max.view().int_value(), std::numeric_limits<int64_t>::max());
  const Json min = *ParseJson("-9223372036854775808");
  EXPECT_TRUE(min.view().is_integer());
  EXPECT_EQ(min.view().int_value(), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(Read("9007199254740993"), "9007199254740993");
  EXPECT_EQ(ParseJson("9007199254740993")->view().number_value(),
            9007199254740992.0);
}

TEST(JsonTest, NumbersWithFractionOrExponentAreNoIntegers) {
  for (const char* text : {"30.0", "3e1", "1E0", "-0.0", "1.5"}) {
    const Json json = *ParseJson(text);
    EXPECT_TRUE(json.view().is_number()) << text;
    EXPECT_FALSE(json.view().is_integer()) << text;
  }
  // And they stay so when written and read again.
  EXPECT_EQ(Read("30.0"), "30.0");
  EXPECT_EQ(Read("3e1"), "30.0");
  EXPECT_EQ(Read("-0.0"), "-0.0");
  EXPECT_EQ(Read("1e21"), "1e+21");
  EXPECT_EQ(Read("0.1"), "0.1");
  EXPECT_EQ(Read("1e-7"), "1e-07");
}

TEST(JsonTest, BigNumbersAreDoublesOrErrors) {
  // Up to 2^64 - 1 the nearest double.
  EXPECT_EQ(ParseJson("9223372036854775808")->view().number_value(), 0x1p63);
  EXPECT_FALSE(ParseJson("9223372036854775808")->view().is_integer());
  EXPECT_EQ(ParseJson("18446744073709551615")->view().number_value(), 0x1p64);
  EXPECT_EQ(ParseJson("1e308")->view().number_value(), 1e308);
  EXPECT_EQ(ParseJson("1.7976931348623157e308")->view().number_value(),
            std::numeric_limits<double>::max());
  ErrorOf("1e309");
  ErrorOf("-1e309");
  ErrorOf(Nested(400, "9", "", ""));
  EXPECT_EQ(ParseJson("4.9e-324")->view().number_value(),
            std::numeric_limits<double>::denorm_min());
}

TEST(JsonTest, NumbersHaveJsonsForm) {
  for (const char* text : {"+1", "01", "-01", ".5", "1.", "1.e3", "1e", "1e+",
                           "0x10", "NaN", "Infinity", "-", "--1", "1_000"}) {
    ErrorOf(text);
  }
}

TEST(JsonTest, StringsDecodeEscapes) {
  EXPECT_EQ(ParseJson(R"("\"\\\/\b\f\n\r\t\u0041\u00e9\u20ac")")
                ->view()
                .string_value(),
            "\"\\/\b\f\n\r\tA\xC3\xA9\xE2\x82\xAC");
  EXPECT_EQ(ParseJson(R"("\ud83d\ude00")")->view().string_value(),
            "\xF0\x9F\x98\x80");
}

TEST(JsonTest, NulIsACharacter) {
  const Json json = *ParseJson(R"({"a\u0000b":"\u0000"})");
  EXPECT_EQ(json.view().Find(absl::string_view("a\0b", 3)).string_value(),
            absl::string_view("\0", 1));
  EXPECT_TRUE(json.view().Find("a").is_undefined());
  EXPECT_EQ(JsonText(json.view()), R"({"a\u0000b":"\u0000"})");
  ErrorOf(absl::string_view("\"a\0b\"", 5));  // Bare.
  ErrorOf(absl::string_view("1\0", 2));
}

TEST(JsonTest, LoneSurrogatesAreRefused) {
  for (const char* text : {R"("\ud800")", R"("\udc00")", R"("\ud800x")",
                           R"("\udc00\ud800")", R"({"\ud800":1})"}) {
    ErrorOf(text);
  }
}

TEST(JsonTest, TextsAreUtf8) {
  for (absl::string_view text :
       {absl::string_view("\"\xFF\""), absl::string_view("\"\xC3\""),
        absl::string_view("\"\xC0\x80\""),           // Overlong.
        absl::string_view("\"\xED\xA0\x80\""),       // A surrogate.
        absl::string_view("\"\xF4\x90\x80\x80\"")})  // Beyond U+10FFFF.
  {
    ErrorOf(text);
  }
}

TEST(JsonTest, BrokenTextsAreRefused) {
  for (const char* text :
       {"",           " ",           "{",     "}",        "[",       "]",
        "[1",         "[1,",         "[1,]",  "[,1]",     "{\"a\"}", "{\"a\":}",
        "{\"a\":1,}", "{a:1}",       "{1:2}", "'a'",      "\"a",     "\"\n\"",
        "\"\\x\"",    "\"\\u12g4\"", "nul",   "True",     "1 2",     "{}{}",
        "[1]]",       "// x\n1",     "/**/1", "undefined"}) {
    ErrorOf(text);
  }
}

// Whatever a text looks like to begin with, it is an error and no exception.
TEST(JsonTest, BrokenAtomsAreRefused) {
  for (const absl::string_view atom : {"nul", "nulll", "nul'", "tru", "truee",
                                       "fals", "falsee", "nan", "-", "+1"}) {
    for (const std::string& text :
         {std::string(atom), absl::StrCat("[", atom, "]"),
          absl::StrCat(R"({"a":{"b":)", atom, "}}")}) {
      EXPECT_EQ(ErrorCodeOf(ParseJson(text).status()),
                ErrorCode::kIotHubFormatError)
          << text;
    }
  }
}

TEST(JsonTest, ErrorsSayWhere) {
  EXPECT_THAT(ErrorOf("{\"a\":1,\n \"b\":tru}"), HasSubstr(" at 2:"));
  EXPECT_THAT(ErrorOf(""), HasSubstr("empty"));
}

TEST(JsonTest, AParserIsReusable) {
  JsonParser parser;
  for (int i = 0; i < 3; ++i) {
    const std::string large = Nested(1000, "[1],", "2", "");
    const absl::StatusOr<Json> json =
        parser.Parse(absl::StrCat("[", large, "]"));
    ASSERT_TRUE(json.ok());
    EXPECT_TRUE(json->view().At(1000).is_integer());
    EXPECT_FALSE(parser.Parse("{").ok());
    EXPECT_EQ(JsonText(parser.Parse("[1]")->view()), "[1]");
  }
}

TEST(JsonTest, AViewIsWhatParsingGives) {
  JsonParser parser;
  for (const char* text : {"null", "[1,2.5]", R"({"b":{"d":1,"c":"x"},"a":0})",
                           "{\"a\":[]}", "[1,", R"({"a":1,"a":2})", "7"}) {
    const absl::StatusOr<Json> json = ParseJson(text);
    const absl::StatusOr<JsonView> view = parser.ParseView(text);
    ASSERT_EQ(view.ok(), json.ok());
    if (view.ok()) {
      EXPECT_EQ(view->bytes(), json->bytes());
    } else {
      EXPECT_EQ(view.status(), json.status());
    }
  }
}

TEST(JsonViewTest, TellsKindsApart) {
  const std::pair<const char*, JsonKind> kCases[] = {
      {"null", JsonKind::kNull},   {"true", JsonKind::kBool},
      {"1", JsonKind::kNumber},    {"1.5", JsonKind::kNumber},
      {"\"\"", JsonKind::kString}, {"[]", JsonKind::kArray},
      {"{}", JsonKind::kObject}};
  for (const auto& [text, kind] : kCases) {
    EXPECT_EQ(ParseJson(text)->view().kind(), kind) << text;
  }
  EXPECT_EQ(JsonView().kind(), JsonKind::kUndefined);
  EXPECT_EQ(Json().view().kind(), JsonKind::kUndefined);
  EXPECT_EQ(JsonKindName(JsonKind::kUndefined), "undefined");
  EXPECT_EQ(JsonKindName(JsonKind::kNull), "null");
  EXPECT_EQ(JsonKindName(JsonKind::kBool), "boolean");
  EXPECT_EQ(JsonKindName(JsonKind::kNumber), "number");
  EXPECT_EQ(JsonKindName(JsonKind::kString), "string");
  EXPECT_EQ(JsonKindName(JsonKind::kArray), "array");
  EXPECT_EQ(JsonKindName(JsonKind::kObject), "object");
}

TEST(JsonViewTest, FindsMembersAndElements) {
  const Json json = *ParseJson(R"({"a":[10,{"b":"x"},null],"c":{}})");
  const JsonView view = json.view();
  EXPECT_EQ(view.Find("a").At(0).int_value(), 10);
  EXPECT_EQ(view.Find("a").At(1).Find("b").string_value(), "x");
  EXPECT_TRUE(view.Find("a").At(2).is_null());
  EXPECT_TRUE(view.Find("a").At(3).is_undefined());
  EXPECT_TRUE(view.Find("a").At(-1).is_undefined());
  EXPECT_TRUE(view.Find("b").is_undefined());
  EXPECT_TRUE(view.Find("a").Find("b").is_undefined());  // No object.
  EXPECT_TRUE(view.At(0).is_undefined());                // No array.
  EXPECT_TRUE(view.Find("x").Find("y").At(3).is_undefined());
  EXPECT_EQ(Json(view.Find("c")), Json::EmptyObject());
}

TEST(JsonViewTest, RangesOfOtherKindsAreEmpty) {
  const Json json = *ParseJson(R"({"a":[1]})");
  for (JsonView view : {JsonView(), json.view().Find("a")}) {
    for (const JsonView::Member& member : view.members()) {
      FAIL() << member.key;
    }
  }
  for (JsonView element : json.view().elements()) {
    FAIL() << JsonText(element);
  }
}

TEST(JsonViewTest, BytesAreWhatEqualityIs) {
  const Json json = *ParseJson(R"({"a":[1,2],"b":[1,2],"c":[1,2.0]})");
  EXPECT_EQ(json.view().Find("a").bytes(), json.view().Find("b").bytes());
  EXPECT_NE(json.view().Find("a").bytes(), json.view().Find("c").bytes());
  EXPECT_EQ(Json(json.view()), json);
  EXPECT_EQ(JsonText(Json(json.view().Find("c")).view()), "[1,2.0]");
  EXPECT_TRUE(JsonView().bytes().empty());
}

TEST(JsonBuilderTest, WritesWhatTheParserReads) {
  std::string bytes;
  JsonBuilder b(&bytes);
  b.BeginObject();
  b.Key("a");
  b.BeginArray();
  b.Null();
  b.Bool(true);
  b.Int(-3);
  b.Double(1.5);
  b.String("x");
  b.BeginObject();
  b.EndObject();
  b.EndArray();
  b.Key("b");
  b.Value(ParseJson(R"({"c":[]})")->view());
  b.EndObject();
  EXPECT_EQ(Json::FromBytes(bytes),
            *ParseJson(R"({"a":[null,true,-3,1.5,"x",{}],"b":{"c":[]}})"));
}

TEST(JsonWriterTest, KeepsTheOrderOfTheCalls) {
  std::string text;
  JsonWriter w(&text);
  w.BeginObject();
  w.Key("z").Int(1);
  w.Key("a")
      .BeginArray()
      .String("x\"y")
      .Null()
      .Bool(false)
      .Double(2)
      .EndArray();
  w.Key("m").BeginObject().EndObject();
  w.Key("r").Raw("[ 1 ]");
  w.Key("v").Value(ParseJson("{\"k\":0}")->view());
  w.EndObject();
  EXPECT_EQ(text, R"({"z":1,"a":["x\"y",null,false,2.0],"m":{},"r":[ 1 ],)"
                  R"("v":{"k":0}})");
}

TEST(RawJsonMemberTest, KeepsTheTextAsItStands) {
  const absl::string_view text =
      "{ \"x\" : {\"payload\":  { \"z\" : 1.50, \"a\" : [ 1e3 ] }  , "
      "\"n\": 12345678901234567890 , \"s\":\"\\u0041\\/\" ,\"t\": true\n}, "
      "\"payload\": 0 }";
  ASSERT_TRUE(ParseJson(text).ok());
  EXPECT_EQ(RawJsonMember(text, {"x", "payload"}),
            "{ \"z\" : 1.50, \"a\" : [ 1e3 ] }");
  EXPECT_EQ(RawJsonMember(text, {"x", "payload", "a"}), "[ 1e3 ]");
  EXPECT_EQ(RawJsonMember(text, {"x", "n"}), "12345678901234567890");
  EXPECT_EQ(RawJsonMember(text, {"x", "s"}), "\"\\u0041\\/\"");
  EXPECT_EQ(RawJsonMember(text, {"x", "t"}), "true");
  EXPECT_EQ(RawJsonMember(text, {"payload"}), "0");
}

TEST(RawJsonMemberTest, IsEmptyWithoutTheMember) {
  const absl::string_view text = R"({"a":{"b":1},"c":[{"b":1}],"d":"b"})";
  EXPECT_EQ(RawJsonMember(text, {"b"}), "");
  EXPECT_EQ(RawJsonMember(text, {"a", "x"}), "");
  EXPECT_EQ(RawJsonMember(text, {"c", "b"}), "");
  EXPECT_EQ(RawJsonMember(text, {"d", "b"}), "");
}

// A random value, written as text in a random style.
class RandomText {
 public:
  explicit RandomText(uint64_t seed) : random_(seed) {}

  std::string Value(int depth) {
    switch (Below(depth > 0 ? 8 : 6)) {
      case 0:
        return Pad("null");
      case 1:
        return Pad(Below(2) == 0 ? "true" : "false");
      case 2:
        return Pad(absl::StrCat(static_cast<int64_t>(random_())));
      case 3:
        return Pad(absl::StrCat(Below(2000) - 1000, ".", Below(1000)));
      case 4:
        return Pad(absl::StrCat(Below(9) + 1, "e", Below(600) - 300));
      case 5:
        return Pad(Text());
      case 6: {
        std::string out = "[";
        for (int i = Below(4); i > 0; --i) {
          absl::StrAppend(&out, Value(depth - 1), i > 1 ? "," : "");
        }
        return Pad(absl::StrCat(out, "]"));
      }
      default: {
        std::string out = "{";
        for (int i = Below(5); i > 0; --i) {
          // The number keeps names apart.
          absl::StrAppend(&out,
                          Pad(absl::StrCat("\"", Below(100), "-", i, "\"")),
                          ":", Value(depth - 1), i > 1 ? "," : "");
        }
        return Pad(absl::StrCat(out, "}"));
      }
    }
  }

 private:
  int Below(int limit) {
    return static_cast<int>(random_() % static_cast<uint64_t>(limit));
  }
  std::string Pad(std::string text) {
    constexpr const char* kSpaces[] = {"", "", "", " ", "\n", "\t ", "\r\n"};
    return absl::StrCat(kSpaces[Below(7)], text, kSpaces[Below(7)]);
  }
  std::string Text() {
    constexpr const char* kPieces[] = {"a",
                                       "Z",
                                       " ",
                                       "\\\"",
                                       "\\\\",
                                       "\\u0000",
                                       "\\n",
                                       "\\ud83d\\ude00",
                                       "\xC3\xA9",
                                       "\xE2\x82\xAC",
                                       "\xF0\x9F\x98\x80",
                                       "/",
                                       "\\/",
                                       "{",
                                       "]"};
    std::string out = "\"";
    for (int i = Below(6); i > 0; --i)
      absl::StrAppend(&out, kPieces[Below(15)]);
    return absl::StrCat(out, "\"");
  }

  std::mt19937_64 random_;
};

// Text to value to text to value: the values are the same, and the second text
// is the first value's one and only.
TEST(JsonTest, RandomValuesRoundTrip) {
  for (uint64_t seed = 0; seed < 3'000; ++seed) {
    const std::string text = RandomText(seed).Value(5);
    const absl::StatusOr<Json> first = ParseJson(text);
    ASSERT_TRUE(first.ok()) << "seed " << seed << "\n" << text;
    const std::string canonical = JsonText(first->view());
    const absl::StatusOr<Json> second = ParseJson(canonical);
    ASSERT_TRUE(second.ok()) << "seed " << seed << "\n" << canonical;
    ASSERT_EQ(*first, *second) << "seed " << seed << "\n" << text;
    ASSERT_EQ(JsonText(second->view()), canonical) << "seed " << seed;
    ASSERT_EQ(Json(first->view()), *first);
  }
}

TEST(JsonTest, DoublesRoundTripBitByBit) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 20'000; ++i) {
    const uint64_t bits = random();
    double value;
    static_assert(sizeof(value) == sizeof(bits));
    std::memcpy(&value, &bits, sizeof(value));
    if (!std::isfinite(value)) continue;
    std::string bytes;
    JsonBuilder(&bytes).Double(value);
    const Json json = Json::FromBytes(bytes);
    ASSERT_EQ(*ParseJson(JsonText(json.view())), json) << value;
  }
}

}  // namespace
}  // namespace muster
