// Shard::ApplyPatch() of many rows against one row after the other: every twin
// has to be the same afterwards, `$metadata` included, and every error.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/model/limits.h"
#include "engine/model/twin_patch.h"
#include "engine/twin/shard.h"
#include "engine/twin/twin_index.h"
#include "gtest/gtest.h"
#include "tests/choices.h"
#include "tests/random_twins.h"
#include "tests/twin_testing.h"

namespace muster {
namespace {

// The same twins twice, in one shard each.
class Pair {
 public:
  // For both, what `fn` does to an index.
  template <typename Function>
  void Both(Function fn) {
    fn(*single_);
    fn(*many_);
  }

  void Put(absl::string_view document) {
    Both([&](TwinIndex& index) { muster::Put(index, document, now_); });
  }

  void Tick() { now_ += absl::Seconds(1); }
  absl::Time now() const { return now_; }

  // Patches the rows in both and compares what that gives.
  void Patch(const std::vector<uint16_t>& rows, const TwinPatch& patch) {
    Tick();
    std::vector<Shard::RowError> expected;
    std::vector<TwinWrite> states;
    uint64_t sequence = 0;
    {
      Shard& shard = single_->shard(0);
      absl::MutexLock lock(&shard.mutex);
      for (const uint16_t row : rows) {
        const absl::StatusOr<TwinWrite> write =
            shard.ApplyPatch(row, patch, now_);
        if (!write.ok()) expected.push_back({row, write.status()});
        states.push_back(shard.StateOf(row));
      }
      sequence = shard.sequence();
    }
    Shard& shard = many_->shard(0);
    absl::MutexLock lock(&shard.mutex);
    const std::vector<Shard::RowError> errors =
        shard.ApplyPatch(rows, patch, now_);
    ASSERT_EQ(errors.size(), expected.size());
    for (size_t i = 0; i < errors.size(); ++i) {
      EXPECT_EQ(errors[i].row, expected[i].row);
      EXPECT_EQ(errors[i].status, expected[i].status);
    }
    for (size_t i = 0; i < rows.size(); ++i) {
      ASSERT_EQ(shard.StateOf(rows[i]), states[i]);
    }
    EXPECT_EQ(shard.sequence(), sequence);
    error_count_ += static_cast<int64_t>(errors.size());
  }

  // Rows in use.
  std::vector<uint16_t> Rows() const {
    const Shard& shard = many_->shard(0);
    absl::ReaderMutexLock lock(&shard.mutex);
    std::vector<uint16_t> rows;
    for (int row = 0; row < shard.row_count(); ++row) {
      if (shard.rows_in_use().Test(row)) {
        rows.push_back(static_cast<uint16_t>(row));
      }
    }
    return rows;
  }

  std::string IdOf(uint16_t row) const {
    const Shard& shard = many_->shard(0);
    absl::ReaderMutexLock lock(&shard.mutex);
    return std::string(shard.DeviceId(row));
  }

  void Compare() const {
    for (const uint16_t row : Rows()) {
      const std::string id = IdOf(row);
      ASSERT_EQ(*many_->Find(id), *single_->Find(id));
      ASSERT_EQ(Shown(*many_, id), Shown(*single_, id));
    }
  }

  int64_t error_count() const { return error_count_; }

 private:
  std::unique_ptr<TwinIndex> single_ = MakeIndex({.partition_count = 1});
  std::unique_ptr<TwinIndex> many_ = MakeIndex({.partition_count = 1});
  absl::Time now_ = At(0);
  int64_t error_count_ = 0;
};

std::vector<uint16_t> Some(const std::vector<uint16_t>& rows,
                           Choices* choices) {
  switch (choices->Below(4)) {
    case 0:
      return rows;
    case 1: {  // A run.
      const uint32_t size = static_cast<uint32_t>(rows.size());
      const uint32_t first = choices->Below(size);
      const uint32_t count = 1 + choices->Below(size - first);
      return std::vector<uint16_t>(rows.begin() + first,
                                   rows.begin() + first + count);
    }
    default: {
      const uint32_t one_in = 1 + choices->Below(20);
      std::vector<uint16_t> some;
      for (const uint16_t row : rows) {
        if (choices->OneIn(one_in)) some.push_back(row);
      }
      return some;
    }
  }
}

TEST(RowPatchesTest, RandomTwins) {
  int64_t error_count = 0;
  for (uint64_t seed = 0; seed < 24; ++seed) {
    SCOPED_TRACE(seed);
    Choices choices(seed);
    const TwinShape shape(&choices, 1 + choices.IntBelow(30));
    Pair pair;
    // 256 rows are all that the columns have room for, so that a patch may go
    // to every one of them.
    const uint32_t count = choices.OneIn(2) ? 256 : 20 + choices.Below(400);
    for (uint32_t i = 0; i < count; ++i) {
      pair.Put(choices.OneIn(30) ? absl::StrCat(R"({"deviceId":")",
                                                shape.DeviceId(i), R"("})")
                                 : shape.Twin(shape.DeviceId(i), &choices));
    }
    const bool with_free_rows = choices.OneIn(2);
    for (int round = 0; round < 40; ++round) {
      const std::vector<uint16_t> rows = pair.Rows();
      switch (choices.Below(8)) {
        case 0:
          if (with_free_rows && rows.size() > 10) {
            const std::string id = pair.IdOf(choices.Pick(rows));
            pair.Both([&](TwinIndex& index) {
              ASSERT_TRUE(index.Erase(id, pair.now()).ok());
            });
          }
          break;
        case 1: {
          const std::string id = pair.IdOf(choices.Pick(rows));
          const TwinPatch patch =
              Must(ParseTwinPatch(Parsed(shape.ServicePatch(&choices)).view(),
                                  PatchOrigin::kService));
          pair.Tick();
          pair.Both([&](TwinIndex& index) {
            (void)index.Replace(id, patch, "", pair.now());
          });
          break;
        }
        case 2: {
          const std::string id = pair.IdOf(choices.Pick(rows));
          const TwinPatch patch =
              Must(ParseTwinPatch(Parsed(shape.ReportedPatch(&choices)).view(),
                                  PatchOrigin::kDevice));
          pair.Tick();
          pair.Both([&](TwinIndex& index) {
            (void)index.PatchReported(id, patch, pair.now());
          });
          break;
        }
        default: {
          TwinPatch patch =
              Must(ParseTwinPatch(Parsed(shape.ServicePatch(&choices)).view(),
                                  PatchOrigin::kService));
          if (choices.OneIn(6)) patch.desired_version = 1 + choices.Below(4);
          pair.Patch(Some(rows, &choices), patch);
        }
      }
    }
    pair.Compare();
    error_count += pair.error_count();
  }
  EXPECT_GT(error_count, 0);
}

TEST(RowPatchesTest, NearlyFullSections) {
  Choices choices(7);
  Pair pair;
  for (int i = 0; i < 64; ++i) {
    const std::string text(static_cast<size_t>(3800 + choices.Below(290)), 'x');
    pair.Put(absl::StrCat(R"({"deviceId":"d)", i, R"(","tags":{"a":")", text,
                          R"(","b":")", text, R"("},"properties":{"desired":{)",
                          R"("c":{"d":"e"}}}})"));
  }
  for (int round = 0; round < 40; ++round) {
    const std::string text(static_cast<size_t>(choices.Below(100)), 'y');
    const std::string patch = absl::StrCat(
        R"({"tags":{"c)", choices.Below(6), R"(":{"d":)",
        choices.OneIn(3) ? "null" : absl::StrCat("\"", text, "\""),
        R"(}},"properties":{"desired":{"c":{"d":)", choices.Below(3), "}}}}");
    pair.Patch(Some(pair.Rows(), &choices), ServicePatch(patch));
  }
  pair.Compare();
  EXPECT_GT(pair.error_count(), 0);
}

TEST(RowPatchesTest, EmptySectionsGetTheirFirstMembers) {
  Pair pair;
  for (int i = 0; i < 100; ++i) {
    pair.Put(absl::StrCat(R"({"deviceId":"d)", i,
                          R"(","properties":{"desired":{)",
                          i % 3 == 0   ? R"("$version":7)"
                          : i % 3 == 1 ? R"("a":{"b":1})"
                                       : "",
                          "}}}"));
  }
  pair.Patch(
      pair.Rows(),
      ServicePatch(
          R"({"properties":{"desired":{"x":{"y":1,"z":null},"q":null}}})"));
  pair.Compare();
  pair.Patch(pair.Rows(),
             ServicePatch(R"({"properties":{"desired":{"x":null,"a":null}}})"));
  pair.Patch(pair.Rows(),
             ServicePatch(R"({"tags":{"t":1},"properties":{"desired":null}})"));
  pair.Patch(pair.Rows(),
             ServicePatch(R"({"tags":{"t":{}},"properties":{"desired":{}}})"));
  pair.Compare();
  EXPECT_EQ(pair.error_count(), 0);
}

TEST(RowPatchesTest, VersionsStopAtTheLargest) {
  Pair pair;
  for (int i = 0; i < 20; ++i) {
    const int64_t version = kTwinIntegerMax - i % 4;
    pair.Put(absl::StrCat(R"({"deviceId":"d)", i, R"(","version":)", version,
                          R"(,"properties":{"desired":{"$version":)", version,
                          R"(,"a":1}}})"));
  }
  for (int i = 0; i < 5; ++i) {
    pair.Patch(pair.Rows(),
               ServicePatch(absl::StrCat(R"({"properties":{"desired":{"a":)", i,
                                         "}}}")));
    pair.Compare();
  }
}

TEST(RowPatchesTest, NoRowsAndNoParts) {
  Pair pair;
  for (const char* id : {"a", "b", "c", "d", "e"}) {
    pair.Put(absl::StrCat(R"({"deviceId":")", id, R"("})"));
  }
  pair.Patch({}, ServicePatch(R"({"tags":{"x":1}})"));
  pair.Patch(pair.Rows(), TwinPatch());
  pair.Compare();
}

}  // namespace
}  // namespace muster
