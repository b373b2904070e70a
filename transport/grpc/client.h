// MusterClient: a Muster server's jobs and twins, from another process.
//
//   muster::ConnectOptions options;
//   options.address = "127.0.0.1:7040";
//   auto client = muster::MusterClient::Connect(options);
//   muster::v1::CreateJobRequest request;
//   request.mutable_job()->set_query_condition("tags.floor = 3");
//   request.mutable_job()->mutable_direct_method()->set_method_name("reboot");
//   auto job = (*client)->CreateJob(request);
//   auto end = (*client)->WatchJob((*job)->name(), absl::Hours(1),
//                                  [](const muster::v1::Job& job) {
//                                    Show(job.statistics());
//                                    return true;
//                                  });
//
// Requests and answers are the messages of muster.v1; errors are those of the
// engine, so that ErrorCodeOf() (engine/model/error.h), and FieldOf() and
// RetryDelayOf() (transport/grpc/status.h) tell of them.  An error of a
// connection is UNAVAILABLE and says which address and why.
#ifndef TRANSPORT_GRPC_CLIENT_H_
#define TRANSPORT_GRPC_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "muster/v1/job_service.pb.h"
#include "muster/v1/twin_service.pb.h"
#include "transport/grpc/channel.h"

namespace muster {

// Thread-safe.  Each call blocks its thread, for ConnectOptions::timeout at
// most where nothing else is said (DEADLINE_EXCEEDED then), of which it waits
// connect_timeout for a connection.  Calls that may be repeated without harm
// are repeated for as long while the server cannot be reached or answers
// UNAVAILABLE: all but CancelJob, ReplaceTwin, DeleteTwin and ImportTwins, and
// UpdateTwin without an etag.
class MusterClient {
 public:
  // Makes no connection yet.  Errors as MakeChannel().
  static absl::StatusOr<std::unique_ptr<MusterClient>> Connect(
      const ConnectOptions& options);

  // REQUIRES: no call is under way.
  ~MusterClient();

  // Ends all calls under way, and later ones at once, with CANCELLED.  The one
  // thing that may also be done in a signal's wake, from another thread.
  void Cancel();

  // ------------------------------------------------------------------- jobs

  // Its own repetitions make no second job.  A job_id that is taken when it
  // asks first is ALREADY_EXISTS, unless the request has a request_id and the
  // job is what it asks for.  A request without either id gets a request_id.
  absl::StatusOr<v1::Job> CreateJob(v1::CreateJobRequest request);
  // `name`: "jobs/{job}".
  absl::StatusOr<v1::Job> GetJob(absl::string_view name);
  absl::StatusOr<v1::ListJobsResponse> ListJobs(
      const v1::ListJobsRequest& request);
  absl::StatusOr<v1::Job> CancelJob(absl::string_view name,
                                    bool cancel_running);

  // Calls `changed` with the job as it is and then whenever it has changed,
  // until it is terminal or `changed` returns false, and returns it as it was
  // last.  When the connection is lost it goes on where it was as soon as there
  // is one again; no state comes twice, and none goes back.
  // `connection`, if there is one, is called with UNAVAILABLE when the server
  // is gone and with OK when it can be reached again, by turns.
  //   DEADLINE_EXCEEDED after `limit`; UNAVAILABLE only if there was no
  //   connection in all that time; UNAUTHENTICATED when the token has expired
  //   and there is no newer one
  absl::StatusOr<v1::Job> WatchJob(
      absl::string_view name, absl::Duration limit,
      absl::FunctionRef<bool(const v1::Job& job)> changed,
      const std::function<void(const absl::Status& status)>& connection =
          nullptr);

  // `name`: "jobs/{job}/executions/{device}".
  absl::StatusOr<v1::Execution> GetExecution(absl::string_view name);
  absl::StatusOr<v1::ListExecutionsResponse> ListExecutions(
      const v1::ListExecutionsRequest& request);
  absl::StatusOr<v1::PreviewTargetsResponse> PreviewTargets(
      const v1::PreviewTargetsRequest& request);

  // ------------------------------------------------------------------ twins

  // `name`: "twins/{device}".
  absl::StatusOr<v1::Twin> GetTwin(absl::string_view name);
  absl::StatusOr<v1::Twin> UpdateTwin(const v1::UpdateTwinRequest& request);
  absl::StatusOr<v1::Twin> ReplaceTwin(const v1::ReplaceTwinRequest& request);
  absl::Status DeleteTwin(absl::string_view name);
  absl::StatusOr<v1::QueryTwinsResponse> QueryTwins(
      const v1::QueryTwinsRequest& request);

  // Calls `row` with the JSON text of each row, until there are no more or it
  // returns false.  Takes as long as it takes; what is read slowly is sent
  // slowly.
  absl::Status StreamTwins(absl::string_view query,
                           absl::FunctionRef<bool(absl::string_view row)> row);

  // Sends the twins that `next` gives, JSON text each, until it returns false,
  // no faster than the server takes them.  `sent` is called now and then with
  // how many are on their way so far.  Takes as long as it takes.  An error
  // means that some may be there and others not: whole twins may simply be sent
  // again.
  absl::StatusOr<v1::ImportTwinsResponse> ImportTwins(
      absl::FunctionRef<bool(std::string* document)> next,
      absl::FunctionRef<void(int64_t sent)> sent);

 private:
  struct Parts;
  explicit MusterClient(std::unique_ptr<Parts> parts);

  std::unique_ptr<Parts> parts_;
};

}  // namespace muster

#endif  // TRANSPORT_GRPC_CLIENT_H_
