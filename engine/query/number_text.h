// Numbers as the query language writes them in decimal (contract 5.3).
#ifndef ENGINE_QUERY_NUMBER_TEXT_H_
#define ENGINE_QUERY_NUMBER_TEXT_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace muster {

// The length of the number that `text` begins with, 0 if it begins with none:
//
//   7  7.25  .25  7e3  7.25E-3        whole
//   7.  7e  7e+                       the 7 only
//   -7  0x7                           nothing; the 0 only
size_t ScanDecimal(absl::string_view text);

// Its value, rounded to nearest; false if that is beyond the doubles.
// REQUIRES: ScanDecimal(text) == text.size() > 0.
bool ParseDecimal(absl::string_view text, double* value);

// Appends the shortest text that reads back as `value`, with '-' in front if it
// is negative.  REQUIRES: finite.
void AppendDecimal(double value, std::string* out);

}  // namespace muster

#endif  // ENGINE_QUERY_NUMBER_TEXT_H_
