#include "transport/grpc/client.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/model/error.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "muster/v1/job_service.grpc.pb.h"
#include "muster/v1/twin_service.grpc.pb.h"
#include "transport/grpc/status.h"
#include "transport/grpc/uuid.h"

namespace muster {
namespace {

constexpr absl::Duration kBackoffMin = absl::Milliseconds(100);
constexpr absl::Duration kBackoffMax = absl::Seconds(5);

std::chrono::system_clock::time_point Deadline(absl::Duration remaining) {
  return std::chrono::system_clock::now() +
         absl::ToChronoNanoseconds(
             std::clamp(remaining, absl::ZeroDuration(), absl::Hours(1 << 16)));
}

}  // namespace

struct MusterClient::Parts {
  explicit Parts(const ConnectOptions& o, std::shared_ptr<grpc::Channel> c)
      : options(o),
        channel(std::move(c)),
        authorization(o, &Clock::Real()),
        jobs(v1::JobService::NewStub(channel)),
        twins(v1::TwinService::NewStub(channel)) {}

  // A call's context; Cancel() reaches it as long as it lives.
  class Context {
   public:
    Context(Parts* parts, absl::Duration timeout) : parts_(parts) {
      context_.set_deadline(Deadline(timeout));
      parts->authorization.AddTo(&context_);
      absl::MutexLock lock(&parts->mutex);
      parts->contexts.insert(&context_);
      if (parts->cancelled) context_.TryCancel();
    }
    ~Context() {
      absl::MutexLock lock(&parts_->mutex);
      parts_->contexts.erase(&context_);
    }
    grpc::ClientContext* get() { return &context_; }

   private:
    Parts* const parts_;
    grpc::ClientContext context_;
  };

  bool Cancelled() {
    absl::MutexLock lock(&mutex);
    return cancelled;
  }
  // Waits, unless Cancel() comes first: false then.
  bool Sleep(absl::Duration duration) {
    absl::MutexLock lock(&mutex);
    return !mutex.AwaitWithTimeout(absl::Condition(&cancelled), duration);
  }

  // Runs `call`, grpc::Status(grpc::ClientContext*), and again if it may be.
  template <typename Call>
  absl::Status Run(bool repeatable, Call call) {
    const absl::Time deadline = absl::Now() + options.timeout;
    const absl::Time connect_by =
        absl::Now() + std::min(options.connect_timeout, options.timeout);
    absl::Duration backoff = kBackoffMin;
    for (;;) {
      // Whoever waits here drives the channel, too: one that nobody waits for
      // may never notice that it could connect (grpc 28866).
      channel->WaitForConnected(Deadline(connect_by - absl::Now()));
      Context context(this, deadline - absl::Now());
      absl::Status status = FromGrpcStatus(call(context.get()));
      if (absl::IsDeadlineExceeded(status) &&
          channel->GetState(false) != GRPC_CHANNEL_READY) {
        // There was no connection in all that time: the call never left.
        return NotReached(absl::UnavailableError(status.message()));
      }
      if (!absl::IsUnavailable(status)) return status;
      const absl::Time now = absl::Now();
      const bool connected = channel->GetState(false) == GRPC_CHANNEL_READY;
      // The server itself says when to come again.
      const absl::Duration wait =
          connected ? std::max(backoff, RetryDelayOf(status).value_or(backoff))
                    : backoff;
      if (!repeatable || now + wait >= deadline ||
          (!connected && now >= connect_by)) {
        return connected ? status : NotReached(status);
      }
      if (!Sleep(wait)) {
        return MakeError(ErrorCode::kClientClosedRequest,
                         "the client was told to end its calls");
      }
      backoff = std::min(2 * backoff, kBackoffMax);
    }
  }

  absl::Status NotReached(const absl::Status& status) const {
    return PrefixError(absl::StrCat("cannot reach ", options.address, ": "),
                       status);
  }

  // Unary(true, &*jobs, &v1::JobService::Stub::GetJob, request)
  template <typename Stub, typename Request, typename Response>
  absl::StatusOr<Response> Unary(
      bool repeatable, Stub* stub,
      grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                   Response*),
      const Request& request) {
    Response response;
    absl::Status status = Run(repeatable, [&](grpc::ClientContext* context) {
      return (stub->*method)(context, request, &response);
    });
    if (!status.ok()) return status;
    return response;
  }

  const ConnectOptions options;
  const std::shared_ptr<grpc::Channel> channel;
  Authorization authorization;
  const std::unique_ptr<v1::JobService::Stub> jobs;
  const std::unique_ptr<v1::TwinService::Stub> twins;

  absl::Mutex mutex;
  absl::flat_hash_set<grpc::ClientContext*> contexts ABSL_GUARDED_BY(mutex);
  bool cancelled ABSL_GUARDED_BY(mutex) = false;
};

absl::StatusOr<std::unique_ptr<MusterClient>> MusterClient::Connect(
    const ConnectOptions& options) {
  absl::StatusOr<std::shared_ptr<grpc::Channel>> channel = MakeChannel(options);
  if (!channel.ok()) return channel.status();
  return std::unique_ptr<MusterClient>(
      new MusterClient(std::make_unique<Parts>(options, *std::move(channel))));
}

MusterClient::MusterClient(std::unique_ptr<Parts> parts)
    : parts_(std::move(parts)) {}

MusterClient::~MusterClient() = default;

void MusterClient::Cancel() {
  absl::MutexLock lock(&parts_->mutex);
  parts_->cancelled = true;
  for (grpc::ClientContext* context : parts_->contexts) context->TryCancel();
}

// ----------------------------------------------------------------------- jobs

absl::StatusOr<v1::Job> MusterClient::CreateJob(v1::CreateJobRequest request) {
  // Without an id of its own the job gets the request's: no second one.
  if (request.request_id().empty() && request.job_id().empty()) {
    request.set_request_id(NewUuid());
  }
  v1::Job response;
  bool repeated = false;
  absl::Status status = parts_->Run(true, [&](grpc::ClientContext* context) {
    // A job that is there already may be what the first try has made, but
    // only from the second on.
    if (repeated && request.request_id().empty() && !request.validate_only()) {
      request.set_request_id(NewUuid());
    }
    repeated = true;
    return parts_->jobs->CreateJob(context, request, &response);
  });
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<v1::Job> MusterClient::GetJob(absl::string_view name) {
  v1::GetJobRequest request;
  request.set_name(std::string(name));
  return parts_->Unary(true, parts_->jobs.get(), &v1::JobService::Stub::GetJob,
                       request);
}

absl::StatusOr<v1::ListJobsResponse> MusterClient::ListJobs(
    const v1::ListJobsRequest& request) {
  return parts_->Unary(true, parts_->jobs.get(),
                       &v1::JobService::Stub::ListJobs, request);
}

absl::StatusOr<v1::Job> MusterClient::CancelJob(absl::string_view name,
                                                bool cancel_running) {
  v1::CancelJobRequest request;
  request.set_name(std::string(name));
  request.set_cancel_running(cancel_running);
  return parts_->Unary(false, parts_->jobs.get(),
                       &v1::JobService::Stub::CancelJob, request);
}

absl::StatusOr<v1::Job> MusterClient::WatchJob(
    absl::string_view name, absl::Duration limit,
    absl::FunctionRef<bool(const v1::Job& job)> changed,
    const std::function<void(const absl::Status& status)>& connection) {
  const absl::Time deadline = absl::Now() + limit;
  v1::WatchJobRequest request;
  request.set_name(std::string(name));
  v1::WatchJobResponse response;
  absl::Duration backoff = kBackoffMin;
  bool lost = false;  // And `connection` was told so.
  for (;;) {
    const bool connected = parts_->channel->WaitForConnected(Deadline(
        std::min(parts_->options.connect_timeout, deadline - absl::Now())));
    if (lost && connected) {
      lost = false;
      if (connection) connection(absl::OkStatus());
    }
    // Taken first: if it is renewed right now the watch is begun once more.
    const std::string authorization = parts_->authorization.Value();
    Parts::Context context(parts_.get(), deadline - absl::Now());
    const std::unique_ptr<grpc::ClientReader<v1::WatchJobResponse>> reader =
        parts_->jobs->WatchJob(context.get(), request);
    bool wanted = true;
    while (wanted && reader->Read(&response)) {
      backoff = kBackoffMin;
      if (response.revision() <= request.revision()) continue;
      request.set_revision(response.revision());
      wanted = changed(response.job());
    }
    if (!wanted) {
      context.get()->TryCancel();
      reader->Finish();
      return response.job();
    }
    absl::Status status = FromGrpcStatus(reader->Finish());
    if (status.ok()) return response.job();
    // A watch ends with the token that it began with: if there is a new one by
    // now, it goes on with that.
    const bool renewed = absl::IsUnauthenticated(status) &&
                         parts_->authorization.Value() != authorization;
    if (!absl::IsUnavailable(status) && !renewed) return status;
    if (!renewed && !lost && !parts_->Cancelled()) {
      lost = true;
      if (connection) connection(status);
    }
    if (absl::Now() + backoff >= deadline) {
      return request.revision() == 0 ? parts_->NotReached(status)
                                     : absl::DeadlineExceededError(absl::StrCat(
                                           name, " has not ended in ",
                                           absl::FormatDuration(limit)));
    }
    if (!parts_->Sleep(backoff)) {
      return MakeError(ErrorCode::kClientClosedRequest,
                       "the client was told to end its calls");
    }
    backoff = std::min(2 * backoff, kBackoffMax);
  }
}

absl::StatusOr<v1::Execution> MusterClient::GetExecution(
    absl::string_view name) {
  v1::GetExecutionRequest request;
  request.set_name(std::string(name));
  return parts_->Unary(true, parts_->jobs.get(),
                       &v1::JobService::Stub::GetExecution, request);
}

absl::StatusOr<v1::ListExecutionsResponse> MusterClient::ListExecutions(
    const v1::ListExecutionsRequest& request) {
  return parts_->Unary(true, parts_->jobs.get(),
                       &v1::JobService::Stub::ListExecutions, request);
}

absl::StatusOr<v1::PreviewTargetsResponse> MusterClient::PreviewTargets(
    const v1::PreviewTargetsRequest& request) {
  return parts_->Unary(true, parts_->jobs.get(),
                       &v1::JobService::Stub::PreviewTargets, request);
}

// ---------------------------------------------------------------------- twins

absl::StatusOr<v1::Twin> MusterClient::GetTwin(absl::string_view name) {
  v1::GetTwinRequest request;
  request.set_name(std::string(name));
  return parts_->Unary(true, parts_->twins.get(),
                       &v1::TwinService::Stub::GetTwin, request);
}

absl::StatusOr<v1::Twin> MusterClient::UpdateTwin(
    const v1::UpdateTwinRequest& request) {
  // With an etag the second of two does nothing.
  const bool repeatable =
      !request.twin().etag().empty() && request.twin().etag() != "*";
  return parts_->Unary(repeatable, parts_->twins.get(),
                       &v1::TwinService::Stub::UpdateTwin, request);
}

absl::StatusOr<v1::Twin> MusterClient::ReplaceTwin(
    const v1::ReplaceTwinRequest& request) {
  return parts_->Unary(false, parts_->twins.get(),
                       &v1::TwinService::Stub::ReplaceTwin, request);
}

absl::Status MusterClient::DeleteTwin(absl::string_view name) {
  v1::DeleteTwinRequest request;
  request.set_name(std::string(name));
  return parts_
      ->Unary(false, parts_->twins.get(), &v1::TwinService::Stub::DeleteTwin,
              request)
      .status();
}

absl::StatusOr<v1::QueryTwinsResponse> MusterClient::QueryTwins(
    const v1::QueryTwinsRequest& request) {
  return parts_->Unary(true, parts_->twins.get(),
                       &v1::TwinService::Stub::QueryTwins, request);
}

absl::Status MusterClient::StreamTwins(
    absl::string_view query,
    absl::FunctionRef<bool(absl::string_view row)> row) {
  v1::StreamTwinsRequest request;
  request.set_query(std::string(query));
  parts_->channel->WaitForConnected(Deadline(parts_->options.connect_timeout));
  Parts::Context context(parts_.get(), absl::InfiniteDuration());
  const std::unique_ptr<grpc::ClientReader<v1::StreamTwinsResponse>> reader =
      parts_->twins->StreamTwins(context.get(), request);
  v1::StreamTwinsResponse response;
  while (reader->Read(&response)) {
    for (const std::string& text : response.rows()) {
      if (row(text)) continue;
      context.get()->TryCancel();
      reader->Finish();
      return absl::OkStatus();
    }
  }
  return FromGrpcStatus(reader->Finish());
}

absl::StatusOr<v1::ImportTwinsResponse> MusterClient::ImportTwins(
    absl::FunctionRef<bool(std::string* document)> next,
    absl::FunctionRef<void(int64_t sent)> sent) {
  // Of a message: well below what servers take, and enough to be no burden.
  constexpr int kDocuments = 1000;
  constexpr size_t kBytes = 1 << 20;
  parts_->channel->WaitForConnected(Deadline(parts_->options.connect_timeout));
  Parts::Context context(parts_.get(), absl::InfiniteDuration());
  v1::ImportTwinsResponse response;
  const std::unique_ptr<grpc::ClientWriter<v1::ImportTwinsRequest>> writer =
      parts_->twins->ImportTwins(context.get(), &response);
  v1::ImportTwinsRequest message;
  size_t bytes = 0;
  int64_t count = 0;
  bool open = true;
  std::string document;
  const auto flush = [&] {
    if (message.documents().empty()) return;
    open = writer->Write(message);
    count += message.documents_size();
    message.clear_documents();
    bytes = 0;
    if (open) sent(count);
  };
  while (open && next(&document)) {
    bytes += document.size();
    *message.add_documents() = std::move(document);
    document.clear();
    if (message.documents_size() >= kDocuments || bytes >= kBytes) flush();
  }
  if (open) flush();
  writer->WritesDone();
  absl::Status status = FromGrpcStatus(writer->Finish());
  if (!status.ok()) {
    const bool connected =
        parts_->channel->GetState(false) == GRPC_CHANNEL_READY;
    return absl::IsUnavailable(status) && !connected
               ? parts_->NotReached(status)
               : status;
  }
  return response;
}

}  // namespace muster
