#include "engine/query/lexer.h"

#include <cstddef>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/model/limits.h"
#include "engine/query/number_text.h"
#include "engine/query/utf8.h"

namespace muster {
namespace {

struct ReservedWord {
  absl::string_view text;
  TokenKind kind;
};

constexpr ReservedWord kReservedWords[] = {
    {"ALL", TokenKind::kAll},     {"AND", TokenKind::kAnd},
    {"AS", TokenKind::kAs},       {"ASC", TokenKind::kAsc},
    {"AVG", TokenKind::kAvg},     {"BY", TokenKind::kBy},
    {"COUNT", TokenKind::kCount}, {"DESC", TokenKind::kDesc},
    {"FALSE", TokenKind::kFalse}, {"FROM", TokenKind::kFrom},
    {"GROUP", TokenKind::kGroup}, {"IN", TokenKind::kIn},
    {"MAX", TokenKind::kMax},     {"MIN", TokenKind::kMin},
    {"NIN", TokenKind::kNin},     {"NOT", TokenKind::kNot},
    {"NULL", TokenKind::kNull},   {"OR", TokenKind::kOr},
    {"ORDER", TokenKind::kOrder}, {"SELECT", TokenKind::kSelect},
    {"SUM", TokenKind::kSum},     {"TOP", TokenKind::kTop},
    {"TRUE", TokenKind::kTrue},   {"UNDEFINED", TokenKind::kUndefined},
    {"WHERE", TokenKind::kWhere},
};

struct Symbol {
  absl::string_view text;
  TokenKind kind;
};

// Longer ones before those that they begin with.
constexpr Symbol kSymbols[] = {
    {"!=", TokenKind::kNotEqual},    {"<>", TokenKind::kNotEqual},
    {"<=", TokenKind::kLessOrEqual}, {">=", TokenKind::kGreaterOrEqual},
    {"=", TokenKind::kEqual},        {"<", TokenKind::kLess},
    {">", TokenKind::kGreater},      {".", TokenKind::kDot},
    {",", TokenKind::kComma},        {"(", TokenKind::kLeftParen},
    {")", TokenKind::kRightParen},   {"[", TokenKind::kLeftBracket},
    {"]", TokenKind::kRightBracket}, {"*", TokenKind::kStar},
    {"+", TokenKind::kPlus},         {"-", TokenKind::kMinus},
    {"/", TokenKind::kSlash},        {"%", TokenKind::kPercent},
};

// What people write who come from other languages.
struct ForeignSymbol {
  absl::string_view text;
  absl::string_view advice;
};

constexpr ForeignSymbol kForeignSymbols[] = {
    {"==", "use = to compare"},
    {"!", "use NOT"},
    {"&&", "use AND"},
    {"||", "use OR for conditions, CONCAT for strings"},
    {";", "leave it out: a text is one statement or condition"},
    {"`", "write names that need quotes as [[name]]"},
    {"{", "lists are written in [ ]"},
};

bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

// White space and controls beyond ASCII.  What is white space there was last
// changed in Unicode 6.3.
bool IsWideSpaceOrControl(char32_t c) {
  return c < 0xa0 /* C1 controls */ || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
         c == 0x202f || c == 0x205f || c == 0x3000;
}

bool IsNameStart(char32_t c) {
  if (c >= 0x80) return !IsWideSpaceOrControl(c);
  return absl::ascii_isalpha(static_cast<unsigned char>(c)) || c == '_' ||
         c == '$';
}

bool IsDigit(char32_t c) { return c >= '0' && c <= '9'; }

// The value of a hexadecimal digit; -1 if it is none.
int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Reads the four digits of a \u escape; -1 if they are not there.
int32_t HexUnit(absl::string_view text) {
  if (text.size() < 4) return -1;
  int32_t unit = 0;
  for (int i = 0; i < 4; ++i) {
    const int digit = HexDigit(text[i]);
    if (digit < 0) return -1;
    unit = unit * 16 + digit;
  }
  return unit;
}

class Lexer {
 public:
  explicit Lexer(absl::string_view text) : rest_(text) {}

  std::vector<Token> Run() {
    absl::string_view whole = rest_;
    if (CheckText(whole)) {
      do {
        Next();
      } while (tokens_.back().kind != TokenKind::kEnd &&
               tokens_.back().kind != TokenKind::kError);
    }
    return std::move(tokens_);
  }

 private:
  // Before anything is read: is it text, and not too much of it?
  bool CheckText(absl::string_view text) {
    SourcePosition position;
    for (size_t count = 0; !text.empty(); ++count) {
      char32_t c = 0;
      const int length = DecodeUtf8(text, &c);
      if (length == 0) {
        Fail(position, "the text is no valid UTF-8 from here on");
        return false;
      }
      if (count == kQueryLengthMax) {
        Fail(position, absl::StrCat("the text is longer than ", kQueryLengthMax,
                                    " characters"));
        return false;
      }
      Step(c, &position);
      text.remove_prefix(length);
    }
    return true;
  }

  static void Step(char32_t c, SourcePosition* position) {
    if (c == '\n') {
      ++position->line;
      position->column = 1;
    } else {
      ++position->column;
    }
  }

  void Fail(SourcePosition position, std::string what) {
    Token token;
    token.kind = TokenKind::kError;
    token.position = position;
    token.text = std::move(what);
    tokens_.push_back(std::move(token));
  }

  void Advance(size_t bytes) {
    for (size_t i = 0; i < bytes;) {
      char32_t c = 0;
      i += DecodeUtf8(rest_.substr(i), &c);
      Step(c, &position_);
    }
    rest_.remove_prefix(bytes);
  }

  // Adds the token that is `bytes` long, and moves behind it.
  Token& Emit(TokenKind kind, size_t bytes) {
    Token token;
    token.kind = kind;
    token.position = position_;
    token.source = rest_.substr(0, bytes);
    tokens_.push_back(std::move(token));
    Advance(bytes);
    return tokens_.back();
  }

  char Peek(size_t offset = 0) const {
    return offset < rest_.size() ? rest_[offset] : '\0';
  }

  TokenKind Last() const {
    return tokens_.empty() ? TokenKind::kEnd : tokens_.back().kind;
  }

  // A dot behind one of these goes on with a path; elsewhere it may begin a
  // number.
  bool InPath() const {
    return Last() == TokenKind::kName || Last() == TokenKind::kEscapedName ||
           Last() == TokenKind::kRightBracket;
  }

  void Next() {
    while (IsSpace(Peek()) && !rest_.empty()) Advance(1);
    if (rest_.empty()) {
      Emit(TokenKind::kEnd, 0);
      return;
    }
    const char c = Peek();
    if (c == '\'' || c == '"') return String(c);
    if (absl::StartsWith(rest_, "[[")) {
      // Right after IN, a bracket opens the list of values.
      if (Last() != TokenKind::kIn && Last() != TokenKind::kNin) {
        return EscapedName();
      }
    }
    if (IsDigit(c)) return Number();
    if (c == '.' && IsDigit(Peek(1))) {
      if (!InPath()) return Number();
      return Fail(position_,
                  "found a digit behind '.': write a name that begins with a "
                  "digit as [[name]], an index as [0]");
    }
    char32_t first = 0;
    DecodeUtf8(rest_, &first);
    if (IsNameStart(first)) return Name();
    for (const ForeignSymbol& foreign : kForeignSymbols) {
      if (absl::StartsWith(rest_, foreign.text) &&
          !absl::StartsWith(rest_, "!=")) {
        return Fail(position_, absl::StrCat("found '", foreign.text,
                                            "': ", foreign.advice));
      }
    }
    for (const Symbol& symbol : kSymbols) {
      if (absl::StartsWith(rest_, symbol.text)) {
        Emit(symbol.kind, symbol.text.size());
        return;
      }
    }
    char32_t ignored = 0;
    Fail(position_,
         absl::StrCat("found ",
                      Quoted(rest_.substr(0, DecodeUtf8(rest_, &ignored))),
                      ", which no token begins with; a name with such "
                      "characters is written as [[name]]"));
  }

  void Name() {
    size_t end = 0;
    while (end < rest_.size()) {
      char32_t c = 0;
      const int length = DecodeUtf8(rest_.substr(end), &c);
      if (!IsNameStart(c) && !IsDigit(c)) break;
      end += length;
    }
    const absl::string_view name = rest_.substr(0, end);
    for (const ReservedWord& word : kReservedWords) {
      if (absl::EqualsIgnoreCase(word.text, name)) {
        Emit(word.kind, end);
        return;
      }
    }
    Emit(TokenKind::kName, end).text = std::string(name);
  }

  void EscapedName() {
    const size_t end = rest_.find("]]", 2);
    if (end == absl::string_view::npos) {
      return Fail(position_, "found '[[' without the ']]' that ends the name");
    }
    if (end == 2) return Fail(position_, "found '[[]]', expected a name in it");
    std::string name(rest_.substr(2, end - 2));
    Emit(TokenKind::kEscapedName, end + 2).text = std::move(name);
  }

  void Number() {
    double value = 0;
    size_t end = 0;
    if (absl::StartsWith(rest_, "0x")) {
      uint64_t bits = 0;
      bool fits = true;
      for (end = 2; HexDigit(Peek(end)) >= 0; ++end) {
        bits = bits * 16 + HexDigit(Peek(end));
        if (bits > (uint64_t{1} << 53)) fits = false;
        if (!fits) bits = 0;
      }
      if (end == 2) {
        return Fail(position_, "found '0x', expected hexadecimal digits in it");
      }
      if (!fits) {
        return Fail(position_,
                    "found a hexadecimal number beyond 0x20000000000000");
      }
      value = static_cast<double>(bits);
    } else {
      end = ScanDecimal(rest_);
      if (!ParseDecimal(rest_.substr(0, end), &value)) {
        return Fail(position_, "found a number that is too large");
      }
    }
    char32_t next = 0;
    if (end < rest_.size()) DecodeUtf8(rest_.substr(end), &next);
    if (next == '.' || IsNameStart(next)) {
      return Fail(position_,
                  absl::StrCat("found '", rest_.substr(0, end),
                               "' and something that touches it: a number ends "
                               "before a letter or a second dot, and a name "
                               "that begins with a digit is written as "
                               "[[name]]"));
    }
    Emit(TokenKind::kNumber, end).number = value;
  }

  // Where `offset` bytes further on is.
  SourcePosition PositionAt(size_t offset) const {
    Lexer ahead = Lexer(rest_);
    ahead.position_ = position_;
    ahead.Advance(offset);
    return ahead.position_;
  }

  void String(char quote) {
    std::string text;
    size_t i = 1;
    while (true) {
      if (i >= rest_.size()) {
        return Fail(position_, absl::StrCat("found a string without the ",
                                            absl::string_view(&quote, 1),
                                            " that ends it"));
      }
      const char c = rest_[i];
      if (c == quote) break;
      if (c != '\\') {
        text.push_back(c);
        ++i;
        continue;
      }
      const size_t length = Escape(i, &text);
      if (length == 0) return;  // Escape() has said why.
      i += length;
    }
    Emit(TokenKind::kString, i + 1).text = std::move(text);
  }

  // Decodes the escape at `offset` to the end of `*text`: its length, or 0
  // after Fail().
  size_t Escape(size_t offset, std::string* text) {
    const char c = Peek(offset + 1);
    if (c == '\'' || c == '"' || c == '\\') {
      text->push_back(c);
      return 2;
    }
    if (c != 'u') {
      Fail(PositionAt(offset),
           "found an escape that does not exist: after '\\' comes one of "
           "\\ ' \" or u and four hexadecimal digits; write '\\\\' for '\\'");
      return 0;
    }
    const int32_t unit = HexUnit(rest_.substr(offset + 2));
    if (unit < 0) {
      Fail(PositionAt(offset),
           "found '\\u', expected four hexadecimal digits behind it");
      return 0;
    }
    if (unit < 0xd800 || unit > 0xdfff) {
      AppendUtf8(static_cast<char32_t>(unit), text);
      return 6;
    }
    // Half of a code point beyond U+FFFF; the other half follows.
    const int32_t low =
        unit < 0xdc00 && Peek(offset + 6) == '\\' && Peek(offset + 7) == 'u'
            ? HexUnit(rest_.substr(offset + 8))
            : -1;
    if (low < 0xdc00 || low > 0xdfff) {
      Fail(PositionAt(offset),
           "found half of a surrogate pair: two \\u escapes, the first of "
           "D800 to DBFF and the second of DC00 to DFFF, make one character");
      return 0;
    }
    AppendUtf8(0x10000 + ((static_cast<char32_t>(unit) - 0xd800) << 10) +
                   (static_cast<char32_t>(low) - 0xdc00),
               text);
    return 12;
  }

  absl::string_view rest_;
  SourcePosition position_;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> Tokenize(absl::string_view text) {
  return Lexer(text).Run();
}

bool IsReservedWord(absl::string_view name) {
  for (const ReservedWord& word : kReservedWords) {
    if (absl::EqualsIgnoreCase(word.text, name)) return true;
  }
  return false;
}

bool IsPlainName(absl::string_view name) {
  if (name.empty() || IsReservedWord(name)) return false;
  for (size_t i = 0; i < name.size();) {
    char32_t c = 0;
    const int length = DecodeUtf8(name.substr(i), &c);
    if (length == 0) return false;
    if (!IsNameStart(c) && (i == 0 || !IsDigit(c))) return false;
    i += length;
  }
  return true;
}

}  // namespace muster
