// Turns query text into its parsed form: the grammar of contract 5.3.
//
// Recursive descent, one function for each rule.  It recurses for parentheses
// and function calls only, which the text may nest kQueryDepthMax deep; chains
// of operators, of NOT and of signs are loops.
#ifndef ENGINE_QUERY_PARSER_H_
#define ENGINE_QUERY_PARSER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/query/ast.h"
#include "engine/query/document.h"
#include "engine/query/options.h"
#include "engine/query/parse_error.h"

namespace muster {

// One item of a select list.
struct Projection {
  SourcePosition position;
  std::optional<AggregateFunction> aggregate;
  Path path;          // Without meaning for COUNT.
  std::string alias;  // Empty without AS.
};

struct GroupBy {
  SourcePosition position;
  Path path;
};

struct ParsedStatement {
  Collection collection = Collection::kDevices;
  std::optional<int64_t> top;
  std::vector<Projection> projections;  // Empty: SELECT *.
  SourcePosition select_position;       // Of the select list.
  std::optional<Expr> condition;
  std::string condition_text;
  std::optional<GroupBy> group_by;
};

// Errors of all: parse errors (parse_error.h), ArgumentInvalid.

// What follows WHERE.
absl::StatusOr<Expr> ParseConditionText(absl::string_view text,
                                        Collection collection,
                                        const QueryOptions& options);

// A job's condition; nullopt for `*`.
absl::StatusOr<std::optional<Expr>> ParseJobConditionText(
    absl::string_view text, const QueryOptions& options);

// A SELECT.  Grammar and names only: whether its parts go together is for
// Statement to say.
absl::StatusOr<ParsedStatement> ParseStatementText(absl::string_view text,
                                                   const QueryOptions& options);

}  // namespace muster

#endif  // ENGINE_QUERY_PARSER_H_
