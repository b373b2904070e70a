// Devices that do what they are told, for tests from outside: a gateway whose
// devices come and go as standard input says, and which says on standard output
// what reaches them, a line of JSON each.
//
//   devices ADDRESS CA_FILE HUB_NAME POLICY    with the policy's key in
//   MUSTER_KEY
//
// Lines that it reads:
//
//   connect ID      {"event":"attached","device":ID} once the engine has it;
//                   {"event":"refused",...}, and again until it has
//   deaf ID         the same, but it takes no methods
//   disconnect ID   {"event":"gone","device":ID} once the engine has been told
//   release         what `hold` has held is answered
//
// and what it says besides:
//
//   {"event":"up"}  {"event":"down","why":TEXT}
//   {"event":"call","device":ID,"method":NAME,"payload":JSON}
//   {"event":"desired","device":ID,"version":N,"patch":JSON}
//
// What a device answers goes by the method's name: see Answer().  It ends with
// its standard input.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/model/json.h"
#include "transport/grpc/channel.h"
#include "transport/grpc/gateway/gateway.h"

namespace muster {
namespace {

class Devices : public GatewayHandler {
 public:
  absl::Status Start(const ConnectOptions& connect) {
    GatewayOptions options;
    options.name = "interop";
    // A device that connects before it is known does not make a test wait.
    options.refused_retry_min = absl::Milliseconds(50);
    options.refused_retry_max = absl::Milliseconds(200);
    options.reconnect_max = absl::Milliseconds(200);
    absl::StatusOr<std::unique_ptr<Gateway>> gateway =
        Gateway::Connect(connect, options, this);
    if (!gateway.ok()) return gateway.status();
    gateway_ = *std::move(gateway);
    return absl::OkStatus();
  }

  // Before the members that its callbacks use go.
  void Stop() { gateway_->Stop(); }

  absl::Status Do(absl::string_view line) {
    const std::pair<absl::string_view, absl::string_view> words =
        absl::StrSplit(line, absl::MaxSplits(' ', 1));
    const absl::string_view id = words.second;
    if (words.first == "connect") return Connect(id, /*deaf=*/false);
    if (words.first == "deaf") return Connect(id, /*deaf=*/true);
    if (words.first == "disconnect") return Disconnect(id);
    if (words.first == "release") return Release();
    return absl::InvalidArgumentError(
        absl::StrCat("\"", line, "\" is none of the lines that it knows"));
  }

  // GatewayHandler.
  void OnMethods(const GatewayMethods& calls) override {
    for (uint32_t i = 0; i < calls.devices.size(); ++i) {
      const Device device = Find(calls.devices[i]);
      if (device.deaf) {
        Give(calls.range, i, {.code = OutcomeCode::kNoHandler});
        continue;
      }
      Say([&](JsonWriter& out) {
        out.Key("event").String("call").Key("device").String(device.id);
        out.Key("method").String(calls.method_name);
        out.Key("payload").Raw(calls.payload.empty() ? "null" : calls.payload);
      });
      Answer(calls, i);
    }
  }
  void OnDesired(const GatewayDesired& update) override {
    for (size_t i = 0; i < update.devices.size(); ++i) {
      Say([&](JsonWriter& out) {
        out.Key("event").String("desired");
        out.Key("device").String(Find(update.devices[i]).id);
        out.Key("version").Int(update.versions[i]);
        out.Key("patch").Raw(update.patch);
      });
    }
  }
  void OnAttached(absl::Span<const uint32_t> devices) override {
    for (const uint32_t device : devices) Say("attached", device, "");
  }
  void OnRefused(absl::Span<const uint32_t> devices,
                 const absl::Status& error) override {
    for (const uint32_t device : devices) {
      Say("refused", device, error.message());
    }
  }
  void OnStreamUp() override {
    Say([](JsonWriter& out) { out.Key("event").String("up"); });
  }
  void OnStreamDown(const absl::Status& why, absl::Duration) override {
    Say([&](JsonWriter& out) {
      out.Key("event").String("down").Key("why").String(why.ToString());
    });
  }

 private:
  struct Device {
    std::string id;
    bool deaf = false;
  };
  struct Held {
    GatewayRange range;
    uint32_t position = 0;
  };

  absl::Status Connect(absl::string_view id, bool deaf) {
    uint32_t token;
    {
      absl::MutexLock lock(&mutex_);
      token = ++last_token_;
      tokens_[std::string(id)] = token;
      devices_[token] = {.id = std::string(id), .deaf = deaf};
    }
    return gateway_->AddDevices({{.token = token, .id = id}});
  }

  absl::Status Disconnect(absl::string_view id) {
    uint32_t token;
    {
      absl::MutexLock lock(&mutex_);
      const auto found = tokens_.find(std::string(id));
      if (found == tokens_.end()) {
        return absl::NotFoundError(absl::StrCat(id, " is not connected"));
      }
      token = found->second;
      tokens_.erase(found);
    }
    gateway_->RemoveDevices({token});
    // The table keeps it: a call may be on its way still.
    Say("gone", token, "");
    return absl::OkStatus();
  }

  absl::Status Release() {
    std::vector<Held> held;
    {
      absl::MutexLock lock(&mutex_);
      held.swap(held_);
    }
    for (const Held& call : held) {
      Give(call.range, call.position, {.status = 200});
    }
    return absl::OkStatus();
  }

  void Answer(const GatewayMethods& calls, uint32_t position) {
    const absl::string_view method = calls.method_name;
    if (method == "lockDoor") {
      Give(calls.range, position, {.status = 200});  // Of an empty body.
    } else if (method == "echo") {
      Give(calls.range, position, {.status = 200, .payload = calls.payload});
    } else if (method == "fail") {
      Give(calls.range, position,
           {.status = 500, .payload = R"({"error":"stuck"})"});
    } else if (method == "teapot") {
      Give(calls.range, position, {.status = 418, .payload = R"("short")"});
    } else if (method == "garbage") {
      Give(calls.range, position, {.code = OutcomeCode::kBadResponse});
    } else if (method == "silent") {
      // The library says kTimeout in the end.
    } else if (method == "hold") {
      absl::MutexLock lock(&mutex_);
      held_.push_back({.range = calls.range, .position = position});
    } else {
      Give(calls.range, position, {.status = 404});
    }
  }

  void Give(GatewayRange range, uint32_t position,
            const GatewayAnswer& answer) {
    const absl::Status status = gateway_->Answer(range, position, answer);
    if (!status.ok()) std::cerr << "devices: " << status << "\n";
  }

  Device Find(uint32_t token) {
    absl::MutexLock lock(&mutex_);
    return devices_[token];
  }

  void Say(absl::string_view event, uint32_t token, absl::string_view why) {
    const Device device = Find(token);
    Say([&](JsonWriter& out) {
      out.Key("event").String(event).Key("device").String(device.id);
      if (!why.empty()) out.Key("why").String(why);
    });
  }
  template <typename Members>
  void Say(const Members& members) {
    std::string line;
    JsonWriter out(&line);
    out.BeginObject();
    members(out);
    out.EndObject();
    line += '\n';
    absl::MutexLock lock(&mutex_);
    std::fputs(line.c_str(), stdout);
    std::fflush(stdout);
  }

  absl::Mutex mutex_;
  uint32_t last_token_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, uint32_t> tokens_ ABSL_GUARDED_BY(mutex_);
  std::map<uint32_t, Device> devices_ ABSL_GUARDED_BY(mutex_);
  std::vector<Held> held_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Gateway> gateway_;
};

int Main(int argc, char** argv) {
  const char* const key = std::getenv("MUSTER_KEY");
  if (argc != 5 || key == nullptr) {
    std::cerr << "usage: MUSTER_KEY=... devices ADDRESS CA_FILE HUB_NAME "
                 "POLICY\n";
    return 2;
  }
  ConnectOptions connect;
  connect.address = argv[1];
  connect.tls = true;
  connect.ca_path = argv[2];
  connect.shared_access.resource = argv[3];
  connect.shared_access.policy = argv[4];
  connect.shared_access.key = key;
  Devices devices;
  if (absl::Status s = devices.Start(connect); !s.ok()) {
    std::cerr << "devices: " << s << "\n";
    return 2;
  }
  int exit_code = 0;
  std::string line;
  while (exit_code == 0 && std::getline(std::cin, line)) {
    if (absl::Status s = devices.Do(line); !s.ok()) {
      std::cerr << "devices: " << s << "\n";
      exit_code = 1;
    }
  }
  devices.Stop();
  return exit_code;
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) { return muster::Main(argc, argv); }
