// Any bytes as a statement, and as a page token: refused, or run over a few
// rows with an answer that is JSON and does not depend on their order.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/json.h"
#include "engine/query/condition.h"
#include "engine/query/document.h"
#include "engine/query/page_token.h"
#include "engine/query/parse_error.h"
#include "engine/query/statement.h"
#include "tests/query_samples.h"

namespace muster {
namespace {

// JSON, and an object: the parser refuses a member that is there twice.
void CheckRow(const std::string& row) {
  const absl::StatusOr<Json> json = ParseJson(row);
  MUSTER_CHECK(json.ok() && json->view().is_object());
}

std::vector<std::string> Aggregate(const Statement& statement,
                                   const std::vector<JsonDocument>& rows,
                                   size_t first) {
  Aggregator front(statement);
  Aggregator back(statement);
  for (size_t i = 0; i < rows.size(); ++i) {
    const JsonDocument& row = rows[(first + i) % rows.size()];
    if (!statement.Matches(row)) continue;
    MUSTER_CHECK((i < first ? front : back).Add(row).ok());
  }
  MUSTER_CHECK(front.Merge(back).ok());
  return front.Rows();
}

void CheckStatement(const Statement& statement,
                    const std::vector<JsonDocument>& rows) {
  MUSTER_CHECK(!(statement.is_select_all() && statement.is_aggregate()));
  MUSTER_CHECK(statement.is_select_all() == (statement.item_type() != "Raw"));
  const int64_t top = statement.top().value_or(INT64_MAX);
  MUSTER_CHECK(top >= 0);

  if (const std::optional<Condition>& condition = statement.condition()) {
    // What stands behind WHERE is a condition by itself.
    const absl::StatusOr<Condition> alone =
        Condition::Parse(condition->text(), statement.collection());
    MUSTER_CHECK(alone.ok() && *alone->expr() == *condition->expr());
  }
  if (statement.is_aggregate()) {
    const std::vector<std::string> answer = Aggregate(statement, rows, 0);
    MUSTER_CHECK(answer == Aggregate(statement, rows, 3));
    MUSTER_CHECK(static_cast<int64_t>(answer.size()) <= top);
    for (const std::string& row : answer) CheckRow(row);
  } else if (!statement.is_select_all()) {
    for (const JsonDocument& row : rows) CheckRow(statement.ProjectRow(row));
  }

  const PageToken token{std::string(CollectionName(statement.collection())),
                        statement.hash(),
                        {statement.text().substr(0, 200)},
                        7};
  const absl::StatusOr<PageToken> decoded = DecodePageToken(
      EncodePageToken(token), token.collection, token.statement_hash);
  MUSTER_CHECK(decoded.ok() && *decoded == token);
}

}  // namespace
}  // namespace muster

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace muster;  // NOLINT(google-build-using-namespace)
  static const auto* const rows = new std::vector<JsonDocument>(SixTwins());
  const absl::string_view text(reinterpret_cast<const char*>(data), size);

  const absl::StatusOr<Statement> statement = Statement::Parse(text);
  if (statement.ok()) {
    CheckStatement(*statement, *rows);
  } else {
    MUSTER_CHECK(ErrorCodeOf(statement.status()) ==
                 ErrorCode::kArgumentInvalid);
    MUSTER_CHECK(ParseErrorOf(statement.status()).has_value());
  }
  const absl::StatusOr<PageToken> token = DecodePageToken(text, "devices", 0);
  if (token.ok()) MUSTER_CHECK(EncodePageToken(*token) == text);
  return 0;
}
