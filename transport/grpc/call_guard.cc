#include "transport/grpc/call_guard.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "grpc/grpc_security_constants.h"
#include "grpcpp/security/auth_context.h"
#include "grpcpp/server_context.h"
#include "transport/auth/caller.h"

namespace muster {
namespace {

absl::string_view View(grpc::string_ref text) {
  return absl::string_view(text.data(), text.size());
}

// Of a client certificate that TLS has verified; none without one.
std::vector<std::string> CertificateNames(const grpc::AuthContext& peer) {
  std::vector<std::string> names;
  if (!peer.IsPeerAuthenticated()) return names;
  for (const char* property :
       {GRPC_PEER_DNS_PROPERTY_NAME, GRPC_PEER_URI_PROPERTY_NAME,
        GRPC_X509_CN_PROPERTY_NAME}) {
    for (const grpc::string_ref& value : peer.FindPropertyValues(property)) {
      names.emplace_back(View(value));
    }
  }
  return names;
}

absl::string_view KindName(CallKind kind) {
  switch (kind) {
    case CallKind::kUnary:
      return "calls";
    case CallKind::kStream:
      return "streams";
    case CallKind::kGateway:
      return "gateways";
  }
  return "";
}

}  // namespace

CallGuard::Call::Call(CallGuard* guard, CallKind kind, Counters* counters,
                      Caller caller)
    : guard_(guard),
      kind_(kind),
      counters_(counters),
      caller_(std::move(caller)) {}

CallGuard::Call::Call(Call&& other) noexcept
    : guard_(std::exchange(other.guard_, nullptr)),
      kind_(other.kind_),
      counters_(other.counters_),
      caller_(std::move(other.caller_)),
      code_(other.code_) {}

// All counters are relaxed: they stand for themselves.
CallGuard::Call::~Call() {
  if (guard_ == nullptr) return;
  counters_->ended[static_cast<int>(code_)].fetch_add(
      1, std::memory_order_relaxed);
  counters_->under_way.fetch_sub(1, std::memory_order_relaxed);
  guard_->under_way_[static_cast<int>(kind_)].fetch_sub(
      1, std::memory_order_relaxed);
}

absl::Status CallGuard::Call::CheckExpiry() const {
  if (guard_->options_.clock->Now() <= caller_.expires) return absl::OkStatus();
  return MakeError(ErrorCode::kIotHubUnauthorized,
                   "the credentials that the stream began with have expired");
}

CallGuard::CallGuard(const Options& options) : options_(options) {
  MUSTER_CHECK(options.clock != nullptr);
  MUSTER_CHECK(options.calls_max >= 1 && options.streams_max >= 1 &&
               options.gateways_max >= 1);
}

CallGuard::~CallGuard() {
  for (const std::atomic<int64_t>& count : under_way_) {
    MUSTER_CHECK(count.load(std::memory_order_relaxed) == 0);
  }
}

CallGuard::Counters* CallGuard::CountersOf(absl::string_view method) {
  absl::MutexLock lock(&mutex_);
  return &methods_[method];
}

absl::StatusOr<Caller> CallGuard::Authenticate(
    const std::multimap<grpc::string_ref, grpc::string_ref>& metadata,
    const grpc::AuthContext& peer) const {
  if (options_.access == nullptr) {
    Caller caller;
    caller.roles = {Role::kWrite, Role::kGateway};
    caller.devices = DeviceScope::All();
    return caller;
  }
  CallerCredentials credentials;
  const auto [first, last] = metadata.equal_range("authorization");
  if (first != last) {
    if (std::next(first) != last) {
      return MakeError(ErrorCode::kIotHubUnauthorized,
                       "more than one `authorization`; one is needed");
    }
    credentials.authorization = View(first->second);
  }
  const std::vector<std::string> names = CertificateNames(peer);
  credentials.certificate_names = names;
  return options_.access->Authenticate(credentials, options_.clock->Now());
}

absl::StatusOr<CallGuard::Call> CallGuard::Begin(
    grpc::CallbackServerContext* context, Role role, CallKind kind,
    absl::string_view method) {
  Counters* const counters = CountersOf(method);
  const auto refuse = [counters](absl::Status status) {
    counters->ended[static_cast<int>(status.code())].fetch_add(
        1, std::memory_order_relaxed);
    return status;
  };
  // First of all: whoever may not call takes nobody's place.
  absl::StatusOr<Caller> caller =
      Authenticate(context->client_metadata(), *context->auth_context());
  if (!caller.ok()) return refuse(caller.status());
  if (absl::Status s = Access::Require(*caller, role); !s.ok()) {
    return refuse(s);
  }
  const int limit = kind == CallKind::kUnary    ? options_.calls_max
                    : kind == CallKind::kStream ? options_.streams_max
                                                : options_.gateways_max;
  std::atomic<int64_t>& under_way = under_way_[static_cast<int>(kind)];
  if (under_way.fetch_add(1, std::memory_order_relaxed) >= limit) {
    under_way.fetch_sub(1, std::memory_order_relaxed);
    return refuse(
        MakeError(ErrorCode::kThrottlingException,
                  absl::StrCat("there are ", limit, " ", KindName(kind),
                               " under way, which is the most at a time")));
  }
  counters->under_way.fetch_add(1, std::memory_order_relaxed);
  return Call(this, kind, counters, *std::move(caller));
}

CallGuardStats CallGuard::Stats() const {
  CallGuardStats stats;
  stats.limit = {options_.calls_max, options_.streams_max,
                 options_.gateways_max};
  for (int i = 0; i < kCallKinds; ++i) {
    stats.under_way[i] = under_way_[i].load(std::memory_order_relaxed);
  }
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [name, counters] : methods_) {
      CallGuardStats::Method& method = stats.methods.emplace_back();
      method.name = name;
      method.under_way = counters.under_way.load(std::memory_order_relaxed);
      for (int i = 0; i < kStatusCodes; ++i) {
        method.ended[i] = counters.ended[i].load(std::memory_order_relaxed);
      }
    }
  }
  std::sort(stats.methods.begin(), stats.methods.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  return stats;
}

}  // namespace muster
