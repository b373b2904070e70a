#include "transport/grpc/twin_query.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "engine/model/error.h"
#include "engine/query/parse_error.h"
#include "engine/query/statement.h"
#include "transport/grpc/status.h"

namespace muster {
namespace {

// Rows that are asked for before it is known how large they are.
constexpr int kFirstRows = 1000;

}  // namespace

absl::Status CallerGone() {
  return MakeError(ErrorCode::kClientClosedRequest, "the caller went away");
}

absl::StatusOr<int64_t> ReadStatementWeight(absl::string_view query) {
  absl::StatusOr<Statement> statement = Statement::Parse(query);
  if (!statement.ok()) return AtField("query", statement.status());
  return StatementWeight(*statement);
}

absl::StatusOr<TwinPage> QueryPage(const grpc::CallbackServerContext& context,
                                   Engine* engine, QueryBudget* budget,
                                   absl::string_view query, int64_t weight,
                                   int rows_max, size_t bytes_max,
                                   absl::string_view page_token) {
  TwinPage page;
  page.continuation = std::string(page_token);
  size_t bytes = 0;
  int ask = std::min(rows_max, kFirstRows);
  for (;;) {
    if (context.IsCancelled()) return CallerGone();
    absl::StatusOr<QueryBudget::Share> share =
        budget->Take(engine->TwinCount(), weight);
    if (!share.ok()) return share.status();
    absl::StatusOr<TwinPage> more =
        engine->Query(query, ask, page.continuation);
    if (!more.ok()) {
      const bool statement =
          page_token.empty() || ParseErrorOf(more.status()).has_value();
      return absl::IsInvalidArgument(more.status())
                 ? AtField(statement ? "query" : "page_token", more.status())
                 : more.status();
    }
    size_t fit = 0;
    size_t fit_bytes = bytes;
    for (const std::string& row : more->rows) {
      const bool first = page.rows.empty() && fit == 0;
      if (!first && fit_bytes + row.size() > bytes_max) break;
      fit_bytes += row.size();
      ++fit;
    }
    if (fit < more->rows.size()) {
      // The token behind the last row that fits is the engine's to make.
      if (fit == 0) return page;
      ask = static_cast<int>(fit);
      continue;
    }
    bytes = fit_bytes;
    std::move(more->rows.begin(), more->rows.end(),
              std::back_inserter(page.rows));
    page.item_type = std::move(more->item_type);
    page.continuation = std::move(more->continuation);
    const int count = static_cast<int>(page.rows.size());
    if (page.continuation.empty() || count >= rows_max || bytes >= bytes_max) {
      return page;
    }
    // As many as should fit, going by those so far.
    const size_t average = std::max<size_t>(1, bytes / std::max(count, 1));
    const size_t guess = (bytes_max - bytes) / average;
    if (guess == 0) return page;
    ask = static_cast<int>(
        std::min<size_t>(guess, static_cast<size_t>(rows_max - count)));
  }
}

}  // namespace muster
