// WatchStreams: WatchJob's streams.
//
// A stream holds an Engine::Watch and the latest state of the job that has not
// been sent; while a message is on its way, newer states replace each other. So
// a slow reader costs one state, and never sees one go back.
//
// Whatever a stream waits for, it ends when its credential does, and when its
// client has taken nothing of a message for too long: while there are streams,
// all are looked at once a second.
#ifndef TRANSPORT_GRPC_WATCH_STREAM_H_
#define TRANSPORT_GRPC_WATCH_STREAM_H_

#include <cstdint>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "muster/v1/job_service.pb.h"
#include "transport/grpc/service_context.h"

namespace muster {

class WatchStream;

// Thread-safe.
class WatchStreams {
 public:
  // All that `context` names must outlive this.
  explicit WatchStreams(const ServiceContext& context);
  // REQUIRES: every stream has ended.
  ~WatchStreams();

  // A reactor that frees itself.
  grpc::ServerWriteReactor<v1::WatchJobResponse>* Open(
      grpc::CallbackServerContext* context, const v1::WatchJobRequest& request);

  // Ends all streams with UNAVAILABLE, and every new one at once.
  void Drain();

 private:
  friend class WatchStream;

  // Where the sweep that is to come finds this, or that there is none any more.
  struct Sweeper {
    explicit Sweeper(WatchStreams* o) : owner(o) {}
    absl::Mutex mutex;  // Held while it runs: comes before all others.
    WatchStreams* owner ABSL_GUARDED_BY(mutex);
  };
  void Sweep() ABSL_LOCKS_EXCLUDED(mutex_);
  void SweepSoon() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const ServiceContext context_;
  const absl::Duration sweep_interval_;
  const std::shared_ptr<Sweeper> sweeper_;

  // Held while a stream is told something: comes before any stream's own.
  absl::Mutex mutex_;
  absl::flat_hash_set<WatchStream*> open_ ABSL_GUARDED_BY(mutex_);
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool sweeping_ ABSL_GUARDED_BY(mutex_) = false;  // A sweep is to come.
};

}  // namespace muster

#endif  // TRANSPORT_GRPC_WATCH_STREAM_H_
