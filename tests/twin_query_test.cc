// Contract 4.5 and 5.12: pages of statements over twins.
#include <algorithm>
#include <cstdint>
#include <functional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/model/error.h"
#include "engine/query/page_token.h"
#include "engine/twin/twin_document.h"
#include "engine/twin/twin_index.h"
#include "gtest/gtest.h"
#include "tests/twin_testing.h"

namespace muster {
namespace {

using Rows = std::vector<std::string>;

// d000 to d<count - 1>; tags.n is the number, tags.odd whether it is odd.
// Put in an order of their own.
std::unique_ptr<TwinIndex> Fleet(int count) {
  auto index = MakeIndex();
  for (int i = 0; i < count; ++i) {
    const int n = i * 7919 % count;
    const std::string id = absl::StrCat("d", n / 100, n / 10 % 10, n % 10);
    Put(*index, absl::StrCat(R"({"deviceId":")", id, R"(","tags":{"n":)", n,
                             n % 2 == 1 ? R"(,"odd":true)" : "", "}}"));
  }
  return index;
}

std::string Id(int n) {
  return absl::StrCat("d", n / 100, n / 10 % 10, n % 10);
}
std::string Row(int n) {
  return absl::StrCat(R"({"deviceId":")", Id(n), R"("})");
}

// All pages one behind the other.  `between` is called after each.
Rows Walk(const TwinIndex& index, absl::string_view text, int page_size,
          const std::function<void(int)>& between = [](int) {}) {
  const Statement statement = Select(text);
  Rows rows;
  std::string continuation;
  for (int page_number = 0;; ++page_number) {
    const TwinPage page =
        Must(index.Query(statement, page_size, continuation));
    EXPECT_LE(static_cast<int>(page.rows.size()), page_size);
    EXPECT_LE(page.continuation.size(), kPageTokenSizeMax);
    // The same again for the same continuation.
    const TwinPage again =
        Must(index.Query(statement, page_size, continuation));
    EXPECT_EQ(page.rows, again.rows);
    EXPECT_EQ(page.continuation, again.continuation);
    rows.insert(rows.end(), page.rows.begin(), page.rows.end());
    continuation = page.continuation;
    if (continuation.empty()) return rows;
    if (page_number > 10'000) {
      ADD_FAILURE() << "no end of pages";
      return rows;
    }
    between(page_number);
  }
}

TEST(TwinQueryTest, RowsAscendByDeviceIdWhateverThePageSize) {
  auto index = Fleet(300);
  Rows all;
  Rows odd;
  for (int n = 0; n < 300; ++n) {
    all.push_back(Row(n));
    if (n % 2 == 1) odd.push_back(Row(n));
  }
  for (const int page_size : {1, 7, 100, 299, 300, 301, 1'000'000}) {
    EXPECT_EQ(Walk(*index, "SELECT deviceId FROM devices", page_size), all);
    EXPECT_EQ(Walk(*index, "SELECT deviceId FROM devices WHERE tags.odd",
                   page_size),
              odd);
  }
}

TEST(TwinQueryTest, NoContinuationWhenNothingFollows) {
  auto index = Fleet(10);
  const Statement statement = Select("SELECT deviceId FROM devices");
  EXPECT_TRUE(Must(index->Query(statement, 10, "")).continuation.empty());
  EXPECT_FALSE(Must(index->Query(statement, 9, "")).continuation.empty());
  const auto empty = MakeIndex();
  const TwinPage page = Must(empty->Query(statement, 10, ""));
  EXPECT_TRUE(page.rows.empty());
  EXPECT_TRUE(page.continuation.empty());
}

TEST(TwinQueryTest, SelectAllGivesWholeTwins) {
  auto index = Fleet(3);
  const TwinPage page = Must(index->Query(
      Select("SELECT * FROM devices WHERE deviceId = 'd001'"), 100, ""));
  EXPECT_EQ(page.item_type, "Twin");
  ASSERT_EQ(page.rows.size(), 1u);
  std::string want;
  AppendTwinJson(Must(index->Get("d001")).document.view(), &want);
  EXPECT_EQ(page.rows[0], want);
}

TEST(TwinQueryTest, Projections) {
  auto index = MakeIndex();
  Put(*index, R"({"deviceId":"thermo-042","status":"enabled",
                  "lastActivityTime":"2024-03-01T12:30:45.123Z"})");
  Put(*index, R"({"deviceId":"thermo-043","status":"disabled"})");
  const TwinPage page = Must(index->Query(
      Select("SELECT deviceId, lastActivityTime, tags.none FROM devices WHERE "
             "status = 'enabled'"),
      100, ""));
  EXPECT_EQ(page.item_type, "Raw");
  EXPECT_EQ(page.rows, (Rows{R"({"deviceId":"thermo-042",)"
                             R"("lastActivityTime":"2024-03-01T12:30:45.123Z"})"}));
}

TEST(TwinQueryTest, PointAndListConditionsPageToo) {
  auto index = Fleet(300);
  EXPECT_EQ(Walk(*index,
                 "SELECT deviceId FROM devices WHERE deviceId IN "
                 "['d250','nobody','d003','d100','d004'] AND tags.n > 3",
                 1),
            (Rows{Row(4), Row(100), Row(250)}));
  EXPECT_EQ(Walk(*index,
                 "SELECT deviceId FROM devices WHERE deviceId = 'nobody'", 5),
            Rows());
}

TEST(TwinQueryTest, TopBoundsAllPagesTogether) {
  auto index = Fleet(100);
  Rows first_seven;
  for (int n = 0; n < 7; ++n) first_seven.push_back(Row(n));
  for (const int page_size : {1, 2, 3, 7, 100}) {
    EXPECT_EQ(Walk(*index, "SELECT TOP 7 deviceId FROM devices", page_size),
              first_seven);
  }
  EXPECT_EQ(
      Walk(*index, "SELECT TOP 1000 deviceId FROM devices", 33).size(), 100u);
  // No page after the last row that TOP allows.
  EXPECT_TRUE(Must(index->Query(Select("SELECT TOP 7 deviceId FROM devices"), 7,
                                ""))
                  .continuation.empty());
}

TEST(TwinQueryTest, DevicesThatComeAndGoBetweenPages) {
  auto index = Fleet(40);
  const Rows rows = Walk(
      *index, "SELECT deviceId FROM devices", 10, [&](int page) {
        if (page == 0) {
          PutId(*index, "d005b");    // Before the position: not shown.
          PutId(*index, "d020b");    // Behind it: shown.
          ASSERT_TRUE(index->Erase(Id(3), At(1)).ok());
          ASSERT_TRUE(index->Erase(Id(15), At(1)).ok());
          ASSERT_TRUE(index->Erase(Id(9), At(1)).ok());  // The position itself.
        }
      });
  Rows want;
  for (int n = 0; n < 40; ++n) {
    if (n != 15) want.push_back(Row(n));
    if (n == 20) want.push_back(R"({"deviceId":"d020b"})");
  }
  EXPECT_EQ(rows, want);
}

TEST(TwinQueryTest, RefusesDamagedAndForeignContinuations) {
  auto index = Fleet(30);
  const Statement statement = Select("SELECT deviceId FROM devices");
  const std::string token =
      Must(index->Query(statement, 10, "")).continuation;
  const auto refused = [&](const Statement& s, absl::string_view t) {
    const auto page = index->Query(s, 10, t);
    return !page.ok() &&
           ErrorCodeOf(page.status()) == ErrorCode::kArgumentInvalid;
  };
  for (size_t i = 0; i < token.size(); ++i) {
    std::string damaged = token;
    damaged[i] = damaged[i] == 'A' ? 'B' : 'A';
    EXPECT_TRUE(refused(statement, damaged)) << i;
  }
  EXPECT_TRUE(refused(statement, "x"));
  EXPECT_TRUE(refused(statement, token.substr(0, token.size() - 1)));
  EXPECT_TRUE(refused(statement, token + "A"));
  // Of another statement, or of another collection.
  EXPECT_TRUE(refused(Select("SELECT * FROM devices"), token));
  EXPECT_TRUE(refused(
      Select("SELECT COUNT() AS n FROM devices GROUP BY tags.n"), token));
  PageToken foreign;
  foreign.collection = "devices.jobs";
  foreign.statement_hash = statement.hash();
  foreign.last_key = {"d"};
  EXPECT_TRUE(refused(statement, EncodePageToken(foreign)));
  // Well made, but no position here.
  foreign.collection = "devices";
  foreign.last_key = {};
  EXPECT_TRUE(refused(statement, EncodePageToken(foreign)));
  foreign.last_key = {"d", "e"};
  EXPECT_TRUE(refused(statement, EncodePageToken(foreign)));
  EXPECT_FALSE(refused(statement, token));
}

TEST(TwinQueryTest, RefusesOtherCollectionsAndPageSizes) {
  auto index = Fleet(3);
  for (const auto& page :
       {index->Query(Select("SELECT * FROM devices.jobs"), 10, ""),
        index->Query(Select("SELECT * FROM devices"), 0, ""),
        index->Query(Select("SELECT * FROM devices"), -1, ""),
        index->Query(Select("SELECT * FROM devices"), kTwinPageSizeMax + 1,
                     "")}) {
    EXPECT_EQ(ErrorCodeOf(page.status()), ErrorCode::kArgumentInvalid)
        << page.status();
  }
}

TEST(TwinQueryTest, Aggregates) {
  auto index = Fleet(101);
  TwinPage page = Must(index->Query(
      Select("SELECT COUNT() AS total, SUM(tags.n) AS s, MIN(tags.n) AS lo, "
             "MAX(tags.n) AS hi, AVG(tags.n) AS a FROM devices"),
      100, ""));
  EXPECT_EQ(page.item_type, "Raw");
  EXPECT_EQ(page.rows,
            (Rows{R"({"total":101,"s":5050,"lo":0,"hi":100,"a":50})"}));
  page = Must(index->Query(
      Select("SELECT tags.odd AS odd, COUNT() AS n FROM devices WHERE tags.n < "
             "10 GROUP BY tags.odd"),
      100, ""));
  EXPECT_EQ(page.rows, (Rows{R"({"n":5})", R"({"odd":true,"n":5})"}));
  // Of no rows.
  page = Must(MakeIndex()->Query(Select("SELECT COUNT() AS n FROM devices"), 5,
                                 ""));
  EXPECT_EQ(page.rows, (Rows{R"({"n":0})"}));
}

TEST(TwinQueryTest, GroupsPageToo) {
  auto index = Fleet(50);
  Rows want;
  for (int n = 0; n < 50; ++n) {
    want.push_back(absl::StrCat(R"({"n":)", n, R"(,"c":1})"));
  }
  for (const int page_size : {1, 7, 50, 100}) {
    EXPECT_EQ(Walk(*index,
                   "SELECT tags.n AS n, COUNT() AS c FROM devices GROUP BY "
                   "tags.n",
                   page_size),
              want);
  }
  want.resize(12);
  EXPECT_EQ(Walk(*index,
                 "SELECT TOP 12 tags.n AS n, COUNT() AS c FROM devices GROUP BY "
                 "tags.n",
                 5),
            want);
}

// Ids of all lengths and in random order, against sorting them.
TEST(TwinQueryTest, RandomIds) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  auto index = MakeIndex({.partition_count = 3});
  std::set<std::string> ids;
  while (ids.size() < 400) {
    std::string id;
    const int size = 1 + static_cast<int>(random() % 20);
    for (int i = 0; i < size; ++i) id.push_back("aAzZ09-_:"[random() % 9]);
    if (ids.insert(id).second) PutId(*index, id);
  }
  Rows want;
  for (const std::string& id : ids) {
    want.push_back(absl::StrCat(R"({"deviceId":")", id, R"("})"));
  }
  for (int i = 0; i < 5; ++i) {
    const int page_size = 1 + static_cast<int>(random() % 60);
    EXPECT_EQ(Walk(*index, "SELECT deviceId FROM devices", page_size), want);
  }
}

// ------------------------------------------------------------- explanations

TEST(TwinQueryTest, ExplainsPlans) {
  auto index = MakeIndex({.partition_count = 1});
  for (int i = 0; i < 100; ++i) {
    Put(*index, absl::StrCat(R"({"deviceId":"d)", i, R"(","tags":{"even":)",
                             i % 2 == 0 ? "true" : "false", R"(,"n":)", i,
                             "}}"));
  }
  int64_t clock = 0;
  const auto explain = [&](absl::string_view condition) {
    return index->Explain(Where(condition), [&clock] { return clock += 10; });
  };
  const MatchExplanation both = explain("tags.even = true AND tags.n < 10");
  EXPECT_EQ(both.shards, 1);
  EXPECT_EQ(both.rows_in, 100);
  EXPECT_EQ(both.rows_out, 5);
  EXPECT_GT(both.nanoseconds, 0);
  ASSERT_EQ(both.steps.size(), 2u);
  EXPECT_EQ(both.steps[0].rows_in, 100);
  EXPECT_EQ(both.steps[1].rows_in, both.steps[0].rows_out);
  EXPECT_EQ(both.steps[1].rows_out, 5);
  for (const MatchExplanation::Step& step : both.steps) {
    EXPECT_TRUE(step.condition == "tags.even = TRUE" ||
                step.condition == "tags.n < 10")
        << step.condition;
    ASSERT_EQ(step.forms.size(), 1u);
    EXPECT_EQ(step.forms[0].shards, 1);
  }

  const MatchExplanation named = explain("deviceId IN ['d1','d2','nobody']");
  EXPECT_EQ(named.rows_out, 2);
  ASSERT_EQ(named.steps.size(), 2u);
  EXPECT_EQ(named.steps[0].forms[0].text, "id table");
  EXPECT_EQ(named.steps[1].values_examined, 0);

  EXPECT_EQ(explain("*").rows_out, 100);
}

TEST(TwinQueryTest, CountsWithoutReadingRows) {
  auto index = MakeIndex();
  for (int i = 0; i < 50; ++i) {
    Put(*index, absl::StrCat(R"({"deviceId":"d)", i, R"(","tags":{"n":)", i,
                             "}}"));
  }
  const auto page = [&](absl::string_view statement) {
    return Must(index->Query(Select(statement), 10, "")).rows;
  };
  EXPECT_EQ(page("SELECT COUNT() AS n FROM devices WHERE tags.n >= 20"),
            std::vector<std::string>{R"({"n":30})"});
  EXPECT_EQ(page("SELECT COUNT() AS n, COUNT() AS m FROM devices"),
            std::vector<std::string>{R"({"n":50,"m":50})"});
  EXPECT_EQ(page("SELECT COUNT() AS n FROM devices WHERE deviceId = 'd7'"),
            std::vector<std::string>{R"({"n":1})"});
}

}  // namespace
}  // namespace muster
