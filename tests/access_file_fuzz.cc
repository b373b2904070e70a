// Any bytes as an access file: taken, and then everybody in it gets in as what
// it says; or refused with a message that shows no key and no hash.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/model/check.h"
#include "engine/model/error.h"
#include "engine/model/json.h"
#include "transport/auth/access.h"
#include "transport/auth/caller.h"
#include "transport/auth/sas_token.h"

namespace muster {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'900'000'000);

// What is long enough to be a secret must not be in `shown`.  `file` is all of
// the text.
void CheckHidden(JsonView value, absl::string_view file,
                 absl::string_view shown) {
  for (const JsonView::Member& member : value.members()) {
    CheckHidden(member.value, file, shown);
    const bool secret = member.key == "primaryKey" ||
                        member.key == "secondaryKey" || member.key == "sha256";
    if (!secret || !member.value.is_string()) continue;
    const absl::string_view text = member.value.string_value();
    // What the message says anyway is no secret; nor is what stands in the file
    // elsewhere too, such as in a name.
    if (text.size() < 16 || text.find_first_of(" :") != text.npos) continue;
    if (file.find(text) != file.rfind(text)) continue;
    MUSTER_CHECK(!absl::StrContains(shown, text));
  }
  for (const JsonView element : value.elements())
    CheckHidden(element, file, shown);
}

void CheckRoles(JsonView entry, const Caller& caller) {
  RoleSet roles;
  for (const JsonView role : entry.Find("roles").elements()) {
    roles.Add(FindRole(role.string_value()).value());
  }
  MUSTER_CHECK(!roles.empty() && caller.roles == roles);
  MUSTER_CHECK(caller.name == entry.Find("name").string_value());
  const JsonView devices = entry.Find("devices");
  for (const Role role :
       {Role::kRead, Role::kRegistryRead, Role::kServiceConnect}) {
    MUSTER_CHECK(!devices.is_array() || !roles.Has(role));
  }
  for (const JsonView device : devices.elements()) {
    MUSTER_CHECK(caller.devices.Covers(device.string_value()));
  }
  MUSTER_CHECK(devices.is_array() || caller.devices.CoversAll());
}

void CheckEveryone(JsonView file, const Access& access) {
  for (const JsonView policy : file.Find("policies").elements()) {
    for (const absl::string_view key : {"primaryKey", "secondaryKey"}) {
      if (!policy.Find(key).is_string()) continue;
      const std::string token =
          SasKey::FromBase64(policy.Find(key).string_value())
              .value()
              .MakeToken("hub", policy.Find("name").string_value(), kNow);
      CheckRoles(policy,
                 access.Authenticate({.authorization = token}, kNow).value());
    }
  }
  for (const JsonView certificate : file.Find("certificates").elements()) {
    const std::string subject(certificate.Find("subject").string_value());
    CheckRoles(certificate,
               access
                   .Authenticate(
                       {.certificate_names = absl::MakeSpan(&subject, 1)}, kNow)
                   .value());
  }
}

void Fuzz(absl::string_view text) {
  const absl::StatusOr<std::shared_ptr<const Access>> access =
      Access::Parse(text, {.hub_name = "hub"});
  const absl::StatusOr<Json> json = ParseJson(text);
  if (access.ok()) {
    CheckEveryone(json.value().view(), **access);
    return;
  }
  MUSTER_CHECK(access.status().code() == absl::StatusCode::kInvalidArgument);
  MUSTER_CHECK(ErrorCodeOf(access.status()) ==
               (json.ok() ? ErrorCode::kArgumentInvalid
                          : ErrorCode::kIotHubFormatError));
  if (json.ok()) CheckHidden(json->view(), text, access.status().message());
}

}  // namespace
}  // namespace muster

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  muster::Fuzz(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
