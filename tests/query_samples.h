// Rows that the tests and fuzzers of the query language read.
#ifndef TESTS_QUERY_SAMPLES_H_
#define TESTS_QUERY_SAMPLES_H_

#include <vector>

#include "absl/strings/string_view.h"
#include "engine/query/document.h"

namespace muster {

// The twin of contract 5.10 and the record of 5.11.
JsonDocument ExampleTwin();
JsonDocument ExampleRecord();

// Six twins for the statements of contract 5.12; the first is ExampleTwin().
std::vector<JsonDocument> SixTwins();

// REQUIRES: `text` is JSON.
JsonDocument Row(absl::string_view text);

}  // namespace muster

#endif  // TESTS_QUERY_SAMPLES_H_
