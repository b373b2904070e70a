// The parts of `muster serve --dev` that a process cannot be asked about.
#include "server/dev_hub.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/engine.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/hub_server.h"

namespace muster {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const absl::Time kNow = absl::FromUnixSeconds(1'900'000'000);

// Each byte is the number of its call.
RandomSource Counting() {
  auto calls = std::make_shared<uint8_t>(0);
  return [calls](absl::Span<uint8_t> bytes) {
    std::fill(bytes.begin(), bytes.end(), ++*calls);
  };
}

std::string NewFolder(const char* name) {
  std::string path = absl::StrCat(::testing::TempDir(), "/", name, ".XXXXXX");
  EXPECT_NE(mkdtemp(path.data()), nullptr);
  return path;
}

TEST(DevFilesTest, AreMadeOnceAndWhole) {
  const std::string data = NewFolder("files");
  const RandomSource random = Counting();
  const auto first = OpenDevFiles(data, "localhost", kNow, random);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_TRUE(first->made_certificate);
  EXPECT_EQ(first->policy_key, "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=");
  const auto second = OpenDevFiles(data, "LocalHost", kNow, random);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_FALSE(second->made_certificate);
  EXPECT_EQ(second->policy_key, first->policy_key);

  // A process that ended in the middle has left a certificate without its key.
  ASSERT_EQ(unlink(first->key_path.c_str()), 0);
  std::ofstream(first->key_path + ".partial") << "half";
  const auto third = OpenDevFiles(data, "localhost", kNow, random);
  ASSERT_TRUE(third.ok()) << third.status();
  EXPECT_TRUE(third->made_certificate);
  EXPECT_EQ(access(third->key_path.c_str(), R_OK), 0);
  EXPECT_NE(access((first->key_path + ".partial").c_str(), F_OK), 0);

  // An address may be the hub's name, too.
  EXPECT_FALSE(OpenDevFiles(data, "127.0.0.1", kNow, random)->made_certificate);
  EXPECT_TRUE(OpenDevFiles(data, "10.0.0.7", kNow, random)->made_certificate);
  EXPECT_FALSE(OpenDevFiles(data, "10.0.0.7", kNow, random)->made_certificate);
}

TEST(DevFilesTest, ErrorsNameTheFile) {
  const std::string missing = ::testing::TempDir() + "/no/such";
  EXPECT_THAT(std::string(OpenDevFiles(missing, "localhost", kNow, Counting())
                              .status()
                              .message()),
              HasSubstr("no/such/dev"));
}

// A port of this machine that is taken as long as the object lives.
class TakenPort {
 public:
  TakenPort() : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)),
              0);
    EXPECT_EQ(listen(fd_, 1), 0);
    socklen_t size = sizeof(address);
    EXPECT_EQ(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size),
              0);
    port_ = ntohs(address.sin_port);
  }
  ~TakenPort() { close(fd_); }
  int port() const { return port_; }

 private:
  const int fd_;
  int port_ = 0;
};

TEST(StartDevHubTest, TakesTheFirstPortThatItCanHave) {
  auto engine = Engine::Create({});
  ASSERT_TRUE(engine.ok()) << engine.status();
  HubServerOptions options;
  options.engine = engine->get();
  options.threads = 1;
  const TakenPort taken;
  std::vector<std::string> listen;
  const int ports[] = {taken.port(), 0};
  const auto hub = StartDevHub(options, ports, &listen);
  ASSERT_TRUE(hub.ok()) << hub.status();
  ASSERT_FALSE(listen.empty());
  EXPECT_EQ(listen[0], "127.0.0.1:0");
  EXPECT_EQ((*hub)->ports().size(), listen.size());
  EXPECT_GT((*hub)->ports()[0], 0);

  const auto none = StartDevHub(options, absl::MakeSpan(ports, 1), &listen);
  EXPECT_EQ(none.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(none.status().message()),
              HasSubstr(absl::StrCat("127.0.0.1:", taken.port())));
}

TEST(DevHubTextTest, SaysHowToGetToAnotherPort) {
  const DevFiles files = {.certificate_path = "/d/cert.pem",
                          .policy_key_path = "/d/policy.key",
                          .policy_key = "a2V5"};
  const std::string https = DevHubText(files, "localhost", 443, "./muster");
  EXPECT_THAT(https, HasSubstr("  HostName=localhost;SharedAccessKeyName="
                               "iothubowner;SharedAccessKey=a2V5\n"));
  EXPECT_THAT(https, HasSubstr("$(./muster token --hub localhost "));
  EXPECT_THAT(https, HasSubstr("\"https://localhost/devices?"));
  EXPECT_THAT(https, Not(HasSubstr("Another port")));
  const std::string other = DevHubText(files, "localhost", 8443, "muster");
  EXPECT_THAT(other, HasSubstr("\"https://localhost:8443/devices?"));
  EXPECT_THAT(other, HasSubstr("HostName=localhost;"));
  EXPECT_THAT(other, HasSubstr("Another port"));
}

}  // namespace
}  // namespace muster
