// How a program reaches a Muster server or a listening gateway: address, TLS,
// credentials, and a channel that comes back when the other side does.
#ifndef TRANSPORT_GRPC_CHANNEL_H_
#define TRANSPORT_GRPC_CHANNEL_H_

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/schedule/clock.h"

namespace grpc {
class Channel;
class ClientContext;
}  // namespace grpc

namespace muster {

struct ConnectOptions {
  std::string address;  // "host:port", "unix:/path"

  // Paths of PEM files.
  bool tls = false;
  std::string ca_path;           // Empty: the system's authorities.
  std::string certificate_path;  // With key_path: the client's own certificate.
  std::string key_path;
  std::string
      server_name;  // In the server's certificate; empty: the address's.

  // At most one of the two.  Without TLS only to an address of this machine.
  std::string token;  // A bearer token, or a whole shared access signature.
  // A shared access key, of which tokens are made and renewed as needed.
  struct SharedAccess {
    std::string resource;  // "hub.example.net", perhaps "/devices/{id}".
    std::string policy;
    std::string key;  // Base64.  Empty: no shared access.
    absl::Duration lifetime = absl::Hours(1);  // Of a token; at least a minute.
  } shared_access;

  // How long a call may take, if it is not told otherwise; and how long it
  // waits of that for a connection.
  absl::Duration timeout = absl::Seconds(30);
  absl::Duration connect_timeout = absl::Seconds(5);

  // Of a message that is received, in bytes.
  int message_size_max = 64 << 20;
};

// INVALID_ARGUMENT naming the option; NOT_FOUND for a file that is not there.
// Does not wait for a connection: that is made when it is needed first, and
// made again, after 0.1 to 5 seconds, whenever it is lost.
absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(
    const ConnectOptions& options);

// The `authorization` of calls.  Thread-safe.
class Authorization {
 public:
  // `*clock` must outlive this.  REQUIRES: MakeChannel(options) was OK.
  Authorization(const ConnectOptions& options, Clock* clock);

  // What it is now; empty if there is none.  A token that is made is used until
  // a tenth of its life is left.
  std::string Value();

  // Adds it to a call that begins now, if there is any.
  void AddTo(grpc::ClientContext* context);

 private:
  const std::string given_;  // ConnectOptions::token with its scheme, or empty.
  const ConnectOptions::SharedAccess shared_access_;
  Clock* const clock_;

  absl::Mutex mutex_;
  std::string made_ ABSL_GUARDED_BY(mutex_);  // Of shared_access_.
  absl::Time renew_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
};

}  // namespace muster

#endif  // TRANSPORT_GRPC_CHANNEL_H_
