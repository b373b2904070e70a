// Cuts query text into tokens (contract 5.4).
//
// The text comes from outside: it must be UTF-8 of at most kQueryLengthMax code
// points, and no more than that is read of a longer one.  The list of tokens
// ends with kEnd, or with kError where the text stops making sense: a parser
// then reports an error of grammar that comes before it, if there is one.
#ifndef ENGINE_QUERY_LEXER_H_
#define ENGINE_QUERY_LEXER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/query/parse_error.h"

namespace muster {

enum class TokenKind : uint8_t {
  kEnd,
  kError,
  kName,         // region
  kEscapedName,  // [[my-tag]]
  kNumber,       // 12  0x1f  .5e3
  kString,       // 'text'  "text"

  kDot,
  kComma,
  kLeftParen,
  kRightParen,
  kLeftBracket,
  kRightBracket,
  kStar,
  kPlus,
  kMinus,
  kSlash,
  kPercent,
  kEqual,
  kNotEqual,  // !=  <>
  kLess,
  kGreater,
  kLessOrEqual,
  kGreaterOrEqual,

  // Reserved words, in any case.
  kAll,
  kAnd,
  kAs,
  kAsc,
  kAvg,
  kBy,
  kCount,
  kDesc,
  kFalse,
  kFrom,
  kGroup,
  kIn,
  kMax,
  kMin,
  kNin,
  kNot,
  kNull,
  kOr,
  kOrder,
  kSelect,
  kSum,
  kTop,
  kTrue,
  kUndefined,
  kWhere,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  SourcePosition position;
  absl::string_view source;  // As it stands in the text.
  std::string text;          // A name, or a string without quotes and escapes;
                             // of kError: what is wrong.
  double number = 0;
};

// The tokens of `text`, which must outlive them.
std::vector<Token> Tokenize(absl::string_view text);

// Whether `name` is a reserved word, which stands for a name only in [[ ]].
bool IsReservedWord(absl::string_view name);

// Whether `name` may be written as it is, without [[ ]].
bool IsPlainName(absl::string_view name);

}  // namespace muster

#endif  // ENGINE_QUERY_LEXER_H_
