// R9 of the hub's REST surface, and R10's methods, row by row: contract 1.4,
// 1.7, 7.1, 7.2; wire-facts 8.
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/model/limits.h"
#include "gtest/gtest.h"
#include "tests/rest_hub.h"

namespace muster {
namespace {

constexpr char kMethods[] = "/twins/d1/methods";
// As the SDK sends it: all four are always there.
constexpr char kReboot[] =
    R"({"methodName":"reboot","payload":{"delay":5},)"
    R"("responseTimeoutInSeconds":30,"connectTimeoutInSeconds":0})";

// "404 DeviceNotFound", "200 ".
std::string Said(const RestAnswer& answer) {
  return absl::StrCat(answer.status, " ", answer.error());
}

std::string Body(absl::string_view members) {
  return absl::StrCat(R"({"methodName":"reboot",)", members, "}");
}

class MethodRoutesTest : public testing::Test {
 protected:
  MethodRoutesTest() { hub.AddDevice("d1"); }
  void OnReboot(LoopbackReply reply) {
    hub.devices().SetHandler("reboot",
                             [reply](const LoopbackCall&) { return reply; });
  }
  RestAnswer Post(absl::string_view body) {
    return hub.Send("POST", kMethods, body);
  }
  RestHub hub;
};

TEST_F(MethodRoutesTest, TheAnswerIsTheDevices) {
  const struct {
    int status;
    const char* payload;
    const char* body;
  } kRows[] = {
      {200, R"({"ok":true})", R"({"status":200,"payload":{"ok":true}})"},
      {200, "", R"({"status":200,"payload":null})"},
      {201, "null", R"({"status":201,"payload":null})"},
      {404, "[1,\"a\"]", R"({"status":404,"payload":[1,"a"]})"},
      {418, "7", R"({"status":418,"payload":7})"},
      {500, R"("text")", R"({"status":500,"payload":"text"})"},
      {-1, "false", R"({"status":-1,"payload":false})"},
      // Its text stays as it is.
      {0, R"({ "b" : 1.50, "a": 0 })",
       R"({"status":0,"payload":{ "b" : 1.50, "a": 0 }})"},
  };
  for (const auto& row : kRows) {
    OnReboot({.status = row.status, .payload = row.payload});
    const RestAnswer answer = Post(kReboot);
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.body, row.body);
    EXPECT_EQ(answer.Header("Content-Type"), "application/json; charset=utf-8");
  }
  const auto calls = hub.devices().calls();
  ASSERT_EQ(calls.size(), std::size(kRows));  // Each once.
  EXPECT_EQ(calls[0].device_id, "d1");
  EXPECT_EQ(calls[0].method, "reboot");
  EXPECT_EQ(calls[0].payload, R"({"delay":5})");
}

TEST_F(MethodRoutesTest, OnlyTheNameIsRequired) {
  for (const char* body :
       {R"({"methodName":"reboot"})",
        R"({"methodName":"reboot","payload":null,)"
        R"("responseTimeoutInSeconds":null,"connectTimeoutInSeconds":null})",
        R"({"methodName":"reboot","timeoutInSeconds":1,"other":{}})"}) {
    EXPECT_EQ(Said(Post(body)), "200 ") << body;
    EXPECT_EQ(hub.devices().calls().back().payload, "null");
  }
}

TEST_F(MethodRoutesTest, WhatIsWrongInTheBodyIsSaid) {
  const std::string x128k(kMethodPayloadSizeMax - 2, 'x');
  const struct {
    std::string body;
    const char* said;
  } kRows[] = {
      {"", "400 IotHubFormatError"},
      {"{", "400 IotHubFormatError"},
      {"null", "400 IotHubFormatError"},
      {"[]", "400 IotHubFormatError"},
      {R"({"methodName":"a","methodName":"b"})", "400 IotHubFormatError"},
      {"{}", "400 ArgumentNull"},
      {R"({"methodName":null})", "400 ArgumentNull"},
      {R"({"methodName":""})", "400 ArgumentInvalid"},
      {R"({"methodName":1})", "400 ArgumentInvalid"},
      {R"({"methodName":"a b"})", "400 ArgumentInvalid"},
      {R"({"methodName":"$x"})", "400 ArgumentInvalid"},
      {R"({"methodName":"größe"})", "400 ArgumentInvalid"},
      {absl::StrCat(R"({"methodName":")", std::string(100, 'm'), "\"}"),
       "200 "},
      {absl::StrCat(R"({"methodName":")", std::string(101, 'm'), "\"}"),
       "400 ArgumentInvalid"},
      {Body(R"("payload":{"a b":1})"), "400 ArgumentInvalid"},
      {Body(R"("payload":{"x.y":{"fw-version":"any, text"}})"), "200 "},
      {Body(R"("responseTimeoutInSeconds":4)"), "400 ArgumentInvalid"},
      {Body(R"("responseTimeoutInSeconds":5)"), "200 "},
      {Body(R"("responseTimeoutInSeconds":300)"), "200 "},
      {Body(R"("responseTimeoutInSeconds":301)"), "400 ArgumentInvalid"},
      {Body(R"("responseTimeoutInSeconds":"30")"), "400 ArgumentInvalid"},
      {Body(R"("responseTimeoutInSeconds":30.5)"), "400 ArgumentInvalid"},
      {Body(R"("connectTimeoutInSeconds":-1)"), "400 ArgumentInvalid"},
      {Body(R"("connectTimeoutInSeconds":300)"), "200 "},
      {Body(R"("connectTimeoutInSeconds":301)"), "400 ArgumentInvalid"},
      {Body(absl::StrCat(R"("payload":")", x128k, "\"")), "200 "},
      {Body(absl::StrCat(R"("payload":"x)", x128k, "\"")),
       "413 MessageTooLarge"},
      {Body(absl::StrCat(R"("payload":")", x128k, x128k, "\"")),
       "413 MessageTooLarge"},
  };
  size_t calls = 0;
  for (const auto& row : kRows) {
    const RestAnswer answer = Post(row.body);
    EXPECT_EQ(Said(answer), row.said)
        << row.body.substr(0, 80) << answer.body.substr(0, 200);
    calls += answer.status == 200;
  }
  EXPECT_EQ(hub.devices().calls().size(), calls);
}

TEST_F(MethodRoutesTest, EachErrorHasItsStatusAndItsName) {
  const struct {
    OutcomeCode code;
    const char* said;
    const char* message;
  } kRows[] = {
      {OutcomeCode::kNotConnected, "404 DeviceNotOnline",
       "Timed out waiting for device to connect."},
      {OutcomeCode::kNoHandler, "404 DeviceNotOnline",
       "The device is connected but takes no direct methods."},
      {OutcomeCode::kNoSuchDevice, "404 DeviceNotFound",
       "Device not registered or disabled."},
      {OutcomeCode::kBusy, "403 DeviceMaximumInflightMethodExceeded",
       "Too many methods are in flight on the device."},
      {OutcomeCode::kBadResponse, "502 InvalidResponseWhileProxying",
       "The device's answer is not JSON or has no status."},
      {OutcomeCode::kResponseTooLarge, "413 MessageTooLarge",
       "The device's answer is larger than 128 KB."},
      {OutcomeCode::kTimeout, "504 GatewayTimeout",
       "Timed out waiting for the response from device."},
      {OutcomeCode::kError, "500 ServerError", "The transport failed."},
  };
  for (const auto& row : kRows) {
    OnReboot({.code = row.code});
    const RestAnswer answer = Post(kReboot);
    EXPECT_EQ(Said(answer), row.said);
    EXPECT_EQ(answer.message(), row.message);
  }
}

TEST_F(MethodRoutesTest, AnUnknownOrDisabledDeviceIsNotFound) {
  EXPECT_EQ(Said(hub.Send("POST", "/twins/d2/methods", kReboot)),
            "404 DeviceNotFound");
  ASSERT_TRUE(hub.engine().SetTwinEnabled("d1", false).ok());
  EXPECT_EQ(Said(Post(kReboot)), "404 DeviceNotFound");
}

TEST_F(MethodRoutesTest, ADeviceThatIsAwayIsWaitedFor) {
  hub.devices().SetConnected("d1", false);
  EXPECT_EQ(Said(Post(kReboot)), "404 DeviceNotOnline");
  const std::string patient = Body(R"("connectTimeoutInSeconds":10)");
  const auto too_late = hub.Start("POST", kMethods, patient);
  hub.time.Advance(absl::Seconds(9));
  EXPECT_TRUE(too_late->answers.empty());
  hub.time.Advance(absl::Seconds(1));
  ASSERT_EQ(too_late->answers.size(), 1u);
  EXPECT_EQ(Said(too_late->answers[0]), "404 DeviceNotOnline");

  const auto in_time = hub.Start("POST", kMethods, patient);
  hub.time.Advance(absl::Seconds(9));
  hub.devices().SetConnected("d1", true);
  hub.time.RunReady();
  ASSERT_EQ(in_time->answers.size(), 1u);
  EXPECT_EQ(in_time->answers[0].body, R"({"status":200,"payload":null})");
}

TEST_F(MethodRoutesTest, ADeviceThatSaysNothingTimesOut) {
  OnReboot(LoopbackReply::Never());
  const auto pending =
      hub.Start("POST", kMethods, Body(R"("responseTimeoutInSeconds":7)"));
  hub.time.Advance(absl::Seconds(7) - absl::Nanoseconds(1));
  EXPECT_TRUE(pending->answers.empty());
  hub.time.Advance(absl::Nanoseconds(1));
  ASSERT_EQ(pending->answers.size(), 1u);
  EXPECT_EQ(Said(pending->answers[0]), "504 GatewayTimeout");
}

TEST_F(MethodRoutesTest, TenAreInFlightAtMost) {
  OnReboot({.delay = absl::Seconds(1)});
  std::vector<std::shared_ptr<RestHub::Pending>> pending;
  for (int i = 0; i < kMethodsInFlightPerDeviceMax; ++i) {
    pending.push_back(hub.Start("POST", kMethods, kReboot));
  }
  EXPECT_EQ(Said(Post(kReboot)), "403 DeviceMaximumInflightMethodExceeded");
  hub.time.Advance(absl::Seconds(1));
  for (const auto& one : pending) {
    ASSERT_EQ(one->answers.size(), 1u);
    EXPECT_EQ(Said(one->answers[0]), "200 ");
  }
}

TEST_F(MethodRoutesTest, BodiesAreJsonAndTheVerbIsPost) {
  EXPECT_EQ(Said(hub.Send("POST", kMethods, kReboot,
                          {{"Content-Type", "text/plain"}})),
            "415 GenericUnsupportedMediaType");
  for (const char* method : {"GET", "PUT", "PATCH", "DELETE"}) {
    EXPECT_EQ(Said(hub.Send(method, kMethods)), "405 GenericMethodNotAllowed");
  }
}

TEST_F(MethodRoutesTest, ThereAreNoModules) {
  EXPECT_EQ(Said(hub.Send("POST", "/twins/d1/modules/camera/methods", kReboot)),
            "404 ModuleNotFound");
  EXPECT_EQ(Said(hub.Send("POST", "/twins/d2/modules/camera/methods", kReboot)),
            "404 DeviceNotFound");
  EXPECT_TRUE(hub.devices().calls().empty());
}

TEST_F(MethodRoutesTest, WhenTheEngineStopsEverybodyIsAnswered) {
  OnReboot(LoopbackReply::Never());
  const auto pending = hub.Start("POST", kMethods, kReboot);
  hub.engine().Stop();
  ASSERT_EQ(pending->answers.size(), 1u);
  EXPECT_EQ(Said(pending->answers[0]), "504 GatewayTimeout");  // It may run.
}

}  // namespace
}  // namespace muster
