#include "transport/auth/access_file.h"

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "engine/model/error.h"
#include "engine/model/instant.h"
#include "engine/model/json.h"
#include "engine/model/limits.h"

namespace muster {
namespace {

constexpr size_t kNameLengthMax = 64;
constexpr size_t kSubjectLengthMax = 1024;
constexpr size_t kSha256Digits = 64;

absl::Status Invalid(absl::string_view where, absl::string_view what) {
  return MakeError(ErrorCode::kArgumentInvalid,
                   absl::StrCat(where, where.empty() ? "" : ": ", what));
}

std::string Quote(absl::string_view text) {
  return absl::StrCat("\"", absl::Utf8SafeCHexEscape(text.substr(0, 80)), "\"");
}

bool IsNameCharacter(char c) {
  return absl::ascii_isalnum(c) || c == '-' || c == '.' || c == '_';
}

// An object of the file, and where it stands there: "policies[2]".
struct Place {
  std::string where;  // Empty: the whole file.
  JsonView value;

  // The member `key`; null says the same as absence (contract 0.3).
  Place Member(absl::string_view key) const {
    const JsonView found = value.Find(key);
    return {absl::StrCat(where, where.empty() ? "" : ".", key),
            found.is_null() ? JsonView() : found};
  }
};

absl::Status CheckMembers(const Place& object,
                          std::initializer_list<absl::string_view> known) {
  if (!object.value.is_object()) {
    return Invalid(object.where,
                   absl::StrCat("must be an object; got ",
                                JsonKindName(object.value.kind())));
  }
  for (const JsonView::Member& member : object.value.members()) {
    if (absl::c_linear_search(known, member.key)) continue;
    return Invalid(
        object.where,
        absl::StrCat("has the member ", Quote(member.key),
                     ", which is none of ", absl::StrJoin(known, ", ")));
  }
  return absl::OkStatus();
}

// The text is not shown in errors: it may be a secret.
absl::StatusOr<std::string> ReadText(const Place& place, size_t length_max) {
  if (place.value.is_undefined()) return Invalid(place.where, "is required");
  if (!place.value.is_string()) {
    return Invalid(place.where, absl::StrCat("must be a string; got ",
                                             JsonKindName(place.value.kind())));
  }
  std::string text(place.value.string_value());
  if (text.empty() || text.size() > length_max) {
    return Invalid(place.where, absl::StrCat("must have 1 to ", length_max,
                                             " characters; got ", text.size()));
  }
  return text;
}

// The strings of an array that is not empty.
absl::StatusOr<std::vector<std::string>> ReadTexts(const Place& place,
                                                   size_t length_max) {
  if (place.value.is_undefined()) return Invalid(place.where, "is required");
  if (!place.value.is_array()) {
    return Invalid(place.where, absl::StrCat("must be an array; got ",
                                             JsonKindName(place.value.kind())));
  }
  std::vector<std::string> texts;
  for (const JsonView element : place.value.elements()) {
    absl::StatusOr<std::string> text =
        ReadText({absl::StrCat(place.where, "[", texts.size(), "]"), element},
                 length_max);
    if (!text.ok()) return text.status();
    texts.push_back(*std::move(text));
  }
  if (texts.empty()) return Invalid(place.where, "must not be empty");
  return texts;
}

absl::StatusOr<RoleSet> ReadRoles(const Place& place) {
  const auto names = ReadTexts(place, kNameLengthMax);
  if (!names.ok()) return names.status();
  RoleSet roles;
  for (size_t i = 0; i < names->size(); ++i) {
    const std::optional<Role> role = FindRole((*names)[i]);
    if (!role.has_value()) {
      return Invalid(absl::StrCat(place.where, "[", i, "]"),
                     absl::StrCat("must be read, write, gateway, RegistryRead, "
                                  "RegistryWrite, ServiceConnect or "
                                  "DeviceConnect; got ",
                                  Quote((*names)[i])));
    }
    roles.Add(*role);
  }
  return roles;
}

absl::StatusOr<DeviceScope> ReadDevices(const Place& place, RoleSet roles) {
  if (place.value.is_undefined()) return DeviceScope::All();
  // An id, and the `*` behind it.
  const auto patterns = ReadTexts(place, kDeviceIdLengthMax + 1);
  if (!patterns.ok()) return patterns.status();
  for (const Role role :
       {Role::kRead, Role::kRegistryRead, Role::kServiceConnect}) {
    if (!roles.Has(role)) continue;
    return Invalid(place.where,
                   "must be left out with roles other than gateway and "
                   "DeviceConnect, which are for all devices; give those two "
                   "an entry of their own");
  }
  return DeviceScope::Of(*patterns);
}

absl::StatusOr<Grant> ReadGrant(const Place& entry) {
  Grant grant;
  const Place name = entry.Member("name");
  absl::StatusOr<std::string> text = ReadText(name, kNameLengthMax);
  if (!text.ok()) return text.status();
  grant.name = *std::move(text);
  if (!absl::c_all_of(grant.name, IsNameCharacter)) {
    return Invalid(name.where,
                   absl::StrCat("must be of letters, digits, `-`, `.` and `_`; "
                                "got ",
                                Quote(grant.name)));
  }
  const absl::StatusOr<RoleSet> roles = ReadRoles(entry.Member("roles"));
  if (!roles.ok()) return roles.status();
  grant.roles = *roles;
  const auto devices = ReadDevices(entry.Member("devices"), grant.roles);
  if (!devices.ok()) return devices.status();
  grant.devices = *devices;
  return grant;
}

absl::StatusOr<SasKey> ReadKey(const Place& place) {
  const absl::StatusOr<std::string> text = ReadText(place, 4 * kSasKeySizeMax);
  if (!text.ok()) return text.status();
  absl::StatusOr<SasKey> key = SasKey::FromBase64(*text);
  if (!key.ok()) {
    return PrefixError(absl::StrCat(place.where, ": "), key.status());
  }
  return key;
}

absl::StatusOr<PolicyEntry> ReadPolicy(const Place& entry) {
  if (absl::Status status = CheckMembers(
          entry, {"name", "roles", "devices", "primaryKey", "secondaryKey"});
      !status.ok()) {
    return status;
  }
  absl::StatusOr<Grant> grant = ReadGrant(entry);
  if (!grant.ok()) return grant.status();
  PolicyEntry policy = {.grant = *std::move(grant)};
  for (const absl::string_view name : {"primaryKey", "secondaryKey"}) {
    const Place place = entry.Member(name);
    if (place.value.is_undefined() && !policy.keys.empty()) break;
    absl::StatusOr<SasKey> key = ReadKey(place);
    if (!key.ok()) return key.status();
    policy.keys.push_back(*std::move(key));
  }
  return policy;
}

absl::StatusOr<TokenEntry> ReadToken(const Place& entry) {
  if (absl::Status status = CheckMembers(
          entry, {"name", "roles", "devices", "sha256", "expires"});
      !status.ok()) {
    return status;
  }
  absl::StatusOr<Grant> grant = ReadGrant(entry);
  if (!grant.ok()) return grant.status();
  TokenEntry token = {.grant = *std::move(grant)};
  const Place hash = entry.Member("sha256");
  const absl::StatusOr<std::string> digits = ReadText(hash, 2 * kSha256Digits);
  if (!digits.ok()) return digits.status();
  if (digits->size() != kSha256Digits ||
      !absl::c_all_of(*digits, absl::ascii_isxdigit)) {
    return Invalid(hash.where, "must be 64 hexadecimal digits");
  }
  token.sha256 = absl::AsciiStrToLower(*digits);
  const Place expires = entry.Member("expires");
  if (expires.value.is_undefined()) return token;
  const absl::StatusOr<std::string> text = ReadText(expires, kNameLengthMax);
  if (!text.ok()) return text.status();
  const std::optional<absl::Time> time = ParseInstant(*text);
  if (!time.has_value()) {
    return Invalid(expires.where, absl::StrCat("must be an instant such as "
                                               "\"2031-03-01T00:00:00Z\"; got ",
                                               Quote(*text)));
  }
  token.expires = *time;
  return token;
}

absl::StatusOr<CertificateEntry> ReadCertificate(const Place& entry) {
  if (absl::Status status =
          CheckMembers(entry, {"name", "roles", "devices", "subject"});
      !status.ok()) {
    return status;
  }
  absl::StatusOr<Grant> grant = ReadGrant(entry);
  if (!grant.ok()) return grant.status();
  absl::StatusOr<std::string> subject =
      ReadText(entry.Member("subject"), kSubjectLengthMax);
  if (!subject.ok()) return subject.status();
  return CertificateEntry{.grant = *std::move(grant),
                          .subject = *std::move(subject)};
}

// The entries of one of the file's lists.
template <typename Entry>
absl::StatusOr<std::vector<Entry>> ReadList(
    const Place& list, absl::StatusOr<Entry> (*read)(const Place&)) {
  std::vector<Entry> entries;
  if (list.value.is_undefined()) return entries;
  if (!list.value.is_array()) {
    return Invalid(list.where, absl::StrCat("must be an array; got ",
                                            JsonKindName(list.value.kind())));
  }
  for (const JsonView element : list.value.elements()) {
    absl::StatusOr<Entry> entry =
        read({absl::StrCat(list.where, "[", entries.size(), "]"), element});
    if (!entry.ok()) return entry.status();
    entries.push_back(*std::move(entry));
  }
  return entries;
}

// Finds what may occur only once.
class Uniqueness {
 public:
  // INVALID_ARGUMENT at the second place of a text.
  absl::Status Add(absl::string_view list, size_t index,
                   absl::string_view member, absl::string_view text) {
    if (seen_.emplace(absl::StrCat(member, ":", text)).second) {
      return absl::OkStatus();
    }
    return Invalid(absl::StrCat(list, "[", index, "].", member),
                   "stands in the file already");
  }

 private:
  absl::flat_hash_set<std::string> seen_;
};

absl::Status CheckUnique(const AccessFile& file) {
  Uniqueness unique;
  absl::Status status;
  for (size_t i = 0; i < file.policies.size(); ++i) {
    status.Update(
        unique.Add("policies", i, "name", file.policies[i].grant.name));
  }
  for (size_t i = 0; i < file.tokens.size(); ++i) {
    status.Update(unique.Add("tokens", i, "name", file.tokens[i].grant.name));
    status.Update(unique.Add("tokens", i, "sha256", file.tokens[i].sha256));
  }
  for (size_t i = 0; i < file.certificates.size(); ++i) {
    const CertificateEntry& entry = file.certificates[i];
    status.Update(unique.Add("certificates", i, "name", entry.grant.name));
    status.Update(unique.Add("certificates", i, "subject", entry.subject));
  }
  return status;
}

}  // namespace

absl::StatusOr<AccessFile> ParseAccessFile(absl::string_view json) {
  const absl::StatusOr<Json> parsed = ParseJson(json);
  if (!parsed.ok()) return parsed.status();
  const Place root = {"", parsed->view()};
  if (absl::Status status =
          CheckMembers(root, {"policies", "tokens", "certificates"});
      !status.ok()) {
    return status;
  }
  AccessFile file;
  auto policies = ReadList<PolicyEntry>(root.Member("policies"), ReadPolicy);
  if (!policies.ok()) return policies.status();
  file.policies = *std::move(policies);
  auto tokens = ReadList<TokenEntry>(root.Member("tokens"), ReadToken);
  if (!tokens.ok()) return tokens.status();
  file.tokens = *std::move(tokens);
  auto certificates =
      ReadList<CertificateEntry>(root.Member("certificates"), ReadCertificate);
  if (!certificates.ok()) return certificates.status();
  file.certificates = *std::move(certificates);
  if (file.policies.empty() && file.tokens.empty() &&
      file.certificates.empty()) {
    return Invalid("",
                   "needs a policy, token or certificate: nobody could call");
  }
  if (absl::Status status = CheckUnique(file); !status.ok()) return status;
  return file;
}

}  // namespace muster
