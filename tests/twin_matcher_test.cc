// Matchers: each form that a leaf may take, and all of them at random, against
// the reference evaluator row by row.
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/model/instant.h"
#include "engine/model/json.h"
#include "engine/query/ast.h"
#include "engine/query/condition.h"
#include "engine/query/document.h"
#include "engine/twin/columns/column.h"
#include "engine/twin/columns/int_column.h"
#include "engine/twin/columns/row_set.h"
#include "engine/twin/match/cells.h"
#include "engine/twin/match/matcher.h"
#include "engine/twin/stamp.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/choices.h"
#include "tests/random_conditions.h"
#include "tests/random_twins.h"

namespace muster {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;

Json Parsed(absl::string_view text) {
  absl::StatusOr<Json> json = ParseJson(text);
  EXPECT_TRUE(json.ok()) << text << ": " << json.status();
  return *std::move(json);
}

Condition Where(absl::string_view text) {
  absl::StatusOr<Condition> condition = Condition::ParseJobCondition(text);
  EXPECT_TRUE(condition.ok()) << text << ": " << condition.status();
  return *std::move(condition);
}

// Rows that are given as documents, put into cells when somebody asks for them.
class DocumentCells final : public CellSource {
 public:
  // What cells are made of: columns as they come, or whatever else fits the
  // values.
  struct Options {
    bool compact = true;
    bool any_kind = false;
    // Rows that columns do not reach, as long as nothing is in them.
    bool is_short = false;
    // One row in so many is not in use, whatever its columns hold.
    int unused_every = kShardRowsMax + 1;
    uint64_t seed = 0;
  };

  explicit DocumentCells(const std::vector<std::optional<Json>>& rows,
                         const Options& options)
      : options_(options), choices_(options.seed) {
    for (size_t i = 0; i < rows.size(); ++i) {
      documents_.emplace_back(rows[i].value_or(Json::EmptyObject()));
      const int row = static_cast<int>(i);
      if (rows[i].has_value() && (row + 1) % options_.unused_every != 0) {
        in_use_.Set(row);
      }
    }
  }
  explicit DocumentCells(const std::vector<std::optional<Json>>& rows)
      : DocumentCells(rows, Options()) {}

  const RowBitmap& rows_in_use() const override { return in_use_; }
  int row_count() const override { return static_cast<int>(documents_.size()); }

  Cells FindCells(const Path& path) const override {
    Made& made = made_[PathText(path)];
    if (!made.is_made) Make(path, &made);
    Cells cells = made.cells;
    cells.path = &path;
    if (cells.kind == Cells::Kind::kColumn) {
      cells.rest = absl::MakeConstSpan(path.steps).subspan(NamedSteps(path));
    }
    return cells;
  }
  int64_t TicksAt(const Cells& cells, int row) const override {
    EXPECT_TRUE(in_use_.Test(row));
    const JsonView value = At(*cells.path, row);
    if (!value.is_string()) return kNoTicks;
    return TicksFromTime(*ParseInstant(value.string_value()));
  }
  JsonView ValueAt(const Cells& cells, int row,
                   std::string* buffer) const override {
    EXPECT_TRUE(in_use_.Test(row));
    *buffer = std::string(At(*cells.path, row).bytes());
    return buffer->empty() ? JsonView() : JsonView::FromEncoded(buffer->data());
  }

  const JsonDocument& document(int row) const {
    return documents_[static_cast<size_t>(row)];
  }

 private:
  struct Made {
    bool is_made = false;
    Cells cells;
    Column column;
    IntColumn ints;
    RowBitmap flags;
    Json clear, set;
  };

  static size_t NamedSteps(const Path& path) {
    size_t count = 0;
    while (count < path.steps.size() && !path.steps[count].index.has_value()) {
      ++count;
    }
    return count;
  }

  JsonView At(const Path& path, int row) const {
    JsonView view;
    if (path.root == Root::kProperties) {
      // A copy that lives as long as all of this.
      Json& full = full_[row];
      if (full.is_undefined()) full = document(row).Full();
      view = full.view().Find("properties");
    } else {
      view = document(row).Get(path.root);
    }
    for (const PathStep& step : path.steps) {
      view =
          step.index.has_value() ? view.At(*step.index) : view.Find(step.name);
    }
    return view;
  }

  void Make(const Path& path, Made* made) const {
    made->is_made = true;
    Cells& cells = made->cells;
    std::vector<JsonView> values;
    bool all_integers = true;
    bool all_instants = IsDatePath(path);
    bool all_same = true;
    bool two = true;
    JsonView other;
    int last = -1;
    for (int row = 0; row < row_count(); ++row) {
      values.push_back(At(path, row));
      if (!in_use_.Test(row)) continue;
      const JsonView value = values.back();
      if (!value.is_undefined()) last = row;
      all_integers &= value.is_undefined() || value.is_integer();
      all_instants &=
          value.is_undefined() ||
          (value.is_string() && ParseInstant(value.string_value()).has_value());
      const JsonView first = values[0];
      if (value.bytes() == first.bytes()) continue;
      all_same = false;
      if (other.is_undefined()) other = value;
      two &= value.bytes() == other.bytes() && !first.is_undefined();
    }
    if (path.root == Root::kProperties || path.root == Root::kDeviceId ||
        (options_.any_kind && path.root != Root::kEtag && choices_.OneIn(8))) {
      cells.kind = Cells::Kind::kComputed;
      return;
    }
    if (all_instants && choices_.OneIn(2)) {
      cells.kind = Cells::Kind::kInstants;
      if (choices_.OneIn(2)) {
        cells.ints = &made->ints;
        made->ints.Resize(options_.is_short ? last + 1 : row_count());
        for (int row = 0; row < made->ints.size(); ++row) {
          const JsonView value = values[static_cast<size_t>(row)];
          if (!value.is_string()) continue;
          made->ints.Set(row,
                         TicksFromTime(*ParseInstant(value.string_value())));
        }
        if (options_.compact) made->ints.Compact();
      }
      return;
    }
    if (options_.any_kind && all_same && !values.empty() && choices_.OneIn(2)) {
      cells.kind = values[0].is_undefined() ? Cells::Kind::kUndefined
                                            : Cells::Kind::kConstant;
      cells.constant = values[0];
      return;
    }
    if (options_.any_kind && two && !all_same && choices_.OneIn(2)) {
      cells.kind = Cells::Kind::kFlags;
      cells.flags = &made->flags;
      cells.if_clear = values[0];
      cells.if_set = other;
      for (int row = 0; row < row_count(); ++row) {
        if (values[static_cast<size_t>(row)].bytes() != values[0].bytes()) {
          made->flags.Set(row);
        }
      }
      return;
    }
    if ((options_.any_kind || path.root == Root::kVersion) && all_integers) {
      cells.kind = Cells::Kind::kInts;
      cells.ints = &made->ints;
      made->ints.Resize(options_.is_short ? last + 1 : row_count());
      for (int row = 0; row < made->ints.size(); ++row) {
        const JsonView value = values[static_cast<size_t>(row)];
        if (value.is_integer()) made->ints.Set(row, value.int_value());
      }
      if (options_.compact) made->ints.Compact();
      return;
    }
    // As a shard would do: values up to the first index, the rest later.
    Path named = path;
    named.steps.resize(NamedSteps(path));
    if (named.steps.size() < path.steps.size()) {
      last = -1;
      for (int row = 0; row < row_count(); ++row) {
        values[static_cast<size_t>(row)] = At(named, row);
        if (!values[static_cast<size_t>(row)].is_undefined()) last = row;
      }
    }
    cells.kind = Cells::Kind::kColumn;
    cells.column = &made->column;
    made->column.Resize(options_.is_short ? last + 1 : row_count());
    for (int row = 0; row < made->column.size(); ++row) {
      made->column.Set(row, values[static_cast<size_t>(row)]);
    }
    if (options_.compact) made->column.Compact();
  }

  const Options options_;
  mutable Choices choices_;
  RowBitmap in_use_;
  std::vector<JsonDocument> documents_;
  mutable std::map<std::string, Made> made_;
  mutable std::map<int, Json> full_;
};

void ExpectSameRows(const DocumentCells& cells, const Condition& condition,
                    const RowBitmap& rows, absl::string_view note) {
  for (int row = 0; row < kShardRowsMax; ++row) {
    const bool expected = row < cells.row_count() &&
                          cells.rows_in_use().Test(row) &&
                          condition.Matches(cells.document(row));
    if (rows.Test(row) == expected) continue;
    ADD_FAILURE() << condition.text() << "\nselects row " << row << ": "
                  << rows.Test(row) << ", which is "
                  << JsonText(cells.document(row).Full().view()) << "\n"
                  << note;
    return;
  }
}

// The forms that the steps took, as "condition: form, form".
std::vector<std::string> StepTexts(const MatchExplanation& explanation) {
  std::vector<std::string> texts;
  for (const MatchExplanation::Step& step : explanation.steps) {
    texts.push_back(absl::StrCat(
        step.condition, ": ",
        absl::StrJoin(step.forms, "; ", [](std::string* out, const auto& form) {
          absl::StrAppend(out, form.text);
        })));
  }
  return texts;
}

// Matches, with a matcher that is new and with one that knows better, and
// compares with the reference.  Returns the form of the first step.
std::string Form(const DocumentCells& cells, absl::string_view text) {
  const Condition condition = Where(text);
  Matcher matcher(condition);
  RowBitmap rows;
  matcher.Match(cells, &rows);
  ExpectSameRows(cells, condition, rows, "at first");
  matcher.Explain([] { return int64_t{0}; });
  matcher.Match(cells, &rows);
  const MatchExplanation explanation = matcher.explanation();
  const std::vector<std::string> steps = StepTexts(explanation);
  ExpectSameRows(cells, condition, rows, absl::StrJoin(steps, "\n"));
  EXPECT_EQ(explanation.rows_out, rows.Count());
  EXPECT_EQ(explanation.rows_in, cells.rows_in_use().Count());
  if (explanation.steps.empty() || explanation.steps[0].forms.empty()) {
    return "";
  }
  return explanation.steps[0].forms[0].text;
}

// Twins {"tags": {"a": value(row), "b": row % 100}}, with nothing where the
// value is "", and every 97th row not in use.
std::vector<std::optional<Json>> Rows(
    int count, const std::function<std::string(int)>& value) {
  std::vector<std::optional<Json>> rows;
  for (int row = 0; row < count; ++row) {
    const std::string a = value(row);
    rows.push_back(Parsed(absl::StrCat(
        "{\"tags\": {", a.empty() ? "" : absl::StrCat("\"a\": ", a, ", "),
        "\"b\": ", row % 100, "}}")));
  }
  return rows;
}

std::string Quoted(absl::string_view text) {
  std::string out;
  AppendJsonString(text, &out);
  return out;
}

// Conditions on tags.a that hold something of everything.
std::vector<std::string> ConditionsOn(const std::vector<std::string>& values) {
  std::vector<std::string> texts = {
      "tags.a",
      "NOT tags.a",
      "is_defined(tags.a)",
      "NOT is_defined(tags.a)",
      "IS_NULL(tags.a)",
      "NOT IS_STRING(tags.a)",
      "IS_NUMBER(tags.a)",
      "IS_PRIMITIVE(tags.a)",
      "tags.a = NULL",
      "tags.a != NULL",
      "NOT tags.a IN [NULL]",
      "tags.a = UNDEFINED",
      "tags.a = ['x']",
      "LENGTH(tags.a) > 3",
      "LENGTH(tags.a) IN [2, 4, 7]",
      "tags.a * 2 + 1 > 30",
      "-tags.a < tags.b",
      "tags.a > tags.b",
      "tags.a = tags.b",
      "tags.a != tags.b",
      "NOT (tags.a <= tags.b)",
      "tags.b / tags.a > 0.5",
      "tags.b % tags.a = 1",
      "POWER(tags.a, 2) < 100",
      "SQRT(tags.a) < 5",
      "FLOOR(tags.a / 7) = CEILING(tags.b / 11)",
      "ABS(tags.a) = tags.a",
      "tags.a = tags.nothing",
      "tags.nothing + tags.a > 1",
      "ARRAY_CONTAINS(tags.a, 'x')",
      "ARRAY_CONTAINS(['x', 'y', 5, TRUE], tags.a)",
      "NOT ARRAY_CONTAINS([NULL, 5], tags.a)",
      "tags.a[0] = 'x'",
      "is_defined(tags.a[1])",
      "NOT tags.a[0].b > 3",
      "LOWER(tags.a) = UPPER(tags.a)",
      "STARTSWITH(tags.a, '')",
      "STARTSWITH('prefix', tags.a)",
      "(tags.a AND tags.b) = UNDEFINED",
      "is_defined(tags.a > 3)",
      "(tags.a = tags.b) = FALSE",
  };
  std::string list;
  for (const std::string& value : values) {
    for (const absl::string_view op : {"=", "!=", "<", "<=", ">", ">="}) {
      texts.push_back(absl::StrCat("tags.a ", op, " ", value));
      texts.push_back(absl::StrCat("NOT ", value, " ", op, " tags.a"));
    }
    texts.push_back(absl::StrCat("STARTSWITH(tags.a, ", value, ")"));
    texts.push_back(absl::StrCat("NOT STARTSWITH(tags.a, ", value, ")"));
    texts.push_back(absl::StrCat("CONTAINS(tags.a, ", value, ")"));
    texts.push_back(absl::StrCat("NOT ENDSWITH(tags.a, ", value, ")"));
    absl::StrAppend(&list, list.empty() ? "" : ", ", value);
    texts.push_back(absl::StrCat("tags.a IN [", list, "]"));
    texts.push_back(absl::StrCat("tags.a NIN [", list, "]"));
    texts.push_back(absl::StrCat("NOT tags.a IN [", list, "]"));
    texts.push_back(absl::StrCat("NOT tags.a NIN [", list, "]"));
    texts.push_back(absl::StrCat("tags.a < ", value, " AND tags.b < 50"));
    texts.push_back(absl::StrCat("tags.a < ", value, " OR tags.b < 50"));
    texts.push_back(absl::StrCat("tags.b = 7 AND CONTAINS(tags.a, ", value,
                                 ") AND NOT tags.a = ", value));
    texts.push_back(absl::StrCat("NOT (tags.b < 20 AND tags.a >= ", value,
                                 ") OR tags.a > tags.b"));
  }
  return texts;
}

struct Values {
  std::string name;
  int rows;
  std::function<std::string(int)> value;
  std::vector<std::string> constants;  // As they are written in conditions.
};

const std::vector<Values>& AllValues() {
  static const auto* const all = new std::vector<Values>{
      {"Nothing", 200, [](int) { return ""; }, {"1", "'x'"}},
      {"OneNumber", 200, [](int) { return "5"; }, {"5", "4.5", "'5'"}},
      {"OneNull", 200, [](int) { return "null"; }, {"NULL", "'5'"}},
      {"OneObject", 200, [](int) { return "{\"b\": 1}"; }, {"1"}},
      {"Booleans",
       300,
       [](int row) { return row % 3 == 0 ? "true" : "false"; },
       {"TRUE", "FALSE", "1"}},
      {"TwoStrings",
       300,
       [](int row) { return row % 3 == 0 ? "\"x\"" : "\"y\""; },
       {"'x'", "'y'", "'z'", "''"}},
      {"StringOrNothing",
       300,
       [](int row) { return row % 3 == 0 ? "\"x\"" : ""; },
       {"'x'", "'z'"}},
      {"FewStrings",
       600,
       [](int row) { return row % 40 == 3 ? "\"x\"" : ""; },
       {"'x'", "'z'"}},
      {"FewDifferent",
       1200,
       [](int row) {
         return row % 50 == 3                 ? Quoted(absl::StrCat("x", row))
                : row % 50 == 5 && row < 1000 ? "null"
                                              : "";
       },
       {"'x3'", "'x53'", "'x'", "NULL"}},
      {"FewNumbers",
       1200,
       [](int row) { return row % 50 == 3 ? absl::StrCat(row) : ""; },
       {"53", "1000", "52.5", "0"}},
      {"FewWideNumbers",
       1200,
       [](int row) {
         return row % 50 == 3 ? absl::StrCat(int64_t{row} * row * row * row)
                              : "";
       },
       {"7890481", "1e9", "-1"}},
      {"Regions",
       600,
       [](int row) {
         static constexpr absl::string_view kNames[] = {"eu", "us", "us-east",
                                                        "asia", "会議室"};
         return row % 11 == 0   ? ""
                : row % 13 == 0 ? "null"
                                : Quoted(kNames[row % 5]);
       },
       {"'us'", "'eu'", "'asia'", "'会'", "'nowhere'", "''"}},
      {"ManyStrings",
       2500,
       [](int row) {
         return row % 17 == 0
                    ? ""
                    : Quoted(absl::StrCat("n-", row * 7919 % 3001, "-",
                                          row % 2 == 0 ? "even" : "odd"));
       },
       {"'n-833-even'", "'n-15'", "'n-2'", "'odd'", "'even'", "'z'", "'a'"}},
      {"Percent",
       600,
       [](int row) {
         return row % 7 == 0    ? ""
                : row % 31 == 0 ? "null"
                                : absl::StrCat(row % 101);
       },
       {"20", "20.5", "0", "100", "-1", "101", "1e300", "-1e300", "'x'"}},
      {"Tenths",
       700,
       [](int row) { return absl::StrFormat("%.1f", (row - 300) * 0.1); },
       {"20", "20.5", "0.1", "-50.3", "1e300"}},
      {"Tens",
       700,
       [](int row) {
         return row % 5 == 0 ? "" : absl::StrCat((row * 7919) % 100'003 * 10);
       },
       {"500000", "500001", "77770", "0", "1e18"}},
      {"Doubles",
       600,
       [](int row) {
         return row % 400 == 0 ? "-0.0"
                : row % 400 == 1
                    ? "0.0"
                    : absl::StrFormat(
                          "%.17g", std::sin(row) * 1e10 / (row % 9 + 1.0 / 3));
       },
       {"0", "-0.0", "1e9", "-1e9", "1e308", "-1e308", "1e-300"}},
      {"BigIntegers",
       500,
       [](int row) {
         return absl::StrCat(int64_t{4'503'599'627'370'495} - row * 1000);
       },
       {"4503599627370495", "4503599627000000", "0"}},
      {"IntegersAndDoubles",
       500,
       [](int row) {
         return row % 2 == 0 ? "25" : row % 3 == 0 ? "25.0" : "7";
       },
       {"25", "7", "25.5"}},
      {"Serials",
       900,
       [](int row) {
         return row % 19 == 0 ? "null"
                              : Quoted(absl::StrFormat("SN%06X", row * 4001));
       },
       {"'SN0003E8'", "'SN'", "'SN00'", "'SNF'", "'SN0003'", "'A'", "'Z'", "''",
        "'SN00FA10'", "'SN00fa10'"}},
      {"ShortTexts",
       900,
       [](int row) { return Quoted(absl::StrFormat("d-%04d", row % 2900)); },
       {"'d-0100'", "'d-01'", "'d-2899'", "'d-9999'", "'d-00000'", "'e'"}},
      {"Times",
       700,
       [](int row) {
         return Quoted(absl::StrFormat("2026-03-%02dT12:%02d:%02dZ",
                                       row % 28 + 1, row % 60, row / 60));
       },
       {"'2026-03-14T12:13:00Z'", "'2026-03-14'", "'2026'", "'2027'", "'x'"}},
      {"Mixed",
       500,
       [](int row) {
         switch (row % 12) {
           case 0:
             return std::string("");
           case 1:
             return std::string("null");
           case 2:
             return std::string("true");
           case 3:
             return std::string("false");
           case 4:
             return absl::StrCat(row % 9);
           case 5:
             return absl::StrCat(row % 9, ".0");
           case 6:
             return std::string("[\"x\", 5]");
           case 7:
             return std::string("[{\"b\": 7}, \"x\"]");
           case 8:
             return std::string("{\"b\": 7}");
           case 9:
             return std::string("\"x\"");
           case 10:
             return std::string("\"y\"");
           default:
             return std::string("-0.0");
         }
       },
       {"'x'", "5", "0", "TRUE", "FALSE", "NULL"}},
      {"ManyMixed",
       1500,
       [](int row) {
         return row % 3 == 0   ? Quoted(absl::StrCat("t", row * 31 % 1009))
                : row % 3 == 1 ? absl::StrCat(row % 800)
                : row % 2 == 0 ? "[\"x\"]"
                               : "";
       },
       {"'t5'", "'t'", "5", "300", "TRUE"}},
  };
  return *all;
}

class MatcherValuesTest : public testing::TestWithParam<Values> {
 protected:
  std::vector<std::optional<Json>> MakeRows() const {
    return Rows(GetParam().rows, GetParam().value);
  }
  void TestAll(const DocumentCells& cells) const {
    for (const std::string& text : ConditionsOn(GetParam().constants)) {
      Form(cells, text);
      if (HasFailure()) return;
    }
  }
};

TEST_P(MatcherValuesTest, AgreesWithTheEvaluator) {
  TestAll(DocumentCells(MakeRows(), {.unused_every = 97}));
}

TEST_P(MatcherValuesTest, AgreesInWiderForms) {
  TestAll(DocumentCells(MakeRows(), {.compact = false}));
}

TEST_P(MatcherValuesTest, AgreesInShortColumns) {
  std::vector<std::optional<Json>> rows = MakeRows();
  for (int i = 0; i < 150; ++i) rows.push_back(Parsed("{\"tags\":{\"b\":1}}"));
  TestAll(DocumentCells(rows, {.is_short = true}));
}

TEST_P(MatcherValuesTest, AgreesInOtherCells) {
  for (uint64_t seed = 0; seed < 2; ++seed) {
    TestAll(DocumentCells(MakeRows(), {.any_kind = true, .seed = seed}));
  }
}

INSTANTIATE_TEST_SUITE_P(Values, MatcherValuesTest,
                         testing::ValuesIn(AllValues()),
                         [](const testing::TestParamInfo<Values>& info) {
                           return info.param.name;
                         });

DocumentCells CellsOf(absl::string_view name) {
  for (const Values& values : AllValues()) {
    if (values.name == name)
      return DocumentCells(Rows(values.rows, values.value));
  }
  ADD_FAILURE() << name;
  return DocumentCells({});
}

// The forms that the table in matcher.h promises.
TEST(MatcherTest, Forms) {
  const struct {
    absl::string_view values;
    absl::string_view condition;
    absl::string_view form;
  } kCases[] = {
      {"OneNumber", "tags.a = 5", "numbers, every row"},
      {"OneNumber", "tags.a = 4", "numbers, no row"},
      {"Booleans", "tags.a = true", "dictionary, bits"},
      {"Booleans", "tags.a", "dictionary, bits"},
      {"Booleans", "tags.a > 5", "dictionary, no row"},
      {"StringOrNothing", "is_defined(tags.a)", "dictionary, bits"},
      {"FewStrings", "tags.a = 'x'", "dictionary, few rows"},
      {"FewDifferent", "STARTSWITH(tags.a, 'x1')", "dictionary, few rows"},
      {"FewNumbers", "tags.a > 100", "numbers, few rows"},
      {"Regions", "tags.a = 'us'", "dictionary, range of codes, 8 bits"},
      {"Regions", "tags.a = 'nowhere'", "dictionary, no row"},
      {"Regions", "is_defined(tags.a)", "dictionary, range of codes, 8 bits"},
      {"Regions", "tags.a NIN ['eu', 'asia', 'x']",
       "dictionary, set of codes, 8 bits"},
      {"ManyStrings", "tags.a = 'n-833-even'",
       "dictionary, range of codes, 16 bits"},
      {"ManyStrings", "tags.a IN ['n-833-even', 'n-331-even', 'z']",
       "dictionary, ranges of codes, 16 bits"},
      {"ManyStrings", "ENDSWITH(tags.a, 'odd')",
       "dictionary, set of codes, 16 bits"},
      {"Percent", "tags.a < 20", "numbers, range of codes, 8 bits"},
      {"Percent", "tags.a > 1000", "numbers, no row"},
      {"Percent", "tags.a != 5", "numbers, set of codes, 8 bits"},
      {"Percent", "tags.a * 2 > 5", "numbers, arithmetic on columns"},
      {"Percent", "LENGTH(tags.a) = 5", "numbers, each value once"},
      {"Tens", "tags.a >= 500", "numbers, range of codes, 32 bits"},
      {"Tenths", "tags.a IN [1.1, 2.2, 3.3]",
       "numbers, ranges of codes, 16 bits"},
      {"Doubles", "tags.a = 0", "numbers, range of codes, 64 bits"},
      {"Serials", "STARTSWITH(tags.a, 'SN00')",
       "texts of one pattern, range of codes, 32 bits"},
      {"Serials", "tags.a > 'SN00'",
       "texts of one pattern, range of codes, 32 bits"},
      {"Serials", "CONTAINS(tags.a, 'FF')",
       "texts of one pattern, evaluator, row by row"},
      {"ShortTexts", "ENDSWITH(tags.a, '7')",
       "texts of one pattern, each value once"},
      {"Tenths", "tags.a < tags.b", "arithmetic on columns"},
      {"Regions", "tags.a > tags.b", "each value once"},
  };
  for (const auto& c : kCases) {
    EXPECT_EQ(Form(CellsOf(c.values), c.condition), c.form)
        << c.values << ": " << c.condition;
  }
}

TEST(MatcherTest, ALargeDictionaryIsWalkedOnlyForManyRows) {
  const DocumentCells cells = CellsOf("ManyStrings");
  EXPECT_EQ(Form(cells, "ENDSWITH(tags.a, 'odd')"),
            "dictionary, set of codes, 16 bits");
  const Condition condition =
      Where("ENDSWITH(tags.a, 'odd') AND tags.b = 7 AND tags.a > 'n-2'");
  Matcher matcher(condition);
  matcher.Explain([] { return int64_t{0}; });
  RowBitmap rows;
  matcher.Match(cells, &rows);
  ExpectSameRows(cells, condition, rows, "");
  EXPECT_THAT(StepTexts(matcher.explanation()),
              ElementsAre("tags.b = 7: numbers, range of codes, 8 bits",
                          HasSubstr("entries as rows need them"),
                          HasSubstr("entries as rows need them")));
}

TEST(MatcherTest, DatesCompareAsIntegers) {
  std::vector<std::optional<Json>> rows;
  for (int i = 0; i < 400; ++i) {
    rows.push_back(Parsed(
        i % 7 == 0
            ? "{}"
            : absl::StrFormat(
                  R"({"lastActivityTime": "2026-03-%02dT10:%02d:00.%07dZ"})",
                  i % 28 + 1, i % 60, i * 20'011 % 10'000'000)));
  }
  std::set<std::string> forms;
  for (uint64_t seed = 0; seed < 6; ++seed) {
    const DocumentCells cells(rows, {.compact = seed % 2 == 0, .seed = seed});
    for (const absl::string_view constant :
         {"'2026-03-14'", "'2026-03-14T10:13:00.2601430Z'",
          "'2026-03-14T11:13:00.26014309+01:00'", "'2026-03-14 10:13'",
          "'yesterday'", "''", "NULL", "5", "'9999-12-31'"}) {
      for (const absl::string_view op : {"=", "!=", "<", "<=", ">", ">="}) {
        forms.insert(
            Form(cells, absl::StrCat("lastActivityTime ", op, " ", constant)));
        Form(cells,
             absl::StrCat("NOT ", constant, " ", op, " lastActivityTime"));
      }
      for (const absl::string_view list :
           {"", ", '2026-03-14T10:13', 5", ", NULL, 'then'"}) {
        Form(cells, absl::StrCat("lastActivityTime IN [", constant, list, "]"));
        Form(cells,
             absl::StrCat("NOT lastActivityTime IN [", constant, list, "]"));
        Form(cells,
             absl::StrCat("lastActivityTime NIN [", constant, list, "]"));
      }
      Form(cells, absl::StrCat("STARTSWITH(lastActivityTime, ", constant, ")"));
    }
    Form(cells, "is_defined(lastActivityTime)");
    Form(cells, "NOT is_defined(lastActivityTime)");
    Form(cells, "IS_STRING(lastActivityTime) AND lastActivityTime");
    Form(cells, "lastActivityTime = statusUpdateTime");
  }
  EXPECT_THAT(forms, IsSupersetOf({"instants, row by row",
                                   "instants, range of codes, 64 bits"}));
}

// Contract 5.8.3: how conditions said "all" before there was `*`.
TEST(MatcherTest, EveryTwinHasAnId) {
  std::vector<std::optional<Json>> rows;
  for (int i = 0; i < 100; ++i) {
    rows.push_back(Parsed(absl::StrCat(R"({"deviceId": "d)", i, R"("})")));
  }
  const DocumentCells cells(rows);
  EXPECT_EQ(Form(cells, "IS_DEFINED(deviceId)"), "computed, every row");
  EXPECT_EQ(Form(cells, "deviceId = 5"), "computed, no row");
  EXPECT_EQ(Form(cells, "deviceId = 'd7'"), "computed, evaluator, row by row");
}

TEST(MatcherTest, NoRows) {
  const DocumentCells cells({});
  for (const absl::string_view text :
       {"*", "tags.a = 1", "NOT is_defined(tags.a)", "deviceId = 'x'",
        "tags.a > tags.b"}) {
    RowBitmap rows;
    rows.words.fill(~uint64_t{0});
    Matcher(Where(text)).Match(cells, &rows);
    EXPECT_EQ(rows.Count(), 0) << text;
  }
}

TEST(MatcherTest, AllRows) {
  const DocumentCells cells = CellsOf("Regions");
  RowBitmap rows;
  Matcher(Where("*")).Match(cells, &rows);
  EXPECT_EQ(rows.words, cells.rows_in_use().words);
}

// A matcher takes what it learns from one shard to the next; it must not take
// more.
TEST(MatcherTest, FromShardToShard) {
  std::vector<std::unique_ptr<DocumentCells>> shards;
  for (const Values& values : AllValues()) {
    shards.push_back(
        std::make_unique<DocumentCells>(Rows(values.rows, values.value)));
  }
  for (const absl::string_view text :
       {"tags.a = 'x'", "NOT tags.a = 'x'", "tags.a < 20 AND tags.b < 50",
        "tags.a < 20 OR tags.b < 50 AND NOT CONTAINS(tags.a, 'e')",
        "tags.a > tags.b", "tags.a IN ['x', 5, 25, TRUE, NULL, 'eu']",
        "tags.a * 2 > tags.b", "STARTSWITH(tags.a, 'n') OR tags.a[0] = 'x'",
        "is_defined(tags.a) AND (tags.a != 5 OR LENGTH(tags.a) > 2)"}) {
    const Condition condition = Where(text);
    Matcher matcher(condition);
    for (int round = 0; round < 2; ++round) {
      for (size_t i = 0; i < shards.size(); ++i) {
        RowBitmap rows;
        matcher.Match(*shards[i], &rows);
        ExpectSameRows(*shards[i], condition, rows, AllValues()[i].name);
      }
    }
  }
}

TEST(MatcherTest, SelectiveAndCheapComesFirst) {
  const DocumentCells cells = CellsOf("Serials");
  Matcher matcher(
      Where("CONTAINS(tags.a, 'FF') AND tags.b < 90 AND tags.b = 7"));
  RowBitmap rows;
  for (int i = 0; i < 3; ++i) matcher.Match(cells, &rows);
  matcher.Explain([] { return int64_t{0}; });
  matcher.Match(cells, &rows);
  const MatchExplanation explanation = matcher.explanation();
  ASSERT_EQ(explanation.steps.size(), 3u);
  EXPECT_EQ(explanation.steps[0].condition, "tags.b = 7");
  EXPECT_EQ(explanation.steps[1].condition, "tags.b < 90");
  EXPECT_EQ(explanation.steps[2].condition, "CONTAINS(tags.a, 'FF')");
  // Only the rows that were left were looked at.
  EXPECT_EQ(explanation.steps[2].rows_in, explanation.steps[1].rows_out);
  EXPECT_LT(explanation.steps[2].rows_in, 100);
}

TEST(MatcherTest, Explanation) {
  const DocumentCells cells = CellsOf("Percent");
  Matcher matcher(Where("NOT (tags.a >= 20) AND tags.b < 50"));
  int64_t now = 0;
  matcher.Explain([&now] { return now += 5; });
  RowBitmap rows;
  matcher.Match(cells, &rows);
  matcher.Match(cells, &rows);
  MatchExplanation explanation = matcher.explanation();
  EXPECT_EQ(explanation.shards, 2);
  EXPECT_EQ(explanation.rows_in, 2 * cells.rows_in_use().Count());
  EXPECT_EQ(explanation.rows_out, 2 * rows.Count());
  EXPECT_GT(explanation.nanoseconds, 0);
  ASSERT_EQ(explanation.steps.size(), 2u);
  const MatchExplanation::Step& first = explanation.steps[0];
  const MatchExplanation::Step& second = explanation.steps[1];
  EXPECT_EQ(first.rows_in, explanation.rows_in);
  EXPECT_EQ(second.rows_in, first.rows_out);
  EXPECT_EQ(second.rows_out, explanation.rows_out);
  EXPECT_GT(first.nanoseconds, 0);
  EXPECT_THAT(StepTexts(explanation),
              Contains("NOT (tags.a >= 20): numbers, range of codes, 8 bits"));

  const MatchExplanation other = explanation;
  explanation.Merge(other);
  EXPECT_EQ(explanation.shards, 4);
  EXPECT_EQ(explanation.steps.size(), 2u);
  EXPECT_EQ(explanation.steps[0].rows_in, 2 * other.steps[0].rows_in);
  EXPECT_EQ(explanation.steps[0].forms[0].shards, 4);
}

// As deep as conditions may be.
TEST(MatcherTest, Deep) {
  std::string text = "tags.b = 1";
  for (int i = 0; i < 60; ++i) {
    text = absl::StrCat("NOT (tags.b = ", i % 50, i % 2 == 0 ? " AND " : " OR ",
                        text, ")");
  }
  Form(CellsOf("Percent"), text);
}

// Fleets with shapes, and conditions about what is in them.
TEST(MatcherTest, RandomFleetsAndConditions) {
  for (uint64_t seed = 0; seed < 6; ++seed) {
    SCOPED_TRACE(seed);
    Choices choices(seed);
    const TwinShape shape(&choices, 3 + choices.IntBelow(12));
    const int count = 1 + choices.IntBelow(seed % 4 == 0 ? 3000 : 600);
    std::vector<std::optional<Json>> rows;
    ConditionGenerator generator(&choices);
    for (int i = 0; i < count; ++i) {
      rows.push_back(Parsed(
          shape.Twin(shape.DeviceId(static_cast<uint32_t>(i)), &choices)));
      generator.Observe(*rows.back());
      if (choices.OneIn(50)) rows.back().reset();
    }
    std::vector<std::unique_ptr<DocumentCells>> shards;
    shards.push_back(std::make_unique<DocumentCells>(rows));
    shards.push_back(std::make_unique<DocumentCells>(
        rows, DocumentCells::Options{
                  .compact = false, .any_kind = true, .seed = seed}));
    shards.push_back(std::make_unique<DocumentCells>(
        std::vector<std::optional<Json>>(rows.begin(),
                                         rows.begin() + (count + 1) / 2),
        DocumentCells::Options{
            .any_kind = true, .is_short = true, .seed = ~seed}));
    for (int i = 0; i < 60; ++i) {
      const Condition condition = generator.Next();
      Matcher matcher(condition);
      if (choices.OneIn(2)) matcher.Explain([] { return int64_t{0}; });
      for (const auto& shard : shards) {
        RowBitmap selected;
        matcher.Match(*shard, &selected);
        ExpectSameRows(*shard, condition, selected,
                       absl::StrJoin(StepTexts(matcher.explanation()), "\n"));
      }
      if (HasFailure()) return;
    }
  }
}

}  // namespace
}  // namespace muster
