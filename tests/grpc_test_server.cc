// A server for tests of clients that must be in another process: says its port,
// and serves until its standard input ends.
#include <unistd.h>

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "tests/grpc_fixture.h"

int main() {
  muster::GrpcHub hub;
  for (int i = 0; i < 3; ++i) {
    hub.AddDevice(absl::StrCat("d", i), R"("tags":{"floor":3})");
  }
  hub.devices().SetHandler("reboot", [](const muster::LoopbackCall&) {
    return muster::LoopbackReply{.payload = R"({"done":true})"};
  });
  std::printf("%d\n", hub.server().ports()[0]);
  std::fflush(stdout);
  char byte;
  while (read(STDIN_FILENO, &byte, 1) > 0) {
  }
  return 0;
}
