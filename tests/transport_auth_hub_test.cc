// Access as the hub's REST surface and its devices use it: default policies,
// tokens for a path, tokens of devices, and keys that are replaced (contract
// 4.7, 4.8).
#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/model/error.h"
#include "gtest/gtest.h"
#include "tests/sas_signing.h"
#include "transport/auth/access.h"
#include "transport/auth/caller.h"
#include "transport/auth/sas_token.h"

namespace muster {
namespace {

constexpr absl::string_view kHub = "hub.example.net";
// Those of the contract's test vectors.
constexpr absl::string_view kServiceKey =
    "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
constexpr absl::string_view kDeviceKey =
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
constexpr absl::string_view kOtherKey = "c2Vjb25kc2Vjb25kc2Vjb25kMDA=";
constexpr absl::string_view kThirdKey = "dGhpcmR0aGlyZHRoaXJkdGhpcmQ=";

const absl::Time kNow = absl::FromUnixSeconds(1'900'000'000);

SasKey Key(absl::string_view base64) {
  return SasKey::FromBase64(base64).value();
}

std::string Sas(absl::string_view key, absl::string_view resource,
                absl::string_view policy) {
  return Key(key).MakeToken(resource, policy, kNow + absl::Hours(1));
}

std::shared_ptr<const Access> Make(std::vector<DefaultPolicy> policies,
                                   DeviceKeys device_keys = nullptr) {
  return Access::Create({.hub_name = std::string(kHub),
                         .default_policies = std::move(policies),
                         .device_keys = std::move(device_keys)})
      .value();
}

std::shared_ptr<const Access> MakeOwner() {
  return Make({{.name = "iothubowner", .keys = {Key(kServiceKey)}}});
}

void ExpectRefused(const absl::StatusOr<Caller>& caller, ErrorCode code,
                   absl::string_view what) {
  ASSERT_FALSE(caller.ok()) << "as " << caller->name;
  const absl::string_view message = caller.status().message();
  EXPECT_EQ(ErrorCodeOf(caller.status()), code) << message;
  EXPECT_TRUE(absl::StrContains(message, what)) << message;
  for (const absl::string_view secret :
       {kServiceKey, kDeviceKey, kOtherKey, kThirdKey}) {
    EXPECT_FALSE(absl::StrContains(message, secret)) << message;
  }
}

// ------------------------------------------------------------------- policies

TEST(DefaultPolicyTest, Roles) {
  const std::map<absl::string_view, absl::string_view> kRoles = {
      {"iothubowner",
       "read, write, gateway, RegistryRead, RegistryWrite, ServiceConnect, "
       "DeviceConnect"},
      {"service", "ServiceConnect"},
      {"device", "DeviceConnect"},
      {"registryRead", "RegistryRead"},
      {"registryReadWrite", "RegistryRead, RegistryWrite"},
  };
  for (const auto& [name, roles] : kRoles) {
    EXPECT_EQ(DefaultPolicyRoles(name).value().Text(), roles) << name;
    const auto access =
        Make({{.name = std::string(name), .keys = {Key(kServiceKey)}}});
    const auto caller = access->Authenticate(
        {.authorization = Sas(kServiceKey, kHub, name), .path = "/twins/a"},
        kNow);
    ASSERT_TRUE(caller.ok()) << caller.status();
    EXPECT_EQ(caller->name, name);
    EXPECT_EQ(caller->roles.Text(), roles);
    EXPECT_TRUE(caller->devices.CoversAll());
  }
  for (const absl::string_view name : {"", "iotHubOwner", "owner", "read"}) {
    EXPECT_EQ(DefaultPolicyRoles(name), std::nullopt) << name;
  }
}

TEST(DefaultPolicyTest, ContractVector) {
  const auto access =
      Make({{.name = "registryReadWrite", .keys = {Key(kServiceKey)}}});
  const auto caller = access->Authenticate(
      {.authorization =
           "SharedAccessSignature sr=hub.example.net&sig="
           "yTVZaH7rOUVMb5M0i2O8B6R22c66BsAbkxCPYPV%2BzNY%3D&se=1900000000&"
           "skn=registryReadWrite",
       .path = "/jobs/v2/nightly-9"},
      kNow);
  ASSERT_TRUE(caller.ok()) << caller.status();
  EXPECT_EQ(caller->name, "registryReadWrite");
  EXPECT_EQ(caller->expires, kNow + absl::Seconds(300));
}

// By segments, a `/` at the end adds nothing (contract 4.7, step 6); two do.
TEST(DefaultPolicyTest, OneSlashAtTheEnd) {
  const auto access =
      Make({{.name = "iothubowner", .keys = {Key(kServiceKey)}}},
           [](absl::string_view) { return std::vector{Key(kDeviceKey)}; });
  const struct {
    absl::string_view below;  // The hub.
    absl::string_view path;
    bool allowed;
  } kCases[] = {
      {"/", "/twins/a", true},
      {"/", "", true},
      {"//", "/twins/a", false},
      {"//", "", false},
      {"/devices/", "/devices/a", true},
      {"/devices/", "/devices", true},
      {"/devices//", "/devices/a", false},
      {"/devices/", "/devicesa", false},
      {"/devices/a/", "/devices/a", true},
      {"/devices/a/", "/devices/ab", false},
      {"/devices/a/", "", true},
      {"/devices/", "", false},  // No device.
      {"/devices/a//", "", false},
  };
  for (const auto& [below, path, allowed] : kCases) {
    const std::string resource = absl::StrCat(kHub, below);
    const auto caller = access->Authenticate(
        {.authorization = Sas(kServiceKey, resource, "iothubowner"),
         .path = path},
        kNow);
    EXPECT_EQ(caller.ok(), allowed) << below << " for " << path;
    // It is part of what has been signed.
    const std::string other = absl::StrReplaceAll(
        Sas(kServiceKey, kHub, "iothubowner"),
        {{absl::StrCat("sr=", kHub, "&"), absl::StrCat("sr=", resource, "&")}});
    EXPECT_FALSE(
        access->Authenticate({.authorization = other, .path = path}, kNow).ok())
        << below;
  }
  const auto device = access->Authenticate(
      {.authorization = Sas(kDeviceKey, "hub.example.net/devices/a/", "")},
      kNow);
  ASSERT_TRUE(device.ok()) << device.status();
  EXPECT_EQ(device->name, "a");
}

// One key takes the other's place, and nobody who has either is turned away
// meanwhile: primary and secondary, as the hub's articles have it.
TEST(DefaultPolicyTest, KeysAreReplacedOneAtATime) {
  const auto allows = [](const std::vector<absl::string_view>& keys,
                         absl::string_view key) {
    DefaultPolicy policy = {.name = "service"};
    for (const absl::string_view text : keys) policy.keys.push_back(Key(text));
    return Make({policy})
        ->Authenticate(
            {.authorization = Sas(key, kHub, "service"), .path = "/twins/a"},
            kNow)
        .ok();
  };
  // The old pair; then a new secondary one, which clients take; then a new
  // primary one.
  const std::vector<absl::string_view> before = {kServiceKey, kDeviceKey};
  const std::vector<absl::string_view> between = {kServiceKey, kOtherKey};
  const std::vector<absl::string_view> after = {kThirdKey, kOtherKey};
  EXPECT_TRUE(allows(before, kServiceKey));
  EXPECT_TRUE(allows(before, kDeviceKey));
  EXPECT_FALSE(allows(before, kOtherKey));
  EXPECT_TRUE(allows(between, kServiceKey));
  EXPECT_TRUE(allows(between, kOtherKey));
  EXPECT_FALSE(allows(between, kDeviceKey));
  EXPECT_TRUE(allows(after, kOtherKey));
  EXPECT_TRUE(allows(after, kThirdKey));
  EXPECT_FALSE(allows(after, kServiceKey));
  EXPECT_FALSE(allows({kServiceKey}, kOtherKey));
}

TEST(DefaultPolicyTest, BesideAFile) {
  constexpr absl::string_view kFile =
      R"({"policies": [{"name": "audit", "roles": ["RegistryRead"],
                        "primaryKey": "c2Vjb25kc2Vjb25kc2Vjb25kMDA="}]})";
  const auto access = Access::Parse(
      kFile,
      {.hub_name = std::string(kHub),
       .default_policies = {{.name = "service", .keys = {Key(kServiceKey)}}}});
  ASSERT_TRUE(access.ok()) << access.status();
  for (const auto& [key, policy, role] :
       {std::tuple(kServiceKey, "service", Role::kServiceConnect),
        {kOtherKey, "audit", Role::kRegistryRead}}) {
    const auto caller = (*access)->Authenticate(
        {.authorization = Sas(key, kHub, policy), .path = "/devices"}, kNow);
    ASSERT_TRUE(caller.ok()) << caller.status();
    EXPECT_EQ(caller->roles, RoleSet({role}));
  }
}

TEST(DefaultPolicyTest, WhatIsWrong) {
  // `count` policies that have the role.
  const auto file = [](int count, absl::string_view role) {
    std::vector<std::string> policies;
    for (int i = 0; i < count; ++i) {
      policies.push_back(absl::StrCat(R"({"name":"p)", i, R"(","roles":[")",
                                      role, R"("],"primaryKey":")", kOtherKey,
                                      R"("})"));
    }
    return absl::StrCat(R"({"policies":[)", absl::StrJoin(policies, ","), "]}");
  };
  const DefaultPolicy service = {.name = "service", .keys = {Key(kServiceKey)}};
  const DefaultPolicy device = {.name = "device", .keys = {Key(kServiceKey)}};
  const struct {
    std::string file;
    std::vector<DefaultPolicy> policies;
    absl::string_view what;  // Empty: all is well.
  } kCases[] = {
      {file(15, "read"), {service}, ""},
      {file(16, "read"), {service}, "policies: at most 16; got 17"},
      {file(16, "read"), {}, ""},
      {file(9, "ServiceConnect"), {service, device}, ""},
      {file(10, "ServiceConnect"), {device}, ""},
      {file(10, "ServiceConnect"),
       {service},
       "policies: at most 10 may have the role ServiceConnect; got 11"},
      {file(11, "ServiceConnect"),
       {},
       "policies: at most 10 may have the role ServiceConnect; got 11"},
      {R"({"policies":[{"name":"service","roles":["read"],"primaryKey":
            "c2Vjb25kc2Vjb25kc2Vjb25kMDA="}]})",
       {service},
       "policies[0].name: \"service\" is also the name of default_policies[0]"},
      {file(1, "read"),
       {device, device},
       "default_policies[0].name: \"device\" is also the name of "
       "default_policies[1]"},
      {file(1, "read"),
       {{.name = "owner", .keys = {Key(kServiceKey)}}},
       "default_policies[0].name: must be iothubowner, service, device, "
       "registryRead or registryReadWrite; got \"owner\""},
      {file(1, "read"),
       {{.name = "device"}},
       "default_policies[0].keys: one or two; got 0"},
      {file(1, "read"),
       {{.name = "device",
         .keys = {Key(kServiceKey), Key(kOtherKey), Key(kThirdKey)}}},
       "default_policies[0].keys: one or two; got 3"},
  };
  for (const auto& [json, policies, what] : kCases) {
    const auto access = Access::Parse(
        json, {.hub_name = std::string(kHub), .default_policies = policies});
    EXPECT_EQ(access.status().message(), what);
    if (access.ok()) continue;
    EXPECT_EQ(ErrorCodeOf(access.status()), ErrorCode::kArgumentInvalid);
  }
  EXPECT_EQ(Access::Create({.hub_name = "h"}).status().message(),
            "default_policies: needs one: nobody could call");
  for (const absl::string_view name : {"", "hub/devices"}) {
    EXPECT_TRUE(absl::StartsWith(Access::Create({.hub_name = std::string(name),
                                                 .default_policies = {service}})
                                     .status()
                                     .message(),
                                 "hub_name: policies need a hub's name"));
  }
}

// ---------------------------------------------------------------------- paths

TEST(PathTest, AResourceIsABeginningBySegments) {
  const auto access = MakeOwner();
  const struct {
    absl::string_view resource;
    absl::string_view path;
    bool covered;
  } kCases[] = {
      {"hub.example.net", "/jobs/v2/a", true},
      {"HUB.example.NET", "/jobs/v2/a", true},
      {"hub.example.net", "/", true},
      {"hub.example.net/jobs", "/jobs/v2/a", true},
      {"HUB.EXAMPLE.NET/jobs/v2", "/jobs/v2/a", true},
      {"hub.example.net/jobs/v2/a", "/jobs/v2/a", true},
      {"hub.example.net/jobs/v2/a", "/jobs/v2/a/cancel", true},
      // "/a/b" covers "/a/b/c", and not "/a/bc".
      {"hub.example.net/jobs/v2/a", "/jobs/v2/ab", false},
      {"hub.example.net/jobs/v2/a", "/jobs/v2", false},
      {"hub.example.net/jobs/v2/a", "/jobs/v2/", false},
      {"hub.example.net/job", "/jobs/v2/a", false},
      // Paths, unlike hosts, have a case.
      {"hub.example.net/Jobs", "/jobs/v2/a", false},
      {"hub.example.net/devices", "/devices", true},
      {"hub.example.net/devices", "/devices/", true},
      {"hub.example.net/devices", "/devices/query", true},
      {"hub.example.net/devices", "/twins/d", false},
      {"hub.example.net/twins/a", "/twins/a/methods", true},
      {"hub.example.net/twins/b", "/twins/a/methods", false},
      // One at the end begins no segment; an empty segment is one.
      {"hub.example.net/", "/jobs/v2/a", true},
      {"hub.example.net/jobs/", "/jobs/v2/a", true},
      {"hub.example.net//", "/jobs/v2/a", false},
      {"hub.example.net//jobs", "/jobs/v2/a", false},
      // Of the id, once decoded.
      {"hub.example.net/twins/a%b", "/twins/a%b", true},
      {"hub.example.net/twins/a%25b", "/twins/a%b", false},
      // Another hub's.
      {"other.example.net", "/jobs/v2/a", false},
      {"hub.example.net.evil.net", "/jobs/v2/a", false},
      {"hub.example.netjobs", "/jobs/v2/a", false},
      {"hub.example.ne", "/jobs/v2/a", false},
      {"hub.example.net:443", "/jobs/v2/a", false},
      {"https://hub.example.net", "/jobs/v2/a", false},
      {"/jobs", "/jobs/v2/a", false},
  };
  for (const auto& [resource, path, covered] : kCases) {
    SCOPED_TRACE(absl::StrCat(resource, " for ", path));
    const auto caller = access->Authenticate(
        {.authorization = Sas(kServiceKey, resource, "iothubowner"),
         .path = path},
        kNow);
    if (!covered) {
      ExpectRefused(caller, ErrorCode::kIotHubUnauthorizedAccess,
                    "sr must be \"hub.example.net\" or begin, by segments");
      continue;
    }
    ASSERT_TRUE(caller.ok()) << caller.status();
    EXPECT_EQ(caller->roles, DefaultPolicyRoles("iothubowner"));
  }
}

// What was signed is what was sent; both are decoded once.
TEST(PathTest, EverySpellingOfTheResource) {
  const auto access = MakeOwner();
  const std::string se = absl::StrCat(absl::ToUnixSeconds(kNow));
  for (const absl::string_view sr :
       {"hub.example.net/twins/a%25b", "hub.example.net%2Ftwins%2Fa%25b",
        "hub.example.net%2ftwins%2fa%25b", "%68ub.example.net%2ftwins"}) {
    const auto caller = access->Authenticate(
        {.authorization = absl::StrCat("SharedAccessSignature sr=", sr, "&sig=",
                                       SasSignature(kServiceKey, sr, se),
                                       "&skn=iothubowner&se=", se),
         .path = "/twins/a%b"},
        kNow);
    EXPECT_TRUE(caller.ok()) << sr << ": " << caller.status();
  }
}

// The signature goes before the path: whoever cannot sign learns nothing.
TEST(PathTest, TheSignatureIsLookedAtFirst) {
  ExpectRefused(
      MakeOwner()->Authenticate(
          {.authorization = Sas(kOtherKey, "other.net", "iothubowner"),
           .path = "/twins/a"},
          kNow),
      ErrorCode::kIotHubUnauthorizedAccess,
      "signature is not one of the policy \"iothubowner\"");
}

// -------------------------------------------------------------------- devices

// Devices that sign: thermo-042 with both keys, others with one or none.
std::vector<SasKey> KeysOf(absl::string_view device_id) {
  if (device_id == "thermo-042") return {Key(kDeviceKey), Key(kOtherKey)};
  if (device_id == "a%b") return {Key(kDeviceKey)};
  return {};
}

std::shared_ptr<const Access> MakeWithDevices() {
  return Make({{.name = "iothubowner", .keys = {Key(kServiceKey)}},
               {.name = "device", .keys = {Key(kThirdKey)}}},
              KeysOf);
}

void ExpectDevice(const absl::StatusOr<Caller>& caller, absl::string_view id) {
  ASSERT_TRUE(caller.ok()) << caller.status();
  EXPECT_EQ(caller->name, id);
  EXPECT_EQ(caller->roles, RoleSet({Role::kDeviceConnect}));
  EXPECT_TRUE(caller->devices.Covers(id));
  EXPECT_FALSE(caller->devices.Covers(absl::StrCat(id, "0")));
  EXPECT_FALSE(caller->devices.CoversAll());
}

TEST(DeviceTokenTest, ContractVector) {
  const auto caller = MakeWithDevices()->Authenticate(
      {.authorization =
           "SharedAccessSignature sr=hub.example.net%2fdevices%2fthermo-042&"
           "sig=LpxPvDdve3ZXMf%2Fxqy9xnzIqQJxUmOEmdoLXx5z9Xl0%3D&se="
           "1900000000"},
      kNow);
  ExpectDevice(caller, "thermo-042");
  EXPECT_EQ(caller->expires, kNow + absl::Seconds(300));
}

TEST(DeviceTokenTest, EitherKeySigns) {
  const auto access = MakeWithDevices();
  for (const absl::string_view key : {kDeviceKey, kOtherKey}) {
    ExpectDevice(access->Authenticate(
                     {.authorization =
                          Sas(key, "HUB.example.net/devices/thermo-042", "")},
                     kNow),
                 "thermo-042");
  }
  ExpectDevice(
      access->Authenticate(
          {.authorization = Sas(kDeviceKey, "hub.example.net/devices/a%b", "")},
          kNow),
      "a%b");
}

TEST(DeviceTokenTest, WhatIsRefused) {
  const auto access = MakeWithDevices();
  constexpr auto kDenied = ErrorCode::kIotHubUnauthorizedAccess;
  const struct {
    absl::string_view key;
    absl::string_view resource;
    absl::string_view what;
  } kCases[] = {
      // A policy's key is not the device's; nor is there every device.
      {kServiceKey, "hub.example.net/devices/thermo-042",
       "signature is not one of the device \"thermo-042\""},
      {kDeviceKey, "hub.example.net/devices/thermo-043",
       "signature is not one of the device \"thermo-043\""},
      {kDeviceKey, "hub.example.net/devices/Thermo-042",
       "signature is not one of the device \"Thermo-042\""},
      // No device.
      {kDeviceKey, "hub.example.net", "its sr is not"},
      {kDeviceKey, "hub.example.net/devices", "its sr is not"},
      {kDeviceKey, "hub.example.net/devices/", "its sr is not"},
      {kDeviceKey, "hub.example.net/twins/thermo-042", "its sr is not"},
      {kDeviceKey, "hub.example.net/devices/thermo-042//", "its sr is not"},
      {kDeviceKey, "hub.example.net/devices/thermo-042/modules/m",
       "its sr is not"},
      {kDeviceKey, "other.example.net/devices/thermo-042", "its sr is not"},
  };
  for (const auto& [key, resource, what] : kCases) {
    SCOPED_TRACE(resource);
    ExpectRefused(
        access->Authenticate({.authorization = Sas(key, resource, "")}, kNow),
        kDenied, what);
  }
  const std::string good =
      Sas(kDeviceKey, "hub.example.net/devices/thermo-042", "");
  ExpectRefused(
      access->Authenticate({.authorization = good}, kNow + absl::Hours(2)),
      ErrorCode::kIotHubUnauthorized, "expired");
  ExpectRefused(MakeOwner()->Authenticate({.authorization = good}, kNow),
                kDenied, "keys of devices are not known here");
}

// Of the REST surface: what it is for, and no permission for any of it.
TEST(DeviceTokenTest, AtAPath) {
  const auto access = MakeWithDevices();
  const std::string token =
      Sas(kDeviceKey, "hub.example.net/devices/thermo-042", "");
  const auto at = [&](absl::string_view path) {
    return access->Authenticate({.authorization = token, .path = path}, kNow);
  };
  ExpectDevice(at("/devices/thermo-042"), "thermo-042");
  ExpectDevice(at("/devices/thermo-042/messages"), "thermo-042");
  for (const absl::string_view path :
       {"/devices/thermo-0421", "/devices", "/twins/thermo-042", "/"}) {
    ExpectRefused(at(path), ErrorCode::kIotHubUnauthorizedAccess,
                  "the token is for \"hub.example.net/devices/thermo-042\"");
  }
}

// A policy with DeviceConnect may sign for a device, too (wire-facts 2.2).
TEST(DeviceTokenTest, OfAPolicy) {
  const auto access = MakeWithDevices();
  const auto one = access->Authenticate(
      {.authorization = Sas(kThirdKey, "hub.example.net/devices/x", "device")},
      kNow);
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_EQ(one->name, "device");
  EXPECT_EQ(one->roles, RoleSet({Role::kDeviceConnect}));
  EXPECT_TRUE(one->devices.Covers("x"));
  EXPECT_FALSE(one->devices.Covers("y"));

  const auto owner = access->Authenticate(
      {.authorization =
           Sas(kServiceKey, "hub.example.net/devices/x", "iothubowner")},
      kNow);
  ASSERT_TRUE(owner.ok()) << owner.status();
  EXPECT_EQ(owner->roles, RoleSet({Role::kGateway, Role::kDeviceConnect}));
  EXPECT_FALSE(owner->devices.Covers("y"));
}

}  // namespace
}  // namespace muster
