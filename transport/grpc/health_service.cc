#include "transport/grpc/health_service.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/query/parse_error.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "transport/grpc/status.h"

namespace muster {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

// Sends the status, and once more when the server drains.  All under the
// service's mutex; frees itself.
class HealthService::WatchReactor final
    : public grpc::ServerWriteReactor<HealthCheckResponse> {
 public:
  WatchReactor(HealthService* owner, bool known)
      : owner_(owner), known_(known) {}

  void Tell() ABSL_EXCLUSIVE_LOCKS_REQUIRED(owner_->mutex_) {
    if (writing_ || finished_) return;
    if (cancelled_) return End(grpc::Status::CANCELLED);
    const HealthCheckResponse::ServingStatus status =
        !known_             ? HealthCheckResponse::SERVICE_UNKNOWN
        : owner_->draining_ ? HealthCheckResponse::NOT_SERVING
                            : HealthCheckResponse::SERVING;
    if (status != told_) {
      told_ = status;
      response_.set_status(status);
      writing_ = true;
      StartWrite(&response_);
    } else if (owner_->draining_) {
      End(ToGrpcStatus(MakeError(ErrorCode::kServiceUnavailable,
                                 "the server is going down")));
    }
  }

  void End(const grpc::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(owner_->mutex_) {
    if (std::exchange(finished_, true)) return;
    Finish(status);
  }

  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(owner_->mutex_) {
    absl::MutexLock lock(&owner_->mutex_);
    writing_ = false;
    if (!ok) cancelled_ = true;
    Tell();
  }

  void OnCancel() override ABSL_LOCKS_EXCLUDED(owner_->mutex_) {
    absl::MutexLock lock(&owner_->mutex_);
    cancelled_ = true;
    Tell();
  }

  void OnDone() override ABSL_LOCKS_EXCLUDED(owner_->mutex_) {
    {
      absl::MutexLock lock(&owner_->mutex_);
      owner_->watches_.erase(this);
    }
    delete this;
  }

 private:
  HealthService* const owner_;
  const bool known_;  // There is a service of that name.
  HealthCheckResponse response_;
  HealthCheckResponse::ServingStatus told_ ABSL_GUARDED_BY(owner_->mutex_) =
      HealthCheckResponse::UNKNOWN;
  bool writing_ ABSL_GUARDED_BY(owner_->mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(owner_->mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(owner_->mutex_) = false;
};

HealthService::HealthService(const std::vector<std::string>& services)
    : services_([&services] {
        absl::flat_hash_set<std::string> all(services.begin(), services.end());
        all.insert("");
        return all;
      }()) {}

HealthService::~HealthService() {
  absl::MutexLock lock(&mutex_);
  MUSTER_CHECK(watches_.empty());
}

void HealthService::Drain() {
  absl::MutexLock lock(&mutex_);
  draining_ = true;
  for (WatchReactor* watch : watches_) watch->Tell();
}

grpc::ServerUnaryReactor* HealthService::Check(
    grpc::CallbackServerContext* context, const HealthCheckRequest* request,
    HealthCheckResponse* response) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  if (!services_.contains(request->service())) {
    reactor->Finish(ToGrpcStatus(MakeError(
        ErrorCode::kGenericNotFound,
        absl::StrCat("there is no service ", Quoted(request->service())))));
    return reactor;
  }
  bool draining;
  {
    absl::MutexLock lock(&mutex_);
    draining = draining_;
  }
  response->set_status(draining ? HealthCheckResponse::NOT_SERVING
                                : HealthCheckResponse::SERVING);
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerWriteReactor<HealthCheckResponse>* HealthService::Watch(
    grpc::CallbackServerContext* context, const HealthCheckRequest* request) {
  auto* const watch =
      new WatchReactor(this, services_.contains(request->service()));
  absl::MutexLock lock(&mutex_);
  watches_.insert(watch);
  if (watches_.size() > kHealthWatchesMax) {
    watch->End(ToGrpcStatus(MakeError(
        ErrorCode::kThrottlingException,
        absl::StrCat("there are ", kHealthWatchesMax,
                     " health watches under way, which is the most at a "
                     "time"))));
  } else {
    watch->Tell();
  }
  return watch;
}

}  // namespace muster
