// Page tokens come back as they were given, or not at all.
#include <cstdint>
#include <random>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/model/error.h"
#include "engine/query/page_token.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::HasSubstr;

PageToken Sample() {
  return {"devices.jobs",
          HashForPageToken("SELECT * FROM devices.jobs"),
          {"thermo-042", "lock-7"},
          300};
}

std::string ErrorOf(absl::string_view text, absl::string_view collection,
                    uint64_t hash) {
  const absl::StatusOr<PageToken> token =
      DecodePageToken(text, collection, hash);
  if (token.ok()) return "";
  EXPECT_EQ(ErrorCodeOf(token.status()), ErrorCode::kArgumentInvalid);
  return std::string(token.status().message());
}

TEST(PageTokenTest, ComesBack) {
  PageToken token = Sample();
  const auto same = [&token] {
    const absl::StatusOr<PageToken> decoded = DecodePageToken(
        EncodePageToken(token), token.collection, token.statement_hash);
    return decoded.ok() && *decoded == token;
  };
  EXPECT_TRUE(same());
  token.last_key = {};
  EXPECT_TRUE(same());
  token.last_key = {"", std::string("\0\xff", 2), "é"};
  EXPECT_TRUE(same());
  token.rows_given = INT64_MAX;
  token.statement_hash = UINT64_MAX;
  EXPECT_TRUE(same());
  token = PageToken();
  EXPECT_TRUE(same());
}

TEST(PageTokenTest, IsPrintableAndShortAndTheSameEachTime) {
  PageToken token = Sample();
  token.last_key.assign(kPageTokenKeysMax, "");
  token.last_key[3] =
      std::string(kPageTokenKeyBytesMax - token.collection.size(), '\xfe');
  const std::string text = EncodePageToken(token);
  EXPECT_LE(text.size(), kPageTokenSizeMax);
  for (const char c : text) {
    EXPECT_TRUE(absl::ascii_isgraph(static_cast<unsigned char>(c)));
  }
  EXPECT_EQ(text, EncodePageToken(token));
}

TEST(PageTokenTest, OfAnotherQueryIsRefused) {
  const PageToken token = Sample();
  const std::string text = EncodePageToken(token);
  EXPECT_THAT(ErrorOf(text, "devices", token.statement_hash),
              HasSubstr("a query over devices.jobs, not over devices"));
  EXPECT_THAT(ErrorOf(text, token.collection, token.statement_hash + 1),
              HasSubstr("another statement"));
}

TEST(PageTokenTest, DamagedIsRefused) {
  const PageToken token = Sample();
  const std::string text = EncodePageToken(token);
  const auto error = [&](const std::string& damaged) {
    return ErrorOf(damaged, token.collection, token.statement_hash);
  };
  // Every cut, and every character replaced by every other one.
  for (size_t i = 0; i < text.size(); ++i) {
    EXPECT_EQ(error(text.substr(0, i)), "the continuation token is damaged");
    for (int c = 1; c < 256; ++c) {
      if (static_cast<char>(c) == text[i]) continue;
      std::string damaged = text;
      damaged[i] = static_cast<char>(c);
      EXPECT_EQ(error(damaged), "the continuation token is damaged");
    }
  }
  for (const char* text_of_others :
       {"", "=", "abc", "é", "AAAAAAAAAAAAAAAAAAAAAAAA"}) {
    EXPECT_NE(error(text_of_others), "");
  }
  EXPECT_NE(error(text + "A"), "");
  EXPECT_NE(error(text + "="), "");
  EXPECT_NE(error(" " + text), "");
  EXPECT_NE(error(text + text), "");
  EXPECT_NE(error(std::string(1 << 20, 'A')), "");
}

TEST(PageTokenTest, NoiseIsRefused) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  constexpr absl::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  for (int i = 0; i < 10'000; ++i) {
    std::string text = "AQ";  // As a token begins.
    for (uint32_t j = random() % 200; j > 0; --j) {
      text.push_back(kAlphabet[random() % kAlphabet.size()]);
    }
    EXPECT_NE(ErrorOf(text, "devices", 0), "");
  }
}

// Tokens outlive the process: the hash may not change.
TEST(PageTokenTest, HashIsStable) {
  EXPECT_EQ(HashForPageToken(""), uint64_t{9615434041927672947u});
  EXPECT_EQ(HashForPageToken("SELECT * FROM devices"),
            uint64_t{9823156541071631413u});
}

}  // namespace
}  // namespace muster
