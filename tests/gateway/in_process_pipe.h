// InProcessPipe: both ends of a stream in one process, without gRPC: what a
// session does on many threads, where a sanitizer can see all of it.
#ifndef TESTS_GATEWAY_IN_PROCESS_PIPE_H_
#define TESTS_GATEWAY_IN_PROCESS_PIPE_H_

#include <deque>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "engine/model/check.h"
#include "engine/schedule/executor.h"
#include "muster/v1/gateway_service.pb.h"
#include "tests/gateway/frame_pipe.h"
#include "transport/grpc/gateway/gateway_transport.h"
#include "transport/grpc/gateway/session.h"

namespace muster {

// Calls the session from the executor's threads.  Has an end: Kill(), or the
// session's Finish().
class InProcessPipe : public FramePipe,
                      private GatewayStream,
                      public std::enable_shared_from_this<InProcessPipe> {
 public:
  explicit InProcessPipe(Executor* executor) : executor_(*executor) {}

  void Open(GatewayTransport* transport) {
    {
      absl::MutexLock lock(&mutex_);
      self_ = shared_from_this();  // Until OnEnd().
    }
    session_ = *transport->Open(this, {});
    session_->Begin();
  }

  // FramePipe.
  bool Write(const v1::AttachRequest& frame) override {
    absl::MutexLock lock(&mutex_);
    if (closed_) return false;
    up_.push_back(frame);
    Deliver();
    return true;
  }
  bool Read(v1::AttachResponse* frame) override {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(
        +[](InProcessPipe* pipe) {
          pipe->mutex_.AssertReaderHeld();
          return pipe->closed_ || !pipe->down_.empty();
        },
        this));
    if (closed_) return false;
    *frame = std::move(down_.front());
    down_.pop_front();
    return true;
  }
  void CloseWriting() override { Kill(); }
  void Kill() override {
    absl::MutexLock lock(&mutex_);
    closed_ = true;
    Deliver();
  }
  grpc::Status Finish() override { return grpc::Status::OK; }

 private:
  // GatewayStream.
  void StartRead(v1::AttachRequest* frame) override {
    absl::MutexLock lock(&mutex_);
    MUSTER_CHECK(reading_ == nullptr);
    reading_ = frame;
    Deliver();
  }
  void StartWrite(const v1::AttachResponse* frame) override {
    absl::MutexLock lock(&mutex_);
    executor_.Run([self = shared_from_this(), frame] {
      bool ok;
      {
        absl::MutexLock lock(&self->mutex_);
        ok = !self->closed_;
        if (ok) self->down_.push_back(*frame);
      }
      self->session_->OnWritten(ok);
    });
  }
  void Finish(const absl::Status& status) override {
    absl::MutexLock lock(&mutex_);
    closed_ = finished_ = true;
    Deliver();
  }
  void Cancel() override { Kill(); }

  // A frame, or the end, to the session if it reads.
  void Deliver() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (reading_ != nullptr && (closed_ || !up_.empty())) {
      v1::AttachRequest* const to = std::exchange(reading_, nullptr);
      const bool ok = !closed_;
      if (ok) {
        to->Swap(&up_.front());
        up_.pop_front();
      }
      executor_.Run([self = shared_from_this(), ok] {
        self->session_->OnRead(ok);
        absl::MutexLock lock(&self->mutex_);
        self->Deliver();
      });
    }
    // The executor may have been at the last OnRead() still.
    if (finished_ && self_ != nullptr) {
      executor_.Run([self = std::move(self_)] { self->session_->OnEnd(); });
      self_ = nullptr;
    }
  }

  Executor& executor_;
  std::shared_ptr<GatewaySession> session_;

  absl::Mutex mutex_;
  std::shared_ptr<InProcessPipe> self_ ABSL_GUARDED_BY(mutex_);
  std::deque<v1::AttachRequest> up_ ABSL_GUARDED_BY(mutex_);
  std::deque<v1::AttachResponse> down_ ABSL_GUARDED_BY(mutex_);
  v1::AttachRequest* reading_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace muster

#endif  // TESTS_GATEWAY_IN_PROCESS_PIPE_H_
