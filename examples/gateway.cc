// A gateway in 50 lines.  Its devices are named on the command line, and do
// what they are told by saying so:
//   gateway localhost:7040 thermo-041 thermo-042
#include "transport/grpc/gateway/gateway.h"

#include <unistd.h>

#include <cstdio>
#include <string>

#include "transport/grpc/channel.h"

struct Devices : public muster::GatewayHandler {
  void OnMethods(const muster::GatewayMethods& calls) override {
    const std::string method(calls.method_name);
    for (const uint32_t device : calls.devices) {
      std::printf("%s: %s\n", names[device], method.c_str());
    }
    // All say the same, at once.  Each its own, now or later: Answer().
    const absl::Status status = gateway->AnswerAll(
        calls.range, {.status = 200, .payload = R"({"done":true})"});
    if (!status.ok()) std::puts(status.ToString().c_str());
  }
  void OnRefused(absl::Span<const uint32_t> devices,
                 const absl::Status& error) override {
    for (const uint32_t device : devices) {
      std::printf("%s: %s\n", names[device], error.ToString().c_str());
    }
  }
  void OnStreamDown(const absl::Status& why, absl::Duration) override {
    std::puts(why.ToString().c_str());  // It is tried again by itself.
  }

  char** names;  // By token: a device's is its place on the command line.
  muster::Gateway* gateway;
};

int main(int argc, char** argv) {
  Devices devices;
  devices.names = argv;
  auto gateway = muster::Gateway::Connect({.address = argc > 1 ? argv[1] : ""},
                                          {.name = "example"}, &devices);
  if (!gateway.ok()) return std::puts(gateway.status().ToString().c_str()), 2;
  devices.gateway = gateway->get();
  for (uint32_t i = 2; i < static_cast<uint32_t>(argc); ++i) {
    if (!(*gateway)->AddDevices({{i, argv[i]}}).ok()) return 2;
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  pause();  // Until ctrl-C.
}
