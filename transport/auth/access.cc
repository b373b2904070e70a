#include "transport/auth/access.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/types/span.h"
#include "engine/model/error.h"
#include "engine/model/instant.h"
#include "openssl/sha.h"
#include "transport/auth/access_file.h"
#include "transport/auth/sas_token.h"

namespace muster {
namespace {

// Of HTTP, where schemes are without case.  The hub's own scheme has one.
constexpr absl::string_view kBearerScheme = "Bearer ";

// See HasSigned(): no secret.
constexpr absl::string_view kFillerKey = "bm9ib2R5bm9ib2R5bm9ib2R5bm9ib2R5";

// Contract 4.8.
constexpr size_t kPoliciesMax = 16;
constexpr int kServiceConnectPoliciesMax = 10;

absl::Status Unauthenticated(absl::string_view message) {
  return MakeError(ErrorCode::kIotHubUnauthorized, message);
}

absl::Status Denied(absl::string_view message) {
  return MakeError(ErrorCode::kIotHubUnauthorizedAccess, message);
}

absl::Status BadOption(absl::string_view message) {
  return MakeError(ErrorCode::kArgumentInvalid, message);
}

// `text` in quotes, as much of it as a message can bear.
std::string Quote(absl::string_view text) {
  return absl::StrCat("\"", absl::Utf8SafeCHexEscape(text.substr(0, 128)),
                      "\"");
}

Caller CallerOf(const Grant& grant, absl::Time expires) {
  return {.name = grant.name,
          .roles = grant.roles,
          .devices = grant.devices,
          .expires = expires};
}

// A token's resource, seen from a hub: "" for the hub itself, "/devices/a" for
// what is below it, without the `/` that may stand at its end; nullopt for
// another hub's.  Names of hubs are without case, what stands behind them is
// not.
std::optional<absl::string_view> BelowHub(absl::string_view resource,
                                          absl::string_view hub_name) {
  if (!absl::StartsWithIgnoreCase(resource, hub_name)) return std::nullopt;
  resource.remove_prefix(hub_name.size());
  if (!resource.empty() && resource.front() != '/') return std::nullopt;
  absl::ConsumeSuffix(&resource, "/");
  return resource;
}

// Whether `prefix` is `path`, or stands before a `/` of it.
bool CoversPath(absl::string_view prefix, absl::string_view path) {
  return absl::ConsumePrefix(&path, prefix) &&
         (path.empty() || path.front() == '/');
}

// The id in "/devices/{id}"; empty if there is none.
absl::string_view DeviceOf(absl::string_view below_hub) {
  // With one more `/` it would be for a module of a device.
  if (!absl::ConsumePrefix(&below_hub, "/devices/") ||
      absl::StrContains(below_hub, '/')) {
    return "";
  }
  return below_hub;
}

// Policies and devices have one or two.
constexpr size_t kKeysMax = 2;

// Takes the same time for any number of keys up to kKeysMax, none among them,
// and whichever is the right one: `filler` stands in for those that are not
// there, and signs nothing.
bool HasSigned(absl::Span<const SasKey> keys, const SasKey& filler,
               const SasToken& token) {
  bool signed_by_one = false;
  for (const SasKey& key : keys) signed_by_one |= key.HasSigned(token);
  for (size_t i = keys.size(); i < kKeysMax; ++i) {
    static_cast<void>(filler.HasSigned(token));
  }
  return signed_by_one;
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(
      std::fopen(path.c_str(), "rb"), std::fclose);
  if (file == nullptr) {
    return absl::ErrnoToStatus(errno, path);
  }
  std::string text(kAccessFileSizeMax + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get()) != 0) return absl::ErrnoToStatus(errno, path);
  if (text.size() > kAccessFileSizeMax) {
    return BadOption(
        absl::StrCat(path, ": longer than ", kAccessFileSizeMax, " bytes"));
  }
  return text;
}

// Puts them behind the file's, and looks after what holds for both.
absl::Status AddDefaultPolicies(const std::vector<DefaultPolicy>& added,
                                std::vector<PolicyEntry>* policies) {
  absl::flat_hash_map<absl::string_view, std::string> places;  // By name.
  for (size_t i = 0; i < policies->size(); ++i) {
    places.emplace((*policies)[i].grant.name,
                   absl::StrCat("policies[", i, "]"));
  }
  std::vector<PolicyEntry> entries;
  for (size_t i = 0; i < added.size(); ++i) {
    const std::string place = absl::StrCat("default_policies[", i, "]");
    const std::optional<RoleSet> roles = DefaultPolicyRoles(added[i].name);
    if (!roles.has_value()) {
      return BadOption(absl::StrCat(
          place,
          ".name: must be iothubowner, service, device, registryRead or "
          "registryReadWrite; got ",
          Quote(added[i].name)));
    }
    if (added[i].keys.empty() || added[i].keys.size() > 2) {
      return BadOption(
          absl::StrCat(place, ".keys: one or two; got ", added[i].keys.size()));
    }
    const auto [at, is_new] = places.emplace(added[i].name, place);
    if (!is_new) {
      return BadOption(absl::StrCat(at->second, ".name: ", Quote(added[i].name),
                                    " is also the name of ", place));
    }
    entries.push_back({.grant = {.name = added[i].name,
                                 .roles = *roles,
                                 .devices = DeviceScope::All()},
                       .keys = added[i].keys});
  }
  for (PolicyEntry& entry : entries) policies->push_back(std::move(entry));
  if (policies->size() > kPoliciesMax) {
    return BadOption(absl::StrCat("policies: at most ", kPoliciesMax, "; got ",
                                  policies->size()));
  }
  const auto connecting =
      absl::c_count_if(*policies, [](const PolicyEntry& policy) {
        return policy.grant.roles.Has(Role::kServiceConnect);
      });
  if (connecting > kServiceConnectPoliciesMax) {
    return BadOption(
        absl::StrCat("policies: at most ", kServiceConnectPoliciesMax,
                     " may have the role ServiceConnect; got ", connecting));
  }
  return absl::OkStatus();
}

}  // namespace

struct Access::Tables {
  const SasKey filler = SasKey::FromBase64(kFillerKey).value();
  absl::flat_hash_map<std::string, PolicyEntry> policies;  // By name.
  // By hash.  That a look-up takes longer for some hashes than for others tells
  // nothing: nobody can choose what a token's hash begins with.
  absl::flat_hash_map<std::string, TokenEntry> tokens;
  absl::flat_hash_map<std::string, CertificateEntry>
      certificates;  // By subject.
};

Access::Access(std::unique_ptr<const Tables> tables, const Options& options)
    : options_(options), tables_(std::move(tables)) {}

Access::~Access() = default;

absl::StatusOr<std::shared_ptr<const Access>> Access::Make(
    AccessFile file, const Options& options) {
  if (options.clock_skew < absl::ZeroDuration() ||
      options.clock_skew > absl::Hours(1)) {
    return BadOption(absl::StrCat("clock_skew: must be 0 to 1 hour; got ",
                                  absl::FormatDuration(options.clock_skew)));
  }
  if (absl::Status status =
          AddDefaultPolicies(options.default_policies, &file.policies);
      !status.ok()) {
    return status;
  }
  if ((!file.policies.empty() || options.device_keys != nullptr) &&
      (options.hub_name.empty() || absl::StrContains(options.hub_name, '/'))) {
    return BadOption(absl::StrCat(
        "hub_name: policies need a hub's name, such as \"hub.example.net\"; "
        "got ",
        Quote(options.hub_name)));
  }
  auto tables = std::make_unique<Tables>();
  for (PolicyEntry& policy : file.policies) {
    tables->policies.emplace(policy.grant.name, std::move(policy));
  }
  for (TokenEntry& token : file.tokens) {
    tables->tokens.emplace(token.sha256, std::move(token));
  }
  for (CertificateEntry& certificate : file.certificates) {
    tables->certificates.emplace(certificate.subject, std::move(certificate));
  }
  return std::shared_ptr<const Access>(new Access(std::move(tables), options));
}

absl::StatusOr<std::shared_ptr<const Access>> Access::Parse(
    absl::string_view json, const Options& options) {
  absl::StatusOr<AccessFile> file = ParseAccessFile(json);
  if (!file.ok()) return file.status();
  return Make(*std::move(file), options);
}

absl::StatusOr<std::shared_ptr<const Access>> Access::Create(
    const Options& options) {
  if (options.default_policies.empty()) {
    return BadOption("default_policies: needs one: nobody could call");
  }
  return Make(AccessFile(), options);
}

absl::StatusOr<std::shared_ptr<const Access>> Access::FromFile(
    const std::string& path, const Options& options) {
  const absl::StatusOr<std::string> json = ReadFile(path);
  if (!json.ok()) return json.status();
  absl::StatusOr<std::shared_ptr<const Access>> access = Parse(*json, options);
  if (!access.ok()) {
    return PrefixError(absl::StrCat(path, ": "), access.status());
  }
  return access;
}

absl::StatusOr<Caller> Access::Authenticate(
    const CallerCredentials& credentials, absl::Time now) const {
  absl::string_view authorization = credentials.authorization;
  if (authorization.empty()) {
    return AuthenticateCertificate(credentials.certificate_names);
  }
  if (authorization.size() > kAuthorizationSizeMax) {
    return Unauthenticated(absl::StrCat("authorization: longer than ",
                                        kAuthorizationSizeMax, " bytes"));
  }
  if (absl::StartsWithIgnoreCase(authorization, kBearerScheme)) {
    authorization.remove_prefix(kBearerScheme.size());
    return AuthenticateBearer(authorization, now);
  }
  return AuthenticateSas(authorization, credentials.path, now);
}

// The steps are those of contract 4.7.
absl::StatusOr<Caller> Access::AuthenticateSas(absl::string_view authorization,
                                               absl::string_view path,
                                               absl::Time now) const {
  const absl::StatusOr<SasToken> token = ParseSasToken(authorization);
  if (!token.ok()) return token.status();
  const absl::Time expires = token->expires + options_.clock_skew;
  if (now > expires) {
    return Unauthenticated(absl::StrCat("authorization: the token expired at ",
                                        FormatInstant(token->expires)));
  }
  if (token->policy.empty()) return AuthenticateDevice(*token, path);
  const auto found = tables_->policies.find(token->policy);
  // Whether there is such a policy is not for everybody to know.
  absl::Span<const SasKey> keys;
  if (found != tables_->policies.end()) keys = found->second.keys;
  if (!HasSigned(keys, tables_->filler, *token)) {
    return Denied(
        absl::StrCat("authorization: the token's signature is not one of the "
                     "policy ",
                     Quote(token->policy)));
  }
  const Grant& grant = found->second.grant;
  const std::optional<absl::string_view> below =
      BelowHub(token->resource, options_.hub_name);
  if (below.has_value() && below->empty()) return CallerOf(grant, expires);
  if (!path.empty()) {
    if (below.has_value() && CoversPath(*below, path)) {
      return CallerOf(grant, expires);
    }
    return Denied(absl::StrCat("authorization: the token's sr must be ",
                               Quote(options_.hub_name),
                               " or begin, by segments, what is asked for, ",
                               Quote(absl::StrCat(options_.hub_name, path)),
                               "; got ", Quote(token->resource)));
  }
  const absl::string_view device_id = DeviceOf(below.value_or(""));
  if (device_id.empty()) {
    return Denied(absl::StrCat(
        "authorization: the token's sr must be ", Quote(options_.hub_name),
        " or ", Quote(absl::StrCat(options_.hub_name, "/devices/{id}")),
        "; got ", Quote(token->resource)));
  }
  Caller caller = CallerOf(grant, expires);
  caller.roles = {};
  for (const Role role : {Role::kGateway, Role::kDeviceConnect}) {
    if (grant.roles.Has(role)) caller.roles.Add(role);
  }
  if (caller.roles.empty() || !grant.devices.Covers(device_id)) {
    return Denied(
        absl::StrCat("authorization: the policy ", Quote(grant.name),
                     " has neither gateway nor DeviceConnect for the device ",
                     Quote(device_id)));
  }
  caller.devices = DeviceScope::One(device_id);
  return caller;
}

absl::StatusOr<Caller> Access::AuthenticateDevice(
    const SasToken& token, absl::string_view path) const {
  const absl::string_view below =
      BelowHub(token.resource, options_.hub_name).value_or("");
  const absl::string_view device_id = DeviceOf(below);
  if (device_id.empty() || options_.device_keys == nullptr) {
    return Denied(absl::StrCat(
        "authorization: the token names no policy (skn)",
        options_.device_keys == nullptr
            ? ", and keys of devices are not known here"
            : absl::StrCat(
                  ", and its sr is not ",
                  Quote(absl::StrCat(options_.hub_name, "/devices/{id}")))));
  }
  // Nor is it for everybody to know which devices there are.
  if (!HasSigned(options_.device_keys(device_id), tables_->filler, token)) {
    return Denied(absl::StrCat(
        "authorization: the token's signature is not one of the device ",
        Quote(device_id)));
  }
  if (!path.empty() && !CoversPath(below, path)) {
    return Denied(absl::StrCat("authorization: the token is for ",
                               Quote(token.resource), ", not for ",
                               Quote(absl::StrCat(options_.hub_name, path))));
  }
  return Caller{.name = std::string(device_id),
                .roles = {Role::kDeviceConnect},
                .devices = DeviceScope::One(device_id),
                .expires = token.expires + options_.clock_skew};
}

absl::StatusOr<Caller> Access::AuthenticateBearer(absl::string_view token,
                                                  absl::Time now) const {
  const auto found = tables_->tokens.find(HashBearerToken(token));
  if (found == tables_->tokens.end()) {
    return Unauthenticated("authorization: the bearer token is not known here");
  }
  const TokenEntry& entry = found->second;
  if (now > entry.expires) {
    return Unauthenticated(absl::StrCat("authorization: the bearer token ",
                                        Quote(entry.grant.name), " expired at ",
                                        FormatInstant(entry.expires)));
  }
  return CallerOf(entry.grant, entry.expires);
}

absl::StatusOr<Caller> Access::AuthenticateCertificate(
    absl::Span<const std::string> names) const {
  if (names.empty()) {
    return Unauthenticated(
        "authorization: a shared access signature, a bearer token or a client "
        "certificate is needed");
  }
  for (const std::string& name : names) {
    const auto found = tables_->certificates.find(name);
    if (found == tables_->certificates.end()) continue;
    return CallerOf(found->second.grant, absl::InfiniteFuture());
  }
  return Denied(absl::StrCat("the client certificate's name ",
                             Quote(names.front()), " has no role here"));
}

absl::Status Access::Require(const Caller& caller, Role role) {
  if (caller.roles.Has(role)) return absl::OkStatus();
  return Denied(absl::StrCat(Quote(caller.name), " needs the role ",
                             RoleName(role), "; it has ", caller.roles.Text()));
}

std::optional<RoleSet> DefaultPolicyRoles(absl::string_view name) {
  if (name == "iothubowner") {
    return RoleSet({Role::kWrite, Role::kGateway, Role::kRegistryWrite,
                    Role::kServiceConnect, Role::kDeviceConnect});
  }
  if (name == "service") return RoleSet({Role::kServiceConnect});
  if (name == "device") return RoleSet({Role::kDeviceConnect});
  if (name == "registryRead") return RoleSet({Role::kRegistryRead});
  if (name == "registryReadWrite") return RoleSet({Role::kRegistryWrite});
  return std::nullopt;
}

std::string HashBearerToken(absl::string_view token) {
  std::string hash(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(),
         reinterpret_cast<unsigned char*>(hash.data()));
  return absl::BytesToHexString(hash);
}

}  // namespace muster
