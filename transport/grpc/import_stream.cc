#include "transport/grpc/import_stream.h"

#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "engine/model/error.h"
#include "transport/grpc/idle_timer.h"
#include "transport/grpc/status.h"

namespace muster {
namespace {

// Of a message, and of the failures that are told in full.
constexpr int kDocumentsMax = 1000;
constexpr int kFailuresMax = 100;

// Twins that the journal's buffers have no room for are offered again, so long
// and so often, before the import ends with that.
constexpr absl::Duration kAgainAfter = absl::Milliseconds(20);
constexpr int kAgainMax = 100;

class ImportStream final
    : public grpc::ServerReadReactor<v1::ImportTwinsRequest> {
 public:
  ImportStream(const ServiceContext& streams,
               grpc::CallbackServerContext* context,
               v1::ImportTwinsResponse* response)
      : streams_(streams),
        context_(context),
        response_(response),
        idle_(streams.executor, streams.clock, streams.idle_timeout,
              [this] { OnIdle(); }) {}

  void Start() {
    absl::StatusOr<CallGuard::Call> call = streams_.guard->Begin(
        context_, Role::kWrite, CallKind::kStream, "ImportTwins");
    if (!call.ok()) return End(call.status());
    call_.emplace(*std::move(call));
    absl::StatusOr<BulkStreams::Place> place = streams_.bulk->Take();
    if (!place.ok()) return End(place.status());
    place_.emplace(*std::move(place));
    Read();
  }

  void OnReadDone(bool ok) override ABSL_LOCKS_EXCLUDED(mutex_) {
    idle_.Working();
    {
      absl::MutexLock lock(&mutex_);
      reading_ = false;
      if (end_.has_value()) return;  // OnIdle() was faster.
    }
    // All have been read; or the stream was broken off, and nobody listens.
    if (!ok) return End(context_->IsCancelled() ? Gone() : absl::OkStatus());
    if (request_.documents_size() > kDocumentsMax) {
      return End(FieldError(
          "documents",
          absl::StrCat("at most ", kDocumentsMax, " of them in a message; got ",
                       request_.documents_size())));
    }
    wanted_.resize(request_.documents_size());
    std::iota(wanted_.begin(), wanted_.end(), 0);
    again_ = 0;
    streams_.executor->Run([this] { Store(); });
  }

  void OnDone() override {
    idle_.Stop();
    if (call_.has_value()) call_->set_code(end_->code());
    delete this;
  }

 private:
  static absl::Status Gone() {
    return MakeError(ErrorCode::kClientClosedRequest, "the caller went away");
  }

  // As with End(), the stream may be gone when it returns.
  void Read() ABSL_LOCKS_EXCLUDED(mutex_) {
    idle_.Waiting();
    absl::MutexLock lock(&mutex_);
    reading_ = true;
    StartRead(&request_);
  }

  void OnIdle() ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      absl::MutexLock lock(&mutex_);
      if (!reading_ || end_.has_value()) return;
    }
    End(absl::DeadlineExceededError(absl::StrCat(
        "nothing has come for ", absl::FormatDuration(streams_.idle_timeout),
        "; an import ends when its client has sent everything")));
  }

  // On the executor.  The stream cannot go away meanwhile: nobody else reads or
  // ends it.
  void Store() {
    if (context_->IsCancelled()) return End(Gone());
    if (absl::Status s = call_->CheckExpiry(); !s.ok()) return End(s);
    std::vector<absl::string_view> documents;
    documents.reserve(wanted_.size());
    for (const int i : wanted_) documents.push_back(request_.documents(i));
    absl::StatusOr<std::vector<absl::Status>> results =
        streams_.engine->UpsertTwins(documents);
    if (!results.ok()) return End(results.status());

    std::vector<int> left;
    absl::Status unavailable;
    for (size_t k = 0; k < wanted_.size(); ++k) {
      const absl::Status& status = (*results)[k];
      if (absl::IsUnavailable(status)) {
        left.push_back(wanted_[k]);
        unavailable = status;
      } else {
        Count(wanted_[k], status);
      }
    }
    if (!left.empty()) {
      again_ = left.size() < wanted_.size() ? 0 : again_ + 1;
      if (again_ > kAgainMax) return End(unavailable);
      wanted_ = std::move(left);
      streams_.executor->RunAt(streams_.clock->Monotonic() + kAgainAfter,
                               [this] { Store(); });
      return;
    }
    read_ += request_.documents_size();
    Read();
  }

  void Count(int index, const absl::Status& status) {
    if (status.ok()) {
      response_->set_imported_count(response_->imported_count() + 1);
      return;
    }
    response_->set_failed_count(response_->failed_count() + 1);
    if (response_->failures_size() >= kFailuresMax) return;
    v1::ImportTwinsResponse::Failure& failure = *response_->add_failures();
    failure.set_index(read_ + index);
    *failure.mutable_error() = ToRpcStatus(status);
  }

  // The last that is done here: gRPC frees the stream, perhaps before this
  // returns.  Of several only the first counts.
  void End(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      absl::MutexLock lock(&mutex_);
      if (end_.has_value()) return;
      end_ = status;
    }
    Finish(ToGrpcStatus(status));
  }

  const ServiceContext streams_;
  grpc::CallbackServerContext* const context_;
  v1::ImportTwinsResponse* const response_;
  IdleTimer idle_;
  std::optional<CallGuard::Call> call_;
  std::optional<BulkStreams::Place> place_;

  // gRPC's while a read is under way, else of whoever stores.
  v1::ImportTwinsRequest request_;
  std::vector<int> wanted_;  // Of its documents, those not stored yet.
  int again_ = 0;
  int64_t read_ = 0;  // Documents in the messages before.

  absl::Mutex mutex_;
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> end_;  // Written under mutex_, once.
};

}  // namespace

grpc::ServerReadReactor<v1::ImportTwinsRequest>* NewImportStream(
    const ServiceContext& streams, grpc::CallbackServerContext* context,
    v1::ImportTwinsResponse* response) {
  auto* const stream = new ImportStream(streams, context, response);
  stream->Start();
  return stream;
}

}  // namespace muster
