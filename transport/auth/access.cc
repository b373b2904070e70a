#include "transport/auth/access.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/model/error.h"
#include "engine/model/instant.h"
#include "openssl/sha.h"
#include "transport/auth/access_file.h"
#include "transport/auth/sas_token.h"

namespace muster {
namespace {

// Of HTTP, where schemes are without case.  The hub's own scheme has one.
constexpr absl::string_view kBearerScheme = "Bearer ";

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

// What a token's resource is for.
struct Resource {
  enum Kind { kOther, kHub, kDevice } kind = kOther;
  absl::string_view device_id;  // Of kDevice.
};

// Hub names are without case, what stands behind them is not.
Resource ResourceOf(absl::string_view resource, absl::string_view hub_name) {
  if (!absl::StartsWithIgnoreCase(resource, hub_name)) return {};
  resource.remove_prefix(hub_name.size());
  if (resource.empty()) return {.kind = Resource::kHub};
  if (!absl::ConsumePrefix(&resource, "/devices/")) return {};
  // With a `/` it would be for a module of a device.
  if (resource.empty() || absl::StrContains(resource, '/')) return {};
  return {.kind = Resource::kDevice, .device_id = resource};
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

}  // namespace

struct Access::Tables {
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

absl::StatusOr<std::shared_ptr<const Access>> Access::Parse(
    absl::string_view json, const Options& options) {
  if (options.clock_skew < absl::ZeroDuration() ||
      options.clock_skew > absl::Hours(1)) {
    return BadOption(absl::StrCat("clock_skew: must be 0 to 1 hour; got ",
                                  absl::FormatDuration(options.clock_skew)));
  }
  absl::StatusOr<AccessFile> file = ParseAccessFile(json);
  if (!file.ok()) return file.status();
  if (!file->policies.empty() &&
      (options.hub_name.empty() || absl::StrContains(options.hub_name, '/'))) {
    return BadOption(absl::StrCat(
        "hub_name: policies need a hub's name, such as \"hub.example.net\"; "
        "got ",
        Quote(options.hub_name)));
  }
  auto tables = std::make_unique<Tables>();
  for (PolicyEntry& policy : file->policies) {
    tables->policies.emplace(policy.grant.name, std::move(policy));
  }
  for (TokenEntry& token : file->tokens) {
    tables->tokens.emplace(token.sha256, std::move(token));
  }
  for (CertificateEntry& certificate : file->certificates) {
    tables->certificates.emplace(certificate.subject, std::move(certificate));
  }
  return std::shared_ptr<const Access>(new Access(std::move(tables), options));
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
  return AuthenticateSas(authorization, now);
}

// The steps are those of contract 4.7.
absl::StatusOr<Caller> Access::AuthenticateSas(absl::string_view authorization,
                                               absl::Time now) const {
  const absl::StatusOr<SasToken> token = ParseSasToken(authorization);
  if (!token.ok()) return token.status();
  const absl::Time expires = token->expires + options_.clock_skew;
  if (now > expires) {
    return Unauthenticated(absl::StrCat("authorization: the token expired at ",
                                        FormatInstant(token->expires)));
  }
  if (token->policy.empty()) {
    return Denied(
        "authorization: the token names no policy (skn); keys of devices are "
        "not known here");
  }
  const auto found = tables_->policies.find(token->policy);
  bool signed_by_policy = false;
  if (found != tables_->policies.end()) {
    for (const SasKey& key : found->second.keys) {
      signed_by_policy |= key.HasSigned(*token);
    }
  }
  // Whether there is such a policy is not for everybody to know.
  if (!signed_by_policy) {
    return Denied(
        absl::StrCat("authorization: the token's signature is not one of the "
                     "policy ",
                     Quote(token->policy)));
  }
  const Grant& grant = found->second.grant;
  const Resource resource = ResourceOf(token->resource, options_.hub_name);
  switch (resource.kind) {
    case Resource::kHub:
      return CallerOf(grant, expires);
    case Resource::kDevice: {
      if (!grant.roles.Has(Role::kGateway) ||
          !grant.devices.Covers(resource.device_id)) {
        return Denied(absl::StrCat(
            "authorization: the policy ", Quote(grant.name),
            " is not a gateway's for the device ", Quote(resource.device_id)));
      }
      Caller caller = CallerOf(grant, expires);
      caller.roles = {Role::kGateway};
      caller.devices = DeviceScope::One(resource.device_id);
      return caller;
    }
    case Resource::kOther:
      break;
  }
  return Denied(absl::StrCat(
      "authorization: the token's sr must be ", Quote(options_.hub_name),
      " or ", Quote(absl::StrCat(options_.hub_name, "/devices/{id}")), "; got ",
      Quote(token->resource)));
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

std::string HashBearerToken(absl::string_view token) {
  std::string hash(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(),
         reinterpret_cast<unsigned char*>(hash.data()));
  return absl::BytesToHexString(hash);
}

}  // namespace muster
