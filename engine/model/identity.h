// Identities: who a device is to the hub (contract 4.2 R11, wire-facts 6).
//
// An identity and a twin are made and deleted together.  What the twin shows of
// it (status, deviceEtag, authenticationType, capabilities, ...) is the same
// value; keys and generationId are the identity's alone, and no query, twin or
// job shows them.
#ifndef ENGINE_MODEL_IDENTITY_H_
#define ENGINE_MODEL_IDENTITY_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace muster {

enum class AuthenticationType : uint8_t {
  kSas,                   // "sas": signs with one of two symmetric keys.
  kSelfSigned,            // "selfSigned": a certificate known by its hash.
  kCertificateAuthority,  // "certificateAuthority".
  kNone,                  // "none".
};

absl::string_view AuthenticationTypeName(AuthenticationType type);
// nullopt if no type has that name (case-sensitive).
std::optional<AuthenticationType> FindAuthenticationType(
    absl::string_view name);

// A symmetric key's bytes, before base64.
inline constexpr size_t kDeviceKeySizeMin = 16;
inline constexpr size_t kDeviceKeySizeMax = 64;

struct DeviceIdentity {
  std::string device_id;  // Contract 6.1.

  // What the back end says.
  bool enabled = true;
  std::string status_reason;  // At most kTwinStatusReasonLengthMax.
  // In what a caller sends, nullopt says nothing of authentication: a device
  // that is made is kSas, one that is updated keeps its type, keys and
  // thumbprints, whatever stands here.  In what the hub answers it is there.
  std::optional<AuthenticationType> authentication_type =
      AuthenticationType::kSas;
  // Base64 of 16 to 64 bytes each.  With kSas both are there, but for a device
  // that came as a twin and never had any: then both are empty.  In what a
  // caller sends, empty asks for one to be made: see `registry` in engine.h.
  // With any other type there are none: what a caller gives is let go.
  std::string primary_key;
  std::string secondary_key;
  // SHA-1 or SHA-256 of a certificate: 40 or 64 hexadecimal digits.
  std::optional<std::string> primary_thumbprint;
  std::optional<std::string> secondary_thumbprint;
  bool iot_edge = false;
  std::string device_scope;
  std::vector<std::string> parent_scopes;

  // What the hub says; ignored where a caller gives them.
  std::string generation_id;  // Another one if the device is made anew.
  std::string etag;           // Of the identity, without quotes.
  bool connected = false;
  absl::Time status_updated_time = absl::InfinitePast();  // Infinite: never.
  absl::Time connection_state_updated_time = absl::InfinitePast();
  absl::Time last_activity_time = absl::InfinitePast();

  friend bool operator==(const DeviceIdentity&,
                         const DeviceIdentity&) = default;
};

// A device's two keys, as above; "" for none.
struct SymmetricKeys {
  std::string primary;
  std::string secondary;
};

// The form of keys that are there.  ArgumentInvalid, without the key.
absl::Status ValidateSymmetricKeys(const SymmetricKeys& keys);

// What can be told of a caller's identity without the registry; the limits are
// those of the members above.  ArgumentInvalid, naming the member; never with a
// key in the message.
absl::Status ValidateDeviceIdentity(const DeviceIdentity& device);

// Reads the body of a PUT of a device: `device_id` is the path's, and the
// body's must be it, or absent.  Unknown and hub-written members are ignored.
// Without `authentication`, or with one that has neither a type nor keys nor
// thumbprints, authentication_type is nullopt.  Null counts as absent, an empty
// key or thumbprint too.  What is returned is valid (ValidateDeviceIdentity).
//   IotHubFormatError  no UTF-8, no JSON object, a member twice
//   ArgumentInvalid    naming the member, its value (but of keys) and what
//                      would be right
absl::StatusOr<DeviceIdentity> ParseDeviceIdentity(absl::string_view device_id,
                                                   absl::string_view body);

// The Device of wire-facts 6, compact, keys included.  Appends to `*out`.
// Members in the customary order; thumbprints and, with a type other than kSas,
// keys are null where there are none, times that never were 0001-01-01.
// REQUIRES: authentication_type is there.
void AppendDeviceJson(const DeviceIdentity& device, std::string* out);

}  // namespace muster

#endif  // ENGINE_MODEL_IDENTITY_H_
