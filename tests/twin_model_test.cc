// The index against a model (twin_model.h).  Random operations go to both;
// every twin has to read the same in both, `$metadata` included.
#include "tests/twin_model.h"

#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/model/error.h"
#include "engine/query/document.h"
#include "engine/twin/etag.h"
#include "engine/twin/twin_index.h"
#include "gtest/gtest.h"
#include "tests/twin_testing.h"

namespace muster {
namespace {

class Model {
 public:
  explicit Model(uint32_t seed) : random_(seed) {}

  void Step(TwinIndex* index) {
    ++second_;
    const std::string id = absl::StrCat("d", random_() % 12);
    const auto found = twins_.find(id);
    ModelTwin* const twin = found == twins_.end() ? nullptr : &found->second;
    switch (random_() % 12) {
      case 0:
      case 1:
        Upsert(index, id);
        break;
      case 2: {
        const bool ok = index->Erase(id, Now()).ok();
        ASSERT_EQ(ok, twin != nullptr);
        if (twin != nullptr) twins_.erase(found);
        break;
      }
      case 3: {
        const bool connected = random_() % 2 == 0;
        const TwinConnection met = index->SetConnected(id, connected, Now());
        ASSERT_EQ(met.known, twin != nullptr);
        ASSERT_EQ(met.changed,
                  twin != nullptr && twin->HasConnection() != connected);
        if (met.changed) twin->SetConnected(connected, second_);
        break;
      }
      case 4: {
        const bool enabled = random_() % 2 == 0;
        ASSERT_EQ(index->SetEnabled(id, enabled, Now()).ok(), twin != nullptr);
        if (twin != nullptr) twin->SetEnabled(enabled, second_);
        break;
      }
      case 5:
      case 6:
        Report(index, id, twin);
        break;
      default:
        Patch(index, id, twin);
        break;
    }
  }

  // Compares every twin, and what a query says of all of them.
  void Check(const TwinIndex& index) {
    ASSERT_EQ(index.size(), static_cast<int64_t>(twins_.size()));
    int nested = 0;
    std::vector<std::string> rows;
    for (const auto& [id, twin] : twins_) {
      const TwinSnapshot snapshot = Must(index.Get(id));
      ASSERT_EQ(JsonText(snapshot.document.view()), twin.Document(id));
      const JsonDocument document(snapshot.document);
      nested += nested_.Matches(document);
      rows.push_back(statement_.ProjectRow(document));
    }
    ASSERT_EQ(CountMatches(index, nested_), nested);
    ASSERT_EQ(CountMatches(index, Where("*")), index.size());
    std::vector<std::string> got;
    std::string continuation;
    do {
      const int page_size = 1 + static_cast<int>(random_() % 5);
      TwinPage page = Must(index.Query(statement_, page_size, continuation));
      got.insert(got.end(), page.rows.begin(), page.rows.end());
      continuation = page.continuation;
    } while (!continuation.empty());
    ASSERT_EQ(got, rows);
  }

 private:
  absl::Time Now() const { return At(second_); }

  Tree RandomTree(int depth) {
    Tree tree;
    const int count = static_cast<int>(random_() % 4);
    for (int i = 0; i < count; ++i) {
      static constexpr absl::string_view kKeys[] = {"!", "a", "b", "é"};
      Tree& member = tree.members[std::string(kKeys[random_() % 4])];
      switch (random_() % 6) {
        case 0:
          member.kind = Tree::kNull;
          break;
        case 1:
          member.kind = Tree::kLeaf;
          member.leaf = R"([1,{"x":null}])";
          break;
        case 2:
          member.kind = Tree::kLeaf;
          member.leaf = absl::StrCat(random_() % 3);
          break;
        default:
          if (depth > 1) {
            member = RandomTree(depth - 1);
          } else {
            member.kind = Tree::kLeaf;
            member.leaf = "\"s\"";
          }
      }
    }
    return tree;
  }

  void Upsert(TwinIndex* index, const std::string& id) {
    const bool is_new = !twins_.contains(id);
    std::map<std::string, std::string> members;
    members["deviceId"] = absl::StrCat("\"", id, "\"");
    // Of an old twin, what the document leaves out goes on counting.
    if (random_() % 2 == 0) {
      members["etag"] =
          absl::StrCat("\"", EtagText(1 + random_() % 1000), "\"");
    }
    if (random_() % 2 == 0) members["tags"] = Text(RandomTree(3));
    const Tree desired = RandomTree(3);
    const int64_t given = random_() % 2 == 0 ? 1 + random_() % 100 : 0;
    members["properties"] = ObjectText(
        {{"desired", Text(desired, given)}, {"reported", Text(RandomTree(3))}});
    const Json document = Parsed(ObjectText(members));
    ModelTwin& twin = twins_[id];
    twin.Put(document.view(), is_new, second_);
    Expect(index->Upsert(document.view(), Now()), twin);
  }

  void Patch(TwinIndex* index, const std::string& id, ModelTwin* twin) {
    const bool replace = random_() % 4 == 0;
    const bool clears = random_() % 10 == 0;
    std::map<std::string, std::string> document;
    const int parts = static_cast<int>(random_() % 4);
    const Tree tags = RandomTree(3);
    const Tree desired = RandomTree(3);
    if (parts & 1) document["tags"] = clears ? "null" : Text(tags);
    int64_t guard = 0;
    if (parts & 2) {
      if (random_() % 3 == 0 && !clears) {
        guard = twin == nullptr ? 1 : twin->desired_version + random_() % 2;
      }
      document["properties"] =
          ObjectText({{"desired", clears ? "null" : Text(desired, guard)}});
    }
    std::string if_match;
    if (random_() % 4 == 0) {
      if_match = absl::StrCat(
          "\"", EtagText(twin == nullptr ? 1 : twin->etag + random_() % 2),
          "\"");
    }
    const TwinPatch patch = ServicePatch(ObjectText(document));
    const auto write = replace ? index->Replace(id, patch, if_match, Now())
                               : index->Patch(id, patch, if_match, Now());
    if (twin == nullptr) {
      ASSERT_EQ(ErrorCodeOf(write.status()), ErrorCode::kDeviceNotFound);
      return;
    }
    if ((!if_match.empty() &&
         if_match != absl::StrCat("\"", EtagText(twin->etag), "\"")) ||
        (guard > 0 && guard != twin->desired_version)) {
      ASSERT_EQ(ErrorCodeOf(write.status()), ErrorCode::kPreconditionFailed);
      return;
    }
    const Tree cleared{.kind = Tree::kNull, .leaf = "", .members = {}};
    twin->Change(parts & 1 ? clears ? &cleared : &tags : nullptr,
                 parts & 2 ? clears ? &cleared : &desired : nullptr, replace,
                 second_);
    Expect(write, *twin);
  }

  void Report(TwinIndex* index, const std::string& id, ModelTwin* twin) {
    const Tree reported = RandomTree(3);
    const auto write =
        index->PatchReported(id, DevicePatch(Text(reported)), Now());
    if (twin == nullptr) {
      ASSERT_EQ(ErrorCodeOf(write.status()), ErrorCode::kDeviceNotFound);
      return;
    }
    twin->Report(reported, second_);
    Expect(write, *twin);
  }

  static void Expect(const absl::StatusOr<TwinWrite>& write,
                     const ModelTwin& twin) {
    ASSERT_TRUE(write.ok()) << write.status();
    ASSERT_EQ(*write, twin.State());
  }

  std::mt19937 random_;
  int second_ = 0;
  std::map<std::string, ModelTwin> twins_;
  const Condition nested_ = Where(
      "is_defined(tags.a) OR properties.desired.b.a = 1 OR "
      "properties.reported.$version > 3");
  const Statement statement_ = Select(
      "SELECT deviceId, tags.a, properties.desired.b, "
      "properties.reported.$metadata AS m FROM devices");
};

TEST(TwinModelTest, RandomOperations) {
  // MUSTER_SEED repeats a run.
  const char* const given = std::getenv("MUSTER_SEED");
  const uint32_t seed = given != nullptr
                            ? static_cast<uint32_t>(std::atoll(given))
                            : std::random_device()();
  SCOPED_TRACE(absl::StrCat("MUSTER_SEED=", seed));
  for (uint32_t round = 0; round < 20; ++round) {
    Model model(seed + round);
    auto index =
        MakeIndex({.partition_count = 1 + static_cast<int>(round % 3)});
    for (int step = 0; step < 400; ++step) {
      model.Step(index.get());
      if (step % 10 == 0) model.Check(*index);
      if (testing::Test::HasFatalFailure()) {
        FAIL() << "round " << round << ", step " << step;
      }
    }
  }
}

}  // namespace
}  // namespace muster
