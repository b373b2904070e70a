#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "engine/model/error.h"
#include "engine/twin/json_lines.h"
#include "engine/twin/shard.h"
#include "engine/twin/twin_document.h"
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
        Load(index.get(),
             absl::StrCat(Lines(500), row.line, "\n", Line(502), "broken\n"));
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
  const Loaded loaded = Must(
      Load(index.get(), text, {.skip_bad_lines = true, .messages_max = 2}));
  EXPECT_EQ(loaded.twin_count, 3);
  EXPECT_EQ(loaded.skipped_count, 3);
  ASSERT_EQ(loaded.messages.size(), 2u);
  EXPECT_TRUE(absl::StartsWith(loaded.messages[0], "line 2: not valid JSON"));
  EXPECT_EQ(loaded.messages[1],
            "line 5: deviceId: \"d1\" stands on line 1 already");
  // The first of two is the one that counts.
  EXPECT_EQ(Shown(*index, "d1", {"tags"}), R"({"n":1})");
  EXPECT_TRUE(index->Find("d7").has_value());
  const Loaded silent = Must(
      Load(index.get(), "bad", {.skip_bad_lines = true, .messages_max = 0}));
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
  const auto over =
      Load(index.get(),
           absl::StrCat("\n", begin, "x", longest.substr(begin.size())));
  EXPECT_EQ(ErrorCodeOf(over.status()), ErrorCode::kMessageTooLarge);
  EXPECT_EQ(over.status().message(),
            "line 2: the line has 1048577 bytes; at most 1048576 are allowed");
}

TEST(JsonLinesTest, LargeLinesAmongSmallOnes) {
  // Members that no twin has are left out, but have to be read.
  std::string text;
  for (int n = 1; n <= 12; ++n) {
    const std::string noise(n % 4 == 0 ? 10 : size_t{400} * 1024, 'x');
    absl::StrAppend(&text, R"({"deviceId":"d)", n, R"(","noise":")", noise,
                    R"(","tags":{"n":)", n, "}}\n");
    if (n % 3 == 0) absl::StrAppend(&text, R"({"noise":")", noise, "\"}\n");
  }
  auto index = MakeIndex();
  const Loaded loaded = Must(Load(index.get(), text, {.skip_bad_lines = true}));
  EXPECT_EQ(loaded.twin_count, 12);
  EXPECT_EQ(loaded.skipped_count, 4);
  for (int n = 1; n <= 12; ++n) {
    EXPECT_EQ(Shown(*index, absl::StrCat("d", n), {"tags", "n"}),
              absl::StrCat(n));
  }
}

TEST(JsonLinesTest, RepeatsWhoseLinesComeInAnyOrder) {
  const auto line = [](absl::string_view id, int tag) {
    return absl::StrCat(R"({"deviceId":")", id, R"(","tags":{"n":)", tag,
                        "}}\n");
  };
  const std::vector<std::string> lines = {line("a", 1), line("b", 2),
                                          line("a", 3), line("c", 4),
                                          line("a", 5), line("b", 6)};
  std::vector<size_t> order = {0, 1, 2, 3, 4, 5};
  do {
    const auto add = [&](JsonLinesLoader* loader) {
      for (const size_t i : order) {
        loader->Add(lines[i], static_cast<int64_t>(i) + 1);
      }
    };
    auto index = MakeIndex();
    JsonLinesLoader strict(index.get(), {});
    add(&strict);
    const auto refused = strict.Commit(At(0));
    ASSERT_EQ(refused.status().message(),
              "line 3: deviceId: \"a\" stands on line 1 already");
    ASSERT_EQ(index->size(), 0);

    JsonLinesLoader lenient(index.get(), {.skip_bad_lines = true});
    add(&lenient);
    const Loaded loaded = Must(lenient.Commit(At(0)));
    ASSERT_EQ(loaded.twin_count, 3);
    ASSERT_EQ(loaded.skipped_count, 3);
    ASSERT_EQ(loaded.messages,
              (std::vector<std::string>{
                  "line 3: deviceId: \"a\" stands on line 1 already",
                  "line 5: deviceId: \"a\" stands on line 1 already",
                  "line 6: deviceId: \"b\" stands on line 2 already"}));
    ASSERT_EQ(Shown(*index, "a", {"tags", "n"}), "1");
    ASSERT_EQ(Shown(*index, "b", {"tags", "n"}), "2");
    ASSERT_EQ(Shown(*index, "c", {"tags", "n"}), "4");
  } while (std::next_permutation(order.begin(), order.end()));
}

// What is told of each device that is put in.
class Told final : public TwinObserver {
 public:
  void OnTwinChange(const TwinChange& change) override {
    if (change.kind == TwinChange::Kind::kUpserted) {
      Tell(change.device_id, JsonText(change.document));
    }
    if (change.kind != TwinChange::Kind::kLoaded) return;
    const Shard& shard = index->shard(change.shard);
    shard.mutex.AssertHeld();
    EXPECT_EQ(change.sequence, shard.sequence());
    TwinDocument document;
    shard.rows_in_use().ForEach([&](int row) {
      shard.mutex.AssertHeld();
      document.Reset(&shard, row);
      Tell(shard.DeviceId(row),
           JsonText(document.Full(/*with_metadata=*/false).view()));
    });
  }
  void Tell(absl::string_view id, std::string text) {
    std::string& document = documents_[std::string(id)];
    EXPECT_EQ(document, "") << "told of " << id << " twice";
    document = std::move(text);
  }
  const TwinIndex* index = nullptr;
  std::map<std::string, std::string>& documents() { return documents_; }

 private:
  std::map<std::string, std::string> documents_;
};

TEST(JsonLinesTest, IsALoopOfUpsert) {
  // Every other device is there already, and has been written to since; the
  // documents say more or less of what the index counts.
  Told loading;
  Told putting;
  auto loaded = MakeIndex({.partition_count = 3, .observer = &loading});
  auto put = MakeIndex({.partition_count = 3, .observer = &putting});
  loading.index = loaded.get();
  for (TwinIndex* index : {loaded.get(), put.get()}) {
    for (int n = 0; n < 64; n += 2) {
      const std::string id = absl::StrCat("d", n);
      Told& told = index == loaded.get() ? loading : putting;
      Put(*index,
          absl::StrCat(R"({"deviceId":")", id,
                       R"(","tags":{"old":1},"properties":{)",
                       R"("desired":{"x":{"y":1}},"reported":{"z":2}}})"));
      told.documents().clear();
      if (n % 4 == 0) index->SetConnected(id, true, At(1));
    }
  }
  std::string text;
  for (int n = 0; n < 64; ++n) {
    absl::StrAppend(&text, R"({"deviceId":"d)", n, R"(","tags":{"n":)", n, "}");
    if (n & 2) absl::StrAppend(&text, R"(,"etag":"AAAAAAAAAAk=")");
    if (n & 4) absl::StrAppend(&text, R"(,"version":12)");
    if (n & 8) absl::StrAppend(&text, R"(,"connectionState":"Disconnected")");
    absl::StrAppend(&text, R"(,"properties":{"desired":{)",
                    n & 16 ? R"("$version":7,)" : "", R"("x":1},"reported":{)",
                    n & 32 ? R"("$version":8)" : "", "}}}\n");
  }
  JsonLinesLoader loader(loaded.get(), {});
  for (const LineChunk& chunk : CutLines(text, 100)) {
    loader.Add(chunk.lines, chunk.first_line_number);
  }
  EXPECT_EQ(Must(loader.Commit(At(9))).twin_count, 64);
  for (const LineChunk& chunk : CutLines(text, 1)) {
    Put(*put, chunk.lines, At(9));
  }
  EXPECT_EQ(loaded->size(), 64);
  for (int n = 0; n < 64; ++n) {
    const std::string id = absl::StrCat("d", n);
    EXPECT_EQ(Shown(*loaded, id), Shown(*put, id));
    EXPECT_EQ(Must(loaded->Get(id)).state, Must(put->Get(id)).state);
  }
  EXPECT_EQ(loading.documents().size(), 64u);
  EXPECT_EQ(loading.documents(), putting.documents());
}

TEST(JsonLinesTest, FewTwinsGoWhereThereIsRoom) {
  Told told;
  auto index = MakeIndex({.partition_count = 1, .observer = &told});
  told.index = index.get();
  int next = 0;
  const auto load = [&](int count) {
    std::string text;
    for (int i = 0; i < count; ++i) text += Line(++next);
    ASSERT_EQ(Must(Load(index.get(), text)).twin_count, count);
    ASSERT_EQ(index->size(), next);
    ASSERT_EQ(told.documents().size(), static_cast<size_t>(next));
  };
  load(100);
  load(50);
  EXPECT_EQ(index->shard_count(), 1);
  load(kShardRowsMax - 160);
  EXPECT_EQ(index->shard_count(), 1);
  // More than fit go to a shard of their own, and leave the room to the next.
  load(11);
  EXPECT_EQ(index->shard_count(), 2);
  load(10);
  load(10);
  EXPECT_EQ(index->shard_count(), 2);
  for (const int n : {1, 150, 151, next - 25, next}) {
    EXPECT_EQ(Shown(*index, absl::StrCat("d", n), {"tags", "n"}),
              absl::StrCat(n));
  }
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

// A repeated line that comes first makes the loader take a twin out again.  The
// shard must still remember tenants from then on: jobs name them.
TEST(JsonLinesTest, FormerTenantsAreKnownAfterALoadWithRepeats) {
  auto index = MakeIndex({.partition_count = 1});
  JsonLinesLoader loader(index.get(), {.skip_bad_lines = true});
  loader.Add(R"({"deviceId":"a","tags":{"n":2}})", 2);
  loader.Add(R"({"deviceId":"a","tags":{"n":1}})", 1);
  EXPECT_EQ(Must(loader.Commit(At(0))).skipped_count, 1);
  EXPECT_EQ(Shown(*index, "a", {"tags", "n"}), "1");
  const TwinLocation at = *index->Find("a");
  Shard& shard = index->shard(at.shard);
  uint64_t cut = 0;
  {
    absl::MutexLock lock(&shard.mutex);
    cut = shard.sequence();
  }
  ASSERT_TRUE(index->Erase("a", At(1)).ok());
  absl::MutexLock lock(&shard.mutex);
  EXPECT_FALSE(shard.IsPresent(at.row, cut));
  EXPECT_EQ(shard.DeviceIdAt(at.row, cut), "a");
}

}  // namespace
}  // namespace muster
