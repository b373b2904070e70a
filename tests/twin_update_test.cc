// Contract 6.3 to 6.5 on the index: each row of the tables of merging and
// replacing, what counts towards a section's size, and how deep it may be.
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/model/error.h"
#include "engine/model/json.h"
#include "engine/model/limits.h"
#include "engine/twin/twin_index.h"
#include "gtest/gtest.h"
#include "tests/twin_testing.h"

namespace muster {
namespace {

// The three sections, and how each is updated.
struct Section {
  const char* name;
  // What stands before and behind the section in an update.
  const char* before;
  const char* behind;
  size_t size_max;
  std::function<absl::StatusOr<TwinWrite>(TwinIndex&, const std::string&)>
      patch;

  std::string Whole(absl::string_view section) const {
    return absl::StrCat(before, section, behind);
  }
};

const Section& Tags() {
  static const Section* const kSection = new Section{
      "tags", R"({"tags":)", "}", kTwinTagsSizeMax,
      [](TwinIndex& index, const std::string& section) {
        return index.Patch("d", ServicePatch(Tags().Whole(section)), "", At(1));
      }};
  return *kSection;
}
const Section& Desired() {
  static const Section* const kSection = new Section{
      "properties.desired", R"({"properties":{"desired":)", "}}",
      kTwinPropertiesSizeMax, [](TwinIndex& index, const std::string& section) {
        return index.Patch("d", ServicePatch(Desired().Whole(section)), "",
                           At(1));
      }};
  return *kSection;
}
const Section& Reported() {
  static const Section* const kSection = new Section{
      "properties.reported", R"({"properties":{"reported":)", "}}",
      kTwinPropertiesSizeMax, [](TwinIndex& index, const std::string& section) {
        return index.PatchReported("d", DevicePatch(section), At(1));
      }};
  return *kSection;
}
std::vector<const Section*> AllSections() {
  return {&Tags(), &Desired(), &Reported()};
}

// The twin "d" with this section and nothing else, among neighbours that have
// the same paths and others, so that columns and nodes are there already.
std::unique_ptr<TwinIndex> IndexWith(const Section& section,
                                     absl::string_view content) {
  auto index = MakeIndex({.partition_count = 1});
  const auto put = [&](absl::string_view id, absl::string_view what) {
    std::string text = section.Whole(what);
    text.insert(1, absl::StrCat(R"("deviceId":")", id, R"(",)"));
    Put(*index, text);
  };
  put("before", R"({"k":{"x":{"q":1},"y":"s"},"a":[1],"0":true})");
  put("d", content);
  put("behind", R"({"k":5,"a":{"b":{"c":{"h":1}}},"zz":1})");
  return index;
}

// The section as it stands, without what the hub adds.
std::string Stored(const TwinIndex& index, const Section& section) {
  const Json document = Must(index.Get("d")).document;
  JsonView view = document.view();
  view = &section == &Tags()      ? view.Find("tags")
         : &section == &Desired() ? view.Find("properties").Find("desired")
                                  : view.Find("properties").Find("reported");
  std::string bytes;
  JsonBuilder builder(&bytes);
  builder.BeginObject();
  for (const JsonView::Member& member : view.members()) {
    if (member.key[0] == '$') continue;
    builder.Key(member.key);
    builder.Value(member.value);
  }
  builder.EndObject();
  return JsonText(Json::FromBytes(std::move(bytes)).view());
}

// ------------------------------------------------------------ contract 6.4

struct MergeRow {
  const char *section, *patch, *merged;
};

const MergeRow kMergeRows[] = {
    // The examples.
    {R"({"a":1})", R"({"a":2})", R"({"a":2})"},
    {R"({"a":{"b":1,"c":2}})", R"({"a":{"b":null}})", R"({"a":{"c":2}})"},
    {R"({"a":{"b":1}})", R"({"a":{"b":null}})", R"({"a":{}})"},
    {R"({"a":{"b":1}})", R"({"a":5})", R"({"a":5})"},
    {R"({"a":5})", R"({"a":{"b":1}})", R"({"a":{"b":1}})"},
    {R"({"a":[1,2,3]})", R"({"a":[9]})", R"({"a":[9]})"},
    {R"({"a":1})", R"({"A":2})", R"({"A":2,"a":1})"},
    {R"({})", R"({"a":{"b":null}})", R"({"a":{}})"},
    {R"({"a":1})", R"({"zz":null})", R"({"a":1})"},
    // The table, row by row: P[k] against S[k].
    {R"({"k":1})", R"({"k":null})", R"({})"},
    {R"({})", R"({"k":null})", R"({})"},
    {R"({"k":{"x":1}})", R"({"k":{"y":2}})", R"({"k":{"x":1,"y":2}})"},
    {R"({})", R"({"k":{"y":2}})", R"({"k":{"y":2}})"},
    {R"({"k":[1]})", R"({"k":{"y":2}})", R"({"k":{"y":2}})"},
    {R"({"k":"s"})", R"({"k":{"y":{"z":null},"w":null}})", R"({"k":{"y":{}}})"},
    {R"({})", R"({"k":[1]})", R"({"k":[1]})"},
    {R"({"k":{"x":1}})", R"({"k":[1]})", R"({"k":[1]})"},
    {R"({"k":1})", R"({"k":"s"})", R"({"k":"s"})"},
    {R"({"k":{"x":1}})", R"({"k":false})", R"({"k":false})"},
    {R"({"k":{"x":1}})", R"({"k":{}})", R"({"k":{"x":1}})"},
    {R"({})", R"({"k":{}})", R"({"k":{}})"},
    {R"({"k":1})", R"({})", R"({"k":1})"},
    // What went with its object does not come back with it.
    {R"({"k":{"x":1}})", R"({"k":null})", R"({})"},
    {R"({"j":0,"k":{"x":{"q":1}}})", R"({"k":{"x":{}}})",
     R"({"j":0,"k":{"x":{"q":1}}})"},
    // nulls in arrays are values, also in objects there.
    {R"({})", R"({"k":[null,{"x":null}]})", R"({"k":[null,{"x":null}]})"},
    {R"({"k":1})", R"({"k":[null,{"x":null}]})", R"({"k":[null,{"x":null}]})"},
    // Members before and behind `$version`.
    {R"({"!":1,"a":1})", R"({"#":2})", R"({"!":1,"#":2,"a":1})"},
    {R"({"a":{"b":{"c":{"d":1,"e":2}}},"f":3})",
     R"({"a":{"b":{"c":{"d":null,"g":4}}},"0":0})",
     R"({"0":0,"a":{"b":{"c":{"e":2,"g":4}}},"f":3})"},
};

TEST(MergeTest, Table) {
  for (const Section* section : AllSections()) {
    for (const MergeRow& row : kMergeRows) {
      SCOPED_TRACE(
          absl::StrCat(section->name, ": ", row.section, " + ", row.patch));
      auto index = IndexWith(*section, row.section);
      const std::string before = Shown(*index, "before");
      const std::string behind = Shown(*index, "behind");
      // Once more changes nothing.
      for (int time = 0; time < 2; ++time) {
        ASSERT_TRUE(section->patch(*index, row.patch).ok());
        EXPECT_EQ(Stored(*index, *section), row.merged);
      }
      EXPECT_EQ(Shown(*index, "before"), before);
      EXPECT_EQ(Shown(*index, "behind"), behind);
    }
  }
}

TEST(MergeTest, RemovedMembersStayAway) {
  for (const Section* section : AllSections()) {
    auto index = IndexWith(*section, R"({"k":{"x":{"q":1},"y":2},"z":0})");
    for (const char* patch : {R"({"k":null})", R"({"k":7})", R"({"k":[]})"}) {
      ASSERT_TRUE(section->patch(*index, patch).ok());
      ASSERT_TRUE(section->patch(*index, R"({"k":{"x":{}}})").ok());
      EXPECT_EQ(Stored(*index, *section), R"({"k":{"x":{}},"z":0})");
      ASSERT_TRUE(section->patch(*index, R"({"k":{"x":{"q":1}}})").ok());
    }
  }
}

TEST(MergeTest, NullClearsTheSection) {
  for (const Section* section : {&Tags(), &Desired()}) {
    auto index = IndexWith(*section, R"({"a":1,"b":{"c":2}})");
    for (int time = 0; time < 2; ++time) {
      ASSERT_TRUE(section->patch(*index, "null").ok());
      EXPECT_EQ(Stored(*index, *section), "{}");
    }
  }
}

TEST(MergeTest, SystemMembersOfAPatchStayOut) {
  auto index = IndexWith(Desired(), R"({"!":1,"a":1})");
  ASSERT_TRUE(
      Desired().patch(*index, R"({"$metadata":{},"$version":1,"#":2})").ok());
  EXPECT_EQ(Stored(*index, Desired()), R"({"!":1,"#":2,"a":1})");
  EXPECT_EQ(Shown(*index, "d", {"properties", "desired", "$version"}), "2");
}

// ------------------------------------------------------------ contract 6.5

TEST(ReplaceTest, Table) {
  const struct {
    const char *replacement, *stored;
  } kRows[] = {
      {R"({"a":null,"b":{"c":null,"d":[null]},"e":1})",
       R"({"b":{"d":[null]},"e":1})"},
      {R"({"k":{"y":{"z":null},"w":null}})", R"({"k":{"y":{}}})"},
      {R"({"k":{}})", R"({"k":{}})"},  // Not merged: x is gone.
      {R"({"k":null})", "{}"},
      {"{}", "{}"},
      {"null", "{}"},
  };
  for (const Section* section : {&Tags(), &Desired()}) {
    for (const auto& row : kRows) {
      for (const char* before : {"{}", R"({"k":{"x":1},"b":[1],"z":5})"}) {
        SCOPED_TRACE(absl::StrCat(section->name, ": ", before, " becomes ",
                                  row.replacement));
        auto index = IndexWith(*section, before);
        const TwinPatch patch = ServicePatch(section->Whole(row.replacement));
        for (int time = 0; time < 2; ++time) {
          ASSERT_TRUE(index->Replace("d", patch, "", At(1)).ok());
          EXPECT_EQ(Stored(*index, *section), row.stored);
        }
      }
    }
  }
}

TEST(ReplaceTest, AbsentSectionsStay) {
  auto index = IndexWith(Tags(), R"({"t":1})");
  ASSERT_TRUE(Desired().patch(*index, R"({"a":1})").ok());
  ASSERT_TRUE(Reported().patch(*index, R"({"r":1})").ok());
  ASSERT_TRUE(index
                  ->Replace("d",
                            ServicePatch(R"({"properties":{"desired":{"b":2},
                                             "reported":{"s":2}}})"),
                            "", At(1))
                  .ok());
  EXPECT_EQ(Stored(*index, Tags()), R"({"t":1})");
  EXPECT_EQ(Stored(*index, Desired()), R"({"b":2})");
  EXPECT_EQ(Stored(*index, Reported()), R"({"r":1})");
  ASSERT_TRUE(
      index->Replace("d", ServicePatch(R"({"tags":{"u":3}})"), "", At(1)).ok());
  EXPECT_EQ(Stored(*index, Tags()), R"({"u":3})");
  EXPECT_EQ(Stored(*index, Desired()), R"({"b":2})");
}

// ------------------------------------------------------------ contract 6.3

// The members of an object, without braces, of exactly `size` bytes by the
// contract's count.  REQUIRES: at least 100.
std::string Filler(size_t size) {
  constexpr size_t kNameSize = 3;
  const size_t count = size / 3000 + 1;
  std::string text;
  for (size_t i = 0; i < count; ++i) {
    const size_t share = size / count + (i == 0 ? size % count : 0);
    absl::StrAppend(&text, i == 0 ? "" : ",", "\"f", i / 10, i % 10, "\":\"",
                    std::string(share - kNameSize, 'x'), "\"");
  }
  return text;
}

struct SizeRow {
  const char* members;
  size_t size;
};

const SizeRow kSizeRows[] = {
    // The check example.
    {R"("a":"xyz","n":5,"b":true,"o":{"k":"é"})", 22},
    {R"("ab":"")", 2},
    {R"("ab":"x")", 3},
    {R"("ab":"é")", 4},
    {R"("ab":"x\u0000\u001f\u007fy")", 4},  // Controls do not count,
    {R"("ab":"\u0080\u009f\u00a0")", 4},    // neither do the wide ones.
    {R"("é":1)", 10},
    {R"("a":1)", 9},
    {R"("a":1.5)", 9},
    {R"("a":false)", 5},
    {R"("a":{})", 1},
    {R"("a":[])", 1},
    {R"("a":[1,true,"xy",null])", 15},
    {R"("a":[{"b":1,"c":null},[2]])", 19},
    {R"("a":{"b":{"c":[1]},"d":{"e":"x"}})", 14},
    {R"("a":{"b":null,"c":1})", 10},
    {R"("a":{"b":null})", 1},
};

std::string Object(absl::string_view members) {
  return absl::StrCat("{", members, "}");
}

// The same members, each of the top level removed.
std::string Removal(absl::string_view members) {
  const Json object = Parsed(Object(members));
  std::string text;
  for (const JsonView::Member& member : object.view().members()) {
    absl::StrAppend(&text, text.empty() ? "" : ",", "\"", member.key,
                    "\":null");
  }
  return text;
}

void ExpectTooLarge(const absl::StatusOr<TwinWrite>& write,
                    const Section& section, size_t size) {
  ASSERT_FALSE(write.ok());
  EXPECT_EQ(ErrorCodeOf(write.status()), ErrorCode::kMessageTooLarge);
  EXPECT_EQ(write.status().message(),
            absl::StrCat(section.name, ": ", size,
                         " bytes of names and values; at most ",
                         section.size_max, " are allowed"));
}

TEST(SizeTest, WhatAPatchAddsIsCounted) {
  for (const Section* section : AllSections()) {
    for (const SizeRow& row : kSizeRows) {
      SCOPED_TRACE(absl::StrCat(section->name, ": ", row.members));
      const size_t room = section->size_max - row.size;
      auto index = IndexWith(*section, Object(Filler(room)));
      EXPECT_TRUE(section->patch(*index, Object(row.members)).ok());
      // A byte less, and nothing at all changes.
      index = IndexWith(*section, Object(Filler(room + 1)));
      const std::string before = Shown(*index, "d");
      ExpectTooLarge(section->patch(*index, Object(row.members)), *section,
                     section->size_max + 1);
      EXPECT_EQ(Shown(*index, "d"), before);
    }
  }
}

TEST(SizeTest, WhatIsThereIsCounted) {
  for (const Section* section : AllSections()) {
    for (const SizeRow& row : kSizeRows) {
      SCOPED_TRACE(absl::StrCat(section->name, ": ", row.members));
      const size_t room = section->size_max - row.size;
      auto index = IndexWith(*section, Object(row.members));
      EXPECT_TRUE(section->patch(*index, Object(Filler(room))).ok());
      index = IndexWith(*section, Object(row.members));
      const std::string before = Shown(*index, "d");
      ExpectTooLarge(section->patch(*index, Object(Filler(room + 1))), *section,
                     section->size_max + 1);
      EXPECT_EQ(Shown(*index, "d"), before);
    }
  }
}

// Also where what goes and what comes are in one patch, in either order.
TEST(SizeTest, WhatIsRemovedOrReplacedGivesItsRoom) {
  for (const Section* section : AllSections()) {
    for (const SizeRow& row : kSizeRows) {
      for (const char* name : {"!new", "zznew"}) {
        SCOPED_TRACE(absl::StrCat(section->name, ": ", row.members, " ", name));
        const size_t room = section->size_max - row.size;
        auto index = IndexWith(
            *section, absl::StrCat("{", Filler(room), ",", row.members, "}"));
        const std::string removed = Removal(row.members);
        // Exactly the room that the rest leaves.
        const auto patch = [&](size_t size) {
          return absl::StrCat("{", removed, ",\"", name, "\":\"",
                              std::string(size, 'x'), "\",\"f00\":\"\"}");
        };
        const std::string filler = Filler(room);
        const Json object = Parsed(Object(filler));
        const size_t f00 = object.view().Find("f00").string_value().size();
        const size_t most = row.size + f00 - std::string(name).size();
        const std::string before = Shown(*index, "d");
        ExpectTooLarge(section->patch(*index, patch(most + 1)), *section,
                       section->size_max + 1);
        EXPECT_EQ(Shown(*index, "d"), before);
        EXPECT_TRUE(section->patch(*index, patch(most)).ok());
        // And it is full again.
        ExpectTooLarge(section->patch(*index, R"({"zzz":""})"), *section,
                       section->size_max + 3);
      }
    }
  }
}

TEST(SizeTest, AReplacementCountsAlone) {
  for (const Section* section : {&Tags(), &Desired()}) {
    auto index = IndexWith(*section, Object(Filler(section->size_max)));
    const std::string full = absl::StrCat(R"({"other":"","gone":null,)",
                                          Filler(section->size_max - 5), "}");
    EXPECT_TRUE(
        index->Replace("d", ServicePatch(section->Whole(full)), "", At(1))
            .ok());
    ExpectTooLarge(section->patch(*index, R"({"a":""})"), *section,
                   section->size_max + 1);
    // What is too large alone is refused before it comes to a twin.
    const auto patch = ParseTwinPatch(
        Parsed(section->Whole(Object(Filler(section->size_max + 1)))).view(),
        PatchOrigin::kService);
    EXPECT_EQ(ErrorCodeOf(patch.status()), ErrorCode::kMessageTooLarge);
  }
}

TEST(SizeTest, ClearingMakesRoom) {
  for (const Section* section : {&Tags(), &Desired()}) {
    auto index = IndexWith(*section, Object(Filler(section->size_max)));
    ASSERT_TRUE(section->patch(*index, "null").ok());
    EXPECT_TRUE(section->patch(*index, Object(Filler(section->size_max))).ok());
    ExpectTooLarge(section->patch(*index, R"({"a":""})"), *section,
                   section->size_max + 1);
  }
}

// One section that is too large keeps the other from changing.
TEST(SizeTest, AnUpdateIsRefusedAsAWhole) {
  auto index = IndexWith(Desired(), Object(Filler(kTwinPropertiesSizeMax)));
  const std::string before = Shown(*index, "d");
  ExpectTooLarge(
      index->Patch(
          "d",
          ServicePatch(R"({"tags":{"t":1},"properties":{"desired":{"a":""}}})"),
          "", At(1)),
      Desired(), kTwinPropertiesSizeMax + 1);
  EXPECT_EQ(Shown(*index, "d"), before);
}

// A member inside `depth` objects below the section: depth 1 is
// {"o":{"p":<leaf>}}.
std::string Nested(int depth, absl::string_view leaf) {
  std::string text;
  for (int i = 0; i < depth; ++i) text += R"({"o":)";
  absl::StrAppend(&text, R"({"p":)", leaf, "}");
  return text + std::string(static_cast<size_t>(depth), '}');
}

// (One level more is no patch: twin_patch_test.)
TEST(DepthTest, TheDeepestMembersAreStoredMergedAndRemoved) {
  for (const Section* section : AllSections()) {
    for (const auto& [depth, leaf] : std::vector<std::pair<int, const char*>>{
             {10, "1"}, {9, "{}"}, {9, "[1]"}, {8, R"([{"x":1}])"}}) {
      SCOPED_TRACE(absl::StrCat(section->name, ": ", leaf, " at ", depth));
      auto index = IndexWith(*section, "{}");
      const std::string deepest = Nested(depth, leaf);
      ASSERT_TRUE(section->patch(*index, deepest).ok());
      EXPECT_EQ(Stored(*index, *section), deepest);
      ASSERT_TRUE(section->patch(*index, Nested(depth, R"("new")")).ok());
      EXPECT_EQ(Stored(*index, *section), Nested(depth, R"("new")"));
      ASSERT_TRUE(section->patch(*index, Nested(depth, "null")).ok());
      std::string rest = deepest;
      rest.replace(rest.find(R"("p")"),
                   std::string(R"("p":)").size() + std::string(leaf).size(),
                   "");
      EXPECT_EQ(Stored(*index, *section), rest);
    }
  }
}

}  // namespace
}  // namespace muster
