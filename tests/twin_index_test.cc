// Contract 6.1 and 6.5 to 6.7: what writes do to twins, and what they leave.
#include "engine/twin/twin_index.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "engine/model/error.h"
#include "engine/model/limits.h"
#include "engine/query/document.h"
#include "engine/twin/compact_id.h"
#include "engine/twin/device_hash.h"
#include "engine/twin/etag.h"
#include "engine/twin/twin_document.h"
#include "gtest/gtest.h"
#include "tests/twin_testing.h"

namespace muster {
namespace {

// ------------------------------------------------------------- small parts

TEST(DeviceHashTest, NeverChanges) {
  // Stored journals rest on these.
  EXPECT_EQ(DeviceHash(""), 0xefd01f60ba992926u);
  EXPECT_EQ(DeviceHash("a"), 0x82a2a958a9bece5bu);
  EXPECT_EQ(DeviceHash("thermo-042"), 0x2e238bba781d2e43u);
  EXPECT_EQ(DeviceHash("dev-00000000"), 0x8d70e2e97f4376c4u);
  EXPECT_EQ(PartitionOfHash(DeviceHash("thermo-042"), 16), 2);
  EXPECT_EQ(PartitionOfHash(DeviceHash("thermo-042"), 256), 46);
}

TEST(DeviceHashTest, SpreadsNumberedIds) {
  std::vector<int> counts(16);
  for (int i = 0; i < 16'000; ++i) {
    ++counts[PartitionOfHash(DeviceHash(absl::StrCat("dev-", i)), 16)];
  }
  for (const int count : counts) EXPECT_NEAR(count, 1000, 150);
  EXPECT_EQ(PartitionOfHash(UINT64_MAX, 1), 0);
  EXPECT_EQ(PartitionOfHash(UINT64_MAX, 7), 6);
}

TEST(CompactIdTest, InlineAndOnTheHeap) {
  for (const size_t size : {0, 1, 14, 15, 16, 17, 127, 128}) {
    const std::string text(size, 'x');
    CompactId id(text);
    EXPECT_EQ(id.view(), text);
    CompactId moved(std::move(id));
    EXPECT_EQ(moved.view(), text);
    CompactId other("other");
    other = std::move(moved);
    EXPECT_EQ(other.view(), text);
    EXPECT_EQ(other.MemoryUsage(), size > 15 ? size : 0);
  }
}

TEST(EtagTest, Text) {
  EXPECT_EQ(EtagText(1), "AAAAAAAAAAE=");
  EXPECT_EQ(EtagText(7), "AAAAAAAAAAc=");
  EXPECT_EQ(EtagText(9), "AAAAAAAAAAk=");
  EXPECT_EQ(EtagText(UINT64_MAX), "//////////8=");
  for (const uint64_t counter :
       {uint64_t{0}, uint64_t{1}, uint64_t{255}, uint64_t{256}, UINT64_MAX}) {
    EXPECT_EQ(ParseEtag(EtagText(counter)), counter);
  }
  for (const char* foreign :
       {"", "*", "abc", "AAAAAAAAAAE", "AAAAAAAAAAF=", "AAAAAAAA3DEE=",
        "AAAAAAAAAAE= ", "----------8=", "AAAAAAAAAAAAAAAA"}) {
    EXPECT_EQ(ParseEtag(foreign), std::nullopt) << foreign;
  }
}

TEST(EtagTest, IfMatch) {
  for (const char* yes : {"", "*", "\"*\"", "AAAAAAAAAAc=", "\"AAAAAAAAAAc=\"",
                          "W/\"AAAAAAAAAAc=\"", "W/\"*\""}) {
    EXPECT_TRUE(IfMatchAllows(yes, 7)) << yes;
  }
  for (const char* no : {"\"\"", "\"", "AAAAAAAAAAk=", "\"AAAAAAAAAAk=\"", "7",
                         "W/\"AAAAAAAAAAk=\"", "**", "aaaaaaaaaac="}) {
    EXPECT_FALSE(IfMatchAllows(no, 7)) << no;
  }
}

// ----------------------------------------------------------------- document

// The twin of contract 5.10, as far as it matters here.
constexpr absl::string_view kFullTwin = R"({
  "deviceId": "thermo-042", "etag": "AAAAAAAAAAk=", "status": "enabled",
  "statusReason": "provisioned", "statusUpdateTime": "2024-01-10T08:00:00Z",
  "connectionState": "Connected", "lastActivityTime": "2024-03-01T12:30:45.123Z",
  "cloudToDeviceMessageCount": 0, "authenticationType": "sas", "version": 12,
  "x509Thumbprint": { "primaryThumbprint": null, "secondaryThumbprint": null },
  "capabilities": { "iotEdge": false }, "deviceEtag": "Nzg=", "modelId": "",
  "deviceScope": "scope-1", "parentScopes": ["scope-0"], "unknown": 1,
  "tags": { "location": {"region": "US"}, "部屋": "会議室", "gone": null },
  "properties": {
    "desired": { "firmware": { "version": "1.4.0" }, "list": [1, null],
      "$metadata": { "$lastUpdated": "2024-02-20T10:00:00.5Z" }, "$version": 4 },
    "reported": { "intervalSecs": 300.0, "$version": 17 } } })";

TEST(TwinDocumentTest, GoldenText) {
  auto index = MakeIndex();
  Put(*index, kFullTwin, At(0.25));
  std::string text;
  AppendTwinJson(Must(index->Get("thermo-042")).document.view(), &text);
  EXPECT_EQ(
      text,
      R"({"deviceId":"thermo-042","modelId":"","etag":"AAAAAAAAAAk=",)"
      R"("deviceEtag":"Nzg=","version":12,"status":"enabled",)"
      R"("statusReason":"provisioned","statusUpdateTime":"2024-01-10T08:00:00Z",)"
      R"("connectionState":"Connected",)"
      R"("lastActivityTime":"2024-03-01T12:30:45.123Z",)"
      R"("cloudToDeviceMessageCount":0,"authenticationType":"sas",)"
      R"("x509Thumbprint":{"primaryThumbprint":null,"secondaryThumbprint":null},)"
      R"("capabilities":{"iotEdge":false},"deviceScope":"scope-1",)"
      R"("parentScopes":["scope-0"],)"
      R"("tags":{"location":{"region":"US"},"部屋":"会議室"},)"
      R"("properties":{"desired":{"firmware":{"version":"1.4.0"},"list":[1,null],)"
      R"("$metadata":{"$lastUpdated":"2030-01-01T00:00:00.2500000Z",)"
      R"("$lastUpdatedVersion":4,"firmware":{)"
      R"("$lastUpdated":"2030-01-01T00:00:00.2500000Z","$lastUpdatedVersion":4,)"
      R"("version":{"$lastUpdated":"2030-01-01T00:00:00.2500000Z",)"
      R"("$lastUpdatedVersion":4}},)"
      R"("list":{"$lastUpdated":"2030-01-01T00:00:00.2500000Z",)"
      R"("$lastUpdatedVersion":4}},"$version":4},)"
      R"("reported":{"intervalSecs":300.0,)"
      R"("$metadata":{"$lastUpdated":"2030-01-01T00:00:00.2500000Z",)"
      R"("intervalSecs":{"$lastUpdated":"2030-01-01T00:00:00.2500000Z"}},)"
      R"("$version":17}}})");
}

TEST(TwinDocumentTest, NewTwin) {
  auto index = MakeIndex();
  const TwinWrite write = PutId(*index, "a");
  EXPECT_EQ(write, (TwinWrite{.etag = 1,
                              .version = 1,
                              .desired_version = 1,
                              .reported_version = 1,
                              .connected = false,
                              .enabled = true}));
  std::string text;
  AppendTwinJson(Must(index->Get("a")).document.view(), &text);
  EXPECT_EQ(
      text,
      R"({"deviceId":"a","etag":"AAAAAAAAAAE=","version":1,)"
      R"("status":"enabled","statusUpdateTime":"0001-01-01T00:00:00Z",)"
      R"("connectionState":"Disconnected",)"
      R"("lastActivityTime":"0001-01-01T00:00:00Z",)"
      R"("cloudToDeviceMessageCount":0,"tags":{},"properties":{)"
      R"("desired":{"$metadata":{)"
      R"("$lastUpdated":"2030-01-01T00:00:00.0000000Z"},"$version":1},)"
      R"("reported":{"$metadata":{)"
      R"("$lastUpdated":"2030-01-01T00:00:00.0000000Z"},"$version":1}}})");
}

TEST(TwinDocumentTest, CustomaryOrderOfAnyDocument) {
  std::string text;
  AppendTwinJson(Parsed(R"({"zz":1,"aa":2,"tags":{},"deviceId":"x",
      "properties":{"desired":7,"other":{"$version":1,"!":2}}})")
                     .view(),
                 &text);
  EXPECT_EQ(text, R"({"deviceId":"x","tags":{},"properties":{"desired":7,)"
                  R"("other":{"!":2,"$version":1}},"aa":2,"zz":1})");
  text.clear();
  AppendTwinJson(Parsed("{}").view(), &text);
  EXPECT_EQ(text, "{}");
}

// Get() of each root is what the whole document has there.
TEST(TwinDocumentTest, RootsAgreeWithTheWhole) {
  for (const absl::string_view twin :
       {kFullTwin, absl::string_view(R"({"deviceId":"x"})")}) {
    auto index = MakeIndex({.partition_count = 1});
    PutId(*index, "some-other");
    Put(*index, twin);
    Shard& shard = index->shard(0);
    absl::ReleasableMutexLock lock(&shard.mutex);
    TwinDocument document;
    document.Reset(&shard, 0);
    document.Get(Root::kDeviceId);
    document.Reset(&shard, 1);
    const JsonDocument whole(document.Full());
    for (size_t i = 1; i < kRootCount; ++i) {
      const Root root = static_cast<Root>(i);
      if (root == Root::kProperties) continue;
      const JsonView got = document.Get(root);
      const JsonView want = whole.Get(root);
      if (root == Root::kDesired || root == Root::kReported) {
        // With $metadata in the whole, without in the part: either is right.
        EXPECT_EQ(got.Find("$version").int_value(),
                  want.Find("$version").int_value());
        continue;
      }
      EXPECT_EQ(got.bytes(), want.bytes()) << RootName(root);
    }
    EXPECT_TRUE(document.Full(false)
                    .view()
                    .Find("properties")
                    .Find("desired")
                    .Find("$metadata")
                    .is_undefined());
    // What the index says of a twin makes the same twin.
    const Json said = document.Full(false);
    lock.Release();
    auto other = MakeIndex({.partition_count = 1});
    Must(other->Upsert(said.view(), At(0)));
    absl::MutexLock other_lock(&other->shard(0).mutex);
    document.Reset(&other->shard(0), 0);
    EXPECT_EQ(document.Full(false), said);
  }
}

TEST(TwinDocumentTest, InstantsKeepTheirDigits) {
  auto index = MakeIndex();
  const struct {
    absl::string_view given, shown;
  } kRows[] = {
      {"2024-03-01T12:30:45Z", "2024-03-01T12:30:45Z"},
      {"2024-03-01T12:30:45.1Z", "2024-03-01T12:30:45.1Z"},
      {"2024-03-01T12:30:45.1234567Z", "2024-03-01T12:30:45.1234567Z"},
      {"2024-03-01T12:30:45.12345678Z", "2024-03-01T12:30:45.1234567Z"},
      {"2024-03-01T12:30:45+01:00", "2024-03-01T11:30:45.0000000Z"},
      {"2024-03-01 12:30Z", "2024-03-01T12:30:00.0000000Z"},
      {"0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"},
      {"9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.9999999Z"},
  };
  for (const auto& row : kRows) {
    Put(*index, absl::StrCat(R"({"deviceId":"a","lastActivityTime":")",
                             row.given, R"("})"));
    EXPECT_EQ(Shown(*index, "a", {"lastActivityTime"}),
              absl::StrCat("\"", row.shown, "\""));
  }
}

// ------------------------------------------------------------------- upsert

TEST(UpsertTest, Refuses) {
  auto index = MakeIndex();
  const struct {
    absl::string_view twin;
    ErrorCode code;
    absl::string_view what;
  } kRows[] = {
      {R"(null)", ErrorCode::kArgumentNull, "twin"},
      {R"([])", ErrorCode::kArgumentInvalid, "twin"},
      {R"({})", ErrorCode::kArgumentNull, "deviceId: missing"},
      {R"({"deviceId":null})", ErrorCode::kArgumentNull, "deviceId"},
      {R"({"deviceId":7})", ErrorCode::kArgumentInvalid, "deviceId: found 7"},
      {R"({"deviceId":""})", ErrorCode::kArgumentInvalid, "deviceId"},
      {R"({"deviceId":"a b"})", ErrorCode::kArgumentInvalid, "deviceId"},
      {R"({"deviceId":"a","moduleId":"m"})", ErrorCode::kArgumentInvalid,
       "moduleId"},
      {R"({"deviceId":"a","status":"off"})", ErrorCode::kArgumentInvalid,
       "status: found \"off\"; expected enabled or disabled"},
      {R"({"deviceId":"a","connectionState":"connected"})",
       ErrorCode::kArgumentInvalid, "connectionState"},
      {R"({"deviceId":"a","lastActivityTime":"soon"})",
       ErrorCode::kArgumentInvalid, "lastActivityTime"},
      {R"({"deviceId":"a","statusUpdateTime":5})", ErrorCode::kArgumentInvalid,
       "statusUpdateTime"},
      {R"({"deviceId":"a","version":0})", ErrorCode::kArgumentInvalid,
       "version"},
      {R"({"deviceId":"a","version":"1"})", ErrorCode::kArgumentInvalid,
       "version"},
      {R"({"deviceId":"a","etag":1})", ErrorCode::kArgumentInvalid, "etag"},
      {R"({"deviceId":"a","authenticationType":"magic"})",
       ErrorCode::kArgumentInvalid, "authenticationType"},
      {R"({"deviceId":"a","capabilities":{"iotEdge":1}})",
       ErrorCode::kArgumentInvalid, "capabilities.iotEdge"},
      {R"({"deviceId":"a","x509Thumbprint":{"primaryThumbprint":1}})",
       ErrorCode::kArgumentInvalid, "x509Thumbprint.primaryThumbprint"},
      {R"({"deviceId":"a","parentScopes":[1]})", ErrorCode::kArgumentInvalid,
       "parentScopes"},
      {R"({"deviceId":"a","cloudToDeviceMessageCount":-1})",
       ErrorCode::kArgumentInvalid, "cloudToDeviceMessageCount"},
      {R"({"deviceId":"a","tags":{"x y":1}})", ErrorCode::kArgumentInvalid,
       "tags.x y"},
      {R"({"deviceId":"a","properties":{"reported":{"x.y":1}}})",
       ErrorCode::kArgumentInvalid, "properties.reported.x.y"},
      {R"({"deviceId":"a","properties":{"desired":{"$version":0}}})",
       ErrorCode::kArgumentInvalid, "properties.desired.$version"},
      {R"({"deviceId":"a","properties":{"desired":5}})",
       ErrorCode::kArgumentInvalid, "properties.desired"},
  };
  for (const auto& row : kRows) {
    const auto write = index->Upsert(Parsed(row.twin).view(), At(0));
    ASSERT_FALSE(write.ok()) << row.twin;
    EXPECT_EQ(ErrorCodeOf(write.status()), row.code) << write.status();
    EXPECT_TRUE(absl::StrContains(write.status().message(), row.what))
        << write.status() << " lacks " << row.what;
  }
  const std::string reason(kTwinStatusReasonLengthMax, 'r');
  const std::string twin =
      absl::StrCat(R"({"deviceId":"a","statusReason":")", reason);
  EXPECT_TRUE(
      index->Upsert(Parsed(absl::StrCat(twin, "\"}")).view(), At(0)).ok());
  EXPECT_FALSE(
      index->Upsert(Parsed(absl::StrCat(twin, "r\"}")).view(), At(0)).ok());
  EXPECT_EQ(index->size(), 1);
}

TEST(UpsertTest, TakesCountersFromTheDocument) {
  auto index = MakeIndex();
  const TwinWrite write = Put(*index, kFullTwin);
  EXPECT_EQ(write, (TwinWrite{.etag = 9,
                              .version = 12,
                              .desired_version = 4,
                              .reported_version = 17,
                              .connected = true,
                              .enabled = true}));
}

TEST(UpsertTest, PutsInThePlaceOfTheOldTwin) {
  auto index = MakeIndex();
  Put(*index, kFullTwin);
  const auto location = index->Find("thermo-042");
  // What is not given goes on counting; the connection is a fact of its own.
  const TwinWrite write =
      Put(*index, R"({"deviceId":"thermo-042","tags":{"only":1}})", At(5));
  EXPECT_EQ(write, (TwinWrite{.etag = 10,
                              .version = 13,
                              .desired_version = 5,
                              .reported_version = 18,
                              .connected = true,
                              .enabled = true}));
  EXPECT_EQ(index->Find("thermo-042"), location);
  EXPECT_EQ(index->size(), 1);
  EXPECT_EQ(Shown(*index, "thermo-042", {"tags"}), R"({"only":1})");
  EXPECT_EQ(Shown(*index, "thermo-042", {"statusReason"}), "");
  EXPECT_EQ(Shown(*index, "thermo-042", {"properties", "desired"}),
            R"({"$metadata":{"$lastUpdated":"2030-01-01T00:00:05.0000000Z",)"
            R"("$lastUpdatedVersion":5},"$version":5})");
  // What is given is taken, whichever way it goes.
  const TwinWrite back = Put(*index, kFullTwin);
  EXPECT_EQ(back.etag, 9u);
  EXPECT_EQ(back.version, 12);
}

TEST(UpsertTest, AnotherHubsEtagCountsAsNone) {
  auto index = MakeIndex();
  EXPECT_EQ(Put(*index, R"({"deviceId":"a","etag":"AAAAAAAA3DEE="})").etag, 1u);
  EXPECT_EQ(Put(*index, R"({"deviceId":"a","etag":"AAAAAAAA3DEE="})").etag, 2u);
}

// --------------------------------------------------------- patch and replace

TEST(PatchTest, Counters) {
  auto index = MakeIndex();
  PutId(*index, "a");
  const auto patch = [&](absl::string_view text) {
    return Must(index->Patch("a", ServicePatch(text), "", At(1)));
  };
  TwinWrite w = patch(R"({"tags":{"x":1}})");
  EXPECT_EQ(w.etag, 2u);
  EXPECT_EQ(w.version, 2);
  EXPECT_EQ(w.desired_version, 1);
  w = patch(R"({"properties":{"desired":{"x":1}}})");
  EXPECT_EQ(w.etag, 3u);
  EXPECT_EQ(w.version, 3);
  EXPECT_EQ(w.desired_version, 2);
  // Both at once are one change.
  w = patch(R"({"tags":{"x":2},"properties":{"desired":{"x":2}}})");
  EXPECT_EQ(w.etag, 4u);
  EXPECT_EQ(w.version, 4);
  EXPECT_EQ(w.desired_version, 3);
  // Equal content counts.
  w = patch(R"({"properties":{"desired":{"x":2}}})");
  EXPECT_EQ(w.desired_version, 4);
  w = patch(R"({"properties":{"desired":{}}})");
  EXPECT_EQ(w.desired_version, 5);
  EXPECT_EQ(w.version, 6);
  // Neither part: no change, reported or not.
  const TwinWrite before = w;
  EXPECT_EQ(patch(R"({})"), before);
  EXPECT_EQ(patch(R"({"properties":{"reported":{"x":1}}})"), before);
  EXPECT_EQ(Must(index->Get("a")).etag, "AAAAAAAAAAY=");
  // Reported changes its own version only.
  w = Must(index->PatchReported("a", DevicePatch(R"({"r":1})"), At(2)));
  EXPECT_EQ(w.reported_version, 2);
  EXPECT_EQ(w.etag, before.etag);
  EXPECT_EQ(w.version, before.version);
  EXPECT_EQ(w.desired_version, before.desired_version);
  EXPECT_EQ(Shown(*index, "a", {"lastActivityTime"}),
            "\"2030-01-01T00:00:02.0000000Z\"");
}

TEST(PatchTest, VersionsStopWhereNoDocumentCouldSayThem) {
  auto index = MakeIndex();
  Put(*index, R"({"deviceId":"a","version":4503599627370494,"properties":{
      "desired":{"$version":4503599627370495}}})");
  TwinWrite w;
  for (int i = 0; i < 3; ++i) {
    w = Must(index->Patch("a", ServicePatch(R"({"properties":{"desired":{}}})"),
                          "", At(1)));
  }
  EXPECT_EQ(w.version, kTwinIntegerMax);
  EXPECT_EQ(w.desired_version, kTwinIntegerMax);
  EXPECT_EQ(w.etag, 4u);
  const Json document = Must(index->Get("a")).document;
  EXPECT_EQ(Must(MakeIndex()->Upsert(document.view(), At(2))), w);
}

TEST(PatchTest, ContentOfAllSections) {
  auto index = MakeIndex();
  Put(*index,
      R"({"deviceId":"a","tags":{"t":{"u":1,"v":2}},
          "properties":{"desired":{"!":0,"d":1},"reported":{"r":[1]}}})");
  Must(index->Patch(
      "a", ServicePatch(R"({"tags":{"t":{"u":null}},"properties":{"desired":
                            {"e":{"f":null,"g":2}}}})"),
      "", At(1)));
  Must(index->PatchReported("a", DevicePatch(R"({"r":[2,null],"s":null})"),
                            At(2)));
  EXPECT_EQ(Shown(*index, "a", {"tags"}), R"({"t":{"v":2}})");
  EXPECT_EQ(Shown(*index, "a", {"properties", "desired", "!"}), "0");
  EXPECT_EQ(Shown(*index, "a", {"properties", "desired", "d"}), "1");
  EXPECT_EQ(Shown(*index, "a", {"properties", "desired", "e"}), R"({"g":2})");
  EXPECT_EQ(Shown(*index, "a", {"properties", "reported", "r"}), "[2,null]");
  EXPECT_EQ(Shown(*index, "a", {"properties", "reported", "s"}), "");
  Must(index->Patch(
      "a", ServicePatch(R"({"tags":null,"properties":{"desired":null}})"), "",
      At(3)));
  EXPECT_EQ(Shown(*index, "a", {"tags"}), "{}");
  EXPECT_EQ(Shown(*index, "a", {"properties", "desired", "$version"}), "3");
  EXPECT_EQ(Shown(*index, "a", {"properties", "desired", "d"}), "");
}

TEST(PatchTest, IfMatch) {
  auto index = MakeIndex();
  PutId(*index, "a");
  const TwinPatch patch = ServicePatch(R"({"tags":{"x":1}})");
  for (const char* wrong : {"\"AAAAAAAAAAI=\"", "AAAAAAAAAAI=", "\"\"", "x"}) {
    for (const bool replace : {false, true}) {
      const auto write = replace ? index->Replace("a", patch, wrong, At(1))
                                 : index->Patch("a", patch, wrong, At(1));
      EXPECT_EQ(ErrorCodeOf(write.status()), ErrorCode::kPreconditionFailed);
      EXPECT_TRUE(absl::StrContains(write.status().message(), "AAAAAAAAAAE="));
    }
  }
  EXPECT_EQ(Must(index->Get("a")).state.etag, 1u);
  uint64_t etag = 1;
  for (const char* form : {"*", "\"*\"", "@", "\"@\"", "W/\"@\""}) {
    const std::string if_match =
        absl::StrReplaceAll(form, {{"@", EtagText(etag)}});
    const auto write = index->Patch("a", patch, if_match, At(1));
    ASSERT_TRUE(write.ok()) << if_match << ": " << write.status();
    EXPECT_EQ(write->etag, ++etag);
  }
}

TEST(PatchTest, VersionGuards) {
  auto index = MakeIndex();
  PutId(*index, "a");
  auto write = index->Patch(
      "a",
      ServicePatch(
          R"({"tags":{"t":1},"properties":{"desired":{"$version":2,"x":1}}})"),
      "", At(1));
  EXPECT_EQ(ErrorCodeOf(write.status()), ErrorCode::kPreconditionFailed);
  EXPECT_TRUE(absl::StrContains(
      write.status().message(),
      "properties.desired.$version: the update is for 2, the twin has 1"))
      << write.status();
  EXPECT_EQ(Shown(*index, "a", {"tags"}), "{}");
  write = index->Patch(
      "a", ServicePatch(R"({"properties":{"desired":{"$version":1,"x":1}}})"),
      "", At(1));
  EXPECT_TRUE(write.ok());
  EXPECT_EQ(write->desired_version, 2);
  write = index->PatchReported("a", DevicePatch(R"({"$version":9})"), At(1));
  EXPECT_EQ(ErrorCodeOf(write.status()), ErrorCode::kPreconditionFailed);
  write = index->PatchReported("a", DevicePatch(R"({"$version":1})"), At(1));
  EXPECT_TRUE(write.ok());
  EXPECT_EQ(write->reported_version, 2);
}

TEST(PatchTest, LimitsLeaveTheTwinAsItWas) {
  auto index = MakeIndex();
  // A hundred bytes below the limits.
  std::string tags = "{";
  for (int i = 0; i < 4; ++i) {
    absl::StrAppend(&tags, "\"t", i, "\":\"", std::string(2021, 'x'), "\",");
  }
  std::string desired = "{";
  for (int i = 0; i < 8; ++i) {
    absl::StrAppend(&desired, "\"d", i, "\":\"",
                    std::string(i == 0 ? 4085 : 4081, 'x'), "\",");
  }
  tags.back() = '}';
  desired.back() = '}';
  Put(*index, absl::StrCat(R"({"deviceId":"a","tags":)", tags,
                           R"(,"properties":{"desired":)", desired, "}}"));
  const Json before = Must(index->Get("a")).document;
  const std::string fits(98, 'y');
  const struct {
    absl::string_view name;
    std::function<std::string(absl::string_view)> patch;
  } kRows[] = {
      {"tags",
       [](absl::string_view v) {
         return absl::StrCat(R"({"tags":{"zz":")", v,
                             R"("},"properties":{"desired":{"d0":null}}})");
       }},
      {"properties.desired",
       [](absl::string_view v) {
         return absl::StrCat(R"({"tags":{"t0":null},"properties":{"desired":)",
                             R"({"zz":")", v, R"("}}})");
       }},
  };
  for (const auto& row : kRows) {
    const auto write =
        index->Patch("a", ServicePatch(row.patch(fits + "y")), "", At(1));
    ASSERT_FALSE(write.ok()) << row.name;
    EXPECT_EQ(ErrorCodeOf(write.status()), ErrorCode::kMessageTooLarge);
    EXPECT_TRUE(absl::StartsWith(write.status().message(), row.name));
    // Not even the part that was in order.
    EXPECT_EQ(Must(index->Get("a")).document, before);
  }
  for (const auto& row : kRows) {
    Put(*index, absl::StrCat(R"({"deviceId":"a","tags":)", tags,
                             R"(,"properties":{"desired":)", desired, "}}"));
    EXPECT_TRUE(
        index->Patch("a", ServicePatch(row.patch(fits)), "", At(1)).ok())
        << row.name;
  }
}

TEST(ReplaceTest, OnlyTheSectionsPresent) {
  auto index = MakeIndex();
  Put(*index,
      R"({"deviceId":"a","tags":{"t":1},"properties":{"desired":{"d":1},
          "reported":{"r":1}}})");
  TwinWrite w = Must(index->Replace(
      "a",
      ServicePatch(
          R"({"properties":{"desired":{"e":{"n":null}},"reported":{"x":1}}})"),
      "", At(1)));
  EXPECT_EQ(w.desired_version, 2);
  EXPECT_EQ(w.version, 2);
  EXPECT_EQ(w.reported_version, 1);
  EXPECT_EQ(Shown(*index, "a", {"tags"}), R"({"t":1})");
  EXPECT_EQ(Shown(*index, "a", {"properties", "desired", "e"}), "{}");
  EXPECT_EQ(Shown(*index, "a", {"properties", "desired", "d"}), "");
  EXPECT_EQ(Shown(*index, "a", {"properties", "reported", "r"}), "1");
  w = Must(index->Replace("a", ServicePatch(R"({"tags":{"u":2,"v":null}})"),
                          "*", At(2)));
  EXPECT_EQ(w.desired_version, 2);
  EXPECT_EQ(Shown(*index, "a", {"tags"}), R"({"u":2})");
  w = Must(index->Replace("a", ServicePatch(R"({"tags":null})"), "*", At(3)));
  EXPECT_EQ(Shown(*index, "a", {"tags"}), "{}");
  EXPECT_EQ(w.version, 4);
  EXPECT_EQ(Must(index->Replace("a", ServicePatch("{}"), "", At(4))), w);
}

TEST(WriteTest, UnknownDevices) {
  auto index = MakeIndex();
  const TwinPatch patch = ServicePatch(R"({"tags":{"x":1}})");
  for (const absl::Status& status :
       {index->Patch("no", patch, "", At(0)).status(),
        index->Replace("no", patch, "", At(0)).status(),
        index->PatchReported("no", DevicePatch("{}"), At(0)).status(),
        index->Erase("no", At(0)), index->SetEnabled("no", false, At(0)),
        index->Get("no").status(), index->Get("").status()}) {
    EXPECT_EQ(ErrorCodeOf(status), ErrorCode::kDeviceNotFound) << status;
  }
  EXPECT_EQ(index->SetConnected("no", true, At(0)), TwinConnection());
  EXPECT_EQ(index->Find("no"), std::nullopt);
}

// ---------------------------------------------------------------- $metadata

// Each node of a section's $metadata as "path time version", in order.
void ListStamps(JsonView node, const std::string& path,
                std::vector<std::string>* out) {
  const JsonView version = node.Find("$lastUpdatedVersion");
  const absl::string_view time = node.Find("$lastUpdated").string_value();
  // Only the seconds: tests count in them.
  out->push_back(absl::StrCat(
      path, " ", time.substr(17, 2),
      version.is_undefined() ? "" : absl::StrCat(" v", version.int_value())));
  for (const JsonView::Member& member : node.members()) {
    if (member.key[0] == '$') continue;
    ListStamps(member.value, absl::StrCat(path, "/", member.key), out);
  }
}

std::vector<std::string> Stamps(const TwinIndex& index, absl::string_view id,
                                absl::string_view section) {
  const TwinSnapshot snapshot = Must(index.Get(id));
  std::vector<std::string> out;
  ListStamps(snapshot.document.view()
                 .Find("properties")
                 .Find(section)
                 .Find("$metadata"),
             "", &out);
  return out;
}

using Lines = std::vector<std::string>;

TEST(MetadataTest, FollowsUpdates) {
  auto index = MakeIndex();
  Put(*index,
      R"({"deviceId":"a","properties":{"desired":
          {"!":1,"a":{"b":1,"c":{"d":2}},"list":[{"x":1}],"z":0}}})");
  EXPECT_EQ(Stamps(*index, "a", "desired"),
            (Lines{" 00 v1", "/! 00 v1", "/a 00 v1", "/a/b 00 v1", "/a/c 00 v1",
                   "/a/c/d 00 v1", "/list 00 v1", "/z 00 v1"}));
  const auto patch = [&](absl::string_view desired, int second) {
    Must(index->Patch("a",
                      ServicePatch(absl::StrCat(R"({"properties":{"desired":)",
                                                desired, "}}")),
                      "", At(second)));
  };
  // A leaf and its ancestors.
  patch(R"({"a":{"c":{"d":3}}})", 1);
  EXPECT_EQ(Stamps(*index, "a", "desired"),
            (Lines{" 01 v2", "/! 00 v1", "/a 01 v2", "/a/b 00 v1", "/a/c 01 v2",
                   "/a/c/d 01 v2", "/list 00 v1", "/z 00 v1"}));
  // Equal content is an update too; a sibling keeps what it had.
  patch(R"({"a":{"b":1}})", 2);
  EXPECT_EQ(Stamps(*index, "a", "desired"),
            (Lines{" 02 v3", "/! 00 v1", "/a 02 v3", "/a/b 02 v3", "/a/c 01 v2",
                   "/a/c/d 01 v2", "/list 00 v1", "/z 00 v1"}));
  // A removal stamps the ancestors.
  patch(R"({"a":{"c":{"d":null}}})", 3);
  EXPECT_EQ(Stamps(*index, "a", "desired"),
            (Lines{" 03 v4", "/! 00 v1", "/a 03 v4", "/a/b 02 v3", "/a/c 03 v4",
                   "/list 00 v1", "/z 00 v1"}));
  // An object in a leaf's place is new with all that is in it; so is an array,
  // which is one node.
  patch(R"({"!":[1,{"y":2}],"z":{"p":{"q":1,"gone":null}}})", 4);
  EXPECT_EQ(Stamps(*index, "a", "desired"),
            (Lines{" 04 v5", "/! 04 v5", "/a 03 v4", "/a/b 02 v3", "/a/c 03 v4",
                   "/list 00 v1", "/z 04 v5", "/z/p 04 v5", "/z/p/q 04 v5"}));
  // A leaf in an object's place.
  patch(R"({"a":5,"list":null})", 5);
  EXPECT_EQ(Stamps(*index, "a", "desired"),
            (Lines{" 05 v6", "/! 04 v5", "/a 05 v6", "/z 04 v5", "/z/p 04 v5",
                   "/z/p/q 04 v5"}));
  // An update without content touches the section, and what it names.
  patch(R"({})", 6);
  patch(R"({"z":{}})", 7);
  EXPECT_EQ(Stamps(*index, "a", "desired"),
            (Lines{" 07 v8", "/! 04 v5", "/a 05 v6", "/z 07 v8", "/z/p 04 v5",
                   "/z/p/q 04 v5"}));
  // Cleared, and filled again.
  patch(R"(null)", 8);
  EXPECT_EQ(Stamps(*index, "a", "desired"), (Lines{" 08 v9"}));
  patch(R"({"n":{"m":1}})", 9);
  EXPECT_EQ(Stamps(*index, "a", "desired"),
            (Lines{" 09 v10", "/n 09 v10", "/n/m 09 v10"}));
  // Replaced.
  Must(index->Replace(
      "a", ServicePatch(R"({"properties":{"desired":{"n":{"k":1}}}})"), "",
      At(10)));
  EXPECT_EQ(Stamps(*index, "a", "desired"),
            (Lines{" 10 v11", "/n 10 v11", "/n/k 10 v11"}));
  // Reported was never touched.
  EXPECT_EQ(Stamps(*index, "a", "reported"), (Lines{" 00"}));
}

TEST(MetadataTest, ReportedHasNoVersions) {
  auto index = MakeIndex();
  Put(*index,
      R"({"deviceId":"a","properties":{"reported":{"x":{"y":1},"z":2}}})");
  Must(index->PatchReported("a", DevicePatch(R"({"x":{"y":2}})"), At(1)));
  EXPECT_EQ(Stamps(*index, "a", "reported"),
            (Lines{" 01", "/x 01", "/x/y 01", "/z 00"}));
  EXPECT_EQ(Stamps(*index, "a", "desired"), (Lines{" 00"}));
}

TEST(MetadataTest, ConditionsReadIt) {
  auto index = MakeIndex();
  Put(*index, R"({"deviceId":"a","properties":{"desired":{"x":1}}})");
  Put(*index, R"({"deviceId":"b","properties":{"desired":{"x":1}}})");
  Must(index->Patch("b", ServicePatch(R"({"properties":{"desired":{"x":2}}})"),
                    "", At(3600)));
  EXPECT_EQ(CountMatches(*index, Where("properties.desired.$metadata.x."
                                       "$lastUpdated > '2030-01-01T00:30Z'")),
            1);
  EXPECT_EQ(CountMatches(*index, Where("properties.desired.$version = 2")), 1);
  EXPECT_EQ(CountMatches(*index, Where("is_defined(properties.desired."
                                       "$metadata.x)")),
            2);
}

// -------------------------------------------------------- status, connection

TEST(StatusTest, EnabledAndConnected) {
  auto index = MakeIndex();
  Put(*index, R"({"deviceId":"a","capabilities":{"iotEdge":true},
                  "x509Thumbprint":{"primaryThumbprint":"p"}})");
  ASSERT_TRUE(index->SetEnabled("a", false, At(1)).ok());
  EXPECT_EQ(Shown(*index, "a", {"status"}), "\"disabled\"");
  EXPECT_EQ(Shown(*index, "a", {"statusUpdateTime"}),
            "\"2030-01-01T00:00:01.0000000Z\"");
  EXPECT_EQ(Shown(*index, "a", {"capabilities"}), R"({"iotEdge":true})");
  EXPECT_EQ(Shown(*index, "a", {"x509Thumbprint", "primaryThumbprint"}),
            "\"p\"");
  // Nothing changes where nothing changes.
  ASSERT_TRUE(index->SetEnabled("a", false, At(2)).ok());
  EXPECT_EQ(Shown(*index, "a", {"statusUpdateTime"}),
            "\"2030-01-01T00:00:01.0000000Z\"");
  ASSERT_TRUE(index->SetEnabled("a", true, At(3)).ok());
  EXPECT_EQ(Shown(*index, "a", {"status"}), "\"enabled\"");

  EXPECT_FALSE(index->SetConnected("a", false, At(4)).changed);
  EXPECT_TRUE(index->SetConnected("a", true, At(5)).changed);
  EXPECT_EQ(Shown(*index, "a", {"connectionState"}), "\"Connected\"");
  EXPECT_EQ(Shown(*index, "a", {"lastActivityTime"}),
            "\"2030-01-01T00:00:05.0000000Z\"");
  EXPECT_FALSE(index->SetConnected("a", true, At(6)).changed);
  const auto location = index->Find("a");
  ASSERT_TRUE(location.has_value());
  Shard& shard = index->shard(location->shard);
  absl::ReaderMutexLock lock(&shard.mutex);
  EXPECT_TRUE(shard.IsConnected(location->row));
  EXPECT_TRUE(shard.IsEnabled(location->row));
  // Neither is a change of tags or desired.
  EXPECT_EQ(shard.StateOf(location->row).etag, 1u);
  EXPECT_EQ(shard.StateOf(location->row).version, 1);
}

// ------------------------------------------------------------- rows and cuts

// shard.h's picture.
TEST(RowTest, FormerTenants) {
  auto index = MakeIndex({.partition_count = 1});
  PutId(*index, "other");
  PutId(*index, "a");
  const TwinLocation a = *index->Find("a");
  Shard& shard = index->shard(a.shard);
  const auto sequence = [&] {
    absl::ReaderMutexLock lock(&shard.mutex);
    return shard.sequence();
  };
  const uint64_t cut_a = sequence();
  ASSERT_TRUE(index->Erase("a", At(1)).ok());
  EXPECT_EQ(index->size(), 1);
  EXPECT_EQ(index->Find("a"), std::nullopt);
  const uint64_t cut_none = sequence();
  PutId(*index, "b-has-a-long-identifier");
  ASSERT_EQ(index->Find("b-has-a-long-identifier"),
            a);  // The row is used again.
  const uint64_t cut_b = sequence();
  ASSERT_TRUE(index->Erase("b-has-a-long-identifier", At(2)).ok());
  PutId(*index, "a");  // The same device is another one to jobs.
  ASSERT_EQ(index->Find("a"), a);
  const uint64_t cut_a2 = sequence();
  EXPECT_LT(cut_a, cut_none);
  EXPECT_LT(cut_none, cut_b);
  EXPECT_LT(cut_b, cut_a2);

  absl::MutexLock lock(&shard.mutex);
  EXPECT_EQ(shard.row_count(), 2);
  EXPECT_EQ(shard.size(), 2);
  EXPECT_FALSE(shard.IsPresent(a.row, cut_a));
  EXPECT_FALSE(shard.IsPresent(a.row, cut_none));
  EXPECT_FALSE(shard.IsPresent(a.row, cut_b));
  EXPECT_TRUE(shard.IsPresent(a.row, cut_a2));
  EXPECT_TRUE(shard.IsPresent(a.row, cut_a2 + 100));
  EXPECT_TRUE(shard.IsPresent(0, cut_a));
  EXPECT_FALSE(shard.IsPresent(2, cut_a2));
  EXPECT_EQ(shard.DeviceIdAt(a.row, cut_a), "a");
  EXPECT_EQ(shard.DeviceIdAt(a.row, cut_b), "b-has-a-long-identifier");
  EXPECT_EQ(shard.DeviceIdAt(a.row, cut_a2), "a");
  EXPECT_EQ(shard.DeviceIdAt(0, cut_a), "other");
  // Forgetting what no cut can name keeps what a later cut can.
  shard.RetainCutsFrom(cut_b);
  EXPECT_EQ(shard.DeviceIdAt(a.row, cut_b), "b-has-a-long-identifier");
  EXPECT_EQ(shard.DeviceIdAt(a.row, cut_a2), "a");
  shard.RetainCutsFrom(cut_a2);
  EXPECT_EQ(shard.DeviceIdAt(a.row, cut_a2), "a");
}

TEST(RowTest, FormerTenantsCostNothingOnceForgotten) {
  auto index = MakeIndex({.partition_count = 1});
  const auto churn = [&](int from) {
    for (int i = from; i < from + 500; ++i) PutId(*index, absl::StrCat("d", i));
    for (int i = from; i < from + 500; ++i) {
      ASSERT_TRUE(index->Erase(absl::StrCat("d", i), At(1)).ok());
    }
  };
  churn(0);
  Shard& shard = index->shard(0);
  const int64_t kept = index->MemoryUsage();
  {
    absl::MutexLock lock(&shard.mutex);
    shard.RetainCutsFrom(shard.sequence());
  }
  const int64_t forgotten = index->MemoryUsage();
  EXPECT_LT(forgotten, kept - 500 * 30);
  churn(500);
  {
    absl::MutexLock lock(&shard.mutex);
    shard.RetainCutsFrom(shard.sequence());
  }
  EXPECT_LT(index->MemoryUsage(), forgotten + 4096);
  EXPECT_EQ(index->size(), 0);
}

TEST(RowTest, ShardsFillUpAndAreUsedAgain) {
  auto index = MakeIndex({.partition_count = 1});
  const int count = kShardRowsMax + 10;
  for (int i = 0; i < count; ++i) PutId(*index, absl::StrCat(i));
  ASSERT_EQ(index->shard_count(), 2);
  const TwinLocation first = *index->Find("5");
  EXPECT_EQ(first.shard, 0);
  EXPECT_EQ(index->Find(absl::StrCat(count - 1))->shard, 1);
  ASSERT_TRUE(index->Erase("5", At(0)).ok());
  ASSERT_TRUE(index->Erase("6", At(0)).ok());
  for (int i = 0; i < 3; ++i) PutId(*index, absl::StrCat("new", i));
  EXPECT_EQ(index->shard_count(), 2);
  EXPECT_EQ(index->size(), count + 1);
  // Every device is where the index says.
  int seen = 0;
  for (int s = 0; s < index->shard_count(); ++s) {
    Shard& shard = index->shard(s);
    EXPECT_EQ(shard.index(), s);
    EXPECT_EQ(shard.partition(), 0);
    std::vector<std::string> ids;
    {
      absl::ReaderMutexLock lock(&shard.mutex);
      for (int row = 0; row < shard.row_count(); ++row) {
        if (!shard.IsPresent(row, shard.sequence())) continue;
        ids.push_back(std::string(shard.DeviceIdAt(row, shard.sequence())));
      }
      EXPECT_EQ(shard.size(), static_cast<int>(ids.size()));
    }
    seen += static_cast<int>(ids.size());
    for (const std::string& id : ids) EXPECT_EQ(index->Find(id)->shard, s);
  }
  EXPECT_EQ(seen, count + 1);
}

TEST(RowTest, TwinCountMax) {
  auto index = MakeIndex({.twin_count_max = 3});
  for (const char* id : {"a", "b", "c"}) PutId(*index, id);
  const auto write = index->Upsert(Parsed(R"({"deviceId":"d"})").view(), At(0));
  EXPECT_EQ(write.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ErrorCodeOf(write.status()), ErrorCode::kThrottlingException);
  PutId(*index, "a");  // One that is there already is no more.
  EXPECT_EQ(index->size(), 3);
  ASSERT_TRUE(index->Erase("b", At(0)).ok());
  PutId(*index, "d");
  EXPECT_EQ(index->size(), 3);
}

TEST(OptionsTest, Ranges) {
  EXPECT_FALSE(TwinIndex::Create({.partition_count = 0}).ok());
  EXPECT_FALSE(TwinIndex::Create({.partition_count = 257}).ok());
  EXPECT_FALSE(TwinIndex::Create({.twin_count_max = 0}).ok());
  EXPECT_TRUE(TwinIndex::Create({.partition_count = 256}).ok());
}

// -------------------------------------------------------------------- jobs

TEST(ShardTest, ApplyPatch) {
  auto index = MakeIndex();
  PutId(*index, "a");
  const TwinLocation at = *index->Find("a");
  Shard& shard = index->shard(at.shard);
  {
    absl::MutexLock lock(&shard.mutex);
    const uint64_t before = shard.sequence();
    TwinWrite w = Must(shard.ApplyPatch(
        at.row,
        ServicePatch(R"({"tags":{"x":1},"properties":{"desired":{"y":2}}})"),
        At(1)));
    EXPECT_EQ(w.etag, 2u);
    EXPECT_EQ(w.desired_version, 2);
    EXPECT_EQ(shard.sequence(), before + 1);
    EXPECT_EQ(Must(shard.ApplyPatch(at.row, TwinPatch(), At(2))), w);
    EXPECT_EQ(shard.sequence(), before + 1);
    EXPECT_EQ(shard.StateOf(at.row), w);
  }
  EXPECT_EQ(Shown(*index, "a", {"tags"}), R"({"x":1})");
}

TEST(ShardTest, MatchClearsOtherBits) {
  auto index = MakeIndex({.partition_count = 1});
  for (const char* id : {"a", "b", "c"}) {
    Put(*index, absl::StrCat(R"({"deviceId":")", id, R"(","tags":{"n":")", id,
                             R"("}})"));
  }
  ASSERT_TRUE(index->Erase("b", At(0)).ok());
  Shard& shard = index->shard(0);
  const auto match = [&](absl::string_view condition) {
    RowBitmap rows;
    rows.words.fill(~uint64_t{0});
    absl::ReaderMutexLock lock(&shard.mutex);
    Matcher(Where(condition)).Match(shard, &rows);
    EXPECT_EQ(rows.words[1], 0u);
    return rows.words[0];
  };
  EXPECT_EQ(match("*"), 0b101u);
  EXPECT_EQ(match("tags.n = 'c'"), 0b100u);
  EXPECT_EQ(match("tags.n = 'b'"), 0u);
  EXPECT_EQ(match("deviceId = 'a'"), 0b001u);
  EXPECT_EQ(match("deviceId IN ['c','a','b'] AND tags.n = 'c'"), 0b100u);
  EXPECT_EQ(match("deviceId = 'a' AND deviceId = 'c'"), 0u);
  EXPECT_EQ(match("deviceId != 'a'"), 0b100u);
}

TEST(TwinIndexTest, Candidates) {
  auto index = MakeIndex();
  for (int i = 0; i < 50; ++i) PutId(*index, absl::StrCat("d", i));
  EXPECT_FALSE(index->Candidates(Where("tags.x = 1")).has_value());
  EXPECT_FALSE(index->Candidates(Where("*")).has_value());
  const auto some =
      index->Candidates(Where("deviceId IN ['d7','d8','d9','nobody']"));
  ASSERT_TRUE(some.has_value());
  EXPECT_TRUE(some->exact);
  ASSERT_EQ(some->twins.size(), 3u);
  for (const TwinCandidates::Twin& twin : some->twins) {
    EXPECT_TRUE(twin.id == "d7" || twin.id == "d8" || twin.id == "d9");
    EXPECT_EQ(*index->Find(twin.id), twin.at);
  }
  EXPECT_FALSE(
      index->Candidates(Where("deviceId = 'd7' AND tags.x = 1"))->exact);
  EXPECT_TRUE(
      index->Candidates(Where("deviceId = 'd7' OR 'd8' = deviceId"))->exact);
}

// ----------------------------------------------------------------- observer

// Writes down what it sees, and rebuilds the twins elsewhere from that alone.
class Recorder final : public TwinObserver {
 public:
  explicit Recorder(TwinIndex* copy) : copy_(copy) {}

  void OnTwinChange(const TwinChange& change) override {
    const std::string id(change.device_id);
    TwinWrite copied;
    using Kind = TwinChange::Kind;
    switch (change.kind) {
      case Kind::kUpserted:
        EXPECT_TRUE(change.document.Find("properties")
                        .Find("desired")
                        .Find("$metadata")
                        .is_undefined());
        log += absl::StrCat("upserted ", id, ";");
        copied = Must(copy_->Upsert(change.document, change.time));
        break;
      case Kind::kIdentity:
        FAIL() << "no registry writes here";
      case Kind::kPatched:
        log += absl::StrCat("patched ", id, " v", change.after.version, ";");
        copied = Must(copy_->Patch(id, *change.patch, "", change.time));
        break;
      case Kind::kReplaced:
        log += absl::StrCat("replaced ", id, " v", change.after.version, ";");
        copied = Must(copy_->Replace(id, *change.patch, "", change.time));
        break;
      case Kind::kReported:
        log += absl::StrCat("reported ", id, " v",
                            change.after.reported_version, ";");
        copied = Must(copy_->PatchReported(id, *change.patch, change.time));
        break;
      case Kind::kErased:
        log += absl::StrCat("erased ", id, ";");
        EXPECT_TRUE(copy_->Erase(id, change.time).ok());
        return;
      case Kind::kConnected:
      case Kind::kDisconnected: {
        const bool connected = change.kind == Kind::kConnected;
        log +=
            absl::StrCat(connected ? "connected " : "disconnected ", id, ";");
        EXPECT_TRUE(copy_->SetConnected(id, connected, change.time).changed);
        EXPECT_EQ(change.after.connected, connected);
        return;
      }
      case Kind::kEnabled:
      case Kind::kDisabled: {
        const bool enabled = change.kind == Kind::kEnabled;
        log += absl::StrCat(enabled ? "enabled " : "disabled ", id, ";");
        EXPECT_TRUE(copy_->SetEnabled(id, enabled, change.time).ok());
        EXPECT_EQ(change.after.enabled, enabled);
        return;
      }
      case Kind::kLoaded:
        FAIL() << "nothing is loaded here";
    }
    EXPECT_EQ(copied, change.after) << log;
    const TwinLocation location = *copy_->Find(id);
    EXPECT_EQ(location.shard, change.shard);
    EXPECT_EQ(location.row, change.row);
  }

  std::string log;

 private:
  TwinIndex* const copy_;
};

TEST(ObserverTest, SeesEachWriteThatTookEffectOnceAndInOrder) {
  auto copy = MakeIndex({.partition_count = 1});
  Recorder recorder(copy.get());
  auto index = MakeIndex({.partition_count = 1, .observer = &recorder});
  Put(*index, kFullTwin);
  PutId(*index, "b");
  const TwinPatch patch = ServicePatch(
      R"({"tags":{"t":null},"properties":{"desired":{"d":{"e":1}}}})");
  Must(index->Patch("b", patch, "", At(1)));
  EXPECT_FALSE(index->Patch("b", patch, "\"other\"", At(1)).ok());
  Must(index->Patch("b", TwinPatch(), "", At(1)));
  Must(index->Replace("b", patch, "", At(2)));
  Must(index->PatchReported("b", DevicePatch(R"({"r":1})"), At(3)));
  Must(index->PatchReported("b", TwinPatch(), At(3)));
  index->SetConnected("b", false, At(4));
  index->SetConnected("b", true, At(4));
  index->SetConnected("b", false, At(5));
  EXPECT_TRUE(index->SetEnabled("b", true, At(6)).ok());
  EXPECT_TRUE(index->SetEnabled("b", false, At(6)).ok());
  EXPECT_TRUE(index->SetEnabled("b", true, At(6)).ok());
  Put(*index, R"({"deviceId":"thermo-042","etag":"AAAA3DEE="})", At(7));
  EXPECT_FALSE(index->Erase("nobody", At(8)).ok());
  {
    // A job journals its own writes.
    const TwinLocation at = *index->Find("b");
    Shard& shard = index->shard(at.shard);
    absl::MutexLock lock(&shard.mutex);
    EXPECT_TRUE(shard.ApplyPatch(at.row, patch, At(9)).ok());
  }
  Must(copy->Patch("b", patch, "", At(9)));
  EXPECT_EQ(recorder.log,
            "upserted thermo-042;upserted b;patched b v2;replaced b v3;"
            "reported b v2;connected b;disconnected b;disabled b;enabled b;"
            "upserted thermo-042;");
  for (const char* id : {"thermo-042", "b"}) {
    EXPECT_EQ(Shown(*index, id), Shown(*copy, id));
  }
  recorder.log.clear();
  EXPECT_TRUE(index->Erase("b", At(10)).ok());
  EXPECT_EQ(recorder.log, "erased b;");
  EXPECT_EQ(copy->size(), 1);
}

// ------------------------------------------------------------------- paths

// A shard has so many paths and no more; what makes none goes on.
TEST(PathLimitTest, NewNamesAreRefusedAndOldOnesAreNot) {
  auto index = MakeIndex({.partition_count = 1});
  // Each twin brings 1,001 paths of its own.
  const auto own_paths = [](int i) {
    std::string members;
    for (int k = 0; k < 1000; ++k) {
      absl::StrAppend(&members, k == 0 ? "" : ",", "\"k", k, "\":\"\"");
    }
    return absl::StrCat(R"({"g)", i, R"(":{)", members, "}}");
  };
  const auto twin = [&](int i) {
    return absl::StrCat(R"({"deviceId":"d)", i, R"(","tags":)", own_paths(i),
                        "}");
  };
  const int count = kShardPathsMax / 1001 + 1;
  for (int i = 0; i < count; ++i) Put(*index, twin(i));
  EXPECT_EQ(index->shard_count(), 1);

  const auto code_of = [&](absl::string_view patch) {
    const auto written = index->Patch("d0", ServicePatch(patch), "", At(1));
    return written.ok() ? 0 : static_cast<int>(ErrorCodeOf(written.status()));
  };
  const int refused = static_cast<int>(ErrorCode::kThrottlingException);
  EXPECT_EQ(code_of(R"({"tags":{"new":1}})"), refused);
  EXPECT_EQ(code_of(R"({"tags":{"g0":{"new":1}}})"), refused);
  EXPECT_EQ(code_of(R"({"properties":{"desired":{"new":1}}})"), refused);
  EXPECT_EQ(code_of(R"({"tags":{"g0":{"k1":1},"new":null}})"), 0);
  EXPECT_FALSE(
      index->PatchReported("d0", DevicePatch(R"({"new":1})"), At(1)).ok());
  EXPECT_FALSE(
      index
          ->Upsert(Parsed(R"({"deviceId":"d0","tags":{"new":1}})").view(),
                   At(1))
          .ok());
  EXPECT_EQ(Shown(*index, "d0", {"tags", "g0", "k1"}), "1");
  {
    const TwinLocation at = *index->Find("d0");
    Shard& shard = index->shard(at.shard);
    absl::MutexLock lock(&shard.mutex);
    EXPECT_EQ(
        ErrorCodeOf(
            shard.ApplyPatch(at.row, ServicePatch(R"({"tags":{"n":1}})"), At(1))
                .status()),
        ErrorCode::kThrottlingException);
  }

  // New twins go elsewhere.
  PutId(*index, "other");
  EXPECT_EQ(index->shard_count(), 2);
  // What nobody has any more makes room, for names and for twins.
  EXPECT_EQ(code_of(R"({"tags":null})"), 0);
  EXPECT_EQ(code_of(R"({"tags":{"new":1}})"), 0);
  ASSERT_TRUE(index->Erase("d1", At(2)).ok());
  ASSERT_TRUE(index->Erase("other", At(2)).ok());
  PutId(*index, "d1");
  EXPECT_EQ(index->shard_count(), 2);
  for (int i = 2; i < count; ++i) {
    EXPECT_EQ(Shown(*index, absl::StrCat("d", i), {"tags"}),
              JsonText(Parsed(own_paths(i)).view()));
  }
}

TEST(UpsertTest, ArraysThatTakeTooMuchRoom) {
  auto index = MakeIndex();
  const auto with_elements = [](int count) {
    std::string elements;
    for (int i = 0; i < count; ++i) {
      absl::StrAppend(&elements, i == 0 ? "" : ",", "null");
    }
    return absl::StrCat(R"({"deviceId":"a","tags":{"x":[)", elements, "]}}");
  };
  Put(*index, with_elements(60'000));  // Counts as nothing.
  const auto written =
      index->Upsert(Parsed(with_elements(70'000)).view(), At(0));
  EXPECT_EQ(ErrorCodeOf(written.status()), ErrorCode::kMessageTooLarge);
  EXPECT_NE(written.status().message().find("tags.x"), std::string::npos);
}

// ------------------------------------------------------------------- memory

TEST(MemoryTest, SmallTwinsAreSmall) {
  auto index = MakeIndex({.partition_count = 1});
  const int64_t before = index->MemoryUsage();
  const int count = 16'000;
  for (int i = 0; i < count; ++i) {
    Put(*index, absl::StrCat(R"({"deviceId":"device-)", i,
                             R"(","tags":{"site":"berlin"}})"));
  }
  EXPECT_LT((index->MemoryUsage() - before) / count, 200);
}

}  // namespace
}  // namespace muster
