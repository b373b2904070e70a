#include "transport/grpc/row_stream.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "engine/model/error.h"
#include "transport/grpc/idle_timer.h"
#include "transport/grpc/status.h"
#include "transport/grpc/twin_query.h"

namespace muster {
namespace {

// A page: many messages are worth one scan of the twins.
constexpr int kPageRowsMax = 10'000;
constexpr size_t kPageBytesMax = 8 * kRowBytesMax;

// A stream that has begun does not end because there are many queries at this
// moment: a page is asked for again, so long and so often.
constexpr absl::Duration kAgainAfter = absl::Milliseconds(20);
constexpr int kAgainMax = 500;

bool IsThrottled(const absl::Status& status) {
  return ErrorCodeOf(status) == ErrorCode::kThrottlingException;
}

// Everything but OnIdle() and OnCancel() happens one after the other: a page is
// read, or a message is on its way.
class RowStream final
    : public grpc::ServerWriteReactor<v1::StreamTwinsResponse> {
 public:
  RowStream(const ServiceContext& streams, grpc::CallbackServerContext* context,
            const std::string& query)
      : streams_(streams),
        context_(context),
        query_(query),
        idle_(streams.executor, streams.clock, streams.idle_timeout,
              [this] { OnIdle(); }) {}

  void Start() {
    absl::StatusOr<CallGuard::Call> call = streams_.guard->Begin(
        context_, Role::kRead, CallKind::kStream, "StreamTwins");
    if (!call.ok()) return End(call.status());
    call_.emplace(*std::move(call));
    absl::StatusOr<int64_t> weight = ReadStatementWeight(query_);
    if (!weight.ok()) return End(weight.status());
    weight_ = *weight;
    absl::StatusOr<BulkStreams::Place> place = streams_.bulk->Take();
    if (!place.ok()) return End(place.status());
    place_.emplace(*std::move(place));
    streams_.executor->Run([this] { ReadPage(); });
  }

  void OnWriteDone(bool ok) override {
    idle_.Working();
    if (!ok) return End(too_slow_ ? TooSlow() : CallerGone());
    if (next_row_ < page_.rows.size()) {
      Write();
    } else if (page_.continuation.empty()) {
      End(absl::OkStatus());
    } else {
      streams_.executor->Run([this] { ReadPage(); });
    }
  }

  void OnDone() override {
    idle_.Stop();
    if (call_.has_value()) call_->set_code(code_);
    delete this;
  }

 private:
  absl::Status TooSlow() const {
    return absl::DeadlineExceededError(absl::StrCat(
        "no row was taken for ", absl::FormatDuration(streams_.idle_timeout)));
  }

  // What has been sent stands before any status, and the client does not take
  // it: all that is left is to break the stream off.
  void OnIdle() {
    too_slow_ = true;
    context_->TryCancel();
  }

  // On the executor.
  void ReadPage() {
    if (context_->IsCancelled()) return End(CallerGone());
    if (absl::Status s = call_->CheckExpiry(); !s.ok()) return End(s);
    absl::StatusOr<TwinPage> page =
        QueryPage(*context_, streams_.engine, streams_.budget, query_, weight_,
                  kPageRowsMax, kPageBytesMax, page_.continuation);
    if (IsThrottled(page.status()) && has_begun_ && again_++ < kAgainMax) {
      streams_.executor->RunAt(streams_.clock->Monotonic() + kAgainAfter,
                               [this] { ReadPage(); });
      return;
    }
    if (!page.ok()) return End(page.status());
    has_begun_ = true;
    again_ = 0;
    page_ = *std::move(page);
    next_row_ = 0;
    if (page_.rows.empty()) return End(absl::OkStatus());
    Write();
  }

  // The stream may be gone when it returns.
  void Write() {
    response_.clear_rows();
    size_t bytes = 0;
    while (
        next_row_ < page_.rows.size() &&
        (bytes == 0 || bytes + page_.rows[next_row_].size() <= kRowBytesMax)) {
      bytes += page_.rows[next_row_].size();
      *response_.add_rows() = std::move(page_.rows[next_row_++]);
    }
    idle_.Waiting();
    StartWrite(&response_);
  }

  // The last that is done here, once: gRPC frees the stream, perhaps before
  // this returns.
  void End(const absl::Status& status) {
    code_ = status.code();
    Finish(ToGrpcStatus(status));
  }

  const ServiceContext streams_;
  grpc::CallbackServerContext* const context_;
  const std::string query_;
  IdleTimer idle_;
  std::optional<CallGuard::Call> call_;
  std::optional<BulkStreams::Place> place_;
  int64_t weight_ = 1;
  bool has_begun_ = false;  // A page has been read.
  int again_ = 0;
  TwinPage page_;
  size_t next_row_ = 0;               // Of page_, not sent yet.
  v1::StreamTwinsResponse response_;  // gRPC's while a write is under way.
  // Set before the cancel that makes the write fail, which orders the two.
  std::atomic<bool> too_slow_{false};
  absl::StatusCode code_ = absl::StatusCode::kOk;
};

}  // namespace

grpc::ServerWriteReactor<v1::StreamTwinsResponse>* NewRowStream(
    const ServiceContext& streams, grpc::CallbackServerContext* context,
    const v1::StreamTwinsRequest* request) {
  auto* const stream = new RowStream(streams, context, request->query());
  stream->Start();
  return stream;
}

}  // namespace muster
