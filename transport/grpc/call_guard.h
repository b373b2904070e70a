// CallGuard: who may call, and how many calls may be under way.
//
// Every rpc of every service begins with Begin() and holds the Call until it
// has ended:
//
//   absl::StatusOr<CallGuard::Call> call =
//       guard->Begin(context, Role::kRead, CallKind::kUnary, "GetJob");
//   if (!call.ok()) { reactor->Finish(ToGrpcStatus(call.status())); ... }
//
// So there is one place that knows the caller, the limits and the counters.
#ifndef TRANSPORT_GRPC_CALL_GUARD_H_
#define TRANSPORT_GRPC_CALL_GUARD_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/node_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "engine/schedule/clock.h"
#include "transport/auth/access.h"

namespace grpc {
class AuthContext;
class CallbackServerContext;
class string_ref;
}  // namespace grpc

namespace muster {

enum class CallKind : uint8_t {
  kUnary,
  kStream,   // Watches, streamed rows, imports.
  kGateway,  // A gateway's stream.
};
inline constexpr int kCallKinds = 3;

// absl::StatusCode has the numbers 0 to 16.
inline constexpr int kStatusCodes = 17;

struct CallGuardStats {
  struct Method {
    std::string name;  // "GetJob"
    int64_t under_way = 0;
    // Calls that have ended, refused ones among them, by absl::StatusCode.
    std::array<int64_t, kStatusCodes> ended{};
  };
  std::vector<Method> methods;  // By name.
  // By CallKind.
  std::array<int64_t, kCallKinds> under_way{};
  std::array<int64_t, kCallKinds> limit{};
};

// Thread-safe.  Must outlive the calls that it has begun.
class CallGuard {
 public:
  struct Options {
    // Null: everybody may do everything.
    std::shared_ptr<const Access> access;
    // Not owned; decides when credentials have expired.
    Clock* clock = &Clock::Real();
    // Calls under way at a time, at least 1 each; beyond it RESOURCE_EXHAUSTED.
    int calls_max = 1024;
    int streams_max = 4096;
    int gateways_max = 1024;
  };

 private:
  struct Counters {
    std::atomic<int64_t> under_way{0};
    std::array<std::atomic<int64_t>, kStatusCodes> ended{};
  };

 public:
  // A call under way; counted as such until it is destroyed.
  class Call {
   public:
    Call(Call&& other) noexcept;
    Call& operator=(Call&&) = delete;
    ~Call();

    // Without access control: a caller with every role and no name.
    const Caller& caller() const { return caller_; }

    // IotHubUnauthorized once the caller's credentials have expired: a stream
    // must not outlast them.
    absl::Status CheckExpiry() const;

    // How the call ended, for the counters; OK unless it is said.
    void set_code(absl::StatusCode code) { code_ = code; }

   private:
    friend class CallGuard;
    Call(CallGuard* guard, CallKind kind, Counters* counters, Caller caller);

    CallGuard* guard_;  // Null: moved from.
    CallKind kind_;
    Counters* counters_;
    Caller caller_;
    absl::StatusCode code_ = absl::StatusCode::kOk;
  };

  explicit CallGuard(const Options& options);
  // REQUIRES: no call is under way.
  ~CallGuard();

  // Admits a call of `method`, a name of the program's own: it is kept for
  // ever. Takes about a microsecond, and a signature's check where there is
  // one.
  //   IotHubUnauthorized         no credentials, or expired ones
  //   IotHubUnauthorizedAccess   wrong ones, or not for this role
  //   ThrottlingException        too many calls of this kind; RetryInfo
  absl::StatusOr<Call> Begin(grpc::CallbackServerContext* context, Role role,
                             CallKind kind, absl::string_view method);

  // Whose call it is, by its metadata and what TLS knows of the client; the
  // first two of the errors above.  Begin() asks this; others may do so before.
  absl::StatusOr<Caller> Authenticate(
      const std::multimap<grpc::string_ref, grpc::string_ref>& metadata,
      const grpc::AuthContext& peer) const;

  CallGuardStats Stats() const;

 private:
  Counters* CountersOf(absl::string_view method);

  const Options options_;
  std::array<std::atomic<int64_t>, kCallKinds> under_way_{};

  mutable absl::Mutex mutex_;
  // Entries never move and are never removed.
  absl::node_hash_map<std::string, Counters> methods_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace muster

#endif  // TRANSPORT_GRPC_CALL_GUARD_H_
