// TwinService through a real server on a real socket: what each call answers,
// and each error with its code, number and field.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/model/error.h"
#include "engine/model/json.h"
#include "engine/query/parse_error.h"
#include "grpcpp/client_context.h"
#include "gtest/gtest.h"
#include "tests/grpc_fixture.h"
#include "transport/grpc/status.h"

namespace muster {
namespace {

void ExpectError(const absl::Status& status, ErrorCode code,
                 absl::string_view field = "") {
  EXPECT_EQ(ErrorCodeOf(status), code) << status;
  EXPECT_EQ(status.code(), ErrorInfoOf(code).canonical) << status;
  EXPECT_EQ(FieldOf(status), field) << status;
}

// The section as text, without what the hub keeps in it.
std::string Section(const v1::Twin& twin, bool tags) {
  absl::StatusOr<Json> json = ParseJson(twin.document());
  if (!json.ok()) return std::string(json.status().message());
  const JsonView section =
      tags ? json->view().Find("tags")
           : json->view().Find("properties").Find("desired");
  std::string text;
  JsonWriter writer(&text);
  writer.BeginObject();
  for (const JsonView::Member& member : section.members()) {
    if (absl::StartsWith(member.key, "$")) continue;
    writer.Key(member.key).Value(member.value);
  }
  writer.EndObject();
  return text;
}
std::string Tags(const v1::Twin& twin) { return Section(twin, true); }
std::string Desired(const v1::Twin& twin) { return Section(twin, false); }

v1::UpdateTwinRequest Patch(absl::string_view patch,
                            absl::string_view etag = "") {
  v1::UpdateTwinRequest request;
  request.mutable_twin()->set_name("twins/d1");
  request.mutable_twin()->set_etag(std::string(etag));
  request.set_merge_patch(std::string(patch));
  return request;
}

v1::UpdateTwinRequest Masked(absl::string_view document,
                             std::vector<std::string> paths,
                             absl::string_view etag = "") {
  v1::UpdateTwinRequest request;
  request.mutable_twin()->set_name("twins/d1");
  request.mutable_twin()->set_etag(std::string(etag));
  request.mutable_twin()->set_document(std::string(document));
  request.mutable_update_mask();
  for (std::string& path : paths) {
    request.mutable_update_mask()->add_paths(std::move(path));
  }
  return request;
}

v1::ReplaceTwinRequest Replace(absl::string_view document,
                               absl::string_view etag = "") {
  v1::ReplaceTwinRequest request;
  request.mutable_twin()->set_name("twins/d1");
  request.mutable_twin()->set_etag(std::string(etag));
  request.mutable_twin()->set_document(std::string(document));
  return request;
}

// ------------------------------------------------------------------------ get

TEST(GrpcTwinServiceTest, Get) {
  GrpcHub hub;
  hub.AddDevice("d1", R"("tags":{"n":4503599627370495})");
  absl::StatusOr<v1::Twin> twin = hub.client().GetTwin("twins/d1");
  ASSERT_TRUE(twin.ok()) << twin.status();
  EXPECT_EQ(twin->name(), "twins/d1");
  EXPECT_EQ(twin->version(), 1);
  EXPECT_FALSE(twin->etag().empty());
  EXPECT_TRUE(absl::StartsWith(
      twin->document(),
      absl::StrCat(R"({"deviceId":"d1","etag":")", twin->etag(), "\"")))
      << twin->document();
  EXPECT_EQ(Tags(*twin), R"({"n":4503599627370495})");
}

TEST(GrpcTwinServiceTest, NamesThatAreNone) {
  GrpcHub hub;
  for (const char* name :
       {"", "d1", "twins", "twins/", "twins/a/b", "jobs/d1", "/twins/d1"}) {
    SCOPED_TRACE(name);
    ExpectError(hub.client().GetTwin(name).status(),
                ErrorCode::kArgumentInvalid, "name");
    ExpectError(hub.client().DeleteTwin(name), ErrorCode::kArgumentInvalid,
                "name");
    v1::UpdateTwinRequest update = Patch("{}");
    update.mutable_twin()->set_name(name);
    ExpectError(hub.client().UpdateTwin(update).status(),
                ErrorCode::kArgumentInvalid, "twin.name");
    v1::ReplaceTwinRequest replace = Replace("{}");
    replace.mutable_twin()->set_name(name);
    ExpectError(hub.client().ReplaceTwin(replace).status(),
                ErrorCode::kArgumentInvalid, "twin.name");
  }
  constexpr ErrorCode kMissing = ErrorCode::kDeviceNotFound;
  ExpectError(hub.client().GetTwin("twins/d1").status(), kMissing);
  ExpectError(hub.client().DeleteTwin("twins/d1"), kMissing);
  ExpectError(hub.client().UpdateTwin(Patch("{}")).status(), kMissing);
  ExpectError(hub.client().UpdateTwin(Masked("{}", {"tags.a"})).status(),
              kMissing);
  ExpectError(hub.client().UpdateTwin(Masked("{}", {"tags"})).status(),
              kMissing);
  ExpectError(hub.client().ReplaceTwin(Replace("{}")).status(), kMissing);
}

// --------------------------------------------------------------------- update

TEST(GrpcTwinServiceTest, MergePatch) {
  GrpcHub hub;
  hub.AddDevice("d1", R"("tags":{"a":1,"b":{"c":2,"d":3}})");
  absl::StatusOr<v1::Twin> twin =
      hub.client().UpdateTwin(Patch(R"({"tags":{"a":null,"b":{"c":4}},
                "properties":{"desired":{"x":1}}})"));
  ASSERT_TRUE(twin.ok()) << twin.status();
  EXPECT_EQ(Tags(*twin), R"({"b":{"c":4,"d":3}})");
  EXPECT_EQ(Desired(*twin), R"({"x":1})");
  EXPECT_EQ(twin->version(), 2);

  // Etags: in any spelling of the public hub's, and any at all.
  const std::string etag = twin->etag();
  for (const std::string& right :
       {etag, absl::StrCat("\"", etag, "\""), std::string("*")}) {
    twin = hub.client().UpdateTwin(Patch("{}", right));
    EXPECT_TRUE(twin.ok()) << twin.status();
  }
  ASSERT_TRUE(hub.client().UpdateTwin(Patch(R"({"tags":{"z":1}})", etag)).ok());
  ExpectError(
      hub.client().UpdateTwin(Patch(R"({"tags":{"z":2}})", etag)).status(),
      ErrorCode::kPreconditionFailed);
  EXPECT_EQ(Tags(*hub.client().GetTwin("twins/d1")),
            R"({"b":{"c":4,"d":3},"z":1})");
}

TEST(GrpcTwinServiceTest, ErrorsOfPatches) {
  GrpcHub hub;
  hub.AddDevice("d1");
  const auto error = [&](ErrorCode code, absl::string_view patch) {
    ExpectError(hub.client().UpdateTwin(Patch(patch)).status(), code,
                "merge_patch");
  };
  error(ErrorCode::kIotHubFormatError, "{");
  error(ErrorCode::kIotHubFormatError, "{\"tags\":{\"a\":\"\xff\"}}");
  error(ErrorCode::kIotHubFormatError, R"({"tags":{},"tags":{}})");
  error(ErrorCode::kArgumentInvalid, "[]");
  error(ErrorCode::kArgumentInvalid, R"({"tags":3})");
  error(ErrorCode::kArgumentInvalid, R"({"tags":{"a.b":3}})");
  error(ErrorCode::kArgumentInvalid, R"({"tags":{"a":9007199254740993}})");
  std::string deep = "1";
  for (int i = 0; i < 12; ++i) deep = absl::StrCat(R"({"a":)", deep, "}");
  error(ErrorCode::kArgumentInvalid, absl::StrCat(R"({"tags":)", deep, "}"));
  const std::string part(3000, 'x');
  error(ErrorCode::kMessageTooLarge,
        absl::StrCat(R"({"tags":{"a":")", part, R"(","b":")", part,
                     R"(","c":")", part, R"("}})"));
  ExpectError(hub.client().UpdateTwin(Patch("")).status(),
              ErrorCode::kArgumentInvalid, "merge_patch");
  v1::UpdateTwinRequest both = Masked("{}", {"tags"});
  both.set_merge_patch("{}");
  ExpectError(hub.client().UpdateTwin(both).status(),
              ErrorCode::kArgumentInvalid, "merge_patch");
}

TEST(GrpcTwinServiceTest, Masks) {
  constexpr char kTwin[] =
      R"("tags":{"a":1,"b":{"c":2,"d":3}},"properties":{"desired":{"x":1}})";
  constexpr struct {
    const char* document;
    std::vector<std::string> (*paths)();
    const char* tags;
    const char* desired;
  } kCases[] = {
      // Whole sections.
      {R"({"tags":{"n":1},"properties":{"desired":{"y":2}}})",
       [] { return std::vector<std::string>{"tags"}; }, R"({"n":1})",
       R"({"x":1})"},
      {R"({"tags":{"n":1},"properties":{"desired":{"y":2}}})",
       [] { return std::vector<std::string>{"tags", "properties.desired"}; },
       R"({"n":1})", R"({"y":2})"},
      {"", [] { return std::vector<std::string>{"properties.desired"}; },
       R"({"a":1,"b":{"c":2,"d":3}})", "{}"},
      // Members: set, not merged.
      {R"({"tags":{"b":{"e":5}}})",
       [] { return std::vector<std::string>{"tags.b"}; },
       R"({"a":1,"b":{"e":5}})", R"({"x":1})"},
      {R"({"tags":{"b":{"e":5}}})",
       [] { return std::vector<std::string>{"tags.b.e"}; },
       R"({"a":1,"b":{"c":2,"d":3,"e":5}})", R"({"x":1})"},
      {R"({"tags":{"b":{"c":9}}})",
       [] { return std::vector<std::string>{"tags.b.c"}; },
       R"({"a":1,"b":{"c":9,"d":3}})", R"({"x":1})"},
      // What the document lacks, or has as null, is removed.
      {"{}", [] { return std::vector<std::string>{"tags.b.c"}; },
       R"({"a":1,"b":{"d":3}})", R"({"x":1})"},
      {R"({"tags":{"b":null}})",
       [] { return std::vector<std::string>{"tags.b"}; }, R"({"a":1})",
       R"({"x":1})"},
      {"{}", [] { return std::vector<std::string>{"tags.none.of.it"}; },
       R"({"a":1,"b":{"c":2,"d":3}})", R"({"x":1})"},
      {"{}", [] { return std::vector<std::string>{"tags.a.below"}; },
       R"({"a":1,"b":{"c":2,"d":3}})", R"({"x":1})"},
      // What is in the way of a path gives way.
      {R"({"tags":{"a":{"p":{"q":7}}}})",
       [] { return std::vector<std::string>{"tags.a.p.q"}; },
       R"({"a":{"p":{"q":7}},"b":{"c":2,"d":3}})", R"({"x":1})"},
      // Several at once.
      {R"({"tags":{"a":5},"properties":{"desired":{"x":2,"y":3,"z":4}}})",
       [] {
         return std::vector<std::string>{"tags.a", "tags.b.d",
                                         "properties.desired.y",
                                         "properties.desired.x"};
       },
       R"({"a":5,"b":{"c":2}})", R"({"x":2,"y":3})"},
  };
  GrpcHub hub;
  for (const auto& c : kCases) {
    hub.AddDevice("d1", kTwin);
    absl::StatusOr<v1::Twin> twin =
        hub.client().UpdateTwin(Masked(c.document, c.paths()));
    ASSERT_TRUE(twin.ok()) << twin.status();
    EXPECT_EQ(Tags(*twin), c.tags) << absl::StrJoin(c.paths(), ",");
    EXPECT_EQ(Desired(*twin), c.desired) << absl::StrJoin(c.paths(), ",");
  }
}

TEST(GrpcTwinServiceTest, ErrorsOfMasks) {
  GrpcHub hub;
  hub.AddDevice("d1", R"("tags":{"a":1})");
  const auto error = [&](std::vector<std::string> paths) {
    ExpectError(
        hub.client().UpdateTwin(Masked("{}", std::move(paths))).status(),
        ErrorCode::kArgumentInvalid, "update_mask");
  };
  error({});
  error({""});
  error({"*"});
  error({"deviceId"});
  error({"properties"});
  error({"properties.reported"});
  error({"properties.reported.x"});
  error({"tags."});
  error({"tags..a"});
  error({"tags", "status"});
  error(std::vector<std::string>(101, "tags.a"));
  EXPECT_TRUE(
      hub.client()
          .UpdateTwin(Masked("{}", std::vector<std::string>(100, "tags.a")))
          .ok());
  ExpectError(hub.client().UpdateTwin(Masked("{", {"tags"})).status(),
              ErrorCode::kIotHubFormatError, "twin.document");
  ExpectError(hub.client().UpdateTwin(Masked("[]", {"tags"})).status(),
              ErrorCode::kArgumentInvalid, "twin.document");
  ExpectError(hub.client()
                  .UpdateTwin(Masked(R"({"tags":{"b c":1}})", {"tags.b c"}))
                  .status(),
              ErrorCode::kArgumentInvalid, "twin.document");
  const std::string etag = hub.client().GetTwin("twins/d1")->etag();
  ASSERT_TRUE(hub.client().UpdateTwin(Patch(R"({"tags":{"n":1}})")).ok());
  for (const char* path : {"tags", "tags.a"}) {
    ExpectError(hub.client()
                    .UpdateTwin(Masked(R"({"tags":{"a":2}})", {path}, etag))
                    .status(),
                ErrorCode::kPreconditionFailed);
  }
}

// Changes of different members do not undo each other, although each reads the
// twin before it writes it.
TEST(GrpcTwinServiceTest, MasksAtTheSameTime) {
  GrpcHub hub;
  hub.AddDevice("d1");
  constexpr int kThreads = 4, kUpdates = 25;
  std::atomic<int> aborted{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 1; i <= kUpdates;) {
        absl::StatusOr<v1::Twin> twin = hub.client().UpdateTwin(
            Masked(absl::StrCat(R"({"tags":{"t)", t, R"(":{"n":)", i, "}}}"),
                   {absl::StrCat("tags.t", t, ".n")}));
        // It tries so often and not for ever.
        if (absl::IsAborted(twin.status())) {
          ++aborted;
          continue;
        }
        ASSERT_TRUE(twin.ok()) << twin.status();
        EXPECT_TRUE(absl::StrContains(
            Tags(*twin), absl::StrCat("\"t", t, "\":{\"n\":", i, "}")));
        ++i;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Tags(*hub.client().GetTwin("twins/d1")),
            R"({"t0":{"n":25},"t1":{"n":25},"t2":{"n":25},"t3":{"n":25}})");
  EXPECT_LT(aborted, kThreads * kUpdates / 4);
}

// ------------------------------------------------------------- replace, delete

TEST(GrpcTwinServiceTest, Replace) {
  GrpcHub hub;
  hub.AddDevice("d1", R"("tags":{"a":1},"properties":{"desired":{"x":1}})");
  absl::StatusOr<v1::Twin> twin =
      hub.client().ReplaceTwin(Replace(R"({"tags":{"b":2}})"));
  ASSERT_TRUE(twin.ok()) << twin.status();
  EXPECT_EQ(Tags(*twin), R"({"b":2})");
  EXPECT_EQ(Desired(*twin), R"({"x":1})");
  const std::string etag = twin->etag();
  ASSERT_TRUE(
      hub.client().ReplaceTwin(Replace(R"({"tags":{"b":3}})", etag)).ok());
  ExpectError(
      hub.client().ReplaceTwin(Replace(R"({"tags":{"b":4}})", etag)).status(),
      ErrorCode::kPreconditionFailed);
  // What was read can be written back.
  twin = hub.client().GetTwin("twins/d1");
  twin = hub.client().ReplaceTwin(Replace(twin->document(), twin->etag()));
  ASSERT_TRUE(twin.ok()) << twin.status();
  EXPECT_EQ(Tags(*twin), R"({"b":3})");

  constexpr char kField[] = "twin.document";
  ExpectError(hub.client().ReplaceTwin(Replace("")).status(),
              ErrorCode::kIotHubFormatError, kField);
  ExpectError(hub.client().ReplaceTwin(Replace("3")).status(),
              ErrorCode::kArgumentInvalid, kField);
  ExpectError(
      hub.client().ReplaceTwin(Replace(R"({"deviceId":"d2"})")).status(),
      ErrorCode::kArgumentInvalid, kField);
  ExpectError(
      hub.client().ReplaceTwin(Replace(R"({"tags":{"a b":2}})")).status(),
      ErrorCode::kArgumentInvalid, kField);
}

TEST(GrpcTwinServiceTest, ReplaceWhatIsNotThere) {
  GrpcHub hub;
  v1::ReplaceTwinRequest request =
      Replace(R"({"deviceId":"d1","tags":{"b":2},"status":"disabled"})");
  ExpectError(hub.client().ReplaceTwin(request).status(),
              ErrorCode::kDeviceNotFound);
  request.set_allow_missing(true);
  request.mutable_twin()->set_etag("AAAAAAAAAAE=");
  ExpectError(hub.client().ReplaceTwin(request).status(),
              ErrorCode::kPreconditionFailed);
  request.mutable_twin()->clear_etag();
  absl::StatusOr<v1::Twin> twin = hub.client().ReplaceTwin(request);
  ASSERT_TRUE(twin.ok()) << twin.status();
  EXPECT_EQ(Tags(*twin), R"({"b":2})");
  EXPECT_TRUE(absl::StrContains(twin->document(), R"("status":"disabled")"));

  request = Replace(R"({"tags":{"c":2}})");
  request.mutable_twin()->set_name("twins/bad id");
  request.set_allow_missing(true);
  ExpectError(hub.client().ReplaceTwin(request).status(),
              ErrorCode::kArgumentInvalid, "twin.document");
}

TEST(GrpcTwinServiceTest, Delete) {
  GrpcHub hub;
  hub.AddDevice("d1");
  EXPECT_TRUE(hub.client().DeleteTwin("twins/d1").ok());
  ExpectError(hub.client().DeleteTwin("twins/d1"), ErrorCode::kDeviceNotFound);
}

// ---------------------------------------------------------------------- query

TEST(GrpcTwinServiceTest, PagesOfRows) {
  GrpcHub hub;
  for (int i = 0; i < 25; ++i) {
    hub.AddDevice(absl::StrCat("d", 100 + i),
                  absl::StrCat(R"("tags":{"n":)", i, "}"));
  }
  v1::QueryTwinsRequest request;
  request.set_query("SELECT deviceId FROM devices WHERE tags.n >= 5");
  request.set_page_size(8);
  std::vector<std::string> rows;
  std::vector<int> sizes;
  do {
    absl::StatusOr<v1::QueryTwinsResponse> page =
        hub.client().QueryTwins(request);
    ASSERT_TRUE(page.ok()) << page.status();
    EXPECT_EQ(page->item_type(), "Raw");
    rows.insert(rows.end(), page->rows().begin(), page->rows().end());
    sizes.push_back(page->rows_size());
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty());
  EXPECT_EQ(rows.size(), 20);
  EXPECT_TRUE(std::is_sorted(rows.begin(), rows.end()));
  EXPECT_EQ(rows[0], R"({"deviceId":"d105"})");
  EXPECT_EQ(absl::StrJoin(sizes, " "), "8 8 4");

  request.Clear();
  request.set_query("SELECT COUNT() AS n FROM devices");
  absl::StatusOr<v1::QueryTwinsResponse> count =
      hub.client().QueryTwins(request);
  ASSERT_TRUE(count.ok()) << count.status();
  EXPECT_EQ(count->rows(0), R"({"n":25})");

  request.set_query("SELECT * FROM devices.jobs");
  absl::StatusOr<v1::QueryTwinsResponse> jobs =
      hub.client().QueryTwins(request);
  ASSERT_TRUE(jobs.ok()) << jobs.status();
  EXPECT_EQ(jobs->item_type(), "DeviceJob");
}

TEST(GrpcTwinServiceTest, ErrorsOfQueries) {
  GrpcHub hub;
  hub.AddDevice("d1");
  hub.AddDevice("d2");
  v1::QueryTwinsRequest request;
  const auto error = [&](absl::string_view field) {
    ExpectError(hub.client().QueryTwins(request).status(),
                ErrorCode::kArgumentInvalid, field);
  };
  error("query");
  request.set_query("SELECT * FROM devices WHERE");
  error("query");
  const absl::Status status = hub.client().QueryTwins(request).status();
  const std::optional<ParseError> parse = ParseErrorOf(status);
  ASSERT_TRUE(parse.has_value()) << status;
  EXPECT_EQ(parse->position.line, 1);
  request.set_query("SELECT * FROM elsewhere");
  error("query");
  request.set_query(absl::StrCat("SELECT * FROM devices WHERE a = '",
                                 std::string(8192, 'x'), "'"));
  error("query");
  request.set_query("SELECT * FROM devices");
  request.set_page_size(-1);
  error("page_size");
  request.set_page_size(1);
  request.set_page_token("?");
  error("page_token");
  request.clear_page_token();
  absl::StatusOr<v1::QueryTwinsResponse> page =
      hub.client().QueryTwins(request);
  ASSERT_TRUE(page.ok());
  request.set_page_token(page->next_page_token());
  request.set_query("SELECT * FROM devices WHERE tags.x = 1");
  error("page_token");

  grpc::ClientContext context;
  v1::StreamTwinsRequest stream;
  stream.set_query("SELECT");
  ExpectError(
      FromGrpcStatus(hub.Twins()->StreamTwins(&context, stream)->Finish()),
      ErrorCode::kArgumentInvalid, "query");
}

// Large rows: a page ends at a megabyte, and no row is lost or comes twice.
TEST(GrpcTwinServiceTest, PagesAndStreamsOfLargeRows) {
  GrpcHub hub;
  const std::string part(4000, 'x');
  constexpr int kTwins = 1200;
  for (int i = 0; i < kTwins; ++i) {
    // From 100 bytes to 8 KB.
    std::string tags = R"("tags":{)";
    if (i % 3 >= 1) absl::StrAppend(&tags, R"("a":")", part, "\"");
    if (i % 3 >= 2) absl::StrAppend(&tags, R"(,"b":")", part, "\"");
    tags += "}";
    hub.AddDevice(absl::StrCat("d", 10'000 + i), tags);
  }
  const auto id_of = [](absl::string_view row) {
    return std::string(row.substr(0, row.find(',')));
  };
  std::vector<std::string> expected;
  for (int i = 0; i < kTwins; ++i) {
    expected.push_back(absl::StrCat(R"({"deviceId":"d)", 10'000 + i, "\""));
  }
  v1::QueryTwinsRequest request;
  request.set_query("SELECT * FROM devices");
  request.set_page_size(10'000);
  std::vector<std::string> ids;
  int pages = 0;
  do {
    absl::StatusOr<v1::QueryTwinsResponse> page =
        hub.client().QueryTwins(request);
    ASSERT_TRUE(page.ok()) << page.status();
    EXPECT_LE(page->ByteSizeLong(), (1 << 20) + (1 << 14));
    for (const std::string& row : page->rows()) ids.push_back(id_of(row));
    request.set_page_token(page->next_page_token());
    ++pages;
  } while (!request.page_token().empty());
  EXPECT_EQ(ids, expected);
  EXPECT_GE(pages, 5);

  ids.clear();
  const absl::Status status = hub.client().StreamTwins(
      "SELECT * FROM devices", [&](absl::string_view row) {
        ids.push_back(id_of(row));
        return true;
      });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(ids, expected);
  // A caller may have enough.
  int rows = 0;
  EXPECT_TRUE(hub.client()
                  .StreamTwins("SELECT * FROM devices",
                               [&](absl::string_view) { return ++rows < 10; })
                  .ok());
  EXPECT_EQ(rows, 10);
  int none = 0;
  EXPECT_TRUE(hub.client()
                  .StreamTwins("SELECT * FROM devices WHERE tags.none = 1",
                               [&](absl::string_view) { return ++none > 0; })
                  .ok());
  EXPECT_EQ(none, 0);
}

// --------------------------------------------------------------------- import

TEST(GrpcTwinServiceTest, Import) {
  GrpcHub hub;
  hub.AddDevice("d7", R"("tags":{"old":1})");
  constexpr int kTwins = 5000;
  int next = 0;
  int64_t sent = 0;
  absl::StatusOr<v1::ImportTwinsResponse> result = hub.client().ImportTwins(
      [&](std::string* document) {
        if (next == kTwins) return false;
        *document =
            absl::StrCat(R"({"deviceId":")", next % 100 == 99 ? "b " : "d",
                         next, R"(","tags":{"n":)", next, "}}");
        ++next;
        return true;
      },
      [&](int64_t count) {
        EXPECT_GT(count, sent);
        sent = count;
      });
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(sent, kTwins);
  EXPECT_EQ(result->imported_count(), kTwins - 50);
  EXPECT_EQ(result->failed_count(), 50);
  ASSERT_EQ(result->failures_size(), 50);
  EXPECT_EQ(result->failures(0).index(), 99);
  EXPECT_EQ(result->failures(49).index(), 4999);
  EXPECT_EQ(ErrorCodeOf(FromRpcStatus(result->failures(0).error())),
            ErrorCode::kArgumentInvalid);
  EXPECT_EQ(hub.engine().TwinCount(), kTwins - 50);
  EXPECT_EQ(Tags(*hub.client().GetTwin("twins/d7")), R"({"n":7})");
}

TEST(GrpcTwinServiceTest, AnImportOfNothingAndOneOfRubbish) {
  GrpcHub hub;
  const auto none = [](std::string*) { return false; };
  absl::StatusOr<v1::ImportTwinsResponse> result =
      hub.client().ImportTwins(none, [](int64_t) { ADD_FAILURE(); });
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->imported_count(), 0);

  int next = 0;
  result = hub.client().ImportTwins(
      [&](std::string* document) {
        *document = "rubbish";
        return ++next <= 250;
      },
      [](int64_t) {});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->failed_count(), 250);
  EXPECT_EQ(result->failures_size(), 100);  // The first ones.
  EXPECT_EQ(result->failures(99).index(), 99);
  EXPECT_EQ(ErrorCodeOf(FromRpcStatus(result->failures(0).error())),
            ErrorCode::kIotHubFormatError);
}

TEST(GrpcTwinServiceTest, ErrorsOfImports) {
  GrpcHub hub;
  const auto twins = hub.Twins();
  {
    grpc::ClientContext context;
    v1::ImportTwinsResponse response;
    const auto writer = twins->ImportTwins(&context, &response);
    v1::ImportTwinsRequest request;
    for (int i = 0; i < 1001; ++i) request.add_documents("{}");
    writer->Write(request);
    ExpectError(FromGrpcStatus(writer->Finish()), ErrorCode::kArgumentInvalid,
                "documents");
  }
  {
    // A caller that goes away in the middle: what it sent is there.
    grpc::ClientContext context;
    v1::ImportTwinsResponse response;
    const auto writer = twins->ImportTwins(&context, &response);
    v1::ImportTwinsRequest request;
    request.add_documents(R"({"deviceId":"first"})");
    ASSERT_TRUE(writer->Write(request));
    while (hub.engine().TwinCount() == 0) std::this_thread::yield();
    context.TryCancel();
    EXPECT_EQ(writer->Finish().error_code(), grpc::CANCELLED);
  }
  hub.engine().Stop();
  grpc::ClientContext context;
  v1::ImportTwinsResponse response;
  const auto writer = twins->ImportTwins(&context, &response);
  v1::ImportTwinsRequest request;
  request.add_documents(R"({"deviceId":"second"})");
  writer->Write(request);
  ExpectError(FromGrpcStatus(writer->Finish()), ErrorCode::kServiceUnavailable);
}

}  // namespace
}  // namespace muster
