// The registry (engine.h): identities through the engine's calls, beside
// twins, and found again after a crash, by chunks alone and by snapshots.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/model/error.h"
#include "engine/model/identity.h"
#include "engine/model/json.h"
#include "engine/twin/etag.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/crashing_journal.h"
#include "tests/simulated/simulated_executor.h"
#include "transport/loopback/loopback.h"

namespace muster {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::string Key(absl::string_view text) {
  std::string bytes(text);
  bytes.resize(32, '.');
  return absl::Base64Escape(bytes);
}

DeviceIdentity NewDevice(absl::string_view id) {
  DeviceIdentity device;
  device.device_id = std::string(id);
  device.primary_key = Key(absl::StrCat(id, " primary"));
  device.secondary_key = Key(absl::StrCat(id, " secondary"));
  return device;
}

std::vector<ErrorCode> Codes(const std::vector<absl::Status>& answers) {
  std::vector<ErrorCode> codes;
  for (const absl::Status& status : answers) {
    codes.push_back(ErrorCodeOf(status));
  }
  return codes;
}

class Registry : public testing::TestWithParam<bool> {
 protected:
  Registry() { Start(); }
  ~Registry() override {
    if (engine != nullptr) engine->Stop();
  }

  void Start() {
    journal.crashed = false;
    LoopbackOptions loopback;
    loopback.record_calls = true;
    loopback.answer_unknown = false;
    devices = *LoopbackTransport::Create(loopback, &time, &time);
    options.transport = devices.get();
    options.clock = &time;
    options.executor = &time;
    options.journal = &journal;
    absl::StatusOr<std::unique_ptr<Engine>> created = Engine::Create(options);
    ASSERT_TRUE(created.ok()) << created.status();
    engine = *std::move(created);
  }
  // The process is gone from one moment to the next, and comes back; with
  // snapshots taken before, if the test's parameter says so.
  void Crash() {
    if (GetParam()) {
      ASSERT_TRUE(engine->WriteSnapshots().ok());
    }
    journal.crashed = true;
    engine.reset();
    devices.reset();
    Start();
  }
  DeviceIdentity Create(const DeviceIdentity& device) {
    absl::StatusOr<DeviceIdentity> made = engine->CreateDevice(device);
    EXPECT_TRUE(made.ok()) << made.status();
    return made.value_or(DeviceIdentity());
  }
  DeviceIdentity Get(absl::string_view id) {
    absl::StatusOr<DeviceIdentity> device = engine->GetDevice(id);
    EXPECT_TRUE(device.ok()) << device.status();
    return device.value_or(DeviceIdentity());
  }
  std::string Twin(absl::string_view id) {
    absl::StatusOr<TwinSnapshot> twin = engine->GetTwin(id);
    return twin.ok() ? JsonText(twin->document.view())
                     : std::string(twin.status().message());
  }

  EngineOptions options;
  SimulatedExecutor time;
  CrashingJournal journal;
  std::unique_ptr<LoopbackTransport> devices;
  std::unique_ptr<Engine> engine;
};

INSTANTIATE_TEST_SUITE_P(ChunksAndSnapshots, Registry, testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "Snapshots" : "Chunks";
                         });

TEST_P(Registry, ANewDeviceHasATwinAndIsFoundAgain) {
  DeviceIdentity device = NewDevice("d1");
  device.status_reason = "provisioned";
  const DeviceIdentity made = Create(device);
  EXPECT_EQ(made.etag, "AAAAAAAAAAE=");
  EXPECT_THAT(made.generation_id, Not(IsEmpty()));
  EXPECT_FALSE(made.connected);
  EXPECT_EQ(made.status_updated_time, absl::InfinitePast());
  EXPECT_EQ(made.last_activity_time, absl::InfinitePast());
  EXPECT_EQ(made.primary_key, device.primary_key);
  EXPECT_EQ(made.secondary_key, device.secondary_key);
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(Get("d1"), made);
    const absl::StatusOr<TwinSnapshot> twin = engine->GetTwin("d1");
    ASSERT_TRUE(twin.ok());
    EXPECT_EQ(twin->etag, "AAAAAAAAAAE=");
    EXPECT_EQ(twin->state.version, 1);
    EXPECT_EQ(twin->state.desired_version, 1);
    EXPECT_EQ(twin->state.reported_version, 1);
    const JsonView document = twin->document.view();
    EXPECT_EQ(document.Find("statusReason").string_value(), "provisioned");
    EXPECT_EQ(document.Find("deviceEtag").string_value(), "AAAAAAAAAAE=");
    EXPECT_EQ(document.Find("authenticationType").string_value(), "sas");
    EXPECT_EQ(JsonText(document.Find("capabilities")), R"({"iotEdge":false})");
    EXPECT_EQ(engine->TwinCount(), 1);
    Crash();
  }
}

TEST_P(Registry, WhatIsWrongIsRefusedAndNothingIsThere) {
  DeviceIdentity device = NewDevice("d1");
  device.secondary_key.clear();
  const absl::Status missing = engine->CreateDevice(device).status();
  EXPECT_EQ(ErrorCodeOf(missing), ErrorCode::kArgumentInvalid);
  EXPECT_THAT(std::string(missing.message()), HasSubstr("secondaryKey"));
  device = NewDevice("d1");
  device.status_reason = "\xFF";
  EXPECT_EQ(ErrorCodeOf(engine->CreateDevice(device).status()),
            ErrorCode::kArgumentInvalid);
  device = NewDevice("");
  EXPECT_EQ(ErrorCodeOf(engine->CreateDevice(device).status()),
            ErrorCode::kArgumentInvalid);
  device = NewDevice("d1");
  device.parent_scopes.assign(1000, "0123456789");
  EXPECT_EQ(ErrorCodeOf(engine->CreateDevice(device).status()),
            ErrorCode::kMessageTooLarge);
  EXPECT_EQ(engine->TwinCount(), 0);
  EXPECT_EQ(ErrorCodeOf(engine->GetDevice("d1").status()),
            ErrorCode::kDeviceNotFound);

  Create(NewDevice("d1"));
  const absl::Status again = engine->CreateDevice(NewDevice("d1")).status();
  EXPECT_EQ(ErrorCodeOf(again), ErrorCode::kDeviceAlreadyExists);
  ASSERT_TRUE(engine->UpsertTwin(R"({"deviceId":"d2"})").ok());
  EXPECT_EQ(ErrorCodeOf(engine->CreateDevice(NewDevice("d2")).status()),
            ErrorCode::kDeviceAlreadyExists);
  EXPECT_EQ(ErrorCodeOf(engine->UpdateDevice(NewDevice("d3")).status()),
            ErrorCode::kDeviceNotFound);
  EXPECT_EQ(ErrorCodeOf(engine->DeleteDevice("d3")),
            ErrorCode::kDeviceNotFound);
}

TEST_P(Registry, KeysAreShownByTheRegistryAlone) {
  const DeviceIdentity made = Create(NewDevice("d1"));
  ASSERT_TRUE(engine->PatchTwin("d1", R"({"tags":{"x":1}})").ok());
  for (int round = 0; round < 2; ++round) {
    std::string shown = Twin("d1");
    for (const char* statement :
         {"SELECT * FROM devices", "SELECT deviceId, properties FROM devices",
          "SELECT deviceEtag, COUNT() AS n FROM devices GROUP BY deviceEtag"}) {
      const absl::StatusOr<TwinPage> page = engine->Query(statement);
      ASSERT_TRUE(page.ok()) << page.status();
      for (const std::string& row : page->rows) shown += row;
    }
    EXPECT_THAT(shown, Not(HasSubstr("$identity")));
    EXPECT_THAT(shown, Not(HasSubstr(made.primary_key)));
    EXPECT_THAT(shown, Not(HasSubstr(made.secondary_key)));
    // No name leads there.
    for (const std::string name :
         {"$identity", "[$identity]", "[[$identity]]", "tags.$identity"}) {
      const auto count = engine->CountTargets(
          absl::StrCat("is_defined(", name, ") OR ", name, " != 'x'"));
      EXPECT_TRUE(!count.ok() || count->devices == 0) << name;
    }
    Crash();
  }
}

// Nor do documents of a caller set them.
TEST_P(Registry, ADocumentHasNoSayInIt) {
  const std::string hidden =
      absl::StrCat(R"("$identity":")", Key("a"), " ", Key("b"), "\"");
  ASSERT_TRUE(
      engine->UpsertTwin(absl::StrCat(R"({"deviceId":"u",)", hidden, "}"))
          .ok());
  const DeviceIdentity made = Create(NewDevice("d"));
  for (const std::string id : {"u", "d"}) {
    const DeviceIdentity before = Get(id);
    const std::string document =
        absl::StrCat(R"({"deviceId":")", id, R"(",)", hidden, "}");
    ASSERT_TRUE(engine->UpsertTwin(document).ok());
    ASSERT_TRUE(engine->ReplaceTwin(id, document).ok());
    engine->PatchTwin(id, document).IgnoreError();
    engine->PatchReported(id, absl::StrCat("{", hidden, "}")).IgnoreError();
    engine->PatchTwin(id, absl::StrCat(R"({"tags":{)", hidden, "}}"))
        .IgnoreError();
    DeviceIdentity after = Get(id);
    after.last_activity_time = before.last_activity_time;
    EXPECT_EQ(after, before);
  }
  EXPECT_THAT(Get("u").primary_key, IsEmpty());
  EXPECT_EQ(Get("d").primary_key, made.primary_key);
}

TEST_P(Registry, UpsertingATwinKeepsTheIdentity) {
  DeviceIdentity device = NewDevice("d1");
  device.status_reason = "provisioned";
  device.enabled = false;
  device.primary_thumbprint = std::string(40, 'A');
  device.iot_edge = true;
  device.device_scope = "scope";
  device.parent_scopes = {"parent"};
  const DeviceIdentity made = Create(device);
  // Somebody else's export of it.
  const std::string document =
      R"({"deviceId":"d1","status":"enabled","statusReason":"other",)"
      R"("deviceEtag":"AAAAAAAAAAk=","authenticationType":"none",)"
      R"("capabilities":{"iotEdge":false},"deviceScope":"o",)"
      R"("x509Thumbprint":{"primaryThumbprint":null},"modelId":"m",)"
      R"("statusUpdateTime":"2020-01-01T00:00:00Z","tags":{"x":1}})";
  ASSERT_TRUE(engine->UpsertTwin(document).ok());
  EXPECT_EQ(Get("d1"), made);
  Crash();
  EXPECT_EQ(Get("d1"), made);
  const absl::StatusOr<TwinSnapshot> twin = engine->GetTwin("d1");
  ASSERT_TRUE(twin.ok());
  const JsonView shown = twin->document.view();
  EXPECT_EQ(JsonText(shown.Find("tags")), R"({"x":1})");
  EXPECT_EQ(shown.Find("modelId").string_value(), "m");
  EXPECT_EQ(shown.Find("status").string_value(), "disabled");
  EXPECT_EQ(shown.Find("statusReason").string_value(), "provisioned");
  EXPECT_EQ(shown.Find("deviceEtag").string_value(), made.etag);
  EXPECT_EQ(shown.Find("deviceScope").string_value(), "scope");
  // As one of many, and from a file.
  const absl::string_view documents[] = {R"({"deviceId":"d2"})", document};
  ASSERT_TRUE((*engine->UpsertTwins(documents))[1].ok());
  const std::string path = absl::StrCat(testing::TempDir(), "/twins.jsonl");
  {
    std::ofstream file(path);
    file << document << "\n" << R"({"deviceId":"d3"})" << "\n";
  }
  absl::StatusOr<LoadResult> loaded = absl::UnknownError("not loaded");
  std::thread load([&] { loaded = engine->LoadTwins(path); });
  load.join();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(Get("d1"), made);
  EXPECT_EQ(engine->TwinCount(), 3);
  Crash();
  EXPECT_EQ(Get("d1"), made);
}

TEST_P(Registry, TwinAndIdentityHaveEtagsOfTheirOwn) {
  Create(NewDevice("d1"));
  ASSERT_TRUE(engine->PatchTwin("d1", R"({"tags":{"x":1}})").ok());
  ASSERT_TRUE(engine->PatchReported("d1", R"({"y":1})").ok());
  EXPECT_EQ(Get("d1").etag, "AAAAAAAAAAE=");
  EXPECT_EQ(engine->GetTwin("d1")->etag, "AAAAAAAAAAI=");
  ASSERT_TRUE(engine->UpdateDevice(NewDevice("d1")).ok());
  ASSERT_TRUE(engine->UpdateDevice(NewDevice("d1")).ok());
  EXPECT_EQ(Get("d1").etag, "AAAAAAAAAAM=");
  const absl::StatusOr<TwinSnapshot> twin = engine->GetTwin("d1");
  EXPECT_EQ(twin->etag, "AAAAAAAAAAI=");
  EXPECT_EQ(twin->state.version, 2);
  EXPECT_EQ(twin->document.view().Find("deviceEtag").string_value(),
            "AAAAAAAAAAM=");
  EXPECT_EQ(JsonText(twin->document.view().Find("tags")), R"({"x":1})");
}

TEST_P(Registry, AnUpdatePutsTheIdentityInItsPlace) {
  DeviceIdentity device = NewDevice("d1");
  device.status_reason = "first";
  device.device_scope = "scope";
  const DeviceIdentity made = Create(device);
  time.Advance(absl::Seconds(7));

  // Without keys: they stay.  What it does not say goes.
  DeviceIdentity next{.device_id = "d1"};
  next.primary_key = Key("another");
  next.generation_id = "mine";
  next.etag = "mine";
  next.connected = true;
  absl::StatusOr<DeviceIdentity> updated = engine->UpdateDevice(next);
  ASSERT_TRUE(updated.ok()) << updated.status();
  EXPECT_EQ(updated->primary_key, Key("another"));
  EXPECT_EQ(updated->secondary_key, made.secondary_key);
  EXPECT_EQ(updated->generation_id, made.generation_id);
  EXPECT_EQ(updated->etag, "AAAAAAAAAAI=");
  EXPECT_FALSE(updated->connected);
  EXPECT_THAT(updated->status_reason, IsEmpty());
  EXPECT_THAT(updated->device_scope, IsEmpty());
  EXPECT_EQ(updated->status_updated_time, absl::InfinitePast());
  EXPECT_EQ(Get("d1"), *updated);

  // Its status changes, and then something else.
  next.enabled = false;
  updated = engine->UpdateDevice(next);
  const absl::Time then = time.Now();
  EXPECT_EQ(updated->status_updated_time, then);
  time.Advance(absl::Seconds(7));
  next.status_reason = "lost";
  updated = engine->UpdateDevice(next);
  EXPECT_EQ(updated->status_updated_time, then);
  EXPECT_EQ(updated->status_reason, "lost");
  EXPECT_THAT(Twin("d1"), HasSubstr(R"("statusReason":"lost")"));
  Crash();
  EXPECT_EQ(Get("d1"), *updated);

  // No keys with any other type.
  next.authentication_type = AuthenticationType::kSelfSigned;
  next.primary_thumbprint = std::string(40, 'b');
  updated = engine->UpdateDevice(next);
  ASSERT_TRUE(updated.ok());
  EXPECT_THAT(updated->primary_key, IsEmpty());
  EXPECT_THAT(updated->secondary_key, IsEmpty());
  EXPECT_EQ(updated->primary_thumbprint, std::string(40, 'b'));
  Crash();
  EXPECT_EQ(Get("d1"), *updated);
}

TEST_P(Registry, AnUpdateWithoutAuthenticationKeepsIt) {
  const DeviceIdentity made = Create(NewDevice("keys"));
  DeviceIdentity certified{.device_id = "certificates"};
  certified.authentication_type = AuthenticationType::kSelfSigned;
  certified.primary_thumbprint = std::string(40, 'a');
  certified.secondary_thumbprint = std::string(64, 'b');
  Create(certified);
  for (const char* id : {"keys", "certificates"}) {
    const DeviceIdentity before = Get(id);
    DeviceIdentity next{.device_id = id};
    next.authentication_type = std::nullopt;
    next.enabled = false;
    // Of no effect, as nothing is said of authentication.
    next.primary_key = Key("ignored");
    next.primary_thumbprint = std::string(40, 'c');
    const auto updated =
        engine->UpdateDevice(next, "", {Key("spare 1"), Key("spare 2")});
    ASSERT_TRUE(updated.ok()) << updated.status();
    EXPECT_FALSE(updated->enabled);
    EXPECT_EQ(updated->authentication_type, before.authentication_type);
    EXPECT_EQ(updated->primary_key, before.primary_key);
    EXPECT_EQ(updated->secondary_key, before.secondary_key);
    EXPECT_EQ(updated->primary_thumbprint, before.primary_thumbprint);
    EXPECT_EQ(updated->secondary_thumbprint, before.secondary_thumbprint);
    Crash();
    EXPECT_EQ(Get(id), *updated);
  }
  // A new one is of type sas.
  DeviceIdentity plain = NewDevice("new");
  plain.authentication_type = std::nullopt;
  EXPECT_EQ(Create(plain).authentication_type, AuthenticationType::kSas);
  EXPECT_EQ(Get("new").primary_key, plain.primary_key);
}

TEST_P(Registry, SpareKeysAreForThoseThatAreMissing) {
  const SymmetricKeys spare{Key("spare 1"), Key("spare 2")};
  const auto update = [&](const DeviceIdentity& device) {
    const auto updated = engine->UpdateDevice(device, "", spare);
    EXPECT_TRUE(updated.ok()) << updated.status();
    return updated.value_or(DeviceIdentity());
  };
  // It has its own.
  const DeviceIdentity made = Create(NewDevice("d1"));
  DeviceIdentity device = update({.device_id = "d1"});
  EXPECT_EQ(device.primary_key, made.primary_key);
  EXPECT_EQ(device.secondary_key, made.secondary_key);
  // It came as a twin, and one key is given.
  ASSERT_TRUE(engine->UpsertTwin(R"({"deviceId":"t"})").ok());
  DeviceIdentity next{.device_id = "t"};
  next.secondary_key = Key("given");
  device = update(next);
  EXPECT_EQ(device.primary_key, spare.primary);
  EXPECT_EQ(device.secondary_key, Key("given"));
  // From keys to certificates and back.
  next = {.device_id = "d1"};
  next.authentication_type = AuthenticationType::kCertificateAuthority;
  EXPECT_THAT(update(next).primary_key, IsEmpty());
  next.authentication_type = AuthenticationType::kSas;
  device = update(next);
  EXPECT_EQ(device.primary_key, spare.primary);
  EXPECT_EQ(device.secondary_key, spare.secondary);
  // The same among many.
  ASSERT_TRUE(engine->UpsertTwin(R"({"deviceId":"t2"})").ok());
  DeviceOperation operation{.kind = DeviceOperation::Kind::kUpdate};
  operation.device.device_id = "t2";
  operation.device.authentication_type = std::nullopt;
  operation.spare_keys = spare;
  EXPECT_THAT(Codes(engine->ChangeDevices({operation})),
              ElementsAre(ErrorCode::kOk));
  EXPECT_EQ(Get("t2").primary_key, spare.primary);
  Crash();
  EXPECT_EQ(Get("d1"), device);
  EXPECT_EQ(Get("t2").secondary_key, spare.secondary);
  // They have to be keys.
  const absl::Status refused =
      engine->UpdateDevice({.device_id = "d1"}, "", {"no key", ""}).status();
  EXPECT_EQ(ErrorCodeOf(refused), ErrorCode::kArgumentInvalid);
  EXPECT_THAT(std::string(refused.message()), Not(HasSubstr("no key")));
}

TEST_P(Registry, IfMatchIsOfTheIdentity) {
  Create(NewDevice("d1"));
  ASSERT_TRUE(engine->PatchTwin("d1", R"({"tags":{"x":1}})").ok());
  const DeviceIdentity device = NewDevice("d1");
  // The twin's.
  EXPECT_EQ(ErrorCodeOf(engine->UpdateDevice(device, "AAAAAAAAAAI=").status()),
            ErrorCode::kPreconditionFailed);
  EXPECT_EQ(ErrorCodeOf(engine->DeleteDevice("d1", "AAAAAAAAAAI=")),
            ErrorCode::kPreconditionFailed);
  EXPECT_EQ(Get("d1").etag, "AAAAAAAAAAE=");
  EXPECT_TRUE(engine->UpdateDevice(device, "\"AAAAAAAAAAE=\"").ok());
  EXPECT_TRUE(engine->UpdateDevice(device, "AAAAAAAAAAI=").ok());
  EXPECT_TRUE(engine->UpdateDevice(device, "W/\"AAAAAAAAAAM=\"").ok());
  EXPECT_TRUE(engine->UpdateDevice(device, "*").ok());
  EXPECT_TRUE(engine->UpdateDevice(device, "\"*\"").ok());
  EXPECT_EQ(Get("d1").etag, "AAAAAAAAAAY=");
  EXPECT_EQ(ErrorCodeOf(engine->DeleteDevice("d1", "\"AAAAAAAAAAU=\"")),
            ErrorCode::kPreconditionFailed);
  EXPECT_TRUE(engine->DeleteDevice("d1", "\"AAAAAAAAAAY=\"").ok());
  EXPECT_EQ(ErrorCodeOf(engine->DeleteDevice("d1", "*")),
            ErrorCode::kDeviceNotFound);
}

TEST_P(Registry, ADeviceThatIsMadeAnewIsAnotherGeneration) {
  std::set<std::string> generations;
  for (int round = 0; round < 6; ++round) {
    // The clock stands still.
    const DeviceIdentity made = Create(NewDevice("d1"));
    EXPECT_TRUE(generations.insert(made.generation_id).second)
        << made.generation_id;
    EXPECT_EQ(made.etag, "AAAAAAAAAAE=");
    ASSERT_TRUE(engine->UpdateDevice(NewDevice("d1")).ok());
    EXPECT_EQ(Get("d1").generation_id, made.generation_id);
    if (round % 3 == 1) {
      Crash();
      EXPECT_EQ(Get("d1").generation_id, made.generation_id);
    }
    ASSERT_TRUE(
        (round % 2 == 0 ? engine->DeleteDevice("d1") : engine->EraseTwin("d1"))
            .ok());
    EXPECT_EQ(ErrorCodeOf(engine->GetDevice("d1").status()),
              ErrorCode::kDeviceNotFound);
    EXPECT_EQ(ErrorCodeOf(engine->GetTwin("d1").status()),
              ErrorCode::kDeviceNotFound);
    if (round % 3 == 2) Crash();
    EXPECT_EQ(engine->TwinCount(), 0);
    // In its row, somebody without keys.
    ASSERT_TRUE(engine->UpsertTwin(R"({"deviceId":"d1"})").ok());
    EXPECT_TRUE(generations.insert(Get("d1").generation_id).second);
    EXPECT_THAT(Get("d1").primary_key, IsEmpty());
    ASSERT_TRUE(engine->EraseTwin("d1").ok());
  }
}

TEST_P(Registry, ATwinThatWasOnlyUpsertedIsThereWithoutKeys) {
  ASSERT_TRUE(
      engine
          ->UpsertTwin(R"({"deviceId":"d1","status":"disabled",)"
                       R"("statusReason":"r","capabilities":{"iotEdge":true},)"
                       R"("x509Thumbprint":{"primaryThumbprint":"12"},)"
                       R"("deviceEtag":"another hub's",)"
                       R"("statusUpdateTime":"2031-03-01T22:00:00Z",)"
                       R"("lastActivityTime":"2031-03-01T22:00:01.5Z"})")
          .ok());
  ASSERT_TRUE(engine->UpsertTwin(R"({"deviceId":"d2"})").ok());
  const DeviceIdentity device = Get("d1");
  EXPECT_FALSE(device.enabled);
  EXPECT_EQ(device.status_reason, "r");
  EXPECT_EQ(device.authentication_type, AuthenticationType::kSas);
  EXPECT_THAT(device.primary_key, IsEmpty());
  EXPECT_EQ(device.primary_thumbprint, "12");
  EXPECT_TRUE(device.iot_edge);
  EXPECT_EQ(device.etag, "another hub's");
  EXPECT_EQ(device.status_updated_time, absl::FromUnixSeconds(1'930'168'800));
  EXPECT_EQ(device.last_activity_time,
            absl::FromUnixSeconds(1'930'168'801) + absl::Milliseconds(500));
  EXPECT_EQ(Get("d2").etag, "AAAAAAAAAAE=");
  EXPECT_EQ(
      ErrorCodeOf(
          engine->UpdateDevice(NewDevice("d1"), "\"AAAAAAAAAAE=\"").status()),
      ErrorCode::kPreconditionFailed);

  // Then the registry writes them.
  const auto first = engine->UpdateDevice(NewDevice("d1"), "\"another hub's\"");
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->etag, "AAAAAAAAAAE=");
  EXPECT_EQ(first->primary_key, NewDevice("d1").primary_key);
  const auto second = engine->UpdateDevice(NewDevice("d2"), "AAAAAAAAAAE=");
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->etag, "AAAAAAAAAAI=");
  // From here on a document has no say in it.
  ASSERT_TRUE(
      engine->UpsertTwin(R"({"deviceId":"d2","status":"disabled"})").ok());
  EXPECT_EQ(Get("d2"), *second);
  // A switch has.
  time.Advance(absl::Seconds(1));
  ASSERT_TRUE(engine->SetTwinEnabled("d2", false).ok());
  DeviceIdentity disabled = *second;
  disabled.enabled = false;
  disabled.etag = "AAAAAAAAAAM=";
  disabled.status_updated_time = time.Now();
  EXPECT_EQ(Get("d2"), disabled);
  Crash();
  EXPECT_EQ(Get("d1"), *first);
  EXPECT_EQ(Get("d2"), disabled);
}

// ----------------------------------------------------------------- disabled

TEST_P(Registry, ADisabledDeviceIsNeitherConnectedNorCalled) {
  devices->SetHandler("reboot", [](const LoopbackCall&) {
    return LoopbackReply{.payload = "1"};
  });
  const auto run = [&](const std::string& id) {
    JobRequest job;
    job.job_id = id;
    job.query_condition = "*";
    job.action = MethodAction{.method_name = "reboot"};
    job.max_execution_time_seconds = 60;
    EXPECT_TRUE(engine->CreateJob(job).ok());
    EXPECT_TRUE(
        time.RunUntil([&] { return IsTerminal(engine->GetJob(id)->status); },
                      absl::Hours(1)));
    const absl::StatusOr<ExecutionRecord> record =
        engine->GetExecution(id, "d1");
    EXPECT_TRUE(record.ok());
    return record->error_code;
  };
  DeviceIdentity device = NewDevice("d1");
  device.enabled = false;
  Create(device);
  devices->AddDevices({"d1"}, true);
  time.RunReady();
  EXPECT_FALSE(Get("d1").connected);
  EXPECT_EQ(Get("d1").connection_state_updated_time, absl::InfinitePast());
  EXPECT_EQ(Get("d1").last_activity_time, absl::InfinitePast());
  EXPECT_THAT(Twin("d1"), HasSubstr(R"("connectionState":"Disconnected")"));
  EXPECT_EQ(engine->CountTargets("connectionState = 'Connected'")->devices, 0);
  EXPECT_EQ(engine->CountTargets("*")->connected, 0);
  EXPECT_EQ(run("disabled"), ErrorCode::kDeviceNotFound);

  // Its connection counts from the moment when it is enabled.
  device.enabled = true;
  time.Advance(absl::Seconds(3));
  ASSERT_TRUE(engine->UpdateDevice(device).ok());
  EXPECT_TRUE(Get("d1").connected);
  EXPECT_EQ(Get("d1").connection_state_updated_time, time.Now());
  EXPECT_EQ(engine->CountTargets("*")->connected, 1);
  EXPECT_EQ(run("enabled"), ErrorCode::kOk);

  // And no longer.
  ASSERT_TRUE(engine->SetTwinEnabled("d1", false).ok());
  EXPECT_FALSE(Get("d1").connected);
  EXPECT_EQ(run("again"), ErrorCode::kDeviceNotFound);
  devices->SetConnected("d1", false);
  time.RunReady();
  ASSERT_TRUE(engine->SetTwinEnabled("d1", true).ok());
  EXPECT_FALSE(Get("d1").connected);
  devices->SetConnected("d1", true);
  time.RunReady();
  EXPECT_TRUE(Get("d1").connected);
  EXPECT_EQ(run("back"), ErrorCode::kOk);
  Crash();
  EXPECT_FALSE(Get("d1").connected);
}

// What waits for a device ends when it is disabled, and goes when it is
// enabled.
TEST_P(Registry, AJobThatWaitsIsToldOfTheStatus) {
  devices->SetHandler("reboot", [](const LoopbackCall&) {
    return LoopbackReply{.payload = "1"};
  });
  Create(NewDevice("d1"));
  JobRequest job;
  job.job_id = "j";
  job.query_condition = "*";
  job.action = MethodAction{.method_name = "reboot"};
  job.max_execution_time_seconds = 3600;
  ASSERT_TRUE(engine->CreateJob(job).ok());
  time.Advance(absl::Seconds(1));
  EXPECT_EQ(engine->GetJob("j")->status, JobStatus::kRunning);
  DeviceIdentity device = NewDevice("d1");
  device.enabled = false;
  ASSERT_TRUE(engine->UpdateDevice(device).ok());
  time.RunReady();
  EXPECT_EQ(engine->GetJob("j")->status, JobStatus::kCompleted);
  EXPECT_EQ(engine->GetExecution("j", "d1")->error_code,
            ErrorCode::kDeviceNotFound);
}

// ------------------------------------------------------------------- many

DeviceOperation Operation(DeviceOperation::Kind kind, absl::string_view id,
                          absl::string_view if_match = "") {
  DeviceOperation operation;
  operation.kind = kind;
  operation.if_match = std::string(if_match);
  if (kind == DeviceOperation::Kind::kDelete) {
    operation.device.device_id = std::string(id);
  } else {
    operation.device = NewDevice(id);
  }
  return operation;
}

TEST_P(Registry, ManyChangesAreAnsweredEachForItselfInTheirOrder) {
  using Kind = DeviceOperation::Kind;
  EXPECT_THAT(engine->ChangeDevices({}), IsEmpty());
  const std::vector<DeviceOperation> operations = {
      Operation(Kind::kCreate, "a"),
      Operation(Kind::kCreate, "b"),
      Operation(Kind::kCreate, "a"),
      Operation(Kind::kUpdate, "a", "AAAAAAAAAAE="),
      Operation(Kind::kUpdate, "a", "AAAAAAAAAAE="),
      Operation(Kind::kUpdate, "c"),
      Operation(Kind::kDelete, "b", "AAAAAAAAAAI="),
      Operation(Kind::kDelete, "b"),
      Operation(Kind::kDelete, "b"),
      Operation(Kind::kCreate, "no id"),
      Operation(Kind::kDelete, "no id"),
      Operation(Kind::kCreate, "b"),
  };
  EXPECT_THAT(
      Codes(engine->ChangeDevices(operations)),
      ElementsAre(ErrorCode::kOk, ErrorCode::kOk,
                  ErrorCode::kDeviceAlreadyExists, ErrorCode::kOk,
                  ErrorCode::kPreconditionFailed, ErrorCode::kDeviceNotFound,
                  ErrorCode::kPreconditionFailed, ErrorCode::kOk,
                  ErrorCode::kDeviceNotFound, ErrorCode::kArgumentInvalid,
                  ErrorCode::kDeviceNotFound, ErrorCode::kOk));
  Crash();
  EXPECT_EQ(Get("a").etag, "AAAAAAAAAAI=");
  EXPECT_EQ(Get("b").etag, "AAAAAAAAAAE=");
  EXPECT_EQ(engine->TwinCount(), 2);
}

TEST_P(Registry, ManyChangesWaitForTheJournalOnce) {
  std::vector<DeviceOperation> operations;
  for (int i = 0; i < 200; ++i) {
    operations.push_back(
        Operation(DeviceOperation::Kind::kCreate, absl::StrCat("d", i)));
  }
  const int before = journal.appends;
  for (const absl::Status& status : engine->ChangeDevices(operations)) {
    EXPECT_TRUE(status.ok()) << status;
  }
  EXPECT_LE(journal.appends - before, journal.partition_count());
  Crash();
  EXPECT_EQ(engine->TwinCount(), 200);
  EXPECT_EQ(Get("d7").primary_key, NewDevice("d7").primary_key);
}

TEST_P(Registry, ListsTheFirstOnesAndCounts) {
  EXPECT_THAT(*engine->ListDevices(1000), IsEmpty());
  std::vector<DeviceOperation> operations;
  for (int i = 0; i < 300; ++i) {
    operations.push_back(
        Operation(DeviceOperation::Kind::kCreate, absl::StrCat("d", 1000 + i)));
    operations.back().device.enabled = i % 3 != 0;
  }
  std::mt19937 random(7);
  std::shuffle(operations.begin(), operations.end(), random);
  engine->ChangeDevices(operations);
  ASSERT_TRUE(engine->UpsertTwin(R"({"deviceId":"A"})").ok());
  ASSERT_TRUE(engine->DeleteDevice("d1001").ok());
  Crash();
  const absl::StatusOr<std::vector<DeviceIdentity>> listed =
      engine->ListDevices(4);
  ASSERT_TRUE(listed.ok());
  ASSERT_EQ(listed->size(), 4u);
  EXPECT_EQ((*listed)[0].device_id, "A");
  EXPECT_EQ((*listed)[1], Get("d1000"));
  EXPECT_EQ((*listed)[2].device_id, "d1002");
  EXPECT_EQ((*listed)[3].device_id, "d1003");
  EXPECT_EQ(engine->ListDevices(1000)->size(), 300u);
  EXPECT_EQ(engine->ListDevices(1)->size(), 1u);
  for (const int count : {0, -1, 1001}) {
    EXPECT_EQ(ErrorCodeOf(engine->ListDevices(count).status()),
              ErrorCode::kArgumentInvalid);
  }
  const RegistryStatistics counted = engine->CountDevices();
  EXPECT_EQ(counted.devices, 300);
  EXPECT_EQ(counted.enabled, 200);
  EXPECT_EQ(counted.disabled, 100);
}

// --------------------------------------------------------- limits and faults

class SmallRegistry : public Registry {
 protected:
  SmallRegistry() {
    engine.reset();
    options.twin_count_max = 3;
    Start();
  }
};
INSTANTIATE_TEST_SUITE_P(ChunksAndSnapshots, SmallRegistry, testing::Bool());

TEST_P(SmallRegistry, DevicesCountAsTwins) {
  ASSERT_TRUE(engine->UpsertTwin(R"({"deviceId":"a"})").ok());
  Create(NewDevice("b"));
  Create(NewDevice("c"));
  EXPECT_EQ(ErrorCodeOf(engine->CreateDevice(NewDevice("d")).status()),
            ErrorCode::kThrottlingException);
  EXPECT_EQ(ErrorCodeOf(engine->CreateDevice(NewDevice("c")).status()),
            ErrorCode::kDeviceAlreadyExists);
  EXPECT_TRUE(engine->UpdateDevice(NewDevice("a")).ok());
  ASSERT_TRUE(engine->DeleteDevice("a").ok());
  Create(NewDevice("d"));
  EXPECT_EQ(engine->TwinCount(), 3);
}

TEST_P(Registry, WhileTheJournalFailsNothingChanges) {
  Create(NewDevice("d1"));
  journal.full = true;
  // The first finds out.
  EXPECT_EQ(ErrorCodeOf(engine->UpdateDevice(NewDevice("d1")).status()),
            ErrorCode::kServiceUnavailable);
  const DeviceIdentity shown = Get("d1");
  const absl::Status refused = engine->UpdateDevice(NewDevice("d1")).status();
  EXPECT_EQ(ErrorCodeOf(refused), ErrorCode::kServiceUnavailable);
  EXPECT_EQ(ErrorCodeOf(engine->DeleteDevice("d1")),
            ErrorCode::kServiceUnavailable);
  EXPECT_EQ(Get("d1"), shown);
  EXPECT_FALSE(engine->Health().ok());
  // In the other partitions, work goes on until they find out too.
  int refusals = 0;
  std::vector<DeviceOperation> operations;
  for (int i = 0; i < 50; ++i) {
    operations.push_back(
        Operation(DeviceOperation::Kind::kCreate, absl::StrCat("n", i)));
  }
  engine->ChangeDevices(operations);
  for (const ErrorCode code : Codes(engine->ChangeDevices(operations))) {
    refusals += code == ErrorCode::kServiceUnavailable;
  }
  EXPECT_EQ(refusals, 50);
  journal.full = false;
  EXPECT_TRUE(
      time.RunUntil([&] { return engine->Health().ok(); }, absl::Minutes(5)));
  EXPECT_TRUE(engine->UpdateDevice(NewDevice("d1")).ok());
  Crash();
  EXPECT_EQ(Get("d1").primary_key, NewDevice("d1").primary_key);
}

TEST_P(Registry, OnceStoppedItReadsOnly) {
  const DeviceIdentity made = Create(NewDevice("d1"));
  engine->Stop();
  EXPECT_EQ(Get("d1"), made);
  EXPECT_EQ(engine->CountDevices().devices, 1);
  EXPECT_EQ(engine->ListDevices(10)->size(), 1u);
  EXPECT_EQ(ErrorCodeOf(engine->CreateDevice(NewDevice("d2")).status()),
            ErrorCode::kServiceUnavailable);
  EXPECT_EQ(ErrorCodeOf(engine->UpdateDevice(NewDevice("d1")).status()),
            ErrorCode::kServiceUnavailable);
  EXPECT_EQ(ErrorCodeOf(engine->DeleteDevice("d1")),
            ErrorCode::kServiceUnavailable);
  EXPECT_THAT(Codes(engine->ChangeDevices(
                  {Operation(DeviceOperation::Kind::kDelete, "d1")})),
              ElementsAre(ErrorCode::kServiceUnavailable));
}

// What was acknowledged is there after any crash, and in the twin too.
TEST_P(Registry, RandomChangesAreFoundAgain) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  std::map<std::string, DeviceIdentity> model;
  for (int step = 0; step < 400; ++step) {
    time.Advance(absl::Milliseconds(random() % 3));
    const std::string id = absl::StrCat("d", random() % 40);
    const bool is_there = model.contains(id);
    DeviceIdentity device = NewDevice(absl::StrCat(id));
    device.primary_key = Key(absl::StrCat(step));
    device.enabled = random() % 3 != 0;
    if (random() % 2 == 0) device.status_reason = absl::StrCat("step ", step);
    if (random() % 4 == 0) device.parent_scopes = {"p", absl::StrCat(step)};
    switch (random() % 8) {
      case 0:
      case 1: {
        const auto made = engine->CreateDevice(device);
        ASSERT_EQ(made.ok(), !is_there) << made.status();
        if (made.ok()) model[id] = *made;
        break;
      }
      case 2:
      case 3: {
        const auto updated = engine->UpdateDevice(
            device, is_there && random() % 2 == 0 ? model[id].etag : "");
        ASSERT_EQ(updated.ok(), is_there) << updated.status();
        if (updated.ok()) model[id] = *updated;
        break;
      }
      case 4:
        ASSERT_EQ(engine->DeleteDevice(id).ok(), is_there);
        model.erase(id);
        break;
      case 5:
        if (!is_there) break;
        ASSERT_TRUE(engine
                        ->UpsertTwin(absl::StrCat(
                            R"({"deviceId":")", id, R"(","status":"disabled",)",
                            R"("tags":{"s":)", step, "}}"))
                        .ok());
        break;
      case 6:
        if (!is_there) break;
        ASSERT_TRUE(engine->SetTwinEnabled(id, device.enabled).ok());
        if (model[id].enabled != device.enabled) {
          EXPECT_NE(Get(id).etag, model[id].etag);
          model[id] = Get(id);
        }
        break;
      default:
        if (random() % 6 == 0) Crash();
    }
    if (step % 20 != 19) continue;
    ASSERT_EQ(engine->TwinCount(), static_cast<int64_t>(model.size()));
    int64_t enabled = 0;
    for (const auto& [name, expected] : model) {
      ASSERT_EQ(Get(name), expected) << name;
      enabled += expected.enabled;
      const absl::StatusOr<TwinSnapshot> twin = engine->GetTwin(name);
      ASSERT_EQ(twin->state.enabled, expected.enabled);
      const JsonView document = twin->document.view();
      ASSERT_EQ(document.Find("deviceEtag").string_value(), expected.etag);
      const JsonView reason = document.Find("statusReason");
      ASSERT_EQ(reason.is_string() ? reason.string_value() : "",
                expected.status_reason);
    }
    ASSERT_EQ(engine->CountDevices().enabled, enabled);
    ASSERT_EQ(engine->CountTargets("status = 'enabled'")->devices, enabled);
  }
}

// Threads of its own: whoever comes first makes it.
TEST(RegistryThreads, OneOfManyMakesTheDevice) {
  const std::unique_ptr<Engine> engine = *Engine::Create({});
  constexpr int kThreads = 4;
  constexpr int kDevices = 100;
  std::array<std::atomic<int>, kDevices> winners{};
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kDevices; ++i) {
        DeviceIdentity device = NewDevice(absl::StrCat("d", i));
        device.status_reason = absl::StrCat(t);
        const absl::StatusOr<DeviceIdentity> made =
            engine->CreateDevice(device);
        if (made.ok()) {
          ++winners[static_cast<size_t>(i)];
          wrong += engine->GetDevice(device.device_id)->status_reason !=
                   device.status_reason;
        } else {
          wrong +=
              ErrorCodeOf(made.status()) != ErrorCode::kDeviceAlreadyExists;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  for (const std::atomic<int>& count : winners) EXPECT_EQ(count, 1);
  EXPECT_EQ(engine->CountDevices().devices, kDevices);
}

// Of two with the same If-Match, one changes it.
TEST(RegistryThreads, AnEtagIsGoodForOneChange) {
  const std::unique_ptr<Engine> engine = *Engine::Create({});
  ASSERT_TRUE(engine->CreateDevice(NewDevice("d")).ok());
  constexpr int kThreads = 4;
  constexpr int kChanges = 50;
  std::atomic<int> changes{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int done = 0; done < kChanges;) {
        const std::string etag = engine->GetDevice("d")->etag;
        if (!engine->UpdateDevice(NewDevice("d"), etag).ok()) continue;
        ++done;
        ++changes;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(changes, kThreads * kChanges);
  EXPECT_EQ(engine->GetDevice("d")->etag, EtagText(1 + kThreads * kChanges));
}

}  // namespace
}  // namespace muster
