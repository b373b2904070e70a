#include "transport/grpc/channel.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "engine/model/check.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/support/channel_arguments.h"
#include "transport/auth/sas_token.h"
#include "transport/grpc/address.h"
#include "transport/tls/pem_files.h"

namespace muster {
namespace {

// Tokens are renewed when a tenth of their life is left.
constexpr int kRenewFraction = 10;

// Whether the address cannot leave this machine.
// Of gRPC's forms: "host:port", "unix:path", and with a scheme before them.
bool IsLocal(absl::string_view address) {
  for (const absl::string_view scheme : {"dns:///", "dns:", "ipv4:", "ipv6:"}) {
    if (absl::ConsumePrefix(&address, scheme)) break;
  }
  return IsLoopback(address);
}

// A signature brings its scheme along.
std::string HeaderOf(absl::string_view token) {
  if (token.empty() || absl::StartsWith(token, "SharedAccessSignature ")) {
    return std::string(token);
  }
  return absl::StrCat("Bearer ", token);
}

absl::Status Validate(const ConnectOptions& o) {
  if (o.address.empty()) {
    return absl::InvalidArgumentError(
        "address is empty; it is \"host:port\" or \"unix:/path\"");
  }
  const bool shared = !o.shared_access.key.empty();
  if (!o.tls && (!o.ca_path.empty() || !o.certificate_path.empty() ||
                 !o.key_path.empty() || !o.server_name.empty())) {
    return absl::InvalidArgumentError(
        "ca_path, certificate_path, key_path and server_name need tls");
  }
  if (o.certificate_path.empty() != o.key_path.empty()) {
    return absl::InvalidArgumentError(
        "certificate_path and key_path go together: one is missing");
  }
  if (!o.token.empty() && shared) {
    return absl::InvalidArgumentError(
        "a token and a shared access key are two ways to the same; give one");
  }
  if ((!o.token.empty() || shared) && !o.tls && !IsLocal(o.address)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a token would go to ", o.address, " for everybody to read: use tls"));
  }
  if (shared) {
    if (o.shared_access.resource.empty()) {
      return absl::InvalidArgumentError(
          "shared_access.resource is empty; it is the hub's name");
    }
    if (o.shared_access.lifetime < absl::Minutes(1) ||
        o.shared_access.lifetime > absl::Hours(24 * 365)) {
      return absl::InvalidArgumentError(
          "shared_access.lifetime must be from a minute to a year");
    }
    absl::StatusOr<SasKey> key = SasKey::FromBase64(o.shared_access.key);
    if (!key.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("shared_access.key: ", key.status().message()));
    }
  }
  if (o.timeout < absl::Milliseconds(1) ||
      o.connect_timeout < absl::Milliseconds(1)) {
    return absl::InvalidArgumentError(
        "timeout and connect_timeout must be at least a millisecond");
  }
  if (o.message_size_max < 1 << 10) {
    return absl::InvalidArgumentError(absl::StrCat(
        "message_size_max must be at least 1024; got ", o.message_size_max));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(
    const ConnectOptions& options) {
  if (absl::Status s = Validate(options); !s.ok()) return s;
  std::shared_ptr<grpc::ChannelCredentials> credentials;
  if (!options.tls) {
    credentials = grpc::InsecureChannelCredentials();
  } else {
    grpc::SslCredentialsOptions ssl;
    for (const auto& [path, text] :
         {std::pair(&options.ca_path, &ssl.pem_root_certs),
          std::pair(&options.certificate_path, &ssl.pem_cert_chain),
          std::pair(&options.key_path, &ssl.pem_private_key)}) {
      if (path->empty()) continue;
      absl::StatusOr<std::string> pem = ReadPem(*path);
      if (!pem.ok()) return pem.status();
      *text = *std::move(pem);
    }
    credentials = grpc::SslCredentials(ssl);
  }
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(options.message_size_max);
  if (!options.server_name.empty()) {
    arguments.SetSslTargetNameOverride(options.server_name);
  }
  // A connection of its own, and not one of another channel to that address in
  // this process.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // When to try again after a failure.  GRPC_ARG_MIN_RECONNECT_BACKOFF_MS,
  // which is the time that one try may take, has to stay at its 20 seconds: a
  // channel that nobody calls looks only every 5 seconds whether it is
  // connected, and with less it would give up every try before it has looked
  // (grpc 28866).
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 5000);
  // A connection that says nothing is asked for a sign of life, so that one
  // that is half open does not last.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 20'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  return grpc::CreateCustomChannel(options.address, credentials, arguments);
}

Authorization::Authorization(const ConnectOptions& options, Clock* clock)
    : given_(HeaderOf(options.token)),
      shared_access_(options.shared_access),
      clock_(clock) {}

std::string Authorization::Value() {
  if (shared_access_.key.empty()) return given_;
  const absl::Time now = clock_->Now();
  absl::MutexLock lock(&mutex_);
  if (now >= renew_) {
    const absl::StatusOr<SasKey> key = SasKey::FromBase64(shared_access_.key);
    MUSTER_CHECK(key.ok());  // MakeChannel() has seen it.
    made_ = key->MakeToken(shared_access_.resource, shared_access_.policy,
                           now + shared_access_.lifetime);
    renew_ = now + shared_access_.lifetime -
             shared_access_.lifetime / kRenewFraction;
  }
  return made_;
}

void Authorization::AddTo(grpc::ClientContext* context) {
  const std::string value = Value();
  if (!value.empty()) context->AddMetadata("authorization", value);
}

}  // namespace muster
