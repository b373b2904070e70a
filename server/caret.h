// Carets: an error of the query language shown where it is.
//
//   1:24: found '==', expected an operand; equality is written '='
//     tags.location.building == '43'
//                            ^
#ifndef SERVER_CARET_H_
#define SERVER_CARET_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace muster {

// The line of `text` that a parse error is about and a caret below its column,
// each indented by two and with a line feed behind it; of a long line only what
// is around the column.  "" if `error` is no parse error.
std::string CaretLines(const absl::Status& error, absl::string_view text);

// "ArgumentInvalid (400004): <message>" for errors with a number of the hub,
// the message alone for others.
std::string DescribeError(const absl::Status& error);

}  // namespace muster

#endif  // SERVER_CARET_H_
