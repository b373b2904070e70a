// Unary calls: from gRPC's thread to where the work may block, and back.
#ifndef TRANSPORT_GRPC_UNARY_CALL_H_
#define TRANSPORT_GRPC_UNARY_CALL_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/model/error.h"
#include "engine/schedule/executor.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "transport/grpc/call_guard.h"
#include "transport/grpc/status.h"

namespace muster {

class UnaryCalls {
 public:
  // Neither is owned; both must outlive all calls.
  UnaryCalls(CallGuard* guard, Executor* executor)
      : guard_(guard), executor_(executor) {}

  // Admits the call and runs `work`, an absl::Status(): at once on gRPC's
  // thread, which it must not block ...
  template <typename Work>
  grpc::ServerUnaryReactor* RunHere(grpc::CallbackServerContext* context,
                                    Role role, absl::string_view method,
                                    Work work) {
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    absl::StatusOr<CallGuard::Call> call =
        guard_->Begin(context, role, CallKind::kUnary, method);
    if (!call.ok()) {
      reactor->Finish(ToGrpcStatus(call.status()));
    } else {
      Finish(reactor, *std::move(call), work());
    }
    return reactor;
  }

  // ... or soon, on the executor.  Not at all if the caller has gone away or
  // the deadline has passed by then.
  template <typename Work>
  grpc::ServerUnaryReactor* RunOnExecutor(grpc::CallbackServerContext* context,
                                          Role role, absl::string_view method,
                                          Work work) {
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    absl::StatusOr<CallGuard::Call> call =
        guard_->Begin(context, role, CallKind::kUnary, method);
    if (!call.ok()) {
      reactor->Finish(ToGrpcStatus(call.status()));
      return reactor;
    }
    executor_->Run([context, reactor, call = *std::move(call),
                    work = std::move(work)]() mutable {
      const absl::Status status =
          context->IsCancelled()
              ? MakeError(ErrorCode::kClientClosedRequest,
                          "the caller went away before the call was begun")
              : work();
      Finish(reactor, std::move(call), status);
    });
    return reactor;
  }

 private:
  static void Finish(grpc::ServerUnaryReactor* reactor, CallGuard::Call call,
                     const absl::Status& status) {
    call.set_code(status.code());
    {
      // Not counted any more when the caller has the answer.
      const CallGuard::Call ended = std::move(call);
    }
    reactor->Finish(ToGrpcStatus(status));
  }

  CallGuard* const guard_;
  Executor* const executor_;
};

}  // namespace muster

#endif  // TRANSPORT_GRPC_UNARY_CALL_H_
