// Columns of codes: what goes in comes out, in whatever form it is kept.
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/model/json.h"
#include "engine/twin/columns/code_array.h"
#include "engine/twin/columns/column.h"
#include "engine/twin/columns/int_column.h"
#include "engine/twin/columns/text_pattern.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

// -------------------------------------------------------------- code arrays

TEST(CodeArrayTest, TakesTheFormThatItNeeds) {
  CodeArray codes;
  codes.Resize(1024);
  EXPECT_EQ(codes.form(), CodeArray::Form::kConstant);
  EXPECT_EQ(codes.MemoryUsage(), 0u);
  for (int row = 0; row < 64; ++row) codes.Set(row * 3, 7);
  EXPECT_EQ(codes.form(), CodeArray::Form::kSparse);
  codes.Set(1000, 7);
  EXPECT_EQ(codes.form(), CodeArray::Form::kBits);
  codes.Set(1000, 8);
  EXPECT_EQ(codes.form(), CodeArray::Form::k8);
  codes.Set(1001, 0x100);
  EXPECT_EQ(codes.form(), CodeArray::Form::k16);
  codes.Set(1002, 0x10000);
  EXPECT_EQ(codes.form(), CodeArray::Form::k32);
  codes.Set(1003, 0x1'0000'0000);
  EXPECT_EQ(codes.form(), CodeArray::Form::k64);
  EXPECT_EQ(codes.Get(3), 7u);
  EXPECT_EQ(codes.Get(1000), 8u);
  EXPECT_EQ(codes.Get(1003), 0x1'0000'0000u);
  for (int row = 0; row < 1024; ++row) codes.Set(row, 9);
  codes.Compact();
  EXPECT_EQ(codes.form(), CodeArray::Form::kConstant);
  EXPECT_EQ(codes.Get(77), 9u);
  codes.Resize(2048);
  EXPECT_EQ(codes.Get(77), 9u);
  EXPECT_EQ(codes.Get(1024), 0u);
}

TEST(CodeArrayTest, AgreesWithAVector) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 300; ++round) {
    CodeArray codes;
    std::vector<uint64_t> model;
    const int kinds = 1 + static_cast<int>(random() % 4);
    const uint64_t widest = uint64_t{1} << (random() % 64);
    for (int step = 0; step < 400; ++step) {
      const int what = static_cast<int>(random() % 100);
      if (model.empty() || what < 3) {
        const size_t size =
            std::min<size_t>(model.size() + random() % 500 + 1, kShardRowsMax);
        codes.Resize(static_cast<int>(size));
        model.resize(size);
      } else if (what < 4) {
        codes.Compact();
      } else if (what < 5) {
        codes.Remap([](uint64_t c) { return c == UINT64_MAX ? c : c + 1; });
        for (uint64_t& c : model) c += c != 0 && c != UINT64_MAX;
      } else {
        const size_t row = random() % model.size();
        const uint64_t code =
            kinds == 4 ? random() % widest
            : random() % 3 == 0
                ? 0
                : random() % static_cast<uint64_t>(kinds) * (widest / 2 + 1);
        codes.Set(static_cast<int>(row), code);
        model[row] = code;
      }
    }
    ASSERT_EQ(codes.size(), static_cast<int>(model.size()));
    std::vector<uint64_t> set(model.size());
    int last = -1;
    codes.ForEachSet([&](int row, uint64_t code) {
      EXPECT_GT(row, last);
      last = row;
      set[static_cast<size_t>(row)] = code;
    });
    ASSERT_EQ(set, model);
    for (size_t row = 0; row < model.size(); ++row) {
      ASSERT_EQ(codes.Get(static_cast<int>(row)), model[row]) << row;
    }
    // Behind the last row kernels find zeros.
    if (codes.form() == CodeArray::Form::k8) {
      for (size_t row = model.size(); row % 64 != 0; ++row) {
        ASSERT_EQ(codes.As<uint8_t>()[row], 0);
      }
    }
  }
}

// -------------------------------------------------------------- int columns

TEST(IntColumnTest, NeighboursAreNarrow) {
  IntColumn column;
  column.Resize(1024);
  for (int row = 0; row < 1024; ++row) {
    column.Set(row, 1'000'000'000'000 + row % 100);
  }
  EXPECT_EQ(column.codes().form(), CodeArray::Form::k8);
  // One of them counts on.
  for (int i = 0; i < 100'000; ++i) column.Set(5, 1'000'000'000'000 + i);
  EXPECT_EQ(column.Get(5), 1'000'000'099'999);
  EXPECT_EQ(column.Get(99), 1'000'000'000'099);
  column.Clear(5);
  column.Compact();
  EXPECT_EQ(column.codes().form(), CodeArray::Form::k8);
  EXPECT_FALSE(column.Has(5));
  EXPECT_EQ(column.GetOr(5, -1), -1);
}

TEST(IntColumnTest, AgreesWithAMap) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 200; ++round) {
    IntColumn column;
    column.Resize(300);
    std::map<int, int64_t> model;
    const int shift = static_cast<int>(random() % 62) + 2;
    const int64_t middle = static_cast<int64_t>(random()) >> 3;
    for (int step = 0; step < 600; ++step) {
      const int row = static_cast<int>(random() % 300);
      if (random() % 10 == 0) {
        column.Clear(row);
        model.erase(row);
      } else {
        const int64_t value =
            middle + (static_cast<int64_t>(random()) >> shift);
        column.Set(row, value);
        model[row] = value;
      }
      if (random() % 100 == 0) column.Compact();
    }
    for (int row = 0; row < 300; ++row) {
      const auto it = model.find(row);
      ASSERT_EQ(column.Has(row), it != model.end());
      if (it != model.end()) {
        ASSERT_EQ(column.Get(row), it->second);
      }
    }
  }
}

// ------------------------------------------------------------ text patterns

TEST(TextPatternTest, ReadsAndWrites) {
  using Digits = TextPattern::Digits;
  const struct {
    const char* text;
    Digits digits;
    int64_t number;
  } kCases[] = {
      {"dev-00000042", Digits::kDecimal, 42},
      {"8944000000000123", Digits::kDecimal, 8944000000000123},
      {"SN00A1B2C3D4E5", Digits::kUpperHex, 0xa1b2c3d4e5},
      {"00ff", Digits::kLowerHex, 255},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.text);
    const auto pattern = TextPattern::Of(c.text, c.digits);
    ASSERT_TRUE(pattern.has_value());
    ASSERT_TRUE(pattern->Read(c.text).has_value());
    EXPECT_EQ(*pattern->Read(c.text), c.number);
    std::string back(pattern->size(), '?');
    pattern->Write(c.number, &back[0]);
    EXPECT_EQ(back, c.text);
  }
  EXPECT_FALSE(TextPattern::Of("emea", Digits::kDecimal).has_value());
  EXPECT_FALSE(TextPattern::Of("", Digits::kDecimal).has_value());
  const auto pattern = TextPattern::Of("dev-00000042", Digits::kDecimal);
  for (const char* other : {"dev-0000042", "dev-000000042", "Dev-00000042",
                            "dev-0000004a", "dev-0000004 ", ""}) {
    EXPECT_FALSE(pattern->Read(other).has_value()) << other;
  }
}

TEST(TextPatternTest, Instants) {
  using Digits = TextPattern::Digits;
  int64_t last = -1;
  for (const char* text :
       {"0002-03-01T00:00:00Z", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z",
        "2000-02-29T12:00:00Z", "2024-02-29T23:59:59Z", "2024-03-01T00:00:00Z",
        "2026-12-31T01:02:03Z", "9999-12-31T23:59:59Z"}) {
    SCOPED_TRACE(text);
    const auto pattern = TextPattern::Of(text, Digits::kInstant);
    ASSERT_TRUE(pattern.has_value());
    const int64_t number = *pattern->Read(text);
    EXPECT_GT(number, last);
    last = number;
    std::string back(pattern->size(), '?');
    pattern->Write(number, &back[0]);
    EXPECT_EQ(back, text);
  }
  for (const char* text :
       {"2023-02-29T00:00:00Z", "2024-04-31T00:00:00Z", "2024-13-01T00:00:00Z",
        "2024-00-01T00:00:00Z", "2024-01-00T00:00:00Z", "2024-01-01T24:00:00Z",
        "2024-01-01T00:60:00Z", "2024-01-01T00:00:60Z", "2024-01-01T00:00:00",
        "2024-01-01t00:00:00Z", "2024-01-01T00:00:0xZ"}) {
    EXPECT_FALSE(TextPattern::Of(text, Digits::kInstant).has_value()) << text;
  }
}

// ----------------------------------------------------------------- columns

std::string Encoded(absl::string_view text) {
  absl::StatusOr<Json> json = ParseJson(absl::StrCat("[", text, "]"));
  EXPECT_TRUE(json.ok()) << json.status();
  return std::string(json->view().At(0).bytes());
}

// A column and what should be in it.
struct Pair {
  Column column;
  std::vector<std::string> model;

  explicit Pair(int rows) : model(static_cast<size_t>(rows)) {
    column.Resize(rows);
  }
  void Set(int row, absl::string_view encoded) {
    column.Set(row, encoded.empty() ? JsonView()
                                    : JsonView::FromEncoded(encoded.data()));
    model[static_cast<size_t>(row)] = std::string(encoded);
  }
  void Check() {
    CellBuffer buffer;
    for (size_t row = 0; row < model.size(); ++row) {
      const JsonView view = column.Get(static_cast<int>(row), &buffer);
      ASSERT_EQ(view.is_undefined() ? "" : JsonText(view),
                model[row].empty()
                    ? ""
                    : JsonText(JsonView::FromEncoded(model[row].data())))
          << row;
      ASSERT_EQ(view.bytes(), model[row]) << row;
      const uint64_t code = column.codes().Get(static_cast<int>(row));
      ASSERT_LE(code, column.max_code());
      if (column.kind() == Column::Kind::kDictionary) {
        ASSERT_EQ(column.FindCode(view), code);
      } else if (row > 0 && code >= Column::kFirstCode) {
        // Codes are in the order of the values.
        const uint64_t before = column.codes().Get(static_cast<int>(row) - 1);
        if (before < Column::kFirstCode) continue;
        CellBuffer other;
        const JsonView a = column.ValueOf(before, &other);
        if (a.is_string()) {
          ASSERT_EQ(a.string_value() < view.string_value(), before < code);
        } else {
          ASSERT_TRUE(before < code ? a.number_value() <= view.number_value()
                                    : a.number_value() >= view.number_value());
        }
      }
    }
  }
};

TEST(ColumnTest, KindFollowsTheValues) {
  const auto kind_of = [](const std::vector<std::string>& texts) {
    Pair pair(400);
    for (int row = 0; row < 400; ++row) {
      pair.Set(row, Encoded(texts[static_cast<size_t>(row) % texts.size()]));
    }
    pair.Check();
    return pair.column.kind();
  };
  using Kind = Column::Kind;
  EXPECT_EQ(kind_of({"1", "2", "300"}), Kind::kNumber);
  EXPECT_EQ(kind_of({"1.5", "2", "45.1"}), Kind::kNumber);
  EXPECT_EQ(kind_of({"1.5", "2.0", "45.1"}), Kind::kNumber);
  EXPECT_EQ(kind_of({"1.5", "2.0", "2"}), Kind::kDictionary);
  EXPECT_EQ(kind_of({"0.1", "0.30000000000000004", "-7.25", "3"}),
            Kind::kNumber);
  EXPECT_EQ(kind_of({"1e300", "-1e300", "5e-324"}), Kind::kNumber);
  EXPECT_EQ(kind_of({"0.0", "-0.0"}), Kind::kNumber);
  EXPECT_EQ(kind_of({"0", "-0.0"}), Kind::kDictionary);
  EXPECT_EQ(kind_of({"9007199254740993", "1"}), Kind::kDictionary);
  EXPECT_EQ(kind_of({"1", "\"1\""}), Kind::kDictionary);
  EXPECT_EQ(kind_of({"true", "false", "null"}), Kind::kDictionary);
  EXPECT_EQ(kind_of({"[1,\"a\",{\"b\":null}]", "{}"}), Kind::kDictionary);
  EXPECT_EQ(kind_of({"null", "4"}), Kind::kNumber);
}

TEST(ColumnTest, StringsOfAPatternNeedNoDictionary) {
  Pair pair(4096);
  for (int row = 0; row < 4096; ++row) {
    pair.Set(row, Encoded(absl::StrFormat("\"SN%06X\"", row * 997)));
  }
  pair.Check();
  EXPECT_EQ(pair.column.kind(), Column::Kind::kText);
  EXPECT_LT(pair.column.MemoryUsage(), 4096u * 5);
  pair.Set(17, Encoded("\"other\""));
  EXPECT_EQ(pair.column.kind(), Column::Kind::kDictionary);
  pair.Check();
}

TEST(ColumnTest, DictionariesForgetWhatIsGone) {
  Pair pair(100);
  for (int i = 0; i < 100'000; ++i) {
    pair.Set(i % 100, Encoded(absl::StrCat("\"value number ", i, " x\"")));
  }
  pair.Check();
  EXPECT_LT(pair.column.MemoryUsage(), 100u * 2 * 40 + 4096);
}

TEST(ColumnTest, AgreesWithAVector) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937_64 random(seed);
  const std::vector<std::string> odd = {Encoded("null"),
                                        Encoded("true"),
                                        Encoded("{}"),
                                        Encoded("[]"),
                                        Encoded("-0.0"),
                                        Encoded("0"),
                                        Encoded("0.0"),
                                        Encoded("\"\""),
                                        Encoded("1e300"),
                                        Encoded("5e-324"),
                                        Encoded("4503599627370495"),
                                        Encoded("-4503599627370496"),
                                        Encoded("0.1"),
                                        Encoded("123456789012.5"),
                                        Encoded("0.30000000000000004"),
                                        Encoded("\"\\u20ac\"")};
  for (int round = 0; round < 200; ++round) {
    const int rows = 1 + static_cast<int>(random() % 1500);
    Pair pair(rows);
    const int style = static_cast<int>(random() % 7);
    const int oddness =
        random() % 3 == 0 ? 0 : 1 + static_cast<int>(random() % 300);
    for (int step = 0; step < 3000; ++step) {
      const int row = static_cast<int>(random()) & 0x7fffffff;
      const int at = row % rows;
      if (random() % 10 == 0) {
        pair.Set(at, "");
        continue;
      }
      if (oddness > 0 && random() % static_cast<unsigned>(oddness) == 0) {
        pair.Set(at, odd[random() % odd.size()]);
        continue;
      }
      const int64_t n = static_cast<int64_t>(random() % 100'000) - 50'000;
      std::string text;
      switch (style) {
        case 0:
          text = absl::StrCat(n);
          break;
        case 1:
          text = absl::StrFormat("%.1f", static_cast<double>(n) / 10);
          break;
        case 2:  // As JavaScript writes them.
          text = n % 10 == 0
                     ? absl::StrCat(n / 10)
                     : absl::StrFormat("%d.%d", n / 10, std::abs(n % 10));
          break;
        case 3:
          text = absl::StrFormat("%.17g", static_cast<double>(n) / 7 + 0.01);
          break;
        case 4:
          text = absl::StrFormat("\"id-%06d\"", n + 50'000);
          break;
        case 5:
          text = absl::StrCat("\"", n % 20, "\"");
          break;
        default:
          text = absl::StrCat("[", n % 5, "]");
      }
      pair.Set(at, Encoded(text));
      if (random() % 1000 == 0) pair.column.Compact();
    }
    pair.Check();
    pair.column.Compact();
    pair.Check();
    if (testing::Test::HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace muster
