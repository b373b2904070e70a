// What both services work with.
#ifndef TRANSPORT_GRPC_SERVICE_CONTEXT_H_
#define TRANSPORT_GRPC_SERVICE_CONTEXT_H_

#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/schedule/clock.h"
#include "engine/schedule/executor.h"
#include "transport/grpc/bulk_streams.h"
#include "transport/grpc/call_guard.h"
#include "transport/query_budget.h"

namespace muster {

// Nothing is owned; all must outlive the server.
struct ServiceContext {
  Engine* engine = nullptr;
  CallGuard* guard = nullptr;
  Executor* executor = nullptr;
  Clock* clock = nullptr;
  QueryBudget* budget = nullptr;
  BulkStreams* bulk = nullptr;
  absl::Duration idle_timeout;
};

}  // namespace muster

#endif  // TRANSPORT_GRPC_SERVICE_CONTEXT_H_
