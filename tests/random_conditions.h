// Random conditions over twins that were seen: every operator and function of
// contract 5.6 and 5.7, nested, on all kinds of paths.
//
// Constants come from the twins: most comparisons are with a value that occurs,
// or one just beside it, so that conditions select some rows and not others.
// What an expression such as LENGTH(tags.a) * 2 may be compared with, the
// reference evaluator says.
#ifndef TESTS_RANDOM_CONDITIONS_H_
#define TESTS_RANDOM_CONDITIONS_H_

#include <array>
#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/model/json.h"
#include "engine/query/condition.h"
#include "engine/query/document.h"
#include "engine/query/value.h"
#include "tests/choices.h"

namespace muster {

class ConditionGenerator {
 public:
  explicit ConditionGenerator(Choices* choices) : choices_(*choices) {}

  // Learns the paths and values of a twin.  Remembers some of the twins.
  void Observe(const Json& document);

  // A condition over devices.  REQUIRES: something was observed.
  Condition Next();

 private:
  // What paths are about: conditions ask for some more often than for others.
  enum Group { kUser, kRoot, kDate, kMeta, kGroupCount };

  struct Step {
    std::string name;
    int64_t index = -1;  // Into an array, instead of a name.
  };
  struct KnownPath {
    std::vector<Step> steps;
    std::vector<Json> values;  // Some.
    uint64_t seen = 0;
  };

  void ObserveAt(JsonView value, std::vector<Step>* steps);

  Condition Draw();

  uint32_t Below(uint32_t limit) { return choices_.Below(limit); }
  bool OneIn(uint32_t count) { return choices_.OneIn(count); }

  // Each returns text.  Compound is put in parentheses by whoever uses it as an
  // operand.
  std::string Boolean(int depth);
  std::string Chain(int depth);
  std::string NamedDevices();
  std::string Predicate(int depth);
  std::string ComparePath();
  std::string InList();
  std::string TypeTest(int depth);
  std::string StringTest();
  std::string ArrayTest();
  std::string ComparePaths();
  std::string CompareResult(const std::string& expression);
  std::string Dates();
  std::string Wholes();
  std::string Number(int depth);
  std::string String(int depth);
  std::string Any(int depth);

  const KnownPath& PickPath();
  // One that has a value of `kind` if there is such a one.
  const KnownPath& PickPath(JsonKind kind);
  // As it may be written, in one of the ways.
  std::string PathText(const KnownPath& path);
  // A path that leads to nothing, or where few lead.
  std::string StrayPath();

  const char* CompareOperator();
  std::string Literal(JsonView value);
  std::string NumberLiteral(double value);
  std::string StringLiteral(absl::string_view value);
  // A value of the path or one beside it; rarely one that has nothing to do
  // with it.
  std::string ConstantFor(const KnownPath& path);
  std::string Beside(const Value& value);
  std::string RandomConstant();
  std::string ArrayLiteral(const KnownPath& path);
  // A part of a string.
  std::string Piece(absl::string_view text);

  Choices& choices_;
  std::map<std::string, KnownPath> known_;
  std::array<std::vector<const KnownPath*>, kGroupCount> groups_;
  std::vector<JsonDocument> documents_;
  uint64_t observed_ = 0;
};

}  // namespace muster

#endif  // TESTS_RANDOM_CONDITIONS_H_
