// Who calls, and what that allows.
#ifndef TRANSPORT_AUTH_CALLER_H_
#define TRANSPORT_AUTH_CALLER_H_

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace muster {

enum class Role : uint8_t {
  kRead,     // Reads jobs and twins, of all devices.
  kWrite,    // Creates and cancels jobs, changes twins.  Implies kRead.
  kGateway,  // Attaches devices, and answers for them.

  // Of the hub's REST surface: its permissions, contract 4.8.
  kRegistryRead,
  kRegistryWrite,  // Implies kRegistryRead.
  kServiceConnect,
  kDeviceConnect,
};

// "read", "write", "gateway", "RegistryRead", "RegistryWrite",
// "ServiceConnect", "DeviceConnect".
absl::string_view RoleName(Role role);

// nullopt if no role has that name (case-sensitive).
std::optional<Role> FindRole(absl::string_view name);

class RoleSet {
 public:
  RoleSet() = default;  // None.
  RoleSet(std::initializer_list<Role> roles) {
    for (const Role role : roles) Add(role);
  }

  void Add(Role role) {
    bits_ |= Bit(role);
    if (role == Role::kWrite) bits_ |= Bit(Role::kRead);
    if (role == Role::kRegistryWrite) bits_ |= Bit(Role::kRegistryRead);
  }
  bool Has(Role role) const { return (bits_ & Bit(role)) != 0; }
  bool empty() const { return bits_ == 0; }

  // "read, gateway"; "none".
  std::string Text() const;

  friend bool operator==(RoleSet, RoleSet) = default;

 private:
  static uint32_t Bit(Role role) {
    return uint32_t{1} << static_cast<uint32_t>(role);
  }

  uint32_t bits_ = 0;
};

// A set of device ids, which need not exist.  A value that is cheap to copy;
// thread-safe to read.
class DeviceScope {
 public:
  DeviceScope() = default;  // No device.
  static DeviceScope All();
  static DeviceScope One(absl::string_view device_id);

  // Each pattern is an id or, with `*` as its last character, the beginning of
  // ids: "eu-*" covers "eu-" and "eu-7"; "*" covers all.  An id that itself
  // ends with a `*` is covered by its pattern, among others.
  static DeviceScope Of(absl::Span<const std::string> patterns);

  // Takes time logarithmic in the number of patterns.
  bool Covers(absl::string_view device_id) const;
  bool CoversAll() const;

 private:
  struct Patterns;
  explicit DeviceScope(std::shared_ptr<const Patterns> patterns);

  std::shared_ptr<const Patterns> patterns_;  // Null: no device.
};

// A value that is cheap to copy.
struct Caller {
  std::string name;  // Of the policy, token or certificate; for logs.
  RoleSet roles;
  // What kGateway and kDeviceConnect are good for; other roles are for all.
  DeviceScope devices;
  // The last instant at which the credential is good, with what is allowed for
  // clocks that differ: a stream that lasts longer has to end.
  absl::Time expires = absl::InfiniteFuture();
};

}  // namespace muster

#endif  // TRANSPORT_AUTH_CALLER_H_
