// Plans: what NOT becomes, and that leaves mean what they meant in the row.
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/query/condition.h"
#include "engine/query/evaluator.h"
#include "engine/query/plan.h"
#include "engine/query/value.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/choices.h"
#include "tests/query_samples.h"
#include "tests/random_conditions.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

Condition Parsed(absl::string_view text) {
  absl::StatusOr<Condition> condition = Condition::ParseJobCondition(text);
  EXPECT_TRUE(condition.ok()) << text << ": " << condition.status();
  return *std::move(condition);
}

std::string NodeText(const Plan& plan, const Plan::Node& node) {
  switch (node.kind) {
    case Plan::Node::Kind::kAll:
      return "all";
    case Plan::Node::Kind::kNone:
      return "none";
    case Plan::Node::Kind::kLeaf:
      return plan.LeafText(plan.leaves()[static_cast<size_t>(node.leaf)]);
    case Plan::Node::Kind::kAnd:
    case Plan::Node::Kind::kOr:
      break;
  }
  std::string text = node.kind == Plan::Node::Kind::kAnd ? "and(" : "or(";
  for (const Plan::Node& operand : node.operands) {
    absl::StrAppend(&text, &operand == &node.operands.front() ? "" : ", ",
                    NodeText(plan, operand));
  }
  return absl::StrCat(text, ")");
}

std::string PlanText(absl::string_view text) {
  const Plan plan(Parsed(text));
  return NodeText(plan, plan.root());
}

// What a plan means, in one row.
bool Selects(const Plan& plan, const Plan::Node& node, const Document& row) {
  switch (node.kind) {
    case Plan::Node::Kind::kAll:
      return true;
    case Plan::Node::Kind::kNone:
      return false;
    case Plan::Node::Kind::kAnd:
      for (const Plan::Node& operand : node.operands) {
        if (!Selects(plan, operand, row)) return false;
      }
      return true;
    case Plan::Node::Kind::kOr:
      for (const Plan::Node& operand : node.operands) {
        if (Selects(plan, operand, row)) return true;
      }
      return false;
    case Plan::Node::Kind::kLeaf:
      break;
  }
  const Plan::Leaf& leaf = plan.leaves()[static_cast<size_t>(node.leaf)];
  Scratch scratch;
  SlotDocument slots(leaf.paths.size());
  for (size_t i = 0; i < leaf.paths.size(); ++i) {
    const Path& path = plan.paths()[static_cast<size_t>(leaf.paths[i])];
    JsonView view = path.root == Root::kProperties
                        ? scratch.Keep(row.Full()).Find("properties")
                        : row.Get(path.root);
    for (const PathStep& step : path.steps) {
      view =
          step.index.has_value() ? view.At(*step.index) : view.Find(step.name);
    }
    slots.Set(i, view);
  }
  const Value value = EvaluateExpr(leaf.expr, slots, &scratch);
  return value.is_bool() && value.bool_value() == leaf.wanted;
}

TEST(PlanTest, NotIsPushedToTheLeaves) {
  EXPECT_EQ(PlanText("tags.a = 1"), "tags.a = 1");
  EXPECT_EQ(PlanText("NOT tags.a = 1"), "NOT (tags.a = 1)");
  EXPECT_EQ(PlanText("NOT NOT tags.a = 1"), "tags.a = 1");
  EXPECT_EQ(PlanText("NOT (tags.a = 1 AND tags.b = 2)"),
            "or(NOT (tags.a = 1), NOT (tags.b = 2))");
  EXPECT_EQ(PlanText("NOT (tags.a = 1 OR NOT tags.b = 2)"),
            "and(NOT (tags.a = 1), tags.b = 2)");
  EXPECT_EQ(PlanText("NOT (tags.a = 1 OR tags.b = 2 AND NOT (tags.c OR "
                     "tags.d))"),
            "and(NOT (tags.a = 1), or(NOT (tags.b = 2), tags.c, tags.d))");
}

TEST(PlanTest, ChainsAreFlat) {
  EXPECT_EQ(PlanText("tags.a = 1 AND (tags.b = 2 AND NOT (tags.c OR tags.d))"),
            "and(tags.a = 1, tags.b = 2, NOT (tags.c), NOT (tags.d))");
}

TEST(PlanTest, LogicBelowAnOperatorStaysInTheLeaf) {
  EXPECT_EQ(PlanText("NOT ((tags.a AND tags.b) = (NOT tags.c))"),
            "NOT ((tags.a AND tags.b) = (NOT tags.c))");
  EXPECT_EQ(PlanText("is_defined(tags.a OR tags.b)"),
            "IS_DEFINED(tags.a OR tags.b)");
}

TEST(PlanTest, WhatReadsNoPathIsDecided) {
  EXPECT_EQ(PlanText("*"), "all");
  EXPECT_EQ(PlanText("1 = 1"), "all");
  EXPECT_EQ(PlanText("NOT 1 = 1"), "none");
  EXPECT_EQ(PlanText("1 = 'a'"), "none");
  EXPECT_EQ(PlanText("NOT 1 = 'a'"), "none") << "undefined";
  EXPECT_EQ(PlanText("7"), "none");
  EXPECT_EQ(PlanText("NOT 7"), "none");
  EXPECT_EQ(PlanText("nope = 1"), "none");
  EXPECT_EQ(PlanText("NOT is_defined(nope)"), "all");
  EXPECT_EQ(PlanText("nope.x[0]"), "none");
  EXPECT_EQ(PlanText("TRUE AND tags.a = 1"), "tags.a = 1");
  EXPECT_EQ(PlanText("FALSE AND tags.a = 1"), "none");
  EXPECT_EQ(PlanText("FALSE OR tags.a = 1"), "tags.a = 1");
  EXPECT_EQ(PlanText("TRUE OR tags.a = 1"), "all");
  EXPECT_EQ(PlanText("NULL OR tags.a = 1"), "tags.a = 1");
  EXPECT_EQ(PlanText("UNDEFINED AND tags.a = 1"), "none");
  EXPECT_EQ(PlanText("NOT (UNDEFINED AND tags.a = 1)"), "NOT (tags.a = 1)");
  EXPECT_EQ(PlanText("TRUE AND TRUE"), "all");
  EXPECT_EQ(PlanText("(TRUE AND tags.a) OR (FALSE AND tags.b)"), "tags.a");
}

TEST(PlanTest, ALeafKnowsWhatItReads) {
  const Plan plan(
      Parsed("tags.a + tags.b * tags.a > properties.desired.$version AND "
             "tags.b = nope"));
  ASSERT_THAT(plan.leaves(), SizeIs(2));
  EXPECT_THAT(plan.leaves()[0].paths, ElementsAre(0, 1, 2));
  EXPECT_THAT(plan.leaves()[1].paths, ElementsAre(1));
  ASSERT_THAT(plan.paths(), SizeIs(3));
  EXPECT_EQ(PathText(plan.paths()[0]), "tags.a");
  EXPECT_EQ(PathText(plan.paths()[1]), "tags.b");
  EXPECT_EQ(PathText(plan.paths()[2]), "properties.desired.$version");
}

TEST(PlanTest, EqualLeavesAreOne) {
  const Plan plan(
      Parsed("tags.a = 1 AND tags.b = 2 OR tags.a = 1 AND tags.b = 3 OR "
             "NOT tags.a = 1"));
  EXPECT_EQ(NodeText(plan, plan.root()),
            "or(and(tags.a = 1, tags.b = 2), and(tags.a = 1, tags.b = 3), "
            "NOT (tags.a = 1))");
  EXPECT_THAT(plan.leaves(), SizeIs(4));
  EXPECT_EQ(plan.node_count(), 8);
}

TEST(PlanTest, NoLeavesForAll) {
  const Plan plan(Condition::MatchAll(Collection::kDevices));
  EXPECT_THAT(plan.leaves(), IsEmpty());
  EXPECT_THAT(plan.paths(), IsEmpty());
  EXPECT_EQ(plan.node_count(), 1);
}

// A leaf may read more paths than a document has roots.
TEST(PlanTest, ManySlots) {
  for (const int count : {1, 27, 28, 29, 30, 31, 32, 33, 100, 500}) {
    SCOPED_TRACE(count);
    std::string sum;
    std::string json;
    for (int i = 0; i < count; ++i) {
      absl::StrAppend(&sum, i == 0 ? "" : " + ", "tags.t", i);
      absl::StrAppend(&json, i == 0 ? "" : ", ", "\"t", i, "\": ", i);
    }
    const Plan plan(Parsed(absl::StrCat(sum, " = ", count * (count - 1) / 2)));
    ASSERT_THAT(plan.leaves(), SizeIs(1));
    EXPECT_THAT(plan.leaves()[0].paths, SizeIs(count));
    EXPECT_TRUE(Selects(plan, plan.root(),
                        Row(absl::StrCat("{\"tags\": {", json, "}}"))));
    EXPECT_FALSE(Selects(plan, plan.root(), Row("{\"tags\": {\"t0\": 0.5}}")));
  }
}

TEST(PlanTest, SlotPathsAreDistinct) {
  for (const size_t count : {size_t{1}, size_t{30}, size_t{31}, size_t{200}}) {
    std::vector<Path> paths;
    for (size_t i = 0; i < count; ++i) {
      paths.push_back(SlotPath(i, count));
      EXPECT_NE(paths.back().root, Root::kNone);
      EXPECT_NE(paths.back().root, Root::kProperties);
      for (size_t j = 0; j < i; ++j) EXPECT_NE(paths[i], paths[j]);
    }
  }
}

TEST(PlanTest, AgreesWithTheEvaluator) {
  const std::vector<JsonDocument> twins = SixTwins();
  std::vector<JsonDocument> rows = twins;
  rows.push_back(Row("{}"));
  int selected = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Choices choices(seed);
    ConditionGenerator generator(&choices);
    for (const JsonDocument& twin : twins) generator.Observe(twin.Full());
    for (int i = 0; i < 200; ++i) {
      const Condition condition = generator.Next();
      const Plan plan(condition);
      for (const JsonDocument& row : rows) {
        const bool matches = condition.Matches(row);
        EXPECT_EQ(Selects(plan, plan.root(), row), matches)
            << condition.text() << "\n"
            << NodeText(plan, plan.root());
        selected += matches;
      }
    }
  }
  EXPECT_GT(selected, 1000);
}

}  // namespace
}  // namespace muster
