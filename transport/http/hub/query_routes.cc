// R5 of contract 4.2.

#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "engine/model/error.h"
#include "engine/model/json.h"
#include "engine/query/statement.h"
#include "transport/http/hub/paging.h"
#include "transport/http/hub/route.h"
#include "transport/query_budget.h"

namespace muster::hub {
namespace {

// The member `query` of the body.
absl::StatusOr<std::string> ReadStatement(absl::string_view body) {
  const absl::StatusOr<Json> json = ParseJson(body);
  if (!json.ok()) return json.status();
  const JsonView root = json->view();
  if (!root.is_object()) {
    return MakeError(ErrorCode::kIotHubFormatError,
                     absl::StrCat("the body must be a JSON object; got ",
                                  JsonKindName(root.kind())));
  }
  const JsonView query = root.Find("query");
  if (query.is_undefined() || query.is_null()) {
    return MakeError(ErrorCode::kArgumentNull,
                     "query is required: a statement, such as \"SELECT * FROM "
                     "devices\"");
  }
  if (!query.is_string()) {
    return MakeError(ErrorCode::kArgumentInvalid,
                     absl::StrCat("query must be a string; got ",
                                  JsonKindName(query.kind())));
  }
  return std::string(query.string_value());
}

// The route takes whoever may read one of the collections; which one it is the
// statement says (contract 4.8): RegistryRead alone is for devices.jobs.
absl::Status CheckCollection(const Request& request,
                             const Statement& statement) {
  if (request.roles.Has(Role::kServiceConnect) ||
      statement.collection() == Collection::kDeviceJobs) {
    return absl::OkStatus();
  }
  return MakeError(ErrorCode::kIotHubUnauthorizedAccess,
                   absl::StrCat("a statement on devices needs the permission ",
                                RoleName(Role::kServiceConnect)));
}

// Within the budget, if there is one.
absl::StatusOr<TwinPage> RunStatement(Context& context,
                                      const Statement& statement,
                                      const PageRequest& asked) {
  std::optional<QueryBudget::Share> share;
  if (context.budget != nullptr) {
    absl::StatusOr<QueryBudget::Share> taken = context.budget->Take(
        context.engine.TwinCount(), StatementWeight(statement));
    if (!taken.ok()) return taken.status();
    share.emplace(*std::move(taken));
  }
  return context.engine.Query(statement.text(), asked.size, asked.continuation);
}

void Query(Context& context, Request request, Done done) {
  const absl::StatusOr<std::string> text = ReadStatement(request.http.body);
  if (!text.ok()) return std::move(done)(text.status());
  const absl::StatusOr<Statement> statement = Statement::Parse(*text);
  if (!statement.ok()) return std::move(done)(statement.status());
  if (absl::Status s = CheckCollection(request, *statement); !s.ok()) {
    return std::move(done)(s);
  }
  absl::StatusOr<TwinPage> page =
      RunStatement(context, *statement, ReadPageRequest(request));
  if (!page.ok()) return std::move(done)(page.status());
  std::string rows = "[";
  for (const std::string& row : page->rows) {
    if (rows.size() > 1) rows.push_back(',');
    rows += row;
  }
  rows.push_back(']');
  std::move(done)(PageResponse(std::move(rows), page->item_type,
                               std::move(page->continuation)));
}

constexpr Role kReaders[] = {Role::kServiceConnect, Role::kRegistryRead};

constexpr Route kRoutes[] = {
    {.method = "POST",
     .pattern = "/devices/query",
     .roles = kReaders,
     .throttled = Throttled::kQueries,
     .has_body = true,
     .handle = Query},
};

}  // namespace

absl::Span<const Route> QueryRoutes() { return kRoutes; }

}  // namespace muster::hub
