#include "transport/grpc/watch_stream.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/job.h"
#include "transport/grpc/convert.h"
#include "transport/grpc/names.h"
#include "transport/grpc/status.h"

namespace muster {

// One stream; frees itself when gRPC is done with it.
class WatchStream final
    : public grpc::ServerWriteReactor<v1::WatchJobResponse> {
 public:
  // `revision`: what the client has seen.
  WatchStream(WatchStreams* owner, grpc::CallbackServerContext* context,
              int64_t revision)
      : owner_(owner), context_(context), revision_(revision) {}

  // Begins, or ends at once.  gRPC keeps what is started here until it has been
  // handed the reactor; no OnDone() before that.
  void Start(const v1::WatchJobRequest& request, bool draining)
      ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::StatusOr<CallGuard::Call> call = owner_->context_.guard->Begin(
        context_, Role::kRead, CallKind::kStream, "WatchJob");
    if (!call.ok()) return End(call.status());
    {
      absl::MutexLock lock(&mutex_);  // For Sweep().
      call_.emplace(*std::move(call));
    }
    if (draining) return End(Draining());
    absl::StatusOr<std::string> id = ParseJobName("name", request.name());
    if (!id.ok()) return End(id.status());
    if (request.revision() < 0) {
      return End(FieldError("revision", "must be at least 0"));
    }
    absl::StatusOr<std::unique_ptr<Engine::Watch>> watch =
        owner_->context_.engine->WatchJob(
            *id, [this](const JobInfo& job) { OnJob(job); });
    if (!watch.ok()) return End(watch.status());
    watch_ = *std::move(watch);
  }

  static absl::Status Draining() {
    return MakeError(ErrorCode::kServiceUnavailable,
                     "the server is going down; watch the job again, from the "
                     "last revision on");
  }

  void End(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (!end_.has_value()) end_ = status;
    Advance();
  }

  // Ends it if it must not go on as it is.
  void Sweep() ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      absl::MutexLock lock(&mutex_);
      if (!call_.has_value() || finished_) return;
      if (absl::Status s = call_->CheckExpiry(); !s.ok() && !end_.has_value()) {
        end_ = s;
      }
      const absl::Duration limit = owner_->context_.idle_timeout;
      const bool stuck =
          writing_ &&
          owner_->context_.clock->Monotonic() - writing_since_ >= limit;
      if (!stuck) return Advance();
      if (!end_.has_value()) {
        end_ = absl::DeadlineExceededError(absl::StrCat(
            "nothing was taken for ", absl::FormatDuration(limit)));
      }
    }
    // What is on its way stands before any status, and the client does not take
    // it: all that is left is to break the stream off.
    context_->TryCancel();
  }

  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok && !end_.has_value()) end_ = Gone();
    Advance();
  }

  void OnCancel() override { End(Gone()); }

  // Nobody else calls from here on, but for the engine and Drain().
  void OnDone() override {
    watch_.reset();  // Waits for a call under way.
    {
      absl::MutexLock lock(&owner_->mutex_);
      owner_->open_.erase(this);
    }
    if (call_.has_value()) call_->set_code(end_->code());
    delete this;
  }

 private:
  static absl::Status Gone() {
    return MakeError(ErrorCode::kClientClosedRequest, "the caller went away");
  }

  // On the engine's executor, one call at a time, with ascending revisions.
  void OnJob(const JobInfo& job) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    latest_ = job;
    Advance();
  }

  // What there is to do while no write is under way.
  void Advance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_ || finished_) return;
    if (!end_.has_value() && latest_.has_value()) {
      const JobInfo job = *std::move(latest_);
      latest_.reset();
      if (absl::Status s = call_->CheckExpiry(); !s.ok()) {
        end_ = s;
      } else {
        if (IsTerminal(job.status)) end_ = absl::OkStatus();
        if (job.revision > revision_) {
          revision_ = job.revision;
          *response_.mutable_job() = ToJob(job);
          response_.set_revision(job.revision);
          writing_ = true;
          writing_since_ = owner_->context_.clock->Monotonic();
          StartWrite(&response_);
          return;
        }
      }
    }
    if (end_.has_value()) {
      finished_ = true;
      Finish(ToGrpcStatus(*end_));
    }
  }

  WatchStreams* const owner_;
  grpc::CallbackServerContext* const context_;
  // Set by Start(), which comes first; let go by OnDone(), which comes last.
  std::optional<CallGuard::Call> call_;
  std::unique_ptr<Engine::Watch> watch_;

  absl::Mutex mutex_;
  std::optional<JobInfo> latest_ ABSL_GUARDED_BY(mutex_);  // Not sent yet.
  int64_t revision_ ABSL_GUARDED_BY(mutex_);               // Of the last sent.
  // gRPC's while `writing_`.
  v1::WatchJobResponse response_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Duration writing_since_ ABSL_GUARDED_BY(mutex_);
  // How it ends once no write is under way.
  std::optional<absl::Status> end_;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

WatchStreams::WatchStreams(const ServiceContext& context)
    : context_(context),
      sweep_interval_(std::min(absl::Seconds(1), context.idle_timeout)),
      sweeper_(std::make_shared<Sweeper>(this)) {}

WatchStreams::~WatchStreams() {
  {
    absl::MutexLock lock(&sweeper_->mutex);
    sweeper_->owner = nullptr;
  }
  absl::MutexLock lock(&mutex_);
  MUSTER_CHECK(open_.empty());
}

grpc::ServerWriteReactor<v1::WatchJobResponse>* WatchStreams::Open(
    grpc::CallbackServerContext* context, const v1::WatchJobRequest& request) {
  auto* const stream = new WatchStream(this, context, request.revision());
  bool draining;
  {
    absl::MutexLock lock(&mutex_);
    draining = draining_;
    open_.insert(stream);
    SweepSoon();
  }
  stream->Start(request, draining);
  return stream;
}

void WatchStreams::SweepSoon() {
  if (std::exchange(sweeping_, true)) return;
  context_.executor->RunAt(context_.clock->Monotonic() + sweep_interval_,
                           [sweeper = sweeper_] {
                             absl::MutexLock lock(&sweeper->mutex);
                             if (sweeper->owner != nullptr) {
                               sweeper->owner->Sweep();
                             }
                           });
}

void WatchStreams::Sweep() {
  absl::MutexLock lock(&mutex_);
  sweeping_ = false;
  if (open_.empty()) return;
  for (WatchStream* stream : open_) stream->Sweep();
  SweepSoon();
}

void WatchStreams::Drain() {
  absl::MutexLock lock(&mutex_);
  draining_ = true;
  for (WatchStream* stream : open_) stream->End(WatchStream::Draining());
}

}  // namespace muster
