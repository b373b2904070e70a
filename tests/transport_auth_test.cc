// Who calls, and what that allows: contract 4.7, steps 3 to 7, and the file
// that access.h describes.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "engine/model/error.h"
#include "gtest/gtest.h"
#include "tests/choices.h"
#include "tests/sas_signing.h"
#include "transport/auth/access.h"
#include "transport/auth/caller.h"
#include "transport/auth/sas_token.h"

namespace muster {
namespace {

constexpr absl::string_view kHub = "hub.example.net";
constexpr absl::string_view kConsoleKey =
    "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
constexpr absl::string_view kFleetKey =
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
constexpr absl::string_view kFleetNewKey = "c2Vjb25kc2Vjb25kc2Vjb25kMDA=";
constexpr absl::string_view kForeignKey = "Zm9yZWlnbmZvcmVpZ25mb3JlaWdu";
constexpr absl::string_view kDashboardToken = "bearer-of-the-dashboard-7f3a";
constexpr absl::string_view kLabToken = "bearer-of-the-lab-91c0";

const absl::Time kNow = absl::FromUnixSeconds(1'900'000'000);

std::string File() {
  return absl::StrReplaceAll(
      R"({"policies": [
            {"name": "console", "roles": ["write"], "primaryKey": "$console"},
            {"name": "fleet-eu", "roles": ["gateway"],
             "devices": ["eu-*", "lab-1"],
             "primaryKey": "$fleet", "secondaryKey": "$new"},
            {"name": "all", "roles": ["read", "gateway"],
             "primaryKey": "$console", "secondaryKey": null}],
          "tokens": [
            {"name": "dashboard", "roles": ["read"], "sha256": "$dashboard"},
            {"name": "lab", "roles": ["gateway"], "devices": ["lab-*"],
             "sha256": "$lab", "expires": "2030-03-17T17:46:40Z"}],
          "certificates": [
            {"name": "cert-console", "roles": ["read", "write"],
             "subject": "console.example.net"},
            {"name": "cert-eu", "roles": ["gateway"], "devices": ["eu-1"],
             "subject": "spiffe://example.net/gateways/eu"}]})",
      {{"$console", kConsoleKey},
       {"$fleet", kFleetKey},
       {"$new", kFleetNewKey},
       {"$dashboard", absl::AsciiStrToUpper(HashBearerToken(kDashboardToken))},
       {"$lab", HashBearerToken(kLabToken)}});
}

std::shared_ptr<const Access> Load(const Access::Options& options = {
                                       .hub_name = std::string(kHub)}) {
  absl::StatusOr<std::shared_ptr<const Access>> access =
      Access::Parse(File(), options);
  EXPECT_TRUE(access.ok()) << access.status();
  return access.value();
}

std::string Sas(absl::string_view key, absl::string_view resource,
                absl::string_view policy,
                absl::Time expires = kNow + absl::Hours(1)) {
  return SasKey::FromBase64(key).value().MakeToken(resource, policy, expires);
}

// No message has any of the secrets, or a signature.
void ExpectNothingSecret(const absl::Status& status,
                         absl::string_view authorization) {
  const std::string shown = status.ToString();
  for (const absl::string_view secret :
       {kConsoleKey, kFleetKey, kFleetNewKey, kForeignKey, kDashboardToken,
        kLabToken}) {
    EXPECT_FALSE(absl::StrContains(shown, secret)) << shown;
  }
  const size_t at = authorization.find("sig=");
  if (at == absl::string_view::npos) return;
  EXPECT_FALSE(absl::StrContains(shown, authorization.substr(at + 4, 12)))
      << shown;
}

void ExpectRefused(const Access& access, absl::string_view authorization,
                   ErrorCode code, absl::string_view what,
                   absl::Time now = kNow) {
  SCOPED_TRACE(authorization);
  const absl::StatusOr<Caller> caller =
      access.Authenticate({.authorization = authorization}, now);
  ASSERT_FALSE(caller.ok()) << "as " << caller->name;
  EXPECT_EQ(ErrorCodeOf(caller.status()), code) << caller.status();
  EXPECT_TRUE(absl::StrContains(caller.status().message(), what))
      << caller.status().message() << " lacks: " << what;
  ExpectNothingSecret(caller.status(), authorization);
}

Caller Authenticated(const Access& access, absl::string_view authorization,
                     absl::Time now = kNow) {
  absl::StatusOr<Caller> caller =
      access.Authenticate({.authorization = authorization}, now);
  EXPECT_TRUE(caller.ok()) << caller.status() << " for " << authorization;
  return caller.ok() ? *std::move(caller) : Caller();
}

// ------------------------------------------------------------ roles, devices

TEST(RoleTest, RegistryWriteImpliesRegistryRead) {
  EXPECT_EQ(RoleSet({Role::kRegistryWrite}).Text(),
            "RegistryRead, RegistryWrite");
  EXPECT_FALSE(RoleSet({Role::kRegistryRead}).Has(Role::kRegistryWrite));
  // The hub's permissions and the roles of gRPC are apart.
  EXPECT_FALSE(RoleSet({Role::kWrite}).Has(Role::kRegistryRead));
  EXPECT_FALSE(RoleSet({Role::kRegistryWrite}).Has(Role::kRead));
}

TEST(RoleTest, WriteImpliesRead) {
  EXPECT_EQ(RoleSet({Role::kWrite}), RoleSet({Role::kWrite, Role::kRead}));
  EXPECT_FALSE(RoleSet({Role::kRead}).Has(Role::kWrite));
  EXPECT_FALSE(RoleSet({Role::kWrite, Role::kRead}).Has(Role::kGateway));
  EXPECT_FALSE(RoleSet({Role::kGateway}).Has(Role::kRead));
  EXPECT_FALSE(RoleSet({Role::kGateway}).Has(Role::kWrite));
  EXPECT_TRUE(RoleSet().empty());
  EXPECT_EQ(RoleSet().Text(), "none");
  EXPECT_EQ(RoleSet({Role::kGateway, Role::kWrite}).Text(),
            "read, write, gateway");
}

TEST(RoleTest, Names) {
  for (const Role role :
       {Role::kRead, Role::kWrite, Role::kGateway, Role::kRegistryRead,
        Role::kRegistryWrite, Role::kServiceConnect, Role::kDeviceConnect}) {
    EXPECT_EQ(FindRole(RoleName(role)), role);
    Caller caller = {.name = "x", .roles = {role}};
    EXPECT_TRUE(Access::Require(caller, role).ok());
  }
  for (const absl::string_view name :
       {"", "Read", "reader", "read ", "registryread", "RegistryReadWrite"}) {
    EXPECT_EQ(FindRole(name), std::nullopt) << name;
  }
}

TEST(RoleTest, RequireNamesWhatIsNeededAndWhatIsThere) {
  const absl::Status status =
      Access::Require({.name = "ops", .roles = {Role::kRead}}, Role::kGateway);
  EXPECT_EQ(ErrorCodeOf(status), ErrorCode::kIotHubUnauthorizedAccess);
  EXPECT_EQ(status.message(), "\"ops\" needs the role gateway; it has read");
  EXPECT_FALSE(Access::Require(Caller(), Role::kRead).ok());
}

TEST(DeviceScopeTest, Covers) {
  EXPECT_FALSE(DeviceScope().Covers("a"));
  EXPECT_FALSE(DeviceScope().CoversAll());
  EXPECT_FALSE(DeviceScope::Of({}).Covers("a"));
  EXPECT_TRUE(DeviceScope::All().Covers("a"));
  EXPECT_TRUE(DeviceScope::All().CoversAll());
  EXPECT_TRUE(DeviceScope::One("a").Covers("a"));
  EXPECT_FALSE(DeviceScope::One("a").Covers("A"));
  EXPECT_FALSE(DeviceScope::One("a").Covers("ab"));
  EXPECT_FALSE(DeviceScope::One("a").CoversAll());
  // Ids may have stars, and this is one.
  EXPECT_TRUE(DeviceScope::One("eu-*").Covers("eu-*"));
  EXPECT_FALSE(DeviceScope::One("eu-*").Covers("eu-1"));
  EXPECT_FALSE(DeviceScope::One("*").Covers("a"));

  const DeviceScope some = DeviceScope::Of({"eu-*", "lab-1", "a*b"});
  for (const absl::string_view id : {"eu-", "eu-1", "eu-*", "lab-1", "a*b"}) {
    EXPECT_TRUE(some.Covers(id)) << id;
  }
  for (const absl::string_view id :
       {"", "eu", "EU-1", "lab-", "lab-12", "acb"}) {
    EXPECT_FALSE(some.Covers(id)) << id;
  }
}

// Against going through all patterns.
TEST(DeviceScopeTest, RandomPatterns) {
  constexpr uint64_t kSeed = 7;
  SCOPED_TRACE(absl::StrCat("seed ", kSeed));
  Choices choices(kSeed);
  const auto id = [&choices] {
    std::string out;
    for (uint32_t i = choices.Below(5); i > 0; --i) {
      out.push_back(choices.Pick({'a', 'b', '*', '\xff'}));
    }
    return out;
  };
  int covered = 0;
  for (int i = 0; i < 300; ++i) {
    std::vector<std::string> patterns;
    for (uint32_t j = choices.Below(8); j > 0; --j) patterns.push_back(id());
    const DeviceScope scope = DeviceScope::Of(patterns);
    for (int j = 0; j < 30; ++j) {
      const std::string device = id();
      const bool naive = std::any_of(
          patterns.begin(), patterns.end(), [&device](absl::string_view p) {
            return absl::ConsumeSuffix(&p, "*") ? absl::StartsWith(device, p)
                                                : device == p;
          });
      EXPECT_EQ(scope.Covers(device), naive)
          << device << " in " << absl::StrJoin(patterns, " ");
      covered += naive;
    }
  }
  EXPECT_GT(covered, 1000);
  EXPECT_LT(covered, 8000);
}

// ----------------------------------------------------------------- signatures

TEST(AccessTest, ContractVector) {
  const auto access =
      Access::Parse(absl::StrCat(R"({"policies":[{"name":"registryReadWrite",)",
                                 R"("roles":["write"],"primaryKey":")",
                                 kConsoleKey, R"("}]})"),
                    {.hub_name = std::string(kHub)});
  ASSERT_TRUE(access.ok()) << access.status();
  const Caller caller = Authenticated(
      **access,
      "SharedAccessSignature sr=hub.example.net&sig="
      "yTVZaH7rOUVMb5M0i2O8B6R22c66BsAbkxCPYPV%2BzNY%3D&se=1900000000&skn="
      "registryReadWrite");
  EXPECT_EQ(caller.name, "registryReadWrite");
  EXPECT_EQ(caller.roles, RoleSet({Role::kWrite}));
  EXPECT_EQ(caller.expires, kNow + absl::Seconds(300));
}

TEST(AccessTest, SignatureOfAPolicy) {
  const auto access = Load();
  const Caller console =
      Authenticated(*access, Sas(kConsoleKey, kHub, "console"));
  EXPECT_EQ(console.name, "console");
  EXPECT_EQ(console.roles, RoleSet({Role::kWrite}));
  EXPECT_TRUE(console.devices.CoversAll());
  EXPECT_EQ(console.expires, kNow + absl::Hours(1) + absl::Seconds(300));

  // Both keys, while one takes the other's place.
  for (const absl::string_view key : {kFleetKey, kFleetNewKey}) {
    const Caller fleet = Authenticated(*access, Sas(key, kHub, "fleet-eu"));
    EXPECT_EQ(fleet.name, "fleet-eu");
    EXPECT_EQ(fleet.roles, RoleSet({Role::kGateway}));
    EXPECT_TRUE(fleet.devices.Covers("eu-7"));
    EXPECT_TRUE(fleet.devices.Covers("lab-1"));
    EXPECT_FALSE(fleet.devices.Covers("us-7"));
  }
}

TEST(AccessTest, SignatureOfSomebodyElse) {
  const auto access = Load();
  constexpr auto kDenied = ErrorCode::kIotHubUnauthorizedAccess;
  constexpr absl::string_view kWhat = "signature is not one of the policy";
  ExpectRefused(*access, Sas(kForeignKey, kHub, "console"), kDenied, kWhat);
  ExpectRefused(*access, Sas(kFleetKey, kHub, "console"), kDenied, kWhat);
  ExpectRefused(*access, Sas(kConsoleKey, kHub, "fleet-eu"), kDenied, kWhat);
  // Whether there is such a policy is not told.
  ExpectRefused(*access, Sas(kConsoleKey, kHub, "Console"), kDenied, kWhat);
  ExpectRefused(*access, Sas(kConsoleKey, kHub, "nobody"), kDenied, kWhat);
  ExpectRefused(*access, Sas(kConsoleKey, kHub, "dashboard"), kDenied, kWhat);
  ExpectRefused(*access, Sas(kConsoleKey, kHub, ""), kDenied, "no policy");
  ExpectRefused(*access, Sas(kConsoleKey, "hub.example.net/devices/eu-1", ""),
                kDenied, "no policy");
}

TEST(AccessTest, SignatureForSomethingElse) {
  const auto access = Load();
  for (const absl::string_view resource :
       {"other.example.net", "hub.example.net.evil.net", "hub.example.ne",
        "example.net", "hub.example.net//", "hub.example.net/devices",
        "hub.example.net/devices/", "hub.example.net/devices/eu-1//",
        "hub.example.net/devices/eu-1/modules/m",
        "hub.example.net/Devices/eu-1", "hub.example.net//devices/eu-1",
        "hub.example.net/jobs/v2", "https://hub.example.net",
        " hub.example.net", "hub.example.net:443"}) {
    ExpectRefused(*access, Sas(kConsoleKey, resource, "all"),
                  ErrorCode::kIotHubUnauthorizedAccess,
                  "sr must be \"hub.example.net\" or "
                  "\"hub.example.net/devices/{id}\"");
  }
  // Decoded once: %25 is the id's own.
  ExpectRefused(*access,
                absl::StrCat("SharedAccessSignature sr=hub.example.net%zz&sig=",
                             SasSignature(kConsoleKey, "hub.example.net%zz",
                                          "1900000000"),
                             "&se=1900000000&skn=all"),
                ErrorCode::kIotHubUnauthorizedAccess, "sr must be");
}

TEST(AccessTest, HubNamesAreWithoutCase) {
  const auto access = Load({.hub_name = "Hub.Example.NET"});
  EXPECT_EQ(
      Authenticated(*access, Sas(kConsoleKey, "HUB.example.net", "console"))
          .name,
      "console");
  EXPECT_TRUE(Authenticated(
                  *access, Sas(kConsoleKey, "hub.EXAMPLE.net/devices/D", "all"))
                  .devices.Covers("D"));
}

TEST(AccessTest, SignatureForOneDevice) {
  const auto access = Load();
  // Of what the policy has only the role gateway is for a device.
  const Caller caller = Authenticated(
      *access, Sas(kConsoleKey, "hub.example.net/devices/eu%7", "all"));
  EXPECT_EQ(caller.name, "all");
  EXPECT_EQ(caller.roles, RoleSet({Role::kGateway}));
  EXPECT_TRUE(caller.devices.Covers("eu%7"));
  EXPECT_FALSE(caller.devices.Covers("eu%8"));
  EXPECT_FALSE(caller.devices.Covers("eu%"));

  // A star in an id is a star.
  EXPECT_FALSE(
      Authenticated(*access,
                    Sas(kConsoleKey, "hub.example.net/devices/eu-*", "all"))
          .devices.Covers("eu-7"));

  EXPECT_TRUE(
      Authenticated(*access,
                    Sas(kFleetKey, "hub.example.net/devices/eu-9", "fleet-eu"))
          .devices.Covers("eu-9"));
  ExpectRefused(*access,
                Sas(kFleetKey, "hub.example.net/devices/us-9", "fleet-eu"),
                ErrorCode::kIotHubUnauthorizedAccess,
                "the policy \"fleet-eu\" has neither gateway nor DeviceConnect "
                "for the device \"us-9\"");
  ExpectRefused(*access,
                Sas(kConsoleKey, "hub.example.net/devices/eu-9", "console"),
                ErrorCode::kIotHubUnauthorizedAccess,
                "the policy \"console\" has neither gateway nor");
}

TEST(AccessTest, SignatureExpires) {
  const absl::Duration tick = absl::Nanoseconds(1);
  for (const absl::Duration skew :
       {absl::ZeroDuration(), absl::Seconds(300), absl::Hours(1)}) {
    const auto access =
        Load({.hub_name = std::string(kHub), .clock_skew = skew});
    const std::string token = Sas(kConsoleKey, kHub, "console", kNow);
    EXPECT_EQ(Authenticated(*access, token, kNow + skew).expires, kNow + skew);
    ExpectRefused(*access, token, ErrorCode::kIotHubUnauthorized,
                  "expired at 2030-03-17T17:46:40", kNow + skew + tick);
    // Expiry is looked at before the signature (contract 4.7, step 3).
    ExpectRefused(*access, Sas(kForeignKey, kHub, "nobody", kNow),
                  ErrorCode::kIotHubUnauthorized, "expired",
                  kNow + skew + tick);
  }
  // The end of all expiries.
  const std::string se = "9223372036854775807";
  EXPECT_GT(
      Authenticated(*Load(),
                    absl::StrCat("SharedAccessSignature sr=", kHub,
                                 "&sig=", SasSignature(kConsoleKey, kHub, se),
                                 "&skn=console&se=", se))
          .expires,
      kNow);
}

// A token that was changed in one character is refused, or says the same in
// another spelling.
TEST(AccessTest, EveryCharacterCounts) {
  const auto access = Load();
  const std::string token =
      Sas(kFleetKey, "hub.example.net/devices/eu-9", "fleet-eu");
  const absl::string_view scheme = "SharedAccessSignature";
  int refused = 0;
  for (size_t i = 0; i < token.size(); ++i) {
    for (int c = 0; c < 256; ++c) {
      if (token[i] == static_cast<char>(c)) continue;
      std::string changed = token;
      changed[i] = static_cast<char>(c);
      const absl::StatusOr<Caller> caller =
          access->Authenticate({.authorization = changed}, kNow);
      if (!caller.ok()) {
        ++refused;
        continue;
      }
      EXPECT_EQ(caller->name, "fleet-eu");
      EXPECT_EQ(caller->roles, RoleSet({Role::kGateway}));
      EXPECT_TRUE(caller->devices.Covers("eu-9"));
      EXPECT_FALSE(caller->devices.Covers("eu-8"));
      // A field's name or a hexadecimal digit in the other case, or other white
      // space.
      if (i == scheme.size()) changed[i] = ' ';
      EXPECT_TRUE(absl::EqualsIgnoreCase(changed, token)) << changed;
    }
  }
  EXPECT_GT(refused, static_cast<int>(token.size() * 250));
}

// --------------------------------------------------- bearers and certificates

TEST(AccessTest, BearerTokens) {
  const auto access = Load();
  for (const absl::string_view scheme : {"Bearer ", "bearer ", "BEARER "}) {
    const Caller caller =
        Authenticated(*access, absl::StrCat(scheme, kDashboardToken));
    EXPECT_EQ(caller.name, "dashboard");
    EXPECT_EQ(caller.roles, RoleSet({Role::kRead}));
    EXPECT_TRUE(caller.devices.CoversAll());
    EXPECT_EQ(caller.expires, absl::InfiniteFuture());
  }
  const Caller lab = Authenticated(*access, absl::StrCat("Bearer ", kLabToken));
  EXPECT_EQ(lab.name, "lab");
  EXPECT_EQ(lab.roles, RoleSet({Role::kGateway}));
  EXPECT_TRUE(lab.devices.Covers("lab-2"));
  EXPECT_FALSE(lab.devices.Covers("eu-1"));
  // Its own clock says when it ends: no allowance.
  EXPECT_EQ(lab.expires, kNow);
  ExpectRefused(*access, absl::StrCat("Bearer ", kLabToken),
                ErrorCode::kIotHubUnauthorized,
                "\"lab\" expired at 2030-03-17T17:46:40",
                kNow + absl::Nanoseconds(1));

  for (const absl::string_view token :
       {"", " ", "dashboard", "bearer-of-the-dashboard-7f3",
        "bearer-of-the-dashboard-7f3a ", " bearer-of-the-dashboard-7f3a",
        "Bearer-of-the-dashboard-7f3a"}) {
    ExpectRefused(*access, absl::StrCat("Bearer ", token),
                  ErrorCode::kIotHubUnauthorized, "not known here");
  }
  // The hash is no token.
  ExpectRefused(*access,
                absl::StrCat("Bearer ", HashBearerToken(kDashboardToken)),
                ErrorCode::kIotHubUnauthorized, "not known here");
}

TEST(AccessTest, OtherAuthorizations) {
  const auto access = Load();
  for (const absl::string_view text :
       {"Bearer", "Basic YTpi", "bearer-of-the-dashboard-7f3a", "\n",
        "SharedAccessSignature", "Bearer\tx"}) {
    ExpectRefused(*access, text, ErrorCode::kIotHubUnauthorized,
                  "must be \"SharedAccessSignature\"");
  }
  const std::string at_limit =
      absl::StrCat("Bearer ", std::string(kAuthorizationSizeMax - 7, 'x'));
  ExpectRefused(*access, at_limit, ErrorCode::kIotHubUnauthorized, "not known");
  ExpectRefused(*access, at_limit + "x", ErrorCode::kIotHubUnauthorized,
                "longer than 8192 bytes");
}

TEST(AccessTest, Certificates) {
  const auto access = Load();
  const auto authenticate = [&access](std::vector<std::string> names,
                                      absl::string_view authorization = "") {
    return access->Authenticate(
        {.authorization = authorization, .certificate_names = names}, kNow);
  };
  const auto console = authenticate({"10.0.0.1", "console.example.net", "CN"});
  ASSERT_TRUE(console.ok()) << console.status();
  EXPECT_EQ(console->name, "cert-console");
  EXPECT_EQ(console->roles, RoleSet({Role::kWrite}));
  EXPECT_EQ(console->expires, absl::InfiniteFuture());
  // The first one that is known.
  const auto both =
      authenticate({"spiffe://example.net/gateways/eu", "console.example.net"});
  ASSERT_TRUE(both.ok()) << both.status();
  EXPECT_EQ(both->name, "cert-eu");
  EXPECT_TRUE(both->devices.Covers("eu-1"));
  EXPECT_FALSE(both->devices.Covers("eu-2"));

  const auto unknown = authenticate({"console.example.org", "other"});
  EXPECT_EQ(ErrorCodeOf(unknown.status()),
            ErrorCode::kIotHubUnauthorizedAccess);
  EXPECT_EQ(unknown.status().message(),
            "the client certificate's name \"console.example.org\" has no role "
            "here");
  // Names are exact: a name's beginning, another case, what it stands for.
  for (const absl::string_view name :
       {"console.example.ne", "Console.example.net", "cert-console",
        "*.example.net", ""}) {
    EXPECT_FALSE(authenticate({std::string(name)}).ok()) << name;
  }
  const auto nothing = authenticate({});
  EXPECT_EQ(ErrorCodeOf(nothing.status()), ErrorCode::kIotHubUnauthorized);

  // What is shown on purpose counts, and a certificate does not make up for it.
  const auto dashboard = authenticate({"console.example.net"},
                                      absl::StrCat("Bearer ", kDashboardToken));
  ASSERT_TRUE(dashboard.ok());
  EXPECT_EQ(dashboard->name, "dashboard");
  EXPECT_FALSE(authenticate({"console.example.net"}, "Bearer wrong").ok());
}

// ------------------------------------------------------------------- the file

// A policy with `members` in place of its own.
std::string Policy(absl::string_view members) {
  return absl::StrCat(R"({"policies":[{)", members, "}]}");
}

TEST(AccessFileTest, Refused) {
  constexpr absl::string_view kKey =
      R"("primaryKey":"c2VjcmV0LXNlY3JldC1zZWNyZXQ=")";
  constexpr absl::string_view kNameRoles = R"("name":"p","roles":["read"])";
  const std::string hash = HashBearerToken("x");
  const std::string good = absl::StrCat("{", kNameRoles, ",", kKey, "}");
  const std::string token =
      absl::StrCat(R"({"name":"t","roles":["read"],"sha256":")", hash, R"("})");
  const std::string certificate =
      R"({"name":"c","roles":["read"],"subject":"s"})";
  std::vector<std::string> seventeen;
  for (int i = 0; i < 17; ++i) {
    seventeen.push_back(
        absl::StrCat(R"({"name":"p)", i, R"(","roles":["read"],)", kKey, "}"));
  }
  const struct {
    std::string json;
    std::string what;  // What the message begins with.
  } kCases[] = {
      {"{}", "needs a policy, token or certificate"},
      {R"({"policies":[],"tokens":null})", "needs a policy"},
      {"[]", "must be an object; got array"},
      {R"({"policy":[]})",
       "has the member \"policy\", which is none of policies, tokens, "
       "certificates"},
      {R"({"policies":{}})", "policies: must be an array; got object"},
      {R"({"tokens":"x"})", "tokens: must be an array; got string"},
      {R"({"certificates":[7]})",
       "certificates[0]: must be an object; got number"},
      {absl::StrCat(R"({"policies":[)", absl::StrJoin(seventeen, ","), "]}"),
       "policies: at most 16; got 17"},

      // Names.
      {Policy(absl::StrCat(R"("roles":["read"],)", kKey)),
       "policies[0].name: is required"},
      {Policy(absl::StrCat(R"("name":null,"roles":["read"],)", kKey)),
       "policies[0].name: is required"},
      {Policy(absl::StrCat(R"("name":7,"roles":["read"],)", kKey)),
       "policies[0].name: must be a string; got number"},
      {Policy(absl::StrCat(R"("name":"","roles":["read"],)", kKey)),
       "policies[0].name: must have 1 to 64 characters; got 0"},
      {Policy(absl::StrCat(R"("name":")", std::string(65, 'n'),
                           R"(","roles":["read"],)", kKey)),
       "policies[0].name: must have 1 to 64 characters; got 65"},
      {Policy(absl::StrCat(R"("name":"a b","roles":["read"],)", kKey)),
       "policies[0].name: must be of letters, digits, `-`, `.` and `_`; got "
       "\"a b\""},
      {absl::StrCat(R"({"policies":[)", good, ",", good, "]}"),
       "policies[1].name: stands in the file already"},
      // A name is one of a kind over all three.
      {absl::StrCat(R"({"policies":[)", good, R"(],"certificates":[)",
                    absl::StrReplaceAll(certificate, {{"\"c\"", "\"p\""}}),
                    "]}"),
       "certificates[0].name: stands in the file already"},

      // Roles.
      {Policy(absl::StrCat(R"("name":"p",)", kKey)),
       "policies[0].roles: is required"},
      {Policy(absl::StrCat(R"("name":"p","roles":"read",)", kKey)),
       "policies[0].roles: must be an array; got string"},
      {Policy(absl::StrCat(R"("name":"p","roles":[],)", kKey)),
       "policies[0].roles: must not be empty"},
      {Policy(absl::StrCat(R"("name":"p","roles":["read","root"],)", kKey)),
       "policies[0].roles[1]: must be read, write, gateway, RegistryRead, "
       "RegistryWrite, ServiceConnect or DeviceConnect; got \"root\""},
      {Policy(absl::StrCat(R"("name":"p","roles":["read",null],)", kKey)),
       "policies[0].roles[1]: must be a string; got null"},

      // Devices.
      {Policy(absl::StrCat(R"("name":"p","roles":["gateway"],"devices":"*",)",
                           kKey)),
       "policies[0].devices: must be an array; got string"},
      {Policy(absl::StrCat(R"("name":"p","roles":["gateway"],"devices":[],)",
                           kKey)),
       "policies[0].devices: must not be empty"},
      {Policy(absl::StrCat(
           R"("name":"p","roles":["gateway"],"devices":["a",""],)", kKey)),
       "policies[0].devices[1]: must have 1 to 129 characters; got 0"},
      {Policy(absl::StrCat(
           R"("name":"p","roles":["gateway","read"],"devices":["a"],)", kKey)),
       "policies[0].devices: must be left out with roles other than gateway "
       "and DeviceConnect"},
      {Policy(absl::StrCat(R"("name":"p","roles":["write"],"devices":["*"],)",
                           kKey)),
       "policies[0].devices: must be left out with roles other than gateway "
       "and DeviceConnect"},

      // Keys.
      {Policy(kNameRoles), "policies[0].primaryKey: is required"},
      {Policy(absl::StrCat(kNameRoles, R"(,"secondaryKey":"c2VjcmV0")")),
       "policies[0].primaryKey: is required"},
      {Policy(absl::StrCat(kNameRoles, R"(,"primaryKey":["c2VjcmV0"])")),
       "policies[0].primaryKey: must be a string; got array"},
      {Policy(absl::StrCat(kNameRoles, R"(,"primaryKey":"")")),
       "policies[0].primaryKey: must have 1 to"},
      {Policy(absl::StrCat(kNameRoles, R"(,"primaryKey":"c2VjcmV0")")),
       "policies[0].primaryKey: a key must have 16 to 256 bytes; got 6"},
      {Policy(absl::StrCat(kNameRoles, R"(,"primaryKey":"c2VjcmV0LXNlY3J!")")),
       "policies[0].primaryKey: a key must be base64"},
      {Policy(absl::StrCat(kNameRoles, ",", kKey,
                           R"(,"secondaryKey":"c2VjcmV0")")),
       "policies[0].secondaryKey: a key must have 16 to 256 bytes; got 6"},
      {Policy(absl::StrCat(kNameRoles, ",", kKey, R"(,"sha256":"c2VjcmV0")")),
       "policies[0]: has the member \"sha256\", which is none of name, roles, "
       "devices, primaryKey, secondaryKey"},

      // Tokens.
      {R"({"tokens":[{"name":"t","roles":["read"]}]})",
       "tokens[0].sha256: is required"},
      {R"({"tokens":[{"name":"t","roles":["read"],"sha256":"c2VjcmV0"}]})",
       "tokens[0].sha256: must be 64 hexadecimal digits"},
      {absl::StrCat(R"({"tokens":[{"name":"t","roles":["read"],"sha256":")",
                    hash.substr(0, 63), R"(g"}]})"),
       "tokens[0].sha256: must be 64 hexadecimal digits"},
      {absl::StrCat(
           R"({"tokens":[)", token, ",",
           absl::StrReplaceAll(token, {{"\"t\"", "\"u\""},
                                       {hash, absl::AsciiStrToUpper(hash)}}),
           "]}"),
       "tokens[1].sha256: stands in the file already"},
      {absl::StrReplaceAll(absl::StrCat(R"({"tokens":[)", token, "]}"),
                           {{R"("name")", R"("expires":"tomorrow","name")"}}),
       "tokens[0].expires: must be an instant such as "
       "\"2031-03-01T00:00:00Z\"; got \"tomorrow\""},
      {absl::StrReplaceAll(absl::StrCat(R"({"tokens":[)", token, "]}"),
                           {{R"("name")", R"("expires":1900000000,"name")"}}),
       "tokens[0].expires: must be a string; got number"},
      {absl::StrReplaceAll(absl::StrCat(R"({"tokens":[)", token, "]}"),
                           {{R"("name")", R"("token":"c2VjcmV0","name")"}}),
       "tokens[0]: has the member \"token\""},

      // Certificates.
      {R"({"certificates":[{"name":"c","roles":["read"]}]})",
       "certificates[0].subject: is required"},
      {absl::StrCat(R"({"certificates":[)", certificate, ",",
                    absl::StrReplaceAll(certificate, {{"\"c\"", "\"d\""}}),
                    "]}"),
       "certificates[1].subject: stands in the file already"},
      {absl::StrReplaceAll(
           absl::StrCat(R"({"certificates":[)", certificate, "]}"),
           {{R"("subject")", R"("primaryKey":"c2VjcmV0","x")"}}),
       "certificates[0]: has the member \"primaryKey\""},
  };
  for (const auto& [json, what] : kCases) {
    SCOPED_TRACE(json);
    const auto access = Access::Parse(json, {.hub_name = std::string(kHub)});
    ASSERT_FALSE(access.ok());
    EXPECT_EQ(access.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(ErrorCodeOf(access.status()), ErrorCode::kArgumentInvalid);
    EXPECT_TRUE(absl::StartsWith(access.status().message(), what))
        << access.status().message() << " does not begin with: " << what;
    EXPECT_FALSE(absl::StrContains(access.status().message(), "c2VjcmV0"))
        << access.status();
  }
}

TEST(AccessFileTest, NoJson) {
  for (const absl::string_view text :
       {"", "{", R"({"policies":[}])", R"({"tokens":[],"tokens":[]})",
        R"({"policies":[{"primaryKey":"c2VjcmV0)"}) {
    const auto access = Access::Parse(text, {.hub_name = std::string(kHub)});
    ASSERT_FALSE(access.ok()) << text;
    EXPECT_EQ(ErrorCodeOf(access.status()), ErrorCode::kIotHubFormatError);
    EXPECT_FALSE(absl::StrContains(access.status().message(), "c2VjcmV0"))
        << access.status();
  }
}

TEST(AccessFileTest, Options) {
  const auto parse = [](Access::Options options) {
    return Access::Parse(File(), options).status();
  };
  for (const absl::string_view name : {"", "hub/devices"}) {
    EXPECT_TRUE(
        absl::StartsWith(parse({.hub_name = std::string(name)}).message(),
                         "hub_name: policies need a hub's name"));
  }
  for (const absl::Duration skew :
       {absl::Seconds(-1), absl::Hours(1) + absl::Seconds(1),
        absl::InfiniteDuration()}) {
    EXPECT_TRUE(absl::StartsWith(
        parse({.hub_name = std::string(kHub), .clock_skew = skew}).message(),
        "clock_skew: must be 0 to 1 hour; got "));
  }
  // Without policies there is no need for one.
  EXPECT_TRUE(
      Access::Parse(
          R"({"certificates":[{"name":"c","roles":["read"],"subject":"s"}]})",
          {})
          .ok());
}

std::string WriteFile(absl::string_view name, absl::string_view text) {
  const std::string path = absl::StrCat(::testing::TempDir(), "/", name);
  std::FILE* file = std::fopen(path.c_str(), "wb");
  EXPECT_NE(file, nullptr) << path;
  if (file == nullptr) return path;
  EXPECT_EQ(std::fwrite(text.data(), 1, text.size(), file), text.size());
  EXPECT_EQ(std::fclose(file), 0);
  return path;
}

TEST(AccessFileTest, FromFile) {
  const Access::Options options = {.hub_name = std::string(kHub)};
  std::string padded = File();
  padded.resize(kAccessFileSizeMax, ' ');
  const auto access =
      Access::FromFile(WriteFile("access.json", padded), options);
  ASSERT_TRUE(access.ok()) << access.status();
  EXPECT_EQ(
      Authenticated(**access, absl::StrCat("Bearer ", kDashboardToken)).name,
      "dashboard");

  const std::string missing =
      absl::StrCat(::testing::TempDir(), "/no/such/file");
  const struct {
    std::string path;
    absl::StatusCode code;
    absl::string_view what;
  } kCases[] = {
      {missing, absl::StatusCode::kNotFound, "No such file"},
      {::testing::TempDir(), absl::StatusCode::kFailedPrecondition,
       "Is a directory"},
      {WriteFile("long.json", padded + " "), absl::StatusCode::kInvalidArgument,
       "longer than 4194304 bytes"},
      {WriteFile("empty.json", "{}"), absl::StatusCode::kInvalidArgument,
       "needs a policy"},
  };
  for (const auto& [path, code, what] : kCases) {
    const absl::Status status = Access::FromFile(path, options).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_TRUE(absl::StartsWith(status.message(), path)) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), what)) << status;
  }
}

}  // namespace
}  // namespace muster
