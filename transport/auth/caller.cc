#include "transport/auth/caller.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/model/check.h"

namespace muster {
namespace {

constexpr Role kRoles[] = {Role::kRead,          Role::kWrite,
                           Role::kGateway,       Role::kRegistryRead,
                           Role::kRegistryWrite, Role::kServiceConnect,
                           Role::kDeviceConnect};

}  // namespace

absl::string_view RoleName(Role role) {
  switch (role) {
    case Role::kRead:
      return "read";
    case Role::kWrite:
      return "write";
    case Role::kGateway:
      return "gateway";
    case Role::kRegistryRead:
      return "RegistryRead";
    case Role::kRegistryWrite:
      return "RegistryWrite";
    case Role::kServiceConnect:
      return "ServiceConnect";
    case Role::kDeviceConnect:
      return "DeviceConnect";
  }
  MUSTER_CHECK(false && "a role that is not in the list");
}

std::optional<Role> FindRole(absl::string_view name) {
  for (const Role role : kRoles) {
    if (RoleName(role) == name) return role;
  }
  return std::nullopt;
}

std::string RoleSet::Text() const {
  std::string text;
  for (const Role role : kRoles) {
    if (!Has(role)) continue;
    absl::StrAppend(&text, text.empty() ? "" : ", ", RoleName(role));
  }
  return text.empty() ? "none" : text;
}

struct DeviceScope::Patterns {
  absl::flat_hash_set<std::string> ids;
  // Ascending, none the beginning of another: the only one that an id can begin
  // with is then the last one that is not above it.
  std::vector<std::string> prefixes;
};

DeviceScope::DeviceScope(std::shared_ptr<const Patterns> patterns)
    : patterns_(std::move(patterns)) {}

DeviceScope DeviceScope::All() { return Of({"*"}); }

DeviceScope DeviceScope::One(absl::string_view device_id) {
  auto patterns = std::make_shared<Patterns>();
  patterns->ids.emplace(device_id);
  return DeviceScope(std::move(patterns));
}

DeviceScope DeviceScope::Of(absl::Span<const std::string> patterns) {
  auto made = std::make_shared<Patterns>();
  std::vector<std::string> prefixes;
  for (absl::string_view pattern : patterns) {
    if (absl::ConsumeSuffix(&pattern, "*")) {
      prefixes.emplace_back(pattern);
    } else {
      made->ids.emplace(pattern);
    }
  }
  // What begins with a prefix stands directly behind it.
  std::sort(prefixes.begin(), prefixes.end());
  for (std::string& prefix : prefixes) {
    if (!made->prefixes.empty() &&
        absl::StartsWith(prefix, made->prefixes.back())) {
      continue;
    }
    made->prefixes.push_back(std::move(prefix));
  }
  return DeviceScope(std::move(made));
}

bool DeviceScope::Covers(absl::string_view device_id) const {
  if (patterns_ == nullptr) return false;
  if (patterns_->ids.contains(device_id)) return true;
  const std::vector<std::string>& prefixes = patterns_->prefixes;
  const auto above =
      std::upper_bound(prefixes.begin(), prefixes.end(), device_id,
                       [](absl::string_view id, const std::string& prefix) {
                         return id < absl::string_view(prefix);
                       });
  return above != prefixes.begin() && absl::StartsWith(device_id, above[-1]);
}

bool DeviceScope::CoversAll() const { return Covers(""); }

}  // namespace muster
