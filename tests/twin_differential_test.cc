// Every way to match a condition agrees with the reference evaluator, row by
// row, on random conditions and random fleets.
//
// What is compared: the rows that a shard's match selects, with what
// Condition::Matches() says of each twin's document.  The documents are not the
// index's own: they are a model's (twin_model.h), which made every write too,
// and what the index shows of a twin has to be that document.
//
// Fleets grow and change by random writes; rows are freed and taken again.  A
// run ends after so many pairs of condition and twin:
//
//   twin_differential_test --pairs=10000000    MUSTER_PAIRS does the same
//   twin_differential_test --seed=7            repeats a run; or MUSTER_SEED
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "engine/model/check.h"
#include "engine/model/identity.h"
#include "engine/model/json.h"
#include "engine/model/limits.h"
#include "engine/query/ast.h"
#include "engine/query/condition.h"
#include "engine/query/document.h"
#include "engine/query/functions.h"
#include "engine/query/utf8.h"
#include "engine/twin/columns/row_set.h"
#include "engine/twin/twin_index.h"
#include "gtest/gtest.h"
#include "tests/choices.h"
#include "tests/random_conditions.h"
#include "tests/random_twins.h"
#include "tests/twin_model.h"
#include "tests/twin_testing.h"

namespace muster {
namespace {

uint64_t seed = 0;
int64_t pairs_wanted = 0;

// The plan under test: the rows that it selects in each shard.
std::vector<RowBitmap> MatchShards(const TwinIndex& index,
                                   const Condition& condition) {
  std::vector<RowBitmap> matches(static_cast<size_t>(index.shard_count()));
  Matcher matcher(condition);
  for (int i = 0; i < index.shard_count(); ++i) {
    Shard& shard = index.shard(i);
    absl::ReaderMutexLock lock(&shard.mutex);
    matcher.Match(shard, &matches[static_cast<size_t>(i)]);
  }
  // The index may go straight to the devices that a condition names.
  std::vector<RowBitmap> found(matches.size());
  index.Match(condition, [&found](int shard, const RowBitmap& rows) {
    found[static_cast<size_t>(shard)] = rows;
  });
  for (size_t i = 0; i < matches.size(); ++i) {
    EXPECT_EQ(found[i].words, matches[i].words) << condition.text();
  }
  return matches;
}

bool IsIn(const std::vector<RowBitmap>& matches, const TwinLocation& at) {
  return matches[static_cast<size_t>(at.shard)].Test(at.row);
}

// How many conditions there were, and how good they are at telling twins apart.
struct Tally {
  int64_t pairs = 0;
  int64_t conditions = 0;
  int64_t select_none = 0;
  int64_t select_all = 0;
  int64_t writes = 0;
};

class Fleet {
 public:
  struct Options {
    int partition_count = 1;
    int path_count = 30;
    uint32_t device_count_max = 300;
  };

  Fleet(const Options& options, uint64_t fleet_seed)
      : options_(options),
        choices_(fleet_seed),
        shape_(&choices_, options.path_count),
        index_(MakeIndex({.partition_count = options.partition_count})) {}

  // Adds twins until there are `count`.
  void Grow(uint32_t count) {
    for (uint32_t i = 0; i < options_.device_count_max; ++i) {
      if (twins_.size() >= count) return;
      const std::string id = shape_.DeviceId(i);
      if (!twins_.contains(id)) Upsert(id);
    }
  }

  void Write(int count) {
    for (int i = 0; i < count; ++i) WriteOne();
  }

  // Compares what the index shows of every twin that was written since the last
  // time with the model.
  void CheckDocuments() {
    for (const std::string& id : written_) {
      const auto found = twins_.find(id);
      if (found == twins_.end()) {
        ASSERT_FALSE(index_->Find(id).has_value()) << id;
        continue;
      }
      Twin& twin = found->second;
      const std::string text = twin.model.Document(id);
      const TwinSnapshot snapshot = Must(index_->Get(id));
      ASSERT_EQ(JsonText(snapshot.document.view()), text) << Where();
      ASSERT_EQ(snapshot.state, twin.model.State()) << Where();
      const DeviceIdentity device = Must(index_->GetIdentity(id));
      ASSERT_EQ(device.primary_key, twin.model.primary_key) << Where();
      ASSERT_EQ(device.secondary_key, twin.model.secondary_key) << Where();
      ASSERT_EQ(device.connected, twin.model.connected) << Where();
      ASSERT_EQ(device.enabled, twin.model.enabled) << Where();
      twin.document = JsonDocument(Parsed(text));
      const std::optional<TwinLocation> at = index_->Find(id);
      ASSERT_TRUE(at.has_value());
      twin.at = *at;
    }
    written_.clear();
    ASSERT_EQ(index_->size(), static_cast<int64_t>(twins_.size()));
  }

  // Compares `count` random conditions on every twin.
  void CheckConditions(int count, Tally* tally) {
    ConditionGenerator generator(&choices_);
    const uint32_t step = 1 + static_cast<uint32_t>(twins_.size()) / 150;
    uint32_t skip = choices_.Below(step);
    for (const auto& [id, twin] : twins_) {
      if (skip-- != 0) continue;
      generator.Observe(twin.document->Full());
      skip = step - 1;
    }
    for (int i = 0; i < count; ++i) {
      CheckCondition(generator.Next(), tally);
      if (testing::Test::HasFatalFailure()) return;
    }
  }

 private:
  struct Twin {
    ModelTwin model;
    std::optional<JsonDocument> document;
    TwinLocation at;
  };

  static const char* Says(bool selected) { return selected ? "yes" : "no"; }
  static std::string Where() {
    return absl::StrCat("to repeat: --seed=", seed, " --pairs=", pairs_wanted);
  }

  void Expect(const absl::StatusOr<TwinWrite>& write, const ModelTwin& model) {
    MUSTER_CHECK(write.ok());
    EXPECT_EQ(*write, model.State()) << Where();
  }

  void Upsert(const std::string& id) {
    const Json document = Parsed(shape_.Twin(id, &choices_));
    const auto [entry, is_new] = twins_.try_emplace(id);
    entry->second.model.Put(document.view(), is_new, ++second_);
    Expect(Must(index_->Upsert(document.view(), At(second_))),
           entry->second.model);
    written_.push_back(id);
  }

  // The registry makes the device, or changes it.
  void PutIdentity(const std::string& id) {
    static constexpr const char* kKeys[] = {
        "MDEyMzQ1Njc4OWFiY2RlZg==",
        "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=",
        "ZmVkY2JhOTg3NjU0MzIxMA=="};
    DeviceIdentity device;
    device.device_id = id;
    device.enabled = !choices_.OneIn(3);
    device.authentication_type =
        static_cast<AuthenticationType>(choices_.Below(4));
    device.primary_key = kKeys[choices_.Below(3)];
    device.secondary_key = kKeys[choices_.Below(3)];
    if (choices_.OneIn(3)) device.status_reason = "moved";
    if (choices_.OneIn(3)) device.primary_thumbprint = std::string(40, 'a');
    device.iot_edge = choices_.OneIn(3);
    if (choices_.OneIn(3)) device.device_scope = "scope";
    if (choices_.OneIn(3)) device.parent_scopes = {"p", "q"};
    const auto [entry, is_new] = twins_.try_emplace(id);
    if (!is_new && choices_.OneIn(3)) device.primary_key.clear();
    entry->second.model.PutIdentity(device, is_new, ++second_);
    const absl::StatusOr<DeviceIdentity> made =
        is_new ? index_->CreateIdentity(device, At(second_))
               : index_->UpdateIdentity(device, "", At(second_));
    ASSERT_TRUE(made.ok()) << made.status() << Where();
    EXPECT_EQ(*made, Must(index_->GetIdentity(id)));
    written_.push_back(id);
  }

  void WriteOne() {
    const std::string id =
        shape_.DeviceId(choices_.Below(options_.device_count_max));
    const auto found = twins_.find(id);
    if (found == twins_.end()) {
      choices_.OneIn(4) ? PutIdentity(id) : Upsert(id);
      return;
    }
    ModelTwin& model = found->second.model;
    ++second_;
    written_.push_back(id);
    switch (choices_.Below(17)) {
      case 16:
        PutIdentity(id);
        break;
      case 0:
      case 1:
        Upsert(id);
        break;
      case 2:
      case 3:
      case 4:
        ASSERT_TRUE(index_->Erase(id, At(second_)).ok());
        twins_.erase(found);
        break;
      case 5: {
        const bool connected = choices_.OneIn(2);
        index_->SetConnected(id, connected, At(second_));
        model.SetConnected(connected, second_);
        break;
      }
      case 6: {
        const bool enabled = choices_.OneIn(2);
        ASSERT_TRUE(index_->SetEnabled(id, enabled, At(second_)).ok());
        model.SetEnabled(enabled, second_);
        break;
      }
      case 7:
      case 8:
      case 9:
      case 10:
      case 11: {
        const Json patch = Parsed(shape_.ReportedPatch(&choices_));
        model.Report(TreeOf(patch.view()), second_);
        Expect(index_->PatchReported(
                   id, Must(ParseTwinPatch(patch.view(), PatchOrigin::kDevice)),
                   At(second_)),
               model);
        break;
      }
      default:
        Patch(id, &model);
    }
  }

  // By the index' own calls, or as a job does it.
  void Patch(const std::string& id, ModelTwin* model) {
    const Json document = Parsed(shape_.ServicePatch(&choices_));
    const TwinPatch patch =
        Must(ParseTwinPatch(document.view(), PatchOrigin::kService));
    const JsonView tags = document.view().Find("tags");
    const JsonView desired = document.view().Find("properties").Find("desired");
    const Tree tags_tree = TreeOf(tags);
    const Tree desired_tree = TreeOf(desired);
    const uint32_t way = choices_.Below(4);
    const bool replace = way == 0;
    model->Change(tags.is_undefined() ? nullptr : &tags_tree,
                  desired.is_undefined() ? nullptr : &desired_tree, replace,
                  second_);
    if (replace) {
      Expect(index_->Replace(id, patch, "", At(second_)), *model);
    } else if (way == 1) {
      const TwinLocation at = *index_->Find(id);
      Shard& shard = index_->shard(at.shard);
      absl::MutexLock lock(&shard.mutex);
      Expect(shard.ApplyPatch(at.row, patch, At(second_)), *model);
    } else {
      Expect(index_->Patch(id, patch, "", At(second_)), *model);
    }
  }

  void CheckCondition(const Condition& condition, Tally* tally) {
    const std::vector<RowBitmap> matches = MatchShards(*index_, condition);
    int64_t selected = 0;
    for (const auto& [id, twin] : twins_) {
      ++tally->pairs;
      const bool expected = condition.Matches(*twin.document);
      selected += expected;
      if (IsIn(matches, twin.at) == expected) continue;
      FAIL() << Difference(condition, twin, expected);
    }
    int64_t set = 0;
    for (const RowBitmap& rows : matches) set += rows.Count();
    ASSERT_EQ(set, selected) << "free rows match " << condition.text() << "\n"
                             << Where();
    ++tally->conditions;
    tally->select_none += selected == 0;
    tally->select_all += selected == static_cast<int64_t>(twins_.size());
    // Now and then what the users of matches say.
    if (tally->conditions % 16 == 0) CheckCount(condition, selected);
  }

  void CheckCount(const Condition& condition, int64_t selected) {
    const std::string text = absl::StrCat(
        "SELECT COUNT() AS n FROM devices WHERE ", condition.text());
    if (Utf8Length(text) > kQueryLengthMax) return;
    const TwinPage page = Must(index_->Query(Select(text), 1, ""));
    ASSERT_EQ(page.rows,
              std::vector<std::string>{absl::StrCat("{\"n\":", selected, "}")})
        << condition.text() << "\n"
        << Where();
  }

  bool Agrees(const Condition& condition, const Twin& twin) const {
    return IsIn(MatchShards(*index_, condition), twin.at) ==
           condition.Matches(*twin.document);
  }

  // Descends to the smallest part of the condition on which the two differ.
  Condition Smallest(const Condition& condition, const Twin& twin) const {
    for (const Expr& operand : condition.expr()->operands) {
      const auto part = Condition::ParseJobCondition(ExprText(operand));
      if (part.ok() && !Agrees(*part, twin)) return Smallest(*part, twin);
    }
    return condition;
  }

  std::string Difference(const Condition& condition, const Twin& twin,
                         bool expected) const {
    const Condition smallest = Smallest(condition, twin);
    const bool part_expected = smallest.Matches(*twin.document);
    return absl::StrFormat(
        "condition:    %s\n"
        "part of it:   %s\n"
        "twin:         %s\n"
        "at:           shard %d, row %d\n"
        "condition by the reference %s, by the index %s; "
        "its part by the reference %s, by the index %s\n%s\n",
        condition.text(), smallest.text(),
        JsonText(twin.document->Full().view()), twin.at.shard, twin.at.row,
        Says(expected), Says(!expected), Says(part_expected),
        Says(!part_expected), Where());
  }

  const Options options_;
  Choices choices_;
  const TwinShape shape_;
  const std::unique_ptr<TwinIndex> index_;
  int second_ = 0;
  std::map<std::string, Twin> twins_;
  std::vector<std::string> written_;
};

// Spends `pairs` on fleets of one size: each has its own paths, and goes
// through `rounds` of writes and conditions.
void RunFleets(const Fleet::Options& options, uint32_t size, int rounds,
               int conditions, int64_t pairs, uint64_t first_seed) {
  Tally tally;
  for (uint64_t fleet_seed = first_seed; tally.pairs < pairs; ++fleet_seed) {
    Fleet fleet(options, fleet_seed);
    fleet.Grow(size);
    for (int round = 0; round < rounds && tally.pairs < pairs; ++round) {
      fleet.Write(static_cast<int>(std::min(size, 4'000u) / 8));
      fleet.CheckDocuments();
      if (testing::Test::HasFatalFailure()) return;
      fleet.CheckConditions(conditions, &tally);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
  absl::PrintF(
      "%d pairs, %d conditions: %.1f%% select no twin, %.1f%% every twin\n",
      tally.pairs, tally.conditions,
      100.0 * static_cast<double>(tally.select_none) /
          static_cast<double>(tally.conditions),
      100.0 * static_cast<double>(tally.select_all) /
          static_cast<double>(tally.conditions));
}

TEST(TwinDifferentialTest, SmallFleets) {
  RunFleets({.partition_count = 2, .path_count = 24, .device_count_max = 340},
            300,
            /*rounds=*/4, /*conditions=*/40, pairs_wanted / 10 * 6, seed);
}

// Dictionaries and ranges beyond what a byte counts.
TEST(TwinDifferentialTest, FleetsOfThousands) {
  RunFleets({.partition_count = 1, .path_count = 16, .device_count_max = 3'300},
            3'000, /*rounds=*/3, /*conditions=*/20, pairs_wanted / 10 * 2,
            seed + 1'000'000);
}

// A partition of two shards, the first of them full.
TEST(TwinDifferentialTest, FleetOfTwoShards) {
  RunFleets({.partition_count = 1, .path_count = 9, .device_count_max = 18'500},
            17'500, /*rounds=*/10, /*conditions=*/8, pairs_wanted / 10 * 2,
            seed + 2'000'000);
}

// What a condition is made of.
void Collect(const Expr& expr, std::set<std::string>* parts) {
  parts->insert(absl::StrCat("node ", expr.node.index()));
  if (const Compare* compare = expr.As<Compare>()) {
    parts->insert(absl::StrCat("compare ", static_cast<int>(compare->op),
                               compare->as_dates ? " as dates" : ""));
  } else if (const In* in = expr.As<In>()) {
    parts->insert(absl::StrCat("in ", in->negated, in->as_dates));
  } else if (const Arithmetic* arithmetic = expr.As<Arithmetic>()) {
    for (const ArithmeticOp op : arithmetic->ops) {
      parts->insert(absl::StrCat("arithmetic ", static_cast<int>(op)));
    }
  } else if (const Sign* sign = expr.As<Sign>()) {
    parts->insert(absl::StrCat("sign ", sign->negative));
  } else if (const Call* call = expr.As<Call>()) {
    parts->insert(std::string(FunctionInfoOf(call->function).name));
  } else if (const Path* path = expr.As<Path>()) {
    parts->insert(absl::StrCat("root ", RootName(path->root)));
  } else if (const Constant* constant = expr.As<Constant>()) {
    parts->insert(absl::StrCat("constant ", JsonKindName(constant->kind)));
  }
  for (const Expr& operand : expr.operands) Collect(operand, parts);
}

// The generator leaves nothing of the language out.
TEST(TwinDifferentialTest, ConditionsHaveAllParts) {
  Choices choices(seed);
  std::set<std::string> parts;
  for (int fleet = 0; fleet < 10; ++fleet) {
    const TwinShape shape(&choices, 30);
    auto index = MakeIndex();
    ConditionGenerator generator(&choices);
    for (uint32_t i = 0; i < 20; ++i) {
      const std::string id = shape.DeviceId(i);
      Put(*index, shape.Twin(id, &choices));
      generator.Observe(Must(index->Get(id)).document);
    }
    for (int i = 0; i < 400; ++i) Collect(*generator.Next().expr(), &parts);
  }
  std::set<std::string> wanted;
  for (size_t i = 0; i < std::variant_size_v<decltype(Expr::node)>; ++i) {
    wanted.insert(absl::StrCat("node ", i));
  }
  for (int op = 0; op <= static_cast<int>(CompareOp::kGe); ++op) {
    wanted.insert(absl::StrCat("compare ", op));
    wanted.insert(absl::StrCat("compare ", op, " as dates"));
  }
  for (const char* in : {"in 00", "in 01", "in 10", "in 11"}) wanted.insert(in);
  for (int op = 0; op <= static_cast<int>(ArithmeticOp::kModulo); ++op) {
    wanted.insert(absl::StrCat("arithmetic ", op));
  }
  wanted.insert({"sign 0", "sign 1"});
  for (int f = 0; f <= static_cast<int>(Function::kSqrt); ++f) {
    wanted.insert(std::string(FunctionInfoOf(static_cast<Function>(f)).name));
  }
  for (int root = 0; root <= static_cast<int>(Root::kReportedMetadata);
       ++root) {
    wanted.insert(absl::StrCat("root ", RootName(static_cast<Root>(root))));
  }
  for (const char* kind :
       {"undefined", "null", "boolean", "number", "string"}) {
    wanted.insert(absl::StrCat("constant ", kind));
  }
  for (const std::string& part : wanted) {
    EXPECT_TRUE(parts.contains(part)) << part << "\n--seed=" << seed;
  }
}

int64_t NumberFrom(const char* text, int64_t otherwise) {
  int64_t number = 0;
  return text != nullptr && absl::SimpleAtoi(text, &number) ? number
                                                            : otherwise;
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  muster::pairs_wanted =
      muster::NumberFrom(std::getenv("MUSTER_PAIRS"), 600'000);
  muster::seed = static_cast<uint64_t>(
      muster::NumberFrom(std::getenv("MUSTER_SEED"),
                         static_cast<int64_t>(std::random_device()())));
  for (int i = 1; i < argc; ++i) {
    const absl::string_view argument(argv[i]);
    if (absl::StartsWith(argument, "--pairs=")) {
      muster::pairs_wanted = muster::NumberFrom(argv[i] + 8, 0);
    } else if (absl::StartsWith(argument, "--seed=")) {
      muster::seed = static_cast<uint64_t>(muster::NumberFrom(argv[i] + 7, 0));
    }
  }
  std::printf("--seed=%llu --pairs=%lld\n",
              static_cast<unsigned long long>(muster::seed),
              static_cast<long long>(muster::pairs_wanted));
  return RUN_ALL_TESTS();
}
