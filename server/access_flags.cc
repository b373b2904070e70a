#include "server/access_flags.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/model/error.h"
#include "server/files.h"
#include "transport/auth/sas_token.h"

namespace muster {
namespace {

constexpr size_t kKeyFileSizeMax = 4096;
// What is longer is no policy's name, but perhaps a key.
constexpr size_t kPolicyNameLengthMax = 20;

absl::Status PolicyError(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("--policy ", what));
}

absl::StatusOr<SasKey> ReadKey(absl::string_view policy,
                               absl::string_view text) {
  std::string of_file;
  if (absl::ConsumePrefix(&text, "@")) {
    absl::StatusOr<std::string> read =
        ReadFile(std::string(text), kKeyFileSizeMax);
    if (!read.ok()) {
      return PolicyError(absl::StrCat(policy, ": ", read.status().message()));
    }
    of_file = *std::move(read);
    text = absl::StripAsciiWhitespace(of_file);
  }
  absl::StatusOr<SasKey> key = SasKey::FromBase64(text);
  if (!key.ok()) {
    return PolicyError(absl::StrCat(policy, ": ", key.status().message()));
  }
  return key;
}

}  // namespace

std::vector<Flag> WithAccessFlags(AccessFlags* o, std::vector<Flag> flags) {
  for (const Flag& flag : {
           Flag{"access", "FILE",
                "who may do what (docs/service.md); without it and\n"
                "--policy everybody may do everything",
                &o->file},
           Flag{"policy", "NAME=KEY[,SECONDARY]",
                "a policy that every hub has: iothubowner, service,\n"
                "device, registryRead or registryReadWrite; give the\n"
                "flag once for each. A KEY is base64, or @FILE that has\n"
                "it (a list of processes shows the former)",
                &o->policies},
           Flag{"hub-name", "NAME",
                "what shared access signatures are for, and HostName in\n"
                "connection strings; needed if there are policies",
                &o->hub_name},
       }) {
    flags.push_back(flag);
  }
  return flags;
}

absl::Status CheckAccessFlags(const AccessFlags& flags) {
  std::vector<std::string> names;
  for (const std::string& text : flags.policies) {
    absl::StatusOr<DefaultPolicy> policy = ReadPolicyFlag(text);
    if (!policy.ok()) return policy.status();
    if (std::find(names.begin(), names.end(), policy->name) != names.end()) {
      return PolicyError(absl::StrCat(
          policy->name, " is given twice: a second key stands behind a comma"));
    }
    names.push_back(std::move(policy->name));
  }
  if (flags.hub_name.empty()) {
    if (flags.policies.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        "--policy needs --hub-name: the name that tokens are made for");
  }
  if (!flags.given()) {
    return absl::InvalidArgumentError("--hub-name needs --access or --policy");
  }
  return absl::OkStatus();
}

absl::StatusOr<DefaultPolicy> ReadPolicyFlag(absl::string_view text) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits('=', 1));
  if (!DefaultPolicyRoles(parts.first).has_value()) {
    return PolicyError(absl::StrCat(
        "must be NAME=KEY[,SECONDARY], where NAME is iothubowner, service, "
        "device, registryRead or registryReadWrite",
        parts.first.size() > kPolicyNameLengthMax
            ? ""
            : absl::StrCat("; got \"", parts.first, "\"")));
  }
  if (!absl::StrContains(text, '=')) {
    return PolicyError(
        absl::StrCat(parts.first, " has no key: ", parts.first, "=KEY"));
  }
  DefaultPolicy policy = {.name = std::string(parts.first)};
  const std::vector<absl::string_view> keys = absl::StrSplit(parts.second, ',');
  if (keys.size() > 2) {
    return PolicyError(absl::StrCat(parts.first, " has ", keys.size(),
                                    " keys; two are the most"));
  }
  for (const absl::string_view key_text : keys) {
    absl::StatusOr<SasKey> key = ReadKey(parts.first, key_text);
    if (!key.ok()) return key.status();
    policy.keys.push_back(*std::move(key));
  }
  return policy;
}

absl::StatusOr<std::shared_ptr<const Access>> MakeAccess(
    const AccessFlags& flags, DeviceKeys device_keys) {
  if (!flags.given()) return nullptr;
  Access::Options options;
  options.hub_name = flags.hub_name;
  for (const std::string& text : flags.policies) {
    absl::StatusOr<DefaultPolicy> policy = ReadPolicyFlag(text);
    if (!policy.ok()) return policy.status();
    options.default_policies.push_back(*std::move(policy));
  }
  // Without a hub's name there are no policies, and no device signs either.
  if (!flags.hub_name.empty()) options.device_keys = std::move(device_keys);
  return flags.file.empty() ? Access::Create(options)
                            : Access::FromFile(flags.file, options);
}

}  // namespace muster
