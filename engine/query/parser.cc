#include "engine/query/parser.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/model/check.h"
#include "engine/model/json.h"
#include "engine/model/limits.h"
#include "engine/query/functions.h"
#include "engine/query/lexer.h"
#include "engine/query/path.h"

namespace muster {
namespace {

struct Advice {
  absl::string_view word;
  absl::string_view text;
};

// What people write who come from other languages, where it is a plain name or
// a reserved word here.
constexpr Advice kForeignWords[] = {
    {"LIKE", "there is no LIKE, use STARTSWITH, ENDSWITH or CONTAINS"},
    {"BETWEEN", "there is no BETWEEN, use >= and <="},
    {"IS", "there is no IS, use IS_NULL(...) or IS_DEFINED(...)"},
    {"ORDER", "there is no ORDER BY, rows come in the order of their keys"},
    {"LIMIT", "there is no LIMIT, use SELECT TOP n"},
    {"JOIN", "there is no JOIN"},
    {"HAVING", "there is no HAVING"},
    {"DISTINCT", "there is no DISTINCT, use GROUP BY"},
};

bool IsReserved(TokenKind kind) { return kind >= TokenKind::kAll; }

bool IsName(TokenKind kind) {
  return kind == TokenKind::kName || kind == TokenKind::kEscapedName;
}

std::optional<CompareOp> AsCompareOp(TokenKind kind) {
  switch (kind) {
    case TokenKind::kEqual:
      return CompareOp::kEq;
    case TokenKind::kNotEqual:
      return CompareOp::kNe;
    case TokenKind::kLess:
      return CompareOp::kLt;
    case TokenKind::kGreater:
      return CompareOp::kGt;
    case TokenKind::kLessOrEqual:
      return CompareOp::kLe;
    case TokenKind::kGreaterOrEqual:
      return CompareOp::kGe;
    default:
      return std::nullopt;
  }
}

std::optional<ArithmeticOp> AsAdditiveOp(TokenKind kind) {
  if (kind == TokenKind::kPlus) return ArithmeticOp::kAdd;
  if (kind == TokenKind::kMinus) return ArithmeticOp::kSubtract;
  return std::nullopt;
}

std::optional<ArithmeticOp> AsMultiplicativeOp(TokenKind kind) {
  if (kind == TokenKind::kStar) return ArithmeticOp::kMultiply;
  if (kind == TokenKind::kSlash) return ArithmeticOp::kDivide;
  if (kind == TokenKind::kPercent) return ArithmeticOp::kModulo;
  return std::nullopt;
}

std::optional<AggregateFunction> AsAggregate(TokenKind kind) {
  switch (kind) {
    case TokenKind::kCount:
      return AggregateFunction::kCount;
    case TokenKind::kAvg:
      return AggregateFunction::kAvg;
    case TokenKind::kSum:
      return AggregateFunction::kSum;
    case TokenKind::kMin:
      return AggregateFunction::kMin;
    case TokenKind::kMax:
      return AggregateFunction::kMax;
    default:
      return std::nullopt;
  }
}

// NOT of `operand`, reduced: of three NOTs one is left.
Expr MakeNot(Expr operand, SourcePosition position) {
  if (operand.As<Not>() && operand.operands[0].As<Not>()) {
    Expr inner = std::move(operand.operands[0]);
    inner.position = position;
    return inner;
  }
  Expr out{Not{}, {}, position};
  out.operands.push_back(std::move(operand));
  return out;
}

// A sign before `operand`, reduced: numbers take it in, signs multiply.
Expr MakeSign(bool negative, Expr operand, SourcePosition position) {
  if (const Constant* constant = operand.As<Constant>()) {
    if (constant->kind == JsonKind::kNumber) {
      const double number = constant->number;
      return {Constant::Number(negative ? -number : number), {}, position};
    }
  }
  if (const Sign* sign = operand.As<Sign>()) {
    operand.node = Sign{sign->negative != negative};
    operand.position = position;
    return operand;
  }
  Expr out{Sign{negative}, {}, position};
  out.operands.push_back(std::move(operand));
  return out;
}

ArrayConst MakeArray(std::vector<Constant> elements) {
  std::string bytes;
  JsonBuilder builder(&bytes);
  builder.BeginArray();
  for (const Constant& element : elements) {
    switch (element.kind) {
      case JsonKind::kNull:
        builder.Null();
        break;
      case JsonKind::kBool:
        builder.Bool(element.boolean);
        break;
      case JsonKind::kNumber:
        builder.Double(element.number);
        break;
      case JsonKind::kString:
        builder.String(element.text);
        break;
      default:
        break;  // UNDEFINED, which no array holds.
    }
  }
  builder.EndArray();
  return {std::move(elements), Json::FromBytes(std::move(bytes))};
}

class Parser {
 public:
  // `text` and `options` must outlive the parser.
  Parser(absl::string_view text, absl::string_view unit, Collection collection,
         const QueryOptions& options)
      : unit_(unit),
        collection_(collection),
        options_(options),
        tokens_(Tokenize(text)) {}

  absl::StatusOr<Expr> Condition() {
    Expr expr;
    if (!ParseOr(&expr) || !ExpectEnd()) return error_;
    return expr;
  }

  absl::StatusOr<std::optional<Expr>> JobCondition() {
    // Other than in operands, '*' is all there is or nothing.
    if (Kind() == TokenKind::kStar) {
      Advance();
      if (!ExpectEnd()) return error_;
      return std::optional<Expr>();
    }
    Note("*");
    if (Kind() == TokenKind::kSelect || Kind() == TokenKind::kWhere) {
      Fail("give only what follows WHERE");
      return error_;
    }
    if (Kind() == TokenKind::kFrom) {
      FailWith(Current().position,
               "found 'FROM': jobs over module twins are not supported; for "
               "device twins give only what follows WHERE");
      return error_;
    }
    Expr expr;
    if (!ParseOr(&expr) || !ExpectEnd()) return error_;
    return std::optional<Expr>(std::move(expr));
  }

  absl::StatusOr<ParsedStatement> Statement() {
    ParsedStatement statement;
    if (!ParseSelect(&statement) || !ParseFrom() ||
        !ResolveProjections(&statement)) {
      return error_;
    }
    statement.collection = collection_;
    if (Accept(TokenKind::kWhere, "WHERE")) {
      const absl::string_view first = Current().source;
      Expr condition;
      if (!ParseOr(&condition)) return error_;
      const absl::string_view last = tokens_[next_ - 1].source;
      statement.condition = std::move(condition);
      statement.condition_text =
          std::string(first.data(), last.data() + last.size());
    }
    if (Accept(TokenKind::kGroup, "GROUP BY")) {
      if (!Expect(TokenKind::kBy, "BY")) return error_;
      std::vector<WrittenStep> written;
      GroupBy group_by;
      group_by.position = Current().position;
      if (!ParsePath(&written) || !Resolve(written, &group_by.path)) {
        return error_;
      }
      statement.group_by = std::move(group_by);
    }
    if (!ExpectEnd()) return error_;
    return statement;
  }

 private:
  // Tokens.

  const Token& Current() const { return tokens_[next_]; }
  TokenKind Kind() const { return Current().kind; }
  TokenKind NextKind() const {
    return next_ + 1 < tokens_.size() ? tokens_[next_ + 1].kind
                                      : TokenKind::kEnd;
  }
  void Advance() {
    MUSTER_DCHECK(next_ + 1 < tokens_.size());
    ++next_;
    expected_.clear();
  }

  // What could stand at the current token: the list in the message if nothing
  // of it does.
  void Note(absl::string_view expected) {
    if (std::find(expected_.begin(), expected_.end(), expected) ==
        expected_.end()) {
      expected_.push_back(expected);
    }
  }
  bool Accept(TokenKind kind, absl::string_view expected) {
    if (Kind() == kind) {
      Advance();
      return true;
    }
    Note(expected);
    return false;
  }
  bool Expect(TokenKind kind, absl::string_view expected) {
    return Accept(kind, expected) || Fail();
  }
  bool ExpectEnd() {
    if (Kind() == TokenKind::kEnd) return true;
    Note("the end");
    return Fail();
  }

  // Errors: both return false, for `return Fail();`.

  bool FailWith(SourcePosition position, absl::string_view what) {
    error_ = MakeParseError(position, what);
    return false;
  }

  bool Fail(absl::string_view advice = "") {
    const Token& found = Current();
    if (found.kind == TokenKind::kError) {
      return FailWith(found.position, found.text);
    }
    std::string what;
    if (found.kind == TokenKind::kEnd) {
      what = absl::StrCat("found the end of the ", unit_);
    } else {
      // A string brings its own quotes.
      absl::StrAppend(&what, "found ",
                      found.kind == TokenKind::kString ? Excerpt(found.source)
                                                       : Quoted(found.source));
    }
    for (size_t i = 0; i < expected_.size(); ++i) {
      absl::StrAppend(&what,
                      i == 0                      ? ", expected "
                      : i + 1 == expected_.size() ? " or "
                                                  : ", ",
                      expected_[i]);
    }
    if (advice.empty() && after_comparison_ == next_ &&
        (AsCompareOp(found.kind).has_value() || found.kind == TokenKind::kIn ||
         found.kind == TokenKind::kNin)) {
      advice = "comparisons do not chain, join two of them with AND";
    }
    std::string foreign;
    if (advice.empty()) {
      for (const Advice& known : kForeignWords) {
        if (absl::EqualsIgnoreCase(known.word, found.source)) {
          advice = known.text;
        }
      }
    }
    if (advice.empty() && IsReserved(found.kind) && names_expected_ == next_) {
      foreign = absl::StrCat("a reserved word is written as [[", found.source,
                             "]] where it is a name");
      advice = foreign;
    }
    if (!advice.empty()) absl::StrAppend(&what, "; ", advice);
    return FailWith(found.position, what);
  }

  // Remembers that a name could stand here, for the advice on reserved words.
  void NoteName(absl::string_view expected) {
    names_expected_ = next_;
    Note(expected);
  }

  bool EnterNesting() {
    if (depth_ == kQueryDepthMax) {
      return FailWith(Current().position,
                      absl::StrCat("nested deeper than ", kQueryDepthMax,
                                   " parentheses and calls"));
    }
    ++depth_;
    return true;
  }

  // REQUIRES: tokens [first, next_) are in one list.
  bool CheckListSize(size_t first) {
    if (next_ - first <= kQueryListTokensMax) return true;
    return FailWith(
        tokens_[first + kQueryListTokensMax].position,
        absl::StrCat("a list of more than ", kQueryListTokensMax, " tokens"));
  }

  // Conditions, by rules of the grammar from weak to strong.  A chain with a
  // single operand is that operand.

  bool ParseOr(Expr* out) {
    const SourcePosition position = Current().position;
    if (!ParseAnd(out)) return false;
    if (Kind() != TokenKind::kOr) {
      Note("OR");
      return true;
    }
    Expr chain{Or{}, {}, position};
    chain.operands.push_back(std::move(*out));
    while (Accept(TokenKind::kOr, "OR")) {
      if (!ParseAnd(&chain.operands.emplace_back())) return false;
    }
    *out = std::move(chain);
    return true;
  }

  bool ParseAnd(Expr* out) {
    const SourcePosition position = Current().position;
    if (!ParseNot(out)) return false;
    if (Kind() != TokenKind::kAnd) {
      Note("AND");
      return true;
    }
    Expr chain{And{}, {}, position};
    chain.operands.push_back(std::move(*out));
    while (Accept(TokenKind::kAnd, "AND")) {
      if (!ParseNot(&chain.operands.emplace_back())) return false;
    }
    *out = std::move(chain);
    return true;
  }

  bool ParseNot(Expr* out) {
    const SourcePosition position = Current().position;
    int count = 0;
    while (Kind() == TokenKind::kNot) {
      Advance();
      ++count;
    }
    Note("NOT");
    if (!ParseComparison(out)) return false;
    for (; count > 0; --count) *out = MakeNot(std::move(*out), position);
    return true;
  }

  bool ParseComparison(Expr* out) {
    const SourcePosition position = Current().position;
    if (!ParseAdditive(out)) return false;
    if (const std::optional<CompareOp> op = AsCompareOp(Kind())) {
      Advance();
      Expr right;
      if (!ParseAdditive(&right)) return false;
      *out = MakeCompare(*op, std::move(*out), std::move(right), position);
      after_comparison_ = next_;
      return true;
    }
    Note("a comparison");
    bool negated = Kind() == TokenKind::kNin;
    if (Kind() == TokenKind::kNot) {
      Advance();
      negated = true;
      if (Kind() != TokenKind::kIn) {
        Note("IN");
        return Fail();
      }
    }
    if (Kind() != TokenKind::kIn && Kind() != TokenKind::kNin) {
      Note("IN");
      Note("NIN");
      return true;
    }
    Advance();
    In in;
    in.negated = negated;
    if (Kind() == TokenKind::kLeftParen) {
      Note("'['");
      return Fail("the values stand in [ ]");
    }
    if (!ParseList(&in.elements)) return false;
    *out = MakeIn(std::move(in), std::move(*out), position);
    after_comparison_ = next_;
    return true;
  }

  bool ParseAdditive(Expr* out) {
    return ParseChain(out, AsAdditiveOp, &Parser::ParseMultiplicative);
  }
  bool ParseMultiplicative(Expr* out) {
    return ParseChain(out, AsMultiplicativeOp, &Parser::ParseUnary);
  }

  bool ParseChain(Expr* out, std::optional<ArithmeticOp> (*as_op)(TokenKind),
                  bool (Parser::*parse_operand)(Expr*)) {
    const SourcePosition position = Current().position;
    if (!(this->*parse_operand)(out)) return false;
    if (!as_op(Kind()).has_value()) {
      Note("an arithmetic operator");
      return true;
    }
    Arithmetic arithmetic;
    std::vector<Expr> operands;
    operands.push_back(std::move(*out));
    while (const std::optional<ArithmeticOp> op = as_op(Kind())) {
      Advance();
      arithmetic.ops.push_back(*op);
      if (!(this->*parse_operand)(&operands.emplace_back())) return false;
    }
    Note("an arithmetic operator");
    *out = Expr{std::move(arithmetic), std::move(operands), position};
    return true;
  }

  bool ParseUnary(Expr* out) {
    const SourcePosition position = Current().position;
    bool signed_operand = false;
    bool negative = false;
    while (Kind() == TokenKind::kPlus || Kind() == TokenKind::kMinus) {
      signed_operand = true;
      negative = negative != (Kind() == TokenKind::kMinus);
      Advance();
    }
    if (!ParsePrimary(out)) return false;
    if (signed_operand) *out = MakeSign(negative, std::move(*out), position);
    return true;
  }

  bool ParsePrimary(Expr* out) {
    const Token& token = Current();
    out->position = token.position;
    Constant constant;
    if (ConstantHere(&constant)) {
      out->node = std::move(constant);
      return true;
    }
    if (token.kind == TokenKind::kLeftBracket) {
      std::vector<Constant> elements;
      if (!ParseList(&elements)) return false;
      out->node = MakeArray(std::move(elements));
      return true;
    }
    if (token.kind == TokenKind::kLeftParen) {
      if (!EnterNesting()) return false;
      Advance();
      if (!ParseOr(out) || !Expect(TokenKind::kRightParen, "')'")) return false;
      --depth_;
      return true;
    }
    if (token.kind == TokenKind::kName && NextKind() == TokenKind::kLeftParen) {
      return ParseCall(out);
    }
    if (IsName(token.kind)) {
      std::vector<WrittenStep> written;
      Path path;
      if (!ParsePath(&written) || !Resolve(written, &path)) return false;
      out->node = std::move(path);
      return true;
    }
    if (AsAggregate(token.kind).has_value() &&
        NextKind() == TokenKind::kLeftParen) {
      Note("an operand");
      return Fail("aggregates stand in the list of SELECT only");
    }
    NoteName("an operand");
    return Fail();
  }

  // Takes the literal at the current token, if there is one.
  bool ConstantHere(Constant* out) {
    const Token& token = Current();
    switch (token.kind) {
      case TokenKind::kNumber:
        *out = Constant::Number(token.number);
        break;
      case TokenKind::kString:
        *out = Constant::String(token.text);
        break;
      case TokenKind::kTrue:
      case TokenKind::kFalse:
        *out = Constant::Bool(token.kind == TokenKind::kTrue);
        break;
      case TokenKind::kNull:
        out->kind = JsonKind::kNull;
        break;
      case TokenKind::kUndefined:
        *out = Constant();
        break;
      default:
        return false;
    }
    Advance();
    return true;
  }

  // "[" scalar { "," scalar } "]"
  bool ParseList(std::vector<Constant>* out) {
    if (!Expect(TokenKind::kLeftBracket, "'['")) return false;
    const size_t first = next_;
    do {
      const bool negative = Accept(TokenKind::kMinus, "'-'");
      Constant element;
      if (negative && Kind() != TokenKind::kNumber) {
        Note("a number");
        return Fail();
      }
      if (!ConstantHere(&element)) {
        Note("a number");
        Note("a string");
        Note("TRUE");
        Note("FALSE");
        Note("NULL");
        Note("UNDEFINED");
        return Fail(Kind() == TokenKind::kLeftBracket ? "lists do not nest"
                                                      : "");
      }
      if (negative) element.number = -element.number;
      out->push_back(std::move(element));
      if (!CheckListSize(first)) return false;
    } while (Accept(TokenKind::kComma, "','"));
    return Expect(TokenKind::kRightBracket, "']'");
  }

  bool ParseCall(Expr* out) {
    const Token& name = Current();
    const FunctionInfo* info = FindFunction(name.source);
    if (info == nullptr || !InProfile(*info, options_.function_profile)) {
      return FailFunction(name, info);
    }
    if (!EnterNesting()) return false;
    Advance();
    Advance();  // The parenthesis.
    std::vector<Expr> arguments;
    const size_t first = next_;
    if (!Accept(TokenKind::kRightParen, "')'")) {
      do {
        if (!ParseOr(&arguments.emplace_back()) || !CheckListSize(first)) {
          return false;
        }
      } while (Accept(TokenKind::kComma, "','"));
      if (!Expect(TokenKind::kRightParen, "')'")) return false;
    }
    --depth_;
    const int count = static_cast<int>(arguments.size());
    if (count < info->argument_count_min || count > info->argument_count_max) {
      return FailArgumentCount(name, *info, count);
    }
    *out = Expr{Call{info->function}, std::move(arguments), name.position};
    return true;
  }

  bool FailFunction(const Token& name, const FunctionInfo* info) {
    std::string what = absl::StrCat("found ", Quoted(name.source),
                                    ", expected the name of a function");
    if (info != nullptr) {
      absl::StrAppend(&what, "; ", info->name,
                      " is not in the function profile that is set");
    } else {
      const absl::string_view nearest =
          NearestFunctionName(name.source, options_.function_profile);
      if (!nearest.empty()) {
        absl::StrAppend(&what, "; did you mean ", nearest, "?");
      }
    }
    return FailWith(name.position, what);
  }

  bool FailArgumentCount(const Token& name, const FunctionInfo& info,
                         int found) {
    std::string expected = absl::StrCat(info.argument_count_min);
    if (info.argument_count_max > info.argument_count_min + 1) {
      absl::StrAppend(&expected, " or more");
    } else if (info.argument_count_max > info.argument_count_min) {
      absl::StrAppend(&expected, " or ", info.argument_count_max);
    }
    return FailWith(name.position,
                    absl::StrCat("found ", found, " arguments of ", info.name,
                                 ", expected ", expected));
  }

  // Paths.

  // path = segment { "." segment | "[" ( integer | string ) "]" }
  bool ParsePath(std::vector<WrittenStep>* out) {
    if (!ParseSegment(out)) return false;
    while (true) {
      if (Accept(TokenKind::kDot, "'.'")) {
        if (!ParseSegment(out)) return false;
        continue;
      }
      if (!Accept(TokenKind::kLeftBracket, "'['")) return true;
      if (!ParseSubscript(out) || !Expect(TokenKind::kRightBracket, "']'")) {
        return false;
      }
    }
  }

  bool ParseSegment(std::vector<WrittenStep>* out) {
    const Token& token = Current();
    if (!IsName(token.kind)) {
      NoteName("a name");
      return Fail();
    }
    out->push_back({{std::nullopt, token.text}, token.position});
    Advance();
    return true;
  }

  bool ParseSubscript(std::vector<WrittenStep>* out) {
    const Token& token = Current();
    WrittenStep step{{}, token.position};
    if (token.kind == TokenKind::kString) {
      step.step.name = token.text;
    } else {
      int64_t index = 0;
      if (token.kind != TokenKind::kNumber || !IsInteger(token)) {
        Note("an index");
        Note("a name in quotes");
        return Fail();
      }
      // No array is as long: what does not fit is out of range.
      if (!absl::SimpleAtoi(token.source, &index)) index = INT64_MAX;
      step.step.index = index;
    }
    out->push_back(std::move(step));
    Advance();
    return true;
  }

  static bool IsInteger(const Token& token) {
    return std::all_of(token.source.begin(), token.source.end(), [](char c) {
      return absl::ascii_isdigit(static_cast<unsigned char>(c));
    });
  }

  bool Resolve(const std::vector<WrittenStep>& written, Path* out) {
    absl::StatusOr<Path> path = ResolvePath(written, collection_);
    if (!path.ok()) {
      error_ = path.status();
      return false;
    }
    *out = *std::move(path);
    return true;
  }

  // Nodes that depend on the collection.

  static bool IsDate(const Expr& expr) {
    const Path* path = expr.As<Path>();
    return path != nullptr && IsDatePath(*path);
  }

  bool IsRecordStatus(const Expr& expr) const {
    const Path* path = expr.As<Path>();
    return collection_ == Collection::kDeviceJobs && path != nullptr &&
           path->root == Root::kStatus && path->steps.empty();
  }

  // Records spell the status with one l.
  static void RespellStatus(Constant* constant) {
    if (constant->kind == JsonKind::kString && constant->text == "cancelled") {
      constant->text = "canceled";
    }
  }

  Expr MakeCompare(CompareOp op, Expr left, Expr right,
                   SourcePosition position) const {
    if (op == CompareOp::kEq || op == CompareOp::kNe) {
      if (IsRecordStatus(left)) {
        if (Constant* other = std::get_if<Constant>(&right.node)) {
          RespellStatus(other);
        }
      }
      if (IsRecordStatus(right)) {
        if (Constant* other = std::get_if<Constant>(&left.node)) {
          RespellStatus(other);
        }
      }
    }
    Expr out{Compare{op, IsDate(left) || IsDate(right)}, {}, position};
    out.operands.reserve(2);
    out.operands.push_back(std::move(left));
    out.operands.push_back(std::move(right));
    return out;
  }

  Expr MakeIn(In in, Expr left, SourcePosition position) const {
    if (IsRecordStatus(left)) {
      for (Constant& element : in.elements) RespellStatus(&element);
    }
    in.as_dates = IsDate(left);
    Expr out{std::move(in), {}, position};
    out.operands.push_back(std::move(left));
    return out;
  }

  // Statements.

  bool ParseSelect(ParsedStatement* out) {
    if (!Expect(TokenKind::kSelect, "SELECT")) return false;
    if (Accept(TokenKind::kTop, "TOP")) {
      int64_t top = 0;
      if (Kind() != TokenKind::kNumber || !IsInteger(Current())) {
        Note("a whole number");
        return Fail();
      }
      if (!absl::SimpleAtoi(Current().source, &top)) {
        return FailWith(Current().position, "found a number that is too large");
      }
      out->top = top;
      Advance();
    }
    out->select_position = Current().position;
    if (Accept(TokenKind::kStar, "*")) return true;
    const size_t first = next_;
    do {
      if (!ParseProjection(out) || !CheckListSize(first)) return false;
    } while (Accept(TokenKind::kComma, "','"));
    return true;
  }

  bool ParseProjection(ParsedStatement* out) {
    Projection projection;
    projection.position = Current().position;
    written_.emplace_back();
    projection.aggregate = AsAggregate(Kind());
    if (projection.aggregate.has_value() &&
        NextKind() == TokenKind::kLeftParen) {
      Advance();
      Advance();
      if (projection.aggregate == AggregateFunction::kCount) {
        Accept(TokenKind::kStar, "*");
      } else if (!ParsePath(&written_.back())) {
        return false;
      }
      if (!Expect(TokenKind::kRightParen, "')'")) return false;
    } else {
      if (Kind() == TokenKind::kName && NextKind() == TokenKind::kLeftParen) {
        Note("a member");
        Note("COUNT, AVG, SUM, MIN or MAX");
        return Fail("other functions stand in conditions only");
      }
      if (!IsName(Kind())) {
        NoteName("a member");
        Note("an aggregate");
        return Fail();
      }
      if (!ParsePath(&written_.back())) return false;
    }
    if (Accept(TokenKind::kAs, "AS")) {
      if (!IsName(Kind())) {
        NoteName("a name");
        return Fail();
      }
      projection.alias = Current().text;
      Advance();
    }
    out->projections.push_back(std::move(projection));
    return true;
  }

  bool ParseFrom() {
    if (!Expect(TokenKind::kFrom, "FROM")) return false;
    if (Kind() != TokenKind::kName ||
        !absl::EqualsIgnoreCase(Current().source, "devices")) {
      Note("devices");
      Note("devices.jobs");
      return Fail();
    }
    Advance();
    if (!Accept(TokenKind::kDot, "'.'")) return true;
    if (Kind() == TokenKind::kName &&
        absl::EqualsIgnoreCase(Current().source, "modules")) {
      return FailWith(Current().position,
                      "found 'modules': module twins are not supported");
    }
    if (Kind() != TokenKind::kName ||
        !absl::EqualsIgnoreCase(Current().source, "jobs")) {
      Note("jobs");
      return Fail();
    }
    collection_ = Collection::kDeviceJobs;
    Advance();
    return true;
  }

  // Members of the select list, now that the collection is known.
  bool ResolveProjections(ParsedStatement* statement) {
    if (collection_ == Collection::kDeviceJobs &&
        !statement->projections.empty()) {
      return FailWith(statement->select_position,
                      "found a list of columns, expected *: devices.jobs gives "
                      "whole records only");
    }
    for (size_t i = 0; i < written_.size(); ++i) {
      Projection& projection = statement->projections[i];
      if (projection.aggregate == AggregateFunction::kCount) continue;
      if (!Resolve(written_[i], &projection.path)) return false;
    }
    return true;
  }

  const absl::string_view unit_;  // "condition", "statement".
  Collection collection_;
  const QueryOptions& options_;
  const std::vector<Token> tokens_;

  size_t next_ = 0;
  int depth_ = 0;
  std::vector<absl::string_view> expected_;  // At next_.
  size_t names_expected_ = SIZE_MAX;         // Where a name could stand.
  size_t after_comparison_ = SIZE_MAX;       // Behind the last comparison.
  std::vector<std::vector<WrittenStep>> written_;  // By projection.
  absl::Status error_;
};

}  // namespace

absl::StatusOr<Expr> ParseConditionText(absl::string_view text,
                                        Collection collection,
                                        const QueryOptions& options) {
  return Parser(text, "condition", collection, options).Condition();
}

absl::StatusOr<std::optional<Expr>> ParseJobConditionText(
    absl::string_view text, const QueryOptions& options) {
  return Parser(text, "condition", Collection::kDevices, options)
      .JobCondition();
}

absl::StatusOr<ParsedStatement> ParseStatementText(
    absl::string_view text, const QueryOptions& options) {
  return Parser(text, "statement", Collection::kDevices, options).Statement();
}

}  // namespace muster
