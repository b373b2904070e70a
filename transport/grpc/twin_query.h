// Pages of statements: at what cost they are let in, and how large they get.
#ifndef TRANSPORT_GRPC_TWIN_QUERY_H_
#define TRANSPORT_GRPC_TWIN_QUERY_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/engine.h"
#include "grpcpp/server_context.h"
#include "transport/query_budget.h"

namespace muster {

// Of the rows of a page or of a message, in bytes; one row may be larger.
inline constexpr size_t kRowBytesMax = 1 << 20;

// What a statement costs for each twin: for QueryBudget.  FieldError("query",
// ..) with line and column if it cannot be read.
absl::StatusOr<int64_t> ReadStatementWeight(absl::string_view query);

// One page of a statement of this weight: at most `rows_max` rows, of at most
// `bytes_max` bytes unless a single row is larger.  The budget is asked for
// each search of the twins that it takes, and before each also whether the call
// is cancelled.  Errors as QueryBudget::Take() and Engine::Query(), and
// ClientClosedRequest; what is wrong with the token is a
// FieldError("page_token", ...).
absl::StatusOr<TwinPage> QueryPage(const grpc::CallbackServerContext& context,
                                   Engine* engine, QueryBudget* budget,
                                   absl::string_view query, int64_t weight,
                                   int rows_max, size_t bytes_max,
                                   absl::string_view page_token);

// ClientClosedRequest: nobody waits for the answer any more.
absl::Status CallerGone();

}  // namespace muster

#endif  // TRANSPORT_GRPC_TWIN_QUERY_H_
