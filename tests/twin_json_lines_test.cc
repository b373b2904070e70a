#include "engine/twin/json_lines.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "engine/model/error.h"
#include "engine/twin/twin_index.h"
#include "gtest/gtest.h"
#include "tests/twin_testing.h"

namespace muster {
namespace {

using Loaded = JsonLinesLoader::Loaded;

absl::StatusOr<Loaded> Load(TwinIndex* index, absl::string_view text,
                            const JsonLinesLoader::Options& options = {}) {
  JsonLinesLoader loader(index, options);
  loader.Add(text, 1);
  return loader.Commit(At(0));
}

std::string Line(int n) {
  return absl::StrCat(R"({"deviceId":"d)", n, R"(","tags":{"n":)", n, "}}\n");
}
std::string Lines(int count) {
  std::string text;
  for (int n = 1; n <= count; ++n) text += Line(n);
  return text;
}

TEST(JsonLinesTest, LoadsEveryLine) {
  auto index = MakeIndex();
  const Loaded loaded = Must(Load(index.get(), Lines(1000)));
  EXPECT_EQ(loaded.twin_count, 1000);
  EXPECT_EQ(loaded.skipped_count, 0);
  EXPECT_EQ(index->size(), 1000);
  EXPECT_EQ(Shown(*index, "d77", {"tags"}), R"({"n":77})");
  // As Upsert() makes it, and of the instant of the commit.
  auto other = MakeIndex();
  Put(*other, Line(77));
  EXPECT_EQ(Shown(*index, "d77"), Shown(*other, "d77"));
}

TEST(JsonLinesTest, LineEnds) {
  for (const absl::string_view text :
       {"{\"deviceId\":\"a\"}\n{\"deviceId\":\"b\"}\n",
        "{\"deviceId\":\"a\"}\n{\"deviceId\":\"b\"}",
        "{\"deviceId\":\"a\"}\r\n{\"deviceId\":\"b\"}\r\n",
        "\n\n{\"deviceId\":\"a\"}\r\n\r\n  \t\n{\"deviceId\":\"b\"}\r",
        "\xEF\xBB\xBF{\"deviceId\":\"a\"}\n {\"deviceId\" : \"b\"} \n",
        "\xEF\xBB\xBF\n{\"deviceId\":\"a\"}\n{\"deviceId\":\"b\"}\n\n\n"}) {
    auto index = MakeIndex();
    EXPECT_EQ(Must(Load(index.get(), text)).twin_count, 2) << text;
    EXPECT_TRUE(index->Find("a").has_value());
    EXPECT_TRUE(index->Find("b").has_value());
  }
  auto index = MakeIndex();
  EXPECT_EQ(Must(Load(index.get(), "")).twin_count, 0);
  EXPECT_EQ(Must(Load(index.get(), "\xEF\xBB\xBF")).twin_count, 0);
  // The mark belongs before the first line only.
  EXPECT_FALSE(Load(index.get(), "\n\xEF\xBB\xBF{\"deviceId\":\"a\"}").ok());
}

TEST(JsonLinesTest, ABadLineLoadsNothing) {
  const struct {
    absl::string_view line;
    ErrorCode code;
    absl::string_view message;
  } kRows[] = {
      {R"({"deviceId":"x","tags":{"location":{"floor":9e99,"a b":1}}})",
       ErrorCode::kArgumentInvalid,
       "line 501: tags.location.a b: the name \"a b\" is not allowed"},
      {R"({"deviceId":"x",,})", ErrorCode::kIotHubFormatError,
       "line 501: not valid JSON at column 1"},
      {R"({"deviceId":"x"} {"deviceId":"y"})", ErrorCode::kIotHubFormatError,
       "line 501: not valid JSON"},
      {R"({"deviceId":"x","deviceId":"y"})", ErrorCode::kIotHubFormatError,
       "line 501: the member \"deviceId\" occurs twice"},
      {"{\"deviceId\":\"\xff\"}", ErrorCode::kIotHubFormatError,
       "line 501: not valid JSON"},
      {R"({"tags":{}})", ErrorCode::kArgumentNull,
       "line 501: deviceId: missing or null"},
      {R"([])", ErrorCode::kArgumentInvalid, "line 501: twin: found an array"},
      {R"({"deviceId":"d3"})", ErrorCode::kArgumentInvalid,
       "line 501: deviceId: \"d3\" stands on line 3 already"},
      {R"({"deviceId":"x","status":"up"})", ErrorCode::kArgumentInvalid,
       "line 501: status: found \"up\"; expected enabled or disabled"},
  };
  for (const auto& row : kRows) {
    auto index = MakeIndex();
    PutId(*index, "d1");
    // A second bad line further on does not matter.
    const auto loaded =
        Load(index.get(), absl::StrCat(Lines(500), row.line, "\n", Line(502),
                                       "broken\n"));
    ASSERT_FALSE(loaded.ok()) << row.line;
    EXPECT_EQ(ErrorCodeOf(loaded.status()), row.code) << loaded.status();
    EXPECT_TRUE(absl::StartsWith(loaded.status().message(), row.message))
        << loaded.status();
    EXPECT_EQ(index->size(), 1);
    EXPECT_EQ(Shown(*index, "d1", {"tags"}), "{}");
    EXPECT_EQ(index->Find("d2"), std::nullopt);
  }
}

TEST(JsonLinesTest, TheLowestBadLineWhateverTheOrderOfChunks) {
  const std::string text =
      absl::StrCat(Line(1), "bad\n", Line(3), "worse\n", Line(5));
  std::vector<LineChunk> chunks = CutLines(text, 1);
  ASSERT_EQ(chunks.size(), 5u);
  std::reverse(chunks.begin(), chunks.end());
  auto index = MakeIndex();
  JsonLinesLoader loader(index.get(), {});
  for (const LineChunk& chunk : chunks) {
    loader.Add(chunk.lines, chunk.first_line_number);
  }
  const auto loaded = loader.Commit(At(0));
  ASSERT_FALSE(loaded.ok());
  EXPECT_TRUE(absl::StartsWith(loaded.status().message(), "line 2: "))
      << loaded.status();
}

TEST(JsonLinesTest, ARepeatBeforeABadLineComesFirst) {
  auto index = MakeIndex();
  const auto loaded =
      Load(index.get(), absl::StrCat(Line(1), Line(1), "bad\n"));
  EXPECT_EQ(loaded.status().message(),
            "line 2: deviceId: \"d1\" stands on line 1 already");
}

TEST(JsonLinesTest, SkipsBadLines) {
  auto index = MakeIndex();
  const std::string text = absl::StrCat(
      Line(1), "bad\n", Line(3), "\n", R"({"deviceId":"d1","tags":{"n":9}})",
      "\n", R"({"deviceId":"a b"})", "\n", Line(7));
  const Loaded loaded = Must(Load(
      index.get(), text, {.skip_bad_lines = true, .messages_max = 2}));
  EXPECT_EQ(loaded.twin_count, 3);
  EXPECT_EQ(loaded.skipped_count, 3);
  ASSERT_EQ(loaded.messages.size(), 2u);
  EXPECT_TRUE(absl::StartsWith(loaded.messages[0], "line 2: not valid JSON"));
  EXPECT_EQ(loaded.messages[1],
            "line 5: deviceId: \"d1\" stands on line 1 already");
  // The first of two is the one that counts.
  EXPECT_EQ(Shown(*index, "d1", {"tags"}), R"({"n":1})");
  EXPECT_TRUE(index->Find("d7").has_value());
  const Loaded silent = Must(Load(
      index.get(), "bad", {.skip_bad_lines = true, .messages_max = 0}));
  EXPECT_EQ(silent.skipped_count, 1);
  EXPECT_TRUE(silent.messages.empty());
}

TEST(JsonLinesTest, ReplacesTwinsThatAreThere) {
  auto index = MakeIndex();
  Put(*index, R"({"deviceId":"d1","tags":{"old":1}})");
  Put(*index, R"({"deviceId":"other"})");
  EXPECT_EQ(Must(Load(index.get(), Lines(3))).twin_count, 3);
  EXPECT_EQ(index->size(), 4);
  EXPECT_EQ(Shown(*index, "d1", {"tags"}), R"({"n":1})");
  EXPECT_EQ(Shown(*index, "d1", {"version"}), "2");
}

TEST(JsonLinesTest, TwinCountMaxHoldsForTheWhole) {
  auto index = MakeIndex({.twin_count_max = 10});
  Must(Load(index.get(), Lines(4)));
  // 4 there, 11 in the lines, 4 of them the same.
  const auto loaded = Load(index.get(), Lines(11));
  EXPECT_EQ(loaded.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(index->size(), 4);
  EXPECT_EQ(index->Find("d5"), std::nullopt);
  EXPECT_EQ(Shown(*index, "d1", {"version"}), "1");
  EXPECT_EQ(Must(Load(index.get(), Lines(10))).twin_count, 10);
  EXPECT_EQ(index->size(), 10);
}

TEST(JsonLinesTest, LineSize) {
  // Ignored members make a line as long as one likes.
  const absl::string_view begin = R"({"deviceId":"a","pad":")";
  const std::string longest = absl::StrCat(
      begin, std::string(kJsonLineSizeMax - begin.size() - 2, 'x'), "\"}");
  ASSERT_EQ(longest.size(), kJsonLineSizeMax);
  auto index = MakeIndex();
  EXPECT_TRUE(Load(index.get(), longest + "\r\n").ok());
  const auto over = Load(index.get(), absl::StrCat("\n", begin, "x",
                                                   longest.substr(begin.size())));
  EXPECT_EQ(ErrorCodeOf(over.status()), ErrorCode::kMessageTooLarge);
  EXPECT_EQ(over.status().message(),
            "line 2: the line has 1048577 bytes; at most 1048576 are allowed");
}

TEST(CutLinesTest, CutsAtLineEndsAndCounts) {
  const std::string text = "a\nbb\n\nccc\nd";
  for (size_t size = 1; size <= text.size() + 1; ++size) {
    std::string joined;
    int64_t line = 1;
    for (const LineChunk& chunk : CutLines(text, size)) {
      EXPECT_EQ(chunk.first_line_number, line);
      EXPECT_FALSE(chunk.lines.empty());
      joined.append(chunk.lines.data(), chunk.lines.size());
      line += std::count(chunk.lines.begin(), chunk.lines.end(), '\n');
      // Up to a line's end, or the end of all.
      EXPECT_TRUE(chunk.lines.back() == '\n' || joined == text) << size;
    }
    EXPECT_EQ(joined, text);
  }
  EXPECT_TRUE(CutLines("", 10).empty());
  EXPECT_EQ(CutLines(text, 1).size(), 5u);
  EXPECT_EQ(CutLines(text, 3).size(), 3u);
}

TEST(JsonLinesTest, SeveralThreads) {
  constexpr int kCount = 5000;
  const std::string text = Lines(kCount);
  const std::vector<LineChunk> chunks = CutLines(text, 10'000);
  auto index = MakeIndex();
  JsonLinesLoader loader(index.get(), {});
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = t; i < chunks.size(); i += 3) {
        loader.Add(chunks[i].lines, chunks[i].first_line_number);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Must(loader.Commit(At(0))).twin_count, kCount);
  for (int n = 1; n <= kCount; n += 7) {
    EXPECT_EQ(Shown(*index, absl::StrCat("d", n), {"tags", "n"}),
              absl::StrCat(n));
  }
}

}  // namespace
}  // namespace muster
