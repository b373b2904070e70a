// The index against a model: a map of trees, each node with its own stamp,
// slow and obviously right.  Random operations go to both; every twin has to
// read the same in both, `$metadata` included.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/model/error.h"
#include "engine/model/instant.h"
#include "engine/query/document.h"
#include "engine/twin/etag.h"
#include "engine/twin/twin_index.h"
#include "gtest/gtest.h"
#include "tests/twin_testing.h"

namespace muster {
namespace {

// A value of a patch or of a twin.
struct Tree {
  enum Kind { kNull, kLeaf, kObject } kind = kObject;
  std::string leaf;  // JSON text of a primitive or an array.
  std::map<std::string, Tree> members;
  int second = 0;  // Of the last touch.
  int64_t version = 0;
};

std::string Object(const std::map<std::string, std::string>& members) {
  std::string text = "{";
  for (const auto& [key, value] : members) {
    absl::StrAppend(&text, text.size() == 1 ? "" : ",", "\"", key, "\":",
                    value);
  }
  return text + "}";
}

std::string Text(const Tree& tree, int64_t section_version = 0,
                 const std::string& metadata = "") {
  if (tree.kind == Tree::kNull) return "null";
  if (tree.kind == Tree::kLeaf) return tree.leaf;
  std::map<std::string, std::string> members;
  for (const auto& [key, value] : tree.members) members[key] = Text(value);
  if (section_version > 0) {
    members["$version"] = absl::StrCat(section_version);
  }
  if (!metadata.empty()) members["$metadata"] = metadata;
  return Object(members);
}

std::string Metadata(const Tree& tree) {
  std::map<std::string, std::string> members;
  members["$lastUpdated"] =
      absl::StrCat("\"", FormatInstant(At(tree.second)), "\"");
  if (tree.version > 0) {
    members["$lastUpdatedVersion"] = absl::StrCat(tree.version);
  }
  if (tree.kind == Tree::kObject) {
    for (const auto& [key, value] : tree.members) {
      members[key] = Metadata(value);
    }
  }
  return Object(members);
}

// `patch` as it stands in a twin: without nulls, all of it touched now.
Tree Fresh(const Tree& patch, int second, int64_t version) {
  Tree tree{.kind = patch.kind, .leaf = patch.leaf, .members = {},
            .second = second, .version = version};
  for (const auto& [key, value] : patch.members) {
    if (value.kind == Tree::kNull) continue;
    tree.members[key] = Fresh(value, second, version);
  }
  return tree;
}

void Merge(Tree* tree, const Tree& patch, int second, int64_t version) {
  tree->second = second;
  tree->version = version;
  for (const auto& [key, value] : patch.members) {
    const auto old = tree->members.find(key);
    if (value.kind == Tree::kNull) {
      tree->members.erase(key);
    } else if (value.kind == Tree::kObject && old != tree->members.end() &&
               old->second.kind == Tree::kObject) {
      Merge(&old->second, value, second, version);
    } else {
      tree->members[key] = Fresh(value, second, version);
    }
  }
}

struct ModelTwin {
  uint64_t etag = 1;
  int64_t version = 1;
  int64_t desired_version = 1;
  int64_t reported_version = 1;
  Tree tags;
  Tree desired;
  Tree reported;
  bool connected = false;
  bool enabled = true;
  std::string activity = "0001-01-01T00:00:00Z";
  std::string updated = "0001-01-01T00:00:00Z";
};

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
        const auto location = index->SetConnected(id, connected, Now());
        ASSERT_EQ(location.has_value(),
                  twin != nullptr && twin->connected != connected);
        if (location.has_value()) {
          twin->connected = connected;
          twin->activity = FormatInstant(Now());
        }
        break;
      }
      case 4: {
        const bool enabled = random_() % 2 == 0;
        ASSERT_EQ(index->SetEnabled(id, enabled, Now()).ok(), twin != nullptr);
        if (twin != nullptr && twin->enabled != enabled) {
          twin->enabled = enabled;
          twin->updated = FormatInstant(Now());
        }
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
      ASSERT_EQ(JsonText(snapshot.document.view()), Document(id, twin));
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
      TwinPage page =
          Must(index.Query(statement_, page_size, continuation));
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
    ModelTwin& twin = twins_[id];
    std::map<std::string, std::string> document;
    document["deviceId"] = absl::StrCat("\"", id, "\"");
    std::map<std::string, std::string> properties;
    // Of an old twin, what the document leaves out goes on counting.
    const int next = is_new ? 0 : 1;
    twin.etag += next;
    twin.version += next;
    twin.desired_version += next;
    twin.reported_version += next;
    twin.enabled = true;
    twin.activity = twin.updated = "0001-01-01T00:00:00Z";
    twin.tags = twin.desired = twin.reported = Tree();
    if (random_() % 2 == 0) {
      twin.etag = 1 + random_() % 1000;
      document["etag"] = absl::StrCat("\"", EtagText(twin.etag), "\"");
    }
    if (random_() % 2 == 0) {
      const Tree tags = RandomTree(3);
      document["tags"] = Text(tags);
      twin.tags = Fresh(tags, 0, 0);
    }
    const Tree desired = RandomTree(3);
    int64_t given = 0;
    if (random_() % 2 == 0) {
      given = twin.desired_version = 1 + random_() % 100;
    }
    properties["desired"] = Text(desired, given);
    twin.desired = Fresh(desired, second_, twin.desired_version);
    if (twin.desired.members.empty() && twin.desired_version == 1) {
      twin.desired.version = 0;
    }
    const Tree reported = RandomTree(3);
    properties["reported"] = Text(reported);
    twin.reported = Fresh(reported, second_, 0);
    document["properties"] = Object(properties);
    Expect(index->Upsert(Parsed(Object(document)).view(), Now()), twin);
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
      document["properties"] = Object(
          {{"desired", clears ? "null" : Text(desired, guard)}});
    }
    std::string if_match;
    if (random_() % 4 == 0) {
      if_match = absl::StrCat(
          "\"", EtagText(twin == nullptr ? 1 : twin->etag + random_() % 2),
          "\"");
    }
    const TwinPatch patch = ServicePatch(Object(document));
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
    if (parts != 0) {
      ++twin->etag;
      ++twin->version;
    }
    const auto change = [&](Tree* tree, const Tree& part, int64_t version) {
      if (clears || replace) {
        *tree = Fresh(clears ? Tree() : part, second_, version);
      } else {
        Merge(tree, part, second_, version);
      }
    };
    if (parts & 1) change(&twin->tags, tags, 0);
    if (parts & 2) change(&twin->desired, desired, ++twin->desired_version);
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
    Merge(&twin->reported, reported, second_, 0);
    ++twin->reported_version;
    twin->activity = FormatInstant(Now());
    Expect(write, *twin);
  }

  static void Expect(const absl::StatusOr<TwinWrite>& write,
                     const ModelTwin& twin) {
    ASSERT_TRUE(write.ok()) << write.status();
    ASSERT_EQ(*write, (TwinWrite{.etag = twin.etag,
                                 .version = twin.version,
                                 .desired_version = twin.desired_version,
                                 .reported_version = twin.reported_version,
                                 .connected = twin.connected,
                                 .enabled = twin.enabled}));
  }

  static std::string Document(const std::string& id, const ModelTwin& twin) {
    const auto quoted = [](absl::string_view text) {
      return absl::StrCat("\"", text, "\"");
    };
    return Object({
        {"cloudToDeviceMessageCount", "0"},
        {"connectionState",
         quoted(twin.connected ? "Connected" : "Disconnected")},
        {"deviceId", quoted(id)},
        {"etag", quoted(EtagText(twin.etag))},
        {"lastActivityTime", quoted(twin.activity)},
        {"properties",
         Object({{"desired", Text(twin.desired, twin.desired_version,
                                  Metadata(twin.desired))},
                 {"reported", Text(twin.reported, twin.reported_version,
                                   Metadata(twin.reported))}})},
        {"status", quoted(twin.enabled ? "enabled" : "disabled")},
        {"statusUpdateTime", quoted(twin.updated)},
        {"tags", Text(twin.tags)},
        {"version", absl::StrCat(twin.version)},
    });
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
    auto index = MakeIndex({.partition_count = 1 + static_cast<int>(round % 3)});
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
