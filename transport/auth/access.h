// Access: who may do what.  It tells from what a caller shows, over any
// protocol, who that is and which roles it has.
//
// A caller shows one of
//
//   a shared access signature   made with a policy's key      (sas_token.h)
//   a bearer token              which we know by its hash only
//   a client certificate        that TLS has verified         known by a name
//
// All of them come from one file:
//
//   {
//     "policies": [{
//       "name": "fleet-eu", "roles": ["gateway"], "devices": ["eu-*", "lab-1"],
//       "primaryKey": "<base64>", "secondaryKey": "<base64>"}],
//     "tokens": [{
//       "name": "dashboard", "roles": ["read"], "sha256": "<64 digits>",
//       "expires": "2031-03-01T00:00:00Z"}],
//     "certificates": [{
//       "name": "console", "roles": ["write"], "subject":
//       "console.example.net"}]
//   }
//
//   policies      at most 16, of which at most 10 have ServiceConnect (contract
//                 4.8); tokens and certificates as many as the file's size has
//                 room for
//   name          1 to 64 letters, digits, `-`, `.` and `_`; one of a kind in
//                 the file
//   roles         at least one: read, write (which implies read), gateway, or
//                 of the hub's permissions RegistryRead, RegistryWrite (which
//                 implies it), ServiceConnect, DeviceConnect
//   devices       which devices the roles gateway and DeviceConnect are good
//                 for, as in DeviceScope::Of(); left out: all of them.  Not
//                 with the other roles, which are for all devices: a file that
//                 looked as if it narrowed them would mislead
//   primaryKey,   16 to 256 bytes; either of them signs, so that a key can be
//   secondaryKey  replaced while the other is in use.  The second may be left
//                 out
//   sha256        of the token's bytes: `printf %s TOKEN | sha256sum`.  A token
//                 has to be random, 16 bytes at least: a hash hides nothing
//                 that can be guessed
//   expires       left out: never
//   subject       a name of the certificate, exactly: a DNS name or URI among
//                 its alternative names, or its common name
//
// Beside the file's policies there may be those that every hub has (contract
// 4.8), with keys of their own: DefaultPolicy.
//
// A shared access signature says what it is for (contract 4.7, steps 6 and 7):
//
//   hub.example.net             all that its policy has
//   hub.example.net/twins/a     of the REST surface: that path, and those below
//                               it
//   hub.example.net/devices/a   elsewhere: the policy's roles gateway and
//                               DeviceConnect, for that device alone
//
// One more `/` at the end changes nothing: the segments are the same.
//
// One that names no policy is a device's own, signed with a key of the identity
// registry, and has DeviceConnect for that device alone.
#ifndef TRANSPORT_AUTH_ACCESS_H_
#define TRANSPORT_AUTH_ACCESS_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "transport/auth/caller.h"
#include "transport/auth/sas_token.h"

namespace muster {

struct AccessFile;

// Of the file, in bytes.
inline constexpr size_t kAccessFileSizeMax = size_t{4} * 1024 * 1024;
// Of an authorization, in bytes.
inline constexpr size_t kAuthorizationSizeMax = size_t{8} * 1024;

// What a caller shows.  Views, for the time of a call.
struct CallerCredentials {
  // The value of the header or metadata `authorization`; empty if there is
  // none.  If there is one, the certificate's names do not count.
  absl::string_view authorization;
  // Of a client certificate that TLS has verified: alternative names (DNS,
  // URI), then the common name.  The first one that the file knows decides.
  absl::Span<const std::string> certificate_names;
  // Of a request to the hub's REST surface: its path, percent-decoded, as
  // "/twins/thermo-042".  Then a shared access signature is good for what its
  // resource is a prefix of, by segments (contract 4.7, step 6).
  absl::string_view path;
};

// One of the policies that every hub has, with its keys.
struct DefaultPolicy {
  // What DefaultPolicyRoles() knows.
  std::string name;
  std::vector<SasKey> keys;  // One or two.
};

// Contract 4.8: iothubowner has all roles, those of gRPC too; service has
// ServiceConnect, device DeviceConnect, registryRead and registryReadWrite what
// they say.  nullopt for any other name.
std::optional<RoleSet> DefaultPolicyRoles(absl::string_view name);

// The keys that a device may sign with, one or two; empty if it has none, is
// disabled, or is not there.
using DeviceKeys =
    std::function<std::vector<SasKey>(absl::string_view device_id)>;

// Thread-safe: nothing changes.  No message of any error shows a secret, of the
// file or of a caller.
class Access {
 public:
  struct Options {
    // What shared access signatures have to be for, in any case.  Needed if
    // there are policies or device_keys.
    std::string hub_name;
    // Policies beside the file's.  Names are one of a kind over both, and the
    // numbers that contract 4.8 allows are those of both together.
    std::vector<DefaultPolicy> default_policies;
    // Thread-safe; called by Authenticate().  Null: tokens of devices are
    // refused.
    DeviceKeys device_keys;
    // How long a shared access signature is good beyond its expiry, because
    // clocks differ: 0 to 1 hour.
    absl::Duration clock_skew = absl::Seconds(300);
  };

  // INVALID_ARGUMENT that names the member which is wrong
  // ("policies[2].roles[0]: ...") and what it may be; for text that is no JSON,
  // line and column; for an option, its name.
  static absl::StatusOr<std::shared_ptr<const Access>> Parse(
      absl::string_view json, const Options& options);

  // Of the options alone, without a file.  INVALID_ARGUMENT if they have no
  // policy: nobody could call.
  static absl::StatusOr<std::shared_ptr<const Access>> Create(
      const Options& options);

  // Parse() of a file; errors begin with its path.  NOT_FOUND and the like
  // if it cannot be read.
  static absl::StatusOr<std::shared_ptr<const Access>> FromFile(
      const std::string& path, const Options& options);

  ~Access();
  Access(const Access&) = delete;
  Access& operator=(const Access&) = delete;

  // Who calls at `now`.  About 5 us for a shared access signature, 0.6 us for a
  // bearer token.  A signature takes two keys' time whoever is said to have
  // made it, so that this does not tell which policies there are, and of
  // devices no more than what device_keys itself takes.
  //   IotHubUnauthorized (401003)        nothing is shown, what is shown cannot
  //                                      be read or has expired, or the bearer
  //                                      token is unknown
  //   IotHubUnauthorizedAccess (401002)  signed with another key, by an unknown
  //                                      policy or device; for another hub or
  //                                      path, or a device that the policy does
  //                                      not cover; a certificate that the file
  //                                      does not have
  absl::StatusOr<Caller> Authenticate(const CallerCredentials& credentials,
                                      absl::Time now) const;

  // IotHubUnauthorizedAccess (401002) if `caller` lacks `role`.
  static absl::Status Require(const Caller& caller, Role role);

 private:
  struct Tables;

  static absl::StatusOr<std::shared_ptr<const Access>> Make(
      AccessFile file, const Options& options);

  Access(std::unique_ptr<const Tables> tables, const Options& options);

  absl::StatusOr<Caller> AuthenticateSas(absl::string_view authorization,
                                         absl::string_view path,
                                         absl::Time now) const;
  absl::StatusOr<Caller> AuthenticateDevice(const SasToken& token,
                                            absl::string_view path) const;
  absl::StatusOr<Caller> AuthenticateBearer(absl::string_view token,
                                            absl::Time now) const;
  absl::StatusOr<Caller> AuthenticateCertificate(
      absl::Span<const std::string> names) const;

  const Options options_;
  const std::unique_ptr<const Tables> tables_;
};

// The hash of a bearer token as the file has it: 64 hexadecimal digits, lower
// case.
std::string HashBearerToken(absl::string_view token);

}  // namespace muster

#endif  // TRANSPORT_AUTH_ACCESS_H_
