// Where a text is wrong, and why.
#ifndef ENGINE_QUERY_PARSE_ERROR_H_
#define ENGINE_QUERY_PARSE_ERROR_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace muster {

// Counted from 1; columns in code points, lines by line feeds.
struct SourcePosition {
  int line = 1;
  int column = 1;
};

// What a parse error knows beside its message.
struct ParseError {
  SourcePosition position;
  std::string what;  // "found '==', expected an operand; ..."
};

// ArgumentInvalid (400004) with the message "line:column: what".  The parts
// travel with the status: ParseErrorOf() gets them back, whatever was put in
// front of the message meanwhile.
absl::Status MakeParseError(SourcePosition position, absl::string_view what);

// nullopt if `status` is no parse error.
std::optional<ParseError> ParseErrorOf(const absl::Status& status);

// `text` for a message: cut after 40 code points, with control characters as
// \xNN, and in single quotes; Excerpt() leaves the quotes away.
// REQUIRES: well-formed UTF-8.
std::string Quoted(absl::string_view text);
std::string Excerpt(absl::string_view text);

}  // namespace muster

#endif  // ENGINE_QUERY_PARSE_ERROR_H_
