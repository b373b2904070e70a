// grpc.health.v1.Health, without which an orchestrator cannot tell whether to
// send anybody here.
//
// A service of our own, since gRPC's is switched on for a whole process.
// Anybody may ask: it goes past the CallGuard, with a limit of its own.
#ifndef TRANSPORT_GRPC_HEALTH_SERVICE_H_
#define TRANSPORT_GRPC_HEALTH_SERVICE_H_

#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace muster {

inline constexpr int kHealthWatchesMax = 256;

// Thread-safe.
class HealthService final : public grpc::health::v1::Health::CallbackService {
 public:
  // SERVING: the server as a whole (""), and each of `services`.
  explicit HealthService(const std::vector<std::string>& services);
  // REQUIRES: every watch has ended.
  ~HealthService() override;

  // NOT_SERVING from now on, all of them; ends the watches when they have been
  // told.
  void Drain();

  grpc::ServerUnaryReactor* Check(
      grpc::CallbackServerContext* context,
      const grpc::health::v1::HealthCheckRequest* request,
      grpc::health::v1::HealthCheckResponse* response) override;
  // RESOURCE_EXHAUSTED beyond kHealthWatchesMax at a time.
  grpc::ServerWriteReactor<grpc::health::v1::HealthCheckResponse>* Watch(
      grpc::CallbackServerContext* context,
      const grpc::health::v1::HealthCheckRequest* request) override;

 private:
  class WatchReactor;

  const absl::flat_hash_set<std::string> services_;

  absl::Mutex mutex_;
  absl::flat_hash_set<WatchReactor*> watches_ ABSL_GUARDED_BY(mutex_);
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace muster

#endif  // TRANSPORT_GRPC_HEALTH_SERVICE_H_
