// Any bytes as a job's condition: parsed or refused, never worse; and what
// parses keeps the promises that every reader of conditions relies on.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/limits.h"
#include "engine/query/ast.h"
#include "engine/query/condition.h"
#include "engine/query/document.h"
#include "engine/query/options.h"
#include "engine/query/parse_error.h"
#include "engine/query/utf8.h"
#include "engine/query/value.h"
#include "tests/query_samples.h"

namespace muster {
namespace {

std::vector<JsonDocument> Rows() {
  std::vector<JsonDocument> rows = SixTwins();
  rows.push_back(ExampleRecord());
  rows.push_back(Row("{}"));
  rows.push_back(Row("[]"));
  return rows;
}

std::string ValueIn(const Condition& condition, const Document& row) {
  Scratch scratch;
  return condition.Evaluate(row, &scratch).DebugString();
}

void CheckError(const absl::Status& status) {
  MUSTER_CHECK(ErrorCodeOf(status) == ErrorCode::kArgumentInvalid);
  const std::optional<ParseError> error = ParseErrorOf(status);
  MUSTER_CHECK(error.has_value() && !error->what.empty());
  MUSTER_CHECK(error->position.line >= 1 && error->position.column >= 1);
  MUSTER_CHECK(absl::StartsWith(FailureReason(status),
                                "SQL query parse failed due to following "
                                "errors: "));
  // A message is shown to people: text, and not the whole input again.
  const std::string message(status.message());
  MUSTER_CHECK(message.size() < 2000);
  char32_t c = 0;
  for (absl::string_view rest = message; !rest.empty();) {
    const int length = DecodeUtf8(rest, &c);
    MUSTER_CHECK(length > 0 && c >= 0x20);
    rest.remove_prefix(length);
  }
}

// Where the condition is true, the root is one of its candidates.
void CheckCandidates(const Condition& condition, Root root,
                     const Document& row) {
  const std::optional<std::vector<std::string>> candidates =
      condition.Candidates(root);
  if (!candidates.has_value()) return;
  MUSTER_CHECK(absl::c_is_sorted(*candidates));
  MUSTER_CHECK(absl::c_adjacent_find(*candidates) == candidates->end());
  if (!condition.Matches(row)) return;
  const JsonView value = row.Get(root);
  MUSTER_CHECK(value.is_string());
  MUSTER_CHECK(
      absl::c_binary_search(*candidates, std::string(value.string_value())));
}

// A condition from `text`, which was printed: its length may be too much, and
// its depth if parentheses were put around what was parsed.
std::optional<Condition> Reparse(absl::string_view text, bool wrapped,
                                 Collection collection) {
  absl::StatusOr<Condition> condition = Condition::Parse(text, collection);
  if (condition.ok()) return *std::move(condition);
  MUSTER_CHECK(Utf8Length(text) > kQueryLengthMax ||
               (wrapped && absl::StrContains(condition.status().message(),
                                             "nested deeper")));
  return std::nullopt;
}

void CheckCondition(const Condition& condition,
                    const std::vector<JsonDocument>& rows) {
  const Expr& expr = *condition.expr();
  const std::string printed = ExprText(expr);
  const std::optional<Condition> again =
      Reparse(printed, /*wrapped=*/false, condition.collection());
  if (again.has_value()) {
    MUSTER_CHECK(*again->expr() == expr);
    MUSTER_CHECK(ExprText(*again->expr()) == printed);
  }

  // NOT NOT leaves booleans, and makes undefined of the rest.
  Expr twice{Not{}, {}, {}};
  twice.operands.push_back(Expr{Not{}, {expr}, {}});
  const std::optional<Condition> not_not =
      Reparse(ExprText(twice), /*wrapped=*/true, condition.collection());

  for (const JsonDocument& row : rows) {
    Scratch scratch;
    const Value value = condition.Evaluate(row, &scratch);
    MUSTER_CHECK(condition.Matches(row) == value.is_true());
    if (again.has_value()) {
      MUSTER_CHECK(ValueIn(*again, row) == value.DebugString());
    }
    if (not_not.has_value()) {
      MUSTER_CHECK(ValueIn(*not_not, row) ==
                   (value.is_bool() ? value : Value()).DebugString());
    }
    for (const Root root : {Root::kDeviceId, Root::kStatus, Root::kJobId,
                            Root::kLastActivityTime}) {
      CheckCandidates(condition, root, row);
    }
  }
}

}  // namespace
}  // namespace muster

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace muster;  // NOLINT(google-build-using-namespace)
  static const auto* const rows = new std::vector<JsonDocument>(Rows());
  const absl::string_view text(reinterpret_cast<const char*>(data), size);

  const absl::StatusOr<Condition> of_job = Condition::ParseJobCondition(text);
  if (!of_job.ok()) CheckError(of_job.status());
  if (of_job.ok() && of_job->matches_all()) {
    for (const JsonDocument& row : *rows) MUSTER_CHECK(of_job->Matches(row));
  } else if (of_job.ok()) {
    CheckCondition(*of_job, *rows);
  }

  const absl::StatusOr<Condition> of_records =
      Condition::Parse(text, Collection::kDeviceJobs);
  if (of_records.ok()) {
    CheckCondition(*of_records, *rows);
  } else {
    CheckError(of_records.status());
  }

  // A narrower profile refuses more, and changes nothing else.
  const absl::StatusOr<Condition> narrow = Condition::ParseJobCondition(
      text, QueryOptions{FunctionProfile::kDocumented});
  if (narrow.ok()) {
    MUSTER_CHECK(of_job.ok() && narrow->matches_all() == of_job->matches_all());
    if (!narrow->matches_all()) {
      MUSTER_CHECK(*narrow->expr() == *of_job->expr());
    }
  }
  return 0;
}
